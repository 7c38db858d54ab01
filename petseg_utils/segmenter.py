"""Photo in, mask out, at the photo's own size: what the demos and the command line share."""

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
    points_of,
    prompt_maps,
    within_boxes,
    within_reach,
)
from petseg_utils.models.selection import FINE, LARGEST, clicked_side, pet_chance, sigmoid, softmax, unsure_parts
from petseg_utils.study import PetsegError

if TYPE_CHECKING:
    from petseg_utils.training.torch_model import TorchModel

# Of a photo; cameras of "50 megapixels" write up to 51.4 million.  Decoded it takes three bytes each, and its mask and
# cut-out five more.
MAX_PIXELS = 52_000_000
SMOOTH = 1.5  # model pixels
LEAST = np.float32(1 / (1 + np.exp(LARGEST)))  # probability of what is surely not selected
UNDONE = 50  # prompts that can be taken back one by one
RUNTIMES = ("onnx", "torch")
TARGETS = ("pet", "clicked")  # what clicks select, see `OpenPhoto`
# MPO: a JPEG with a second picture, as phones write it.  HEIF: where pillow-heif is installed.
PHOTO_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "HEIF")
_SUCH_FILES = "use a photo as JPEG, PNG, WebP, BMP or TIFF."
_ADVICE = {  # by what is wrong with a photo's file
    "missing": "is missing, or is no file: check its name.",
    "no access": "may not be read: give yourself read access to it.",
    "no image": f"is no picture, or is damaged: {_SUCH_FILES}",
    "other format": f"is a picture of the kind {{}}: {_SUCH_FILES}",
    "no reader": "is {}, or save it as JPEG.",
    "too large": f"has more than {MAX_PIXELS // 1_000_000} megapixels: make it smaller and try again.",
    "too long": "is longer than a million pixels: make it smaller and try again.",
    "no memory": "takes more memory than there is, or is damaged: make it smaller and try again.",
    "levels": "has levels from {}, of which none is known to be white: save it with 8 bits a channel.",
    "damaged": f"is damaged: save it anew, or {_SUCH_FILES}",
}


