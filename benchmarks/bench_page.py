"""How long the demo page takes: from the command to its first answer, and from a click to the new mask on the screen.

Usage: python benchmarks/bench_page.py [--clicks 10] [--json OUT]     (needs Chromium: apt install chromium)

The photo is scikit-image's Chelsea, enlarged to 12 megapixels, the size of a phone's photos.
"""

import argparse
import io
import json
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from skimage.data import chelsea

# Resolves once the next picture is on the screen, to the milliseconds since the mouse was pressed.
WATCH = """() => {
    const image = document.querySelector("#picture img");
    let pressed;
    image.addEventListener("pointerdown", event => { pressed = event.timeStamp; }, {once: true});
    window.drawn = new Promise(done => image.addEventListener("load", () =>
        image.decode().then(() => requestAnimationFrame(() => setTimeout(() => done(performance.now() - pressed)))),
        {once: true}));
}"""


def wait_for(address: str) -> None:
    """Return once the page answers."""
    while True:
        try:
            urllib.request.urlopen(address, timeout=10).read()
            return
        except OSError:
            time.sleep(0.05)


def measure(address: str, clicks: int) -> dict[str, float]:
    """Open the photo in a browser and click on it."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        began = time.perf_counter()
        page.goto(address)
        picture = page.locator("#picture img")
        picture.wait_for()
        first = time.perf_counter() - began
        photo = io.BytesIO()
        Image.fromarray(chelsea()).resize((4243, 2828)).save(photo, "JPEG")
        before, began = picture.get_attribute("src"), time.perf_counter()
        page.locator("input[type=file]").first.set_input_files(
            {"name": "chelsea.jpg", "mimeType": "image/jpeg", "buffer": photo.getvalue()}
        )
        page.wait_for_function("before => document.querySelector('#picture img').src !== before", arg=before)
        opened = time.perf_counter() - began
        page.wait_for_timeout(1000)
        box, times = picture.bounding_box(), []
        for k in range(clicks):
            page.evaluate(WATCH)
            page.mouse.click(
                box["x"] + box["width"] * (0.2 + 0.6 * (k / clicks)), box["y"] + box["height"] * (0.3 + 0.4 * (k % 2))
            )
            times.append(page.evaluate("drawn"))
            page.wait_for_timeout(200)
        browser.close()
    return {
        "first visit to its example, s": first,
        "upload of 12 megapixels to its mask, s": opened,
        "click to new mask, median ms": statistics.median(times),
        "click to new mask, slowest ms": max(times),
    }


def main() -> None:
    """Start the page by its command, measure, and print seconds and milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clicks", type=int, default=10)
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the numbers to this file")
    options = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.perf_counter()
    server = subprocess.Popen([sys.executable, "-m", "petseg_utils", "demo", "--port", str(port)])
    try:
        wait_for(f"http://127.0.0.1:{port}")
        numbers = {"command to first answer, s": time.perf_counter() - began}
        numbers |= measure(f"http://127.0.0.1:{port}", options.clicks)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
    for name, value in numbers.items():
        print(f"{name:42} {value:8.2f}")
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
