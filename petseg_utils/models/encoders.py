"""Frozen image encoders, photo in and feature maps out: CLIP's vision transformer, or a stand-in usable offline."""

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
TWICE_LITE = LITE + TWICE  # also sees each picture enlarged to twice its size
DETAIL_LITE = LITE + "@224+448"  # sees each photo at two sizes
LAYERS = 4  # layers taken of a vision transformer, at 1/4, 2/4, 3/4 and 4/4 of its depth: 3, 6, 9, 12 of 12
log = logging.getLogger(__name__)


class Encoder(nn.Module):
    """A frozen network that turns pixels into feature maps; make one with `load_encoder`.

    Parameters
    ----------
    identity : str
        Name of the encoder in records: the spec, or for a file its name and the start of its SHA-256.
    network : nn.Module
        The pretrained network.  Its parameters are frozen here, and it stays in evaluation mode.
    feature_maps : callable
        ``feature_maps(images)`` returns a list of maps ``(N, C, H / stride, W / stride)`` of normalised pictures.
    mean, std : sequence of float
        The normalisation that the network was trained with, one value per channel, for pixels in 0..255.
    strides, channels : tuple of int
        Stride and channels of each map, in their order; strides in pixels of the square for which masks are made.
    scale : int
        How many times as large as that square its input pictures must be, 1 or 2.
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
        """Do nothing: a frozen network's batch norms must not follow the mode of the model around it."""
        return self

    def __deepcopy__(self, memo: dict) -> "Encoder":
        """Return itself: an encoder never changes, so it needs no copy, for instance when the model is averaged."""
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps of a batch.

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
            If the height or the width is not a multiple of the scale times the coarsest stride.
        """
        step = self.scale * max(self.strides)
        if images.shape[-2] % step or images.shape[-1] % step:
            raise ValueError(f"{self.identity} needs sizes in multiples of {step}, got {tuple(images.shape[-2:])}")
        return self._feature_maps((images.float().contiguous() - self.mean).div_(self.std))


def load_encoder(spec: str, image_size: int = 224) -> Encoder:
    """Load a frozen encoder.  Nothing is downloaded: its weights must be on disk.

    Parameters
    ----------
    spec : str
        ``clip:MODEL/TAG``, a model of open_clip with weights from its caches; ``clip:MODEL//path/to/file``, the same
        with weights from a checkpoint; ``clip:MODEL/random``, for tests; ``lite:efficientnet_lite0``, with weights from
        a package (likewise ``lite:efficientnet_lite2``, once its package is installed); ``lite:efficientnet_lite0+2x``,
        which also sees the picture enlarged to twice its size, for finer maps at five times the cost;
        ``lite:efficientnet_lite0@224+448``, which sees the photo itself at both sizes, and so more of its detail, at
        the same cost as that; ``auto``, whatever `resolve` chooses.
    image_size : int
        Edge of the square pictures to be encoded.  CLIP's positional embeddings are interpolated to it.

    Raises
    ------
    PetsegError
        If the spec is unknown, its weights are not on disk or do not fit, or the picture size does not suit it.
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
            raise PetsegError(
                f"{spec} does not fit pictures of {image_size} px: write {lite[1]}@{image_size}+{2 * image_size}."
            )
        encoder = _load_lite(spec, lite[1], lite[2] or "")
        if image_size % max(encoder.strides):
            raise PetsegError(f"{spec} needs sizes in multiples of {max(encoder.strides)}, not {image_size}.")
        return encoder
    if spec.startswith("clip:"):
        return _load_clip(spec, image_size)
    raise PetsegError(
        f"Unknown encoder {spec!r}. Known: clip:MODEL/TAG, clip:MODEL//path/to/file, {LITE}, {TWICE_LITE}, "
        f"{DETAIL_LITE}, auto."
    )


@functools.cache
def resolve(spec: str) -> str:
    """Return the spec with ``auto`` replaced: by CLIP if its weights are on disk, else by the stand-in.

    No network connection is opened.
    """
    if spec != "auto":
        return spec
    model, tag = CLIP.removeprefix("clip:").split("/")
    return TWICE_LITE if clip_weights(model, tag) is None else CLIP


def encoder_identity(spec: str) -> str:
    """Return the identity (see `Encoder`) of the encoder that a spec names, without loading it.

    Raises
    ------
    PetsegError
        If it is a CLIP whose weights are not on disk.
    """
    spec = resolve(spec)
    return clip_identity(spec) if spec.startswith("clip:") else spec


def _load_lite(spec: str, name: str, looks: str) -> Encoder:
    """Make an encoder of a network from `efficientnet_lite.load_lite`, with maps at strides 4, 8, 16 and 32.

    If it also sees the picture at twice the size, enlarged or with the photo's own detail, it returns its last three
    maps at both sizes, alternately: strides 4 and 8, 8 and 16, 16 and 32.
    """
    network: Any = load_lite(name.removeprefix("lite:"))
    scales, taken = ((2, 1), (2, 3, 4)) if looks else ((1,), (1, 2, 3, 4))
    layers = [(network.feature_info[index], scale) for index in taken for scale in scales]
    network.prune_intermediate_layers(taken)  # drops the classifier, which would never be used

    given = 2 if looks.startswith("@") else 1  # the scale of the input pictures

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
    """Return pictures ``(N, C, H, W)`` at half their size, each pixel the mean of four."""
    return F.avg_pool2d(images, 2)


def enlarged(images: Tensor, scale: int) -> Tensor:
    """Enlarge pictures ``(N, 3, H, W)`` to a multiple of their size, bicubically."""
    if scale == 1:
        return images
    return F.interpolate(images, scale_factor=scale, mode="bicubic", align_corners=False)


def _load_clip(spec: str, image_size: int) -> Encoder:
    """Make an encoder of a CLIP's vision tower: patch tokens of four layers, without the class token (as in CLIPSeg).

    The last layer's tokens pass through the final layer norm, as in CLIP itself; those of the other layers come
    straight from the blocks.  Lüddecke, Ecker: "Image Segmentation Using Text and Image Prompts", CVPR 2022,
    arXiv:2112.10003.
    """
    model, identity = load_clip(spec, image_size, text=False)
    tower: Any = model.visual
    mean, std = normalisation(spec)
    depth = tower.transformer.layers
    taken = [depth * (k + 1) // LAYERS - 1 for k in range(LAYERS)]

    def feature_maps(images: Tensor) -> list[Tensor]:
        # In float32 on a CPU, whatever precision the model around it uses: a ViT-B/16 took three times as long in
        # bfloat16, even on a processor with instructions for it.
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
