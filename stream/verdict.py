"""A verdict: what a person says that an alert was, and what of it changes what is learned.

It carries the alert's own `evidence` and `event`, so an engine needs no store of old alerts, and another program can make one by
copying them. `judged` turns them back into the numbers that the tables know (`models.verdict`): names are hashed as an event's are. What the
words leave open (`from a to b to c`) is tried each way, and only what the agent has shown counts.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np

from models.batch import Batch
from models.event import REFUSED, flow
from models.scoring import RATE_OFFSET
from models.signals import (
    ACTION,
    BRANCH,
    CLASSIFICATION,
    DOMAIN,
    FLOW,
    INDEX,
    N_FACTS,
    OWNER,
    PERMISSION,
    RECIPIENT,
    RESOURCE,
    RHYTHM,
    ROOT,
    TOOL,
    TRANSITION,
    UNAPPROVED,
    UNVOUCHED,
)
from models.verdict import ANY, RARE, SURE, Judged
from models.vouching import FARTHEST
from stream.alert import Did
from stream.codec import AccessEvent, Amount, Id, Label, Recipient, Reject, Text, When, decode_one, seconds
from stream.columns import columns
from stream.evidence import FORMER_OWNERS, OWNERS
from stream.files import Lines
from stream.kept import MOST_TEXT
from stream.measured import AMOUNTS
from stream.siphash import name_hash
from stream.words import STRAIGHT

WORDS = ("benign", "malicious", "reset")
MOST_BYTES = 4 << 20  # as large as an alert may be
MOST_EVIDENCE = 64

Number = Annotated[float, msgspec.Meta(ge=-1e18, le=1e18)]


class Usual(msgspec.Struct, omit_defaults=True):
    """What of an item's `baseline` a verdict needs."""

    own: Amount = 0.0
    peers: Amount = 0.0
    since: Amount = 0.0
    tool: Label | None = None
    typical: Number | None = None
    high: Number | None = None
    unit: Label | None = None
    recipient: Label | None = None
    step: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)] = 0


class Named(msgspec.Struct):
    """One item of an alert's evidence."""

    name: Text
    observed: Label | Number
    event_ids: tuple[Id, ...] = ()
    count: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)] = 1
    baseline: Usual = msgspec.field(default_factory=Usual)


class Verdict(msgspec.Struct):
    """One verdict, as on the topic or on a line of a file."""

    alert_id: Id
    agent_id: Id
    verdict: Literal["benign", "malicious"]
    time: When  # when it was said; from there on a replay heeds it
    by: Text
    reason: Text
    evidence: Annotated[tuple[Named, ...], msgspec.Meta(max_length=MOST_EVIDENCE)]
    event: Did
    agent_type: Label | None = None
    events: Annotated[int, msgspec.Meta(ge=1)] = 1  # of the alert

    @property
    def seconds(self) -> float:
        return seconds(self.time)


class Reset(msgspec.Struct):
    """A word not on an alert but on an agent: its baseline begins anew (`models.newcomer`)."""

    agent_id: Id
    verdict: Literal["reset"]
    time: When
    by: Text
    reason: Text

    @property
    def seconds(self) -> float:
        return seconds(self.time)


def is_early(said: Verdict | Reset) -> bool:
    """Whether it was said before the event that it is on, of which nothing can have been learned then."""
    return isinstance(said, Verdict) and (when := event_time(said.event)) is not None and said.seconds < when


def event_time(event: Did) -> float | None:
    """When the event of an alert was; None where the alert does not tell, as those of before did not."""
    try:
        when = datetime.fromisoformat(event.time)
    except ValueError:
        return None
    return when.timestamp() if when.tzinfo is not None else None


class _Word(msgspec.Struct):
    verdict: Any = None


_word = msgspec.json.Decoder(_Word).decode
_verdict = msgspec.json.Decoder(Verdict).decode
_reset = msgspec.json.Decoder(Reset).decode


def _decode(raw: bytes) -> Verdict | Reset:
    return _reset(raw) if _word(raw).verdict == "reset" else _verdict(raw)


def decode_verdict(raw: bytes | None, position: int) -> Verdict | Reset | Reject:
    """A verdict or a reset from its bytes, or why it is none."""
    found: Verdict | Reset | Reject = decode_one(_decode, raw, position, MOST_BYTES)
    return found


