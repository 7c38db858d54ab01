"""Training examples for the loop: augmented pictures, or pictures and mirror images with their cached features."""

from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from petseg_utils.data.audit import content_hash
from petseg_utils.data.labels import BORDER, PADDING
from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.transforms import make_augmentation
from petseg_utils.models.feature_cache import Features
from petseg_utils.study import TrainingSettings

PASTED = (0.2, 0.75)  # least and greatest longer side of a pasted pet's window, as a share of the picture's edge
SMALLEST_PET = 0.004  # share of a picture: smaller pets are not pasted
NARROW = 10.0  # pixels: a border pixel is split only if both sides are at most this far away
RIM = 5  # width in pixels of the margin cut out around a pet, and of the kernel for the rim that becomes border
Key = tuple[int, int, int]  # seed, epoch, and the example's place in the epoch
Make = Callable[[PictureSet, int, Key], dict]


class TrainingPictures(Dataset):
    """Training examples; each depends only on (seed, epoch, index), so a resumed run sees the same ones.

    Parameters
    ----------
    make : callable
        ``make(pictures, row, key)`` returns one example, a dict with ``image`` ``uint8 (3, H, W)`` and ``label``
        ``uint8 (H, W)`` among its entries.  `augmented` by default.
    length : int, optional
        Examples per epoch; the pictures are repeated until there are as many.  By default, one for each row.
    rows : list of int, optional
        Rows of the pictures to draw from, possibly with repetitions; each once by default.
    """

    def __init__(
        self,
        pictures: PictureSet,
        seed: int,
        make: Make | None = None,
        length: int | None = None,
        rows: list[int] | None = None,
    ):
        self.pictures = pictures
        self.seed = seed
        self.make = make or augmented()
        self.rows = rows or list(range(len(pictures)))
        self.length = length or len(self.rows)
        self.epoch = 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        """Return the example at a place of the current epoch."""
        return self.make(self.pictures, self.rows[index % len(self.rows)], (self.seed, self.epoch, index))


def augmented(settings: TrainingSettings | None = None, scale: int = 1) -> Make:
    """Make examples that are randomly mirrored, shifted, scaled and tinted; see `data.transforms.make_augmentation`.

    Parameters
    ----------
    settings : TrainingSettings, optional
        How far the examples vary, and which shares of them are mosaics of four pictures, show no pet, or have a pet of
        another picture pasted in; by default they vary little, and there are none of these.
    scale : int
        How many times as large as their labels the pictures are, 1 or 2.
    """
    augment = make_augmentation(settings.scales, settings.shift) if settings else make_augmentation()
    mosaics, empty, pastes = (settings.mosaic, settings.background, settings.paste) if settings else (0.0, 0.0, 0.0)

    def varied(pictures: PictureSet, row: int, *, without_pet: bool = False) -> tuple[np.ndarray, np.ndarray]:
        image = pictures.at(scale)[row]
        label = np.asarray(pictures.labels[row]).repeat(scale, 0).repeat(scale, 1)
        if without_pet:
            image, label = largest_empty_part(image, label)
        both = augment(image=image, mask=label)
        return both["image"], both["mask"]

    def make(pictures: PictureSet, row: int, key: Key) -> dict[str, Tensor]:
        seed, epoch, index = key
        augment.set_random_seed((seed * 1_000 + epoch) * 100_000 + index)
        rng = np.random.default_rng(key)
        kind = rng.random()
        if kind < mosaics:
            rows = [row, *rng.integers(len(pictures), size=3).tolist()]
            image, label = mosaic([varied(pictures, other) for other in rows], rng)
        else:
            image, label = varied(pictures, row, without_pet=kind < mosaics + empty)
            if rng.random() < pastes:
                other = int(rng.integers(len(pictures)))
                image, label = paste_pet(image, label, *varied(pictures, other), rng)
        return as_example(image, label[::scale, ::scale])

    return make


