"""The batch transport against a real broker. Run as a script, this file is the worker that a test kills."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiokafka
import faust
import pytest
from aiokafka.consumer.fetcher import OffsetResetStrategy
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from faust.transport.drivers import aiokafka as driver
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient

from benchmarks.kafka import Broker
from stream.errors import StraylineError
from stream.fetched import MOST
from stream.transport import batched, check_faust, urls

DEADLINE = 60.0


def app_for(bootstrap: str, group: str, **settings: Any) -> Any:
    return faust.App(
        group,
        broker=urls([bootstrap]),
        datadir=tempfile.gettempdir(),  # it wants one, and puts nothing there
        **{
            "web_enabled": False,
            "topic_allow_declare": False,
            "topic_disable_leader": True,
            "table_standby_replicas": 0,
            "consumer_auto_offset_reset": "earliest",
            "broker_max_poll_records": 50,
            "broker_commit_interval": 0.1,
            "stream_buffer_maxsize": 4,
            **settings,
        },
    )


class Row(NamedTuple):
    """One record of a batch."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


def rows(event: Any) -> list[Row]:
    records = event.value
    offsets = records.position.tolist()
    return [Row(event.message.partition, offsets[i], records.key(i), value) for i, value in enumerate(records)]


class Reader:
    """A Faust app that keeps the events of its batches; `acks` says which it acknowledges, by their number."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        group: str,
        acks: Callable[[int], bool] = lambda _: True,
        gate: asyncio.Event | None = None,
        work: float = 0.0,
        **settings: Any,
    ) -> None:
        self.app = app_for(bootstrap, group, **settings)
        self.events: list[Any] = []
        self.arrived = asyncio.Condition()

        async def read(stream: Any) -> None:
            async for event in stream.noack().events():
                number = len(self.events)
                self.events.append(event)
                async with self.arrived:
                    self.arrived.notify_all()
                if acks(number):
                    event.ack()
                if gate is not None:
                    await gate.wait()
                if work:
                    await asyncio.sleep(work)  # a delivery, say

        self.app.agent(batched(self.app, topic))(read)

    @property
    def records(self) -> list[Row]:
        return [row for event in self.events for row in rows(event)]

    async def until(self, true: Callable[[], bool]) -> None:
        async with self.arrived:
            await asyncio.wait_for(self.arrived.wait_for(true), DEADLINE)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Reader]:
        await self.app.start()
        try:
            yield self
        except BaseException:
            self.app.conf.stream_wait_empty = False  # nobody acknowledges the rest any more
            raise
        finally:
            await self.app.stop()


def create(broker: Broker, topic: str, partitions: int) -> str:
    with KafkaAdminClient(bootstrap_servers=broker.bootstrap) as admin:
        admin.create_topics(
            {topic: {"num_partitions": partitions, "replication_factor": 1}},
            wait_for_metadata=True,
        )
    return topic


async def produce(broker: Broker, topic: str, records: list[tuple[int, bytes | None]], **settings: Any) -> None:
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=5, **settings) as producer:
        sent = [
            await producer.send(topic, value, key=b"k" if value is None else None, partition=partition)
            for partition, value in records
        ]
        await asyncio.gather(*sent)


def committed(broker: Broker, group: str) -> dict[int, int]:
    with KafkaAdminClient(bootstrap_servers=broker.bootstrap) as admin:
        return {tp.partition: found.offset for tp, found in admin.list_group_offsets([group])[group].items()}


async def reaches(wanted: object, ask: Callable[[], object]) -> None:
    """Wait until the broker says so, or fail with what it said last."""
    deadline = time.monotonic() + DEADLINE
    while (found := await asyncio.to_thread(ask)) != wanted:
        assert time.monotonic() < deadline, f"{found} instead of {wanted}"


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("writer", "codec"),
    [
        *(("aiokafka", codec) for codec in (None, "gzip", "snappy", "lz4", "zstd")),
        *(("kafka-python", codec) for codec in (None, "gzip", "zstd")),  # for which it needs nothing else installed
    ],
)
def test_every_record_arrives_once_and_in_order(broker, unique, codec, writer):
    """Whatever the producer's codec, and the commits end where the records end."""
    topic, group = create(broker, unique("events"), 3), unique("group")
    written = [(n % 3, f"{n}".encode()) for n in range(3000)]

    async def test() -> None:
        if writer == "aiokafka":
            await produce(broker, topic, written, compression_type=codec)
        else:
            with KafkaProducer(bootstrap_servers=broker.bootstrap, compression_type=codec, linger_ms=5) as producer:
                for partition, value in written:
                    producer.send(topic, value, partition=partition)
                producer.flush()
        reader = Reader(broker.bootstrap, topic, group, broker_max_poll_records=170)
        async with reader.running():
            await reader.until(lambda: len(reader.records) >= len(written))
        for partition in range(3):
            records = [r for r in reader.records if r.partition == partition]
            assert [r.value for r in records] == [value for p, value in written if p == partition]
            assert [r.offset for r in records] == list(range(1000))
        assert max(len(event.value) for event in reader.events) <= 170
        assert len(reader.events) < len(written) / 10
        assert committed(broker, group) == {0: 1000, 1: 1000, 2: 1000}
        assert not any(reader.app.consumer._gap.values())  # which would grow for ever

    run(test)


