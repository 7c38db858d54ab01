"""The published rows cannot come from one rule, and the rules of its code give such rows."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import jaccard_score
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.segmentation import DiceScore, MeanIoU

from petseg_utils.experiments import original_table
from petseg_utils.scores.metrics import picture_confusions, scores
from tests.experiments.invented_masks import some_labels, spoiled


def test_no_published_row_is_of_one_rule_and_a_true_one_is():
    assert not original_table.examined()["one rule"].any()
    mine = pd.DataFrame({"model": ["mine"], "mIoU": [0.7], "Dice": [0.8]})
    assert original_table.examined(mine)["one rule"].all()


def test_the_bound_holds_for_any_matrix_and_is_reached():
    rng = np.random.default_rng(0)
    for matrix in rng.integers(0, 50, (200, 3, 3)):
        ours = scores(matrix)
        assert ours["miou"] <= ours["dice"] + 1e-12 <= original_table.highest_dice(ours["miou"]) + 1e-9
    equal = scores(np.array([[8, 2, 2], [2, 8, 2], [2, 2, 8]]))
    assert equal["dice"] == pytest.approx(original_table.highest_dice(equal["miou"]))


def test_its_scores_are_those_of_torchmetrics():
    labels = some_labels()
    predictions = spoiled(labels, 0.2, 1)
    ours = original_table.its_scores(picture_confusions(labels, predictions))
    truth, guess = (torch.from_numpy(masks).long().ravel() for masks in (original_table.perfect(labels), predictions))
    one_sample = [torch.nn.functional.one_hot(masks, 3).T[None] for masks in (guess, truth)]
    assert ours["mIoU"] == pytest.approx(MeanIoU(num_classes=3)(*one_sample).item())
    # "micro" was DiceScore's default before version 1.9.0.
    assert ours["Dice"] == pytest.approx(DiceScore(num_classes=3, average="micro")(*one_sample).item())
    assert ours["Accuracy"] == pytest.approx(MulticlassAccuracy(num_classes=3)(guess, truth).item())


def test_an_absent_class_counts_as_zero_as_in_other_libraries():
    labels = some_labels()
    predictions = spoiled(labels, 0.2, 1)
    each = [
        jaccard_score(a.ravel(), b.ravel(), labels=[0, 1, 2], average="macro", zero_division=0)
        for a, b in zip(original_table.perfect(labels), predictions, strict=True)
    ]
    assert original_table.absent_as_zero(picture_confusions(labels, predictions)) == pytest.approx(np.mean(each))


def test_of_a_perfect_prediction_only_the_mean_over_pictures_is_not_of_one_rule():
    labels = some_labels()
    table = original_table.rescored({"perfect": picture_confusions(labels, original_table.perfect(labels))})
    right, by_batch, by_picture = (table[table["rule"] == rule].iloc[0] for rule in original_table.RULES)
    for row in (right, by_batch):
        assert row["one rule"] and (row["mIoU"], row["Dice"], row["Accuracy"]) == (1, 1, 1)
    assert not by_picture["one rule"] and by_picture["mIoU"] == pytest.approx(2 / 3) and by_picture["Dice"] == 1


def test_a_prediction_that_is_poor_on_the_pet_alone_looks_like_the_published_unet():
    labels = some_labels()
    predictions = original_table.perfect(labels)
    predictions[:, ::2][predictions[:, ::2] > 0] = 0
    table = original_table.rescored({"poor": picture_confusions(labels, predictions)}).set_index("rule")
    row = table.loc["as UNET.py does"]
    assert row["Dice"] > row["at most"] and row["mIoU"] < row["Accuracy"] < row["Dice"]
