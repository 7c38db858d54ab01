"""What a newcomer's clone does, from nothing: it draws its pictures, runs, and stays as it was."""

import multiprocessing
import os
import re
import subprocess
import sys

import nbclient
import nbformat
import pytest

from petseg_utils.study import ROOT

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a clone is made of a clone"),
]


@pytest.fixture
def clone(tmp_path):
    """A folder with the committed files alone, and an environment in which its code runs."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PETSEG_")}
    return folder, environment | {"PETSEG_STUDY": "smoke", "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_the_readmes_twenty_lines_run_however_processes_are_started(clone, method):
    """macOS and Windows spawn them, and Linux has a server for it from Python 3.14 on."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    folder, environment = clone
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if "Recipe(" in block]
    start = f"import multiprocessing\nmultiprocessing.set_start_method({method!r}, force=True)\n"
    (folder / "mine.py").write_text(start + code, encoding="utf-8")
    run = subprocess.run([sys.executable, "mine.py"], cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0 and "Traceback" not in run.stderr, run.stderr
    assert '"model": "mine"' in (folder / "runs" / "smoke" / "records.jsonl").read_text(encoding="utf-8")


def test_a_report_leaves_the_clone_as_it_was(clone):
    folder, environment = clone
    command = [sys.executable, "-m", "petseg_utils", "report", "--only", "01"]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (folder / "reports" / "smoke" / "index.html").is_file()
    status = subprocess.run(["git", "status", "--short"], cwd=folder, capture_output=True, text=True, check=True)
    assert status.stdout == ""


def test_a_notebook_runs_from_any_folder(clone, tmp_path, monkeypatch):
    """As papermill and nbconvert run it."""
    folder, environment = clone
    for key in os.environ:
        if key.startswith("PETSEG_"):
            monkeypatch.delenv(key)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    (tmp_path / "elsewhere").mkdir()
    (path,) = (folder / "notebooks").glob("01_*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": tmp_path / "elsewhere"}}).execute()
    assert not list((tmp_path / "elsewhere").iterdir())  # nothing is written where it happened to run
    assert (folder / "runs" / "smoke" / "figures").is_dir()
