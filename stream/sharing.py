"""One partition among the others: what it gives them of cohorts at each flush, and what it takes (`stream.cohorts`, on Kafka)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from stream import metrics
from stream.baselines import Position, Record
from stream.client import arguments
from stream.cohorts import Cohorts, Given, Missing, Reader, read
from stream.engine import Engine
from stream.sealed import Corrupt
from stream.settings import Settings
from stream.topics import COHORTS

log = structlog.get_logger()
# What others gave is taken with the next flush; where a partition has no events to flush for, after so many records or seconds.
MOST_PENDING, TAKE_SECONDS = 64, 5.0
_T = TypeVar("_T")


class Sharing:
    """Use `open`, then `receive` and `exchange` at each flush; `close` when the partition is taken away."""

    def __init__(self, settings: Settings, engine: Engine, number: int, of: int, executor: Executor) -> None:
        self.number = number
        self.others = [q for q in range(of) if q != number]
        self.read = 0  # records, since it was last opened
        self._settings = settings
        self._executor = executor
        self._cohorts = Cohorts(engine, settings.alerts_per_day)
        self._pending: list[tuple[int, int, Given]] = []  # what others gave, and is not added yet
        self._taken_at = 0.0
        self._consumer: AIOKafkaConsumer | None = None

    @property
    def positions(self) -> dict[int, Position]:
        """How far it has come in what the others gave, for the baselines; its own place has the number of what it gave itself."""
        return self._cohorts.positions | {self.number: Position(0, self._cohorts.number)}

    async def open(self, engine: Engine, positions: dict[int, Position], *, same: bool) -> None:
        """Go on where the baselines ended; `same`: they are what they were when it was closed."""
        self.read, self._pending = 0, []
        self._consumer = self._client()
        await self._consumer.start()
        self._consumer.assign(self._places())
        if not same:
            await self._begin(engine, dict(positions))
        ends = await self._consumer.end_offsets(self._places())
        for tp, end in ends.items():
            at = self._cohorts.positions.get(tp.partition, Position())
            if at.offset > end:  # a new topic: the numbers go on
                at.offset = 0
        self._seek()

    async def _begin(self, engine: Engine, positions: dict[int, Position]) -> None:
        """Read what this partition has given in all. Where the baselines tell of less, or of none, some of them were lost."""
        (own, _) = (await self._read([self.number]))[self.number]
        known = positions.pop(self.number, Position()).number
        budget = self._settings.alerts_per_day
        self._cohorts = Cohorts(engine, budget, max(own.number, known), own.given, positions)
        if own.number > known:
            await self._restore(f"this partition has given {own.number} increments, and its baselines tell of {known}")

    async def receive(self) -> bool:
        """Read what the others have given by now; whether it should not wait for events."""
        if self._consumer is not None:
            for tp, records in (await self._consumer.getmany(*self._places(), timeout_ms=0)).items():
                given = await self._run(lambda records=records: [self._given(r) for r in records])  # type: ignore[misc]
                self._pending += [(tp.partition, r.offset + 1, g) for r, g in zip(records, given, strict=True) if g]
        waits = time.monotonic() - self._taken_at
        return len(self._pending) >= MOST_PENDING or (bool(self._pending) and waits >= TAKE_SECONDS)

    async def exchange(self) -> list[Record]:
        """Records of what was learned here since the last time; what others gave is added. The engine must not be scoring meanwhile."""
        taken, self._pending = self._pending, []
        self._taken_at = time.monotonic()
        records = await self._run(self._cohorts.give)
        try:
            await self._run(lambda: self._cohorts.take(taken))
        except Missing as reason:
            await self._restore(str(reason))
        return records

    async def close(self) -> None:
        """Stop reading."""
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    async def _restore(self, why: str) -> None:
        log.info("putting together anew what is known of cohorts", partition=self.number, why=why)
        found = await self._read(self.others)
        given = {q: reader.given for q, (reader, _) in found.items()}
        positions = {q: Position(end, reader.number) for q, (reader, end) in found.items()}
        await self._run(lambda: self._cohorts.restore(given, positions))
        self._pending = []
        self._seek()

    async def _read(self, partitions: Sequence[int]) -> dict[int, tuple[Reader, int]]:
        """All that these partitions have given, and where that ends."""
        out = {}
        async with self._client() as consumer:
            for number in partitions:
                reader, tp = Reader(), TopicPartition(COHORTS, number)
                consumer.assign([tp])
                end = (await consumer.end_offsets([tp]))[tp]
                await consumer.seek_to_beginning(tp)
                while await consumer.position(tp) < end:
                    records = (await consumer.getmany(tp, timeout_ms=20)).get(tp, [])
                    await self._run(lambda records=records, reader=reader: self._count(reader, records))  # type: ignore[misc]
                out[number] = (reader, await consumer.position(tp))
        return out

    def _count(self, reader: Reader, records: Sequence[Any]) -> None:
        for given in map(self._given, records):
            if given is not None:
                reader.read(given)

    def _given(self, record: Any) -> Given | None:
        self.read += 1
        try:
            return read(record.key, record.value)
        except Corrupt as reason:
            metrics.CORRUPT.inc()
            log.warning(
                "corrupt cohorts record left out: what it held is not known here",
                partition=self.number,
                given_by=record.partition,
                offset=record.offset,
                reason=str(reason),
            )
            return None

    def _client(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **arguments(self._settings),
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_partition_fetch_bytes=8 << 20,
        )

    def _places(self) -> list[TopicPartition]:
        return [TopicPartition(COHORTS, q) for q in self.others]

    def _seek(self) -> None:
        if self._consumer is not None:
            for tp in self._places():
                self._consumer.seek(tp, self._cohorts.positions.get(tp.partition, Position()).offset)

    async def _run(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)
