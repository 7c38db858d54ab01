"""Metrics against other libraries, numbers worked out by hand, and properties that must hold for any input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import binary_erosion
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_jaccard_index,
)

from petseg_utils.data.labels import BORDER, CLASSES, PADDING
from petseg_utils.scores.metrics import (
    PROTOCOLS,
    boundary_counts,
    boundary_iou,
    picture_confusions,
    picture_miou,
    pooled_miou,
    protocol_classes,
    protocol_matrix,
    scores,
)

LABEL_VALUES = (0, 1, 2, PADDING, BORDER)
IGNORED = {"ignore_border": (PADDING, BORDER), "border_as_background": (), "binary_border_as_pet": (PADDING,)}

each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)
examples = settings(max_examples=30, deadline=None)
warnings_are_errors = pytest.mark.filterwarnings("error")


# Inputs


@st.composite
def label_maps(draw, label_values=LABEL_VALUES, max_side=6):
    """Labels and predictions (N, H, W), each from a random subset of the values, so that classes are often absent."""
    shape = draw(array_shapes(min_dims=3, max_dims=3, max_side=max_side))
    in_labels = draw(st.sets(st.sampled_from(label_values), min_size=1))
    in_predictions = draw(st.sets(st.sampled_from((0, 1, 2)), min_size=1))
    labels = draw(arrays(np.uint8, shape, elements=st.sampled_from(sorted(in_labels))))
    predictions = draw(arrays(np.uint8, shape, elements=st.sampled_from(sorted(in_predictions))))
    return labels, predictions


def confusion_counts(side):
    return arrays(np.int64, (side, side), elements=st.integers(0, 30) | st.just(0))


def disk(side, centre, radius):
    y, x = np.mgrid[:side, :side]
    return ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2).astype(np.uint8)


def under_protocol(labels, predictions, protocol):
    """Targets and predictions of the pixels that count, flat: the protocols in other words than the module's."""
    target, prediction = labels.astype(int).ravel(), predictions.astype(int).ravel()
    if protocol == "border_as_background":
        target[target >= PADDING] = 0
    elif protocol == "ignore_border":
        keep = target < PADDING
        target, prediction = target[keep], prediction[keep]
    else:
        keep = target != PADDING
        target, prediction = (target[keep] > 0).astype(int), (prediction[keep] > 0).astype(int)
    return target, prediction


def split_scores(labels, predictions, protocol):
    return scores(protocol_matrix(picture_confusions(labels, predictions), protocol).sum(axis=0))


# Against other libraries.  For a class in neither target nor prediction both return 0 (torchmetrics in its per-class
# scores, scikit-learn by its `zero_division`), where this module says NaN: classes are compared where present.


@each_protocol
@examples
@given(maps=label_maps())
def test_matrix_scores_and_dice_equal_scikit_learn(protocol, maps):
    target, prediction = under_protocol(*maps, protocol)
    ids = list(range(len(protocol_classes(protocol))))
    matrix = protocol_matrix(picture_confusions(*maps), protocol).sum(axis=0)
    ours = scores(matrix)
    if len(target) == 0:  # scikit-learn refuses empty input
        assert matrix.sum() == 0
        assert all(np.isnan(value).all() for value in ours.values())
        return
    np.testing.assert_array_equal(matrix, confusion_matrix(target, prediction, labels=ids))
    present = np.isin(ids, np.union1d(target, prediction))
    iou = jaccard_score(target, prediction, labels=ids, average=None, zero_division=0)
    dice = f1_score(target, prediction, labels=ids, average=None, zero_division=0)
    np.testing.assert_array_equal(np.isnan(ours["iou"]), ~present)
    np.testing.assert_allclose(ours["iou"][present], iou[present], rtol=1e-12)
    np.testing.assert_allclose(ours["miou"], iou[present].mean(), rtol=1e-12)
    np.testing.assert_allclose(ours["dice"], dice[present].mean(), rtol=1e-12)
    np.testing.assert_allclose(ours["accuracy"], accuracy_score(target, prediction), rtol=1e-12)


