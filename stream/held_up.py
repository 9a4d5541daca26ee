"""What is held up by something outside, though nothing here has stalled: events by a transaction that is open, a delivery by a broker that takes long. Each is said once.

What it misses: what lasts for less than the time between two looks of the desk.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

import structlog

from stream.client import tool
from stream.partition import Partition
from stream.settings import COMMITTED, Settings
from stream.topics import End

log = structlog.get_logger()


class HeldUp:
    """What of it was said."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._events: dict[int, int] = {}  # partition → where the transaction begins
        self._deliveries: dict[int, float] = {}  # partition → since when the delivery goes on

    def see_events(self, held: Collection[int], before: Sequence[End], now: Sequence[End]) -> None:
        """Look at the ends of all partitions, as at the last look and now: a producer that never ends its transaction stops the partition for whoever reads committed."""
        for number, (was, end) in enumerate(zip(before, now, strict=False)):
            if self.settings.isolation != COMMITTED or number not in held or end.stable == end.offset:
                self._events.pop(number, None)
            elif was.stable == end.stable < was.offset and self._events.get(number) != end.stable:
                self._events[number] = end.stable
                log.warning(
                    "events wait for a transaction that a producer has not ended: they are scored when it ends, or at its transaction.timeout.ms; "
                    "`kafka-transactions --bootstrap-server BROKER find-hanging --broker-id N` finds one that never will",
                    partition=number,
                    waiting=end.offset - end.stable,
                    from_offset=end.stable,
                )

    def see_deliveries(self, partitions: Mapping[int, Partition], every: float) -> None:
        """Look at each partition's delivery, as one does `every` so many seconds: alerts wait for it, and nobody would know for what."""
        for number, partition in partitions.items():
            since, why = partition.delivering_since, slow(self.settings, partition, every)
            if since is not None and why and self._deliveries.get(number) != since:
                self._deliveries[number] = since
                what = f"a delivery takes long, though the broker answers: alerts and baselines wait for it{why}"
                log.warning(what, partition=number, seconds=round(time.monotonic() - since))


def slow(settings: Settings, partition: Partition, every: float) -> str:
    """What may hold a delivery up that has gone on for half the time between two looks; empty where none has. A client of ours is not told of a quota, nor that a topic has too few copies in sync:
    its answers come late, and at last it says that it does not know the topic."""
    since = partition.delivering_since
    if since is None or time.monotonic() - since < every / 2:
        return ""
    return (
        ". The broker is overloaded, holds this client to a quota that is too low "
        f"(`{tool(settings, 'kafka-configs')} --describe --entity-type clients` tells, and the same with `users`), "
        "or has too few copies in sync (`strayline topics` tells)"
    )
