"""Blobs to pixels: which surface is seen where, fur and light on it, hair along the outline and the face on top."""

import math

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from petseg_utils.pets import Array, Blobs, times
from petseg_utils.textures import COLLAR, EAR, HEAD, LEG, MUZZLE, NOSE, TAG, TONGUE, TORSO, coat_colours, fur_tiles
from petseg_utils.textures import N_ANGLES, TILE, look_up, noise_tile, photo_tile, ramp

FINE = 2  # the face is drawn this many times finer than the picture
CAT_EYES = ((150, 172, 84), (206, 164, 70), (122, 160, 104), (120, 166, 196), (184, 172, 92), (176, 118, 56))
DOG_EYES = ((84, 50, 24), (64, 40, 24), (108, 66, 28), (52, 34, 24), (150, 108, 56), (130, 156, 180))


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
        ``columns``, ``normal`` ``(3, P)``, ``space`` ``(3, P)``, ``part``, ``along`` and ``hair`` ``(2, P)``, the hair's
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
    colour = coat_colours(look["pattern"], look["palette"], part, seen["along"], body, head, rng)
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
    depth = (0.07, 0.09, 0.115)[look["coarse"]]
    hair = depth * strand + 0.035 * lock + 0.03 * real

    reach = max(1, round(px * 0.07))
    normal = smooth(seen["normal"], seen, reach)
    normal = normal / np.sqrt((normal**2).sum(0) + 1e-9)
    near = seen["near"][rows, columns]
    hollow = np.clip((smooth(near[None], seen, max(2, round(px * 0.3)))[0] - near) / (0.55 * px), 0, 1) * ramp(normal[2], 0.1, 0.7)
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
    lengths = length * (0.4 + rng.random(edge.size)) * np.where(np.isin(seen["part"][edge], (EAR, LEG, MUZZLE)), 0.45, 1.0)
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


def on_head(face: dict, points: list, at: tuple, view: tuple, frame: Array, centre: Array, radius: float) -> tuple[Array, Array]:
    """Flat outlines held against the skull at `at` (right, up): their pixels ``(N, 3)`` and the outward normal."""
    a, b, c = face["axes"]
    x, y = at
    z = c * math.sqrt(max(0.05, 1 - (x / a) ** 2 - (y / b) ** 2))
    normal = np.array([x / a**2, y / b**2, z / c**2])
    normal /= math.sqrt(float((normal**2).sum()))
    right = np.array([normal[2], 0.0, -normal[0]])
    right /= math.sqrt(float((right**2).sum()))
    up = np.cross(normal, right)
    local = np.array([(x, y, z + 0.02) + p * right + q * up for p, q in points])
    space = centre + radius * (frame * local[:, None, :]).sum(-1)
    return project(space, view), (frame * normal).sum(1)


def ellipse(width: float, height: float, x: float = 0.0, y: float = 0.0, tilt: float = 0.0, corner: float = 0.0) -> list:
    """Outline of an ellipse, pinched to corners at its ends if `corner` > 0."""
    points = []
    for k in range(28):
        t = math.tau * k / 28
        p, q = width * math.cos(t), height * math.sin(t) * (1 - corner * math.cos(t) ** 2)
        points.append((x + p * math.cos(tilt) - q * math.sin(tilt), y + p * math.sin(tilt) + q * math.cos(tilt)))
    return points


