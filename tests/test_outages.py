"""Faults of a broker, on a real one: whatever dies, stands still, is lost, changed or compacted, alerts and baselines are those of a replay."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError

from benchmarks.kafka import Broker, missing
from stream.client import arguments
from stream.delivery import sender
from stream.settings import Settings, load
from stream.topics import BASELINES, EVENTS
from tests.site import DEADLINE, Site, fleet, strayline

STALL = "3"
OUTAGE = 60.0  # seconds: longer than a session, a request and a delivery may take

pytestmark = pytest.mark.usefixtures("compiled")


@pytest.fixture(scope="module")
def mortal() -> Iterator[Broker]:
    """A broker that dies, loses its disk, and compacts as soon as it may."""
    lack = missing()
    if lack is not None:
        pytest.skip(lack)
    with Broker(
        lasting=False, properties={"log.cleaner.backoff.ms": "100", "log.initial.task.delay.ms": "100"}
    ) as running:
        yield running


@pytest.mark.kafka
def test_a_broker_that_is_killed_in_a_transaction_and_comes_back_costs_nothing(mortal, tmp_path):
    """The worker lives, or its supervisor starts it again."""
    site = Site(mortal, tmp_path, "outage")
    records = fleet(18, agents=12, days=8)
    half = len(records) // 2
    site.produce(records[:half])
    injected = (
        "from aiokafka import AIOKafkaProducer\nfrom pathlib import Path\nwhole = AIOKafkaProducer.commit_transaction\n"
        "async def tell(self):\n    Path(%r).touch()\n    await whole(self)\nAIOKafkaProducer.commit_transaction = tell"
    )
    told = tmp_path / "commits"
    with ExitStack() as lives:
        worker = lives.enter_context(site.worker(injected=injected % str(told)))
        worker.until_ready()
        told.unlink(missing_ok=True)
        worker.until(told.exists)
        mortal.kill()
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(OUTAGE)
        mortal.start()
        site.produce(records[half:])
        deadline = time.monotonic() + DEADLINE
        while site.committed() != {0: len(records)}:
            if worker.process.poll() is not None:  # it said why
                assert re.search(r"could not|stalled|gave up|left its group", worker.said())
                worker = lives.enter_context(site.worker())
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(0.1)
            assert time.monotonic() < deadline, worker.said()
        assert worker.stop() == 0
    site.same_as_replay()


@pytest.mark.kafka
def test_leaders_and_coordinators_that_move_to_another_broker_and_back_cost_nothing(tmp_path):
    """One of two is killed in the midst, and comes back. Of each topic it leads a partition, and about half of what groups and transactions rest on."""
    lack = missing()
    if lack is not None:
        pytest.skip(lack)
    both = {"offsets.topic.replication.factor": "2", "transaction.state.log.replication.factor": "2"}
    with (
        Broker(lasting=False, properties=both) as first,
        Broker(lasting=False, properties=both, beside=first) as second,
    ):

        def leaders() -> set[int]:
            with KafkaAdminClient(bootstrap_servers=first.bootstrap) as admin:
                return {
                    partition["leader_id"] for topic in admin.describe_topics() for partition in topic["partitions"]
                }

        def ends() -> dict[int, int]:
            return {n: site.end(EVENTS, n) for n in range(2)}

        site = Site(first, tmp_path, "both", partitions=2, copies=2)
        records = fleet(18, agents=12, days=8)
        third = len(records) // 3
        site.produce(records[:third])
        with site.worker() as worker:
            worker.until(lambda: site.committed() == ends())
            assert len(leaders()) == 2
            site.produce(records[third : 2 * third])
            written = ends()
            second.kill()
            for n, end in written.items():
                worker.until_scored(end, n)
            second.start()
            assert len(leaders()) == 1
            site.produce(records[2 * third :])
            with KafkaAdminClient(bootstrap_servers=first.bootstrap) as admin:
                admin.elect_leaders(0, raise_errors=False)  # as each was, once the other has what it missed
            worker.until(lambda: site.committed() == ends())
            assert worker.stop() == 0
        site.told_each_other_everything_once()


@pytest.mark.kafka
def test_while_the_broker_stands_still_the_worker_is_not_ready_and_says_why(mortal, tmp_path):
    """By /readyz, by the metric of it and in its log; once it goes on, so does the worker, and not at its next look only, which here never comes."""
    site = Site(mortal, tmp_path, "still")
    site.produce(fleet(20, agents=12, days=5))
    seldom = (
        "import stream.desk as desk\nwhole, every = desk.event_ends, [1.0]\ndef look(settings):\n"
        "    try:\n        return whole(settings)\n    except Exception:\n        every[0] = 1e6\n        raise\n"
        "desk.event_ends, desk.look_seconds = look, lambda settings: every[0]"
    )
    with site.worker(injected=seldom) as worker:
        worker.until(lambda: worker.metric("strayline_ready") == 1)
        worker.until(lambda: site.committed() == {0: site.end(EVENTS)})
        os.kill(mortal.pid, signal.SIGSTOP)
        try:
            worker.until(lambda: worker.metric("strayline_ready") == 0)
            status, told = worker.get("/readyz")
            assert (status, told.startswith("no answer from the broker for ")) == (503, True)
            assert "the broker does not answer; waiting for it" in worker.said()
            reasons = worker.said()
        finally:
            os.kill(mortal.pid, signal.SIGCONT)
        worker.until_ready()
        assert "the broker answers again" in worker.said()
        assert "the broker answers again" not in reasons


@pytest.mark.kafka
def test_a_delivery_that_takes_long_is_told_of_with_what_may_hold_it_up(mortal, tmp_path):
    """Under a quota of the broker, say, which answers every question meanwhile; and so is one that took too long."""
    injected = (
        "import asyncio\nfrom aiokafka import AIOKafkaProducer\nfrom aiokafka.errors import KafkaTimeoutError\nwhole = AIOKafkaProducer.commit_transaction\n"
        "async def late(self):\n    if self._txn_manager.txn_partitions:\n        await asyncio.sleep(8)\n        raise KafkaTimeoutError\n    await whole(self)\n"
        "AIOKafkaProducer.commit_transaction = late"
    )
    site = Site(mortal, tmp_path, "slow")
    records = fleet(20, agents=12, days=5)
    site.produce(records)
    with site.worker(injected=injected, STRAYLINE_STALL_SECONDS="9") as worker:
        assert worker.process.wait(DEADLINE) == 1
        told = worker.said()
    quota = f"`kafka-configs --bootstrap-server {mortal.bootstrap} --describe --entity-type clients` tells"
    for said in ("a delivery takes long, though the broker answers", "alerts and baselines could not be delivered"):
        (line,) = (line for line in told.splitlines() if said in line)
        assert quota in line
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: len(records)})
        assert worker.stop() == 0
    site.same_as_replay()


@pytest.mark.kafka
def test_a_broker_that_is_not_let_in_again_yet_is_waited_for():
    """One that stood still for longer than its controller waits answers at once, and names no broker until its next heartbeat."""
    lack = missing()
    if lack is not None:
        pytest.skip(lack)

    async def open_one(settings: Settings) -> None:
        watching = AIOKafkaClient(bootstrap_servers=settings.broker)
        await watching.bootstrap()
        while await watching.force_metadata_update():
            pass
        async with AIOKafkaConsumer(**arguments(settings), group_id="let in") as consumer, sender(settings, 0):
            assert await consumer.committed(TopicPartition(EVENTS, 0)) is None
        await watching.close()

    seldom = {"broker.session.timeout.ms": "1000", "broker.heartbeat.interval.ms": "4000"}
    with Broker(lasting=False, properties=seldom) as broker:
        asyncio.run(open_one(load({"STRAYLINE_BROKER": broker.bootstrap})))


@pytest.mark.kafka
def test_a_broker_that_lost_its_disk_is_told_of_and_what_to_do(mortal, tmp_path):
    """By the worker that runs, and by the next; after `strayline topics` it goes on, with what comes then."""
    site = Site(mortal, tmp_path, "lost")
    site.produce(fleet(20, agents=12, days=5))
    with site.worker(STRAYLINE_STALL_SECONDS=STALL) as worker:
        worker.until(lambda: site.committed() == {0: site.end(EVENTS)})
        mortal.kill()
        shutil.rmtree(mortal.data / "logs")
        mortal.start()
        assert worker.process.wait(DEADLINE) == 1
        told = worker.said()
    with site.worker() as worker:
        assert worker.process.wait(DEADLINE) == 1
        assert f"{mortal.bootstrap} has no topic {EVENTS}" in worker.said()
        assert "`strayline topics --partitions N`" in worker.said()
    assert "has no topic" in told or "could not be delivered" in told or "stalled" in told
    assert strayline("topics", "--partitions", "1", STRAYLINE_BROKER=mortal.bootstrap).returncode == 0
    records = fleet(21, agents=12, days=5)
    site.produce(records)
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: len(records)})
        assert worker.stop() == 0
    site.same_as_replay()


@pytest.mark.kafka
def test_topics_that_change_under_a_worker_end_it_with_the_command_that_mends_them(mortal, tmp_path):
    """More partitions, so that agents are elsewhere; or events made anew, of which it would skip as many as it had read."""
    site = Site(mortal, tmp_path, "changed")
    records = fleet(22, agents=12, days=5)
    site.produce(records)
    with (
        site.worker(STRAYLINE_STALL_SECONDS=STALL) as worker,
        KafkaAdminClient(bootstrap_servers=mortal.bootstrap) as admin,
    ):
        worker.until(lambda: site.committed() == {0: len(records)})
        admin.delete_topics([EVENTS])
        gone = False
        while not gone:  # at first the old one is still there
            with suppress(TopicAlreadyExistsError):
                admin.create_topics({EVENTS: {"num_partitions": 1, "replication_factor": 1}})
                gone = True
        # It sees the topic gone, or shorter, or is given the new one.
        new = rf"{EVENTS} was made anew|has no topic {EVENTS}|it is a new one: reading it from its beginning"
        deadline = time.monotonic() + DEADLINE
        while not re.search(new, worker.log.read_text()):
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(0.1)
            assert time.monotonic() < deadline, worker.said()
    site.produce(records[:1000])
    with (
        site.worker(STRAYLINE_STALL_SECONDS=STALL) as worker,
        KafkaAdminClient(bootstrap_servers=mortal.bootstrap) as admin,
    ):
        worker.until(lambda: site.committed() == {0: 1000})
        assert "it is a new one: reading it from its beginning" in worker.log.read_text()
        admin.create_partitions({EVENTS: 2})
        assert worker.process.wait(DEADLINE) == 1
        assert f"{BASELINES} has partitions=1, should be 2" in worker.said()
        assert f"--alter --topic {BASELINES} --partitions 2" in worker.said()


@pytest.mark.kafka
def test_a_changelog_that_was_compacted_and_one_of_nothing_but_an_aborted_transaction_are_restored(mortal, tmp_path):
    """By the broker's own cleaner; and where the end of the topic is no record, nobody waits for one."""

    async def abort() -> None:
        async with AIOKafkaProducer(bootstrap_servers=mortal.bootstrap, transactional_id="nobody") as producer:
            await producer.begin_transaction()
            await producer.send_and_wait(BASELINES, b"never", key=b"stranger/never")
            await producer.abort_transaction()

    site = Site(mortal, tmp_path, "compacted")
    eager = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.0", "delete.retention.ms": "0"}
    with KafkaAdminClient(bootstrap_servers=mortal.bootstrap) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, BASELINES, configs=eager)])
    asyncio.run(abort())
    short = "import stream.baselines\nstream.baselines.PACE = 50.0"  # so that changes soon leave their keys, and there is much to compact
    records = fleet(23, agents=12, days=8)
    half = len(records) // 2
    with site.worker(injected=short) as worker:
        worker.until_ready()
        for low in range(0, half, 100):
            high = min(half, low + 100)
            site.produce(records[low:high])
            worker.until_scored(high)
        worker.until(lambda: site.committed() == {0: half})
        assert worker.stop() == 0
    deadline = time.monotonic() + DEADLINE
    while len(left := site.read(BASELINES)) >= len({r.key for r in left}) + 20:
        site.produce([(b"stranger/last", None)], BASELINES)  # rolls the segment
        assert time.monotonic() < deadline
    asyncio.run(abort())
    assert left[-1].offset > 2 * len(left)
    assert sum(r.key.startswith(b"c/") for r in left) < half // 200  # of twice as many flushes and more
    site.produce(records[half:])
    with site.worker(injected=short) as worker:
        worker.until(lambda: site.committed() == {0: len(records)})
        assert worker.stop() == 0
    site.same_as_replay()
