"""How fast and how large the page without a server is, and whether its masks are those of Python.

Usage: python benchmarks/bench_web.py [--photos 20] [--clicks 40] [--json OUT]   (needs Chromium: apt install chromium)

In headless Chromium, with one thread of WebAssembly.  The photos are drawn, and enlarged to 12 megapixels for a
phone's photo.  A click is timed in the page, from the pointer's release to the frame that shows the new mask.
"""

import argparse
import base64
import functools
import http.server
import io
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from petseg_utils.apps.cutouts import result_png
from petseg_utils.apps.web_page import write_page
from petseg_utils.data.drawing.breeds import BREEDS
from petseg_utils.data.drawing.pictures import draw_pet
from petseg_utils.segmenter import Segmenter

LARGE = (4000, 3000)
LIMITS = {
    "ready, s": 2.0,
    "photo opened, ms": 400,
    "click, 95th percentile, ms": 30,
    "one file, MB": 30,
    "hosted, MB": 14,
    "least equal pixels, %": 99.5,
}
# The page draws the mask again for each answer; the clock stops once the frame with it has been drawn.
WATCH = """() => {
    const put = CanvasRenderingContext2D.prototype.putImageData;
    let released;
    document.querySelector("#photo").addEventListener("pointerup", event => { released = performance.now(); }, true);
    CanvasRenderingContext2D.prototype.putImageData = function (...said) {
        put.apply(this, said);
        setTimeout(() => window.drawn?.(performance.now() - released)); // it is called as the frame is being made
    };
}"""
OPEN = """async text => {
    const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], "photo.jpg"));
    const [said, began] = [document.querySelector("#said"), performance.now()];
    const done = new Promise(resolve => new MutationObserver(() => {
        if (/^(Proposed|Nothing)/.test(said.textContent)) resolve(performance.now() - began);
    }).observe(said, { childList: true }));
    document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: data }));
    return done;
}"""


def opened(page: Page, photo: np.ndarray, kind: str = "PNG") -> float:
    """Return the milliseconds from the drop of a photo to its proposed mask."""
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, kind, quality=90)
    return page.evaluate(OPEN, base64.b64encode(buffer.getvalue()).decode("ascii"))


def ready(browser: Browser, address: str) -> tuple[Page, float]:
    """Open a new page, and return it with the seconds until it was ready."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}, offline=address.startswith("file:")).new_page()
    page.set_default_timeout(120_000)
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector("body[data-state=ready]")
    return page, time.perf_counter() - began


def clicked(page: Page, count: int) -> list[float]:
    """Return the milliseconds of clicks all over a photo."""
    canvas, times, rng = page.locator("#photo"), [], np.random.default_rng(0)
    page.evaluate(WATCH)
    for number in range(count + 3):  # the first ones also set things up
        if number % 5 == 4:
            page.locator("#clear").click()
            page.wait_for_timeout(500)
        page.evaluate("() => { window.next = new Promise(done => { window.drawn = done; }); }")
        box, (x, y) = canvas.bounding_box(), rng.uniform(0.1, 0.9, 2)
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        times.append(page.evaluate("window.next"))
    return times[3:]


def saved(page: Page) -> np.ndarray:
    """Return the mask as the page saves it."""
    with page.expect_download() as download:
        page.locator("#mask").click()
    return np.asarray(Image.open(download.value.path()))


def received(browser: Browser, folder: Path) -> int:
    """Return the bytes that a server sends for the hosted page."""
    sent = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def copyfile(self, source, outputfile) -> None:
            data = source.read()
            sent.append(len(data))
            outputfile.write(data)

        def log_message(self, *_) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ready(browser, f"http://127.0.0.1:{server.server_port}/")[0].context.close()
        server.shutdown()
    return sum(sent)


def measure(browser: Browser, folder: Path, photos: int, clicks: int) -> dict[str, float]:
    """Return all numbers by name."""
    write_page(folder / "try.html")
    write_page(folder / "hosted")
    starts = []
    for _ in range(5):
        page, seconds = ready(browser, (folder / "try.html").as_uri())
        starts.append(seconds)
        if len(starts) < 5:
            page.context.close()
    pictures = [draw_pet(BREEDS[number % len(BREEDS)], number)[0] for number in range(photos)]
    first = opened(page, pictures[0])
    segmenter = Segmenter.load("point")
    times, equal = [], []
    for picture in pictures:
        times.append(opened(page, picture))
        photo = segmenter.open(picture)
        expected = np.asarray(Image.open(io.BytesIO(result_png(photo.image, photo.selection, "mask"))))
        equal.append(100 * (saved(page) == expected).mean())
    by_click = clicked(page, clicks)
    enlarged = (np.asarray(Image.fromarray(picture).resize(LARGE)) for picture in pictures[:3])
    large = [opened(page, picture, "JPEG") for picture in enlarged]
    by_large_click = clicked(page, clicks // 2)
    return {
        "ready, s": statistics.median(starts),
        "first photo opened at once, ms": first,
        "photo opened, ms": statistics.median(times),
        "photo of 12 megapixels opened, ms": statistics.median(large),
        "click, median, ms": statistics.median(by_click),
        "click, 95th percentile, ms": float(np.percentile(by_click, 95)),
        "click on 12 megapixels, median, ms": statistics.median(by_large_click),
        "one file, MB": (folder / "try.html").stat().st_size / 1e6,
        "hosted, MB": received(browser, folder / "hosted") / 1e6,
        "least equal pixels, %": min(equal),
        "mean equal pixels, %": statistics.mean(equal),
        "load of the machine": os.getloadavg()[0],
    }


def main() -> None:
    """Measure, and print JSON and a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--clicks", type=int, default=40)
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the numbers to this file")
    options = parser.parse_args()
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        numbers = measure(browser, Path(folder), options.photos, options.clicks)
        browser.close()
    text = json.dumps({name: round(value, 2) for name, value in numbers.items()}, indent=2)
    print(text)
    print("\n| what | measured | aim |\n| --- | --- | --- |")
    for name, value in numbers.items():
        least = name.startswith("least")
        aim = f"{'at least' if least else 'at most'} {LIMITS[name]:g}" if name in LIMITS else ""
        print(f"| {name} | {value:.1f} | {aim} |")
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
