"""The folder of results: who may write to it, what is done already and what remains, and how its shards are joined."""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from petseg_utils.apps.photo_listing import Listing, Photo, in_order, stems
from petseg_utils.apps.photo_tables import (
    COLUMNS,
    FAILED,
    MADE_BY,
    MOST_SHARDS,
    OF_FAILED,
    RESULTS,
    STATE,
    Shard,
    of_shard,
    printable,
    read_maker,
    read_rows,
    read_table,
    stem_of,
    write_rows,
    write_table,
)
from petseg_utils.segmenter import Segmenter
from petseg_utils.study import PetsegError, folders, shown
from petseg_utils.study.folders import LOCK

BEGUN = ".petseg.begun"  # lists the results that an interrupted run may have left
PATIENCE = 60.0  # seconds to wait for another shard that is starting in the same folder


def made_by(segmenter: Segmenter, *, hard: bool = False, shard: Shard | None = None) -> dict:
    """Return what makes the masks, for ``about.json``: model, encoder, study, seed, epoch, weights, edges, shards.

    The SHA-256 is the checkpoint's, in torch as well as in a file exported from it: their masks belong together.
    """
    run = {key: segmenter.card[key] for key in ("model", "encoder", "study", "seed", "epoch")}
    weights = segmenter.weights.name if segmenter.weights else ""
    run |= {"weights": weights, "sha256": segmenter.model.digest, "edges": "hard" if hard else "soft"}
    return run | ({"shards": shard.count} if shard else {})


