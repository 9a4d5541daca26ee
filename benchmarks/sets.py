"""The labelled sets of the shared data folder: where they are, under which settings they run, and how a score on them is judged.

The folder is `../shared` beside the checkout, or where the environment variable SHARED says. It is no part of the project: without
it detection is not measured, and that is said. Judging is done by the folder's own `tools/evaluate.py`, so that ours, the
peers' and anybody's numbers come from the same program.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from stream.alert import Alert
from stream.demo import HOME
from stream.engine import Engine, warm_up
from stream.settings import PREFIX, load
from stream.simulate import lines as simulated_lines
from stream.simulate import simulate

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("SHARED") or ROOT.parent / "shared")
WARM_UP_DAYS = 3.0
BATCH = 4096
SHORT_DAYS = 6.0  # a set no longer than this would lose half of itself, or all, to the warm-up
FLEETS = ("fleet-dev", "fleet-101", "fleet-102", "fleet-103", "fleet-104")
FLEETS_MEAN = "mean of the five fleets"
# Recall of incidents at 1 and at 5 false alerts a day that the project has set itself.
GOALS = {
    FLEETS_MEAN: (0.85, 0.95),
    "agentdojo-workspace": (0.88, 0.96),
    "agentdojo-banking": (0.88, 0.96),
    "taubench-retail": (0.85, 0.96),
    "collegemsg-recipients": (0.65, 0.85),
}
ORDER = (*FLEETS, *list(GOALS)[1:])


class LabelledSet(NamedTuple):
    """Events with labels, and the two settings that a deployment would know: its ladder and its domains."""

    name: str
    events: Path
    labels: Path
    settings: dict[str, str]
    warm_up: float  # days left out of the judgement


def absent(shared: Path = SHARED) -> str | None:
    """Why detection cannot be measured here, as a sentence; None where it can."""
    for path in (shared / "tools" / "evaluate.py", shared / "data"):
        if not path.exists():
            return f"there is no {path}; the environment variable SHARED says where the shared folder is"
    return None if any((shared / "data").glob("*.labels.jsonl.gz")) else f"no labelled set in {shared / 'data'}"


def labelled_sets(names: Iterable[str] = (), shared: Path = SHARED) -> list[LabelledSet]:
    """The sets of these names, or all; those with a goal first."""
    found = {path.name.removesuffix(".labels.jsonl.gz") for path in (shared / "data").glob("*.labels.jsonl.gz")}
    wanted = found & set(names) if names else found
    known = [name for name in ORDER if name in wanted]
    return [_labelled_set(shared / "data", name) for name in [*known, *sorted(wanted - set(known))]]


def _labelled_set(folder: Path, name: str) -> LabelledSet:
    meta = folder / f"{name}.meta.json"
    known = json.loads(meta.read_text()) if meta.exists() else {}
    settings = {}
    if known.get("ladder"):
        settings["STRAYLINE_CLASSIFICATIONS"] = ",".join(known["ladder"])
    if known.get("company"):
        settings["STRAYLINE_DOMAINS"] = known["company"]
    events = folder / f"{name}.events.jsonl.gz"
    seconds = evaluator(folder.parent).seconds
    times = [seconds(event["time"]) for event in read(events)]
    warm_up = WARM_UP_DAYS if max(times) - min(times) > SHORT_DAYS * 86400 else 0.0
    return LabelledSet(name, events, folder / f"{name}.labels.jsonl.gz", settings, warm_up)


def demo_set(seed: int, folder: Path) -> LabelledSet:
    """The fleet of `strayline demo` under a seed, written under `folder`: incidents are labelled, their harmless changes are not."""
    simulation = simulate(seed)
    events, labels = folder / f"demo-{seed}.events.jsonl", folder / f"demo-{seed}.labels.jsonl"
    events.write_bytes(b"".join(simulated_lines(simulation)))
    labels.write_text(
        "".join(
            json.dumps({"event_id": i, "incident_id": planted.incident_id, "kind": planted.kind}) + "\n"
            for planted in simulation.incidents
            for i in planted.event_ids
        )
    )
    return LabelledSet(f"demo-{seed}", events, labels, {"STRAYLINE_DOMAINS": HOME}, WARM_UP_DAYS)


def lines(path: Path) -> list[bytes]:
    """The lines of a file, compressed or not."""
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()


def read(path: Path) -> list[dict[str, Any]]:
    """The values of a file of JSON Lines, compressed or not."""
    return [json.loads(line) for line in lines(path)]


@cache
def evaluator(shared: Path = SHARED) -> Any:
    """The module `tools/evaluate.py`; the events of the last sets stay parsed, since a dozen scores are judged on each."""
    spec = importlib.util.spec_from_file_location("strayline_evaluate", shared / "tools" / "evaluate.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{shared / 'tools' / 'evaluate.py'} is not a Python file")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.Bench = lru_cache(maxsize=16)(module.Bench)
    return module


def judge(
    s: LabelledSet, scores: Path | None = None, alerts: Path | None = None, shared: Path = SHARED
) -> dict[str, Any]:
    """What the evaluator says of a file of scores, of alerts, or of both."""
    judged: dict[str, Any] = evaluator(shared).evaluate(s.events, s.labels, scores, alerts, None, s.warm_up)
    return judged


def ranking(judged: Mapping[str, Any]) -> dict[str, float]:
    """Of a judgement of scores: recall at each budget of false alerts a day, AP, and the mean AP over kinds."""
    out = {f"recall_{b['false_alerts_per_day_allowed']:g}": b["incident_recall"] for b in judged["budgets"]}
    rank = judged["ranking"]
    return out | {"ap": rank["average_precision"], "mean_ap": rank["macro_average_precision"]}


def alerting(judged: Mapping[str, Any]) -> dict[str, Any]:
    """Of a judgement of alerts: how many a day, what share is true, what share of incidents they tell and how soon, true/all by severity."""
    a = judged["alerts"]
    severity = {k: a["per_severity"].get(k, [0, 0]) for k in ("critical", "high", "medium", "low")}
    return {
        "alerts_per_day": a["alerts_per_day"],
        "false_per_day": a["false_alerts_per_day"],
        "precision": a["precision"],
        "recall": a["incident_recall"],
        "delay_minutes": a["delay_minutes_median"],
        "severity": severity,
    }


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The process's environment with these settings and no others of ours."""
    return {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)} | dict(settings)


