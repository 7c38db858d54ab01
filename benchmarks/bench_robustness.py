"""How long a sweep over perturbed pictures takes, and what that time goes into.

Usage: python benchmarks/bench_robustness.py [--study sample] [--pictures 16] [--json OUT]

The models have random weights, which take as long as trained ones.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from petseg_utils.data.pictures import load_pictures
from petseg_utils.experiments.robustness.corruptions import corrupt_all
from petseg_utils.experiments.robustness.sweep import (
    CLEAN,
    COMPARED,
    HELPED,
    MISSED,
    perturbed,
    predict_cases,
    some_test_pictures,
    sweep_steps,
)
from petseg_utils.models.encoders import load_encoder
from petseg_utils.study import load_study
from petseg_utils.training.recipes import recipe_of


def seconds(action: Callable[[], object]) -> float:
    """Return the wall-clock seconds of a call, the second of two: the first also sets things up."""
    action()
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> None:
    """Measure on a few pictures, and say how long the study's whole sweep would take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="sample")
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the numbers to this file")
    options = parser.parse_args()
    study = load_study(options.study)
    test = some_test_pictures(study, load_pictures(study, "test"))
    few = test.subset(test.table["name"].tolist()[: options.pictures])
    encoder = load_encoder(study.encoder, study.image_size)
    images, labels = perturbed(few, *CLEAN, encoder.scale)
    networks = {name: recipe_of(name).build(study.settings(name), encoder).eval() for name in COMPARED}
    cases, together = [(name, *CLEAN) for name in (*COMPARED, HELPED)], "all together"
    asked = {together: cases} | {case[0]: [case] for case in cases}
    took = {name: seconds(lambda a=a: predict_cases(networks, a, few, images, labels)) for name, a in asked.items()}
    steps = [step for step in sweep_steps() if step[0] != MISSED]
    perturbing = sum(
        seconds(lambda step=step: corrupt_all(few, *step, encoder.scale)) for step in steps if step != CLEAN
    )
    a_step = (took[together] + perturbing / len(steps)) / len(few)  # seconds per picture and step
    numbers = {f"{name}, ms a picture": 1e3 * value / len(few) for name, value in took.items()}
    numbers |= {
        "perturbing, ms a picture": 1e3 * perturbing / len(steps) / len(few),
        "one by one / all together": sum(took[case[0]] for case in cases) / took[together],
        f"the sweep, {len(test)} pictures x {len(steps)} steps, minutes": a_step * len(test) * len(steps) / 60,
    }
    print(*(f"{name:60} {value:9.2f}" for name, value in numbers.items()), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
