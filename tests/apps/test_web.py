"""The page that needs no server: its arithmetic against Python's; and the page itself, in a browser off the network."""

import base64
import contextlib
import functools
import http.server
import io
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import nbformat
import numpy as np
import pytest
import yaml
from PIL import Image, ImageOps
from typer.testing import CliRunner

from petseg_utils.apps import web_page
from petseg_utils.apps.cli.main import app
from petseg_utils.apps.cutouts import EXAMPLES, cut_out, result_png
from petseg_utils.apps.mask_formats import coco
from petseg_utils.apps.page_state import SWITCH, SWITCH_HELP, after_switch, sentence
from petseg_utils.apps.web_page import write_page
from petseg_utils.data.drawing.breeds import BREEDS
from petseg_utils.data.drawing.pictures import draw_pet
from petseg_utils.data.labels import CLASSES
from petseg_utils.data.transforms import Letterbox
from petseg_utils.models.matting import soft_alpha
from petseg_utils.models.prompts import Box, Click, deepest_click, draw_prompts, remnants, within_boxes, within_reach
from petseg_utils.models.selection import pet_chance, softmax, unsure_parts
from petseg_utils.report.index import render_index
from petseg_utils.report.pages import TRY_TAG, TryPage, read_sheet, render_page
from petseg_utils.report.run import build_report
from petseg_utils.scores.clicks import DEEP
from petseg_utils.segmenter import MAX_PIXELS, OpenPhoto, Segmenter, enlarge, smoothed
from petseg_utils.study import ROOT, PetsegError, load_study
from tests.apps import fake_point
from tests.apps.fake_point import CAT, ON_CAT, ON_DOG, ON_GROUND, SIZE, cat_and_dog, fake_segmenter, paint

NODE = Path(sys.executable).parent / "node"
needs_node = pytest.mark.skipif(not NODE.exists(), reason="no node beside this Python: make setup")
needs_npm = pytest.mark.skipif(not web_page.RUNTIME.is_dir(), reason="npm's packages are not installed: make setup")
ALIKE = 0.995  # of the pixels of two masks


def pack(value: object) -> object:
    """For JSON: arrays as `run.mjs` reads them, prompts as the page writes them."""
    if isinstance(value, np.ndarray):
        kind = "float32" if value.dtype == np.float32 else "uint8"
        return {"type": kind, "data": base64.b64encode(np.ascontiguousarray(value, dtype=kind).tobytes()).decode()}
    if isinstance(value, Click):
        return {"kind": "click", "points": [[value.x, value.y]], "positive": value.positive}
    if isinstance(value, Box):
        return {"kind": "box", "points": [[value.x0, value.y0], [value.x1, value.y1]], "positive": True}
    raise TypeError(type(value))


def unpack(value: dict) -> object:
    if "type" in value:
        return np.frombuffer(base64.b64decode(value["data"]), value["type"])
    return value


def in_node(*calls: tuple) -> list:
    """What the page's functions give: each call is a name and arguments."""
    run = subprocess.run(
        [NODE, Path(__file__).parent / "web" / "run.mjs"],
        input=json.dumps(calls, default=pack),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout, object_hook=unpack)


def as_box(box: Letterbox) -> dict:
    """A letterbox as the page has it."""
    (height, width), (top, left) = box.inner, box.offset
    sides = {"left": left, "top": top, "width": width, "height": height}
    return {"photoWidth": box.width, "photoHeight": box.height, "size": box.size} | sides


# Arithmetic


@needs_node
def test_photos_are_shrunk_and_padded_as_in_python():
    rng = np.random.default_rng(0)
    sizes = [(448, 448), (300, 451), (1000, 37), (33, 47), (1, 1), (1, 900), (1201, 803), (225, 224), (449, 300)]
    calls = []
    for height, width in sizes:
        photo = rng.integers(0, 256, (height, width, 3), np.uint8)
        box = Letterbox(height, width, 224)
        calls.append((("letterbox", width, height, 224), as_box(box)))
        calls += [(("squared", photo, as_box(box), scale), box.image(photo, scale)) for scale in (1, 2)]
    for told, (_, expected) in zip(in_node(*(call for call, _ in calls)), calls, strict=True):
        if isinstance(expected, dict):
            assert told == expected
        else:
            away = np.abs(told.reshape(expected.shape).astype(int) - expected)
            assert away.max() <= 1 and (away > 0).mean() < 1e-3


@needs_node
def test_halves_are_rounded_as_in_python():
    values = [0.5, 1.5, 2.5, -0.5, -1.5, 0.4999999, 3.2, 1e9 + 0.5]
    assert in_node(*(("rounded", value) for value in values)) == [round(value) for value in values]


def some_prompts(rng: np.random.Generator, size: int, number: int) -> list[Click | Box]:
    prompts: list[Click | Box] = []
    for _ in range(number):
        x0, y0, x1, y1 = rng.uniform(-0.5, size - 0.5, 4).tolist()
        prompts.append(Box(x0, y0, x1, y1) if rng.random() < 0.3 else Click(x0, y0, bool(rng.random() < 0.5)))
    return prompts


@needs_node
def test_a_negative_click_leaves_the_same_parts_as_in_python():
    rng, size = np.random.default_rng(1), 96
    calls, expected = [], []
    for case in range(100):
        prompts = some_prompts(rng, size, 1 + case % 4)
        before = cv2.GaussianBlur(rng.uniform(0, 1, (size, size)), (0, 0), 4)
        before = (0.5 + 8 * (before - before.mean())).clip(0, 1).astype(np.float32)
        after = np.where(within_reach([Click(40, 40, positive=False)], before > 0.5), 0.3, before).astype(np.float32)
        after[:, :: 5 + case % 30] = 0.2
        after = np.minimum(after, before)
        calls.append(("remnants", prompts, before, before > 0.5, after, size))
        expected.append(remnants(prompts, before, before > 0.5, after > 0.5))
    assert sum(gone.any() for gone in expected) > 8
    for told, gone in zip(in_node(*calls), expected, strict=True):
        np.testing.assert_array_equal(np.zeros_like(gone) if told is None else told.reshape(gone.shape), gone)


