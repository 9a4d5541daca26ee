"""The same sets, changed in ways that should not matter much: what holds, what gives, and that nothing breaks.

The clock is moved by months (thirteen weeks, so that weekdays stay; two months, so that they do not) and by hours; the fleet has ten times the
agents (nine copies of each under other names, a few minutes apart, that live the same ordinary life without the incidents: ten times
the harmless events at the same number of false alerts); a tenth of the agents, of the agents with incidents at least one; a tenth of the harmless
sessions, the incidents whole. A run breaks if replay fails, or if an event has no finite score.

`python -m benchmarks robustness [--sets …]`
"""

from __future__ import annotations

import json
import math
import random
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.report import save, say, table, warn
from benchmarks.sets import LabelledSet, absent, alerting, judge, labelled_sets, ranking, read, replay

SETS = ("fleet-dev", "agentdojo-workspace", "taubench-retail", "collegemsg-recipients")
DAY, HOUR = 86400.0, 3600.0
COPIES = 10
APART = 181.0  # seconds from one copy to the next
SEED = 1
Rows = list[dict[str, Any]]
Change = Callable[[Rows, Mapping[str, str]], Rows]  # events and each labelled event's incident → events


def shifted(seconds: float) -> Change:
    """Every event so much later, as the file writes its times."""
    return lambda events, _: [event | {"time": _later(event["time"], seconds)} for event in events]


def _later(time: str | float, seconds: float) -> str | float:
    if not isinstance(time, str):
        return time + seconds
    return datetime.fromtimestamp(_seconds(time) + seconds, UTC).isoformat(timespec="milliseconds")


def _seconds(time: str | float) -> float:
    return datetime.fromisoformat(time).timestamp() if isinstance(time, str) else time


def copied(events: Rows, incidents: Mapping[str, str]) -> Rows:
    """Every agent ten times, the copies without what is labelled."""
    out = list(events)
    for n in range(1, COPIES):
        for event in events:
            if event["event_id"] not in incidents:
                other = {"event_id": f"{event['event_id']}~{n}", "agent_id": f"{event['agent_id']}~{n}"}
                if event.get("session_id"):
                    other["session_id"] = f"{event['session_id']}~{n}"
                out.append(event | other | {"time": _later(event["time"], n * APART)})
    return sorted(out, key=lambda event: _seconds(event["time"]))


def few_agents(events: Rows, incidents: Mapping[str, str]) -> Rows:
    """A tenth of the agents, by lot, one of them from those with an incident."""
    r = random.Random(SEED)
    agents = sorted({event["agent_id"] for event in events})
    struck = sorted({event["agent_id"] for event in events if event["event_id"] in incidents})
    kept = {r.choice(struck or agents), *r.sample(agents, len(agents) // 10)}
    return [event for event in events if event["agent_id"] in kept]


def few_sessions(events: Rows, incidents: Mapping[str, str]) -> Rows:
    """A tenth of the harmless sessions, by lot (of the events, where there are no sessions), and all that is labelled."""
    r = random.Random(SEED)
    luck: dict[str, bool] = {}
    out = []
    for event in events:
        whole = event.get("session_id") or event["event_id"]
        if whole not in luck:
            luck[whole] = r.random() < 0.1
        if luck[whole] or event["event_id"] in incidents:
            out.append(event)
    return out


CHANGES: dict[str, Change] = {
    "as it is": lambda events, _: events,
    "13 weeks later": shifted(91 * DAY),
    "61 days later": shifted(61 * DAY),
    "7 hours later": shifted(7 * HOUR),
    "7 hours earlier": shifted(-7 * HOUR),
    "10 times the agents": copied,
    "a tenth of the agents": few_agents,
    "a tenth of the harmless sessions": few_sessions,
}


def robustness(names: Iterable[str] = ()) -> dict[str, Any] | None:
    """Print the table of changed sets; the numbers behind it."""
    why = absent()
    if why:
        warn(f"ROBUSTNESS NOT MEASURED: {why}")
        return None
    results: dict[str, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="strayline-robustness-") as folder:
        for s in labelled_sets(list(names) or SETS):
            results[s.name] = _one_set(s, Path(folder))
            say(f"robustness: {s.name} done")
    rows: list[list[Any]] = []
    for name, by_change in results.items():
        for change, n in by_change.items():
            counted = [n["events"], n["agents"], n["incidents"]]
            told = (
                [n[k] for k in ("recall_1", "recall_5", "ap", "mean_ap")]
                if "broke" not in n
                else [n["broke"], *[None] * 3]
            )
            rows.append([f"{name}: {change}", *counted, *told, n.get("alerts_per_day"), n.get("alert_recall")])
    table(
        "The same sets changed: recall at 1 and 5 false alerts a day over the fleet, AP; alerts at the default budget",
        ["", "events", "agents", "incidents", "recall 1", "5", "AP", "mean AP", "alerts a day", "recall"],
        rows,
    )
    if broken := [f"{name}, {change}" for name, of in results.items() for change, n in of.items() if "broke" in n]:
        warn(f"BROKE: {'; '.join(broken)}")
    save("robustness", results)
    return results


def _one_set(s: LabelledSet, folder: Path) -> dict[str, dict[str, Any]]:
    events, labels = read(s.events), read(s.labels)
    incidents = {row["event_id"]: row["incident_id"] for row in labels}
    ambiguous = s.labels.with_name(s.labels.name.replace(".labels.", ".ambiguous."))
    ramps = read(ambiguous) if ambiguous.exists() else []
    not_harmless = incidents | {row["event_id"]: row["incident_id"] for row in ramps}
    out = {}
    for number, (change, of) in enumerate(CHANGES.items()):
        changed = of(events, not_harmless)
        where = LabelledSet(
            s.name,
            _written(folder / f"{s.name}-{number}.events.jsonl", changed),
            _written(folder / f"{s.name}-{number}.labels.jsonl", labels),
            s.settings,
            s.warm_up,
        )
        if ramps:
            _written(folder / f"{s.name}-{number}.ambiguous.jsonl", ramps)
        left = {event["event_id"] for event in changed}
        out[change] = {
            "events": len(changed),
            "agents": len({event["agent_id"] for event in changed}),
            "incidents": len({incident for event_id, incident in incidents.items() if event_id in left}),
        } | judged(where, folder)
        where.events.unlink()
    return out


def judged(s: LabelledSet, folder: Path) -> dict[str, Any]:
    """Recall, AP and alerts of ours on a set; or, under `broke`, why there are none."""
    scores, alerts = folder / "scores.jsonl", folder / "alerts.jsonl"
    try:
        replay(s.events, s.settings, scores, alerts)
    except RuntimeError as error:
        return {"broke": str(error)}
    told = read(scores)
    if len(told) != len(read(s.events)) or not all(math.isfinite(row["score"]) for row in told):
        return {"broke": "an event has no finite score"}
    verdict = judge(s, scores, alerts)
    told_by_alerts = alerting(verdict)
    return ranking(verdict) | {
        "alerts_per_day": told_by_alerts["alerts_per_day"],
        "alert_recall": told_by_alerts["recall"],
    }


def _written(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
