"""The head hears each click where it falls, and knows the pet from the rest."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from petseg_utils.models.click_head import PointSegmenter, PromptHead, put_right
from petseg_utils.models.decoder import Decoder, FrozenSegmenter
from petseg_utils.models.encoders import LITE, load_encoder
from petseg_utils.models.prompts import Box, Click, prompt_maps


def clicked_cells(*places, size=12):
    """One picture whose left half looks unlike its right half, and clicks at ``(row, column, sign)``."""
    cells, prompts = torch.zeros(1, 4, size, size), torch.zeros(1, 2, size, size)
    cells[:, 0, :, : size // 2] = 3.0
    for row, column, sign in places:
        prompts[0, 0 if sign > 0 else 1, row, column] = 1
    return cells, prompts


def test_a_click_that_the_mask_agrees_with_changes_nothing_and_one_that_it_contradicts_turns_its_place():
    cells, prompts = clicked_cells((3, 2, 1))
    assert put_right(cells, torch.full((1, 1, 12, 12), 4.5), prompts).abs().max() == 0
    mask = torch.full((1, 1, 12, 12), -3.0)
    after = mask + put_right(cells, mask, prompts)
    assert after[0, 0, 3, 2] > 2
    alike, unlike = after[0, 0, 3, :6], after[0, 0, 3, 6:]
    assert alike.min() > unlike.max()  # what looks the same, on the same side, follows; the other half less
    assert after[0, 0, 3, 2] > after[0, 0, 3, 5]  # and the nearer the more


def test_of_two_places_equally_near_the_one_that_looks_like_the_click_follows():
    cells, prompts = clicked_cells((6, 5, 1))  # the last column of the left half
    change = put_right(cells, torch.full((1, 1, 12, 12), -3.0), prompts)
    assert change[0, 0, 6, 4] > 2 * change[0, 0, 6, 6] > 0


def test_clicks_of_two_minds_are_each_heard_where_they_fall():
    places = [(1, 1, 1), (10, 1, -1), (5, 9, 1)]
    cells, prompts = clicked_cells(*places)
    mask = torch.zeros(1, 1, 12, 12)
    after = mask + put_right(cells, mask, prompts)
    assert all(sign * after[0, 0, row, column] > 1 for row, column, sign in places)


def test_a_picture_is_answered_the_same_alone_and_beside_one_with_more_clicks():
    (cells, one_click), (_, three_clicks) = clicked_cells((3, 2, 1)), clicked_cells((3, 3, -1), (8, 8, 1), (0, 5, 1))
    mask = torch.zeros(1, 1, 12, 12)
    both = put_right(cells.repeat(2, 1, 1, 1), mask.repeat(2, 1, 1, 1), torch.cat([one_click, three_clicks]))
    assert torch.allclose(both[:1], put_right(cells, mask, one_click), atol=1e-5)


def half_a_pet():
    """Class logits of one picture: a cat on the left half, nothing on the right."""
    classes = torch.zeros(1, 3, 64, 64)
    classes[:, 1, :, :32], classes[:, 0, :, 32:] = 9.0, 9.0
    return classes


def looks_of(classes):
    """Cells that look one way where the pet is, and another where it is not."""
    return 3 * F.avg_pool2d(classes[:, :1].sign(), 4).repeat(1, 4, 1, 1)


@pytest.mark.parametrize(
    ("said", "side"),
    [
        ([], 1),
        ([Click(10, 30)], 1),
        ([Click(50, 30)], -1),
        ([Click(50, 30, positive=False)], 1),
        ([Click(50, 30), Click(60, 50, positive=False)], 1),  # what is not wanted is background: so the pet is
        ([Click(50, 30), Click(10, 50, positive=False)], -1),
    ],
)
def test_clicks_say_which_side_is_asked_for(said, side):
    classes = half_a_pet()
    pet = classes[:, 1:].logsumexp(1, keepdim=True) - classes[:, :1]
    asked = PromptHead().asked_side(looks_of(classes), pet, prompt_maps([said], classes))
    assert asked.item() * side > 0.5


@pytest.mark.parametrize(("there", "x"), [(9.0, 10), (0.0, 50)])
def test_a_click_on_a_small_mistake_asks_for_what_is_all_around_it(there, x):
    """A few pixels of the pet that are taken for background, and the other way round."""
    classes = half_a_pet()
    looks = looks_of(classes)
    classes[:, 0, 28:32, x - 2 : x + 2], classes[:, 1, 28:32, x - 2 : x + 2] = there, 9.0 - there
    pet = classes[:, 1:].logsumexp(1, keepdim=True) - classes[:, :1]
    assert (pet[0, 0, 30, x] < 0) == (there > 0)
    asked = PromptHead().asked_side(looks, pet, prompt_maps([[Click(x, 30)]], classes))
    assert asked.item() * (1 if there else -1) > 0.5


def test_a_box_keeps_the_pet_within_it():
    classes, cells = half_a_pet(), torch.zeros(1, 4, 16, 16)
    logits = PromptHead()(cells, classes, prompt_maps([[Box(4, 4, 28, 28)]], classes))[0, 0]
    assert (logits[8:24, 8:24] > 0).all()
    assert (logits[45:, :32] < 0).all() and (logits[:, 45:] < 0).all()


def make_models(width=16):
    torch.manual_seed(0)
    encoder = load_encoder(LITE, 64)
    plain = FrozenSegmenter(encoder, Decoder(encoder.channels, encoder.strides, width=width)).eval()
    prompted = PointSegmenter(encoder, Decoder(encoder.channels, encoder.strides, width=width)).eval()
    return plain, prompted


def test_without_a_prompt_the_point_model_is_the_decoder_it_stands_on(splits):
    plain, prompted = make_models()
    prompted.start_from(plain.decoder)
    test = splits["test"]
    images = torch.from_numpy(np.array(test.images)).permute(0, 3, 1, 2).float()
    assert torch.equal(plain(images), prompted(images))
    background, cat, dog, asked = prompted(images, None, torch.zeros(len(test), 4, 64, 64)).unbind(1)
    pet = torch.logaddexp(cat, dog) - background
    assert torch.equal(asked > 0, pet > 0)
