"""What a fleet loses when its events are in several partitions, and what exchanging cohort knowledge gives back (`models.exchange`).

A fleet's events are split by the murmur2 of their key, as a Kafka producer would, and played in event-time order: by one engine (*single*); by an
engine for each partition that knows of no other and has its share of the alert budget (*split*); and by the same engines that give and take
what a worker would write to `agent.access.cohorts`, after each window of event time (*exchanged*). Scores and alerts of all partitions together
are judged as one. Then the same once for real: as many partitions, two worker processes, a real broker, fed a window at a time; workers
write no scores, so their alerts are judged. Last, what the exchange costs (`benchmarks.exchange`).
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import aiokafka
from aiokafka.structs import TopicPartition

from benchmarks.exchange import exchange
from benchmarks.kafka import Broker, missing
from benchmarks.report import save, say, table, warn
from benchmarks.sets import (
    FLEETS,
    FLEETS_MEAN,
    LabelledSet,
    absent,
    alerting,
    evaluator,
    judge,
    labelled_sets,
    lines,
    ranking,
)
from benchmarks.traffic import Topics, Worker, held, partition_of
from stream.baselines import Record
from stream.codec import encode_lines
from stream.cohorts import Cohorts, read
from stream.engine import Engine, warm_up
from stream.settings import Settings, load
from stream.topics import ALERTS, COHORTS, EVENTS

PARTITIONS = 4
WORKERS = 2
GROUP = "partitions"
WINDOW = 900.0  # seconds of event time from exchange to exchange
KAFKA_WINDOW = 6 * 3600.0
SET = "fleet-dev"  # the one that is played on Kafka
WITHIN = 0.03  # of recall: the goal
NUMBERS = ("recall_1", "recall_5", "recall_20", "ap", "mean_ap")
ALERTS_OF = ("alerts_per_day", "precision", "recall")


class Played(NamedTuple):
    """What engines said of a fleet, and what the exchange between them came to."""

    scores: bytes
    alerts: bytes
    events: int
    records: int = 0
    bytes: int = 0
    seconds: float = 0.0  # of CPU time for giving and taking, all engines together


def partitions(names: Iterable[str] = ()) -> dict[str, Any] | None:
    """Print the tables; the numbers behind them."""
    why = absent()
    if why:
        warn(f"PARTITIONS NOT MEASURED: {why}")
        return None
    results: dict[str, Any] = {}
    costs: dict[str, Any] = {}
    for s in labelled_sets(list(names) or FLEETS):
        results[s.name] = {}
        for how, played in (
            ("single", play(s, 1)),
            ("split", play(s, PARTITIONS, exchanged=False)),
            ("exchanged", last := play(s, PARTITIONS)),
        ):
            results[s.name][how] = _judged(s, played.alerts, played.scores)
        costs[s.name] = {
            "bytes_per_event": last.bytes / last.events,
            "us_per_event": 1e6 * last.seconds / last.events,
            "records": last.records,
        }
    kafka = _on_kafka(results)
    _show(results, costs)
    save("partitions", {"results": results, "costs": costs, "kafka": kafka, "by_partitions": exchange()})
    return results


def windows(records: Sequence[bytes], of: int, seconds: float) -> Iterator[list[list[bytes]]]:
    """The records of each window of event time, by partition."""
    when = evaluator().seconds
    out: list[list[bytes]] = [[] for _ in range(of)]
    begin = None
    for record in records:
        event = json.loads(record)
        at = when(event["time"]) // seconds
        if begin is not None and at > begin:
            yield out
            out = [[] for _ in range(of)]
        begin = at if begin is None else max(at, begin)
        out[partition_of(event["agent_id"].encode(), of)].append(record)
    yield out


def play(s: LabelledSet, of: int, *, exchanged: bool = True, window: float = WINDOW) -> Played:
    """A set through as many engines; with `exchanged` they tell each other after each window, through the bytes that go to Kafka."""
    settings: Settings = load(s.settings)
    warm_up(settings)
    budget = settings.alerts_per_day
    share = settings if exchanged else replace(settings, alerts_per_day=budget / of)
    engines = [Engine(share) for _ in range(of)]
    cohorts = [Cohorts(engine, budget) for engine in engines] if exchanged and of > 1 else []
    records = lines(s.events)
    scores: list[bytes] = []
    alerts: list[bytes] = []
    sent = size = 0
    seconds = 0.0
    for parts in windows(records, of, window):
        for engine, part in zip(engines, parts, strict=True):
            if part:
                done = engine.score(engine.decode(part, range(len(part))))
                scores.append(done.lines())
                alerts.append(encode_lines(done.alerts))
        begin = time.process_time()
        given = [c.give() for c in cohorts]
        for q, theirs in enumerate(given):
            sent, size = sent + len(theirs), size + sum(len(r.value or b"") for r in theirs)
            for p, c in enumerate(cohorts):
                if p != q:
                    c.take((q, 0, x) for x in map(_read, theirs) if x is not None)
        seconds += time.process_time() - begin
    return Played(b"".join(scores), b"".join(alerts), len(records), sent, size, seconds)


def _read(record: Record) -> Any:
    return read(record.key, record.value)


def on_kafka(s: LabelledSet, folder: Path) -> tuple[bytes, dict[str, float]]:
    """The alerts of two worker processes over a real broker, and what the exchange came to; a window of events at a time."""
    with Broker() as broker, ExitStack() as stack:
        topics = Topics(broker, PARTITIONS)
        workers = [
            stack.enter_context(Worker(topics.bootstrap, GROUP, f"w{n}", folder, None, **s.settings))
            for n in range(WORKERS)
        ]
        workers[0].until(lambda: {one.get("/readyz") for one in workers} == held(PARTITIONS, WORKERS))
        begin = time.perf_counter()
        asyncio.run(_feed(topics, s, workers[0]))
        wall = time.perf_counter() - begin
        size = sum(one.metric("strayline_cohorts_bytes_total") for one in workers)
        changelog = sum(one.metric("strayline_changelog_bytes_total") for one in workers)
        for one in workers:
            one.stop()
        alerts = asyncio.run(_read_all(topics.bootstrap, ALERTS))
        records = len(asyncio.run(_read_all(topics.bootstrap, COHORTS)))
    told = {"cohorts_bytes": size, "changelog_bytes": changelog, "records": records, "seconds": wall}
    return b"".join(a + b"\n" for a in alerts), told


def _on_kafka(results: dict[str, Any]) -> dict[str, float] | None:
    lack = missing()
    if lack is not None or SET not in results:
        warn(f"WORKERS NOT MEASURED: {lack or f'{SET} was not asked for'}")
        return None
    (s,) = labelled_sets([SET])
    say(f"partitions: {SET} on a real broker, {PARTITIONS} partitions, {WORKERS} workers …")
    with tempfile.TemporaryDirectory(prefix="strayline-benchmark-") as folder:
        alerts, told = on_kafka(s, Path(folder))
    results[SET][f"{WORKERS} workers"] = _judged(s, alerts)
    return told


def _judged(s: LabelledSet, alerts: bytes, scores: bytes | None = None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="strayline-benchmark-") as name:
        folder = Path(name)
        (folder / "alerts.jsonl").write_bytes(alerts)
        if scores is not None:
            (folder / "scores.jsonl").write_bytes(scores)
        judged = judge(s, folder / "scores.jsonl" if scores is not None else None, folder / "alerts.jsonl")
    return (ranking(judged) if scores is not None else {}) | {n: alerting(judged)[n] for n in ALERTS_OF}


async def _feed(topics: Topics, s: LabelledSet, worker: Worker) -> None:
    """Each window once the one before it is scored and committed: as in real time, no partition is far ahead of another."""
    produced = [0] * PARTITIONS
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=topics.bootstrap, linger_ms=2) as producer:
        for parts in windows(lines(s.events), PARTITIONS, KAFKA_WINDOW):
            sent = []
            for number, part in enumerate(parts):
                produced[number] += len(part)
                for record in part:
                    key = json.loads(record)["agent_id"].encode()
                    sent.append(await producer.send(EVENTS, record, key=key))
            for done in await asyncio.gather(*sent):
                if done.offset >= produced[done.partition]:
                    raise RuntimeError("the producer's partitioner is not ours")
            worker.until(lambda: topics.committed(GROUP) == sum(produced))


async def _read_all(bootstrap: str, topic: str) -> list[bytes]:
    out: list[bytes] = []
    async with aiokafka.AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    ) as consumer:
        places = [TopicPartition(topic, n) for n in range(PARTITIONS)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for found in (await consumer.getmany(timeout_ms=200)).values():
                out += [r.value for r in found]
    return out


def _show(results: dict[str, Any], costs: dict[str, Any]) -> None:
    mean: dict[str, dict[str, float]] = defaultdict(dict)
    if all(fleet in results for fleet in FLEETS):
        for how in ("single", "split", "exchanged"):
            for n in (*NUMBERS, *ALERTS_OF):
                mean[how][n] = sum(results[fleet][how][n] for fleet in FLEETS) / len(FLEETS)
        results[FLEETS_MEAN] = dict(mean)
    rows: list[list[Any]] = []
    for name, by in results.items():
        for how, numbers in by.items():
            found = [numbers.get(n) for n in (*NUMBERS, *ALERTS_OF)]
            rows.append([f"{name}: {how}", *found, _goal(name, how, numbers, by["single"])])
    table(
        f"{PARTITIONS} partitions: recall of incidents at 1, 5 and 20 false alerts a day, AP; alerts at the default budget. The goal: within "
        f"{100 * WITHIN:.0f} points of the recall of a single process",
        ["set", "recall 1", "5", "20", "AP", "mean AP", "alerts a day", "precision", "recall", ""],
        rows,
    )
    table(
        f"What the exchange costs, all {PARTITIONS} engines together, every {WINDOW / 60:.0f} minutes of event time",
        ["set", "bytes an event", "CPU us an event", "records"],
        [[name, c["bytes_per_event"], c["us_per_event"], c["records"]] for name, c in costs.items()],
    )


def _goal(name: str, how: str, numbers: dict[str, float], single: dict[str, float]) -> str:
    if how in ("single", "split") or name not in (SET, FLEETS_MEAN):
        return ""
    told = ("recall_1", "recall_5") if "recall_1" in numbers else ("recall",)
    return "met" if all(numbers[n] >= single[n] - WITHIN - 1e-9 for n in told) else "NOT MET"
