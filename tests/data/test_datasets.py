"""Layouts, decoding, splits, and what is said of bad input."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from petseg_utils.apps.cli.options import read_names
from petseg_utils.data.audit import audit
from petseg_utils.data.datasets import (
    DataError,
    Picture,
    find_data,
    list_pictures,
    read_image,
    read_label,
    split_validation,
)
from petseg_utils.data.pictures import assert_disjoint, load_pictures, load_splits
from petseg_utils.study import load_study
from tests.conftest import first_picture, make_pair, write_data


def load_all(study, **options):
    return load_splits(study, progress=False, **options)


# What is read


def test_both_places_of_the_official_layout_are_found(data, tmp_path):
    around = tmp_path / "around"
    around.mkdir()
    shutil.copytree(data, around / "oxford-iiit-pet")
    assert find_data(data) == (data, "official")
    assert find_data(around) == (around / "oxford-iiit-pet", "official")


def test_species_comes_from_the_list_not_from_the_mask(data):
    for picture in list_pictures(data, "trainval"):
        assert set(np.unique(read_label(picture))) == {0, picture.species, 255}


def test_split_folder_labels_are_read_by_palette_index(tmp_path):
    root = tmp_path / "folders"
    for part in ("TrainVal", "Test"):
        for kind in ("color", "label"):
            (root / part / kind).mkdir(parents=True)
        for number, species in enumerate((1, 2)):
            image, trimap = make_pair(number, species)
            label = np.select([trimap == 1, trimap == 3], [species, 255], 0).astype(np.uint8)
            palette = Image.fromarray(label).convert("P")
            palette.putdata(label.ravel().tolist())
            palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 753)  # grey levels 0, 38, 75
            palette.save(root / part / "label" / f"breed_{number}.png")
            Image.fromarray(image).save(root / part / "color" / f"breed_{number}.jpg")
    pictures = list_pictures(root, "trainval")
    assert [set(np.unique(read_label(picture))) for picture in pictures] == [{0, 1, 255}, {0, 2, 255}]
    assert find_data(root)[1] == "split-folders"
    grey = np.asarray(Image.open(pictures[1].mask).convert("RGB").convert("L"))
    assert 75 in grey  # what reading colours instead of indices would have given


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    level = {"CMYK": 0, "P": 204}.get(mode, 200)  # the web palette has no 200
    path = tmp_path / ("photo.tif" if mode in ("CMYK", "I;16") else "photo.png")
    if mode == "I;16":
        Image.fromarray(np.full((4, 6), 200 * 256, np.uint16)).save(path)
    else:
        Image.new("RGB", (6, 4), (level,) * 3).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (4, 6, 3) and image.dtype == np.uint8
    assert abs(int(image.mean()) - level) <= 1


def test_transparency_is_laid_on_white(tmp_path):
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "clear.png") == 255).all()


def test_exif_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 10, 20))  # the left quarter, which orientation 6 brings to the top
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    turned = read_image(tmp_path / "turned.jpg")
    assert turned.shape == (40, 20, 3)
    assert turned[:8].mean() > 200 and turned[12:].mean() < 50


# Splits


def test_validation_split_is_stratified_complete_and_ignores_order():
    def pictures(counts):
        return [Picture(f"{b}_{n}", "trainval", 1, b, None, None) for b, c in counts.items() for n in range(c)]

    listed = pictures({"a": 100, "b": 40, "c": 1, "d": 2, "e": 7})
    train, validation = split_validation(listed, 0.2)
    again = split_validation(listed[::-1], 0.2)
    assert {p.name for p in validation} == {p.name for p in again[1]}
    assert len(train) + len(validation) == 150 and len(validation) == 30
    share = {breed: sum(p.breed == breed for p in validation) for breed in "abcde"}
    assert share["a"] == 20 and share["b"] == 8
    assert not {p.name for p in train} & {p.name for p in validation}


def test_names_of_the_validation_split_stay_what_they_are():
    listed = [Picture(f"breed_{n}", "trainval", 1, "breed", None, None) for n in range(10)]
    assert [p.name for p in split_validation(listed, 0.3)[1]] == VALIDATION_OF_TEN


VALIDATION_OF_TEN = ["breed_6", "breed_4", "breed_2"]


def test_splits_share_no_picture(study):
    splits = load_all(study)
    assert {name: len(part) for name, part in splits.items()} == {"train": 9, "validation": 3, "test": 6}
    assert_disjoint(splits)


def test_a_copy_of_a_test_picture_is_left_out_of_training_and_told(data, study):
    test_name = (data / "annotations" / "test.txt").read_text().split()[0]
    for name in [p.name for p in list_pictures(data, "trainval")][:12]:
        if name in set(load_all(study)["train"].table["name"]):
            break
    shutil.copy(data / "images" / f"{test_name}.jpg", data / "images" / f"{name}.jpg")
    splits = load_all(study)
    assert name not in set(splits["train"].table["name"])
    assert [finding.name for finding in splits["train"].skipped] == [name]


def test_names_limit_what_is_used(study):
    wanted = {"Tabby_100", "hound_101"}
    assert set(load_pictures(study, "test", names=wanted, progress=False).table["name"]) == wanted


def test_fingerprint_follows_content(data, study):
    before = load_pictures(study, "test", progress=False).fingerprint
    assert load_pictures(study, "test", progress=False).fingerprint == before
    path = data / "annotations" / "trimaps" / "Tabby_100.png"
    trimap = np.array(Image.open(path))
    trimap[0, 0] = 1
    Image.fromarray(trimap).save(path)
    assert load_pictures(study, "test", progress=False).fingerprint != before


def test_too_few_pictures_to_hold_any_out():
    one = [Picture("a_1", "trainval", 1, "a", None, None)]
    with pytest.raises(DataError, match=r"1 labelled pictures are too few to hold out a share .*: add some"):
        split_validation(one, 0.2)


def test_of_a_few_pictures_one_is_held_out_however_small_the_share():
    few = [Picture(f"a_{number}", "trainval", 1, "a", None, None) for number in range(5)]
    train, validation = split_validation(few, 0.1)
    assert (len(train), len(validation)) == (4, 1)


# Bad input: each has an error that says what and where


def test_missing_folder(data, tmp_path):
    study = load_study("smoke", data=tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"No data folder 'nowhere'.*petseg data download"):
        load_all(study)


def test_other_layout(data, tmp_path):
    (tmp_path / "other" / "photos").mkdir(parents=True)
    study = load_study("smoke", data=tmp_path / "other")
    with pytest.raises(DataError, match=r"Looked for images/ with annotations/trimaps/.*found photos"):
        load_all(study)


def test_list_names_absent_files(data, study):
    photo, _ = first_picture(data)
    photo.unlink()
    with pytest.raises(DataError, match=rf"1 of 12 pictures cannot be used:\n.*{photo.name}: file is missing"):
        load_all(study)


def test_missing_list(data, study):
    (data / "annotations" / "test.txt").unlink()
    with pytest.raises(DataError, match=r"No list test.txt"):
        load_all(study)


def test_malformed_list_line(data, study):
    with (data / "annotations" / "test.txt").open("a") as file:
        file.write("Tabby_1 1 7 1\n")
    with pytest.raises(DataError, match=r"test.txt, line 7: got 'Tabby_1 1 7 1', expected 'NAME CLASS-ID SPECIES"):
        load_all(study)


def test_truncated_jpeg(data, study):
    photo, _ = first_picture(data)
    photo.write_bytes(photo.read_bytes()[:-400])
    with pytest.raises(DataError, match=rf"{photo.name}: cannot be decoded .*truncated"):
        load_all(study)


def test_file_that_is_no_picture(data, study):
    photo, _ = first_picture(data)
    photo.write_text("not a picture")
    with pytest.raises(DataError, match=rf"{photo.name}: not a picture, or damaged"):
        load_all(study)


def test_mask_of_another_size(data, study):
    _, mask = first_picture(data)
    Image.open(mask).resize((40, 30), Image.Resampling.NEAREST).save(mask)
    with pytest.raises(DataError, match=rf"{mask.name}: mask is 40 x 30, its photo 80 x 60 pixels"):
        load_all(study)


def test_mask_with_unknown_values(data, study):
    _, mask = first_picture(data)
    trimap = np.array(Image.open(mask))
    trimap[:5] = 38
    Image.fromarray(trimap).save(mask)
    with pytest.raises(DataError, match=rf"{mask.name}: unknown mask values \[38\]; trimap values are 1, 2, 3"):
        load_all(study)


def test_colour_mask(data, study):
    _, mask = first_picture(data)
    Image.open(mask).convert("RGB").save(mask)
    with pytest.raises(DataError, match=rf"{mask.name}: a mask must have one channel, this one is RGB"):
        load_all(study)


def test_empty_split_stops_only_who_asks_for_it(data, study):
    (data / "annotations" / "trainval.txt").write_text("# nothing here\n")
    assert len(load_pictures(study, "test", progress=False)) == 6
    with pytest.raises(DataError, match=r"The trainval split of 'pets' is empty"):
        load_pictures(study, "train", progress=False)


def test_permission_error_names_the_file(data, study, monkeypatch):
    photo, _ = first_picture(data)
    real = Image.open

    def refuse(path, *args, **kwargs):
        if path == photo:
            no_access(path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(DataError, match=rf"{photo.name}: permission denied. Give yourself read access"):
        load_all(study)


@pytest.mark.parametrize("way_in", ["is_dir", "iterdir"])
def test_a_data_folder_without_access(tmp_path, monkeypatch, way_in):
    monkeypatch.setattr(Path, way_in, no_access)
    with pytest.raises(DataError, match=rf"Cannot read '{tmp_path.name}': permission denied. Give yourself"):
        find_data(tmp_path)


def test_a_list_without_access(data, monkeypatch):
    monkeypatch.setattr(Path, "read_text", no_access)
    with pytest.raises(DataError, match=r"Cannot read test.txt: permission denied. Give yourself read access"):
        list_pictures(data, "test")


def no_access(path, **options):
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full, a device that is always full")
def test_full_disk_while_caching_leaves_nothing_behind(study, tmp_path, monkeypatch):
    real = Path.open

    def full(self, *args, **kwargs):
        return open("/dev/full", "wb", buffering=0) if self.suffix == ".u8" else real(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(
            DataError, match=r"Could not write the picture cache \(No space left on device\).*PETSEG_RUNS"
        ):
            load_all(study)
    assert list((tmp_path / "runs" / "cache").iterdir()) == []
    assert len(load_all(study)["test"]) == 6  # with room again it simply works


def test_skip_bad_goes_on_and_lists(data, study):
    photo, _ = first_picture(data)
    photo.write_bytes(b"broken")
    splits = load_all(study, skip_bad=True)
    assert len(splits["train"]) + len(splits["validation"]) == 11
    assert [finding.name for finding in splits["train"].skipped] == [photo.stem]


def test_data_of_which_every_picture_is_bad(data, study):
    for photo in (data / "images").iterdir():
        photo.write_bytes(b"broken")
    with pytest.raises(DataError, match="No picture can be used: every one of them has an error"):
        load_all(study, skip_bad=True)


def test_error_of_the_command_line_is_one_line_and_exit_code_1(data, tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "petseg_utils", "data", "audit", str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr.startswith("petseg: No data folder 'nowhere'") and run.stderr.count("\n") == 1


def test_a_picture_listed_twice(data, study):
    path = data / "annotations" / "test.txt"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match="The test split of 'pets' names 'Tabby_100' more than once"):
        load_all(study)


def test_a_list_in_another_encoding(data, study):
    (data / "annotations" / "test.txt").write_bytes("Tabby_é 1 1 1".encode("latin-1"))
    with pytest.raises(DataError, match=r"test.txt is not UTF-8 text"):
        load_all(study)


def test_splits_that_share_a_picture_are_refused(study):
    splits = load_all(study)
    with pytest.raises(DataError, match="Two splits share a picture's name"):
        assert_disjoint(splits | {"validation": splits["train"]})


# Lists, as editors and spreadsheets leave them


LISTS = {
    "a byte order mark": "\ufeff{}",
    "UTF-16": "{}",
    "a header": "name class species breed\n{}",
    "a header of the official kind": "#Image CLASS-ID SPECIES BREED ID\n#1:37 Class ids\n\n{}",
}
MARKS = {"semicolons": ";", "tabs": "\t", "commas": ",", "commas and spaces": ", "}


def assert_same_pictures(data, text, encoding="utf-8"):
    before = list_pictures(data, "test")
    (data / "annotations" / "test.txt").write_bytes(text.encode(encoding))
    assert list_pictures(data, "test") == before


@pytest.mark.parametrize("kind", LISTS)
def test_lists_are_read_in_every_unicode_and_with_a_header(data, kind):
    text = LISTS[kind].format((data / "annotations" / "test.txt").read_text())
    assert_same_pictures(data, text, "utf-16" if kind == "UTF-16" else "utf-8")


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_from_a_spreadsheet_are_read(data, mark, quoted, end):
    lines = (data / "annotations" / "test.txt").read_text().splitlines()
    cells = [["NAME", "CLASS-ID", "SPECIES", "BREED-ID"], *(line.split() for line in lines), ["", "", "", ""]]
    text = "".join(mark.join(f'"{cell}"' if quoted else cell for cell in row) + end for row in cells)
    assert_same_pictures(data, text)
    assert_same_pictures(data, "".join(f'"{line}";;{end}' for line in lines))


@pytest.mark.parametrize(
    "content", ["Tabby_100 1 1 1\n".encode("utf-16-le"), b"PK\3\4\0\0\xff", b"\xff\xfeT", b'"' + b"x" * 200_000]
)
def test_what_is_no_such_list_is_refused_in_one_line(data, content):
    (data / "annotations" / "test.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"^test\.txt") as told:
        list_pictures(data, "test")
    assert "\n" not in str(told.value)


def test_what_macos_keeps_beside_a_picture_is_none(data, tmp_path):
    path = data / "annotations" / "test.txt"
    assert_same_pictures(data, path.read_text() + "._Tabby_100 1 1 1\n")
    root = tmp_path / "folders"
    for part, kind in ((part, kind) for part in ("TrainVal", "Test") for kind in ("color", "label")):
        (root / part / kind).mkdir(parents=True)
        Image.new("L", (8, 8), 1).save(root / part / kind / "cat_1.png")
        for hidden in ("._cat_1.png", "._cat_1.jpg", ".cat_2.jpeg"):
            (root / part / kind / hidden).write_bytes(b"\0\5\x16\7")
    assert [picture.name for picture in list_pictures(root, "trainval")] == ["cat_1"]
    assert audit(root, progress=False)["errors"] == []


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffTabby_100\nhound_101\n".encode(),
        "Tabby_100\nhound_101\n".encode("utf-16"),
        b'"name";"breed"\r\n"Tabby_100";"Tabby"\r\n"hound_101";"hound"\r\n',
        b"name\tbreed\nTabby_100\tTabby\nhound_101\thound\n",
        b"name,breed\nTabby_100,Tabby\nhound_101,hound\n",
    ],
)
def test_names_are_read_as_lists_are(study, tmp_path, capsys, content):
    (tmp_path / "names.csv").write_bytes(content)
    assert read_names(tmp_path / "names.csv", study) - {"name"} == {"Tabby_100", "hound_101"}
    assert capsys.readouterr().err == ""


def test_names_in_no_text_are_refused_in_one_line(study, tmp_path):
    (tmp_path / "names.xlsx").write_bytes(b"PK\3\4\xff\xfe\0")
    with pytest.raises(DataError, match=r"^names\.xlsx is not UTF-8 text"):
        read_names(tmp_path / "names.xlsx", study)


# The audit


def turned(path, turn):
    """Write a picture's EXIF orientation, and leave its pixels."""
    image, exif = Image.open(path), Image.Exif()
    exif[0x0112] = turn
    pixels = image.copy()
    pixels.save(path, exif=exif, **{"quality": 95} if path.suffix == ".jpg" else {})


