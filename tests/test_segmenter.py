"""An open photo: clicks in the photo's own pixels, what they may change, undo and clear, and masks of its own size."""

import numpy as np
import pytest
from PIL import Image

from petseg_utils.apps.segment_folder import _likeliest
from petseg_utils.data.datasets import DataError
from petseg_utils.data.drawing.breeds import BREEDS
from petseg_utils.data.drawing.pictures import draw_pet
from petseg_utils.data.labels import CLASSES, PADDING
from petseg_utils.data.pictures import load_splits
from petseg_utils.data.transforms import Letterbox
from petseg_utils.models.prompts import SURE, Box, Click, Scribble, deepest_click, draw_prompts
from petseg_utils.models.selection import settled, unsure_parts
from petseg_utils.scores.predictions import predict
from petseg_utils.segmenter import UNDONE, OpenPhoto, Segmenter, class_mask
from petseg_utils.study import PetsegError
from petseg_utils.training.train import trained_checkpoint
from tests.apps.fake_point import (
    CAT,
    DOG,
    GROUND,
    MISSED,
    ON_CAT,
    ON_DOG,
    ON_GROUND,
    SIZE,
    cat_and_dog,
    ellipse,
    fake_segmenter,
    paint,
)


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


FORMS = {
    "RGBA": (np.dstack([PHOTO, PHOTO[..., :1]]), r"uint8 \(90, 140, 4\), with four channels, such as RGBA"),
    "grey": (PHOTO[..., 0], r"uint8 \(90, 140\), grey"),
    "grey with an axis": (PHOTO[..., :1], r"uint8 \(90, 140, 1\)"),
    "floats": (PHOTO / 255, r"float64 \(90, 140, 3\)"),
    "16 bits": (PHOTO.astype(np.uint16), r"uint16 \(90, 140, 3\)"),
    "channels first": (PHOTO.transpose(2, 0, 1), r"uint8 \(3, 90, 140\), with the channels first"),
    "a batch": (PHOTO[None], r"uint8 \(1, 90, 140, 3\), a batch of several photos"),
    "empty": (PHOTO[:0], r"uint8 \(0, 140, 3\), without any pixels"),
    "a PIL image": (Image.fromarray(PHOTO), r"of type Image; .*: np\.asarray\(image\.convert\('RGB'\)\)"),
    "None": (None, r"None; .* OpenCV gives None for a file that it cannot read"),
    "a list": ([[1]], "of type list"),
    "bytes": (b"GIF", "of type bytes"),
}


@pytest.mark.parametrize(("photo", "told"), FORMS.values(), ids=FORMS)
def test_what_is_no_photo_is_told_with_the_form_that_it_should_have(photo, told):
    for take in (fake_segmenter().open, fake_segmenter().predict):
        with pytest.raises(DataError, match=rf"^The photo is {told}") as error:
            take(photo)
        assert "give it as RGB uint8 (H, W, 3)" in str(error.value)


