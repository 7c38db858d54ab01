"""One picture of the drawn sample, put together from back to front: from the scene to the camera."""

import math
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from petseg_utils.data.drawing import faces, scenes
from petseg_utils.data.drawing.bodies import (
    COLLAR,
    EAR,
    HEAD,
    NECK,
    TAG,
    TORSO,
    Blobs,
    Frame,
    body_blobs,
    head_blobs,
    rotation,
)
from petseg_utils.data.drawing.breeds import BREEDS, CAT, PALETTES, Breed
from petseg_utils.data.drawing.fur import Look, paste_fur
from petseg_utils.data.drawing.surfaces import View, camera, shadow
from petseg_utils.data.drawing.textures import LOUD, pick

SEED = 0  # seed of the whole sample
OVERSIZE = 1.3  # scenes are drawn this many times as large as the picture, then shrunk: smooth edges at little cost
# Entries that occur more than once are chosen more often.
POSES = ("stand", "walk", "sit", "sit", "lie", "lie", "loaf", "curl")
SHAPES = ((4, 3), (4, 3), (3, 2), (1, 1), (3, 4), (2, 3), (5, 4), (4, 5), (16, 10))  # width to height

T = TypeVar("T")


def choose(options: tuple[T, ...], rng: np.random.Generator) -> T:
    """Choose one of `options`, each with the same probability."""
    return options[int(rng.integers(len(options)))]


