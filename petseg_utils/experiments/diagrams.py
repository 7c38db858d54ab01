"""Diagrams of the networks, narrow enough for a phone; every shape in them comes from a real module's output."""

from collections.abc import Sequence

import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn

from petseg_utils.experiments.plotting import MODEL_COLOURS, new_figure
from petseg_utils.models.autoencoder import Autoencoder
from petseg_utils.models.click_head import PointSegmenter
from petseg_utils.models.decoder import FrozenSegmenter
from petseg_utils.models.unet import UNet, UNetEncoder, receptive_field

WIDTH = 5.2  # inches: a phone shows it 3.3 inches wide, with its words still legible
ROW = 0.68  # inches between the centres of two rows of boxes
BOX = 0.6  # height of a box, as a share of that
INK = "#20242A"
FIXED = "#E2E2E2"  # parts that stay fixed while the model is trained
GIVEN = "white"  # inputs and outputs
Boxes = dict[str, tuple[tuple[float, float], str, str]]  # by name: column and row from the top left, text, colour


def unet_diagram(network: UNet, size: int) -> Figure:
    """Draw the U-Net for pictures of ``size x size`` pixels: down on the left, up on the right, skips across."""
    down, up = list(network.encoder.blocks), list(network.decoder.blocks)
    picture = torch.zeros(1, 3, size, size)
    shapes = output_shapes(network, [*down, *up, network.decoder.head], picture)
    boxes, arrows = _down_and_up(shapes[: len(down)], shapes[len(down) : -1], MODEL_COLOURS["unet"])
    boxes |= {"picture": ((0, 0), words("picture", picture), GIVEN), "end": ((1, 0), f"logits\n{shapes[-1]}", GIVEN)}
    arrows += [(f"down {row}", f"up {row}") for row in range(1, len(down))]
    arrows.append((f"down {len(down)}", f"up {len(down) - 1}"))
    return _draw(boxes, arrows)


def stage_table(encoder: UNetEncoder, maps: list[Tensor]) -> pd.DataFrame:
    """Return a row per stage of the U-Net's encoder with the shapes of these maps, and what a stage sees and costs."""
    weights = [sum(values.numel() for values in block.parameters()) for block in encoder.blocks]
    return pd.DataFrame(
        {
            "feature map": words("", features).strip(),
            "receptive field, px": receptive_field(stage),
            "weights": count,
            "million multiplications": round(count * features[0, 0].numel() / 1e6),
        }
        for stage, (count, features) in enumerate(zip(weights, maps, strict=True), start=1)
    )


def autoencoder_diagram(network: Autoencoder, size: int) -> Figure:
    """Draw the autoencoder without skip connections for pictures of ``size x size`` pixels, its code at the bottom."""
    down, (squeeze, widen) = list(network.encoder.blocks), network.bottleneck
    *up, last = [layer for layer in network.decoder.children() if not isinstance(layer, nn.ConvTranspose2d)]
    picture = torch.zeros(1, 3, size, size)
    *shapes, code, wide, painted = output_shapes(network, [*down, *up, squeeze, widen, last], picture)
    colour, bottom = MODEL_COLOURS["autoencoder_unet"], len(down)
    boxes, arrows = _down_and_up(shapes[:bottom], shapes[bottom:], colour)
    boxes |= {"picture": ((0, 0), words("picture", picture), GIVEN), "end": ((1, 0), f"painted\n{painted}", GIVEN)}
    boxes |= {"code": ((0.5, bottom + 1), f"code\n{code}", colour), "wide": ((1, bottom), f"widened\n{wide}", colour)}
    arrows += [(f"down {bottom}", "code"), ("code", "wide"), ("wide", f"up {bottom - 1}")]
    return _draw(boxes, arrows)


def decoder_diagram(network: FrozenSegmenter, size: int) -> Figure:
    """Draw the decoder on a frozen encoder for masks of ``size x size`` pixels: maps left, its path right."""
    decoder, colour = network.decoder, MODEL_COLOURS["decoder"]
    picture = torch.zeros(1, 3, network.scale * size, network.scale * size)
    with torch.inference_mode():
        maps = [network.encode(picture)[0][number] for number in decoder.maps]
    parts = [decoder.narrow, decoder.join, decoder.head, *decoder.merge, *decoder.refine]
    narrow, join, head, *shapes = output_shapes(network, parts, picture)
    refined = len(decoder.refine)
    path = list(zip(["merge"] * len(decoder.merge) + ["refine"] * refined, shapes, strict=True))
    boxes: Boxes = {
        "logits": ((1, 0), f"logits\n{head}", GIVEN),
        "join": ((1, 1), f"join\n{join}", colour),
        "narrow": ((1, 2 + decoder.n_fine), f"halve channels\n{narrow}", colour),
        "picture": ((0, 2), words("picture", picture), GIVEN),
    }
    arrows = [("join", "logits"), ("narrow", "join"), ("picture", "map 0")]
    if decoder.stem is not None:
        (stem,) = output_shapes(network, [decoder.stem], picture)
        boxes["stem"] = ((0, 1), f"stem\n{stem}", colour)
        arrows += [("picture", "stem"), ("stem", "join")]
    for row, (number, features) in enumerate(zip(decoder.maps, maps, strict=True)):
        fine = row < decoder.n_fine
        boxes[f"map {row}"] = ((0, row + 3 + (0 if fine else refined)), words(f"map {number + 1}", features), FIXED)
        arrows.append((f"map {row}", "join" if fine else f"step {row + refined}"))
    for row, (name, shape) in enumerate(reversed(path), start=decoder.n_fine):
        boxes[f"step {row}"] = ((1, row + 3), f"{name}\n{shape}", colour)
        arrows.append((f"step {row}", "narrow" if row == decoder.n_fine else f"step {row - 1}"))
    return _draw(boxes, arrows, "frozen encoder")


