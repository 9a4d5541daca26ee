"""Whether anybody vouches for an agent that gives sensitive data away: a past of its own, peers with one, or that the party is known.

Who is new, and of a kind that is new as well (a type nobody had five days ago, or none at all), is judged by nothing: everything is news to it, as it was
to all newcomers, and whatever such an agent does first, the next of its kind is excused for. So whoever may name agents could send out what it likes, once for each name. What
it sends outside is therefore a step of a scale (`models.ordinal`): 0 where somebody vouches for it or the data is of the lower half of the ladder, else 1 for data of
the upper half, 2 of the highest class, and one more for a thousand records or more. Where new kinds of agents often do so, that is learned by the fleet.

A benign verdict vouches for what the agent gave and to whom, and for less of it: for each step up to that one there is then a row of facts with the recipient as
context (`models.verdict`).

To a newcomer its peers vouch for a party that they have written to again and again, and that was first met five days ago or earlier: that one is close to it, as one that
it has written to itself, and nothing that it gives it has newly left the organisation.

An agent whose type was changed within five days, to such a new one, counts as new. A party outside vouches if it was first met five days ago or earlier.

What it misses: data that is called harmless, or not called anything; what stays inside; a kind that was kept quiet for five days (then it has a past, which judges it).
"""

from __future__ import annotations

import numpy as np

from models import newcomer
from models import state as st
from models.batch import Batch
from models.compiled import inline
from models.facts import count, known, of_value, place
from models.harm import MANY_RECORDS
from models.here import Here
from models.signals import RECIPIENT, UNVOUCHED
from models.table import Key, find, mix

FARTHEST = 3  # the last step
REGULAR = 3.0  # times that peers have written to a party


@inline
def step(a: st.Arrays, b: Batch, e: int, recipient: Key, me: Key, h: Here) -> int:
    """Step of the scale above for what an event gives to a party outside; `me` is the key under which its agent's baseline stands."""
    if b.denied[e] or b.sensitive[e] == 0 or _is_vouched_for(a, b.cohort[e], h):
        return 0
    if _is_old(a, recipient, h):
        return 0
    far = int(b.sensitive[e]) + (1 if b.records[e] >= MANY_RECORDS else 0)
    return 0 if known(a.facts, place(UNVOUCHED, recipient), me, np.uint64(far)) else far


@inline
def by_peers(a: st.Arrays, recipient: Key, h: Here) -> bool:
    """Whether an agent is a newcomer whose peers vouch for who receives."""
    if not (h.newcomer and h.peered and _is_old(a, recipient, h)):
        return False
    i = find(a.facts, of_value(mix(place(RECIPIENT, 0), h.cohort), recipient))
    return bool(i >= 0 and count(a.facts, i) * h.fade >= REGULAR)


@inline
def _is_old(a: st.Arrays, recipient: Key, h: Here) -> bool:
    """Whether a party was first met five days ago or earlier."""
    i = find(a.contacts, recipient)
    return bool(i >= 0 and h.clock - a.contacts[i].first >= newcomer.SETTLED)


@inline
def _is_vouched_for(a: st.Arrays, said: Key, h: Here) -> bool:
    """Whether an agent's own past, or that of its cohort, says what is usual for it, of the type that its event says."""
    if h.clock - a.fleet[0].since < newcomer.SETTLED or (
        h.peered and h.clock - a.cohorts[h.co].since >= newcomer.SETTLED
    ):
        return True
    agent = a.agents[h.ag]
    moved = agent.kind not in (np.uint64(0), said)
    lately = agent.kind_left != np.uint64(0) and h.clock - agent.kind_since < newcomer.SETTLED
    return not (h.newcomer or (said != np.uint64(0) and (moved or lately)))
