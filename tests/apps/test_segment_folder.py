"""`petseg segment`: what it writes, what it keeps, what it refuses, and that a kill at any moment loses nothing."""

import csv
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile
from skimage.data import chelsea
from torch.nn import functional

from petseg_utils.apps import bench, photo_tables, segment_folder
from petseg_utils.apps.photo_folders import BEGUN, LOCK, alone_in
from petseg_utils.apps.photo_listing import Photo, find_photos
from petseg_utils.apps.photo_tables import BEFORE, BOX, COLUMNS, ENDINGS, write_table
from petseg_utils.data import image_files
from petseg_utils.data.datasets import Picture, read_label, species_of
from petseg_utils.data.drawing.breeds import BREEDS
from petseg_utils.data.drawing.pictures import draw_pet
from petseg_utils.data.labels import CLASSES
from petseg_utils.data.tensors import to_tensor
from petseg_utils.models.cards import SHIPPED
from petseg_utils.models.prompts import Box, Click
from petseg_utils.segmenter import Segmenter
from petseg_utils.training.torch_model import TorchModel
from tests.apps.fake_point import SIZE, FakePoint, fake_segmenter, paint

# Equal but for a few pixels on an edge: how many photos go through a model together decides in which order it sums.
ALMOST = 0.998
by_signals = pytest.mark.skipif(os.name != "posix", reason="ends or limits the process by POSIX signals")


@pytest.fixture(scope="module")
def pets():
    """Four drawn pets, each with its mask."""
    return [draw_pet(BREEDS[breed], number) for breed, number in ((0, 1), (4, 1), (14, 1), (18, 2))]


@pytest.fixture
def folder(pets, tmp_path):
    """Seven sound photos of all sorts, of which three share a name; and three files that are none."""
    root = tmp_path / "photos"
    (root / "cats" / "old").mkdir(parents=True)
    Image.fromarray(pets[0][0]).save(root / "a.png")
    Image.fromarray(pets[1][0]).save(root / "a.jpg")
    Image.fromarray(pets[1][0]).save(root / "cats" / "a.jpg")
    Image.fromarray(pets[2][0]).convert("L").save(root / "cats" / "grey.PNG")
    clear = np.dstack([pets[3][0], np.full(pets[3][1].shape, 255, np.uint8)])
    clear[:5, :, 3] = 0
    Image.fromarray(clear).save(root / "cats" / "old" / "clear.png")
    Image.fromarray(pets[3][0]).save(root / "cats" / "old" / "small.webp")
    turned = Image.Exif()
    turned[0x0112] = 6  # lies on its side; a viewer turns it clockwise
    Image.fromarray(np.rot90(pets[0][0]).copy()).save(root / "turned.png", exif=turned)
    (root / "text.jpg").write_text("not a picture")
    Image.fromarray(pets[0][0]).save(root / "moving.gif")
    (root / "notes.txt").write_text("milk")
    return root


GOOD = ("a.jpg", "a.png", "turned.png", "cats/a.jpg", "cats/grey.PNG", "cats/old/clear.png", "cats/old/small.webp")


def read_table(path):
    return list(photo_tables.read_table(path))


def masks(out):
    return {row["file"]: np.asarray(Image.open(out / row["mask"])) for row in read_table(out / "results.csv")}


def test_a_folder_is_mirrored_bad_files_are_listed_and_others_ignored(petseg, folder, tmp_path):
    out = tmp_path / "out"
    code, said, errors = petseg("segment", folder, "-o", out)
    assert code == 1  # two photos failed
    assert re.search(r"Weights: .*decoder.onnx .*encoder \w+:", said)
    assert "Segmented: 7; done before: 0; failed: 2." in said
    assert "Ignored, as their names are not those of photos: 1 .txt" in errors
    assert "failed: text.jpg: is not a picture" in errors and "failed: moving.gif: is in the format GIF" in errors
    failed = list(csv.DictReader((out / "failed.csv").open()))
    assert {row["file"] for row in failed} == {"text.jpg", "moving.gif"} and all(row["reason"] for row in failed)
    stems = ["a", "a.png", "cats/a", "cats/grey", "cats/old/clear", "cats/old/small", "turned"]
    files = {f"{stem}{end}" for stem in stems for end in ("_mask.png", "_overlay.jpg", "_cutout.png")}
    files |= {"results.csv", "failed.csv", "about.json"}
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == files


