"""The figures of notebook 07.  Each returns a figure for `plotting.save_figure`."""

from collections import defaultdict

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from petseg_utils.charts import scores_by_size
from petseg_utils.comparisons import CLICKED, Remade, what_went_wrong
from petseg_utils.metrics import PADDING, picture_miou
from petseg_utils.pictures import PictureSet
from petseg_utils.plotting import MODEL_COLOURS, SPECIES, blank_padding, class_legend, new_figure, overlay, picture_grid
from petseg_utils.published import highest_dice
from petseg_utils.results import PRIMARY, PROMPTED, SCORE_NAMES

GREY = "#8C8C8C"
COLOURS = defaultdict(lambda: "#555555", MODEL_COLOURS | {CLICKED: "#0B3C5D"})  # somebody's own model is dark grey


def model_names(table: pd.DataFrame) -> list[str]:
    """Model names for axes, with the encoder, and a dagger on the prompted one."""
    encoders = table["encoder"].where(table["encoder"].notna(), "")
    pairs = zip(table["model"], encoders, strict=True)
    return [f"{model}{' †' if model == PROMPTED else ''}" + (f"\n{name}" if name else "") for model, name in pairs]


def scores_chart(table: pd.DataFrame) -> Figure:
    """Scores with 95 % intervals of a `results_table` of one protocol, a panel a score, the best model on top.

    A thin line beside each whisker spans the seeds, where there are several.  The prompted model stands below a rule.
    """
    order = table.assign(helped=table["model"] == PROMPTED).sort_values(["helped", "mIoU"], ascending=[True, False])
    rows = np.arange(len(order))[::-1].astype(float)
    figure, axes = new_figure(1, len(SCORE_NAMES), width=10, height=1.2 + 0.5 * len(order), sharey=True)
    for axis, name in zip(axes, SCORE_NAMES.values(), strict=True):
        value = order[name].to_numpy()
        spans = [value - order[f"{name} low"], order[f"{name} high"] - value]
        axis.errorbar(value, rows, xerr=spans, fmt="none", ecolor="#555555", capsize=3)
        axis.scatter(value, rows, color=[COLOURS[model] for model in order["model"]], zorder=3)
        axis.hlines(rows - 0.22, order[f"{name} min"], order[f"{name} max"], color="black", linewidth=1.5)
        axis.set(title=name, yticks=rows, yticklabels=model_names(order), ylim=(-0.7, len(order) - 0.4))
        axis.locator_params(axis="x", nbins=4)
        axis.margins(x=0.1)
        if order["helped"].any() and not order["helped"].all():
            axis.axhline(order["helped"].sum() - 0.5, color=GREY, linewidth=1, linestyle=":")
    return figure


def cost_chart(table: pd.DataFrame) -> Figure:
    """Quality against cost: mIoU against milliseconds a picture; the area of a dot grows with the number of parameters.

    Parameters
    ----------
    table : DataFrame
        From `comparisons.timing_table`, or rows with the same columns made from records.
    """
    figure, axis = new_figure(width=8.5, height=3.6)
    areas = 40 + 500 * table["parameters"] / table["parameters"].max()
    for (_, row), area, name in zip(table.iterrows(), areas, model_names(table), strict=True):
        label = f"{name}\n{row['parameters'] / 1e6:.2f} M weights, {row['ms']:.1f} ms"
        axis.scatter(row["ms"], row["mIoU"], s=area, color=COLOURS[row["model"]], alpha=0.75, label=label)
    low = table["mIoU"].min()
    axis.set(xlim=(0, 1.15 * table["ms"].max()), ylim=(low - 0.25 * (1 - low), 1))
    axis.set(title="Quality against cost", xlabel="ms a picture, batches of 16", ylabel="mIoU, border ignored")
    legend = figure.legend(*axis.get_legend_handles_labels(), loc="outside right center", fontsize=8, labelspacing=1)
    for handle in legend.legend_handles:
        handle.set_sizes([40])  # the dots' own sizes would overlap in the list
    return figure


def pairs_chart(pairs: pd.DataFrame) -> Figure:
    """Differences of a `comparisons.paired_table` with their intervals; grey where not shown to be real."""
    figure, axis = new_figure(width=8.5, height=1.1 + 0.32 * len(pairs))
    rows = np.arange(len(pairs))[::-1]
    colours = ["#0072B2" if real else GREY for real in pairs["real"]]
    axis.hlines(rows, pairs["low"], pairs["high"], colors=colours, linewidth=2)
    axis.scatter(pairs["difference"], rows, color=colours, zorder=3)
    axis.axvline(0, color="black", linewidth=1)
    names = [f"{row['a']} minus {row['b']}{' †' if row['prompted'] else ''}" for _, row in pairs.iterrows()]
    axis.set(yticks=rows, yticklabels=names, ylim=(-0.7, len(pairs) - 0.3))
    axis.set(title="Paired differences in mIoU: blue is real, grey is not shown", xlabel="difference in mIoU")
    return figure