@examples
@given(maps=label_maps())
def test_ignore_border_equals_torchmetrics_with_ignore_index(maps):
    labels, predictions = maps
    target = torch.from_numpy(np.where(labels >= PADDING, 255, labels).astype(np.int64))
    prediction = torch.from_numpy(predictions.astype(np.int64))
    kwargs = {"num_classes": 3, "ignore_index": 255}
    matrix = protocol_matrix(picture_confusions(*maps), "ignore_border").sum(axis=0)
    np.testing.assert_array_equal(matrix, multiclass_confusion_matrix(prediction, target, **kwargs).numpy())
    if matrix.sum() == 0:
        return
    ours = scores(matrix)
    present = ~np.isnan(ours["iou"])
    iou = multiclass_jaccard_index(prediction, target, average="none", **kwargs).numpy()
    dice = multiclass_f1_score(prediction, target, average="none", **kwargs).numpy()
    accuracy = multiclass_accuracy(prediction, target, average="micro", **kwargs).item()
    np.testing.assert_allclose(ours["iou"][present], iou[present], rtol=1e-5)
    np.testing.assert_allclose(ours["dice"], dice[present].mean(), rtol=1e-5)
    np.testing.assert_allclose(ours["accuracy"], accuracy, rtol=1e-5)
    # Averaged over classes, torchmetrics too leaves absent ones out.
    np.testing.assert_allclose(
        ours["miou"], multiclass_jaccard_index(prediction, target, average="macro", **kwargs).item(), rtol=1e-5
    )


def test_split_score_equals_torchmetrics_accumulated_picture_by_picture():
    rng = np.random.default_rng(0)
    labels = rng.choice(np.array(LABEL_VALUES, np.uint8), (20, 9, 11))
    predictions = rng.integers(0, 3, labels.shape, dtype=np.uint8)
    metric = MulticlassJaccardIndex(3, average="macro", ignore_index=255)
    for label, prediction in zip(labels, predictions, strict=True):
        target = np.where(label >= PADDING, 255, label).astype(np.int64)
        metric.update(torch.from_numpy(prediction.astype(np.int64))[None], torch.from_numpy(target)[None])
    np.testing.assert_allclose(split_scores(labels, predictions, "ignore_border")["miou"], metric.compute(), rtol=1e-6)


# By hand

B, P = BORDER, PADDING
TINY_LABELS = np.array([[[0, 0, 1, 1], [0, B, 1, 1], [P, P, 2, 2]]], np.uint8)
TINY_PREDICTIONS = np.array([[[0, 1, 1, 1], [0, 1, 0, 1], [0, 2, 2, 2]]], np.uint8)


def test_counts_by_hand():
    expected = [[[2, 1, 0], [1, 3, 0], [0, 0, 2], [0, 1, 0], [1, 0, 1]]]  # background, cat, dog, border, padding
    confusions = picture_confusions(TINY_LABELS, TINY_PREDICTIONS)
    np.testing.assert_array_equal(confusions, expected)
    assert confusions.dtype == np.int64


@pytest.mark.parametrize(
    ("protocol", "matrix", "iou", "miou", "dice", "accuracy"),
    [
        (
            "ignore_border",
            [[2, 1, 0], [1, 3, 0], [0, 0, 2]],
            [2 / 4, 3 / 5, 2 / 2],
            (1 / 2 + 3 / 5 + 1) / 3,
            (4 / 6 + 6 / 8 + 4 / 4) / 3,
            7 / 9,
        ),
        (
            "border_as_background",
            [[3, 2, 1], [1, 3, 0], [0, 0, 2]],
            [3 / 7, 3 / 6, 2 / 3],
            (3 / 7 + 3 / 6 + 2 / 3) / 3,
            (6 / 10 + 6 / 9 + 4 / 5) / 3,
            8 / 12,
        ),
        (
            "binary_border_as_pet",
            [[2, 1], [1, 6]],
            [2 / 4, 6 / 8],
            (2 / 4 + 6 / 8) / 2,
            (4 / 6 + 12 / 14) / 2,
            8 / 10,
        ),
    ],
)
def test_each_protocol_by_hand(protocol, matrix, iou, miou, dice, accuracy):
    ours = protocol_matrix(picture_confusions(TINY_LABELS, TINY_PREDICTIONS)[0], protocol)
    np.testing.assert_array_equal(ours, matrix)
    ours = scores(ours)
    np.testing.assert_allclose(ours["iou"], iou)
    np.testing.assert_allclose([ours["miou"], ours["dice"], ours["accuracy"]], [miou, dice, accuracy])


