"""What a person's verdict does to what was learned: of the facts and amounts that an alert named, for one agent.

The score doubts, a person knows. *Benign*: what doubt held back is counted, at the agent and, as of one more agent, above it; and each fact
counts for the agent as if it were one in four of its context, so the same again pays nothing. The surplus is no observation: it
stands beside the count (`d` of a value's row), fades like every count, and so a verdict that is not used expires by itself. An
amount becomes the edge of the usual, a sum begins at 0, the share of broken clearance and odd hours that it has reached is ordinary for it.

*Malicious*: what the facts and tails taught is taken back, from the cohort and the fleet too if no other agent has shown them. A fact that the
agent had hardly ever shown before is *marked* (`d` below 0), an amount gets a ceiling: halfway, on a log scale, from the usual to what was seen.
An event that bears a mark or passes a ceiling is scored as ever, and teaches nothing but its session: repeated, it stays
as strange as it was. That is the defence against a poisoned baseline (Barreno, Nelson, Joseph and Tygar 2010): what is known to be
hostile is no training data. The last verdict on a fact or an amount holds.

What it misses: a series (`models.rhythm`), which goes on judging by its own range; what the alert does not name, such as the second strangest fact of a group; a mark gives way two years after it was set.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from models import amounts, facts, ordinal, parties, schema, tails
from models import state as st
from models.compiled import inline, njit
from models.signals import (
    BROADEST,
    CLEARANCE,
    DOMAIN,
    DORMANCY,
    FLOW,
    N_FACTS,
    N_NAMED,
    OFF_HOURS,
    RECIPIENT,
    REPEATS,
    UNVOUCHED,
)
from models.table import Array, Key, claim, find, mix

SHARE = 0.25  # of its context: 2 bits, which are within every dead zone
EDGE = 2.0  # deviations
MARK = 64.0  # events that a marked row is worth, so that no flood of names pushes it out
RARE = 0.5  # uses before, from which on a fact is known to the agent: it is taken back, not marked
PEERS = 2.0  # that use what was called malicious: it is not marked
THEIRS = np.isin(np.arange(N_FACTS), (RECIPIENT, DOMAIN, FLOW, UNVOUCHED))  # of who receives, peers excuse nobody
FACT_ROWS = 6  # that a verdict may add for each fact: context and value at three levels
ANY, SURE = np.inf, -1.0  # see `Judged.most`
FACTS = schema.TABLES.index("facts")


class Judged(NamedTuple):
    """What an alert named, as numbers: n facts, m amounts, t tails."""

    agent: Key
    cohort: Key
    attribute: Array  # (n,)
    context: Array
    value: Array
    own: Array  # the agent's count before
    most: Array  # only if the agent has shown it, so often at most; SURE: in any case
    amount: Array  # (m,) number of the amount, in the order of `models.signals.AMOUNTS`
    tool: Array
    summed: Array  # what has added up, not a single one
    seen: Array  # on the amount's log scale, as the next two
    typical: Array
    high: Array  # rarely above
    tail: Array  # (t,)
    times: Array  # that it was reached


@njit
def benign(a: st.Arrays, j: Judged) -> None:
    """Count in full what doubt held back, and let the same again be ordinary for the agent."""
    now, fade, entity, mark, keys, slots, counts = _room(a, j)
    for n in range(len(j.attribute)):
        base, value, broadest = facts.place(j.attribute[n], j.context[n]), j.value[n], BROADEST[j.attribute[n]]
        facts.predict(a.facts, base, value, entity, fade, keys, slots, counts, 0, broadest)
        i = slots[0, 2, 1]
        if not _is_on(j, n, i, counts[0, 2, 0]):
            continue
        if i >= 0 and a.facts[i].d < 0:  # no longer marked
            a.facts[i].w = max(0.0, a.facts[i].w + a.facts[i].d)
        if i >= 0:
            a.facts[i].d = 0.0
            a.facts_dirty[i] |= 1
        facts.predict(a.facts, base, value, entity, fade, keys, slots, counts, 0, broadest)
        held_back = 1.0 - counts[0, 2, 0]
        if held_back > 0:
            counts[0, 2, 0] = 0.0  # the level above learns what is new
            facts.learn(a.facts, a.facts_dirty, a.tally[FACTS], keys, slots, counts, 0, now, held_back, mark, broadest)
        i, total = find(a.facts, keys[0, 2, 1]), find(a.facts, keys[0, 2, 0])
        if i >= 0 and total >= 0:
            lent = _lent(a, j, n, entity, now, counts[0]) if j.attribute[n] >= N_NAMED else 0.0
            a.facts[i].d = max(0.0, SHARE * (a.facts[total].w + lent) - a.facts[i].w)
            a.facts_dirty[i] |= 1
    for m in range(len(j.amount)):
        i = find(a.amounts, _amount(j, m, entity[2]))
        if i < 0:
            continue
        a.amounts_dirty[i] |= 1
        a.amounts[i].s = 0.0
        if j.seen[m] >= a.amounts[i].never:
            a.amounts[i].never = 0.0
        if not j.summed[m]:
            off = (j.seen[m] - a.amounts[i].m) / EDGE
            a.amounts[i].v = max(a.amounts[i].v, off * off if off > 0 else 0.0)
    ag = find(a.agents, j.agent)
    if ag < 0:
        return
    a.agents_dirty[ag] = 1
    a.agents_body[ag, schema.OWN_AGAIN : schema.OWN_WIDTH] = 0.0  # what had been gathered against it
    for t in range(len(j.tail)):
        if j.tail[t] == OFF_HOURS:
            a.agents[ag].night = 0.0
        whole = j.tail[t] in (CLEARANCE, DORMANCY, OFF_HOURS, REPEATS)  # of an amount, what was seen is now the edge
        for half in range(schema.BINS // schema.HALF):
            i = find(a.tails, tails.half_of(tails.place(j.tail[t], entity[2]), half))
            if i < 0:
                continue
            a.tails_dirty[i] |= 1
            for x in range(1 if half == 0 else 0, schema.HALF):
                if a.tails_body[i, x] > 0 if whole else half * schema.HALF + x <= tails.bin_of(EDGE) + 1:
                    a.tails_body[i, x] = max(
                        a.tails_body[i, x], SHARE * a.agents_body[ag, schema.OWN_TAILS + j.tail[t]]
                    )


@njit
def malicious(a: st.Arrays, j: Judged) -> None:
    """Take back what was taught, and let nothing be learned from its like."""
    now, fade, entity, mark, keys, slots, counts = _room(a, j)
    for n in range(len(j.attribute)):
        base, value, broadest = facts.place(j.attribute[n], j.context[n]), j.value[n], BROADEST[j.attribute[n]]
        facts.predict(a.facts, base, value, entity, fade, keys, slots, counts, 0, broadest)
        i = slots[0, 2, 1]
        if not _is_on(j, n, i, counts[0, 2, 0]):
            continue
        own, peers = j.own[n], counts[0, 1, 0]
        count = max(0.0, a.facts[i].w + min(0.0, a.facts[i].d)) * fade if i >= 0 else 0.0
        keep = min(own, count)
        _untaught(a, slots[0, 2, 0], (count - keep) * now, now if own <= 0 else 0.0)
        if own <= 0 and _alone(a, base, value, j.agent):
            taught = 0.0
            for level in range(facts.LEVELS - 2, -1, -1):
                context, above = slots[0, level, 0], slots[0, level, 1]
                if above >= 0:
                    taught = a.facts[above].w
                    a.facts[above].w = 0.0
                    a.facts_dirty[above] |= mark[level] | st.TAKEN
                elif level < broadest:  # it is not counted here: of c at the cohort the share s/(c + s) was taught
                    s = counts[0, level + 1, 3]
                    taught = s * math.log1p(taught * fade / s) * now
                if context >= 0 and taught > 0:
                    _untaught(a, context, taught, now)
                    a.facts_dirty[context] |= mark[level] | st.TAKEN
        i, _ = claim(a.facts, a.facts_dirty, a.tally[FACTS], keys[0, 2, 1])
        # What peers use daily is no weapon: an agent that is new would else go on being told of for its work.
        common = not THEIRS[j.attribute[n]] and peers - min(1.0, count) >= PEERS
        marks = MARK if own < RARE and not common else 0.0
        a.facts[i].w = (keep + marks) * now
        a.facts[i].d = -marks * now
    for m in range(len(j.amount)):
        i = find(a.amounts, _amount(j, m, entity[2]))
        if i < 0 or j.summed[m]:
            continue
        a.amounts_dirty[i] |= 1
        a.amounts[i].m = min(a.amounts[i].m, j.typical[m])
        if j.seen[m] > j.high[m]:
            ceiling = max(j.high[m], (j.typical[m] + j.seen[m]) / 2.0)
            a.amounts[i].never = min(a.amounts[i].never, ceiling) if a.amounts[i].never > 0 else ceiling
    for t in range(len(j.tail)):
        for half in range(schema.BINS // schema.HALF):
            i = find(a.tails, tails.half_of(tails.place(j.tail[t], entity[2]), half))
            c = find(a.tails, tails.half_of(tails.place(j.tail[t], entity[1]), half))
            if i < 0 or c < 0:
                continue
            a.tails_dirty[i] |= 1
            a.tails_dirty[c] |= 1
            low = schema.ALL_HISTOGRAMS + j.tail[t] * schema.BINS + half * schema.HALF
            fleet = a.fleet_body[0, low : low + schema.HALF]
            for x in range(
                1 if half == 0 else 0, schema.HALF
            ):  # those that this agent has reached are taken back from all
                back = min(a.tails_body[i, x], j.times[t] * now)
                a.tails_body[i, x] -= back
                a.tails_body[c, x] = max(a.tails_body[i, x], a.tails_body[c, x] - back)
                fleet[x] = max(a.tails_body[c, x], fleet[x] - back)


@inline
def marked(head: Array, slot: int) -> bool:
    """Whether an agent's row of a value bears the mark of a malicious verdict."""
    return slot >= 0 and head[slot].d < 0


