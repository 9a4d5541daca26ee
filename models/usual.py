"""What a surprise usually costs: running means per agent, cohort and fleet, compared at the same age.

The fleet's mean surprise of a fact at an age (power of two of the events an agent has seen) has weight 5 on a prior of 2 bits;
the cohort's weight 5 on the fleet's; the agent's own weight 10 on the cohort's. The age is what lets a newcomer be
judged by newcomers: everything is new to it, as it was to them. Those who were there when the fleet began met a fleet to which everything was new as well, which excuses more:
who came later, or was reset, is compared with its like. No division by a deviation: both were tried, both were worse.

What it misses: an agent that has been strange from its first day on.
"""

from __future__ import annotations

import numpy as np

from models.compiled import inline
from models.state import AGES
from models.table import Array

PRIOR_BITS, YOUNG, OWN = 2.0, 5.0, 10.0
MEMORY_FLEET, MEMORY_COHORT, MEMORY_OWN = 2000.0, 1000.0, 500.0
CLIP = 8.0


@inline
def usual(fleet: Array, cohort: Array, own: Array, fact: int, age: int) -> float:
    """Bits that this fact usually costs this agent. Rows hold (mean, weight) pairs: own by fact, the others by fact and age."""
    at = 2 * (fact * AGES + age)
    n = min(fleet[at + 1], MEMORY_FLEET)
    mean = (fleet[at] * n + PRIOR_BITS * 5.0) / (n + 5.0)
    n = np.float32(min(cohort[at + 1], MEMORY_COHORT))  # as these rows are
    mean = (cohort[at] * n + mean * YOUNG) / (n + YOUNG)
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
def _move(row: Array, at: int, x: float, weight: float, memory: float) -> None:
    row[at + 1] += weight  # all of it counts, its memory is bounded
    row[at] += weight * (x - row[at]) / min(row[at + 1], memory)