def draw_pet(breed: Breed, number: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw one picture.

    Returns
    -------
    picture : ndarray
        ``(H, W, 3)`` uint8, the longer side 180 to 260 pixels.
    mask : ndarray
        ``(H, W)`` bool, true where the animal is visible.
    """
    rng = np.random.default_rng([SEED, BREEDS.index(breed), number])
    scene, mask, final = paint(breed, rng)
    # A person who draws the outline would leave out single hairs.
    soft = mask.filter(ImageFilter.GaussianBlur(2.0 * OVERSIZE)).resize(final, Image.Resampling.BOX)
    picture = scene.resize(final, Image.Resampling.BICUBIC)
    return photograph(np.asarray(picture, dtype=np.float64), rng), np.asarray(soft) >= 128


def draw_hair(breed: Breed, number: int, enlargement: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a picture `enlargement` times as large as those of `draw_pet`, with an alpha that is exact to the hair.

    It is not the same picture as `draw_pet`'s of this number, though it shows the same animal.

    Returns
    -------
    picture : ndarray
        ``(H, W, 3)`` uint8, the longer side 180 to 260 pixels times `enlargement`.
    alpha : ndarray
        ``(H, W)`` uint8: how much of each pixel is the animal, 0 to 255.
    """
    rng = np.random.default_rng([SEED, BREEDS.index(breed), number])
    scene, mask, final = paint(breed, rng, enlargement)
    picture = scene.resize(final, Image.Resampling.BOX)
    return photograph(np.asarray(picture, dtype=np.float64), rng), np.asarray(mask.resize(final, Image.Resampling.BOX))


def paint(
    breed: Breed, rng: np.random.Generator, enlargement: int = 1
) -> tuple[Image.Image, Image.Image, tuple[int, int]]:
    """Paint a scene; return it, its animal's mask (255, single hairs included), and the size of the final picture."""
    cat = breed.species == CAT

    # The animal in space, and the camera.
    pose = choose(POSES, rng)
    pitch = rng.uniform(0.1, 0.42)
    body_yaw = rng.choice([-1, 1]) * rng.uniform(0.15, 1.75)
    head_yaw = float(np.clip((0.0 if pose == "curl" else 0.42) * body_yaw + rng.normal(0, 0.33), -1.2, 1.2))
    body, radius = Frame(rotation(body_yaw), np.zeros(3), 1.0), rng.uniform(0.66, 0.8)
    blobs = Blobs()
    neck = body_blobs(blobs, breed, pose, body, rng)
    asleep = bool(rng.random() < (0.6 if pose == "curl" else 0.05))
    tilt = rng.normal(-0.15 if pose == "curl" else 0.05, 0.1), rng.normal(0, 0.16)
    head = Frame(rotation(head_yaw, *tilt), body.to_space(neck[None])[0], radius)
    if rng.random() < 0.35 and pose != "curl":
        add_collar(blobs, body)
    face = head_blobs(blobs, breed, head, rng)
    final, size, view = frame_up(blobs, head, pitch, rng, enlargement)
    light = np.array([rng.uniform(-0.7, 0.7), rng.uniform(-0.9, -0.45), rng.uniform(0.4, 0.9)])
    light /= math.sqrt(float((light**2).sum()))

    curly = (rng.random() < 0.94) != cat
    x, y, z = face.nose
    look = Look(
        pattern=breed.pattern,
        palette=PALETTES[choose(breed.palettes, rng)],
        coarse=min(2, breed.hair + 1) if curly else max(0, breed.hair - 1),
        curly=curly,
        body=body,
        head=head,
        asleep=asleep,
        pupil=rng.uniform(0.2, 0.5),
        iris=choose(faces.CAT_EYES if cat else faces.DOG_EYES, rng),
        nose=choose(faces.CAT_NOSES if cat else faces.DOG_NOSES, rng),
        ear=choose(faces.EARS, rng),
        collar=pick(LOUD, rng),
        muzzle=view.project(head.to_space(np.array([[x, y + 0.1, z]])))[0],
    )

    # The scene, back to front: surroundings and shadows, toys, the animal, and what stands in front of it.
    place = choose(scenes.PLACES, rng)
    back = view.project(np.stack([blob.centre for blob in blobs]) * (1, 0, 1))[:, 1].min()  # farthest row beneath it
    edge = float(back - rng.uniform(0.15, 0.9) * view.scale)
    feet_row = view.shift[1]
    if place == "blanket" or (feet_row > 1.2 * size[0] and rng.random() < 0.3):
        edge = -1.0  # only the ground is visible
    if feet_row > 1.15 * size[0] and edge > 0:  # a close view shows more of what is behind
        edge += 0.4 * view.scale
    ground = scenes.backdrop(place, final[::-1], edge / OVERSIZE, view.scale / OVERSIZE, rng)
    pixels = np.asarray(ground.resize(size[::-1], Image.Resampling.BICUBIC), dtype=np.float64)
    sun = light * (1, -1, 1)  # rows run downwards
    dark = shadow(blobs, view, sun, size)
    toys = []
    for _ in range(int(rng.choice([0, 1, 2], p=[0.55, 0.3, 0.15]))):
        column = rng.choice([rng.uniform(0, 0.25), rng.uniform(0.75, 1)]) * size[1]
        toy_view = camera(pitch, view.scale, (column, min(back + 0.1 * view.scale, 0.98 * size[0])))
        toys.append((toy_blobs(rng), toy_view))
        dark = np.maximum(dark, shadow(*toys[-1], sun, size))
    scene = Image.fromarray(np.rint(pixels * (1 - 0.62 * dark)[..., None]).astype(np.uint8))
    blur = rng.uniform(0.0, 1.6) * OVERSIZE if rng.random() < 0.6 else 0.4
    scene = scene.filter(ImageFilter.GaussianBlur(blur))
    toy_look = replace(look, head=body, muzzle=np.zeros(2))
    for toy, toy_view in toys:
        paste_fur(scene, toy, toy_view, toy_look, light, 0.05 + 0.03 * breed.hair, rng)
    hair = (0.03, 0.06, 0.1)[breed.hair] * (1.3 if curly else 0.8)
    seen, mask = paste_fur(scene, blobs, view, look, light, hair, rng)
    for layer in faces.draw_face(seen, face, look, view, rng):
        scene.paste(layer, (0, 0), layer)
    if rng.random() < 0.22:
        feet = (float(seen.columns.mean()), float(seen.rows.max()))
        front = scenes.in_front(size, feet, view.scale, rng)
        scene.paste(front, (0, 0), front)
        mask = np.minimum(mask, 255 - np.asarray(front.getchannel("A")))

    return scene, Image.fromarray(mask), final


def add_collar(blobs: Blobs, body: Frame) -> None:
    """Add a collar with a tag around the neck of an animal that has no head yet."""
    neck = [blob for blob in blobs if blob.part == NECK][1]
    right, up = body.axes[:, 0], neck.hair / math.sqrt(float((neck.hair**2).sum()))
    forward = np.cross(right, up)
    thick = 1.1 * float(neck.lengths[0])
    ring = np.stack([right, up, forward], axis=1)
    blobs.add(neck.centre + 0.04 * up, ring, (thick, 0.1, thick), COLLAR, 0, up)
    blobs.add(neck.centre + thick * forward - 0.1 * up, body.axes, (0.09, 0.1, 0.07), TAG, 0, up)


def toy_blobs(rng: np.random.Generator) -> Blobs:
    """Make a furry toy without a face at the origin of space: a ball, a cushion or a bolster."""
    blobs, frame = Blobs(), Frame(rotation(rng.uniform(-0.7, 0.7)), np.zeros(3), 1.0)
    down = np.array([0.0, -1.0, 0.2])
    kind = rng.integers(3)
    r = rng.uniform(0.4, 0.75)
    if kind == 0:
        blobs.add(np.array([0, r, 0]), frame.axes, (r, r, r), TORSO, 0.5, down)
    elif kind == 1:
        for k in range(9):
            x, y = (k % 3 - 1) * 0.45 * r, (k // 3 - 1) * 0.45 * r
            centre = frame.to_space(np.array([[x, 0.9 * r + y, 0]]))[0]
            blobs.add(centre, frame.axes, (0.6 * r, 0.6 * r, 0.38 * r), TORSO, 0.5, down)
    else:
        blobs.chain([(-1.2 * r, 0.5 * r, 0), (1.2 * r, 0.5 * r, 0)], [0.5 * r, 0.5 * r], TORSO, frame)
    return blobs


def frame_up(
    blobs: Blobs, head: Frame, pitch: float, rng: np.random.Generator, enlargement: int = 1
) -> tuple[tuple[int, int], tuple[int, int], View]:
    """Choose the picture's size and where the animal stands in it.

    Parameters
    ----------
    pitch : float
        How far the camera looks down, in radians.

    Returns
    -------
    final : tuple of int
        Width and height of the picture, in pixels.
    size : tuple of int
        Height and width of the scene, `OVERSIZE` times as large.
    view : View
        The projection from space to the pixels of the scene.
    """
    view = camera(pitch, 1.0, (0, 0))
    places = view.project(np.stack([blob.centre for blob in blobs]))
    reach = np.array([blob.lengths.max() for blob in blobs])
    x0, x1 = float((places[:, 0] - reach).min()), float((places[:, 0] + reach).max())
    y0, y1 = float((places[:, 1] - reach).min()), float((places[:, 1] + reach).max())
    hx = float(view.project(head.origin[None])[0, 0])
    # Views are aligned by the top of head and ears, so that both kinds of ears come equally close to the upper edge.
    on_top = np.isin([blob.part for blob in blobs], (HEAD, EAR))
    top = float((places[:, 1] - reach)[on_top].min())
    a, b = choose(SHAPES, rng)
    kind = rng.choice(["full", "half", "close"], p=[0.58, 0.27, 0.15])
    if kind == "full" and (x1 - x0 > 1.25 * (y1 - y0)) != (a > b) and rng.random() < 0.8:
        a, b = b, a
    long = enlargement * int(rng.integers(180, 261))
    width, height = (long, round(long * b / a)) if a >= b else (round(long * a / b), long)
    w, h = round(width * OVERSIZE), round(height * OVERSIZE)
    if kind == "full":
        scale = min(w / (x1 - x0), h / (y1 - y0)) * rng.uniform(0.71, 1.08)
        ox = rng.uniform(0.42, 0.58) * w - scale * (x0 + x1) / 2
        oy = rng.uniform(0.48, 0.58) * h - scale * (y0 + y1) / 2
        # Whatever else is cut off, the head stays in view.
        ox += max(0, 0.7 * head.size * scale - (ox + scale * hx)) - max(
            0, ox + scale * hx + 0.7 * head.size * scale - w
        )
        oy += max(0, 0.03 * h - (oy + scale * top))
    else:
        share = rng.uniform(0.36, 0.5) if kind == "half" else rng.uniform(0.52, 0.72)
        scale = share * min(w, h) / (2 * head.size)
        ox, oy = rng.uniform(0.36, 0.64) * w - scale * hx, rng.uniform(-0.03, 0.18) * h - scale * top
        oy += max(0, 0.86 * h - (oy + scale * y1))  # a small animal must not float in the upper half
    return (width, height), (h, w), camera(pitch, scale, (ox, oy))


def photograph(pixels: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change colours ``(H, W, 3)`` as a camera does: white balance, exposure, dark corners, saturation and noise."""
    height, width, _ = pixels.shape
    pixels = pixels * (1 + rng.normal(0, 0.03, 3)) * rng.uniform(0.78, 1.15)
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    pixels = pixels * (1 - rng.uniform(0, 0.16) * (x * x + y * y))[..., None]
    grey = pixels.mean(-1, keepdims=True)
    pixels = grey + (pixels - grey) * rng.uniform(0.7, 1.15)
    pixels = pixels + rng.uniform(1.0, 4.5) * rng.standard_normal(pixels.shape)
    return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)
