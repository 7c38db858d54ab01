"""A page's own folder for its files, deleted with the page, or at the latest when the next one starts."""

import atexit
import contextlib
import errno
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from petseg_utils.study import PetsegError

NAME = "petseg-page-"
QUOTA = 2 * 1024**3  # bytes of all files in the folder: 200 photos of 10 MB
KEPT = 600  # seconds: older uploads and pictures have been read by now
PHOTOS = "photos"  # the folder of the photos being worked on


@cache
def own_folder() -> Path:
    """Return the folder of this process for the page's files: closed to other users of the machine, deleted at the end.

    A lock beside it shows that its process is alive; the system releases it however the process ends.
    """
    sweep()
    folder = Path(tempfile.gettempdir()).resolve() / f"{NAME}{secrets.token_hex(8)}"
    lock = FileLock(f"{folder}.lock")
    with disk_errors():
        lock.acquire()
        folder.mkdir(mode=0o700)
        (folder / PHOTOS).mkdir()

    def clear() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)

    atexit.register(clear)
    return folder


def sweep() -> None:
    """Delete the folders of pages that were killed; those of running ones are locked, and other users' are not ours."""
    for lock in Path(tempfile.gettempdir()).resolve().glob(f"{NAME}*.lock"):
        with contextlib.suppress(OSError, Timeout):
            if hasattr(os, "getuid") and lock.lstat().st_uid != os.getuid():
                continue
            with FileLock(lock, timeout=0):
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink()


def write_for_browser(content: bytes, name: str) -> str:
    """Write a file where the browser may fetch it, under a path that nobody can guess."""
    path = new_path(name)
    with disk_errors():
        path.write_bytes(content)
    return str(path)


def new_path(name: str, within: str = "") -> Path:
    """Return a path for a file of this name, in a new folder whose own name nobody can guess."""
    folder = own_folder() / within / secrets.token_hex(16)
    with disk_errors():
        folder.mkdir()
    return folder / name


def keep_photo(path: Path) -> Path:
    """Keep a file for as long as somebody works on it, whatever happens to the original; see `drop`."""
    kept = new_path(f"photo{path.suffix[:10]}", PHOTOS)
    with disk_errors():
        try:
            os.link(path, kept)
        except FileNotFoundError:
            pass  # whoever reads it reports that
        except OSError:  # on another disk, or one without links
            shutil.copyfile(path, kept)
    return kept


def drop(path: Path) -> None:
    """Delete a file made by `new_path` and its folder, if it is still there."""
    shutil.rmtree(path.parent, ignore_errors=True)


def used() -> int:
    """Return the bytes of all files in the folder; those with two names count once."""
    sizes = {}
    for folder, _, names in os.walk(own_folder()):
        for name in names:
            with contextlib.suppress(OSError):  # deleted meanwhile
                status = os.lstat(os.path.join(folder, name))
                sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def tidy() -> None:
    """Delete what was uploaded or shown more than `KEPT` seconds ago, except photos that somebody works on."""
    late = time.time() - KEPT
    for path in own_folder().iterdir():
        with contextlib.suppress(OSError):
            if path.name not in (PHOTOS, "examples") and path.lstat().st_ctime < late:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Turn disk errors inside into a sentence."""
    try:
        yield
    except OSError as error:
        raise PetsegError(disk_sentence(error)) from error


def disk_sentence(error: OSError) -> str:
    """Say what is wrong with the disk of the page's files, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk of this page's temporary files is full: make room on it and try again."
    return f"This page's temporary files cannot be written ({error.strerror}): see to {tempfile.gettempdir()}."
