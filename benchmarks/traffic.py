"""A fleet's events on a real topic: weeks repeated as often as asked for, and `strayline worker` as a process beside it.

Each repetition goes on where the last one ended: times move by whole weeks, event and session ids are new. So the fleet ages as a fleet
does, however many events are asked for.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

import aiokafka
from aiokafka.partitioner import DefaultPartitioner
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from benchmarks.kafka import Broker, free_port
from benchmarks.report import warn
from benchmarks.sets import ROOT, environment
from benchmarks.speed import events
from stream.alert import rfc3339
from stream.codec import encode
from stream.settings import load
from stream.topics import EVENTS, TOPICS, ensure_topics

WEEK = timedelta(weeks=1)
DEADLINE = 600.0
BATCH = 1 << 17  # bytes of a record batch before compression
_partition = DefaultPartitioner()


class Record(NamedTuple):
    """One event for the topic."""

    key: bytes
    value: bytes
    time: str  # the event's own, to the millisecond


def traffic(count: int) -> Iterator[Record]:
    """As many events as asked for, in the order of their times."""
    plain = [json.loads(line) for line in events().splitlines()]
    times = [datetime.fromisoformat(event["time"]) for event in plain]
    length = (max(times) - min(times)) // WEEK * WEEK + WEEK
    for n in range(count):
        turn, i = divmod(n, len(plain))
        event: dict[str, Any] = plain[i] | {"event_id": f"{plain[i]['event_id']}-{turn}"}
        event["time"] = rfc3339((times[i] + turn * length).timestamp())
        if "session_id" in event:
            event["session_id"] += f"-{turn}"
        yield Record(event["agent_id"].encode(), encode(event), event["time"])


def partition_of(key: bytes, of: int) -> int:
    """Where a producer puts a key, of so many partitions."""
    every = range(of)
    return int(_partition(key, every, every))


def held(partitions: int, workers: int) -> set[str]:
    """What /readyz says at workers that share so many partitions."""
    return {f"partitions [{', '.join(map(str, range(n, partitions, workers)))}]\n" for n in range(workers)}


class Topics:
    """The product's topics on a broker, made anew: nothing of an earlier run is in them."""

    def __init__(self, broker: Broker, partitions: int) -> None:
        self.bootstrap, self.partitions = broker.bootstrap, partitions
        names = {topic.name for topic in TOPICS}
        self._admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        self._admin.delete_topics(sorted(names & set(self._admin.list_topics())))
        while names & set(self._admin.list_topics()):
            time.sleep(0.05)
        ensure_topics(load({"STRAYLINE_BROKER": self.bootstrap}), partitions)

    def pack(self, records: Iterator[Record]) -> Packed:
        """Record batches ready to be sent, so that filling a topic takes the broker's time and hardly any of ours."""
        return asyncio.run(_pack(self.bootstrap, self.partitions, records))

    def pour(self, packed: Packed) -> float:
        """Send them all; the seconds that it took. They can be sent once."""
        return asyncio.run(_pour(self.bootstrap, packed))

    def fill(self, count: int) -> Packed:
        """Pack and pour."""
        packed = self.pack(traffic(count))
        self.pour(packed)
        return packed

    def committed(self, group: str) -> int:
        """How many records of the events the group has committed, over all partitions."""
        with suppress(KafkaError):
            return sum(committed.offset for committed in self._admin.list_group_offsets([group])[group].values())
        return 0  # the group has never been


class Packed(NamedTuple):
    """Batches by partition."""

    batches: list[tuple[int, Any]]
    shares: list[int]  # records in each partition


async def _pack(bootstrap: str, partitions: int, records: Iterator[Record]) -> Packed:
    async with _producer(bootstrap) as producer:
        out: list[tuple[int, Any]] = []
        building = [producer.create_batch() for _ in range(partitions)]
        shares = [0] * partitions
        now = int(time.time() * 1000)
        for record in records:
            p = partition_of(record.key, partitions)
            if building[p].append(timestamp=now, key=record.key, value=record.value) is None:
                out.append((p, building[p]))
                building[p] = producer.create_batch()
                building[p].append(timestamp=now, key=record.key, value=record.value)
            shares[p] += 1
        out += [(p, batch) for p, batch in enumerate(building) if batch.record_count()]
        for _, batch in out:
            batch._build()  # noqa: SLF001  # compress now: aiokafka would while it sends, at 40 MB/s
    return Packed(out, shares)