def test_masks_have_the_upright_photos_size_and_the_table_says_what_they_show(petseg, folder, pets, tmp_path):
    out = tmp_path / "out"
    petseg("segment", folder, "-o", out)
    rows = read_table(out / "results.csv")
    assert tuple(row["file"] for row in rows) == GOOD and tuple(rows[0]) == COLUMNS
    height, width = pets[0][1].shape
    turned = rows[GOOD.index("turned.png")]
    assert (turned["width"], turned["height"]) == (str(width), str(height)) and height != width
    for row in rows:
        label = Image.open(out / row["mask"])
        mask = np.asarray(label)
        assert label.mode == "P" and set(np.unique(mask)) <= {0, 1, 2}
        assert len({tuple(label.getpalette()[3 * k : 3 * k + 3]) for k in range(3)}) == 3
        assert np.array_equal(mask, read_label(Picture("", "", 0, "", out / row["mask"], out / row["mask"])))
        assert mask.shape == (int(row["height"]), int(row["width"]))
        assert row["class"] == CLASSES[species_of(mask)]
        assert float(row["share"]) == pytest.approx((mask > 0).mean(), abs=1e-6)
        ys, xs = np.nonzero(mask)
        box = [xs.min(), ys.min(), xs.max(), ys.max()] if len(xs) else [""] * 4
        assert [row[name] for name in BOX] == list(map(str, box))
        assert 0.5 < float(row["confidence"]) <= 1 if len(xs) else float(row["confidence"]) == 0
        assert (out / row["photo"]).resolve() == (folder / row["file"]).resolve()
        stem = row["mask"].removesuffix("_mask.png")
        cut = np.asarray(Image.open(out / f"{stem}_cutout.png"))
        assert cut.shape == (*mask.shape, 4) and np.array_equal(cut[..., 3] > 127, mask > 0)
        assert not cut[..., :3][cut[..., 3] == 0].any()  # black beneath: what was cut away is gone
        assert Image.open(out / f"{stem}_overlay.jpg").size == label.size
    assert any(float(row["share"]) > 0.02 for row in rows)
    upright = np.asarray(Image.open(out / "turned_cutout.png"))
    whole = upright[..., 3] == 255
    assert whole.any() and np.array_equal(upright[..., :3][whole], pets[0][0][whole])


def test_hard_edges_are_the_models_own_and_do_not_go_into_a_folder_of_soft_ones(petseg, tmp_path):
    photo, soft, hard = tmp_path / "chelsea.png", tmp_path / "soft", tmp_path / "hard"
    Image.fromarray(chelsea()).save(photo)
    assert petseg("segment", photo, "-o", soft)[0] == petseg("segment", photo, "-o", hard, "--hard")[0] == 0
    alphas = [np.asarray(Image.open(out / "chelsea_cutout.png"))[..., 3] for out in (soft, hard)]
    assert len(np.unique(alphas[0])) > 50 and np.unique(alphas[1]).tolist() == [0, 255]
    assert np.array_equal(np.asarray(Image.open(hard / "chelsea_mask.png")), Segmenter.load("decoder").predict(photo))
    code, _, errors = petseg("segment", photo, "-o", soft, "--hard")
    assert code == 1 and "soft edges" in errors and "hard edges" in errors


def test_photos_of_a_folder_get_the_masks_that_they_get_alone(petseg, folder, tmp_path):
    petseg("segment", folder, "-o", tmp_path / "out", "--hard")
    segmenter = Segmenter.load("decoder")
    alike = masks(tmp_path / "out")
    assert tuple(alike) == GOOD
    for name, mask in alike.items():
        assert (mask == segmenter.predict(folder / name)).mean() > ALMOST, name


def test_a_photo_without_a_pet_has_no_box(tmp_path):
    photo, image = Photo(tmp_path / "a.jpg", "a.jpg", "a"), np.full((70, 90, 3), 128, np.uint8)
    nothing = np.zeros((70, 90), np.uint8)
    row = segment_folder._save(tmp_path, 224, photo, image, lambda: (nothing, nothing, 0.9))
    assert row["class"] == "background" and [row[name] for name in BOX] == [""] * 4
    assert row["share"] == "0.000000" and row["confidence"] == "0.0000"


@pytest.mark.skipif(os.name != "posix", reason="elsewhere names may have other lengths")
def test_photos_whose_results_cannot_be_written_are_listed_and_the_others_done(petseg, pets, tmp_path):
    photos, out, long = tmp_path / "photos", tmp_path / "out", f"{'a' * 249}.png"
    photos.mkdir()
    for name in (long, "pet.png"):
        Image.fromarray(pets[0][0]).save(photos / name)
    code, said, errors = petseg("segment", photos, "-o", out)
    assert code == 1 and "Segmented: 1; done before: 0; failed: 1." in said
    assert f"failed: {long}: has too long a name: shorten it." in errors
    assert {row["file"] for row in csv.DictReader((out / "failed.csv").open())} == {long}
    assert sorted(path.name for path in out.glob("*.*g")) == ["pet_cutout.png", "pet_mask.png", "pet_overlay.jpg"]


def test_a_photo_longer_than_a_jpeg_can_be_gets_mask_and_cut_out_and_the_row_says_so(petseg, tmp_path):
    photo, out = tmp_path / "wide.png", tmp_path / "out"
    Image.new("RGB", (400, 4)).save(photo)
    assert petseg("segment", photo, "-o", out)[0] == 0
    assert read_table(out / "results.csv")[0]["overlay"] == "wide_overlay.jpg" and (out / "wide_overlay.jpg").is_file()
    Image.new("RGB", (66_000, 4)).save(photo)
    code, said, errors = petseg("segment", photo, "-o", out)
    assert code == 0 and "Segmented: 1; done before: 0; failed: 0." in said
    assert "no overlay: wide.png: it is longer than a JPEG can be, 65,500 pixels" in errors
    assert [row["overlay"] for row in read_table(out / "results.csv")] == [""]
    assert sorted(path.name for path in out.glob("wide*")) == ["wide_cutout.png", "wide_mask.png"]
    assert "done before: 1" in petseg("segment", photo, "-o", out)[1]


