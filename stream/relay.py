"""Alerts of agents that hand data to each other: one reads, another sends out, and each alert is half of the story.

Of episodes that are open at the same time, in one engine. What it misses: agents whose events lie on different partitions; one that hands
on, hours later, what it was given; data that goes by a store that both can reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stream.alert import Evidence, alert_id
from stream.episode import Episode, digest
from stream.words import plain

MOST = 3  # agents that are named


def partners(x: Episode, episodes: Mapping[str, Episode]) -> tuple[list[Episode], list[Episode]]:
    """Who has given data to an episode's agent, and to whom it has given some, as far as there are alerts of them that nobody has called benign."""
    me = digest(x.agent_id)
    others = [y for y in episodes.values() if y.revision and not y.closed and y is not x]
    givers = [y for y in others if me in y.reached]
    takers = [y for y in others if digest(y.agent_id) in x.reached] if x.reached else []
    return sorted(givers, key=_name), sorted(takers, key=_name)


def evidence(givers: Sequence[Episode], takers: Sequence[Episode]) -> Evidence | None:
    """The same in words, with the ids of the alerts; None where there is nobody."""
    said = [
        f"{done} {_named(them)}" for done, them in (("was given data by", givers), ("gave data to", takers)) if them
    ]
    if not said:
        return None
    both = [*givers, *takers]
    whom = {"agents": [y.agent_id for y in both[:20]], "alerts": [_id(y) for y in both[:20]]}
    return Evidence("relay", "recipient", f"It {' and '.join(said)}", "-", 0.0, [], 1, whom)


def _named(them: Sequence[Episode]) -> str:
    more = f" and {len(them) - MOST:,} more" if len(them) > MOST else ""
    return ", ".join(f"{plain(y.agent_id, 48)} (alert {_id(y)})" for y in them[:MOST]) + more


def _name(x: Episode) -> str:
    return x.agent_id


def _id(x: Episode) -> str:
    return alert_id(x.agent_id, x.first_event_id)
