"""The click demo for notebooks, and a still picture of it for pages without live widgets.

The canvas (`widget.js`, by anywidget) draws, and reports what was pointed at; the controls are ipywidgets'; the model
stays in Python.  After each prompt only the mask is sent, one bit per pixel on the screen.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anywidget
import ipywidgets as widgets
import numpy as np
import traitlets
from PIL import Image

from petseg_utils.apps.cutouts import cut_out, encoded, example_photo, result_file
from petseg_utils.apps.page_state import GREEN, RED, SWITCH, after_switch, heard_prompt, sentence, told_prompt
from petseg_utils.data.labels import CLASS_COLOURS
from petseg_utils.models.prompts import Box, Click, Prompt, points_of
from petseg_utils.segmenter import OpenPhoto, Segmenter, check_form, read_photo
from petseg_utils.study import PetsegError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOOLS = ("click", "scribble", "box")  # in the order of widget.js
LONGEST = 800  # pixels of the canvas's longer side; the browser scales it to the page
NARROW = {"style": {"description_width": "initial"}}


def click_demo(
    photos: dict[str, np.ndarray] | None = None, models: tuple[str, ...] = ("point", "decoder")
) -> "ClickDemo":
    """Show a photo to click on, in a notebook: each click, stroke or box changes the mask at once.

    All pets of the photo are proposed.  Prompts add to them, take away, or, as a box, limit them.  With the switch
    "Select what I click on", the first click chooses what is selected; see `OpenPhoto`.

    The notebook's file contains the photo on display wherever Jupyter saves widgets; a picture by `show_demo` contains
    it, too.  So give it photos that may be published: no picture of the Oxford-IIIT Pet data goes into a notebook.
    Chelsea is always there, a photo that Stéfan van der Walt has put into the public domain (CC0).

    Parameters
    ----------
    photos : dict of str to ndarray, optional
        Further photos by name, RGB ``uint8 (H, W, 3)``, upright.
    models : tuple of str
        Models to switch between, starting with the first; each is loaded when chosen, from the weights that ship.

    Returns
    -------
    ClickDemo
        Make it the last line of a cell.

    Raises
    ------
    PetsegError
        If a photo does not have that form, or the first model has no weights.
    """
    photos = {"Chelsea": example_photo()} | (photos or {})
    for name, image in photos.items():
        check_form(image, f"The photo {name!r}")
    return ClickDemo(photos, models)


class Canvas(anywidget.AnyWidget):
    """What the browser draws; see `widget.js`.  Everything that it knows comes through these traits."""

    _esm = Path(__file__).with_name("widget.js")
    _css = Path(__file__).with_name("widget.css")
    picture = traitlets.Bytes().tag(sync=True)  # JPEG, sent once per photo
    size = traitlets.List(traitlets.Int()).tag(sync=True)  # width and height of the photo itself
    shown = traitlets.List(traitlets.Int()).tag(sync=True)  # width and height of the canvas and the mask
    mask = traitlets.Bytes().tag(sync=True)  # packed bits, row by row
    colour = traitlets.Unicode().tag(sync=True)
    prompts: traitlets.List = traitlets.List().tag(sync=True)
    said = traitlets.Unicode().tag(sync=True)
    answered = traitlets.Int().tag(sync=True)  # number of the last prompt that was accepted or refused
    tool = traitlets.Int(0).tag(sync=True)  # index in TOOLS
    removes = traitlets.Int(0).tag(sync=True)  # 1 if a prompt takes away
    opacity = traitlets.Float(0.5).tag(sync=True)
    uploads = traitlets.Bool(True).tag(sync=True)  # whether there is a button to upload a photo


class ClickDemo(widgets.VBox):
    """The canvas with its controls; made by `click_demo`, whose parameters it takes."""

    def __init__(self, photos: dict[str, np.ndarray], models: tuple[str, ...]):
        self.canvas = canvas = Canvas()
        self._photos = photos
        self._segmenters: dict[str, Segmenter] = {}
        self._opened: dict[str, OpenPhoto] = {}
        self._parts: list[bytes] = []  # of a file that is being uploaded
        self.photo_names = widgets.Dropdown(options=list(photos), description="Photo", **NARROW)
        self.models = widgets.Dropdown(options=models, description="Model", **NARROW)
        self.tool, self.effect = (
            widgets.ToggleButtons(options=options, style={"button_width": "auto"}, layout={"width": "auto"})
            for options in (TOOLS, ("add", "remove"))
        )
        self.switch = widgets.Checkbox(description=SWITCH, indent=False, layout={"width": "auto", "margin": "2px 16px"})
        self.opacity = widgets.FloatSlider(canvas.opacity, max=1, readout=False, description="Opacity", **NARROW)
        self.undo, self.clear, self.save_mask, self.save_cutout, self.save_coco = buttons = [
            widgets.Button(description=text, layout={"width": "auto"})
            for text in ("Undo", "Clear", "Save mask", "Save cut-out", "Save COCO")
        ]
        # These stay within the browser: no round trip to Python.
        widgets.jslink((self.tool, "index"), (canvas, "tool"))
        widgets.jslink((self.effect, "index"), (canvas, "removes"))
        widgets.jslink((self.opacity, "value"), (canvas, "opacity"))
        canvas.on_msg(self._hear)
        self.photo_names.observe(lambda _: self._choose(), "value")
        self.models.observe(self._change_model, "value")
        self.switch.observe(lambda _: self._turn_switch(), "value")
        self.undo.on_click(lambda _: self._do(lambda: self.photo.undo()))
        self.clear.on_click(lambda _: self._do(lambda: self.photo.clear()))
        self.save_mask.on_click(lambda _: self._save("mask"))
        self.save_cutout.on_click(lambda _: self._save("cut-out"))
        self.save_coco.on_click(lambda _: self._save("COCO"))
        self._choose()
        rows = [self.photo_names, self.models], [self.tool, self.effect, self.switch, self.opacity], buttons
        above, between, below = (widgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows)
        super().__init__([above, between, canvas, below])

    @property
    def target(self) -> str:
        """What a click selects, see `OpenPhoto`."""
        return "clicked" if self.switch.value else "pet"

    @property
    def photo(self) -> OpenPhoto:
        """The chosen photo, open in the chosen model.

        Each model keeps its prompts until the next photo, or until the switch is turned.
        """
        model = self.models.value
        if model not in self._segmenters:
            self.canvas.said = f"Loading the model {model} …"
            self._segmenters[model] = Segmenter.load(model)
        if model not in self._opened:
            self._opened[model] = self._segmenters[model].open(self._image, self.target)
        return self._opened[model]

    @property
    def _image(self) -> np.ndarray:
        """The chosen photo, RGB ``uint8 (H, W, 3)``."""
        return self._photos[self.photo_names.value]

    def __repr__(self) -> str:
        return "The click demo. It needs a running notebook, so a page that is only read shows this sentence instead."

    def _hear(self, _: Canvas, said: dict, buffers: list) -> None:
        """Handle a message from the canvas: a prompt in the photo's pixels, or the next part of an uploaded file."""
        with self.canvas.hold_sync():  # one message back
            if said["kind"] != "file":
                self._do(lambda: self.photo.add(heard_prompt(said)))
                self.canvas.answered = said["number"]
                return
            self._parts = [*([] if said["first"] else self._parts), bytes(buffers[0])]
            if said["last"]:
                self._do(lambda: self._take_in(said["name"], b"".join(self._parts)))

    def _do(self, action: Callable[[], object]) -> None:
        """Do something and show the result; if it cannot be done, say why and go on."""
        trouble = ""
        try:
            action()
        except PetsegError as error:
            trouble = str(error)
        self._show(trouble)

    def _take_in(self, name: str, content: bytes) -> None:
        """Read an uploaded file and choose it."""
        image = read_upload(name, content)
        while name in self._photos:
            name += " (again)"
        self._photos = {name: image} | self._photos
        self.photo_names.options = list(self._photos)  # also chooses the first

    def _choose(self) -> None:
        """Show the chosen photo."""
        image = self._image
        height, width = image.shape[:2]
        self._opened.clear()
        with self.canvas.hold_sync():  # the photo is sent together with its first mask
            self.canvas.picture = small_jpeg(image)
            self.canvas.size = [width, height]
            self.canvas.shown = [max(1, round(side * LONGEST / max(height, width))) for side in (width, height)]
            self._show()

    def _turn_switch(self) -> None:
        """Open the photo again, to select whatever is clicked, or pets."""
        cleared = any(photo.prompts for photo in self._opened.values())
        self._opened.clear()
        self._show(after_switch(self.photo, cleared))

    def _change_model(self, change: dict) -> None:
        """Show the chosen model's result; if it cannot be loaded, stay with the previous one."""
        try:
            self._show()
        except PetsegError as error:
            self.models.value = change["old"]
            self.canvas.said = str(error)

    def _show(self, instead: str = "") -> None:
        """Send the mask and the prompts, and say what is selected, or something else."""
        photo, canvas = self.photo, self.canvas
        width, height = canvas.shown
        with canvas.hold_sync():
            canvas.mask = np.packbits(photo.mask_at(height, width)).tobytes()
            canvas.colour = CLASS_COLOURS[photo.label]
            canvas.prompts = [told_prompt(prompt) for prompt in photo.prompts]
            canvas.said = instead or sentence(photo)

    def _save(self, what: str) -> None:
        """Make the browser save the mask, the cut-out, or COCO's JSON, at the photo's own size."""
        photo = self.photo
        name, content = result_file(photo.image, photo.selection, photo.label, self.photo_names.value, what)
        self.canvas.send({"name": name}, [content])