def test_other_photos_go_on_whatever_a_decoder_raises(petseg, folder, tmp_path, monkeypatch):
    errors = iter(
        [struct.error("cut"), TypeError("no number"), KeyError(7), EOFError(), MemoryError(), OverflowError()]
    )
    real = ImageFile.ImageFile.load

    def load(image):
        if Path(image.filename).parent == folder / "cats":
            raise next(errors)
        return real(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    code, said, told = petseg("segment", folder, "-o", tmp_path / "out")
    assert code == 1 and "Segmented: 5; done before: 0; failed: 4." in said and "Traceback" not in told
    failed = {row["file"]: row["reason"] for row in csv.DictReader((tmp_path / "out" / "failed.csv").open())}
    assert {"cats/a.jpg", "cats/grey.PNG"} < set(failed) and all(reason.startswith("is ") for reason in failed.values())


def test_photos_are_known_by_all_their_endings_and_what_cannot_be_read_is_no_stranger(
    petseg, pets, tmp_path, monkeypatch
):
    monkeypatch.setattr(image_files, "_readable", lambda: ("JPEG", "PNG"))
    photos = tmp_path / "photos"
    photos.mkdir()
    for ending in ("jfif", "jpe", "mpo", "JPG"):
        Image.fromarray(pets[0][0]).save(photos / f"{ending}.{ending}", "JPEG")
    for ending in ("heic", "HEIF", "avif"):
        (photos / f"{ending}.{ending}").write_bytes(b"\0\0\0\x20ftyp" + ending.lower().encode() + bytes(30))
    (photos / "._jpe.jpe").write_bytes(b"\0\5\x16\7")
    code, said, errors = petseg("segment", photos, "-o", tmp_path / "out")
    assert code == 1 and "Segmented: 4; done before: 0; failed: 3." in said
    assert errors.count("pip install pillow-heif") == 2 and "failed: avif.avif: is AVIF" in errors
    assert (
        "Ignored, as their names are not those of photos: 1 .jpe" in errors
        and ".hei" not in errors.split("Ignored")[1].split("\n")[0]
    )


# Dies like a killed process: before a row is appended (of `folder` the first two are of photos that fail), before a
# file gets its name, or in the middle of writing one.
KILLED = """
import os, signal
from pathlib import Path
from petseg_utils.apps import segment_folder
from petseg_utils.apps.cli import main as cli

signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored by what a shell runs behind it
calls, whole = [], {place}
write_bytes = Path.write_bytes

def counted(*arguments):
    calls.append(1)
    if len(calls) == {call}:
        if whole is write_bytes:
            arguments[0].open("wb").write(bytes(arguments[1])[:200])
        os.kill(os.getpid(), signal.{signal})
    return whole(*arguments)

{place} = counted
cli.main()
"""


def run_script(place, call, *arguments, by="SIGKILL"):
    script = KILLED.format(place=place, call=call, signal=by)
    return subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)


@by_signals
@pytest.mark.parametrize(
    ("place", "call"), [("segment_folder.append_row", 6), ("Path.replace", 13), ("Path.write_bytes", 8)]
)
def test_a_killed_run_goes_on_to_the_same_result(petseg, folder, tmp_path, place, call):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run_script(place, call, "segment", folder, "-o", cut).returncode == -signal.SIGKILL
    listed = read_table(cut / "results.csv")
    assert len(listed) < len(GOOD)
    for row in listed:
        assert all((cut / row["mask"].replace("_mask.png", end)).is_file() for end in ENDINGS)
    for path in [*cut.rglob("*.png"), *cut.rglob("*.jpg")]:
        Image.open(path).load()
    with (cut / "results.csv").open("a") as file:  # as a crash of the whole machine may leave it
        file.write(f"a.jpg{',1' * (len(COLUMNS) - 2)},../photos/a.j")
    petseg("segment", folder, "-o", whole)
    code, said, _ = petseg("segment", folder, "-o", cut)
    assert f"Segmented: {7 - len(listed)}; done before: {len(listed)}; failed: 2." in said and code == 1
    names = [sorted(path.relative_to(out).as_posix() for path in out.rglob("*")) for out in (whole, cut)]
    assert names[0] == names[1]
    assert (whole / "about.json").read_text() == (cut / "about.json").read_text()
    rows = [read_table(out / "results.csv") for out in (whole, cut)]
    for one, other in zip(*rows, strict=True):
        assert [one[key] for key in ("file", "class", "mask")] == [other[key] for key in ("file", "class", "mask")]
        assert float(one["share"]) == pytest.approx(float(other["share"]), abs=1 - ALMOST)
    for name, mask in masks(whole).items():
        assert (mask == masks(cut)[name]).mean() > ALMOST, name


@by_signals
def test_after_ctrl_c_the_same_command_goes_on(folder, tmp_path):
    run = run_script("segment_folder.append_row", 5, "segment", folder, "-o", tmp_path / "out", by="SIGINT")
    assert run.returncode == 130 and "Run the same command again to continue." in run.stderr
    assert len(read_table(tmp_path / "out" / "results.csv")) in (2, 3)