def click_head_diagram(network: PointSegmenter, size: int) -> Figure:
    """Draw the click head for masks of ``size x size`` pixels: what is known before a click, the way down, and up."""
    head, colour = network.head, MODEL_COLOURS["point"]
    picture = torch.zeros(1, 3, network.scale * size, network.scale * size)
    prompts, latest = torch.zeros(1, 4, size, size), torch.ones(1)
    with torch.inference_mode():
        known = network.look(picture)[2:]
    parts = [head.first, head.blocks[0], head.blocks[2], head.blocks[3], head.blocks[4], head]
    first, middle, coarse, *up, selection = output_shapes(network, parts, picture, None, None, prompts, latest)
    boxes: Boxes = {
        "prompts": ((1, 0), words("prompts", prompts), GIVEN),
        "selection": ((2, 0), f"selection\n{selection}", GIVEN),
        "up 1": ((2, 1), f"up\n{up[1]}", colour),
        "up 2": ((2, 2), f"up\n{up[0]}", colour),
    }
    for row, (shape, context) in enumerate(zip((first, middle, coarse), known, strict=True), start=1):
        boxes[f"known {row}"] = ((0, row), words("features", context), FIXED)
        boxes[f"down {row}"] = ((1, row), f"{'down' if row > 1 else 'first'}\n{shape}", colour)
    arrows = [(f"known {row}", f"down {row}") for row in (1, 2, 3)]
    arrows += [("prompts", "down 1"), ("down 1", "down 2"), ("down 2", "down 3"), ("down 3", "up 2"), ("up 2", "up 1")]
    arrows += [("down 1", "up 1"), ("down 2", "up 2"), ("up 1", "selection"), ("prompts", "selection")]
    return _draw(boxes, arrows, "before any click")


def output_shapes(network: nn.Module, parts: Sequence[nn.Module], *inputs: Tensor | None) -> list[str]:
    """Return the output shape of each part of a network for given inputs, as ``channels × height × width``."""
    shapes: dict[nn.Module, str] = {}

    def note(part: nn.Module, _: tuple, output: Tensor) -> None:
        shapes[part] = words("", output).strip()

    hooks = [part.register_forward_hook(note) for part in parts]
    training = network.training
    with torch.inference_mode():
        network.eval()(*inputs)
    network.train(training)
    for hook in hooks:
        hook.remove()
    return [shapes[part] for part in parts]


def words(name: str, tensor: Tensor) -> str:
    """Return a name with the shape of one example of a batch below it."""
    return f"{name}\n" + " × ".join(str(edge) for edge in tensor.shape[1:])


def _down_and_up(down: list[str], up: list[str], colour: str) -> tuple[Boxes, list[tuple[str, str]]]:
    """Return two columns of boxes between the picture and the end: shapes going down, the deepest last, and back up."""
    boxes: Boxes = {f"down {row}": ((0, row), shape, colour) for row, shape in enumerate(down, start=1)}
    boxes |= {f"up {row}": ((1, row), shape, colour) for row, shape in enumerate(reversed(up), start=1)}
    arrows = [("picture", "down 1"), ("up 1", "end")]
    arrows += [(f"down {row}", f"down {row + 1}") for row in range(1, len(down))]
    return boxes, arrows + [(f"up {row + 1}", f"up {row}") for row in range(1, len(up))]


def _draw(boxes: Boxes, arrows: list[tuple[str, str]], fixed: str = "") -> Figure:
    """Draw boxes in columns and rows, arrows between them, and a label beside the fixed boxes of the first column."""
    columns, rows = (1 + max(place[axis] for place, _, _ in boxes.values()) for axis in (0, 1))
    figure, axis = new_figure(width=WIDTH, height=ROW * rows)
    axis.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.6, -0.4))
    axis.set_axis_off()
    width = 0.62 if columns == 2 else 0.78
    if fixed:
        held = [row for (_, row), _, colour in boxes.values() if colour == FIXED]
        axis.text(-0.5, (min(held) + max(held)) / 2, fixed, rotation=90, va="center", fontsize=10.5, color=INK)
        axis.plot([-0.41] * 2, [min(held) - BOX / 2, max(held) + BOX / 2], color=INK, linewidth=0.8)
    patches = {}
    for name, ((column, row), text, colour) in boxes.items():
        corner, face = (column - width / 2, row - BOX / 2), colour if colour in (FIXED, GIVEN) else (colour, 0.25)
        patches[name] = FancyBboxPatch(corner, width, BOX, "round,pad=0,rounding_size=0.05", fc=face, ec=INK, lw=0.8)
        axis.add_patch(patches[name])
        axis.text(column, row, text, ha="center", va="center", fontsize=10.5, color=INK, linespacing=1.1)
    for start, end in arrows:
        style = {"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0}
        style |= {"patchA": patches[start], "patchB": patches[end]}
        axis.annotate("", xy=boxes[end][0], xytext=boxes[start][0], arrowprops=style)
    return figure
