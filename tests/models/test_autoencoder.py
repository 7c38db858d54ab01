"""The autoencoder squeezes what it sees, and its encoder is the U-Net's."""

import torch

from petseg_utils.models.autoencoder import Autoencoder, PretrainedUNet
from petseg_utils.models.unet import UNet


def test_everything_passes_the_bottleneck_unless_there_are_skips():
    torch.manual_seed(0)
    images = torch.rand(1, 3, 64, 64) * 255
    for skips in (False, True):
        model = Autoencoder(4, skips=skips).eval()
        for parameter in model.bottleneck.parameters():
            parameter.data.zero_()  # nothing comes through any more
        plain, other = model(images), model(255 - images)
        assert plain.shape == images.shape
        assert torch.allclose(plain, other) != skips


def test_the_encoder_is_the_unets_own():
    autoencoder, unet = Autoencoder(4), PretrainedUNet(4)
    unet.encoder.load_state_dict(autoencoder.encoder.state_dict())
    assert type(autoencoder.encoder) is type(UNet(4).encoder) is type(unet.encoder)
