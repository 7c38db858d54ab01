"""Where are a model's errors?  Confusions, the outline, the size of the pet, and examples."""

from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from petseg_utils.data.labels import BORDER, CLASS_COLOURS, CLASSES
from petseg_utils.data.pictures import PictureSet
from petseg_utils.experiments.data_exploration import foreground_share
from petseg_utils.experiments.plotting import (
    MODEL_COLOURS,
    blank_padding,
    class_legend,
    new_figure,
    picture_grid,
    with_masks,
    write_in_cells,
)
from petseg_utils.experiments.variants import CHANCE
from petseg_utils.models.prompts import distance_to
from petseg_utils.scores.metrics import picture_confusions, picture_miou, protocol_matrix, scores
from petseg_utils.scores.results import PRIMARY

DISTANCES = (0, 2, 4, 8, 16, 32)  # edges of the bins in model pixels; the last bin is open-ended
PET_SHARES = (0, 0.15, 0.25, 0.35, 0.5, 1)  # edges of the groups of pictures by the pet's share of them


def confusion(pictures: PictureSet, predicted: np.ndarray) -> Figure:
    """Draw which classes the pixels of each true class were given, in percent of it; border and padding left out."""
    matrix = protocol_matrix(picture_confusions(pictures.labels, predicted).sum(0), PRIMARY)
    share = matrix / matrix.sum(1, keepdims=True).clip(1)
    figure, axis = new_figure(width=4.6, height=3.6)
    axis.imshow(share, cmap="Greys", vmin=0, vmax=1.3)
    write_in_cells(axis, share, ".1%")
    axis.set(xticks=range(3), yticks=range(3), xticklabels=CLASSES, yticklabels=CLASSES)
    axis.set(xlabel="predicted", ylabel="true", title="Where each class's pixels go")
    axis.grid(False)
    return figure


def error_by_distance(pictures: PictureSet, predicted: np.ndarray) -> pd.DataFrame:
    """Return the error rate of pixels by their distance to the border band, in bins of `DISTANCES`.

    Parameters
    ----------
    predicted : ndarray
        ``uint8 (n, size, size)``.

    Returns
    -------
    DataFrame
        ``distance`` (text), ``side`` (``pet`` or ``background``), ``error`` (0 to 1, NaN where there are no pixels),
        ``misnamed`` (the part of it that is the other species), ``pixels``, ``pictures`` (number with such pixels).
    """
    wrong, misnamed, total, pictures_with = np.zeros((4, 2, len(DISTANCES)))
    for label, guess in zip(pictures.labels, predicted, strict=True):
        if not (label == BORDER).any():
            continue
        bins = np.digitize(distance_to(label == BORDER), DISTANCES[1:])
        for side, inside in enumerate(((label == 1) | (label == 2), label == 0)):
            pixels = np.bincount(bins[inside], minlength=len(DISTANCES))
            total[side] += pixels
            pictures_with[side] += pixels > 0
            wrong[side] += np.bincount(bins[inside & (guess != label)], minlength=len(DISTANCES))
            other = inside & (label > 0) & (guess > 0) & (guess != label)
            misnamed[side] += np.bincount(bins[other], minlength=len(DISTANCES))
    names = [f"{low}-{high}" for low, high in pairwise(DISTANCES)] + [f"over {DISTANCES[-1]}"]
    return pd.concat(
        pd.DataFrame(
            {"distance": names, "side": side, "error": wrong[i] / np.where(total[i], total[i], np.nan)}
            | {"misnamed": misnamed[i] / np.where(total[i], total[i], np.nan)}
            | {"pixels": total[i].astype(int), "pictures": pictures_with[i].astype(int)}
        )
        for i, side in enumerate(("pet", "background"))
    )


def distances_in_words(table: pd.DataFrame) -> str:
    """Say what the table of `error_by_distance` shows of the pet's pixels at the border and of those deepest inside."""
    pet = table[(table["side"] == "pet") & (table["pixels"] > 0)]
    near, deep = pet.iloc[0], pet.iloc[-1]
    said = (
        f"Of the pet's pixels {near['distance']} pixels from the band **{near['error']:.0%}** are wrong; of those "
        f"{deep['distance']} pixels from it, which {deep['pictures']} pictures have, **{deep['error']:.0%}**. "
        f"{near['misnamed']:.0%} and {deep['misnamed']:.0%} are called the other species"
    )
    if deep["error"] < 0.01:
        return f"{said}: deep inside nearly all is right."
    most = "a wrong name, and no outline would mend it" if deep["misnamed"] > deep["error"] / 2 else "a part not found"
    return f"{said}: what is wrong deep inside is mostly {most}."


def errors_by_distance(table: pd.DataFrame, size: int) -> Figure:
    """Draw the table of `error_by_distance`."""
    figure, axis = new_figure(height=2.9)
    for offset, side in ((-0.2, "pet"), (0.2, "background")):
        rows = table[table["side"] == side]
        axis.bar(
            np.arange(len(rows)) + offset, 100 * rows["error"], 0.4, color=CLASS_COLOURS[side], label=f"{side} pixels"
        )
        names = rows["distance"]
    axis.set(xticks=range(len(names)), xticklabels=names, ylabel="% predicted wrongly")
    axis.set(title="Errors by distance to the border band", xlabel=f"distance in pixels of the {size} px square")
    axis.legend()
    return figure


def pet_against_rest(matrix: np.ndarray) -> np.ndarray:
    """Return the IoU of pet against rest, 0 to 1, of matrices ``(..., 3, 3)``: a cat taken for a dog is right."""
    pet, union = matrix[..., 1:, 1:].sum((-2, -1)), matrix.sum((-2, -1)) - matrix[..., 0, 0]
    return pet / np.maximum(1, union)


