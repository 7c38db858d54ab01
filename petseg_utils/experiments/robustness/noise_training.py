"""Does training with noise help against noise?  A trained model is trained further, with noise and without."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor, nn

from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.tensors import input_scale
from petseg_utils.experiments.plotting import new_figure
from petseg_utils.experiments.robustness.corruptions import LEVELS, ORIGINAL, TITLES, corrupt
from petseg_utils.experiments.robustness.sweep import perturbed, predict_cases
from petseg_utils.scores.intervals import paired_difference, told_apart
from petseg_utils.scores.metrics import picture_confusions, pooled_miou
from petseg_utils.scores.predictions import validation_scores
from petseg_utils.scores.results import PRIMARY
from petseg_utils.study import Study
from petseg_utils.training.batches import Key, Make, TrainingPictures, as_example
from petseg_utils.training.checkpoints import load, run_folder
from petseg_utils.training.loop import fit
from petseg_utils.training.losses import segmentation_loss

KIND = "gaussian_noise"
BEFORE, WITHOUT, WITH = "as it was", "more training", "more training, with noise"
COLOURS = {BEFORE: "#555555", WITHOUT: "#9A6A00", WITH: "#0072B2"}


def noisy(most: float, scale: int = 1) -> Make:
    """Return a maker of examples, mirrored at random, with Gaussian noise of random strength; see `TrainingPictures`.

    Parameters
    ----------
    most : float
        The standard deviation, in grey levels, is drawn uniformly from 0 to this; 0 leaves pictures as they are.
    scale : int
        How many times larger than their labels the pictures are, 1 or 2.
    """

    def make(pictures: PictureSet, row: int, key: Key) -> dict[str, Tensor]:
        rng = np.random.default_rng(key)
        step, sigma = (-1 if rng.integers(2) else 1), rng.uniform(0, most)
        image, label = pictures.at(scale)[row][:, ::step], pictures.labels[row][:, ::step]
        label = np.array(label).repeat(scale, 0).repeat(scale, 1)
        image, label = corrupt(np.array(image, order="C"), label, KIND, sigma, rng)
        return as_example(image, label[::scale, ::scale])

    return make


def train_on(
    model: str, study: Study, seed: int, splits: dict[str, PictureSet], most: float
) -> tuple[nn.Module, float]:
    """Train the study's trained model further, on pictures with up to `most` grey levels of noise.

    The settings are those of its own training except the number of epochs, which is the study's for this experiment.
    The encoder of a model on frozen features runs at every step, since noise cannot be cached.

    Returns
    -------
    nn.Module
        The network with the weights of the best epoch on the validation pictures, which have no noise.
    float
        Seconds of training.
    """
    start = run_folder(model, study, seed) / "best.safetensors"
    network, card = load(start)
    settings = replace(study.settings(model), epochs=study.robustness.noise_epochs)
    folder = study.runs_dir / "noise" / f"{model}-{most:g}-seed{seed}"
    history = fit(
        network,
        TrainingPictures(splits["train"], seed, noisy(most, input_scale(network))),
        partial(segmentation_loss, dice=settings.dice),
        lambda fitted: validation_scores(fitted, splits["validation"]),
        settings,
        folder,
        seed=seed,
        card=card | {"noise": most},
    )
    return load(folder / "best.safetensors")[0], float(history["seconds"].sum())


def compare(
    model: str, study: Study, seed: int, splits: dict[str, PictureSet], pictures: PictureSet
) -> tuple[dict[str, dict], dict[str, float]]:
    """Train a model further, with and without noise, and score it and both results on perturbed test pictures.

    Returns
    -------
    dict
        Name of a run to a dict from ``(kind, level)`` to the pictures' confusion counts ``(n, 5, 3)``: every level of
        Gaussian noise, and the hardest level of the other perturbations of the original study.
    dict
        Name of a run to its seconds of training.
    """
    networks, seconds = {BEFORE: load(run_folder(model, study, seed) / "best.safetensors")[0]}, {}
    for name, most in ((WITHOUT, 0), (WITH, LEVELS[KIND][-1])):
        networks[name], seconds[name] = train_on(model, study, seed, splits, most)
    steps = [(KIND, level) for level in LEVELS[KIND]]
    steps += [(kind, LEVELS[kind][-1]) for kind in ORIGINAL if kind != KIND]
    counts: dict[str, dict] = {name: {} for name in networks}
    for step in steps:
        images, labels = perturbed(pictures, *step, input_scale(networks[BEFORE]))
        for name, network in networks.items():
            classes = predict_cases({model: network}, [(model, *step)], pictures, images, labels)[model, *step]
            counts[name][step] = picture_confusions(labels, classes)
    return counts, seconds


def gains(counts: dict[str, dict], n_resamples: int) -> pd.DataFrame:
    """Return what noise in training changed, compared with equal training without it, with 95 % paired intervals.

    Returns
    -------
    DataFrame
        One row without noise, then one for the hardest level of each perturbation: ``what``, ``difference``, ``low``,
        ``high`` (of mIoU).
    """
    rows = []
    for step in [(KIND, LEVELS[KIND][0]), *((kind, LEVELS[kind][-1]) for kind in ORIGINAL)]:
        change = paired_difference(counts[WITH][step], counts[WITHOUT][step], PRIMARY, n_resamples=n_resamples)
        what = "unperturbed" if step[1] == 0 else TITLES[step[0]][0]
        rows.append({"what": what} | change)
    return pd.DataFrame(rows)


def noise_sentence(table: pd.DataFrame) -> str:
    """Say what noise in training raised, lowered and is not shown to have changed, from the table of `gains`."""
    words = [told_apart(row["low"], row["high"], "raises", "lowers", "neither") for _, row in table.iterrows()]
    by_word = {
        word: ", ".join(
            f"{row['what']} ({row['difference']:+.3f})"
            for (_, row), own in zip(table.iterrows(), words, strict=True)
            if own == word
        )
        for word in ("raises", "lowers", "neither")
    }
    return (
        f"Noise in training raises the mIoU under: {by_word['raises'] or 'none'}. It lowers it under: "
        f"{by_word['lowers'] or 'none'}. No change is shown under: {by_word['neither'] or 'none'}. That is "
        f"exploratory: the {len(table)} intervals are of 95 % each, not widened for their number."
    )


def noise_chart(counts: dict[str, dict], table: pd.DataFrame) -> Figure:
    """Draw the mIoU of all three by noise (left), and what noise in training changed at the hardest levels (right)."""
    figure, (left, right) = new_figure(1, 2, width=10, height=3.6)
    for name, by_step in counts.items():
        values = [pooled_miou(by_step[KIND, level], PRIMARY) for level in LEVELS[KIND]]
        left.plot(LEVELS[KIND], values, "o-", markersize=4, color=COLOURS[name], label=name)
    left.set(title="By strength of the noise", xlabel="sigma, grey levels", ylabel="mIoU")
    left.legend()
    rows = np.arange(len(table))[::-1]
    spans = [table["difference"] - table["low"], table["high"] - table["difference"]]
    right.errorbar(table["difference"], rows, xerr=spans, fmt="o", color=COLOURS[WITH], capsize=3)
    right.axvline(0, color="#333333", linewidth=1)
    right.set(title="What noise in training changed", xlabel="difference of mIoU", yticks=rows)
    right.set_yticklabels(table["what"])
    return figure
