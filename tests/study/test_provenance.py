"""A result says which versions and which commit made it."""

import subprocess

from petseg_utils.study import load_study, provenance


def test_versions_are_those_that_are_installed():
    import numpy
    import torch

    versions = provenance.versions()
    assert versions["numpy"] == numpy.__version__ and versions["torch"].startswith(torch.__version__.split("+")[0])
    assert set(versions) == {"python", *provenance.RECORDED_PACKAGES}


def test_the_commit_is_unknown_outside_a_checkout_and_marked_where_files_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_commit() == "unknown"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    (tmp_path / "file").write_text("1")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    commit = provenance.git_commit()
    assert len(commit) == 10 and set(commit) <= set("0123456789abcdef")
    (tmp_path / "file").write_text("2")
    assert provenance.git_commit() == commit + "+"


def test_a_notebooks_first_line_names_study_device_and_seeds():
    line = provenance.describe(load_study("smoke"))
    assert line.startswith("petseg study 'smoke' | device ") and "| seeds [0] |" in line and "| torch " in line
