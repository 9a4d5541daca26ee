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

    facts_head = a.facts
    facts_dirty = a.facts_dirty
    facts_tally = a.tally[0]
    amounts_head = a.amounts
    amounts_dirty = a.amounts_dirty
    amounts_tally = a.tally[1]
    tails_head = a.tails
    tails_body = a.tails_body
    tails_dirty = a.tails_dirty
    tails_tally = a.tally[2]
    agents_head = a.agents
    agents_body = a.agents_body
    agents_dirty = a.agents_dirty
    agents_tally = a.tally[3]
    cohorts_head = a.cohorts
    cohorts_body = a.cohorts_body
    cohorts_dirty = a.cohorts_dirty
    cohorts_tally = a.tally[4]
    sessions_head = a.sessions
    sessions_dirty = a.sessions_dirty
    sessions_tally = a.tally[5]
    calls_head = a.calls
    calls_dirty = a.calls_dirty
    calls_tally = a.tally[6]
    owners_head = a.owners
    owners_dirty = a.owners_dirty
    owners_tally = a.tally[7]
    contacts_head = a.contacts
    contacts_body = a.contacts_body
    contacts_dirty = a.contacts_dirty
    contacts_tally = a.tally[8]
    profiles_head = a.profiles
    profiles_body = a.profiles_body
    profiles_dirty = a.profiles_dirty
    profiles_tally = a.tally[9]
    names_head = a.names
    names_body = a.names_body
    names_dirty = a.names_dirty
    names_tally = a.tally[10]
    levels_head = a.levels
    levels_body = a.levels_body
    levels_dirty = a.levels_dirty
    levels_tally = a.tally[11]
    recent_head = a.recent
    recent_dirty = a.recent_dirty
    fleet_head = a.fleet
    tally = a.tally
    limits = a.limits
    for e in range(start, n):
        full = _full(tally, limits, _most_facts(b.scope_at, b.recipient_at, e))
        if full >= 0:
            return e, full
        f = fleet_head[0]
        agent = b.agent.hash[e]
        before_s = f.clock if f.events > 0 else b.time[e]
        saved[0] = f
        met = find(agents_head, agent)
        known = met >= 0 and agents_head[met].seen >= clock.KNOWN
        mark = clock.advance(fleet_head, b.time[e], agent, agents_tally[0], known)
        now_s = f.clock
        age_of_state = (now_s - f.begin) / st.HALF_LIFE
        if age_of_state > st.TOO_FAR:
            fleet_head[0] = saved[0]  # this event will begin again
            return e, RESCALE
        now = 2.0**age_of_state
        fade = 1.0 / now
        learned = True
        # The id alone would let an agent hide behind one of its own: a repeat has the same content too.
        ticket = mix(mix(agent, b.event[e]), mix(b.resource.hash[e], b.tool.hash[e]))
        ticket = mix(ticket, np.uint64(np.int64(b.time[e] * 1000.0)))
        for j in range(b.recipient_at[e], b.recipient_at[e + 1]):
            ticket = mix(ticket, b.recipient.hash[j])
        at_recent = np.int64(ticket & np.uint64(len(recent_head) - 1))
        if recent_head[at_recent].key == ticket:
            learned = False
            mark |= col.REPEATED
            fleet_head[0].repeated += 1

        # Who.
        cohort_key = parties.cohort_entity(b.cohort[e])
        entity[1] = cohort_key
        entity[2] = parties.agent_entity(agent)
        co, fresh = claim(cohorts_head, cohorts_dirty, cohorts_tally, cohort_key)
        if fresh:
            cohorts_body[co, :] = 0
            cohorts_head[co].agents = 0
        ag, fresh = claim(agents_head, agents_dirty, agents_tally, agent)
        if fresh:
            agents_body[ag, :] = 0
            agents_head[ag].seen = 0
            agents_head[ag].first = agents_head[ag].w = now_s
            agents_head[ag].pool = agents_head[ag].calls = 0
            agents_head[ag].peak = -1
            agents_head[ag].kept = agents_head[ag].begin = -1e18
            cohorts_head[co].agents += 1
            fleet_head[0].warming += 1
        agents_head[ag].cohort = b.cohort[e]
        own_row = agents_body[ag]
        peer_row = cohorts_body[co]
        gap = now_s - agents_head[ag].w
        cohorts_head[co].w = now_s
        if learned:
            agents_head[ag].w = now_s
            agents_head[ag].seen += 1
        seen = max(1.0, agents_head[ag].seen)
        age = min(st.AGES - 1, int(math.log2(seen)))
        if seen < YOUNG_EVENTS:
            mark |= col.WARMING
        elif seen == YOUNG_EVENTS and learned:
            fleet_head[0].warming -= 1
        session = b.session[e]
        if session == np.uint64(0):
            session = np.uint64(np.int64(b.time[e] // SESSION_GAP)) + np.uint64(1)
        session = mix(entity[2], session)
        se, fresh = claim(sessions_head, sessions_dirty, sessions_tally, session)
        if fresh:
            sessions_head[se].tool = 0
            sessions_head[se].top = -1
            sessions_head[se].records = sessions_head[se].events = 0
        sessions_head[se].w = now_s
        out.clock[e] = now_s
        detail[:] = 0
        detail[col.SESSION] = sessions_head[se].top
        detail[col.SESSION + 1] = sessions_head[se].records
        detail[col.SESSION + 2] = sessions_head[se].events

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
        attribute[q], context[q], value[q], entry[q] = signals.TRANSITION, sessions_head[se].tool, tool, e
        q += 1
        principal = b.principal.hash[e]
        owner = -1
        if principal != 0 and b.root[e] != 0 and (b.branch[e] != 0 or b.in_path[e]):
            o = find(owners_head, b.resource.hash[e])
            if b.in_path[e]:
                owner = 1
            elif o < 0:
                owner = 2
            elif owners_head[o].principal == principal:
                owner = 3
            else:
                owner = 5 if owners_head[o].shared else 4
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
            inside = 1 if parties.is_home(facts_head, own, b.domain.hash[j], b.home[e], fade) else 0
            attribute[q], context[q], value[q], entry[q] = signals.RECIPIENT, 0, b.recipient.hash[j], j
            q += 1
            if b.domain.hash[j] != 0:
                attribute[q], context[q], value[q], entry[q] = signals.DOMAIN, 0, b.domain.hash[j], j
                q += 1
            detail[col.SESSION + 3] += 1 - inside
            close = parties.closeness(
                facts_head,
                agents_head,
                contacts_head,
                contacts_body,
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
                facts_head,
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
        ca = find(calls_head, call)
        amount[2] = math.log((calls_head[ca].n if ca >= 0 else 0.0) + 1.0)
        amount[3] = math.log(agents_head[ag].calls * math.exp(-gap / RATE_MEMORY) + 1.0)
        for k in range(signals.N_AMOUNTS):
            x = amount[k]
            if math.isnan(x):
                continue
            place = mix(np.uint64(701 + k), tool if k < 3 else np.uint64(0))
            c, _ = amounts.row(amounts_head, amounts_dirty, amounts_tally, mix(place, cohort_key), now_s)
            i, fresh = amounts.row(amounts_head, amounts_dirty, amounts_tally, mix(place, entity[2]), now_s)
            if fresh:
                amounts_head[c].a += 1.0
            own_amount, peers = amounts_head[i], amounts_head[c]
            z, centre, spread = amounts.deviate(x, own_amount.n, own_amount.m, own_amount.v, peers.n, peers.m, peers.v)
            amount_at = col.AMOUNT + k * col.AMOUNT_WIDTH
            detail[amount_at] = x
            detail[amount_at + 1] = centre
            detail[amount_at + 2] = spread
            detail[amount_at + 3] = peers.m if peers.n > 0 else centre
            tail[1 + k] = max(0.0, z)
            if not learned:
                continue
            summed = amounts.add_up(amounts_head, c, i, z, now_s)
            if k < 3:  # bytes, records and session_calls are summed, in this order
                tail[signals.BYTES_SUM + k] = summed
            amounts.learn(amounts_head, c, x, 1.0)
            amounts.learn(amounts_head, i, x, 0.0)

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
                tails.weight_above(tails_head, tails_body, mix(mark_k, cohort_key), peer_row[st.PEER_TAILS + k], at),
                peer_row[st.PEER_TAILS + k],
                now,
                rarity,
            )
            rarity = tails.lend(
                tails.weight_above(tails_head, tails_body, mix(mark_k, entity[2]), own_row[st.OWN_TAILS + k], at),
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
        pool = agents_head[ag].pool * 2.0 ** (-gap / POOL_HALF_LIFE) * POOL_KEEP + max(0.0, s - POOL_DEAD)
        score = max(s, min(pool, POOL_GAIN * s))
        out.own[e] = s
        out.score[e] = score
        out.threshold[e] = budget.threshold(fleet_head)
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
                profiles_head,
                profiles_body,
                names_head,
                names_body,
                facts_head,
                entity[2],
                sessions_head[se].tool,
                out.text,
                out.length,
                row,
            )

        # 5. Learn; what looks hostile teaches little.
        recent_head[at_recent].key = ticket
        recent_dirty[at_recent] = 1
        agents_head[ag].pool = pool
        ratio = score / max(f.tau, 1e-3)
        weight = 1.0 if ratio <= 1 else max(DOUBT_LEAST, ratio**-2.0)
        out.weight[e] = weight
        if score != f.tau:
            fleet_head[0].tau += DOUBT_RATE * f.tau * (DOUBT_QUANTILE - (1.0 if score <= f.tau else 0.0))
        fleet_head[0].tau = min(max(f.tau, DOUBT_FLOOR), 1e4)
        for k in range(signals.N_FACTS):
            if surprise[k] >= 0:
                usual.learn(fleet_row, peer_row, own_row, k, age, surprise[k], mean[k], weight)
        for j in range(q):
            before = facts.learn(facts_head, facts_dirty, facts_tally, keys, slots, counts, j, now, weight)
            if NAMED[attribute[j]] and (before == 0 or _doubled(before + 1, before + 1 + weight)):
                k = attribute[j]
                memory.remember(
                    profiles_head,
                    profiles_body,
                    profiles_dirty,
                    profiles_tally,
                    facts_head,
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
                memory.name(names_head, names_body, names_dirty, names_tally, value[j], text, low, high, now_s)
        if b.home[e] != 0:
            _count_home(facts_head, facts_dirty, facts_tally, b.home[e], now)
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
                    tails_head,
                    tails_body,
                    tails_dirty,
                    tails_tally,
                    mix(mark_k, cohort_key),
                    bins[k],
                    now,
                    now_s,
                )
                tails.learn(
                    tails_head,
                    tails_body,
                    tails_dirty,
                    tails_tally,
                    mix(mark_k, entity[2]),
                    bins[k],
                    now,
                    now_s,
                )
        sessions_head[se].tool = tool
        sessions_head[se].events += 1
        if b.rung[e] > sessions_head[se].top:
            sessions_head[se].top = b.rung[e]
            sessions_head[se].records = 0
        if b.rung[e] == sessions_head[se].top and not math.isnan(b.records[e]):
            sessions_head[se].records += b.records[e]
        i, fresh = claim(calls_head, calls_dirty, calls_tally, call)
        calls_head[i].n = 1 if fresh else calls_head[i].n + 1
        calls_head[i].w = now_s
        agents_head[ag].calls = agents_head[ag].calls * math.exp(-gap / RATE_MEMORY) + 1.0
        if owner > 0:
            i, fresh = claim(owners_head, owners_dirty, owners_tally, b.resource.hash[e])
            if fresh:
                owners_head[i].principal = principal
                owners_head[i].shared = 0
            elif owners_head[i].principal != principal:
                owners_head[i].shared = 1
            owners_head[i].w = now_s
        for j in range(b.recipient_at[e], b.recipient_at[e + 1]):
            parties.meet(
                contacts_head,
                contacts_body,
                contacts_dirty,
                contacts_tally,
                b.agent.hash[e],
                b.recipient.hash[j],
                now_s,
            )
            parties.meet(
                contacts_head,
                contacts_body,
                contacts_dirty,
                contacts_tally,
                b.recipient.hash[j],
                b.agent.hash[e],
                now_s,
            )
        moved = b.bytes[e]
        if math.isnan(moved):
            moved = 1.0 if math.isnan(b.records[e]) else b.records[e]
        for level in (entity[2], cohort_key):
            if levels.learn_level(levels_head, levels_body, levels_dirty, levels_tally, level, moved, now_s):
                turn = out.turns[0]
                out.turned[turn] = level
                out.turned_at[turn] = e
                out.turns[0] = turn + 1
                levels.days(levels_head, levels_body, find(levels_head, level), out.days, out.days_length, turn)
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
            if now_s >= agents_head[ag].kept + EPISODE_GAP or now_s >= agents_head[ag].begin + EPISODE_LONGEST:
                agents_head[ag].begin = now_s
                agents_head[ag].peak = -1
            agents_head[ag].kept = now_s
            if score > agents_head[ag].peak:
                budget.count(fleet_head, fleet_row, agents_head[ag].peak, score, now, alerts_per_day)
                agents_head[ag].peak = score
        if now_s > before_s:
            fleet_head[0].days += min(1.0, (now_s - before_s) / DAY) * now
        fleet_head[0].events += 1
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
