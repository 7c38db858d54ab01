"""The click demo: what the canvas tells becomes prompts and masks; and JupyterLab itself, in a browser."""

import base64
import io
import json
import os
import socket
import struct
import subprocess
import sys
import textwrap
import time
import urllib.request
from contextlib import contextmanager

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image, ImageFile
from pycocotools import mask as run_lengths
from skimage.data import chelsea

from petseg_utils.apps.labelling import trimap
from petseg_utils.apps.page_state import SWITCH, heard_prompt
from petseg_utils.apps.widget import click_demo, show_demo
from petseg_utils.data.labels import CLASS_COLOURS
from petseg_utils.data.transforms import Letterbox
from petseg_utils.models.prompts import Box, Click, Scribble, draw_prompts
from petseg_utils.segmenter import Segmenter, moved
from petseg_utils.study import ROOT, PetsegError
from tests.apps.fake_point import ON_CAT, ON_DOG, ON_GROUND, ON_TAIL, cat_and_dog, fake_segmenter, selected_places

CLICK = {"kind": "click", "points": [[200.25, 150.5]], "positive": True}
AWAY = {"kind": "click", "points": [[430, 20]], "positive": False}
STROKE = {"kind": "scribble", "points": [[150, 100], [160, 104.5], [171, 110]], "positive": True}
BOX = {"kind": "box", "points": [[20, 10], [330, 290]], "positive": True}


@pytest.fixture(scope="module")
def loaded():
    """Each model once for all tests; a demo of its own would load it anew."""
    return {name: Segmenter.load(name) for name in ("point", "decoder")}


@pytest.fixture
def demo(loaded, monkeypatch):
    monkeypatch.setattr(Segmenter, "load", loaded.__getitem__)
    return click_demo({"upright": chelsea()[:, :200]})


def tell(demo, *messages, **more):
    """What the browser sends; each message gets the next number."""
    for message in messages:
        buffers = [message["content"]] if "content" in message else []
        said = {key: value for key, value in message.items() if key != "content"}
        demo.canvas._handle_custom_msg(said | {"number": demo.canvas.answered + 1} | more, buffers)


def mask_on_screen(demo) -> np.ndarray:
    width, height = demo.canvas.shown
    bits = np.unpackbits(np.frombuffer(demo.canvas.mask, np.uint8), count=width * height)
    return bits.reshape(height, width).astype(bool)


@pytest.fixture
def painted(monkeypatch):
    """The demo on a painted cat whose tail is not proposed, and a dog; its models are fake ones, which go by colour."""
    point = fake_segmenter()
    fakes = {"point": point, "decoder": fake_segmenter()}
    fakes["decoder"].card["model"], fakes["decoder"].model.takes_prompts = "decoder", False
    monkeypatch.setattr(Segmenter, "load", fakes.__getitem__)
    demo = click_demo({"painted": cat_and_dog()})
    demo.photo_names.value = "painted"
    return demo


def tap(demo, place: tuple[float, float], positive: bool = True) -> list[bool]:
    """Click at a part of the photo; gives what is selected then of tail, cat, dog and ground."""
    width, height = demo.canvas.size
    tell(demo, {"kind": "click", "points": [[place[0] * width, place[1] * height]], "positive": positive})
    return selected_places(mask_on_screen(demo))


def upload(demo, name: str, content: bytes, parts: int = 1):
    for number, part in enumerate(np.array_split(np.frombuffer(content, np.uint8), parts)):
        more = {"first": number == 0, "last": number == parts - 1}
        tell(demo, {"kind": "file", "name": name, "content": memoryview(part.tobytes())} | more)


def as_file(image: np.ndarray, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, kind)
    return out.getvalue()


def test_what_the_canvas_tells_reaches_the_model_as_training_draws_it(demo, loaded, monkeypatch):
    seen, select = [], loaded["point"].model.select

    def heard(photo, prompts, *signs):
        seen.append(prompts)
        return select(photo, prompts, *signs)

    monkeypatch.setattr(loaded["point"].model, "select", heard)
    tell(demo, BOX, CLICK, AWAY, STROKE)
    size = loaded["point"].card["image_size"]
    box = Letterbox(300, 451, size)
    prompts = [Box(20, 10, 330, 290), Click(200.25, 150.5), Click(430, 20, False)]
    prompts += [Scribble(((150, 100), (160, 104.5), (171, 110)))]
    assert demo.photo.prompts == prompts
    for number, maps in enumerate(seen, start=1):
        drawn = draw_prompts([moved(prompt, box) for prompt in prompts[:number]], size)
        assert np.array_equal(maps[0, :3], drawn[:3])
    assert len(seen) == 4 and drawn[0].max() > 0.9 and drawn[1].max() > 0.9


