"""Several processes train one model: the same as one process would, and none is left waiting for one that is gone."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pandas as pd
import pytest
from safetensors.torch import load_file

from petseg_utils.models.cards import read_card
from petseg_utils.study import STUDIES
from tests.conftest import write_data

# 15 training pictures: batches of 7, 7 and 1, of which the last gives one of two processes nothing to do.
STUDY = (STUDIES / "smoke.toml").read_text()
for was, now in (
    (r"\[models\.decoder\]", r"\g<0>\naverage = 0.9\ndropout = 0.25\ndice = 1.0"),
    (r"\bepochs = \d", "epochs = 2"),
    ("batch_size = 8", "batch_size = 7"),
):
    STUDY = re.sub(was, now, STUDY)
# In single precision the rounding of torch's own batch norm moves the U-Net's loss by 1e-4 in two epochs.
DOUBLE = """
from dataclasses import replace

import torch

from petseg_utils.apps.cli.main import main
from petseg_utils.training.recipes import RECIPES

torch.Tensor.float = torch.Tensor.double
unet = RECIPES["unet"]
RECIPES["unet"] = replace(unet, build=lambda *given: unet.build(*given).double())
main()
"""
KILLED_IN_STEP_5 = """
import os
import signal

from petseg_utils.apps.cli.main import main
from petseg_utils.training.loop import Run

steps, note = [], Run.note

def counted(run, value):
    steps.append(value)
    if len(steps) == 5 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    note(run, value)

Run.note = counted
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Study, scripts, 21 + 5 pictures, and beside them the runs."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "small.toml").write_text(STUDY)
    (folder / "double.py").write_text(DOUBLE)
    (folder / "killed.py").write_text(KILLED_IN_STEP_5)
    write_data(folder / "pets", 21, 5)
    return folder


def environment(folder, runs):
    places = {"PETSEG_DATA": str(folder / "pets"), "PETSEG_RUNS": str(folder / runs)}
    return os.environ | places | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run_training(folder, runs, model, processes, *options, script=None):
    """Train by one process, or by several as torchrun starts them; gives the run's history."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    start += [str(folder / script)] if script else ["-m", "petseg_utils"]
    command = [*start, "train", model, "--study", str(folder / "small.toml"), *options]
    run = subprocess.run(command, env=environment(folder, runs), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("checkpoints in") == 1  # one of them speaks
    return pd.read_csv(folder / runs / "small" / f"{model}-seed0" / "history.csv")


@pytest.fixture(scope="module")
def decoder_alone(folder):
    """The decoder's history by one process."""
    return run_training(folder, "alone", "decoder", 1)


def assert_same(histories, loss):
    alone, together = (history.set_index("epoch").drop(columns="seconds") for history in histories)
    assert list(alone.index) == list(together.index) == [1, 2]
    for name in alone:
        near = loss if name.endswith("loss") else 1e-12
        assert together[name].to_numpy() == pytest.approx(alone[name].to_numpy(), abs=near, rel=0), name


def test_two_processes_train_the_decoder_as_one_does(folder, decoder_alone):
    assert_same([decoder_alone, run_training(folder, "two", "decoder", 2)], 1e-5)
    runs = [folder / runs / "small" / "decoder-seed0" for runs in ("alone", "two")]
    assert len({tuple(sorted(path.name for path in run.iterdir())) for run in runs}) == 1
    first, second = (load_file(run / "best.safetensors") for run in runs)
    assert all(second[name].numpy() == pytest.approx(tensor.numpy(), abs=1e-4) for name, tensor in first.items())
    cards = [read_card(run / "best.safetensors") for run in runs]
    assert all(card.pop("training_seconds") and card.pop("validation") for card in cards)
    assert cards[0] == cards[1]


@pytest.mark.long
def test_two_processes_train_the_u_net_as_one_does(folder):
    histories = [run_training(folder, f"double{number}", "unet", number, script="double.py") for number in (1, 2)]
    assert_same(histories, 1e-9)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows ends processes in another way")
def test_a_killed_process_stops_the_others_and_a_lone_one_goes_on(folder, decoder_alone):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(folder / "killed.py"), "train", "decoder", "--study", str(folder / "small.toml")]
    same = environment(folder, "cut") | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    same |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(command, env=same | {"RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    assert started[1].wait() == -signal.SIGKILL
    killed = time.monotonic()
    told = started[0].communicate(timeout=60)[1]
    assert time.monotonic() - killed < 30 and started[0].returncode == 1
    assert len(re.findall("petseg: ", told)) == 1 and "Traceback" not in told
    assert "Another process of this training has ended" in told and "--resume" in told
    started[1].stderr.close()
    cut = folder / "cut" / "small" / "decoder-seed0"
    assert list(pd.read_csv(cut / "history.csv")["epoch"]) == [1]
    assert_same([decoder_alone, run_training(folder, "cut", "decoder", 1, "--resume")], 1e-5)
