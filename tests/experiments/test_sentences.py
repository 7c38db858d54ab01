"""Sentences of the experiments say what their tables say, and the opposite where the numbers are turned round."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from petseg_utils.experiments.encoder_variants import LITE, LITE2, TWICE, encoders_in_words
from petseg_utils.experiments.error_analysis import distances_in_words, sizes_in_words
from petseg_utils.experiments.features import ablation_in_words
from petseg_utils.experiments.few_labels import labels_in_words
from petseg_utils.experiments.pretraining import frozen_in_words, kept_of, lesson, variants_in_words
from petseg_utils.experiments.small_breeds import breeds_in_words
from petseg_utils.experiments.training_charts import curves_caption, near_best, run_in_words
from petseg_utils.study import TrainingSettings


def test_what_few_labels_give_is_said_beside_what_all_give():
    runs = pd.DataFrame({"pictures": [10, 10, 100, 100], "miou": [0.6, 0.62, 0.8, 0.82]})
    said = labels_in_words(runs)
    assert said.startswith("With 10 labels it reaches 0.610, with 100 0.810: 75% of it.") and said.endswith("kind: 2.")


def test_a_part_is_missed_only_where_its_loss_is_more_than_may_be_chance():
    names = ["all", "without a", "without b", "without c", "varied"]
    table = pd.DataFrame({"decoder": names, "miou": [0.9, 0.8, 0.875, 0.89, 0.1]})
    said = ablation_in_words(table)
    assert (
        "changes by -0.100 to -0.010" in said and "Missed by more than 0.02 mIoU: *a* (-0.100), *b* (-0.025)." in said
    )
    assert "mIoU: **no part**." in ablation_in_words(table.assign(miou=[0.9, 0.88, 0.92, 0.9, 0.1]))


def test_pretraining_helps_where_no_run_lies_within_those_of_the_random_encoder():
    table = pd.DataFrame({"pretraining": ["random", "plain", "with skips", "masked"], "psnr": [10.0, 20, 30, 19]})
    table["miou"] = [0.5, 0.6, 0.4, 0.52]
    table["low"], table["high"] = table["miou"] - 0.02, table["miou"] + 0.02
    said = variants_in_words(table)
    assert "gains **20.0 dB** and masks **0.200 mIoU** (0.400 to 0.600)" in said and said.endswith("**plain**.")
    assert "*plain*, differs from it by +0.100" in said
    assert lesson(table).endswith("by more than chance helps *plain*.")
    assert variants_in_words(table.assign(low=0.4)).endswith("**none of them**.")
    assert lesson(table.assign(low=0.4)).endswith("none helps more than may be chance.")
    one_run = table.assign(miou=[0.5, 0.51, 0.52, 0.4], low=[0.5, 0.51, 0.52, 0.4], high=[0.5, 0.51, 0.52, 0.4])
    assert variants_in_words(one_run).endswith("**none of them**.")  # two points may be chance


def test_the_frozen_encoder_fails_at_the_name_only_where_the_pet_is_found():
    def said(named: float, found: float, epochs: int = 6) -> str:
        models = ["autoencoder_unet", "unet"] * 2
        protocols = ["ignore_border"] * 2 + ["binary_border_as_pet"] * 2
        table = pd.DataFrame({"model": models, "protocol": protocols, "mIoU": [named, 0.8, found, 0.8]})
        return frozen_in_words(table, {"unet": 6, "autoencoder_unet": epochs})

    assert "finds the pet, and cannot name it as well" in said(0.5, 0.78)
    assert "behind in finding the pet" in said(0.6, 0.65)
    assert "no more than may be chance" in said(0.79, 0.7)
    assert "training time" in said(0.5, 0.78, epochs=5) and "training time" not in said(0.5, 0.78)


def test_a_grey_painting_keeps_the_light_and_none_of_the_colour():
    pixels = np.random.default_rng(0).uniform(0, 255, (100, 3))
    grey = pixels.mean(1, keepdims=True).repeat(3, 1) + (pixels - pixels.mean(1, keepdims=True)).mean(0)
    assert np.allclose(kept_of(pixels, grey), (1, 0), atol=0.01) and kept_of(pixels, pixels) == (1, 1)


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
    history["train_loss"] = [5, 4, 3, 2, 1.0]
    said = run_in_words(history)
    assert "in epoch 2 of 5; first within 0.01 of that in epoch 2; 0.380 after the last" in said
    assert "ends at 4.000; its lowest value was 1.000" in said
    assert "0.300 on average in the first half of the run, and by 0.060 in the second" in said
    assert near_best(history) == 2 and run_in_words(history[:2]).endswith("do not say whether more would help.")


def test_a_run_that_stopped_too_early_or_too_late_is_told():
    history = pd.DataFrame({"epoch": np.arange(1, 7), "train_loss": [6, 5, 4, 3, 2, 1.0]})
    rising = history.assign(miou=[0.1, 0.2, 0.3, 0.32, 0.4, 0.45], validation_loss=[6, 5, 4, 3, 2, 1.0])
    assert "lifted the best by 0.130: it was still rising" in run_in_words(rising)
    assert "no sign that pictures were learned by heart" in run_in_words(rising)
    by_heart = history.assign(miou=[0.1, 0.4, 0.5, 0.5, 0.45, 0.5], validation_loss=[6, 2, 1, 1.1, 2, 3.0])
    assert "lifted the best by 0.000: that is little" in run_in_words(by_heart)
    assert "it began to learn its pictures by heart" in run_in_words(by_heart)
    unsteady = rising.assign(miou=[0.1, 0.3, 0.2, 0.4, 0.2, 0.42])
    assert "it may still be rising" in run_in_words(unsteady)


def test_the_caption_of_curves_names_the_dice_term_where_it_is():
    plain = TrainingSettings(width=16, epochs=1, batch_size=1, learning_rate=0.1)
    assert "Dice" in curves_caption(replace(plain, dice=1.0)) and "Dice" not in curves_caption(plain)


@pytest.mark.parametrize(
    ("error", "misnamed", "what"),
    [(0.2, 0.15, "wrong name"), (0.2, 0.05, "not found"), (0.001, 0, "nearly all is right")],
)
def test_errors_deep_inside_are_names_or_misses(error, misnamed, what):
    table = pd.DataFrame({"distance": ["0-2", "over 32"], "side": "pet", "error": [0.3, error]})
    assert what in distances_in_words(table.assign(misnamed=[0.1, misnamed], pixels=9, pictures=3))


def test_small_pets_are_harder_only_by_more_than_may_be_chance_and_in_enough_pictures():
    table = pd.DataFrame({"pet share": ["a", "b", "c"], "pictures": [1, 50, 50], "mIoU": [0.1, 0.7, 0.9]})
    said = sizes_in_words(table.assign(**{"IoU pet against rest": [0.1, 0.90, 0.91]}))
    assert "about as hard to find (IoU pet against rest 0.900 and 0.910), and harder to find and name" in said