def test_each_prompt_shows_the_models_mask_and_says_what_is_selected(demo, loaded):
    photo = loaded["point"].open(chelsea())
    width, height = demo.canvas.shown
    assert (width, height) == (800, 532) and demo.canvas.size == [451, 300]
    assert "Proposed" in demo.canvas.said
    for message, prompt in ((CLICK, Click(200.25, 150.5)), (BOX, Box(20, 10, 330, 290)), (AWAY, Click(430, 20, False))):
        tell(demo, message)
        photo.add(prompt)
        np.testing.assert_array_equal(mask_on_screen(demo), photo.mask_at(height, width))
        assert demo.canvas.said.startswith(f"Selected: {photo.label}, {photo.share:.1%}")
        assert demo.canvas.colour == CLASS_COLOURS[photo.label]
    assert demo.canvas.prompts[0] == {"kind": "click", "points": [(200.25, 150.5)], "positive": True}
    assert demo.canvas.answered == 3


def test_undo_takes_one_prompt_back_and_clear_all(demo):
    masks = [demo.canvas.mask]
    for message in (CLICK, AWAY, STROKE):
        tell(demo, message)
        masks.append(demo.canvas.mask)
    demo.undo.click()
    assert demo.canvas.mask == masks[2] and len(demo.canvas.prompts) == 2
    demo.clear.click()
    assert demo.canvas.mask == masks[0] and demo.canvas.prompts == []
    demo.undo.click()  # nothing to take back
    assert demo.canvas.mask == masks[0]


def test_a_click_on_a_missed_part_adds_it_and_the_pet_stays_what_is_spoken_of(painted):
    before = mask_on_screen(painted)
    assert selected_places(before) == [False, True, True, False] and painted.canvas.said.startswith("Proposed: cat, ")
    assert tap(painted, ON_TAIL) == [True, True, True, False] and not (before & ~mask_on_screen(painted)).any()
    assert painted.canvas.said.startswith("Selected: cat, ") and painted.canvas.colour == CLASS_COLOURS["cat"]
    assert tap(painted, ON_GROUND) == [True, True, True, True] and painted.canvas.said.startswith("Selected: cat, ")
    assert tap(painted, ON_GROUND, positive=False) == [True, True, True, False]
    tell(painted, {"kind": "box", "points": [[260, 150], [390, 299]], "positive": True})
    assert selected_places(mask_on_screen(painted)) == [False, False, True, False]
    assert painted.canvas.said.startswith("Selected: dog, ")
    tap(painted, ON_CAT)
    assert painted.canvas.said.endswith(" The last click lies outside the box.")


def test_with_the_switch_on_the_first_click_says_what_is_wanted(painted):
    tap(painted, ON_TAIL)
    painted.switch.value = True
    assert painted.canvas.said == (
        "Your clicks were cleared, because a click means something else now. "
        "Click on what you want: one of the pets, or the background."
    )
    assert painted.canvas.prompts == [] and selected_places(mask_on_screen(painted)) == [False, True, True, False]
    assert tap(painted, ON_DOG) == [False, False, True, False] and painted.canvas.said.startswith("Selected: dog, ")
    painted.undo.click()
    assert tap(painted, ON_GROUND)[1:] == [False, False, True]
    assert painted.canvas.said.startswith("Selected: background, ")
    assert painted.canvas.colour == CLASS_COLOURS["background"]
    painted.photo_names.value = "Chelsea"
    assert painted.photo.target == "clicked"
    painted.models.value = "decoder"
    painted.switch.value = False
    assert painted.photo.target == "pet" and painted.canvas.said.startswith("Proposed: cat, ")
    painted.switch.value = True
    assert painted.canvas.said.startswith("Proposed: cat, ")  # this model takes no clicks, so there is nothing to do


def test_another_model_shows_its_mask_and_the_first_one_keeps_its_prompts(demo, loaded):
    tell(demo, CLICK)
    before = demo.canvas.mask
    demo.models.value = "decoder"
    np.testing.assert_array_equal(mask_on_screen(demo), loaded["decoder"].open(chelsea()).mask_at(532, 800))
    assert demo.canvas.prompts == []
    tell(demo, AWAY)
    assert "takes no clicks" in demo.canvas.said and demo.canvas.answered == 2
    demo.models.value = "point"
    assert demo.canvas.mask == before and len(demo.canvas.prompts) == 1


