"""The weights that ship: small, complete, described, and good on a photo from elsewhere."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from skimage.data import chelsea

from petseg_utils.experiments.study_records import committed_records
from petseg_utils.models.cards import SHIPPED
from petseg_utils.scores.results import PRIMARY
from petseg_utils.segmenter import Segmenter


@pytest.mark.parametrize("model", ["decoder", "point"])
def test_weights_are_small_and_their_card_says_what_they_are(model):
    path = SHIPPED / f"{model}.safetensors"
    assert path.stat().st_size < 3e6
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["model"] == model and card["encoder"] == "lite:efficientnet_lite0+2x"
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
def test_a_cat_of_no_data_set_is_found(model):
    # Chelsea's face fills the lower middle of the photo; the upper left corner is a curtain.
    photo = chelsea()
    mask = Segmenter.load(model).predict(photo)
    assert mask.shape == photo.shape[:2]
    assert (mask[60:260, 150:300] == 1).mean() > 0.9
    assert 0.3 < (mask > 0).mean() < 0.95


def test_a_click_on_the_cat_asks_for_the_cat_and_one_beside_it_for_the_rest():
    photo = Segmenter.load("point").open(chelsea())
    cat = photo.click(220, 150)
    photo.clear()
    corner = ~cat
    y, x = np.argwhere(corner)[len(np.argwhere(corner)) // 2]
    rest = photo.click(int(x), int(y))
    assert cat[150, 220] and not rest[150, 220]
    assert (cat & rest).mean() < 0.1
