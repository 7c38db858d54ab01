"""Cards say what weights are, and a bad one is told."""

import json
import shutil

import pytest

from petseg_utils.models import cards
from petseg_utils.models.cards import SHIPPED, read_card, shipped_cards
from petseg_utils.models.names import RENAMED, TITLES, check_name
from petseg_utils.segmenter import Segmenter
from petseg_utils.study import PetsegError

WHOLE = read_card(SHIPPED / "decoder.safetensors")


def with_card(folder, text):
    weights = folder / "best.safetensors"
    weights.touch()
    weights.with_suffix(".json").write_bytes(text.encode("latin-1"))
    return weights


def test_a_card_is_read_with_the_name_that_its_model_has_now(tmp_path):
    assert read_card(with_card(tmp_path, json.dumps(WHOLE | {"model": "clip"}))) == WHOLE


@pytest.mark.parametrize("text", ["{", "[]", '{"seed": 3}', "\xff", "[" * 100_000, "1" * 5_000, "NaN"])
def test_a_damaged_card_is_named(tmp_path, text):
    with pytest.raises(PetsegError, match=r"The card best.json is damaged") as told:
        read_card(with_card(tmp_path, text))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "key", ["model", "encoder", "encoder_spec", "study", "seed", "epoch", "image_size", "settings"]
)
def test_a_card_that_lacks_a_key_is_refused_by_its_name(tmp_path, key):
    less = {name: value for name, value in WHOLE.items() if name != key}
    with pytest.raises(PetsegError, match=rf"The card best.json is damaged: it .*{key}"):
        read_card(with_card(tmp_path, json.dumps(less)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_size", "224"),
        ("image_size", -224),
        ("image_size", 0),
        ("image_size", 10**9),
        ("image_size", 10**400),
        ("image_size", 225),
        ("image_size", True),
        ("image_size", 224.5),
        ("image_size", None),
        ("model", 7),
        ("settings", []),
        ("seed", "0"),
        ("peak", "sure"),
        ("peak", 1e300),
        ("peak", float("nan")),
    ],
)
def test_what_cannot_be_in_a_card_is_refused_with_the_value(tmp_path, key, value):
    with pytest.raises(PetsegError, match=rf"The card best.json is damaged: {key} is ") as told:
        read_card(with_card(tmp_path, json.dumps(WHOLE | {key: value})))
    assert len(str(told.value)) < 200


def test_a_huge_card_is_refused_before_it_is_read(tmp_path):
    with pytest.raises(PetsegError, match="larger than 10 MB"):
        read_card(with_card(tmp_path, " " * 11_000_000))


def test_what_ships_is_as_it_was_shipped():
    listed = dict(line.split("  ")[::-1] for line in cards.SUMS.read_text().splitlines())
    there = {path.name for path in SHIPPED.iterdir()} - {"README.md", cards.SUMS.name}
    assert set(listed) == there
    assert all(cards.sha256(SHIPPED / name) == digest for name, digest in listed.items())


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
@pytest.mark.parametrize("name", ["decoder", "point"])
def test_what_ships_is_refused_where_a_bit_of_it_is_another(name, runtime, tmp_path, monkeypatch):
    """All else would be well: the card, the shapes, the numbers."""
    shutil.copytree(SHIPPED, tmp_path / "weights")
    file = f"{name}.safetensors" if runtime == "torch" else {"point": "click_head.onnx"}.get(name, f"{name}.onnx")
    path = tmp_path / "weights" / file
    monkeypatch.setattr(cards, "SHIPPED", path.parent)
    Segmenter.load(weights=path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(PetsegError, match=rf"^{file} is not what petseg ships under this name: reinstall petseg"):
        Segmenter.load(weights=path)


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
    with pytest.raises(PetsegError, match="Unknown model 'u-net': use one of unet, autoencoder"):
        check_name("u-net")
