"""What does a click gain, and does it matter where it falls?  Experiments with the first prompt, and their charts."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from petseg_utils.data.labels import PADDING
from petseg_utils.data.pictures import PictureSet
from petseg_utils.experiments.plotting import GREY, MODEL_COLOURS, masked, new_figure, picture_grid
from petseg_utils.models.click_head import PointSegmenter
from petseg_utils.models.feature_cache import Features
from petseg_utils.models.prompts import (
    CHANNELS,
    SIGMA,
    Click,
    Prompt,
    centre_click,
    deepest_click,
    jitter,
    loose_box,
    random_click,
    random_scribble,
)
from petseg_utils.scores.clicks import dialogue, open_pictures, picture_iou, proposals, select
from petseg_utils.scores.intervals import mean_interval, told_apart, with_interval

COLOUR = MODEL_COLOURS["point"]
KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], list[Prompt]]] = {
    "nothing": lambda pet, rng: [],
    "click at the centre": lambda pet, rng: [centre_click(pet)],
    "click at random": lambda pet, rng: [random_click(pet, rng)],
    "three clicks at random": lambda pet, rng: [random_click(pet, rng) for _ in range(3)],
    "scribble": lambda pet, rng: [random_scribble(pet, rng)],
    "loose box": lambda pet, rng: [loose_box(pet, rng)],
}


def near_the_centre(reach: float) -> Callable[[np.ndarray, np.random.Generator], list[Prompt]]:
    """Return a simulated user who clicks on the pet, at most `reach` model pixels from its centre."""
    return lambda pet, rng: [jitter(centre_click(pet), pet, reach, rng)]


def iou_after(
    prompt: Callable[[np.ndarray, np.random.Generator], list[Prompt]],
    model: PointSegmenter,
    pictures: PictureSet,
    features: Features | None = None,
    sigma: float = SIGMA,
) -> np.ndarray:
    """Return the IoU of each pet after the first prompts are answered, ``float (n,)``.

    Parameters
    ----------
    prompt : callable
        ``prompt(pet, rng)`` returns the prompts for a pet ``bool (H, W)``.
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
    """Return the mean of each group of per-picture values, with its 95 % bootstrap interval.

    Parameters
    ----------
    by : dict
        Key to values ``(n,)``; NaNs are left out.
    name : str
        What the keys are; the title of their column.

    Returns
    -------
    DataFrame
        One row per key; columns `name`, ``iou``, ``low`` and ``high``.
    """
    rows = [(key, *mean_interval(values, n_resamples)) for key, values in by.items()]
    return pd.DataFrame(rows, columns=[name, "iou", "low", "high"])


def show_maps(maps: np.ndarray) -> Figure:
    """Show the channels ``float (4, size, size)`` that `prompts.draw_prompts` makes, side by side."""
    figure, axes = new_figure(1, len(maps), width=9, height=2.6)
    for axis, channel, name in zip(axes, maps, CHANNELS, strict=True):
        axis.imshow(channel, cmap="cividis", vmin=0, vmax=1)
        axis.set(title=name, xticks=[], yticks=[])
        axis.grid(False)
    return figure


def clicks_curve(values: dict[str, np.ndarray], n_resamples: int) -> Figure:
    """Plot the pet's IoU by number of clicks (left), and the share of pictures that have reached an IoU (right)."""
    figure, (left, right) = new_figure(1, 2, width=9, height=3.3)
    after = [values["proposed"], *np.nanmean(values["iou"], 0)]
    table = summary(dict(enumerate(after)), "clicks", n_resamples)
    left.plot(table["clicks"], table["iou"], "o-", color=COLOUR)
    left.fill_between(table["clicks"], table["low"], table["high"], color=COLOUR, alpha=0.2)
    low = table["low"].min() - 0.02
    left.set(title="IoU of the pet", xlabel="clicks, the first at random", ylabel="mean IoU", ylim=(low, 1))
    shown = values["centre"][:10]
    for target, style in ((0.85, "-"), (0.90, "--")):
        reached = np.maximum.accumulate(shown >= target, 0).mean(1)
        right.plot(range(1, len(shown) + 1), reached, style, color=COLOUR, label=f"IoU {target:.2f}")
    right.set(title="Pictures that have got there", xlabel="clicks, the first at the centre", ylim=(0, 1.02))
    right.legend(loc="lower right")
    return figure


