"""A small CLIP with random weights, for tests."""

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
}


def register(folder: Path, name: str, **changes: object) -> None:
    """Tell open_clip of a small CLIP, by a file in a folder."""
    (folder / f"{name}.json").write_text(json.dumps(TINY | changes))
    open_clip.add_model_config(folder)


def write_checkpoint(folder: Path, name: str, **changes: object) -> Path:
    """Register a small CLIP and write a checkpoint of it, with random weights."""
    register(folder, name, **changes)
    torch.manual_seed(7)
    model = open_clip.create_model(name, load_weights=False)
    for parameter in model.parameters():  # zeros, as biases and some embeddings start, would hide a mistake
        parameter.data += 0.05 * torch.randn_like(parameter)
    path = folder / "tiny.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, path)
    return path


def by_hand(model: nn.Module, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """Tokens after every block of open_clip's own vision tower, caught by hooks on its own forward pass; its answer."""
    caught: list[Tensor] = []
    for block in model.visual.transformer.resblocks:
        block.register_forward_hook(lambda _, __, out: caught.append(out))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (model.visual.image_mean, model.visual.image_std))
    pooled = model.encode_image((images.float() / 255 - mean) / std)
    return caught, pooled
