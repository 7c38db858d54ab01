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
    """The study at the picture size of these experiments, its encoder too where that names sizes."""
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

    A share is drawn from each species.  Its pictures are repeated until an epoch has as many steps as with all of them,
    so that runs differ in the number of labels and not in the length of training.

    Parameters
    ----------
    name : str
        What to call it in tables and charts.
    model : str
        A name of `models.names.TITLES`.
    study, splits : Study, dict
        From `small_study`, and its pictures.
    settings : TrainingSettings
        How to train; the number of epochs is the study's for these experiments.
    start : Path, optional
        See `train.train`.
    shares : tuple of float, optional
        Instead of the study's.

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


def update_label_runs(study: Study, splits: dict[str, PictureSet], rows: pd.DataFrame) -> pd.DataFrame:
    """Write rows into the study's ``labels.csv``, which notebooks share, in place of those of the same name.

    Rows of other pictures or settings are dropped.

    Returns
    -------
    DataFrame
        All rows that the file now holds.
    """
    path = study.figures_dir / "labels.csv"
    made_of = {
        "image_size": study.labels.image_size,
        "epochs": study.labels.epochs,
        "data": splits["train"].fingerprint,
    }
    rows = rows.assign(**made_of)
    if path.is_file():
        before = pd.read_csv(path)
        same = ~before["start"].isin(rows["start"])
        for column, value in made_of.items():
            same &= before[column] == value
        rows = pd.concat([before[same], rows], ignore_index=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.to_csv(path, index=False, float_format="%.4f")
    return rows


def decoder_in_words(runs: pd.DataFrame, scratch: pd.DataFrame) -> str:
    """How far the decoder comes with few and with all labels, and with how many it is as good as a U-Net with all.

    Parameters
    ----------
    runs, scratch : DataFrame
        From `run_shares`: the decoder's, and those of the U-Net from scratch; the latter may have no rows.
    """
    ours, others = (rows.groupby("pictures")["miou"].mean() for rows in (runs, scratch))
    few, most = ours.iloc[0], ours.iloc[-1]
    text = f"With {ours.index[0]} labels the decoder reaches {few:.3f}, with {ours.index[-1]} {most:.3f}."
    if others.empty:
        return text
    text += f" The U-Net from scratch reaches {others.iloc[-1]:.3f} with {others.index[-1]}; "
    enough = ours.index[ours >= others.iloc[-1]]
    return text + (f"the decoder is as good with **{enough[0]}**." if len(enough) else "the decoder is never as good.")


def starts_in_words(runs: pd.DataFrame) -> str:
    """For each number of labels, which start did best and which did better or worse than from scratch; Markdown."""
    lines = []
    for pictures, some in runs.groupby("pictures"):
        by = some.groupby("start")["miou"].agg(["mean", "min", "max"])
        scratch, best, others = by.loc["from scratch"], by["mean"].idxmax(), by.drop(index="from scratch")
        better, worse = others.index[others["min"] > scratch["max"]], others.index[others["max"] < scratch["min"]]
        lines.append(
            f"* With **{pictures}** labels *{best}* does best, {by['mean'][best]:.3f}; *from scratch* reaches "
            f"{scratch['mean']:.3f}. In every run better than that: {', '.join(better) or 'none'}; worse: "
            f"{', '.join(worse) or 'none'}."
        )
    gain = runs[runs["start"] == "from scratch"].groupby("pictures")["miou"].mean()
    lines.append(
        f"* From scratch, {gain.index[-1]} labels in place of {gain.index[0]} change mIoU by "
        f"{gain.iloc[-1] - gain.iloc[0]:+.3f}."
    )
    n_runs = runs.groupby(["start", "pictures"]).size().max()
    return "\n".join(lines) + f"\n\nRuns of each kind: {n_runs}."


START_COLOURS = {
    "from scratch": MODEL_COLOURS["unet"],
    "frozen": MODEL_COLOURS["autoencoder_unet"],
    "fine-tuned": "#0072B2",
    "decoder on frozen features": MODEL_COLOURS["decoder"],
}


def label_curves(table: pd.DataFrame) -> Figure:
    """Validation mIoU by number of labelled pictures, a line per start: mean over seeds, a dot per run, their range."""
    figure, axis = new_figure(width=7.5, height=3.6)
    for name, runs in table.groupby("start", sort=False):
        by_number = runs.groupby("pictures")["miou"]
        mean = by_number.mean()
        axis.plot(mean.index, mean, color=START_COLOURS[name], label=name)
        axis.fill_between(mean.index, by_number.min(), by_number.max(), color=START_COLOURS[name], alpha=0.2)
        axis.plot(runs["pictures"], runs["miou"], "o", color=START_COLOURS[name], markersize=4)
    numbers = sorted(table["pictures"].unique())
    axis.set(xlabel="labelled pictures", ylabel="validation mIoU", ylim=(0, 1), title="How few labels are enough?")
    axis.set(xscale="log", xticks=numbers, xticklabels=numbers)
    axis.minorticks_off()
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
