"""Model 3 again, trained also on pictures without masks, for which the first decoders propose them."""

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
