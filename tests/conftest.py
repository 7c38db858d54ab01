"""Small pictures in the official layout, made anew for each test that asks."""

import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from petseg_utils.data.pictures import load_splits
from petseg_utils.experiments.study_records import committed_records
from petseg_utils.study import load_study


def make_pair(seed: int, species: int, height: int = 60, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """A bright ellipse (reddish for cats, bluish for dogs) on noise, and its trimap."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    centre = rng.uniform(0.35, 0.65, 2) * (height, width)
    distance = ((rows - centre[0]) / (0.3 * height)) ** 2 + ((columns - centre[1]) / (0.3 * width)) ** 2
    image = rng.integers(0, 90, (height, width, 3))
    image[distance < 1] += np.array([150, 60, 20] if species == 1 else [20, 60, 150])
    trimap = np.where(distance < 0.85, 1, np.where(distance < 1.15, 3, 2))
    return image.astype(np.uint8), trimap.astype(np.uint8)


def write_data(root: Path, n_trainval: int = 12, n_test: int = 6) -> Path:
    """Write a data set in the official layout; cats first, then dogs, two breeds each."""
    (root / "images").mkdir(parents=True)
    (root / "annotations" / "trimaps").mkdir(parents=True)
    for split, count in (("trainval", n_trainval), ("test", n_test)):
        lines = []
        for number in range(count):
            species = 1 + number % 2
            breed = ("Tabby", "Tuxedo") if species == 1 else ("hound", "terrier")
            name = f"{breed[number // 2 % 2]}_{number if split == 'trainval' else 100 + number}"
            image, trimap = make_pair(number + (1000 if split == "test" else 0), species)
            Image.fromarray(image).save(root / "images" / f"{name}.jpg", quality=95)
            Image.fromarray(trimap).save(root / "annotations" / "trimaps" / f"{name}.png")
            lines.append(f"{name} 1 {species} 1")
        (root / "annotations" / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root


def renamed(root):
    """A data set whose pictures have names of their own."""
    for path in (root / "annotations").glob("*.txt"):
        path.write_text("".join(f"Extra{line}\n" for line in path.read_text().splitlines()))
    for path in [*(root / "images").iterdir(), *(root / "annotations" / "trimaps").iterdir()]:
        path.rename(path.with_name(f"Extra{path.name}"))
    return root


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A sound data set of 12 + 6 pictures, which PETSEG_DATA names; runs go beside it."""
    root = write_data(tmp_path / "pets")
    monkeypatch.setenv("PETSEG_DATA", str(root))
    monkeypatch.setenv("PETSEG_RUNS", str(tmp_path / "runs"))
    return root


@pytest.fixture
def study(data):
    """The smoke study on `data`."""
    return load_study("smoke")


@pytest.fixture
def splits(study):
    """The study's three splits."""
    return load_splits(study, progress=False)


@pytest.fixture
def sample_records() -> list[dict]:
    """The records of the sample study that are committed."""
    return committed_records("sample")


def first_picture(root: Path) -> tuple[Path, Path]:
    """Photo and trimap of the first trainval picture."""
    name = (root / "annotations" / "trainval.txt").read_text().split()[0]
    return root / "images" / f"{name}.jpg", root / "annotations" / "trimaps" / f"{name}.png"


@pytest.fixture
def no_network(monkeypatch):
    """Fail where a connection is opened."""

    def refuse(*arguments, **options):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")  # playwright keeps an event loop running, which would get into other tests' way
def browser():
    """The system's Chromium, headless, driven by playwright; skipped where there is none, but not on CI."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        # CI machines with apt can install one, so a browser test that is skipped there would go unnoticed.
        tell = pytest.fail if os.environ.get("CI") == "true" and shutil.which("apt") else pytest.skip
        tell("no Chromium: apt install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync"]
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu", *quiet])
        yield started
        started.close()
