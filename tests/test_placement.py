"""Whether a worker can tell that a gateway partitions by another hash."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import DefaultPartitioner
from structlog.testing import capture_logs

from stream.codec import AccessEvent
from stream.placement import EVERY, FIRST, Placement, partition_of

AGENTS = [f"bot-{n}" for n in range(400)]


def events(of: int | None, partitions: int = 4) -> list[AccessEvent]:
    """Of agents that belong into a partition, or of all."""
    return [AccessEvent("e", 1.0, a, "read") for a in AGENTS if of in {None, partition_of(a, partitions)}]


@pytest.mark.parametrize("partitions", [1, 2, 3, 64])
def test_an_agent_s_partition_is_the_one_that_kafka_s_own_clients_choose(partitions):
    """Whatever the name."""
    every = list(range(partitions))
    for agent in (*AGENTS, "ünïcode", ""):
        assert partition_of(agent, partitions) == DefaultPartitioner()(agent.encode(), every, every)


def test_events_where_they_belong_are_told_of_to_nobody():
    """Nor where there is but one partition."""
    with capture_logs() as said:
        assert Placement(2, 4).look(events(2)) == 0
        assert Placement(0, 1).look(events(None)) == 0
    assert said == []


def test_events_of_another_partitioner_are_counted_and_told_of_once():
    """With what to do."""
    placement = Placement(2, 4)
    with capture_logs() as said:
        wrong = placement.look(events(None))
        assert wrong == sum(partition_of(a, 4) != 2 for a in AGENTS[:FIRST])
        placement.look(events(None))
    (line,) = said
    assert line["belongs_to"] == partition_of(line["agent_id"], 4) != 2
    assert "murmur2_random" in line["do"]


def test_after_the_first_events_one_of_every_hundredth_batch_is_looked_at():
    """So a gateway that comes later is found, and the look costs nothing."""
    placement = Placement(2, 4)
    placement.look(events(2)[:FIRST])
    placement.look(events(2)[:FIRST])
    astray = events(1)
    found = [placement.look(astray) for _ in range(2 * EVERY)]
    assert (sum(found), max(found)) == (2, 1)


def test_one_event_astray_is_no_reason_to_speak():
    """It may have been somebody's test."""
    with capture_logs() as said:
        assert Placement(2, 4).look([*events(2)[:20], *events(1)[:1]]) == 1
    assert said == []
