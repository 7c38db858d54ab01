"""The study's models: how each is built, which code makes it, and where its weights lie."""

from pathlib import Path

import torch
from torch import nn

from petseg_utils.autoencoder import Autoencoder, PretrainedUNet
from petseg_utils.decoder import Decoder, FrozenSegmenter
from petseg_utils.encoders import load_encoder
from petseg_utils.memory import keep_freed_memory
from petseg_utils.point_decoder import PointSegmenter
from petseg_utils.provenance import code_fingerprint
from petseg_utils.study import PetsegError, Study, TrainingSettings, recorded_settings
from petseg_utils.training import load_weights, read_card, save_checkpoint
from petseg_utils.unet import UNet

MODELS = ("unet", "autoencoder", "autoencoder_unet", "clip", "clip_selftrained", "point")
ON_FROZEN_ENCODER = ("clip", "clip_selftrained", "point")
SHIPPED = Path(__file__).parent / "weights"
ABOUT = {
    "source": "Oxford-IIIT Pet, by Parkhi, Vedaldi, Zisserman and Jawahar, CVPR 2012",
    "licence": "CC BY-SA 4.0, as the data",
    "limits": "One cat or dog, most of it in view, in a photo as people take them. Few breeds had true masks; of the "
    "others masks were proposed by a model. Two animals of one photo are not told apart. Not for other animals.",
}


def run_folder(model: str, study: Study, seed: int) -> Path:
    """Folder of one training run."""
    return study.runs_dir / f"{model}-seed{seed}"


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


def build(model: str, settings: TrainingSettings, encoder: str | None = None, image_size: int = 224) -> nn.Module:
    """A model with random first weights; one on a frozen encoder wants to know which, and for pictures of what size."""
    if model not in MODELS:
        raise PetsegError(f"No model {model!r}; it is one of {', '.join(MODELS)}.")
    keep_freed_memory()
    if model == "unet":
        return UNet(settings.width)
    if model == "autoencoder":
        return Autoencoder(settings.width, skips=settings.skips)
    if model == "autoencoder_unet":
        return PretrainedUNet(settings.width, frozen=settings.frozen)
    frozen, prompted = load_encoder(encoder, image_size), model == "point"
    options = {"width": settings.width, "maps": tuple(settings.maps), "stem": settings.stem}
    return (PointSegmenter if prompted else FrozenSegmenter)(
        frozen, Decoder(frozen.channels, frozen.strides, **options)
    )


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


def ship(model: str, study: Study, seed: int, records: list[dict], slot: str | None = None) -> Path:
    """Copy a run's best weights, as float16, to the weights that ship with the package.

    Parameters
    ----------
    model, study, seed
        Which run.
    records : list of dict
        Of its evaluation on the test split; the card repeats their scores.
    slot : str, optional
        The model as which it is to be found; `model` by default.

    Returns
    -------
    Path
        The written ``.safetensors`` file; its card lies beside it.
    """
    network, card = load(run_folder(model, study, seed) / "best.safetensors")
    for parameter in network.parameters():  # running variances stay as they are: they may exceed float16's range
        parameter.data = parameter.data.half()
    test = {
        f"{record['subset']}, {record['protocol']}": {"n_images": record["n_images"]}
        | {key: record["scores"][key] for key in ("miou", "dice", "accuracy")}
        for record in records
    }
    about = {"model": slot or model, "trained_as": model, "stored_as": "float16", "test": test}
    about |= {"clicks": records[0]["clicks"]} if "clicks" in records[0] else {}
    path = SHIPPED / f"{slot or model}.safetensors"
    save_checkpoint(path, network, card | about | ABOUT)
    return path


def code(model: str) -> str:
    """Fingerprint of the modules that decide what a trained model becomes."""
    data = ("datasets", "audit", "transforms", "pictures", "examples", "metrics", "evaluation", "training")
    if model == "unet":
        return code_fingerprint(*data, "unet")
    if model not in ON_FROZEN_ENCODER:
        return code_fingerprint(*data, "unlabelled", "unet", "autoencoder")
    prompted = ("point_decoder", "prompts", "prompt_training", "clicks") if model == "point" else ()
    return code_fingerprint(*data, "unlabelled", "encoders", "lite", "features", "decoder", *prompted)
