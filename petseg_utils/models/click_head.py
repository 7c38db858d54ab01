"""Model 4: a selection that clicks correct, from the prompts and from model 3's features and classes.

A positive click adds to what is selected, a negative one takes away, whatever lies under it: the head says how much,
and `ClickHead.forward` holds it to that.  All operations are plain ones, so that the head can be exported and run
anywhere.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petseg_utils.models.decoder import FINE, Decoder, FrozenSegmenter
from petseg_utils.models.encoders import Encoder
from petseg_utils.models.prompts import HELD

WIDTH = 40  # channels of the head
DILATIONS = (2, 4, 8, 1)  # of its blocks, in cells of 4 x 4 pixels: together they see across the whole square
KEYS = 32  # channels in which cells are compared with the clicked ones
MOST = 20  # clicked cells of each kind that are used; of a longer scribble, only so many
CENTRE = 0.97  # a drawn click is this high only at its own pixel and the ones next to it
FIRM = 2.0  # the logit, at least, of a pixel that was clicked
LARGEST = 8.0  # logits of the proposal and of the selection are limited to this
# What lies under a click is averaged over similar cells around it, with this reach and this weight of differences
# (see `similarity`).  If a pet is less likely there than DOUBT, the click is on the background.
UNDER_REACH, UNDER_DIFFERENCE = 8.0, 3.0
DOUBT = 0.4


def in_cells(prompts: Tensor) -> Tensor:
    """Which cells were clicked, positively and negatively: 1 or 0, ``(N, 2, H / 4, W / 4)``."""
    return (F.max_pool2d(prompts[:, :2], FINE) > CENTRE).to(prompts.dtype)


def pet_logit(classes: Tensor) -> Tensor:
    """The logit of being a pet, ``(N, 1, H, W)`` within -8..8, from class logits ``(N, 3, H, W)``."""
    return (classes[:, 1:].logsumexp(1, keepdim=True) - classes[:, :1]).clamp(-LARGEST, LARGEST)


class ClickHead(nn.Module):
    """What prompts change of a selection: dilated convolutions over cells of 4 x 4 pixels.

    Of each cell it knows the decoder's features, the proposal, the selection so far, where the clicks of each kind are,
    how much it looks like the clicked cells (by the cosine of learned keys), and the box.

    Parameters
    ----------
    channels : int
        Of the decoder's features.

    References
    ----------
    Sofiiuk et al.: "Reviving Iterative Training with Mask Guidance", ICIP 2022, arXiv:2102.06583 (the previous mask as
    an input).  Yu, Koltun: "Multi-Scale Context Aggregation by Dilated Convolutions", ICLR 2016, arXiv:1511.07122.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.keys = nn.Conv2d(channels, KEYS, kernel_size=1)
        self.first = self._block(channels + 2 + 2 * 3 + 1, 1)
        self.blocks = nn.ModuleList(self._block(WIDTH, dilation) for dilation in DILATIONS)
        self.last = nn.Conv2d(WIDTH, FINE**2, kernel_size=1)
        nn.init.zeros_(self.last.weight)  # at first nothing is changed
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    @staticmethod
    def _block(channels: int, dilation: int) -> nn.Sequential:
        convolution = nn.Conv2d(channels, WIDTH, 3, padding=dilation, dilation=dilation, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(WIDTH), nn.ReLU())

    def forward(self, cells: Tensor, proposal: Tensor, prompts: Tensor, latest: Tensor) -> Tensor:
        """The selection after a prompt.

        Parameters
        ----------
        cells : Tensor
            ``(N, C, H / 4, W / 4)``, the decoder's features.
        proposal : Tensor
            ``(N, 1, H, W)``, logits of what is proposed before any prompt; see `pet_logit`.
        prompts : Tensor
            ``(N, 4, H, W)`` in 0..1, all prompts so far and the selection so far, from `prompts.draw_prompts`.
        latest : Tensor
            ``(N,)``: 1 where the latest prompt adds, -1 where it takes away, 0 where it is a box.

        Returns
        -------
        Tensor
            Logits ``(N, 1, H, W)``.  Where the latest prompt adds, none is less than before (limited to -8..8); where
            it takes away, none is greater; and the clicked pixels are what the clicks say.
        """
        selected = torch.logit(prompts[:, 3:4], eps=3.4e-4)  # within -8..8
        clicked = in_cells(prompts)
        known = [cells, F.avg_pool2d(proposal, FINE) / LARGEST, F.avg_pool2d(selected, FINE) / LARGEST]
        keys = F.normalize(self.keys(cells), dim=1)
        for kind in (0, 1):
            here = clicked[:, kind : kind + 1]
            near = F.max_pool2d(here, 5, stride=1, padding=2)
            about = F.avg_pool2d(F.max_pool2d(here, 17, stride=1, padding=8), 9, stride=1, padding=4)
            known += [likeness(keys, here), near, about]
        known.append(F.avg_pool2d(prompts[:, 2:3], FINE))
        x = self.first(torch.cat(known, 1))
        for block in self.blocks:
            x = x + block(x)
        changed = selected + 4 * F.pixel_shuffle(self.last(x), FINE)
        sign = latest.view(-1, 1, 1, 1)
        changed = torch.where(sign > 0, torch.maximum(changed, selected), changed)
        changed = torch.where(sign < 0, torch.minimum(changed, selected), changed)
        changed = torch.where(prompts[:, :1] > HELD, changed.clamp(min=FIRM), changed)
        return torch.where(prompts[:, 1:2] > HELD, changed.clamp(max=-FIRM), changed)


