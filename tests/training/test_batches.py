"""Training examples: what is varied and how, and labels that stay with their pictures."""

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from petseg_utils.data.labels import BORDER, PADDING
from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.transforms import PADDING_COLOUR, make_augmentation
from petseg_utils.models.feature_cache import load_features
from petseg_utils.study import TrainingSettings
from petseg_utils.training import batches
from petseg_utils.training.batches import (
    TrainingPictures,
    as_example,
    augmented,
    border_split,
    draw_examples,
    largest_empty_part,
    mirrored,
    mosaic,
    paste_pet,
)

SIZE = 64
PLAIN = TrainingSettings(width=4, epochs=1, batch_size=4, learning_rate=0.01)
GREY = {0: 60, 1: 140, 2: 220}  # how bright a class is in `painted` pictures


def painted(n=6, detail=True, seed=0):
    """Pictures whose brightness says their label: a rectangle of a cat or a dog on background, padding above."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((n, SIZE, SIZE), np.uint8)
    for number, label in enumerate(labels):
        top, left = rng.integers(12, 30, 2)
        label[top : top + 24, left : left + 24] = 1 + number % 2
        label[:6] = PADDING
    images = np.zeros((n, SIZE, SIZE, 3), np.uint8)
    for value, grey in GREY.items():
        images[labels == value] = grey
    images[labels == PADDING] = PADDING_COLOUR
    table = pd.DataFrame({"name": [str(number) for number in range(n)], "content": "", "mask": "", "breed": "none"})
    table["species"] = 1 + np.arange(n) % 2
    twice = images.repeat(2, 1).repeat(2, 2)
    return PictureSet(table, images, labels, detail=twice if detail else None)


def brightness_of(label):
    """What a picture's brightness is to be by its label, NaN where the label says nothing of it."""
    return np.select([label == value for value in GREY], list(GREY.values()), np.nan)


def agreement(image, label):
    """Share of the labelled pixels of an example, tints left out, that are nearest in brightness to their label."""
    grey, wanted = image.numpy().mean(0), brightness_of(label.numpy())
    known = ~np.isnan(wanted)
    nearest = np.argmin([np.abs(grey - value) for value in GREY.values()], 0)
    right = np.array(list(GREY.values()))[nearest] == wanted
    return right[known].mean()


@pytest.fixture
def untinted(monkeypatch):
    """Augmentation that leaves colours alone, so that a pixel's brightness still says its label."""
    import albumentations

    def make(*arguments):
        return albumentations.Compose(make_augmentation(*arguments).transforms[:2])

    monkeypatch.setattr(batches, "make_augmentation", make)


# As they always were


@pytest.mark.parametrize("settings", [None, PLAIN])
def test_without_further_wishes_examples_are_those_of_the_plain_augmentation(splits, settings):
    train = splits["train"]
    data = TrainingPictures(train, 5, augmented(settings) if settings else None)
    augment = make_augmentation()
    for epoch in (0, 3):
        data.epoch = epoch
        for index in range(len(train)):
            augment.set_random_seed((5 * 1_000 + epoch) * 100_000 + index)
            wanted = augment(image=np.array(train.images[index]), mask=np.array(train.labels[index]))
            example = data[index]
            assert np.array_equal(example["image"].permute(1, 2, 0).numpy(), wanted["image"])
            assert np.array_equal(example["label"].numpy(), wanted["mask"])


def test_an_example_is_a_matter_of_seed_epoch_and_place_alone(splits):
    settings = replace(PLAIN, scales=(0.3, 1.3), shift=0.2, mosaic=0.4, background=0.2)
    first, second = (TrainingPictures(splits["train"], 1, augmented(settings), length=30) for _ in range(2))
    order = np.random.default_rng(0).permutation(30)
    shuffled = {int(index): second[int(index)] for index in order}
    for index in range(30):
        assert all(torch.equal(first[index][name], shuffled[index][name]) for name in ("image", "label"))
    before = [first[index]["image"] for index in range(30)]
    first.epoch = 1
    assert sum(torch.equal(first[index]["image"], image) for index, image in enumerate(before)) < 4  # but by chance
    other = TrainingPictures(splits["train"], 2, augmented(settings), length=30)
    assert not torch.equal(other[0]["image"], before[0])


