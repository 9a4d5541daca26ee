"""What of an agent has changed for a reason that harms nobody: its version, its type, for whom it acts, how much its whole cohort moves, the hours at which it works.

None of it lowers a score. It is evidence that stands beside what is strange, and `stream.change` says what of that it explains.

*Version* and *type*: the present one, the one before, and since when.
*Lift*: the mean of `log(amount / usual amount of that tool)` over about the last 20 calls, ±2 at most: 0 usually, 0.7 where each
call moves twice as much. An agent above 0.6 is *lifted*; who of a cohort lately was stands in eight rows, by the agent's hash, so
that peers can be counted without a walk over agents. *Hours*: how many sessions the agent would have begun at its usual hours since
it last did, by its own profile (`models.hours`); where that is many, it has not worked more but at other times. *Strangers*: the share of its last four sessions or so, and of its
last thirty, that began for a principal for whom fewer than five had; where the former rises and the latter was low, it was given to other people. *Newcomer*: when any agent
first sent to the recipient, inside the organisation, and how many others have.

What it misses: a type that nobody declares; a rise of a cohort of one or two agents; which of two lifted peers with the same
of eight hashes; hours that move by less than two or three; a new colleague in the first five days.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models import batch as col
from models import clock, newcomer, schema
from models import state as st
from models.batch import Batch
from models.compiled import inline
from models.facts import of_value, place
from models.here import FACTS, LIFTS, Here, Room
from models.hours import HALF_HOUR
from models.signals import RECIPIENT
from models.table import Array, Key, claim, find, mix

LIFT_RATE, LIFT_MOST = 0.05, 2.0  # the mean of about the last 20 calls
LIFTED = 0.6
LIFT_LASTS = 36 * 3600.0  # seconds
ROWS = 8  # of a cohort
MISSED = 5.0  # sessions: with so many expected, none is no accident (e^-5)
MOVED_LASTS = 5 * 86400.0  # seconds
USUAL = 2.0  # bits: a session that begins with fewer begins at a usual time
WEEK = 7 * 86400.0
STRANGER = 5.0  # sessions for a principal, with fewer of which it is one
SOON, SLOWLY = 0.25, 0.03  # weights of one session
MOSTLY, SELDOM = 0.7, 0.4  # shares of sessions
PEOPLE = 41  # attribute under which the sessions of an agent for each principal are counted


@inline
def learn(a: st.Arrays, b: Batch, e: int, w: Room, h: Here) -> None:
    """Remember what the event shows of its agent's version, type, amounts, hours and people."""
    agent = a.agents[h.ag]
    if _begins(b.version[e], agent.version, agent.left):
        a.agents[h.ag].left = agent.version
        a.agents[h.ag].version = b.version[e]
        a.agents[h.ag].since = h.clock
    if _begins(b.cohort[e], agent.kind, agent.kind_left):
        a.agents[h.ag].kind_left = agent.kind
        a.agents[h.ag].kind = b.cohort[e]
        a.agents[h.ag].kind_since = h.clock
    learn_lift(a, h, w.detail)
    if h.begins:
        learn_hours(a, b, e, h, w.detail[col.HOURS])
        learn_people(a, b, e, h, w.entity[2])


@inline
def _begins(said: Key, present: Key, before: Key) -> bool:
    """Whether an agent begins what an event says of it: where two versions run side by side, or one is taken back, neither begins anew with each event."""
    return said not in (np.uint64(0), present, before)


@inline
def _age(said: Key, present: Key, before: Key, since: float, now: float) -> float:
    """Seconds since the agent began what the event says; -1 where it began it unseen, or has left it, or nothing is said."""
    return float(now - since) if before != 0 and said == present else -1.0


@inline
def learn_lift(a: st.Arrays, h: Here, detail: Array) -> None:
    """Add a call's amount to the agent's lift: its bytes, else its records."""
    at = col.AMOUNT
    if detail[at + 2] <= 0:
        at += col.AMOUNT_WIDTH
        if detail[at + 2] <= 0:
            return
    off = max(-LIFT_MOST, min(LIFT_MOST, detail[at] - detail[at + 1]))
    a.agents[h.ag].lift += LIFT_RATE * (off - a.agents[h.ag].lift)
    if a.agents[h.ag].lift >= LIFTED and h.peered:
        i, _ = claim(a.lifts, a.lifts_dirty, a.tally[LIFTS], mix(h.cohort, h.agent % ROWS))
        a.lifts[i].w = h.clock
        a.lifts[i].agent = h.agent
        a.lifts[i].lift = a.agents[h.ag].lift


