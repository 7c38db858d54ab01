"""Records: the scores of a run, with everything that is needed to repeat it."""

import contextlib
import json
import platform
from pathlib import Path

import numpy as np
from filelock import FileLock
from torch import nn

from petseg_utils.data.pictures import PictureSet
from petseg_utils.models.decoder import FrozenSegmenter
from petseg_utils.scores.predictions import Predictions, score_protocols, small_breeds
from petseg_utils.study import PetsegError, Study, shown, write_text
from petseg_utils.study.provenance import git_commit, versions

# The keys that together identify a record.
IDENTITY = ("model", "encoder", "study", "seed", "data", "split", "subset", "protocol")


def make_records(
    study: Study, card: dict, split: str, pictures: PictureSet, predictions: Predictions, model: nn.Module
) -> list[dict]:
    """Make one record per protocol and subset (all pictures; small breeds, if there are some)."""
    small = small_breeds(pictures)
    subsets = {"all": np.ones(len(pictures), bool)} | ({"small breeds": small} if small.any() else {})
    own = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    frozen = model.encoder if isinstance(model, FrozenSegmenter) else nn.Module()  # not among the model's parameters
    borrowed = sum(parameter.numel() for parameter in frozen.parameters())
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
                "extra",
                "more",
                "pretraining",
                "settings",
                "precision",
                "device",
                "commit",
            )
        }
        | {"version": card.get("version", 1)},  # the recipe's version; older cards do not give it
        "parameters": {"trained": trained, "total": own + borrowed},
        "training_seconds": card.get("training_seconds"),
        "seconds_per_picture": predictions.seconds,
        "device": str(next(model.parameters()).device),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
        "commit": git_commit(),
    }
    records = []
    for subset, rows in subsets.items():
        table = pictures.table[rows]
        for protocol, values in score_protocols(pictures, predictions, study.bootstrap_resamples, rows).items():
            records.append(
                shared
                | {"subset": subset, "n_images": len(table), "n_breeds": int(table["breed"].nunique())}
                | {"protocol": protocol, "test_loss": float(predictions.loss[rows].mean()), "scores": values}
            )
    return records


def _identity(record: dict) -> tuple:
    return tuple(record[key] for key in IDENTITY)


def append_records(path: Path, records: list[dict]) -> None:
    """Add records to a JSON Lines file; they replace those with the same `IDENTITY`."""
    new = {_identity(record) for record in records}
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):  # simultaneous evaluations must not lose each other's records
        for part in path.parent.glob(f"{path.name}.*.part"):  # left by an evaluation that was killed
            part.unlink()
        write_records(path, [record for record in read_records(path) if _identity(record) not in new] + records)


def write_records(path: Path, records: list[dict]) -> None:
    """Write a JSON Lines file of records, completely or not at all."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def read_records(path: Path) -> list[dict]:
    """Read a JSON Lines file of records; return none if there is no file.

    Raises
    ------
    PetsegError
        If a line is not a record: it was cut short, or the file holds something else.
    """
    if not path.is_file():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        record = None
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
        if not isinstance(record, dict) or not record.keys() >= {*IDENTITY, "n_images"}:
            raise PetsegError(
                f"{shown(path)}, line {number}, is cut off or not a record: delete the line, and "
                "evaluate its model again."
            )
        records.append(record)
    return records
