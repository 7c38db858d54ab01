"""Photo in, mask out, at the photo's own size."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from petseg_utils.datasets import read_image
from petseg_utils.models import find_checkpoint, load
from petseg_utils.transforms import Letterbox


@dataclass(frozen=True)
class Segmenter:
    """A trained model that takes photos of any size.

    Parameters
    ----------
    model : nn.Module
        Takes pixel values ``(1, 3, size, size)`` in 0..255 and gives logits ``(1, 3, size, size)``.
    card : dict
        The checkpoint's card; says what the model was trained on.
    """

    model: nn.Module
    card: dict

    @classmethod
    def load(cls, model: str = "unet", weights: Path | None = None) -> "Segmenter":
        """Load the weights that ship for a model, or a checkpoint of your own.

        Raises
        ------
        PetsegError
            If no weights ship for this model, or the file is missing or damaged.
        """
        return cls(*load(weights or find_checkpoint(model, None)))

    @torch.inference_mode()
    def predict(self, photo: Path | np.ndarray) -> np.ndarray:
        """Segment a photo.

        Parameters
        ----------
        photo : Path or ndarray
            A picture file, or RGB ``uint8 (H, W, 3)``.

        Returns
        -------
        ndarray
            ``uint8 (H, W)`` at the photo's own (upright) size: 0 background, 1 cat, 2 dog.

        Raises
        ------
        DataError
            If the file cannot be read as a picture.
        """
        image = photo if isinstance(photo, np.ndarray) else read_image(photo)
        box = Letterbox(*image.shape[:2], self.card["image_size"])
        device = next(self.model.parameters()).device
        square = torch.from_numpy(box.image(image)).permute(2, 0, 1)[None].to(device).float()
        return box.invert(self.model(square)[0].argmax(0).to(torch.uint8).cpu().numpy())
