"""Running means that partitions share: a partition gives the weight and the sum of what it has seen, and pools what others give.

Amounts of a cohort are a mean and a variance, usual surprises a mean for each fact and age (`models.usual`). Their memory is bounded:
more than its worth of observations take what others add as one step.
"""

from __future__ import annotations

import numpy as np

from models import amounts, merge
from models.contributions import Ledger
from models.increments import AMOUNT, USUAL
from models.seen import AMOUNT_ROW, Seen, remember, take_marked
from models.state import State
from models.table import Array

REBASE = 1e5  # events: far beyond what a running mean remembers, and as far from where a float no longer counts


def export_amounts(state: State, seen: Seen) -> Array:
    """What a cohort's amounts have gained."""
    t = state["amounts"]
    at = take_marked(t)
    head = t.head[at]
    slots = seen.amounts.slots(head["key"])
    remember(state, AMOUNT_ROW, head["key"])
    before = seen.amounts.x[slots]
    before[head["n"] < before[:, 0]] = 0.0
    n, m, v, z, when, agents = before.T
    weight = head["beats"].astype(float)  # of a cohort's row: observations since it was last looked at
    gain = 1.0 - kept(n, weight, amounts.MEMORY)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(weight > 0, m + (head["m"] - m) / gain, 0.0)
        square = v + m * m
        square = np.where(weight > 0, square + (head["v"] + head["m"].astype(float) ** 2 - square) / gain, 0.0)
    out = np.zeros(len(at), AMOUNT)
    out["key"], out["n"], out["s"], out["q"] = head["key"], weight, weight * mean, weight * square
    out["a"] = head["a"] - agents
    out["z"] = head["z"] - z * np.exp(-np.clip(head["t"] - when, -1e6, 1e7) / amounts.Z_FADE)
    out["t"] = head["t"]
    t.head["beats"][at] = 0.0
    seen.see_amounts(state, at, head["key"])
    return out


def add_amounts(state: State, seen: Seen, x: Array) -> None:
    """Pool what others have seen of a cohort's amounts."""
    state.reserve("amounts", len(x))
    t = state["amounts"]
    at = merge.claim_amounts(t.head, t.dirty, t.tally, np.array(x["key"]), float(state.fleet["clock"]))
    head, weight = t.head[at], x["n"].astype(float)
    left = kept(head["n"].astype(float), weight, amounts.MEMORY)
    some = weight > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, square = x["s"] / weight, x["q"] / weight
    old = head["m"].astype(float)
    m = np.where(some, left * old + (1 - left) * mean, old)
    q = np.where(some, left * (head["v"] + old * old) + (1 - left) * square, head["v"] + old * old)
    t.head["m"][at], t.head["v"][at] = m, np.maximum(0.0, q - m * m)
    t.head["n"][at] = np.minimum(head["n"] + weight, amounts.MEMORY)
    t.head["a"][at] = np.maximum(0.0, head["a"] + x["a"])
    t.head["z"][at] += x["z"] * np.exp(np.clip((x["t"] - head["t"]) / amounts.Z_FADE, -60.0, 3.0))
    seen.see_amounts(state, at, x["key"])
    remember(state, AMOUNT_ROW, x["key"])


def gained(ledger: Ledger, keys: Array, body: Array, at: Array, memory: float) -> Array:
    """What rows of a body have gained: (sum, weight) of each usual surprise, and the columns that fade."""
    slots = ledger.slots(keys)
    now, seen = body[at].astype(float), ledger.x[slots].astype(float)
    anew = now[:, USUAL:].sum(1) < 0.5 * seen[:, USUAL:].sum(1)
    seen[anew] = 0.0
    out = now - seen
    weight = np.maximum(0.0, out[:, 1:USUAL:2])
    gain = 1.0 - kept(seen[:, 1:USUAL:2], weight, memory)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = seen[:, 0:USUAL:2] + out[:, 0:USUAL:2] / gain
    out[:, 0:USUAL:2] = np.where(weight > 0, weight * mean, 0.0)
    out[:, 1:USUAL:2] = weight
    _see(ledger, slots, body, at, memory)
    return np.asarray(out)


def pool(ledger: Ledger, keys: Array, added: Array, body: Array, at: Array, memory: float, fades: Array) -> None:
    """Pool what others have seen; `fades` is the factor of each column, for what fades."""
    now, weight = body[at].astype(float), added[:, 1:USUAL:2]
    left = kept(now[:, 1:USUAL:2], weight, memory)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = left * now[:, 0:USUAL:2] + (1.0 - left) * added[:, 0:USUAL:2] / weight
    now[:, 0:USUAL:2] = np.where(weight > 0, mean, now[:, 0:USUAL:2])
    now[:, 1:USUAL:2] += weight
    now[:, USUAL:] = np.maximum(0.0, now[:, USUAL:] + added[:, USUAL:] * fades[USUAL:])
    body[at] = now
    _see(ledger, ledger.slots(keys), body, at, memory)


def kept(n: Array, weight: Array, memory: float) -> Array:
    """Share of a running mean that is left after so much more weight; its memory is bounded."""
    n = np.minimum(n, memory)
    total = n + weight
    with np.errstate(divide="ignore", invalid="ignore"):
        share = n / np.minimum(total, memory)
    return np.where(total > 0, share * np.exp(-np.maximum(0.0, total - memory) / memory), 1.0)


def _see(ledger: Ledger, slots: Array, body: Array, at: Array, memory: float) -> None:
    weights = body[at, 1:USUAL:2]
    if (weights > REBASE).any():
        body[at, 1:USUAL:2] = np.where(weights > REBASE, memory, weights)
    ledger.x[slots] = body[at]
