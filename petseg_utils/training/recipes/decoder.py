"""Model 3: a decoder on a frozen encoder."""

from torch import nn

from petseg_utils.models.decoder import Decoder, FrozenSegmenter
from petseg_utils.models.encoders import Encoder
from petseg_utils.models.selection import FINE
from petseg_utils.study import PetsegError, TrainingSettings
from petseg_utils.training.recipe import Recipe


def make_decoder(settings: TrainingSettings, encoder: Encoder) -> Decoder:
    """Make a decoder for an encoder's maps, with random initial weights.

    Raises
    ------
    PetsegError
        If the settings name maps that the encoder does not have, or only fine ones.
    """
    number, used = len(encoder.strides), settings.maps
    if used and (max(used) >= number or max(encoder.strides[index] for index in used) <= FINE):
        raise PetsegError(
            f"maps is {list(used)}: {encoder.identity} gives maps 0 to {number - 1}, and one of those "
            f"that are used must be coarser than a stride of {FINE}."
        )
    return Decoder(
        encoder.channels,
        encoder.strides,
        width=settings.width,
        maps=settings.maps,
        stem=settings.stem,
        dropout=settings.dropout,
    )


def build(settings: TrainingSettings, encoder: Encoder) -> nn.Module:
    """Make the segmenter: a frozen encoder followed by its decoder."""
    return FrozenSegmenter(encoder, make_decoder(settings, encoder))


def start(network: FrozenSegmenter, before: FrozenSegmenter) -> None:
    """Copy the weights of a decoder of the same shape, to continue from them.

    Raises
    ------
    PetsegError
        If the shapes differ.
    """
    shapes, given = ({name: x.shape for name, x in model.decoder.state_dict().items()} for model in (network, before))
    if shapes != given:
        raise PetsegError(
            "The model to start from has another shape than the decoder to be trained: take one of the same width, "
            "on an encoder with as many maps."
        )
    network.decoder.load_state_dict(before.decoder.state_dict())


RECIPE = Recipe("decoder", version=1, build=build, on_frozen_encoder=True, start=start)
