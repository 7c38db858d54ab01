"""How fast pictures are read and letterboxed: from the files, and from the decoded cache.

Usage: python benchmarks/bench_data.py [--data PATH] [--json OUT]     (the sample study's data by default)
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from petseg_utils.datasets import list_pictures
from petseg_utils.pictures import decode
from petseg_utils.study import load_study

SIZE, WORKERS = 224, 2


def main() -> None:
    """Measure both, and print pictures a second and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=load_study("sample").data_dir)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pictures = list_pictures(options.data, "trainval")
    with tempfile.TemporaryDirectory() as runs:
        os.environ["PETSEG_RUNS"] = runs
        began = time.perf_counter()
        decode(pictures, SIZE, workers=WORKERS, progress=False)
        files = time.perf_counter() - began
        began = time.perf_counter()
        cached = decode(pictures, SIZE, workers=WORKERS, progress=False)
        total = sum(int(image.sum()) for image in cached.images)  # touch every pixel: a memory map reads lazily
        cache = time.perf_counter() - began
    found = {
        "pictures": len(pictures),
        "size": SIZE,
        "workers": WORKERS,
        "from files, pictures/s": len(pictures) / files,
        "from the cache, pictures/s": len(pictures) / cache,
        "ratio": files / cache,
        "checksum": total,
    }
    print("\n".join(f"{name:28} {value:,.1f}" for name, value in found.items()))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
