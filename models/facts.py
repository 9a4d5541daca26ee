"""What an event says: how improbable is each fact of it, to this agent, its cohort and the fleet.

A fact is (attribute, context, value), such as (tool, -, `crm.export`). At each level from fleet to agent

    p = (c + κ · p_above) / (N + κ),   κ = θ + δ · D

with c the value's decayed count, N the context's total and D how many distinct values it has: something new is judged by
how often this agent, then its peers, meet new things. What another cohort reaches excuses nobody: tools, permissions, resources
and recipients have no c at the fleet, whose D then counts (cohort, value) (`models.signals.REACHED`). Above the fleet, p = 1 / (D + 10). The surprise is −log2 p.

Learning adds a weight at the agent, and to the level above only the share that the level below could not explain, so the
cohort and the fleet count *how many agents use* a value rather than how often. This is the predictive rule of a
hierarchical Pitman–Yor process with one table a dish (Teh 2006) made soft and decaying.

What it misses: values that are new to everyone and to which every agent is used to being new (ticket numbers) say nothing
here; a value used a few times long ago is still half known after 60 days.
"""

from __future__ import annotations

import math

import numpy as np
from river.base import AnomalyDetector

from models.compiled import inline
from models.signals import N_FACTS, NUMBER_OF_FACT
from models.space import detached, rows_of
from models.table import Array, Key, change_count, claim, find, fnv, mix

THETA, DELTA, BEYOND = 1.0, 0.5, 10.0
LEVELS = 3  # fleet, cohort, agent
_ROW = np.dtype([("key", "u8"), ("w", "f4"), ("d", "f4")])


@inline
def place(attribute: int, context: Key) -> Key:
    """Key of a context, before the entity."""
    number = NUMBER_OF_FACT[attribute] if attribute < N_FACTS else attribute
    return mix(np.uint64(number + 1), np.uint64(context) + np.uint64(1))


@inline
def of_value(context: Key, value: Key) -> Key:
    """Key of a value's row in a context of an entity."""
    return mix(context, value + np.uint64(7))


@inline
def known(head: Array, base: Key, entity: Key, value: Key) -> bool:
    """Whether an entity has shown a value, but for what a verdict took back."""
    i = find(head, of_value(mix(base, entity), value))
    return i >= 0 and count(head, i) > 0


@inline
def predict(
    facts: Array,
    base: Key,
    value: Key,
    entity: Array,
    fade: float,
    keys: Array,
    slots: Array,
    counts: Array,
    q: int,
    broadest: int,
) -> float:
    """Probability of a value that is counted from level `broadest` on. Fills row q of `keys` and `slots` (level, 2: context and value) and of `counts` (level, 4: c, N, D, κ·p_above)."""
    p = 1.0
    for level in range(LEVELS):
        context = mix(base, entity[level])
        own = of_value(context, value)
        keys[q, level, 0] = context
        keys[q, level, 1] = own
        c = total = distinct = 0.0
        i = find(facts, context)
        if i >= 0:
            total = facts[i].w * fade
            distinct = facts[i].d * fade
        j = find(facts, own) if level >= broadest else -1
        if j >= 0:
            c = count(facts, j) * fade
        slots[q, level, 0] = i
        slots[q, level, 1] = j
        kappa = THETA + DELTA * distinct
        if level == 0:
            p = 1.0 / (distinct + BEYOND)
        counts[q, level, 0] = c
        counts[q, level, 1] = total
        counts[q, level, 2] = distinct
        counts[q, level, 3] = kappa * p
        p = (c + kappa * p) / (total + kappa)
    return p


@inline
def count(facts: Array, slot: int) -> float:
    """How often a value was shown, not faded: what was counted, and what a verdict has added or taken (`models.verdict`)."""
    return float(max(0.0, facts[slot].w + facts[slot].d))


@inline
def row(facts: Array, dirty: Array, tally: Array, key: Key, slot: int) -> tuple[int, bool]:
    """Slot of a row, made empty if it is new, and whether it is; `slot` is where it was found, and another key may have taken that since."""
    if slot >= 0 and facts[slot].key == key:
        return np.int64(slot), False  # type: ignore[return-value]
    i, fresh = claim(facts, dirty, tally, key)
    if fresh:
        facts[i].w = 0.0
        facts[i].d = 0.0
    return i, fresh


