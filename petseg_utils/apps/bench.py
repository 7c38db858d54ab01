"""How fast is it here?  The weights that ship, on one photo: times, and ratios to the U-Net's."""

import platform
import time
from collections.abc import Callable

import numpy as np
import torch
from skimage.data import chelsea
from tqdm.auto import tqdm

from petseg_utils.segmenter import Segmenter
from petseg_utils.study.provenance import git_commit, versions

ROUNDS = 20  # timed ones; one more before them warms up
CLICKS = ((200.0, 150.0), (300.0, 200.0), (120.0, 220.0))  # on the cat, in the photo's pixels


def measure(*, progress: bool = True) -> dict:
    """Time the models that ship on scikit-image's photo of a cat, 451 x 300 pixels.

    The tasks take turns, so that other work on the machine slows all of them alike.  Everything from the photo's array
    to a mask of its size counts.

    Parameters
    ----------
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict
        ``tasks``: name to milliseconds, ``median`` and ``p95``, and ``ratio``, the median as a multiple of the U-Net's;
        ``machine``, ``threads``, ``device``, ``encoder``, ``rounds``, ``versions`` and ``commit``.
    """
    photo = chelsea()
    unet, decoder, point = (Segmenter.load(name) for name in ("unet", "decoder", "point"))
    opened = point.open(photo)

    def click() -> None:
        for x, y in CLICKS:
            opened.click(x, y)
        opened.clear()

    tasks: dict[str, tuple[Callable[[], object], int]] = {
        "unet: a photo": (lambda: unet.predict(photo), 1),
        "decoder: a photo": (lambda: decoder.predict(photo), 1),
        "point: open a photo": (lambda: point.open(photo).mask, 1),
        "point: a click": (click, len(CLICKS)),
    }
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for count in tqdm(range(1 + ROUNDS), desc="timing", disable=not progress):
        for name, (task, parts) in tasks.items():
            start = time.perf_counter()
            task()
            if count:
                times[name].append(1000 * (time.perf_counter() - start) / parts)
    reference = np.median(times["unet: a photo"])
    return {
        "tasks": {
            name: {
                "median": float(np.median(taken)),
                "p95": float(np.quantile(taken, 0.95)),
                "ratio": float(np.median(taken) / reference),
            }
            for name, taken in times.items()
        },
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "device": next(point.model.parameters()).device.type,
        "encoder": point.card["encoder"],
        "rounds": ROUNDS,
        "versions": versions(),
        "commit": git_commit(),
    }


def bench_lines(times: dict) -> str:
    """Times from `measure` as text for the terminal."""
    lines = [
        f"{times['machine']}, {times['device']}, {times['threads']} threads; encoder {times['encoder']}; a photo of "
        f"451 x 300 pixels, {times['rounds']} rounds",
        f"{'':22}{'median':>10}{'p95':>10}{'x U-Net':>12}",
    ]
    for name, task in times["tasks"].items():
        lines.append(f"{name:22}{task['median']:7.1f} ms{task['p95']:7.1f} ms{task['ratio']:12.2f}")
    return "\n".join(lines)
