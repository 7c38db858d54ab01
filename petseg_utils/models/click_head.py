"""Model 4: a selection corrected by clicks, predicted from the prompts and from model 3's features and classes.

A positive click only adds to the selection, and a negative one only takes away, whatever lies under it: the head
decides how much, and `ClickHead.forward` enforces the direction.  The caller limits each click to its reach
(`prompts.within_reach`).  All operations are basic ones, so that the head can be exported and run anywhere.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petseg_utils.models.decoder import FINE, Decoder, FrozenSegmenter, ToPixels, conv_norm, resize
from petseg_utils.models.encoders import Encoder
from petseg_utils.models.prompts import HELD
from petseg_utils.models.selection import CENTRE, LARGEST

WIDTHS = (32, 64, 68)  # channels of the head at strides 4, 8 and 16
KEYS = 32  # channels of the keys by which cells are compared with the clicked ones
MOST = 20  # most clicked cells of each kind that are compared; of a longer scribble, the others are left out
FIRM = 2.0  # least absolute logit of a clicked pixel


def in_cells(prompts: Tensor) -> Tensor:
    """Mark the cells with positive and with negative clicks: 1 or 0, ``(N, 2, H / 4, W / 4)``."""
    return (F.max_pool2d(prompts[:, :2], FINE) > CENTRE).to(prompts.dtype)


def pet_logit(classes: Tensor) -> Tensor:
    """Return the logit of a pet of either species, ``(N, 1, H, W)`` in -8..8, from class logits ``(N, 3, H, W)``."""
    return (classes[:, 1:].logsumexp(1, keepdim=True) - classes[:, :1]).clamp(-LARGEST, LARGEST)


def as_logit(chance: Tensor) -> Tensor:
    """Return the logit of a probability, in the same shape and limited to about -8..8."""
    return torch.logit(chance, eps=3.4e-4)


class ClickHead(nn.Module):
    """The head that changes a selection by prompts: a small U-Net over 4 x 4 cells, down to stride 16 and back.

    Its inputs for each cell are the encoder's and the decoder's features (`context`, which no prompt changes), the
    proposal, the selection so far, where the clicks of each kind are, how similar the cell is to the clicked ones (the
    cosine of learned keys), and the box.  At stride 16 it sees across the whole picture, so that a click can change a
    whole leg, or another animal, and not only what is near.

    Parameters
    ----------
    channels : int
        Channels of the decoder's features.
    map_channels, map_strides : sequence of int
        Channels and strides of the encoder's maps.

    References
    ----------
    Sofiiuk et al.: "Reviving Iterative Training with Mask Guidance", ICIP 2022, arXiv:2102.06583 (the previous mask as
    an input).  Ronneberger et al.: "U-Net", MICCAI 2015, arXiv:1505.04597.
    """

    def __init__(self, channels: int, map_channels: Sequence[int], map_strides: Sequence[int]):
        super().__init__()
        fine, middle, coarse = WIDTHS
        self.levels = [0 if stride <= FINE else 1 if stride <= 2 * FINE else 2 for stride in map_strides]
        # Without learned scale and shift: the projection that follows has its own.
        self.norms = nn.ModuleList(nn.BatchNorm2d(count, affine=False) for count in map_channels)
        widths = [WIDTHS[level] for level in self.levels]
        self.project = nn.ModuleList(nn.Conv2d(*pair, 1) for pair in zip(map_channels, widths, strict=True))
        self.own = nn.ModuleList(nn.Conv2d(channels, width, 1) for width in WIDTHS)
        self.keys = nn.Conv2d(middle + coarse, KEYS, 1)
        self.first = conv_norm(fine + 2 + 2 * 4 + 1, fine)
        self.down = nn.ModuleList([conv_norm(fine, middle, 3, 2), conv_norm(middle, coarse, 3, 2)])
        self.whole = nn.Linear(coarse, coarse)
        self.blocks = nn.ModuleList(Residual(width) for width in (middle, coarse, coarse, middle, fine))
        self.up = nn.ModuleList([nn.Conv2d(coarse, middle, 1), nn.Conv2d(middle, fine, 1)])
        self.last = nn.Conv2d(fine, FINE**2, 1)
        self.to_pixels = ToPixels()
        nn.init.zeros_(self.last.weight)  # an untrained head changes nothing
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def context(self, cells: Tensor, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the features that no prompt changes, at strides 4, 8 and 16: once for each picture.

        Parameters
        ----------
        cells : Tensor
            ``(N, C, H / 4, W / 4)``, the decoder's features.
        maps : sequence of Tensor
            The encoder's feature maps.
        """
        context = []
        for own in self.own:
            context.append(own(cells))
            cells = F.avg_pool2d(cells, 2)
        for feature_map, norm, project, level in zip(maps, self.norms, self.project, self.levels, strict=True):
            context[level] = context[level] + resize(project(norm(feature_map)), context[level].shape[-2:])
        return tuple(F.relu(known) for known in context)

    def forward(self, context: Sequence[Tensor], proposal: Tensor, prompts: Tensor, latest: Tensor) -> Tensor:
        """Return the selection after a prompt.

        Parameters
        ----------
        context : sequence of Tensor
            From `context`.
        proposal : Tensor
            ``(N, 1, H, W)``, logits of the proposal made before any prompt; see `pet_logit`.
        prompts : Tensor
            ``(N, 4, H, W)`` in 0..1, all prompts so far and the selection so far, from `prompts.draw_prompts`.
        latest : Tensor
            ``(N,)``: 1 where the latest prompt adds, -1 where it takes away, 0 where it is a box.

        Returns
        -------
        Tensor
            Logits ``(N, 1, H, W)``.  Where the latest prompt adds, none is less than before (limited to -8..8); where
            it takes away, none is greater.  Clicked pixels are always selected or deselected as the clicks say.
        """
        fine, middle, coarse = context
        selected = as_logit(prompts[:, 3:4])
        clicked = in_cells(prompts)
        known = [fine, F.avg_pool2d(proposal, FINE) / LARGEST, F.avg_pool2d(selected, FINE) / LARGEST]
        keys = F.normalize(self.keys(torch.cat([middle, resize(coarse, middle.shape[-2:])], 1)), dim=1)
        for kind in (0, 1):
            here = clicked[:, kind : kind + 1]
            near, around = spread(here, 2), F.avg_pool2d(spread(here, 8), 9, stride=1, padding=4)
            known += [resize(likeness(keys, F.max_pool2d(here, 2)), here.shape[-2:]), here, near, around]
        known.append(F.avg_pool2d(prompts[:, 2:3], FINE))
        x = self.first(torch.cat(known, 1))
        middle = self.blocks[0](self.down[0](x) + middle)
        coarse = self.down[1](middle) + coarse
        coarse = coarse + self.whole(coarse.mean((2, 3)))[:, :, None, None]
        coarse = self.blocks[2](self.blocks[1](coarse))
        middle = self.blocks[3](middle + resize(self.up[0](coarse), middle.shape[-2:]))
        x = self.blocks[4](x + resize(self.up[1](middle), x.shape[-2:]))
        changed = selected + 4 * self.to_pixels(self.last(x))
        sign = latest.view(-1, 1, 1, 1)
        changed = torch.where(sign > 0, torch.maximum(changed, selected), changed)
        changed = torch.where(sign < 0, torch.minimum(changed, selected), changed)
        changed = torch.where(prompts[:, :1] > HELD, changed.clamp(min=FIRM), changed)
        return torch.where(prompts[:, 1:2] > HELD, changed.clamp(max=-FIRM), changed)


