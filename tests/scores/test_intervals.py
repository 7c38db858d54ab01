"""Intervals against loops over the same resamples, and properties that they must have."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from petseg_utils.scores.intervals import (
    bootstrap_intervals,
    mean_interval,
    paired_difference,
    percentile_interval,
    resampled_sums,
    share_interval,
    summarise,
    told_apart,
    unpaired_difference,
)
from petseg_utils.scores.metrics import PROTOCOLS, boundary_iou, protocol_classes, protocol_matrix, scores

each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)
warnings_are_errors = pytest.mark.filterwarnings("error")


def simulated_confusions(n, seed=0, skill=(8, 2), pixels=1000):
    """Pictures of a cat or a dog, of which a share drawn from a beta distribution is predicted right."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((n, 5, 3), np.int64)
    for i in range(n):
        species = rng.integers(1, 3)
        pet, border = pixels * rng.uniform(0.1, 0.6), pixels // 10
        for row, size in ((0, pixels - pet - border), (species, pet)):
            right = rng.beta(*skill)
            confused = 3 - species if rng.random() < 0.2 else (species if row == 0 else 0)
            counts[i, row, row] = int(size * right)
            counts[i, row, confused] += int(size * (1 - right))
        counts[i, 3, [0, species]] = border // 2
    return counts


def with_more_errors(confusions, share):
    """The same pictures from a worse model: that share of each class's hits is predicted as the next class."""
    worse = confusions.copy()
    for k in range(3):
        lost = (confusions[:, k, k] * share).astype(np.int64)
        worse[:, k, k] -= lost
        worse[:, k, (k + 1) % 3] += lost
    return worse


# Resamples and means


def test_resampled_sums_are_those_of_the_drawn_pictures_whatever_is_counted():
    counts = np.random.default_rng(0).integers(0, 99, (7, 2, 3))
    sums, of_first = resampled_sums(counts, 5), resampled_sums(counts[:, 0, 0], 5)
    rng = np.random.default_rng(0)
    for resample, first in zip(sums, of_first, strict=True):
        drawn = rng.integers(7, size=7)
        np.testing.assert_array_equal(resample, counts[drawn].sum(0))
        assert first == resample[0, 0]


@warnings_are_errors
def test_percentiles_leave_nan_out_column_by_column():
    values = np.stack([np.arange(101.0), np.full(101, np.nan)], axis=1)
    values[0, 0] = np.nan
    low, high = percentile_interval(values, level=0.9)
    assert (low[0], high[0]) == pytest.approx(np.quantile(np.arange(1, 101), [0.05, 0.95]))
    assert np.isnan(low[1]) and np.isnan(high[1])


@warnings_are_errors
def test_the_interval_of_a_mean_equals_a_loop_over_the_same_resamples():
    values = np.random.default_rng(0).random((40, 5))
    values[3], values[7, :2] = np.nan, np.nan  # a picture without any value, and one that lacks some
    mean, low, high = mean_interval(values, 60)
    assert mean == pytest.approx(np.nanmean(values))
    rng = np.random.default_rng(0)
    means = [np.nanmean(values[rng.integers(40, size=40)]) for _ in range(60)]
    assert (low, high) == pytest.approx(np.quantile(means, [0.025, 0.975]))
    assert all(type(value) is float for value in (mean, low, high))
    assert mean_interval(values[:, 0], 60) == pytest.approx(mean_interval(values[:, :1], 60))
    assert np.isnan(mean_interval(values[3:4], 5)).all()


# Bootstrap


@each_protocol
@warnings_are_errors
def test_bootstrap_equals_a_loop_over_the_same_resamples(protocol):
    confusions = simulated_confusions(37)
    K = len(protocol_classes(protocol))
    rng = np.random.default_rng(1)
    boundary = np.stack([rng.integers(0, 50, (37, K)), rng.integers(50, 99, (37, K))], axis=-1)
    ours = bootstrap_intervals(confusions, protocol, boundary=boundary, n_resamples=60)

    rng = np.random.default_rng(0)
    values = {name: [] for name in ours}
    for _ in range(60):
        pictures = rng.integers(37, size=37)
        matrix = sum(protocol_matrix(confusions[i], protocol) for i in pictures)
        resample = scores(matrix)
        for name in ("miou", "dice", "accuracy"):
            values[name].append(resample[name])
        for name, iou in zip(protocol_classes(protocol), resample["iou"], strict=True):
            values[f"iou.{name}"].append(iou)
        values["boundary_iou"].append(boundary_iou(sum(boundary[i] for i in pictures)))
    assert list(ours) == ["miou", "dice", "accuracy", *(f"iou.{c}" for c in protocol_classes(protocol)), "boundary_iou"]
    for name, interval in ours.items():
        np.testing.assert_allclose(interval, np.percentile(values[name], [2.5, 97.5]), rtol=1e-12)
        assert all(type(end) is float for end in interval)


