"""From one event and the numbers it was scored with to what an analyst can check: observed against usual, signal by signal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from models.batch import (
    AMOUNT,
    AMOUNT_WIDTH,
    BITS,
    DETAIL,
    FACT,
    FACT_WIDTH,
    FORECAST,
    HOURS,
    PAID,
    SESSION,
    Batch,
    Scores,
)
from models.loop import RATE_OFFSET
from models.memory import NAMED_FACTS, TEXTS, TOP
from models.signals import (
    ACTION,
    BRANCH,
    CALL_RATE,
    CLASSIFICATION,
    CLEARANCE,
    CLOSENESS,
    DEAD_OF,
    DOMAIN,
    FACTS,
    FLOW,
    GROUP_OF,
    N_FACTS,
    N_SIGNALS,
    OFF_HOURS,
    OUTCOME,
    OWNER,
    PERMISSION,
    RECIPIENT,
    RESOURCE,
    RHYTHM,
    ROOT,
    SIGNALS,
    TOOL,
    TRANSITION,
    WEIGHT_OF,
)
from models.state import TEXT
from models.windows import FEATURES
from stream.alert import Did, Evidence, rfc3339
from stream.codec import AccessEvent, Recipient
from stream.reason import CONDITION, MOST_PEOPLE, MOST_RECIPIENTS, expected_values, number, people

MOST_ATTRIBUTES = 2048  # bytes, names included
MOST_ENTRIES = 64  # recipients and permissions of an event that waits to become evidence
MOST_KEPT = 8192  # characters of such an event
MOST_TEXT = 512  # characters of a name in an alert
_USUAL_OF = {
    RESOURCE: BRANCH,
    FLOW: RECIPIENT,
    CLOSENESS: RECIPIENT,
    TRANSITION: TOOL,
}
_CLOSE = (
    "a recipient that it knows",
    "a recipient that has written to it before",
    "a recipient with whom it shares a contact",
    "a recipient that only its peers know",
    "a recipient known only elsewhere in the fleet",
    "a new recipient at a known domain",
    "a recipient that no agent has sent to before",
)
_EXPECTED = {
    ACTION: "another action with this tool",
    OUTCOME: "success",
    OWNER: "the usual one for the person it acts for",
}
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# Where one is usual, so is the other.
_IMPLIES = {TRANSITION: (TOOL,), ACTION: (TOOL,)}
OWNERS = {
    1: "bears the name of the person it acts for",
    2: "was never seen before",
    3: "is the usual one for the person it acts for",
    4: "belongs to another person than the one it acts for",
    5: "is shared between several people",
}
_AMOUNTS = {
    "bytes": 0,
    "records": 1,
    "session_calls": 2,
    "call_rate": 3,
    "bytes_sum": 0,
    "records_sum": 1,
    "session_calls_sum": 2,
}


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
        s.window[e].tolist() if window_bits > 0 else [],
        window_bits,
        s.detail[row].tobytes() if row >= 0 else bytes(4 * DETAIL),
        s.text[row].tobytes() if row >= 0 else b"",
        s.length[row].tobytes() if row >= 0 else bytes(TEXTS),
    )


def evidence(ladder: tuple[str, ...], kept: Kept) -> list[Evidence]:
    """What was strange about an event, strongest first, then what belongs into the sentence though it is not strange."""
    d = np.frombuffer(kept.detail, np.float32).tolist()
    items = [_fact(k, kept, d) if k < N_FACTS else _tail(k, kept, d) for k in range(N_SIGNALS) if d[PAID + k] > 0]
    if kept.window_bits > 0:
        sums = ", ".join(f"{number(x)} {name}" for name, x in zip(FEATURES[:5], kept.window, strict=False) if x >= 0.5)
        items.append(
            Evidence(
                "windows",
                "rate",
                sums or "nothing",
                "its other hours",
                round(kept.window_bits, 2),
                [kept.event.event_id],
                1,
            )
        )
    items.sort(key=lambda i: (-i.bits, i.name))
    return items + _context(ladder, kept, d)


def outside(kept: Kept) -> bool:
    """Whether it went to someone outside the organisation."""
    return bool(np.frombuffer(kept.detail, np.float32)[SESSION + 2] > 0)


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


def _text(column: Any, i: int) -> str:
    return bytes(column.buffer[int(column.low[i]) : int(column.high[i])]).decode("utf-8", "replace")


def _fact(k: int, kept: Kept, d: list[float]) -> Evidence:
    event = kept.event
    row = d[FACT + k * FACT_WIDTH :]
    at = int(row[5])
    observed: str
    if k == PERMISSION:
        observed = (event.scopes or ("",))[at]
    elif k == ROOT:
        observed = kept.root
    elif k == BRANCH:
        observed = kept.branch
    elif k == RESOURCE:
        observed = event.resource or ""
    elif k == CLASSIFICATION:
        observed = event.classification or ""
    elif k == TRANSITION:
        before = _recalled(kept, TEXTS - 1)
        observed = (
            f"from {before} to {event.tool or event.action}"
            if before
            else f"straight to {event.tool or event.action} at the start of a session"
        )
    elif k == OUTCOME:
        observed = event.outcome or "success"
    elif k == ACTION:
        observed = f"{event.action} with {event.tool}"
    elif k in {RECIPIENT, CLOSENESS, DOMAIN, FLOW}:
        observed = _party(k, kept, at, row[6])
    elif k == OWNER:
        observed = OWNERS[int(row[6])]
    else:
        observed = event.tool or event.action
    observed = observed[:MOST_TEXT]
    expected = _EXPECTED.get(k) or expected_values(_usual(kept, _USUAL_OF.get(k, k)))
    numbers: dict[str, float] = {"own": round(row[0], 2), "of": round(row[1]), "distinct": round(row[4], 1)}
    if event.agent_type is not None:
        numbers["peers"] = round(row[2], 2)
    if k == PERMISSION and len(event.scopes or ()) > 1:
        numbers["values"] = len(event.scopes or ())
    numbers |= _next(k, d)
    return Evidence(
        FACTS[k].name, FACTS[k].kind, observed, expected, round(d[BITS + k], 2), [event.event_id], 1, numbers
    )


def _condition(k: int) -> str:
    return CONDITION.get(SIGNALS[k].name, SIGNALS[k].name)


# Of each signal, the others of its group that another condition stands for: place of their bits, weight, dead zone.
_RIVALS = [
    [
        (BITS + j, float(WEIGHT_OF[j]), float(DEAD_OF[j]))
        for j in range(N_SIGNALS)
        if GROUP_OF[j] == GROUP_OF[k] and _condition(j) != _condition(k) and j not in _IMPLIES.get(k, ())
    ]
    for k in range(N_SIGNALS)
]


def _next(k: int, d: list[float]) -> dict[str, float]:
    """What the next of its group would pay, were this signal silent."""
    most = round(max((weight * (d[at] - dead) for at, weight, dead in _RIVALS[k]), default=0.0), 2)
    return {"next_bits": most} if most > 0 else {}


def _party(k: int, kept: Kept, at: int, derived: float) -> str:
    event = kept.event
    recipient = (event.recipients or ())[at]
    if k == RECIPIENT:
        return recipient.id
    if k == DOMAIN:
        return kept.domains[at]
    if k == CLOSENESS:
        return _CLOSE[int(derived)]
    data = f"{event.classification} data" if kept.rung >= 0 else "data of unknown class"
    where = (
        "outside the organisation"
        if derived == 0
        else f"to {'an' if recipient.type in {'agent', 'email'} else 'a'} {recipient.type or 'recipient'}"
    )
    return f"{data} {where}"


def _usual(kept: Kept, k: int) -> list[str]:
    """The agent's most used values of a fact when the event was scored, most used first."""
    at = NAMED_FACTS.tolist().index(k) * TOP
    return [text for i in range(TOP) if (text := _recalled(kept, at + i))]


