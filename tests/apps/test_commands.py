"""Commands around models: where they put things, what they say, and how they end."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import gradio as gr
import pytest
from typer.testing import CliRunner

from petseg_utils import __version__
from petseg_utils.apps.cli import photos
from petseg_utils.apps.cli.main import app, main
from petseg_utils.data import download
from petseg_utils.data.datasets import DataError, list_pictures
from petseg_utils.models import clip
from petseg_utils.report import run as report
from petseg_utils.study import ROOT, PetsegError


def test_the_version_is_said():
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.output) == (0, f"petseg {__version__}\n")


def test_the_official_data_are_fetched_into_the_folder_that_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(download, "download_oxford", lambda root: root / "oxford-iiit-pet")
    said = CliRunner().invoke(app, ["data", "download", "mine"]).output
    assert said.replace("\\", "/") == "Complete and checked: mine/oxford-iiit-pet\n"


def test_clips_weights_are_fetched_without_the_data(monkeypatch):
    monkeypatch.setattr(download, "download_oxford", None)
    monkeypatch.setattr(clip, "download_clip", lambda spec: (Path("model.safetensors"), True))
    assert (
        CliRunner().invoke(app, ["data", "download", "--clip"]).output == f"Fetched: {clip.CLIP}, model.safetensors\n"
    )


def test_the_embedded_pictures_are_drawn_into_the_folder_that_is_named(tmp_path):
    done = CliRunner().invoke(app, ["data", "sample", str(tmp_path / "pets"), "--study", "smoke"])
    assert done.exit_code == 0 and str(tmp_path / "pets") in done.stdout
    assert [len(list_pictures(tmp_path / "pets", split)) for split in ("trainval", "test")] == [36, 12]


def test_for_a_study_of_photos_no_pictures_are_drawn(tmp_path):
    done = CliRunner().invoke(app, ["data", "sample", str(tmp_path / "pets"), "--study", "oxford-cpu"])
    assert isinstance(done.exception, PetsegError) and "`petseg data download` fetches it" in str(done.exception)
    assert not (tmp_path / "pets").exists()


def test_a_report_says_which_notebooks_failed_and_ends_with_1(monkeypatch):
    asked = []

    def build(study, only, write_page):
        asked.append((study.name, only))
        return [report.Failure("02_bad", 3, "ValueError: no")]

    monkeypatch.setattr(report, "build_report", build)
    done = CliRunner().invoke(app, ["report", "--study", "smoke", "--only", "01, 02"])
    assert asked == [("smoke", ["01", "02"])] and done.exit_code == 1
    assert "index.html" in done.stdout and done.stderr == "failed: 02_bad, code cell 3: ValueError: no\n"
    monkeypatch.setattr(report, "build_report", lambda study, only, write_page: [])
    assert CliRunner().invoke(app, ["report", "--study", "smoke"]).exit_code == 0


@pytest.mark.parametrize("port", ["80000", "65536", "0", "-1", "busy"])
def test_a_port_that_cannot_be_used_is_told_in_one_line_with_the_right_advice(port, monkeypatch, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = str(other.getsockname()[1]) if port == "busy" else port
        monkeypatch.setattr(sys, "argv", ["petseg", "demo", f"--port={number}"])
        with pytest.raises(SystemExit) as end:
            main()
    said = capsys.readouterr()
    assert end.value.code == 1 and said.out == "" and said.err.count("\n") == 1
    assert number in said.err and "choose" in said.err and "--port" in said.err and "GRADIO" not in said.err


def test_a_port_that_is_taken_at_the_last_moment_is_told_alike(monkeypatch, capsys):
    from petseg_utils.apps import page, serving

    monkeypatch.setattr(serving, "end_by_signals", lambda: None)  # this process is not the command's own
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        number = other.getsockname()[1]

        def make_page():
            other.listen()
            return gr.Blocks()

        monkeypatch.setattr(page, "make_page", make_page)
        monkeypatch.setattr(photos, "_check_port", lambda port: None)
        monkeypatch.setattr(sys, "argv", ["petseg", "demo", f"--port={number}"])
        with pytest.raises(SystemExit):
            main()
    said = capsys.readouterr()
    assert said.err == f"petseg: Port {number} cannot be used (Address already in use): choose another with --port.\n"
    assert said.out == ""


@pytest.mark.parametrize(("version", "told"), [("12.3.0", True), ("13.0.0", False), ("9.5.0", True)])
def test_the_page_says_when_its_decoders_are_old(version, told, monkeypatch):
    from petseg_utils.apps import page, serving

    def make_page():
        raise PetsegError("enough")

    monkeypatch.setattr("PIL.__version__", version)
    monkeypatch.setattr(page, "make_page", make_page)
    monkeypatch.setattr(serving, "end_by_signals", lambda: None)  # this process is not the command's own
    said = CliRunner().invoke(app, ["demo", "--port=7869"]).stderr
    assert (f"Pillow {version}" in said and "pip install --no-deps" in said) == told


def test_a_traceback_is_shown_on_request(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["petseg", "--debug", "data", "audit", str(tmp_path / "nowhere")])
    with pytest.raises(DataError, match="No data folder 'nowhere'"):
        main()


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize(("old", "new"), [("clip", "decoder"), ("clip_selftrained", "decoder_selftrained")])
def test_an_old_name_of_a_model_is_answered_with_the_new_one(command, old, new):
    called = [sys.executable, "-m", "petseg_utils", command, old]
    told = subprocess.run(called, capture_output=True, text=True)
    assert told.returncode == 1 and told.stderr == f"petseg: The model {old} is called {new} now: write {new}.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        "train u-net",
        "train unet --study nowhere",
        "train unet --data nowhere",
        "evaluate u-net",
        "evaluate decoder --data nowhere",
        "evaluate unet --seed 1",
    ],
)
def test_a_mistake_in_a_command_is_told_before_pytorch_is_loaded(arguments, tmp_path):
    code = """
import sys
from petseg_utils.apps.cli.main import main
try:
    main()
except SystemExit as end:
    sys.exit(9 if "torch" in sys.modules else end.code)
"""
    run = subprocess.run([sys.executable, "-c", code, *arguments.split()], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 1 and run.stderr.startswith("petseg: ") and run.stderr.count("\n") == 1, run.stderr


@pytest.mark.parametrize("command", [["data", "audit"], ["bench"], ["evaluate", "decoder"]])
def test_results_as_json_replace_no_file_of_another_kind(command, data, tmp_path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"\xff\xd8 a photo")
    done = CliRunner().invoke(app, [*command, "--json", str(photo)])
    assert done.exit_code == 2 and "photo.jpg exists and is not JSON, so it is not replaced" in done.output
    assert photo.read_bytes() == b"\xff\xd8 a photo"


def test_results_as_json_replace_those_of_before(data, tmp_path):
    for content in ("", "{}"):  # the first is what mktemp makes
        (tmp_path / "out.json").write_text(content)
        assert CliRunner().invoke(app, ["data", "audit", "--json", str(tmp_path / "out.json")]).exit_code == 0
        assert json.loads((tmp_path / "out.json").read_text())["errors"] == []


@pytest.mark.skipif(os.name == "nt", reason="names of files are never ASCII there")
def test_a_python_that_takes_names_for_ascii_is_told_in_a_line(tmp_path):
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "petseg_utils", "segment", tmp_path / "kätze.jpg", "-o", tmp_path / "out"]
    run = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr.startswith("petseg: Python reads file names as ASCII here") and run.stderr.count("\n") == 1
