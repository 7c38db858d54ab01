"""Charts of scores with their intervals."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from petseg_utils.experiments.plotting import MODEL_COLOURS, new_figure
from petseg_utils.models.names import encoder_title, titled
from petseg_utils.scores.results import CLICKED, PROMPTED, SCORE_NAMES

COLOURS = MODEL_COLOURS | {CLICKED: MODEL_COLOURS[PROMPTED]}


def axis_titles(table: pd.DataFrame) -> list[str]:
    """Return the labels of a table's models for an axis, with the encoder on a second line."""
    titles = []
    for name, encoder in zip(table["model"], table["encoder"], strict=True):
        below = f"\non {encoder_title(encoder)}" if isinstance(encoder, str) else ""
        titles.append(titled(name) + below)
    return titles


def scores_chart(table: pd.DataFrame) -> Figure:
    """Draw scores with 95 % intervals of a `results_table` of one protocol, one panel per score, the best model on top.

    With several seeds, a thin line beside each whisker spans them.  The click model is left out: before a click, its
    masks are those of the decoder that it is built on.
    """
    order = table[table["model"] != PROMPTED].sort_values("mIoU", ascending=False)
    rows = np.arange(len(order))[::-1].astype(float)
    figure, axes = new_figure(1, len(SCORE_NAMES), width=10, height=1.2 + 0.5 * len(order), sharey=True)
    for axis, name in zip(axes, SCORE_NAMES.values(), strict=True):
        value = order[name].to_numpy()
        spans = [value - order[f"{name} low"], order[f"{name} high"] - value]
        axis.errorbar(value, rows, xerr=spans, fmt="none", ecolor="#555555", capsize=3)
        axis.scatter(value, rows, color=order["model"].map(COLOURS), zorder=3)
        axis.hlines(rows - 0.22, order[f"{name} min"], order[f"{name} max"], color="black", linewidth=1.5)
        axis.set(title=name, yticks=rows, yticklabels=axis_titles(order), ylim=(-0.7, len(order) - 0.4))
        axis.locator_params(axis="x", nbins=4)
        axis.margins(x=0.1)
    return figure


def score_intervals(table: pd.DataFrame) -> Figure:
    """Draw scores with 95 % intervals, one panel per score, one row per protocol of a `results_table`, model by model.

    The figure is narrow enough for a phone.
    """
    lines: list[tuple[str, pd.Series | None]] = []
    for (model, study), rows in table.groupby(["model", "study"], sort=False):
        lines.append((f"{titled(model)}, {study}", None))
        lines += [(row["protocol"], row) for _, row in rows.iterrows()]
    figure, axes = new_figure(2, 2, width=5.2, height=2 * (0.7 + 0.2 * len(lines)), sharey=True)
    for axis, name in zip(axes.flat, SCORE_NAMES.values(), strict=True):
        for place, (_, row) in enumerate(lines):
            if row is not None:
                axis.plot([row[f"{name} low"], row[f"{name} high"]], [place] * 2, "|-", color="#555555", markersize=5)
                axis.plot(row[name], place, "o", color=COLOURS[row["model"]], markersize=5)
        axis.set(title=name, yticks=range(len(lines)), yticklabels=[label for label, _ in lines])
        axis.set_ylim(len(lines) - 0.4, -0.6)
        axis.tick_params(axis="y", length=0, labelsize=8.5)
        axis.xaxis.set_major_locator(MaxNLocator(3, prune="both"))
    for axis in axes[:, 0]:
        for label, (_, row) in zip(axis.get_yticklabels(), lines, strict=True):
            label.set_fontweight("bold" if row is None else "normal")
    return figure
