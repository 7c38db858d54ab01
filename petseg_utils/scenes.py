"""Where the sample's animals are: rooms, sofas, lawns, paths and blurred lights, and things that stand in front."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from petseg_utils.pets import Array
from petseg_utils.textures import blend, look_up, noise_tile, photo_tile, ramp

# (kind, weight): what is behind and below the animal.
PLACES = ("room", "room", "sofa", "sofa", "lawn", "lawn", "path", "brick", "blanket", "bokeh", "studio", "snow", "beach")
WARM = ((196, 164, 128), (168, 120, 84), (214, 196, 170), (150, 98, 66), (122, 92, 70), (232, 220, 200), (90, 72, 62))
COOL = ((150, 170, 184), (104, 128, 150), (190, 200, 200), (96, 116, 104), (60, 72, 88), (140, 150, 130), (172, 160, 180))
LOUD = ((190, 70, 60), (60, 110, 160), (220, 170, 60), (90, 140, 90), (150, 90, 140), (226, 130, 80), (70, 150, 150))


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
        seam = np.maximum(ramp(np.abs(v * 2.2 - row - 0.5), 0.45, 0.49), ramp(np.abs(u * 0.5 + row * 0.37 - board - 0.5), 0.485, 0.497))
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
        return blend(base + 0 * u[..., None], other, 0.8 * ramp(wave, 0.2, 0.35)) * (1 + 0.09 * fine + 0.03 * broad)[..., None]
    if kind == "weave":
        base, other = pick(WARM + COOL + LOUD, rng), pick(WARM + COOL + LOUD, rng)
        cloth = 0.5 * np.sin(u * 70) + 0.5 * np.sin(v * 70)
        motif = rng.integers(4)
        wave = np.maximum(np.sin(u * 4), np.sin(v * 4)) if motif == 0 else np.sin(u * 6) if motif == 1 else broad - 3
        folds = look_up(noise_tile(20.0, 12), u * 24 + 0.4 * v, v * 9)
        return blend(base + 0 * u[..., None], other, 0.7 * ramp(wave, 0.6, 0.8)) * (1 + 0.04 * cloth + 0.09 * folds)[..., None]
    name, low, high, power = {
        "grass": ("grass", (52, 76, 26), (140, 164, 74), 0.5),
        "gravel": ("gravel", (84, 78, 72), (178, 170, 158), 0.5),
        "snow": ("gravel", (196, 206, 220), (244, 246, 250), 0.25),
        "sand": ("gravel", (160, 132, 94), (222, 200, 160), 0.3),
    }[kind]
    relief = look_up(photo_tile(name), u * 60 + rng.uniform(0, 256), v * 60)
    level = np.clip(0.5 + 0.3 * power * relief + 0.12 * broad + rng.normal(0, 0.08), 0, 1)
    return blend(np.array(low, dtype=np.float64) + 0 * u[..., None], np.array(high), level) + rng.normal(0, 6, 3)


def backdrop(place: str, size: tuple[int, int], edge: float, unit: float, rng: np.random.Generator) -> Image.Image:
    """The surroundings without the animal.

    Parameters
    ----------
    place : str
        One of `PLACES`.
    size : tuple of int
        Height and width, pixels.
    edge : float
        Row where the ground meets what stands behind it; outside the picture for none.
    unit : float
        Pixels in one unit of space.
    rng : Generator
        Chooses colours and furniture.
    """
    height, width = size
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    long = max(size)
    if place in ("bokeh", "studio"):
        base = pick(WARM + COOL, rng) * rng.uniform(0.25, 1.0)
        far = 1 - 0.6 * ((x / width - rng.uniform(0.2, 0.8)) ** 2 + (y / height - 0.4) ** 2)
        sheet = to_image(base * far[..., None])
        if place == "bokeh":
            brush = ImageDraw.Draw(sheet, "RGBA")
            hue = (WARM, COOL, ((70, 110, 50), (120, 150, 70), (40, 70, 40)), LOUD)[int(rng.integers(4))]
            for _ in range(26):
                r = rng.uniform(0.03, 0.13) * long
                cx, cy = rng.uniform(0, width), rng.uniform(0, height)
                brush.ellipse((cx - r, cy - r, cx + r, cy + r), fill=(*pick(hue, rng, 20).astype(int).tolist(), int(rng.integers(60, 200))))
            sheet = sheet.filter(ImageFilter.GaussianBlur(0.015 * long))
        if rng.random() < 0.6 and edge < height:  # a table or a mat to sit on
            kind = ("weave", "planks", "carpet", "grass")[int(rng.integers(4))]
            top = to_image(floor(kind, (x - width / 2) / unit, 2.2 * (y - edge) / unit, rng))
            step = Image.new("L", (width, height))
            ImageDraw.Draw(step).rectangle((0, edge, width, edge + height), fill=255)
            sheet.paste(top, (0, 0), step.filter(ImageFilter.GaussianBlur(2)))
        return sheet
    # Ground rows spread out towards the viewer.
    near = np.maximum(y - edge, 0) / unit
    gap = 1 / (1 + 0.22 * near)
    u, v = (x - width / 2) / unit * gap, 4.5 * near / (1 + 0.22 * near)
    kind = {"sofa": "weave", "lawn": "grass", "path": "gravel", "snow": "snow", "beach": "sand", "blanket": "weave"}.get(place)
    if kind is None:
        kind = ("planks", "planks", "tiles", "carpet")[int(rng.integers(4))] if place == "room" else ("gravel", "tiles", "grass")[int(rng.integers(3))]
    ground = floor(kind, u, v, rng) * (0.85 + 0.15 * ramp(near, 0, 1.2))[..., None]
    if edge <= 0:
        return to_image(ground)
    if place in ("lawn", "path", "snow", "beach"):
        wall = outdoors(place, x, y, edge, long, rng)
    else:
        wall = indoors(place, x, y, edge, unit, rng)
    sheet = wall.filter(ImageFilter.GaussianBlur(long * rng.uniform(0.002, 0.012)))
    step = Image.new("L", (width, height))
    ImageDraw.Draw(step).rectangle((0, round(edge), width, round(edge) + height), fill=255)
    soft = 1.0 if place in ("room", "sofa", "brick") else 3.0
    sheet.paste(to_image(ground), (0, 0), step.filter(ImageFilter.GaussianBlur(soft)))
    return sheet


def outdoors(place: str, x: Array, y: Array, edge: float, long: int, rng: np.random.Generator) -> Image.Image:
    """Sky, far hills or sea, hedges and trees above row `edge`."""
    height, width = x.shape
    sky = blend(np.array([[pick(((120, 164, 214), (170, 196, 220), (206, 210, 214)), rng)]]) + 0 * x[..., None], np.array([232, 232, 228]), ramp(y, -0.2 * edge, edge))
    cloud = look_up(noise_tile(16.0, 13), x / long * 120 + rng.uniform(0, 256), y / long * 260)
    sheet = to_image(blend(sky, np.array([244, 244, 244]), 0.7 * ramp(cloud, 0.2, 1.6)))
    brush = ImageDraw.Draw(sheet)
    if place == "beach":
        sea = edge - rng.uniform(0.08, 0.3) * long
        brush.rectangle((0, sea, width, sea + height), fill=tuple(pick(((70, 130, 150), (60, 100, 140), (110, 150, 160)), rng).astype(int)))
        for _ in range(8):
            row, left = rng.uniform(sea, edge), rng.uniform(-0.2, 0.8) * width
            brush.line((left, row, left + rng.uniform(0.1, 0.5) * width, row), fill=(220, 232, 236), width=2)
        return sheet
    leaf = ((66, 98, 44), (92, 120, 54), (48, 80, 48), (120, 132, 60), (150, 120, 50)) if place != "snow" else ((90, 100, 100), (150, 160, 166), (60, 76, 66))
    top = edge - rng.uniform(0.1, 0.45) * long
    for k in range(int(rng.integers(1, 4))):  # trees
        trunk, cx = rng.uniform(0.015, 0.05) * long, rng.uniform(0, 1) * width
        brush.rectangle((cx - trunk, top - 0.3 * long, cx + trunk, edge), fill=tuple(pick(((84, 66, 50), (104, 88, 70)), rng).astype(int)))
    for k in range(2):  # a far hedge and a near one
        lump = look_up(noise_tile(6.0, 15), x / long * 150 + rng.uniform(0, 256), 0 * x)
        bush = look_up(noise_tile(1.6, 16), x / long * 150 + rng.uniform(0, 256), y / long * 150)
        ridge = edge - (edge - top) * (1.0 - 0.45 * k) * (1 + 0.35 * lump)
        cover = ramp(y - ridge + 0.02 * long * bush, -1.0, 1.0)
        low = np.clip(1 - (y - ridge) / (0.5 * long), 0.3, 1)  # darker towards the ground
        green = pick(leaf, rng) * (low * (1 + 0.16 * bush + 0.12 * k))[..., None]
        sheet.paste(to_image(green), (0, 0), Image.fromarray(np.rint(255 * cover).astype(np.uint8)))
    if rng.random() < 0.4:  # a fence
        pale = tuple(pick(WARM, rng).astype(int))
        step, rail = rng.uniform(0.06, 0.12) * long, edge - 0.22 * long
        for k in range(math.ceil(width / step) + 1):
            brush.rectangle((k * step, rail - 0.04 * long, k * step + 0.45 * step, edge), fill=pale)
        brush.rectangle((0, rail, width, rail + 0.025 * long), fill=pale)
    return sheet


def indoors(place: str, x: Array, y: Array, edge: float, unit: float, rng: np.random.Generator) -> Image.Image:
    """A wall above row `edge` with what hangs on it or stands before it; a sofa's back; a brick wall."""
    height, width = x.shape
    u, v = x / unit, (y - edge) / unit
    if place == "brick":
        base = pick(((160, 90, 70), (186, 150, 124), (130, 100, 90), (190, 186, 180)), rng)
        relief = look_up(photo_tile("brick"), u * 100 + rng.uniform(0, 256), v * 100)
        return to_image(base * (1 + 0.14 * relief)[..., None])
    base = pick(WARM + COOL + LOUD, rng, 18)
    paper = rng.integers(4)
    wave = (np.sin(u * 9), np.sin(u * 9) * np.sin(v * 9), 0 * u, 0 * u)[paper]
    wall = base * (1 + 0.05 * ramp(wave, 0.1, 0.4) + 0.02 * look_up(noise_tile(2.0, 14), u * 60, v * 60) + 0.1 * (x / width - 0.5))[..., None]
    sheet = to_image(wall)
    brush = ImageDraw.Draw(sheet, "RGBA")

    def colour(bag: tuple) -> tuple:
        return tuple(pick(bag, rng, 18).astype(int).tolist())

    if place == "sofa":
        fabric = colour(WARM + COOL + LOUD)
        left = rng.uniform(-0.5, 0.1) * width
        top = edge - rng.uniform(1.0, 1.9) * unit
        wide = rng.uniform(0.45, 0.8) * width
        for k in range(4):
            box = (left + k * wide, top, left + (k + 1) * wide - 3, edge + 0.4 * unit)
            brush.rounded_rectangle(box, radius=0.25 * unit, fill=fabric)
            brush.rounded_rectangle((box[0] + 4, box[1] + 4, box[2] - 4, box[3]), radius=0.25 * unit, fill=(255, 255, 255, 22))
        for _ in range(int(rng.integers(0, 3))):  # cushions
            s, cx = rng.uniform(0.35, 0.55) * unit, rng.uniform(0, width)
            brush.rounded_rectangle((cx - s, edge - 1.6 * s, cx + s, edge + 0.3 * s), radius=0.3 * s, fill=colour(LOUD + WARM))
        return sheet
    for _ in range(int(rng.integers(1, 4))):
        cx, what = rng.uniform(0, width), rng.integers(5)
        w, h = rng.uniform(0.4, 0.9) * unit, rng.uniform(0.4, 0.9) * unit
        cy = edge - rng.uniform(1.4, 2.6) * unit
        if what == 0:  # a picture
            brush.rectangle((cx - w, cy - h, cx + w, cy + h), fill=colour(WARM))
            brush.rectangle((cx - 0.85 * w, cy - 0.82 * h, cx + 0.85 * w, cy + 0.82 * h), fill=(236, 232, 222))
            brush.ellipse((cx - 0.5 * w, cy - 0.5 * h, cx + 0.5 * w, cy + 0.5 * h), fill=colour(LOUD))
        elif what == 1:  # a window
            brush.rectangle((cx - w, cy - 1.3 * h, cx + w, cy + 1.3 * h), fill=(240, 240, 236))
            for dx in (-0.9, 0.05):
                brush.rectangle((cx + dx * w, cy - 1.2 * h, cx + (dx + 0.85) * w, cy + 1.2 * h), fill=colour(((190, 214, 236), (160, 190, 150))))
        elif what == 2:  # a plant
            for k in range(9):
                t = math.radians(-160 + 17.5 * k)
                end = (cx + 0.8 * unit * math.cos(t), edge - 0.7 * unit + 0.9 * unit * math.sin(t))
                brush.line((cx, edge - 0.6 * unit, *end), fill=colour(((70, 110, 60), (50, 90, 60))), width=max(2, round(0.1 * unit)))
            brush.polygon([(cx - 0.3 * unit, edge - 0.7 * unit), (cx + 0.3 * unit, edge - 0.7 * unit), (cx + 0.2 * unit, edge), (cx - 0.2 * unit, edge)], fill=colour(WARM))
        elif what == 3:  # a cupboard
            brush.rectangle((cx - 1.2 * w, edge - 1.5 * unit, cx + 1.2 * w, edge), fill=colour(WARM + COOL))
            for k in (0, 1):
                brush.rectangle((cx - 1.1 * w + 1.15 * k * w, edge - 1.4 * unit, cx - 0.05 * w + 1.15 * k * w, edge - 0.1 * unit), outline=(40, 30, 24, 120), width=2)
        else:  # a bookshelf
            brush.rectangle((cx - w, edge - 2.6 * unit, cx + w, edge), fill=colour(WARM))
            for k in range(4):
                row, bx = edge - (0.6 * k + 0.1) * unit, cx - 0.9 * w
                while bx < cx + 0.75 * w:
                    thick = rng.uniform(0.05, 0.13) * unit
                    brush.rectangle((bx, row - rng.uniform(0.3, 0.45) * unit, bx + thick, row), fill=colour(LOUD + COOL))
                    bx += thick + 1
    brush.rectangle((0, edge - 0.12 * unit, width, edge), fill=(236, 230, 220, 255))
    return sheet


