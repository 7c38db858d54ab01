"""Settings of the whole process, made only by code that starts one: the command line, a notebook's first cell."""

import contextlib
import logging
from collections.abc import Iterator
from datetime import timedelta

import torch.utils.deterministic
from accelerate import PartialState

from petseg_utils.study.memory import MMAP_THRESHOLD, TRIM_THRESHOLD, set_malloc
from petseg_utils.study.provenance import best_device

KEPT = 1 << 30  # bytes: freed blocks up to this size, and as much free memory in all, stay with the process
OLD_KEPT = 32 << 20  # the largest block size that older versions of glibc accept
PATIENCE = timedelta(seconds=25)  # how long to wait for a process that does not answer


def set_up_process() -> None:
    """Make runs reproducible, and networks fast on a CPU.

    Torch uses deterministic algorithms where it has them.  In that mode it also fills each new tensor with NaN, to
    expose reads of uninitialised memory.  This takes a twentieth of a training's time and does not change its result,
    so it is turned off.

    The process keeps the memory that a layer frees, for the next layer: by default glibc returns every large block to
    the system, which hands it out again page by page, each filled with zeros, and a network on a CPU would spend up to
    half of its time on that.  Systems without glibc are left as they are.

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
    """Connect the processes that ``accelerate launch`` or ``torchrun`` started, if any, until all are done.

    Yields whether this is the main process, which writes files and messages; the others log only warnings.  On GPUs,
    each process has its own.  If a process dies, the others get a `PetsegError` when they next wait for it: at once if
    the system reports its end, otherwise after `PATIENCE`.
    """
    cpu = best_device() == "cpu"  # Accelerate does not find this out by itself
    state = PartialState(cpu=cpu, timeout=PATIENCE)
    if not state.is_main_process:
        logging.getLogger("petseg_utils").setLevel(logging.WARNING)
    yield state.is_main_process
    state.destroy_process_group()  # not after an error: it would wait for processes that are gone
