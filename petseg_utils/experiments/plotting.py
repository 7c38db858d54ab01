"""The look of all figures, and the figures that show pictures.

The colours are those of Okabe and Ito, which colour-blind people can tell apart (https://jfly.uni-koeln.de/color/),
darkened to a contrast of at least 4.5 on white.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from petseg_utils.data.labels import CLASS_COLOURS, PADDING
from petseg_utils.data.overlays import overlay
from petseg_utils.data.pictures import PictureSet
from petseg_utils.study import Study

MODEL_COLOURS = defaultdict(
    lambda: "#555555",  # dark grey: a model that has no colour of its own
    {
        "unet": "#007A5A",
        "autoencoder_unet": "#A8487F",
        "decoder": "#B85000",
        "decoder_selftrained": "#6B1A00",
        "point": "#0072B2",
    },
)
GREY = "#6B6B6B"
GRID = "#E3E3E3"
STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "legend.frameon": False,
    "image.interpolation": "nearest",
}


def new_figure(
    rows: int = 1, columns: int = 1, width: float = 9.0, height: float = 3.2, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure and its axes in the project's style; sizes in inches, `options` go to ``plt.subplots``.

    Titles, legends and pictures added later take the caller's style: a notebook's first cell sets it for all.
    """
    with plt.rc_context(STYLE):
        return plt.subplots(rows, columns, figsize=(width, height), **options)


def save_figure(figure: Figure, name: str, study: Study, caption: str, *, photos: bool = False) -> None:
    """Save a figure as PNG, show it with its caption, and close it.

    Parameters
    ----------
    study : Study
        The figure goes into its ``figures_dir``, or into the folder of its runs if it must not be made public.
    caption : str
        What can be seen; also the figure's alternative text.
    photos : bool
        Whether the figure shows pictures of the data set.  Only the embedded, drawn ones may be made public.
    """
    from IPython.display import Image, Markdown, display

    folder = study.figures_dir if study.draws_its_data or not photos else study.runs_dir / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
    display(Image(path.read_bytes(), alt=caption), Markdown(f"*{caption}*"))


def write_in_cells(axis: Axes, values: np.ndarray, spec: str) -> None:
    """Write each value into its cell of a picture drawn by ``imshow``, in black or white, whichever is legible."""
    (picture,) = axis.images
    for (row, column), value in np.ndenumerate(values):
        light = np.array(picture.to_rgba(value)[:3]) ** 2.2 @ (0.2126, 0.7152, 0.0722)  # relative luminance, 0..1
        colour = "black" if light > 0.18 else "white"
        axis.text(column, row, format(value, spec), ha="center", va="center", color=colour)


def picture_grid(rows: list[list[np.ndarray]], titles: list[str], row_names: list[str], size: float = 1.55) -> Figure:
    """Show pictures in rows and columns, with `titles` over the columns and `row_names` beside the rows."""
    figure, axes = new_figure(len(rows), len(rows[0]), size * len(rows[0]) + 0.5, size * len(rows) + 0.5, squeeze=False)
    for line, (pictures, row_name) in enumerate(zip(rows, row_names, strict=True)):
        for column, picture in enumerate(pictures):
            axis = axes[line, column]
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.spines[:].set_visible(False)
            if line == 0:
                axis.set_title(titles[column], fontsize=8, loc="center")
        axes[line, 0].set_ylabel(row_name)
    return figure


def class_legend(figure: Figure, names: tuple[str, ...] = ("cat", "dog", "border")) -> None:
    """Add a legend of the class colours under a figure of overlays."""
    patches = [Patch(facecolor=CLASS_COLOURS[name], edgecolor="#555555", linewidth=0.5, label=name) for name in names]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(names))


def some_of_each(pictures: PictureSet) -> list[int]:
    """Return the rows of three cats and three dogs that are far apart in the set, for showing."""
    number = pictures.table.groupby("species").cumcount()
    return [int(row) for row in pictures.table.index[number.isin([0, 10, 20])]]


def masked(image: np.ndarray, label: np.ndarray, mask: np.ndarray | int) -> np.ndarray:
    """Return a picture with a mask ``uint8 (H, W)`` over it, 0 for none; padding, as marked in its label, is white."""
    return overlay(image, np.where(label == PADDING, PADDING, mask))


def blank_padding(pictures: PictureSet, rows: Iterable[int]) -> list[np.ndarray]:
    """Return pictures with white padding, for showing."""
    return [masked(pictures.images[row], pictures.labels[row], 0) for row in rows]


def with_masks(pictures: PictureSet, rows: Iterable[int], masks: np.ndarray) -> list[np.ndarray]:
    """Return pictures with their masks over them; `masks` ``uint8 (n, size, size)`` are those of the whole set."""
    return [masked(pictures.images[row], pictures.labels[row], masks[row]) for row in rows]