@needs_node
def test_prompts_are_drawn_and_reach_as_far_as_in_python():
    rng, size = np.random.default_rng(0), 96
    calls, expected = [], []
    for case in range(24):
        prompts = some_prompts(rng, size, 1 + case % 6)
        previous = rng.uniform(0, 1, (size, size)).astype(np.float32)
        blob = cv2.GaussianBlur(rng.uniform(0, 1, (size, size)), (0, 0), 6)
        selected = blob > (0.5 if case % 4 else 2)  # in some nothing
        calls += [
            ("drawPrompts", prompts, size, previous),
            ("withinReach", prompts[-1], selected, size),
            ("withinBoxes", prompts, size, 70),
        ]
        reach = within_reach(prompts, selected)
        boxes = within_boxes(prompts, 70, size)
        expected += [draw_prompts(prompts, size, previous), None if reach.all() else reach, boxes]
    assert sum(value is not None for value in expected) > 40
    for call, told, wanted in zip(calls, in_node(*calls), expected, strict=True):
        if wanted is None:
            assert told is None or told.all(), call[0]
        else:
            np.testing.assert_allclose(told.reshape(wanted.shape), wanted, atol=1e-6, err_msg=call[0])


@needs_node
def test_probabilities_parts_and_sizes_are_as_in_python():
    rng, size = np.random.default_rng(0), 64
    calls, expected = [], []
    for height, width in [(300, 451), (80, 80), (40, 900), (1, 300), (30, 20)]:
        box = Letterbox(height, width, size)
        logits = np.stack([cv2.GaussianBlur(rng.normal(0, 40, (size, size)), (0, 0), 3) for _ in range(3)])
        logits = logits.astype(np.float32)
        pet = 1 - softmax(logits[None])[0, 0]
        inner = smoothed(pet, box)
        calls += [
            ("softmax", logits),
            ("petChance", logits),
            ("unsureParts", pet, size, 0.95),
            ("unsureParts", pet, size, 0),
            ("smoothedSquare", pet, as_box(box)),
            ("enlargedMask", inner, box.inner[1], box.inner[0], width, height),
        ]
        expected += [softmax(logits[None])[0], pet_chance(logits[None])[0], unsure_parts(pet, 0.95)]
        expected += [unsure_parts(pet, 0), inner, enlarge(pet, box, (height, width)) > 0.5]
    assert any(value.any() for value in expected[2::6]) and not any(value.all() for value in expected[2::6])
    for call, told, wanted in zip(calls, in_node(*calls), expected, strict=True):
        if call[0] == "enlargedMask":
            assert (told.reshape(wanted.shape) == wanted).mean() > 0.9999
        else:
            np.testing.assert_allclose(told.reshape(wanted.shape), wanted, atol=2e-6, err_msg=call[0])


@needs_node
@pytest.mark.parametrize(
    ("shape", "size"),
    [((300, 451), 64), ((1500, 1100), 64), ((1200, 900), 320), ((40, 30), 64)],
    ids=["shown large", "shrunk", "fine mask", "tiny"],
)
def test_edges_and_cut_outs_are_as_in_python(shape, size):
    photo, _ = draw_pet(BREEDS[0], 3)
    photo = np.asarray(ImageOps.fit(Image.fromarray(photo), shape[::-1]))
    grain = np.random.default_rng(0).normal(0, 20, photo.shape)  # shows at which size the photo is looked at
    photo = np.clip(photo + cv2.GaussianBlur(grain, (0, 0), 0.6), 0, 255).astype(np.uint8)
    box = Letterbox(*shape, size)
    rows, columns = np.indices((size, size)) * (64 / size)
    inner = smoothed(1 / (1 + np.exp((np.hypot(rows - 30, columns - 34) - 18) / 1.5)), box)
    alpha = soft_alpha(photo, inner)
    cutout = cut_out(photo, alpha, size)
    told_alpha, told_cutout = in_node(
        ("softAlpha", photo, shape[1], shape[0], inner, inner.shape[1], inner.shape[0]),
        ("cutOut", photo, alpha, shape[1], shape[0], size),
    )
    away = np.abs(told_alpha.reshape(shape).astype(int) - alpha)
    assert (away > 4).mean() < 1e-3 and ((told_alpha.reshape(shape) > 127) == (alpha > 127)).mean() > 0.9995
    assert ((alpha > 0) & (alpha < 255)).any() or max(shape) <= 64
    assert np.abs(told_cutout.reshape(cutout.shape).astype(int) - cutout).max() <= 1


class Recorder:
    """A model that keeps what it was asked and what it answered."""

    def __init__(self, model) -> None:
        self.model, self.asked, self.answers = model, [], []
        self.card, self.scale, self.takes_prompts = model.card, model.scale, model.takes_prompts

    def look(self, squares):
        self.seen = self.model.look(squares)
        return self.seen

    def select(self, seen, prompts, latest, side):
        self.asked.append((prompts[0], float(latest[0]), float(side[0])))
        self.answers.append(np.asarray(self.model.select(seen, prompts, latest, side)[0], np.float32))
        return self.answers[-1][None]


class TakesAll(Recorder):
    """A model whose answer to any click is that nothing belongs to it."""

    def select(self, seen, prompts, latest, side):
        super().select(seen, prompts, latest, side)
        self.answers[-1][:] = -6
        return self.answers[-1][None]


