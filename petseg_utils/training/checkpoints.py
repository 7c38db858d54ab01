"""Checkpoints: weights as safetensors beside a JSON card, and everything that an interrupted run needs to continue."""

import contextlib
import functools
import json
import os
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from petseg_utils.models.cards import SHIPPED, read_card
from petseg_utils.models.encoders import Encoder, encoder_identity, load_encoder
from petseg_utils.models.names import check_name
from petseg_utils.study import PetsegError, Study, TrainingSettings, shown, write_json
from petseg_utils.study.folders import alone_in
from petseg_utils.study.provenance import best_device
from petseg_utils.training.conditions import conditions_in, first_difference
from petseg_utils.training.recipe import Recipe
from petseg_utils.training.recipes import recipe_of

PATIENCE = 6  # seconds: torch's worker processes look for a dead parent every 5, a notebook's kernel every second


def run_folder(model: str, study: Study, seed: int) -> Path:
    """Return the folder of one training run."""
    return study.runs_dir / f"{model}-seed{seed}"


@contextlib.contextmanager
def writing_run(folder: Path) -> Iterator[None]:
    """Lock the folder of a run while it is trained; delete files that a killed run left half written there.

    Raises
    ------
    PetsegError
        If another training writes there, or the folder cannot be written.
    """
    if not PartialState().is_main_process:  # of the processes of one training, only the main one writes
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder, "training", "name another place by PETSEG_RUNS", wait=PATIENCE):
            for part in folder.glob("*.part"):
                part.unlink()
            yield
    except OSError as error:
        raise PetsegError(
            f"Could not write to {shown(folder)} ({error.strerror}). Make room, or name another place by PETSEG_RUNS; "
            "what was saved before is whole, and --resume goes on from it."
        ) from error


def load(path: Path, recipe: Recipe | None = None) -> tuple[nn.Module, dict]:
    """Load a checkpoint; return the model, in evaluation mode on the best device there is, and its card.

    Parameters
    ----------
    path : Path
        The ``.safetensors`` file; its card lies beside it.
    recipe : Recipe, optional
        The recipe, for a model that is not one of the study's.

    Raises
    ------
    PetsegError
        If the file or its card is missing, damaged, of another model, or made by another version of its recipe.  For
        the study's models, shapes are checked before the memory that the card asks for is allocated.
    """
    card = read_card(path)
    own = recipe is None
    recipe = recipe or recipe_of(card["model"])
    if (version := card.get("version", 1)) != recipe.version:  # older cards do not give it
        raise PetsegError(
            f"{path.name} was made by version {version} of the recipe of {recipe.name}, but the current one "
            f"is {recipe.version}: train it again with petseg train {recipe.name}."
        )
    try:
        settings = TrainingSettings(**card["settings"])
    except (ValidationError, TypeError) as error:
        fault = str(error.errors()[0]["loc"][0]) if isinstance(error, ValidationError) else "settings"
        raise PetsegError(f"The card of {path.name} is damaged: {fault} is not valid in its settings.") from error
    encoder = None
    if recipe.on_frozen_encoder:
        identity = encoder_identity(card["encoder_spec"])
        if identity != card["encoder"]:
            raise PetsegError(f"{path.name} was trained on {card['encoder']}, but the encoder here is {identity}.")
        encoder = _shared_encoder(identity, card["encoder_spec"], card["image_size"])
    if own:  # build without memory first: the card may claim sizes that the file does not have
        with torch.device("meta"):
            _check_shapes(recipe.build(settings, encoder), path)
    network = recipe.build(settings, encoder)
    load_weights(network, path)
    if "peak" in card:  # only in cards of weights that ship
        network.peak = card["peak"]
    return network.to(best_device()).to(memory_format=torch.channels_last).eval(), card


@functools.lru_cache(maxsize=2)
def _shared_encoder(identity: str, spec: str, image_size: int) -> Encoder:
    """Load the frozen encoder that models share: it never changes, and is the larger part of each of them."""
    return load_encoder(spec, image_size)


def find_checkpoint(model: str, study: Study | None, seed: int | None = None) -> Path:
    """Find the weights of a model: those of the study's own run, else those that ship if this study made them.

    Parameters
    ----------
    study : Study or None
        None means the weights that ship.  For a study on other data than its own, only its run on these data counts.
    seed : int, optional
        The study's first seed by default.

    Raises
    ------
    PetsegError
        If there are none; the message says how to train the model.
    """
    shipped = SHIPPED / f"{check_name(model)}.safetensors"
    if study is None:
        if shipped.is_file():
            return shipped
        raise PetsegError(f"No weights ship for {model}. Train it with petseg train {model}, then name the study.")
    seed = study.seeds[0] if seed is None else seed
    own = run_folder(model, study, seed) / "best.safetensors"
    if own.is_file():
        return own
    if shipped.is_file() and not study.on_other_data:
        card = read_card(shipped)
        if (card["study"], card["seed"]) == (study.name, seed):
            return shipped
    lacking = f"Study {study.name!r} has no trained {model} with seed {seed}"
    advice = f"Train it: petseg train {model} --study {study.name} --seed {seed}"
    if study.on_other_data:
        data = shown(study.data_dir)
        raise PetsegError(f"{lacking} on {data}. {advice} --data {data}, or name other weights by --weights.")
    raise PetsegError(f"{lacking}. {advice}")


