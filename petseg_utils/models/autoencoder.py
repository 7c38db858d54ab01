"""Model 2: a U-Net whose encoder first learned to reconstruct pictures, without labels."""

import torch
from torch import Tensor, nn

from petseg_utils.models.unet import PIXEL_MEAN, PIXEL_STD, UNet, UNetDecoder, UNetEncoder, conv_block

CODE = 32  # channels of the bottleneck, from which the picture has to be reconstructed


class Autoencoder(nn.Module):
    """The U-Net's encoder, a narrow bottleneck, and a decoder that reconstructs the picture from it.

    Parameters
    ----------
    width : int
        Channels of the encoder's first stage.
    skips : bool
        Give the decoder the encoder's fine maps too, as a U-Net does.  Then the picture need not pass through the
        bottleneck at all; the option exists to show what that costs.

    References
    ----------
    Hinton, Salakhutdinov: "Reducing the Dimensionality of Data with Neural Networks", Science 313, 2006.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int = 64, *, skips: bool = False):
        super().__init__()
        self.encoder = UNetEncoder(width)
        channels = self.encoder.channels
        self.bottleneck = nn.Sequential(nn.Conv2d(channels[-1], CODE, 1), nn.Conv2d(CODE, channels[-1], 1))
        self.skips = skips
        self.decoder = UNetDecoder(channels) if skips else Painter(channels)
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct a batch.

        Parameters
        ----------
        images : Tensor
            ``(N, 3, H, W)``, RGB pixel values 0..255; height and width in multiples of the deepest stride.

        Returns
        -------
        Tensor
            ``(N, 3, H, W)``, float pixel values, not clipped.
        """
        *fine, deep = self.encoder((images - self.mean) / self.std)
        squeeze, widen = self.bottleneck
        code = squeeze(deep)
        deep = widen(code)
        return self.decoder([*fine, deep] if self.skips else deep) * self.std + self.mean


class Painter(nn.Sequential):
    """A decoder without skip connections: doubles the size and halves the channels up to the picture's size.

    Parameters
    ----------
    channels : list of int
        Channels of the encoder's feature maps, finest first.
    """

    def __init__(self, channels: list[int]):
        layers = []
        for fine, deep in zip(channels[-2::-1], channels[:0:-1], strict=True):
            layers += [nn.ConvTranspose2d(deep, fine, kernel_size=2, stride=2), conv_block(fine, fine)]
        super().__init__(*layers, nn.Conv2d(channels[0], 3, kernel_size=1))


class PretrainedUNet(UNet):
    """A U-Net whose encoder weights come from an autoencoder.

    Parameters
    ----------
    width : int
        Channels of the first stage, the same as the autoencoder's.
    frozen : bool
        Keep the encoder as the autoencoder trained it, and train the decoder alone.
    """

    def __init__(self, width: int = 64, *, frozen: bool = True):
        super().__init__(width)
        self.frozen = frozen
        self.encoder.requires_grad_(not frozen)

    def train(self, mode: bool = True) -> "PretrainedUNet":
        """Do as `torch.nn.Module.train` does, but keep the statistics of a frozen encoder's batch norms."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self
