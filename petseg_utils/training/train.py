"""Train a model of the study, or load it if its run is current."""

import functools
import logging
from pathlib import Path
from typing import cast

import torch
from torch import nn

from petseg_utils.data.parallel import place, share
from petseg_utils.data.pictures import PictureSet, join
from petseg_utils.data.unlabelled import list_unlabelled, read_unlabelled
from petseg_utils.models.cards import read_card
from petseg_utils.models.encoders import Encoder, load_encoder, resolve
from petseg_utils.models.feature_cache import Features, load_features
from petseg_utils.study import PetsegError, Study, TrainingSettings
from petseg_utils.study.provenance import git_commit, versions
from petseg_utils.training.batches import TrainingPictures, augmented, draw_examples, mirrored
from petseg_utils.training.checkpoints import load, run_folder, writing_run
from petseg_utils.training.conditions import conditions, conditions_in, described, first_difference
from petseg_utils.training.loop import fit
from petseg_utils.training.recipe import Recipe
from petseg_utils.training.recipes import recipe_of
from petseg_utils.training.self_training import propose_masks

log = logging.getLogger(__name__)


def train(
    model: str | Recipe,
    study: Study,
    seed: int,
    splits: dict[str, PictureSet],
    *,
    settings: TrainingSettings | None = None,
    folder: Path | None = None,
    start: Path | None = None,
    teacher: Path | None = None,
    extra: dict[str, PictureSet] | None = None,
    length: int | None = None,
    resume: bool = False,
    progress: bool = True,
) -> nn.Module:
    """Train a model of the study, or continue an interrupted run.

    Several processes connected by `process.together` train one model, the same one as a single process would.

    Parameters
    ----------
    model : str or Recipe
        A name in `models.names.TITLES`, or the recipe of your own model.
    seed : int
        Seed for the initial weights, the order of pictures and augmentation.
    splits : dict
        ``train`` and ``validation`` pictures, from `pictures.load_splits`.
    settings : TrainingSettings, optional
        Settings to use instead of the study's, for instance in a search over them.
    folder : Path, optional
        Folder to write to instead of the run's own.
    start : Path, optional
        Checkpoint to start from instead of the study's own, which is trained first if needed: for ``autoencoder_unet``
        the autoencoder's, for ``point`` that of the decoder without prompts.
    teacher : Path, optional
        Checkpoint that proposes masks for pictures without masks, if the settings use such pictures (``unlabelled``).
    extra : dict of str to PictureSet, optional
        Further labelled pictures, ``train`` and ``validation``, from `extra_labels.read_extra`.
    length : int, optional
        Examples per epoch, if not one for each picture.
    resume, progress : bool
        See `loop.Run`.

    Returns
    -------
    nn.Module
        The model with the weights of the best epoch.
    """
    recipe = recipe_of(model) if isinstance(model, str) else model
    settings = settings or study.settings(recipe.name)
    folder = folder or run_folder(recipe.name, study, seed)
    labelled, validation = splits["train"], splits["validation"]
    added = extra["train"] if extra else None
    if extra:
        validation = join(validation, extra["validation"])
    if recipe.starts_from and start is None:
        start = trained_checkpoint(recipe.starts_from(study), study, seed, splits, progress=progress)
    told = progress and place()[0] == 0  # for work that every process does; caches are made and reported by one process
    proposed = unlabelled_pictures(recipe, study, splits, settings, teacher, progress=told)
    data = functools.reduce(join, [part for part in (labelled, added, proposed) if part])
    rows = (
        repeated(len(data) - len(proposed), len(proposed), settings.unlabelled)
        if proposed and settings.unlabelled
        else None
    )
    torch.manual_seed(seed)
    encoder = load_encoder(study.encoder, labelled.images.shape[1]) if recipe.on_frozen_encoder else None
    network = recipe.build(settings, encoder)
    scale = encoder.scale if encoder else 1
    features, make = None, augmented(settings, scale)
    if settings.examples:
        data, rows = draw_examples(data, make, seed, settings.examples, rows, scale=scale, progress=told), None
    if encoder:
        features = load_features(encoder, validation, study.cache_dir, progress=progress)
        if settings.cache:
            make = mirrored(load_features(encoder, data, study.cache_dir, mirrored=True, progress=progress))
    before: dict | None = None
    if start:
        if recipe.start is None:
            raise PetsegError(f"{recipe.name} does not start from other weights: leave out --start.")
        base, before = load(start)
        recipe.start(network, base)
    taught = read_card(teacher) if teacher else None
    made_under = conditions(recipe, study, seed, splits, settings=settings, extra=added, start=before, teacher=taught)
    own, held = _own_part(validation, features)
    card = made_under | {
        "encoder_spec": resolve(study.encoder) if encoder else None,
        "study": study.name,
        "n_breeds": int(labelled.table["breed"].nunique()),
        "more": described(proposed),
        "pretraining": before and {key: before.get(key) for key in _OF_PRETRAINING},
        "skipped": [finding.name for finding in data.skipped],
        "versions": versions(),
        "commit": git_commit(),
    }
    with writing_run(folder):
        fit(
            network,
            TrainingPictures(data, seed, make, length, rows),
            lambda network, batch: recipe.loss(network, batch, settings),
            lambda fitted: recipe.validate(fitted, own, held),
            settings,
            folder,
            seed=seed,
            card=card,
            score=recipe.score,
            resume=resume,
            progress=progress,
        )
    return load(folder / "best.safetensors", recipe)[0]  # loaded from its file, as any later caller gets it


