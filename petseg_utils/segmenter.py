"""Photo in, mask out, at the photo's own size: what the demos and the command line share."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from petseg_utils.checkpoints import find_checkpoint, load
from petseg_utils.datasets import DataError, read_image
from petseg_utils.metrics import CLASSES
from petseg_utils.prompts import Box, Click, Prompt, Scribble, prompt_maps
from petseg_utils.study import PetsegError
from petseg_utils.transforms import Letterbox

MAX_PIXELS = 50_000_000  # of a photo; decoded it takes three bytes each, and its mask and cut-out five more
SMOOTH = 1.5  # model pixels
PHOTO_KINDS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF")  # MPO is a JPEG with a second picture, as phones write it


@dataclass(frozen=True)
class Segmenter:
    """A trained model that takes photos of any size.

    Parameters
    ----------
    model : nn.Module
        Takes pixel values ``(N, 3, size, size)`` in 0..255 and gives logits ``(N, 3, size, size)``.
    card : dict
        The checkpoint's card; says what the model was trained on.
    """

    model: nn.Module
    card: dict

    @classmethod
    def load(cls, model: str = "clip", weights: Path | None = None) -> "Segmenter":
        """Load the weights that ship for a model, or a checkpoint of your own.

        Raises
        ------
        PetsegError
            If no weights ship for this model, or the file is missing or damaged.
        """
        return cls(*load(weights or find_checkpoint(model, None)))

    @property
    def takes_prompts(self) -> bool:
        """Whether clicks, scribbles and boxes change its masks."""
        return self.card["model"] == "point"

    def predict(self, photo: Path | np.ndarray) -> np.ndarray:
        """Segment a photo, without any help.

        Parameters
        ----------
        photo : Path or ndarray
            A picture file, or RGB ``uint8 (H, W, 3)``.

        Returns
        -------
        ndarray
            ``uint8 (H, W)`` at the photo's own (upright) size: 0 background, 1 cat, 2 dog.

        Raises
        ------
        DataError
            If the file is no picture that can be read, or a too large one.
        """
        image = photo if isinstance(photo, np.ndarray) else read_photo(photo)
        box = Letterbox(*image.shape[:2], self.card["image_size"])
        return class_mask(self.probabilities([image])[0], box)

    def open(self, photo: Path | np.ndarray) -> "OpenPhoto":
        """Open a photo to click on: encoder and decoder run once, here; a click then costs the head only.

        Parameters and errors are those of `predict`.
        """
        return OpenPhoto(self, photo if isinstance(photo, np.ndarray) else read_photo(photo))

    @torch.inference_mode()
    def probabilities(self, images: list[np.ndarray]) -> np.ndarray:
        """Class probabilities of several photos, ``float32 (N, 3, size, size)``, letterboxed."""
        return self.model(self.squares(images)).softmax(1).float().cpu().numpy()

    def squares(self, images: list[np.ndarray]) -> Tensor:
        """Letterboxed photos as the model takes them, ``float (N, 3, size, size)``."""
        size = self.card["image_size"]
        squares = [Letterbox(*image.shape[:2], size).image(image) for image in images]
        device = next(self.model.parameters()).device
        return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).to(device).float()


def class_mask(probabilities: np.ndarray, box: Letterbox) -> np.ndarray:
    """The likeliest class of each pixel of the photo, ``uint8 (H, W)``, from probabilities ``(3, size, size)``."""
    best = enlarge(probabilities[0], box, (box.height, box.width))
    mask = np.zeros(best.shape, np.uint8)
    for value in range(1, len(probabilities)):  # one class at a time: for a large photo three at once are much memory
        one = enlarge(probabilities[value], box, best.shape)
        mask[one > best] = value
        np.maximum(best, one, out=best)
    return mask


def enlarge(square: np.ndarray, box: Letterbox, shape: tuple[int, int]) -> np.ndarray:
    """The photo's part of a letterboxed map ``float (size, size)``, bilinear, at any size ``(height, width)``.

    It is smoothed a little before: the decoder says its pixels in cells of 4 x 4, whose seams would show as steps.
    """
    inner = cv2.GaussianBlur(np.ascontiguousarray(square[box.window], dtype=np.float32), (0, 0), SMOOTH)
    return cv2.resize(inner, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


@dataclass
class OpenPhoto:
    """A photo that somebody works on: each prompt changes the mask, and can be taken back.

    Coordinates are the photo's pixels, x to the right and y down, pixel centres at whole numbers.  A model that takes
    no prompts keeps the mask that it proposes.

    Parameters
    ----------
    segmenter : Segmenter
        What makes the masks.
    image : ndarray
        RGB ``uint8 (H, W, 3)``, upright.
    """

    segmenter: Segmenter
    image: np.ndarray
    prompts: list[Prompt] = field(default_factory=list)  # in the photo's pixels

    def __post_init__(self):
        self._box = Letterbox(*self.image.shape[:2], self.segmenter.card["image_size"])
        self._square = self.segmenter.squares([self.image])
        with torch.inference_mode():
            self._seen = self.segmenter.model.look(self._square) if self.segmenter.takes_prompts else None
        self._steps = [self._decide(None)]  # after each prompt, and before the first: target and class probabilities

    @property
    def mask(self) -> np.ndarray:
        """What is selected now, ``bool (H, W)`` at the photo's own size."""
        return self.mask_at(*self.image.shape[:2])

    def mask_at(self, height: int, width: int) -> np.ndarray:
        """What is selected now at another size, ``bool (height, width)``: for a screen, without the photo's cost."""
        return enlarge(self._steps[-1][0], self._box, (height, width)) > 0.5

    @property
    def label(self) -> str:
        """The likeliest class of what is selected: ``cat``, ``dog``, or ``background``, also where nothing is.

        What the model proposes without a prompt is always a pet.
        """
        target, classes = (step[..., *self._box.window] for step in self._steps[-1])
        found = (classes * (target > 0.5)).sum((1, 2))
        if not self.prompts:
            found[0] = 0  # it may be sure that this is a pet, and not sure of which
        return CLASSES[int(found.argmax())]

    @property
    def share(self) -> float:
        """Part of the photo that is selected, 0 to 1; of a large photo measured at 1,024 pixels."""
        height, width = self.image.shape[:2]
        less = min(1, 1024 / max(height, width))
        return float(self.mask_at(max(1, round(less * height)), max(1, round(less * width))).mean())

    @property
    def confidence(self) -> float:
        """Mean probability of the selected pixels to be rightly selected, 0.5 to 1; 0 where none is selected."""
        inner = self._steps[-1][0][self._box.window]
        return float(inner[inner > 0.5].mean()) if (inner > 0.5).any() else 0.0

    @property
    def sentence(self) -> str:
        """What is selected, in words; empty where nothing is."""
        share, how = self.share, "Selected" if self.prompts else "Proposed"
        said = f"{how}: {self.label}, {share:.1%} of the photo, with confidence {self.confidence:.0%}."
        return said if share else ""

    def click(self, x: float, y: float, positive: bool = True) -> np.ndarray:
        """Say that the pixel at ``(x, y)`` belongs to what is wanted, or does not; returns `mask`.

        Raises
        ------
        PetsegError
            If the point lies outside the photo, or the model takes no prompts.
        """
        return self.add(Click(x, y, positive)).mask

    def scribble(self, points: list[tuple[float, float]], positive: bool = True) -> np.ndarray:
        """The same for all points of a stroke."""
        return self.add(Scribble(tuple((float(x), float(y)) for x, y in points), positive)).mask

    def box(self, x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
        """Say that what is wanted lies within a box; returns `mask`."""
        return self.add(Box(x0, y0, x1, y1)).mask

    def undo(self) -> np.ndarray:
        """Take the last prompt back, if there is one; returns `mask`."""
        if self.prompts:
            self.prompts.pop()
            self._steps.pop()
        return self.mask

    def clear(self) -> np.ndarray:
        """Take all prompts back; returns `mask`, which is what the model proposes by itself."""
        self.prompts.clear()
        del self._steps[1:]
        return self.mask

    def add(self, prompt: Prompt) -> "OpenPhoto":
        """Take a prompt in, without making a mask of the photo's size; returns itself."""
        if not self.segmenter.takes_prompts:
            raise PetsegError(f"The model {self.segmenter.card['model']} takes no clicks; the model point does.")
        height, width = self.image.shape[:2]
        for x, y in corners(prompt):
            if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
                raise PetsegError(f"The point ({x:g}, {y:g}) lies outside the photo of {width} x {height} pixels.")
        self.prompts.append(prompt)
        self._steps.append(self._decide(self._steps[-1][0]))
        return self

    @torch.inference_mode()
    def _decide(self, previous: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities to be selected ``(size, size)``, and of the classes ``(3, size, size)``."""
        model = self.segmenter.model
        if not self.segmenter.takes_prompts:
            classes = model(self._square)[0].softmax(0).float().cpu().numpy()
            pet = classes[1:].max(0)
            return pet / (pet + classes[0]), classes  # above a half where a pet's class is the likeliest of all
        own = [moved(prompt, self._box) for prompt in self.prompts]
        maps = prompt_maps([own], self._square, None if previous is None else previous[None])
        asked, classes = model.head(*self._seen, maps)[0, 0].float(), self._seen[1][0].float()
        return asked.sigmoid().cpu().numpy(), classes.softmax(0).cpu().numpy()


def read_photo(path: Path) -> np.ndarray:
    """Read somebody's own photo, upright; what it is and its size are looked up in its header before it is decoded.

    Returns
    -------
    ndarray
        RGB ``uint8 (H, W, 3)``, at most `MAX_PIXELS` pixels.

    Raises
    ------
    DataError
        If the file is missing, damaged, larger, or of another kind than `PHOTO_KINDS`, whatever its name says.
    """
    path = Path(path)
    large = f"{path.name} has more than {MAX_PIXELS // 1_000_000} megapixels: make it smaller and try again."
    other = "use a photo as JPEG, PNG, WebP, BMP or TIFF."
    if not path.is_file():
        raise DataError(f"{path.name} is missing, or is no file: check its name.", "missing")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as header:
                kind, pixels = header.format, header.width * header.height
    except PermissionError as error:
        raise DataError(f"{path.name} may not be read: give yourself read access to it.", "unreadable") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(large, "too large") from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's ways of saying that it cannot tell what it is
        raise DataError(f"{path.name} is no picture, or is damaged: {other}", "unreadable") from error
    if kind not in PHOTO_KINDS:
        raise DataError(f"{path.name} is a picture of the kind {kind}: {other}", "other kind")
    if pixels > MAX_PIXELS:
        raise DataError(large, "too large")
    try:
        return read_image(path)
    except (DataError, OSError, SyntaxError, ValueError) as error:  # the latter three: EXIF data that make no sense
        raise DataError(f"{path.name} is damaged: save it anew, or {other}", "unreadable") from error


def corners(prompt: Prompt) -> list[tuple[float, float]]:
    """The points that make up a prompt."""
    if isinstance(prompt, Click):
        return [(prompt.x, prompt.y)]
    return list(prompt.points) if isinstance(prompt, Scribble) else [(prompt.x0, prompt.y0), (prompt.x1, prompt.y1)]


def moved(prompt: Prompt, box: Letterbox) -> Prompt:
    """A prompt in the photo's pixels as one in model pixels."""
    points = [box.to_square(x, y) for x, y in corners(prompt)]
    if isinstance(prompt, Click):
        return Click(*points[0], prompt.positive)
    return Scribble(tuple(points), prompt.positive) if isinstance(prompt, Scribble) else Box(*points[0], *points[1])