@needs_node
@pytest.mark.parametrize("gain", [3.0, 6.0], ids=["unsure", "sure"])
def test_what_a_negative_click_leaves_of_a_photos_animal_goes_as_in_python(gain, monkeypatch):
    monkeypatch.setattr(fake_point, "GAIN", gain)
    image = paint(300, 400, (CAT, 0.5, 0.5, 0.48, 0.14))
    recorder = TakesAll(fake_segmenter().model)
    photo = Segmenter(recorder).open(image)
    given = (image, 400, 300, SIZE, recorder.scale, 0, np.asarray(recorder.seen.logits[0], np.float32))
    given += (np.asarray(recorder.seen.cells[0], np.float32), "pet")
    click = Click(200, 150, positive=False)
    masks = [photo.mask, photo.add(click).mask]
    (told,) = in_node(("steps", *given, [{"kind": "add", "prompt": click}], recorder.answers))
    assert masks[0].any() and masks[1].any() == (gain == 6)
    for now, mask in zip(told["states"], masks, strict=True):
        assert (now["mask"].reshape(mask.shape) == mask).mean() > 0.999


@needs_node
@pytest.mark.parametrize("target", ["pet", "clicked"])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2))])
def test_a_photo_that_is_worked_on_is_in_each_step_as_in_python(seed, target):
    rng, image = np.random.default_rng(seed), cat_and_dog()
    height, width = image.shape[:2]
    segmenter = fake_segmenter(spread=0.3, seed=seed)
    recorder = Recorder(segmenter.model)
    photo = Segmenter(recorder).open(image, target)
    actions, expected = [], []
    wanted = [[(*ON_DOG, True)], [(0.5, 0.95, False), (*ON_GROUND, True)], [(*ON_CAT, True)]]
    first = wanted[seed] if target == "clicked" else []

    def state() -> dict:
        alpha = photo.alpha()
        said = {"mask": photo.mask, "alpha": alpha, "cutOut": cut_out(image, alpha, 64), "label": photo.label}
        said |= {"share": photo.share, "confidence": photo.confidence}
        return said | {"said": [sentence(photo), after_switch(photo, False), after_switch(photo, True)]}

    expected.append(state())
    for kind in ("add", "add", "undo", "add", "add", "add", "add", "undo", "clear", "undo", "add", "add"):
        x0, x1, y0, y1 = *rng.uniform(0, width - 1, 2), *rng.uniform(0, height - 1, 2)
        prompt = Box(x0, y0, x1, y1) if rng.random() < 0.35 else Click(x0, y0, bool(rng.random() < 0.6))
        if len(actions) < len(first):
            x, y, positive = first[len(actions)]
            prompt = Click(x * width, y * height, positive)
        actions.append({"kind": kind, "prompt": prompt})
        photo.add(prompt) if kind == "add" else getattr(photo, kind)()
        expected.append(state())
    size, logits = photo.segmenter.card["image_size"], np.asarray(recorder.seen.logits[0], np.float32)
    given = (image, width, height, size, recorder.scale, 0, logits)
    cells = np.asarray(recorder.seen.cells[0], np.float32)
    (told,) = in_node(("steps", *given, cells, target, actions, recorder.answers))
    np.testing.assert_array_equal(told["square"], _square(photo).ravel())
    assert [each["latest"] for each in told["told"]] == [latest for _, latest, _ in recorder.asked]
    for each, (maps, _, side) in zip(told["told"], recorder.asked, strict=True):
        assert each["side"] == side
        np.testing.assert_allclose(each["maps"].reshape(maps.shape), maps, atol=1e-5)
    for step, (now, wanted) in enumerate(zip(told["states"], expected, strict=True)):
        for key in ("mask", "alpha", "cutOut"):
            near = np.abs(now[key].reshape(wanted[key].shape).astype(int) - wanted[key]) <= 4
            assert near.mean() > 0.998, (step, key)
        assert now["label"] == wanted["label"]
        assert now["share"] == pytest.approx(wanted["share"], abs=5e-4)
        assert now["confidence"] == pytest.approx(wanted["confidence"], abs=1e-4)
        for said, meant in zip(now["said"], wanted["said"], strict=True):
            assert re.sub(r"[\d.]+%", "", said) == re.sub(r"[\d.]+%", "", meant)
    if target == "clicked":
        assert recorder.asked[len(first) - 1][2] == (-1 if seed == 1 else 1)


def _square(photo: OpenPhoto) -> np.ndarray:
    """The photo as its model sees it."""
    return photo.segmenter.squares([photo.image])[0]


@needs_node
@pytest.mark.parametrize("shape", [(5, 7), (130, 33), (1, 1, 4), (200, 150, 4)])
def test_png_files_hold_the_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    (told,) = in_node(("png", pixels, shape[1], shape[0]))
    image = Image.open(io.BytesIO(told.tobytes()))
    assert image.mode == ("RGBA" if len(shape) == 3 else "L")
    np.testing.assert_array_equal(np.asarray(image), pixels)


@needs_node
@pytest.mark.parametrize("shape", [(7, 5), (41, 60), (3, 1000), (1000, 3)])
def test_masks_are_written_for_coco_as_in_python(shape):
    rng = np.random.default_rng(0)
    blobs = cv2.GaussianBlur(rng.uniform(0, 1, shape), (0, 0), 2)
    cases = [(blobs > threshold, value) for threshold, value in ((0.5, 1), (0.45, 2), (0.55, 3), (2, 1), (-1, 2))]
    calls = [
        ("coco", "a.jpg", mask, shape[1], shape[0], ("cat", "dog", "background")[value - 1]) for mask, value in cases
    ]
    for told, (mask, value) in zip(in_node(*calls), cases, strict=True):
        assert told == coco([("a.jpg", mask * np.uint8(value))])


# The file


