"""Model 3: one small decoder for the feature maps of any frozen encoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petseg_utils.encoders import Encoder
from petseg_utils.unet import PIXEL_MEAN, PIXEL_STD

STEM_CHANNELS = 24


def conv_norm(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; a stride divides height and width."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class Decoder(nn.Module):
    """Feature maps to logits: projections, a top-down path, and a light stem on the picture for crisp edges.

    The maps are normalised and projected to one width.  The walk starts at the last map, to which the mean over all its
    cells is added (what animal this is may be visible in one part of it only), and adds the others one by one, coarse
    to fine; a vision transformer's layers, all of one size, are added last to first.  Then it doubles its size until
    half of the picture's, where it joins the stem.

    Parameters
    ----------
    channels, strides : tuple of int
        The encoder's, in its order.
    width : int
        Channels of the top-down path.
    maps : tuple of int
        Which of the maps are used, counted from 0; all of them by default.
    stem : bool
        Without it, no edge can be finer than the finest map's stride.
    n_classes : int
        Channels of the logits.

    References
    ----------
    Lin et al.: "Feature Pyramid Networks for Object Detection", CVPR 2017, arXiv:1612.03144 (top-down path).
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        strides: tuple[int, ...],
        *,
        width: int = 96,
        maps: tuple[int, ...] = (),
        stem: bool = True,
        n_classes: int = 3,
    ):
        super().__init__()
        self.maps = maps or tuple(range(len(channels)))
        channels, strides = [channels[number] for number in self.maps], [strides[number] for number in self.maps]
        # Without learned scale and shift: the projection that follows has its own.
        self.norms = nn.ModuleList(nn.BatchNorm2d(one, affine=False) for one in channels)
        self.project = nn.ModuleList(nn.Conv2d(one, width, kernel_size=1) for one in channels)
        self.context = nn.Linear(width, width)
        self.merge = nn.ModuleList(conv_norm(width, width) for _ in channels)
        doublings = (strides[0] // 4).bit_length() - 1 if strides[0] > 4 else 0  # from the first map's stride to 4
        self.refine = nn.ModuleList(conv_norm(width, width) for _ in range(doublings))
        self.stem = nn.Sequential(conv_norm(3, STEM_CHANNELS, stride=2), conv_norm(STEM_CHANNELS, STEM_CHANNELS))
        self.stem = self.stem if stem else None
        self.narrow = nn.Conv2d(width, width // 2, kernel_size=1)
        self.join = conv_norm(width // 2 + (STEM_CHANNELS if stem else 0), width // 2)
        self.head = nn.Conv2d(width // 2, n_classes, kernel_size=1)
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, maps: list[Tensor], images: Tensor) -> Tensor:
        """Segment a batch.

        Parameters
        ----------
        maps : list of Tensor
            ``(N, C, H / stride, W / stride)``, as the encoder gives them.
        images : Tensor
            ``(N, 3, H, W)``, RGB pixel values 0..255.

        Returns
        -------
        Tensor
            Logits, float ``(N, n_classes, H, W)``.
        """
        used = [maps[number] for number in self.maps]
        maps = [project(norm(one)) for one, norm, project in zip(used, self.norms, self.project, strict=True)]
        x = maps[-1] + self.context(maps[-1].mean((2, 3)))[:, :, None, None]
        for one, merge in zip(reversed(maps), self.merge, strict=True):
            x = merge(x if one is maps[-1] else resize(x, one.shape[-2:]) + one)
        for refine in self.refine:
            x = refine(resize(x, (2 * x.shape[-2], 2 * x.shape[-1])))
        half = (images.shape[-2] // 2, images.shape[-1] // 2)
        x = resize(self.narrow(x), half)
        if self.stem is not None:
            x = torch.cat([x, self.stem((images - self.mean) / self.std)], 1)
        return resize(self.head(self.join(x)), images.shape[-2:])


class FrozenSegmenter(nn.Module):
    """A frozen encoder and a trained decoder behind each other: pixels in, logits out.

    Parameters
    ----------
    encoder : Encoder
        Stays as it is.
    decoder : Decoder
        Made for the encoder's channels and strides.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder):
        super().__init__()
        # Torch does not look into a tuple: the encoder's weights are not trained, averaged or saved with ours.
        self._frozen = (encoder,)
        self.decoder = decoder

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder."""
        return self._frozen[0]

    def _apply(self, *arguments, **options) -> "FrozenSegmenter":
        self.encoder._apply(*arguments, **options)  # it moves to another device with us all the same
        return super()._apply(*arguments, **options)

    def forward(self, images: Tensor, maps: list[Tensor] | None = None) -> Tensor:
        """Logits ``(N, n_classes, H, W)`` of pixels ``(N, 3, H, W)`` in 0..255; `maps` saves the encoder's pass."""
        return self.decoder(self.encoder(images) if maps is None else maps, images)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, ``(N, C, h, w)`` to ``(N, C, *size)``."""
    return (
        x if tuple(x.shape[-2:]) == tuple(size) else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    )
