"""MIDAS-R, the peer for edges: a burst of one edge, or of all edges of a node, against how many there have been.

Bhatia, Hooi, Yoon, Shin and Faloutsos (2020), MIDAS: Microcluster-Based Detector of Anomalies in Edge Streams, AAAI 34(04), 3242-3249;
the relational variant. For an edge, its source and its destination a count-min sketch each counts how often they came in this tick of
the clock (`a`; what came before fades by `FADE` a tick) and ever (`s`). Had they come evenly over the `t` ticks so far, `a` would be
about `s/t`; the score is the chi-squared statistic of that, `(a − s/t)²·t²/(s·(t − 1))`, the largest of the three.

What it misses: everything that is no burst; a burst of what is usual at this hour is one to it.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np

from models.compiled import njit
from models.table import Array

ROWS, COLUMNS = 2, 1 << 12  # of each sketch; the authors' demo has 2 × 1024, too few for the edges of the largest set
FADE = 0.5  # the authors' default
EDGE, SOURCE, DESTINATION = range(3)
NOW, EVER = range(2)
PRIME = (1 << 31) - 1  # of the hash functions; their products fit in 64 bits


class Sketches:
    """Counts of edges, sources and destinations, in this tick and ever, and the clock that they go by."""

    def __init__(self, tick_seconds: float, seed: int = 1) -> None:
        self.tick_seconds = tick_seconds
        self.begin: float | None = None
        self.tick = 1
        self.counts = np.zeros((3, 2, ROWS, COLUMNS))
        self.hashes = np.random.default_rng(seed).integers(1, PRIME, (ROWS, 2))

    def score(self, source: str, destination: str, time: float) -> float:
        """Count one edge at a time in seconds, and score it; what comes late belongs to the present tick."""
        if self.begin is None:
            self.begin = time
        tick = 1 + int((time - self.begin) / self.tick_seconds)
        if tick > self.tick:
            self.counts[:, NOW] *= FADE ** (tick - self.tick)
            self.tick = tick
        keys = np.array(
            (crc32(f"{source}\0{destination}".encode()), crc32(source.encode()), crc32(destination.encode()))
        )
        return float(_score(self.counts, self.hashes, keys, self.tick))


@njit
def _score(counts: Array, hashes: Array, keys: Array, t: int) -> float:
    largest = 0.0
    for of in range(3):
        a = s = np.inf
        for row in range(ROWS):
            column = (hashes[row, 0] * (keys[of] % PRIME) + hashes[row, 1]) % PRIME % COLUMNS
            counts[of, NOW, row, column] += 1.0
            counts[of, EVER, row, column] += 1.0
            a = min(a, counts[of, NOW, row, column])
            s = min(s, counts[of, EVER, row, column])
        if t > 1:
            largest = max(largest, (a * t - s) ** 2 / (s * (t - 1)))
    return largest
