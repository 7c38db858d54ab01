"""What the training loop draws from: augmented pictures, or pictures with cached features."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from petseg_utils.features import Features, JoinedFeatures
from petseg_utils.pictures import PictureSet
from petseg_utils.transforms import make_augmentation


class TrainingPictures(Dataset):
    """Augmented pictures; each is a function of (seed, epoch, index) alone, so a resumed run sees the same ones.

    Parameters
    ----------
    pictures : PictureSet
        The training split.
    seed : int
        The run's seed.
    """

    def __init__(self, pictures: PictureSet, seed: int):
        self.pictures = pictures
        self.seed = seed
        self.epoch = 0
        self.augment = make_augmentation()

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``image`` ``uint8 (3, H, W)`` and ``label`` ``uint8 (H, W)``."""
        self.augment.set_random_seed((self.seed * 1_000 + self.epoch) * 100_000 + index)
        out = self.augment(image=self.pictures.images[index], mask=self.pictures.labels[index])
        return {
            "image": torch.from_numpy(out["image"]).permute(2, 0, 1).contiguous(),
            "label": torch.from_numpy(out["mask"]),
        }


class CachedPictures(Dataset):
    """Pictures with the cached feature maps of a frozen encoder, at random as they are or mirrored.

    Which of the two is a function of (seed, epoch, index) alone, so a resumed run sees the same ones.

    Parameters
    ----------
    pictures : PictureSet
        The training split.
    features : Features or JoinedFeatures
        Of the same pictures.
    seed : int
        The run's seed.
    """

    def __init__(self, pictures: PictureSet, features: Features | JoinedFeatures, seed: int):
        self.pictures = pictures
        self.features = features
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> dict[str, Tensor | list[Tensor]]:
        """``image`` ``uint8 (3, H, W)``, ``label`` ``uint8 (H, W)``, ``maps`` float ``(C, h, w)`` each."""
        mirrored = int(np.random.default_rng([self.seed, self.epoch, index]).integers(2))
        step = -1 if mirrored else 1
        image, label = self.pictures.images[index][:, ::step], self.pictures.labels[index][:, ::step]
        return {
            "image": torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C")),
            "label": torch.from_numpy(np.array(label, order="C")),
            "maps": self.features.read(index, mirrored),
        }