# At twice the size


@pytest.mark.parametrize("kind", [{}, {"mosaic": 1.0}, {"background": 1.0}])
def test_at_scale_2_the_picture_is_twice_its_label_and_both_belong_together(kind, untinted):
    make, pictures = augmented(replace(PLAIN, scales=(0.5, 1.3), shift=0.2, **kind), 2), painted()
    for index in range(12):
        example = make(pictures, index % len(pictures), (0, 0, index))
        assert example["image"].shape == (3, 2 * SIZE, 2 * SIZE) and example["label"].shape == (SIZE, SIZE)
        assert example["image"].dtype == example["label"].dtype == torch.uint8
        assert agreement(example["image"][:, ::2, ::2], example["label"]) > 0.93


def test_at_scale_2_it_is_the_detail_that_is_shown():
    pictures = painted()
    other = replace(pictures, detail=255 - pictures.detail)
    make = augmented(PLAIN, 2)
    one, two = (make(given, 0, (0, 0, 3)) for given in (pictures, other))
    assert torch.equal(one["label"], two["label"]) and not torch.equal(one["image"], two["image"])
    with pytest.raises(ValueError, match="read without their detail"):
        make(painted(detail=False), 0, (0, 0, 0))


def test_scaled_and_moved_labels_follow_their_pictures(untinted):
    make, pictures = augmented(replace(PLAIN, scales=(0.3, 1.3), shift=0.2)), painted()
    shares = []
    for index in range(60):
        example = make(pictures, index % len(pictures), (0, 0, index))
        assert agreement(example["image"], example["label"]) > 0.93
        shares.append(((example["label"] == 1) | (example["label"] == 2)).float().mean().item())
    whole = 24**2 / SIZE**2
    assert min(shares) < 0.3 * whole and max(shares) > 1.2 * whole


# Mosaics


def test_a_mosaic_shows_four_pictures_whole_and_their_labels_lie_under_them():
    size, rng = 40, np.random.default_rng(0)
    parts = [
        (np.full((size, size, 3), 50 * number + 20, np.uint8), np.full((size, size), number, np.uint8))
        for number in range(4)
    ]
    middles = set()
    for _ in range(40):
        image, label = mosaic(parts, rng)
        assert image.shape == (size, size, 3) and image.dtype == label.dtype == np.uint8
        assert np.array_equal(image, (50 * label[..., None] + 20).repeat(3, 2))
        rows, columns = np.nonzero(label == 0)
        y, x = rows.max() + 1, columns.max() + 1
        wanted = np.zeros_like(label)
        wanted[:y, x:], wanted[y:, :x], wanted[y:, x:] = 1, 2, 3
        assert np.array_equal(label, wanted)
        assert 2 * size // 7 <= min(y, x) and max(y, x) < 5 * size // 7
        middles.add((y, x))
    assert len(middles) > 20


def test_the_whole_of_each_picture_is_in_a_mosaic():
    size = 40
    label = np.zeros((size, size), np.uint8)
    label[10:30, 4:36] = 2
    image = np.where(label[..., None] == 2, 200, 10).astype(np.uint8).repeat(3, 2)
    shown, labels = mosaic([(image, label)] * 4, np.random.default_rng(3))
    assert (labels == 2).mean() == pytest.approx((label == 2).mean(), abs=0.03)
    assert ((shown[..., 0] > 105) == (labels == 2)).mean() > 0.95


def kinds_drawn(settings, n=300):
    """Share of the examples that are mosaics, and of those that show a part without a pet."""
    calls, make, pictures = {"mosaic": 0, "background": 0}, augmented(settings), painted()
    plain, empty = batches.mosaic, batches.largest_empty_part

    def counted(name, function):
        def count(*given):
            calls[name] += 1
            return function(*given)

        return count

    batches.mosaic, batches.largest_empty_part = counted("mosaic", plain), counted("background", empty)
    try:
        for index in range(n):
            make(pictures, index % len(pictures), (0, 0, index))
    finally:
        batches.mosaic, batches.largest_empty_part = plain, empty
    return {name: count / n for name, count in calls.items()}


