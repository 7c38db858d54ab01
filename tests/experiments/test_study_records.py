"""A study's records are those of its present runs, and what is older is kept and marked."""

import json
from dataclasses import asdict, replace

import pandas as pd
import torch

from petseg_utils.experiments.study_records import (
    committed_records,
    longer_trained,
    score_runs,
    study_records,
    update_study_records,
)
from petseg_utils.scores.predictions import predict
from petseg_utils.scores.records import append_records, make_records, read_records, write_records
from petseg_utils.study.provenance import best_device
from petseg_utils.training.train import train


def test_what_was_kept_stays_until_it_is_replaced(study, splits):
    model = torch.nn.Conv2d(3, 3, 1)
    settings = {name: json.loads(json.dumps(asdict(values))) for name, values in study.models.items()}
    card = {"model": "unet", "encoder": None, "study": "smoke", "seed": 0, "data": splits["train"].fingerprint}
    card |= {"training_seconds": 1.0, "settings": settings["unet"]}
    new = make_records(study, card, "test", splits["test"], predict(model, splits["test"]), model)
    other = [record | {"model": "autoencoder_unet"} for record in new]
    for record in other:
        record["trained_on"] = record["trained_on"] | {"settings": settings["autoencoder_unet"]}
    older = {"encoder": "lite:other", "data": "older pictures", "commit": "0ld"}
    another_encoder = [record | older for record in new]
    replaced = [record | {"test_loss": 99.0, "data": "older pictures"} for record in new]
    path = study.figures_dir / "records.jsonl"
    write_records(path, replaced + other + another_encoder)
    append_records(study.runs_dir / "records.jsonl", new)
    table = update_study_records(study, splits)
    kept = read_records(path)
    assert [(record["model"], record["encoder"]) for record in kept] == (
        [("unet", None)] * 3 + [("unet", "lite:other")] * 3 + [("autoencoder_unet", None)] * 3
    )
    assert all(record["test_loss"] < 99 for record in kept)
    assert [record.get("stale") for record in kept] == [None] * 3 + [True] * 3 + [None] * 3
    assert sorted(table["model"].unique()) == ["autoencoder_unet", "unet"] and (table["stale"] == "").all()
    written = pd.read_csv(study.figures_dir / "results.csv", dtype={"stale": str})
    assert written["stale"].dropna().tolist() == ["0ld"] * 3
    # A second encoder of the same data stays, but the notebooks get the one that was evaluated last.
    second = [record | {"encoder": "lite:second"} for record in new]
    append_records(study.runs_dir / "records.jsonl", second)
    table = update_study_records(study, splits)
    assert table.loc[table["model"] == "unet", "encoder"].tolist() == ["lite:second"] * 3
    assert {record["encoder"] for record in read_records(path)} == {None, "lite:other", "lite:second"}
    assert "STALE, made at commit 0ld" in (study.figures_dir / "results.md").read_text()


def test_records_of_present_pictures_settings_and_seeds_are_taken(study, splits):
    network = train("unet", study, 0, splits, progress=False)
    study = replace(study, draws_its_data=True)
    scored = score_runs("unet", study, {0: network}, splits)
    assert scored.predictions[0].classes.shape == splits["test"].labels.shape and scored.clicks == {}
    path = study.runs_dir / "records.jsonl"
    good = read_records(path)
    assert good[0]["trained_on"]["device"] == best_device()
    append_records(path, [record | {"data": "older pictures"} for record in good])
    append_records(path, [record | {"seed": 99} for record in good])
    table = update_study_records(study, splits)
    assert read_records(study.figures_dir / "records.jsonl") == good and len(table) == 3
    assert f"{good[0]['scores']['miou']:.3f} [" in (study.figures_dir / "results.md").read_text()
    names = study.figures_dir / "pictures.csv"
    assert not names.exists()  # which of the photos were there is told of photos only
    update_study_records(replace(study, draws_its_data=False), splits)
    assert pd.read_csv(names)["split"].value_counts().to_dict() == {name: len(part) for name, part in splits.items()}
    splits["test"].table.loc[0, "name"] = '=HYPERLINK("x")'
    update_study_records(replace(study, draws_its_data=False), splits)
    assert '\'=HYPERLINK("x")' in set(pd.read_csv(names)["name"])  # text, for a spreadsheet too


def test_records_of_other_settings_extra_pictures_or_an_unfinished_run_are_not_taken(study, splits):
    network = train("unet", study, 0, splits, progress=False)
    score_runs("unet", study, {0: network}, splits)
    path = study.runs_dir / "records.jsonl"
    good = read_records(path)
    for fault in (
        {"extra": {"n_images": 1}},
        {"version": 99},
        {"settings": good[0]["trained_on"]["settings"] | {"epochs": 9}},
    ):
        write_records(path, [record | {"trained_on": record["trained_on"] | fault} for record in good])
        (study.figures_dir / "records.jsonl").unlink()
        assert update_study_records(study, splits).empty and study_records(study) == []
    write_records(path, [record | {"training_seconds": None} for record in good])
    assert update_study_records(study, splits).empty


def test_a_study_without_committed_records_has_none(study):
    assert committed_records("smoke") == [] and committed_records("sample")
    assert study_records(replace(study, figures_dir=study.figures_dir / "nowhere")) == []


def test_models_that_another_study_trained_longer_are_told_from_those_that_it_did_not():
    brief, long = committed_records("oxford-cpu"), committed_records("oxford-gpu")
    assert {record["model"] for record in long} == {"unet", "decoder"}
    assert {record["model"] for record in longer_trained(long, brief)} == {"unet"}
    assert longer_trained(brief, long) == []
