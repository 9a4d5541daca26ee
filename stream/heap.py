"""Memory of one batch is kept for the next: glibc would give it back to the kernel, which then clears every page of it again, for a seventh of the time of an event."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)
_KEPT = 128 << 20  # bytes that are free at the end of a heap
_LARGEST = 32 << 20  # an allocation that is taken from the heap; more is not allowed


def keep_freed() -> None:
    """Tell the C library, where it is glibc; elsewhere nothing happens."""
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, 1 << 20)):
            mallopt(parameter, value)
