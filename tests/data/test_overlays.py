"""A picture overlaid with its label."""

import numpy as np
from PIL import ImageColor

from petseg_utils.data.labels import BORDER, CLASS_COLOURS, PADDING
from petseg_utils.data.overlays import overlay


def test_pets_and_border_are_tinted_by_half_and_padding_is_white():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (40, 50, 3), np.uint8)[:, ::-1]  # not in one piece in memory
    label = rng.choice(np.array([0, 1, 2, BORDER, PADDING], np.uint8), (40, 50))
    over = overlay(picture, label)
    for value, name in ((1, "cat"), (2, "dog"), (BORDER, "border")):
        half = (picture[label == value].astype(float) + ImageColor.getrgb(CLASS_COLOURS[name])) / 2
        assert np.abs(over[label == value] - half).max() <= 0.5
    assert np.array_equal(over[label == 0], picture[label == 0]) and (over[label == PADDING] == 255).all()
