"""Memory that is free again stays with the process, where somebody asked for it; nothing else changes the process."""

import os
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource
import torch
from petseg_utils.training.process import set_up_process
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(8 << 20)  # 32 MB, which the next round could have again
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults())
set_up_process()
faults()  # asks the system for the memory that it then keeps
print(faults())
"""
LIBRARY_CALLS = """
import logging, os, torch
import matplotlib.pyplot as plt
from petseg_utils.experiments.plotting import new_figure
from petseg_utils.models.encoders import load_encoder
from petseg_utils.study import load_study
from petseg_utils.training.recipes import RECIPES
from petseg_utils.data.pictures import load_splits
from petseg_utils.training.train import trained
# By torch and open_clip, when they are imported, and for albumentations before it is.
BY_IMPORTS = {"TORCHINDUCTOR_CACHE_DIR", "TOKENIZERS_PARALLELISM", "NO_ALBUMENTATIONS_UPDATE"}
def state():
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        logging.getLogger().handlers[:],
        {key: value for key, value in os.environ.items() if key not in BY_IMPORTS},
        dict(plt.rcParams),
    )
study = load_study("smoke")
plt.switch_backend("agg")
before = state()
trained("unet", study, 0, load_splits(study, progress=False), progress=False)
for recipe in RECIPES.values():
    if recipe.name in study.models:
        recipe.build(study.settings(recipe.name), load_encoder("auto", 64) if recipe.on_frozen_encoder else None)
new_figure()
assert state() == before
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is told; other systems have another")
def test_a_layers_memory_is_used_again_without_asking_the_system():
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
    run = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, check=True, env=plain)
    before, after = map(int, run.stdout.split())
    assert after < 0.05 * before


def test_building_training_loading_and_drawing_print_nothing_and_leave_the_process_as_it_was(data):
    run = subprocess.run([sys.executable, "-c", LIBRARY_CALLS], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""
