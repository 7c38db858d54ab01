"""The original work's table, whose scores cannot come from one averaging rule, and rules that give such rows.

Statements about its code come from github.com/AlvGar9/Pet-Segmentation-Deep-Learning; notebook 07 links the files.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from petseg_utils.data.labels import CLASSES
from petseg_utils.experiments.plotting import new_figure
from petseg_utils.scores.metrics import protocol_matrix, scores

# The table in its README, "Advanced Pet Image Segmentation: A Comparative Study".
PUBLISHED = pd.DataFrame(
    [
        ("U-Net", 0.3051, 0.4702, 0.8660, 0.5982),
        ("Autoencoder Pre-training", 0.4284, 0.3969, 0.6726, 0.5127),
        ("CLIP Features", 0.0871, 0.5967, 0.9670, 0.9471),
        ("Point-Based (CLIP)", 0.1733, 0.9261, 0.8421, 0.9144),
    ],
    columns=["model", "Test Loss", "mIoU", "Dice", "Accuracy"],
)
ITS_PROTOCOL = "border_as_background"  # what the original work did with border and padding
RULES = ("by one rule", "as UNET.py does", "as perturbations_testing does")


def highest_dice(miou: np.ndarray | float) -> np.ndarray | float:
    """Return the highest mean Dice that a mean IoU allows, 2 mIoU / (1 + mIoU); the lowest is the mIoU itself.

    For each class Dice = 2 IoU / (1 + IoU), a concave function above the diagonal.  So the mean of the classes' Dice
    lies above the mean of their IoU, and below the function of that mean (Jensen's inequality).
    """
    return 2 * miou / (1 + miou)


def examined(table: pd.DataFrame = PUBLISHED) -> pd.DataFrame:
    """Add to a table's ``mIoU`` and ``Dice`` what one averaging rule allows, and whether the pair obeys it."""
    low, high = table["mIoU"], highest_dice(table["mIoU"])
    one_rule = table["Dice"].between(low - 1e-9, high + 1e-9)
    return table.assign(**{"Dice at least": low, "at most": high, "one rule": one_rule})


def absent_as_zero(counts: np.ndarray) -> float:
    """Return the mIoU as a mean over pictures and classes in which a class that does not occur counts as 0.

    This is what torchmetrics' `MeanIoU` did before version 1.7.1 (see its issues 2866, 2747 and 3031).  On pictures of
    one species a perfect prediction then gets 2/3.

    Parameters
    ----------
    counts : ndarray
        ``(n, 5, 3)`` from `metrics.picture_confusions`.
    """
    return float(np.nan_to_num(scores(protocol_matrix(counts, ITS_PROTOCOL))["iou"]).mean())


def its_scores(counts: np.ndarray) -> dict[str, float]:
    """Score a split as the original work's code does: mean IoU over classes, Dice over all pixels, mean recall.

    These are torchmetrics' defaults for `MeanIoU`, `DiceScore` (before version 1.9.0, which made it a mean over
    classes too) and `MulticlassAccuracy`, with all pixels as one sample.  UNET.py treats a batch of 32 pictures as one
    sample and averages over batches; here the split is one batch.

    Parameters
    ----------
    counts : ndarray
        ``(n, 5, 3)`` from `metrics.picture_confusions`.

    Returns
    -------
    dict of str to float
        ``mIoU``, ``Dice`` (over all pixels regardless of class, which is the share of correct pixels) and ``Accuracy``.
    """
    matrix = protocol_matrix(counts.sum(0), ITS_PROTOCOL)
    of_classes, truth = scores(matrix), matrix.sum(1)
    recall = (np.diagonal(matrix)[truth > 0] / truth[truth > 0]).mean()
    return {"mIoU": float(of_classes["miou"]), "Dice": float(of_classes["accuracy"]), "Accuracy": float(recall)}


def rescored(counts: dict[str, np.ndarray]) -> pd.DataFrame:
    """Score predictions by one rule, and as two files of the original work score them; one row each.

    Parameters
    ----------
    counts : dict
        Model name to counts ``(n, 5, 3)``.

    Returns
    -------
    DataFrame
        ``model``, ``rule`` (one of `RULES`: `its_scores` does as UNET.py; perturbations_testing takes each picture as a
        sample, so that with the torchmetrics of its time an absent class counts as 0 in the mIoU), ``mIoU``, ``Dice``,
        ``Accuracy``, ``Dice at least``, ``at most``, ``one rule``.
    """
    rows = []
    for name, of_pictures in counts.items():
        right, its = scores(protocol_matrix(of_pictures.sum(0), ITS_PROTOCOL)), its_scores(of_pictures)
        by_rule = (
            {"mIoU": float(right["miou"]), "Dice": float(right["dice"]), "Accuracy": float(right["accuracy"])},
            its,
            its | {"mIoU": absent_as_zero(of_pictures)},
        )
        rows += [{"model": name, "rule": rule} | scored for rule, scored in zip(RULES, by_rule, strict=True)]
    return examined(pd.DataFrame(rows))


def perfect(labels: np.ndarray) -> np.ndarray:
    """Return the true masks as a prediction, ``uint8``: border and padding as background, as this protocol expects."""
    return np.where(labels < len(CLASSES), labels, 0).astype(np.uint8)


def possible_chart(published: pd.DataFrame, ours: pd.DataFrame) -> Figure:
    """Draw which pairs of mIoU and mean Dice one averaging rule allows, and where the tables' rows lie."""
    figure, axis = new_figure(width=7.5, height=4.2)
    miou = np.linspace(0, 1, 200)
    axis.fill_between(miou, miou, highest_dice(miou), color="#007A5A", alpha=0.25, label="one rule")
    axis.scatter(published["mIoU"], published["Dice"], marker="x", s=60, color="#B85000", label="published")
    for _, row in published.iterrows():
        offset = (-8, -12 if row["mIoU"] > row["Dice"] else 5)
        at = (row["mIoU"], row["Dice"])
        axis.annotate(row["model"], at, offset, textcoords="offset points", fontsize=8, ha="right")
    looks = (("o", "black"), ("^", "#0072B2"), ("v", "#A8487F"))
    for rule, (marker, colour) in zip(RULES, looks, strict=True):
        rows = ours[ours["rule"] == rule]
        axis.scatter(rows["mIoU"], rows["Dice"], marker=marker, color=colour, s=28, label=f"ours, {rule}")
    axis.set(xlim=(0.1, 1.01), ylim=(0.1, 1.03), xlabel="mIoU", ylabel="Dice")
    axis.set_title("Which pairs can one rule give?")
    axis.legend(loc="lower right", fontsize=8)
    return figure
