"""Photo in, mask out, at the photo's own size: what the demos and the command line share."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from petseg_utils.data.datasets import DataError
from petseg_utils.data.image_files import ImageFileError, read_image_file, upright_rgb
from petseg_utils.data.labels import CLASSES
from petseg_utils.data.transforms import Letterbox
from petseg_utils.models.prompts import Box, Click, Prompt, Scribble, prompt_maps
from petseg_utils.study import PetsegError
from petseg_utils.training.checkpoints import find_checkpoint, load
from petseg_utils.training.recipes import recipe_of

MAX_PIXELS = 50_000_000  # of a photo; decoded it takes three bytes each, and its mask and cut-out five more
SMOOTH = 1.5  # model pixels
PHOTO_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF")  # MPO: a JPEG with a second picture, as phones write it
_SUCH_FILES = "use a photo as JPEG, PNG, WebP, BMP or TIFF."
_ADVICE = {  # by what is wrong with a photo's file
    "missing": "is missing, or is no file: check its name.",
    "no access": "may not be read: give yourself read access to it.",
    "no image": f"is no picture, or is damaged: {_SUCH_FILES}",
    "other format": f"is a picture of the kind {{}}: {_SUCH_FILES}",
    "too large": f"has more than {MAX_PIXELS // 1_000_000} megapixels: make it smaller and try again.",
    "damaged": f"is damaged: save it anew, or {_SUCH_FILES}",
}


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
    def load(cls, model: str = "decoder", weights: Path | None = None) -> "Segmenter":
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
        return recipe_of(self.card["model"]).takes_prompts

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
        return class_mask(self.probabilities([image])[0], self.letterbox(image))

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
        squares = [self.letterbox(image).image(image) for image in images]
        device = next(self.model.parameters()).device
        return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).to(device).float()

    def letterbox(self, image: np.ndarray) -> Letterbox:
        """How a photo ``uint8 (H, W, 3)`` fits into the model's square."""
        height, width = image.shape[:2]
        return Letterbox(height, width, self.card["image_size"])


def class_mask(probabilities: np.ndarray, box: Letterbox) -> np.ndarray:
    """The likeliest class of each pixel of the photo, ``uint8 (H, W)``, from probabilities ``(3, size, size)``."""
    best = enlarge(probabilities[0], box, (box.height, box.width))
    mask = np.zeros(best.shape, np.uint8)
    for value in range(1, len(probabilities)):  # one class at a time: for a large photo three at once are much memory
        candidate = enlarge(probabilities[value], box, (box.height, box.width))
        mask[candidate > best] = value
        np.maximum(best, candidate, out=best)
    return mask


def enlarge(square: np.ndarray, box: Letterbox, shape: tuple[int, int]) -> np.ndarray:
    """The photo's part of a letterboxed map ``float (size, size)``, bilinear, at any size ``(height, width)``.

    It is smoothed a little first: the decoder predicts its pixels in cells of 4 x 4, whose seams would show as steps.
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

    def __post_init__(self) -> None:
        self._box = self.segmenter.letterbox(self.image)
        self._square = self.segmenter.squares([self.image])
        model: Any = self.segmenter.model
        with torch.inference_mode():
            self._seen: tuple[Any, ...] = model.look(self._square) if self.segmenter.takes_prompts else ()
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
        evidence = (classes * (target > 0.5)).sum((1, 2))
        if not self.prompts:
            evidence[0] = 0  # it may be sure that this is a pet, and not sure of which
        return CLASSES[int(evidence.argmax())]

    @property
    def share(self) -> float:
        """Part of the photo that is selected, 0 to 1; of a large photo measured at 1,024 pixels."""
        height, width = self.image.shape[:2]
        scale = min(1, 1024 / max(height, width))
        return float(self.mask_at(max(1, round(scale * height)), max(1, round(scale * width))).mean())

    @property
    def confidence(self) -> float:
        """Mean probability that a selected pixel is rightly selected, 0.5 to 1; 0 where none is selected."""
        inner = self._steps[-1][0][self._box.window]
        return float(inner[inner > 0.5].mean()) if (inner > 0.5).any() else 0.0

    @property
    def summary(self) -> str:
        """What is selected, in a sentence; empty where nothing is."""
        if not (share := self.share):
            return ""
        how = "Selected" if self.prompts else "Proposed"
        return f"{how}: {self.label}, {share:.1%} of the photo, with confidence {self.confidence:.0%}."

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
        model: Any = self.segmenter.model
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
        If the file is missing, damaged, larger, or in another format than `PHOTO_FORMATS`, whatever its name says.
    """
    path = Path(path)
    try:
        return read_image_file(path, upright_rgb, formats=PHOTO_FORMATS, max_pixels=MAX_PIXELS)
    except ImageFileError as error:
        raise DataError(f"{path.name} {_ADVICE[error.fault].format(error.detail)}", error.fault) from error


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
