"""Model 2: a U-Net whose encoder first learned to reconstruct pictures, without any label."""

import numpy as np
import torch
from torch import Tensor, nn

from petseg_utils.metrics import PADDING
from petseg_utils.pictures import PictureSet
from petseg_utils.unet import PIXEL_MEAN, PIXEL_STD, UNet, UNetDecoder, UNetEncoder, conv_block

CODE = 32  # channels of the bottleneck: what a reconstruction has to be made from
PATCH = 16  # edge of a hidden patch in pixels: what one cell of the bottleneck stands for
BATCH = 16


class Autoencoder(nn.Module):
    """The U-Net's encoder, a narrow bottleneck, and a decoder that paints the picture from it.

    Parameters
    ----------
    width : int
        Channels of the encoder's first stage.
    stages : int
        Number of resolutions.
    skips : bool
        Give the decoder the encoder's fine maps too, as a U-Net does.  Then the picture need not pass through the
        bottleneck at all; it is here to show what that costs.

    References
    ----------
    Hinton, Salakhutdinov: "Reducing the Dimensionality of Data with Neural Networks", Science 313, 2006.
    """

    def __init__(self, width: int = 64, stages: int = 5, *, skips: bool = False):
        super().__init__()
        self.encoder = UNetEncoder(width, stages)
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
        code = self.bottleneck(deep)
        return self.decoder([*fine, code] if self.skips else code) * self.std + self.mean


class Painter(nn.Sequential):
    """A decoder without skip connections: doubles the size and halves the channels until the picture's size.

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
    """A U-Net whose encoder's weights come from an autoencoder.

    Parameters
    ----------
    width : int
        Channels of the first stage; the autoencoder's.
    frozen : bool
        Leave the encoder as the autoencoder made it and train the decoder alone.
    """

    def __init__(self, width: int = 64, *, frozen: bool = True):
        super().__init__(width)
        self.frozen = frozen
        self.encoder.requires_grad_(not frozen)

    def train(self, mode: bool = True) -> "PretrainedUNet":
        """As `torch.nn.Module.train`, but a frozen encoder's batch norms keep the statistics that they have."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self


def hide_patches(images: Tensor, share: float) -> Tensor:
    """Paint random square patches with the mean colour.

    Parameters
    ----------
    images : Tensor
        ``(N, 3, H, W)``, pixel values 0..255; height and width in multiples of 16.
    share : float
        Chance of each patch of 16 x 16 pixels to be hidden, 0 to 1.

    References
    ----------
    Pathak et al.: "Context Encoders: Feature Learning by Inpainting", CVPR 2016, arXiv:1604.07379.
    He et al.: "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, arXiv:2111.06377.
    """
    cells = (len(images), 1, images.shape[-2] // PATCH, images.shape[-1] // PATCH)
    hidden = torch.rand(cells, device=images.device) < share
    hidden = hidden.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    return torch.where(hidden, torch.tensor(PIXEL_MEAN, device=images.device).view(1, 3, 1, 1), images)


def reconstruction_loss(model: nn.Module, batch: dict[str, Tensor], *, crop: int = 0, hidden: float = 0.0) -> Tensor:
    """Mean squared error of the reconstruction outside the padding, on the scale where a pixel is 0..1; a scalar.

    Parameters
    ----------
    model : nn.Module
        Gives pixel values for pixel values.
    batch : dict
        ``image`` ``uint8 (N, 3, H, W)`` and ``label`` ``uint8 (N, H, W)``, of which only the padding is used.
    crop : int
        Edge in pixels of one window, at random, that is used of the pictures; 0 uses all.  A quarter of the pixels is a
        quarter of the time.
    hidden : float
        Share of the patches that the model does not see but has to paint.
    """
    images, labels = batch["image"], batch["label"]
    if crop:
        top, left = (int(torch.randint(edge - crop + 1, ())) for edge in images.shape[-2:])
        images, labels = (one[..., top : top + crop, left : left + crop] for one in (images, labels))
    images = images.float().contiguous(memory_format=torch.channels_last)
    painted = model(hide_patches(images, hidden) if hidden else images).float()
    counted = labels != PADDING
    return (((painted - images) / 255).square().mean(1) * counted).sum() / counted.sum().clamp(min=1)


@torch.inference_mode()
def reconstruct(model: nn.Module, pictures: PictureSet) -> np.ndarray:
    """Reconstructions of a set, ``uint8 (n, size, size, 3)``."""
    device, painted = next(model.parameters()).device, []
    model.eval()
    for start in range(0, len(pictures), BATCH):
        images = torch.from_numpy(np.array(pictures.images[start : start + BATCH])).permute(0, 3, 1, 2).to(device)
        painted.append(model(images.float()).float().clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu())
    return torch.cat(painted).numpy()


def psnr(pictures: PictureSet, painted: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each reconstruction outside the padding, ``float (n,)`` in decibels.

    Higher is better: ten decibels more are a tenth of the mean squared error.
    """
    counted = (pictures.labels != PADDING)[..., None]
    error = np.square((painted.astype(np.float32) - pictures.images) / 255) * counted
    return -10 * np.log10(error.sum((1, 2, 3)) / (3 * counted.sum((1, 2, 3))))
