"""Whether events lie in the partition of their agent: the one that Kafka's own clients choose for the key `agent_id` (murmur2).

Elsewhere they are scored as well, but an agent whose events lie in two partitions has two half baselines, and verdicts on it go to a third
(kcat's default is another hash). To look costs some microseconds, so a sample is looked at: the first events, then one of every hundredth batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from aiokafka.partitioner import murmur2

from stream.codec import AccessEvent

log = structlog.get_logger()
FIRST = 100  # events
EVERY = 100  # batches
_SOME = 3  # one alone may be somebody's test


def partition_of(agent_id: str, partitions: int) -> int:
    """The partition of an agent's events among so many."""
    return int((murmur2(agent_id.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF) % partitions)


class Placement:
    """Of one partition. It tells once, when some events were found that lie elsewhere."""

    def __init__(self, number: int, partitions: int) -> None:
        self._number, self._partitions = number, partitions
        self._looked = self._batches = self._wrong = 0

    def look(self, events: Sequence[AccessEvent]) -> int:
        """How many events of the sample of a batch belong into another partition."""
        if self._partitions == 1:
            return 0
        self._batches += 1
        most = max(0, FIRST - self._looked) or int(self._batches % EVERY == 0)
        wrong = 0
        for i in range(min(most, len(events))):
            self._looked += 1
            agent_id = events[i].agent_id
            right = partition_of(agent_id, self._partitions)
            if right == self._number:
                continue
            wrong += 1
            self._wrong += 1
            if self._wrong == _SOME:
                log.warning(
                    "events lie in another partition than that of their agent, so an agent may have several half baselines, and verdicts on it miss them",
                    partition=self._number,
                    agent_id=agent_id,
                    belongs_to=right,
                    of_looked_at=self._looked,
                    do="send events with key = agent_id and the partitioner of Kafka's own clients (librdkafka, kcat: partitioner=murmur2_random)",
                )
        return wrong
