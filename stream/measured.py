"""Evidence of what is measured: amounts, paces, sums, the hour of a session, a series, and how many people lack the clearance."""

from __future__ import annotations

import math
from typing import Any

from models.amounts import PRIOR
from models.batch import (
    AMOUNT,
    AMOUNT_WIDTH,
    BITS,
    FACT,
    FACT_WIDTH,
    FORECAST,
    HOURS,
    LEFT_ALONE,
    SAME,
    SESSION,
)
from models.dormancy import LEAST
from models.scoring import RATE_OFFSET
from models.signals import (
    CALL_RATE,
    CLEARANCE,
    DORMANCY,
    N_FACTS,
    N_NAMED,
    OFF_HOURS,
    REPEATS,
    RHYTHM,
    SIGNALS,
    TOOL,
)
from stream.alert import Evidence
from stream.counterfactual import next_bits
from stream.kept import MOST_TEXT, Kept, bears_mark, below, has_peers, uncleared
from stream.words import counted, number, people

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
AMOUNTS = {  # of each signal that measures one, its number in the loop
    "bytes": 0,
    "records": 1,
    "session_calls": 2,
    "call_rate": 3,
    "bytes_sum": 0,
    "records_sum": 1,
    "session_calls_sum": 2,
}


def measured(k: int, kept: Kept, d: list[float]) -> Evidence:
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
            _whom(kept, d) | next_bits(k, d),
        )
    if k - N_FACTS == OFF_HOURS:
        return _off_hours(kept, d, bits)
    if k - N_FACTS == REPEATS:
        return _repeats(kept, d, bits)
    if k - N_FACTS == DORMANCY:
        return _left_alone(kept, d, bits)
    if k == RHYTHM:
        return _rhythm(kept, d, bits)
    at = AMOUNT + AMOUNTS[signal.name] * AMOUNT_WIDTH
    x, mean, spread, peers = d[at : at + AMOUNT_WIDTH]
    back = (
        _calls_back
        if k - N_FACTS == CALL_RATE
        else math.expm1
        if signal.name.startswith(("bytes", "records"))
        else math.exp
    )
    typical, high = (round(max(0.0, back(v)), 1) for v in (mean, mean + 2.33 * spread))
    observed = round(max(0.0, back(x)), 1)
    tool = (event.tool or event.action)[:MOST_TEXT]
    numbers: dict[str, Any] = {"tool": tool, "typical": typical, "high": high} | next_bits(k, d)
    if math.isnan(peers):  # neither it nor a peer has a past with this tool
        numbers["other_tools"] = True
    elif kept.peered and (event.agent_type is None or has_peers(d)):
        numbers["peers"] = round(max(0.0, back(peers)), 1)
    if bears_mark(N_NAMED + AMOUNTS[signal.name], d):
        numbers["marked"] = True
    expected = f"typically {number(typical)}" + (f", rarely above {number(high)}" if observed > high else "")
    if math.isnan(peers):
        expected += " with its other tools"
    elif _is_new(signal.name, observed, d):
        numbers["new"] = True
        expected = "hardly done before"
    if k - N_FACTS == CALL_RATE:
        numbers["unit"] = "calls in ten minutes, those before fading"
    return Evidence(
        signal.name,
        signal.kind,
        observed,
        expected,
        bits,
        [event.event_id],
        1,
        numbers,
    )


def _is_new(name: str, observed: float, d: list[float]) -> bool:
    """Whether what it was judged by is mostly its peers', not its own: nothing is usual for it yet. Of a session's calls, those of this one do not count."""
    calls = d[FACT + TOOL * FACT_WIDTH + (name == "call_rate")]  # of the tool, or of all, before this one
    if name in {"session_calls", "session_calls_sum", "call_rate"}:
        calls -= observed - 1.0
    return calls < PRIOR and name not in {"bytes_sum", "records_sum"}  # which begin with the eighth


def _calls_back(x: float) -> float:
    """The pace in calls in ten minutes, from the amount that the loop scores: of all calls so far, each of t minutes ago counts e^(−t/10), this one whole."""
    return math.exp(x) - RATE_OFFSET + 1.0


