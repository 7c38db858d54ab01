"""Train, find and load the study's models."""

from functools import partial
from pathlib import Path

import torch
from torch import nn

from petseg_utils.autoencoder import Autoencoder, PretrainedUNet, psnr, reconstruct, reconstruction_loss
from petseg_utils.decoder import Decoder, FrozenSegmenter
from petseg_utils.encoders import load_encoder, resolve
from petseg_utils.evaluation import segmentation_loss, validation_scores
from petseg_utils.examples import CachedPictures, TrainingPictures
from petseg_utils.features import load_features
from petseg_utils.pictures import PictureSet, load_splits
from petseg_utils.provenance import code_fingerprint, git_commit, versions
from petseg_utils.study import PetsegError, Study, TrainingSettings, recorded_settings
from petseg_utils.training import fit, load_weights, read_card, save_checkpoint
from petseg_utils.unet import UNet
from petseg_utils.unlabelled import join, propose_masks, read_unlabelled, unlabelled_folder

MODELS = ("unet", "autoencoder", "autoencoder_unet", "clip", "clip_selftrained")
ON_FROZEN_ENCODER = ("clip", "clip_selftrained")
SHIPPED = Path(__file__).parent / "weights"


def run_folder(model: str, study: Study, seed: int) -> Path:
    """Folder of one training run."""
    return study.runs_dir / f"{model}-seed{seed}"


