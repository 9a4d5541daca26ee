"""How long has an agent left alone a permission, or a tool, that it once used?

A grant that nobody has used for weeks is one that nobody would miss: reviews of access look for it (AWS IAM's "last accessed", NIST SP 800-53
AC-6(7)), and so does who borrows an agent. Of an event's permissions and its tool the one that was left alone for longest counts, in days. From two
weeks on, on seven days of which at least the agent worked (after a holiday nothing is dormant), its tail pays (`models.tails`), so where tasks come once a month
that is learned, by the agent, its cohort and the fleet. Once used it is awake again, but for the rest of the sitting (`models.sitting`) each use counts
as the first: a task that comes once a month uses it once, who borrows it goes on.

What it misses: what was left alone for less; everything in the first two weeks; resources.
"""

from __future__ import annotations

from models import batch as col
from models import signals, sitting
from models import state as st
from models.batch import Batch
from models.compiled import inline
from models.here import USES, Here, Room
from models.levels import DAY
from models.table import claim, find

LEAST, WORKED = 14, 7  # days


@inline
def left_alone(a: st.Arrays, b: Batch, e: int, w: Room, n: int, h: Here) -> float:
    """Days for which the agent has left alone one of the event's n facts, 0 below two weeks, -1 where it knows none of them; learn that it uses them."""
    level = find(a.levels, w.entity[2])
    worked = a.levels[level].n if level >= 0 else 0
    out = -1.0
    for q in range(n):
        k = w.facts.attribute[q]
        if k not in (signals.TOOL, signals.PERMISSION):
            continue
        key = w.facts.keys[q, 2, 1]
        i = find(a.uses, key)
        days, wakes = 0.0, False
        if i >= 0:
            days = (h.clock - a.uses[i].w) / DAY
            wakes = days >= LEAST and float(worked) - float(a.uses[i].days) >= WORKED
            if not wakes:
                days = float(a.uses[i].slept) if h.clock - a.uses[i].woke < sitting.LASTS else 0.0
            out = max(out, 0.0)
            if days > out:
                out = days
                w.detail[col.LEFT_ALONE] = days
                w.detail[col.LEFT_ALONE + 1] = w.facts.entry[q] - b.scope_at[e] if k == signals.PERMISSION else -1
        if h.learned and not w.judged[0]:
            i, fresh = claim(a.uses, a.uses_dirty, a.tally[USES], key)
            if fresh or wakes:
                a.uses[i].woke = h.clock if wakes else 0.0
                a.uses[i].slept = days
            a.uses[i].w = h.clock
            a.uses[i].days = worked
    return out
