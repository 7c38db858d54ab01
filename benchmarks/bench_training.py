"""What a training step of the U-Net costs, and how memory layout and bfloat16 change that: ratios within one run.

Usage: python benchmarks/bench_training.py [--study sample] [--json OUT]
"""

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from petseg_utils.models.unet import UNet
from petseg_utils.study import Study, load_study

STEPS = 5


def seconds_a_picture(study: Study, layout: torch.memory_format, bf16: bool) -> float:
    """Return the wall-clock seconds of the fastest of a few steps, except the first, which also sets things up."""
    size, batch = study.image_size, study.models["unet"].batch_size
    model = UNet(study.models["unet"].width).to(memory_format=layout)
    optimizer = torch.optim.AdamW(model.parameters())
    images = torch.randint(0, 255, (batch, 3, size, size)).float().contiguous(memory_format=layout)
    labels = torch.randint(0, 3, (batch, size, size))
    times = []
    for _ in range(STEPS + 1):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(images).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - began)
    return min(times[1:]) / batch


def main() -> None:
    """Measure the variants, and print milliseconds per picture and their ratios to the study's variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="sample")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the numbers to this file")
    options = parser.parse_args()
    study = load_study(options.study)
    variants = {
        "channels last (as trained)": (torch.channels_last, False),
        "contiguous": (torch.contiguous_format, False),
        "channels last, bf16": (torch.channels_last, True),
    }
    numbers = {name: 1000 * seconds_a_picture(study, *variant) for name, variant in variants.items()}
    base = numbers["channels last (as trained)"]
    for name, value in numbers.items():
        print(f"{name:28} {value:7.1f} ms a picture   {value / base:.2f} times")
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