def test_classes_of_each_protocol():
    assert CLASSES == ("background", "cat", "dog")
    assert PROTOCOLS == ("ignore_border", "border_as_background", "binary_border_as_pet")
    assert [protocol_classes(p) for p in PROTOCOLS] == [CLASSES, CLASSES, ("background", "pet")]


def test_picture_miou_weighs_pictures_where_the_split_weighs_pixels():
    # 90 of 100 pixels of the large cat are found, none of the 10 of the small one; no background, no dog.
    confusions = np.zeros((2, 5, 3), np.int64)
    confusions[0, 1] = 10, 90, 0
    confusions[1, 1] = 10, 0, 0
    np.testing.assert_allclose(picture_miou(confusions, "ignore_border"), [0.9, 0])
    split = scores(protocol_matrix(confusions.sum(axis=0), "ignore_border"))
    np.testing.assert_allclose(split["iou"], [0, 90 / 110, np.nan])


# Properties of region scores


@pytest.mark.parametrize("side", [2, 3])
@examples
@given(data=st.data())
def test_dice_lies_between_miou_and_its_value_for_equal_ious(side, data):
    ours = scores(data.draw(confusion_counts(side)))
    miou, dice = ours["miou"], ours["dice"]
    if not np.isnan(miou):
        assert 0 <= miou <= dice + 1e-12
        assert dice <= 2 * miou / (1 + miou) + 1e-12 <= 1 + 2e-12


@examples
@given(matrices=arrays(np.int64, (2, 3, 4, 4), elements=st.integers(0, 3)))
def test_scores_of_stacked_matrices_are_those_of_each(matrices):
    stacked = scores(matrices)
    for index in np.ndindex(2, 3):
        for name, value in scores(matrices[index]).items():
            np.testing.assert_array_equal(stacked[name][index], value)


@examples
@given(maps=label_maps(), data=st.data())
def test_predictions_on_border_and_padding_cannot_change_ignore_border(maps, data):
    labels, predictions = maps
    noise = data.draw(arrays(np.uint8, labels.shape, elements=st.integers(0, 2)))
    changed = np.where(labels >= PADDING, noise, predictions)
    before, after = (split_scores(labels, p, "ignore_border") for p in (predictions, changed))
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


@each_protocol
@pytest.mark.parametrize("species", [1, 2])
def test_perfect_prediction_scores_one_with_border_padding_and_one_species_absent(protocol, species):
    pet, outline = disk(64, (32, 30), 15), disk(64, (32, 30), 18)
    labels = np.where(pet, species, np.where(outline, BORDER, 0)).astype(np.uint8)[None]
    labels[:, :10] = PADDING
    border = {"border_as_background": 0}.get(protocol, species)
    predictions = np.where(labels == BORDER, border, np.where(labels == PADDING, 0, labels)).astype(np.uint8)
    ours = split_scores(labels, predictions, protocol)
    assert [ours["miou"], ours["dice"], ours["accuracy"]] == [1, 1, 1]
    assert np.isnan(ours["iou"]).sum() == (0 if protocol == "binary_border_as_pet" else 1)
    assert boundary_iou(boundary_counts(labels, predictions, protocol).sum(axis=0)) == 1


