"""The simulated user says what is true of the picture, and the head alone learns from it."""

from collections import Counter
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from petseg_utils.data.labels import BORDER, PADDING
from petseg_utils.data.tensors import IGNORED
from petseg_utils.models.click_head import PointSegmenter
from petseg_utils.models.decoder import Decoder
from petseg_utils.models.encoders import LITE, load_encoder
from petseg_utils.models.prompts import REACH, Box, Click, Scribble
from petseg_utils.models.selection import LARGEST
from petseg_utils.training import simulated_user
from petseg_utils.training.simulated_user import (
    BACKGROUND,
    FRAME,
    RIM_WIDTHS,
    ROUNDS,
    prompted_loss,
    rim_wrong,
    selection_loss,
    side_missed,
    some_parts,
    speak,
    spoiled,
)

SIZE = 64


def make_model(width=16, spec=LITE):
    torch.manual_seed(0)
    encoder = load_encoder(spec, SIZE)
    return PointSegmenter(encoder, Decoder(encoder.channels, encoder.strides, width=width)).eval()


def batch_of(pictures, model=None, scale=1):
    images = torch.from_numpy(np.array(pictures.images)).permute(0, 3, 1, 2)
    if scale == 2:
        images = images.repeat_interleave(2, -1).repeat_interleave(2, -2)
    batch = {"image": images, "label": torch.from_numpy(np.array(pictures.labels))}
    return batch | ({"maps": model.encoder(images)} if model else {})


def blob(rng, size=SIZE):
    """An ellipse anywhere."""
    rows, columns = np.mgrid[:size, :size]
    (y, x), (high, wide) = rng.uniform(15, 49, 2), rng.uniform(6, 20, 2)
    return ((rows - y) / high) ** 2 + ((columns - x) / wide) ** 2 < 1


def points_of(prompt):
    if isinstance(prompt, Click):
        return [(prompt.x, prompt.y)]
    return list(prompt.points) if isinstance(prompt, Scribble) else []


# What is said


def scene(seed):
    """What is wanted and selected, two ellipses that overlap in part, where it is judged, and a generator."""
    rng = np.random.default_rng(seed)
    wanted, selected = blob(rng), blob(rng)
    counted = np.ones((SIZE, SIZE), bool)
    counted[:5] = False
    counted[:, 30:33] = False
    return wanted & counted, selected, counted, rng


def test_corrections_lie_where_the_selection_is_wrong_and_say_how():
    kinds = Counter()
    for seed in range(300):
        wanted, selected, counted, rng = scene(seed)
        said = [Click(1, 1)]  # what was said before, so this is a correction
        if not speak(said, wanted, selected, counted, rng):
            assert not ((wanted != selected) & counted).any() and len(said) == 1
            continue
        assert len(said) == 2 and said[0] == Click(1, 1)
        prompt = said[-1]
        assert points_of(prompt) and not isinstance(prompt, Box)
        for x, y in points_of(prompt):
            place = round(y), round(x)
            assert counted[place] and wanted[place] == prompt.positive and selected[place] != prompt.positive
        kinds[type(prompt).__name__, prompt.positive] += 1
    assert all(kinds[name, positive] > 3 for name in ("Click", "Scribble") for positive in (True, False))


def test_the_first_prompt_may_also_fall_anywhere_on_what_is_wanted_or_be_a_box():
    kinds = Counter()
    for seed in range(400):
        wanted, selected, counted, rng = scene(seed)
        said = []
        if not speak(said, wanted, selected, counted, rng):
            continue
        (prompt,) = said
        if isinstance(prompt, Box):
            ys, xs = np.nonzero(wanted)
            slack = 0.1 * max(np.ptp(xs) + 1, np.ptp(ys) + 1) + 1e-6
            corners = zip((xs.min(), ys.min(), xs.max(), ys.max()), vars(prompt).values(), strict=True)
            assert all(abs(edge - drawn) <= slack for edge, drawn in corners)
            kinds["box"] += 1
            continue
        places = [(round(y), round(x)) for x, y in points_of(prompt)]
        assert all(counted[place] and wanted[place] == prompt.positive for place in places)
        kinds["right already" if all(selected[place] == prompt.positive for place in places) else "wrong"] += 1
        assert prompt.positive or not any(selected[place] == prompt.positive for place in places)
    assert kinds["box"] / sum(kinds.values()) == pytest.approx(FRAME, abs=0.04)
    assert kinds["right already"] > 10 and kinds["wrong"] > 100


