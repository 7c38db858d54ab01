"""`petseg segment --shard` and `--merge`: the shards together are one run, whatever happens to one of them."""

import csv
import hashlib
import itertools
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from petseg_utils.apps import photo_folders
from petseg_utils.apps.photo_folders import BEGUN, Plan, alone_in
from petseg_utils.apps.photo_listing import Listing, find_photos, in_order
from petseg_utils.apps.photo_tables import COLUMNS, RESULTS, Shard, of_shard, read_table
from petseg_utils.data.drawing.breeds import BREEDS
from petseg_utils.data.drawing.pictures import draw_pet

posix = pytest.mark.skipif(os.name != "posix", reason="elsewhere names may not hold these")


@pytest.fixture(scope="module")
def pet():
    return Image.fromarray(draw_pet(BREEDS[0], 1)[0]).resize((64, 64))


@pytest.fixture
def photos(pet, tmp_path):
    """Photos that share names in several ways, in folders, and two that are none."""
    root = tmp_path / "photos"
    names = ["a.jpg", "a.png", "A.webp", "a.jpg.png", "cat.0.jpg", "cat.1.jpg", "dog.0.jpg", "b.jpg", "old/a.jpg"]
    names += ["old/a.png", "old/deep/c.jpg", "old-1.jpg"]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pet.save(root / name)
    (root / "bad.jpg").write_text("no picture")
    (root / "old" / "worse.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return root


def rows_of(path):
    return [{key: row[key] for key in COLUMNS} for row in read_table(path)]


def files_of(out):
    """What lies in a folder of results, apart from the shards' own tables."""
    paths = [path for path in out.rglob("*") if path.is_file() and "-of-" not in path.name]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths if path.name != "about.json"}