def likeness(keys: Tensor, clicked: Tensor) -> Tensor:
    """Greatest cosine of each cell's key with that of a clicked cell, ``(N, 1, h, w)``; -1 where nothing was clicked.

    Parameters
    ----------
    keys : Tensor
        ``(N, K, h, w)``, of length 1.
    clicked : Tensor
        ``(N, 1, h, w)``: 1 or 0.
    """
    present, at = clicked.flatten(1).topk(min(MOST, clicked[0].numel()), dim=1)
    flat = keys.flatten(2)
    there = flat.gather(2, at[:, None].expand(-1, flat.shape[1], -1))
    cosines = torch.einsum("nck,ncl->nkl", there, flat)
    return torch.where(present[:, :, None] > 0, cosines, -1.0).amax(1).view_as(clicked)


def similarity(cells: Tensor, at: Tensor, reach: float, difference: float) -> Tensor:
    """Similarity of each clicked cell to every cell, ``(N, K, h * w)`` in 0..1: high where a cell is near and alike.

    Parameters
    ----------
    cells : Tensor
        ``(N, C, h, w)``, the decoder's features.
    at : Tensor
        ``int64 (N, K)``, the clicked cells.
    reach : float
        Standard deviation of the Gaussian of distance, in cells.
    difference : float
        How fast the similarity falls with the mean squared difference of the channels.
    """
    n, channels, h, w = cells.shape
    looks = cells.flatten(2)
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()]).to(looks).expand(n, -1, -1)
    looks_there, places_there = (x.gather(2, at[:, None].expand(-1, x.shape[1], -1)) for x in (looks, places))
    near = torch.exp(-squares(places_there, places) / (2 * reach**2))
    return near * torch.exp(-difference * squares(looks_there, looks) / channels)


def squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances ``(N, A, B)`` of vectors ``(N, C, A)`` and ``(N, C, B)``."""
    dots = torch.einsum("nca,ncb->nab", a, b)
    return (a.square().sum(1)[:, :, None] + b.square().sum(1)[:, None] - 2 * dots).clamp(min=0)


def clicked_side(cells: Tensor, proposal: Tensor, prompts: Tensor) -> Tensor:
    """Whether the first click is on the pet or beside it: 1 or -1, ``(N,)``; 1 where nothing was clicked.

    The class under a click is not read off one pixel, which may be wrong, but averaged over all cells, weighted by
    their `similarity` to the clicked one.  People mean the pet more often, so a doubtful click counts for it.

    Parameters
    ----------
    cells, proposal, prompts : Tensor
        As for `ClickHead.forward`.
    """
    present, at = in_cells(prompts)[:, :1].flatten(1).topk(1, dim=1)
    weights = similarity(cells, at, UNDER_REACH, UNDER_DIFFERENCE)
    chance = F.avg_pool2d(proposal.sigmoid(), FINE).flatten(1)
    mean = (weights * chance[:, None]).sum(2) / weights.sum(2)
    return torch.where((present > 0) & (mean < DOUBT), -1.0, 1.0)[:, 0]


class PointSegmenter(FrozenSegmenter):
    """Model 4: a trained decoder, which stays as it is, followed by a head for prompts.

    Prompts enter after the encoder and the decoder, so that a further click costs the head only: call `look` once, then
    `select` with its result and the prompts.

    Parameters
    ----------
    encoder : Encoder
        Stays as it is.
    decoder : Decoder
        Likewise; `start_from` gives it its weights.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder):
        super().__init__(encoder, decoder)
        decoder.requires_grad_(False)
        self.head = ClickHead(decoder.narrow.out_channels)

    def train(self, mode: bool = True) -> "PointSegmenter":
        """Set the head's mode; the decoder's batch norms stay as they are."""
        super().train(mode)
        self.decoder.eval()
        return self

    def forward(
        self,
        images: Tensor,
        maps: list[Tensor] | None = None,
        seen: tuple[Tensor, Tensor] | None = None,
        prompts: Tensor | None = None,
        latest: Tensor | None = None,
    ) -> Tensor:
        """Segment a batch.

        Parameters
        ----------
        images : Tensor
            ``(N, 3, scale * H, scale * W)``, RGB pixel values 0..255.
        maps : list of Tensor, optional
            The encoder's feature maps, where they have been computed already.
        seen : tuple of Tensor, optional
            From `look`, where it has been called already.
        prompts, latest : Tensor, optional
            See `select`.

        Returns
        -------
        Tensor
            Class logits ``(N, 3, H, W)``; with prompts the logits of the selection, ``(N, 1, H, W)``.
        """
        seen = seen or self.look(images, maps)
        return seen[1] if prompts is None or latest is None else self.select(seen, prompts, latest)

    def look(self, images: Tensor, maps: list[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """All that does not depend on prompts: features ``(N, C, H / 4, W / 4)`` and class logits ``(N, 3, H, W)``."""
        cells = self.decoder.cells(*self.encode(images, maps))
        return cells, self.decoder.head(cells)

    def select(
        self, seen: tuple[Tensor, Tensor], prompts: Tensor, latest: Tensor, side: Tensor | None = None
    ) -> Tensor:
        """The selection after a prompt, logits ``(N, 1, H, W)``.

        Parameters
        ----------
        seen : tuple of Tensor
            From `look`.
        prompts, latest : Tensor
            As for `ClickHead.forward`.
        side : Tensor, optional
            ``(N,)``: -1 where the background is wanted, from `clicked_side`; 1, the pet, by default.
        """
        cells, classes = (x.float() for x in seen)
        proposal = pet_logit(classes)
        if side is not None:
            proposal = proposal * side.view(-1, 1, 1, 1)
        # In full precision: the gradients of dilated convolutions in bfloat16 are not always finite on a CPU.
        with torch.autocast(cells.device.type, enabled=False):
            return self.head(cells, proposal, prompts, latest)

    def start_from(self, decoder: Decoder) -> None:
        """Take the weights of a trained decoder."""
        self.decoder.load_state_dict(decoder.state_dict())
