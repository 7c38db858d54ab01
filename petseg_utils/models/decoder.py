"""Models 3 and 4: one small decoder for the feature maps of any frozen encoder."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petseg_utils.data.labels import CLASSES
from petseg_utils.models.encoders import Encoder, halved
from petseg_utils.models.selection import FINE
from petseg_utils.models.unet import PIXEL_MEAN, PIXEL_STD

STEM_CHANNELS = 16


def conv_norm(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    """Return convolution, batch norm and ReLU; the stride divides height and width."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=(kernel_size - stride + 1) // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class Decoder(nn.Module):
    """Feature maps to logits: projections, a top-down path, and a light stem on the picture for crisp edges.

    The maps are normalised and projected.  The path starts at the last map, to which a projection of its mean over all
    cells is added (the species may be visible in only one part of the picture).  It then adds the other maps one by
    one, coarse to fine; a vision transformer's layers, all of one size, are added last to first.  At a quarter of the
    picture's size the channels are halved, and finer maps and the stem join.  Each cell there predicts the logits of
    its own 4 x 4 pixels: convolutions at full size would take most of the time and add little.

    Parameters
    ----------
    channels, strides : tuple of int
        Channels and strides of the encoder's maps, in the encoder's order.
    width : int
        Channels of the top-down path.
    maps : tuple of int
        Which of the maps are used, counted from 0; all of them by default.  One of them must be coarser than stride 4.
    stem : bool
        Without it, no edge can be finer than the finest map's stride.
    dropout : float
        Fraction of the cells' channels that are dropped at random in training; of the maps' channels, half of that.

    References
    ----------
    Lin et al.: "Feature Pyramid Networks for Object Detection", CVPR 2017, arXiv:1612.03144 (top-down path).
    Shi et al.: "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
    Network", CVPR 2016, arXiv:1609.05158 (pixels from the channels of a coarser map).
    Tompson et al.: "Efficient Object Localization Using Convolutional Networks", CVPR 2015, arXiv:1411.4280 (dropping
    whole channels).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        channels: tuple[int, ...],
        strides: tuple[int, ...],
        *,
        width: int = 96,
        maps: tuple[int, ...] = (),
        stem: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.maps = maps or tuple(range(len(channels)))
        used = [(channels[number], strides[number]) for number in self.maps]
        fine = width // 2
        # Without learned scale and shift: the projection that follows has its own.
        self.norms = nn.ModuleList(nn.BatchNorm2d(n_channels, affine=False) for n_channels, _ in used)
        self.project = nn.ModuleList(
            nn.Conv2d(n_channels, width if stride > FINE else fine, kernel_size=1) for n_channels, stride in used
        )
        self.hide_maps, self.hide_cells = nn.Dropout2d(dropout / 2), nn.Dropout2d(dropout)
        self.n_fine = sum(stride <= FINE for _, stride in used)
        self.context = nn.Linear(width, width)
        self.merge = nn.ModuleList(conv_norm(width, width) for _ in used[self.n_fine :])
        finest_coarse = used[self.n_fine][1]
        doublings = max(0, math.ceil(math.log2(finest_coarse / (2 * FINE))))  # up to twice the fine stride
        self.refine = nn.ModuleList(conv_norm(width, width) for _ in range(doublings))
        self.narrow = nn.Conv2d(width, fine, kernel_size=1)
        self.stem = conv_norm(3, STEM_CHANNELS, kernel_size=2 * FINE, stride=FINE) if stem else None
        self.join = conv_norm(fine + (STEM_CHANNELS if stem else 0), fine)
        self.head = nn.Sequential(nn.Conv2d(fine, len(CLASSES) * FINE**2, kernel_size=1), ToPixels())
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, maps: list[Tensor], images: Tensor) -> Tensor:
        """Segment a batch.

        Parameters
        ----------
        maps : list of Tensor
            ``(N, C, H / stride, W / stride)``, as the encoder gives them.
        images : Tensor
            ``(N, 3, H, W)``, RGB pixel values 0..255; height and width in multiples of 4.

        Returns
        -------
        Tensor
            Logits, float ``(N, 3, H, W)``: background, cat, dog.
        """
        return self.head(self.cells(maps, images))

    def cells(self, maps: list[Tensor], images: Tensor) -> Tensor:
        """Return the features of each 4 x 4 cell, ``(N, width / 2, H / 4, W / 4)``: all but the last layer."""
        used = [maps[number] for number in self.maps]
        steps = zip(used, self.norms, self.project, strict=True)
        projected = [project(self.hide_maps(norm(feature_map))) for feature_map, norm, project in steps]
        fine, coarse = projected[: self.n_fine], projected[self.n_fine :]
        x = coarse[-1] + self.context(coarse[-1].mean((2, 3)))[:, :, None, None]
        for number, (finer, merge) in enumerate(zip(reversed(coarse), self.merge, strict=True)):
            x = merge(x if number == 0 else resize(x, finer.shape[-2:]) + finer)
        for refine in self.refine:
            x = refine(resize(x, (2 * x.shape[-2], 2 * x.shape[-1])))
        quarter = (images.shape[-2] // FINE, images.shape[-1] // FINE)
        x = resize(self.narrow(x), quarter)
        for feature_map in fine:
            x = x + resize(feature_map, quarter)
        if self.stem is not None:
            # Channel after channel in memory, and the second step in place, takes half the time on a CPU.
            normal = (images.contiguous() - self.mean).div_(self.std)
            x = torch.cat([x, self.stem(normal)], 1)
        return self.hide_cells(self.join(x))


class ToPixels(nn.Module):
    """Turn each cell's channels into its own 4 x 4 pixels: `torch.nn.PixelShuffle`, but with one copy instead of three.

    The cells are stored channels last in memory, whereas losses expect logits stored channel after channel.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Rearrange ``(N, C * 16, h, w)`` to ``(N, C, 4 h, 4 w)``, contiguous."""
        number, channels, height, width = x.shape
        cells = x.view(number, channels // FINE**2, FINE, FINE, height, width)
        return cells.permute(0, 1, 4, 2, 5, 3).reshape(number, channels // FINE**2, height * FINE, width * FINE)


class FrozenSegmenter(nn.Module):
    """A frozen encoder followed by a trained decoder: pixels in, logits out.

    Parameters
    ----------
    encoder : Encoder
        The frozen encoder, which is not trained.
    decoder : Decoder
        A decoder made for the encoder's channels and strides.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder):
        super().__init__()
        # Torch does not look into a tuple, so the encoder's weights are not trained, averaged or saved with the rest.
        self._frozen = (encoder,)
        self.peak = 0.0  # see `selection.settled`; code that makes masks with this model reads it
        self.decoder = decoder

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder."""
        return self._frozen[0]

    def _apply(self, *arguments: Any, **options: Any) -> "FrozenSegmenter":
        self.encoder._apply(*arguments, **options)  # so that it still moves to another device with this model
        return super()._apply(*arguments, **options)

    @property
    def scale(self) -> int:
        """How many times as large as the masks the input pictures must be, 1 or 2: the encoder's `scale`."""
        return self.encoder.scale

    def encode(self, images: Tensor, maps: list[Tensor] | None = None) -> tuple[list[Tensor], Tensor]:
        """Return the encoder's maps, computed unless given as `maps`, and the pictures at the size of the masks."""
        maps = self.encoder(images) if maps is None else [held.float() for held in maps]  # kept ones are float16
        size = maps[0].shape[-1] * self.encoder.strides[0]
        return maps, images if images.shape[-1] == size else halved(images)

    def forward(self, images: Tensor, maps: list[Tensor] | None = None) -> Tensor:
        """Return logits ``(N, 3, H, W)`` for pixels ``(N, 3, scale * H, scale * W)`` in 0..255; see `encode`."""
        return self.decoder(*self.encode(images, maps))


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize ``(N, C, h, w)`` to ``(N, C, *size)``, bilinearly."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
