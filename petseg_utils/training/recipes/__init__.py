"""Recipes of the study's models, each in a file named after its model.  A new model needs a new file and a title."""

from importlib import import_module

from petseg_utils.models.names import TITLES, check_name
from petseg_utils.training.recipe import Recipe

RECIPES: dict[str, Recipe] = {name: import_module(f"{__name__}.{name}").RECIPE for name in TITLES}


def recipe_of(model: str) -> Recipe:
    """Return the recipe of a model of the study.

    Raises
    ------
    PetsegError
        If there is no such model.
    """
    return RECIPES[check_name(model)]