def verdicts_in(path: str) -> tuple[deque[Verdict | Reset], list[Reject]]:
    """The verdicts and resets of a file in the order of their times, and the lines that are none. Raises `InputError`."""
    found: list[Verdict | Reset] = []
    rejects: list[Reject] = []
    with Lines(path) as lines:
        for first, batch in lines:
            for number, line in enumerate(batch, first):
                one = decode_verdict(line, number)
                (rejects if isinstance(one, Reject) else found).append(one)  # type: ignore[arg-type]
    return deque(sorted(found, key=lambda v: v.seconds)), rejects


class _Fact(NamedTuple):
    attribute: int
    context: int
    value: int
    own: float = 0.0
    most: float = ANY


def judged(v: Verdict, ladder: Sequence[str]) -> Judged:
    """The facts, amounts and tails that a verdict is on.

    A malicious one is on what the evidence names, and on the recipients of the event that the alert is about that were new with it: where the domain
    is the stranger of the two, the evidence names only that. A benign one is on all that this event is known to have
    said: of a group of signals the evidence has only the strongest, and the next would be an alert again.
    """
    found = [fact for item in v.evidence for fact in _named(item, v, ladder)]
    if v.verdict == "benign":
        found = [f if f.attribute == UNVOUCHED else f._replace(most=ANY) for f in found] + list(_of_event(v, ladder))
    elif any(f.attribute in {RECIPIENT, DOMAIN} and f.own < RARE for f in found):
        found += [f._replace(most=1.0) for f in _of_event(v, ladder) if f.attribute == RECIPIENT]
    facts = list({f[:3]: f for f in reversed(found)}.values())
    amounts = [a for item in v.evidence if (a := _amount(item)) is not None]
    tails = [(INDEX[i.name] - N_FACTS, i.count) for i in v.evidence if N_FACTS <= INDEX.get(i.name, -1) < RHYTHM]

    def turned(rows: Sequence[Sequence[Any]], *kinds: type) -> Iterator[Any]:
        return (np.array([row[at] for row in rows], kind) for at, kind in enumerate(kinds))

    return Judged(
        np.uint64(name_hash(v.agent_id)),
        np.uint64(name_hash(v.agent_type or "")),
        *turned(facts, np.int64, np.uint64, np.uint64, np.float64, np.float64),
        *turned(amounts, np.int64, np.uint64, np.bool_, np.float64, np.float64, np.float64),
        *turned(tails, np.int64, np.float64),
    )


# Facts whose words are their value. What follows from others (closeness) or says next to nothing of what was done (outcome) is not judged.
_PLAIN = {"tool": TOOL, "permission": PERMISSION, "root": ROOT, "branch": BRANCH, "resource": RESOURCE, "recipient": RECIPIENT, "domain": DOMAIN}  # fmt: skip
_STRAIGHT_BEFORE = " at the start of a session"  # in alerts of earlier versions
_KINDS = ("", "user", "group", "channel", "agent", "service", "email", "url")
_FLOW = re.compile(r"(?:(.*) data|data of unknown class) (outside the organisation|to an? (\w+))", re.DOTALL)


def _named(item: Named, v: Verdict, ladder: Sequence[str]) -> Iterator[_Fact]:
    said, own = str(item.observed), item.baseline.own
    if len(said) >= MOST_TEXT:
        return  # cut short: its hash would be another's
    if item.name in _PLAIN:
        yield _Fact(_PLAIN[item.name], 0, name_hash(said), own, SURE)
    elif item.name == "classification":
        yield _Fact(CLASSIFICATION, 0, name_hash(said.lower()), own, SURE)
    elif item.name == "transition":
        for end in (STRAIGHT, _STRAIGHT_BEFORE):
            if said.startswith("straight to ") and said.endswith(end):
                tool = said.removeprefix("straight to ").removesuffix(end)
                yield _Fact(TRANSITION, 0, name_hash(tool), own, SURE)
        for before, tool in _splits(said.removeprefix("from "), " to "):
            yield _Fact(TRANSITION, name_hash(before), name_hash(tool), own)
    elif item.name == "action":
        for action, tool in _splits(said, " with "):
            yield _Fact(ACTION, name_hash(tool), name_hash(action), own)
    elif item.name == "flow" and (found := _FLOW.fullmatch(said)):
        kind = found[3] if found[3] != "recipient" else ""
        yield _Fact(FLOW, 0, _flow(ladder, found[1], None if found[3] is None else kind), own, SURE)
    elif item.name == "unapproved":
        b = columns_of(v, ladder)
        yield _Fact(UNAPPROVED, int(b.tool.hash[0]), int(b.approved[0]), own)
    elif item.name == "owner" and v.verdict == "benign" and v.event.resource:
        whose = FORMER_OWNERS.get(said, said)
        if whose in OWNERS[1:]:
            yield _Fact(OWNER, int(columns_of(v, ladder).root[0]), OWNERS.index(whose), own)
    elif item.name == "unvouched" and item.baseline.recipient and len(item.baseline.recipient) < MOST_TEXT:
        for step in range(1, 1 + min(FARTHEST, item.baseline.step)):
            yield _Fact(UNVOUCHED, name_hash(item.baseline.recipient), step, own, SURE)


