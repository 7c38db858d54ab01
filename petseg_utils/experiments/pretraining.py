"""What an autoencoder reconstructs, and what its encoder is worth to a U-Net; figures and sentences."""

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from petseg_utils.data.labels import BORDER, PADDING
from petseg_utils.data.pictures import PictureSet
from petseg_utils.experiments.plotting import GREY, MODEL_COLOURS, blank_padding, new_figure, picture_grid
from petseg_utils.experiments.variants import CHANCE
from petseg_utils.scores.reconstruction import psnr


def show_reconstructions(pictures: PictureSet, painted: np.ndarray, rows: list[int]) -> Figure:
    """Show pictures, the autoencoder's reconstructions of them, and its error at each pixel.

    Parameters
    ----------
    painted : ndarray
        ``uint8 (k, size, size, 3)``, in the order of `rows`.
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
    """Show pictures ``uint8 (n, size, size, 3)`` above what a masked autoencoder sees of them."""
    return picture_grid([list(images), list(hidden)], [""] * len(images), ["picture", "input"])


def painting_in_words(pictures: PictureSet, painted: np.ndarray) -> str:
    """Say how good reconstructions are beside two that need no network, where they err, and what colour they keep."""
    images = np.asarray(pictures.images)
    n, size = images.shape[:2]
    cells = size // 16
    flat, coarse = (_enlarged(_shrunk(images, edge), size) for edge in (1, cells))
    ours, by_flat, by_coarse = (psnr(pictures, guess).mean() for guess in (painted, flat, coarse))
    error = np.abs(painted.astype(float) - images).mean(-1)
    band, other = error[pictures.labels == BORDER].mean(), error[pictures.labels < PADDING].mean()
    shown = _shrunk(pictures.labels == PADDING, cells) == 0
    light, colour = kept_of(_shrunk(images, cells)[shown], _shrunk(painted, cells)[shown])
    return (
        f"Mean PSNR on {n} pictures: **{ours:.1f} dB**. Each picture in its own mean colour would have {by_flat:.1f} "
        f"dB; shrunk to {cells} x {cells} pixels and enlarged again, {by_coarse:.1f} dB. The painting is off by "
        f"{band:.0f} of 255 on average in the border band, and by {other:.0f} elsewhere. Where both are shrunk to "
        f"{cells} x {cells}, it explains **{light:.0%}** of what the pictures differ by in light and dark, and "
        f"**{colour:.0%}** of what they differ by in colour."
    )


def kept_of(true: np.ndarray, painted: np.ndarray) -> tuple[float, float]:
    """Return the share of the variance of light and of colour among pixels that a reconstruction explains, each 0..1.

    Parameters
    ----------
    true, painted : ndarray
        Red, green and blue, ``(n, 3)``.  Light is their mean; the colours are red minus green, and yellow minus blue.
    """

    def parts(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        red, green, blue = pixels.astype(float).T
        return (red + green + blue)[None] / 3, np.stack([red - green, (red + green) / 2 - blue])

    shares = []
    for wanted, painted_part in zip(parts(true), parts(painted), strict=True):
        variance = np.square(wanted - wanted.mean(1, keepdims=True)).sum()
        shares.append(float(np.clip(1 - np.square(wanted - painted_part).sum() / variance, 0, 1)))
    return shares[0], shares[1]


def _shrunk(images: np.ndarray, edge: int) -> np.ndarray:
    """Shrink pictures or masks to ``edge x edge`` pixels, each the mean of those that it replaces; float."""
    size, area = (edge, edge), cv2.INTER_AREA
    return np.stack([cv2.resize(image.astype(np.float32), size, interpolation=area) for image in images])


def _enlarged(images: np.ndarray, size: int) -> np.ndarray:
    """Enlarge pictures to ``size x size`` pixels, bilinearly; uint8."""
    return np.stack([cv2.resize(image, (size, size)) for image in images]).round().astype(np.uint8)


def helpful(table: pd.DataFrame) -> list[str]:
    """Return the pre-trainings in `variant_bars`'s table that beat its untrained first row by more than `CHANCE`."""
    random, learned = table.iloc[0], table.iloc[1:]
    gain = (learned["miou"] - random["miou"]).round(3)
    return learned.loc[(gain > CHANCE) & (learned["low"] > random["high"]), "pretraining"].tolist()


def variants_in_words(table: pd.DataFrame) -> str:
    """Say what the table of `variant_bars` shows; its first row is the encoder that learned nothing."""
    shown = table.set_index("pretraining")["miou"].map("{:.3f}".format).astype(float)  # as shown in the chart
    gain = (shown - shown.iloc[0]).iloc[1:]
    return (
        f"From lowest to highest, reconstruction gains **{np.ptp(table['psnr']):.1f} dB** and masks "
        f"**{np.ptp(shown):.3f} mIoU** ({shown.min():.3f} to {shown.max():.3f}). The *random* encoder has "
        f"{shown.iloc[0]:.3f}; the best of those that learned, *{gain.idxmax()}*, differs from it by "
        f"{gain.max():+.3f}. Better than it in every run and by more than {CHANCE}, which may be chance: "
        f"**{', '.join(helpful(table)) or 'none of them'}**."
    )


def lesson(table: pd.DataFrame) -> str:
    """Sum up `variants_in_words`."""
    helps = " and ".join(f"*{name}*" for name in helpful(table))
    return (
        f"the paintings differ by {np.ptp(table['psnr']):.1f} dB from encoder to encoder, the masks by "
        f"{np.ptp(table['miou']):.3f} mIoU; "
        + (f"by more than chance helps {helps}." if helps else "none helps more than may be chance.")
    )


def frozen_in_words(table: pd.DataFrame, epochs: dict[str, int]) -> str:
    """Compare the U-Net on the frozen encoder with the one from scratch, with the species' names and without.

    Parameters
    ----------
    table : DataFrame
        `results_table` of one study, with both models.
    epochs : dict of str to int
        How many epochs each was trained for, at most.
    """
    scores = table.pivot(index="model", columns="protocol", values="mIoU").loc[["autoencoder_unet", "unet"]].round(3)
    (frozen, scratch), (shorter, longer) = scores["ignore_border"], (epochs[name] for name in scores.index)
    (frozen_pet, scratch_pet), named = scores["binary_border_as_pet"], scratch - frozen
    if named <= CHANCE:
        lesson = "the frozen encoder costs no more than may be chance"
    elif named > 2 * (scratch_pet - frozen_pet):
        lesson = "the U-Net on the frozen encoder finds the pet, and cannot name it as well"
    else:
        lesson = "the U-Net on the frozen encoder is behind in finding the pet, not in naming it alone"
    time = " A part of that may be training time." if shorter < longer else ""
    return (
        f"mIoU **{frozen:.3f}** on the frozen encoder and **{scratch:.3f}** from scratch, border ignored. Where no "
        f"name is asked for (`binary_border_as_pet`) it is {frozen_pet:.3f} and {scratch_pet:.3f}: {lesson}. They were "
        f"trained for {shorter} and {longer} epochs at most.{time}"
    )


def variant_bars(table: pd.DataFrame) -> Figure:
    """Draw reconstruction quality and its worth for masks (``pretraining``, ``psnr``, ``miou``, ``low``, ``high``)."""
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
