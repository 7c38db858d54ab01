"""The tables of a folder of results, one for all photos or one per shard: names in them, reading and writing them."""

import contextlib
import csv
import hashlib
import json
import os
import reprlib
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath

from petseg_utils.study import PetsegError, shown
from petseg_utils.study.paths import safe_cell, without_mark

BOX = ("x0", "y0", "x1", "y1")  # first and last column and row with a pet, as `--box` takes them
BEFORE = ("file", "width", "height", "class", "share", *BOX, "confidence", "prompts", "mask", "photo")  # until 0.2
STATE = ("bytes", "modified", "sha256")  # of the photo's file when it was segmented
COLUMNS = (*BEFORE, "overlay", *STATE)
OF_FAILED = ("file", "reason")
ENDINGS = ("_overlay.jpg", "_cutout.png", "_mask.png")
RESULTS, FAILED, MADE_BY = "results.csv", "failed.csv", "about.json"
MOST_SHARDS = 100_000


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of all photos, counted from 1."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, name: str) -> bool:
        """Return whether a photo belongs to this shard, by a hash of its name that is the same on every machine."""
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8]) % self.count == self.index - 1


def of_shard(name: str, shard: Shard | None) -> str:
    """Return a shard's name for a file of a folder of results: ``results.csv`` becomes ``results-1-of-4.csv``."""
    stem, suffix = os.path.splitext(name)
    return f"{stem}-{shard.index}-of-{shard.count}{suffix}" if shard else name


def read_maker(folder: Path) -> dict:
    """Read ``about.json`` in a folder of results; return an empty dict if it is missing or not petseg's."""
    with contextlib.suppress(OSError, ValueError):
        said = json.loads((folder / MADE_BY).read_text(encoding="utf-8"))
        return said if isinstance(said, dict) else {}
    return {}


def tables(folder: Path) -> list[Path]:
    """Return the tables that a folder of results has: one, or one per shard."""
    count = read_maker(folder).get("shards")
    shards = [Shard(index + 1, count) for index in range(min(count, MOST_SHARDS))] if isinstance(count, int) else []
    paths = [folder / of_shard(RESULTS, shard) for shard in (None, *shards)]
    return [path for path in paths if path.is_file()] if (folder / MADE_BY).is_file() else []


def printable(text: str) -> str:
    """Return a name that a terminal can show in one line: line breaks and the like are replaced by their codes."""
    breaks = ("Cc", "Cs", "Zl", "Zp")  # control characters, bytes that are not text, line and paragraph separators
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in breaks else letter
        for letter in text
    )


def stem_of(row: dict) -> str:
    """Return the name of a row's results; see `Photo`."""
    return row["mask"].removesuffix(ENDINGS[-1])


def read_table(path: Path) -> Iterator[dict]:
    """Yield the rows of a table of results, none if there is no such file; a truncated last row is left out.

    Raises
    ------
    PetsegError
        If the table has other columns, or names files outside its folder.
    """
    inside = path.parent.resolve()
    lies_inside = lru_cache(1000)(lambda folder: Path(os.path.realpath(folder)).is_relative_to(inside))
    for row in read_rows(path, COLUMNS, BEFORE):
        if not _is_plain(row["mask"]) or not lies_inside((path.parent / row["mask"]).parent):
            raise PetsegError(
                f"{shown(path)} was changed and names a file that is not a mask in this folder, "
                f"{reprlib.repr(printable(row['mask']))}: name another folder with -o."
            )
        if "overlay" not in row:
            row |= {"overlay": f"{stem_of(row)}{ENDINGS[0]}"} | dict.fromkeys(STATE, "")
        yield row


def read_rows(path: Path, *forms: tuple[str, ...], header: bool = True) -> Iterator[dict]:
    """Yield the rows of a table by `write_table`; none if there is no such file.

    Parameters
    ----------
    path : Path
        The table; a truncated last row is left out.
    forms : tuple of str
        Columns that it may have; the first are today's, and tables in older forms have no marks (`safe_cell`) in cells.
    header : bool
        Whether its first line names the columns; otherwise they are the first of `forms`.

    Raises
    ------
    PetsegError
        If it has other columns.
    """
    with contextlib.ExitStack() as held:
        try:
            # Only "\n" ends a line: a carriage return may be part of a name, and names may be any bytes.
            file = held.enter_context(path.open(encoding="utf-8", errors="surrogateescape", newline="\n"))
        except (FileNotFoundError, NotADirectoryError):
            return
        lines = (line for line in file if line.endswith("\n"))
        table = csv.DictReader(lines, None if header else forms[0])
        try:
            columns = tuple(table.fieldnames or forms[0])
            if columns not in forms:
                raise PetsegError(f"{shown(path)} was changed and has other columns: name another folder with -o.")
            for row in table:
                if None not in row.values():
                    plain = without_mark if columns == forms[0] else str
                    yield {column: plain(row[column]) for column in columns}
        except csv.Error as error:
            raise PetsegError(f"{shown(path)} was changed ({error}): name another folder with -o.") from error


def _is_plain(mask: str) -> bool:
    """Return whether a table's name of a mask is a path that leads only downwards."""
    path = PurePath(mask)
    upwards = any(part in ("", ".", "..") for part in (*mask.split("/"), *path.parts)) or path.drive or path.root
    return mask.endswith(ENDINGS[-1]) and not upwards and "\0" not in mask


def write_table(path: Path, columns: tuple[str, ...], rows: Iterable[Iterable]) -> None:
    """Write a table under a temporary name and rename it."""
    temporary = temporary_for(path)
    write_rows(temporary, "w", [columns, *rows])
    temporary.replace(path)


def temporary_for(path: Path) -> Path:
    """Return where a file is written before it gets its name: always the same place, used by no file of the user's."""
    return path.with_name(f".petseg-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.part")


def write_file(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it; its folder is created if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_for(path)
    temporary.write_bytes(content)
    temporary.replace(path)


def append_row(path: Path, row: Iterable) -> None:
    """Append a row to a table in a single write."""
    write_rows(path, "a", [row])


def write_rows(path: Path, mode: str, rows: Iterable[Iterable]) -> None:
    """Write rows to a file (mode ``w``), or append them to it (``a``)."""
    with path.open(mode, encoding="utf-8", errors="surrogateescape", newline="") as file:  # names may be any bytes
        # Python 3.11 leaves a carriage return unquoted, and on reading takes it for the end of a line.
        plain, quoted = (
            csv.writer(file, lineterminator="\n"),
            csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL),
        )
        for row in rows:
            cells = [safe_cell(str(cell)) for cell in row]
            (quoted if any("\r" in cell for cell in cells) else plain).writerow(cells)
