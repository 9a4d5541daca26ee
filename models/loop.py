"""The compiled loop: each event of a batch is scored by what came before it, then learned.

For each event: facts → bits (`facts`), less the usual (`usual`), amounts → deviates and sums (`amounts`), their tails → bits
(`tails`), groups → the event's own score, the agent's pool → the score, the alert threshold (`budget`), and then learning with
doubt. Nothing here allocates per event, and the result does not depend on where batches are cut: when a table must grow,
the loop returns at that event and is called again.

The pool is a leaky sum per agent, `P ← P · 2^(−Δt/30 min) · 0.85 + max(0, s − 3)`, and the score is max(s, min(P, 4·s)): an event may
draw on it only in proportion to evidence of its own, so the harmless event after an incident stays harmless.

Doubt: with τ the running 95 % quantile of the fleet's scores, an event teaches facts and usual surprises with weight 1 up to
τ and max(0.05, (τ/score)²) above, so what looks hostile teaches little. Amounts learn with their updates clipped.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from models import amounts, budget, clock, facts, levels, memory, parties, signals, tails, usual
from models import batch as col
from models import state as st
from models.batch import Batch, Scores
from models.compiled import inline, njit
from models.table import Array, Key, claim, find, mix

POOL_HALF_LIFE, POOL_KEEP, POOL_DEAD, POOL_GAIN = 1800.0, 0.85, 3.0, 4.0
DOUBT_LEAST, DOUBT_QUANTILE, DOUBT_RATE, DOUBT_FLOOR = 0.05, 0.95, 0.02, 3.0
RATE_MEMORY = 600.0  # seconds
SESSION_GAP = 1800.0  # seconds: a session where the event names none
KEEP = 5.0  # bits: an event with more of its own becomes part of its agent's episode,
# which ends after an hour without one, or after a day (seconds).
EPISODE_GAP, EPISODE_LONGEST = 3600.0, 86400.0
YOUNG_EVENTS = 50  # an agent with fewer is warming
HOUR_SECONDS, DAY = 3600.0, 86400.0
FINISHED, RESCALE = -1, -2
NAMED = np.isin(np.arange(signals.N_FACTS), memory.NAMED_FACTS)
GROWING_TABLES = np.array(st.GROWING)
# Rows that one event may add to each of them: so many, and so many for each of its facts.
ROOM = np.array([2, 8, 16, 1, 1, 1, 1, 1, 0, 0, 0, 2])
ROOM_FACT = np.array([6, 0, 0, 0, 0, 0, 0, 0, 2, 1, 1, 0])


class Scratch(NamedTuple):
    """Working memory of one call."""

    attribute: Array
    context: Array
    value: Array
    entry: Array
    derived: Array
    keys: Array
    slots: Array
    counts: Array
    entity: Array
    surprise: Array
    mean: Array
    tail: Array
    bins: Array
    group: Array
    winner: Array
    amount: Array
    detail: Array
    saved: Array


@njit
def run(a: st.Arrays, b: Batch, out: Scores, start: int, alerts_per_day: float, own: Array) -> tuple[int, int]:
    """Score and learn events from `start` on; `own` holds the hashes of the organisation's own domains.

    Returns the next event and FINISHED, or the event before which the table of that number must grow, or RESCALE.
    """
    n = len(b.time)
    most = 0
    for e in range(n):
        most = max(most, _most_facts(b.scope_at, b.recipient_at, e))
    attribute = np.zeros(most, np.int64)
    context = np.zeros(most, np.uint64)
    value = np.zeros(most, np.uint64)
    entry = np.zeros(most, np.int64)
    derived = np.zeros(most)
    keys = np.zeros((most, facts.LEVELS, 2), np.uint64)
    slots = np.zeros((most, facts.LEVELS, 2), np.int64)
    counts = np.zeros((most, facts.LEVELS, 4))
    entity = np.zeros(facts.LEVELS, np.uint64)
    surprise = np.zeros(signals.N_FACTS)
    mean = np.zeros(signals.N_FACTS)
    tail = np.zeros(signals.N_TAILS)
    bins = np.zeros(signals.N_TAILS, np.int64)
    group = np.zeros(signals.N_GROUPS)
    winner = np.zeros(signals.N_GROUPS, np.int64)
    amount = np.zeros(signals.N_AMOUNTS)
    detail = np.zeros(col.DETAIL, np.float32)
    saved = a.fleet.copy()
    scratch = Scratch(
        attribute,
        context,
        value,
        entry,
        derived,
        keys,
        slots,
        counts,
        entity,
        surprise,
        mean,
        tail,
        bins,
        group,
        winner,
        amount,
        detail,
        saved,
    )
    return _events(a, b, out, start, alerts_per_day, own, scratch)


@inline
def _events(
    a: st.Arrays, b: Batch, out: Scores, start: int, alerts_per_day: float, own: Array, scratch: Scratch
) -> tuple[int, int]:
    n = len(b.time)
    attribute = scratch.attribute
    context = scratch.context
    value = scratch.value
    entry = scratch.entry
    derived = scratch.derived
    keys = scratch.keys
    slots = scratch.slots
    counts = scratch.counts
    entity = scratch.entity
    surprise = scratch.surprise
    mean = scratch.mean
    tail = scratch.tail
    bins = scratch.bins
    group = scratch.group
    winner = scratch.winner
    amount = scratch.amount
    detail = scratch.detail
    saved = scratch.saved
    fleet_row = a.fleet_body[0]
    entity[0] = parties.fleet_entity()

    for e in range(start, n):
        full = _full(a.tally, a.limits, _most_facts(b.scope_at, b.recipient_at, e))
        if full >= 0:
            return e, full
        f = a.fleet[0]
        agent = b.agent.hash[e]
        before_s = f.clock if f.events > 0 else b.time[e]
        saved[0] = f
        met = find(a.agents, agent)
        known = met >= 0 and a.agents[met].seen >= clock.KNOWN
        mark = clock.advance(a.fleet, b.time[e], agent, a.tally[3][0], known)
        now_s = f.clock
        age_of_state = (now_s - f.begin) / st.HALF_LIFE
        if age_of_state > st.TOO_FAR:
            a.fleet[0] = saved[0]  # this event will begin again
            return e, RESCALE
        now = 2.0**age_of_state
        fade = 1.0 / now
        learned = True
        # The id alone would let an agent hide behind one of its own: a repeat has the same content too.
        ticket = mix(mix(agent, b.event[e]), mix(b.resource.hash[e], b.tool.hash[e]))
        ticket = mix(ticket, np.uint64(np.int64(b.time[e] * 1000.0)))
        for j in range(b.recipient_at[e], b.recipient_at[e + 1]):
            ticket = mix(ticket, b.recipient.hash[j])
        at_recent = np.int64(ticket & np.uint64(len(a.recent) - 1))
        if a.recent[at_recent].key == ticket:
            learned = False
            mark |= col.REPEATED
            a.fleet[0].repeated += 1

        # Who.
        cohort_key = parties.cohort_entity(b.cohort[e])
        entity[1] = cohort_key
        entity[2] = parties.agent_entity(agent)
        co, fresh = claim(a.cohorts, a.cohorts_dirty, a.tally[4], cohort_key)
        if fresh:
            a.cohorts_body[co, :] = 0
            a.cohorts[co].agents = 0
        ag, fresh = claim(a.agents, a.agents_dirty, a.tally[3], agent)
        if fresh:
            a.agents_body[ag, :] = 0
            a.agents[ag].seen = 0
            a.agents[ag].first = a.agents[ag].w = now_s
            a.agents[ag].pool = a.agents[ag].calls = 0
            a.agents[ag].peak = -1
            a.agents[ag].kept = a.agents[ag].begin = -1e18
            a.cohorts[co].agents += 1
            a.fleet[0].warming += 1
        a.agents[ag].cohort = b.cohort[e]
        own_row = a.agents_body[ag]
        peer_row = a.cohorts_body[co]
        gap = now_s - a.agents[ag].w
        a.cohorts[co].w = now_s
        if learned:
            a.agents[ag].w = now_s
            a.agents[ag].seen += 1
        seen = max(1.0, a.agents[ag].seen)
        age = min(st.AGES - 1, int(math.log2(seen)))
        if seen < YOUNG_EVENTS:
            mark |= col.WARMING
        elif seen == YOUNG_EVENTS and learned:
            a.fleet[0].warming -= 1
        session = b.session[e]
        if session == np.uint64(0):
            session = np.uint64(np.int64(b.time[e] // SESSION_GAP)) + np.uint64(1)
        session = mix(entity[2], session)
        se, fresh = claim(a.sessions, a.sessions_dirty, a.tally[5], session)
        if fresh:
            a.sessions[se].tool = 0
            a.sessions[se].top = -1
            a.sessions[se].records = a.sessions[se].events = 0
        a.sessions[se].w = now_s
        out.clock[e] = now_s
        detail[:] = 0
        detail[col.SESSION] = a.sessions[se].top
        detail[col.SESSION + 1] = a.sessions[se].records
        detail[col.SESSION + 2] = a.sessions[se].events

        # What it says.
        q = 0
        tool = b.tool.hash[e]
        attribute[q], context[q], value[q], entry[q] = signals.TOOL, 0, tool, e
        q += 1
        for j in range(b.scope_at[e], b.scope_at[e + 1]):
            attribute[q], context[q], value[q], entry[q] = signals.PERMISSION, 0, b.scope.hash[j], j
            q += 1
        if b.root[e] != 0:
            attribute[q], context[q], value[q], entry[q] = signals.ROOT, 0, b.root[e], e
            q += 1
            if b.branch[e] != 0:
                attribute[q], context[q], value[q], entry[q] = signals.BRANCH, 0, b.branch[e], e
                q += 1
            attribute[q], context[q], value[q], entry[q] = signals.RESOURCE, 0, b.resource.hash[e], e
            q += 1
        if b.classification.hash[e] != 0:
            attribute[q], context[q], value[q], entry[q] = signals.CLASSIFICATION, 0, b.classification.hash[e], e
            q += 1
        attribute[q], context[q], value[q], entry[q] = signals.TRANSITION, a.sessions[se].tool, tool, e
        q += 1
        principal = b.principal.hash[e]
        owner = -1
        if principal != 0 and b.root[e] != 0 and (b.branch[e] != 0 or b.in_path[e]):
            o = find(a.owners, b.resource.hash[e])
            if b.in_path[e]:
                owner = 1
            elif o < 0:
                owner = 2
            elif a.owners[o].principal == principal:
                owner = 3
            else:
                owner = 5 if a.owners[o].shared else 4
            attribute[q], context[q], value[q], entry[q] = signals.OWNER, b.root[e], owner, e
            derived[q] = owner
            q += 1
        attribute[q], context[q], value[q], entry[q] = signals.OUTCOME, 0, b.outcome[e], e
        q += 1
        weekend = int(b.time[e] // DAY + 3) % 7 >= 5
        attribute[q], context[q], value[q], entry[q] = (
            signals.HOUR,
            0,
            int(b.time[e] // 7200) % 12 + (100 if weekend else 0),
            e,
        )
        q += 1
        rung = b.rung[e]
        below = 0
        short = 0
        for j in range(b.recipient_at[e], b.recipient_at[e + 1]):
            inside = 1 if parties.is_home(a.facts, own, b.domain.hash[j], b.home[e], fade) else 0
            attribute[q], context[q], value[q], entry[q] = signals.RECIPIENT, 0, b.recipient.hash[j], j
            q += 1
            if b.domain.hash[j] != 0:
                attribute[q], context[q], value[q], entry[q] = signals.DOMAIN, 0, b.domain.hash[j], j
                q += 1
            detail[col.SESSION + 3] += 1 - inside
            close = parties.closeness(
                a.facts,
                a.agents,
                a.contacts,
                a.contacts_body,
                entity,
                agent,
                b.cohort[e] != 0,
                b.recipient.hash[j],
                b.domain.hash[j],
            )
            attribute[q], context[q], value[q], entry[q] = signals.CLOSENESS, inside, close, j
            derived[q] = close
            q += 1
            attribute[q], context[q], value[q], entry[q] = (
                signals.FLOW,
                0,
                mix(rung + 2, mix(np.uint64(inside), b.kind[j] if inside else np.uint64(0))),
                j,
            )
            derived[q] = inside
            q += 1
            if 0 <= b.clearance[j] < rung:
                below += 1
                short = max(short, rung - b.clearance[j])

        # 1. Facts: how improbable is each, beyond what it usually costs this agent.
        surprise[:] = -1.0
        for j in range(q):
            p = facts.predict(
                a.facts,
                facts.place(attribute[j], context[j]),
                value[j],
                entity,
                fade,
                keys,
                slots,
                counts,
                j,
            )
            s = facts.bits(p)
            k = attribute[j]
            if s > surprise[k]:
                surprise[k] = s
                fact_at = col.FACT + k * col.FACT_WIDTH
                detail[fact_at] = counts[j, 2, 0]
                detail[fact_at + 1] = counts[j, 2, 1]
                detail[fact_at + 2] = counts[j, 1, 0]
                detail[fact_at + 3] = counts[j, 0, 0]
                detail[fact_at + 4] = counts[j, 2, 2]
                detail[fact_at + 6] = derived[j]
                detail[fact_at + 5] = entry[j] - (
                    b.scope_at[e]
                    if k == signals.PERMISSION
                    else b.recipient_at[e]
                    if k in (signals.RECIPIENT, signals.DOMAIN, signals.CLOSENESS, signals.FLOW)
                    else e
                )
        group[:] = 0.0
        winner[:] = -1
        for k in range(signals.N_FACTS):
            if surprise[k] < 0:
                continue
            mean[k] = usual.usual(fleet_row, peer_row, own_row, k, age)
            _pay(detail, k, surprise[k] - mean[k], group, winner)

        # 2. Amounts: how far from its own past, and what has added up.
        tail[:] = -1.0
        tail[signals.CLEARANCE] = 2.0 + 2.0 * short + 2.0 * math.log2(below) if below else 0.0
        amount[0] = math.log1p(b.bytes[e])
        amount[1] = math.log1p(b.records[e])
        call = mix(session, tool)
        ca = find(a.calls, call)
        amount[2] = math.log((a.calls[ca].n if ca >= 0 else 0.0) + 1.0)
        amount[3] = math.log(a.agents[ag].calls * math.exp(-gap / RATE_MEMORY) + 1.0)
        for k in range(signals.N_AMOUNTS):
            x = amount[k]
            if math.isnan(x):
                continue
            place = mix(np.uint64(701 + k), tool if k < 3 else np.uint64(0))
            c, _ = amounts.row(a.amounts, a.amounts_dirty, a.tally[1], mix(place, cohort_key), now_s)
            i, fresh = amounts.row(a.amounts, a.amounts_dirty, a.tally[1], mix(place, entity[2]), now_s)
            if fresh:
                a.amounts[c].a += 1.0
            own_amount, peers = a.amounts[i], a.amounts[c]
            z, centre, spread = amounts.deviate(x, own_amount.n, own_amount.m, own_amount.v, peers.n, peers.m, peers.v)
            amount_at = col.AMOUNT + k * col.AMOUNT_WIDTH
            detail[amount_at] = x
            detail[amount_at + 1] = centre
            detail[amount_at + 2] = spread
            detail[amount_at + 3] = peers.m if peers.n > 0 else centre
            tail[1 + k] = max(0.0, z)
            if not learned:
                continue
            summed = amounts.add_up(a.amounts, c, i, z, now_s)
            if k < 3:  # bytes, records and session_calls are summed, in this order
                tail[signals.BYTES_SUM + k] = summed
            amounts.learn(a.amounts, c, x, 1.0)
            amounts.learn(a.amounts, i, x, 0.0)

        # 3. Their bits: the tail of what came before, one exceedance lent by the level above.
        for k in range(signals.N_TAILS):
            x = tail[k]
            bins[k] = -1
            if x < 0 and k in (1, 2):
                continue
            bins[k] = 0
            if x <= 0 or fleet_row[st.ALL_TAILS + k] <= 0:
                if x > 0:
                    bins[k] = tails.bin_of(x)
                continue
            at = tails.bin_of(x)
            bins[k] = at
            mark_k = np.uint64(1001 + k)
            low = st.ALL_HISTOGRAMS + k * st.BINS
            rarity = tails.lend(
                tails.above(fleet_row[low : low + st.BINS], fleet_row[st.ALL_TAILS + k], at),
                fleet_row[st.ALL_TAILS + k],
                now,
                1.0,
            )
            rarity = tails.lend(
                tails.weight_above(a.tails, a.tails_body, mix(mark_k, cohort_key), peer_row[st.PEER_TAILS + k], at),
                peer_row[st.PEER_TAILS + k],
                now,
                rarity,
            )
            rarity = tails.lend(
                tails.weight_above(a.tails, a.tails_body, mix(mark_k, entity[2]), own_row[st.OWN_TAILS + k], at),
                own_row[st.OWN_TAILS + k],
                now,
                rarity,
            )
            _pay(detail, signals.N_FACTS + k, math.log2(rarity), group, winner)

        # 4. The event, and the episode.
        s = 0.0
        for g in range(signals.N_GROUPS):
            if winner[g] >= 0:
                s += group[g]
                detail[col.PAID + winner[g]] = group[g]
                out.parts[e, signals.KIND_OF[winner[g]]] += group[g]
        pool = a.agents[ag].pool * 2.0 ** (-gap / POOL_HALF_LIFE) * POOL_KEEP + max(0.0, s - POOL_DEAD)
        score = max(s, min(pool, POOL_GAIN * s))
        out.own[e] = s
        out.score[e] = score
        out.threshold[e] = budget.threshold(a.fleet)
        if score >= out.threshold[e] and learned:
            mark |= col.NOTABLE
        out.marks[e] = mark
        if not learned:
            continue
        if s >= KEEP or mark & col.NOTABLE:
            row = out.rows[0]
            out.row[e] = row
            out.rows[0] = row + 1
            for k in range(col.DETAIL):
                out.detail[row, k] = detail[k]
            memory.recall(
                a.profiles,
                a.profiles_body,
                a.names,
                a.names_body,
                a.facts,
                entity[2],
                a.sessions[se].tool,
                out.text,
                out.length,
                row,
            )

        # 5. Learn; what looks hostile teaches little.
        a.recent[at_recent].key = ticket
        a.recent_dirty[at_recent] = 1
        a.agents[ag].pool = pool
        ratio = score / max(f.tau, 1e-3)
        weight = 1.0 if ratio <= 1 else max(DOUBT_LEAST, ratio**-2.0)
        out.weight[e] = weight
        if score != f.tau:
            a.fleet[0].tau += DOUBT_RATE * f.tau * (DOUBT_QUANTILE - (1.0 if score <= f.tau else 0.0))
        a.fleet[0].tau = min(max(f.tau, DOUBT_FLOOR), 1e4)
        for k in range(signals.N_FACTS):
            if surprise[k] >= 0:
                usual.learn(fleet_row, peer_row, own_row, k, age, surprise[k], mean[k], weight)
        for j in range(q):
            before = facts.learn(a.facts, a.facts_dirty, a.tally[0], keys, slots, counts, j, now, weight)
            if NAMED[attribute[j]] and (before == 0 or _doubled(before + 1, before + 1 + weight)):
                k = attribute[j]
                memory.remember(
                    a.profiles,
                    a.profiles_body,
                    a.profiles_dirty,
                    a.tally[9],
                    a.facts,
                    mix(entity[2], np.uint64(memory.PROFILE + k)),
                    value[j],
                    keys[j, 2, 0],
                    now_s,
                )
                text, low, high = b.tool.buffer, b.tool.low[e], b.tool.high[e]
                if k == signals.PERMISSION:
                    text, low, high = b.scope.buffer, b.scope.low[entry[j]], b.scope.high[entry[j]]
                elif k == signals.ROOT:
                    text, low, high = b.resource.buffer, b.resource.low[e], b.root_high[e]
                elif k == signals.BRANCH:
                    text, low, high = b.resource.buffer, b.resource.low[e], b.branch_high[e]
                elif k == signals.CLASSIFICATION:
                    text, low, high = (
                        b.classification.buffer,
                        b.classification.low[e],
                        b.classification.high[e],
                    )
                elif k == signals.RECIPIENT:
                    text, low, high = (
                        b.recipient.buffer,
                        b.recipient.low[entry[j]],
                        b.recipient.high[entry[j]],
                    )
                elif k == signals.DOMAIN:
                    text, low, high = b.domain.buffer, b.domain.low[entry[j]], b.domain.high[entry[j]]
                memory.name(a.names, a.names_body, a.names_dirty, a.tally[10], value[j], text, low, high, now_s)
        if b.home[e] != 0:
            _count_home(a.facts, a.facts_dirty, a.tally[0], b.home[e], now)
        for k in range(signals.N_TAILS):
            if bins[k] < 0:
                continue
            low = st.ALL_HISTOGRAMS + k * st.BINS
            fleet_row[st.ALL_TAILS + k] += now
            peer_row[st.PEER_TAILS + k] += now
            own_row[st.OWN_TAILS + k] += now
            if bins[k] > 0:
                mark_k = np.uint64(1001 + k)
                for i in range(1, bins[k] + 1):
                    fleet_row[low + i] += now
                tails.learn(
                    a.tails,
                    a.tails_body,
                    a.tails_dirty,
                    a.tally[2],
                    mix(mark_k, cohort_key),
                    bins[k],
                    now,
                    now_s,
                )
                tails.learn(
                    a.tails,
                    a.tails_body,
                    a.tails_dirty,
                    a.tally[2],
                    mix(mark_k, entity[2]),
                    bins[k],
                    now,
                    now_s,
                )
        a.sessions[se].tool = tool
        a.sessions[se].events += 1
        if b.rung[e] > a.sessions[se].top:
            a.sessions[se].top = b.rung[e]
            a.sessions[se].records = 0
        if b.rung[e] == a.sessions[se].top and not math.isnan(b.records[e]):
            a.sessions[se].records += b.records[e]
        i, fresh = claim(a.calls, a.calls_dirty, a.tally[6], call)
        a.calls[i].n = 1 if fresh else a.calls[i].n + 1
        a.calls[i].w = now_s
        a.agents[ag].calls = a.agents[ag].calls * math.exp(-gap / RATE_MEMORY) + 1.0
        if owner > 0:
            i, fresh = claim(a.owners, a.owners_dirty, a.tally[7], b.resource.hash[e])
            if fresh:
                a.owners[i].principal = principal
                a.owners[i].shared = 0
            elif a.owners[i].principal != principal:
                a.owners[i].shared = 1
            a.owners[i].w = now_s
        for j in range(b.recipient_at[e], b.recipient_at[e + 1]):
            parties.meet(
                a.contacts,
                a.contacts_body,
                a.contacts_dirty,
                a.tally[8],
                b.agent.hash[e],
                b.recipient.hash[j],
                now_s,
            )
            parties.meet(
                a.contacts,
                a.contacts_body,
                a.contacts_dirty,
                a.tally[8],
                b.recipient.hash[j],
                b.agent.hash[e],
                now_s,
            )
        moved = b.bytes[e]
        if math.isnan(moved):
            moved = 1.0 if math.isnan(b.records[e]) else b.records[e]
        for level in (entity[2], cohort_key):
            if levels.learn_level(a.levels, a.levels_body, a.levels_dirty, a.tally[11], level, moved, now_s):
                turn = out.turns[0]
                out.turned[turn] = level
                out.turned_at[turn] = e
                out.turns[0] = turn + 1
                levels.days(a.levels, a.levels_body, find(a.levels, level), out.days, out.days_length, turn)
        if len(out.window) > 0:
            levels.window(
                own_row,
                math.exp(-gap / HOUR_SECONDS),
                b.bytes[e],
                b.records[e],
                b.recipient_at[e + 1] - b.recipient_at[e],
                b.denied[e],
                s,
                out.window,
                e,
            )
        if out.row[e] >= 0:
            if now_s >= a.agents[ag].kept + EPISODE_GAP or now_s >= a.agents[ag].begin + EPISODE_LONGEST:
                a.agents[ag].begin = now_s
                a.agents[ag].peak = -1
            a.agents[ag].kept = now_s
            if score > a.agents[ag].peak:
                budget.count(a.fleet, fleet_row, a.agents[ag].peak, score, now, alerts_per_day)
                a.agents[ag].peak = score
        if now_s > before_s:
            a.fleet[0].days += min(1.0, (now_s - before_s) / DAY) * now
        a.fleet[0].events += 1
    return n, FINISHED


@inline
def _most_facts(scope_at: Array, recipient_at: Array, e: int) -> int:
    """How many facts event e can have: four for each recipient, one for each permission, and twelve others."""
    return int(12 + scope_at[e + 1] - scope_at[e] + 4 * (recipient_at[e + 1] - recipient_at[e]))


@inline
def _full(tally: Array, limits: Array, n_facts: int) -> int:
    """The first table that has no room for one more event, or -1."""
    for i in range(len(GROWING_TABLES)):
        k = GROWING_TABLES[i]
        if tally[k, 0] + ROOM[i] + ROOM_FACT[i] * n_facts > limits[k]:
            return int(k)
    return -1


@inline
def _doubled(before: float, after: float) -> bool:
    """Whether a count has passed a power of two: its highest bit is another."""
    x, y = int(before), int(after)
    return y > x and (x ^ y) > x


@inline
def _pay(detail: Array, k: int, bits: float, group: Array, winner: Array) -> None:
    detail[col.BITS + k] = bits
    pays = signals.WEIGHT_OF[k] * (bits - signals.DEAD_OF[k])
    if pays > group[signals.GROUP_OF[k]]:
        group[signals.GROUP_OF[k]] = pays
        winner[signals.GROUP_OF[k]] = k


@inline
def _count_home(head: Array, dirty: Array, tally: Array, home: Key, now: float) -> None:
    """Count the domain of a principal, for the fleet."""
    context = mix(facts.place(parties.HOME, 0), parties.fleet_entity())
    for key in (context, mix(context, home + np.uint64(7))):
        i, fresh = claim(head, dirty, tally, key)
        if fresh:
            head[i].w = head[i].d = 0
        head[i].w += now
