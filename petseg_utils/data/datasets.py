"""Reading photos and masks: the two folder layouts, the one internal form of labels, and the splits.

A label is ``uint8 (H, W)``: 0 background, 1 cat, 2 dog, 254 letterbox padding, 255 border.
"""

import codecs
import csv
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from petseg_utils.data.image_files import PICTURES, ImageFileError, read_image_file, upright_rgb
from petseg_utils.data.labels import BORDER, CLASSES
from petseg_utils.study import PetsegError, shown

T = TypeVar("T")

OFFICIAL_COUNTS = {"trainval": 3680, "test": 3669}
_OFFICIAL_TRIMAP = {2: 0, 3: BORDER}  # 1 is the pet, whose species is in the list file
_PALETTE_LABELS = {0: 0, 1: 1, 2: 2, BORDER: BORDER}
_BYTE_ORDER_MARKS = (  # UTF-32 before UTF-16, whose mark is the beginning of UTF-32's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FAULTS = {  # for each fault of a file: the audit's word for it, and the text of the message
    "missing": ("missing", "file is missing"),
    "no access": ("unreadable", "permission denied. Give yourself read access to it"),
    "no image": ("unreadable", "not a picture, or damaged"),
    "other format": ("unreadable", "in the format {}, which is not read"),
    "no reader": ("unreadable", "{}"),
    "too large": ("unreadable", "too large ({})"),
    "too long": ("unreadable", "longer than a million pixels"),
    "no memory": ("unreadable", "needs more memory than there is"),
    "levels": ("unreadable", "levels from {}, and the white level is unknown"),
    "damaged": ("unreadable", "cannot be decoded ({})"),
}


class DataError(PetsegError):
    """Something is wrong with a file or folder of the data; `kind` is the audit's word for what."""

    def __init__(self, message: str, kind: str = "layout"):
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Picture:
    """Where one photo and its mask lie, and what the lists say about it.

    Parameters
    ----------
    name : str
        File name without its ending, such as ``Abyssinian_1``.
    split : str
        ``trainval`` or ``test`` as listed; ``train`` or ``validation`` after `split_validation`.
    species : int
        1 cat, 2 dog; 0 in the split-folder layout, where the mask itself gives the species.
    breed : str
        The name without its number.
    image, mask : Path
        The files of the photo and its mask.
    """

    name: str
    split: str
    species: int
    breed: str
    image: Path
    mask: Path


def find_data(root: Path) -> tuple[Path, str]:
    """Find the data in a folder, and determine its layout.

    Parameters
    ----------
    root : Path
        The data set's folder, or its parent folder, as torchvision makes it.

    Returns
    -------
    (Path, str)
        The folder that holds the data, and its layout, ``"official"`` or ``"split-folders"``.

    Raises
    ------
    DataError
        If the folder is missing, may not be read, or has neither layout.
    """
    root = Path(root)
    try:
        if not root.is_dir():
            raise DataError(
                f"No data folder {root.name!r}. Fetch the official data with `petseg data download`, "
                "or name your folder by PETSEG_DATA or --data."
            )
        for folder in (root, root / "oxford-iiit-pet"):
            if (folder / "annotations" / "trimaps").is_dir() and (folder / "images").is_dir():
                return folder, "official"
            if (folder / "TrainVal" / "color").is_dir() or (folder / "Test" / "color").is_dir():
                return folder, "split-folders"
        entries = ", ".join(sorted(entry.name for entry in root.iterdir())[:6]) or "nothing"
    except PermissionError as error:
        raise DataError(f"Cannot read {root.name!r}: permission denied. Give yourself read access to it.") from error
    raise DataError(
        f"{root.name!r} has a layout that petseg does not know. Looked for images/ with annotations/trimaps/ "
        "(official) and for TrainVal/color or Test/color (split folders), also inside oxford-iiit-pet/; "
        f"found {entries}."
    )


