"""Which agents do the same: the cohort of an agent whose events name no type, found from what it does.

Leader clustering (Hartigan 1975): an agent is put beside the leader that it resembles most, if at least half of what they do is the same; if
it resembles none it becomes a leader itself. How alike two agents are is how far their shares of tools overlap, and their shares of roots: the
mean of Σ min(p, q), which is one less the total variation. It is asked at an agent's 20th event, and again whenever its events have
doubled, so a cohort rests on all that an agent has done, and costs an event nothing. A leader that comes to resemble an older
one follows it. Whom nobody resembles stays where all agents without a type begin: in one cohort of them all.

The levels above an agent learn only what it could not foresee itself, so one that changes its cohort would bring nothing: what it is known
for would be news there. So it brings along its own: each value that it uses, its amounts, tails and hours count in the new
cohort as those of one agent. What it left in the earlier one fades.

What it misses: agents whose events name neither tool nor resource (their recipients are their own, mostly) stay together; two
kinds of agents with the same tools on the same roots are one. At most 64 leaders are kept; the one whose agent has been silent
longest gives way.
"""

from __future__ import annotations

import math

import numpy as np

from models import amounts, facts, parties, schema, tails
from models import state as st
from models.compiled import apart, inline
from models.memory import NAMED_FACTS, profile_of
from models.signals import ACTION, N_AMOUNTS, N_TAILS, ROOT, TOOL, TRANSITION
from models.table import Key, find, mix

FIRST = 20  # events of an agent before its cohort is sought
ALIKE = 0.5
NOBODY = np.uint64(0)
# Rows that two agents who change their cohort may add to a table: the leader does with its first follower.
ROOM = {
    "facts": 4 * (len(NAMED_FACTS) * schema.USUAL + schema.USUAL * (schema.USUAL + 1)),
    "amounts": 4 * (3 * schema.USUAL + 1),
    "tails": 4 * N_TAILS,
    "cohorts": 2,
}


@inline
def due(seen: float) -> bool:
    """Whether an agent's cohort is sought at this event of it."""
    times = int(seen) // FIRST
    return int(seen) % FIRST == 0 and times > 0 and (times & (times - 1)) == 0


@apart
def seek(a: st.Arrays, agent: Key, clock: float, fade: float) -> None:
    """Put an agent beside those that do the same, or make it a leader."""
    ag = find(a.agents, agent)
    me = parties.entity_of(a, agent)
    if not _says_what_it_does(a, me):
        return
    own = -1  # its own place among the leaders
    for i in range(len(a.leaders)):
        if a.leaders[i].key == agent and _leads(a, i):
            own = i
    best, at = 0.0, -1
    for i in range(len(a.leaders)):
        if i == own or not _leads(a, i) or (own >= 0 and not _older(a, i, own)):
            continue
        same = alike(a, me, parties.entity_of(a, a.leaders[i].key))
        if same > best or (same == best and at >= 0 and _older(a, i, at)):
            best, at = same, i
    if best >= ALIKE:
        leader = a.leaders[at].key
        first = find(a.agents, leader)
        if a.agents[first].leader == NOBODY:
            _join(a, first, leader, clock, fade)
        if a.agents[ag].leader != leader:
            _join(a, ag, leader, clock, fade)
    elif own < 0:
        i = _place(a)
        a.leaders[i].key = agent
        a.leaders[i].w = clock
        a.leaders_dirty[i] = 1
        if a.agents[ag].leader != NOBODY:
            _join(a, ag, NOBODY, clock, fade)


@apart
def alike(a: st.Arrays, one: Key, other: Key) -> float:
    """Share of what two agents do that is the same, from 0 to 1: of tools, of roots, or the mean of both."""
    tools, roots = _overlap(a, TOOL, one, other), _overlap(a, ROOT, one, other)
    return tools if roots < 0 else (tools + roots) / 2.0


@apart
def _overlap(a: st.Arrays, fact: int, one: Key, other: Key) -> float:
    """Overlap of two agents' shares of a fact's values, over the most used ones of the first; -1 if neither says anything of it."""
    mine, its = mix(facts.place(fact, 0), one), mix(facts.place(fact, 0), other)
    i, j = find(a.facts, mine), find(a.facts, its)
    if i < 0 and j < 0:
        return -1.0
    p = find(a.profiles, profile_of(one, fact))
    if i < 0 or j < 0 or p < 0:
        return 0.0
    out = 0.0
    for k in range(schema.USUAL):
        value = a.profiles_body[p, k]
        if value == np.uint64(0):
            break
        x, y = find(a.facts, facts.of_value(mine, value)), find(a.facts, facts.of_value(its, value))
        if x >= 0 and y >= 0:
            out += min(facts.count(a.facts, x) / a.facts[i].w, facts.count(a.facts, y) / a.facts[j].w)
    return float(min(1.0, out))


@apart
def _says_what_it_does(a: st.Arrays, me: Key) -> bool:
    """Whether its events name tools or resources; where they name no tool, the action stands for it."""
    if find(a.facts, mix(facts.place(ROOT, 0), me)) >= 0:
        return True
    p = find(a.profiles, profile_of(me, TOOL))
    return p >= 0 and find(a.facts, mix(facts.place(ACTION, a.profiles_body[p, 0]), me)) >= 0


@apart
def _leads(a: st.Arrays, i: int) -> bool:
    """Whether a place among the leaders is taken by one: its agent is still known, and follows no other."""
    key = a.leaders[i].key
    ag = find(a.agents, key) if key != NOBODY else -1
    return ag >= 0 and (a.agents[ag].leader == NOBODY or a.agents[ag].leader == key)


