"""What people take away from a photo: the mask and the cut-out, as files."""

import io

import numpy as np
from PIL import Image

from petseg_utils.segmenter import OpenPhoto


def cut_out(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A photo where it is selected, RGBA ``uint8 (H, W, 4)``, for its mask ``bool (H, W)``.

    Elsewhere it is transparent, and black underneath: what was cut away is gone, not only hidden, and takes no room.
    """
    return np.dstack([image * mask[..., None], np.where(mask, np.uint8(255), np.uint8(0))])


def result_png(photo: OpenPhoto, what: str) -> bytes:
    """The ``mask`` (0 and 255) or the ``cut-out`` of an open photo, as a PNG file of the photo's own size."""
    mask = photo.mask
    pixels = np.where(mask, np.uint8(255), np.uint8(0)) if what == "mask" else cut_out(photo.image, mask)
    return encoded(pixels, "PNG", compress_level=1)


def encoded(picture: Image.Image | np.ndarray, kind: str, **options: int) -> bytes:
    """A picture as the bytes of a file of a kind, such as ``"PNG"``; `options` are Pillow's."""
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, kind, **options)
    return buffer.getvalue()
