"""How the C library keeps memory for a process: a setting of the whole process, for what starts one."""

import contextlib
import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8  # from glibc's malloc.h


def set_malloc(option: int, value: int) -> bool:
    """Set an option of glibc's malloc, see mallopt(3); False where it refuses, or the C library is another one."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # musl has none
            return bool(ctypes.CDLL(None).mallopt(option, value))
    return False