def test_photos_are_taken_by_their_paths_as_texts_too_and_from_any_view(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    segmenter = fake_segmenter()
    for given in (tmp_path / "photo.png", str(tmp_path / "photo.png"), PHOTO[::-1][::-1], PHOTO[:, ::-1][:, ::-1]):
        assert np.array_equal(segmenter.open(given).image, PHOTO)
    for missing in ("nowhere.jpg", str(tmp_path), ""):
        with pytest.raises(DataError, match="does not exist or is not a file"):
            segmenter.predict(missing)


def test_a_mask_can_be_had_at_another_size():
    opened = fake_segmenter().open(PHOTO)
    small = opened.mask_at(45, 70)
    assert small.shape == (45, 70)
    assert abs(small.mean() - opened.mask.mean()) < 0.05
    assert opened.share == opened.mask.mean()
    assert opened.label in ("cat", "dog") and 0 <= opened.confidence <= 1


@pytest.mark.parametrize("pet", (1, 2))
def test_the_label_is_that_of_what_is_selected_however_small(pet):
    opened = fake_segmenter().open(PHOTO)
    selected, opened._classes = np.full((SIZE, SIZE), 0.4, np.float32), np.zeros((3, SIZE, SIZE), np.float32)
    opened._classes[:] = np.array([0.9, 0.02, 0.01])[:, None, None]
    opened._classes[pet, 0] = 0.5  # in the padding, which is no part of the photo
    opened._steps = [(selected, 1.0)]
    assert opened.label == "cat"  # nothing is selected: what the photo more likely shows
    part = slice(opened._box.window[0].start + 2, opened._box.window[0].start + 5), slice(4, 7)
    selected[part], opened._classes[:, *part] = 0.9, np.array([0.5, 0.1, 0.1])[:, None, None]
    opened._classes[pet, *part] = 0.3
    assert opened.label == CLASSES[pet]
    opened.prompts.append(Click(2, 2))
    assert opened.label == CLASSES[pet]  # looks like background, but a pet was asked for
    opened._steps = [(selected, -1.0)]
    assert opened.label == "background"  # which was asked for


def test_points_outside_the_photo_and_models_without_prompts_are_refused(segmenters):
    opened = segmenters["point"].open(PHOTO)
    for wrong in ((140, 5), (5, -1), (5, 90)):
        with pytest.raises(PetsegError, match="lies outside the photo of 140 x 90 pixels"):
            opened.click(*wrong)
    assert opened.prompts == []
    with pytest.raises(PetsegError, match="takes no clicks: use the model point"):
        segmenters["decoder"].open(PHOTO).click(5, 5)


def test_an_open_photo_of_a_model_without_prompts_shows_what_it_predicts(segmenters):
    opened = segmenters["decoder"].open(PHOTO)
    predicted = segmenters["decoder"].predict(PHOTO)
    assert predicted.shape == (90, 140) and predicted.dtype == np.uint8
    classes = segmenters["decoder"].probabilities([PHOTO])[0]
    inner = opened._steps[0][0] > 0.5  # compared at the model's size: at the photo's, one is enlarged before, one after
    assert np.array_equal(inner, classes.argmax(0) > 0)


def test_the_summary_says_what_is_selected_and_nothing_where_nothing_is():
    opened = fake_segmenter().open(PHOTO)
    selected, opened._classes = np.full((SIZE, SIZE), 0.9, np.float32), np.zeros((3, SIZE, SIZE), np.float32)
    opened._classes[1] = 1
    opened._steps = [(selected, 1.0)]
    assert opened.summary == "Proposed: cat, 100.0% of the photo, with confidence 90%."
    opened.prompts.append(Click(2, 2))
    assert opened.summary.startswith("Selected: cat, ")
    opened._steps = [(1 - selected, 1.0)]
    assert opened.summary == ""


def test_only_the_model_whose_recipe_says_so_takes_prompts(segmenters):
    assert segmenters["point"].takes_prompts and not segmenters["decoder"].takes_prompts


def test_open_photos_do_not_share_anything():
    first, second = (fake_segmenter().open(PHOTO) for _ in range(2))
    before = second.mask
    first.click(70, 45)
    assert second.prompts == [] and np.array_equal(second.mask, before)


def test_training_and_an_open_photo_show_the_model_the_same_prompts(segmenters):
    segmenter, seen = segmenters["point"], []
    segmenter.model.network.head.register_forward_pre_hook(lambda module, given: seen.append(given[2].clone()))
    opened = segmenter.open(np.zeros((100, 200, 3), np.uint8))
    opened.click(100, 50)
    proposed = opened._steps[0][0]
    x, y = (100 + 0.5) * 64 / 200 - 0.5, (50 + 0.5) * 32 / 100 - 0.5 + 16
    assert np.array_equal(seen[0][0].numpy(), draw_prompts([Click(x, y)], 64, proposed))


def test_a_photo_of_any_size_gets_a_mask_of_its_size(segmenters):
    photo = np.random.default_rng(0).integers(0, 255, (37, 201, 3), np.uint8)
    mask = segmenters["decoder"].predict(photo)
    assert mask.shape == (37, 201) and mask.dtype == np.uint8 and mask.max() <= 2


def test_segmenter_agrees_with_the_evaluation(segmenters, splits):
    test = splits["test"]
    expected = predict(segmenters["decoder"].model.network, test).classes[0]
    inside = test.labels[0] != PADDING
    probabilities = segmenters["decoder"].probabilities([np.array(test.images[0])])[0]
    assert (probabilities.argmax(0) == expected)[inside].all()


def test_parts_in_which_the_model_is_nowhere_sure_are_neither_predicted_nor_proposed(segmenters, splits, monkeypatch):
    """Whoever asks for a mask, by whichever way, gets the same; see `selection.unsure_parts`."""
    test, image = splits["test"], np.array(splits["test"].images[0])
    inside = test.labels[0] != PADDING
    for name in ("decoder", "point"):
        segmenter = segmenters[name]
        before = segmenter.probabilities([image])[0]
        unsure = unsure_parts(1 - before[0], 0.9)  # hardly trained, it is nowhere so sure
        assert (unsure == (before[0] < 0.5)).all() and unsure.any()
        monkeypatch.setattr(segmenter.model.network, "peak", 0.9)
        monkeypatch.setitem(segmenter.card, "peak", 0.9)
        after = segmenter.probabilities([image])[0]
        np.testing.assert_allclose(after.sum(0), 1, atol=1e-5)
        assert (after[0][unsure] > 0.5).all() and np.array_equal(after[:, ~unsure], before[:, ~unsure])
        assert (predict(segmenter.model.network, test).classes[0] == after.argmax(0))[inside].all()
        assert not segmenter.open(image).mask.any()
        assert not (segmenter.predict(image) > 0).any()


def test_an_animal_that_was_named_as_a_whole_has_no_rim_of_the_other_species():
    rows, columns = np.indices((SIZE, SIZE))
    pet = 1 / (1 + np.exp((np.hypot(rows - SIZE / 2, columns - SIZE / 2) - SIZE / 4) / 1.5))
    dog = np.where(columns > SIZE / 2 + 6, 0.8, 0.01)
    classes = np.stack([1 - pet, pet * (1 - dog), pet * dog]).astype(np.float32)
    photo = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    box = Letterbox(*photo.shape[:2], SIZE)
    for peak, values in ((0.0, {0, 1, 2}), (0.9, {0, 1})):
        chances = settled(classes, peak)
        assert set(np.unique(class_mask(chances, box))) == values
        assert set(np.unique(_likeliest(chances, box, photo, False)[0])) == values


# What prompts may change, whatever the head's weights are: untrained, random and extreme ones.

HEADS = pytest.mark.parametrize("spread", (0, 0.1, 0.4))  # of more the head, twelve layers deep, is not finite
SIZES = pytest.mark.parametrize("size", ((90, 140), (600, 400), (37, 301), (300, 20), (48, 48)), ids=str)
BODY, TAIL = (0.4, 0.5, 0.25, 0.3), (0.8, 0.5, 0.1, 0.15)  # ellipses, see `paint`


def painted(height: int, width: int, spread: float = 0, seed: int = 0, target: str = "pet") -> OpenPhoto:
    """A photo of a cat whose tail is not proposed."""
    return fake_segmenter(spread, seed).open(paint(height, width, (CAT, *BODY), (MISSED, *TAIL)), target)


def pixel(opened: OpenPhoto, x: float, y: float) -> tuple[int, int]:
    """Row and column of the photo's pixel that a point lies in."""
    height, width = opened.image.shape[:2]
    return int(np.clip(round(y), 0, height - 1)), int(np.clip(round(x), 0, width - 1))


def somewhere(opened: OpenPhoto, rng: np.random.Generator) -> tuple[float, float]:
    height, width = opened.image.shape[:2]
    return rng.uniform(-0.5, width - 0.5), rng.uniform(-0.5, height - 0.5)


@HEADS
@pytest.mark.parametrize("number", range(4))
def test_a_click_on_what_was_missed_adds_to_the_selection_and_never_turns_it_around(spread, number):
    picture, pet = draw_pet(BREEDS[5 * number], number)
    # The model sees two thirds of the pet only, from the left or from above.
    order = np.cumsum(pet.sum(0)) if number % 2 else np.cumsum(pet.sum(1))[:, None]
    seen = pet & (order < 2 * pet.sum() / 3)
    proposed = Letterbox(*pet.shape, SIZE).label(seen.astype(np.uint8)) == 1
    opened = fake_segmenter(spread, number, proposed).open(picture)
    before = opened.mask
    assert (before & seen).sum() / (before | seen).sum() > 0.7 and opened.summary.startswith("Proposed: cat, ")
    click = deepest_click(pet & ~before)[1]
    after = opened.click(click.x, click.y)
    assert not before[click.y, click.x] and after[click.y, click.x]
    assert not (before & ~after).any()
    assert opened.label == "cat" and opened.summary.startswith("Selected: cat, ")


@HEADS
@SIZES
def test_clicks_and_scribbles_only_add_or_only_take_away_and_hold_their_pixels(spread, size):
    for seed in range(2):
        rng, opened = np.random.default_rng(seed), painted(*size, spread, seed)
        before = opened.mask
        for positive in rng.permutation([True, True, True, False, False, False]):
            points = [somewhere(opened, rng) for _ in range(rng.integers(1, 4))]
            after = opened.scribble(points, positive) if len(points) > 1 else opened.click(*points[0], positive)
            assert all(after[pixel(opened, *point)] == positive for point in points)
            assert not (before & ~after if positive else after & ~before).any()
            assert opened.label == "cat" and "background" not in opened.summary
            before = after


@HEADS
@SIZES
def test_a_box_leaves_nothing_selected_far_outside_it(spread, size):
    rows, columns = np.indices(size)
    for seed in range(4):
        rng, opened = np.random.default_rng(seed), painted(*size, spread, seed)
        opened.click(*somewhere(opened, rng))
        (x0, y0), (x1, y1) = (somewhere(opened, rng) for _ in range(2))
        margin = 0.03 * max(abs(x1 - x0), abs(y1 - y0)) + 1e-9
        inside = (columns >= min(x0, x1) - margin) & (columns <= max(x0, x1) + margin)
        inside &= (rows >= min(y0, y1) - margin) & (rows <= max(y0, y1) + margin)
        assert not (opened.box(x0, y0, x1, y1) & ~inside).any()
        x, y = somewhere(opened, rng)
        assert (
            not (opened.click(x, y) & ~inside).any() and opened.mask[pixel(opened, x, y)] == inside[pixel(opened, x, y)]
        )
        assert (opened.label, opened.confidence >= 0.5) == ("cat", opened.share > 0)


@HEADS
@pytest.mark.parametrize("target", ("pet", "clicked"))
def test_undo_and_clear_give_back_exactly_what_was_before(spread, target):
    rng, opened = np.random.default_rng(0), painted(90, 140, spread, target=target)
    prompts = [
        Click(5, 5),
        Click(60, 45, False),
        Box(10, 20, 120, 80),
        Click(50, 40),
        Scribble(((9, 9), (40, 30)), False),
    ]
    for order in (prompts, rng.permutation(np.array(prompts, object)).tolist()):
        steps = [(opened.mask, opened.summary)]
        for prompt in order:
            opened.add(prompt)
            steps.append((opened.mask, opened.summary))
        for mask, summary in steps[-2::-1]:
            assert np.array_equal(opened.undo(), mask) and opened.summary == summary
        for prompt in order:
            opened.add(prompt)
        assert np.array_equal(opened.mask, steps[-1][0]) and opened.summary == steps[-1][1]
        assert np.array_equal(opened.clear(), steps[0][0]) and opened.summary == steps[0][1]


@pytest.mark.parametrize("number", range(4))
def test_a_negative_click_near_the_outline_leaves_what_lies_farther_in(number):
    photo = fake_segmenter(0.4, number).open(cat_and_dog())
    before = photo.mask
    x, y = (ON_CAT[0] - 0.17) * 400, ON_CAT[1] * 300  # less than one of the model's pixels within the outline
    after = photo.click(x, y, positive=False)
    rows, columns = np.nonzero(before & ~after)
    assert not after[round(y), round(x)] and np.hypot(rows - y, columns - x).max() < 75  # of 144 that the cat is wide


def everything():
    """A segmenter whose head takes all away with a negative click, and selects all with a positive one or a box."""
    segmenter = fake_segmenter()

    def select(seen, prompts, latest, side):
        return np.where((prompts[:, 1] > 0.75) | (latest[:, None, None] < 0), np.float32(-6), np.float32(6))

    segmenter.model.select = select
    return segmenter


def test_a_negative_click_in_a_strip_beside_a_boxs_edge_reaches_as_far_as_the_strip_is_wide():
    photo = everything().open(cat_and_dog())
    photo.box(0, 0, 399, 130)  # the cat goes on below it
    assert photo.mask[60, 300]
    photo.click(300, 122, positive=False)
    assert not photo.mask[122, 300] and photo.mask[60, 300] and photo.mask[122, 200]


def test_what_a_model_selects_in_the_padding_does_not_make_a_click_reach_farther():
    photo = fake_segmenter().open(cat_and_dog()[:150])  # wide: padding above and below
    photo.segmenter.model.select = everything().model.select
    photo._steps = [(np.ones((SIZE, SIZE), np.float32), 1.0)]
    photo.click(200, 10, positive=False)
    assert not photo.mask[10, 200] and photo.mask[10, 320] and photo.mask[140, 200]


@pytest.mark.parametrize("chance", [0.9, SURE], ids=["unsure", "sure"])
def test_small_parts_beyond_a_negative_clicks_reach_go_too_unless_the_model_is_sure_of_them(chance):
    photo, selected = everything().open(cat_and_dog()), np.zeros((SIZE, SIZE), np.float32)
    middle = SIZE // 2
    selected[middle - 7 : middle + 8, 4 : SIZE - 4] = 0.9
    selected[middle, 5] = chance
    photo._steps = [(selected, 1.0)]
    left, right = (photo.height // 2, 60), (photo.height // 2, photo.width - 60)
    assert photo.mask[left] and photo.mask[right]
    photo.click(photo.width / 2, photo.height / 2, positive=False)
    assert not photo.mask[right] and photo.mask[left] == (chance == SURE)
    photo.undo()
    assert photo.mask[right]


def test_a_box_after_clicks_is_a_limit_and_no_more():
    photo = everything().open(cat_and_dog())
    photo.click(120, 120, positive=False)
    before = photo.mask
    after = photo.box(0, 0, 250, 250)
    inside = np.zeros_like(before)
    inside[:259, :259] = True
    assert (after == before & inside).all() and before.any()


def test_the_background_that_is_wanted_leaves_out_what_was_said_not_to_be():
    photo = fake_segmenter().open(cat_and_dog(), target="clicked")
    x, y = ON_GROUND[0] * 400, ON_GROUND[1] * 300
    photo.click(x, y, positive=False)
    mask = photo.click(350, 20)
    assert photo.label == "background" and mask[20, 350] and not mask[round(y), round(x)]


def test_two_negative_clicks_take_away_what_each_reaches():
    photo = everything().open(cat_and_dog())
    photo.click(ON_CAT[0] * 400, ON_CAT[1] * 300, positive=False)
    assert photo.mask[round(ON_DOG[1] * 300), round(ON_DOG[0] * 400)]
    photo.click(ON_DOG[0] * 400, ON_DOG[1] * 300, positive=False)
    assert not photo.mask.any()


def test_the_label_is_that_of_the_pet_in_the_box():
    opened = fake_segmenter().open(paint(90, 140, (CAT, 0.3, 0.5, 0.25, 0.4), (DOG, 0.8, 0.5, 0.1, 0.2)))
    assert opened.label == "cat"
    opened.box(90, 20, 135, 70)
    assert opened.label == "dog" and opened.summary.startswith("Selected: dog, ")


# The other target: what is clicked.


@HEADS
def test_the_background_is_selected_where_that_was_asked_for_and_undo_takes_it_back(spread):
    opened = painted(90, 140, spread, target="clicked")
    proposal = opened.mask
    assert opened.label == "cat" and opened.summary.startswith("Proposed: cat, ")
    selected = opened.click(10, 80)
    assert opened.label == "background" and opened.summary.startswith("Selected: background, ")
    assert selected[80, 10] and not (~selected & ~proposal & (opened.image == GROUND).all(2)).any()
    opened.click(56, 45, positive=False)
    assert opened.label == "background" and not opened.mask[45, 56]
    opened.undo()
    assert np.array_equal(opened.mask, selected)
    assert np.array_equal(opened.undo(), proposal) and opened.label == "cat"
    opened.click(56, 45)
    assert opened.label == "cat" and opened.mask[45, 56]


@pytest.mark.parametrize("spread", (0, 0.1))
def test_one_of_three_pets_is_selected_by_a_click_on_it(spread):
    places = (0.17, 0.3, 0.12, 0.2), (0.5, 0.7, 0.12, 0.25), (0.83, 0.3, 0.12, 0.2)
    photo = paint(120, 200, *((colour, *place) for colour, place in zip((CAT, DOG, CAT), places, strict=True)))
    segmenter = fake_segmenter(spread)
    pets = [ellipse(120, 200, *place) for place in places]
    everything = segmenter.open(photo).mask
    for number, (label, (x, y, *_)) in enumerate(zip(("cat", "dog", "cat"), places, strict=True)):
        opened = segmenter.open(photo, target="clicked")
        assert np.array_equal(opened.mask, everything)  # all pets are proposed
        selected = opened.click(200 * x, 120 * y)
        shares = [(selected & pet).sum() / pet.sum() for pet in pets]
        assert shares[number] > 0.9 and sum(shares) < shares[number] + 0.01 and opened.label == label
        assert not (everything & ~segmenter.open(photo).click(200 * x, 120 * y)).any()  # with the usual target all stay
        x, y = 200 * places[number - 1][0], 120 * places[number - 1][1]
        both = opened.click(x, y)  # a further click adds
        assert not (selected & ~both).any() and both[pixel(opened, x, y)]


def test_a_box_or_a_negative_click_before_the_first_positive_one_chooses_nothing():
    photo = paint(90, 140, (CAT, 0.25, 0.5, 0.15, 0.3), (CAT, 0.75, 0.5, 0.15, 0.3))
    opened = fake_segmenter().open(photo, target="clicked")
    proposal = opened.mask
    assert np.array_equal(opened.box(1, 1, 138, 88), proposal)
    less = opened.click(30, 30, positive=False)
    assert opened.label == "cat" and not (less & ~proposal).any() and less[45, 35] and less[45, 105]
    only = opened.click(35, 60)
    assert only[60, 35] and not only[:, 70:].any() and not only[30, 30]
    opened.undo()
    opened.click(70, 5)
    assert opened.label == "background" and not opened.mask[30, 30] and not opened.mask[45, 35]


def test_a_target_of_another_name_is_refused():
    with pytest.raises(PetsegError, match="Unknown target 'anything': use one of pet, clicked"):
        fake_segmenter().open(PHOTO, target="anything")


def test_fifty_prompts_can_be_taken_back_and_what_is_kept_is_small():
    opened = fake_segmenter(spread=0.3).open(PHOTO)
    proposed, masks, rng = opened.mask, [], np.random.default_rng(0)
    for _ in range(UNDONE + 10):
        masks.append(opened.click(*somewhere(opened, rng), bool(rng.random() < 0.6)))
    kept = {id(step): step for step, _ in opened._steps[1:]}.values()
    assert sum(step.nbytes for step in kept) == (UNDONE + 1) * 4 * SIZE**2  # in single precision
    for mask in masks[-2 : -UNDONE - 2 : -1]:
        np.testing.assert_array_equal(opened.undo(), mask)
    with pytest.raises(PetsegError, match="Only the last 50 clicks can be undone one by one; clear undoes all of them"):
        opened.undo()
    assert len(opened.prompts) == 10
    np.testing.assert_array_equal(opened.clear(), proposed)
    assert not opened.prompts and len(opened._steps) == 1
    opened.undo()  # nothing left: nothing happens


def test_a_photo_can_be_worked_on_without_the_photo():
    segmenter = fake_segmenter(spread=0.3)
    whole, bare = segmenter.open(PHOTO), OpenPhoto(segmenter, segmenter.reduced(PHOTO))
    for opened in (whole, bare):
        opened.add(Click(20, 30)).add(Box(5, 5, 90, 80)).add(Click(60, 40, False))
    np.testing.assert_array_equal(bare.mask, whole.mask)
    np.testing.assert_array_equal(bare.selection.alpha(PHOTO), whole.alpha())
    assert bare.summary == whole.summary and bare.label == whole.label
