"""What is selected before any click, and whose side the first click takes."""

import numpy as np
import pytest

from petseg_utils.models.prompts import Box, Click, Scribble, prompt_maps
from petseg_utils.models.selection import FINE, LARGEST, clicked_side, pet_chance, settled, softmax, unsure_parts

SIZE = 64


def test_a_pets_chance_is_that_of_either_species_against_the_rest():
    classes = np.random.default_rng(0).normal(size=(2, 3, 5, 5)).astype(np.float32)
    chances = softmax(classes)
    np.testing.assert_allclose(chances.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(chances[:, 1] / chances[:, 0], np.exp(classes[:, 1] - classes[:, 0]), rtol=1e-5)
    np.testing.assert_allclose(pet_chance(classes), 1 - chances[:, 0], atol=1e-6)
    least = 1 / (1 + np.exp(LARGEST))
    np.testing.assert_allclose(np.sort(pet_chance(1000 * classes).ravel())[[0, -1]], [least, 1 - least], atol=1e-6)


def test_a_part_in_which_the_model_is_nowhere_sure_is_left_out_and_the_others_are_whole():
    pet = np.full((20, 30), 0.1, np.float32)
    pet[2:8, 2:8], pet[4, 4] = 0.6, 0.96  # sure at one pixel: all of it stays
    pet[8, 8] = 0.55  # touches it at a corner
    pet[12:18, 15:25] = 0.9  # likely everywhere, sure nowhere
    unsure = unsure_parts(pet, 0.95)
    wanted = np.zeros_like(unsure)
    wanted[12:18, 15:25] = True
    assert np.array_equal(unsure, wanted)
    assert not unsure_parts(pet, 0.0).any() and not unsure_parts(pet, 0.9).any()
    assert not unsure_parts(np.zeros((4, 4)), 0.9).any()


def cat_with_a_patch(chance: float) -> np.ndarray:
    """Class probabilities of a cat with a patch that is likelier dog, of a dog, and of something."""
    classes = np.zeros((3, 20, 30), np.float32)
    classes[0] = 1
    classes[:, 2:12, 2:12] = np.array([0.02, 0.97, 0.01])[:, None, None]
    classes[:, 9:14, 9:14] = np.array([0.01, 0.99 - chance, chance])[:, None, None]  # at the corner of it
    classes[:, 2:8, 20:26] = np.array([0.02, 0.01, 0.97])[:, None, None]
    classes[:, 14:18, 20:26] = np.array([0.3, 0.1, 0.6])[:, None, None]
    return classes


def test_an_animal_is_of_one_species_unless_the_model_is_sure_of_both():
    mixed, both = cat_with_a_patch(0.9), cat_with_a_patch(0.96)
    of_one, of_two = settled(mixed, 0.95), settled(both, 0.95)
    expected = np.zeros((20, 30))
    expected[2:12, 2:12], expected[9:14, 9:14], expected[2:8, 20:26] = 1, 1, 2
    assert np.array_equal(of_one.argmax(0), expected)  # what it is nowhere sure of is left out
    np.testing.assert_allclose(of_one[:, 10, 10], [0.01, 0.9, 0.09], atol=1e-6)
    expected[9:14, 9:14] = 2
    assert np.array_equal(of_two.argmax(0), expected)
    for before, after in ((mixed, of_one), (both, of_two)):
        np.testing.assert_allclose(after.sum(0), 1, atol=1e-6)
        assert np.array_equal(settled(before, 0.0), before) and before.argmax(0)[10, 10] == 2


@pytest.mark.parametrize("ground", [0.0, 1.0])
def test_pictures_full_of_a_pet_or_without_one_are_settled_too(ground):
    classes = np.stack([np.full((8, 8), share, np.float32) for share in (ground, 1 - ground, 0)])
    assert np.array_equal(settled(classes, 0.95), classes)


def half_a_pet() -> np.ndarray:
    """Class logits of one picture: a cat on the left half, nothing on the right."""
    classes = np.zeros((1, 3, SIZE, SIZE), np.float32)
    classes[:, 1, :, : SIZE // 2], classes[:, 0, :, SIZE // 2 :] = 9.0, 9.0
    return classes


def looks_of(classes: np.ndarray) -> np.ndarray:
    """Cells that look one way where the pet is, and another where it is not."""
    return 3 * np.sign(classes[:, :1, ::FINE, ::FINE]).repeat(4, 1)


@pytest.mark.parametrize(
    ("said", "side"),
    [
        ([], 1),
        ([Click(10, 30)], 1),
        ([Click(50, 30)], -1),
        ([Click(50, 30, positive=False)], 1),  # what is not wanted is background: so the pet is
        ([Scribble(((48, 20), (50, 30), (52, 40)))], -1),
        ([Scribble(((8, 20), (10, 30), (12, 40)))], 1),
        ([Box(34, 5, 60, 60)], 1),
    ],
)
def test_the_first_click_says_which_side_is_wanted(said, side):
    classes = half_a_pet()
    assert clicked_side(looks_of(classes), pet_chance(classes), prompt_maps([said], SIZE)).tolist() == [side]


def test_each_picture_has_its_own_side():
    classes = half_a_pet().repeat(3, 0)
    said = [[Click(50, 30)], [], [Click(10, 30)]]
    assert clicked_side(looks_of(classes), pet_chance(classes), prompt_maps(said, SIZE)).tolist() == [-1, 1, 1]


@pytest.mark.parametrize(("there", "x", "side"), [(9.0, 10, 1), (0.0, 50, -1)])
def test_a_click_on_a_small_mistake_asks_for_what_is_all_around_it(there, x, side):
    """A few pixels of the pet that are taken for background, and the other way round."""
    classes = half_a_pet()
    looks = looks_of(classes)
    classes[:, 0, 28:32, x - 2 : x + 2], classes[:, 1, 28:32, x - 2 : x + 2] = there, 9.0 - there
    pet = pet_chance(classes)
    assert (pet[0, 30, x] < 0.5) == (there > 0)
    assert clicked_side(looks, pet, prompt_maps([[Click(x, 30)]], SIZE)).item() == side
