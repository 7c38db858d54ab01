"""Which photos there are to segment, and the folder of their results: its tables, and what is done already."""

import contextlib
import csv
import errno
import hashlib
import io
import itertools
import json
import os
import reprlib
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path, PurePath, PurePosixPath

from filelock import FileLock, Timeout

from petseg_utils.segmenter import Segmenter
from petseg_utils.study import PetsegError, shown

# Other files in a folder are ignored.  Of these, what cannot be read here is listed as failed.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".heic", ".heif", ".avif"),
)
BOX = ("x0", "y0", "x1", "y1")  # first and last column and row with a pet, as `--box` takes them
BEFORE = ("file", "width", "height", "class", "share", *BOX, "confidence", "prompts", "mask", "photo")  # until 0.2
STATE = ("bytes", "modified", "sha256")  # of the photo's file, when it was segmented
COLUMNS = (*BEFORE, "overlay", *STATE)
ENDINGS = ("_overlay.jpg", "_cutout.png", "_mask.png")
RESULTS, FAILED, MADE_BY = "results.csv", "failed.csv", "about.json"
LOCK, BEGUN = ".petseg.lock", ".petseg.begun"  # the second names the results that a run that was cut may have left
# What a spreadsheet takes for the start of a formula, and the mark that says that it is none.
_FORMULA, _NONE = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"), "'"


@dataclass
class Listing:
    """What `find_photos` lists: photos by their names, ignored files by ending, folders that could not be read."""

    photos: dict[str, Path] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)

    @property
    def left_out(self) -> list[str]:
        """What was left out, in sentences."""
        kinds = ", ".join(f"{number} {kind}" for kind, number in self.ignored.most_common(5))
        more = ", …" if len(self.ignored) > 5 else ""
        kinds = printable(kinds)
        sentences = [f"Ignored, no photos by their names: {kinds}{more}"] if kinds else []
        return sentences + [
            f"failed: the folder {printable(str(folder))} may not be read" for folder in self.unreadable
        ]


@dataclass(frozen=True)
class Photo:
    """A photo, its name in the table, and what its results are called: a path below their folder, without ending."""

    path: Path
    name: str
    stem: str

    def results(self, out: Path) -> list[Path]:
        """Its overlay, cut-out and mask, in a folder of results."""
        return [out / f"{self.stem}{ending}" for ending in ENDINGS]


def find_photos(given: list[Path], out: Path) -> Listing:
    """List photos: files, whatever they are called, and the pictures in folders and in their sub-folders.

    A photo's name is its path below the folder that all of `given` share, so that no two have the same.  Hidden files
    and folders, linked folders, and folders that hold results are ignored.

    Parameters
    ----------
    given : list of Path
        Files and folders.
    out : Path
        The folder of the results.

    Raises
    ------
    PetsegError
        If there is no such file or folder, no photo in it, the results would lie among the photos of a folder, or a
        folder holds results itself.
    """
    listing, paths = Listing(), set()
    for path in given:
        if not path.exists():
            raise PetsegError(f"No file or folder {str(path)!r}.")
        if path.is_dir() and path.resolve() == out.resolve():
            raise PetsegError("The results would lie among the photos: name another folder with -o.")
        if _holds_results(path):
            raise PetsegError(
                f"{printable(str(path))} holds results of petseg segment, no photos: name the photos themselves, or "
                "another folder."
            )
    starts = [_whole(path) for path in given]
    for start in starts:
        if not start.is_dir():
            paths.add(start)
            continue
        results = _results_around(start)
        for folder, inner, files in os.walk(start, onerror=lambda error: listing.unreadable.append(error.filename)):
            skipped = {name for name in inner if _is_skipped(Path(folder, name))}
            inner[:] = [name for name in inner if name not in skipped]
            made = {name for name in files if results and os.path.realpath(Path(folder, name)) in results}
            listing.ignored.update({"results of petseg segment": len(made)} if made else {})
            files = [name for name in files if name not in made]
            pictures = {name for name in files if name.lower().endswith(SUFFIXES) and not name.startswith(".")}
            paths |= {Path(folder, name) for name in pictures}
            listing.ignored.update(Path(name).suffix.lower() or name for name in set(files) - pictures)
            listing.ignored.update(f"{name}/" for name in skipped)
    if not paths:
        raise PetsegError(" ".join([f"No photos there: looked for files in {', '.join(SUFFIXES)}.", *listing.left_out]))
    try:
        root = os.path.commonpath([start if start.is_dir() else start.parent for start in starts])
    except ValueError:  # Windows: they lie on several drives
        raise PetsegError("The photos lie on several drives: take those of one drive at a time.") from None
    listing.photos = {path.relative_to(root).as_posix(): path for path in sorted(paths)}
    return listing


