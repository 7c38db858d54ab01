"""Dialogues are scored as defined, by a model that this test controls."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from petseg_utils.data.labels import BORDER, PADDING
from petseg_utils.models.click_head import PointSegmenter, pet_logit
from petseg_utils.models.decoder import Decoder
from petseg_utils.models.encoders import LITE, load_encoder
from petseg_utils.models.feature_cache import load_features
from petseg_utils.models.prompts import Box, Click, Scribble, centre_click
from petseg_utils.scores import clicks as clicks_module
from petseg_utils.scores.clicks import (
    DEEP,
    DIALOGUES,
    MOST_CLICKS,
    WORSE,
    click_values,
    clicked_classes,
    clicked_scores,
    clicks_needed,
    dialogue,
    first_clicks,
    natural_clicks,
    open_pictures,
    picture_iou,
    proposals,
    same_class_counts,
    select,
    some_pictures,
    summarise_clicks,
)
from petseg_utils.scores.intervals import mean_interval
from petseg_utils.scores.results import clicks_table, flat_clicks, score_lines
from tests.scores.painter import Painter, opened_by_hand

SIZE = 128


def square(*window):
    """A mask ``bool (SIZE, SIZE)`` of some rows and columns: ``top, bottom, left, right``."""
    mask = np.zeros((SIZE, SIZE), bool)
    top, bottom, left, right = window
    mask[top:bottom, left:right] = True
    return mask


def disc(x, y, radius):
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_iou_of_a_mask_leaves_out_border_and_padding():
    target = np.zeros((1, 4, 4), bool)
    target[0, :2] = True
    counted = np.ones_like(target)
    counted[0, 0] = False
    mask = np.zeros_like(target)
    mask[0, 0] = mask[0, 1, :2] = True
    assert picture_iou(target, mask, counted)[0] == pytest.approx(2 / 4)
    assert np.isnan(picture_iou(np.zeros_like(target), mask, counted))[0]


def test_clicks_needed_counts_failures_as_twenty():
    values = np.tile(np.linspace(0.5, 0.88, MOST_CLICKS)[:, None], (1, 3))
    values[:, 1] = 0.95
    values[:, 2] = np.nan
    assert clicks_needed(values, 0.9).tolist()[:2] == [20, 1]
    assert clicks_needed(values, 0.85)[0] == np.argmax(values[:, 0] >= 0.85) + 1
    assert np.isnan(clicks_needed(values, 0.9)[2])


# One answer


def test_a_selection_stays_where_nothing_was_said_and_is_limited_by_boxes():
    labels = np.stack([square(20, 100, 20, 100).astype(np.uint8)] * 4)
    opened = opened_by_hand(labels, labels == 1)
    before = np.random.default_rng(0).random((4, SIZE, SIZE)).astype(np.float32)
    said = [[], [Click(110, 110)], [Box(30, 30, 80, 80)], [Box(30, 30, 80, 80), Click(120, 5), Click(60, 60)]]
    after = select(Painter(6), opened, said, before)
    assert after.shape == before.shape and np.array_equal(after[0], before[0])
    assert (after[1] > 0.9)[disc(110, 110, 6)].all()
    np.testing.assert_allclose(after[1][~disc(110, 110, 6)], before[1][~disc(110, 110, 6)], atol=1e-3)
    within = square(29, 82, 29, 82)  # with 3 % of 50 pixels
    for row in (2, 3):
        assert after[row][~within].max() == 0
    np.testing.assert_allclose(after[2][within], before[2][within], atol=1e-3)
    assert after[3][60, 60] > 0.9


def test_a_negative_click_on_a_thin_rim_keeps_the_rest_whatever_the_model_says():
    proposed = np.zeros((1, SIZE, SIZE), bool)
    proposed[0, 20:50, 20:50] = True
    opened, model = opened_by_hand(proposed.astype(np.uint8), proposed), Painter(reach=99)  # it would take all away
    after = {x: select(model, opened, [[Click(x, 35, positive=False)]], proposals(opened))[0] > 0.5 for x in (21, 35)}
    rows, columns = np.nonzero(proposed[0] & ~after[21])
    assert columns.max() <= 27 and rows.min() >= 29 and rows.max() <= 41 and not after[21][35, 21]
    assert not after[35].any()  # in the middle, all of it may be meant


def test_what_a_negative_click_leaves_in_small_parts_goes_as_in_an_open_photo():
    bar = square(20, 36, 10, 66)
    opened, model = opened_by_hand(bar.astype(np.uint8)[None], bar[None]), Painter(reach=99)
    before = np.where(bar, 0.9, 0.1).astype(np.float32)[None]
    click = [[Click(38, 28, positive=False)]]
    assert not (select(model, opened, click, before)[0] > 0.5).any()
    before[0, 28, 12] = 0.99  # of this end the model is sure
    left = select(model, opened, click, before)[0] > 0.5
    assert left[28, 12] and left[28, 20] and not left[:, 38:].any()


def test_what_is_selected_and_proposed_starts_from_the_classes():
    classes = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    opened = replace(
        opened_by_hand(np.zeros((2, SIZE, SIZE), np.uint8), np.zeros((2, SIZE, SIZE), bool)),
        seen=(torch.zeros(2, 3, 32, 32), classes),
    )
    pet = 1 - classes.softmax(1)[:, 0].numpy()
    np.testing.assert_allclose(proposals(opened), pet, atol=1e-6)
    np.testing.assert_allclose(proposals(opened, torch.tensor([1.0, -1.0]))[1], 1 - pet[1], atol=1e-6)


def test_what_is_selected_gets_one_species_and_padding_none():
    labels = np.stack([square(20, 100, 20, 100).astype(np.uint8)] * 3)
    labels[:, :10] = PADDING
    opened = opened_by_hand(labels, np.stack([square(20, 60, 20, 60)] * 3))
    opened.seen[1][1, 2] = opened.seen[1][1, 1] + 1  # a dog rather
    classes = clicked_classes(Painter(8), opened, [[Click(90, 90)], [Click(90, 90)], [Click(64, 8)]])
    wanted = square(20, 60, 20, 60) | disc(90, 90, 8)
    assert np.array_equal(classes[0], wanted * 1) and np.array_equal(classes[1], wanted * 2)
    assert (classes[2][:10] == 0).all() and classes[2][12, 64] == 1
    nothing = clicked_classes(Painter(8), opened, [[], [], []])
    assert np.array_equal(nothing[0], square(20, 60, 20, 60) * 1)


# Dialogues


def test_a_dialogue_starts_from_the_proposal_and_each_answer_from_the_one_before():
    pet = square(20, 100, 20, 100)
    opened = opened_by_hand(pet[None].astype(np.uint8), square(20, 100, 20, 60)[None])
    values = dialogue(Painter(10), opened, [[Click(80, 40)]], 3)
    first = square(20, 100, 20, 60) | disc(80, 40, 10)
    assert values[0, 0] == pytest.approx(iou(first, pet))
    assert values[0, 0] < values[1, 0] < values[2, 0]
    # The second click is where the simulated user finds the deepest part that is still missing.
    rest = pet & ~first
    grown = [iou(first | disc(x, y, 10), pet) for y, x in np.argwhere(rest)]
    assert min(grown) <= values[1, 0] <= max(grown)


def test_a_dialogue_is_the_same_each_time_in_any_batch_and_another_one_is_another():
    pet = square(10, 120, 10, 120)
    proposed = square(10, 120, 10, 30)
    opened = opened_by_hand(np.stack([pet.astype(np.uint8)] * 4), np.stack([proposed] * 4))
    first = [[centre_click(pet)]] * 4
    values = dialogue(Painter(24), opened, first, 6)
    assert np.array_equal(values, dialogue(Painter(24), opened, first, 6))
    alone = opened_by_hand(pet[None].astype(np.uint8), proposed[None], range(2, 3))
    assert np.array_equal(dialogue(Painter(24), alone, first[:1], 6)[:, 0], values[:, 2])
    assert len({tuple(column) for column in values[1:].T}) > 1  # of equal pictures each has clicks of its own
    other = dialogue(Painter(24), opened, first, 6, number=1)
    assert np.array_equal(other[0], values[0]) and not np.array_equal(other, values)
    assert first == [[centre_click(pet)]] * 4  # and what was given stays as it was


def test_a_dialogue_stops_once_every_picture_is_good_enough_and_who_is_content_says_nothing_more():
    pet = square(40, 80, 40, 80)
    both = np.stack([pet.astype(np.uint8)] * 2)
    opened = opened_by_hand(both, np.stack([pet, square(40, 80, 40, 70)]))
    model = Painter(4)
    values = dialogue(model, opened, [[Click(60, 60)]] * 2, 12)
    assert (values[:, 0] == 1).all() and model.answers == 12
    model = Painter(4)
    stopped = dialogue(model, opened, [[Click(60, 60)]] * 2, 12, until=0.8)
    reached = int(np.argmax(values[:, 1] >= 0.8))
    assert model.answers == reached + 1 < 12
    assert model.asked == 2 + reached  # the other picture was good enough after its first answer
    assert np.array_equal(stopped[: reached + 1], values[: reached + 1])
    assert (stopped[reached:] == values[reached]).all()


def test_who_is_content_keeps_what_he_has_while_others_go_on():
    class Forgetful(Painter):
        """Its first answer is right; then it turns everything around that it is asked again."""

        def select(self, *given):
            return super().select(*given) * (1 if self.answers < 2 else -1)

    pet = square(40, 80, 40, 80)
    opened = opened_by_hand(np.stack([pet.astype(np.uint8)] * 2), np.stack([pet, square(40, 80, 40, 60)]))
    values = dialogue(Forgetful(), opened, [[Click(60, 60)]] * 2, 3)
    assert values[:, 0].tolist() == [1, 1, 1] and values[1, 1] < values[0, 1]


def test_a_picture_on_which_nothing_is_said_keeps_its_proposal():
    pet = square(40, 80, 40, 80)
    opened = opened_by_hand(pet[None].astype(np.uint8), square(40, 80, 40, 70)[None])
    assert dialogue(Painter(), opened, [[]], 3)[:, 0].tolist() == [0.75] * 3


def test_corrections_follow_the_model_and_make_its_mask_better(splits):
    opened = next(open_pictures(Painter(6), splits["test"]))
    first = first_clicks(opened, 0)
    values = dialogue(Painter(6), opened, first, 12)
    assert (np.diff(values, axis=0) > 0).mean() > 0.6
    assert values[-1].mean() > values[0].mean() + 0.2
    rows = zip(first, opened.pets, strict=True)
    assert all(len(said) == 1 and pet[said[0].y, said[0].x] for said, pet in rows)  # and firsts stay as they were


# One natural click


def natural_case():
    """Pictures by hand: one misses a part, one has too much, one both, and four on which nobody would click."""
    pet = square(20, 100, 20, 100)
    cases = {
        "misses": square(20, 100, 20, 60),
        "too much": pet | square(104, 124, 30, 90),
        "both": square(20, 100, 20, 60) | square(104, 124, 30, 90),
        "right": pet,
        "a thin line": square(20, 100, 20, 98),  # two pixels wide
        "under the border": pet,
        "no pet": square(5, 40, 5, 40),
    }
    labels = np.stack([pet.astype(np.uint8)] * len(cases))
    labels[5][square(20, 100, 60, 100)] = BORDER
    labels[6] = 0
    return opened_by_hand(labels, np.stack(list(cases.values()))), pet, list(cases)


def test_a_natural_click_falls_on_the_deepest_missed_part_and_is_scored_before_and_after():
    opened, pet, names = natural_case()
    before, after = natural_clicks(Painter(8), opened, positive=True)
    assert [name for name, value in zip(names, before, strict=True) if not np.isnan(value)] == ["misses", "both"]
    assert np.array_equal(np.isnan(before), np.isnan(after))
    half = square(20, 100, 20, 60)
    click = centre_click(pet & ~half)
    assert pet[click.y, click.x] and click.x in (79, 80)
    assert before[0] == pytest.approx(0.5) == pytest.approx(iou(half, pet))
    assert after[0] == pytest.approx(iou(half | disc(click.x, click.y, 8), pet))
    more = square(104, 124, 30, 90)
    assert before[2] == pytest.approx(iou(half | more, pet))
    assert after[2] == pytest.approx(iou(half | more | disc(click.x, click.y, 8), pet))


def test_a_natural_negative_click_falls_on_the_deepest_part_in_excess():
    opened, pet, names = natural_case()
    before, after = natural_clicks(Painter(8), opened, positive=False)
    assert [name for name, value in zip(names, before, strict=True) if not np.isnan(value)] == ["too much", "both"]
    more = square(104, 124, 30, 90)
    click = centre_click(more)
    assert before[1] == pytest.approx(iou(pet | more, pet))
    assert after[1] == pytest.approx(iou(pet | (more & ~disc(click.x, click.y, 8)), pet))
    assert after[2] > before[2]


@pytest.mark.parametrize(("width", "deep"), [(2, False), (3, True)])
def test_people_click_on_parts_that_are_deep_enough_to_be_seen(width, deep):
    assert 1 < DEEP * SIZE < 2  # the middle of three pixels is two from the edge
    pet = square(20, 100, 20, 100)
    opened = opened_by_hand(pet[None].astype(np.uint8), square(20, 100, 20, 100 - width)[None])
    assert np.isnan(natural_clicks(Painter(), opened, positive=True)).all() != deep


def test_a_model_that_turns_selections_around_is_seen_to_make_them_worse():
    class Turning(Painter):
        def select(self, *given):
            return -super().select(*given)

    opened, _, _ = natural_case()
    missed = natural_clicks(Turning(8), opened, positive=True)
    assert missed[1, 0] < missed[0, 0] - 0.1
    n = missed.shape[1]
    values = {
        "iou": np.full((DIALOGUES, 5, n), 0.5),
        "centre": np.full((MOST_CLICKS, n), 0.5),
        "same_class": np.tile(np.eye(2, dtype=int), (n, 1, 1)),
        "proposed": np.full(n, 0.5),
        "missed": missed,
        "excess": natural_clicks(Painter(8), opened, positive=False),
    }
    summary = summarise_clicks(values, 50)
    assert summary["missed@1"] == {
        "before": pytest.approx(np.nanmean(missed[0])),
        "after": pytest.approx(np.nanmean(missed[1])),
        "worse": 1.0,
        "n_images": 2.0,
    }
    assert summary["excess@1"]["worse"] == 0 and summary["excess@1"]["n_images"] == 2
    assert summary["excess@1"]["after"] > summary["excess@1"]["before"]


def test_a_loss_that_nobody_would_see_is_not_counted_as_worse():
    before, n = 0.8, 5
    after = np.array([before - 2 * WORSE, before - WORSE / 2, before, 0.9, np.nan])
    values = {
        "iou": np.full((DIALOGUES, 5, n), 0.5),
        "centre": np.full((MOST_CLICKS, n), 0.5),
        "same_class": np.tile(np.eye(2, dtype=int), (n, 1, 1)),
        "proposed": np.full(n, 0.5),
        "missed": np.stack([np.where(np.isnan(after), np.nan, before), after]),
        "excess": np.full((2, n), np.nan),
    }
    summary = summarise_clicks(values, 50)
    assert summary["missed@1"]["worse"] == pytest.approx(1 / 4) and summary["missed@1"]["n_images"] == 4
    assert summary["missed@1"]["after"] == pytest.approx(np.nanmean(after))
    by_picture = {"before": values["missed"][0], "after": after, "worse": np.array([1, 0, 0, 0, np.nan])}
    for name, each in by_picture.items():
        assert summary["ci95"][f"missed@1.{name}"] == pytest.approx(list(mean_interval(each, 50)[1:]))
    # Nobody had anything to take away: that is no number, and JSON can hold it.
    assert summary["excess@1"] == {"before": None, "after": None, "worse": None, "n_images": 0.0}
    assert summary["ci95"]["excess@1.after"] == [None, None]
    record = {
        "clicks": json.loads(json.dumps(summary, allow_nan=False)),
        "model": "point",
        "encoder": None,
        "study": "x",
    }
    record |= {"split": "test", "subset": "all", "protocol": "ignore_border", "n_images": n, "n_breeds": 1}
    record |= {"scores": {"iou": {}, "ci95": {}}}
    flat = flat_clicks(record)
    assert flat["missed@1.after"] == (summary["missed@1"]["after"], *summary["ci95"]["missed@1.after"])
    assert np.isnan(flat["excess@1.worse"]).all()
    assert {"proposed", "iou@1", "noc@90", "same_class_click.miou", "missed@1.before", "excess@1.n_images"} <= set(flat)
    lines = score_lines([record]).splitlines()
    assert any("missed@1.worse" in line and "0.2500" in line for line in lines)
    assert any("excess@1.before" in line and line.endswith("absent") for line in lines)
    column = clicks_table([record])["click model, study x, 1 seed"]
    assert column["a click on what is too much: IoU after"] == "absent"
    assert column["a click on what is too much: pictures"] == "0"
    assert column["a click on what is missed: share of pictures that got worse"] == "25% [1%, 81%]"


# All of them


def test_values_and_their_summary_agree_with_a_plain_computation(splits):
    test = splits["test"]
    values = click_values(Painter(8), test)
    clicks = summarise_clicks(values, 50)
    assert values["proposed"].max() == 0
    assert len({tuple(first) for first in values["iou"][:, 0].round(6)}) == 5  # each with a first click of its own
    assert clicks["iou@3"] == pytest.approx(values["iou"][:, 2].mean())
    assert clicks["iou@1"] <= clicks["iou@3"] <= clicks["iou@5"]
    assert 1 <= clicks["noc@85"] <= clicks["noc@90"] <= 20
    # Nothing is proposed, so all of the pet is missed and nothing is in excess.
    assert clicks["missed@1"]["before"] == 0 and clicks["missed@1"]["n_images"] == len(test)
    assert clicks["missed@1"]["after"] == pytest.approx(values["centre"][0].mean())  # a click at the pet's centre
    assert clicks["excess@1"]["n_images"] == 0
    rest, target = (values["same_class"].sum(0)[k, k] for k in (0, 1))
    table = values["same_class"].sum(0)
    by_hand = [rest / (table[0].sum() + table[1, 0]), target / (table[1].sum() + table[0, 1])]
    assert clicks["same_class_click"]["miou"] == pytest.approx(np.mean(by_hand))
    assert clicks["same_class_click"]["dice"] == pytest.approx(np.mean([2 * value / (1 + value) for value in by_hand]))
    counted = (test.labels < PADDING).sum((1, 2))
    assert np.array_equal(values["same_class"].sum((1, 2)), 5 * counted)
    for name, (low, high) in clicks["ci95"].items():
        group, _, key = name.partition(".")
        value = clicks[group][key] if key else clicks[group]
        assert value is low is high is None or low <= value <= high
    assert set(flat_clicks({"clicks": clicks})) == set(clicks["ci95"])


def test_some_of_the_pictures_have_their_own_values(splits):
    values = click_values(Painter(8), splits["test"])
    rows = np.array([0, 3, 4])
    few = some_pictures(values, rows)
    assert few["iou"].shape[-1] == few["missed"].shape[-1] == len(few["same_class"]) == 3
    assert np.array_equal(few["same_class"], values["same_class"][rows])
    assert np.array_equal(few["missed"], values["missed"][:, rows], equal_nan=True)
    assert summarise_clicks(few, 10)["missed@1"]["n_images"] == 3


def test_a_click_beside_the_pet_asks_for_everything_but_the_pet(splits):
    """In the mode in which the first click chooses: by a model that finds the pet, both sides come out whole."""
    model = Painter(3, finds=True)
    opened = next(open_pictures(model, splits["test"]))
    asked_for_pet, right = set(), []
    for number in range(6):
        counts = same_class_counts(model, opened, number)
        for pet, known, count in zip(opened.pets, opened.counted, counts, strict=True):
            sizes = (known & pet).sum(), (known & ~pet).sum()
            target = count[1].sum()
            assert target in sizes
            asked_for_pet.add(bool(target == sizes[0]))
            right.append(count[1, 1] / (target + count[0, 1]))
    assert asked_for_pet == {True, False}
    assert np.mean(right) > 0.9 and np.median(right) > 0.97


def test_in_the_other_mode_the_background_is_never_selected(splits):
    model = Painter(3, finds=True)
    opened = next(open_pictures(model, splits["test"]))
    beside = [
        [Click(int(x), int(y))]
        for y, x in (np.argwhere(known & ~pet)[0] for known, pet in zip(opened.counted, opened.pets, strict=True))
    ]
    masks, proposed = select(model, opened, beside, proposals(opened)) > 0.5, proposals(opened) > 0.5
    for mask, before, (click,) in zip(masks, proposed, beside, strict=True):
        assert mask[click.y, click.x] and not (before & ~mask).any()
        assert mask.sum() <= before.sum() + 40  # the disc


def test_a_picture_without_a_pet_breaks_nothing_and_is_left_out(splits):
    test = splits["test"].subset(splits["test"].table["name"].tolist())
    labels = test.labels.copy()
    labels[0] = np.where(labels[0] == PADDING, PADDING, 0)
    test = type(test)(test.table, test.images, labels)
    values = click_values(Painter(8, finds=True), test)
    for name in ("iou", "centre", "proposed", "missed", "excess"):
        assert np.isnan(values[name][..., 0]).all(), name
    assert not np.isnan(values["iou"][:, :, 1:]).any()
    assert np.isfinite(summarise_clicks(values, 10)["iou@1"])


@pytest.mark.parametrize("spec", [LITE, LITE + "@64+128"])
def test_cached_features_give_the_same_clicks_as_the_encoder(study, splits, spec, tmp_path):
    torch.manual_seed(0)
    encoder = load_encoder(spec, 64)
    model = PointSegmenter(encoder, Decoder(encoder.channels, encoder.strides, width=16)).eval()
    detail = np.array(splits["test"].images).repeat(2, 1).repeat(2, 2)
    test = replace(splits["test"], detail=detail if encoder.scale == 2 else None)
    features = load_features(encoder, test, tmp_path, progress=False)
    direct, cached = (next(open_pictures(model, test, given)) for given in (None, features))
    assert direct.seen[1].shape == cached.seen[1].shape == (len(test), 3, 64, 64)  # the size of the masks
    torch.testing.assert_close(pet_logit(direct.seen[1]), pet_logit(cached.seen[1]), rtol=0.1, atol=0.05)
    said = first_clicks(direct, 0)
    masks = [select(model, opened, said, proposals(opened)) > 0.5 for opened in (direct, cached)]
    assert (masks[0] == masks[1]).mean() > 0.99
    counts = [same_class_counts(model, opened, 0) for opened in (direct, cached)]
    assert counts[0].sum() == counts[1].sum() > 0 and np.abs(counts[0] - counts[1]).sum() < 0.05 * counts[0].sum()


def test_scores_of_an_epoch_are_those_of_the_whole_evaluation(splits, monkeypatch):
    test, model = splits["test"], Painter(8, finds=True)
    scores = clicked_scores(model, test)
    values = click_values(model, test)
    assert scores["iou@3"] == pytest.approx(values["iou"][0, 2].mean())
    assert scores["clicked"] == pytest.approx(
        np.mean([scores[name] for name in ("iou@1", "iou@3", "iou@5", "same_class")])
    )
    assert {"miou", "validation_loss"} <= set(scores)
    monkeypatch.setattr(clicks_module, "proposals", lambda opened, side=None: np.zeros_like(opened.pets, np.float32))
    assert clicked_scores(model, test)["iou@1"] < scores["iou@1"]  # a dialogue starts from the proposal


def test_a_scribble_is_taken_as_a_first_prompt_too():
    pet = square(20, 100, 20, 100)
    opened = opened_by_hand(pet[None].astype(np.uint8), np.zeros((1, SIZE, SIZE), bool))
    stroke = Scribble(((30.0, 40.0), (60.0, 60.0)))
    value = dialogue(Painter(10), opened, [[stroke]], 1)[0, 0]
    assert value == pytest.approx(iou(disc(30, 40, 10) | disc(60, 60, 10), pet))


def test_parts_in_which_the_model_is_nowhere_sure_are_not_proposed():
    """Nor are they predicted; see `selection.settled`."""
    pet = square(40, 80, 40, 80)
    speck = square(5, 15, 5, 15)
    opened = opened_by_hand(pet.astype(np.uint8)[None], pet[None])
    classes = torch.where(torch.from_numpy(speck), 2.0, opened.seen[1][:, 1])  # of the speck it is sure by 0.88
    opened = replace(opened, seen=(opened.seen[0], torch.stack([opened.seen[1][:, 0], classes, classes * 0 - 30], 1)))
    assert np.array_equal(proposals(opened)[0] > 0.5, pet | speck)
    sure = replace(opened, peak=0.95)
    assert np.array_equal(proposals(sure)[0] > 0.5, pet)
    assert np.array_equal(proposals(sure, torch.tensor([-1.0]))[0] > 0.5, ~pet)
    assert sure.some([0]).peak == 0.95
