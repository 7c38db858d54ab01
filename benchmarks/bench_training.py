"""What a training step of the U-Net costs, and what memory layout and bfloat16 change: ratios of one run.

Usage: python benchmarks/bench_training.py [--study sample] [--json OUT]
"""

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from petseg_utils.study import load_study
from petseg_utils.unet import UNet

STEPS = 5


def seconds_a_picture(study, layout: torch.memory_format, bf16: bool) -> float:
    """Best of a few steps, the first one left out."""
    size, batch = study.image_size, study.unet.batch_size
    model = UNet(study.unet.width).to(memory_format=layout)
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
    """Measure the variants and print milliseconds a picture and ratios to the study's own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="sample")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    study = load_study(options.study)
    variants = {
        "channels last (as trained)": (torch.channels_last, False),
        "contiguous": (torch.contiguous_format, False),
        "channels last, bf16": (torch.channels_last, True),
    }
    found = {name: 1000 * seconds_a_picture(study, *variant) for name, variant in variants.items()}
    base = found["channels last (as trained)"]
    for name, value in found.items():
        print(f"{name:28} {value:7.1f} ms a picture   {value / base:.2f} times")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
