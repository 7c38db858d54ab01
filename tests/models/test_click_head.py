"""The head holds to what a click means, whatever its weights: a click corrects, and never turns a selection around."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from petseg_utils.models.click_head import (
    FIRM,
    MOST,
    ClickHead,
    PointSegmenter,
    in_cells,
    likeness,
    pet_logit,
)
from petseg_utils.models.decoder import Decoder, FrozenSegmenter
from petseg_utils.models.encoders import LITE, load_encoder
from petseg_utils.models.prompts import Box, Click, Scribble, latest_effect, prompt_maps
from petseg_utils.models.selection import LARGEST

SIZE, CHANNELS = 64, 8
SAME = 1e-3  # what rounding may change of a logit


def wild_head(seed=0):
    """A head whose weights are anything, so that what holds of it holds of every head."""
    torch.manual_seed(seed)
    head = ClickHead(CHANNELS, (), ()).eval()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.2)
    return head


def some_cells(n=1, seed=1):
    return torch.randn(n, CHANNELS, SIZE // 4, SIZE // 4, generator=torch.Generator().manual_seed(seed))


def some_selection(n=1, seed=2):
    """Logits of a selection, smooth and on both sides of 0."""
    coarse = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (4 * F.interpolate(coarse, size=SIZE, mode="bicubic")).clamp(-7, 7)


@torch.no_grad()
def answer(head, said, before, cells=None, proposal=None):
    """The head's logits after the prompts `said` on one picture, and those before them."""
    cells = some_cells() if cells is None else cells
    maps = torch.from_numpy(prompt_maps([said], SIZE, before.sigmoid()[0].numpy()))
    proposal = before if proposal is None else proposal
    return head(head.context(cells, ()), proposal, maps, torch.tensor([float(latest_effect(said))]))


def at(logits, click):
    return logits[0, 0, round(click.y), round(click.x)].item()


@pytest.mark.parametrize("seed", range(5))
def test_a_positive_click_never_takes_away_and_a_negative_one_never_adds(seed):
    head, before = wild_head(seed), some_selection(seed=seed)
    more = answer(head, [Click(20, 30)], before)
    less = answer(head, [Click(20, 30, positive=False)], before)
    assert (more >= before - SAME).all() and (less <= before + SAME).all()
    assert (more > before + 1).float().mean() > 0.05 and (less < before - 1).float().mean() > 0.05  # it does something
    free = answer(head, [Box(5, 5, 50, 50)], before)
    assert (free > before + 1).any() and (free < before - 1).any()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    places=st.lists(st.tuples(st.floats(0, SIZE - 1), st.floats(0, SIZE - 1), st.booleans()), min_size=1, max_size=7),
)
def test_through_a_dialogue_every_answer_holds_to_its_click_and_to_all_before(seed, places):
    head, selected, said = wild_head(seed % 7), some_selection(seed=seed), []
    cells, proposal = some_cells(seed=seed), selected
    for x, y, positive in places:
        said.append(Click(x, y, positive))
        after = answer(head, said, selected, cells, proposal)
        before = torch.logit(selected.sigmoid(), eps=3.4e-4)  # within -8..8, as the head sees it
        changed = (after - before) * (1 if positive else -1)
        assert changed.min() >= -SAME
        assert at(after, said[-1]) * (1 if positive else -1) >= FIRM
        for number, click in enumerate(said):
            later = [other for other in said[number + 1 :] if other.positive != click.positive]
            if all(np.hypot(other.x - click.x, other.y - click.y) > 5 for other in later):
                assert at(after, click) * (1 if click.positive else -1) >= FIRM
        selected = after


