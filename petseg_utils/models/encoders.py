"""Frozen image encoders: photo in, feature maps out.  CLIP's vision transformer, or the stand-in that ships offline."""

import contextlib
import functools
import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petseg_utils.models.clip import CLIP, clip_identity, clip_weights, load_clip, normalisation
from petseg_utils.models.efficientnet_lite import load_lite
from petseg_utils.study import PetsegError

LITE = "lite:efficientnet_lite0"
TWICE = "+2x"
TWICE_LITE = LITE + TWICE  # it is shown each picture at twice its size, too
DETAIL_LITE = LITE + "@224+448"  # it is shown each photo at two sizes
LAYERS = 4  # a vision transformer gives its layers at 1/4, 2/4, 3/4 and 4/4 of its depth: 3, 6, 9, 12 of 12
log = logging.getLogger(__name__)


class Encoder(nn.Module):
    """A frozen network that turns pixels into feature maps; make one with `load_encoder`.

    Parameters
    ----------
    identity : str
        Its name in records: the spec, and for a file its name and the start of its SHA-256.
    network : nn.Module
        The pretrained network.  Its parameters are frozen here, and it stays in evaluation mode.
    feature_maps : callable
        ``feature_maps(images)``: a list of maps ``(N, C, H / stride, W / stride)`` from normalised pictures.
    mean, std : sequence of float
        The normalisation that the network was trained with, one value a channel, for pixels in 0..255.
    strides, channels : tuple of int
        Of each map, in the order in which they come; strides in pixels of the square that masks are made for.
    scale : int
        How many times larger than that square the pictures are that it wants to see, 1 or 2.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        identity: str,
        network: nn.Module,
        feature_maps: Callable[[Tensor], list[Tensor]],
        mean: Sequence[float],
        std: Sequence[float],
        strides: Sequence[int],
        channels: Sequence[int],
        scale: int = 1,
    ):
        super().__init__()
        self.identity = identity
        self.scale = scale
        self.network = network.requires_grad_(False).eval()
        self.strides, self.channels = tuple(strides), tuple(channels)
        self._feature_maps = feature_maps
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "Encoder":
        """Do nothing: a frozen network's batch norm must not follow the mode of the model around it."""
        return self

    def __deepcopy__(self, memo: dict) -> "Encoder":
        """Itself: what never changes needs no copy, for instance where the model around it is averaged."""
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of a batch.

        Parameters
        ----------
        images : Tensor
            ``(N, 3, H, W)``, RGB pixel values 0..255, ``uint8`` or float.

        Returns
        -------
        list of Tensor
            ``(N, C, H / (scale * stride), W / (scale * stride))`` for each of `channels` and `strides`.

        Raises
        ------
        ValueError
            If the height or the width is not a multiple of the coarsest stride.
        """
        step = self.scale * max(self.strides)
        if images.shape[-2] % step or images.shape[-1] % step:
            raise ValueError(f"{self.identity} needs sizes in multiples of {step}, got {tuple(images.shape[-2:])}")
        return self._feature_maps((images.float().contiguous() - self.mean).div_(self.std))


def load_encoder(spec: str, image_size: int = 224) -> Encoder:
    """Load a frozen encoder.  Nothing is fetched: its weights must be on disk.

    Parameters
    ----------
    spec : str
        ``clip:MODEL/TAG``, a model of open_clip with weights from its caches; ``clip:MODEL//path/to/file``, with
        weights from a checkpoint; ``clip:MODEL/random``, for tests; ``lite:efficientnet_lite0``, weights from a
        package (so are those of ``lite:efficientnet_lite2``, once its package is installed);
        ``lite:efficientnet_lite0+2x``, which also looks at the picture enlarged to twice its size, for finer maps at
        five times the cost; ``lite:efficientnet_lite0@224+448``, which sees the photo itself at both sizes, and so gets
        its detail, at the same cost; ``auto``, what `resolve` chooses.
    image_size : int
        Edge of the square pictures to come.  CLIP's positional embeddings are interpolated to it.

    Raises
    ------
    PetsegError
        If the spec names nothing known, its weights are not on disk, or they do not fit.
    """
    if spec == "auto":
        spec = resolve(spec)
        why = (
            "its weights are on disk"
            if spec == CLIP
            else "no CLIP weights on disk; `petseg data download --clip` fetches them"
        )
        log.info("Encoder: %s (%s).", spec, why)
    if lite := re.fullmatch(rf"(lite:efficientnet_lite[0-4])({re.escape(TWICE)}|@(\d+)\+(\d+))?", spec):
        if lite[3] and (int(lite[3]), int(lite[4])) != (image_size, 2 * image_size):
            raise PetsegError(f"For pictures of {image_size} px write {lite[1]}@{image_size}+{2 * image_size}.")
        encoder = _load_lite(spec, lite[1], lite[2] or "")
        if image_size % max(encoder.strides):
            raise PetsegError(f"{spec} wants sizes in multiples of {max(encoder.strides)}, not {image_size}.")
        return encoder
    if spec.startswith("clip:"):
        return _load_clip(spec, image_size)
    raise PetsegError(
        f"Unknown encoder {spec!r}. Known: clip:MODEL/TAG, clip:MODEL//path/to/file, {LITE}, {TWICE_LITE}, "
        f"{DETAIL_LITE}, auto."
    )


@functools.cache
def resolve(spec: str) -> str:
    """The encoder that a spec stands for; ``auto`` is CLIP if its weights are on disk, else the stand-in.

    No connection is opened.
    """
    if spec != "auto":
        return spec
    model, tag = CLIP.removeprefix("clip:").split("/")
    return TWICE_LITE if clip_weights(model, tag) is None else CLIP


def encoder_identity(spec: str) -> str:
    """The identity that the encoder of a spec has, see `Encoder`, without loading it.

    Raises
    ------
    PetsegError
        If its weights are not on disk.
    """
    spec = resolve(spec)
    return clip_identity(spec) if spec.startswith("clip:") else spec


def _load_lite(spec: str, name: str, looks: str) -> Encoder:
    """A network of `efficientnet_lite.load_lite`, which gives maps at strides 4, 8, 16 and 32.

    Shown the picture at twice its size too, enlarged or as the photo has it, it gives its last three maps of both, in
    turns: strides 4 and 8, 8 and 16, 16 and 32.
    """
    network: Any = load_lite(name.removeprefix("lite:"))
    scales, taken = ((2, 1), (2, 3, 4)) if looks else ((1,), (1, 2, 3, 4))
    layers = [(network.feature_info[index], scale) for index in taken for scale in scales]
    network.prune_intermediate_layers(taken)  # its classifier would be carried along, and never asked

    given = 2 if looks.startswith("@") else 1  # the scale of the pictures that come in

    def looked_at(images: Tensor) -> list[Tensor]:
        return [images, halved(images)] if given == 2 else [enlarged(images, scale) for scale in scales]

    def feature_maps(images: Tensor) -> list[Tensor]:
        by_scale = [
            network.forward_intermediates(scaled, indices=taken, stop_early=True, intermediates_only=True)
            for scaled in looked_at(images)
        ]
        return [layer_map for same_layer in zip(*by_scale, strict=True) for layer_map in same_layer]

    return Encoder(
        spec,
        network,
        feature_maps,
        mean=[127.0] * 3,
        std=[128.0] * 3,
        strides=[layer["reduction"] // scale for layer, scale in layers],
        channels=[layer["num_chs"] for layer, _ in layers],
        scale=given,
    )


def halved(images: Tensor) -> Tensor:
    """Pictures ``(N, C, H, W)`` at half their size, each pixel the mean of four."""
    return F.avg_pool2d(images, 2)


def enlarged(images: Tensor, scale: int) -> Tensor:
    """Pictures ``(N, 3, H, W)`` at a multiple of their size, bicubic."""
    if scale == 1:
        return images
    return F.interpolate(images, scale_factor=scale, mode="bicubic", align_corners=False)


def _load_clip(spec: str, image_size: int) -> Encoder:
    """The vision tower of a CLIP: patch tokens of four layers, without the class token (as CLIPSeg takes them).

    The last layer's tokens go through the final layer norm, as they do on CLIP's own way out; the others are as the
    blocks leave them.  Lüddecke, Ecker: "Image Segmentation Using Text and Image Prompts", CVPR 2022, arXiv:2112.10003.
    """
    model, identity = load_clip(spec, image_size, text=False)
    tower: Any = model.visual
    mean, std = normalisation(spec)
    depth = tower.transformer.layers
    taken = [depth * (k + 1) // LAYERS - 1 for k in range(LAYERS)]

    def feature_maps(images: Tensor) -> list[Tensor]:
        # On a CPU in float32, whatever the model around it computes in: in bfloat16 a ViT-B/16 took three times as long
        # on a processor that has instructions for it.
        on_cpu = images.device.type == "cpu"
        with torch.autocast("cpu", enabled=False) if on_cpu else contextlib.nullcontext():
            maps = tower.forward_intermediates(images, indices=taken, intermediates_only=True)["image_intermediates"]
            maps[-1] = tower.ln_post(maps[-1].movedim(1, -1)).movedim(-1, 1)
        return maps

    return Encoder(
        identity,
        tower,
        feature_maps,
        mean=[255 * value for value in mean],
        std=[255 * value for value in std],
        strides=[tower.patch_size[0]] * LAYERS,
        channels=[tower.transformer.width] * LAYERS,
    )
