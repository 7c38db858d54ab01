"""Export a checkpoint as ONNX files, which run without torch; see `models.exported` for their inputs and outputs."""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from petseg_utils.data.tensors import input_scale
from petseg_utils.models.cards import sha256
from petseg_utils.models.click_head import PointSegmenter
from petseg_utils.models.decoder import FrozenSegmenter
from petseg_utils.models.encoders import halved
from petseg_utils.models.exported import CLICK_HEAD, DECODER, ENCODER
from petseg_utils.study import PetsegError
from petseg_utils.study.provenance import best_device
from petseg_utils.training import checkpoints
from petseg_utils.training.recipes import recipe_of

OPSET = 18  # the oldest with all the operators in use, so that older runtimes can run the files too
HALVED_FROM = 256  # elements: smaller tensors stay float32, as they take hardly any room
LARGEST_BATCH = 1024


def export(checkpoint: Path, out: Path) -> list[Path]:
    """Write a checkpoint as ONNX files, with weights in half precision.

    An existing encoder file with the same graph is left as it is, for it does not depend on the decoder; so is a click
    model's decoder file.

    Parameters
    ----------
    checkpoint : Path
        The ``.safetensors`` file; its card lies beside it and goes into the files' metadata.
    out : Path
        Folder of the files; created if needed.

    Returns
    -------
    list of Path
        The files that make up the model; `segmenter.Segmenter.load` takes the last one.

    Raises
    ------
    PetsegError
        If the checkpoint is missing, damaged, or of a model that makes no masks.
    """
    network, card = checkpoints.load(checkpoint)
    if not recipe_of(card["model"]).makes_masks:
        raise PetsegError(f"{checkpoint.name} holds the model {card['model']}, which makes no masks.")
    network.to("cpu")
    try:
        return _export(network, card | {"peak": getattr(network, "peak", 0.0)}, sha256(checkpoint), out)
    finally:
        network.to(best_device())  # other models share its encoder


@torch.no_grad()
def _export(network: nn.Module, card: dict, digest: str, out: Path) -> list[Path]:
    size = card["image_size"]
    edge = input_scale(network) * size
    pixels = torch.randint(0, 256, (2, edge, edge, 3), dtype=torch.uint8)
    out.mkdir(parents=True, exist_ok=True)
    told = {"weights": digest}
    if not isinstance(network, FrozenSegmenter):
        card["multiply_adds"] = {card["model"]: _multiply_adds(_Whole(network), (pixels,))}
        told["card"] = json.dumps(card)
        return [_write(out / f"{card['model']}.onnx", _Whole(network), (pixels,), ["pixels"], ["logits"], told)]
    encoder, decoder = _Encoding(network), _Decoding(network)
    head = _Selecting(network) if isinstance(network, PointSegmenter) else None
    picture, *maps = encoder(pixels)
    clicks = torch.rand(2, 4, size, size), torch.tensor([1.0, -1.0]), torch.ones(2)
    asked = (*decoder(picture, maps), maps, *clicks)
    card["multiply_adds"] = {
        "encoder": _multiply_adds(encoder, (pixels,)),
        "decoder": _multiply_adds(decoder, (picture, maps)),
    } | ({"click_head": _multiply_adds(head, asked)} if head else {})
    told["card"] = json.dumps(card)
    # The decoder of a click model gets a decoder's card.
    told_decoder = told | ({"card": json.dumps(card | {"model": "decoder"})} if head else {})
    names = [f"map{number}" for number in range(len(maps))]
    seen, answers, told_encoder = ["picture", *names], ["logits", "cells"], {"encoder": network.encoder.identity}
    files = [_write(out / ENCODER, encoder, (pixels,), ["pixels"], seen, told_encoder, keep=True)]
    keep = head is not None
    files.append(_write(out / DECODER, decoder, (picture, maps), seen, answers, told_decoder, files, keep=keep))
    if head:
        wanted = [*answers, *names, "prompts", "latest", "side"]
        files.append(_write(out / CLICK_HEAD, head, asked, wanted, ["selected"], told, files))
    return files


