"""A strange event as it is kept until it becomes evidence: with the numbers and names it was scored with, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import msgspec

from models.batch import (
    AMOUNT,
    AMOUNT_WIDTH,
    BEGUN,
    BITS,
    DETAIL,
    FACT,
    FACT_WIDTH,
    JUDGED,
    SESSION,
    Batch,
    Scores,
    Text,
)
from models.harm import NEW
from models.memory import TEXTS
from models.signals import CLASSIFICATION, FLOW, KEPT_NEW, N_AMOUNTS, N_FACTS, RECIPIENT
from models.table import Array
from stream.alert import Did, rfc3339
from stream.codec import AccessEvent, Events, Recipient
from stream.words import MOST_PEOPLE

MOST_ATTRIBUTES = 2048  # bytes, names included
MOST_ENTRIES = 64  # recipients and permissions of an event that waits to become evidence
MOST_KEPT = 8192  # characters of such an event
MOST_RECIPIENTS = 20  # that an alert names of one event
MOST_TEXT = 512  # characters of a name in an alert
OFTEN = 5.0  # deliveries to a recipient, faded
OTHER, SAME = 0.05, 1e-3  # what a cohort's mean may differ by (ln), and its count by (share), though it is one agent's
_AMOUNTS = [AMOUNT + k * AMOUNT_WIDTH for k in range(N_AMOUNTS)]
_FACTS = [(k, FACT + k * FACT_WIDTH) for k in range(N_FACTS)]


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
    found: int = 0  # number of the cohort that it was scored in, where its type does not say it

    @property
    def cohort(self) -> str | None:
        """What its agent and its peers have in common, as a name: their type, or the number of the cohort in which they were found."""
        return self.event.agent_type if self.event.agent_type is not None or not self.found else f"found {self.found}"

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


def keep(events: Events, which: Array, b: Batch, s: Scores, paid: Array) -> Iterator[Kept]:
    """Take what is needed of the events of these numbers out of a batch, column by column; `paid` is what a River detector pays for each."""
    first, last = b.recipient_at[which].tolist(), b.recipient_at[which + 1].tolist()
    rows = s.row[which]
    width, length, text = 4 * DETAIL, s.length.shape[1], s.text.shape[1] * s.text.shape[2]
    details, lengths, texts = s.detail[rows].tobytes(), s.length[rows].tobytes(), s.text[rows].tobytes()
    columns = zip(
        which.tolist(),
        rows.tolist(),
        b.time[which].tolist(),
        s.score[which].tolist(),
        (s.own[which] + paid[which]).tolist(),
        s.parts[which].tolist(),
        b.rung[which].tolist(),
        (b.denied[which] != 0).tolist(),
        s.cohort[which].tolist(),
        paid[which].tolist(),
        b.resource.low[which].tolist(),
        b.root_high[which].tolist(),
        b.branch_high[which].tolist(),
        strict=True,
    )
    for i, (e, row, time, score, own, parts, rung, denied, cohort, window_bits, low, root, branch) in enumerate(
        columns
    ):
        event = events[e]
        if _length(event.attributes) > MOST_ATTRIBUTES:
            event.attributes = None
        parties = range(first[i], last[i])
        yield Kept(
            event,
            time,
            score,
            own,
            parts,
            rung,
            b.clearance[first[i] : last[i]].tolist() if parties else [],
            [_slice(b.domain, int(b.domain.low[j]), int(b.domain.high[j])) for j in parties],
            _slice(b.resource, low, root).strip("/"),
            _slice(b.resource, low, branch).strip("/"),
            denied,
            cohort != 0,
            s.window[e].tolist() if window_bits > 0 else [],
            window_bits,
            details[i * width : (i + 1) * width] if row >= 0 else bytes(width),
            texts[i * text : (i + 1) * text] if row >= 0 else b"",
            lengths[i * length : (i + 1) * length] if row >= 0 else bytes(TEXTS),
            cohort if event.agent_type is None else 0,
        )


def detail(kept: Kept) -> list[float]:
    """The numbers that an event was scored with; none where it waits since a version that had others."""
    found = cast("list[float]", memoryview(kept.detail).cast("f").tolist())
    return found if len(found) == DETAIL else [0.0] * DETAIL


def outside(d: list[float]) -> bool:
    """Whether what was scored with these numbers went to someone outside the organisation."""
    return d[SESSION + 2] > 0


def has_peers(d: list[float]) -> bool:
    """Whether what was scored with these numbers has peers, as far as they tell: its cohort knows more than one agent alone would have taught it.

    That is each step in full, of each fact at most what the agent counts itself, and the same amounts. What it taught before a reset is
    taken for a peer's.
    """
    # What began minutes ago is said of the time before (`models.sitting`), and its cohort knows of it.
    said = (at for k, at in _FACTS if k not in KEPT_NEW or d[BEGUN + KEPT_NEW.index(k)] <= 0)
    return any(abs(d[at + 1] - d[at + 3]) > OTHER for at in _AMOUNTS) or any(
        d[at + 2] > d[at] * (1.0 + SAME) + SAME for at in said
    )


def stranger(kept: Kept, d: list[float]) -> str | None:
    """Whom an event reached to whom its agent had never sent anything, if it reached anybody outside; of several the strangest."""
    row = FACT + RECIPIENT * FACT_WIDTH
    if kept.denied or not kept.event.recipients or not outside(d) or d[row] >= 0.5:
        return None
    return kept.event.recipients[int(d[row + 5])].id[:MOST_TEXT]


def is_usual(d: list[float]) -> bool:
    """Whether, of what was scored with these numbers, neither who receives nor which data goes where is strange: the agent has often sent to the strangest recipient that it has."""
    return d[FACT + RECIPIENT * FACT_WIDTH] >= OFTEN and max(d[BITS + FLOW], d[BITS + CLASSIFICATION]) < NEW


def bears_mark(at: int, d: list[float]) -> bool:
    """Whether a person called malicious the named fact of this number, or behind these the amount, of what was scored with these numbers."""
    return bool(int(d[JUDGED]) >> (at + 1) & 1)


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


def unknown(kept: Kept) -> int:
    """How many people got it of whom nobody has said what they may see."""
    return _people(r for r, c in zip(kept.event.recipients or (), kept.clearances, strict=True) if c < 0)


def _people(recipients: Iterable[Recipient]) -> int:
    """How many people stand behind recipients; one that is named twice counts once."""
    by_id: dict[str, int] = {}
    for r in recipients:
        by_id[r.id] = max(by_id.get(r.id, 0), r.size or 1)
    return min(MOST_PEOPLE, sum(by_id.values()))


def uncleared(kept: Kept) -> list[Recipient]:
    return [r for r, c in zip(kept.event.recipients or (), kept.clearances, strict=True) if 0 <= c < kept.rung]


def _slice(column: Text, low: int, high: int) -> str:
    return column.buffer[low:high].tobytes().decode("utf-8", "replace")
