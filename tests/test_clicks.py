"""Dialogues are scored as defined, by a model that this test controls, and by the real one."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from petseg_utils import checkpoints, models
from petseg_utils.clicks import (
    MOST_CLICKS,
    click_values,
    clicks_needed,
    dialogue,
    first_clicks,
    open_pictures,
    picture_iou,
    proposals,
    same_class_counts,
    summarise_clicks,
)
from petseg_utils.decoder import Decoder, FrozenSegmenter
from petseg_utils.encoders import LITE, load_encoder
from petseg_utils.evaluation import IGNORED, predict
from petseg_utils.features import load_features
from petseg_utils.metrics import BORDER, PADDING
from petseg_utils.pictures import load_splits
from petseg_utils.point_decoder import PointSegmenter, PromptHead, put_right
from petseg_utils.prompt_training import made_wrong, prompted_loss, selection_loss, simulate
from petseg_utils.prompts import Box, Click, prompt_maps
from petseg_utils.segmenter import Segmenter


@pytest.fixture
def splits(study):
    return load_splits(study, progress=False)


class Painter(nn.Module):
    """Proposes nothing, then selects a disc around each positive click, less those around negative ones."""

    def __init__(self, reach: float):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.reach = reach

    def encoder(self, images):
        return []

    def look(self, images, maps):
        return ()

    def head(self, prompts):
        near = torch.exp(torch.tensor(-(self.reach**2) / (2 * 4.0**2)))
        chosen = (prompts[:, 0] > near) & (prompts[:, 1] <= near)
        return torch.where(chosen, 9.0, -9.0)[:, None]


def test_iou_of_a_mask_leaves_out_border_and_padding():
    target = np.zeros((1, 4, 4), bool)
    target[0, :2] = True
    counted = np.ones_like(target)
    counted[0, 0] = False
    mask = np.zeros_like(target)
    mask[0, 0] = mask[0, 1, :2] = True
    assert picture_iou(target, mask, counted)[0] == pytest.approx(2 / 4)
    assert np.isnan(picture_iou(np.zeros_like(target), mask, counted))[0]


def test_clicks_needed_counts_failures_as_twenty():
    iou = np.tile(np.linspace(0.5, 0.88, MOST_CLICKS)[:, None], (1, 3))
    iou[:, 1] = 0.95
    iou[:, 2] = np.nan
    assert clicks_needed(iou, 0.9).tolist()[:2] == [20, 1]
    assert clicks_needed(iou, 0.85)[0] == np.argmax(iou[:, 0] >= 0.85) + 1
    assert np.isnan(clicks_needed(iou, 0.9)[2])


def test_corrections_follow_the_model_and_make_its_mask_better(splits):
    opened = next(open_pictures(Painter(6), splits["test"]))
    first = first_clicks(opened, 0)
    values = dialogue(Painter(6), opened, first, proposals(Painter(6), opened), 12)
    assert (np.diff(values, axis=0) > 0).mean() > 0.6
    assert values[-1].mean() > values[0].mean() + 0.2
    rows = zip(first, opened.pets, strict=True)
    assert all(len(said) == 1 and pet[said[0].y, said[0].x] for said, pet in rows)  # and firsts stay as they were


def test_values_and_their_summary_agree_with_a_plain_computation(splits):
    test = splits["test"]
    values = click_values(Painter(8), test)
    found = summarise_clicks(values, 50)
    assert values["proposed"].max() == 0
    assert len({tuple(one) for one in values["iou"][:, 0].round(6)}) == 5  # each with a first click of its own
    assert found["iou@3"] == pytest.approx(values["iou"][:, 2].mean())
    assert found["iou@1"] <= found["iou@3"] <= found["iou@5"]
    assert 1 <= found["noc@85"] <= found["noc@90"] <= 20
    rest, target = (values["same_class"].sum(0)[k, k] for k in (0, 1))
    table = values["same_class"].sum(0)
    iou = [rest / (table[0].sum() + table[1, 0]), target / (table[1].sum() + table[0, 1])]
    assert found["same_class_click"]["miou"] == pytest.approx(np.mean(iou))
    assert found["same_class_click"]["dice"] == pytest.approx(np.mean([2 * one / (1 + one) for one in iou]))
    counted = (test.labels < PADDING).sum((1, 2))
    assert np.array_equal(values["same_class"].sum((1, 2)), 5 * counted)
    assert all(low <= found[name] <= high for name, (low, high) in found["ci95"].items() if name in found)


def test_a_click_beside_the_pet_asks_for_everything_but_the_pet(splits):
    opened = next(open_pictures(Painter(8), splits["test"]))
    asked_for_pet = set()
    for number in range(6):
        counts = same_class_counts(Painter(8), opened, proposals(Painter(8), opened), number)
        for pet, known, count in zip(opened.pets, opened.counted, counts, strict=True):
            sizes = (known & pet).sum(), (known & ~pet).sum()
            target, right = count[1].sum(), count[1, 1]
            assert target in sizes
            asked_for_pet.add(bool(target == sizes[0]))
            assert right > count[0, 1]  # what lies around a click is mostly of its own class, whichever that is
    assert asked_for_pet == {True, False}


def test_a_picture_without_a_pet_breaks_nothing_and_is_left_out(splits):
    test = splits["test"].subset(splits["test"].table["name"].tolist())
    labels = test.labels.copy()
    labels[0] = np.where(labels[0] == PADDING, PADDING, 0)
    test = type(test)(test.table, test.images, labels)
    values = click_values(Painter(8), test)
    assert np.isnan(values["iou"][:, :, 0]).all() and np.isnan(values["centre"][:, 0]).all()
    assert not np.isnan(values["iou"][:, :, 1:]).any()
    assert np.isfinite(summarise_clicks(values, 10)["iou@1"])


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
    assert np.array_equal(predict(plain, test).classes, predict(prompted, test).classes)
    images = torch.from_numpy(np.array(test.images)).permute(0, 3, 1, 2).float()
    background, cat, dog, asked = prompted(images, None, torch.zeros(len(test), 4, 64, 64)).unbind(1)
    pet = torch.logaddexp(cat, dog) - background
    assert torch.equal(asked > 0, pet > 0)


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


def half_a_pet():
    """Class logits of one picture: a cat on the left half, nothing on the right."""
    classes = torch.zeros(1, 3, 64, 64)
    classes[:, 1, :, :32], classes[:, 0, :, 32:] = 9.0, 9.0
    return classes


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
    found = PromptHead().asked_side(looks_of(classes), pet, prompt_maps([said], classes))
    assert found.item() * side > 0.5


def looks_of(classes):
    """Cells that look one way where the pet is, and another where it is not."""
    return 3 * F.avg_pool2d(classes[:, :1].sign(), 4).repeat(1, 4, 1, 1)


@pytest.mark.parametrize(("there", "x"), [(9.0, 10), (0.0, 50)])
def test_a_click_on_a_small_mistake_asks_for_what_is_all_around_it(there, x):
    """A few pixels of the pet that are taken for background, and the other way round."""
    classes = half_a_pet()
    looks = looks_of(classes)
    classes[:, 0, 28:32, x - 2 : x + 2], classes[:, 1, 28:32, x - 2 : x + 2] = there, 9.0 - there
    pet = classes[:, 1:].logsumexp(1, keepdim=True) - classes[:, :1]
    assert (pet[0, 0, 30, x] < 0) == (there > 0)
    found = PromptHead().asked_side(looks, pet, prompt_maps([[Click(x, 30)]], classes))
    assert found.item() * (1 if there else -1) > 0.5


def test_a_box_keeps_the_pet_within_it():
    classes, cells = half_a_pet(), torch.zeros(1, 4, 16, 16)
    logits = PromptHead()(cells, classes, prompt_maps([[Box(4, 4, 28, 28)]], classes))[0, 0]
    assert (logits[8:24, 8:24] > 0).all()
    assert (logits[45:, :32] < 0).all() and (logits[:, 45:] < 0).all()


def test_masks_are_made_wrong_in_places_when_the_head_learns():
    torch.manual_seed(0)
    classes = half_a_pet().repeat(40, 1, 1, 1)
    wrong = made_wrong(classes)
    turned = (wrong[:, 1] > wrong[:, 0]) != (classes[:, 1] > classes[:, 0])
    share = turned.float().mean((1, 2))
    assert 0.005 < share.mean() < 0.2 and share.max() > 0.03


def test_clicks_of_two_minds_are_each_heard_where_they_fall():
    places = [(1, 1, 1), (10, 1, -1), (5, 9, 1)]
    cells, prompts = clicked_cells(*places)
    mask = torch.zeros(1, 1, 12, 12)
    after = mask + put_right(cells, mask, prompts)
    assert all(sign * after[0, 0, row, column] > 1 for row, column, sign in places)


def test_a_picture_is_answered_the_same_alone_and_beside_one_with_more_clicks():
    (cells, one), (_, three) = clicked_cells((3, 2, 1)), clicked_cells((3, 3, -1), (8, 8, 1), (0, 5, 1))
    mask = torch.zeros(1, 1, 12, 12)
    both = put_right(cells.repeat(2, 1, 1, 1), mask.repeat(2, 1, 1, 1), torch.cat([one, three]))
    assert torch.allclose(both[:1], put_right(cells, mask, one), atol=1e-5)


def test_dialogues_in_training_depend_on_torchs_state_alone_and_leave_batch_norms_alone(study, splits):
    _, model = make_models()
    train = splits["train"]
    images = torch.from_numpy(np.array(train.images)).permute(0, 3, 1, 2)
    batch = {"image": images, "label": torch.from_numpy(np.array(train.labels)), "maps": model.encoder(images)}
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen = model.look(images.float(), batch["maps"])
    simulate(model, images.float(), seen, np.array(train.labels), np.random.default_rng(0))
    assert model.training and all(torch.equal(before[name], one) for name, one in model.state_dict().items())
    losses = []
    for seed in (3, 3, 4):
        model.load_state_dict(before)
        torch.manual_seed(seed)
        losses.append(prompted_loss(model, batch).item())
    assert losses[0] == losses[1] != losses[2]
    model.load_state_dict(before)
    torch.manual_seed(3)
    del batch["maps"]  # as where pictures are varied: then the encoder looks at them
    assert prompted_loss(model, batch).item() == pytest.approx(losses[0], rel=1e-4)


def test_what_is_wanted_shares_a_class_and_ignored_pixels_carry_no_loss():
    asked = torch.tensor([[[1, 0], [IGNORED, 1]]])
    good = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])
    other = good.clone()
    other[0, 1, 0] = 9.0
    assert selection_loss(good, asked, 1.0).item() == pytest.approx(selection_loss(other, asked, 1.0).item())
    assert selection_loss(good, asked, 1.0) < 0.01 < 1 < selection_loss(-good, asked, 1.0)


def test_wanted_is_the_pet_or_the_background_and_silence_means_the_pet(splits):
    _, model = make_models()
    train = splits["train"]
    labels, images = np.array(train.labels), torch.from_numpy(np.array(train.images)).permute(0, 3, 1, 2).float()
    kinds, seen = set(), model.look(images)
    for seed in range(12):
        wanted, prompts, previous = simulate(model, images, seen, labels, np.random.default_rng(seed))
        for row, label in enumerate(labels):
            pet = (label == 1) | (label == 2)
            is_pet, is_rest = (wanted[row] == pet).all(), (wanted[row] == ((label == 0) & ~pet)).all()
            assert is_pet or is_rest
            assert not ((label == BORDER) & wanted[row]).any()
            kinds.add((bool(is_pet), bool(prompts[row])))
            if not prompts[row]:
                assert is_pet and previous[row].max() == 0
    assert kinds == {(True, True), (True, False), (False, True)}


def test_four_pictures_are_learned_by_heart_and_a_click_says_which_part(study, splits, tmp_path):
    from dataclasses import replace

    four = splits["train"].subset(splits["train"].table["name"][:4].tolist())
    both = {"train": four, "validation": four}
    settings = replace(study.clip, width=24, epochs=60, batch_size=4, learning_rate=0.01, patience=200, dice=1.0)
    models.train("clip", study, 0, both, settings=settings, folder=tmp_path / "clip", progress=False)
    start = tmp_path / "clip" / "best.safetensors"
    model = models.train(
        "point", study, 0, both, settings=settings, folder=tmp_path / "point", start=start, progress=False
    )
    found = summarise_clicks(click_values(model, four, load_features(model.encoder, four, progress=False)), 10)
    print(found)
    assert found["iou@1"] > 0.93 and found["same_class_click"]["miou"] > 0.85


def test_training_and_an_open_photo_show_the_model_the_same_prompts(study, splits, monkeypatch):
    from petseg_utils.prompts import Click, draw_prompts

    models.trained("point", study, 0, splits, progress=False)
    segmenter = Segmenter.load(weights=checkpoints.run_folder("point", study, 0) / "best.safetensors")
    seen = []
    segmenter.model.head.register_forward_pre_hook(lambda module, given: seen.append(given[2].clone()))
    photo = np.zeros((100, 200, 3), np.uint8)
    opened = segmenter.open(photo)
    opened.click(100, 50)
    proposed = torch.from_numpy(opened._steps[0][0])
    x, y = (100 + 0.5) * 64 / 200 - 0.5, (50 + 0.5) * 32 / 100 - 0.5 + 16
    assert torch.equal(seen[1][0], torch.from_numpy(draw_prompts([Click(x, y)], 64, proposed.numpy())))