def test_a_model_is_loaded_once_and_only_when_it_is_chosen(loaded, monkeypatch):
    asked = []
    monkeypatch.setattr(Segmenter, "load", lambda name: asked.append(name) or loaded[name])
    demo = click_demo()
    assert asked == ["point"]
    for name in ("decoder", "point", "decoder"):
        demo.models.value = name
    assert asked == ["point", "decoder"]


def test_a_model_without_weights_is_named_and_left_again(loaded, monkeypatch):
    def load(name):
        if name != "point":
            raise PetsegError(f"No weights ship for {name}.")
        return loaded[name]

    monkeypatch.setattr(Segmenter, "load", load)
    demo = click_demo(models=("point", "unet"))
    demo.models.value = "unet"
    assert demo.canvas.said == "No weights ship for unet." and demo.models.value == "point"
    tell(demo, CLICK)
    assert "Selected" in demo.canvas.said or "Nothing" in demo.canvas.said


def test_another_photo_starts_afresh(demo):
    tell(demo, CLICK)
    demo.photo_names.value = "upright"
    assert demo.canvas.size == [200, 300] and demo.canvas.shown == [533, 800] and demo.canvas.prompts == []
    assert mask_on_screen(demo).shape == (800, 533)
    assert Image.open(io.BytesIO(demo.canvas.picture)).size == (200, 300)


def test_a_point_outside_the_photo_is_refused_in_words(demo):
    before = demo.canvas.mask
    tell(demo, CLICK | {"points": [[451.5, 10]]})
    assert "outside the photo" in demo.canvas.said and demo.canvas.answered == 1
    assert demo.canvas.mask == before and demo.canvas.prompts == []


@pytest.mark.parametrize("parts", [1, 3])
def test_an_uploaded_photo_is_chosen_and_can_be_clicked(demo, parts):
    large = np.tile(chelsea(), (4, 4, 1))  # 1804 x 1200: more than the canvas shows
    upload(demo, "my cat.png", as_file(large, "PNG"), parts)
    assert demo.photo_names.value == "my cat.png" and demo.canvas.size == [1804, 1200]
    assert Image.open(io.BytesIO(demo.canvas.picture)).size == (800, 532)
    tell(demo, CLICK | {"points": [[1803, 1199]]})
    assert len(demo.canvas.prompts) == 1
    upload(demo, "my cat.png", as_file(chelsea(), "PNG"))  # another one of the same name
    assert demo.canvas.size == [451, 300] and len(demo.photo_names.options) == 4


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", b"not a picture"),
        ("empty.jpg", b""),
        ("cut.jpg", as_file(chelsea(), "JPEG")[:5000]),
        ("moving.gif", as_file(chelsea()[..., 0], "GIF")),
    ],
)
def test_a_bad_upload_gets_a_sentence_and_the_demo_goes_on(demo, name, content):
    tell(demo, CLICK)
    before = demo.canvas.mask
    upload(demo, name, content)
    assert demo.canvas.said.startswith(name) and demo.canvas.said.endswith(".")
    assert "Traceback" not in demo.canvas.said and "Errno" not in demo.canvas.said
    assert demo.photo_names.value == "Chelsea" and demo.canvas.mask == before
    tell(demo, AWAY)
    assert len(demo.canvas.prompts) == 2 and demo.canvas.said.startswith("Selected")


@pytest.mark.parametrize("name", [f"{'猫' * 100}.png", "../../cat.png", "a\0b.png", "", "cat\nand dog.png"])
def test_an_upload_may_be_called_whatever_it_likes(demo, name):
    upload(demo, name, as_file(chelsea()[:200], "PNG"))
    assert demo.photo_names.value == name and demo.canvas.size == [451, 200]
    upload(demo, f"{'猫' * 100}.txt", b"no picture")
    assert demo.canvas.said.startswith("猫猫") and "is not a picture" in demo.canvas.said


@pytest.mark.parametrize("error", [struct.error("cut"), TypeError("no number"), KeyError(7), MemoryError()])
def test_whatever_a_decoder_raises_of_an_upload_is_said(demo, monkeypatch, error):
    def fail(_):
        raise error

    content = as_file(chelsea(), "PNG")
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    upload(demo, "cat.png", content)
    assert demo.canvas.said.startswith("cat.png ") and demo.photo_names.value == "Chelsea"


