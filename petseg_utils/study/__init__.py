"""A study: the numbers in which studies differ, where files lie, and what a result was made with."""

from petseg_utils.study.paths import IS_CHECKOUT, ROOT, STUDIES, PetsegError, runs_root, shown, write_json
from petseg_utils.study.settings import (
    RENAMED,
    GridSettings,
    LabelSettings,
    RobustnessSettings,
    Study,
    TrainingSettings,
    load_study,
)

__all__ = [
    "IS_CHECKOUT",
    "RENAMED",
    "ROOT",
    "STUDIES",
    "GridSettings",
    "LabelSettings",
    "PetsegError",
    "RobustnessSettings",
    "Study",
    "TrainingSettings",
    "load_study",
    "runs_root",
    "shown",
    "write_json",
]
