"""Events through the compiled loop alone, and all that it said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models import loop
from models.batch import blank
from models.signals import PAYS
from models.state import State
from models.table import Array
from stream.codec import AccessEvent
from stream.columns import columns
from stream.siphash import name_hash

MIB = 16
DAY = 86400.0
START = 1772409600.0  # 2026-03-02T00:00:00Z, a Monday
LADDER = np.array([name_hash(rung) for rung in ("public", "internal", "confidential", "restricted")], np.uint64)
ALERTS_PER_DAY = 5.0
OWN = np.zeros(0, np.uint64)
PER_EVENT = ("score", "own", "parts", "threshold", "marks", "clock")


@dataclass(repr=False)
class Run:
    """A state and all that was said of the events it has seen."""

    state: State = field(default_factory=lambda: State(MIB))
    said: dict[str, list[Array]] = field(default_factory=lambda: {name: [] for name in PER_EVENT})

    def feed(self, events: Sequence[AccessEvent]) -> Run:
        if not events:
            return self
        batch, out, at, asked = columns(events, LADDER), blank(len(events), window=False), 0, (-1, 0)
        while True:
            at, why = loop.run(self.state.arrays(), batch, out, at, ALERTS_PER_DAY, OWN, PAYS, np.inf)
            if why == loop.FINISHED:
                break
            asked = (at, asked[1] + 1 if at == asked[0] else 1)
            assert asked[1] < 1000, f"event {at} asks again and again for room in {why}"
            if why == loop.RESCALE:
                self.state.rescale()
            else:
                self.state.grow(why)
        for name in PER_EVENT:
            self.said[name].append(getattr(out, name))
        return self

    def __getitem__(self, name: str) -> Array:
        return np.concatenate(self.said[name])

    def same_as(self, other: Run) -> bool:
        """Whether both said the same of every event, to the last bit."""
        return all(self[name].tobytes() == other[name].tobytes() for name in PER_EVENT)


def read(i: int, time: float, agent: str = "bot", **fields: Any) -> AccessEvent:
    return AccessEvent(f"{agent}-{i}", time, agent, "read", **{"tool": "crm.read", "agent_type": "copilot"} | fields)
