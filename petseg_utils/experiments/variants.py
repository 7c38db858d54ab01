"""Variants of a model: each is trained in a folder of its own, and told by its best epoch on the validation split."""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd

from petseg_utils.data.pictures import PictureSet
from petseg_utils.study import Study, TrainingSettings
from petseg_utils.study.provenance import git_commit, versions
from petseg_utils.training.train import train


def trained_briefly(settings: TrainingSettings) -> TrainingSettings:
    """A decoder's settings, narrower and with fewer epochs, from the feature cache: several of them are trained."""
    return replace(settings, width=64, epochs=30, patience=10, mixed_precision="no", cache=True)


def best_epoch(
    model: str,
    study: Study,
    seed: int,
    splits: dict[str, PictureSet],
    settings: TrainingSettings,
    folder: Path,
    *,
    score: str = "miou",
    **options,
) -> pd.Series:
    """Train a variant, and give the row of its history with the highest `score`; `options` go to `train.train`."""
    train(model, study, seed, splits, settings=settings, folder=folder, progress=False, **options)
    history = pd.read_csv(folder / "history.csv")
    return history.loc[history[score].idxmax()]


def command_line(description: str | None, study: str) -> argparse.ArgumentParser:
    """What the commands of these experiments share: a study, and a file for the table."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default=study)
    parser.add_argument("--csv", type=Path)
    return parser


def made_of(splits: dict[str, PictureSet]) -> dict[str, str | None]:
    """The columns of a table that say where its rows come from."""
    return {"data": splits["train"].fingerprint, "torch": versions()["torch"], "commit": git_commit()}


def add_row(rows: list[dict], row: dict, csv: Path | None) -> None:
    """Add a row to a table that grows run by run, print it, and write the table where a file is named."""
    rows.append(row)
    print(row, flush=True)
    if csv:
        pd.DataFrame(rows).round(4).to_csv(csv, index=False)
