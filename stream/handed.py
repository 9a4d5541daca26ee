"""What the agent of an episode handed to whom, where it was refused, and what of a session that accounts for.

Of what was denied nothing was handed to anybody, and it may be what tells most: how many systems were tried.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from stream.alert import Given, rfc3339
from stream.codec import AccessEvent, Recipient
from stream.kept import MOST_TEXT, Kept, is_usual, uncleared
from stream.words import MOST_PEOPLE

MOST_GIVEN, MOST_EACH = 20, 64  # recipients (or systems), and resources of each, that are told apart
MOST_COUNTED = 1024
MOST_SESSIONS = 8


class Handed(msgspec.Struct):
    """What one recipient got."""

    recipient: str
    since: float  # when the first of it was sent
    last: float  # and the last
    rung: int = -2  # of the most classified
    resource: str | None = None
    classification: str | None = None
    counted: list[int] = []  # digests of resources
    below: list[int] = []  # of these, for which it was not cleared
    usual: bool = False  # all of it, as far as who receives and which data goes there


class Refused(msgspec.Struct):
    """What was denied."""

    events: int = 0
    systems: list[str] = []  # first parts of resources, or tools
    counted: list[int] = []  # digests of resources


def hand(handed: dict[int, Handed], kept: Kept, d: list[float]) -> None:
    """Add an event that was not denied, scored with these numbers."""
    event, low, usual = kept.event, {r.id for r in uncleared(kept)}, is_usual(d)
    for r in event.recipients or ():
        short = digest(r.id)
        if short not in handed and len(handed) < MOST_GIVEN:
            handed[short] = Handed(r.id[:MOST_TEXT], kept.time, kept.time, usual=usual)
        if short in handed:
            handed[short].last = max(handed[short].last, kept.time)
            handed[short].usual &= usual
            _add(handed[short], event, kept.rung, uncleared=r.id in low)


def _add(x: Handed, event: AccessEvent, rung: int, *, uncleared: bool) -> None:
    if not event.resource:
        return
    if rung > x.rung:
        x.rung, x.resource, x.classification = rung, event.resource[:MOST_TEXT], event.classification
    short = digest(event.resource)
    for counted in (x.counted, x.below) if uncleared else (x.counted,):
        if short not in counted and len(counted) < MOST_EACH:
            counted.append(short)


def given(handed: dict[int, Handed]) -> list[Given]:
    """The same as an alert tells it."""
    return [
        Given(
            x.recipient,
            x.resource,
            x.classification and x.classification[:MOST_TEXT],
            len(x.counted),
            len(x.below),
            rfc3339(x.since),
            x.usual,
        )
        for x in handed.values()
    ]


def refuse(x: Refused, kept: Kept) -> None:
    """Add an event that was denied."""
    event = kept.event
    x.events += 1
    system = (kept.root or event.tool or event.action)[:MOST_TEXT]
    if system not in x.systems and len(x.systems) < MOST_GIVEN:
        x.systems.append(system)
    if event.resource and (short := digest(event.resource)) not in x.counted and len(x.counted) < MOST_EACH:
        x.counted.append(short)


class Sat(msgspec.Struct):
    """What the episode's own events account for of what a session had in hand: records by class of the ladder, lower case."""

    sent: dict[str, float] = {}
    refused: dict[str, float] = {}


def sit(sessions: dict[str, Sat], kept: Kept) -> None:
    """Add an event to its session."""
    event = kept.event
    if not event.session_id or not event.classification or kept.rung < 0 or not (kept.denied or event.recipients):
        return  # of a class that is not on the ladder a session has nothing in hand, and there may be one for each event
    if event.session_id not in sessions and len(sessions) >= MOST_SESSIONS:
        del sessions[next(iter(sessions))]
    at, of = sessions.setdefault(event.session_id, Sat()), event.classification.lower()
    into = at.refused if kept.denied else at.sent
    into[of] = into.get(of, 0.0) + (event.records or 0.0)


def reach(reached: dict[int, int], recipients: Sequence[Recipient]) -> int:
    """Add recipients to those already reached; how many people stand behind them, each counted once, however often it was reached.

    Beyond so many recipients nobody is added, and the sum is a lower bound.
    """
    for r in recipients:
        short = digest(r.id)
        if short in reached or len(reached) < MOST_COUNTED:
            reached[short] = max(reached.get(short, 0), r.size or 1)
    return min(MOST_PEOPLE, sum(reached.values()))


@lru_cache(1024)  # of one event after the other, and for several purposes, most names are the same
def digest(name: str) -> int:
    """What stands for a name where many are kept."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=7).digest(), "big")
