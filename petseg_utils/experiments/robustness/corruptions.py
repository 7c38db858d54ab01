"""What can happen to a picture before a model sees it: eight perturbations like the original work's, and four more.

All of them work on pixel values 0..255, before a model normalises them, and return whole numbers within 0..255, as in
a photo that somebody might send.  Each has its levels in `LEVELS`, the harmless one first.  A picture's random draws
are seeded by its name: every model sees the same noise, and a higher level is more of that noise, not other noise.
"""

import io
import zlib

import cv2
import numpy as np
from PIL import Image

from petseg_utils.data.labels import PADDING
from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.transforms import PADDING_COLOUR

REFERENCE_SIZE = 224  # lengths in levels are pixels of a picture of this size
LEVELS = {
    "gaussian_noise": (0, 2, 4, 6, 8, 10, 12, 14, 16, 18),
    "blur": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    "contrast_up": (1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.1, 1.15, 1.2, 1.25),
    "contrast_down": (1.0, 0.95, 0.9, 0.85, 0.8, 0.6, 0.4, 0.3, 0.2, 0.1),
    "brightness_up": (0, 5, 10, 15, 20, 25, 30, 35, 40, 45),
    "brightness_down": (0, 5, 10, 15, 20, 25, 30, 35, 40, 45),
    "occlusion": (0, 5, 10, 15, 20, 25, 30, 35, 40, 45),
    "salt_and_pepper": (0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18),
    "jpeg": (100, 60, 40, 20, 10, 5),
    "rotation": (0, 15, 30, 45, 60, 90),
    "scale": (1.0, 0.85, 0.7, 0.55, 0.4, 0.25),
    "click_offset": (0, 5, 10, 15, 20, 25, 30, 35, 40, 45),
}
ORIGINAL = tuple(LEVELS)[:8]  # modelled on the work that this study redoes; the levels are this study's
TITLES = {  # of each perturbation's panel and of its levels
    "gaussian_noise": ("Gaussian noise", "sigma, grey levels"),
    "blur": ("Blur", "passes of the 3 x 3 kernel"),
    "contrast_up": ("Contrast up", "pixel values times"),
    "contrast_down": ("Contrast down", "pixel values times"),
    "brightness_up": ("Brighter", "grey levels added"),
    "brightness_down": ("Darker", "grey levels taken off"),
    "occlusion": ("Black square", "edge, pixels of 224"),
    "salt_and_pepper": ("Salt and pepper", "share of pixels"),
    "jpeg": ("JPEG", "quality"),
    "rotation": ("Rotation", "degrees"),
    "scale": ("Shrunk", "of its size"),
    "click_offset": ("Click off its place", "pixels of 224"),
}


