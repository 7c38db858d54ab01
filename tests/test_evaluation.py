"""From a model to records, tables and the command line's JSON."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import write_data
from typer.testing import CliRunner

from petseg_utils import checkpoints, evaluation, models, results
from petseg_utils.cli import app
from petseg_utils.metrics import PADDING, PROTOCOLS
from petseg_utils.pictures import load_pictures, load_splits
from petseg_utils.segmenter import Segmenter


class ByColour(torch.nn.Module):
    """Tells the test's reddish cats from its bluish dogs, so its scores are known to be near 1."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images):
        red, blue = images[:, 0], images[:, 2]
        bright = images.amax(1)
        cat, dog = (bright > 100) & (red > blue), (bright > 100) & (blue > red)
        return torch.stack([~(cat | dog), cat, dog], 1).float() * 20


CARD = {"model": "unet", "encoder": None, "study": "smoke", "seed": 0, "data": "x", "n_images": 9, "n_breeds": 4}


@pytest.fixture
def splits(study):
    return load_splits(study, progress=False)


@pytest.fixture
def trained(study, splits):
    models.train("unet", study, 0, splits, progress=False)
    return study


def test_a_model_that_is_right_scores_high_under_every_protocol(study, splits):
    found = evaluation.predict(ByColour(), splits["test"])
    scores = evaluation.score_protocols(splits["test"], found, 50)
    assert scores["ignore_border"]["miou"] > 0.97 and scores["ignore_border"]["boundary_iou"] > 0.8
    assert scores["border_as_background"]["miou"] < scores["ignore_border"]["miou"]
    assert set(scores["binary_border_as_pet"]["iou"]) == {"background", "pet"}
    assert found.loss.max() < 0.5 and found.seconds > 0


def test_records_hold_what_a_reader_needs_to_repeat_them(study, splits):
    model = ByColour()
    records = evaluation.make_records(
        study, CARD, "test", splits["test"], evaluation.predict(model, splits["test"]), model
    )
    assert [record["protocol"] for record in records] == list(PROTOCOLS)
    for record in records:
        assert record["n_images"] == 6 and record["n_breeds"] == 4 and record["data"] == splits["test"].fingerprint
        assert {"seed", "versions", "commit", "machine", "seconds_per_picture", "peak_memory_mb"} <= set(record)
        low, high = record["scores"]["ci95"]["miou"]
        assert low <= record["scores"]["miou"] <= high
        json.dumps(record, allow_nan=False)


def test_appending_the_same_evaluation_replaces_it(study, splits, tmp_path):
    model = ByColour()
    records = evaluation.make_records(
        study, CARD, "test", splits["test"], evaluation.predict(model, splits["test"]), model
    )
    path = tmp_path / "records.jsonl"
    evaluation.append_records(path, records)
    evaluation.append_records(path, records)
    evaluation.append_records(path, [record | {"seed": 1} for record in records])
    assert [record["seed"] for record in evaluation.read_records(path)] == [0, 0, 0, 1, 1, 1]


def test_small_breeds_are_those_with_few_pictures_beside_large_ones(study, splits):
    from dataclasses import replace

    table = pd.DataFrame({"name": map(str, range(25)), "breed": ["large"] * 20 + ["small"] * 5})
    mixed = replace(splits["test"], table=table)
    assert evaluation.small_breeds(mixed).tolist() == [False] * 20 + [True] * 5
    assert not evaluation.small_breeds(splits["test"]).any()  # every breed is small: nothing to compare with


def test_the_table_is_made_of_the_records(study, splits, monkeypatch):
    model = ByColour()
    one = evaluation.make_records(study, CARD, "test", splits["test"], evaluation.predict(model, splits["test"]), model)
    two = [
        record | {"seed": 1, "scores": record["scores"] | {"miou": record["scores"]["miou"] - 0.1}} for record in one
    ]
    table = results.results_table(one + two)
    assert len(table) == 3 and (table["seeds"] == 2).all()
    for record, (_, row) in zip(one, table.iterrows(), strict=True):
        value = record["scores"]["miou"]
        assert row["mIoU"] == pytest.approx(value - 0.05)
        assert (row["mIoU min"], row["mIoU max"]) == pytest.approx((value - 0.1, value))
        assert row["IoU background"] == record["scores"]["iou"]["background"]
    text = results.report_tables(one + two)
    assert f"| mIoU | {table['mIoU'][0]:.3f} [" in text and "6 test pictures of 4 breeds, 2 seeds" in text


