"""What partitions give of cohorts, read from Kafka once for all partitions that a worker holds.

Each partition adds what the others gave to its own state, at its own pace, but none needs a consumer of its own for that, and a record need
not be decoded for each. So the topic is read by one consumer, from where it ended when the first partition came; what it brings is laid before every
partition that is here by then. What a partition has not taken of what was there before, it reads itself (`stream.sharing`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from stream import metrics
from stream.client import arguments
from stream.cohorts import Given, read
from stream.sealed import Corrupt
from stream.settings import Settings
from stream.topics import COHORTS, EVENTS
from stream.transport import WAIT_MS

log = structlog.get_logger()
SHORT_MS = 20
_T = TypeVar("_T")


class Heard(NamedTuple):
    """One record that was given by a partition, and the offset after it."""

    source: int
    next_offset: int
    given: Given


class Others:
    """All `of` partitions as givers. `join`, then `listen` now and then; `leave` when the partition is taken away."""

    def __init__(self, settings: Settings, of: int, executor: Executor) -> None:
        self.of = of
        self.busy = 0  # partitions of events that had any when the first one came here
        self._settings = settings
        self._executor = executor
        self._heard: dict[int, list[Heard]] = {}  # by the partition that listens: what it has not taken yet
        self._consumer: AIOKafkaConsumer | None = None
        self._turn = asyncio.Lock()

    async def join(self, number: int) -> dict[int, int]:
        """Begin to collect for a partition: by giver, the offset from which on. Before that it must read for itself."""
        async with self._turn:
            if self._consumer is None:
                consumer = self._client()
                await consumer.start()
                try:
                    consumer.assign(self._places())
                    ends = await consumer.end_offsets(self._places())
                    events = await consumer.end_offsets([TopicPartition(EVENTS, q) for q in range(self.of)])
                except BaseException:
                    await consumer.stop()
                    raise
                for tp, end in ends.items():
                    consumer.seek(tp, end)
                self._consumer, self.busy = consumer, sum(end > 0 for end in events.values())
            self._heard[number] = []
            return {tp.partition: await self._consumer.position(tp) for tp in self._places() if tp.partition != number}

    async def leave(self, number: int) -> None:
        """Forget a partition; the last one ends the reading."""
        async with self._turn:
            self._heard.pop(number, None)
            if not self._heard and self._consumer is not None:
                consumer, self._consumer = self._consumer, None
                await consumer.stop()

    async def listen(self, number: int) -> list[Heard]:
        """What has come of what the others have given since a partition last asked."""
        async with self._turn:
            if self._consumer is not None:
                await self._heed(await self._consumer.getmany(timeout_ms=0), self._lay)
            if number not in self._heard:
                return []
            out, self._heard[number] = self._heard[number], []
            return out

    def _lay(self, heard: Sequence[Heard]) -> None:
        """Lay what one has given before every other partition that is here."""
        for listener, waiting in self._heard.items():
            waiting.extend(one for one in heard if one.source != listener)

    async def read(
        self, places: Mapping[int, tuple[int, int | None]], heed: Callable[[Sequence[Heard]], None]
    ) -> dict[int, int]:
        """Read what partitions gave, each from an offset to another (None: to the end), in a consumer of its own; where each ended."""
        async with self._client() as consumer:
            tps = {q: TopicPartition(COHORTS, q) for q in places}
            consumer.assign(list(tps.values()))
            ends = await consumer.end_offsets(list(tps.values()))
            for q, (first, last) in places.items():
                ends[tps[q]] = ends[tps[q]] if last is None else last
                consumer.seek(tps[q], first)  # where that is gone, what is read begins later
            while left := [tp for tp, end in ends.items() if await consumer.position(tp) < end]:
                await self._heed(await consumer.getmany(*left, timeout_ms=SHORT_MS), heed)
            return {q: await consumer.position(tp) for q, tp in tps.items()}

    async def _heed(self, found: Mapping[Any, Sequence[Any]], heed: Callable[[Sequence[Heard]], None]) -> None:
        for tp, records in found.items():
            await self._run(lambda tp=tp, records=records: heed(_decoded(tp.partition, records)))  # type: ignore[misc]

    def _client(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **arguments(self._settings),
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_partition_fetch_bytes=8 << 20,
            fetch_max_wait_ms=WAIT_MS,  # see there
        )

    def _places(self) -> list[TopicPartition]:
        return [TopicPartition(COHORTS, q) for q in range(self.of)]

    async def _run(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)


def _decoded(source: int, records: Sequence[Any]) -> list[Heard]:
    found = ((r.offset + 1, _given(r)) for r in records)
    return [Heard(source, after, given) for after, given in found if given is not None]


def _given(record: Any) -> Given | None:
    try:
        return read(record.key, record.value)
    except Corrupt as reason:
        metrics.CORRUPT.inc()
        log.warning(
            "corrupt cohorts record left out: what it held is not known here",
            given_by=record.partition,
            offset=record.offset,
            reason=str(reason),
        )
        return None
