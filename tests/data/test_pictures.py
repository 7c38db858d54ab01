"""Pictures at twice their size: the same photos in more detail, wherever a picture set goes."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from torch import nn

from petseg_utils.data import pictures as pictures_module
from petseg_utils.data.datasets import DataError, list_pictures, read_image
from petseg_utils.data.pictures import PictureSet, decode, join, load_pictures, load_splits
from petseg_utils.data.tensors import batches_of
from petseg_utils.data.transforms import PADDING_COLOUR, Letterbox
from petseg_utils.models.feature_cache import caches, clear_caches

SIZE = 64


@pytest.fixture
def listed(data):
    return list_pictures(data, "test")


@pytest.fixture
def detailed(listed, study):
    return decode(listed, SIZE, study.cache_dir, scale=2, progress=False)


def test_detail_is_the_same_photo_letterboxed_at_twice_the_size(listed, detailed, study):
    plain = decode(listed, SIZE, study.cache_dir, progress=False)
    assert detailed.at(2).shape == (len(listed), 2 * SIZE, 2 * SIZE, 3) and detailed.at(2).dtype == np.uint8
    assert np.array_equal(detailed.at(1), plain.images) and np.array_equal(detailed.labels, plain.labels)
    assert detailed.at(1) is detailed.images and detailed.fingerprint == plain.fingerprint
    for picture, square in zip(listed, detailed.at(2), strict=True):
        photo = read_image(picture.image)  # 80 x 60 pixels, of which a square of 64 shows less than one of 128
        assert np.array_equal(square, Letterbox(60, 80, SIZE).image(photo, 2))
        assert (square[:16] == PADDING_COLOUR).all() and (square[112:] == PADDING_COLOUR).all()
    halves = detailed.at(2).reshape(len(listed), SIZE, 2, SIZE, 2, 3).mean((2, 4))
    enlarged = detailed.images.repeat(2, 1).repeat(2, 2).astype(float)
    assert np.abs(enlarged - detailed.at(2)).mean() > 2 * np.abs(halves - detailed.images).mean()  # it shows more


def test_detail_is_read_once_and_beside_pictures_without_it(listed, detailed, study, monkeypatch):
    decode(listed, SIZE, study.cache_dir, progress=False)
    assert len(list(study.cache_dir.glob(f"pictures-{SIZE}*"))) == 2
    (folder,) = study.cache_dir.glob(f"pictures-{SIZE}+detail-*")
    pixels = len(listed) * SIZE**2
    assert sum(path.stat().st_size for path in folder.glob("*.u8")) == pixels * 16  # 3 + 1 + 4 * 3, as is told

    def read_again(picture):
        raise AssertionError(f"{picture.name} was read again")

    monkeypatch.setattr(pictures_module, "inspect_picture", read_again)
    again = decode(listed, SIZE, study.cache_dir, scale=2, progress=False)
    assert np.array_equal(again.at(2), detailed.at(2)) and isinstance(again.at(2), np.memmap)
    assert decode(listed, SIZE, study.cache_dir, progress=False).detail is None


def test_of_two_that_want_the_same_pictures_one_reads_and_the_other_waits_for_it(listed, study, monkeypatch):
    read, inspect = [], pictures_module.inspect_picture

    def counted(picture):
        read.append(picture.name)
        return inspect(picture)

    monkeypatch.setattr(pictures_module, "inspect_picture", counted)
    with ThreadPoolExecutor(2) as pool:
        sets = list(pool.map(lambda _: decode(listed, SIZE, study.cache_dir, progress=False), range(2)))
    assert sets[0].fingerprint == sets[1].fingerprint
    assert sorted(read) == sorted(picture.name for picture in listed)


@pytest.mark.parametrize("name", ["card.json", "images.u8", "labels.u8", "detail.u8"])
def test_a_damaged_cache_is_told_with_what_mends_it(listed, detailed, study, name):
    (folder,) = study.cache_dir.glob("pictures-*")
    (folder / name).write_bytes(b"[" * 100)
    with pytest.raises(DataError, match=r"The picture cache .* is damaged .*data cache --clear"):
        decode(listed, SIZE, study.cache_dir, scale=2, progress=False)


def test_a_subset_and_a_joined_set_keep_their_detail(detailed):
    names = detailed.table["name"].tolist()
    few = detailed.subset([names[4], names[1]])
    assert np.array_equal(few.at(2), detailed.at(2)[[4, 1]]) and np.array_equal(few.at(1), detailed.at(1)[[4, 1]])
    both = join(few, detailed.subset([names[0]]))
    for scale in (1, 2):
        assert np.array_equal(both.at(scale), detailed.at(scale)[[4, 1, 0]])
    assert np.array_equal(both.labels, detailed.labels[[4, 1, 0]]) and len(both) == 3


def test_pictures_of_a_subset_and_of_a_joined_set_stay_on_disk(detailed):
    """Memory must not grow with the number of pictures, whatever is made of a set."""
    names = detailed.table["name"].tolist()
    both = join(detailed.subset(names[3:6]), detailed.subset(names[:3])).subset([names[1], names[4]])
    for held, whole in ((both.images, detailed.images), (both.detail, detailed.detail)):
        assert all(isinstance(array, np.memmap) for array in held.arrays)
        assert np.shares_memory(held[0], whole[1]) and np.shares_memory(held[1], whole[4])
        assert held.shape == (2, *whole.shape[1:]) and held.dtype == whole.dtype and len(held) == 2
        assert np.array_equal(held[np.array([True, False])], whole[[1]])
        assert np.array_equal(np.asarray(held), held[:]) and np.array_equal(held[::-1], whole[[4, 1]])


def test_pictures_without_detail_say_so(detailed):
    plain = replace(detailed, detail=None)
    with pytest.raises(ValueError, match="read without their detail; see `decode`"):
        plain.at(2)
    names = plain.table["name"].tolist()
    with pytest.raises(ValueError, match="read without their detail"):
        join(detailed.subset(names[:2]), plain.subset(names[2:]))
    assert join(plain.subset(names[:2]), detailed.subset(names[2:])).detail is None


def test_two_sets_with_a_picture_of_one_name_are_refused_by_its_name(detailed):
    names = detailed.table["name"].tolist()
    with pytest.raises(DataError, match=f"Both sets have a picture named {names[1]}"):
        join(detailed.subset(names[:2]), detailed.subset(names[1:]))


def test_a_study_whose_encoder_wants_detail_gets_it_in_every_split(study, splits):
    wanted = replace(study, encoder="lite:efficientnet_lite0@64+128")
    assert (study.picture_scale, wanted.picture_scale) == (1, 2)
    for name, part in load_splits(wanted, progress=False).items():
        assert part.at(2).shape == (len(part), 128, 128, 3)
        assert part.table["name"].tolist() == splits[name].table["name"].tolist()
    assert load_pictures(wanted, "test", progress=False, names={"Tabby_100"}).at(2).shape[0] == 1
    assert splits["train"].detail is None


def test_batches_come_at_the_size_that_is_asked_for():
    n = 19  # more than one batch
    detail = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), np.uint8)
    table = pd.DataFrame({"name": [str(number) for number in range(n)]})
    pictures = PictureSet(table, detail[:, ::2, ::2], np.zeros((n, 4, 4), np.uint8), detail=detail)
    for scale, wanted in ((1, detail[:, ::2, ::2]), (2, detail)):
        network = nn.Linear(1, 1)
        network.scale = scale
        parts = list(batches_of(pictures, network))
        assert [part.stop for part, _ in parts] == [16, 19]
        for part, images in parts:
            assert np.array_equal(images.numpy(), wanted[part].transpose(0, 3, 1, 2))


KILLED = """
import os, pathlib, signal, sys
from petseg_utils.data import datasets, pictures

