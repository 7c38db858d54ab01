"""Full disks, folders that may not be written, no home: one line that says what to do, and nothing is corrupted.

Limits and permissions are POSIX's.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from safetensors.torch import load_file

from petseg_utils.models.clip import clip_weights
from petseg_utils.report.run import _without_places
from petseg_utils.study import ROOT, PetsegError, load_study, settings

pwd = pytest.importorskip("pwd")  # of users, where there are such

FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # writing past this fails as on a full disk
from petseg_utils.apps.cli.main import main
main()
"""


def said_in_a_line(command):
    """The one line on stderr beside progress bars, of a command that failed."""
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    (line,) = [line for line in run.stderr.splitlines() if line.strip() and "%|" not in line]
    assert run.returncode == 1 and line.startswith("petseg: ") and str(os.getcwd()) not in line, run.stderr
    return line, run.stdout


def without_rights(*command):
    """The command, which as root must lack the right to write everywhere."""
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may write everywhere")
        command = ("setpriv", "--bounding-set=-dac_override", *command)
    return command


@pytest.mark.long
def test_training_on_a_full_disk_is_told_and_goes_on_to_the_same_weights(data, tmp_path):
    command = ["train", "unet", "--study", "smoke", "--seed", "0"]
    runs, seen = tmp_path / "runs", []
    for size in (10_000, 160_000):  # pictures are cached, weights are saved
        line, _ = said_in_a_line([sys.executable, "-c", FULL, size, *command])
        seen.append(line.split("(")[0])
        assert "File too large" in line and "PETSEG_RUNS" in line and str(tmp_path) not in line
        assert not list(runs.glob("**/*.part")) and not list(runs.glob("cache/.petseg*"))
    assert seen == ["petseg: Could not write the picture cache ", "petseg: Could not write best.safetensors "]
    weights = []
    for _ in range(2):
        subprocess.run([sys.executable, "-m", "petseg_utils", *command, "--resume"], check=True, capture_output=True)
        weights.append(load_file(runs / "smoke" / "unet-seed0" / "best.safetensors"))
        shutil.rmtree(runs)
    assert all(tensor.equal(weights[1][name]) for name, tensor in weights[0].items())


def test_a_file_that_cannot_be_written_is_told_with_what_to_do(data, tmp_path):
    readonly = tmp_path / "readonly"
    readonly.mkdir(mode=0o555)
    audit = ["data", "audit", data, "--json", readonly / "x.json"]
    line, _ = said_in_a_line(without_rights(sys.executable, "-m", "petseg_utils", *audit))
    assert line.startswith("petseg: Could not use x.json (Permission denied). Make room or change its permissions, or")
    audit[-1] = tmp_path / "y.json"
    line, _ = said_in_a_line([sys.executable, "-c", FULL, "50", *audit])
    assert line.startswith("petseg: Could not use y.json (File too large). Make room")
    assert not list(tmp_path.glob("y.json*"))


@pytest.mark.long
def test_runs_that_may_not_be_written_are_told_and_scores_are_shown_all_the_same(data, tmp_path):
    petseg = [sys.executable, "-m", "petseg_utils"]
    runs = tmp_path / "runs" / "smoke"
    subprocess.run([*petseg, "train", "unet", "--study", "smoke", "--seed", "0"], check=True, capture_output=True)
    runs.chmod(0o555)
    (runs / "unet-seed0").chmod(0o555)
    line, output = said_in_a_line(without_rights(*petseg, "evaluate", "unet", "--study", "smoke", "--seed", "0"))
    assert line.startswith("petseg: Could not use records.jsonl (Permission denied).") and "PETSEG_RUNS" in line
    assert "ignore_border" in output
    line, _ = said_in_a_line(without_rights(*petseg, "train", "unet", "--study", "smoke", "--seed", "0"))
    assert line.startswith(
        "petseg: Could not write to unet-seed0 (Permission denied). Make room, or name another place"
    )


@pytest.mark.long
def test_a_checkout_that_may_not_be_written_keeps_what_it_makes_in_the_users_folder(tmp_path):
    checkout, home = tmp_path / "checkout", tmp_path / "home"
    shutil.copytree(ROOT / "petseg_utils", checkout / "petseg_utils", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", checkout)
    (checkout / "notebooks").mkdir()
    cell = nbformat.v4.new_code_cell(
        "from petseg_utils.study import load_study\nload_study('smoke').runs_dir.mkdir(parents=True)"
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Here"), cell])
    nbformat.write(book, checkout / "notebooks" / "01_here.ipynb")
    home.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PETSEG_", "XDG_"))}
    environment |= {"HOME": str(home), "PYTHONPATH": str(checkout)}
    for path in (*checkout.rglob("*"), checkout):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for command in (["data", "sample", "--study", "smoke"], ["report", "--study", "smoke"]):
        whole = without_rights(sys.executable, "-m", "petseg_utils", *command)
        run = subprocess.run(whole, cwd=checkout, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    (own,) = home.rglob("petseg")
    assert sorted(path.name for path in own.iterdir()) == ["data", "reports", "runs"]
    assert (own / "reports" / "smoke" / "01_here.html").is_file() and (own / "runs" / "smoke").is_dir()


def test_without_a_home_folder_pages_are_made_and_weights_looked_for(monkeypatch):
    def nobody(_):
        raise KeyError("no such user")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert _without_places("~/pets/cat.jpg, /usr/lib/pets/dog.jpg") == "~/pets/cat.jpg, dog.jpg"
    assert clip_weights("RN50", "openai") is None
    with monkeypatch.context() as patch:
        patch.setattr(settings, "OUTPUTS", Path("~/.local/share/petseg"))  # of an installed package
        with pytest.raises(PetsegError, match=r"^There is no home folder .* HOME"):
            load_study("smoke")
