"""One training loop for every model, and its checkpoints."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from petseg_utils.study import PetsegError, TrainingSettings, write_json

GRADIENT_NORM = 1.0  # clip at this: a rare bad batch must not undo an epoch


def fit(
    model: nn.Module,
    data: Dataset,
    loss: Callable[[nn.Module, dict[str, Tensor]], Tensor],
    validate: Callable[[nn.Module], dict[str, float]],
    settings: TrainingSettings,
    folder: Path,
    *,
    seed: int,
    card: dict,
    score: str = "miou",
    resume: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """Train a model: AdamW, one-cycle learning rate, gradient clipping, early stopping on the validation score.

    Accelerate chooses the device and handles mixed precision and several processes.  After each epoch the folder holds
    ``history.csv``, the best weights so far (``best.safetensors`` with its card ``best.json``) and everything that is
    needed to go on (``last.safetensors``), each written under a temporary name and renamed.

    Parameters
    ----------
    model : nn.Module
        Trained in place; holds the best epoch's weights at the end.
    data : Dataset
        Training examples as dicts of tensors.  Its attribute ``epoch`` is set before each epoch.
    loss : callable
        ``loss(model, batch)``, a scalar tensor.
    validate : callable
        ``validate(model)``, a dict of floats.
    settings : TrainingSettings
        Epochs, batch size, learning rate and so on.
    folder : Path
        Where checkpoints go.
    seed : int
        Order of pictures, augmentation and random layers; the model's first weights are the caller's business.
    card : dict
        What is to be written beside the weights: study, data, versions.
    score : str
        Which of the validation's numbers decides what is kept; higher is better.
    resume : bool
        Go on from ``last.safetensors`` if it is there.  On a CPU the result equals that of an uninterrupted run.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        A row per epoch: ``epoch``, ``seconds``, ``learning_rate``, ``train_loss`` and what `validate` returned.

    Raises
    ------
    PetsegError
        If the loss is not finite, or the checkpoint to resume from was made with other settings.

    References
    ----------
    Loshchilov, Hutter: "Decoupled Weight Decay Regularization", ICLR 2019, arXiv:1711.05101 (AdamW).
    Smith, Topin: "Super-Convergence", 2018, arXiv:1708.07120 (one-cycle).
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    precision = settings.mixed_precision
    if precision == "auto":
        precision = "bf16" if computes_bf16() else "no"
    AcceleratorState._reset_state()  # it would keep the precision of a process's first training
    accelerator = Accelerator(
        mixed_precision=precision,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=seed),
    )
    # Channels last is what oneDNN's and cuDNN's convolutions like best: about 1.4 times as fast on a CPU.
    model.to(memory_format=torch.channels_last)
    # All tensors at once: the same steps, a third faster where there are many small ones.
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=True
    )
    loader = DataLoader(data, settings.batch_size, shuffle=True, num_workers=4 if torch.cuda.is_available() else 0)
    wrapped, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    rule = get_ema_multi_avg_fn(settings.average)
    average = AveragedModel(model, multi_avg_fn=rule, use_buffers=True) if settings.average else None
    kept = average.module if average else model  # what is scored and saved
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer.optimizer, settings.learning_rate, epochs=settings.epochs, steps_per_epoch=len(loader), pct_start=0.2
    )
    card = card | {"seed": seed, "settings": asdict(settings), "precision": precision}
    history, best = [], {"score": float("-inf"), "epoch": -1}
    if resume and (folder / "last.safetensors").is_file():
        history, best = _restore(folder / "last.safetensors", model, average, optimizer.optimizer, schedule, card)
    bar = tqdm(
        total=settings.epochs * len(loader),
        initial=len(history) * len(loader),
        disable=not (progress and accelerator.is_main_process),
        mininterval=0.5,
    )
    for epoch in range(len(history), settings.epochs):
        if epoch - best["epoch"] > settings.patience:
            break
        bar.set_description(f"epoch {epoch + 1}/{settings.epochs}")
        torch.manual_seed(seed * 1_000 + epoch)  # random layers too depend on (seed, epoch) alone
        data.epoch = epoch
        loader.set_epoch(epoch)
        started, total = time.perf_counter(), 0.0
        wrapped.train()
        for batch in loader:
            value = loss(wrapped, batch)
            if not torch.isfinite(value):
                raise PetsegError(
                    f"The loss became {value.item()} in epoch {epoch + 1}: lower the learning rate "
                    f"(now {settings.learning_rate:g}), or set mixed_precision to 'no'."
                )
            accelerator.backward(value)
            accelerator.clip_grad_norm_(wrapped.parameters(), GRADIENT_NORM)
            optimizer.step()
            if average:
                average.update_parameters(model)
            schedule.step()
            optimizer.zero_grad()
            total += value.item()
            bar.update()
            bar.set_postfix(loss=f"{value.item():.3f}", **{f"best {score}": f"{max(best['score'], 0):.3f}"})
        row = {
            "epoch": epoch + 1,
            "learning_rate": schedule.get_last_lr()[0],
            "train_loss": total / len(loader),
            # Every process validates all pictures: the same score everywhere, so all of them stop together.
            **validate(kept),
        }
        history.append(row | {"seconds": time.perf_counter() - started})
        if accelerator.is_main_process:
            if row[score] > best["score"]:
                best = {"score": row[score], "epoch": epoch}
                save_checkpoint(folder / "best.safetensors", kept, card | {"epoch": epoch + 1, "validation": row})
            parts = (model, average, optimizer.optimizer, schedule)
            _save_state(folder / "last.safetensors", *parts, card, history, best)
            pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
        elif row[score] > best["score"]:
            best = {"score": row[score], "epoch": epoch}
    bar.close()
    if accelerator.is_main_process:  # the card of a run that came to its end says how long it took
        path = folder / "best.json"
        seconds = sum(row["seconds"] for row in history)
        write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"training_seconds": seconds})
    accelerator.wait_for_everyone()
    model.load_state_dict(load_file(folder / "best.safetensors"))
    return pd.DataFrame(history)


