"""Segment photos of any size: photo in, mask of the same size out.  The demos and the command line share this code."""

from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from petseg_utils.data.datasets import DataError
from petseg_utils.data.image_files import ImageFileError, read_image_file, upright_rgb
from petseg_utils.data.labels import CLASSES
from petseg_utils.data.transforms import Letterbox
from petseg_utils.models.cards import SHIPPED
from petseg_utils.models.exported import CLICK_HEAD, DECODER, ExportedModel, Seen
from petseg_utils.models.matting import soft_alpha
from petseg_utils.models.names import check_name
from petseg_utils.models.prompts import (
    HELD,
    Box,
    Click,
    Prompt,
    Scribble,
    latest_effect,
    parts_with,
    pixels_of,
    points_of,
    prompt_maps,
    remnants,
    within_boxes,
    within_reach,
)
from petseg_utils.models.selection import (
    FINE,
    LARGEST,
    clicked_side,
    pet_chance,
    settled,
    sigmoid,
    softmax,
    unsure_parts,
)
from petseg_utils.study import PetsegError

if TYPE_CHECKING:
    from petseg_utils.training.torch_model import TorchModel

# The most pixels a photo may have; cameras of "50 megapixels" write up to 51.4 million.  A decoded photo takes three
# bytes a pixel, its mask and cut-out five more.
MAX_PIXELS = 52_000_000
SMOOTH = 1.5  # standard deviation of the Gaussian in `smoothed`, in model pixels
LEAST = np.float32(1 / (1 + np.exp(LARGEST)))  # probability of a pixel that is certainly not selected
UNDONE = 50  # how many prompts can be undone one by one
RUNTIMES = ("onnx", "torch")
TARGETS = ("pet", "clicked")  # what clicks select, see `OpenPhoto`
# MPO: a JPEG with a second picture, as phones write it.  HEIF: only where pillow-heif is installed.
PHOTO_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "HEIF")
_SUCH_FILES = "use a JPEG, PNG, WebP, BMP or TIFF photo."
_ADVICE = {  # keyed by the fault of a photo's file
    "missing": "does not exist or is not a file: check its name.",
    "no access": "cannot be read (permission denied): give yourself read access to it.",
    "no image": f"is not a picture, or is damaged: {_SUCH_FILES}",
    "other format": f"is in the format {{}}: {_SUCH_FILES}",
    "no reader": "is {}, or save it as JPEG.",
    "too large": f"has more than {MAX_PIXELS // 1_000_000} megapixels: make it smaller and try again.",
    "too long": "is longer than a million pixels: make it smaller and try again.",
    "no memory": "takes more memory than there is, or is damaged: make it smaller and try again.",
    "levels": "has levels from {}, and its white level is unknown: save it with 8 bits per channel.",
    "damaged": f"is damaged: save it anew, or {_SUCH_FILES}",
}


