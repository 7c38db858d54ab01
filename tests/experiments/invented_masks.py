"""Labels with pets, borders and padding, and predictions that are wrong to a known degree."""

import numpy as np

from petseg_utils.data.labels import BORDER, PADDING
from petseg_utils.experiments.comparisons import Remade
from petseg_utils.experiments.original_table import perfect
from petseg_utils.scores.metrics import picture_confusions

SIZE = 24


def some_labels() -> np.ndarray:
    """Squares of one species each on background, with a frame of border and a strip of padding."""
    labels = np.zeros((30, SIZE, SIZE), np.uint8)
    rng = np.random.default_rng(0)
    for number, label in enumerate(labels):
        y, x = rng.integers(2, 8, 2)
        label[y : y + 12, x : x + 10] = BORDER
        label[y + 1 : y + 11, x + 1 : x + 9] = 1 + number % 2
    labels[:, :2] = PADDING
    return labels


def spoiled(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The true masks with a share of the pixels changed to another class."""
    rng = np.random.default_rng(seed)
    truth = perfect(labels)
    wrong = (truth + rng.integers(1, 3, truth.shape)) % 3
    return np.where(rng.random(truth.shape) < share, wrong, truth).astype(np.uint8)


def remade(labels: np.ndarray, *predictions: np.ndarray) -> Remade:
    """A model that predicted these masks, one set a seed."""
    counts = [picture_confusions(labels, of_seed) for of_seed in predictions]
    return Remade(np.sum(counts, axis=0), counts, predictions[0], None, 0.01, 1000)