_OF_PRETRAINING = ("data", "n_images", "more", "settings", "epoch", "training_seconds")


def _own_part(pictures: PictureSet, features: Features | None) -> tuple[PictureSet, Features | None]:
    """Return the pictures on which this process validates, its share of all, with their features if there are any."""
    processes, rows = place()[1], share(len(pictures))
    if processes == 1:
        return pictures, features
    if len(pictures) < processes:
        raise PetsegError(
            f"{len(pictures)} validation pictures are too few for {processes} processes: start at most {len(pictures)}."
        )
    return pictures.subset(pictures.table["name"][rows].tolist()), features and features.taken(rows)


def trained(model: str, study: Study, seed: int, splits: dict[str, PictureSet], *, progress: bool = True) -> nn.Module:
    """Return the study's model: loaded if there is a complete run under the same conditions, else trained now."""
    return load(trained_checkpoint(model, study, seed, splits, progress=progress))[0]


def trained_checkpoint(
    model: str, study: Study, seed: int, splits: dict[str, PictureSet], *, progress: bool = True
) -> Path:
    """Return the checkpoint of the study's model, which is trained first if `trained` would train it."""
    path = run_folder(model, study, seed) / "best.safetensors"
    lacks = what_lacks(model, study, seed, splits)
    if lacks is None:
        epoch = read_card(path)["epoch"]
        log.info("Loaded the checkpoint of epoch %s, trained under the same conditions.", epoch)
        return path
    if lacks != NO_RUN:
        log.info("Trained anew: %s.", lacks)
    train(model, study, seed, splits, resume=False, progress=progress)
    return path


NO_RUN, CUT = "there is no run", "the previous run did not finish"


def what_lacks(model: str, study: Study, seed: int, splits: dict[str, PictureSet]) -> str | None:
    """Say why the study's own run of a model is not current; None if it is.

    Returns `NO_RUN` if there is no run, `CUT` if it was started under the same conditions but not completed, else what
    differs.
    """
    path = run_folder(model, study, seed) / "best.safetensors"
    if not (path.is_file() and path.with_suffix(".json").is_file()):
        return NO_RUN
    return why_stale(read_card(path), conditions(recipe_of(model), study, seed, splits))


def why_stale(card: dict, wanted: dict) -> str | None:
    """Say why a card is not that of a complete run under the `wanted` `conditions.conditions`; None if it is."""
    return first_difference(conditions_in(card), wanted) or (None if "training_seconds" in card else CUT)


def unlabelled_pictures(
    recipe: Recipe,
    study: Study,
    splits: dict[str, PictureSet],
    settings: TrainingSettings,
    teacher: Path | None = None,
    *,
    progress: bool = True,
) -> PictureSet | None:
    """Return the pictures without masks that a model learns from, with proposed masks if it has teachers; or None.

    Parameters
    ----------
    recipe, study, splits, settings
        As for `train`.
    teacher : Path, optional
        Checkpoint that proposes masks for pictures without masks, if the settings use such pictures.

    Raises
    ------
    PetsegError
        If the model needs such pictures or a teacher and there is none.
    """
    required = recipe.unlabelled == "required" or settings.unlabelled > 0
    if not required and not (recipe.unlabelled and study.unlabelled_dir):
        return None
    if study.unlabelled_dir is None:
        raise PetsegError(f"{recipe.name} needs pictures without masks: set PETSEG_UNLABELLED to their folder.")
    if settings.unlabelled and teacher is None:
        raise PetsegError(f"{recipe.name} needs a checkpoint that proposes masks for them: give it with --teacher.")
    pictures = read_unlabelled(
        list_unlabelled(study.unlabelled_dir, splits),
        splits["train"].images.shape[1],
        scale=study.picture_scale,
        progress=progress,
    )
    if teacher:
        teachers = [load(teacher)[0]]
    elif recipe.teacher:
        teachers = [trained(recipe.teacher, study, seed, splits, progress=progress) for seed in study.seeds]
    else:
        return pictures
    encoder = cast(Encoder, teachers[0].encoder)
    features = load_features(encoder, pictures, study.cache_dir, mirrored=True, progress=progress)
    return propose_masks(teachers, pictures, features, progress=progress)


def repeated(n_labelled: int, n_others: int, share: float) -> list[int]:
    """Return the labelled rows, repeated so that the others, each once, make up about a `share` of all; then those."""
    times = max(1, round(n_others * (1 - share) / share / n_labelled))
    return [*range(n_labelled)] * times + [*range(n_labelled, n_labelled + n_others)]
