"""A trained model as ONNX files, run by ONNX Runtime, without torch.

`training.export` writes the files.  Their inputs and outputs, with S the edge of the model's square:

- ``encoder.onnx``: ``pixels`` uint8 ``(N, scale * S, scale * S, 3)`` to ``picture`` ``(N, 3, S, S)``, the same pictures
  at the size of the masks, and ``map0``, ``map1``, … ``(N, C, h, w)``, the frozen encoder's feature maps.
- ``decoder.onnx``: ``picture`` and the maps to ``logits`` ``(N, 3, S, S)`` and ``cells`` ``(N, C, S / 4, S / 4)``.
- ``click_head.onnx``: ``logits``, ``cells`` and the maps, with ``prompts`` ``(N, 4, S, S)``, ``latest`` ``(N,)`` and
  ``side`` ``(N,)``, as in `click_head.PointSegmenter.select`, to ``selected``, logits ``(N, 1, S, S)``.
- A model without a frozen encoder is a single file named after the model: ``pixels`` to ``logits``.

All float inputs and outputs are float32.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from petseg_utils.models.cards import check_sum, checked_card, sha256
from petseg_utils.study import PetsegError

ENCODER, DECODER, CLICK_HEAD = "encoder.onnx", "decoder.onnx", "click_head.onnx"
# Fastest first; the first one that is installed is preferred.
PROVIDERS = ("CUDAExecutionProvider", "CoreMLExecutionProvider", "CPUExecutionProvider")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """A model's results for some photos before any prompt.

    Parameters
    ----------
    logits : ndarray
        Class logits, ``float32 (N, 3, size, size)``.
    cells : ndarray or None
        The decoder's features, ``float32 (N, C, size / 4, size / 4)``; None for a model that takes no prompts.
    rest : tuple
        The other inputs of the model's click head, in the form in which it takes them.
    """

    logits: np.ndarray
    cells: np.ndarray | None = None
    rest: tuple[Any, ...] = ()


class ExportedModel:
    """A model in ONNX files that lie side by side in one folder; its inputs and outputs are arrays.

    Parameters
    ----------
    path : Path
        ``decoder.onnx``, ``click_head.onnx``, or the one file of a model without a frozen encoder.

    Raises
    ------
    PetsegError
        If the file, or one that it needs beside it, is missing, damaged, or not part of this model.
    """

    def __init__(self, path: Path):
        self._path = path
        self._last = _session(path)
        told = self._last.get_modelmeta().custom_metadata_map
        try:
            self.digest, beside, card = told["weights"], json.loads(told["beside"]), told["card"]
        except (KeyError, ValueError, RecursionError) as error:
            raise PetsegError(f"{path.name} was not written by petseg export.") from error
        self.card = checked_card(card, f"in {path.name}")
        self.takes_prompts = path.name == CLICK_HEAD
        expected = {CLICK_HEAD: [ENCODER, DECODER], DECODER: [ENCODER]}.get(path.name, [])
        if not isinstance(beside, dict) or sorted(beside) != sorted(expected):
            raise PetsegError(f"{path.name} was not written by petseg export under this name.")
        for name, digest in beside.items():
            if (path.parent / name).is_file() and sha256(path.parent / name) != digest:
                raise PetsegError(f"{name} beside {path.name} is not the one it was exported with: export both again.")
        self._before = [_session(path.parent / name) for name in expected]
        self.name = f"ONNX Runtime, {self._last.get_providers()[0]}"
        size = self.card["image_size"]
        (pixels, *others), known = (
            (self._before or [self._last])[0].get_inputs(),
            {"pixels", "prompts", "latest", "side"},
        )
        if others or (pixels.name, pixels.type, pixels.shape[1:]) not in [
            ("pixels", "tensor(uint8)", [scale * size, scale * size, 3]) for scale in (1, 2)
        ]:
            raise PetsegError(f"{path.name} does not take square photos of {size} pixels, although its card says so.")
        self.scale = pixels.shape[1] // size
        for session in (*self._before, self._last):
            if unknown := sorted({wanted.name for wanted in session.get_inputs()} - known):
                raise PetsegError(f"{path.name} asks for {unknown[0]!r}: it was not written by petseg export.")
            known |= {given.name for given in session.get_outputs()}
        wanted = {"logits", "cells", "selected"} if self.takes_prompts else {"logits"}
        if lacking := sorted(wanted - known):
            raise PetsegError(f"{path.name} does not give {lacking[0]!r}: it was not written by petseg export.")

    def look(self, squares: np.ndarray) -> Seen:
        """Compute all that does not depend on prompts.

        Parameters
        ----------
        squares : ndarray
            Letterboxed photos, RGB ``uint8 (N, scale * size, scale * size, 3)``.
        """
        known: dict[str, np.ndarray] = {"pixels": squares}
        for session in [*self._before, *([] if self.takes_prompts else [self._last])]:
            known |= self._run(session, known)
        maps = {name: value for name, value in known.items() if name.startswith("map")}
        return Seen(known["logits"], known.get("cells"), (maps,))

    def select(self, seen: Seen, prompts: np.ndarray, latest: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Return the selection after a prompt as logits ``float32 (N, size, size)``; see `PointSegmenter.select`.

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
        answers = self._run(self._last, known | {"prompts": prompts, "latest": latest, "side": side})
        return answers["selected"][:, 0]

    def _run(self, session: Any, known: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray]:
        """Run a session on those of the known values that it takes as inputs, and return its results by name."""
        given = {wanted.name: known[wanted.name] for wanted in session.get_inputs()}
        try:
            results = session.run(None, given)
        except Exception as error:
            raise PetsegError(f"{self._path.name} {_in_words(error)}") from error
        # Copies: ONNX Runtime's own arrays lie in its arena, which grows with every array kept and never shrinks.
        names = (result.name for result in session.get_outputs())
        return dict(zip(names, map(np.array, results), strict=True))


def _session(path: Path) -> Any:
    """Open a session of ONNX Runtime on the fastest device that the installed build supports."""
    # Set before the import, which reads it: otherwise ONNX Runtime reports its use to its makers over the network.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    if not path.is_file():
        raise PetsegError(f"No file {path.name} in that folder: petseg export writes it.")
    check_sum(path)
    _check_weights(path)
    there = [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]
    if there[0] != PROVIDERS[-1]:
        log.info("Runs on %s.", there[0])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # log fatal errors only; other errors are raised and reported in one line
    threads = os.environ.get("OMP_NUM_THREADS", "")  # as torch and others do; Ray and job files set it per process
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0  # 0: one for each core
    # Waiting threads would spin, and take the core from threads that read and write photos meanwhile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The memory pattern would double the memory of a run, from the second run on and for good, and speeds up none.
    options.enable_mem_pattern = False
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=there)
    except Exception as error:
        raise PetsegError(f"{path.name} {_in_words(error)}") from error


def _in_words(error: Exception) -> str:
    """Say what is wrong with a file, judged by ONNX Runtime's message: its errors have no classes of their own."""
    said = str(error)
    if "allocate memory" in said or "bad allocation" in said or "bad_alloc" in said:
        return "needs more memory than there is."
    return f"is damaged, or not an ONNX file: {said.splitlines()[0]}"


