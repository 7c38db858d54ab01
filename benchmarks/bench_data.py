"""How fast pictures are read and letterboxed: from their files, and from the decoded cache.

Usage: python benchmarks/bench_data.py [--pictures 540] [--data PATH] [--json OUT]

Without --data, the pictures are drawn for it.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from petseg_utils.data.datasets import list_pictures
from petseg_utils.data.drawing.sample import draw_sample
from petseg_utils.data.pictures import decode

SIZE, WORKERS = 224, 2


def main() -> None:
    """Measure both, and print pictures per second and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=540)
    parser.add_argument("--data", type=Path, help="folder of a data set")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the numbers to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or draw_sample(Path(folder) / "pets", options.pictures, 2)
        pictures, cache = list_pictures(data, "trainval")[: options.pictures], Path(folder) / "cache"
        began = time.perf_counter()
        decode(pictures, SIZE, cache, workers=WORKERS, progress=False)
        from_files = time.perf_counter() - began
        began = time.perf_counter()
        cached = decode(pictures, SIZE, cache, workers=WORKERS, progress=False)
        total = sum(int(image.sum()) for image in cached.images)  # touch every pixel: a memory map reads lazily
        from_cache = time.perf_counter() - began
        del cached
    numbers = {
        "pictures": len(pictures),
        "size": SIZE,
        "workers": WORKERS,
        "from files, pictures/s": len(pictures) / from_files,
        "from the cache, pictures/s": len(pictures) / from_cache,
        "ratio": from_files / from_cache,
        "checksum": total,
    }
    print("\n".join(f"{name:28} {value:,.1f}" for name, value in numbers.items()))
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
