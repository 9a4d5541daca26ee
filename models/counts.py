"""Counts that partitions share: of facts, of what is in the tails of cohorts, and of the episodes of about a day. They add up as they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models import budget, merge, schema
from models.contributions import Contributions
from models.increments import BURST, FACT, TAILS, Increments, between
from models.seen import FACT_ROW, Seen, remember, take_marked
from models.state import TAKEN, State
from models.table import Array

LEAST = 1e-3  # episodes: less is no episode, but what rounding leaves


def export_facts(state: State, seen: Seen, own: Contributions) -> Array:
    """What counts of facts have gained. What a verdict took back is taken from what this partition has given, `own`."""
    t = state["facts"]
    at = take_marked(t)
    head = t.head[at]
    taken = (t.dirty[at] & TAKEN) > 0
    t.dirty[at] &= ~np.uint8(TAKEN)
    slots = seen.facts.slots(head["key"])
    remember(state, FACT_ROW, head["key"])
    now = np.stack([head["w"], head["d"]], 1)
    before = seen.facts.x[slots]
    anew = (now < before).any(1) & ~taken
    before[anew] = 0
    gained = now - before
    if taken.any():
        given = own.facts.of(head["key"]) * np.float32(between(own.begin, seen.begin))
        gained[taken] = np.maximum(gained, -given)[taken]
        now[taken] = (before + gained)[taken]
        t.head["w"][at[taken]], t.head["d"][at[taken]] = now[taken].T
    seen.facts.x[slots] = now
    out = np.zeros(len(at), FACT)
    out["key"], out["w"], out["d"] = head["key"], gained[:, 0], gained[:, 1]
    return out[gained.any(1)]


def add_facts(state: State, seen: Seen, x: Array, factor: float) -> None:
    """Add counts of facts."""
    state.reserve("facts", len(x))
    t = state["facts"]
    added = np.stack([x["w"], x["d"]], 1) * np.float32(factor)
    merge.add_counts(t.head, t.dirty, t.tally, np.array(x["key"]), added)
    slots = seen.facts.slots(x["key"])
    seen.facts.x[slots] += added
    remember(state, FACT_ROW, x["key"])


def export_tails(state: State, seen: Seen, clusters: Array) -> tuple[int, Array, Array]:
    """What the tails of cohorts have gained."""
    t = state["tails"]
    keys, at = merge.tails_of(t.head, clusters)
    keys, at = keys[at >= 0], at[at >= 0]
    slots = seen.bodies[TAILS].slots(keys)
    now = t.body[at]
    before = seen.bodies[TAILS].x[slots]
    before[now.sum(1) < 0.5 * before.sum(1)] = 0.0
    gained = now - before
    seen.bodies[TAILS].x[slots] = now
    return TAILS, keys, gained


def add_tails(state: State, seen: Seen, keys: Array, added: Array, factor: float) -> None:
    """Add to tails."""
    state.reserve("tails", len(keys))
    t = state["tails"]
    at = merge.claim_bodies(t.head, t.body, t.dirty, t.tally, keys, float(state.fleet["clock"]))
    t.body[at] = np.maximum(0.0, t.body[at] + added * factor)
    slots = seen.bodies[TAILS].slots(keys)
    seen.bodies[TAILS].x[slots] = t.body[at]


def export_burst(state: State, seen: Seen) -> Array:
    """What the budget's episodes of about a day have gained: its bound on a busy day is on those of all partitions."""
    fleet, now = state.fleet, state["fleet"].body[0, schema.ALL_BURST :]
    gained = now - seen.burst * _fade(float(fleet["burst_at"]) - seen.burst_at)
    at = np.flatnonzero(gained > LEAST)
    seen.see_burst(state)
    out = np.zeros(len(at), BURST)
    out["at"], out["x"] = at, gained[at]
    return out


def add_bursts(state: State, given: Sequence[Increments]) -> None:
    """Each as of its time, or as of now where that is to come here."""
    fleet, body = state.fleet, state["fleet"].body[0, schema.ALL_BURST :]
    clock = float(fleet["clock"])
    body *= _fade(clock - float(fleet["burst_at"]))
    fleet["burst_at"] = clock
    for x in given:
        np.add.at(body, x.burst["at"], x.burst["x"] * _fade(clock - x.at))


def _fade(seconds: float) -> float:
    """What is left of an episode of the burst after so long; of one that is to come, all."""
    return float(2.0 ** -(min(60.0, max(0.0, seconds / budget.BURST_HALF_LIFE))))