def gaussian_noise(photo: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Add independent normal noise of standard deviation `sigma`, in grey levels, to a photo ``(H, W, 3)``."""
    return photo + sigma * rng.standard_normal(photo.shape, np.float32)


def blur(photo: np.ndarray, passes: int) -> np.ndarray:
    """Blur a photo ``float32 (H, W, 3)`` by `passes` passes of the 3 x 3 binomial kernel, mirrored at the edges.

    Each pass adds a variance of half a square pixel along each axis.
    """
    kernel = np.array([1, 2, 1], np.float32) / 4
    for _ in range(passes):
        photo = cv2.sepFilter2D(photo, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return photo


def black_square(photo: np.ndarray, edge: int, largest: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a black square on a photo ``(H, W, 3)``, centred where the `largest` one lies inside the photo at random.

    In a photo narrower than the square, the part that sticks out is cut off.
    """
    top, left = (int(rng.integers(max(1, side - largest + 1))) + (largest - edge) // 2 for side in photo.shape[:2])
    out = photo.copy()
    out[top : top + edge, left : left + edge] = 0
    return out


def salt_and_pepper(photo: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Turn a `share` (0..1) of the pixels of a photo ``(H, W, 3)`` white or black, half of the share each."""
    draw = rng.random(photo.shape[:2])
    out = photo.copy()
    out[draw < share / 2] = 255
    out[draw > 1 - share / 2] = 0
    return out


def jpeg(photo: np.ndarray, quality: int) -> np.ndarray:
    """Save a photo ``uint8 (H, W, 3)`` as JPEG of a quality (1..100, libjpeg's), and read it again."""
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer, formats=("JPEG",)))


def rotate(image: np.ndarray, label: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Turn picture and label together about the centre, counter-clockwise; uncovered areas become padding."""
    matrix, size = _rotation(label.shape[0], degrees), label.shape[::-1]
    image = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderValue=PADDING_COLOUR)
    return image, cv2.warpAffine(label, matrix, size, flags=cv2.INTER_NEAREST, borderValue=PADDING)


def shrink(image: np.ndarray, label: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Shrink picture and label together (`scale` 0..1), in the middle of a square that is otherwise padding."""
    inner, start = _shrunk(label.shape[0], scale)
    inside = (slice(start, start + inner),) * 2
    small, small_label = np.full_like(image, PADDING_COLOUR), np.full_like(label, PADDING)
    small[inside] = cv2.resize(image, (inner, inner), interpolation=cv2.INTER_AREA)
    small_label[inside] = cv2.resize(label, (inner, inner), interpolation=cv2.INTER_NEAREST_EXACT)
    return small, small_label


def corrupt(
    image: np.ndarray, label: np.ndarray, kind: str, level: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Apply one level of one perturbation to a letterboxed picture and its label.

    Only the photo is changed.  Padding keeps its colour, because it is added after a photo was taken.  A pet under the
    black square must still be found: its label stays.

    Parameters
    ----------
    image, label : ndarray
        ``uint8 (size, size, 3)``, and ``uint8 (size, size)`` with 254 for padding.
    kind : str
        One of `LEVELS`.
    level : float
        In the units of `TITLES`.  Lengths are pixels of a picture of 224, and are scaled to this picture's size; the
        blur's kernel and the noise are not scaled, as they belong to the pixels.
    rng : numpy.random.Generator
        Source of the random draws; see `picture_rng`.

    Returns
    -------
    image, label : ndarray
        New arrays, shaped like those given.

    Raises
    ------
    ValueError
        If `kind` is not a known perturbation.

    References
    ----------
    Hendrycks, Dietterich: "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019,
    arXiv:1903.12261 (the idea: perturb only the test pictures, in levels).
    """
    if kind not in LEVELS:
        raise ValueError(f"unknown perturbation {kind!r}; known: {', '.join(LEVELS)}")
    if kind in ("rotation", "scale"):
        image, label = (rotate if kind == "rotation" else shrink)(image, label, level)
        image[label == PADDING] = PADDING_COLOUR
        return image, label
    window = photo_window(label)
    whole = np.ascontiguousarray(image[window])
    photo = whole.astype(np.float32)
    if kind == "gaussian_noise":
        photo = gaussian_noise(photo, level, rng)
    elif kind == "blur":
        photo = blur(photo, int(level))
    elif kind in ("contrast_up", "contrast_down"):
        photo = photo * np.float32(level)
    elif kind == "brightness_up":
        photo = photo + level
    elif kind == "brightness_down":
        photo = photo - level
    elif kind == "occlusion":
        edge, largest = (to_size(length, label.shape[0]) for length in (level, LEVELS["occlusion"][-1]))
        photo = black_square(photo, edge, largest, rng)
    elif kind == "salt_and_pepper":
        photo = salt_and_pepper(photo, level, rng)
    elif kind == "jpeg":
        photo = jpeg(whole, int(level))
    out = image.copy()
    out[window] = np.clip(np.rint(photo), 0, 255).astype(np.uint8)
    return out, label.copy()


def corrupt_all(pictures: PictureSet, kind: str, level: float, scale: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return images ``uint8 (n, scale * size, ...)`` and labels ``uint8 (n, size, size)`` of a set, see `corrupt`.

    They come without the set's table, as its hashes would no longer match.  With `scale` 2 the photos are perturbed at
    twice the size, the size at which some encoders see them.  Noise and blur belong to the pixels, so the same level is
    weaker there: do not compare such a study with one at `scale` 1.
    """
    images, labels = [], []
    for row, name in enumerate(pictures.table["name"]):
        label = np.array(pictures.labels[row]).repeat(scale, 0).repeat(scale, 1)
        image, label = corrupt(np.array(pictures.at(scale)[row]), label, kind, level, picture_rng(name))
        images.append(image)
        labels.append(label[::scale, ::scale])
    return np.stack(images), np.stack(labels)


def picture_rng(name: str) -> np.random.Generator:
    """Return a picture's random generator, seeded by its name alone, so that the other pictures do not matter."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def photo_window(label: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns of a square ``uint8 (size, size)`` that contain the photo."""
    photo = label != PADDING
    rows, columns = (np.flatnonzero(photo.any(axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def to_size(length: float, size: int) -> int:
    """Convert a length in pixels of a picture of 224 to whole pixels of a picture of `size`."""
    return round(length * size / REFERENCE_SIZE)


def moved_point(x: float, y: float, kind: str, level: float, size: int) -> tuple[float, float]:
    """Return where a point of the picture lies after a perturbation; pixel centres are at whole numbers."""
    if kind == "rotation":
        x, y = _rotation(size, level) @ (x, y, 1)
    elif kind == "scale":
        inner, start = _shrunk(size, level)
        x, y = ((value + 0.5) * inner / size - 0.5 + start for value in (x, y))
    return float(x), float(y)


def _rotation(size: int, degrees: float) -> np.ndarray:
    return cv2.getRotationMatrix2D(((size - 1) / 2, (size - 1) / 2), degrees, 1)


def _shrunk(size: int, scale: float) -> tuple[int, int]:
    """Return the edge length of the shrunk square, and where it starts."""
    inner = round(size * scale)
    return inner, (size - inner) // 2
