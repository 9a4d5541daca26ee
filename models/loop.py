"""The compiled loop: each event of a batch is scored by what came before it, then learned.

For each event: what it says (`event`) → bits (`facts`), less the usual (`usual`); amounts → deviates and sums (`amounts`), the hour of
the session (`hours`), their tails → bits (`tails`); a series → its forecast (`rhythm`); groups → the event's own score, the
agent's pool → the score, the alert threshold (`budget`), and then learning with doubt. Nothing here allocates per event, and the
result does not depend on where batches are cut: when a table must grow, the loop returns at that event and is called again.

What an agent's events say beyond 3 bits each, x, gathers in three leaky pools: who receives and how much, what is touched, when and how
often (`signals.POOLS`). With s_f the event's own evidence of one kind, s that of all,

    P_f ← P_f · 2^(−Δt/30 min) · 0.8 + x · s_f/s,   score = max(s, min(Σ P_f, Σ min(P_f, 4·s_f) + s/2))

so an event draws on the pools in proportion to evidence of its own, and above all for more of the same: an odd order of calls owes little
to a burst before it. The harmless event after an incident stays harmless, but for this: a session in which something strange was done is
to be looked at as a whole, so in a session that has a name an event's score is at least half of the highest before it, at most 20 bits. That
ranks events; it raises no alert, teaches no doubt and is in no pool. What a series says does not go into them: its errors
follow on each other, and what they repeat is no new evidence.

What is plainly strange adds up over days: what data goes where (from 2 bits on), what the agent never uses (from 6) and drifting amounts (from
4, by half) pay up to double where the agent's excess of the days before, `B ← B · 2^(−Δt/2 d) · 0.99 + excess`, was as much. Once is an oddity; a
slow drip and a scope that creeps come back.

Doubt: with τ the running 95 % quantile of the fleet's scores, an event teaches facts and usual surprises with weight 1 up to
τ and max(0.05, (τ/score)²) above, so what looks hostile teaches little. Amounts learn with their updates clipped. What a person has called malicious (`verdict`) teaches nothing.
"""

from __future__ import annotations

import math

import numpy as np

from models import (
    ahead,
    budget,
    change,
    clock,
    cohort,
    dormancy,
    event,
    facts,
    habit,
    hours,
    learning,
    memory,
    newcomer,
    parties,
    schema,
    scoring,
    signals,
    usual,
    vouching,
)
from models import batch as col
from models import state as st
from models.batch import Batch, Scores
from models.compiled import inline, njit
from models.here import AGENTS, KEEP, SESSIONS, Facts, Here, Room
from models.newcomer import YOUNG_EVENTS
from models.table import Array, Key, claim, find, mix

POOL_HALF_LIFE, POOL_KEEP, POOL_DEAD = 1800.0, 0.8, 3.0
POOL_SAME, POOL_ANY = 4.0, 0.5  # how often its own evidence an event may draw from its own kind, and from any
# Of the highest score of its session an event has so much, at most so many bits.
SESSION_SHARE, SESSION_MOST = 0.5, 20.0
SESSION_GAP = 1800.0  # seconds of quiet after which a session begins, where the event names none
DAY = 86400.0
FINISHED, RESCALE, DUE = -1, -2, -3
GROWING_TABLES = np.array(schema.GROWING)
# Rows that one event may add to each of them: so many, and so many for each of its facts.
_ROOM = {"facts": (3 + 3 * (parties.FAR + event.ANOTHERS + vouching.FARTHEST + 3) + usual.BY_TOOL.sum(), 6), "amounts": (8, 0), "tails": (4 * signals.N_TAILS, 0), "owners": (1, 0), "contacts": (0, 2), "profiles": (0, 1), "names": (0, 1), "levels": (2, 0), "lifts": (1, 0), "calls": (2, 3), "uses": (0, 1)}  # fmt: skip
ROOM = np.array([_ROOM.get(schema.TABLES[i], (1, 0))[0] for i in schema.GROWING])
ROOM_FACT = np.array([_ROOM.get(schema.TABLES[i], (1, 0))[1] for i in schema.GROWING])
# Where its agent may change its cohort.
ROOM_COHORT = np.array([cohort.ROOM.get(schema.TABLES[i], 0) for i in schema.GROWING])


