"""Alerts of agents that hand data to each other: one reads, another sends out, and each alert is half of the story.

Of episodes that are open at the same time, in one engine. What it misses: agents whose events lie on different partitions; one that hands
on, hours later, what it was given; data that goes by a store that both can reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stream.alert import SEVERITIES, Evidence, alert_id
from stream.episode import Episode
from stream.handed import digest
from stream.words import plain

MOST = 3  # agents that are named


def partners(x: Episode, episodes: Mapping[str, Episode]) -> tuple[list[Episode], list[Episode]]:
    """Who has given data to an episode's agent, and to whom it has given some, as far as there are alerts of them that nobody has called benign."""
    me = digest(x.agent_id)
    others = [y for y in episodes.values() if y.revision and not y.closed and y is not x]
    givers = [y for y in others if me in y.reached]
    takers = [y for y in others if digest(y.agent_id) in x.reached] if x.reached else []
    return sorted(givers, key=_name), sorted(takers, key=_name)


def evidence(x: Episode, givers: Sequence[Episode], takers: Sequence[Episode]) -> Evidence | None:
    """The same in words, with what the alerts say and their ids, and to whom those have sent something since that got some; None where there is nobody."""
    said = told(_known(givers), _known(takers))
    if not said:
        return None
    both = [*givers, *takers]
    whom: dict[str, Any] = {"agents": [y.agent_id for y in both[:20]], "alerts": [_id(y) for y in both[:20]]}
    on = {y.agent_id: _passed_on(x, y) for y in takers if y in both[:20]}
    whom |= {"passed_on": found} if (found := {agent: to for agent, to in on.items() if to}) else {}
    return Evidence("relay", "recipient", said, "-", 0.0, [], 1, whom)


def _passed_on(x: Episode, y: Episode) -> list[str]:
    """Whom an agent has handed something to after it was first given some."""
    since = x.handed[digest(y.agent_id)].since if digest(y.agent_id) in x.handed else x.first_event_time
    return [h.recipient for h in y.handed.values() if h.last >= since and h.recipient != x.agent_id][:MOST]


def told(givers: Sequence[tuple[str, str]], takers: Sequence[tuple[str, str]]) -> str:
    """Agents, and what is known of the alert of each, in words; empty where there is nobody.

    >>> told([("a", "alert 1")], []), told([], [(x, "alert 2") for x in "bcde"])
    ('It was given data by a (alert 1)', 'It gave data to b (alert 2), c (alert 2), d (alert 2) and 1 more')
    """
    said = [
        f"{done} {', '.join(f'{plain(agent, 48)} ({known})' for agent, known in them[:MOST])}"
        + (f" and {len(them) - MOST:,} more" if len(them) > MOST else "")
        for done, them in (("was given data by", givers), ("gave data to", takers))
        if them
    ]
    return f"It {' and '.join(said)}" if said else ""


def _known(them: Sequence[Episode]) -> list[tuple[str, str]]:
    return [(y.agent_id, f"alert {_id(y)}{_says(y)}") for y in them]


def _says(y: Episode) -> str:
    """How bad the other alert is, and its title without its agent's name."""
    if y.said_severity < 0 or not y.said_title:
        return ""
    return f", {SEVERITIES[y.said_severity]}: it {y.said_title.removeprefix(plain(y.agent_id)).strip()}"


def _name(x: Episode) -> str:
    return x.agent_id


def _id(x: Episode) -> str:
    return alert_id(x.agent_id, x.first_event_id)
