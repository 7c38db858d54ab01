"""The set-up files agree with each other, and the repository is fit to be published."""

import ast
import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import petseg_utils
from petseg_utils.study import ROOT, load_study

PACKAGE = ROOT / "petseg_utils"
WORKFLOWS = ROOT / ".github" / "workflows"
LOCK = (ROOT / "requirements.lock").read_text()
PINS = dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", LOCK, flags=re.M))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def named(lines: list[str]) -> set[str]:
    """Names of the packages that some lines of dependencies ask for, those of another extra among them."""
    own = [re.split("[=<>]", line)[0] for line in lines]
    inner = {extra for line in own for extra in re.findall(r"^petseg-utils\[(.+)\]$", line)}
    others = {name.partition("[")[0] for name in own} - {"petseg-utils"}
    return others.union(*(named(EXTRAS[extra]) for extra in inner))


DIRECT = named(PROJECT["dependencies"] + EXTRAS["dev"])
needs_make = pytest.mark.skipif(sys.platform == "win32", reason="make is for Linux and macOS")


def tracked() -> list[str]:
    run = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        pytest.skip("not a git checkout")
    return run.stdout.split()


def test_environment_has_the_direct_dependencies_with_the_locks_pins():
    text = (ROOT / "environment.yml").read_text()
    conda = yaml.safe_load(text)["dependencies"]
    pip = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    by_hand = re.findall(r"^#.* pip install --no-deps (\S+)$", text, flags=re.M)  # conda has no way to say `--no-deps`
    pinned = dict(line.split("==") for line in [*pip, *by_hand] if "==" in line)
    assert pinned == {name: PINS[name] for name in DIRECT} and by_hand == [f"pillow=={PINS['pillow']}"]
    assert "python=3.11" in conda and PROJECT["requires-python"] == ">=3.11"


def test_each_line_of_the_environment_says_what_needs_it():
    lines = (ROOT / "environment.yml").read_text().split("dependencies:\n")[1].splitlines()
    assert all("  # " in line for line in lines if line.strip() != "- pip:")


