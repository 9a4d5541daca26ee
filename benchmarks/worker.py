"""What one worker and two (`benchmarks.pair`) do with a topic, beside those who read the same topic: rates, CPU, latency, start-up.

Everything is measured on `strayline worker` as its operator starts it, on a real broker that shares the machine's cores with it. The readers
take turns with the worker and the best of each counts, since a shared machine only ever adds time; CPU time an event says the same
with less noise. `python -m benchmarks soak` holds a steady stream for longer than `make bench` should take.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.kafka import Broker, missing
from benchmarks.pace import latency, steady
from benchmarks.pair import pair_on
from benchmarks.readers import AIOKAFKA, FAUST, QUIX
from benchmarks.report import save, say, table, warn
from benchmarks.speed import BUSY
from benchmarks.traffic import Topics, Worker
from stream.engine import warm_up
from stream.settings import load

EVENTS, SOME = 900_000, 20_000  # the frameworks with River get the fewer: their rate does not depend on it
ROUNDS, STARTS = 3, 3
GOAL, START_GOAL = 0.2, 5.0
SECONDS = 30.0  # of the latency
MINUTES = 10.0  # of the soak
OURS = "strayline worker, alerts and baselines delivered"


class Run(NamedTuple):
    """One reader over the whole topic."""

    rate: float  # events a second
    cpu: float  # us an event
    resident: float = 0.0  # MiB at most


def worker() -> dict[str, Any]:
    """Print the tables; the numbers behind them."""
    lack = missing()
    if lack is not None:
        warn(f"WORKER NOT MEASURED: {lack}")
        return {}
    load_before, cpus = os.getloadavg()[0], os.cpu_count() or 1
    if load_before > BUSY * cpus:
        warn(
            f"OTHER WORK IS RUNNING (load {load_before:.1f} on {cpus} CPUs): read CPU time, or run again on a quiet machine"
        )
    warm_up(load({}))
    results: dict[str, Any] = {"load_before": load_before}
    with tempfile.TemporaryDirectory(prefix="strayline-benchmark-") as name, Broker() as broker:
        folder = Path(name)
        for partitions in (4, 1):
            results[f"full topic, {partitions}"] = _throughput(broker, folder, partitions)
        results["two workers"] = pair_on(broker, folder)
        results["start"] = _start(broker, folder)
        for partitions in (4, 1):
            results[f"latency, {partitions}"] = latency(broker, folder, partitions, SECONDS)
    save("worker", results)
    return results


def _throughput(broker: Broker, folder: Path, partitions: int) -> dict[str, Run]:
    """A topic that is full when they begin."""
    say(
        f"worker: {EVENTS:,} events on {partitions} partition{'s' * (partitions > 1)}, each reader in turn, {ROUNDS} rounds …"
    )
    runs: dict[str, list[Run]] = {}
    for turn in range(ROUNDS):
        topics = Topics(broker, partitions)
        topics.fill(EVENTS)
        runs.setdefault(AIOKAFKA, []).append(_reader(topics, AIOKAFKA, EVENTS))
        runs.setdefault(OURS, []).append(full_topic(topics, folder, f"full-{partitions}-{turn}"))
        if turn == 0 and partitions > 1:
            runs[FAUST] = [_reader(topics, FAUST, SOME)]
            if find_spec("quixstreams") is None:
                warn("QUIX STREAMS NOT MEASURED: it is not installed; `make bench` installs it")
            else:
                runs[QUIX] = [_reader(topics, QUIX, SOME)]
    best = {name: Run(max(r.rate for r in found), min(r.cpu for r in found), max(r.resident for r in found)) for name, found in runs.items()}  # fmt: skip
    yard = best[AIOKAFKA]
    rows = [
        [
            name,
            f"{run.rate:,.0f}",
            f"{run.rate / yard.rate:.1%}",
            ("met" if run.rate >= GOAL * yard.rate else "NOT MET") if name == OURS else "",
            run.cpu,
            f"{yard.cpu / run.cpu:.1%}",
            f"{run.resident:.0f}" if run.resident else None,
        ]
        for name, run in best.items()
    ]
    table(
        f"A full topic of {EVENTS:,} events, {partitions} partition{'s' * (partitions > 1)}, one process each; the goal is {GOAL:.0%} of bare aiokafka",
        ["", "events/s", "of aiokafka", "", "CPU us/event", "of aiokafka", "memory MiB"],
        rows,
    )
    return best


def _reader(topics: Topics, name: str, records: int) -> Run:
    command = [sys.executable, "-m", "benchmarks.readers", name, topics.bootstrap, str(records)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
    n, wall, cpu = json.loads(told.stdout.splitlines()[-1])
    return Run(n / wall, cpu / n * 1e6)


def full_topic(topics: Topics, folder: Path, group: str) -> Run:
    """One worker over all of it, from the moment that it has its partitions until the broker knows that all is done."""
    with Worker(topics.bootstrap, group, "one", folder) as one:
        one.until(lambda: len(one.said("partition ready")) == topics.partitions, pause=0.005)
        begin, cpu, most = one.said("partition ready")[-1], one.cpu(), 0.0

        def done() -> bool:
            nonlocal most
            most = max(most, one.resident())
            return topics.committed(group) >= EVENTS

        one.until(done, pause=0.05)
        seconds = time.time() - begin
        cpu = one.cpu() - cpu
        one.stop()
    return Run(EVENTS / seconds, cpu / EVENTS * 1e6, most)


def _start(broker: Broker, folder: Path) -> dict[str, float]:
    """From the process's start until the first events are scored, the compiled models in their cache."""
    say(f"worker: start-up, {STARTS} times …")
    topics = Topics(broker, 4)
    first, ready = [], []
    for _ in range(STARTS):
        topics.fill(1000)  # the same each time: repeated events are scored too
        with Worker(topics.bootstrap, "start", "one", folder) as one:
            one.until(lambda w=one: w.get("/readyz").startswith("partitions"))  # type: ignore[misc]
            ready.append(time.time() - one.began)
            one.until(lambda w=one: w.metric("strayline_events_total") > 0)  # type: ignore[misc]
            first.append(time.time() - one.began)
            one.stop()
    table(
        f"Start-up of the worker with a warm cache, best of {STARTS}; the goal is {START_GOAL:.0f} s to the first event scored",
        ["", "seconds", ""],
        [
            ["partitions assigned, baselines read", min(ready), ""],
            ["first event scored", min(first), "met" if min(first) <= START_GOAL else "NOT MET"],
        ],
    )
    return {"ready": min(ready), "first": min(first)}


def soak(minutes: float = MINUTES) -> None:
    """Print memory and lag of one worker over minutes of a steady stream."""
    lack = missing()
    if lack is not None:
        warn(f"NO SOAK: {lack}")
        return
    with tempfile.TemporaryDirectory(prefix="strayline-benchmark-") as name, Broker() as broker:
        save("soak", steady(broker, Path(name), 4, minutes))
