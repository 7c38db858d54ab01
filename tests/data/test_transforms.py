"""Letterbox there and back; what augmentation may and may not do."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from petseg_utils.data.labels import PADDING
from petseg_utils.data.transforms import PADDING_COLOUR, Letterbox, make_augmentation

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # its import would ask the network for a newer release
import albumentations

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


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, st.sampled_from([64, 96, 224]))
def test_at_twice_the_size_the_photo_lies_where_it_lies_at_one(height, width, size):
    photo = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    photo[..., 0] = 255  # no colour of the padding
    box = Letterbox(height, width, size)
    one, two = box.image(photo), box.image(photo, 2)
    assert np.array_equal(box.image(photo, 1), one) and two.shape == (2 * size, 2 * size, 3)
    padding = (box.label(np.zeros((height, width), np.uint8)) == PADDING).repeat(2, 0).repeat(2, 1)
    assert (two[padding] == PADDING_COLOUR).all() and (two[~padding][:, 0] == 255).all()
    rows, columns = (slice(2 * side.start, 2 * side.stop) for side in box.window)
    tall, wide = two[rows, columns].shape[:2]
    wanted = Image.fromarray(photo).resize((wide, height), Image.Resampling.BILINEAR)  # across first
    wanted = wanted.resize((wide, tall), Image.Resampling.BILINEAR)
    assert np.array_equal(two[rows, columns], np.asarray(wanted))


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


def sizes_drawn(scales, shift, n=80):
    """Height and width of a square after each of some draws, and the place of its middle, all in shares of its edge."""
    augment, size = make_augmentation(scales, shift), 128
    mask = np.zeros((size, size), np.uint8)
    mask[48:80, 48:80] = 1
    shapes, places = [], []
    for seed in range(n):
        augment.set_random_seed(seed)
        drawn = augment(image=np.zeros((size, size, 3), np.uint8), mask=mask)["mask"] == 1
        area, (ys, xs) = drawn.sum(), np.nonzero(drawn)
        if area:
            shapes.append((np.sqrt(area) / 32, ys.std() / xs.std()))
            places.append((ys.mean() / size - 0.5, xs.mean() / size - 0.5))
    return np.array(shapes), np.abs(places)


def test_how_far_pictures_are_scaled_and_moved_is_what_was_asked_for():
    little, near = sizes_drawn((0.8, 1.25), 0.08)
    wide, far = sizes_drawn((0.3, 1.3), 0.2)
    assert little[:, 0].min() > 0.78 and little[:, 0].max() < 1.3
    assert wide[:, 0].min() < 0.5 and wide[:, 0].max() < 1.35
    assert near.max() < 0.1 < 0.15 < far.max() < 0.23
    # A small range also stretches pictures a little; a large one keeps their shape.
    assert np.abs(np.log(wide[:, 1])).max() < 0.1 < np.abs(np.log(little[:, 1])).max()


def test_by_default_pictures_are_varied_as_they_always_were():
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 255, (64, 64, 3), np.uint8), rng.integers(0, 3, (64, 64), np.uint8)
    before = albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=0.5),
            albumentations.Affine(
                scale=(0.8, 1.25),
                rotate=(-12, 12),
                translate_percent=(-0.08, 0.08),
                fill=PADDING_COLOUR,
                fill_mask=PADDING,
                p=0.8,
            ),
            albumentations.ColorJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.03, p=0.8),
        ]
    )
    for seed in range(12):
        before.set_random_seed(seed)
        wanted, now = before(image=image, mask=mask), draw(seed, image, mask)
        assert np.array_equal(now["image"], wanted["image"]) and np.array_equal(now["mask"], wanted["mask"])
