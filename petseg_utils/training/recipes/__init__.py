"""The recipes of the study's models, one a file.

Another model is another file, another name in this list, and its title in `models.names`.
"""

from petseg_utils.models.names import check_name
from petseg_utils.training.recipe import Recipe
from petseg_utils.training.recipes import (
    autoencoder,
    autoencoder_unet,
    decoder,
    decoder_selftrained,
    point,
    unet,
)

RECIPES = {
    file.RECIPE.name: file.RECIPE for file in (unet, autoencoder, autoencoder_unet, decoder, decoder_selftrained, point)
}


def recipe_of(model: str) -> Recipe:
    """The recipe of a model of the study.

    Raises
    ------
    PetsegError
        If there is no such model.
    """
    return RECIPES[check_name(model)]
