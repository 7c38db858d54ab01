"""Noise, fur, cloth and ground: the surfaces of the drawn sample.

All arithmetic is float64 and rounded to whole grey levels at the end, so that the same pixels come out everywhere.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage import data as photos

Array = NDArray[np.float64]

TILE = 256
N_ANGLES = 12
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
def noise_tile(sigma: float, layer: int = 0) -> NDArray[np.float64]:
    """A seamless square of smooth noise.

    Parameters
    ----------
    sigma : float
        Grain, in pixels of the tile.
    layer : int
        Which of the independent tiles.

    Returns
    -------
    ndarray
        ``(256, 256)`` with mean about 0 and standard deviation 1; do not write to it.
    """
    white = np.random.default_rng([7, layer]).standard_normal((TILE, TILE))
    smooth = ndimage.gaussian_filter(white, sigma, mode="wrap")
    smooth -= smooth.mean()
    return smooth / np.sqrt((smooth**2).mean())


@cache
def fur_tiles(coarse: int) -> NDArray[np.float64]:
    """Hair, combed in each of `N_ANGLES` directions over half a turn.

    Parameters
    ----------
    coarse : int
        0 for fine short hair, 1 for medium, 2 for long locks.

    Returns
    -------
    ndarray
        ``(N_ANGLES, 256, 256)`` with mean about 0 and standard deviation 1.
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
def photo_tile(name: str) -> NDArray[np.float64]:
    """Relief of a photo that ships with scikit-image, as a seamless square.

    Parameters
    ----------
    name : {"chelsea", "grass", "gravel", "brick"}
        The photo; of the cat Chelsea only her forehead is taken.

    Returns
    -------
    ndarray
        ``(256, 256)`` with mean about 0 and standard deviation 1.
    """
    photo = getattr(photos, name)()
    if name == "chelsea":
        grey = photo[2:82, 80:208, 1] / 255.0  # green is close to what the eye calls light
        grey = np.pad(grey, ((0, 48), (0, 0)), mode="symmetric")
    else:
        grey = photo[:TILE, :TILE] / 255.0
        grey = grey.T if name == "brick" else grey  # they lie on their side
    if name in ("chelsea", "grass", "gravel"):
        grey = grey - ndimage.gaussian_filter(grey, 24 if name != "chelsea" else 5, mode="mirror")
    if name == "chelsea":
        grey = np.block([[grey, grey[:, ::-1]], [grey[::-1], grey[::-1, ::-1]]])
    grey = grey - grey.mean()
    return grey / np.sqrt((grey**2).mean())


