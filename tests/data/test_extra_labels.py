"""Further labelled pictures: some are held out for validation, and hard edges are not learned from."""

import re
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from petseg_utils.apps.cli.main import app
from petseg_utils.data.datasets import DataError, list_pictures, split_validation
from petseg_utils.data.extra_labels import BAND, check_extra, read_extra
from petseg_utils.data.labels import BORDER, PADDING
from petseg_utils.data.pictures import decode
from tests.conftest import renamed, write_data


@pytest.fixture
def folders(tmp_path):
    """Two folders with pictures of names of their own, the second one with masks that have no border."""
    made = []
    for number, (start, n) in enumerate((("First", 8), ("Second", 12))):
        root = write_data(tmp_path / start, n, 4)
        for path in (root / "annotations").glob("*.txt"):
            path.write_text("".join(f"{start}{line}\n" for line in path.read_text().splitlines()))
        for path in [*(root / "images").iterdir(), *(root / "annotations" / "trimaps").iterdir()]:
            path.rename(path.with_name(start + path.name))
        for path in (root / "annotations" / "trimaps").iterdir() if number else ():
            trimap = np.array(Image.open(path))
            trimap[trimap == 3] = 1
            Image.fromarray(trimap).save(path)
        made.append(root)
    return made


def test_each_folder_gives_to_training_and_to_validation(study, folders):
    extra = read_extra(folders, study, progress=False)
    assert set(extra) == {"train", "validation"}
    wanted = {"train": [], "validation": []}
    for folder in folders:
        parts = split_validation(list_pictures(folder, "trainval"), study.validation_share)
        for split, part in zip(wanted, parts, strict=True):
            wanted[split] += [picture.name for picture in part]
    for split, names in wanted.items():
        assert extra[split].table["name"].tolist() == names and len(names) > 1
        assert all(any(name.startswith(start) for name in names) for start in ("First", "Second"))
    assert not set(wanted["train"]) & set(wanted["validation"])
    tested = {picture.name for folder in folders for picture in list_pictures(folder, "test")}
    assert not tested & set(wanted["train"] + wanted["validation"])  # those are for measuring only


def test_one_folder_is_enough_and_the_share_is_the_studys(study, folders):
    half = read_extra(folders[:1], replace(study, validation_share=0.5), progress=False)
    assert len(half["train"]) == len(half["validation"]) == 4


def test_hard_edges_to_learn_from_become_a_band_and_soft_borders_and_masks_to_validate_on_stay(study, folders):
    extra = read_extra(folders, study, progress=False)
    plain = {}
    for folder in folders:
        pictures = decode(list_pictures(folder, "trainval"), study.image_size, study.cache_dir, progress=False)
        plain |= dict(zip(pictures.table["name"], pictures.labels, strict=True))
    hard = 0
    for part, split in extra.items():
        for name, label in zip(split.table["name"], split.labels, strict=True):
            before = np.array(plain[name])
            if part == "validation" or (before == BORDER).any():
                assert np.array_equal(label, before)
                continue
            hard += 1
            band, pet = label == BORDER, np.isin(before, (1, 2))
            assert np.array_equal(label[~band], before[~band])
            assert np.array_equal(label == PADDING, before == PADDING)
            # The band lies along the outline, on both sides, and is two pixels wide on each.
            inside, outside = (
                cv2.distanceTransform(np.pad(side, 1, mode="edge").astype(np.uint8), cv2.DIST_C, 3)[1:-1, 1:-1]
                for side in (pet, ~pet)
            )
            known = before != PADDING
            assert np.array_equal(band, ((inside + outside) <= BAND // 2) & known)
            assert (band & pet).any() and (band & ~pet).any() and (pet & ~band).any()
    assert 6 < hard < 12


def test_a_picture_without_a_pet_gets_no_band(study, folders):
    for path in (folders[1] / "annotations" / "trimaps").iterdir():
        Image.fromarray(np.full((60, 80), 2, np.uint8)).save(path)
    extra = read_extra(folders[1:], study, progress=False)
    assert set(np.unique(extra["train"].labels)) == {0, PADDING}


def test_detail_comes_with_them_where_the_encoder_wants_it(study, folders):
    wanted = replace(study, encoder="lite:efficientnet_lite0@64+128")
    extra = read_extra(folders, wanted, progress=False)
    assert all(part.at(2).shape == (len(part), 128, 128, 3) for part in extra.values())


def test_a_name_in_two_folders_is_told(study, folders):
    with pytest.raises(DataError, match="Both sets have a picture named First"):
        read_extra([folders[0], folders[0]], study, progress=False)


def test_a_bad_picture_is_told(study, folders):
    next((folders[0] / "images").glob("*_0.jpg")).write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 of 8 pictures cannot be used:\n.*First"):
        read_extra(folders, study, progress=False)


@pytest.mark.parametrize("under_names_of_their_own", [False, True])
def test_the_studys_own_pictures_as_further_ones_are_told_in_a_line(data, splits, tmp_path, under_names_of_their_own):
    again = shutil.copytree(data, tmp_path / "again")
    if under_names_of_their_own:
        renamed(again)
    run = CliRunner().invoke(app, ["train", "unet", "--study", "smoke", "--extra", str(again)])
    assert isinstance(run.exception, DataError)
    assert re.fullmatch(
        r"The further picture \w+ is the same as \w+ of the study's own data \(split \w+\): .*", str(run.exception)
    )
    with pytest.raises(DataError, match="split test"):
        check_extra({"train": splits["test"]}, splits)
    check_extra({"train": splits["validation"]}, {"train": splits["train"]})