@pytest.mark.kafka
def test_tombstones_and_garbage_arrive_as_they_are(broker, unique):
    """Bytes are not the transport's business."""
    topic = create(broker, unique("events"), 1)
    values = [None, b"", b"\x00\xff\xfe", b"{", b"1,2", None]

    async def test() -> None:
        await produce(broker, topic, [(0, v) for v in values])
        reader = Reader(broker.bootstrap, topic, unique("group"))
        async with reader.running():
            await reader.until(lambda: len(reader.records) >= len(values))
        assert [r.value for r in reader.records] == values
        assert [r.key for r in reader.records] == [b"k", None, None, None, None, b"k"]

    run(test)


@pytest.mark.kafka
def test_a_commit_ends_before_the_first_batch_that_is_not_acknowledged(broker, unique):
    """However many behind it are; and takes them all along once it is."""
    topic, group = create(broker, unique("events"), 1), unique("group")

    async def test() -> None:
        await produce(broker, topic, [(0, b"x")] * 500)
        reader = Reader(broker.bootstrap, topic, group, acks=lambda n: n != 1, stream_wait_empty=False)
        async with reader.running():
            await reader.until(lambda: len(reader.records) >= 500)
            first, second = reader.events[:2]
            await reaches({0: first.message.offset + 1}, lambda: committed(broker, group))
            for _ in range(10):
                await reader.app.consumer.commit()
            assert committed(broker, group) == {0: first.message.offset + 1}
            second.ack()
            await reaches({0: 500}, lambda: committed(broker, group))

    run(test)


@pytest.mark.kafka
def test_a_new_group_commits_nothing_while_its_very_first_batch_is_not_acknowledged(broker, unique):
    """Faust has no offset to compare with then, and would commit past it."""
    topic, group = create(broker, unique("events"), 1), unique("group")

    async def test() -> None:
        await produce(broker, topic, [(0, b"x")] * 300)
        reader = Reader(broker.bootstrap, topic, group, acks=lambda n: n != 0, stream_wait_empty=False)
        async with reader.running():
            await reader.until(lambda: len(reader.records) >= 300)
            for _ in range(10):
                await reader.app.consumer.commit()
        assert committed(broker, group) == {}

    run(test)


@pytest.mark.kafka
def test_stopping_waits_for_what_is_being_worked_on_and_commits_it(broker, unique):
    """What a SIGTERM does: the batch in hand is finished, and only that."""
    topic, group = create(broker, unique("events"), 1), unique("group")

    async def test() -> None:
        await produce(broker, topic, [(0, b"x")] * 500)
        reader = Reader(broker.bootstrap, topic, group, acks=lambda _: False, gate=asyncio.Event())
        async with reader.running():
            await reader.until(lambda: len(reader.events) == 1)
            in_hand = reader.events[0]
            asyncio.get_running_loop().call_later(0.3, in_hand.ack)
        assert len(reader.events) == 1
        assert committed(broker, group) == {0: in_hand.message.offset + 1}

    run(test)


