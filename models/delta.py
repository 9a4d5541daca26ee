"""Rows as what has changed of them, in few bytes and exactly: for the changelog, where most of a row is as it was, or has counted on.

A row is taken apart into its numbers, and each is written as a guess and how far off it is, in units of the last place. The guess is what the
number was; or that and so many times 1, or times the present weight of one event, which is what a count gains (`models.facts`); or, of a time, a whole
number of milliseconds from the clock. Of a new row it is from nothing. Whoever reads guesses the same with the same
arithmetic, so what comes back is the same to the last bit, whatever the numbers are: a bad guess costs bytes.

Guesses of one column lie side by side, then how many bytes what they are off by has, then these: all first ones, all second ones. Of a body
without sections all is one column, row by row.

What it misses: that many rows of one event have the same time.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from models.compiled import inline, njit
from models.table import Array, word

HEAD = struct.Struct("<dqI")  # the present weight of one event, the clock in milliseconds, rows in a page
GROUP = 8  # rows of a page at most that one check is for
# Guesses: what it was, and up to so many times 1, then times the weight of one event; what a row so many before has gained, or a column of the
# same row; of a time what a row before has, the clock, or milliseconds from it.
MOST, BACK = 100, 6
GAINED, BESIDE, SAME, CLOCK, WHOLE_MS = 2 * MOST, 2 * MOST + BACK, 2 * MOST + BACK + 2, 254, 255
TIME = 1e6  # what is more is perhaps a time

_read1, _read2, _read4, _read8 = (
    word(kind, store=False) for kind in (types.uint8, types.uint16, types.uint32, types.uint64)
)
_write1, _write2, _write4, _write8 = (
    word(kind, store=True) for kind in (types.uint8, types.uint16, types.uint32, types.uint64)
)


class Columns(NamedTuple):
    """Where the numbers of a row are: its head, then its body."""

    at: Array
    width: Array
    floats: Array  # whether each is one
    often: Array  # how many of a row are one column


class When(NamedTuple):
    """What guesses are made of, beside the row itself."""

    weight: float  # of one event, at present
    clock: int  # in milliseconds


@lru_cache(128)
def columns(dtype: Any, body: tuple[str, int], *, sections: bool) -> Columns:
    """Of a table's rows, as bytes side by side; whether its body has sections."""
    inside = np.dtype(body[0])
    out = [(int(at), kind, 1) for kind, at, *_ in (dtype.fields[name] for name in dtype.names)]
    if body[1] and sections:
        out += [(dtype.itemsize + i * inside.itemsize, inside, 1) for i in range(body[1])]
    elif body[1]:
        out.append((dtype.itemsize, inside, body[1]))
    kinds = [kind for _, kind, _ in out]
    return Columns(
        np.array([at for at, *_ in out]),
        np.array([kind.itemsize for kind in kinds]),
        np.array([kind.kind == "f" for kind in kinds]),
        np.array([often for *_, often in out]),
    )


def write(new: Array, old: Array, c: Columns, first: int, when: When, starts: Array) -> bytes:
    """Rows as bytes, (n, width), by what they were; but for the columns before `first`. No guess looks back beyond where a row's group starts."""
    out = np.zeros(len(c.at) + len(new) * int(((c.width + 2) * c.often).sum()), np.uint8)
    end = _write_rows(new, old, *c, first, *when, starts, out)
    return out[:end].tobytes()


def warm_up() -> None:
    """Compile it, or load it from the cache: else the first flush would wait."""
    rows: Array = np.zeros((1, 8), np.uint8)
    c, when, starts = columns(np.dtype([("key", "u8")]), ("u1", 0), sections=False), When(1.0, 0), np.zeros(1, np.int64)
    checks(rows, np.array([0, 1]))
    data = write(rows, rows, c, 0, when, starts)
    end_of(data, 0, 1, c, 0)
    read(data, 0, rows, c, 0, when, starts)


def end_of(data: bytes, at: int, n: int, c: Columns, first: int) -> int:
    """The byte after so many rows that were written there. Raises `ValueError` if they are none."""
    end = int(_end_of(np.frombuffer(data, np.uint8), at, n, c.width, c.often, first))
    if end < 0:
        raise ValueError("shorter than it says")
    return end


