"""An embedded data set: drawn cats and dogs in the files and folders of Oxford-IIIT Pet.

The real photos may not be passed on, so the study draws its own: every picture is a small scene with one animal, and the
trimap comes from the same geometry.  `draw_sample` writes the set; the same arguments always give the same bytes.
"""

import json
import math
import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage
from tqdm import tqdm

from petseg_utils import painter, scenes
from petseg_utils.pets import Blobs, Breed, body_blobs, head_blobs, rotation
from petseg_utils.textures import COLLAR, HEAD, PALETTES, TAG, TORSO, noise_tile, look_up

DRAWING_VERSION = 1  # goes up whenever the same arguments give other pictures
OVERSIZE = 1.3  # scenes are drawn this much larger than the picture, then shrunk: smooth edges at little cost

# Every cat breed has a dog breed of much the same coats, so that colour says little about the species.
BREEDS = (
    Breed("Ginger_tabby", 1, "tabby", ("ginger", "cream"), size=1.3),
    Breed("Silver_mackerel", 1, "tabby", ("silver", "grey"), ears="floppy", legs=1.1, size=1.0),
    Breed("Brown_tiger", 1, "tabby", ("brown", "sand"), hair=2, tail="bushy", size=1.1),
    Breed("Leopard_moggy", 1, "spots", ("sand", "snowblack", "silver"), hair=0, legs=1.15),
    Breed("Tuxedo_tom", 1, "bicolour", ("black", "grey", "chocolate"), size=1.2),
    Breed("Patchwork_queen", 1, "harlequin", ("snowblack", "snowbrown"), size=0.8),
    Breed("Milk_and_ink", 1, "patches", ("snowblack", "snowginger", "snowbrown"), ears="floppy", size=1.1),
    Breed("Cream_point", 1, "points", ("cream", "sand", "grey"), hair=2, tail="bushy", size=0.9),
    Breed("Blue_velvet", 1, "plain", ("grey", "silver"), hair=0, ears="floppy", size=0.8),
    Breed("Midnight_mouser", 1, "plain", ("black", "chocolate"), size=0.8),
    Breed("Snow_puff", 1, "plain", ("white", "cream"), hair=2, tail="bushy", legs=0.8, size=0.9),
    Breed("Smoke_longcoat", 1, "smoke", ("grey", "ginger", "black"), hair=2, tail="bushy", size=0.9),
    Breed("Bobtail_merle", 1, "merle", ("silver", "grey"), tail="short", size=0.8),
    Breed("Saddleback_lop", 1, "saddle", ("tan", "ginger", "brown"), ears="floppy", size=1.1),
    Breed("Cocoa_ticked", 1, "ticked", ("brown", "chocolate", "tan"), hair=0, legs=1.1, size=1.1),
    Breed("Sooty_mask", 1, "mask", ("sand", "cream"), hair=0, size=0.8),
    Breed("ginger_bounder", 2, "tabby", ("ginger", "cream"), tail="bushy", size=1.2),
    Breed("silver_streak", 2, "brindle", ("silver", "grey"), hair=0, legs=1.15, size=1.0),
    Breed("brindle_bouncer", 2, "brindle", ("brown", "sand"), ears="floppy", size=1.1),
    Breed("dotted_runner", 2, "spots", ("sand", "snowblack", "silver"), hair=0, ears="floppy", legs=1.15),
    Breed("tuxedo_scamp", 2, "bicolour", ("black", "grey", "chocolate"), legs=0.9, size=1.2),
    Breed("harlequin_hopper", 2, "harlequin", ("snowblack", "snowbrown"), hair=2, ears="floppy", size=0.8),
    Breed("pinto_pal", 2, "patches", ("snowblack", "snowginger", "snowbrown"), ears="floppy", size=1.2),
    Breed("cream_wolfling", 2, "points", ("cream", "sand", "grey"), hair=2, tail="bushy", size=0.9),
    Breed("blue_barker", 2, "plain", ("grey", "silver"), hair=0, ears="floppy", size=0.8),
    Breed("coal_digger", 2, "plain", ("black", "chocolate"), legs=0.75, tail="short", size=0.8),
    Breed("cloud_fluff", 2, "plain", ("white", "cream"), hair=2, tail="curl", size=0.9),
    Breed("smoky_foxling", 2, "smoke", ("grey", "ginger", "black"), hair=2, tail="bushy", size=0.9),
    Breed("storm_merle", 2, "merle", ("silver", "grey"), tail="bushy", size=0.8),
    Breed("saddle_tracker", 2, "saddle", ("tan", "ginger", "brown"), tail="bushy", size=1.1),
    Breed("brown_hound", 2, "ticked", ("brown", "chocolate", "tan"), hair=0, ears="floppy", size=1.2),
    Breed("masked_stroller", 2, "mask", ("sand", "cream"), hair=0, ears="floppy", tail="curl", legs=0.9, size=0.8),
)
N_CATS = sum(breed.species == 1 for breed in BREEDS)
LIST_HEADER = f"""#Image CLASS-ID SPECIES BREED ID
#ID: 1:{len(BREEDS)} Class ids
#SPECIES: 1:Cat 2:Dog
#BREED ID: 1-{N_CATS}:Cat 1:{len(BREEDS) - N_CATS}:Dog
#All images with 1st letter as captial are cat images
#images with small first letter are dog images"""
POSES = ("stand", "walk", "sit", "sit", "lie", "lie", "loaf", "curl")
SHAPES = ((4, 3), (4, 3), (3, 2), (1, 1), (3, 4), (2, 3), (5, 4), (4, 5), (16, 10))


