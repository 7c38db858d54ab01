"""What the scores mean, drawn: an invented mask beside the true one, and what the metrics give for them."""

import math

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from petseg_utils.experiments.plotting import new_figure

SIZE = 64  # pixels of the square
COLOURS = {"neither": "#ECECEC", "in both": "#0072B2", "only true": "#E69F00", "only predicted": "#CC79A7"}
DIALOGUE = (0.55, 0.71, 0.82, 0.88, 0.91)  # IoU of an invented selection, before any click and after each one
TARGET = 0.85


def two_masks() -> tuple[np.ndarray, np.ndarray]:
    """Return a true and a predicted mask, ``uint8 (64, 64)``, 1 for the cat: two ellipses that overlap."""
    y, x = np.mgrid[:SIZE, :SIZE]
    true, predicted = (((x - at) / 20) ** 2 + ((y - 32) / 15) ** 2 < 1 for at in (27, 35))
    return true.astype(np.uint8), predicted.astype(np.uint8)


def outline(mask: np.ndarray) -> np.ndarray:
    """Return a mask's boundary band as in `metrics.boundary_counts`: pixels up to 2 % of the diagonal from outside."""
    distance = round(0.02 * math.hypot(*mask.shape))
    return mask - cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=distance)


def kinds_of_pixels(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return, for each pixel, the position of its kind in `COLOURS`."""
    return np.choose(true + 2 * predicted, (0, 2, 3, 1))


def show_scores() -> Figure:
    """Draw IoU, Dice, accuracy and boundary IoU of the `two_masks`, and the clicks that an invented dialogue needs."""
    masks = two_masks()
    pixels, rim = kinds_of_pixels(*masks), kinds_of_pixels(*map(outline, masks))
    neither, both, missed, excess = np.bincount(pixels.ravel()).tolist()
    _, rim_both, *rim_other = np.bincount(rim.ravel()).tolist()
    either, everything = both + missed + excess, pixels.size
    panels = (
        (pixels, "IoU", both, either, "in both", "in one or both"),
        (pixels, "Dice", 2 * both, either + both, "2 · in both", "true + predicted"),
        (pixels, "Accuracy", both + neither, everything, "(in both + neither)", "all"),
        (rim, "Boundary IoU", rim_both, rim_both + sum(rim_other), "in both bands", "in one or both"),
    )
    figure, axes = new_figure(3, 2, width=5.2, height=7.6)
    for axis, (shown, name, above, below, what, of) in zip(axes.flat[: len(panels)], panels, strict=True):
        axis.imshow(shown, cmap=ListedColormap(list(COLOURS.values())), vmin=0, vmax=len(COLOURS) - 1)
        axis.set(title=f"{name} {above / below:.2f}", xticks=[], yticks=[], xlabel=f"{what} / {of}\n{above} / {below}")
        axis.grid(False)
    _show_clicks(axes[2, 0])
    axes[2, 1].set_axis_off()
    patches = [Patch(facecolor=colour, edgecolor="#555555", label=name) for name, colour in COLOURS.items()]
    axes[2, 1].legend(handles=patches, loc="center", fontsize=10)
    return figure


def _show_clicks(axis: Axes) -> None:
    """Draw the invented dialogue, marking the click after which its IoU reaches the target."""
    needed = next(clicks for clicks, value in enumerate(DIALOGUE) if value >= TARGET)
    axis.plot(range(len(DIALOGUE)), DIALOGUE, "o-", color=COLOURS["in both"])
    axis.axhline(TARGET, color="#333333", linewidth=1, linestyle=":")
    axis.plot(needed, DIALOGUE[needed], "o", color="#20242A", markersize=9)
    axis.set(title=f"NoC@{100 * TARGET:.0f}: {needed} clicks", xlabel=f"clicks; dotted: IoU {TARGET}", ylabel="IoU")
    axis.set(xticks=range(len(DIALOGUE)), ylim=(0.4, 1))
