"""The words: one sentence on what the agent did, then why that is strange, each said from the evidence and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stream.alert import Did, Evidence, Exposure

_DONE = {
    "read": "read", "list": "listed", "search": "searched", "write": "wrote", "delete": "deleted", "share": "shared", "send": "sent", "execute": "ran",
    "login": "logged in with", "grant": "granted access with",
}  # fmt: skip
_TITLES = {
    "volume": "moves more data than is usual for it",
    "scope": "uses what it does not usually use",
    "recipient": "sends to someone it does not usually send to",
    "sequence": "does things in an order that is new for it",
    "policy": "shows data to recipients that lack the clearance",
    "rate": "works at a pace or an hour that is unusual for it",
}
MOST_CLAUSES = 4
MOST_PEOPLE = 1 << 53  # the largest whole number that every reader of JSON keeps as it is


def number(x: float) -> str:
    """A count for reading.

    >>> number(12345.0), number(3.25)
    ('12,345', '3.2')
    """
    return f"{x:,.0f}" if x >= 10 or x == int(x) else f"{x:.1f}"


def people(n: int) -> str:
    """How many people, for reading: a sum stops at the largest number that a receiver can hold.

    >>> people(2000), people(1), people(1 << 53)
    ('2,000 people', '1 person', 'at least 9,007,199,254,740,992 people')
    """
    return f"{'at least ' if n >= MOST_PEOPLE else ''}{n:,} {'person' if n == 1 else 'people'}"


def size(x: float) -> str:
    """Bytes for reading, in powers of ten.

    >>> size(532.0), size(1532000.0)
    ('532 bytes', '1.5 MB')
    """
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if x >= factor:
            return f"{x / factor:.1f} {unit}"
    return f"{x:.0f} bytes"


def plain(text: str, most: int = 80) -> str:
    """A name from outside made safe to print: no control characters, no line breaks, bounded length."""
    out = text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)
    return out if len(out) <= most else out[: most - 1] + "…"


def title(agent_id: str, kinds: Sequence[str]) -> str:
    """One line: who, and what kind of straying."""
    return f"{plain(agent_id)} {_TITLES[kinds[0]]}"


def did(event: Did) -> str:
    """What the strangest event did, as a clause without its subject."""
    verb = _DONE.get(event.action, f"did “{plain(event.action, 24)}” on")
    if event.denied:
        verb = f"was denied when it {verb}"
    what = []
    if event.classification:
        what.append(plain(event.classification, 32))
    if event.records is not None:
        what.append(
            f"{'data, ' if event.classification else ''}{number(event.records)} record{'' if event.records == 1 else 's'}"
        )
    elif event.bytes is not None:
        what.append(f"{'data, ' if event.classification else ''}{size(event.bytes)}")
    elif event.classification:
        what.append("data")
    target = " ".join(what)
    if event.resource:
        target = f"{target} in {plain(event.resource)}" if target else plain(event.resource)
    out = f"{verb} {target}".rstrip()
    if event.recipients:
        names = ", ".join(plain(r, 48) for r in event.recipients[:2])
        more = f" and {len(event.recipients) - 2} more" if len(event.recipients) > 2 else ""
        reached = event.people is not None and event.people > len(event.recipients)
        out += f" to {names}{more}" + (f" ({people(event.people or 0)})" if reached else "")
    if event.tool:
        out += f" with {plain(event.tool, 48)}"
    return out


def _seen(e: Evidence, never: str, rarely: str) -> str:
    b = e.baseline
    own, of, peers = b.get("own", 0.0), b.get("of", 0.0), b.get("peers", 0.0)
    if own >= 0.5:
        said = f"{rarely}: about {number(max(1, own))} of its {_events(of)}"
        return said + (f", as do about {number(peers)} of its peers" if peers >= 1 else "")
    said = f"{never} in its {_events(of)} so far" if of >= 1 else f"{never} before"
    return said + (f"; about {number(peers)} of its peers have" if peers >= 1 else "")


def _events(n: float) -> str:
    return f"{number(n)} event{'' if n == 1 else 's'}"


def _alone(e: Evidence) -> bool:
    """Neither the agent nor any of its peers has done this."""
    return "peers" in e.baseline and "own" in e.baseline and e.baseline["own"] < 0.5 and e.baseline["peers"] < 1


def _amount(e: Evidence) -> str:
    unit = size if e.name.startswith("bytes") else number
    word = "" if e.name.startswith("bytes") else " records"
    b = e.baseline
    what = f"{unit(float(e.observed))}{word} in one call of {plain(str(b['tool']), 48)}, usually {unit(b['typical'])} and rarely above {unit(b['high'])}"
    if e.name.endswith("_sum"):
        return (
            f"what it moves a call stays above its usual ({e.count} call{'' if e.count == 1 else 's'} so far): {what}"
        )
    return what


_CLAUSES: dict[str, Callable[[Evidence], str]] = {
    "tool": lambda e: _seen(e, f"it has never used {plain(str(e.observed))}", f"it seldom uses {plain(str(e.observed))}"),
    "permission": lambda e: _seen(e, f"it has never used the permission {plain(str(e.observed))}", f"it seldom uses the permission {plain(str(e.observed))}"),
    "root": lambda e: _seen(e, f"it has never touched {plain(str(e.observed))}", f"it seldom touches {plain(str(e.observed))}"),
    "branch": lambda e: _seen(e, f"it has never touched {plain(str(e.observed))}", f"it seldom touches {plain(str(e.observed))}"),
    "resource": lambda e: _seen(e, f"it has never touched {plain(str(e.observed))}", f"it seldom touches {plain(str(e.observed))}"),
    "classification": lambda e: _seen(e, f"it has never handled {plain(str(e.observed))} data", f"it seldom handles {plain(str(e.observed))} data"),
    "transition": lambda e: _seen(e, f"it has never gone {plain(str(e.observed))}", f"it seldom goes {plain(str(e.observed))}"),
    "outcome": lambda e: _seen(e, f"a call of it has never ended “{e.observed}”", f"a call of it seldom ends “{e.observed}”"),
    "hour": lambda e: _seen(e, f"it has never worked on {e.observed}", f"it seldom works on {e.observed}"),
    "recipient": lambda e: _seen(e, f"it has never sent anything to {plain(str(e.observed))}", f"it seldom sends anything to {plain(str(e.observed))}"),
    "domain": lambda e: _seen(e, f"it has never sent anything to {plain(str(e.observed))}", f"it seldom sends anything to {plain(str(e.observed))}"),
    "closeness": lambda e: f"the recipient is {e.observed}",
    "flow": lambda e: _seen(e, f"it has never sent {e.observed}", f"it seldom sends {e.observed}"),
    "owner": lambda e: f"the resource {e.observed}",
    "clearance": lambda e: f"{e.observed}",
    "bytes": _amount, "records": _amount, "bytes_sum": _amount, "records_sum": _amount,
    "session_calls": lambda e: f"{number(float(e.observed))} calls of {plain(str(e.baseline['tool']), 48)} in one session, usually {number(e.baseline['typical'])}",
    "session_calls_sum": lambda e: f"its sessions keep calling {plain(str(e.baseline['tool']), 48)} more often than usual, now {number(float(e.observed))} times against {number(e.baseline['typical'])}",
    "call_rate": lambda e: f"{number(float(e.observed))} calls within ten minutes, usually {number(e.baseline['typical'])}",
    "windows": lambda e: f"its last hour as a whole is unlike its others ({e.observed})",
    "approval": lambda e: f"{e.observed}",
    "read_before": lambda e: f"{e.observed}",
    "cohort_shift": lambda e: f"{e.observed}",
}  # fmt: skip
OF_THE_EVENT = ("approval", "read_before")  # of the strangest event alone
CONTEXT = ("clearance", "approval", "read_before", "cohort_shift")  # said whatever else is
# Said less well by the one than by the other.
_COVERED = {
    "bytes": "bytes_sum",
    "records": "records_sum",
    "session_calls": "session_calls_sum",
    "closeness": "recipient",
    "resource": "branch",
    "branch": "root",
}
_USUALLY = {
    "tool": "uses", "permission": "uses", "root": "touches", "branch": "touches", "resource": "touches", "owner": "touches", "classification": "handles",
    "transition": "uses", "outcome": "uses", "hour": "uses", "recipient": "sends to", "domain": "sends to", "closeness": "sends to", "flow": "sends to",
}  # fmt: skip


def clause(e: Evidence) -> str:
    """One item of evidence in words."""
    return _CLAUSES[e.name](e)


def reason(
    agent_id: str,
    agent_type: str | None,
    event: Did,
    evidence: Sequence[Evidence],
    exposure: Exposure,
    *,
    warming: bool,
) -> str:
    """The sentence that a person reads, and what is usual."""
    who = plain(agent_id) + (f" ({plain(agent_type, 48)})" if agent_type else "")
    names = {e.name for e in evidence}
    signals = [e for e in evidence if e.name not in CONTEXT and _COVERED.get(e.name) not in names]
    said: list[str] = []
    alone = False
    for e in signals[:MOST_CLAUSES]:
        text = clause(e)
        nor = not alone and _alone(e) and text.startswith("it has never ")
        alone |= nor
        said.append(text + (", nor has any of its peers" if nor else ""))
    said += [clause(e) for e in evidence if e.name in CONTEXT]
    out = f"{who} {did(event)}"
    out += f": {'; '.join(said)}." if said else "."
    if exposure.events > 1:
        moved = [f"{number(exposure.records)} records"] if exposure.records is not None else []
        moved += [size(exposure.bytes)] if exposure.bytes is not None else []
        out += (
            f" The episode has {exposure.events} such events"
            + (f" with {' and '.join(moved)} in all" if moved else "")
            + "."
        )
    usual = next((e for e in signals if e.expected.startswith("usually ") and e.name in _USUALLY), None)
    if usual:
        out += f" It usually {_USUALLY[usual.name]} {usual.expected.removeprefix('usually ')}."
    if warming:
        out += " It is new, so it is judged mostly by its peers."
    return out


def expected_values(values: Sequence[str]) -> str:
    """What is usual, from an agent's most used values."""
    return "usually " + ", ".join(plain(name, 48) for name in values) if values else "nothing is usual yet"