def test_one_pixel_of_a_wrong_name_costs_a_picture_little():
    confusion = np.zeros((1, 5, 3), np.int64)
    confusion[0, 0, 0], confusion[0, 1] = 500, (0, 499, 1)
    np.testing.assert_allclose(picture_miou(confusion, "ignore_border"), [(1 + 0.998) / 2])


@warnings_are_errors
def test_absent_class_is_left_out_and_nothing_at_all_is_nan_without_warning():
    ours = scores(np.array([[6, 2, 0], [0, 8, 0], [0, 0, 0]]))
    np.testing.assert_allclose(ours["iou"], [6 / 8, 8 / 10, np.nan])
    np.testing.assert_allclose(ours["miou"], (6 / 8 + 8 / 10) / 2)
    # Predicted although absent from the target is not absent: that is a miss, and counts as 0.
    np.testing.assert_allclose(scores(np.array([[6, 0, 2], [0, 8, 0], [0, 0, 0]]))["iou"][2], 0)
    assert all(np.isnan(value).all() for value in scores(np.zeros((3, 3), np.int64)).values())
    assert np.isnan(boundary_iou(np.zeros((3, 2), np.int64)))
    assert np.isnan(picture_miou(np.zeros((1, 5, 3), np.int64), "ignore_border")).all()


# Boundary IoU


def slow_boundary_counts(target, prediction, n_classes, d):
    """The definition, one mask at a time."""
    counts = []
    for k in range(n_classes):
        bands = []
        for mask in (target == k, prediction == k):
            bands.append(mask & ~binary_erosion(mask, np.ones((3, 3)), iterations=d, border_value=0))
        counts.append([(bands[0] & bands[1]).sum(), (bands[0] | bands[1]).sum()])
    return counts


