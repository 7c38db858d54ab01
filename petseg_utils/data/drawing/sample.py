"""The embedded data set: drawn cats and dogs, in the same files and folders as Oxford-IIIT Pet.

The real photos may not be redistributed, so the study draws pictures of its own: each is a small scene with one animal,
and its trimap is exact, as it comes from the same geometry.  The same arguments always give the same bytes.
"""

import json
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from petseg_utils.data.drawing.breeds import BREEDS, CAT, DOG
from petseg_utils.data.drawing.pictures import SEED, draw_pet
from petseg_utils.study import PetsegError, shown
from petseg_utils.study.folders import alone_in, made_aside

DRAWING_VERSION = 1  # raise it whenever the same arguments would give different pictures
N_CATS = sum(breed.species == CAT for breed in BREEDS)
# As in the official list, spelling included.
LIST_HEADER = f"""#Image CLASS-ID SPECIES BREED ID
#ID: 1:{len(BREEDS)} Class ids
#SPECIES: 1:Cat 2:Dog
#BREED ID: 1-{N_CATS}:Cat 1:{len(BREEDS) - N_CATS}:Dog
#All images with 1st letter as captial are cat images
#images with small first letter are dog images"""


def trimap_of(mask: NDArray[np.bool_], half_width: float) -> NDArray[np.uint8]:
    """Turn a mask into the trimap that the official data set would have.

    Parameters
    ----------
    mask : ndarray
        ``(H, W)`` bool, true on the animal.
    half_width : float
        How far the border reaches on each side of the outline, in pixels.

    Returns
    -------
    ndarray
        ``(H, W)`` uint8: 1 animal, 2 background, 3 border.
    """
    labels = np.where(mask, 1, 2).astype(np.uint8)
    if mask.any() and not mask.all():
        inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
        labels[inside + outside <= half_width] = 3
    return labels


