"""The recipes of the study's models, one a file of the model's name; another model is another file, and its title."""

from importlib import import_module

from petseg_utils.models.names import TITLES, check_name
from petseg_utils.training.recipe import Recipe

RECIPES: dict[str, Recipe] = {name: import_module(f"{__name__}.{name}").RECIPE for name in TITLES}


def recipe_of(model: str) -> Recipe:
    """The recipe of a model of the study.

    Raises
    ------
    PetsegError
        If there is no such model.
    """
    return RECIPES[check_name(model)]
