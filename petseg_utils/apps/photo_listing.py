"""List photos: those of folders and their sub-folders, one after the other, and the shard of each."""

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from petseg_utils.apps.photo_tables import ENDINGS, Shard, printable, read_table, stem_of, tables
from petseg_utils.study import PetsegError

# Other files in a folder are ignored.  Files with these endings that cannot be read here are listed as failed.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".heic", ".heif", ".avif"),
)


@dataclass(frozen=True)
class Photo:
    """A photo of a listing.

    Parameters
    ----------
    name : str
        Its name in the table: its path below the folder that all photos share.
    stem : str
        The name of its results: a path below their folder, without ending.
    place : str
        Its path relative to the folder of results, with links to its folder resolved.
    real : str
        The file's own path, with all links resolved.
    """

    path: Path
    name: str
    stem: str
    place: str = ""
    real: str = ""

    def results(self, out: Path) -> list[Path]:
        """Return the paths of its overlay, cut-out and mask in a folder of results."""
        return [out / f"{self.stem}{ending}" for ending in ENDINGS]


@dataclass
class Listing:
    """Photos, listed again on each iteration; only the names of one folder at a time are held in memory.

    Parameters
    ----------
    folders : dict of str to Path
        Folders to walk through: their real paths, and the paths by which they were given.
    files : dict of str to (Path, set of str)
        Single photos: their folders' real paths, the folders as given, and the names in them.
    made : set of str
        Results of other runs that may lie among the photos, by their real paths.
    ignored, unreadable
        From the latest iteration: ignored files, by ending, and folders that could not be read.
    """

    folders: dict[str, Path]
    files: dict[str, tuple[Path, set[str]]]
    root: Path
    out: Path
    shard: Shard | None = None
    made: set[str] = field(default_factory=set)
    ignored: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Photo]:
        self.ignored.clear()
        self.unreadable.clear()
        alone = dict(self.files)
        for real, folder in self.folders.items():
            yield from self._walk(folder, real, alone)
        for real, (folder, given) in alone.items():
            yield from self._photos(folder, real, sorted(given), given)

    def _walk(self, folder: Path, real: str, alone: dict[str, tuple[Path, set[str]]]) -> Iterator[Photo]:
        """Yield the photos of a folder, then those of its sub-folders; take single photos given in it from `alone`."""
        _, given = alone.pop(real, (folder, set()))
        names, inner, maybe_links = sorted(given), [], set(given)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = entry.name
                    if _is_folder(entry):
                        path = Path(real, name)
                        if entry.is_symlink() or name.startswith(".") or path == self.out or tables(path):
                            self.ignored[f"{name}/"] += 1
                        elif str(path) not in self.folders:  # otherwise it has its own turn
                            inner.append(name)
                    elif self.made and os.path.realpath(entry.path) in self.made:
                        self.ignored["results of petseg segment"] += 1
                    elif name in given:
                        continue
                    elif name.lower().endswith(SUFFIXES) and not name.startswith("."):
                        names.append(name)
                        maybe_links.update([name] if entry.is_symlink() else [])
                    else:
                        self.ignored[os.path.splitext(name)[1].lower() or name] += 1
        except OSError as error:
            self.unreadable.append(error.filename)
        yield from self._photos(folder, real, names, maybe_links)
        del names
        for name in sorted(inner):
            yield from self._walk(folder / name, os.path.join(real, name), alone)

    def _photos(self, folder: Path, real: str, names: list[str], maybe_links: set[str]) -> Iterator[Photo]:
        """Yield the photos of one folder by their names, in the order of `in_order`."""
        below, seen = folder.relative_to(self.root), seen_from(self.out, Path(real))
        names.sort()
        names.sort(key=_folded)
        prefix = "" if below == Path() else f"{below.as_posix()}/"
        for name, stem in with_stems(names):
            own = os.path.join(real, name)
            own = os.path.realpath(own) if name in maybe_links else own
            if self.shard is None or self.shard.holds(f"{prefix}{name}"):
                yield Photo(folder / name, f"{prefix}{name}", f"{prefix}{stem}", (seen / name).as_posix(), own)

    @property
    def left_out(self) -> list[str]:
        """What was left out, in sentences."""
        kinds = ", ".join(f"{number} {kind}" for kind, number in self.ignored.most_common(5))
        more = ", …" if len(self.ignored) > 5 else ""
        sentences = [f"Ignored, as their names are not those of photos: {printable(kinds)}{more}"] if kinds else []
        return sentences + [f"failed: no permission to read folder {printable(folder)}" for folder in self.unreadable]


