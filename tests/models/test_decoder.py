"""The decoder takes any encoder's maps, and uses all of them."""

import pytest
import torch

from petseg_utils.models.decoder import Decoder, FrozenSegmenter, ToPixels
from petseg_utils.models.encoders import LITE, TWICE_LITE, halved, load_encoder
from petseg_utils.models.unet import PIXEL_MEAN, PIXEL_STD


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
        other = [2 * map_ if place == number else map_ for place, map_ in enumerate(maps)]
        assert not torch.allclose(decoder(other, images), plain)
    assert not torch.allclose(decoder(maps, 255 - images), plain)
    far = [map_.clone() for map_ in maps]
    far[-1][..., 0, 0] += 100  # the context carries one corner of the coarsest map to the other
    assert not torch.allclose(decoder(far, images)[..., -4:, -4:], plain[..., -4:, -4:])


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
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    assert torch.equal(seen[0], (images - mean) / std) and torch.equal(images, before)


@pytest.mark.parametrize("spec", [LITE, TWICE_LITE, LITE + "@64+128"])
@torch.no_grad()
def test_maps_that_are_there_already_give_the_same_logits_at_the_masks_size(spec):
    torch.manual_seed(0)
    encoder = load_encoder(spec, 64)
    model = FrozenSegmenter(encoder, Decoder(encoder.channels, encoder.strides, width=16)).eval()
    assert model.scale == encoder.scale == (2 if "@" in spec else 1)
    images = torch.randint(0, 256, (2, 3, model.scale * 64, model.scale * 64)).float()
    before, maps, small = images.clone(), encoder(images), halved(images) if model.scale == 2 else images
    logits = model(images)
    assert logits.shape == (2, 3, 64, 64) and torch.equal(images, before)
    assert torch.equal(model(images, maps), logits)
    assert torch.equal(model(small, maps), logits)  # as with cached features, beside which the small pictures lie
    given, shown = model.encode(images, maps)
    assert all(ours is theirs for ours, theirs in zip(given, maps, strict=True)) and torch.equal(shown, small)
    halves, _ = model.encode(images, [held.half() for held in maps])  # as they are kept
    assert all(held.dtype == torch.float32 for held in halves)
