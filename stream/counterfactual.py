"""What would have kept an alert from being raised, as far as its evidence tells: the counterfactual.

Of a group of signals only the strongest pays (`models.signals`); without it the next would, so each item of evidence carries what
that is (`next_bits`). Signals that the same condition silences ("had it sent to whom it usually sends") are silent together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from models.batch import BITS, PAID
from models.budget import LONE
from models.loop import POOL_ANY, POOL_SAME
from models.signals import ACTION, AGAIN, GROUP_OF, INDEX, N_SIGNALS, SIGNALS, TOOL, TRANSITION
from stream.alert import Did, Evidence
from stream.clauses import flow, in_unit, ordinary, slight, step
from stream.severity import ENOUGH
from stream.words import counted, listed, plain, size

MARGIN = 0.1  # bits that rounding may cost
MOST = POOL_SAME + POOL_ANY  # times its own bits that an event may reach
# What would have been usual, had a signal been silent; signals of one such condition are silent together.
CONDITION = {
    "recipient": "parties", "domain": "parties", "closeness": "parties", "root": "resource", "branch": "resource", "resource": "resource",
    "bytes": "amount", "bytes_sum": "amount", "records": "amount", "records_sum": "amount", "session_calls": "calls", "session_calls_sum": "calls",
}  # fmt: skip
# Where one is usual, so is the other.
_IMPLIES = {TRANSITION: (TOOL,), ACTION: (TOOL,)}


def condition(signal: str) -> str:
    """What would have been usual, had a signal been silent."""
    return CONDITION.get(signal, signal)


# Of each signal, the others of its group that another condition stands for: place of their bits, weight, dead zone.
_RIVALS = [
    [
        (BITS + j, SIGNALS[j].weight, SIGNALS[j].dead)
        for j in range(N_SIGNALS)
        if GROUP_OF[j] == GROUP_OF[k]
        and condition(SIGNALS[j].name) != condition(SIGNALS[k].name)
        and j not in _IMPLIES.get(k, ())
    ]
    for k in range(N_SIGNALS)
]
_AGAIN = [AGAIN.get(s.group) for s in SIGNALS]


def next_bits(k: int, d: list[float]) -> dict[str, float]:
    """What the next of its group would pay, were this signal silent; and what the days before add to it (`models.scoring.add_again`)."""
    most = 0.0
    for at, weight, dead in _RIVALS[k]:
        if d[at] > dead:
            most = max(most, weight * (d[at] - dead))
    numbers, again = {}, 0.0
    if share := _AGAIN[k]:
        paid, dead = share
        again = d[PAID + k] - SIGNALS[k].weight * (d[BITS + k] - SIGNALS[k].dead)
        most += min(paid * max(0.0, most - dead), max(0.0, again))
    if most >= 0.005:
        numbers["next_bits"] = round(most, 2)
    if again >= 0.005:
        numbers["again_bits"] = round(again, 2)
    return numbers


def _had(e: Evidence, event: Did) -> str:
    """The condition of a signal in words. Of what an event may state several times, all of it must be usual."""
    of, observed, many = condition(e.name), plain(str(e.observed), 160), len(event.recipients) > 1
    whose = "about" if e.baseline.get("new") else "its usual"
    if of == "parties":
        if many:
            return "had it usually sent to all its recipients"
        return f"had {plain(event.recipients[0], 48) if event.recipients else 'its recipient'} been a usual recipient"
    if of == "resource":
        return f"had {plain(event.resource or 'the resource')} been usual for it"
    if of == "amount":
        usual = e.baseline["typical"]
        others = " of its other tools" if e.baseline.get("other_tools") else ""
        return f"had it moved {whose} {size(usual) if e.name.startswith('bytes') else counted(usual, 'record')} a call{others}"
    if of == "calls":
        return f"had it called {plain(str(e.baseline['tool']), 48)} no more often than {'usual' if not e.baseline.get('new') else 'its peers do' if 'peers' in e.baseline else 'others do'} in a session"
    return {
        "tool": f"had {plain(observed)} been among the tools it usually uses",
        "permission": "had the permissions of the call all been among those it usually uses"
        if e.baseline.get("values", 1) > 1
        else f"had {plain(observed)} been among the permissions it usually uses",
        "classification": f"had {plain(observed)} data been what it usually handles",
        "transition": f"had it usually {' '.join(step(observed)[::2])}",
        "outcome": f"had the call not ended “{observed}”",
        "action": f"had it usually done “{plain(observed)}”",
        "off_hours": "had its sessions begun when it usually works",
        "rhythm": f"had it been near the {in_unit(e)(e.baseline.get('typical', 0.0))} that its beat foretold",
        "flow": "had it usually sent such data to such recipients"
        if many
        else f"had it usually sent {flow(plain(observed))}",
        "owner": "had the resource been used for the person it acts for before"
        if "others than" in observed or "another person" in observed  # as alerts of 0.1.0 have it
        else f"had it usually touched a resource that {observed}",
        "unvouched": "had it, or others of its kind, been known for five days",
        "unapproved": "had a person approved it",
        "clearance": "had everyone who received it been cleared for it",
        "call_rate": f"had its pace been {whose} {counted(e.baseline.get('typical', 0.0), 'call')} in ten minutes",
        "repeats": "had it done the same no more often than usual",
        "dormancy": f"had it used {plain(observed)} in the last two weeks",
        "windows": "had its last hour been like its others",
    }[of]


def pays(e: Evidence) -> float:
    """Bits of the score, as in `models.signals`."""
    if e.name not in INDEX:
        return e.bits if e.name == "windows" else 0.0
    signal = SIGNALS[INDEX[e.name]]
    return signal.weight * max(0.0, e.bits - signal.dead) + float(e.baseline.get("again_bits", 0.0))


class Otherwise(NamedTuple):
    """The sentence, and the evidence whose condition it names."""

    sentence: str
    named: tuple[Evidence, ...] = ()


def otherwise(
    event: Did,
    lead: Sequence[Evidence],
    events: int,
    score: float,
    threshold: float,
    *,
    strong: int,
    serious: bool,
    about: Evidence | None = None,
) -> Otherwise:
    """What would have kept the alert from being raised, as far as the evidence of the event that it is about tells.

    It is said of what the title is about (`about`) if that is of this event, alone or with what else it takes. Where that does not do and something else
    alone does, of that, and the title is to name it too (`stream.title.headline`); but what did serious harm, or broke the policy, stays the headline.

    Of a group of signals only the strongest pays; without it the next would, whose share the evidence names. An episode of one
    event reaches at most what its own evidence and what is left of the events before it allow (`models.loop`); of an episode of
    more events only this one can be spoken of. Fewer than three strange ones, that did no serious harm, need more than the
    threshold (`stream.severity.opens`); whether there would still be harm is not known, so either claim takes the case that is worse for it.
    """
    few = strong < ENOUGH
    enough, surely = threshold * (LONE if few and not serious else 1.0), threshold * (LONE if few else 1.0)
    groups: dict[str, Evidence] = {}
    for e in sorted(lead, key=pays):
        groups[SIGNALS[INDEX[e.name]].group if e.name in INDEX else e.name] = e
    paying = sorted((e for e in groups.values() if pays(e) > 0), key=lambda e: (-pays(e), e.name))
    paid = sum(map(pays, paying))
    if events > 1 and serious and paid < threshold - MARGIN:  # the most harmful event need not be the strangest
        return Otherwise(" Alone, this event was below the threshold, but may have done serious harm.")
    if events > 1 and paid < threshold - MARGIN:
        return Otherwise(" Alone, this event was below the threshold.")
    window = sum(e.bits for e in lead if e.name == "windows")

    def most(left: float) -> float:
        """The highest score that what is left of the event's own bits allows."""
        if events > 1:
            return left
        pooled = MOST * left
        if score - window < MOST * (paid - window) - MARGIN:
            pooled = min(pooled, score - (paid - left))
        return max(left, pooled)

    gains: dict[str, float] = {}
    says: dict[str, Evidence] = {}
    for e in paying:
        of = condition(e.name)
        gains[of] = gains.get(of, 0.0) + pays(e) - e.baseline.get("next_bits", 0.0)
        says.setdefault(of, e)
    ranked = sorted(gains, key=lambda of: -gains[of])
    first = condition(about.name) if about is not None and about in lead else ""
    says |= {first: about} if about is not None and first else {}
    gains.setdefault(first, 0.0)
    for ways in _ways(first, ranked, says, stays=serious or (about is not None and about.kind == "policy")):
        if most(paid - sum(gains[of] for of in ways)) < enough - MARGIN:
            subject = "It would not have been raised" if events == 1 else "This event would not have raised it"
            named = tuple(says[of] for of in ways)
            return Otherwise(f" {subject} {listed([_had(e, event) for e in named])}.", named)
    if not ranked:
        return Otherwise(" What was left of its events before raised it.")
    of = first or ranked[0]
    if paid - gains[of] >= surely + MARGIN:
        return Otherwise(f" It would have been raised even {_had(says[of], event)}.", (says[of],))
    return Otherwise(f" It would have come close to being raised even {_had(says[of], event)}.", (says[of],))


def _ways(first: str, ranked: Sequence[str], says: dict[str, Evidence], *, stays: bool) -> list[tuple[str, ...]]:
    """Which conditions to think of as usual, in this order: `first` comes first and, where it `stays`, is in all."""
    if not first:
        return [tuple(ranked[:n]) for n in (1, 2) if len(ranked) >= n]
    rest = [of for of in ranked if of != first]
    alone = [] if stays else [(of,) for of in rest[:1] if not ordinary(says[of]) and not slight(says[of])]
    return [(first,), *alone, *((first, *rest[:n]) for n in ((1, 2) if stays else (1,)) if len(rest) >= n)]
