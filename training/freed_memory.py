"""Freed memory on a CPU: kept by the process for its next tensors."""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 2**30


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory in this process, and return whether that was possible.

    By default glibc returns each large block to the kernel, which costs a page fault per 4 KiB when the memory is used again.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK) and mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_BLOCK - 1))
