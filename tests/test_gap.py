"""Events that a worker never gets to see, without its doing, are counted and told of: nothing is lost in silence."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Callable, Sequence

import pytest
from aiokafka import AIOKafkaProducer
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.structs import OffsetAndMetadata

from stream.topics import BASELINES, EVENTS, ensure_topics
from tests.site import DEADLINE, Record, Site, fleet, remove_topics

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("compiled")]
READ, MORE, FROM = (
    300,
    200,
    120,
)  # events of a first life; those that came before the second; of these, which are not to be had
EVENTS_0 = TopicPartition(EVENTS, 0)


def first_life(site: Site) -> None:
    """A worker reads what there is, and stops; then more comes."""
    records = fleet(5, agents=12, days=8, garbage=0)[: READ + MORE]
    site.produce(records[:READ])
    with site.worker(STRAYLINE_SESSION_SECONDS="6") as worker:
        worker.until(lambda: site.committed() == {0: READ})
        assert worker.stop() == 0
    site.produce(records[READ:])


def second_life(site: Site, end: int) -> tuple[float, str]:
    """How many offsets it counts as skipped, and its log."""
    with site.worker("two") as worker:
        worker.until(lambda: site.committed() == {0: end})
        skipped = worker.metric("strayline_skipped_events_total")
        assert worker.stop() == 0
    return skipped, worker.log.read_text()


def test_what_retention_has_deleted_unread_is_told_of(site):
    """While no worker was there."""
    first_life(site)
    with KafkaAdminClient(bootstrap_servers=site.bootstrap) as admin:
        admin.delete_records({EVENTS_0: READ + FROM})
    skipped, said = second_life(site, READ + MORE)
    assert skipped == FROM
    assert re.search(rf'"from_offset": {READ}, "to_offset": {READ + FROM - 1}, .*raise retention.ms', said)


def test_what_retention_has_deleted_before_a_running_worker_came_to_it_is_told_of(site):
    """It was too far behind; aiokafka goes on with the first event that is left, and says nothing."""
    records = fleet(5, agents=12, days=8, garbage=0)[: READ + 2 * MORE]
    site.produce(records[:READ])
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: READ})
        worker.process.send_signal(signal.SIGSTOP)
        site.produce(records[READ : READ + MORE])
        with KafkaAdminClient(bootstrap_servers=site.bootstrap) as admin:
            admin.delete_records({EVENTS_0: READ + MORE})
        site.produce(records[READ + MORE :])
        worker.process.send_signal(signal.SIGCONT)
        worker.until(lambda: site.committed() == {0: len(records)})
        skipped = worker.metric("strayline_skipped_events_total")
        assert worker.stop() == 0
    learned = site.baselines().state.fleet["events"]
    assert learned < len(records)  # what the broker had sent already is learned
    assert learned + skipped == len(records)
    told = re.findall(r'"from_offset": (\d+), "to_offset": (\d+), .*raise retention.ms', worker.log.read_text())
    assert told == [(str(READ + MORE - int(skipped)), str(READ + MORE - 1))]


def test_what_is_passed_over_since_the_group_s_offset_was_moved_is_told_of(site):
    first_life(site)
    deadline = time.monotonic() + DEADLINE
    with KafkaAdminClient(bootstrap_servers=site.bootstrap) as admin:
        moved = {EVENTS_0: OffsetAndMetadata(READ + FROM, "", None)}
        while not _is_done(admin.alter_group_offsets(site.group, moved)):  # until its member is gone
            assert time.monotonic() < deadline
    skipped, said = second_life(site, READ + MORE)
    assert skipped == FROM
    assert re.search(
        rf'"from_offset": {READ}, "to_offset": {READ + FROM - 1}, .*moved the offset of the group forward', said
    )


# Runs in the worker's process: once there is a file, the next poll that brings anything does not come through, and is written there.
THROWN = """
from pathlib import Path
from stream.transport import Consumer
whole, thrown = Consumer._getmany, Path({thrown!r})
async def _getmany(self, *given, **named):
    polled = await whole(self, *given, **named)
    if not any(polled.values()) or not thrown.exists() or thrown.read_text():
        return polled
    thrown.write_text(str(polled))
    return {{}}