@dataclass(frozen=True)
class Segmenter:
    """A trained model that takes photos of any size.

    Parameters
    ----------
    model : ExportedModel or TorchModel
        By ONNX Runtime or by torch: squares ``uint8 (N, scale * size, scale * size, 3)`` in, arrays out.
    weights : Path, optional
        The file that it was loaded from.
    """

    model: "ExportedModel | TorchModel"
    weights: Path | None = None

    @classmethod
    def load(cls, model: str = "decoder", weights: Path | None = None, runtime: str | None = None) -> "Segmenter":
        """Load the weights that ship for a model, or your own.

        Parameters
        ----------
        model : str
            Of what ships; see `models.names`.
        weights : Path, optional
            An own file: ``.onnx``, from `training.export`, or a checkpoint, ``.safetensors``.
        runtime : str, optional
            ``"onnx"`` or ``"torch"``.  By default ONNX Runtime wherever there is such a file.

        Raises
        ------
        PetsegError
            If no weights ship for this model, or the file is missing, damaged, or not for this runtime.
        """
        if runtime not in (None, *RUNTIMES):
            raise PetsegError(f"No runtime {runtime!r}; it is one of {', '.join(RUNTIMES)}.")
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
                f"{path.name} needs {error.name}, which is not installed. Install petseg with the extra study: pip "
                "install '.[study]' in a checkout of it."
            ) from error
        return cls(TorchModel.load(path), path)

    @property
    def card(self) -> dict:
        """The checkpoint's card; says what the model was trained on."""
        return self.model.card

    @property
    def takes_prompts(self) -> bool:
        """Whether clicks, scribbles and boxes change its masks."""
        return self.model.takes_prompts

    def predict(self, photo: str | Path | np.ndarray) -> np.ndarray:
        """Segment a photo, without any help.

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
            If the file is no picture that can be read, or a too large one, or if the photo has another form.
        """
        image = as_photo(photo)
        return class_mask(self.probabilities([image])[0], self.letterbox(image))

    def open(self, photo: str | Path | np.ndarray, target: str = "pet") -> "OpenPhoto":
        """Open a photo to click on: encoder and decoder run once, here; a click then costs the head only.

        Parameters
        ----------
        photo : str, Path or ndarray
            As for `predict`, and so are the errors.
        target : str
            ``"pet"``, or ``"clicked"``: whatever the first click is on; see `OpenPhoto`.

        Raises
        ------
        PetsegError
            If `target` is something else.
        """
        image = as_photo(photo)
        return OpenPhoto(self, self.reduced(image), target, image)

    def probabilities(self, images: list[np.ndarray]) -> np.ndarray:
        """Class probabilities of several photos, ``float32 (N, 3, size, size)``, letterboxed.

        Pets of which the model is nowhere sure are background, see `selection.unsure_parts`.
        """
        classes = softmax(self.look(self.squares(images)).logits)
        for chance in classes:
            unsure = unsure_parts(1 - chance[0], self.peak)
            ground = chance[0, unsure]
            chance[1:, unsure] *= ground / (1 - ground)
            chance[0, unsure] = 1 - ground
        return classes

    def look(self, squares: np.ndarray) -> Seen:
        """What the model makes of several photos before any prompt, from their `squares`.

        Raises
        ------
        PetsegError
            If that is no numbers: its weights are damaged.
        """
        seen, size = self.model.look(squares), self.card["image_size"]
        self.check(seen.logits, (len(squares), len(CLASSES), size, size))
        if seen.cells is not None:
            self.check(seen.cells, (*seen.cells.shape[:2], size // FINE, size // FINE))
        return seen

    def check(self, logits: np.ndarray, shape: tuple[int, ...]) -> None:
        """Refuse what a model with damaged weights gives: no mask would be better than a wrong one."""
        if logits.shape != shape or not np.isfinite(logits).all():
            raise PetsegError(
                f"{self.weights.name if self.weights else 'The model'} gives no mask: its weights are damaged."
            )

    def reduced(self, image: np.ndarray) -> "Reduced":
        """A photo ``uint8 (H, W, 3)`` as the model sees it."""
        return Reduced(self.squares([image])[0], *image.shape[:2])

    @property
    def peak(self) -> float:
        """How sure the model must be somewhere in a part of a mask, see `selection.unsure_parts`."""
        return self.card.get("peak", 0.0)

    def squares(self, images: list[np.ndarray]) -> np.ndarray:
        """Letterboxed photos as the model takes them, ``uint8 (N, scale * size, scale * size, 3)``."""
        return np.stack([self.letterbox(image).image(image, self.model.scale) for image in images])

    def letterbox(self, image: np.ndarray) -> Letterbox:
        """How a photo ``uint8 (H, W, 3)`` fits into the model's square."""
        height, width = image.shape[:2]
        return Letterbox(height, width, self.card["image_size"])


def cut_along(image: np.ndarray, chance: np.ndarray, box: Letterbox, *, hard: bool = False) -> np.ndarray:
    """How much of each pixel of a photo belongs to a result, ``uint8 (H, W)`` from 0 to 255.

    Parameters
    ----------
    image : ndarray
        The photo, RGB ``uint8 (H, W, 3)``.
    chance : ndarray
        Probability of each pixel of the square to be selected, ``float (size, size)``.
    box : Letterbox
        Of the photo in the square.
    hard : bool
        Cut where the enlarged square is 1/2, rather than along the photo's own edges (see `models.matting`).
    """
    if hard:
        return np.where(enlarge(chance, box, image.shape[:2]) > 0.5, np.uint8(255), np.uint8(0))
    return soft_alpha(image, smoothed(chance, box))


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
    """The photo's part of a letterboxed map ``float (size, size)``, bilinear, at any size ``(height, width)``."""
    return cv2.resize(smoothed(square, box), (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def smoothed(square: np.ndarray, box: Letterbox) -> np.ndarray:
    """The photo's part of a letterboxed map ``float (size, size)``.

    It is smoothed a little: the decoder predicts its pixels in cells of 4 x 4, whose seams would show as steps.
    """
    return cv2.GaussianBlur(np.ascontiguousarray(square[box.window], dtype=np.float32), (0, 0), SMOOTH)


@dataclass(frozen=True)
class Reduced:
    """What a model sees of a photo, without the photo.

    Parameters
    ----------
    square : ndarray
        RGB ``uint8 (scale * size, scale * size, 3)``, see `Letterbox.image`.
    height, width : int
        Of the photo, in pixels.
    """

    square: np.ndarray
    height: int
    width: int


@dataclass(frozen=True)
class Selection:
    """What somebody selected of a photo: all that its results are made from, beside the photo.

    Parameters
    ----------
    chance : ndarray
        Probability of each pixel of the square to be selected, ``float (size, size)``.
    box : Letterbox
        Of the photo in the square.
    prompts : tuple of Click, Scribble or Box
        In the photo's pixels, in the order in which they were said.
    """

    chance: np.ndarray
    box: Letterbox
    prompts: tuple[Prompt, ...]

    def mask_at(self, height: int, width: int) -> np.ndarray:
        """What is selected at any size, ``bool (height, width)``."""
        selected = enlarge(self.chance, self.box, (height, width)) > 0.5
        allowed = self.allowed(height, width)
        return selected if allowed is None else selected & allowed

    def alpha(self, image: np.ndarray, *, hard: bool = False) -> np.ndarray:
        """How much of each pixel of the photo ``uint8 (H, W, 3)`` is selected; see `OpenPhoto.alpha`."""
        height, width = image.shape[:2]
        alpha = cut_along(image, self.chance, self.box, hard=hard)
        if (allowed := self.allowed(height, width)) is not None:
            alpha *= allowed
        mask, radius = self.mask_at(height, width), round(max(height, width) / (2 * self.box.size))
        for prompt in self.prompts:  # what somebody clicked on is never lost along an edge
            for x, y in [] if isinstance(prompt, Box) else points_of(prompt):
                row, column = min(height - 1, max(0, round(y))), min(width - 1, max(0, round(x)))
                if (alpha[row, column] > 127) != mask[row, column]:
                    cv2.circle(alpha, (column, row), radius, 255 * int(mask[row, column]), cv2.FILLED)
        return alpha

    def allowed(self, height: int, width: int) -> np.ndarray | None:
        """Where the boxes let something be selected, ``bool (height, width)``; None where there is no box."""
        across, down = width / self.box.width, height / self.box.height
        return within_boxes([scaled(prompt, across, down) for prompt in self.prompts], height, width)


@dataclass
class OpenPhoto:
    """A photo that somebody works on: each prompt changes the mask, and can be taken back.

    A positive click or scribble adds to what is selected, a negative one takes away; the farther from the selection's
    edge it falls, the farther it reaches (see `prompts.within_reach`).  A box is a limit, with a margin of 3 % of its
    longer side: clicks outside it select nothing.  So the selection is never turned around.

    Coordinates are the photo's pixels, x to the right and y down, pixel centres at whole numbers.  A model that takes
    no prompts keeps the mask that it proposes.

    Parameters
    ----------
    segmenter : Segmenter
        What makes the masks.
    reduced : Reduced
        The photo as the model sees it, upright.  It is looked at once, and not kept.
    target : str
        ``"pet"``: the proposal is what is selected first, all pets of the photo.  ``"clicked"``: the first positive
        click or scribble says what is wanted: the pet that it is on, where that one does not touch another, or the
        background.
    pixels : ndarray, optional
        The photo itself, RGB ``uint8 (H, W, 3)``: `image`.  Whoever keeps many photos open leaves it on the disk, and
        makes results by `selection`.
    """

    segmenter: Segmenter
    reduced: InitVar[Reduced]
    target: str = "pet"
    pixels: np.ndarray | None = None
    prompts: list[Prompt] = field(default_factory=list)  # in the photo's pixels

    def __post_init__(self, reduced: Reduced) -> None:
        if self.target not in TARGETS:
            raise PetsegError(f"No target {self.target!r}; it is one of {', '.join(TARGETS)}.")
        self._box = Letterbox(reduced.height, reduced.width, self.segmenter.card["image_size"])
        self._seen = self.segmenter.look(reduced.square[None])
        classes = softmax(self._seen.logits)[0]  # (3, size, size)
        if self.segmenter.takes_prompts:
            pet = pet_chance(self._seen.logits)[0]
        else:
            pet = classes[1:].max(0)
            pet = pet / (pet + classes[0])
        pet = np.where(unsure_parts(1 - classes[0], self.segmenter.peak), np.minimum(pet, 1 - pet), pet)
        self._classes = classes.astype(np.float16)  # a page keeps many of these; it names the pet, and no more
        # Before any prompt, and after each of the latest: the probability of each pixel to be selected, float (size,
        # size), and 1, or -1 while the background is wanted.
        self._steps: list[tuple[np.ndarray, float]] = [(pet, 1.0)]

    @property
    def height(self) -> int:
        """Of the photo, in pixels."""
        return self._box.height

    @property
    def width(self) -> int:
        """Of the photo, in pixels."""
        return self._box.width

    @property
    def image(self) -> np.ndarray:
        """The photo, RGB ``uint8 (H, W, 3)``, if it was opened with its `pixels`."""
        assert self.pixels is not None
        return self.pixels

    @property
    def selection(self) -> Selection:
        """What is selected now."""
        return Selection(self._steps[-1][0], self._box, tuple(self.prompts))

    @property
    def mask(self) -> np.ndarray:
        """What is selected now, ``bool (H, W)`` at the photo's own size."""
        return self.mask_at(self.height, self.width)

    def mask_at(self, height: int, width: int) -> np.ndarray:
        """What is selected now at another size, ``bool (height, width)``: for a screen, without the photo's cost."""
        return self.selection.mask_at(height, width)

    def alpha(self, *, hard: bool = False) -> np.ndarray:
        """How much of each of the photo's pixels is selected, ``uint8 (H, W)`` from 0 to 255: for results to keep.

        Along the outline the photo's own edges decide, where `mask` has the model's precision, which is coarser.

        Parameters
        ----------
        hard : bool
            `mask` as it is: 0 and 255.
        """
        return self.selection.alpha(self.image, hard=hard)

    @property
    def label(self) -> str:
        """What is selected: ``cat`` or ``dog``, the likelier one, or ``background`` where that was asked for.

        Where nothing is selected, it is the pet that the photo more likely shows.
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
        """Part of the photo that is selected, 0 to 1; of a large photo measured at 1,024 pixels."""
        height, width = self.height, self.width
        scale = min(1, 1024 / max(height, width))
        return float(self.mask_at(max(1, round(scale * height)), max(1, round(scale * width))).mean())

    @property
    def confidence(self) -> float:
        """Mean probability that a selected pixel is rightly selected, 0.5 to 1; 0 where none is selected."""
        sure = self._inner[self._inner > 0.5]
        return float(sure.mean()) if sure.size else 0.0

    @property
    def summary(self) -> str:
        """What is selected, in a sentence; empty where nothing is."""
        if not (share := self.share):
            return ""
        how = "Selected" if self.prompts else "Proposed"
        return f"{how}: {self.label}, {share:.1%} of the photo, with confidence {self.confidence:.0%}."

    def click(self, x: float, y: float, positive: bool = True) -> np.ndarray:
        """Say that the pixel at ``(x, y)`` belongs to what is wanted, or does not: adds or takes away; returns `mask`.

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
        """Take the last prompt back, if there is one; returns `mask`.

        Raises
        ------
        PetsegError
            If `UNDONE` were taken back and there are more.
        """
        self.take_back()
        return self.mask

    def clear(self) -> np.ndarray:
        """Take all prompts back; returns `mask`, which is what the model proposes by itself."""
        self.take_all_back()
        return self.mask

    def take_back(self) -> None:
        """`undo` without making a mask of the photo's size."""
        if not self.prompts:
            return
        if len(self._steps) <= min(2, len(self.prompts)):
            raise PetsegError(f"Only the last {UNDONE} clicks can be taken back one by one: clear takes back all.")
        self.prompts.pop()
        self._steps.pop()

    def take_all_back(self) -> None:
        """`clear` without making a mask of the photo's size."""
        self.prompts.clear()
        del self._steps[1:]

    def add(self, prompt: Prompt) -> "OpenPhoto":
        """Take a prompt in, without making a mask of the photo's size; returns itself."""
        self.check(prompt)
        self.prompts.append(prompt)
        selected, side = self._next_step()
        # In single precision: rounded, a click that adds could lose a pixel.
        self._steps.append((selected.astype(np.float32), side))
        del self._steps[1 : -UNDONE - 1]
        return self

    def check(self, prompt: Prompt) -> None:
        """Raise `PetsegError` if a prompt cannot be taken, as `click` says."""
        if not self.segmenter.takes_prompts:
            raise PetsegError(f"The model {self.segmenter.card['model']} takes no clicks; the model point does.")
        height, width = self.height, self.width
        for x, y in points_of(prompt):
            if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
                raise PetsegError(f"The point ({x:g}, {y:g}) lies outside the photo of {width} x {height} pixels.")

    @property
    def _inner(self) -> np.ndarray:
        """Probability of each of the photo's pixels to be selected, at the model's size; 0 outside the boxes."""
        inner = smoothed(self._steps[-1][0], self._box)
        allowed = self.selection.allowed(*inner.shape)
        # Boxes that are smaller than one of these pixels limit nothing here.
        return inner if allowed is None or not allowed.any() else inner * allowed

    def _next_step(self) -> tuple[np.ndarray, float]:
        """What the latest prompt makes of the last step; see `_steps`."""
        own, size = [moved(prompt, self._box) for prompt in self.prompts], self._box.size
        (last, side), effect = self._steps[-1], latest_effect(own)
        previous = last.astype(np.float32)
        if not effect and any(latest_effect([before]) for before in own[:-1]):
            return previous, side  # a box after clicks is a limit and no more
        chooses = self.target == "clicked" and effect > 0 and all(latest_effect([before]) <= 0 for before in own[:-1])
        if chooses:
            assert self._seen.cells is not None
            maps = prompt_maps([own], size)
            side = float(clicked_side(self._seen.cells, pet_chance(self._seen.logits), maps)[0])
            if side < 0:
                unwanted = maps[0, 1] > HELD  # said before
                previous = np.where(unwanted, LEAST, 1 - self._steps[0][0])
        # As in training: what the head is told was selected lies within the boxes that had been drawn by then.
        allowed = within_boxes(own[:-1], *previous.shape)
        before = previous if allowed is None else previous * allowed
        signs = (np.array([sign], np.float32) for sign in (effect, side))
        selected = self.segmenter.model.select(self._seen, prompt_maps([own], size, before[None]), *signs)[0]
        self.segmenter.check(selected, previous.shape)
        selected = sigmoid(selected)
        if effect:  # the head sees limited logits, so it gives the rest back as before up to rounding only
            selected = (np.maximum if effect > 0 else np.minimum)(selected, previous)
        of_photo = np.zeros_like(previous, dtype=bool)
        of_photo[self._box.window] = before[self._box.window] > 0.5
        selected = np.where(within_reach(own, of_photo), selected, previous)
        if chooses and side > 0:
            selected = np.where(parts_with(selected > 0.5, own[-1]), selected, np.minimum(selected, 1 - selected))
        return selected, side


def parts_with(selected: np.ndarray, prompt: Prompt) -> np.ndarray:
    """The connected parts of a selection ``bool (size, size)`` that a prompt touches; all of it if it touches none."""
    _, numbers = cv2.connectedComponents(selected.astype(np.uint8))
    last = len(numbers) - 1
    points = [(min(last, max(0, round(y))), min(last, max(0, round(x)))) for x, y in points_of(prompt)]
    hit = {int(numbers[point]) for point in points} - {0}
    return np.isin(numbers, list(hit)) if hit else np.ones_like(selected)


def shipped_weights(model: str, runtime: str | None = None) -> Path:
    """The file of the weights that ship for a model: for ONNX Runtime, if there is one, or for torch.

    Raises
    ------
    PetsegError
        If there are none; the message says how to train them.
    """
    exported = {"decoder": DECODER, "point": CLICK_HEAD}
    files = [SHIPPED / name for name in (exported.get(check_name(model), f"{model}.onnx"), f"{model}.safetensors")]
    wanted = files if runtime is None else files[:1] if runtime == "onnx" else files[1:]
    for path in wanted:
        if path.is_file():
            return path
    kind = f" for the runtime {runtime}" if runtime and any(path.is_file() for path in files) else ""
    raise PetsegError(f"No weights ship for {model}{kind}. Train it: petseg train {model}, and name the study.")


def as_photo(photo: object) -> np.ndarray:
    """A photo as models take it, from a file or an array; says what it is if it is neither.

    Returns
    -------
    ndarray
        RGB ``uint8 (H, W, 3)``.

    Raises
    ------
    DataError
        As `read_photo` does, or if it is something else, or an array of another form.
    """
    if isinstance(photo, str | Path):
        return read_photo(Path(photo))
    check_form(photo, "The photo")
    return np.ascontiguousarray(photo)


def check_form(photo: object, what: str) -> None:
    """Raise `DataError` if `photo`, called `what`, is not an array RGB ``uint8 (H, W, 3)`` with pixels in it."""
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
        form += ", without a pixel"
    elif photo.ndim == 2:
        form += ", grey"
    elif photo.ndim == 3 and photo.shape[2] == 4:
        form += ", RGBA or the like"
    elif photo.ndim == 3 and photo.shape[0] in (1, 3, 4):
        form += ", with its channels first"
    elif photo.ndim == 4:
        form += ", several at once"
    raise DataError(f"{what} is {form}; {wanted}.")


def read_photo(path: Path, name: str | None = None) -> np.ndarray:
    """Read somebody's own photo, upright; what it is and its size are looked up in its header before it is decoded.

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
        If the file is missing, damaged, larger, or in another format than `PHOTO_FORMATS`, whatever its name says.
    """
    path = Path(path)
    try:
        return read_image_file(path, upright_rgb, formats=PHOTO_FORMATS, max_pixels=MAX_PIXELS)
    except ImageFileError as error:
        raise DataError(f"{name or path.name} {_ADVICE[error.fault].format(error.detail)}", error.fault) from error


def scaled(prompt: Prompt, across: float, down: float) -> Prompt:
    """A prompt in the pixels of a picture that is so many times as wide and high; pixel centres at whole numbers."""
    return _at(prompt, [((x + 0.5) * across - 0.5, (y + 0.5) * down - 0.5) for x, y in points_of(prompt)])


def moved(prompt: Prompt, box: Letterbox) -> Prompt:
    """A prompt in the photo's pixels as one in model pixels."""
    return _at(prompt, [box.to_square(x, y) for x, y in points_of(prompt)])


def _at(prompt: Prompt, points: list[tuple[float, float]]) -> Prompt:
    """The same prompt at other places."""
    if isinstance(prompt, Click):
        return Click(*points[0], prompt.positive)
    return Scribble(tuple(points), prompt.positive) if isinstance(prompt, Scribble) else Box(*points[0], *points[1])
