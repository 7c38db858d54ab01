"""The letterbox and its inverse, and the augmentation of training pictures."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from petseg_utils.data.labels import PADDING

if TYPE_CHECKING:
    import albumentations

PADDING_COLOUR = (124, 116, 104)  # ImageNet's mean colour, about zero after a model's normalisation


@dataclass(frozen=True)
class Letterbox:
    """How a photo fits into a square without distortion: its longer side fills the edge, and the rest is padded.

    Parameters
    ----------
    height, width : int
        The photo's size in pixels.
    size : int
        Edge of the square in pixels.
    """

    height: int
    width: int
    size: int

    @property
    def inner(self) -> tuple[int, int]:
        """Height and width of the photo inside the square, at least one pixel each."""
        longest = max(self.height, self.width)
        height, width = (max(1, round(side * self.size / longest)) for side in (self.height, self.width))
        return height, width

    @property
    def offset(self) -> tuple[int, int]:
        """Row and column of the photo's first pixel in the square."""
        height, width = self.inner
        return (self.size - height) // 2, (self.size - width) // 2

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the square that hold the photo."""
        (height, width), (top, left) = self.inner, self.offset
        return slice(top, top + height), slice(left, left + width)

    def image(self, image: np.ndarray, scale: int = 1) -> np.ndarray:
        """Fit a photo ``uint8 (height, width, 3)`` into the padded square ``uint8 (size, size, 3)``, antialiased.

        With another `scale`, the same square is that many times as large, with more of the photo's detail.
        """
        self._check(image)
        square = np.full((scale * self.size, scale * self.size, 3), PADDING_COLOUR, np.uint8)
        rows, columns = (slice(scale * side.start, scale * side.stop) for side in self.window)
        inner_height, inner_width = self.inner
        square[rows, columns] = _resize(image, (scale * inner_height, scale * inner_width), Image.Resampling.BILINEAR)
        return square

    def label(self, label: np.ndarray) -> np.ndarray:
        """Fit a label ``uint8 (height, width)`` into ``uint8 (size, size)``; nearest neighbour, padding marked 254."""
        self._check(label)
        square = np.full((self.size, self.size), PADDING, np.uint8)
        square[self.window] = _resize(label, self.inner, Image.Resampling.NEAREST)
        return square

    def invert(self, square: np.ndarray) -> np.ndarray:
        """Resize a mask ``uint8 (size, size)`` back to the photo's size ``(height, width)``, nearest neighbour."""
        if square.shape != (self.size, self.size):
            raise ValueError(f"expected a ({self.size}, {self.size}) mask, got {square.shape}")
        return _resize(np.ascontiguousarray(square[self.window]), (self.height, self.width), Image.Resampling.NEAREST)

    def to_square(self, x: float, y: float) -> tuple[float, float]:
        """Convert a point from the photo's pixels to the square's; pixel centres lie at whole numbers in both."""
        (inner_height, inner_width), (top, left) = self.inner, self.offset
        return (
            (x + 0.5) * inner_width / self.width - 0.5 + left,
            (y + 0.5) * inner_height / self.height - 0.5 + top,
        )

    def _check(self, array: np.ndarray) -> None:
        if array.shape[:2] != (self.height, self.width):
            raise ValueError(f"this letterbox is for {self.height} x {self.width} pixels, got {array.shape[:2]}")


def _resize(array: np.ndarray, shape: tuple[int, int], resampling: Image.Resampling) -> np.ndarray:
    # Across first, then down, always: from version 13 on, Pillow picks the order by the shape, and rounds in between.
    across = Image.fromarray(array).resize((shape[1], array.shape[0]), resampling)
    return np.asarray(across.resize((shape[1], shape[0]), resampling))


def make_augmentation(scales: tuple[float, float] = (0.8, 1.25), shift: float = 0.08) -> "albumentations.Compose":
    """Return random flips, affine transforms and colour changes for training pictures.

    Pictures are mirrored left to right, never turned upside down: pets are not seen that way.  Areas that an affine
    transform uncovers become padding in the label, so they do not count in the loss.

    Parameters
    ----------
    scales : tuple of float
        Least and greatest factor by which a picture is scaled.
    shift : float
        The most by which it is moved along each axis, as a share of its edge.

    Returns
    -------
    albumentations.Compose
        Call it with ``image`` ``uint8 (H, W, 3)`` and ``mask`` ``uint8 (H, W)``; seed it by ``set_random_seed``.
    """
    # Set before the import, in this process and in loader processes: otherwise it looks online for a newer release.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations

    return albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=0.5),
            albumentations.Affine(
                scale=scales,
                rotate=(-12, 12),
                translate_percent=(-shift, shift),
                fill=PADDING_COLOUR,
                fill_mask=PADDING,
                keep_ratio=scales[1] > 2 * scales[0],  # a small range also stretches pictures a little
                p=0.8,
            ),
            albumentations.ColorJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.03, p=0.8),
        ]
    )
