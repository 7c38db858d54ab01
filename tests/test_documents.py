"""The commands in docs/ run as they stand, on small data."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from petseg_utils.apps.photo_tables import read_table
from petseg_utils.data.drawing.breeds import BREEDS
from petseg_utils.data.drawing.pictures import draw_pet
from petseg_utils.study import ROOT

DOCUMENT = (ROOT / "docs" / "many-photos.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", DOCUMENT, flags=re.M | re.S)
needs_sh = pytest.mark.skipif(os.name != "posix", reason="the commands are for a POSIX shell")


def block(of: str) -> str:
    """The only block of the document with these words in it."""
    (text,) = [text for kind, name, text in BLOCKS if kind != "console" and of in f"{name}\n{text}"]
    return text


def sh(script: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path} | variables
    return subprocess.run(["sh", "-c", script], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture
def photos(tmp_path):
    """Twelve drawn photos in a folder of this name."""
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for number in range(12):
        pet = Image.fromarray(draw_pet(BREEDS[number], 1)[0]).resize((64, 64))
        pet.save(tmp_path / "photos" / ("more" if number % 2 else "") / f"{number}.jpg")
    return tmp_path


def names(out: Path) -> list[str]:
    return sorted(Path(row["file"]).name for row in read_table(out / "results.csv"))


@needs_sh
def test_shards_in_a_loop(photos):
    done = sh(block("for i in 1 2 3 4"), photos)
    assert done.returncode == 0, done.stderr
    assert "Shards joined: 4; photos: 12; failed: 0." in done.stdout
    assert names(photos / "masks") == sorted(f"{number}.jpg" for number in range(12))


@needs_sh
@pytest.mark.parametrize("kind", ["slurm", pytest.param("kubernetes", marks=pytest.mark.long)])
def test_each_job_of_an_array_makes_its_shard(photos, kind):
    if kind == "slurm":
        script = block("masks.sh\n")
        (last,) = re.findall(r"--array=1-(\d+)$", script, flags=re.M)
        jobs = [{"SLURM_ARRAY_TASK_ID": str(number + 1), "SLURM_ARRAY_TASK_COUNT": last} for number in range(int(last))]
    else:
        job = yaml.safe_load(block("masks.yaml\n"))["spec"]
        assert job["completionMode"] == "Indexed"
        shell, option, script = job["template"]["spec"]["containers"][0]["command"]
        assert (shell, option) == ("sh", "-c")
        jobs = [{"JOB_COMPLETION_INDEX": str(number)} for number in range(job["completions"])]
    for variables in jobs:
        done = sh(script, photos, **variables)
        assert done.returncode == 0, done.stderr
    done = sh("petseg segment --merge masks", photos)
    assert done.returncode == 0 and names(photos / "masks") == sorted(f"{number}.jpg" for number in range(12))


@pytest.mark.long
@needs_sh
def test_the_sweep(data, tmp_path):
    done = sh(block("petseg sweep"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": trained after ") == 2
    assert sh(block("petseg sweep"), tmp_path).stdout == "unet, seed 0: is current\nunet, seed 1: is current\n"
