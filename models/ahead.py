"""Asking for memory ahead of its use: what the next events will look up, while this one is scored.

With many agents hardly anything of an agent is in a cache when its next event comes, and an event looks up about a
hundred rows. Their keys are functions of the event, mostly: they are put down once, four events ahead, and the index is asked for; then the rows;
and what follows from these, the way from the tool that the session used last. It changes no result.
With 100,000 agents an event costs a third less (`benchmarks/agents.py`); a small state does without.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models import amounts, event, facts, parties, schema, signals, tails, usual
from models import change as ch
from models import state as st
from models.batch import Batch
from models.compiled import apart, inline
from models.here import AGENTS, AMOUNTS, CALLS, CONTACTS, FACTS, LEVELS, OWNERS, RATE, SESSIONS, TAILS, USES
from models.table import Array, Key, ahead, fetch_bytes, find, mix

INDEX, ROWS, AFTER, AFTER_ROWS = 4, 3, 2, 1  # events ahead
MANY = 1 << 20  # rows of facts up to which most of what is used is in a cache anyway
TURNS, MOST = 8, 128  # events whose keys are put down at a time; keys of one at most
OWNER, CLOSENESS = signals.N_NAMED + event.OWNER, signals.N_NAMED + event.CLOSENESS


class Asked(NamedTuple):
    """What events to come will look up: in which table, by which key."""

    of: Array
    keys: Array
    n: Array


@inline
def fetch(a: st.Arrays, b: Batch, e: int, p: Asked) -> None:
    """Ask for what the events after event e will look up."""
    if a.tally[FACTS, 0] < MANY:
        return
    n = len(b.time)
    if e + INDEX < n:
        _put_down(b, e + INDEX, p)
        _ask(a, p, e + INDEX, False)
    if e + ROWS < n:
        _ask(a, p, e + ROWS, True)
    if e + AFTER < n:
        _put_down_after(a, b, e + AFTER, p)
        _ask(a, p, e + AFTER, False)
    if e + AFTER_ROWS < n:
        _ask(a, p, e + AFTER_ROWS, True)


@inline
def _say(p: Asked, turn: int, of: int, key: Key) -> None:
    n = p.n[turn]
    if n < MOST:
        p.of[turn, n] = of
        p.keys[turn, n] = key
        p.n[turn] = n + 1


@inline
def _fact(p: Asked, turn: int, attribute: int, context: Key, value: Key, entity: Key) -> Key:
    at = mix(facts.place(attribute, context), entity)
    _say(p, turn, FACTS, at)
    key = facts.of_value(at, value)
    _say(p, turn, FACTS, key)
    return key


@apart
def _put_down(b: Batch, e: int, p: Asked) -> None:
    """The keys that an event will look up, as far as they follow from it."""
    t = e % TURNS
    p.n[t] = 0
    none, one = np.uint64(0), np.uint64(1)
    agent, tool, resource, principal = b.agent.hash[e], b.tool.hash[e], b.resource.hash[e], b.principal.hash[e]
    me, peers = parties.agent_entity(agent), parties.cohort_entity(b.cohort[e])
    _say(p, t, AGENTS, agent)
    _say(p, t, USES, _fact(p, t, signals.TOOL, none, tool, me))
    for j in range(b.scope_at[e], min(b.scope_at[e] + 3, b.scope_at[e + 1])):
        _say(p, t, USES, _fact(p, t, signals.PERMISSION, none, b.scope.hash[j], me))
    values = (
        (signals.ACTION, tool, b.action[e]),
        (signals.ROOT, none, b.root[e]),
        (signals.BRANCH, none, b.branch[e]),
        (signals.RESOURCE, none, resource if b.root[e] != 0 else none),
        (signals.CLASSIFICATION, none, b.classification.hash[e]),
        (signals.OUTCOME, none, np.uint64(b.outcome[e])),
    )
    for attribute, context, value in values:
        if value != none or attribute == signals.OUTCOME:
            _fact(p, t, attribute, context, value, me)
    _say(p, t, FACTS, usual.with_tool_key(signals.TRANSITION, tool, me))
    if b.root[e] != 0 and b.branch[e] != 0:
        _say(p, t, FACTS, usual.with_tool_key(signals.BRANCH, tool, me))
    if b.approved[e] != event.UNTOLD:
        _fact(p, t, signals.UNAPPROVED, tool, np.uint64(b.approved[e]), me)
    low, high = b.recipient_at[e], min(b.recipient_at[e] + 2, b.recipient_at[e + 1])
    if b.root[e] != 0:  # hardly ever another agent's: a row of its own at both levels
        base = facts.place(signals.RESOURCE, none)
        _say(p, t, FACTS, facts.of_value(mix(base, peers), resource))
        if principal != none:
            _say(p, t, OWNERS, resource)
            own = mix(facts.place(OWNER, b.root[e]), me)
            _say(p, t, FACTS, own)
            _say(p, t, FACTS, facts.of_value(own, one))
    base = facts.place(signals.RECIPIENT, none)
    for j in range(low, high):
        other, domain = b.recipient.hash[j], b.domain.hash[j]
        _fact(p, t, signals.RECIPIENT, none, other, me)
        _say(p, t, FACTS, facts.of_value(mix(base, peers), other))
        if domain != none:
            _fact(p, t, signals.DOMAIN, none, domain, me)
            _say(p, t, FACTS, usual.with_tool_key(signals.DOMAIN, tool, me))
        inside = 1 if domain == none or domain == b.home[e] else 0
        _fact(p, t, signals.FLOW, none, event.flow(b.rung[e], inside, b.kind[j]), me)
        _say(p, t, CONTACTS, other)
        _say(p, t, CALLS, mix(mix(np.uint64(734), me), other))
    if low < high:
        _say(p, t, FACTS, usual.with_tool_key(signals.FLOW, tool, me))
        _say(p, t, CONTACTS, agent)
        _say(p, t, FACTS, mix(facts.place(CLOSENESS, none), me))
    elif resource != none:
        _say(p, t, CALLS, mix(mix(np.uint64(734), me), mix(tool, resource)))
    for k in range(signals.N_AMOUNTS):
        _say(p, t, AMOUNTS, mix(amounts.place(k, tool if k < RATE else none), me))
    for k in range(signals.N_TAILS):
        _say(p, t, TAILS, tails.place(k, me))
    _say(p, t, LEVELS, me)
    if b.session[e] != none:
        session = mix(me, b.session[e])
        _say(p, t, SESSIONS, session)
        _say(p, t, CALLS, mix(session, tool))
    if principal != none:
        _say(p, t, FACTS, facts.of_value(mix(facts.place(ch.PEOPLE, none), me), principal))


@apart
def _ask(a: st.Arrays, p: Asked, e: int, row: bool) -> None:
    """Ask for the index of all that was put down, or for the rows."""
    t = e % TURNS
    for i in range(p.n[t]):
        of, key = p.of[t, i], p.keys[t, i]
        if of == FACTS:
            ahead(a.facts, a.facts_dirty, key, row)
        elif of == AMOUNTS:
            at = ahead(a.amounts, a.amounts_dirty, key, row)
            if at >= 0:
                fetch_bytes(a.amounts, at * a.amounts.itemsize, a.amounts.itemsize)
        elif of == TAILS:
            at = ahead(a.tails, a.tails_dirty, key, row)
            if at >= 0:
                fetch_bytes(a.tails_body, at * 4 * schema.HALF, 4 * schema.HALF)
        elif of == USES:
            ahead(a.uses, a.uses_dirty, key, row)
        elif of == CALLS:
            ahead(a.calls, a.calls_dirty, key, row)
        elif of == CONTACTS:
            at = ahead(a.contacts, a.contacts_dirty, key, row)
            if at >= 0:
                fetch_bytes(a.contacts_body, at * 4 * schema.RING, 4 * schema.RING)
        elif of == OWNERS:
            ahead(a.owners, a.owners_dirty, key, row)
        elif of == SESSIONS:
            ahead(a.sessions, a.sessions_dirty, key, row)
        elif of == LEVELS:
            ahead(a.levels, a.levels_dirty, key, row)
        elif of == AGENTS:
            at = ahead(a.agents, a.agents_dirty, key, row)
            if at >= 0:
                fetch_bytes(a.agents, at * a.agents.itemsize, a.agents.itemsize)
                body = at * 4 * schema.OWN_WIDTH
                fetch_bytes(a.agents_body, body, 4 * schema.OWN_HOURS)
                fetch_bytes(a.agents_body, body + 4 * schema.OWN_AGAIN, 4 * (signals.N_AGAIN + signals.N_POOLS))


@apart
def _put_down_after(a: st.Arrays, b: Batch, e: int, p: Asked) -> None:
    """What follows from rows that are there by now: the way from the tool that the session used last."""
    t = e % TURNS
    me = parties.agent_entity(b.agent.hash[e])
    i = find(a.sessions, mix(me, b.session[e])) if b.session[e] != np.uint64(0) else -1
    p.n[t] = 0
    _fact(p, t, signals.TRANSITION, a.sessions[i].tool if i >= 0 else np.uint64(0), b.tool.hash[e], me)
