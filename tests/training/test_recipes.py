"""Each model learns, from what its recipe says and from nothing else."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from petseg_utils.models.cards import read_card
from petseg_utils.models.encoders import LITE, load_encoder
from petseg_utils.models.feature_cache import load_features
from petseg_utils.models.prompts import deepest_click
from petseg_utils.scores.clicks import click_values, open_pictures, picture_iou, select, summarise_clicks
from petseg_utils.scores.predictions import predict, validation_scores
from petseg_utils.scores.reconstruction import psnr, reconstruct
from petseg_utils.scores.records import make_records
from petseg_utils.study import PetsegError, TrainingSettings
from petseg_utils.training.checkpoints import load, run_folder
from petseg_utils.training.recipes import recipe_of
from petseg_utils.training.recipes.decoder import make_decoder
from petseg_utils.training.train import train, trained


def autoencoder_card(study):
    return read_card(run_folder("autoencoder", study, 0) / "best.safetensors")


@pytest.mark.long
def test_four_pictures_are_painted_from_memory(study, splits, tmp_path):
    four = splits["train"].subset(splits["train"].table["name"][:4].tolist())
    settings = replace(study.models["autoencoder"], width=8, epochs=150, batch_size=4, learning_rate=0.01, patience=200)
    both = {"train": four, "validation": four}
    model = train("autoencoder", study, 0, both, settings=settings, folder=tmp_path, progress=False)
    flat = np.broadcast_to(np.mean(four.images, (1, 2), keepdims=True), four.images.shape).astype(np.uint8)
    assert psnr(four, reconstruct(model, four)).mean() > psnr(four, flat).mean() + 3


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_encoder_is_the_autoencoders_to_the_last_bit_and_a_fine_tuned_one_is_not(study, splits, frozen):
    settings = replace(study.models["autoencoder_unet"], frozen=frozen)
    study = replace(study, models=study.models | {"autoencoder_unet": settings})
    model = train("autoencoder_unet", study, 0, splits, progress=False)
    autoencoder = load(run_folder("autoencoder", study, 0) / "best.safetensors")[0]
    pairs = zip(autoencoder.encoder.state_dict().values(), model.encoder.state_dict().values(), strict=True)
    assert all(torch.equal(before, after) for before, after in pairs) == frozen
    card = read_card(run_folder("autoencoder_unet", study, 0) / "best.safetensors")
    assert card["pretraining"]["n_images"] == len(splits["train"])
    records = make_records(study, card, "test", splits["test"], predict(model, splits["test"]), model)
    counts = records[0]["parameters"]
    encoder = sum(parameter.numel() for parameter in model.encoder.parameters())
    assert counts["total"] - counts["trained"] == (encoder if frozen else 0)


def test_unlabelled_pictures_are_used_without_those_of_the_other_splits(study, splits, tmp_path):
    folder = tmp_path / "more"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        name = splits[split].table["name"].iloc[0]
        Image.fromarray(np.array(splits[split].images[0])).save(folder / f"{name}.png")
    Image.fromarray(np.array(splits["train"].images[1])).save(folder / "new_1.png")
    trained("autoencoder", study, 0, splits, progress=False)
    assert autoencoder_card(study)["more"] is None
    study = replace(study, unlabelled_dir=folder)
    trained("autoencoder", study, 0, splits, progress=False)  # not the one that had fewer pictures
    assert autoencoder_card(study)["more"]["n_images"] == 1
    assert autoencoder_card(study)["n_images"] == len(splits["train"])


def test_four_pictures_are_learned_by_heart_from_the_cache(study, splits, tmp_path):
    four = splits["train"].subset(splits["train"].table["name"][:4].tolist())
    settings = replace(
        study.models["decoder"], width=24, epochs=60, batch_size=4, learning_rate=0.01, patience=200, dice=1.0
    )
    both = {"train": four, "validation": four}
    model = train("decoder", study, 0, both, settings=settings, folder=tmp_path, progress=False)
    assert validation_scores(model, four)["miou"] > 0.95


def test_a_checkpoint_holds_the_decoder_alone_and_loads_the_encoder_it_names(study, splits):
    model = train("decoder", study, 0, splits, progress=False)
    path = run_folder("decoder", study, 0) / "best.safetensors"
    assert path.stat().st_size < 2e6
    again, card = load(path)
    assert card["encoder"] == LITE
    assert np.array_equal(predict(model, splits["test"]).classes, predict(again, splits["test"]).classes)


@pytest.mark.long
def test_four_pictures_are_learned_by_heart_and_a_click_says_which_part(study, splits, tmp_path):
    four = splits["train"].subset(splits["train"].table["name"][:4].tolist())
    both = {"train": four, "validation": four}
    settings = replace(
        study.models["decoder"], width=24, epochs=60, batch_size=4, learning_rate=0.01, patience=200, dice=1.0
    )
    train("decoder", study, 0, both, settings=settings, folder=tmp_path / "decoder", progress=False)
    start = tmp_path / "decoder" / "best.safetensors"
    longer = replace(settings, epochs=150)
    # On the four the decoder is never wrong, so they would choose any epoch; on others there is something to correct.
    both["validation"] = splits["validation"]
    model = train("point", study, 0, both, settings=longer, folder=tmp_path / "point", start=start, progress=False)
    features = load_features(model.encoder, four, study.cache_dir, progress=False)
    clicks = summarise_clicks(click_values(model, four, features), 10)
    assert clicks["iou@1"] > 0.93 and clicks["same_class_click"]["miou"] > 0.85
    # And a click corrects: of proposals that lack a third of the pet it brings back much more than it touches.
    opened = next(open_pictures(model, four, features))
    columns = np.arange(four.images.shape[2])
    lacking = np.stack([pet & (columns < np.quantile(np.nonzero(pet)[1], 0.35)) for pet in opened.pets])
    selected = np.where(opened.pets & ~lacking, 0.95, 0.05).astype(np.float32)
    classes = torch.stack([torch.zeros(selected.shape), torch.logit(torch.from_numpy(selected))], 1)
    classes = torch.cat([classes, torch.full_like(classes[:, :1], -30)], 1)
    said = [[deepest_click(part)[1]] for part in lacking]
    after = select(model, replace(opened, seen=(opened.seen[0], classes, *opened.seen[2:])), said, selected) > 0.5
    before, now = (picture_iou(opened.pets, mask, opened.counted) for mask in (selected > 0.5, after))
    clicked = sum(np.pi * 3**2 / part.sum() for part in lacking) / len(lacking)  # the pixels that it decides by itself
    assert clicked < 0.15 and (after & lacking).sum() > 0.5 * lacking.sum() and (now > before + 0.1).all()


def test_a_click_model_starts_from_a_decoder_or_goes_on_from_another_click_model(study):
    settings, encoder = study.settings("point"), load_encoder(LITE, 64)
    recipe = recipe_of("point")
    fresh, other = recipe.build(settings, encoder), recipe.build(settings, encoder)
    torch.nn.init.normal_(other.head.last.weight)
    recipe.start(fresh, recipe_of("decoder").build(settings, encoder))
    assert not fresh.head.last.weight.any()
    recipe.start(fresh, other)
    for ours, theirs in zip(fresh.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("maps", [(4,), (0,), (0, 5)])
def test_maps_that_an_encoder_does_not_give_are_refused(maps):
    encoder = SimpleNamespace(identity="lite:x", channels=(8, 8, 8, 8), strides=(4, 8, 16, 32))
    settings = TrainingSettings(width=4, epochs=1, batch_size=1, learning_rate=0.1, maps=maps)
    with pytest.raises(PetsegError, match=r"maps is .*: lite:x gives maps 0 to 3, and one of those that are used"):
        make_decoder(settings, encoder)
