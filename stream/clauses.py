"""One item of evidence in words: what was observed against what is usual, for the agent itself and for its peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stream.alert import Evidence
from stream.before import count_of, seen
from stream.words import MOST_PEOPLE, counted, number, people, plain, size

# Changes that explain (`stream.change`): of the agent or its cohort, not of one event.
OF_THE_COHORT = (
    "cohort_shift",
    "rollout",
    "cohort_rise",
    "new_agent",
    "new_type",
    "new_people",
    "moved_hours",
    "new_colleague",
)
_MEASURED = {"bytes", "records", "session_calls", "call_rate"}


def _fact(done: str, does: str, unit: str, form: str = "{}") -> Callable[[Evidence], str]:
    return lambda e: seen(e, done, does, form.format(plain(str(e.observed))), unit)


def flow(observed: str) -> str:
    """What data goes where: a type of recipient by a word for it.

    >>> flow("internal data to an email"), flow("internal data outside the organisation")
    ('internal data to an email address', 'internal data outside the organisation')
    """
    return f"{observed} address" if observed.endswith(" to an email") else observed


def whose(observed: str, root: str = "") -> str:
    """Whose a resource is, and in which `root` it is looked for.

    >>> whose("is shared between several people"), whose("had only been used for others than the person it acts for")
    ('a resource that is shared between several people', 'a resource used before only for other people')
    """
    within = f" in {plain(root, 48)}" if root else ""
    if observed == "had only been used for others than the person it acts for":
        return f"a resource{within} used before only for other people"
    return f"a resource{within} that {observed}"


def step(observed: str) -> tuple[str, str, str]:
    """A step from one tool to another in words: done, does, and what. The same twice is no way from here to there.

    >>> step("from crm.get to mail.send"), step("from crm.get to crm.get")
    (('gone', 'goes', 'from crm.get to mail.send'), ('called', 'calls', 'crm.get twice in a row'))
    """
    way = observed.removeprefix("from ")
    tool = way[: (len(way) - len(" to ")) // 2]
    if way == f"{tool} to {tool}":
        return "called", "calls", f"{plain(tool)} twice in a row"
    return "gone", "goes", plain(observed, 160)


def _step(e: Evidence) -> str:
    """From one tool to another, of the steps from there; or straight to a tool, of the sessions."""
    unit = "steps from there" if str(e.observed).startswith("from ") else "sessions"
    return seen(e, *step(str(e.observed)), unit)


def ordinary(e: Evidence) -> bool:
    """Whether an amount is no more than it often is: it pays something, but is nothing to point at."""
    return e.name in _MEASURED and "high" in e.baseline and float(e.observed) <= e.baseline["high"]


def slight(e: Evidence) -> bool:
    """Whether an amount, or what adds up of such, is less than twice what is usual: nobody acts on that alone."""
    return e.name.removesuffix("_sum") in _MEASURED and float(e.observed) < 2.0 * e.baseline["typical"]


def _usual(e: Evidence, say: Callable[[float], str]) -> str:
    b = e.baseline
    if b.get("new"):
        peers = f"; peers {say(b['peers'])}" if "peers" in b else ""
        return f"(too few calls of its own before{peers})"
    bound = not e.name.endswith("_sum") and not ordinary(e)  # of a sum, no single call need be rare
    high = f", rarely above {say(b['high'])}" if bound else ""
    if b.get("other_tools"):
        return f"(with its other tools usually {say(b['typical'])}{high})"
    peers = f", peers {say(b['peers'])}" if "peers" in b else ""
    return f"(usually {say(b['typical'])}{high}{peers})"


def _amount(e: Evidence) -> str:
    tool, x = plain(str(e.baseline["tool"]), 48), float(e.observed)
    say, moved = (size, size(x)) if e.name.startswith("bytes") else (number, counted(x, "record"))
    if e.name.endswith("_sum"):
        if x <= e.baseline["typical"]:  # it is the sum that is strange, and not this call
            return f"its calls of {tool} have been moving more than usual for a while, though this one {moved} {_usual(e, say)}"
        return f"its calls of {tool} have been moving more than usual, now {moved} {_usual(e, say)}"
    return f"{moved} in one call of {tool} {_usual(e, say)}"


def uncleared(e: Evidence) -> str:
    """Who lacks the clearance: the largest audience by its name, and how many more."""
    b = e.baseline
    if not b.get("recipient"):
        return "those without the clearance"
    more = b.get("more", 0)
    return plain(str(b["recipient"]), 48) + (f" and {int(more):,} more" if more else "")


def shown_to(n: int, evidence: Sequence[Evidence]) -> str:
    """How many lack the clearance, in a word that fits them: an agent is no person."""
    found = [e.baseline for e in evidence if e.name == "clearance" and e.baseline.get("agents")]
    if not found:
        shown = [e for e in evidence if e.name == "clearance"]
        unsized = any(e.baseline.get("unsized") for e in shown)
        if (
            unsized and len(shown) == 1 and shown[0].baseline.get("more", 0) + 1 == n
        ):  # of none of them is a number known
            return uncleared(shown[0])
        return f"{'at least ' if unsized and n < MOST_PEOPLE else ''}{people(n)}"
    word = "agent" if any(b["agents"] == n for b in found) else "recipient"
    return counted(n, word)


def _clearance(e: Evidence) -> str:
    """What was shown to whom, by names where the evidence has them."""
    if not e.baseline.get("recipient"):
        return str(e.observed)
    what = f"{plain(str(e.baseline['resource']))} to " if e.baseline.get("resource") else ""
    return f"{e.observed} ({what}{uncleared(e)})"


def in_unit(e: Evidence) -> Callable[[float], str]:
    return size if e.baseline.get("unit") == "bytes" else number


def _series(e: Evidence) -> str:
    b = e.baseline
    unit = in_unit(e)
    moved = size(float(e.observed)) if b["unit"] == "bytes" else counted(float(e.observed), "record")
    way = "more" if float(e.observed) > b["typical"] else "less"
    calls = f"{'a call, in the last calls' if b['lasts'] else 'in one call'} of {plain(str(b['tool']), 48)}{',' if b['lasts'] else ''}"
    return f"{moved} {calls} is {way} than its beat foretells: about {unit(b['typical'])} at this hour"


def _calls(e: Evidence) -> str:
    tool, x = plain(str(e.baseline["tool"]), 48), float(e.observed)
    if e.name.endswith("_sum") and not e.baseline.get("new"):
        often = f"now {counted(x, 'time')} {_usual(e, number)}"
        return f"it has been calling {tool} more often in a session than usual, {often}"
    return f"{count_of(x, 'calls')} of {tool} in one session {_usual(e, number)}"


def _nights(e: Evidence) -> str:
    return f"; {e.count} sessions of this night add up" if e.count > 1 else ""


_DOING = {
    "tool": "using {}", "permission": "using the permission {}", "root": "touching {}", "branch": "touching {}", "resource": "touching {}",
    "classification": "handling {} data", "action": "doing “{}”", "recipient": "sending to {}", "domain": "sending to {}", "flow": "sending {}", "unapproved": "calling {}",
}  # fmt: skip


def marked(e: Evidence) -> str:
    """What of an event that is like what a person called malicious bears the mark of that (`models.verdict`), in words; empty where this does not."""
    if "marked" not in e.baseline:
        return ""
    if e.name in _MEASURED:
        much = "calling" if e.name in {"session_calls", "call_rate"} else "moving"
        return f"{much} so much with {plain(str(e.baseline['tool']), 48)}"
    if e.name == "transition":
        return f"the step {plain(str(e.observed), 160)}"
    return _DOING[e.name].format(plain(str(e.observed))) if e.name in _DOING else ""


# What is observed is a sentence already.
_SAID = ("approval", "read_before", "new_permission", "look_alike", "new_version", "same_recipient", "reached_before", "relay", "no_peers", "reset", "judged")  # fmt: skip
_TOUCHED = _fact("touched", "touches", "accesses")
_SENT = _fact("sent to", "sends to", "deliveries")
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
    "unvouched": lambda e: f"{e.baseline['because']}, so nothing vouches for it, and it {'tried to give' if e.baseline.get('denied') else 'gave'} {plain(str(e.observed), 80)} to somebody outside",
    "flow": lambda e: seen(e, "sent", "sends", flow(plain(str(e.observed))), "deliveries"),
    "owner": lambda e: seen(e, "touched", "touches", whose(plain(str(e.observed)), str(e.baseline.get("root", ""))), "accesses"),
    "unapproved": _fact("called", "calls", "calls of that tool that tell"),
    "clearance": _clearance,
    "bytes": _amount, "records": _amount, "bytes_sum": _amount, "records_sum": _amount,
    "session_calls": _calls, "session_calls_sum": _calls,
    "off_hours": lambda e: f"it began {e.observed}, when it hardly works ({e.expected})" + _nights(e),
    "rhythm": _series,
    "call_rate": lambda e: f"its pace was about {count_of(float(e.observed), 'calls')} in ten minutes {_usual(e, number)}",
    "repeats": lambda e: f"within minutes it has {plain(str(e.observed), 120)}, more often than it usually does",
    "dormancy": lambda e: f"it has used {plain(str(e.observed), 80)} again, after leaving it alone for {round(e.baseline['days'])} days",
    "windows": lambda e: f"its last hour as a whole is unlike its others ({e.observed})",
    **dict.fromkeys((*OF_THE_COHORT, *_SAID), lambda e: f"{e.observed}"),
}  # fmt: skip


def clause(e: Evidence, *, own: bool = False) -> str:
    """One item of evidence in words; `own`: beside the sentence that says what its event did, and with whom."""
    if own and e.name == "clearance" and e.baseline.get("recipient"):
        return uncleared(e) + str(e.observed).partition(", and ")[0].partition("recipient")[2].removeprefix("s")
    if own and e.name == "off_hours":
        return f"it began a session then, when it hardly works ({e.expected.removesuffix(' of then')})" + _nights(e)
    return _CLAUSES[e.name](e)
