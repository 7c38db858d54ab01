"""Where do the models still fail?  Breeds, sizes and the hardest pictures, with all models side by side."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from petseg_utils.data.labels import SPECIES
from petseg_utils.data.pictures import PictureSet
from petseg_utils.experiments.comparisons import Remade
from petseg_utils.experiments.error_analysis import scores_by_size
from petseg_utils.experiments.plotting import blank_padding, class_legend, new_figure, picture_grid, with_masks
from petseg_utils.experiments.score_charts import COLOURS
from petseg_utils.models.names import titled
from petseg_utils.scores.metrics import picture_miou, protocol_matrix, scores
from petseg_utils.scores.results import CLICKED, PRIMARY


def breed_table(remade: dict[str, Remade], pictures: PictureSet) -> pd.DataFrame:
    """Return the IoU of each breed's own species per model, border ignored; naming the other species counts as a miss.

    Returns
    -------
    DataFrame
        Index ``breed``; ``species``, ``pictures``, and a column per model, sorted by the mean over models.
    """
    rows = []
    for breed, group in pictures.table.groupby("breed"):
        species = int(group["species"].iloc[0])
        row = {"breed": breed, "species": SPECIES[species], "pictures": len(group)}
        for name, entry in remade.items():
            matrix = protocol_matrix(entry.counts[group.index].sum(0), PRIMARY)
            row[name] = float(scores(matrix)["iou"][species])
        rows.append(row)
    table = pd.DataFrame(rows).set_index("breed")
    return table.loc[table[list(remade)].mean(axis=1).sort_values().index]


def what_went_wrong(counts: np.ndarray, species: int) -> str:
    """Name the largest kind of mistake in one picture's prediction, from its counts ``(5, 3)``.

    It compares pet pixels that were missed, pet pixels that got the other species' name, and background pixels that
    were taken for pet; the border is left out.
    """
    matrix = protocol_matrix(counts, PRIMARY)
    other = SPECIES[3 - species]
    kinds = {
        "part of it missed": matrix[species, 0],
        f"called a {other}": matrix[species, 3 - species],
        "background taken for pet": matrix[0, 1:].sum(),
    }
    pet = max(1, matrix[species].sum())
    if matrix[species, 0] > 0.8 * pet:
        return "not found"
    if max(kinds.values()) < 0.05 * pet:
        return "the outline only"
    return max(kinds, key=lambda kind: kinds[kind])


def mistakes_of(pictures: PictureSet, counts: np.ndarray) -> pd.Series:
    """Return `what_went_wrong` in each picture, from its counts ``(n, 5, 3)``."""
    return pd.Series([what_went_wrong(*pair) for pair in zip(counts, pictures.table["species"], strict=True)])


def mistake_counts(remade: dict[str, Remade], pictures: PictureSet) -> pd.DataFrame:
    """Count how often each kind of mistake is the largest, per model, by `what_went_wrong`; first seeds only."""
    columns = {}
    other = {f"called a {species}": "the other species" for species in SPECIES.values()}
    for name, entry in remade.items():
        columns[name] = mistakes_of(pictures, entry.by_seed[0]).replace(other).value_counts()
    return pd.DataFrame(columns).fillna(0).astype(int)


def breeds_chart(table: pd.DataFrame) -> Figure:
    """Draw the IoU of each breed's own species per model for the twelve hardest breeds of `breed_table`."""
    part = table.iloc[:12]
    figure, axis = new_figure(width=8.5, height=1.1 + 0.4 * len(part))
    rows, models = np.arange(len(part))[::-1], part.columns.drop(["species", "pictures"])
    offsets = np.linspace(0.27, -0.27, len(models))  # one below the other, as two of them may be equal
    for column, offset in zip(models, offsets, strict=True):
        axis.scatter(part[column], rows + offset, color=COLOURS[column], s=26, label=titled(column))
    names = [f"{breed}, {row['species']}, n = {row['pictures']}" for breed, row in part.iterrows()]
    axis.set(yticks=rows, yticklabels=names, xlim=(-0.02, 1.02), xlabel="IoU of the breed's own species")
    axis.set_title(f"The {len(part)} hardest of {len(table)} breeds")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def sizes_chart(remade: dict[str, Remade], pictures: PictureSet) -> Figure:
    """Draw the mIoU by the pet's share of the picture, one line for each model that takes no clicks."""
    figure, axis = new_figure(height=3.2)
    for name in [name for name in remade if name != CLICKED]:
        table = scores_by_size(pictures, remade[name].classes)
        axis.plot(table["pet share"], table["mIoU"], "o-", color=COLOURS[name], label=titled(name))
    axis.set_xticks(range(len(table)), [f"{row['pet share']}\nn = {row['pictures']}" for _, row in table.iterrows()])
    axis.set(title="Scores by size of the pet", xlabel="how much of the picture is pet", ylabel="mIoU", ylim=(0, 1))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure


def hardest(remade: dict[str, Remade]) -> np.ndarray:
    """Return the rows of the six pictures with the lowest mIoU, mean over models that take no clicks, hardest first."""
    each = [picture_miou(entry.counts, PRIMARY) for name, entry in remade.items() if name != CLICKED]
    return np.argsort(np.nanmean(each, axis=0))[:6]


def failure_gallery(remade: dict[str, Remade], pictures: PictureSet, rows: np.ndarray) -> Figure:
    """Show pictures, their true masks and each model's, one column per picture, naming each mask's largest mistake."""
    each = (pictures.labels, *(entry.classes for entry in remade.values()))
    images = [blank_padding(pictures, rows), *(with_masks(pictures, rows, masks) for masks in each)]
    species = pictures.table["species"].to_numpy()
    titles = [f"{pictures.table['breed'][row]}, {SPECIES[species[row]]}" for row in rows]
    names = ["picture", "true", *(textwrap.fill(titled(name), 14) for name in remade)]
    figure = picture_grid(images, titles, names, size=1.5)
    axes = np.array(figure.axes).reshape(len(images), len(rows))
    for line, entry in enumerate(remade.values(), 2):
        for column, row in enumerate(rows):
            mistake = what_went_wrong(entry.by_seed[0][row], species[row])
            axes[line, column].set_xlabel(mistake, fontsize=7, labelpad=1)
    class_legend(figure)
    return figure
