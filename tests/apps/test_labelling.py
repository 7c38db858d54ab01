"""Labelling photos: the data set that they become, the page that walks through them, and the widget."""

import csv
import shutil
import subprocess
import sys
from contextlib import ExitStack

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from petseg_utils.apps import label_page
from petseg_utils.apps.cli import main
from petseg_utils.apps.label_widget import label_photos
from petseg_utils.apps.labelling import BORDER, CHANGING, Walk, breed_name, files_of, labelling, trimap
from petseg_utils.apps.page import LOOKS
from petseg_utils.apps.photo_folders import LOCK
from petseg_utils.apps.serving import serving
from petseg_utils.data.audit import audit
from petseg_utils.data.datasets import Picture, list_pictures, read_label
from petseg_utils.segmenter import Segmenter
from petseg_utils.study import PetsegError
from tests.apps.fake_point import CAT, DOG, MISSED, ON_CAT, ON_TAIL, fake_segmenter, paint
from tests.apps.test_page import Visitor, free_port

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # gradio's own
LOOK = ("by class", 0.5)


def cat(number: int) -> np.ndarray:
    """A photo of a cat whose tail is not proposed; each number gives another."""
    photo = paint(300, 400, (CAT, *ON_CAT, 0.18, 0.25), (MISSED, *ON_TAIL, 0.06, 0.08))
    photo[:20, : 5 * number + 1] = 0
    return photo


def dog(number: int) -> np.ndarray:
    photo = paint(200, 300, (DOG, 0.5, 0.5, 0.2, 0.3))
    photo[:20, : 5 * number + 1] = 0
    return photo


@pytest.fixture
def folder(tmp_path):
    """Six photos in two folders, two of one name, one that lies on its side; and one that cannot be read."""
    root = tmp_path / "photos"
    (root / "more").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "more/a.png")):
        Image.fromarray(cat(number)).save(root / name)
    for number, name in enumerate(("c.jpg", "more/d.png")):
        Image.fromarray(dog(number)).save(root / name)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(np.rot90(dog(2)).copy()).save(root / "more" / "turned.png", exif=turned)
    (root / "bad.jpg").write_text("not a picture")
    return root


@pytest.fixture
def start(folder, tmp_path):
    """Begin to label, or go on; whoever began before has let go by then."""
    held = ExitStack()

    def begin(photos=folder, out=tmp_path / "set") -> Walk:
        held.close()
        walk = Walk(held.enter_context(labelling(photos, out)), fake_segmenter())
        walk.forward()
        return walk

    yield begin
    held.close()


def files(out) -> dict:
    """All files but the table and the lists, and when they were written."""
    return {path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in out.rglob("*_*.*g")}


def lines(out) -> list[str]:
    return sorted(
        "".join((out / "annotations" / f"{split}.txt").read_text() for split in ("trainval", "test")).split("\n")
    )


ORDER = ["a.png", "b.png", "c.jpg", "more/a.png", "more/d.png", "more/turned.png"]  # bad.jpg stands behind b.png


def save_all(walk: Walk) -> Walk:
    while walk.photo:
        walk.save(walk.suggested()[0])
    return walk


