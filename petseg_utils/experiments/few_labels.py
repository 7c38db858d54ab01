"""How many labels are enough?  The same short training run on shares of the labelled pictures."""

import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from petseg_utils.data.pictures import PictureSet
from petseg_utils.experiments.plotting import MODEL_COLOURS, new_figure
from petseg_utils.experiments.variants import best_epoch
from petseg_utils.study import Study, TrainingSettings


def small_study(study: Study) -> Study:
    """Return the study at the picture size of these experiments, with its encoder adapted if that names sizes."""
    size = study.labels.image_size
    return replace(study, image_size=size, encoder=re.sub(r"@\d+\+\d+$", f"@{size}+{2 * size}", study.encoder))


def run_shares(
    name: str,
    model: str,
    study: Study,
    splits: dict[str, PictureSet],
    settings: TrainingSettings,
    *,
    start: Path | None = None,
    shares: tuple[float, ...] | None = None,
) -> pd.DataFrame:
    """Train a model on shares of the labelled pictures, and score it on the whole validation split.

    A share is taken of each species.  Its pictures are repeated until an epoch has as many steps as with all of
    them, so that runs differ in the number of labels and not in the length of training.

    Parameters
    ----------
    name : str
        What to call the runs in tables and charts.
    study, splits : Study, dict
        From `small_study`, and its pictures.
    settings : TrainingSettings
        How to train; the number of epochs is the study's for these experiments.
    shares : tuple of float, optional
        Shares to use in place of the study's.

    Returns
    -------
    DataFrame
        ``start`` (the name), ``share``, ``pictures``, ``seed`` and ``miou`` (best epoch, validation split).
    """
    labelled, rows = splits["train"], []
    settings = replace(settings, epochs=study.labels.epochs)
    for share, seed in product(shares or study.labels.shares, study.labels.seeds):
        names = labelled.table.groupby("species")["name"].sample(frac=share, random_state=seed).tolist()
        part = splits | {"train": labelled.subset(names)}
        folder = study.runs_dir / "labels" / f"{name.replace(' ', '-')}-{share:g}-seed{seed}"
        best = best_epoch(model, study, seed, part, settings, folder, start=start, length=len(labelled))
        rows.append(
            {"start": name, "share": share, "pictures": len(names), "seed": seed, "miou": round(best["miou"], 4)}
        )
    return pd.DataFrame(rows)


def write_label_runs(study: Study, splits: dict[str, PictureSet], rows: pd.DataFrame) -> None:
    """Write the study's ``labels.csv``: `run_shares`'s rows with their picture size, epochs and data fingerprint."""
    made_of = {"image_size": study.labels.image_size, "epochs": study.labels.epochs}
    study.figures_dir.mkdir(parents=True, exist_ok=True)
    rows = rows.assign(**made_of, data=splits["train"].fingerprint)
    rows.to_csv(study.figures_dir / "labels.csv", index=False, float_format="%.4f")


def labels_in_words(runs: pd.DataFrame) -> str:
    """Say what score a model reaches with few and with all labels; from `run_shares`."""
    by_number = runs.groupby("pictures")["miou"].mean()
    few, most = by_number.index[0], by_number.index[-1]
    return (
        f"With {few} labels it reaches {by_number[few]:.3f}, with {most} {by_number[most]:.3f}: "
        f"{by_number[few] / by_number[most]:.0%} of it. Runs of each kind: {runs.groupby('pictures').size().max()}."
    )


def label_curve(runs: pd.DataFrame) -> Figure:
    """Draw validation mIoU by number of labelled pictures: a dot per run, the means as a line; from `run_shares`."""
    figure, axis = new_figure(width=6.5, height=3.4)
    mean = runs.groupby("pictures")["miou"].mean()
    axis.plot(mean.index, mean, color=MODEL_COLOURS["decoder"])
    axis.plot(runs["pictures"], runs["miou"], "o", color=MODEL_COLOURS["decoder"], markersize=4)
    axis.set(xlabel="labelled pictures", ylabel="validation mIoU", ylim=(0, 1), title="How few labels are enough?")
    axis.set(xscale="log", xticks=list(mean.index), xticklabels=list(mean.index))
    axis.minorticks_off()
    return figure
