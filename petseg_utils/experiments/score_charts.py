"""Charts of scores with their intervals."""

from collections import defaultdict

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from petseg_utils.experiments.plotting import MODEL_COLOURS, new_figure
from petseg_utils.models.names import encoder_title, titled
from petseg_utils.scores.results import CLICKED, PROMPTED, SCORE_NAMES

COLOURS = defaultdict(
    lambda: "#555555", MODEL_COLOURS | {CLICKED: MODEL_COLOURS[PROMPTED]}
)  # somebody's own model is dark grey


def axis_titles(table: pd.DataFrame) -> list[str]:
    """A table's models for the labels of an axis: the encoder on a second line."""
    titles = []
    for name, encoder in zip(table["model"], table["encoder"], strict=True):
        below = f"\non {encoder_title(encoder)}" if isinstance(encoder, str) else ""
        titles.append(titled(name) + below)
    return titles


def scores_chart(table: pd.DataFrame) -> Figure:
    """Scores with 95 % intervals of a `results_table` of one protocol, a panel a score, the best model on top.

    A thin line beside each whisker spans the seeds, where there are several.  The click model is left out: before a
    click its masks are those of the decoder that it stands on.
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
    """Scores with their 95 % intervals, a panel per score, a row per study and protocol of a `results_table`."""
    figure, axes = new_figure(1, len(SCORE_NAMES), width=9.5, height=0.9 + 0.34 * len(table), sharey=True)
    rows = np.arange(len(table))[::-1]
    models = table["model"].map(titled) + ", " if table["model"].nunique() > 1 else ""
    for axis, name in zip(axes, SCORE_NAMES.values(), strict=True):
        value = table[name].to_numpy()
        spans = [value - table[f"{name} low"], table[f"{name} high"] - value]
        axis.errorbar(value, rows, xerr=spans, fmt="none", ecolor="#555555", capsize=3)
        axis.scatter(value, rows, color=table["model"].map(COLOURS), zorder=3)
        labels = models + table["study"] + ", " + table["protocol"]
        axis.set(title=name, yticks=rows, yticklabels=labels, ylim=(-0.6, len(table) - 0.4))
        axis.xaxis.set_major_locator(MaxNLocator(3, prune="both"))
    return figure