@each_protocol
@examples
@given(seed=st.integers(0, 10**6), ratio=st.sampled_from([0.001, 0.02, 0.05, 0.1]), block=st.sampled_from([1, 5, 9]))
def test_boundary_counts_equal_the_definition(protocol, seed, ratio, block):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 50, 2)
    maps = rng.integers(0, 3, (2, 3, 10 + 40 // block, 10 + 40 // block), dtype=np.uint8)
    maps = maps.repeat(block, axis=2).repeat(block, axis=3)[:, :, :height, :width]  # regions wider than the bands
    labels, predictions = maps
    d = max(1, round(ratio * math.hypot(*labels.shape[1:])))
    binary = protocol == "binary_border_as_pet"
    for counts, label, prediction in zip(
        boundary_counts(labels, predictions, protocol, ratio), labels, predictions, strict=True
    ):
        target, predicted = (label > 0, prediction > 0) if binary else (label, prediction)
        np.testing.assert_array_equal(counts, slow_boundary_counts(target, predicted, len(counts), d))


def test_band_is_two_percent_of_the_diagonal_wide_and_follows_the_edge_of_the_picture():
    labels = np.zeros((1, 224, 224), np.uint8)
    labels[:, :, :112] = 1
    counts = boundary_counts(labels, labels, "ignore_border")
    band = 224 * 112 - (224 - 2 * 6) * (112 - 2 * 6)  # 0.02 x 224 x sqrt(2) = 6.3
    np.testing.assert_array_equal(counts, [[[band, band], [band, band], [0, 0]]])


@each_protocol
@examples
@given(maps=label_maps(max_side=9))
def test_ignored_pixels_cannot_cost_a_perfect_prediction(protocol, maps):
    labels, predictions = maps
    perfect = np.where(labels >= PADDING, 0, labels).astype(np.uint8)
    if protocol == "binary_border_as_pet":
        perfect[labels == BORDER] = 1
    perfect = np.where(np.isin(labels, IGNORED[protocol]), predictions, perfect)
    counts = boundary_counts(labels, perfect, protocol)
    np.testing.assert_array_equal(counts[..., 0], counts[..., 1])
    assert counts[..., 0].sum() <= np.sum(~np.isin(labels, IGNORED[protocol]))


def test_ignored_pixels_are_not_counted_and_other_mistakes_still_are():
    labels = np.where(disk(100, (50, 50), 25), 1, np.where(disk(100, (50, 50), 27), BORDER, 0)).astype(np.uint8)[None]
    within_border, beyond = (disk(100, (50, 50), radius)[None] for radius in (26, 29))
    score = [boundary_iou(boundary_counts(labels, p, "ignore_border").sum(axis=0)) for p in (within_border, beyond)]
    assert score[0] == 1
    assert score[1] < 0.9
    all_ignored = np.full((1, 30, 30), PADDING, np.uint8)
    assert boundary_counts(all_ignored, np.ones_like(all_ignored), "ignore_border").sum() == 0


def test_a_small_shift_costs_more_boundary_iou_than_iou():
    labels, shifted = disk(224, (110, 110), 70)[None], disk(224, (110, 114), 70)[None]
    loss = 1 - split_scores(labels, shifted, "ignore_border")["miou"]
    boundary_loss = 1 - boundary_iou(boundary_counts(labels, shifted, "ignore_border").sum(axis=0))
    assert 0 < 3 * loss < boundary_loss < 1


# What is refused


@pytest.mark.parametrize("count", [picture_confusions, lambda *maps: boundary_counts(*maps, "ignore_border")])
@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        (np.zeros((1, 2, 3), np.uint8), np.zeros((1, 3, 2), np.uint8), r"\(1, 2, 3\) and predictions \(1, 3, 2\)"),
        (np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint8), r"one shape \(N, H, W\)"),
        (np.zeros((1, 2, 2), np.int64), np.zeros((1, 2, 2), np.uint8), r"labels \(int64\).* must be uint8"),
        (np.full((1, 2, 2), 3, np.uint8), np.zeros((1, 2, 2), np.uint8), r"label values .* not \[3\]"),
        (np.zeros((1, 2, 2), np.uint8), np.full((1, 2, 2), 255, np.uint8), r"predicted values .* not 255"),
    ],
)
def test_unsound_maps_are_refused(count, labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        count(labels, predictions)


def test_unknown_names_and_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"unknown protocol 'voc'; known: ignore_border, border_as_background, binary"):
        protocol_classes("voc")
    with pytest.raises(ValueError, match=r"confusions must have shape \(..., 5, 3\), not \(3, 3\)"):
        protocol_matrix(np.zeros((3, 3)), "ignore_border")
    with pytest.raises(ValueError, match=r"matrix must have shape \(..., K, K\), not \(4, 5, 3\); see protocol_matrix"):
        scores(np.zeros((4, 5, 3)))


def test_no_pictures_have_no_counts():
    nothing = np.zeros((0, 4, 4), np.uint8)
    assert picture_confusions(nothing, nothing).shape == (0, 5, 3)
    assert boundary_counts(nothing, nothing, "binary_border_as_pet").shape == (0, 2, 2)


@pytest.mark.parametrize("protocol", ["ignore_border", "binary_border_as_pet"])
def test_what_is_predicted_in_the_padding_cannot_move_boundary_iou(protocol):
    rng = np.random.default_rng(0)
    labels = np.zeros((1, 40, 60), np.uint8)
    labels[0, 8:30, 10:50] = 1
    labels[:, 32:] = PADDING
    predictions = np.roll(np.where(labels == PADDING, 0, labels), 3, axis=2)
    elsewhere = np.where(labels == PADDING, rng.integers(0, 3, labels.shape), predictions).astype(np.uint8)
    expected = boundary_counts(labels, predictions, protocol)
    np.testing.assert_array_equal(boundary_counts(labels, elsewhere, protocol), expected)


def test_the_pooled_miou_is_that_of_all_pixels_together():
    rng = np.random.default_rng(0)
    labels, guesses = (rng.integers(0, 3, (5, 16, 16)).astype(np.uint8) for _ in range(2))
    value = pooled_miou(picture_confusions(labels, guesses), "ignore_border")
    assert value == pytest.approx(jaccard_score(labels.ravel(), guesses.ravel(), average="macro"))
