"""Pictures and labels as tensors."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from petseg_utils.data.labels import PADDING
from petseg_utils.data.pictures import PictureSet

BATCH = 16  # pictures that go through a network together where nothing is trained
IGNORED = -100  # cross-entropy's index for pixels that carry no loss


def to_tensor(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Pictures ``uint8 (N, H, W, 3)`` as models take them, ``float (N, 3, H, W)`` in 0..255."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(device).float()


def input_scale(model: object) -> int:
    """How many times larger than its masks a network wants its pictures: 1 unless its frozen encoder says 2."""
    return getattr(model, "scale", 1)


def batches_of(
    pictures: PictureSet, model: nn.Module, *, doing: str = "", progress: bool = False
) -> Iterator[tuple[slice, Tensor]]:
    """Which rows, and their pictures by `to_tensor` at the size and on the device of a network, `BATCH` at a time.

    A progress bar says what is done with them.
    """
    device = next(model.parameters()).device
    for start in tqdm(range(0, len(pictures), BATCH), desc=doing, disable=not progress):
        rows = slice(start, min(start + BATCH, len(pictures)))
        yield rows, to_tensor(pictures.at(input_scale(model))[rows], device)


def class_targets(labels: Tensor) -> Tensor:
    """Labels as cross-entropy wants them: ``int64``, border and padding turned into -100."""
    return labels.long().masked_fill(labels >= PADDING, IGNORED)
