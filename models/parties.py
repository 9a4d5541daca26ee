"""Who receives: how close a recipient stands to an agent, and whether it is inside the organisation.

Closeness of a recipient, from near to far: 0 written to before, else 1 + 4·c + r. c: 0 it has written to this agent, 1 they have several contacts
in common (of the last 32 of each), 2 one or two, 3 none. r, when it was last active: 0 within two days, 1 within two weeks, 2 earlier, 3
never. Who reaches beyond its circle reaches those who are far and quiet (Liben-Nowell and Kleinberg 2007, on common neighbours).
Whom only strange events have reached nobody has heard of (`models.learning`).

What it misses: two parties that became close outside of the watched traffic.
"""

from __future__ import annotations

import numpy as np

from models.compiled import inline
from models.facts import known, of_value, place
from models.schema import RING, TABLES
from models.signals import RECIPIENT
from models.state import SHARED, Arrays
from models.table import Array, Key, change_last, claim, claim_part, find, mix

HOME = 40  # attribute under which the fleet counts the domains of its principals
HOME_SHARE = 0.2
RECENTLY, LATELY = 2 * 86400.0, 14 * 86400.0  # seconds
SEVERAL = 3  # contacts in common
FAR = 16  # the farthest step: nobody has heard of it
AGENT, WROTE = 42, 43  # under which partitions know each other's agents, and that one has written to another
COHORTS = TABLES.index("cohorts")


@inline
def closeness(a: Arrays, agent: Key, me: Key, recipient: Key, clock: float) -> int:
    """Step of the scale above; `me` is the key under which the agent's baseline stands."""
    if known(a.facts, place(RECIPIENT, 0), me, recipient):
        return 0
    i = find(a.contacts, agent)
    j = find(a.contacts, recipient)
    if j < 0:
        return FAR
    quiet = clock - a.contacts[j].w
    active = 0 if quiet < RECENTLY else 1 if quiet < LATELY else 2
    if wrote(a, recipient, agent):
        return 1 + active
    common = 0
    if i >= 0:
        for x in range(min(RING, a.contacts[i].n)):
            for y in range(min(RING, a.contacts[j].n)):
                if a.contacts_body[i, x] == a.contacts_body[j, y]:
                    common += 1
                    break
    return 1 + 4 * (3 if common == 0 else 2 if common < SEVERAL else 1) + active


@inline
def is_agent(a: Arrays, party: Key) -> bool:
    """Whether a party is an agent, of this partition or another."""
    return bool(find(a.agents, party) >= 0 or known(a.facts, place(AGENT, 0), fleet_entity(), party))


@inline
def wrote(a: Arrays, one: Key, other: Key) -> bool:
    """Whether an agent, of this partition or another, has written to a party."""
    entity = entity_of(a, one)
    if known(a.facts, place(RECIPIENT, 0), entity, other):
        return True
    return bool(find(a.agents, one) < 0 and known(a.facts, place(WROTE, 0), entity, other))


@inline
def meet(contacts: Array, body: Array, dirty: Array, tally: Array, one: Key, other: Key, clock: float) -> None:
    """Remember `other` among the last contacts of `one`."""
    i, fresh = claim_part(contacts, dirty, tally, one)
    if fresh:
        contacts[i].n = 0
        contacts[i].first = clock
    contacts[i].w = clock
    change_last(dirty, i)
    body[i, contacts[i].n % RING] = np.uint32(other)
    contacts[i].n += 1


@inline
def is_home(facts: Array, own: Array, domain: Key, home: Key, fade: float) -> bool:
    """Whether a domain (`Batch.under`) is the organisation's: one of its own where they are given, else the principal's, else a common one
    among principals. No domain is inside."""
    if domain == np.uint64(0):
        return True
    for i in range(len(own)):
        if own[i] == domain:
            return True
    if len(own) > 0:
        return False  # the setting is the authority: an event must not name its own home
    if domain == home:
        return True
    context = mix(place(HOME, 0), fleet_entity())
    i = find(facts, context)
    j = find(facts, of_value(context, domain))
    return i >= 0 and j >= 0 and facts[i].w * fade >= 20.0 and facts[j].w >= HOME_SHARE * facts[i].w


@inline
def count_home(head: Array, dirty: Array, tally: Array, home: Key, now: float) -> None:
    """Count the domain of a principal, for the fleet."""
    context = mix(place(HOME, 0), fleet_entity())
    for key in (context, of_value(context, home)):
        i, fresh = claim(head, dirty, tally, key)
        if fresh:
            head[i].w = head[i].d = 0
        head[i].w += now
        dirty[i] |= SHARED


@inline
def fleet_entity() -> Key:
    """Key of the fleet."""
    return np.uint64(1)


@inline
def cohort_entity(cohort: Key) -> Key:
    """Key of a cohort; agents without a type share one, unless a better one is found (`cohort_of`)."""
    return np.uint64(cohort) * np.uint64(2) + np.uint64(2)


@inline
def cohort_of(a: Arrays, cohort: Key, ag: int) -> Key:
    """Key of the cohort of the agent in slot `ag`: its type's, else that of the agents that do the same, if it has been found (`models.cohort`)."""
    leader = a.agents[ag].leader if cohort == np.uint64(0) and ag >= 0 else np.uint64(0)
    return mix(np.uint64(4), leader) if leader != np.uint64(0) else cohort_entity(cohort)


@inline
def mark_of(a: Arrays, cohort: Key, ag: int) -> int:
    """The mark of a changed row of the cohort of the agent in slot `ag`: that of one which was found is not known to other partitions."""
    return 1 if cohort == np.uint64(0) and ag >= 0 and a.agents[ag].leader != np.uint64(0) else 1 | SHARED


@inline
def cohort_row(a: Arrays, key: Key, clock: float) -> int:
    """Slot of a cohort's row, begun if it is new."""
    co, fresh = claim(a.cohorts, a.cohorts_dirty, a.tally[COHORTS], key)
    if fresh:
        a.cohorts_body[co, :] = 0
        a.cohorts[co].agents = 0
        a.cohorts[co].since = clock
    a.cohorts[co].w = clock
    return co


@inline
def agent_entity(agent: Key) -> Key:
    """Key of an agent whose baseline was never begun anew (`models.newcomer`)."""
    return mix(np.uint64(3), np.uint64(agent))


@inline
def next_entity(entity: Key) -> Key:
    """Key of the same agent once its baseline is begun anew."""
    return mix(np.uint64(5), np.uint64(entity))


@inline
def left_behind(entity: Key) -> Key:
    """Key of the row of facts which says that an agent's key is no longer in use."""
    return mix(np.uint64(6), np.uint64(entity))


@inline
def entity_of(a: Arrays, agent: Key) -> Key:
    """Key of an agent: its row has it. Where that gave way, the first that was not left behind."""
    ag = find(a.agents, agent)
    entity = a.agents[ag].entity if ag >= 0 else np.uint64(0)
    if entity == np.uint64(0):
        entity = agent_entity(agent)
        while find(a.facts, left_behind(entity)) >= 0:
            entity = next_entity(entity)
    return entity
