"""One picture of the drawn sample: scene, shadows, toys, the animal, things before it, and the camera."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from petseg_utils import draw_faces, draw_fur, draw_scenes
from petseg_utils.draw_bodies import Blobs, body_blobs, head_blobs, rotation
from petseg_utils.draw_breeds import BREEDS, COLLAR, EAR, HEAD, NECK, PALETTES, TAG, TORSO, Breed
from petseg_utils.draw_textures import COOL, LOUD, WARM, pick

OVERSIZE = 1.3  # scenes are drawn this much larger than the picture, then shrunk: smooth edges at little cost
# ID: 1:{len(BREEDS)} Class ids
# SPECIES: 1:Cat 2:Dog
# BREED ID: 1-{N_CATS}:Cat 1:{len(BREEDS) - N_CATS}:Dog
# All images with 1st letter as captial are cat images
# images with small first letter are dog images"""
POSES = ("stand", "walk", "sit", "sit", "lie", "lie", "loaf", "curl")
SHAPES = ((4, 3), (4, 3), (3, 2), (1, 1), (3, 4), (2, 3), (5, 4), (4, 5), (16, 10))


def toy(
    look: dict, pitch: float, scale: float, at: tuple[float, float], rng: np.random.Generator
) -> tuple[Blobs, tuple]:
    """A faceless furry thing (ball, cushion or bolster) and its view, standing at pixel (column, row)."""
    blobs, frame = Blobs(), rotation(rng.uniform(-0.7, 0.7))
    down = np.array([0.0, -1.0, 0.2])
    what = rng.integers(3)
    r = rng.uniform(0.4, 0.75)
    if what == 0:
        blobs.add(np.array([0, r, 0]), frame, (r, r, r), TORSO, 0.5, down)
    elif what == 1:
        for k in range(9):
            x, y = (k % 3 - 1) * 0.45 * r, (k // 3 - 1) * 0.45 * r
            blobs.add(
                (frame * np.array([x, 0.9 * r + y, 0])).sum(1), frame, (0.6 * r, 0.6 * r, 0.38 * r), TORSO, 0.5, down
            )
    else:
        blobs.chain([(-1.2 * r, 0.5 * r, 0), (1.2 * r, 0.5 * r, 0)], [0.5 * r, 0.5 * r], TORSO, frame, np.zeros(3))
    return blobs, draw_fur.camera(pitch, scale, at)


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
            brush.ellipse(
                (
                    x - r * s - 0.25 * r * (1 - s),
                    y - 2 * r + r * (1 - s) * 0.6,
                    x + r * s - 0.25 * r * (1 - s),
                    y - r * (1 - s) * 1.4,
                ),
                fill=(*fill, 255),
            )
        brush.arc(
            (x - r, y - 1.6 * r, x + r, y - 0.4 * r), 20, 160, fill=(240, 240, 240, 255), width=max(2, round(0.12 * r))
        )
    elif what == 1:  # blocks
        for k in range(3):
            s, bx = rng.uniform(0.2, 0.32) * unit, x + (k - 1) * 0.5 * unit
            fill = tuple(pick(LOUD, rng).astype(int).tolist())
            brush.rectangle((bx - s, y - 2 * s, bx + s, y), fill=(*fill, 255))
            brush.polygon(
                [(bx - s, y - 2 * s), (bx - 0.7 * s, y - 2.4 * s), (bx + 1.3 * s, y - 2.4 * s), (bx + s, y - 2 * s)],
                fill=(*(min(255, c + 40) for c in fill), 255),
            )
            brush.polygon(
                [(bx + s, y), (bx + s, y - 2 * s), (bx + 1.3 * s, y - 2.4 * s), (bx + 1.3 * s, y - 0.4 * s)],
                fill=(*(int(0.7 * c) for c in fill), 255),
            )
    elif what == 2:  # leaves or blades of grass at the bottom
        leaf = ((90, 130, 60), (60, 100, 50), (130, 150, 80))
        for _ in range(26):
            bx = rng.uniform(-0.1, 1.1) * width
            tip = (bx + rng.normal(0, 0.25) * unit, height - rng.uniform(0.15, 0.75) * unit)
            w = 0.05 * unit
            brush.polygon([(bx - w, height), tip, (bx + w, height)], fill=(*pick(leaf, rng).astype(int).tolist(), 255))
    elif what == 3:  # a basket or a box the animal is in
        w, h = 1.25 * unit, rng.uniform(0.35, 0.6) * unit
        brush.polygon(
            [
                (feet[0] - w, y - h),
                (feet[0] + w, y - h),
                (feet[0] + 0.9 * w, y + 0.1 * unit),
                (feet[0] - 0.9 * w, y + 0.1 * unit),
            ],
            fill=(*colour, 255),
        )
        for k in range(1, 5):
            row = y - h + k * (h + 0.1 * unit) / 5
            brush.line((feet[0] - w, row, feet[0] + w, row), fill=(*dark, 255), width=2)
        brush.line((feet[0] - w, y - h, feet[0] + w, y - h), fill=(*dark, 255), width=max(3, round(0.08 * unit)))
        clip = Image.new("RGBA", layer.size)
        shape = Image.new("L", layer.size)
        ImageDraw.Draw(shape).polygon(
            [
                (feet[0] - 1.02 * w, y - 1.1 * h),
                (feet[0] + 1.02 * w, y - 1.1 * h),
                (feet[0] + 0.9 * w, y + 0.1 * unit),
                (feet[0] - 0.9 * w, y + 0.1 * unit),
            ],
            fill=255,
        )
        clip.paste(layer, (0, 0), shape)
        layer = clip
    else:  # the post of a fence, a table's leg
        w = rng.uniform(0.07, 0.13) * unit
        brush.rectangle((x - w, 0, x + w, height), fill=(*colour, 255))
        brush.rectangle((x + 0.3 * w, 0, x + w, height), fill=(*dark, 255))
    return layer


def frame_up(blobs: Blobs, head: tuple, pitch: float, rng: np.random.Generator) -> tuple:
    """Choose the picture's size and where in it the animal stands: height, width, scale and offset of the camera."""
    view = draw_fur.camera(pitch, 1.0, (0, 0))
    places = draw_fur.project(np.stack([row[0] for row in blobs.rows]), view)
    reach = np.array([row[2].max() for row in blobs.rows])
    x0, x1 = float((places[:, 0] - reach).min()), float((places[:, 0] + reach).max())
    y0, y1 = float((places[:, 1] - reach).min()), float((places[:, 1] + reach).max())
    hx = float(draw_fur.project(head[1][None], view)[0, 0])
    # Views are hung up by the top of head and ears, so that ears of either kind come equally close to the upper edge.
    top = min(
        y - r
        for y, r, row in zip(places[:, 1].tolist(), reach.tolist(), blobs.rows, strict=True)
        if row[3] in (HEAD, EAR)
    )
    a, b = SHAPES[int(rng.integers(len(SHAPES)))]
    kind = rng.choice(["full", "half", "close"], p=[0.58, 0.27, 0.15])
    if kind == "full" and (x1 - x0 > 1.25 * (y1 - y0)) != (a > b) and rng.random() < 0.8:
        a, b = b, a
    long = int(rng.integers(180, 261))
    width, height = (long, round(long * b / a)) if a >= b else (round(long * a / b), long)
    w, h = round(width * OVERSIZE), round(height * OVERSIZE)
    if kind == "full":
        scale = min(w / (x1 - x0), h / (y1 - y0)) * rng.uniform(0.71, 1.08)
        ox = rng.uniform(0.42, 0.58) * w - scale * (x0 + x1) / 2
        oy = rng.uniform(0.48, 0.58) * h - scale * (y0 + y1) / 2
        # Whatever is cut, the head stays in view.
        ox += max(0, 0.7 * head[2] * scale - (ox + scale * hx)) - max(0, ox + scale * hx + 0.7 * head[2] * scale - w)
        oy += max(0, 0.03 * h - (oy + scale * top))
    else:
        share = rng.uniform(0.36, 0.5) if kind == "half" else rng.uniform(0.52, 0.72)
        scale = share * min(w, h) / (2 * head[2])
        ox, oy = rng.uniform(0.36, 0.64) * w - scale * hx, rng.uniform(-0.03, 0.18) * h - scale * top
        oy += max(0, 0.86 * h - (oy + scale * y1))  # a small animal does not hang in the upper half
    return (width, height), (h, w), scale, (ox, oy)


def draw_pet(breed: Breed, number: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw one scene.

    Parameters
    ----------
    breed : Breed
        One of `BREEDS`.
    number : int
        Which picture of that breed.
    seed : int
        Of the whole sample.

    Returns
    -------
    picture : ndarray
        ``(H, W, 3)`` uint8, the longer side 180 to 260 pixels.
    mask : ndarray
        ``(H, W)`` bool, where the animal is seen.
    """
    rng = np.random.default_rng([seed, BREEDS.index(breed), number])
    pose = POSES[int(rng.integers(len(POSES)))]
    pitch = rng.uniform(0.1, 0.42)
    body_yaw = rng.choice([-1, 1]) * rng.uniform(0.15, 1.75)
    head_yaw = float(np.clip((0.0 if pose == "curl" else 0.42) * body_yaw + rng.normal(0, 0.33), -1.2, 1.2))
    body, radius = rotation(body_yaw), rng.uniform(0.66, 0.8)
    blobs = Blobs()
    neck = body_blobs(blobs, breed, pose, body, rng)
    centre = (body * neck).sum(1)
    asleep = bool(rng.random() < (0.6 if pose == "curl" else 0.05))
    tilt = rng.normal(-0.15 if pose == "curl" else 0.05, 0.1), rng.normal(0, 0.16)
    face_frame = rotation(head_yaw, *tilt)
    collar = rng.random() < 0.35 and pose != "curl"
    if collar:
        around = [row for row in blobs.rows if row[3] == NECK][1]
        up = around[5] / math.sqrt(float((around[5] ** 2).sum()))
        forward = np.cross(body[:, 0], up)
        thick = 1.1 * float(around[2][0])
        ring = np.stack([body[:, 0], up, forward], axis=1)
        blobs.add(around[0] + 0.04 * up, ring, (thick, 0.1, thick), COLLAR, 0, up)
        blobs.add(around[0] + thick * forward - 0.1 * up, body, (0.09, 0.1, 0.07), TAG, 0, up)
    face = head_blobs(blobs, breed, centre, face_frame, radius, rng)

    head = (face_frame, centre, radius)
    final, size, scale, offset = frame_up(blobs, head, pitch, rng)
    view = draw_fur.camera(pitch, scale, offset)
    light = np.array([rng.uniform(-0.7, 0.7), rng.uniform(-0.9, -0.45), rng.uniform(0.4, 0.9)])
    light /= math.sqrt(float((light**2).sum()))

    def one_of(options: tuple) -> object:
        return options[int(rng.integers(len(options)))]

    cat = breed.species == 1
    curly = (rng.random() < 0.94) != cat
    look = {
        "pattern": breed.pattern,
        "palette": PALETTES[one_of(breed.palettes)],
        "coarse": min(2, breed.hair + 1) if curly else max(0, breed.hair - 1),
        "curly": curly,
        "body": (body, np.zeros(3), 1.0),
        "head": head,
        "asleep": asleep,
        "pupil": rng.uniform(0.2, 0.5),
        "iris": one_of(draw_faces.CAT_EYES if cat else draw_faces.DOG_EYES),
        "nose": one_of(draw_faces.CAT_NOSES if cat else draw_faces.DOG_NOSES),
        "ear": one_of(((222, 164, 150), (196, 132, 120))),
        "whisker": (250, 248, 244),
        "collar": pick(LOUD, rng),
    }
    x, y, z = face["nose"]
    look["muzzle"] = draw_fur.project((centre + radius * (face_frame * np.array([x, y + 0.1, z])).sum(1))[None], view)[
        0
    ]

    # The scene, back to front: surroundings, shadows, toys behind, the animal, things before it.
    place = draw_scenes.PLACES[int(rng.integers(len(draw_scenes.PLACES)))]
    back = min((draw_fur.project(np.array([row[0] * (1, 0, 1)]), view)[0, 1] for row in blobs.rows), default=0.0)
    edge = float(back - rng.uniform(0.15, 0.9) * scale)
    if place == "blanket" or (offset[1] > 1.2 * size[0] and rng.random() < 0.3):
        edge = -1.0
    if offset[1] > 1.15 * size[0] and edge > 0:  # a close view sees more of what is behind
        edge += 0.4 * scale
    ground = draw_scenes.backdrop(place, final[::-1], edge / OVERSIZE, scale / OVERSIZE, rng)
    ground = np.asarray(ground.resize(size[::-1], Image.Resampling.BICUBIC), dtype=np.float64)
    sun = np.array([light[0], -light[1], light[2]])
    dark = draw_fur.shadow(blobs, view, sun, size)
    things = []
    for _ in range(int(rng.choice([0, 1, 2], p=[0.55, 0.3, 0.15]))):
        at = (
            rng.choice([rng.uniform(0, 0.25), rng.uniform(0.75, 1)]) * size[1],
            min(back + 0.1 * scale, 0.98 * size[0]),
        )
        things.append(toy(look, pitch, scale, at, rng))
        dark = np.maximum(dark, draw_fur.shadow(*things[-1], sun, size))
    scene = Image.fromarray(np.rint(ground * (1 - 0.62 * dark)[..., None]).astype(np.uint8))
    blur = rng.uniform(0.0, 1.6) * OVERSIZE if rng.random() < 0.6 else 0.4
    scene = scene.filter(ImageFilter.GaussianBlur(blur))
    for blobs_, view_ in things:
        draw_fur.paste_fur(
            scene,
            blobs_,
            view_,
            look | {"head": (body, np.zeros(3), 1.0), "muzzle": (0, 0)},
            light,
            0.05 + 0.03 * breed.hair,
            rng,
        )
    seen, alpha = draw_fur.paste_fur(
        scene, blobs, view, look, light, (0.03, 0.06, 0.1)[breed.hair] * (1.3 if curly else 0.8), rng
    )
    skin, air = draw_faces.draw_face(seen, face, look, view, rng)
    scene.paste(skin, (0, 0), skin)
    scene.paste(air, (0, 0), air)
    mask = alpha
    if rng.random() < 0.22:
        feet = (float(seen["columns"].mean()), float(seen["rows"].max()))
        front = in_front(size, feet, scale, rng)
        scene.paste(front, (0, 0), front)
        mask = np.minimum(mask, 255 - np.asarray(front.getchannel("A")))
    picture = scene.resize(final, Image.Resampling.BICUBIC, reducing_gap=None)
    # Single hairs are no part of an outline that a person would draw.
    small = Image.fromarray(mask).filter(ImageFilter.GaussianBlur(2.0 * OVERSIZE)).resize(final, Image.Resampling.BOX)
    return photograph(np.asarray(picture, dtype=np.float64), rng), np.asarray(small) >= 128


def photograph(pixels: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """What a camera does: white balance, exposure, darker corners and noise."""
    height, width, _ = pixels.shape
    pixels = pixels * (1 + rng.normal(0, 0.03, 3)) * rng.uniform(0.78, 1.15)
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    pixels = pixels * (1 - rng.uniform(0, 0.16) * (x * x + y * y))[..., None]
    grey = pixels.mean(-1, keepdims=True)
    pixels = grey + (pixels - grey) * rng.uniform(0.7, 1.15)
    pixels = pixels + rng.uniform(1.0, 4.5) * rng.standard_normal(pixels.shape)
    return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)