def test_mask_and_cut_out_are_saved_at_the_photos_own_size(demo, monkeypatch):
    files = {}
    monkeypatch.setattr(demo.canvas, "send", lambda said, buffers: files.update({said["name"]: buffers[0]}))
    tell(demo, CLICK)
    demo.save_mask.click()
    demo.save_cutout.click()
    mask, cutout = (Image.open(io.BytesIO(files[f"Chelsea_{what}.png"])) for what in ("mask", "cut-out"))
    assert mask.mode == "L" and cutout.mode == "RGBA" and mask.size == cutout.size == (451, 300)
    alpha = np.asarray(cutout)[..., 3]
    assert ((np.asarray(mask) > 0) == demo.photo.mask).mean() > 0.97
    np.testing.assert_array_equal(np.asarray(mask), np.where(alpha > 127, 255, 0))
    np.testing.assert_array_equal(np.asarray(cutout)[alpha == 255][:, :3], chelsea()[alpha == 255])
    assert not np.asarray(cutout)[alpha == 0].any()
    demo.save_coco.click()
    written = json.loads(bytes(files["Chelsea_coco.json"]))
    assert (run_lengths.decode(written["annotations"][0]["segmentation"]) * 255 == np.asarray(mask)).all()
    assert written["categories"][written["annotations"][0]["category_id"] - 1]["name"] == demo.photo.label


def test_a_photo_of_another_form_is_refused():
    with pytest.raises(PetsegError, match="'grey' is float64"):
        click_demo({"grey": np.zeros((4, 4))})


def test_the_still_picture_shows_photo_mask_and_cut_out(loaded):
    prompts = [Click(220, 150), Click(20, 20, False), Box(100, 20, 400, 290), Scribble(((200, 200), (260, 210)))]
    figure = show_demo(loaded["point"], chelsea(), prompts)
    photo, over, cutout = figure.axes
    mask = loaded["point"].open(chelsea())
    for prompt in prompts:
        mask.add(prompt)
    np.testing.assert_array_equal(photo.images[0].get_array(), chelsea())
    np.testing.assert_array_equal(over.images[1].get_array()[..., 3] > 0, mask.mask)
    assert len(over.lines) == len(prompts) and mask.label in over.get_title("left")
    whole = mask.alpha() == 255
    np.testing.assert_array_equal(cutout.images[0].get_array()[whole], chelsea()[whole])
    with pytest.raises(PetsegError, match="outside the photo"):
        show_demo(loaded["point"], chelsea(), [Click(900, 5)])


# The rest runs JupyterLab in a browser.

