"""Model 4: the decoder, which stays as it is, and a head that listens to clicks."""

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
    """The prompted model, whose decoder's weights are still to come."""
    return PointSegmenter(encoder, make_decoder(settings, encoder))


def loss(model: PointSegmenter, batch: dict[str, Tensor], settings: TrainingSettings) -> Tensor:
    """See `simulated_user.prompted_loss`."""
    return prompted_loss(model, batch, settings.dice)


def starts_from(study: Study) -> str:
    """Of the decoders of its width the self-trained one.

    That one needs pictures without masks; where there are none, or where it has another width, it is ``decoder``.
    """
    selftrained = study.models.get("decoder_selftrained")
    fits = selftrained is not None and selftrained.width == study.settings("point").width
    return "decoder_selftrained" if fits and study.unlabelled_dir else "decoder"


def start(network: PointSegmenter, before: FrozenSegmenter) -> None:
    """Take over the decoder, and from another click model its head too, to go on from there.

    Raises
    ------
    PetsegError
        If its width or its encoder is another.
    """
    wanted, given = (model.decoder.narrow.in_channels for model in (network, before))
    if wanted != given:
        raise PetsegError(
            f"The point model of width {wanted} cannot start from a decoder of width {given}: give [models.point] the "
            "width of [models.decoder], or PETSEG_UNLABELLED pictures for a [models.decoder_selftrained] of its width."
        )
    ours, theirs = (model.encoder.identity for model in (network, before))
    if ours != theirs:  # it stays as it is, so it would be given maps that it does not know
        raise PetsegError(f"The point model on {ours} cannot start from a decoder on {theirs}: name one on {ours}.")
    network.start_from(before.decoder)
    if isinstance(before, PointSegmenter):
        network.head.load_state_dict(before.head.state_dict())


RECIPE = Recipe(
    "point",
    version=4,  # 1 was a Gaussian process that clicks observed, 2 saw a part of the picture only, 3 reached everywhere
    build=build,
    loss=loss,
    validate=clicked_scores,
    score="clicked",
    on_frozen_encoder=True,
    starts_from=starts_from,
    start=start,
    takes_prompts=True,
)