def test_the_lock_pins_every_line_with_hashes_and_names_no_index():
    requirements = [line for line in LOCK.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(requirements) == len(PINS) > 100
    assert LOCK.count("\n    --hash=sha256:") >= len(requirements)
    assert "://" not in LOCK and "--index" not in LOCK and "--extra-index" not in LOCK


def test_the_locks_pins_go_together_but_for_gradios_bound_on_pillow():
    # Whatever installs the lock passes over this one, and so over any other: here they are looked at.
    refused, lacking = [], []
    for name in PINS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # another system's
            for line in importlib.metadata.requires(name) or []:
                needed = Requirement(line)
                if needed.marker and not needed.marker.evaluate({"extra": ""}):
                    continue
                if (pin := PINS.get(canonicalize_name(needed.name))) is None:
                    lacking.append(line)
                elif not needed.specifier.contains(pin, prereleases=True):
                    refused.append((name, needed.name))
    assert (refused, lacking) == ([("gradio", "pillow")], [])
    installs = [(ROOT / name).read_text() for name in ("Makefile", ".github/workflows/tests.yml")]
    assert all("pip install" in text and text.count("--no-deps --require-hashes -r") == 1 for text in installs)


# The faults that these versions mended.  pip-audit knows more, where there is a network.
MENDED = {
    "pillow": ("13", "GHSA-5x8w-8jj5-q52h: JPEG scanlines wider than their tile were written past a buffer"),
    "gradio": (
        "6.31",
        "GHSA-j36p-7w88-g82j (before 6.16) and CVE-2026-28414 (before 6.7): paths out of the served folders; 6.31.0 "
        "also ends the endless loop over a range past the end of a file, which has no advisory that we know of",
    ),
    "torch": ("2.10", "CVE-2026-24747 and, before 2.6, CVE-2025-32434: torch.load ran code with weights_only"),
    "jupyter-server": ("2.21", "CVE-2026-44727: scripts in notebooks that were shown; GHSA-c3mw-737p-c7g2"),
    "python-multipart": ("0.0.31", "GHSA-v9pg-7xvm-68hf: a negative length read a whole body into memory"),
    "starlette": ("1.0.1", "CVE-2026-48710: a malformed Host header got past checks of paths"),
    "nbconvert": ("7.17.1", "CVE-2026-39377 and CVE-2026-39378"),
    "mistune": ("3.3.3", "CVE-2026-49851 and CVE-2026-76098: brackets and emphasis that stopped it"),
    "tornado": (
        "6.5.8",
        "GHSA-8423-8fgw-73vq: a form's parts were split before they were counted; GHSA-wwv5-g3v4-889x: attributes of "
        "cookies were not checked",
    ),
    "onnx": ("1.21", "CVE-2026-34445 and CVE-2026-27489: attributes and files named by a model's external data"),
}


@pytest.mark.parametrize("name", MENDED)
def test_the_lock_holds_no_version_with_a_known_fault(name):
    least, fault = MENDED[name]
    assert Version(PINS[name]) >= Version(least), fault


def test_the_lock_installs_on_linux_macos_and_windows():
    for line in LOCK.splitlines():
        if line.startswith(("nvidia-", "triton==", "cuda-")):
            assert "sys_platform == 'linux'" in line
    # Needed on macOS and on Windows only, so a lock made for Linux alone would lack them.
    assert "appnope==" in LOCK and "colorama==" in LOCK


def test_the_hooks_before_a_commit_have_the_locks_versions():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    pinned = dict(line.split("==") for hook in local["hooks"] for line in hook["additional_dependencies"])
    del pinned["pre-commit-hooks"]  # of no use to anything else
    assert pinned == {name: PINS[name] for name in pinned}


@pytest.mark.parametrize("folder", ["petseg_utils", "tools"])
def test_every_library_that_is_imported_is_a_direct_dependency(folder):
    of_module = {"bs4": "beautifulsoup4", "cv2": "opencv-python-headless", "IPython": "ipython", "PIL": "pillow"}
    of_module |= {"open_clip": "open-clip-torch", "skimage": "scikit-image", "sklearn": "scikit-learn"}
    of_module |= {"yaml": "pyyaml", "zmq": "pyzmq"}
    own = {*sys.stdlib_module_names, "petseg_utils", "tools"}
    modules = {
        name.partition(".")[0]
        for path in sources(folder)
        for name, guarded in imports(ast.parse(path.read_bytes()))
        if not guarded  # what is used where it is there, needs not to be there
    }
    needed = {of_module.get(name, name.replace("_", "-")) for name in modules - own}
    assert needed - named([*PROJECT["dependencies"], *EXTRAS["study"], *EXTRAS["slurm"], *EXTRAS["ray"]]) == set()


def test_torch_and_torchvision_are_a_matching_pair():
    # The two are built together: 2.14 goes with 0.29.  A mismatch fails where torchvision's own operators are called.
    import torch
    from torchvision.ops import nms

    assert torch.__version__.split("+")[0] == PINS["torch"]
    assert nms(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0.5]), 0.5).tolist() == [0]


def test_importing_the_module_is_quick_and_loads_nothing_heavy():
    code = "import sys, petseg_utils; print(sorted({'torch', 'numpy', 'pandas', 'cv2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.long
