"""`petseg segment --ray`: each photo is one row, whatever happens to a worker.  Where Ray is installed: `.[ray]`."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as run_lengths

# Who knows the token, and nobody else, may use the tests' clusters; Ray reads both when it is imported.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex}
ray = pytest.importorskip("ray")
fsspec = pytest.importorskip("fsspec")
parquet = pytest.importorskip("pyarrow.parquet")
import psutil  # noqa: E402

from petseg_utils.apps import segment_ray  # noqa: E402
from petseg_utils.data.drawing.breeds import BREEDS  # noqa: E402
from petseg_utils.data.drawing.pictures import draw_pet  # noqa: E402
from petseg_utils.segmenter import Segmenter  # noqa: E402

pytestmark = pytest.mark.skipif(os.name != "posix", reason="ends processes by POSIX signals")
STARTS = 120  # seconds in which a cluster has started, on a busy machine


@pytest.fixture(scope="module")
def environment():
    """Sets variables for this module's tests and the clusters that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield patch


@pytest.fixture(scope="module")
def s3(environment):
    """A server of S3 on this machine with an empty bucket, as fsspec's file system."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    environment.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        environment.setenv(name, "anybody")
    environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
    system = fsspec.filesystem("s3")
    system.mkdir("bucket")
    yield system
    server.stop()


@pytest.fixture(scope="module")
def cluster(environment, s3):
    """Address of a cluster with two workers, which runs by itself, and the process that holds it."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    folder = tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True)  # short: a socket's path has a limit
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}"]
    command += ["--num-cpus=2", "--include-dashboard=false", f"--object-store-memory={segment_ray.STORE}"]
    command += [f"--temp-dir={folder.name}"]
    with folder, tempfile.TemporaryFile("w+") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        for _ in range(10 * STARTS):
            log.seek(0)
            if "Ray runtime started" in (said := log.read()):
                break
            assert process.poll() is None, said
            time.sleep(0.1)
        yield f"127.0.0.1:{port}", process
        for child in [*psutil.Process(process.pid).children(recursive=True), process]:
            with contextlib.suppress(psutil.Error):
                child.kill()


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


def kill_a_worker(parent, out, seen):
    """End one of the processes that segment, once there are two and some rows are written."""
    for _ in range(2400):
        found = []
        for process in psutil.Process(parent.pid).children(recursive=True):
            try:
                found += [process] if "MapWorker" in " ".join(process.cmdline()) else []
            except psutil.Error:
                continue
        seen["workers"] = max(seen["workers"], len(found))
        if len(found) > 1 and any(out.glob("*.parquet")):
            found[0].kill()
            seen["killed"] += 1
            return
        time.sleep(0.02)


