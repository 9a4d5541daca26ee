"""How rare is a number at least this large: bits of a streaming upper tail.

A value x > 0 falls in bin ⌊8·log2(1 + x)⌋ of 64. Each row holds, for every bin, the decayed weight at or above it. With C that
weight and N the weight of everything seen,

    p_fleet = (C + 1)/(N + 1),  p_cohort = (C + 1)/(N + 1/p_fleet),  p_agent = (C + 1)/(N + 1/p_cohort)

*one exceedance is lent by the level above*: the prior of each level is as many imagined events as make one exceedance. So no
claim goes beyond the evidence (bits ≤ log2 of all events seen) and an agent that often exceeds pays for it. 1 is the
present weight of an event.

What it misses: order among values beyond all that were seen; they are equally rare.
"""

from __future__ import annotations

import math
import sys

import numpy as np
from river.base import AnomalyDetector

from models.compiled import inline
from models.schema import BINS, HALF, TAIL_SCALE
from models.signals import NUMBER_OF_TAIL
from models.table import Array, Key, change_first, claim, claim_part, find, mix


@inline
def bin_of(x: float) -> int:
    """Bin of a value above 0."""
    return min(BINS - 1, int(TAIL_SCALE * math.log2(1.0 + x)))


@inline
def above(above_bin: Array, total: float, b: int) -> float:
    """Weight at or above a bin; everything is at or above the first."""
    return total if b == 0 else above_bin[b]


@inline
def lend(c: float, total: float, now: float, rarity: float) -> float:
    """One over the tail probability at one level, of which one exceedance is lent by the level above (rarity 1 at the top)."""
    return max(1.0, (total + now * rarity) / (c + now))


@inline
def place(k: int, entity: Key) -> Key:
    """Key of an entity's tail."""
    return mix(np.uint64(1001 + NUMBER_OF_TAIL[k]), entity)


@inline
def weight_above(head: Array, body: Array, key: Key, total: float, b: int) -> float:
    """Weight at or above a bin in the row of `key`; none if there is no row."""
    if b == 0:
        return total
    i = find(head, half_of(key, b // HALF))
    return body[i, b % HALF] if i >= 0 else 0.0


@inline
def learn(head: Array, body: Array, dirty: Array, tally: Array, key: Key, b: int, now: float, clock: float) -> None:
    """Add an event's weight to every bin up to its own. The first bin is not stored: it is the total."""
    for h in range(b // HALF + 1):
        i, fresh = claim_part(head, dirty, tally, half_of(key, h))
        if fresh:
            body[i, :] = 0.0
        head[i].w = clock
        n = min(HALF, b - h * HALF + 1)
        change_first(dirty, i, n)
        for j in range(1 if h == 0 else 0, n):
            body[i, j] += now


@inline
def half_of(key: Key, half: int) -> Key:
    """Key of the row of a tail's lower or upper half of bins."""
    return mix(key, np.uint64(half)) if half > 0 else np.uint64(key)


@inline
def row(head: Array, body: Array, dirty: Array, tally: Array, key: Key, clock: float) -> int:
    """Slot of a row, made empty if it is new."""
    i, fresh = claim(head, dirty, tally, key)
    if fresh:
        body[i, :] = 0.0
    head[i].w = clock
    return i


class Exceedance(AnomalyDetector):  # type: ignore[misc]
    """Bits of the upper tail of the largest of an event's numbers, for use on its own.

    The score is −log2 of the share of past events that were at least as large, the present one counted: log2(n + 1) at
    most, 0 at first. Constant time and memory.

    It misses what is small.

    Examples
    --------
    >>> from models.tails import Exceedance
    >>> tail = Exceedance()
    >>> for i in range(63):
    ...     tail.learn_one({"z": i % 3})
    >>> tail.score_one({"z": 0.0}), round(tail.score_one({"z": 2.0}), 1), tail.score_one({"z": 50.0})
    (0.0, 1.5, 6.0)

    """

    def __init__(self) -> None:
        self._above = np.zeros(BINS)
        self._total = 0.0

    def score_one(self, x: dict[object, float]) -> float:
        """Bits of the largest item."""
        b = self._bin(x)
        return math.log2(lend(float(above(self._above, self._total, b)), self._total, 1.0, 1.0))

    def learn_one(self, x: dict[object, float]) -> None:
        """Count the largest item."""
        self._above[: self._bin(x) + 1] += 1.0
        self._total += 1.0

    def _bin(self, x: dict[object, float]) -> int:
        numbers = [float(v) for v in x.values() if isinstance(v, (int, float)) and abs(v) <= sys.float_info.max]
        largest = max(numbers, default=0.0)
        return int(bin_of(largest)) if largest > 0 else 0