def _off_hours(kept: Kept, d: list[float], bits: float) -> Evidence:
    """A session that begins when few do, for the agent and its peers."""
    minutes = int(kept.time // 60) % 1440
    day = _DAYS[int(kept.time // 86400 + 3) % 7]
    observed = f"a session at {minutes // 60:02d}:{minutes % 60:02d} UTC on a {day}"
    # Both fade, odd starts count less and so do those that are less near: there were no fewer, and none only where nothing is left of any.
    near, total = d[HOURS + 1], int(d[HOURS + 2])
    before = f"{total:,} or more sessions" if total > 1 else "sessions"
    expected = f"{'few' if near >= 1 else 'few, if any,' if near > 0 else 'none'} of its {before} began within 90 minutes of then"
    numbers = {"own": round(near, 1), "of": total} | next_bits(N_FACTS + OFF_HOURS, d)
    signal = SIGNALS[N_FACTS + OFF_HOURS]
    return Evidence(signal.name, signal.kind, observed, expected, bits, [kept.event.event_id], 1, numbers)


def _repeats(kept: Kept, d: list[float], bits: float) -> Evidence:
    """The same again and again: one recipient, or one resource by one tool. The count fades as the pace does (`_calls_back`)."""
    event, times = kept.event, round(d[SAME]) + 1
    if event.recipients:
        place = min(int(d[SAME + 1]), len(event.recipients) - 1)
        same = f"sent to {event.recipients[place].id}"
    else:
        same = f"touched {event.resource or 'the same'} with {event.tool or event.action}"
    signal = SIGNALS[N_FACTS + REPEATS]
    numbers: dict[str, Any] = {"times": times} | next_bits(N_FACTS + REPEATS, d)
    return Evidence(
        signal.name,
        signal.kind,
        f"{same} about {counted(times, 'time')}"[:MOST_TEXT],
        "the same hardly ever so often within minutes",
        bits,
        [event.event_id],
        1,
        numbers,
    )


def _left_alone(kept: Kept, d: list[float], bits: float) -> Evidence:
    """A permission, or the tool, that it has not used for weeks."""
    event, days, at = kept.event, d[LEFT_ALONE], int(d[LEFT_ALONE + 1])
    what = f"the permission {(event.scopes or ('',))[at]}" if at >= 0 else event.tool or event.action
    signal = SIGNALS[N_FACTS + DORMANCY]
    numbers: dict[str, Any] = {"days": round(days, 1)} | next_bits(N_FACTS + DORMANCY, d)
    return Evidence(
        signal.name,
        signal.kind,
        what[:MOST_TEXT],
        f"used within {LEAST} days",
        bits,
        [event.event_id],
        1,
        numbers,
    )


def _rhythm(kept: Kept, d: list[float], bits: float) -> Evidence:
    """An amount of a series that its forecast did not expect, or the mean of its last."""
    observed, typical, low, high = (round(max(0.0, v), 1) for v in d[FORECAST : FORECAST + 4])
    lasts = d[FORECAST + 4] > 0
    event = kept.event
    numbers: dict[str, Any] = next_bits(RHYTHM, d) | {
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


def _whom(kept: Kept, d: list[float]) -> dict[str, Any]:
    """Who lacks the clearance, the largest audience by its name, whether only they can delete it, and for what."""
    low = {r.id: r for r in uncleared(kept)}
    first = max(low.values(), key=lambda r: r.size or 1)  # of equals the first
    numbers: dict[str, Any] = {"recipient": first.id[:MOST_TEXT], "more": len(low) - 1, "people": below(kept)}
    sent = any(r.type in {"email", "url"} for r in low.values()) or d[SESSION + 2] >= len(kept.event.recipients or ())
    numbers |= {"sent": True} if sent else {}
    agents = sum(r.type in {"agent", "service"} for r in low.values())
    numbers |= {"agents": agents} if agents else {}
    # Of how many people stand behind a group nothing is known where its event does not say it: each counts as one.
    numbers |= {"unsized": True} if any(r.size is None and r.type in {"group", "channel"} for r in low.values()) else {}
    return numbers | ({"resource": kept.event.resource[:MOST_TEXT]} if kept.event.resource else {})


def _below(kept: Kept) -> str:
    """Who lacks the clearance, and how many people that is."""
    low, n = uncleared(kept), below(kept)
    by_rung = sorted(zip(kept.clearances, kept.event.recipients or (), strict=True), key=lambda pair: pair[0])
    cleared = dict.fromkeys(str(r.clearance) for c, r in by_rung if 0 <= c < kept.rung)  # lowest first
    who = f"the {people(n)} behind " if n > len(low) else ""
    count = "1 recipient" if len(low) == 1 else f"{len(low):,} recipients"
    given = "would have been" if kept.denied else "was" if n == 1 else "were"
    return (
        f"{who}{count} may see {_span(list(cleared))} data at most, and {given} given {kept.event.classification} data"
    )


def _span(rungs: list[str]) -> str:
    """Classes that some may see, the lowest first.

    >>> _span(["public"]), _span(["public", "internal"]), _span(["public", "internal", "confidential"])
    ('public', 'public or internal', 'public to confidential')
    """
    return " or ".join(rungs) if len(rungs) < 3 else f"{rungs[0]} to {rungs[-1]}"
