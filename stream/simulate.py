"""A simulated fleet of agents for `strayline demo`: ordinary life, harmless changes, and incidents planted in it.

Ordinary life is the same whatever is planted: every agent has its own stream of random numbers, and so has every incident.
What is simulated is data access only; nothing is modelled of why an agent does what it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random

import msgspec

from stream.fleet import (
    DAY,
    EVERYONE,
    HOUR,
    REVIEW,
    ROLLED_OUT,
    TYPE,
    TYPES,
    Agent,
    Event,
    Party,
    Tool,
    access,
    begin,
    hire,
    outsider,
    person,
)
from stream.incidents import KINDS, Incident, plant

__all__ = ["KINDS", "Change", "Incident", "Simulation", "lines", "simulate"]

FIRST_MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Change:
    """A harmless change of some agents' behaviour, from `start` until `end` (seconds since the epoch)."""

    what: str
    agent_ids: tuple[str, ...]
    start: float
    end: float
    story: str


@dataclass(frozen=True)
class Simulation:
    """Access events by time, and what is in them: incidents (or their harmless twins) and harmless changes."""

    events: list[Event]
    incidents: list[Incident]
    changes: list[Change]


def simulate(
    seed: int = 1,
    agents: int = 60,
    days: int = 28,
    start: datetime = FIRST_MONDAY,
    incidents: Sequence[str] | None = None,
    twins: bool = False,
) -> Simulation:
    """Simulate a fleet; the same arguments always give the same events.

    Parameters
    ----------
    seed
        Another seed is another fleet with other incidents.
    agents
        How many, newcomers included; at least 12.
    days
        How many, at least 5. In fewer than 28 the changes and incidents come closer together.
    start
        Midnight of the first day; weekends follow its calendar.
    incidents
        The kinds to plant, of `KINDS`; by default each of them once.
    twins
        Plant each kind's harmless twin instead: the same agent, time and number of events, with nothing wrong in it.

    """
    if agents < 12 or days < 5:
        raise ValueError(f"needs 12 agents or more and 5 days or more, not {agents} and {days}")
    kinds = tuple(KINDS) if incidents is None else tuple(incidents)
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise ValueError(f"unknown kind of incident {', '.join(unknown)}; the kinds are {', '.join(KINDS)}")
    if start.tzinfo is None:
        raise ValueError("the start needs an offset from UTC: without one the events would depend on the machine")
    fleet = staffed(Random(f"{seed}:fleet"), agents, days, start)
    fleet, changes = changed(Random(f"{seed}:changes"), fleet, days, start)
    surge = next((change for change in changes if change.what == "quarter_end"), None)
    events = [event for agent in fleet for event in ordinary_life(seed, agent, days, start, surge)]
    events += export(Random(f"{seed}:export"), fleet, changes)
    avoid = {name for each in changes if each.what in {"role_change", "big_export"} for name in each.agent_ids}
    planted = plant(seed, fleet, events, kinds, days, start, twins, avoid)
    events += [event for each in planted for event in each.added]
    events.sort(key=when)
    for number, event in enumerate(events):
        event["event_id"] = f"ev{seed}-{number:06}"  # two seeds on one topic are two fleets, not one sent twice
        event["time"] = datetime.fromtimestamp(when(event), UTC).isoformat(timespec="milliseconds")
    return Simulation(events, [each.incident() for each in planted], changes)


def lines(simulation: Simulation) -> Iterator[bytes]:
    """Yield each event as one line of JSON, in time's order."""
    for event in simulation.events:
        yield msgspec.json.encode(event) + b"\n"


def when(event: Event) -> float:
    """Return the time of an event that still has it in seconds since the epoch, to the millisecond that is written."""
    at: float = event["time"]
    return round(at, 3)


