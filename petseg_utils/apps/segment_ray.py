"""Masks for very many photos on a Ray cluster, written to Parquet files: what `petseg segment --ray` does."""

import contextlib
import io
import itertools
import json
import logging
import os
import socket
import sqlite3
import tempfile
import uuid
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from petseg_utils.apps.mask_formats import encoded_runs
from petseg_utils.apps.photo_listing import SUFFIXES, Photo, find_photos
from petseg_utils.apps.photo_tables import MADE_BY
from petseg_utils.apps.segment_folder import box_of, read_for, segmented_photos
from petseg_utils.data.datasets import DataError, species_of
from petseg_utils.data.labels import CLASSES, SPECIES
from petseg_utils.segmenter import Segmenter
from petseg_utils.study import PetsegError

AT_ONCE = 20_000  # photos given to Ray at a time; its own bookkeeping grows with their blocks
IN_A_FILE = 500  # rows of a Parquet file: the most that is lost if the run is interrupted
IN_A_BATCH = 8  # photos given to an actor at a time
TRIES = 3  # retries of a batch whose worker died; Ray has no limit of its own
REACHED = 10.0  # seconds within which a cluster must answer
STORE = 256 << 20  # bytes of Ray's object store on this machine: it holds names and rows, no pictures


class Counts(NamedTuple):
    """How many photos were done now, how many had been before, and how many of those done now have errors."""

    done: int
    before: int
    failed: int


