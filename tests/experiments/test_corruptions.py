"""The perturbations, held to reference values."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from petseg_utils.data.labels import BORDER, PADDING
from petseg_utils.data.pictures import load_pictures
from petseg_utils.data.transforms import PADDING_COLOUR
from petseg_utils.experiments.robustness.corruptions import (
    LEVELS,
    ORIGINAL,
    TITLES,
    corrupt,
    corrupt_all,
    moved_point,
    photo_window,
    picture_rng,
)

SIZE = 224
RAMP = np.random.default_rng(3).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
LABEL = np.zeros((SIZE, SIZE), np.uint8)
LABEL[60:150, 40:120] = 1
LABEL[150:156, 40:120] = BORDER
each_kind = pytest.mark.parametrize("kind", LEVELS)


def grey(value: int) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), value, np.uint8)


def boxed(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picture as a landscape photo: 40 rows of padding above and below."""
    image, label = image.copy(), LABEL.copy()
    for rows in (slice(0, 40), slice(SIZE - 40, SIZE)):
        image[rows], label[rows] = PADDING_COLOUR, PADDING
    return image, label


def perturbed(image: np.ndarray, kind: str, level: float, name: str = "a", label: np.ndarray = LABEL) -> np.ndarray:
    return corrupt(image, label, kind, level, picture_rng(name))[0].astype(float)


def test_the_levels_are_the_original_studys():
    assert len(ORIGINAL) == 8 and all(len(LEVELS[kind]) == 10 for kind in ORIGINAL)
    assert LEVELS["gaussian_noise"] == tuple(range(0, 20, 2)) and LEVELS["blur"] == tuple(range(10))
    assert LEVELS["contrast_up"] == (1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.1, 1.15, 1.2, 1.25)
    assert LEVELS["contrast_down"] == (1.0, 0.95, 0.9, 0.85, 0.8, 0.6, 0.4, 0.3, 0.2, 0.1)
    assert LEVELS["brightness_up"] == LEVELS["brightness_down"] == LEVELS["occlusion"] == tuple(range(0, 50, 5))
    assert np.allclose(LEVELS["salt_and_pepper"], np.arange(10) * 0.02)
    assert set(TITLES) == set(LEVELS)


@each_kind
def test_the_first_level_changes_nothing_and_jpegs_next_to_nothing(kind):
    smooth = gaussian_filter(RAMP.astype(float), (8, 8, 0)).astype(np.uint8)
    for image in (smooth,) if kind == "jpeg" else (smooth, RAMP):
        image, label = boxed(image)
        out, after = corrupt(image, label, kind, LEVELS[kind][0], picture_rng("a"))
        np.testing.assert_array_equal(after, label)
        assert np.abs(out.astype(float) - image).mean() <= (1 if kind == "jpeg" else 0)


@pytest.mark.parametrize(("kind", "at"), [(kind, at) for kind, levels in LEVELS.items() for at in (2, len(levels) - 1)])
def test_padding_stays_padding(kind, at):
    image, label = boxed(RAMP)
    out, after = corrupt(image, label, kind, LEVELS[kind][at], picture_rng("a"))
    assert out.dtype == after.dtype == np.uint8
    assert (out[after == PADDING] == PADDING_COLOUR).all()
    if kind not in ("rotation", "scale"):
        np.testing.assert_array_equal(after, label)


@pytest.mark.parametrize("sigma", [2, 10, 18])
def test_gaussian_noise_has_the_variance_it_says(sigma):
    noise = perturbed(grey(128), "gaussian_noise", sigma) - 128
    assert abs(noise.mean()) < 4 * sigma / np.sqrt(noise.size)
    assert noise.var() == pytest.approx(sigma**2 + 1 / 12, rel=0.02)  # rounding adds a twelfth
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02  # channels on their own


def test_gaussian_noise_is_clipped():
    out = perturbed(grey(254), "gaussian_noise", 18)
    assert out.max() == 255 and out.min() >= 0 and out.mean() < 254


@pytest.mark.parametrize("passes", [1, 4, 9])
def test_blur_has_the_binomial_kernels_variance_and_keeps_the_mean(passes):
    point = np.zeros((SIZE, SIZE, 3), np.uint8)
    point[100:103, 100:103] = 255  # a wide spot, so that rounding matters little; its own variance is 2/3 a side
    out = perturbed(point, "blur", passes)[..., 0]
    rows = np.arange(SIZE)
    weight = out.sum(1) / out.sum()
    variance = (weight * rows**2).sum() - (weight * rows).sum() ** 2
    assert variance == pytest.approx(2 / 3 + passes / 2, rel=0.05)
    assert out.sum() == pytest.approx(9 * 255, rel=0.02)


def test_one_blur_pass_is_the_3_by_3_kernel():
    point = np.zeros((SIZE, SIZE, 3), np.uint8)
    point[100, 100] = 160
    np.testing.assert_array_equal(
        perturbed(point, "blur", 1)[99:102, 99:102, 0], [[10, 20, 10], [20, 40, 20], [10, 20, 10]]
    )


