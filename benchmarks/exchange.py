"""What telling each other costs, by the number of partitions: CPU of each partition's giving and taking, and of reading what was given.

A large simulated fleet, a flush's worth of events at a time, through as many engines; no broker. A worker reads what was given once
(`stream.others`), and each of its partitions gives and takes. So what a worker pays goes with how many it holds; what one pays for taking, with
how much the others have to tell, and not with how many they are.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.report import say, table
from benchmarks.traffic import partition_of
from stream.codec import encode
from stream.cohorts import Cohorts, read
from stream.cohorts import warm_up as warm_up_cohorts
from stream.engine import Engine, warm_up
from stream.settings import load
from stream.simulate import simulate

PARTITIONS = (4, 16, 64)
AGENTS, DAYS = 640, 5
FLUSH_EVENTS = 2500  # half a second at 5,000 events/s
FLUSHES = 40
HELD = 4  # partitions of the worker that is reckoned with


def exchange() -> dict[str, dict[str, float]]:
    """Print the table; the numbers behind it."""
    say(f"partitions: {AGENTS} agents in {', '.join(map(str, PARTITIONS))} partitions, telling each other …")
    events = [(str(e["agent_id"]).encode(), encode(e)) for e in simulate(7, AGENTS, DAYS).events]
    settings = load({"STRAYLINE_DOMAINS": "northwind.example"})
    warm_up(settings)
    warm_up_cohorts(settings)
    results = {str(of): _cost(settings, events, of) for of in PARTITIONS}
    names = list(results[str(PARTITIONS[0])])
    table(
        f"What the exchange costs each flush of {FLUSH_EVENTS:,} events of {AGENTS} agents, CPU ms of one thread, by the number of partitions",
        ["", *map(str, PARTITIONS)],
        [[name, *(r[name] for r in results.values())] for name in names],
    )
    return results


def _cost(settings: Any, events: list[tuple[bytes, bytes]], of: int) -> dict[str, float]:
    engines = [Engine(settings) for _ in range(of)]
    cohorts = [Cohorts(engine, settings.alerts_per_day) for engine in engines]
    spent = {"score": 0.0, "give": 0.0, "read": 0.0, "take": 0.0}
    size = rows = 0

    def took(what: str, begin: float) -> float:
        now = time.process_time()
        spent[what] += now - begin
        return now

    for low in range(0, FLUSHES * FLUSH_EVENTS, FLUSH_EVENTS):
        parts: list[list[bytes]] = [[] for _ in range(of)]
        for agent, event in events[low : low + FLUSH_EVENTS]:
            parts[partition_of(agent, of)].append(event)
        at = time.process_time()
        for engine, part in zip(engines, parts, strict=True):
            if part:
                engine.score(engine.decode(part, range(len(part))))
        at = took("score", at)
        records = [c.give() for c in cohorts]
        at = took("give", at)
        given = [[x for r in some if (x := read(r.key, r.value)) is not None] for some in records]
        at = took("read", at)
        for p, c in enumerate(cohorts):
            c.take((q, 0, x) for q in range(of) if q != p for x in given[q])
        took("take", at)
        size += sum(len(r.value or b"") for some in records for r in some)
        rows += sum(x.x.rows for some in given for x in some if x.page < 0)
    each = {what: 1e3 * seconds / FLUSHES for what, seconds in spent.items()}
    held = min(HELD, of)
    return {
        "scoring, all partitions": each["score"],
        "giving, each partition": each["give"] / of,
        "reading what all gave, once a worker": each["read"],
        "taking it, each partition": each["take"] / of,
        f"a worker with {HELD} partitions": held * (each["give"] + each["take"]) / of + each["read"],
        "a worker with all of them": each["give"] + each["take"] + each["read"],
        "rows given": rows / FLUSHES,
        "kB given": size / FLUSHES / 1e3,
    }
