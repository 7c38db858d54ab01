"""Pictures overlaid with their labels, each class in its colour."""

import cv2
import numpy as np
from PIL import ImageColor

from petseg_utils.data.labels import BORDER, CLASS_COLOURS, PADDING


def overlay(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Tint a picture ``uint8 (H, W, 3)`` by half where its label ``uint8 (H, W)`` says cat, dog or border."""
    out = image.copy()
    for value, name in ((1, "cat"), (2, "dog"), (BORDER, "border")):
        covered = label == value
        if covered.any():
            levels = np.arange(256, dtype=np.float32)[:, None]
            tinted = np.rint((levels + ImageColor.getrgb(CLASS_COLOURS[name])) / 2).astype(np.uint8)  # of each level
            cv2.copyTo(cv2.LUT(image, tinted[None]), covered.astype(np.uint8), out)
    out[label == PADDING] = 255  # padding has no meaning: white, it disappears into the page
    return out
