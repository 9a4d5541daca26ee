"""One worker on many partitions beside the same worker on few: what a partition costs. `docs/scaling.md` reckons with the numbers.

A partition is the unit that is shared out, so a fleet that should grow needs more of them than workers; each has baselines, a transactional
producer, a consumer of verdicts and a threshold of its own.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.kafka import Broker, missing
from benchmarks.pace import latency
from benchmarks.report import save, say, table, warn
from benchmarks.traffic import Topics, Worker, held
from benchmarks.worker import EVENTS, full_topic
from stream.engine import warm_up
from stream.settings import load

PARTITIONS = (4, 64)
SECONDS = 20.0  # of the latency


def scale() -> dict[str, Any]:
    """Print the table; the numbers behind it."""
    lack = missing()
    if lack is not None:
        warn(f"SCALE NOT MEASURED: {lack}")
        return {}
    warm_up(load({}))
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="strayline-benchmark-") as name, Broker() as broker:
        for partitions in PARTITIONS:
            say(f"scale: {partitions} partitions …")
            results[str(partitions)] = _measured(broker, Path(name), partitions)
    few, many = (results[str(partitions)] for partitions in PARTITIONS)
    table(
        "One worker, by the number of partitions that it holds",
        ["", *map(str, PARTITIONS), "ratio"],
        [[what, few[what], many[what], f"{many[what] / few[what]:.2f} x"] for what in few],
    )
    save("scale", results)
    return results


def _measured(broker: Broker, folder: Path, partitions: int) -> dict[str, float]:
    topics, group = Topics(broker, partitions), f"scale-{partitions}"
    with Worker(topics.bootstrap, group, "one", folder) as worker:
        worker.until_ready()
        out = {"start, nothing stored, s": time.time() - worker.began, "memory with no agent, MiB": worker.resident()}
        worker.stop()
    topics.fill(EVENTS)
    run = full_topic(topics, folder, group)
    out |= {"full topic, events/s": run.rate, "CPU, us an event": run.cpu, "memory at most, MiB": run.resident}
    out |= _restarted(topics, folder, group)
    found = latency(broker, folder, partitions, SECONDS)
    if "p50" in found:
        out |= {"event to alert, p50 s": found["p50"], "event to alert, p99 s": found["p99"]}
    return out | {"CPU at 5,000 events/s, cores": found["cpu"]}


def _restarted(topics: Topics, folder: Path, group: str) -> dict[str, float]:
    """Killed and started again: its baselines are there to be read. Then another joins and half of the partitions go to it."""
    with Worker(topics.bootstrap, group, "one", folder) as worker:
        worker.until_ready()
        worker.process.kill()
    with Worker(topics.bootstrap, group, "one", folder) as worker:
        worker.until_ready()
        out = {"restart after kill -9, s": time.time() - worker.began}
        with Worker(topics.bootstrap, group, "two", folder) as two:
            two.until(lambda: {one.get("/readyz") for one in (worker, two)} == held(topics.partitions, 2))
            out["a second worker joins, both ready, s"] = time.time() - two.began
            two.stop()
        worker.stop()
    return out
