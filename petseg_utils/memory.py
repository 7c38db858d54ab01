"""What is done with memory that is free again."""

import ctypes
import sys

import torch.utils.deterministic

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
KEPT = 1 << 30  # bytes: blocks up to this size, and as much free memory, stay with the process
OLD_KEPT = 32 << 20  # the most that older versions take


def keep_freed_memory() -> None:
    """Let the process keep the memory that a layer gives back, for the next one.

    glibc returns every large block to the system, which hands it out again page by page, each filled with zeros.  A
    network on a CPU spends up to half of its time on that.  Other systems are left as they are.  And torch, told to use
    deterministic algorithms, fills each new tensor with NaN, to bare code that reads what nobody wrote: a twentieth of
    a training, which then comes out the same.

    References
    ----------
    mallopt(3), Linux manual pages.  torch.utils.deterministic, PyTorch's documentation.
    """
    torch.utils.deterministic.fill_uninitialized_memory = False
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):  # musl has none
        if not libc.mallopt(MMAP_THRESHOLD, KEPT):
            libc.mallopt(MMAP_THRESHOLD, OLD_KEPT)
        libc.mallopt(TRIM_THRESHOLD, KEPT)
