"""A label laid over its picture, each class in its colour."""

import numpy as np
from PIL import ImageColor

from petseg_utils.data.labels import BORDER, CLASS_COLOURS, PADDING


def overlay(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Picture ``uint8 (H, W, 3)`` half covered by its label ``uint8 (H, W)``: cat, dog and border in their colours."""
    out = image.copy()
    for value, name in ((1, "cat"), (2, "dog"), (BORDER, "border")):
        covered = label == value
        out[covered] = np.rint((out[covered] + np.array(ImageColor.getrgb(CLASS_COLOURS[name]), np.float32)) / 2)
    out[label == PADDING] = 255  # padding carries no meaning: let it vanish into the page
    return out
