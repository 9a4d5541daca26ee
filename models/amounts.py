"""How much: an amount against the agent's own past, its cohort as prior, and what of it has added up.

On a log scale, per agent and tool. With n, m, v the agent's count, mean and variance (over the last 400, its updates
clipped at three deviations so that an outlier does not teach), and the cohort's m_c, v_c worth K = 4 observations:

    k = n + 4,  μ = (n·m + 4·m_c) / k,  s² = ((v·n + 4·v_c + 4n/k·(m − m_c)²) / k + 0.01)·(1 + 1/k)

the Student-t of k degrees is turned into a normal deviate z (Wallace 1959). A cumulative sum (Page 1954) of z, less what
the *other* agents of the cohort do at present, finds what no single event shows.

What it misses: a ramp slow enough to walk the mean along; amounts of a tool that varies over orders of magnitude.
"""

from __future__ import annotations

import math
import sys

import numpy as np
from river.base import AnomalyDetector

from models.compiled import inline
from models.signals import NUMBER_OF_AMOUNT
from models.table import Array, Key, claim, mix

PRIOR, MEMORY, FLOOR, CLIP = 4.0, 400.0, 0.01, 3.0
STEP_LOW, STEP_HIGH, PEERS, SLACK = -2.0, 3.0, 2.0, 0.5
Z_RATE, Z_FADE = 0.1, 86400.0


@inline
def deviate(
    x: float, n: float, m: float, v: float, peers_n: float, peers_m: float, peers_v: float
) -> tuple[float, float, float]:
    """Normal deviate of x, and the mean and spread that it was judged by."""
    prior_m = peers_m if peers_n > 0 else x
    prior_v = (peers_v * peers_n + 4.0) / (peers_n + 4.0)
    k = n + PRIOR
    mean = (n * m + PRIOR * prior_m) / k
    spread = ((v * n + PRIOR * prior_v + (n * PRIOR / k) * (m - prior_m) ** 2) / k + FLOOR) * (1 + 1 / k)
    if peers_n < 5 and n < 5:
        spread += 4.0
    t = (x - mean) / math.sqrt(spread)
    z = (8 * k + 1) / (8 * k + 3) * math.sqrt(k * math.log(1 + t * t / k))
    return (z if t >= 0 else -z), mean, math.sqrt(spread)


@inline
def learn(rows: Array, i: int, x: float, first_variance: float) -> None:
    """Move a row's mean and variance towards x."""
    if rows[i].n == 0:
        rows[i].m = x
        rows[i].v = first_variance
        rows[i].n = 1.0
        return
    n = min(rows[i].n + 1.0, MEMORY)
    d = x - rows[i].m
    if n > 10:
        limit = CLIP * math.sqrt(rows[i].v + 0.05)
        d = max(-limit, min(limit, d))
    rows[i].m += d / n
    rows[i].v += (d * d * (1 - 1 / n) - rows[i].v) / n
    rows[i].n = n


@inline
def pooled(n: float, m: float, v: float, rows: Array, a: int) -> tuple[float, float, float]:
    """Of n observations with their mean and variance, and those of row a, the number and one mean and variance."""
    both = n + rows[a].n
    share, d = rows[a].n / both, rows[a].m - m
    return both, m + d * share, v * (1.0 - share) + rows[a].v * share + d * d * share * (1.0 - share)


@inline
def pool(rows: Array, c: int, a: int) -> None:
    """Add to row c what row a has seen."""
    n, m, v = pooled(rows[c].n, rows[c].m, rows[c].v, rows, a)
    rows[c].m, rows[c].v, rows[c].n = m, v, min(n, MEMORY)


@inline
def place(k: int, tool: Key) -> Key:
    """Key of an amount of a tool, before the entity."""
    return mix(np.uint64(701 + NUMBER_OF_AMOUNT[k]), tool)


@inline
def row(rows: Array, dirty: Array, tally: Array, key: Key, clock: float) -> tuple[int, bool]:
    """Slot of a row, made empty if it is new. An empty row says the same as none."""
    i, fresh = claim(rows, dirty, tally, key)
    if fresh:
        rows[i].t = clock
        rows[i].n = rows[i].m = rows[i].v = rows[i].s = rows[i].z = rows[i].a = rows[i].beats = rows[i].never = 0.0
    rows[i].w = clock
    return i, fresh


@inline
def add_up(rows: Array, c: int, a: int, z: float, clock: float) -> float:
    """The cumulative sum of row a, of cohort row c, after this event, or 0 if it did not grow.

    Peers are the other agents' faded mean z for this tool; the cohort's row keeps their sum and number, so leaving
    oneself out costs nothing, and an incident in a small cohort cannot excuse itself.
    """
    step = max(STEP_LOW, min(STEP_HIGH, z))
    rows[c].z *= math.exp(-(clock - rows[c].t) / Z_FADE)
    own = rows[a].z * math.exp(-(clock - rows[a].t) / Z_FADE)
    rows[c].t = rows[a].t = clock
    peers = (rows[c].z - own) / (rows[c].a - 1.0) if rows[c].a > 1.5 else 0.0
    rows[a].z = own + (step - own) * Z_RATE
    rows[c].z += rows[a].z - own
    step = step - PEERS * max(0.0, peers) - SLACK
    rows[a].s = max(0.0, rows[a].s + step) if rows[a].n >= 8 else 0.0
    return rows[a].s if step > 0 else 0.0


class Excess(AnomalyDetector):  # type: ignore[misc]
    """How far the largest amount among an event's numbers lies above its own past, as a normal deviate; for use on its own.

    Each numeric item of the dict is an amount, taken as sign(x)·log(1 + |x|). The score is the largest deviate, and never
    below 0: small amounts are not strange here. A name never seen scores 0. Constant time; one row a name, `names` at most.

    It misses amounts that are too small, and what only shows in sums.

    Examples
    --------
    >>> from models.amounts import Excess
    >>> rows = Excess()
    >>> for n in (90, 100, 110, 95, 105) * 8:
    ...     rows.learn_one({"rows": n})
    >>> rows.score_one({"rows": 120}) < 2 < 4 < rows.score_one({"rows": 5000})
    True

    References
    ----------
    Wallace, D. L. (1959). Bounds on Normal Approximations to Student's and the Chi-Square Distributions.

    """

    def __init__(self, names: int = 256) -> None:
        self.names = names
        self._of: dict[object, int] = {}
        self._rows = np.zeros(names, np.dtype([("n", "f8"), ("m", "f8"), ("v", "f8")]))

    def score_one(self, x: dict[object, float]) -> float:
        """Largest deviate, at least 0."""
        out = 0.0
        for name, value in x.items():
            i = self._of.get(name)
            if i is not None and _usable(value):
                row = self._rows[i]
                z = deviate(_log(float(value)), row["n"], row["m"], row["v"], row["n"], row["m"], row["v"])[0]
                out = max(out, float(z))
        return out

    def learn_one(self, x: dict[object, float]) -> None:
        """Move each amount's mean and variance, in the order of their names: which gives way must not depend on that of a dict."""
        for name, value in sorted(x.items(), key=lambda item: str(item[0])):
            if not _usable(value):
                continue
            if name not in self._of and len(self._of) >= self.names:
                oldest = next(iter(self._of))
                self._of[name] = self._of.pop(oldest)
                self._rows[self._of[name]] = 0
            learn(self._rows, self._of.setdefault(name, len(self._of)), _log(float(value)), 1.0)


def _usable(value: object) -> bool:
    """Whether a value is a number that a float can hold."""
    return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max


def _log(x: float) -> float:
    return math.copysign(math.log1p(abs(x)), x)