def test_a_walk_through_all_photos_gives_an_official_data_set(start, folder, tmp_path):
    walk, seen = start(), []
    while walk.photo:
        seen.append((walk.name, walk.progress, walk.suggested()[0]))
        walk.save(walk.suggested()[0])
    assert [name for name, *_ in seen] == ORDER
    assert seen[0][1] == "1 of 7: a.png. Labelled: 0 cats and 0 dogs."
    assert (
        seen[3][1] == "5 of 7: more/a.png. Labelled: 2 cats and 1 dog. Left out: bad.jpg " + walk.data.failed["bad.jpg"]
    )
    assert walk.end.startswith("That was all. Now: petseg data audit ")
    out = tmp_path / "set"
    found = audit(out, progress=False)
    assert found["layout"] == "official" and found["errors"] == found["warnings"] == []
    assert sum(found["splits"].values()) == 6 and set(found["splits"]) == {"trainval", "test"} and found["breeds"] == 2
    pictures = {picture.name: picture for split in found["splits"] for picture in list_pictures(out, split)}
    assert {picture.name: picture.species for picture in pictures.values()} == {
        f"{breed}_{number}": species for breed, species in (("Cat", 1), ("dog", 2)) for number in (1, 2, 3)
    }
    assert lines(out)[1:] == [*(f"Cat_{n} 1 1 1" for n in (1, 2, 3)), *(f"dog_{n} 2 2 1" for n in (1, 2, 3))]
    upright = Image.open(pictures["dog_3"].image)
    assert upright.size == (300, 200) and not upright.getexif()
    assert np.abs(np.asarray(upright).astype(int) - dog(2)).mean() < 3
    rows = {row["photo"]: row["name"] for row in csv.DictReader((out / "labelled.csv").open())}
    assert rows["../photos/a.png"] == "Cat_1" and rows["../photos/more/a.png"] == "Cat_3"
    assert not list(out.rglob("*.part"))


def test_the_trimap_is_the_selection_with_a_border(start, tmp_path):
    walk = start()
    walk.photo.click(ON_TAIL[0] * 400, ON_TAIL[1] * 300)
    selected = walk.photo.alpha() > 127
    walk.save("cat")
    path = tmp_path / "set" / "annotations" / "trimaps" / "Cat_1.png"
    assert Image.open(path).mode == "L"
    written = np.asarray(Image.open(path))
    np.testing.assert_array_equal(written, trimap(selected))
    label = read_label(Picture("", "", 1, "", path, path))
    sure = label != 255
    assert (label[sure] == selected[sure]).all() and 0.005 < (~sure).mean() < 0.1