def read(data: bytes, at: int, rows: Array, c: Columns, first: int, when: When, starts: Array) -> None:
    """Make what rows are of what they were, in place. `end_of` has seen that they can be read."""
    _read_rows(np.frombuffer(data, np.uint8), at, rows, *c, first, *when, starts)


def checks(rows: Array, begins: Array) -> Array:
    """A number of each group of rows by all that is in them."""
    return _checks(rows, begins)


def groups(slots: Array, step: int) -> Array:
    """Where groups begin, and the end: rows of a page that follow on each other, eight at most."""
    pages = slots // step
    at = np.arange(len(slots))
    new = np.concatenate(([True], pages[1:] != pages[:-1])) if len(slots) else np.zeros(0, bool)
    first = np.maximum.accumulate(np.where(new, at, 0))
    return np.append(np.flatnonzero((at - first) % GROUP == 0), len(slots))


def starts_of(begins: Array) -> Array:
    """Of each row where its group begins."""
    return np.repeat(begins[:-1], np.diff(begins))


@njit
def _checks(rows: Array, begins: Array) -> Array:
    out = np.zeros(len(begins) - 1, np.uint8)
    width = rows.shape[1]
    for g in range(len(out)):
        x = np.uint64(0xCBF29CE484222325)
        for i in range(begins[g] * width, begins[g + 1] * width - 7, 8):
            x = (x ^ _read8(rows, np.int64(i))) * np.uint64(0x9E3779B97F4A7C15)
            x ^= x >> np.uint64(32)
        for i in range((begins[g + 1] - begins[g]) * width // 8 * 8 + begins[g] * width, begins[g + 1] * width):
            x = (x ^ np.uint64(_read1(rows, np.int64(i)))) * np.uint64(0x9E3779B97F4A7C15)
            x ^= x >> np.uint64(32)
        out[g] = np.uint8(x >> np.uint64(56))
    return out


@inline
def _load(rows: Array, at: int, width: int) -> Any:
    if width == 4:
        return np.uint64(_read4(rows, np.int64(at)))
    if width == 8:
        return np.uint64(_read8(rows, np.int64(at)))
    if width == 2:
        return np.uint64(_read2(rows, np.int64(at)))
    return np.uint64(_read1(rows, np.int64(at)))


@inline
def _store(rows: Array, at: int, width: int, x: Any) -> None:
    if width == 4:
        _write4(rows, np.int64(at), np.uint32(x))
    elif width == 8:
        _write8(rows, np.int64(at), np.uint64(x))
    elif width == 2:
        _write2(rows, np.int64(at), np.uint16(x))
    else:
        _write1(rows, np.int64(at), np.uint8(x))


@inline
def _off(x: Any, guess: Any, width: int) -> Any:
    """How far a number's bits are from a guess, the sign in the last bit: near ones are small, either way."""
    up = np.uint64(64 - 8 * width)
    d = np.int64((x - guess) << up) >> np.int64(64 - 8 * width)
    return (np.uint64(d) << np.uint64(1)) ^ np.uint64(d >> np.int64(63))


@inline
def _back(off: Any, guess: Any) -> Any:
    return guess + ((off >> np.uint64(1)) ^ (~(off & np.uint64(1)) + np.uint64(1)))


@inline
def _bits(x: float, width: int, single: Array, double: Array) -> Any:
    if width == 4:
        single[0] = x
        return np.uint64(single.view(np.uint32)[0])
    double[0] = x
    return double.view(np.uint64)[0]


@inline
def _value(bits: Any, width: int, single: Array, double: Array) -> float:
    if width == 4:
        single.view(np.uint32)[0] = np.uint32(bits)
        return float(single[0])
    double.view(np.uint64)[0] = bits
    return float(double[0])


@inline
def _length(x: Any) -> int:
    out = 0
    while x:
        out += 1
        x >>= np.uint64(8)
    return out


@inline
def _price(off: Any, how: int) -> int:
    """What a guess costs, about, in bits: a rare one must be worth it."""
    return 8 * _length(off) + (0 if how == 0 else 1 if how >= CLOCK else 4 if off == 0 else 9)


@inline
def _guess(
    how: int,
    was: Any,
    w: int,
    weight: float,
    at_clock: Any,
    e: int,
    of: int,
    low: int,
    gains: Array,
    beside: Array,
    values: Array,
    single: Array,
    double: Array,
) -> Any:
    """The bits that a guess is, but for `WHOLE_MS`; of entry e of a column that a row has `of` of."""
    if how == 0:
        return was
    if how == CLOCK:
        return at_clock
    if how > SAME:
        back = e - (how - SAME) * of
        return values[back] if back >= low else np.uint64(0)
    if how > BESIDE:
        gain = beside[e // of, how - BESIDE - 1]
    elif how > GAINED:
        back = e - (how - GAINED) * of
        gain = gains[back] if back >= low else 0.0
    elif how > MOST:
        gain = (how - MOST) * weight
    else:
        gain = how * 1.0
    return _bits(_value(was, w, single, double) + gain, w, single, double)


@inline
def _times(gain: float, by: float) -> int:
    """How many times something a gain is, about; 0 if that is no guess."""
    if not 0.0 < gain < 1e4:
        return 0
    out = int(gain / by + 0.5)
    return out if out <= MOST else 0


@inline
def _gained(x: Any, was: Any, w: int, single: Array, double: Array) -> float:
    out = _value(x, w, single, double) - _value(was, w, single, double) if x != was else 0.0
    return out if abs(out) < 1e300 else 0.0


@njit
def _write_rows(
    new: Array,
    old: Array,
    at: Array,
    width: Array,
    floats: Array,
    often: Array,
    first: int,
    weight: float,
    clock: int,
    starts: Array,
    out: Array,
) -> int:
    n, row = new.shape
    most = n * often.max()
    how, off, values = np.zeros(most, np.uint8), np.zeros(most, np.uint64), np.zeros(most, np.uint64)
    gains, beside = np.zeros(most), np.zeros((n, 2))
    single, double = np.zeros(1, np.float32), np.zeros(1, np.float64)
    end = len(at)
    for c in range(first, len(at)):
        w = width[c]
        at_clock = _bits(clock / 1000.0, w, single, double) if w >= 4 else np.uint64(0)
        longest, hows = 0, False
        entries = n * often[c]
        for e in range(entries):
            place = e // often[c] * row + at[c] + e % often[c] * w
            x, was = _load(new, place, w), _load(old, place, w)
            how[e], off[e], values[e] = 0, _off(x, was, w), x
            if not floats[c]:
                longest = max(longest, _length(off[e]))
                continue
            gains[e] = _gained(x, was, w, single, double)
            if off[e] != 0:
                a = _value(x, w, single, double)
                least = _price(off[e], 0)
                for k in range(2 * BACK + 6):
                    if k == 0:
                        guess = _times(gains[e], 1.0)
                    elif k == 1:
                        guess = _times(gains[e], weight)
                        guess += MOST if guess > 0 else 0
                    elif k < 4:
                        guess = BESIDE + k - 1
                    elif k < 4 + BACK:
                        guess = GAINED + k - 3
                    elif a < TIME or a > 1e14:
                        break
                    elif k == 4 + BACK:
                        guess = CLOCK
                    elif k == 5 + BACK:
                        if w < 8:
                            continue
                        ms = np.int64(math.floor(a * 1000.0 + 0.5))
                        o = _off(np.uint64(ms), np.uint64(clock), 8)
                        if ms / 1000.0 == a and _price(o, WHOLE_MS) < least:
                            how[e], off[e], least = WHOLE_MS, o, _price(o, WHOLE_MS)
                        continue
                    else:
                        guess = SAME + k - 5 - BACK
                    if guess <= 0:
                        continue
                    g = _guess(
                        guess,
                        was,
                        w,
                        weight,
                        at_clock,
                        e,
                        often[c],
                        starts[e // often[c]] * often[c],
                        gains,
                        beside,
                        values,
                        single,
                        double,
                    )
                    o = _off(x, g, w)
                    if _price(o, guess) < least:
                        how[e], off[e], least = guess, o, _price(o, guess)
                    if off[e] == 0:
                        break
            r = e // often[c]
            beside[r, 1], beside[r, 0] = beside[r, 0], gains[e]
            longest = max(longest, _length(off[e]))
            hows = hows or how[e] != 0
        out[c] = longest << 1 | (1 if hows else 0)
        if hows:
            for e in range(entries):
                out[end + e] = how[e]
            end += entries
        if longest:
            for e in range(entries):
                out[end + e] = _length(off[e])
            end += entries
        for j in range(longest):
            least_of = np.uint64(1) << np.uint64(8 * j)
            for e in range(entries):
                if off[e] >= least_of:
                    out[end] = np.uint8(off[e] >> np.uint64(8 * j))
                    end += 1
    return end


@njit
def _end_of(data: Array, begin: int, n: int, width: Array, often: Array, first: int) -> int:
    end = begin + len(width)
    if end > len(data):
        return -1
    for c in range(len(width)):
        longest = np.int64(data[begin + c]) >> 1
        entries = n * often[c]
        if longest > width[c] or (c < first and data[begin + c] != 0):
            return -1
        if data[begin + c] & 1:
            end += entries
        if longest:
            end += entries
            if end > len(data):
                return -1
            more = 0
            for e in range(end - entries, end):
                if data[e] > longest:
                    return -1
                more += data[e]
            end += more
        if end > len(data):
            return -1
    return end


@njit
def _read_rows(
    data: Array,
    begin: int,
    rows: Array,
    at: Array,
    width: Array,
    floats: Array,
    often: Array,
    first: int,
    weight: float,
    clock: int,
    starts: Array,
) -> None:
    n, row = rows.shape
    most = n * often.max()
    off, values = np.zeros(most, np.uint64), np.zeros(most, np.uint64)
    gains, beside = np.zeros(most), np.zeros((n, 2))
    single, double = np.zeros(1, np.float32), np.zeros(1, np.float64)
    end = begin + len(at)
    for c in range(first, len(at)):
        w = width[c]
        at_clock = _bits(clock / 1000.0, w, single, double) if w >= 4 else np.uint64(0)
        longest, hows, lengths = np.int64(data[begin + c]) >> 1, -1, -1
        entries = n * often[c]
        if data[begin + c] & 1:
            hows = end
            end += entries
        if longest:
            lengths = end
            end += entries
        off[:entries] = 0
        for j in range(longest):
            for e in range(entries):
                if data[lengths + e] > j:
                    off[e] |= np.uint64(data[end]) << np.uint64(8 * j)
                    end += 1
        if not floats[c]:
            for e in range(entries if longest else 0):
                place = e // often[c] * row + at[c] + e % often[c] * w
                _store(rows, place, w, _back(off[e], _load(rows, place, w)))
            continue
        if hows < 0 and not longest:  # as they were
            for e in range(entries):
                r = e // often[c]
                beside[r, 1], beside[r, 0] = beside[r, 0], 0.0
            continue
        for e in range(entries):
            how: Any = np.int64(data[hows + e]) if hows >= 0 else 0
            place = e // often[c] * row + at[c] + e % often[c] * w
            was = _load(rows, place, w)
            if how == WHOLE_MS:
                ms = np.int64(_back(off[e], np.uint64(clock)))
                x = _bits(ms / 1000.0, w, single, double)
            else:
                g = _guess(
                    how,
                    was,
                    w,
                    weight,
                    at_clock,
                    e,
                    often[c],
                    starts[e // often[c]] * often[c],
                    gains,
                    beside,
                    values,
                    single,
                    double,
                )
                x = _back(off[e], g)
            if w == 4:
                x &= np.uint64(0xFFFFFFFF)
            _store(rows, place, w, x)
            values[e], gains[e] = x, _gained(x, was, w, single, double)
            r = e // often[c]
            beside[r, 1], beside[r, 0] = beside[r, 0], gains[e]