def test_who_has_nothing_to_say_says_nothing():
    wanted, _, counted, rng = scene(3)
    for _ in range(50):
        said = [Click(1, 1)]
        assert not speak(said, wanted, wanted, counted, rng) and said == [Click(1, 1)]
        # What is wrong lies where nothing is judged.
        assert not speak(said, wanted, wanted | ~counted, counted, rng) and said == [Click(1, 1)]
    nothing = np.zeros_like(wanted)
    for seed in range(20):
        said = []
        assert not speak(said, nothing, nothing, counted, np.random.default_rng(seed)) and said == []
        assert speak(said, nothing, wanted, counted, np.random.default_rng(seed))
        assert not said[0].positive  # where nothing is wanted there is only something to take away


def test_the_user_is_the_same_by_seed():
    for seed in range(20):
        both = []
        for _ in range(2):
            said, (wanted, selected, counted, rng) = [], scene(seed)
            for _ in range(3):
                speak(said, wanted, selected, counted, rng)
            both.append(said)
        assert both[0] == both[1]


# What is spoiled


def test_proposals_are_spoiled_here_and_there_and_stay_within_limits():
    rng = np.random.default_rng(0)
    wanted = np.stack([blob(rng) for _ in range(60)] + [np.zeros((SIZE, SIZE), bool)] * 4)
    truth = torch.from_numpy(np.where(wanted, 30.0, -30.0)).float()[:, None]
    given = truth.clone()
    wrong = spoiled(given, wanted, np.random.default_rng(1))
    assert torch.equal(given, truth)  # what was given stays as it was
    assert torch.isfinite(wrong).all() and wrong.abs().max() <= LARGEST and wrong.shape == truth.shape
    changed = (wrong != truth.clamp(-LARGEST, LARGEST))[:, 0].numpy()
    share = changed.mean((1, 2))
    assert 0.2 < (share == 0).mean() < 0.6 and 0.02 < share.mean() < 0.3  # a third is left alone
    turned = ((wrong > 0) != (truth > 0))[:, 0].numpy()
    hidden, added = (turned & wanted).sum(), (turned & ~wanted).sum()
    assert hidden > 500 and added > 200
    # Sure and unsure ones: what is said wrongly is said with all degrees of sureness.
    values = wrong[:, 0].numpy()[turned]
    assert np.abs(values).min() < 1.2 and np.abs(values).max() > 4 and np.abs(values).max() <= 5


def test_what_is_spoiled_is_a_matter_of_the_generator():
    wanted = np.stack([blob(np.random.default_rng(5))] * 3)
    proposal = torch.zeros(3, 1, SIZE, SIZE)
    one, two, three = (spoiled(proposal, wanted, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, three)
    extreme = torch.full((3, 1, SIZE, SIZE), float("inf"))
    assert torch.equal(spoiled(extreme, wanted, np.random.default_rng(7)).isfinite().all(), torch.tensor(True))


# What is learned


def test_the_loss_is_finite_and_has_gradients_in_the_head_only(splits):
    model = make_model().train()
    batch = batch_of(splits["train"], model)
    before = {name: tensor.clone() for name, tensor in model.decoder.state_dict().items()}
    norms = Counter()
    for seed in range(4):
        torch.manual_seed(seed)
        model.zero_grad()
        loss = prompted_loss(model, batch)
        assert loss.ndim == 0 and torch.isfinite(loss) and loss > 0
        loss.backward()
        assert all(parameter.grad is None for parameter in model.decoder.parameters())
        for name, parameter in model.head.named_parameters():
            assert torch.isfinite(parameter.grad).all()
            norms[name] += float(parameter.grad.norm())
        with torch.no_grad():  # from zeros on, the layers before the last one learn only once that has some weight
            model.head.last.weight.normal_(std=0.1)
    assert all(norm > 0 for norm in norms.values())
    after = model.decoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)  # nor do its batch norms move


def test_dialogues_in_training_depend_on_torchs_state_alone(splits):
    model = make_model()
    batch = batch_of(splits["train"], model)
    nn.init.normal_(model.head.last.weight, std=0.3)
    losses = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        np.random.seed(len(losses))  # noqa: NPY002 (it must not matter)
        losses.append(prompted_loss(model, batch).item())
    assert losses[0] == losses[1] != losses[2]
    torch.manual_seed(3)
    del batch["maps"]  # as where pictures are varied: then the encoder looks at them
    assert prompted_loss(model, batch).item() == pytest.approx(losses[0], rel=1e-4)


def test_pictures_at_twice_the_size_and_half_precision_are_learned_from_too(splits):
    model = make_model(spec=LITE + "@64+128").train()
    batch = batch_of(splits["train"], scale=2)
    torch.manual_seed(1)
    plain = prompted_loss(model, batch)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        half = prompted_loss(model, batch)
    half.backward()
    assert torch.isfinite(plain) and half.item() == pytest.approx(plain.item(), rel=0.2)


