"""A strange event as it is kept until it becomes evidence: with the numbers and names it was scored with, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from models.batch import DETAIL, SESSION, Batch, Scores
from models.memory import TEXTS
from stream.alert import Did, rfc3339
from stream.codec import AccessEvent, Recipient
from stream.words import MOST_PEOPLE

MOST_ATTRIBUTES = 2048  # bytes, names included
MOST_ENTRIES = 64  # recipients and permissions of an event that waits to become evidence
MOST_KEPT = 8192  # characters of such an event
MOST_RECIPIENTS = 20  # that an alert names of one event
MOST_TEXT = 512  # characters of a name in an alert


class Kept(msgspec.Struct):
    """An event that is evidence, with the numbers and names it was scored with: plain values, cheap to make and to store."""

    event: AccessEvent
    time: float
    score: float
    own: float
    parts: list[float]  # by kind
    rung: int
    clearances: list[int]
    domains: list[str]
    root: str
    branch: str
    denied: bool
    peered: bool  # it was scored in a cohort: of its type, or of agents found to do the same
    window: list[float]  # sums of the last hour, where a River detector paid for them
    window_bits: float
    detail: bytes  # a row of `models.batch`: float32
    text: bytes
    length: bytes

    @property
    def large(self) -> bool:
        """Not worth keeping as it is: many entries, or long names."""
        event = self.event
        parties: Sequence[Recipient] = event.recipients or ()
        scopes: Sequence[str] = event.scopes or ()
        if len(parties) + len(scopes) > MOST_ENTRIES:
            return True
        texts = (
            event.event_id, event.agent_id, event.agent_type, event.agent_version, event.principal, event.session_id, event.action, event.tool,
            event.resource, self.root, self.branch, event.classification, *scopes, *self.domains,
        )  # fmt: skip
        length = len("".join(filter(None, texts))) + _length(event.attributes)
        for r in parties:
            length += len(r.id) + len(r.domain or "") + len(r.clearance or "")
        return length > MOST_KEPT


def _length(attributes: dict[str, msgspec.Raw] | None) -> int:
    return sum(len(name) + len(raw) for name, raw in attributes.items()) if attributes else 0


def keep(event: AccessEvent, e: int, b: Batch, s: Scores, window_bits: float) -> Kept:
    """Take what is needed of event number e out of a batch."""
    first, last = int(b.recipient_at[e]), int(b.recipient_at[e + 1])
    row = int(s.row[e])
    if _length(event.attributes) > MOST_ATTRIBUTES:
        event.attributes = None
    return Kept(
        event,
        float(b.time[e]),
        float(s.score[e]),
        float(s.own[e]) + window_bits,
        s.parts[e].tolist(),
        int(b.rung[e]),
        b.clearance[first:last].tolist(),
        [_text(b.domain, i) for i in range(first, last)],
        _slice(b.resource, e, int(b.root_high[e])),
        _slice(b.resource, e, int(b.branch_high[e])),
        bool(b.denied[e]),
        bool(s.cohort[e] != 0),
        s.window[e].tolist() if window_bits > 0 else [],
        window_bits,
        s.detail[row].tobytes() if row >= 0 else bytes(4 * DETAIL),
        s.text[row].tobytes() if row >= 0 else b"",
        s.length[row].tobytes() if row >= 0 else bytes(TEXTS),
    )


def detail(kept: Kept) -> list[float]:
    """The numbers that an event was scored with; none where it waits since a version that had others."""
    found: list[float] = np.frombuffer(kept.detail, np.float32).tolist()
    return found if len(found) == DETAIL else [0.0] * DETAIL


def outside(kept: Kept) -> bool:
    """Whether it went to someone outside the organisation."""
    return detail(kept)[SESSION + 2] > 0


def did(kept: Kept) -> Did:
    """What an event did, as far as a sentence needs it."""
    event = kept.event
    recipients = [r.id for r in event.recipients or ()]
    reached = _people(event.recipients) if event.recipients else None
    return Did(
        event.event_id,
        event.action[:MOST_TEXT],
        _cut(event.tool),
        _cut(event.resource),
        _cut(event.classification),
        event.records,
        event.bytes,
        [r[:MOST_TEXT] for r in recipients[:MOST_RECIPIENTS]],
        reached,
        event.approved,
        kept.denied,
        _attributes(event),
        _cut(event.principal),
        rfc3339(kept.time),
    )


def _cut(name: str | None) -> str | None:
    return name[:MOST_TEXT] if name is not None else None


def _attributes(event: AccessEvent) -> Any:
    if not event.attributes:
        return None
    try:
        return msgspec.json.decode(msgspec.json.encode(event.attributes))
    except msgspec.DecodeError:  # a number that no float holds: shown as it was written
        return {name: bytes(raw).decode("utf-8", "replace") for name, raw in event.attributes.items()}


def below(kept: Kept) -> int:
    """How many people that got it lack the clearance."""
    return _people(uncleared(kept))


def _people(recipients: Iterable[Recipient]) -> int:
    """How many people stand behind recipients; one that is named twice counts once."""
    by_id: dict[str, int] = {}
    for r in recipients:
        by_id[r.id] = max(by_id.get(r.id, 0), r.size or 1)
    return min(MOST_PEOPLE, sum(by_id.values()))


def uncleared(kept: Kept) -> list[Recipient]:
    return [r for r, c in zip(kept.event.recipients or (), kept.clearances, strict=True) if 0 <= c < kept.rung]


def _text(column: Any, i: int) -> str:
    return bytes(column.buffer[int(column.low[i]) : int(column.high[i])]).decode("utf-8", "replace")


def _slice(column: Any, e: int, high: int) -> str:
    return bytes(column.buffer[int(column.low[e]) : high]).decode("utf-8", "replace").strip("/")
