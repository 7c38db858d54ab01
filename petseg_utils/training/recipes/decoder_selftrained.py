"""Model 3, self-trained: it also learns from pictures without masks, for which the first decoders propose masks."""

from petseg_utils.training.recipe import Recipe
from petseg_utils.training.recipes.decoder import build

RECIPE = Recipe(
    "decoder_selftrained",
    version=1,
    build=build,
    on_frozen_encoder=True,
    unlabelled="required",
    teacher="decoder",
)