def test_what_is_done_is_kept_unless_its_photo_is_another_or_a_file_is_gone(petseg, folder, tmp_path):
    out = tmp_path / "out"
    petseg("segment", folder, "-o", out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*g")}
    order = (out / "results.csv").read_text()
    assert "Segmented: 0; done before: 7; failed: 2." in petseg("segment", folder, "-o", out)[1]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (out / "results.csv").read_text() == order
    (out / "a_overlay.jpg").unlink()
    shutil.copy(folder / "cats" / "grey.PNG", folder / "turned.png")
    shutil.copy(folder / "a.jpg", folder / "b.jpg")
    (folder / "text.jpg").unlink()
    (folder / "moving.gif").unlink()
    code, said, _ = petseg("segment", folder, "-o", out)
    assert code == 0 and "Segmented: 3; done before: 5; failed: 0." in said and not (out / "failed.csv").exists()
    assert [row["file"] for row in read_table(out / "results.csv")] == [
        "a.png",
        *GOOD[3:],
        "a.jpg",
        "b.jpg",
        "turned.png",
    ]


def test_results_of_other_weights_are_not_mixed(petseg, folder, tmp_path):
    out = tmp_path / "out"
    petseg("segment", folder / "a.jpg", "-o", out)
    before = (out / "results.csv").read_text()
    code, _, errors = petseg("segment", folder, "-o", out, "--model", "unet")
    assert code == 1 and re.search(
        r"petseg: out holds masks by decoder .*would be by unet .*name another folder", errors
    )
    assert len(errors.strip().splitlines()) == 1
    assert (out / "results.csv").read_text() == before
    for name, text in (("results.csv", "mine"), ("about.json", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(text)
        code, _, errors = petseg("segment", folder / "a.jpg", "-o", tmp_path / name)
        assert code == 1 and "tables that are not petseg's: name another folder" in errors
        assert (tmp_path / name / name).read_text() == text


def test_a_table_whose_columns_were_changed_is_left_alone(petseg, folder, tmp_path):
    out = tmp_path / "out"
    petseg("segment", folder / "a.jpg", "-o", out)
    table = "note," + (out / "results.csv").read_text()
    (out / "results.csv").write_text(table)
    code, _, errors = petseg("segment", folder / "a.jpg", "-o", out)
    assert code == 1 and "results.csv was changed and has other columns: name another folder with -o" in errors
    assert (out / "results.csv").read_text() == table


def test_photos_of_one_name_from_several_folders_do_not_collide(petseg, folder, tmp_path):
    out = tmp_path / "out"
    assert petseg("segment", folder / "a.jpg", folder / "cats" / "a.jpg", "-o", out)[0] == 0
    assert [row["mask"] for row in read_table(out / "results.csv")] == ["a_mask.png", "cats/a_mask.png"]
    # Later, of another folder: nothing is overwritten.
    (tmp_path / "more").mkdir()
    shutil.copy(folder / "a.png", tmp_path / "more" / "A.jpg")
    assert petseg("segment", tmp_path / "more", "-o", out)[0] == 0
    assert [row["mask"] for row in read_table(out / "results.csv")][2:] == ["A.jpg_mask.png"]


def test_results_inside_the_photos_folder_are_not_taken_for_photos(petseg, folder):
    out = folder / "masks"
    petseg("segment", folder, "-o", out)
    assert "Segmented: 0; done before: 7; failed: 2." in petseg("segment", folder, "-o", out)[1]
    _, said, errors = petseg("segment", folder, "-o", folder / "again")
    assert "Segmented: 7; done before: 0; failed: 2." in said and "1 masks/" in errors


@by_signals
def test_what_only_looks_like_a_photo_is_listed_and_nobody_waits_for_it(petseg, pets, tmp_path):
    photos = tmp_path / "photos"
    (photos / "folder.jpg").mkdir(parents=True)
    Image.fromarray(pets[0][0]).save(photos / "pet.png")
    os.mkfifo(photos / "pipe.jpg")
    for name in ("loop.jpg", "dangling.jpg"):
        (photos / name).symlink_to(photos / name.replace("dangling", "nowhere"))
    code, said, errors = petseg("segment", photos, "-o", tmp_path / "out")
    assert code == 1 and "Segmented: 1; done before: 0; failed: 3." in said
    assert errors.count("does not exist or is not a file: check its name.") == 3


MINE = b"drawn by hand"


@pytest.mark.parametrize("there", ["cat_mask.png", "cat_overlay.jpg", "cat_cutout.png"])
@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_no_file_that_the_table_does_not_name_is_replaced(petseg, pets, tmp_path, monkeypatch, there, kind):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pets[0][0]).save("cat.jpg")
    photo = Path("cat.jpg").read_bytes()
    if kind == "file":
        Path(there).write_bytes(MINE)
    elif kind == "folder":
        Path(there).mkdir()
    else:
        Path(there).symlink_to("nowhere.png")
    for _ in range(2):
        assert petseg("segment", "cat.jpg", "-o", ".")[0] == 0
        assert [row["mask"] for row in read_table(Path("results.csv"))] == ["cat.jpg_mask.png"]
        assert Path("cat.jpg").read_bytes() == photo
        assert (
            (Path(there).read_bytes() == MINE) if kind == "file" else Path(there).is_symlink() or Path(there).is_dir()
        )
    Path("cat.jpg_mask.png.part").write_bytes(MINE)  # a download that somebody else has begun
    Image.fromarray(pets[1][0]).save("cat.jpg")
    assert "Segmented: 1" in petseg("segment", "cat.jpg", "-o", ".")[1]
    assert Path("cat.jpg_mask.png.part").read_bytes() == MINE and not Path(BEGUN).exists()
    assert [row["mask"] for row in read_table(Path("results.csv"))] == ["cat.jpg_mask.png"]


def test_no_photo_is_replaced_by_results_not_even_one_that_the_table_names(petseg, pets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pets[0][0]).save("cat.png")
    Image.fromarray(pets[1][0]).save("cat_mask.png")
    mine = Path("cat_mask.png").read_bytes()
    assert petseg("segment", "cat.png", "cat_mask.png", "-o", ".")[0] == 0
    assert Path("cat_mask.png").read_bytes() == mine
    assert [row["mask"] for row in read_table(Path("results.csv"))] == ["cat.png_mask.png", "cat_mask_mask.png"]
    # A result that becomes a photo, and the photo that it is of becomes another one.
    Image.fromarray(pets[2][0]).save("cat.png")
    mine = Path("cat.png_mask.png").read_bytes()
    assert petseg("segment", "cat.png", "cat.png_mask.png", "-o", ".")[0] == 0
    assert Path("cat.png_mask.png").read_bytes() == mine
    assert read_table(Path("results.csv"))[-2]["mask"] == "cat.png.2_mask.png"


def other_photo(pets, path, seconds, base):
    """Another photo, under the same name, older or newer by so many seconds."""
    Image.fromarray(pets[2][0]).save(path)
    os.utime(path, (base + seconds, base + seconds))


@pytest.mark.parametrize("seconds", [-1e8, -5, 5, 1e8])
def test_another_photo_of_the_name_is_segmented_whatever_its_time(petseg, pets, tmp_path, seconds):
    photo, out = tmp_path / "cat.png", tmp_path / "out"
    Image.fromarray(pets[0][0]).save(photo)
    before = photo.stat().st_mtime
    petseg("segment", photo, "-o", out)
    first = masks(out)["cat.png"]
    other_photo(pets, photo, seconds, before)
    assert "Segmented: 1; done before: 0" in petseg("segment", photo, "-o", out)[1]
    assert not np.array_equal(masks(out)["cat.png"], first)
    os.utime(photo, (before + 3 * seconds,) * 2)  # the same photo, copied
    times = {path: path.stat().st_mtime_ns for path in out.glob("cat*")}
    assert "Segmented: 0; done before: 1" in petseg("segment", photo, "-o", out)[1]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    row = read_table(out / "results.csv")[0]
    assert row["bytes"] == str(photo.stat().st_size) and row["modified"] == str(photo.stat().st_mtime_ns)


def test_tables_of_before_are_read_and_completed(petseg, folder, tmp_path):
    out = tmp_path / "out"
    petseg("segment", folder, "-o", out)
    rows = read_table(out / "results.csv")
    with (out / "results.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([BEFORE, *([row[name] for name in BEFORE] for row in rows)])
    assert "Segmented: 0; done before: 7" in petseg("segment", folder, "-o", out)[1]
    assert read_table(out / "results.csv") == rows
    shutil.copy(folder / "a.jpg", folder / "turned.png")
    os.utime(folder / "turned.png", (1e9, 1e9))
    assert "Segmented: 1; done before: 6" in petseg("segment", folder, "-o", out)[1]


def test_a_folder_that_holds_results_is_not_taken_for_photos(petseg, folder, tmp_path):
    out = tmp_path / "out"
    petseg("segment", folder, "-o", out)
    for given in (out, out / ".." / "out"):
        code, _, errors = petseg("segment", given, folder, "-o", tmp_path / "more")
        assert code == 1 and "out holds results of petseg segment, not photos" in errors
    code, _, errors = petseg("segment", out / "cats", "-o", tmp_path / "more")
    assert code == 1 and "No photos found" in errors and "9 results of petseg segment" not in errors
    assert "results of petseg segment" in errors and not (tmp_path / "more").exists()
    shutil.copy(folder / "a.jpg", out / "cats" / "mine.jpg")
    assert "Segmented: 1;" in petseg("segment", out / "cats", "-o", tmp_path / "more")[1]


@by_signals
def test_a_path_behind_a_link_is_the_file_systems(petseg, pets, tmp_path, monkeypatch):
    (tmp_path / "far" / "album").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "far" / "album")
    Image.fromarray(pets[0][0]).save(tmp_path / "far" / "cat.png")
    Image.fromarray(pets[1][0][:100]).save(tmp_path / "here" / "cat.png")
    monkeypatch.chdir(tmp_path / "here")
    for number, given in enumerate(["link/../cat.png", "link/.."]):
        assert petseg("segment", given, "-o", f"out{number}")[0] == 0
        assert masks(Path(f"out{number}"))["cat.png"].shape == pets[0][1].shape
        [row] = read_table(Path(f"out{number}/results.csv"))
        assert Path(f"out{number}", row["photo"]).resolve() == tmp_path / "far" / "cat.png"


ODD = [
    "a\rb",
    "a\nb",
    "a\r\nb",
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "'=1",
    "''",
    "\t=1",
    "＝1",
    'say "cat", now',
    " cat ",
    "a:b",
]


@pytest.mark.skipif(os.name != "posix", reason="elsewhere names may not hold these")
def test_names_may_hold_anything_are_read_back_and_are_no_formulas(petseg, pets, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for name in ODD:
        Image.fromarray(pets[0][0][:64, :64]).save(photos / f"{name}.png")
        (photos / f"{name}.jpg").write_text("no picture")
    code, said, errors = petseg("segment", photos, "-o", out)
    assert code == 1 and f"Segmented: {len(ODD)}; done before: 0; failed: {len(ODD)}." in said
    told = [line.strip() for line in re.split(r"[\r\n]+", errors) if line.strip() and "segmenting:" not in line]
    assert len(told) == len(ODD) and all(line.startswith("failed: ") for line in told)  # a line each
    assert f"Segmented: 0; done before: {len(ODD)}; failed: {len(ODD)}." in petseg("segment", photos, "-o", out)[1]
    rows = read_table(out / "results.csv")
    assert sorted(row["file"] for row in rows) == sorted(f"{name}.png" for name in ODD)
    assert all((out / row["mask"]).is_file() and (out / row["photo"]).is_file() for row in rows)
    for table in ("results.csv", "failed.csv"):
        with (out / table).open(newline="") as file:
            for row in csv.reader(file):
                assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))]