@dataclass(frozen=True)
class Segmenter:
    """A trained model that takes photos of any size.

    Parameters
    ----------
    model : ExportedModel or TorchModel
        Run by ONNX Runtime or by torch: takes squares ``uint8 (N, scale * size, scale * size, 3)`` and returns arrays.
    weights : Path, optional
        The file from which the model was loaded.
    """

    model: "ExportedModel | TorchModel"
    weights: Path | None = None

    @classmethod
    def load(cls, model: str = "decoder", weights: Path | None = None, runtime: str | None = None) -> "Segmenter":
        """Load a model with the weights that ship for it, or with your own.

        Parameters
        ----------
        model : str
            Name of the model whose shipped weights are loaded; see `models.names`.
        weights : Path, optional
            Your own file: ``.onnx``, written by `training.export`, or a checkpoint, ``.safetensors``.
        runtime : str, optional
            ``"onnx"`` or ``"torch"``.  By default ONNX Runtime wherever there is an ``.onnx`` file.

        Raises
        ------
        PetsegError
            If no weights ship for this model, or the file is missing, damaged, or not for this runtime.
        """
        if runtime not in (None, *RUNTIMES):
            raise PetsegError(f"Unknown runtime {runtime!r}: use one of {', '.join(RUNTIMES)}.")
        path = weights or shipped_weights(model, runtime)
        by_onnx = path.suffix == ".onnx"
        if runtime and by_onnx != (runtime == "onnx"):
            other = "a checkpoint, .safetensors" if by_onnx else "an .onnx file: petseg export writes it"
            raise PetsegError(f"{path.name} is not for the runtime {runtime}, which takes {other}.")
        if by_onnx:
            return cls(ExportedModel(path), path)
        try:
            from petseg_utils.training.torch_model import TorchModel
        except ModuleNotFoundError as error:
            raise PetsegError(
                f"{path.name} needs {error.name}, which is not installed. In a checkout of petseg, run: pip "
                "install '.[study]'"
            ) from error
        return cls(TorchModel.load(path), path)

    @property
    def card(self) -> dict:
        """The checkpoint's card, which says what the model was trained on."""
        return self.model.card

    @property
    def takes_prompts(self) -> bool:
        """Whether clicks, scribbles and boxes change the model's masks."""
        return self.model.takes_prompts

    def predict(self, photo: str | Path | np.ndarray) -> np.ndarray:
        """Segment a photo without any prompts.

        Parameters
        ----------
        photo : str, Path or ndarray
            A picture file, or RGB ``uint8 (H, W, 3)``.

        Returns
        -------
        ndarray
            ``uint8 (H, W)`` at the photo's own (upright) size: 0 background, 1 cat, 2 dog.

        Raises
        ------
        DataError
            If the file is not a readable picture or is too large, or if the array has another dtype or shape.
        """
        image = as_photo(photo)
        return class_mask(self.probabilities([image])[0], self.letterbox(image))

    def open(self, photo: str | Path | np.ndarray, target: str = "pet") -> "OpenPhoto":
        """Open a photo to click on: encoder and decoder run once, here; each click then runs only the click head.

        Parameters
        ----------
        photo : str, Path or ndarray
            As for `predict`, with the same errors.
        target : str
            ``"pet"``, or ``"clicked"`` for whatever the first click is on; see `OpenPhoto`.

        Raises
        ------
        PetsegError
            If `target` is something else.
        """
        image = as_photo(photo)
        return OpenPhoto(self, self.reduced(image), target, image)

    def probabilities(self, images: list[np.ndarray]) -> np.ndarray:
        """Return class probabilities of several letterboxed photos, ``float32 (N, 3, size, size)``.

        Connected parts in which the model is nowhere sure of a pet count as background, and each of the others gets one
        species if possible; see `selection.settled`.
        """
        classes = softmax(self.look(self.squares(images)).logits)
        return np.stack([settled(chance, self.peak) for chance in classes])

    def look(self, squares: np.ndarray) -> Seen:
        """Run the model on several photos, given as their `squares`, before any prompt.

        Raises
        ------
        PetsegError
            If the results are not finite numbers of the right shape: the weights are damaged.
        """
        seen, size = self.model.look(squares), self.card["image_size"]
        self.check(seen.logits, (len(squares), len(CLASSES), size, size))
        if seen.cells is not None:
            self.check(seen.cells, (*seen.cells.shape[:2], size // FINE, size // FINE))
        return seen

    def check(self, logits: np.ndarray, shape: tuple[int, ...]) -> None:
        """Raise `PetsegError` for the output of a model with damaged weights: no mask is better than a wrong one."""
        if logits.shape != shape or not np.isfinite(logits).all():
            raise PetsegError(
                f"{self.weights.name if self.weights else 'The model'} gives no mask: its weights are damaged."
            )

    def reduced(self, image: np.ndarray) -> "Reduced":
        """Return a photo ``uint8 (H, W, 3)`` as the model sees it."""
        return Reduced(self.squares([image])[0], *image.shape[:2])

    @property
    def peak(self) -> float:
        """How sure the model must be of a pet somewhere in each part of a mask; see `selection.settled`."""
        return self.card.get("peak", 0.0)

    def squares(self, images: list[np.ndarray]) -> np.ndarray:
        """Return letterboxed photos as the model takes them, ``uint8 (N, scale * size, scale * size, 3)``."""
        return np.stack([self.letterbox(image).image(image, self.model.scale) for image in images])

    def letterbox(self, image: np.ndarray) -> Letterbox:
        """Return how a photo ``uint8 (H, W, 3)`` fits into the model's square."""
        height, width = image.shape[:2]
        return Letterbox(height, width, self.card["image_size"])


def cut_along(image: np.ndarray, chance: np.ndarray, box: Letterbox, *, hard: bool = False) -> np.ndarray:
    """Return how much of each pixel of a photo belongs to the result, ``uint8 (H, W)`` from 0 to 255.

    Parameters
    ----------
    image : ndarray
        The photo, RGB ``uint8 (H, W, 3)``.
    chance : ndarray
        Probability that each pixel of the square is selected, ``float (size, size)``.
    box : Letterbox
        How the photo lies in the square.
    hard : bool
        Cut where the enlarged probability is 1/2, rather than along the photo's own edges (see `models.matting`).
    """
    if hard:
        return np.where(enlarge(chance, box, image.shape[:2]) > 0.5, np.uint8(255), np.uint8(0))
    return soft_alpha(image, smoothed(chance, box))


def class_mask(probabilities: np.ndarray, box: Letterbox) -> np.ndarray:
    """Return each photo pixel's likeliest class, ``uint8 (H, W)``, from probabilities ``(3, size, size)``."""
    best = enlarge(probabilities[0], box, (box.height, box.width))
    mask = np.zeros(best.shape, np.uint8)
    for value in range(1, len(probabilities)):  # one class at a time: three at once take much memory for a large photo
        candidate = enlarge(probabilities[value], box, (box.height, box.width))
        mask[candidate > best] = value
        np.maximum(best, candidate, out=best)
    return mask


def enlarge(square: np.ndarray, box: Letterbox, shape: tuple[int, int]) -> np.ndarray:
    """Resize the photo's part of a letterboxed map ``float (size, size)``, bilinearly, to ``(height, width)``."""
    return cv2.resize(smoothed(square, box), (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def smoothed(square: np.ndarray, box: Letterbox) -> np.ndarray:
    """Return the photo's part of a letterboxed map ``float (size, size)``, slightly smoothed.

    The decoder predicts its pixels in cells of 4 x 4; without smoothing, their seams would show as steps.
    """
    return cv2.GaussianBlur(np.ascontiguousarray(square[box.window], dtype=np.float32), (0, 0), SMOOTH)


@dataclass(frozen=True)
class Reduced:
    """A photo reduced to what a model sees of it; the photo itself is not kept.

    Parameters
    ----------
    square : ndarray
        RGB ``uint8 (scale * size, scale * size, 3)``, see `Letterbox.image`.
    height, width : int
        Size of the photo, in pixels.
    """

    square: np.ndarray
    height: int
    width: int


@dataclass(frozen=True)
class Selection:
    """What a user has selected in a photo: all that results are made from, apart from the photo itself.

    Parameters
    ----------
    chance : ndarray
        Probability that each pixel of the square is selected, ``float (size, size)``.
    box : Letterbox
        How the photo lies in the square.
    prompts : tuple of Click, Scribble or Box
        In the photo's pixels, in the order in which they were given.
    """

    chance: np.ndarray
    box: Letterbox
    prompts: tuple[Prompt, ...]

    def mask_at(self, height: int, width: int) -> np.ndarray:
        """Return the mask of the selection at any size, ``bool (height, width)``."""
        selected = enlarge(self.chance, self.box, (height, width)) > 0.5
        allowed = self.allowed(height, width)
        return selected if allowed is None else selected & allowed

    def alpha(self, image: np.ndarray, *, hard: bool = False) -> np.ndarray:
        """Return how much of each pixel of the photo ``uint8 (H, W, 3)`` is selected; see `OpenPhoto.alpha`."""
        height, width = image.shape[:2]
        alpha = cut_along(image, self.chance, self.box, hard=hard)
        if (allowed := self.allowed(height, width)) is not None:
            alpha *= allowed
        mask, radius = self.mask_at(height, width), round(max(height, width) / (2 * self.box.size))
        for prompt in self.prompts:  # along an edge too, clicked pixels stay as `mask_at` has them
            for row, column in [] if isinstance(prompt, Box) else pixels_of(prompt, mask.shape):
                if (alpha[row, column] > 127) != mask[row, column]:
                    cv2.circle(alpha, (column, row), radius, 255 * int(mask[row, column]), cv2.FILLED)
        return alpha

    def allowed(self, height: int, width: int) -> np.ndarray | None:
        """Return where the boxes allow a selection, ``bool (height, width)``; None where there is no box."""
        across, down = width / self.box.width, height / self.box.height
        return within_boxes([scaled(prompt, across, down) for prompt in self.prompts], height, width)


@dataclass
class OpenPhoto:
    """A photo that a user is working on: each prompt changes the mask and can be undone.

    A positive click or scribble adds to the selection, a negative one takes away from it; the farther from the
    selection's edge it falls, the farther it reaches (see `prompts.within_reach`).  What a negative one leaves of
    another animal in small parts goes too (see `prompts.remnants`).  A box limits the selection to its inside, with a
    margin of 3 % of its longer side: clicks outside it select nothing.  So no prompt inverts the selection.

    Coordinates are in the photo's pixels, x to the right and y down, pixel centres at whole numbers.  A model that
    takes no prompts keeps the mask that it proposes.

    Parameters
    ----------
    segmenter : Segmenter
        The segmenter that makes the masks.
    reduced : Reduced
        The photo as the model sees it, upright.  The model runs on it once; it is not kept.
    target : str
        ``"pet"``: the selection starts as the proposal, all pets of the photo.  ``"clicked"``: the first positive
        click or scribble says what is wanted: the pet that it is on, provided that pet does not touch another, or the
        background.
    pixels : ndarray, optional
        The photo itself, RGB ``uint8 (H, W, 3)``, for `image`.  A caller that keeps many photos open leaves it out,
        keeps the photo on disk, and makes results from `selection`.
    """

    segmenter: Segmenter
    reduced: InitVar[Reduced]
    target: str = "pet"
    pixels: np.ndarray | None = None
    prompts: list[Prompt] = field(default_factory=list)  # in the photo's pixels

    def __post_init__(self, reduced: Reduced) -> None:
        if self.target not in TARGETS:
            raise PetsegError(f"Unknown target {self.target!r}: use one of {', '.join(TARGETS)}.")
        self._box = Letterbox(reduced.height, reduced.width, self.segmenter.card["image_size"])
        self._seen = self.segmenter.look(reduced.square[None])
        classes = softmax(self._seen.logits)[0]  # (3, size, size)
        if self.segmenter.takes_prompts:
            pet = pet_chance(self._seen.logits)[0]
        else:
            pet = classes[1:].max(0)
            pet = pet / (pet + classes[0])
        pet = np.where(unsure_parts(1 - classes[0], self.segmenter.peak), np.minimum(pet, 1 - pet), pet)
        self._classes = classes.astype(np.float16)  # half precision: a page keeps many, and they only name the pet
        # One entry from before any prompt and one after each of the latest prompts: the probability that each pixel is
        # selected, float (size, size), and 1, or -1 while the background is wanted.
        self._steps: list[tuple[np.ndarray, float]] = [(pet, 1.0)]

    @property
    def height(self) -> int:
        """The photo's height in pixels."""
        return self._box.height

    @property
    def width(self) -> int:
        """The photo's width in pixels."""
        return self._box.width

    @property
    def image(self) -> np.ndarray:
        """The photo, RGB ``uint8 (H, W, 3)``; available only if it was opened with its `pixels`."""
        assert self.pixels is not None
        return self.pixels

    @property
    def selection(self) -> Selection:
        """The current selection."""
        return Selection(self._steps[-1][0], self._box, tuple(self.prompts))

    @property
    def mask(self) -> np.ndarray:
        """The current selection's mask, ``bool (H, W)`` at the photo's own size."""
        return self.mask_at(self.height, self.width)

    def mask_at(self, height: int, width: int) -> np.ndarray:
        """Return the mask at another size, ``bool (height, width)``: for display, cheaper than at the photo's size."""
        return self.selection.mask_at(height, width)

    def alpha(self, *, hard: bool = False) -> np.ndarray:
        """Return how much of each photo pixel is selected, ``uint8 (H, W)`` from 0 to 255: for results to be saved.

        The outline follows the photo's own edges, whereas `mask` has only the coarser precision of the model.

        Parameters
        ----------
        hard : bool
            Return `mask` as it is, as 0 and 255.
        """
        return self.selection.alpha(self.image, hard=hard)

    @property
    def label(self) -> str:
        """What is selected: ``cat`` or ``dog``, whichever is likelier, or ``background`` where that was asked for.

        Where nothing is selected, the pet that the photo as a whole is likelier to show.
        """
        if self._steps[-1][1] < 0:
            return CLASSES[0]
        selected = self._inner > 0.5
        weights = selected if selected.any() else np.ones_like(selected)
        return CLASSES[
            1 + int((self._classes[1:, *self._box.window] * weights.astype(np.float32)).sum((1, 2)).argmax())
        ]

    @property
    def share(self) -> float:
        """Fraction of the photo that is selected, 0 to 1; measured on large photos at a longer side of 1,024 pixels."""
        height, width = self.height, self.width
        scale = min(1, 1024 / max(height, width))
        return float(self.mask_at(max(1, round(scale * height)), max(1, round(scale * width))).mean())

    @property
    def confidence(self) -> float:
        """Mean predicted probability of the selected pixels, 0.5 to 1; 0 where none is selected."""
        sure = self._inner[self._inner > 0.5]
        return float(sure.mean()) if sure.size else 0.0

    @property
    def summary(self) -> str:
        """A sentence saying what is selected; empty where nothing is."""
        if not (share := self.share):
            return ""
        how = "Selected" if self.prompts else "Proposed"
        return f"{how}: {self.label}, {share:.1%} of the photo, with confidence {self.confidence:.0%}."

    def click(self, x: float, y: float, positive: bool = True) -> np.ndarray:
        """Say that the pixel at ``(x, y)`` is wanted (adds) or, if not `positive`, unwanted (removes); return `mask`.

        Raises
        ------
        PetsegError
            If the point lies outside the photo, or the model takes no prompts.
        """
        return self.add(Click(x, y, positive)).mask

    def scribble(self, points: list[tuple[float, float]], positive: bool = True) -> np.ndarray:
        """Do what `click` does, for all points of a stroke."""
        return self.add(Scribble(tuple((float(x), float(y)) for x, y in points), positive)).mask

    def box(self, x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
        """Say that what is wanted lies within a box, and return `mask`."""
        return self.add(Box(x0, y0, x1, y1)).mask

    def undo(self) -> np.ndarray:
        """Undo the last prompt, if there is one, and return `mask`.

        Raises
        ------
        PetsegError
            If `UNDONE` prompts have been undone and there are more.
        """
        self.take_back()
        return self.mask

    def clear(self) -> np.ndarray:
        """Undo all prompts and return `mask`, which is then what the model proposes by itself."""
        self.take_all_back()
        return self.mask

    def take_back(self) -> None:
        """Do what `undo` does, without making a mask of the photo's size."""
        if not self.prompts:
            return
        if len(self._steps) <= min(2, len(self.prompts)):
            raise PetsegError(f"Only the last {UNDONE} clicks can be undone one by one; clear undoes all of them.")
        self.prompts.pop()
        self._steps.pop()

    def take_all_back(self) -> None:
        """Do what `clear` does, without making a mask of the photo's size."""
        self.prompts.clear()
        del self._steps[1:]

    def add(self, prompt: Prompt) -> "OpenPhoto":
        """Add a prompt without making a mask of the photo's size; return this object."""
        self.check(prompt)
        self.prompts.append(prompt)
        selected, side = self._next_step()
        # In single precision: after coarser rounding, a click that adds could remove a pixel.
        self._steps.append((selected.astype(np.float32), side))
        del self._steps[1 : -UNDONE - 1]
        return self

    def check(self, prompt: Prompt) -> None:
        """Raise `PetsegError` if a prompt cannot be accepted, for the reasons that `click` gives."""
        if not self.segmenter.takes_prompts:
            raise PetsegError(f"The model {self.segmenter.card['model']} takes no clicks: use the model point.")
        height, width = self.height, self.width
        for x, y in points_of(prompt):
            if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
                raise PetsegError(f"The point ({x:g}, {y:g}) lies outside the photo of {width} x {height} pixels.")

    @property
    def _inner(self) -> np.ndarray:
        """Probability that each pixel of the photo is selected, at the model's size; 0 outside the boxes."""
        inner = smoothed(self._steps[-1][0], self._box)
        allowed = self.selection.allowed(*inner.shape)
        # Boxes that contain no pixel centre at this size are ignored here.
        return inner if allowed is None or not allowed.any() else inner * allowed

    def _next_step(self) -> tuple[np.ndarray, float]:
        """Apply the latest prompt to the last step and return the next one; see `_steps`."""
        own, size = [moved(prompt, self._box) for prompt in self.prompts], self._box.size
        (last, side), effect = self._steps[-1], latest_effect(own)
        previous = last.astype(np.float32)
        if not effect and any(latest_effect([before]) for before in own[:-1]):
            return previous, side  # a box after clicks only limits the selection
        chooses = self.target == "clicked" and effect > 0 and all(latest_effect([before]) <= 0 for before in own[:-1])
        if chooses:
            assert self._seen.cells is not None
            maps = prompt_maps([own], size)
            side = float(clicked_side(self._seen.cells, pet_chance(self._seen.logits), maps)[0])
            if side < 0:
                unwanted = maps[0, 1] > HELD  # from earlier negative prompts
                previous = np.where(unwanted, LEAST, 1 - self._steps[0][0])
        # As in training: the previous selection given to the head lies within the boxes drawn before this prompt.
        allowed = within_boxes(own[:-1], *previous.shape)
        before = previous if allowed is None else previous * allowed
        signs = (np.array([sign], np.float32) for sign in (effect, side))
        selected = self.segmenter.model.select(self._seen, prompt_maps([own], size, before[None]), *signs)[0]
        self.segmenter.check(selected, previous.shape)
        selected = sigmoid(selected)
        if effect:  # the head sees limited logits, so it returns unchanged pixels only up to rounding
            selected = (np.maximum if effect > 0 else np.minimum)(selected, previous)
        of_photo = np.zeros_like(previous, dtype=bool)
        of_photo[self._box.window] = before[self._box.window] > 0.5
        selected = np.where(within_reach(own, of_photo), selected, previous)
        unwanted = remnants(own, before, of_photo, of_photo & (selected > 0.5))
        if chooses and side > 0 and (part := parts_with(selected > 0.5, own[-1])).any():
            unwanted = part == 0
        return np.where(unwanted, np.minimum(selected, 1 - selected), selected), side


def shipped_weights(model: str, runtime: str | None = None) -> Path:
    """Return the file with the weights that ship for a model: the one for ONNX Runtime if it exists, else for torch.

    Raises
    ------
    PetsegError
        If no weights ship; the message says how to train the model.
    """
    exported = {"decoder": DECODER, "point": CLICK_HEAD}
    files = [SHIPPED / name for name in (exported.get(check_name(model), f"{model}.onnx"), f"{model}.safetensors")]
    wanted = files if runtime is None else files[:1] if runtime == "onnx" else files[1:]
    for path in wanted:
        if path.is_file():
            return path
    kind = f" for the runtime {runtime}" if runtime and any(path.is_file() for path in files) else ""
    raise PetsegError(f"No weights ship for {model}{kind}. Train it with petseg train {model}, then name the study.")


def as_photo(photo: object) -> np.ndarray:
    """Return a photo, from a file or an array, as models take it.

    Returns
    -------
    ndarray
        RGB ``uint8 (H, W, 3)``.

    Raises
    ------
    DataError
        As from `read_photo`; or, saying what `photo` is, if it is neither a file nor an array of this form.
    """
    if isinstance(photo, str | Path):
        return read_photo(Path(photo))
    check_form(photo, "The photo")
    return np.ascontiguousarray(photo)


def check_form(photo: object, what: str) -> None:
    """Raise `DataError`, calling the photo `what`, unless it is a non-empty RGB array ``uint8 (H, W, 3)``."""
    wanted = "give it as RGB uint8 (H, W, 3)"
    if not isinstance(photo, np.ndarray):
        how = ", or as the path of a file"
        if photo is None:
            how += ". OpenCV gives None for a file that it cannot read"
        elif isinstance(photo, Image.Image):
            how = ": np.asarray(image.convert('RGB'))"
        raise DataError(f"{what} is {'None' if photo is None else f'of type {type(photo).__name__}'}; {wanted}{how}.")
    if photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3 and photo.size:
        return
    form = f"{photo.dtype} {photo.shape}"
    if not photo.size:
        form += ", without any pixels"
    elif photo.ndim == 2:
        form += ", grey"
    elif photo.ndim == 3 and photo.shape[2] == 4:
        form += ", with four channels, such as RGBA"
    elif photo.ndim == 3 and photo.shape[0] in (1, 3, 4):
        form += ", with the channels first"
    elif photo.ndim == 4:
        form += ", a batch of several photos"
    raise DataError(f"{what} is {form}; {wanted}.")


def read_photo(path: Path, name: str | None = None) -> np.ndarray:
    """Read a user's own photo, upright.  Its format and size are checked in the header before it is decoded.

    Parameters
    ----------
    path : Path
        The file.
    name : str, optional
        What errors call it; by default the file's name.

    Returns
    -------
    ndarray
        RGB ``uint8 (H, W, 3)``, at most `MAX_PIXELS` pixels.

    Raises
    ------
    DataError
        If the file is missing, damaged, too large, or not of one of the `PHOTO_FORMATS`, whatever its name says.
    """
    path = Path(path)
    try:
        return read_image_file(path, upright_rgb, formats=PHOTO_FORMATS, max_pixels=MAX_PIXELS)
    except ImageFileError as error:
        raise DataError(f"{name or path.name} {_ADVICE[error.fault].format(error.detail)}", error.fault) from error


def scaled(prompt: Prompt, across: float, down: float) -> Prompt:
    """Scale a prompt to a picture `across` times as wide and `down` times as high; pixel centres at whole numbers."""
    return _at(prompt, [((x + 0.5) * across - 0.5, (y + 0.5) * down - 0.5) for x, y in points_of(prompt)])


def moved(prompt: Prompt, box: Letterbox) -> Prompt:
    """Convert a prompt from the photo's pixels to model pixels."""
    return _at(prompt, [box.to_square(x, y) for x, y in points_of(prompt)])


def _at(prompt: Prompt, points: list[tuple[float, float]]) -> Prompt:
    """Return the same prompt at other points."""
    if isinstance(prompt, Click):
        return Click(*points[0], prompt.positive)
    return Scribble(tuple(points), prompt.positive) if isinstance(prompt, Scribble) else Box(*points[0], *points[1])
