"""Charts of training runs."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from petseg_utils.experiments.plotting import MODEL_COLOURS, new_figure, write_in_cells
from petseg_utils.models.names import titled
from petseg_utils.scores.results import PRIMARY, PROMPTED, processor, select
from petseg_utils.study import Study, TrainingSettings
from petseg_utils.training.checkpoints import run_folder
from petseg_utils.training.recipes import RECIPES


def histories(model: str, study: Study) -> dict[int, pd.DataFrame]:
    """Return the history of each of a model's runs, by seed, with one row per epoch."""
    return {seed: pd.read_csv(run_folder(model, study, seed) / "history.csv") for seed in study.seeds}


def training_curves(histories: dict[int, pd.DataFrame], model: str = "unet") -> Figure:
    """Draw loss and validation mIoU per epoch, one line per seed; the epoch that was kept is marked."""
    figure, (left, right) = new_figure(1, 2)
    for position, history in enumerate(histories.values()):
        shade = max(0.3, 1 - 0.3 * position)
        left.plot(history["epoch"], history["train_loss"], color="#555555", alpha=shade, linestyle="--")
        left.plot(history["epoch"], history["validation_loss"], color=MODEL_COLOURS[model], alpha=shade)
        right.plot(history["epoch"], history["miou"], color=MODEL_COLOURS[model], alpha=shade)
        best = history.loc[history["miou"].idxmax()]
        right.plot(best["epoch"], best["miou"], "o", color="black", markersize=5)
    left.legend(["training", "validation"])
    left.set(title="Loss", xlabel="epoch", ylabel="loss", ylim=(0, None))
    right.set(title="Validation mIoU; a dot marks the epoch kept", xlabel="epoch", ylabel="mIoU", ylim=(0, 1))
    return figure


def score_over_time(study: Study, models: Iterable[str]) -> Figure:
    """Draw validation mIoU after each epoch against minutes of training, one line per model and seed.

    A model that starts from another one begins where that one's training ended.  The click model is left out: before a
    click, its masks are the decoder's.
    """
    figure, axis = new_figure(height=3.4)
    for model in (name for name in models if name != PROMPTED):
        starts_from = RECIPES[model].starts_from
        first = starts_from and starts_from(study)
        before = {seed: run["seconds"].sum() for seed, run in histories(first, study).items()} if first else {}
        for seed, history in histories(model, study).items():
            minutes = (before.get(seed, 0) + history["seconds"].cumsum()) / 60
            label = titled(model) if seed == study.seeds[0] else None
            axis.plot(minutes, history["miou"], ".-", color=MODEL_COLOURS[model], label=label)
    axis.set(xlabel="minutes of training", ylabel="validation mIoU", xlim=(0, None), ylim=(0, 1))
    axis.legend(loc="lower right")
    return figure


def scores_by_time(records: list[dict]) -> Figure:
    """Draw the test mIoU of finished runs, border ignored, against their minutes of training, from their records.

    A filled dot is a run on a CPU, a ring one on a GPU.  The minutes include those of the model that a run started
    from, if the record has them.  The click model is left out, as in `score_over_time`.
    """
    figure, axis = new_figure(height=3.6)
    groups: dict[tuple, list[tuple[float, float]]] = {}
    for record in select(records, protocol=PRIMARY):
        if record["model"] == PROMPTED:
            continue
        run = record["trained_on"]
        seconds = record["training_seconds"] + (run["pretraining"] or {}).get("training_seconds", 0)
        key = record["model"], run["settings"]["epochs"], processor(record)
        groups.setdefault(key, []).append((seconds / 60, record["scores"]["miou"]))
    best = max(score for runs in groups.values() for _, score in runs)
    for (model, epochs, device), runs in groups.items():
        minutes, miou = np.transpose(runs)
        colour = MODEL_COLOURS[model]
        axis.scatter(minutes, miou, s=36, edgecolors=colour, facecolors=colour if device == "CPU" else "none", zorder=3)
        above = miou.max() > best - 0.005  # otherwise its label would overlap the next one's
        axis.annotate(
            f"{titled(model)}, {epochs} epochs, {device}",
            (minutes.mean(), miou.max() if above else miou.min()),
            xytext=(0, 6 if above else -14),
            textcoords="offset points",
            ha="center",
            color=colour,
            fontsize=9,
        )
    took = [minutes for runs in groups.values() for minutes, _ in runs]
    room = min(took) / 1.5, 3 * max(took)  # for the words
    axis.set(xlabel="minutes of training", ylabel="test mIoU", ylim=(0, 1.1), xscale="log", xlim=room)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    return figure


