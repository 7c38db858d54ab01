"""Blobs to pixels: which surface is seen where, the fur and the light on it and the hair along its outline."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from petseg_utils.draw_bodies import Blobs, times
from petseg_utils.draw_breeds import COLLAR, EAR, HEAD, LEG, MUZZLE, NOSE, TAG, TONGUE, TORSO, coat_colours
from petseg_utils.draw_textures import N_ANGLES, TILE, Array, fur_tiles, look_up, noise_tile, photo_tile, ramp


def camera(pitch: float, scale: float, offset: tuple[float, float]) -> tuple[Array, Array]:
    """Matrix and shift that take space to (column, row, nearness) in pixels, looking down by `pitch`."""
    c, s = math.cos(pitch), math.sin(pitch)
    matrix = scale * np.array([[1, 0, 0], [0, -c, s], [0, s, c]])
    return matrix, np.array([offset[0], offset[1], 0.0])


def project(points: Array, view: tuple[Array, Array]) -> Array:
    """Points ``(N, 3)`` in space to ``(N, 3)`` column, row, nearness."""
    return (view[0] * points[:, None, :]).sum(-1) + view[1]


def see(blobs: Blobs, view: tuple[Array, Array], size: tuple[int, int]) -> dict:
    """The nearest surface in each pixel.

    Parameters
    ----------
    blobs : Blobs
        What there is to see.
    view : tuple
        From `camera`.
    size : tuple of int
        Height and width, pixels.

    Returns
    -------
    dict
        ``near`` ``(H, W)`` nearness and ``index`` ``(H, W)`` blob number or -1; then for the P covered pixels ``rows``,
        ``columns``, ``normal`` ``(3, P)``, ``space`` ``(3, P)``, ``part``, ``along`` and ``hair`` ``(2, P)``, its
        direction in the picture.
    """
    height, width = size
    scale = math.sqrt(float((view[0][:, 0] ** 2).sum()))
    centres = project(np.stack([row[0] for row in blobs.rows]), view)
    axes = times(view[0], np.stack([row[1] for row in blobs.rows])) / scale
    lengths = np.stack([row[2] for row in blobs.rows]) * scale
    spread = (axes * axes * (lengths**2)[:, None, :]).sum(-1)  # squared half extents
    shape = times(axes / (lengths**2)[:, None, :], axes.transpose(0, 2, 1))
    near, index = np.full(size, -1e9), np.full(size, -1, dtype=np.int64)
    columns, rows = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)[:, None]
    for k in range(len(centres)):
        cx, cy, cz = centres[k].tolist()
        ex, ey = math.sqrt(spread[k, 0]), math.sqrt(spread[k, 1])
        x0, x1 = max(0, math.ceil(cx - ex)), min(width, math.floor(cx + ex) + 1)
        y0, y1 = max(0, math.ceil(cy - ey)), min(height, math.floor(cy + ey) + 1)
        if x0 >= x1 or y0 >= y1:
            continue
        (a, b, d), (_, e, f), (_, _, g) = shape[k].tolist()
        dx, dy = columns[x0:x1] - cx, rows[y0:y1] - cy
        slope = d * dx + f * dy
        inside = slope * slope - g * (a * dx * dx + 2 * b * dx * dy + e * dy * dy - 1)
        surface = (np.sqrt(np.maximum(inside, 0)) - slope) / g + cz
        window = near[y0:y1, x0:x1]
        nearer = (inside > 0) & (surface > window)
        window[nearer] = surface[nearer]
        index[y0:y1, x0:x1][nearer] = k
    rows, columns = np.nonzero(index >= 0)
    hit = index[rows, columns]
    place = np.stack([columns.astype(np.float64), rows.astype(np.float64), near[rows, columns]])
    offset = place - centres[hit].T
    normal = (shape[hit].transpose(1, 2, 0) * offset).sum(1)
    space = ((view[0].T / scale**2)[:, :, None] * (place - view[1][:, None])).sum(1)
    hair = ((view[0] * np.stack([row[5] for row in blobs.rows])[:, None, :]).sum(-1))[hit].T[:2]
    part = np.array([row[3] for row in blobs.rows])[hit]
    along = np.array([row[4] for row in blobs.rows])[hit]
    return {
        "near": near, "index": index, "rows": rows, "columns": columns, "space": space, "part": part, "along": along,
        "hair": hair, "normal": normal / np.sqrt((normal**2).sum(0)), "scale": scale,
    }  # fmt: skip


def smooth(values: Array, seen: dict, reach: int) -> Array:
    """Mean over a square of side ``2 * reach + 1`` of values known on the covered pixels only, ``(K, P)``."""
    rows, columns = seen["rows"], seen["columns"]
    y0, x0 = rows.min(), columns.min()
    sheet = np.zeros((len(values) + 1, rows.max() - y0 + 1, columns.max() - x0 + 1))
    sheet[:-1, rows - y0, columns - x0] = values
    sheet[-1, rows - y0, columns - x0] = 1.0
    side = 2 * reach + 1
    mean = ndimage.uniform_filter(sheet, (0, side, side), mode="constant")[:, rows - y0, columns - x0]
    return mean[:-1] / mean[-1]


def fur(seen: dict, look: dict, light: Array, rng: np.random.Generator) -> Array:
    """Colours ``(P, 3)`` of the covered pixels: coat, hair, shade.

    Parameters
    ----------
    seen : dict
        From `see`.
    look : dict
        ``pattern``, ``palette``, ``coarse`` (hair, 0..2), ``body`` and ``head`` (frame, origin, size) and ``collar``.
    light : ndarray
        Unit vector towards the light, in (column, row, nearness).
    rng : Generator
        Where patches and locks lie.
    """
    part, rows, columns = seen["part"], seen["rows"], seen["columns"]
    places = []
    for frame, origin, size in (look["body"], look["head"]):
        right, up, forward = (frame.T[:, :, None] * (seen["space"] - origin[:, None])).sum(1) / size
        places.append((right, up, forward))
    body = np.stack([places[0][2], places[0][1], places[0][0]])
    head = np.stack(places[1])
    colour = coat_colours(look["pattern"], look["palette"], part, seen["along"], body, head, look["curly"], rng)
    px = look["head"][2] * seen["scale"]  # head radius, pixels

    nose = look["muzzle"]
    on_face = (part == HEAD) | (part == MUZZLE)
    away = np.stack([columns - nose[0], rows - nose[1]])
    comb = np.where(on_face, away, seen["hair"])
    angle = np.arctan2(comb[1], comb[0]) / np.pi + 0.12 * look_up(noise_tile(9.0, 5), columns * 1.0, rows * 1.0)
    which = np.floor(angle * N_ANGLES + 0.5).astype(np.int64) % N_ANGLES
    shift = rng.integers(0, TILE, 2)
    grain = min(1.6, max(0.6, 34 / px))
    strand = fur_tiles(look["coarse"])[which, (rows * grain + shift[0]).astype(np.int64) % TILE,
                                       (columns * grain + shift[1]).astype(np.int64) % TILE]  # fmt: skip
    lock = look_up(noise_tile(4.0, 6), columns * grain * 1.2 + shift[0], rows * grain * 0.7)
    real = look_up(photo_tile("chelsea"), columns * grain * 0.8 + shift[1], rows * grain * 0.8 + shift[0])
    depth = (0.075, 0.085, 0.1)[look["coarse"]]
    hair = depth * strand + 0.035 * lock + 0.03 * real

    reach = max(1, round(px * 0.07))
    normal = smooth(seen["normal"], seen, reach)
    normal = normal / np.sqrt((normal**2).sum(0) + 1e-9)
    near = seen["near"][rows, columns]
    hollow = np.clip((smooth(near[None], seen, max(2, round(px * 0.3)))[0] - near) / (0.55 * px), 0, 1) * ramp(
        normal[2], 0.1, 0.7
    )
    facing = (normal * light[:, None]).sum(0) + 0.35 * hair
    shade = 0.58 + 0.5 * np.clip(facing, -0.45, 1) + 0.12 * ramp(normal[2], 0.45, 0.0)
    shade *= (1 - 0.5 * hollow) * (0.72 + 0.28 * ramp(seen["space"][1], 0.0, 0.4))
    skin = (part == NOSE) | (part == TONGUE) | (part == COLLAR) | (part == TAG)
    colour[part == NOSE] = look["nose"]
    colour[part == TONGUE] = (222, 112, 120)
    colour[part == COLLAR] = look["collar"]
    colour[part == TAG] = (226, 190, 80)
    hair = np.where(skin, 0.0, hair)
    gloss = np.where(skin, 60.0, 10.0) * ramp(facing, 0.8, 1.0)
    return np.clip(colour * (shade * (1 + hair))[:, None] + (14 * hair + gloss)[:, None], 0, 255)


def outline_hair(seen: dict, colours: Array, length: float, rng: np.random.Generator) -> Image.Image:
    """The furred animal as an RGBA picture, with hair standing out along its edge."""
    height, width = seen["index"].shape
    rows, columns = seen["rows"], seen["columns"]
    paint = np.zeros((height, width, 3), dtype=np.uint8)
    paint[rows, columns] = np.rint(colours).astype(np.uint8)
    cover = (seen["index"] >= 0).astype(np.uint8) * 255
    normal = seen["normal"][:2]
    flat = np.sqrt((normal**2).sum(0))
    inner = ndimage.binary_erosion(cover > 0, iterations=2, border_value=1)
    naked = np.isin(seen["part"], (NOSE, TONGUE, TAG))
    edge = np.nonzero(~inner[rows, columns] & ~naked)[0]
    picture = Image.fromarray(np.dstack([paint, cover]))
    brush = ImageDraw.Draw(picture)
    edge = edge[rng.permutation(edge.size)[: min(edge.size, 900)]]
    lengths = (
        length * (0.4 + rng.random(edge.size)) * np.where(np.isin(seen["part"][edge], (EAR, LEG, MUZZLE)), 0.45, 1.0)
    )
    lean = rng.normal(0, 0.25, (2, edge.size))
    out = normal[:, edge] / (flat[edge] + 1e-6)
    # Hair lies back along the body and hangs a little.
    along = seen["hair"][:, edge] / (np.sqrt((seen["hair"][:, edge] ** 2).sum(0)) + 1e-6)
    along = along * np.where(seen["part"][edge] == TORSO, -0.5, 0.5)
    dx = 0.8 * out[0] + along[0] + lean[0]
    dy = 0.8 * out[1] + along[1] + lean[1] + 0.25
    # Its colour is that of the fur further in: the very edge lies in its own shade.
    deep_x = np.clip(np.rint(columns[edge] - 5 * out[0]).astype(np.int64), 0, width - 1)
    deep_y = np.clip(np.rint(rows[edge] - 5 * out[1]).astype(np.int64), 0, height - 1)
    covered = cover[deep_y, deep_x] > 0
    tone = np.where(covered[:, None], 0.5 * colours[edge] + 0.5 * paint[deep_y, deep_x], colours[edge])
    tone = np.rint(np.clip(tone * rng.uniform(0.88, 1.12, (edge.size, 1)), 0, 255)).astype(np.int64).tolist()
    for (r, g, b), x, y, u, v in zip(tone, columns[edge].tolist(), rows[edge].tolist(), (dx * lengths).tolist(),
                                     (dy * lengths).tolist(), strict=True):  # fmt: skip
        line = (x - round(u / 2), y - round(v / 2), x + round(u), y + round(v))
        brush.line(line, fill=(r, g, b, 255))
    return picture


def shadow(blobs: Blobs, view: tuple, light: Array, size: tuple[int, int]) -> Array:
    """How dark each pixel of the ground is below `blobs`, ``(H, W)`` in 0..1."""
    coarse = 4  # it gets blurred anyway
    sheet = Image.new("L", (-(-size[1] // coarse), -(-size[0] // coarse)))
    brush = ImageDraw.Draw(sheet)
    scale = math.sqrt(float((view[0][:, 0] ** 2).sum()))
    squash = view[0][1, 2] / scale
    x, y, z = np.stack([row[0] for row in blobs.rows]).T
    below = project(np.stack([x - 0.8 * light[0] * y, 0 * y, z - 0.5 * max(0.1, light[2]) * y], axis=1), view)
    sizes = scale * np.stack([row[2] for row in blobs.rows]).min(1)
    for (column, row, _), r, high in zip(below.tolist(), sizes.tolist(), y.tolist(), strict=True):
        wide, tall = 0.95 * r, r * max(squash, 0.18)
        box = (column - wide, row - tall, column + wide, row + tall)
        brush.ellipse([x / coarse for x in box], fill=round(max(60, 190 - 60 * high)))
    sheet = sheet.filter(ImageFilter.GaussianBlur(0.12 * scale / coarse))
    sheet = sheet.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(sheet, dtype=np.float64) / 255.0


def paste_fur(
    scene: Image.Image, blobs: Blobs, view: tuple, look: dict, light: Array, hair: float, rng: np.random.Generator
) -> tuple[dict, NDArray[np.uint8]]:
    """Paint furry blobs into the scene; returns what `see` saw and the coverage, ``(H, W)`` uint8."""
    seen = see(blobs, view, scene.size[::-1])
    if seen["rows"].size == 0:
        return seen, np.zeros(scene.size[::-1], dtype=np.uint8)
    picture = outline_hair(seen, fur(seen, look, light, rng), hair * seen["scale"], rng)
    scene.paste(picture, (0, 0), picture)
    return seen, np.asarray(picture.getchannel("A"))
