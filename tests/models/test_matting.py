"""Edges at the photo's own size are nearer to the truth than the enlarged mask's, and change nothing else."""

import cv2
import numpy as np
import pytest

from petseg_utils.data.drawing.breeds import BREEDS
from petseg_utils.data.drawing.pictures import draw_hair
from petseg_utils.models import matting
from petseg_utils.models.matting import BAND, own_colours, soft_alpha

STEP = 4  # photo pixels in a model pixel


def disc(radius=100, edge=400):
    """A red disc on green ground, soft over three pixels, its alpha, and what a model at a quarter of the size sees."""
    rows, columns = np.indices((edge, edge))
    alpha = np.clip((radius + 1.5 - np.hypot(rows - edge / 2, columns - edge / 2)) / 3, 0, 1)
    photo = alpha[..., None] * (200, 40, 40) + (1 - alpha[..., None]) * (40, 160, 40)
    chance = cv2.resize(alpha.astype(np.float32), (edge // STEP, edge // STEP), interpolation=cv2.INTER_AREA)
    return np.rint(photo).astype(np.uint8), alpha, cv2.GaussianBlur(chance, (0, 0), 1)


def enlarged(chance, shape):
    return cv2.resize(chance, shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5


def test_a_soft_edge_is_found_where_the_mask_knows_its_place_only_roughly():
    photo, alpha, chance = disc()
    chance = np.roll(chance, 1, 1)  # by a model pixel
    found = soft_alpha(photo, chance) / 255
    assert np.abs(found - alpha).mean() < 0.25 * np.abs(enlarged(chance, alpha.shape) - alpha).mean()
    assert ((found > 0.05) & (found < 0.95)).mean() > 0.5 * ((alpha > 0.05) & (alpha < 0.95)).mean()


def test_far_from_the_outline_nothing_changes():
    photo, alpha, chance = disc()
    photo[190:210, 190:210] = (40, 160, 40)  # a spot in the colour of the ground, and one of the pet's outside
    photo[20:40, 20:40] = (200, 40, 40)
    plain, found = enlarged(chance, alpha.shape), soft_alpha(photo, chance)
    distance = np.abs(np.hypot(*(np.indices(alpha.shape) - 200)) - 100)
    far = distance > (BAND + 1) * STEP
    assert np.array_equal(found[far], 255 * plain[far])


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_nothing_and_everything_stay_so(value):
    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    assert (soft_alpha(photo, np.full((45, 60), value)) == 255 * value).all()


def test_a_photo_that_is_no_larger_than_the_mask_keeps_its_edge():
    photo, _, chance = disc()
    small = cv2.resize(photo, chance.shape)
    assert np.array_equal(soft_alpha(small, chance), np.where(chance > 0.5, 255, 0))


def test_masks_that_are_larger_than_usual_have_soft_edges_too():
    photo, alpha, _ = disc(radius=400, edge=1600)
    chance = cv2.GaussianBlur(cv2.resize(alpha.astype(np.float32), (640, 640), interpolation=cv2.INTER_AREA), (0, 0), 1)
    found = soft_alpha(photo, chance)
    assert ((found > 10) & (found < 245)).sum() > 500


def test_large_photos_are_worked_on_in_tiles_without_seams(monkeypatch):
    photo, _, chance = disc()
    whole = soft_alpha(photo, chance)
    colours = own_colours(photo, whole, STEP)
    monkeypatch.setattr(matting, "TILE", 64)
    assert np.abs(soft_alpha(photo, chance).astype(int) - whole).max() <= 1
    assert np.abs(own_colours(photo, whole, STEP).astype(int) - colours).max() <= 1


@pytest.mark.parametrize("place", [(40, 60), (0, 0), (150, 199)])
def test_working_around_the_edge_alone_changes_no_pixel(place, monkeypatch):
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (60, 80, 3), np.uint8), (800, 600))
    chance = np.zeros((168, 224), np.float32)
    cv2.circle(chance, place[::-1], 18, 1, -1)
    chance = cv2.GaussianBlur(chance, (0, 0), 2)
    alpha = soft_alpha(image, chance)
    colours = own_colours(image, alpha, STEP)
    assert ((alpha > 0) & (alpha < 255)).sum() > 1000 and (colours != image).any()
    monkeypatch.setattr(matting.cv2, "boundingRect", lambda edge: (0, 0, *edge.shape[::-1]))  # the whole photo
    assert np.array_equal(soft_alpha(image, chance), alpha)
    assert np.array_equal(own_colours(image, alpha, STEP), colours)


def test_the_old_grounds_colours_are_taken_out_of_the_edge():
    photo, alpha, _ = disc()
    share = np.rint(255 * alpha).astype(np.uint8)
    pure = own_colours(photo, share, STEP).astype(int)
    mixed = (share > 60) & (share < 200)
    assert np.abs(pure[mixed] - (200, 40, 40)).mean() < 0.4 * np.abs(photo[mixed].astype(int) - (200, 40, 40)).mean()
    rest = (share == 0) | (share == 255)
    assert np.array_equal(pure[rest], photo[rest])


def test_fur_is_cut_nearer_to_its_hairs():
    errors, plain_errors = [], []
    for breed in BREEDS[::9]:
        picture, alpha = draw_hair(breed, 1, 2)
        size = tuple(round(side / STEP) for side in alpha.shape)
        chance = cv2.resize(alpha.astype(np.float32) / 255, size[::-1], interpolation=cv2.INTER_AREA)
        edge = cv2.dilate(((alpha > 0) & (alpha < 255)).astype(np.uint8), np.ones((9, 9))) > 0
        errors.append(np.square(soft_alpha(picture, chance) / 255.0 - alpha / 255.0)[edge].mean())
        plain_errors.append(np.square(enlarged(chance, alpha.shape) - alpha / 255.0)[edge].mean())
    assert np.mean(errors) < 0.6 * np.mean(plain_errors)
