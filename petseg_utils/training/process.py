"""Settings of the whole process; only what starts one (the command line, a notebook's first cell) calls this."""

import contextlib
import logging
from collections.abc import Iterator
from datetime import timedelta

import torch.utils.deterministic
from accelerate import PartialState

from petseg_utils.study.memory import MMAP_THRESHOLD, TRIM_THRESHOLD, set_malloc
from petseg_utils.study.provenance import best_device

KEPT = 1 << 30  # bytes: blocks up to this size, and as much free memory, stay with the process
OLD_KEPT = 32 << 20  # the most that older versions take
PATIENCE = timedelta(seconds=25)  # with a process that does not answer


def set_up_process() -> None:
    """Make runs repeatable, and networks fast on a CPU.

    Torch uses deterministic algorithms where it has them.  Told so, it also fills each new tensor with NaN, to expose
    reads of uninitialised memory; that takes a twentieth of a training, which then comes out the same, so it is
    turned off.

    The process keeps the memory that a layer gives back, for the next one: glibc would return every large block to the
    system, which hands it out again page by page, each filled with zeros, and a network on a CPU would spend up to half
    of its time on that.  Other systems are left as they are.

    References
    ----------
    mallopt(3), Linux manual pages.  torch.utils.deterministic, PyTorch's documentation.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if not set_malloc(MMAP_THRESHOLD, KEPT):
        set_malloc(MMAP_THRESHOLD, OLD_KEPT)
    set_malloc(TRIM_THRESHOLD, KEPT)


@contextlib.contextmanager
def together() -> Iterator[bool]:
    """Join the processes that ``accelerate launch`` or ``torchrun`` started, if one of them did, until all are done.

    Yields whether this is the main process, the one that writes and speaks: the others log warnings only.  Torch keeps
    one GPU for each process.  Where one ends, the others get a `PetsegError` when they next wait for it, at once if the
    system tells them, and after `PATIENCE` if it does not.
    """
    cpu = best_device() == "cpu"  # which Accelerate does not find out by itself
    state = PartialState(cpu=cpu, timeout=PATIENCE)
    if not state.is_main_process:
        logging.getLogger("petseg_utils").setLevel(logging.WARNING)
    yield state.is_main_process
    state.destroy_process_group()  # not after an error: it would wait for processes that are gone
