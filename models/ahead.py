"""Asking for memory ahead of its use: what the next events will look up, while this one is scored.

With many agents hardly anything of an agent is in a cache when its next event comes, and an event looks up about a
hundred rows. Their keys are functions of the event, mostly: so the index is asked for two events ahead, and the rows one event ahead. It changes no result.
With 20,000 agents an event costs a fifth less (`benchmarks/agents.py`); a small state does without.
"""

from __future__ import annotations

import numpy as np

from models import amounts, facts, parties, signals, tails
from models import state as st
from models.batch import Batch
from models.compiled import apart, inline
from models.table import Array, Key, ahead, mix

INDEX, ROWS = 2, 1  # events ahead
MANY = 1 << 20  # rows of facts up to which most of what is used is in a cache anyway
FACTS = st.TABLES.index("facts")


@inline
def fetch(a: st.Arrays, b: Batch, e: int) -> None:
    """Ask for what the events after event e will look up."""
    if a.tally[FACTS, 0] < MANY:
        return
    if e + INDEX < len(b.time):
        _ask(a, b, e + INDEX, False)
    if e + ROWS < len(b.time):
        _ask(a, b, e + ROWS, True)


@apart
def _ask(a: st.Arrays, b: Batch, e: int, row: bool) -> None:
    agent = b.agent.hash[e]
    me, peers, all_of_them = parties.agent_entity(agent), parties.cohort_entity(b.cohort[e]), parties.fleet_entity()
    tool, resource = b.tool.hash[e], b.resource.hash[e]
    ahead(a.agents, agent, row)
    _fact(a.facts, signals.TOOL, 0, tool, me, row)
    if b.action[e] != 0:
        _fact(a.facts, signals.ACTION, tool, b.action[e], me, row)
    for j in range(b.scope_at[e], min(b.scope_at[e] + 2, b.scope_at[e + 1])):
        _fact(a.facts, signals.PERMISSION, 0, b.scope.hash[j], me, row)
    if b.root[e] != 0:
        _fact(a.facts, signals.ROOT, 0, b.root[e], me, row)
        _fact(a.facts, signals.BRANCH, 0, b.branch[e], me, row)
        _fact(a.facts, signals.RESOURCE, 0, resource, me, row)
        ahead(a.facts, facts.of_value(mix(facts.place(signals.RESOURCE, 0), peers), resource), row)
        ahead(a.facts, facts.of_value(mix(facts.place(signals.RESOURCE, 0), all_of_them), resource), row)
        ahead(a.owners, resource, row)
    _fact(a.facts, signals.CLASSIFICATION, 0, b.classification.hash[e], me, row)
    _fact(a.facts, signals.OUTCOME, 0, b.outcome[e], me, row)
    for j in range(b.recipient_at[e], min(b.recipient_at[e] + 2, b.recipient_at[e + 1])):
        _fact(a.facts, signals.RECIPIENT, 0, b.recipient.hash[j], me, row)
        _fact(a.facts, signals.DOMAIN, 0, b.domain.hash[j], me, row)
        ahead(a.contacts, b.recipient.hash[j], row)
    for k in range(signals.N_AMOUNTS):
        ahead(a.amounts, mix(amounts.place(k, tool if k < signals.N_AMOUNTS - 1 else np.uint64(0)), me), row)
    for k in range(signals.N_TAILS):
        ahead(a.tails, tails.place(k, me), row)
    ahead(a.levels, me, row)
    session = mix(me, b.session[e])
    ahead(a.sessions, session, row)
    ahead(a.calls, mix(session, tool), row)


@inline
def _fact(head: Array, attribute: int, context: Key, value: Key, entity: Key, row: bool) -> None:
    at = mix(facts.place(attribute, context), entity)
    ahead(head, at, row)
    ahead(head, facts.of_value(at, value), row)