@njit
def run(
    a: st.Arrays, b: Batch, out: Scores, start: int, alerts_per_day: float, own: Array, pays: Array, due: float
) -> tuple[int, int]:
    """Score and learn events from `start` on; `own` holds the hashes of the organisation's own domains, `pays` is like `signals.PAYS`.

    Returns the next event and FINISHED, or the event before which the table of that number must grow, or RESCALE, or DUE before
    the first event whose clock is past `due`.
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
        pays,
        np.zeros(facts.LEVELS, np.uint64),
        np.array([1 | st.SHARED, 1 | st.SHARED, 1], np.uint8),
        np.zeros(signals.N_STEPS, np.int64),
        np.zeros(signals.N_STEPS, np.uint64),
        np.zeros(signals.N_STEPS, np.uint64),
        np.zeros(signals.N_STEPS, np.int64),
        np.zeros(signals.N_STEPS),
        np.zeros((facts.LEVELS, 2)),
        np.zeros(signals.N_FACTS),
        np.zeros(signals.N_FACTS),
        np.zeros(signals.N_TAILS),
        np.zeros(signals.N_TAILS, np.int64),
        np.zeros(signals.N_AMOUNTS),
        np.zeros(signals.N_GROUPS),
        np.zeros(signals.N_GROUPS, np.int64),
        np.zeros(signals.N_AGAIN),
        np.zeros(signals.N_POOLS),
        np.zeros(signals.N_POOLS),
        np.zeros(col.DETAIL, np.float32),
        a.fleet.copy(),
        np.zeros(1, np.bool_),
    )
    asked = ahead.Asked(
        np.zeros((ahead.TURNS, ahead.MOST), np.uint8),
        np.zeros((ahead.TURNS, ahead.MOST), np.uint64),
        np.zeros(ahead.TURNS, np.int64),
    )
    return _events(a, b, out, start, alerts_per_day, own, due, room, asked)


@inline
def _events(
    a: st.Arrays,
    b: Batch,
    out: Scores,
    start: int,
    alerts_per_day: float,
    own: Array,
    due: float,
    w: Room,
    asked: ahead.Asked,
) -> tuple[int, int]:
    n = len(b.time)
    w.entity[0] = parties.fleet_entity()
    for e in range(start, n):
        met = find(a.agents, b.agent.hash[e])
        seeks = b.cohort[e] == 0 and met >= 0 and cohort.due(a.agents[met].seen + 1)
        full = _full(a.tally, a.limits, event.most(b, e), seeks)
        if full >= 0:
            return e, full
        ahead.fetch(a, b, e, asked)
        f = a.fleet[0]
        before = f.clock if f.events > 0 else b.time[e]
        w.saved[0] = f
        known = met >= 0 and a.agents[met].seen >= clock.KNOWN
        mark = clock.advance(a, b.time[e], b.agent.hash[e], known)
        age_of_state = (f.clock - f.begin) / schema.HALF_LIFE
        if age_of_state > st.TOO_FAR:
            a.fleet[0] = w.saved[0]  # this event will begin again
            return e, RESCALE
        if f.clock > due:
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

        tool_before = scoring.step_before(a, b, e, w, h)
        w.step[:] = -1
        owned = event.owner_of(a, b, e, h.session, w)
        q = event.facts_of(b, e, w.facts, tool_before)
        q = event.fact_of_approval(b, e, q, w.facts)
        q, policy = event.facts_of_recipients(a, b, e, q, own, h, w)
        scoring.score_facts(a, b, e, w, q, h)
        scoring.score_steps(a, w, h)
        w.tail[:] = -1.0
        w.tail[signals.CLEARANCE] = policy
        call = mix(h.session, b.tool.hash[e])
        scoring.score_repeats(a, b, e, w, h)
        on_beat = scoring.score_amounts(a, b, e, w, h, call)
        if h.begins:
            scoring.score_hour(a, b, e, w, h)
        if on_beat:
            scoring.score_series(a, b, e, w, h)
        w.tail[signals.DORMANCY] = dormancy.left_alone(a, b, e, w, q, h)
        scoring.score_tails(a, w, h)

        rare = habit.excuse(a, w, h)
        scoring.add_again(a, w, h)
        s = 0.0
        for g in range(signals.N_GROUPS):
            if w.winner[g] >= 0:
                s += w.group[g]
                w.detail[col.PAID + w.winner[g]] = w.group[g]
                out.parts[e, signals.KIND_OF[w.winner[g]]] += w.group[g]
        score = max(s, _draw(a, w, h, s))
        out.own[e] = s
        out.score[e] = score
        out.threshold[e] = budget.threshold(a.fleet)
        if score >= out.threshold[e] and learned:
            mark |= col.NOTABLE
        if b.session[e] != np.uint64(0):  # a beat that never pauses is no session
            out.session[e] = min(SESSION_MOST, SESSION_SHARE * a.sessions[h.se].peak)
        out.marks[e] = mark
        if not learned:
            continue
        change.learn(a, b, e, w, h)
        if s >= KEEP or mark & col.NOTABLE:
            w.detail[col.JUDGED] += w.judged[0]
            change.tell(a, b, e, w, h)
            _keep(a, e, w, tool_before, out)
        a.recent[at_recent].key = ticket
        a.recent_dirty[at_recent] = 1
        for f in range(signals.N_POOLS):
            a.agents_body[h.ag, schema.OWN_POOLS + f] = w.pool[f]
        for g in range(signals.N_AGAIN):
            a.agents_body[h.ag, schema.OWN_AGAIN + g] = w.again[g]
        if not w.judged[0]:
            weight = learning.doubt(a.fleet, score)
            met = learning.learn_facts(a, b, e, w, q, h, weight)
            learning.learn_steps(a, w, h)
            learning.learn_tails(a, w, h)
            learning.learn_parties(a, b, e, w, h, owned, met, weight)
            habit.learn(a, h, rare)
        learning.learn_session(a, b, e, h, call, s, score)
        learning.learn_levels(a, b, e, w, h, s, out)
        if out.row[e] >= 0:
            learning.count_episode(a, b, e, w, h, s, score, out.threshold[e], alerts_per_day)
        if h.clock > before:
            first = budget.first_day(a.fleet, h.now)
            a.fleet[0].watched += min(1.0, (h.clock - before) / DAY) * budget.weight(h.now)
            if first and not budget.first_day(a.fleet, h.now):  # else its threshold stays until there is an episode
                budget.count(a.fleet, a.fleet_body[0], 0.0, 0.0, h.now, h.clock, alerts_per_day)
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
def _draw(a: st.Arrays, w: Room, h: Here, s: float) -> float:
    """Fill the room's pools with what an event of s bits adds to its agent's; the score that it may draw from them."""
    w.kind[:] = 0.0
    for g in range(signals.N_GROUPS):
        w.kind[signals.POOL_OF[g]] += w.group[g]
    leak = 2.0 ** (-h.gap / POOL_HALF_LIFE) * POOL_KEEP
    adds = max(0.0, s - w.detail[col.PAID + signals.RHYTHM] - POOL_DEAD)
    drawn, full = POOL_ANY * s, 0.0
    for f in range(signals.N_POOLS):
        w.pool[f] = float(a.agents_body[h.ag, schema.OWN_POOLS + f]) * leak
        if s > 0:
            w.pool[f] += adds * w.kind[f] / s
        full += w.pool[f]
        drawn += min(w.pool[f], POOL_SAME * w.kind[f])
    return min(full, drawn)


@inline
def _ticket(b: Batch, e: int) -> Key:
    """Number of an event by its id and content: by the id alone, an agent could hide behind one of its own."""
    ticket = mix(mix(b.agent.hash[e], b.event.hash[e]), mix(b.resource.hash[e], b.tool.hash[e]))
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
        newcomer.begin(a.agents, a.agents_body, ag, clock_s)
        a.agents[ag].leader = a.agents[ag].entity = 0
        a.agents[ag].entity = parties.entity_of(a, agent)
    cohort_key = parties.cohort_of(a, b.cohort[e], ag)
    peered = b.cohort[e] != 0 or a.agents[ag].leader != 0
    co = parties.cohort_row(a, cohort_key, clock_s)
    w.mark[1] = parties.mark_of(a, b.cohort[e], ag)
    a.cohorts_dirty[co] |= w.mark[1]
    if fresh:
        a.cohorts[co].agents += 1
    w.entity[1] = cohort_key
    w.entity[2] = a.agents[ag].entity
    gap = clock_s - a.agents[ag].w
    if learned:
        a.agents[ag].w = clock_s
        a.agents[ag].seen += 1
    seen = max(1.0, a.agents[ag].seen)
    warming = col.WARMING if seen < YOUNG_EVENTS else 0
    session = b.session[e]
    if session == np.uint64(0):
        if learned and (fresh or gap >= SESSION_GAP):
            a.agents[ag].began = clock_s
        session = np.uint64(np.int64(a.agents[ag].began)) + np.uint64(1)
    session = mix(w.entity[2], session)
    se, begins = claim(a.sessions, a.sessions_dirty, a.tally[SESSIONS], session)
    if begins:
        a.sessions[se].tool = a.sessions[se].ordinary = 0
        a.sessions[se].top = -1
        a.sessions[se].records = a.sessions[se].peak = 0
    a.sessions[se].w = clock_s
    begins = begins and learned and clock_s - a.agents[ag].night_at >= hours.APART
    new = newcomer.is_one(a.agents, ag, a.fleet, clock_s)
    age = min(schema.POWERS - 1, int(math.log2(seen)))
    if newcomer.is_late(a.agents, ag, a.fleet):
        age += schema.POWERS
    return Here(
        agent, cohort_key, peered, session, ag, co, se, clock_s, now, 1.0 / now, gap, new, age, begins, learned
    ), warming


@inline
def _keep(a: st.Arrays, e: int, w: Room, tool_before: Key, out: Scores) -> None:
    """Give back what the event was scored with: it is evidence."""
    row = out.rows[0]
    out.row[e] = row
    out.rows[0] = row + 1
    for k in range(col.DETAIL):
        out.detail[row, k] = w.detail[k]
    for i in range(out.length.shape[1]):
        out.length[row, i] = 0
        for k in range(out.text.shape[2]):
            out.text[row, i, k] = 0
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
