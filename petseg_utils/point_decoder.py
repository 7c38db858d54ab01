"""Model 4: what was asked for, from the prompts and what model 3 knows of the picture."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petseg_utils.decoder import FINE, Decoder, FrozenSegmenter, conv_norm, resize
from petseg_utils.encoders import Encoder
from petseg_utils.prompts import CHANNELS

PROMPTS = len(CHANNELS)
CENTRE = 0.97  # a drawn click is at least this high only where it was, give or take a pixel
DOUBT = 0.25  # a click where a pet is less likely than this asks for the rest
LARGE = 10.0  # about the logarithm of a picture's pixels, so that how much was prompted lies within 0..1
MOST = 48  # cells that can be clicked; of a scribble over more, so many are looked at
FEATURES = 16  # length of the vector by which two cells are compared
SURE = 4.0  # logits that say more are brought near this, so that a click can turn them
SPREADS = (2.0, 8.0, 1e3)  # reach of the first kernels, in cells of 4 x 4 pixels: near the click, about it, anywhere


class Clicks(nn.Module):
    """What clicks change of a mask: a Gaussian process, of which the mask is the mean and the clicks are observed.

    A click that the mask agrees with changes little.  One that it contradicts puts its own place right, and with it the
    places that are both near and look alike; how near and how much alike is learned, as a sum of kernels, one of which
    reaches over the whole picture.  Further clicks limit each other where they contradict each other.

    Parameters
    ----------
    width : int
        Channels of the decoder's cells.

    References
    ----------
    Rasmussen, Williams: "Gaussian Processes for Machine Learning", MIT Press 2006, equation 2.25.
    Zhou et al.: "Interactive Segmentation as Gaussian Process Classification", CVPR 2023, arXiv:2302.14578.
    """

    def __init__(self, width: int):
        super().__init__()
        self.features = nn.Sequential(conv_norm(width, width), nn.Conv2d(width, FEATURES, kernel_size=1))
        self.log_spread = nn.Parameter(torch.tensor(SPREADS).log())
        self.log_share = nn.Parameter(torch.zeros(len(SPREADS)))
        self.log_alike = nn.Parameter(torch.tensor([0.0, 0.0, 1.0]))  # the farther, the more alike it must be
        self.log_noise = nn.Parameter(torch.tensor(-2.0))

    def forward(self, cells: Tensor, mask: Tensor, prompts: Tensor) -> Tensor:
        """What to add to the mask.

        Parameters
        ----------
        cells : Tensor
            ``(N, width, h, w)``, the decoder's.
        mask : Tensor
            ``(N, 1, h, w)``, logits.
        prompts : Tensor
            ``(N, 2, h, w)``: 1 in the cells that were clicked, positively and negatively, 0 elsewhere.
        """
        n, _, h, w = mask.shape
        features = self.features(cells).flatten(2)
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        places = torch.stack([rows.flatten(), columns.flatten()]).to(features).expand(n, -1, -1)
        clicked, at = prompts.flatten(2).amax(1).topk(min(MOST, h * w), dim=1)
        some = int(clicked.sum(1).max().clamp(min=1))  # no picture of the batch has more
        clicked, at = clicked[:, :some], at[:, :some]
        sign = (prompts[:, 0] - prompts[:, 1]).flatten(1).gather(1, at)
        wrong = clicked * sign * F.relu(SURE - sign * mask.flatten(1).gather(1, at))

        def pick(x: Tensor) -> Tensor:
            return x.gather(2, at[:, None].expand(-1, x.shape[1], -1))

        to_all = self.kernel(pick(features), features, pick(places), places) * clicked[:, :, None]
        among = to_all.gather(2, at[:, None].expand(-1, some, -1)) * clicked[:, None]
        noise = torch.diag_embed(1 - clicked + self.log_noise.exp())
        weights = torch.linalg.solve(among + noise, wrong[:, :, None])
        return (weights * to_all).sum(1).view(n, 1, h, w)

    def kernel(self, a: Tensor, b: Tensor, place_a: Tensor, place_b: Tensor) -> Tensor:
        """How much cells ``(N, 16, A)`` and ``(N, 16, B)`` at ``(N, 2, A)`` and ``(N, 2, B)`` share, ``(N, A, B)``."""
        unlike, apart = squares(a, b), squares(place_a, place_b)
        total = 0
        for share, alike, spread in zip(
            self.log_share.softmax(0), self.log_alike.exp(), self.log_spread.exp(), strict=True
        ):
            total = total + share * torch.exp(-alike * unlike - apart / (2 * spread**2))
        return total


def squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances ``(N, A, B)`` of vectors ``(N, C, A)`` and ``(N, C, B)``."""
    dots = torch.einsum("nca,ncb->nab", a, b)
    return (a.square().sum(1)[:, :, None] + b.square().sum(1)[:, None] - 2 * dots).clamp(min=0)