@pytest.mark.kafka
def test_a_slow_reader_holds_up_the_fetching_and_loses_nothing(broker, unique):
    """What waits in memory is bounded by the buffer, in batches."""
    topic, group = create(broker, unique("events"), 1), unique("group")

    async def test() -> None:
        await produce(broker, topic, [(0, b"x")] * 5000)
        gate = asyncio.Event()
        reader = Reader(broker.bootstrap, topic, group, gate=gate)
        async with reader.running():
            await reader.until(lambda: len(reader.events) == 1)
            waiting = reader.app.consumer._delivered
            await reaches(True, lambda: sum(map(len, waiting.values())) > 3)
            for _ in range(20):
                await reader.app.consumer.commit()
                await asyncio.to_thread(committed, broker, group)
            assert sum(map(len, waiting.values())) <= 6  # four in the queue, one on each side of it
            gate.set()
            await reader.until(lambda: len(reader.records) >= 5000)
        assert [r.offset for r in reader.records] == list(range(5000))
        assert committed(broker, group) == {0: 5000}

    run(test)


@pytest.mark.kafka
def test_a_full_buffer_does_not_make_the_reader_wait(broker, unique):
    """Faust's own back-pressure sleeps a second whenever no partition is left to poll: half a minute here."""
    topic, group = create(broker, unique("events"), 1), unique("group")

    async def test() -> None:
        await produce(broker, topic, [(0, b"x")] * 5000)
        reader = Reader(broker.bootstrap, topic, group, work=0.02)  # a hundred times
        async with reader.running():
            await reader.until(lambda: len(reader.events) >= 1)
            began = time.monotonic()
            await reader.until(lambda: len(reader.records) >= 5000)
            assert time.monotonic() - began < 20

    run(test)


@pytest.mark.kafka
def test_a_rebalance_drops_what_is_not_acknowledged_and_it_is_read_again(broker, unique):
    """From the committed offset, by whoever has the partition then; a late acknowledgement of the old batch counts for nothing."""
    topic, group = create(broker, unique("events"), 2), unique("group")

    async def test() -> None:
        await produce(broker, topic, [(n % 2, b"x") for n in range(1000)])
        first = Reader(broker.bootstrap, topic, group, acks=lambda n: n == 0, stream_wait_empty=False)
        second = Reader(broker.bootstrap, topic, group, stream_wait_empty=False)
        async with first.running():
            await first.until(lambda: len(first.records) >= 1000)
            old = list(first.events)
            done = old[0].message
            start = {0: 0, 1: 0} | {done.partition: done.offset + 1}
            await reaches({done.partition: done.offset + 1}, lambda: committed(broker, group))

            async def on_revoked(*_: Any, **__: Any) -> None:  # at the last moment, and not the first of any partition
                for event in old:
                    if event.message.offset > 150:
                        event.ack()

            first.app.on_partitions_revoked.connect(on_revoked)
            async with second.running():
                await second.until(lambda: len(second.events) >= 1)
                taken = second.records[0].partition
                kept = 1 - taken
                await second.until(lambda: second.records[-1].offset == 499)
                await first.until(lambda: len(first.events) > len(old) and first.records[-1].offset == 499)
                for event in old:
                    event.ack()
                await reaches(500, lambda: committed(broker, group).get(taken))
                for _ in range(10):
                    await first.app.consumer.commit()
                assert committed(broker, group).get(kept, 0) == start[kept]
                assert [r.offset for r in second.records] == list(range(start[taken], 500))
                again = first.events[len(old) :]
                assert [(r.partition, r.offset) for e in again for r in rows(e)] == [
                    (kept, n) for n in range(start[kept], 500)
                ]
                for event in again[:-1]:
                    event.ack()
                await reaches(again[-2].message.offset + 1, lambda: committed(broker, group).get(kept, 0))
                for _ in range(10):
                    await first.app.consumer.commit()
                assert committed(broker, group)[kept] == again[-2].message.offset + 1

    run(test)


@pytest.mark.kafka
def test_a_rebalance_commits_what_was_acknowledged_before_it(broker, unique):
    """However long the next commit was still away."""
    topic, group = create(broker, unique("events"), 2), unique("group")

    async def test() -> None:
        await produce(broker, topic, [(n % 2, b"x") for n in range(400)])
        first = Reader(broker.bootstrap, topic, group, broker_commit_interval=3600.0)
        second = Reader(broker.bootstrap, topic, group)
        async with first.running():
            await first.until(lambda: len(first.records) >= 400)
            assert committed(broker, group) == {}
            async with second.running():
                await reaches({0: 200, 1: 200}, lambda: committed(broker, group))
                await produce(broker, topic, [(n % 2, b"y") for n in range(2)])
                await second.until(lambda: len(second.records) >= 1)
        assert [r.value for r in second.records] == [b"y"]

    run(test)


