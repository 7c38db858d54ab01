"""Train, find and load the study's models."""

import functools
from pathlib import Path

import torch
from torch import nn

from petseg_utils.autoencoder import psnr, reconstruct, reconstruction_loss
from petseg_utils.checkpoints import ON_FROZEN_ENCODER, build, code, load, run_folder, study_settings
from petseg_utils.clicks import clicked_scores
from petseg_utils.encoders import resolve
from petseg_utils.evaluation import segmentation_loss, validation_scores
from petseg_utils.examples import CachedPictures, TrainingPictures
from petseg_utils.features import JoinedFeatures, load_features
from petseg_utils.pictures import PictureSet, load_splits
from petseg_utils.prompt_training import prompted_loss
from petseg_utils.provenance import git_commit, versions
from petseg_utils.study import PetsegError, Study, TrainingSettings, recorded_settings
from petseg_utils.training import fit, read_card
from petseg_utils.unlabelled import join, propose_masks, read_unlabelled, unlabelled_folder


def train(
    model: str,
    study: Study,
    seed: int,
    splits: dict[str, PictureSet],
    *,
    settings: TrainingSettings | None = None,
    folder: Path | None = None,
    start: Path | None = None,
    extra: PictureSet | None = None,
    resume: bool = False,
    progress: bool = True,
) -> nn.Module:
    """Train a model of the study, or go on with a run that was cut.

    Parameters
    ----------
    model : str
        One of `MODELS`.
    study : Study
        Gives the settings, and the encoder.
    seed : int
        First weights, order of pictures and augmentation.
    splits : dict
        ``train`` and ``validation`` pictures, from `pictures.load_splits`.
    settings : TrainingSettings, optional
        Instead of the study's, for a search over them.
    folder : Path, optional
        Instead of the run's own folder.
    start : Path, optional
        Checkpoint to start from, instead of the study's own, which is trained if need be: for ``autoencoder_unet`` the
        autoencoder's, for ``point`` that of the decoder without prompts.
    extra : PictureSet, optional
        Further labelled pictures to learn from, from `extra.read_extra`.
    resume, progress : bool
        See `training.fit`.

    Returns
    -------
    nn.Module
        The weights of the best epoch.
    """
    settings = settings or study_settings(model, study)
    folder = folder or run_folder(model, study, seed)
    labelled, validation = splits["train"], splits["validation"]
    more, spec, held, pretraining = None, None, None, None
    if model == "clip_selftrained":
        more = proposed_masks(study, splits, progress)
    elif model == "autoencoder" and unlabelled_folder():
        more = unlabelled_pictures(splits, labelled.images.shape[1], progress)
    elif model == "autoencoder_unet":
        start = start or trained_checkpoint("autoencoder", study, seed, splits, progress=progress)
    elif model == "point":
        start = start or trained_checkpoint(before_point(study), study, seed, splits, progress=progress)
    parts = [part for part in (labelled, extra, more) if part]
    data = functools.reduce(join, parts)
    torch.manual_seed(seed)
    examples = TrainingPictures(data, seed)
    if model in ON_FROZEN_ENCODER:
        spec = resolve(study.encoder)
    network = build(model, settings, spec, labelled.images.shape[1])
    if spec:
        held = load_features(network.encoder, validation, progress=progress)
        if settings.cache:
            cached = tuple(load_features(network.encoder, part, progress=progress) for part in parts)
            examples = CachedPictures(data, JoinedFeatures(cached), seed)
    if start:
        before, about = load(start)
        if model == "point":
            if about["settings"]["width"] != settings.width:
                raise PetsegError(
                    f"The point model of width {settings.width} cannot start from a decoder of width "
                    f"{about['settings']['width']}: give [point] the width of [clip], or PETSEG_UNLABELLED pictures "
                    "for a [clip_selftrained] of its width."
                )
            network.start_from(before.decoder)
        else:
            network.encoder.load_state_dict(before.encoder.state_dict())
        pretraining = {key: about[key] for key in ("data", "n_images", "more", "settings", "epoch", "training_seconds")}
    loss, validate, score = (
        functools.partial(segmentation_loss, dice=settings.dice),
        lambda fitted: validation_scores(fitted, validation, held),
        "miou",
    )
    if model == "autoencoder":
        loss = functools.partial(reconstruction_loss, crop=settings.crop, hidden=settings.hidden)
        validate, score = (
            lambda fitted: {"psnr": float(psnr(validation, reconstruct(fitted, validation)).mean())},
            "psnr",
        )
    elif model == "point":
        loss = functools.partial(prompted_loss, dice=settings.dice)
        validate, score = lambda fitted: clicked_scores(fitted, validation, held), "clicked"
    card = {
        "model": model,
        "encoder": network.encoder.identity if spec else None,
        "encoder_spec": spec,
        "study": study.name,
        "image_size": labelled.images.shape[1],
        "data": labelled.fingerprint,
        "extra": {"n_images": len(extra), "fingerprint": extra.fingerprint} if extra else None,
        "more": {"n_images": len(more), "fingerprint": more.fingerprint} if more else None,
        "pretraining": pretraining,
        "n_images": len(labelled),
        "n_breeds": int(labelled.table["breed"].nunique()),
        "skipped": [finding.name for finding in data.skipped],
        "code": code(model),
        "versions": versions(),
        "commit": git_commit(),
    }
    fit(
        network,
        examples,
        loss,
        validate,
        settings,
        folder,
        seed=seed,
        card=card,
        score=score,
        resume=resume,
        progress=progress,
    )
    return load(folder / "best.safetensors")[0]  # as anybody else gets it: in full precision, out of Accelerate's hands


