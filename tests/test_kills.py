"""Processes killed at random moments, again and again: the next one goes on, to what an uninterrupted one makes.

A few kills of each kind of work here, other ones each day; ``PETSEG_KILLS=50`` (`make kills`) so many of each.
"""

import contextlib
import csv
import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from petseg_utils.apps.cli.main import app
from petseg_utils.apps.labelling import TABLE, labelling
from petseg_utils.apps.photo_tables import ENDINGS, RESULTS, read_table
from petseg_utils.data.drawing.sample import draw_sample
from petseg_utils.data.pictures import load_splits
from petseg_utils.models.encoders import load_encoder
from petseg_utils.models.feature_cache import caches, load_features
from petseg_utils.report.run import build_report
from petseg_utils.scores.records import read_records
from petseg_utils.segmenter import read_photo
from petseg_utils.study import load_study
from tests.conftest import write_data

KILLS = int(os.environ.get("PETSEG_KILLS", "2"))
RUN = "unet-seed0"

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows ends processes in another way")


@dataclass(frozen=True)
class Work:
    """What is killed.

    Parameters
    ----------
    work : callable
        ``work(place, given)`` does it; the study's runs go below `place`, its pictures and others lie in `given`.
    made : callable
        ``made(place)``: what it made, to compare.  Whatever is there must be whole, at any time.
    units : callable
        ``units(place)``: how much of it is done, which no kill may lessen.
    """

    work: Callable[[Path, Path], None]
    made: Callable[[Path], dict]
    units: Callable[[Path], int]


def train(place, given):
    for command in (["train", "unet", "--resume"], ["evaluate", "unet"]):
        app([*command, "--study", "smoke", "--seed", "0"], standalone_mode=False)


def epochs_in(place):
    path = place / "runs" / "smoke" / RUN / "last.safetensors"
    if not path.is_file():
        return 0
    with safe_open(path, "pt") as file:
        return len(json.loads(file.metadata()["progress"])["history"])


def trained(place):
    folder = place / "runs" / "smoke" / RUN
    made: dict = {"files": sorted(path.name for path in folder.glob("[!.]*"))}
    for path in folder.glob("*.safetensors"):
        made[path.name] = {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}
    for path in folder.glob("*.json"):
        card = json.loads(path.read_text())  # the time it took, and what was committed meanwhile, may differ
        made["card"] = {key: value for key, value in card.items() if key not in ("training_seconds", "commit")}
    for path in folder.glob("*.csv"):
        with path.open() as file:
            made["history"] = [{key: row[key] for key in row if key != "seconds"} for row in csv.DictReader(file)]
    records = read_records(place / "runs" / "smoke" / "records.jsonl")
    return made | {"records": [(record["protocol"], record["scores"]) for record in records]}


def build_caches(place, given):
    study = load_study("smoke")
    splits = load_splits(study, progress=False)
    encoder = load_encoder(study.encoder, study.image_size)
    for split in ("train", "test"):
        load_features(encoder, splits[split], study.cache_dir, mirrored=True, progress=False)


def lines_in(place):
    return sum(path.read_bytes().count(b"\n") for path in place.glob("runs/cache/*/contents.txt")) + sum(
        len(json.loads(path.read_text())["rows"]) for path in place.glob("runs/cache/pictures-*/card.json")
    )


def cached(place):
    listed = caches(place / "runs" / "cache")  # deletes what the killed one left
    assert not any("cannot be used" in cache["what"] for cache in listed if cache["name"].startswith("pictures"))
    folder = place / "runs" / "cache"
    digests = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock" and not path.name.endswith(".part")
    }
    # A picture's path, and with it the cache's name, are those of the data, which all runs share.
    return digests


def draw(place, given):
    draw_sample(place / "sample", 6, 4, workers=2, progress=False)


def drawn(place):
    assert not (place / "sample").exists() or (place / "sample" / "sample.json").is_file()
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.glob("sample/**/*.*")}


def segment(place, given):
    app(["segment", str(given / "photos"), "--model", "unet", "-o", str(place / "out")], standalone_mode=False)


def segmented(place):
    rows = list(read_table(place / "out" / RESULTS))
    for row in rows:
        for ending in ENDINGS:
            with Image.open(place / "out" / row["mask"].replace(ENDINGS[-1], ending)) as picture:
                picture.load()
    made = {path.name: path.read_bytes() for path in (place / "out").glob("[!.]*.*") if path.name != RESULTS}
    made.pop("about.json", None)
    return made | {"rows": sorted(json.dumps(row, sort_keys=True) for row in rows)}


def label(place, given):
    with labelling(given / "photos", place / "set") as data:
        for name in data.names:
            if data.row(name):
                continue
            image = read_photo(given / "photos" / name)
            selected = np.zeros(image.shape[:2], bool)
            selected[10:30, 10:30] = True
            data.save(name, image, selected, "cat" if "Ta" in name else "dog")


