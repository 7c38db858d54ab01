"""Model 3: a decoder on a frozen encoder."""

from torch import nn

from petseg_utils.models.decoder import Decoder, FrozenSegmenter
from petseg_utils.models.encoders import Encoder
from petseg_utils.study import TrainingSettings
from petseg_utils.training.recipe import Recipe


def make_decoder(settings: TrainingSettings, encoder: Encoder) -> Decoder:
    """A decoder with random first weights for an encoder's maps."""
    return Decoder(encoder.channels, encoder.strides, width=settings.width, maps=settings.maps, stem=settings.stem)


def build(settings: TrainingSettings, encoder: Encoder) -> nn.Module:
    """The decoder behind its encoder."""
    return FrozenSegmenter(encoder, make_decoder(settings, encoder))


RECIPE = Recipe("decoder", version=1, build=build, on_frozen_encoder=True)
