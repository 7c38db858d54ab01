"""The published table, examined: no row of it can be true, and how easily such rows come about."""

import numpy as np
import pandas as pd

from petseg_utils.metrics import CLASSES, protocol_matrix, scores

# As published, model by model: mIoU, Dice, accuracy of "Advanced Pet Image Segmentation: A Comparative Study".
PUBLISHED = pd.DataFrame(
    [
        ("U-Net", 0.4702, 0.8660, 0.5982),
        ("autoencoder pre-training", 0.3969, 0.6726, 0.5127),
        ("CLIP features (ViT-L/14)", 0.5967, 0.9670, 0.9471),
        ("point prompt (CLIP)", 0.9261, 0.8421, 0.9144),
    ],
    columns=["model", "mIoU", "Dice", "accuracy"],
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
    return table.drop(columns="accuracy", errors="ignore").assign(
        **{"Dice at least": low, "at most": high, "possible": possible}
    )


def absent_as_zero(counts: np.ndarray, protocol: str = ITS_PROTOCOL) -> dict[str, float]:
    """The mIoU and Dice as means over pictures and classes in which a class that is nowhere counts as 0.

    That is what torchmetrics' segmentation module did before version 1.7.1 (its issues 2866, 2747 and 3031 are about
    it).  On pictures of one species a perfect prediction gets 2/3.

    Parameters
    ----------
    counts : ndarray
        ``(n, 5, 3)`` from `metrics.picture_confusions`.
    protocol : str
        One of `metrics.PROTOCOLS`.

    Returns
    -------
    dict of str to float
        ``mIoU`` and ``Dice``, 0 to 1.
    """
    iou = np.nan_to_num(scores(protocol_matrix(counts, protocol))["iou"])
    return {"mIoU": float(iou.mean()), "Dice": float((2 * iou / (1 + iou)).mean())}


def over_all_pixels(counts: np.ndarray, protocol: str = ITS_PROTOCOL) -> dict[str, float]:
    """IoU and Dice of all pixels thrown together, whatever their class (micro averages): Dice is then the accuracy.

    Parameters are those of `absent_as_zero`.

    Returns
    -------
    dict of str to float
        ``mIoU`` and ``Dice``, 0 to 1.
    """
    matrix = protocol_matrix(counts, protocol).sum(0)
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
        ``mixed the other way``), ``mIoU``, ``Dice``, ``at least``, ``at most``, ``possible``.
    """
    rows = []
    for name, one in counts.items():
        right = scores(protocol_matrix(one.sum(0), ITS_PROTOCOL))
        zero, pixels = absent_as_zero(one), over_all_pixels(one)
        pairs = {
            "one rule": (float(right["miou"]), float(right["dice"])),
            "mixed": (zero["mIoU"], pixels["Dice"]),
            "mixed the other way": (pixels["mIoU"], zero["Dice"]),
        }
        rows += [{"model": name, "rule": rule, "mIoU": miou, "Dice": dice} for rule, (miou, dice) in pairs.items()]
    table = pd.DataFrame(rows)
    return examined(table)


def mixture_sentence(table: pd.DataFrame) -> str:
    """Of how many models the mixtures give the published table's patterns; Markdown.

    Parameters
    ----------
    table : DataFrame
        From `mixed_rules`.
    """
    first, other = (table[table["rule"] == rule] for rule in ("mixed", "mixed the other way"))
    above, below = (first["Dice"] > first["at most"]).sum(), (other["Dice"] < other["mIoU"]).sum()
    return (
        f"The mixture gives the pattern of the first three rows, a Dice above what the mIoU allows, for **{above} of "
        f"{len(first)}** models here. The other mixture, IoU over all pixels and Dice with absent classes as 0, gives "
        f"the pattern of the fourth, a Dice below the mIoU, for **{below} of {len(other)}**."
    )


def perfect(labels: np.ndarray) -> np.ndarray:
    """The true masks as a prediction ``uint8``: border and padding as background, which is what this protocol wants."""
    return np.where(labels < len(CLASSES), labels, 0).astype(np.uint8)
