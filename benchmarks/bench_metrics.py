"""How long the metrics take on a split the size of Oxford-IIIT Pet's test set (3,669 pictures).

    python benchmarks/bench_metrics.py [--json OUT]

The bootstrap is compared with the obvious loop, which gathers each resample's pictures and adds them up; a few rounds
of that loop are timed and scaled up.  The inputs are random: their values do not change the time.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from petseg_utils.data.labels import BORDER, PADDING
from petseg_utils.scores.intervals import bootstrap_intervals
from petseg_utils.scores.metrics import boundary_counts, picture_confusions, protocol_matrix, scores

PICTURES, SIDE, RESAMPLES = 3669, 224, 1000
NAIVE_RESAMPLES = 50


def seconds(function: Callable, *args: object, repeats: int = 1, **kwargs: object) -> float:
    """Return the wall-clock seconds of the fastest of a few runs: other work on the machine can only slow them down."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function(*args, **kwargs)
        times.append(time.perf_counter() - start)
    return min(times)


def naive_bootstrap(confusions: np.ndarray, protocol: str, n_resamples: int) -> list[dict[str, float]]:
    """Compute the scores of each resample with the obvious loop."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(n_resamples):
        resample = confusions[rng.integers(len(confusions), size=len(confusions))]
        values.append(scores(protocol_matrix(resample.sum(axis=0), protocol)))
    return values


def measure() -> dict[str, float]:
    """Return the seconds of each step, and how many times longer the loop takes."""
    rng = np.random.default_rng(0)
    labels = rng.choice(np.array([0, 1, 2, PADDING, BORDER], np.uint8), (10, SIDE, SIDE))
    predictions = rng.integers(0, 3, labels.shape, dtype=np.uint8)
    labels, predictions = (np.resize(maps, (PICTURES, SIDE, SIDE)) for maps in (labels, predictions))
    confusions = rng.integers(0, SIDE * SIDE, (PICTURES, 5, 3))
    naive = seconds(naive_bootstrap, confusions, "ignore_border", NAIVE_RESAMPLES, repeats=3) / NAIVE_RESAMPLES
    result = {
        "confusions_s": seconds(picture_confusions, labels, predictions),
        "boundary_counts_s": seconds(boundary_counts, labels, predictions, "ignore_border"),
        "bootstrap_s": seconds(bootstrap_intervals, confusions, "ignore_border", n_resamples=RESAMPLES, repeats=3),
        "naive_bootstrap_s": naive * RESAMPLES,
    }
    return result | {"bootstrap_speedup": result["naive_bootstrap_s"] / result["bootstrap_s"]}


def main() -> None:
    """Measure, and print seconds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the numbers to this file")
    out = parser.parse_args().json
    result = measure()
    print(
        f"{PICTURES} pictures of {SIDE} x {SIDE}, {RESAMPLES} resamples ({platform.machine()}, NumPy {np.__version__})"
    )
    print(f"confusions of all pictures       {result['confusions_s']:8.3f} s")
    print(f"boundary counts of all pictures  {result['boundary_counts_s']:8.3f} s")
    print(f"bootstrap intervals              {result['bootstrap_s']:8.3f} s")
    print(f"the same by a loop               {result['naive_bootstrap_s']:8.3f} s (from {NAIVE_RESAMPLES} resamples)")
    print(f"the loop takes {result['bootstrap_speedup']:.1f} times as long")
    if out:
        sizes = {"pictures": PICTURES, "side": SIDE, "resamples": RESAMPLES, "numpy": np.__version__}
        out.write_text(json.dumps(sizes | result, indent=2) + "\n")


if __name__ == "__main__":
    main()