def _is_skipped(folder: Path) -> bool:
    """Whether a sub-folder holds results, is hidden, or is a link, which might lead around in circles."""
    return _holds_results(folder) or folder.name.startswith(".") or folder.is_symlink()


def _holds_results(folder: Path) -> bool:
    return all(os.path.isfile(folder / name) for name in (MADE_BY, RESULTS))


def _results_around(start: Path) -> set[str]:
    """Results that the tables of the folders around a folder name, by their real paths: some lie in sub-folders."""
    results: set[str] = set()
    for folder in start.resolve().parents:
        if _holds_results(folder):
            with contextlib.suppress(PetsegError, OSError):  # not petseg's, so it names none
                stems = (stem_of(row) for row in read_table(folder / RESULTS))
                results |= {os.path.realpath(folder / f"{stem}{ending}") for stem in stems for ending in ENDINGS}
    return results


def _whole(path: Path) -> Path:
    """A path from the root.  What ``..`` means behind a link only the file system knows: its target's folder."""
    path = path.absolute()
    if ".." not in path.parts:
        return path
    return path.resolve() if path.name == ".." else path.parent.resolve() / path.name


def printable(text: str) -> str:
    """A name as one line of a terminal can show it: line breaks and the like as their codes."""
    breaks = ("Cc", "Cs", "Zl", "Zp")  # control characters, bytes that are no text, ends of lines and paragraphs
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in breaks else letter
        for letter in text
    )


def stem_of(row: dict) -> str:
    """What the results of a row of the table are called; see `Photo`."""
    return row["mask"].removesuffix(ENDINGS[-1])


def made_by(segmenter: Segmenter, *, hard: bool = False) -> dict:
    """What makes the masks, for ``about.json``: model, encoder, study, seed, epoch, weights and edges.

    The SHA-256 is the checkpoint's, in torch as in a file that was exported from it: their masks go together.
    """
    run = {key: segmenter.card[key] for key in ("model", "encoder", "study", "seed", "epoch")}
    weights = segmenter.weights.name if segmenter.weights else ""
    return run | {"weights": weights, "sha256": segmenter.model.digest, "edges": "hard" if hard else "soft"}