@needs_npm
def test_the_command_writes_one_file_or_a_folder_for_a_host(tmp_path):
    done = CliRunner().invoke(app, ["web", "-o", str(tmp_path / "new" / "try.html")])
    assert done.exit_code == 0 and re.search(r"try\.html: \d\d\.\d MB\n", done.stdout)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["try.html"]
    assert (tmp_path / "new" / "try.html").stat().st_size < 30e6
    done = CliRunner().invoke(app, ["web", "-o", str(tmp_path / "site")])
    files = list((tmp_path / "site").iterdir())
    assert done.exit_code == 0 and f"MB in {len(files)} files" in done.stdout and len(files) == 7
    assert sum(path.stat().st_size for path in files) < 14e6
    write_page(tmp_path / "again")
    for path in files:
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


@needs_npm
def test_a_page_of_the_users_is_not_replaced(tmp_path):
    (tmp_path / "site").mkdir()
    for path in (tmp_path / "mine.html", tmp_path / "site" / "index.html"):
        path.write_text("<title>mine</title>")
        done = CliRunner().invoke(app, ["web", "-o", str(path.parent if path.name == "index.html" else path)])
        assert isinstance(done.exception, PetsegError) and "was not written by petseg web" in str(done.exception)
        assert path.read_text() == "<title>mine</title>"
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["index.html"]
    write_page(write_page(tmp_path / "own.html")[0])  # one of its own is


@needs_npm
def test_the_page_names_no_other_host(tmp_path):
    (path,) = write_page(tmp_path / "try.html")
    text = path.read_text()
    assert "://" not in text and "connect-src 'none'" in text and "sourceMappingURL" not in text


def test_without_npms_packages_the_reader_learns_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(web_page, "RUNTIME", tmp_path)
    with pytest.raises(PetsegError, match="needs npm's packages, which are not installed: run make setup"):
        write_page(tmp_path / "try.html")


def test_a_report_links_the_page_or_says_why_it_was_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PETSEG_RUNS", str(tmp_path / "runs"))
    study, out = load_study("smoke"), tmp_path / "out"
    (tmp_path / "01_only.ipynb").write_text(nbformat.writes(nbformat.v4.new_notebook()))
    report = functools.partial(build_report, study, notebooks=tmp_path, out=out)
    report(write_page=lambda path: path.write_text("the page"))
    assert (out / "try.html").read_text() == "the page" and 'href="try.html"' in (out / "index.html").read_text()

    def fail(path: Path) -> None:
        raise PetsegError("Something is missing.")

    report(write_page=fail)
    index = (out / "index.html").read_text()
    assert "was left out. Something is missing." in index and "try.html" not in index
    assert not (out / "try.html").exists()
    report()
    assert "Try it" not in (out / "index.html").read_text()


WIDGET = "The click demo. It needs a running notebook."


def page_with_demo(folder: Path, try_it: TryPage | None) -> Path:
    """A page of a report, of a notebook that shows the widget."""
    path = folder / "05_demo.ipynb"
    output = nbformat.v4.new_output("execute_result", {"text/plain": WIDGET})
    cell = nbformat.v4.new_code_cell("demo", outputs=[output], metadata={"tags": [TRY_TAG]})
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Clicks"), cell])
    nbformat.write(book, path)
    sheet = read_sheet(path)
    page = folder / "05_demo.html"
    page.write_text(render_page(load_study("smoke"), book, sheet, [sheet], None, 1, try_it), encoding="utf-8")
    return page


def test_where_the_widget_would_be_the_report_leads_to_the_page_or_says_why_not(tmp_path):
    text = page_with_demo(tmp_path, TryPage("try.html")).read_text()
    assert re.search('<iframe [^>]*src="try.html"[^>]* title="Cut a pet out', text) and '<a href="try.html">' in text
    assert "frame-src 'self'" in text and WIDGET not in text
    text = page_with_demo(tmp_path, TryPage(None, "Something is missing.")).read_text()
    assert "was left out. Something is missing." in text and "iframe" not in text and "frame-src" not in text
    assert WIDGET in page_with_demo(tmp_path, None).read_text()


def test_the_notebook_with_the_widget_says_where_the_page_goes():
    notebook = nbformat.read(ROOT / "notebooks" / "05_point_prompt.ipynb", 4)
    assert [TRY_TAG in cell.metadata.get("tags", []) for cell in notebook.cells] == [
        cell.cell_type == "code" and "click_demo(" in cell.source for cell in notebook.cells
    ]


