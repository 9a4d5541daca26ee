"""How much an agent, or a cohort, moves day by day; and an agent's sums over about an hour.

The days feed River's drift test (`models.drift`), the sums any River detector that is switched on (`models.windows`).

What it misses: a day without an event is no day; an agent that falls silent is not seen here.
"""

from __future__ import annotations

import math

import numpy as np

from models.compiled import inline
from models.schema import OWN_WINDOW, RING, WINDOW_SUMS
from models.table import Array, Key, claim

DAY = 86400.0
FEATURES = ("calls", "bytes", "records", "recipients", "denied", "novelty")  # of `window`


@inline
def learn_level(head: Array, body: Array, dirty: Array, tally: Array, key: Key, moved: float, clock_s: float) -> bool:
    """Add to the day's amount of an agent or a cohort; when a day has ended, keep it and say so."""
    day = np.int64(clock_s // DAY)
    i, fresh = claim(head, dirty, tally, key)
    if fresh:
        head[i].n = 0
        head[i].day = day
        head[i].sum = head[i].shifted = 0.0
    head[i].w = clock_s
    ended = False
    if day != head[i].day:
        body[i, head[i].n % RING] = math.log2(1.0 + head[i].sum)
        head[i].n += 1
        head[i].day = day
        head[i].sum = 0.0
        ended = True
    head[i].sum += moved
    return ended


@inline
def days(head: Array, body: Array, i: int, out: Array, length: Array, turn: int) -> None:
    """Copy out a level's days, oldest first."""
    n = head[i].n
    first = max(0, n - RING)
    length[turn] = n - first
    for k in range(first, n):
        out[turn, k - first] = body[i, k % RING]


@inline
def window(
    sums: Array,
    fade: float,
    moved: float,
    rows: float,
    recipients: int,
    denied: bool,
    novelty: float,
    out: Array,
    e: int,
) -> None:
    """The agent's sums over about an hour, this event included."""
    added = (
        1.0,
        0.0 if math.isnan(moved) else moved,
        0.0 if math.isnan(rows) else rows,
        float(recipients),
        1.0 if denied else 0.0,
        novelty,
    )
    for k in range(WINDOW_SUMS):
        sums[OWN_WINDOW + k] = sums[OWN_WINDOW + k] * fade + added[k]
        out[e, k] = sums[OWN_WINDOW + k]
