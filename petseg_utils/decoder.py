"""Models 3 and 4: one small decoder for the feature maps of any frozen encoder, with or without prompts."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petseg_utils.encoders import Encoder
from petseg_utils.unet import PIXEL_MEAN, PIXEL_STD

FINE = 4  # stride at which the picture itself joins and the logits are made
STEM_CHANNELS = 16
PROMPTS = 4  # channels of the prompts: see prompts.CHANNELS
DOUBT = 0.25  # a click where a pet is less likely than this asks for the rest
CENTRE = 0.97  # a drawn click is at least this high only where it was, give or take a pixel
LARGE = 10.0  # about the logarithm of a picture's pixels, so that how much was prompted lies within 0..1


def conv_norm(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; a stride divides height and width, which the kernel is centred in."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=(kernel_size - stride + 1) // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class PromptFusion(nn.Module):
    """Tell every cell of a map what was prompted, wherever in the picture that was.

    For each channel of the prompts (positive, negative, box, previous mask) the cells under it are averaged.  Every
    cell then gets the prompts at its own place, those four means, how much it resembles each, and how the prompts lie
    on each other: whether what was clicked was in the last mask is the first thing to know of a click.  What comes of
    that is added to the cell.  The last layer starts at zero: a decoder that gets prompts starts as the one it was
    without.

    Parameters
    ----------
    width : int
        Channels of the map.
    """

    def __init__(self, width: int):
        super().__init__()
        self.of_cells = nn.Conv2d(width + 2 * PROMPTS, width, kernel_size=1)
        self.of_means = nn.Linear(PROMPTS * (width + PROMPTS), width)
        self.change = nn.Conv2d(width, width, kernel_size=3, padding=1)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, x: Tensor, prompts: Tensor, on_each_other: Tensor) -> Tensor:
        """The map with the prompts in it.

        Parameters
        ----------
        x : Tensor
            ``(N, width, h, w)``.
        prompts : Tensor
            ``(N, 4, H, W)`` in 0..1.
        on_each_other : Tensor
            ``(N, 4, 4)``: the prompts' `means_under` themselves.
        """
        size = x.shape[-2:]
        means = means_under(F.adaptive_avg_pool2d(prompts, size), x)
        likeness = torch.einsum("nkc,nchw->nkhw", F.normalize(means, dim=2, eps=1e-3), F.normalize(x, dim=1, eps=1e-3))
        here = F.adaptive_max_pool2d(prompts, size)  # a click is small: averaged over a coarse cell it would vanish
        of_means = self.of_means(torch.cat([means, on_each_other], 2).flatten(1))[:, :, None, None]
        return x + self.change(F.relu(self.of_cells(torch.cat([x, here, likeness], 1)) + of_means))


def means_under(prompts: Tensor, x: Tensor) -> Tensor:
    """Mean ``(N, K, C)`` of a map ``(N, C, h, w)`` under each of the prompts ``(N, K, h, w)``; 0 under an empty one."""
    weights = prompts / prompts.sum((2, 3), keepdim=True).clamp(min=1e-4)
    return torch.einsum("nkhw,nchw->nkc", weights, x)


class Decoder(nn.Module):
    """Feature maps to logits: projections, a top-down path, and a light stem on the picture for crisp edges.

    The maps are normalised and projected.  The walk starts at the last map, to which the mean over all its cells is
    added (what animal this is may be visible in one part of it only), and adds the others one by one, coarse to fine; a
    vision transformer's layers, all of one size, are added last to first.  At a quarter of the picture's size half the
    channels are left, and finer maps and the stem join.  Each cell there then says the logits of its own 4 x 4 pixels:
    convolutions at full size would take most of the time and see little that the cell does not.

    Parameters
    ----------
    channels, strides : tuple of int
        The encoder's, in its order.
    width : int
        Channels of the top-down path.
    maps : tuple of int
        Which of the maps are used, counted from 0; all of them by default.  One of them must be coarser than stride 4.
    stem : bool
        Without it, no edge can be finer than the finest map's stride.
    prompts : bool
        Take prompts in after each step of the way, and give one more logit: whether a pixel is what was asked for.
        That is the pet or the rest, by what lies under the prompts, and what they change of it.
    n_classes : int
        Number of classes.

    References
    ----------
    Lin et al.: "Feature Pyramid Networks for Object Detection", CVPR 2017, arXiv:1612.03144 (top-down path).
    Shi et al.: "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
    Network", CVPR 2016, arXiv:1609.05158 (pixels out of a coarser map's channels).
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        strides: tuple[int, ...],
        *,
        width: int = 96,
        maps: tuple[int, ...] = (),
        stem: bool = True,
        prompts: bool = False,
        n_classes: int = 3,
    ):
        super().__init__()
        self.maps = maps or tuple(range(len(channels)))
        channels, strides = [channels[number] for number in self.maps], [strides[number] for number in self.maps]
        fine = width // 2
        # Without learned scale and shift: the projection that follows has its own.
        self.norms = nn.ModuleList(nn.BatchNorm2d(one, affine=False) for one in channels)
        self.project = nn.ModuleList(
            nn.Conv2d(one, width if stride > FINE else fine, kernel_size=1)
            for one, stride in zip(channels, strides, strict=True)
        )
        self.n_fine = sum(stride <= FINE for stride in strides)
        self.context = nn.Linear(width, width)
        self.merge = nn.ModuleList(conv_norm(width, width) for _ in strides[self.n_fine :])
        doublings = max(0, math.ceil(math.log2(strides[self.n_fine] / (2 * FINE))))  # up to twice the fine stride
        self.refine = nn.ModuleList(conv_norm(width, width) for _ in range(doublings))
        self.narrow = nn.Conv2d(width, fine, kernel_size=1)
        self.stem = conv_norm(3, STEM_CHANNELS, kernel_size=2 * FINE, stride=FINE) if stem else None
        self.join = conv_norm(fine + (STEM_CHANNELS if stem else 0), fine)
        self.fuse = nn.ModuleList(PromptFusion(width) for _ in self.merge) if prompts else None
        self.fuse_fine = PromptFusion(fine) if prompts else None
        self.side = nn.Sequential(nn.Linear(2 * PROMPTS, 16), nn.ReLU(), nn.Linear(16, 1)) if prompts else None
        outputs = n_classes + 1 if prompts else n_classes
        self.head = nn.Sequential(nn.Conv2d(fine, outputs * FINE**2, kernel_size=1), nn.PixelShuffle(FINE))
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, maps: list[Tensor], images: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Segment a batch.

        Parameters
        ----------
        maps : list of Tensor
            ``(N, C, H / stride, W / stride)``, as the encoder gives them.
        images : Tensor
            ``(N, 3, H, W)``, RGB pixel values 0..255; height and width in multiples of 4.
        prompts : Tensor, optional
            ``(N, 4, H, W)`` in 0..1, from `prompts.draw_prompts`, for a decoder that takes them.

        Returns
        -------
        Tensor
            Logits, float ``(N, n_classes, H, W)``; with prompts one channel more.
        """
        used = [maps[number] for number in self.maps]
        maps = [project(norm(one)) for one, norm, project in zip(used, self.norms, self.project, strict=True)]
        fine, coarse = maps[: self.n_fine], maps[self.n_fine :]
        on_each_other = None if prompts is None else means_under(prompts, prompts)
        x = coarse[-1] + self.context(coarse[-1].mean((2, 3)))[:, :, None, None]
        for number, (one, merge) in enumerate(zip(reversed(coarse), self.merge, strict=True)):
            x = merge(x if number == 0 else resize(x, one.shape[-2:]) + one)
            if prompts is not None:
                x = self.fuse[number](x, prompts, on_each_other)
        for refine in self.refine:
            x = refine(resize(x, (2 * x.shape[-2], 2 * x.shape[-1])))
        quarter = (images.shape[-2] // FINE, images.shape[-1] // FINE)
        x = resize(self.narrow(x), quarter)
        for one in fine:
            x = x + resize(one, quarter)
        if prompts is not None:
            x = self.fuse_fine(x, prompts, on_each_other)
        if self.stem is not None:
            x = torch.cat([x, self.stem((images - self.mean) / self.std)], 1)
        logits = self.head(self.join(x))
        return logits if prompts is None else self._asked_for(logits, prompts)

    def _asked_for(self, logits: Tensor, prompts: Tensor) -> Tensor:
        """Add to the last logit the pet's, from -1 to 1 times: 1 where the pet was clicked, -1 where the rest was.

        A positive click on the pet asks for the pet.  So does a negative one on the rest, whatever is clicked besides,
        and so does silence.  People mean the pet more often, so a doubtful click does too.  What else there is to know
        is learned: from how much was prompted, and how much of a pet lies under each channel.
        """
        classes, change = logits[:, :-1], logits[:, -1:]
        pet = classes[:, 1:].logsumexp(1, keepdim=True) - classes[:, :1]
        amount = prompts.sum((2, 3))
        on_pet = torch.where(amount > 0, means_under(prompts, pet.sigmoid()).squeeze(2), 1.0)  # silence means the pet
        learned = self.side(torch.cat([on_pet, amount.log1p() / LARGE], 1))
        at = prompts[:, :2] > CENTRE
        chance = torch.cat([pet.sigmoid(), 1 - pet.sigmoid()], 1)
        # A pet under the positive clicks, the rest under the negative ones.
        found = torch.where(at, chance, 0.0).amax((2, 3))
        found = torch.where(at[:, :1].any(3).any(2), found.amax(1, keepdim=True), 1.0)
        side = (8 * (found - DOUBT) + learned).tanh()[:, :, None, None]
        return torch.cat([classes, side * pet + change], 1)


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
        """Logits ``(N, 3, H, W)`` of pixels ``(N, 3, H, W)`` in 0..255; `maps` saves the encoder's pass."""
        return self.decoder(self.encoder(images) if maps is None else maps, images)