def save_checkpoint(path: Path, model: nn.Module, card: dict) -> None:
    """Write weights as safetensors, and their card as JSON under the same name beside them."""
    part, card_path = _tensors_written(path, model.state_dict(), {}), path.with_suffix(".json")
    card_path.unlink(missing_ok=True)  # a kill between the two writes must not leave the card of other weights
    part.replace(path)
    write_json(card_path, card)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a checkpoint's weights into a model; every tensor must fit.

    Raises
    ------
    PetsegError
        If the file is damaged, was made for another model, or holds values that are not finite.
    """
    _check_shapes(model, path)
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
        model.load_state_dict(tensors)
    except (SafetensorError, RuntimeError, OSError) as error:  # damaged, of another model, unreadable
        raise _damaged(path, str(error)) from error
    if wrong := next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None):
        raise _damaged(path, f"{wrong} is not finite everywhere")


def _check_shapes(model: nn.Module, path: Path) -> None:
    """Compare a file's tensor names, shapes and number types with a model's; only the file's header is read."""
    wanted = model.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            held = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            for name in sorted(wanted.keys() ^ held.keys()):
                raise _damaged(path, f"it {'lacks' if name in wanted else 'has no use for'} {reprlib.repr(name)}")
            for name, tensor in wanted.items():
                shape, kind = held[name].get_shape(), held[name].get_dtype()
                if shape != list(tensor.shape):
                    raise _damaged(path, f"{name} is {shape}, but should be {list(tensor.shape)}")
                if tensor.is_floating_point() and kind not in ("F16", "BF16", "F32", "F64"):
                    raise _damaged(path, f"{name} holds {kind} values, not floats")
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, why: str) -> PetsegError:
    return PetsegError(f"{path.name} does not hold this model's weights, or is damaged: {why.splitlines()[0]}.")


def save_state(path: Path, parts: dict[str, Any] | None, progress: dict) -> None:
    """Write everything that a run needs to continue in one file, so that the states of two epochs never mix.

    Parameters
    ----------
    parts : dict or None
        ``model`` and ``average`` (modules; the latter may be None), ``optimizer`` and ``schedule``; None for a complete
        run, whose best weights are kept elsewhere and which no longer needs these.
    progress : dict
        What else is to be kept, representable as JSON.
    """
    if parts is None:
        _tensors_written(path, {}, {"progress": json.dumps(progress)}).replace(path)
        return
    optimizer = parts["optimizer"].state_dict()
    tensors = {
        f"{part}.{name}": tensor
        for part in ("model", "average")
        if parts[part] is not None
        for name, tensor in parts[part].state_dict().items()
    }
    for index, slots in optimizer["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in slots.items()}
    schedule = {key: value for key, value in parts["schedule"].state_dict().items() if not callable(value)}
    kept = progress | {"groups": optimizer["param_groups"], "schedule": schedule}
    _tensors_written(path, tensors, {"progress": json.dumps(kept)}).replace(path)


def restore_state(path: Path, parts: dict[str, Any], card: dict) -> dict:
    """Restore a run's parts to the state that `save_state` wrote; return what else it kept.

    The file of a complete run holds no parts, so `parts` stay as they are.

    Raises
    ------
    PetsegError
        If the file is damaged, or the conditions of the run's weights (`training.conditions`) differ from `card`'s.
    """
    try:
        with safe_open(path, framework="pt") as file:
            progress = json.loads(file.metadata()["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        then = conditions_in(progress["card"])
    except (SafetensorError, OSError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise PetsegError(f"{path.name} is damaged ({error}). Train afresh without --resume.") from error
    if differs := first_difference(then, conditions_in(card)):
        raise PetsegError(
            f"Cannot resume: {differs}. Train afresh without --resume, or restore what the run was begun with."
        )
    if not tensors:
        return progress
    for part in ("model", "average"):
        if parts[part] is not None:
            of_part = {
                name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")
            }
            parts[part].load_state_dict(of_part)
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, slot = name.split(".")
            slots.setdefault(int(index), {})[slot] = tensor
    parts["optimizer"].load_state_dict({"state": slots, "param_groups": progress["groups"]})
    parts["schedule"].load_state_dict(progress["schedule"])
    return progress


def _tensors_written(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Path:
    """Write tensors to a temporary file beside `path`, named after this process; return its path, to be renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        # Copies in the default layout: safetensors stores only contiguous tensors, and live weights are channels last.
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, metadata)
    except (SafetensorError, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise PetsegError(
            f"Could not write {path.name} ({error}). Make room, or name another place by PETSEG_RUNS; "
            "what was saved before is whole, and --resume goes on from it."
        ) from error
    return temporary