def test_evaluate_writes_the_promised_json(trained, tmp_path):
    out = tmp_path / "scores.json"
    run = CliRunner().invoke(app, ["evaluate", "unet", "--study", "smoke", "--json", str(out)])
    assert run.exit_code == 0, run.output
    written = json.loads(out.read_text())
    assert written["model"] == "unet" and written["split"] == "test" and written["n_images"] == 6
    assert written["encoder"] is None and written["data"] == load_pictures(trained, "test", progress=False).fingerprint
    assert set(written["protocols"]) == set(PROTOCOLS)
    primary = written["protocols"]["ignore_border"]
    assert set(primary["iou"]) == {"background", "cat", "dog"}
    assert set(primary) == {"miou", "iou", "dice", "accuracy", "boundary_iou", "ci95"}
    assert all(low <= high for low, high in primary["ci95"].values()) and "iou.cat" in primary["ci95"]
    assert primary["miou"] <= primary["dice"] + 1e-9 <= 2 * primary["miou"] / (1 + primary["miou"]) + 1e-6
    assert f"{primary['miou']:.4f}" in run.output
    records = evaluation.read_records(trained.runs_dir / "records.jsonl")
    assert records[0]["scores"] == primary


def test_evaluate_without_a_checkpoint_says_how_to_get_one(study):
    run = CliRunner().invoke(app, ["evaluate", "unet", "--study", "smoke"])
    assert run.exit_code == 1 and "petseg train unet --study smoke --seed 0" in str(run.exception)


def test_evaluate_on_an_unknown_split_names_the_known_ones(trained):
    run = CliRunner().invoke(app, ["evaluate", "unet", "--study", "smoke", "--split", "tset"])
    assert "No split 'tset'; it is one of train, validation, test" in str(run.exception)


def test_other_data_of_the_same_study_is_scored_and_kept_apart(trained, tmp_path, monkeypatch):
    other = write_data(tmp_path / "other", n_trainval=2, n_test=8)
    (other / "annotations" / "trainval.txt").unlink()  # only the split that is asked for must be there
    assert CliRunner().invoke(app, ["evaluate", "unet", "--study", "smoke"]).exit_code == 0
    run = CliRunner().invoke(app, ["evaluate", "unet", "--study", "smoke", "--data", str(other)])
    assert run.exit_code == 0 and "8 pictures" in run.output
    table = results.results_table(evaluation.read_records(trained.runs_dir / "records.jsonl"))
    assert sorted(table["n_images"]) == [6, 6, 6, 8, 8, 8]
    text = results.report_tables(evaluation.read_records(trained.runs_dir / "records.jsonl"))
    assert "6 test pictures" in text and "8 test pictures" in text and "nan" not in text


def test_publishing_takes_present_pictures_settings_and_seeds_only(trained, splits):
    assert CliRunner().invoke(app, ["evaluate", "unet", "--study", "smoke"]).exit_code == 0
    path = trained.runs_dir / "records.jsonl"
    good = evaluation.read_records(path)
    evaluation.append_records(path, [record | {"data": "older pictures"} for record in good])
    evaluation.append_records(path, [record | {"seed": 99} for record in good])
    table = results.publish(trained, splits)
    assert evaluation.read_records(trained.figures_dir / "records.jsonl") == good and len(table) == 3
    assert f"{good[0]['scores']['miou']:.3f} [" in (trained.figures_dir / "results.md").read_text()


def test_names_that_are_not_there_are_told(trained, tmp_path):
    names = tmp_path / "names.csv"
    names.write_text("name,split\nTabby_100,test\nNobody_7,test\n")
    run = CliRunner().invoke(app, ["evaluate", "unet", "--study", "smoke", "--names", str(names)])
    assert "1 pictures, 1 breeds" in run.output and "1 of 3 names are not in the data: Nobody_7" in run.stderr


def test_weights_of_another_study_are_refused(trained, data):
    path = checkpoints.run_folder("unet", trained, 0) / "best.safetensors"
    run = CliRunner().invoke(app, ["evaluate", "unet", "--study", "sample", "--weights", str(path)])
    assert "was trained by study 'smoke' at 64 px, not by 'sample' at 128 px" in str(run.exception)


def test_wrong_usage_exits_2():
    assert CliRunner().invoke(app, ["evaluate"]).exit_code == 2
    assert CliRunner().invoke(app, ["evaluate", "unet", "--nope"]).exit_code == 2


def test_a_photo_of_any_size_gets_a_mask_of_its_size(trained):
    segmenter = Segmenter.load("unet", checkpoints.run_folder("unet", trained, 0) / "best.safetensors")
    photo = np.random.default_rng(0).integers(0, 255, (37, 201, 3), np.uint8)
    mask = segmenter.predict(photo)
    assert mask.shape == (37, 201) and mask.dtype == np.uint8 and mask.max() <= 2


def test_segmenter_agrees_with_the_evaluation(trained, splits):
    segmenter = Segmenter.load("unet", checkpoints.run_folder("unet", trained, 0) / "best.safetensors")
    expected = evaluation.predict(segmenter.model, splits["test"]).classes[0]
    inside = splits["test"].labels[0] != PADDING
    assert (segmenter.predict(np.array(splits["test"].images[0])) == expected)[inside].all()
