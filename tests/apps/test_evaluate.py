"""`petseg evaluate`: the JSON it promises, and what it says where it cannot score."""

import json

import pytest
from typer.testing import CliRunner

from petseg_utils.apps.cli.main import app
from petseg_utils.data.pictures import load_pictures
from petseg_utils.models.cards import SHIPPED, read_card, sha256
from petseg_utils.scores import results
from petseg_utils.scores.metrics import PROTOCOLS
from petseg_utils.scores.records import read_records
from petseg_utils.study import STUDIES, load_study
from petseg_utils.training.checkpoints import run_folder
from petseg_utils.training.train import train
from tests.conftest import write_data
from tests.models.tiny_clip import write_checkpoint


@pytest.fixture
def trained(study, splits):
    train("unet", study, 0, splits, progress=False)
    return study


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
    records = read_records(trained.runs_dir / "records.jsonl")
    assert records[0]["scores"] == primary


def test_evaluate_without_a_checkpoint_says_how_to_get_one(study):
    run = CliRunner().invoke(app, ["evaluate", "unet", "--study", "smoke"])
    assert run.exit_code == 1 and "petseg train unet --study smoke --seed 0" in str(run.exception)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--study", "smoke", "--split", "tset"], "Unknown split 'tset': use one of train, validation, test"),
        (
            ["--study", "smoke", "--names", "nowhere.txt"],
            "No file 'nowhere.txt': --names takes a file with names of pictures",
        ),
        (["--seed", "0"], "--seed chooses among a study's runs: give it with --study"),
        (["--weights", str(SHIPPED / "decoder.safetensors")], "decoder.safetensors holds the model decoder, not unet"),
    ],
)
def test_what_cannot_be_scored_is_told(trained, options, message):
    assert message in str(CliRunner().invoke(app, ["evaluate", "unet", *options]).exception)


def test_other_data_of_the_same_study_is_scored_and_kept_apart(trained, tmp_path, monkeypatch):
    other = write_data(tmp_path / "other", n_trainval=2, n_test=8)
    (other / "annotations" / "trainval.txt").unlink()  # only the split that is asked for must be there
    assert CliRunner().invoke(app, ["evaluate", "unet", "--study", "smoke"]).exit_code == 0
    run = CliRunner().invoke(app, ["evaluate", "unet", "--study", "smoke", "--data", str(other)])
    assert run.exit_code == 0 and "8 pictures" in run.output
    own = read_records(trained.runs_dir / "records.jsonl")
    others = read_records(load_study("smoke", data=other).runs_dir / "records.jsonl")
    table = results.results_table(own + others)
    assert sorted(table["n_images"]) == [6, 6, 6, 8, 8, 8]
    assert {record["n_images"] for record in own if record["subset"] == "all"} == {6}
    text = results.report_tables(own + others)
    assert "6 test pictures" in text and "8 test pictures" in text and "nan" not in text


def test_a_users_own_data_neither_replace_the_studys_run_nor_are_taken_for_it(trained, tmp_path):
    mine, photo = write_data(tmp_path / "mine", n_trainval=10), tmp_path / "mine" / "images" / "Tabby_100.jpg"
    run_of_study, on_mine = run_folder("unet", trained, 0), ["--study", "smoke", "--data", str(mine)]
    before = {path.name: path.read_bytes() for path in run_of_study.iterdir()}

    def petseg(*command):
        run = CliRunner().invoke(app, list(map(str, command)))
        return str(run.exception or "") + run.output + run.stderr

    segment = ["segment", photo, "--model", "unet", "-o"]
    assert (
        "no trained unet with seed 0 on mine. Train it: petseg train unet --study smoke --seed 0 --data mine"
        in petseg(*segment, tmp_path / "masks", *on_mine)  # the study's own is not taken for it
    )
    told = petseg("train", "unet", *on_mine, "--seed", "0")
    own = run_folder("unet", load_study("smoke", data=mine), 0)
    assert str(own) in told and own.parent.parent == trained.runs_dir
    assert {path.name: path.read_bytes() for path in run_of_study.iterdir()} == before
    for named, used in ((on_mine, own), (["--study", "smoke"], run_of_study)):
        out, scores = tmp_path / used.parent.name, tmp_path / "scores.json"
        petseg(*segment, out, *named)
        about = json.loads((out / "about.json").read_text())
        assert about["sha256"] == sha256(used / "best.safetensors")
        petseg("evaluate", "unet", *named, "--json", scores)
        assert json.loads(scores.read_text())["trained_on"]["data"] == read_card(used / "best.safetensors")["data"]
    assert "--data names the data that a study's run was trained on: give it with --study" in (
        petseg(*segment, tmp_path / "masks", "--data", mine)
    )


