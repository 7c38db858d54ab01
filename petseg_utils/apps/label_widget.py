"""Labelling photos in a notebook: like the page of `petseg demo --label`, on the canvas of the click demo."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets
import numpy as np

from petseg_utils.apps.labelling import Walk, labelling
from petseg_utils.apps.widget import NARROW, ClickDemo
from petseg_utils.data.labels import SPECIES
from petseg_utils.segmenter import OpenPhoto, Segmenter
from petseg_utils.study import PetsegError

_SHOWN: dict[Path, "LabelDemo"] = {}  # by the folder of the data set


def label_photos(folder: Path | str, out: Path | str) -> "LabelDemo":
    """Label the photos of a folder in a notebook: they become a data set in the official layout, in `out`.

    Labelling continues where it stopped earlier, be it in a notebook or on the page of ``petseg demo --label``.  The
    notebook's file contains the photo on display, wherever Jupyter saves widgets: see `widget.click_demo`.

    Parameters
    ----------
    folder : Path or str
        Photos, also in sub-folders.
    out : Path or str
        Folder of the data set; created if needed.  It is locked until the widget is closed or the kernel ends.

    Returns
    -------
    LabelDemo
        Make it the last line of a cell.

    Raises
    ------
    PetsegError
        As `labelling.labelling`, and if no click model ships.
    """
    out = Path(out)
    segmenter = Segmenter.load("point")
    if earlier := _SHOWN.pop(out.resolve(), None):
        earlier.close()  # the cell was run again
    with contextlib.ExitStack() as held:
        walk = Walk(held.enter_context(labelling(Path(folder), out)), segmenter)
        walk.forward()
        _SHOWN[out.resolve()] = demo = LabelDemo(walk, held.pop_all())
    return demo


class LabelDemo(ClickDemo):
    """The canvas with the controls for labelling; made by `label_photos`."""

    def __init__(self, walk: Walk, held: contextlib.ExitStack):
        self.walk, self._held = walk, held
        self.progress = widgets.Label()
        self.species = widgets.ToggleButtons(options=list(SPECIES.values()), style={"button_width": "auto"})
        self.breed = widgets.Text(description="Breed, if you know it", **NARROW)
        self.save, self.back, self.skip, self.no_pet = buttons = [
            widgets.Button(description=text, layout={"width": "auto"})
            for text in ("Save and next", "Back", "Skip", "No pet here")
        ]
        super().__init__({}, ("point",))
        self.canvas.uploads = False
        self.save.on_click(lambda _: self._go(lambda: self.walk.save(self.species.value, self.breed.value)))
        self.back.on_click(lambda _: self._go(self.walk.back))
        self.skip.on_click(lambda _: self._go(self.walk.forward))
        self.no_pet.on_click(lambda _: self._go(self.walk.no_pet))
        rows = [self.tool, self.effect, self.opacity, self.undo, self.clear], [self.species, self.breed, *buttons]
        above, below = (widgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows)
        self.children = [self.progress, above, self.canvas, below]

    @property
    def photo(self) -> OpenPhoto:
        """The photo to be labelled.

        Raises
        ------
        PetsegError
            If none is left.
        """
        if self.walk.photo is None:
            raise PetsegError(self.walk.end)
        return self.walk.photo

    @property
    def _image(self) -> np.ndarray:
        return self.walk.photo.image if self.walk.photo else np.full((300, 400, 3), 200, np.uint8)

    def close(self) -> None:
        """Remove the widget from the page, and unlock the data set."""
        super().close()
        self._held.close()

    def _go(self, action: Callable[[], None]) -> None:
        """Do what a button says, and show the photo that is open afterwards; if it cannot be done, say why."""
        try:
            action()
        except PetsegError as error:
            self._show(str(error))
        else:
            self._choose()

    def _choose(self) -> None:
        """Show the photo that was just opened, with its species and breed."""
        super()._choose()
        self.progress.value = self.walk.progress
        if self.walk.photo:
            before = self.species.value
            self.species.value, known = self.walk.suggested()
            if known or self.species.value != before:  # the breed is kept as long as the species is the same
                self.breed.value = known
            self.canvas.said = self.walk.before + self.canvas.said

    def _show(self, instead: str = "") -> None:
        if self.walk.photo:
            super()._show(instead)
            return
        width, height = self.canvas.shown
        with self.canvas.hold_sync():
            self.canvas.mask, self.canvas.prompts = bytes((width * height + 7) // 8), []
            self.canvas.said = instead or self.walk.end
