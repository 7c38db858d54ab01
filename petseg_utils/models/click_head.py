"""Model 4: which pixels the user asks for, from the prompts and from model 3's features and classes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petseg_utils.models.decoder import FINE, Decoder, FrozenSegmenter, resize
from petseg_utils.models.encoders import Encoder
from petseg_utils.models.prompts import CHANNELS

PROMPTS = len(CHANNELS)
CENTRE = 0.97  # a drawn click is this high only at its own pixel and the ones next to it
# What lies under a click is averaged over similar cells around it, with this reach and this weight of differences
# (see `similarity`).  If a pet is less likely there than DOUBT, the click asks for the rest.  Chosen on validation
# pictures.
UNDER_REACH, UNDER_DIFFERENCE = 8.0, 3.0
DOUBT = 0.4
LARGE = 10.0  # about the logarithm of a picture's number of pixels: scales the amount of prompts to 0..1
MOST = 48  # clicked cells that are used; of a longer scribble, only so many
SURE = 4.0  # logits are squashed to at most this, so that a click can overturn them
# The next three were chosen on validation pictures. No other choice tried there moved IoU@3 by a whole point.
REACHES = (2.0, 6.0, 16.0)  # of the kernels, in cells of 4 x 4 pixels: at the click, around it, and far away
DIFFERENCE = 1.0  # how fast the covariance of two cells falls with the mean squared difference of their channels
NOISE = 0.13  # variance of the observation noise: how far a click may be wrong


def in_cells(prompts: Tensor) -> Tensor:
    """Which cells were clicked, positively and negatively: 1 or 0, ``(N, 2, H / 4, W / 4)``."""
    return (F.max_pool2d(prompts[:, :2], FINE) > CENTRE).to(prompts.dtype)


def clicked_cells(clicked: Tensor) -> tuple[Tensor, Tensor]:
    """The places of the clicked cells, at most `MOST` of each picture.

    Parameters
    ----------
    clicked : Tensor
        ``(N, 2, h, w)``, from `in_cells`.

    Returns
    -------
    present : Tensor
        ``(N, K)``: 1 for a click, 0 for padding, where another picture of the batch has more clicks.
    at : Tensor
        ``int64 (N, K)``: the clicked cell's number, row by row.
    """
    present, at = clicked.flatten(2).amax(1).topk(min(MOST, clicked[0, 0].numel()), dim=1)
    most = int(present.sum(1).max().clamp(min=1))
    return present[:, :most], at[:, :most]


def similarity(cells: Tensor, at: Tensor, reaches: tuple[float, ...], difference: float) -> Tensor:
    """Similarity of each clicked cell to every cell, ``(N, K, h * w)`` in 0..1: high where a cell is near and alike.

    Parameters
    ----------
    cells : Tensor
        ``(N, C, h, w)``, the decoder's features.
    at : Tensor
        ``int64 (N, K)``, the clicked cells.
    reaches : tuple of float
        Standard deviations of the Gaussians of distance, in cells; their mean is taken.
    difference : float
        How fast the similarity falls with the mean squared difference of the channels.
    """
    n, channels, h, w = cells.shape
    looks = cells.flatten(2)
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()]).to(looks).expand(n, -1, -1)
    looks_there, places_there = (x.gather(2, at[:, None].expand(-1, x.shape[1], -1)) for x in (looks, places))
    apart = squares(places_there, places)
    near = sum(torch.exp(-apart / (2 * reach**2)) for reach in reaches) / len(reaches)
    return near * torch.exp(-difference * squares(looks_there, looks) / channels)


def put_right(cells: Tensor, mask: Tensor, clicked: Tensor) -> Tensor:
    """How clicks correct a mask: a Gaussian process with the mask as its prior mean and the clicks as observations.

    A click that agrees with the mask changes little.  One that contradicts it corrects its own cell, and with it the
    cells that are near and look alike.  Clicks that contradict each other keep each other in bounds.

    Parameters
    ----------
    cells : Tensor
        ``(N, C, h, w)``, the decoder's features.
    mask : Tensor
        ``(N, 1, h, w)``, logits.
    clicked : Tensor
        ``(N, 2, h, w)``, from `in_cells`.

    Returns
    -------
    Tensor
        ``(N, 1, h, w)``, to be added to the mask.

    References
    ----------
    Rasmussen, Williams: "Gaussian Processes for Machine Learning", MIT Press 2006, equation 2.25.
    Zhou et al.: "Interactive Segmentation as Gaussian Process Classification", CVPR 2023, arXiv:2302.14578.
    """
    present, at = clicked_cells(clicked)
    sign = (clicked[:, 0] - clicked[:, 1]).flatten(1).gather(1, at)
    wrong = present * sign * F.relu(SURE - sign * mask.flatten(1).gather(1, at))
    covariance = similarity(cells, at, REACHES, DIFFERENCE) * present[:, :, None]  # of each click with each cell
    among = covariance.gather(2, at[:, None].expand(-1, at.shape[1], -1)) * present[:, None]  # of the clicks
    weights = torch.linalg.solve(among + torch.diag_embed(NOISE + 1 - present), wrong[:, :, None])
    return (weights * covariance).sum(1).view_as(mask)


def under_clicks(cells: Tensor, chance: Tensor, clicked: Tensor) -> Tensor:
    """How well clicks fit the classes under them, ``(N, 2)`` in 0..1: the best of each kind, 0 where there is none.

    A positive click fits a pet, a negative one the rest.  The class under a click is not read off one pixel, which may
    be wrong, but averaged over all cells, weighted by their `similarity`.

    Parameters
    ----------
    cells, clicked : Tensor
        See `put_right`.
    chance : Tensor
        ``(N, 1, h, w)``, the probability of a pet.
    """
    _, at = clicked_cells(clicked)
    weights = similarity(cells, at, (UNDER_REACH,), UNDER_DIFFERENCE)
    mean = (weights * chance.flatten(1)[:, None]).sum(2) / weights.sum(2)
    kinds = clicked.flatten(2).gather(2, at[:, None].expand(-1, 2, -1))
    return (kinds * torch.stack([mean, 1 - mean], 1)).amax(2)


def squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances ``(N, A, B)`` of vectors ``(N, C, A)`` and ``(N, C, B)``."""
    dots = torch.einsum("nca,ncb->nab", a, b)
    return (a.square().sum(1)[:, :, None] + b.square().sum(1)[:, None] - 2 * dots).clamp(min=0)


