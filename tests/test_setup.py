"""The set-up files agree with each other, and the repository is fit to be published."""

import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from petseg_utils.study import ROOT, STUDIES, load_study

LOCK = (ROOT / "requirements.lock").read_text()
PINS = dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", LOCK, flags=re.M))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = {
    re.split("[=<>]", line)[0] for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
}  # fmt: skip


def tracked() -> list[str]:
    run = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        pytest.skip("not a git checkout")
    return run.stdout.split()


def test_environment_has_the_direct_dependencies_with_the_locks_pins():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    pinned = dict(line.split("==") for line in pip if "==" in line)
    assert pinned == {name: PINS[name] for name in DIRECT}
    assert "python=3.11" in conda and PROJECT["requires-python"] == ">=3.11"


def test_each_line_of_the_environment_says_what_needs_it():
    lines = (ROOT / "environment.yml").read_text().split("dependencies:\n")[1].splitlines()
    assert all("  # " in line for line in lines if line.strip() != "- pip:")


def test_the_lock_pins_every_line_with_hashes_and_names_no_index():
    requirements = [line for line in LOCK.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(requirements) == len(PINS) > 100
    assert LOCK.count("\n    --hash=sha256:") >= len(requirements)
    assert "://" not in LOCK and "--index" not in LOCK and "--extra-index" not in LOCK


def test_the_lock_installs_on_linux_and_macos():
    for line in LOCK.splitlines():
        if line.startswith(("nvidia-", "triton==", "cuda-")):
            assert "sys_platform == 'linux'" in line
    assert "appnope==" in LOCK  # needed on macOS only, so a lock made for Linux alone would lack it


def test_torch_and_torchvision_are_a_matching_pair():
    # The two are built together: 2.14 goes with 0.29.  A mismatch fails where torchvision's own operators are called.
    import torch
    from torchvision.ops import nms

    assert torch.__version__.split("+")[0] == PINS["torch"]
    assert nms(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0.5]), 0.5).tolist() == [0]


def test_importing_the_module_is_quick_and_loads_nothing_heavy():
    code = "import sys, petseg_utils; print(sorted({'torch', 'numpy', 'pandas', 'cv2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_importing_everything_opens_no_connection():
    modules = [path.stem for path in (ROOT / "petseg_utils").glob("*.py") if path.stem != "__main__"]
    code = f"""
import os, socket, sys
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
def refuse(*args, **kwargs):  # ends the process: an exception might be swallowed on the way
    sys.stderr.write(f"a connection was opened: {{args}}")
    sys.stderr.flush()
    os._exit(3)
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import importlib
for module in {modules}:
    importlib.import_module("petseg_utils." + module)
from petseg_utils.transforms import make_augmentation
make_augmentation()
"""
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    run = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], env=environment, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()


def test_every_study_that_ships_can_be_read():
    assert {load_study(path.stem).name for path in STUDIES.glob("*.toml")} == {
        "smoke",
        "sample",
        "oxford",
        "oxford-cpu",
        "oxford-gpu",
        "shipped",
    }


def test_nothing_tracked_is_large_or_names_a_machines_path():
    leak = re.compile(r"(?<![\w.~$}])/(root|work|tmp|home/\w+|Users/\w+)/")
    for name in tracked():
        path = ROOT / name
        if not path.is_file():
            continue
        assert path.stat().st_size < 4e6, name
        if path.suffix in (".py", ".ipynb", ".toml", ".md", ".yml", ".json", ".jsonl", ".csv", ".cff", ""):
            assert not leak.search(path.read_text(encoding="utf-8")), name


def test_the_workflow_publishes_what_make_reports_writes():
    (job,) = yaml.safe_load((ROOT / ".github" / "workflows" / "report.yml").read_text())["jobs"].values()
    steps = [step.get("run") or step["uses"].partition("@")[0] for step in job["steps"]]
    assert (
        steps.index("make reports") < steps.index("actions/upload-pages-artifact") < steps.index("actions/deploy-pages")
    )
    path = next(step["with"]["path"] for step in job["steps"] if "upload-pages-artifact" in step.get("uses", ""))
    recipe = subprocess.run(["make", "--dry-run", "reports"], cwd=ROOT, capture_output=True, text=True).stdout
    assert path == f"reports/{load_study('sample').name}" and "petseg report" in recipe


def test_make_help_lists_the_commands():
    run = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True)
    for command in ("setup", "reports", "test", "test-reports", "notebooks", "demo"):
        assert f"make {command} " in run.stdout