Consumer._getmany = _getmany
"""


@pytest.mark.parametrize("first", [True, False])
def test_a_poll_that_was_thrown_away_is_read_again(site, first):
    """Faust does so with what a rebalance overtakes, and may not go back for it: with the first of a partition, or with another."""
    records = fleet(5, agents=12, days=8, garbage=0)[: 3 * MORE]
    thrown = site.folder / "thrown"
    with site.worker(injected=THROWN.format(thrown=str(thrown))) as worker:
        worker.until_ready()
        if not first:
            site.produce(records[:MORE])
            worker.until(lambda: site.committed() == {0: MORE})
        thrown.touch()
        site.produce(records[0 if first else MORE : 2 * MORE])
        wait_for(lambda: thrown.stat().st_size > 0)  # the worker may have seen it, and ended
        site.produce(records[2 * MORE :])
        assert worker.process.wait(DEADLINE) == 1
        assert "were fetched and never came here" in worker.said()
    assert second_life(site, len(records))[0] == 0
    site.same_as_replay()


def test_an_offset_of_the_group_beyond_the_topic_s_end_keeps_nothing_from_being_read(site):
    """Somebody moved it there, or the broker has lost what lay before it."""
    first_life(site)
    deadline = time.monotonic() + DEADLINE
    with KafkaAdminClient(bootstrap_servers=site.bootstrap) as admin:
        moved = {EVENTS_0: OffsetAndMetadata(10 * READ, "", None)}
        while not _is_done(admin.alter_group_offsets(site.group, moved)):
            assert time.monotonic() < deadline
    with site.worker("two") as worker:
        worker.until_scored(READ + MORE)
        site.produce(fleet(6, agents=12, days=8, garbage=0)[: 10 * READ])
        worker.until(lambda: site.committed() == {0: site.end(EVENTS)})  # once the topic has outgrown it
        assert worker.stop() == 0
    site.same_as_replay()


def test_a_topic_that_was_made_anew_while_no_worker_was_there_is_read_from_its_beginning(site):
    """However long it has become by then: its id is another."""
    first_life(site)
    remove_topics(site.bootstrap, [EVENTS])
    assert ensure_topics(site.settings, 1) == []
    again = fleet(6, agents=12, days=8, garbage=0)[: 2 * READ]
    site.produce(again)
    skipped, said = second_life(site, len(again))
    assert "was made anew: reading it from its beginning" in said
    assert site.baselines().state.fleet["events"] == READ + len(again)
    assert skipped == 0


def test_events_that_nothing_is_known_of_any_more_are_told_of(site):
    """The group's offset says that they were read, and the baselines are gone."""
    first_life(site)
    remove_topics(site.bootstrap, [BASELINES])
    assert ensure_topics(site.settings, 1) == []
    skipped, said = second_life(site, READ + MORE)
    assert skipped == READ
    assert re.search(
        rf'"from_offset": 0, "to_offset": {READ - 1}, .*nothing is known .* --reset-offsets --to-earliest', said
    )
    assert '"baselines": "none yet"' in said


def test_baselines_of_which_records_are_gone_are_not_said_to_be_whole(site):
    """Somebody had the topic delete, for a while."""
    first_life(site)
    written = site.read(BASELINES)
    policy = ConfigResource(ConfigResourceType.TOPIC, BASELINES, configs={"cleanup.policy": "delete"})
    with KafkaAdminClient(bootstrap_servers=site.bootstrap) as admin:
        admin.alter_configs([policy])
        admin.delete_records({TopicPartition(BASELINES, 0): written[len(written) // 2].offset})
        admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, BASELINES, configs={"cleanup.policy": "compact"})]
        )
    left = {r.key for r in site.read(BASELINES)}
    assert left < {r.key for r in written}
    with site.worker("two") as worker:
        worker.until(lambda: site.committed() == {0: READ + MORE})
        assert worker.metric("strayline_corrupt_baselines_total") == 1
        assert worker.stop() == 0
    said = worker.log.read_text()
    assert "records of baselines are gone from their topic" in said
    assert "nothing is lost" not in said


def test_a_topic_of_baselines_that_is_made_anew_under_a_worker_gets_all_that_is_known(site):
    """So that whoever comes next has it."""
    records = fleet(5, agents=12, days=8, garbage=0)[: READ + MORE]
    site.produce(records[:READ])
    with site.worker(STRAYLINE_STALL_SECONDS="3") as worker:  # it looks as often
        worker.until(lambda: site.committed() == {0: READ})
        remove_topics(site.bootstrap, [BASELINES])
        assert ensure_topics(site.settings, 1) == []
        worker.until(lambda: "all that is known is written again" in worker.log.read_text())
        site.produce(records[READ:])
        worker.until(lambda: site.committed() == {0: READ + MORE})
        assert worker.stop() == 0
    site.same_as_replay()


def test_markers_of_transactions_are_no_events_that_were_passed_over(site):
    """Each leaves an offset of its own."""
    records = fleet(5, agents=12, days=8, garbage=0)[:20]
    for n in range(2):
        asyncio.run(in_transactions(site, records[10 * n : 10 * n + 10]))
        with site.worker(f"life{n}") as worker:
            worker.until(lambda: site.committed() == {0: site.end(EVENTS) - 1})  # behind which is a marker
            assert worker.metric("strayline_skipped_events_total") == 0
            assert worker.stop() == 0


async def in_transactions(site: Site, records: Sequence[Record]) -> None:
    """Two of them."""
    async with AIOKafkaProducer(bootstrap_servers=site.bootstrap, transactional_id=site.group) as producer:
        for some in (records[:5], records[5:]):
            async with producer.transaction():
                for key, value in some:
                    await producer.send(EVENTS, value, key=key)


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline


def _is_done(results: dict[TopicPartition, type[Exception]]) -> bool:
    return all(error.errno == 0 for error in results.values())
