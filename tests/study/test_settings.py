"""A study's file is read strictly, the environment once, and every place is absolute."""

import os
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from petseg_utils.study import (
    ROOT,
    STUDIES,
    PetsegError,
    TrainingSettings,
    load_study,
)

MINE = """
title = "Mine"
data = "oxford"
image_size = 64
validation_share = 0.34
seeds = [3]
bootstrap_resamples = 10
ablation_epochs = 1
encoder = "lite:efficientnet_lite0"
[models.unet]
width = 4
epochs = 5
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
PLACES = ("data_dir", "runs_dir", "cache_dir", "figures_dir")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    """Nothing of petseg in the environment."""
    for name in [name for name in os.environ if name.startswith("PETSEG_")]:
        monkeypatch.delenv(name)


def written(folder: Path, text: str = MINE, name: str = "mine.toml") -> str:
    """Path of a study file with some text."""
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_an_unknown_study_is_told_with_the_known_ones():
    names = "oxford, oxford-cpu, oxford-gpu, rehearsal, sample, shipped, smoke"
    with pytest.raises(PetsegError, match=rf"No study 'nope'\. Name one of {names}"):
        load_study("nope")


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ("image_size = 64", 'image_size = "32"', "mine.toml: image_size is '32': input should be a valid integer."),
        ("image_size = 64", "image_size = 40", "mine.toml: image_size is 40; it must be a positive multiple of 16."),
        ("image_size = 32", "image_size = 40", "mine.toml: image_size is 40; it must be a positive multiple of 16."),
        ("seeds = [3]", "seeds = []", "mine.toml: seeds is []: tuple should have at least 1 item"),
        ("validation_share = 0.34", "validation_share = 1", "mine.toml: validation_share is 1: input should be less"),
        ('data = "oxford"', 'data = "coco"', "mine.toml: data is 'coco': input should be 'sample' or 'oxford'."),
        ("epochs = 5", "epochs = 0", "mine.toml [models.unet]: epochs is 0: input should be greater than or equal"),
        ("epochs = 5", "epochs = true", "mine.toml [models.unet]: epochs is True: input should be a valid integer."),
        ("epochs = 5", "", "mine.toml [models.unet]: the key 'epochs' is missing."),
        ("epochs = 5", "epochs = 5\nscales = [0.0, 1.3]", "[models.unet]: scales is 0.0: input should be greater"),
        ("epochs = 5", "epochs = 5\nscales = [0.3]", "[models.unet]: scales has too few values."),
        ("epochs = 5", "epochs = 5\nshift = 1.5", "[models.unet]: shift is 1.5: input should be less than"),
        ("epochs = 5", "epochs = 5\nmosaic = -0.1", "mosaic is -0.1: input should be greater than or equal to 0."),
        ("epochs = 5", "epochs = 5\nbackground = 2", "background is 2: input should be less than or equal to 1."),
        ("learning_rate = ", "learning_rte = ", "[models.unet]: unknown key 'learning_rte'; known keys are width"),
        ("[models.unet]", "[unet]", "mine.toml: unknown key 'unet'; known keys are title, data, image_size"),
        ("[models.unet]", "[models.clip]", "the model clip is called decoder now; write [models.decoder]."),
        ('title = "Mine"', 'title = "x"\nname = "../x"', "a study is named by its file; take the key 'name' out."),
        (
            'title = "Mine"',
            'title = "x"\nruns_dir = "/x"',
            "folders come from the environment; take the key",
        ),
        ('title = "Mine"', 'title = "', "mine.toml: not valid TOML: "),
        ('title = "Mine"', f"title = {'[' * 5000}", "mine.toml: not valid TOML: "),
        ('title = "Mine"', f"title = {'1' * 5000}", "mine.toml: not valid TOML: "),
        (
            'title = "Mine"',
            f"title = '{'x' * 1_000_000}'",
            "mine.toml: not a study, because it is larger than a megabyte.",
        ),
        ("image_size = 64", "image_size = 100000", "image_size is 100000: input should be less than or equal to 1024."),
        ("image_size = 32", "image_size = 100000", "image_size is 100000: input should be less than or equal to 1024."),
        ("width = 4", "width = 1000000000", "width is 1000000000: input should be less than or equal to 1024."),
        ("batch_size = 1", f"batch_size = {2**70}", "[models.unet]: batch_size is "),
        ("learning_rate = 0.01", "learning_rate = inf", "learning_rate is inf: input should be less than or equal"),
        ("learning_rate = 0.01", "learning_rate = nan", "learning_rate is nan: input should be less than or equal"),
        ("seeds = [3]", "seeds = [-1]", "seeds is -1: input should be greater than or equal to 0."),
        ("seeds = [3]", "seeds = [4294967296]", "seeds is 4294967296: input should be less than 4294967296."),
        ("seeds = [3]", "seeds = [0.5]", "seeds is 0.5: input should be a valid integer"),
        ("seeds = [3]", 'seeds = "abc"', "seeds is 'abc': input should be a valid tuple."),
        ("seeds = [3]", "seeds = [3, 3]", "seeds is [3, 3]: each number may be given only once."),
        ("epochs = 5", "epochs = 5\nmaps = [9]", "[models.unet]: maps is 9: input should be less than 6."),
        ("[models.unet]", "[models]\nunet = 3\n[other]", "mine.toml"),
        ("[models.unet]", "models = 3\n[other]", "mine.toml"),
    ],
)
def test_a_bad_study_file_is_told_what_is_wrong(tmp_path, line, instead, message):
    with pytest.raises(PetsegError, match=re.escape(message)) as told:
        load_study(written(tmp_path, MINE.replace(line, instead, 1)))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["cache.toml", "..toml", "...toml", ".toml.toml", " .toml", "-x.toml"])
def test_a_study_may_not_take_the_folder_of_something_else(tmp_path, name):
    with pytest.raises(PetsegError, match="rename the file to a word"):
        load_study(written(tmp_path, name=name))


def test_a_study_file_may_not_pose_as_one_that_ships(tmp_path):
    with pytest.raises(PetsegError, match="has the name of a study that ships"):
        load_study(written(tmp_path, name="oxford-cpu.toml"))
    assert load_study(str(STUDIES / "oxford-cpu.toml")).name == "oxford-cpu"


def test_the_default_study_is_sample_and_a_variable_names_another(monkeypatch):
    assert load_study().name == "sample"
    monkeypatch.setenv("PETSEG_STUDY", "smoke")
    assert load_study().name == "smoke" and load_study("oxford").name == "oxford"


def test_without_variables_everything_lies_in_the_project():
    study = load_study("smoke")
    assert [getattr(study, place) for place in PLACES] == [
        ROOT / "data" / "smoke",
        ROOT / "runs" / "smoke",
        ROOT / "runs" / "cache",
        ROOT / "runs" / "smoke" / "figures",
    ]
    assert study.draws_its_data and study.unlabelled_dir is None and study.elsewhere_dir is None
    oxford = load_study("oxford-gpu")
    assert oxford.data_dir == ROOT / "data" / "oxford-iiit-pet" and not oxford.draws_its_data


def test_the_environment_is_read_once_and_its_places_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("more", "others"):
        (tmp_path / folder).mkdir()
    variables = {"DATA": "pets", "RUNS": "out", "FIGURES": "charts", "UNLABELLED": "more", "OOD": "others"}
    for name, folder in variables.items():
        monkeypatch.setenv(f"PETSEG_{name}", folder)
    study = load_study("smoke")
    for name in variables:
        monkeypatch.setenv(f"PETSEG_{name}", "elsewhere")
    monkeypatch.chdir("/")
    assert [getattr(study, place) for place in (*PLACES, "unlabelled_dir", "elsewhere_dir")] == [
        tmp_path / "pets",
        tmp_path / "out" / "smoke",
        tmp_path / "out" / "cache",
        tmp_path / "charts" / "smoke",
        tmp_path / "more",
        tmp_path / "others",
    ]
    assert not study.draws_its_data  # whatever lies there is somebody's own


def test_figures_go_to_the_runs_unless_a_variable_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("PETSEG_RUNS", str(tmp_path / "out"))
    assert load_study("smoke").figures_dir == tmp_path / "out" / "smoke" / "figures"
    monkeypatch.setenv("PETSEG_FIGURES", str(tmp_path / "figures"))
    assert load_study("smoke").figures_dir == tmp_path / "figures" / "smoke"
    assert load_study("smoke").runs_dir == tmp_path / "out" / "smoke"


def test_a_folder_that_is_given_goes_before_the_environments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PETSEG_DATA", "theirs")
    assert load_study("smoke", data=Path("mine")).data_dir == tmp_path / "mine"


def test_a_relative_path_of_weights_starts_at_the_studys_file_wherever_one_stands(tmp_path, monkeypatch):
    (tmp_path / "studies").mkdir()
    (tmp_path / "elsewhere").mkdir()
    study = tmp_path / "studies" / "mine.toml"
    wanted = {"own/a.pt": tmp_path / "studies" / "own" / "a.pt", f"{study}"[1:]: study}  # the latter is there: absolute
    for named, meant in wanted.items():
        study.write_text(MINE.replace("lite:efficientnet_lite0", f"clip:ViT-B-16//{named}"))
        for folder in ("studies", "elsewhere"):
            monkeypatch.chdir(tmp_path / folder)
            assert load_study("../studies/mine.toml").encoder == f"clip:ViT-B-16//{meant.as_posix()[1:]}"


def test_other_data_have_runs_of_their_own_and_the_studys_own_have_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PETSEG_DATA", "theirs")
    own = load_study("smoke")
    assert load_study("smoke", data=Path("x/../theirs")).runs_dir == own.runs_dir and not own.on_other_data
    first, second, long = (load_study("smoke", data=Path(name)) for name in ("mine", "other/mine", "長" * 80))
    assert first.on_other_data and first.runs_dir.parent == own.runs_dir and first.runs_dir.name.startswith("mine-")
    assert first.runs_dir != second.runs_dir  # another folder of that name
    assert first.runs_dir == load_study("smoke", data=Path("other/../mine")).runs_dir
    long.runs_dir.mkdir(parents=True)
    assert first.cache_dir == own.cache_dir


@pytest.mark.parametrize("variable", ["PETSEG_UNLABELLED", "PETSEG_OOD"])
def test_a_variable_that_names_no_folder_is_told(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, str(tmp_path / "gone"))
    with pytest.raises(PetsegError, match=f"{variable} names 'gone', which is not a folder"):
        load_study("smoke")


def test_a_model_that_the_study_does_not_train_is_told(tmp_path):
    study = load_study(written(tmp_path))
    assert study.settings("unet").epochs == 5
    with pytest.raises(PetsegError, match=re.escape("has no settings [models.point]; it has unet.")):
        study.settings("point")


def test_settings_come_back_from_a_card_as_they_were():
    settings = replace(load_study("smoke").settings("unet"), maps=(0, 2), scales=(0.3, 1.3))
    recorded = {**asdict(settings), "maps": [0, 2], "scales": [0.3, 1.3]}  # JSON has no tuples
    assert TrainingSettings(**recorded) == settings
    del recorded["average"]  # a setting that did not exist then
    assert TrainingSettings(**recorded) == settings == TrainingSettings(**asdict(settings))


def test_pictures_are_read_larger_where_the_encoder_names_two_sizes():
    study = load_study("smoke")
    assert study.picture_scale == 1
    assert replace(study, encoder="lite:efficientnet_lite0+2x").picture_scale == 1  # it enlarges them itself
    assert replace(study, encoder="lite:efficientnet_lite0@64+128").picture_scale == 2


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_studies_vary_their_pictures_within_reason(path):
    for name, settings in load_study(path.stem).models.items():
        least, greatest = settings.scales
        assert 0.1 <= least <= 1 <= greatest <= 2, name
        assert settings.shift <= 0.5 and settings.mosaic + settings.background <= 1, name