def read_upload(name: str, content: bytes) -> np.ndarray:
    """Read an uploaded file as a photo, RGB ``uint8 (H, W, 3)``, by the same rules as a file on disk.

    Raises
    ------
    DataError
        If it is not a picture, or one that cannot be used.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo"  # its own name may be too long here, or have a special meaning
        path.write_bytes(content)
        return read_photo(path, name)


def small_jpeg(image: np.ndarray) -> bytes:
    """Return a photo ``uint8 (H, W, 3)`` as a JPEG that is no larger than the canvas."""
    picture = Image.fromarray(image)
    picture.thumbnail((LONGEST, LONGEST))
    return encoded(picture, "JPEG", quality=90)


def show_demo(segmenter: Segmenter, image: np.ndarray, prompts: list[Prompt]) -> "Figure":
    """Show the demo as a still picture: a photo, the photo with prompts and what they select, and the cut-out.

    It appears beside the demo for pages without live widgets.  On which photos may be used, see `click_demo`.

    Parameters
    ----------
    segmenter : Segmenter
        A model that takes prompts.
    image : ndarray
        RGB ``uint8 (H, W, 3)``, upright.
    prompts : list of Click, Scribble or Box
        In the photo's pixels, in the order in which they are given.

    Raises
    ------
    PetsegError
        If a prompt lies outside the photo, or the model takes no prompts.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.patheffects import withStroke

    from petseg_utils.experiments.plotting import new_figure

    photo = segmenter.open(image)
    for prompt in prompts:
        photo.add(prompt)
    height, width = image.shape[:2]
    figure, axes = new_figure(1, 3, 9, 3 * height / width + 0.4)
    squares = (np.indices((height, width)) // max(1, max(height, width) // 40)).sum(0) % 2  # a board, 40 squares long
    pixels = cut_out(image, photo.alpha(), segmenter.card["image_size"])
    alpha = pixels[..., 3:] / 255
    cutout = np.rint(alpha * pixels[..., :3] + (1 - alpha) * (200 + 55 * squares[..., None])).astype(np.uint8)
    selected = f"{photo.label}, {photo.share:.1%}, confidence {photo.confidence:.0%}"
    for axis, title, picture in zip(axes, ("photo", selected, "cut-out"), (image, image, cutout), strict=True):
        axis.imshow(picture)
        axis.set_title(title, loc="left")
        axis.set_axis_off()
    tint = np.broadcast_to(to_rgb(CLASS_COLOURS[photo.label]), image.shape)
    axes[1].imshow(np.dstack([tint, 0.5 * photo.mask]))
    rim = [withStroke(linewidth=5, foreground="white")]
    for prompt in prompts:
        (xs, ys), colour = zip(*points_of(prompt), strict=True), GREEN if getattr(prompt, "positive", True) else RED
        if isinstance(prompt, Box):
            (left, right), (top, bottom) = xs, ys
            xs, ys = (left, right, right, left, left), (top, top, bottom, bottom, top)
        marker = {"marker": "o", "markersize": 8, "markeredgecolor": "white"} if isinstance(prompt, Click) else {}
        axes[1].plot(xs, ys, color=colour, linewidth=2.5, path_effects=None if marker else rim, **marker)
    return figure