class _Whole(nn.Module):
    """A model without a frozen encoder, taking pixels channels last and ``uint8``, as image files have them."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(pixels.permute(0, 3, 1, 2).float())


class _Encoding(nn.Module):
    """The frozen encoder: returns the picture at the size of the masks, and the feature maps."""

    def __init__(self, network: FrozenSegmenter):
        super().__init__()
        self.encoder = network.encoder

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        images = pixels.permute(0, 3, 1, 2).float()
        return (halved(images) if self.encoder.scale > 1 else images, *self.encoder(images))


class _Decoding(nn.Module):
    """The decoder: returns logits, and the features of its cells."""

    def __init__(self, network: FrozenSegmenter):
        super().__init__()
        self.decoder = network.decoder

    def forward(self, picture: Tensor, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        cells = self.decoder.cells(maps, picture)
        return self.decoder.head(cells), cells


class _Selecting(nn.Module):
    """The click head.  It computes its context of the picture again for each click, which takes little time."""

    def __init__(self, network: PointSegmenter):
        super().__init__()
        self.network = network

    def forward(
        self, logits: Tensor, cells: Tensor, maps: list[Tensor], prompts: Tensor, latest: Tensor, side: Tensor
    ) -> Tensor:
        seen = cells, logits, *self.network.head.context(cells, maps)
        return self.network.select(seen, prompts, latest, side)


@torch.inference_mode()
def operations_of(action: Callable[[], object]) -> float:
    """Count the floating-point operations of a call's convolutions and matrix products: two for each multiply-add."""
    counter, fused = FlopCounterMode(display=False), torch.backends.mha.get_fastpath_enabled()
    # Torch does not count what happens inside its fused kernels for attention.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with counter, sdpa_kernel(SDPBackend.MATH):
            action()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return float(counter.get_total_flops())


def _multiply_adds(part: nn.Module, examples: tuple) -> float:
    """Return the number of multiply-adds of a part for one picture, given examples of two pictures."""
    return operations_of(lambda: part(*examples)) / 2 / 2


def _write(
    path: Path,
    part: nn.Module,
    examples: tuple,
    names: list[str],
    answers: list[str],
    told: dict[str, str],
    beside: Sequence[Path] = (),
    *,
    keep: bool = False,
) -> Path:
    """Export a part of a model to a file.

    Parameters
    ----------
    path : Path
        The file to write.
    part : nn.Module
        The part to export.
    examples : tuple
        Example arguments, tensors or lists of them, each with the batch as its first axis.
    names, answers : list of str
        Names of the inputs and the outputs in the file.
    told : dict of str to str
        Metadata for the file.
    beside : sequence of Path
        Files that are run before this one.
    keep : bool
        Leave an existing file as it is if it already has this graph.
    """
    import onnx

    batch = {0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)}
    shapes = tuple(batch if isinstance(example, Tensor) else [batch] * len(example) for example in examples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            part.eval(),
            examples,
            dynamo=True,
            input_names=names,
            output_names=answers,
            dynamic_shapes=shapes,
            opset_version=OPSET,
            verbose=False,
        )
    model = _plain(program.model_proto)
    if keep and path.is_file() and onnx.load(path).graph == model.graph:
        return path
    onnx.helper.set_model_props(model, told | {"beside": json.dumps({file.name: sha256(file) for file in beside})})
    onnx.checker.check_model(model)
    temporary = path.with_name(f"{path.name}.part")
    onnx.save(model, temporary)
    temporary.replace(path)
    return path


def _plain(proto: Any) -> Any:
    """Remove notes on where an exported model was made, and store its large tensors in half precision."""
    from onnx import TensorProto, helper, numpy_helper

    graph = proto.graph
    for noted in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        noted.ClearField("metadata_props")
        noted.ClearField("doc_string")
    graph.ClearField("value_info")
    casts = []
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if tensor.data_type == TensorProto.FLOAT and values.size >= HALVED_FROM:
            if np.abs(values).max() > np.finfo(np.float16).max:
                continue
            graph.initializer.remove(tensor)
            graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}.half"))
            casts.append(helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=TensorProto.FLOAT))
    for cast in reversed(casts):  # the runtime runs these once, when it loads the file
        graph.node.insert(0, cast)
    return proto
