"""How the baseline of an agent begins, and how it begins anew: after the agent was given other work, or was poisoned.

All that an agent has taught stands under its key (`parties.entity_of`). Begun anew it gets another key, so the rows under the old one are never
found again, and go as all that is not used; its own row is that of an agent never seen. That a key was left is a row too, worth as much as a mark
(`models.verdict`): an agent whose row gave way and that comes back does not find what it was before.

What stays: what its cohort and the fleet have learned from it, which cohort that is, and that others know it.
What it misses: marks of malicious verdicts were the agent's own, and go with the rest.
"""

from __future__ import annotations

from models import parties, schema
from models import state as st
from models.compiled import inline, njit
from models.table import Array, Key, claim, find

YOUNG_EVENTS = 50  # an agent with fewer is warming
LEFT = 64.0  # events that the row of a key that was left is worth
NEVER = -1e18
# Seconds: who is met for the first time before is not new to all, and an agent no newcomer; nor is one after so long.
SETTLED = 5 * 86400.0
FACTS = schema.TABLES.index("facts")


@inline
def begin(agents: Array, body: Array, ag: int, clock: float) -> None:
    """Make the row of an agent, its key and cohort apart, that of one never seen before."""
    body[ag, :] = 0
    agents[ag].seen = 0
    agents[ag].first = agents[ag].w = agents[ag].began = clock
    agents[ag].calls = agents[ag].night = 0
    agents[ag].peak = agents[ag].loud = -1
    agents[ag].first_own = agents[ag].second_own = agents[ag].third_own = agents[ag].serious = 0
    agents[ag].kept = agents[ag].begin = agents[ag].night_at = agents[ag].novel_at = NEVER
    agents[ag].version = agents[ag].left = agents[ag].kind = agents[ag].kind_left = 0
    agents[ag].kind_since = agents[ag].lift = agents[ag].usual_at = agents[ag].missed = 0
    agents[ag].strangers = agents[ag].strangers_usual = 1
    agents[ag].strangers_at = NEVER
    agents[ag].hour = agents[ag].hours = agents[ag].odd = agents[ag].touches = agents[ag].receives = 0


@inline
def is_late(agents: Array, ag: int, fleet: Array) -> bool:
    """Whether an agent came to a fleet that ran already (`since` is no landmark and never moves): everything is new to it, and nothing to its peers."""
    return bool(agents[ag].first - fleet[0].since >= SETTLED)


@inline
def is_one(agents: Array, ag: int, fleet: Array, clock: float) -> bool:
    """Whether an agent that came late is in its first five days: what it did yesterday is no measure of it, what its peers do is."""
    return is_late(agents, ag, fleet) and clock - agents[ag].first < SETTLED


@njit
def reset(a: st.Arrays, agent: Key) -> bool:
    """Begin the baseline of an agent anew; whether there was one. It may add a row of facts."""
    clock = a.fleet[0].clock
    ag = find(a.agents, agent)
    old = parties.entity_of(a, agent)
    i, _ = claim(a.facts, a.facts_dirty, a.tally[FACTS], parties.left_behind(old))
    a.facts[i].w = LEFT * 2.0 ** ((clock - a.fleet[0].begin) / schema.HALF_LIFE)
    a.facts[i].d = 0
    a.facts_dirty[i] |= st.SHARED  # other partitions look for what it wrote to their agents
    met = find(a.contacts, agent)
    if met >= 0:
        a.contacts[met].n = 0
        a.contacts_dirty[met] |= 1
    if ag < 0:
        return False
    begin(a.agents, a.agents_body, ag, clock)
    a.agents[ag].entity = parties.next_entity(old)
    a.agents_dirty[ag] = 1
    return True
