"""`petseg sweep`: trains what is not current, in order, and tells what failed."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from petseg_utils.apps import sweep
from petseg_utils.apps.sweep import Run
from petseg_utils.study import STUDIES, load_study, write_json
from petseg_utils.training.checkpoints import run_folder
from petseg_utils.training.conditions import conditions
from petseg_utils.training.recipes import recipe_of
from petseg_utils.training.train import CUT, NO_RUN, what_lacks

TRAINED = re.compile(r"^(\w+), seed (\d): trained after \d+ s; log: (.+)$", re.M)


@pytest.fixture
def fast(tmp_path, data):
    """The smoke study with one epoch a model and two seeds, and the folder of its logs."""
    text = (STUDIES / "smoke.toml").read_text().replace("epochs = 2", "epochs = 1").replace("[0]", "[0, 1]", 1)
    text += "\n[models.decoder_selftrained]\nwidth = 16\nepochs = 1\nbatch_size = 8\nlearning_rate = 0.005\n"
    path = tmp_path / "tiny.toml"
    path.write_text(text)
    return path, load_study(str(path)).runs_dir / "logs"


@pytest.fixture
def trainings(fast, monkeypatch):
    """Trainings that take no time: their commands, and the models of which they fail."""
    study = load_study(str(fast[0]))
    begun, failing = [], set()

    def start(command, log):
        model, seed = command[command.index("train") + 1], int(command[command.index("--seed") + 1])
        begun.append((model, seed, command[-1]))
        log.write_text(f"seed {seed}\npetseg: no room\n")
        if model not in failing:
            card = {"study": study.name, "model": model, "seed": seed, "epoch": 1, "training_seconds": 1.0}
            card |= conditions(recipe_of(model), study, seed, splits)
            write_json(run_folder(model, study, seed) / "best.json", card)
            (run_folder(model, study, seed) / "best.safetensors").touch()
        return subprocess.Popen([sys.executable, "-c", f"raise SystemExit({int(model in failing)})"])

    splits = sweep.load_splits(study, progress=False)
    monkeypatch.setattr(sweep, "_here", lambda jobs: start)
    monkeypatch.setattr(sweep, "PAUSE", 0.01)
    return begun, failing


def test_a_sweep_trains_what_is_missing_after_what_it_starts_from(petseg, fast, trainings):
    study, logs = fast
    options = ["--study", study, "--models", "autoencoder_unet,unet", "--jobs", "2"]
    code, said, errors = petseg("sweep", *options, "--seeds", "0")
    assert code == 0, errors
    order = [run[:2] for run in trainings[0]]
    assert sorted(order) == [("autoencoder", 0), ("autoencoder_unet", 0), ("unet", 0)]
    assert order.index(("autoencoder", 0)) < order.index(("autoencoder_unet", 0))
    assert {log for *_, log in TRAINED.findall(said)} == {str(logs / f"{model}-seed0.log") for model, _ in order}
    trainings[0].clear()
    code, said, _ = petseg("sweep", *options)  # all seeds of the study
    assert sorted(run[:2] for run in trainings[0]) == [("autoencoder", 1), ("autoencoder_unet", 1), ("unet", 1)]
    assert "unet, seed 0: is current" in said and "autoencoder_unet, seed 0: is current" in said
    trainings[0].clear()
    folder = load_study(str(study)).runs_dir
    for name, change in (("unet-seed1", {"version": 0}), ("autoencoder_unet-seed0", {"training_seconds": None})):
        card = json.loads((folder / name / "best.json").read_text()) | change
        if not card["training_seconds"]:
            del card["training_seconds"]
        write_json(folder / name / "best.json", card)
    petseg("sweep", *options)
    assert sorted(trainings[0]) == [("autoencoder_unet", 0, "--resume"), ("unet", 1, str(study))]
    trainings[0].clear()
    assert petseg("sweep", *options)[0] == 0 and not trainings[0]


def test_what_fails_is_told_with_its_log_and_the_rest_goes_on(petseg, fast, trainings):
    study, logs = fast
    trainings[1].add("autoencoder")
    options = ["--study", study, "--models", "autoencoder_unet,unet", "--seeds", "0"]
    code, said, errors = petseg("sweep", *options)
    assert code == 1 and [found[:2] for found in TRAINED.findall(said)] == [("unet", "0")]
    told = [line for line in re.split(r"[\r\n]+", errors) if "autoencoder" in line and "run/s" not in line]
    assert re.fullmatch(rf"autoencoder, seed 0: failed after \d+ s: petseg: no room; log: {logs}/autoenc.*log", told[0])
    assert told[1:] == ["autoencoder_unet, seed 0: not started, because autoencoder, seed 0 failed"]
    trainings[0].clear()
    trainings[1].clear()
    assert petseg("sweep", *options)[0] == 0
    assert [run[0] for run in trainings[0]] == ["autoencoder", "autoencoder_unet"]


def test_a_real_training_has_its_output_in_its_log_and_is_current_afterwards(petseg, fast):
    study, logs = fast
    code, said, errors = petseg("sweep", "--study", study, "--models", "unet", "--seeds", "1")
    assert code == 0 and [found[:2] for found in TRAINED.findall(said)] == [("unet", "1")], errors
    assert "epoch 1/1" in (logs / "unet-seed1.log").read_text()
    assert petseg("sweep", "--study", study, "--models", "unet", "--seeds", "1")[1] == "unet, seed 1: is current\n"


def test_a_self_trained_decoder_waits_for_the_decoders_of_all_seeds(fast):
    study = load_study(str(fast[0]))
    assert sweep.bases(Run("decoder_selftrained", 1), study) == [Run("decoder", 0), Run("decoder", 1)]
    lacking = {}
    sweep._add(Run("autoencoder_unet", 1), study, sweep.load_splits(study, progress=False), lacking)
    assert list(lacking) == [Run("autoencoder", 1), Run("autoencoder_unet", 1)] and set(lacking.values()) == {NO_RUN}


def test_no_more_run_at_a_time_than_jobs_and_none_before_its_bases(fast, tmp_path, monkeypatch):
    study, most, order = load_study(str(fast[0])), [], []
    monkeypatch.setattr(sweep, "PAUSE", 0.01)
    (tmp_path / "logs").mkdir()

    def begin(run):
        order.append(run)
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.2)"])
        begun.append(process)
        most.append(sum(process.poll() is None for process in begun))
        assert all(ended.poll() == 0 for base in sweep.bases(run, study) for ended in [begun[order.index(base)]])
        return process

    begun = []
    runs = [Run(model, seed) for model in ("autoencoder_unet", "autoencoder", "unet") for seed in (0, 1)]
    assert sweep._run_all(list(runs), study, begin, tmp_path / "logs", 2) == []
    assert sorted(order) == sorted(runs) and max(most) == 2


@pytest.mark.skipif(os.name != "posix", reason="ends the process by POSIX signals")
def test_the_end_of_a_sweep_is_the_end_of_its_trainings_and_a_cut_one_goes_on(fast):
    study, _ = fast
    study.write_text(study.read_text().replace("epochs = 1\n", "epochs = 400\n", 2))  # the first is another setting
    script = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script += "from petseg_utils.apps.cli.main import main\nmain()"
    command = [sys.executable, "-c", script, "sweep", "--study", study, "--models", "unet", "--seeds", "0"]
    runs = load_study(str(study)).runs_dir
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (runs / "unet-seed0" / "last.safetensors").exists():
            time.sleep(0.05)
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        process.send_signal(signal.SIGTERM)
        told = process.communicate()[1]
    assert process.returncode == 130 and "Run the same command again to continue." in told
    assert children and not any(os.path.exists(f"/proc/{child}") for child in children)
    chosen = load_study(str(study))
    assert what_lacks("unet", chosen, 0, sweep.load_splits(chosen, progress=False)) == CUT


@pytest.mark.long
def test_submitits_local_cluster_runs_commands_with_their_logs_and_tells_failures(tmp_path):
    start, processes = sweep._on_cluster("local", tmp_path), []
    for number, code in enumerate(("print('done')", "raise SystemExit(3)", "import time; time.sleep(600)")):
        processes.append(start([sys.executable, "-c", code], tmp_path / f"{number}.log"))
    for process in processes[:2]:
        process.wait(60)
    assert [process.poll() for process in processes] == [0, 3, None]
    assert (tmp_path / "0.log").read_text() == "done\n"
    processes[2].terminate()
    processes[2].wait(60)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--models", "unet", "--seeds", "0,x"], 2, "'0,x' is not a list of seeds"),
        (["--models", "unet", "--seeds", "-1"], 2, "'-1' is not a list of seeds"),
        (["--models", "unet", "--jobs", "0"], 2, "--jobs"),
        (["--models", "unett"], 1, "Unknown model 'unett'"),
        (["--models", "unet", "--cluster", "cloud"], 1, "Unknown cluster 'cloud': use slurm or local."),
    ],
)
def test_wrong_usage_is_told(petseg, fast, options, code, message):
    ended, _, errors = petseg("sweep", "--study", fast[0], *options)
    assert ended == code and message in errors
