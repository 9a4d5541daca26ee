"""Rows as bytes: a piece of one table, column by column, so that what is alike lies side by side and compresses.

A piece is the slots of its rows, as distances, then their bytes: all first bytes, all second bytes and so on. Of a body of floats each is
combined (exclusive or) with the one before, since many of them are equal. Where a row's key has been written before, only
the key's last byte is, to tell that it is still the same row: the key is most of what does not compress.

In a changelog rows are written by what they were (`models.delta`): those that are new by nothing, others by what they were when they were last
written. Such a piece has a number for every eight rows of a page or fewer, by all that was in them. Where it is another the reader's rows are others (a record
was lost, or they are on a page that comes later) and stay as they are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from models import delta
from models.table import Array

HEADER = struct.Struct("<7qd")  # table, kind, rows, three of the tally, rows in the piece; least
WHOLE, CHANGED, DROP, NEW, GREW = range(5)
KEY = 8  # bytes


class By(NamedTuple):
    """Rows by what they were, not read yet."""

    data: bytes
    at: int
    columns: delta.Columns
    when: delta.When
    checks: Array | None  # of what they were; none where they are new
    step: int  # rows of a page

    def rows(self, slots: Array, head: Array, body: Array) -> tuple[Array, Array]:
        """The rows as bytes, and which of them are sound."""
        if self.checks is None:
            rows, sound, starts = blank(slots, head, body), np.ones(len(slots), bool), np.zeros(len(slots), np.int64)
        else:
            rows = together(head[slots], body[slots] if body.shape[1] else body[:0])
            begins = delta.groups(slots, self.step)
            there = rows[:, :KEY].any(axis=1) | (len(head) == 1)  # the one row of the fleet has no key
            sound = np.repeat(delta.checks(rows, begins) == self.checks, np.diff(begins)) & there
            starts = delta.starts_of(begins)
        delta.read(self.data, self.at, rows, self.columns, 0 if self.checks is None else 1, self.when, starts)
        return rows, sound


class Piece(NamedTuple):
    """What a piece says: of which rows the head, without the key where it is not whole, and the body."""

    kind: int
    least: float  # of a DROP: rows of less `w` are gone
    slots: Array
    check: Array  # last byte of each key
    head: Array  # (n, bytes)
    body: Array  # (n, width)
    by: By | None = None  # of what is written by what it was

    def put(self, head: Array, body: Array) -> None:
        """Write the rows where they belong; not those that have another key by now."""
        to = bytes_of(head)
        if self.by:
            rows, sound = self.by.rows(self.slots, head, body)
            slots, rows = self.slots[sound], rows[sound]
            to[slots] = rows[:, : to.shape[1]]
            if body.shape[1]:
                body.view(np.uint8)[slots] = rows[:, to.shape[1] :]
            return
        if self.kind == WHOLE:
            to[self.slots] = self.head
            if body.shape[1]:
                body[self.slots] = self.body
            return
        same = to[self.slots, 0] == self.check
        slots = self.slots[same]
        to[slots, KEY:] = self.head[same]
        if body.shape[1]:
            body[slots] = self.body[same]


def bytes_of(head: Array) -> Array:
    """Rows as (n, bytes)."""
    out: Array = head.view(np.uint8).reshape(len(head), head.dtype.itemsize)
    return out


def together(head: Array, body: Array) -> Array:
    """Rows as (n, bytes of head and body)."""
    rows = bytes_of(np.ascontiguousarray(head))
    out: Array = np.concatenate((rows, body.view(np.uint8)), axis=1) if body.shape[1] else rows
    return out


def blank(slots: Array, head: Array, body: Array) -> Array:
    """Rows of nothing, but for a key that is where they are: that of the last events is, by its lower half."""
    rows: Array = np.zeros((len(slots), head.dtype.itemsize + body.shape[1] * body.itemsize), np.uint8)
    rows[:, :KEY] = slots.astype("<u8").view(np.uint8).reshape(len(slots), KEY)
    return rows


def pack_by(
    slots: Array, rows: Array, was: Array, kind: int, columns: delta.Columns, when: delta.When, step: int
) -> bytes:
    """Rows as bytes by what they were: of a piece that is NEW `blank`, of one that GREW what was last written. `step` is how many rows a page has."""
    first = np.diff(slots, prepend=0).astype("<u4")
    begins = delta.groups(slots, step)
    starts = delta.starts_of(begins) if kind == GREW else np.zeros(len(slots), np.int64)
    return b"".join(
        (
            delta.HEAD.pack(*when, step),
            _planes(bytes_of(first)),
            delta.checks(was, begins).tobytes() if kind == GREW else b"",
            delta.write(rows, was, columns, kind == GREW, when, starts),
        )
    )


def pack(kind: int, slots: Array, head: Array, body: Array) -> bytes:
    """The rows at these slots, which are in order."""
    rows = bytes_of(head[slots])
    first = np.diff(slots, prepend=0).astype("<u4")
    parts = [_planes(bytes_of(first)), _planes(rows if kind == WHOLE else rows[:, KEY:])]
    if kind == CHANGED:
        parts.insert(1, rows[:, 0].tobytes())
    if body.shape[1]:
        values = body[slots]
        if values.dtype == np.float32:
            bits = values.view(np.uint32)
            bits[:, 1:] ^= bits[:, :-1].copy()
        parts.append(_planes(values.view(np.uint8).reshape(len(slots), body.shape[1] * body.itemsize)))
    return b"".join(parts)


def unpack(
    data: bytes, at: int, kind: int, n: int, least: float, dtype: Any, body: tuple[str, int], sections: bool = False
) -> tuple[Piece, int]:
    """The piece at a byte of `data`, and the byte after it. Raises `ValueError` if it is none."""
    if kind not in (WHOLE, CHANGED, DROP, NEW, GREW):
        raise ValueError(f"no kind {kind} of piece")
    if kind in (NEW, GREW):
        return _unpack_by(data, at, kind, n, delta.columns(dtype, body, sections=sections))
    n_head = np.dtype(dtype).itemsize - (KEY if kind == CHANGED else 0)
    values = np.dtype(body[0])
    n_body = body[1] * values.itemsize
    end = at + n * (4 + (kind == CHANGED) + n_head + n_body)
    if end > len(data):
        raise ValueError("shorter than it says")

    def rows(width: int) -> Array:
        nonlocal at
        out: Array = np.frombuffer(data, np.uint8, n * width, at).reshape(width, n).T
        at += n * width
        return np.array(out, order="C")  # which can be written to

    slots = np.cumsum(rows(4).ravel().view("<u4"), dtype=np.int64)
    check = rows(1).ravel() if kind == CHANGED else slots[:0].astype(np.uint8)
    head = rows(n_head)
    inside = rows(n_body).view(values).reshape(n, body[1]) if n * n_body else np.zeros((n, body[1]), values)
    if n * n_body and values == np.float32:
        bits = inside.view(np.uint32)
        np.bitwise_xor.accumulate(bits, axis=1, out=bits)
    return Piece(kind, least, slots, check, head, inside), end


def _unpack_by(data: bytes, at: int, kind: int, n: int, columns: delta.Columns) -> tuple[Piece, int]:
    begin = at + delta.HEAD.size
    if begin + 4 * n > len(data):
        raise ValueError("shorter than it says")
    weight, clock, step = delta.HEAD.unpack_from(data, at)
    if not step > 0:
        raise ValueError("pages without rows")
    first = np.frombuffer(data, np.uint8, 4 * n, begin).reshape(4, n).T
    slots = np.cumsum(np.array(first, order="C").view("<u4").ravel(), dtype=np.int64)
    at, checks = begin + 4 * n, None
    if kind == GREW:
        groups = len(delta.groups(slots, step)) - 1
        if at + groups > len(data):
            raise ValueError("shorter than it says")
        checks = np.frombuffer(data, np.uint8, groups, at)
        at += groups
    end = delta.end_of(data, at, n, columns, kind == GREW)
    none: Array = np.zeros((0, 0), np.uint8)
    by = By(data, at, columns, delta.When(weight, clock), checks, step)
    return Piece(kind, 0.0, slots, none, none, none, by), end


def split(
    data: bytes, table: Callable[[int, int, int], tuple[str, Any, tuple[str, int], bool]]
) -> Iterator[tuple[int, int, tuple[int, int, int], Piece]]:
    """Table, rows it has, its tally and the piece, of each piece in `data`.

    `table` gives a table's name, the type of its rows and that of their body and whether that has sections, for its number, its rows and how many are in the piece, or
    raises `ValueError` if there is none such. Raises `ValueError` if the bytes are no pieces.
    """
    at = 0
    while at < len(data):
        if at + HEADER.size > len(data):
            raise ValueError("shorter than a header")
        which, kind, rows, used, gone, hand, n, least = HEADER.unpack_from(data, at)
        name, dtype, body, sections = table(which, rows, n)
        if gone < 0 or not 0 <= used <= rows or not 0 <= hand <= rows or not 0 <= n <= rows:
            raise ValueError(f"counts of {name} that cannot be")
        piece, at = unpack(data, at + HEADER.size, kind, n, least, dtype, body, sections)
        if n and piece.slots.max() >= rows:
            raise ValueError(f"row {piece.slots.max()} of {rows} of {name}")
        yield which, rows, (used, gone, hand), piece


def _planes(rows: Array) -> bytes:
    return np.ascontiguousarray(rows.T).tobytes()