def find_photos(given: list[Path], out: Path, shard: Shard | None = None) -> Listing:
    """List photos: files, whatever their names, and the pictures in folders and in their sub-folders.

    A photo's name is its path below the folder that all of `given` share, so that no two are the same; a photo that is
    given twice is listed once.  Hidden files and folders, linked folders, and folders that hold results are ignored.

    Parameters
    ----------
    shard : Shard, optional
        List only the photos of this shard; it may have none.

    Raises
    ------
    PetsegError
        If a file or folder does not exist, there are no photos, the results would lie among a folder's photos, or a
        folder holds results itself.
    """
    for path in given:
        if not path.exists():
            raise PetsegError(f"No file or folder {str(path)!r}.")
        if path.is_dir() and path.resolve() == out.resolve():
            raise PetsegError("The results would lie among the photos: name another folder with -o.")
        if tables(path):
            raise PetsegError(
                f"{printable(str(path))} holds results of petseg segment, not photos: name the photos themselves, or "
                "another folder."
            )
    starts = sorted({_whole(path) for path in given})
    folders = [start if start.is_dir() else start.parent for start in starts]
    try:
        root = Path(os.path.commonpath(folders))
    except ValueError:  # Windows: they are on several drives
        raise PetsegError("The photos lie on several drives: take those of one drive at a time.") from None
    listing = Listing({}, {}, root, out.resolve())
    for start, folder in zip(starts, folders, strict=True):
        if start == folder:
            listing.folders.setdefault(str(start.resolve()), start)
            listing.made |= _results_around(start)
        else:
            listing.files.setdefault(str(folder.resolve()), (folder, set()))[1].add(start.name)
    if next(iter(listing), None) is None:
        none = f"No photos found: looked for files ending in {', '.join(SUFFIXES)}."
        raise PetsegError(" ".join([none, *listing.left_out]))
    listing.shard = shard
    return listing


def with_stems(names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the names of the photos of one folder, in the order of `in_order`, with the names of their results.

    ``a.jpg`` becomes ``a``; if that is taken, ``a.png`` stays ``a.png``.  Some disks do not tell A from a.  The result
    depends on nothing but the names, so all shards agree.
    """
    for _, alike in itertools.groupby(names, lambda name: name.casefold().partition(".")[0]):
        taken: set[str] = set()
        for name in alike:
            stem = next(stem for stem in stems(name) if stem.casefold() not in taken)
            taken.add(stem.casefold())
            yield name, stem


def stems(name: str) -> Iterator[str]:
    """Yield possible names of a photo's results, in the order in which they are tried."""
    short = PurePosixPath(name).with_suffix("").as_posix()
    return itertools.chain([short, name], (f"{name}.{number}" for number in itertools.count(2)))


def in_order(name: str) -> str:
    """Return a key that sorts photos' names as they are listed: a folder's photos, then its sub-folders."""
    *folders, last = name.split("/")
    return "\0".join([*(f"1{folder}" for folder in folders), f"0{_folded(last)}"])


def _folded(name: str) -> str:
    """Return a key for the names in a folder; the dot keeps ``a.jpg``, ``A.png`` and ``a.jpg.png`` together."""
    return f"{name.casefold()}."


def seen_from(out: Path, folder: Path) -> Path:
    """Return the path of a folder relative to that of the results; both must have their links resolved."""
    try:
        return Path(os.path.relpath(folder, out))
    except ValueError:  # Windows: it is on another drive
        return folder


def _results_around(start: Path) -> set[str]:
    """Return the results named by tables in the folders above a folder, by real path: some are in sub-folders."""
    results: set[str] = set()
    for folder in start.resolve().parents:
        for table in tables(folder):
            with contextlib.suppress(PetsegError, OSError):  # not petseg's, so it names none
                stems = (stem_of(row) for row in read_table(table))
                results |= {os.path.realpath(folder / f"{stem}{ending}") for stem in stems for ending in ENDINGS}
    return results


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _whole(path: Path) -> Path:
    """Make a path absolute.  Only the file system knows what ``..`` means behind a link: the folder of its target."""
    path = path.absolute()
    if ".." not in path.parts:
        return path
    return path.resolve() if path.name == ".." else path.parent.resolve() / path.name
