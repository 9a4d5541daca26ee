"""The alert: what a person or a SIEM gets. Field names are the contract's; further fields are ours and stable.

An alert's id is a function of its agent and the first event of its episode, and a revision is one more message with the same id.
So a repeated delivery says nothing twice.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec

from models.signals import KINDS

ID_LENGTH = 24
SEVERITIES = ("low", "medium", "high", "critical")


class Evidence(msgspec.Struct):
    """One signal: what was seen, what is usual, how strange that is, and in which events.

    The evidence of the event that the alert is about (`event`) stands apart, and names that event alone. The rest is of the others: the
    strongest observation of each signal, the event that showed it first, then others up to twenty; `count` counts events.
    """

    name: str
    kind: str
    observed: str | float
    expected: str
    bits: float
    event_ids: list[str]
    count: int
    baseline: dict[str, Any] = {}


class Did(msgspec.Struct, frozen=True, omit_defaults=True):
    """The event that an alert is about, as far as a sentence needs it: the most harmful of its episode where harm is serious, else the strangest."""

    event_id: str
    action: str
    tool: str | None = None
    resource: str | None = None
    classification: str | None = None
    records: float | None = None
    bytes: float | None = None
    recipients: list[str] = []
    people: int | None = None
    approved: bool | None = None
    denied: bool = False
    attributes: Any = None  # as the producer sent them: shown, never trusted
    principal: str | None = None
    time: str = ""


class Given(msgspec.Struct, frozen=True):
    """What one recipient got of the episode's strange events: the most classified resource by its name, and how many in all, at most 64."""

    recipient: str
    resource: str | None
    classification: str | None
    resources: int
    uncleared: int  # of these, for which it was not cleared
    first_time: str = ""  # of the first event that reached it
    usual: bool = False  # the agent has often sent it such data: something else was strange, how much, say


class Exposure(msgspec.Struct):
    """What the strange events of the episode moved so far, and nothing that was as usual: it proves what was exposed, and to whom. What no event told is null, never 0.

    Of resources and recipients the first twenty are named; the totals count, up to 1,024. What was denied is named, and adds nothing to amounts and people.
    """

    events: int = 0
    records: float | None = None
    bytes: float | None = None
    classifications: list[str] = []
    resources: list[str] = []
    resources_total: int = 0
    recipients: list[str] = []
    recipients_total: int = 0
    people: int | None = None
    people_below_clearance: int | None = None
    scopes: list[str] = []  # permissions that were used
    given: list[Given] = []  # of the first twenty recipients
    denied: int = 0  # events
    denied_systems: list[str] = []  # first parts of the resources, or tools, that these were of; at most twenty
    denied_resources: int = 0  # at most 64


class Technique(msgspec.Struct, frozen=True):
    """An entry of a published catalogue."""

    framework: str
    id: str
    name: str


class Alert(msgspec.Struct):
    """One revision of an alert, contract version 1."""

    alert_id: str
    revision: int
    time: str
    first_event_time: str
    last_event_time: str
    agent_id: str
    agent_type: str | None
    principals: list[str]
    session_ids: list[str]
    severity: str
    score: float
    kinds: list[str]
    title: str
    reason: str
    evidence: list[Evidence]
    exposure: Exposure
    techniques: list[Technique]
    event: Did
    threshold: float
    warming: bool
    confidence: str  # low, medium or high: with `impact` it makes the severity, see `stream.severity`
    impact: str  # none, limited, serious or severe
    strange_events: int  # with at least half the threshold of their own; five with a quarter count as one
    agent_version: str | None  # of `event`
    next_step: str
    version: int = 1


def alert_id(agent_id: str, first_event_id: str) -> str:
    """Id of the alert on an agent's episode."""
    text = f"{len(agent_id)}:{agent_id}:{first_event_id}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:ID_LENGTH]


def rfc3339(seconds: float) -> str:
    """Time in UTC to the millisecond.

    >>> rfc3339(1773829812.4171)
    '2026-03-18T10:30:12.417Z'
    """
    whole = round(seconds * 1000)
    return datetime.fromtimestamp(whole // 1000, UTC).replace(tzinfo=None).isoformat() + f".{whole % 1000:03d}Z"


def by_kind(parts: dict[str, float]) -> list[str]:
    """Kinds that carry at least a tenth of the evidence, the strongest first; never none."""
    total = sum(parts.values()) or 1.0
    ranked = sorted((k for k in KINDS if parts.get(k, 0.0) > 0), key=lambda k: (-parts[k], k))
    return [k for k in ranked if parts[k] >= 0.1 * total] or ranked[:1] or ["rate"]


_decode = msgspec.json.Decoder(Alert).decode


def alert_of(value: bytes) -> Alert | None:
    """What these bytes say; None where that is no alert."""
    try:
        return decode_alert(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def decode_alert(line: bytes) -> Alert:
    """An alert from its JSON."""
    return _decode(line)
