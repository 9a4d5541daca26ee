"""Which agents are alone of their type, as far as one engine has seen: what has no peers cannot be compared with any, and is to be told so.

What it misses: peers on other partitions, whom it does not know; what their cohort has been told of them shows in the numbers (`stream.kept.has_peers`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.batch import Batch
from models.table import Array
from stream.alert import Evidence
from stream.words import HEARD, plain

MOST = 4096  # types; nothing is said of those that come after so many


class Company:
    """The types that were seen, by their hashes: the first `MOST`, for what gave way would be called alone when it comes again.

    It is no function of the rows of agents, which have one type each at present: a host keeps it beside them, as `types`.
    """

    def __init__(self) -> None:
        self.changed = False  # since a host last looked
        self._only: dict[int, int] = {}  # type → its only agent
        self._several = np.zeros(0, np.uint64)

    def types(self) -> list[tuple[int, int]]:
        """Each type with its only agent, or 0 where it had several."""
        return [*self._only.items(), *((kind, 0) for kind in self._several.tolist())]

    def restore(self, types: Sequence[tuple[int, int]]) -> None:
        """Put back what a host stored."""
        self._only = {kind: agent for kind, agent in types if agent}
        self._several = np.array([kind for kind, agent in types if not agent], np.uint64)

    def look(self, agents: Any) -> None:
        """Take the agents that a host put back, rows of the table, for seen: baselines of before have no types beside them."""
        known = agents[(agents["key"] != 0) & (agents["kind"] != 0)]
        self._see(known["kind"], known["key"])

    def alone(self, b: Batch) -> Array:
        """Of each event of a batch whether its agent was alone of its type up to then. Batches are given in their order."""
        return self._see(b.cohort, b.agent.hash)

    def _see(self, kinds: Array, agents: Array) -> Array:
        alone = np.zeros(len(kinds), bool)
        at = np.flatnonzero((kinds != 0) & ~np.isin(kinds, self._several))
        at = at[self._kept(kinds[at])]
        if not len(at):
            return alone
        names, first, which = np.unique(kinds[at], return_index=True, return_inverse=True)
        only = np.array(
            [self._only.get(int(k), int(a)) for k, a in zip(names, agents[at][first], strict=True)], np.uint64
        )
        end = np.full(len(names), len(kinds))  # where each is joined by another
        joined = agents[at] != only[which]
        np.minimum.at(end, which[joined], at[joined])
        alone[at] = at < end[which]
        several = end < len(kinds)
        self.changed |= bool(several.any()) or any(kind not in self._only for kind in names.tolist())
        self._only |= zip(names.tolist(), only.tolist(), strict=True)
        for kind in names[several].tolist():
            del self._only[kind]
        self._several = np.append(self._several, names[several])
        return alone

    def _kept(self, kinds: Array) -> Array:
        """Which events are of types that are known, or that there is room for, in the order in which they come: wherever batches are cut."""
        names, first = np.unique(kinds, return_index=True)
        new = np.array([kind not in self._only for kind in names.tolist()], bool)
        room = MOST - len(self._only) - len(self._several)
        return ~np.isin(kinds, names[new][np.argsort(first[new])][room:])


def no_peers(agent_type: str, *, apart: bool) -> Evidence:
    """The same in words; `apart`: there are other partitions."""
    here = HEARD if apart else ""
    said = f"It is the only agent of type {plain(agent_type, 48)}{here}, so there are no peers to compare it with"
    return Evidence("no_peers", "scope", said, "-", 0.0, [], 1)
