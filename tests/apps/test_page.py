"""The demo page: what its functions answer; and the page itself, in a browser."""

import html
import io
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import tracemalloc
import urllib.request
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image, ImageColor, ImageFile
from pycocotools.coco import COCO
from skimage.data import chelsea

from petseg_utils import segmenter
from petseg_utils.apps import page as app
from petseg_utils.apps import page_folder, page_state
from petseg_utils.apps.page_state import SWITCH, Work
from petseg_utils.apps.serving import serving
from petseg_utils.data.datasets import DataError
from petseg_utils.data.drawing.breeds import BREEDS
from petseg_utils.data.drawing.pictures import draw_pet
from petseg_utils.models.cards import SHIPPED
from petseg_utils.models.prompts import Box, Click, deepest_click
from petseg_utils.scores.clicks import DEEP
from petseg_utils.segmenter import MAX_PIXELS, OpenPhoto, Segmenter, read_photo
from petseg_utils.study import ROOT, PetsegError
from tests.apps.fake_point import ON_CAT, ON_DOG, ON_GROUND, ON_TAIL, cat_and_dog, fake_segmenter, selected_places

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio")  # gradio's own, by what pandas it meets
LOOK = ("by class", 0.5)
GREEN, RED = map(ImageColor.getrgb, (page_state.GREEN, page_state.RED))
CLEARED = "Your clicks were cleared, because a click means something else now."
NOISE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


def write(path: Path, image: np.ndarray | Image.Image, **options) -> Path:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def assert_cut_out(cutout: np.ndarray, image: np.ndarray, mask: np.ndarray) -> None:
    """The photo where it is opaque; where it is clear nothing of it, not even under the transparency."""
    alpha = cutout[..., 3]
    np.testing.assert_array_equal(alpha > 127, mask > 0)
    np.testing.assert_array_equal(cutout[alpha == 255][:, :3], image[alpha == 255])
    assert (alpha == 255).any() and not cutout[alpha == 0].any()


def text(said: str) -> str:
    """What is said, without its HTML."""
    return html.unescape(re.sub("<[^>]*>", "", said))


def opened(path: Path, model: str = "point") -> Work:
    return app.open_file(str(path), None, model, *LOOK)[0]


@pytest.fixture
def work(tmp_path) -> Work:
    """Chelsea, opened in the point model."""
    return opened(write(tmp_path / "chelsea.png", chelsea()))


@pytest.fixture
def tailless(tmp_path, monkeypatch) -> Path:
    """A painted cat whose tail is not proposed, and a dog; every model is a fake one, which proposes by colour."""
    segmenter = fake_segmenter()
    monkeypatch.setattr(app, "load_model", lambda name: segmenter)
    return write(tmp_path / "tailless.png", cat_and_dog())


# Files


def bad_file(kind: str, folder: Path) -> Path:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, "PNG")
    if kind == "large":
        return write(folder / "large.png", Image.new("1", (10_000, MAX_PIXELS // 10_000 + 1)))
    if kind == "huge":  # past what Pillow itself lets through
        return write(folder / "huge.png", Image.new("1", (20_000, 20_000)))
    if kind == "gif":
        return write(folder / "gif.jpg", NOISE, format="GIF")
    content = {"text": b"hello", "empty": b"", "damaged": buffer.getvalue()[:-500]}[kind]
    (folder / f"{kind}.png").write_bytes(content)
    return folder / f"{kind}.png"


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("text", "text.png is not a picture, or is damaged: use a JPEG, PNG, WebP, BMP or TIFF photo."),
        ("empty", "empty.png is not a picture"),
        ("damaged", "damaged.png is damaged: save it anew"),
        ("gif", "gif.jpg is in the format GIF: use a JPEG"),
        ("large", "large.png has more than 52 megapixels: make it smaller"),
        ("huge", "huge.png has more than 52 megapixels: make it smaller"),
    ],
)
def test_a_bad_file_gets_a_sentence_and_what_was_open_stays(kind, why, tmp_path, work):
    work.click("yes", 400, 300)
    after, picture, said, *_ = app.open_file(str(bad_file(kind, tmp_path)), work, "point", *LOOK)
    assert text(said).startswith(why) and said.startswith('<p role="alert">')
    assert after is work and len(work.photo.prompts) == 1 and Path(picture).is_file()
    nothing, picture, said, *_ = app.open_file(str(bad_file(kind, tmp_path)), None, "point", *LOOK)
    assert nothing is None and picture == gr.skip() and text(said).startswith(why)


def test_a_photo_is_not_decoded_before_its_size_is_known(tmp_path, monkeypatch):
    path = bad_file("large", tmp_path)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    with pytest.raises(DataError, match="52 megapixels"):
        read_photo(path)


def test_a_missing_file_gets_a_sentence(tmp_path):
    with pytest.raises(DataError, match=r"cat\.jpg does not exist or is not a file: check its name\."):
        read_photo(tmp_path / "cat.jpg")


def test_transparency_is_laid_on_white_and_depth_becomes_eight_bits(tmp_path):
    clear = np.dstack([NOISE, np.where(np.arange(40) < 20, 0, 255)[None].repeat(30, 0)]).astype(np.uint8)
    read = read_photo(write(tmp_path / "clear.png", clear))
    assert (read[:, :20] == 255).all() and (read[:, 20:] == NOISE[:, 20:]).all()
    grey = NOISE[..., 0]
    np.testing.assert_array_equal(read_photo(write(tmp_path / "grey.png", grey)), np.dstack([grey] * 3))
    deep = grey.astype(np.uint16) * 256 + 255
    np.testing.assert_array_equal(read_photo(write(tmp_path / "deep.png", deep)), np.dstack([grey] * 3))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_photos_come_upright_whatever_their_name(kind, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: the first row is the right side
    turned = {} if kind == "BMP" else {"exif": exif}
    path = write(tmp_path / "photo.unknown", NOISE, format=kind, **turned)
    read = read_photo(path)
    assert read.dtype == np.uint8 and read.shape == ((30, 40, 3) if kind == "BMP" else (40, 30, 3))
    if kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(read, np.rot90(NOISE, -1))


@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (1, 3000), (33, 47)])
def test_photos_of_odd_sizes_can_be_clicked_on_and_saved(size, tmp_path):
    work = opened(write(tmp_path / "odd.png", Image.new("RGB", size, "orange")))
    high, wide = work.small.shape[:2]
    work.click("yes", wide / 2, high / 2)
    work.draw(*LOOK)
    for what, mode in (("mask", "L"), ("cut-out", "RGBA")):
        saved = Image.open(app.save(what, work)[0])
        assert saved.size == size and saved.mode == mode