def toy(look: dict, pitch: float, scale: float, at: tuple[float, float], rng: np.random.Generator) -> tuple[Blobs, tuple]:
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
            blobs.add((frame * np.array([x, 0.9 * r + y, 0])).sum(1), frame, (0.6 * r, 0.6 * r, 0.38 * r), TORSO, 0.5, down)
    else:
        blobs.chain([(-1.2 * r, 0.5 * r, 0), (1.2 * r, 0.5 * r, 0)], [0.5 * r, 0.5 * r], TORSO, frame, np.zeros(3))
    return blobs, painter.camera(pitch, scale, at)


def shadow(blobs: Blobs, view: tuple, light: NDArray, size: tuple[int, int]) -> NDArray[np.float64]:
    """How dark each pixel of the ground is below `blobs`, ``(H, W)`` in 0..1."""
    coarse = 4  # it gets blurred anyway
    sheet = Image.new("L", (-(-size[1] // coarse), -(-size[0] // coarse)))
    brush = ImageDraw.Draw(sheet)
    scale = math.sqrt(float((view[0][:, 0] ** 2).sum()))
    squash = view[0][1, 2] / scale
    for centre, _, lengths, *_ in blobs.rows:
        x, y, z = centre.tolist()
        r = float(lengths.min())
        down = np.array([[x - light[0] * y * 0.8, 0.0, z - 0.5 * y * max(0.1, light[2])]])
        column, row, _ = painter.project(down, view)[0].tolist()
        wide, tall = r * scale * 0.95, r * scale * max(squash, 0.18)
        box = (column - wide, row - tall, column + wide, row + tall)
        brush.ellipse([x / coarse for x in box], fill=round(max(60, 190 - 60 * y)))
    sheet = sheet.filter(ImageFilter.GaussianBlur(0.12 * scale / coarse))
    sheet = sheet.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(sheet, dtype=np.float64) / 255.0


def frame_up(blobs: Blobs, head: tuple, pitch: float, rng: np.random.Generator) -> tuple:
    """Choose the picture's size and where in it the animal stands: height, width, scale and offset of the camera."""
    view = painter.camera(pitch, 1.0, (0, 0))
    places = painter.project(np.stack([row[0] for row in blobs.rows]), view)
    reach = np.array([row[2].max() for row in blobs.rows])
    x0, x1 = float((places[:, 0] - reach).min()), float((places[:, 0] + reach).max())
    y0, y1 = float((places[:, 1] - reach).min()), float((places[:, 1] + reach).max())
    hx, hy, _ = painter.project(head[1][None], view)[0].tolist()
    a, b = SHAPES[int(rng.integers(len(SHAPES)))]
    kind = rng.choice(["full", "half", "close"], p=[0.58, 0.27, 0.15])
    if kind == "full" and (x1 - x0 > 1.25 * (y1 - y0)) != (a > b) and rng.random() < 0.8:
        a, b = b, a
    long = int(rng.integers(180, 261))
    width, height = (long, round(long * b / a)) if a >= b else (round(long * a / b), long)
    w, h = round(width * OVERSIZE), round(height * OVERSIZE)
    if kind == "full":
        scale = min(w / (x1 - x0), h / (y1 - y0)) * rng.uniform(0.68, 1.05)
        ox = rng.uniform(0.42, 0.58) * w - scale * (x0 + x1) / 2
        oy = rng.uniform(0.48, 0.58) * h - scale * (y0 + y1) / 2
        # Whatever is cut, the head stays in view.
        ox += max(0, 0.7 * head[2] * scale - (ox + scale * hx)) - max(0, ox + scale * hx + 0.7 * head[2] * scale - w)
        oy += max(0, 1.5 * head[2] * scale - (oy + scale * hy))
    else:
        share = rng.uniform(0.36, 0.5) if kind == "half" else rng.uniform(0.52, 0.72)
        scale = share * min(w, h) / (2 * head[2])
        ox, oy = rng.uniform(0.36, 0.64) * w - scale * hx, rng.uniform(0.36, 0.5) * h - scale * hy
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
    head_yaw = float(np.clip(0.45 * body_yaw + rng.normal(0, 0.35), -1.25, 1.25))
    body, radius = rotation(body_yaw), rng.uniform(0.6, 0.74)
    blobs = Blobs()
    neck = body_blobs(blobs, breed, pose, body, rng)
    centre = (body * neck).sum(1)
    asleep = bool(rng.random() < (0.6 if pose == "curl" else 0.05))
    tilt = rng.normal(-0.15 if pose == "curl" else 0.05, 0.1), rng.normal(0, 0.16)
    face_frame = rotation(head_yaw, *tilt)
    collar = rng.random() < 0.35 and pose != "curl"
    if collar:
        at = centre + (body * np.array([0, -0.5, -0.12])).sum(1) * radius / 0.66
        blobs.add(at, rotation(body_yaw, 0.5), (0.5, 0.1, 0.5), COLLAR, 0, np.array([1.0, 0, 0]))
        blobs.add(at + (body * np.array([0, -0.12, 0.44])).sum(1), body, (0.09, 0.1, 0.07), TAG, 0, np.array([1.0, 0, 0]))
    face = head_blobs(blobs, breed, centre, face_frame, radius, rng)

    head = (face_frame, centre, radius)
    final, size, scale, offset = frame_up(blobs, head, pitch, rng)
    view = painter.camera(pitch, scale, offset)
    light = np.array([rng.uniform(-0.7, 0.7), rng.uniform(-0.9, -0.45), rng.uniform(0.4, 0.9)])
    light /= math.sqrt(float((light**2).sum()))

    palette = PALETTES[breed.palettes[int(rng.integers(len(breed.palettes)))]]
    cat = breed.species == 1
    eyes = painter.CAT_EYES if cat else painter.DOG_EYES
    look = {
        "pattern": breed.pattern, "palette": palette, "coarse": int(np.clip(breed.hair + (not cat) * (rng.random() < 0.5), 0, 2)),
        "body": (body, np.zeros(3), 1.0), "head": head, "asleep": asleep, "pupil": rng.uniform(0.2, 0.5),
        "iris": eyes[int(rng.integers(len(eyes)))], "collar": scenes.pick(scenes.LOUD, rng),
        "nose": ((214, 128, 124), (150, 84, 78), (60, 44, 44))[int(rng.integers(3))] if cat else ((34, 30, 32), (52, 38, 34))[int(rng.integers(2))],
        "ear": ((222, 164, 150), (196, 132, 120))[int(rng.integers(2))], "whisker": (250, 248, 244),
    }  # fmt: skip
    x, y, z = face["nose"]
    look["muzzle"] = painter.project((centre + radius * (face_frame * np.array([x, y + 0.1, z])).sum(1))[None], view)[0]

    # The scene, back to front: surroundings, shadows, toys behind, the animal, things before it.
    place = scenes.PLACES[int(rng.integers(len(scenes.PLACES)))]
    back = min((painter.project(np.array([row[0] * (1, 0, 1)]), view)[0, 1] for row in blobs.rows), default=0.0)
    edge = float(back - rng.uniform(0.15, 0.9) * scale)
    if place == "blanket" or (offset[1] > 1.2 * size[0] and rng.random() < 0.3):
        edge = -1.0
    if offset[1] > 1.15 * size[0] and edge > 0:  # a close view sees more of what is behind
        edge += 0.4 * scale
    ground = scenes.backdrop(place, final[::-1], edge / OVERSIZE, scale / OVERSIZE, rng)
    ground = np.asarray(ground.resize(size[::-1], Image.Resampling.BICUBIC), dtype=np.float64)
    sun = np.array([light[0], -light[1], light[2]])
    dark = shadow(blobs, view, sun, size)
    things = []
    for _ in range(int(rng.choice([0, 1, 2], p=[0.55, 0.3, 0.15]))):
        at = (rng.choice([rng.uniform(0, 0.25), rng.uniform(0.75, 1)]) * size[1], min(back + 0.1 * scale, 0.98 * size[0]))
        things.append(toy(look, pitch, scale, at, rng))
        dark = np.maximum(dark, shadow(*things[-1], sun, size))
    scene = Image.fromarray(np.rint(ground * (1 - 0.62 * dark)[..., None]).astype(np.uint8))
    blur = rng.uniform(0.0, 1.6) * OVERSIZE if rng.random() < 0.6 else 0.4
    scene = scene.filter(ImageFilter.GaussianBlur(blur))
    for blobs_, view_ in things:
        paste_fur(scene, blobs_, view_, look | {"head": (body, np.zeros(3), 1.0), "muzzle": (0, 0)}, light, 0.05 + 0.03 * breed.hair, rng)
    seen, alpha = paste_fur(scene, blobs, view, look, light, (0.035, 0.07, 0.12)[breed.hair], rng)
    skin, air = painter.draw_face(seen, face, look, view, rng)
    scene.paste(skin, (0, 0), skin)
    scene.paste(air, (0, 0), air)
    mask = alpha
    if rng.random() < 0.22:
        feet = (float(seen["columns"].mean()), float(seen["rows"].max()))
        front = scenes.in_front(size, feet, scale, rng)
        scene.paste(front, (0, 0), front)
        mask = np.minimum(mask, 255 - np.asarray(front.getchannel("A")))
    picture = scene.resize(final, Image.Resampling.BICUBIC, reducing_gap=None)
    small = Image.fromarray(mask).resize(final, Image.Resampling.BOX)
    return photograph(np.asarray(picture, dtype=np.float64), rng), np.asarray(small) >= 128


def paste_fur(scene: Image.Image, blobs: Blobs, view: tuple, look: dict, light: NDArray, hair: float, rng: np.random.Generator):
    """Paint furry blobs into the scene; returns what `painter.see` saw and the coverage, ``(H, W)`` uint8."""
    seen = painter.see(blobs, view, scene.size[::-1])
    if seen["rows"].size == 0:
        return seen, np.zeros(scene.size[::-1], dtype=np.uint8)
    picture = painter.outline_hair(seen, painter.fur(seen, look, light, rng), hair * seen["scale"], rng)
    scene.paste(picture, (0, 0), picture)
    return seen, np.asarray(picture.getchannel("A"))


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


def trimap_of(mask: NDArray[np.bool_], half_width: float) -> NDArray[np.uint8]:
    """Official labels of a mask: 1 animal, 2 background, 3 within `half_width` pixels of the outline.

    Parameters
    ----------
    mask : ndarray
        ``(H, W)`` bool.
    half_width : float
        How far the band reaches to each side of the outline, pixels.

    Returns
    -------
    ndarray
        ``(H, W)`` uint8 of 1, 2 and 3.
    """
    labels = np.where(mask, 1, 2).astype(np.uint8)
    if mask.any() and not mask.all():
        inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
        labels[inside + outside <= half_width] = 3
    return labels


def write_pet(folder: Path, breed_index: int, number: int, seed: int) -> None:
    """Draw one picture and write it and its trimap below `folder`."""
    breed = BREEDS[breed_index]
    picture, mask = draw_pet(breed, number, seed)
    rng = np.random.default_rng([seed, breed_index, number, 1])
    labels = trimap_of(mask, rng.uniform(0.0095, 0.0205) * max(mask.shape))
    name = f"{breed.name}_{number}"
    Image.fromarray(picture).save(folder / "images" / f"{name}.jpg", quality=int(rng.integers(80, 95)), subsampling=2)
    Image.fromarray(labels).save(folder / "annotations" / "trimaps" / f"{name}.png")


def shares(total: int) -> list[int]:
    """Split `total` pictures among the breeds by their sizes, at least one each."""
    weight = sum(breed.size for breed in BREEDS)
    exact = [breed.size / weight * (total - len(BREEDS)) for breed in BREEDS]
    counts = [1 + int(x) for x in exact]
    by_remainder = sorted(range(len(BREEDS)), key=lambda k: (int(exact[k]) - exact[k], k))
    for k in by_remainder[: total - sum(counts)]:
        counts[k] += 1
    return counts


def draw_sample(
    root: Path,
    n_trainval: int = 540,
    n_test: int = 120,
    *,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Write a drawn data set in the layout of Oxford-IIIT Pet.

    The folder appears only once it is complete.  A finished sample of the same arguments is left as it is.

    Parameters
    ----------
    root : Path
        Folder to make, holding ``images`` and ``annotations`` afterwards.
    n_trainval, n_test : int
        Pictures in each list; every breed is in both, so at least one per breed.
    seed : int
        Another seed draws other pictures.
    workers : int, optional
        Processes to draw with; by default one a processor, at most 8.  The result does not depend on it.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        `root`.

    Raises
    ------
    ValueError
        If there are fewer pictures than breeds in a list.
    FileExistsError
        If `root` holds anything else than this very sample.
    """
    root = Path(root)
    if min(n_trainval, n_test) < len(BREEDS):
        raise ValueError(f"each list needs a picture of each of the {len(BREEDS)} breeds: got {n_trainval} and {n_test}")
    manifest = {"drawing_version": DRAWING_VERSION, "n_trainval": n_trainval, "n_test": n_test, "seed": seed}
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        try:
            found = json.loads((root / "sample.json").read_text())
        except (OSError, ValueError):
            found = None
        if found == manifest:
            return root
        what = "no drawn sample" if found is None else f"another sample, {found},"
        raise FileExistsError(f"{root} holds {what} and is left alone; wanted {manifest}: choose another folder or empty it")

    root.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        (folder / "images").mkdir()
        (folder / "annotations" / "trimaps").mkdir(parents=True)
        numbers = [(a, a + b) for a, b in zip(shares(n_trainval), shares(n_test), strict=True)]
        jobs = [(folder, k, number, seed) for k, (_, last) in enumerate(numbers) for number in range(1, last + 1)]
        workers = workers or min(os.cpu_count() or 1, 8)
        with tqdm(total=len(jobs), desc="drawing pets", unit="pic", disable=not progress) as bar:
            if workers == 1:
                for job in jobs:
                    write_pet(*job)
                    bar.update()
            else:
                with ProcessPoolExecutor(workers) as pool:
                    for _ in pool.map(write_pet, *zip(*jobs, strict=True), chunksize=4):
                        bar.update()
        write_lists(folder / "annotations", numbers)
        (folder / "sample.json").write_text(json.dumps(manifest, indent=2) + "\n")
        folder.chmod(0o755)  # mkdtemp keeps others out
        os.replace(folder, root)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return root


def write_lists(annotations: Path, numbers: list[tuple[int, int]]) -> None:
    """Write ``list.txt``, ``trainval.txt`` and ``test.txt``: the first numbers of each breed train, the rest test."""
    lists = {"list": LIST_HEADER.splitlines(), "trainval": [], "test": []}
    of_species = {1: 0, 2: 0}
    for k, (breed, (first, last)) in enumerate(zip(BREEDS, numbers, strict=True)):
        of_species[breed.species] += 1
        for number in range(1, last + 1):
            line = f"{breed.name}_{number} {k + 1} {breed.species} {of_species[breed.species]}"
            lists["list"].append(line)
            lists["trainval" if number <= first else "test"].append(line)
    for name, lines in lists.items():
        (annotations / f"{name}.txt").write_text("\n".join(lines) + "\n")
