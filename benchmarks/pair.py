"""Two workers beside one, each on a core of its own, and what two bare consumers reach in the same run: `python -m benchmarks pair`.

Everybody is ready before the topic is full, and stands still while it is filled: so producing takes nothing from those who are measured. The broker
does: it shares the cores, and what it needs for each event two workers have less than one. So beside the goal stands what the cores allow: no
faster than all CPU time over two cores, and no faster than the larger half of the events over one.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import aiokafka
from aiokafka.structs import TopicPartition

from benchmarks.kafka import Broker, missing
from benchmarks.report import save, say, table, warn
from benchmarks.traffic import Packed, Topics, Worker, busy_cpu, cpu_of, drained, held, traffic
from stream.engine import warm_up
from stream.settings import load
from stream.topics import EVENTS as TOPIC

EVENTS, ROUNDS, PARTITIONS = 1_800_000, 2, 4  # so many that the last delivery, half a second, counts little
SESSION = "60"  # seconds: who stands still must not lose its partitions
GOAL = 1.7
OURS, BARE = "strayline worker", "aiokafka getmany"


class Run(NamedTuple):
    """One or two over the whole topic."""

    rate: float  # events a second
    cpu: float  # us an event, of all of them together
    broker: float  # the same of the broker
    busy: float  # cores that others had meanwhile


def pair() -> dict[str, Any]:
    """Print the table; the numbers behind it."""
    lack = missing()
    if lack is not None:
        warn(f"TWO WORKERS NOT MEASURED: {lack}")
        return {}
    warm_up(load({}))
    with tempfile.TemporaryDirectory(prefix="strayline-benchmark-") as name, Broker() as broker:
        results = pair_on(broker, Path(name))
    save("pair", results)
    return results


def pair_on(broker: Broker, folder: Path) -> dict[str, Any]:
    """The same on a broker that runs."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        warn("TWO WORKERS NOT MEASURED: there is one core")
        return {}
    say(f"worker: one on one core and two on two, {EVENTS:,} events on {PARTITIONS} partitions, {ROUNDS} rounds …")
    runs: dict[tuple[str, int], list[Run]] = {}
    larger = 0.0
    for turn in range(ROUNDS):
        for count in (1, 2):
            topics = Topics(broker, PARTITIONS)
            packed = topics.pack(traffic(EVENTS))
            larger = max(sum(packed.shares[n::count]) for n in range(count)) / EVENTS
            ours = _workers(broker, topics, packed, folder, f"pair-{count}-{turn}", cores[:count])
            runs.setdefault((OURS, count), []).append(ours)
            runs.setdefault((BARE, count), []).append(_bare(broker, topics, cores[:count]))
    return _told(runs, larger)


def _workers(broker: Broker, topics: Topics, packed: Packed, folder: Path, group: str, cores: list[int]) -> Run:
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                Worker(topics.bootstrap, group, f"w{core}", folder, core, STRAYLINE_SESSION_SECONDS=SESSION)
            )
            for core in cores
        ]
        shared = held(PARTITIONS, len(cores))
        workers[0].until(lambda: {one.get("/readyz") for one in workers} == shared)
        for one in workers:
            one.process.send_signal(signal.SIGSTOP)
        topics.pour(packed)
        before, brokers, busy = sum(one.cpu() for one in workers), cpu_of(broker.pid), busy_cpu()
        begin = time.time()
        for one in workers:
            one.process.send_signal(signal.SIGCONT)
        seconds = drained(topics, group, workers, EVENTS) - begin
        cpu, brokers, busy = (
            sum(one.cpu() for one in workers) - before,
            cpu_of(broker.pid) - brokers,
            busy_cpu() - busy,
        )
        for one in workers:
            one.stop()
    return _run(EVENTS, seconds, cpu, brokers, busy)


def _bare(broker: Broker, topics: Topics, cores: list[int]) -> Run:
    """As many plain consumers over the same topic, which share the partitions as the workers do."""
    command = [sys.executable, "-m", "benchmarks.pair", topics.bootstrap]
    with ExitStack() as stack:
        readers = []
        for n, core in enumerate(cores):
            own = ",".join(map(str, range(n, PARTITIONS, len(cores))))
            reader = stack.enter_context(
                subprocess.Popen([*command, own], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            os.sched_setaffinity(reader.pid, {core})
            readers.append(reader)
        for reader in readers:
            _line(reader)  # it is ready
        begin, brokers, busy = time.time(), cpu_of(broker.pid), busy_cpu()
        for reader in readers:
            _go(reader)
        told = [json.loads(_line(reader)) for reader in readers]
        seconds, brokers, busy = time.time() - begin, cpu_of(broker.pid) - brokers, busy_cpu() - busy
    return _run(sum(n for n, _ in told), seconds, sum(cpu for _, cpu in told), brokers, busy)


def _run(events: int, seconds: float, cpu: float, brokers: float, busy: float) -> Run:
    others = max(0.0, busy - cpu - brokers) / seconds
    return Run(events / seconds, cpu / events * 1e6, brokers / events * 1e6, others)


def _line(reader: subprocess.Popen[str]) -> str:
    line = reader.stdout.readline() if reader.stdout is not None else ""
    if not line:
        raise RuntimeError(f"a plain consumer ended with status {reader.wait()}")
    return line


def _go(reader: subprocess.Popen[str]) -> None:
    if reader.stdin is not None:
        reader.stdin.write("\n")
        reader.stdin.flush()


def _told(runs: dict[tuple[str, int], list[Run]], larger: float) -> dict[str, Any]:
    best = {key: max(some, key=lambda run: run.rate) for key, some in runs.items()}
    ratios = {name: best[name, 2].rate / best[name, 1].rate for name in (OURS, BARE)}
    allowed = {}
    for name in (OURS, BARE):
        alone, two = 1e6 / best[name, 1].rate, best[name, 2]
        allowed[name] = alone / max((two.cpu + two.broker) / 2, larger * alone)
    rows = [
        [
            f"{'one' if count == 1 else 'two'}: {name}",
            f"{run.rate:,.0f}",
            ratios[name] if count == 2 else 1.0,
            allowed[name] if count == 2 else None,
            ("met" if ratios[name] >= GOAL else "NOT MET") if (name, count) == (OURS, 2) else "",
            run.cpu,
            run.broker,
            run.busy,
        ]
        for (name, count), run in best.items()
    ]
    table(
        f"Two on two cores, which the broker shares, beside one on one; the larger half of the events is {larger:.0%} of them; the goal is {GOAL} times",
        ["", "events/s", "ratio", "cores allow", "", "CPU us/event", "broker's", "cores of others"],
        rows,
    )
    return {f"{name}, {count}": run for (name, count), run in best.items()} | {
        "ratio": ratios[OURS],
        "bare_ratio": ratios[BARE],
        "allowed": allowed[OURS],
        "larger_half": larger,
    }


async def _read(bootstrap: str, partitions: list[int]) -> tuple[int, float]:
    """Plain `getmany` of some partitions to their ends; records, and CPU seconds."""
    async with aiokafka.AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
        max_poll_records=4000,
    ) as consumer:
        places = [TopicPartition(TOPIC, n) for n in partitions]
        goal = sum((await consumer.end_offsets(places)).values())
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        seen, cpu = 0, time.process_time()
        consumer.assign(places)
        while seen < goal:
            seen += sum(map(len, (await consumer.getmany(timeout_ms=1000)).values()))
        return seen, time.process_time() - cpu


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_read(sys.argv[1], [int(n) for n in sys.argv[2].split(",")]))), flush=True)
