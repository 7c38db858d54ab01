"""What an autoencoder paints, and what its encoder is worth to a U-Net; figures and sentences."""

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from petseg_utils.data.labels import BORDER, PADDING
from petseg_utils.data.pictures import PictureSet
from petseg_utils.experiments.plotting import GREY, MODEL_COLOURS, blank_padding, new_figure, picture_grid
from petseg_utils.scores.reconstruction import psnr


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


def show_hidden(images: np.ndarray, hidden: np.ndarray) -> Figure:
    """Pictures ``uint8 (n, size, size, 3)`` above what a masked autoencoder sees of them."""
    return picture_grid([list(images), list(hidden)], [""] * len(images), ["picture", "input"])


def painting_in_words(pictures: PictureSet, painted: np.ndarray) -> str:
    """How good paintings are, beside two that need no network, and where they are off."""
    n, size = pictures.images.shape[:2]
    flat, cells = (
        np.stack(
            [
                cv2.resize(cv2.resize(image, (edge, edge), interpolation=cv2.INTER_AREA), (size, size))
                for image in np.asarray(pictures.images)
            ]
        )
        for edge in (1, size // 16)
    )
    ours, one, sixteen = (psnr(pictures, guess).mean() for guess in (painted, flat, cells))
    error = np.abs(painted.astype(float) - pictures.images).mean(-1)
    band, other = error[pictures.labels == BORDER].mean(), error[pictures.labels < PADDING].mean()
    return (
        f"Mean PSNR on {n} pictures: **{ours:.1f} dB**. Each picture in its own mean colour would have {one:.1f} dB; "
        f"shrunk to {size // 16} x {size // 16} pixels and enlarged again, {sixteen:.1f} dB. The painting is off by "
        f"{band:.0f} of 255 on average in the border band, and by {other:.0f} elsewhere."
    )


def variants_in_words(table: pd.DataFrame) -> str:
    """What the table of `variant_bars` says; its first row is the encoder that learned nothing."""
    by = table.set_index("pretraining")
    change, random = by - by.loc["plain"], by.iloc[0]
    better = by.index[by["low"] > random["high"]]
    return (
        f"Against *plain*, skips change the reconstruction by {change.loc['with skips', 'psnr']:+.1f} dB and the "
        f"masks' mIoU by {change.loc['with skips', 'miou']:+.3f}; masking changes them by "
        f"{change.loc['masked', 'psnr']:+.1f} dB and {change.loc['masked', 'miou']:+.3f}. Better than the *random* "
        f"encoder ({random['miou']:.3f}) in every run: **{', '.join(better) or 'none of them'}**."
    )


def variant_bars(table: pd.DataFrame) -> Figure:
    """Reconstruction and what it is worth, from columns ``pretraining``, ``psnr``, ``miou``, ``low`` and ``high``."""
    figure, (left, right) = new_figure(1, 2, width=9, height=0.9 + 0.45 * len(table), sharey=True)
    colours = [GREY, *[MODEL_COLOURS["autoencoder_unet"]] * (len(table) - 1)]
    left.bar_label(left.barh(table["pretraining"], table["psnr"], color=colours), fmt=" %.1f")
    left.set(title="Reconstruction, higher is better", xlabel="PSNR, decibels", xlim=(0, 1.2 * table["psnr"].max()))
    spans = [table["miou"] - table["low"], table["high"] - table["miou"]]
    bars = right.barh(table["pretraining"], table["miou"], color=colours, xerr=spans, ecolor="#333333", capsize=3)
    right.bar_label(bars, fmt=" %.3f")
    right.set(title="The frozen encoder in a U-Net", xlabel="validation mIoU; whiskers: range of the runs", xlim=(0, 1))
    for axis in (left, right):
        axis.grid(False, axis="y")
    left.invert_yaxis()
    return figure
