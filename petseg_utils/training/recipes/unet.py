"""Model 1: the U-Net, trained from scratch."""

from petseg_utils.models.unet import UNet
from petseg_utils.training.recipe import Recipe

RECIPE = Recipe("unet", version=1, build=lambda settings, _: UNet(settings.width))
