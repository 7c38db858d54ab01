"""Textures of the drawn surfaces: tiles of noise, hair and relief, and the colours for them.

All arithmetic is in float64 and rounded to whole grey levels only at the end, so every machine draws the same pixels.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage import data as photos

Array = NDArray[np.float64]
Colour = tuple[int, int, int]  # red, green and blue, 0 to 255

TILE = 256  # edge of a tile, in pixels
N_ANGLES = 12  # number of directions in which hair is combed, over half a turn

WARM = ((196, 164, 128), (168, 120, 84), (214, 196, 170), (150, 98, 66), (122, 92, 70), (232, 220, 200), (90, 72, 62))
COOL = (
    (150, 170, 184),
    (104, 128, 150),
    (190, 200, 200),
    (96, 116, 104),
    (60, 72, 88),
    (140, 150, 130),
    (172, 160, 180),
)
LOUD = ((190, 70, 60), (60, 110, 160), (220, 170, 60), (90, 140, 90), (150, 90, 140), (226, 130, 80), (70, 150, 150))


@cache
def noise_tile(sigma: float, layer: int) -> Array:
    """Return a seamless square of smooth noise.

    Parameters
    ----------
    sigma : float
        Standard deviation of the Gaussian that smooths it, in pixels of the tile: the coarseness of its grain.
    layer : int
        Seed; tiles of different layers are independent.

    Returns
    -------
    ndarray
        ``(256, 256)``, mean 0 and standard deviation 1.  It is shared between callers: do not write to it.
    """
    white = np.random.default_rng([7, layer]).standard_normal((TILE, TILE))
    smooth = ndimage.gaussian_filter(white, sigma, mode="wrap")
    smooth -= smooth.mean()
    return smooth / np.sqrt((smooth**2).mean())


@cache
def fur_tiles(coarse: int) -> Array:
    """Return tiles of hair, combed in each of `N_ANGLES` directions.

    Parameters
    ----------
    coarse : int
        0 for fine short hair, 1 for medium, 2 for long locks.

    Returns
    -------
    ndarray
        ``(N_ANGLES, 256, 256)``, mean about 0 and standard deviation 1.  Shared: do not write to it.
    """
    grain = noise_tile((0.6, 0.9, 1.3)[coarse], 3)
    reach = (4, 6, 10)[coarse]
    tiles = []
    for k in range(N_ANGLES):
        angle = np.pi * k / N_ANGLES
        strands = np.zeros_like(grain)
        for step in range(-reach, reach + 1):
            shift = (round(step * float(np.sin(angle))), round(step * float(np.cos(angle))))
            strands += (reach + 1 - abs(step)) * np.roll(grain, shift, axis=(0, 1))
        tiles.append(strands / np.sqrt((strands**2).mean()))
    return np.stack(tiles)


@cache
def photo_tile(name: str) -> Array:
    """Return the relief of a photo that comes with scikit-image, as a square tile.

    Parameters
    ----------
    name : {"chelsea", "grass", "gravel", "brick"}
        Name of the photo.  Of Chelsea, a cat, only the forehead is used.

    Returns
    -------
    ndarray
        ``(256, 256)``, mean 0 and standard deviation 1.  Shared: do not write to it.
    """
    photo = getattr(photos, name)()
    if name == "chelsea":
        grey = photo[2:82, 80:208, 1] / 255.0  # the green channel is close to perceived brightness
        grey = np.pad(grey, ((0, 48), (0, 0)), mode="symmetric")
        grey = grey - ndimage.gaussian_filter(grey, 5, mode="mirror")
        grey = np.block([[grey, grey[:, ::-1]], [grey[::-1], grey[::-1, ::-1]]])
    elif name == "brick":
        grey = photo[:TILE, :TILE].T / 255.0  # the photo shows the bricks upright
    else:
        grey = photo[:TILE, :TILE] / 255.0
        grey = grey - ndimage.gaussian_filter(grey, 24, mode="mirror")
    grey = grey - grey.mean()
    return grey / np.sqrt((grey**2).mean())


def look_up(tile: Array, u: Array, v: Array) -> Array:
    """Look values up in a tile that repeats, with bilinear interpolation.

    Parameters
    ----------
    tile : ndarray
        ``(256, 256)``.
    u, v : ndarray
        Column and row in pixels of the tile, of any shape; the tile repeats in both directions.

    Returns
    -------
    ndarray
        Interpolated values, in the shape of `u`.
    """
    column, row = np.floor(u), np.floor(v)
    fu, fv = u - column, v - row
    left, top = column.astype(np.int64) & (TILE - 1), (row.astype(np.int64) & (TILE - 1)) * TILE
    right, bottom = (left + 1) & (TILE - 1), (top + TILE) & (TILE * TILE - 1)
    flat = tile.ravel()
    upper, lower = flat[top + left], flat[bottom + left]
    upper = upper + fu * (flat[top + right] - upper)
    lower = lower + fu * (flat[bottom + right] - lower)
    return upper + fv * (lower - upper)


def ramp(x: Array, low: float, high: float) -> Array:
    """Return the smoothstep: 0 at `low`, 1 at `high`, smooth between, constant outside; `low` may exceed `high`."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def blend(a: Array, b: Array, weight: Array) -> Array:
    """Mix two colours: `a` where `weight` is 0, `b` where it is 1.  The last axis of `a` and `b` is that of colours."""
    return a + (np.asarray(b, dtype=np.float64) - a) * weight[..., None]


def pick(colours: tuple[Colour, ...], rng: np.random.Generator, spread: float = 12.0) -> Array:
    """Pick one of `colours`, varied by `spread` grey levels (standard deviation); return ``(3,)``, 8 to 250."""
    colour = np.array(colours[int(rng.integers(len(colours)))], dtype=np.float64)
    return np.clip(colour + rng.normal(0, spread) + rng.normal(0, spread / 3, 3), 8, 250)


def whole(colour: Array) -> Colour:
    """Convert a colour to the form that Pillow takes: three integers, without rounding up."""
    red, green, blue = colour.astype(int).tolist()
    return red, green, blue


def to_image(pixels: Array) -> Image.Image:
    """Convert colours ``(H, W, 3)`` to a Pillow picture, clipped to 0..255 and rounded."""
    return Image.fromarray(np.rint(np.clip(pixels, 0, 255)).astype(np.uint8))
