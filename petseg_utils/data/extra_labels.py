"""Further labelled pictures, from another source, to train the weights that ship."""

from pathlib import Path

import cv2
import numpy as np

from petseg_utils.data.datasets import list_pictures
from petseg_utils.data.labels import BORDER, PADDING
from petseg_utils.data.pictures import PictureSet, decode

BAND = 5  # model pixels: how wide a border is left undecided where a source has none


def read_extra(folder: Path, size: int, cache: Path, *, progress: bool = True) -> PictureSet:
    """The ``trainval`` pictures of a folder in one of the known layouts.

    Masks that were drawn as polygons end in hard edges that are not the animal's.  Where a mask has no border, a narrow
    band along its edges becomes one, so that nothing is learned from it.

    Parameters
    ----------
    folder : Path
        See `datasets.find_data`.
    size : int
        Edge of the letterboxed square.
    cache : Path
        Folder of all caches; a study's is ``study.cache_dir``.
    progress : bool
        Show a progress bar.

    Raises
    ------
    DataError
        As `pictures.decode`.
    """
    pictures = decode(list_pictures(folder, "trainval"), size, cache, progress=progress)
    labels = np.array(pictures.labels)
    for label in labels:
        if not (label == BORDER).any():
            pet = ((label == 1) | (label == 2)).astype(np.uint8)
            edge = cv2.morphologyEx(pet, cv2.MORPH_GRADIENT, np.ones((BAND, BAND), np.uint8)) > 0
            label[edge & (label != PADDING)] = BORDER
    return PictureSet(pictures.table, np.array(pictures.images), labels, pictures.skipped)
