"""Pictures without masks, and masks that a trained model proposes for them."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from petseg_utils.audit import content_hash
from petseg_utils.datasets import DataError, read_image
from petseg_utils.features import Features
from petseg_utils.metrics import BORDER, PADDING
from petseg_utils.pictures import PictureSet
from petseg_utils.study import shown
from petseg_utils.transforms import Letterbox

BATCH = 16
SURE = 0.85  # a pixel whose pet probability lies between this and 1 less this gets no label

FOUND = 0.01  # share of a picture below which its pet was not found


def unlabelled_folder() -> Path | None:
    """The folder that ``PETSEG_UNLABELLED`` names; None if it names none.

    Raises
    ------
    DataError
        If there is no such folder.
    """
    name = os.environ.get("PETSEG_UNLABELLED")
    if not name:
        return None
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise DataError(f"PETSEG_UNLABELLED names no folder: {folder.name!r}.")
    return folder


def read_unlabelled(folder: Path, size: int, *, leave_out: set[str] = frozenset(), progress: bool = True) -> PictureSet:
    """Letterbox every picture of a folder; all pixels but the padding count as border, which no loss or score counts.

    Parameters
    ----------
    folder : Path
        JPEG or PNG files.  In the official data's names cat breeds begin with a capital, dog breeds do not; the
        species is taken from there.
    size : int
        Edge of the square.
    leave_out : set of str
        Names (without ending) that must not be among them, such as those of the validation and test splits.
    progress : bool
        Show a progress bar.

    Raises
    ------
    DataError
        If no picture is left, or one cannot be read.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    paths = [path for path in paths if path.stem not in leave_out]
    if not paths:
        raise DataError(f"No pictures to use in {shown(folder)}.")

    def read(path: Path) -> tuple[np.ndarray, np.ndarray, dict]:
        image = read_image(path)
        height, width = image.shape[:2]
        box = Letterbox(height, width, size)
        breed = path.stem.rpartition("_")[0] or path.stem
        row = {"name": path.stem, "species": 1 if breed[:1].isupper() else 2, "breed": breed, "height": height}
        row |= {"width": width, "content": content_hash(image), "mask": ""}
        return box.image(image), box.label(np.full((height, width), BORDER, np.uint8)), row

    images = np.empty((len(paths), size, size, 3), np.uint8)
    labels, rows = np.empty((len(paths), size, size), np.uint8), []
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        bar = tqdm(pool.map(read, paths), total=len(paths), desc="reading unlabelled", disable=not progress)
        for number, (image, label, row) in enumerate(bar):
            images[number], labels[number] = image, label
            rows.append(row)
    return PictureSet(pd.DataFrame(rows), images, labels)


@torch.inference_mode()
def propose_masks(
    teachers: list[nn.Module], pictures: PictureSet, features: Features | None = None, *, progress: bool = True
) -> PictureSet:
    """Masks by trained models, for pictures whose species is known.

    They say where the pet is, averaged over the models, the picture and its mirror image; the name says what it is.
    Pixels that they are not sure of stay without a label.

    Parameters
    ----------
    teachers : list of nn.Module
        Each gives logits ``(N, 3, H, W)`` for pixel values ``(N, 3, H, W)`` in 0..255.
    pictures : PictureSet
        From `read_unlabelled`.
    features : Features, optional
        Of the same pictures, for models on a frozen encoder.
    progress : bool
        Show a progress bar.

    Returns
    -------
    PictureSet
        The pictures with the masks proposed; where no pet was found, none: all of it stays without a label.

    References
    ----------
    Lee: "Pseudo-Label", ICML workshop 2013.  Xie et al.: "Self-training with Noisy Student", CVPR 2020,
    arXiv:1911.04252.
    """
    device = next(teachers[0].parameters()).device
    labels = np.array(pictures.labels)
    for start in tqdm(range(0, len(pictures), BATCH), desc="proposing masks", disable=not progress):
        part = slice(start, start + BATCH)
        images = torch.from_numpy(np.array(pictures.images[part])).permute(0, 3, 1, 2).to(device).float()
        own, other = ([[one.to(device) for one in features.read(part, side)]] if features else [] for side in (0, 1))
        pairs = [(one(images, *own), one(images.flip(-1), *other).flip(-1)) for one in teachers]
        background = torch.stack([logits.softmax(1)[:, 0] for pair in pairs for logits in pair]).mean(0)
        chance = 1 - background.cpu().numpy()
        species = pictures.table["species"].to_numpy()[part, None, None]
        proposed = np.where(chance > SURE, species, np.where(chance < 1 - SURE, 0, BORDER))
        labels[part] = np.where(labels[part] == PADDING, PADDING, proposed)
    nothing = np.isin(labels, (1, 2)).mean((1, 2)) < FOUND
    labels[nothing] = pictures.labels[nothing]
    return replace(pictures, table=pictures.table.assign(mask=[content_hash(label) for label in labels]), labels=labels)


def join(first: PictureSet, second: PictureSet) -> PictureSet:
    """Both sets' pictures in one, in memory; their names must differ."""
    table = pd.concat([first.table, second.table], ignore_index=True)
    if not table["name"].is_unique:
        raise ValueError("a picture is in both sets")
    images, labels = np.concatenate([first.images, second.images]), np.concatenate([first.labels, second.labels])
    return PictureSet(table, images, labels, first.skipped + second.skipped)
