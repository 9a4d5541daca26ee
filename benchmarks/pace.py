"""A steady stream of events at a running worker: how long until an alert is read, and what memory and lag do over minutes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiokafka
import numpy as np

from benchmarks.kafka import Broker
from benchmarks.report import say, table, warn
from benchmarks.traffic import BATCH, Record, Topics, Worker, traffic
from stream.topics import ALERTS, EVENTS

RATE = 5_000  # events a second
SLICE = 0.01  # seconds between two sendings
MEDIAN_GOAL, TAIL_GOAL = 0.1, 1.0  # seconds
EVERY = 30.0  # seconds between two rows of the soak
LINGER = 5  # ms

Sent = dict[tuple[bytes, str], float]


class Paced(NamedTuple):
    """What came of a stream."""

    events: int
    seconds: float
    waits: list[float]  # of each alert that an event called for: from the event's sending to the alert's reading
    ended: int  # alerts that were said last when their episode was over: no event called for them


async def _send(bootstrap: str, records: Iterator[Record], rate: int, sent: Sent) -> tuple[int, float]:
    """Each at its time; how many, and in how many seconds."""
    n = 0
    async with aiokafka.AIOKafkaProducer(
        bootstrap_servers=bootstrap, compression_type="snappy", linger_ms=LINGER, max_batch_size=BATCH
    ) as producer:
        begin = time.perf_counter()
        for record in records:
            sent[record.key, record.time] = time.time()
            await producer.send(EVENTS, record.value, key=record.key)
            n += 1
            if n % int(rate * SLICE) == 0:
                await asyncio.sleep(max(0.0, begin + n / rate - time.perf_counter()))
        await producer.flush()
        return n, time.perf_counter() - begin


async def _watch(consumer: Any, sent: Sent, waits: list[float], ended: list[float]) -> None:
    while True:
        polled = await consumer.getmany(timeout_ms=1000)
        now = time.time()
        for record in (r for records in polled.values() for r in records):
            began = sent.get((record.key, json.loads(record.value)["time"]))
            (waits if began else ended).append(now - (began or now))


async def _paced(bootstrap: str, records: Iterator[Record], rate: int) -> Paced:
    sent: Sent = {}
    waits: list[float] = []
    ended: list[float] = []
    async with aiokafka.AIOKafkaConsumer(
        ALERTS, bootstrap_servers=bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    ) as consumer:
        watching = asyncio.create_task(_watch(consumer, sent, waits, ended))
        n, seconds = await _send(bootstrap, records, rate, sent)
        await asyncio.sleep(3.0)
        watching.cancel()
    return Paced(n, seconds, waits, len(ended))


def latency(broker: Broker, folder: Path, partitions: int, seconds: float, rate: int = RATE) -> dict[str, Any]:
    """Print how long alerts take at so many events a second with one worker."""
    topics = Topics(broker, partitions)
    records = iter(list(traffic(int(rate * seconds))))  # made before: the time is for sending
    with Worker(topics.bootstrap, "latency", "one", folder) as worker:
        worker.until_ready()
        cpu = worker.cpu()
        found = asyncio.run(_paced(topics.bootstrap, records, rate))
        cpu = (worker.cpu() - cpu) / found.seconds
        worker.stop()
    out: dict[str, Any] = {
        "rate": found.events / found.seconds,
        "alerts": len(found.waits),
        "ended": found.ended,
        "cpu": cpu,
    }
    if not found.waits:
        warn("NO ALERT WAS SAID: no latency was measured")
        return out
    out |= {f"p{q}": float(np.percentile(found.waits, q)) for q in (50, 90, 99, 100)}
    met = ["met" if out["p50"] <= MEDIAN_GOAL else "NOT MET", "met" if out["p99"] <= TAIL_GOAL else "NOT MET"]
    table(
        f"From the sending of an event to the reading of its alert, {out['rate']:,.0f} events/s, {partitions} partitions, one worker "
        f"({cpu:.0%} of a core), {len(found.waits)} alerts",
        ["", "seconds", "goal", ""],
        [
            ["half of them within", out["p50"], MEDIAN_GOAL, met[0]],
            ["nine tenths", out["p90"], None, ""],
            ["99 %", out["p99"], TAIL_GOAL, met[1]],
            ["all", out["p100"], None, ""],
        ],
    )
    return out


def steady(broker: Broker, folder: Path, partitions: int, minutes: float, rate: int = RATE) -> list[dict[str, float]]:
    """Print memory, lag and load of one worker over minutes of a steady stream."""
    topics = Topics(broker, partitions)
    rows: list[dict[str, float]] = []
    with Worker(topics.bootstrap, "soak", "one", folder) as worker:
        worker.until_ready()
        say(f"soak: {minutes:g} minutes at {rate:,} events/s")

        async def look() -> None:
            begin, before = time.perf_counter(), worker.cpu()
            while True:
                await asyncio.sleep(min(EVERY, minutes * 6))
                text = await asyncio.to_thread(worker.get, "/metrics")
                cpu, elapsed = worker.cpu(), time.perf_counter() - begin
                row = {
                    "minutes": elapsed / 60,
                    "events": worker.sum_of("strayline_events_total", text),
                    "rss_mib": worker.resident(),
                    "state_mib": worker.sum_of("strayline_state_bytes", text) / (1 << 20),
                    "lag": worker.sum_of("strayline_consumer_lag_records", text),
                    "cpu": (cpu - before) / (elapsed - (rows[-1]["minutes"] * 60 if rows else 0.0)),
                }
                before = cpu
                rows.append(row)
                say("  ".join(f"{name} {value:,.2f}" for name, value in row.items()))

        async def run() -> Paced:
            looking = asyncio.create_task(look())
            found = await _paced(topics.bootstrap, traffic(int(rate * minutes * 60)), rate)
            looking.cancel()
            return found

        found = asyncio.run(run())
        worker.stop()
    half = [row["rss_mib"] for row in rows if row["minutes"] > minutes / 2]
    table(
        f"{minutes:g} minutes at {found.events / found.seconds:,.0f} events/s",
        ["", "MiB"],
        [
            ["memory after the first row", rows[0]["rss_mib"]],
            ["at half time", half[0]],
            ["at the end", rows[-1]["rss_mib"]],
            ["most lag, events", max(row["lag"] for row in rows)],
        ],
    )  # fmt: skip
    return rows
