"""The conditions on which a run's weights depend: a run is resumed or reused only if all of them are the same."""

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

# All of these are in the card.  `version` is the recipe's.
CONDITIONS = (
    "model", "version", "seed", "settings", "precision", "encoder", "image_size",
    "data", "n_images", "extra", "unlabelled", "start",
)  # fmt: skip


def conditions_in(card: dict) -> dict:
    """Return the conditions on which the weights of a card depend.

    A card from before recipes had versions counts as version 1; settings that did not exist then get their defaults.
    """
    before = {"version": 1, "encoder": card.get("encoder_spec")}  # the older name, in cards of runs to start from
    values = {key: card.get(key, before.get(key)) for key in CONDITIONS}
    with contextlib.suppress(ValidationError):  # settings that no longer exist stay as they are, and so differ
        values["settings"] = values["settings"] and asdict(TrainingSettings(**values["settings"]))
    values["start"] = [conditions_in(base) for base in values["start"] or []]
    return values


def first_difference(then: Any, now: Any, name: str = "") -> str | None:
    """Say where two values differ, naming the entry at any depth of dicts and lists; None if they are equal."""
    then, now = (json.loads(json.dumps(value)) for value in (then, now))  # a card has lists in place of tuples
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
    """Return everything on which a run's weights depend, keyed by the names in `CONDITIONS`.

    Parameters
    ----------
    recipe, study, seed, splits, settings, extra
        As for `train.train`.
    start : dict, optional
        Card of the checkpoint from which the run starts; by default the study's own run of that model.
    teacher : dict, optional
        Card of the checkpoint that proposes masks, if it is not one of the study's.
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
    """Return the number and the fingerprint of some pictures, for a card; None if there are none."""
    return {"n_images": len(pictures), "fingerprint": pictures.fingerprint} if pictures else None
