"""What an agent never did before stays new until its sitting is over: four hours without it, half a working day.

Learning would excuse at once what comes in one go: the second file for a stranger goes to somebody whom the agent has just met. A person asks
what is new since the morning. So where data leaves (a recipient outside, its domain, which data flow there), and for the class of the data, a value that
the agent had never shown, and that was strange, costs for the rest of the sitting what it did at first. Ordinary oddities are
done once; who strays goes on. Of a newcomer (`models.newcomer`) so do tools, permissions, roots, branches and steps:
its work is what its peers do, and what is strange among them is no more usual for being done again. What a person has called benign is known at once.

What it misses: who comes back the next day is known by then, but for what adds up over days (`models.scoring`). Names inside and
resources are not kept new, nor are the tools of who is no newcomer: work that is new is done again and again.
"""

from __future__ import annotations

import numpy as np

from models import signals
from models import state as st
from models.compiled import inline
from models.here import CALLS, Here, Room
from models.table import Key, claim, find, mix

LASTS = 4 * 3600.0  # seconds
LEAST = 6.0  # bits beyond the usual that make a value strange
KEPT_NEW = signals.KEPT_NEW
STAYS = np.isin(np.arange(signals.N_FACTS), KEPT_NEW)
COLUMN = np.searchsorted(KEPT_NEW, np.arange(signals.N_FACTS))  # of those that stay, in a row of detail
LEAVES = np.isin(
    np.arange(signals.N_FACTS), (signals.RECIPIENT, signals.DOMAIN, signals.FLOW)
)  # counts only where somebody outside receives
AT_FIRST = np.isin(np.arange(signals.N_FACTS), signals.KEPT_NEW_AT_FIRST)
NEARLY = 0.49  # uses of what is kept new: less than one, and not none


@inline
def stays(k: int, h: Here) -> bool:
    """Whether a fact of this agent is kept new."""
    return bool(STAYS[k] and (h.newcomer or not AT_FIRST[k]))


@inline
def _place(row: Key) -> Key:
    return mix(np.uint64(736), row)


@inline
def _begun(row: Key) -> Key:
    """Where the time stands at which a value was first shown in its sitting."""
    return mix(np.uint64(737), row)


@inline
def since(a: st.Arrays, h: Here, row: Key) -> float:
    """Seconds since a value that is kept new was first shown, 0 where that is not known."""
    i = find(a.calls, _begun(row))
    return h.clock - float(a.calls[i].w) if i >= 0 else 0.0


@inline
def first_bits(a: st.Arrays, h: Here, row: Key, slot: int) -> float:
    """Bits that a value of the agent had when it was new in this sitting, else 0; `row` is its key in the facts."""
    if h.clock - a.agents[h.ag].novel_at >= LASTS or (slot >= 0 and a.facts[slot].d > 0):
        return 0.0  # a verdict has added to it
    i = find(a.calls, _place(row))
    return float(a.calls[i].n) if i >= 0 and h.clock - a.calls[i].w < LASTS else 0.0


@inline
def remember(a: st.Arrays, w: Room, h: Here, q: int, before: float) -> None:
    """Put down that fact q is new to the agent, or that the sitting in which it was goes on; `before` is the agent's count."""
    k = w.facts.attribute[q]
    if not stays(k, h) or w.surprise[k] - w.mean[k] <= LEAST:
        return
    place = _place(w.facts.keys[q, 2, 1])
    if before > 0:
        i = find(a.calls, place)
        if i < 0 or h.clock - a.calls[i].w >= LASTS:
            return
    else:
        i, _ = claim(a.calls, a.calls_dirty, a.tally[CALLS], place)
        a.calls[i].n = w.surprise[k]
        j, _ = claim(a.calls, a.calls_dirty, a.tally[CALLS], _begun(w.facts.keys[q, 2, 1]))
        a.calls[j].w = h.clock  # which stays
        a.calls[j].n = 0.0
        a.calls_dirty[j] = 1
    a.calls[i].w = h.clock
    a.calls_dirty[i] = 1
    a.agents[h.ag].novel_at = h.clock
