"""What is said of harmless changes: of each kind that a fleet's set lists, how many alerts fall on its agents and times, and how many name it.

A set lists its changes beside its labels (`NAME.benign.jsonl.gz`): agent, from, to, what. An alert falls on a change where it is the
agent's and overlaps it in time; one whose evidence names an incident's event does not count, it is a true one. It names
the change where its evidence has one of the items that stand for the kind (`stream.change`). Not every alert in those days is
due to the change: most of the others are oddities of their own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report import table
from benchmarks.sets import LabelledSet, evaluator, read
from stream.alert import SEVERITIES, Alert

NAMED_BY = {
    "quarter_end": {"cohort_rise", "cohort_shift"},
    "tool_rollout": {"rollout"},
    "role_change": {"new_type", "new_people"},
    "timezone_shift": {"moved_hours"},
    "new_hires": {"new_colleague", "new_agent"},
    "big_export": {"approval"},
}


def changes(s: LabelledSet, alerts: Sequence[Alert]) -> dict[str, dict[str, int]]:
    """Of each kind: agents changed, alerts that fall on it by severity, of those above low the ones that do not name it, and how many do."""
    listed = s.labels.with_name(f"{s.name}.benign.jsonl.gz")
    if not listed.exists():
        return {}
    seconds = evaluator(s.labels.parent.parent).seconds
    ambiguous = s.labels.with_name(f"{s.name}.ambiguous.jsonl.gz")
    labelled = {row["event_id"] for path in (s.labels, ambiguous) if path.exists() for row in read(path)}
    last: dict[str, Alert] = {a.alert_id: a for a in alerts}
    by_agent: dict[str, list[Alert]] = defaultdict(list)
    for a in last.values():
        if not labelled & {i for e in a.evidence for i in e.event_ids}:
            by_agent[a.agent_id].append(a)
    out: dict[str, Counter[str]] = defaultdict(Counter)
    for row in read(listed):
        told = out[row["what"]]
        told["agents"] += 1
        for a in by_agent[row["agent_id"]]:
            if seconds(a.first_event_time) > seconds(row["to"]) or seconds(a.last_event_time) < seconds(row["from"]):
                continue
            named = any(e.name in NAMED_BY.get(row["what"], ()) for e in a.evidence)
            told[a.severity] += 1
            told["named"] += named
            told["unnamed above low"] += not named and a.severity != SEVERITIES[0]
    return {what: dict(told) for what, told in out.items()}


def show_changes(results: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
    """One line for each kind, summed over the sets."""
    total: dict[str, Counter[str]] = defaultdict(Counter)
    for one in results.values():
        for what, told in one.items():
            total[what].update(told)
    if not total:
        return
    columns = ["agents", *reversed(SEVERITIES), "named", "unnamed above low"]
    rows: list[list[Any]] = [[what, *(told[c] for c in columns)] for what, told in sorted(total.items())]
    table(
        "Alerts on harmless changes, on their agents and in their days, all fleets; the goal is none above low that does not name it",
        ["change", *columns],
        rows,
    )