def test_as_many_examples_are_mosaics_or_without_a_pet_as_was_asked_for():
    shares = kinds_drawn(replace(PLAIN, mosaic=0.3, background=0.2))
    assert shares["mosaic"] == pytest.approx(0.3, abs=0.08) and shares["background"] == pytest.approx(0.2, abs=0.07)
    assert kinds_drawn(PLAIN, 60) == {"mosaic": 0, "background": 0}
    assert kinds_drawn(replace(PLAIN, mosaic=1.0, background=0.5), 20) == {"mosaic": 1, "background": 0}


def test_a_mosaic_is_of_the_picture_asked_for_and_three_others(untinted):
    make, pictures = augmented(replace(PLAIN, mosaic=1.0, scales=(0.9, 1.1), shift=0.0)), painted(8)
    kinds = [np.unique(make(pictures, 0, (0, 0, index))["label"]).tolist() for index in range(20)]
    assert all(1 in kind for kind in kinds)  # the first picture, a cat's, is always there
    assert sum(2 in kind for kind in kinds) > 10
    example = make(pictures, 0, (0, 0, 5))
    assert agreement(example["image"], example["label"]) > 0.9


# Without a pet


def test_the_largest_part_beside_the_pet_fills_the_picture():
    label = np.zeros((SIZE, SIZE), np.uint8)
    label[:8] = PADDING
    label[30:50, 40:60], label[28:30, 40:60] = 2, BORDER
    image = np.arange(SIZE, dtype=np.uint8)[None, :, None].repeat(SIZE, 0).repeat(3, 2)  # brightness says the column
    part, empty = largest_empty_part(image, label)
    assert part.shape == image.shape and empty.shape == label.shape
    assert (empty == 0).all()
    # Left of the pet there are 40 columns, above it 20 rows: the former, without a pixel of padding.
    assert part.min() == 0 and part.max() == 39 and (np.diff(part[5, :, 0].astype(int)) >= 0).all()


@pytest.mark.parametrize(("pet", "columns"), [((10, 64, 0, 30), (30, 64)), ((20, 50, 34, 64), (0, 34))])
def test_the_part_lies_on_whichever_side_has_most_room(pet, columns):
    label = np.zeros((SIZE, SIZE), np.uint8)
    label[pet[0] : pet[1], pet[2] : pet[3]] = 1
    image = np.arange(SIZE, dtype=np.uint8)[None, :, None].repeat(SIZE, 0).repeat(3, 2)
    part, empty = largest_empty_part(image, label)
    assert (part.min(), part.max()) == (columns[0], columns[1] - 1) and (empty == 0).all()


@pytest.mark.parametrize("value", [1, 2, BORDER])
def test_where_there_is_hardly_any_room_or_no_pet_the_picture_stays_as_it_is(value):
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    full = np.zeros((SIZE, SIZE), np.uint8)
    full[4:60, 4:60] = value
    nothing, padding = np.zeros_like(full), np.full_like(full, PADDING)
    for label in (full, nothing, padding, np.full_like(full, value)):
        given = largest_empty_part(image, label)
        assert given[0] is image and given[1] is label


def test_examples_without_a_pet_hold_none(splits):
    make, train = augmented(replace(PLAIN, background=1.0)), splits["train"]
    for index in range(len(train)):
        label = make(train, index, (0, 0, index))["label"].numpy()
        assert set(np.unique(label)) <= {0, PADDING} and (label == 0).mean() > 0.3


# From the cache


def test_cached_examples_are_mirrored_with_their_maps(splits, tmp_path):
    from tests.models.test_feature_cache import make_encoder

    train, encoder = splits["train"], make_encoder()
    make = mirrored(load_features(encoder, train, tmp_path, mirrored=True, progress=False))
    sides = set()
    for index in range(len(train)):
        example = make(train, index, (0, 0, index))
        plain = as_example(train.images[index], train.labels[index])
        side = not torch.equal(example["image"], plain["image"])
        sides.add(side)
        assert torch.equal(example["image"], plain["image"].flip(-1) if side else plain["image"])
        assert torch.equal(example["label"], plain["label"].flip(-1) if side else plain["label"])
        for ours, wanted in zip(example["maps"], encoder(example["image"][None]), strict=True):
            torch.testing.assert_close(ours.float(), wanted[0], rtol=2e-3, atol=2e-3)
    assert sides == {True, False}


