"""What an event teaches, once it has been scored, and with how much doubt (`models.loop`)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from models import batch as col
from models import budget, event, facts, harm, levels, memory, ordinal, parties, schema, signals, sitting, tails, usual
from models import state as st
from models.batch import Batch, Scores
from models.compiled import inline
from models.here import CALLS, CONTACTS, FACTS, KEEP, LEVELS, NAMES, OWNERS, PROFILES, RATE_MEMORY, TAILS, Here, Room
from models.table import Key, claim, find

DOUBT_LEAST, DOUBT_QUANTILE, DOUBT_RATE, DOUBT_FLOOR = 0.05, 0.95, 0.02, 3.0
STRANGE = 0.5  # weight below which an event introduces nobody
# An episode ends after an hour without an event that is evidence, or after a day (seconds).
EPISODE_GAP, EPISODE_LONGEST = 3600.0, 86400.0
LOUD_GAP = 4 * 3600.0  # an episode that has reached the threshold: half a working day
HOUR_SECONDS = 3600.0
NAMED = np.isin(np.arange(signals.N_FACTS), memory.NAMED_FACTS)


@inline
def doubt(fleet: Any, score: float) -> float:
    """The weight with which an event teaches, and the quantile that decides it moved."""
    tau = fleet[0].tau
    ratio = score / max(tau, 1e-3)
    if score != tau:
        fleet[0].tau += DOUBT_RATE * tau * (DOUBT_QUANTILE - (1.0 if score <= tau else 0.0))
    fleet[0].tau = min(max(fleet[0].tau, DOUBT_FLOOR), 1e4)
    return 1.0 if ratio <= 1 else max(DOUBT_LEAST, ratio**-2.0)


@inline
def learn_facts(a: st.Arrays, b: Batch, e: int, w: Room, n: int, h: Here, weight: float) -> bool:
    """Count what the event says; whether the agent has written to somebody for the first time."""
    f = w.facts
    met = False
    for k in range(signals.N_NAMED):
        if w.surprise[k] >= 0:
            usual.learn(
                a.fleet_body[0],
                a.cohorts_body[h.co],
                a.agents_body[h.ag],
                k,
                h.age,
                w.surprise[k],
                w.mean[k],
                weight,
            )
            if usual.BY_TOOL[k]:
                usual.learn_with_tool(
                    a.facts,
                    a.facts_dirty,
                    a.tally[FACTS],
                    k,
                    b.tool.hash[e],
                    w.entity[2],
                    w.surprise[k],
                    w.mean[k],
                    h.now,
                    weight,
                )
    for q in range(n):
        k = f.attribute[q]
        before = facts.learn(
            a.facts,
            a.facts_dirty,
            a.tally[FACTS],
            f.keys,
            f.slots,
            f.counts,
            q,
            h.now,
            weight,
            w.mark,
            signals.BROADEST[k],
        )
        met = met or (k == signals.RECIPIENT and before == 0)
        sitting.remember(a, w, h, q, before)
        if NAMED[k] and (before == 0 or _doubled(before + 1, before + 1 + weight)):
            profile = memory.profile_of(w.entity[2], k)
            memory.remember(
                a.profiles,
                a.profiles_body,
                a.profiles_dirty,
                a.tally[PROFILES],
                a.facts,
                profile,
                f.value[q],
                f.keys[q, 2, 0],
                h.clock,
            )
            text, low, high = event.spelling(b, e, k, f.entry[q])
            memory.name(a.names, a.names_body, a.names_dirty, a.tally[NAMES], f.value[q], text, low, high, h.clock)
    if b.home[e] != 0:
        parties.count_home(a.facts, a.facts_dirty, a.tally[FACTS], b.home[e], h.now)
    return met


@inline
def learn_steps(a: st.Arrays, w: Room, h: Here) -> None:
    """Count the steps that the event has reached."""
    for k in range(signals.N_STEPS):
        if w.step[k] >= 0:
            base = facts.place(signals.N_NAMED + k, w.step_above[k])
            levels = facts.LEVELS if w.step_above[k] == w.step_of[k] else facts.LEVELS - 1  # the agent has counted it
            ordinal.learn(
                a.facts, a.facts_dirty, a.tally[FACTS], base, w.step[k], w.entity, levels, h.now, w.step_bits[k], w.mark
            )


@inline
def _doubled(before: float, after: float) -> bool:
    """Whether a count has passed a power of two: its highest bit is another."""
    x, y = int(before), int(after)
    return y > x and (x ^ y) > x


@inline
def learn_tails(a: st.Arrays, w: Room, h: Here) -> None:
    fleet, peers, own = a.fleet_body[0], a.cohorts_body[h.co], a.agents_body[h.ag]
    for k in range(signals.N_TAILS):
        at = w.bins[k]
        if at < 0:
            continue
        one = h.now
        if k == signals.REPEATS:
            one /= max(1.0, w.detail[col.SAME])  # a flood is one observation, however long
        fleet[schema.ALL_TAILS + k] += one
        peers[schema.PEER_TAILS + k] += one
        own[schema.OWN_TAILS + k] += one
        if at == 0:
            continue
        low = schema.ALL_HISTOGRAMS + k * schema.BINS
        for i in range(1, at + 1):
            fleet[low + i] += one
        tails.learn(a.tails, a.tails_body, a.tails_dirty, a.tally[TAILS], tails.place(k, h.cohort), at, one, h.clock)
        tails.learn(a.tails, a.tails_body, a.tails_dirty, a.tally[TAILS], tails.place(k, w.entity[2]), at, one, h.clock)


@inline
def learn_session(a: st.Arrays, b: Batch, e: int, h: Here, call: Key, s: float, score: float) -> None:
    """Remember what the session did."""
    session = a.sessions[h.se]
    a.sessions[h.se].tool = b.tool.hash[e]
    if s < KEEP:
        a.sessions[h.se].ordinary = b.tool.hash[e]
    if b.rung[e] > session.top:
        a.sessions[h.se].top = b.rung[e]
        a.sessions[h.se].records = 0
    if b.rung[e] == session.top and not math.isnan(b.records[e]):
        a.sessions[h.se].records += b.records[e]
    a.sessions[h.se].peak = max(session.peak, score)
    i, fresh = claim(a.calls, a.calls_dirty, a.tally[CALLS], call)
    a.calls[i].n = 1 if fresh else a.calls[i].n + 1
    a.calls[i].w = h.clock
    a.agents[h.ag].calls = a.agents[h.ag].calls * math.exp(-h.gap / RATE_MEMORY) + 1.0


@inline
def learn_parties(a: st.Arrays, b: Batch, e: int, w: Room, h: Here, owned: bool, met: bool, weight: float) -> None:
    """Remember whose the resource is, and who knows whom. Other partitions are told what is new of that.

    A stranger that a strange event reaches stays one to all other agents: else an attack on one would introduce its drop to the fleet.
    """
    if owned:
        i, fresh = claim(a.owners, a.owners_dirty, a.tally[OWNERS], b.resource.hash[e])
        principal = np.uint32(b.principal.hash[e])
        if fresh:
            a.owners[i].principal = principal
            a.owners[i].people = 1
            a.owners_dirty[i] |= st.SHARED
        elif a.owners[i].last != principal:
            a.owners[i].people = min(255, a.owners[i].people + 1)
            a.owners_dirty[i] |= st.SHARED
        a.owners[i].last = principal
        if w.step[event.OWNER] >= 0:
            a.owners[i].session = np.uint16(
                event.judged_in(h.session, b.principal.hash[e], w.step[event.OWNER], b.changes[e])
            )
        a.owners[i].w = h.clock
    for j in range(b.recipient_at[e], b.recipient_at[e + 1]):
        other = b.recipient.hash[j]
        if weight < STRANGE and find(a.contacts, other) < 0:
            continue
        parties.meet(a.contacts, a.contacts_body, a.contacts_dirty, a.tally[CONTACTS], h.agent, other, h.clock)
        parties.meet(a.contacts, a.contacts_body, a.contacts_dirty, a.tally[CONTACTS], other, h.agent, h.clock)
        if met:
            for party in (h.agent, other):
                i = find(a.contacts, party)
                if i >= 0:
                    a.contacts_dirty[i] |= st.SHARED


@inline
def learn_levels(a: st.Arrays, b: Batch, e: int, w: Room, h: Here, s: float, out: Scores) -> None:
    """Add to the day's amounts of the agent and its cohort, and to the sums that a River detector sees."""
    moved = b.bytes[e]
    if math.isnan(moved):
        moved = 1.0 if math.isnan(b.records[e]) else b.records[e]
    for level in (w.entity[2], h.cohort):
        if levels.learn_level(a.levels, a.levels_body, a.levels_dirty, a.tally[LEVELS], level, moved, h.clock):
            turn = out.turns[0]
            out.turned[turn] = level
            out.turned_at[turn] = e
            out.turns[0] = turn + 1
            levels.days(a.levels, a.levels_body, find(a.levels, level), out.days, out.days_length, turn)
    if len(out.window) > 0:
        levels.window(
            a.agents_body[h.ag],
            math.exp(-h.gap / HOUR_SECONDS),
            b.bytes[e],
            b.records[e],
            b.recipient_at[e + 1] - b.recipient_at[e],
            b.denied[e],
            s,
            out.window,
            e,
        )


