"""Tables of bounded size: rows that never move, found by 64-bit keys through an index of 4 bytes a row.

A table is a structured array `head` (its fields start with `key` and `w`) and, where a row holds an array, a two-dimensional
`body` beside it. `w` is what a row is worth: a decayed count or the time of last use. Rows are taken one after the other, so a
table can be full to the last row, and grows without moving one: address space for all that it may ever hold is taken at birth,
and costs memory only where a row is used. The index is in front of the rows: linear probing over numbers of rows, each with six bits of
its key, so that a key that is absent hardly ever costs a look at a row. It is five sixths full at most, half in a small table, and is made anew when the table grows.

At its largest, a new key takes the place of the row of least `w` among sixteen neighbours. So memory has a bound, and a lookup reads
`REACH` numbers at most, whatever keys somebody makes up.

What it misses: under a flood of new keys at the largest size, rare old keys give way before their decay says so. That
is counted (`evictions`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.extending import intrinsic
from numpy.typing import NDArray

from models.compiled import apart, inline, njit

WINDOW = 16  # rows of which the least used gives way
REACH = 1024  # numbers that a lookup reads at most
SOON = 16  # rows before its turn that the index is asked for a row's place, where all are put into it
NEAR = 8  # of them that are looked at ahead of it
MOST_ROWS = (1 << 26) - 2  # a number is a row and six bits of its key
_ROW = (1 << 26) - 1
_GONE = 63 << 26  # what was here is not any more; probing goes on
HEADER = 64  # bytes between the index and the rows: how many numbers it has
# A mark of a changed row: 1 all of it, two that `models.state` has, and in what is above them which part, where that is known and not all.
MARKS, PART, PARTS = 7, 3, 31
Array = NDArray[Any]
Key = Any  # a numpy uint64


def _word(kind: Any, store: bool) -> Any:
    """Read or write a word at so many bytes from where an array begins, which may be before it."""

    def read(_: Any, array: Any, offset: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            out = builder.load(_at(context, builder, signature.args[0], args, ir.IntType(kind.bitwidth)))
            out.align = 4
            return out

        return kind(array, offset), code

    def write(_: Any, array: Any, offset: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.store(args[2], _at(context, builder, signature.args[0], args, ir.IntType(kind.bitwidth)), align=4)
            return context.get_dummy_value()

        return types.void(array, offset, value), code

    return intrinsic(write if store else read)


def _at(context: Any, builder: Any, array_type: Any, args: Any, kind: Any) -> Any:
    """The address so many bytes from where an array begins."""
    data = context.make_array(array_type)(context, builder, args[0]).data
    return builder.bitcast(builder.gep(builder.bitcast(data, _BYTE.as_pointer()), [args[1]]), kind.as_pointer())


def _fetching(_: Any, array: Any, offset: Any) -> Any:
    """Ask for the memory at so many bytes from where an array begins, without waiting for it."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        ask = builder.module.declare_intrinsic(
            "llvm.prefetch.p0", (), ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), _INT, _INT, _INT])
        )
        builder.call(
            ask, [_at(context, builder, signature.args[0], args, _BYTE), *(ir.Constant(_INT, x) for x in (1, 3, 1))]
        )
        return context.get_dummy_value()

    return types.void(array, offset), code


_BYTE, _INT = ir.IntType(8), ir.IntType(32)
_fetch: Any = intrinsic(_fetching)
_read, _write = _word(types.uint32, store=False), _word(types.uint32, store=True)


@inline
def _number(head: Array, at: int) -> int:
    """The index at a place: 0, or a row plus one and bits of its key."""
    return np.int64(_read(head, np.int64(-HEADER - 4 - 4 * at)))  # type: ignore[return-value]


@inline
def _put(head: Array, at: int, number: int) -> None:
    _write(head, np.int64(-HEADER - 4 - 4 * at), np.uint32(number))


@inline
def _entries(head: Array) -> int:
    """How many numbers the index has."""
    return np.int64(_read(head, np.int64(-4)))  # type: ignore[return-value]