@inline
def learn(
    facts: Array,
    dirty: Array,
    tally: Array,
    keys: Array,
    slots: Array,
    counts: Array,
    q: int,
    now: float,
    weight: float,
    mark: Array,
    broadest: int,
) -> float:
    """Add a value that `predict` has just seen with the same `broadest`; `now` is the present weight of one event, `mark` that of a changed row at each level.

    The agent's count before, faded.
    """
    fresh = False
    for level in range(LEVELS - 1, -1, -1):
        if level >= broadest:
            i, fresh = row(facts, dirty, tally, keys[q, level, 1], slots[q, level, 1])
            facts[i].w += weight * now
            change_count(dirty, i, mark[level])
        j, _ = row(facts, dirty, tally, keys[q, level, 0], slots[q, level, 0])
        facts[j].w += weight * now
        change_count(dirty, j, mark[level])
        if fresh:
            facts[j].d += min(1.0, weight) * now
            dirty[j] |= 1
        weight *= counts[q, level, 3] / (counts[q, level, 0] + counts[q, level, 3])
    return float(counts[q, LEVELS - 1, 0])


@inline
def bits(p: float) -> float:
    """Surprise of a probability."""
    return -math.log2(min(1.0, p))


class Novelty(AnomalyDetector):  # type: ignore[misc]
    """Surprise of one event's facts to one agent, for use on its own: every item of a dict is a fact.

    The score is the largest surprise among the items, in bits: 10 bits means one event in about a thousand. Before the
    first event it is that of a value never seen, 1 in 10. Numbers with a fraction are compared by their order of magnitude
    (their binary exponent), anything else by what `repr` says of it. Constant time and memory: at most `rows` table rows.

    It misses combinations: each item is judged alone. Once the table is full, values that are seldom used are forgotten.

    Parameters
    ----------
    rows
        Size of its table, a power of two.

    Raises `ValueError` if it is not.

    Examples
    --------
    >>> from models.facts import Novelty
    >>> tool = Novelty()
    >>> for _ in range(30):
    ...     tool.learn_one({"tool": "search"})
    >>> round(tool.score_one({"tool": "search"}), 3)
    0.007
    >>> round(tool.score_one({"tool": "drop_table"}), 1)
    11.0

    References
    ----------
    Teh, Y. W. (2006). A Hierarchical Bayesian Language Model based on Pitman-Yor Processes. ACL.

    """

    def __init__(self, rows: int = 1 << 12) -> None:
        if rows < 1 or rows & (rows - 1):
            raise ValueError(f"rows must be a power of two, not {rows}")
        self.rows = rows
        self._memory = detached(rows, _ROW)
        self._dirty = np.zeros(rows, np.uint8)
        self._tally = np.zeros(3, np.int64)
        self._entity = np.array([1, 2, 3], np.uint64)
        self._mark = np.ones(LEVELS, np.uint8)

    def score_one(self, x: dict[object, object]) -> float:
        """Largest surprise among the items, in bits."""
        return max((bits(self._predict(k, v)[0]) for k, v in x.items()), default=0.0) + 0.0  # never -0.0

    def learn_one(self, x: dict[object, object]) -> None:
        """Count every item, in the order of their names: which rows give way must not depend on the order of a dict."""
        for k, v in sorted(x.items(), key=lambda item: str(item[0])):
            learn(
                rows_of(self._memory, self.rows, _ROW),
                self._dirty,
                self._tally,
                *self._predict(k, v)[1:],
                0,
                1.0,
                1.0,
                self._mark,
                0,
            )

    def _predict(self, name: object, value: object) -> tuple[float, Array, Array, Array]:
        if isinstance(value, float) and math.isfinite(value):
            value = math.frexp(value)[1]
        keys = np.zeros((1, LEVELS, 2), np.uint64)
        slots = np.zeros((1, LEVELS, 2), np.int64)
        counts = np.zeros((1, LEVELS, 4))
        base, number = np.uint64(_number(str(name))), np.uint64(_number(repr(value)))
        return (
            float(
                predict(
                    rows_of(self._memory, self.rows, _ROW), base, number, self._entity, 1.0, keys, slots, counts, 0, 0
                )
            ),
            keys,
            slots,
            counts,
        )


def _number(text: str) -> int:
    return fnv(text.encode("utf-8", "surrogatepass"))
