"""A finished run is loaded where all that it depends on is the same, and trained anew where anything is not."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from petseg_utils.data.extra_labels import read_extra
from petseg_utils.data.pictures import join, load_splits
from petseg_utils.models.cards import read_card
from petseg_utils.models.encoders import TWICE_LITE
from petseg_utils.models.names import TITLES
from petseg_utils.scores.clicks import click_values, summarise_clicks
from petseg_utils.scores.predictions import predict, validation_scores
from petseg_utils.study import PetsegError
from petseg_utils.study.folders import LOCK
from petseg_utils.training import checkpoints, recipes
from petseg_utils.training import train as training
from petseg_utils.training.batches import augmented
from petseg_utils.training.checkpoints import load, run_folder, writing_run
from petseg_utils.training.conditions import conditions_in
from petseg_utils.training.recipe import Recipe
from petseg_utils.training.recipes import RECIPES, recipe_of
from petseg_utils.training.train import train, trained
from tests.conftest import renamed, write_data


@pytest.fixture
def loaded(caplog):
    """Whether the last call of `trained` loaded a checkpoint."""

    def was_loaded():
        told = "Loaded the checkpoint" in caplog.text
        caplog.clear()
        return told

    with caplog.at_level(logging.INFO, "petseg_utils"):
        yield was_loaded


def with_settings(study, model, **changes):
    return replace(study, models=study.models | {model: replace(study.settings(model), **changes)})


def test_a_finished_run_is_loaded_unless_something_changed(study, splits, loaded):
    first = trained("unet", study, 0, splits, progress=False)
    assert not loaded()
    again = trained("unet", study, 0, splits, progress=False)
    assert loaded()
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    trained("unet", with_settings(study, "unet", learning_rate=0.004), 0, splits, progress=False)
    assert not loaded()


def test_a_run_that_was_cut_is_not_loaded(study, splits, loaded, monkeypatch):
    def cut(run, epoch, scores):
        finish(run, epoch, scores)
        raise KeyboardInterrupt

    finish = training.fit.__globals__["Run"].finish_epoch
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.fit.__globals__["Run"], "finish_epoch", cut)
        trained("unet", study, 0, splits, progress=False)
    trained("unet", study, 0, splits, progress=False)
    assert not loaded()


@pytest.mark.parametrize("cache", [True, False])
def test_extra_pictures_are_learned_from_and_those_held_out_are_in_the_validation_score(
    study, splits, tmp_path, monkeypatch, cache
):
    study = with_settings(study, "decoder", cache=cache, epochs=1, mosaic=0.3, scales=(0.3, 1.3))
    extra = read_extra([renamed(write_data(tmp_path / "extra", 8, 2))], study, progress=False)
    validated, learned, fit = [], [], training.fit
    recipe = recipe_of("decoder")

    def validate(network, pictures, features):
        validated.append((pictures, features))
        return recipe.validate(network, pictures, features)

    def fit_and_note(network, data, *given, **named):
        learned.append(data)
        return fit(network, data, *given, **named)

    monkeypatch.setattr(training, "fit", fit_and_note)
    noted = replace(recipe, validate=validate)
    network = train(noted, study, 0, splits, extra=extra, progress=False)
    (data,), ((pictures, features),) = learned, validated
    names = {part: splits[part].table["name"].tolist() + extra[part].table["name"].tolist() for part in extra}
    assert data.pictures.table["name"].tolist() == names["train"] and len(extra["train"]) > 2
    assert pictures.table["name"].tolist() == names["validation"] and len(extra["validation"]) > 1
    assert len(features) == len(pictures)
    history = pd.read_csv(run_folder("decoder", study, 0) / "history.csv")
    both = join(splits["validation"], extra["validation"])
    assert history["miou"].iloc[0] == pytest.approx(validation_scores(network, both)["miou"], abs=0.01)
    card = read_card(run_folder("decoder", study, 0) / "best.safetensors")
    assert card["extra"] == {"n_images": len(extra["train"]), "fingerprint": extra["train"].fingerprint}
    assert card["n_images"] == len(splits["train"]) and card["settings"]["mosaic"] == 0.3


def test_a_decoder_goes_on_from_a_checkpoint(study, splits, tmp_path):
    train("decoder", study, 0, splits, folder=tmp_path / "first", progress=False)
    start = tmp_path / "first" / "best.safetensors"
    still = replace(study.settings("decoder"), epochs=1, learning_rate=1e-12, weight_decay=0.0)
    afresh, further = (
        train("decoder", study, 1, splits, settings=still, folder=tmp_path / name, start=given, progress=False)
        for name, given in (("afresh", None), ("further", start))
    )
    before = load(start)[0].decoder.state_dict()
    for name, weight in further.decoder.named_parameters():
        assert torch.allclose(weight, before[name], atol=1e-6), name
    assert not torch.allclose(afresh.decoder.narrow.weight, before["narrow.weight"], atol=1e-3)
    card = read_card(tmp_path / "further" / "best.safetensors")
    assert [conditions_in(base) for base in card["start"]] == [conditions_in(read_card(start))]
    assert card["pretraining"]["epoch"] > 0
    assert read_card(tmp_path / "afresh" / "best.safetensors")["start"] == []


def test_a_decoder_goes_on_with_pictures_at_another_size_but_not_from_one_of_another_shape(study, splits, tmp_path):
    """From enlarged pictures to the photos themselves: the encoder's maps have the same shapes."""
    one_epoch = replace(study.settings("decoder"), epochs=1)
    detailed = replace(study, encoder="lite:efficientnet_lite0@64+128")
    twice = replace(study, encoder=TWICE_LITE)
    for name, on_encoder in (("plain", study), ("twice", twice)):
        train("decoder", on_encoder, 0, splits, settings=one_epoch, folder=tmp_path / name, progress=False)
    in_detail, checkpoint = load_splits(detailed, progress=False), tmp_path / "twice" / "best.safetensors"
    network = train(
        "decoder", detailed, 0, in_detail, settings=one_epoch, start=checkpoint, folder=tmp_path / "on", progress=False
    )
    assert network.scale == 2 and predict(network, in_detail["test"]).classes.shape == splits["test"].labels.shape
    for change, name in (({}, "plain"), ({"width": 24}, "twice")):
        with pytest.raises(PetsegError, match="has another shape than the decoder to be trained"):
            train(
                "decoder",
                detailed,
                0,
                in_detail,
                settings=replace(one_epoch, **change),
                start=tmp_path / name / "best.safetensors",
                folder=tmp_path / "never",
                progress=False,
            )


