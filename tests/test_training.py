"""The loop learns, stops, and goes on after a kill as if nothing had happened."""

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
from safetensors.torch import load_file

from petseg_utils import checkpoints, examples, models, training
from petseg_utils.encoders import TWICE_LITE
from petseg_utils.evaluation import predict, segmentation_loss, validation_scores
from petseg_utils.metrics import BORDER, PADDING
from petseg_utils.pictures import load_splits
from petseg_utils.provenance import without_prose
from petseg_utils.study import PetsegError, load_study

STUDY = """
title = "Kill and resume"
data = "oxford"
image_size = 64
validation_share = 0.34
seeds = [3]
bootstrap_resamples = 10
ablation_epochs = 1
encoder = "lite:efficientnet_lite0"
[unet]
width = 4
epochs = 5
batch_size = 1
learning_rate = 0.01
[point]
width = 8
epochs = 5
batch_size = 1
learning_rate = 0.005
average = 0.9

[clip]
width = 8
epochs = 5
batch_size = 1
learning_rate = 0.01
average = 0.9
[autoencoder]
width = 4
epochs = 5
batch_size = 1
learning_rate = 0.01
crop = 32
hidden = 0.5
[autoencoder_unet]
width = 4
epochs = 1
batch_size = 1
learning_rate = 0.01
[unet_grid]
learning_rates = [0.01]
batch_sizes = [4]
epochs = 1
[labels]
image_size = 32
epochs = 1
shares = [1.0]
seeds = [0]
"""


@pytest.fixture
def splits(study):
    return load_splits(study, progress=False)


def test_four_pictures_are_learned_by_heart(study, splits, tmp_path):
    four = splits["train"].subset(splits["train"].table["name"][:4].tolist())
    settings = replace(study.unet, width=8, epochs=120, batch_size=4, learning_rate=0.02, patience=200)

    class Plain(examples.TrainingPictures):
        def __init__(self, pictures, seed):
            super().__init__(pictures, seed)
            self.augment = self

        def set_random_seed(self, seed):
            pass

        def __call__(self, image, mask):
            return {"image": np.array(image), "mask": np.array(mask)}

    torch.manual_seed(0)
    model = checkpoints.build("unet", settings)
    training.fit(
        model,
        Plain(four, 0),
        segmentation_loss,
        lambda fitted: validation_scores(fitted, four),
        settings,
        tmp_path,
        seed=0,
        card={},
        progress=False,
    )
    assert validation_scores(model, four)["miou"] > 0.97


# Dies like a killed process does, in the middle of the third epoch: 8 steps each, SIGKILL in step 20.
KILLED_IN_STEP_20 = """
import os, signal, sys
from petseg_utils import cli, models

name = {"autoencoder": "reconstruction_loss", "point": "prompted_loss"}.get(sys.argv[2], "segmentation_loss")
steps, loss = [], getattr(models, name)

def counted(*given, **options):
    steps.append(1)
    if len(steps) == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(*given, **options)

setattr(models, name, counted)
cli.main()
"""


def run_training(model, study_file, runs, data, *options, script=None):
    environment = os.environ | {"PETSEG_RUNS": str(runs), "PETSEG_DATA": str(data)}
    start = ["-c", script] if script else ["-m", "petseg_utils"]
    command = [sys.executable, *start, "train", model, "--study", str(study_file), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "model", ["unet", "autoencoder", "clip", "point"]
)  # the decoder averages its weights on the way
def test_a_run_killed_in_mid_epoch_resumes_to_the_same_weights(model, data, tmp_path):
    study_file = tmp_path / "kill.toml"
    study_file.write_text(STUDY)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run = run_training(model, study_file, whole, data)
    assert run.returncode == 0, run.stderr

    folder = cut / "kill" / f"{model}-seed3"
    killed = run_training(model, study_file, cut, data, script=KILLED_IN_STEP_20)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list(pd.read_csv(folder / "history.csv")["epoch"]) == [1, 2]  # of the finished epochs none is lost

    run = run_training(model, study_file, cut, data, "--resume")
    assert run.returncode == 0, run.stderr
    for name in ("best", "last"):
        expected = load_file(whole / "kill" / f"{model}-seed3" / f"{name}.safetensors")
        resumed = load_file(folder / f"{name}.safetensors")
        assert expected.keys() == resumed.keys()
        assert all(torch.equal(expected[key], resumed[key]) for key in expected)
    histories = [pd.read_csv(runs / "kill" / f"{model}-seed3" / "history.csv") for runs in (whole, cut)]
    pd.testing.assert_frame_equal(*(one.drop(columns="seconds") for one in histories), check_exact=True)


