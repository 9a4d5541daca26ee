"""Rows as bytes: a piece of one table, column by column, so that what is alike lies side by side and compresses.

A piece is the slots of its rows, as distances, then their bytes: all first bytes, all second bytes and so on. Of a body of floats each is
combined (exclusive or) with the one before, since many of them are equal. Where a row's key has been written before, only
the key's last byte is, to tell that it is still the same row: the key is most of what does not compress.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from models.table import Array

HEADER = struct.Struct("<7qd")  # table, kind, rows, three of the tally, rows in the piece; least
WHOLE, CHANGED, DROP = 0, 1, 2
KEY = 8  # bytes


class Piece(NamedTuple):
    """What a piece says: of which rows the head, without the key where it is not whole, and the body."""

    kind: int
    least: float  # of a DROP: rows of less `w` are gone
    slots: Array
    check: Array  # last byte of each key
    head: Array  # (n, bytes)
    body: Array  # (n, width)

    def put(self, head: Array, body: Array) -> None:
        """Write the rows where they belong; not those that have another key by now."""
        to = bytes_of(head)
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
    data: bytes, at: int, kind: int, n: int, least: float, dtype: Any, body: tuple[str, int]
) -> tuple[Piece, int]:
    """The piece at a byte of `data`, and the byte after it. Raises `ValueError` if it is none."""
    if kind not in (WHOLE, CHANGED, DROP):
        raise ValueError(f"no kind {kind} of piece")
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
