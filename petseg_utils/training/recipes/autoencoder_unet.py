"""Model 2: a U-Net whose encoder comes from the autoencoder."""

from petseg_utils.models.autoencoder import Autoencoder, PretrainedUNet
from petseg_utils.training.recipe import Recipe


def start(network: PretrainedUNet, before: Autoencoder) -> None:
    """Copy the weights of the autoencoder's encoder."""
    network.encoder.load_state_dict(before.encoder.state_dict())


RECIPE = Recipe(
    "autoencoder_unet",
    version=1,
    build=lambda settings, _: PretrainedUNet(settings.width, frozen=settings.frozen),
    starts_from=lambda study: "autoencoder",
    start=start,
)
