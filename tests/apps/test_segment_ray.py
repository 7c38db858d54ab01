"""`petseg segment --ray`: each photo is one row, whatever happens to a worker.  Where Ray is installed: `.[ray]`."""

import os
import threading
import time

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as run_lengths

pytest.importorskip("ray")
fsspec = pytest.importorskip("fsspec")
parquet = pytest.importorskip("pyarrow.parquet")
import psutil  # noqa: E402

from petseg_utils.apps import segment_ray  # noqa: E402
from petseg_utils.data.drawing.breeds import BREEDS  # noqa: E402
from petseg_utils.data.drawing.pictures import draw_pet  # noqa: E402
from petseg_utils.segmenter import Segmenter  # noqa: E402


@pytest.fixture
def photos(tmp_path):
    """60 entries: photos, some that are none, and names that are no text."""
    root = tmp_path / "photos"
    (root / "more").mkdir(parents=True)
    pets = [Image.fromarray(draw_pet(BREEDS[breed], 1)[0]).resize((200, 160)) for breed in (0, 14)]
    for number in range(57):
        pets[number % 2].save(root / ("more" if number % 3 else "") / f"{number}.png")
    (root / "bad.jpg").write_text("no picture")
    (root / "empty.jpg").touch()
    pets[0].save(root / os.fsdecode(b"\xff,\n.png"))
    return root


def rows_of(system, folder):
    return [
        row
        for path in system.glob(f"{folder}/*.parquet")
        for row in parquet.read_table(path, filesystem=system).to_pylist()
    ]


def kill_a_worker(killed):
    """End a process that segments, as soon as there is one that has done something."""
    for _ in range(1200):
        for process in psutil.Process().children(recursive=True):
            try:
                if "MapWorker" in " ".join(process.cmdline()) and process.cpu_times().user > 1:
                    process.kill()
                    killed.append(process.pid)
                    return
            except psutil.Error:
                continue
        time.sleep(0.05)


def test_two_workers_of_which_one_is_killed_find_each_photo_once(petseg, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(segment_ray, "IN_A_FILE", 16)
    killed, out = [], tmp_path / "out"
    killer = threading.Thread(target=kill_a_worker, args=(killed,))
    killer.start()
    code, said, errors = petseg("segment", photos, "-o", out, "--ray", "local")
    killer.join()
    assert code == 1 and "Segmented: 58; done before: 0; failed: 2." in said, errors
    assert killed
    rows = rows_of(fsspec.filesystem("file"), out)
    paths = [row["path"] for row in rows]
    assert len(paths) == len(set(paths)) == 60
    bad = {os.path.basename(row["path"]): row["error"] for row in rows if row["error"]}
    assert "is no picture" in bad["bad.jpg"] and set(bad) == {"bad.jpg", "empty.jpg"}
    assert any(path.endswith("\\xff,\n.png") for path in paths)
    segmenter = Segmenter.load("decoder")
    for row in [row for row in rows if not row["error"]][:4]:
        image = np.asarray(Image.open(photos / os.path.relpath(row["path"], photos)))
        mask = np.zeros(image.shape[:2], np.uint8)
        for runs in row["rle"]:
            mask[run_lengths.decode(runs | {"counts": runs["counts"].encode()}) > 0] = 1 + (runs["class"] == "dog")
        assert (mask.shape[1], mask.shape[0]) == (row["width"], row["height"])
        assert row["share"] == pytest.approx((mask > 0).mean(), abs=1e-6) and row["class"] in ("cat", "dog")
        ys, xs = np.nonzero(mask)
        assert row["box"] == [xs.min(), ys.min(), xs.max(), ys.max()] and 0.5 < row["confidence"] <= 1
        assert ((mask > 0) == (segmenter.predict(image) > 0)).mean() > 0.95
    Image.new("RGB", (64, 64)).save(photos / "new.png")
    code, said, errors = petseg("segment", photos, "-o", out, "--ray", "local")
    assert code == 0 and "Segmented: 1; done before: 60; failed: 0." in said, errors
    code, _, errors = petseg("segment", photos, "-o", out, "--ray", "local", "--hard")
    assert code == 1 and "out holds files that were not made with these weights and edges" in errors


def test_photos_and_results_may_be_addresses(petseg, photos):
    for path in photos.glob("more/*.png"):
        path.unlink()
    address = photos.as_uri()
    code, said, errors = petseg("segment", address, "-o", "memory://masks", "--ray", "local")
    assert code == 1 and "failed: 2. In memory://masks" in said, errors
    rows = rows_of(fsspec.filesystem("memory"), "/masks")
    assert len(rows) == sum(path.is_file() for path in photos.rglob("*"))
    assert {row["path"] for row in rows} >= {f"{address}/bad.jpg", f"{address}/0.png"}


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["photos", "--shard", "1/2"], 2, "--ray goes without shards"),
        (["nowhere"], 1, "No file or folder 'nowhere'"),
        (["nosuch://bucket"], 1, "nosuch://bucket cannot be read by fsspec"),
    ],
)
def test_what_cannot_be_done_is_told_before_ray_is_started(
    petseg, photos, tmp_path, monkeypatch, options, code, message
):
    monkeypatch.chdir(tmp_path)
    ended, _, errors = petseg("segment", *options, "-o", "out", "--ray", "local")
    assert ended == code and message in " ".join(errors.split())


def test_a_cluster_that_is_not_there_is_told(petseg, photos, tmp_path):
    code, _, errors = petseg("segment", photos, "-o", tmp_path / "out", "--ray", "127.0.0.1:9")
    assert code == 1 and "No cluster of Ray at 127.0.0.1:9" in errors and "Traceback" not in errors
