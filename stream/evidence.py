"""From one event and the numbers it was scored with to what an analyst can check: observed against usual, signal by signal."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from models.batch import Batch, Scores
from models.memory import NAMED_FACTS, TEXTS, TOP
from models.signals import (
    BRANCH, CLASSIFICATION, CLEARANCE, CLOSENESS, DOMAIN, FACTS, FLOW, HOUR, N_FACTS, OUTCOME, OWNER, PERMISSION, RECIPIENT, RESOURCE, ROOT, SIGNALS, TOOL, TRANSITION,
)  # fmt: skip
from stream.alert import Did, Evidence
from stream.codec import AccessEvent
from stream.reason import expected_values, number

_USUAL_OF = {RESOURCE: BRANCH, FLOW: RECIPIENT, CLOSENESS: RECIPIENT, OUTCOME: TOOL, HOUR: TOOL, OWNER: ROOT, TRANSITION: TOOL}
_CLOSE = ("one that it knows", "one that has written to it before", "one with whom it shares a contact", "known to its peers", "known elsewhere in the fleet", "new, at a known domain", "seen by no agent before")
_OWNER = {1: "bears the name of the person it acts for", 2: "was never seen before", 3: "is the usual one for the person it acts for", 4: "belongs to another person than the one it acts for", 5: "is shared between several people"}
_DAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
_AMOUNTS = {"bytes": 0, "records": 1, "session_calls": 2, "call_rate": 3, "bytes_sum": 0, "records_sum": 1, "session_calls_sum": 2}


class Seen(msgspec.Struct):
    """One event that contributes to an episode, reduced to what the alert needs."""

    event_id: str
    time: float
    score: float
    own: float
    parts: dict[str, float]
    evidence: list[Evidence]
    did: Did
    principal: str | None
    session: str | None
    people_below: int
    outside: bool
    to_agent: bool
    sensitive: bool  # of the upper half of the ladder
    resources: list[str]
    recipients: list[str]


def seen(ladder: tuple[str, ...], event: AccessEvent, e: int, b: Batch, s: Scores, parts: dict[str, float], window_bits: float) -> Seen:
    """Reduce event number e of a batch."""
    items = [_fact(ladder, k, event, e, b, s) if k < N_FACTS else _tail(k, event, e, b, s) for k in range(len(SIGNALS)) if s.paid[e, k] > 0]
    if window_bits > 0:
        sums = ", ".join(f"{number(x)} {name}" for name, x in zip(("calls", "bytes", "records", "recipients", "denials"), s.window[e], strict=False) if x >= 0.5)
        items.append(Evidence("windows", "rate", sums or "nothing", "its other hours", round(window_bits, 2), [event.event_id], 1))
    items.sort(key=lambda i: (-i.bits, i.name))
    rung = int(b.rung[e])
    first, last = int(b.recipient_at[e]), int(b.recipient_at[e + 1])
    clearances = b.clearance[first:last]
    below = [r.size or 1 for r, c in zip(event.recipients or (), clearances, strict=True) if 0 <= c < rung]
    items += _context(ladder, event, e, s, rung)
    return Seen(
        event.event_id,
        float(b.time[e]),
        float(s.score[e]),
        float(s.own[e]) + window_bits,
        parts,
        items,
        _did(event, bool(b.denied[e])),
        event.principal,
        event.session_id,
        sum(below),
        bool(s.session[e, 3] > 0),
        any(r.type == "agent" for r in event.recipients or ()),
        rung >= 0 and 2 * rung >= len(ladder),
        [event.resource] if event.resource else [],
        [r.id for r in event.recipients or ()],
    )


def _did(event: AccessEvent, denied: bool) -> Did:
    recipients = [r.id for r in event.recipients or ()]
    people = sum(r.size or 1 for r in event.recipients or ()) if recipients else None
    return Did(event.event_id, event.action, event.tool, event.resource, event.classification, event.records, event.bytes, recipients[:20], people, event.approved, denied)


def _text(column: Any, i: int) -> str:
    return bytes(column.buffer[int(column.low[i]) : int(column.high[i])]).decode("utf-8", "replace")


def _fact(ladder: tuple[str, ...], k: int, event: AccessEvent, e: int, b: Batch, s: Scores) -> Evidence:
    row = s.fact[e, k]
    at = int(row[5])
    usual = _usual(s, e, _USUAL_OF.get(k, k))
    observed: str
    if k == PERMISSION:
        observed = (event.scopes or ("",))[at]
    elif k == ROOT:
        observed = _slice(b.resource, e, int(b.root_high[e]))
    elif k == BRANCH:
        observed = _slice(b.resource, e, int(b.branch_high[e]))
    elif k == RESOURCE:
        observed = event.resource or ""
    elif k == CLASSIFICATION:
        observed = event.classification or ""
    elif k == TRANSITION:
        before = _recalled(s, e, TEXTS - 1)
        observed = f"from {before} to {event.tool or event.action}" if before else f"straight to {event.tool or event.action} at the start of a session"
    elif k == OUTCOME:
        observed = event.outcome or "success"
    elif k == HOUR:
        day = int(b.time[e] // 86400 + 3) % 7
        two = int(b.time[e] // 7200) % 12 * 2
        observed = f"{'weekends' if day >= 5 else 'weekdays'} between {two:02d}:00 and {two + 2:02d}:00 UTC (this was on {_DAYS[day][:-1]})"
    elif k in {RECIPIENT, CLOSENESS, DOMAIN, FLOW}:
        observed = _party(ladder, k, event, e, at, b, float(row[6]))
    elif k == OWNER:
        observed = _OWNER[int(row[6])]
    else:
        observed = event.tool or event.action
    expected = expected_values(usual)
    numbers = {"own": round(float(row[0]), 1), "of": round(float(row[1])), "peers": round(float(row[2]), 1), "distinct": round(float(row[4]), 1)}
    return Evidence(FACTS[k].name, FACTS[k].kind, observed, expected, round(float(s.bits[e, k]), 2), [event.event_id], 1, numbers)


def _party(ladder: tuple[str, ...], k: int, event: AccessEvent, e: int, at: int, b: Batch, derived: float) -> str:
    recipient = (event.recipients or ())[at]
    if k == RECIPIENT:
        return recipient.id
    if k == DOMAIN:
        return _text(b.domain, int(b.recipient_at[e]) + at)
    if k == CLOSENESS:
        return _CLOSE[int(derived)]
    data = f"{event.classification} data" if event.classification in ladder else "data of unknown class"
    where = "outside the organisation" if derived == 0 else f"to {'an' if recipient.type in {'agent', 'email'} else 'a'} {recipient.type or 'recipient'}"
    return f"{data} {where}"


def _usual(s: Scores, e: int, k: int) -> list[str]:
    """The agent's most used values of a fact when the event was scored, most used first."""
    at = NAMED_FACTS.tolist().index(k) * TOP
    return [text for i in range(TOP) if (text := _recalled(s, e, at + i))]


