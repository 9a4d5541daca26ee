"""From one event and the numbers it was scored with to what an analyst can check: observed against usual, signal by signal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.batch import (
    BEGUN,
    BITS,
    FACT,
    FACT_WIDTH,
    JUDGED,
    PAID,
    SESSION,
    TYPE_AGE,
    VERSION_AGE,
)
from models.harm import NEW
from models.levels import FEATURES
from models.memory import NAMED_FACTS, TEXTS, TOP
from models.parties import FAR
from models.schema import TEXT
from models.signals import (
    ACTION,
    BRANCH,
    CLASSIFICATION,
    CLEARANCE,
    CLOSENESS,
    DOMAIN,
    FACTS,
    FLOW,
    KEPT_NEW,
    N_FACTS,
    N_NAMED,
    N_SIGNALS,
    OUTCOME,
    OWNER,
    PERMISSION,
    RECIPIENT,
    RESOURCE,
    ROOT,
    TOOL,
    TRANSITION,
    UNAPPROVED,
    UNVOUCHED,
)
from stream.alert import Evidence
from stream.clauses import marked
from stream.counterfactual import next_bits
from stream.handed import Sat
from stream.kept import MOST_TEXT, Kept, bears_mark, below, has_peers, outside
from stream.lookalike import MOST_LOOKED_AT, looks_like
from stream.measured import measured
from stream.words import STRAIGHT, counted, expected_values, lasting, number, plain

NEW_VERSION = 2 * 86400.0  # seconds: so long an agent may behave differently because its release is new
_USUAL_OF = {
    RESOURCE: BRANCH,
    FLOW: RECIPIENT,
    CLOSENESS: RECIPIENT,
    TRANSITION: TOOL,
}
_TEXTS_OF = {k: i * TOP for i, k in enumerate(NAMED_FACTS.tolist())}  # where those of a fact begin
_CLOSE = (
    "a recipient that has written to it before",
    "a recipient with whom it shares contacts",
    "a recipient with whom it shares a contact",
    "a recipient with whom it shares no contact",
)
_ACTIVE = ("", "", " and of whom nothing was heard for two weeks")
_EXPECTED = {
    ACTION: "another action with this tool",
    OUTCOME: "success",
    UNAPPROVED: "approved by a person",
    OWNER: "the usual one for the person it acts for",
    UNVOUCHED: "an agent, or others of its kind, known for five days or longer",
}
OWNERS = (  # by the steps of `models.event.owner_of`
    "bears the name of the person it acts for",
    "is the usual one for the person it acts for",
    "is shared between several people",
    "was never seen before",
    "had only been used for others than the person it acts for",
)
FORMER_OWNERS = {
    "belongs to another person than the one it acts for": OWNERS[4]
}  # in alerts of before, and their verdicts


def evidence(ladder: tuple[str, ...], kept: Kept, d: list[float], sat: Sat | None = None) -> list[Evidence]:
    """What was strange about an event, strongest first, then what belongs into the sentence though it is not strange.

    `sat` is what its episode has told of the same session before.
    """
    items = [_fact(k, kept, d) if k < N_FACTS else measured(k, kept, d) for k in range(N_SIGNALS) if d[PAID + k] > 0]
    if kept.window_bits > 0:
        sums = ", ".join(f"{number(x)} {name}" for name, x in zip(FEATURES[:5], kept.window, strict=False) if x >= 0.5)
        items.append(
            Evidence(
                "windows",
                "rate",
                sums or "nothing",
                "its other hours",
                round(kept.window_bits, 2),
                [kept.event.event_id],
                1,
            )
        )
    items.sort(key=lambda i: (-i.bits, i.name))
    if kept.denied:  # what was tried is not what was done
        for item in items:
            item.baseline["denied"] = True
    return items + _context(ladder, kept, d, sat, items)


def _fact(k: int, kept: Kept, d: list[float]) -> Evidence:
    event = kept.event
    row = d[FACT + k * FACT_WIDTH :]
    at = int(row[5])
    observed: str
    if k == PERMISSION:
        observed = (event.scopes or ("",))[at]
    elif k == ROOT:
        observed = kept.root
    elif k == BRANCH:
        observed = kept.branch
    elif k == RESOURCE:
        observed = event.resource or ""
    elif k == CLASSIFICATION:
        observed = event.classification or ""
    elif k == TRANSITION:
        before = _recalled(kept, TEXTS - 1)
        observed = (
            f"from {before} to {event.tool or event.action}"
            if before
            else f"straight to {event.tool or event.action}{STRAIGHT}"
        )
    elif k == OUTCOME:
        observed = event.outcome or "success"
    elif k == ACTION:
        observed = f"{event.action} with {event.tool}"
    elif k in {RECIPIENT, CLOSENESS, DOMAIN, FLOW}:
        observed = _party(k, kept, at, row[6])
    elif k == OWNER:
        observed = OWNERS[int(row[6])]
    elif k == UNVOUCHED:
        observed = f"{event.classification} data"
    elif k == UNAPPROVED:
        observed = f"{event.tool or event.action} without an approval"
    else:
        observed = event.tool or event.action
    observed = observed[:MOST_TEXT]
    # What is strange may be among the most used as well, done a moment ago or one of few: it is not what is usual instead.
    expected = _EXPECTED.get(k) or expected_values([v for v in _usual(kept, _USUAL_OF.get(k, k)) if v != observed])
    numbers: dict[str, Any] = {"own": _not_never(row[0]), "of": round(row[1], 2), "distinct": round(row[4], 1)}
    # A cohort that was found does not know all that its agents did before: what they have not done is not said.
    if has_peers(d) if event.agent_type is not None else (kept.peered and row[2] - min(1.0, row[0]) >= 1):
        numbers["peers"] = _not_never(row[2])
    if k in {DOMAIN, CLOSENESS, FLOW, UNVOUCHED}:  # whom it blames
        numbers["recipient"] = (event.recipients or ())[at].id[:MOST_TEXT]
    if k in {RECIPIENT, DOMAIN, CLOSENESS, FLOW, UNVOUCHED} and event.resource:
        numbers["resource"] = event.resource[:MOST_TEXT]
    if k == UNVOUCHED:
        numbers |= {"step": int(row[6]), "because": _unvouched(kept, d)}
    if k == OWNER:  # it is judged by what the agent does in the same place
        numbers["root"] = kept.root[:MOST_TEXT]
    if k == PERMISSION and len(event.scopes or ()) > 1:
        numbers["values"] = len(event.scopes or ())
    if k in KEPT_NEW and (since := d[BEGUN + KEPT_NEW.index(k)]) > 0:
        numbers["since"] = round(since)
    if d[JUDGED] > 0 and row[0] < 0.5:
        numbers["judged"] = True  # what was learned of it may have been taken back
    if k < N_NAMED and bears_mark(k, d):
        numbers["marked"] = True
    numbers |= next_bits(k, d)
    return Evidence(
        FACTS[k].name, FACTS[k].kind, observed, expected, round(d[BITS + k], 2), [event.event_id], 1, numbers
    )


def _not_never(count: float) -> float:
    """A count to two digits: what has faded to less than that was done all the same."""
    return max(0.01, round(count, 2)) if count > 0 else 0.0


def _unvouched(kept: Kept, d: list[float]) -> str:
    """Why nothing vouches for an agent."""
    if kept.event.agent_type is None:
        return "it is new and of no type"
    return "its type was just changed to a new one" if d[TYPE_AGE] >= 0 else "it and its type are new"


def _party(k: int, kept: Kept, at: int, derived: float) -> str:
    event = kept.event
    recipient = (event.recipients or ())[at]
    if k == RECIPIENT:
        return recipient.id
    if k == DOMAIN:
        return kept.domains[at]
    if k == CLOSENESS:
        return close(int(derived))
    data = f"{event.classification} data" if kept.rung >= 0 else "data of unknown class"
    where = (
        "outside the organisation"
        if derived == 0
        else f"to {'an' if recipient.type in {'agent', 'email'} else 'a'} {recipient.type or 'recipient'}"
    )
    return f"{data} {where}"


def close(step: int) -> str:
    """A step of `models.parties.closeness` in words."""
    if step == FAR:
        return "a recipient that no agent has sent to in its ordinary work"
    return _CLOSE[(step - 1) // 4] + _ACTIVE[(step - 1) % 4] if step else "a recipient that it knows"


def _usual(kept: Kept, k: int) -> list[str]:
    """The agent's most used values of a fact when the event was scored, most used first."""
    at = _TEXTS_OF[k]
    return [text for i in range(at, at + TOP) if (text := _recalled(kept, i))]