def _recalled(kept: Kept, at: int) -> str:
    return kept.text[at * TEXT : at * TEXT + kept.length[at]].decode("utf-8", "replace")


def _slice(column: Any, e: int, high: int) -> str:
    return bytes(column.buffer[int(column.low[e]) : high]).decode("utf-8", "replace").strip("/")


def _tail(k: int, kept: Kept, d: list[float]) -> Evidence:
    event = kept.event
    signal = SIGNALS[k]
    bits = round(d[BITS + k], 2)
    if k - N_FACTS == CLEARANCE:
        return Evidence(
            signal.name,
            signal.kind,
            _below(kept)[:MOST_TEXT],
            "recipients cleared for the data",
            bits,
            [event.event_id],
            1,
            _next(k, d),
        )
    if k - N_FACTS == OFF_HOURS:
        return _off_hours(kept, d, bits)
    if k == RHYTHM:
        return _rhythm(kept, d, bits)
    at = AMOUNT + _AMOUNTS[signal.name] * AMOUNT_WIDTH
    x, mean, spread, peers = d[at : at + AMOUNT_WIDTH]
    back = (
        _calls_back
        if k - N_FACTS == CALL_RATE
        else math.expm1
        if signal.name.startswith(("bytes", "records"))
        else math.exp
    )
    typical, high, peers_typical = (round(max(0.0, back(v)), 1) for v in (mean, mean + 2.33 * spread, peers))
    observed = round(max(0.0, back(x)), 1)
    tool = (event.tool or event.action)[:MOST_TEXT]
    numbers: dict[str, Any] = {"tool": tool, "typical": typical, "high": high} | _next(k, d)
    if event.agent_type is not None:
        numbers["peers"] = peers_typical
    return Evidence(
        signal.name,
        signal.kind,
        observed,
        f"typically {number(typical)}, rarely above {number(high)}",
        bits,
        [event.event_id],
        1,
        numbers,
    )


