"""What a verdict changes, in words, for whoever is about to say it: what a benign one makes ordinary, what a malicious one marks, thing by thing.

The same that `stream.verdict.judged` turns into numbers. Benign is on what the alert's `event` did, and what its evidence names: whom the agent may reach, what it may touch,
with which permissions, and how much; it is ordinary for one agent, and fades as all that is learned. Malicious is on what the evidence names, and marks of that what the agent
had hardly ever shown (`models.verdict`). How often the agent did it before is said where the evidence tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from models.batch import Text
from models.schema import HALF_LIFE
from models.verdict import PEERS, RARE
from stream.codec import Reject
from stream.errors import InputError
from stream.measured import AMOUNTS
from stream.verdict import Named, Reset, Verdict, ceiling, columns_of, decode_verdict, event_of
from stream.words import counted, number, plain, size

_ROWS = (
    "recipients",
    "their domains",
    "data",
    "resources",
    "permissions",
    "tools",
    "order of steps",
    "volume",
    "besides",
)
_ROW_OF = {
    "recipient": "recipients", "domain": "their domains", "flow": "data", "classification": "data", "resource": "resources", "branch": "resources", "root": "resources",
    "permission": "permissions", "tool": "tools", "action": "tools", "unapproved": "tools", "transition": "order of steps", "owner": "resources",
}  # fmt: skip
# What is no fact or amount, but how far something went: as far is ordinary.
_BESIDES = {
    "clearance": "as many who lack the clearance by as much",
    "off_hours": "sessions at such hours",
    "unvouched": "to give such data outside though nothing vouches for it",
    "dormancy": "to take up again what it left alone for as long",
    "repeats": "the same as often within minutes",
}


def told(said: bytes, ladder: tuple[str, ...]) -> list[str]:
    """Lines for a terminal about a verdict, as it was encoded. Raises `InputError` where it is none that an engine would heed."""
    v = decode_verdict(said, 0)
    if isinstance(v, Reset | Reject):
        raise InputError(
            f"the alert is none that a verdict can be on: {v.detail if isinstance(v, Reject) else v.verdict}"
        )
    agent = plain(v.agent_id)
    if v.verdict == "malicious":
        lines = _table(_marks(v))
        return [
            f"marked for {agent} by a malicious verdict (in brackets: before): an event of it with one of these is as strange as ever and teaches nothing, for two years or until a benign one"
            if lines
            else f"nothing is marked for {agent}: its alert names nothing that it had hardly ever shown",
            *lines,
            "  what else the alert shows is taken back as far as it was learned from it",
        ]
    return [
        f"ordinary for {agent} by a benign verdict, fading by half in {HALF_LIFE / 86400:.0f} days (in brackets: before):",
        *_table((*_named(v), *_of_event(v, ladder))),
        "  not for another agent, and no other recipient, resource, permission or tool",
    ]


def _from(item: Named, least: float) -> str:
    """An amount of so much or more."""
    tool = plain(item.baseline.tool or "", 48)
    if item.name == "call_rate":
        return f"a pace of about {number(round(least))} calls or more in ten minutes"
    if item.name == "session_calls":
        return f"{counted(round(least), 'call')} or more of {tool} in one session"
    moved = size(least) if item.name == "bytes" or item.baseline.unit == "bytes" else counted(round(least), "record")
    return f"{moved} or more in one call of {tool}"


def _table(found: Iterable[tuple[str, str, str]]) -> list[str]:
    rows: dict[str, dict[str, str]] = {row: {} for row in _ROWS}
    for row, name, before in found:
        rows[row].setdefault(name, before)
    return [
        f"  {row:14}  {', '.join(f'{name}{before}' for name, before in names.items())}"
        for row, names in rows.items()
        if names
    ]


def _marks(v: Verdict) -> Iterator[tuple[str, str, str]]:
    """What a malicious verdict marks: row, name and how it was before. What peers use is none by itself, so it is not marked; whom they reach is."""
    met = False
    for item in v.evidence:
        b = item.baseline
        if (item.name in AMOUNTS or item.name == "rhythm") and (least := ceiling(item)) is not None:
            yield "volume", _from(item, least), ""
        if item.name not in _ROW_OF or item.name == "owner" or b.own >= RARE:
            continue
        if item.name not in {"recipient", "domain", "flow"} and b.peers - min(1.0, b.own) >= PEERS:
            continue
        met = met or item.name in {"recipient", "domain"}
        yield _words(item)
    if met:
        for recipient in v.event.recipients:
            yield "recipients", plain(recipient), " (if new with it)"


def _named(v: Verdict) -> Iterator[tuple[str, str, str]]:
    """What the evidence names: row, name and how it was before."""
    for item in v.evidence:
        if item.name in _BESIDES:
            yield "besides", _BESIDES[item.name], ""
        elif item.name in AMOUNTS or item.name == "rhythm":
            yield from _amount(item)
        elif item.name in _ROW_OF:
            yield _words(item)


def _words(item: Named) -> tuple[str, str, str]:
    words = "a resource that {}" if item.name == "owner" else "{} data" if item.name == "classification" else "{}"
    name = words.format(plain(str(item.observed)))
    return _ROW_OF[item.name], f"all in {name}" if item.name in {"root", "branch"} else name, _before(item)


def _before(item: Named) -> str:
    """How often it was done before the alert: what is known of it has faded, and strange events count for less."""
    own = item.baseline.own
    times = counted(max(1, math.floor(own)), "time")
    return (
        " (never)"
        if own <= 0 or item.baseline.since
        else f" (at least {times})"
        if own >= RARE
        else " (seldom, if ever)"
    )


def _amount(item: Named) -> Iterator[tuple[str, str, str]]:
    usual = item.baseline
    if isinstance(item.observed, str) or usual.tool is None or usual.typical is None:
        return
    if not item.name.endswith("_sum") and usual.high is not None and item.observed <= usual.high:
        return  # it often is as much
    tool = plain(usual.tool, 48)
    say = size if item.name.startswith("bytes") or usual.unit == "bytes" else number
    high = say(usual.high if usual.high is not None else usual.typical)
    if item.name.endswith("_sum"):
        yield "volume", f"what {tool} has moved or was called more of late: its sum begins at 0", ""
    elif item.name == "session_calls":
        yield (
            "volume",
            f"up to {counted(round(item.observed), 'call')} of {tool} in one session",
            f" (rarely above {high})",
        )
    elif item.name == "call_rate":
        yield (
            "volume",
            f"a pace of up to about {number(round(item.observed))} calls in ten minutes",
            f" (rarely above {high})",
        )
    else:
        moved = size(item.observed) if say is size else counted(item.observed, "record")
        yield "volume", f"up to {moved} in one call of {tool}", f" (rarely above {high})"


def _of_event(v: Verdict, ladder: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """What the event that the alert is about did, beside that."""
    event, b = event_of(v), columns_of(v, ladder)
    for recipient in event.recipients or ():
        yield "recipients", plain(recipient.id), ""
    for low, high in zip(b.domain.low.tolist(), b.domain.high.tolist(), strict=True):
        if high > low:
            yield "their domains", plain(_text(b.domain, low, high)), ""
    data = f"{plain(event.classification)} data" if event.classification else "data of unknown class"
    if event.recipients:
        yield "data", f"{data} to where the alert's events sent it", ""
    elif event.classification:
        yield "data", data, ""
    if event.resource:
        low, whole = int(b.resource.low[0]), plain(event.resource)
        places = (_text(b.resource, low, int(high[0])).strip("/") for high in (b.root_high, b.branch_high))
        for place in dict.fromkeys(places):
            if place and place != whole.strip("/"):
                yield "resources", f"all in {plain(place)}", ""
        yield "resources", whole, ""
    if event.tool:
        yield "tools", plain(event.tool), ""
    if event.approved is False:
        yield "tools", f"{plain(event.tool or event.action)} without an approval", ""


def _text(column: Text, low: int, high: int) -> str:
    return column.buffer[low:high].tobytes().decode("utf-8", "replace")