def staffed(rng: Random, agents: int, days: int, start: datetime) -> list[Agent]:
    """Return the fleet as hired: every type by its share, and one agent in ten a newcomer who starts later on."""
    staff = {kind.name: [person(rng) for _ in range(18)] for kind in TYPES}
    newcomers = agents // 10
    established = list(TYPES)
    while len(established) < agents - newcomers:
        established.append(max(TYPES, key=lambda kind: kind.share * agents - established.count(kind)))
    fleet, number = [], dict.fromkeys(TYPE, 0)
    for place, kind in enumerate(established + [TYPES[i % len(TYPES)] for i in range(newcomers)]):
        late = place - len(established)
        first = 0.0 if late < 0 else workday(0.42 + 0.4 * (late + 0.5) / newcomers, days, start) + 10 / 24
        number[kind.name] += 1
        fleet.append(hire(rng, kind, number[kind.name], staff[kind.name], first, float(days)))
    for agent in fleet:
        # Nothing is handed to those who work at night.
        apart = {agent.agent_type, "finance-reconciler"}
        others = [each.agent_id for each in fleet if each.agent_type not in apart and each.first == 0]
        agent.contacts["agent"].extend(peer(name) for name in rng.sample(others, 2))
    return fleet


def peer(agent_id: str) -> Party:
    """Return an agent as one that receives."""
    return {"id": agent_id, "type": "agent", "clearance": "confidential"}


def changed(rng: Random, fleet: list[Agent], days: int, start: datetime) -> tuple[list[Agent], list[Change]]:
    """Return the fleet with the harmless changes in it, and the changes."""
    midnight = start.timestamp()

    def change(what: str, who: Sequence[Agent], first: float, last: float, story: str) -> Change:
        return Change(what, tuple(each.agent_id for each in who), midnight + first * DAY, midnight + last * DAY, story)

    newcomers = [each for each in fleet if each.first > 0]
    changes = [
        change(
            "new_hire",
            [each],
            each.first,
            each.first + 3,
            f"{each.agent_id} is new; it does what its peers do",
        )
        for each in newcomers
    ]
    day = workday(0.4, days, start)
    cohort = [each for each in fleet if each.agent_type == REVIEW.name and each.first == 0]
    changes.append(change("tool_rollout", cohort, day, day + 3, f"every {REVIEW.name} gets {ROLLED_OUT.name}"))
    after = []
    for each in cohort:
        weights = (*each.weights, each.weights[-1] + ROLLED_OUT.weight * rng.lognormvariate(0, 0.3))
        after.append(replace(each, first=day, tools=(*each.tools, ROLLED_OUT), weights=weights, version="7.5.0"))
    fleet = [replace(each, last=day) if each in cohort else each for each in fleet] + after

    day = workday(0.54, days, start)
    mover = [each for each in fleet if each.agent_type == "sales-copilot" and each.first == 0][-1]
    moved = hire(rng, TYPE[mover.agent_type], 0, [person(rng) for _ in range(9)], day, mover.last)
    areas = tuple(area for area in TYPE[mover.agent_type].areas if area not in mover.areas)
    moved = replace(moved, agent_id=mover.agent_id, areas=areas or moved.areas)
    moved.contacts["agent"].extend(mover.contacts["agent"])
    changes.append(
        change(
            "role_change",
            [mover],
            day,
            day + 4,
            f"{mover.agent_id} moves to another team: {', '.join(moved.areas)}",
        )
    )
    fleet = [replace(each, last=day) if each is mover else each for each in fleet] + [moved]

    day = workday(0.46, days, start)
    exporter = next(each for each in fleet if each.agent_type == "data-analyst")
    story = f"{exporter.agent_id} sends an auditor a large extract, once, with approval"
    changes.append(change("big_export", [exporter], day + 10 / 24, day + 12 / 24, story))
    day = workday(0.64, days, start)
    finance = [each for each in fleet if each.agent_type == "finance-reconciler"]
    changes.append(
        change("quarter_end", finance, day, day + 2, "the quarter is closed: three times the usual in finance")
    )
    return fleet, sorted(changes, key=lambda each: each.start)


def workday(share: float, days: int, start: datetime) -> int:
    """Return the day after a share of the time, or the Monday after it where it falls on a weekend and there is such a Monday."""
    day = int(days * share)
    weekday = (start.weekday() + day) % 7
    monday = day + 7 - weekday
    return monday if weekday >= 5 and monday < days else day


