"""How fast is it here?  Times of the shipped weights on one photo, and what their arithmetic alone would take."""

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable

import numpy as np
from tqdm.auto import tqdm

from petseg_utils.apps.cutouts import example_photo
from petseg_utils.segmenter import Segmenter
from petseg_utils.study.provenance import git_commit, versions

ROUNDS = 20  # timed ones, after one that warms up
CLICKS = ((200.0, 150.0), (300.0, 200.0), (120.0, 220.0))  # on the cat, in the photo's pixels
EDGE = 1024  # of the matrices whose product shows what the machine can do


def measure(runtime: str | None = None) -> dict:
    """Time the shipped models on a photo of a cat, 451 x 300 pixels.

    The tasks take turns, so that other work on the machine slows all of them equally.  Everything from the photo's
    array to a mask of its size is timed.  A product of two matrices shows how many multiply-adds the machine does in a
    second; at that rate, the networks' own would take `limit` if there were nothing else to do.

    Returns
    -------
    dict
        ``tasks``: name to milliseconds, ``median``, ``p95`` and ``limit``; ``machine``, ``cores``, ``runtime``,
        ``encoder``, ``rounds``, ``multiply_adds`` per second, ``versions`` and ``commit``.

    Raises
    ------
    PetsegError
        If the runtime does not exist or is not installed.
    """
    photo = example_photo()
    decoder, point = (Segmenter.load(name, runtime=runtime) for name in ("decoder", "point"))
    opened = point.open(photo)
    matrix = np.ones((EDGE, EDGE), np.float32)

    def click() -> None:
        for x, y in CLICKS:
            opened.click(x, y)
        opened.clear()

    tasks: dict[str, tuple[Callable[[], object], int]] = {
        "matrix product": (lambda: matrix @ matrix, 1),
        "decoder: a photo": (lambda: decoder.predict(photo), 1),
        "point: open a photo": (lambda: point.open(photo).mask, 1),
        "point: a click": (click, len(CLICKS)),
    }
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for count in tqdm(range(1 + ROUNDS), desc="timing"):
        for name, (task, parts) in tasks.items():
            start = time.perf_counter()
            task()
            if count:
                times[name].append(1000 * (time.perf_counter() - start) / parts)
    rate = EDGE**3 / (np.median(times.pop("matrix product")) / 1000)
    parts = Segmenter.load("point", runtime="onnx").card["multiply_adds"]  # torch does as many
    look = sum(parts[name] for name in ("encoder", "decoder"))
    needed = {"decoder: a photo": look, "point: open a photo": look, "point: a click": parts["click_head"]}
    return {
        "tasks": {
            name: {
                "median": float(np.median(taken)),
                "p95": float(np.quantile(taken, 0.95)),
                "limit": 1000 * needed[name] / rate,
            }
            for name, taken in times.items()
        },
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "runtime": point.model.name,
        "encoder": point.card["encoder"],
        "rounds": ROUNDS,
        "multiply_adds": rate,
        "versions": versions() | {"onnxruntime": importlib.metadata.version("onnxruntime")},
        "commit": git_commit(),
    }


def bench_lines(times: dict) -> str:
    """Format times from `measure` as text for the terminal."""
    lines = [
        f"{times['machine']}, {times['cores']} cores; {times['runtime']}; encoder {times['encoder']}; a photo of "
        f"451 x 300 pixels, {times['rounds']} rounds",
        f"{'':22}{'median':>10}{'p95':>10}{'arithmetic alone':>20}",
    ]
    for name, task in times["tasks"].items():
        lines.append(f"{name:22}{task['median']:7.1f} ms{task['p95']:7.1f} ms{task['limit']:17.1f} ms")
    lines.append(f"A matrix product does {times['multiply_adds'] / 1e9:.0f} billion multiply-adds a second here.")
    return "\n".join(lines)