# Clicks


@pytest.mark.parametrize("size", [(1501, 2003), (2003, 1501), (451, 300), (90, 2000)])
def test_a_click_is_found_in_the_photo_within_half_a_pixel_of_the_picture(size, tmp_path):
    work = opened(write(tmp_path / "photo.png", Image.new("RGB", size)))
    high, wide = work.small.shape[:2]
    assert max(high, wide) == np.clip(max(size), 800, 1024)
    rng = np.random.default_rng(0)
    where = rng.uniform(0, 1, (500, 2))  # as parts of the picture, from its left upper corner
    told = np.floor(where * (wide, high) + 0.5)  # as gradio does
    heard = np.array([work.to_photo(*spot) for spot in told])
    away = (heard - (where * size - 0.5)) / work.scale
    assert np.abs(away).max() <= 0.5 + 1e-9 and np.abs(away.mean(0)).max() < 0.05


def test_corners_of_the_picture_are_corners_of_the_photo(work):
    high, wide = work.small.shape[:2]
    assert work.to_photo(0, 0) == (-0.5, -0.5)
    assert work.to_photo(wide, high) == pytest.approx((450.5, 299.5))
    work.click("yes", 0, 0)
    work.click("no", wide, high)  # both count as inside


def test_clicks_and_boxes_reach_the_model_and_are_drawn_where_they_were_made(work):
    work.click("yes", 200, 150)
    work.click("no", 600, 400)
    assert work.photo.prompts == [Click(*work.to_photo(200, 150), True), Click(*work.to_photo(600, 400), False)]
    drawn = work.draw(*LOOK)
    assert tuple(drawn[150, 200]) == GREEN and tuple(drawn[400, 600]) == RED
    work.click("box", 100, 90)
    assert work.status == "Now click on the opposite corner of the box." and len(work.photo.prompts) == 2
    assert tuple(work.draw(*LOOK)[90, 100]) == GREEN
    work.click("box", 700, 500)
    assert work.photo.prompts[2] == Box(*work.to_photo(100, 90), *work.to_photo(700, 500))
    edge = work.draw(*LOOK)[498:503, 400].astype(int)
    assert np.abs(edge - GREEN).sum(1).min() == 0


@pytest.mark.parametrize("x", [-5000, 10**6, 1e300, float("nan"), float("inf")])
def test_a_corner_that_lies_outside_is_refused_as_a_click_is_and_the_photo_stays_usable(work, x):
    for tool in ("box", "yes"):
        with pytest.raises(PetsegError, match="lies outside the photo"):
            work.click(tool, x, 90)
        assert work.corner is None and not work.photo.prompts
    work.draw(*LOOK)