def list_pictures(root: Path, split: str, names: set[str] | None = None) -> list[Picture]:
    """List the pictures of one official split, in the list's order.

    Parameters
    ----------
    root : Path
        See `find_data`.
    split : str
        ``trainval`` or ``test``.
    names : set of str, optional
        Keep only these pictures, for instance the committed list of a study on part of the data.

    Raises
    ------
    DataError
        If a list is missing, unreadable or malformed, or if no picture is left.
    """
    folder, layout = find_data(root)
    listed = _list_official(folder, split) if layout == "official" else _list_split_folders(folder, split)
    pictures = [picture for picture in listed if names is None or picture.name in names]
    if not pictures:
        reason = "no picture is listed" if not listed else "none of its pictures is among the names asked for"
        raise DataError(f"The {split} split of {folder.name!r} is empty: {reason}.", "empty")
    counts = Counter(picture.name for picture in pictures)
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise DataError(f"The {split} split of {folder.name!r} names {repeated[0]!r} more than once.")
    return pictures


def _list_official(folder: Path, split: str) -> list[Picture]:
    path = folder / "annotations" / f"{split}.txt"
    pictures = []
    for place, (number, line, cells) in enumerate(read_list(path)):
        parts = cells if len(cells) > 1 else cells[0].split()
        if place == 0 and not any(part.isdigit() for part in parts):  # a header with names of columns
            continue
        if len(parts) != 4 or parts[2] not in ("1", "2"):
            raise DataError(
                f"{path.name}, line {number}: got {line!r}, expected 'NAME CLASS-ID SPECIES BREED-ID', species 1 or 2."
            )
        name = parts[0]
        if name.startswith("."):  # ._NAME, which macOS keeps beside a file
            continue
        image, mask = folder / "images" / f"{name}.jpg", folder / "annotations" / "trimaps" / f"{name}.png"
        pictures.append(Picture(name, split, int(parts[2]), breed_of(name), image, mask))
    return pictures


def _list_split_folders(folder: Path, split: str) -> list[Picture]:
    part = folder / {"trainval": "TrainVal", "test": "Test"}[split]
    photos = sorted(path for path in (part / "color").glob("[!.]*") if path.suffix.lower() in PICTURES)
    return [
        Picture(path.stem, split, 0, breed_of(path.stem), path, part / "label" / f"{path.stem}.png") for path in photos
    ]


def read_list(path: Path) -> list[tuple[int, str, list[str]]]:
    """Read a list of pictures, written by hand or by a spreadsheet: UTF-8, UTF-16 or UTF-32, cells quoted or not.

    A line's cells are separated by semicolons, tabs or commas: by the first of these, in this order, that it contains.
    Empty lines and those that begin with ``#`` are left out.

    Returns
    -------
    list of (int, str, list of str)
        Each line's number from 1, its text, and its cells.

    Raises
    ------
    DataError
        If there is no such file, it may not be read, or it is not such a text.
    """
    rows = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        mark = next((mark for mark in ";\t," if mark in line), ",")
        try:
            cells = [cell.strip() for row in csv.reader([line], delimiter=mark, skipinitialspace=True) for cell in row]
        except csv.Error as error:
            raise DataError(f"{shown(path)}, line {number}, is not a valid line of a list ({error}).") from error
        while cells and not cells[-1]:  # a spreadsheet fills short lines up with empty cells
            cells.pop()
        if cells and not cells[0].startswith("#"):
            rows.append((number, line, cells))
    return rows


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(4)
        encoding = next((name for mark, name in _BYTE_ORDER_MARKS if start.startswith(mark)), "utf-8")
        text = path.read_text(encoding=encoding)
        if "\0" in text:
            raise DataError(f"{shown(path)} is not UTF-8 text: save it as UTF-8.")
        return text
    except FileNotFoundError as error:
        raise DataError(
            f"No list {shown(path)}: the official data set has annotations/{path.name}.", "empty"
        ) from error
    except PermissionError as error:
        raise DataError(
            f"Cannot read {shown(path)}: permission denied. Give yourself read access to it.", "unreadable"
        ) from error
    except UnicodeError as error:
        raise DataError(f"{shown(path)} is not UTF-8 text ({getattr(error, 'reason', error)}).") from error


def breed_of(name: str) -> str:
    """Return a picture's breed: ``great_pyrenees_12`` gives ``great_pyrenees``; a name without a number is kept."""
    stem, _, number = name.rpartition("_")
    return stem if stem and number.isdigit() else name


