"""The words: what the agent did in the event that its alert is about and why that is strange, then what else its episode shows.

Each sentence is said from the alert's evidence and nothing else; what is said of an event is said from evidence of that event.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.clock import TOLERANCE
from stream.alert import Did, Evidence, Exposure
from stream.change import against
from stream.clauses import OF_THE_COHORT, clause, shown_to
from stream.counterfactual import condition, otherwise, pays
from stream.kept import MOST_RECIPIENTS
from stream.words import MOST_OFTEN, counted, lasting, people, plain, size

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
# Pieces of evidence, and those of the event itself, but for what is said in any case; the others stay in `evidence`.
MOST_CLAUSES, MOST_OWN = 4, 3
STRONG = 6.0  # bits from which another event's evidence is said
FAIR = 0.7  # share of the strongest from which evidence is said beside it


def did(event: Did) -> str:
    """What an event did, for whom and when, as a clause without its subject."""
    base, past = _VERBS.get(event.action, (f"do “{plain(event.action, 24)}” on", f"did “{plain(event.action, 24)}” on"))
    verb = f"tried to {base}" if event.denied else past
    data = f"{plain(event.classification, 32)} data" if event.classification else ""
    resource = plain(event.resource) if event.resource else ""
    on_data = event.action in _ON_DATA or not resource
    if event.records is not None:
        amount = counted(event.records, "record")
        data = f"{amount} of {data}" if data else amount
        data += (f" ({size(event.bytes)})" if on_data else f", {size(event.bytes)}") if event.bytes else ""
    elif event.bytes is not None:
        data = f"{size(event.bytes)} of {data}" if data else size(event.bytes)
    if on_data:
        target = f"{data} in {resource}" if data and resource else data or resource
    else:
        target = f"{resource} ({data})" if data else resource
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


OF_THE_EVENT = ("judged", "approval", "read_before", "new_version")  # of the event that the alert is about alone
LINKS = ("same_recipient", "relay")  # to alerts of other agents
CONTEXT = ("clearance", *OF_THE_EVENT, *OF_THE_COHORT)  # said whatever else is
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
    "tool": "uses", "permission": "uses", "root": "touches", "branch": "touches", "classification": "handles", "domain": "sends to",
}  # fmt: skip


def reason(
    agent_id: str,
    event: Did,
    evidence: Sequence[Evidence],
    exposure: Exposure,
    *,
    warming: bool,
    score: float,
    threshold: float,
    strong: int,
    serious: bool,
    about: Evidence | None = None,
    late: float = 0.0,
) -> str:
    """The sentences that a person reads: what it did, what is usual, what else the episode shows, and what would have been usual.

    What the title is about (`about`) is told in any case; `late` is by how many seconds its latest event came late.
    """
    lead = [e for e in evidence if event.event_id in e.event_ids]
    other = otherwise(event, lead, exposure.events, score, threshold, strong=strong, serious=serious)
    # The first sentence stands alone: what it did, and what is wrong with that most of all.
    first = [e for e in lead if e is about or e.name == "clearance"] or _first(lead, about)
    told = _strongest(evidence, lead, first, about, other.named, serious=serious)
    beside = [e for e in lead if e.name in CONTEXT and (serious or e.name != "read_before")]
    besides = [clause(e) for e in (*told, *beside) if e in lead and e not in first]
    out = f"{plain(agent_id)} {did(event)}" + (f": {'; '.join(map(clause, first))}." if first else ".")
    out += f" Besides, {'; '.join(dict.fromkeys(besides))}." if besides else ""
    shown = [_shown(e) for e in lead if e.name == "clearance"]
    again = [e for e in evidence if e not in lead and e.name == "clearance" and _shown(e) not in shown]
    others = [e for e in told if e not in lead] + again
    if others:
        out += f" In the same episode: {'; '.join(clause(e) + _how_often(e) for e in others)}."
    if exposure.events > 1:
        out += (
            f" In all, {exposure.events:,} such events{_moved(exposure, evidence)}{_others(exposure, evidence, out)}."
        )
    out += "".join(f" {clause(e)}: look at them together." for e in evidence if e.name in LINKS)
    usual = next((e for e in (*first, *told) if e in lead and e.name in _USUALLY and _has_habits(e)), None)
    if usual:
        out += f" Most often it {_USUALLY[usual.name]} {usual.expected.removeprefix(MOST_OFTEN)}."
    out += _changed(evidence, [*first, *told, *beside, *others])
    if late > TOLERANCE:
        out += f" Its events came up to {lasting(late)} late: what is said of minutes, sessions and hours is of when they came."
    if warming:
        new = "" if any(e.name == "new_agent" for e in evidence) else "new, so it is "  # else said just before
        out += f" It is {new}judged mostly by what {'its peers' if _has_peers(evidence) else 'others'} do."
    return out + other.sentence


def _changed(evidence: Sequence[Evidence], told: Sequence[Evidence]) -> str:
    """What has changed for the agent or its peers, and what of that which was told it does not explain."""
    # One peer that began the same explains nothing.
    changed = [e for e in evidence if e.name in OF_THE_COHORT and (e.name != "rollout" or e.baseline["began"])]
    said = "".join(f" Meanwhile, {clause(e)}." for e in changed)
    rest = against(told, changed) if changed else ""
    return said + (f" That does not explain {rest}." if rest else "")


def _strongest(
    evidence: Sequence[Evidence],
    lead: Sequence[Evidence],
    first: Sequence[Evidence],
    about: Evidence | None,
    named: Sequence[Evidence],
    *,
    serious: bool,
) -> list[Evidence]:
    """What is said beside the first sentence, strongest first: of the event itself, whatever the others show, and then of those.

    As far as it says something new and is nearly the strongest; in any case what the title says, and that whose condition the last sentence has (`named`). Serious harm outweighs all else and is
    said first, so there the strongest is that of the rest: how it came about is asked next.
    """
    rest = [e for e in evidence if e not in lead]
    elsewhere = _told_as(about) if about in rest else None
    own = [e for e in _signals(lead) if e not in first and _told_as(e) != elsewhere]
    enough = FAIR * max(map(pays, own if serious else lead), default=0.0)
    own = _new(own, first, enough, max((e.bits for e in lead), default=0.0))[: max(0, MOST_OWN - len(first))]
    conditions = {condition(e.name) for e in (*first, *own)}
    own += [e for e in named if condition(e.name) not in conditions]
    most = max((e.bits for e in evidence), default=0.0)
    better = _signals(rest)  # amounts of several tools do not stand for each other
    said, head = [*first, *own], [e for e in rest if e is about and e.name not in CONTEXT]
    names = {e.name for e in (*said, *head)}
    others = [e for e in rest if e.name not in {*CONTEXT, *names} and ("tool" in e.baseline or e in better)]
    others = [e for e in others if e.bits >= STRONG or e.bits >= most]
    enough = FAIR * max(map(pays, [e for e in evidence if e.name != "clearance"] if serious else evidence), default=0.0)
    others = head + _new(others, [*said, *head], enough, most)
    return own + others[: max(len(head), MOST_CLAUSES - len(said))]


def _new(items: Sequence[Evidence], said: Sequence[Evidence], enough: float, most: float) -> list[Evidence]:
    """What says something that was not said, and pays enough or has the `most` bits."""
    told, found = {_told_as(e) for e in said}, []
    for e in items:
        if _told_as(e) not in told and (pays(e) >= enough or e.bits >= most):
            told.add(_told_as(e))
            found.append(e)
    return found


def _first(lead: Sequence[Evidence], about: Evidence | None) -> list[Evidence]:
    """What is most wrong with the event; another amount of the tool that the title is about would read as a contradiction of that."""
    signals = _signals(lead)
    others = [e for e in signals if about is None or _told_as(e) != _told_as(about)]
    return (others or signals)[:1]


def _shown(e: Evidence) -> tuple[object, ...]:
    """What was shown to whom without the clearance, which the event that the alert is about may have done as well."""
    return e.observed, e.baseline.get("resource"), e.baseline.get("recipient")


def _has_peers(evidence: Sequence[Evidence]) -> bool:
    """Whether anything is said of them."""
    return any("peers" in e.baseline for e in evidence if e.name not in CONTEXT)


def _has_habits(e: Evidence) -> bool:
    """Whether what it does most often is more than the first few of many that it did once or twice."""
    return e.expected.startswith(MOST_OFTEN) and 3 * e.baseline.get("distinct", 0) <= e.baseline.get("of", 0)


def _signals(items: Sequence[Evidence]) -> list[Evidence]:
    names = {e.name for e in items}
    return [e for e in items if e.name not in CONTEXT and not names.intersection(COVERED.get(e.name, ()))]


def _told_as(e: Evidence) -> tuple[str, str | float]:
    """What makes two items say the same: bytes, records and their sums of one tool do, and so do paces."""
    return (e.kind, str(e.baseline["tool"])) if "tool" in e.baseline else (e.name, e.observed)


def _how_often(e: Evidence) -> str:
    return f" [in {e.count:,} events]" if e.count > 1 else ""


def _others(x: Exposure, evidence: Sequence[Evidence], said: str) -> str:
    """Recipients that no sentence has named, those of the evidence first."""
    strange = [e.observed if e.name == "recipient" else e.baseline.get("recipient") for e in evidence]
    names = sorted((r for r in x.recipients if plain(r, 48) not in said), key=lambda r: r not in strange)
    if not names:
        return ""
    more = len(names) + x.recipients_total - len(x.recipients) - 2
    listed = ", ".join(plain(r, 48) for r in names[:2]) + (f" and {more:,} more" if more > 0 else "")
    return f"; {'another recipient' if len(names) == 1 and more < 0 else 'other recipients'}: {listed}"


def _moved(x: Exposure, evidence: Sequence[Evidence]) -> str:
    moved = [counted(x.records, "record")] if x.records is not None else []
    moved += [size(x.bytes)] if x.bytes is not None else []
    out = f" with {' and '.join(moved)}" if moved else ""
    if not x.people_below_clearance:
        return out
    shown = sum(e.count for e in evidence if e.name == "clearance")
    of_them = f"{shown:,} of them " if shown < x.events else ""  # what was not shown stands in the same sum
    return f"{out}, {of_them}shown to {shown_to(x.people_below_clearance, evidence)} without the clearance"
