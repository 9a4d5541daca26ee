"""How strange is an event: its facts, amounts, repeats, hour and series, each by what came before it; what of them counts (`models.loop`).

Amounts, sums, hours, repeats and series are read and taught in one visit, read first: nothing that is scored here has seen the event.
"""

from __future__ import annotations

import math

import numpy as np

from models import (
    amounts,
    event,
    facts,
    hours,
    memory,
    ordinal,
    rhythm,
    schema,
    signals,
    sitting,
    tails,
    usual,
    verdict,
)
from models import batch as col
from models import state as st
from models.batch import Batch
from models.compiled import inline
from models.here import AMOUNTS, CALLS, RATE, RATE_MEMORY, RHYTHMS, Here, Room
from models.table import Key, claim, find, mix

AGAIN_HALF_LIFE, AGAIN_KEEP = 2 * 86400.0, 0.99
# Seconds by which a row of repeats is worth less than the others of its table, of which a sitting counts: of it half an hour does.
FADED = 3.5 * 3600.0
FEW_REPEATS = 8.0  # the same so often within ten minutes is no flood
RATE_OFFSET = 4.0  # calls: two within ten minutes where one is usual are no burst
OF_A_CALL = 2  # amounts: its bytes and records
CLAIM = 13.0  # bits: one in 8,192 is the most that a single fact can claim, whatever its counts say


@inline
def step_before(a: st.Arrays, b: Batch, e: int, w: Room, h: Here) -> Key:
    """The tool from which this event's comes: the last one, or, where that was strange and the agent knows the way from there, the last ordinary one."""
    last, ordinary = a.sessions[h.se].tool, a.sessions[h.se].ordinary
    if last == ordinary:
        return last
    known = facts.of_value(mix(facts.place(signals.TRANSITION, ordinary), w.entity[2]), b.tool.hash[e])
    return ordinary if find(a.facts, known) >= 0 else last


@inline
def score_facts(a: st.Arrays, b: Batch, e: int, w: Room, n: int, h: Here) -> None:
    """How improbable is each fact, beyond what it usually costs this agent."""
    f = w.facts
    w.surprise[:] = -1.0
    for q in range(n):
        k = f.attribute[q]
        s = facts.bits(
            facts.predict(
                a.facts,
                facts.place(k, f.context[q]),
                f.value[q],
                w.entity,
                h.fade,
                f.keys,
                f.slots,
                f.counts,
                q,
                signals.BROADEST[k],
            )
        )
        if verdict.marked(a.facts, f.slots[q, 2, 1]):
            _judge(w, k)
        own, begun = f.counts[q, 2, 0], 0.0
        if sitting.stays(k, h) and own > 0 and (not sitting.LEAVES[k] or w.detail[col.SESSION + 2] > 0):
            first = sitting.first_bits(a, h, f.keys[q, 2, 1], f.slots[q, 2, 1])
            if first > s:
                s, own, begun = first, min(own, sitting.NEARLY), sitting.since(a, h, f.keys[q, 2, 1])
        if s > w.surprise[k]:
            w.surprise[k] = s
            at = col.FACT + k * col.FACT_WIDTH
            w.detail[at] = own
            w.detail[at + 1] = f.counts[q, 2, 1]
            w.detail[at + 2] = f.counts[q, 1, 0]
            w.detail[at + 3] = f.counts[q, 0, 0]
            w.detail[at + 4] = f.counts[q, 2, 2]
            w.detail[at + 5] = event.place_in_list(b, e, k, f.entry[q])
            w.detail[at + 6] = f.derived[q]
            if sitting.STAYS[k]:
                w.detail[col.BEGUN + sitting.COLUMN[k]] = begun
    for k in range(signals.N_NAMED):
        if w.surprise[k] >= 0:
            w.mean[k] = usual.usual(a.fleet_body[0], a.cohorts_body[h.co], a.agents_body[h.ag], k, h.age, h.newcomer)
            if usual.BY_TOOL[k]:
                w.mean[k] = usual.with_tool(a.facts, k, b.tool.hash[e], w.entity[2], w.mean[k], h.now)
            if k != signals.UNAPPROVED or b.approved[e] != event.APPROVED:  # an approval is no offence, however rare
                _pay(w, k, min(w.surprise[k] - w.mean[k], CLAIM))


