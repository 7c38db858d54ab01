"""How the C library keeps memory: a setting of the whole process, made only by code that starts one."""

import contextlib
import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8  # from glibc's malloc.h


def set_malloc(option: int, value: int) -> bool:
    """Set an option of glibc's malloc, see mallopt(3); return False if it is refused or the C library is another."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # musl has no mallopt
            return bool(ctypes.CDLL(None).mallopt(option, value))
    return False
