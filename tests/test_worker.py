"""The worker as it is run, a process beside a real broker: whatever befalls it, its alerts are those of a replay."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import aiokafka
import pytest
from aiokafka.structs import TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError

from benchmarks.kafka import Broker
from stream.baselines import Reader
from stream.codec import REASONS, encode
from stream.engine import Engine, warm_up
from stream.errors import BrokerError, InputError
from stream.explain import from_worker
from stream.partition import Partition, threads
from stream.replay import replay
from stream.settings import load
from stream.simulate import simulate
from stream.topics import ALERTS, BASELINES, EVENTS, REJECTED, TOPICS, VERDICTS, ensure_topics
from stream.web import listen
from tests.shared import knowledge

ROOT = Path(__file__).resolve().parent.parent
DEADLINE = 60.0
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
        environment = {k: v for k, v in os.environ.items() if not k.startswith("STRAYLINE_")} | {
            "STRAYLINE_BROKER": bootstrap,
            "STRAYLINE_GROUP": group,
            "STRAYLINE_INSTANCE": instance,
            "STRAYLINE_HTTP_HOST": host,
            "STRAYLINE_HTTP_PORT": str(self.port),
            "STRAYLINE_FLUSH_SECONDS": flush,
        }
        environment |= settings
        program = ["-c", f"{injected}\nfrom stream.__main__ import main\nmain()"] if injected else ["-m", "stream"]
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, *program, "worker"], cwd=ROOT, env=environment, stdout=out, stderr=out
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
                self.process.wait(0.01)
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

    def __init__(self, broker: Broker, folder: Path, group: str, partitions: int = 1) -> None:
        self.bootstrap = broker.bootstrap
        self.folder = folder
        self.group = group
        self.settings = load({"STRAYLINE_BROKER": broker.bootstrap})
        remove_topics(broker)
        assert ensure_topics(self.settings, partitions) == []

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
                bootstrap_servers=self.bootstrap, compression_type=codec, linger_ms=2
            ) as producer:
                await asyncio.gather(*[await producer.send(topic, value, key=key) for key, value in records])

        asyncio.run(send())

    def read(self, topic: str, partition: int = 0) -> list[aiokafka.ConsumerRecord]:
        """All of a partition as a careful consumer sees it."""

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
                end = (await consumer.end_offsets([tp]))[tp]
                deadline = time.monotonic() + DEADLINE
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
        engine = Engine(self.settings)
        reader = Reader(engine)
        for record in self.read(BASELINES, partition):
            if record.key.startswith(b"stranger/"):  # what a test put there
                continue
            reader.read(record.key, record.value)
        return engine

    def replayed(self, partition: int = 0, verdicts: str | None = None) -> tuple[Engine, list[bytes]]:
        """The engine and the alerts of `strayline replay` of a partition as it is on the topic."""
        lines = [r.value if r.value and b"\n" not in r.value else b"{}" for r in self.read(EVENTS, partition)]
        events, alerts = self.folder / "events.jsonl", self.folder / "alerts.jsonl"
        events.write_bytes(b"\n".join(lines) + b"\n")
        share = replace(self.settings, alerts_per_day=self.settings.alerts_per_day / self.partitions())
        engine, _ = replay(share, [str(events)], None, str(alerts), None, verdicts=verdicts)
        return engine, alerts.read_bytes().splitlines()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def remove_topics(broker: Broker) -> None:
    names = {topic.name for topic in TOPICS}
    with KafkaAdminClient(bootstrap_servers=broker.bootstrap) as admin:
        admin.delete_topics(sorted(names & set(admin.list_topics())))
        deadline = time.monotonic() + DEADLINE
        while names & set(admin.list_topics()):
            assert time.monotonic() < deadline


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


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """Once, and kept on disk for the workers."""
    warm_up(load({}))


@pytest.fixture
def site(broker: Broker, tmp_path: Path, unique: Callable[[str], str]) -> Site:
    return Site(broker, tmp_path, unique("group"))


@pytest.fixture
def site_of_two(broker: Broker, tmp_path: Path, unique: Callable[[str], str]) -> Site:
    return Site(broker, tmp_path, unique("group"), partitions=2)


@pytest.fixture(scope="class")
def fed(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(broker, tmp_path_factory.mktemp("one"), "one-worker")
    site.produce(fleet(1))
    return site


@pytest.fixture(scope="class")
def worker(fed: Site) -> Iterator[Worker]:
    with fed.worker() as worker:
        worker.until(lambda: fed.committed() == {0: fed.end(EVENTS)})
        yield worker


@pytest.mark.kafka
class TestOneWorker:
    """One worker that has scored a fleet and garbage, and still runs."""

    def test_its_alerts_are_those_of_replay(self, fed, worker):
        """Field for field and in order."""
        del worker
        records = fed.read(ALERTS)
        _, expected = fed.replayed()
        assert [r.value for r in records] == expected
        assert len(expected) > 20
        assert all(r.key == json.loads(r.value)["agent_id"].encode() for r in records)

    def test_every_record_that_is_no_event_is_set_aside_with_its_reason_and_its_bytes(self, fed, worker):
        """And where it came from."""
        del worker
        records = fed.read(EVENTS)
        expected = Engine(fed.settings).decode([r.value for r in records], [r.offset for r in records]).rejects
        told = [(dict(r.headers), r.key, r.value) for r in fed.read(REJECTED)]
        assert len(expected) > 50
        assert {reject.reason for reject in expected} == set(REASONS) - {"too_large"}
        assert [headers["reason"].decode() for headers, _, _ in told] == [reject.reason for reject in expected]
        assert [int(headers["offset"]) for headers, _, _ in told] == [reject.position for reject in expected]
        assert all(h["topic"].decode() == EVENTS and h["partition"] == b"0" and h["detail"] for h, _, _ in told)
        for headers, key, value in told:
            source = records[int(headers["offset"])]
            assert (key, value) == (source.key, source.value or b"")

    def test_every_record_is_counted_once(self, fed, worker):
        """Scored or rejected."""
        rejected = len(fed.read(REJECTED))
        assert worker.metric("strayline_events_total") == fed.end(EVENTS) - rejected
        assert worker.metric("strayline_rejects_total") == rejected
        assert worker.metric("strayline_alert_revisions_total") == len(fed.read(ALERTS))
        assert worker.metric("strayline_consumer_lag_records", partition="0") == 0
        assert worker.metric("strayline_corrupt_baselines_total") == 0

    def test_its_baselines_are_those_of_replay(self, fed, worker):
        """Row for row: so another worker goes on as this one would have."""
        del worker
        engine, _ = fed.replayed()
        assert knowledge(fed.baselines()) == knowledge(engine)

    def test_it_tells_how_it_is(self, worker):
        """To Kubernetes, and to whoever asks with curl."""
        assert worker.get("/healthz") == (200, "alive\n")
        assert worker.get("/readyz") == (200, "partitions [0]\n")
        assert worker.get("/nothing")[0] == 404

    def test_it_explains_an_agent(self, fed, worker):
        """Over HTTP and on the command line; of one that it does not know it says so."""
        agent_id = fed.read(EVENTS)[-1].key.decode()
        status, text = worker.get(f"/agents/{agent_id}")
        assert (status, json.loads(text)["agent_id"]) == (200, agent_id)
        status, text = worker.get("/agents/no-such%2Fagent")
        assert (status, json.loads(text)["error"]) == (404, "no baseline of this agent here")
        told = strayline("explain", agent_id, "--worker", worker.address)
        assert told.returncode == 0
        assert told.stdout.startswith(f"{agent_id}: ")
        told = strayline("explain", "nobody", "--worker", worker.address)
        assert told.returncode == 1
        assert "has no baseline of agent 'nobody'" in told.stderr

    def test_its_log_is_json_lines(self, worker):
        """In a pipe."""
        assert [json.loads(line)["event"] for line in worker.log.read_text().splitlines()]


def strayline(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "stream", *arguments, **environment)


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("STRAYLINE_")}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )


@pytest.mark.kafka
def test_after_any_number_of_kills_alerts_and_baselines_are_those_of_replay(site):
    """Nothing lost, nothing said twice, wherever kill -9 strikes: in a batch, in a transaction, in recovery."""
    records = fleet(2)
    rejects = len(Engine(site.settings).decode([value for _, value in records], range(len(records))).rejects)
    rng = random.Random(2)
    lives = 6
    bounds = [len(records) * life // lives for life in range(lives + 1)]
    alerts = baselines = 0
    for life in range(lives):
        site.produce(records[bounds[life] : bounds[life + 1]])
        moment = rng.randrange(bounds[life], bounds[life + 1])
        with site.worker() as worker:
            match life % 3:
                case 0:
                    worker.until_scored(moment)
                case 1:
                    worker.until(lambda: site.end(BASELINES) > baselines)  # noqa: B023
                case 2:
                    worker.until(lambda: site.end(ALERTS) > alerts)  # noqa: B023
        alerts, baselines = site.end(ALERTS), site.end(BASELINES)
    with site.worker() as worker:
        worker.until_ready()  # it reads the baselines now
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: len(records)})
        assert worker.stop() == 0
    engine, expected = site.replayed()
    assert [r.value for r in site.read(ALERTS)] == expected
    assert knowledge(site.baselines()) == knowledge(engine)
    assert len(site.read(REJECTED)) == rejects


@pytest.mark.kafka
def test_a_worker_that_is_asked_to_stop_commits_everything_and_its_successor_goes_on(site):
    """SIGTERM: exit status 0, and only what came since is scored by the next."""
    records = fleet(3)
    half = len(records) // 2
    site.produce(records[:half])
    with site.worker() as worker:
        worker.until_scored(half)
        assert worker.stop() == 0
    assert site.committed() == {0: half}
    site.produce(records[half:])
    with site.worker("two") as worker:
        worker.until_scored(len(records))
        scored = worker.metric("strayline_events_total") + worker.metric("strayline_rejects_total")
        assert worker.stop() == 0
    assert scored == len(records) - half
    assert site.committed() == {0: len(records)}
    _, expected = site.replayed()
    assert [r.value for r in site.read(ALERTS)] == expected


@pytest.mark.kafka
def test_it_is_ready_when_its_baselines_are_read_and_not_before(site, monkeypatch):
    """Without waiting for an event; and of an agent it says that it does not know yet, not that there is nothing."""
    site.produce([(b"stranger/%d" % n, bytes(900_000)) for n in range(100)], BASELINES)  # some time's worth of reading
    reading = "reading baselines of partitions [0]"
    answers: list[tuple[int, str]] = []
    with site.worker() as worker:

        def ready() -> bool:
            answer = worker.get("/readyz")
            if answer not in answers:
                answers.append(answer)
                if answer[1] == f"{reading}\n":
                    with pytest.raises(BrokerError, match=re.escape(f"still {reading}; ask again")):
                        from_worker(worker.address, "somebody")
            return answer[0] == 200

        worker.until(ready)
        assert worker.metric("strayline_corrupt_baselines_total") == 100
        assert worker.get("/agents/somebody")[0] == 404
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # which must not be asked for a worker
        with pytest.raises(InputError, match="has no baseline of agent 'somebody'"):
            from_worker(worker.address, "somebody")
        monkeypatch.delenv("http_proxy")
        assert worker.stop() == 0
    answered = [answer for answer in answers if answer[0]]
    assert answered[-2:] == [(503, f"{reading}\n"), (200, "partitions [0]\n")]
    assert {status for status, _ in answered[:-1]} == {503}


@pytest.mark.kafka
def test_a_worker_that_is_asked_to_stop_while_it_reads_its_baselines_stops(site):
    """In order: it had nothing in hand."""
    site.produce([(b"stranger/%d" % n, bytes(900_000)) for n in range(100)], BASELINES)
    with site.worker() as worker:
        worker.until(lambda: "reading baselines" in worker.get("/readyz")[1])
        assert worker.stop() == 0
        assert [json.loads(line)["event"] for line in worker.log.read_text().splitlines()][-1] == "stopped"


def test_baselines_that_cannot_be_read_end_the_worker_with_the_reason():
    """Without them nothing may be scored, and its supervisor tries again."""
    script = (
        "import asyncio\n"
        "from aiokafka.structs import TopicPartition\n"
        "from stream.settings import load\n"
        "from stream.desk import EVENTS, Desk\n"
        "async def main():\n"
        "    await Desk(None, load()).assigned(None, {TopicPartition(EVENTS, 3)})\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    told = python("-c", script, STRAYLINE_BROKER=f"127.0.0.1:{free_port()}")
    assert told.returncode == 1
    assert "the baselines of partition 3 could not be read; is the broker up?" in told.stdout + told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.kafka
def test_partitions_that_move_lose_nothing_and_say_nothing_twice(site_of_two):
    """A second worker joins in mid-stream, and leaves."""
    site = site_of_two
    records = fleet(4)
    third = len(records) // 3

    def scored() -> bool:
        return site.committed() == {n: site.end(EVENTS, n) for n in range(2)}

    with site.worker("one") as one, site.worker("two") as two:
        one.until_ready()
        site.produce(records[:third])
        one.until(lambda: "[0]" in one.get("/readyz")[1] or "[1]" in one.get("/readyz")[1])
        two.until(lambda: two.get("/readyz")[1] in {"partitions [0]\n", "partitions [1]\n"})
        site.produce(records[third : 2 * third])
        two.until(scored)
        assert two.metric("strayline_events_total") > 0
        assert two.stop() == 0
        site.produce(records[2 * third :])
        one.until(scored)
        assert one.get("/readyz")[1] == "partitions [0, 1]\n"
        assert one.stop() == 0
    expected = []
    for n in range(2):
        engine, alerts = site.replayed(n)
        expected += alerts
        assert knowledge(site.baselines(n)) == knowledge(engine)
    assert site.alerts() == by_agent(expected)


@pytest.mark.kafka
def test_a_producer_chooses_its_codec(site):
    """Nobody asks ours before compressing."""
    records = fleet(5, agents=12, days=5)
    codecs = [None, "gzip", "snappy", "lz4", "zstd"]
    for n, codec in enumerate(codecs):
        site.produce(records[n :: len(codecs)], codec=codec)
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: len(records)})
    _, expected = site.replayed()
    assert [r.value for r in site.read(ALERTS)] == expected


@pytest.mark.kafka
def test_a_corrupt_record_of_baselines_is_left_out_and_counted(site):
    """What it held is learned anew; the rest is as it was."""
    records = fleet(6, agents=12, days=5)
    half = len(records) // 2
    site.produce(records[:half])
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: half})
        assert worker.stop() == 0
    key, value = next((r.key, r.value) for r in site.read(BASELINES) if r.value)
    for at in (5, 20, len(value) // 2):
        site.produce([(key, value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :])], BASELINES)
    site.produce([(b"stranger", b"hello"), (b"c/1", None)], BASELINES)
    site.produce(records[half:])
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: len(records)})
        assert worker.metric("strayline_corrupt_baselines_total") == 4
        assert worker.log.read_text().count("corrupt baselines record left out") == 4
    _, expected = site.replayed()
    assert [r.value for r in site.read(ALERTS)] == expected


@pytest.mark.kafka
@pytest.mark.parametrize("heir", ["one", "two"])
def test_a_worker_that_was_paused_and_replaced_does_no_harm(site, heir):
    """Whether its supervisor started it again under its name or another took its partition over."""
    records = fleet(7)
    third = len(records) // 3
    site.produce(records[:third])
    with site.worker("one") as old:
        old.until_scored(third)
        site.produce(records[third : 2 * third])
        old.process.send_signal(signal.SIGSTOP)
        with site.worker(heir) as new:
            new.until_scored(2 * third)
            old.process.send_signal(signal.SIGCONT)
            site.produce(records[2 * third :])
            new.until(lambda: site.committed() == {0: len(records)} or new.process.poll() is not None)
            assert old.process.wait(DEADLINE) == 1
            assert new.stop() == 0
    engine, expected = site.replayed()
    assert [r.value for r in site.read(ALERTS)] == expected
    assert knowledge(site.baselines()) == knowledge(engine)


@pytest.mark.kafka
def test_verdicts_are_heeded_exactly_once_whenever_it_is_killed(site, tmp_path):
    """Between two batches; and from there on alerts and baselines are those of a replay that heeds them at that time."""
    records = fleet(8)
    half = len(records) // 2
    site.produce(records[:half])
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: half})
        assert worker.stop() == 0
    opened = [r.value for r in site.read(ALERTS) if json.loads(r.value)["revision"] == 1]
    for what, alert in (("benign", opened[-1]), ("malicious", opened[-3])):
        words = ("--by", "ana", "--reason", "because")
        told = strayline("verdict", what, json.loads(alert)["alert_id"], *words, STRAYLINE_BROKER=site.bootstrap)
        assert told.returncode == 0, told.stderr
        assert f"{what} by ana, written to {VERDICTS}" in told.stderr
    site.produce([(b"k", b'{"alert_id": 1}')], VERDICTS)
    with site.worker() as worker:
        worker.until(lambda: worker.metric("strayline_verdicts_total") > 0)
    with site.worker() as worker:
        worker.until(lambda: len(site.read(REJECTED)) > rejects_in(records[:half]))
    site.produce(records[half:])
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: len(records)})
        assert worker.metric("strayline_verdicts_total") == 0
        assert worker.stop() == 0
    rejected = [dict(r.headers) for r in site.read(REJECTED)]
    assert [h["reason"] for h in rejected if h["topic"] == VERDICTS.encode()] == [b"bad_value"]
    assert len(rejected) == rejects_in(records) + 1
    clock = float(first_half(site, records[:half]).state.fleet["clock"])
    said = tmp_path / "verdicts.jsonl"
    heeded = [json.loads(r.value) | {"time": clock + 0.0005} for r in site.read(VERDICTS)[:2]]
    said.write_bytes(b"".join(encode(v) + b"\n" for v in heeded))
    engine, expected = site.replayed(verdicts=str(said))
    assert [r.value for r in site.read(ALERTS)] == expected
    assert knowledge(site.baselines()) == knowledge(engine)
    assert expected != site.replayed()[1]


@pytest.mark.kafka
def test_alerts_do_not_wait_for_the_flush_interval_nor_does_a_rebalance(site_of_two):
    """They are delivered when they are said, and what was learned till then with them; the rest when somebody waits for it."""
    site = site_of_two
    records = fleet(9, garbage=0.0)
    with site.worker("one", flush="3600") as one:
        one.until_ready()
        site.produce(records)
        one.until(lambda: sum(one.metric("strayline_processed_offset", partition=n) for n in "01") == len(records))
        one.until(lambda: sum(map(len, site.alerts().values())) == one.metric("strayline_alert_revisions_total") > 0)
        assert sum(site.committed().values()) < len(records)
        with site.worker("two", flush="3600") as two:
            two.until(lambda: site.committed() == {n: site.end(EVENTS, n) for n in range(2)})
            two.until_ready()
            assert (two.stop(), one.stop()) == (0, 0)
    assert site.alerts() == by_agent([alert for n in range(2) for alert in site.replayed(n)[1]])


@pytest.mark.kafka
def test_a_batch_is_decoded_while_the_one_before_is_scored_and_learned_once_however_often_it_comes(site):
    """After a rebalance Kafka may bring again what is still in hand; and nothing that was scored stays in memory until it is delivered."""
    records = fleet(10, garbage=0.02)
    site.produce(records)
    read = site.read(EVENTS)
    cuts = [(0, 700), (700, 1500), (300, 1800), (300, 1200), (1800, len(read))]
    batches = [read[low:high] for low, high in cuts]
    acknowledged: list[int] = []
    events = [
        SimpleNamespace(message=SimpleNamespace(value=batch), ack=lambda n=n: acknowledged.append(n))
        for n, batch in enumerate(batches)
    ]

    async def run() -> None:
        partition = Partition(site.settings, 0, threads())
        await partition.open()
        taken = [await partition.decode(event) for event in events]
        await asyncio.gather(*(partition.score(one) for one in taken))
        assert not any(batches)
        assert partition.somebody_waits
        await partition.flush()
        assert acknowledged == [0, 1, 2, 3, 4]
        await partition.close()

    asyncio.run(run())
    engine, expected = site.replayed()
    assert [r.value for r in site.read(ALERTS)] == expected
    assert len(site.read(REJECTED)) == rejects_in(records)
    assert knowledge(site.baselines()) == knowledge(engine)


def rejects_in(records: Sequence[Record]) -> int:
    return len(Engine(load({})).decode([value for _, value in records], range(len(records))).rejects)


def first_half(site: Site, records: Sequence[Record]) -> Engine:
    engine = Engine(site.settings)
    engine.score(engine.decode([value for _, value in records], range(len(records))))
    return engine


@pytest.mark.kafka
def test_a_verdict_without_events_is_heeded_at_once(site):
    """A quiet partition makes nobody wait; and the alert that it is on is looked for on the topic."""
    told = strayline("verdict", "benign", "nobody-s", "--by", "a", "--reason", "b", STRAYLINE_BROKER=site.bootstrap)
    assert told.returncode == 1
    assert f"{ALERTS} on {site.bootstrap} has no alert 'nobody-s'" in told.stderr
    with site.worker() as worker:
        worker.until_ready()
        verdict = {"alert_id": "a", "agent_id": "k", "verdict": "malicious", "time": 1.0, "by": "a", "reason": "b", "evidence": [{"name": "tool", "observed": "t"}], "event": {"event_id": "e", "action": "x"}}  # fmt: skip
        site.produce([(b"k", encode(verdict))], VERDICTS)
        worker.until(lambda: worker.metric("strayline_verdicts_total", verdict="malicious") == 1)
        assert worker.stop() == 0
    (marked,) = [row for row in site.baselines().state["facts"].head if row["d"] < 0]
    assert marked["w"] == -marked["d"]


@pytest.mark.kafka
def test_who_has_scored_the_last_record_is_not_behind(site):
    """Before the first there is, and after a transaction, whose end takes an offset of its own."""

    async def produce() -> None:
        gateway = aiokafka.AIOKafkaProducer(bootstrap_servers=site.bootstrap, transactional_id="gateway")
        async with gateway, gateway.transaction():
            for key, value in fleet(3, 12, 5, garbage=0.0)[:5]:
                await gateway.send_and_wait(EVENTS, value, key=key)

    with site.worker() as worker:
        worker.until(lambda: 'strayline_consumer_lag_records{partition="0"} 0.0' in worker.get("/metrics")[1])
        asyncio.run(produce())
        assert site.end(EVENTS) == 6
        worker.until_scored(5)
        worker.until(lambda: worker.metric("strayline_consumer_lag_records", partition="0") == 0)


@pytest.mark.kafka
def test_a_field_that_nothing_reads_is_counted_and_logged_once(site):
    """With the one that was meant."""
    events = [(key, value[:-1] + b',"recipient":"x"}') for key, value in fleet(3, 12, 5, garbage=0.0)[:5] if value]
    site.produce(events)
    with site.worker() as worker:
        worker.until_scored(5)
        worker.until(lambda: worker.metric("strayline_unknown_fields_total") == 5)
        told = [json.loads(line) for line in worker.log.read_text().splitlines() if "unknown field" in line]
    assert [(t["field"], t["do"]) for t in told] == [
        ("recipient", "did you mean `recipients`? Unknown fields belong in `attributes`.")
    ]


def test_without_a_broker_it_says_where_it_looked_and_how_to_start_one():
    """And ends, soon, for its supervisor to try again."""
    address = f"127.0.0.1:{free_port()}"
    began = time.monotonic()
    told = strayline("worker", STRAYLINE_BROKER=address)
    assert told.returncode == 1
    assert re.search(rf"no Kafka at {address} .*`make kafka PORT={address.rpartition(':')[2]}`", told.stderr)
    assert "Traceback" not in told.stderr
    assert time.monotonic() - began < 15


@pytest.mark.kafka
def test_without_topics_it_says_how_to_make_them(broker):
    """It makes none itself: how many partitions is for whoever runs it to say."""
    remove_topics(broker)
    told = strayline("worker", STRAYLINE_BROKER=broker.bootstrap)
    assert told.returncode == 1
    assert EVENTS in told.stderr
    assert "`strayline topics --partitions N`" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("localhost", "localhost")])
def test_a_port_that_is_taken_is_named_before_anything_else(host, shown):
    """Two workers on one machine need two: the second must not take partitions from the first."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        port = str(taken.getsockname()[1])
        told = strayline(
            "worker",
            STRAYLINE_BROKER=f"127.0.0.1:{free_port()}",
            STRAYLINE_HTTP_HOST=host,
            STRAYLINE_HTTP_PORT=port,
        )
    assert told.returncode == 1
    said = json.loads(told.stderr.splitlines()[-1])
    assert said["event"] == f"cannot serve on {shown}:{port}; set STRAYLINE_HTTP_PORT to a free port"
    assert "Traceback" not in told.stderr


def test_an_address_that_is_not_this_machine_s_is_named():
    """Another port would not help."""
    told = strayline("worker", STRAYLINE_HTTP_HOST="192.0.2.1")
    assert told.returncode == 1
    said = json.loads(told.stderr.splitlines()[-1])
    assert said["event"] == "cannot serve on 192.0.2.1:9464; set STRAYLINE_HTTP_HOST to an address of this machine"


def test_the_port_is_held_from_the_start():
    """Nobody can take it while the models compile and the broker is asked."""
    port = free_port()
    with listen(load({"STRAYLINE_HTTP_PORT": str(port)})), pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", port))


@pytest.mark.kafka
def test_it_serves_on_ipv6_too(site):
    """And on the command line its address is written as in a URL."""
    with site.worker(host="::1") as worker:
        worker.until_ready()
        told = strayline("explain", "nobody", "--worker", worker.address)
        assert f"the worker at {worker.address} has no baseline of agent 'nobody'" in told.stderr
        assert worker.stop() == 0