def replay(
    events: Path,
    settings: Mapping[str, str],
    scores: Path | None,
    alerts: Path | None,
    where: Path = ROOT,
) -> None:
    """`strayline replay` of the code at `where`, in a process of its own; `settings` go into its environment.

    Raises `RuntimeError` with what it said if it fails.
    """
    command = [sys.executable, "-m", "stream", "replay", str(events)]
    command += ["--scores", str(scores)] if scores else []
    command += ["--alerts", str(alerts)] if alerts else []
    done = subprocess.run(command, cwd=where, env=environment(settings), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()}")


class Played(NamedTuple):
    """An engine after some records, what it said of them, and the seconds it took to decode, score and tell."""

    engine: Engine
    scores: list[float]
    alerts: list[Alert]
    seconds: float


def play(records: Sequence[bytes], settings: Mapping[str, str]) -> Played:
    """Records through an engine in this process, on one thread."""
    engine = Engine(load(settings))
    warm_up(engine.settings)
    scores: list[float] = []
    alerts: list[Alert] = []
    begin = time.perf_counter()
    for i in range(0, len(records), BATCH):
        part = records[i : i + BATCH]
        done = engine.score(engine.decode(part, range(i, i + len(part))))
        scores += done.score.tolist()
        alerts += done.alerts
    return Played(engine, scores, alerts, time.perf_counter() - begin)
