"""Which photos there are to segment, and the folder of their results: its tables, and what is done already."""

import contextlib
import csv
import io
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from petseg_utils.segmenter import Segmenter
from petseg_utils.study import PetsegError, shown

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")  # other files in a folder are ignored
BOX = ("x0", "y0", "x1", "y1")  # first and last column and row with a pet, as `--box` takes them
COLUMNS = ("file", "width", "height", "class", "share", *BOX, "confidence", "prompts", "mask", "photo")
ENDINGS = ("_overlay.jpg", "_cutout.png", "_mask.png")
RESULTS, FAILED, MADE_BY = "results.csv", "failed.csv", "about.json"
LOCK = ".petseg.lock"


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
        sentences = [f"Ignored, no photos by their names: {kinds}{more}"] if kinds else []
        return sentences + [f"failed: the folder {folder} may not be read" for folder in self.unreadable]


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
        If there is no such file or folder, no photo in it, or the results would lie among the photos of a folder.
    """
    listing, paths = Listing(), set()
    for path in given:
        if not path.exists():
            raise PetsegError(f"No file or folder {str(path)!r}.")
        if path.is_dir() and path.resolve() == out.resolve():
            raise PetsegError("The results would lie among the photos: name another folder with -o.")
    starts = [Path(os.path.abspath(path)) for path in given]
    for start in starts:
        if not start.is_dir():
            paths.add(start)
            continue
        for folder, inner, files in os.walk(start, onerror=lambda error: listing.unreadable.append(error.filename)):
            skipped = {name for name in inner if _is_skipped(Path(folder, name))}
            inner[:] = [name for name in inner if name not in skipped]
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
    holds_results = all((folder / name).is_file() for name in (MADE_BY, RESULTS))
    return holds_results or folder.name.startswith(".") or folder.is_symlink()


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
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        raise PetsegError(f"{shown(out)} holds tables that are not petseg's: name another folder with -o.") from None
    if not same:
        raise PetsegError(
            f"{shown(out)} holds masks by {then}, and these would be by {now}: name another folder with -o, "
            "or delete that one to start anew."
        )


def plan(photos: dict[str, Path], out: Path, prompts: str) -> tuple[list[dict], list[Photo]]:
    """What is done already, and what there is to do.

    A photo is done if it has its row and its files, is not newer than its mask, and was asked for by the same prompts.

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
    taken = {row["mask"].removesuffix(ENDINGS[-1]).casefold() for row in rows.values()}
    todo = []
    for name, path in photos.items():
        row = rows.get(seen_from(out, path))
        photo = Photo(path, name, row["mask"].removesuffix(ENDINGS[-1]) if row else _free_stem(name, taken))
        taken.add(photo.stem.casefold())
        if not row or row["prompts"] != prompts or not _is_fresh(path, photo.results(out)):
            todo.append(photo)
            rows.pop(seen_from(out, path), None)
    return list(rows.values()), todo


def _free_stem(name: str, taken: set[str]) -> str:
    """``a.jpg`` becomes ``a``; where that is taken, ``a.png`` stays ``a.png``.  Some disks take A for a."""
    short = PurePosixPath(name).with_suffix("").as_posix()
    numbered = (f"{name}.{number}" for number in itertools.count(2))
    return next(stem for stem in itertools.chain([short, name], numbered) if stem.casefold() not in taken)


def _is_fresh(photo: Path, results: list[Path]) -> bool:
    try:
        return photo.stat().st_mtime <= min(result.stat().st_mtime for result in results)
    except OSError:
        return False


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
        If the table has other columns.
    """
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return []
    table = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    if tuple(table.fieldnames or COLUMNS) != COLUMNS:
        raise PetsegError(f"{shown(path)} was changed and has other columns: name another folder with -o.")
    return [row for row in table if None not in row.values()]


def write_table(path: Path, columns: tuple[str, ...], rows: Iterable[Iterable]) -> None:
    """Write a table to a temporary name and rename it."""
    temporary = path.with_name(f"{path.name}.part")
    _write_rows(temporary, "w", [columns, *rows])
    temporary.replace(path)


def append_row(path: Path, row: Iterable) -> None:
    """Add a row to a table, in one piece."""
    _write_rows(path, "a", [row])


def _write_rows(path: Path, mode: str, rows: Iterable[Iterable]) -> None:
    with path.open(mode, encoding="utf-8", errors="surrogateescape", newline="") as file:  # names may be any bytes
        csv.writer(file, lineterminator="\n").writerows(rows)


@contextlib.contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Hold a folder of results by a hidden file in it; the system lets go of it when the process dies.

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
            f"Another petseg segment writes to {shown(out)} just now: wait for it, or name another folder with -o."
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
