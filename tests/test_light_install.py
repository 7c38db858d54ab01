"""Who only makes masks needs none of the study's packages, and who clicks in the page needs few."""

import subprocess
import sys
from pathlib import Path

import pytest

from petseg_utils.apps.cutouts import EXAMPLES

# Stands for an environment in which these are not installed.
WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
ABSENT = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Absent())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in ABSENT else find(name, *rest)
from petseg_utils.apps.cli.main import main
"""
STUDY = "torch,torchvision,timm,open_clip,skimage,scipy,sklearn,matplotlib,albumentations,accelerate,safetensors,onnx"
ALL = f"{STUDY},pandas,gradio,ipywidgets,anywidget,traitlets,nbformat,bs4,jinja2,IPython"
# typer wants pydantic for its own purposes; the study's settings are made of it.
RUN = "sys.argv = ['petseg', *sys.argv[2:]]\nmain()"
CLICKED = """
from petseg_utils.apps import page, page_state
work, _, said, *_ = page.open_file(str(page.EXAMPLES["Chelsea"]), None, "point", "by class", 0.5)
assert "Proposed: cat" in said, said
work.click("yes", 400, 300)
assert "Selected: cat" in work.status
page.make_page()
from petseg_utils.apps.widget import click_demo
assert click_demo().photo.summary.startswith("Proposed: cat")
assert not {"torch", "scipy", "matplotlib"} & set(sys.modules)
print("clicked")
"""


def run(code: str, absent: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", WITHOUT + code, absent, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize("options", [(), ("--click", "200,150")])
def test_segment_needs_none_of_the_studys_packages(tmp_path, options):
    done = run(RUN, ALL, "segment", str(EXAMPLES["Chelsea"]), "-o", "out", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "Chelsea_mask.png").is_file() and "Segmented: 1" in done.stdout


def test_bench_needs_none_of_the_studys_packages(tmp_path):
    done = run("from petseg_utils.apps import bench\nbench.ROUNDS = 1\n" + RUN, ALL, "bench", cwd=tmp_path)
    assert done.returncode == 0 and "decoder: a photo" in done.stdout, done.stderr


def test_page_and_widget_need_no_torch(tmp_path):
    done = run(CLICKED, STUDY, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.strip() == "clicked", done.stderr


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (("segment", "x.png", "-o", "out", "--runtime", "torch"), "torch", "study"),
        (("train", "unet"), "torch|pandas", "study"),
        (("report",), "torch|pandas|nbformat|jinja2|bs4", "study"),
        (("demo",), "gradio", "demo"),
    ],
)
def test_what_needs_more_says_so_in_one_line(tmp_path, arguments, package, extra):
    (tmp_path / "x.png").write_bytes(EXAMPLES["cat"].read_bytes())
    done = run(RUN, ALL, *arguments, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert any(f"needs {name}, which is not installed" in done.stderr for name in package.split("|")), done.stderr
    assert f"'.[{extra}]'" in done.stderr
