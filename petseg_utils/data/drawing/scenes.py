"""Surroundings of the drawn animals: rooms, sofas, lawns, paths and blurred lights, and things in front of them."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from petseg_utils.data.drawing.textures import (
    COOL,
    LOUD,
    WARM,
    Array,
    Colour,
    blend,
    look_up,
    noise_tile,
    photo_tile,
    pick,
    ramp,
    to_image,
    whole,
)

# Entries that occur twice are chosen twice as often.
PLACES = (
    "room",
    "room",
    "sofa",
    "sofa",
    "lawn",
    "lawn",
    "path",
    "brick",
    "blanket",
    "bokeh",
    "studio",
    "snow",
    "beach",
)
OUTDOORS = ("lawn", "path", "snow", "beach")


def backdrop(place: str, size: tuple[int, int], edge: float, unit: float, rng: np.random.Generator) -> Image.Image:
    """Draw the surroundings without the animal.

    Parameters
    ----------
    place : str
        One of `PLACES`.
    size : tuple of int
        Height and width, in pixels.
    edge : float
        Row where the ground meets what stands behind it.  At row 0 or above the picture, only the ground is visible;
        below the picture, no ground is.
    unit : float
        Pixels per unit of space.

    Returns
    -------
    Image
        RGB.
    """
    height, width = size
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    if place in ("bokeh", "studio"):
        sheet = studio(place, x, y, rng)
        if edge < 0.95 * height:  # a table or a mat to sit on
            kind = ("weave", "planks", "carpet", "grass")[int(rng.integers(4))]
            paste_below(sheet, floor(kind, (x - width / 2) / unit, 2.2 * (y - edge) / unit, rng), edge, 2)
        return sheet
    # Perspective: rows of the ground spread out towards the viewer.
    near = np.maximum(y - edge, 0) / unit
    gap = 1 / (1 + 0.22 * near)
    u, v = (x - width / 2) / unit * gap, 4.5 * near / (1 + 0.22 * near)
    if place == "room":
        kind = ("planks", "planks", "tiles", "carpet")[int(rng.integers(4))]
    elif place == "brick":
        kind = ("gravel", "tiles", "grass")[int(rng.integers(3))]
    else:
        kind = {
            "sofa": "weave",
            "lawn": "grass",
            "path": "gravel",
            "snow": "snow",
            "beach": "sand",
            "blanket": "weave",
        }[place]
    ground = floor(kind, u, v, rng) * (0.85 + 0.15 * ramp(near, 0, 1.2))[..., None]
    if edge <= 0:
        return to_image(ground)
    wall = outdoors(place, x, y, edge, rng) if place in OUTDOORS else indoors(place, x, y, edge, unit, rng)
    sheet = wall.filter(ImageFilter.GaussianBlur(max(size) * rng.uniform(0.002, 0.012)))
    paste_below(sheet, ground, round(edge), 3 if place in OUTDOORS else 1)
    return sheet


def paste_below(sheet: Image.Image, ground: Array, row: float, soft: float) -> None:
    """Paint `ground` ``(H, W, 3)`` over `sheet` from `row` downwards, with an edge blurred by `soft` pixels."""
    width, height = sheet.size
    below = Image.new("L", sheet.size)
    ImageDraw.Draw(below).rectangle((0, row, width, row + height), fill=255)
    sheet.paste(to_image(ground), (0, 0), below.filter(ImageFilter.GaussianBlur(soft)))


def floor(kind: str, u: Array, v: Array, rng: np.random.Generator) -> Array:
    """Return the colours of a surface seen from above.

    Parameters
    ----------
    kind : {"planks", "tiles", "carpet", "weave", "grass", "gravel", "snow", "sand"}
        Material of the surface.
    u, v : ndarray
        Coordinates on the surface, of any shape, in units of space.

    Returns
    -------
    ndarray
        Colours, 0 to 255 or slightly outside, with the shape of `u` and a last axis of 3.
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
        pattern = blend(base + 0 * u[..., None], other, 0.8 * ramp(wave, 0.2, 0.35))
        return pattern * (1 + 0.09 * fine + 0.03 * broad)[..., None]
    if kind == "weave":
        base, other = pick(WARM + COOL + LOUD, rng), pick(WARM + COOL + LOUD, rng)
        cloth = 0.5 * np.sin(u * 70) + 0.5 * np.sin(v * 70)
        motif = rng.integers(4)
        wave = np.maximum(np.sin(u * 4), np.sin(v * 4)) if motif == 0 else np.sin(u * 6) if motif == 1 else broad - 3
        folds = look_up(noise_tile(20.0, 12), u * 24 + 0.4 * v, v * 9)
        pattern = blend(base + 0 * u[..., None], other, 0.7 * ramp(wave, 0.6, 0.8))
        return pattern * (1 + 0.04 * cloth + 0.09 * folds)[..., None]
    photo, low, high, strength = {
        "grass": ("grass", (52, 76, 26), (140, 164, 74), 0.5),
        "gravel": ("gravel", (84, 78, 72), (178, 170, 158), 0.5),
        "snow": ("gravel", (196, 206, 220), (244, 246, 250), 0.25),
        "sand": ("gravel", (160, 132, 94), (222, 200, 160), 0.3),
    }[kind]
    relief = look_up(photo_tile(photo), u * 60 + rng.uniform(0, 256), v * 60)
    level = np.clip(0.5 + 0.3 * strength * relief + 0.12 * broad + rng.normal(0, 0.08), 0, 1)
    return blend(np.array(low, dtype=np.float64) + 0 * u[..., None], np.array(high), level) + rng.normal(0, 6, 3)


