"""Raw records side by side in one buffer, and where each stands: the lines of a piece of a file, or what one poll brings of a partition.

None of them is an object until somebody asks for it. aiokafka makes two of each, which for a worker is a tenth of all its work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import index
from typing import NamedTuple, Self, overload

import numpy as np

from models.compiled import inline, njit
from models.table import Array

_LEAST = 7  # bytes of a record of Kafka
NOTHING = np.zeros(0, np.int64)


class Records(Sequence["bytes | None"]):
    """Values, None where there is none, in order; each with its position (offset, or line number) and, of a topic, when it was written and its key."""

    __slots__ = ("_buffer", "_high", "_key_high", "_key_low", "_low", "position", "timestamp")

    def __init__(
        self,
        buffer: bytes,
        low: Array,
        high: Array,
        position: Array,
        timestamp: Array = NOTHING,
        key_low: Array = NOTHING,
        key_high: Array = NOTHING,
    ) -> None:
        """Number i is `buffer[low[i]:high[i]]`, or None where `low[i]` is negative; keys alike. Times are in milliseconds."""
        self._buffer, self._low, self._high = buffer, low, high
        self.position, self.timestamp = position, timestamp
        self._key_low, self._key_high = key_low, key_high

    @classmethod
    def of(cls, values: Sequence[bytes | None], first: int = 0) -> Self:
        """Values at positions that begin with `first`."""
        sizes = np.fromiter((len(value) if value is not None else 0 for value in values), np.int64, len(values))
        high = np.cumsum(sizes)
        low = high - sizes
        if None in values:
            low[[i for i, value in enumerate(values) if value is None]] = -1
        return cls(b"".join(filter(None, values)), low, high, np.arange(first, first + len(values)))

    @classmethod
    def lines(cls, text: bytes, first: int) -> Self:
        """The lines of a text that ends with one, numbered from `first`."""
        high = _line_ends(np.frombuffer(text, np.uint8))
        low = np.empty_like(high)
        low[:1] = 0
        low[1:] = high[:-1] + 1
        return cls(text, low, high, np.arange(first, first + len(high)))

    def __len__(self) -> int:
        return len(self._low)

    @overload
    def __getitem__(self, i: int) -> bytes | None: ...
    @overload
    def __getitem__(self, i: slice) -> Records: ...
    def __getitem__(self, i: int | slice) -> bytes | Records | None:
        if isinstance(i, slice):
            columns = (self._low, self._high, self.position, self.timestamp, self._key_low, self._key_high)
            return Records(self._buffer, *(column[i] for column in columns))
        i = index(i)  # as of a list: Faust tries a string, and expects a `TypeError`
        low = self._low[i]
        return self._buffer[low : self._high[i]] if low >= 0 else None

    def __iter__(self) -> Iterator[bytes | None]:
        buffer = self._buffer
        for low, high in zip(self._low.tolist(), self._high.tolist(), strict=True):
            yield buffer[low:high] if low >= 0 else None

    def key(self, i: int) -> bytes | None:
        """The key of a record of a topic."""
        low = self._key_low[i]
        return self._buffer[low : self._key_high[i]] if low >= 0 else None

    def since(self, position: int) -> Records:
        """Those at a position or after it."""
        if len(self) == 0 or self.position[0] >= position:
            return self
        return self[int(np.searchsorted(self.position, position)) :]

    def clear(self) -> None:
        """Give the memory back; whoever holds this longer has no records in it."""
        self._buffer = b""
        self._low = self._high = self.position = self.timestamp = self._key_low = self._key_high = NOTHING

    def text(self, most: int) -> tuple[Array, Array]:
        """All of them as one text of valid UTF-8 that can be written to, each with the end of a line, and where each begins: n + 1 places.

        What is longer than `most`, not UTF-8 or None is empty in it.
        """
        low, size = self._low, self._high - self._low
        size[(low < 0) | (size > most)] = 0
        source = np.frombuffer(self._buffer, np.uint8)
        text, at, plain = _gather(source, low, size)
        if not plain and not _is_text(text.tobytes()):
            for i in range(len(self)):
                if size[i] and not _is_text(self[i] or b""):
                    size[i] = 0
            text, at, _ = _gather(source, low, size)
        return text, at


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


class Packed(NamedTuple):
    """A record batch of Kafka, decompressed (format 2; <https://kafka.apache.org/documentation/#messageformat>)."""

    records: bytes
    n: int
    offset: int  # of the first
    timestamp: int  # in milliseconds
    appended: bool  # the time is that of the broker, and of all records; else what theirs are relative to


def unpack(batches: Sequence[Packed]) -> Records:
    """The records of batches that follow on each other. Raises `ValueError` if their bytes are none."""
    if any(not 0 <= _LEAST * batch.n <= len(batch.records) for batch in batches):
        raise ValueError("fewer bytes than a batch's records have")
    buffer = b"".join(batch.records for batch in batches)
    n = sum(batch.n for batch in batches)
    columns = np.empty((6, n), np.int64)
    ends = np.cumsum(np.array([len(batch.records) for batch in batches], np.int64))
    counts, offsets, times, appended = np.array([batch[1:] for batch in batches], np.int64).T
    if not _unpack(np.frombuffer(buffer, np.uint8), ends, counts, offsets, times, appended, columns):
        raise ValueError("not the records that a batch says it has")
    low, high, position, timestamp, key_low, key_high = columns
    return Records(buffer, low, high, position, timestamp, key_low, key_high)


def warm_up() -> None:
    """Compile it all, or load it from the cache, so that the first poll does not wait for it."""
    unpack([Packed(b"", 0, 0, 0, appended=False)])
    Records.lines(b"\n", 1).text(1)


@njit
def _gather(buffer: Array, low: Array, size: Array) -> tuple[Array, Array, bool]:
    """Records as one text with the end of a line after each, where each begins, and whether all is ASCII."""
    n = len(low)
    at = np.zeros(n + 1, np.int64)
    for i in range(n):
        at[i + 1] = at[i] + size[i] + 1
    text = np.empty(at[n], np.uint8)
    found = np.uint8(0)
    for i in range(n):
        begin, source = at[i], low[i]
        for j in range(size[i]):
            c = buffer[source + j]
            text[begin + j] = c
            found |= c
        text[at[i + 1] - 1] = 10
    return text, at, found < 128  # type: ignore[return-value]


@njit
def _line_ends(text: Array) -> Array:
    n = 0
    for c in text:
        n += c == 10
    out = np.empty(n, np.int64)
    n = 0
    for i in range(len(text)):
        if text[i] == 10:
            out[n] = i
            n += 1
    return out


@inline
def _varint(data: Array, at: int, end: int) -> tuple[int, int]:
    """A number in as many bytes as it needs, signs folded in (zigzag), and where the next begins; beyond the end where there is none."""
    out, shift = np.uint64(0), np.uint64(0)
    while at < end and shift < np.uint64(64):
        c = np.uint64(data[at])
        at += 1
        out |= (c & np.uint64(127)) << shift
        if c < np.uint64(128):
            return np.int64(out >> np.uint64(1)) ^ -np.int64(out & np.uint64(1)), at  # type: ignore[return-value]
        shift += np.uint64(7)
    return 0, end + 1


@njit
def _unpack(
    data: Array, ends: Array, counts: Array, offsets: Array, times: Array, appended: Array, columns: Array
) -> bool:
    """Fill in low, high, position, timestamp, key's low and high of each record; whether the bytes are as many as they say."""
    at = row = 0
    for b in range(len(ends)):
        end = ends[b]
        for _ in range(counts[b]):
            length, at = _varint(data, at, end)
            if (
                not 0 <= length <= end - at
            ):  # not by adding, which may come out negative, and reading there ends the process
                return False
            stop = at + length
            at += 1  # attributes: none are in use
            late, at = _varint(data, at, stop)
            further, at = _varint(data, at, stop)
            columns[2, row] = offsets[b] + further
            columns[3, row] = times[b] if appended[b] else times[b] + late
            for where in (4, 0):  # the key, then the value
                size, at = _varint(data, at, stop)
                if size > stop - at:
                    return False
                columns[where, row] = at if size >= 0 else -1
                at += max(size, 0)
                columns[where + 1, row] = at if size >= 0 else -1
            headers, at = _varint(data, at, stop)
            for _ in range(2 * headers):
                size, at = _varint(data, at, stop)
                if size > stop - at:
                    return False
                at += max(size, 0)
            if at != stop or headers < 0:
                return False
            row += 1
        if at != end:
            return False
    return True
