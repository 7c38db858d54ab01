"""What `petseg segment --shard` costs with the number of photos and of shards that run at the same time.

Usage: python benchmarks/bench_many_photos.py [--photos 100,1000,10000] [--shards 1,2] [--plan 100,10000,100000]

Photos are hard links to a few small drawn ones, so that listing, tables and resuming are what grows.  Of each run:
photos a second, the largest peak of memory of a process, the size of the joined table, the time to join it, and the
time that the same command takes when all, and when 99 % of the photos are done.  Of listing and planning alone, without
a model: seconds and the peak of memory, for all photos in one folder, which is the worst case.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from petseg_utils.apps.photo_tables import COLUMNS, RESULTS, Shard, of_shard, read_table, write_table
from petseg_utils.data.drawing.breeds import BREEDS
from petseg_utils.data.drawing.pictures import draw_pet

SIZE, IN_A_FOLDER, DRAWN = 64, 1000, 10
COLUMN_TITLES = ("photos", "shards", "photos/s", "peak, MB", "table, MB", "merge, s", "again, s", "99 % done, s")


def link_photos(root: Path, count: int) -> None:
    """Make a folder of `count` photos, in sub-folders."""
    for number in range(DRAWN):
        Image.fromarray(draw_pet(BREEDS[number], 1)[0]).resize((SIZE, SIZE)).save(root.with_name(f"{number}.jpg"))
    for number in range(count):
        path = root / f"{number // IN_A_FOLDER:05}" / f"{number:08}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(root.with_name(f"{number % DRAWN}.jpg"), path)


def segment(photos: Path, out: Path, shards: int) -> tuple[float, float]:
    """Run all shards at the same time; return seconds, and the largest peak memory of one of them in MB."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "petseg_utils", "segment", photos, "-o", out, "--shard"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [subprocess.Popen([*command, f"{index + 1}/{shards}"], **quiet) for index in range(shards)]
    peaks = [os.wait4(process.pid, 0)[1:] for process in running]
    if any(status for status, _ in peaks):
        raise SystemExit("A shard failed.")
    return time.perf_counter() - began, max(usage.ru_maxrss for _, usage in peaks) / 1024


def forget(out: Path, shards: int, share: float) -> None:
    """Remove a share of the rows from the tables."""
    for index in range(shards):
        table = out / of_shard(RESULTS, Shard(index + 1, shards))
        rows = [[row[column] for column in COLUMNS] for row in read_table(table)]
        write_table(table, COLUMNS, rows[: round(len(rows) * (1 - share))])


def measure(count: int, shards: int) -> dict[str, float]:
    """Measure one line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        photos, out = Path(folder, "photos"), Path(folder, "out")
        link_photos(photos, count)
        seconds, peak = segment(photos, out, shards)
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "petseg_utils", "segment", "--merge", out], check=True, capture_output=True
        )
        merging = time.perf_counter() - began
        size = (out / RESULTS).stat().st_size / 1e6
        again, peak_again = segment(photos, out, shards)
        forget(out, shards, 0.01)
        resumed, peak_resumed = segment(photos, out, shards)
    peaks = max(peak, peak_again, peak_resumed)
    return dict(zip(COLUMN_TITLES, (count, shards, count / seconds, peaks, size, merging, again, resumed), strict=True))


PLAN = """
import sys, time
from pathlib import Path
from petseg_utils.apps.photo_folders import Plan
from petseg_utils.apps.photo_listing import find_photos
out = Path(sys.argv[2])
out.mkdir()
began = time.perf_counter()
plan = Plan(find_photos([Path(sys.argv[1])], out), out, "")
assert sum(1 for _ in plan.todo) == plan.n_todo
print(time.perf_counter() - began)
"""


def plan(count: int) -> tuple[float, float]:
    """Return seconds and peak memory in MB of listing and planning `count` photos in one folder."""
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder, "photos")
        photos.mkdir()
        for number in range(count):
            (photos / f"{number:08}.jpg").touch()
        process = subprocess.Popen(
            [sys.executable, "-c", PLAN, photos, Path(folder, "out")], stdout=subprocess.PIPE, text=True
        )
        seconds = float(process.stdout.read())
        _, process.returncode, usage = os.wait4(process.pid, 0)
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    """Measure, and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", default="100,1000,10000")
    parser.add_argument("--shards", default="1,2")
    parser.add_argument("--plan", default="100,10000,100000")
    options = parser.parse_args()
    print("| photos in one folder | listed and planned, s | peak, MB |\n|---|---|---|", flush=True)
    for count in map(int, options.plan.split(",")):
        print("| {:,} | {:.1f} | {:.0f} |".format(count, *plan(count)), flush=True)
    print(f"\n| {' | '.join(COLUMN_TITLES)} |\n|{'---|' * len(COLUMN_TITLES)}", flush=True)
    for count in map(int, options.photos.split(",")):
        for shards in map(int, options.shards.split(",")):
            cells = measure(count, shards).values()
            print("| " + " | ".join(f"{value:,.1f}".removesuffix(".0") for value in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
