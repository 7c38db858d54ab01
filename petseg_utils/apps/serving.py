"""Serve a page on this machine, for as long as it is wanted."""

import contextlib
import ctypes
import datetime
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import gradio as gr
import uvicorn
from fastapi import FastAPI

from petseg_utils.apps.child_processes import children
from petseg_utils.apps.page_door import MAX_FILE, Door
from petseg_utils.apps.page_folder import tidy
from petseg_utils.study import PetsegError
from petseg_utils.study.memory import ARENA_MAX, set_malloc

VISITORS = 200  # whose photos stay open, the most recent ones
THREADS = 12  # that answer; some wait for child processes
AWAY = 30  # seconds without an open window after which a visitor's photo is closed
EVERY = 10.0  # seconds between two checks for what can be closed or deleted


@contextlib.contextmanager
def serving(page: gr.Blocks, port: int, **looks: object) -> Iterator[None]:
    """Serve a page at a port of 127.0.0.1 while the block runs.

    Parameters
    ----------
    port : int
        From 1 to 65535.
    looks : object
        Theme and CSS, as `gradio.mount_gradio_app` takes them.

    Raises
    ------
    PetsegError
        If the port cannot be used.
    """
    set_malloc(ARENA_MAX, 1)  # glibc would make a heap for each thread, and `_give_back` trims only one
    page.state_session_capacity, page.max_threads = VISITORS, THREADS
    options = {"max_file_size": MAX_FILE, "enable_monitoring": False, "footer_links": [], "show_error": False}
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # No history: it would keep each visitor's pictures in the browser.
    gr.mount_gradio_app(app, page, path="/", run_history=False, ssr_mode=False, mcp_server=False, **options, **looks)
    door, done = Door(app, page), threading.Event()
    with _listening(port) as listening:
        server = uvicorn.Server(
            uvicorn.Config(door, log_level="critical", server_header=False, timeout_graceful_shutdown=1)
        )
        threads = [
            threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True),
            threading.Thread(target=_keep_tidy, args=(page, door, done), daemon=True),
        ]
        children.start()
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            done.set()
            server.should_exit = True
            for thread in threads:
                thread.join(5)


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port), backlog=1024)
    except OSError as error:
        raise PetsegError(
            f"Port {port} cannot be used ({os.strerror(error.errno or 0)}): choose another with --port."
        ) from error


def _keep_tidy(page: gr.Blocks, door: Door, done: threading.Event) -> None:
    """Close the photos of visitors who have left, and delete old files, until the page is done."""
    while not done.wait(EVERY):
        with contextlib.suppress(OSError):
            tidy()
        close_abandoned(page, door)
        _give_back()


def close_abandoned(page: gr.Blocks, door: Door) -> int:
    """Close what visitors without a window for a while left open; return how many visitors these were.

    Gradio itself would keep it for an hour.
    """
    held, late = page.state_holder, datetime.datetime.now() - datetime.timedelta(seconds=AWAY)
    closed = 0
    for session, used in list(held.time_last_used.items()):
        if used < late and not door.open[session]:
            with held.lock:
                held.session_data.pop(session, None)
                held.time_last_used.pop(session, None)
            closed += 1
    return closed


def _give_back() -> None:
    """Make the C library return free memory to the system; by itself it keeps much of it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def end_by_signals() -> None:
    """Make SIGTERM and SIGHUP end this process as Ctrl-C does: in order, deleting its files."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    for name in ("SIGTERM", "SIGHUP") if os.name == "posix" else ("SIGTERM",):
        number = getattr(signal, name)
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup sets this
            signal.signal(number, leave)