@pytest.mark.parametrize(
    "mask",
    [
        "../../victim_mask.png",
        "cats/../../victim_mask.png",
        "/victim_mask.png",
        "./a_mask.png",
        "cats//a_mask.png",
        "",
        "a.png",
        "link/victim_mask.png",
    ],
)
def test_a_table_that_names_files_elsewhere_is_refused(petseg, folder, tmp_path, mask):
    out = tmp_path / "out"
    petseg("segment", folder / "a.jpg", "-o", out)
    (tmp_path / "elsewhere").mkdir()
    (out / "link").symlink_to(tmp_path / "elsewhere")
    [row] = read_table(out / "results.csv")
    write_table(
        out / "results.csv", COLUMNS, [[(row | {"mask": mask, "sha256": "0", "bytes": "0"})[name] for name in COLUMNS]]
    )
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    code, _, errors = petseg("segment", folder / "a.jpg", "-o", out)
    assert code == 1 and "results.csv was changed and names a file that is not a mask in this folder" in errors
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


@by_signals
def test_what_a_killed_run_left_of_a_photo_done_anew_is_taken_for_its_own(petseg, folder, tmp_path):
    out = tmp_path / "out"
    petseg("segment", folder, "-o", out)
    for name in ("a.jpg", "turned.png"):
        shutil.copy(folder / "cats" / "old" / "clear.png", folder / name)
    assert run_script("segment_folder.append_row", 3, "segment", folder, "-o", out).returncode == -signal.SIGKILL
    assert (out / BEGUN).is_file()
    (out / "b_mask.png").write_bytes(MINE)
    shutil.copy(folder / "a.jpg", folder / "b.jpg")
    petseg("segment", folder, "-o", out)
    named = {row["file"]: row["mask"] for row in read_table(out / "results.csv")}
    assert named["turned.png"] == "turned_mask.png" and named["a.jpg"] == "a_mask.png"
    assert named["b.jpg"] == "b.jpg_mask.png" and (out / "b_mask.png").read_bytes() == MINE
    assert not (out / BEGUN).exists()