class Residual(nn.Module):
    """A residual block: two convolutions whose result is added to their input."""

    def __init__(self, channels: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            conv_norm(channels, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape."""
        return F.relu(x + self.convolutions(x))


def spread(cells: Tensor, reach: int) -> Tensor:
    """Return the maximum over a square around each cell, ``reach`` cells to every side; the shape stays the same.

    Pooling down and then across gives the same as pooling squares, for a fraction of the work.
    """
    down = F.max_pool2d(cells, (2 * reach + 1, 1), stride=1, padding=(reach, 0))
    return F.max_pool2d(down, (1, 2 * reach + 1), stride=1, padding=(0, reach))


def likeness(keys: Tensor, clicked: Tensor) -> Tensor:
    """Return each cell's greatest cosine to a clicked cell's key, ``(N, 1, h, w)``; -1 where nothing was clicked.

    Parameters
    ----------
    keys : Tensor
        ``(N, K, h, w)``, normalised to length 1.
    clicked : Tensor
        ``(N, 1, h, w)``: 1 or 0.
    """
    present, at = clicked.flatten(1).topk(min(MOST, clicked.shape[2] * clicked.shape[3]), dim=1)
    flat = keys.flatten(2)
    there = flat.gather(2, at[:, None].expand(-1, flat.shape[1], -1))
    cosines = torch.einsum("nck,ncl->nkl", there, flat)
    return torch.where(present[:, :, None] > 0, cosines, -1.0).amax(1).view_as(clicked)


class PointSegmenter(FrozenSegmenter):
    """Model 4: a trained decoder, which stays frozen, followed by a head for prompts.

    Prompts enter after the encoder and the decoder, so that each further click runs only the head: call `look` once,
    then `select` with its result and the prompts.

    Parameters
    ----------
    encoder : Encoder
        The frozen encoder, which is not trained.
    decoder : Decoder
        The decoder, not trained either; `start_from` gives it its weights.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder):
        super().__init__(encoder, decoder)
        decoder.requires_grad_(False)
        self.head = ClickHead(decoder.narrow.out_channels, encoder.channels, encoder.strides)

    def train(self, mode: bool = True) -> "PointSegmenter":
        """Set the head's mode; the decoder's batch norms stay in evaluation mode.

        The decoder's dropout is active while the head is trained: the decoder is hardly ever wrong on pictures that it
        was trained on, and with dropout it makes mistakes like those on other pictures.
        """
        super().train(mode)
        self.decoder.eval()
        self.decoder.hide_maps.train(mode)
        self.decoder.hide_cells.train(mode)
        return self

    def forward(
        self,
        images: Tensor,
        maps: list[Tensor] | None = None,
        seen: tuple[Tensor, ...] | None = None,
        prompts: Tensor | None = None,
        latest: Tensor | None = None,
    ) -> Tensor:
        """Segment a batch.

        Parameters
        ----------
        images : Tensor
            ``(N, 3, scale * H, scale * W)``, RGB pixel values 0..255.
        maps : list of Tensor, optional
            The encoder's feature maps, if they have been computed already.
        seen : tuple of Tensor, optional
            From `look`, if it has been called already.
        prompts, latest : Tensor, optional
            See `select`.

        Returns
        -------
        Tensor
            Class logits ``(N, 3, H, W)``; with prompts the logits of the selection, ``(N, 1, H, W)``.
        """
        seen = seen or self.look(images, maps)
        return seen[1] if prompts is None or latest is None else self.select(seen, prompts, latest)

    def look(self, images: Tensor, maps: list[Tensor] | None = None) -> tuple[Tensor, ...]:
        """Compute all that does not depend on prompts.

        Returns
        -------
        tuple of Tensor
            The decoder's features ``(N, C, H / 4, W / 4)``, class logits ``(N, 3, H, W)``, and the tensors of
            `ClickHead.context`.
        """
        maps, images = self.encode(images, maps)
        cells = self.decoder.cells(maps, images)
        return cells, self.decoder.head(cells), *self.head.context(cells, maps)

    def select(self, seen: tuple[Tensor, ...], prompts: Tensor, latest: Tensor, side: Tensor | None = None) -> Tensor:
        """Return the selection after a prompt, logits ``(N, 1, H, W)``.

        Parameters
        ----------
        seen : tuple of Tensor
            From `look`.
        prompts, latest : Tensor
            As for `ClickHead.forward`.
        side : Tensor, optional
            ``(N,)``, from `selection.clicked_side`: -1 where the background is wanted, 1 where a pet is; 1 by default.
        """
        proposal = pet_logit(seen[1].float())
        if side is not None:
            proposal = proposal * side.view(-1, 1, 1, 1)
        return self.head(seen[2:], proposal, prompts, latest).float()

    def start_from(self, decoder: Decoder) -> None:
        """Take the weights of a trained decoder."""
        self.decoder.load_state_dict(decoder.state_dict())