async def _pour(bootstrap: str, packed: Packed) -> float:
    async with _producer(bootstrap) as producer:
        begin = time.perf_counter()
        await asyncio.gather(*[await producer.send_batch(b, EVENTS, partition=p) for p, b in packed.batches])
        return time.perf_counter() - begin


def _producer(bootstrap: str) -> aiokafka.AIOKafkaProducer:
    return aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type="lz4", max_batch_size=BATCH)


class Worker:
    """`strayline worker` as its operator starts it, a process of its own."""

    def __init__(
        self, bootstrap: str, group: str, instance: str, folder: Path, core: int | None = None, **settings: str
    ) -> None:
        """On all cores of the machine, or on one."""
        self.port = free_port()
        self.log = folder / f"{group}-{instance}.log"
        given = {
            "STRAYLINE_BROKER": bootstrap,
            "STRAYLINE_GROUP": group,
            "STRAYLINE_INSTANCE": instance,
            "STRAYLINE_HTTP_PORT": str(self.port),
            "STRAYLINE_DOMAINS": "acme.example",
        }
        with self.log.open("ab") as out:
            self.began = time.time()
            self.process = subprocess.Popen(
                [str(Path(sys.executable).with_name("strayline")), "worker"],
                cwd=ROOT,
                env=environment(given | settings),
                stdout=out,
                stderr=out,
            )
        if core is not None:
            os.sched_setaffinity(self.process.pid, {core})  # its threads are still to come, and inherit it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def get(self, path: str) -> str:
        """What it answers, or nothing."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return str(answer.read().decode())
        except (urllib.error.HTTPError, OSError):
            return ""

    def metric(self, name: str) -> float:
        """The sum of all series of that name."""
        return self.sum_of(name, self.get("/metrics"))

    @staticmethod
    def sum_of(name: str, text: str) -> float:
        """The same, of a page that was fetched before."""
        return sum(map(float, re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)))

    def until(self, true: Callable[[], bool], pause: float = 0.02) -> None:
        """Wait until it is so. Raises `RuntimeError`, with the end of its log, if the process ends or takes too long."""
        deadline = time.monotonic() + DEADLINE
        while not true():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"strayline worker ended or stalled: {self.log.read_text()[-2000:]}")
            time.sleep(pause)

    def until_ready(self) -> None:
        self.until(lambda: self.get("/readyz").startswith("partitions ["))

    def said(self, event: str) -> list[float]:
        """When it logged this, in seconds since the epoch."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [datetime.fromisoformat(x["timestamp"]).timestamp() for x in lines if x["event"] == event]

    def cpu(self) -> float:
        """CPU seconds that it has used, all threads together."""
        return cpu_of(self.process.pid)

    def resident(self) -> float:
        """MiB of memory that it holds."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    def stop(self) -> int:
        """As Kubernetes and systemd do."""
        self.process.terminate()
        return self.process.wait(60)


def cpu_of(pid: int) -> float:
    """CPU seconds that a process has used, all threads together."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def busy_cpu() -> float:
    """CPU seconds that the machine has spent on anything."""
    user, nice, system, _, _, irq, soft = Path("/proc/stat").read_text().split(None, 8)[1:8]
    return sum(map(int, (user, nice, system, irq, soft))) / os.sysconf("SC_CLK_TCK")


def drained(topics: Topics, group: str, workers: Sequence[Worker], count: int) -> float:
    """Wait until everything is committed; when that was, in seconds since the epoch."""
    workers[0].until(lambda: topics.committed(group) >= count, pause=0.05)
    for worker in workers[1:]:
        if worker.process.poll() is not None:
            warn(f"a worker ended by itself: {worker.log.read_text()[-2000:]}")
    return time.time()