class PointSegmenter(FrozenSegmenter):
    """Model 4: the same with prompts, which enter after the encoder, so that a further click costs the decoder only."""

    def forward(self, images: Tensor, maps: list[Tensor] | None = None, prompts: Tensor | None = None) -> Tensor:
        """Segment a batch.

        Parameters
        ----------
        images : Tensor
            ``(N, 3, H, W)``, RGB pixel values 0..255.
        maps : list of Tensor, optional
            The encoder's, where they are known already.
        prompts : Tensor, optional
            ``(N, 4, H, W)`` in 0..1, from `prompts.draw_prompts`; with zeros only, the pet is proposed.

        Returns
        -------
        Tensor
            Class logits ``(N, 3, H, W)``.  If there are prompts ``(N, 4, H, W)``: the last is the logit of being what
            they ask for.
        """
        maps = self.encoder(images) if maps is None else maps
        if prompts is None:
            return self.decoder(maps, images, images.new_zeros(len(images), PROMPTS, *images.shape[-2:]))[:, :-1]
        return self.decoder(maps, images, prompts)

    def start_from(self, decoder: Decoder) -> None:
        """Take the weights of a decoder without prompts: the first masks are its own, and the pet is what is wanted."""
        own = self.decoder.state_dict()
        for name, tensor in decoder.state_dict().items():
            if name.startswith("head."):  # of the logit that only we have, nothing is known yet
                tensor = torch.cat([tensor, torch.zeros_like(tensor[: FINE**2])])
            own[name] = tensor
        self.decoder.load_state_dict(own)
        nn.init.zeros_(self.decoder.side[-1].weight)
        nn.init.zeros_(self.decoder.side[-1].bias)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, ``(N, C, h, w)`` to ``(N, C, *size)``."""
    return (
        x if tuple(x.shape[-2:]) == tuple(size) else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    )
