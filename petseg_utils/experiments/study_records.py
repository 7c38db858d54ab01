"""Records of a study's runs: made by scoring its models, kept beside its figures, marked when out of date."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import nn

from petseg_utils.data.pictures import PictureSet
from petseg_utils.models.cards import read_card
from petseg_utils.models.click_head import PointSegmenter
from petseg_utils.models.feature_cache import Features
from petseg_utils.models.names import TITLES
from petseg_utils.scores.clicks import add_clicks, click_values
from petseg_utils.scores.predictions import Predictions, predict
from petseg_utils.scores.records import append_records, make_records, read_records, write_records
from petseg_utils.scores.results import results_table, write_tables
from petseg_utils.study import ROOT, Study, TrainingSettings
from petseg_utils.study.paths import safe_cell
from petseg_utils.training.checkpoints import run_folder
from petseg_utils.training.recipes import RECIPES


@dataclass(frozen=True)
class ScoredRuns:
    """What `score_runs` returns.

    Parameters
    ----------
    table : DataFrame
        The updated table of all the study's models, from `update_study_records`.
    predictions : dict of int to Predictions
        Predictions on the test pictures, by seed.
    clicks : dict of int to dict
        For a model that takes prompts, its `clicks.click_values` by seed; else empty.
    """

    table: pd.DataFrame
    predictions: dict[int, Predictions]
    clicks: dict[int, dict[str, np.ndarray]]


def score_runs(
    model: str,
    study: Study,
    networks: dict[int, nn.Module],
    splits: dict[str, PictureSet],
    features: Features | None = None,
) -> ScoredRuns:
    """Score a model's runs on the test pictures, and keep the records beside the study's figures.

    Parameters
    ----------
    networks : dict of int to nn.Module
        The trained network of each seed.
    features : Features, optional
        Cached feature maps of the test pictures, for a model on a frozen encoder.
    """
    test, predictions, clicks = splits["test"], {}, {}
    for seed, network in networks.items():
        card = read_card(run_folder(model, study, seed) / "best.safetensors")
        predictions[seed] = predict(network, test, features)
        records = make_records(study, card, "test", test, predictions[seed], network)
        if isinstance(network, PointSegmenter):
            clicks[seed] = click_values(network, test, features)
            add_clicks(records, clicks[seed], test, study.bootstrap_resamples)
        append_records(study.runs_dir / "records.jsonl", records)
    return ScoredRuns(update_study_records(study, splits), predictions, clicks)


def update_study_records(study: Study, splits: dict[str, PictureSet]) -> pd.DataFrame:
    """Copy a study's records to the folder of its figures, and make its tables from them.

    The records copied are those of finished runs with the study's present seeds, settings and pictures.  They replace
    earlier ones of the same model, encoder and seed.  Everything else there is kept, so that a machine that lacks a run
    does not delete its scores; what no longer fits the study is marked ``stale``.  The function writes
    ``records.jsonl``, ``results.csv`` and ``results.md`` into ``study.figures_dir``; for photos also ``pictures.csv``,
    with the names of the pictures used, so that somebody with all of them can repeat the study.

    Returns
    -------
    DataFrame
        `results_table` of the test split, without stale records, and of each model only those on the encoder that was
        evaluated last.
    """
    fresh = [record for record in read_records(study.runs_dir / "records.jsonl") if _fits(record, study, splits)]
    replaced = {_run(record) for record in fresh}
    records = list(fresh)
    for record in study_records(study):
        if _run(record) not in replaced:
            record.pop("stale", None)
            records.append(record if _fits(record, study, splits) else record | {"stale": True})
    order = {name: number for number, name in enumerate(TITLES)}
    records.sort(key=lambda record: (order.get(record["model"], len(order)), record["encoder"] or "", record["seed"]))
    write_records(study.figures_dir / "records.jsonl", records)
    write_tables(study.figures_dir, records)
    if not study.draws_its_data:
        names = pd.concat([part.table[["name", "breed"]].assign(split=split) for split, part in splits.items()])
        names[["name", "breed"]] = names[["name", "breed"]].map(safe_cell)
        names.sort_values(["split", "name"]).to_csv(study.figures_dir / "pictures.csv", index=False)
    newest = {record["model"]: record["encoder"] for record in fresh}  # per model, the one evaluated last
    current = [record for record in records if "stale" not in record]
    return results_table(
        [record for record in current if record["encoder"] == newest.get(record["model"], record["encoder"])]
    )


def _run(record: dict) -> tuple:
    """Return what identifies a record; its data, subsets and protocols may differ from one evaluation to the next."""
    return tuple(record[key] for key in ("model", "encoder", "study", "seed", "split"))


def _fits(record: dict, study: Study, splits: dict[str, PictureSet]) -> bool:
    """Return whether a record is of a finished run with the present seeds, settings, recipe and pictures, no others."""
    settings = study.models.get(record["model"])  # the study knows nothing about a user's own model
    then = record["trained_on"]["settings"]
    version = RECIPES[record["model"]].version if record["model"] in RECIPES else record["trained_on"].get("version")
    return (
        record["data"] == splits["test"].fingerprint
        and record["seed"] in study.seeds
        and record["training_seconds"] is not None
        and (settings is None or (set(then) <= set(vars(settings)) and TrainingSettings(**then) == settings))
        and record["trained_on"]["data"] == splits["train"].fingerprint
        and record["trained_on"].get("extra") is None
        and record["trained_on"].get("version", 1) == (version or 1)
    )


def longer_trained(records: list[dict], brief: list[dict]) -> list[dict]:
    """Return a study's records whose models had more epochs than in another study, which has the records `brief`."""
    given = {record["model"]: record["trained_on"]["settings"]["epochs"] for record in brief}
    return [
        record
        for record in records
        if record["model"] in given and record["trained_on"]["settings"]["epochs"] > given[record["model"]]
    ]


def committed_records(name: str, *models: str) -> list[dict]:
    """Return the records committed beside a study's figures, of all models or some; an empty list if there are none."""
    records = read_records(ROOT / "figures" / name / "records.jsonl")
    return [record for record in records if not models or record["model"] in models]


def study_records(study: Study) -> list[dict]:
    """Return the records beside a study's figures, wherever these are."""
    return read_records(study.figures_dir / "records.jsonl")
