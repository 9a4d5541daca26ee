"""What an agent had done before of what it is blamed for, and what its peers do, so that nobody who counts its events finds it otherwise.

What is known are counts that fade, to which doubted events add as little as a twentieth: they are bounds. There were no fewer chances; what has left a trace was done, in strange events
or long ago where the trace is faint, and what has left none never was, but for what a verdict took back.
"""

from __future__ import annotations

import math
from typing import Any

from stream.alert import Evidence
from stream.words import HEARD, counted, lasting, number, roughly

STEPS = {"closeness", "owner"}  # of a scale, whose far ones count for as little as a twentieth (`models.ordinal`)
FAINT = 2.0  # uses, most of which may have been strange ones
_TO = {"used": "use", "touched": "touch", "handled": "get at", "gone": "go", "called": "call", "done": "do", "sent": "send", "sent to": "send to"}  # fmt: skip


def done_before(b: dict[str, Any]) -> str:
    """How an agent did before what it is blamed for: "never"; "strange", in events that were so strange, or so long ago, that hardly anything was
    learned of them; "marked", if ever, in what a person called malicious or is like it; "seldom"."""
    if b.get("since"):
        return "never"
    own = b.get("own", 0.0)
    return "seldom" if own >= 0.5 else "strange" if own > 0 else "marked" if "judged" in b else "never"


def seen(e: Evidence, done: str, does: str, what: str, unit: str) -> str:
    """Never, never until some minutes before, only in strange events, or seldom, against how many chances, and what its peers do.

    Counts fade, and doubted events count for less: there were no fewer, and how many more is not known. What was denied was tried, and so were those that are counted.
    """
    b = e.baseline
    if b.get("denied") and done in _TO:
        done, does = f"tried to {_TO[done]}", f"tries to {_TO[done]}"
    own, of, how = b.get("own", 0.0), b.get("of", 0.0), done_before(b)
    # Of an order of steps the chances are not quite those that one counts: after a strange step it goes by the last ordinary one.
    few = count_of(roughly(of) if e.name == "transition" else _least(of), unit)
    few = few if of == round(of) else f"{'about' if e.name == 'transition' else 'at least'} {few}"
    if b.get("since"):  # those of this sitting are among the chances
        said = f"until {lasting(b['since'])} before it had never {done} {what}" + (
            f" ({few} so far)" if of >= 1 else ""
        )
    elif e.name in STEPS and own > 0:
        said = f"it seldom {does} {what}"
    elif how == "seldom":
        times, sure = number(max(1.0, math.floor(own))), own == round(own) and of == round(of)
        many = f"about {times}" if e.name == "transition" else times if sure else f"{times} or more"
        # So little may be what is left of a good deal more that was doubted.
        doubted = " but in strange events" if own < FAINT and own != round(own) else ""
        said = f"it seldom {does} {what}{doubted} ({many} of {few.removeprefix('about ')})"
    elif how == "strange":
        said = f"it has {done} {what} only in strange events before, or long ago"
    elif how == "marked":
        said = f"it has, if ever, {done} {what} only in what a person called malicious, or its like"
    else:
        said = f"it has never {done} {what}" + (f" in {few}" if of >= 1 else " before")
    if "peers" not in b:
        return said
    peers = b["peers"] - (1.0 if b.get("since") else min(1.0, own))  # the agent's own use is among its cohort's
    if peers >= 1:
        one = round(peers) == 1  # a peer that uses it much may count for more than one: no number of peers is known
        many = "at least one peer" if one else "some peers"
        verb = ("does" if one else "do") if said.startswith("it seldom ") else ("has" if one else "have")
        return f"{said}, but {many} {verb}"
    if own > 0 and not b.get("since"):
        return said  # its own use is among its cohort's: whether a peer has as well is not known
    # What it has done itself since is among what its cohort knows: where there is no more, no peer has, but for strange events, of which as little is learned.
    nobody = b["peers"] <= (own if b.get("since") else 0.0)
    if b.get("since") and not nobody and b["peers"] <= 1.0:
        return said  # its own may count for more there, or one peer's for less: not known
    heard = HEARD if b.get("peers_heard_of") else ""
    none = "nor had peers until then" if b.get("peers_since") else "nor have peers"
    none += ", unless in strange events" if b.get("since") and b["peers"] > 0 else ""
    return f"{said}, {none}{heard}" if nobody else f"{said}, peers seldom{heard}"


_ONE = {
    "calls": "call", "uses": "use", "accesses": "access", "deliveries": "delivery", "sessions": "session",
    "steps from there": "step from there", "calls of that tool": "call of that tool", "calls of that tool that tell": "call of that tool that tells",
}  # fmt: skip


def _least(n: float) -> int:
    """What a count that has faded was at least, to two digits.

    >>> _least(7.9), _least(98.6), _least(469.2), _least(1000.0)
    (7, 98, 460, 1000)
    """
    whole = math.floor(n)
    unit = int(10 ** max(0, len(str(whole)) - 2))
    return whole // unit * unit


def count_of(n: float, unit: str) -> str:
    """How many, with the unit.

    >>> count_of(1, "calls"), count_of(1200.4, "deliveries")
    ('1 call', '1,200 deliveries')
    """
    return counted(round(n), _ONE[unit], unit)
