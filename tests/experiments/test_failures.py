"""What went wrong where, in words and by breed."""

import numpy as np

from petseg_utils.experiments import failures
from petseg_utils.experiments.original_table import perfect
from tests.experiments.invented_masks import remade


def test_a_mistake_gets_the_right_word():
    def word(background, cat):  # rows: true background and true cat; columns as predicted
        return failures.what_went_wrong(np.array([background, cat, [0] * 3, [0] * 3, [9, 9, 9]]), 1)

    assert word([100, 0, 0], [2, 98, 0]) == "the outline only"
    assert word([100, 0, 0], [90, 10, 0]) == "not found"
    assert word([100, 0, 0], [40, 60, 0]) == "part of it missed"
    assert word([100, 0, 0], [10, 30, 60]) == "called a dog"
    assert word([100, 70, 9], [10, 80, 10]) == "background taken for pet"


def test_each_breed_is_scored_on_its_own_species(splits):
    test = splits["test"]
    truth = perfect(np.array(test.labels))
    swapped = np.array([0, 2, 1], np.uint8)[truth]
    models = {"right": remade(test.labels, truth), "swapped": remade(test.labels, swapped)}
    table = failures.breed_table(models, test)
    assert table["pictures"].sum() == len(test) and (table["right"] == 1).all() and (table["swapped"] == 0).all()
    counts = failures.mistake_counts(models, test)
    assert counts.loc["the outline only", "right"] == counts.loc["the other species", "swapped"] == len(test)
