"""What a frozen encoder's maps differ by, and which patches are alike to it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from petseg_utils.data.labels import PADDING
from petseg_utils.experiments.features import alike_on_pets, centred, variance_shares
from petseg_utils.models.encoders import Encoder


class Told(nn.Module):
    """Maps of cells of 8 pixels: the first and the last say what the picture is, the second what the cell shows."""

    def maps(self, images):
        cells = nn.functional.avg_pool2d(images, 8)
        picture = cells[:, :1].mean((2, 3), keepdim=True).expand(-1, 2, *cells.shape[2:])
        return [picture.clone(), 100 + cells[:, :2], picture.clone()]


@pytest.fixture
def told(splits):
    """Test pictures, those of pets bright, and an encoder that sees how bright a cell is beside a large constant."""
    test = splits["test"]
    pets = np.isin(test.labels, (1, 2))
    shade = np.where(pets, 200, 20) + 3 * np.arange(len(test))[:, None, None]
    test = replace(test, images=np.repeat(shade[..., None], 3, -1).astype(np.uint8))
    network = Told()
    return Encoder("told", network, network.maps, [0.0] * 3, [1.0] * 3, (8, 8, 8), (2, 2, 2)), test


def test_variance_lies_between_pictures_or_between_pet_and_ground_as_the_maps_have_it(told):
    encoder, test = told
    shares = variance_shares(encoder, test, list(range(len(test)))).set_index("map")
    assert shares.loc[1, "between pictures"] == pytest.approx(1)
    assert shares.loc[2, "between pictures"] < 0.2 and shares.loc[2, "pet or ground"] > 0.8
    assert shares["cells"].tolist() == [8, 8, 8]


def test_variance_shares_are_those_of_an_analysis_of_variance_by_hand(told):
    encoder, test = told
    features = encoder(torch.from_numpy(np.array(test.images)).movedim(-1, 1))[1].numpy()
    labels = test.labels[:, 4::8, 4::8]
    cells = [features[row].transpose(1, 2, 0)[labels[row] < PADDING] for row in range(len(test))]
    total = np.concatenate(cells)
    spread = sum(((part - part.mean(0)) ** 2).sum() for part in cells)
    wanted = 1 - spread / ((total - total.mean(0)) ** 2).sum()
    shares = variance_shares(encoder, test, list(range(len(test))))
    assert shares["between pictures"].iloc[1] == pytest.approx(wanted, rel=1e-4)


def test_the_patch_most_like_a_pets_is_on_a_pet_once_what_all_share_is_taken_away(told):
    encoder, test = told
    on_pets, by_chance = alike_on_pets(encoder, test, list(range(len(test))))
    assert on_pets > 0.8 > 0.6 > by_chance > 0.1


def test_what_all_cells_share_makes_no_likeness():
    features = 100 + torch.randn(3, 16, 5, 5, generator=torch.Generator().manual_seed(0))
    cells = centred(features).movedim(1, -1).flatten(0, 2)
    torch.testing.assert_close(cells.norm(dim=1), torch.ones(75))
    assert (cells @ cells.T).mean().abs() < 0.05  # of the features themselves it is near 1