def curves_caption(settings: TrainingSettings) -> str:
    """Explain the lines of `training_curves` for a model with these settings."""
    lines = "Left: loss on training (dashed) and validation pictures (solid). Right: validation mIoU. A line per seed."
    dice = " Dashed lines hold the Dice term and solid ones do not, so the heights of the two are not comparable."
    return lines + (dice if settings.dice else "")


def near_best(history: pd.DataFrame) -> int:
    """Return the first epoch whose validation mIoU is within 0.01 of the best."""
    return int(history.loc[history["miou"] > history["miou"].max() - 0.01, "epoch"].iloc[0])


def run_in_words(history: pd.DataFrame) -> str:
    """Say what a run's history shows: its best epoch, how steady its score was, if it stopped too early or too late."""
    best, miou, loss = history.loc[history["miou"].idxmax()], history["miou"], history["validation_loss"]
    said = (
        f"Best validation mIoU **{best['miou']:.3f}**, in epoch {best['epoch']:.0f} of {len(history)}; first within "
        f"0.01 of that in epoch {near_best(history)}; {miou.iloc[-1]:.3f} after the last. The validation loss ends at "
        f"{loss.iloc[-1]:.3f}; its lowest value was {loss.min():.3f}."
    )
    third, middle = len(history) // 3, len(history) // 2
    if not third:
        return f"{said} So few epochs do not say whether more would help."
    early, late = (part.diff().abs().mean() for part in (miou[: middle + 1], miou[middle:]))
    before, after = history.iloc[:-third], history.iloc[-third:]
    gain = after["miou"].max() - before["miou"].max()
    if gain < 0.01:
        more = "that is little, and more of the same would gain little"
    elif gain > late:
        more = "it was still rising, so a longer run may gain more"
    else:
        more = "no more than it moves from one epoch to the next, so it may still be rising"
    learned_by_heart = (
        after["validation_loss"].min() > 1.05 * before["validation_loss"].min()
        and after["train_loss"].min() < before["train_loss"].min()
    )
    sign = (
        "The validation loss rises again while the training loss falls: it began to learn its pictures by heart."
        if learned_by_heart
        else "There is no sign that pictures were learned by heart."
    )
    return (
        f"{said} From epoch to epoch the mIoU moves by {early:.3f} on average in the first half of the run, and by "
        f"{late:.3f} in the second. The last third lifted the best by {max(gain, 0):.3f}: {more}. {sign}"
    )


def grid_heatmap(table: pd.DataFrame) -> Figure:
    """Draw validation mIoU by learning rate and batch size (columns ``learning_rate``, ``batch_size``, ``miou``)."""
    grid = table.pivot(index="batch_size", columns="learning_rate", values="miou")
    figure, axis = new_figure(width=5, height=1.2 + 0.7 * len(grid))
    axis.imshow(grid, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    write_in_cells(axis, grid.to_numpy(), ".3f")
    axis.set(xticks=range(grid.shape[1]), xticklabels=[f"{rate:g}" for rate in grid.columns], xlabel="learning rate")
    axis.set(yticks=range(grid.shape[0]), yticklabels=list(grid.index), ylabel="batch size", title="Validation mIoU")
    axis.grid(False)
    return figure
