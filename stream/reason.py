"""The words: what the agent did in the event that its alert is about and why that is strange, then what else its episode shows.

Each sentence is said from the alert's evidence and nothing else; what is said of an event is said from evidence of that event.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.clock import TOLERANCE
from stream.alert import Did, Evidence, Exposure
from stream.altogether import altogether, told_as
from stream.change import against
from stream.clauses import OF_THE_COHORT, clause, ordinary
from stream.counterfactual import condition, otherwise, pays
from stream.kept import MOST_RECIPIENTS
from stream.recall import asks_about
from stream.words import HEARD, MOST_OFTEN, counted, lasting, people, plain, size

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
MOST_CLAUSES, MOST_OWN = 3, 3
STRONG = 6.0  # bits from which another event's evidence is said
FAIR, FAIR_OTHER = 0.85, 1.0  # share of the strongest from which evidence is said beside it; of other events


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
        more = (
            f" and {n}{' or' if len(event.recipients) >= MOST_RECIPIENTS and event.people != len(event.recipients) else ''} more"
            if n > 0
            else ""
        )
        reached = event.people is not None and event.people > len(event.recipients)
        out += f" {'for' if event.action == 'grant' else 'to'} {names}{more}"
        out += f" ({people(event.people or 0)})" if reached else ""
    if event.tool:
        out += f" with {plain(event.tool, 48)}"
    if event.time:
        out += f" at {event.time[:10]} {event.time[11:16]} UTC"
    if event.principal:
        out += f" for {plain(event.principal, 48)}"
    return out + (", and was denied" if event.denied else "")


OF_THE_EVENT = (
    "judged",
    "look_alike",
    "approval",
    "read_before",
    "new_permission",
    "new_version",
)  # of the event that the alert is about alone
STANDING = ("no_peers", "reset")  # of the agent, not of one event, and no excuse
LINKS = ("same_recipient", "reached_before", "relay")  # to other alerts
CONTEXT = ("clearance", *OF_THE_EVENT, *OF_THE_COHORT, *STANDING)  # said whatever else is
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
    "tool": "uses", "permission": "uses", "root": "touches", "branch": "touches",
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
    sessions: bool = True,
) -> str:
    """The sentences that a person reads: what it did, what is usual, what else the episode shows, and what would have been usual.

    What the title is about (`about`) is told in any case; `late` is by how many seconds its latest event came late; `sessions`: whether its events
    name their sessions.
    """
    lead = [e for e in evidence if event.event_id in e.event_ids]
    other = otherwise(event, lead, exposure.events, score, threshold, strong=strong, serious=serious, about=about)
    # The first sentence stands alone: what it did, and what is wrong with that most of all.
    first = _first(lead, about)
    told = _strongest(evidence, lead, first, about, other.named, serious=serious)
    beside = [e for e in lead if e.name in CONTEXT and (serious or e.name != "read_before")] + _with_a_new_tool(
        lead, told
    )
    besides = [clause(e) for e in (*told, *beside) if e in lead and e not in first]
    wrong = [clause(e, own=True) for e in first]
    out = f"{plain(agent_id)} {did(event)}" + (f": {'; '.join(wrong)}." if wrong else ".")
    out += f" Besides, {'; '.join(dict.fromkeys(besides))}." if besides else ""
    shown = [_shown(e) for e in lead if e.name == "clearance"]
    again = [e for e in evidence if e not in lead and e.name == "clearance" and _shown(e) not in shown]
    also = [e for e in told if e not in lead] + again
    if also:
        out += f" Also: {'; '.join(clause(e) + _how_often(e) for e in also)}."
    # The next step names those that it asks about as well.
    asked = about is not None and asks_about(about, event, evidence, serious=serious) and about.name != "clearance"
    out += altogether(exposure, first, evidence, lead, out, names=not asked)
    out += "".join(f" {clause(e)}: look at them together." for e in evidence if e.name in LINKS)
    usual = next((e for e in (*first, *told) if e in lead and e.name in _USUALLY and _has_habits(e)), None)
    if usual:
        out += f" Most often it {_USUALLY[usual.name]} {usual.expected.removeprefix(MOST_OFTEN)}."
    out += _changed(evidence, [*first, *told, *beside, *also], warming=warming)
    if late > TOLERANCE:
        out += f" Its events came up to {lasting(late)} late: what is said of minutes, sessions and hours is of when they came."
    if not sessions and " session" in out:
        out += " Its events name no session: one is taken to end with half an hour of quiet."
    return _once(out, HEARD) + other.sentence


def _with_a_new_tool(lead: Sequence[Evidence], told: Sequence[Evidence]) -> list[Evidence]:
    """What a tool without a past has moved, where that is far more than the agent's other tools do: the new tool pays more, and says less."""
    known = {told_as(e) for e in told}
    far = [e for e in lead if e.baseline.get("other_tools") and e.bits >= STRONG and told_as(e) not in known]
    return [e for e in far if not ordinary(e)][:1]