def studio(place: str, x: Array, y: Array, rng: np.random.Generator) -> Image.Image:
    """Draw a plain backdrop with a lit spot, and blurred lights for ``"bokeh"``; `x` and `y` are ``(H, W)``, pixels."""
    height, width = x.shape
    long = max(height, width)
    base = pick(WARM + COOL, rng) * rng.uniform(0.25, 1.0)
    lit = 1 - 0.6 * ((x / width - rng.uniform(0.2, 0.8)) ** 2 + (y / height - 0.4) ** 2)
    sheet = to_image(base * lit[..., None])
    if place == "studio":
        return sheet
    brush = ImageDraw.Draw(sheet, "RGBA")
    green = ((70, 110, 50), (120, 150, 70), (40, 70, 40))
    hues = (WARM, COOL, green, LOUD)[int(rng.integers(4))]
    for _ in range(26):
        r = rng.uniform(0.03, 0.13) * long
        cx, cy = rng.uniform(0, width), rng.uniform(0, height)
        brush.ellipse((cx - r, cy - r, cx + r, cy + r), fill=(*whole(pick(hues, rng, 20)), int(rng.integers(60, 200))))
    return sheet.filter(ImageFilter.GaussianBlur(0.015 * long))


def outdoors(place: str, x: Array, y: Array, edge: float, rng: np.random.Generator) -> Image.Image:
    """Draw sky above row `edge`, with the sea or trees, hedges and a fence; `x` and `y` are ``(H, W)``, in pixels."""
    height, width = x.shape
    long = max(height, width)
    sky = blend(
        np.array([[pick(((120, 164, 214), (170, 196, 220), (206, 210, 214)), rng)]]) + 0 * x[..., None],
        np.array([232, 232, 228]),
        ramp(y, -0.2 * edge, edge),
    )
    cloud = look_up(noise_tile(16.0, 13), x / long * 120 + rng.uniform(0, 256), y / long * 260)
    sheet = to_image(blend(sky, np.array([244, 244, 244]), 0.7 * ramp(cloud, 0.2, 1.6)))
    brush = ImageDraw.Draw(sheet)
    if place == "beach":
        sea = edge - rng.uniform(0.08, 0.3) * long
        water = whole(pick(((70, 130, 150), (60, 100, 140), (110, 150, 160)), rng))
        brush.rectangle((0, sea, width, sea + height), fill=water)
        for _ in range(8):
            row, left = rng.uniform(sea, edge), rng.uniform(-0.2, 0.8) * width
            brush.line((left, row, left + rng.uniform(0.1, 0.5) * width, row), fill=(220, 232, 236), width=2)
        return sheet
    leaves: tuple[Colour, ...] = ((66, 98, 44), (92, 120, 54), (48, 80, 48), (120, 132, 60), (150, 120, 50))
    if place == "snow":
        leaves = ((90, 100, 100), (150, 160, 166), (60, 76, 66))
    top = edge - rng.uniform(0.1, 0.45) * long
    for _ in range(int(rng.integers(1, 4))):  # trees
        trunk, cx = rng.uniform(0.015, 0.05) * long, rng.uniform(0, 1) * width
        bark = whole(pick(((84, 66, 50), (104, 88, 70)), rng))
        brush.rectangle((cx - trunk, top - 0.3 * long, cx + trunk, edge), fill=bark)
    for k in range(2):  # a far hedge and a near one
        lump = look_up(noise_tile(6.0, 15), x / long * 150 + rng.uniform(0, 256), 0 * x)
        bush = look_up(noise_tile(1.6, 16), x / long * 150 + rng.uniform(0, 256), y / long * 150)
        ridge = edge - (edge - top) * (1.0 - 0.45 * k) * (1 + 0.35 * lump)
        cover = ramp(y - ridge + 0.02 * long * bush, -1.0, 1.0)
        low = np.clip(1 - (y - ridge) / (0.5 * long), 0.3, 1)  # darker towards the ground
        green = pick(leaves, rng) * (low * (1 + 0.16 * bush + 0.12 * k))[..., None]
        sheet.paste(to_image(green), (0, 0), Image.fromarray(np.rint(255 * cover).astype(np.uint8)))
    if rng.random() < 0.4:  # a fence
        pale = whole(pick(WARM, rng))
        step, rail = rng.uniform(0.06, 0.12) * long, edge - 0.22 * long
        for k in range(math.ceil(width / step) + 1):
            brush.rectangle((k * step, rail - 0.04 * long, k * step + 0.45 * step, edge), fill=pale)
        brush.rectangle((0, rail, width, rail + 0.025 * long), fill=pale)
    return sheet


