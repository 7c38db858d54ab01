"""What it costs that the page reads photos in a child process: milliseconds a photo, beside reading it in this one.

Usage: python benchmarks/bench_decoding.py [--rounds 20]

The photo is scikit-image's Chelsea at three sizes.  Both ways take turns, and their differences are paired.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from PIL import Image
from skimage.data import chelsea

from petseg_utils.apps.child_processes import Children, reduce_photo

SIZES = ((451, 300), (1000, 665), (4000, 3000))


def milliseconds(children: Children, photo: Path) -> tuple[float, float]:
    """Time a photo in this process and in a child, one after the other."""
    began = time.perf_counter()
    reduce_photo(photo, photo.name, 224, 2)
    here = time.perf_counter()
    children.call(photo.name, reduce_photo, photo, photo.name, 224, 2)
    return 1000 * (here - began), 1000 * (time.perf_counter() - here)


def main() -> None:
    """Measure, and print a line per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    options, children = parser.parse_args(), Children()
    with tempfile.TemporaryDirectory() as folder:
        for width, height in SIZES:
            photo = Path(folder) / f"{width}.jpg"
            Image.fromarray(chelsea()).resize((width, height)).save(photo, quality=92)
            milliseconds(children, photo)  # starts the child
            pairs = [milliseconds(children, photo) for _ in range(options.rounds)]
            here, child = (statistics.median(column) for column in zip(*pairs, strict=True))
            more = statistics.median(second - first for first, second in pairs)
            print(f"{width} x {height}: {here:.1f} ms here, {child:.1f} ms in a child, {more:+.1f} ms more")


if __name__ == "__main__":
    main()
