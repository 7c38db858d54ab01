"""Checkpoints are whole or not there, and say what they are."""

import subprocess
import sys
from dataclasses import replace

import pytest

from petseg_utils.models.cards import read_card, shipped_cards
from petseg_utils.models.encoders import LITE
from petseg_utils.study import PetsegError, write_json
from petseg_utils.training.checkpoints import find_checkpoint, load, run_folder
from petseg_utils.training.train import train


def test_damaged_weights_are_refused(study, splits):
    train("unet", study, 0, splits, progress=False)
    path = run_folder("unet", study, 0) / "best.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PetsegError, match=r"best.safetensors does not hold this model's weights, or is damaged"):
        load(path)


def test_weights_for_another_encoder_are_refused(study, splits):
    train("decoder", study, 0, splits, progress=False)
    path = run_folder("decoder", study, 0) / "best.safetensors"
    write_json(path.with_suffix(".json"), read_card(path) | {"encoder": "clip:ViT-B-16//mine.pt@0123"})
    with pytest.raises(PetsegError, match=rf"trained on clip:ViT-B-16//mine.pt@0123; here is {LITE}"):
        load(path)


def test_a_model_without_weights_says_how_to_train_it(study):
    with pytest.raises(PetsegError, match="petseg train unet --study smoke --seed 0"):
        find_checkpoint("unet", study)
    with pytest.raises(PetsegError, match=r"No weights ship for autoencoder\. Train it: petseg train autoencoder"):
        find_checkpoint("autoencoder", None)


def test_the_study_and_seed_that_made_what_ships_have_those_weights(study):
    for name, card in shipped_cards().items():
        made, seed = replace(study, name=card["study"]), card["seed"]
        assert find_checkpoint(name, made, seed) == find_checkpoint(name, None)
        for other, number in ((study, seed), (made, seed + 1)):
            with pytest.raises(PetsegError, match=f"Study '{other.name}' has no trained {name} with seed {number}"):
                find_checkpoint(name, other, number)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX's")
def test_a_full_disk_while_saving_is_told_in_a_sentence(tmp_path):
    folder = tmp_path / "file"
    folder.mkdir()
    code = f"""
import pathlib, resource, signal, torch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))  # writing past this fails as on a full disk
from petseg_utils.training.checkpoints import save_checkpoint
save_checkpoint(pathlib.Path({str(folder)!r}) / "best.safetensors", torch.nn.Linear(100, 100), {{}})
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "PetsegError: Could not write best.safetensors" in run.stderr and "--resume" in run.stderr
    assert list(folder.iterdir()) == []
