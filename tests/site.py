"""A real broker's topics of one test, `strayline worker` processes on them, and what they should have said."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import aiokafka
import numpy as np
from aiokafka.structs import TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError

from benchmarks.kafka import Broker
from models.facts import place
from models.increments import between
from models.parties import HOME, fleet_entity
from models.table import mix
from stream.baselines import Reader
from stream.codec import decode, encode
from stream.cohorts import Reader as Given
from stream.cohorts import read
from stream.engine import Engine
from stream.records import Records
from stream.replay import replay
from stream.settings import load
from stream.simulate import simulate
from stream.topics import ALERTS, BASELINES, COHORTS, EVENTS, TOPICS, ensure_topics
from tests import forked
from tests.forked import ROOT, Forked, ran, unset
from tests.shared import knowledge

DEADLINE = 60.0
SETTLED = 2.0  # whoever was killed in a transaction has left it open
FLUSH = "0.05"

Record = tuple[bytes | None, bytes | None]  # key, value


class Worker:
    """`strayline worker` as a process of its own."""

    def __init__(
        self,
        bootstrap: str,
        group: str,
        instance: str,
        log: Path,
        host: str,
        injected: str = "",
        flush: str = FLUSH,
        **settings: str,
    ) -> None:
        """What is `injected` runs in the process before it becomes a worker."""
        self.port = free_port()
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.log = log
        settings = {
            "STRAYLINE_BROKER": bootstrap,
            "STRAYLINE_GROUP": group,
            "STRAYLINE_INSTANCE": instance,
            "STRAYLINE_HTTP_HOST": host,
            "STRAYLINE_HTTP_PORT": str(self.port),
            "STRAYLINE_FLUSH_SECONDS": flush,
        } | settings
        self.process: Forked | subprocess.Popen[bytes]
        if not injected:
            self.process = Forked(["worker"], settings, log, log)
            return
        program = f"{injected}\nfrom stream.__main__ import main\nmain()"
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, "worker"],
                cwd=ROOT,
                env=unset() | settings,
                stdout=out,
                stderr=out,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def get(self, path: str) -> tuple[int, str]:
        """Status and text, or (0, "") while nothing answers."""
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all series of that name that bear these labels; 0 where there is none."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if found and all(f'{k}="{v}"' in (found[1] or "") for k, v in labels.items()):
                total += float(found[2])
        return total

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until it is so; fail, with the end of its log, if the process ends or takes too long."""
        deadline = time.monotonic() + DEADLINE
        while not true():
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.said()}"
            assert time.monotonic() < deadline, self.said()

    def until_scored(self, offset: int, partition: int = 0) -> None:
        self.until(lambda: self.metric("strayline_processed_offset", partition=str(partition)) >= offset)

    def until_ready(self) -> None:
        self.until(lambda: self.get("/readyz")[0] == 200)

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def stop(self) -> int:
        """As Kubernetes and systemd do."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Site:
    """The topics of one test, its consumer group, and its workers."""

    def __init__(self, broker: Broker, folder: Path, group: str, partitions: int = 1, copies: int = 1) -> None:
        self.bootstrap = broker.bootstrap
        self.folder = folder
        self.group = group
        self.settings = load({"STRAYLINE_BROKER": broker.bootstrap})
        remove_topics(broker.bootstrap)
        assert ensure_topics(self.settings, partitions, copies) == []

    def worker(
        self,
        instance: str = "one",
        host: str = "127.0.0.1",
        injected: str = "",
        group: str = "",
        flush: str = FLUSH,
        **settings: str,
    ) -> Worker:
        log = self.folder / f"{instance}.log"
        return Worker(self.bootstrap, group or self.group, instance, log, host, injected, flush, **settings)

    def produce(self, records: Sequence[Record], topic: str = EVENTS, codec: str | None = None) -> None:
        """Each to the partition that its key hashes to."""

        async def send() -> None:
            async with aiokafka.AIOKafkaProducer(
                bootstrap_servers=self.bootstrap, compression_type=codec, linger_ms=2, max_request_size=16 << 20
            ) as producer:
                await asyncio.gather(*[await producer.send(topic, value, key=key) for key, value in records])

        asyncio.run(send())

    def read(self, topic: str, partition: int = 0) -> list[aiokafka.ConsumerRecord]:
        """All of a partition as a careful consumer sees it, once the transactions that are being committed have their markers."""
        written = self.end(topic, partition)

        async def receive() -> list[aiokafka.ConsumerRecord]:
            tp = TopicPartition(topic, partition)
            found: list[aiokafka.ConsumerRecord] = []
            async with aiokafka.AIOKafkaConsumer(
                bootstrap_servers=self.bootstrap,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                max_partition_fetch_bytes=16 << 20,
            ) as consumer:
                consumer.assign([tp])
                deadline = time.monotonic() + DEADLINE
                settled = time.monotonic() + SETTLED
                while (end := (await consumer.end_offsets([tp]))[tp]) < written and time.monotonic() < settled:  # noqa: ASYNC110  # a broker tells nobody
                    await asyncio.sleep(0.05)
                while await consumer.position(tp) < end:
                    found += (await consumer.getmany(tp, timeout_ms=200)).get(tp, [])
                    assert time.monotonic() < deadline
            return found

        return asyncio.run(receive())

    def end(self, topic: str, partition: int = 0) -> int:
        """The next offset that will be written, open transactions included."""
        with KafkaAdminClient(bootstrap_servers=self.bootstrap) as admin:
            (found,) = admin.list_partition_offsets({TopicPartition(topic, partition): -1}).values()
        return found.offset

    def committed(self) -> dict[int, int]:
        with (
            # The broker has never had a group, or has just begun to.
            suppress(CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError),
            KafkaAdminClient(bootstrap_servers=self.bootstrap) as admin,
        ):
            found = admin.list_group_offsets([self.group])[self.group]
            return {tp.partition: committed.offset for tp, committed in found.items()}
        return {}

    def alerts(self) -> dict[str, list[bytes]]:
        """Each agent's, in order; they are in the partition that its id hashes to."""
        partitions = range(self.partitions())
        return by_agent([r.value for n in partitions for r in self.read(ALERTS, n)])

    def partitions(self) -> int:
        with KafkaAdminClient(bootstrap_servers=self.bootstrap) as admin:
            (found,) = admin.describe_topics([EVENTS])
        return len(found["partitions"])

    def baselines(self, partition: int = 0) -> Engine:
        return self._read_baselines(partition).engine

    def _read_baselines(self, partition: int) -> Reader:
        reader = Reader(Engine(self.settings))
        for record in self.read(BASELINES, partition):
            if record.key.startswith(b"stranger/"):  # what a test put there
                continue
            reader.read(record.key, record.value)
        return reader

    def replayed(self, verdicts: str | None = None) -> tuple[Engine, list[bytes]]:
        """The engine and the alerts of `strayline replay` of the only partition as it is on the topic."""
        lines = [r.value if r.value and b"\n" not in r.value else b"{}" for r in self.read(EVENTS)]
        events, alerts = self.folder / "events.jsonl", self.folder / "alerts.jsonl"
        events.write_bytes(b"\n".join(lines) + b"\n")
        engine, _ = replay(self.settings, [str(events)], None, str(alerts), None, verdicts=verdicts)
        return engine, alerts.read_bytes().splitlines()

    def told_each_other_everything_once(self, *, lost: int = 0) -> None:
        """Assert, of two partitions, that every event was learned once (but for so many that were lost with baselines); that what both have given
        adds up to what one process learns, and each partition holds what it has given and taken; that no alert is said twice, none left out."""
        given = {n: given_by(self.read(COHORTS, n)) for n in range(2)}
        partitions = {n: self._read_baselines(n) for n in range(2)}
        records = [r.value for n in range(2) for r in self.read(EVENTS, n)]
        decoded, kept, _ = decode(records, range(len(records)), self.settings.max_event_bytes)
        events = [records[at] for _, at in sorted((event.time, at) for event, at in zip(decoded, kept, strict=True))]
        one = Engine(self.settings)
        one.score(one.decode(events, range(len(events))))
        assert sum(float(reader.engine.state.fleet["events"]) for reader in partitions.values()) == len(events) - lost
        home = mix(place(HOME, np.uint64(0)), fleet_entity())  # counts each event once, whoever learns it
        told = sum(facts_of(reader, one).get(int(home), 0.0) for reader in given.values())
        assert abs(told - (learned := facts_in(one)[int(home)])) < 1.0, (told, learned)
        for n, reader in partitions.items():
            assert reader.positions[n].number == given[n].number
            at = reader.positions[1 - n]
            taken = given_by([r for r in self.read(COHORTS, 1 - n) if r.offset < at.offset])
            assert taken.number == at.number > 0
            own, others = facts_of(given[n], reader.engine), facts_of(taken, reader.engine)
            known = facts_in(reader.engine)
            keys = sorted(own.keys() | others.keys())
            expected = [own.get(key, 0.0) + others.get(key, 0.0) for key in keys]
            np.testing.assert_allclose([known[key] for key in keys], expected, 1e-3, 1e-2)
        said: dict[str, list[int]] = {}
        for alert in (json.loads(alert) for alerts in self.alerts().values() for alert in alerts):
            said.setdefault(alert["alert_id"], []).append(alert["revision"])
        assert said
        assert all(revisions == list(range(1, len(revisions) + 1)) for revisions in said.values())

    def same_as_replay(self, verdicts: str | None = None) -> list[bytes]:
        """Assert that the alerts on the topic and the baselines of the only partition are those of a replay, field for field; the alerts."""
        engine, expected = self.replayed(verdicts=verdicts)
        assert knowledge(self.baselines()) == knowledge(engine), "baselines"
        assert [r.value for r in self.read(ALERTS)] == expected, "alerts"
        return expected


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def remove_topics(bootstrap: str, names: Collection[str] = tuple(topic.name for topic in TOPICS)) -> None:
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        admin.delete_topics(sorted({*names} & set(admin.list_topics())))
        deadline = time.monotonic() + DEADLINE
        while {*names} & set(admin.list_topics()):
            assert time.monotonic() < deadline