def possible_chart(published: pd.DataFrame, mixed: pd.DataFrame) -> Figure:
    """Which pairs of mIoU and mean Dice one rule of averaging allows, and where the tables' rows lie.

    Parameters
    ----------
    published : DataFrame
        `published.PUBLISHED`.
    mixed : DataFrame
        From `published.mixed_rules`.
    """
    figure, axis = new_figure(width=7.5, height=4.2)
    miou = np.linspace(0, 1, 200)
    axis.fill_between(miou, miou, highest_dice(miou), color="#009E73", alpha=0.25, label="possible")
    axis.scatter(published["mIoU"], published["Dice"], marker="x", s=60, color="#D55E00", label="published")
    for _, row in published.iterrows():
        left = row["mIoU"] > 0.8
        offset = {"xytext": (-8, -12) if left else (7, 5), "ha": "right" if left else "left"}
        axis.annotate(row["model"], (row["mIoU"], row["Dice"]), textcoords="offset points", fontsize=8, **offset)
    looks = {"one rule": ("o", "black"), "mixed": ("^", "#0072B2"), "mixed the other way": ("v", "#CC79A7")}
    for rule, (marker, colour) in looks.items():
        rows = mixed[mixed["rule"] == rule]
        axis.scatter(rows["mIoU"], rows["Dice"], marker=marker, color=colour, s=28, label=f"ours, {rule}")
    axis.set(xlim=(0.1, 1.01), ylim=(0.1, 1.03), xlabel="mIoU", ylabel="mean Dice")
    axis.set_title("Which pairs of scores are possible?")
    axis.legend(loc="lower right", fontsize=8)
    return figure


def breeds_chart(table: pd.DataFrame, shown: int = 12) -> Figure:
    """IoU of each breed's own species by model, the hardest breeds first, from `comparisons.breed_table`."""
    part = table.iloc[:shown]
    figure, axis = new_figure(width=8.5, height=1.1 + 0.3 * len(part))
    rows = np.arange(len(part))[::-1]
    for model in part.columns.drop(["species", "pictures"]):
        axis.scatter(part[model], rows, color=COLOURS[model], s=34, alpha=0.85, label=model)
    names = [f"{breed}, {row['species']}, n = {row['pictures']}" for breed, row in part.iterrows()]
    axis.set(yticks=rows, yticklabels=names, xlim=(-0.02, 1.02), xlabel="IoU of the breed's own species")
    axis.set_title(f"The {len(part)} hardest of {len(table)} breeds")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def sizes_chart(found: dict[str, Remade], pictures: PictureSet, edges: tuple[float, ...]) -> Figure:
    """The mIoU by how much of the picture is pet, a line per model that nobody helped."""
    figure, axis = new_figure(height=3.2)
    for name in [name for name in found if name != CLICKED]:
        table = scores_by_size(pictures, found[name].classes, edges)
        axis.plot(table["pet share"], table["mIoU"], "o-", color=COLOURS[name], label=name)
    axis.set_xticks(range(len(table)), [f"{row['pet share']}\nn = {row['pictures']}" for _, row in table.iterrows()])
    axis.set(title="Scores by size of the pet", xlabel="how much of the picture is pet", ylabel="mIoU", ylim=(0, 1))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure


def hardest(found: dict[str, Remade], n: int = 6) -> np.ndarray:
    """Rows of the pictures with the lowest mIoU, mean over the models that nobody helped, hardest first."""
    each = [picture_miou(one.counts, PRIMARY) for name, one in found.items() if name != CLICKED]
    return np.argsort(np.nanmean(each, axis=0))[:n]


def failure_gallery(found: dict[str, Remade], pictures: PictureSet, rows: np.ndarray) -> Figure:
    """Pictures, their true masks and what each model says, a column a picture, with a word on each mistake."""
    images = [
        [blank_padding(pictures, row) for row in rows],
        [overlay(pictures.images[row], pictures.labels[row]) for row in rows],
    ]
    species = pictures.table["species"].to_numpy()
    for one in found.values():
        masks = [np.where(pictures.labels[row] == PADDING, PADDING, one.classes[row]) for row in rows]
        images.append([overlay(pictures.images[row], mask) for row, mask in zip(rows, masks, strict=True)])
    titles = [f"{pictures.table['breed'][row]}, {SPECIES[species[row]]}" for row in rows]
    names = ["picture", "true", *(name.replace(", ", ",\n").replace("_", "_\n") for name in found)]
    figure = picture_grid(images, titles, names, size=1.5)
    axes = np.reshape(figure.axes, (len(images), len(rows)))
    for line, one in enumerate(found.values(), 2):
        for column, row in enumerate(rows):
            said = what_went_wrong(one.by_seed[0][row], species[row])
            axes[line, column].set_xlabel(said, fontsize=7, labelpad=1)
    class_legend(figure)
    return figure
