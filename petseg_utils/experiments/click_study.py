"""What does a click buy, and does it matter where it falls?  Experiments with the first prompt, and their charts."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from petseg_utils.data.pictures import PictureSet
from petseg_utils.experiments.plotting import GREY, MODEL_COLOURS, masked, new_figure, picture_grid
from petseg_utils.models.click_head import PointSegmenter
from petseg_utils.models.feature_cache import Features
from petseg_utils.models.prompts import (
    CHANNELS,
    SIGMA,
    Prompt,
    centre_click,
    deepest_click,
    jitter,
    loose_box,
    random_click,
    random_scribble,
)
from petseg_utils.scores.clicks import dialogue, open_pictures, proposals, select
from petseg_utils.scores.intervals import mean_interval

COLOUR, PLAIN = MODEL_COLOURS["point"], MODEL_COLOURS["decoder"]
KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], list[Prompt]]] = {
    "nothing": lambda pet, rng: [],
    "click at the centre": lambda pet, rng: [centre_click(pet)],
    "click at random": lambda pet, rng: [random_click(pet, rng)],
    "three clicks at random": lambda pet, rng: [random_click(pet, rng) for _ in range(3)],
    "scribble": lambda pet, rng: [random_scribble(pet, rng)],
    "loose box": lambda pet, rng: [loose_box(pet, rng)],
}


def near_the_centre(reach: float) -> Callable[[np.ndarray, np.random.Generator], list[Prompt]]:
    """A user who clicks on the pet at most `reach` model pixels off its centre."""
    return lambda pet, rng: [jitter(centre_click(pet), pet, reach, rng)]


def iou_after(
    prompt: Callable[[np.ndarray, np.random.Generator], list[Prompt]],
    model: PointSegmenter,
    pictures: PictureSet,
    features: Features | None = None,
    sigma: float = SIGMA,
) -> np.ndarray:
    """IoU of each pet after the first answer, ``float (n,)``.

    Parameters
    ----------
    prompt : callable
        ``prompt(pet, rng)``: the prompts for a pet ``bool (H, W)``.
    model, pictures, features, sigma
        As for `clicks.dialogue`.
    """
    values = np.full(len(pictures), np.nan)
    for opened in open_pictures(model, pictures, features):
        rows = zip(opened.pets, opened.rows, strict=True)
        first = [prompt(pet, np.random.default_rng([7, row])) if pet.any() else [] for pet, row in rows]
        values[opened.part] = dialogue(model, opened, first, 1, sigma=sigma)[0]
    return values


def summary(by: dict[object, np.ndarray], name: str, n_resamples: int) -> pd.DataFrame:
    """Means of pictures' values and their 95 % bootstrap intervals.

    Parameters
    ----------
    by : dict
        Key to values ``(n,)``; NaNs are left out.
    name : str
        What the keys are.
    n_resamples : int
        Bootstrap resamples of pictures.

    Returns
    -------
    DataFrame
        A row per key; columns `name`, ``iou``, ``low`` and ``high``.
    """
    rows = [(key, *mean_interval(values, n_resamples)) for key, values in by.items()]
    return pd.DataFrame(rows, columns=[name, "iou", "low", "high"])


def show_maps(maps: np.ndarray) -> Figure:
    """The channels ``float (4, size, size)`` that `prompts.draw_prompts` makes, side by side."""
    figure, axes = new_figure(1, len(maps), width=9, height=2.6)
    for axis, channel, name in zip(axes, maps, CHANNELS, strict=True):
        axis.imshow(channel, cmap="cividis", vmin=0, vmax=1)
        axis.set(title=name, xticks=[], yticks=[])
        axis.grid(False)
    return figure


def clicks_curve(values: dict[str, np.ndarray], plain: np.ndarray, n_resamples: int) -> Figure:
    """Left: IoU of the pet by number of clicks.  Right: share of the pictures that have reached an IoU by then.

    Parameters
    ----------
    values : dict
        From `clicks.click_values`.
    plain : ndarray
        ``float (n,)``, IoU of the decoder without prompts.
    n_resamples : int
        Bootstrap resamples of pictures.
    """
    figure, (left, right) = new_figure(1, 2, width=9, height=3.3)
    after = [values["proposed"], *np.nanmean(values["iou"], 0)]
    table = summary(dict(enumerate(after)), "clicks", n_resamples)
    left.plot(table["clicks"], table["iou"], "o-", color=COLOUR, label="click model")
    left.fill_between(table["clicks"], table["low"], table["high"], color=COLOUR, alpha=0.2)
    left.axhline(np.nanmean(plain), color=PLAIN, linestyle="--", label="decoder without prompts")
    low = min(table["low"].min(), np.nanmean(plain)) - 0.02
    left.set(title="IoU of the pet", xlabel="clicks, the first at random", ylabel="mean IoU", ylim=(low, 1))
    left.legend(loc="lower right")
    shown = values["centre"][:10]
    for target, style in ((0.85, "-"), (0.90, "--")):
        reached = np.maximum.accumulate(shown >= target, 0).mean(1)
        right.plot(range(1, len(shown) + 1), reached, style, color=COLOUR, label=f"IoU {target:.2f}")
    right.set(title="Pictures that have got there", xlabel="clicks, the first at the centre", ylim=(0, 1.02))
    right.legend(loc="lower right")
    return figure


def gain_chart(plain: np.ndarray, clicked: np.ndarray) -> Figure:
    """IoU of each pet without help against after one click; above the diagonal the click helped."""
    figure, axis = new_figure(width=4.6, height=4.2)
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    axis.scatter(plain, clicked, s=14, color=COLOUR, alpha=0.6, edgecolor="none")
    axis.set(xlabel="IoU of the decoder without prompts", ylabel="IoU after one click", xlim=(0, 1.01), ylim=(0, 1.01))
    axis.set_title("What a click buys, picture by picture")
    return figure


def first_prompt_charts(by_reach: pd.DataFrame, by_sigma: pd.DataFrame, by_kind: pd.DataFrame) -> Figure:
    """Three panels from `summary` tables: how far off the centre, how wide a click is drawn, what kind of prompt."""
    figure, (left, middle, right) = new_figure(1, 3, width=11, height=3.3)
    for axis, table, name in ((left, by_reach, "reach"), (middle, by_sigma, "sigma")):
        axis.plot(table[name], table["iou"], "o-", color=COLOUR)
        axis.fill_between(table[name], table["low"], table["high"], color=COLOUR, alpha=0.2)
    low = min(by_reach["low"].min(), by_sigma["low"].min(), by_kind["low"].min()) - 0.02
    left.set(title="A click off the centre", xlabel="at most so many model pixels", ylabel="IoU", ylim=(low, 1))
    middle.set(title="Width of the drawn click", xlabel="sigma, model pixels", ylim=(low, 1))
    middle.set(xscale="log", xticks=by_sigma["sigma"], xticklabels=[f"{value:g}" for value in by_sigma["sigma"]])
    middle.minorticks_off()
    rows = np.arange(len(by_kind))
    spans = [by_kind["iou"] - by_kind["low"], by_kind["high"] - by_kind["iou"]]
    right.errorbar(by_kind["iou"], rows, xerr=spans, fmt="o", color=COLOUR, ecolor="#333333", capsize=3)
    for row, value in zip(rows, by_kind["iou"], strict=True):
        right.annotate(f"{value:.3f}", (value, row), (0, 6), textcoords="offset points", ha="center", fontsize=8)
    right.set(
        title="What is said", xlabel="IoU", yticks=rows, yticklabels=by_kind["kind"], ylim=(-0.7, len(rows) - 0.5)
    )
    right.grid(False, axis="y")
    right.invert_yaxis()
    return figure


def show_corrections(model: PointSegmenter, pictures: PictureSet, features: Features | None = None) -> Figure:
    """What one click on a missed part does, step by step: the true mask, the proposal with the click, the answer.

    Shown are the four pictures whose proposal misses the deepest parts; see `clicks.natural_clicks`.
    """
    steps = []
    for opened in open_pictures(model, pictures, features):
        proposed = proposals(opened)
        parts = opened.pets & (proposed <= 0.5) & opened.counted
        clicks = [deepest_click(part) for part in parts]
        answers = select(model, opened, [[click] for _, click in clicks], proposed) > 0.5
        for row, (depth, click) in enumerate(clicks):
            if opened.pets[row].any():
                steps.append((depth, opened.rows[row], click, proposed[row] > 0.5, answers[row]))
    steps = sorted(steps, key=lambda step: -step[0])[:4]
    species = pictures.table["species"].to_numpy()
    lines: list[list[np.ndarray]] = [[], [], []]
    for _, row, _, before, after in steps:
        image, label = pictures.images[row], pictures.labels[row]
        for line, mask in zip(lines, (label, before * species[row], after * species[row]), strict=True):
            line.append(masked(image, label, mask))
    figure = picture_grid(lines, [""] * len(steps), ["true", "proposed,\nand a click", "answer"], size=2.0)
    for column, (_, _, click, _, _) in enumerate(steps):
        for row in (1, 2):
            axis = figure.axes[row * len(steps) + column]
            axis.plot(click.x, click.y, "o", color="#007A5A", markeredgecolor="white", markersize=7)
    return figure


def natural_chart(values: dict[str, np.ndarray]) -> Figure:
    """IoU of each pet before and after one natural click, on a missed part (left) and on an excess (right).

    Parameters
    ----------
    values : dict
        From `clicks.click_values`.
    """
    figure, axes = new_figure(1, 2, width=8.5, height=4)
    titles = {"missed": '"This is the pet", on what is missing', "excess": '"This is not", on what is too much'}
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=1)
        axis.scatter(*values[name], s=16, color=COLOUR, alpha=0.7, edgecolor="none")
        axis.set(
            title=title, xlabel="IoU of the proposal", ylabel="IoU after the click", xlim=(0, 1.01), ylim=(0, 1.01)
        )
    return figure
