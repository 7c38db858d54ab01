"""Letterbox there and back; what augmentation may and may not do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petseg_utils.data.labels import PADDING
from petseg_utils.data.transforms import PADDING_COLOUR, Letterbox, make_augmentation

SIDES = st.integers(1, 400)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.sampled_from([64, 128, 224]))
def test_letterbox_keeps_shape_and_comes_back_at_the_photos_size(height, width, size):
    box = Letterbox(height, width, size)
    label = box.label(np.ones((height, width), np.uint8))
    rows, columns = np.nonzero(label == 1)
    inner = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
    assert max(inner) == size and inner == box.inner
    assert (label == 1).sum() == inner[0] * inner[1] and set(np.unique(label)) <= {1, PADDING}
    if min(inner) > 1:
        assert abs(inner[0] / inner[1] - height / width) / (height / width) < 1 / min(inner)
    assert box.invert(np.where(label == PADDING, 0, label)).shape == (height, width)
    assert (box.invert(label) == 1).all()  # no padding leaks into the photo


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.sampled_from([64, 128, 224]))
def test_a_point_lands_on_the_pixel_that_the_letterbox_made_of_it(height, width, size):
    box = Letterbox(height, width, size)
    column, row = box.to_square(width - 1, height - 1)
    bottom, right = box.window[0].stop, box.window[1].stop
    assert box.offset[1] - 0.5 <= box.to_square(0, 0)[0] and column <= right - 0.5
    assert box.offset[0] - 0.5 <= box.to_square(0, 0)[1] and row <= bottom - 0.5
    assert box.to_square((width - 1) / 2, (height - 1) / 2) == pytest.approx(
        ((box.offset[1] + right - 1) / 2, (box.offset[0] + bottom - 1) / 2)
    )


def test_a_large_mask_survives_the_round_trip():
    rows, columns = np.mgrid[:300, :500]
    disc = ((rows - 150) ** 2 + (columns - 250) ** 2 < 110**2).astype(np.uint8)
    box = Letterbox(300, 500, 224)
    back = box.invert(box.label(disc))
    assert (disc & back).sum() / (disc | back).sum() > 0.97


def test_padding_has_the_padding_colour():
    square = Letterbox(10, 40, 64).image(np.zeros((10, 40, 3), np.uint8))
    assert (square[0, 0] == PADDING_COLOUR).all() and (square[32, 32] == 0).all()


def test_letterbox_refuses_another_photo():
    with pytest.raises(ValueError, match="this letterbox is for 10 x 40 pixels"):
        Letterbox(10, 40, 64).image(np.zeros((11, 40, 3), np.uint8))
    with pytest.raises(ValueError, match=r"expected a \(64, 64\) mask"):
        Letterbox(10, 40, 64).invert(np.zeros((32, 32), np.uint8))


def draw(seed, image, mask):
    augment = make_augmentation()
    augment.set_random_seed(seed)
    return augment(image=image, mask=mask)


def test_augmentation_depends_on_its_seed_alone():
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 255, (64, 64, 3), np.uint8), rng.integers(0, 3, (64, 64), np.uint8)
    first, again, other = draw(5, image, mask), draw(5, image, mask), draw(6, image, mask)
    assert (first["image"] == again["image"]).all() and (first["mask"] == again["mask"]).all()
    assert (first["image"] != other["image"]).any()


def test_augmentation_never_turns_pictures_upside_down_and_marks_what_it_uncovers():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32] = 255  # white sky over black ground
    mask = np.repeat(np.array([0, 1], np.uint8), 32)[:, None].repeat(64, 1)
    uncovered = mirrored = 0
    for seed in range(60):
        out = draw(seed, image, mask)
        sky, ground = out["image"][:12, 20:44].mean(), out["image"][-12:, 20:44].mean()
        assert sky > ground
        assert set(np.unique(out["mask"])) <= {0, 1, PADDING}
        uncovered += (out["mask"] == PADDING).any()
        left = np.zeros_like(mask)
        left[:, :32] = 1
        mirrored += draw(seed, image, left)["mask"][32, 40] == 1
    assert uncovered > 10 and 10 < mirrored < 50