def polled(read: Sequence[aiokafka.ConsumerRecord]) -> Records:
    """Records of one partition as a worker's consumer gives them."""
    texts = [(r.key, r.value) for r in read]
    sizes = np.array([[len(text or b"") for text in pair] for pair in texts])
    ends = np.cumsum(sizes).reshape(sizes.shape)
    begins = np.where([[text is None for text in pair] for pair in texts], -1, ends - sizes)
    return Records(
        b"".join(text or b"" for pair in texts for text in pair),
        begins[:, 1],
        ends[:, 1],
        np.array([r.offset for r in read]),
        np.array([r.timestamp for r in read]),
        begins[:, 0],
        ends[:, 0],
    )


def given_by(records: Sequence[aiokafka.ConsumerRecord]) -> Given:
    """All that a partition has given to the others."""
    reader = Given()
    for record in records:
        given = read(record.key, record.value)
        assert given is not None
        reader.read(given)
    return reader


def facts_of(given: Given, engine: Engine) -> dict[int, float]:
    """Their counts, at an engine's landmark."""
    keys = given.given.facts.keys
    counts = given.given.facts.of(keys)[:, 0] * between(given.given.begin, float(engine.state.fleet["begin"]))
    return dict(zip(keys.tolist(), counts.tolist(), strict=True))


