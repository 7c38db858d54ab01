"""The picture that everybody sees first shows clicks that change the mask, for the better."""

import numpy as np

from petseg_utils.experiments import front_picture
from petseg_utils.segmenter import Segmenter


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    return (mask & truth).sum() / (mask | truth).sum()


def test_its_clicks_change_what_one_sees_and_mend_it():
    picture, dog = front_picture.drawn_dog()
    photo = Segmenter.load("point").open(picture)
    proposed = photo.mask
    for click in front_picture.NOT_THE_PET:
        photo.add(click)
    assert np.mean(photo.mask != proposed) > 0.05
    assert overlap(photo.mask, dog) > overlap(proposed, dog) + 0.1


def test_it_stands_upright_for_a_phone():
    for upright in (False, True):
        figure = front_picture.front_picture(upright=upright)
        width, height = figure.get_size_inches()
        assert (height > width) == upright and len(figure.axes) == 6
