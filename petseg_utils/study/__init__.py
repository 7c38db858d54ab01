"""A study: the numbers in which studies differ, where files lie, and what a result was made with."""

from typing import TYPE_CHECKING

from petseg_utils.study.paths import IS_CHECKOUT, ROOT, STUDIES, PetsegError, shown, write_json, write_text

if TYPE_CHECKING:
    from petseg_utils.study.settings import (
        GridSettings,
        LabelSettings,
        RobustnessSettings,
        Study,
        TrainingSettings,
        load_study,
    )

__all__ = [
    "IS_CHECKOUT",
    "ROOT",
    "STUDIES",
    "GridSettings",
    "LabelSettings",
    "PetsegError",
    "RobustnessSettings",
    "Study",
    "TrainingSettings",
    "load_study",
    "shown",
    "write_json",
    "write_text",
]


def __getattr__(name: str) -> object:
    """Of the settings, when they are first wanted: who only makes masks does not wait for pydantic, nor need it."""
    if name in __all__:
        from petseg_utils.study import settings

        return getattr(settings, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
