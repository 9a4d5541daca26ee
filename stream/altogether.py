"""What the strange events of an episode were altogether: how many, how much, shown or sent to whom, and what of it was denied."""

from __future__ import annotations

from collections.abc import Sequence

from stream.alert import Evidence, Exposure
from stream.clauses import shown_to
from stream.handed import MOST_GIVEN
from stream.words import counted, few, plain, size


def altogether(
    x: Exposure,
    first: Sequence[Evidence],
    evidence: Sequence[Evidence],
    lead: Sequence[Evidence],
    said: str,
    *,
    names: bool,
) -> str:
    """A sentence, unless there was one event only. Recipients that were not `said` are told with `names`, where the next step does not ask about them."""
    if x.events < 2:
        return ""
    others = _others(x, evidence, said) if names else ""
    such = max((sum(o.count for o in evidence if o.name == e.name) for e in first), default=0) >= x.events
    like = "" if such else _like_it(first, evidence, lead)
    kind = "such" if such else "strange"
    return f" In all, {x.events:,} {kind} events{like}{_moved(x, evidence)}{_denied(x)}{others}."


def told_as(e: Evidence) -> tuple[str, str | float]:
    """What makes two items say the same: bytes, records and their sums of one tool do, and so do paces."""
    return (e.kind, str(e.baseline["tool"])) if "tool" in e.baseline else (e.name, e.observed)


def _like_it(first: Sequence[Evidence], evidence: Sequence[Evidence], lead: Sequence[Evidence]) -> str:
    """How many of them moved or called as strangely with the same tool."""
    like = [
        o.count
        for e in first
        for o in evidence
        if "tool" in e.baseline and o not in lead and o.name == e.name and told_as(o) == told_as(e)
    ]
    return f", {1 + max(like):,} of this kind" if like else ""


def _denied(x: Exposure) -> str:
    """What was refused, and over what: whoever probes is denied, and goes on to the next."""
    if not x.denied:
        return ""
    n, systems = x.denied_resources, x.denied_systems
    over = f", over {counted(n, 'resource')}" if n > 1 else ""
    if len(systems) > 1:
        over += f"{' in' if over else ', over'} {how_many(systems)} ({few(systems)})"
    return f"; {x.denied:,} of them denied{over}"


def how_many(systems: Sequence[str]) -> str:
    """Of systems that were tried, as many as are told apart."""
    return f"{len(systems)}{' or more' if len(systems) >= MOST_GIVEN else ''} systems"


def _others(x: Exposure, evidence: Sequence[Evidence], said: str) -> str:
    """Recipients that no sentence has named, those of the evidence first."""
    strange = [e.observed if e.name == "recipient" else e.baseline.get("recipient") for e in evidence]
    got = [g.recipient for g in x.given]  # and not who was denied it
    names = sorted((r for r in got if plain(r, 48) not in said), key=lambda r: r not in strange)
    return f"; also to {few(names, 2, len(names) + x.recipients_total - len(got))}" if names else ""


def _moved(x: Exposure, evidence: Sequence[Evidence]) -> str:
    """How much, and how much of it was shown to whom without the clearance."""
    moved = [counted(x.records, "record")] if x.records is not None else []
    moved += [size(x.bytes)] if x.bytes is not None else []
    out = f" ({', '.join(moved)})" if moved else ""
    if not x.people_below_clearance:
        return out
    shown = sum(e.count for e in evidence if e.name == "clearance")
    of_them = f"{shown:,} of them " if shown < x.events else ""  # what was not shown stands in the same sum
    return f"{out}, {of_them}shown to {shown_to(x.people_below_clearance, evidence)} without the clearance"
