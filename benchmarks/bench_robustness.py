"""How long a sweep over perturbed pictures takes, and what it is made of.

Usage: python benchmarks/bench_robustness.py [--study sample] [--pictures 16] [--json OUT]

The models have random weights: they take as long as trained ones.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from petseg_utils.checkpoints import build, study_settings
from petseg_utils.corruptions import corrupt_all
from petseg_utils.encoders import resolve
from petseg_utils.models import draw_study_data
from petseg_utils.pictures import load_pictures
from petseg_utils.robustness import CLEAN, COMPARED, HELPED, MISSED, segment, sweep_steps
from petseg_utils.study import load_study


def seconds(action) -> float:
    """Wall-clock seconds of a call, the second one of two: the first also sets things up."""
    action()
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> None:
    """Measure a few pictures, and say what all test pictures of the study's sweep would take."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="sample")
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    study = load_study(options.study)
    draw_study_data(study)
    test = load_pictures(study, "test")
    n = study.robustness.pictures or len(test)
    some = test.subset(test.table["name"].tolist()[: options.pictures])
    images, labels = np.array(some.images), np.array(some.labels)
    spec = resolve(study.encoder)
    networks = {name: build(name, study_settings(name, study), spec, study.image_size).eval() for name in COMPARED}
    steps = [step for step in sweep_steps() if step[0] != MISSED]
    every = [(name, *CLEAN) for name in (*COMPARED, HELPED)]
    asked = {"all together": every} | {ask[0]: [ask] for ask in every}
    took = {name: seconds(lambda m=m: segment(networks, m, some, images, labels)) for name, m in asked.items()}
    perturbing = sum(seconds(lambda s=s: corrupt_all(some, *s)) for s in steps if s != CLEAN)
    found = {f"{name}, ms a picture": 1e3 * value / len(some) for name, value in took.items()}
    found["perturbing, ms a picture"] = 1e3 * perturbing / len(steps) / len(some)
    alone = sum(value for name, value in took.items() if name != "all together")
    found["one by one / all together"] = alone / took["all together"]
    a_step = (took["all together"] + perturbing / len(steps)) / len(some)
    found[f"the sweep, {n} pictures x {len(steps)} steps, minutes"] = a_step * n * len(steps) / 60
    print(*(f"{name:60} {value:9.2f}" for name, value in found.items()), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