# The page, in a browser


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The page as one file and as a folder that a server of this process hands out; the addresses of both."""
    if not web_page.RUNTIME.is_dir():
        pytest.skip("npm's packages are not installed: make setup")
    folder = tmp_path_factory.mktemp("site")
    write_page(folder / "try.html")
    write_page(folder / "hosted")
    sent: dict[str, int] = {}

    class Handler(http.server.SimpleHTTPRequestHandler):
        def copyfile(self, source, outputfile) -> None:
            data = source.read()
            sent[self.path] = len(data)
            outputfile.write(data)

        def log_message(self, *_) -> None:
            pass

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hosted = f"http://127.0.0.1:{server.server_port}/hosted/"
        yield SimpleNamespace(folder=folder, file=(folder / "try.html").as_uri(), hosted=hosted, sent=sent)
        server.shutdown()


class Visitor:
    """Somebody with a window of their own."""

    def __init__(self, browser, address: str, width: int = 1280, height: int = 900, **options):
        self.window = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.page, self.asked, self.errors = self.window.new_page(), [], []
        self.page.set_default_timeout(60_000)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: said.type == "error" and self.errors.append(said.text))
        self.page.goto(address)

    @property
    def said(self) -> str:
        return self.page.locator("#said").inner_text()

    def expect(self, pattern: str) -> str:
        """Wait until the page says something."""
        self.page.wait_for_function(
            "wanted => RegExp(wanted).test(document.querySelector('#said').textContent)", arg=pattern
        )
        return self.said

    def open(self, photo: np.ndarray | Path, name: str = "photo.png") -> str:
        if isinstance(photo, np.ndarray):
            buffer = io.BytesIO()
            Image.fromarray(photo).save(buffer, "PNG")
            photo = {"name": name, "mimeType": "image/png", "buffer": buffer.getvalue()}
        before = self.said
        self.page.set_input_files("#file", photo)
        return self.wait(before, "^Opening|^Getting ready")

    def wait(self, before: str, not_yet: str = "^$") -> str:
        """Wait until the page says something else, and has done what it was asked."""
        self.page.wait_for_function(
            """([before, notYet]) => {
                const said = document.querySelector("#said").textContent;
                return said !== before && !RegExp(notYet).test(said) && !document.body.hasAttribute("aria-busy");
            }""",
            arg=[before, not_yet],
        )
        return self.said

    def spot(self, x: float, y: float) -> tuple[float, float]:
        """A part of the photo's width and height as a place in the window."""
        canvas = self.page.locator("#photo")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def click(self, x: float, y: float, **options) -> str:
        before = self.said
        self.page.mouse.click(*self.spot(x, y), **options)
        return self.wait(before)

    def press(self, name: str) -> str:
        before = self.said
        self.page.get_by_role("button", name=name, exact=True).click()
        return self.wait(before)

    def choose(self, tool: str) -> None:
        self.page.get_by_text(tool, exact=True).click()

    def draw_box(self, x0: float, y0: float, x1: float, y1: float) -> str:
        before = self.said
        self.page.mouse.move(*self.spot(x0, y0))
        self.page.mouse.down()
        self.page.mouse.move(*self.spot(x1, y1), steps=3)
        self.page.mouse.up()
        return self.wait(before)

    def save(self, name: str) -> np.ndarray:
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name=name, exact=True).click()
        self.expect("is saved")
        return np.asarray(Image.open(download.value.path()))


@pytest.fixture
def visit(browser):
    """Opens windows, and closes them after the test; none may have met an error or asked another machine."""
    visitors = []

    def open_window(address: str, *size, **options) -> Visitor:
        visitors.append(Visitor(browser, address, *size, **options))
        return visitors[-1]

    yield open_window
    for visitor in visitors:
        visitor.window.close()
        assert not visitor.errors
        assert all(url.startswith(("file:", "blob:", "data:", "http://127.0.0.1:")) for url in visitor.asked)


@pytest.fixture(scope="module")
def shipped() -> Segmenter:
    return Segmenter.load("point")


def drawn(number: int) -> list[np.ndarray]:
    """So many drawn photos, of as many breeds."""
    return [draw_pet(breed, 7)[0] for breed in BREEDS[:number]]


