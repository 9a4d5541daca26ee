"""The compiled loop: each event of a batch is scored by what came before it, then learned.

For each event: what it says (`event`) → bits (`facts`), less the usual (`usual`); amounts → deviates and sums (`amounts`), the hour of
the session (`hours`), their tails → bits (`tails`); a series → its forecast (`rhythm`); groups → the event's own score, the
agent's pool → the score, the alert threshold (`budget`), and then learning with doubt. Nothing here allocates per event, and the
result does not depend on where batches are cut: when a table must grow, the loop returns at that event and is called again.

The pool is a leaky sum per agent, `P ← P · 2^(−Δt/30 min) · 0.8 + max(0, s − 3)`, and the score is max(s, min(P, 4·s)): an event may
draw on it only in proportion to evidence of its own, so the harmless event after an incident stays harmless. What a series says
does not go into it: its errors follow on each other, and what they repeat is no new evidence.

Breaches add up over days: what data goes where (`flow`, `clearance`) pays up to double where the agent's breaches of the days before,
`B ← B · 2^(−Δt/3 d) · 0.99 + paid`, were as much. One is an oddity; a slow drip comes back.

Doubt: with τ the running 95 % quantile of the fleet's scores, an event teaches facts and usual surprises with weight 1 up to
τ and max(0.05, (τ/score)²) above, so what looks hostile teaches little. Amounts learn with their updates clipped. What a person has called malicious (`verdict`) teaches nothing.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from models import (
    amounts,
    budget,
    clock,
    cohort,
    event,
    facts,
    hours,
    levels,
    memory,
    parties,
    rhythm,
    signals,
    tails,
    usual,
    verdict,
)
from models import batch as col
from models import state as st
from models.batch import Batch, Scores
from models.compiled import inline, njit
from models.event import Facts
from models.table import Array, Key, claim, find, mix

POOL_HALF_LIFE, POOL_KEEP, POOL_DEAD, POOL_GAIN = 1800.0, 0.8, 3.0, 4.0
BREACH_HALF_LIFE, BREACH_KEEP = 3 * 86400.0, 0.99
BREACH = int(signals.GROUP_OF[signals.FLOW])  # the group of what data goes where, clearance included
DOUBT_LEAST, DOUBT_QUANTILE, DOUBT_RATE, DOUBT_FLOOR = 0.05, 0.95, 0.02, 3.0
RATE_MEMORY = 600.0  # seconds
FEW_REPEATS = 8.0  # the same so often within ten minutes is no flood
RATE_OFFSET = 4.0  # calls: two within ten minutes where one is usual are no burst
SESSION_GAP = 1800.0  # seconds: a session where the event names none
CLAIM = 13.0  # bits: one in 8,192 is the most that a single fact can claim, whatever its counts say
KEEP = 5.0  # bits: an event with more of its own becomes part of its agent's episode,
# which ends after an hour without one, or after a day (seconds).
EPISODE_GAP, EPISODE_LONGEST = 3600.0, 86400.0
LOUD_GAP = (
    43200.0  # an episode that has reached the threshold: what an agent does later on the same day is the same story
)
YOUNG_EVENTS = 50  # an agent with fewer is warming
HOUR_SECONDS, DAY = 3600.0, 86400.0
FINISHED, RESCALE, DUE = -1, -2, -3
NAMED = np.isin(np.arange(signals.N_FACTS), memory.NAMED_FACTS)
TABLE = {name: i for i, name in enumerate(st.TABLES)}
FACTS, AMOUNTS, TAILS, AGENTS, SESSIONS, CALLS, OWNERS, CONTACTS, PROFILES, NAMES, LEVELS, RHYTHMS = (
    TABLE[name] for name in ("facts", "amounts", "tails", "agents", "sessions", "calls", "owners", "contacts", "profiles", "names", "levels", "rhythms")
)  # fmt: skip
GROWING_TABLES = np.array(st.GROWING)
# Rows that one event may add to each of them: so many, and so many for each of its facts.
_ROOM = {"facts": (2, 6), "amounts": (8, 0), "tails": (18, 0), "owners": (1, 0), "contacts": (0, 2), "profiles": (0, 1), "names": (0, 1), "levels": (2, 0), "calls": (2, 1)}  # fmt: skip
ROOM = np.array([_ROOM.get(st.TABLES[i], (1, 0))[0] for i in st.GROWING])
ROOM_FACT = np.array([_ROOM.get(st.TABLES[i], (1, 0))[1] for i in st.GROWING])
ROOM_COHORT = np.array([cohort.ROOM.get(st.TABLES[i], 0) for i in st.GROWING])  # where its agent may change its cohort
RATE = signals.N_AMOUNTS - 1  # the amount that is of all tools: calls within ten minutes


class Room(NamedTuple):
    """Room to work in, of one call."""

    facts: Facts
    entity: Array  # keys of fleet, cohort, agent
    surprise: Array  # of each fact, -1 where the event says nothing of the kind
    mean: Array
    tail: Array  # of each tail its value, -1 where there is none
    bins: Array
    amount: Array
    group: Array
    winner: Array
    detail: Array  # see `models.batch`
    saved: Array
    judged: Array  # whether the event is like one that a person called malicious: it teaches nothing


class Here(NamedTuple):
    """Who an event is of, and when."""

    agent: Key
    cohort: Key  # the key of the cohort
    peered: bool  # it is one of agents that do the same, by their type or by what they do
    session: Key
    ag: int  # slots of the three
    co: int
    se: int
    clock: float
    now: float  # the present weight of one event
    fade: float  # its inverse
    gap: float  # seconds since the agent's last event
    age: int  # power of two of the events that it has seen
    begins: bool  # a session
    learned: bool  # a repeated event is not


@njit
def run(
    a: st.Arrays, b: Batch, out: Scores, start: int, alerts_per_day: float, own: Array, due: float
) -> tuple[int, int]:
    """Score and learn events from `start` on; `own` holds the hashes of the organisation's own domains.

    Returns the next event and FINISHED, or the event before which the table of that number must grow, or RESCALE, or DUE before
    the first event whose clock has reached `due`.
    """
    most = 0
    for e in range(len(b.time)):
        most = max(most, event.most(b, e))
    room = Room(
        Facts(
            np.zeros(most, np.int64),
            np.zeros(most, np.uint64),
            np.zeros(most, np.uint64),
            np.zeros(most, np.int64),
            np.zeros(most),
            np.zeros((most, facts.LEVELS, 2), np.uint64),
            np.zeros((most, facts.LEVELS, 2), np.int64),
            np.zeros((most, facts.LEVELS, 4)),
        ),
        np.zeros(facts.LEVELS, np.uint64),
        np.zeros(signals.N_FACTS),
        np.zeros(signals.N_FACTS),
        np.zeros(signals.N_TAILS),
        np.zeros(signals.N_TAILS, np.int64),
        np.zeros(signals.N_AMOUNTS),
        np.zeros(signals.N_GROUPS),
        np.zeros(signals.N_GROUPS, np.int64),
        np.zeros(col.DETAIL, np.float32),
        a.fleet.copy(),
        np.zeros(1, np.bool_),
    )
    return _events(a, b, out, start, alerts_per_day, own, due, room)


@inline
def _events(
    a: st.Arrays, b: Batch, out: Scores, start: int, alerts_per_day: float, own: Array, due: float, w: Room
) -> tuple[int, int]:
    n = len(b.time)
    w.entity[0] = parties.fleet_entity()
    for e in range(start, n):
        met = find(a.agents, b.agent.hash[e])
        seeks = b.cohort[e] == 0 and met >= 0 and cohort.due(a.agents[met].seen + 1)
        full = _full(a.tally, a.limits, event.most(b, e), seeks)
        if full >= 0:
            return e, full
        f = a.fleet[0]
        before = f.clock if f.events > 0 else b.time[e]
        w.saved[0] = f
        known = met >= 0 and a.agents[met].seen >= clock.KNOWN
        mark = clock.advance(a.fleet, b.time[e], b.agent.hash[e], a.tally[AGENTS, 0], known)
        age_of_state = (f.clock - f.begin) / st.HALF_LIFE
        if age_of_state > st.TOO_FAR:
            a.fleet[0] = w.saved[0]  # this event will begin again
            return e, RESCALE
        if f.clock >= due:
            a.fleet[0] = w.saved[0]
            return e, DUE
        ticket = _ticket(b, e)
        at_recent = np.int64(ticket & np.uint64(len(a.recent) - 1))
        learned = a.recent[at_recent].key != ticket
        if not learned:
            mark |= col.REPEATED
            a.fleet[0].repeated += 1
        h, warming = _who(a, b, e, w, f.clock, 2.0**age_of_state, learned)
        mark |= warming
        out.clock[e] = h.clock
        out.cohort[e] = h.cohort if h.peered else np.uint64(0)
        w.judged[0] = False
        w.detail[:] = 0
        w.detail[col.SESSION] = a.sessions[h.se].top
        w.detail[col.SESSION + 1] = a.sessions[h.se].records
        w.group[:] = 0.0
        w.winner[:] = -1

        tool_before = _step_before(a, b, e, w, h)
        owner = event.owner_of(a, b, e)
        q = event.facts_of(b, e, w.facts, tool_before, owner)
        q, policy = event.facts_of_recipients(a, b, e, w.facts, q, w.entity, h.peered, own, h.fade, w.detail)
        _score_facts(a, b, e, w, q, h)
        w.tail[:] = -1.0
        w.tail[signals.CLEARANCE] = policy
        call = mix(h.session, b.tool.hash[e])
        _score_repeats(a, b, e, w, h)
        on_beat = _score_amounts(a, b, e, w, h, call)
        if h.begins:
            _score_hour(a, b, e, w, h)
        if on_beat:
            _score_series(a, b, e, w, h)
        _score_tails(a, w, h)

        breach = _add_breach(a, w, h)
        s = 0.0
        for g in range(signals.N_GROUPS):
            if w.winner[g] >= 0:
                s += w.group[g]
                w.detail[col.PAID + w.winner[g]] = w.group[g]
                out.parts[e, signals.KIND_OF[w.winner[g]]] += w.group[g]
        adds_up = s - w.detail[col.PAID + signals.RHYTHM]
        pool = a.agents[h.ag].pool * 2.0 ** (-h.gap / POOL_HALF_LIFE) * POOL_KEEP + max(0.0, adds_up - POOL_DEAD)
        score = max(s, min(pool, POOL_GAIN * s))
        out.own[e] = s
        out.score[e] = score
        out.threshold[e] = budget.threshold(a.fleet)
        if score >= out.threshold[e] and learned:
            mark |= col.NOTABLE
        out.marks[e] = mark
        if not learned:
            continue
        _learn_version(a, b, e, h)
        if s >= KEEP or mark & col.NOTABLE:
            w.detail[col.VERSION_AGE] = _version_age(a, b, e, h)
            _keep(a, e, w, tool_before, out)
        a.recent[at_recent].key = ticket
        a.recent_dirty[at_recent] = 1
        a.agents[h.ag].pool = pool
        a.agents[h.ag].breach = breach
        if not w.judged[0]:
            weight = _doubt(a.fleet, score)
            _learn_facts(a, b, e, w, q, h, weight)
            _learn_tails(a, w, h)
            _learn_parties(a, b, e, h, owner)
        _learn_session(a, b, e, h, call, s)
        _learn_levels(a, b, e, w, h, s, out)
        if out.row[e] >= 0:
            _count_episode(a, h, score, out.threshold[e], alerts_per_day)
        if h.clock > before:
            first = a.fleet[0].days < h.now
            a.fleet[0].days += min(1.0, (h.clock - before) / DAY) * h.now
            if first and a.fleet[0].days >= h.now:  # else the first day's threshold stays until there is an episode
                budget.count(a.fleet, a.fleet_body[0], 0.0, 0.0, h.now, alerts_per_day)
        a.fleet[0].events += 1
        if seeks:
            cohort.seek(a, h.agent, h.clock, h.fade)
    return n, FINISHED


@inline
def _full(tally: Array, limits: Array, n_facts: int, seeks: bool) -> int:
    """The first table that has no room for one more event, or -1."""
    for i in range(len(GROWING_TABLES)):
        k = GROWING_TABLES[i]
        if tally[k, 0] + ROOM[i] + ROOM_FACT[i] * n_facts + (ROOM_COHORT[i] if seeks else 0) > limits[k]:
            return int(k)
    return -1


@inline
def _ticket(b: Batch, e: int) -> Key:
    """Number of an event by its id and content: by the id alone, an agent could hide behind one of its own."""
    ticket = mix(mix(b.agent.hash[e], b.event[e]), mix(b.resource.hash[e], b.tool.hash[e]))
    ticket = mix(mix(ticket, b.action[e]), mix(b.outcome[e], b.classification.hash[e]))
    ticket = mix(mix(ticket, b.principal.hash[e]), np.uint64(np.int64(b.time[e] * 1000.0)))
    for x in (b.bytes[e], b.records[e]):
        ticket = mix(ticket, np.uint64(0 if math.isnan(x) else 1 + np.int64(min(x, 1e18))))
    for j in range(b.scope_at[e], b.scope_at[e + 1]):
        ticket = mix(ticket, b.scope.hash[j])
    for j in range(b.recipient_at[e], b.recipient_at[e + 1]):
        ticket = mix(mix(ticket, b.recipient.hash[j]), mix(b.domain.hash[j], np.uint64(b.clearance[j] + 1)))
    return ticket


@inline
def _who(a: st.Arrays, b: Batch, e: int, w: Room, clock_s: float, now: float, learned: bool) -> tuple[Here, int]:
    """Find, or begin, the rows of the event's cohort, agent and session; and whether the agent is warming."""
    agent = b.agent.hash[e]
    ag, fresh = claim(a.agents, a.agents_dirty, a.tally[AGENTS], agent)
    if fresh:
        a.agents_body[ag, :] = 0
        a.agents[ag].seen = 0
        a.agents[ag].first = a.agents[ag].w = clock_s
        a.agents[ag].pool = a.agents[ag].breach = a.agents[ag].calls = a.agents[ag].night = 0
        a.agents[ag].peak = -1
        a.agents[ag].kept = a.agents[ag].begin = a.agents[ag].night_at = -1e18
        a.agents[ag].version = a.agents[ag].left = 0
        a.agents[ag].leader = 0
        a.fleet[0].warming += 1
    cohort_key = parties.cohort_of(a, b.cohort[e], ag)
    peered = b.cohort[e] != 0 or a.agents[ag].leader != 0
    co = parties.cohort_row(a, cohort_key, clock_s)
    if fresh:
        a.cohorts[co].agents += 1
    w.entity[1] = cohort_key
    w.entity[2] = parties.agent_entity(agent)
    gap = clock_s - a.agents[ag].w
    if learned:
        a.agents[ag].w = clock_s
        a.agents[ag].seen += 1
    seen = max(1.0, a.agents[ag].seen)
    warming = col.WARMING if seen < YOUNG_EVENTS else 0
    if seen == YOUNG_EVENTS and learned:
        a.fleet[0].warming -= 1
    session = b.session[e]
    if session == np.uint64(0):
        session = np.uint64(np.int64(b.time[e] // SESSION_GAP)) + np.uint64(1)
    session = mix(w.entity[2], session)
    se, begins = claim(a.sessions, a.sessions_dirty, a.tally[SESSIONS], session)
    if begins:
        a.sessions[se].tool = a.sessions[se].ordinary = 0
        a.sessions[se].top = -1
        a.sessions[se].records = 0
    a.sessions[se].w = clock_s
    begins = begins and learned and clock_s - a.agents[ag].night_at >= hours.APART
    age = min(st.AGES - 1, int(math.log2(seen)))
    return Here(
        agent, cohort_key, peered, session, ag, co, se, clock_s, now, 1.0 / now, gap, age, begins, learned
    ), warming


@inline
def _step_before(a: st.Arrays, b: Batch, e: int, w: Room, h: Here) -> Key:
    """The tool from which this event's comes: the last one, or, where that was strange and the agent knows the way from there, the last ordinary one."""
    last, ordinary = a.sessions[h.se].tool, a.sessions[h.se].ordinary
    if last == ordinary:
        return last
    known = facts.of_value(mix(facts.place(signals.TRANSITION, ordinary), w.entity[2]), b.tool.hash[e])
    return ordinary if find(a.facts, known) >= 0 else last


@inline
def _score_facts(a: st.Arrays, b: Batch, e: int, w: Room, n: int, h: Here) -> None:
    """How improbable is each fact, beyond what it usually costs this agent."""
    f = w.facts
    w.surprise[:] = -1.0
    for q in range(n):
        k = f.attribute[q]
        s = facts.bits(
            facts.predict(
                a.facts, facts.place(k, f.context[q]), f.value[q], w.entity, h.fade, f.keys, f.slots, f.counts, q
            )
        )
        if verdict.marked(a.facts, f.slots[q, 2, 1]):
            w.judged[0] = True
        if s > w.surprise[k]:
            w.surprise[k] = s
            at = col.FACT + k * col.FACT_WIDTH
            w.detail[at] = f.counts[q, 2, 0]
            w.detail[at + 1] = f.counts[q, 2, 1]
            w.detail[at + 2] = f.counts[q, 1, 0]
            w.detail[at + 3] = f.counts[q, 0, 0]
            w.detail[at + 4] = f.counts[q, 2, 2]
            w.detail[at + 5] = event.place_in_list(b, e, k, f.entry[q])
            w.detail[at + 6] = f.derived[q]
    for k in range(signals.N_FACTS):
        if w.surprise[k] >= 0:
            w.mean[k] = usual.usual(a.fleet_body[0], a.cohorts_body[h.co], a.agents_body[h.ag], k, h.age)
            _pay(w, k, min(w.surprise[k] - w.mean[k], CLAIM))


@inline
def _pay(w: Room, k: int, bits: float) -> None:
    w.detail[col.BITS + k] = bits
    pays = signals.WEIGHT_OF[k] * (bits - signals.DEAD_OF[k])
    if pays > w.group[signals.GROUP_OF[k]]:
        w.group[signals.GROUP_OF[k]] = pays
        w.winner[signals.GROUP_OF[k]] = k


@inline
def _score_amounts(a: st.Arrays, b: Batch, e: int, w: Room, h: Here, call: Key) -> bool:
    """How far each amount lies from its past, and what has added up; learn them. Whether the agent calls this tool on a beat."""
    ca = find(a.calls, call)
    w.amount[0] = math.log1p(b.bytes[e])
    w.amount[1] = math.log1p(b.records[e])
    w.amount[2] = math.log((a.calls[ca].n if ca >= 0 else 0.0) + 1.0)
    w.amount[RATE] = math.log(a.agents[h.ag].calls * math.exp(-h.gap / RATE_MEMORY) + RATE_OFFSET)
    on_beat = False
    for k in range(signals.N_AMOUNTS):
        x = w.amount[k]
        if math.isnan(x):
            continue
        place = amounts.place(k, b.tool.hash[e] if k < RATE else np.uint64(0))
        c, _ = amounts.row(a.amounts, a.amounts_dirty, a.tally[AMOUNTS], mix(place, h.cohort), h.clock)
        own_key = mix(place, w.entity[2])
        i, fresh = amounts.row(a.amounts, a.amounts_dirty, a.tally[AMOUNTS], own_key, h.clock)
        if fresh:
            a.amounts[c].a += 1.0
        mine, peers = a.amounts[i], a.amounts[c]
        z, centre, spread = amounts.deviate(x, mine.n, mine.m, mine.v, peers.n, peers.m, peers.v)
        at = col.AMOUNT + k * col.AMOUNT_WIDTH
        w.detail[at] = x
        w.detail[at + 1] = centre
        w.detail[at + 2] = spread
        w.detail[at + 3] = peers.m if peers.n > 0 else centre
        w.tail[1 + k] = max(0.0, z)
        if mine.never > 0 and x >= mine.never:
            w.judged[0] = True
        if not h.learned:
            continue
        if k == 2:  # the one amount that every call of a tool has
            on_beat = rhythm.beat(a.amounts, i, b.time[e])
        before = a.amounts[i].s
        summed = amounts.add_up(a.amounts, c, i, z, h.clock)
        if k < RATE:
            w.tail[1 + signals.N_AMOUNTS + k] = summed
        if w.judged[0]:
            a.amounts[i].s = before
        else:
            amounts.learn(a.amounts, c, x, 1.0)
            amounts.learn(a.amounts, i, x, 0.0)
    return on_beat


@inline
def _score_repeats(a: st.Arrays, b: Batch, e: int, w: Room, h: Here) -> None:
    """How often the agent has lately reached the same: a recipient, or without one a resource by a tool; count it."""
    most = 0.0
    low, high = b.recipient_at[e], b.recipient_at[e + 1]
    if low == high and b.resource.hash[e] == 0:
        return  # it does not say what it reached
    for j in range(low, max(high, low + 1)):
        same = b.recipient.hash[j] if low < high else mix(b.tool.hash[e], b.resource.hash[e])
        edge = mix(mix(np.uint64(733), w.entity[2]), same)
        i = find(a.calls, edge)
        before = a.calls[i].n * math.exp(-(h.clock - a.calls[i].w) / RATE_MEMORY) if i >= 0 else 0.0
        if before > most:
            most = before
            w.detail[col.SAME + 1] = j - low
        if h.learned:
            i, _ = claim(a.calls, a.calls_dirty, a.tally[CALLS], edge)
            a.calls[i].n = before + 1.0
            a.calls[i].w = h.clock
    w.detail[col.SAME] = most
    w.tail[signals.REPEATS] = max(0.0, math.log((most + 1.0) / FEW_REPEATS))


@inline
def _score_hour(a: st.Arrays, b: Batch, e: int, w: Room, h: Here) -> None:
    """How unusual is the hour at which this session begins, and what of it adds up over the night; learn it."""
    own = a.agents_body[h.ag, st.OWN_HOURS : st.OWN_WINDOW]
    peers = a.cohorts_body[h.co, st.PEER_HOURS : st.PEER_WIDTH]
    bits, near, total = hours.surprise(own, peers, b.time[e], h.fade)
    w.detail[col.HOURS] = bits
    w.detail[col.HOURS + 1] = near
    w.detail[col.HOURS + 2] = total
    w.tail[signals.OFF_HOURS] = hours.add_up(a.agents, h.ag, bits, h.clock)
    if not w.judged[0]:
        hours.learn(own, peers, b.time[e], bits, h.now)


@inline
def _score_series(a: st.Arrays, b: Batch, e: int, w: Room, h: Here) -> None:
    """Where calls come on a beat, amounts are a series: its forecast judges them, and sums and single amounts say nothing."""
    x = b.records[e] if math.isnan(b.bytes[e]) else b.bytes[e]
    if math.isnan(x):
        return
    key = mix(mix(np.uint64(799), b.tool.hash[e]), w.entity[2])
    teaches = h.learned and not w.judged[0]
    bits, strange, forecast, low, high, lasts = rhythm.score(
        a.rhythms, a.rhythms_body, a.rhythms_dirty, a.tally[RHYTHMS], key, x, b.time[e], h.clock, teaches
    )
    w.detail[col.FORECAST] = strange
    w.detail[col.FORECAST + 1] = forecast
    w.detail[col.FORECAST + 2] = low
    w.detail[col.FORECAST + 3] = high
    w.detail[col.FORECAST + 4] = lasts
    w.tail[1:] = -1.0
    _pay(w, signals.RHYTHM, bits)


@inline
def _score_tails(a: st.Arrays, w: Room, h: Here) -> None:
    """Bits of each tail by what came before, one exceedance lent by the level above."""
    fleet, peers, own = a.fleet_body[0], a.cohorts_body[h.co], a.agents_body[h.ag]
    for k in range(signals.N_TAILS):
        x = w.tail[k]
        w.bins[k] = -1
        if x < 0 and k in (signals.BYTES, signals.RECORDS, signals.OFF_HOURS, signals.REPEATS):
            continue  # only what could have had a value counts as having had none
        w.bins[k] = tails.bin_of(x) if x > 0 else 0
        if x <= 0 or fleet[st.ALL_TAILS + k] <= 0:
            continue
        at = w.bins[k]
        low = st.ALL_HISTOGRAMS + k * st.BINS
        total = fleet[st.ALL_TAILS + k]
        rarity = tails.lend(tails.above(fleet[low : low + st.BINS], total, at), total, h.now, 1.0)
        total = peers[st.PEER_TAILS + k]
        above = tails.weight_above(a.tails, a.tails_body, tails.place(k, h.cohort), total, at)
        rarity = tails.lend(above, total, h.now, rarity)
        total = own[st.OWN_TAILS + k]
        above = tails.weight_above(a.tails, a.tails_body, tails.place(k, w.entity[2]), total, at)
        rarity = tails.lend(above, total, h.now, rarity)
        _pay(w, signals.N_FACTS + k, math.log2(rarity))


@inline
def _add_breach(a: st.Arrays, w: Room, h: Here) -> float:
    """What goes where it should not counts up to double where the agent did so in the days before; what it has then done in all."""
    left = float(a.agents[h.ag].breach) * 2.0 ** (-h.gap / BREACH_HALF_LIFE) * BREACH_KEEP
    paid = float(w.group[BREACH])
    w.group[BREACH] += min(left, paid)
    return float(left + paid)


@inline
def _learn_version(a: st.Arrays, b: Batch, e: int, h: Here) -> None:
    """Remember a version that is neither the agent's present one nor the one before: where two run side by side, or one is taken
    back, neither begins anew with each event."""
    agent, version = a.agents[h.ag], b.version[e]
    if version == agent.version or version == np.uint64(0):
        return
    if version != agent.left:
        a.agents[h.ag].left = agent.version
        a.agents[h.ag].version = version
        a.agents[h.ag].since = h.clock


@inline
def _version_age(a: st.Arrays, b: Batch, e: int, h: Here) -> float:
    """Seconds since the agent began the version that the event names; -1 where it began it unseen, or has left it, or none is named."""
    agent = a.agents[h.ag]
    return float(h.clock - agent.since) if agent.left != 0 and b.version[e] == agent.version else -1.0


@inline
def _keep(a: st.Arrays, e: int, w: Room, tool_before: Key, out: Scores) -> None:
    """Give back what the event was scored with: it is evidence."""
    row = out.rows[0]
    out.row[e] = row
    out.rows[0] = row + 1
    for k in range(col.DETAIL):
        out.detail[row, k] = w.detail[k]
    memory.recall(
        a.profiles,
        a.profiles_body,
        a.names,
        a.names_body,
        a.facts,
        w.entity[2],
        tool_before,
        out.text,
        out.length,
        row,
    )


@inline
def _doubt(fleet: Any, score: float) -> float:
    """The weight with which an event teaches, and the quantile that decides it moved."""
    tau = fleet[0].tau
    ratio = score / max(tau, 1e-3)
    if score != tau:
        fleet[0].tau += DOUBT_RATE * tau * (DOUBT_QUANTILE - (1.0 if score <= tau else 0.0))
    fleet[0].tau = min(max(fleet[0].tau, DOUBT_FLOOR), 1e4)
    return 1.0 if ratio <= 1 else max(DOUBT_LEAST, ratio**-2.0)


@inline
def _learn_facts(a: st.Arrays, b: Batch, e: int, w: Room, n: int, h: Here, weight: float) -> None:
    f = w.facts
    for k in range(signals.N_FACTS):
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
    for q in range(n):
        k = f.attribute[q]
        before = facts.learn(a.facts, a.facts_dirty, a.tally[FACTS], f.keys, f.slots, f.counts, q, h.now, weight)
        if NAMED[k] and (before == 0 or _doubled(before + 1, before + 1 + weight)):
            profile = mix(w.entity[2], np.uint64(memory.PROFILE + k))
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


@inline
def _doubled(before: float, after: float) -> bool:
    """Whether a count has passed a power of two: its highest bit is another."""
    x, y = int(before), int(after)
    return y > x and (x ^ y) > x


@inline
def _learn_tails(a: st.Arrays, w: Room, h: Here) -> None:
    fleet, peers, own = a.fleet_body[0], a.cohorts_body[h.co], a.agents_body[h.ag]
    for k in range(signals.N_TAILS):
        at = w.bins[k]
        if at < 0:
            continue
        one = h.now
        if k == signals.REPEATS:
            one /= max(1.0, w.detail[col.SAME])  # a flood is one observation, however long
        fleet[st.ALL_TAILS + k] += one
        peers[st.PEER_TAILS + k] += one
        own[st.OWN_TAILS + k] += one
        if at == 0:
            continue
        low = st.ALL_HISTOGRAMS + k * st.BINS
        for i in range(1, at + 1):
            fleet[low + i] += one
        tails.learn(a.tails, a.tails_body, a.tails_dirty, a.tally[TAILS], tails.place(k, h.cohort), at, one, h.clock)
        tails.learn(a.tails, a.tails_body, a.tails_dirty, a.tally[TAILS], tails.place(k, w.entity[2]), at, one, h.clock)


@inline
def _learn_session(a: st.Arrays, b: Batch, e: int, h: Here, call: Key, s: float) -> None:
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
    i, fresh = claim(a.calls, a.calls_dirty, a.tally[CALLS], call)
    a.calls[i].n = 1 if fresh else a.calls[i].n + 1
    a.calls[i].w = h.clock
    a.agents[h.ag].calls = a.agents[h.ag].calls * math.exp(-h.gap / RATE_MEMORY) + 1.0


@inline
def _learn_parties(a: st.Arrays, b: Batch, e: int, h: Here, owner: int) -> None:
    """Remember whose the resource is, and who met whom."""
    if owner > 0:
        i, fresh = claim(a.owners, a.owners_dirty, a.tally[OWNERS], b.resource.hash[e])
        if fresh:
            a.owners[i].principal = b.principal.hash[e]
            a.owners[i].shared = 0
        elif a.owners[i].principal != b.principal.hash[e]:
            a.owners[i].shared = 1
        a.owners[i].w = h.clock
    for j in range(b.recipient_at[e], b.recipient_at[e + 1]):
        other = b.recipient.hash[j]
        parties.meet(a.contacts, a.contacts_body, a.contacts_dirty, a.tally[CONTACTS], h.agent, other, h.clock)
        parties.meet(a.contacts, a.contacts_body, a.contacts_dirty, a.tally[CONTACTS], other, h.agent, h.clock)


@inline
def _learn_levels(a: st.Arrays, b: Batch, e: int, w: Room, h: Here, s: float, out: Scores) -> None:
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
def _count_episode(a: st.Arrays, h: Here, score: float, threshold: float, alerts_per_day: float) -> None:
    """Tell the budget of an episode that begins, or rises."""
    agent = a.agents[h.ag]
    gap = LOUD_GAP if agent.peak >= threshold else EPISODE_GAP
    if h.clock >= agent.kept + gap or h.clock >= agent.begin + EPISODE_LONGEST:
        a.agents[h.ag].begin = h.clock
        a.agents[h.ag].peak = -1
    a.agents[h.ag].kept = h.clock
    if score > agent.peak:
        budget.count(a.fleet, a.fleet_body[0], agent.peak, score, h.now, alerts_per_day)
        a.agents[h.ag].peak = score
