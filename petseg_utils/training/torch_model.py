"""A checkpoint run by torch, with arrays in and out: the counterpart of `models.exported.ExportedModel`."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from petseg_utils.data.tensors import input_scale, to_tensor
from petseg_utils.models.cards import sha256
from petseg_utils.models.exported import Seen
from petseg_utils.study import PetsegError
from petseg_utils.training.checkpoints import load
from petseg_utils.training.recipes import recipe_of


class TorchModel:
    """A network in the form that `segmenter.Segmenter` takes, with the interface of `exported.ExportedModel`.

    Parameters
    ----------
    network : nn.Module
        Returns logits ``(N, 3, size, size)``; a network that takes prompts has ``look`` and ``select``, see
        `click_head.PointSegmenter`.
    """

    def __init__(self, network: nn.Module, card: dict, digest: str = ""):
        self.network: Any = network.eval()
        self.card = card | ({"peak": network.peak} if hasattr(network, "peak") else {})
        self.digest = digest
        self.scale = input_scale(network)
        self.takes_prompts = hasattr(network, "select")
        self.name = f"torch, {self.device.type}, {torch.get_num_threads()} threads"

    @classmethod
    def load(cls, path: Path) -> "TorchModel":
        """Load a checkpoint.

        Raises
        ------
        PetsegError
            As from `checkpoints.load`, and if the model makes no masks.
        """
        network, card = load(path)
        if not recipe_of(card["model"]).makes_masks:
            raise PetsegError(f"{path.name} holds the model {card['model']}, which makes no masks.")
        return cls(network, card, sha256(path))

    @property
    def device(self) -> torch.device:
        """The device on which the network runs."""
        return next(self.network.parameters()).device

    @torch.inference_mode()
    def look(self, squares: np.ndarray) -> Seen:
        """Do what `exported.ExportedModel.look` does."""
        images = to_tensor(squares, self.device)
        if not self.takes_prompts:
            return Seen(self.network(images).float().cpu().numpy())
        cells, logits, *context = self.network.look(images)
        return Seen(logits.float().cpu().numpy(), cells.float().cpu().numpy(), (cells, logits, *context))

    @torch.inference_mode()
    def select(self, seen: Seen, prompts: np.ndarray, latest: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Do what `exported.ExportedModel.select` does."""
        said = (torch.from_numpy(values).to(self.device) for values in (prompts, latest, side))
        return self.network.select(seen.rest, *said)[:, 0].float().cpu().numpy()
