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

SHARED_MEMORY = 64_000_000  # bytes that processes of a Docker container share unless it is told otherwise
WORKERS = 4  # processes that make examples for a GPU
GRADIENT_NORM = 1.0  # clip at this: a rare bad batch must not undo an epoch


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
        Trained in place; holds the best epoch's weights at the end.
    loss : callable
        ``loss(model, batch)``, a scalar tensor.
    validate : callable
        ``validate(model)``, a dict of floats.
    folder, seed, card, score, resume, progress
        See `Run`.

    Returns
    -------
    DataFrame
        A row per epoch: ``epoch``, ``seconds``, ``learning_rate``, ``train_loss`` and what `validate` returned.

    Raises
    ------
    PetsegError
        If the loss is not finite, or the run to resume was begun under other conditions.

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
    """What stands around the loop: optimizer, order of pictures, moving average, history, checkpoints, progress bar.

    After each epoch the folder holds ``history.csv``, the best weights so far (``best.safetensors`` with its card
    ``best.json``) and everything that is needed to go on (``last.safetensors``; after the last epoch that is little),
    each written under a temporary name and renamed.  Of several processes each computes
    its share of every batch, all have the same weights after it, and the main one writes.

    Parameters
    ----------
    model, data, settings
        As for `fit`.
    seed : int
        Order of pictures, augmentation and random layers; the model's first weights are the caller's business.
    card : dict
        What is to be written beside the weights: study, data, versions.
    score : str
        Which of the validation's numbers decides what is kept; higher is better.
    resume : bool
        Go on from ``last.safetensors`` if it is there.  On a CPU the result equals that of an uninterrupted run.
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
        gc.collect()  # of a run before this one, whose parts hold each other: memory must not grow from run to run
        self.settings, self.folder, self.seed, self.score, self.data = settings, folder, seed, score, data
        self.precision = chosen_precision(settings)
        self.card = card | {"seed": seed, "settings": asdict(settings), "precision": self.precision}
        # Mixed precision is our own `autocast`: Accelerate's is the same for all trainings of a process.
        self.device, self.is_main_process = best_device(), place()[0] == 0
        # Channels last is what oneDNN's and cuDNN's convolutions like best: about 1.4 times as fast on a CPU.
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        train_together(model)
        # All tensors at once: the same steps, a third faster where there are many small ones.
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
        """How far the run has come."""
        return {"card": self.card, "history": self.history, "best": self.best}

    def epochs(self) -> Iterator[int]:
        """Epochs still to come, counted from 0, until patience with the score is used up."""
        for epoch in range(len(self.history), self.settings.epochs):
            if epoch - self.best["epoch"] > self.settings.patience:
                return
            yield epoch

    def batches(self, epoch: int) -> Iterator[dict]:
        """The epoch's batches, in an order that depends on seed and epoch alone; random layers do, too."""
        self.bar.set_description(f"epoch {epoch + 1}/{self.settings.epochs}")
        torch.manual_seed(self.seed * 1_000 + epoch)
        self.data.epoch = epoch
        self.order.set_epoch(epoch)
        self.epoch, self.began = epoch, time.perf_counter()
        self.losses: list[float] = []
        for batch in self.loader:
            yield send_to_device(batch, self.device)

    def autocast(self) -> AbstractContextManager:
        """Computes in bfloat16 inside where the settings say so."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16")

    def note(self, value: Tensor) -> None:
        """Keep a step's loss for the history, and show it.

        Raises
        ------
        PetsegError
            If it is not finite.
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
        """Move the averaged weights towards the present ones, if the settings ask for an average."""
        if self.average:
            self.average.update_parameters(self.model)

    def finish_epoch(self, epoch: int, scores: dict[str, float]) -> None:
        """Add a row to the history, and write what the folder is to hold."""
        row: dict[str, float] = {
            "epoch": epoch + 1,
            "learning_rate": float(self.schedule.get_last_lr()[0]),
            "train_loss": sum(self.losses) / len(self.losses),
            # Summed over all processes: the same score everywhere, so all of them stop together.
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
            # Last: what is killed before this is done again from here.
            save_state(self.folder / "last.safetensors", self.parts, self.progress)

    def close(self) -> pd.DataFrame:
        """Note in the card that the run came to its end and how long it took; take over the best weights."""
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
    """Of each batch this process's share, which may have no picture where the batch has fewer than there are processes.

    Order and batches are those of one process.
    """

    def __iter__(self) -> Iterator[list[int]]:
        """Yield rows."""
        for batch in super().__iter__():
            yield batch[share(len(batch))]


class Collate:
    """Makes a batch of examples; one of none has tensors without rows."""

    def __init__(self, data: TrainingPictures):
        self.data = data

    def __call__(self, examples: list[dict]) -> dict:
        """Tensors with a row for each example."""
        if examples:
            return default_collate(examples)
        return {
            name: [part[:0] for part in value] if isinstance(value, list) else value[:0]
            for name, value in default_collate([self.data[0]]).items()
        }


def workers(data: TrainingPictures, batch_size: int) -> int:
    """How many processes make batches ahead: none on a CPU, and on a GPU as many as have room in shared memory."""
    if not torch.cuda.is_available():
        return 0
    tensors = [part for value in data[0].values() for part in (value if isinstance(value, list) else [value])]
    batch = batch_size * sum(tensor.nbytes for tensor in tensors)
    return min(WORKERS, SHARED_MEMORY // (3 * batch))  # each has two ready, and one on its way