def saved(photo: OpenPhoto, what: str) -> np.ndarray:
    """What Python saves."""
    return np.asarray(Image.open(io.BytesIO(result_png(photo.image, photo.selection, what))))


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Share of the pixels that are equal, up to two levels of a colour."""
    away = np.abs(one.astype(int) - other)
    return float((away <= 2).mean() if one.ndim == 2 else (away <= 2).all(-1).mean())


def test_off_the_network_masks_and_cut_outs_are_those_of_python(visit, site, shipped):
    visitor = visit(site.file, offline=True, accept_downloads=True)
    visitor.expect("^Ready")
    for photo in drawn(4):
        mine = shipped.open(photo)
        assert visitor.open(photo) == sentence(mine)
        height, width = photo.shape[:2]
        for x, y, positive in ((0.5, 0.55, True), (0.1, 0.15, False)):
            visitor.page.mouse.click(*visitor.spot(x, y), button="left" if positive else "right")
            mine.click(x * width - 0.5, y * height - 0.5, positive)
        visitor.expect("^Selected|^Nothing")
        assert alike(visitor.save("Save mask"), saved(mine, "mask")) >= ALIKE
        assert alike(visitor.save("Save cut-out"), saved(mine, "cut-out")) >= ALIKE
    assert not any(url.startswith("http") for url in visitor.asked)


@pytest.fixture(scope="module")
def missed(shipped) -> tuple[np.ndarray, np.ndarray, Click]:
    """A drawn photo of which the model misses a part that people would click on; the pet; and that click."""
    for photo, pet in (draw_pet(breed, number) for number in range(9) for breed in BREEDS):
        depth, click = deepest_click(pet & ~shipped.open(photo).mask)
        if depth > DEEP * max(pet.shape):
            return photo, pet, click
    pytest.fail("of no drawn picture such a part is missed: look for another picture")


def work_on(visitor: Visitor, photo: np.ndarray, pet: np.ndarray, click: Click) -> None:
    """Click on what is missed, take it away in three ways, draw a box, undo and clear."""
    height, width = pet.shape
    place = (click.x + 0.5) / width, (click.y + 0.5) / height
    first = visitor.open(photo)
    assert first.startswith("Proposed: ") and visitor.page.get_by_role("button", name="Undo").is_disabled()
    proposed = visitor.save("Save mask") > 0
    assert visitor.click(*place).startswith("Selected: ")
    grown = visitor.save("Save mask") > 0
    assert grown[click.y, click.x] and not proposed[click.y, click.x]
    assert (proposed & ~grown).sum() < 0.01 * proposed.sum() and (pet & grown).sum() > (pet & proposed).sum() + 20
    for way in ("right", "Shift", "This is not"):
        if way == "Shift":
            visitor.page.keyboard.down("Shift")
        if way == "This is not":
            visitor.choose(way)
        visitor.click(*place, button="right" if way == "right" else "left")
        visitor.page.keyboard.up("Shift")
        assert not visitor.save("Save mask")[click.y, click.x], way
        visitor.press("Undo")
        assert ((visitor.save("Save mask") > 0) == grown).all()
    visitor.choose("Box around it")
    visitor.draw_box(0.1, 0.1, 0.5, 0.95)
    boxed = visitor.save("Save mask") > 0
    assert boxed.any() and not boxed[:, int(0.6 * width) :].any() and not (boxed & ~grown).any()
    assert visitor.press("Clear") == first
    assert ((visitor.save("Save mask") > 0) == proposed).all()


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_in_a_frame_of_a_report_a_click_changes_the_mask(visit, site, width, height):
    page = page_with_demo(site.folder, TryPage("try.html"))
    visitor = visit(page.as_uri(), width, height, offline=True)
    frame = visitor.page.frame_locator("iframe")
    frame.get_by_role("button", name="Try it with Chelsea, a cat").click()
    said, canvas = frame.locator("#said"), frame.locator("#photo")
    said.get_by_text("Proposed: cat").wait_for()
    before = canvas.screenshot()
    canvas.click(position={"x": 0.95 * canvas.bounding_box()["width"], "y": 5})
    said.get_by_text("Selected: cat").wait_for()
    assert canvas.screenshot() != before
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_click_on_a_missed_part_grows_the_selection(visit, site, missed):
    work_on(visit(site.file, offline=True), *missed)


def test_the_hosted_page_does_the_same_and_is_loaded_once(visit, site, missed):
    visitor = visit(site.hosted)
    visitor.expect("^Ready")
    received = sum(site.sent.values())
    assert 5e6 < received <= 14e6 and len(site.sent) == 7
    work_on(visitor, *missed)
    site.sent.clear()
    visitor.page.reload()
    visitor.expect("^Ready")
    assert set(site.sent) <= {"/hosted/", "/hosted/index.html"}


@pytest.mark.long
def test_the_published_report_leads_to_the_hosted_page(visit, site, tmp_path, monkeypatch):
    """As its workflow publishes it: what follows `make reports` there runs here on a small report."""
    monkeypatch.setenv("PETSEG_RUNS", str(tmp_path / "runs"))
    root = site.folder / "published"
    report = root / "reports" / "sample"
    report.mkdir(parents=True)
    (report / "try.html").write_text("the one file")
    page_with_demo(report, TryPage("try.html"))
    sheet = read_sheet(report / "05_demo.ipynb")
    (report / "index.html").write_text(render_index(load_study("smoke"), [sheet], report, {}, TryPage("try.html")))
    before = {path.name for path in report.iterdir()}
    (root / ".venv").symlink_to(Path(sys.executable).parent.parent)
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "report.yml").read_text())
    runs = [step["run"] for step in workflow["jobs"]["report"]["steps"] if "run" in step]
    assert runs[0] == "make reports"
    for run in runs[1:]:
        subprocess.run(["bash", "-e", "-c", run], cwd=root, check=True)
    assert len({path.name for path in report.iterdir()} - before) == 6

    site.sent.clear()
    visitor = visit(f"{site.hosted.removesuffix('hosted/')}published/reports/sample/index.html")
    visitor.page.get_by_role("link", name="Try it on your own photo").click()
    visitor.expect("^Ready")
    assert visitor.page.url.endswith("/reports/sample/try.html") and len(site.sent) == 8
    visitor.page.get_by_role("button", name="Try it with Chelsea, a cat").click()
    visitor.expect("^Proposed: cat")
    site.sent.clear()
    visitor.page.goto(visitor.page.url.replace("try.html", "05_demo.html"))
    frame = visitor.page.frame_locator("iframe")
    frame.get_by_role("button", name="Try it with Chelsea, a cat").click()
    frame.locator("#said").get_by_text("Proposed: cat").wait_for()
    assert {Path(address).name for address in site.sent} <= {"05_demo.html", "try.html"}


def test_on_a_phone_fingers_add_remove_and_scroll(visit, site, missed):
    photo, _, click = missed
    height, width = photo.shape[:2]
    visitor = visit(site.file, 390, 844, device_scale_factor=3, has_touch=True, is_mobile=True, offline=True)
    visitor.open(photo)
    page = visitor.page
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, fieldset span, input[type=range]")].filter(({offsetHeight}) =>
            offsetHeight && offsetHeight < (innerWidth < 500 ? 24 : 0)).length"""
    )
    assert small == 0
    place = visitor.spot((click.x + 0.5) / width, (click.y + 0.5) / height)
    before = visitor.said
    page.touchscreen.tap(*place)
    assert visitor.wait(before).startswith("Selected: ")
    assert visitor.save("Save mask")[click.y, click.x]
    before = visitor.said
    place = visitor.spot((click.x + 0.5) / width, (click.y + 0.5) / height)
    devtools = visitor.window.new_cdp_session(page)
    at = [{"x": place[0], "y": place[1]}]
    devtools.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": at})
    page.wait_for_timeout(800)  # a long press
    devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    visitor.wait(before)
    assert not visitor.save("Save mask")[click.y, click.x]
    assert visitor.press("Undo").startswith("Selected: ") and visitor.press("Undo").startswith("Proposed: ")