def _calls_back(x: float) -> float:
    """Calls within ten minutes, this one counted, from the amount that the loop scores."""
    return math.exp(x) - RATE_OFFSET + 1.0


def _off_hours(kept: Kept, d: list[float], bits: float) -> Evidence:
    """A session that begins when few do, for the agent and its peers."""
    minutes = int(kept.time // 60) % 1440
    day = _DAYS[int(kept.time // 86400 + 3) % 7]
    observed = f"a session at {minutes // 60:02d}:{minutes % 60:02d} UTC on a {day}"
    near, total = d[HOURS + 1], d[HOURS + 2]
    expected = f"{number(near)} of {number(total)} sessions within an hour and a half of that time of day"
    numbers = {"own": round(near, 1), "of": round(total)} | _next(N_FACTS + OFF_HOURS, d)
    signal = SIGNALS[N_FACTS + OFF_HOURS]
    return Evidence(signal.name, signal.kind, observed, expected, bits, [kept.event.event_id], 1, numbers)


def _rhythm(kept: Kept, d: list[float], bits: float) -> Evidence:
    """An amount of a series that its forecast did not expect, or the mean of its last."""
    observed, typical, low, high = (round(max(0.0, v), 1) for v in d[FORECAST : FORECAST + 4])
    lasts = d[FORECAST + 4] > 0
    event = kept.event
    numbers: dict[str, Any] = _next(RHYTHM, d) | {
        "tool": (event.tool or event.action)[:MOST_TEXT],
        "typical": typical,
        "low": low,
        "high": high,
        "unit": "records" if event.bytes is None else "bytes",
        "lasts": lasts,
    }
    what = f"about {number(typical)} at this hour, {'in the mean ' if lasts else ''}"
    expected = f"{what}hardly ever below {number(low)} or above {number(high)}"
    signal = SIGNALS[RHYTHM]
    return Evidence(signal.name, signal.kind, observed, expected, bits, [event.event_id], 1, numbers)


def below(kept: Kept) -> int:
    """How many people that got it lack the clearance."""
    return _people(_uncleared(kept))


def _people(recipients: Iterable[Recipient]) -> int:
    """How many people stand behind recipients."""
    return min(MOST_PEOPLE, sum(r.size or 1 for r in recipients))


def _uncleared(kept: Kept) -> list[Recipient]:
    return [r for r, c in zip(kept.event.recipients or (), kept.clearances, strict=True) if 0 <= c < kept.rung]


def _below(kept: Kept) -> str:
    """Who lacks the clearance, and how many people that is."""
    low, n = _uncleared(kept), below(kept)
    by_rung = sorted(zip(kept.clearances, kept.event.recipients or (), strict=True), key=lambda pair: pair[0])
    cleared = dict.fromkeys(str(r.clearance) for c, r in by_rung if 0 <= c < kept.rung)  # lowest first
    who = f"the {people(n)} behind " if n > len(low) else ""
    count = "1 recipient" if len(low) == 1 else f"{len(low):,} recipients"
    return f"{who}{count} may see {' or '.join(cleared)} data at most, and {'was' if n == 1 else 'were'} given {kept.event.classification} data"


def _context(ladder: tuple[str, ...], kept: Kept, d: list[float]) -> list[Evidence]:
    """What is not strange by itself but belongs into the sentence."""
    event = kept.event
    out = []
    if below(kept) and d[PAID + N_FACTS + CLEARANCE] <= 0:
        # Another signal of its group said more; it is said all the same.
        out.append(_tail(N_FACTS + CLEARANCE, kept, d))
    if event.approved is not None and event.recipients:
        said = "nobody approved it" if not event.approved else "it was approved by a person"
        out.append(Evidence("approval", "policy", said, "approval", 0.0, [event.event_id], 1))
    top, records = int(d[SESSION]), d[SESSION + 1]
    if event.recipients and top >= 0 and (2 * top >= len(ladder) or top > kept.rung):
        much = (
            f"{number(records)} record{'' if records == 1 else 's'} of {ladder[top]} data"
            if records
            else f"{ladder[top]} data"
        )
        out.append(
            Evidence(
                "read_before",
                "sequence",
                f"earlier in the same session it had handled {much}",
                "-",
                0.0,
                [event.event_id],
                1,
            )
        )
    return out