def check_folder(out: Path, maker: dict) -> None:
    """Refuse a folder that holds results of other weights or shards, or somebody else's files of the same names.

    Raises
    ------
    PetsegError
        Says what to do.
    """
    if out.exists() and not out.is_dir():
        raise PetsegError(f"{shown(out)} is a file: name a folder with -o.")
    if not any((out / name).exists() for name in (MADE_BY, RESULTS, FAILED)):
        return
    try:
        before = json.loads((out / MADE_BY).read_text(encoding="utf-8"))
        cards = [{"edges": "hard"} | card for card in (before, maker)]  # until version 0.2, all edges were hard
        same = all(cards[0][key] == cards[1][key] for key in ("sha256", "edges"))
        then, now = (
            "{model} of study {study}, seed {seed}, epoch {epoch}, with {edges} edges".format(**card) for card in cards
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        raise PetsegError(f"{shown(out)} holds tables that are not petseg's: name another folder with -o.") from None
    if not same:
        raise PetsegError(
            f"{shown(out)} holds masks by {then}, but these would be by {now}: name another folder with -o, "
            "or delete that one to start again."
        )
    if (were := before.get("shards")) != (are := maker.get("shards")):
        if were is None:
            raise PetsegError(
                f"{shown(out)} was made without shards: leave out --shard, or name another folder with -o."
            )
        raise PetsegError(
            f"{shown(out)} is divided into {were} shards, but this run "
            f"{f'is one of {are}' if are else 'has no --shard'}: give --shard I/{were}, or name another folder with -o."
        )


class Plan:
    """What is already done in a folder of results, and what remains to be done.

    A photo is done if it has its row and its files, is the same file as then, and was segmented with the same prompts.
    Results get names that nothing else has: no other results, no photo, and no file that the table does not name.

    Everything is kept in a temporary database on disk, so memory does not grow with the number of photos.
    `prompts` are in the form that the table shows.
    """

    def __init__(self, listing: Listing, out: Path, prompts: str):
        self.out, self.db = out, sqlite3.connect("")  # SQLite deletes it when the connection closes
        self.db.executescript("""
            PRAGMA journal_mode = OFF;
            CREATE TABLE rows (place BLOB PRIMARY KEY, cells BLOB);
            CREATE TABLE ours (stem BLOB PRIMARY KEY);
            CREATE TABLE taken (stem BLOB PRIMARY KEY);
            CREATE TABLE inputs (path BLOB PRIMARY KEY);
            CREATE TABLE photos (place BLOB PRIMARY KEY, path BLOB, name BLOB, stem BLOB);
            CREATE TABLE todo (path BLOB, name BLOB, stem BLOB, place BLOB);
        """)
        for row in read_table(out / of_shard(RESULTS, listing.shard)):
            self._add("rows", row["photo"], json.dumps(row))
            self._add("ours", stem_of(row))
            self._add("taken", stem_of(row).casefold())
        for row in read_rows(out / of_shard(BEGUN, listing.shard), ("stem",), header=False):
            self._add("ours", row["stem"])
        self.n_photos, inside = 0, f"{listing.out}{os.sep}"
        for photo in listing:
            self.n_photos += self._add("photos", photo.place, str(photo.path), photo.name, photo.stem)
            if photo.real.startswith(inside):
                self._add("inputs", photo.real)
        for place, path, name, stem in self._all("SELECT * FROM photos ORDER BY rowid"):
            self._decide(Photo(Path(path), name, stem, place), prompts)
        ((self.n_todo,),) = self.db.execute("SELECT COUNT(*) FROM todo")

    def _decide(self, photo: Photo, prompts: str) -> None:
        before = self.db.execute("SELECT cells FROM rows WHERE place = ?", [_bytes(photo.place)]).fetchone()
        row = json.loads(before[0]) if before else None
        if row:
            before = Photo(photo.path, photo.name, stem_of(row), photo.place)
            if row["prompts"] == prompts and (state := _state_if_same(before, row, self.out)):
                if state != {key: row[key] for key in STATE}:
                    cells = json.dumps(row | state).encode()
                    self.db.execute("UPDATE rows SET cells = ? WHERE place = ?", [cells, _bytes(photo.place)])
                return
            self.db.execute("DELETE FROM rows WHERE place = ?", [_bytes(photo.place)])
        if row and self._is_free(before.stem):
            photo = before
        else:
            folder = photo.name.removesuffix(photo.path.name)
            others = (f"{folder}{stem}" for stem in stems(photo.path.name))
            free = (stem for stem in itertools.chain([photo.stem], others) if self._is_free(stem, anew=True))
            photo = Photo(photo.path, photo.name, next(free), photo.place)
        self._add("taken", photo.stem.casefold())
        self._add("todo", str(photo.path), photo.name, photo.stem, photo.place)

    def _is_free(self, stem: str, *, anew: bool = False) -> bool:
        """Return whether results may have this name: no other photo's have it, and no file that a run did not write."""
        if anew and self._has("taken", "stem", stem.casefold()):
            return False
        there = [path for path in Photo(self.out, "", stem).results(self.out) if os.path.lexists(path)]
        ours = not there or self._has("ours", "stem", stem)
        return ours and not any(self._has("inputs", "path", os.path.realpath(path)) for path in there)

    @property
    def rows(self) -> Iterator[list]:
        """The table's rows that are kept, in the order of `COLUMNS`."""
        for (cells,) in self._all("SELECT cells FROM rows ORDER BY rowid"):
            row = json.loads(cells)
            yield [row[column] for column in COLUMNS]

    @property
    def todo(self) -> Iterator[Photo]:
        """The photos to segment."""
        for path, name, stem, place in self._all("SELECT * FROM todo ORDER BY rowid"):
            yield Photo(Path(path), name, stem, place)

    def _add(self, table: str, *values: str) -> int:
        places = ", ".join("?" * len(values))
        rule = "REPLACE" if table == "rows" else "IGNORE"
        return self.db.execute(f"INSERT OR {rule} INTO {table} VALUES ({places})", [*map(_bytes, values)]).rowcount

    def _has(self, table: str, column: str, value: str) -> bool:
        return bool(self.db.execute(f"SELECT 1 FROM {table} WHERE {column} = ?", [_bytes(value)]).fetchone())

    def _all(self, query: str) -> Iterator[tuple[str, ...]]:
        for row in self.db.execute(query):
            yield tuple(cell.decode("utf-8", "surrogateescape") for cell in row)


def _bytes(text: str) -> bytes:
    """Encode text for SQLite, which takes only valid Unicode; names of files may be any bytes."""
    return text.encode("utf-8", "surrogateescape")


def state_of(path: Path) -> dict[str, str]:
    """Return size, time and hash of a file, as the table holds them; raise `OSError` if there is none."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait until somebody writes into it
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return dict(zip(STATE, (str(status.st_size), str(status.st_mtime_ns), content), strict=True))


def _state_if_same(photo: Photo, row: dict, out: Path) -> dict[str, str]:
    """Return the state of a photo's file if it matches its row and its results exist; else an empty dict.

    The content is read only if size or time differ, be it newer or older.
    """
    *files, mask = photo.results(out)
    try:
        results = [path.stat() for path in (files if row["overlay"] else files[1:])]
        results.append(mask.stat())
        now = photo.path.stat()
        if not row["sha256"]:  # until 0.2, only the time was compared
            return state_of(photo.path) if now.st_mtime <= min(result.st_mtime for result in results) else {}
        if (row["bytes"], row["modified"]) == (str(now.st_size), str(now.st_mtime_ns)):
            return {key: row[key] for key in STATE}
        state = state_of(photo.path)
        return state if state["sha256"] == row["sha256"] else {}
    except OSError:
        return {}


def begin(out: Path, stems: Iterable[str], shard: Shard | None = None) -> None:
    """Record the names of results about to be written, as an interrupted run leaves them without a row."""
    write_rows(out / of_shard(BEGUN, shard), "a", ([stem] for stem in stems))


class Merged(NamedTuple):
    """How many shards were joined, how many photos have masks, and how many failed."""

    shards: int
    photos: int
    failed: int


def merge(out: Path) -> Merged:
    """Join the tables of all shards of a folder into ``results.csv`` and ``failed.csv``; the shards' own ones stay.

    The rows are in the order in which a single run over all photos would write them.

    Raises
    ------
    PetsegError
        If there are no shards, a shard is missing or was interrupted, or a photo is in two of them.
    """
    count = read_maker(out).get("shards")
    if not isinstance(count, int) or not 0 < count <= MOST_SHARDS:
        raise PetsegError(f"{shown(out)} holds no shards to join: petseg segment --shard I/N -o makes them.")
    shards = [Shard(index + 1, count) for index in range(count)]
    with writing(out), alone_in(out, "petseg segment --merge"):
        _check_complete(out, shards)
        db = sqlite3.connect("")
        db.executescript("""
            PRAGMA journal_mode = OFF;
            CREATE TABLE rows (name BLOB, cells BLOB, photo BLOB UNIQUE, mask BLOB UNIQUE);
            CREATE TABLE failed (name BLOB, cells BLOB);
        """)
        for shard in shards:
            for row in read_table(out / of_shard(RESULTS, shard)):
                key, cells = _bytes(in_order(row["file"])), json.dumps([row[column] for column in COLUMNS])
                try:
                    unique = _bytes(row["photo"]), _bytes(row["mask"].casefold())
                    db.execute("INSERT INTO rows VALUES (?, ?, ?, ?)", [key, cells, *unique])
                except sqlite3.IntegrityError:
                    raise PetsegError(
                        f"{printable(row['file'])} is in shard {shard} and in an earlier one: run all shards again in "
                        "another folder, each with the same photos."
                    ) from None
            for row in read_rows(out / of_shard(FAILED, shard), OF_FAILED):
                db.execute(
                    "INSERT INTO failed VALUES (?, ?)", [_bytes(in_order(row["file"])), json.dumps([*row.values()])]
                )
        _check_complete(out, shards)  # again, as one may have started meanwhile
        for name, table, columns in ((RESULTS, "rows", COLUMNS), (FAILED, "failed", OF_FAILED)):
            rows = db.execute(f"SELECT cells FROM {table} ORDER BY name, rowid")
            write_table(out / name, columns, (json.loads(cells) for (cells,) in rows))
        done, failed = (db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in ("rows", "failed"))
        if not failed:
            (out / FAILED).unlink()
    return Merged(count, done, failed)


def _check_complete(out: Path, shards: list[Shard]) -> None:
    """Raise `PetsegError` unless each shard has its table and is complete."""
    absent = [shard for shard in shards if not (out / of_shard(RESULTS, shard)).is_file()]
    cut = [shard for shard in shards if (out / of_shard(BEGUN, shard)).exists()]
    for lacking, what in ((absent, "missing"), (cut, "not finished")):
        if lacking:
            named = ", ".join(map(str, lacking[:10])) + (f" and {len(lacking) - 10} more" if len(lacking) > 10 else "")
            raise PetsegError(
                f"Shards {what}: {named}. Run petseg segment with --shard {lacking[0]}, and so on, before --merge."
            )


def alone_in(
    out: Path, command: str = "petseg segment", *, shard: Shard | None = None, wait: float = 0
) -> contextlib.AbstractContextManager[None]:
    """Lock a folder of results, or only what a shard writes there; see `folders.alone_in`."""
    if shard:
        command += f" --shard {shard}"
    return folders.alone_in(out, command, "name another folder with -o", name=of_shard(LOCK, shard), wait=wait)


@contextlib.contextmanager
def writing(out: Path) -> Iterator[None]:
    """Explain in a sentence why the folder of results cannot be written.

    Raises
    ------
    PetsegError
        Instead of any `OSError` inside.
    """
    try:
        yield
    except OSError as error:
        raise PetsegError(
            f"Could not write to {shown(out)} ({error.strerror}). Make room there, or name another folder with -o; "
            "the same command goes on where this one stopped."
        ) from error
