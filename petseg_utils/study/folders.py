"""Writing to folders: locked for one process at a time, or made aside, so that a killed process leaves no half ones."""

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
    """Lock a folder that a command writes to, by a hidden file in it; the system unlocks it when the process dies.

    Parameters
    ----------
    folder : Path
        The folder; it must exist.
    command, advice : str
        What writes there, and how to name another folder: for the message.
    name : str
        Name of the hidden file.
    wait : float
        Seconds to wait for another process, without limit if below 0.  Processes that a killed process started end a
        moment after it.

    Raises
    ------
    PetsegError
        If another process still holds the lock.
    """
    lock = FileLock(folder / name, timeout=wait)
    try:
        lock.acquire()
    except Timeout:
        raise PetsegError(
            f"Another {command} is writing to {shown(folder)}: wait for it to end, or {advice}."
        ) from None
    try:
        yield
    finally:
        _delete_and_release(lock)


@contextlib.contextmanager
def made_aside(parent: Path) -> Iterator[Path]:
    """Make a hidden folder in which to create something that is then renamed to its place; delete it at the end.

    Folders that killed processes left are deleted too.

    Parameters
    ----------
    parent : Path
        The folder in which it lies, which must be on the same disk as the result; created if needed.
    """
    parent.mkdir(parents=True, exist_ok=True)
    delete_unfinished(parent)
    folder = parent / f"{_UNFINISHED}{uuid.uuid4().hex[:12]}"
    lock = FileLock(f"{folder}.lock")  # beside the folder, and held before the folder exists
    lock.acquire()
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _delete_and_release(lock)


def delete_unfinished(parent: Path) -> None:
    """Delete folders of `made_aside` whose processes died; those of running processes are locked and stay."""
    for path in parent.glob(f"{_UNFINISHED}*.lock"):
        lock = FileLock(path, timeout=0)
        with contextlib.suppress(Timeout, OSError):  # in use by another process, or on a disk that cannot be written
            lock.acquire()
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            _delete_and_release(lock)


def _delete_and_release(lock: FileLock) -> None:
    # Deleted while it is held: a process that opened it before sees that it is gone, and does not take it for the lock.
    with contextlib.suppress(OSError):  # Windows cannot delete an open file; there `release` deletes it
        Path(lock.lock_file).unlink()
    lock.release()