def mosaic(parts: list[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Combine four pictures and their labels into one, each squeezed into a quarter around a random point.

    References
    ----------
    Bochkovskiy, Wang, Liao: "YOLOv4", 2020, arXiv:2004.10934.
    """
    image, label = (np.empty_like(array) for array in parts[0])
    size = len(label)
    y, x = (int(place) for place in rng.integers(2 * size // 7, 5 * size // 7, 2))
    corners = [(rows, columns) for rows in (slice(0, y), slice(y, size)) for columns in (slice(0, x), slice(x, size))]
    for (rows, columns), (part, part_label) in zip(corners, parts, strict=True):
        shape = (columns.stop - columns.start, rows.stop - rows.start)
        image[rows, columns] = cv2.resize(part, shape, interpolation=cv2.INTER_AREA)
        label[rows, columns] = cv2.resize(part_label, shape, interpolation=cv2.INTER_NEAREST)
    return image, label


def paste_pet(
    image: np.ndarray, label: np.ndarray, other: np.ndarray, other_label: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Paste the pet of another picture, resized, at a random place; a rim around it becomes border.

    The picture is returned unchanged if the other one shows no pet or a tiny one, or if much of it would cover padding.

    References
    ----------
    Ghiasi et al.: "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR 2021,
    arXiv:2012.07177.
    """
    pet = (other_label == 1) | (other_label == 2)
    ys, xs = np.nonzero(pet)
    if len(ys) < SMALLEST_PET * pet.size:
        return image, label
    window = np.s_[max(0, ys.min() - RIM) : ys.max() + RIM + 1, max(0, xs.min() - RIM) : xs.max() + RIM + 1]
    size = len(label)
    factor = rng.uniform(*PASTED) * size / max(pet[window].shape)
    shape = tuple(max(1, round(factor * side)) for side in pet[window].shape[::-1])
    cut, cut_label = (
        cv2.resize(np.ascontiguousarray(array[window]), shape, interpolation=how)
        for array, how in ((other, cv2.INTER_AREA), (other_label, cv2.INTER_NEAREST))
    )
    pet = (cut_label == 1) | (cut_label == 2)
    height, width = pet.shape
    y, x = (int(rng.integers(-side // 4, max(1, size - 3 * side // 4))) for side in (height, width))
    place = np.s_[max(0, y) : min(size, y + height), max(0, x) : min(size, x + width)]
    rows, columns = place
    part = np.s_[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
    if (label[place] == PADDING).mean() > 0.2:
        return image, label
    rim = np.ones((RIM, RIM), np.uint8)
    whole = pet | ((cut_label == BORDER) & (cv2.dilate(pet.astype(np.uint8), rim) > 0))
    opaque = cv2.GaussianBlur(whole.astype(np.float32), (0, 0), 1.0)[part][..., None]
    image, label = image.copy(), label.copy()
    image[place] = np.rint(opaque * cut[part] + (1 - opaque) * image[place])
    rim_here = cv2.dilate(whole.astype(np.uint8), rim)[part] > 0
    label[place] = np.where(pet[part], cut_label[part], np.where(rim_here, BORDER, label[place]))
    return image, label


def largest_empty_part(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of a picture `beside_pet`, enlarged to the picture's size; the whole picture if it is tiny."""
    window, shape = beside_pet(label), label.shape[::-1]
    if window is None or min(label[window].shape) < len(label) // 8:
        return image, label
    part = cv2.resize(np.ascontiguousarray(image[window]), shape, interpolation=cv2.INTER_LINEAR)
    return part, cv2.resize(np.ascontiguousarray(label[window]), shape, interpolation=cv2.INTER_NEAREST)


def beside_pet(label: np.ndarray) -> tuple[slice, slice] | None:
    """Return the largest window without padding above, below, left or right of a pet and its border; None if no pet."""
    ys, xs = np.nonzero((label != 0) & (label != PADDING))
    if not len(ys):
        return None
    rows, columns = (slice(known.min(), known.max() + 1) for known in np.nonzero(label != PADDING))
    above, below = (slice(rows.start, ys.min()), columns), (slice(ys.max() + 1, rows.stop), columns)
    left, right = (rows, slice(columns.start, xs.min())), (rows, slice(xs.max() + 1, columns.stop))
    return max((above, below, left, right), key=lambda window: min(label[window].shape))


def draw_examples(
    pictures: PictureSet,
    make: Make,
    seed: int,
    number: int,
    rows: list[int] | None = None,
    *,
    scale: int = 1,
    progress: bool = True,
) -> PictureSet:
    """Draw augmented pictures once, as a picture set of their own, so that a frozen encoder's features can be cached.

    Their borders are split, see `border_split`.

    Parameters
    ----------
    pictures, make, seed, rows
        As for `TrainingPictures`.
    scale : int
        The `scale` of the pictures that `make` returns.
    """
    order = np.random.default_rng(seed).permutation(rows or len(pictures))
    size = pictures.images.shape[1]
    images, labels = np.empty((number, size, size, 3), np.uint8), np.empty((number, size, size), np.uint8)
    detail = np.empty((number, scale * size, scale * size, 3), np.uint8) if scale > 1 else None
    lines = []
    for place in tqdm(range(number), desc="varying pictures", disable=not progress):
        row = int(order[place % len(order)])
        example = make(pictures, row, (seed, place // len(order), place))
        image = np.ascontiguousarray(example["image"].numpy().transpose(1, 2, 0))
        if detail is not None:
            detail[place] = image
        images[place] = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        labels[place] = border_split(example["label"].numpy())
        same = pictures.table.iloc[row]
        line = {"name": f"{same['name']}-{place}", "species": same["species"], "breed": same["breed"]}
        line |= {"height": size, "width": size, "content": content_hash(image), "mask": content_hash(labels[place])}
        lines.append(line)
    return PictureSet(pd.DataFrame(lines), images, labels, pictures.skipped, detail)


def border_split(label: np.ndarray) -> np.ndarray:
    """Return a label ``uint8 (H, W)`` whose narrow borders go, pixel by pixel, to the nearer of pet and background.

    A model that is not trained on borders may put the edge anywhere within them.  Where every pixel is scored, as on
    photos from elsewhere, that costs more than the error of a border split in the middle.  Pixels farther than `NARROW`
    from either side, such as those where a proposed mask is not sure, stay border.
    """
    border = label == BORDER
    if not border.any():
        return label
    distances = {value: cv2.distanceTransform((label != value).astype(np.uint8), cv2.DIST_L2, 5) for value in (0, 1, 2)}
    pet = np.where(distances[1] <= distances[2], np.uint8(1), np.uint8(2))
    to_pet, to_ground = np.minimum(distances[1], distances[2]), distances[0]
    narrow = border & (to_pet <= NARROW) & (to_ground <= NARROW)
    return np.where(narrow, np.where(to_pet < to_ground, pet, np.uint8(0)), label)


def mirrored(features: Features) -> Make:
    """Make examples with the cached feature maps of their pictures (``maps``), each mirrored or not at random."""

    def make(pictures: PictureSet, row: int, key: Key) -> dict[str, Tensor | list[Tensor]]:
        side = int(np.random.default_rng(key).integers(2))
        step = -1 if side else 1
        image, label = pictures.images[row][:, ::step], pictures.labels[row][:, ::step]
        return as_example(image, label) | {"maps": features.read(row, side)}

    return make


def as_example(image: np.ndarray, label: np.ndarray) -> dict[str, Tensor]:
    """Convert a picture ``uint8 (H, W, 3)`` and its label ``uint8 (H, W)`` to the tensors of one example."""
    return {
        "image": torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C")),
        "label": torch.from_numpy(np.array(label, order="C")),
    }
