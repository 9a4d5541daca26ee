"""Changes that harm nobody, as explanations of an alert: what each explains of the evidence, and what speaks against it.

A change is evidence without bits of its own: peers begin the same (`stream.rollout`), the whole cohort moves more, the agent is new, or of
another type than before, or acts for other people, its hours have moved, a recipient is new to several agents (`models.change` and `stream.rollout` find them). An alert names each that its
events show. Where a change explains what is strangest of all, the alert is less sure of itself, unless the harm is serious; where
it explains all that reaches the threshold, it is said once, and no further alert is raised for the same.

A new colleague is named and excuses nothing: several agents that were turned may send to one address too. Nothing explains broken clearance,
what leaves the organisation, or far more than peers move.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from models.batch import AGENT_AGE, FACT, FACT_WIDTH, LIFT, MISSED, NEWCOMER, STRANGERS, TYPE_AGE
from models.change import LIFTED
from models.signals import INDEX, RECIPIENT, SIGNALS
from stream.alert import Evidence
from stream.clauses import slight
from stream.counterfactual import pays
from stream.kept import MOST_TEXT, Kept
from stream.rollout import ENOUGH, STRONG, begun
from stream.words import lasting, number, plain

NEW_TYPE = 5 * 86400.0  # seconds: so long what its peers do is explained by its type, or itself, being new
NEW_COLLEAGUE = 5 * 86400.0  # seconds since anybody first sent to it
TIMES = 4.0  # an amount so many times as large as what its peers' rise makes usual is not explained by it
NEW_WORK = ("new_agent", "new_type", "new_people")
_SCOPE = {
    "tool",
    "permission",
    "root",
    "branch",
    "resource",
    "classification",
    "transition",
    "action",
    "outcome",
    "owner",
}
_AMOUNTS = {"bytes", "records", "bytes_sum", "records_sum"}
_MINOR = {"resource", "closeness", "outcome"}  # new in ordinary work too
_KINDS = {
    "volume": "how much it moves",
    "scope": "what it uses and touches",
    "recipient": "who receives it",
    "sequence": "the order of its steps",
    "policy": "that recipients lack the clearance",
    "rate": "how often or when it works",
}
_PARTLY = {  # where they explain some of it
    "volume": "all that it moves",
    "scope": "all that it uses and touches",
    "recipient": "all who receive it",
    "sequence": "all of the order of its steps",
    "rate": "all of how often or when it works",
}


def changes(kept: Kept, d: list[float]) -> list[Evidence]:
    """What an event, scored with these numbers, shows of its agent's and its cohort's changes."""
    out = []
    age, lift, peers, most = (d[i] for i in (TYPE_AGE, LIFT, LIFT + 1, LIFT + 2))
    if 0 <= age < NEW_TYPE and kept.event.agent_type:
        said = (
            f"it has been of type {plain(kept.event.agent_type, 48)} for {lasting(age)}, and was of another type before"
        )
        out.append(Evidence("new_type", "scope", said, "-", 0.0, [], 1, {"seconds": round(age)}))
    if lift >= LIFTED and peers >= ENOUGH:
        times, theirs = math.exp(lift), math.exp(most)
        said = f"its calls move about {number(round(times, 1))} times their usual in these days, and so do those of {int(peers)} of its peers"
        numbers = {"peers": int(peers), "times": round(times, 2), "peers_times": round(theirs, 2)}
        out.append(Evidence("cohort_rise", "volume", said, "-", 0.0, [], 1, numbers))
    if d[MISSED] > 0:
        missed, since = round(d[MISSED]), d[MISSED + 1]
        said = f"lately it began no session at its usual hours for {lasting(since)}, where about {missed} would be usual, so its hours may have moved"
        out.append(Evidence("moved_hours", "rate", said, "-", 0.0, [], 1, {"missed": missed, "seconds": round(since)}))
    if 0 <= d[AGENT_AGE] < NEW_TYPE:
        said = f"The agent is new, known for {lasting(d[AGENT_AGE])}"
        out.append(Evidence("new_agent", "scope", said, "-", 0.0, [], 1, {"seconds": round(d[AGENT_AGE])}))
    if d[STRANGERS] >= 0:
        since = d[STRANGERS]
        said = f"{lasting(since)} before, most of its sessions came to be for people for whom it had seldom acted, so its work may have changed"
        out.append(Evidence("new_people", "scope", said, "-", 0.0, [], 1, {"seconds": round(since)}))
    if 0 <= d[NEWCOMER] < NEW_COLLEAGUE and d[NEWCOMER + 1] >= ENOUGH and kept.event.recipients:
        recipient, others = kept.event.recipients[int(d[FACT + RECIPIENT * FACT_WIDTH + 5])].id, int(d[NEWCOMER + 1])
        said = f"{plain(recipient, 48)} is new to {others} other agents too, the first of them at least {lasting(d[NEWCOMER])} before, as a new colleague would be"
        whom: dict[str, Any] = {"recipient": recipient[:MOST_TEXT], "agents": others}
        out.append(Evidence("new_colleague", "recipient", said, "-", 0.0, [], 1, whom))
    return out


def explained(e: Evidence, changed: Iterable[Evidence]) -> Evidence | None:
    """Which of the changes explains an item of evidence; None where none does."""
    for c in changed:
        if (
            (c.name == "rollout" and not set(c.baseline["began"]).isdisjoint(begun([e], 0.0, math.inf)))
            or (c.name == "cohort_rise" and _rises(e, c))
            or (c.name in NEW_WORK and _known_to_peers(e) and not c.baseline.get("outside"))
            or (c.name == "cohort_shift" and e.kind == "volume")
            or (c.name == "moved_hours" and e.name == "off_hours")
        ):
            return c
    return None


def said_to_explain(e: Evidence, changed: Iterable[Evidence]) -> Evidence | None:
    """The same as far as words go: that peers began to move more does not say how much more, so what is far from the usual is not said to be as theirs."""
    changed = [c for c in changed if c.name != "rollout" or e.kind != "volume" or slight(e)]
    return explained(e, changed)


def _rises(e: Evidence, c: Evidence) -> bool:
    """Whether an amount is no more than the rise of its cohort makes of it."""
    usual = float(e.baseline.get("typical", 0.0))
    return e.name in _AMOUNTS and float(e.observed) <= TIMES * float(c.baseline["peers_times"]) * max(1.0, usual)


def _known_to_peers(e: Evidence) -> bool:
    """Whether peers do it as a matter of course: more than a use of their own."""
    return e.name in _SCOPE and e.baseline.get("peers", 0.0) - e.baseline.get("own", 0.0) >= ENOUGH


def left(items: Iterable[Evidence], changed: Sequence[Evidence]) -> float:
    """Bits that the strongest of each group would pay beside what the changes explain."""
    groups: dict[str, float] = {}
    for e in items:
        if e.name in INDEX and explained(e, changed) is None:
            group = SIGNALS[INDEX[e.name]].group
            groups[group] = max(groups.get(group, 0.0), pays(e))
    return sum(groups.values())


def against(items: Sequence[Evidence], changed: Sequence[Evidence]) -> str:
    """What of the evidence the changes do not explain, in words; empty where they explain all that is strong."""
    policy: dict[str, None] = {"policy": None} if any(e.name == "clearance" for e in items) else {}
    kinds = policy | {
        e.kind: None
        for e in items
        if e.name in INDEX and e.name not in _MINOR and e.bits >= STRONG and said_to_explain(e, changed) is None
    }
    some = {e.kind for e in items if e.name in INDEX and e.bits >= STRONG and said_to_explain(e, changed) is not None}
    return ", or ".join((_PARTLY if k in some else _KINDS).get(k, _KINDS[k]) for k in list(kinds)[:2])


def told_of(c: Evidence, cohort: str | None, agent_id: str) -> tuple[str, str]:
    """Whose change it is, and which: what is said of it once is said of these."""
    return (cohort or "", c.name) if c.name == "cohort_rise" else (agent_id, c.name)