def move(temporary, folder):
    os.kill(os.getpid(), signal.SIGKILL)

pathlib.Path.rename = move
listed = datasets.list_pictures(pathlib.Path(sys.argv[1]), "trainval")
pictures.decode(listed, 32, pathlib.Path(sys.argv[2]), progress=False)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows ends processes in another way")
def test_what_killed_decoding_left_is_not_listed_and_is_deleted_by_the_next(listed, study, data):
    for _ in range(2):
        command = [sys.executable, "-c", KILLED, data, study.cache_dir]
        assert subprocess.run(command).returncode == -signal.SIGKILL
        (left,) = (path for path in study.cache_dir.iterdir() if path.is_dir())  # not one for each kill
    assert sum(path.stat().st_size for path in left.iterdir()) > len(listed) * 32**2 * 4
    decode(listed, SIZE, study.cache_dir, progress=False)
    (folder,) = study.cache_dir.iterdir()
    assert [cache["name"] for cache in caches(study.cache_dir)] == [folder.name]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows ends processes in another way")
def test_listing_the_caches_deletes_what_a_killed_process_left_and_says_what_older_ones_left(study, data):
    subprocess.run([sys.executable, "-c", KILLED, data, study.cache_dir])
    (study.cache_dir / "pictures-32-0123456789abcdefxyz").mkdir()
    (cache,) = caches(study.cache_dir)
    assert "cannot be used" in cache["what"]
    assert len(list(study.cache_dir.glob("[!.]*"))) == 1


def test_a_cache_that_is_deleted_while_it_is_made_is_told(listed, study, monkeypatch):
    write = pictures_module._write_cache

    def deleted(*arguments):
        write(*arguments)
        clear_caches(study.cache_dir)

    monkeypatch.setattr(pictures_module, "_write_cache", deleted)
    with pytest.raises(DataError, match=r"^Could not write the picture cache \(No such file or directory\)"):
        decode(listed, SIZE, study.cache_dir, progress=False)
    monkeypatch.undo()
    assert len(decode(listed, SIZE, study.cache_dir, progress=False)) == len(listed)


def test_a_cache_that_is_deleted_while_it_is_used_keeps_its_pictures(listed, study):
    pictures = decode(listed, SIZE, study.cache_dir, progress=False)
    held = np.array(pictures.images)
    clear_caches(study.cache_dir)
    assert np.array_equal(pictures.images, held)  # the system keeps a file that is open