def test_resuming_with_other_settings_is_refused(study, splits):
    models.train("unet", study, 0, splits, progress=False)
    other = replace(study.unet, learning_rate=0.001)
    with pytest.raises(PetsegError, match=r"Cannot resume: the checkpoint has settings .*0\.005.* now .*0\.001"):
        models.train("unet", study, 0, splits, settings=other, resume=True, progress=False)


def test_training_stops_when_the_score_stops_rising(study, splits, tmp_path):
    settings = replace(study.unet, epochs=9, patience=2)
    scores = iter([0.1, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4])
    model = checkpoints.build("unet", study.unet)
    history = training.fit(
        model,
        examples.TrainingPictures(splits["train"], 0),
        segmentation_loss,
        lambda _: {"miou": next(scores)},
        settings,
        tmp_path,
        seed=0,
        card={},
        progress=False,
    )
    assert len(history) == 4
    best = load_file(tmp_path / "best.safetensors")
    assert training.read_card(tmp_path / "best.safetensors")["epoch"] == 2
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in best.items())


def test_a_loss_that_is_no_number_stops_with_advice(study, splits, tmp_path):
    with pytest.raises(PetsegError, match="The loss became nan in epoch 1: lower the learning rate"):
        training.fit(
            checkpoints.build("unet", study.unet),
            examples.TrainingPictures(splits["train"], 0),
            lambda model, batch: model(batch["image"]).mean() * float("nan"),
            lambda _: {"miou": 0.0},
            study.unet,
            tmp_path,
            seed=0,
            card={},
            progress=False,
        )


def test_a_finished_run_is_loaded_unless_something_changed(study, splits, capsys, monkeypatch):
    first = models.trained("unet", study, 0, splits, progress=False)
    again = models.trained("unet", study, 0, splits, progress=False)
    assert "Loaded the checkpoint" in capsys.readouterr().out
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    fewer = splits | {"train": splits["train"].subset(splits["train"].table["name"][1:].tolist())}
    for changed, pictures in (
        (replace(study, unet=replace(study.unet, learning_rate=0.004)), splits),
        (replace(study, image_size=32), splits),
        (study, fewer),
    ):
        models.trained("unet", changed, 0, pictures, progress=False)
        assert "Loaded" not in capsys.readouterr().out
    monkeypatch.setattr(models, "code", lambda model: "other code")
    models.trained("unet", study, 0, fewer, progress=False)
    assert "Loaded" not in capsys.readouterr().out


def test_a_decoder_of_another_encoder_or_cache_is_not_taken_for_the_studys(study, splits, capsys):
    uncached = replace(study, clip=replace(study.clip, cache=False))
    for changed in (study, uncached, replace(uncached, encoder=TWICE_LITE)):  # each differs in one thing from the last
        model = models.trained("clip", changed, 0, splits, progress=False)
        assert "Loaded" not in capsys.readouterr().out and model.encoder.identity == changed.encoder


@pytest.mark.parametrize("model", checkpoints.MODELS)
def test_a_models_fingerprint_covers_the_modules_that_it_is_made_of(study, model, monkeypatch):
    named = []
    monkeypatch.setattr(checkpoints, "code_fingerprint", lambda *names: named.extend(names))
    checkpoints.code(model)
    settings = checkpoints.study_settings("clip" if model == "clip_selftrained" else model, study)
    network = checkpoints.build(model, settings, study.encoder, study.image_size)
    parts = {
        type(part).__module__.rpartition(".")[2] for part in network.modules() if "petseg" in type(part).__module__
    }
    assert parts and parts <= set(named)
    assert {"training", "evaluation", "examples", "pictures"} <= set(named)


def test_prose_is_no_part_of_a_fingerprint_and_every_character_of_code_is():
    code = 'X = f"{1!r:>4}"  # one\n\n\ndef f(a):\n    """Doc.\n\n    More.\n    """\n    return "# no comment" + a\n'
    kept = 'X = f"{1!r:>4}"\ndef f(a):\n    return "# no comment" + a'
    assert without_prose(code) == without_prose(f'"""A module."""\n{code}') == kept
    assert without_prose(code.replace("+ a", "+ b")) == kept.replace("+ a", "+ b")


