"""The words: what the agent did in its strangest event and why that is strange, then what else its episode shows.

Each sentence is said from the alert's evidence and nothing else; what is said of an event is said from evidence of that event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from models.loop import POOL_GAIN
from models.signals import INDEX, SIGNALS
from stream.alert import Did, Evidence, Exposure

# Tried to, and done.
_VERBS = {
    "read": ("read", "read"), "list": ("list", "listed"), "search": ("search", "searched"), "write": ("write", "wrote"),
    "delete": ("delete", "deleted"), "share": ("share", "shared"), "send": ("send", "sent"), "execute": ("run", "ran"),
    "login": ("log in to", "logged in to"), "grant": ("grant access to", "granted access to"),
}  # fmt: skip
_ON_DATA = {
    "read",
    "list",
    "search",
    "write",
    "delete",
    "share",
    "send",
}  # other verbs take the resource as their object
_TITLES = {
    "volume": "moves more data than is usual for it",
    "scope": "uses what it does not usually use",
    "recipient": "sends to someone it does not usually send to",
    "sequence": "does things in an order that is new for it",
    "policy": "shows data to recipients that lack the clearance",
    "rate": "works at a pace or an hour that is unusual for it",
}
MOST_CLAUSES, MOST_OTHERS = 4, 2
MOST_RECIPIENTS = 20  # that an alert names of one event
STRONG = 6.0  # bits from which another event's evidence is said
MARGIN = 0.1  # bits that rounding may cost
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
    """What the strangest event did, for whom and when, as a clause without its subject."""
    base, past = _VERBS.get(event.action, (f"do “{plain(event.action, 24)}” on", f"did “{plain(event.action, 24)}” on"))
    verb = f"tried to {base}" if event.denied else past
    data = f"{plain(event.classification, 32)} data" if event.classification else ""
    if event.records is not None:
        amount = f"{number(event.records)} record{'' if event.records == 1 else 's'}"
        data = f"{amount} of {data}" if data else amount
        data += f" ({size(event.bytes)})" if event.bytes else ""
    elif event.bytes is not None:
        data = f"{size(event.bytes)} of {data}" if data else size(event.bytes)
    resource = plain(event.resource) if event.resource else ""
    if event.action in _ON_DATA or not resource:
        target = f"{data} in {resource}" if data and resource else data or resource
    else:
        target = f"{resource}, {data}," if data else resource
    out = f"{verb} {target}" if target else verb.removesuffix(" to").removesuffix(" on")
    if event.recipients:
        names = ", ".join(plain(r, 48) for r in event.recipients[:2])
        n = len(event.recipients) - 2
        more = f" and {n}{' or' if len(event.recipients) >= MOST_RECIPIENTS else ''} more" if n > 0 else ""
        reached = event.people is not None and event.people > len(event.recipients)
        out += f" {'for' if event.action == 'grant' else 'to'} {names}{more}"
        out += f" ({people(event.people or 0)})" if reached else ""
    if event.tool:
        out += f" with {plain(event.tool, 48)}"
    if event.time:
        out += f" at {event.time[11:16]} UTC on {event.time[:10]}"
    if event.principal:
        out += f", acting for {plain(event.principal, 48)}"
    return out + (", and was denied" if event.denied else "")


def _seen(e: Evidence, done: str, does: str, what: str, counted: str) -> str:
    """Never, hardly ever or seldom, against how many chances, and what its peers do. Counts fade, so they are about right."""
    b = e.baseline
    own, of = b.get("own", 0.0), b.get("of", 0.0)
    if own >= 0.5:
        said = f"it seldom {does} {what} (about {number(round(max(1.0, own)))} of {_count(of, counted)})"
    else:
        said = f"it has {'hardly ever' if own > 0 else 'never'} {done} {what}"
        said += f" in {_count(of, counted)}" if of >= 1 else " before"
    if "peers" not in b:
        return said
    peers = b["peers"] - min(1.0, own)  # the agent's own use is among its cohort's
    if peers >= 1:
        n = round(peers)
        many = "one of its peers" if n == 1 else f"about {number(n)} of its peers"
        verb = ("does" if n == 1 else "do") if own >= 0.5 else ("has" if n == 1 else "have")
        return f"{said}, {'as' if own >= 0.5 else 'but'} {f'{verb} {many}' if own >= 0.5 else f'{many} {verb}'}"
    if own >= 0.5:
        return f"{said}, its peers hardly ever"
    return f"{said}, nor have its peers" if b["peers"] == 0 else f"{said}, its peers hardly ever"


_ONE = {
    "calls": "call", "uses": "use", "accesses": "access", "deliveries": "delivery", "sessions": "session",
    "steps from there": "step from there", "calls of that tool": "call of that tool",
}  # fmt: skip


def _count(n: float, counted: str) -> str:
    """How many, with the unit.

    >>> _count(1, "calls"), _count(1200.4, "deliveries")
    ('1 call', '1,200 deliveries')
    """
    return f"{number(round(n))} {_ONE[counted] if round(n) == 1 else counted}"


def _fact(done: str, does: str, counted: str, form: str = "{}") -> Callable[[Evidence], str]:
    return lambda e: _seen(e, done, does, form.format(plain(str(e.observed))), counted)


def _step(e: Evidence) -> str:
    """From one tool to another, of the steps from there; or straight to a tool, of the sessions."""
    counted = "steps from there" if str(e.observed).startswith("from ") else "sessions"
    return _seen(e, "gone", "goes", plain(str(e.observed), 160), counted)


def _usual(e: Evidence, say: Callable[[float], str]) -> str:
    b = e.baseline
    high = (
        "" if e.name.endswith("_sum") else f", rarely above {say(b['high'])}"
    )  # of a sum, no single call need be rare
    peers = f", its peers {say(b['peers'])}" if "peers" in b else ""
    return f"(usually {say(b['typical'])}{high}{peers})"


def _amount(e: Evidence) -> str:
    say, word = (size, "") if e.name.startswith("bytes") else (number, " records")
    tool, x = plain(str(e.baseline["tool"]), 48), float(e.observed)
    word = word.removesuffix("s") if x == 1 else word
    if e.name.endswith("_sum"):
        return f"its calls of {tool} have been moving more than usual, now {say(x)}{word} {_usual(e, say)}"
    return f"{say(x)}{word} in one call of {tool} {_usual(e, say)}"


def _in_unit(e: Evidence) -> Callable[[float], str]:
    return size if e.baseline.get("unit") == "bytes" else number


def _series(e: Evidence) -> str:
    b = e.baseline
    unit = _in_unit(e)
    word = "" if b["unit"] == "bytes" else " records"
    way = "more" if float(e.observed) > b["typical"] else "less"
    calls = f"{'a call, in the last calls' if b['lasts'] else 'in one call'} of {plain(str(b['tool']), 48)}{',' if b['lasts'] else ''}"
    return f"{unit(float(e.observed))}{word} {calls} is {way} than its beat foretells: about {unit(b['typical'])} at this hour"


def _calls(e: Evidence) -> str:
    tool, x = plain(str(e.baseline["tool"]), 48), float(e.observed)
    if e.name.endswith("_sum"):
        return f"its sessions have been calling {tool} more often than usual, now {number(x)} times {_usual(e, number)}"
    return f"{_count(x, 'calls')} of {tool} in one session {_usual(e, number)}"


_TOUCHED = _fact("touched", "touches", "accesses")
_SENT = _fact("sent anything to", "sends anything to", "deliveries")
_CLAUSES: dict[str, Callable[[Evidence], str]] = {
    "tool": _fact("used", "uses", "calls"),
    "permission": _fact("used", "uses", "uses", "the permission {}"),
    "root": _TOUCHED, "branch": _TOUCHED, "resource": _TOUCHED,
    "classification": _fact("handled", "handles", "accesses", "{} data"),
    "transition": _step,
    "outcome": _fact("had a call end", "has a call end", "calls", "“{}”"),
    "action": _fact("done", "does", "calls of that tool", "“{}”"),
    "recipient": _SENT, "domain": _SENT,
    "closeness": _SENT,
    "flow": _fact("sent", "sends", "deliveries"),
    "owner": _fact("touched", "touches", "accesses", "a resource that {}"),
    "clearance": lambda e: f"{e.observed}",
    "bytes": _amount, "records": _amount, "bytes_sum": _amount, "records_sum": _amount,
    "session_calls": _calls, "session_calls_sum": _calls,
    "off_hours": lambda e: f"it began {e.observed}, when it hardly works ({e.expected})" + (f"; the {e.count} sessions of this night add up" if e.count > 1 else ""),
    "rhythm": _series,
    "call_rate": lambda e: f"{_count(float(e.observed), 'calls')} within ten minutes {_usual(e, number)}",
    "windows": lambda e: f"its last hour as a whole is unlike its others ({e.observed})",
    "approval": lambda e: f"{e.observed}",
    "read_before": lambda e: f"{e.observed}",
    "cohort_shift": lambda e: f"{e.observed}",
}  # fmt: skip
OF_THE_EVENT = ("approval", "read_before")  # of the strangest event alone
CONTEXT = ("clearance", "approval", "read_before", "cohort_shift")  # said whatever else is
# Said less well by the one than by the others.
COVERED = {
    "bytes": ("bytes_sum",),
    "records": ("records_sum",),
    "session_calls": ("session_calls_sum",),
    "closeness": ("recipient", "domain"),
    "resource": ("branch", "root"),
    "branch": ("root",),
}
_USUALLY = {
    "tool": "uses", "permission": "uses", "root": "touches", "branch": "touches", "resource": "touches", "owner": "touches", "classification": "handles",
    "transition": "uses", "outcome": "uses", "recipient": "sends to", "domain": "sends to", "closeness": "sends to", "flow": "sends to",
}  # fmt: skip


# What would have been usual, had a signal been silent; signals of one such condition are silent together.
CONDITION = {
    "recipient": "parties", "domain": "parties", "closeness": "parties", "root": "resource", "branch": "resource", "resource": "resource",
    "bytes": "bytes", "bytes_sum": "bytes", "records": "records", "records_sum": "records", "session_calls": "calls", "session_calls_sum": "calls",
}  # fmt: skip


def _had(e: Evidence, event: Did) -> str:
    """The condition of a signal in words. Of what an event may state several times, all of it must be usual."""
    of, observed, many = CONDITION.get(e.name, e.name), plain(str(e.observed), 160), len(event.recipients) > 1
    if of == "parties":
        if many:
            return "had it usually sent to all its recipients"
        return f"had {plain(event.recipients[0], 48) if event.recipients else 'its recipient'} been among the recipients it usually sends to"
    if of == "resource":
        return f"had {plain(event.resource or 'the resource')} been among what it usually touches"
    if of in {"bytes", "records"}:
        return f"had it moved its usual {(size if of == 'bytes' else number)(e.baseline['typical'])}{'' if of == 'bytes' else ' records'} a call"
    if of == "calls":
        return f"had it called {plain(str(e.baseline['tool']), 48)} no more often than usual in a session"
    return {
        "tool": f"had {plain(observed)} been among the tools it usually uses",
        "permission": "had the permissions of the call all been among those it usually uses"
        if e.baseline.get("values", 1) > 1
        else f"had {plain(observed)} been among the permissions it usually uses",
        "classification": f"had {plain(observed)} data been what it usually handles",
        "transition": f"had it usually gone {observed}",
        "outcome": f"had the call not ended “{observed}”",
        "action": f"had it usually done “{plain(observed)}”",
        "off_hours": "had its sessions begun when it usually works",
        "rhythm": f"had it been near the {_in_unit(e)(e.baseline.get('typical', 0.0))} that its beat foretold",
        "flow": "had it usually sent such data to such recipients"
        if many
        else f"had it usually sent {plain(observed)}",
        "owner": f"had it usually touched a resource that {observed}",
        "clearance": "had everyone who received it been cleared for it",
        "call_rate": f"had it made its usual {number(e.baseline.get('typical', 0.0))} calls within ten minutes",
        "windows": "had its last hour been like its others",
    }[of]


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
    score: float,
    threshold: float,
) -> str:
    """The sentences that a person reads: what it did, what is usual, what else the episode shows, and what would have been usual."""
    who = plain(agent_id) + (f" ({plain(agent_type, 48)})" if agent_type else "")
    lead = [e for e in evidence if event.event_id in e.event_ids]
    signals = _signals(lead)[:MOST_CLAUSES]
    said = [clause(e) for e in signals] + [clause(e) for e in lead if e.name in CONTEXT]
    out = f"{who} {did(event)}" + (f": {'; '.join(said)}." if said else ".")
    others = _others(evidence, lead, signals)
    if others:
        out += f" In the same episode: {'; '.join(clause(e) + _how_often(e) for e in others)}."
    if exposure.events > 1:
        out += f" The episode has {exposure.events:,} such events{_moved(exposure)}."
    usual = next((e for e in signals if e.expected.startswith("usually ") and e.name in _USUALLY), None)
    if usual:
        out += f" It usually {_USUALLY[usual.name]} {usual.expected.removeprefix('usually ')}."
    out += "".join(f" Meanwhile, {clause(e)}." for e in evidence if e.name == "cohort_shift")
    if warming:
        out += f" It is new, so it is judged mostly by {'its peers' if agent_type else 'the rest of the fleet'}."
    return out + otherwise(event, lead, exposure.events, score, threshold)


def _signals(items: Sequence[Evidence]) -> list[Evidence]:
    names = {e.name for e in items}
    return [e for e in items if e.name not in CONTEXT and not names.intersection(COVERED.get(e.name, ()))]


def _others(evidence: Sequence[Evidence], lead: Sequence[Evidence], said: Sequence[Evidence]) -> list[Evidence]:
    """What other events of the episode show: the strongest, as far as it is not said yet, and broken clearance in any case."""
    rest = [e for e in evidence if e not in lead and e.name != "cohort_shift"]
    told = {_told_as(e) for e in said}
    new = []
    better = _signals(rest)
    for e in rest:
        if e.name in CONTEXT or ("tool" not in e.baseline and e not in better):
            continue  # amounts of several tools do not stand for each other
        if _told_as(e) not in told and (e.bits >= STRONG or e is evidence[0]):
            told.add(_told_as(e))
            new.append(e)
    return new[:MOST_OTHERS] + [e for e in rest if e.name == "clearance"]


def _told_as(e: Evidence) -> tuple[str, str | float]:
    """What makes two items say the same: bytes, records and their sums of one tool do, and so do paces."""
    return (e.kind, str(e.baseline["tool"])) if "tool" in e.baseline else (e.name, e.observed)


def _how_often(e: Evidence) -> str:
    return f" [in {e.count:,} events]" if e.count > 1 else ""


def _moved(x: Exposure) -> str:
    moved = [f"{number(x.records)} record{'' if x.records == 1 else 's'}"] if x.records is not None else []
    moved += [size(x.bytes)] if x.bytes is not None else []
    out = f" with {' and '.join(moved)} in all" if moved else ""
    return out + (
        f", shown to {people(x.people_below_clearance)} without the clearance" if x.people_below_clearance else ""
    )


def _pays(e: Evidence) -> float:
    """Bits of the score, as in `models.signals`."""
    if e.name not in INDEX:
        return e.bits if e.name == "windows" else 0.0
    signal = SIGNALS[INDEX[e.name]]
    return signal.weight * max(0.0, e.bits - signal.dead)


def otherwise(event: Did, lead: Sequence[Evidence], events: int, score: float, threshold: float) -> str:
    """What would have kept the alert from being raised, as far as the evidence of its strangest event tells.

    Of a group of signals only the strongest pays; without it the next would, whose share the evidence names. An episode of one
    event reaches at most what its own evidence and what is left of the events before it allow (`models.loop`); of an episode of
    more events only this one can be spoken of.
    """
    groups: dict[str, Evidence] = {}
    for e in sorted(lead, key=_pays):
        groups[SIGNALS[INDEX[e.name]].group if e.name in INDEX else e.name] = e
    paying = sorted((e for e in groups.values() if _pays(e) > 0), key=lambda e: (-_pays(e), e.name))
    paid = sum(map(_pays, paying))
    if events > 1 and paid < threshold - MARGIN:
        return " None of its events reached the alert threshold alone: it would not have been raised had they come further apart."
    window = sum(e.bits for e in lead if e.name == "windows")

    def most(left: float) -> float:
        """The highest score that what is left of the event's own bits allows."""
        if events > 1:
            return left
        pooled = POOL_GAIN * left
        if score - window < POOL_GAIN * (paid - window) - MARGIN:
            pooled = min(pooled, score - (paid - left))
        return max(left, pooled)

    gains: dict[str, float] = {}
    says: dict[str, Evidence] = {}
    for e in paying:
        of = CONDITION.get(e.name, e.name)
        gains[of] = gains.get(of, 0.0) + _pays(e) - e.baseline.get("next_bits", 0.0)
        says.setdefault(of, e)
    left, had = paid, []
    for of in sorted(gains, key=lambda of: -gains[of])[:2]:
        left -= gains[of]
        had.append(_had(says[of], event))
        if most(left) < threshold - MARGIN:
            subject = "It would not have been raised" if events == 1 else "This event alone would not have raised it"
            return f" {subject} {' and '.join(had)}."
    if paying and paid - gains[strongest := next(iter(gains))] >= threshold + MARGIN:
        return f" It would have been raised even {_had(says[strongest], event)}."
    return (
        f" It would have come close to being raised even {had[0]}."
        if had
        else " What was left of its events before raised it."
    )


def expected_values(values: Sequence[str]) -> str:
    """What is usual, from an agent's most used values."""
    return "usually " + ", ".join(plain(name, 48) for name in values) if values else "nothing is usual yet"