@pytest.mark.parametrize("size", [(100, 200), (1000, 700)])
def test_the_border_is_as_wide_on_either_side_of_the_outline(size):
    selected = np.zeros(size, bool)
    selected[:, size[1] // 2 :] = True
    reach = round(BORDER * max(size))
    row = trimap(selected)[0].tolist()
    left = size[1] // 2 - reach
    assert row == [2] * left + [3] * 2 * reach + [1] * left  # and none where the photo ends
    dot = np.zeros(size, bool)
    dot[50, 50] = True
    assert (trimap(dot) == 1).sum() == 1 and trimap(dot)[50, 51] == 3
    assert (trimap(np.ones(size, bool)) == 1).all()


def test_who_comes_back_is_not_asked_again(start, folder, tmp_path):
    walk = start()
    walk.save("cat")
    walk.no_pet()
    walk.forward()  # skipped
    assert walk.name == "more/a.png"
    walk.save("cat")
    before = files(tmp_path / "set")
    walk = start()
    assert walk.name == "c.jpg"
    assert walk.progress.startswith("4 of 7: c.jpg. Labelled: 2 cats and 0 dogs, 1 without a pet. Left out: bad.jpg ")
    walk.forward()
    walk.forward()
    walk.forward()
    assert walk.photo is None and walk.end.startswith("That was all. Skipped: 3; they come again the next time.")
    assert files(tmp_path / "set") == before and len(lines(tmp_path / "set")) == 3  # an empty one, by the last newline
    Image.fromarray(cat(7)).save(folder / "new.png")
    walk = save_all(start())
    assert len(lines(tmp_path / "set")) == 7 and before.items() <= files(tmp_path / "set").items()
    assert start().photo is None


def test_back_shows_what_was_said_and_saving_replaces_it(start, tmp_path):
    out, walk = tmp_path / "set", start()
    with pytest.raises(PetsegError, match="the first photo"):
        walk.back()
    walk.photo.click(ON_TAIL[0] * 400, ON_TAIL[1] * 300)
    walk.photo.box(2, 3, 390, 280)
    prompts, mask = list(walk.photo.prompts), walk.photo.mask
    walk.save("cat", "Tabby Mix")
    split = walk.data.row("a.png")["split"]
    for again in (walk, start()):  # after a restart, too
        again.back()
        assert again.name == "a.png" and again.photo.prompts == prompts and (again.photo.mask == mask).all()
        assert again.before == "Saved before as a cat; saving replaces that. "
        assert again.suggested() == ("cat", "Tabby_mix")
    again.photo.clear()
    again.save("cat", "Tabby mix")
    assert set(files(out)) == {"images/Tabby_mix_1.jpg", "annotations/trimaps/Tabby_mix_1.png"}
    again.back()
    again.save("dog")  # a mistake
    assert set(files(out)) == {"images/dog_1.jpg", "annotations/trimaps/dog_1.png"} and lines(out)[-1] == "dog_1 1 2 1"
    assert again.data.row("a.png")["split"] == split
    again.back()
    again.no_pet()
    assert not files(out) and lines(out) == [""] and again.name == "b.png"
    again.back()
    assert again.before == "Saved before without a pet; saving replaces that. "
    again.save("cat")
    assert lines(out)[-1] == "Cat_1 1 1 1"


def test_nothing_selected_is_not_saved(start, tmp_path):
    walk = start()
    walk.photo._steps[-1] = (0 * walk.photo._steps[-1][0], 1.0)
    with pytest.raises(PetsegError, match="Nothing is selected"):
        walk.save("cat")
    assert walk.name == "a.png" and not files(tmp_path / "set")


def test_two_windows_do_not_overwrite_each_others_labels(start, tmp_path):
    one = start()
    other = Walk(one.data, one.segmenter)
    other.forward()
    one.save("cat")
    before = files(tmp_path / "set")
    with pytest.raises(PetsegError, match="labelled in another window meanwhile"):
        other.save("dog")
    with pytest.raises(PetsegError, match="labelled in another window meanwhile"):
        other.no_pet()
    assert files(tmp_path / "set") == before
    other.forward()
    assert other.name == "b.png"


def test_a_fifth_of_many_pictures_and_one_of_few_are_to_test_on(start, tmp_path):
    data = start().data
    splits = [data._split(f"{number}.jpg") for number in range(1000)]
    assert 150 < splits.count("test") < 250 and splits == [data._split(f"{number}.jpg") for number in range(1000)]
    data.rows = {str(number): {"name": "x", "split": "trainval"} for number in range(4)}
    assert data._split(next(f"{n}.jpg" for n in range(1000) if splits[n] == "trainval")) == "test"


@pytest.mark.parametrize(
    ("species", "written", "name"),
    [
        ("cat", "", "Cat"),
        ("dog", "  ", "dog"),
        ("cat", "maine coon", "Maine_coon"),
        ("dog", "Jack Russell/1", "jack_russell_1"),
        ("cat", "3 legs", "Cat_3_legs"),
        ("dog", "../../etc", "etc"),
        ("cat", "___", "Cat"),
        ("cat", "сибирская", "Сибирская"),
    ],
)
def test_breeds_become_names_as_the_official_ones(species, written, name):
    assert breed_name(species, written) == name


def test_names_of_files_that_are_there_are_left_alone(start, tmp_path):
    walk = start()
    stray = tmp_path / "set" / "images" / "Cat_1.jpg"
    stray.write_text("mine")
    walk.save("cat")
    assert stray.read_text() == "mine" and walk.data.row("a.png")["name"] == "Cat_2"
    walk.save("dog", "CAT")  # on some disks its files have the same names
    walk.save("dog", "CAT")
    names = {row["name"].casefold() for row in walk.data.rows.values()}
    assert len(names) == 3 and stray.read_text() == "mine"


def test_what_a_killed_run_left_is_mended(start, tmp_path, monkeypatch):
    walk = start()
    walk.save("cat")
    with monkeypatch.context() as broken:
        broken.setattr(
            "petseg_utils.apps.labelling._write_lists", lambda *_: (_ for _ in ()).throw(OSError(28, "full"))
        )
        with pytest.raises(PetsegError, match=r"Could not write to set \(full\)"):
            walk.save("cat")
    assert walk.name == "b.png" and len(lines(tmp_path / "set")) == 2
    walk = start()  # the table knows the picture, and so do the lists then
    assert walk.name == "c.jpg" and len(lines(tmp_path / "set")) == 3
    assert audit(tmp_path / "set", progress=False)["errors"] == []


def test_pictures_that_a_kill_left_between_files_and_table_are_swept(start, tmp_path):
    walk, outside = start(), tmp_path / "outside.jpg"
    walk.save("cat")
    outside.write_text("mine")
    for path in files_of(tmp_path / "set", "Cat_2"):
        path.write_text("half of a picture")
    (tmp_path / "set" / CHANGING).write_text("Cat_2\nCat_1\n../../outside\n")
    walk = start()
    assert not any(path.exists() for path in files_of(tmp_path / "set", "Cat_2")) and outside.read_text() == "mine"
    assert all(path.exists() for path in files_of(tmp_path / "set", "Cat_1"))
    walk.save("cat")
    assert walk.data.row("b.png")["name"] == "Cat_2" and not (tmp_path / "set" / CHANGING).exists()


def test_what_cannot_be_saved_leaves_no_files(start, tmp_path, monkeypatch):
    walk = start()
    with monkeypatch.context() as broken:
        broken.setattr("petseg_utils.apps.labelling.write_table", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(PetsegError, match=r"Could not write to set \(full\)"):
            walk.save("cat")
    assert not any(path.exists() for path in files_of(tmp_path / "set", "Cat_1"))
    walk.save("cat")
    assert walk.data.row("a.png")["name"] == "Cat_1"


def test_a_data_set_is_held_by_one_at_a_time(start, folder, tmp_path):
    start()
    with pytest.raises(PetsegError, match="Another petseg demo --label is writing to set: wait for it"):
        labelling(folder, tmp_path / "set").__enter__()
    assert start().name == "a.png"


def test_the_data_of_others_is_left_alone(start, folder, tmp_path, data):
    with pytest.raises(PetsegError, match="holds data that was not labelled by petseg: name another folder"):
        start(out=data)
    assert not (data / "labelled.csv").exists() and not (data / LOCK).exists()
    save_all(start())
    listed = tmp_path / "set" / "annotations" / "trainval.txt"
    text = listed.read_text() + "mine_1 1 1 1\n"
    listed.write_text(text)
    with pytest.raises(PetsegError, match=r"trainval.txt lists mine_1, which labelled.csv does not know"):
        start()
    assert listed.read_text() == text


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--label", "photos"], 2, "Give --label and -o together"),
        (["-o", "set"], 2, "Give --label and -o together"),
        (["--label", "photos", "-o", "photos/set"], 1, "The data set would lie among the photos"),
        (["--label", "photos", "-o", "photos"], 1, "The data set would lie among the photos"),
        (["--label", "nowhere", "-o", "set"], 1, "No file or folder 'nowhere'"),
        (["--label", "photos", "-o", "photos/../file"], 1, "file is a file: name a folder with -o"),
    ],
)
def test_what_cannot_be_labelled_is_told(folder, tmp_path, monkeypatch, capsys, options, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", ["petseg", "demo", *options])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == code and message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "set").exists()


# The page


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_html_in_a_photos_name_does_nothing_on_the_page(start, folder, tmp_path, monkeypatch):
    (tmp_path / "named").mkdir()
    name = "<img src=x onerror=alert(1)>**b**.png"
    shutil.copy(folder / "a.png", tmp_path / "named" / name)
    data = start(tmp_path / "named").data
    *_, progress, _, _ = label_page.begin(data, fake_segmenter(), *LOOK)
    assert progress.startswith("1 of 1: &lt;img src=x onerror=alert(1)&gt;**b**.png.")
    monkeypatch.setattr(label_page, "load_model", lambda _: fake_segmenter())
    (box,) = [each for each in label_page.make_label_page(data).blocks.values() if each.elem_id == "progress"]
    assert isinstance(box, gr.HTML)  # which shows asterisks as they are


def test_what_the_page_answers(start):
    data = start().data
    walk, work, picture, said, progress, species, breed = label_page.begin(data, fake_segmenter(), *LOOK)
    assert picture and said.startswith("<p>Proposed: cat, ") and (species, breed) == ("cat", "")
    assert progress == "1 of 7: a.png. Labelled: 0 cats and 0 dogs."
    back = label_page.go(lambda walk, *_: walk.back(), walk, work, "cat", "", *LOOK)
    assert back[1] is work and back[3] == '<p role="alert">This is the first photo.</p>'
    walk, work, _, said, progress, species, breed = label_page.go(Walk.save, walk, work, "cat", "Tabby", *LOOK)
    assert work.file == "b.png" and breed == "Tabby" and progress.endswith("Labelled: 1 cat and 0 dogs.")
    *_, progress, species, breed = label_page.go(Walk.save, walk, work, "cat", "Tabby", *LOOK)
    assert (species, breed) == ("dog", "")  # no cat's breed for a dog
    save_all(walk)
    walk, work, picture, said, progress, *_ = label_page.begin(data, fake_segmenter(), *LOOK)
    assert work is None and picture is None and said.startswith("<p>That was all.")
    assert progress.startswith("All photos were shown. Labelled: 3 cats and 3 dogs.")
    assert label_page.go(Walk.save, walk, work, "cat", "", *LOOK)[3].startswith("<p>That was all.")
    _, work, _, said, *_ = label_page.go(lambda walk, *_: walk.back(), walk, work, "cat", "", *LOOK)
    assert work.file == "more/turned.png" and said.startswith("<p>Saved before as a dog; saving replaces that. ")
    assert label_page.go(Walk.save, None, None, "cat", "", *LOOK)[0] is None


class Labeller(Visitor):
    """Somebody who labels."""

    @property
    def progress(self) -> str:
        return self.page.locator("#progress").inner_text().strip()

    def expect_progress(self, sentence: str) -> None:
        self.page.locator("#progress").get_by_text(sentence).wait_for()

    def choose(self, species: str) -> None:
        self.page.get_by_role("radio", name=species, exact=True).click()

    def chosen(self) -> str:
        return "cat" if self.page.get_by_role("radio", name="cat", exact=True).is_checked() else "dog"

    def press_last(self, name: str) -> None:
        self.page.get_by_role("button", name=name).click()


@pytest.fixture
def address(browser, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(label_page, "load_model", lambda name: fake_segmenter())
    with labelling(folder, tmp_path / "set") as data:
        page = label_page.make_label_page(data)
        port = free_port()
        with serving(page, port, **LOOKS):
            yield f"http://127.0.0.1:{port}"


@pytest.mark.long
def test_six_photos_are_labelled_on_the_page_and_a_decoder_learns_from_them(browser, address, tmp_path, monkeypatch):
    visitor = Labeller(browser, address)
    visitor.expect_progress("1 of 7: a.png. Labelled: 0 cats and 0 dogs.")
    assert visitor.chosen() == "cat"
    visitor.click(*ON_TAIL)
    visitor.expect("Selected: cat, ")
    visitor.press("Save and next")
    visitor.expect_progress("2 of 7: b.png. Labelled: 1 cat and 0 dogs.")
    visitor.press("Skip")
    visitor.expect_progress("4 of 7: c.jpg.")  # bad.jpg cannot be read
    assert visitor.chosen() == "dog" and "Left out: bad.jpg is not a picture" in visitor.progress
    visitor.press("No pet here")
    visitor.expect_progress("5 of 7: more/a.png. Labelled: 1 cat and 0 dogs, 1 without a pet.")
    visitor.press("Back")
    visitor.expect("Saved before without a pet; saving replaces that. Proposed: dog, ")
    visitor.page.get_by_label("Breed").fill("Jack Russell")
    visitor.press("Save and next")  # it was a dog after all
    visitor.press("Save and next")
    visitor.press("Save and next")
    visitor.expect_progress("7 of 7: more/turned.png. Labelled: 2 cats and 2 dogs.")
    visitor.choose("cat")
    visitor.press_last("Save and next")
    visitor.expect("That was all. Skipped: 1; they come again the next time.")
    visitor.press_last("Back")
    visitor.expect("Saved before as a cat; ")
    visitor.choose("dog")
    visitor.press_last("Save and next")
    visitor.expect("That was all. Skipped: 1")
    visitor.page.reload()
    visitor.wait_for_picture("")
    visitor.expect_progress("2 of 7: b.png.")
    visitor.press_last("Save and next")
    visitor.expect("That was all. Now: petseg data audit ")
    visitor.window.close()
    assert not visitor.errors and all(url.startswith((address, "data:", "blob:")) for url in visitor.asked)

    out = tmp_path / "set"
    tail = np.asarray(Image.open(out / "annotations" / "trimaps" / "Cat_1.png"))[int(0.4 * 300), int(0.55 * 400)]
    assert tail == 1
    petseg = [sys.executable, "-m", "petseg_utils"]
    run = subprocess.run([*petseg, "data", "audit", str(out)], capture_output=True, text=True)
    assert run.returncode == 0 and "official layout" in run.stdout and "0 errors\n0 warnings" in run.stdout, run.stdout
    monkeypatch.setenv("PETSEG_RUNS", str(tmp_path / "runs"))
    train = [*petseg, "train", "decoder", "--study", "smoke", "--data", str(out)]
    run = subprocess.run(train, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert list((tmp_path / "runs").rglob("decoder-seed0/*.safetensors"))


# The widget


@pytest.fixture
def demo(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Segmenter, "load", lambda name: fake_segmenter())
    begun = []

    def begin():
        begun.append(label_photos(folder, tmp_path / "set"))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()


def test_the_widget_labels_the_same_way(demo, tmp_path):
    one = demo()
    assert one.progress.value.startswith("1 of 7: a.png.") and one.canvas.size == [400, 300] and not one.canvas.uploads
    assert one.species.value == "cat" and one.canvas.said.startswith("Proposed: cat, ")
    said = {"kind": "click", "points": [[ON_TAIL[0] * 400, ON_TAIL[1] * 300]], "positive": True, "number": 1}
    one.canvas._handle_custom_msg(said, [])
    assert one.canvas.said.startswith("Selected: cat, ") and one.canvas.answered == 1
    mask = one.photo.alpha() > 127
    one.breed.value = "Tabby"
    one.save.click()
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "set" / "annotations" / "trimaps" / "Tabby_1.png")), trimap(mask)
    )
    assert one.progress.value.startswith("2 of 7: b.png. Labelled: 1 cat") and one.canvas.prompts == []
    one.back.click()
    assert one.canvas.said.startswith("Saved before as a cat; ") and len(one.canvas.prompts) == 1
    one.back.click()
    assert one.canvas.said == "This is the first photo." and one.breed.value == "Tabby"
    one.skip.click()
    one.skip.click()
    assert one.canvas.size == [300, 200] and one.species.value == "dog" and one.breed.value == ""
    one.no_pet.click()
    again = demo()  # the cell was run once more: the earlier one lets go
    assert again.progress.value.startswith("2 of 7: b.png. Labelled: 1 cat and 0 dogs, 1 without a pet.")
    assert one.comm is None
    while again.walk.photo:
        again.save.click()
    assert again.canvas.said.startswith("That was all.") and again.progress.value.startswith("All photos were shown.")
    again.canvas._handle_custom_msg(said, [])
    again.save.click()
    again.undo.click()
    again.clear.click()
    assert again.canvas.said.startswith("That was all.") and again.canvas.answered == 1
    again.back.click()
    assert again.canvas.said.startswith("Saved before as a dog; ")
    assert audit(tmp_path / "set", progress=False)["errors"] == []
    again.close()
    assert not (tmp_path / "set" / LOCK).exists()


def test_the_widget_says_where_there_is_nothing_to_label(demo, tmp_path):
    save_all(demo().walk)
    done = demo()
    assert done.canvas.said.startswith("That was all.") and done.walk.photo is None