@inline
def learn_hours(a: st.Arrays, b: Batch, e: int, h: Here, bits: float) -> None:
    """Remember when a session last began at a usual time; and, where too many such were missed, that its hours have moved. Ten at usual times since, and they have not, or the new ones are usual."""
    if bits < USUAL:
        a.agents[h.ag].usual_at = h.clock
        a.agents[h.ag].moved_at -= 0.1 * MOVED_LASTS
        return
    expected = missed(a, h, b.time[e])
    if expected >= MISSED:
        a.agents[h.ag].missed = expected
        a.agents[h.ag].moved_at = h.clock
        a.agents[h.ag].moved_for = h.clock - a.agents[h.ag].usual_at


@inline
def learn_people(a: st.Arrays, b: Batch, e: int, h: Here, entity: Key) -> None:
    """Count a session that begins for its principal; and remember that most are for strangers now, where few were."""
    if b.principal.hash[e] == 0:
        return
    i, fresh = claim(
        a.facts, a.facts_dirty, a.tally[FACTS], of_value(mix(place(PEOPLE, 0), entity), b.principal.hash[e])
    )
    if fresh:
        a.facts[i].w = a.facts[i].d = 0
    new = 1.0 if a.facts[i].w * h.fade < STRANGER else 0.0
    a.facts[i].w += h.now
    before, usual = a.agents[h.ag].strangers, a.agents[h.ag].strangers_usual
    after = before + SOON * (new - before)
    a.agents[h.ag].strangers = after
    a.agents[h.ag].strangers_usual = usual + SLOWLY * (new - usual)
    if before < MOSTLY <= after and usual <= SELDOM:
        a.agents[h.ag].strangers_at = h.clock


@inline
def missed(a: st.Arrays, h: Here, time: float) -> float:
    """How many sessions the agent would have begun since one last began at a usual time, of a week at most."""
    agent = a.agents[h.ag]
    own = a.agents_body[h.ag, schema.OWN_HOURS : schema.OWN_WINDOW]
    if agent.usual_at <= 0:
        return 0.0
    weeks = max(1.0, min(8.0, (h.clock - agent.first) / WEEK))
    lasted = min(h.clock - agent.usual_at, WEEK)
    out, at = 0.0, time - lasted + HALF_HOUR
    while at < time:
        half = schema.HALF_HOURS if clock.weekend(at) else 0
        out += own[half + int(at // HALF_HOUR) % schema.HALF_HOURS] / (2.0 if half else 5.0)
        at += HALF_HOUR
    return float(out * h.fade / weeks)


@inline
def tell(a: st.Arrays, b: Batch, e: int, w: Room, h: Here) -> None:
    """Put down what has changed, beside what the event was scored with."""
    agent = a.agents[h.ag]
    w.detail[col.VERSION_AGE] = _age(b.version[e], agent.version, agent.left, agent.since, h.clock)
    w.detail[col.TYPE_AGE] = _age(b.cohort[e], agent.kind, agent.kind_left, agent.kind_since, h.clock)
    w.detail[col.LIFT] = agent.lift
    peers, most = 0.0, 0.0
    if h.peered and agent.lift >= LIFTED:
        for j in range(ROWS):
            i = find(a.lifts, mix(h.cohort, j))
            if i >= 0 and a.lifts[i].agent != h.agent and h.clock - a.lifts[i].w <= LIFT_LASTS:
                peers += 1.0
                most = max(most, a.lifts[i].lift)
    w.detail[col.LIFT + 1] = peers
    w.detail[col.LIFT + 2] = most
    moved = agent.missed > 0 and h.clock - agent.moved_at <= MOVED_LASTS
    w.detail[col.MISSED] = agent.missed if moved else 0.0
    w.detail[col.MISSED + 1] = agent.moved_for
    w.detail[col.AGENT_AGE] = h.clock - agent.first if newcomer.is_late(a.agents, h.ag, a.fleet) else -1.0
    since = h.clock - agent.strangers_at
    w.detail[col.STRANGERS] = since if since <= MOVED_LASTS else -1.0
    w.detail[col.NEWCOMER] = -1.0
    w.detail[col.NEWCOMER + 1] = 0.0
    at = b.recipient_at[e] + int(w.detail[col.FACT + RECIPIENT * col.FACT_WIDTH + 5])
    if at < b.recipient_at[e + 1] and b.domain.hash[at] != 0 and w.detail[col.SESSION + 2] <= 0:
        i = find(a.contacts, b.recipient.hash[at])
        if i >= 0 and a.contacts[i].first - a.fleet[0].since >= newcomer.SETTLED:
            w.detail[col.NEWCOMER] = h.clock - a.contacts[i].first
            w.detail[col.NEWCOMER + 1] = _others(
                a.contacts_body[i], min(schema.RING, a.contacts[i].n), np.uint32(h.agent)
            )


@inline
def _others(ring: Array, n: int, agent: Any) -> float:
    """How many different parties of a ring are not this agent."""
    out = 0.0
    for x in range(n):
        new = ring[x] != agent
        for y in range(x):
            new = new and ring[y] != ring[x]
        out += 1.0 if new else 0.0
    return out
