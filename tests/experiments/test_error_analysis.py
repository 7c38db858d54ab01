"""Which pictures stand for a model, and how often it calls a pet by the right name."""

import numpy as np

from petseg_utils.data.pictures import PictureSet
from petseg_utils.experiments.error_analysis import best_median_worst, rightly_named


def counts_of(right: int) -> np.ndarray:
    """Confusion counts of a picture that has so many of 100 pixels of each class right."""
    wrong = (100 - right) // 2
    counts = np.zeros((5, 3), int)
    counts[:3] = np.full((3, 3), wrong) + np.diag([right - wrong] * 3)
    return counts


def test_the_examples_are_the_best_the_median_and_the_worst():
    rows, titles = best_median_worst(np.stack([counts_of(right) for right in (50, 90, 60, 80, 70, 40, 98)]))
    assert rows == [6, 1, 3, 4, 0, 5]
    names = [title.split("\n")[0] for title in titles]
    assert names == ["best", "second best", "median", "median", "second worst", "worst"]
    assert titles[0].endswith("mIoU 0.96")


def test_a_pet_is_rightly_named_where_most_of_what_was_found_has_its_name(splits):
    test: PictureSet = splits["test"]
    counts = np.zeros((len(test), 5, 3), int)
    for row, species in enumerate(test.table["species"]):
        counts[row, species] = [10, 60, 30] if species == 1 else [10, 30, 60]
    assert rightly_named(test, counts) == (1, len(test))
    counts[0] = 0  # nothing found: neither right nor wrong
    counts[1, :, 1:] = counts[1, :, :0:-1]  # more of it called by the other name
    assert rightly_named(test, counts) == ((len(test) - 2) / (len(test) - 1), len(test) - 1)