def shares(total: int) -> list[int]:
    """Return how many of `total` pictures each breed gets, in the order of `BREEDS`.

    Each breed gets one picture, and the rest are shared out in proportion to the breeds' sizes.  If there are too few
    pictures for that, evenly spaced breeds get one each.
    """
    if total < len(BREEDS):
        chosen = {k * len(BREEDS) // total for k in range(total)}
        return [int(k in chosen) for k in range(len(BREEDS))]
    weight = sum(breed.size for breed in BREEDS)
    exact = [breed.size / weight * (total - len(BREEDS)) for breed in BREEDS]
    counts = [1 + int(x) for x in exact]
    largest_remainder_first = sorted(range(len(BREEDS)), key=lambda k: (int(exact[k]) - exact[k], k))
    for k in largest_remainder_first[: total - sum(counts)]:
        counts[k] += 1
    return counts


def draw_sample(
    root: Path,
    n_trainval: int = 540,
    n_test: int = 120,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Draw a data set in the layout of Oxford-IIIT Pet.

    The folder appears only once it is complete.  A complete sample with the same arguments is left as it is.  Of
    several processes, one draws while the others wait for it.

    Parameters
    ----------
    root : Path
        Folder to make; it holds ``images`` and ``annotations`` afterwards.
    n_trainval, n_test : int
        Pictures in each list, at least 2; every breed is in both lists if the numbers allow it.
    workers : int, optional
        Number of processes that draw; by default one per core, at most eight.  The result does not depend on it.

    Raises
    ------
    PetsegError
        If a list would have fewer than two pictures, `root` holds anything but exactly this sample or cannot be
        written, or a drawing process ended early.
    """
    root = Path(root)
    if min(n_trainval, n_test) < 2:
        raise PetsegError(f"Each list needs two pictures at least, got {n_trainval} and {n_test}.")
    manifest = {"drawing_version": DRAWING_VERSION, "n_trainval": n_trainval, "n_test": n_test, "seed": SEED}
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        present = _manifest_of(root)
        if present == manifest:
            return root
        what = "drawn pictures of another version or number" if isinstance(present, dict) else "something else"
        raise PetsegError(
            f"{shown(root)} holds {what} and is left alone. "
            "Delete it to have the pictures drawn anew, or name another folder."
        )
    numbers = [(a, a + b) for a, b in zip(shares(n_trainval), shares(n_test), strict=True)]
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        # Of several processes, one draws while the others wait, however long that takes.
        with alone_in(root.parent, "petseg", "wait", name=f".{root.name}.lock", wait=-1):
            if _manifest_of(root) == manifest:
                return root
            with made_aside(root.parent) as folder:
                _draw(folder, numbers, workers or min(os.cpu_count() or 1, 8), progress)
                write_lists(folder / "annotations", numbers)
                write_lines(folder / "sample.json", [json.dumps(manifest, indent=2)])
                os.replace(folder, root)
    except OSError as error:
        if _manifest_of(root) == manifest:  # another process was faster, and its pictures are the same
            return root
        raise PetsegError(
            f"Could not write the drawn pictures to {shown(root)} ({error.strerror}): make room there, or have them "
            "drawn elsewhere by `petseg data sample FOLDER`, and name that folder by PETSEG_DATA."
        ) from error
    return root


def _manifest_of(root: Path) -> object:
    try:
        return json.loads((root / "sample.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _draw(folder: Path, numbers: list[tuple[int, int]], workers: int, progress: bool) -> None:
    (folder / "images").mkdir()
    (folder / "annotations" / "trimaps").mkdir(parents=True)
    jobs = [(folder, k, number) for k, (_, last) in enumerate(numbers) for number in range(1, last + 1)]
    with tqdm(total=len(jobs), desc="drawing pets", unit="pic", disable=not progress) as bar:
        if workers == 1:
            for job in jobs:
                write_pet(*job)
                bar.update()
            return
        try:
            with ProcessPoolExecutor(workers, initializer=_end_with_parent) as pool:
                for _ in pool.map(write_pet, *zip(*jobs, strict=True), chunksize=4):
                    bar.update()
        except BrokenProcessPool as error:
            raise PetsegError(
                "A process that drew pictures ended early: memory ran out, or the script that was started runs code "
                'outside of if __name__ == "__main__".'
            ) from error


def _end_with_parent() -> None:
    """End this process when its parent ends, even by a kill: otherwise it would wait for work for ever."""

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    if parent := multiprocessing.parent_process():
        threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def write_pet(folder: Path, breed_index: int, number: int) -> None:
    """Draw picture `number` of the breed ``BREEDS[breed_index]``; write it and its trimap to folders in `folder`."""
    breed = BREEDS[breed_index]
    picture, mask = draw_pet(breed, number)
    rng = np.random.default_rng([SEED, breed_index, number, 1])
    labels = trimap_of(mask, rng.uniform(0.013, 0.026) * max(mask.shape))
    name = f"{breed.name}_{number}"
    Image.fromarray(picture).save(folder / "images" / f"{name}.jpg", quality=int(rng.integers(80, 95)), subsampling=2)
    Image.fromarray(labels).save(folder / "annotations" / "trimaps" / f"{name}.png")


def write_lists(annotations: Path, numbers: list[tuple[int, int]]) -> None:
    """Write ``list.txt``, ``trainval.txt`` and ``test.txt``.

    Parameters
    ----------
    numbers : list of tuple
        For each breed, the last number of its ``trainval`` pictures and that of its test pictures, which follow them.
    """
    lists: dict[str, list[str]] = {"list": LIST_HEADER.splitlines(), "trainval": [], "test": []}
    breed_ids = {CAT: 0, DOG: 0}
    for k, (breed, (last_trainval, last)) in enumerate(zip(BREEDS, numbers, strict=True)):
        breed_ids[breed.species] += 1
        for number in range(1, last + 1):
            line = f"{breed.name}_{number} {k + 1} {breed.species} {breed_ids[breed.species]}"
            lists["list"].append(line)
            lists["trainval" if number <= last_trainval else "test"].append(line)
    for name, lines in lists.items():
        write_lines(annotations / f"{name}.txt", lines)


def write_lines(path: Path, lines: list[str]) -> None:
    """Write a text file with the same bytes on every system."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
