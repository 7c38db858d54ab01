"""CLIP models from open_clip: find their weights, check that they fit a model, and download them."""

import contextlib
import functools
import logging
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from petseg_utils.models.cards import sha256
from petseg_utils.study import PetsegError

CLIP = "clip:ViT-B-16-quickgelu/openai"  # the study's own CLIP
# The keys that a plain vision transformer's configuration may have.
PLAIN_VISION = {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio", "ls_init_value"}
# Names of tensors in transformers' checkpoints, and the corresponding ones in open_clip's.
TRANSFORMERS = (
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),  # the misspelling is theirs
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_projection\.weight$", "text_projection"),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"\.self_attn\.(?=[qkv]_proj|out_proj)", ".attn."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)


def load_clip(spec: str, image_size: int = 224, *, text: bool = True) -> tuple[nn.Module, str]:
    """Load a CLIP with its image and text towers; return it and its identity for records.  Nothing is downloaded.

    Specs and errors are those of `encoders.load_encoder`.

    Parameters
    ----------
    text : bool
        Whether the text tower is needed; if not, a file with the image tower alone is enough.
    """
    name, _, tag = spec.removeprefix("clip:").partition("/")
    config = _configuration(name)
    patch = config["vision_cfg"]["patch_size"]
    if image_size % patch:
        below = image_size // patch * patch
        fit = f"{below} or {below + patch}" if below else f"{patch}"
        raise PetsegError(
            f"{name} needs sizes in multiples of {patch}, not {image_size}: set the study's image_size (for notebook "
            f"04's training on few labels, image_size under [labels]) to {fit}."
        )
    if tag == "random":
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return _without_weights(name, image_size), spec
    path = _weights_of(spec)
    if fault := unreadable(path):
        raise PetsegError(f"{path.name} {fault}.")
    model = _without_weights(name, image_size)
    _fill(model, name, path, text)
    return model, clip_identity(spec)


def clip_identity(spec: str) -> str:
    """Return a CLIP's identity for records: its spec, without folders, and the start of its weights' SHA-256.

    So other weights under the same name are never combined with features or a decoder made with the first ones.

    Raises
    ------
    PetsegError
        If its weights are not on disk.
    """
    name, _, tag = spec.removeprefix("clip:").partition("/")
    if tag == "random":
        return spec
    path = _weights_of(spec)
    stat = path.stat()
    start = _start_of_sha256(path, stat.st_size, stat.st_mtime_ns)
    return f"clip:{name}//{path.name}@{start}" if tag.startswith("/") else f"{spec}@{start}"


@functools.lru_cache
def _start_of_sha256(path: Path, size: int, changed: int) -> str:
    """Return the start of a file's SHA-256; a file with the same size and time of change is read once per process."""
    return sha256(path)[:12]


def _weights_of(spec: str) -> Path:
    """Return the file of weights that a spec names, or the one in the caches for its tag."""
    name, _, tag = spec.removeprefix("clip:").partition("/")
    if tag.startswith("/"):  # clip:MODEL//path: absolute if that file exists, else relative to the working folder
        path = Path(tag) if Path(tag).is_file() else Path(tag[1:])
        if not path.is_file():
            raise PetsegError(f"No weights {path.name!r} at the path that the encoder {name!r} names.")
        return path
    _check_activation(name, tag, _configuration(name))
    cached = clip_weights(name, tag)
    if cached is None:
        raise PetsegError(
            f"The weights of {spec} are not on this disk, or not in a file that can be opened safely. `petseg data "
            f"download --clip {spec}` fetches them; or name a file, clip:{name}//path/to/file, or take the "
            "encoder lite:efficientnet_lite0."
        )
    return cached


def _configuration(name: str) -> dict:
    """Return a model's configuration in open_clip; reject models that are not a CLIP with two plain transformers."""
    import open_clip

    config = open_clip.get_model_config(name) if name in open_clip.list_models() else None
    if config is None:
        raise PetsegError(f"open_clip has no model {name!r}. A spec looks like {CLIP}.")
    if other := _other_tower(config):
        raise PetsegError(f"{name} {other}: it cannot be used here. Take a model such as ViT-B-16 or ViT-L-14.")
    return config


def _other_tower(config: dict) -> str | None:
    """Say how an open_clip model differs from CLIP with its two plain transformers, for pictures and text, or None."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "timm_model_name" in vision or not isinstance(vision.get("layers"), int):
        return "has no plain vision transformer, so no patch tokens"
    if "multimodal_cfg" in config or not vision.keys() <= PLAIN_VISION:
        return "has another image tower than CLIP's"
    return "has another text tower than CLIP's" if text.keys() & {"hf_model_name", "hf_tokenizer_name"} else None


def unreadable(path: Path) -> str | None:
    """Say why a file of weights cannot be opened, or not safely; None if it can be.

    Only the file's headers are read, not its tensors.
    """
    with path.open("rb") as file:
        start = file.read(8)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("/data.pkl") for name in names) and not any("/code/" in name for name in names):
            return None
        return (
            "is a TorchScript archive, or one that is not a checkpoint: it may run code, so it is not opened. Use the "
            "weights as safetensors"
        )
    if start[:1] == b"\x80":  # a pickle, as torch wrote before it used archives
        return None
    try:
        with safe_open(path, framework="pt"):
            return None
    except (SafetensorError, OSError):
        return "is damaged, or not a file of weights: neither safetensors nor a checkpoint of torch. Fetch it anew"


def _fill(model: nn.Module, name: str, path: Path, text: bool) -> None:
    """Load the weights of a file into a model; they may be in open_clip's or in transformers' format."""
    from open_clip.factory import load_state_dict
    from open_clip.model import resize_pos_embed, resize_text_pos_embed

    damaged = f"{path.name} does not hold the weights of {name}, or is damaged."
    try:
        tensors = load_file(path) if path.suffix == ".safetensors" else load_state_dict(str(path), weights_only=True)
        tensors = {key: tensor.detach() for key, tensor in tensors.items()}
    except Exception as error:  # anything may be wrong with a user's file, and its owner should learn what
        raise PetsegError(f"{damaged} ({str(error).splitlines()[0]})") from error
    if "embeddings.patch_embedding.weight" in tensors:  # a CLIPVisionModel, as newer versions write it
        tensors = {f"vision_model.{key}": tensor for key, tensor in tensors.items()}
    if "vision_model.embeddings.patch_embedding.weight" in tensors:
        tensors = from_transformers(tensors)
    own = model.state_dict()
    unknown = sorted(tensors.keys() - own.keys())
    unused = () if text else tuple(key for key in own if not key.startswith("visual.") or key == "visual.proj")
    missing = sorted(own.keys() - tensors.keys() - set(unused))
    if unknown or missing:
        if not any(key.startswith("visual.") for key in tensors):
            raise PetsegError(
                f"{damaged} It is in none of the formats that are known: open_clip's, and transformers' CLIPModel "
                f"and CLIPVisionModel. (A tensor of it: {unknown[0]}.)"
            )
        faults = [f"it lacks {len(missing)} tensors, such as {missing[0]}"] if missing else []
        faults += [f"it holds {len(unknown)} that are unknown, such as {unknown[0]}"] if unknown else []
        raise PetsegError(f"{damaged} ({'; '.join(faults)})")
    if not text:  # avoid copying a tower that is not needed
        tensors = {key: tensor for key, tensor in tensors.items() if key.startswith("visual.")}
    # Half precision cannot be interpolated; the other tensors are widened one by one as they are copied.
    tensors = {key: tensor.float() if "positional" in key else tensor for key, tensor in tensors.items()}
    resize_pos_embed(tensors, model)
    if "positional_embedding" in tensors:
        resize_text_pos_embed(tensors, model)
    # A scale may be a number or a vector of length 1.
    wrong = [key for key, tensor in tensors.items() if tensor.shape != own[key].shape and tensor.numel() > 1]
    if wrong:
        shapes = (tuple(held[wrong[0]].shape) for held in (tensors, own))
        raise PetsegError("{} {} is {} in it, and {} in the model.".format(damaged, wrong[0], *shapes))
    model.load_state_dict(own | {key: tensor.view_as(own[key]) for key, tensor in tensors.items()})


def from_transformers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of transformers' ``CLIPModel`` or ``CLIPVisionModel`` to open_clip's names.

    Unknown tensors keep their names, so that the caller notices them.
    """
    tensors = {key: tensor for key, tensor in tensors.items() if not key.endswith("embeddings.position_ids")}
    renamed = {}
    for key, tensor in tensors.items():
        for theirs, ours in TRANSFORMERS:
            key = re.sub(theirs, ours, key)
        renamed[key] = tensor
    for key in [key for key in renamed if ".q_proj." in key]:  # three projections in one
        parts = [key.replace(".q_proj.", f".{part}_proj.") for part in "qkv"]
        if all(part in renamed for part in parts):
            renamed[key.replace(".q_proj.", ".in_proj_")] = torch.cat([renamed.pop(part) for part in parts])
    if "visual.conv1.weight" in renamed:
        for key in ("visual.proj", "text_projection"):  # transformers stores these transposed
            if key in renamed:
                renamed[key] = renamed[key].T.contiguous()
    return renamed


def normalisation(spec: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the normalisation of the pictures that a CLIP's weights were trained on, looked up by the spec's tag.

    Weights without a tag, from a file or random, are taken to have been trained with OpenAI's normalisation.  (The
    model cannot be asked: made by open_clip without a tag, it reports OpenAI's, whatever weights it is given later.)

    Parameters
    ----------
    spec : str
        A ``clip:`` encoder, see `encoders.load_encoder`.

    Returns
    -------
    mean, std : tuple of float
        For red, green and blue, with pixels in 0..1.
    """
    import open_clip

    name, _, tag = spec.removeprefix("clip:").partition("/")
    source = open_clip.get_pretrained_cfg(name, tag)
    return source.get("mean", open_clip.OPENAI_DATASET_MEAN), source.get("std", open_clip.OPENAI_DATASET_STD)


def _without_weights(name: str, image_size: int) -> nn.Module:
    import open_clip

    with _no_warnings():  # open_clip would warn that no weights were loaded, which is intended here
        device = torch.get_default_device()
        return open_clip.create_model(name, device=device, force_image_size=image_size, load_weights=False).eval()


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Suppress the warnings of all loggers inside the block."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def clip_weights(name: str, tag: str) -> Path | None:
    """Return the file with an open_clip model's weights in the caches on disk, if it can be opened; else None.

    Raises
    ------
    PetsegError
        If open_clip has no such tag for this model.
    """
    from huggingface_hub import try_to_load_from_cache

    repository, files, url = weights_source(name, tag)
    places = [try_to_load_from_cache(repository, file) for file in files] if repository else []
    if url:  # open_clip keeps here what it downloads from elsewhere, and OpenAI's own package its archives
        places.append(os.path.expanduser(f"~/.cache/clip/{os.path.basename(url)}"))
    paths = [Path(place) for place in places if isinstance(place, str) and Path(place).is_file()]
    return next((path for path in paths if not unreadable(path)), None)


def weights_source(name: str, tag: str) -> tuple[str | None, list[str], str | None]:
    """Return open_clip's sources of weights: a repository of the hub, its possible files, and another address."""
    import open_clip

    if tag not in (tags := open_clip.list_pretrained_tags_by_model(name)):
        raise PetsegError(f"open_clip has no weights {tag!r} for {name}. It has: {', '.join(tags) or 'none'}.")
    source = open_clip.get_pretrained_cfg(name, tag)
    repository, _, file = source.get("hf_hub", "").rpartition("/")
    return repository or None, ["open_clip_model.safetensors", file or "open_clip_pytorch_model.bin"], source.get("url")


def _check_activation(name: str, tag: str, config: dict) -> None:
    """Reject a model whose activation is not the one its weights were trained with: it would run and be wrong."""
    import open_clip

    base = name.removesuffix("-quickgelu")
    source = open_clip.get_pretrained_cfg(base, tag) or open_clip.get_pretrained_cfg(name, tag)
    quick = source.get("quick_gelu", False)
    if source and quick != config.get("quick_gelu", False):
        right = f"{base}-quickgelu" if quick else base
        raise PetsegError(
            f"The weights {tag!r} were trained with {'QuickGELU' if quick else 'GELU'}, but {name} has the other "
            f"activation: it would run, but give wrong results. Take clip:{right}/{tag}."
        )


def download_clip(spec: str = CLIP) -> tuple[Path, bool]:
    """Download a CLIP's weights to the Hugging Face cache, where `encoders.load_encoder` finds them.

    If they are on disk already, nothing is downloaded.  A download whose connection broke continues from there.

    Parameters
    ----------
    spec : str
        ``clip:MODEL/TAG``; the study's own by default.

    Returns
    -------
    tuple of Path and bool
        The file, and whether it was downloaded because it was not there already.

    Raises
    ------
    PetsegError
        If the spec has no tag of a CLIP's weights, or the hub cannot be reached or does not have the file.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    name, _, tag = spec.removeprefix("clip:").partition("/")
    if not spec.startswith("clip:") or not tag or tag == "random" or tag.startswith("/"):
        raise PetsegError(f"Only weights with a tag can be fetched, by a spec such as {CLIP}, not {spec!r}.")
    _check_activation(name, tag, _configuration(name))
    if path := clip_weights(name, tag):
        return path, False
    repository, files, _ = weights_source(name, tag)
    if repository is None:
        raise PetsegError(f"The Hugging Face hub has no weights of {spec}; take another tag.")
    try:
        for file in files:
            # This asks once.  The download itself asks six times with growing pauses, a needless wait when offline.
            with contextlib.suppress(EntryNotFoundError):
                get_hf_file_metadata(hf_hub_url(repository, file), timeout=10)
                path = Path(hf_hub_download(repository, file))
                break
    except Exception as error:  # the client raises errors of many classes, its own and its transport's
        raise PetsegError(
            f"The weights of {spec} could not be fetched from the Hugging Face hub "
            f"({str(error).splitlines()[0]}). Is this machine online? "
            "Without them take the encoder lite:efficientnet_lite0, or a file: clip:MODEL//path/to/file."
        ) from error
    if path is None:
        raise PetsegError(f"{repository} on the Hugging Face hub has none of {', '.join(files)}.")
    if fault := unreadable(path):
        raise PetsegError(f"{path.name}, as the hub has it, {fault}.")
    return path, True