# Where tensors are in ONNX's messages, by field number (onnx.proto).  The library `onnx` could read them, but it is
# large, and making masks should not require it.
_INSIDE = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
}
_TYPE, _FLOATS, _RAW, _DOUBLES, _EXTERNAL, _LOCATION = 2, 4, 9, 10, 13, 14  # fields of a tensor
_HALF, _BFLOAT = 10, 16
_NUMBERS = {1: "<f4", _HALF: "<f2", 11: "<f8"}  # types of a tensor's raw numbers


def _check_weights(path: Path) -> None:
    """Check that a file's weights are all finite: activations like ReLU would hide a NaN in the results.

    Raises
    ------
    PetsegError
        If some are not finite, if weights lie in another file, or if this file is not ONNX.
    """
    try:
        for tensor in _tensors(memoryview(path.read_bytes()), "model"):
            fields: dict[int, list] = {}
            for number, value in _fields(tensor):
                fields.setdefault(number, []).append(value)
            if _EXTERNAL in fields or any(fields.get(_LOCATION, [])):
                raise PetsegError(f"{path.name} keeps weights in another file, which is not read: export it anew.")
            kind = fields.get(_TYPE, [0])[-1]
            held = [np.frombuffer(part, _NUMBERS[kind]) for part in fields.get(_RAW, []) if kind in _NUMBERS]
            held += [np.frombuffer(part, "<f4") for part in fields.get(_FLOATS, [])]
            held += [np.frombuffer(part, "<f8") for part in fields.get(_DOUBLES, [])]
            if kind == _BFLOAT or (kind == _HALF and _RAW not in fields) or not all(np.isfinite(x).all() for x in held):
                raise PetsegError(f"{path.name} is damaged: its weights are not finite everywhere.")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise PetsegError(f"{path.name} is damaged, or not an ONNX file.") from error


def _tensors(message: memoryview, kind: str) -> Iterator[memoryview]:
    """Yield the tensors in an ONNX message, at any depth."""
    for number, value in _fields(message):
        inner = _INSIDE[kind].get(number)
        if inner == "tensor":
            yield value
        elif inner:
            yield from _tensors(value, inner)


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value, an integer or bytes, of each field of a protobuf message."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        wire = key & 7
        if wire == 0:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if wire == 2:
            length, place = _varint(message, place)
        else:
            length = {1: 8, 5: 4}[wire]
        if place + length > len(message):
            raise ValueError("cut")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Read an integer in protobuf's varint form, at most ten bytes; return it and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("no integer")