def middle(mask):
    """The pixel of a mask that lies nearest to its mean."""
    ys, xs = np.nonzero(mask)
    nearest = np.hypot(xs - xs.mean(), ys - ys.mean()).argmin()
    return int(xs[nearest]), int(ys[nearest])


def test_clicks_add_to_the_mask_or_take_away_and_a_box_limits_it(petseg, pets, tmp_path):
    picture, pet = pets[2]
    photo, out = tmp_path / "pet.png", tmp_path / "out"
    Image.fromarray(picture).save(photo)
    x, y = middle(pet)
    ys, xs = np.nonzero(pet)
    box = (int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max()))
    u, v = xs[ys.argmin()] + 0.5, int(ys.min()) + 4  # high up on the pet, so that a no there must be heard
    segmenter = Segmenter.load("point")
    selected = {}
    for options, row_says, prompts in (
        (["--click", f"{x},{y}"], f"click {x},{y}", [Click(x, y)]),
        ([], "", []),
        (["--click", "3,3"], "click 3,3", [Click(3, 3)]),
        (
            ["--not", f"{u},{v}", "--click", f"{x},{y}"],
            f"click {x},{y}; not {u},{v}",
            [Click(x, y), Click(u, v, False)],
        ),
        (["--box", ",".join(map(str, box))], f"box {','.join(map(str, box))}", [Box(*box)]),
    ):
        code, said, _ = petseg("segment", photo, "-o", out, "--model", "point", *options)
        assert code == 0 and re.search(r"Weights: .*click_head.onnx", said)
        [row] = read_table(out / "results.csv")  # other clicks replace what was there
        assert row["prompts"] == row_says and row["class"] in ("cat", "dog")
        selected[row_says] = np.asarray(Image.open(out / row["mask"])) > 0
        opened = segmenter.open(photo)
        for prompt in prompts:
            opened.add(prompt)
        assert np.array_equal(selected[row_says], opened.mask)
    clicked, proposed, elsewhere, less, boxed = selected.values()
    assert clicked[y, x] and clicked[v, int(u)] and not less[v, int(u)]
    assert elsewhere[3, 3] and not proposed[3, 3]  # whatever lies under it
    for more, fewer in ((clicked, proposed), (elsewhere, proposed), (clicked, less)):
        assert not (fewer & ~more).any()
    for mask in (clicked, boxed):
        assert (mask & pet).sum() / (mask | pet).sum() > 0.5
    rows, columns = np.nonzero(boxed)
    margin = 0.03 * max(box[2] - box[0], box[3] - box[1])
    assert box[0] - margin <= columns.min() and columns.max() <= box[2] + margin
    assert box[1] - margin <= rows.min() and rows.max() <= box[3] + margin
    assert "Segmented: 0; done before: 1" in petseg("segment", photo, "-o", out, "--box", ",".join(map(str, box)))[1]


