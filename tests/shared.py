"""What several test files read an engine with, and how long hypothesis may look where an example is a whole fleet."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from hypothesis import HealthCheck, settings

from models.state import State
from stream.engine import Engine

few = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=10,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def rows(state: State) -> dict[str, Any]:
    """All rows in use, by table and slot, and how many they are."""
    out = {}
    for t in state.tables:
        used = np.flatnonzero((t.head["key"] != 0) | (t.layout.name == "fleet"))
        body = t.body[used].tobytes() if t.layout.body[1] else b""
        out[t.layout.name] = (len(t.head), used.tobytes(), t.head[used].tobytes(), body, t.tally.tolist())
    return out


def knowledge(engine: Engine) -> dict[str, Any]:
    """All that an engine knows: the rows in use, the open episodes, what cohorts began, and which types have one agent."""
    episodes = engine.episodes
    out = {"episodes": sorted(map(msgspec.json.encode, episodes.open.values()))} | rows(engine.state)
    out |= {"rollouts": [msgspec.json.encode(b) for b in episodes.rollouts.began.values()]}
    return out | {"types": sorted(engine.company.types())}
