"""The loop learns, stops, and says what went wrong."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from petseg_utils.models.cards import read_card
from petseg_utils.models.unet import UNet
from petseg_utils.scores.predictions import validation_scores
from petseg_utils.study import PetsegError
from petseg_utils.training import loop
from petseg_utils.training.batches import TrainingPictures, as_example
from petseg_utils.training.loop import Run, fit
from petseg_utils.training.losses import segmentation_loss


def as_they_are(pictures, row, key):
    return as_example(pictures.images[row], pictures.labels[row])


@pytest.fixture
def settings(study):
    return study.settings("unet")


def test_four_pictures_are_learned_by_heart(settings, splits, tmp_path):
    four = splits["train"].subset(splits["train"].table["name"][:4].tolist())
    settings = replace(settings, width=8, epochs=120, batch_size=4, learning_rate=0.02, patience=200)
    torch.manual_seed(0)
    model, data = UNet(8), TrainingPictures(four, 0, as_they_are)
    score = lambda fitted: validation_scores(fitted, four)  # noqa: E731
    fit(model, data, segmentation_loss, score, settings, tmp_path, seed=0, card={}, progress=False)
    assert validation_scores(model, four)["miou"] > 0.97


def test_training_stops_when_the_score_stops_rising(settings, splits, tmp_path):
    settings = replace(settings, epochs=9, patience=2)
    scores = iter([0.1, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4])
    model, data = UNet(4), TrainingPictures(splits["train"], 0)
    score = lambda _: {"miou": next(scores)}  # noqa: E731
    card = {"model": "unet", "encoder": None, "study": "smoke", "seed": 0, "image_size": 64, "settings": {}}
    history = fit(model, data, segmentation_loss, score, settings, tmp_path, seed=0, card=card, progress=False)
    assert len(history) == 4
    best = load_file(tmp_path / "best.safetensors")
    assert read_card(tmp_path / "best.safetensors")["epoch"] == 2
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in best.items())


def test_a_loss_that_is_no_number_stops_with_advice(settings, splits, tmp_path):
    no_number = lambda model, batch: model(batch["image"]).mean() * float("nan")  # noqa: E731
    data, score = TrainingPictures(splits["train"], 0), lambda _: {"miou": 0.0}
    with pytest.raises(PetsegError, match="The loss became nan in epoch 1: lower the learning rate"):
        fit(UNet(4), data, no_number, score, settings, tmp_path, seed=0, card={}, progress=False)


def test_one_process_trains_in_one_precision_and_then_in_another(settings, splits, tmp_path):
    dtypes = []

    def loss(model, batch):
        logits = model(batch["image"].float())
        dtypes.append(logits.dtype)
        return segmentation_loss(lambda _: logits, batch)

    for precision in ("bf16", "no", "bf16"):
        changed = replace(settings, epochs=1, mixed_precision=precision)
        data, score = TrainingPictures(splits["train"], 0), lambda _: {"miou": 0.0}
        fit(UNet(4), data, loss, score, changed, tmp_path / str(len(dtypes)), seed=0, card={}, progress=False)
    assert set(dtypes) == {torch.bfloat16, torch.float32}
    assert dtypes[0] == dtypes[-1] == torch.bfloat16


def test_repeated_pictures_are_varied_each_time(splits):
    one = splits["train"].subset(splits["train"].table["name"][:1].tolist())
    data = TrainingPictures(one, 0, length=3)
    drawn = [data[index]["image"] for index in range(len(data))]
    assert len(drawn) == 3 and not torch.equal(drawn[0], drawn[1])
    data.epoch = 1
    assert not torch.equal(data[0]["image"], drawn[0])
    data.epoch = 0
    assert torch.equal(data[0]["image"], drawn[0])


def test_the_average_is_what_is_scored_and_kept(settings, splits, tmp_path, monkeypatch):
    model, data = UNet(4), TrainingPictures(splits["train"], 0)
    scored, before, save = [], tmp_path / "before the end.safetensors", loop.save_state
    monkeypatch.setattr(
        loop, "save_state", lambda path, parts, progress: save(before if parts else path, parts, progress)
    )

    def score(fitted):
        scored.append({name: tensor.clone() for name, tensor in fitted.state_dict().items()})
        return {"miou": 1.0}

    changed = replace(settings, epochs=1, average=0.9)
    fit(model, data, segmentation_loss, score, changed, tmp_path, seed=0, card={}, progress=False)
    kept, live = load_file(tmp_path / "best.safetensors"), load_file(before)
    assert all(torch.equal(kept[name], tensor) for name, tensor in scored[0].items())
    name = "decoder.head.weight"
    assert torch.equal(live[f"average.module.{name}"], kept[name])
    assert not torch.equal(live[f"model.{name}"], kept[name])
    assert not load_file(tmp_path / "last.safetensors")  # of a run that came to its end the best weights are enough


def test_a_run_starts_where_its_history_ends(settings, splits, tmp_path):
    data, score = TrainingPictures(splits["train"], 0), lambda _: {"miou": 0.5}
    given = {"seed": 0, "card": {}, "progress": False}
    fit(UNet(4), data, segmentation_loss, score, settings, tmp_path, **given)
    run = Run(UNet(4), data, settings, tmp_path, **given, score="miou", resume=True)
    assert len(run.history) == settings.epochs and list(run.epochs()) == []


def test_memory_of_a_run_is_free_when_the_next_one_begins(settings, splits, tmp_path, monkeypatch):
    """Whenever the collector would have run by itself: hundreds of megabytes a run otherwise pile up."""
    runs, made = [], Run.__init__

    def remembered(self, *given, **options):
        made(self, *given, **options)
        runs.append(weakref.ref(self.optimizer))

    monkeypatch.setattr(Run, "__init__", remembered)
    data, alive = TrainingPictures(splits["train"], 0), []
    gc.disable()
    try:
        for number in range(2):
            fit(
                UNet(4),
                data,
                segmentation_loss,
                lambda _: alive.append([run() is not None for run in runs]) or {"miou": 0.5},
                replace(settings, epochs=1),
                tmp_path / str(number),
                seed=0,
                card={},
                progress=False,
            )
    finally:
        gc.enable()
    assert alive == [[True], [False, True]]