class Listener(nn.Module):
    """A click model that notes what it is told, and answers with what it was given and one disc more."""

    def __init__(self, classes):
        super().__init__()
        self.head = nn.Module()
        self.head.last = nn.Conv2d(1, 1, 1)
        self.classes, self.heard = classes, []

    def look(self, images, maps=None):
        return torch.zeros(len(images), 4, SIZE // 4, SIZE // 4), self.classes

    def forward(self, images, seen, prompts, latest):
        self.heard.append((seen, prompts.clone(), latest.clone()))
        before = torch.logit(prompts[:, 3:4], eps=3.4e-4)
        moved = before + 4 * (prompts[:, :1] - prompts[:, 1:2])
        return moved + 0 * self.head.last.weight.sum()


@pytest.fixture
def listen(splits, monkeypatch):
    """``listen(n, row0=value)``: labels, and of `n` dialogues the loss and what was heard and said in each round."""
    spoke, speak_plainly = [], simulated_user.speak
    monkeypatch.setattr(simulated_user, "speak", lambda *given: spoke.append(speak_plainly(*given)) or spoke[-1])

    def dialogues(n=30, **changes):
        train = splits["train"]
        labels = torch.from_numpy(np.array(train.labels)).clone()
        for row, value in changes.items():
            labels[int(row.removeprefix("row"))] = value
        pet = ((labels == 1) | (labels == 2)).float()
        classes = torch.stack([-4 * pet + 2, 4 * pet - 2, torch.full_like(pet, -9)], 1)
        heard = []
        for seed in range(n):
            torch.manual_seed(seed)
            spoke.clear()
            model = Listener(classes)
            loss = prompted_loss(model, {"image": batch_of(train)["image"], "label": labels})
            each = torch.tensor(spoke).view(len(model.heard), len(labels))
            heard.append((loss, [(*told, said) for told, said in zip(model.heard, each, strict=True)]))
        return labels, heard

    return dialogues


def test_each_round_starts_from_the_answer_before_and_hears_all_that_was_said(listen):
    _, heard = listen()
    lengths = {len(rounds) for _, rounds in heard}
    assert lengths == set(range(1, ROUNDS + 1))
    for _, rounds in heard:
        for (_, before, sign, spoke), (seen, after, latest, _) in pairwise(rounds):
            assert set(latest.tolist()) <= {-1.0, 0.0, 1.0} and seen[1].shape[1] == 3
            answered = torch.sigmoid(torch.logit(before[:, 3:4], eps=3.4e-4) + 4 * (before[:, :1] - before[:, 1:2]))
            kept = torch.isclose(after[:, 3:4], answered, atol=1e-4) | (after[:, 3:4] == 0)  # outside a box
            stayed = torch.isclose(after[:, 3:4], before[:, 3:4], atol=1e-4)  # nothing was said of it
            out_of_reach = torch.isclose(after[:, 3:4], before[:, 3:4], atol=4e-4)  # logits are limited
            kept |= out_of_reach & (sign < 0).view(-1, 1, 1, 1)
            assert (after != before)[:, 3].any() and kept[spoke].all() and stayed[~spoke].all()
            assert (after[:, :3] >= before[:, :3] - 1e-6).float().mean() > 0.99  # what was said stays said


def test_in_training_too_a_negative_click_changes_nothing_out_of_its_reach(listen, monkeypatch):
    near = np.zeros((SIZE, SIZE), bool)
    near[:, : SIZE // 2] = True
    asked = []

    def half(said, selected, reach):
        assert reach.adds >= REACH.adds and reach.takes >= REACH.takes
        asked.append((list(said), selected))
        return near if said and simulated_user.latest_effect(said) < 0 else np.ones_like(near)

    monkeypatch.setattr(simulated_user, "within_reach", half)
    labels, heard = listen(row0=PADDING)
    changed = []
    for _, rounds in heard:
        for (_, before, sign, spoke), (_, after, _, _) in pairwise(rounds):
            rows = spoke & (sign < 0)
            assert torch.allclose(after[rows, 3, :, SIZE // 2 :], before[rows, 3, :, SIZE // 2 :], atol=4e-4)
            changed.append((after[rows, 3, :, : SIZE // 2] < before[rows, 3, :, : SIZE // 2] - 0.1).any())
    assert any(changed)
    assert not any(
        selected[label == PADDING].any()
        for (_, selected), label in zip(asked, labels.numpy().repeat(1, 0), strict=False)
    )


def test_the_background_is_wanted_of_some_pictures_and_always_where_there_is_no_pet(listen, monkeypatch):
    monkeypatch.setattr(simulated_user, "CUT", 0)  # a proposal that misses the pet would look turned
    labels, heard = listen(60, row0=0, row1=BORDER, row2=PADDING)
    turned = []
    for _, rounds in heard:
        (_, classes), *_ = rounds[0]
        pet = (labels == 1) | (labels == 2)
        for row in range(3, len(labels)):  # the proposal that the head is told is turned where the rest is wanted
            sides = classes[row, 1][pet[row]].mean() > classes[row, 1][labels[row] == 0].mean()
            turned.append(not bool(sides))
        rest, pet_left = ((classes[0, 1] - value).abs() < 0.01 for value in (4, -4))
        assert rest.sum() > pet_left.sum()  # where it is not spoiled, all of a picture without a pet
    assert np.mean(turned) == pytest.approx(BACKGROUND, abs=0.08)
    assert all(torch.isfinite(loss) and loss.requires_grad for loss, _ in heard)


def test_where_nobody_has_anything_to_say_the_loss_is_nothing_but_has_a_gradient(splits):
    model, batch = make_model(), batch_of(splits["train"])
    batch["label"] = torch.full_like(batch["label"], BORDER)
    loss = prompted_loss(model, batch)
    loss.backward()
    assert loss.item() == 0 and model.head.last.weight.grad.abs().max() == 0


def test_what_lies_under_the_border_carries_no_loss_and_the_dice_loss_has_its_weight():
    asked = torch.tensor([[[1, 0], [IGNORED, 1]]])
    good = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])
    other = good.clone()
    other[0, 1, 0] = 9.0
    assert selection_loss(good, asked, 1.0).item() == pytest.approx(selection_loss(other, asked, 1.0).item())
    assert selection_loss(good, asked, 1.0) < 0.01 < 1 < selection_loss(-good, asked, 1.0)
    bad, worse = (selection_loss(-good, asked, dice).item() for dice in (0.0, 1.0))
    assert 0.5 < worse - bad <= 1


def test_rows_on_which_nothing_was_said_are_not_learned_from(splits, monkeypatch):
    said = []
    monkeypatch.setattr(simulated_user, "speak", lambda *given: said.append(given) or False)
    model, batch = make_model(), batch_of(splits["train"])
    nn.init.normal_(model.head.last.weight)
    assert prompted_loss(model, batch).item() == 0 and len(said) >= len(batch["label"])


def test_of_several_pets_one_or_some_may_be_wanted():
    pets = np.zeros((60, 60), bool)
    pets[5:20, 5:20] = pets[5:20, 40:55] = pets[40:55, 20:40] = True
    pets[58, 58] = True  # a speck is nobody's wish
    sizes = set()
    for seed in range(30):
        wanted = some_parts(pets, np.random.default_rng(seed))
        parts = [bool(wanted[12, 12]), bool(wanted[12, 47]), bool(wanted[47, 30])]
        assert wanted.sum() == 225 * parts[0] + 225 * parts[1] + 300 * parts[2] and not (wanted & ~pets).any()
        sizes.add(sum(parts))
    assert sizes == {1, 2}
    alone = pets & (np.arange(60) < 25) & (np.arange(60)[:, None] < 25)
    assert some_parts(alone, np.random.default_rng(0)) is alone


def test_a_proposal_may_miss_all_that_is_wanted_on_one_side_of_a_line():
    wanted = np.zeros((64, 64), bool)
    wanted[16:48, 16:48] = True
    right = torch.where(torch.from_numpy(wanted), 6.0, -6.0)
    answers = [side_missed(right, wanted, np.random.default_rng(seed)).numpy() for seed in range(100)]
    left = np.array([(answer > 0)[wanted].mean() for answer in answers])
    assert 0.1 < (left == 0).mean() < 0.35 and 0.3 < np.median(left[left > 0]) < 0.7
    assert all((answer[~wanted] == -6).all() and set(np.sign(answer[wanted])) <= {-1, 1} for answer in answers)
    half = next(answer > 0 for answer, share in zip(answers, left, strict=True) if 0.4 < share < 0.6)
    count = cv2.connectedComponents(half.astype(np.uint8))[0]
    assert count == 2  # what is left is in one piece


def test_an_outline_may_lie_too_far_out_or_in_on_one_side():
    wanted = np.zeros((64, 64), bool)
    wanted[16:48, 16:48] = True
    right = torch.where(torch.from_numpy(wanted), 6.0, -6.0)
    grown = shrunk = 0
    for seed in range(60):
        answer = rim_wrong(right, wanted, np.random.default_rng(seed)).numpy() > 0
        wrong = answer != wanted
        assert not (wrong & wanted).any() or not (wrong & ~wanted).any()
        depth = cv2.distanceTransform(np.pad(wrong.astype(np.uint8), 1), cv2.DIST_L2, 5).max()
        assert depth <= RIM_WIDTHS[1] and wrong.mean() < 0.5
        grown, shrunk = grown + (answer & ~wanted).any(), shrunk + (wanted & ~answer).any()
    assert grown > 20 and shrunk > 10
