"""Example photos to start with, and what people save of a photo: mask, cut-out and COCO's JSON, as files."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from petseg_utils.apps.mask_formats import coco_file
from petseg_utils.data.labels import CLASSES
from petseg_utils.models.matting import own_colours
from petseg_utils.segmenter import Selection, read_photo

# A photo by Stéfan van der Walt (CC0), and two drawn pets.
EXAMPLES = {name: Path(__file__).parent / "example_photos" / f"{name}.png" for name in ("Chelsea", "cat", "dog")}


def example_photo() -> np.ndarray:
    """Return the photo of the cat Chelsea, RGB ``uint8 (300, 451, 3)``."""
    return read_photo(EXAMPLES["Chelsea"])


def cut_out(image: np.ndarray, alpha: np.ndarray, size: int) -> np.ndarray:
    """Return the selected part of a photo, RGBA ``uint8 (H, W, 4)``.

    Along a soft edge, the colours of the old background are removed.  Where nothing is selected, the result is
    transparent, and black underneath: what was cut away is gone, not only hidden, and takes no space.

    Parameters
    ----------
    image : ndarray
        The photo, RGB ``uint8 (H, W, 3)``.
    alpha : ndarray
        How much of each pixel is selected, ``uint8 (H, W)``; see `segmenter.OpenPhoto.alpha`.
    size : int
        Edge length of the model's square in model pixels.
    """
    colours = own_colours(image, alpha, max(alpha.shape) / size)
    kept = cv2.bitwise_and(colours, colours, mask=alpha)  # black where alpha is 0
    return cv2.merge([*cv2.split(kept), alpha])


def result_png(image: np.ndarray, selection: Selection, what: str) -> bytes:
    """Return the ``mask`` (0 and 255) or ``cut-out`` of a photo ``uint8 (H, W, 3)`` as a PNG file, at its own size."""
    alpha = selection.alpha(image)
    if what == "cut-out":
        pixels = cut_out(image, alpha, selection.box.size)
    else:
        pixels = np.where(alpha > 127, np.uint8(255), np.uint8(0))
    return encoded(pixels, "PNG", compress_level=1)


def result_file(image: np.ndarray, selection: Selection, label: str, name: str, what: str) -> tuple[str, bytes]:
    """Return the name and the content of a file that somebody saves of a photo.

    Parameters
    ----------
    image : ndarray
        The photo, RGB ``uint8 (H, W, 3)``.
    label : str
        See `OpenPhoto.label`.
    what : str
        ``mask`` or ``cut-out``, see `result_png`, or ``COCO``, a JSON file; see `mask_formats.coco`.
    """
    stem = Path(name).stem[:60]  # a file's name may have at most 255 bytes, and a character up to four
    if what != "COCO":
        return f"{stem}_{what}.png", result_png(image, selection, what)
    value = CLASSES.index(label) or len(CLASSES)  # if the background was selected, the number after the last class
    return f"{stem}_coco.json", coco_file(name, (selection.alpha(image) > 127) * np.uint8(value))


def encoded(picture: Image.Image | np.ndarray, kind: str, **options: int) -> bytes:
    """Return a picture as the bytes of a file of a kind, such as ``"PNG"``; `options` are Pillow's."""
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, kind, **options)
    return buffer.getvalue()