def test_the_point_model_proposes_without_prompts(petseg, folder, tmp_path):
    out = tmp_path / "out"
    assert petseg("segment", folder / "cats", "-o", out, "--model", "point")[0] == 0
    segmenter = Segmenter.load("point")
    for name, mask in masks(out).items():
        opened = segmenter.open(folder / "cats" / name)
        assert np.array_equal(mask > 0, opened.alpha() > 127)
        assert opened.label in ("cat", "dog") and set(np.unique(mask)) <= {0, CLASSES.index(opened.label)}


def test_a_clicked_patch_of_ground_is_written_as_a_pet(petseg, tmp_path, monkeypatch):
    segmenter = fake_segmenter()  # sees no pet where nothing is red or blue
    photo = tmp_path / "ground.png"
    Image.fromarray(paint(90, 140)).save(photo)
    monkeypatch.setattr(Segmenter, "load", lambda *_: replace(segmenter, weights=Path("fake")))
    for options, classes in (([], {0}), (["--click", "70,45"], {0, 1})):
        assert petseg("segment", photo, "-o", tmp_path / "out", "--model", "point", *options)[0] == 0
        (mask,) = masks(tmp_path / "out").values()
        assert set(np.unique(mask)) == classes
    assert mask[45, 70] == 1 and 0 < (mask > 0).mean() < 0.05


def test_an_encoder_that_takes_more_detail_gets_that_of_the_photo(tmp_path):
    class Detailed(FakePoint):
        scale = 2

        def forward(self, images):
            self.images = images
            return super().forward(functional.avg_pool2d(images, 2))

    model = TorchModel(Detailed(), {"model": "decoder", "image_size": SIZE})
    model.takes_prompts = False
    segmenter = Segmenter(model)
    image = np.random.default_rng(0).integers(0, 256, (120, 200, 3), np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(image).save(path)
    read = segment_folder.read_for(segmenter, Photo(path, "photo.png", "photo"))
    ((_, _, decide),) = segment_folder.segmented_photos(segmenter, [("photo", read)], [], hard=True)
    assert np.array_equal(segmenter.model.network.images, to_tensor(segmenter.squares([image])))
    assert np.array_equal(decide()[0], segmenter.predict(image))


def test_a_click_outside_the_photo_changes_nothing(petseg, folder, tmp_path):
    out = tmp_path / "out"
    petseg("segment", folder / "a.jpg", "-o", out, "--click", "9,9")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    code, _, errors = petseg("segment", folder / "a.jpg", "-o", out, "--click", "9,99999")
    assert code == 1 and re.search(r"petseg: The point \(9, 99999\) lies outside the photo of \d+ x \d+ pixels", errors)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--click", "1"], "'1' is not X,Y"),
        (["--click", "a,b"], "'a,b' is not X,Y"),
        (["--not", "1,nan"], "'1,nan' is not X,Y"),
        (["--box", "1,2,3"], "'1,2,3' is not X0,Y0,X1,Y1"),
        (["--click", "1,1", "--model", "unet"], "The model unet takes no clicks or boxes: use the model point"),
        (["b.jpg", "--click", "1,1"], "Clicks and boxes are for a single photo, but here are 2"),
        (["--weights", "x.safetensors", "--study", "smoke"], "give only one of them"),
        (["--opacity", "1"], "No such option"),
    ],
)
def test_wrong_usage_is_told_and_ends_with_2(petseg, pets, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(pets[0][0]).save(name)
    code, _, errors = petseg("segment", "a.jpg", "-o", "out", *options)
    assert code == 2 and message in " ".join(errors.split()) and not os.path.exists("out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jpg", "-o", "out"], "No file or folder 'nowhere.jpg'"),
        (["empty", "-o", "out"], "No photos found: looked for files ending in .jpg,"),
        (["empty/notes.txt", "-o", "out"], "failed: notes.txt: is not a picture"),
        (["a.jpg", "-o", "a.jpg"], "a.jpg is a file: name a folder"),
        (["a.jpg", "-o", "a.jpg/out"], "Could not write to out"),
        ([".", "-o", "."], "The results would lie among the photos"),
        (["a.jpg", "-o", "out", "--model", "yolo"], "Unknown model 'yolo': use one of unet,"),
        (["a.jpg", "-o", "out", "--study", "smoke"], "Train it: petseg train decoder --study smoke"),
        (["a.jpg", "-o", "out", "--weights", "x.safetensors"], "No checkpoint x.safetensors"),
        (
            ["a.jpg", "-o", "out", "--weights", str(SHIPPED / "point.safetensors"), "--model", "unet"],
            "holds the model point",
        ),
        (["a.jpg", "-o", "out", "--model", "clip"], "The model clip is called decoder now: write decoder."),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence_and_ends_with_1(
    petseg, pets, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PETSEG_RUNS", "runs")
    Image.fromarray(pets[0][0]).save("a.jpg")
    os.mkdir("empty")
    (tmp_path / "empty" / "notes.txt").write_text("milk")
    code, _, errors = petseg("segment", *arguments)
    assert code == 1 and message in errors and "Traceback" not in errors


@by_signals
def test_a_full_disk_is_told_in_a_sentence_and_leaves_no_half_files(petseg, folder, tmp_path):
    out = tmp_path / "out"
    script = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))  # writing past this fails as on a full disk