@pytest.mark.kafka
def test_what_is_read_again_after_a_seek_takes_the_place_of_what_was(broker, unique):
    """Faust seeks to the committed offset when its flow stops in mid-poll."""
    topic, group = create(broker, unique("events"), 1), unique("group")

    async def test() -> None:
        await produce(broker, topic, [(0, b"x")] * 300)
        reader = Reader(broker.bootstrap, topic, group, acks=lambda n: n == 0 or n > 5)
        async with reader.running():
            await reader.until(lambda: len(reader.records) >= 300)
            await reaches({0: 50}, lambda: committed(broker, group))
            MOST[topic] = 70  # batches that end elsewhere than the first ones
            await reader.app.consumer.perform_seek()
            await reaches({0: 300}, lambda: committed(broker, group))
            for event in reader.events:
                event.ack()
        assert [r.offset for r in reader.records] == [*range(300), *range(50, 300)]

    run(test)


@pytest.mark.kafka
def test_what_was_thrown_away_before_anything_was_committed_is_read_again(broker, unique):
    """A poll that a rebalance overtakes may have taken the very first records; aiokafka seeks only to what was committed."""
    topic, group = create(broker, unique("events"), 2), unique("group")

    async def test() -> None:
        await produce(broker, topic, [(n % 2, b"x") for n in range(200)])
        acks = asyncio.Event()
        reader = Reader(
            broker.bootstrap,
            topic,
            group,
            acks=lambda _: acks.is_set(),
            broker_commit_interval=3600.0,
            stream_wait_empty=False,
        )
        async with reader.running():
            await reader.until(lambda: len(reader.records) >= 200)
            acks.set()
            await reader.app.consumer.perform_seek()
            await reader.until(lambda: len(reader.records) >= 400)
            await reader.app.consumer.commit()
        for partition in range(2):
            offsets = [r.offset for r in reader.records if r.partition == partition]
            assert offsets == [*range(100), *range(100)]
        assert committed(broker, group) == {0: 100, 1: 100}

    run(test)


@pytest.mark.kafka
def test_a_poll_begins_where_the_one_before_it_ended_whatever_lies_between(broker, unique):
    """Markers of transactions and what was aborted are no gap, whether they came with records or alone; else each would cost a question to the broker."""
    topic, group = create(broker, unique("events"), 1), unique("group")

    async def test() -> None:
        reader = Reader(broker.bootstrap, topic, group)
        async with (
            reader.running(),
            aiokafka.AIOKafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=unique("txn")) as producer,
        ):
            for n in range(12):
                await producer.begin_transaction()
                for _ in range(1 + 20 * (n % 4)):
                    await producer.send_and_wait(topic, b"%d" % n, partition=0)
                await (producer.abort_transaction() if n % 3 == 2 else producer.commit_transaction())
                if n % 2:
                    await reader.until(
                        lambda n=n: reader.records[-1:] and int(reader.records[-1].value) >= n - n % 3 // 2
                    )
        polls = [event.value for event in reader.events]
        assert len(polls) > 4
        assert polls[0].before == 0
        assert [p.before for p in polls[1:]] == [p.after for p in polls[:-1]]

    run(test)


@pytest.mark.kafka
def test_a_position_that_the_broker_is_still_asked_for_ends_nobody(broker, unique):
    """Faust looks for what has stalled, and takes it that every partition has one."""
    topic, group = create(broker, unique("events"), 1), unique("group")

    async def test() -> None:
        await produce(broker, topic, [(0, b"x")] * 100)
        reader = Reader(broker.bootstrap, topic, group)
        async with reader.running():
            await reader.until(lambda: len(reader.records) >= 100)
            consumer = reader.app.consumer
            (tp,) = consumer.assignment()

            async def looked() -> None:  # in the thread in which a position would come
                consumer._thread._consumer._fetcher.request_offset_reset([tp], OffsetResetStrategy.EARLIEST)
                consumer.verify_event_path(time.monotonic(), tp)

            await consumer._thread.call_thread(looked)

    run(test)


