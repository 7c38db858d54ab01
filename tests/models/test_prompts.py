"""Prompts are drawn one way, and the simulated user clicks where a person would."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from petseg_utils.models.prompts import (
    CHANNELS,
    SIGMA,
    Box,
    Click,
    Scribble,
    centre_click,
    correcting_click,
    distance_to_edge,
    draw_prompts,
    first_prompts,
    jitter,
    loose_box,
    prompt_maps,
    random_click,
    random_scribble,
)


def disc(size=64, centre=(30, 24), radius=12):
    rows, columns = np.mgrid[:size, :size]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def test_a_click_is_a_gaussian_at_its_pixel_in_its_channel():
    maps = draw_prompts([Click(20, 40), Click(5, 6, positive=False)], 64)
    assert maps.shape == (len(CHANNELS), 64, 64) and maps.dtype == np.float32
    assert maps[0, 40, 20] == 1 and maps[1, 6, 5] == 1
    assert maps[0, 40, 20 + int(SIGMA)] == pytest.approx(np.exp(-0.5))
    assert maps[0, 40 + 3, 20 + 4] == pytest.approx(np.exp(-25 / (2 * SIGMA**2)))
    assert maps[2:].max() == 0


def test_a_scribble_is_the_union_of_its_points():
    points = ((10, 10), (14, 11), (20, 30))
    each = [draw_prompts([Click(x, y)], 64) for x, y in points]
    assert np.array_equal(draw_prompts([Scribble(points)], 64), np.max(each, axis=0))
    assert draw_prompts([Scribble(points, positive=False)], 64)[0].max() == 0


@pytest.mark.parametrize("box", [Box(10, 20, 40, 50), Box(40, 50, 10, 20)])
def test_a_box_is_full_inside_and_soft_outside(box):
    drawn = draw_prompts([box], 64)[2]
    assert (drawn[20:51, 10:41] == 1).all()
    assert drawn[30, 9] == pytest.approx(np.exp(-1 / (2 * SIGMA**2)))
    assert drawn[30, 0] < 0.1


def test_the_last_mask_has_its_own_channel_and_sets_are_drawn_one_by_one():
    before = np.random.default_rng(0).random((2, 32, 32)).astype(np.float32)
    said = [[Click(3, 4)], [Box(1, 2, 9, 9)]]
    together = prompt_maps(said, torch.zeros(2, 3, 32, 32), before)
    for row in range(2):
        assert np.array_equal(together[row].numpy(), draw_prompts(said[row], 32, before[row]))


def test_a_correction_is_the_middle_of_the_largest_wrong_region():
    target, nothing = disc(), np.zeros((64, 64), bool)
    assert correcting_click(target, nothing, nothing) == Click(24, 30, True)  # all is missing
    more = target | disc(centre=(50, 52), radius=6)
    assert correcting_click(target, more, nothing) == Click(52, 50, False)
    assert correcting_click(target, target, nothing) is None


def test_a_correction_never_falls_on_ignored_pixels():
    target, nothing = disc(), np.zeros((64, 64), bool)
    ignored = disc(radius=9)
    click = correcting_click(target, nothing, ignored)
    assert not ignored[click.y, click.x] and target[click.y, click.x]
    assert correcting_click(target, nothing, target) is None


def test_the_pictures_edge_counts_as_an_edge():
    everything = np.ones((21, 21), bool)
    assert distance_to_edge(everything)[0, 10] == 1
    assert centre_click(everything) == Click(10, 10)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), radius=st.integers(2, 20))
def test_whatever_is_said_first_is_about_the_target(seed, radius):
    target, rng = disc(radius=radius), np.random.default_rng(seed)
    for prompt in first_prompts(target, rng):
        if isinstance(prompt, Box):
            assert prompt.x0 <= 24 <= prompt.x1 and prompt.y0 <= 30 <= prompt.y1
            continue
        points = prompt.points if isinstance(prompt, Scribble) else [(prompt.x, prompt.y)]
        assert points and prompt.positive
        assert all(target[round(y), round(x)] for x, y in points)


def test_random_prompts_differ_by_seed_and_repeat_with_it():
    target = disc()
    clicks = [random_click(target, np.random.default_rng(seed)) for seed in range(40)]
    assert len(set(clicks)) > 30
    assert clicks == [random_click(target, np.random.default_rng(seed)) for seed in range(40)]
    assert random_scribble(target, np.random.default_rng(1)) == random_scribble(target, np.random.default_rng(1))
    assert loose_box(target, np.random.default_rng(1)) != loose_box(target, np.random.default_rng(2))


def test_an_unsteady_hand_stays_on_the_region_and_within_reach():
    target = disc()
    for seed in range(30):
        moved = jitter(Click(34, 30), target, 5, np.random.default_rng(seed))
        assert target[moved.y, moved.x] and np.hypot(moved.x - 34, moved.y - 30) <= 5
