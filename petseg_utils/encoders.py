"""Frozen image encoders: photo in, feature maps out.  CLIP's vision transformer, or the stand-in that ships offline."""

import functools
import hashlib
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petseg_utils.lite import load_lite
from petseg_utils.memory import keep_freed_memory
from petseg_utils.study import PetsegError

CLIP = "clip:ViT-B-16-quickgelu/openai"  # what `auto` means where its weights are on disk
LITE = "lite:efficientnet_lite0"
TWICE = "+2x"
TWICE_LITE = LITE + TWICE  # what `auto` means elsewhere: it is shown each picture at twice its size, too
LAYERS = 4  # a vision transformer gives its layers at 1/4, 2/4, 3/4 and 4/4 of its depth: 3, 6, 9, 12 of 12


class Encoder(nn.Module):
    """A frozen network that turns pixels into feature maps; make one with `load_encoder`.

    Parameters
    ----------
    identity : str
        What it is, for records: the spec, and for a file its name and the start of its SHA-256.
    network : nn.Module
        The pretrained network.  Its parameters are frozen here, and it stays in evaluation mode.
    feature_maps : callable
        ``feature_maps(images)``: a list of maps ``(N, C, H / stride, W / stride)`` from normalised pictures.
    mean, std : sequence of float
        The normalisation that the network was trained with, one value a channel, for pixels in 0..255.
    strides, channels : tuple of int
        Of each map, in the order in which they come.
    """

    def __init__(self, identity: str, network: nn.Module, feature_maps: Callable, mean, std, strides, channels):
        super().__init__()
        self.identity = identity
        self.network = network.requires_grad_(False).eval()
        self.strides, self.channels = tuple(strides), tuple(channels)
        self._feature_maps = feature_maps
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "Encoder":
        """Stay as it is: a frozen network's batch norm must not follow the training of what is around it."""
        return self

    def __deepcopy__(self, memo: dict) -> "Encoder":
        """Itself: what never changes needs no copy, as when a model around it is averaged."""
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
            ``(N, C, H / stride, W / stride)`` for each of `channels` and `strides`.

        Raises
        ------
        ValueError
            If the height or the width is not a multiple of the coarsest stride.
        """
        step = max(self.strides)
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
        five times the cost; ``auto``, what `resolve` chooses.
    image_size : int
        Edge of the square pictures to come.  CLIP's positional embeddings are interpolated to it.

    Raises
    ------
    PetsegError
        If the spec names nothing known, its weights are not on disk, or they do not fit.
    """
    spec = resolve(spec)
    keep_freed_memory()
    if re.fullmatch(rf"lite:efficientnet_lite[0-4]({re.escape(TWICE)})?", spec):
        encoder = _load_lite(spec)
        if image_size % max(encoder.strides):
            raise PetsegError(f"{spec} wants sizes in multiples of {max(encoder.strides)}, not {image_size}.")
        return encoder
    if spec.startswith("clip:"):
        return _load_clip(spec, image_size)
    raise PetsegError(
        f"Unknown encoder {spec!r}. Known: clip:MODEL/TAG, clip:MODEL//path/to/file, {LITE}, {TWICE_LITE}, auto."
    )


@functools.cache
def resolve(spec: str) -> str:
    """The encoder that a spec stands for; ``auto`` is CLIP if its weights are on disk, else the stand-in.

    ``auto`` says once on stderr what it took.  No connection is opened.
    """
    if spec != "auto":
        return spec
    model, tag = CLIP.removeprefix("clip:").split("/")
    found = clip_weights(model, tag) is not None
    taken = CLIP if found else TWICE_LITE
    why = "its weights are on disk" if found else "no CLIP weights on disk; `petseg data download --clip` fetches them"
    print(f"Encoder: {taken} ({why}).", file=sys.stderr)
    return taken


