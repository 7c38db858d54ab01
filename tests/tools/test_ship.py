"""A run's weights ship with the scores of its evaluation, and not without."""

import json

import pytest

from petseg_utils.models.cards import read_card
from petseg_utils.training.checkpoints import load
from petseg_utils.training.train import train
from tools import ship


def test_a_run_ships_as_float16_with_its_test_scores(study, splits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ship, "SHIPPED", tmp_path / "weights")
    train("unet", study, 0, splits, progress=False)
    with pytest.raises(SystemExit):
        ship.main(["unet", "--study", "smoke"])
    assert "run petseg evaluate first" in capsys.readouterr().err
    scores = {"miou": 0.5, "dice": 0.6, "accuracy": 0.7}
    record = {"model": "unet", "seed": 0, "split": "test", "subset": "all", "protocol": "ignore_border"}
    record |= {"encoder": None, "study": "smoke", "data": "x"}
    line = json.dumps(record | {"n_images": 6, "scores": scores})
    (study.runs_dir / "records.jsonl").write_text(line + "\n", encoding="utf-8")
    ship.main(["unet", "--study", "smoke", "--slot", "other"])
    card = read_card(tmp_path / "weights" / "other.safetensors")
    assert (card["model"], card["trained_as"], card["stored_as"]) == ("other", "unet", "float16")
    assert card["test"] == {"all, ignore_border": {"n_images": 6} | scores}
    sums = (tmp_path / "weights" / "SHA256SUMS").read_text().splitlines()
    assert [line.split("  ")[1] for line in sums] == ["other.json", "other.safetensors"]
    assert "CC BY-SA 4.0" in card["licence"] and "peak" not in card
    ship.main(["unet", "--study", "smoke"])
    assert not hasattr(load(tmp_path / "weights" / "unet.safetensors")[0], "peak")
    ship.main(["unet", "--study", "smoke", "--peak", "0.9"])
    assert load(tmp_path / "weights" / "unet.safetensors")[0].peak == 0.9