def labelled(place):
    made = {path.name: path.read_bytes() for path in (place / "set").glob("**/[!.]*.*")}
    for name in made:
        if name.endswith((".jpg", ".png")):
            with Image.open(next((place / "set").glob(f"**/{name}"))) as picture:
                picture.load()
    return made


def rows_in(place):
    path = place / "set" / TABLE
    return max(path.read_bytes().count(b"\n") - 1, 0) if path.is_file() else 0


NOTEBOOK = """
import hashlib
from petseg_utils.data.pictures import load_splits
from petseg_utils.study import load_study
from petseg_utils.training.checkpoints import run_folder
from petseg_utils.training.train import trained
study = load_study()
trained("unet", study, 0, load_splits(study, progress=False), progress=False)
path = run_folder("unet", study, 0) / "best.safetensors"
print("weights", hashlib.sha256(path.read_bytes()).hexdigest())
"""


def report(place, given):
    failures = build_report(load_study("smoke"), notebooks=given / "notebooks", out=place / "reports")
    assert not failures, failures


def reported(place):
    pages = {path.name: path.read_text() for path in place.glob("reports/*.html")}
    assert all(page.rstrip().endswith("</html>") for page in pages.values())
    return {name: re.findall(r"weights [0-9a-f]{64}", page) for name, page in pages.items()}


WORKS = {
    "training": Work(train, trained, epochs_in),
    "caches": Work(build_caches, cached, lines_in),
    "drawing": Work(draw, drawn, lambda place: len(list(place.glob("sample/images/*")))),
    "segment": Work(segment, segmented, lambda place: sum(1 for _ in read_table(place / "out" / RESULTS))),
    "labelling": Work(label, labelled, rows_in),
    "report": Work(report, reported, lambda place: len(list(place.glob("reports/0*.html")))),
}


def in_process(name: str, place: Path, given: Path) -> None:
    """Do a work in a process of its own, silently."""
    os.environ |= {"PETSEG_RUNS": str(place / "runs"), "PETSEG_DATA": str(given / "pets")}
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        WORKS[name].work(place, given)


@pytest.fixture(scope="module")
def context() -> Iterator[multiprocessing.context.ForkServerContext]:
    """Starts processes from one that has imported everything, so that most kills hit the work itself."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["petseg_utils.apps.cli.main", "petseg_utils.training.train", __name__])
    yield context


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Path:
    """What the works start from: a data set, photos, notebooks."""
    folder = tmp_path_factory.mktemp("given")
    write_data(folder / "pets")
    photos = sorted((folder / "pets" / "images").iterdir())[:6]
    (folder / "photos").mkdir()
    for photo in photos:
        shutil.copy2(photo, folder / "photos")
    (folder / "notebooks").mkdir()
    for name, code in (("01_data", 'print("no weights here")'), ("02_unet", NOTEBOOK)):
        cells = [nbformat.v4.new_markdown_cell(f"# {name}"), nbformat.v4.new_code_cell(code)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "notebooks" / f"{name}.ipynb")
    return folder


SHORT = ("labelling",)


@pytest.mark.parametrize("name", [pytest.param(key, marks=() if key in SHORT else pytest.mark.long) for key in WORKS])
def test_killed_work_goes_on_to_what_an_uninterrupted_run_makes(name, context, given, tmp_path):
    work, moments = WORKS[name], random.Random(f"{name} {datetime.now(UTC).date()}")

    def started(place: Path):
        place.mkdir(exist_ok=True)
        process = context.Process(target=in_process, args=(name, place, given))
        process.start()
        return process

    whole = tmp_path / "whole"
    started(whole).join()  # loads the server
    shutil.rmtree(whole)
    began = time.monotonic()
    process = started(whole)
    process.join()
    seconds, right, all_units = time.monotonic() - began, work.made(whole), work.units(whole)
    assert process.exitcode == 0 and all_units

    kills, rounds, place, units = 0, 1, tmp_path / "cut1", 0
    while True:
        fresh, began = not place.exists(), time.monotonic()
        process = started(place)
        if kills < KILLS:
            process.join(moments.uniform(0, seconds))
            if process.exitcode is None:
                process.kill()
                kills += 1
        process.join()
        before, units = units, work.units(place)
        assert units >= before, f"{units} units after kill {kills}, {before} before"
        made = work.made(place)
        if process.exitcode == -signal.SIGKILL:
            continue
        if fresh:  # a busy machine takes longer now and then, and kills that come too late are none
            seconds = min(seconds, time.monotonic() - began)
        assert process.exitcode == 0  # a lock that was left, or a file that is none, would end it in another way
        assert made == right
        left = [path for path in place.rglob("*") if path.name.endswith(".part") or path.name.startswith(".petseg")]
        assert not left
        if kills >= KILLS:
            break
        shutil.rmtree(place)
        rounds, place, units = rounds + 1, tmp_path / f"cut{rounds + 1}", 0
    print(f"{name}: {kills} kills, {rounds} whole runs of {seconds:.1f} s, the same result each time")