@pytest.mark.parametrize("distance", [0, 1, 2, 4])
@pytest.mark.parametrize("positive", [True, False])
def test_a_click_beside_an_earlier_one_of_the_other_kind_is_firm_and_stays_so(positive, distance):
    head, selected, cells = wild_head(), some_selection(), some_cells()
    first, second = Click(20, 30, not positive), Click(20 + distance, 30, positive)
    elsewhere = [Click(55, 8, not positive), Click(50, 50, positive), Click(8, 60, not positive)]
    said, sign = [], 1 if positive else -1
    for click in (first, second, *elsewhere):
        said.append(click)
        selected = answer(head, said, selected, cells)
        if len(said) > 1:
            assert sign * at(selected, second) >= FIRM
        if distance > 3:
            assert -sign * at(selected, first) >= FIRM


def test_pixels_under_a_scribble_are_firm_too():
    before = torch.full((1, 1, SIZE, SIZE), -6.0)
    points = tuple((10.0 + 2 * step, 20.0 + step) for step in range(12))
    after = answer(wild_head(), [Scribble(points)], before)
    assert all(after[0, 0, round(y), round(x)] >= FIRM for x, y in points)


def test_an_untrained_head_changes_what_was_clicked_and_nothing_else():
    torch.manual_seed(0)
    head, before = ClickHead(CHANNELS, (), ()).eval(), some_selection()
    rows, columns = np.mgrid[:SIZE, :SIZE]
    near = torch.from_numpy(np.hypot(rows - 30, columns - 20) < 3.1)
    for positive in (True, False):
        after = answer(head, [Click(20, 30, positive)], before)[0, 0]
        assert torch.allclose(after[~near], before[0, 0][~near], atol=1e-3)
        assert (after[near] >= FIRM).all() if positive else (after[near] <= -FIRM).all()


def test_a_picture_is_answered_the_same_alone_and_beside_others():
    head, before, cells = wild_head(), some_selection(3), some_cells(3)
    said = [[Click(20, 30)], [Click(9, 9), Click(40, 41, positive=False)], [Box(3, 4, 50, 60)]]
    maps = torch.from_numpy(prompt_maps(said, SIZE, before.sigmoid()[:, 0].numpy()))
    latest = torch.tensor([float(latest_effect(prompts)) for prompts in said])
    with torch.no_grad():
        together = head(head.context(cells, ()), before, maps, latest)
        for row in range(3):
            one = slice(row, row + 1)
            alone = head(head.context(cells[one], ()), before[one], maps[one], latest[one])
            assert torch.allclose(alone, together[one], atol=1e-3, rtol=1e-3)


def test_what_it_sees_and_what_was_said_matter():
    head, before, cells = wild_head(), some_selection(), some_cells()
    plain = answer(head, [Click(20, 30)], before, cells)
    far = torch.ones(1, 1, SIZE, SIZE, dtype=torch.bool)
    far[..., 15:46, 5:46] = False
    others = {
        "cells": answer(head, [Click(20, 30)], before, some_cells(seed=9)),
        "proposal": answer(head, [Click(20, 30)], before, cells, -before),
        "an earlier click": answer(head, [Click(28, 36, positive=False), Click(20, 30)], before, cells),
        "a box": answer(head, [Box(0, 0, 30, 40), Click(20, 30)], before, cells),
    }
    for name, other in others.items():
        assert not torch.allclose(other, plain, atol=0.1), name
    # Likeness reaches across the picture: what looks like the clicked cell is told so however far away it is.
    moved = cells.clone()
    moved[:, :, 7, 5] = moved[:, :, 0, 15]
    assert not torch.allclose(answer(head, [Click(20, 30)], before, moved)[far], plain[far], atol=0.1)