def trained(model: str, study: Study, seed: int, splits: dict[str, PictureSet], *, progress: bool = True) -> nn.Module:
    """The study's model: loaded if a finished run of the same data, settings and code is there, else trained now."""
    return load(trained_checkpoint(model, study, seed, splits, progress=progress))[0]


def trained_checkpoint(
    model: str, study: Study, seed: int, splits: dict[str, PictureSet], *, progress: bool = True
) -> Path:
    """Checkpoint of the study's model, which is trained first where `trained` would."""
    path = run_folder(model, study, seed) / "best.safetensors"
    if path.is_file() and path.with_suffix(".json").is_file():
        card = read_card(path)
        wanted = {"data": splits["train"].fingerprint, "code": code(model), "image_size": study.image_size}
        if model in ON_FROZEN_ENCODER:
            wanted["encoder_spec"] = resolve(study.encoder)
        same = all(card.get(key) == value for key, value in wanted.items())
        same = same and recorded_settings(card["settings"]) == study_settings(model, study)
        if model == "autoencoder":
            same = same and bool(card["more"]) == bool(unlabelled_folder())
        if model == "point":
            before = study_settings(before_point(study), study)
            same = same and recorded_settings(card["pretraining"]["settings"]) == before
        if model == "autoencoder_unet":
            same = same and bool(card["pretraining"]["more"]) == bool(unlabelled_folder())
            same = same and recorded_settings(card["pretraining"]["settings"]) == study.autoencoder
        if "training_seconds" in card and same:
            print(f"Loaded the checkpoint of epoch {card['epoch']}, trained with the same data, settings and code.")
            return path
    train(model, study, seed, splits, resume=False, progress=progress)
    return path


def before_point(study: Study) -> str:
    """The model that the point-prompt model starts from: of the decoders of its width the self-trained one.

    That one needs pictures without masks; where there are none, or where it has another width, it is ``clip``.
    """
    selftrained = study.clip_selftrained
    fits = selftrained is not None and selftrained.width == study.point.width
    return "clip_selftrained" if fits and unlabelled_folder() else "clip"


def unlabelled_pictures(splits: dict[str, PictureSet], size: int, progress: bool) -> PictureSet:
    """Pictures of ``PETSEG_UNLABELLED`` that are in no split."""
    folder = unlabelled_folder()
    if folder is None:
        raise PetsegError("clip_selftrained needs pictures without masks: PETSEG_UNLABELLED names their folder.")
    known = set().union(*(part.table["name"] for part in splits.values()))
    return read_unlabelled(folder, size, leave_out=known, progress=progress)


def proposed_masks(study: Study, splits: dict[str, PictureSet], progress: bool) -> PictureSet:
    """Pictures without masks, with masks that the study's decoders of all seeds propose together."""
    more = unlabelled_pictures(splits, study.image_size, progress)
    teachers = [trained("clip", study, seed, splits, progress=progress) for seed in study.seeds]
    features = load_features(teachers[0].encoder, more, progress=progress)
    return propose_masks(teachers, more, features, progress=progress)


def study_splits(study: Study, **options) -> dict[str, PictureSet]:
    """The study's three splits; the embedded pictures are drawn first where they are not there yet."""
    draw_study_data(study, progress=options.get("progress", True))
    return load_splits(study, **options)


def draw_study_data(study: Study, *, progress: bool = True) -> None:
    """Draw the embedded pictures of a study that uses them; nothing to do where they are there, or for real data."""
    if study.draws_its_data:
        from petseg_utils.sample import draw_sample

        draw_sample(study.data_dir, study.sample_trainval, study.sample_test, progress=progress)
