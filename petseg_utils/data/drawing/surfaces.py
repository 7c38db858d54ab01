"""From blobs in space to pixels: which surface each pixel shows, and where the shadow falls on the ground."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from petseg_utils.data.drawing.bodies import Blobs
from petseg_utils.data.drawing.textures import Array


class View(NamedTuple):
    """A parallel projection from space to (column, row, nearness), all in pixels.

    Parameters
    ----------
    matrix : ndarray
        ``(3, 3)``, a rotation about the first axis times `scale`.
    shift : ndarray
        ``(3,)``, where the origin of space appears, in pixels.
    """

    matrix: Array
    shift: Array

    @property
    def scale(self) -> float:
        """Pixels per unit of space."""
        return float(self.matrix[0, 0])

    def project(self, points: Array) -> Array:
        """Project points of space ``(N, 3)`` to column, row and nearness, ``(N, 3)``."""
        return (self.matrix * points[:, None, :]).sum(-1) + self.shift


def camera(pitch: float, scale: float, offset: tuple[float, float]) -> View:
    """Return the view of a camera looking down by `pitch` (radians); the origin is at pixel `offset` (column, row)."""
    c, s = math.cos(pitch), math.sin(pitch)
    matrix = scale * np.array([[1, 0, 0], [0, -c, s], [0, s, c]])
    return View(matrix, np.array([offset[0], offset[1], 0.0]))


@dataclass(frozen=True)
class Surface:
    """The visible surface of an animal or a toy, which covers P of the picture's pixels.

    Parameters
    ----------
    near : ndarray
        ``(H, W)``, nearness in pixels; very negative where nothing is visible.
    covered : ndarray
        ``(H, W)`` bool, true for covered pixels.
    rows, columns : ndarray
        ``(P,)``, rows and columns of the covered pixels.
    normal, space : ndarray
        ``(3, P)``: outward unit normal in (column, row, nearness), and the point in space.
    part, along : ndarray
        ``(P,)``: body part and position along its limb, 0 to 1; see `bodies.Blob`.
    hair : ndarray
        ``(2, P)``: the direction in which the hair lies, in (column, row).
    scale : float
        Pixels per unit of space.
    """

    near: Array
    covered: NDArray[np.bool_]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    normal: Array
    space: Array
    part: NDArray[np.int64]
    along: Array
    hair: Array
    scale: float


def see(blobs: Blobs, view: View, size: tuple[int, int]) -> Surface:
    """Find the nearest surface in each pixel of a picture of `size` (height, width)."""
    height, width = size
    scale = view.scale
    centres = view.project(np.stack([blob.centre for blob in blobs]))
    axes = times(view.matrix, np.stack([blob.axes for blob in blobs])) / scale
    lengths = np.stack([blob.lengths for blob in blobs]) * scale
    spread = (axes * axes * (lengths**2)[:, None, :]).sum(-1)  # squares of half the width, height and depth
    shape = times(axes / (lengths**2)[:, None, :], axes.transpose(0, 2, 1))
    near, index = np.full(size, -1e9), np.full(size, -1, dtype=np.int64)
    x, y = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)[:, None]
    for k in range(len(centres)):
        cx, cy, cz = centres[k].tolist()
        ex, ey = math.sqrt(spread[k, 0]), math.sqrt(spread[k, 1])
        x0, x1 = max(0, math.ceil(cx - ex)), min(width, math.floor(cx + ex) + 1)
        y0, y1 = max(0, math.ceil(cy - ey)), min(height, math.floor(cy + ey) + 1)
        if x0 >= x1 or y0 >= y1:
            continue
        (a, b, d), (_, e, f), (_, _, g) = shape[k].tolist()
        dx, dy = x[x0:x1] - cx, y[y0:y1] - cy
        slope = d * dx + f * dy
        inside = slope * slope - g * (a * dx * dx + 2 * b * dx * dy + e * dy * dy - 1)
        surface = (np.sqrt(np.maximum(inside, 0)) - slope) / g + cz
        window = near[y0:y1, x0:x1]
        nearer = (inside > 0) & (surface > window)
        window[nearer] = surface[nearer]
        index[y0:y1, x0:x1][nearer] = k
    covered = index >= 0
    rows, columns = np.nonzero(covered)
    hit = index[rows, columns]
    place = np.stack([columns.astype(np.float64), rows.astype(np.float64), near[rows, columns]])
    offset = place - centres[hit].T
    normal = (shape[hit].transpose(1, 2, 0) * offset).sum(1)
    space = ((view.matrix.T / scale**2)[:, :, None] * (place - view.shift[:, None])).sum(1)
    hair = (view.matrix * np.stack([blob.hair for blob in blobs])[:, None, :]).sum(-1)
    return Surface(
        near=near,
        covered=covered,
        rows=rows,
        columns=columns,
        normal=normal / np.sqrt((normal**2).sum(0)),
        space=space,
        part=np.array([blob.part for blob in blobs])[hit],
        along=np.array([blob.along for blob in blobs])[hit],
        hair=hair[hit].T[:2],
        scale=scale,
    )


def times(a: Array, b: Array) -> Array:
    """Compute the matrix product without BLAS, whose last digits depend on the processor."""
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def shadow(blobs: Blobs, view: View, sun: Array, size: tuple[int, int]) -> Array:
    """Return how dark the shadow of `blobs` on the ground is.

    Parameters
    ----------
    sun : ndarray
        ``(3,)``, unit vector towards the light, in space.
    size : tuple of int
        Height and width of the picture, in pixels.

    Returns
    -------
    ndarray
        ``(H, W)``, 0 to 1.
    """
    coarse = 4  # the shadow is drawn at 1 / coarse of the size, as it is blurred anyway
    sheet = Image.new("L", (-(-size[1] // coarse), -(-size[0] // coarse)))
    brush = ImageDraw.Draw(sheet)
    scale = view.scale
    squash = view.matrix[1, 2] / scale
    x, y, z = np.stack([blob.centre for blob in blobs]).T
    below = view.project(np.stack([x - 0.8 * sun[0] * y, 0 * y, z - 0.5 * sun[2] * y], axis=1))
    radii = scale * np.stack([blob.lengths for blob in blobs]).min(1)
    for (column, row, _), r, high in zip(below.tolist(), radii.tolist(), y.tolist(), strict=True):
        wide, tall = 0.95 * r, r * max(squash, 0.18)
        left, top, right, bottom = column - wide, row - tall, column + wide, row + tall
        box = (left / coarse, top / coarse, right / coarse, bottom / coarse)
        brush.ellipse(box, fill=round(max(60, 190 - 60 * high)))
    sheet = sheet.filter(ImageFilter.GaussianBlur(0.12 * scale / coarse))
    sheet = sheet.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(sheet, dtype=np.float64) / 255.0
