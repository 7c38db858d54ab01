"""Studies: the settings in which they differ, the places of their files, and the provenance of results."""

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
    """Import the settings when they are first used: making masks neither needs pydantic nor waits for its import."""
    if name in __all__:
        from petseg_utils.study import settings

        return getattr(settings, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