def rightly_named(pictures: PictureSet, counts: np.ndarray) -> tuple[float, int]:
    """Return how often most of what was found of a pet has the right species' name.

    Parameters
    ----------
    counts : ndarray
        ``(n, 5, 3)`` from `metrics.picture_confusions`.

    Returns
    -------
    float
        Share of the pictures, 0 to 1; NaN where no pet was found.
    int
        The number of those pictures: the ones in which some of the pet was found.
    """
    named = counts[:, 1:3, 1:3].sum(1)  # of the pet's pixels, those called cat and those called dog
    seen = named.any(axis=1)
    right = 1 + named.argmax(1) == pictures.table["species"].to_numpy()
    return float(right[seen].mean()) if seen.any() else float("nan"), int(seen.sum())


def names_in_words(pictures: PictureSet, counts: np.ndarray) -> str:
    """Say how many animals got the right name, and how good the masks would be if names did not matter."""
    share, number = rightly_named(pictures, counts)
    matrix = protocol_matrix(counts.sum(0), PRIMARY)
    _, cat, dog = scores(matrix)["iou"]
    return (
        f"On {number} of {len(pictures)} pictures some of the pet was found, and on **{share:.0%}** of these most of "
        f"what was found has the right name. IoU of pet against rest, border ignored: "
        f"**{pet_against_rest(matrix):.3f}**; of cat {cat:.3f}, of dog {dog:.3f}."
    )


def species_in_words(counts: np.ndarray) -> str:
    """Say how many pixels of each species are given the other one's name; from counts ``(n, 5, 3)``."""
    matrix = protocol_matrix(counts.sum(0), PRIMARY)
    share = matrix / matrix.sum(1, keepdims=True).clip(1)
    return f"{share[1, 2]:.1%} of the cats' pixels are called dog, {share[2, 1]:.1%} of the dogs' cat"


def scores_by_size(pictures: PictureSet, predicted: np.ndarray) -> pd.DataFrame:
    """Return the scores of groups of pictures by the pet's share of them, see `PET_SHARES`."""
    shares = foreground_share(pictures)
    counts = picture_confusions(pictures.labels, predicted)
    rows = []
    for low, high in pairwise(PET_SHARES):
        inside = (shares >= low) & ((shares < high) | (high == PET_SHARES[-1]))
        matrix = protocol_matrix(counts[inside].sum(0), PRIMARY)
        names = {"pet share": f"{low:.0%} to {high:.0%}", "pictures": int(inside.sum())}
        values = {"mIoU": float(scores(matrix)["miou"]), "IoU pet against rest": float(pet_against_rest(matrix))}
        rows.append(names | values)
    return pd.DataFrame(rows)


def sizes_in_words(table: pd.DataFrame) -> str:
    """Say whether small pets are harder, by the outermost groups of `scores_by_size` with a tenth of all pictures."""
    held = table[table["pictures"] >= 0.1 * table["pictures"].sum()]
    small, large = held.iloc[0], held.iloc[-1]
    words = []
    for name, what in (("IoU pet against rest", "to find"), ("mIoU", "to find and name")):
        gap = large[name] - small[name]
        verdict = "harder" if gap > CHANCE else "easier" if gap < -CHANCE else "about as hard"
        words.append(f"{verdict} {what} ({name} {small[name]:.3f} and {large[name]:.3f})")
    return (
        f"Where {small['pet share']} of the picture is pet and where {large['pet share']} is (the outermost groups "
        f"with a tenth of the pictures), the smaller pets are {words[0]}, and {words[1]}."
    )


def size_chart(table: pd.DataFrame) -> Figure:
    """Draw the table of `scores_by_size`."""
    figure, axis = new_figure(height=2.9)
    for name, colour in (("mIoU", MODEL_COLOURS["unet"]), ("IoU pet against rest", CLASS_COLOURS["pet"])):
        axis.plot(table["pet share"], table[name], "o-", color=colour, label=name)
    axis.set_xticks(range(len(table)), [f"{row['pet share']}\nn = {row['pictures']}" for _, row in table.iterrows()])
    axis.set(
        title="Scores by size of the pet, border ignored",
        xlabel="how much of the picture is pet",
        ylabel="score",
        ylim=(0, 1),
    )
    axis.legend()
    return figure


def best_median_worst(counts: np.ndarray) -> tuple[list[int], list[str]]:
    """Return two best, two median and two worst pictures by their own mIoU, border ignored.

    Parameters
    ----------
    counts : ndarray
        ``(n, 5, 3)`` from `metrics.picture_confusions`.

    Returns
    -------
    rows, titles : list
        For `show_predictions`.
    """
    miou = picture_miou(counts, PRIMARY)
    order, middle = np.argsort(miou)[::-1], len(miou) // 2
    rows = [int(row) for row in (*order[:2], *order[middle - 1 : middle + 1], *order[-2:])]
    names = ("best", "second best", "median", "median", "second worst", "worst")
    return rows, [f"{name}\nmIoU {miou[row]:.2f}" for name, row in zip(names, rows, strict=True)]


def show_predictions(pictures: PictureSet, predicted: np.ndarray, rows: list[int], titles: list[str]) -> Figure:
    """Show pictures above their true and predicted masks ``uint8 (n, size, size)``, one column each."""
    lines = [
        blank_padding(pictures, rows),
        with_masks(pictures, rows, pictures.labels),
        with_masks(pictures, rows, predicted),
    ]
    figure = picture_grid(lines, titles, ["picture", "true", "predicted"])
    class_legend(figure)
    return figure
