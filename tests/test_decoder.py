"""The decoder takes any encoder's maps, learns, and keeps its hands off the encoder."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from petseg_utils import checkpoints, models
from petseg_utils.decoder import Decoder, FrozenSegmenter, ToPixels
from petseg_utils.encoders import LITE, load_encoder
from petseg_utils.evaluation import dice_loss, predict, validation_scores
from petseg_utils.features import load_features
from petseg_utils.pictures import load_splits
from petseg_utils.unet import PIXEL_MEAN, PIXEL_STD


@pytest.mark.parametrize(
    ("channels", "strides"),
    [((24, 40, 112, 320), (4, 8, 16, 32)), ((768,) * 4, (16,) * 4), ((64,) * 4, (8,) * 4), ((1024,) * 4, (14,) * 4)],
)
@pytest.mark.parametrize("stem", [True, False])
def test_logits_have_the_pictures_size_and_the_decoder_is_small(channels, strides, stem):
    size = 224
    maps = [torch.rand(2, c, size // s, size // s) for c, s in zip(channels, strides, strict=True)]
    decoder = Decoder(channels, strides, stem=stem)
    assert decoder(maps, torch.rand(2, 3, size, size) * 255).shape == (2, 3, size, size)
    assert sum(parameter.numel() for parameter in decoder.parameters()) < 1_500_000


def test_every_map_the_stem_and_the_context_matter():
    torch.manual_seed(0)
    decoder = Decoder((8, 8, 8), (4, 8, 16), width=16).eval()
    maps = [torch.rand(1, 8, 64 // s, 64 // s) for s in (4, 8, 16)]
    images = torch.rand(1, 3, 64, 64) * 255
    plain = decoder(maps, images)
    for number in range(3):
        other = [2 * one if place == number else one for place, one in enumerate(maps)]
        assert not torch.allclose(decoder(other, images), plain)
    assert not torch.allclose(decoder(maps, 255 - images), plain)
    far = [one.clone() for one in maps]
    far[-1][..., 0, 0] += 100  # the context carries one corner of the coarsest map to the other
    assert not torch.allclose(decoder(far, images)[..., -4:, -4:], plain[..., -4:, -4:])


@pytest.fixture
def splits(study):
    return load_splits(study, progress=False)


def test_four_pictures_are_learned_by_heart_from_the_cache(study, splits, tmp_path):
    four = splits["train"].subset(splits["train"].table["name"][:4].tolist())
    settings = replace(study.clip, width=24, epochs=60, batch_size=4, learning_rate=0.01, patience=200, dice=1.0)
    both = {"train": four, "validation": four}
    model = models.train("clip", study, 0, both, settings=settings, folder=tmp_path, progress=False)
    assert validation_scores(model, four)["miou"] > 0.95


def test_a_checkpoint_holds_the_decoder_alone_and_loads_the_encoder_it_names(study, splits):
    model = models.train("clip", study, 0, splits, progress=False)
    path = checkpoints.run_folder("clip", study, 0) / "best.safetensors"
    assert path.stat().st_size < 2e6
    again, card = checkpoints.load(path)
    assert card["encoder"] == LITE
    assert np.array_equal(predict(model, splits["test"]).classes, predict(again, splits["test"]).classes)


def test_cached_features_give_the_same_predictions_as_the_encoder(splits):
    torch.manual_seed(0)
    encoder = load_encoder(LITE)
    model = FrozenSegmenter(encoder, Decoder(encoder.channels, encoder.strides, width=16))
    direct = predict(model, splits["test"])
    cached = predict(model, splits["test"], load_features(encoder, splits["test"], progress=False))
    assert (direct.classes == cached.classes).mean() > 0.995  # float16 moves a pixel that was undecided
    np.testing.assert_allclose(direct.loss, cached.loss, rtol=1e-2)


def test_dice_loss_is_zero_for_a_perfect_answer_and_leaves_absent_classes_and_ignored_pixels_out():
    targets = torch.tensor([[[0, 0, 1, -100], [0, 1, 1, -100]]])
    logits = 50.0 * torch.nn.functional.one_hot(targets.clamp(min=0), 3).movedim(-1, 1)
    assert dice_loss(logits, targets).item() == pytest.approx(0, abs=1e-6)
    wrong = logits.clone()
    wrong[..., -1] = 50.0 * torch.tensor([0.0, 0.0, 1.0])[None, :, None]  # a third class, where nobody counts
    assert dice_loss(wrong, targets).item() == pytest.approx(0, abs=1e-6)
    half = torch.zeros(1, 3, 2, 4)
    half[:, 0] = 50.0  # background everywhere: Dice of background 2*3/(3+6), of cat 0
    assert dice_loss(half, targets).item() == pytest.approx(1 - (2 * 3 / 9 + 0) / 2, abs=1e-5)


def test_each_cell_says_its_own_pixels_as_pixel_shuffle_has_them_say_it():
    cells = torch.randn(2, 48, 5, 7).to(memory_format=torch.channels_last).requires_grad_()
    same = cells.detach().clone().requires_grad_()
    pixels, expected = ToPixels()(cells), torch.nn.PixelShuffle(4)(same)
    assert torch.equal(pixels, expected) and pixels.is_contiguous()
    weights = torch.randn_like(expected)
    (pixels * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.equal(cells.grad, same.grad)


def test_the_stem_sees_pixels_less_their_mean_over_their_deviation_and_the_picture_stays_as_it_is():
    decoder, seen = Decoder((8,), (16,), width=16).eval(), []
    decoder.stem.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    images = torch.randint(0, 256, (2, 3, 32, 48)).float()
    before = images.clone()
    decoder([torch.randn(2, 8, 2, 3)], images)
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (PIXEL_MEAN, PIXEL_STD))
    assert torch.equal(seen[0], (images - mean) / std) and torch.equal(images, before)