@pytest.mark.parametrize(
    ("kind", "level", "before", "after"),
    [
        ("contrast_up", 1.25, 100, 125),
        ("contrast_up", 1.25, 230, 255),
        ("contrast_down", 0.1, 200, 20),
        ("contrast_down", 0.85, 100, 85),
        ("brightness_up", 45, 100, 145),
        ("brightness_up", 45, 230, 255),
        ("brightness_down", 45, 100, 55),
        ("brightness_down", 45, 30, 0),
    ],
)
def test_contrast_multiplies_and_brightness_adds_and_both_are_clipped(kind, level, before, after):
    assert (perturbed(grey(before), kind, level) == after).all()


@pytest.mark.parametrize(("size", "edge"), [(224, 45), (128, 26), (64, 13)])
def test_the_black_square_has_its_area_inside_the_photo_and_scales_with_the_picture(size, edge):
    image, label = np.full((size, size, 3), 200, np.uint8), np.zeros((size, size), np.uint8)
    for name in "abcdefgh":
        black = (corrupt(image, label, "occlusion", 45, picture_rng(name))[0] == 0).all(-1)
        rows, columns = np.nonzero(black)
        assert black.sum() == edge**2
        assert np.ptp(rows) == np.ptp(columns) == edge - 1


def test_a_square_larger_than_the_photo_is_cut_off():
    label = np.full((SIZE, SIZE), PADDING, np.uint8)
    label[:, 100:110] = 0
    out = perturbed(grey(200), "occlusion", 45, label=label)
    assert (out == 0).all(-1).sum() == 45 * 10


@pytest.mark.parametrize("share", [0.02, 0.1, 0.18])
def test_salt_and_pepper_hits_its_share_of_pixels(share):
    out = perturbed(grey(128), "salt_and_pepper", share)
    white, black = (out == 255).all(-1).mean(), (out == 0).all(-1).mean()
    assert (out != 128).any(-1).mean() == pytest.approx(white + black)  # whole pixels
    for part in (white, black):
        assert part == pytest.approx(share / 2, abs=4 * np.sqrt(share / 2 / SIZE**2))


def test_lower_jpeg_quality_is_farther_from_the_picture():
    errors = [np.abs(perturbed(RAMP, "jpeg", quality) - RAMP).mean() for quality in LEVELS["jpeg"]]
    assert errors == sorted(errors) and errors[0] < errors[-1]


@pytest.mark.parametrize("kind", ["gaussian_noise", "salt_and_pepper", "occlusion"])
def test_draws_are_a_pictures_own_and_a_higher_level_is_more_of_the_same(kind):
    low, high, again, other = (
        perturbed(grey(128), kind, level, name) - 128
        for level, name in (
            (LEVELS[kind][2], "a"),
            (LEVELS[kind][4], "a"),
            (LEVELS[kind][4], "a"),
            (LEVELS[kind][4], "b"),
        )
    )
    np.testing.assert_array_equal(high, again)
    assert (high != other).any()
    if kind == "gaussian_noise":
        assert np.abs(high - 2 * low).max() <= 1.5  # the same noise, but for rounding
    else:
        assert (high != 0).sum() > (low != 0).sum() and (high[low != 0] != 0).all()


@pytest.mark.parametrize(("kind", "level"), [("rotation", 30), ("rotation", 90), ("scale", 0.55), ("scale", 0.25)])
def test_labels_and_clicks_move_with_the_picture(kind, level):
    image, label = boxed(grey(90))
    image[label == 1] = (250, 10, 10)
    out, after = corrupt(image, label, kind, level, picture_rng("a"))
    red = out[..., 0] > 170
    assert (red & (after == 1)).sum() / (red | (after == 1)).sum() > 0.93  # but for a pixel along the edge
    assert set(np.unique(after)) <= {0, 1, BORDER, PADDING}
    expected = (label == 1).sum() * (level**2 if kind == "scale" else 1)
    assert (after == 1).sum() == pytest.approx(expected, rel=0.06)
    ys, xs = np.nonzero(label == 1)
    x, y = moved_point(xs.mean(), ys.mean(), kind, level, SIZE)
    ys, xs = np.nonzero(after == 1)
    assert (x, y) == pytest.approx((xs.mean(), ys.mean()), abs=0.7)


def test_a_quarter_turn_is_exact():
    out, after = corrupt(RAMP, LABEL, "rotation", 90, picture_rng("a"))
    np.testing.assert_array_equal(out, np.rot90(RAMP))
    np.testing.assert_array_equal(after, np.rot90(LABEL))


def test_a_set_is_perturbed_picture_by_picture(study):
    test = load_pictures(study, "test", progress=False)
    images, labels = corrupt_all(test, "gaussian_noise", 8)
    part = test.subset(test.table["name"].tolist()[3:5])
    np.testing.assert_array_equal(images[3:5], corrupt_all(part, "gaussian_noise", 8)[0])
    np.testing.assert_array_equal(labels, test.labels)


def test_an_unknown_perturbation_is_named():
    with pytest.raises(ValueError, match="unknown perturbation 'fog'"):
        corrupt(RAMP, LABEL, "fog", 1, picture_rng("a"))


def test_the_window_of_a_photo_leaves_the_padding_out():
    assert photo_window(boxed(RAMP)[1]) == (slice(40, SIZE - 40), slice(0, SIZE))
