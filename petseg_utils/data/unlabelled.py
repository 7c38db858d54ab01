"""Pictures without masks, for self-training and for the autoencoder."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from petseg_utils.data.audit import content_hash
from petseg_utils.data.datasets import DataError, read_image
from petseg_utils.data.image_files import PICTURES
from petseg_utils.data.labels import BORDER
from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.transforms import Letterbox
from petseg_utils.study import shown


def list_unlabelled(folder: Path, splits: dict[str, PictureSet] | None = None) -> list[Path]:
    """List the pictures of a folder, by their endings, without those that are in a split.

    Parameters
    ----------
    folder : Path
        The folder; its sub-folders are not searched.
    splits : dict, optional
        Picture sets whose names (without ending) are left out.

    Raises
    ------
    DataError
        If no picture is left.
    """
    known = set().union(*(part.table["name"] for part in (splits or {}).values()))
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    paths = [path for path in paths if path.stem not in known and not path.name.startswith(".")]
    if not paths:
        raise DataError(f"No pictures to use in {shown(folder)}.")
    return paths


def files_identity(paths: list[Path]) -> dict:
    """Return the number and fingerprint of some files for a card, from their names and sizes: nothing is decoded."""
    lines = "\n".join(f"{path.name} {path.stat().st_size}" for path in paths)
    return {"n_images": len(paths), "fingerprint": hashlib.sha256(lines.encode()).hexdigest()[:16]}


def read_unlabelled(paths: list[Path], size: int, *, scale: int = 1, progress: bool = True) -> PictureSet:
    """Read and letterbox pictures; all pixels but the padding are border, which losses and scores leave out.

    Parameters
    ----------
    paths : list of Path
        From `list_unlabelled`.  The species is taken from the name: as in the official data, cat breeds begin with a
        capital letter and dog breeds do not.
    size : int
        Edge of the square in pixels.
    scale : int
        2 to read the pictures at twice the size too (``detail``).

    Raises
    ------
    DataError
        If one of them cannot be read.
    """

    def read(path: Path) -> tuple[list[np.ndarray], dict]:
        image = read_image(path)
        height, width = image.shape[:2]
        box = Letterbox(height, width, size)
        breed = path.stem.rpartition("_")[0] or path.stem
        row = {"name": path.stem, "species": 1 if breed[:1].isupper() else 2, "breed": breed, "height": height}
        row |= {"width": width, "content": content_hash(image), "mask": ""}
        squares = [box.image(image), box.label(np.full((height, width), BORDER, np.uint8))]
        return squares if scale == 1 else [*squares, box.image(image, scale)], row

    arrays = [np.empty((len(paths), size, size, 3), np.uint8), np.empty((len(paths), size, size), np.uint8)]
    if scale > 1:
        arrays.append(np.empty((len(paths), scale * size, scale * size, 3), np.uint8))
    rows = []
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        bar = tqdm(pool.map(read, paths), total=len(paths), desc="reading unlabelled", disable=not progress)
        for number, (squares, row) in enumerate(bar):
            for array, square in zip(arrays, squares, strict=True):
                array[number] = square
            rows.append(row)
    images, labels, *detail = arrays
    return PictureSet(pd.DataFrame(rows), images, labels, detail=detail[0] if detail else None)
