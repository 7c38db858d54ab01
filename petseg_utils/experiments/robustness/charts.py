"""The figures of notebook 06: curves, losses, the ranking, and pictures as severity grows."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import nn

from petseg_utils.data.pictures import PictureSet
from petseg_utils.experiments.plotting import (
    MODEL_COLOURS,
    class_legend,
    masked,
    new_figure,
    picture_grid,
    write_in_cells,
)
from petseg_utils.experiments.robustness.corruptions import LEVELS, REFERENCE_SIZE, TITLES
from petseg_utils.experiments.robustness.sweep import HELPED, largest_scale, perturbed, predict_cases
from petseg_utils.experiments.robustness.tables import CLAIMED, model_title
from petseg_utils.scores.results import PROMPTED

COLOURS = MODEL_COLOURS | {HELPED: MODEL_COLOURS[PROMPTED]}
STYLES = {HELPED: "--"}
SHOWN = (0, 3, 6, 9)  # of the ten levels, those shown in strips of pictures


def curve_grid(table: pd.DataFrame, score: str = "mIoU") -> Figure:
    """Draw one panel per perturbation: a score of each model by level, with 95 % intervals as bands.

    Parameters
    ----------
    score : str
        ``mIoU`` or ``dice``; for Dice, the claimed 0.9 is drawn as well.
    """
    table = table[table["score"] == score]
    figure, axes = new_figure(3, 4, width=12.5, height=8.6, sharey=True)
    for axis, kind in zip(axes.flat, LEVELS, strict=True):
        for model, group in table[table["corruption"] == kind].groupby("model", sort=False):
            look = {"color": COLOURS[model], "linestyle": STYLES.get(model, "-"), "linewidth": 1.4}
            axis.plot(group["level"], group["value"], label=model_title(model), **look)
            axis.fill_between(group["level"], group["low"], group["high"], color=COLOURS[model], alpha=0.12, lw=0)
        if score == "dice":
            axis.axhline(CLAIMED, color="#333333", linewidth=1, linestyle=":")
        title, unit = TITLES[kind]
        axis.set(title=title, xlabel=unit, xlim=(LEVELS[kind][0], LEVELS[kind][-1]), ylim=(0, 1))
    for axis in axes[:, 0]:
        axis.set_ylabel("mIoU" if score == "mIoU" else "mean Dice")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


def loss_heatmap(loss: pd.DataFrame) -> Figure:
    """Draw the share of the unperturbed mIoU lost at the worst level of each perturbation, from `relative_loss`."""
    figure, axis = new_figure(width=11, height=1.9 + 0.42 * len(loss))
    axis.imshow(loss, cmap="Reds", vmin=0, vmax=1, aspect="auto")
    write_in_cells(axis, loss.to_numpy(), ".0%")
    names = [f"{TITLES[kind][0]}\n{_short(kind)}" for kind in loss.columns]
    axis.set_xticks(range(len(names)), names, fontsize=8, rotation=35, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(loss)), loss.index.map(model_title))
    axis.set_title("Share of the unperturbed mIoU that is lost at the worst level")
    axis.grid(False)
    return figure


def _short(kind: str) -> str:
    """Say how far a perturbation's levels go; the worst level, which charts show, may come before the last one."""
    signs = {
        "gaussian_noise": "sigma {}",
        "blur": "{} passes",
        "contrast_up": "x {}",
        "contrast_down": "x {}",
        "brightness_up": "+ {}",
        "brightness_down": "- {}",
        "occlusion": f"{{}} px of {REFERENCE_SIZE}",
        "salt_and_pepper": "a share of {}",
        "jpeg": "quality {}",
        "rotation": "{} degrees at most",
        "scale": "x {}",
    }
    return "to " + signs[kind].format(LEVELS[kind][-1])


def ranking_chart(table: pd.DataFrame) -> Figure:
    """Draw what each model keeps of its own mIoU, from `ranking` (left), and the mIoU it is left with (right)."""
    figure, (left, right) = new_figure(1, 2, width=10, height=1.1 + 0.42 * len(table), sharey=True)
    rows = np.arange(len(table))[::-1]
    colours = table["model"].map(COLOURS)
    spans = [table["kept"] - table["low"], table["high"] - table["kept"]]
    left.errorbar(table["kept"], rows, xerr=spans, fmt="none", ecolor="#555555", capsize=3)
    left.scatter(table["kept"], rows, color=colours, zorder=3)
    left.set(title="Kept of the unperturbed mIoU", xlabel="share, mean over eight perturbations", yticks=rows)
    left.set_yticklabels(table["model"].map(model_title))
    right.hlines(rows, table["mean"], table["clean"], color="#999999")
    right.scatter(table["clean"], rows, facecolor="white", edgecolor=colours, zorder=3)
    right.scatter(table["mean"], rows, color=colours, zorder=3)
    right.set(title="What is left (full dot) of the unperturbed (ring)", xlabel="mIoU")
    return figure


def show_levels(pictures: PictureSet, row: int, kinds: tuple[str, ...]) -> Figure:
    """Show one picture at the `SHOWN` levels of some perturbations, one row each."""
    picture = pictures.subset([pictures.table["name"].iloc[row]])
    lines = [[perturbed(picture, kind, LEVELS[kind][at])[0][0] for at in SHOWN] for kind in kinds]
    return picture_grid(lines, [f"level {at}" for at in SHOWN], [TITLES[kind][0] for kind in kinds], size=1.35)


def strip(networks: dict[str, nn.Module], pictures: PictureSet, row: int, kind: str) -> Figure:
    """Show one picture as a perturbation grows, and each model's mask of it; the click model's is after one click.

    Parameters
    ----------
    kind : str
        One of `corruptions.ORIGINAL`.
    """
    picture = pictures.subset([pictures.table["name"].iloc[row]])
    levels = [LEVELS[kind][at] for at in SHOWN]
    names = [HELPED if name == PROMPTED else name for name in networks]
    lines: list[list[np.ndarray]] = [[] for _ in range(1 + len(names))]
    scale = largest_scale(networks)
    for level in levels:
        images, labels = perturbed(picture, kind, level, scale)
        classes = predict_cases(networks, [(name, kind, level) for name in names], picture, images, labels)
        image = images[0, ::scale, ::scale]
        for line, mask in zip(lines, (0, *(masks[0] for masks in classes.values())), strict=True):
            line.append(masked(image, labels[0], mask))
    title = TITLES[kind][0]
    figure = picture_grid(
        lines,
        [f"{title}, {level:g}" for level in levels],
        ["picture", *(textwrap.fill(model_title(name), 14) for name in names)],
        size=1.25,
    )
    class_legend(figure, ("cat", "dog"))
    return figure
