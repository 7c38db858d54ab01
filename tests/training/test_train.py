"""A finished run is loaded where all that it depends on is the same, and trained anew where anything is not."""

import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from petseg_utils.data.extra_labels import read_extra
from petseg_utils.models.encoders import TWICE_LITE
from petseg_utils.models.names import TITLES
from petseg_utils.study import PetsegError
from petseg_utils.training import train as training
from petseg_utils.training.checkpoints import load, run_folder
from petseg_utils.training.recipe import Recipe
from petseg_utils.training.recipes import RECIPES, recipe_of
from petseg_utils.training.train import train, trained
from tests.conftest import write_data
from tests.training.test_resume import renamed


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


def test_a_finished_run_is_loaded_unless_something_changed(study, splits, loaded, monkeypatch):
    first = trained("unet", study, 0, splits, progress=False)
    assert not loaded()
    again = trained("unet", study, 0, splits, progress=False)
    assert loaded()
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    fewer = splits | {"train": splits["train"].subset(splits["train"].table["name"][1:].tolist())}
    for changed, pictures in ((with_settings(study, "unet", learning_rate=0.004), splits), (study, fewer)):
        trained("unet", changed, 0, pictures, progress=False)
        assert not loaded()
    newer = replace(recipe_of("unet"), version=2)
    monkeypatch.setattr(training, "recipe_of", lambda model: newer)
    trained("unet", study, 0, fewer, progress=False)
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


def test_a_decoder_of_another_encoder_or_cache_is_not_taken_for_the_studys(study, splits, loaded):
    uncached = with_settings(study, "decoder", cache=False)
    for changed in (study, uncached, replace(uncached, encoder=TWICE_LITE)):  # each differs in one thing from the last
        model = trained("decoder", changed, 0, splits, progress=False)
        assert not loaded() and model.encoder.identity == changed.encoder


def test_a_checkpoint_trained_with_extra_pictures_is_not_the_studys_own(study, splits, loaded, tmp_path):
    extra = read_extra(renamed(write_data(tmp_path / "extra", 4, 2)), 64, study.cache_dir, progress=False)
    train("decoder", study, 0, splits, extra=extra, progress=False)
    trained("decoder", study, 0, splits, progress=False)
    assert not loaded()


def test_what_a_model_starts_from_is_a_condition_too(study, splits, loaded):
    trained("autoencoder_unet", study, 0, splits, progress=False)
    loaded()
    trained("autoencoder_unet", with_settings(study, "autoencoder", learning_rate=0.004), 0, splits, progress=False)
    assert not loaded()


def test_a_name_that_no_model_has_and_one_that_changed(study, splits):
    with pytest.raises(PetsegError, match="No model 'unte'; it is one of unet, autoencoder"):
        train("unte", study, 0, splits)
    with pytest.raises(PetsegError, match="The model clip is called decoder now: write decoder"):
        train("clip", study, 0, splits)


def test_every_model_has_a_recipe_and_a_title():
    assert list(RECIPES) == list(TITLES)
    assert all(recipe.name == name for name, recipe in RECIPES.items())


def test_a_model_of_ones_own_needs_a_recipe_only(study, splits):
    def build(settings, encoder):
        return nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1))

    recipe = Recipe("mine", version=1, build=build)
    network = train(recipe, study, 0, splits, settings=study.settings("unet"), progress=False)
    assert isinstance(network[1], nn.Conv2d)
    path = run_folder("mine", study, 0) / "best.safetensors"
    assert load(path, recipe)[1]["model"] == "mine"
    with pytest.raises(PetsegError, match=r"No model 'mine'"):
        load(path)


def test_a_point_model_of_another_width_than_any_decoder_is_told_what_to_change(study, splits):
    wider = with_settings(study, "point", width=2 * study.settings("decoder").width)
    with pytest.raises(PetsegError, match=r"cannot start from a decoder of width \d+: give \[models.point\] the"):
        train("point", wider, 0, splits, progress=False)