def export(rng: Random, fleet: list[Agent], changes: list[Change]) -> Iterator[Event]:
    """Yield the approved big export: some large reads, and one large file to the auditor."""
    change = next(each for each in changes if each.what == "big_export")
    agent = next(each for each in fleet if each.agent_id == change.agent_ids[0])
    tools = {tool.name: tool for tool in agent.tools}
    session, at = begin(rng, agent), change.start + 600
    for _ in range(6):
        yield access(rng, agent, tools["tables.query"], at, session, 12.0, approved=True)
        at += rng.uniform(40, 200)
    auditor = [outsider(rng, "pebble-audit.example")]
    yield access(rng, agent, tools["extracts.send"], at, session, 40.0, approved=True, recipients=auditor)


def ordinary_life(seed: int, agent: Agent, days: int, start: datetime, surge: Change | None) -> Iterator[Event]:
    """Yield an agent's ordinary calls, session by session."""
    rng = Random(f"{seed}:{agent.agent_id}:{agent.first}")
    kind = TYPE[agent.agent_type]
    midnight, clumsy = start.timestamp(), rng.lognormvariate(0, 0.5)
    early, late = kind.hours
    for day in range(int(agent.first), min(days, int(agent.last))):
        weekend = (start.weekday() + day) % 7 >= 5
        busy = kind.sessions * agent.pace * rng.lognormvariate(0, 0.2) * (kind.weekend if weekend else 1.0)
        today = midnight + day * DAY
        closing = surge is not None and agent.agent_id in surge.agent_ids and surge.start <= today < surge.end
        for _ in range(int(busy + rng.random())):
            middle = early + (late - early) * rng.choice((0.3, 0.68))
            hour = min(max(rng.gauss(middle, (late - early) * 0.12), early), late)
            if rng.random() < 0.006:
                hour = late + rng.uniform(0.5, 4.0)
            if day + hour / 24 >= agent.first:
                yield from sitting(rng, agent, today + hour * HOUR, 3.0 if closing else 1.0, clumsy)


def sitting(rng: Random, agent: Agent, at: float, scale: float, clumsy: float) -> Iterator[Event]:
    """Yield the calls of one session: look up, work, hand over, in about that order; with the oddities of any week."""
    length = TYPE[agent.agent_type].length
    session = begin(rng, agent)
    calls = rng.choices(
        agent.tools, cum_weights=agent.weights, k=max(1, round(length * rng.lognormvariate(-0.1, 0.45)))
    )
    for tool in sorted(calls, key=lambda each: each.stage + 1.6 * rng.random()):
        at += 4 + rng.expovariate(1 / 26)
        event = access(rng, agent, tool, at, session, scale)
        luck = rng.random()
        if luck < 0.02:
            event["outcome"] = "denied" if luck < 0.008 * clumsy else "error"
            for field in ("bytes", "records", "recipients", "approved"):
                event.pop(field, None)
        elif luck < 0.022:
            event["records"], event["bytes"] = 9 * event["records"], 9 * event["bytes"]
        elif luck < 0.029 and tool.audience in {"customer", "partner", "person", "channel", "group"}:
            event["recipients"] = odd_recipients(rng, tool, event)
        elif luck > 0.7 and tool.audience == "customer":
            fresh = outsider(rng)
            agent.contacts["customer"].insert(rng.randrange(12), fresh)
            event["recipients"] = [fresh]
        yield event


def odd_recipients(rng: Random, tool: Tool, event: Event) -> list[Party]:
    """Return recipients as they are once in a while, and harmlessly: everybody, a single outsider, a few more colleagues."""
    if tool.action == "share" and event["classification"] in {"public", "internal"} and rng.random() < 0.4:
        return [EVERYONE]
    if rng.random() < 0.2:
        return [outsider(rng)]
    known: list[Party] = event["recipients"]
    return known + [person(rng, "restricted") for _ in range(rng.choice((1, 1, 2, 4)))]
