"""What is found: our scores and alerts on every labelled set, beside the peers on the same files in the same run.

Scores are judged by recall of incidents at 1, 5 and 20 false alerts a day, average precision (AP) and the mean of AP over kinds;
alerts at the default budget by how many there are a day, how many are true and which incidents they tell. Then whether the
threshold, which follows the budget without labels, gives about as many alerts a day as asked for.
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

from benchmarks.peers import PEERS, scored
from benchmarks.report import save, say, table, warn
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
    ranking,
    read,
    replay,
)

RIVER = "HalfSpaceTrees"
RIVER_SETS = ("fleet-dev", "fleet-101", "agentdojo-workspace", "taubench-retail")
DEFAULT_BUDGET = 5.0
BUDGETS = (1.0, DEFAULT_BUDGET, 20.0)
NUMBERS = ("recall_1", "recall_5", "recall_20", "ap", "mean_ap")


def detection(names: Iterable[str] = (), *, peers: bool = True) -> dict[str, Any] | None:
    """Print the tables of detection and calibration for these sets, or all; the numbers behind them."""
    why = absent()
    if why:
        warn(f"DETECTION NOT MEASURED: {why}")
        return None
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
    out = ranking(judged) | {"alerts": alerting(judged)}
    return out | _nab(s, scores)


def alerts_per_day(s: LabelledSet, folder: Path, budget: float) -> float:
    """How many alerts a day a set gives at a budget."""
    alerts = folder / "alerts.jsonl"
    replay(s.events, s.settings | {"STRAYLINE_ALERTS_PER_DAY": f"{budget:g}"}, None, alerts)
    return float(alerting(judge(s, alerts=alerts))["alerts_per_day"])


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
            out[FLEETS_MEAN] = {n: sum(out[fleet][n] for fleet in FLEETS) / len(FLEETS) for n in NUMBERS}
    return out


def _one_set(s: LabelledSet, folder: Path, *, peers: bool) -> dict[str, Any]:
    result: dict[str, Any] = {"warm_up_days": s.warm_up, "ours": ours(s, folder)}
    if s.name in RIVER_SETS and peers:
        result[f"ours + {RIVER}"] = ours(s, folder, STRAYLINE_RIVER_DETECTOR=RIVER)
    calibration = {b: alerts_per_day(s, folder, b) for b in BUDGETS if b != DEFAULT_BUDGET}
    calibration[DEFAULT_BUDGET] = result["ours"]["alerts"]["alerts_per_day"]
    result["alerts_per_day_at"] = {f"{b:g}": calibration[b] for b in BUDGETS}
    if peers:
        events = read(s.events)
        for name, peer in PEERS.items():
            begin = time.perf_counter()
            lines = scored(peer(), events)
            seconds = time.perf_counter() - begin
            scores = folder / "peer.jsonl"
            scores.write_text("".join(json.dumps({"event_id": i, "score": x}) + "\n" for i, x in lines))
            result[name] = ranking(judge(s, scores)) | {"us_per_event": seconds / len(events) * 1e6}
            result[name] |= _nab(s, scores)
    return result


def _nab(s: LabelledSet, scores: Path) -> dict[str, dict[str, float]]:
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
    rows = []
    for name, numbers in mean.items():
        others = [beside[peer][name] for peer in names]
        best = max((o["ap"] for o in others), default=0.0)
        goal = "{:.2f}/{:.2f}".format(*GOALS[name]) if name in GOALS else None
        row = [name, goal, verdict(name, numbers), *_three(numbers)]
        for other in others:
            row += _three(other)
        rows.append([*row, f"{numbers['ap'] / best:.1f} x" if best else None])
    header = ["set", "goal 1/5", "", "ours 1/5", "AP"]
    for peer in names:
        header += [f"{peer} 1/5", "AP"]
    table(
        "Recall of incidents at 1 and 5 false alerts a day, and AP; last, our AP over that of the best peer",
        [*header, "AP ratio"],
        rows,
    )
    table(
        "Ours in full",
        ["set", "recall 1", "5", "20", "AP", "mean AP"],
        [[name, *(n[k] for k in NUMBERS)] for name, n in mean.items()],
    )
    if peers:
        _show_river(results)
    table(
        f"Alerts at the default budget, {DEFAULT_BUDGET:g} a day",
        ["set", "a day", "false", "precision", "recall", "critical", "high", "medium", "low (true/all)"],
        [[name, *_alert_cells(result["ours"]["alerts"])] for name, result in results.items()],
    )
    table(
        f"Alerts a day at a budget of 1, 5 and 20, and over the budget; the goal is .5 to 2; sets of over {SHORT_DAYS:g} days",
        ["set", *(f"{b:g}" for b in BUDGETS), *(f"x at {b:g}" for b in BUDGETS), ""],
        [_calibration(name, r["alerts_per_day_at"]) for name, r in results.items() if r["warm_up_days"]],
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


def _three(numbers: Mapping[str, float]) -> list[Any]:
    return [f"{numbers['recall_1']:.2f}/{numbers['recall_5']:.2f}", numbers["ap"]]


def _alert_cells(a: Mapping[str, Any]) -> list[Any]:
    severity = [f"{true}/{of}" for true, of in a["severity"].values()]
    return [a["alerts_per_day"], a["false_per_day"], a["precision"], a["recall"], *severity]


def _calibration(name: str, at: Mapping[str, float]) -> Sequence[Any]:
    ratios = [at[f"{b:g}"] / b for b in BUDGETS]
    return [name, *at.values(), *ratios, "met" if all(0.5 <= r <= 2 for r in ratios) else "NOT MET"]