class PromptHead(nn.Module):
    """The logit of being what the prompts ask for.

    That is the pet or the rest, by what lies under them; within the box, if there is one; put right by the clicks; and
    what is left to know is learned by two convolutions, which see all of it.

    Parameters
    ----------
    width : int
        Channels of the decoder's cells.
    """

    def __init__(self, width: int):
        super().__init__()
        self.side = nn.Sequential(nn.Linear(2 * PROMPTS, 16), nn.ReLU(), nn.Linear(16, 1))
        self.box = nn.Parameter(torch.tensor([0.5, 4.0]))
        self.clicks = Clicks(width)
        self.change = nn.Sequential(
            conv_norm(width + PROMPTS + 2, width), nn.Conv2d(width, FINE**2, kernel_size=1), nn.PixelShuffle(FINE)
        )
        for last in (self.side[-1], self.change[1]):  # at first, the rules alone
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, cells: Tensor, classes: Tensor, prompts: Tensor) -> Tensor:
        """Logits ``(N, 1, H, W)``: cells are ``(N, width, H / 4, W / 4)``, class logits and prompts of full size."""
        with torch.autocast(cells.device.type, enabled=False):  # equations want to be solved in full precision
            return self._answer(cells.float(), classes.float(), prompts)

    def _answer(self, cells: Tensor, classes: Tensor, prompts: Tensor) -> Tensor:
        pet = classes[:, 1:].logsumexp(1, keepdim=True) - classes[:, :1]
        mask = SURE * (self.asked_side(pet, prompts) * pet / SURE).tanh()
        box = prompts[:, 2:3]
        inside, outside = self.box
        mask = mask + (inside * box - outside * (1 - box)) * box.amax((2, 3), keepdim=True)
        small = F.avg_pool2d(mask, FINE)
        here = F.max_pool2d(prompts, FINE)  # a click is small: averaged over a cell it would fade
        change = self.clicks(cells, small, (here[:, :2] > CENTRE).to(mask.dtype))
        more = self.change(torch.cat([cells, here, small, change], 1))
        return mask + resize(change, mask.shape[-2:]) + more

    def asked_side(self, pet: Tensor, prompts: Tensor) -> Tensor:
        """From -1 to 1, ``(N, 1, 1, 1)``: 1 where the pet was clicked, -1 where the rest was.

        A positive click on the pet asks for the pet.  So does a negative one on the rest, whatever is clicked besides,
        and so does silence.  People mean the pet more often, so a doubtful click does too.  What else there is to know
        is learned: from how much was prompted, and how much of a pet lies under each channel.
        """
        chance, amount = pet.sigmoid(), prompts.sum((2, 3))
        under = (prompts * chance).sum((2, 3)) / amount.clamp(min=1e-4)
        on_pet = torch.where(amount > 0, under, 1.0)  # silence means the pet
        learned = self.side(torch.cat([on_pet, amount.log1p() / LARGE], 1))
        at = prompts[:, :2] > CENTRE
        # A pet under the positive clicks, the rest under the negative ones.
        found = torch.where(at, torch.cat([chance, 1 - chance], 1), 0.0).amax((2, 3))
        found = torch.where(at[:, :1].any(3).any(2), found.amax(1, keepdim=True), 1.0)
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
        self.head = PromptHead(decoder.join[0].out_channels)

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
