"""Reading an image file: the one way in for photos and masks, and all that can be wrong with the file."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

T = TypeVar("T")


class ImageFileError(Exception):
    """An image file that cannot be used.

    Parameters
    ----------
    fault : str
        ``missing``, ``no access``, ``no image``, ``other format``, ``too large`` or ``damaged``.
    detail : str
        What Pillow says of it, or the name of its format.
    """

    def __init__(self, fault: str, detail: str = ""):
        super().__init__(f"{fault}: {detail}" if detail else fault)
        self.fault, self.detail = fault, detail


def upright_rgb(image: Image.Image) -> np.ndarray:
    """An image's pixels, ``uint8 (H, W, 3)``.

    EXIF orientation is applied, transparency is laid on white, and grey, palette and CMYK images become RGB.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # convert("RGB") would clip 16-bit grey levels to 255 instead of scaling them
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def read_image_file(
    path: Path,
    reading: Callable[[Image.Image], T],
    *,
    formats: Collection[str] | None = None,
    max_pixels: int | None = None,
) -> T:
    """Open and decode an image file.

    Format and size are looked up in the file's header, before anything is decoded.

    Parameters
    ----------
    path : Path
        The file.
    reading : callable
        Makes the result of the decoded image, as `upright_rgb` does.
    formats : collection of str, optional
        Pillow's names of the formats that are allowed, whatever the file is called; all by default.
    max_pixels : int, optional
        The largest image allowed, beside Pillow's own limit (about 90 megapixels).

    Raises
    ------
    ImageFileError
        Whatever is wrong with the file.
    """
    try:
        if not path.is_file():
            raise ImageFileError("missing")
        with Image.open(path) as image:
            if formats is not None and image.format not in formats:
                raise ImageFileError("other format", str(image.format))
            # Pillow only warns of it, and a warning made an error for a moment is one for the other threads, too.
            limits = [limit for limit in (max_pixels, Image.MAX_IMAGE_PIXELS) if limit is not None]
            if image.width * image.height > min(limits, default=image.width * image.height):
                raise ImageFileError("too large", f"more than {min(limits)} pixels")
            image.load()
            return reading(image)
    except FileNotFoundError as error:  # deleted since we looked
        raise ImageFileError("missing") from error
    except PermissionError as error:
        raise ImageFileError("no access") from error
    except UnidentifiedImageError as error:
        raise ImageFileError("no image") from error
    except Image.DecompressionBombError as error:
        raise ImageFileError("too large", str(error)) from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's ways of saying truncated, broken, or senseless EXIF
        raise ImageFileError("damaged", str(error)) from error
