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
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from petseg_utils.models.cards import check_sum, checked_card, sha256
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
                raise PetsegError(f"{name} beside {path.name} is another than it was exported with: export both anew.")
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
            raise PetsegError(f"{path.name} takes no square photos of {size} pixels, as its card says.")
        self.scale = pixels.shape[1] // size
        for session in (*self._before, self._last):
            if unknown := sorted({wanted.name for wanted in session.get_inputs()} - known):
                raise PetsegError(f"{path.name} asks for {unknown[0]!r}: it was not written by petseg export.")
            known |= {given.name for given in session.get_outputs()}
        wanted = {"logits", "cells", "selected"} if self.takes_prompts else {"logits"}
        if lacking := sorted(wanted - known):
            raise PetsegError(f"{path.name} does not give {lacking[0]!r}: it was not written by petseg export.")

    def look(self, squares: np.ndarray) -> Seen:
        """All that does not depend on prompts.

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
        answers = self._run(self._last, known | {"prompts": prompts, "latest": latest, "side": side})
        return answers["selected"][:, 0]

    def _run(self, session: Any, known: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray]:
        """A session's results by name, from those of the known values that it asks for."""
        given = {wanted.name: known[wanted.name] for wanted in session.get_inputs()}
        try:
            results = session.run(None, given)
        except Exception as error:
            raise PetsegError(f"{self._path.name} {_in_words(error)}") from error
        # Copies: ONNX Runtime's own arrays lie in its arena, which grows with what somebody keeps, and never shrinks.
        names = (result.name for result in session.get_outputs())
        return dict(zip(names, map(np.array, results), strict=True))


def _session(path: Path) -> Any:
    """A session of ONNX Runtime on the fastest device that it is installed for."""
    # Before the import, which reads it: else it tells its makers of its use, over the network.
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
    options.log_severity_level = 4  # what ends the process; errors are raised, and told in one line
    threads = os.environ.get("OMP_NUM_THREADS", "")  # as torch and others; Ray and job files set it for each process
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0  # 0: one for each core
    # Threads that wait would spin and take the core from whoever reads and writes photos meanwhile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # It would take all memory of a run once more, from the second run on and for good; no run is faster by it.
    options.enable_mem_pattern = False
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=there)
    except Exception as error:
        raise PetsegError(f"{path.name} {_in_words(error)}") from error


def _in_words(error: Exception) -> str:
    """What ONNX Runtime's message says of a file: its errors have no class of their own."""
    said = str(error)
    if "allocate memory" in said or "bad allocation" in said or "bad_alloc" in said:
        return "asks for more memory than there is."
    return f"is damaged, or no ONNX file: {said.splitlines()[0]}"


# Where tensors are in ONNX's messages, by the numbers of their fields (onnx.proto): the library `onnx` is large, and
# who only makes masks does without it.
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
    """Look for what is no number among a file's weights: activations like ReLU would hide it.

    Raises
    ------
    PetsegError
        If there is some, if weights lie in another file, or if this one is no ONNX.
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
        raise PetsegError(f"{path.name} is damaged, or no ONNX file.") from error


def _tensors(message: memoryview, kind: str) -> Iterator[memoryview]:
    """The tensors in an ONNX message, at any depth."""
    for number, value in _fields(message):
        inner = _INSIDE[kind].get(number)
        if inner == "tensor":
            yield value
        elif inner:
            yield from _tensors(value, inner)


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protobuf message: integers, or bytes."""
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
    """An integer in protobuf's form, of ten bytes at most, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("no integer")
