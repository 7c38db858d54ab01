"""What a network and its training look like."""

import pandas as pd
from matplotlib.figure import Figure

from petseg_utils.experiments.plotting import MODEL_COLOURS, new_figure, write_in_cells
from petseg_utils.study import Study
from petseg_utils.training.checkpoints import run_folder


def histories(model: str, study: Study) -> dict[int, pd.DataFrame]:
    """Seed to the history of a model's run, a row per epoch."""
    return {seed: pd.read_csv(run_folder(model, study, seed) / "history.csv") for seed in study.seeds}


def training_curves(histories: dict[int, pd.DataFrame], model: str = "unet") -> Figure:
    """Loss and validation mIoU per epoch, a line per seed; the epoch that was kept is marked."""
    figure, (left, right) = new_figure(1, 2)
    for position, history in enumerate(histories.values()):
        shade = max(0.3, 1 - 0.3 * position)
        left.plot(history["epoch"], history["train_loss"], color="#555555", alpha=shade, linestyle="--")
        left.plot(history["epoch"], history["validation_loss"], color=MODEL_COLOURS[model], alpha=shade)
        right.plot(history["epoch"], history["miou"], color=MODEL_COLOURS[model], alpha=shade)
        best = history.loc[history["miou"].idxmax()]
        right.plot(best["epoch"], best["miou"], "o", color="black", markersize=5)
    left.legend(["training", "validation"])
    left.set(title="Loss", xlabel="epoch", ylabel="nats a pixel", ylim=(0, None))
    right.set(title="Validation mIoU; a dot marks the epoch kept", xlabel="epoch", ylabel="mIoU", ylim=(0, 1))
    return figure


def run_in_words(history: pd.DataFrame) -> str:
    """What a run's history says: the best epoch, the last, and how unsteady the score was early and late."""
    best, middle, miou = history.loc[history["miou"].idxmax()], len(history) // 2, history["miou"]
    early, late = (part.diff().abs().mean() for part in (miou[: middle + 1], miou[middle:]))
    loss = history["validation_loss"]
    return (
        f"Best validation mIoU **{best['miou']:.3f}**, in epoch {best['epoch']:.0f} of {len(history)}; "
        f"{miou.iloc[-1]:.3f} after the last. From epoch to epoch it moves by {early:.3f} on average in the first half "
        f"of the run, and by {late:.3f} in the second. The validation loss ends at {loss.iloc[-1]:.3f}; its lowest "
        f"value was {loss.min():.3f}."
    )


def grid_heatmap(table: pd.DataFrame) -> Figure:
    """Validation mIoU by learning rate and batch size, from columns ``learning_rate``, ``batch_size``, ``miou``."""
    grid = table.pivot(index="batch_size", columns="learning_rate", values="miou")
    figure, axis = new_figure(width=5, height=1.2 + 0.7 * len(grid))
    axis.imshow(grid, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    write_in_cells(axis, grid.to_numpy(), ".3f")
    axis.set(xticks=range(grid.shape[1]), xticklabels=[f"{rate:g}" for rate in grid.columns], xlabel="learning rate")
    axis.set(yticks=range(grid.shape[0]), yticklabels=list(grid.index), ylabel="batch size", title="Validation mIoU")
    axis.grid(False)
    return figure
