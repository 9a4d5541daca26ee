"""What is usual for one agent, read from its rows: values by name, amounts, levels. Nothing is learned here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from models import facts, parties
from models.amounts import place
from models.memory import NAMED_FACTS, profile_of
from models.schema import HALF_HOURS, HALF_LIFE, OWN_HOURS, OWN_WINDOW, RING
from models.signals import FACTS, TOOL
from models.state import State
from models.table import Array, Key, find, mix


@dataclass(frozen=True)
class Used:
    """A value that an agent uses: its name and its count, faded to the present; what a benign verdict counts it for beside that, and whether a malicious one is on it."""

    name: str
    count: float
    judged: float = 0.0
    hostile: bool = False

    @property
    def weight(self) -> float:
        """What it is worth when it comes again."""
        return self.count + self.judged


# Compiled functions give Python's integers back, and a large one is not taken for a uint64 at the next call.
def _find(head: Array, key: Key) -> int:
    return find(head, np.uint64(key))


def _mix(a: Key, b: Key) -> Key:
    return np.uint64(mix(np.uint64(a), np.uint64(b)))


def _entity(state: State, agent: Key) -> Key:
    return np.uint64(parties.entity_of(state.arrays(), np.uint64(agent)))


def fade(state: State) -> float:
    """What a stored weight is worth now."""
    f = state.fleet
    return float(2.0 ** (-(f["clock"] - f["begin"]) / HALF_LIFE))


def name_of(state: State, value: Key) -> str | None:
    """The name of a hashed value, if it is remembered (its first 64 bytes)."""
    t = state["names"]
    i = _find(t.head, np.uint64(value))
    if i < 0:
        return None
    return bytes(t.body[i, : t.head[i]["length"]]).decode("utf-8", "replace")


def used(state: State, agent: Key, fact: int) -> list[Used]:
    """The most used values of a fact, that which counts for most first; at most eight are remembered."""
    t = state["profiles"]
    entity = _entity(state, agent)
    i = _find(t.head, np.uint64(profile_of(entity, fact)))
    if i < 0:
        return []
    head = state["facts"].head
    context = _mix(facts.place(fact, 0), entity)
    now = fade(state)
    out = []
    for value in t.body[i]:
        name = name_of(state, value) if value else None
        j = _find(head, np.uint64(facts.of_value(context, np.uint64(value))))
        if name is not None and j >= 0:
            count, said = float(head[j]["w"]), float(head[j]["d"])  # a mark is worth a count, and is none
            out.append(Used(name, max(0.0, count + min(0.0, said)) * now, max(0.0, said) * now, said < 0))
    return sorted(out, key=lambda u: (-u.weight, u.name))


def total(state: State, agent: Key, fact: int) -> tuple[float, float]:
    """How often an agent has shown a fact at all, and with how many distinct values; faded."""
    head = state["facts"].head
    i = _find(head, _mix(facts.place(fact, 0), _entity(state, agent)))
    now = fade(state)
    return (float(head[i]["w"]) * now, float(head[i]["d"]) * now) if i >= 0 else (0.0, 0.0)


def session_starts(state: State, i: int) -> dict[str, list[float]]:
    """How often an agent's sessions began in each half hour of a day in UTC, of weekdays and of weekends; faded. `i` is its row."""
    starts = state["agents"].body[i, OWN_HOURS:OWN_WINDOW].astype(float) * fade(state)
    halves = (starts[:HALF_HOURS], starts[HALF_HOURS:])
    return {
        name: [round(x, 2) for x in half.tolist()] for name, half in zip(("weekdays", "weekends"), halves, strict=True)
    }


def levels(state: State, entity: Key) -> list[float]:
    """The last days' amounts of an agent or a cohort, log2(1 + amount), oldest first."""
    t = state["levels"]
    i = _find(t.head, np.uint64(entity))
    if i < 0:
        return []
    n = int(t.head[i]["n"])
    return [float(t.body[i, k % RING]) for k in range(max(0, n - RING), n)]


def baseline(state: State, agent_id: str, agent: Key) -> dict[str, Any] | None:
    """All that is known of one agent, as plain values; None if it is not known."""
    t = state["agents"]
    i = _find(t.head, np.uint64(agent))
    if i < 0:
        return None
    row = t.head[i]
    entity = _entity(state, agent)
    out: dict[str, Any] = {
        "agent_id": agent_id,
        "events": int(row["seen"]),
        # By a reset, which began it at the time of the first event after it.
        "begun_anew": bool(entity != parties.agent_entity(np.uint64(agent))),
        "first_event_time": float(row["first"]),
        "last_event_time": float(row["w"]),
        "usual": {},
        "distinct": {},
    }
    for fact in NAMED_FACTS.tolist():
        values = used(state, agent, fact)
        if values:
            out["usual"][FACTS[fact].name] = [_value(u) for u in values]
            out["distinct"][FACTS[fact].name] = round(total(state, agent, fact)[1], 1)
    out["daily_amounts"] = [round(2.0**x - 1.0) for x in levels(state, entity)]
    out["session_starts"] = session_starts(state, i)
    level = _find(state["levels"].head, entity)
    shifted = float(state["levels"].head[level]["shifted"]) if level >= 0 else 0.0
    out["level_changed"] = shifted or None
    amounts = state["amounts"].head
    out["amounts"] = {}
    for u in used(state, agent, TOOL):
        for k, what in enumerate(("bytes", "records")):
            j = _find(amounts, _mix(place(k, np.uint64(_hash_of(state, entity, u.name))), entity))
            if j >= 0 and amounts[j]["n"] >= 2:
                m, sd = float(amounts[j]["m"]), math.sqrt(float(amounts[j]["v"]) + 0.01)
                out["amounts"].setdefault(u.name, {})[what] = {
                    "typical": _round(math.expm1(m)),
                    "high": _round(math.expm1(m + 2.33 * sd)),
                }
                if (never := float(amounts[j]["never"])) > 0:
                    out["amounts"][u.name][what]["hostile_above"] = _round(math.expm1(never))
    return out


def _value(u: Used) -> dict[str, Any]:
    out: dict[str, Any] = {"value": u.name, "count": round(u.count, 1)}
    if round(u.judged, 1) > 0:
        out["by_verdict"] = round(u.judged, 1)
    return out | {"malicious": True} if u.hostile else out


def _hash_of(state: State, entity: Key, name: str) -> Any:
    t = state["profiles"]
    i = _find(t.head, np.uint64(profile_of(entity, TOOL)))
    return next(v for v in t.body[i] if v and name_of(state, v) == name)


def _round(x: float) -> float:
    """Two significant digits: a baseline is not an account."""
    return float(f"{max(0.0, x):.2g}")
