"""What a surprise usually costs: running means per agent, cohort and fleet, compared at the same age.

The fleet's mean surprise of a fact at an age (power of two of the events an agent has seen) has weight 5 on a prior of 2 bits;
the cohort's weight 5 on the fleet's; the agent's own weight 10 on the cohort's. The age is what lets a newcomer be
judged by newcomers: everything is new to it, as it was to them. Those who were there when the fleet began met a fleet to which everything was new as well, which excuses more:
who came later, or was reset, is compared with its like, and for its first five days with them alone:
who strays from the first hour would else be used to it by the evening. Its recipients are its own affair. No division by a deviation: both were tried, both were worse.

Of where a tool lands, from which it comes and who outside receives (branch, transition, domain, flow), the agent's mean in turn backs that of the tool, with weight 10: a
search lands on a new place each time and may follow on anything, a deletion does not. Over the last 200 uses, the means stand in the table of facts, as weight and sum. The same of recipients
and of whole resources loses more than it wins.

What it misses: an agent that has been strange from its first day on, after its first five days or where its fleet began with it.
"""

from __future__ import annotations

import numpy as np

from models import signals
from models.compiled import inline
from models.facts import place, row
from models.schema import AGES
from models.table import Array, Key, find, mix

PRIOR_BITS, YOUNG, OWN = 2.0, 5.0, 10.0
MEMORY_FLEET, MEMORY_COHORT, MEMORY_OWN = 2000.0, 1000.0, 500.0
CLIP = 8.0
BY_TOOL = np.isin(np.arange(signals.N_FACTS), (signals.BRANCH, signals.TRANSITION, signals.DOMAIN, signals.FLOW))
MEMORY_TOOL = 200.0
OWN_AFFAIR = np.isin(np.arange(signals.N_FACTS), signals.OWN_AFFAIR)


@inline
def usual(fleet: Array, cohort: Array, own: Array, fact: int, age: int, newcomer: bool) -> float:
    """Bits that this fact usually costs this agent; a newcomer what it costs others of its age, but for its own affairs. Rows hold (mean, weight) pairs: own by fact, the others by fact and age."""
    at = 2 * (fact * AGES + age)
    n = min(fleet[at + 1], MEMORY_FLEET)
    mean = (fleet[at] * n + PRIOR_BITS * 5.0) / (n + 5.0)
    n = np.float32(min(cohort[at + 1], MEMORY_COHORT))  # as these rows are
    mean = (cohort[at] * n + mean * YOUNG) / (n + YOUNG)
    if newcomer and not OWN_AFFAIR[fact]:
        return float(mean)
    n = np.float32(min(own[2 * fact + 1], MEMORY_OWN))
    return float((own[2 * fact] * n + mean * OWN) / (n + OWN))


@inline
def learn(
    fleet: Array, cohort: Array, own: Array, fact: int, age: int, surprise: float, mean: float, weight: float
) -> None:
    """Move the three means towards a surprise, at most 8 bits beyond the mean it was judged by."""
    x = min(surprise, mean + CLIP)
    at = 2 * (fact * AGES + age)
    _move(fleet, at, x, weight, MEMORY_FLEET)
    _move(cohort, at, x, weight, MEMORY_COHORT)
    _move(own, 2 * fact, x, weight, MEMORY_OWN)


@inline
def with_tool_key(fact: int, tool: Key, me: Key) -> Key:
    """Key of the row of a fact with a tool."""
    return mix(mix(np.uint64(738), place(fact, tool)), me)


@inline
def with_tool(head: Array, fact: int, tool: Key, me: Key, mean: float, now: float) -> float:
    """Bits that this fact usually costs this agent with this tool; `mean` is what it costs with any, `now` the present weight of one event."""
    i = find(head, with_tool_key(fact, tool, me))
    if i < 0:
        return mean
    return (float(head[i].d) + mean * OWN * now) / (float(head[i].w) + OWN * now)


@inline
def learn_with_tool(
    head: Array,
    dirty: Array,
    tally: Array,
    fact: int,
    tool: Key,
    me: Key,
    surprise: float,
    mean: float,
    now: float,
    weight: float,
) -> None:
    """Add a surprise to the tool's sum; `now` is the present weight of one event, and 200 such are the most that is remembered."""
    i, _ = row(head, dirty, tally, with_tool_key(fact, tool, me), -1)
    keep = min(1.0, (MEMORY_TOOL - weight) * now / max(float(head[i].w), now))
    head[i].w = head[i].w * keep + weight * now
    head[i].d = head[i].d * keep + weight * now * min(surprise, mean + CLIP)


@inline
def _move(means: Array, at: int, x: float, weight: float, memory: float) -> None:
    means[at + 1] += weight  # all of it counts, its memory is bounded
    means[at] += weight * (x - means[at]) / min(means[at + 1], memory)
