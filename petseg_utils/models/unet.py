"""Model 1: the classic U-Net, trained from scratch."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petseg_utils.data.labels import CLASSES

# ImageNet channel statistics on the 0..255 scale: the usual ones to bring photos to about zero mean and unit variance.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


def conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return two 3 x 3 convolutions, each followed by batch norm and ReLU; height and width stay the same."""
    layers = []
    for channels in (in_channels, out_channels):
        layers += [
            nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNetEncoder(nn.Module):
    """The contracting path: one block per stage, with max-pooling between stages.

    Parameters
    ----------
    width : int
        Channels of the first stage; each further stage has twice as many.
    stages : int
        Number of resolutions.  Five is the original: strides 1, 2, 4, 8 and 16.
    """

    def __init__(self, width: int = 64, stages: int = 5):
        super().__init__()
        self.channels = [width * 2**stage for stage in range(stages)]
        self.blocks = nn.ModuleList(conv_block(before, after) for before, after in pairwise([3, *self.channels]))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps, finest first.

        Parameters
        ----------
        images : Tensor
            Normalised pictures, float ``(N, 3, H, W)``.

        Returns
        -------
        list of Tensor
            ``(N, width * 2**s, H / 2**s, W / 2**s)`` for each stage ``s``.
        """
        features = []
        for stage, block in enumerate(self.blocks):
            images = block(images if stage == 0 else F.max_pool2d(images, 2))
            features.append(images)
        return features


class UNetDecoder(nn.Module):
    """The expanding path: upsample, join the skip connection, convolve; a 1 x 1 convolution gives the logits.

    Parameters
    ----------
    channels : list of int
        Channels of the encoder's feature maps, finest first.
    """

    def __init__(self, channels: list[int]):
        super().__init__()
        pairs = list(pairwise(channels))[::-1]
        self.upsample = nn.ModuleList(nn.ConvTranspose2d(deep, fine, kernel_size=2, stride=2) for fine, deep in pairs)
        self.blocks = nn.ModuleList(conv_block(2 * fine, fine) for fine, _ in pairs)
        self.head = nn.Conv2d(channels[0], len(CLASSES), kernel_size=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return logits ``(N, n_classes, H, W)`` from the encoder's feature maps, which come finest first."""
        *skips, x = features
        for upsample, block, skip in zip(self.upsample, self.blocks, reversed(skips), strict=True):
            x = block(torch.cat([skip, upsample(x)], dim=1))
        return self.head(x)


class UNet(nn.Module):
    """U-Net with batch norm and padded convolutions, so that the logits have the picture's size.

    Parameters
    ----------
    width : int
        Channels of the first stage.  64 is the original (31 million parameters).

    References
    ----------
    Ronneberger, Fischer, Brox: "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
    arXiv:1505.04597.  Batch norm and padding are the usual later additions: Ioffe, Szegedy, arXiv:1502.03167.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int = 64):
        super().__init__()
        self.encoder = UNetEncoder(width)
        self.decoder = UNetDecoder(self.encoder.channels)
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Segment a batch of pictures.

        Parameters
        ----------
        images : Tensor
            ``(N, 3, H, W)``, RGB pixel values 0..255 (``uint8`` or float); they are normalised here and nowhere else.

        Returns
        -------
        Tensor
            Logits, float ``(N, 3, H, W)``: background, cat, dog.

        Raises
        ------
        ValueError
            If the height or the width is not a multiple of 16.
        """
        step = 2 ** (len(self.encoder.channels) - 1)
        if images.shape[-2] % step or images.shape[-1] % step:
            raise ValueError(f"U-Net needs height and width in multiples of {step}, got {tuple(images.shape[-2:])}")
        return self.decoder(self.encoder((images - self.mean) / self.std))


def receptive_field(stages: int) -> int:
    """Return the edge, in input pixels, of the square that one cell of the deepest encoder stage sees.

    Each 3 x 3 convolution adds twice the current stride; each 2 x 2 pooling adds the stride once and doubles it.
    """
    edge, stride = 1, 1
    for stage in range(stages):
        if stage:
            edge, stride = edge + stride, 2 * stride
        edge += 2 * 2 * stride
    return edge
