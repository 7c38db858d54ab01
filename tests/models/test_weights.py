"""The weights that ship: small, complete, described, and good on a photo from elsewhere."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from skimage.data import chelsea

from petseg_utils.data.drawing.breeds import BREEDS
from petseg_utils.data.drawing.pictures import draw_pet
from petseg_utils.data.transforms import Letterbox
from petseg_utils.experiments.edges import EDGES
from petseg_utils.experiments.elsewhere import shipped_records
from petseg_utils.experiments.no_pet import NO_PET, free_photos, proposals
from petseg_utils.experiments.study_records import committed_records
from petseg_utils.models.cards import SHIPPED, sha256
from petseg_utils.models.prompts import deepest_click
from petseg_utils.scores.clicks import Opened, select
from petseg_utils.scores.results import PRIMARY
from petseg_utils.segmenter import Segmenter
from petseg_utils.study import load_study


@pytest.mark.parametrize("model", ["decoder", "point"])
def test_weights_are_small_and_their_card_says_what_they_are(model):
    path = SHIPPED / f"{model}.safetensors"
    assert path.stat().st_size < 3e6
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["model"] == model and card["encoder"] == load_study("shipped").encoder
    for key in ("data", "n_images", "n_breeds", "source", "licence", "limits", "commit", "versions", "validation"):
        assert card[key], key
    assert card["test"][f"all, {PRIMARY}"]["miou"] > 0.9
    with safe_open(path, framework="pt") as file:
        assert not any("network" in name for name in file.keys())  # noqa: SIM118 (the encoder comes with its package)


@pytest.mark.parametrize("model", ["decoder", "point", "unet"])
def test_a_card_repeats_the_scores_of_its_runs_records(model):
    card = json.loads((SHIPPED / f"{model}.json").read_text())
    run = (card["trained_as"], card["seed"])
    of_study = [record for record in committed_records(card["study"]) if not record.get("stale")]
    records = [record for record in of_study if (record["model"], record["seed"]) == run]
    assert len(records) == len(card["test"]) == 6
    for record in records:
        said = card["test"][f"{record['subset']}, {record['protocol']}"]
        assert said["n_images"] == record["n_images"]
        assert all(said[key] == record["scores"][key] for key in ("miou", "dice", "accuracy"))
    assert card.get("clicks") == next((record.get("clicks") for record in records if record["subset"] == "all"), None)


@pytest.mark.parametrize("model", ["decoder", "point"])
def test_the_scores_at_home_and_elsewhere_are_of_these_weights(model):
    card = json.loads((SHIPPED / f"{model}.json").read_text())
    records = [record for record in shipped_records() if record["model"] == model]
    assert {record["source"] for record in records} >= {"Oxford test", "cats outdoors"}
    for record in records:
        assert record["trained_on"]["commit"] == card["commit"] and record["trained_on"]["settings"] == card["settings"]
        if record["source"] == "Oxford test":
            said = card["test"][f"all, {record['protocol']}"]["miou"]
            assert record["scores"]["miou"] == pytest.approx(said, abs=1e-4)  # the card's are of weights in float32


@pytest.mark.parametrize("table", [NO_PET, EDGES])
def test_tables_on_drawn_pictures_and_without_a_pet_are_of_these_weights(table):
    assert set(pd.read_csv(table)["weights"]) == {sha256(SHIPPED / "decoder.safetensors")}


@pytest.mark.parametrize("model", ["decoder", "point"])
def test_a_cat_of_no_data_set_is_found(model):
    # Chelsea's face fills the lower middle of the photo; the upper left corner is a curtain.
    photo = chelsea()
    mask = Segmenter.load(model).predict(photo)
    assert mask.shape == photo.shape[:2]
    assert (mask[60:260, 150:300] == 1).mean() > 0.9
    assert 0.3 < (mask > 0).mean() < 0.95


def test_a_click_adds_or_takes_away_and_in_its_own_mode_chooses_the_side():
    photo = Segmenter.load("point").open(chelsea())
    proposed = photo.mask
    cat = photo.click(220, 150)
    assert cat[150, 220] and not (proposed & ~cat).any()
    away = np.argwhere(~cat)
    y, x = away[len(away) // 2]
    less = photo.click(int(x), int(y), positive=False)
    assert not less[y, x] and not (less & ~cat).any() and less.mean() > 0.8 * cat.mean()
    photo.clear()
    more = photo.click(int(x), int(y))  # somebody who says that there is pet gets more of it, and is not turned round
    assert more[y, x] and not (proposed & ~more).any() and photo.label == "cat"
    either = Segmenter.load("point").open(chelsea(), target="clicked")
    rest = either.click(int(x), int(y))
    assert either.label == "background" and rest[y, x] and not rest[150, 220] and (cat & rest).mean() < 0.1
    either.clear()
    assert either.click(220, 150)[150, 220] and either.label == "cat"


@pytest.mark.parametrize("hidden", ["left", "right", "top"])
def test_a_click_on_what_a_proposal_misses_adds_to_it_on_drawn_pictures(hidden):
    """A proposal lacks a fifth of the pet: what was selected stays, the clicked pixel comes, and the IoU rises."""
    model, found, gains = Segmenter.load("point", runtime="torch").model.network, [], []
    size = load_study("shipped").image_size
    for breed in BREEDS[::6]:
        picture, pet = draw_pet(breed, 3)
        box = Letterbox(*pet.shape, size)
        pet = box.label(pet.astype(np.uint8)) == 1
        ys, xs = np.nonzero(pet)
        places = {"left": -xs, "right": xs, "top": -ys}[hidden]
        lacking = places > np.quantile(places, 0.8)
        missed = np.zeros_like(pet)
        missed[ys[lacking], xs[lacking]] = True
        images = torch.from_numpy(box.image(picture, model.scale)).permute(2, 0, 1)[None].float()
        seen = model.look(images)
        # The proposal is fixed: the head is told that the decoder, too, is sure of it.
        selected = np.where(pet & ~missed, 0.95, 0.05).astype(np.float32)
        classes = torch.zeros_like(seen[1])
        classes[:, 1] = torch.logit(torch.from_numpy(selected))
        classes[:, 2] = -30.0
        opened = Opened((seen[0], classes, *seen[2:]), np.where(pet, 1, 0).astype(np.uint8)[None], range(1))
        click = deepest_click(missed)[1]
        answer = select(model, opened, [[click]], selected[None])[0] > 0.5
        assert answer[click.y, click.x] and not (pet & ~missed & ~answer).any()
        found.append((answer & missed).sum() / missed.sum())
        before, after = ((mask & pet).sum() / (mask | pet).sum() for mask in (pet & ~missed, answer))
        gains.append(after - before)
    assert np.mean(found) > 0.5 and np.mean(gains) > 0.02


def test_models_that_are_loaded_share_their_frozen_encoder():
    """It never changes, and of CLIP each copy would take hundreds of megabytes."""
    first, second = (Segmenter.load(name, runtime="torch").model.network for name in ("decoder", "point"))
    assert first.encoder is second.encoder


def test_on_free_photos_without_a_pet_as_much_is_proposed_as_the_table_says():
    """So the table holds for the card's `peak`, too, without which two of the twelve photos would have a pet."""
    segmenter, row = Segmenter.load("decoder"), pd.read_csv(NO_PET, index_col=0).loc["scikit-image's photos"]
    shares = np.array(proposals(segmenter, free_photos()))
    assert (shares == 0).mean() == pytest.approx(row["nothing"], abs=1e-3) and len(shares) == row["n_images"]
    assert Segmenter.load("point").peak == segmenter.peak > 0
