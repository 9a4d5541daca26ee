"""Rows that other partitions add to: found, or begun, and added to, many at a time (`models.exchange`)."""

from __future__ import annotations

import numpy as np

from models import amounts, budget, facts, parties, tails
from models import state as st
from models.compiled import njit
from models.signals import N_TAILS
from models.table import Array, claim, find, mix


@njit
def find_all(head: Array, keys: Array) -> Array:
    """The slot of each key, or -1."""
    out = np.empty(len(keys), np.int64)
    for i in range(len(keys)):
        out[i] = find(head, keys[i])
    return out


@njit
def remember(head: Array, dirty: Array, tally: Array, keys: Array, of: int, clock: float) -> None:
    """Put down keys that are not there yet."""
    for i in range(len(keys)):
        if find(head, keys[i]) < 0:
            j, _ = claim(head, dirty, tally, keys[i])
            head[j].w = clock
            head[j].of = of


@njit
def add_counts(head: Array, dirty: Array, tally: Array, keys: Array, added: Array) -> None:
    """Add to rows of facts, (weight, distinct values) each."""
    for i in range(len(keys)):
        j, fresh = claim(head, dirty, tally, keys[i])
        if fresh:
            head[j].w = head[j].d = 0.0
        head[j].w += added[i, 0]
        head[j].d += added[i, 1]


@njit
def note_agents(head: Array, dirty: Array, tally: Array, agents: Array, now: float) -> None:
    """Count, for the fleet, agents that it does not know."""
    base = mix(facts.place(parties.AGENT, 0), parties.fleet_entity())
    for i in range(len(agents)):
        key = facts.of_value(base, agents[i])
        if find(head, key) < 0:
            j, _ = claim(head, dirty, tally, key)
            head[j].w = now
            head[j].d = 0.0
            dirty[j] |= st.SHARED


@njit
def claim_amounts(rows: Array, dirty: Array, tally: Array, keys: Array, clock: float) -> Array:
    """Slots of amounts, begun where they are new."""
    out = np.empty(len(keys), np.int64)
    for i in range(len(keys)):
        j = find(rows, keys[i])
        if j < 0:
            j, _ = amounts.row(rows, dirty, tally, keys[i], clock)
        dirty[j] |= 1
        out[i] = j
    return out


@njit
def claim_bodies(head: Array, body: Array, dirty: Array, tally: Array, keys: Array, clock: float) -> Array:
    """Slots of rows that are a body, empty where they are new."""
    out = np.empty(len(keys), np.int64)
    for i in range(len(keys)):
        j, fresh = claim(head, dirty, tally, keys[i])
        if fresh:
            body[j, :] = 0.0
            head[j].w = clock
        out[i] = j
    return out


@njit
def tails_of(head: Array, cohorts: Array) -> tuple[Array, Array]:
    """Keys of every tail of cohorts, and their slots, -1 where there is none yet."""
    keys = np.empty(len(cohorts) * N_TAILS, np.uint64)
    for i in range(len(cohorts)):
        for k in range(N_TAILS):
            keys[i * N_TAILS + k] = tails.place(k, cohorts[i])
    return keys, find_all(head, keys)


@njit
def meet(head: Array, body: Array, dirty: Array, tally: Array, one: Array, other: Array, clock: float) -> None:
    """Let parties know each other who do not yet."""
    for i in range(len(one)):
        for x, y in ((one[i], other[i]), (other[i], one[i])):
            j = find(head, x)
            known = False
            for k in range(min(st.RING, head[j].n) if j >= 0 else 0):
                known = known or body[j, k] == y
            if not known:
                parties.meet(head, body, dirty, tally, x, y, clock)


@njit
def own(
    head: Array, dirty: Array, tally: Array, resources: Array, principals: Array, shared: Array, clock: float
) -> None:
    """Learn whose resources are; one that is of two principals is shared."""
    for n in range(len(resources)):
        i, fresh = claim(head, dirty, tally, resources[n])
        if fresh:
            head[i].principal = principals[n]
            head[i].shared = shared[n]
            head[i].w = clock
        elif head[i].principal != principals[n] or shared[n]:
            head[i].shared = 1


@njit
def settle(fleet: Array, body: Array, now: float, alerts_per_day: float) -> None:
    """Set the alert threshold by the episodes of all partitions."""
    budget.count(fleet, body, 0.0, 0.0, now, alerts_per_day)
