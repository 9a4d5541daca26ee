"""Memory of a table: address space for all the rows that it may ever have, taken at birth and filled as they are used.

In front of the rows lies the index, which `models.table` reads and writes.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from models.table import HEADER, MOST_ROWS, Array, reindex

_PAGE = mmap.ALLOCATIONGRANULARITY
_SMALL = 1 << 17  # rows of which the index has room to spare
_HUGE = 4 << 20  # bytes from which on large pages pay


class Space:
    """Address space for a table of at most so many rows; memory is what is written to."""

    def __init__(self, dtype: Any, largest: int, kind: str = "u1", width: int = 0) -> None:
        self.dtype, self.largest, self.kind, self.width = np.dtype(dtype), largest, np.dtype(kind), width
        self.first = _up(HEADER + 4 * numbers(largest))  # byte at which rows begin
        self._body = _up(self.first + largest * self.dtype.itemsize)
        self._dirty = _up(self._body + largest * width * self.kind.itemsize)
        private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)}
        self._memory = mmap.mmap(-1, _up(self._dirty + largest), **private)

    def rows(self, n: int) -> tuple[Array, Array, Array]:
        """Views of the first n rows: head, body and what has changed."""
        width = self.width
        body = np.frombuffer(self._memory, self.kind, n * width, self._body).reshape(n, width) if width else _NO_BODY
        for low, high in (
            (self.first - HEADER - 4 * numbers(n), self.first + n * self.dtype.itemsize),
            (self._body, self._body + n * width * self.kind.itemsize),
            (self._dirty, self._dirty + n),
        ):
            if high - low >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):  # lookups are all over the place
                self._memory.madvise(mmap.MADV_HUGEPAGE, low // _PAGE * _PAGE, high - low // _PAGE * _PAGE)
        head = np.frombuffer(self._memory, self.dtype, n, self.first)
        return head, body, np.frombuffer(self._memory, np.uint8, n, self._dirty)


def detached(n: int, dtype: Any) -> Array:
    """Memory of a table that does not grow and has no body, as bytes, so that it can be pickled; `rows_of` gives its rows."""
    out: Array = np.zeros(HEADER + 4 * numbers(n) + n * np.dtype(dtype).itemsize, np.uint8)
    reindex(rows_of(out, n, dtype), numbers(n))
    return out


def rows_of(memory: Array, n: int, dtype: Any) -> Array:
    """The rows of a table in memory that `detached` gave."""
    return np.frombuffer(memory, dtype, n, HEADER + 4 * numbers(n))


_NO_BODY: Array = np.zeros((1, 0), np.uint8)


def numbers(rows: int) -> int:
    """Numbers in the index of so many rows: of a small table, twice as many, for a shorter way to what is absent."""
    return rows * 6 // 5 + min(rows, _SMALL) * 4 // 5 + 1


def most_rows(room: float, row: int) -> int:
    """How many rows of so many bytes fit, with their index, into so much room."""
    return min(MOST_ROWS, int(max(room / (row + 8), (room - 3 * _SMALL) / (row + 5))))


def _up(x: int) -> int:
    return -(-x // _PAGE) * _PAGE
