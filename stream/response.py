"""The next step: the one thing that tells fastest whether it is harmless, and what to stop if it is not.

One for each kind of evidence, in the manner of the investigation notes of detection rules as code (Elastic's "Possible
investigation steps", Panther's runbooks), with the alert's own names in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from stream.alert import Did, Evidence, Exposure
from stream.title import rolled_out
from stream.words import plain

MOST = 48  # characters of a name


def next_step(
    agent_type: str | None,
    about: Evidence,
    event: Did,
    evidence: Sequence[Evidence],
    exposure: Exposure,
    *,
    serious: bool,
) -> str:
    """What to do first."""
    rolled = rolled_out(about, evidence)
    who = plain(event.principal, MOST) if event.principal else "the owner of the agent"
    owner = f"the owner of {plain(agent_type, MOST)}" if agent_type else "the owner of the agent"
    where = str(about.observed) if about.name in {"root", "branch", "resource"} else event.resource
    what = plain(where) if where else "it"
    to = plain(event.recipients[0], MOST) if event.recipients else "the recipient"
    if rolled is not None:
        return f"Ask {owner} whether a change was rolled out in these days; if none was, treat the {int(rolled.baseline['peers']) + 1} agents as one incident."
    if exposure.people_below_clearance:
        n = exposure.people_below_clearance
        return f"Withdraw it from {'the one' if n == 1 else f'the {n:,}'} without the clearance and find out who has opened it; ask {who} whether it was meant for them."
    released = next((e for e in evidence if e.name == "new_version"), None)
    if released is not None and not serious:
        version = plain(str(released.baseline["version"]), MOST)
        return f"Ask {owner} whether the change came with version {version}; if it did and nobody meant it, go back to the version before; if it did not, find out what else drove the agent."
    if about.kind == "recipient":
        return f"Ask {who} whether {to} should have {what}; if not, stop the agent's sending and recall what was sent."
    if event.denied:
        return f"Ask {who} what the agent was after in {what}; if nobody knows, suspend it: it tries what it may not."
    return {
        "tool": f"Ask {owner} whether it was meant to have this tool; if not, take it away.",
        "permission": f"Ask {owner} whether it was meant to have this permission; if not, revoke it.",
        "action": f"Ask {owner} whether it was meant to do this; if not, revoke the permission for it.",
        "outcome": "Look at the error, and at what the agent tried next.",
        "owner": f"Ask {who} why the agent worked on {what}; if it was not for them, end the session.",
        "off_hours": "Find out what started the session at that time: a schedule, a person or another agent.",
        "call_rate": "Look at what drives the calls: a loop in the agent, or a task that someone gave it; if neither is known, suspend it.",
        "repeats": "Look at what makes it do the same over and over: a loop in the agent, or a task that someone gave it; if neither is known, suspend it.",
        "session_calls": "Look at what drives the calls: a loop in the agent, or a task that someone gave it.",
        "session_calls_sum": "Look at what drives the calls: a loop in the agent, or a task that someone gave it.",
    }.get(about.name) or (
        f"Ask {who} what the data was needed for, and look where it went afterwards; if nobody knows, suspend the agent."
        if about.kind == "volume"
        else f"Ask {who} what the agent was to do in {what}; if nobody knows, revoke its access and look what it did next."
    )
