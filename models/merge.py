"""Rows that other partitions add to: found, or begun, and added to, many at a time (`models.exchange`)."""

from __future__ import annotations

import numpy as np

from models import amounts, budget, facts, parties, schema, tails
from models import state as st
from models.compiled import njit
from models.signals import N_TAILS, RECIPIENT
from models.table import Array, claim, find, mix

REMIND = 30 * 86400.0  # seconds after which a row that is still in use is put down anew


@njit
def find_all(head: Array, keys: Array) -> Array:
    """The slot of each key, or -1."""
    out = np.empty(len(keys), np.int64)
    for i in range(len(keys)):
        out[i] = find(head, keys[i])
    return out


@njit
def remember(head: Array, dirty: Array, tally: Array, keys: Array, of: int, clock: float) -> None:
    """Put down keys, and now and then that they are still in use."""
    for i in range(len(keys)):
        j = find(head, keys[i])
        if j < 0 or clock - head[j].w > REMIND:
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
def note(head: Array, dirty: Array, tally: Array, keys: Array, now: float) -> None:
    """Begin facts that are known or not, where they are not known yet, for other partitions to know too."""
    for i in range(len(keys)):
        if find(head, keys[i]) < 0:
            j, _ = claim(head, dirty, tally, keys[i])
            head[j].w = now
            head[j].d = 0.0
            dirty[j] |= st.SHARED


@njit
def agents(keys: Array) -> Array:
    """Keys of the facts that these agents are agents."""
    base = mix(facts.place(parties.AGENT, 0), parties.fleet_entity())
    out = np.empty(len(keys), np.uint64)
    for i in range(len(keys)):
        out[i] = facts.of_value(base, keys[i])
    return out


@njit
def writers(a: st.Arrays, met: Array) -> Array:
    """Keys of the facts that an agent among these parties has written to another agent among them; not of more than are kept as contacts."""
    known = np.empty(len(met), np.uint64)
    n = 0
    for i in range(len(met)):
        if parties.is_agent(a, met[i]):
            known[n] = met[i]
            n += 1
    out = np.empty(schema.RING * n, np.uint64)
    k = 0
    for i in range(n):
        if find(a.agents, known[i]) < 0:
            continue
        entity = parties.entity_of(a, known[i])
        for j in range(n):
            if k < len(out) and facts.known(a.facts, facts.place(RECIPIENT, 0), entity, known[j]):
                out[k] = facts.of_value(mix(facts.place(parties.WROTE, 0), entity), known[j])
                k += 1
    return out[:k]


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
    """Keys of both rows of every tail of cohorts, and their slots, -1 where there is none yet."""
    halves = schema.BINS // schema.HALF
    keys = np.empty(len(cohorts) * N_TAILS * halves, np.uint64)
    for i in range(len(cohorts)):
        for k in range(N_TAILS):
            for half in range(halves):
                keys[(i * N_TAILS + k) * halves + half] = tails.half_of(tails.place(k, cohorts[i]), half)
    return keys, find_all(head, keys)


@njit
def meet(
    head: Array, body: Array, dirty: Array, tally: Array, known: Array, others: Array, active: Array, first: Array
) -> None:
    """Let parties know others whom they do not yet (half of a hash; 0: nobody), when they were last active, and since when they are known."""
    for i in range(len(known)):
        j, fresh = claim(head, dirty, tally, known[i])
        if fresh:
            head[j].n = 0
            head[j].w = active[i]
            head[j].first = first[i]
        head[j].w = max(head[j].w, active[i])
        head[j].first = min(head[j].first, first[i])
        new = others[i] != np.uint32(0)
        for k in range(min(schema.RING, head[j].n)):
            new = new and body[j, k] != others[i]
        if new:
            body[j, head[j].n % schema.RING] = others[i]
            head[j].n += 1


@njit
def touch(head: Array, dirty: Array, tally: Array, theirs: Array, clock: float) -> None:
    """Learn for whom resources were touched elsewhere: where neither side has seen the other's last principal, there is one more."""
    for n in range(len(theirs)):
        x = theirs[n]
        i, fresh = claim(head, dirty, tally, x.resource)
        if fresh:
            head[i].principal = x.principal
            head[i].session = 0
            head[i].people = x.people
        else:
            met = head[i].last in (x.principal, x.last) or x.last == head[i].principal
            head[i].people = min(255, max(head[i].people, x.people) + (0 if met else 1))
        head[i].last = x.last
        head[i].w = clock


@njit
def settle(fleet: Array, body: Array, now: float, alerts_per_day: float) -> None:
    """Set the alert threshold by the episodes of all partitions."""
    budget.count(fleet, body, 0.0, 0.0, now, fleet[0].clock, alerts_per_day)