MARK = (61, 50)  # centre of a white square of 3 x 3 pixels on a dark photo: seen on the screen at any size
SHOW = f"""
    from skimage.data import chelsea
    from petseg_utils.apps.widget import click_demo
    photo = chelsea()[::3, ::3] // 2
    photo[{MARK[1]} - 1:{MARK[1]} + 2, {MARK[0]} - 1:{MARK[0]} + 2] = 255
    demo = click_demo({{"marked": photo}})
    demo.photo_names.value = "marked"
    demo
"""
PAINTED = """
    from petseg_utils.apps.widget import click_demo
    from petseg_utils.segmenter import Segmenter
    from tests.apps.fake_point import cat_and_dog, fake_segmenter
    segmenter = fake_segmenter()
    Segmenter.load = lambda name: segmenter
    demo = click_demo({"painted": cat_and_dog()})
    demo.photo_names.value = "painted"
    demo
"""
LABEL = """
    import pathlib
    from PIL import Image
    from petseg_utils.apps.label_widget import label_photos
    from petseg_utils.segmenter import Segmenter
    from tests.apps.fake_point import cat_and_dog, fake_segmenter
    Segmenter.load = lambda name: fake_segmenter()
    pathlib.Path("photos").mkdir()
    for name, size in (("a", (400, 300)), ("b", (200, 150)), ("c", (300, 225))):
        Image.fromarray(cat_and_dog()).resize(size).save(f"photos/{name}.png")
    label_photos("photos", "set")
"""
LISTEN = """
    import json, os
    import ipywidgets, numpy as np
    from petseg_utils.apps.widget import ClickDemo
    demo, = [shown for shown in ipywidgets.widgets.widget._instances.values() if isinstance(shown, ClickDemo)]
    def note(change):
        width, height = demo.canvas.shown
        np.save("mask.npy", demo.photo.mask_at(height, width))
        with open("note.part", "w") as file:
            json.dump({name: getattr(demo.canvas, name) for name in ("prompts", "colour", "size")}, file)
        os.replace("note.part", "note.json")
    demo.canvas.observe(note, ["prompts", "size"])
    note(None)
"""
# Cells that are run before the kernel answers stay as they are.
RUN_ALL = """async () => {
    const context = window.jupyterapp.shell.currentWidget.sessionContext;
    await context.ready;
    await context.session.kernel.info;
    window.jupyterapp.commands.execute("notebook:run-all-cells");
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address and folder of a JupyterLab that asks nothing of the network and shares no settings with the user's."""
    folder = tmp_path_factory.mktemp("lab")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    own += ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment = os.environ | {name: str(folder / "own" / name) for name in own}
    environment |= {"PETSEG_STUDY": "smoke", "PETSEG_RUNS": str(folder / "runs")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    settings = folder / "own" / "JUPYTERLAB_SETTINGS_DIR" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    (folder / "root").mkdir()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder / 'root'}"]
    command += ["--LabApp.extension_manager=readonly", "--LabApp.expose_app_in_browser=True"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/api", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.5)
        yield url, folder / "root"
    finally:
        process.terminate()
        process.wait(30)


class Open:
    """A notebook that runs in a browser, with the demo on screen."""

    def __init__(self, page, folder):
        self.page, self.folder = page, folder
        self.canvas = page.locator(".petseg-demo canvas")

    def note(self) -> dict:
        """What Python wrote down last."""
        return json.loads((self.folder / "note.json").read_text())

    def heard(self, count: int) -> list[dict]:
        """The prompts that Python has recorded, once they are as many."""
        return wait(lambda: self.note()["prompts"], lambda prompts: len(prompts) == count)

    def resize(self, width: int, height: int):
        """Give the window another size, and wait until the page has followed."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.canvas.scroll_into_view_if_needed()
        look = self.canvas.bounding_box
        wait(lambda: (look(), self.page.wait_for_timeout(300), look()), lambda boxes: boxes[0] == boxes[2])

    def press(self, name: str):
        self.page.locator(".widget-button, .widget-toggle-button").get_by_text(name, exact=True).click()

    def set_opacity(self, key: str):
        """``Home`` to see no mask, ``End`` to see nothing under it."""
        self.page.locator(".noUi-handle").press(key)
        self.canvas.scroll_into_view_if_needed()

    def spot(self, x: float, y: float) -> tuple[float, float]:
        """Where on the page the photo's point is."""
        self.canvas.scroll_into_view_if_needed()
        box, (width, height) = self.canvas.bounding_box(), self.note()["size"]
        return box["x"] + (x + 0.5) / width * box["width"], box["y"] + (y + 0.5) / height * box["height"]

    def drag(self, start, *stops):
        """Press at a point of the photo, move through others, and let go."""
        self.page.mouse.move(*self.spot(*start))
        self.page.mouse.down()
        for stop in stops:
            self.page.mouse.move(*self.spot(*stop))
        self.page.mouse.up()

    def selected(self) -> np.ndarray:
        """The canvas's pixels that show the mask, at full opacity, once they are those that Python has."""

        def look():
            url = self.canvas.evaluate("canvas => canvas.toDataURL()")
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))
            colour = self.note()["colour"]
            return (pixels == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(-1)

        def good(seen):
            differs = seen != np.load(self.folder / "mask.npy")
            scale, unit = seen.shape[1] / self.note()["size"][0], seen.shape[1] / self.canvas.bounding_box()["width"]
            for prompt in self.note()["prompts"]:  # its dot hides the mask
                (x, y), (rows, columns) = np.add(prompt["points"][0], 0.5) * scale, np.indices(seen.shape)
                differs &= np.hypot(columns - x, rows - y) > 12 * unit
            return not differs.any()

        return wait(look, good)


def wait(look, good, seconds: float = 120):
    """What `look` gives, once it is good."""
    end = time.monotonic() + seconds
    while not good(found := look()):
        assert time.monotonic() < end, found
        time.sleep(0.1)
    return found


def white_mark(page) -> tuple[float, float]:
    """Centre of the white square on the screen, in CSS pixels, found in a screenshot."""
    ratio, box = page.evaluate("devicePixelRatio"), page.locator(".petseg-demo canvas").bounding_box()
    shot = np.array(Image.open(io.BytesIO(page.screenshot())).convert("L"))
    inside = np.zeros_like(shot)
    top, left, high, wide = (round(ratio * box[key]) for key in ("y", "x", "height", "width"))
    inside[top + 2 : top + high - 2, left + 2 : left + wide - 2] = 1  # what is round the canvas is white too
    rows, columns = np.nonzero((shot > 200) & (inside > 0))
    return (columns.mean() + 0.5) / ratio, (rows.mean() + 0.5) / ratio


@contextmanager
def run_in_lab(lab, browser, name: str, book: nbformat.NotebookNode):
    """Run all cells of a notebook, and one that writes down what Python hears; gives it with the demo on screen."""
    url, folder = lab[0], lab[1] / name
    folder.mkdir()
    book.cells.append(new_code_cell(textwrap.dedent(LISTEN).strip()))
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, folder / "book.ipynb")
    context = browser.new_context(device_scale_factor=1.5, has_touch=True)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(f"{url}/doc/tree/{name}/book.ipynb")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    page.evaluate(RUN_ALL)
    error = page.locator("[data-mime-type='application/vnd.jupyter.error']")
    wait(lambda: (error.all_inner_texts(), (folder / "note.json").exists()), any, 400)
    assert not error.count(), error.all_inner_texts()
    yield Open(page, folder)
    context.close()