@pytest.mark.kafka
def test_who_had_nothing_reads_what_it_is_given_only_from_where_it_was_committed(broker, unique, monkeypatch):
    """Else it reads ahead while the broker is asked for that, and Faust throws away part of it."""
    topic, group = create(broker, unique("events"), 1), unique("group")

    async def test() -> None:
        await produce(broker, topic, [(0, b"x")] * 100)
        reader = Reader(broker.bootstrap, topic, group)
        with_none = asyncio.Event()
        flowed: list[bool] = []
        stock = aiokafka.AIOKafkaConsumer.committed

        async def given(_: Any, partitions: set[Any], **__: Any) -> None:
            if not partitions:
                with_none.set()

        async def asked(consumer: Any, partition: Any) -> Any:
            flowed.append(reader.app.consumer.flow_active)
            return await stock(consumer, partition)

        reader.app.on_partitions_assigned.connect(given)
        monkeypatch.setattr(aiokafka.AIOKafkaConsumer, "committed", asked)
        strategy = [RoundRobinPartitionAssignor]  # by the members' names
        async with aiokafka.AIOKafkaConsumer(
            topic,
            bootstrap_servers=broker.bootstrap,
            group_id=group,
            client_id="0",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            partition_assignment_strategy=strategy,
            heartbeat_interval_ms=100,
        ) as other:
            await other.getone()
            async with reader.running():
                await asyncio.wait_for(with_none.wait(), DEADLINE)
                await other.stop()
                await reader.until(lambda: len(reader.records) >= 100)
        assert [r.offset for r in reader.records] == [*range(100)]
        assert flowed
        assert not any(flowed)

    run(test)


@pytest.mark.kafka
def test_a_rebalance_waits_for_what_is_being_worked_on_and_commits_it(broker, unique):
    """With `stream_wait_empty`, so that the next owner does none of it again."""
    topic, group = create(broker, unique("events"), 2), unique("group")

    async def test() -> None:
        await produce(broker, topic, [(n % 2, b"x") for n in range(400)])
        rebalancing = asyncio.Event()
        first = Reader(broker.bootstrap, topic, group, acks=lambda _: rebalancing.is_set())
        second = Reader(broker.bootstrap, topic, group)
        stock = first.app.on_rebalance_start

        def on_rebalance_start() -> None:  # called by the consumer's thread
            stock()
            first.app.loop.call_soon_threadsafe(rebalancing.set)

        first.app.on_rebalance_start = on_rebalance_start
        async with first.running():
            await first.until(lambda: len(first.records) >= 400)
            rebalancing.clear()  # of its own joining
            async with second.running():
                await asyncio.wait_for(rebalancing.wait(), DEADLINE)
                for event in first.events:
                    event.ack()
                await reaches({0: 200, 1: 200}, lambda: committed(broker, group))
                await produce(broker, topic, [(n % 2, b"y") for n in range(10)])
                await reaches({0: 205, 1: 205}, lambda: committed(broker, group))
        assert len(first.records) == 405
        assert len(second.records) == 5

    run(test)


@pytest.mark.kafka
def test_a_static_member_that_was_thrown_out_and_comes_back_commits_again(broker, unique):
    """The broker gives it the generation that it had, so the generation does not tell that a rebalance was between."""
    topic, group = create(broker, unique("events"), 1), unique("group")

    async def test() -> None:
        await produce(broker, topic, [(0, b"x")] * 300)
        static = {
            "consumer_group_instance_id": "the-one",
            "broker_session_timeout": 10.0,
            "broker_heartbeat_interval": 0.3,
            "stream_wait_empty": False,
        }
        back = asyncio.Event()
        first = Reader(broker.bootstrap, topic, group, acks=lambda _: back.is_set(), **static)
        second = Reader(broker.bootstrap, topic, group, **static)
        async with first.running():
            await first.until(lambda: len(first.records) >= 300)
            old = list(first.events)
            async with second.running():
                await reaches({0: 300}, lambda: committed(broker, group))
            back.set()
            await produce(broker, topic, [(0, b"y")] * 50)
            await first.until(lambda: first.records[-1].value == b"y")
            assert first.events[-1].message.generation_id == old[-1].message.generation_id
            await reaches({0: 350}, lambda: committed(broker, group))
        # Once or, if it was not yet thrown out when they came, twice.
        assert [r.offset for r in first.records][-50:] == list(range(300, 350))

    run(test)


