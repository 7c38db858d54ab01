"""ONNX Runtime beside torch, in one run: a photo, a click, `petseg segment` of one photo and of many, and memory.

Usage: python benchmarks/bench_runtimes.py [--photos 200] [--threads 1,2] [--json OUT]

Each measurement is repeated, the two runtimes in turns.  The photos are Chelsea's, enlarged to 1,000 and, for memory,
to 4,243 pixels (12 megapixels).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from petseg_utils.apps.cutouts import EXAMPLES

# In its own process, since threads are set once: milliseconds of a photo and of a click, with both runtimes.
IN_PROCESS = """
import json, os, sys, time, statistics
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np, onnxruntime, torch
threads, rounds = int(sys.argv[1]), int(sys.argv[2])
make = onnxruntime.SessionOptions
def options():
    made = make()
    made.intra_op_num_threads = threads
    if sys.argv[3] != "default":
        made.add_session_config_entry("session.intra_op.allow_spinning", sys.argv[3])
    return made
onnxruntime.SessionOptions = options
torch.set_num_threads(threads)
from petseg_utils.apps.cutouts import example_photo
from petseg_utils.segmenter import Segmenter
from petseg_utils.training.process import set_up_process
set_up_process()
photo, times = example_photo(), {}
models = {name: Segmenter.load("point", runtime=name) for name in ("onnx", "torch")}
opened = {name: model.open(photo) for name, model in models.items()}
square = models["onnx"].squares([photo])
edge = np.ones((1024, 1024), np.float32)
tensor = torch.from_numpy(edge)
for round in range(rounds + 1):
    for name, model in models.items():
        for what, task in (("networks", lambda: model.model.look(square)), ("photo", lambda: model.open(photo).mask),
                           ("click", lambda: (opened[name].click(200, 150), opened[name].clear()))):
            start = time.perf_counter()
            task()
            if round:
                times.setdefault(f"{name}, {what}", []).append(1000 * (time.perf_counter() - start))
    start = time.perf_counter()
    tensor @ tensor
    times.setdefault("matrix product", []).append(1000 * (time.perf_counter() - start))
rate = 1024**3 / (statistics.median(times.pop("matrix product")) / 1000)
parts = models["onnx"].card["multiply_adds"]
medians = {name: statistics.median(taken) for name, taken in times.items()}
medians["arithmetic alone, networks"] = 1000 * (parts["encoder"] + parts["decoder"]) / rate
print(json.dumps(medians))
"""


def segment(photos: Path, runtime: str) -> tuple[float, float]:
    """Return the seconds of `petseg segment` from process start to the last file, and its peak memory in MB."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "petseg_utils", "segment", str(photos), "-o", out, "--runtime", runtime]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        assert status == 0
        return time.perf_counter() - start, used.ru_maxrss / 1024


def enlarged(folder: Path, width: int, count: int) -> Path:
    """Make a folder of photos of this width."""
    folder.mkdir()
    with Image.open(EXAMPLES["Chelsea"]) as photo:
        photo.resize((width, width * photo.height // photo.width)).save(folder / "0.jpg", quality=92)
    for number in range(1, count):
        (folder / f"{number}.jpg").write_bytes((folder / "0.jpg").read_bytes())
    return folder


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    for threads in chosen.threads.split(","):
        for spinning in ("0", "1"):
            command = [sys.executable, "-c", IN_PROCESS, threads, str(chosen.rounds), spinning]
            told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            name = f"{threads} thread(s)" + (", spinning" if spinning == "1" else "")
            for what in ("networks", "photo", "click"):
                rows[f"{what}, ms, {name}"] = {runtime: told[f"{runtime}, {what}"] for runtime in ("onnx", "torch")}
            rows[f"networks, ms, {name}"]["arithmetic alone"] = told["arithmetic alone, networks"]
    with tempfile.TemporaryDirectory() as folder:
        single, many, large = (
            enlarged(Path(folder) / name, width, count)
            for name, width, count in (("one", 1000, 1), ("many", 1000, chosen.photos), ("large", 4243, 10))
        )
        parts = (("one photo", single, 5), (f"{chosen.photos} photos", many, 2), ("12 MP", large, 1))
        for name, photos, repeats in parts:
            taken: dict[str, list[tuple[float, float]]] = {"onnx": [], "torch": []}
            for _ in range(repeats):
                for runtime in taken:
                    taken[runtime].append(segment(photos, runtime))
            rows[f"petseg segment, {name}, s"] = {k: statistics.median(s for s, _ in v) for k, v in taken.items()}
            rows[f"petseg segment, {name}, peak MB"] = {k: max(m for _, m in v) for k, v in taken.items()}
    print("| measurement | ONNX Runtime | torch | ratio | arithmetic alone |\n|---|---|---|---|---|")
    for what, row in rows.items():
        alone = f"{row['arithmetic alone']:.1f}" if "arithmetic alone" in row else ""
        print(f"| {what} | {row['onnx']:.1f} | {row['torch']:.1f} | {row['onnx'] / row['torch']:.2f} | {alone} |")
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