def fnv(data: bytes) -> int:
    """A stable 64-bit number of bytes (FNV-1a: Fowler, Noll and Vo)."""
    out = 0xCBF29CE484222325
    for byte in data:
        out = (out ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return out


@inline
def mix(a: Key, b: Key) -> Key:
    """One 64-bit key from two, by the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = np.uint64(a) ^ (np.uint64(b) * np.uint64(0x9E3779B97F4A7C15))
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


@inline
def _spread(key: Key) -> Key:
    """A key's bits, the upper ones good for a place: some keys are small numbers."""
    return np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)


@inline
def _place(spread: Key, n: int) -> int:
    """Where a key belongs among n, which need not be a power of two."""
    return np.int64(((spread >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))  # type: ignore[return-value]


@inline
def _bits(spread: Key) -> int:
    return np.int64((spread & np.uint64(63)) << np.uint64(26))  # type: ignore[return-value]


@inline
def _row_of(number: int, bits: int) -> int:
    """The row in a number if it has these bits of a key; else more than any."""
    return np.uint64(np.int64(number) ^ np.int64(bits)) - np.uint64(1)  # type: ignore[return-value]


@inline
def find(head: Array, key: Key) -> int:
    """Slot of `key`, or -1."""
    n = _entries(head)
    x = _spread(key)
    at, bits = _place(x, n), _bits(x)
    for _ in range(REACH):
        number = _number(head, at)
        if number == 0:
            return -1
        i = _row_of(number, bits)
        if i < np.uint64(_ROW) and head[i].key == np.uint64(key):
            return np.int64(i)  # type: ignore[return-value]
        at = at + 1 if at + 1 < n else 0
    return -1


@inline
def ahead(head: Array, dirty: Array, key: Key, row: bool) -> int:
    """Ask for the memory in which a key will be looked for: of the index first and, once that is there, of its row. The row, or -1."""
    x = _spread(key)
    n = _entries(head)
    at = _place(x, n)
    if not row:
        _fetch(head, np.int64(-HEADER - 4 - 4 * at))
        _fetch(head, np.int64(-HEADER - 4 - 4 * min(at + NEAR - 1, n - 1)))
        return -1
    bits = _bits(x)
    for _ in range(NEAR):
        number = _number(head, at)
        if number == 0:
            return -1
        i = _row_of(number, bits)
        if i < np.uint64(_ROW):
            _fetch(head, np.int64(i) * head.itemsize)
            _fetch(dirty, np.int64(i))
            return np.int64(i)  # type: ignore[return-value]
        at = at + 1 if at + 1 < n else 0
    return -1


@inline
def fetch_at(array: Array, at: int) -> None:
    """Ask for the memory at a byte of an array."""
    _fetch(array, np.int64(at))


@inline
def fetch_bytes(array: Array, at: int, n: int) -> None:
    """Ask for so many bytes of an array."""
    for i in range(at // 64 * 64, at + n, 64):  # what lies in an array begins with a line
        _fetch(array, np.int64(i))


@inline
def claim(head: Array, dirty: Array, tally: Array, key: Key) -> tuple[int, bool]:
    """Slot of `key`, taken for it if it had none, and whether it is new (then its other fields hold a stranger's values).

    `tally` is (rows in use, rows that gave way, row at which the search for a free one begins).
    """
    n = _entries(head)
    x = _spread(key)
    home, bits = _place(x, n), _bits(x)
    at, free = home, -1
    for _ in range(REACH):
        number = _number(head, at)
        if number == 0:
            if free < 0:
                free = at
            break
        if number & _ROW == 0:
            if free < 0:
                free = at
        else:
            i = _row_of(number, bits)
            if i < np.uint64(_ROW) and head[i].key == np.uint64(key):
                dirty[i] |= 1  # other marks of the row stay
                return np.int64(i), False  # type: ignore[return-value]
        at = at + 1 if at + 1 < n else 0
    if free >= 0 and tally[0] < len(head):
        new: Any = tally[2]
        while new >= len(head) or head[new].key != np.uint64(0):
            new = new + 1 if new + 1 < len(head) else 0
        tally[2] = new + 1
        tally[0] += 1
    else:
        new, free = _make_room(head, tally, home, free, x)
        tally[1] += 1
    _put(head, free, bits + new + 1)
    head[new].key = key
    dirty[new] = 1
    return new, True


@inline
def claim_part(head: Array, dirty: Array, tally: Array, key: Key) -> tuple[int, bool]:
    """As `claim`, but of a row that is known the caller says what of it changes, by one of the next."""
    i = find(head, key)
    return (i, False) if i >= 0 else claim(head, dirty, tally, key)


@inline
def change_count(dirty: Array, i: int, mark: int) -> None:
    """Of a row the count alone changes; `mark` says for whom, and its bit of the whole row is left out."""
    dirty[i] |= np.int64(mark) & ~1 | 1 << PART


@inline
def change_first(dirty: Array, i: int, n: int) -> None:
    """The first n numbers of a row's body change."""
    mark = np.int64(dirty[i])
    if n >= PARTS:
        dirty[i] = mark | 1
    elif n > mark >> PART:
        dirty[i] = (mark & MARKS) | (n << PART)


@inline
def change_last(dirty: Array, i: int) -> None:
    """One more number of a row's ring is written."""
    n = (np.int64(dirty[i]) >> PART) + 1
    if n >= PARTS:
        dirty[i] |= 1
    else:
        dirty[i] = (np.int64(dirty[i]) & MARKS) | (n << PART)


@inline
def change_one(dirty: Array, i: int, place: int) -> None:
    """One number of a row's body changes, the same as before or nothing so far; -1 if none does."""
    before = np.int64(dirty[i]) >> PART
    part = place + 1 if place >= 0 else PARTS
    if before in (0, PARTS):
        dirty[i] = (np.int64(dirty[i]) & MARKS) | (part << PART)
    elif part not in (before, PARTS):
        dirty[i] |= 1


@apart
def _make_room(head: Array, tally: Array, home: int, free: int, x: Key) -> tuple[int, int]:
    """The row that gives way, and the place in the index for its successor."""
    n = _entries(head)
    if tally[0] >= len(head):
        victim, least = -1, np.inf
        at = _place(x, len(head))
        for _ in range(WINDOW):
            if head[at].w < least or victim < 0:
                least, victim = head[at].w, at
            at = at + 1 if at + 1 < len(head) else 0
        _unlink(head, victim)
        at = home
        for _ in range(REACH):
            if _number(head, at) & _ROW == 0:
                return victim, at
            at = at + 1 if at + 1 < n else 0
        head[victim].key = np.uint64(0)
        tally[0] -= 1
    victim, least, at = -1, np.inf, home
    for _ in range(WINDOW):  # no place within reach: it takes one of the first of them
        i = (_number(head, at) & _ROW) - 1
        if head[i].w < least or victim < 0:
            least, victim, free = head[i].w, i, at
        at = at + 1 if at + 1 < n else 0
    return victim, free


@inline
def _unlink(head: Array, row: int) -> None:
    """Take a row out of the index; those behind it move up, so that no probing ends too early (Knuth, 6.4, algorithm R)."""
    n = _entries(head)
    hole = _place(_spread(head[row].key), n)
    while (_number(head, hole) & _ROW) - 1 != row:
        hole = hole + 1 if hole + 1 < n else 0
    at = hole
    for _ in range(REACH):
        at = at + 1 if at + 1 < n else 0
        number = _number(head, at)
        i = (number & _ROW) - 1
        if number == 0:
            _put(head, hole, 0)
            return
        if i < 0:
            continue
        home = _place(_spread(head[i].key), n)
        if (at - home if at >= home else at - home + n) >= (at - hole if at >= hole else at - hole + n):
            _put(head, hole, number)
            hole = at
    _put(head, hole, _GONE)  # somebody has made up keys that belong side by side


@njit
def reindex(head: Array, n: int) -> int:
    """Make the index anew, with n numbers; how many rows are in use. A row that finds no place within reach is lost."""
    _write(head, np.int64(-4), np.uint32(n))
    for at in range(n):
        _put(head, at, 0)
    used = 0
    for i in range(len(head)):
        if i + SOON < len(head):
            _fetch(head, np.int64(-HEADER - 4 - 4 * _place(_spread(head[i + SOON].key), n)))
        key = head[i].key
        if key == np.uint64(0):
            continue
        x = _spread(key)
        at = _place(x, n)
        for _ in range(REACH):
            if _number(head, at) == 0:
                _put(head, at, _bits(x) + i + 1)
                used += 1
                break
            at = at + 1 if at + 1 < n else 0
        else:
            head[i].key = np.uint64(0)
    return used
