"""The autoencoder that provides model 2's encoder: it learns to reconstruct pictures, without labels."""

from torch import Tensor, nn

from petseg_utils.data.parallel import mean_of
from petseg_utils.data.pictures import PictureSet
from petseg_utils.models.autoencoder import Autoencoder
from petseg_utils.models.feature_cache import Features
from petseg_utils.scores.reconstruction import psnr, reconstruct
from petseg_utils.study import TrainingSettings
from petseg_utils.training.losses import reconstruction_loss
from petseg_utils.training.recipe import Recipe


def loss(model: nn.Module, batch: dict[str, Tensor], settings: TrainingSettings) -> Tensor:
    """Return `losses.reconstruction_loss` with the settings' `crop` and `hidden`."""
    return reconstruction_loss(model, batch, crop=settings.crop, hidden=settings.hidden)


def validate(model: nn.Module, pictures: PictureSet, _: Features | None) -> dict[str, float]:
    """Return the mean PSNR in decibels; with several processes, each passes its own pictures."""
    return {"psnr": mean_of(psnr(pictures, reconstruct(model, pictures)))}


RECIPE = Recipe(
    "autoencoder",
    version=1,
    build=lambda settings, _: Autoencoder(settings.width, skips=settings.skips),
    loss=loss,
    loss_name="squared error",
    validate=validate,
    score="psnr",
    unlabelled="optional",
    makes_masks=False,
)
