"""Variants of a model: each is trained in a folder of its own, and told by its best epoch on the validation split."""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd

from petseg_utils.data.pictures import PictureSet
from petseg_utils.models.cards import read_card
from petseg_utils.study import Study, TrainingSettings
from petseg_utils.study.provenance import git_commit, versions
from petseg_utils.training.conditions import conditions
from petseg_utils.training.recipes import recipe_of
from petseg_utils.training.train import train, why_stale

CHANCE = 0.02  # two points of mIoU: by so much short runs differ that differ in nothing but their seed


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
    start: Path | None = None,
    length: int | None = None,
) -> pd.Series:
    """The row of a variant's history with the highest `score`; it is trained where no finished run is in its folder.

    `start` and `length` are as for `train.train`.  All runs of a folder are of one length.
    """
    path = folder / "best.safetensors"
    before = read_card(start) if start else None
    wanted = conditions(recipe_of(model), study, seed, splits, settings=settings, start=before)
    if not path.is_file() or why_stale(read_card(path), wanted):
        train(model, study, seed, splits, settings=settings, folder=folder, start=start, length=length, progress=False)
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