def _of_event(v: Verdict, ladder: Sequence[str]) -> Iterator[_Fact]:
    b = columns_of(v, ladder)
    yield _Fact(TOOL, 0, int(b.tool.hash[0]))
    if b.action[0]:
        yield _Fact(ACTION, int(b.tool.hash[0]), int(b.action[0]))
    for attribute, value in ((ROOT, b.root[0]), (BRANCH, b.branch[0]), (RESOURCE, b.resource.hash[0]), (CLASSIFICATION, b.classification.hash[0])):  # fmt: skip
        if value:
            yield _Fact(attribute, 0, int(value))
    if b.approved[0] == REFUSED:
        yield _Fact(UNAPPROVED, int(b.tool.hash[0]), int(b.approved[0]))
    for value in b.recipient.hash.tolist():
        yield _Fact(RECIPIENT, 0, value)
    for value in b.domain.hash.tolist():
        if value:
            yield _Fact(DOMAIN, 0, value)
    if (
        v.event.recipients
    ):  # where they are and of what type the alert does not say: whichever only this alert's events have shown
        for kind in (None, *_KINDS):
            yield _Fact(FLOW, 0, _flow(ladder, v.event.classification, kind), 0.0, float(v.events))


def event_of(v: Verdict) -> AccessEvent:
    """The event that the alert is about, as far as the alert tells; names that it has cut short are left out."""
    did = v.event
    return AccessEvent(
        did.event_id, 0.0, v.agent_id, did.action, tool=did.tool, resource=_whole(did.resource), classification=_whole(did.classification),
        recipients=tuple(Recipient(r) for r in did.recipients if _whole(r)), approved=did.approved,
    )  # fmt: skip


def columns_of(v: Verdict, ladder: Sequence[str]) -> Batch:
    """The same as a batch of one."""
    return columns([event_of(v)], np.array([name_hash(rung.lower()) for rung in ladder], np.uint64))


def _whole(name: str | None) -> str | None:
    return name if name is None or len(name) < MOST_TEXT else None


def _flow(ladder: Sequence[str], classification: str | None, kind: str | None) -> int:
    """The value of a flow, as in `models.event`; kind None is outside."""
    rungs = [rung.lower() for rung in ladder]
    folded = (classification or "").lower()
    rung = rungs.index(folded) if folded in rungs else -1
    return int(flow(rung, int(kind is not None), np.uint64(name_hash(kind or ""))))


def _splits(said: str, between: str) -> Iterator[tuple[str, str]]:
    at = said.find(between)
    while at >= 0:
        yield said[:at], said[at + len(between) :]
        at = said.find(between, at + 1)


def _amount(item: Named) -> tuple[int, int, bool, float, float, float] | None:
    """Its number, tool, whether it is a sum; what was seen, typical and high on the amount's scale."""
    usual = item.baseline
    if item.name == "rhythm":
        number = 1 if usual.unit == "records" else 0
    elif item.name in AMOUNTS:
        number = AMOUNTS[item.name]
    else:
        return None
    if isinstance(item.observed, str) or usual.tool is None or usual.typical is None or len(usual.tool) >= MOST_TEXT:
        return None
    tool = 0 if number == 3 else name_hash(usual.tool)
    high = usual.high if usual.high is not None else usual.typical
    seen, typical, top = (_scaled(number, float(x)) for x in (item.observed, usual.typical, high))
    return number, tool, item.name.endswith("_sum"), seen, typical, top


def ceiling(item: Named) -> float | None:
    """From which amount on a malicious verdict lets nothing be learned: halfway on the amount's scale from what is usual to what was seen (`models.verdict`); None where it sets none."""
    found = _amount(item)
    if found is None or found[2] or found[3] <= found[5]:
        return None
    number, _, _, seen, typical, high = found
    at = max(high, (typical + seen) / 2.0)
    return math.exp(at) - RATE_OFFSET + 1.0 if number == 3 else math.exp(at) if number == 2 else math.expm1(at)


def _scaled(number: int, x: float) -> float:
    """The inverse of what `stream.measured` does."""
    if number == 3:
        return math.log(max(0.0, x) + RATE_OFFSET - 1.0)
    return math.log(max(1.0, x)) if number == 2 else math.log1p(max(0.0, x))
