"""How fast is it here?  The weights that ship on one photo, as times and as ratios of one run."""

import platform
import time
from collections.abc import Callable

import numpy as np
import torch
from skimage.data import chelsea
from tqdm.auto import tqdm

from petseg_utils.provenance import git_commit, versions
from petseg_utils.segmenter import Segmenter

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
        ``tasks``: name to milliseconds, ``median`` and ``p95``, and ``ratio``, the median in U-Nets;
        ``machine``, ``threads``, ``device``, ``encoder``, ``rounds``, ``versions`` and ``commit``.
    """
    photo = chelsea()
    unet, clip, point = (Segmenter.load(name) for name in ("unet", "clip", "point"))
    opened = point.open(photo)

    def click() -> None:
        for x, y in CLICKS:
            opened.click(x, y)
        opened.clear()

    tasks: dict[str, tuple[Callable[[], object], int]] = {
        "unet: a photo": (lambda: unet.predict(photo), 1),
        "clip: a photo": (lambda: clip.predict(photo), 1),
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
    whole = np.median(times["unet: a photo"])
    return {
        "tasks": {
            name: {
                "median": float(np.median(one)),
                "p95": float(np.quantile(one, 0.95)),
                "ratio": float(np.median(one) / whole),
            }
            for name, one in times.items()
        },
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "device": next(point.model.parameters()).device.type,
        "encoder": point.card["encoder"],
        "rounds": ROUNDS,
        "versions": versions(),
        "commit": git_commit(),
    }


def bench_lines(found: dict) -> str:
    """Times from `measure` as text for the terminal."""
    lines = [
        f"{found['machine']}, {found['device']}, {found['threads']} threads; encoder {found['encoder']}; a photo of "
        f"451 x 300 pixels, {found['rounds']} rounds",
        f"{'':22}{'median':>10}{'p95':>10}{'in U-Nets':>12}",
    ]
    for name, one in found["tasks"].items():
        lines.append(f"{name:22}{one['median']:7.1f} ms{one['p95']:7.1f} ms{one['ratio']:12.2f}")
    return "\n".join(lines)
