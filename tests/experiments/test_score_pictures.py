"""The drawn definitions of the scores."""

import re

import matplotlib.pyplot as plt
import pytest

from petseg_utils.experiments.plotting import STYLE
from petseg_utils.experiments.score_pictures import show_scores, two_masks
from petseg_utils.scores.metrics import boundary_counts, picture_confusions, protocol_matrix, scores
from petseg_utils.scores.results import PRIMARY


def test_the_drawn_numbers_are_those_of_the_metrics():
    with plt.rc_context(STYLE):
        figure = show_scores()
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    plt.close(figure)
    drawn = {
        name: float(value) for name, value in (re.fullmatch(r"(.*) ([\d.]+)", text).groups() for text in titles[:4])
    }
    true, predicted = (mask[None] for mask in two_masks())
    found = scores(protocol_matrix(picture_confusions(true, predicted).sum(0), PRIMARY))
    both, either = boundary_counts(true, predicted, PRIMARY)[0, 1]
    cat = float(found["iou"][1])
    wanted = {"IoU": cat, "Dice": 2 * cat / (1 + cat), "Accuracy": found["accuracy"], "Boundary IoU": both / either}
    assert drawn == pytest.approx(wanted, abs=0.005)
