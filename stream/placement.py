"""Whether events lie in the partition of their agent: the one that Kafka's own clients choose for the key `agent_id` (murmur2).

Elsewhere they are scored as well, but an agent whose events lie in two partitions has two half baselines, and verdicts on it go to a third
(kcat's default is another hash). To look at a name costs some microseconds, so each is looked at once, when it first comes here; what is known of it then stands in a table
by its hash, which a whole batch is held against at once (a few nanoseconds an event). So it is found whenever a gateway begins to choose otherwise.

What it misses: of n agents of a partition about n in two million, whose place in the table is another's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import structlog
from aiokafka.partitioner import murmur2

from models.table import Array
from stream.codec import AccessEvent

log = structlog.get_logger()
MOST = 200  # names of a batch that are looked at: where all are new, the others have their turn in the next
_SOME = 3  # events; one alone may be somebody's test
_PLACES = 1 << 20
_UNKNOWN, _HERE, _ELSEWHERE = 0, 1, 2


def partition_of(agent_id: str, partitions: int) -> int:
    """The partition of an agent's events among so many."""
    return int((murmur2(agent_id.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF) % partitions)


class Placement:
    """Of one partition. It tells once, when some events were found that lie elsewhere."""

    def __init__(self, number: int, partitions: int) -> None:
        self._number, self._partitions = number, partitions
        self._known = np.zeros(_PLACES if partitions > 1 else 0, np.uint8)
        self._wrong = 0

    def look(self, events: Sequence[AccessEvent], agents: Array) -> int:
        """How many events of a batch are known to belong into another partition; `agents` has the hash of each event's agent."""
        if self._partitions == 1:
            return 0
        places = (agents & np.uint64(_PLACES - 1)).astype(np.int64)
        found = self._known[places]
        new = np.flatnonzero(found == _UNKNOWN)
        if len(new):
            # The first event of each: a batch is many events of few agents.
            for i in new[np.unique(places[new], return_index=True)[1][:MOST]].tolist():
                right = partition_of(events[i].agent_id, self._partitions)
                self._known[places[i]] = _HERE if right == self._number else _ELSEWHERE
            found = self._known[places]
        wrong = int(np.count_nonzero(found == _ELSEWHERE))
        if self._wrong < _SOME <= self._wrong + wrong:
            self._tell(events[int(np.flatnonzero(found == _ELSEWHERE)[0])].agent_id)
        self._wrong += wrong
        return wrong

    def _tell(self, agent_id: str) -> None:
        log.warning(
            "events lie in another partition than that of their agent, so an agent may have several half baselines, and verdicts on it miss them",
            partition=self._number,
            agent_id=agent_id,
            belongs_to=partition_of(agent_id, self._partitions),
            do="send events with key = agent_id and the partitioner of Kafka's own clients (librdkafka, kcat: partitioner=murmur2_random)",
        )