def look_up(tile: NDArray[np.float64], u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bilinear look-up in a seamless tile.

    Parameters
    ----------
    tile : ndarray
        ``(256, 256)``.
    u, v : ndarray
        Column and row, in pixels of the tile, any shape and any range.

    Returns
    -------
    ndarray
        Values, of the shape of `u`.
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


def ramp(x: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """0 below `low`, 1 above `high`, smooth between (and the other way round if ``low > high``)."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def blend(a: NDArray[np.float64], b: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """``a`` where `weight` is 0, ``b`` where it is 1; colours run along the last axis."""
    return a + (np.asarray(b, dtype=np.float64) - a) * weight[..., None]


def pick(colours: tuple, rng: np.random.Generator, spread: float = 12.0) -> Array:
    """One of the colours, a little changed, ``(3,)`` in 0..255."""
    colour = np.array(colours[int(rng.integers(len(colours)))], dtype=np.float64)
    return np.clip(colour + rng.normal(0, spread) + rng.normal(0, spread / 3, 3), 8, 250)


def to_image(pixels: Array) -> Image.Image:
    """Whole grey levels, as a Pillow picture."""
    return Image.fromarray(np.rint(np.clip(pixels, 0, 255)).astype(np.uint8))


def floor(kind: str, u: Array, v: Array, rng: np.random.Generator) -> Array:
    """A surface seen from above.

    Parameters
    ----------
    kind : str
        "planks", "tiles", "carpet", "weave", "grass", "gravel", "snow" or "sand".
    u, v : ndarray
        Place on the surface, any shape, in units of about a body height.

    Returns
    -------
    ndarray
        Colours 0..255, the shape of `u` and a last axis of 3.
    """
    broad = look_up(noise_tile(12.0, 8), u * 22 + rng.uniform(0, 256), v * 22)
    fine = look_up(noise_tile(1.0, 9), u * 70, v * 70 + rng.uniform(0, 256))
    if kind == "planks":
        base = pick(WARM, rng)
        row = np.floor(v * 2.2)
        board = np.floor(u * 0.5 + row * 0.37)
        tone = look_up(noise_tile(1.0, 10), row * 31.0, board * 17.0)
        seam = np.maximum(
            ramp(np.abs(v * 2.2 - row - 0.5), 0.45, 0.49),
            ramp(np.abs(u * 0.5 + row * 0.37 - board - 0.5), 0.485, 0.497),
        )
        grain = look_up(noise_tile(1.5, 11), u * 9, v * 90)
        return base * (1 + 0.07 * tone + 0.06 * grain - 0.35 * seam)[..., None]
    if kind == "tiles":
        base, other = pick(WARM + COOL, rng), pick(WARM + COOL, rng)
        if rng.random() < 0.5:
            other = base * 1.06
        check = (np.floor(u * 1.1) + np.floor(v * 1.1)) % 2
        fu, fv = np.abs(u * 1.1 - np.floor(u * 1.1) - 0.5), np.abs(v * 1.1 - np.floor(v * 1.1) - 0.5)
        seam = ramp(np.maximum(fu, fv), 0.465, 0.485)
        return blend(base + 0 * u[..., None], other, check) * (1 + 0.03 * broad - 0.25 * seam)[..., None]
    if kind == "carpet":
        base, other = pick(WARM + COOL + LOUD, rng), pick(WARM + COOL, rng)
        motif = rng.integers(3)
        wave = np.sin(u * 5) * np.sin(v * 5) if motif == 0 else np.sin(v * 9) if motif == 1 else broad - 2
        return (
            blend(base + 0 * u[..., None], other, 0.8 * ramp(wave, 0.2, 0.35))
            * (1 + 0.09 * fine + 0.03 * broad)[..., None]
        )
    if kind == "weave":
        base, other = pick(WARM + COOL + LOUD, rng), pick(WARM + COOL + LOUD, rng)
        cloth = 0.5 * np.sin(u * 70) + 0.5 * np.sin(v * 70)
        motif = rng.integers(4)
        wave = np.maximum(np.sin(u * 4), np.sin(v * 4)) if motif == 0 else np.sin(u * 6) if motif == 1 else broad - 3
        folds = look_up(noise_tile(20.0, 12), u * 24 + 0.4 * v, v * 9)
        return (
            blend(base + 0 * u[..., None], other, 0.7 * ramp(wave, 0.6, 0.8))
            * (1 + 0.04 * cloth + 0.09 * folds)[..., None]
        )
    name, low, high, power = {
        "grass": ("grass", (52, 76, 26), (140, 164, 74), 0.5),
        "gravel": ("gravel", (84, 78, 72), (178, 170, 158), 0.5),
        "snow": ("gravel", (196, 206, 220), (244, 246, 250), 0.25),
        "sand": ("gravel", (160, 132, 94), (222, 200, 160), 0.3),
    }[kind]
    relief = look_up(photo_tile(name), u * 60 + rng.uniform(0, 256), v * 60)
    level = np.clip(0.5 + 0.3 * power * relief + 0.12 * broad + rng.normal(0, 0.08), 0, 1)
    return blend(np.array(low, dtype=np.float64) + 0 * u[..., None], np.array(high), level) + rng.normal(0, 6, 3)
