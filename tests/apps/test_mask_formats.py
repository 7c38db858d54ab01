"""Masks in the formats of COCO and YOLO, and back again."""

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import ExifTags, Image
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO

from petseg_utils.apps.mask_formats import coco, joined, parts, polygon_runs, yolo_lines
from petseg_utils.apps.photo_tables import ENDINGS, read_table
from petseg_utils.data.drawing.breeds import BREEDS
from petseg_utils.data.drawing.pictures import draw_pet
from petseg_utils.segmenter import read_photo
from tests.apps.fake_point import ellipse


def drawn_masks() -> dict[str, np.ndarray]:
    """Masks of all sorts, ``uint8 (H, W)``."""
    blank = np.zeros((120, 160), np.uint8)
    masks = {
        "empty": blank,
        "full": blank + 2,
        "dot": blank.copy(),
        "line": blank.copy(),
        "one pixel": blank[:1, :1] + 1,
    }
    masks["dot"][50, 60] = masks["dot"][119, 159] = 1
    masks["line"][10:100, 30] = masks["line"][60, 5:150] = 2
    masks["diagonal"] = np.eye(120, 160, dtype=np.uint8)
    masks["ring"] = ellipse(120, 160, 0.5, 0.5, 0.4, 0.45) * np.uint8(1)
    masks["ring"][ellipse(120, 160, 0.4, 0.5, 0.2, 0.2)] = 0
    masks["ring"][ellipse(120, 160, 0.75, 0.5, 0.08, 0.1)] = 0
    masks["ring"][60, 60] = 1  # a part within a hole
    masks["both"] = ellipse(120, 160, 0.2, 0.3, 0.15, 0.2) * np.uint8(1)
    masks["both"][ellipse(120, 160, 0.7, 0.6, 0.25, 0.3)] = 2
    masks["both"][ellipse(120, 160, 0.3, 0.8, 0.05, 0.1)] = 1
    masks["noise"] = np.random.default_rng(0).integers(0, 3, (40, 50), np.uint8)
    masks["pet"] = draw_pet(BREEDS[3], 2)[1] * np.uint8(2)
    return masks


pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # by pycocotools


@pytest.fixture(params=drawn_masks())
def mask(request):
    return drawn_masks()[request.param]


def iou(one, other):
    return (one & other).sum() / max(1, (one | other).sum())


def back(annotation: dict, height: int, width: int) -> np.ndarray:
    """An annotation as a mask, by COCO's own tools."""
    reader = COCO()
    reader.imgs = {annotation["image_id"]: {"height": height, "width": width}}
    return reader.annToMask(annotation).astype(bool)