def test_choosing_the_box_says_what_comes_next_and_leaving_it_drops_the_corner(work):
    assert text(app.take_tool(work, "box", *LOOK)[1]) == "Click on one corner of a box around the pet."
    assert app.take_tool(work, "no", *LOOK) == (gr.skip(), app.saying(work.status))  # the picture stays as it is
    work.click("box", 100, 90)
    assert text(app.take_tool(work, "box", *LOOK)[1]) == "Now click on the opposite corner of the box."  # came late
    said = text(app.take_tool(work, "yes", *LOOK)[1])
    assert work.corner is None and said == work.status
    work.click("box", 100, 90)
    work.click("yes", 300, 200)
    assert work.corner is None and isinstance(work.photo.prompts[-1], Click)


def test_undo_and_clear_give_back_the_masks_before(work):
    masks = [work.photo.mask]
    for x in (100, 400, 600):
        work.click("yes" if x < 600 else "no", x, 250)
        masks.append(work.photo.mask)
    work.click("box", 10, 10)
    work.undo()  # the corner only
    assert (work.photo.mask == masks[3]).all() and len(work.photo.prompts) == 3
    work.undo()
    assert (work.photo.mask == masks[2]).all()
    work.click("box", 10, 10)
    work.clear()
    assert (work.photo.mask == masks[0]).all() and not work.photo.prompts and work.corner is None
    work.undo()  # nothing left: nothing happens
    assert (work.photo.mask == masks[0]).all()


def test_a_visitor_takes_little_memory_and_clear_frees_what_clicks_took(tmp_path):
    path = write(tmp_path / "large.jpg", Image.fromarray(chelsea()).resize((4000, 3000)))
    opened(path).click("yes", 400, 300)  # loads what there is to load
    tracemalloc.start()
    try:
        work = opened(path)
        open_alone = tracemalloc.get_traced_memory()[0]
        assert open_alone < 6e6  # with what the models saw; the photo alone takes 36 MB
        for k in range(60):
            work.click("yes" if k % 2 else "no", 300 + k, 300)
        assert tracemalloc.get_traced_memory()[0] - open_alone < 11e6
        work.clear()
        assert tracemalloc.get_traced_memory()[0] < 6e6
    finally:
        tracemalloc.stop()


def test_two_visitors_do_not_see_each_other(tmp_path):
    path = write(tmp_path / "chelsea.png", chelsea())
    one, other = opened(path), opened(path)
    before = other.photo.mask
    one.click("yes", 400, 300)
    one.click("box", 10, 10)
    assert (other.photo.mask == before).all() and not other.photo.prompts and other.corner is None
    files = [app.show(who, *LOOK)[0] for who in (one, other, other)] + [
        app.save("mask", who)[0] for who in (one, other)
    ]
    folders = {Path(file).parent.name for file in files}
    assert len(folders) == 5 and all(re.fullmatch("[0-9a-f]{32}", name) for name in folders)
    if os.name == "posix":
        assert stat.S_IMODE(page_folder.own_folder().stat().st_mode) == 0o700


def tap(work: Work, tool: str, place: tuple[float, float]) -> str:
    """Click at a part of the picture; gives what is said then."""
    high, wide = work.small.shape[:2]
    work.click(tool, place[0] * wide, place[1] * high)
    return work.status


def test_clicks_add_and_take_away_and_a_box_limits(tailless):
    work = opened(tailless)
    assert work.status.startswith("Proposed: cat, ") and selected_places(work.photo.mask) == [False, True, True, False]
    before = work.photo.mask
    assert tap(work, "yes", ON_TAIL).startswith("Selected: cat, ")
    assert selected_places(work.photo.mask) == [True, True, True, False] and not (before & ~work.photo.mask).any()
    assert tap(work, "yes", ON_GROUND).startswith("Selected: cat, ")
    assert selected_places(work.photo.mask) == [True, True, True, True] and not (before & ~work.photo.mask).any()
    assert tap(work, "no", ON_GROUND).startswith("Selected: cat, ") and not selected_places(work.photo.mask)[3]
    tap(work, "box", (0.65, 0.5))
    assert tap(work, "box", (0.95, 0.99)).startswith("Selected: dog, ")
    assert selected_places(work.photo.mask) == [False, False, True, False]
    assert tap(work, "yes", ON_TAIL).endswith(" The last click lies outside the box.")
    assert selected_places(work.photo.mask) == [False, False, True, False]
    assert not tap(work, "no", ON_TAIL).endswith(" box.") and not tap(work, "yes", ON_DOG).endswith(" box.")
    tap(work, "no", ON_DOG)
    work.photo._steps[-1] = (0 * work.photo._steps[-1][0], 1.0)
    assert work.status == "Nothing is selected. Click on the pet."


