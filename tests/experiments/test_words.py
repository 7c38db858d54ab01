"""Sentences of the experiments say what their tables say, and the opposite where the numbers are turned round."""

import numpy as np
import pandas as pd

from petseg_utils.experiments.encoder_variants import LITE, LITE2, TWICE, encoders_in_words
from petseg_utils.experiments.features import ablation_in_words
from petseg_utils.experiments.few_labels import labels_in_words
from petseg_utils.experiments.pretraining import variants_in_words
from petseg_utils.experiments.small_breeds import variants_in_words as breeds_in_words
from petseg_utils.experiments.training_charts import run_in_words


def test_what_few_labels_give_is_said_beside_what_all_give():
    runs = pd.DataFrame({"pictures": [10, 10, 100, 100], "miou": [0.6, 0.62, 0.8, 0.82]})
    said = labels_in_words(runs)
    assert said.startswith("With 10 labels it reaches 0.610, with 100 0.810: 75% of it.") and said.endswith("kind: 2.")


def test_the_part_missed_most_is_the_one_whose_score_falls_most():
    table = pd.DataFrame({"decoder": ["all", "without a", "without b", "varied"], "miou": [0.9, 0.8, 0.92, 0.1]})
    assert "Missed most: *without a*, -0.100. Not missed: *without b*." in ablation_in_words(table)
    table["miou"] = [0.7, 0.8, 0.9, 0.1]
    assert "Missed most: no part. Not missed: *without a*, *without b*." in ablation_in_words(table)


def test_pretraining_helps_where_no_run_lies_within_those_of_the_random_encoder():
    table = pd.DataFrame({"pretraining": ["random", "plain", "with skips", "masked"], "psnr": [10.0, 20, 30, 19]})
    table["miou"] = [0.5, 0.6, 0.4, 0.52]
    table["low"], table["high"] = table["miou"] - 0.02, table["miou"] + 0.02
    said = variants_in_words(table)
    assert "+10.0 dB" in said and "-0.200" in said and "-1.0 dB and -0.080" in said and said.endswith("**plain**.")
    assert variants_in_words(table.assign(low=0.4)).endswith("**none of them**.")


def test_changes_of_the_encoder_have_their_signs():
    names = [LITE, LITE + TWICE, LITE2, LITE2 + TWICE, LITE + TWICE]
    table = pd.DataFrame({"encoder": names, "miou": [0.9, 0.91, 0.88, 0.93, 0.92], "encoding_ms": [1.0, 5, 2, 8, 5]})
    said = encoders_in_words(table.assign(cache=["mirrored pictures"] * 4 + ["none"]))
    assert "A second look at twice the size: **+0.010** mIoU, for 5.0 times" in said
    assert "The larger encoder: **-0.020** mIoU" in said and said.endswith("cached ones: +0.010.")


def test_a_variant_is_better_or_worse_only_where_its_interval_leaves_out_nothing():
    first = {
        "decoder": "as it is",
        "miou": 0.9,
        "low": 0.8,
        "high": 1.0,
        "wrong_species": 0.01,
        "pictures": 7,
        "folds": 2,
    }
    changes = pd.DataFrame(
        {"change": [0, 0.1, -0.1, 0.1], "change low": [0, 0.05, -0.2, -0.1], "change high": [0, 0.2, -0.05, 0.3]}
    )
    said = breeds_in_words(pd.DataFrame([first] * 4).join(changes)).splitlines()
    assert [line.rsplit(", ", 1)[1] for line in said[1:]] == ["better.", "worse.", "no difference shown."]


def test_a_run_is_told_by_its_best_epoch_and_its_unsteadiness():
    history = pd.DataFrame(
        {"epoch": np.arange(1, 6), "miou": [0.1, 0.5, 0.3, 0.4, 0.38], "validation_loss": [5, 2, 3, 1, 4.0]}
    )
    said = run_in_words(history)
    assert (
        "**0.500**, in epoch 2 of 5; 0.380 after the last" in said
        and "ends at 4.000; its lowest value was 1.000" in said
    )
    assert "0.300 on average in the first half of the run, and by 0.060 in the second" in said