@pytest.mark.parametrize("turn", range(2, 9))
def test_audit_warns_of_photos_and_masks_that_are_stored_otherwise_than_shown(data, turn):
    photo, mask = first_picture(data)
    turned(photo, turn)
    audited = audit(data, progress=False)
    assert [finding["kind"] for finding in audited["errors"]] == ["size differs"] * (turn > 4)
    assert [finding["kind"] for finding in audited["warnings"]] == ["turned"]
    assert f"{photo.name}: its EXIF orientation is {turn}, not 1" in audited["warnings"][0]["message"]
    turned(photo, 1)
    turned(mask, turn)
    (warning,) = audit(data, progress=False)["warnings"]
    assert warning["kind"] == "turned" and mask.name in warning["message"]


def test_audit_goes_on_after_a_picture_whatever_its_decoder_raises(data, monkeypatch):
    photo, _ = first_picture(data)
    real = ImageFile.ImageFile.load

    def load(image):
        if Path(image.filename).name == photo.name:
            raise KeyError(0x0112)
        return real(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    audited = audit(data, progress=False)
    assert [finding["kind"] for finding in audited["errors"]] == ["unreadable"]
    assert photo.name in audited["errors"][0]["message"]


def test_audit_counts_a_bad_list_as_an_error_and_an_empty_one_as_a_warning(data):
    (data / "annotations" / "trainval.txt").write_text("")
    assert [finding["kind"] for finding in audit(data, progress=False)["warnings"]] == ["list"]
    (data / "annotations" / "trainval.txt").write_text("Tabby_1 1 7 1\n")
    assert [finding["kind"] for finding in audit(data, progress=False)["errors"]] == ["list"]
    (data / "annotations" / "test.txt").write_text("")
    with pytest.raises(DataError, match=r"trainval.txt, line 1: got .* The test split of 'pets' is empty"):
        audit(data, progress=False)


def test_audit_of_sound_data_finds_nothing(data):
    audited = audit(data, progress=False)
    assert audited["splits"] == {"trainval": 12, "test": 6} and audited["breeds"] == 4
    assert audited["errors"] == audited["warnings"] == [] and not audited["official"]


def test_audit_lists_every_error_and_warning_by_kind(data):
    names = [picture.name for picture in list_pictures(data, "trainval")]
    images, masks = data / "images", data / "annotations" / "trimaps"
    (images / f"{names[0]}.jpg").unlink()
    (images / f"{names[1]}.jpg").write_bytes((images / f"{names[1]}.jpg").read_bytes()[:500])
    (masks / f"{names[2]}.png").unlink()
    Image.new("L", (9, 9), 2).save(masks / f"{names[3]}.png")
    Image.new("L", (80, 60), 9).save(masks / f"{names[4]}.png")
    Image.open(images / f"{names[5]}.jpg").convert("RGBA").save(images / "x.png")
    (images / "x.png").rename(images / f"{names[5]}.jpg")
    Image.new("L", (80, 60), 2).save(masks / f"{names[6]}.png")
    shutil.copy(images / f"{names[7]}.jpg", images / f"{names[9]}.jpg")
    audited = audit(data, progress=False)
    assert [(finding["name"], finding["kind"]) for finding in audited["errors"]] == [
        (names[0], "missing"),
        (names[1], "unreadable"),
        (names[2], "missing"),
        (names[3], "size differs"),
        (names[4], "mask values"),
    ]
    assert [(finding["name"], finding["kind"]) for finding in audited["warnings"]] == [
        (names[5], "other type"),
        (names[6], "no pet"),
        (names[9], "duplicate"),
    ]


def test_audit_command_writes_json_and_exits_1_on_errors(data, tmp_path):
    photo, _ = first_picture(data)
    photo.unlink()
    out = tmp_path / "audit.json"
    run = subprocess.run(
        [sys.executable, "-m", "petseg_utils", "data", "audit", str(data), "--json", str(out)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1 and f"{photo.name}: file is missing" in run.stdout
    assert [finding["kind"] for finding in json.loads(out.read_text())["errors"]] == ["missing"]


def test_a_photo_that_is_deleted_while_we_look_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    with pytest.raises(DataError, match=r"gone.jpg: file is missing"):
        read_image(tmp_path / "gone.jpg")


def test_a_picture_bomb_is_an_error_not_a_crash(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    buffer = io.BytesIO()
    Image.new("RGB", (12, 12)).save(buffer, "PNG")
    (tmp_path / "big.png").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match=r"big.png: too large"):
        read_image(tmp_path / "big.png")


def test_torchvision_reads_what_we_read(tmp_path):
    from torchvision.datasets import OxfordIIITPet

    write_data(tmp_path / "oxford-iiit-pet")
    theirs = OxfordIIITPet(tmp_path, split="test", target_types="segmentation", download=False)
    ours = list_pictures(tmp_path, "test")
    assert len(theirs) == len(ours)
    for (image, trimap), picture in zip(theirs, ours, strict=True):
        assert (np.asarray(image) == read_image(picture.image)).all()
        assert ((np.asarray(trimap) == 1) == (read_label(picture) == picture.species)).all()
