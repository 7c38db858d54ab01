"""What a run's weights depend on: a cut run goes on, and a trained one is used, only where all of it is the same."""

import contextlib
import json
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from petseg_utils.study import TrainingSettings

# All of it is in the card.  `version` is the recipe's.
CONDITIONS = (
    "model", "version", "seed", "settings", "precision", "encoder_spec", "image_size",
    "data", "n_images", "extra", "unlabelled", "start",
)  # fmt: skip


def conditions_in(card: dict) -> dict:
    """What the weights of a card depend on.

    A card from before recipes had versions is of version 1, and settings that did not exist then had their defaults.
    """
    values = {key: card.get(key, 1 if key == "version" else None) for key in CONDITIONS}
    with contextlib.suppress(ValidationError):  # settings that are no more: they differ
        values["settings"] = values["settings"] and asdict(TrainingSettings(**values["settings"]))
    values["start"] = [conditions_in(base) for base in values["start"] or []]
    return values


def first_difference(then: Any, now: Any, name: str = "") -> str | None:
    """Where two values differ, in words, or None: of dicts, which entry, at any depth."""
    then, now = (json.loads(json.dumps(value)) for value in (then, now))  # a tuple in a card is a list
    if isinstance(then, dict) and isinstance(now, dict):
        differences = (first_difference(then.get(key), now.get(key), f"{name}.{key}" if name else key) for key in now)
        return next(filter(None, differences), None)
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        differences = (
            first_difference(*pair, f"{name}[{number}]") for number, pair in enumerate(zip(then, now, strict=True))
        )
        return next(filter(None, differences), None)
    return None if then == now else f"{name} was {then}, and is {now} now"