@each_protocol
def test_interval_contains_the_score_of_all_pictures(protocol):
    confusions = simulated_confusions(150)
    whole = scores(protocol_matrix(confusions, protocol).sum(axis=0))
    intervals = bootstrap_intervals(confusions, protocol)
    for name in ("miou", "dice", "accuracy"):
        assert intervals[name][0] < whole[name] < intervals[name][1]


def test_four_times_the_pictures_halve_the_interval():
    few = simulated_confusions(100)
    widths = [np.ptp(bootstrap_intervals(c, "ignore_border")["miou"]) for c in (few, np.tile(few, (4, 1, 1)))]
    assert 1.7 < widths[0] / widths[1] < 2.3


def test_interval_covers_the_truth_about_as_often_as_it_says():
    # Pixels of a picture succeed together: the picture's rate is Beta(8, 2), so the true accuracy is 0.8, the standard
    # error 0.017.  Resampling pixels would see that of 50,000 independent ones, 0.002, and seldom cover the truth.
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        right = rng.binomial(1000, rng.beta(8, 2, size=50))
        confusions = np.zeros((50, 5, 3), np.int64)
        confusions[:, 0, 0], confusions[:, 0, 1] = right, 1000 - right
        low, high = bootstrap_intervals(confusions, "ignore_border", n_resamples=200)["accuracy"]
        covered.append(low <= 0.8 <= high)
    assert 0.89 <= np.mean(covered) <= 0.98


@warnings_are_errors
def test_class_absent_from_some_resamples_has_an_interval_and_from_all_has_none():
    confusions = np.zeros((3, 5, 3), np.int64)
    confusions[:, 0, 0] = 10
    confusions[0, 1] = 5, 5, 0  # the only picture with a cat; 8 of 27 resamples lack it
    intervals = bootstrap_intervals(confusions, "ignore_border", n_resamples=200)
    np.testing.assert_allclose(intervals["iou.cat"], (0.5, 0.5))
    assert np.isnan(intervals["iou.dog"]).all()
    assert not np.isnan(intervals["miou"]).any()


# Paired difference


@each_protocol
def test_a_model_does_not_differ_from_itself(protocol):
    confusions = simulated_confusions(30)
    result = paired_difference(confusions, confusions, protocol)
    assert result == {"difference": 0, "low": 0, "high": 0}


def test_a_uniformly_better_model_is_better_beyond_doubt_and_the_other_way_round():
    good = simulated_confusions(60)
    bad = with_more_errors(good, 0.02)
    better, worse = (paired_difference(a, b, "ignore_border") for a, b in ((good, bad), (bad, good)))
    assert 0 < better["low"] < better["difference"] < better["high"]
    np.testing.assert_allclose([worse["low"], worse["high"]], [-better["high"], -better["low"]])
    # Alone, the two models' intervals overlap: pairing is what tells them apart.
    alone = [bootstrap_intervals(c, "ignore_border")["miou"] for c in (bad, good)]
    assert alone[0][1] > alone[1][0]


@pytest.mark.parametrize("level", [0.95, 0.5])
def test_paired_difference_equals_a_loop_over_the_same_resamples(level):
    a, b = simulated_confusions(25), with_more_errors(simulated_confusions(25), 0.01)
    b[:10] = with_more_errors(b[:10], 0.3)
    a[10:] = with_more_errors(a[10:], 0.2)
    result = paired_difference(a, b, "ignore_border", n_resamples=80, level=level)
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(80):
        pictures = rng.integers(25, size=25)
        sums = [protocol_matrix(c[pictures].sum(axis=0), "ignore_border") for c in (a, b)]
        differences.append(scores(sums[0])["miou"] - scores(sums[1])["miou"])
    ends = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    np.testing.assert_allclose([result["low"], result["high"]], ends)


