"""One line that says what is wrong: who, did what, against what is usual. Made of the alert's evidence, like the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stream.alert import Did, Evidence, Exposure
from stream.altogether import how_many
from stream.before import done_before
from stream.change import said_to_explain
from stream.clauses import flow, in_unit, ordinary, shown_to, slight, step, whose
from stream.counterfactual import condition, otherwise, pays
from stream.response import MANY
from stream.words import counted, first, number, people, plain, size

MOST = 44  # characters of a name
CROWD = 10  # recipients of all of an alert's events, from which on their number is said, as that of a mailing is


def _name(e: Evidence) -> str:
    return plain(str(e.observed), MOST)


def _how_new(e: Evidence) -> str:
    """As the sentence has it."""
    how = done_before(e.baseline)
    if how == "marked":  # else it is what came with that
        return "its like called malicious before" if "marked" in e.baseline else "not of its ordinary work"
    return "new to it" if how == "never" else "rare for it"


def _usual(e: Evidence, say: Callable[[float], str]) -> str:
    if e.baseline.get("new"):
        return "having little history with it"
    return f"usually {say(e.baseline['typical'])}{' with its other tools' if e.baseline.get('other_tools') else ''}"


def _amount(e: Evidence) -> str:
    say = size if e.name.startswith("bytes") else number
    moved = size(float(e.observed)) if say is size else counted(float(e.observed), "record")
    tool = plain(str(e.baseline["tool"]), MOST)
    if e.name.endswith("_sum"):
        return f"has been moving more with {tool} than is usual for it"
    return f"moves {moved} with {tool}, {_usual(e, say)}"


def _calls(e: Evidence) -> str:
    tool = plain(str(e.baseline["tool"]), MOST)
    times = f"{counted(float(e.observed), 'time')} in one session"
    if e.baseline.get("new"):
        return f"calls {tool}, {_usual(e, number)}, {times}"
    if e.name.endswith("_sum"):
        return f"has been calling {tool} more often than is usual for it"
    return f"calls {tool} {times}, {_usual(e, number)}"


def _step(e: Evidence) -> str:
    _, does, what = step(str(e.observed))
    return f"{does} {plain(what, 2 * MOST)}, {'an order ' if does == 'goes' else ''}{_how_new(e)}"


def _series(e: Evidence) -> str:
    unit, b = in_unit(e), e.baseline
    way = "more" if float(e.observed) > b["typical"] else "less"
    moved = size(float(e.observed)) if b["unit"] == "bytes" else counted(float(e.observed), "record")
    return f"moves {way} with {plain(str(b['tool']), MOST)} than its beat foretells: {moved}, not {unit(b['typical'])}"


_TITLES: dict[str, Callable[[Evidence], str]] = {
    "tool": lambda e: f"uses {_name(e)}, {_how_new(e)}",
    "permission": lambda e: f"uses the permission {_name(e)}, {_how_new(e)}",
    "root": lambda e: f"touches {_name(e)}, {_how_new(e)}",
    "branch": lambda e: f"touches {_name(e)}, {_how_new(e)}",
    "resource": lambda e: f"touches {_name(e)}, {_how_new(e)}",
    "classification": lambda e: f"handles {_name(e)} data, {_how_new(e)}",
    "transition": _step,
    "outcome": lambda e: f"has a call end “{_name(e)}”, {_how_new(e)}",
    "action": lambda e: f"does “{_name(e)}”, {_how_new(e)}",
    "closeness": lambda e: f"sends to {_name(e)}",
    "unvouched": lambda e: (
        f"sends {_name(e)} to {plain(str(e.baseline.get('recipient', 'somebody outside')), MOST)}, and nothing vouches for it"
    ),
    "flow": lambda e: f"sends {flow(_name(e))}, {_how_new(e)}",
    "owner": lambda e: f"touches {whose(plain(str(e.observed)))}",
    "unapproved": lambda e: f"calls {plain(str(e.observed), 2 * MOST)}",
    "clearance": lambda _: "shows data to someone who lacks the clearance",
    "bytes": _amount,
    "records": _amount,
    "bytes_sum": _amount,
    "records_sum": _amount,
    "session_calls": _calls,
    "session_calls_sum": _calls,
    "call_rate": lambda e: (
        f"calls at a pace of about {number(round(float(e.observed)))} in ten minutes, {_usual(e, number)}"
    ),
    "repeats": lambda e: f"has {plain(str(e.observed), 2 * MOST)} within minutes",
    "off_hours": lambda e: f"begins {plain(str(e.observed))}, when it hardly works",
    "dormancy": lambda e: (
        f"uses {plain(str(e.observed), 2 * MOST)} again after {round(e.baseline['days'])} days without it"
    ),
    "rhythm": _series,
    "windows": lambda _: "had an hour unlike its others",
}


_WHOM = {"recipient": "{}", "domain": "someone at {}"}  # who is sent to
_WITH = {  # what explains it (`stream.change`)
    "rollout": ", as its peers do",
    "cohort_rise": ", as its peers do",
    "cohort_shift": ", as its peers do",
    "new_agent": ", being new itself",
    "new_type": ", its type being new",
    "new_people": ", as it acts for other people now",
    "moved_hours": ", its hours having moved",
}


_TRIES = {
    "uses": "use", "touches": "touch", "deletes": "delete", "handles": "get at", "goes": "go", "calls": "call", "does": "do", "sends": "send", "moves": "move", "shows": "show",
}  # fmt: skip


def _to(who: str, event: Did, x: Exposure, *, own: bool) -> str:
    """To whom it sends: one by name, many by their number."""
    n = len(event.recipients) if own else 0
    if n < MANY and x.recipients_total < CROWD:
        return who
    if n < MANY:
        many = counted(x.recipients_total, "recipient")
    else:
        many = people(event.people) if event.people is not None and event.people > n else counted(n, "recipient")
    return f"{many}, {who} among them"


def _no_peer(e: Evidence) -> bool:
    """Whether no peer has done it, for all that every partition knows; what it has done itself in this sitting hides whether one did in a strange event."""
    b = e.baseline
    known = "peers" in b and not b.get("peers_heard_of") and not b.get("peers_since")
    return bool(known and b["peers"] <= 0.0)


def _newcomer(said: str, about: Evidence, evidence: Sequence[Evidence], to: str) -> str:
    """What a new agent does that its peers do not: to itself all is new. The kind of data and where it goes say more than a name."""
    flows = [e for e in evidence if e.name == "flow" and e.event_ids == about.event_ids and _no_peer(e)]
    if about.name in _WHOM and flows:
        return f"sends {flow(_name(flows[0]))} (to {to}), as no peer has"
    new = f", {_how_new(about)}"
    return f"{said.removesuffix(new)}, as no peer has" if said.endswith(new) and _no_peer(about) else said


def refusals(x: Exposure) -> str:
    """How often, and over how many systems: the breadth of a probe.

    >>> refusals(Exposure(denied=1)), refusals(Exposure(denied=9, denied_systems=["crm", "dw"]))
    ('', ' 9 times over 2 systems')
    """
    if x.denied < 2:
        return ""
    return f" {x.denied:,} times" + (f" over {how_many(x.denied_systems)}" if len(x.denied_systems) > 1 else "")


def subject(event: Did, evidence: Sequence[Evidence], kinds: Sequence[str], *, serious: bool = False) -> Evidence:
    """What the alert is about: the strongest evidence of the first of these kinds that has any, of `event` where that has much.

    Where harm is serious, or whom it reached looks like somebody else, it is `event` that did it, by whom it reached: nothing of another event comes before its own. Elsewhere it is what
    is nearly the strongest of `event`; that another event was shown to somebody without the clearance, and did no serious harm, is no headline.
    An amount that it often reaches, or of less than twice the usual, is chosen last, and what a change explains (`stream.change`), where what is strangest is something else.
    """
    known = [e for e in evidence if e.name in _TITLES or e.name in _WHOM] or list(evidence)
    known = [e for e in known if not ordinary(e) and not slight(e)] or known
    changed = [e for e in evidence if e.name in _WITH]
    if changed and said_to_explain(max(known, key=lambda e: (pays(e), e.name)), changed) is None:
        known = [e for e in known if said_to_explain(e, changed) is None]
    own = [e for e in known if event.event_id in e.event_ids]
    serious |= any(e.name == "look_alike" and event.event_id in e.event_ids for e in evidence)
    much = max((pays(e) for e in own), default=0.0) / 2
    strong = own if serious else [e for e in own if pays(e) >= much]
    first = ("policy", "recipient", *kinds) if serious else kinds
    clear = [e for e in own if e.name not in {"resource", "closeness"}]
    both = [e for e in strong if e in clear]
    ways = [(k, some) for some in (both, strong) for k in first] + [(k, some) for some in (clear, known) for k in kinds]
    return next((e for kind, some in ways for e in some if e.kind == kind), (own or known)[0])


def headline(
    event: Did,
    evidence: Sequence[Evidence],
    kinds: Sequence[str],
    events: int,
    score: float,
    threshold: float,
    *,
    strong: int,
    serious: bool,
) -> Evidence:
    """What the title is about: the `subject`, unless something else of `event` alone is shown to have raised the alert (`stream.counterfactual`)."""
    about = subject(event, evidence, kinds, serious=serious)
    lead = [e for e in evidence if event.event_id in e.event_ids]
    named = otherwise(event, lead, events, score, threshold, strong=strong, serious=serious, about=about).named
    if about not in lead or condition(about.name) in {condition(e.name) for e in named}:
        return about
    return named[0] if named else about


def title(
    agent_id: str,
    about: Evidence,
    event: Did,
    evidence: Sequence[Evidence],
    exposure: Exposure,
    *,
    serious: bool = False,
) -> str:
    """Who, and what is wrong; a rollout is named. Where harm is serious, to whom the data went comes before how."""
    own = event.event_id in about.event_ids
    to = _to(_WHOM[about.name].format(_name(about)), event, exposure, own=own) if about.name in _WHOM else ""
    if about.kind == "policy" and exposure.people_below_clearance:
        n = exposure.people_below_clearance
        alone = (
            own and about.baseline.get("people", n) == n
        )  # what others were shown in other events may be of another class
        data = f"{plain(event.classification, 24)} data" if event.classification and alone else "data"
        said = f"shows {data} to {shown_to(n, evidence)} without the clearance"
    elif serious and own and event.recipients and about.kind not in {"policy", "recipient"}:
        data = f"{plain(event.classification, 24)} data" if event.classification else "data"
        many = len(event.recipients) >= MANY
        said = f"sends {data} to {_to(plain(event.recipients[0], MOST), event, exposure, own=True) if many else first(event.recipients, MOST)}"
    elif about.name in _WHOM:
        said = f"sends to {to}, {_how_new(about)}"
    else:
        said = _TITLES[about.name](about) if about.name in _TITLES else "strays from what is usual for it"
        if own and event.action == "delete" and about.name in {"resource", "owner"}:
            said = said.replace("touches", "deletes", 1)
    new = any(e.name == "new_agent" for e in evidence) and not any(e.name == "reset" for e in evidence)
    said = _newcomer(said, about, evidence, to) if new else said
    denied = ""
    if (event.denied and own) or about.baseline.get("denied"):
        verb, _, rest = said.partition(" ")
        said = f"tries to {_TRIES[verb]} {rest}" if verb in _TRIES else said
        denied = f", and is denied{refusals(exposure)}"
    change = said_to_explain(about, [e for e in evidence if e.name in _WITH])
    because = _WITH[change.name] if change and not (new and change.name == "new_agent") else ""
    return f"{plain(agent_id)}{' (new)' if new else ''} {said}{denied}{because}"