def test_a_pasted_pet_brings_its_label_and_covers_what_was_there():
    pictures, rng = painted(2, detail=False), np.random.default_rng(3)
    image, label, other, other_label = pictures.images[0], pictures.labels[0], pictures.images[1], pictures.labels[1]
    before, heights = (image.copy(), label.copy()), []
    for _ in range(20):
        both, both_label = paste_pet(image, label, other, other_label, rng)
        dog, kept = both_label == 2, both_label == label
        assert np.array_equal(both[(both_label == 0) & kept], image[(both_label == 0) & kept])
        heights.append(dog.any(1).sum())
        inside = cv2.erode(np.pad(dog.astype(np.uint8), 3), np.ones((7, 7)))[3:-3, 3:-3] > 0
        assert (np.abs(both[inside].astype(int) - GREY[2]) < 6).all()
        assert (both_label == BORDER).any() == dog.any()  # its rim is neither it nor the ground
    assert sum(height > 0 for height in heights) > 10 and max(heights) <= 0.8 * SIZE
    assert np.array_equal(image, before[0]) and np.array_equal(label, before[1])  # not in place


def test_where_the_other_picture_shows_no_pet_nothing_is_pasted():
    image, label = painted(1, detail=False).images[0], painted(1, detail=False).labels[0]
    same = paste_pet(image, label, image, np.zeros((SIZE, SIZE), np.uint8), np.random.default_rng(0))
    assert same[0] is image and same[1] is label


def test_as_many_examples_get_another_pet_as_was_asked_for():
    pictures = painted(6, detail=False)
    cats = pictures.subset(["0", "2", "4"])
    make = augmented(replace(PLAIN, paste=0.5))
    two = [make(pictures, 0, (0, 0, place))["label"].unique().tolist() for place in range(200)]
    assert 0.1 < np.mean([2 in labels for labels in two]) < 0.4  # half get one, and half of those a dog
    assert not any(2 in make(cats, 0, (0, 0, place))["label"] for place in range(30))


@pytest.mark.parametrize("scale", [1, 2])
def test_drawn_examples_are_those_of_the_loop_and_a_picture_set_of_their_own(scale):
    pictures, make = painted(5), augmented(replace(PLAIN, mosaic=0.3), scale)
    drawn = draw_examples(pictures, make, 7, 9, [0, 1, 1, 2], scale=scale, progress=False)
    assert len(drawn) == 9 and drawn.table["name"].is_unique
    origin = drawn.table["name"].str.partition("-")[0].astype(int)
    assert sorted(origin[:4]) == [0, 1, 1, 2] and origin[:4].tolist() == origin[4:8].tolist()
    for place in range(9):
        example = make(pictures, origin[place], (7, place // 4, place))
        assert np.array_equal(drawn.at(scale)[place], example["image"].numpy().transpose(1, 2, 0))
        assert np.array_equal(drawn.labels[place], border_split(example["label"].numpy()))
    if scale == 2:  # the stem sees the same picture as where the network halves it
        means = drawn.detail.reshape(9, SIZE, 2, SIZE, 2, 3).mean((2, 4))
        assert np.abs(means - drawn.images).max() <= 0.75
    again = draw_examples(pictures, make, 7, 9, [0, 1, 1, 2], scale=scale, progress=False)
    assert again.fingerprint == drawn.fingerprint


def test_rows_may_stand_several_times_in_an_epoch():
    pictures = painted(4, detail=False)
    data = TrainingPictures(pictures, 0, lambda pictures, row, key: {"row": row}, rows=[0, 1, 0, 2, 3])
    assert [data[place]["row"] for place in range(len(data))] == [0, 1, 0, 2, 3]


def test_a_narrow_border_is_split_in_its_middle_and_a_wide_one_stays():
    label = np.zeros((60, 60), np.uint8)
    label[20:40, 20:40] = 2
    ring = cv2.morphologyEx((label > 0).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5))) > 0
    assert np.array_equal(border_split(np.where(ring, BORDER, label)), label)
    unsure = np.full((60, 60), BORDER, np.uint8)
    unsure[:, :10], unsure[:, 50:] = 0, 1
    assert np.array_equal(border_split(unsure), unsure)
    padded = np.full((20, 20), PADDING, np.uint8)
    assert border_split(padded) is padded