def check_folder(out: Path, maker: dict) -> None:
    """Refuse a folder for results that holds those of other weights, or a stranger's files of the same names.

    Parameters
    ----------
    out : Path
        The folder; it need not exist.
    maker : dict
        From `made_by`.

    Raises
    ------
    PetsegError
        With what to do.
    """
    if out.exists() and not out.is_dir():
        raise PetsegError(f"{shown(out)} is a file: name a folder with -o.")
    if not any((out / name).exists() for name in (MADE_BY, RESULTS, FAILED)):
        return
    try:
        before = json.loads((out / MADE_BY).read_text(encoding="utf-8"))
        cards = [{"edges": "hard"} | card for card in (before, maker)]  # until version 0.2 all were
        same = all(cards[0][key] == cards[1][key] for key in ("sha256", "edges"))
        then, now = (
            "{model} of study {study}, seed {seed}, epoch {epoch}, with {edges} edges".format(**card) for card in cards
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        raise PetsegError(f"{shown(out)} holds tables that are not petseg's: name another folder with -o.") from None
    if not same:
        raise PetsegError(
            f"{shown(out)} holds masks by {then}, and these would be by {now}: name another folder with -o, "
            "or delete that one to start anew."
        )


def plan(photos: dict[str, Path], out: Path, prompts: str) -> tuple[list[dict], list[Photo]]:
    """What is done already, and what there is to do.

    A photo is done if it has its row and its files, is the same file as then, and was asked for by the same prompts.
    Results get names that nothing has: neither other results, nor a photo, nor any file that the table does not name.

    Parameters
    ----------
    photos : dict of str to Path
        From `find_photos`.
    out : Path
        Folder of results; it need not exist.
    prompts : str
        As the table shows them.

    Returns
    -------
    (list of dict, list of Photo)
        The table's rows that stay, and the photos to segment.
    """
    rows = {row["photo"]: row for row in read_table(out / RESULTS)}
    ours = {stem_of(row) for row in rows.values()} | read_begun(out)
    taken = {stem_of(row).casefold() for row in rows.values()}

    @cache
    def inputs() -> set[str]:
        return {os.path.realpath(path) for path in photos.values()}

    def is_free(stem: str) -> bool:
        there = [path for path in Photo(out, "", stem).results(out) if os.path.lexists(path)]
        return not there or (stem in ours and inputs().isdisjoint(map(os.path.realpath, there)))

    todo = []
    for name, path in photos.items():
        place = seen_from(out, path)
        row = rows.get(place)
        photo = Photo(path, name, stem_of(row) if row else "")
        if row and row["prompts"] == prompts and (state := _state_if_same(photo, row, out)):
            rows[place] = row | state
            continue
        if not row or not is_free(photo.stem):
            photo = Photo(path, name, _free_stem(name, taken, is_free))
        taken.add(photo.stem.casefold())
        todo.append(photo)
        rows.pop(place, None)
    return list(rows.values()), todo


def _free_stem(name: str, taken: set[str], is_free: Callable[[str], bool]) -> str:
    """``a.jpg`` becomes ``a``; where that is taken, ``a.png`` stays ``a.png``.  Some disks take A for a."""
    short = PurePosixPath(name).with_suffix("").as_posix()
    numbered = (f"{name}.{number}" for number in itertools.count(2))
    stems = itertools.chain([short, name], numbered)
    return next(stem for stem in stems if stem.casefold() not in taken and is_free(stem))


def state_of(path: Path) -> dict[str, str]:
    """Size, time and content of a file, as the table holds them; `OSError` if there is none."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # whoever opens a pipe waits for somebody to write into it
        raise OSError(errno.EINVAL, "no regular file", str(path))
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return dict(zip(STATE, (str(status.st_size), str(status.st_mtime_ns), content), strict=True))


def _state_if_same(photo: Photo, row: dict, out: Path) -> dict[str, str]:
    """The state of a photo's file, if that is the one of its row and its results are there; else nothing.

    Its content is looked at only where size or time differ, in whatever direction.
    """
    *files, mask = photo.results(out)
    try:
        results = [path.stat() for path in (files if row["overlay"] else files[1:])]
        results.append(mask.stat())
        now = photo.path.stat()
        if not row["sha256"]:  # until 0.2 the time was all
            return state_of(photo.path) if now.st_mtime <= min(result.st_mtime for result in results) else {}
        if (row["bytes"], row["modified"]) == (str(now.st_size), str(now.st_mtime_ns)):
            return {key: row[key] for key in STATE}
        state = state_of(photo.path)
        return state if state["sha256"] == row["sha256"] else {}
    except OSError:
        return {}


def begin(out: Path, stems: Iterable[str]) -> None:
    """Note what results are called that are about to be written: a run that is cut leaves them without a row."""
    _write_rows(out / BEGUN, "a", [[stem] for stem in stems])


def read_begun(out: Path) -> set[str]:
    """What runs noted by `begin` that did not come to their end."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, csv.Error):
        text = (out / BEGUN).read_bytes().decode("utf-8", "surrogateescape")
        whole = io.StringIO(text[: text.rfind("\n") + 1], newline="")
        return {_as_written(row[0]) for row in csv.reader(whole) if row}
    return set()


def seen_from(out: Path, path: Path) -> str:
    """Path of a photo from the folder of results, whatever links lead there."""
    photo = path.parent.resolve() / path.name
    try:
        return Path(os.path.relpath(photo, out.resolve())).as_posix()
    except ValueError:  # Windows: it lies on another drive
        return photo.as_posix()


def read_table(path: Path) -> list[dict]:
    """Rows of a table of results, none if there is no such file; a last one that was cut is left out.

    Raises
    ------
    PetsegError
        If the table has other columns, or names files outside its folder.
    """
    columns, rows = read_rows(path, COLUMNS, BEFORE)
    if columns == BEFORE:
        rows = [row | {"overlay": f"{stem_of(row)}{ENDINGS[0]}"} | dict.fromkeys(STATE, "") for row in rows]
    lies_inside = cache(partial(_lies_in, path.parent.resolve()))
    for row in rows:
        if not _is_plain(row["mask"]) or not lies_inside((path.parent / row["mask"]).parent):
            raise PetsegError(
                f"{shown(path)} was changed and names a file that is no mask in this folder, "
                f"{reprlib.repr(printable(row['mask']))}: name another folder with -o."
            )
    return rows


def read_rows(path: Path, *forms: tuple[str, ...]) -> tuple[tuple[str, ...], list[dict]]:
    """Columns and rows of a table by `write_table`; without rows if there is no such file.

    Parameters
    ----------
    path : Path
        The table; a last row that was cut is left out.
    forms : tuple of str
        Columns that it may have; the first ones are today's, and earlier ones were written without marks in the cells.

    Raises
    ------
    PetsegError
        If it has other columns.
    """
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return forms[0], []
    table = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    try:
        columns = tuple(table.fieldnames or forms[0])
        if columns not in forms:
            raise PetsegError(f"{shown(path)} was changed and has other columns: name another folder with -o.")
        rows = [{column: row[column] for column in columns} for row in table if None not in row.values()]
    except csv.Error as error:
        raise PetsegError(f"{shown(path)} was changed ({error}): name another folder with -o.") from error
    if columns == forms[0]:
        rows = [{key: _as_written(value) for key, value in row.items()} for row in rows]
    return columns, rows


def _is_plain(mask: str) -> bool:
    """Whether a table's name of a mask is a path downwards."""
    path = PurePath(mask)
    upwards = any(part in ("", ".", "..") for part in (*mask.split("/"), *path.parts)) or path.drive or path.root
    return mask.endswith(ENDINGS[-1]) and not upwards and "\0" not in mask


def _lies_in(folder: Path, inner: Path) -> bool:
    return Path(os.path.realpath(inner)).is_relative_to(folder)


def write_table(path: Path, columns: tuple[str, ...], rows: Iterable[Iterable]) -> None:
    """Write a table to a temporary name and rename it."""
    temporary = temporary_for(path)
    _write_rows(temporary, "w", [columns, *rows])
    temporary.replace(path)


def temporary_for(path: Path) -> Path:
    """Where a file is written before it gets its name: always the same place, which no user's file has."""
    return path.with_name(f".petseg-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.part")


def write_file(path: Path, content: bytes) -> None:
    """Write a file to a temporary name and rename it; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_for(path)
    temporary.write_bytes(content)
    temporary.replace(path)


def append_row(path: Path, row: Iterable) -> None:
    """Add a row to a table, in one piece."""
    _write_rows(path, "a", [row])


def _write_rows(path: Path, mode: str, rows: Iterable[Iterable]) -> None:
    with path.open(mode, encoding="utf-8", errors="surrogateescape", newline="") as file:  # names may be any bytes
        # Python 3.11 leaves a carriage return unquoted, and then takes it for the end of a line.
        plain, quoted = (
            csv.writer(file, lineterminator="\n"),
            csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL),
        )
        for row in rows:
            cells = [_harmless(str(cell)) for cell in row]
            (quoted if any("\r" in cell for cell in cells) else plain).writerow(cells)


def _harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula, as OWASP advises; `_as_written` takes the mark away."""
    return f"{_NONE}{cell}" if cell.startswith((*_FORMULA, _NONE)) else cell


def _as_written(cell: str) -> str:
    return cell.removeprefix(_NONE)


@contextlib.contextmanager
def alone_in(out: Path, command: str = "petseg segment") -> Iterator[None]:
    """Hold a folder that a command writes to by a hidden file in it; the system lets go of it when the process dies.

    Raises
    ------
    PetsegError
        If another process holds it.
    """
    lock = FileLock(out / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise PetsegError(
            f"Another {command} writes to {shown(out)} just now: wait for it, or name another folder with -o."
        ) from None
    try:
        yield
    finally:
        # While it is held: whoever opened it before sees that it is gone, and does not take it for the folder's lock.
        with contextlib.suppress(OSError):  # Windows deletes no open file; there `release` does it
            (out / LOCK).unlink()
        lock.release()


@contextlib.contextmanager
def writing(out: Path) -> Iterator[None]:
    """Tell in a sentence why the folder of results cannot be written.

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
