"""How well an autoencoder reconstructs pictures."""

import numpy as np
import torch
from torch import nn

from petseg_utils.data.labels import PADDING
from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.tensors import batches_of


@torch.inference_mode()
def reconstruct(model: nn.Module, pictures: PictureSet) -> np.ndarray:
    """Return the reconstructions of a picture set, ``uint8 (n, size, size, 3)``."""
    painted = []
    model.eval()
    for _, images in batches_of(pictures, model):
        painted.append(model(images).float().clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu())
    return torch.cat(painted).numpy()


def psnr(pictures: PictureSet, painted: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio of each reconstruction outside the padding, ``float (n,)`` in decibels.

    Higher is better: ten decibels more mean a tenth of the mean squared error.
    """
    counted = (pictures.labels != PADDING)[..., None]
    error = np.square((painted.astype(np.float32) - pictures.images) / 255) * counted
    return -10 * np.log10(error.sum((1, 2, 3)) / (3 * counted.sum((1, 2, 3))))