@inline
def score_steps(a: st.Arrays, w: Room, h: Here) -> None:
    """How far is a recipient, and a resource from the person it acts for, as steps that are rare or not."""
    for k in range(signals.N_STEPS):
        step = w.step[k]
        if step < 0:
            continue
        base = facts.place(signals.N_NAMED + k, w.step_of[k])
        above = facts.place(signals.N_NAMED + k, w.step_above[k])
        w.step_bits[k] = math.log2(ordinal.rarity(a.facts, base, above, step, w.entity, h.now, w.steps))
        at = col.FACT + (signals.N_NAMED + k) * col.FACT_WIDTH
        w.detail[at] = w.steps[2, 0] * h.fade
        w.detail[at + 1] = w.steps[2, 1] * h.fade
        w.detail[at + 2] = w.steps[1, 0] * h.fade
        w.detail[at + 3] = w.steps[0, 0] * h.fade
        w.detail[at + 5] = w.step_place[k]
        w.detail[at + 6] = step
        _pay(w, signals.N_NAMED + k, w.step_bits[k])


@inline
def _judge(w: Room, bit: int) -> None:
    """Put down what a person called malicious: a named fact, or behind them an amount."""
    w.judged[0] = True
    if np.int64(w.detail[col.JUDGED]) & (2 << bit) == 0:
        w.detail[col.JUDGED] += 2 << bit


@inline
def _pay(w: Room, k: int, bits: float) -> None:
    w.detail[col.BITS + k] = bits
    pays = w.pays[k, 0] * (bits - w.pays[k, 1])
    if pays > w.group[signals.GROUP_OF[k]]:
        w.group[signals.GROUP_OF[k]] = pays
        w.winner[signals.GROUP_OF[k]] = k


@inline
def with_other_tools(a: st.Arrays, k: int, agent: Key) -> tuple[float, float, float, float]:
    """What one call moves with the tools that an agent uses most: how many tools, their calls, and of these one mean and variance."""
    tools = n = m = v = 0.0
    i = find(a.profiles, memory.profile_of(agent, signals.TOOL))
    if i >= 0:
        for j in range(schema.USUAL):
            at = find(a.amounts, mix(amounts.place(k, a.profiles_body[i, j]), agent))
            if a.profiles_body[i, j] != 0 and at >= 0 and a.amounts[at].n > 0:
                tools += 1.0
                n, m, v = amounts.pooled(n, m, v, a.amounts, at)
    return tools, n, m, v


@inline
def score_amounts(a: st.Arrays, b: Batch, e: int, w: Room, h: Here, call: Key) -> bool:
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
        a.amounts_dirty[c] |= w.mark[1]
        theirs = np.nan
        if mine.n == 0 and peers.n == 0 and k < OF_A_CALL:
            tools, calls, usually, varies = with_other_tools(a, k, w.entity[2])
            z, centre, spread = amounts.deviate(x, tools, usually, varies, calls, usually, varies)
        else:
            z, centre, spread = amounts.deviate(x, mine.n, mine.m, mine.v, peers.n, peers.m, peers.v)
            theirs = peers.m if peers.n > 0 else centre
        at = col.AMOUNT + k * col.AMOUNT_WIDTH
        w.detail[at] = x
        w.detail[at + 1] = centre
        w.detail[at + 2] = spread
        w.detail[at + 3] = theirs
        w.tail[1 + k] = max(0.0, z)
        if mine.never > 0 and x >= mine.never:
            _judge(w, signals.N_NAMED + k)
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
            a.amounts[c].beats += 1.0  # a cohort has no beat: it counts what it has seen (`models.exchange`)
            amounts.learn(a.amounts, i, x, 0.0)
    return on_beat