def facts_in(engine: Engine) -> dict[int, float]:
    head = engine.state["facts"].head
    return {int(row["key"]): float(row["w"]) for row in head[head["key"] != 0]}


def by_agent(alerts: Sequence[bytes]) -> dict[str, list[bytes]]:
    out: dict[str, list[bytes]] = {}
    for alert in alerts:
        out.setdefault(json.loads(alert)["agent_id"], []).append(alert)
    return out


def fleet(seed: int, agents: int = 16, days: int = 10, garbage: float = 0.01) -> list[Record]:
    """A simulated fleet's events, keyed by agent, and among them records that are no events."""
    rng = random.Random(seed)
    out: list[Record] = []
    for event in simulate(seed, agents, days).events:
        if rng.random() < garbage:
            value = spoiled(rng, encode(event))
            out.append((b"k" if value is None else rng.choice([None, b"k", b"\xff"]), value))
        out.append((event["agent_id"].encode(), encode(event)))
    return out


def spoiled(rng: random.Random, value: bytes) -> bytes | None:
    return rng.choice(
        [
            None,
            b"",
            b"\x00\xff\xfe",
            b"two\nlines",
            b"[" * 1000,
            b"null",
            value[: len(value) // 2],
            value.replace(b'"agent_id"', b'"agent"'),
            value.replace(b'"action":"', b'"bytes":-1,"action":"'),
            value + b" " * 100_000 + b"x",
        ]
    )


def strayline(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return ran(arguments, environment, DEADLINE)


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return forked.python(*arguments, timeout=DEADLINE, **environment)
