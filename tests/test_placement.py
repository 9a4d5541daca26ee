"""Whether a worker can tell that a gateway partitions by another hash."""

from __future__ import annotations

import numpy as np
import pytest
from aiokafka.partitioner import DefaultPartitioner
from structlog.testing import capture_logs

from stream.codec import AccessEvent
from stream.placement import MOST, Placement, partition_of
from stream.siphash import name_hash

AGENTS = [f"bot-{n}" for n in range(400)]


def events(of: int | None, partitions: int = 4) -> list[AccessEvent]:
    """Of agents that belong into a partition, or of all."""
    return [AccessEvent("e", 1.0, a, "read") for a in AGENTS if of in {None, partition_of(a, partitions)}]


def look(placement: Placement, batch: list[AccessEvent]) -> int:
    return placement.look(batch, np.array([name_hash(event.agent_id) for event in batch], np.uint64))


@pytest.mark.parametrize("partitions", [1, 2, 3, 64])
def test_an_agent_s_partition_is_the_one_that_kafka_s_own_clients_choose(partitions):
    """Whatever the name."""
    every = list(range(partitions))
    for agent in (*AGENTS, "ünïcode", ""):
        assert partition_of(agent, partitions) == DefaultPartitioner()(agent.encode(), every, every)


def test_events_where_they_belong_are_told_of_to_nobody():
    """Nor where there is but one partition."""
    with capture_logs() as said:
        assert [look(Placement(2, 4), events(2)) for _ in range(3)] == [0, 0, 0]
        assert look(Placement(0, 1), events(None)) == 0
    assert said == []


def test_events_of_another_partitioner_are_all_counted_and_told_of_once():
    """With what to do."""
    placement = Placement(2, 4)
    batch = [*events(2)[:10], *events(1)[:20], *events(3)[:20]]
    with capture_logs() as said:
        assert [look(placement, batch) for _ in range(3)] == [40, 40, 40]
    (line,) = said
    assert line["belongs_to"] == partition_of(line["agent_id"], 4) != 2
    assert "murmur2_random" in line["do"]


def test_a_gateway_that_begins_to_choose_otherwise_is_found_whenever_that_is():
    """After a thousand sound batches its first events are told of."""
    placement, sound = Placement(2, 4), events(2)
    with capture_logs() as said:
        assert sum(look(placement, sound) for _ in range(1000)) == 0
        assert look(placement, [*sound, *events(1)[:2], *sound]) == 2
        assert said == []  # it may have been somebody's test
        assert look(placement, [*sound, events(1)[0]]) == 1
    assert len(said) == 1


def test_of_a_flood_of_new_names_so_many_are_looked_at_and_the_rest_later():
    """A name costs some microseconds, and whoever makes up a new one for each event must not slow the others."""
    placement = Placement(0, 2)
    batch = [AccessEvent("e", 1.0, f"made-up-{n}", "read") for n in range(3 * MOST)]
    wrong = sum(partition_of(event.agent_id, 2) == 1 for event in batch)
    found = [look(placement, batch) for _ in range(4)]
    assert 0 < found[0] <= MOST
    assert found[0] < found[1] < found[2] == found[3] == wrong
