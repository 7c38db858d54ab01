"""A cut run goes on as if nothing had happened, and only under the conditions it was begun with."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from petseg_utils.data.extra_labels import read_extra
from petseg_utils.models.encoders import TWICE_LITE
from petseg_utils.study import STUDIES, PetsegError
from petseg_utils.training import conditions, loop
from petseg_utils.training import train as training
from petseg_utils.training.checkpoints import run_folder
from petseg_utils.training.train import train
from tests.conftest import renamed, write_data

STUDY = (STUDIES / "smoke.toml").read_text()
for was, now in (
    (r"\bepochs = \d", "epochs = 5"),
    ("batch_size = 8", "batch_size = 1"),
    (r"\[models\.(decoder|point)\]", r"\g<0>\naverage = 0.9"),
    (r"\[models\.autoencoder\]", r"\g<0>\ncrop = 32\nhidden = 0.5"),
):
    STUDY = re.sub(was, now, STUDY)
# Dies like a killed process does, in the middle of the third epoch: 9 steps each, SIGKILL in step 20.
KILLED_IN_STEP_20 = """
import os, signal
from petseg_utils.apps.cli import main
from petseg_utils.training.loop import Run

model, steps, note = __import__("sys").argv[2], [], Run.note

def counted(run, value):
    steps.append(run.card["model"] == model)  # not those of a model that is trained before it
    if sum(steps) == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    note(run, value)

Run.note = counted
main.main()
"""


def run_training(model, study_file, runs, data, *options, script=None):
    environment = os.environ | {"PETSEG_RUNS": str(runs), "PETSEG_DATA": str(data)}
    start = ["-c", script] if script else ["-m", "petseg_utils"]
    command = [sys.executable, *start, "train", model, "--study", str(study_file), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows ends processes in another way")
@pytest.mark.parametrize(
    "model",
    [
        "unet",
        pytest.param("decoder", marks=pytest.mark.long),  # it averages on the way
        pytest.param("autoencoder", marks=pytest.mark.long),
        pytest.param("point", marks=pytest.mark.long),
    ],
)
def test_a_run_killed_in_mid_epoch_resumes_to_the_same_weights(model, data, tmp_path):
    study_file = tmp_path / "kill.toml"
    study_file.write_text(STUDY)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run = run_training(model, study_file, whole, data)
    assert run.returncode == 0, run.stderr

    folder = cut / "kill" / f"{model}-seed0"
    killed = run_training(model, study_file, cut, data, script=KILLED_IN_STEP_20)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list(pd.read_csv(folder / "history.csv")["epoch"]) == [1, 2]  # of the finished epochs none is lost

    run = run_training(model, study_file, cut, data, "--resume")
    assert run.returncode == 0, run.stderr
    for name in ("best", "last"):
        expected = load_file(whole / "kill" / f"{model}-seed0" / f"{name}.safetensors")
        resumed = load_file(folder / f"{name}.safetensors")
        assert expected.keys() == resumed.keys()
        assert all(torch.equal(expected[key], resumed[key]) for key in expected)
    histories = [pd.read_csv(runs / "kill" / f"{model}-seed0" / "history.csv") for runs in (whole, cut)]
    pd.testing.assert_frame_equal(*(history.drop(columns="seconds") for history in histories), check_exact=True)


@pytest.fixture
def short(study):
    """The study with one epoch for each model, without a cache of features."""
    return replace(study, models={name: replace(one, epochs=1, cache=False) for name, one in study.models.items()})


def refused(model, study, splits, match, **options):
    with pytest.raises(PetsegError, match=rf"^Cannot resume: {match}\. Train afresh") as told:
        train(model, study, 0, splits, resume=True, progress=False, **options)
    assert "\n" not in str(told.value)


def test_a_damaged_state_is_told(short, splits):
    train("unet", short, 0, splits, progress=False)
    path = run_folder("unet", short, 0) / "last.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(PetsegError, match=r"last.safetensors is damaged \(.*\). Train afresh without --resume"):
        train("unet", short, 0, splits, resume=True, progress=False)


def test_other_settings_are_refused(short, splits):
    train("unet", short, 0, splits, progress=False)
    other = replace(short.settings("unet"), learning_rate=0.001)
    refused("unet", short, splits, r"settings\.learning_rate was 0\.005, and is 0\.001 now", settings=other)


def test_another_precision_is_refused(short, splits, monkeypatch):
    train("unet", short, 0, splits, progress=False)
    auto = replace(short.settings("unet"), mixed_precision="auto")
    refused("unet", short, splits, "settings.mixed_precision was no, and is auto now", settings=auto)
    train("unet", short, 0, splits, settings=auto, progress=False)
    other = {"no": "bf16", "bf16": "no"}[conditions.chosen_precision(auto)]  # as on a machine of another kind
    for module in (conditions, loop):
        monkeypatch.setattr(module, "chosen_precision", lambda _: other)
    refused("unet", short, splits, "precision was (no|bf16), and is (no|bf16) now", settings=auto)


def test_another_encoder_is_refused(short, splits):
    train("decoder", short, 0, splits, progress=False)
    other = replace(short, encoder=TWICE_LITE)
    refused("decoder", other, splits, r"encoder was lite:efficientnet_lite0, and is lite:efficientnet_lite0\+2x now")


def test_extra_data_is_refused(short, splits, tmp_path):
    extra = read_extra([renamed(write_data(tmp_path / "extra", 6, 2))], short, progress=False)
    described = rf"\{{'n_images': {len(extra['train'])}, 'fingerprint': .*\}}"
    train("decoder", short, 0, splits, progress=False)
    refused("decoder", short, splits, f"extra was None, and is {described} now", extra=extra)
    train("decoder", short, 0, splits, extra=extra, progress=False)
    refused("decoder", short, splits, f"extra was {described}, and is None now")


def test_another_start_is_refused(short, splits, tmp_path):
    train("decoder", short, 0, splits, folder=tmp_path / "first", progress=False)
    train("decoder", short, 1, splits, folder=tmp_path / "second", progress=False)
    first, second = (tmp_path / name / "best.safetensors" for name in ("first", "second"))
    train("decoder", short, 0, splits, start=first, progress=False)
    refused("decoder", short, splits, r"start\[0\]\.seed was 0, and is 1 now", start=second)
    refused("decoder", short, splits, r"start was \[\{.*\}\], and is \[\] now")


def test_other_unlabelled_pictures_are_refused(short, splits, tmp_path):
    train("autoencoder", short, 0, splits, progress=False)
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    for number in range(2):
        Image.fromarray(np.full((40, 60, 3), 90 + number, np.uint8)).save(folder / f"Siam_{number}.png")
    more = replace(short, unlabelled_dir=folder)
    refused("autoencoder", more, splits, r"unlabelled was None, and is \{'n_images': 2.*\} now")
    train("autoencoder", more, 0, splits, progress=False)
    Image.fromarray(np.full((40, 60, 3), 99, np.uint8)).save(folder / "Siam_7.png")
    refused("autoencoder", more, splits, "unlabelled.n_images was 2, and is 3 now")


def test_other_pictures_and_another_version_of_the_recipe_are_refused(short, splits, monkeypatch):
    train("unet", short, 0, splits, progress=False)
    fewer = splits | {"train": splits["train"].subset(splits["train"].table["name"][1:].tolist())}
    refused("unet", short, fewer, "data was [0-9a-f]{16}, and is [0-9a-f]{16} now")
    newer = replace(training.recipe_of("unet"), version=99)
    monkeypatch.setattr(training, "recipe_of", lambda model: newer)
    refused("unet", short, splits, "version was 1, and is 99 now")