def _once(said: str, what: str) -> str:
    """A text without what it says once more."""
    begin, there, rest = said.partition(what)
    return begin + there + rest.replace(what, "")


def _changed(evidence: Sequence[Evidence], told: Sequence[Evidence], *, warming: bool) -> str:
    """What has changed for the agent or its peers, what of that which was told it does not explain, and by whom the agent is judged where not by its past."""
    # One peer that began the same explains nothing.
    changed = [e for e in evidence if e.name in OF_THE_COHORT and (e.name != "rollout" or e.baseline["began"])]
    new = [e for e in changed if e.name == "new_agent"]
    others = [e for e in changed if e not in new]
    out = "".join(f" Meanwhile, {clause(e)}." for e in others)
    rest = against(told, others) if others else ""
    out += f" That does not explain {rest}." if rest else ""
    alone = any(e.name == "no_peers" for e in evidence)
    judged = "" if alone else f"judged mostly by what {'its peers' if _has_peers(evidence) else 'others'} do"
    said = [e for e in evidence if e.name == "reset"] or new
    if said:
        rest = against(told, new) if new else ""
        out += f" {clause(said[0])}{f', and it is {judged}' if warming and judged else ''}" + (
            f"; that {'' if said[0] not in new else 'it is new '}does not by itself account for {rest}."
            if rest
            else "."
        )
    elif warming and judged:
        out += f" It is new, so it is {judged}."
    if alone:
        out += f" {next(clause(e) for e in evidence if e.name == 'no_peers')}."
    return out


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
    elsewhere = told_as(about) if about in rest else None
    own = [e for e in _signals(lead) if e not in first and told_as(e) != elsewhere]
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
    enough = FAIR_OTHER * max(
        map(pays, [e for e in evidence if e.name != "clearance"] if serious else evidence), default=0.0
    )
    others = head + _new(others, [*said, *head], enough, most)
    return own + others[: max(len(head), MOST_CLAUSES - len(said))]


def _new(items: Sequence[Evidence], said: Sequence[Evidence], enough: float, most: float) -> list[Evidence]:
    """What says something that was not said, and pays enough or has the `most` bits."""
    told, found = {told_as(e) for e in said}, []
    for e in items:
        if told_as(e) not in told and (pays(e) >= enough or e.bits >= most):
            told.add(told_as(e))
            found.append(e)
    return found


def _first(lead: Sequence[Evidence], about: Evidence | None) -> list[Evidence]:
    """What the title is about, and who was shown it without the clearance; else what is most wrong with the event. Another amount of the tool that the title is about would read as a contradiction of that."""
    said = [e for e in lead if e is about or e.name == "clearance"]
    if said:
        return said
    signals = _signals(lead)
    others = [e for e in signals if about is None or told_as(e) != told_as(about)]
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


def _how_often(e: Evidence) -> str:
    if e.name == "transition" and str(e.observed).startswith("straight to "):
        return ""  # what follows a strange step is judged from the same place: only the first was at the start
    there = ", not all of them there" if e.baseline.get("elsewhere") else ""
    return f" [in {e.count:,} events{there}]" if e.count > 1 else ""
