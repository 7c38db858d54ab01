"""One visitor's work on the demo page: an open photo, the clicks on it, and the picture that shows both."""

import threading
import weakref
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageColor

from petseg_utils.apps.cutouts import encoded
from petseg_utils.apps.page_folder import drop
from petseg_utils.data.labels import CLASS_COLOURS
from petseg_utils.models.prompts import Box, Click, Prompt, Scribble, latest_effect, points_of, within_boxes
from petseg_utils.segmenter import OpenPhoto

TOOLS = {"yes": "This is the pet", "no": "This is not", "box": "Box around it"}
SWITCH = "Select what I click on"  # off: the pets of the photo are meant
SWITCH_HELP = (
    "All pets of the photo are proposed. With this, a click on one of several pets selects that one, where it does not "
    "touch another (connected parts); a click on the background selects that."
)
COLOURS = {"by class": None, "pink": "#CC79A7", "green": "#009E73", "yellow": "#F0E442", "black": "#000000"}
GREEN, RED = "#009E73", "#D55E00"  # of clicks; Okabe and Ito's, as in widget.js
# Only one visitor's photo or click at a time goes through a model, which uses all cores for it: two at once would be no
# faster, and ONNX Runtime keeps forever the most memory that was ever in use at once.
MODEL_TURN = threading.Lock()
SHOWN = (800, 1024)  # the picture on the page: smallest and largest length of its longer side in pixels


@dataclass(eq=False)
class Work:
    """A photo on which a user works by clicks on a smaller (or, for a tiny photo, larger) picture of it.

    The photo itself is not kept in memory, as a page has many visitors.

    Parameters
    ----------
    picture : bytes
        What is shown of the photo, a JPEG file; see `small_picture`.
    kept : Path, optional
        Path of a copy of the file, which is deleted with the work.
    corner : tuple of float, optional
        First corner of a box whose second corner is still to come, in the photo's pixels.
    """

    photo: OpenPhoto
    file: str
    picture: bytes
    kept: Path | None = None
    corner: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        self.lock = threading.RLock()  # a visitor's clicks are answered one after the other
        self.shown: list[Path] = []  # the latest pictures sent to the browser
        self._finalizers: list[weakref.finalize] = []
        self.take(self.photo, self.file, self.picture, self.kept)

    def take(self, photo: OpenPhoto, file: str, picture: bytes, kept: Path | None) -> None:
        """Continue with another photo, or with the same one in another model."""
        if kept != self.kept:
            for finalizer in self._finalizers:
                finalizer()
            self._finalizers.clear()
        if kept and not self._finalizers:
            self._finalizers.append(weakref.finalize(self, drop, kept))
        self.photo, self.file, self.picture, self.kept, self.corner = photo, file, picture, kept, None

    @property
    def small(self) -> np.ndarray:
        """What is shown of the photo, RGB ``uint8 (h, w, 3)``."""
        return np.asarray(cv2.imdecode(np.frombuffer(self.picture, np.uint8), cv2.IMREAD_COLOR_RGB))

    @property
    def scale(self) -> np.ndarray:
        """Photo pixels per pixel of the picture, across and down."""
        photo = self.photo
        return np.divide((photo.width, photo.height), size_to_show(photo.height, photo.width))

    def show(self, path: str) -> str:
        """Remember a picture sent to the browser, and delete all but the last few."""
        self.shown.append(Path(path))
        while len(self.shown) > 4:
            drop(self.shown.pop(0))
        return path

    def to_photo(self, x: float, y: float) -> tuple[float, float]:
        """Convert gradio's position of a click to the photo's pixels, whose centres are at whole numbers.

        Gradio measures from the picture's edge and rounds to whole numbers: 1 is the first pixel's far edge, not the
        second's centre.  So nothing is shifted, and rounding costs half a pixel of the picture at most.
        """
        across, down = np.array((x, y)) * self.scale - 0.5
        return float(across), float(down)

    def click(self, tool: str, x: float, y: float) -> None:
        """Handle a click on the picture; remember the first one of a box.

        Raises
        ------
        PetsegError
            If the model takes no clicks, or the click lies outside the photo.
        """
        spot, corner, self.corner = self.to_photo(x, y), self.corner, None
        if tool == "box" and corner is None and self.photo.segmenter.takes_prompts:
            self.photo.check(Click(*spot))
            self.corner = spot
        else:
            with MODEL_TURN:
                self.photo.add(Box(*corner, *spot) if tool == "box" and corner else Click(*spot, tool == "yes"))

    def drop_corner(self) -> None:
        """Forget a box that was begun."""
        self.corner = None

    def undo(self) -> None:
        """Take back the last click or box, or the corner of a box that was begun."""
        if self.corner is None:
            self.photo.take_back()
        self.corner = None

    def clear(self) -> None:
        """Take back all clicks and boxes."""
        self.corner = None
        self.photo.take_all_back()

    def draw(self, colour: str, opacity: float) -> np.ndarray:
        """Draw mask, clicks and boxes over the picture, ``uint8 (h, w, 3)``, in one of `COLOURS`; opacity 0 to 1."""
        out = self.small
        mask = self.photo.mask_at(*out.shape[:2])
        tint = ImageColor.getrgb(COLOURS[colour] or CLASS_COLOURS[self.photo.label])
        levels = np.rint((1 - opacity) * np.arange(256)[:, None] + opacity * np.array(tint)).astype(np.uint8)
        cv2.copyTo(cv2.LUT(out, levels[None]), mask.astype(np.uint8), out)
        outlines = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0]
        cv2.drawContours(out, outlines, -1, tint, 2, cv2.LINE_AA)
        pen = max(out.shape) // 200
        for prompt in [*self.photo.prompts, *([Click(*self.corner)] if self.corner else [])]:
            spots = ((np.array(points_of(prompt)) + 0.5) / self.scale - 0.5) * 16  # in OpenCV's sixteenths of a pixel
            spots = [tuple(spot) for spot in spots.round().astype(int).tolist()]
            fill = ImageColor.getrgb(GREEN if getattr(prompt, "positive", True) else RED)
            for paint, rim in (((255, 255, 255), pen), (fill, 0)):
                if isinstance(prompt, Box):
                    cv2.rectangle(out, spots[0], spots[1], paint, pen + rim, cv2.LINE_AA, 4)
                else:
                    cv2.circle(out, spots[0], 16 * (2 * pen + rim), paint, cv2.FILLED, cv2.LINE_AA, 4)
        return out

    @property
    def status(self) -> str:
        """What is selected, or what comes next, in a sentence."""
        photo = self.photo
        if self.corner:
            return "Now click on the opposite corner of the box."
        return sentence(photo)

    @property
    def model_description(self) -> str:
        """Which model makes the mask, and what it learned from."""
        card, prompts = self.photo.segmenter.card, self.photo.segmenter.takes_prompts
        what = "proposes a mask by itself, and " + ("clicks correct it" if prompts else "takes no clicks")
        on = "without an encoder, from scratch"
        if card["encoder"]:
            lite = ", which is not CLIP" if card["encoder"].startswith("lite:") else ""
            on = f"as a decoder on the frozen encoder {card['encoder']}{lite}"
        extra, proposed = ((card.get(key) or {}).get("n_images", 0) for key in ("extra", "more"))
        photos = f"{card['n_images'] + extra:,} photos with masks" + (
            f" and {proposed:,} with proposed ones" if proposed else ""
        )
        return f"{card['model']} {what}. Its weights ship with petseg. They were trained on {photos}, {on}."


