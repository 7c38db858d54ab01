"""What a study needs, estimated before it starts: downloads, disk, memory and hours, from its settings."""

import functools
import json
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import torch
from torch import nn

from petseg_utils.data.datasets import OFFICIAL_COUNTS
from petseg_utils.experiments.few_labels import small_study
from petseg_utils.experiments.robustness.sweep import COMPARED, sweep_steps
from petseg_utils.experiments.study_records import committed_records
from petseg_utils.models.click_head import PointSegmenter
from petseg_utils.models.encoders import Encoder, load_encoder, resolve
from petseg_utils.models.feature_cache import picture_bytes
from petseg_utils.models.names import encoder_title, titled
from petseg_utils.scores.clicks import DIALOGUES, MOST_CLICKS, NATURAL
from petseg_utils.study import ROOT, Study, TrainingSettings, load_study
from petseg_utils.training.export import operations_of
from petseg_utils.training.recipes import recipe_of

PHOTOS_GB = 0.8  # download, from the authors' server
BACKWARD = 3  # a training step costs about this many forward passes
VARIANTS = 4  # of the autoencoder, in notebook 03
MACHINES = {"oxford-cpu": "two CPU cores", "oxford-gpu": "one H100"}
REHEARSED = ROOT / "figures" / "oxford" / "rehearsal.json"  # written by tools.rehearse
ENCODED = ("decoder", "decoder_selftrained", "point")


def plan(study: Study) -> str:
    """Return what a study on the whole of Oxford-IIIT Pet needs, as text for the terminal.

    Work is counted in the networks' operations.  How many of them a machine does in a second is derived from a training
    run on it in the committed records (`MACHINES`).

    Parameters
    ----------
    study : Study
        A study on photos; its encoder's weights need not be on disk.
    """
    encoder = blank_encoder(study)
    sizes, work = disk(study, encoder), operations(study, encoder)
    rates = {machine: operations_a_second(name) for name, machine in MACHINES.items()}
    hours = pd.DataFrame({machine: work / rate / 3600 for machine, rate in rates.items()})
    hours.loc["all"] = hours.sum()
    kinds = sum(1 for _ in sweep_steps())
    swept = study.robustness.pictures or OFFICIAL_COUNTS["test"]
    lines = [
        f"Study {study.name}: {OFFICIAL_COUNTS['trainval']:,} + {OFFICIAL_COUNTS['test']:,} photos at "
        f"{study.image_size} px, {len(study.seeds)} seeds, encoder {encoder_title(resolve(study.encoder))}.",
        f"Download: {PHOTOS_GB} GB of photos"
        + (f", {weights_gb(study):.1f} GB of weights." if study.encoder.startswith("clip:") else "."),
        f"Disk: {sum(sizes.values()):.1f} GB: " + ", ".join(f"{what} {size:.1f}" for what, size in sizes.items()) + ".",
        f"Memory: {memory_gb(study):.1f} GB in the largest process: what it took when all of it ran on a few pictures "
        "with CLIP ViT-B/16, and the predicted masks of all test photos.",
        f"Robustness: {swept:,} photos x {len(COMPARED)} models x {kinds} perturbations and levels, "
        "of the first seed; perturbing them, on the CPU, is not counted below.",
        "Hours, from the operations of the networks and a training of each machine that was timed:",
        hours.to_string(float_format=lambda value: f"{value:.1f}" if value >= 0.05 else "< 0.1"),
    ]
    return "\n".join(lines)


def blank_encoder(study: Study) -> Encoder:
    """Return the study's encoder on the meta device, where operations can be counted without weights or results."""
    spec = resolve(study.encoder)
    if not spec.startswith("clip:"):
        return load_encoder(spec, study.image_size).to("meta")
    with torch.device("meta"):
        return load_encoder(f"clip:{spec.removeprefix('clip:').partition('/')[0]}/random", study.image_size)


def weights_gb(study: Study) -> float:
    """Return the size in gigabytes of a study's CLIP weights, image and text towers, as float32."""
    from petseg_utils.models.clip import load_clip

    name = resolve(study.encoder).removeprefix("clip:").partition("/")[0]
    with torch.device("meta"):
        model, _ = load_clip(f"clip:{name}/random", study.image_size)
    return sum(4 * parameter.numel() for parameter in model.parameters()) / 1e9


def numbers(study: Study) -> tuple[int, int, int]:
    """Return how many photos of the whole data set are for training, validation and test."""
    held_out = round(study.validation_share * OFFICIAL_COUNTS["trainval"])
    return OFFICIAL_COUNTS["trainval"] - held_out, held_out, OFFICIAL_COUNTS["test"]


def disk(study: Study, encoder: Encoder) -> dict[str, float]:
    """Return the gigabytes that the study writes, by what they hold."""
    train, validation, test = numbers(study)
    small = small_study(study)
    cached = any(study.settings(name).cache for name in ENCODED if name in study.models)
    mirrored = train if cached else 0
    bytes_ = picture_bytes(encoder, study.image_size)
    small_bytes = picture_bytes(load_encoder_like(small, encoder), small.image_size)
    squares = 4 + (3 * encoder.scale**2 if encoder.scale > 1 else 0)  # bytes per pixel: photo, mask, detail
    # The run in progress also stores the average and both moments; finished runs store their best weights.
    run_bytes = [4 * trained_weights(study, name, encoder) for name in study.models]
    return {
        "decoded photos": (train + validation + test) * squares * study.image_size**2 / 1e9
        + (train + validation) * squares * small.image_size**2 / 1e9,
        "features": (train + validation + test + mirrored) * bytes_ / 1e9,
        "features of small pictures": (2 * train + validation) * small_bytes / 1e9,
        "runs": (len(study.seeds) * sum(run_bytes) + 4 * max(run_bytes)) / 1e9,
    }


