"""A study: every number that a run depends on, and where its files lie."""

from petseg_utils.study.paths import IS_CHECKOUT, ROOT, STUDIES, PetsegError, runs_root, shown, write_json
from petseg_utils.study.settings import (
    GridSettings,
    LabelSettings,
    RobustnessSettings,
    Study,
    TrainingSettings,
    load_study,
    recorded_settings,
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
    "recorded_settings",
    "runs_root",
    "shown",
    "write_json",
]
