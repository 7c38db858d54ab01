"""Prompts are drawn one way, and the simulated user clicks where a person would."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petseg_utils.models.prompts import (
    BOX_MARGIN,
    CHANNELS,
    HELD,
    INSIDE,
    LEAST_REACH,
    OFF_CENTRE,
    REACH,
    SIGMA,
    SURE,
    Box,
    Click,
    Scribble,
    centre_click,
    correcting_click,
    deepest_click,
    distance_to_edge,
    draw_prompts,
    jitter,
    latest_effect,
    loose_box,
    prompt_maps,
    random_click,
    random_scribble,
    remnants,
    within_boxes,
    within_reach,
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
    together = prompt_maps(said, 32, before)
    for row in range(2):
        assert np.array_equal(together[row], draw_prompts(said[row], 32, before[row]))


@pytest.mark.parametrize("positive", [True, False])
def test_where_clicks_of_two_kinds_meet_the_later_one_decides(positive):
    first, second = Click(20, 30, positive), Click(22, 30, not positive)
    maps = draw_prompts([first, second], 64)
    mine, other = (maps[1], maps[0]) if positive else (maps[0], maps[1])
    rows, columns = np.mgrid[:64, :64]
    held = np.exp(-((columns - 22) ** 2 + (rows - 30) ** 2) / (2 * SIGMA**2)) > HELD
    assert np.array_equal(mine > HELD, held) and not ((other > HELD) & held).any()
    alone = draw_prompts([first], 64)[0 if positive else 1]
    assert np.array_equal(other[~held], alone[~held]) and (other > HELD).any()  # elsewhere the first is as it was
    more = draw_prompts([first, second, Click(50, 50, positive)], 64)[: 2 if positive else None]
    assert not ((more[0 if positive else 1] > HELD) & held).any()  # and a later click far away does not bring it back
    stroke = Scribble(tuple((10.0 + x, 30.0) for x in range(20)), positive)
    after = draw_prompts([first, second, stroke], 64)
    assert after[0 if positive else 1, 30, 22] == 1 and after[1 if positive else 0, 30, 22] == HELD


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


def test_the_deepest_click_knows_its_depth_and_its_sign():
    depth, click = deepest_click(disc())
    assert depth == pytest.approx(distance_to_edge(disc()).max()) and 12 <= depth <= 13
    assert click == Click(24, 30, True) and deepest_click(disc(), positive=False)[1] == Click(24, 30, False)
    both = disc(radius=6) | disc(centre=(30, 52), radius=8)  # of two parts the deeper one
    assert deepest_click(both)[1] == Click(52, 30)
    assert deepest_click(np.zeros((64, 64), bool))[0] == 0
    assert deepest_click(np.zeros((64, 64), bool), np.random.default_rng(0))[0] == 0


def test_people_click_off_the_centre_but_well_inside():
    target = disc(radius=14) | disc(centre=(30, 52), radius=7)
    distance, nothing = distance_to_edge(target), np.zeros((64, 64), bool)
    excess = target & ~disc(radius=8)
    places = set()
    for wanted, selected, positive, depths in ((target, nothing, True, distance), (nothing, excess, False, None)):
        depths = distance_to_edge(excess) if depths is None else depths
        clicks = [correcting_click(wanted, selected, nothing, np.random.default_rng(seed)) for seed in range(80)]
        assert all(click.positive == positive for click in clicks)
        assert all(depths[click.y, click.x] >= INSIDE * depths.max() for click in clicks)
        centre = correcting_click(wanted, selected, nothing)
        share = np.mean([click != centre for click in clicks])
        assert share == pytest.approx(OFF_CENTRE, abs=0.17)
        again = [correcting_click(wanted, selected, nothing, np.random.default_rng(seed)) for seed in range(80)]
        assert clicks == again
        places |= set(clicks)
    assert len(places) > 40
    rng = np.random.default_rng(0)
    assert correcting_click(target, target, nothing, rng) is None and correcting_click(target, nothing, target) is None


def test_the_latest_prompt_adds_takes_away_or_is_a_box():
    plus, minus, box = Click(1, 2), Click(3, 4, positive=False), Box(1, 2, 3, 4)
    assert [latest_effect([*before, last]) for before in ([], [box, minus]) for last in (plus, minus, box)] == [
        1, -1, 0, 1, -1, 0,
    ]  # fmt: skip
    assert latest_effect([minus, Scribble(((1, 2),))]) == 1
    assert latest_effect([plus, Scribble(((1, 2),), positive=False)]) == -1


def test_without_a_box_nothing_is_limited():
    assert within_boxes([], 20, 30) is None
    assert within_boxes([Click(3, 4), Scribble(((5, 6),), positive=False)], 20, 30) is None


@pytest.mark.parametrize("corners", [(20, 10, 60, 30), (60, 30, 20, 10), (20, 30, 60, 10)])
def test_a_box_limits_to_itself_and_three_percent_of_its_longer_side(corners):
    allowed = within_boxes([Click(1, 1), Box(*corners)], 50, 80)
    assert allowed.shape == (50, 80)  # with a margin of 1.2 pixels
    rows, columns = np.nonzero(allowed)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (9, 31, 19, 61)
    assert allowed.sum() == 23 * 43


def test_several_boxes_allow_what_lies_in_any_and_those_beyond_the_edge_nothing():
    first, second = Box(2, 3, 10, 12), Box(40, 30, 60, 45)
    one, two = (within_boxes([box], 50, 80) for box in (first, second))
    assert np.array_equal(within_boxes([first, second], 50, 80), one | two)
    assert not within_boxes([Box(-30, -30, -10, -10)], 50, 80).any()
    assert not within_boxes([Box(100, 5, 120, 20)], 50, 80).any()
    over = within_boxes([Box(-9, -9, 10, 10)], 50, 80)
    assert over[:11, :11].all() and over.sum() == 11 * 11


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-20, 90), min_size=4, max_size=4))
def test_no_pixel_farther_outside_a_box_than_its_margin_is_allowed_and_none_within_is_left_out(corners):
    x0, y0, x1, y1 = corners
    (left, right), (top, bottom) = sorted((x0, x1)), sorted((y0, y1))
    rows, columns = np.mgrid[:60, :70]
    outside = np.maximum.reduce([left - columns, columns - right, top - rows, rows - bottom])
    allowed, margin = within_boxes([Box(*corners)], 60, 70), BOX_MARGIN * max(right - left, bottom - top)
    assert (outside[allowed] <= margin + 1e-9).all() and (outside[~allowed] > margin - 1e-9).all()


@pytest.mark.parametrize("said", [[], [Click(2, 2, positive=False), Box(3, 3, 9, 9)], [Scribble(((24, 30), (25, 30)))]])
def test_boxes_and_what_falls_on_the_selection_reach_everywhere(said):
    assert within_reach(said, disc()).all()
    assert within_reach([Click(60, 60)], np.zeros((64, 64), bool)).all()  # nothing is selected yet


@pytest.mark.parametrize("radius", [6, 8, 12])
def test_a_negative_click_reaches_farther_where_the_selection_is_thicker(radius):
    selected = disc(radius=radius)
    near = within_reach([Click(60, 60), Click(24, 30, positive=False)], selected)
    farthest = np.hypot(*(np.nonzero(near) - np.array([[30], [24]]))).max()
    assert farthest == pytest.approx(REACH.takes * distance_to_edge(selected).max(), abs=1) and near[selected].all()


@pytest.mark.parametrize("away", [2, 8, 14])
def test_a_positive_click_reaches_farther_the_farther_it_is_from_the_selection(away):
    selected = np.zeros((120, 120), bool)
    selected[40:80, :40] = True
    near = within_reach([Click(39 + away, 60)], selected)
    wanted = max(LEAST_REACH.adds, REACH.adds * away)
    assert near[60, min(119, 39 + away + round(wanted) - 1)] and near.sum() == pytest.approx(np.pi * wanted**2, rel=0.1)
    stroke = within_reach([Scribble(((5, 60), (39 + away, 60)))], selected)  # out of what is selected
    assert (stroke >= near).all() and stroke[60, 0] and not stroke[0, 0]


def test_on_a_thin_rim_and_beside_the_selection_a_negative_click_reaches_a_little():
    selected = np.zeros((64, 64), bool)
    selected[20:24, 5:60] = True
    for y in (21, 30):
        rows, columns = np.nonzero(within_reach([Click(30, y, positive=False)], selected))
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (y - 6, y + 6, 24, 36)
        assert LEAST_REACH.takes == 6


def test_every_point_of_a_negative_stroke_has_its_own_reach_and_may_lie_on_the_pictures_edge():
    points = ((24.2, 30.4), (63.4, -0.4))
    each = [within_reach([Click(*point, positive=False)], disc()) for point in points]
    both = within_reach([Scribble(points, positive=False)], disc())
    assert np.array_equal(both, each[0] | each[1]) and each[1][0, 63] and not each[1][30, 24]


def sheep_beside_a_dog() -> tuple[np.ndarray, np.ndarray]:
    """A selection of one part, and what a click on its middle leaves: a large part, two small ones, and another pet."""
    before = np.full((64, 64), 0.1)
    before[20:44, 1:60], before[50:54, 4:8] = 0.9, 0.6
    selected = before > 0.5
    remaining = selected.copy()
    remaining[:, 24:44] = False  # 528 pixels are taken; 552 remain on the left, 336 on the right
    remaining[30:33, 44:60] = False
    return before, remaining


@pytest.mark.parametrize("latest", [Click(30, 30, positive=False), Scribble(((30, 30), (5, 60)), positive=False)])
def test_small_parts_that_a_negative_click_leaves_go_too(latest):
    before, remaining = sheep_beside_a_dog()
    gone = remnants([latest], before, before > 0.5, remaining)
    expected = remaining & (np.arange(64) > 43)
    assert expected.any() and np.array_equal(gone, expected)  # what is as large as what was taken stays, so does a pet


@pytest.mark.parametrize("why", ["sure", "positive click", "nothing clicked", "nothing taken"])
def test_other_parts_stay(why):
    before, remaining = sheep_beside_a_dog()
    prompts, corner = [Click(30, 30, positive=False)], np.zeros((64, 64), bool)
    corner[20:30, 44:50] = True
    if why == "sure":
        before[25, 45] = SURE
    elif why == "positive click":
        prompts.insert(0, Click(45, 25))
    elif why == "nothing clicked":
        prompts[-1] = Click(30, 10, positive=False)
    else:
        remaining = before > 0.5
    gone = remnants(prompts, before, before > 0.5, remaining)
    assert gone.any() == (why in ("sure", "positive click")) and not (gone & corner).any()


def test_what_a_stroke_leaves_of_each_part_is_compared_with_what_it_took_of_that_part():
    before = np.zeros((64, 64))
    before[2:30, 2:40], before[40:60, 10:40] = 0.9, 0.9  # a large animal, and a pet that the stroke only grazes
    remaining = before > 0.5
    remaining[:28], remaining[40, 20:30] = False, False
    gone = remnants([Scribble(((10, 10), (25, 40)), positive=False)], before, before > 0.5, remaining)
    assert gone[28:30, 2:40].all() and not gone[40:].any()


@pytest.mark.parametrize("latest", [Click(30, 30), Box(3, 3, 60, 60)])
def test_prompts_that_take_nothing_away_leave_no_remnants(latest):
    before, remaining = sheep_beside_a_dog()
    assert not remnants([Click(30, 30, positive=False), latest], before, before > 0.5, remaining).any()


def test_the_pictures_edge_counts_as_an_edge():
    everything = np.ones((21, 21), bool)
    assert distance_to_edge(everything)[0, 10] == 1
    assert centre_click(everything) == Click(10, 10)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), radius=st.integers(2, 20))
def test_whatever_is_said_is_about_the_target(seed, radius):
    target, rng = disc(radius=radius), np.random.default_rng(seed)
    box = loose_box(target, rng)
    assert box.x0 <= 24 <= box.x1 and box.y0 <= 30 <= box.y1
    clicks = [centre_click(target), random_click(target, rng)]
    points = [*random_scribble(target, rng).points, *((click.x, click.y) for click in clicks)]
    assert len(points) > 2 and all(target[round(y), round(x)] for x, y in points)


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
    far = Click(0, 0)  # nothing of the region within reach
    assert jitter(far, target, 3, np.random.default_rng(0)) == far
