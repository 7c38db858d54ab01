"""Model 4: what was asked for, from the prompts and what model 3 knows of the picture."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petseg_utils.decoder import FINE, Decoder, FrozenSegmenter, resize
from petseg_utils.encoders import Encoder
from petseg_utils.prompts import CHANNELS

PROMPTS = len(CHANNELS)
CENTRE = 0.97  # a drawn click is at least this high only where it was, give or take a pixel
# What lies under a click is read off cells about so far away, and this much alike (see `kinship`).  If a pet is less
# likely there than DOUBT, the click asks for the rest.  Chosen on validation pictures.
KIN_REACH, KIN_ALIKE = 8.0, 3.0
DOUBT = 0.4
LARGE = 10.0  # about the logarithm of a picture's pixels, so that how much was prompted lies within 0..1
MOST = 48  # cells that can be clicked; of a scribble over more, so many are looked at
SURE = 4.0  # logits that say more are brought near this, so that a click can turn them
# The next three were chosen on validation pictures. No other choice tried there moved IoU@3 by a whole point.
REACHES = (2.0, 6.0, 16.0)  # of the kernels, in cells of 4 x 4 pixels: at the click, about it, and far
ALIKE = 1.0  # how much less two cells share for each unit of the mean squared difference of their channels
NOISE = 0.13  # variance: how far a click need not be believed


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
    heard : Tensor
        ``(N, K)``: 1 for a click, 0 in a row that fills up, where another picture has more of them.
    at : Tensor
        ``int64 (N, K)``: its cell, counted row by row.
    """
    heard, at = clicked.flatten(2).amax(1).topk(min(MOST, clicked[0, 0].numel()), dim=1)
    most = int(heard.sum(1).max().clamp(min=1))
    return heard[:, :most], at[:, :most]


def kinship(cells: Tensor, at: Tensor, reaches: tuple[float, ...], alike: float) -> Tensor:
    """How much each clicked cell has to do with every cell, ``(N, K, h * w)`` in 0..1: both near and like it.

    Parameters
    ----------
    cells : Tensor
        ``(N, C, h, w)``, what the decoder knows of each place.
    at : Tensor
        ``int64 (N, K)``, the clicked cells.
    reaches : tuple of float
        Widths of the Gaussians of distance, whose mean is taken, in cells.
    alike : float
        How much less two cells share for each unit of the mean squared difference of their channels.
    """
    n, channels, h, w = cells.shape
    looks = cells.flatten(2)
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()]).to(looks).expand(n, -1, -1)
    of_clicks = [one.gather(2, at[:, None].expand(-1, one.shape[1], -1)) for one in (looks, places)]
    apart = squares(of_clicks[1], places)
    near = sum(torch.exp(-apart / (2 * reach**2)) for reach in reaches) / len(reaches)
    return near * torch.exp(-alike * squares(of_clicks[0], looks) / channels)


def put_right(cells: Tensor, mask: Tensor, clicked: Tensor) -> Tensor:
    """What clicks change of a mask: a Gaussian process, of which the mask is the mean and the clicks are observed.

    A click that the mask agrees with changes little.  One that it contradicts puts its own place right, and with
    it the places that are both near and look alike.  Clicks that contradict each other limit each other.

    Parameters
    ----------
    cells : Tensor
        ``(N, C, h, w)``, what the decoder knows of each place.
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
    heard, at = clicked_cells(clicked)
    sign = (clicked[:, 0] - clicked[:, 1]).flatten(1).gather(1, at)
    wrong = heard * sign * F.relu(SURE - sign * mask.flatten(1).gather(1, at))
    shared = kinship(cells, at, REACHES, ALIKE) * heard[:, :, None]  # covariance of each click and each cell
    among = shared.gather(2, at[:, None].expand(-1, at.shape[1], -1)) * heard[:, None]
    weights = torch.linalg.solve(among + torch.diag_embed(NOISE + 1 - heard), wrong[:, :, None])
    return (weights * shared).sum(1).view_as(mask)


def under_clicks(cells: Tensor, chance: Tensor, clicked: Tensor) -> Tensor:
    """How well clicks fit what lies under them, ``(N, 2)`` in 0..1: the surest of each kind, 0 where there is none.

    A positive click fits a pet, a negative one the rest.  What lies under a click is read off its kin, not off one
    pixel that may be wrong: the mean over all cells, weighted by how near they are and how much alike.

    Parameters
    ----------
    cells, clicked : Tensor
        See `put_right`.
    chance : Tensor
        ``(N, 1, h, w)``, of a pet.
    """
    _, at = clicked_cells(clicked)
    weights = kinship(cells, at, (KIN_REACH,), KIN_ALIKE)
    mean = (weights * chance.flatten(1)[:, None]).sum(2) / weights.sum(2)
    kinds = clicked.flatten(2).gather(2, at[:, None].expand(-1, 2, -1))
    return (kinds * torch.stack([mean, 1 - mean], 1)).amax(2)


def squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances ``(N, A, B)`` of vectors ``(N, C, A)`` and ``(N, C, B)``."""
    dots = torch.einsum("nca,ncb->nab", a, b)
    return (a.square().sum(1)[:, :, None] + b.square().sum(1)[:, None] - 2 * dots).clamp(min=0)