@pytest.mark.kafka
def test_other_topics_of_the_app_arrive_record_by_record(broker, unique):
    """Side by side with a batched one."""
    topic, other, group = (
        create(broker, unique("events"), 1),
        create(broker, unique("other"), 1),
        unique("group"),
    )

    async def test() -> None:
        await produce(broker, topic, [(0, b"x")] * 100)
        await produce(broker, other, [(0, b"%d" % n) for n in range(100)])
        reader = Reader(broker.bootstrap, topic, group)
        singles: list[bytes] = []

        async def read_singles(stream: Any) -> None:
            async for value in stream:
                singles.append(value)  # noqa: PERF401 - the stream has no end

        reader.app.agent(reader.app.topic(other, key_serializer="raw", value_serializer="raw"))(read_singles)
        async with reader.running():
            await reader.until(lambda: len(reader.records) >= 100)
            await reaches(100, lambda: len(singles))
        assert singles == [b"%d" % n for n in range(100)]
        with KafkaAdminClient(bootstrap_servers=broker.bootstrap) as admin:
            found = admin.list_group_offsets([group])[group]
        assert {tp.topic: o.offset for tp, o in found.items()} == {topic: 100, other: 100}

    run(test)


@pytest.mark.kafka
def test_after_kill_9_reading_goes_on_at_the_last_acknowledged_batch(broker, unique):
    """Nothing is lost, and nothing acknowledged and committed comes again."""
    topic, group = create(broker, unique("events"), 1), unique("group")

    def worker(acknowledged: int) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, broker.bootstrap, topic, group, str(acknowledged)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    async def test() -> None:
        await produce(broker, topic, [(0, b"x")] * 1000)
        with worker(acknowledged=3) as victim:
            seen = [[int(n) for n in victim.stdout.readline().split()] for _ in range(6)]
            safe = seen[2][1] + 1
            await reaches({0: safe}, lambda: committed(broker, group))
            victim.kill()
        with worker(acknowledged=1_000_000) as heir:
            # Static membership: it is not made to wait for its forerunner's session to end, which the test would not live to see.
            lines = [[int(n) for n in heir.stdout.readline().split()]]
            while lines[-1][1] < 999:
                lines.append([int(n) for n in heir.stdout.readline().split()])
            assert [n for first, last in lines for n in range(first, last + 1)] == list(range(safe, 1000))
            await reaches({0: 1000}, lambda: committed(broker, group))
            heir.kill()

    run(test)


def test_an_upgraded_faust_is_refused_in_one_sentence():
    """With what to do about it, instead of a worker that misbehaves."""
    check_faust()
    with pytest.raises(
        StraylineError,
        match=r"faust-streaming 0\.16\.0 is installed and 0\.15\.3 was proved: install .*`make setup`",
    ):
        check_faust(versions={"faust-streaming": "0.16.0"})

    class Renamed(driver.Consumer):
        def _new_offset(self, tp, topic):
            raise NotImplementedError

    with pytest.raises(StraylineError, match=r"Consumer\._new_offset is no longer _new_offset\(self, tp\)"):
        check_faust(Renamed)
    with pytest.raises(StraylineError, match=r"Consumer\._getmany is no longer"):
        check_faust(object)


def _serve(bootstrap: str, topic: str, group: str, acknowledged: int) -> None:
    async def serve() -> None:
        reader = Reader(
            bootstrap,
            topic,
            group,
            acks=lambda n: n < acknowledged,
            consumer_group_instance_id="the-one",
            broker_session_timeout=600.0,
            broker_request_timeout=600.0,
            broker_heartbeat_interval=3.0,
        )
        async with reader.running():
            for told in itertools.count():
                await reader.until(lambda told=told: len(reader.events) > told)
                records = reader.events[told].value
                print(*records.position[[0, -1]], flush=True)  # noqa: T201

    asyncio.run(serve())


if __name__ == "__main__":
    _serve(*sys.argv[1:4], int(sys.argv[4]))
