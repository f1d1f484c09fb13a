"""The C library's memory, set for steps that take and give back the same large blocks again and again."""

from __future__ import annotations

import ctypes
import sys

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 2**30


def keep_freed_memory() -> bool:
    """Make this process keep what it frees, where glibc is there; whether it could be set.

    By default every large block goes back to the kernel, and comes anew with a page fault for each 4 KiB that are
    touched.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, 2 * _LARGEST - 1))