def test_a_model_that_starts_from_nothing_says_so(study, splits, tmp_path):
    train("decoder", study, 0, splits, progress=False)
    start = run_folder("decoder", study, 0) / "best.safetensors"
    with pytest.raises(PetsegError, match="unet does not start from other weights: leave out --start"):
        train("unet", study, 0, splits, start=start, folder=tmp_path / "unet", progress=False)
    assert not (tmp_path / "unet").exists()


def test_the_detail_of_every_source_is_learned_from_where_the_encoder_wants_it(study, tmp_path, monkeypatch):
    varied = []
    monkeypatch.setattr(training, "augmented", lambda *given: varied.append(given) or augmented(*given))
    detailed = with_settings(study, "decoder", cache=False, epochs=1, mosaic=0.5, background=0.3, scales=(0.3, 1.3))
    detailed = with_settings(detailed, "point", cache=False, mosaic=0.5, width=16)
    detailed = replace(detailed, encoder="lite:efficientnet_lite0@64+128")
    splits = load_splits(detailed, progress=False)
    extra = read_extra([renamed(write_data(tmp_path / "extra", 4, 2))], detailed, progress=False)
    start = tmp_path / "decoder" / "best.safetensors"
    train("decoder", detailed, 0, splits, extra=extra, folder=tmp_path / "decoder", progress=False)
    network = train("point", detailed, 0, splits, extra=extra, start=start, folder=tmp_path / "point", progress=False)
    assert varied == [(detailed.settings(model), 2) for model in ("decoder", "point")]
    decoder = load(start)[0]
    assert np.array_equal(predict(network, splits["test"]).classes, predict(decoder, splits["test"]).classes)
    assert summarise_clicks(click_values(network, splits["test"]), 10)["iou@1"] > 0


