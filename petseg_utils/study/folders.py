"""Folders that are written to: by one process at a time, and made aside, so that a killed process leaves nothing."""

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from petseg_utils.study.paths import PetsegError, shown

LOCK = ".petseg.lock"
_UNFINISHED = ".petseg-unfinished-"


@contextlib.contextmanager
def alone_in(folder: Path, command: str, advice: str, *, name: str = LOCK, wait: float = 0) -> Iterator[None]:
    """Hold a folder that a command writes to by a hidden file in it; the system lets go of it when the process dies.

    Parameters
    ----------
    folder : Path
        It must exist.
    command, advice : str
        What writes there, and how to name another folder: for the message.
    name : str
        Of the hidden file.
    wait : float
        Seconds to wait for another process, without end if below 0.  Those that a killed one started end a moment after
        it.

    Raises
    ------
    PetsegError
        If another process holds it.
    """
    lock = FileLock(folder / name, timeout=wait)
    try:
        lock.acquire()
    except Timeout:
        raise PetsegError(f"Another {command} writes to {shown(folder)} just now: wait for it, or {advice}.") from None
    try:
        yield
    finally:
        _delete_and_release(lock)


@contextlib.contextmanager
def made_aside(parent: Path) -> Iterator[Path]:
    """A new hidden folder to make something in that is then renamed to its place; at the end it is deleted.

    What killed processes left there is deleted, too.

    Parameters
    ----------
    parent : Path
        The folder that it lies in, which must be on the disk that the result is for; made if need be.
    """
    parent.mkdir(parents=True, exist_ok=True)
    delete_unfinished(parent)
    folder = parent / f"{_UNFINISHED}{uuid.uuid4().hex[:12]}"
    lock = FileLock(f"{folder}.lock")  # beside it, and held before it is there
    lock.acquire()
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _delete_and_release(lock)


def delete_unfinished(parent: Path) -> None:
    """Delete the folders of `made_aside` whose processes died; those of living ones are locked, and stay."""
    for path in parent.glob(f"{_UNFINISHED}*.lock"):
        lock = FileLock(path, timeout=0)
        with contextlib.suppress(Timeout, OSError):  # somebody else's, or on a disk that cannot be written
            lock.acquire()
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            _delete_and_release(lock)


def _delete_and_release(lock: FileLock) -> None:
    # While it is held: whoever opened it before sees that it is gone, and does not take it for the lock.
    with contextlib.suppress(OSError):  # Windows deletes no open file; there `release` does it
        Path(lock.lock_file).unlink()
    lock.release()