def _load_lite(spec: str) -> Encoder:
    """A network of `lite.load_lite`, which gives maps at strides 4, 8, 16 and 32.

    Shown the picture at twice its size too, it gives its last three maps of both, in turns: strides 4 and 8, 8 and 16,
    16 and 32.
    """
    network = load_lite(spec.removeprefix("lite:").removesuffix(TWICE))
    scales, taken = ((2, 1), (2, 3, 4)) if spec.endswith(TWICE) else ((1,), (1, 2, 3, 4))
    about = [(network.feature_info[index], scale) for index in taken for scale in scales]
    network.prune_intermediate_layers(taken)  # its classifier would be carried along, and never asked

    def feature_maps(images: Tensor) -> list[Tensor]:
        found = [
            network.forward_intermediates(scaled, indices=taken, stop_early=True, intermediates_only=True)
            for scaled in (enlarged(images, scale) for scale in scales)
        ]
        return [one for same_layer in zip(*found, strict=True) for one in same_layer]

    return Encoder(
        spec,
        network,
        feature_maps,
        mean=[127.0] * 3,
        std=[128.0] * 3,
        strides=[layer["reduction"] // scale for layer, scale in about],
        channels=[layer["num_chs"] for layer, _ in about],
    )


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
    import open_clip

    model, identity = load_clip(spec, image_size)
    tower = model.visual
    source = open_clip.get_pretrained_cfg(*spec.removeprefix("clip:").split("/")[:2])
    depth = tower.transformer.layers
    taken = [depth * (k + 1) // LAYERS - 1 for k in range(LAYERS)]

    def feature_maps(images: Tensor) -> list[Tensor]:
        maps = tower.forward_intermediates(images, indices=taken, intermediates_only=True)["image_intermediates"]
        maps[-1] = tower.ln_post(maps[-1].movedim(1, -1)).movedim(-1, 1)
        return maps

    return Encoder(
        identity,
        tower,
        feature_maps,
        # Weights from a file are taken to be trained as OpenAI's were.
        mean=[255 * value for value in source.get("mean", open_clip.OPENAI_DATASET_MEAN)],
        std=[255 * value for value in source.get("std", open_clip.OPENAI_DATASET_STD)],
        strides=[tower.patch_size[0]] * LAYERS,
        channels=[tower.transformer.width] * LAYERS,
    )


def load_clip(spec: str, image_size: int = 224) -> tuple[nn.Module, str]:
    """A whole CLIP, image and text towers, and its identity for records.  See `load_encoder` for specs and errors."""
    import open_clip

    name, _, tag = spec.removeprefix("clip:").partition("/")
    config = open_clip.get_model_config(name) if name in open_clip.list_models() else None
    if config is None:
        raise PetsegError(f"open_clip has no model {name!r}. A spec looks like {CLIP}.")
    if "timm_model_name" in config["vision_cfg"] or not isinstance(config["vision_cfg"].get("layers"), int):
        raise PetsegError(f"{name} has no plain vision transformer, so no patch tokens. Take a model such as ViT-B-16.")
    if image_size % config["vision_cfg"]["patch_size"]:
        raise PetsegError(f"{name} wants sizes in multiples of {config['vision_cfg']['patch_size']}, not {image_size}.")
    if tag == "random":
        torch.manual_seed(0)
        return _without_weights(name, image_size), spec
    if tag.startswith("/"):  # clip:MODEL//path: absolute if there is such a file, else below the working folder
        path = Path(tag) if Path(tag).is_file() else Path(tag[1:])
        if not path.is_file():
            raise PetsegError(f"No weights {path.name!r} at the path that the encoder {name!r} names.")
        identity = f"clip:{name}//{path.name}@{_sha256(path)[:12]}"
    else:
        _check_activation(name, tag, config)
        path, identity = clip_weights(name, tag), spec
        if path is None:
            raise PetsegError(
                f"The weights of {spec} are not on this disk. `petseg data download --clip` fetches {CLIP}; "
                f"or name a file, clip:{name}//path/to/file, or take the encoder {LITE}."
            )
    model = _without_weights(name, image_size)
    try:
        open_clip.load_checkpoint(model, str(path), strict=True, weights_only=True)
    except Exception as error:  # the file is a stranger's: whatever is wrong with it is for its owner to know
        hint = (
            " A TorchScript archive can run code and is not opened: take a safetensors file."
            if "Script" in str(error)
            else ""
        )
        raise PetsegError(f"{path.name} does not hold the weights of {name}, or is damaged.{hint} ({error})") from error
    return model, identity


def _without_weights(name: str, image_size: int) -> nn.Module:
    import open_clip

    # It warns that nothing was loaded, which is what it was asked for.
    logging.disable(logging.WARNING)
    try:
        return open_clip.create_model(name, force_image_size=image_size, load_weights=False).eval()
    finally:
        logging.disable(logging.NOTSET)


def clip_weights(name: str, tag: str) -> Path | None:
    """Where the weights of an open_clip model lie in the caches on disk; None if they are not there.

    Raises
    ------
    PetsegError
        If open_clip has no such tag for this model.
    """
    import open_clip
    from huggingface_hub import try_to_load_from_cache

    if tag not in (tags := open_clip.list_pretrained_tags_by_model(name)):
        raise PetsegError(f"open_clip has no weights {tag!r} for {name}. It has: {', '.join(tags) or 'none'}.")
    source = open_clip.get_pretrained_cfg(name, tag)
    if source.get("hf_hub"):
        repo, _, file = source["hf_hub"].rpartition("/")
        for one in ("open_clip_model.safetensors", file or "open_clip_pytorch_model.bin"):
            if isinstance(found := try_to_load_from_cache(repo, one), str):
                return Path(found)
    if source.get("url"):  # where open_clip itself puts what it fetches from elsewhere
        path = Path.home() / ".cache" / "clip" / os.path.basename(source["url"])
        return path if path.is_file() else None
    return None


def _check_activation(name: str, tag: str, config: dict) -> None:
    """Refuse a model whose activation is not the one that its weights were trained with: it would run, and be wrong."""
    import open_clip

    base = name.removesuffix("-quickgelu")
    source = open_clip.get_pretrained_cfg(base, tag) or open_clip.get_pretrained_cfg(name, tag)
    quick = source.get("quick_gelu", False)
    if source and quick != config.get("quick_gelu", False):
        right = f"{base}-quickgelu" if quick else base
        raise PetsegError(
            f"The weights {tag!r} were trained with {'QuickGELU' if quick else 'GELU'}, and {name} has the other "
            f"activation: it would run and be wrong. Take clip:{right}/{tag}."
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
