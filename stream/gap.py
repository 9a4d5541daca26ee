"""Events that nobody has scored and nobody will: between what was learned last and where reading goes on.

Four things take events from a worker without its doing: retention that deletes what it has not read, a group's offset that somebody moved
forward, a topic that was made anew while all workers were down, which its id tells, and baselines that are gone while the group's offset is not. What it misses:
what retention deleted before anything was known. A fifth would be its own doing: Faust throws away a poll that a rebalance overtakes, and may not go back for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from stream import metrics
from stream.client import arguments
from stream.errors import StraylineError
from stream.fetched import Polled
from stream.lag import group_offset
from stream.records import Records
from stream.settings import Settings
from stream.topics import EVENTS

log = structlog.get_logger()
_SECONDS = 30.0  # that the broker has for one record

DELETED = (
    "the events topic no longer has events that were not read: retention deleted them while no worker was there, or it was too far behind. They are in no baseline and no alert: "
    "raise retention.ms of the topic, and send them again from their source"
)
LOST = (
    "nothing is known of this partition, though its group has read events of it before: its baselines were deleted, or lost. These events are in no baseline; to have those learned that are still "
    "on the topic, stop the workers and move the group's offset to the earliest: `kafka-consumer-groups --bootstrap-server BROKER --group GROUP --topic agent.access.events --reset-offsets --to-earliest --execute`"
)
PASSED_OVER = (
    "reading goes on behind events that were never read: somebody moved the offset of the group forward. They are in no baseline and no alert: "
    "send them again, or move the group's offset back to `from_offset` while the workers are stopped"
)
FirstOf = Callable[[int], Awaitable[int]]  # the first offset that a partition of the events has now


class Reading:
    """Where the reading of one partition stands: use `begin` when it is opened, then `see` of each batch, in order, before it is scored."""

    def __init__(self, settings: Settings, partition: int, first_of: FirstOf | None = None) -> None:
        self._settings, self._partition, self._first_of = settings, partition, first_of
        self._first = 0  # offset of the first event on the topic
        self._read_to = 0  # where it goes on
        self._followed = False  # whether it was seen to go on where learning ended

    def begin(self, learned: int, first: int) -> None:
        """What lies before `learned` is known; the topic has events from `first` on."""
        self._first, self._read_to, self._followed = first, learned or first, False

    async def see(self, polled: Records, fresh: Records, learned: int) -> None:
        """See that a poll goes on where the last one ended, and the first one where learning did; `fresh`, which is not empty, is what of it lies behind `learned`. Raises `StraylineError` where it does not,
        and that is nobody's doing."""
        await self._see_deleted(polled, fresh)
        begin, low = int(fresh.position[0]), max(learned, self._first)
        if not self._followed and low < begin and await is_passed_over(self._settings, self._partition, low, begin):
            moved = await asyncio.to_thread(group_offset, self._settings, self._partition)
            await self._see_unread(max(low, moved), begin)
            tell(PASSED_OVER if learned else LOST, self._partition, low, begin)
        self._followed = True

    async def _see_deleted(self, polled: Records, fresh: Records) -> None:
        """Of what retention deletes unread aiokafka says nothing, and reads what is left."""
        if not isinstance(polled, Polled):
            self._read_to = max(self._read_to, int(fresh.position[-1]) + 1)
            return
        if self._first_of is not None and self._read_to < polled.before:
            first = min(polled.before, await self._first_of(self._partition))
            if self._read_to < first:
                tell(DELETED, self._partition, self._read_to, first)
                self._first = first
            if self._followed:
                await self._see_unread(max(self._read_to, first), polled.before)
        self._read_to = max(self._read_to, polled.after)

    async def _see_unread(self, low: int, high: int) -> None:
        """See that nothing lies between where reading ended and where it goes on: what was fetched and not handed on nobody else has yet, and it comes again."""
        if low < high and await is_passed_over(self._settings, self._partition, low, high):
            raise StraylineError(
                f"events {low} to {high - 1} of partition {self._partition} were fetched and never came here, and the group has not gone beyond them: they are read after a restart"
            )


def tell(why: str, partition: int, low: int, high: int) -> None:
    """Count and say that what lies from one offset up to another was never read; markers of transactions are among them."""
    metrics.SKIPPED.inc(high - low)
    log.warning(why, partition=partition, from_offset=low, to_offset=high - 1, events_at_most=high - low)


def go_on_from(partition: int, learned: int, first: int, last: int, *, anew: bool) -> int:
    """The offset from which to read a topic that has events from `first` up to `last`, of which those before `learned` are learned; `anew` if its id is another."""
    if learned > last:
        log.warning(
            "the events topic is shorter than what was learned from it, so it is a new one: reading it from its beginning",
            partition=partition,
            learned_to=learned,
            end=last,
        )
        return 0
    if anew and learned:
        log.warning(
            "the events topic was made anew: reading it from its beginning, with the baselines as they are",
            partition=partition,
            learned_to=learned,
        )
        return 0
    if 0 < learned < first:
        tell(DELETED, partition, learned, first)
        return first
    return learned


async def is_passed_over(settings: Settings, partition: int, low: int, high: int) -> bool:
    """Whether there is an event from an offset on and before another: a transaction leaves an offset of its own, which is none. True too where the broker
    does not give the next event in time: better told of for nothing than lost in silence."""
    consumer = AIOKafkaConsumer(**arguments(settings), isolation_level=settings.isolation, enable_auto_commit=False)
    await consumer.start()
    try:
        tp = TopicPartition(EVENTS, partition)
        consumer.assign([tp])
        consumer.seek(tp, low)
        with suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS):
                while True:
                    found = (await consumer.getone(tp)).since(low)  # `stream.fetched` gives events by the batch
                    if len(found):
                        return int(found.position[0]) < high
        return True
    finally:
        await consumer.stop()
