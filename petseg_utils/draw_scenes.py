"""Where the drawn animals are: rooms, sofas, lawns, paths and blurred lights."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from petseg_utils.draw_textures import (
    COOL,
    LOUD,
    WARM,
    Array,
    blend,
    floor,
    look_up,
    noise_tile,
    photo_tile,
    pick,
    ramp,
    to_image,
)

# (kind, weight): what is behind and below the animal.
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
                brush.ellipse(
                    (cx - r, cy - r, cx + r, cy + r),
                    fill=(*pick(hue, rng, 20).astype(int).tolist(), int(rng.integers(60, 200))),
                )
            sheet = sheet.filter(ImageFilter.GaussianBlur(0.015 * long))
        if edge < 0.95 * height:  # a table or a mat to sit on
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
    kind = {
        "sofa": "weave",
        "lawn": "grass",
        "path": "gravel",
        "snow": "snow",
        "beach": "sand",
        "blanket": "weave",
    }.get(place)
    if kind is None:
        kind = (
            ("planks", "planks", "tiles", "carpet")[int(rng.integers(4))]
            if place == "room"
            else ("gravel", "tiles", "grass")[int(rng.integers(3))]
        )
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
        brush.rectangle(
            (0, sea, width, sea + height),
            fill=tuple(pick(((70, 130, 150), (60, 100, 140), (110, 150, 160)), rng).astype(int)),
        )
        for _ in range(8):
            row, left = rng.uniform(sea, edge), rng.uniform(-0.2, 0.8) * width
            brush.line((left, row, left + rng.uniform(0.1, 0.5) * width, row), fill=(220, 232, 236), width=2)
        return sheet
    leaf = (
        ((66, 98, 44), (92, 120, 54), (48, 80, 48), (120, 132, 60), (150, 120, 50))
        if place != "snow"
        else ((90, 100, 100), (150, 160, 166), (60, 76, 66))
    )
    top = edge - rng.uniform(0.1, 0.45) * long
    for _ in range(int(rng.integers(1, 4))):  # trees
        trunk, cx = rng.uniform(0.015, 0.05) * long, rng.uniform(0, 1) * width
        brush.rectangle(
            (cx - trunk, top - 0.3 * long, cx + trunk, edge),
            fill=tuple(pick(((84, 66, 50), (104, 88, 70)), rng).astype(int)),
        )
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
    width = x.shape[1]
    u, v = x / unit, (y - edge) / unit
    if place == "brick":
        base = pick(((160, 90, 70), (186, 150, 124), (130, 100, 90), (190, 186, 180)), rng)
        relief = look_up(photo_tile("brick"), u * 100 + rng.uniform(0, 256), v * 100)
        return to_image(base * (1 + 0.14 * relief)[..., None])
    base = pick(WARM + COOL + LOUD, rng, 18)
    paper = rng.integers(4)
    wave = (np.sin(u * 9), np.sin(u * 9) * np.sin(v * 9), 0 * u, 0 * u)[paper]
    wall = (
        base
        * (
            1
            + 0.05 * ramp(wave, 0.1, 0.4)
            + 0.02 * look_up(noise_tile(2.0, 14), u * 60, v * 60)
            + 0.1 * (x / width - 0.5)
        )[..., None]
    )
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
            brush.rounded_rectangle(
                (box[0] + 4, box[1] + 4, box[2] - 4, box[3]), radius=0.25 * unit, fill=(255, 255, 255, 22)
            )
        for _ in range(int(rng.integers(0, 3))):  # cushions
            s, cx = rng.uniform(0.35, 0.55) * unit, rng.uniform(0, width)
            brush.rounded_rectangle(
                (cx - s, edge - 1.6 * s, cx + s, edge + 0.3 * s), radius=0.3 * s, fill=colour(LOUD + WARM)
            )
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
                brush.rectangle(
                    (cx + dx * w, cy - 1.2 * h, cx + (dx + 0.85) * w, cy + 1.2 * h),
                    fill=colour(((190, 214, 236), (160, 190, 150))),
                )
        elif what == 2:  # a plant
            for k in range(9):
                t = math.radians(-160 + 17.5 * k)
                end = (cx + 0.8 * unit * math.cos(t), edge - 0.7 * unit + 0.9 * unit * math.sin(t))
                brush.line(
                    (cx, edge - 0.6 * unit, *end),
                    fill=colour(((70, 110, 60), (50, 90, 60))),
                    width=max(2, round(0.1 * unit)),
                )
            brush.polygon(
                [
                    (cx - 0.3 * unit, edge - 0.7 * unit),
                    (cx + 0.3 * unit, edge - 0.7 * unit),
                    (cx + 0.2 * unit, edge),
                    (cx - 0.2 * unit, edge),
                ],
                fill=colour(WARM),
            )
        elif what == 3:  # a cupboard
            brush.rectangle((cx - 1.2 * w, edge - 1.5 * unit, cx + 1.2 * w, edge), fill=colour(WARM + COOL))
            for k in (0, 1):
                brush.rectangle(
                    (cx - 1.1 * w + 1.15 * k * w, edge - 1.4 * unit, cx - 0.05 * w + 1.15 * k * w, edge - 0.1 * unit),
                    outline=(40, 30, 24, 120),
                    width=2,
                )
        else:  # a bookshelf
            brush.rectangle((cx - w, edge - 2.6 * unit, cx + w, edge), fill=colour(WARM))
            for k in range(4):
                row, bx = edge - (0.6 * k + 0.1) * unit, cx - 0.9 * w
                while bx < cx + 0.75 * w:
                    thick = rng.uniform(0.05, 0.13) * unit
                    brush.rectangle(
                        (bx, row - rng.uniform(0.3, 0.45) * unit, bx + thick, row), fill=colour(LOUD + COOL)
                    )
                    bx += thick + 1
    brush.rectangle((0, edge - 0.12 * unit, width, edge), fill=(236, 230, 220, 255))
    return sheet
