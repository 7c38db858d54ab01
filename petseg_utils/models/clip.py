"""CLIP by open_clip: where its weights lie, whether they fit a model, and how they are fetched."""

import contextlib
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from petseg_utils.models.cards import sha256
from petseg_utils.study import PetsegError

CLIP = "clip:ViT-B-16-quickgelu/openai"  # the one that the study is about


def load_clip(spec: str, image_size: int = 224) -> tuple[nn.Module, str]:
    """A whole CLIP, image and text towers, and its identity for records.  Nothing is fetched.

    Specs and errors are those of `encoders.load_encoder`.
    """
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
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return _without_weights(name, image_size), spec
    path: Path | None
    if tag.startswith("/"):  # clip:MODEL//path: absolute if there is such a file, else below the working folder
        path = Path(tag) if Path(tag).is_file() else Path(tag[1:])
        if not path.is_file():
            raise PetsegError(f"No weights {path.name!r} at the path that the encoder {name!r} names.")
        identity = f"clip:{name}//{path.name}@{sha256(path)[:12]}"
    else:
        _check_activation(name, tag, config)
        path, identity = clip_weights(name, tag), spec
        if path is None:
            raise PetsegError(
                f"The weights of {spec} are not on this disk. `petseg data download --clip` fetches {CLIP}; "
                f"or name a file, clip:{name}//path/to/file, or take the encoder lite:efficientnet_lite0."
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

    with _no_warnings():  # that nothing was loaded, which is what was asked for
        return open_clip.create_model(name, force_image_size=image_size, load_weights=False).eval()


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Keep the log from warnings of any logger for a while."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


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
        for name_there in ("open_clip_model.safetensors", file or "open_clip_pytorch_model.bin"):
            if isinstance(path_here := try_to_load_from_cache(repo, name_there), str):
                return Path(path_here)
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


def download_clip() -> str:
    """Fetch the weights of the study's CLIP into the Hugging Face cache, where `encoders.load_encoder` finds them.

    Returns
    -------
    str
        The encoder's spec.

    Raises
    ------
    PetsegError
        If the hub cannot be reached.
    """
    import open_clip
    from huggingface_hub import constants, hf_hub_download

    repository = open_clip.get_pretrained_cfg(*CLIP.removeprefix("clip:").split("/"))["hf_hub"].rpartition("/")[0]
    try:
        # The hub's client tries six times with growing pauses; somebody who is offline should not wait for that.
        with contextlib.suppress(urllib.error.HTTPError):  # an answer, if not a friendly one: there is a hub
            urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=10)
        hf_hub_download(repository, "open_clip_model.safetensors")
    except Exception as error:  # the client wraps what went wrong in kinds of its own, and of its transport's
        raise PetsegError(
            f"The weights of {CLIP} could not be fetched from the Hugging Face hub ({error}). Is this machine online? "
            "Without them take the encoder lite:efficientnet_lite0, or a file: clip:MODEL//path/to/file."
        ) from error
    return CLIP
