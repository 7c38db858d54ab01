"""Checkpoints are whole or not there, and say what they are."""

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from petseg_utils.models.cards import SHIPPED, read_card, shipped_cards
from petseg_utils.models.encoders import LITE
from petseg_utils.study import PetsegError, write_json
from petseg_utils.training import checkpoints
from petseg_utils.training.checkpoints import find_checkpoint, load, restore_state, run_folder, save_checkpoint
from petseg_utils.training.train import train


def test_damaged_weights_are_refused(study, splits):
    train("unet", study, 0, splits, progress=False)
    path = run_folder("unet", study, 0) / "best.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PetsegError, match=r"best.safetensors does not hold this model's weights, or is damaged"):
        load(path)


@pytest.fixture
def copied(tmp_path):
    """The U-Net that ships, as somebody else's file."""
    for ending in (".safetensors", ".json"):
        shutil.copy(SHIPPED / f"unet{ending}", tmp_path)
    return tmp_path / "unet.safetensors"


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensor: torch.full_like(tensor, torch.nan), "is not finite everywhere"),
        (lambda tensor: torch.full_like(tensor, -torch.inf), "is not finite everywhere"),
        (lambda tensor: torch.full(tensor.shape, 1e300, dtype=torch.float64), "is not finite everywhere"),
        (lambda tensor: tensor.to(torch.int8), "holds I8 values, not floats"),
        (lambda tensor: tensor > 0, "holds BOOL values, not floats"),
        (lambda tensor: tensor[:1], "but should be"),
        (lambda tensor: None, "it lacks"),
    ],
)
def test_weights_that_are_no_numbers_are_refused(copied, place, change, message):
    tensors = load_file(copied)
    name = sorted(key for key in tensors if key.endswith("weight"))[place]
    changed = change(tensors.pop(name))
    save_file(tensors if changed is None else tensors | {name: changed.contiguous()}, copied)
    with pytest.raises(PetsegError, match=rf"unet.safetensors does not hold this model's weights.*{message}") as told:
        load(copied)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"width": 10**9}}, "width is not valid in its settings"),
        ({"settings": {"width": "16"}}, "width is not valid in its settings"),
        ({"settings": {"width": -1}}, "width is not valid in its settings"),
        ({"settings": {"breadth": 1}}, "breadth is not valid in its settings"),
        (
            {"version": 2},
            "made by version 2 of the recipe of unet, but the current one is 1: train it again with petseg train",
        ),
        ({"version": "x"}, "made by version x of the recipe"),
        ({"model": "x" * 10_000}, "Unknown model"),
    ],
)
def test_a_card_that_cannot_be_loaded_says_why(copied, changes, message):
    card = read_card(copied)
    settings = card["settings"] | changes.pop("settings", {})
    write_json(copied.with_suffix(".json"), card | changes | {"settings": settings})
    with pytest.raises(PetsegError, match=message):
        load(copied)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in other units elsewhere")
def test_no_memory_is_taken_for_sizes_that_the_file_does_not_have(copied):
    """A U-Net of 1,024 channels would take 32 GB."""
    import resource

    card = read_card(copied)
    write_json(copied.with_suffix(".json"), card | {"settings": card["settings"] | {"width": 1024}})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PetsegError, match=r"does not hold this model's weights.* should be \[1024"):
        load(copied)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


@pytest.mark.parametrize("content", [b"", b"x" * 100, None])
def test_a_state_that_is_damaged_is_not_resumed(copied, content):
    if content is None:  # tensors, but no word of how far the run was
        content = copied.read_bytes()
    copied.write_bytes(content)
    with pytest.raises(PetsegError, match=r"unet.safetensors is damaged .*Train afresh without --resume"):
        restore_state(copied, {}, {})


def test_weights_for_another_encoder_are_refused(study, splits):
    train("decoder", study, 0, splits, progress=False)
    path = run_folder("decoder", study, 0) / "best.safetensors"
    write_json(path.with_suffix(".json"), read_card(path) | {"encoder": "clip:ViT-B-16//mine.pt@0123"})
    with pytest.raises(PetsegError, match=rf"trained on clip:ViT-B-16//mine.pt@0123, but the encoder here is {LITE}"):
        load(path)


def test_a_model_without_weights_says_how_to_train_it(study):
    with pytest.raises(PetsegError, match="petseg train unet --study smoke --seed 0"):
        find_checkpoint("unet", study)
    with pytest.raises(PetsegError, match=r"No weights ship for autoencoder\. Train it with petseg train autoencoder"):
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


SAVES = """
import pathlib, sys, torch
from petseg_utils.training.checkpoints import save_checkpoint
value, path = float(sys.argv[2]), pathlib.Path(sys.argv[1])
model = torch.nn.Linear(1000, 1000)
with torch.no_grad():
    model.weight.fill_(value)
for _ in range(50):
    save_checkpoint(path, model, {})
"""


@pytest.mark.long
def test_two_processes_that_save_to_one_name_mix_no_tensors(tmp_path):
    path = tmp_path / "best.safetensors"
    saving = [subprocess.Popen([sys.executable, "-c", SAVES, path, value]) for value in ("1", "2")]
    while any(process.poll() is None for process in saving):
        if path.is_file():
            assert len(load_file(path)["weight"].unique()) == 1
    assert [process.returncode for process in saving] == [0, 0]
    assert {file.name for file in tmp_path.iterdir()} == {"best.safetensors", "best.json"}


def test_a_kill_between_weights_and_card_leaves_no_card_of_other_weights(tmp_path, monkeypatch):
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, torch.nn.Linear(2, 2), {"epoch": 1})
    monkeypatch.setattr(checkpoints, "write_json", lambda *_: None)  # as if killed before it
    save_checkpoint(path, torch.nn.Linear(2, 2), {"epoch": 2})
    assert not path.with_suffix(".json").exists()