def test_with_the_switch_on_the_first_click_says_what_is_wanted(tailless):
    work = opened(tailless)
    tap(work, "yes", ON_TAIL)
    tap(work, "box", ON_CAT)
    said = text(app.turn_switch(work, True, *LOOK)[1])
    assert said == f"{CLEARED} Click on what you want: one of the pets, or the background."
    assert (
        not work.photo.prompts
        and work.corner is None
        and selected_places(work.photo.mask) == [False, True, True, False]
    )
    assert tap(work, "yes", ON_DOG).startswith("Selected: dog, ")
    assert selected_places(work.photo.mask) == [False, False, True, False]
    assert tap(work, "yes", ON_CAT).startswith("Selected: ") and selected_places(work.photo.mask)[1:3] == [True, True]
    work.clear()
    assert tap(work, "yes", ON_GROUND).startswith("Selected: background, ")
    assert selected_places(work.photo.mask)[1:] == [False, False, True]
    said = text(app.turn_switch(work, False, *LOOK)[1])
    assert said.startswith(f"{CLEARED} Proposed: cat, ") and work.photo.target == "pet"
    assert text(app.turn_switch(work, True, *LOOK)[1]) == "Click on what you want: one of the pets, or the background."
    assert text(app.turn_switch(None, True, *LOOK)[1]) == app.GONE


def test_the_switch_stays_as_it_is_for_another_photo_and_another_model(tailless):
    work, *_, switched, clicking = app.open_file(str(tailless), None, "point", *LOOK)
    assert work.photo.target == "pet" and switched is False and clicking["visible"]
    app.turn_switch(work, True, *LOOK)
    for *_, switched, _ in (
        app.open_file(str(tailless), work, "point", *LOOK),
        app.open_file("nowhere.png", work, "point", *LOOK),
        app.switch_model(work, "point", *LOOK),
    ):
        assert switched is True and work.photo.target == "clicked"


# Models


def test_a_model_without_prompts_proposes_a_mask_and_says_that_it_takes_no_clicks(tmp_path):
    path = write(tmp_path / "chelsea.png", chelsea())
    work, _, said, model, description, _, clicking = app.open_file(str(path), None, "decoder", *LOOK)
    assert text(said).startswith(("Proposed: ", "No pet")) and model == "decoder" and clicking["visible"] is False
    assert "proposes a mask by itself, and takes no clicks" in description
    assert f"the frozen encoder {work.photo.segmenter.card['encoder']}" in description
    for tool in ("yes", "box"):
        with pytest.raises(PetsegError, match="takes no clicks: use the model point"):
            work.click(tool, 100, 100)


def test_the_page_says_what_a_models_weights_were_made_from(work):
    card = {"model": "unet", "encoder": None, "n_images": 321}
    work.photo.segmenter = Segmenter(SimpleNamespace(card=card, takes_prompts=False))
    assert work.model_description.endswith("trained on 321 photos with masks, without an encoder, from scratch.")
    card |= {"encoder": "lite:x", "extra": {"n_images": 1000}, "more": {"n_images": 3297}}
    assert (
        "on 1,321 photos with masks and 3,297 with proposed ones, as a decoder on the frozen" in work.model_description
    )
    assert work.model_description.endswith("encoder lite:x, which is not CLIP.")


def test_switching_the_model_keeps_the_photo(work):
    work.click("yes", 400, 300)
    prompts, kept = list(work.photo.prompts), work.kept
    *_, switched, clicking = app.switch_model(work, "point", *LOOK)  # both take clicks
    assert work.photo.prompts == prompts and clicking["visible"] and not switched
    _, _, said, model, *_, clicking = app.switch_model(work, "decoder", *LOOK)
    assert model == work.photo.segmenter.card["model"] == "decoder" and not clicking["visible"]
    assert work.file == "chelsea.png" and work.kept == kept and kept.is_file()
    assert not text(said).startswith("Selected")


def test_a_model_that_cannot_be_loaded_gets_a_sentence_and_the_one_before_stays(work):
    after, _, said, model, *_ = app.switch_model(work, "nope", *LOOK)
    assert after is work and model == "point" and text(said).startswith("Unknown model 'nope': use one of unet,")


def test_only_models_whose_weights_ship_are_offered(tmp_path, monkeypatch):
    shown = {block.label: block for block in app.make_page().blocks.values() if hasattr(block, "label")}
    assert [name for _, name in shown["Model"].choices] == [
        name for name in ("point", "decoder", "unet") if (SHIPPED / f"{name}.safetensors").is_file()
    ]
    monkeypatch.setattr(segmenter, "SHIPPED", tmp_path)
    with pytest.raises(PetsegError, match="This copy of petseg has no weights"):
        app.make_page()


def test_the_page_offers_no_interface_for_programs():
    assert not app.make_page().get_api_info()["named_endpoints"]