@inline
def count_episode(
    a: st.Arrays, b: Batch, e: int, w: Room, h: Here, s: float, score: float, threshold: float, alerts_per_day: float
) -> None:
    """Tell the budget of an episode that begins, or that a lower threshold would now have made an alert of."""
    agent = a.agents[h.ag]
    gap = LOUD_GAP if agent.peak >= threshold else EPISODE_GAP
    if h.clock >= agent.kept + gap or h.clock >= agent.begin + EPISODE_LONGEST:
        a.agents[h.ag].begin = h.clock
        a.agents[h.ag].peak = a.agents[h.ag].loud = -1
        a.agents[h.ag].first_own = a.agents[h.ag].second_own = a.agents[h.ag].third_own = 0
        a.agents[h.ag].serious = 0
    a.agents[h.ag].kept = h.clock
    a.agents[h.ag].peak = max(agent.peak, score)
    first, second = max(s, agent.first_own), max(min(s, agent.first_own), agent.second_own)
    a.agents[h.ag].third_own = max(min(s, agent.second_own), agent.third_own)
    a.agents[h.ag].first_own, a.agents[h.ag].second_own = first, second
    if harm.serious(b, e, w.detail):
        a.agents[h.ag].serious = 1
    loud = budget.loudness(agent.peak, agent.third_own, agent.serious > 0)
    if loud > agent.loud:
        budget.count(a.fleet, a.fleet_body[0], agent.loud, loud, h.now, h.clock, alerts_per_day)
        a.agents[h.ag].loud = loud
