"""How long the click demo takes in JupyterLab: from a mouse click to the new mask on the screen.

Usage: python benchmarks/bench_widget.py [--clicks 20] [--json OUT]     (needs Chromium: apt install chromium)

The photo is scikit-image's Chelsea, enlarged to 12 megapixels, the size of a phone's photos.
"""

import argparse
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Page, sync_playwright

CELL = """
import numpy as np
from PIL import Image
from skimage.data import chelsea
from petseg_utils.apps.widget import click_demo
demo = click_demo({"large": np.asarray(Image.fromarray(chelsea()).resize((4243, 2828)))})
demo.photo_names.value = "large"
demo
"""
RUN = """async () => {
    const context = window.jupyterapp.shell.currentWidget.sessionContext;
    await context.ready;
    await context.session.kernel.info;
    window.jupyterapp.commands.execute("notebook:run-all-cells");
}"""
# The widget draws its overlay again for each new mask; the clock stops once the frame with it has been drawn.
WATCH = """() => {
    const put = CanvasRenderingContext2D.prototype.putImageData;
    let pressed;
    document.querySelector(".petseg-demo canvas").addEventListener("pointerdown", e => { pressed = e.timeStamp; });
    CanvasRenderingContext2D.prototype.putImageData = function (...said) {
        put.apply(this, said);
        requestAnimationFrame(() => setTimeout(() => window.drawn?.(performance.now() - pressed)));
    };
}"""


def measure(page: Page, clicks: int) -> list[float]:
    """Return the milliseconds of each click, at places all over the photo; clicks that change no pixel are left out."""
    canvas, times, rng = page.locator(".petseg-demo canvas"), [], np.random.default_rng(0)
    page.evaluate(WATCH)
    for number in range(clicks + 3):
        if number % 5 == 0:
            page.get_by_role("button", name="Clear", exact=True).click()
            page.wait_for_timeout(2000)
        page.evaluate("() => { window.next = new Promise(done => { window.drawn = done; setTimeout(done, 3000); }); }")
        box = canvas.bounding_box()
        x, y = rng.uniform(0.1, 0.9, 2)
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        times.append(page.evaluate("window.next"))
        page.wait_for_timeout(300)
    return [milliseconds for milliseconds in times[3:] if milliseconds is not None]


def main() -> None:
    """Start JupyterLab, click, and print the median and the slowest time."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clicks", type=int, default=20)
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the numbers to this file")
    options = parser.parse_args()
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        book = new_notebook(cells=[new_code_cell(CELL.strip())])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, Path(folder) / "demo.ipynb")
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={url.split(':')[-1]}"]
        command += [
            "--IdentityProvider.token=",
            f"--ServerApp.root_dir={folder}",
            "--LabApp.expose_app_in_browser=True",
        ]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while True:
                try:
                    urllib.request.urlopen(f"{url}/api", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.2)
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.set_default_timeout(120_000)
            page.goto(f"{url}/doc/tree/demo.ipynb")
            page.locator(".jp-Notebook .jp-Cell").first.wait_for()
            page.evaluate(RUN)
            page.locator(".petseg-demo canvas").wait_for()
            page.wait_for_timeout(2000)
            times = measure(page, options.clicks)
            browser.close()
        finally:
            server.terminate()
            server.wait()
    if not times:
        sys.exit("No click changed the mask.")
    numbers = {"clicks": len(times), "median_ms": statistics.median(times), "slowest_ms": max(times)}
    print("\n".join(f"{name:12} {value:8.0f}" for name, value in numbers.items()))
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
