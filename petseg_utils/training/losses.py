"""Loss functions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petseg_utils.data.labels import PADDING
from petseg_utils.data.parallel import drawn, summed
from petseg_utils.data.tensors import IGNORED, class_targets
from petseg_utils.models.unet import PIXEL_MEAN

PATCH = 16  # edge of a hidden patch in pixels: the stride of the bottleneck's cells


def hide_patches(images: Tensor, share: float) -> Tensor:
    """Paint random square patches with the mean colour.

    Parameters
    ----------
    images : Tensor
        ``(N, 3, H, W)``, pixel values 0..255; height and width in multiples of 16.
    share : float
        Probability that each patch of 16 x 16 pixels is hidden, 0 to 1.

    References
    ----------
    Pathak et al.: "Context Encoders: Feature Learning by Inpainting", CVPR 2016, arXiv:1604.07379.
    He et al.: "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, arXiv:2111.06377.
    """
    cells = (1, images.shape[-2] // PATCH, images.shape[-1] // PATCH)
    hidden = drawn(len(images), lambda length: torch.rand((length, *cells), device=images.device)) < share
    hidden = hidden.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    return torch.where(hidden, torch.tensor(PIXEL_MEAN, device=images.device).view(1, 3, 1, 1), images)


def reconstruction_loss(model: nn.Module, batch: dict[str, Tensor], *, crop: int = 0, hidden: float = 0.0) -> Tensor:
    """Return the mean squared error of the reconstruction outside the padding, with pixels in 0..1; a scalar.

    Parameters
    ----------
    model : nn.Module
        Returns pixel values for pixel values.
    batch : dict
        ``image`` ``uint8 (N, 3, H, W)`` and ``label`` ``uint8 (N, H, W)``, of which only the padding is used.
    crop : int
        Edge in pixels of a random window to which all pictures are cropped; 0 uses whole pictures.  A quarter of the
        pixels takes a quarter of the time.
    hidden : float
        Share of the patches that the model does not see but has to reconstruct.
    """
    images, labels = batch["image"], batch["label"]
    if crop:
        top, left = (int(torch.randint(edge - crop + 1, ())) for edge in images.shape[-2:])
        images, labels = (pixels[..., top : top + crop, left : left + crop] for pixels in (images, labels))
    images = images.float().contiguous(memory_format=torch.channels_last)
    painted = model(hide_patches(images, hidden) if hidden else images).float()
    counted = labels != PADDING
    errors = ((painted - images) / 255).square().mean(1) * counted
    return summed(errors.sum()) / summed(counted.sum()).clamp(min=1)


def segmentation_loss(model: nn.Module, batch: dict[str, Tensor], dice: float = 0.0) -> Tensor:
    """Return cross-entropy plus `dice` times the Dice loss over pixels that are neither border nor padding; a scalar.

    Parameters
    ----------
    model : nn.Module
        Returns logits ``(N, 3, H, W)`` for pixel values; takes feature maps too if the batch has them.
    batch : dict
        ``image`` ``uint8 (N, 3, H, W)``, ``label`` ``uint8 (N, H, W)``, and optionally a frozen encoder's ``maps``.
    """
    images = batch["image"].float()
    logits = (model(images, batch["maps"]) if "maps" in batch else model(images)).float()
    targets = class_targets(batch["label"])
    counted = summed((targets != IGNORED).sum()).clamp(min=1)
    value = summed(F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")) / counted
    return value + dice * dice_loss(logits, targets) if dice else value


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return one minus the mean soft Dice of the classes over a batch, a scalar in 0..1; -100 in `targets` is ignored.

    Classes absent from the batch's targets do not count: their Dice could only be 0.

    References
    ----------
    Milletari, Navab, Ahmadi: "V-Net", 3DV 2016, arXiv:1606.04797.
    """
    counted = (targets != IGNORED).float()  # once: a product with booleans would turn them anew each time
    sums = []
    for number, chance in enumerate(logits.softmax(1).unbind(1)):
        truth = (targets == number).float()
        sums.append(torch.stack([(chance * truth).sum(), (chance * counted).sum(), truth.sum()]))
    scores = [2 * overlap / (predicted + size) for overlap, predicted, size in summed(torch.stack(sums)) if size]
    return 1 - sum(scores, torch.zeros((), device=logits.device)) / max(1, len(scores))