@pytest.mark.parametrize("size", [(451, 300), (1200, 1700)])
def test_saved_files_have_the_photos_own_size(size, tmp_path):
    work = opened(path := write(tmp_path / "my cat.jpg", Image.fromarray(chelsea()).resize(size)))
    work.click("yes", 400, 300)
    mask, cutout = (Image.open(app.save(what, work)[0]) for what in ("mask", "cut-out"))
    assert mask.mode == "L" and cutout.mode == "RGBA" and mask.size == cutout.size == size
    assert Path(mask.filename).name == "my cat_mask.png" and Path(cutout.filename).name == "my cat_cut-out.png"
    assert set(np.unique(mask)) == {0, 255} and (np.asarray(mask) // 255 == work.photo.mask).mean() > 0.97
    assert_cut_out(np.asarray(cutout), read_photo(path), np.asarray(mask))
    written = Path(app.save("COCO", work)[0])
    reader = COCO(written)
    assert written.name == "my cat_coco.json" and reader.imgs[1]["file_name"] == "my cat.jpg"
    assert reader.cats[reader.anns[1]["category_id"]]["name"] == work.photo.label
    np.testing.assert_array_equal(reader.annToMask(reader.anns[1]) * 255, np.asarray(mask))


def test_nothing_fails_where_no_photo_is_open():
    picture, said = app.show(None, *LOOK)
    assert picture == gr.skip() and said == f'<p role="alert">{app.GONE}</p>'
    assert app.change(Work.undo, None, *LOOK)[1] == app.take_tool(None, "yes", *LOOK)[1] == said
    assert app.save("mask", None) == (None, said) and app.switch_model(None, "decoder", *LOOK)[0] is None


# The rest looks at the page in a browser.


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def address(browser):
    """A page that is served from this process."""
    page = app.make_page()
    port = free_port()
    with serving(page, port, **app.LOOKS):
        yield f"http://127.0.0.1:{port}"


class Visitor:
    """Somebody with a window of their own."""

    def __init__(self, browser, address: str, width: int = 1280, height: int = 900, **options):
        self.window = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.page = self.window.new_page()
        self.page.set_default_timeout(60_000)
        self.asked, self.errors = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        self.wait_for_picture("")

    def wait_for_picture(self, before: str) -> None:
        """Each answer is a new file."""
        self.page.wait_for_function(
            """before => {
                const image = document.querySelector("#picture img");
                return image && image.src !== before && image.complete && image.naturalWidth && image.clientWidth;
            }""",
            arg=before,
        )

    @property
    def picture(self) -> str:
        return self.page.locator("#picture img").get_attribute("src")

    @property
    def place(self) -> np.ndarray:
        """Left, top, width and height of the picture in the window; its element has a margin where it is larger."""
        return np.array(
            self.page.locator("#picture img").evaluate(
                """image => {
                    const box = image.getBoundingClientRect(), {naturalWidth: width, naturalHeight: height} = image;
                    const scale = Math.min(box.width / width, box.height / height, 1);
                    const [wide, high] = [width * scale, height * scale];
                    return [box.left + (box.width - wide) / 2, box.top + (box.height - high) / 2, wide, high];
                }"""
            )
        )

    @property
    def said(self) -> str:
        return self.page.locator("#said .prose").first.inner_text().strip()

    def expect(self, sentence: str) -> None:
        self.page.locator("#said .prose").first.get_by_text(sentence).wait_for()

    def open(self, path: Path) -> None:
        before = self.picture
        self.page.locator("input[type=file]").first.set_input_files(path)
        self.wait_for_picture(before)

    def click(self, across: float, down: float) -> tuple[float, float]:
        """Click at a part of the picture; gives the part that was really hit: the mouse stands on whole pixels."""
        self.wait_for_picture("")  # the last one may still be on its way, and is empty till then
        self.page.locator("#picture img").scroll_into_view_if_needed()
        (left, top, width, height), before = self.place, self.picture
        x, y = round(left + across * width), round(top + down * height)
        self.page.mouse.click(x, y)
        self.wait_for_picture(before)
        return (x - left) / width, (y - top) / height

    def press(self, name: str, role: str = "button") -> None:
        before = self.picture
        self.page.get_by_role(role, name=name).click()
        self.wait_for_picture(before)

    def save(self, name: str, path: Path) -> Image.Image:
        with self.page.expect_download() as saved:
            self.page.get_by_role("button", name=name).click()
        saved.value.save_as(path)
        return Image.open(path)

    def dots(self, colour: tuple[int, int, int]) -> np.ndarray:
        """Where the window shows a colour, as a part of the picture: the mean of all such places."""
        left, top, width, height = self.place
        shot = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        scale = shot.width / self.page.viewport_size["width"]
        shot = np.asarray(shot.crop([round(side * scale) for side in (left, top, left + width, top + height)]), int)
        rows, columns = np.nonzero(np.abs(shot - colour).max(2) < 40)
        return np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / scale / (width, height)


@pytest.fixture
def visit(browser, address):
    """Opens windows, and closes them after the test; none may have met an error or asked another machine."""
    visitors = []

    def open_window(*size, **options) -> Visitor:
        visitors.append(Visitor(browser, address, *size, **options))
        return visitors[-1]

    yield open_window
    for visitor in visitors:
        visitor.window.close()
        assert not visitor.errors
        assert all(url.startswith((address, "data:", "blob:")) for url in visitor.asked)


@pytest.fixture
def heard(monkeypatch) -> list:
    """All prompts that reach a model."""
    prompts, add = [], OpenPhoto.add
    monkeypatch.setattr(OpenPhoto, "add", lambda photo, prompt: (prompts.append(prompt), add(photo, prompt))[1])
    return prompts


@pytest.mark.parametrize(  # each window and each shape of a photo once
    ("width", "height", "density", "size"),
    [(2200, 1300, 1, (1501, 2003)), (800, 500, 1.5, (300, 200)), (390, 844, 3, (2003, 1501))],
    ids=["wide-portrait", "low-small", "phone-landscape"],
)
def test_the_pixel_that_was_clicked_is_the_one_recorded(visit, heard, tmp_path, width, height, density, size):
    visitor = visit(width, height, device_scale_factor=density)
    visitor.open(write(tmp_path / "photo.png", Image.fromarray(chelsea()).resize(size)))
    shown = visitor.page.locator("#picture img").evaluate("image => [image.naturalWidth, image.naturalHeight]")
    for across, down in ((0.31, 0.22), (0.66, 0.83)):
        hit = np.array(visitor.click(across, down))
        away = np.array([heard[-1].x, heard[-1].y]) - (hit * size - 0.5)
        assert np.abs(away / size * shown).max() <= 0.5 + 1e-6  # gradio tells whole pixels of the picture
        seen = visitor.dots(GREEN)
        assert np.abs((seen - hit) * visitor.place[2:]).max() < 1.5  # pixels of the window
        visitor.press("Undo")


def test_a_photo_is_uploaded_clicked_undone_and_saved(visit, heard, tmp_path):
    visitor = visit()
    image = np.asarray(Image.fromarray(chelsea()).resize((902, 600)))
    visitor.open(write(tmp_path / "my cat.png", image))
    visitor.expect("Proposed: ")
    proposed = visitor.said
    visitor.click(0.4, 0.5)
    visitor.expect("Selected: ")
    first = visitor.said
    visitor.page.get_by_text("This is not", exact=True).click()
    visitor.click(0.9, 0.1)
    assert [prompt.positive for prompt in heard] == [True, False]
    visitor.press("Undo")
    assert visitor.said == first
    mask = np.asarray(visitor.save("Save mask", tmp_path / "mask.png"))
    assert mask.shape == (600, 902) and set(np.unique(mask)) <= {0, 255}
    assert 100 * (mask > 0).mean() == pytest.approx(float(re.search(r"([\d.]+)%", first)[1]), abs=0.5)
    cutout = np.asarray(visitor.save("Save cut-out", tmp_path / "cut-out.png"))
    assert_cut_out(cutout, image, mask)
    with visitor.page.expect_download() as saved:
        visitor.page.get_by_role("button", name="Save COCO").click()
    saved.value.save_as(tmp_path / saved.value.suggested_filename)
    reader = COCO(tmp_path / "my cat_coco.json")
    np.testing.assert_array_equal(reader.annToMask(reader.anns[1]) * 255, mask)
    visitor.press("Clear")
    assert visitor.said == proposed


def test_a_click_on_a_missed_part_grows_the_selection(visit, tailless, tmp_path):
    visitor, masks = visit(), []

    def saved() -> np.ndarray:
        masks.append(np.asarray(visitor.save("Save mask", tmp_path / f"{len(masks)}.png")) > 0)
        return masks[-1]

    visitor.open(tailless)
    visitor.expect("Proposed: cat, ")
    proposed = saved()
    visitor.click(*ON_TAIL)
    visitor.expect("Selected: cat, ")
    grown = saved()
    assert selected_places(proposed) == [False, True, True, False] and selected_places(grown) == [
        True,
        True,
        True,
        False,
    ]
    assert not (proposed & ~grown).any()
    visitor.page.get_by_text("This is not", exact=True).click()
    visitor.click(*ON_TAIL)
    assert visitor.said.startswith("Selected: cat, ")
    less = saved()
    assert not (less & ~grown).any() and selected_places(less) == [False, True, True, False]
    visitor.press("Undo")
    assert (saved() == grown).all()
    visitor.press("Undo")
    assert (saved() == proposed).all() and visitor.said.startswith("Proposed: cat, ")


def test_with_the_weights_that_ship_a_click_on_a_missed_part_grows_the_selection(visit, tmp_path):
    segmenter = Segmenter.load("point")
    for photo, pet in (draw_pet(breed, number) for number in range(9) for breed in BREEDS):
        depth, click = deepest_click(pet & ~segmenter.open(photo).mask)
        if depth > DEEP * max(pet.shape):  # it misses a part that people would click on
            break
    else:
        pytest.fail("of no drawn picture such a part is missed: look for another picture")
    visitor = visit()
    visitor.open(write(tmp_path / "drawn.png", photo))
    proposed = np.asarray(visitor.save("Save mask", tmp_path / "proposed.png")) > 0
    visitor.click((click.x + 0.5) / pet.shape[1], (click.y + 0.5) / pet.shape[0])
    visitor.expect("Selected: ")
    grown = np.asarray(visitor.save("Save mask", tmp_path / "grown.png")) > 0
    assert grown[click.y, click.x] and not proposed[click.y, click.x]
    assert (proposed & ~grown).sum() < 0.01 * proposed.sum()  # saved masks follow the photo's edges
    assert (pet & grown).sum() > (pet & proposed).sum() + depth**2


def test_the_switch_selects_one_of_several_pets_or_the_background(visit, tailless, tmp_path):
    visitor = visit()
    visitor.open(tailless)
    visitor.click(*ON_TAIL)
    switch = visitor.page.get_by_role("checkbox", name=SWITCH)
    assert not switch.is_checked()
    visitor.press(SWITCH, "checkbox")
    assert visitor.said == f"{CLEARED} Click on what you want: one of the pets, or the background."
    visitor.click(*ON_DOG)
    visitor.expect("Selected: dog, ")
    mask = np.asarray(visitor.save("Save mask", tmp_path / "dog.png")) > 0
    assert selected_places(mask) == [False, False, True, False] and switch.is_checked()
    visitor.press("Clear")
    visitor.expect("Proposed: cat, ")
    visitor.click(*ON_GROUND)
    visitor.expect("Selected: background, ")
    visitor.open(tailless)
    assert switch.is_checked()
    visitor.press(SWITCH, "checkbox")
    visitor.click(*ON_GROUND)
    visitor.expect("Selected: cat, ")


def test_a_box_takes_two_clicks_and_says_so(visit, heard):
    visitor = visit()
    visitor.page.get_by_text("Box around it", exact=True).click()
    visitor.expect("Click on one corner of a box around the pet.")
    visitor.click(0.1, 0.1)
    visitor.expect("Now click on the opposite corner of the box.")
    assert not heard
    visitor.click(0.9, 0.95)
    visitor.expect("Selected: ")
    assert isinstance(heard[0], Box)


def test_fast_clicks_are_all_answered(visit, heard):
    visitor = visit()
    left, top, width, _ = visitor.place
    for part in (0.3, 0.4, 0.5, 0.6):  # gradio itself drops those that come while a new picture is on its way
        visitor.page.mouse.click(left + part * width, top + 100)
    for _ in range(600):
        if len(heard) < 4:
            visitor.page.wait_for_timeout(100)
    assert sorted(round(click.x / 451, 1) for click in heard) == [0.3, 0.4, 0.5, 0.6]


def test_trouble_is_an_alert_in_which_html_does_nothing_and_the_photo_box_stays_usable(visit, tmp_path, monkeypatch):
    visitor = visit()
    name = "<img src=x onerror=alert(1)> ![a](x) &amp; **b**.png"
    (tmp_path / name).write_bytes(b"hello")
    visitor.open(tmp_path / name)
    alert = visitor.page.locator("#said").get_by_role("alert")
    alert.get_by_text("is not a picture, or is damaged").wait_for()
    assert not visitor.page.locator("#said img, #said b, #said strong").count()
    assert "[a](x) &amp; b.png" in alert.inner_text()
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(3 * MAX_PIXELS + 1)
    visitor.page.locator("input[type=file]").first.set_input_files(large)
    visitor.page.get_by_role("alert").get_by_text("exceed the maximum allowed size").wait_for()
    visitor.open(write(tmp_path / "good.png", NOISE))
    assert not visitor.page.locator("#said").get_by_role("alert").count()


def test_html_in_a_name_does_nothing_where_it_is_said(tmp_path):
    name = "<img src=x onerror=alert(1)>.png"
    (tmp_path / name).write_bytes(b"hello")
    said = app.open_file(str(tmp_path / name), None, "point", *LOOK)[2]
    assert said.startswith('<p role="alert">&lt;img src=x onerror=alert(1)&gt;.png is not a picture')


@pytest.mark.parametrize("kind", ["text", "gif", "large", "damaged"])
def test_the_page_goes_on_after_a_bad_file(visit, heard, tmp_path, kind):
    visitor = visit()
    path = bad_file(kind, tmp_path)
    visitor.open(path)
    visitor.expect(path.name)
    assert visitor.said.endswith(("TIFF photo.", "try again."))
    visitor.click(0.5, 0.5)
    visitor.expect("Selected: ")
    visitor.open(write(tmp_path / "good.png", NOISE))
    visitor.click(0.5, 0.5)
    assert (heard[-1].x, heard[-1].y) == pytest.approx((19.5, 14.5), abs=0.1)


def test_the_model_and_the_look_can_be_changed(visit):
    visitor = visit()
    visitor.press("decoder: finds the pet by itself", "radio")
    visitor.page.get_by_text("takes no clicks").wait_for()
    assert not visitor.page.get_by_text("This is the pet", exact=True).is_visible()
    visitor.click(0.5, 0.5)
    visitor.expect("The model decoder takes no clicks: use the model point.")
    visitor.press("point: finds the pet, and your clicks correct it", "radio")
    assert visitor.page.get_by_text("This is the pet", exact=True).is_visible()
    before = visitor.picture
    visitor.page.get_by_label("Colour").click()
    visitor.page.get_by_role("option", name="pink").click()
    visitor.wait_for_picture(before)
    before = visitor.picture
    visitor.page.get_by_role("slider", name="Opacity").focus()
    visitor.page.keyboard.press("End")
    visitor.wait_for_picture(before)


def test_an_example_is_opened(visit):
    visitor = visit()
    before = visitor.picture
    visitor.page.get_by_role("button", name="Thumbnail 3 of 3").click()
    visitor.wait_for_picture(before)
    assert visitor.page.locator("#picture img").evaluate("image => image.naturalWidth") == 800


def test_two_windows_do_not_share_a_photo(visit, tmp_path):
    one, other = visit(), visit()
    theirs = other.picture
    one.open(write(tmp_path / "noise.png", NOISE))
    one.click(0.5, 0.5)
    assert other.picture == theirs and one.picture != theirs
    other.press("Undo")  # has nothing to take back, and takes nothing back from the other
    assert other.said.startswith("Proposed: ") and one.said.startswith(("Selected: ", "Nothing"))
    assert other.save("Save mask", tmp_path / "mask.png").size == (451, 300)
    assert one.save("Save mask", tmp_path / "noise_mask.png").size == (40, 30)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_the_picture_comes_first_and_nothing_scrolls_sideways(visit, scheme):
    visitor = visit(390, 844, has_touch=True, is_mobile=True, color_scheme=scheme)
    assert visitor.page.evaluate("document.documentElement.scrollWidth") == 390
    picture = visitor.page.locator("#picture img").bounding_box()
    undo = visitor.page.get_by_role("button", name="Undo").bounding_box()
    assert picture["width"] > 300 and picture["y"] < undo["y"] and undo["y"] + undo["height"] < 844


def test_each_control_has_a_name(visit):
    visitor = visit()
    nameless = visitor.page.evaluate(
        """() => [...document.querySelectorAll("button, input, img, select, textarea")].filter(one =>
            one.checkVisibility() && one.type !== "file" && !one.ariaLabel && !one.labels?.length && !one.alt
            && !one.textContent.trim() && !one.querySelector("img[alt]")
        ).map(one => one.outerHTML.slice(0, 200))"""
    )
    assert not nameless
    assert visitor.page.locator("#said [aria-live]").first.get_attribute("aria-live") == "polite"


@pytest.mark.skipif(os.name != "posix", reason="ends the command as Ctrl-C does, by a POSIX signal")
def test_the_command_serves_the_page_on_this_machine_only_and_leaves_no_files():
    port = free_port()
    command = [sys.executable, "-m", "petseg_utils", "demo", "--port", str(port)]
    hear = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is ignored by what a shell runs behind it
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    server = subprocess.Popen(command, cwd=ROOT, preexec_fn=hear, **pipes)
    try:
        for _ in range(600):
            try:
                said = urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=10).read().decode()
                break
            except OSError:
                assert server.poll() is None, server.stdout.read()
                time.sleep(0.2)
        assert '"title":"petseg"' in said
        folder = Path(re.search(r'"path": ?"([^"]+)/examples/Chelsea\.png"', said)[1])
        assert folder.is_dir() and stat.S_IMODE(folder.stat().st_mode) == 0o700
        if Path("/proc/net/tcp").is_file():  # lines of: number, address, remote address, state (0A listens)
            sockets = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            hosts = [at for at, _, state in sockets if state == "0A" and at.endswith(f":{port:04X}")]
            assert [host.split(":")[0] for host in hosts] == ["0100007F"]
    finally:
        server.send_signal(signal.SIGINT)
        said = server.communicate(timeout=60)[0]
    assert f"Open http://127.0.0.1:{port} in a browser" in said
    assert not folder.exists() and os.path.basename(folder).startswith("petseg-page-")
