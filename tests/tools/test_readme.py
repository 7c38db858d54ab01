"""The README: its numbers are those of the records, and its code runs."""

import re
import runpy

import pytest

from petseg_utils.experiments.study_records import committed_records, study_records
from petseg_utils.report.tables import protocol_tabs
from petseg_utils.scores.results import results_table
from petseg_utils.study import ROOT
from tools import readme

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_numbers_are_made_of_the_committed_records():
    names = [match[2] for match in readme.BLOCK.finditer(TEXT)]
    assert sorted(names) == sorted(readme.blocks())
    assert readme.readme_with_results(TEXT) == TEXT, "make tables brings the README up to date"


def test_it_types_no_score_between_the_blocks():
    assert not re.findall(r"(?<![\d.])[01]\.\d{2,4}\b", readme.BLOCK.sub("", TEXT))


@pytest.mark.parametrize("study", ["oxford-cpu", "oxford-gpu", "sample", "shipped"])
def test_without_a_studys_records_it_cannot_be_made(study, monkeypatch):
    monkeypatch.setattr(readme, "committed_records", lambda name: [] if name == study else committed_records(name))
    with pytest.raises((IndexError, KeyError)):
        readme.blocks()


def test_its_table_names_models_and_encoders_in_words():
    rows = readme.short_table(committed_records("oxford-cpu")).splitlines()[2:]
    models = [[cell.strip() for cell in row.split("|")[1:3]] for row in rows]
    assert ["U-Net", "none"] in models
    assert ["decoder", "EfficientNet-Lite0 (ImageNet) at two scales"] in models
    assert not [name for name, _ in models if "click" in name]


def test_its_twenty_lines_add_a_model(study, tmp_path, monkeypatch):
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "Recipe(" in block]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    script = tmp_path / "mine.py"
    script.write_text(code, encoding="utf-8")
    monkeypatch.setenv("PETSEG_STUDY", "smoke")
    runpy.run_path(str(script), run_name="__main__")
    table = results_table(study_records(study))
    assert list(table["model"].unique()) == ["mine"] and table["mIoU"].between(0, 1).all()
    assert "mine" in protocol_tabs(table, "A study")


def test_its_links_and_folders_are_there():
    for path in re.findall(r"\]\((?!https?:|\.\./\.\./deployments)([^)#]+)\)", TEXT):  # but GitHub's own
        assert (ROOT / path).exists(), path
    for path in re.findall(r"`((?:petseg_utils|tools|data|figures|tests)/[\w./-]*)`", TEXT):
        assert (ROOT / path).exists(), path