def test_border_and_padding_carry_no_loss():
    model = torch.nn.Conv2d(3, 3, 1)
    image = torch.rand(1, 3, 8, 8)
    label = torch.ones(1, 8, 8, dtype=torch.uint8)
    label[:, :4] = BORDER
    label[:, 6:] = PADDING
    loss = segmentation_loss(model, {"image": image, "label": label})
    inside = segmentation_loss(model, {"image": image[:, :, 4:6], "label": label[:, 4:6]})
    assert torch.isclose(loss, inside)


def test_damaged_weights_are_refused(study, splits, tmp_path):
    models.train("unet", study, 0, splits, progress=False)
    path = checkpoints.run_folder("unet", study, 0) / "best.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PetsegError, match=r"best.safetensors does not hold this model's weights, or is damaged"):
        checkpoints.load(path)


def test_a_model_without_weights_says_how_to_train_it(study):
    with pytest.raises(PetsegError, match="petseg train unet --study smoke --seed 0"):
        checkpoints.find_checkpoint("unet", study)


def test_padding_is_predicted_as_background(study, splits):
    model = checkpoints.build("unet", study.unet)
    torch.nn.init.zeros_(model.decoder.head.weight)
    model.decoder.head.bias.data = torch.tensor([0.0, 5.0, 0.0])  # cat everywhere
    found = predict(model, splits["test"]).classes
    padding = splits["test"].labels == PADDING
    assert padding.any() and (found[padding] == 0).all() and (found[~padding] == 1).all()


def test_predictions_do_not_depend_on_the_batch(study, splits):
    torch.manual_seed(0)
    model = checkpoints.build("unet", study.unet)
    everything = predict(model, splits["train"])
    name = splits["train"].table["name"].iloc[-1]
    alone = predict(model, splits["train"].subset([name]))
    assert (everything.classes[-1] == alone.classes[0]).mean() > 0.999
    assert everything.loss[-1] == pytest.approx(alone.loss[0], rel=1e-4)


def test_a_full_disk_while_saving_is_told_in_a_sentence(tmp_path):
    folder = tmp_path / "file"
    folder.mkdir()
    code = f"""
import resource, signal, torch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))  # writing past this fails as on a full disk
from petseg_utils import training
training.save_checkpoint(training.Path({str(folder)!r}) / "best.safetensors", torch.nn.Linear(100, 100), {{}})
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "PetsegError: Could not write best.safetensors" in run.stderr and "--resume" in run.stderr
    assert list(folder.iterdir()) == []


def test_unknown_study_and_unknown_key_are_named(tmp_path):
    names = "oxford, oxford-cpu, oxford-gpu, sample, shipped, smoke"
    with pytest.raises(PetsegError, match=rf"No study 'nope'\. Name one of {names}"):
        load_study("nope")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(STUDY.replace("learning_rate = 0.01", "learning_rte = 0.01"))
    with pytest.raises(PetsegError, match=r"wrong.toml \[unet\]: unknown key 'learning_rte'; known keys are width"):
        load_study(str(wrong))


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ("image_size = 64", 'image_size = "32"', "image_size is '32'; it must be of type int"),
        ("seeds = [3]", "seeds = []", "seeds is (); it is out of range"),
        ("epochs = 5", "epochs = 0", "epochs is 0; it is out of range"),
        ("image_size = 64", "image_size = 40", "image_size is 40; it must be a positive multiple of 16"),
        ('data = "oxford"', 'data = "coco"', "data is 'coco'; it must be 'sample' or 'oxford'"),
        ('title = "Kill and resume"', 'title = "x"\nname = "../x"', "a study is named by its file"),
        ("epochs = 5", "", "missing 1 required positional argument: 'epochs'"),
    ],
)
def test_a_bad_study_file_is_told_what_is_wrong(tmp_path, line, instead, message):
    path = tmp_path / "mine.toml"
    path.write_text(STUDY.replace(line, instead, 1))
    with pytest.raises(PetsegError, match=re.escape(message)):
        load_study(str(path))


def test_a_study_file_may_not_pose_as_one_that_ships(tmp_path):
    path = tmp_path / "oxford-cpu.toml"
    path.write_text(STUDY)
    with pytest.raises(PetsegError, match="has the name of a study that ships"):
        load_study(str(path))