def draw_face(seen: dict, face: dict, look: dict, view: tuple, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """Two transparent layers of the picture's size: what lies on the head, and the whiskers, which stick out of it."""
    frame, centre, radius = look["head"]
    height, width = seen["index"].shape
    px = radius * seen["scale"]
    middle = project(centre[None], view)[0]
    reach = round(1.9 * px)
    left, top = round(middle[0]) - reach, round(middle[1]) - reach
    layers = [Image.new("RGBA", (2 * reach * FINE,) * 2) for _ in range(2)]
    skin, air = (ImageDraw.Draw(layer) for layer in layers)
    turned = view[0] / seen["scale"]

    def place(points: Array) -> list:
        return [((x - left + 0.5) * FINE, (y - top + 0.5) * FINE) for x, y, _ in points.tolist()]

    def spots(points: list) -> Array:
        return project(centre + radius * (frame * np.array(points, dtype=np.float64)[:, None, :]).sum(-1), view)

    def hidden(point: Array) -> bool:
        x, y = round(float(point[0])), round(float(point[1]))
        return not (0 <= x < width and 0 <= y < height) or seen["near"][y, x] > point[2] + 0.25 * px

    cat = face["cat"]
    dark = tuple(int(0.35 * c) for c in look["palette"][1])
    for side in (-1, 1):
        ear = face.get(f"ear{side}")
        if ear and (turned[2] * frame[:, 2]).sum() > 0.1:
            (rx, ry, rz), (mx, my, mz), (tx, ty, tz) = ear
            inner = spots([(rx - 0.2, ry + 0.12, rz + 0.2), (mx - 0.15, my, mz + 0.12), (tx, ty - 0.12, tz + 0.05),
                           (mx + 0.15, my, mz + 0.12), (rx + 0.2, ry + 0.12, rz + 0.2)])  # fmt: skip
            skin.polygon(place(inner), fill=(*look["ear"], 200))
    eye_x, eye_y = face["eyes"]
    for side in (-1, 1):
        at = (side * eye_x, eye_y)
        tilt = side * (0.22 if cat else 0.08)

        def part(points: list, fill: tuple, at: tuple = at) -> None:
            pixels, _ = on_head(face, points, at, view, frame, centre, radius)
            skin.polygon(place(pixels), fill=fill)

        spot, normal = on_head(face, [(0, 0)], at, view, frame, centre, radius)
        if (turned[2] * normal).sum() < 0.12 or hidden(spot[0]):
            continue
        if look["asleep"]:
            arc, _ = on_head(face, [(p, 0.09 * (p / 0.2) ** 2 - 0.05) for p in np.linspace(-0.2, 0.2, 9)], at, view, frame, centre, radius)
            skin.line(place(arc), fill=(24, 18, 18, 255), width=max(2, round(0.07 * px * FINE)), joint="curve")
            continue
        w, h = (0.25, 0.21) if cat else (0.185, 0.175)
        part(ellipse(w * 1.22, h * 1.25, tilt=tilt, corner=0.3 if cat else 0.15), (*dark, 255))
        if not cat:
            part(ellipse(w * 1.02, h * 0.95, tilt=tilt, corner=0.3), (226, 220, 212, 255))
        part(ellipse(w * (0.98 if cat else 0.93), h * (0.98 if cat else 1.02), tilt=tilt, corner=0.2 if cat else 0.0), (*look["iris"], 255))
        pupil = (w * look["pupil"], h * 0.9) if cat else (w * 0.5, w * 0.5)
        part(ellipse(*pupil), (10, 8, 10, 255))
        lid = ellipse(w * 1.1, h * 1.1, tilt=tilt, corner=0.3)
        part([(p, q) for p, q in lid if q > 0.45 * h], (*dark, 190))
        part(ellipse(w * 0.2, w * 0.2, -0.3 * w, 0.3 * h), (255, 255, 255, 240))
        part(ellipse(w * 0.1, w * 0.1, 0.3 * w, -0.4 * h), (255, 255, 255, 150))
    stroke = max(1, round(0.05 * px * FINE))
    nose, mouth = face["nose"], face["mouth"]
    front = (turned[2] * frame[:, 2]).sum()
    if front > 0.1:
        x, y, z = mouth
        line = [(0, nose[1] - 0.08, nose[2] - 0.02), (0, y + 0.02, z)]
        skin.line(place(spots(line)), fill=(*dark, 230), width=stroke)
        bend = 0.2 if cat else 0.3
        for side in (-1, 1):
            arc = [(side * bend * t, y - 0.1 * math.sin(math.pi * t) + 0.04 * t, z - 0.12 * t * t) for t in np.linspace(0, 1, 7).tolist()]
            skin.line(place(spots(arc)), fill=(*dark, 230), width=stroke, joint="curve")
            if not cat:
                hole = spots([(nose[0] + side * 0.1 + p, nose[1] - 0.02 + q, nose[2]) for p, q in ellipse(0.05, 0.035)])
                skin.polygon(place(hole), fill=(6, 5, 6, 255))
    for side in (-1, 1):
        root = np.array([side * 0.3, -0.38, face["snout"] - (0.02 if cat else 0.35)])
        outward = (turned[2] * (frame * np.array([side * 0.75, 0, 0.65])).sum(1)).sum()
        for k in range(4 if cat else 2):
            jig = rng.normal(0, 0.04, 2)
            if outward < -0.15:
                continue
            rise = (0.22 - 0.16 * k + jig[0]) if cat else -0.12 * k
            far = (1.0 + jig[1]) if cat else 0.3
            hair = [root + (side * far * t, 0.06 * (1 - k) + rise * t - 0.22 * t * t, -0.25 * t) for t in np.linspace(0, 1, 8).tolist()]
            curve = spots(hair)
            thick = np.linspace(0.034, 0.012, 8) * px
            low, high = curve.copy(), curve.copy()
            low[:, 1] -= thick
            high[:, 1] += thick
            air.polygon(place(low) + place(high[::-1]), fill=(*look["whisker"], 225 if cat else 130))
        for k in range(3):
            dot = spots([root + (side * 0.02 * (k - 1) - 0.06 * side, 0.07 * (1 - k), 0.02)])[0]
            if outward > 0.1 and not hidden(dot):
                x, y = place(dot[None])[0]
                r = 0.028 * px * FINE
                skin.ellipse((x - r, y - r, x + r, y + r), fill=(*dark, 170))
    result = []
    for layer in layers:
        small = layer.resize((2 * reach, 2 * reach), Image.Resampling.BOX)
        sheet = Image.new("RGBA", (width, height))
        sheet.paste(small, (left, top))
        result.append(sheet)
    # Nothing of the face may show through what stands in front of it.
    head = (seen["index"] >= 0).astype(np.uint8) * 255
    head[seen["rows"], seen["columns"]] = np.where(np.isin(seen["part"], (HEAD, MUZZLE, EAR, NOSE)), 255, 0)
    alpha = np.minimum(np.asarray(result[0].getchannel("A")), head)
    result[0].putalpha(Image.fromarray(alpha))
    return result[0], result[1]
