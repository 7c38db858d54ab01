"""What a run's weights depend on is in its card, and a difference is named by its place."""

from dataclasses import asdict

from petseg_utils.training.checkpoints import load, run_folder
from petseg_utils.training.conditions import CONDITIONS, conditions_in, first_difference
from petseg_utils.training.train import train


def test_a_card_holds_all_that_its_weights_depend_on(study, splits):
    train("unet", study, 0, splits, progress=False)
    _, card = load(run_folder("unet", study, 0) / "best.safetensors")
    assert set(CONDITIONS) <= set(card)


def test_a_card_without_a_version_is_of_the_first():
    assert conditions_in({"model": "unet"})["version"] == 1


def test_a_run_to_start_from_is_known_by_the_older_name_of_its_encoder_too():
    older, now = ({"start": [{"model": "decoder", key: "lite"}]} for key in ("encoder_spec", "encoder"))
    assert first_difference(conditions_in(older), conditions_in(now)) is None
    other = {"start": [{"model": "decoder", "encoder": "clip"}]}
    assert first_difference(conditions_in(older), conditions_in(other)) == "start[0].encoder was lite, and is clip now"


def test_settings_that_a_card_does_not_know_had_their_defaults_and_unknown_ones_differ(study):
    settings = asdict(study.settings("decoder"))
    older = {name: value for name, value in settings.items() if name not in ("dropout", "paste")}
    now = conditions_in({"model": "decoder", "settings": settings, "start": [{"settings": settings}]})
    assert (
        first_difference(conditions_in({"model": "decoder", "settings": older, "start": [{"settings": older}]}), now)
        is None
    )
    assert "settings.width" in first_difference(
        conditions_in({"model": "decoder", "settings": older | {"width": 3}}), now | {"start": []}
    )
    gone = conditions_in({"model": "decoder", "settings": {"depth": 5}})
    assert first_difference(gone, now | {"start": []}).startswith("settings.width was None")


def test_a_difference_is_named_by_its_place():
    assert first_difference({"a": 1, "b": (1, 2)}, {"a": 1, "b": [1, 2]}) is None
    assert first_difference({"a": {"b": 1}}, {"a": {"b": 2}}) == "a.b was 1, and is 2 now"
    assert first_difference({"a": [{"b": 1}]}, {"a": [{"b": 2}]}) == "a[0].b was 1, and is 2 now"
    assert first_difference({"a": []}, {"a": [1]}) == "a was [], and is [1] now"