@pytest.fixture(scope="module")
def notebook(lab, browser):
    """A small notebook with the demo, on a photo whose pixels are known."""
    with run_in_lab(lab, browser, "small", new_notebook(cells=[new_code_cell(textwrap.dedent(SHOW).strip())])) as shown:
        yield shown


@pytest.fixture
def opened(notebook):
    """The demo, on which nobody has clicked yet."""
    notebook.press("Clear")
    notebook.heard(0)
    return notebook


@pytest.mark.parametrize(("width", "height"), [(1280, 1000), (820, 640), (390, 844)])
def test_in_jupyterlab_a_click_lands_on_the_pixel_under_the_pointer_and_the_mask_follows(opened, width, height):
    page = opened.page
    opened.resize(width, height)
    opened.set_opacity("Home")
    page.mouse.click(*white_mark(page))
    (prompt,) = opened.heard(1)
    assert prompt["kind"] == "click" and prompt["positive"]
    assert tuple(np.round(prompt["points"][0]).astype(int)) == MARK
    opened.set_opacity("End")
    first = opened.selected()
    page.mouse.click(*opened.spot(120, 20), button="right")
    assert not opened.heard(2)[1]["positive"]
    assert (opened.selected() != first).any()


def test_in_jupyterlab_strokes_boxes_and_touch(opened):
    page = opened.page
    opened.resize(390, 844)
    page.touchscreen.tap(*opened.spot(20, 70))
    opened.press("scribble")
    opened.press("remove")
    opened.drag((20, 20), (60, 20), (60, 40))
    opened.press("box")
    opened.drag((120, 90), (10, 10))
    tap, stroke, box = opened.heard(3)
    opened.press("click")
    opened.press("add")
    assert tap["kind"] == "click" and np.abs(np.subtract(tap["points"][0], (20, 70))).max() < 0.5
    assert stroke["kind"] == "scribble" and not stroke["positive"]
    steps = np.hypot(*np.diff(stroke["points"], axis=0).T)
    assert len(steps) >= 15 and steps.max() < 151 / 50 + 1e-6  # as close together as in training
    assert box["kind"] == "box" and np.abs(np.subtract(box["points"], [(120, 90), (10, 10)])).max() < 0.5
    opened.press("Undo")
    opened.heard(2)


