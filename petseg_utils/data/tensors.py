"""Pictures and labels as tensors."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from petseg_utils.data.labels import PADDING
from petseg_utils.data.pictures import PictureSet

BATCH = 16  # pictures per batch where nothing is trained
IGNORED = -100  # cross-entropy's index for pixels that do not count in the loss


def to_tensor(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Convert pictures ``uint8 (N, H, W, 3)`` to the form that models take, ``float (N, 3, H, W)`` in 0..255."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(device).float()


def input_scale(model: object) -> int:
    """Return how many times as large as its masks a network's pictures must be: 1 unless its frozen encoder says 2."""
    return getattr(model, "scale", 1)


def batches_of(
    pictures: PictureSet, model: nn.Module, *, doing: str = "", progress: bool = False
) -> Iterator[tuple[slice, Tensor]]:
    """Yield the rows of `BATCH` pictures at a time, and the pictures as tensors of a network's input size and device.

    The text `doing` labels the progress bar.
    """
    device = next(model.parameters()).device
    for start in tqdm(range(0, len(pictures), BATCH), desc=doing, disable=not progress):
        rows = slice(start, min(start + BATCH, len(pictures)))
        yield rows, to_tensor(pictures.at(input_scale(model))[rows], device)


def class_targets(labels: Tensor) -> Tensor:
    """Convert labels to targets for cross-entropy: ``int64``, with border and padding as -100."""
    return labels.long().masked_fill(labels >= PADDING, IGNORED)
