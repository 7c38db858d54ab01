"""Is the U-Net too narrow, or trained too briefly?  Validation mIoU by width and number of epochs.

Usage: python benchmarks/bench_unet.py [--study oxford-gpu] [--widths 16,64] [--epochs 24,200] [--csv OUT]

All else is the study's. A run that is finished is not made again. In figures/oxford-gpu/unet.csv the rows of 24 epochs
are of study oxford-cpu, with its batches and learning rate: --study oxford-cpu --widths 16 --epochs 24.
"""

import argparse
import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from petseg_utils.models import study_splits, train
from petseg_utils.study import load_study


def row(folder: Path) -> dict:
    """What a finished run says of itself."""
    card = json.loads((folder / "best.json").read_text(encoding="utf-8"))
    settings = card["settings"]
    return {
        "study": card["study"],
        "width": settings["width"],
        "epochs": settings["epochs"],
        "batch_size": settings["batch_size"],
        "learning_rate": settings["learning_rate"],
        "seed": card["seed"],
        "miou": card["validation"]["miou"],
        "best_epoch": card["epoch"],
        "precision": card["precision"],
        "seconds": card["training_seconds"],
        "data": card["data"],
        "torch": card["versions"]["torch"],
        "commit": card["commit"],
    }


def finished(folder: Path) -> bool:
    """Whether a run has come to its end."""
    card = folder / "best.json"
    return card.is_file() and "training_seconds" in json.loads(card.read_text(encoding="utf-8"))


def main() -> None:
    """Train what is not there yet, and write a row for each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="oxford-gpu")
    parser.add_argument("--widths", default="16,64")
    parser.add_argument("--epochs", default="24,200")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    study, rows = load_study(options.study), []
    splits = study_splits(study)
    print(f"{len(splits['train'])} training pictures, {'a GPU' if torch.cuda.is_available() else 'no GPU'}")
    chosen = (map(int, text.split(",")) for text in (options.widths, options.epochs))
    for width, epochs, seed in product(*chosen, study.seeds):
        folder = study.runs_dir / "unet_size" / f"width{width}-epochs{epochs}-seed{seed}"
        if not finished(folder):
            settings = replace(study.unet, width=width, epochs=epochs, patience=epochs)
            train("unet", study, seed, splits, settings=settings, folder=folder)
        rows.append(row(folder))
        print(rows[-1], flush=True)
        if options.csv:
            pd.DataFrame(rows).round(4).to_csv(options.csv, index=False)


if __name__ == "__main__":
    main()
