"""Rows of a piece put back where they belong, in compiled code: whoever restarts puts back millions, each somewhere else in memory.

Rows whose keys are not written come in groups with a check each. Keys that a group does not have are those of rows that were written
since, or whose page comes later in the topic, or was corrupt: none of the group is put back then.
"""

from __future__ import annotations

import numpy as np

from models.compiled import inline, njit
from models.table import Array, fetch_at

KEY = 8  # bytes of a key
GROUP = 8  # rows of a page at most that one check is for
AHEAD = 24  # rows before its turn that the memory of one is asked for


@njit
def checks(keys: Array, slots: Array, step: int) -> Array:
    """A number of each group: of rows of a page that follow on each other, eight at most. All rows of a page are missed together, where it comes later."""
    out = np.zeros(len(slots), np.uint8)
    n = i = 0
    while i < len(slots):
        end, total = _end(slots, i, step), np.uint64(0)
        for k in range(i, end):
            total += _mixed(keys[k])
        out[n] = total >> np.uint64(56)
        n, i = n + 1, end
    return out[:n]


@njit
def groups(slots: Array, step: int) -> int:
    """How many groups these rows are."""
    n = i = 0
    while i < len(slots):
        n, i = n + 1, _end(slots, i, step)
    return n


@njit
def heads(to: Array, slots: Array, rows: Array, check: Array, step: int) -> Array:
    """Write what follows the keys into those rows, as bytes, that are still the same; which they are."""
    out = np.zeros(len(slots), np.bool_)
    size = to.shape[1]
    n = i = 0
    while i < len(slots):
        end, total, there = _end(slots, i, step), np.uint64(0), True
        for k in range(i, end):
            if k + AHEAD < len(slots):
                fetch_at(to, slots[k + AHEAD] * size)
            key = _key(to, slots[k])
            there = there and key != np.uint64(0)
            total += _mixed(key)
        if there and np.uint8(total >> np.uint64(56)) == check[n]:
            for k in range(i, end):
                out[k] = True
                for j in range(rows.shape[1]):
                    to[slots[k], KEY + j] = rows[k, j]
        n, i = n + 1, end
    return out


@njit
def parts(body: Array, size: int, slots: Array, same: Array, place: Array, many: Array, numbers: Array) -> None:
    """Write so many numbers, of `size` bytes each, of the body (as bytes) of every row that is the same, from a place on: as a ring."""
    width = body.shape[1] // size
    at = 0
    for k in range(len(slots)):
        if k + AHEAD < len(slots):
            fetch_at(body, slots[k + AHEAD] * body.shape[1] + place[k + AHEAD] * size)
        if same[k]:
            for j in range(many[k]):
                to = (place[k] + j) % width * size
                for x in range(size):
                    body[slots[k], to + x] = numbers[at + j, x]
        at += many[k]


def warm_up() -> None:
    """Compile it, or load it from the cache: else the first flush would wait."""
    rows, slots = np.zeros((1, KEY + 4), np.uint8), np.zeros(1, np.int64)
    check = np.frombuffer(checks(slots.astype(np.uint64), slots, groups(slots, 1)).tobytes(), np.uint8)
    same = heads(rows, slots, rows[:, KEY:].copy(), check, 1)
    parts(rows, 1, slots, same, slots, slots, np.zeros((0, 1), np.uint8))


@inline
def _key(to: Array, row: int) -> int:
    out = np.uint64(0)
    for j in range(KEY):
        out |= np.uint64(to[row, j]) << np.uint64(8 * j)
    return out  # type: ignore[return-value]


@inline
def _end(slots: Array, i: int, step: int) -> int:
    """Where the group that begins at i ends."""
    end, page = i + 1, slots[i] // step
    while end < len(slots) and end - i < GROUP and slots[end] // step == page:
        end += 1
    return end


@inline
def _mixed(key: int) -> int:
    x = np.uint64(key)
    return (x ^ (x >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)  # type: ignore[return-value]
