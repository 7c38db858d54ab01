"""What a run's weights depend on: a cut run goes on, and a trained one is used, only where all of it is the same."""

import contextlib
import json
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.unlabelled import files_identity, list_unlabelled
from petseg_utils.models.encoders import encoder_identity
from petseg_utils.study import Study, TrainingSettings
from petseg_utils.training.precision import chosen_precision
from petseg_utils.training.recipe import Recipe
from petseg_utils.training.recipes import recipe_of

# All of it is in the card.  `version` is the recipe's.
CONDITIONS = (
    "model", "version", "seed", "settings", "precision", "encoder", "image_size",
    "data", "n_images", "extra", "unlabelled", "start",
)  # fmt: skip


def conditions_in(card: dict) -> dict:
    """What the weights of a card depend on.

    A card from before recipes had versions is of version 1, and settings that did not exist then had their defaults.
    """
    before = {"version": 1, "encoder": card.get("encoder_spec")}  # what cards of runs to start from called it
    values = {key: card.get(key, before.get(key)) for key in CONDITIONS}
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


def conditions(
    recipe: Recipe,
    study: Study,
    seed: int,
    splits: dict[str, PictureSet],
    *,
    settings: TrainingSettings | None = None,
    extra: PictureSet | None = None,
    start: dict | None = None,
    teacher: dict | None = None,
) -> dict:
    """Everything that a run's weights depend on, by the names of `CONDITIONS`.

    Parameters
    ----------
    recipe, study, seed, splits, settings, extra
        As for `train.train`.
    start : dict, optional
        Card of the checkpoint it starts from; by default that is the study's own.
    teacher : dict, optional
        Card of the checkpoint that proposes masks, where it is none of the study's.
    """
    settings, labelled, folder = settings or study.settings(recipe.name), splits["train"], study.unlabelled_dir
    uses_unlabelled = bool(recipe.unlabelled or settings.unlabelled)
    bases = []
    if start:
        bases = [conditions_in(start)]
    elif recipe.starts_from:
        bases = [conditions(recipe_of(recipe.starts_from(study)), study, seed, splits)]
    if teacher:
        bases.append(conditions_in(teacher))
    if recipe.teacher:
        bases += [conditions(recipe_of(recipe.teacher), study, other, splits) for other in study.seeds]
    return {
        "model": recipe.name,
        "version": recipe.version,
        "seed": seed,
        "settings": asdict(settings),
        "precision": chosen_precision(settings),
        "encoder": encoder_identity(study.encoder) if recipe.on_frozen_encoder else None,
        "image_size": int(labelled.images.shape[1]),
        "data": labelled.fingerprint,
        "n_images": len(labelled),
        "extra": described(extra),
        "unlabelled": files_identity(list_unlabelled(folder, splits)) if uses_unlabelled and folder else None,
        "start": bases,
    }


def described(pictures: PictureSet | None) -> dict | None:
    """Number and fingerprint of some pictures, for a card."""
    return {"n_images": len(pictures), "fingerprint": pictures.fingerprint} if pictures else None
