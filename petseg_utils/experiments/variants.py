"""Variants of a model: each is trained in its own folder, and judged by its best epoch on the validation split."""

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

CHANCE = 0.02  # two points of mIoU: short runs that differ only in their seed differ by this much


def trained_briefly(settings: TrainingSettings) -> TrainingSettings:
    """Return a decoder's settings made narrower, with fewer epochs and the feature cache, as several are trained."""
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
    """Return the row with the highest `score` of a variant's history, training it if its folder has no finished run.

    `start` and `length` are as in `train.train`.  All runs of a folder have the same length.
    """
    path = folder / "best.safetensors"
    before = read_card(start) if start else None
    wanted = conditions(recipe_of(model), study, seed, splits, settings=settings, start=before)
    if not path.is_file() or why_stale(read_card(path), wanted):
        train(model, study, seed, splits, settings=settings, folder=folder, start=start, length=length, progress=False)
    history = pd.read_csv(folder / "history.csv")
    return history.loc[history[score].idxmax()]


def command_line(description: str | None, study: str) -> argparse.ArgumentParser:
    """Return a parser with the options that these experiments share: a study, and a file for the table."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default=study)
    parser.add_argument("--csv", type=Path)
    return parser


def made_of(splits: dict[str, PictureSet]) -> dict[str, str | None]:
    """Return the columns of a table that say where its rows come from."""
    return {"data": splits["train"].fingerprint, "torch": versions()["torch"], "commit": git_commit()}


def add_row(rows: list[dict], row: dict, csv: Path | None) -> None:
    """Add a row to a table that grows run by run, print it, and write the table if a file is named."""
    rows.append(row)
    print(row, flush=True)
    if csv:
        pd.DataFrame(rows).round(4).to_csv(csv, index=False)