def _recalled(s: Scores, e: int, at: int) -> str:
    row = int(s.row[e])
    return bytes(s.text[row, at, : int(s.length[row, at])]).decode("utf-8", "replace") if row >= 0 else ""


def _slice(column: Any, e: int, high: int) -> str:
    return bytes(column.buffer[int(column.low[e]) : high]).decode("utf-8", "replace").strip("/")


def _tail(k: int, event: AccessEvent, e: int, b: Batch, s: Scores) -> Evidence:
    signal = SIGNALS[k]
    bits = round(float(s.bits[e, k]), 2)
    if k - N_FACTS == CLEARANCE:
        return Evidence(signal.name, signal.kind, _below(event, e, b), "recipients cleared for the data", bits, [event.event_id], 1)
    x, mean, spread, peers, _ = (float(v) for v in s.amount[e, _AMOUNTS[signal.name]])
    back = math.expm1 if signal.name.startswith(("bytes", "records")) else math.exp
    typical, high, peers_typical = (round(max(0.0, back(v)), 1) for v in (mean, mean + 2.33 * spread, peers))
    observed = round(max(0.0, back(x)), 1)
    tool = event.tool or event.action
    numbers = {"tool": tool, "typical": typical, "high": high, "peers": peers_typical}
    return Evidence(signal.name, signal.kind, observed, f"typically {number(typical)}, rarely above {number(high)}", bits, [event.event_id], 1, numbers)


def _below(event: AccessEvent, e: int, b: Batch) -> str:
    """Who lacks the clearance, and how many people that is."""
    rung = int(b.rung[e])
    first = int(b.recipient_at[e])
    low = [r for i, r in enumerate(event.recipients or ()) if 0 <= b.clearance[first + i] < rung]
    people = sum(r.size or 1 for r in low)
    cleared = sorted({str(r.clearance) for r in low})
    who = f"{number(people)} people behind" if people > len(low) else ""
    count = "1 recipient" if len(low) == 1 else f"{len(low)} recipients"
    return f"{f'{who} ' if who else ''}{count} may see {' or '.join(cleared)} data at most, and this is {event.classification}"


def _context(ladder: tuple[str, ...], event: AccessEvent, e: int, s: Scores, rung: int) -> list[Evidence]:
    """What is not strange by itself but belongs into the sentence."""
    out = []
    if event.approved is not None and event.recipients:
        said = "nobody approved it" if not event.approved else "it was approved by a person"
        out.append(Evidence("approval", "policy", said, "approval", 0.0, [event.event_id], 1))
    top, records = int(s.session[e, 0]), float(s.session[e, 1])
    if event.recipients and top >= 0 and (2 * top >= len(ladder) or top > rung):
        much = f"{number(records)} records of {ladder[top]} data" if records else f"{ladder[top]} data"
        out.append(Evidence("read_before", "sequence", f"earlier in the same session it had handled {much}", "-", 0.0, [event.event_id], 1))
    return out
