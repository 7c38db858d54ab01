"""An open photo: clicks in the photo's own pixels, undo and clear, and masks of the photo's own size."""

import numpy as np
import pytest

from petseg_utils.data.labels import PADDING
from petseg_utils.data.pictures import load_splits
from petseg_utils.models.prompts import Click, draw_prompts
from petseg_utils.scores.predictions import predict
from petseg_utils.segmenter import Segmenter
from petseg_utils.study import PetsegError
from petseg_utils.training.train import trained_checkpoint


@pytest.fixture
def segmenters(study):
    splits = load_splits(study, progress=False)
    return {
        model: Segmenter.load(weights=trained_checkpoint(model, study, 0, splits, progress=False))
        for model in ("decoder", "point")
    }


PHOTO = np.random.default_rng(0).integers(0, 255, (90, 140, 3)).astype(np.uint8)


def test_each_prompt_gives_a_mask_of_the_photos_size_and_undo_takes_it_back(segmenters):
    opened = segmenters["point"].open(PHOTO)
    steps = [opened.mask, opened.click(70, 45), opened.click(3, 3, positive=False), opened.box(20, 10, 120, 80)]
    steps.append(opened.scribble([(60, 40), (80, 50)]))
    assert all(step.shape == (90, 140) and step.dtype == bool for step in steps)
    for step in steps[-2::-1]:
        assert np.array_equal(opened.undo(), step)
    assert np.array_equal(opened.undo(), steps[0]) and opened.prompts == []  # nothing left to take back
    opened.click(70, 45)
    opened.click(9, 9)
    assert np.array_equal(opened.clear(), steps[0])
    assert np.array_equal(opened.click(70, 45), steps[1])


def test_a_mask_can_be_had_at_another_size(segmenters):
    opened = segmenters["point"].open(PHOTO)
    small = opened.mask_at(45, 70)
    assert small.shape == (45, 70)
    assert abs(small.mean() - opened.mask.mean()) < 0.05
    assert opened.share == opened.mask.mean()
    assert opened.label in ("background", "cat", "dog") and 0 <= opened.confidence <= 1


@pytest.mark.parametrize("pet", (1, 2))
def test_the_label_is_that_of_what_is_selected_however_small(segmenters, pet):
    opened = segmenters["point"].open(PHOTO)
    size = segmenters["point"].card["image_size"]
    target, classes = np.full((size, size), 0.4, np.float32), np.zeros((3, size, size), np.float32)
    classes[0] = 1
    opened._steps = [(target, classes)]
    assert opened.label == "background"  # nothing is selected
    part = opened._box.window[0].start + 2, 5
    target[part], classes[:, *part] = 0.9, (0.4, 0.1, 0.1)
    classes[pet, *part] = 0.3
    assert opened.label == ("background", "cat", "dog")[pet]  # a proposal is a pet
    opened.prompts.append(Click(2, 2))
    assert opened.label == "background"  # while a prompt may ask for anything
    classes[pet, *part] = 0.5
    assert opened.label == ("background", "cat", "dog")[pet]


def test_points_outside_the_photo_and_models_without_prompts_are_refused(segmenters):
    opened = segmenters["point"].open(PHOTO)
    for wrong in ((140, 5), (5, -1), (5, 90)):
        with pytest.raises(PetsegError, match="lies outside the photo of 140 x 90 pixels"):
            opened.click(*wrong)
    assert opened.prompts == []
    with pytest.raises(PetsegError, match="takes no clicks; the model point does"):
        segmenters["decoder"].open(PHOTO).click(5, 5)


def test_an_open_photo_of_a_model_without_prompts_shows_what_it_predicts(segmenters):
    opened = segmenters["decoder"].open(PHOTO)
    predicted = segmenters["decoder"].predict(PHOTO)
    assert predicted.shape == (90, 140) and predicted.dtype == np.uint8
    classes = segmenters["decoder"].probabilities([PHOTO])[0]
    inner = opened._steps[0][0] > 0.5  # compared at the model's size: at the photo's, one is enlarged before, one after
    assert np.array_equal(inner, classes.argmax(0) > 0)


def test_the_summary_says_what_is_selected_and_nothing_where_nothing_is(segmenters):
    opened = segmenters["point"].open(PHOTO)
    size = segmenters["point"].card["image_size"]
    target, classes = np.full((size, size), 0.9, np.float32), np.zeros((3, size, size), np.float32)
    classes[1] = 1
    opened._steps = [(target, classes)]
    assert opened.summary == "Proposed: cat, 100.0% of the photo, with confidence 90%."
    opened.prompts.append(Click(2, 2))
    assert opened.summary.startswith("Selected: cat, ")
    opened._steps = [(1 - target, classes)]
    assert opened.summary == ""


def test_only_the_model_whose_recipe_says_so_takes_prompts(segmenters):
    assert segmenters["point"].takes_prompts and not segmenters["decoder"].takes_prompts


def test_open_photos_do_not_share_anything(segmenters):
    first, second = (segmenters["point"].open(PHOTO) for _ in range(2))
    before = second.mask
    first.click(70, 45)
    assert second.prompts == [] and np.array_equal(second.mask, before)


def test_training_and_an_open_photo_show_the_model_the_same_prompts(segmenters):
    segmenter, seen = segmenters["point"], []
    segmenter.model.head.register_forward_pre_hook(lambda module, given: seen.append(given[2].clone()))
    opened = segmenter.open(np.zeros((100, 200, 3), np.uint8))
    opened.click(100, 50)
    proposed = opened._steps[0][0]
    x, y = (100 + 0.5) * 64 / 200 - 0.5, (50 + 0.5) * 32 / 100 - 0.5 + 16
    assert np.array_equal(seen[1][0].numpy(), draw_prompts([Click(x, y)], 64, proposed))


def test_a_photo_of_any_size_gets_a_mask_of_its_size(segmenters):
    photo = np.random.default_rng(0).integers(0, 255, (37, 201, 3), np.uint8)
    mask = segmenters["decoder"].predict(photo)
    assert mask.shape == (37, 201) and mask.dtype == np.uint8 and mask.max() <= 2


def test_segmenter_agrees_with_the_evaluation(segmenters, splits):
    test = splits["test"]
    expected = predict(segmenters["decoder"].model, test).classes[0]
    inside = test.labels[0] != PADDING
    probabilities = segmenters["decoder"].probabilities([np.array(test.images[0])])[0]
    assert (probabilities.argmax(0) == expected)[inside].all()
