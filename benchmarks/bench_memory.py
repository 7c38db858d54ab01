"""How the memory of training and scoring grows with the number of pictures.

Usage: python benchmarks/bench_memory.py [--pictures 652,2600,7349]

Pictures in the official layout, half of them to learn from and half to test on, at 224 pixels, and small models that
learn for one epoch.  Some hundred pictures are drawn; the others are these, moved sideways.  What grows is what holds
pictures, features and predictions.  Each command is a process of its own, and its peak is given in MB.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from petseg_utils.data.drawing.sample import draw_sample
from petseg_utils.study import STUDIES

DRAWN = 326  # pictures in each list, at most
COMMANDS = ("train unet", "evaluate unet", "train decoder", "evaluate decoder")


def write_pictures(root: Path, count: int) -> None:
    """Draw a data set, and add moved copies of its pictures until each list holds half of `count`."""
    half = count // 2
    draw_sample(root, min(half, DRAWN), min(half, DRAWN))
    for name in ("trainval.txt", "test.txt"):
        lines = (root / "annotations" / name).read_text(encoding="utf-8").splitlines()
        copies = []
        for number in range(half - len(lines)):
            columns, row = divmod(number, len(lines))
            stem, *rest = lines[row].split()
            breed, own = stem.rsplit("_", 1)
            copy = f"{breed}_{10_000 * (columns + 1) + int(own)}"
            for folder, ending in (("images", ".jpg"), ("annotations/trimaps", ".png")):
                with Image.open(root / folder / (stem + ending)) as picture:
                    moved = np.roll(np.asarray(picture), columns + 1, axis=1)
                Image.fromarray(moved).save(root / folder / (copy + ending))
            copies.append(" ".join([copy, *rest]))
        (root / "annotations" / name).write_text("\n".join([*lines, *copies]) + "\n", encoding="utf-8")


def peak(command: str, study: Path, environment: dict[str, str]) -> float:
    """The peak of memory of a command of petseg, in MB."""
    line = [sys.executable, "-m", "petseg_utils", *command.split(), "--study", study]
    process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"petseg {command} failed.")
    return usage.ru_maxrss / 1024


def main() -> None:
    """Print a table, a row a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", default="652,2600,7349", help="how many pictures")
    counts = [int(count) for count in parser.parse_args().pictures.split(",")]
    peaks: dict[str, list[float]] = {command: [] for command in COMMANDS}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            study, photos = Path(folder) / "memory.toml", Path(folder) / "photos"
            text = (
                (STUDIES / "smoke.toml").read_text(encoding="utf-8").replace("image_size = 64", "image_size = 224", 1)
            )
            text = re.sub(r"(?m)^epochs = .*", "epochs = 1", text)
            study.write_text(text.replace("batch_size = 8", "batch_size = 16"), encoding="utf-8")
            write_pictures(photos, count)
            environment = os.environ | {"PETSEG_DATA": str(photos), "PETSEG_RUNS": f"{folder}/runs"}
            for command in COMMANDS:
                peaks[command].append(peak(command, study, environment))
                print(f"{count:,} pictures, {command}: {peaks[command][-1]:,.0f} MB", file=sys.stderr)
    print(f"| peak, MB | {' | '.join(f'{count:,} pictures' for count in counts)} |")
    print("|---" * (len(counts) + 1) + "|")
    for command, values in peaks.items():
        print(f"| `petseg {command}` | {' | '.join(f'{value:,.0f}' for value in values)} |")


if __name__ == "__main__":
    main()
