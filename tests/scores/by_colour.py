"""A model for tests, whose scores are known to be near 1."""

import torch


class ByColour(torch.nn.Module):
    """Tells the test's reddish cats from its bluish dogs, so its scores are known to be near 1."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images):
        red, blue = images[:, 0], images[:, 2]
        bright = images.amax(1)
        cat, dog = (bright > 100) & (red > blue), (bright > 100) & (blue > red)
        return torch.stack([~(cat | dog), cat, dog], 1).float() * 20
