"""Is the U-Net too narrow, or trained too briefly?  Validation mIoU by width and number of epochs.

Usage: python -m petseg_utils.experiments.unet_length [--study oxford-gpu] [--widths 16,64] [--epochs 24,200]
       [--csv OUT]

Everything else is as in the study.  Finished runs are not repeated.  In figures/oxford-gpu/unet.csv the 24-epoch rows
belong to the study oxford-cpu, with its batch size and learning rate: --study oxford-cpu --widths 16 --epochs 24.
"""

from dataclasses import replace
from itertools import product
from pathlib import Path

from petseg_utils.data.pictures import load_splits
from petseg_utils.experiments.variants import add_row, command_line
from petseg_utils.models.cards import read_card
from petseg_utils.study import load_study
from petseg_utils.training.process import set_up_process
from petseg_utils.training.train import train


def table_row(folder: Path) -> dict:
    """Return a finished run's row, from its card."""
    card = read_card(folder / "best.safetensors")
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


def is_finished(folder: Path) -> bool:
    """Return whether a run is complete."""
    path = folder / "best.safetensors"
    return path.with_suffix(".json").is_file() and "training_seconds" in read_card(path)


def main() -> None:
    """Train what is missing, and write a row for each run."""
    parser = command_line(__doc__, "oxford-gpu")
    parser.add_argument("--widths", default="16,64")
    parser.add_argument("--epochs", default="24,200")
    options = parser.parse_args()
    set_up_process()
    study = load_study(options.study)
    rows: list[dict] = []
    splits = load_splits(study)
    chosen = (map(int, text.split(",")) for text in (options.widths, options.epochs))
    for width, epochs, seed in product(*chosen, study.seeds):
        folder = study.runs_dir / "unet_size" / f"width{width}-epochs{epochs}-seed{seed}"
        if not is_finished(folder):
            settings = replace(study.settings("unet"), width=width, epochs=epochs, patience=epochs)
            train("unet", study, seed, splits, settings=settings, folder=folder)
        add_row(rows, table_row(folder), options.csv)


if __name__ == "__main__":
    main()
