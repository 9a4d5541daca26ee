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
from typing import Any

import numpy as np

from models import amounts, budget, clock, facts, parties, tails, usual
from models.batch import NOTABLE, REPEATED, WARMING, Batch, Scores
from models.compiled import njit
from models.signals import (
    BRANCH, BYTES_SUM, CALL_RATE, CLASSIFICATION, CLEARANCE, CLOSENESS, DEAD_OF, DOMAIN, FLOW, GROUP_OF, HOUR, KIND_OF, N_AMOUNTS, N_FACTS, N_GROUPS, N_SIGNALS,
    N_TAILS, OUTCOME, OWNER, PERMISSION, RECIPIENT, RECORDS_SUM, RESOURCE, ROOT, SESSION_CALLS_SUM, TOOL, TRANSITION, WEIGHT_OF,
)  # fmt: skip
from models.state import (
    AGES, ALL_HISTOGRAMS, ALL_TAILS, BINS, GROWING, HALF_LIFE, OWN_TAILS, OWN_WINDOW, PEER_TAILS, RING, TEXT, TOO_FAR, USUAL, WINDOW_SUMS, Arrays,
)  # fmt: skip
from models.table import Array, claim, find, mix

POOL_HALF_LIFE, POOL_KEEP, POOL_DEAD, POOL_GAIN = 1800.0, 0.85, 3.0, 4.0
DOUBT_LEAST, DOUBT_QUANTILE, DOUBT_RATE, DOUBT_FLOOR = 0.05, 0.95, 0.02, 3.0
RATE_MEMORY = 600.0  # seconds
SESSION_GAP = 1800.0  # seconds: a session where the event names none
YOUNG_EVENTS = 50  # an agent with fewer is warming
HOUR_SECONDS, DAY = 3600.0, 86400.0
FINISHED, RESCALE = -1, -2
AMOUNT_OF_SUM = np.array([0, 1, 2])  # bytes_sum, records_sum, session_calls_sum are of these amounts
NAMED = np.zeros(N_FACTS, np.bool_)
NAMED[[TOOL, PERMISSION, ROOT, BRANCH, CLASSIFICATION, RECIPIENT, DOMAIN]] = True
GROWING_TABLES = np.array(GROWING)


