"""The demo: four weeks of a simulated fleet through the engine, alerts as they open, and an honest account at the end."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import click

from stream.alert import Alert
from stream.codec import encode
from stream.engine import Engine
from stream.replay import scored
from stream.settings import Settings
from stream.simulate import Change, Incident, Simulation
from stream.words import counted, plain

HOME = "northwind.example"
COLOURS = {"low": "cyan", "medium": "yellow", "high": "red", "critical": "bright_red"}
MOST_IDS = 3
BATCH = 500  # small, so that alerts appear as the weeks go by


@dataclass(frozen=True)
class Account:
    """What was planted and what the alerts say of it."""

    found: dict[str, Alert]  # incident id → the first alert on it
    missed: list[Incident]
    false: list[Alert]  # last revisions of alerts on nothing that was planted
    in_changes: int  # of those, during a listed harmless change
    true: list[Alert]


def play(
    settings: Settings, simulation: Simulation, show: Callable[[Alert], None], tick: Callable[[int], None]
) -> list[Alert]:
    """Score the simulated fleet; every alert revision, in order. `show` is given each alert when it opens."""
    if not settings.domains:
        settings = replace(settings, domains=(HOME,))
    engine = Engine(settings)
    alerts: list[Alert] = []
    shown: dict[str, str] = {}
    numbered = ((i * BATCH + 1, [encode(e) for e in part]) for i, part in enumerate(_batched(simulation.events, BATCH)))
    for done in scored(engine, numbered):
        alerts += done.alerts
        for alert in done.alerts:
            if shown.get(alert.alert_id) != alert.severity:  # it opens, or is worse than it was
                shown[alert.alert_id] = alert.severity
                show(alert)
        tick(len(done.events))
    return alerts


def account(simulation: Simulation, alerts: Sequence[Alert]) -> Account:
    """Hold the alerts against what was planted: an alert is true if its evidence names a planted event, or such an event of
    its agent lies within its time."""
    last = {a.alert_id: a for a in alerts}
    opened = {a.alert_id: a for a in alerts if a.revision == 1}
    planted = {event_id: i for i in simulation.incidents for event_id in i.event_ids}
    at = {
        e["event_id"]: (str(e["agent_id"]), _seconds(str(e["time"])))
        for e in simulation.events
        if e["event_id"] in planted
    }
    by_agent: dict[str, list[tuple[float, Incident]]] = {}
    for event_id, (agent_id, time) in at.items():
        by_agent.setdefault(agent_id, []).append((time, planted[event_id]))
    found: dict[str, Alert] = {}
    true: list[Alert] = []
    false: list[Alert] = []
    in_changes = 0
    for alert in last.values():
        ids = {event_id for e in alert.evidence for event_id in e.event_ids}
        hits = {planted[i].incident_id for i in ids if i in planted}
        low, high = _seconds(alert.first_event_time), _seconds(alert.last_event_time)
        if not hits:
            hits = {i.incident_id for time, i in by_agent.get(alert.agent_id, ()) if low <= time <= high}
        for incident_id in hits:
            found.setdefault(incident_id, opened[alert.alert_id])
        (true if hits else false).append(alert)
        in_changes += not hits and any(_during(c, alert.agent_id, low, high) for c in simulation.changes)
    return Account(found, [i for i in simulation.incidents if i.incident_id not in found], false, in_changes, true)


def _during(change: Change, agent_id: str, low: float, high: float) -> bool:
    return agent_id in change.agent_ids and change.start <= high and low <= change.end + 3 * 86400


def alert_text(alert: Alert, opened: str = "", beside: str = "", *, how_it_stands: bool = False) -> str:
    """An alert for a terminal: one line, and the sentence below it; a later revision is one that was raised, or `how_it_stands`.

    The line has when it `opened`, and its last event where that is of another minute; `beside` is what is known of it from other alerts.
    """
    severity = click.style(f"{alert.severity.upper():8}", fg=COLOURS[alert.severity], bold=True)
    later = f" (revision {alert.revision})" if how_it_stands else " (raised)"
    opened = opened or (alert.time if alert.revision == 1 else alert.first_event_time)
    head = f"{_from_to(opened[:16], alert.last_event_time[:16])}  {severity}  {click.style(alert.title, bold=True)}{later if alert.revision > 1 else ''}"
    sure = f"Impact {alert.impact}, confidence {alert.confidence}. Next: {alert.next_step}"
    body = [
        # An address or an agent's name is copied from here, so it stays whole.
        textwrap.fill(
            text,
            110,
            initial_indent=" " * 4,
            subsequent_indent=" " * 4,
            break_on_hyphens=False,
            break_long_words=False,
        )
        for text in (f"{alert.reason}{beside}", sure, f"Alert {alert.alert_id}: {_events(alert)}")
    ]
    return "\n".join([head, *body])


def _from_to(begin: str, end: str) -> str:
    """Two minutes; the second where it is later, and its day where that is another.

    >>> _from_to("2026-03-12T08:44", "2026-03-12T08:44"), _from_to("2026-03-12T08:44", "2026-03-12T11:20")
    ('2026-03-12 08:44', '2026-03-12 08:44 to 11:20')
    """
    later = end[11:] if end[:10] == begin[:10] else end
    return (begin + (f" to {later}" if end > begin else "")).replace("T", " ")


def _events(alert: Alert) -> str:
    """Ids to look up, that of the event that it is about first, and how many more there are."""
    ids = list(dict.fromkeys([alert.event.event_id, *(i for e in alert.evidence for i in e.event_ids)]))[:MOST_IDS]
    more = alert.exposure.events - len(ids)
    listed = ", ".join(plain(i, 48) for i in ids) + (f" and {more:,} more" if more > 0 else "")
    return f"{'event' if len(ids) == 1 and more <= 0 else 'events'} {listed}"


def account_text(simulation: Simulation, alerts: Sequence[Alert]) -> str:
    """The end of the demo: planted, found, missed, falsely raised."""
    a = account(simulation, alerts)
    days = (simulation.events[-1]["time"], simulation.events[0]["time"])
    span = (_seconds(str(days[0])) - _seconds(str(days[1]))) / 86400
    rows = [
        f"\nPlanted {counted(len(simulation.incidents), 'incident')}, found {len(a.found)}, missed {len(a.missed)}.\n"
    ]
    last = {x.alert_id: x for x in a.true}
    for i in simulation.incidents:
        hit = a.found.get(i.incident_id)
        mark = click.style("found ", fg="green") if hit else click.style("missed", fg="red")
        how = f"{_severities(hit, last[hit.alert_id])} after {_span(_seconds(hit.time) - i.start)}" if hit else "-"
        rows.append(f"  {mark}  {i.kind:24} {how:34} {textwrap.shorten(i.story, 110)}")
    total = len(a.true) + len(a.false)
    rows.append(
        f"\n{counted(total, 'alert')} in {counted(round(span), 'day')} ({total / span:.1f} a day): {len(a.true)} on what was planted, {len(a.false)} on nothing that was planted;"
    )
    by = ", ".join(
        f"{sum(x.severity == s for x in a.true)} of {sum(x.severity == s for x in (*a.true, *a.false))} {s}"
        for s in ("critical", "high", "medium", "low")
    )
    rows.append(
        f"of the false ones {a.in_changes} fell into a harmless change (a rollout, new hires, a role change). True by severity in the end: {by}."
    )
    return "\n".join(rows)


def _severities(opened: Alert, last: Alert) -> str:
    """Its severity when it opened, and in the end."""
    return opened.severity if opened.severity == last.severity else f"{opened.severity}, later {last.severity},"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{max(0, seconds):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _batched(values: Sequence[Any], n: int) -> list[Sequence[Any]]:
    return [values[i : i + n] for i in range(0, len(values), n)]
