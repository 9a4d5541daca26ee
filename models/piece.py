"""Rows as bytes: a piece of one table, column by column, so that what is alike lies side by side and compresses.

A piece is the slots of its rows, as distances, then their bytes: all first bytes, all second bytes and so on. Times are whole milliseconds
before the latest of their column, where they all are such. Of a body whose numbers are much alike each is combined (exclusive or) with the one before.

Where a row's key has been written before it is left out, since it is most of what does not compress: a check of a few rows' keys tells that they are
still the same. And where it is known which part of a row has changed, only that is written: of facts the count, of a body some numbers that follow on each other.
All that is written is as it is now, not what has been added: whoever missed an earlier change loses nothing by it once the row's page comes.

Kinds before `ROWS` are those of version 3, which are only read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from models import put
from models.put import KEY
from models.table import Array

HEADER = struct.Struct("<7qd")  # table, kind, rows, three of the tally, rows in the piece; least
_HOW = struct.Struct("<QIB")  # fields that are milliseconds, rows of a page, how the body is written
WHOLE, CHANGED, DROP, ROWS, SAME, COUNTED, PART = range(7)
COUNT = 4  # bytes that follow a key and are all that is written of a row that is COUNTED
_PLAIN, _ALIKE = 0, 1
TIME = 1e8  # seconds: a number that is never as large is no time


class Piece(NamedTuple):
    """What a piece says: of which rows the head, as far as it is written, and the body."""

    kind: int
    least: float  # of a DROP: rows of less `w` are gone
    slots: Array
    check: Array  # of the keys that are not written: of each row, or of each group
    head: Array  # (n, bytes)
    body: Array  # (n, width); of a PART the numbers that it has, one after the other
    step: int = 0  # rows of a page
    place: Array | None = None  # of a PART: where in a row's body the first number belongs
    many: Array | None = None  # and how many of them there are

    def put(self, head: Array, body: Array) -> None:
        """Write the rows where they belong; not those that have another key by now."""
        to = bytes_of(head)
        if self.kind in (WHOLE, ROWS):
            to[self.slots] = self.head
            if body.shape[1]:
                body[self.slots] = self.body
            return
        if self.kind == CHANGED:
            same = to[self.slots, 0] == self.check
            to[self.slots[same], KEY:] = self.head[same]
        else:
            same = put.heads(to, self.slots, self.head, self.check, self.step)
        if self.place is not None and self.many is not None:
            inside = body.view(np.uint8)
            put.parts(inside, body.itemsize, self.slots, same, self.place, self.many, bytes_of(self.body))
        elif body.shape[1] and self.kind != COUNTED:
            body[self.slots[same]] = self.body[same]


def bytes_of(head: Array) -> Array:
    """Rows as (n, bytes)."""
    out: Array = head.view(np.uint8).reshape(len(head), head.dtype.itemsize)
    return out


def pack(
    kind: int, slots: Array, head: Array, body: Array, step: int, alike: bool, parts: Array | None = None
) -> bytes:
    """The rows at these slots, which are in order; of a PART with where the changed part of each body begins, and how long it is."""
    rows = head[slots]
    keys = rows["key"].copy()
    out = [_planes(bytes_of(np.diff(slots, prepend=0).astype("<u4")))]
    if kind != ROWS:
        out.append(put.checks(keys, slots, step).tobytes())
    millis, latest = (0, []) if kind == COUNTED else _as_millis(rows)
    out.append(np.array(latest, "<i8").tobytes())
    written = bytes_of(rows)
    out.append(
        _planes(written if kind == ROWS else written[:, KEY : KEY + COUNT] if kind == COUNTED else written[:, KEY:])
    )
    how = _PLAIN
    if kind == PART and parts is not None:
        out.append(parts.astype(np.uint8).tobytes())
        values = body[_entries(slots, parts[0], parts[1], body.shape[1])]
        out.append(_planes(bytes_of(values)))
    elif body.shape[1] and kind != COUNTED:
        values = body[slots]
        if alike and values.dtype == np.float32:
            how = _ALIKE
            bits = values.view(np.uint32)
            bits[:, 1:] ^= bits[:, :-1].copy()
        out.append(_planes(values.view(np.uint8).reshape(len(slots), body.shape[1] * body.itemsize)))
    return _HOW.pack(millis, step, how) + b"".join(out)


def _as_millis(rows: Array) -> tuple[int, list[int]]:
    """Let times be milliseconds before the latest of their column, in place; which fields are, and the latest of each."""
    which, latest = 0, []
    for i, name in enumerate(rows.dtype.names or ()):
        if rows.dtype[name] != np.float64 or not len(rows):
            continue
        times = rows[name]
        if not (np.abs(times) < 1e12).all() or times.max() < TIME:
            continue
        whole = np.rint(times * 1000.0).astype(np.int64)
        if ((whole / 1000.0).view(np.int64) != np.ascontiguousarray(times).view(np.int64)).any():
            continue
        which |= 1 << i
        latest.append(int(whole.max()))
        rows[name] = (latest[-1] - whole).view(np.float64)
    return which, latest


def _entries(slots: Array, place: Array, count: Array, width: int) -> tuple[Array, Array]:
    """Row and column of each number of parts of bodies, as rings: what follows the last is the first."""
    first = np.repeat(np.cumsum(count) - count, count)
    return np.repeat(slots, count), (np.repeat(place, count) + np.arange(len(first)) - first) % max(1, width)


def unpack(
    data: bytes, at: int, kind: int, n: int, least: float, dtype: Any, body: tuple[str, int]
) -> tuple[Piece, int]:
    """The piece at a byte of `data`, and the byte after it. Raises `ValueError` if it is none."""
    if not WHOLE <= kind <= PART:
        raise ValueError(f"no kind {kind} of piece")
    dtype = np.dtype(dtype)
    numbers, width = np.dtype(body[0]), body[1]
    millis, step, how = 0, 1, _ALIKE

    def take(length: int) -> Array:
        nonlocal at
        if at + length > len(data):
            raise ValueError("shorter than it says")
        out: Array = np.frombuffer(data, np.uint8, length, at)
        at += length
        return out

    def rows(n: int, length: int) -> Array:
        out: Array = np.array(take(n * length).reshape(length, n).T, order="C")  # which can be written to
        return out

    if kind >= ROWS:
        millis, step, how = _HOW.unpack(take(_HOW.size).tobytes())
        if step < 1 or millis >> len(dtype.names or ()) or how not in (_PLAIN, _ALIKE):
            raise ValueError("written as nothing is")
    slots = np.cumsum(rows(n, 4).ravel().view("<u4"), dtype=np.int64)
    check = slots[:0].astype(np.uint8)
    if kind == CHANGED:
        check = take(n)
    elif kind > ROWS:
        check = take(put.groups(slots, step))
    if kind == COUNTED and dtype.itemsize < KEY + COUNT:
        raise ValueError("counts of what is not counted")
    latest = take(8 * millis.bit_count()).view("<i8")
    n_head = dtype.itemsize if kind in (WHOLE, ROWS) else COUNT if kind == COUNTED else dtype.itemsize - KEY
    head = rows(n, 0 if kind == DROP else n_head)
    if millis:
        _as_times(head, millis, latest, dtype, dtype.itemsize - n_head)
    if kind == PART:
        place, count = take(n).astype(np.int64), take(n).astype(np.int64)
        if n and (place.max() >= width or count.max() > width):
            raise ValueError("parts of a body that cannot be")
        values = rows(int(count.sum()), numbers.itemsize).view(numbers).ravel()
        return Piece(kind, least, slots, check, head, values, step, place, count), at
    n_body = 0 if kind in (DROP, COUNTED) else width * numbers.itemsize
    inside = rows(n, n_body).view(numbers).reshape(n, width) if n * n_body else np.zeros((n, width), numbers)
    if n * n_body and how == _ALIKE and numbers == np.float32:
        bits = inside.view(np.uint32)
        np.bitwise_xor.accumulate(bits, axis=1, out=bits)
    return Piece(kind, least, slots, check, head, inside, step), at


def _as_times(head: Array, millis: int, latest: Array, dtype: Any, left_out: int) -> None:
    """Let milliseconds be times again, in place. Raises `ValueError` where they are no field of times."""
    k = 0
    for i, name in enumerate(dtype.names):
        if not millis >> i & 1:
            continue
        kind, begin = dtype.fields[name][:2]
        begin -= left_out
        if kind != np.float64 or begin < 0:
            raise ValueError(f"{name} is no time")
        before = np.ascontiguousarray(head[:, begin : begin + 8]).view("<i8")
        times = (latest[k] - before) / 1000.0
        head[:, begin : begin + 8] = times.view(np.uint8)
        k += 1


def split(
    data: bytes, table: Callable[[int, int, int], tuple[str, Any, tuple[str, int]]]
) -> Iterator[tuple[int, int, tuple[int, int, int], Piece]]:
    """Table, rows it has, its tally and the piece, of each piece in `data`.

    `table` gives a table's name, the type of its rows and that of their body, for its number, its rows and how many are in the piece, or
    raises `ValueError` if there is none such. Raises `ValueError` if the bytes are no pieces.
    """
    at = 0
    while at < len(data):
        if at + HEADER.size > len(data):
            raise ValueError("shorter than a header")
        which, kind, rows, used, gone, hand, n, least = HEADER.unpack_from(data, at)
        name, dtype, body = table(which, rows, n)
        if gone < 0 or not 0 <= used <= rows or not 0 <= hand <= rows or not 0 <= n <= rows:
            raise ValueError(f"counts of {name} that cannot be")
        piece, at = unpack(data, at + HEADER.size, kind, n, least, dtype, body)
        if n and piece.slots.max() >= rows:
            raise ValueError(f"row {piece.slots.max()} of {rows} of {name}")
        yield which, rows, (used, gone, hand), piece


def _planes(rows: Array) -> bytes:
    return np.ascontiguousarray(rows.T).tobytes()