@apart
def _older(a: st.Arrays, i: int, j: int) -> bool:
    return bool(a.leaders[i].w < a.leaders[j].w or (a.leaders[i].w == a.leaders[j].w and i < j))


@apart
def _place(a: st.Arrays) -> int:
    """A free place for a leader, or that of the one that has been silent longest."""
    out, oldest = 0, np.inf
    for i in range(len(a.leaders)):
        if not _leads(a, i):
            return i
        last = a.agents[find(a.agents, a.leaders[i].key)].w
        if last < oldest:
            out, oldest = i, last
    return out


@apart
def _join(a: st.Arrays, ag: int, leader: Key, clock: float, fade: float) -> None:
    """Move an agent to the cohort of a leader, with what it is known for."""
    agent = a.agents[ag].key
    me = parties.entity_of(a, agent)
    old = parties.cohort_of(a, NOBODY, ag)
    a.agents[ag].leader = leader
    a.agents_dirty[ag] = 1
    new = parties.cohort_of(a, NOBODY, ag)
    left, co = find(a.cohorts, old), parties.cohort_row(a, new, clock)
    a.cohorts[co].since = min(a.cohorts[co].since, a.agents[ag].first)
    if left >= 0:
        a.cohorts[left].agents -= 1
        a.cohorts_dirty[left] |= 1
    a.cohorts[co].agents += 1
    _bring_facts(a, me, new, 1.0 / fade)
    tools = find(a.profiles, profile_of(me, TOOL))
    for k in range(N_AMOUNTS - 1):
        for v in range(schema.USUAL):
            tool = a.profiles_body[tools, v] if tools >= 0 else NOBODY
            if tool != NOBODY:
                _bring_amount(a, amounts.place(k, tool), me, old, new, clock)
    _bring_amount(a, amounts.place(N_AMOUNTS - 1, NOBODY), me, old, new, clock)
    for k in range(N_TAILS):
        a.cohorts_body[co, schema.PEER_TAILS + k] += a.agents_body[ag, schema.OWN_TAILS + k]
        for half in range(schema.BINS // schema.HALF):
            mine = find(a.tails, tails.half_of(tails.place(k, me), half))
            if mine < 0:
                continue
            to = tails.half_of(tails.place(k, new), half)
            i = tails.row(a.tails, a.tails_body, a.tails_dirty, a.tally[schema.TABLES.index("tails")], to, clock)
            for x in range(schema.HALF):
                a.tails_body[i, x] += a.tails_body[mine, x]
    for x in range(2 * schema.HALF_HOURS):
        a.cohorts_body[co, schema.PEER_HOURS + x] += a.agents_body[ag, schema.OWN_HOURS + x]


@apart
def _bring_facts(a: st.Arrays, me: Key, new: Key, now: float) -> None:
    """Count in the new cohort, as of one agent, the values that it uses most, and which tool it uses after which."""
    for f in range(len(NAMED_FACTS)):
        fact = NAMED_FACTS[f]
        p = find(a.profiles, profile_of(me, fact))
        for k in range(schema.USUAL):
            value = a.profiles_body[p, k] if p >= 0 else NOBODY
            if value != NOBODY:
                _bring(a, facts.place(fact, 0), value, me, new, now)
    p = find(a.profiles, profile_of(me, TOOL))
    if p < 0:
        return
    for k in range(schema.USUAL):
        if a.profiles_body[p, k] == NOBODY:
            continue
        _bring(a, facts.place(TRANSITION, 0), a.profiles_body[p, k], me, new, now)
        for before in range(schema.USUAL):
            if a.profiles_body[p, before] != NOBODY:
                _bring(a, facts.place(TRANSITION, a.profiles_body[p, before]), a.profiles_body[p, k], me, new, now)


@apart
def _bring(a: st.Arrays, base: Key, value: Key, me: Key, new: Key, now: float) -> None:
    i = find(a.facts, facts.of_value(mix(base, me), value))
    weight = min(now, facts.count(a.facts, i)) if i >= 0 else 0.0
    if weight <= 0:
        return
    context = mix(base, new)
    for key in (context, facts.of_value(context, value)):
        j, fresh = facts.row(a.facts, a.facts_dirty, a.tally[schema.TABLES.index("facts")], key, -1)
        a.facts[j].w += weight
    if fresh:
        a.facts[find(a.facts, context)].d += weight


@apart
def _bring_amount(a: st.Arrays, place: Key, me: Key, old: Key, new: Key, clock: float) -> None:
    """Let an agent's amounts count among those of its new cohort, and no longer among the present ones of the old."""
    i = find(a.amounts, mix(place, me))
    if i < 0 or a.amounts[i].n <= 0:
        return
    mine = a.amounts[i]
    now = mine.z * math.exp(-(clock - mine.t) / amounts.Z_FADE)
    o = find(a.amounts, mix(place, old))
    if o >= 0:
        a.amounts[o].a = max(0.0, a.amounts[o].a - 1.0)
        a.amounts[o].z -= mine.z * math.exp(-(a.amounts[o].t - mine.t) / amounts.Z_FADE)
        a.amounts_dirty[o] |= 1
    c, _ = amounts.row(a.amounts, a.amounts_dirty, a.tally[schema.TABLES.index("amounts")], mix(place, new), clock)
    a.amounts[c].z = a.amounts[c].z * math.exp(-(clock - a.amounts[c].t) / amounts.Z_FADE) + now
    a.amounts[c].t = clock
    a.amounts[c].a += 1.0
    amounts.pool(a.amounts, c, i)
