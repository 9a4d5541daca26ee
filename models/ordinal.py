"""Facts whose values are steps of a scale: how rare, for this agent, its cohort and the fleet, is a step at least this far.

How close a recipient stands and whose a resource is are no names but degrees, from the nearest to the farthest. Such a step is judged by the
share of steps at or beyond it. With C their decayed weight and N that of all,

    p_fleet = (C + 1)/(N + 1),  p_cohort = (C + 1)/(N + 1/p_fleet),  p_agent = (C + 1)/(N + 1/p_cohort),  bits = −log2 p_agent

so one exceedance is lent by the level above, as to every tail (`models.tails`). All three levels learn each event in full: after a step has
been put on the scale agents differ little, and what the peers do says much. What is far teaches little, `max(0.05, 2^(−0.7·(bits − 2)))`: else
whoever writes to a stranger twice would be used to strangers, and an attack on one agent would excuse the same on its peers.

The weights stand in the table of facts, a row for each step that was reached and one for the total.

What it misses: which of the far ones it is; an agent whose job it is to reach strangers.
"""

from __future__ import annotations

import numpy as np

from models import tails
from models.compiled import inline
from models.facts import LEVELS, count, of_value
from models.table import Array, Key, change_count, claim_part, find, mix

LEAST, DOUBT = 0.05, 0.7  # the least that a step teaches, and how fast that falls
FREE = 2.0  # bits that are no doubt


@inline
def rarity(head: Array, base: Key, above: Key, step: int, entity: Array, now: float, counts: Array) -> float:
    """One over the share of steps at or beyond `step`, of `base` for the agent and of `above` for its cohort and the fleet; `now` is the present
    weight of one event. Fills `counts` (level, 2: at or beyond, all)."""
    out = 1.0
    for level in range(LEVELS):
        context = mix(base if level == LEVELS - 1 else above, entity[level])
        i = find(head, context)
        j = find(head, of_value(context, np.uint64(step))) if step > 0 else i
        total = float(head[i].w) if i >= 0 else 0.0
        beyond = total if step == 0 else count(head, j) if j >= 0 else 0.0
        counts[level, 0], counts[level, 1] = beyond, total
        if level > 0 or total > 0:
            out = tails.lend(beyond, total, now, out)
    return out


@inline
def learn(
    head: Array,
    dirty: Array,
    tally: Array,
    base: Key,
    step: int,
    entity: Array,
    levels: int,
    now: float,
    bits: float,
    mark: Array,
) -> None:
    """Count a step that was worth so many bits, at so many `levels` from the fleet on; `mark` is that of a changed row at each level."""
    weight = now * max(LEAST, min(1.0, 2.0 ** (-DOUBT * (bits - FREE))))
    for level in range(levels):
        context = mix(base, entity[level])
        for k in range(step + 1):
            i, fresh = claim_part(head, dirty, tally, of_value(context, np.uint64(k)) if k > 0 else context)
            if fresh:
                head[i].w = head[i].d = 0.0
            head[i].w += weight
            change_count(dirty, i, mark[level])