def test_two_workers_of_which_one_is_killed_find_each_photo_once(petseg, cluster, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(segment_ray, "IN_A_FILE", 8)
    address, head = cluster
    seen, out = Counter(), tmp_path / "out"
    killer = threading.Thread(target=kill_a_worker, args=(head, out, seen))
    killer.start()
    code, said, errors = petseg("segment", photos, "-o", out, "--ray", address)
    killer.join()
    assert code == 1 and "Segmented: 58; done before: 0; failed: 2." in said, errors
    assert seen == {"workers": 2, "killed": 1}
    rows = rows_of(fsspec.filesystem("file"), out)
    paths = [row["path"] for row in rows]
    assert len(paths) == len(set(paths)) == 60
    bad = {os.path.basename(row["path"]): row["error"] for row in rows if row["error"]}
    assert "is not a picture" in bad["bad.jpg"] and set(bad) == {"bad.jpg", "empty.jpg"}
    assert any(path.endswith("\\xff,\n.png") for path in paths)
    segmenter = Segmenter.load("decoder")
    named_as_shown = [row for row in rows if not row["error"] and "\\" not in row["path"]]
    for row in named_as_shown[:4]:
        image = np.asarray(Image.open(photos / os.path.relpath(row["path"], photos)))
        mask = np.zeros(image.shape[:2], np.uint8)
        for runs in row["rle"]:
            mask[run_lengths.decode(runs | {"counts": runs["counts"].encode()}) > 0] = 1 + (runs["class"] == "dog")
        assert (mask.shape[1], mask.shape[0]) == (row["width"], row["height"])
        assert row["share"] == pytest.approx((mask > 0).mean(), abs=1e-6) and row["class"] in ("cat", "dog")
        ys, xs = np.nonzero(mask)
        assert row["box"] == [xs.min(), ys.min(), xs.max(), ys.max()] and 0.5 < row["confidence"] <= 1
        assert ((mask > 0) == (segmenter.predict(image) > 0)).mean() > 0.95

    # As a run leaves it that was cut: some rows are not written, and a file is not whole.
    gone, torn, *_ = sorted(out.glob("*.parquet"))
    lost = parquet.read_metadata(gone).num_rows
    gone.unlink()
    torn.with_name(f"{torn.name}.part").write_bytes(torn.read_bytes()[:100])
    Image.new("RGB", (64, 64)).save(photos / "new.png")
    _, said, errors = petseg("segment", photos, "-o", out, "--ray", address)
    assert f"; done before: {60 - lost}; failed: " in said, errors
    paths = [row["path"] for row in rows_of(fsspec.filesystem("file"), out)]
    assert len(paths) == len(set(paths)) == 61
    code, _, errors = petseg("segment", photos, "-o", out, "--ray", address, "--hard")
    assert code == 1 and "out holds files that were not made with these weights and edges" in errors


class Fragile(segment_ray.Worker):
    """Ends its process at one of the photos, as a fault in a decoder would."""

    def row(self, file):
        if file.endswith("/7.png"):
            os._exit(1)
        return super().row(file)


def test_a_photo_that_ends_every_worker_costs_its_batch_and_not_the_run(petseg, cluster, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(segment_ray, "TRIES", 1)
    ray.cloudpickle.register_pickle_by_value(sys.modules[Fragile.__module__])  # workers have no tests to import
    for path in photos.glob("more/[2-5]*"):
        path.unlink()
    given, out = sum(path.is_file() for path in photos.rglob("*")), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(segment_ray, "Worker", Fragile)
        code, _, errors = petseg("segment", photos, "-o", out, "--ray", cluster[0])
    paths = [row["path"] for row in rows_of(fsspec.filesystem("file"), out)]
    lost = given - len(paths)
    assert code == 1 and 0 < lost <= segment_ray.IN_A_BATCH and f"{lost} photos have no row, because a worker" in errors
    _, said, errors = petseg("segment", photos, "-o", out, "--ray", cluster[0])
    assert f"; done before: {len(paths)}; failed: " in said, errors
    assert len({row["path"] for row in rows_of(fsspec.filesystem("file"), out)}) == given


def test_photos_and_results_lie_in_s3(petseg, cluster, s3, photos):
    s3.put(f"{photos}/more", "bucket/photos/", recursive=True)
    s3.pipe("bucket/photos/bad.jpg", b"no picture")
    names = [path.name for path in (photos / "more").iterdir()]
    code, said, errors = petseg("segment", "s3://bucket/photos", "-o", "s3://bucket/masks", "--ray", cluster[0])
    assert code == 1 and f"Segmented: {len(names)}; done before: 0; failed: 1. In s3://bucket/masks" in said, errors
    rows = rows_of(s3, "bucket/masks")
    assert {os.path.basename(row["path"]) for row in rows} == {*names, "bad.jpg"} and len(rows) == len(names) + 1
    assert all(row["path"].startswith("s3://bucket/photos/") for row in rows)
    s3.pipe("bucket/photos/new.png", (photos / "0.png").read_bytes())
    code, said, errors = petseg("segment", "s3://bucket/photos", "-o", "s3://bucket/masks", "--ray", cluster[0])
    assert code == 0 and f"Segmented: 1; done before: {len(rows)}; failed: 0." in said, errors
    code, _, errors = petseg("segment", "s3://none/photos", "-o", "s3://bucket/other", "--ray", cluster[0])
    assert code == 1 and errors.splitlines()[-1].startswith("petseg: ") and "Traceback" not in errors


def test_local_starts_ray_here_without_a_dashboard_and_ends_it(petseg, environment, photos, monkeypatch):
    for path in photos.glob("more/*.png"):
        path.unlink()
    seen = []
    connected = ray.init
    monkeypatch.setattr(ray, "init", lambda *given, **options: seen.append(connected(*given, **options)))
    address = photos.as_uri()
    code, said, errors = petseg("segment", address, "-o", "memory://masks", "--ray", "local")
    assert code == 1 and "failed: 2. In memory://masks" in said, errors
    rows = rows_of(fsspec.filesystem("memory"), "/masks")
    assert len(rows) == sum(path.is_file() for path in photos.rglob("*"))
    assert {row["path"] for row in rows} >= {f"{address}/bad.jpg", f"{address}/0.png"}
    assert seen[0].dashboard_url == "" and not ray.is_initialized()
    assert not any("raylet" in child.name() for child in psutil.Process().children())


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["photos", "--shard", "1/2"], 2, "--ray cannot be used with shards"),
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


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:9", "No cluster of Ray at 127.0.0.1:9"),
        ("ray://127.0.0.1:10001", "Ray Data does not run through ray://"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_told(petseg, photos, tmp_path, address, message):
    code, _, errors = petseg("segment", photos, "-o", tmp_path / "out", "--ray", address)
    assert code == 1 and message in errors and "Traceback" not in errors