@warnings_are_errors
def test_difference_of_nothing_is_nan():
    nothing = np.zeros((4, 5, 3), np.int64)
    assert np.isnan(list(paired_difference(nothing, nothing, "ignore_border").values())).all()


# Summary


@each_protocol
def test_summary_holds_the_scores_and_intervals_unrounded(protocol):
    confusions = simulated_confusions(40)
    names = protocol_classes(protocol)
    boundary = np.stack([np.full((40, len(names)), 3), np.full((40, len(names)), 7)], axis=-1)
    summary = summarise(confusions, protocol, boundary, n_resamples=50)
    whole = scores(protocol_matrix(confusions.sum(axis=0), protocol))
    intervals = bootstrap_intervals(confusions, protocol, boundary=boundary, n_resamples=50)
    assert summary == {
        "miou": float(whole["miou"]),
        "iou": dict(zip(names, whole["iou"].tolist(), strict=True)),
        "dice": float(whole["dice"]),
        "accuracy": float(whole["accuracy"]),
        "boundary_iou": 3 / 7,
        "ci95": {name: list(interval) for name, interval in intervals.items()},
    }
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert type(summary["miou"]) is type(summary["boundary_iou"]) is type(summary["iou"]["background"]) is float


@warnings_are_errors
def test_summary_says_none_where_there_is_no_score():
    confusions = np.zeros((4, 5, 3), np.int64)
    confusions[:, 1, 1] = 10
    summary = summarise(confusions, "ignore_border", np.zeros((4, 3, 2), np.int64), n_resamples=20)
    assert summary["iou"] == {"background": None, "cat": 1.0, "dog": None}
    assert summary["ci95"]["iou.dog"] == [None, None]
    assert summary["boundary_iou"] is None and summary["ci95"]["boundary_iou"] == [None, None]
    json.dumps(summary, allow_nan=False)


# What is refused


def test_too_few_pictures_and_wrong_shapes_are_refused():
    confusions = simulated_confusions(4)
    with pytest.raises(ValueError, match="cannot draw 1000 resamples of 0 pictures"):
        bootstrap_intervals(confusions[:0], "ignore_border")
    with pytest.raises(ValueError, match="cannot draw 0 resamples of 4 pictures"):
        bootstrap_intervals(confusions, "ignore_border", n_resamples=0)
    with pytest.raises(ValueError, match=r"boundary must have shape \(4, 3, 2\) .* not \(4, 2, 2\)"):
        bootstrap_intervals(confusions, "ignore_border", boundary=np.ones((4, 2, 2), np.int64))


def test_pairs_of_other_pictures_or_another_order_are_refused():
    confusions = simulated_confusions(4)
    for other in (confusions[:3], confusions[::-1]):
        with pytest.raises(ValueError, match="same pictures in the same order"):
            paired_difference(confusions, other, "ignore_border")


def test_intervals_of_different_pictures_add_up_and_turn_round_with_their_order():
    home, away = (0.9, 0.86, 0.92), (0.7, 0.64, 0.75)
    value, low, high = unpaired_difference(away, home)
    assert value == pytest.approx(-0.2)
    assert low == pytest.approx(-0.2 - np.hypot(0.06, 0.02)) and high == pytest.approx(-0.2 + np.hypot(0.05, 0.04))
    assert unpaired_difference(home, away) == pytest.approx((-value, -high, -low))


@pytest.mark.parametrize(
    ("low", "high", "word"), [(0.1, 0.2, "up"), (-0.2, -0.1, "down"), (-0.1, 0.1, "none"), (np.nan, np.nan, "none")]
)
def test_a_change_is_named_only_where_its_interval_leaves_zero_out(low, high, word):
    assert told_apart(low, high, "up", "down", "none") == word


def test_a_share_has_the_exact_interval_and_none_of_many_is_not_certainly_none():
    for k, n in ((0, 51), (1, 53), (93, 100), (7, 7)):
        expected = binomtest(k, n).proportion_ci(0.95, method="exact")
        assert share_interval(k, n) == pytest.approx((expected.low, expected.high))
    assert share_interval(0, 51)[0] == 0 and 0.06 < share_interval(0, 51)[1] < 0.08
    assert np.isnan(share_interval(0, 0)).all()