def indoors(place: str, x: Array, y: Array, edge: float, unit: float, rng: np.random.Generator) -> Image.Image:
    """Draw a brick wall, or a room with a sofa or furniture above row `edge`; `x` and `y` are ``(H, W)``, in pixels."""
    width = x.shape[1]
    u, v = x / unit, (y - edge) / unit
    if place == "brick":
        base = pick(((160, 90, 70), (186, 150, 124), (130, 100, 90), (190, 186, 180)), rng)
        relief = look_up(photo_tile("brick"), u * 100 + rng.uniform(0, 256), v * 100)
        return to_image(base * (1 + 0.14 * relief)[..., None])
    base = pick(WARM + COOL + LOUD, rng, 18)
    stripes = np.sin(u * 9)
    paper = (stripes, stripes * np.sin(v * 9), 0 * u, 0 * u)[int(rng.integers(4))]
    rough = look_up(noise_tile(2.0, 14), u * 60, v * 60)
    wall = base * (1 + 0.05 * ramp(paper, 0.1, 0.4) + 0.02 * rough + 0.1 * (x / width - 0.5))[..., None]
    sheet = to_image(wall)
    brush = ImageDraw.Draw(sheet, "RGBA")
    if place == "sofa":
        sofa(brush, width, edge, unit, rng)
        return sheet
    for _ in range(int(rng.integers(1, 4))):
        furniture(brush, width, edge, unit, rng)
    brush.rectangle((0, edge - 0.12 * unit, width, edge), fill=(236, 230, 220, 255))  # skirting board
    return sheet


