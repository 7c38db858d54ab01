"""Figures of what an autoencoder paints, and of what its encoder is worth with few labels."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from petseg_utils.data.labels import PADDING
from petseg_utils.data.pictures import PictureSet
from petseg_utils.experiments.plotting import GREY, MODEL_COLOURS, blank_padding, new_figure, picture_grid


def show_reconstructions(pictures: PictureSet, painted: np.ndarray, rows: list[int]) -> Figure:
    """Pictures, what the autoencoder painted of them, and how far it is off, pixel by pixel.

    Parameters
    ----------
    pictures : PictureSet
        The originals.
    painted : ndarray
        ``uint8 (k, size, size, 3)``, in the order of `rows`.
    rows : list of int
        Which pictures.
    """
    lines = [blank_padding(pictures, rows), [], []]
    for row, image in zip(rows, painted, strict=True):
        padding = pictures.labels[row] == PADDING
        lines[1].append(np.where(padding[..., None], 255, image))
        error = np.abs(image.astype(float) - pictures.images[row]).mean(-1)
        lines[2].append(np.where(padding, np.nan, error))
    figure = picture_grid(lines, [""] * len(rows), ["picture", "painted", "error"])
    errors = figure.axes[2 * len(rows) : 3 * len(rows)]
    for axis in errors:
        axis.images[0].set(cmap="cividis", clim=(0, 80))
    figure.colorbar(errors[0].images[0], ax=errors, label="of 255", shrink=0.9)
    return figure


def variant_bars(table: pd.DataFrame) -> Figure:
    """Reconstruction and what it is worth, from columns ``pretraining``, ``psnr``, ``miou``, ``low`` and ``high``."""
    figure, (left, right) = new_figure(1, 2, width=9, height=0.9 + 0.45 * len(table), sharey=True)
    colours = [GREY, *[MODEL_COLOURS["autoencoder_unet"]] * (len(table) - 1)]
    left.bar_label(left.barh(table["pretraining"], table["psnr"], color=colours), fmt=" %.1f")
    left.set(title="Reconstruction, higher is better", xlabel="PSNR, decibels", xlim=(0, 1.2 * table["psnr"].max()))
    spans = [table["miou"] - table["low"], table["high"] - table["miou"]]
    bars = right.barh(table["pretraining"], table["miou"], color=colours, xerr=spans, ecolor="#333333", capsize=3)
    right.bar_label(bars, fmt=" %.3f")
    right.set(title="The frozen encoder in a U-Net", xlabel="validation mIoU; whiskers: seeds", xlim=(0, 1))
    for axis in (left, right):
        axis.grid(False, axis="y")
    left.invert_yaxis()
    return figure
