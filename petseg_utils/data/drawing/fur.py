"""The fur of the drawn animals: the colours of the coat, the light on it, and the hair along the outline."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from petseg_utils.data.drawing.bodies import (
    COLLAR,
    EAR,
    HEAD,
    LEG,
    MUZZLE,
    NECK,
    NOSE,
    TAG,
    TAIL,
    TONGUE,
    TORSO,
    Blobs,
    Frame,
)
from petseg_utils.data.drawing.breeds import PALETTES, Palette
from petseg_utils.data.drawing.surfaces import Surface, View, see
from petseg_utils.data.drawing.textures import (
    N_ANGLES,
    TILE,
    Array,
    Colour,
    blend,
    fur_tiles,
    look_up,
    noise_tile,
    photo_tile,
    ramp,
)


@dataclass(frozen=True)
class Look:
    """The look of one animal; colours are 0 to 255.

    Parameters
    ----------
    pattern : str
        Markings of the coat, see `coat_colours`.
    palette : tuple
        Three colours: base, markings, light parts.
    coarse : int
        Coarseness of the hair, 0 to 2, see `textures.fur_tiles`.
    curly : bool
        True for wavy locks, which most of the drawn dogs have; false for the fine bands of most of the drawn cats.
    body, head : Frame
        Where the body and the head are; the head's size is its radius.
    asleep : bool
        Whether the eyes are closed.
    pupil : float
        Width of a cat's pupil, as a share of the eye.
    iris, nose, ear : tuple
        Colours of the iris, of the nose and of the inside of the ears.
    collar : ndarray
        ``(3,)``, colour of the collar.
    muzzle : ndarray
        Column and row, in pixels, away from which the hair of the face points.
    """

    pattern: str
    palette: Palette
    coarse: int
    curly: bool
    body: Frame
    head: Frame
    asleep: bool
    pupil: float
    iris: Colour
    nose: Colour
    ear: Colour
    collar: Array
    muzzle: Array


def coat_colours(
    look: Look, part: NDArray[np.int64], along: Array, body: Array, head: Array, rng: np.random.Generator
) -> Array:
    """Return the colours of the fur before lighting.

    Parameters
    ----------
    part, along : ndarray
        ``(P,)``: body part of every pixel and position along its limb, from 0 at the root to 1 at the tip.
    body, head : ndarray
        ``(3, P)``: position of every pixel in the frame of the body (forward, up, sideways) and in that of the head
        (right, up, forward; in head radii).

    Returns
    -------
    ndarray
        ``(P, 3)``; values may lie slightly outside 0 to 255.
    """
    base, mark, light = (np.array(c, dtype=np.float64) for c in look.palette)
    base = np.clip(base + rng.normal(0, 7) + rng.normal(0, 3, 3), 12, 252)
    torso, leg, tail, neck, ear, muzzle = (part == kind for kind in (TORSO, LEG, TAIL, NECK, EAR, MUZZLE))
    on_head = (part == HEAD) | muzzle | ear
    face = on_head & ~ear
    hx, hy, hz = head
    # Noise is looked up in the head's frame on the head and in the body's frame elsewhere, with a random shift.
    u = np.where(on_head, hx * 0.55 + 9, body[0] + 0.35 * body[2]) + rng.uniform(0, 20)
    v = np.where(on_head, hy * 0.55, body[1] - 0.25 * body[2]) + rng.uniform(0, 20)
    wobble = look_up(noise_tile(7.0, 1), u * 30, v * 30)
    patch = look_up(noise_tile(9.0, 2), u * 17, v * 17)
    speck = look_up(noise_tile(2.4, 4), u * 34, v * 34)
    back = ramp(np.where(torso, body[1] - np.median(body[1]), 0.0), -0.3, 0.5)
    colour = blend(np.broadcast_to(base, (part.size, 3)), base * 0.82, 0.6 * back)
    # Parts that several patterns paint, 0 to 1.
    paw = np.where(leg, ramp(along, 0.55, 0.9), 0.0) + np.where(tail, ramp(along, 0.4, 0.9), 0.0)
    snout = np.where(face, ramp(-hy + 0.55 * (hz - 0.7) - 0.5 * np.abs(hx) + 0.1 * wobble, 0.0, 0.3), 0.0)
    breast = ramp(body[0] - 0.9 * np.abs(body[2]) - 0.5 * body[1] + 0.1 * wobble, -0.1, 0.2)
    bib = np.where(neck | torso, breast, 0.0)
    belly = np.where(torso, ramp(-body[1] + 0.08 * wobble, -0.65, -0.3), 0.0)
    pattern = look.pattern
    if pattern in ("tabby", "brindle", "ticked"):
        pace, bend, strength = {"tabby": (15, 1.3, 0.85), "brindle": (19, 2.6, 0.8), "ticked": (17, 1.3, 0.3)}[pattern]
        lines = np.where(leg | tail, along * 26, np.where(on_head, hx * 13 + 1.2, body[0] * pace + 2 * body[1]))
        waves = np.sin(lines + bend * wobble)
        # A cheek has few stripes, a forehead many.
        where = np.where(on_head, 0.25 + 0.75 * ramp(hy, 0.1, 0.4), 1.0) * np.where(ear, 0.3, 1.0)
        colour = blend(colour, mark, strength * where * ramp(waves + 0.35 * speck, 0.0, 0.7))
        colour = blend(colour, light, 0.75 * np.maximum(snout, belly * 0.6))
    elif pattern == "spots":
        spots = ramp(speck + 0.35 * patch, 0.75, 1.15)
        colour = blend(colour, mark, 0.9 * spots * np.where(on_head, ramp(hy, 0.0, 0.4), 1.0))
        colour = blend(colour, light, 0.8 * np.maximum(snout, belly))
    elif pattern == "patches":
        sides = ramp(np.abs(hx - rng.uniform(-0.1, 0.1)), 0.12, 0.25) * ramp(hy, -0.5, 0.0)
        sides = np.where(on_head & ~muzzle, sides, 0.0) * (rng.random() < 0.8)
        colour = blend(colour, mark, np.maximum(sides, np.where(on_head, 0.0, ramp(patch, 0.25, 0.4))))
    elif pattern == "harlequin":
        colour = blend(colour, mark, ramp(patch, 0.1, 0.3))
        colour = blend(colour, np.array(PALETTES["ginger"][0]), ramp(wobble - 0.6 * patch, 0.7, 0.9))
        colour = blend(colour, light, 0.9 * np.maximum(snout, bib))
    elif pattern == "points":
        mask = ramp(hz - 0.8 * np.abs(hx) - 0.35 * hy + 0.08 * wobble, 0.2, 0.75)
        mask = np.maximum(np.where(on_head, mask, 0.0), paw)
        colour = blend(colour, mark, np.clip(0.9 * np.maximum(mask, ear), 0, 1))
    elif pattern == "bicolour":
        blaze = np.where(face, ramp(0.24 - np.abs(hx + 0.06 * wobble) + 0.1 * (0.3 - hy), 0.0, 0.1), 0.0)
        blaze = blaze * (rng.random() < 0.6)
        socks = np.where(leg, ramp(along, 0.5, 0.62), 0.0) + np.where(tail, ramp(along, 0.85, 0.95), 0.0)
        colour = blend(colour, light, np.clip(np.maximum.reduce([snout, bib, belly, socks, blaze]), 0, 1))
    elif pattern == "saddle":
        saddle = np.where(torso, ramp(body[1] + 0.1 * wobble, 0.62, 0.95), 0.0)
        saddle = saddle + np.where(tail, 0.8 * ramp(along, 0.9, 0.3), 0.0) + np.where(neck, ramp(-body[0], -1, 0), 0.0)
        colour = blend(colour, mark, np.clip(saddle, 0, 1))
        cap = np.where(ear, 1.0, np.where(on_head, ramp(hy - 0.3 * hz, 0.25, 0.7), 0.0))
        colour = blend(colour, mark, 0.8 * cap)
        colour = blend(colour, light, 0.6 * np.maximum(snout, bib))
    elif pattern == "merle":
        colour = blend(colour, mark, 0.85 * ramp(speck * 0.5 + patch, 0.3, 0.55))
        colour = blend(colour, light, 0.9 * np.maximum(snout * 0.8, bib))
    elif pattern == "mask":
        mask = np.where(on_head, ramp(hz - 0.6 * np.abs(hx) - 0.5 * hy, 0.35, 0.8), 0.0)
        colour = blend(colour, mark, 0.85 * np.maximum(mask, np.where(ear, 0.8, 0.0)))
        colour = blend(colour, light, 0.7 * np.maximum(belly, bib))
    elif pattern == "smoke":
        colour = blend(colour, light, 0.4 * np.maximum(bib, np.where(neck, 0.7, 0.0)))
        colour = blend(colour, mark, 0.5 * np.clip(paw + snout, 0, 1))
    else:  # plain
        colour = blend(colour, light, rng.uniform(0.0, 0.5) * np.maximum(snout, belly))
    if look.curly:
        # Locks stand out from the coat and are lit from above: bright on top and dark below.
        wool = noise_tile(4.0, 20)
        slope = look_up(wool, u * 80, v * 90) - look_up(wool, u * 80 + 2, v * 90 + 3)
        tone = np.sin(np.clip(2.9 * slope, -1.57, 1.57))
        colour = colour * 1.12  # compensates for the shade on a long face
    else:
        across = np.where(on_head, hx * 0.7, np.where(leg, body[1], body[0] + 0.4 * body[2]))
        across = np.where(tail, along * 1.5, across)
        tone = np.sin(30 * across + 0.9 * wobble + 0.5 * speck)
    return colour * (1 + 0.035 * speck + 0.19 * tone)[:, None] + (13 * tone)[:, None]


def smooth(values: Array, seen: Surface, reach: int) -> Array:
    """Average values ``(K, P)`` over the covered pixels in squares with sides of ``2 * reach + 1``; ``(K, P)``."""
    rows, columns = seen.rows, seen.columns
    y0, x0 = rows.min(), columns.min()
    sheet = np.zeros((len(values) + 1, rows.max() - y0 + 1, columns.max() - x0 + 1))
    sheet[:-1, rows - y0, columns - x0] = values
    sheet[-1, rows - y0, columns - x0] = 1.0
    side = 2 * reach + 1
    mean = ndimage.uniform_filter(sheet, (0, side, side), mode="constant")[:, rows - y0, columns - x0]
    return mean[:-1] / mean[-1]


def fur(seen: Surface, look: Look, light: Array, rng: np.random.Generator) -> Array:
    """Return the colours of the covered pixels: coat, hair and shading.

    Parameters
    ----------
    light : ndarray
        ``(3,)``, unit vector towards the light, in (column, row, nearness).

    Returns
    -------
    ndarray
        ``(P, 3)``, 0 to 255.
    """
    part, rows, columns = seen.part, seen.rows, seen.columns
    body, head = (
        (frame.axes.T[:, :, None] * (seen.space - frame.origin[:, None])).sum(1) / frame.size
        for frame in (look.body, look.head)
    )
    colour = coat_colours(look, part, seen.along, body[::-1], head, rng)
    px = look.head.size * seen.scale  # head radius, pixels

    # Hair: strands combed along the body and away from the muzzle, locks, and the relief of a real cat's fur.
    on_face = (part == HEAD) | (part == MUZZLE)
    away = np.stack([columns - look.muzzle[0], rows - look.muzzle[1]])
    comb = np.where(on_face, away, seen.hair)
    x, y = columns.astype(np.float64), rows.astype(np.float64)
    angle = np.arctan2(comb[1], comb[0]) / np.pi + 0.12 * look_up(noise_tile(9.0, 5), x, y)
    which = np.floor(angle * N_ANGLES + 0.5).astype(np.int64) % N_ANGLES
    shift = rng.integers(0, TILE, 2)
    grain = min(1.6, max(0.6, 34 / px))
    v, u = ((at * grain + by).astype(np.int64) % TILE for at, by in zip((rows, columns), shift, strict=True))
    strand = fur_tiles(look.coarse)[which, v, u]
    lock = look_up(noise_tile(4.0, 6), x * grain * 1.2 + shift[0], y * grain * 0.7)
    real = look_up(photo_tile("chelsea"), x * grain * 0.8 + shift[1], y * grain * 0.8 + shift[0])
    hair = (0.075, 0.085, 0.1)[look.coarse] * strand + 0.035 * lock + 0.03 * real

    # Shading: by the direction of the light, in hollows, and near the ground.
    normal = smooth(seen.normal, seen, round(px * 0.07))
    normal = normal / np.sqrt((normal**2).sum(0) + 1e-9)
    near = seen.near[rows, columns]
    depth = smooth(near[None], seen, round(px * 0.3))[0] - near
    hollow = np.clip(depth / (0.55 * px), 0, 1) * ramp(normal[2], 0.1, 0.7)
    facing = (normal * light[:, None]).sum(0) + 0.35 * hair
    shade = 0.58 + 0.5 * np.clip(facing, -0.45, 1) + 0.12 * ramp(normal[2], 0.45, 0.0)
    shade *= (1 - 0.5 * hollow) * (0.72 + 0.28 * ramp(seen.space[1], 0.0, 0.4))
    bare = np.isin(part, (NOSE, TONGUE, COLLAR, TAG))
    colour[part == NOSE] = look.nose
    colour[part == TONGUE] = (222, 112, 120)
    colour[part == COLLAR] = look.collar
    colour[part == TAG] = (226, 190, 80)
    hair = np.where(bare, 0.0, hair)
    gloss = np.where(bare, 60.0, 10.0) * ramp(facing, 0.8, 1.0)
    return np.clip(colour * (shade * (1 + hair))[:, None] + (14 * hair + gloss)[:, None], 0, 255)


def outline_hair(seen: Surface, colours: Array, length: float, rng: np.random.Generator) -> Image.Image:
    """Paint the animal, with hair that stands out along its edge.

    Parameters
    ----------
    colours : ndarray
        ``(P, 3)``, from `fur`.
    length : float
        Length of the hair, in pixels.

    Returns
    -------
    Image
        RGBA, transparent where the animal is not visible.
    """
    height, width = seen.covered.shape
    rows, columns = seen.rows, seen.columns
    paint = np.zeros((height, width, 3), dtype=np.uint8)
    paint[rows, columns] = np.rint(colours).astype(np.uint8)
    cover = seen.covered.astype(np.uint8) * 255
    normal = seen.normal[:2]
    flat = np.sqrt((normal**2).sum(0))
    inner = ndimage.binary_erosion(seen.covered, iterations=2, border_value=1)
    naked = np.isin(seen.part, (NOSE, TONGUE, TAG))
    edge = np.nonzero(~inner[rows, columns] & ~naked)[0]
    picture = Image.fromarray(np.dstack([paint, cover]))
    brush = ImageDraw.Draw(picture)
    edge = edge[rng.permutation(edge.size)[:900]]
    lengths = length * (0.4 + rng.random(edge.size)) * np.where(np.isin(seen.part[edge], (EAR, LEG, MUZZLE)), 0.45, 1.0)
    lean = rng.normal(0, 0.25, (2, edge.size))
    out = normal[:, edge] / (flat[edge] + 1e-6)
    # Hair lies back along the body and hangs a little.
    along = seen.hair[:, edge] / (np.sqrt((seen.hair[:, edge] ** 2).sum(0)) + 1e-6)
    along = along * np.where(seen.part[edge] == TORSO, -0.5, 0.5)
    dx = 0.8 * out[0] + along[0] + lean[0]
    dy = 0.8 * out[1] + along[1] + lean[1] + 0.25
    # A hair takes its colour partly from the fur further in, because the very edge is in shade.
    deep_x = np.clip(np.rint(columns[edge] - 5 * out[0]).astype(np.int64), 0, width - 1)
    deep_y = np.clip(np.rint(rows[edge] - 5 * out[1]).astype(np.int64), 0, height - 1)
    inside = seen.covered[deep_y, deep_x]
    tone = np.where(inside[:, None], 0.5 * colours[edge] + 0.5 * paint[deep_y, deep_x], colours[edge])
    tone = np.rint(np.clip(tone * rng.uniform(0.88, 1.12, (edge.size, 1)), 0, 255)).astype(np.int64).tolist()
    hairs = (columns[edge].tolist(), rows[edge].tolist(), (dx * lengths).tolist(), (dy * lengths).tolist())
    for (r, g, b), x, y, u, v in zip(tone, *hairs, strict=True):
        line = (x - round(u / 2), y - round(v / 2), x + round(u), y + round(v))
        brush.line(line, fill=(r, g, b, 255))
    return picture


def paste_fur(
    scene: Image.Image, blobs: Blobs, view: View, look: Look, light: Array, hair: float, rng: np.random.Generator
) -> tuple[Surface, NDArray[np.uint8]]:
    """Paint an animal or a toy into a scene.

    Parameters
    ----------
    scene : Image
        RGB; changed in place.
    hair : float
        Length of the hair along the outline, in units of space.

    Returns
    -------
    seen : Surface
        The visible surface that was painted.
    cover : ndarray
        ``(H, W)`` uint8, 255 where it was painted, single hairs included.
    """
    width, height = scene.size
    seen = see(blobs, view, (height, width))
    picture = outline_hair(seen, fur(seen, look, light, rng), hair * seen.scale, rng)
    scene.paste(picture, (0, 0), picture)
    return seen, np.asarray(picture.getchannel("A"))
