"""What the training loop draws from: pictures that are varied, or mirrored pictures with their cached features."""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from petseg_utils.data.labels import PADDING
from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.transforms import make_augmentation
from petseg_utils.models.feature_cache import Features, JoinedFeatures
from petseg_utils.study import TrainingSettings

Key = tuple[int, int, int]  # seed, epoch, and the example's place in the epoch
Make = Callable[[PictureSet, int, Key], dict]


class TrainingPictures(Dataset):
    """Training examples; each is a function of (seed, epoch, index) alone, so a resumed run sees the same ones.

    Parameters
    ----------
    pictures : PictureSet
        The training split.
    seed : int
        The run's seed.
    make : callable
        ``make(pictures, row, key)``: one example as a dict, ``image`` ``uint8 (3, H, W)`` and ``label`` ``uint8 (H,
        W)`` among its entries.  `augmented` by default.
    length : int, optional
        Examples an epoch; the pictures are repeated until there are as many.  One each by default.
    """

    def __init__(self, pictures: PictureSet, seed: int, make: Make | None = None, length: int | None = None):
        self.pictures = pictures
        self.seed = seed
        self.make = make or augmented()
        self.length = length or len(pictures)
        self.epoch = 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        """The example at a place of the present epoch."""
        return self.make(self.pictures, index % len(self.pictures), (self.seed, self.epoch, index))


def augmented(settings: TrainingSettings | None = None, scale: int = 1) -> Make:
    """Examples that are mirrored, moved, scaled and tinted at random; see `data.transforms.make_augmentation`.

    Parameters
    ----------
    settings : TrainingSettings, optional
        How far they vary, and how many are mosaics of four pictures or show no pet; by default little, and none.
    scale : int
        How many times larger than their labels the pictures come, 1 or 2.
    """
    augment = make_augmentation(settings.scales, settings.shift) if settings else make_augmentation()
    mosaics, empty = (settings.mosaic, settings.background) if settings else (0.0, 0.0)

    def varied(pictures: PictureSet, row: int, *, without_pet: bool = False) -> tuple[np.ndarray, np.ndarray]:
        image = pictures.at(scale)[row]
        label = np.asarray(pictures.labels[row]).repeat(scale, 0).repeat(scale, 1)
        if without_pet:
            image, label = largest_empty_part(image, label)
        both = augment(image=image, mask=label)
        return both["image"], both["mask"]

    def make(pictures: PictureSet, row: int, key: Key) -> dict[str, Tensor]:
        seed, epoch, index = key
        augment.set_random_seed((seed * 1_000 + epoch) * 100_000 + index)
        rng = np.random.default_rng(key)
        kind = rng.random()
        if kind < mosaics:
            rows = [row, *rng.integers(len(pictures), size=3).tolist()]
            image, label = mosaic([varied(pictures, other) for other in rows], rng)
        else:
            image, label = varied(pictures, row, without_pet=kind < mosaics + empty)
        return as_example(image, label[::scale, ::scale])

    return make


def mosaic(parts: list[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Four pictures with their labels in one, squeezed into the quarters around a random point.

    References
    ----------
    Bochkovskiy, Wang, Liao: "YOLOv4", 2020, arXiv:2004.10934.
    """
    image, label = (np.empty_like(array) for array in parts[0])
    size = len(label)
    y, x = (int(place) for place in rng.integers(2 * size // 7, 5 * size // 7, 2))
    corners = [(rows, columns) for rows in (slice(0, y), slice(y, size)) for columns in (slice(0, x), slice(x, size))]
    for (rows, columns), (part, part_label) in zip(corners, parts, strict=True):
        shape = (columns.stop - columns.start, rows.stop - rows.start)
        image[rows, columns] = cv2.resize(part, shape, interpolation=cv2.INTER_AREA)
        label[rows, columns] = cv2.resize(part_label, shape, interpolation=cv2.INTER_NEAREST)
    return image, label


def largest_empty_part(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest part of a picture beside its pet, enlarged to the picture's size; all of it where that is tiny.

    The part lies above, below, left or right of the pet and its border.
    """
    ys, xs = np.nonzero((label != 0) & (label != PADDING))
    known = np.nonzero(label != PADDING)
    if not len(ys) or not len(known[0]):
        return image, label
    top, bottom, left, right = known[0].min(), known[0].max() + 1, known[1].min(), known[1].max() + 1
    windows = [
        (slice(top, ys.min()), slice(left, right)),
        (slice(ys.max() + 1, bottom), slice(left, right)),
        (slice(top, bottom), slice(left, xs.min())),
        (slice(top, bottom), slice(xs.max() + 1, right)),
    ]
    rows, columns = max(windows, key=lambda window: min(side.stop - side.start for side in window))
    if min(rows.stop - rows.start, columns.stop - columns.start) < len(label) // 8:
        return image, label
    shape = label.shape[::-1]
    part = cv2.resize(np.ascontiguousarray(image[rows, columns]), shape, interpolation=cv2.INTER_LINEAR)
    return part, cv2.resize(np.ascontiguousarray(label[rows, columns]), shape, interpolation=cv2.INTER_NEAREST)


def mirrored(features: Features | JoinedFeatures) -> Make:
    """Examples with the cached feature maps of their pictures (``maps``), at random as they are or mirrored."""

    def make(pictures: PictureSet, row: int, key: Key) -> dict[str, Tensor | list[Tensor]]:
        side = int(np.random.default_rng(key).integers(2))
        step = -1 if side else 1
        image, label = pictures.images[row][:, ::step], pictures.labels[row][:, ::step]
        return as_example(image, label) | {"maps": features.read(row, side)}

    return make


def as_example(image: np.ndarray, label: np.ndarray) -> dict[str, Tensor]:
    """Picture ``uint8 (H, W, 3)`` and label ``uint8 (H, W)`` as the tensors of one example."""
    return {
        "image": torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C")),
        "label": torch.from_numpy(np.array(label, order="C")),
    }