def computes_bf16() -> bool:
    """Whether the device has instructions for bfloat16; without them it is emulated, many times slower."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return able.get("avx512_bf16", False) or able.get("amx_bf16", False)


def save_checkpoint(path: Path, model: nn.Module, card: dict) -> None:
    """Write weights as safetensors, and a JSON card of the same name beside them."""
    _save_tensors(path, model.state_dict(), {})
    write_json(path.with_suffix(".json"), card)


def read_card(path: Path) -> dict:
    """Read the card beside a checkpoint.

    Raises
    ------
    PetsegError
        If the weights or their card are missing, or the card is damaged.
    """
    if not path.is_file() or not path.with_suffix(".json").is_file():
        raise PetsegError(f"No checkpoint {path.name} with its card {path.with_suffix('.json').name} in that folder.")
    try:
        return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not even text
        raise PetsegError(f"The card {path.with_suffix('.json').name} is damaged ({error}).") from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a checkpoint's weights into a model; every tensor must fit.

    Raises
    ------
    PetsegError
        If the file is damaged or was made for another model.
    """
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except (SafetensorError, RuntimeError, OSError) as error:  # damaged, of another model, unreadable
        raise PetsegError(f"{path.name} does not hold this model's weights, or is damaged: {error}") from error


def _save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    try:
        # A copy in plain layout: safetensors stores contiguous tensors only, and live weights are channels-last.
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, metadata)
    except (SafetensorError, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise PetsegError(
            f"Could not write {path.name} ({error}). Make room, or name another place by PETSEG_RUNS; "
            "what was saved before is whole, and --resume goes on from it."
        ) from error
    temporary.replace(path)


def _save_state(path, model, average, optimizer, schedule, card, history, best) -> None:
    """Everything `fit` needs to go on, in one file, so that it can never be half of one epoch and half of the next."""
    state = optimizer.state_dict()
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if average:
        tensors |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    for index, slots in state["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in slots.items()}
    progress = {
        "card": card,
        "history": history,
        "best": best,
        "groups": state["param_groups"],
        "schedule": {key: value for key, value in schedule.state_dict().items() if not callable(value)},
    }
    _save_tensors(path, tensors, {"progress": json.dumps(progress)})


def _restore(path, model, average, optimizer, schedule, card) -> tuple[list[dict], dict]:
    try:
        with safe_open(path, framework="pt") as file:
            progress = json.loads(file.metadata()["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise PetsegError(f"{path.name} is damaged ({error}). Train afresh without --resume.") from error
    for key in ("model", "seed", "settings", "precision", "image_size", "data", "n_images", "code"):
        then, now = progress["card"].get(key), json.loads(json.dumps(card.get(key)))
        if then != now:
            raise PetsegError(
                f"Cannot resume: the checkpoint has {key} {then}, now it is {now}. "
                "Train afresh without --resume, or restore what it was made with."
            )
    for prefix, part in {"model.": model, "average.": average}.items():
        if part:
            part.load_state_dict(
                {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            )
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, slot = name.split(".")
            slots.setdefault(int(index), {})[slot] = tensor
    optimizer.load_state_dict({"state": slots, "param_groups": progress["groups"]})
    schedule.load_state_dict(progress["schedule"])
    return progress["history"], progress["best"]