def train(
    model: str,
    study: Study,
    seed: int,
    splits: dict[str, PictureSet],
    *,
    settings: TrainingSettings | None = None,
    folder: Path | None = None,
    start: Path | None = None,
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
        For ``autoencoder_unet``: the autoencoder's checkpoint, instead of the study's own, which is trained if need be.
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
        more = proposed_masks(study, seed, splits, progress)
    elif model == "autoencoder" and unlabelled_folder():
        more = unlabelled_pictures(splits, labelled.images.shape[1], progress)
    elif model == "autoencoder_unet":
        start = start or trained_checkpoint("autoencoder", study, seed, splits, progress=progress)
    data = join(labelled, more) if more else labelled
    torch.manual_seed(seed)
    examples = TrainingPictures(data, seed)
    if model in ON_FROZEN_ENCODER:
        spec = resolve(study.encoder)
    network = build(model, settings, spec, labelled.images.shape[1])
    if spec:
        held = load_features(network.encoder, validation, progress=progress)
        if study.feature_cache:
            examples = CachedPictures(data, load_features(network.encoder, data, progress=progress), seed)
    if start:
        autoencoder, about = load(start)
        network.encoder.load_state_dict(autoencoder.encoder.state_dict())
        pretraining = {key: about[key] for key in ("data", "n_images", "more", "settings", "epoch", "training_seconds")}
    loss, validate, score = (
        partial(segmentation_loss, dice=settings.dice),
        lambda fitted: validation_scores(fitted, validation, held),
        "miou",
    )
    if model == "autoencoder":
        loss = partial(reconstruction_loss, crop=settings.crop, hidden=settings.hidden)
        validate, score = (
            lambda fitted: {"psnr": float(psnr(validation, reconstruct(fitted, validation)).mean())},
            "psnr",
        )
    card = {
        "model": model,
        "encoder": network.encoder.identity if spec else None,
        "encoder_spec": spec,
        "feature_cache": study.feature_cache if spec else None,
        "study": study.name,
        "image_size": labelled.images.shape[1],
        "data": labelled.fingerprint,
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
            wanted |= {"encoder_spec": resolve(study.encoder), "feature_cache": study.feature_cache}
        same = all(card.get(key) == value for key, value in wanted.items())
        same = same and recorded_settings(card["settings"]) == study_settings(model, study)
        if model == "autoencoder":
            same = same and bool(card["more"]) == bool(unlabelled_folder())
        if model == "autoencoder_unet":
            same = same and bool(card["pretraining"]["more"]) == bool(unlabelled_folder())
            same = same and recorded_settings(card["pretraining"]["settings"]) == study.autoencoder
        if "training_seconds" in card and same:
            print(f"Loaded the checkpoint of epoch {card['epoch']}, trained with the same data, settings and code.")
            return path
    train(model, study, seed, splits, resume=False, progress=progress)
    return path


def find_checkpoint(model: str, study: Study | None, seed: int | None = None) -> Path:
    """Weights for a model: the study's own run, else those that ship if this study made them.

    Parameters
    ----------
    model : str
        One of `MODELS`.
    study : Study or None
        None means the weights that ship.
    seed : int, optional
        The study's first seed by default.

    Raises
    ------
    PetsegError
        If there are none; the message says how to train them.
    """
    shipped = SHIPPED / f"{model}.safetensors"
    if study is None:
        if shipped.is_file():
            return shipped
        raise PetsegError(f"No weights ship for {model}. Train it: petseg train {model}, and name the study.")
    seed = study.seeds[0] if seed is None else seed
    own = run_folder(model, study, seed) / "best.safetensors"
    if own.is_file():
        return own
    if shipped.is_file() and all(
        read_card(shipped)[key] == value for key, value in (("study", study.name), ("seed", seed))
    ):
        return shipped
    raise PetsegError(
        f"Study {study.name!r} has no trained {model} with seed {seed}. "
        f"Train it: petseg train {model} --study {study.name} --seed {seed}"
    )


def ship(model: str, study: Study, seed: int) -> Path:
    """Copy a run's best weights, as float16, to the weights that ship with the package.

    Returns
    -------
    Path
        The written ``.safetensors`` file; its card lies beside it.
    """
    path = run_folder(model, study, seed) / "best.safetensors"
    network, card = load(path)
    for parameter in network.parameters():  # running variances stay as they are: they may exceed float16's range
        parameter.data = parameter.data.half()
    save_checkpoint(SHIPPED / f"{model}.safetensors", network, card | {"stored_as": "float16"})
    return SHIPPED / f"{model}.safetensors"


def load(path: Path) -> tuple[nn.Module, dict]:
    """Load a checkpoint: the model, in evaluation mode on the best device there is, and its card.

    Raises
    ------
    PetsegError
        If the file or its card is missing, damaged, or of another model.
    """
    card = read_card(path)
    network = build(card["model"], recorded_settings(card["settings"]), card.get("encoder_spec"), card["image_size"])
    if card["encoder"] and network.encoder.identity != card["encoder"]:
        raise PetsegError(f"{path.name} was trained on {card['encoder']}; here is {network.encoder.identity}.")
    load_weights(network, path)
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return network.to(device, memory_format=torch.channels_last).eval(), card


def build(model: str, settings: TrainingSettings, encoder: str | None = None, image_size: int = 224) -> nn.Module:
    """A model with random first weights; one on a frozen encoder wants to know which, and for pictures of what size."""
    if model not in MODELS:
        raise PetsegError(f"No model {model!r}; it is one of {', '.join(MODELS)}.")
    if model == "unet":
        return UNet(settings.width)
    if model == "autoencoder":
        return Autoencoder(settings.width, skips=settings.skips)
    if model == "autoencoder_unet":
        return PretrainedUNet(settings.width, frozen=settings.frozen)
    frozen = load_encoder(encoder, image_size)
    decoder = Decoder(
        frozen.channels, frozen.strides, width=settings.width, maps=tuple(settings.maps), stem=settings.stem
    )
    return FrozenSegmenter(frozen, decoder)


def study_settings(model: str, study: Study) -> TrainingSettings:
    """How a study trains a model.

    Raises
    ------
    PetsegError
        If there is no such model, or the study does not train it.
    """
    if model not in MODELS:
        raise PetsegError(f"No model {model!r}; it is one of {', '.join(MODELS)}.")
    if getattr(study, model) is None:
        raise PetsegError(f"Study {study.name!r} has no settings [{model}]; oxford-cpu has.")
    return getattr(study, model)


def unlabelled_pictures(splits: dict[str, PictureSet], size: int, progress: bool) -> PictureSet:
    """Pictures of ``PETSEG_UNLABELLED`` that are in no split."""
    folder = unlabelled_folder()
    if folder is None:
        raise PetsegError("clip_selftrained needs pictures without masks: PETSEG_UNLABELLED names their folder.")
    known = set().union(*(part.table["name"] for part in splits.values()))
    return read_unlabelled(folder, size, leave_out=known, progress=progress)


def proposed_masks(study: Study, seed: int, splits: dict[str, PictureSet], progress: bool) -> PictureSet:
    """Pictures without masks, with masks by the study's decoder of the same seed."""
    more = unlabelled_pictures(splits, study.image_size, progress)
    return propose_masks(trained("clip", study, seed, splits, progress=progress), more, progress=progress)


def code(model: str) -> str:
    """Fingerprint of the modules that decide what a trained model becomes."""
    own = {"unet": ("unet",), "autoencoder": ("unet", "autoencoder"), "autoencoder_unet": ("unet", "autoencoder")}
    data = ("datasets", "audit", "transforms", "pictures", "unlabelled", "examples")
    return code_fingerprint(*data, "metrics", "evaluation", "training", *own.get(model, ("encoders", "features", "decoder")))


def study_splits(study: Study, **options) -> dict[str, PictureSet]:
    """The study's three splits; the embedded pictures are drawn first where they are not there yet."""
    draw_study_data(study, progress=options.get("progress", True))
    return load_splits(study, **options)


def draw_study_data(study: Study, *, progress: bool = True) -> None:
    """Draw the embedded pictures of a study that uses them; nothing to do where they are there, or for real data."""
    if study.draws_its_data:
        from petseg_utils.sample import draw_sample

        draw_sample(study.data_dir, study.sample_trainval, study.sample_test, progress=progress)
