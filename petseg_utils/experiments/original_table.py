"""The original work's table, examined: no row of it can be true, and how easily such rows come about."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from petseg_utils.data.labels import CLASSES
from petseg_utils.experiments.plotting import new_figure
from petseg_utils.scores.metrics import protocol_matrix, scores

# As published, model by model: mIoU and Dice of "Advanced Pet Image Segmentation: A Comparative Study".
PUBLISHED = pd.DataFrame(
    [
        ("U-Net", 0.4702, 0.8660),
        ("autoencoder pre-training", 0.3969, 0.6726),
        ("CLIP features (ViT-L/14)", 0.5967, 0.9670),
        ("point prompt (CLIP)", 0.9261, 0.8421),
    ],
    columns=["model", "mIoU", "Dice"],
)
ITS_PROTOCOL = "border_as_background"  # what the original work did with border and padding


def highest_dice(miou: np.ndarray | float) -> np.ndarray | float:
    """The highest mean Dice that a mean IoU allows: 2 mIoU / (1 + mIoU); the lowest is the mIoU itself.

    For each class Dice = 2 IoU / (1 + IoU), a concave function above the diagonal.  So the mean of the classes' Dice
    lies above the mean of their IoU, and below the function of that mean (Jensen's inequality).
    """
    return 2 * miou / (1 + miou)


def examined(table: pd.DataFrame = PUBLISHED) -> pd.DataFrame:
    """A table's ``mIoU`` and ``Dice`` with what one rule of averaging allows, and whether the pair keeps to it."""
    low, high = table["mIoU"], highest_dice(table["mIoU"])
    possible = table["Dice"].between(low - 1e-9, high + 1e-9)
    return table.assign(**{"Dice at least": low, "at most": high, "possible": possible})


def absent_as_zero(counts: np.ndarray) -> dict[str, float]:
    """The mIoU and Dice as means over pictures and classes in which a class that is nowhere counts as 0.

    That is what torchmetrics' segmentation module did before version 1.7.1 (its issues 2866, 2747 and 3031 are about
    it).  On pictures of one species a perfect prediction gets 2/3.

    Parameters
    ----------
    counts : ndarray
        ``(n, 5, 3)`` from `metrics.picture_confusions`.

    Returns
    -------
    dict of str to float
        ``mIoU`` and ``Dice``, 0 to 1.
    """
    iou = np.nan_to_num(scores(protocol_matrix(counts, ITS_PROTOCOL))["iou"])
    return {"mIoU": float(iou.mean()), "Dice": float((2 * iou / (1 + iou)).mean())}


def over_all_pixels(counts: np.ndarray) -> dict[str, float]:
    """IoU and Dice of all pixels together, whatever their class (micro averages): Dice is then the accuracy.

    `counts` are those of `absent_as_zero`.

    Returns
    -------
    dict of str to float
        ``mIoU`` and ``Dice``, 0 to 1.
    """
    matrix = protocol_matrix(counts, ITS_PROTOCOL).sum(0)
    right, all_of_them = np.trace(matrix), matrix.sum()
    return {"mIoU": float(right / (2 * all_of_them - right)), "Dice": float(right / all_of_them)}


def mixed_rules(counts: dict[str, np.ndarray]) -> pd.DataFrame:
    """Predictions scored by one rule, and by two rules mixed up, a row each.

    Parameters
    ----------
    counts : dict
        Name to ``(n, 5, 3)``.

    Returns
    -------
    DataFrame
        ``model``, ``rule`` (``one rule``; ``mixed``: mIoU with absent classes as 0, Dice over all pixels;
        ``mixed the other way``), ``mIoU``, ``Dice``, ``Dice at least``, ``at most``, ``possible``.
    """
    rows = []
    for name, of_pictures in counts.items():
        right = scores(protocol_matrix(of_pictures.sum(0), ITS_PROTOCOL))
        zero, pixels = absent_as_zero(of_pictures), over_all_pixels(of_pictures)
        pairs = {
            "one rule": (float(right["miou"]), float(right["dice"])),
            "mixed": (zero["mIoU"], pixels["Dice"]),
            "mixed the other way": (pixels["mIoU"], zero["Dice"]),
        }
        rows += [{"model": name, "rule": rule, "mIoU": miou, "Dice": dice} for rule, (miou, dice) in pairs.items()]
    return examined(pd.DataFrame(rows))


def perfect(labels: np.ndarray) -> np.ndarray:
    """The true masks as a prediction ``uint8``: border and padding as background, which is what this protocol wants."""
    return np.where(labels < len(CLASSES), labels, 0).astype(np.uint8)


def possible_chart(published: pd.DataFrame, mixed: pd.DataFrame) -> Figure:
    """Which pairs of mIoU and mean Dice one rule of averaging allows, and where the tables' rows lie.

    Parameters
    ----------
    published : DataFrame
        `PUBLISHED`.
    mixed : DataFrame
        From `mixed_rules`.
    """
    figure, axis = new_figure(width=7.5, height=4.2)
    miou = np.linspace(0, 1, 200)
    axis.fill_between(miou, miou, highest_dice(miou), color="#007A5A", alpha=0.25, label="possible")
    axis.scatter(published["mIoU"], published["Dice"], marker="x", s=60, color="#B85000", label="published")
    for _, row in published.iterrows():
        left = row["mIoU"] > 0.8
        offset = {"xytext": (-8, -12) if left else (7, 5), "ha": "right" if left else "left"}
        axis.annotate(row["model"], (row["mIoU"], row["Dice"]), textcoords="offset points", fontsize=8, **offset)
    looks = {"one rule": ("o", "black"), "mixed": ("^", "#0072B2"), "mixed the other way": ("v", "#A8487F")}
    for rule, (marker, colour) in looks.items():
        rows = mixed[mixed["rule"] == rule]
        axis.scatter(rows["mIoU"], rows["Dice"], marker=marker, color=colour, s=28, label=f"ours, {rule}")
    axis.set(xlim=(0.1, 1.01), ylim=(0.1, 1.03), xlabel="mIoU", ylabel="mean Dice")
    axis.set_title("Which pairs of scores are possible?")
    axis.legend(loc="lower right", fontsize=8)
    return figure
