"""Charts of trainings."""

import pandas as pd

from petseg_utils.experiments.training_charts import training_curves


def test_a_model_that_has_no_colour_of_its_own_is_drawn_in_grey():
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [1, 0.5], "validation_loss": [1, 0.6], "miou": [0.3, 0.5]})
    losses, scores = training_curves({0: history}, "mine").axes
    assert losses.lines[1].get_color() == scores.lines[0].get_color() == "#555555"