from petseg_utils.apps.cli import main as cli
cli.main()
"""
    command = [sys.executable, "-c", script, "segment", str(folder / "a.jpg"), "-o", str(out)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1 and re.search(r"^petseg: Could not write to out \(.*\)\. Make room", run.stderr, re.M)
    assert "Traceback" not in run.stderr and not list(out.rglob("*.part"))
    assert read_table(out / "results.csv") == []
    assert petseg("segment", folder / "a.jpg", "-o", out)[0] == 0  # with room again, it goes on


def test_two_runs_do_not_write_into_one_folder_at_once(petseg, folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with alone_in(out):
        code, _, errors = petseg("segment", folder / "a.jpg", "-o", out)
        assert code == 1 and "Another petseg segment is writing to out: wait for it to end" in errors
        assert [path.name for path in out.iterdir()] == [LOCK]
    assert not list(out.iterdir())
    assert petseg("segment", folder / "a.jpg", "-o", out)[0] == 0
    assert (out / "results.csv").is_file()


@by_signals
def test_the_lock_of_a_killed_run_is_in_nobodys_way(petseg, folder, tmp_path):
    out = tmp_path / "out"
    assert run_script("segment_folder.append_row", 2, "segment", folder, "-o", out).returncode == -signal.SIGKILL
    assert (out / LOCK).is_file()
    assert "failed: 2." in petseg("segment", folder, "-o", out)[1] and not (out / LOCK).exists()


def test_a_photo_on_another_drive_has_its_whole_path_in_the_table(tmp_path, monkeypatch):
    def other_drive(*_):
        raise ValueError("path is on mount 'C:', start on mount 'D:'")

    (tmp_path / "a.jpg").touch()
    assert [photo.place for photo in find_photos([tmp_path], tmp_path / "out")] == ["../a.jpg"]
    monkeypatch.setattr(os.path, "relpath", other_drive)
    assert [photo.place for photo in find_photos([tmp_path], tmp_path / "out")] == [(tmp_path / "a.jpg").as_posix()]


def test_segmenting_loads_no_library_for_charts():
    code = "import sys, petseg_utils.apps.segment_folder; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_what_another_run_wrote_in_the_meantime_is_not_lost(petseg, folder, tmp_path, monkeypatch):
    out, whole = tmp_path / "out", segment_folder.alone_in

    def overtaken(place, **options):
        monkeypatch.setattr(segment_folder, "alone_in", whole)
        assert petseg("segment", folder / "a.jpg", "-o", out)[0] == 0
        return whole(place, **options)

    monkeypatch.setattr(segment_folder, "alone_in", overtaken)
    code, _, errors = petseg("segment", folder / "a.png", "-o", out)
    assert code == 0, errors
    assert [row["photo"] for row in read_table(out / "results.csv")] == ["../photos/a.jpg", "../photos/a.png"]


def test_few_photos_are_held_at_a_time():
    begun = []
    with ThreadPoolExecutor(1) as pool:
        large = ((number, np.empty((4000, 5000, 3), np.uint8)) for number in range(20))  # 20 megapixels each
        waiting = segment_folder._ahead(pool, lambda number, image: begun.append(number), large)
        for done, (_, future) in enumerate(waiting):
            assert len(begun) <= done + 3
            future.result()
        small = ((number,) for number in range(100))
        begun.clear()
        for done, (_, future) in enumerate(segment_folder._ahead(pool, begun.append, small)):
            assert len(begun) <= done + segment_folder.AHEAD + 1
            future.result()


def test_help_teaches_by_examples(petseg):
    code, said, _ = petseg("segment", "--help")
    assert code == 0 and "petseg segment holiday -o masks" in said and "--click 310,200 --not 40,420" in said
    for effect in (
        "Point on the pet, in the photo's pixels: adds to",
        "Point beside the pet: takes away",
        "around the pet: limits",
    ):
        assert effect in " ".join(said.replace("│", " ").split())
    assert "petseg segment PHOTOS -o MASKS" in petseg("--help")[1]


def test_bench_writes_what_it_says(petseg, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "ROUNDS", 2)
    code, said, error = petseg("bench", "--json", str(tmp_path / "times.json"))
    assert code == 0, error
    times = json.loads((tmp_path / "times.json").read_text())
    assert list(times["tasks"]) == ["decoder: a photo", "point: open a photo", "point: a click"]
    for name, task in times["tasks"].items():
        assert 0 < task["median"] <= task["p95"] and task["limit"] > 0
        assert f"{name:22}{task['median']:7.1f} ms" in said
    assert times["rounds"] == 2 and times["encoder"] in said and f"{times['cores']} cores; ONNX Runtime" in said