def sentence(photo: OpenPhoto) -> str:
    """Say what is selected or, if nothing is, what comes next, and whether the latest click had no effect."""
    wanted = "what you want" if photo.target == "clicked" else "the pet"
    nothing = f"Nothing is selected. Click on {wanted}." if photo.segmenter.takes_prompts else "No pet was found."
    said = photo.summary or nothing
    return f"{said} The last click lies outside the box." if lies_outside(photo) else said


def size_to_show(height: int, width: int) -> tuple[int, int]:
    """Return width and height of what is shown of a photo."""
    longest = max(height, width)
    across, down = (max(1, round(side * min(max(longest, SHOWN[0]), SHOWN[1]) / longest)) for side in (width, height))
    return across, down


def small_picture(image: np.ndarray) -> bytes:
    """Return what is shown of a photo ``uint8 (H, W, 3)`` as a JPEG file."""
    small = Image.fromarray(image).resize(size_to_show(*image.shape[:2]), reducing_gap=2)
    return encoded(small, "JPEG", quality=95, subsampling=0)


def lies_outside(photo: OpenPhoto) -> bool:
    """Return whether the latest prompt would add something, but lies outside the boxes."""
    if not photo.prompts or latest_effect(photo.prompts) <= 0:
        return False
    height, width = photo.height, photo.width
    allowed = within_boxes(photo.prompts, height, width)
    places = np.round(points_of(photo.prompts[-1])).astype(int).clip(0, (width - 1, height - 1))
    return allowed is not None and not allowed[places[:, 1], places[:, 0]].any()


def after_switch(photo: OpenPhoto, cleared: bool) -> str:
    """Say what happened when the switch was turned and the photo opened again; `cleared`: there were clicks before."""
    before = "Your clicks were cleared, because a click means something else now. " if cleared else ""
    if photo.target == "clicked" and photo.segmenter.takes_prompts:
        return f"{before}Click on what you want: one of the pets, or the background."
    return before + sentence(photo)


def heard_prompt(said: dict) -> Prompt:
    """Convert a prompt from the notebooks' canvas, ``{"kind", "points", "positive"}`` in the photo's pixels."""
    points = [(float(x), float(y)) for x, y in said["points"]]
    if said["kind"] == "box":
        return Box(*points[0], *points[-1])
    if said["kind"] == "scribble":
        return Scribble(tuple(points), said["positive"])
    return Click(*points[0], said["positive"])


def told_prompt(prompt: Prompt) -> dict:
    """Convert a prompt back to the form of the canvas, which is also that of JSON."""
    kind, positive = type(prompt).__name__.lower(), getattr(prompt, "positive", True)
    return {"kind": kind, "points": points_of(prompt), "positive": positive}
