"""Decode strangers' photos in child processes, whose memory and time are limited and which may crash."""

import atexit
import contextlib
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import cv2

from petseg_utils.apps.cutouts import result_file
from petseg_utils.apps.page_folder import disk_sentence
from petseg_utils.apps.page_state import small_picture
from petseg_utils.data.transforms import Letterbox
from petseg_utils.segmenter import Selection, read_photo
from petseg_utils.study import PetsegError

Answer = tuple[dict[str, Any], list[bytes]]  # facts, as JSON can hold them, and bytes
CHILDREN = 2
SECONDS = 30.0  # allowed for one photo
MEMORY = 3 * 1024**3  # bytes of address space, on top of what Python itself takes
MOST = 100_000_000  # bytes of an answer, at most
TASKS = 200  # of one child; then another replaces it, so that a decoder's memory leak cannot grow


def reduce_photo(path: Path, name: str, size: int, scale: int) -> Answer:
    """Read a photo's file, and return it as a model sees it and as the page shows it.

    Returns
    -------
    (dict, list of bytes)
        ``height`` and ``width`` of the photo; its square, RGB ``uint8 (scale * size, scale * size, 3)``, and a JPEG
        file to show, see `page_state.small_picture`.
    """
    image = read_photo(path, name)
    height, width = image.shape[:2]
    square = Letterbox(height, width, size).image(image, scale)
    return {"height": height, "width": width}, [square.tobytes(), small_picture(image)]


def write_result(path: Path, selection: Selection, label: str, name: str, what: str, folder: Path) -> Answer:
    """Write what somebody saves of a photo into a folder, see `cutouts.result_file`; ``file`` is the file's name."""
    file, content = result_file(read_photo(path, name), selection, label, name, what)
    (folder / file).write_bytes(content)
    return {"file": file}, []


class Children:
    """A few processes that wait for photos.  Each has its own pipes, and ends with this process, however that ends."""

    def __init__(self) -> None:
        self._idle: queue.LifoQueue[_Child] = queue.LifoQueue()
        self._lock, self._started = threading.Lock(), False

    def start(self) -> None:
        """Start the processes that are not running, so that the first photo need not wait for it."""
        with self._lock:
            for _ in range(0 if self._started else CHILDREN):
                self._idle.put(_Child())
            self._started = True

    def call(self, name: str, function: Callable[..., Answer], *arguments: object) -> Answer:
        """Call a function in a child process, and return its answer.

        Parameters
        ----------
        function : callable
            A function of a module that a child can import.

        Raises
        ------
        PetsegError
            If the function raises one, or if it crashes, or takes too long or too much memory.
        """
        self.start()
        child = self._idle.get()
        try:
            return child.call(name, function, arguments)
        finally:
            self._idle.put(child if child.is_well else _Child())


class _Child:
    """A child process, as seen from the parent.

    It is not a `multiprocessing` process, as that would first run the script that started this process once more.
    """

    def __init__(self) -> None:
        code = f"from {__name__} import work; work()"
        places = os.pathsep.join(place or os.getcwd() for place in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": places},
        )
        self._left = TASKS
        atexit.register(self._end)

    @property
    def is_well(self) -> bool:
        """Whether it can take another task."""
        return self._left > 0

    def call(self, name: str, function: Callable[..., Answer], arguments: tuple) -> Answer:
        assert self._process.stdin and self._process.stdout
        self._left -= 1
        timer = threading.Timer(SECONDS, self._process.kill)
        timer.start()
        try:
            pickle.dump((name, function, arguments), self._process.stdin)
            self._process.stdin.flush()
            trouble, facts, parts = _heard(self._process.stdout)
        except (OSError, ValueError, KeyError, TypeError):
            self._end()
            if timer.finished.is_set():
                trouble = f"takes more than {SECONDS:g} seconds, or is damaged: make it smaller, or save it anew."
            else:
                trouble = "is damaged, and its decoder crashed: save it anew as JPEG or PNG."
            raise PetsegError(f"{name} {trouble}") from None
        finally:
            timer.cancel()
        if not self.is_well:
            self._end()
        if trouble:
            raise PetsegError(trouble)
        return facts, parts

    def _end(self) -> None:
        self._left = 0
        atexit.unregister(self._end)
        self._process.kill()
        self._process.communicate()


def work() -> None:
    """Run tasks in a child, for as long as the parent sends them."""
    _limit()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints must not get into the answer
    with contextlib.suppress(EOFError, OSError):
        while True:
            # Safe: only the page writes to this pipe, and what strangers gave it is mere text and numbers there.
            name, function, arguments = pickle.load(sys.stdin.buffer)
            trouble, (facts, parts) = _answer(name, function, arguments)
            told = {"trouble": trouble, "facts": facts, "sizes": list(map(len, parts))}
            answers.write(json.dumps(told).encode() + b"\n" + b"".join(parts))
            answers.flush()


def _heard(answers: IO[bytes]) -> tuple[str, dict[str, Any], list[bytes]]:
    """Read a child's answer: what went wrong, facts, bytes.  It is not pickled, as a stranger's photo may forge it.

    Raises
    ------
    ValueError, KeyError, TypeError
        If it is not a valid answer.
    """
    told = json.loads(answers.readline(MOST))
    if not 0 <= sum(told["sizes"]) <= MOST:
        raise ValueError("too much")
    parts = [answers.read(size) for size in told["sizes"]]
    if list(map(len, parts)) != told["sizes"]:
        raise ValueError("cut")
    return str(told["trouble"]), dict(told["facts"]), parts


def _answer(name: str, function: Callable[..., Answer], arguments: tuple) -> tuple[str, Answer]:
    """Call a function; return what went wrong, and its answer."""
    nothing: Answer = {}, []
    too_large = f"{name} takes more memory than there is: make it smaller and try again."
    if hasattr(signal, "alarm"):
        signal.alarm(round(2 * SECONDS))  # ends this process even if nobody is left to do it
    try:
        return "", function(*arguments)
    except PetsegError as error:
        return str(error), nothing
    except OSError as error:
        return disk_sentence(error), nothing
    except MemoryError:
        return too_large, nothing
    except cv2.error as error:
        if error.code != cv2.Error.StsNoMem:
            raise
        return too_large, nothing
    finally:
        if hasattr(signal, "alarm"):
            signal.alarm(0)


def _limit() -> None:
    """Limit this process's memory and what a crash leaves on the disk, where the system can."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process too
    if sys.platform == "linux":  # elsewhere the limit is not enforced, or refused
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


children = Children()  # this page's; none is started before it is needed
