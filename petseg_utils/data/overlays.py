"""A label laid over its picture, each class in its colour."""

import numpy as np
from PIL import ImageColor

from petseg_utils.data.labels import BORDER, CLASS_COLOURS, PADDING


def overlay(image: np.ndarray, label: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Picture ``uint8 (H, W, 3)`` with its label ``uint8 (H, W)`` laid over: cat, dog and border in their colours."""
    out = image.astype(float)
    for value, name in ((1, "cat"), (2, "dog"), (BORDER, "border")):
        colour = np.array(ImageColor.getrgb(CLASS_COLOURS[name]))
        out[label == value] = (1 - opacity) * out[label == value] + opacity * colour
    out[label == PADDING] = 255  # padding carries no meaning: let it vanish into the page
    return out.round().astype(np.uint8)
