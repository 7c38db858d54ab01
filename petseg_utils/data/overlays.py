"""Pictures overlaid with their labels, each class in its colour."""

import numpy as np
from PIL import ImageColor

from petseg_utils.data.labels import BORDER, CLASS_COLOURS, PADDING


def overlay(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Tint a picture ``uint8 (H, W, 3)`` by half where its label ``uint8 (H, W)`` says cat, dog or border."""
    out = image.copy()
    for value, name in ((1, "cat"), (2, "dog"), (BORDER, "border")):
        covered = label == value
        out[covered] = np.rint((out[covered] + np.array(ImageColor.getrgb(CLASS_COLOURS[name]), np.float32)) / 2)
    out[label == PADDING] = 255  # padding has no meaning: white, it disappears into the page
    return out