def _recalled(kept: Kept, at: int) -> str:
    return kept.text[at * TEXT : at * TEXT + kept.length[at]].decode("utf-8", "replace")


def _context(
    ladder: tuple[str, ...], kept: Kept, d: list[float], sat: Sat | None, strange: Sequence[Evidence]
) -> list[Evidence]:
    """What is not strange by itself but belongs into the sentence."""
    event = kept.event
    out = []
    if below(kept) and d[PAID + N_FACTS + CLEARANCE] <= 0:
        # Another signal of its group said more; it is said all the same.
        out.append(measured(N_FACTS + CLEARANCE, kept, d))
    if event.approved or (event.approved is not None and event.recipients):
        said = "nobody approved it" if not event.approved else "a person approved it"
        out.append(Evidence("approval", "policy", said, "approval", 0.0, [event.event_id], 1))
    if (which := _new_permission(kept, d)) and any(e.name == "tool" for e in strange):
        said = f"the permission {plain(which, 48)} is new to it too"
        out.append(Evidence("new_permission", "scope", said, "-", 0.0, [event.event_id], 1, {"permission": which}))
    top = int(d[SESSION])
    if event.recipients and top >= 0 and (2 * top >= len(ladder) or top > kept.rung):
        said = _in_hand(ladder[top], d[SESSION + 1], sat or Sat())
        if said:
            out.append(Evidence("read_before", "sequence", said, "-", 0.0, [event.event_id], 1))
    if outside(d) and any(e.kind == "recipient" for e in strange):
        parties = list(zip((r.id for r in event.recipients or ()), kept.domains, strict=False))[:MOST_LOOKED_AT]
        like = looks_like(parties, event.principal, _usual(kept, RECIPIENT), _usual(kept, DOMAIN))
        if like is not None:
            whom = {"recipient": like[0][:MOST_TEXT], "like": like[1][:MOST_TEXT]}
            out.append(Evidence("look_alike", "recipient", like[2], "-", 0.0, [event.event_id], 1, whom))
    if d[JUDGED] > 0:
        items = [*strange, *(_fact(k, kept, d) for k in range(N_NAMED) if bears_mark(k, d))]
        what = " or ".join(dict.fromkeys(doing for e in items if (doing := marked(e))))
        said = f"it is like what a person called malicious before{f': {what}' if what else ''}"
        out.append(Evidence("judged", "policy", said, "-", 0.0, [event.event_id], 1))
    if event.agent_version and 0 <= d[VERSION_AGE] < NEW_VERSION:
        said = f"it has run version {plain(event.agent_version, 32)} for {lasting(d[VERSION_AGE])}"
        numbers = {"version": event.agent_version[:MOST_TEXT], "seconds": round(d[VERSION_AGE])}
        out.append(Evidence("new_version", "scope", said, "-", 0.0, [event.event_id], 1, numbers))
    return out


def _new_permission(kept: Kept, d: list[float]) -> str:
    """The permission that an event used for the first time, where another signal of its group said more: it is what to take away."""
    at = FACT + PERMISSION * FACT_WIDTH
    begun = PERMISSION in KEPT_NEW and d[BEGUN + KEPT_NEW.index(PERMISSION)] > 0
    if d[PAID + PERMISSION] > 0 or d[BITS + PERMISSION] < NEW or d[at] > 0 or d[JUDGED] > 0 or begun:
        return ""
    return (kept.event.scopes or ("",))[int(d[at + 5])][:MOST_TEXT]


def _in_hand(rung: str, records: float, sat: Sat) -> str:
    """What the session had in hand before, but for what the alert's own events have handed out or were refused: empty where that was all."""
    sent, refused = sat.sent.get(rung.lower()), sat.refused.get(rung.lower())
    left = records - (sent or 0.0) - (refused or 0.0)
    if left > 1e-5 * records:  # which are a sum of float32
        return f"earlier in the session it handled {counted(left, 'record')} of {rung} data"
    if refused is not None:
        return f"earlier in the session it was refused {rung} data"
    return "" if sent is not None else f"earlier in the session it handled {rung} data"
