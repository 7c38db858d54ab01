"""Which differences are called shown."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from petseg_utils.data.labels import PADDING
from petseg_utils.experiments import comparisons
from petseg_utils.scores.metrics import protocol_matrix, scores
from petseg_utils.scores.results import CLICKED
from petseg_utils.study import PetsegError
from petseg_utils.training.recipes import RECIPES
from petseg_utils.training.train import train
from tests.experiments.invented_masks import remade, some_labels, spoiled


def test_a_clear_difference_is_shown_and_chance_is_not(study):
    labels = some_labels()
    models = {
        "good": remade(labels, spoiled(labels, 0.02, 1)),
        "alike": remade(labels, spoiled(labels, 0.02, 2)),
        "bad": remade(labels, spoiled(labels, 0.3, 3)),
    }
    pairs = comparisons.paired_table(models, study).set_index(["a", "b"])
    assert len(pairs) == 3 and (pairs["difference"] >= 0).all()
    assert pairs.loc[("good", "bad"), "real"] and pairs.loc[("alike", "bad"), "real"]
    close = pairs.drop(index=[("good", "bad"), ("alike", "bad")]).iloc[0]
    assert not close["real"] and close["low"] < 0 < close["high"]
    whole = [
        float(scores(protocol_matrix(models[name].counts.sum(0), "ignore_border"))["miou"]) for name in ("good", "bad")
    ]
    assert pairs.loc[("good", "bad"), "difference"] == pytest.approx(whole[0] - whole[1])


def test_a_difference_that_another_seed_turns_round_is_not_shown(study):
    labels = some_labels()
    steady = remade(labels, spoiled(labels, 0.2, 1), spoiled(labels, 0.2, 2))
    moody = remade(labels, spoiled(labels, 0.02, 3), spoiled(labels, 0.21, 4))
    pair = comparisons.paired_table({"steady": steady, "moody": moody}, study).iloc[0]
    assert pair["a"] == "moody" and pair["low"] > 0 and not pair["real"] and pair["seeds"] == 2
    assert not pair["every seed"]


def test_equal_masks_differ_in_nothing(study):
    labels = some_labels()
    models = {name: remade(labels, spoiled(labels, 0.1, 1)) for name in ("decoder", CLICKED)}
    pair = comparisons.paired_table(models, study)
    assert (pair["low"][0], pair["difference"][0], pair["high"][0]) == (0, 0, 0) and not pair["real"][0]


def test_among_many_pairs_a_difference_has_to_be_clearer(study):
    study, labels = replace(study, bootstrap_resamples=1000), some_labels()
    two = {"a": remade(labels, spoiled(labels, 0.1, 8)), "b": remade(labels, spoiled(labels, 0.107, 108))}
    alone = comparisons.paired_table(two, study).iloc[0]
    more = two | {f"more {seed}": remade(labels, spoiled(labels, 0.3, seed)) for seed in range(4)}
    among = comparisons.paired_table(more, study).set_index(["a", "b"]).loc[("a", "b")]
    assert alone["real"] and not among["real"] and among["low"] == alone["low"] > 0 and among["every seed"]


def test_pairs_of_fewer_resamples_say_so_and_others_do_not():
    old, new = pd.DataFrame({"a": ["x"]}), pd.DataFrame({"resamples": [10_000]})
    assert "with 1,000 resamples" in comparisons.fewer_resamples(old)
    assert "with 200 resamples" in comparisons.fewer_resamples(new.assign(resamples=200))
    assert comparisons.fewer_resamples(new) == ""


def test_checkpoints_that_are_there_are_compared_without_training(study, splits):
    with pytest.raises(PetsegError, match="fewer than two finished checkpoints"):
        comparisons.compare_checkpoints(study, splits)
    for model in ("unet", "autoencoder_unet"):
        train(model, study, study.seeds[0], splits, progress=False)
    pairs = comparisons.compare_checkpoints(study, splits)
    assert set(pairs[["a", "b"]].iloc[0]) == {"unet", "autoencoder_unet"} and len(pairs) == 1
    assert pd.read_csv(study.figures_dir / "pairs.csv")["a"].tolist() == pairs["a"].tolist()
    assert len(pd.read_csv(study.figures_dir / "timing.csv")) == 2


def test_the_click_model_is_compared_after_a_click_alone_and_marked(study):
    labels = some_labels()
    models = {name: remade(labels, spoiled(labels, 0.1, 1)) for name in ("unet", "decoder", CLICKED)}
    pairs = comparisons.paired_table(models, study)
    assert (pairs["compared"] == 3).all() and len(pairs) == 3
    versions = pairs.apply(lambda pair: {pair["a"]: pair["recipe a"], pair["b"]: pair["recipe b"]}, axis=1)
    assert {name: n for pair in versions for name, n in pair.items()} == {
        "unet": 1,
        "decoder": 1,
        CLICKED: RECIPES["point"].version,
    }
    assert pairs["prompted"].tolist() == [CLICKED in pair for pair in pairs[["a", "b"]].to_numpy().tolist()]
    assert list(comparisons.timing_table(models, study)["model"]) == ["unet", "decoder"]


def test_a_comparison_takes_ten_thousand_resamples_but_for_trial_runs(study):
    assert comparisons.paired_resamples(study) == study.bootstrap_resamples < 1000
    for own, taken in ((1000, 10_000), (20_000, 20_000)):
        assert comparisons.paired_resamples(replace(study, bootstrap_resamples=own)) == taken


class Obedient(torch.nn.Module):
    """Takes the left half of a picture once something is clicked, and calls it a dog; without a click, nothing."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def encode(self, images, maps):
        return [], images

    def look(self, images, maps):
        dog = torch.ones_like(images[:, :1])
        return images, torch.cat([0 * dog, 0 * dog, dog], 1)

    def select(self, seen, prompts, latest, side=None):
        chosen = (prompts[:, :1].amax((2, 3), keepdim=True) > 0.5).float()
        half = torch.arange(prompts.shape[3]) < prompts.shape[3] // 2
        return 2 * chosen * half.expand(prompts[:, :1].shape) - 1


def test_one_click_selects_and_the_selection_is_named(splits):
    test = splits["test"]
    classes = comparisons.predict_clicked(Obedient(), test)
    half = classes.shape[2] // 2
    inside = np.asarray(test.labels) != PADDING
    assert (classes[:, :, :half][inside[:, :, :half]] == 2).all()
    assert (classes[:, :, half:] == 0).all() and (classes[~inside] == 0).all()
