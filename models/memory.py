"""What an agent usually uses, by name: kept while learning, copied out at the moment of scoring.

Of each named fact an agent's eight most used values are kept as hashes, and what a hash is called in a table of names. An
event that becomes evidence takes the top three of each with it *as they were when it was scored*, so an alert's words do not depend
on what came after it in the batch.
"""

from __future__ import annotations

import numpy as np

from models import facts
from models.compiled import inline
from models.schema import TEXT, USUAL
from models.signals import BRANCH, CLASSIFICATION, DOMAIN, NUMBER_OF_FACT, PERMISSION, RECIPIENT, ROOT, TOOL
from models.table import Array, Key, change_one, claim, claim_part, find, mix

NAMED_FACTS = np.array([TOOL, PERMISSION, ROOT, BRANCH, CLASSIFICATION, RECIPIENT, DOMAIN])
TOP = 3
TEXTS = len(NAMED_FACTS) * TOP + 1  # the last is the session's tool before
_PROFILE = 2001  # keys of the table: mix(agent, _PROFILE + number of the fact)


@inline
def profile_of(agent: Key, fact: int) -> Key:
    """Key of what an agent uses most of a fact."""
    return mix(agent, np.uint64(_PROFILE + NUMBER_OF_FACT[fact]))


@inline
def remember(
    profiles: Array,
    body: Array,
    dirty: Array,
    tally: Array,
    facts_head: Array,
    key: Key,
    value: Key,
    context: Key,
    clock_s: float,
) -> None:
    """Keep a value among the agent's most used of its fact."""
    i, fresh = claim_part(profiles, dirty, tally, key)
    if fresh:
        body[i, :] = 0
    profiles[i].w = clock_s
    place = _place(body[i], facts_head, value, context)
    change_one(dirty, i, place)
    if place >= 0:
        body[i, place] = value


@inline
def _place(values: Array, facts_head: Array, value: Key, context: Key) -> int:
    """Where a value belongs among an agent's most used: in an empty place, or in that of the least used; -1 where it is already, or is used less."""
    place = -1
    least = np.inf
    for k in range(USUAL):
        v = values[k]
        if v == value:
            return -1
        if v == np.uint64(0):
            return k
        c = _count(facts_head, context, v)
        if c < least:
            least = c
            place = k
    return place if _count(facts_head, context, value) >= least else -1


@inline
def name(
    names: Array,
    body: Array,
    dirty: Array,
    tally: Array,
    value: Key,
    buffer: Array,
    low: int,
    high: int,
    clock_s: float,
) -> None:
    """Keep what a value is called, as far as there is room."""
    i, fresh = claim(names, dirty, tally, value)
    names[i].w = clock_s
    if fresh:
        names[i].length = min(TEXT, high - low)
        for k in range(names[i].length):
            body[i, k] = buffer[low + k]


@inline
def recall(
    profiles: Array,
    body: Array,
    names: Array,
    names_body: Array,
    facts_head: Array,
    agent: Key,
    before: Key,
    text: Array,
    length: Array,
    row: int,
) -> None:
    """Copy the names of an agent's top values of each named fact, and of the tool before, into a row of `text`."""
    for f in range(len(NAMED_FACTS)):
        fact = NAMED_FACTS[f]
        i = find(profiles, profile_of(agent, fact))
        if i < 0:
            continue
        context = mix(facts.place(fact, 0), agent)
        last = np.inf
        last_at = -1
        for top in range(TOP):
            best = -1
            best_count = 0.0
            for k in range(USUAL):
                v = body[i, k]
                c = _count(facts_head, context, v) if v != np.uint64(0) else 0.0
                if c > best_count and (c < last or (c == last and k > last_at)):
                    best, best_count = k, c
            if best < 0:
                break
            last, last_at = best_count, best
            _copy(names, names_body, body[i, best], text, length, row, f * TOP + top)
    if before != np.uint64(0):
        _copy(names, names_body, before, text, length, row, TEXTS - 1)


@inline
def _count(facts_head: Array, context: Key, value: Key) -> float:
    j = find(facts_head, facts.of_value(context, value))
    return facts.count(facts_head, j) if j >= 0 else 0.0


@inline
def _copy(names: Array, names_body: Array, value: Key, text: Array, length: Array, row: int, at: int) -> None:
    j = find(names, value)
    if j >= 0:
        length[row, at] = names[j].length
        for k in range(names[j].length):
            text[row, at, k] = names_body[j, k]