def test_the_keyboard_alone_is_enough(visit, site, missed):
    photo, _, click = missed
    height, width = photo.shape[:2]
    visitor = visit(site.file, offline=True)
    first = visitor.open(photo)
    page = visitor.page
    page.locator("#photo").focus()

    def go(x: float, y: float) -> None:
        """From the middle, where the cross is at first."""
        step = max(height, width) / 500
        for far, keys in (
            (x - (width - 1) / 2, ("ArrowLeft", "ArrowRight")),
            (y - (height - 1) / 2, ("ArrowUp", "ArrowDown")),
        ):
            whole, rest = divmod(round(abs(far) / step), 10)
            for _ in range(whole):
                page.keyboard.press(keys[far > 0])
            for _ in range(rest):
                page.keyboard.press(f"Shift+{keys[far > 0]}")

    def press(key: str) -> str:
        before = visitor.said
        page.keyboard.press(key)
        return visitor.wait(before)

    go(click.x, click.y)
    assert press("Enter").startswith("Selected: ")
    assert visitor.save("Save mask")[click.y, click.x]
    for key in ("Delete", "Shift+Enter"):
        page.locator("#photo").focus()
        go(click.x, click.y)
        press(key)
        assert not visitor.save("Save mask")[click.y, click.x]
        press("Control+z")
    assert press("Control+z") == first
    page.get_by_label("Box around it").press(" ")
    page.locator("#photo").focus()
    assert press("Enter") == "Now move to the opposite corner of the box, and press Enter."
    for _ in range(30):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
    press("Enter")
    assert not visitor.save("Save mask")[:, : width // 2 - 10].any()


def test_the_switch_selects_what_is_clicked_on_and_coco_holds_it(visit, site, shipped):
    photo = np.hstack([drawn(1)[0]] * 2)
    height, width = photo.shape[:2]
    visitor = visit(site.file, offline=True, accept_downloads=True)
    visitor.open(photo, "two.pets.png")
    visitor.click(0.1, 0.1)
    switch = visitor.page.get_by_role("checkbox", name=SWITCH)
    assert switch.evaluate("node => node.labels[0].parentNode.textContent").strip().endswith(SWITCH_HELP)
    before = visitor.said
    switch.press(" ")
    mine = shipped.open(photo, "clicked")
    assert visitor.wait(before) == after_switch(mine, cleared=True)
    assert visitor.page.get_by_role("button", name="Undo").is_disabled()
    for x, y, label in ((0.25, 0.55, None), (0.02, 0.02, "background")):
        visitor.click(x, y)
        mine.clear()
        mine.click(x * width - 0.5, y * height - 0.5)
        assert visitor.said == sentence(mine) and label in (None, mine.label)
        mask = visitor.save("Save mask")
        assert alike(mask, saved(mine, "mask")) >= ALIKE
        with visitor.page.expect_download() as download:
            visitor.page.get_by_role("button", name="Save COCO").click()
        assert (
            visitor.expect("is saved")
            == download.value.suggested_filename + " is saved."
            == "two.pets_coco.json is saved."
        )
        value = CLASSES.index(mine.label) or len(CLASSES)
        assert json.loads(Path(download.value.path()).read_text()) == coco(
            [("two.pets.png", (mask > 127) * np.uint8(value))]
        )
        visitor.press("Clear")
    other = drawn(2)[1]
    assert visitor.open(other) == sentence(shipped.open(other))
    assert visitor.click(0.02, 0.02) == sentence(shipped.open(other, "clicked").add(Click(0.02 * 400, 0.02 * 300)))


def test_the_opacity_changes_what_is_seen(visit, site):
    visitor = visit(site.file, offline=True)
    visitor.page.get_by_role("button", name="Try it with Chelsea, a cat").click()
    visitor.expect("^Proposed: cat, 78.4% of the photo, with confidence 98%")
    middle = "() => [...document.querySelector('#photo').getContext('2d').getImageData(400, 400, 1, 1).data]"
    colours = []
    for value in ("0", "100"):
        visitor.page.locator("#opacity").fill(value)
        visitor.page.wait_for_timeout(200)
        colours.append(visitor.page.evaluate(middle))
    assert colours[0] != colours[1] == [0xE6, 0x9F, 0x00, 255]


def test_a_photo_may_be_dropped_or_pasted(visit, site):
    visitor = visit(site.file, offline=True)
    buffer = io.BytesIO()
    Image.fromarray(drawn(1)[0]).save(buffer, "PNG")
    give = """([kind, name, text]) => {
        const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], name, { type: "image/png" }));
        const options = { bubbles: true, cancelable: true };
        const event = kind === "drop" ? new DragEvent(kind, { ...options, dataTransfer: data })
            : new ClipboardEvent(kind, { ...options, clipboardData: data });
        document.body.dispatchEvent(event);
    }"""
    for kind in ("drop", "paste"):
        before = visitor.said
        visitor.page.evaluate(give, [kind, f"{kind}.png", base64.b64encode(buffer.getvalue()).decode()])
        assert visitor.wait(before, "^Opening|^Getting ready|^Ready").startswith("Proposed: ")
        visitor.save("Save mask")
    before = visitor.said
    visitor.page.evaluate(
        "() => document.body.dispatchEvent(new DragEvent('drop', { bubbles: true, dataTransfer: new DataTransfer() }))"
    )
    assert visitor.wait(before) == "That was no photo: use a photo as JPEG, PNG, WebP or BMP."


def test_a_bad_file_gets_a_sentence_and_what_was_open_stays(visit, site, tmp_path):
    visitor = visit(site.file, offline=True)
    visitor.expect("^Ready")
    photo = drawn(1)[0]
    Image.new("1", (10_000, MAX_PIXELS // 10_000 + 1)).save(tmp_path / "large.png")
    (tmp_path / "text.png").write_bytes(b"hello")
    (tmp_path / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90"></svg>')
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "PNG")
    (tmp_path / "cut.png").write_bytes(buffer.getvalue()[:600])
    sentences = {
        "large.png": "large.png has more than 52 megapixels: make it smaller and try again.",
        "text.png": "text.png is no picture that this browser can read, or is damaged: use a photo as JPEG,",
        "drawing.svg": "drawing.svg is no picture that this browser can read, or is damaged: use a photo as JPEG,",
        "cut.png": "cut.png is damaged: save it anew, or use a photo as JPEG,",
    }
    for opened in (False, True):
        for name, why in sentences.items():
            assert visitor.open(tmp_path / name).startswith(why)
        assert visitor.page.get_by_role("button", name="Save mask").is_visible() == opened
        if not opened:
            visitor.open(photo)
    assert visitor.save("Save mask").shape == photo.shape[:2]


def test_photos_come_upright_and_of_any_size(visit, site, shipped):
    visitor = visit(site.file, offline=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: the first row is the right side
    buffer = io.BytesIO()
    Image.fromarray(drawn(1)[0]).save(buffer, "JPEG", quality=95, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(buffer))
    visitor.page.set_input_files("#file", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()})
    visitor.expect("^Proposed|^Nothing")
    mask = visitor.save("Save mask")
    assert mask.shape == upright.size[::-1]
    assert (
        alike(mask, saved(shipped.open(np.asarray(upright)), "mask")) >= 0.99
    )  # browsers decode JPEG in their own way
    for size in ((1, 1), (900, 1), (1, 900)):
        visitor.open(np.asarray(Image.new("RGB", size, "orange")))
        visitor.click(0.5, 0.5)
        assert visitor.save("Save mask").shape == size[::-1]
        assert visitor.save("Save cut-out").shape == (*size[::-1], 4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_and_everything_has_a_name(visit, site, scheme):
    visitor = visit(site.file, offline=True, color_scheme=scheme)
    visitor.open(drawn(1)[0])
    told = visitor.page.evaluate(LOOK)
    assert len(told) > 10 and min(told.values()) >= 4.5, told
    unnamed = visitor.page.evaluate(
        """() => [...document.querySelectorAll("button, input, canvas, section")].filter(node =>
            !(node.textContent.trim() || node.ariaLabel || node.labels?.length)).map(node => node.outerHTML)"""
    )
    assert unnamed == []


LOOK = r"""() => {
    const numbers = colour => colour.match(/[\d.]+/g).map(Number);
    const light = colour => numbers(colour).slice(0, 3).map(part => part / 255)
        .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, channel) => sum + part * [0.2126, 0.7152, 0.0722][channel], 0);
    const ground = node => {
        while (node && numbers(getComputedStyle(node).backgroundColor)[3] === 0) node = node.parentElement;
        return node ? getComputedStyle(node).backgroundColor : "rgb(255, 255, 255)";
    };
    const told = {};
    for (const node of document.querySelectorAll("h1, p, button, legend, label span, label, summary, pre")) {
        if (!node.checkVisibility() || !node.textContent.trim()) continue;
        const [one, other] = [light(getComputedStyle(node).color), light(ground(node))].sort((a, b) => b - a);
        told[node.textContent.trim().slice(0, 30)] = (one + 0.05) / (other + 0.05);
    }
    return told;
}"""


# The page, in Firefox: Playwright drives none that is installed, so this speaks Firefox's own protocol, Marionette

FIREFOX = shutil.which("firefox-esr")  # not one from a snap, which sees no temporary folders


@pytest.fixture
def firefox(tmp_path):
    """A function that sends Firefox a command, and returns the answer; downloads go into the test's folder."""
    profile = tmp_path / "profile"
    profile.mkdir()
    settings = {"marionette.port": 0, "browser.download.folderList": 2, "browser.download.dir": str(tmp_path)}
    (profile / "user.js").write_text("".join(f"user_pref{name, value};" for name, value in settings.items()))
    command = [FIREFOX, "--headless", "--no-remote", "--marionette", "--profile", profile]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            port = int(eventually(lambda: (profile / "MarionetteActivePort").read_text()))
            with socket.create_connection(("127.0.0.1", port), timeout=60) as line, line.makefile("rwb") as stream:

                def receive():
                    length = b"".join(iter(functools.partial(stream.read, 1), b":"))
                    return json.loads(stream.read(int(length)))

                def send(name: str, **parameters):
                    message = json.dumps([0, 1, name, parameters]).encode()
                    stream.write(b"%d:%s" % (len(message), message))
                    stream.flush()
                    _, _, error, answer = receive()
                    assert error is None, error
                    return answer["value"] if set(answer) == {"value"} else answer

                receive()  # who it is
                send("WebDriver:NewSession")
                yield send
        finally:
            process.terminate()


def eventually(get):
    """What `get` gives once it is anything and no file is missing any more; within a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(FileNotFoundError):
            if value := get():
                return value
        time.sleep(0.05)
    pytest.fail("waited a minute in vain")


@pytest.mark.skipif(not FIREFOX, reason="no Firefox: apt install firefox-esr")
def test_in_firefox_masks_are_those_of_python_too(firefox, site, shipped, tmp_path):
    def press(css: str) -> None:
        (element,) = firefox("WebDriver:FindElement", using="css selector", value=css).values()
        firefox("WebDriver:ElementClick", id=element)

    def expect(start: str) -> None:
        read = "return document.querySelector('#said').textContent"
        eventually(lambda: firefox("WebDriver:ExecuteScript", script=read).startswith(start))

    mine = shipped.open(EXAMPLES["Chelsea"])
    firefox("WebDriver:SetWindowRect", width=1280, height=1000)  # all of the photo is in view, so its middle is clicked
    firefox("WebDriver:Navigate", url=site.file)
    expect("Ready")
    press("#example")
    expect(sentence(mine))
    press("fieldset label:nth-of-type(2)")  # This is not
    press("#photo")
    height, width = mine.image.shape[:2]
    assert mine.click((width - 1) / 2, (height - 1) / 2, positive=False).mean() < 0.7
    expect("Selected: cat")
    press("#mask")
    expect("chelsea_mask.png is saved.")
    mask = eventually(lambda: (tmp_path / "chelsea_mask.png").read_bytes())
    assert alike(np.asarray(Image.open(io.BytesIO(mask))), saved(mine, "mask")) >= ALIKE