class PromptHead(nn.Module):
    """The logit of each pixel to be what the prompts ask for.

    Which side they ask for, the pet or the rest, depends on what lies under them; a box limits the answer, and clicks
    correct it.  Only a correction of the choice of side, and the weight of a box, are learned: some 160 numbers.
    """

    def __init__(self):
        super().__init__()
        self.side = nn.Sequential(nn.Linear(2 * PROMPTS, 16), nn.ReLU(), (last := nn.Linear(16, 1)))
        self.box = nn.Parameter(torch.tensor([0.5, 4.0]))
        nn.init.zeros_(last.weight)  # at first, the rules alone
        nn.init.zeros_(last.bias)

    def forward(self, cells: Tensor, classes: Tensor, prompts: Tensor) -> Tensor:
        """Logits ``(N, 1, H, W)``: cells are ``(N, C, H / 4, W / 4)``, class logits and prompts of full size."""
        with torch.autocast(cells.device.type, enabled=False):  # the linear system has to be solved in full precision
            cells, classes = cells.float(), classes.float()
            pet = classes[:, 1:].logsumexp(1, keepdim=True) - classes[:, :1]
            mask = SURE * (self.asked_side(cells, pet, prompts) * pet / SURE).tanh()
            box, (inside, outside) = prompts[:, 2:3], self.box
            mask = mask + (inside * box - outside * (1 - box)) * box.amax((2, 3), keepdim=True)
            change = put_right(cells, F.avg_pool2d(mask, FINE), in_cells(prompts))
            return mask + resize(change, mask.shape[-2:])

    def asked_side(self, cells: Tensor, pet: Tensor, prompts: Tensor) -> Tensor:
        """Which side is asked for, from 1 for the pet to -1 for the rest, ``(N, 1, 1, 1)``.

        A positive click on the pet asks for the pet; so does a negative one on the rest, whatever else is clicked; and
        so does the absence of clicks.  People mean the pet more often, so a doubtful click counts for it too.  The
        learned part looks at the amount of prompts, and at how likely a pet is under each channel.
        """
        chance, amount = pet.sigmoid(), prompts.sum((2, 3))
        under = (prompts * chance).sum((2, 3)) / amount.clamp(min=1e-4)
        on_pet = torch.where(amount > 0, under, 1.0)  # no prompt means the pet
        learned = self.side(torch.cat([on_pet, amount.log1p() / LARGE], 1))
        clicked = in_cells(prompts)
        fit = under_clicks(cells, F.avg_pool2d(chance, FINE), clicked).amax(1, keepdim=True)
        fit = torch.where(clicked[:, :1].any(3).any(2), fit, 1.0)
        return (8 * (fit - DOUBT) + learned).tanh()[:, :, None, None]


class PointSegmenter(FrozenSegmenter):
    """Model 4: a trained decoder, which stays as it is, followed by a head for prompts.

    Prompts enter after the encoder and the decoder, so that a further click costs the head only: call `look` once, then
    ``head`` with its result and the prompts.

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
        self.head = PromptHead()

    def train(self, mode: bool = True) -> "PointSegmenter":
        """Set the head's mode; the decoder's batch norms stay as they are."""
        super().train(mode)
        self.decoder.eval()
        return self

    def forward(
        self,
        images: Tensor,
        maps: list[Tensor] | None = None,
        prompts: Tensor | None = None,
        seen: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Segment a batch.

        Parameters
        ----------
        images : Tensor
            ``(N, 3, H, W)``, RGB pixel values 0..255.
        maps : list of Tensor, optional
            The encoder's feature maps, where they have been computed already.
        prompts : Tensor, optional
            ``(N, 4, H, W)`` in 0..1, from `prompts.draw_prompts`; with zeros only, the pet is proposed.
        seen : tuple of Tensor, optional
            From `look`, where it has been called already.

        Returns
        -------
        Tensor
            Class logits ``(N, 3, H, W)``.  If there are prompts ``(N, 4, H, W)``: the last is the logit of being what
            they ask for.
        """
        cells, classes = seen or self.look(images, maps)
        return classes if prompts is None else torch.cat([classes, self.head(cells, classes, prompts)], 1)

    def look(self, images: Tensor, maps: list[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """All that does not depend on prompts: features ``(N, C, H / 4, W / 4)`` and class logits ``(N, 3, H, W)``."""
        cells = self.decoder.cells(self.encoder(images) if maps is None else maps, images)
        return cells, self.decoder.head(cells)

    def start_from(self, decoder: Decoder) -> None:
        """Take the weights of a trained decoder."""
        self.decoder.load_state_dict(decoder.state_dict())
