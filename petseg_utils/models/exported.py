"""A trained model as ONNX files, run by ONNX Runtime: nothing of torch is needed.

`training.export` writes the files.  Names and shapes of what goes in and out, with S the edge of the model's square:

- ``encoder.onnx``: ``pixels`` uint8 ``(N, scale * S, scale * S, 3)`` to ``picture`` ``(N, 3, S, S)``, the same at the
  size of the masks, and ``map0``, ``map1``, … ``(N, C, h, w)``, the frozen encoder's feature maps.
- ``decoder.onnx``: ``picture`` and the maps to ``logits`` ``(N, 3, S, S)`` and ``cells`` ``(N, C, S / 4, S / 4)``.
- ``click_head.onnx``: ``logits``, ``cells`` and the maps, with ``prompts`` ``(N, 4, S, S)``, ``latest`` ``(N,)`` and
  ``side`` ``(N,)``, as `click_head.PointSegmenter.select` has them, to ``selected``, logits ``(N, 1, S, S)``.
- a model without a frozen encoder is one file, named after it: ``pixels`` to ``logits``.

All floats are float32 where they go in and out.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from petseg_utils.models.cards import sha256
from petseg_utils.study import PetsegError

ENCODER, DECODER, CLICK_HEAD = "encoder.onnx", "decoder.onnx", "click_head.onnx"
# The fastest that is installed is taken.
PROVIDERS = ("CUDAExecutionProvider", "CoreMLExecutionProvider", "CPUExecutionProvider")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """What a model makes of some photos before any prompt.

    Parameters
    ----------
    logits : ndarray
        Of the classes, ``float32 (N, 3, size, size)``.
    cells : ndarray or None
        The decoder's features, ``float32 (N, C, size / 4, size / 4)``; None of a model that takes no prompts.
    rest : tuple
        What else its click head wants, in the form in which it wants it.
    """

    logits: np.ndarray
    cells: np.ndarray | None = None
    rest: tuple[Any, ...] = ()


class ExportedModel:
    """A model of which the files lie beside each other; what it takes and gives are arrays.

    Parameters
    ----------
    path : Path
        ``decoder.onnx``, ``click_head.onnx``, or the one file of a model without a frozen encoder.

    Raises
    ------
    PetsegError
        If the file, or one beside it, is missing, damaged, or not of this model.
    """

    def __init__(self, path: Path):
        self._last = _session(path)
        told = self._last.get_modelmeta().custom_metadata_map
        try:
            self.card: dict = json.loads(told["card"])
            self.digest, beside = told["weights"], json.loads(told["beside"])
        except (KeyError, ValueError) as error:
            raise PetsegError(f"{path.name} was not written by petseg export.") from error
        for name, digest in beside.items():
            if (path.parent / name).is_file() and sha256(path.parent / name) != digest:
                raise PetsegError(f"{name} beside {path.name} is another than it was exported with: export both anew.")
        self._before = [_session(path.parent / name) for name in (ENCODER, DECODER) if name in beside]
        self.takes_prompts = path.name == CLICK_HEAD
        self.name = f"ONNX Runtime, {self._last.get_providers()[0]}"
        pixels = (self._before or [self._last])[0].get_inputs()[0].shape
        self.scale = pixels[1] // self.card["image_size"]

    def look(self, squares: np.ndarray) -> Seen:
        """All that does not depend on prompts.

        Parameters
        ----------
        squares : ndarray
            Letterboxed photos, RGB ``uint8 (N, scale * size, scale * size, 3)``.
        """
        known: dict[str, np.ndarray] = {"pixels": squares}
        for session in [*self._before, *([] if self.takes_prompts else [self._last])]:
            known |= _run(session, known)
        maps = {name: value for name, value in known.items() if name.startswith("map")}
        return Seen(known["logits"], known.get("cells"), (maps,))

    def select(self, seen: Seen, prompts: np.ndarray, latest: np.ndarray, side: np.ndarray) -> np.ndarray:
        """The selection after a prompt, logits ``float32 (N, size, size)``; see `click_head.PointSegmenter.select`.

        Parameters
        ----------
        seen : Seen
            From `look`.
        prompts : ndarray
            ``float32 (N, 4, size, size)`` in 0..1, from `prompts.prompt_maps`.
        latest, side : ndarray
            ``float32 (N,)``.
        """
        known = seen.rest[0] | {"logits": seen.logits, "cells": seen.cells}
        return _run(self._last, known | {"prompts": prompts, "latest": latest, "side": side})["selected"][:, 0]


def _session(path: Path) -> Any:
    """A session of ONNX Runtime on the fastest device that it is installed for."""
    import onnxruntime

    if not path.is_file():
        raise PetsegError(f"No file {path.name} in that folder: petseg export writes it.")
    there = [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]
    if there[0] != PROVIDERS[-1]:
        log.info("Runs on %s.", there[0])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    # Threads that wait would spin and take the core from whoever reads and writes photos meanwhile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=there)
    except Exception as error:  # onnxruntime's errors have no class of their own
        raise PetsegError(f"{path.name} is damaged, or no ONNX file: {str(error).splitlines()[0]}") from error


def _run(session: Any, known: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray]:
    """A session's results by name, from those of the known values that it asks for."""
    given = {wanted.name: known[wanted.name] for wanted in session.get_inputs()}
    return dict(zip((result.name for result in session.get_outputs()), session.run(None, given), strict=True))
