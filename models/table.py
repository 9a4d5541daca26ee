"""Open-addressing tables of bounded size: 64-bit keys, linear probing in a short window, the least used gives way.

A table is a structured array `head` (its fields start with `key` and `w`) and, where a row holds an array, a
two-dimensional `body` beside it. `w` is what a row is worth: a decayed count or the time of last use. While a table
may still grow, it is kept at most half full; at its largest, a new key takes the place of the row of least `w` within
its window. So memory has a bound, a lookup reads at most `WINDOW` neighbouring rows, and nothing is ever scanned.

What it misses: under a flood of new keys at the largest size, rare old keys give way before their decay says so. That
is counted (`evictions`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.compiled import inline, njit

WINDOW = 16
Array = NDArray[Any]
Key = Any  # a numpy uint64


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
def find(head: Array, key: Key) -> int:
    """Slot of `key`, or -1."""
    mask = np.uint64(len(head) - 1)
    i = np.uint64(key) & mask
    for _ in range(WINDOW):
        k = head[i].key
        if k == key:
            return np.int64(i)  # type: ignore[return-value]
        if k == np.uint64(0):
            return -1
        i = (i + np.uint64(1)) & mask
    return -1


@inline
def claim(head: Array, dirty: Array, tally: Array, key: Key) -> tuple[int, bool]:
    """Slot of `key`, taken for it if it had none, and whether it is new (then its other fields hold a stranger's values).

    `tally` is (rows in use, rows that gave way).
    """
    mask = np.uint64(len(head) - 1)
    i = np.uint64(key) & mask
    victim = i
    least = np.inf
    for _ in range(WINDOW):
        k = head[i].key
        if k == key:
            dirty[i] |= 1  # other marks of the row stay
            return np.int64(i), False  # type: ignore[return-value]
        if k == np.uint64(0):
            tally[0] += 1
            head[i].key = key
            dirty[i] = 1
            return np.int64(i), True  # type: ignore[return-value]
        if head[i].w < least:
            least = head[i].w
            victim = i
        i = (i + np.uint64(1)) & mask
    tally[1] += 1
    head[victim].key = key
    dirty[victim] = 1
    return np.int64(victim), True  # type: ignore[return-value]


@njit
def rehash(keys: Array, keep: Array, rows: int) -> Array:
    """Where each row that is kept goes in an empty table of so many rows; -1 for the others.

    Rows go in the order of their old slots, so the result depends on the old table alone.
    """
    mask = np.uint64(rows - 1)
    taken = np.zeros(rows, np.bool_)
    out = np.full(len(keys), -1)
    for old in range(len(keys)):
        if not keep[old]:
            continue
        i = keys[old] & mask
        for _ in range(WINDOW):
            if not taken[i]:
                taken[i] = True
                out[old] = i
                break
            i = (i + np.uint64(1)) & mask
    return out