@pytest.mark.parametrize("polygons", [False, True])
def test_a_mask_comes_back_from_coco(mask, polygons):
    written = json.loads(json.dumps(coco([("a.jpg", mask)], polygons=polygons)))
    height, width = mask.shape
    assert written["images"] == [{"id": 1, "file_name": "a.jpg", "width": width, "height": height}]
    assert written["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert [one["category_id"] for one in written["annotations"]] == [n for n in (1, 2) if (mask == n).any()]
    for annotation in written["annotations"]:
        pet, read = mask == annotation["category_id"], back(annotation, height, width)
        assert iou(pet, read) >= 0.98 if polygons else (pet == read).all()
        ys, xs = np.nonzero(pet)
        assert annotation["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        assert annotation["area"] == pet.sum() and annotation["iscrowd"] == 0
        assert (annotation["image_id"], annotation["id"]) == (1, written["annotations"].index(annotation) + 1)


def test_a_mask_comes_back_from_yolo(mask):
    height, width = mask.shape
    lines = yolo_lines(mask)
    assert [line.split()[0] for line in lines] == [str(n - 1) for n in (1, 2) if (mask == n).any()]
    for line in lines:
        value, *places = map(float, line.split())
        assert min(places) >= 0 and max(places) <= 1
        outline = np.reshape(places, (-1, 2)) * (width, height)
        read = run_lengths.decode(polygon_runs([outline], height, width)).astype(bool)
        assert iou(mask == value + 1, read) >= 0.98


def test_every_small_part_and_hole_is_kept(mask):
    for value in (1, 2):
        drawn = [polygon_runs([joined(part)], *mask.shape) for part in parts(mask == value)]
        whole = run_lengths.decode(run_lengths.merge(drawn)) > 0 if drawn else np.zeros(mask.shape, bool)
        # Where a pixel is wrong, an outline runs by: none is wrong together with all of its neighbours.
        wrong = np.pad(whole != (mask == value), 1)
        near = sum(np.roll(wrong, step, (0, 1)) for step in ((0, 1), (0, -1), (1, 0), (-1, 0)))
        assert (near[wrong] < 4).all()
    ring = drawn_masks()["ring"] == 1
    assert sorted(len(part) for part in parts(ring)) == [1, 3]


def test_outlines_of_smooth_shapes_have_few_corners():
    disc = ellipse(1000, 1000, 0.5, 0.5, 0.4, 0.4)
    (part,) = parts(disc)
    assert len(part) == 1 and len(part[0]) < 300  # the stairs have some 1,800
    assert iou(disc, run_lengths.decode(polygon_runs(part, 1000, 1000)) > 0) > 0.995


def test_what_is_no_pet_is_called_background():
    written = coco([("a.jpg", np.full((2, 3), 3, np.uint8))])
    assert (
        written["categories"][-1] == {"id": 3, "name": "background"} and written["annotations"][0]["category_id"] == 3
    )


# Folders


@pytest.fixture
def photos(tmp_path):
    """Three photos, of which two share a name, and one of nothing."""
    root = tmp_path / "photos"
    (root / "more").mkdir(parents=True)
    for name, breed in (("b.png", 0), ("more/b.jpg", 14), ("b.jpg", 4)):
        Image.fromarray(draw_pet(BREEDS[breed], 1)[0]).save(root / name)
    Image.new("RGB", (90, 60), "grey").save(root / "a.png")
    return root


def test_segment_writes_coco_of_all_photos_of_the_table(petseg, photos, tmp_path):
    out, again = tmp_path / "out", tmp_path / "again"
    assert petseg("segment", photos / "more" / "b.jpg", "-o", out)[0] == 0  # without it, for now
    assert not (out / "coco.json").exists()
    assert petseg("segment", photos, "-o", out, "--format", "coco", "--format", "coco-polygons")[0] == 0
    reader, outlines = COCO(out / "coco.json"), COCO(out / "coco-polygons.json")
    names = [image["file_name"] for image in reader.dataset["images"]]
    assert names == [f"../photos/{name}" for name in ("a.png", "b.jpg", "b.png", "more/b.jpg")]
    rows = {row["photo"]: row for row in read_table(out / "results.csv")}
    for image in reader.dataset["images"]:
        mask = np.asarray(Image.open(out / rows[image["file_name"]]["mask"]))
        assert (image["height"], image["width"]) == mask.shape
        for value in (1, 2):
            for exact, one in ((True, reader), (False, outlines)):
                read = np.zeros(mask.shape, bool)
                for annotation in one.imgToAnns[image["id"]]:
                    read |= (one.annToMask(annotation) > 0) & (annotation["category_id"] == value)
                assert (read == (mask == value)).all() if exact else iou(read, mask == value) >= 0.98 or not read.any()
    assert len(reader.dataset["annotations"]) >= 3
    petseg("segment", photos, "-o", again, "--format", "coco")  # in another order, the same numbers
    assert (again / "coco.json").read_bytes() == (out / "coco.json").read_bytes()
    assert not list(out.rglob("*.part"))


def test_segment_writes_yolo_labels_beside_the_photos(petseg, photos, tmp_path):
    out, folder = tmp_path / "out", tmp_path / "out" / "yolo"
    for _ in range(2):  # links that are there already are made anew
        assert petseg("segment", photos, "-o", out, "--format", "yolo")[0] == 0
    about = yaml.safe_load((folder / "data.yaml").read_text())
    assert about["names"] == {0: "cat", 1: "dog"} and about["train"] == "photos.txt"
    listed = (folder / about["train"]).read_text().splitlines()
    rows = list(read_table(out / "results.csv"))
    stems = {row["mask"].removesuffix(ENDINGS[-1]): row for row in rows}
    assert set(stems) == {"a", "b", "b.png", "more/b"} and len(listed) == 4
    for image in listed:
        # As YOLO finds the label of a photo.
        label = folder / f"{image.replace('/images/', '/labels/').rpartition('.')[0]}.txt"
        row = stems[label.relative_to(folder / "labels").as_posix().removesuffix(".txt")]
        assert (folder / image).read_bytes() == (photos / row["file"]).read_bytes()
        assert label.read_text().splitlines() == yolo_lines(np.asarray(Image.open(out / row["mask"])))
    assert (folder / "labels" / "a.txt").read_text() == ""


def test_a_disk_without_links_gets_the_pixels_upright_and_without_places(petseg, photos, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (51.0, 28.0, 38.0)}
    with Image.open(photos / "b.jpg") as image:
        image.save(tmp_path / "phone.jpg", exif=exif, quality=95)
    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    out = tmp_path / "out"
    assert petseg("segment", tmp_path / "phone.jpg", "-o", out, "--format", "yolo")[0] == 0
    assert (out / "yolo" / "photos.txt").read_text() == "./images/phone.png\n"
    with Image.open(out / "yolo" / "images" / "phone.png") as copy:
        assert not copy.getexif() and np.array_equal(np.asarray(copy), read_photo(tmp_path / "phone.jpg"))


@pytest.mark.parametrize("kind", ["coco", "coco-polygons", "yolo"])
def test_a_format_replaces_no_file_of_the_users(petseg, photos, tmp_path, kind):
    out = tmp_path / "out"
    mine = out / ("yolo/data.yaml" if kind == "yolo" else f"{kind}.json")
    mine.parent.mkdir(parents=True)
    for content in (b"mine", b'{"info": {}}', b"[]", b"train: my own"):
        mine.write_bytes(content)
        code, _, errors = petseg("segment", photos / "a.png", "-o", out, "--format", kind)
        assert code == 1 and "was not written by petseg segment, so it is not replaced" in errors
        assert mine.read_bytes() == content and not (out / "results.csv").exists()


def test_links_in_a_folder_for_yolo_are_not_followed(petseg, photos, tmp_path):
    out, mine = tmp_path / "out", tmp_path / "mine"
    assert petseg("segment", photos / "a.png", "-o", out, "--format", "yolo")[0] == 0
    shutil.move(out / "yolo" / "labels", mine)
    (mine / "a.txt").write_text("mine")
    (out / "yolo" / "labels").symlink_to(mine)
    assert petseg("segment", photos / "a.png", "-o", out, "--format", "yolo")[0] == 1
    assert (mine / "a.txt").read_text() == "mine"


def test_photos_beside_or_within_their_results_stay_what_they_are(petseg, photos, tmp_path):
    before = (photos / "a.png").read_bytes()
    (photos / "images").mkdir()
    shutil.copy(photos / "a.png", photos / "images" / "a.png")
    assert petseg("segment", photos / "images", "-o", photos, "--format", "yolo")[0] == 0
    again = photos / "yolo" / "images" / "a.png"
    assert again.is_symlink() and again.read_bytes() == before
    petseg("segment", again, "-o", photos, "--format", "yolo")
    assert again.read_bytes() == before == (photos / "images" / "a.png").read_bytes()


def test_an_unknown_format_is_wrong_usage(petseg, photos, tmp_path):
    code, _, errors = petseg("segment", photos, "-o", tmp_path / "out", "--format", "voc")
    assert code == 2 and "coco-polygons" in errors