def test_what_a_model_starts_from_is_a_condition_too(study, splits, loaded):
    trained("autoencoder_unet", study, 0, splits, progress=False)
    loaded()
    trained("autoencoder_unet", with_settings(study, "autoencoder", learning_rate=0.004), 0, splits, progress=False)
    assert not loaded()


def test_every_model_has_a_recipe_and_a_title():
    assert all(recipe.name == name for name, recipe in RECIPES.items())
    files = {path.stem for path in Path(recipes.__file__).parent.glob("*.py")}
    assert files - {"__init__"} == set(TITLES)


def test_a_model_of_ones_own_needs_a_recipe_only(study, splits):
    def build(settings, encoder):
        return nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1))

    recipe = Recipe("mine", version=1, build=build)
    network = train(recipe, study, 0, splits, settings=study.settings("unet"), progress=False)
    assert isinstance(network[1], nn.Conv2d)
    path = run_folder("mine", study, 0) / "best.safetensors"
    assert load(path, recipe)[1]["model"] == "mine"
    with pytest.raises(PetsegError, match=r"Unknown model 'mine'"):
        load(path)


def test_a_point_model_cannot_start_from_a_decoder_of_another_encoder(study, splits, tmp_path):
    one_epoch = replace(study.settings("decoder"), epochs=1)
    twice, start = replace(study, encoder=TWICE_LITE), tmp_path / "plain" / "best.safetensors"
    detailed = replace(study, encoder="lite:efficientnet_lite0@64+128")
    train("decoder", twice, 0, splits, settings=one_epoch, folder=start.parent, progress=False)
    with pytest.raises(PetsegError, match=r"on \S+@64\+128 cannot start from a decoder on \S+\+2x: name one on \S+64"):
        train("point", detailed, 0, load_splits(detailed, progress=False), start=start, progress=False)


def test_a_point_model_of_another_width_than_any_decoder_is_told_what_to_change(study, splits):
    wider = with_settings(study, "point", width=2 * study.settings("decoder").width)
    with pytest.raises(PetsegError, match=r"cannot start from a decoder of width \d+: give \[models.point\] the"):
        train("point", wider, 0, splits, progress=False)


def test_two_trainings_do_not_write_into_one_folder_at_once(study, splits, monkeypatch):
    monkeypatch.setattr(checkpoints, "PATIENCE", 0.2)
    folder = run_folder("unet", study, 0)
    folder.mkdir(parents=True)
    with writing_run(folder):
        with pytest.raises(
            PetsegError, match=r"^Another training is writing to unet-seed0: wait for it to end, or name"
        ):
            train("unet", study, 0, splits, progress=False)
        assert [path.name for path in folder.iterdir()] == [LOCK]
    (folder / "last.safetensors.123.part").touch()  # of a run that was killed
    train("unet", study, 0, splits, progress=False)
    names = {"best.json", "best.safetensors", "history.csv", "last.safetensors"}
    assert {path.name for path in folder.iterdir()} == names


def test_a_folder_that_cannot_be_written_is_told_with_what_to_do(study, splits):
    study.runs_dir.parent.mkdir(exist_ok=True)
    study.runs_dir.touch()
    with pytest.raises(PetsegError, match=r"^Could not write to unet-seed0 \(.*\)\. .* by PETSEG_RUNS"):
        train("unet", study, 0, splits, progress=False)
