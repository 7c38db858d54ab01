"""A model and a split give predictions, scores under the three protocols, and records."""

import fcntl
import json
import os
import platform
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from petseg_utils.features import Features
from petseg_utils.intervals import summarise
from petseg_utils.metrics import (
    PADDING,
    PROTOCOLS,
    boundary_counts,
    picture_confusions,
    protocol_matrix,
    scores,
)
from petseg_utils.pictures import PictureSet
from petseg_utils.provenance import git_commit, versions
from petseg_utils.study import Study

IGNORED = -100  # cross-entropy's index for pixels that carry no loss
SMALL_BREED = 10  # breeds with fewer test pictures than this are also reported on their own
BATCH = 16


@dataclass(frozen=True)
class Predictions:
    """What a model says of each picture.

    Parameters
    ----------
    classes : ndarray
        ``uint8 (n, size, size)``: 0 background, 1 cat, 2 dog.  Padding is background: where it lies is known, and no
        model is asked about it.
    loss : ndarray
        ``float (n,)``: mean cross-entropy of each picture's pixels outside border and padding, in nats.
    seconds : float
        Time the model took for a picture, batches of 16, reading excluded.
    """

    classes: np.ndarray
    loss: np.ndarray
    seconds: float


def class_targets(labels: Tensor) -> Tensor:
    """Labels as cross-entropy wants them: ``int64``, border and padding turned into -100."""
    return labels.long().masked_fill(labels >= PADDING, IGNORED)


def segmentation_loss(model: nn.Module, batch: dict[str, Tensor], dice: float = 0.0) -> Tensor:
    """Cross-entropy, plus `dice` times the Dice loss, over the pixels that are neither border nor padding; a scalar.

    Parameters
    ----------
    model : nn.Module
        Gives logits ``(N, 3, H, W)`` for pixel values; takes feature maps too if the batch has them.
    batch : dict
        ``image`` ``uint8 (N, 3, H, W)``, ``label`` ``uint8 (N, H, W)``, and for a frozen encoder perhaps ``maps``.
    dice : float
        Weight of the Dice loss.
    """
    images = batch["image"].float()
    logits = (model(images, batch["maps"]) if "maps" in batch else model(images)).float()
    targets = class_targets(batch["label"])
    value = F.cross_entropy(logits, targets, ignore_index=IGNORED)
    return value + dice * dice_loss(logits, targets) if dice else value


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """One less the mean soft Dice of the classes over a batch, a scalar within 0..1; -100 in `targets` is left out.

    Classes absent from the batch's targets do not enter: their Dice says nothing but 0.

    References
    ----------
    Milletari, Navab, Ahmadi: "V-Net", 3DV 2016, arXiv:1606.04797.
    """
    counted = (targets != IGNORED).float()  # once: a product with booleans would turn them anew each time
    scores = []
    for number, chance in enumerate(logits.softmax(1).unbind(1)):
        truth = (targets == number).float()
        size = truth.sum()
        if size:
            overlap, total = (chance * truth).sum(), (chance * counted).sum() + size
            scores.append(2 * overlap / total)
    return 1 - sum(scores) / max(1, len(scores))


@torch.inference_mode()
def predict(
    model: nn.Module, pictures: PictureSet, features: Features | None = None, *, progress: bool = False
) -> Predictions:
    """Segment every picture of a set, on the device where the model is.

    Parameters
    ----------
    model : nn.Module
        Takes pixel values ``(N, 3, H, W)`` in 0..255 and gives logits ``(N, 3, H, W)``.
    pictures : PictureSet
        The split.
    features : Features, optional
        Cached feature maps of the same pictures, for a model on a frozen encoder.
    progress : bool
        Show a progress bar.
    """
    device = next(model.parameters()).device
    model.eval()
    classes = np.empty(pictures.labels.shape, np.uint8)
    loss, seconds = np.empty(len(pictures)), 0.0
    for start in tqdm(range(0, len(pictures), BATCH), desc="predicting", disable=not progress):
        part = slice(start, start + BATCH)
        images = torch.from_numpy(np.array(pictures.images[part])).permute(0, 3, 1, 2).to(device).float()
        labels = torch.from_numpy(np.array(pictures.labels[part])).to(device)
        began = time.perf_counter()
        maps = [[one.to(device) for one in features.read(part)]] if features else []
        logits = model(images, *maps).float()
        classes[part] = logits.argmax(1).masked_fill(labels == PADDING, 0).to(torch.uint8).cpu().numpy()
        seconds += time.perf_counter() - began
        targets = class_targets(labels)
        pixels = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none").sum((1, 2))
        loss[part] = (pixels / (targets != IGNORED).sum((1, 2)).clamp(min=1)).cpu().numpy()
    return Predictions(classes, loss, seconds / max(1, len(pictures)))


