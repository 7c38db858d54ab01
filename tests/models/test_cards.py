"""Cards say what weights are, and a bad one is told."""

import json

import pytest

from petseg_utils.models.cards import read_card, shipped_cards
from petseg_utils.models.names import RENAMED, TITLES, check_name
from petseg_utils.study import PetsegError


def test_a_card_is_read_with_the_name_that_its_model_has_now(tmp_path):
    weights = tmp_path / "best.safetensors"
    weights.touch()
    weights.with_suffix(".json").write_text(json.dumps({"model": "clip", "seed": 3}))
    assert read_card(weights) == {"model": "decoder", "seed": 3}


@pytest.mark.parametrize("text", ["{", "[]", '{"seed": 3}', "\xff"])
def test_a_damaged_card_is_named(tmp_path, text):
    weights = tmp_path / "best.safetensors"
    weights.touch()
    weights.with_suffix(".json").write_bytes(text.encode("latin-1"))
    with pytest.raises(PetsegError, match=r"The card best.json is damaged"):
        read_card(weights)


def test_weights_without_a_card_are_refused(tmp_path):
    with pytest.raises(PetsegError, match=r"No checkpoint best.safetensors with its card best.json in that folder"):
        read_card(tmp_path / "best.safetensors")


def test_what_ships_are_models_of_the_study():
    assert set(shipped_cards()) <= set(TITLES)
    assert all(card["model"] == name for name, card in shipped_cards().items())


def test_an_old_name_says_the_new_one_and_an_unknown_one_the_known_ones():
    assert check_name("decoder") == "decoder"
    for old, new in RENAMED.items():
        with pytest.raises(PetsegError, match=f"The model {old} is called {new} now: write {new}"):
            check_name(old)
    with pytest.raises(PetsegError, match="No model 'u-net'; it is one of unet, autoencoder"):
        check_name("u-net")
