"""The weights that ship: small, complete, described, and good on a photo from elsewhere."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from skimage.data import chelsea
from typer.testing import CliRunner

from petseg_utils.checkpoints import SHIPPED
from petseg_utils.cli import app
from petseg_utils.results import PRIMARY, published
from petseg_utils.segmenter import Segmenter


@pytest.mark.parametrize("model", ["clip", "point"])
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


@pytest.mark.parametrize("model", ["clip", "point", "unet"])
def test_a_card_repeats_the_scores_of_its_runs_records(model):
    card = json.loads((SHIPPED / f"{model}.json").read_text())
    run = (card["trained_as"], card["seed"])
    records = [one for one in published(card["study"]) if (one["model"], one["seed"]) == run and not one.get("stale")]
    assert len(records) == len(card["test"]) == 6
    for one in records:
        said = card["test"][f"{one['subset']}, {one['protocol']}"]
        assert said["n_images"] == one["n_images"]
        assert all(said[key] == one["scores"][key] for key in ("miou", "dice", "accuracy"))
    assert card.get("clicks") == next((one.get("clicks") for one in records if one["subset"] == "all"), None)


@pytest.mark.parametrize("model", ["clip", "point"])
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


def test_evaluating_the_point_model_reports_clicks(data, tmp_path):
    path = tmp_path / "out.json"
    done = CliRunner().invoke(app, ["evaluate", "point", "--data", str(data), "--json", str(path)])
    assert done.exit_code == 0, done.output
    clicks = json.loads(path.read_text())["clicks"]
    assert {"iou@1", "iou@3", "iou@5", "noc@85", "noc@90", "same_class_click"} <= set(clicks)
    assert set(clicks["same_class_click"]) == {"miou", "dice"}
    assert 0 <= clicks["iou@1"] <= 1 and 1 <= clicks["noc@85"] <= clicks["noc@90"] <= 20
    assert "iou@1" in done.output