def sofa(brush: ImageDraw.ImageDraw, width: int, edge: float, unit: float, rng: np.random.Generator) -> None:
    """Paint the back of a sofa, perhaps with cushions."""
    fabric = whole(pick(WARM + COOL + LOUD, rng, 18))
    start = rng.uniform(-0.5, 0.1) * width
    top = edge - rng.uniform(1.0, 1.9) * unit
    wide = rng.uniform(0.45, 0.8) * width
    for k in range(4):
        left, right, bottom = start + k * wide, start + (k + 1) * wide - 3, edge + 0.4 * unit
        brush.rounded_rectangle((left, top, right, bottom), radius=0.25 * unit, fill=fabric)
        light = (255, 255, 255, 22)
        brush.rounded_rectangle((left + 4, top + 4, right - 4, bottom), radius=0.25 * unit, fill=light)
    for _ in range(int(rng.integers(0, 3))):
        s, cx = rng.uniform(0.35, 0.55) * unit, rng.uniform(0, width)
        cushion = (cx - s, edge - 1.6 * s, cx + s, edge + 0.3 * s)
        brush.rounded_rectangle(cushion, radius=0.3 * s, fill=whole(pick(LOUD + WARM, rng, 18)))


def furniture(brush: ImageDraw.ImageDraw, width: int, edge: float, unit: float, rng: np.random.Generator) -> None:
    """Paint a picture, a window, a plant, a cupboard or a bookshelf."""

    def colour(colours: tuple[Colour, ...]) -> Colour:
        return whole(pick(colours, rng, 18))

    cx, kind = rng.uniform(0, width), rng.integers(5)
    w, h = rng.uniform(0.4, 0.9) * unit, rng.uniform(0.4, 0.9) * unit
    cy = edge - rng.uniform(1.4, 2.6) * unit
    if kind == 0:  # a picture
        brush.rectangle((cx - w, cy - h, cx + w, cy + h), fill=colour(WARM))
        brush.rectangle((cx - 0.85 * w, cy - 0.82 * h, cx + 0.85 * w, cy + 0.82 * h), fill=(236, 232, 222))
        brush.ellipse((cx - 0.5 * w, cy - 0.5 * h, cx + 0.5 * w, cy + 0.5 * h), fill=colour(LOUD))
    elif kind == 1:  # a window
        brush.rectangle((cx - w, cy - 1.3 * h, cx + w, cy + 1.3 * h), fill=(240, 240, 236))
        for dx in (-0.9, 0.05):
            pane = (cx + dx * w, cy - 1.2 * h, cx + (dx + 0.85) * w, cy + 1.2 * h)
            brush.rectangle(pane, fill=colour(((190, 214, 236), (160, 190, 150))))
    elif kind == 2:  # a plant
        stem = max(2, round(0.1 * unit))
        for k in range(9):
            t = math.radians(-160 + 17.5 * k)
            end = (cx + 0.8 * unit * math.cos(t), edge - 0.7 * unit + 0.9 * unit * math.sin(t))
            brush.line((cx, edge - 0.6 * unit, *end), fill=colour(((70, 110, 60), (50, 90, 60))), width=stem)
        rim, foot = 0.3 * unit, 0.2 * unit
        pot = [(cx - rim, edge - 0.7 * unit), (cx + rim, edge - 0.7 * unit), (cx + foot, edge), (cx - foot, edge)]
        brush.polygon(pot, fill=colour(WARM))
    elif kind == 3:  # a cupboard
        brush.rectangle((cx - 1.2 * w, edge - 1.5 * unit, cx + 1.2 * w, edge), fill=colour(WARM + COOL))
        for left, right in ((-1.1, -0.05), (0.05, 1.1)):
            door = (cx + left * w, edge - 1.4 * unit, cx + right * w, edge - 0.1 * unit)
            brush.rectangle(door, outline=(40, 30, 24, 120), width=2)
    else:  # a bookshelf
        brush.rectangle((cx - w, edge - 2.6 * unit, cx + w, edge), fill=colour(WARM))
        for k in range(4):
            row, left = edge - (0.6 * k + 0.1) * unit, cx - 0.9 * w
            while left < cx + 0.75 * w:
                thick = rng.uniform(0.05, 0.13) * unit
                book = (left, row - rng.uniform(0.3, 0.45) * unit, left + thick, row)
                brush.rectangle(book, fill=colour(LOUD + COOL))
                left += thick + 1


