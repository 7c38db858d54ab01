"""Predictions of a model on a split, and their scores under the three protocols."""

import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from petseg_utils.data.labels import PADDING
from petseg_utils.data.parallel import mean_of, total_of
from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.tensors import IGNORED, batches_of, class_targets
from petseg_utils.models.feature_cache import Features
from petseg_utils.models.selection import settled
from petseg_utils.scores.intervals import summarise
from petseg_utils.scores.metrics import PROTOCOLS, boundary_counts, picture_confusions, protocol_matrix, scores

SMALL_BREED = 10  # breeds with fewer test pictures than this are also reported on their own


@dataclass(frozen=True)
class Predictions:
    """A model's predictions for each picture.

    Parameters
    ----------
    classes : ndarray
        ``uint8 (n, size, size)``: 0 background, 1 cat, 2 dog.  Padding is set to background: its place is known.
    loss : ndarray
        ``float (n,)``: mean cross-entropy of each picture's pixels outside border and padding, in nats.
    seconds : float
        Time that the model took per picture, in batches of 16, without reading the pictures.
    """

    classes: np.ndarray
    loss: np.ndarray
    seconds: float


@torch.inference_mode()
def predict(
    model: nn.Module, pictures: PictureSet, features: Features | None = None, *, progress: bool = False
) -> Predictions:
    """Segment every picture of a set, on the model's device.

    Parameters
    ----------
    model : nn.Module
        Takes pixel values ``(N, 3, H, W)`` in 0..255 and returns logits ``(N, 3, H, W)``.
    features : Features, optional
        Cached feature maps of the same pictures, for a model on a frozen encoder.
    """
    model.eval()
    classes = np.empty(pictures.labels.shape, np.uint8)
    loss, seconds, peak = np.empty(len(pictures)), 0.0, getattr(model, "peak", 0.0)
    for part, images in batches_of(pictures, model, doing="predicting", progress=progress):
        labels = torch.from_numpy(np.array(pictures.labels[part])).to(images.device)
        began = time.perf_counter()
        maps = [features.read(part, device=images.device)] if features else []
        logits = model(images, *maps).float()
        if peak:
            chances = logits.softmax(1).cpu().numpy()
            likeliest = torch.from_numpy(np.stack([settled(chance, peak).argmax(0) for chance in chances]))
        else:
            likeliest = logits.argmax(1).cpu()
        classes[part] = likeliest.masked_fill(labels.cpu() == PADDING, 0).to(torch.uint8).numpy()
        seconds += time.perf_counter() - began
        targets = class_targets(labels)
        pixels = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none").sum((1, 2))
        loss[part] = (pixels / (targets != IGNORED).sum((1, 2)).clamp(min=1)).cpu().numpy()
    return Predictions(classes, loss, seconds / max(1, len(pictures)))


def validation_scores(model: nn.Module, pictures: PictureSet, features: Features | None = None) -> dict[str, float]:
    """Return loss, mIoU and accuracy under the primary protocol, for the end of each epoch of training.

    With several processes, each passes its own pictures, and the scores are those of all pictures.
    """
    predictions = predict(model, pictures, features)
    confusions = total_of(picture_confusions(pictures.labels, predictions.classes).sum(0))
    values = scores(protocol_matrix(confusions, "ignore_border"))
    return {
        "validation_loss": mean_of(predictions.loss),
        "miou": float(values["miou"]),
        "accuracy": float(values["accuracy"]),
    }


def small_breeds(pictures: PictureSet) -> np.ndarray:
    """Return which pictures belong to breeds with few pictures in this split, ``bool (n,)``.

    All are false if no breed is large enough for a comparison, as in very small sets.
    """
    counts = pictures.table.groupby("breed")["name"].transform("count").to_numpy()
    small = counts < SMALL_BREED
    return small if not small.all() else np.zeros_like(small)


def score_protocols(pictures: PictureSet, predictions: Predictions, n_resamples: int, rows: np.ndarray) -> dict:
    """Return the scores with 95 % intervals under each protocol.

    Parameters
    ----------
    predictions : Predictions
        From `predict`, in the same order as the pictures.
    rows : ndarray of bool, shape (n,)
        Which pictures are scored.

    Returns
    -------
    dict
        For each protocol, what `intervals.summarise` returns.
    """
    labels, classes = pictures.labels[rows], predictions.classes[rows]
    counts = picture_confusions(labels, classes)
    return {
        protocol: summarise(counts, protocol, boundary_counts(labels, classes, protocol), n_resamples)
        for protocol in PROTOCOLS
    }