def test_importing_everything_opens_no_connection():
    code = """
import importlib, os, pkgutil, socket, sys
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
def refuse(*args, **kwargs):  # ends the process: an exception might be swallowed on the way
    sys.stderr.write(f"a connection was opened: {args}")
    sys.stderr.flush()
    os._exit(3)
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import petseg_utils
names = [module.name for module in pkgutil.walk_packages(petseg_utils.__path__, "petseg_utils.")]
names.remove("petseg_utils.__main__")  # runs the command line
for name in names:
    importlib.import_module(name)
from petseg_utils.data.transforms import make_augmentation
make_augmentation()
print(len(names))
"""
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    run = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], env=environment, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    folders = sum(path.name == "__init__.py" for path in sources("petseg_utils")) - 1  # without the outermost
    files = sum(path.name not in ("__init__.py", "__main__.py") for path in sources("petseg_utils"))
    assert int(run.stdout) == folders + files


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(tree: ast.AST, guarded: bool = False) -> list[tuple[str, bool]]:
    """Names of the modules that some code imports, and whether a guard stands around: an `if` or `try` of its own."""
    listed = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            listed += [(alias.name, guarded) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            listed.append((node.module, guarded))
        about_the_system = isinstance(node, ast.If) and re.search(r"sys\.platform|os\.name", ast.unparse(node.test))
        caught = isinstance(node, ast.Try) and any(
            handler.type and re.search("ImportError|ModuleNotFoundError", ast.unparse(handler.type))
            for handler in node.handlers
        )
        suppressed = isinstance(node, ast.With) and "suppress(ImportError)" in ast.unparse(node.items[0])
        listed += imports(node, guarded or bool(about_the_system) or caught or suppressed)
    return listed


EXPORTED_ENCODER = "petseg_utils/models/weights/encoder.onnx"  # written once: it does not change with the decoders
# Of Python 3.11, the oldest that is supported.
POSIX_ONLY = {"crypt", "fcntl", "grp", "nis", "posix", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty"}


def test_no_module_needs_posix():
    for path in sources("petseg_utils"):
        needed = {name for name, guarded in imports(ast.parse(path.read_bytes())) if not guarded}
        assert not needed & POSIX_ONLY, path.name


def test_an_unguarded_posix_import_is_seen_wherever_it_stands():
    guarded = "try:\n    import fcntl\nexcept ImportError:\n    fcntl = None\n"
    guarded += "if sys.platform != 'win32':\n    import resource\n"
    assert imports(ast.parse(guarded)) == [("fcntl", True), ("resource", True)]
    bare = "def lock():\n    if wanted:\n        import fcntl\n    try:\n        from pwd import getpwnam\n"
    bare += "    except OSError:\n        pass\n"
    assert imports(ast.parse(bare)) == [("fcntl", False), ("pwd", False)]


def test_at_most_twelve_entries_stand_directly_in_the_package():
    entries = {name.split("/")[1] for name in tracked() if name.startswith("petseg_utils/")}
    assert len(entries) <= 12, sorted(entries)


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory) -> set[str]:
    """What a wheel holds.  It is built from a copy, since `pip wheel` leaves a folder where it builds."""
    copy, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for folder in ("petseg_utils", "tools", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    run = subprocess.run([*command, "--wheel-dir", made, copy], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    (wheel,) = made.glob("*.whl")
    assert wheel.name == f"petseg_utils-{PROJECT['version']}-py3-none-any.whl"
    return set(zipfile.ZipFile(wheel).namelist())


def test_a_wheel_holds_the_whole_package_and_nothing_else(wheel_files):
    inside = {name for name in wheel_files if ".dist-info/" not in name}
    there = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    assert inside == {name for name in there if "__pycache__" not in name}
    assert "petseg_utils/py.typed" in inside


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## \[(.+)\] - (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.M)
    assert newest.groups() == (PROJECT["version"], str(citation["date-released"]))
    assert petseg_utils.__version__ == citation["version"] == PROJECT["version"]


def test_nothing_tracked_is_large_or_names_a_machines_path():
    leak = re.compile(r"(?<![\w.~$}])/(root|work|tmp|home/\w+|Users/\w+)/")
    for name in tracked():
        path = ROOT / name
        if not path.is_file():
            continue
        assert path.stat().st_size < (8e6 if name == EXPORTED_ENCODER else 4e6), name
        if path.suffix in (".py", ".ipynb", ".toml", ".md", ".yml", ".json", ".jsonl", ".csv", ".cff", ""):
            assert not leak.search(path.read_text(encoding="utf-8")), name


def test_the_workflows_try_every_python_and_look_for_known_faults():
    tests, audit = (yaml.safe_load((WORKFLOWS / name).read_text())["jobs"] for name in ("tests.yml", "audit.yml"))
    assert tests["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert any("requirements.lock" in step.get("run", "") for step in audit["audit"]["steps"])
    watched = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    assert {entry["package-ecosystem"] for entry in watched} == {"pip", "npm", "github-actions"}


def test_faults_are_reported_to_nobodys_own_address():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "Report a vulnerability" in text and not re.search(r"\S@\S", text)


@needs_make
def test_the_workflow_publishes_what_make_reports_writes():
    (job,) = yaml.safe_load((WORKFLOWS / "report.yml").read_text())["jobs"].values()
    steps = [step.get("run") or step["uses"].partition("@")[0] for step in job["steps"]]
    assert (
        steps.index("make reports") < steps.index("actions/upload-pages-artifact") < steps.index("actions/deploy-pages")
    )
    path = next(step["with"]["path"] for step in job["steps"] if "upload-pages-artifact" in step.get("uses", ""))
    recipe = subprocess.run(["make", "--dry-run", "reports"], cwd=ROOT, capture_output=True, text=True).stdout
    assert path == f"reports/{load_study('sample').name}" and "petseg report" in recipe


@needs_make
def test_make_help_lists_the_commands():
    run = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True)
    for command in ("setup", "reports", "test", "test-reports", "notebooks", "tables", "demo", "lint"):
        assert f"make {command} " in run.stdout
