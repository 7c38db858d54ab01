"""The simulated user asks for the pet or for the rest, and the head learns from what it says."""

import numpy as np
import pytest
import torch

from petseg_utils.data.labels import BORDER
from petseg_utils.data.tensors import IGNORED
from petseg_utils.models.click_head import PointSegmenter
from petseg_utils.models.decoder import Decoder
from petseg_utils.models.encoders import LITE, load_encoder
from petseg_utils.training.simulated_user import made_wrong, prompted_loss, selection_loss, simulate


def half_a_pet():
    """Class logits of one picture: a cat on the left half, nothing on the right."""
    classes = torch.zeros(1, 3, 64, 64)
    classes[:, 1, :, :32], classes[:, 0, :, 32:] = 9.0, 9.0
    return classes


def make_model(width=16):
    torch.manual_seed(0)
    encoder = load_encoder(LITE, 64)
    return PointSegmenter(encoder, Decoder(encoder.channels, encoder.strides, width=width)).eval()


def test_masks_are_made_wrong_in_places_when_the_head_learns():
    torch.manual_seed(0)
    classes = half_a_pet().repeat(40, 1, 1, 1)
    wrong = made_wrong(classes)
    turned = (wrong[:, 1] > wrong[:, 0]) != (classes[:, 1] > classes[:, 0])
    share = turned.float().mean((1, 2))
    assert 0.005 < share.mean() < 0.2 and share.max() > 0.03


def test_dialogues_in_training_depend_on_torchs_state_alone_and_leave_batch_norms_alone(splits):
    model = make_model()
    train = splits["train"]
    images = torch.from_numpy(np.array(train.images)).permute(0, 3, 1, 2)
    batch = {"image": images, "label": torch.from_numpy(np.array(train.labels)), "maps": model.encoder(images)}
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen = model.look(images.float(), batch["maps"])
    simulate(model, images.float(), seen, np.array(train.labels), np.random.default_rng(0))
    assert model.training and all(torch.equal(before[name], now) for name, now in model.state_dict().items())
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
    model = make_model()
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
