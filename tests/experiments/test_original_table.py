"""The published rows are impossible, and rules that are mixed give such rows."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, jaccard_score

from petseg_utils.experiments import original_table
from petseg_utils.scores.metrics import picture_confusions, scores
from tests.experiments.invented_masks import some_labels, spoiled


def test_no_published_row_is_possible_and_a_true_one_is():
    assert not original_table.examined()["possible"].any()
    mine = pd.DataFrame({"model": ["mine"], "mIoU": [0.7], "Dice": [0.8]})
    assert original_table.examined(mine)["possible"].all()


def test_the_bound_holds_for_any_matrix_and_is_reached():
    rng = np.random.default_rng(0)
    for matrix in rng.integers(0, 50, (200, 3, 3)):
        ours = scores(matrix)
        assert ours["miou"] <= ours["dice"] + 1e-12 <= original_table.highest_dice(ours["miou"]) + 1e-9
    equal = scores(np.array([[8, 2, 2], [2, 8, 2], [2, 2, 8]]))
    assert equal["dice"] == pytest.approx(original_table.highest_dice(equal["miou"]))


def test_the_broken_rules_are_those_of_other_libraries():
    labels = some_labels()
    predictions = spoiled(labels, 0.2, 1)
    truth = original_table.perfect(labels)
    counts = picture_confusions(labels, predictions)
    each = [
        jaccard_score(a.ravel(), b.ravel(), labels=[0, 1, 2], average="macro", zero_division=0)
        for a, b in zip(truth, predictions, strict=True)
    ]
    assert original_table.absent_as_zero(counts)["mIoU"] == pytest.approx(np.mean(each))
    pixels = original_table.over_all_pixels(counts)
    assert pixels["Dice"] == pytest.approx(accuracy_score(truth.ravel(), predictions.ravel()))
    assert pixels["mIoU"] == pytest.approx(jaccard_score(truth.ravel(), predictions.ravel(), average="micro"))


def test_mixed_rules_give_impossible_rows_of_a_perfect_prediction():
    labels = some_labels()
    table = original_table.mixed_rules({"perfect": picture_confusions(labels, original_table.perfect(labels))})
    right, mixed, other = (table[table["rule"] == rule].iloc[0] for rule in table["rule"])
    assert right["possible"] and (right["mIoU"], right["Dice"]) == (1, 1)
    assert not mixed["possible"] and mixed["mIoU"] == pytest.approx(2 / 3) and mixed["Dice"] == 1
    assert not other["possible"] and other["Dice"] < other["mIoU"]
