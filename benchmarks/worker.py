"""What one worker and two do with a topic, beside those who read the same topic: rates, CPU, latency, start-up.

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
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.kafka import Broker, missing
from benchmarks.pace import latency, steady
from benchmarks.readers import AIOKAFKA, FAUST, QUIX
from benchmarks.report import save, say, table, warn
from benchmarks.speed import BUSY
from benchmarks.traffic import Topics, Worker, drained, held, traffic
from stream.engine import warm_up
from stream.settings import load

EVENTS, SOME = 900_000, 20_000  # the frameworks with River get the fewer: their rate does not depend on it
ROUNDS, STARTS = 3, 3
GOAL, PAIR_GOAL, START_GOAL = 0.2, 1.7, 5.0
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
        results["two workers"] = _pair(broker, folder)
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


def _pair(broker: Broker, folder: Path) -> dict[str, Any]:
    """One worker on one core and two on two, ready before the topic is filled in one go: so both know their partitions when the work begins.

    Left to itself one worker uses a good core and a third, so on two cores two of them cannot be twice as fast.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        warn("TWO WORKERS NOT MEASURED: there is one core")
        return {}
    say(f"worker: one on one core and two on two, {EVENTS:,} events on 4 partitions, {ROUNDS} rounds …")
    rates: dict[int, list[Run]] = {1: [], 2: []}
    shares: list[int] = []
    for turn in range(ROUNDS):
        for count, runs in rates.items():
            topics, group = Topics(broker, 4), f"pair-{count}-{turn}"
            packed = topics.pack(traffic(EVENTS))
            shares = packed.shares
            with ExitStack() as stack:
                instances = ("one", "two")[:count]
                workers = [
                    stack.enter_context(Worker(topics.bootstrap, group, i, folder, core))
                    for core, i in zip(cores, instances, strict=False)
                ]
                shared = held(4, count)
                workers[0].until(lambda w=workers, s=shared: {one.get("/readyz") for one in w} == s)  # type: ignore[misc]
                begin, cpu = time.time(), sum(one.cpu() for one in workers)
                topics.pour(packed)
                del packed
                seconds = drained(topics, group, workers, EVENTS) - begin
                cpu = sum(one.cpu() for one in workers) - cpu
                for one in workers:
                    one.stop()
            runs.append(Run(EVENTS / seconds, cpu / EVENTS * 1e6))
    best = {count: Run(max(r.rate for r in runs), min(r.cpu for r in runs)) for count, runs in rates.items()}
    ratio, cost = best[2].rate / best[1].rate, best[2].cpu / best[1].cpu
    larger = max(shares[0] + shares[2], shares[1] + shares[3]) / EVENTS
    table(
        f"Two workers, each on a core of its own, of {len(cores)} that they share with the broker; the larger half of the events is {larger:.0%} of them",
        ["", "events/s", "ratio", "", "CPU us/event", "ratio"],
        [
            ["one worker", f"{best[1].rate:,.0f}", 1.0, "", best[1].cpu, 1.0],
            ["two", f"{best[2].rate:,.0f}", ratio, "met" if ratio >= PAIR_GOAL else "NOT MET", best[2].cpu, cost],
        ],
    )
    return {"best": best, "ratio": ratio, "cpu_ratio": cost, "larger_half": larger}


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