def in_front(size: tuple[int, int], feet: tuple[float, float], unit: float, rng: np.random.Generator) -> Image.Image:
    """Something that stands before the animal and hides a part of it, as a transparent layer.

    `feet` is (column, row) of the animal's lowest part and `unit` a unit of space, in pixels.
    """
    height, width = size
    layer = Image.new("RGBA", (width, height))
    brush = ImageDraw.Draw(layer)
    colour = tuple(pick(LOUD + WARM + COOL, rng).astype(int).tolist())
    dark = tuple(int(0.7 * c) for c in colour)
    x, y = feet[0] + rng.uniform(-1.1, 1.1) * unit, min(feet[1] + rng.uniform(0.05, 0.2) * unit, height - 0.05 * unit)
    what = rng.integers(5)
    if what == 0:  # a ball
        r = rng.uniform(0.25, 0.42) * unit
        for k in range(12):
            s, f = 1 - k / 14, 0.65 + 0.05 * k
            fill = tuple(min(255, int(c * f)) for c in colour)
            brush.ellipse((x - r * s - 0.25 * r * (1 - s), y - 2 * r + r * (1 - s) * 0.6, x + r * s - 0.25 * r * (1 - s), y - r * (1 - s) * 1.4), fill=(*fill, 255))
        brush.arc((x - r, y - 1.6 * r, x + r, y - 0.4 * r), 20, 160, fill=(240, 240, 240, 255), width=max(2, round(0.12 * r)))
    elif what == 1:  # blocks
        for k in range(3):
            s, bx = rng.uniform(0.2, 0.32) * unit, x + (k - 1) * 0.5 * unit
            fill = tuple(pick(LOUD, rng).astype(int).tolist())
            brush.rectangle((bx - s, y - 2 * s, bx + s, y), fill=(*fill, 255))
            brush.polygon([(bx - s, y - 2 * s), (bx - 0.7 * s, y - 2.4 * s), (bx + 1.3 * s, y - 2.4 * s), (bx + s, y - 2 * s)], fill=(*(min(255, c + 40) for c in fill), 255))
            brush.polygon([(bx + s, y), (bx + s, y - 2 * s), (bx + 1.3 * s, y - 2.4 * s), (bx + 1.3 * s, y - 0.4 * s)], fill=(*(int(0.7 * c) for c in fill), 255))
    elif what == 2:  # leaves or blades of grass at the bottom
        leaf = ((90, 130, 60), (60, 100, 50), (130, 150, 80))
        for _ in range(26):
            bx = rng.uniform(-0.1, 1.1) * width
            tip = (bx + rng.normal(0, 0.25) * unit, height - rng.uniform(0.15, 0.75) * unit)
            w = 0.05 * unit
            brush.polygon([(bx - w, height), tip, (bx + w, height)], fill=(*pick(leaf, rng).astype(int).tolist(), 255))
    elif what == 3:  # a basket or a box the animal is in
        w, h = 1.25 * unit, rng.uniform(0.35, 0.6) * unit
        brush.polygon([(feet[0] - w, y - h), (feet[0] + w, y - h), (feet[0] + 0.9 * w, y + 0.1 * unit), (feet[0] - 0.9 * w, y + 0.1 * unit)], fill=(*colour, 255))
        for k in range(1, 5):
            row = y - h + k * (h + 0.1 * unit) / 5
            brush.line((feet[0] - w, row, feet[0] + w, row), fill=(*dark, 255), width=2)
        brush.line((feet[0] - w, y - h, feet[0] + w, y - h), fill=(*dark, 255), width=max(3, round(0.08 * unit)))
        clip = Image.new("RGBA", layer.size)
        shape = Image.new("L", layer.size)
        ImageDraw.Draw(shape).polygon([(feet[0] - 1.02 * w, y - 1.1 * h), (feet[0] + 1.02 * w, y - 1.1 * h), (feet[0] + 0.9 * w, y + 0.1 * unit), (feet[0] - 0.9 * w, y + 0.1 * unit)], fill=255)
        clip.paste(layer, (0, 0), shape)
        layer = clip
    else:  # the post of a fence, a table's leg
        w = rng.uniform(0.07, 0.13) * unit
        brush.rectangle((x - w, 0, x + w, height), fill=(*colour, 255))
        brush.rectangle((x + 0.3 * w, 0, x + w, height), fill=(*dark, 255))
    return layer