def test_likeness_is_the_greatest_cosine_with_a_clicked_cell():
    keys = F.normalize(torch.randn(2, 5, 6, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    clicked = torch.zeros(2, 1, 6, 6)
    clicked[0, 0, 1, 2] = clicked[0, 0, 4, 5] = 1
    alike = likeness(keys, clicked)
    assert alike.shape == (2, 1, 6, 6) and (alike[1] == -1).all()
    cosines = [(keys[0] * keys[0, :, y, x][:, None, None]).sum(0) for y, x in ((1, 2), (4, 5))]
    assert torch.allclose(alike[0, 0], torch.maximum(*cosines), atol=1e-6)
    assert alike[0, 0, 1, 2].item() == pytest.approx(1, abs=1e-6)
    everywhere = torch.ones(2, 1, 6, 6)  # more cells than are used
    assert everywhere[0].sum() > MOST and torch.isfinite(likeness(keys, everywhere)).all()


def test_a_click_anywhere_is_in_a_cell_of_its_own_kind():
    for x, y in ((0, 0), (10.5, 10.5), (31.3, 62.8), (63, 63)):
        for kind, positive in enumerate((True, False)):
            cells = in_cells(torch.from_numpy(prompt_maps([[Click(x, y, positive)]], SIZE)))[0]
            assert cells[kind, int((y + 0.5) // 4), int((x + 0.5) // 4)] == 1 and cells[1 - kind].max() == 0
            assert cells[kind].sum() <= 4


def test_the_logit_of_a_pet_is_that_of_either_species_against_the_rest():
    classes = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    pet = 1 - classes.softmax(1)[:, :1]
    assert torch.allclose(pet_logit(classes).sigmoid(), pet, atol=1e-6)
    assert pet_logit(100 * classes).abs().max() == LARGEST


def make_models(width=16):
    torch.manual_seed(0)
    encoder = load_encoder(LITE, SIZE)
    plain = FrozenSegmenter(encoder, Decoder(encoder.channels, encoder.strides, width=width)).eval()
    prompted = PointSegmenter(encoder, Decoder(encoder.channels, encoder.strides, width=width)).eval()
    return plain, prompted


@torch.no_grad()
def test_without_a_prompt_the_point_model_is_the_decoder_it_stands_on(splits):
    plain, prompted = make_models()
    images = torch.from_numpy(np.array(splits["test"].images)).permute(0, 3, 1, 2).float()
    assert not torch.equal(plain(images), prompted(images))
    prompted.start_from(plain.decoder)
    assert torch.equal(plain(images), prompted(images))
    maps = plain.encoder(images)
    seen = prompted.look(images, maps)
    assert torch.equal(prompted(images, maps), seen[1]) and torch.equal(prompted(images, seen=seen), seen[1])


@torch.no_grad()
def test_a_click_goes_on_from_the_previous_selection_and_the_side_turns_the_proposal(splits):
    _, model = make_models()
    nn.init.normal_(model.head.last.weight)
    images = torch.from_numpy(np.array(splits["test"].images[:2])).permute(0, 3, 1, 2).float()
    seen, said, latest = model.look(images), [[Click(20, 30)]] * 2, torch.ones(2)
    pet = pet_logit(seen[1])
    maps = torch.from_numpy(prompt_maps(said, SIZE, pet.sigmoid()[:, 0].numpy()))
    logits = model(images, seen=seen, prompts=maps, latest=latest)
    assert logits.shape == (2, 1, SIZE, SIZE) and torch.equal(logits, model.select(seen, maps, latest))
    assert torch.equal(logits, model.select(seen, maps, latest, torch.ones(2)))
    assert torch.equal(model.select(seen, maps, latest, -torch.ones(2)), model.head(seen[2:], -pet, maps, latest))
    assert not torch.allclose(logits, model.select(seen, maps, latest, -torch.ones(2)))


def test_training_it_leaves_the_decoder_alone_and_the_head_is_small():
    _, model = make_models(width=64)
    model.train()
    assert model.head.training and not model.decoder.training
    assert {name.partition(".")[0] for name, weight in model.named_parameters() if weight.requires_grad} == {"head"}
    assert sum(weight.numel() for weight in model.head.parameters()) < 500_000


@torch.no_grad()
def test_while_the_head_is_trained_the_decoder_is_half_blind_and_else_it_is_not():
    encoder = load_encoder(LITE, SIZE)
    model = PointSegmenter(encoder, Decoder(encoder.channels, encoder.strides, width=16, dropout=0.5))
    image = torch.full((1, 3, SIZE, SIZE), 99.0)
    model.train()
    assert not torch.equal(model(image), model(image))
    model.eval()
    assert torch.equal(model(image), model(image))