def segment_by_ray(
    address: str,
    photos: list[str],
    out: str,
    maker: dict,
    *,
    model: str,
    weights: Path | None = None,
    runtime: str | None = None,
    hard: bool = False,
) -> Counts:
    """Segment photos on a Ray cluster, and write one row per photo, with its masks, to Parquet files.

    The columns are ``path``, ``width``, ``height``, ``class``, ``share``, ``box``, ``confidence``, ``rle`` (COCO's
    compressed run lengths of each species in the photo) and ``error``: a file that is not a photo gets a row saying so.
    Only this process writes, and a file gets its name when it is complete, so a worker that dies leaves nothing behind,
    and each photo has one row.  A photo that has its row is not segmented again.

    Parameters
    ----------
    address : str
        Address of the cluster that this machine belongs to: ``HOST:PORT``, or ``auto``; ``local`` starts a new one.
    photos : list of str
        Files and folders, or addresses of folders that fsspec can read, such as ``s3://bucket/photos``.
    out : str
        Folder of the Parquet files, or its address.
    maker : dict
        From `photo_folders.made_by`.
    model, weights, runtime
        As for `Segmenter.load`, on every machine of the cluster.
    hard : bool
        See `segment_folder.segment_photos`.

    Raises
    ------
    PetsegError
        If Ray is not installed, cannot be reached or gives up, if there are no photos, if `out` holds masks by other
        weights, or if some photos kill their workers on every try; in that case, the other photos have their rows.
    """
    try:
        import fsspec
        import ray
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise PetsegError(f"--ray needs {error.name}, which is not installed: pip install '.[ray]'") from None
    system, folder = _system(fsspec, out)
    _check_maker(system, folder, maker)
    done = _Done()
    for path in system.glob(f"{folder}/*.parquet"):
        with system.open(path) as file:
            done.add(parquet.read_table(file, columns=["path"])["path"].to_pylist())
    files = _files(fsspec, photos, out)
    if (first := next(files, None)) is None:
        raise PetsegError(f"No photos found: looked for files ending in {', '.join(SUFFIXES)}.")
    system.makedirs(folder, exist_ok=True)
    _write(system, f"{folder}/{MADE_BY}", json.dumps(maker, indent=2).encode())
    counts, lost = np.zeros(3, int), 0
    bar = tqdm(desc="segmenting", unit="photo")
    todo = done.without(itertools.chain([first], files), counts)
    with _cluster(ray, address):
        workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        while chosen := list(itertools.islice(todo, AT_ONCE)):
            lost += len(chosen)
            names = [{"file": os.fsencode(file)} for file in chosen]
            blocks = ray.data.from_items(names, override_num_blocks=-(-len(names) // IN_A_BATCH))
            with warnings.catch_warnings(action="ignore"):  # Ray has no other way yet to limit the retries
                rows = blocks.map_batches(
                    Worker,
                    batch_size=IN_A_BATCH,
                    batch_format="pyarrow",
                    compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
                    num_cpus=1,
                    ray_remote_args_fn=lambda: {"max_task_retries": TRIES},
                    fn_constructor_kwargs={"model": model, "weights": weights, "runtime": runtime, "hard": hard},
                )
            table: Any
            for table in rows.iter_batches(batch_size=IN_A_FILE, batch_format="pyarrow"):
                parquet.write_table(table, content := io.BytesIO())
                _write(system, f"{folder}/part-{uuid.uuid4().hex}.parquet", content.getvalue())
                counts += [len(table), 0, len(table) - table["error"].null_count]
                lost -= len(table)
                bar.update(len(table))
    bar.close()
    if lost:
        raise PetsegError(
            f"{lost} photos have no row, because a worker failed on them or on others of their batch: Ray's logs "
            f"say why. {counts[0]} have one. Run the same command again to retry the others."
        )
    return Counts(*map(int, counts))


class Worker:
    """Segments batches of photos in its own process, for which it loads the model once."""

    def __init__(self, model: str, weights: Path | None, runtime: str | None, hard: bool):
        self.segmenter, self.hard = Segmenter.load(model, weights, runtime), hard

    def __call__(self, batch: Any) -> Any:
        """Return the rows of a batch, an Arrow table with a column ``file``; see `segment_by_ray`."""
        import pyarrow

        rows = [self.row(os.fsdecode(file)) for file in batch["file"].to_pylist()]
        return pyarrow.Table.from_pylist(rows, _schema(pyarrow))

    def row(self, file: str) -> dict:
        """Return the row of a photo, given its path or its address."""
        row: dict[str, Any] = {"path": as_text(file)}
        try:
            with _fetched(file) as path:
                read = read_for(self.segmenter, Photo(path, "", ""))
        except (DataError, OSError) as error:
            return row | {"error": str(error)}
        ((_, _, decide),) = segmented_photos(self.segmenter, [(None, read)], (), self.hard)
        mask, _, confidence = decide()
        height, width = mask.shape
        box = box_of(mask > 0)
        row |= {"width": width, "height": height, "class": CLASSES[species_of(mask)], "share": (mask > 0).mean()}
        runs = [
            {"class": name} | encoded_runs(mask == value) for value, name in SPECIES.items() if (mask == value).any()
        ]
        return row | {"box": box, "confidence": confidence if box else 0.0, "rle": runs}


def _schema(pyarrow: Any) -> Any:
    text, whole, real = pyarrow.string(), pyarrow.int32(), pyarrow.float32()
    runs = pyarrow.struct([("class", text), ("size", pyarrow.list_(whole)), ("counts", text)])
    columns = [("path", text), ("width", whole), ("height", whole), ("class", text), ("share", real)]
    columns += [("box", pyarrow.list_(whole)), ("confidence", real), ("rle", pyarrow.list_(runs)), ("error", text)]
    return pyarrow.schema(columns)


def as_text(file: str) -> str:
    """Return a path in the form that Parquet takes: bytes that are not text are replaced by their codes."""
    return os.fsencode(file).decode("utf-8", "backslashreplace")


class _Done:
    """The paths that have their rows, kept on disk so that memory does not grow with their number."""

    def __init__(self) -> None:
        self.db = sqlite3.connect("")
        self.db.executescript("PRAGMA journal_mode = OFF; CREATE TABLE done (path TEXT PRIMARY KEY);")

    def add(self, paths: Iterable[str]) -> None:
        self.db.executemany("INSERT OR IGNORE INTO done VALUES (?)", ([path] for path in paths))

    def without(self, files: Iterator[str], counts: np.ndarray) -> Iterator[str]:
        """Yield the files that are not done, each once; the others are counted in ``counts[1]``."""
        for file in files:
            if self.db.execute("SELECT 1 FROM done WHERE path = ?", [as_text(file)]).fetchone():
                counts[1] += 1
            else:
                self.add([as_text(file)])
                yield file


def _files(fsspec: Any, given: list[str], out: str) -> Iterator[str]:
    """Yield paths of photos on this machine's disks, and addresses of those elsewhere, one after the other."""
    here = [Path(name) for name in given if "://" not in name]
    if here:
        yield from (str(photo.path) for photo in find_photos(here, Path(out)))
    for address in given:
        if "://" in address:
            system, folder = _system(fsspec, address)
            for inner, folders, names in system.walk(folder):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                for name in sorted(names):
                    if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                        yield system.unstrip_protocol(f"{inner}/{name}")


def _system(fsspec: Any, address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    try:
        return fsspec.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise PetsegError(f"{address} cannot be read by fsspec: {error}") from None


def _check_maker(system: Any, folder: str, maker: dict) -> None:
    """Refuse a folder with Parquet files of other weights, or with somebody else's."""
    if not system.exists(folder):
        return
    path = f"{folder}/{MADE_BY}"
    before = json.loads(system.cat_file(path)) if system.exists(path) else {}
    if any(before.get(key) != maker[key] for key in ("sha256", "edges")) and (before or system.ls(folder)):
        raise PetsegError(
            f"{PurePosixPath(folder).name} holds files that were not made with these weights and edges: name another "
            "folder with -o."
        )


def _write(system: Any, path: str, content: bytes) -> None:
    """Write a file under another name and rename it."""
    system.pipe_file(f"{path}.part", content)
    system.mv(f"{path}.part", path)


@contextlib.contextmanager
def _fetched(file: str) -> Iterator[Path]:
    """Yield a file on this machine's disks: the file itself, or a copy for as long as the context is open."""
    if "://" not in file:
        yield Path(file)
        return
    import fsspec

    system, path = _system(fsspec, file)
    with tempfile.TemporaryDirectory(prefix="petseg-") as folder:
        copy = Path(folder, f"photo{PurePosixPath(path).suffix}")
        system.get_file(path, str(copy))
        yield copy


@contextlib.contextmanager
def _cluster(ray: Any, address: str) -> Iterator[None]:
    """Connect to a Ray cluster; one started on this machine has no dashboard.

    Its other ports are open on all of the machine's addresses, since Ray takes no loopback address for them.  They
    require a token, which Ray creates and keeps in this user's home.
    """
    from ray.data import DataContext

    if "://" in address:  # Ray accepts it, and then fails in the middle of its own code
        raise PetsegError("Ray Data does not run through ray://: give HOST:PORT, on a machine of the cluster.")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray starts, as it reads this then
    alone = {"include_dashboard": False, "object_store_memory": STORE}
    try:
        host, colon, port = address.rpartition(":")
        if colon and port.isdecimal():  # Ray would try for minutes, and then end this process
            socket.create_connection((host, int(port)), timeout=REACHED).close()
        ray.init(address, log_to_driver=False, logging_level="error", **(alone if address == "local" else {}))
    except Exception as error:  # Ray has no exception type of its own for a failed start
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise PetsegError(
            f"No cluster of Ray at {address} ({reason}): start one with ray start, or use --ray local. If it asks for "
            "a token, set RAY_AUTH_MODE=token."
        ) from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # losses are counted here; Ray writes logs of its own
    context = DataContext.get_current()
    context.enable_progress_bars, context.print_on_execution_start = False, False
    context.max_errored_blocks = -1  # a photo that kills its worker on every try does not end the run
    try:
        yield
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise PetsegError(f"Ray gave up ({reason}). Run the same command again to continue.") from error
    finally:
        ray.shutdown()
