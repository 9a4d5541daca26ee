"""What an agent is used to, hour by hour: in how many of the hours in which it works it reaches a place, or a party, that is rare for it.

What is rare is so by the count of an agent's events. But who does much, and has eighty channels of which it seldom writes to most, does something rare in every
hour, and each is by its count as rare as what another does once a year. Nor does it become usual by itself: what scores high teaches little. With q the share of
the n hours worked (the last 500 count) in which there was such a thing, and one hour in two hundred for what is usual,

    f = (n·q + 200/200)/(n + 200),   excuse = max(0, log2(200·f)) bits

less is paid for a place (groups `scope` and `leaf`) or a party (`party`) that the agent has reached before; for a new one, for tools, permissions and the order of steps all is
paid as ever. An hour counts once, whatever happens in it, so that an attack of an hour moves little. Where something leaves the organisation nothing is
excused, nor for a newcomer; what was called malicious is not counted.

What it misses: who goes back, inside and in many of its hours, to places that it had reached before and hardly uses is taken to be like that.
"""

from __future__ import annotations

import math

import numpy as np

from models import batch as col
from models import signals
from models import state as st
from models.compiled import inline
from models.here import Here, Room

HOUR = 3600.0
PAID = 6.0  # bits from which on it is rare
MEMORY, LENT = 500.0, 200.0  # hours: of the agent's own, and of what is usual
USUAL = 0.005
TOUCHES, RECEIVES = 1, 2  # bits of `odd`
# Of places and parties an agent may have many; tools, permissions and the order of steps are few.
MANY = np.isin(
    np.arange(signals.N_SIGNALS), (signals.ROOT, signals.BRANCH, signals.RESOURCE, signals.RECIPIENT, signals.DOMAIN)
)
SCOPE, LEAF, PARTY = (signals.GROUPS.index(name) for name in ("scope", "leaf", "party"))


@inline
def excuse(a: st.Arrays, w: Room, h: Here) -> int:
    """Take off what the agent is used to; which of the two, a place or a party, was rare before that."""
    if h.newcomer or w.detail[col.SESSION + 2] > 0:
        return 0
    rare = 0
    if _seldom(w, SCOPE):
        rare |= TOUCHES if w.group[SCOPE] >= PAID else 0
        used = _bits(a.agents[h.ag].touches, a.agents[h.ag].hours)
        w.group[SCOPE] = max(0.0, w.group[SCOPE] - used)
        if _seldom(w, LEAF):
            w.group[LEAF] = max(0.0, w.group[LEAF] - used)
    if _seldom(w, PARTY):
        rare |= RECEIVES if w.group[PARTY] >= PAID else 0
        used = _bits(a.agents[h.ag].receives, a.agents[h.ag].hours)
        w.group[PARTY] = max(0.0, w.group[PARTY] - used)
    return rare


@inline
def _seldom(w: Room, group: int) -> bool:
    """Whether a group pays for a place or a party that the agent has reached before."""
    k = w.winner[group]
    return bool(k >= 0 and MANY[k] and w.detail[col.FACT + k * col.FACT_WIDTH] > 0)


@inline
def learn(a: st.Arrays, h: Here, rare: int) -> None:
    """Count the hour, if it is the first event of it, and what of the two it was the first to have."""
    if h.newcomer:
        return
    hour = np.uint32(1.0 + h.clock // HOUR)  # 0: none yet
    if a.agents[h.ag].hour != hour:
        a.agents[h.ag].hour = hour
        a.agents[h.ag].odd = 0
        n = min(MEMORY, a.agents[h.ag].hours + 1.0)
        a.agents[h.ag].hours = n
        a.agents[h.ag].touches *= 1.0 - 1.0 / n
        a.agents[h.ag].receives *= 1.0 - 1.0 / n
    new = rare & ~int(a.agents[h.ag].odd)
    a.agents[h.ag].odd |= np.uint8(new)
    if new & TOUCHES:
        a.agents[h.ag].touches += 1.0 / a.agents[h.ag].hours
    if new & RECEIVES:
        a.agents[h.ag].receives += 1.0 / a.agents[h.ag].hours


@inline
def _bits(share: float, hours: float) -> float:
    return max(0.0, math.log2((share * hours + LENT * USUAL) / (hours + LENT) / USUAL))
