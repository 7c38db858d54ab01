"""Noise, fur and coats: everything on the sample's animals that is colour rather than shape.

All arithmetic is float64 and rounded to whole grey levels at the end, so that the same pixels come out everywhere.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import data as photos
from skimage.color import rgb2gray

TILE = 256
N_ANGLES = 12
# The body parts an animal is made of; `pets.py` labels its blobs with these numbers.
TORSO, LEG, TAIL, NECK, HEAD, MUZZLE, EAR, NOSE, COLLAR, TONGUE, TAG = range(11)

# Fur colours (base, markings, light parts).  Cats and dogs draw from the same ones: colour must not tell them apart.
PALETTES = {
    "ginger": ((208, 138, 74), (158, 84, 36), (244, 224, 196)),
    "cream": ((226, 200, 160), (184, 140, 94), (248, 240, 226)),
    "black": ((46, 42, 44), (24, 21, 23), (238, 234, 228)),
    "grey": ((136, 138, 146), (76, 78, 88), (228, 228, 230)),
    "brown": ((140, 100, 66), (66, 45, 32), (226, 204, 174)),
    "chocolate": ((98, 64, 46), (56, 35, 26), (216, 188, 160)),
    "silver": ((182, 182, 182), (74, 74, 80), (242, 242, 240)),
    "white": ((238, 234, 226), (208, 198, 184), (250, 248, 244)),
    "snowblack": ((240, 237, 232), (40, 36, 38), (250, 248, 244)),
    "snowginger": ((242, 236, 226), (198, 124, 62), (250, 248, 244)),
    "snowbrown": ((238, 230, 216), (104, 70, 48), (250, 247, 242)),
    "tan": ((186, 136, 84), (40, 34, 34), (224, 182, 132)),
    "sand": ((222, 204, 176), (84, 60, 48), (240, 230, 212)),
}


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
        grey = np.pad(rgb2gray(photo[2:82, 80:208]), ((0, 48), (0, 0)), mode="symmetric")
    else:
        grey = photo[:TILE, :TILE] / 255.0
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


def coat_colours(
    pattern: str,
    palette: tuple,
    part: NDArray[np.int64],
    along: NDArray[np.float64],
    body: NDArray[np.float64],
    head: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Colour of the fur before light falls on it.

    Parameters
    ----------
    pattern : str
        One of the patterns below ("tabby", "patches", ...); an unknown one gives a plain coat.
    palette : tuple
        Three RGB colours: base, markings, light parts.
    part, along : ndarray
        ``(N,)``: body part and how far along it (0 at the root, 1 at the tip) for every pixel.
    body, head : ndarray
        ``(3, N)``: place in the frame of the body (forward, up, sideways) and of the head (right, up, forward; in head
        radii).
    rng : Generator
        Where the patches of this animal lie.

    Returns
    -------
    ndarray
        ``(N, 3)``, 0..255.
    """
    base, mark, light = (np.array(c, dtype=np.float64) for c in palette)
    base = np.clip(base + rng.normal(0, 7) + rng.normal(0, 3, 3), 12, 252)
    face = (part == HEAD) | (part == MUZZLE) | (part == EAR)
    hx, hy, hz = head
    # One place for the noise: the head's frame on the head, the body's elsewhere, shifted at random.
    u = np.where(face, hx * 0.55 + 9, body[0] + 0.35 * body[2]) + rng.uniform(0, 20)
    v = np.where(face, hy * 0.55, body[1] - 0.25 * body[2]) + rng.uniform(0, 20)
    wobble = look_up(noise_tile(7.0, 1), u * 30, v * 30)
    patch = look_up(noise_tile(9.0, 2), u * 17, v * 17)
    speck = look_up(noise_tile(2.4, 4), u * 34, v * 34)
    colour = np.broadcast_to(base, (part.size, 3)).copy()
    back = ramp(np.where(part == TORSO, body[1] - np.median(body[1]), 0.0), -0.3, 0.5)
    colour = blend(colour, base * 0.82, 0.6 * back)
    limb = (part == LEG) | (part == TAIL)
    paw = np.where(part == LEG, ramp(along, 0.55, 0.9), 0.0) + np.where(part == TAIL, ramp(along, 0.4, 0.9), 0.0)
    snout = np.where(face & (part != EAR), ramp(-hy + 0.55 * (hz - 0.7) - 0.5 * np.abs(hx) + 0.1 * wobble, 0.0, 0.3), 0.0)
    bib = np.where(
        (part == NECK) | (part == TORSO), ramp(body[0] - 0.9 * np.abs(body[2]) - 0.5 * body[1] + 0.1 * wobble, -0.1, 0.2), 0.0
    )
    belly = np.where(part == TORSO, ramp(-body[1] + 0.08 * wobble, -0.65, -0.3), 0.0)
    if pattern in ("tabby", "brindle", "ticked"):
        pace = {"tabby": 15.0, "brindle": 19.0, "ticked": 17.0}[pattern]
        lines = np.where(limb, along * 26, np.where(face, hx * 13 + 1.2, body[0] * pace + 2 * body[1]))
        waves = np.sin(lines + (1.3 if pattern != "brindle" else 2.6) * wobble)
        strength = {"tabby": 0.85, "brindle": 0.8, "ticked": 0.3}[pattern]
        # A cheek has few stripes, a forehead many.
        where = np.where(face, 0.25 + 0.75 * ramp(hy, 0.1, 0.4), 1.0) * np.where(part == EAR, 0.3, 1.0)
        colour = blend(colour, mark, strength * where * ramp(waves + 0.35 * speck, 0.0, 0.7))
        colour = blend(colour, light, 0.75 * np.maximum(snout, belly * 0.6))
    elif pattern == "spots":
        colour = blend(colour, mark, 0.9 * ramp(speck + 0.35 * patch, 0.75, 1.15) * np.where(face, ramp(hy, 0.0, 0.4), 1.0))
        colour = blend(colour, light, 0.8 * np.maximum(snout, belly))
    elif pattern == "patches":
        side = np.where(face & (part != MUZZLE), ramp(np.abs(hx - rng.uniform(-0.1, 0.1)), 0.12, 0.25) * ramp(hy, -0.5, 0.0), 0.0)
        colour = blend(colour, mark, np.maximum(side * (rng.random() < 0.8), np.where(face, 0.0, ramp(patch, 0.25, 0.4))))
    elif pattern == "harlequin":
        colour = blend(colour, mark, ramp(patch, 0.1, 0.3))
        other = np.array(PALETTES["ginger"][0], dtype=np.float64)
        colour = blend(colour, other, ramp(wobble - 0.6 * patch, 0.7, 0.9))
        colour = blend(colour, light, 0.9 * np.maximum(snout, bib))
    elif pattern == "points":
        mask = np.where(face, ramp(hz - 0.8 * np.abs(hx) - 0.35 * hy + 0.08 * wobble, 0.2, 0.75), 0.0)
        colour = blend(colour, mark, np.clip(0.9 * np.maximum(np.maximum(mask, paw), part == EAR), 0, 1))
    elif pattern == "bicolour":
        blaze = np.where(face & (part != EAR), ramp(0.24 - np.abs(hx + 0.06 * wobble) + 0.1 * (0.3 - hy), 0.0, 0.1), 0.0)
        socks = np.where(part == LEG, ramp(along, 0.5, 0.62), 0.0) + np.where(part == TAIL, ramp(along, 0.85, 0.95), 0.0)
        blaze = blaze * (rng.random() < 0.6)
        colour = blend(colour, light, np.clip(np.maximum.reduce([snout, bib, belly, socks, blaze]), 0, 1))
    elif pattern == "saddle":
        saddle = np.where(part == TORSO, ramp(body[1] + 0.1 * wobble, 0.62, 0.95), 0.0)
        saddle = saddle + np.where(part == TAIL, 0.8 * ramp(along, 0.9, 0.3), 0.0) + np.where(part == NECK, ramp(-body[0], -1, 0), 0)
        colour = blend(colour, mark, np.clip(saddle, 0, 1))
        colour = blend(colour, mark, 0.8 * np.where(part == EAR, 1.0, np.where(face, ramp(hy - 0.3 * hz, 0.25, 0.7), 0.0)))
        colour = blend(colour, light, 0.6 * np.maximum(snout, bib))
    elif pattern == "merle":
        colour = blend(colour, mark, 0.85 * ramp(speck * 0.5 + patch, 0.3, 0.55))
        colour = blend(colour, light, 0.9 * np.maximum(snout * 0.8, bib))
    elif pattern == "mask":
        mask = np.where(face, ramp(hz - 0.6 * np.abs(hx) - 0.5 * hy, 0.35, 0.8), 0.0)
        colour = blend(colour, mark, 0.85 * np.maximum(mask, np.where(part == EAR, 0.8, 0.0)))
        colour = blend(colour, light, 0.7 * np.maximum(belly, bib))
    elif pattern == "smoke":
        colour = blend(colour, light, 0.4 * np.maximum(bib, np.where(part == NECK, 0.7, 0.0)))
        colour = blend(colour, mark, 0.5 * np.clip(paw + snout, 0, 1))
    else:
        colour = blend(colour, light, rng.uniform(0.0, 0.5) * np.maximum(snout, belly))
    return colour * (1 + 0.035 * speck)[:, None]