def test_in_jupyterlab_a_photo_is_uploaded_and_its_cut_out_saved(opened, tmp_path):
    page = opened.page
    opened.resize(1280, 1000)
    chooser = page.locator(".petseg-demo input[type=file]")
    chooser.set_input_files({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"})
    page.get_by_text("notes.txt is not a picture").wait_for()
    noise = np.random.default_rng(0).integers(0, 255, (1500, 2500, 3), dtype=np.uint8)
    content = as_file(noise, "PNG")
    assert len(content) > 10 * 2**20  # more than Jupyter's server takes in one message
    chooser.set_input_files({"name": "noise.png", "mimeType": "image/png", "buffer": content})
    wait(lambda: opened.note()["size"], lambda size: size == [2500, 1500])
    page.mouse.click(*opened.spot(1250, 750))
    opened.heard(1)
    with page.expect_download() as saved:
        opened.press("Save cut-out")
    saved.value.save_as(tmp_path / "cut-out.png")
    cutout = Image.open(tmp_path / "cut-out.png")
    assert saved.value.suggested_filename == "noise_cut-out.png"
    assert cutout.mode == "RGBA" and cutout.size == (2500, 1500)
    pixels = np.asarray(cutout)
    whole, clear = pixels[..., 3] == 255, pixels[..., 3] == 0
    np.testing.assert_array_equal(pixels[whole][:, :3], noise[whole])
    assert not pixels[clear].any() and clear.any()


def test_in_jupyterlab_a_click_on_a_missed_part_grows_the_selection(lab, browser):
    book = new_notebook(cells=[new_code_cell(textwrap.dedent(PAINTED).strip())])
    with run_in_lab(lab, browser, "painted", book) as opened:
        opened.resize(1280, 1000)
        opened.set_opacity("End")
        page, status = opened.page, opened.page.locator(".petseg-demo [role=status]")

        def click(place: tuple[float, float], **options) -> np.ndarray:
            count = len(opened.note()["prompts"])
            page.mouse.click(*opened.spot(400 * place[0], 300 * place[1]), **options)
            opened.heard(count + 1)
            opened.selected()  # the canvas shows what Python has
            return np.load(opened.folder / "mask.npy")

        opened.selected()
        proposed = np.load(opened.folder / "mask.npy")
        grown = click(ON_TAIL)
        assert selected_places(proposed) == [False, True, True, False]
        assert selected_places(grown) == [True, True, True, False] and not (proposed & ~grown).any()
        status.get_by_text("Selected: cat, ").wait_for()
        less = click(ON_TAIL, button="right")
        assert selected_places(less) == [False, True, True, False] and not (less & ~grown).any()
        page.get_by_text(SWITCH, exact=True).click()
        status.get_by_text("Your clicks were cleared").wait_for()
        opened.heard(0)
        assert selected_places(click(ON_DOG)) == [False, False, True, False]
        status.get_by_text("Selected: dog, ").wait_for()
        opened.press("Clear")
        opened.heard(0)
        assert selected_places(click(ON_GROUND))[1:] == [False, False, True]
        status.get_by_text("Selected: background, ").wait_for()


@pytest.mark.long
def test_the_demo_of_notebook_05_can_be_clicked_in_jupyterlab(lab, browser):
    book = nbformat.read(ROOT / "notebooks" / "05_point_prompt.ipynb", as_version=4)
    with run_in_lab(lab, browser, "05", book) as opened:
        opened.resize(1280, 1000)
        opened.set_opacity("End")
        opened.page.mouse.click(*opened.spot(200, 150))
        (prompt,) = opened.heard(1)
        assert np.abs(np.subtract(prompt["points"][0], (200, 150))).max() < 0.5
        assert opened.selected().any()


def test_photos_are_labelled_in_a_notebook(lab, browser):
    with run_in_lab(
        lab, browser, "label", new_notebook(cells=[new_code_cell(textwrap.dedent(LABEL).strip())])
    ) as opened:
        folder, page = opened.folder, opened.page
        assert not page.get_by_text("Upload a photo").is_visible()
        page.get_by_text("1 of 3: a.png. Labelled: 0 cats and 0 dogs.").wait_for()
        page.mouse.click(*opened.spot(ON_TAIL[0] * 400, ON_TAIL[1] * 300))
        (said,) = opened.heard(1)
        opened.press("Save and next")
        page.get_by_text("2 of 3: b.png. Labelled: 1 cat and 0 dogs.").wait_for()
        wait(lambda: opened.note()["size"], lambda size: size == [200, 150])
        opened.press("dog")
        opened.press("Save and next")
        page.get_by_text("3 of 3: c.png. Labelled: 1 cat and 1 dog.").wait_for()
    written = np.asarray(Image.open(folder / "set" / "annotations" / "trimaps" / "Cat_1.png"))
    photo = fake_segmenter().open(cat_and_dog()).add(heard_prompt(said))
    np.testing.assert_array_equal(written, trimap(photo.alpha() > 127))
    assert (folder / "set" / "images" / "dog_1.jpg").is_file()
