"""One training loop for every model."""

import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from accelerate.data_loader import SeedableRandomSampler
from accelerate.utils import send_to_device
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import BatchSampler, DataLoader, default_collate
from tqdm import tqdm

from petseg_utils.data.parallel import average_gradients, place, share, train_together, wait_for_all
from petseg_utils.study import PetsegError, TrainingSettings, write_json, write_text
from petseg_utils.study.provenance import best_device
from petseg_utils.training.batches import TrainingPictures
from petseg_utils.training.checkpoints import restore_state, save_checkpoint, save_state
from petseg_utils.training.precision import chosen_precision

SHARED_MEMORY = 64_000_000  # bytes of memory that the processes of a Docker container share by default
WORKERS = 4  # most processes that make examples for a GPU
GRADIENT_NORM = 1.0  # gradients are clipped to this norm: a rare bad batch must not undo an epoch


def fit(
    model: nn.Module,
    data: TrainingPictures,
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

    Parameters
    ----------
    model : nn.Module
        Trained in place; has the best epoch's weights at the end.
    loss : callable
        ``loss(model, batch)`` returns a scalar tensor.
    validate : callable
        ``validate(model)`` returns a dict of floats.
    folder, seed, card, score, resume, progress
        See `Run`.

    Returns
    -------
    DataFrame
        One row per epoch: ``epoch``, ``seconds``, ``learning_rate``, ``train_loss`` and what `validate` returned.

    Raises
    ------
    PetsegError
        If the loss is not finite, or the run to be resumed was started under other conditions.

    References
    ----------
    Loshchilov, Hutter: "Decoupled Weight Decay Regularization", ICLR 2019, arXiv:1711.05101 (AdamW).
    Smith, Topin: "Super-Convergence", 2018, arXiv:1708.07120 (one-cycle).
    """
    run = Run(model, data, settings, folder, seed=seed, card=card, score=score, resume=resume, progress=progress)
    for epoch in run.epochs():  # those still to come; they end early where the score has stopped rising
        run.model.train()
        for batch in run.batches(epoch):
            with run.autocast():
                value = loss(run.model, batch)
            run.note(value)
            value.backward()
            average_gradients(run.model)
            nn.utils.clip_grad_norm_(run.model.parameters(), GRADIENT_NORM)
            run.optimizer.step()
            run.schedule.step()
            run.optimizer.zero_grad()
            run.update_average()
        with run.autocast():
            scores = validate(run.kept)
        run.finish_epoch(epoch, scores)
    return run.close()


class Run:
    """A run's state: optimizer, order of pictures, moving average, history, checkpoints and progress bar.

    After each epoch the folder holds ``history.csv``, the best weights so far (``best.safetensors`` with its card
    ``best.json``) and everything that is needed to continue (``last.safetensors``, which is small once the run is
    complete), each written under a temporary name and then renamed.  With several processes, each computes its share of
    every batch, all have the same weights after it, and only the main one writes files.

    Parameters
    ----------
    model, data, settings
        As for `fit`.
    seed : int
        Seed for the order of pictures, augmentation and random layers; the caller sets the model's initial weights.
    card : dict
        What is to be written beside the weights: study, data, versions.
    score : str
        The validation score that decides which epoch's weights are kept; higher is better.
    resume : bool
        Continue from ``last.safetensors`` if it exists.  On a CPU the result equals that of an uninterrupted run.
    progress : bool
        Show a progress bar.
    """

    def __init__(
        self,
        model: nn.Module,
        data: TrainingPictures,
        settings: TrainingSettings,
        folder: Path,
        *,
        seed: int,
        card: dict,
        score: str,
        resume: bool,
        progress: bool,
    ):
        gc.collect()  # frees an earlier run, whose parts refer to each other: memory must not grow from run to run
        self.settings, self.folder, self.seed, self.score, self.data = settings, folder, seed, score, data
        self.precision = chosen_precision(settings)
        # Mixed precision uses our own `autocast`: Accelerate's setting is the same for all trainings of a process.
        self.device, self.is_main_process = best_device(), place()[0] == 0
        how = {"settings": asdict(settings), "precision": self.precision, "device": self.device}
        self.card = card | {"seed": seed} | how
        # Convolutions of oneDNN and cuDNN are fastest with channels last: about 1.4 times as fast on a CPU.
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        train_together(model)
        # `foreach` updates all tensors at once: the same steps, a third faster where there are many small tensors.
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=True
        )
        self.order = SeedableRandomSampler(data, data_seed=seed)
        self.loader = DataLoader(
            data,
            batch_sampler=SharedBatches(self.order, settings.batch_size, drop_last=False),
            num_workers=workers(data, settings.batch_size),
            collate_fn=Collate(data),
        )
        rule = get_ema_multi_avg_fn(settings.average)
        self.average = AveragedModel(model, multi_avg_fn=rule, use_buffers=True) if settings.average else None
        self.kept = self.average.module if self.average else model  # what is scored and saved
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            settings.learning_rate,
            epochs=settings.epochs,
            steps_per_epoch=len(self.loader),
            pct_start=0.2,
        )
        self.parts = {"model": model, "average": self.average, "optimizer": self.optimizer, "schedule": self.schedule}
        self.history: list[dict] = []
        self.best = {"score": float("-inf"), "epoch": -1}
        if resume and (folder / "last.safetensors").is_file():
            before = restore_state(folder / "last.safetensors", self.parts, self.card)
            self.history, self.best = before["history"], before["best"]
        self.bar = tqdm(
            total=settings.epochs * len(self.loader),
            initial=len(self.history) * len(self.loader),
            disable=not (progress and self.is_main_process),
            mininterval=0.5,
        )

    @property
    def progress(self) -> dict:
        """The run's progress so far, with its card."""
        return {"card": self.card, "history": self.history, "best": self.best}

    def epochs(self) -> Iterator[int]:
        """Yield the remaining epochs, counted from 0; stop when the score has not risen for `patience` epochs."""
        for epoch in range(len(self.history), self.settings.epochs):
            if epoch - self.best["epoch"] > self.settings.patience:
                return
            yield epoch

    def batches(self, epoch: int) -> Iterator[dict]:
        """Yield the epoch's batches; their order and the random layers depend only on the seed and the epoch."""
        self.bar.set_description(f"epoch {epoch + 1}/{self.settings.epochs}")
        torch.manual_seed(self.seed * 1_000 + epoch)
        self.data.epoch = epoch
        self.order.set_epoch(epoch)
        self.epoch, self.began = epoch, time.perf_counter()
        self.losses: list[float] = []
        for batch in self.loader:
            yield send_to_device(batch, self.device)

    def autocast(self) -> AbstractContextManager:
        """Return a context that computes in bfloat16 if the run's precision says so."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16")

    def note(self, value: Tensor) -> None:
        """Record a step's loss for the history, and show it.

        Raises
        ------
        PetsegError
            If the loss is not finite.
        """
        if not torch.isfinite(value):
            raise PetsegError(
                f"The loss became {value.item()} in epoch {self.epoch + 1}: lower the learning rate "
                f"(now {self.settings.learning_rate:g}), or set mixed_precision to 'no'."
            )
        self.losses.append(value.item())
        self.bar.update()
        self.bar.set_postfix(loss=f"{value.item():.3f}", **{f"best {self.score}": f"{max(self.best['score'], 0):.3f}"})

    def update_average(self) -> None:
        """Move the averaged weights towards the current ones, if the settings ask for an average."""
        if self.average:
            self.average.update_parameters(self.model)

    def finish_epoch(self, epoch: int, scores: dict[str, float]) -> None:
        """Add a row to the history, and write the run's files."""
        row: dict[str, float] = {
            "epoch": epoch + 1,
            "learning_rate": float(self.schedule.get_last_lr()[0]),
            "train_loss": sum(self.losses) / len(self.losses),
            # Computed over all processes: the score is the same in each, so they all stop together.
            **scores,
        }
        self.history.append(row | {"seconds": time.perf_counter() - self.began})
        better = row[self.score] > self.best["score"]
        if better:
            self.best = {"score": float(row[self.score]), "epoch": epoch}
        if self.is_main_process:
            if better:
                card = self.card | {"epoch": epoch + 1, "validation": row}
                save_checkpoint(self.folder / "best.safetensors", self.kept, card)
            write_text(self.folder / "history.csv", pd.DataFrame(self.history).to_csv(index=False))
            # Written last: if the process is killed before, this epoch is done again.
            save_state(self.folder / "last.safetensors", self.parts, self.progress)

    def close(self) -> pd.DataFrame:
        """Record in the card how long the run took, which marks it as complete; load the best weights."""
        self.bar.close()
        if self.is_main_process:
            path = self.folder / "best.json"
            seconds = sum(row["seconds"] for row in self.history)
            write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"training_seconds": seconds})
            save_state(self.folder / "last.safetensors", None, self.progress)
        wait_for_all()
        self.model.load_state_dict(load_file(self.folder / "best.safetensors"))
        return pd.DataFrame(self.history)


class SharedBatches(BatchSampler):
    """Sampler of this process's share of each batch; it is empty where a batch has too few pictures for all processes.

    The order and the whole batches are those of a single process.
    """

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the rows of each share."""
        for batch in super().__iter__():
            yield batch[share(len(batch))]


class Collate:
    """Collates examples into a batch; an empty list gives tensors with zero rows."""

    def __init__(self, data: TrainingPictures):
        self.data = data

    def __call__(self, examples: list[dict]) -> dict:
        """Return tensors with a row for each example."""
        if examples:
            return default_collate(examples)
        return {
            name: [part[:0] for part in value] if isinstance(value, list) else value[:0]
            for name, value in default_collate([self.data[0]]).items()
        }


def workers(data: TrainingPictures, batch_size: int) -> int:
    """Return how many processes prepare batches: none on a CPU; on a GPU as many as shared memory has room for."""
    if not torch.cuda.is_available():
        return 0
    tensors = [part for value in data[0].values() for part in (value if isinstance(value, list) else [value])]
    batch = batch_size * sum(tensor.nbytes for tensor in tensors)
    return min(WORKERS, SHARED_MEMORY // (3 * batch))  # each keeps two batches ready and has one on its way
