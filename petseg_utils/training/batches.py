"""What the training loop draws from: pictures that are varied, or mirrored pictures with their cached features."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.transforms import make_augmentation
from petseg_utils.models.feature_cache import Features, JoinedFeatures

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


def augmented() -> Make:
    """Examples that are mirrored, moved, scaled and tinted at random; see `data.transforms.make_augmentation`."""
    augment = make_augmentation()

    def make(pictures: PictureSet, row: int, key: Key) -> dict[str, Tensor]:
        seed, epoch, index = key
        augment.set_random_seed((seed * 1_000 + epoch) * 100_000 + index)
        varied = augment(image=pictures.images[row], mask=pictures.labels[row])
        return as_example(varied["image"], varied["mask"])

    return make


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