def split_validation(pictures: list[Picture], share: float) -> tuple[list[Picture], list[Picture]]:
    """Split trainval pictures into train and validation, breed by breed, in the same way on every machine.

    Pictures are ordered by breed, and within a breed by the hashes of their names; along this list, every
    ``1 / share``-th picture goes to validation.  So each breed gives its share, and small breeds take turns.  If a set
    is so small that this would hold out no picture, the last one is held out.

    Parameters
    ----------
    share : float
        Fraction that goes to validation, 0 to 1.

    Returns
    -------
    (list of Picture, list of Picture)
        Train and validation.

    Raises
    ------
    DataError
        If there are fewer than two pictures, or the share leaves none to train on.
    """
    ordered = sorted(pictures, key=lambda picture: (picture.breed, hashlib.sha256(picture.name.encode()).digest()))
    train: list[Picture] = []
    validation: list[Picture] = []
    for position, picture in enumerate(ordered):
        held_out = int((position + 1) * share) > int(position * share)
        (validation if held_out else train).append(replace(picture, split="validation" if held_out else "train"))
    if not validation and len(train) > 1:
        validation.append(replace(train.pop(), split="validation"))
    if not train or not validation:
        raise DataError(
            f"{len(pictures)} labelled pictures are too few to hold out a share of {share:g} for validation: add some."
        )
    return train, validation


def read_image(path: Path) -> np.ndarray:
    """Read a photo upright.

    Returns
    -------
    ndarray
        ``uint8 (H, W, 3)``; see `image_files.upright_rgb`.  Colours are taken as they are stored, whatever profile the
        file names, as others do who score models on such data: so their scores and ours are of the same pixels.

    Raises
    ------
    DataError
        If the file is missing, unreadable, truncated or not a picture.
    """
    return _read(path, partial(upright_rgb, by_profile=False))


def read_label(picture: Picture) -> np.ndarray:
    """Read a picture's mask as a label.

    Official trimaps hold 1 pet, 2 background, 3 border, and the species comes from the list file.  Split-folder masks
    hold palette indices 0 background, 1 cat, 2 dog, 255 border: the index counts, not the grey level of its colour.

    Returns
    -------
    ndarray
        ``uint8 (H, W)`` of 0, 1, 2 and 255.

    Raises
    ------
    DataError
        If the file is missing or unreadable, is not a single-channel picture, or holds unknown values.
    """
    mode, values = _read(picture.mask, lambda mask: (mask.mode, np.asarray(mask)))
    if mode not in ("L", "P", "1", "I", "I;16"):
        raise DataError(f"{shown(picture.mask)}: a mask must have one channel, this one is {mode}.", "mask values")
    values = values.astype(np.int64)  # a 1-bit mask would index the lookup table as booleans do
    meaning = {1: picture.species} | _OFFICIAL_TRIMAP if picture.species else _PALETTE_LABELS
    unknown = sorted(set(np.unique(values).tolist()) - set(meaning))
    if unknown:
        kind = "trimap values are 1, 2, 3" if picture.species else "label values are 0, 1, 2, 255"
        raise DataError(f"{shown(picture.mask)}: unknown mask values {unknown[:5]}; {kind}.", "mask values")
    lookup = np.zeros(256, np.uint8)
    lookup[list(meaning)] = list(meaning.values())
    return lookup[values]


def read_pair(picture: Picture) -> tuple[np.ndarray, np.ndarray]:
    """Read a photo ``uint8 (H, W, 3)`` with its label ``uint8 (H, W)``.

    Raises
    ------
    DataError
        As from `read_image` and `read_label`, and if the two differ in size.
    """
    image, label = read_image(picture.image), read_label(picture)
    if image.shape[:2] != label.shape:
        height, width = image.shape[:2]
        message = f"mask is {label.shape[1]} x {label.shape[0]}, its photo {width} x {height} pixels"
        raise DataError(f"{shown(picture.mask)}: {message}.", "size differs")
    return image, label


def _read(path: Path, reading: Callable[[Image.Image], T]) -> T:
    try:
        return read_image_file(path, reading)
    except ImageFileError as error:
        kind, message = _FAULTS[error.fault]
        raise DataError(f"{shown(path)}: {message.format(error.detail)}.", kind) from error


def species_of(label: np.ndarray) -> int:
    """Return a label's species: the pet class with most pixels, or 0 if there is none."""
    counts = np.bincount(label.ravel(), minlength=256)[1 : len(CLASSES)]
    return int(counts.argmax()) + 1 if counts.any() else 0
