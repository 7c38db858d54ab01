"""Scores on photos from elsewhere: outline and name apart, and by size of the pet."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from petseg_utils.data.labels import BORDER, PADDING
from petseg_utils.data.pictures import PictureSet
from petseg_utils.experiments.data_exploration import border_widths
from petseg_utils.experiments.elsewhere import (
    TESTED,
    by_size,
    compare_sets,
    elsewhere_pictures,
    outline_and_name,
    shipped_records,
    with_border,
)
from petseg_utils.experiments.failures import mistakes_of
from petseg_utils.scores.metrics import picture_confusions
from petseg_utils.study import PetsegError, load_study
from tests.conftest import write_data
from tests.experiments.test_robustness import Stub


def test_outline_and_name_are_scored_apart():
    matrix = np.array([[80, 5, 5], [10, 60, 20], [0, 0, 20]])
    scored = outline_and_name(matrix)
    assert scored["pet IoU"] == pytest.approx(100 / 120) and scored["right name"] == pytest.approx(80 / 100)


def test_a_folder_from_elsewhere_is_scored_beside_the_test_split(study, splits, tmp_path, monkeypatch):
    assert elsewhere_pictures(study) is None
    monkeypatch.setenv("PETSEG_OOD", str(tmp_path / "nowhere"))
    with pytest.raises(PetsegError, match="PETSEG_OOD names 'nowhere', which is not a folder"):
        load_study("smoke")
    monkeypatch.setenv("PETSEG_OOD", str(write_data(tmp_path / "elsewhere", 4, 8)))
    elsewhere = elsewhere_pictures(load_study("smoke"))
    detailed = replace(load_study("smoke"), encoder="lite:efficientnet_lite0@64+128")
    assert elsewhere_pictures(detailed).at(2).shape == (8, 128, 128, 3) and elsewhere.detail is None
    table = compare_sets(study, {"unet": Stub()}, {"test split": splits["test"], "elsewhere": elsewhere}, 20)
    assert table["n_images"].tolist() == [6, 6, 8, 8] and set(table["species"]) == {"cats and dogs"}
    assert table["value"].between(0, 1).all() and (table["low"] <= table["high"]).all()


def test_small_pets_and_kinds_of_mistakes_are_told_apart():
    labels = np.zeros((3, 20, 20), np.uint8)
    labels[0, :2, :2], labels[1, :6, :6], labels[2, :10] = 1, 2, 1  # 1 %, 9 % and half of the picture
    found = np.zeros_like(labels)
    found[1, :6, :3], found[2, :10] = 2, 1  # nothing of the first, half of the second, all of the third
    table = pd.DataFrame({"name": list("abc"), "species": [1, 2, 1], "content": "", "mask": ""})
    pictures = PictureSet(table, np.zeros((3, 20, 20, 3), np.uint8), labels)
    counts = picture_confusions(labels, found)
    sizes = by_size(pictures, counts)
    assert [group["iou"] for group in sizes.values()] == [0, 0.5, 1]
    assert [group["n_images"] for group in sizes.values()] == [1, 1, 1]
    assert mistakes_of(pictures, counts).tolist() == ["not found", "part of it missed", "the outline only"]


@pytest.mark.parametrize("width", [4, 7])
def test_a_border_along_the_outline_is_as_wide_as_asked_and_leaves_padding_alone(width):
    labels = np.zeros((2, 60, 60), np.uint8)
    labels[0, 20:40, 20:40] = 1
    labels[:, 50:] = PADDING
    pictures = PictureSet(pd.DataFrame({"name": list("ab")}), np.zeros((2, 60, 60, 3), np.uint8), labels)
    marked = with_border(pictures, width).labels
    half = width / 2
    middle = marked[0, 30]  # across the pet: its outline lies between 19 and 20, and between 39 and 40
    centres = np.arange(60) + 0.5
    expected = (np.abs(centres - 20) <= half) | (np.abs(centres - 40) <= half)
    np.testing.assert_array_equal(middle == BORDER, expected)
    assert border_widths(replace(pictures, labels=marked))[0] == pytest.approx(2 * np.floor(half + 0.5), abs=0.5)
    assert (marked[:, 50:] == PADDING).all() and not marked[1, :50].any()
    assert (labels != BORDER).all()  # those of the set that came in stay as they are


def test_the_listed_photos_are_those_that_the_records_are_of():
    listed = pd.read_csv(TESTED)
    for record in shipped_records():
        table = listed[listed["source"] == record["source"]]
        assert len(table) == record["n_images"]
        names = PictureSet(table.reset_index(), *np.zeros((2, len(table), 1, 1), np.uint8))
        assert names.fingerprint == record["data"]