def change_sentence(what: str, change: np.ndarray, n_resamples: int) -> str:
    """Say in a sentence by how much clicks change the pet's IoU, with the verdict that the interval allows.

    Parameters
    ----------
    what : str
        Names the clicks: the subject of the sentence, in the singular.
    change : ndarray
        ``float (n,)``, each picture's IoU afterwards minus its IoU before; NaNs are left out.
    """
    if not np.isfinite(change).any():
        return f"{what}: no picture asks for it here."
    mean, low, high = mean_interval(change, n_resamples)
    verdict = told_apart(low, high, "it rises", "it falls", "no change is shown")
    return (
        f"{what} changes the pet's IoU by **{with_interval(mean, low, high, '+.3f')}** on average over "
        f"{np.isfinite(change).sum()} pictures: {verdict}."
    )


def kind_sentences(by_kind: dict[str, np.ndarray], n_resamples: int, against: str = "click at random") -> str:
    """Compare each kind of first prompt with one of them, picture by picture; a Markdown list."""
    lines = []
    for kind in by_kind:
        if kind == against:
            continue
        mean, low, high = mean_interval(by_kind[kind] - by_kind[against], n_resamples)
        verdict = told_apart(low, high, "better", "worse", "no difference is shown")
        lines.append(f"* {kind}: {with_interval(mean, low, high, '+.3f')}, {verdict}")
    return "\n".join([f"IoU after the first answer, less that after a {against}:", "", *lines])


def show_dialogue(picture: PictureSet, masks: list[np.ndarray], said: list[Click]) -> Figure:
    """Show a dialogue about one picture: each selection with its IoU and the click made on it.

    Parameters
    ----------
    masks : list of ndarray
        ``bool (H, W)``: the proposal, and the selection after each click.
    said : list of Click
        One click fewer than masks, or as many if the last click was not answered.
    """
    image, label = picture.images[0], np.array(picture.labels[0])
    pet, known, species = np.isin(label, (1, 2)), label < PADDING, picture.table["species"].iloc[0]
    scored = [picture_iou(pet[None], mask[None], known[None])[0] for mask in masks]
    panels = [masked(image, label, label), *(masked(image, label, mask * species) for mask in masks)]
    after = ["proposed", *(f"after {turn} click{'s' * (turn > 1)}" for turn in range(1, len(masks)))]
    titles = ["true", *(f"{name}, IoU {value:.3f}" for name, value in zip(after, scored, strict=True))]
    figure = picture_grid([panels], titles, [""], size=2.2)
    for axis, click in zip(figure.axes[1 : len(said) + 1], said, strict=True):
        sign, colour = ("+", "#007A5A") if click.positive else ("_", "#B00020")
        axis.plot(click.x, click.y, "o", color=colour, markeredgecolor="white", markersize=11)
        axis.plot(click.x, click.y, sign, color="white", markersize=7)
    return figure


def first_prompt_charts(by_reach: pd.DataFrame, by_sigma: pd.DataFrame, by_kind: pd.DataFrame) -> Figure:
    """Draw three panels from `summary` tables: distance from the centre, width of the drawn click, kind of prompt."""
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
    """Show step by step what a click on a missed part does: the true mask, the proposal with the click, the answer.

    Shows the four pictures whose proposal misses the deepest parts; see `clicks.natural_clicks`.
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
    """Plot each pet's IoU before and after one natural click: on a missed part (left), on an excess part (right)."""
    figure, axes = new_figure(1, 2, width=8.5, height=4)
    titles = {"missed": '"This is the pet", on what is missing', "excess": '"This is not", on what is too much'}
    all_values = np.concatenate([values[name].ravel() for name in titles])
    low = np.floor(10 * np.nanmin(all_values)) / 10 if np.isfinite(all_values).any() else 0
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        axis.plot([low, 1], [low, 1], color=GREY, linewidth=1)
        axis.scatter(*values[name], s=16, color=COLOUR, alpha=0.7, edgecolor="none")
        limits = low - 0.01 * (1 - low), 1 + 0.01 * (1 - low)
        axis.set(title=title, xlabel="IoU of the proposal", ylabel="IoU after the click", xlim=limits, ylim=limits)
    return figure
