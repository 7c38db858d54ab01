"""Model 4: the decoder, which stays frozen, and a head that takes clicks."""

from torch import Tensor, nn

from petseg_utils.models.click_head import PointSegmenter
from petseg_utils.models.decoder import FrozenSegmenter
from petseg_utils.models.encoders import Encoder
from petseg_utils.scores.clicks import clicked_scores
from petseg_utils.study import PetsegError, Study, TrainingSettings
from petseg_utils.training.recipe import Recipe
from petseg_utils.training.recipes.decoder import make_decoder
from petseg_utils.training.simulated_user import prompted_loss


def build(settings: TrainingSettings, encoder: Encoder) -> nn.Module:
    """Make the click model; its decoder's weights are loaded later, by `start`."""
    return PointSegmenter(encoder, make_decoder(settings, encoder))


def loss(model: PointSegmenter, batch: dict[str, Tensor], settings: TrainingSettings) -> Tensor:
    """Return `simulated_user.prompted_loss` with the settings' Dice weight."""
    return prompted_loss(model, batch, settings.dice)


def starts_from(study: Study) -> str:
    """Name the decoder to start from: the self-trained one if it has the click model's width, else ``decoder``.

    The self-trained decoder needs pictures without masks; if the study has none, it is ``decoder`` too.
    """
    selftrained = study.models.get("decoder_selftrained")
    fits = selftrained is not None and selftrained.width == study.settings("point").width
    return "decoder_selftrained" if fits and study.unlabelled_dir else "decoder"


def start(network: PointSegmenter, before: FrozenSegmenter) -> None:
    """Copy the decoder's weights and, from another click model, its head's too, to continue from them.

    Raises
    ------
    PetsegError
        If the widths or the encoders differ.
    """
    wanted, given = (model.decoder.narrow.in_channels for model in (network, before))
    if wanted != given:
        raise PetsegError(
            f"The point model of width {wanted} cannot start from a decoder of width {given}: give [models.point] the "
            "width of [models.decoder], or PETSEG_UNLABELLED pictures for a [models.decoder_selftrained] of its width."
        )
    ours, theirs = (model.encoder.identity for model in (network, before))
    if ours != theirs:  # the decoder stays frozen, so it could not adapt to another encoder's maps
        raise PetsegError(f"The point model on {ours} cannot start from a decoder on {theirs}: name one on {ours}.")
    network.start_from(before.decoder)
    if isinstance(before, PointSegmenter):
        network.head.load_state_dict(before.head.state_dict())


RECIPE = Recipe(
    "point",
    version=4,  # 1: a Gaussian process that observed clicks; 2: saw only part of the picture; 3: reached everywhere
    build=build,
    loss=loss,
    validate=clicked_scores,
    score="clicked",
    on_frozen_encoder=True,
    starts_from=starts_from,
    start=start,
    takes_prompts=True,
)
