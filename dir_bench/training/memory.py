"""What becomes of memory that tensors on a CPU gave back."""

import ctypes
import sys

KEPT = 2**28
"""Bytes that the C library keeps of what was given back, at most, at the end of its heap."""
LARGEST = 2**25
"""Bytes of the largest block that lies on the heap: the most that glibc allows. Larger ones are mapped each apart."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""As in glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Have glibc keep what a training step gives back for the next one; elsewhere nothing is done.

    By itself it hands most of it to the system at the end of each step and asks for it anew in the next one, which maps
    and clears it page by page: a sixth of a small network's training, or more. No number depends on it.
    """
    # musl has no such function.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, KEPT)