def memory_gb(study: Study) -> float:
    """Return the gigabytes of the largest process: measured with few pictures, plus predicted masks of all test photos.

    Photos, their masks and features stay on disk.
    """
    masks = len(study.seeds) * numbers(study)[2] * study.image_size**2 / 1e9
    return json.loads(REHEARSED.read_text(encoding="utf-8"))["peak_gb"] + masks


def load_encoder_like(study: Study, encoder: Encoder) -> Encoder:
    """Return the same encoder for another picture size."""
    return encoder if encoder.identity.startswith("clip:") else load_encoder(study.encoder, study.image_size)


def trained_weights(study: Study, model: str, encoder: Encoder) -> int:
    """Return how many weights of a model are trained."""
    network = build(study, model, encoder)
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def build(study: Study, model: str, encoder: Encoder) -> nn.Module:
    """Return a model of the study, on the meta device as its encoder is."""
    recipe = recipe_of(model)
    with torch.device("meta"):
        return recipe.build(study.settings(model), encoder if recipe.on_frozen_encoder else None).eval()


def operations(study: Study, encoder: Encoder) -> pd.Series:
    """Return the floating-point operations of all networks in the study's notebooks, by purpose."""
    train, validation, test = numbers(study)
    seeds, small = len(study.seeds), small_study(study)
    area = (small.image_size / study.image_size) ** 2
    images = torch.zeros(1, 3, encoder.scale * study.image_size, encoder.scale * study.image_size, device="meta")
    encoding, maps = operations_of(lambda: encoder(images)), encoder(images)
    work: dict[str, float] = {"encoding, once": encoding * (train + validation + test)}
    prediction = {}
    for name in study.models:
        network, settings, title = build(study, name, encoder), study.settings(name), titled(name)
        on_encoder = recipe_of(name).on_frozen_encoder
        small_images = images if not on_encoder else images[..., : study.image_size, : study.image_size]
        given = (small_images, maps) if on_encoder else (small_images,)
        once = operations_of(functools.partial(network, *given))
        prediction[name] = once
        a_step = BACKWARD * once + (0 if not on_encoder or settings.cache else encoding)
        if settings.cache and on_encoder:
            work["encoding, once"] = encoding * (2 * train + validation + test)
        work[f"training: {title}"] = seeds * settings.epochs * (train * a_step + validation * once)
        # On all shares of the labels in notebook 04, and with all labels for each variant in notebook 03.
        runs = {"decoder": len(study.labels.shares), "autoencoder_unet": VARIANTS}.get(name, 0) * len(
            study.labels.seeds
        )
        if runs:
            steps = runs * study.labels.epochs * train
            work["small pictures"] = work.get("small pictures", 0) + steps * area * BACKWARD * once
    grid = len(study.unet_grid.learning_rates) * len(study.unet_grid.batch_sizes) * study.unet_grid.epochs
    work["search of notebook 02"] = grid * train * BACKWARD * prediction["unet"]
    work["variants of the autoencoder"] = (
        VARIANTS * study.settings("autoencoder").epochs * train * area * BACKWARD * prediction["autoencoder"]
    )
    ablations = (2 + len(encoder.strides)) * study.ablation_epochs
    work["decoder without its parts"] = ablations * train * BACKWARD * prediction["decoder"]
    head = operations_of(click(build(study, "point", encoder), maps, images))
    answers = 5 * DIALOGUES + DIALOGUES + len(NATURAL) + MOST_CLICKS
    work["clicks, at most"] = seeds * test * answers * head
    swept = study.robustness.pictures or test
    a_picture = encoding + sum(prediction[name] for name in COMPARED) + head
    work["robustness"] = swept * len(sweep_steps()) * a_picture
    return pd.Series(work)


def click(model: nn.Module, maps: list[torch.Tensor], images: torch.Tensor) -> Callable[[], object]:
    """Return a function that answers one click on one picture, whose operations can be counted."""
    assert isinstance(model, PointSegmenter)
    seen = model.look(images, maps)
    size = seen[1].shape[-1]
    prompts, latest = torch.zeros(1, 4, size, size, device="meta"), torch.ones(1, device="meta")
    return lambda: model.select(seen, prompts, latest)


def operations_a_second(study: str) -> float:
    """Return a machine's operations per second, from a training run in a study's records that ran all its epochs."""
    chosen = load_study(study)
    record = next(
        record
        for record in committed_records(study)
        if record["trained_on"]["settings"]["patience"] >= record["trained_on"]["settings"]["epochs"]
    )
    settings, size = TrainingSettings(**record["trained_on"]["settings"]), record["image_size"]
    chosen = replace(chosen, models=chosen.models | {record["model"]: settings})
    encoder, images = blank_encoder(chosen), torch.zeros(1, 3, size, size, device="meta")
    network = build(chosen, record["model"], encoder)
    once = operations_of(lambda: network(images))
    if recipe_of(record["model"]).on_frozen_encoder:
        encoding = operations_of(lambda: encoder(images))
        a_step = BACKWARD * (once - encoding) + encoding
    else:
        a_step = BACKWARD * once
    return a_step * record["trained_on"]["n_images"] * settings.epochs / record["training_seconds"]