def validation_scores(model: nn.Module, pictures: PictureSet, features: Features | None = None) -> dict[str, float]:
    """Loss, mIoU and accuracy under the primary protocol, as `training.fit` wants them after each epoch."""
    found = predict(model, pictures, features)
    matrix = protocol_matrix(picture_confusions(pictures.labels, found.classes).sum(0), "ignore_border")
    values = scores(matrix)
    return {
        "validation_loss": float(found.loss.mean()),
        "miou": float(values["miou"]),
        "accuracy": float(values["accuracy"]),
    }


def small_breeds(pictures: PictureSet) -> np.ndarray:
    """Which pictures belong to breeds with few pictures in this split, ``bool (n,)``.

    All false where no breed is large enough to be compared with, as in very small sets.
    """
    counts = pictures.table.groupby("breed")["name"].transform("count").to_numpy()
    small = counts < SMALL_BREED
    return small if not small.all() else np.zeros_like(small)


def score_protocols(pictures: PictureSet, found: Predictions, n_resamples: int, rows: np.ndarray | None = None) -> dict:
    """Scores with 95 % intervals under each protocol.

    Parameters
    ----------
    pictures : PictureSet
        The split.
    found : Predictions
        From `predict`, in the same order.
    n_resamples : int
        Bootstrap resamples of pictures.
    rows : ndarray of bool, optional
        Score these pictures only.

    Returns
    -------
    dict
        Protocol to what `intervals.summarise` returns.
    """
    rows = np.ones(len(pictures), bool) if rows is None else rows
    labels, classes = pictures.labels[rows], found.classes[rows]
    counts = picture_confusions(labels, classes)
    return {
        protocol: summarise(counts, protocol, boundary_counts(labels, classes, protocol), n_resamples)
        for protocol in PROTOCOLS
    }


def make_records(
    study: Study, card: dict, split: str, pictures: PictureSet, found: Predictions, model: nn.Module
) -> list[dict]:
    """One record per protocol and subset (all pictures; small breeds, where there are some).

    Parameters
    ----------
    study : Study
        Gives the number of resamples and the image size.
    card : dict
        The checkpoint's card.
    split : str
        Which split the pictures are.
    pictures, found
        As for `score_protocols`.
    model : nn.Module
        Its parameters are counted.
    """
    small = small_breeds(pictures)
    subsets = {"all": np.ones(len(pictures), bool)} | ({"small breeds": small} if small.any() else {})
    own = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    borrowed = sum(parameter.numel() for parameter in model.encoder.parameters()) if card["encoder"] else 0
    shared = {
        "model": card["model"],
        "encoder": card["encoder"],
        "study": card["study"],
        "seed": card["seed"],
        "split": split,
        "image_size": study.image_size,
        "data": pictures.fingerprint,
        "trained_on": {
            key: card.get(key)
            for key in (
                "data",
                "n_images",
                "n_breeds",
                "more",
                "pretraining",
                "settings",
                "precision",
                "code",
                "commit",
            )
        },
        "parameters": {"trained": trained, "total": own + borrowed},
        "training_seconds": card.get("training_seconds"),
        "seconds_per_picture": found.seconds,
        "peak_memory_mb": peak_memory_mb(),
        "device": str(next(model.parameters()).device),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
        "commit": git_commit(),
    }
    records = []
    for subset, rows in subsets.items():
        table = pictures.table[rows]
        for protocol, values in score_protocols(pictures, found, study.bootstrap_resamples, rows).items():
            records.append(
                shared
                | {"subset": subset, "n_images": len(table), "n_breeds": int(table["breed"].nunique())}
                | {"protocol": protocol, "test_loss": float(found.loss[rows].mean()), "scores": values}
            )
    return records


def append_records(path: Path, records: list[dict]) -> None:
    """Add records to a JSON-lines file; those of the same run, split, subset and protocol are replaced."""

    def identity(record: dict) -> tuple:
        return tuple(
            record[key] for key in ("model", "encoder", "study", "seed", "data", "split", "subset", "protocol")
        )

    new = {identity(record) for record in records}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two evaluations at once must not lose each other's records
        write_records(path, [record for record in read_records(path) if identity(record) not in new] + records)


def write_records(path: Path, records: list[dict]) -> None:
    """Write a JSON-lines file of records, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    temporary.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    temporary.replace(path)


def read_records(path: Path) -> list[dict]:
    """Read a JSON-lines file of records; none where there is no file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def peak_memory_mb() -> float:
    """Peak memory of this process in megabytes: the GPU's where one is used, else the resident set."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux, bytes on macOS
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
