"""What a benign verdict makes ordinary, in words, for whoever is about to say it: whom it may reach, what it may touch, with which permissions, and how much.

The same that `stream.verdict.judged` turns into numbers: what the alert's `event` did, and what its evidence names. It is ordinary for one agent,
and fades as all that is learned; how often the agent did it before is said where the evidence tells.
"""

from __future__ import annotations

from collections.abc import Iterator

from models.batch import Text
from models.schema import HALF_LIFE
from stream.codec import Reject
from stream.errors import InputError
from stream.measured import AMOUNTS
from stream.verdict import Named, Reset, Verdict, columns_of, decode_verdict, event_of
from stream.words import counted, number, plain, roughly, size

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
    """Lines for a terminal about a benign verdict, as it was encoded. Raises `InputError` where it is none that an engine would heed."""
    v = decode_verdict(said, 0)
    if isinstance(v, Reset | Reject):
        raise InputError(
            f"the alert is none that a verdict can be on: {v.detail if isinstance(v, Reject) else v.verdict}"
        )
    rows: dict[str, dict[str, str]] = {row: {} for row in _ROWS}
    for row, name, before in (*_named(v), *_of_event(v, ladder)):
        rows[row].setdefault(name, before)
    days = HALF_LIFE / 86400
    lines = [
        f"  {row:14}  {', '.join(f'{name}{before}' for name, before in names.items())}"
        for row, names in rows.items()
        if names
    ]
    return [
        f"ordinary for {plain(v.agent_id)} by a benign verdict, fading by half in {days:.0f} days (in brackets: before):",
        *lines,
        "  not for another agent, and no other recipient, resource, permission or tool",
    ]


def _named(v: Verdict) -> Iterator[tuple[str, str, str]]:
    """What the evidence names: row, name and how it was before."""
    for item in v.evidence:
        if item.name in _BESIDES:
            yield "besides", _BESIDES[item.name], ""
        elif item.name in AMOUNTS or item.name == "rhythm":
            yield from _amount(item)
        elif item.name in _ROW_OF:
            words = (
                "a resource that {}" if item.name == "owner" else "{} data" if item.name == "classification" else "{}"
            )
            name = words.format(plain(str(item.observed)))
            yield _ROW_OF[item.name], f"all in {name}" if item.name in {"root", "branch"} else name, _before(item)


def _before(item: Named) -> str:
    """How often it was done before the alert, for what is known of it has faded."""
    own = item.baseline.own
    return " (hardly ever)" if 0 < own < 0.5 else f" (about {roughly(max(1.0, own)):,} times)" if own else " (never)"


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
