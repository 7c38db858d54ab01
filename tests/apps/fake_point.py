"""A quick model that takes clicks, whose proposal is known; and painted photos for it.

It proposes what is red as a cat, what is blue as a dog, and nothing else; or always the same, whatever it sees.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petseg_utils.models.click_head import ClickHead, pet_logit
from petseg_utils.models.decoder import FINE
from petseg_utils.segmenter import Segmenter
from petseg_utils.training.torch_model import TorchModel

GROUND, CAT, DOG, MISSED = (40, 90, 40), (230, 30, 30), (30, 30, 230), (150, 110, 70)
SIZE = 64  # of the model's square
ON_TAIL, ON_CAT, ON_DOG, ON_GROUND = (0.55, 0.4), (0.3, 0.4), (0.8, 0.75), (0.1, 0.9)  # in `cat_and_dog`
GAIN = 6.0  # logit of what is proposed


class FakePoint(nn.Module):
    """Proposes by colour, or a cat in a given place, ``bool (size, size)``; and hands prompts to a real head."""

    def __init__(self, proposed: np.ndarray | None = None) -> None:
        super().__init__()
        self.head = ClickHead(3, (), ())
        self.proposed = proposed

    def look(self, images: Tensor) -> tuple[Tensor, ...]:
        """As `PointSegmenter.look`: mean colours of the cells, class logits, and what the head makes of the colours."""
        red, _, blue = images.unbind(1)
        cat, dog = red - blue > 100, blue - red > 100
        if self.proposed is not None:
            cat, dog = torch.from_numpy(self.proposed).expand_as(cat), torch.zeros_like(dog)
        pets = torch.stack([cat, dog], 1).float()
        ground = 1 - pets.sum(1, keepdim=True)
        cells = F.avg_pool2d(images, FINE) / 32 - 4
        return cells, GAIN * torch.cat([ground, pets], 1), *self.head.context(cells, ())

    def forward(self, images: Tensor) -> Tensor:
        return self.look(images)[1]

    def select(self, seen: tuple[Tensor, ...], prompts: Tensor, latest: Tensor, side: Tensor) -> Tensor:
        """As `PointSegmenter.select`."""
        return self.head(seen[2:], pet_logit(seen[1]) * side.view(-1, 1, 1, 1), prompts, latest)


def fake_segmenter(spread: float = 0.0, seed: int = 0, proposed: np.ndarray | None = None) -> Segmenter:
    """A segmenter with a fake model; `spread` is the standard deviation of the head's weights, 0 an untrained head."""
    model = FakePoint(proposed).eval()
    if spread:
        draw = torch.Generator().manual_seed(seed)
        for parameter in model.head.parameters():
            nn.init.normal_(parameter, std=spread, generator=draw)
    card = {"model": "point", "image_size": SIZE, "encoder": None, "n_images": 0}
    return Segmenter(TorchModel(model, card | {"study": "none", "seed": 0, "epoch": 0}))


def paint(height: int, width: int, *ellipses: tuple[tuple[int, int, int], float, float, float, float]) -> np.ndarray:
    """A photo of ellipses on plain ground: each a colour, centre and half axes, as parts of the width and height."""
    photo = np.full((height, width, 3), GROUND, np.uint8)
    for colour, x, y, across, down in ellipses:
        photo[ellipse(height, width, x, y, across, down)] = colour
    return photo


def ellipse(height: int, width: int, x: float, y: float, across: float, down: float) -> np.ndarray:
    """Where one of these ellipses is, ``bool (height, width)``."""
    rows, columns = (np.indices((height, width)) + 0.5) / np.array([height, width])[:, None, None]
    return np.hypot((columns - x) / across, (rows - y) / down) < 1


def cat_and_dog() -> np.ndarray:
    """A photo of a cat, whose tail is not proposed, and of a dog; the constants say where, as parts of its sides."""
    return paint(300, 400, (CAT, *ON_CAT, 0.18, 0.25), (MISSED, *ON_TAIL, 0.06, 0.08), (DOG, *ON_DOG, 0.1, 0.2))


def selected_places(mask: np.ndarray) -> list[bool]:
    """Whether tail, cat, dog and ground of that photo are selected, by its mask ``bool (H, W)`` at any size."""
    height, width = mask.shape
    return [bool(mask[int(y * height), int(x * width)]) for x, y in (ON_TAIL, ON_CAT, ON_DOG, ON_GROUND)]