@inline
def score_repeats(a: st.Arrays, b: Batch, e: int, w: Room, h: Here) -> None:
    """How often the agent has lately reached the same: a recipient, or without one a resource by a tool; count it."""
    most = 0.0
    worth = h.clock - FADED
    low, high = b.recipient_at[e], b.recipient_at[e + 1]
    if low == high and b.resource.hash[e] == 0:
        return  # it does not say what it reached
    for j in range(low, max(high, low + 1)):
        same = b.recipient.hash[j] if low < high else mix(b.tool.hash[e], b.resource.hash[e])
        edge = mix(mix(np.uint64(734), w.entity[2]), same)
        i = find(a.calls, edge)
        before = a.calls[i].n * math.exp(-(worth - a.calls[i].w) / RATE_MEMORY) if i >= 0 else 0.0
        if before > most:
            most = before
            w.detail[col.SAME + 1] = j - low
        if h.learned:
            i, _ = claim(a.calls, a.calls_dirty, a.tally[CALLS], edge)
            a.calls[i].n = before + 1.0
            a.calls[i].w = worth
    w.detail[col.SAME] = most
    w.tail[signals.REPEATS] = max(0.0, math.log((most + 1.0) / FEW_REPEATS))


@inline
def score_hour(a: st.Arrays, b: Batch, e: int, w: Room, h: Here) -> None:
    """How unusual is the hour at which this session begins, and what of it adds up over the night; learn it."""
    own = a.agents_body[h.ag, schema.OWN_HOURS : schema.OWN_WINDOW]
    peers = a.cohorts_body[h.co, schema.PEER_HOURS : schema.PEER_WIDTH]
    bits, near, total = hours.surprise(own, peers, b.time[e], h.fade)
    w.detail[col.HOURS] = bits
    w.detail[col.HOURS + 1] = near
    w.detail[col.HOURS + 2] = total
    w.tail[signals.OFF_HOURS] = hours.add_up(a.agents, h.ag, bits, h.clock)
    if not w.judged[0]:
        hours.learn(own, peers, b.time[e], bits, h.now)


@inline
def score_series(a: st.Arrays, b: Batch, e: int, w: Room, h: Here) -> None:
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
def score_tails(a: st.Arrays, w: Room, h: Here) -> None:
    """Bits of each tail by what came before, one exceedance lent by the level above."""
    fleet, peers, own = a.fleet_body[0], a.cohorts_body[h.co], a.agents_body[h.ag]
    for k in range(signals.N_TAILS):
        x = w.tail[k]
        w.bins[k] = -1
        if x < 0 and k in (signals.BYTES, signals.RECORDS, signals.OFF_HOURS, signals.REPEATS, signals.DORMANCY):
            continue  # only what could have had a value counts as having had none
        w.bins[k] = tails.bin_of(x) if x > 0 else 0
        if x <= 0 or fleet[schema.ALL_TAILS + k] <= 0:
            continue
        at = w.bins[k]
        low = schema.ALL_HISTOGRAMS + k * schema.BINS
        total = fleet[schema.ALL_TAILS + k]
        rarity = tails.lend(tails.above(fleet[low : low + schema.BINS], total, at), total, h.now, 1.0)
        total = peers[schema.PEER_TAILS + k]
        above = tails.weight_above(a.tails, a.tails_body, tails.place(k, h.cohort), total, at)
        rarity = tails.lend(above, total, h.now, rarity)
        total = own[schema.OWN_TAILS + k]
        above = tails.weight_above(a.tails, a.tails_body, tails.place(k, w.entity[2]), total, at)
        rarity = tails.lend(above, total, h.now, rarity)
        _pay(w, signals.N_FACTS + k, math.log2(rarity))


@inline
def add_again(a: st.Arrays, w: Room, h: Here) -> None:
    """What is plainly strange counts up to double where it was so in the days before; what that has then come to."""
    fade = 2.0 ** (-h.gap / AGAIN_HALF_LIFE) * AGAIN_KEEP
    for n in range(signals.N_AGAIN):
        g = signals.AGAIN_GROUP[n]
        left = float(a.agents_body[h.ag, schema.OWN_AGAIN + n]) * fade
        excess = w.group[g] - signals.AGAIN_DEAD[n]
        if w.winner[g] < 0 or w.winner[g] == signals.RHYTHM or excess <= 0:  # a series repeats itself
            w.again[n] = left
            continue
        w.group[g] += signals.AGAIN_SHARE[n] * min(left, excess)
        w.again[n] = left + excess
