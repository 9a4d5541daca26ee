"""The next step: the one thing that tells fastest whether it is harmless, and what to stop if it is not.

One for each kind of evidence, in the manner of the investigation notes of detection rules as code (Elastic's "Possible
investigation steps", Panther's runbooks), with the alert's own names in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from stream.alert import Did, Evidence, Exposure
from stream.change import said_to_explain
from stream.clauses import OF_THE_COHORT, uncleared
from stream.recall import asks_about, others, passed_on, resources
from stream.severity import judged
from stream.words import first, people, plain

MOST = 48  # characters of a name
MANY = 3  # recipients of one event, from which on it is a mailing


def next_step(
    agent_type: str | None,
    about: Evidence,
    event: Did,
    evidence: Sequence[Evidence],
    exposure: Exposure,
    *,
    serious: bool = False,
    stop: bool = False,
) -> str:
    """What to do first. It asks about who and what the evidence `about` names, and about `event` only where that is evidence of it.

    What `suspends` is stopped before anybody is asked.
    """
    step = _step(agent_type, about, event, evidence, exposure, serious=serious, stopped=stop)
    return f"Suspend the agent, or revoke its credential. Then {step[0].lower()}{step[1:]}" if stop else step


def suspends(severity: str, impact: str, evidence: Sequence[Evidence]) -> bool:
    """Whether an agent is stopped first: what is critical; severe and of an agent for which nobody vouches, of which one is less sure only because it is new; or may
    have done harm and is like what a person called malicious."""
    unvouched = any(e.name == "unvouched" for e in evidence)
    again = judged(evidence) and impact != "none"
    return severity == "critical" or again or (severity == "high" and impact == "severe" and unvouched)


def _step(
    agent_type: str | None,
    about: Evidence,
    event: Did,
    evidence: Sequence[Evidence],
    exposure: Exposure,
    *,
    serious: bool,
    stopped: bool,
) -> str:
    own = event.event_id in about.event_ids
    change = said_to_explain(about, [e for e in evidence if e.name in OF_THE_COHORT])
    who = plain(event.principal, MOST) if event.principal else "the owner of the agent"
    owner = f"the owner of {plain(agent_type, MOST)}" if agent_type else "the owner of the agent"
    where = (
        str(about.observed)
        if about.name in {"root", "branch", "resource"}
        else str(about.baseline.get("resource") or (event.resource if own else None) or "")
    )
    within = f" in {plain(where)}" if where else ""
    asks = asks_about(about, event, evidence, serious=serious)
    to = _recipient(about, event) if asks and about.name != "clearance" else ""
    whom = others(about, event, exposure) if asks else ""
    rest = f" Then the same of {whom}." if whom else ""
    if change is not None and change.name == "rollout":
        return f"Ask {owner} whether a change was rolled out in these days; if none was, treat the {int(change.baseline['peers']) + 1} agents as one incident."
    if change is not None and not serious:
        return {
            "cohort_rise": f"Ask {owner} whether there is more work in these days (an end of a quarter, a migration); if not, treat it and its peers as one incident.",
            "cohort_shift": f"Ask {owner} whether there is more work in these days (an end of a quarter, a migration); if not, treat it and its peers as one incident.",
            "new_agent": f"Ask {owner} whether it was set up for this; if not, take back what it can reach.",
            "new_type": f"Ask {owner} whether the agent was given this work; if not, take back what it can reach, and find out who changed its type.",
            "new_people": f"Ask {owner} whether the agent was given to other people; if not, find out who uses it.",
            "moved_hours": f"Ask {owner} whether its schedule or time zone was changed; if not, find out what starts its sessions.",
        }[change.name]
    if asks and about.name == "clearance":
        what = resources(about.baseline.get("recipient"), where, event, exposure, uncleared=True)
        return _take_back(about, what, who, passed_on(about, evidence)) + rest
    released = next((e for e in evidence if e.name == "new_version"), None)
    if released is not None and not serious:
        version = plain(str(released.baseline["version"]), MOST)
        return f"Ask {owner} whether the change came with version {version}; if it did and nobody meant it, go back to the version before; if it did not, find out what else drove the agent."
    if to and event.recipients == [event.principal]:
        return f"Ask {who} whether they asked for {resources(_named(about, event), where, event, exposure)}; if not, find out who or what did.{rest}"
    if to:
        what = resources(_named(about, event), where, event, exposure)
        stop = "" if stopped else "stop the agent's sending and "
        it = "them" if " other resource" in what else "it"
        if own and event.action == "grant":
            return f"Ask {who} whether {to} should have {what}; if not, take the access back, and find out who has used it.{rest}"
        return f"Ask {who} whether {to} should have {what}; if not, {stop}have {it} deleted there.{rest}"
    if own and event.denied:
        tried = (
            f" and the {exposure.denied_resources - 1} other resources that it was refused"
            if exposure.denied_resources > 2
            else ""
        )
        return (
            f"Ask {who} what the agent was after{within}{tried}; if nobody knows, suspend it: it tries what it may not."
        )
    undo = (
        {"grant": ", and take back what it granted", "delete": ", and restore what it deleted"}.get(event.action, "")
        if own
        else ""
    )
    gave = f"{plain(event.principal, MOST)} or another" if own and event.principal else "someone"
    return {
        "tool": f"Ask {owner} whether it was meant to have this tool{_with(evidence)}; if not, take it away{undo}.",
        "permission": f"Ask {owner} whether it was meant to have this permission; if not, revoke it{undo}.",
        "action": f"Ask {owner} whether it was meant to do this; if not, revoke the permission for it.",
        "outcome": "Look at the error, and at what the agent tried next.",
        "transition": f"Ask {who} whether they asked for this step{within}; if not, look at what the agent had read before: an instruction in it may have led it there.",
        "owner": f"Ask {who} why the agent worked on {plain(where) if where else 'the data'}; if it was not for them, find out who asked for it{undo}.",
        "unapproved": f"Ask {who} whether it was meant; if not, undo it, and let the tool refuse what nobody has approved.",
        "off_hours": "Find out what started the session at that time: a schedule, a person or another agent.",
        "call_rate": f"Look at what drives the calls: a loop in the agent, or a task that {gave} gave it; if neither is known, suspend it.",
        "repeats": f"Look at what makes it do the same over and over: a loop in the agent, or a task that {gave} gave it; if neither is known, suspend it.",
        "dormancy": f"Ask {owner} whether it still needs {plain(str(about.observed), MOST)}; if not, take it away, and find out who or what made the agent use it.",
        "session_calls": f"Look at what drives the calls: a loop in the agent, or a task that {gave} gave it.",
        "session_calls_sum": f"Look at what drives the calls: a loop in the agent, or a task that {gave} gave it.",
    }.get(about.name) or (
        f"Ask {who} what the data was needed for, and look where it went afterwards; if nobody knows, suspend the agent."
        if about.kind == "volume"
        else f"Ask {who} what the agent was to do{within}; if nobody knows, revoke its access and look what it did next."
    )


def _with(evidence: Sequence[Evidence]) -> str:
    """The permission that is new as the tool is."""
    which = next((str(e.baseline["permission"]) for e in evidence if e.name == "new_permission"), None)
    return f" and the permission {plain(which, MOST)}" if which else ""


def _take_back(about: Evidence, what: str, who: str, since: str) -> str:
    """From those who lack the clearance: what was shared can be withdrawn; a mail, or what has left the organisation, cannot; an agent may pass it on,
    or has sent something `since`."""
    b, to = about.baseline, uncleared(about)
    n, many = int(b.get("people", 0)), int(b.get("more", 0)) + 1
    behind = f" ({people(n)})" if n > many else ""
    agents = b.get("agents") == many
    them, was = ("it", "it was") if agents and many == 1 else ("them", "they were")
    it, meant = ("them", "they were") if " other resource" in what else ("it", "it was")
    ask = f"ask {who} whether {meant} meant for {them}"
    if since:
        return f"Stop {to}, which got {what} without the clearance and has sent data since, to {since}: look there first; {ask}."
    if agents:
        return (
            f"Stop {to} before {'it passes' if many == 1 else 'they pass'} {what} on: {was} not cleared for it; {ask}."
        )
    if b.get("sent"):
        return f"Have {to}{behind} delete {what}, and find out who has seen {it}: {was} not cleared for it; {ask}."
    return f"Withdraw {what} from {to}{behind}, who {'was' if n == 1 else 'were'} not cleared for it, and find out who has opened {it}; {ask}."


def _named(about: Evidence, event: Did) -> str:
    """Whose resources are told: of several recipients of one event, the first's."""
    blamed = about.baseline.get("recipient") or (about.observed if about.name == "recipient" else None)
    return str(blamed or (event.recipients[0] if event.recipients and event.event_id in about.event_ids else ""))


def _recipient(about: Evidence, event: Did) -> str:
    """Whom the evidence blames, and of a mailing how many more; else the first of those whom its event reached; nobody where it names none."""
    named = about.observed if about.name == "recipient" else about.baseline.get("recipient")
    if named:
        more = len(event.recipients) - 1 if event.event_id in about.event_ids else 0
        return plain(str(named), MOST) + (f" and {more} more" if more + 1 >= MANY else "")
    if event.event_id not in about.event_ids or not event.recipients:
        return f"someone at {plain(str(about.observed), MOST)}" if about.name == "domain" else ""
    return first(event.recipients, MOST)