@njit
def _room(a: st.Arrays, j: Judged) -> Any:
    age = (a.fleet[0].clock - a.fleet[0].begin) / schema.HALF_LIFE
    entity = np.zeros(facts.LEVELS, np.uint64)
    entity[0] = parties.fleet_entity()
    ag = find(a.agents, j.agent)
    entity[1] = parties.cohort_of(a, j.cohort, ag)
    entity[2] = parties.entity_of(a, j.agent)
    keys = np.zeros((1, facts.LEVELS, 2), np.uint64)
    slots = np.zeros((1, facts.LEVELS, 2), np.int64)
    mark = np.array([1 | st.SHARED, parties.mark_of(a, j.cohort, ag), 1], np.uint8)
    return 2.0**age, 2.0**-age, entity, mark, keys, slots, np.zeros((1, facts.LEVELS, 4))


@inline
def _lent(a: st.Arrays, j: Judged, n: int, entity: Array, now: float, steps: Array) -> float:
    """Weight that the levels above lend to all other steps of a scale: of an agent that has done little it is most of what judges it."""
    base = facts.place(j.attribute[n], j.context[n])
    rarity = ordinal.rarity(a.facts, base, base, int(j.value[n]), entity, now, steps)
    return float(max(0.0, rarity * (steps[2, 0] + now) - steps[2, 1]))


@inline
def _is_on(j: Judged, n: int, slot: int, count: float) -> bool:
    """Whether a verdict is on a fact that the agent has shown so often; see `Judged.most`."""
    return j.most[n] < 0 or (slot >= 0 and count <= j.most[n])


@inline
def _amount(j: Judged, m: int, entity: Key) -> Key:
    return mix(amounts.place(j.amount[m], j.tool[m]), entity)


@inline
def _untaught(a: st.Arrays, context: int, weight: float, distinct: float) -> None:
    """Take a weight, and a value that is no longer one, from a context's row."""
    if context >= 0:
        a.facts[context].w = max(0.0, a.facts[context].w - weight)
        a.facts[context].d = max(0.0, a.facts[context].d - min(weight, distinct))
        a.facts_dirty[context] |= 1


@inline
def _alone(a: st.Arrays, base: Key, value: Key, agent: Key) -> bool:
    """Whether no other agent has shown a value. It asks for every agent; verdicts are few."""
    for i in range(len(a.agents)):
        other = a.agents[i].key
        if other == np.uint64(0) or other == agent:
            continue
        if facts.known(a.facts, base, parties.entity_of(a, other), value):
            return False
    return True