def test_names_that_are_not_there_are_told(trained, tmp_path):
    names = tmp_path / "names.csv"
    names.write_text("name,split\nTabby_100,test\nNobody_7,test\n")
    run = CliRunner().invoke(app, ["evaluate", "unet", "--study", "smoke", "--names", str(names)])
    assert "1 pictures, 1 breeds" in run.output and "1 of 3 names are not in the data: Nobody_7" in run.stderr


def test_pictures_that_are_left_out_are_told(trained, data):
    (data / "images" / "Tabby_100.jpg").write_bytes(b"broken")
    assert CliRunner().invoke(app, ["evaluate", "unet", "--study", "smoke"]).exit_code == 1
    run = CliRunner().invoke(app, ["evaluate", "unet", "--study", "smoke", "--skip-bad"])
    assert run.exit_code == 0 and "5 pictures" in run.output
    assert "left out of test: Tabby_100: Tabby_100.jpg: not a picture" in run.stderr


def test_photos_are_read_at_the_sizes_that_the_checkpoints_encoder_wants(study):
    two_sizes = ["--study", "smoke", "--encoder", "lite:efficientnet_lite0@64+128"]
    assert CliRunner().invoke(app, ["train", "decoder", *two_sizes]).exit_code == 0
    run = CliRunner().invoke(app, ["evaluate", "decoder", "--study", "smoke"])
    assert run.exit_code == 0, run.exception


def test_weights_of_another_study_are_refused(trained, data):
    path = run_folder("unet", trained, 0) / "best.safetensors"
    run = CliRunner().invoke(app, ["evaluate", "unet", "--study", "sample", "--weights", str(path)])
    assert "was trained by study 'smoke' at 64 px, not by 'sample' at 128 px" in str(run.exception)


def test_wrong_usage_exits_2():
    assert CliRunner().invoke(app, ["evaluate"]).exit_code == 2
    assert CliRunner().invoke(app, ["evaluate", "unet", "--nope"]).exit_code == 2


def test_an_autoencoder_is_not_evaluated_and_the_message_says_what_is(data):
    result = CliRunner().invoke(app, ["evaluate", "autoencoder"])
    assert "makes no masks: evaluate autoencoder_unet" in str(result.exception)


def test_evaluating_the_point_model_reports_clicks(data, tmp_path):
    path = tmp_path / "out.json"
    done = CliRunner().invoke(app, ["evaluate", "point", "--data", str(data), "--json", str(path)])
    assert done.exit_code == 0, done.output
    clicks = json.loads(path.read_text())["clicks"]
    assert {"iou@1", "iou@3", "iou@5", "noc@85", "noc@90", "same_class_click"} <= set(clicks)
    assert set(clicks["same_class_click"]) == {"miou", "dice"}
    for name in ("missed@1", "excess@1"):
        assert set(clicks[name]) == {"before", "after", "worse", "n_images"} and name in done.output
        assert 0 <= clicks[name]["n_images"] <= 6
        assert (clicks[name]["before"] is None) == (clicks[name]["n_images"] == 0)
    assert 0 <= clicks["iou@1"] <= 1 and 1 <= clicks["noc@85"] <= clicks["noc@90"] <= 20
    assert "iou@1" in done.output


def test_decoder_on_a_clip_from_a_file_trains_and_scores_by_the_command_line(data, tmp_path, monkeypatch, no_network):
    tiny = write_checkpoint(tmp_path, "tiny-vit")
    toml = tmp_path / "tiny-study.toml"
    text = (STUDIES / "smoke.toml").read_text()
    toml.write_text(text.replace("epochs = 2", "epochs = 1").replace('data = "sample"', 'data = "oxford"'))
    run = CliRunner()
    monkeypatch.chdir(tmp_path)
    done = run.invoke(app, ["train", "decoder", "--study", str(toml), "--encoder", f"clip:tiny-vit//{tiny.name}"])
    assert done.exit_code == 0, done.output
    monkeypatch.chdir(data)  # where no such file is
    out = tmp_path / "scores.json"
    done = run.invoke(app, ["evaluate", "decoder", "--study", str(toml), "--json", str(out)])
    assert done.exit_code == 0, done.output
    scores = json.loads(out.read_text())
    assert scores["encoder"].startswith("clip:tiny-vit//tiny.safetensors@")
    assert 0 <= scores["protocols"]["ignore_border"]["miou"] <= 1