def test_all_shards_together_are_one_run_over_all_photos(petseg, photos, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert petseg("segment", photos, "-o", whole)[0] == 1  # two photos failed
    for shard in ("3/3", "1/3", "2/3"):
        _, said, errors = petseg("segment", photos, "-o", parts, "--shard", shard)
        assert f"results-{shard[0]}-of-3.csv" in said, errors
    held = [[row["file"] for row in rows_of(parts / f"results-{index}-of-3.csv")] for index in (1, 2, 3)]
    assert all(held) and sorted(itertools.chain(*held)) == sorted(row["file"] for row in rows_of(whole / RESULTS))
    code, said, errors = petseg("segment", "--merge", parts)
    assert code == 1 and "Shards joined: 3; photos: 12; failed: 2." in said, errors
    assert files_of(parts) == files_of(whole)  # tables, masks, overlays and cut-outs, to the last byte
    assert petseg("segment", "--merge", parts)[1] == said and files_of(parts) == files_of(whole)


def test_which_shard_a_photo_is_in_hangs_on_its_name_alone_and_never_changes():
    names = [f"cats/{number}.jpg" for number in range(4000)] + ["a\nb.jpg", "\udcff.jpg", "ü,.png"]
    digest = int(hashlib.sha256(b"\xff.jpg").hexdigest()[:16], 16)
    assert Shard(digest % 8 + 1, 8).holds("\udcff.jpg")
    counts = np.array([[Shard(index + 1, 8).holds(name) for name in names] for index in range(8)])
    assert (counts.sum(0) == 1).all() and counts.sum(1).min() > 400  # fairly even


def test_listing_order_is_a_key_of_the_names(photos, tmp_path):
    names = [photo.name for photo in find_photos([photos], tmp_path / "out")]
    assert len(names) == 14 and sorted(names, key=in_order) == names


@pytest.mark.parametrize(
    "twice", [("photos", "photos/old"), ("photos", "photos/a.jpg"), ("photos", "link"), ("link/a.jpg", "photos/a.jpg")]
)
def test_a_photo_that_is_given_twice_is_listed_once(photos, tmp_path, monkeypatch, twice):
    monkeypatch.chdir(tmp_path)
    os.symlink("photos", "link", target_is_directory=True)
    given = [tmp_path / name for name in twice]
    listed = [photo.real for photo in find_photos(given, tmp_path / "out")]
    assert len(listed) == len(set(listed)) == (1 if "link/a.jpg" in twice else 14)


@posix
def test_names_with_commas_line_ends_and_bytes_that_are_no_text(petseg, pet, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    names = [
        "a,b.png",
        "a\nb.png",
        "a\rb.png",
        'say "cat".png',
        "=1.png",
        os.fsdecode(b"\xff\xfe.png"),
        "ß.png",
        "é.png",
    ]
    for name in names:
        pet.save(photos / name)
        (photos / name).with_suffix(".jpg").write_text("no picture")
    for shard in ("1/2", "2/2", "1/2"):  # the third finds all done
        _, said, errors = petseg("segment", photos, "-o", out, "--shard", shard)
    assert "Segmented: 0;" in said, errors
    assert "photos: 8; failed: 8." in petseg("segment", "--merge", out)[1]
    assert sorted(row["file"] for row in rows_of(out / RESULTS)) == sorted(names)
    assert all((out / row["mask"]).is_file() and (out / row["photo"]).is_file() for row in rows_of(out / RESULTS))


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1/0", "-1/2", "1", "a/b", "1/2/3", "1/1000000", "²/3"])
def test_a_shard_that_is_none_is_wrong_usage_and_changes_nothing(petseg, photos, tmp_path, shard):
    code, _, errors = petseg("segment", photos, "-o", tmp_path / "out", "--shard", shard)
    assert code == 2 and "is not I/N" in errors and not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [["photos"], ["-o", "x"], ["--shard", "1/2"]])
def test_merge_takes_nothing_else(petseg, photos, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    code, _, errors = petseg("segment", "--merge", "out", *options)
    assert code == 2 and "--merge joins the tables of a folder" in errors


def test_formats_are_written_of_all_shards_together(petseg, photos, tmp_path):
    out = tmp_path / "out"
    code, _, errors = petseg("segment", photos, "-o", out, "--shard", "1/1", "--format", "coco")
    assert code == 2 and "give --format with --merge" in errors
    petseg("segment", photos, "-o", out, "--shard", "1/1")
    petseg("segment", "--merge", out, "--format", "coco")
    assert (out / "coco.json").is_file()


def test_a_folder_keeps_its_number_of_shards(petseg, photos, tmp_path):
    out, plain = tmp_path / "out", tmp_path / "plain"
    petseg("segment", photos, "-o", out, "--shard", "1/2")
    before = files_of(out)
    for options in (["--shard", "1/3"], []):
        code, _, errors = petseg("segment", photos, "-o", out, *options)
        assert code == 1 and "out is divided into 2 shards" in errors and errors.count("\n") == 1
    petseg("segment", photos / "b.jpg", "-o", plain)
    code, _, errors = petseg("segment", photos, "-o", plain, "--shard", "1/3")
    assert code == 1 and "plain was made without shards" in errors
    code, _, errors = petseg("segment", "--merge", plain)
    assert code == 1 and "plain holds no shards to join" in errors
    assert files_of(out) == before


def test_merge_names_the_shards_that_are_missing_or_were_cut(petseg, photos, tmp_path):
    out = tmp_path / "out"
    petseg("segment", photos, "-o", out, "--shard", "2/4")
    code, _, errors = petseg("segment", "--merge", out)
    assert code == 1 and "Shards missing: 1/4, 3/4, 4/4. " in errors and errors.count("\n") == 1
    for shard in ("1/4", "3/4", "4/4"):
        petseg("segment", photos, "-o", out, "--shard", shard)
    (out / of_shard(BEGUN, Shard(3, 4))).write_text("a\n")
    code, _, errors = petseg("segment", "--merge", out)
    assert code == 1 and "Shards not finished: 3/4. " in errors and not (out / RESULTS).exists()
    petseg("segment", photos, "-o", out, "--shard", "3/4")
    assert petseg("segment", "--merge", out)[1].startswith("Shards joined: 4; photos: 12; failed: 2.")


def test_shards_of_other_photos_are_not_joined(petseg, photos, tmp_path):
    out = tmp_path / "out"
    petseg("segment", photos, "-o", out, "--shard", "1/2")
    petseg("segment", photos / "old", "-o", out, "--shard", "2/2")  # names its photos otherwise
    assert {row["file"] for row in rows_of(out / "results-2-of-2.csv")} & {"a.jpg", "a.png", "deep/c.jpg"}
    code, _, errors = petseg("segment", "--merge", out)
    assert code == 1 and "is in shard 2/2 and in an earlier one: run all shards again" in errors, errors
    assert not (out / RESULTS).exists()


def test_two_processes_do_not_write_the_same_shard_but_two_shards_at_once(petseg, photos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with alone_in(out, shard=Shard(1, 2)):
        code, _, errors = petseg("segment", photos, "-o", out, "--shard", "1/2")
        assert code == 1 and "Another petseg segment --shard 1/2 is writing to out: wait for it to end" in errors
        assert petseg("segment", photos, "-o", out, "--shard", "2/2")[1].startswith("Weights")
    assert (out / "results-2-of-2.csv").is_file() and not (out / "results-1-of-2.csv").exists()


def test_a_shard_that_is_killed_at_any_moment_goes_on(petseg, photos, pet, tmp_path):
    for number in range(12):
        pet.save(photos / f"more{number}.png")
    whole, out = tmp_path / "whole", tmp_path / "out"
    command = [sys.executable, "-m", "petseg_utils", "segment", photos, "-o", out, "--shard", "1/2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and len(rows_of(out / "results-1-of-2.csv")) < 3:
            time.sleep(0.005)
        process.kill()
    code, _, errors = petseg("segment", "--merge", out)
    assert code == 1 and "missing: 2/2" in errors
    for shard in ("2/2", "1/2"):
        petseg("segment", photos, "-o", out, "--shard", shard)
    petseg("segment", photos, "-o", whole)
    assert "photos: 24; failed: 2." in petseg("segment", "--merge", out)[1]
    assert files_of(out) == files_of(whole)


def test_planning_holds_no_more_for_many_photos_than_for_few(tmp_path):
    """Of Python's objects, at any time; SQLite keeps its pages on disk, but for 2 MB."""
    few, many, out, held = tmp_path / "few", tmp_path / "many", tmp_path / "out", []
    out.mkdir()

    def counted(items):
        for item in items:
            held[-1] = max(held[-1], sys.getallocatedblocks() - before)
            yield item

    class Counted(Listing):
        def __iter__(self):
            return counted(super().__iter__())

    for root, count in ((few, 300), (many, 6000)):
        for number in range(count):
            path = root / f"{number // 100:03}" / f"{number:06}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        listing = Counted(**vars(find_photos([root], out)))
        held.append(0)
        before = sys.getallocatedblocks()
        plan = Plan(listing, out, "")
        assert sum(1 for _ in counted(plan.todo)) == plan.n_todo == count
    assert held[1] < held[0] + 3000  # blocks of memory; a list of names alone would be 6000


def test_the_lock_of_the_folder_is_waited_for_where_shards_begin_together(petseg, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("petseg_utils.apps.segment_folder.PATIENCE", 0.1)
    out = tmp_path / "out"
    out.mkdir()
    with photo_folders.alone_in(out):
        code, _, errors = petseg("segment", photos, "-o", out, "--shard", "1/2")
    assert code == 1 and "Another petseg segment is writing to out: wait for it to end" in errors
    command = [sys.executable, "-m", "petseg_utils", "segment", photos, "-o", out, "--shard"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen([*command, f"{index}/3"], **quiet) for index in (1, 2, 3)]
    assert [process.wait() in (0, 1) for process in processes] == [True] * 3
    assert "photos: 12; failed: 2." in petseg("segment", "--merge", out)[1]
    with (out / "failed.csv").open() as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["bad.jpg", "old/worse.png"]
