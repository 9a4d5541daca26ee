"""One partition among the others: what it gives them of cohorts at each flush, and what it takes (`stream.cohorts`, on Kafka)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from stream import metrics
from stream.baselines import Corrupt, Position, Record
from stream.client import arguments
from stream.cohorts import MOST_PENDING, Cohorts, Given, Missing, Reader, read
from stream.engine import Engine
from stream.settings import Settings
from stream.topics import COHORTS

log = structlog.get_logger()
T = TypeVar("T")


class Sharing:
    """Use `open`, then `receive` and `exchange` at each flush; `close` when the partition goes to another worker."""

    def __init__(self, settings: Settings, engine: Engine, number: int, of: int, executor: Executor) -> None:
        self.number = number
        self.others = [q for q in range(of) if q != number]
        self._settings = settings
        self._engine = engine
        self._executor = executor
        self._pending: list[tuple[int, int, Given]] = []  # what others gave, and is not added yet
        self._cohorts = Cohorts(engine, settings.alerts_per_day)
        self._consumer: AIOKafkaConsumer | None = None

    @property
    def positions(self) -> dict[int, Position]:
        """How far it has come in what the others gave, for the baselines; its own place has the number of what it gave itself."""
        return self._cohorts.positions | {self.number: Position(0, self._cohorts.number)}

    async def open(self, positions: dict[int, Position]) -> None:
        """Go on where the baselines ended; where they know less than what this partition has given, they were lost."""
        self._consumer = self._client()
        await self._consumer.start()
        (own, _) = (await self._read([self.number]))[self.number]
        known = positions.pop(self.number, Position()).number
        ends = await self._consumer.end_offsets(self._places())
        for tp, end in ends.items():
            at = positions.get(tp.partition, Position())
            if at.offset > end:  # a new topic: the numbers go on
                at.offset = 0
        number = max(own.number, known)
        self._cohorts = Cohorts(self._engine, self._settings.alerts_per_day, number, own.given, positions)
        self._consumer.assign(self._places())
        self._seek()
        if own.number > known:
            await self._restore(f"this partition has given {own.number} increments and knows of {known}")

    async def receive(self) -> bool:
        """Read what the others have given by now; whether that is so much that it should not wait for events."""
        if self._consumer is not None:
            for tp, records in (await self._consumer.getmany(*self._places(), timeout_ms=0)).items():
                found = [(record.offset + 1, self._given(record)) for record in records]
                self._pending += [(tp.partition, offset, given) for offset, given in found if given is not None]
        return len(self._pending) >= MOST_PENDING

    async def exchange(self) -> list[Record]:
        """Records of what was learned here since the last time; what others gave is added. The engine must not be scoring meanwhile."""
        records = await self._run(self._cohorts.give)
        taken, self._pending = self._pending, []
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
                    for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, ()):
                        if (given := self._given(record)) is not None:
                            await self._run(lambda given=given: reader.read(given))  # type: ignore[misc]  # noqa: B023
                out[number] = (reader, await consumer.position(tp))
        return out

    def _given(self, record: Any) -> Given | None:
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

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)