class PromptHead(nn.Module):
    """The logit of being what the prompts ask for.

    That is the pet or the rest, by what lies under them; within the box, if there is one; and put right by the clicks.
    Learned are the doubts about the first, and how much a box is worth: some 160 numbers.
    """

    def __init__(self):
        super().__init__()
        self.side = nn.Sequential(nn.Linear(2 * PROMPTS, 16), nn.ReLU(), nn.Linear(16, 1))
        self.box = nn.Parameter(torch.tensor([0.5, 4.0]))
        nn.init.zeros_(self.side[-1].weight)  # at first, the rules alone
        nn.init.zeros_(self.side[-1].bias)

    def forward(self, cells: Tensor, classes: Tensor, prompts: Tensor) -> Tensor:
        """Logits ``(N, 1, H, W)``: cells are ``(N, C, H / 4, W / 4)``, class logits and prompts of full size."""
        with torch.autocast(cells.device.type, enabled=False):  # equations want to be solved in full precision
            cells, classes = cells.float(), classes.float()
            pet = classes[:, 1:].logsumexp(1, keepdim=True) - classes[:, :1]
            mask = SURE * (self.asked_side(cells, pet, prompts) * pet / SURE).tanh()
            box, (inside, outside) = prompts[:, 2:3], self.box
            mask = mask + (inside * box - outside * (1 - box)) * box.amax((2, 3), keepdim=True)
            change = put_right(cells, F.avg_pool2d(mask, FINE), in_cells(prompts))
            return mask + resize(change, mask.shape[-2:])

    def asked_side(self, cells: Tensor, pet: Tensor, prompts: Tensor) -> Tensor:
        """From -1 to 1, ``(N, 1, 1, 1)``: 1 where the pet was clicked, -1 where the rest was.

        A positive click on the pet asks for the pet.  So does a negative one on the rest, whatever is clicked besides,
        and so does silence.  People mean the pet more often, so a doubtful click does too.  What else there is to know
        is learned: from how much was prompted, and how much of a pet lies under each channel.
        """
        chance, amount = pet.sigmoid(), prompts.sum((2, 3))
        under = (prompts * chance).sum((2, 3)) / amount.clamp(min=1e-4)
        on_pet = torch.where(amount > 0, under, 1.0)  # silence means the pet
        learned = self.side(torch.cat([on_pet, amount.log1p() / LARGE], 1))
        clicked = in_cells(prompts)
        found = under_clicks(cells, F.avg_pool2d(chance, FINE), clicked)
        found = torch.where(clicked[:, :1].any(3).any(2), found.amax(1, keepdim=True), 1.0)
        return (8 * (found - DOUBT) + learned).tanh()[:, :, None, None]


class PointSegmenter(FrozenSegmenter):
    """Model 4: a trained decoder, which stays as it is, and a head for prompts behind it.

    Prompts enter after the encoder and the decoder, so that a further click costs the head only: `look` once, then call
    ``head`` with what it gave and the prompts.

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
            The encoder's, where they are known already.
        prompts : Tensor, optional
            ``(N, 4, H, W)`` in 0..1, from `prompts.draw_prompts`; with zeros only, the pet is proposed.
        seen : tuple of Tensor, optional
            From `look`, where it was called already.

        Returns
        -------
        Tensor
            Class logits ``(N, 3, H, W)``.  If there are prompts ``(N, 4, H, W)``: the last is the logit of being what
            they ask for.
        """
        cells, classes = seen or self.look(images, maps)
        return classes if prompts is None else torch.cat([classes, self.head(cells, classes, prompts)], 1)

    def look(self, images: Tensor, maps: list[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """All that does not depend on prompts: cells ``(N, C, H / 4, W / 4)`` and class logits ``(N, 3, H, W)``."""
        cells = self.decoder.cells(self.encoder(images) if maps is None else maps, images)
        return cells, self.decoder.head(cells)

    def start_from(self, decoder: Decoder) -> None:
        """Take the weights of a trained decoder."""
        self.decoder.load_state_dict(decoder.state_dict())
