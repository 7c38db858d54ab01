"""Memory that is free again stays with the process."""

import os
import subprocess
import sys

import pytest
import torch

from petseg_utils.checkpoints import build
from petseg_utils.study import load_study

COUNT_FAULTS = """
import resource
import torch
from petseg_utils.memory import keep_freed_memory
{call}
def layers():
    for _ in range(20):
        torch.ones(8 << 20)  # 32 MB, which the next round could have again
layers()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
layers()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

LOAD_ENCODER = "from petseg_utils.encoders import LITE, load_encoder; load_encoder(LITE)"


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is told; other systems have another")
def test_a_layers_memory_is_used_again_without_asking_the_system():
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
    faults = []
    for call in ("", "keep_freed_memory()", LOAD_ENCODER):
        command = [sys.executable, "-c", COUNT_FAULTS.format(call=call)]
        faults.append(int(subprocess.run(command, capture_output=True, check=True, env=plain).stdout))
    assert max(faults[1:]) < 0.05 * faults[0]


def test_new_tensors_are_not_filled_where_a_model_was_built(monkeypatch):
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    build("unet", load_study("smoke").unet)
    assert torch.utils.deterministic.fill_uninitialized_memory is False