@njit
def run(a: Arrays, b: Batch, out: Scores, start: int, alerts_per_day: float, own: Array) -> tuple[int, int]:
    """Score and learn events from `start` on; `own` holds the hashes of the organisation's own domains.

    Returns the next event and FINISHED, or the event before which the table of that number must grow, or RESCALE.
    """
    n = len(b.time)
    most = 0
    for e in range(n):
        most = max(most, 12 + b.scope_at[e + 1] - b.scope_at[e] + 4 * (b.recipient_at[e + 1] - b.recipient_at[e]))
    attribute = np.zeros(most, np.int64)
    context = np.zeros(most, np.uint64)
    value = np.zeros(most, np.uint64)
    entry = np.zeros(most, np.int64)
    keys = np.zeros((most, facts.LEVELS, 2), np.uint64)
    counts = np.zeros((most, facts.LEVELS, 4))
    entity = np.zeros(facts.LEVELS, np.uint64)
    surprise = np.zeros(N_FACTS)
    mean = np.zeros(N_FACTS)
    tail = np.zeros(N_TAILS)
    bins = np.zeros(N_TAILS, np.int64)
    group = np.zeros(N_GROUPS)
    winner = np.zeros(N_GROUPS, np.int64)
    amount = np.zeros(N_AMOUNTS)
    fleet_row = a.fleet_body[0]
    entity[0] = parties.fleet_entity()

    for e in range(start, n):
        n_facts = 12 + b.scope_at[e + 1] - b.scope_at[e] + 4 * (b.recipient_at[e + 1] - b.recipient_at[e])
        full = _full(a, n_facts)
        if full >= 0:
            return e, full
        f = a.fleet[0]
        agent = b.agent.hash[e]
        mark = clock.advance(a.fleet, b.time[e], agent)
        now_s = f.clock
        age_of_state = (now_s - f.begin) / HALF_LIFE
        if age_of_state > TOO_FAR:
            return e, RESCALE
        now = 2.0**age_of_state
        fade = 1.0 / now
        learned = True
        ticket = mix(agent, b.event[e])
        at_recent = np.int64(ticket & np.uint64(len(a.recent) - 1))
        if a.recent[at_recent].key == ticket:
            learned = False
            mark |= REPEATED
            a.fleet[0].repeated += 1

        # Who.
        cohort_key = parties.cohort_entity(b.cohort[e])
        entity[1] = cohort_key
        entity[2] = parties.agent_entity(agent)
        co, fresh = claim(a.cohorts, a.cohorts_dirty, a.cohorts_tally, cohort_key)
        if fresh:
            a.cohorts_body[co, :] = 0
            a.cohorts[co].agents = 0
        ag, fresh = claim(a.agents, a.agents_dirty, a.agents_tally, agent)
        if fresh:
            a.agents_body[ag, :] = 0
            a.agents[ag].seen = 0
            a.agents[ag].first = a.agents[ag].w = a.agents[ag].hour = now_s
            a.agents[ag].pool = a.agents[ag].calls = 0
            a.agents[ag].peak = -1
            a.agents[ag].hour = -1e18
            a.cohorts[co].agents += 1
            a.fleet[0].warming += 1
        a.agents[ag].cohort = b.cohort[e]
        own_row = a.agents_body[ag]
        peer_row = a.cohorts_body[co]
        gap = now_s - a.agents[ag].w
        a.agents[ag].w = now_s
        a.cohorts[co].w = now_s
        if learned:
            a.agents[ag].seen += 1
        seen = max(1.0, a.agents[ag].seen)
        age = min(AGES - 1, int(math.log2(seen)))
        if seen < YOUNG_EVENTS:
            mark |= WARMING
        elif seen == YOUNG_EVENTS and learned:
            a.fleet[0].warming -= 1
        session = b.session[e]
        if session == np.uint64(0):
            session = np.uint64(np.int64(b.time[e] // SESSION_GAP)) + np.uint64(1)
        session = mix(entity[2], session)
        se, fresh = claim(a.sessions, a.sessions_dirty, a.sessions_tally, session)
        if fresh:
            a.sessions[se].tool = 0
            a.sessions[se].top = -1
            a.sessions[se].records = a.sessions[se].events = 0
        a.sessions[se].w = now_s
        out.session[e, 0] = a.sessions[se].top
        out.session[e, 1] = a.sessions[se].records
        out.session[e, 2] = a.sessions[se].events

        # What it says.
        q = 0
        tool = b.tool.hash[e]
        attribute[q], context[q], value[q], entry[q] = TOOL, 0, tool, e
        q += 1
        for j in range(b.scope_at[e], b.scope_at[e + 1]):
            attribute[q], context[q], value[q], entry[q] = PERMISSION, 0, b.scope.hash[j], j
            q += 1
        if b.root[e] != 0:
            attribute[q], context[q], value[q], entry[q] = ROOT, 0, b.root[e], e
            q += 1
            if b.branch[e] != 0:
                attribute[q], context[q], value[q], entry[q] = BRANCH, 0, b.branch[e], e
                q += 1
            attribute[q], context[q], value[q], entry[q] = RESOURCE, 0, b.resource.hash[e], e
            q += 1
        if b.classification.hash[e] != 0:
            attribute[q], context[q], value[q], entry[q] = CLASSIFICATION, 0, b.classification.hash[e], e
            q += 1
        attribute[q], context[q], value[q], entry[q] = TRANSITION, a.sessions[se].tool, tool, e
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
            attribute[q], context[q], value[q], entry[q] = OWNER, b.root[e], owner, e
            q += 1
        out.session[e, 3] = owner
        attribute[q], context[q], value[q], entry[q] = OUTCOME, 0, b.outcome[e], e
        q += 1
        weekend = int(b.time[e] // DAY + 3) % 7 >= 5
        attribute[q], context[q], value[q], entry[q] = HOUR, 0, int(b.time[e] // 7200) % 12 + (100 if weekend else 0), e
        q += 1
        rung = b.rung[e]
        below = 0
        short = 0
        for j in range(b.recipient_at[e], b.recipient_at[e + 1]):
            inside = 1 if parties.is_home(a.facts, own, b.domain.hash[j], b.home[e], fade) else 0
            attribute[q], context[q], value[q], entry[q] = RECIPIENT, 0, b.recipient.hash[j], j
            q += 1
            if b.domain.hash[j] != 0:
                attribute[q], context[q], value[q], entry[q] = DOMAIN, 0, b.domain.hash[j], j
                q += 1
            close = parties.closeness(a.facts, a.agents, a.contacts, a.contacts_body, entity, agent, b.cohort[e] != 0, b.recipient.hash[j], b.domain.hash[j])
            attribute[q], context[q], value[q], entry[q] = CLOSENESS, inside, close, j
            q += 1
            attribute[q], context[q], value[q], entry[q] = FLOW, 0, mix(rung + 2, mix(np.uint64(inside), b.kind[j] if inside else np.uint64(0))), j
            q += 1
            if 0 <= b.clearance[j] < rung:
                below += 1
                short = max(short, rung - b.clearance[j])

        # 1. Facts: how improbable is each, beyond what it usually costs this agent.
        surprise[:] = -1.0
        for j in range(q):
            p = facts.predict(a.facts, facts.place(attribute[j], context[j]), value[j], entity, fade, keys[j], counts[j])
            s = facts.bits(p)
            k = attribute[j]
            if s > surprise[k]:
                surprise[k] = s
                out.fact[e, k, 0] = counts[j, 2, 0]
                out.fact[e, k, 1] = counts[j, 2, 1]
                out.fact[e, k, 2] = counts[j, 1, 0]
                out.fact[e, k, 3] = counts[j, 0, 0]
                out.fact[e, k, 4] = counts[j, 2, 2]
                out.fact[e, k, 5] = entry[j] - (b.scope_at[e] if k == PERMISSION else b.recipient_at[e] if k in (RECIPIENT, DOMAIN, CLOSENESS, FLOW) else e)
        group[:] = 0.0
        winner[:] = -1
        for k in range(N_FACTS):
            if surprise[k] < 0:
                continue
            mean[k] = usual.usual(fleet_row, peer_row, own_row, k, age)
            _pay(out, e, k, surprise[k] - mean[k], group, winner)

        # 2. Amounts: how far from its own past, and what has added up.
        tail[:] = -1.0
        tail[CLEARANCE] = 2.0 + 2.0 * short + 2.0 * math.log2(below) if below else 0.0
        amount[0] = math.log1p(b.bytes[e])
        amount[1] = math.log1p(b.records[e])
        call = mix(session, tool)
        ca = find(a.calls, call)
        amount[2] = math.log((a.calls[ca].n if ca >= 0 else 0.0) + 1.0)
        amount[3] = math.log(a.agents[ag].calls * math.exp(-gap / RATE_MEMORY) + 1.0)
        for k in range(N_AMOUNTS):
            x = amount[k]
            if math.isnan(x):
                continue
            place = mix(np.uint64(701 + k), tool if k < 3 else np.uint64(0))
            key_c = mix(place, cohort_key)
            key_a = mix(place, entity[2])
            z, centre, spread, peers, _ = amounts.measure(a.amounts, key_c, key_a, x)
            out.amount[e, k, 0] = x
            out.amount[e, k, 1] = centre
            out.amount[e, k, 2] = spread
            out.amount[e, k, 3] = peers
            out.amount[e, k, 4] = z
            tail[1 + k] = max(0.0, z)
            summed = amounts.add_up(a.amounts, a.amounts_dirty, a.amounts_tally, key_c, key_a, z, now_s, learned)
            if k < 3:
                tail[BYTES_SUM + AMOUNT_OF_SUM[k]] = summed
            if learned:
                amounts.learn(a.amounts, find(a.amounts, key_c), x, 1.0)
                amounts.learn(a.amounts, find(a.amounts, key_a), x, 0.0)

        # 3. Their bits: the tail of what came before, one exceedance lent by the level above.
        for k in range(N_TAILS):
            x = tail[k]
            bins[k] = -1
            if x < 0 and k in (1, 2):
                continue
            bins[k] = 0
            if x <= 0 or fleet_row[ALL_TAILS + k] <= 0:
                if x > 0:
                    bins[k] = tails.bin_of(x)
                continue
            at = tails.bin_of(x)
            bins[k] = at
            mark_k = np.uint64(1001 + k)
            low = ALL_HISTOGRAMS + k * BINS
            p = tails.lend(tails.above(fleet_row[low : low + BINS], fleet_row[ALL_TAILS + k], at), fleet_row[ALL_TAILS + k], now, 1.0)
            p = tails.lend(tails.weight_above(a.tails, a.tails_body, mix(mark_k, cohort_key), peer_row[PEER_TAILS + k], at), peer_row[PEER_TAILS + k], now, p)
            p = tails.lend(tails.weight_above(a.tails, a.tails_body, mix(mark_k, entity[2]), own_row[OWN_TAILS + k], at), own_row[OWN_TAILS + k], now, p)
            _pay(out, e, N_FACTS + k, facts.bits(p), group, winner)

        # 4. The event, and the episode.
        s = 0.0
        for g in range(N_GROUPS):
            if winner[g] >= 0:
                s += group[g]
                out.paid[e, winner[g]] = group[g]
                out.parts[e, KIND_OF[winner[g]]] += group[g]
        pool = a.agents[ag].pool * 2.0 ** (-gap / POOL_HALF_LIFE) * POOL_KEEP + max(0.0, s - POOL_DEAD)
        score = max(s, min(pool, POOL_GAIN * s))
        out.own[e] = s
        out.score[e] = score
        out.threshold[e] = budget.threshold(a.fleet)
        if score >= out.threshold[e] and learned:
            mark |= NOTABLE
        out.marks[e] = mark
        if not learned:
            continue

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
        for k in range(N_FACTS):
            if surprise[k] >= 0:
                usual.learn(fleet_row, peer_row, own_row, k, age, surprise[k], mean[k], weight)
        for j in range(q):
            before = facts.learn(a.facts, a.facts_dirty, a.facts_tally, keys[j], counts[j], now, weight)
            if NAMED[attribute[j]] and (before == 0 or int(math.log2(before + 1)) != int(math.log2(before + 1 + weight))):
                _remember(a, b, e, attribute[j], entry[j], value[j], keys[j, 2, 0], entity[2], now_s)
        if b.home[e] != 0:
            _count_home(a, b.home[e], entity, fade, now, keys, counts)
        for k in range(N_TAILS):
            if bins[k] < 0:
                continue
            low = ALL_HISTOGRAMS + k * BINS
            fleet_row[ALL_TAILS + k] += now
            peer_row[PEER_TAILS + k] += now
            own_row[OWN_TAILS + k] += now
            if bins[k] > 0:
                mark_k = np.uint64(1001 + k)
                for i in range(1, bins[k] + 1):
                    fleet_row[low + i] += now
                tails.learn(a.tails, a.tails_body, a.tails_dirty, a.tails_tally, mix(mark_k, cohort_key), bins[k], now, now_s)
                tails.learn(a.tails, a.tails_body, a.tails_dirty, a.tails_tally, mix(mark_k, entity[2]), bins[k], now, now_s)
        _learn_who(a, b, e, se, ag, call, tool, gap, now_s)
        _learn_level(a, b, e, entity[2], now_s, out)
        _learn_level(a, b, e, cohort_key, now_s, out)
        if len(out.window) > 0:
            _window(b, e, own_row, gap, s, out)
        if now_s >= a.agents[ag].hour + HOUR_SECONDS:
            a.agents[ag].hour = now_s
            a.agents[ag].peak = -1
        if score > a.agents[ag].peak:
            budget.count(a.fleet, fleet_row, a.agents[ag].peak, score, now, alerts_per_day)
            a.agents[ag].peak = score
        a.fleet[0].events += 1
    return n, FINISHED


@njit
def _full(a: Any, n_facts: int) -> int:
    """The first table that has no room for one more event, or -1."""
    used = (
        a.facts_tally[0] + 6 * n_facts + 2, a.amounts_tally[0] + 8, a.tails_tally[0] + 16, a.agents_tally[0] + 1, a.cohorts_tally[0] + 1, a.sessions_tally[0] + 1,
        a.calls_tally[0] + 1, a.owners_tally[0] + 1, a.contacts_tally[0] + 2 * n_facts, a.profiles_tally[0] + n_facts, a.names_tally[0] + n_facts, a.levels_tally[0] + 2,
    )  # fmt: skip
    for i in range(len(used)):
        if used[i] > a.limits[GROWING_TABLES[i]]:
            return GROWING_TABLES[i]
    return -1


@njit
def _pay(out: Any, e: int, k: int, bits: float, group: Array, winner: Array) -> None:
    out.bits[e, k] = bits
    pays = WEIGHT_OF[k] * (bits - DEAD_OF[k])
    if pays > group[GROUP_OF[k]]:
        group[GROUP_OF[k]] = pays
        winner[GROUP_OF[k]] = k


@njit
def _count_home(a: Any, home: int, entity: Array, fade: float, now: float, keys: Array, counts: Array) -> None:
    """Count the domain of a principal, for the fleet alone: the other two levels are given the same key."""
    context = mix(facts.place(parties.HOME, 0), entity[0])
    i, fresh = claim(a.facts, a.facts_dirty, a.facts_tally, context)
    if fresh:
        a.facts[i].w = a.facts[i].d = 0
    a.facts[i].w += now
    j, fresh = claim(a.facts, a.facts_dirty, a.facts_tally, mix(context, home + np.uint64(7)))
    if fresh:
        a.facts[j].w = a.facts[j].d = 0
    a.facts[j].w += now


@njit
def _learn_who(a: Any, b: Any, e: int, se: int, ag: int, call: int, tool: int, gap: float, clock_s: float) -> None:
    """The session's last tool and highest class, calls, rates, owners and contacts."""
    a.sessions[se].tool = tool
    a.sessions[se].events += 1
    if b.rung[e] > a.sessions[se].top:
        a.sessions[se].top = b.rung[e]
        a.sessions[se].records = 0
    if b.rung[e] == a.sessions[se].top and not math.isnan(b.records[e]):
        a.sessions[se].records += b.records[e]
    i, fresh = claim(a.calls, a.calls_dirty, a.calls_tally, call)
    a.calls[i].n = 1 if fresh else a.calls[i].n + 1
    a.calls[i].w = clock_s
    a.agents[ag].calls = a.agents[ag].calls * math.exp(-gap / RATE_MEMORY) + 1.0
    principal = b.principal.hash[e]
    if principal != 0 and b.root[e] != 0 and (b.branch[e] != 0 or b.in_path[e]):
        i, fresh = claim(a.owners, a.owners_dirty, a.owners_tally, b.resource.hash[e])
        if fresh:
            a.owners[i].principal = principal
            a.owners[i].shared = 0
        elif a.owners[i].principal != principal:
            a.owners[i].shared = 1
        a.owners[i].w = clock_s
    for j in range(b.recipient_at[e], b.recipient_at[e + 1]):
        parties.meet(a.contacts, a.contacts_body, a.contacts_dirty, a.contacts_tally, b.agent.hash[e], b.recipient.hash[j], clock_s)
        parties.meet(a.contacts, a.contacts_body, a.contacts_dirty, a.contacts_tally, b.recipient.hash[j], b.agent.hash[e], clock_s)


@njit
def _learn_level(a: Any, b: Any, e: int, key: int, clock_s: float, out: Any) -> None:
    """Add to the day's amount of an agent or a cohort; when the day ends, keep it and say so."""
    day = np.int64(clock_s // DAY)
    i, fresh = claim(a.levels, a.levels_dirty, a.levels_tally, key)
    if fresh:
        a.levels[i].n = 0
        a.levels[i].day = day
        a.levels[i].sum = a.levels[i].shifted = 0.0
    a.levels[i].w = clock_s
    if day != a.levels[i].day:
        a.levels_body[i, a.levels[i].n % RING] = math.log2(1.0 + a.levels[i].sum)
        a.levels[i].n += 1
        a.levels[i].day = day
        a.levels[i].sum = 0.0
        k = out.turns[0]
        out.turned[k] = key
        out.turned_at[k] = e
        out.turns[0] = k + 1
    moved = b.bytes[e]
    if math.isnan(moved):
        moved = 1.0 if math.isnan(b.records[e]) else b.records[e]
    a.levels[i].sum += moved


@njit
def _window(b: Any, e: int, own_row: Array, gap: float, s: float, out: Any) -> None:
    fade = math.exp(-gap / HOUR_SECONDS)
    for k in range(WINDOW_SUMS):
        own_row[OWN_WINDOW + k] *= fade
    own_row[OWN_WINDOW] += 1
    own_row[OWN_WINDOW + 1] += 0.0 if math.isnan(b.bytes[e]) else b.bytes[e]
    own_row[OWN_WINDOW + 2] += 0.0 if math.isnan(b.records[e]) else b.records[e]
    own_row[OWN_WINDOW + 3] += b.recipient_at[e + 1] - b.recipient_at[e]
    own_row[OWN_WINDOW + 4] += 1.0 if b.denied[e] else 0.0
    own_row[OWN_WINDOW + 5] += s
    for k in range(WINDOW_SUMS):
        out.window[e, k] = own_row[OWN_WINDOW + k]


@njit
def _remember(a: Any, b: Any, e: int, attribute: int, entry: int, value: int, context: int, agent: int, clock_s: float) -> None:
    """Keep a value among the agent's most used of its attribute, and what it is called."""
    i, fresh = claim(a.profiles, a.profiles_dirty, a.profiles_tally, mix(agent, np.uint64(2001 + attribute)))
    if fresh:
        a.profiles_body[i, :] = 0
    a.profiles[i].w = clock_s
    place = -1
    least = np.inf
    for k in range(USUAL):
        v = a.profiles_body[i, k]
        if v == value:
            place = -1
            least = -1.0
            break
        if v == np.uint64(0):
            place = k
            least = -np.inf
            break
        j = find(a.facts, mix(context, v + np.uint64(7)))
        c = a.facts[j].w if j >= 0 else 0.0
        if c < least:
            least = c
            place = k
    j = find(a.facts, mix(context, value + np.uint64(7)))
    if place >= 0 and j >= 0 and a.facts[j].w >= least:
        a.profiles_body[i, place] = value
    text = b.tool
    low, high = b.tool.low[e], b.tool.high[e]
    if attribute == PERMISSION:
        text = b.scope
        low, high = text.low[entry], text.high[entry]
    elif attribute == ROOT:
        text = b.resource
        low, high = text.low[e], b.root_high[e]
    elif attribute == BRANCH:
        text = b.resource
        low, high = text.low[e], b.branch_high[e]
    elif attribute == CLASSIFICATION:
        text = b.classification
        low, high = text.low[e], text.high[e]
    elif attribute == RECIPIENT:
        text = b.recipient
        low, high = text.low[entry], text.high[entry]
    elif attribute == DOMAIN:
        text = b.domain
        low, high = text.low[entry], text.high[entry]
    i, fresh = claim(a.names, a.names_dirty, a.names_tally, value)
    a.names[i].w = clock_s
    if fresh:
        length = min(TEXT, high - low)
        a.names[i].length = length
        for k in range(length):
            a.names_body[i, k] = text.buffer[low + k]