def in_front(size: tuple[int, int], feet: tuple[float, float], unit: float, rng: np.random.Generator) -> Image.Image:
    """Draw something that stands in front of the animal and hides a part of it.

    Parameters
    ----------
    size : tuple of int
        Height and width, in pixels.
    feet : tuple of float
        Column and row, in pixels, where the animal stands: its mean column and its lowest row.
    unit : float
        Pixels per unit of space.

    Returns
    -------
    Image
        RGBA, transparent around the thing.
    """
    height, width = size
    layer = Image.new("RGBA", (width, height))
    brush = ImageDraw.Draw(layer)
    colour = whole(pick(LOUD + WARM + COOL, rng))
    dark = tinted(colour, 0.7)
    x, y = feet[0] + rng.uniform(-1.1, 1.1) * unit, min(feet[1] + rng.uniform(0.05, 0.2) * unit, height - 0.05 * unit)
    kind = rng.integers(5)
    if kind == 0:  # a ball
        r = rng.uniform(0.25, 0.42) * unit
        for k in range(12):
            s = 1 - k / 14
            left, right = x - r * s - 0.25 * r * (1 - s), x + r * s - 0.25 * r * (1 - s)
            top, bottom = y - 2 * r + r * (1 - s) * 0.6, y - r * (1 - s) * 1.4
            brush.ellipse((left, top, right, bottom), fill=tinted(colour, 0.65 + 0.05 * k))
        stripe = (x - r, y - 1.6 * r, x + r, y - 0.4 * r)
        brush.arc(stripe, 20, 160, fill=(240, 240, 240, 255), width=max(2, round(0.12 * r)))
    elif kind == 1:  # blocks
        for k in range(3):
            s, cx = rng.uniform(0.2, 0.32) * unit, x + (k - 1) * 0.5 * unit
            left, right, top, beside, above = cx - s, cx + s, y - 2 * s, cx + 1.3 * s, y - 2.4 * s
            red, green, blue = whole(pick(LOUD, rng))
            brush.rectangle((left, top, right, y), fill=(red, green, blue, 255))
            lid = [(left, top), (cx - 0.7 * s, above), (beside, above), (right, top)]
            brush.polygon(lid, fill=(min(255, red + 40), min(255, green + 40), min(255, blue + 40), 255))
            wall = [(right, y), (right, top), (beside, above), (beside, y - 0.4 * s)]
            brush.polygon(wall, fill=tinted((red, green, blue), 0.7))
    elif kind == 2:  # blades of grass
        greens = ((90, 130, 60), (60, 100, 50), (130, 150, 80))
        for _ in range(26):
            root = rng.uniform(-0.1, 1.1) * width
            tip = (root + rng.normal(0, 0.25) * unit, height - rng.uniform(0.15, 0.75) * unit)
            w = 0.05 * unit
            brush.polygon([(root - w, height), tip, (root + w, height)], fill=whole(pick(greens, rng)))
    elif kind == 3:  # a basket that the animal is in
        w, h = 1.25 * unit, rng.uniform(0.35, 0.6) * unit
        left, right, rim, ground = feet[0] - w, feet[0] + w, y - h, y + 0.1 * unit
        foot = [(feet[0] + 0.9 * w, ground), (feet[0] - 0.9 * w, ground)]
        brush.polygon([(left, rim), (right, rim), *foot], fill=colour)
        for k in range(1, 5):
            row = rim + k * (h + 0.1 * unit) / 5
            brush.line((left, row, right, row), fill=dark, width=2)
        brush.line((left, rim, right, rim), fill=dark, width=max(3, round(0.08 * unit)))
        shape = Image.new("L", layer.size)
        top = y - 1.1 * h
        outline = [(feet[0] - 1.02 * w, top), (feet[0] + 1.02 * w, top), *foot]
        ImageDraw.Draw(shape).polygon(outline, fill=255)
        basket = Image.new("RGBA", layer.size)
        basket.paste(layer, (0, 0), shape)
        return basket
    else:  # the post of a fence, or the leg of a table
        w = rng.uniform(0.07, 0.13) * unit
        brush.rectangle((x - w, 0, x + w, height), fill=colour)
        brush.rectangle((x + 0.3 * w, 0, x + w, height), fill=dark)
    return layer


def tinted(colour: Colour, factor: float) -> Colour:
    """Make a colour darker or, with a factor above 1, lighter."""
    red, green, blue = (min(255, int(factor * value)) for value in colour)
    return red, green, blue
