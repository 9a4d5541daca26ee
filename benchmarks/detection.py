"""What is found: our scores and alerts on every labelled set, beside the peers on the same files in the same run.

Scores are judged by recall of incidents at 1, 5 and 20 false alerts a day, average precision (AP) and the mean of AP over kinds, and
cost what they cost: events a second on one thread, ours from bytes, the peers' from events decoded before. Alerts at the default
budget are judged by how many there are a day, how many are true, which incidents they tell and how soon. Then whether the threshold,
which follows the budget without labels, gives about as many alerts a day as asked for.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from benchmarks.changes import changes, show_changes
from benchmarks.peers import PEERS, PYSAD, scored
from benchmarks.report import cell, save, say, table, warn
from benchmarks.sets import (
    FLEETS,
    FLEETS_MEAN,
    GOALS,
    SHARED,
    SHORT_DAYS,
    LabelledSet,
    absent,
    alerting,
    judge,
    labelled_sets,
    lines,
    play,
    ranking,
    read,
    replay,
)
from stream.alert import decode_alert

RIVER = "HalfSpaceTrees"
RIVER_SETS = ("fleet-dev", "fleet-101", "agentdojo-workspace", "taubench-retail")
DEFAULT_BUDGET = 5.0
BUDGETS = (1.0, 3.0, DEFAULT_BUDGET, 20.0)
NUMBERS = ("recall_1", "recall_5", "recall_20", "ap", "mean_ap")
RATE = "events_per_second"


def detection(names: Iterable[str] = (), *, peers: bool = True) -> dict[str, Any] | None:
    """Print the tables of detection and calibration for these sets, or all; the numbers behind them."""
    why = absent()
    if why:
        warn(f"DETECTION NOT MEASURED: {why}")
        return None
    if peers and PYSAD not in PEERS:
        warn(f"{PYSAD} NOT MEASURED: pip install -c constraints.txt -e '.[bench]', or make bench")
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="strayline-benchmark-") as folder:
        for s in labelled_sets(names):
            begin = time.perf_counter()
            results[s.name] = _one_set(s, Path(folder), peers=peers)
            say(f"{s.name}: judged in {time.perf_counter() - begin:.0f} s")
    _show(results, peers=peers)
    save("detection", results)
    return results


def ours(s: LabelledSet, folder: Path, **settings: str) -> dict[str, Any]:
    """Our scores and alerts on a set, judged."""
    scores, alerts = folder / "scores.jsonl", folder / "alerts.jsonl"
    replay(s.events, s.settings | settings, scores, alerts)
    judged = judge(s, scores, alerts)
    told = [decode_alert(line) for line in lines(alerts)]
    out = ranking(judged) | {"alerts": alerting(judged), "changes": changes(s, told)}
    return out | nab(s, scores)


def alerts_at(s: LabelledSet, folder: Path, budget: float) -> dict[str, Any]:
    """Our alerts on a set at a budget, judged."""
    alerts = folder / "alerts.jsonl"
    replay(s.events, s.settings | {"STRAYLINE_ALERTS_PER_DAY": f"{budget:g}"}, None, alerts)
    return alerting(judge(s, alerts=alerts))


def verdict(name: str, numbers: Mapping[str, float]) -> str:
    """Whether recall reaches what the project has set itself for this set."""
    if name not in GOALS:
        return ""
    reached = [numbers[n] >= goal - 1e-9 for n, goal in zip(("recall_1", "recall_5"), GOALS[name], strict=True)]
    return "met" if all(reached) else "NOT MET"


def with_mean(results: Mapping[str, Any], of: Callable[[Any], Mapping[str, float]]) -> dict[str, Any]:
    """The numbers of each set and, behind the last of the fleets, their mean."""
    out: dict[str, Any] = {}
    for name, result in results.items():
        out[name] = of(result)
        if name == FLEETS[-1] and all(fleet in out for fleet in FLEETS):
            told = [n for n in (*NUMBERS, RATE) if n in out[name]]
            out[FLEETS_MEAN] = {n: sum(out[fleet][n] for fleet in FLEETS) / len(FLEETS) for n in told}
    return out


def over_the_best(numbers: Mapping[str, float], peers: Sequence[Mapping[str, float]]) -> list[str | None]:
    """Each of our numbers over that of the peer who is best at it; None where no peer has any."""
    out = []
    for n in (*NUMBERS, RATE):
        best = max(peer[n] for peer in peers)
        out.append(f"{numbers[n] / best:.1f} x" if best else None)
    return out


def _one_set(s: LabelledSet, folder: Path, *, peers: bool) -> dict[str, Any]:
    result: dict[str, Any] = {"warm_up_days": s.warm_up, "ours": ours(s, folder)}
    records = lines(s.events)
    result["ours"][RATE] = len(records) / play(records, s.settings).seconds
    if s.name in RIVER_SETS and peers:
        result[f"ours + {RIVER}"] = ours(s, folder, STRAYLINE_RIVER_DETECTOR=RIVER)
    at = {b: alerts_at(s, folder, b) for b in BUDGETS if b != DEFAULT_BUDGET} | {
        DEFAULT_BUDGET: result["ours"]["alerts"]
    }
    result["alerts_at"] = {f"{b:g}": at[b] for b in BUDGETS}
    if peers:
        events = read(s.events)
        for name, peer in PEERS.items():
            scored(peer(), events[:10])  # what is compiled on its first call is, before the clock runs
            begin = time.perf_counter()
            told = scored(peer(), events)
            seconds = time.perf_counter() - begin
            scores = folder / "peer.jsonl"
            scores.write_text("".join(json.dumps({"event_id": i, "score": x}) + "\n" for i, x in told))
            result[name] = ranking(judge(s, scores)) | {RATE: len(events) / seconds} | nab(s, scores)
    return result


def nab(s: LabelledSet, scores: Path) -> dict[str, dict[str, float]]:
    """By the rules of the Numenta Anomaly Benchmark, where a set comes from it; each profile with its own best threshold."""
    windows = s.events.with_name(f"{s.name}.windows.json")
    if not windows.exists():
        return {}
    command = [sys.executable, str(SHARED / "tools" / "nab_score.py"), str(scores), "--windows", str(windows)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    return {"nab": {name: told["score"] for name, told in json.loads(done.stdout)["profiles"].items()}}


def _show(results: Mapping[str, Any], *, peers: bool) -> None:
    names = list(PEERS) if peers else []
    mean = with_mean(results, itemgetter("ours"))
    beside = {peer: with_mean(results, itemgetter(peer)) for peer in names}
    rows: list[list[Any]] = []
    for name, numbers in mean.items():
        goal = "{:.2f}/{:.2f} ".format(*GOALS[name]) if name in GOALS else ""
        rows.append([f"{name}: ours", *_cells(numbers), goal + verdict(name, numbers)])
        rows += [[f"  {peer}", *_cells(beside[peer][name]), ""] for peer in names]
        if names:
            rows.append(["  ours / best peer", *over_the_best(numbers, [beside[peer][name] for peer in names]), ""])
    table(
        "Recall of incidents at 1, 5 and 20 false alerts a day; AP, and its mean over kinds; cost. Last, the goal for 1/5",
        ["set", "recall 1", "5", "20", "AP", "mean AP", "events/s", ""],
        rows,
    )
    if peers:
        _show_river(results)
    table(
        f"Alerts at the default budget, {DEFAULT_BUDGET:g} a day",
        [
            "set",
            "a day",
            "false",
            "precision",
            "recall",
            "median delay, min",
            "critical",
            "high",
            "medium",
            "low (true/all)",
        ],
        [[name, *_alert_cells(result["ours"]["alerts"])] for name, result in results.items()],
    )
    show_changes({name: result["ours"]["changes"] for name, result in results.items()})
    table(
        f"Alerts a day at each budget, and over the budget; the goal is .5 to 2; sets of over {SHORT_DAYS:g} days",
        ["set", *(f"{b:g}" for b in BUDGETS), *(f"x at {b:g}" for b in BUDGETS), ""],
        [_calibration(name, r["alerts_at"]) for name, r in results.items() if r["warm_up_days"]],
    )
    table(
        "What a budget buys: the share of alerts that are true / of incidents that one tells of",
        ["set", *(f"{b:g} a day" for b in BUDGETS)],
        [
            [name, *(f"{cell(a['precision'])}/{cell(a['recall'])}" for a in r["alerts_at"].values())]
            for name, r in results.items()
        ],
    )
    for name, result in results.items():
        scored_by = {who: result[who]["nab"] for who in ("ours", *names) if "nab" in result[who]}
        for who, profiles in scored_by.items():
            told = ", ".join(f"{profile} {value:.1f}" for profile, value in profiles.items())
            say(f"{name} by NAB's own rules, {who}: {told}")


def _show_river(results: Mapping[str, Any]) -> None:
    rows = []
    for name, result in results.items():
        if (on := result.get(f"ours + {RIVER}")) is not None:
            off = result["ours"]
            rows.append([name, *_three(off), *_three(on), *(f"{on[k] - off[k]:+.3f}" for k in NUMBERS)])
    table(
        f"What STRAYLINE_RIVER_DETECTOR={RIVER} is worth; `speed` prints what it costs",
        ["set", "off 1/5", "AP", "on 1/5", "AP", "change at 1", "5", "20", "of AP", "of mean AP"],
        rows,
    )


def _cells(numbers: Mapping[str, float]) -> list[Any]:
    rate = numbers.get(RATE)
    return [*(numbers[n] for n in NUMBERS), None if rate is None else f"{rate:,.0f}"]


def _three(numbers: Mapping[str, float]) -> list[Any]:
    return [f"{numbers['recall_1']:.2f}/{numbers['recall_5']:.2f}", numbers["ap"]]


def _alert_cells(a: Mapping[str, Any]) -> list[Any]:
    severity = [f"{true}/{of}" for true, of in a["severity"].values()]
    return [*(a[n] for n in ("alerts_per_day", "false_per_day", "precision", "recall", "delay_minutes")), *severity]


def _calibration(name: str, at: Mapping[str, Mapping[str, float]]) -> Sequence[Any]:
    rates = [at[f"{b:g}"]["alerts_per_day"] for b in BUDGETS]
    ratios = [rate / b for rate, b in zip(rates, BUDGETS, strict=True)]
    return [name, *rates, *ratios, "met" if all(0.5 <= r <= 2 for r in ratios) else "NOT MET"]
