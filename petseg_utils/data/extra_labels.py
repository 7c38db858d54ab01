"""Further labelled pictures, from other sources, for training the weights that ship."""

import functools
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from petseg_utils.data.datasets import DataError, list_pictures, split_validation
from petseg_utils.data.labels import BORDER, PADDING
from petseg_utils.data.pictures import PictureSet, decode, join
from petseg_utils.study import Study

BAND = 5  # width in model pixels of the border that is added where a source has none


def read_extra(folders: list[Path], study: Study, *, progress: bool = True) -> dict[str, PictureSet]:
    """Read the ``trainval`` pictures of folders in a known layout, split into ``train`` and ``validation``.

    Masks drawn as polygons have hard edges that are not the animal's.  Where a training mask has no border, a narrow
    band along its edges becomes border.  Validation masks stay as they are, as in every test.

    Parameters
    ----------
    folders : list of Path
        See `datasets.find_data`; no two may hold a picture of the same name.
    study : Study
        Sets the size of the pictures, and the share held out for validation.

    Raises
    ------
    DataError
        As from `pictures.decode`.
    """
    parts = [_read_banded(folder, study, progress) for folder in folders]
    return {split: functools.reduce(join, [part[split] for part in parts]) for split in ("train", "validation")}


def check_extra(extra: dict[str, PictureSet], splits: dict[str, PictureSet]) -> None:
    """Raise `DataError` if a further picture is one of the study's own, under whatever name.

    Training on it twice would change its weight; training on a test picture would inflate the scores.
    """
    own = {
        content: (name, split)
        for split, pictures in splits.items()
        for name, content in pictures.table[["name", "content"]].itertuples(index=False)
    }
    for pictures in extra.values():
        for name, content in pictures.table[["name", "content"]].itertuples(index=False):
            if content in own:
                twin, split = own[content]
                raise DataError(
                    f"The further picture {name} is the same as {twin} of the study's own data (split {split}): "
                    "take it out of the folder that --extra names, or leave out that folder."
                )


def _read_banded(folder: Path, study: Study, progress: bool) -> dict[str, PictureSet]:
    listed = list_pictures(folder, "trainval")
    pictures = decode(listed, study.image_size, study.cache_dir, scale=study.picture_scale, progress=progress)
    labels = np.array(pictures.labels)
    for label in labels:
        if not (label == BORDER).any():
            pet = ((label == 1) | (label == 2)).astype(np.uint8)
            edge = cv2.morphologyEx(pet, cv2.MORPH_GRADIENT, np.ones((BAND, BAND), np.uint8)) > 0
            label[edge & (label != PADDING)] = BORDER
    banded = replace(pictures, labels=labels)
    train, validation = split_validation(listed, study.validation_share)
    return {
        "train": banded.subset([picture.name for picture in train]),
        "validation": pictures.subset([picture.name for picture in validation]),
    }
