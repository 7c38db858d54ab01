"""Dialogues are scored as defined, by a model that this test controls."""

import numpy as np
import pytest
import torch
from torch import nn

from petseg_utils.data.labels import PADDING
from petseg_utils.scores.clicks import (
    MOST_CLICKS,
    click_values,
    clicks_needed,
    dialogue,
    first_clicks,
    open_pictures,
    picture_iou,
    proposals,
    same_class_counts,
    summarise_clicks,
)


class Painter(nn.Module):
    """Proposes nothing, then selects a disc around each positive click, less those around negative ones."""

    def __init__(self, reach: float):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.reach = reach

    def encoder(self, images):
        return []

    def look(self, images, maps):
        return ()

    def head(self, prompts):
        near = torch.exp(torch.tensor(-(self.reach**2) / (2 * 4.0**2)))
        chosen = (prompts[:, 0] > near) & (prompts[:, 1] <= near)
        return torch.where(chosen, 9.0, -9.0)[:, None]


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
    iou = np.tile(np.linspace(0.5, 0.88, MOST_CLICKS)[:, None], (1, 3))
    iou[:, 1] = 0.95
    iou[:, 2] = np.nan
    assert clicks_needed(iou, 0.9).tolist()[:2] == [20, 1]
    assert clicks_needed(iou, 0.85)[0] == np.argmax(iou[:, 0] >= 0.85) + 1
    assert np.isnan(clicks_needed(iou, 0.9)[2])


def test_corrections_follow_the_model_and_make_its_mask_better(splits):
    opened = next(open_pictures(Painter(6), splits["test"]))
    first = first_clicks(opened, 0)
    values = dialogue(Painter(6), opened, first, proposals(Painter(6), opened), 12)
    assert (np.diff(values, axis=0) > 0).mean() > 0.6
    assert values[-1].mean() > values[0].mean() + 0.2
    rows = zip(first, opened.pets, strict=True)
    assert all(len(said) == 1 and pet[said[0].y, said[0].x] for said, pet in rows)  # and firsts stay as they were


def test_values_and_their_summary_agree_with_a_plain_computation(splits):
    test = splits["test"]
    values = click_values(Painter(8), test)
    clicks = summarise_clicks(values, 50)
    assert values["proposed"].max() == 0
    assert len({tuple(first) for first in values["iou"][:, 0].round(6)}) == 5  # each with a first click of its own
    assert clicks["iou@3"] == pytest.approx(values["iou"][:, 2].mean())
    assert clicks["iou@1"] <= clicks["iou@3"] <= clicks["iou@5"]
    assert 1 <= clicks["noc@85"] <= clicks["noc@90"] <= 20
    rest, target = (values["same_class"].sum(0)[k, k] for k in (0, 1))
    table = values["same_class"].sum(0)
    iou = [rest / (table[0].sum() + table[1, 0]), target / (table[1].sum() + table[0, 1])]
    assert clicks["same_class_click"]["miou"] == pytest.approx(np.mean(iou))
    assert clicks["same_class_click"]["dice"] == pytest.approx(np.mean([2 * value / (1 + value) for value in iou]))
    counted = (test.labels < PADDING).sum((1, 2))
    assert np.array_equal(values["same_class"].sum((1, 2)), 5 * counted)
    assert all(low <= clicks[name] <= high for name, (low, high) in clicks["ci95"].items() if name in clicks)


def test_a_click_beside_the_pet_asks_for_everything_but_the_pet(splits):
    opened = next(open_pictures(Painter(8), splits["test"]))
    asked_for_pet = set()
    for number in range(6):
        counts = same_class_counts(Painter(8), opened, proposals(Painter(8), opened), number)
        for pet, known, count in zip(opened.pets, opened.counted, counts, strict=True):
            sizes = (known & pet).sum(), (known & ~pet).sum()
            target, right = count[1].sum(), count[1, 1]
            assert target in sizes
            asked_for_pet.add(bool(target == sizes[0]))
            assert right > count[0, 1]  # what lies around a click is mostly of its own class, whichever that is
    assert asked_for_pet == {True, False}


def test_a_picture_without_a_pet_breaks_nothing_and_is_left_out(splits):
    test = splits["test"].subset(splits["test"].table["name"].tolist())
    labels = test.labels.copy()
    labels[0] = np.where(labels[0] == PADDING, PADDING, 0)
    test = type(test)(test.table, test.images, labels)
    values = click_values(Painter(8), test)
    assert np.isnan(values["iou"][:, :, 0]).all() and np.isnan(values["centre"][:, 0]).all()
    assert not np.isnan(values["iou"][:, :, 1:]).any()
    assert np.isfinite(summarise_clicks(values, 10)["iou@1"])
