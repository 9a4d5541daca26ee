"""Alerts of agents that hand data to each other, found among alerts that are read: of agents on different partitions neither engine knows the other's (`stream.relay`).

Halves are open at one time, and one names the other's agent among whom it reached: the first twenty, as an alert has them. What it misses is
what `stream.relay` does, those twenty apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from models.learning import LOUD_GAP
from stream.alert import Alert
from stream.relay import told


class Half(NamedTuple):
    """Of an alert that was read, what makes it half of another's story."""

    alert_id: str
    agent_id: str
    begin: float
    end: float
    reached: frozenset[str]
    since: dict[str, float]  # of whom it gave something: when first
    named: frozenset[str]  # alerts that it names itself

    def is_beside(self, other: Half) -> bool:
        """Whether both were open at one time."""
        return self.begin <= other.end + LOUD_GAP and other.begin <= self.end + LOUD_GAP

    def is_before(self, other: Half) -> bool:
        """Whether the other did something strange after this one first gave it data: what came before has nothing to do with that."""
        return self.since.get(other.agent_id, self.begin) <= other.end


class Halves:
    """Alerts that were read, by agent and by whom they reached: `add` each revision."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, Half]] = {}
        self._to: dict[str, dict[str, Half]] = {}

    def add(self, alert: Alert) -> None:
        """Another revision replaces the one before."""
        half = _half(alert)
        self._of.setdefault(half.agent_id, {})[half.alert_id] = half
        for recipient in half.reached:
            self._to.setdefault(recipient, {})[half.alert_id] = half

    def beside(self, alert: Alert) -> str:
        """A sentence that names the alerts on the other half of this one, but for those that it names; "" where there is none."""
        half = _half(alert)
        givers = [y for y in _open_beside(half, self._to.get(half.agent_id, {}).values()) if y.is_before(half)]
        takers = [
            y
            for y in _open_beside(half, (y for r in sorted(half.reached) for y in self._of.get(r, {}).values()))
            if half.is_before(y)
        ]
        said = told(_known(givers), _known(takers))
        return f" {said}: look at them together." if said else ""


def _known(them: Iterable[Half]) -> list[tuple[str, str]]:
    return [(y.agent_id, f"alert {y.alert_id}") for y in them]


def _half(alert: Alert) -> Half:
    begin, end = (datetime.fromisoformat(t).timestamp() for t in (alert.first_event_time, alert.last_event_time))
    # Where nobody stands behind whom it named, all was denied.
    reached = frozenset(alert.exposure.recipients if alert.exposure.people else ())
    named = frozenset(i for e in alert.evidence if e.name == "relay" for i in e.baseline.get("alerts", ()))
    since = {
        g.recipient: datetime.fromisoformat(g.first_time).timestamp() for g in alert.exposure.given if g.first_time
    }
    return Half(alert.alert_id, alert.agent_id, begin, end, reached, since, named)


def _open_beside(half: Half, others: Iterable[Half]) -> list[Half]:
    found = [y for y in others if y.agent_id != half.agent_id and y.alert_id not in half.named and half.is_beside(y)]
    return sorted(found, key=lambda y: (y.agent_id, y.begin))
