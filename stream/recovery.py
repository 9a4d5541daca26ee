"""What a partition knew, read back from its topic of baselines: all of it into an engine that knows nothing, or what others have written since its own last record."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import numpy as np
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from stream import metrics
from stream.baselines import Reader
from stream.engine import Engine
from stream.sealed import Corrupt
from stream.topics import BASELINES

log = structlog.get_logger()
MOST_SAID = 10  # lines in the log about records of baselines that are corrupt for one reason
SHORT_MS = 20


class Place(NamedTuple):
    """A record of baselines: where it lies and what it is, so that another topic of the same name is not taken for the old one."""

    offset: int
    checksum: int


def place(offset: int, value: bytes | None) -> Place:
    """Of a record that was written, or read."""
    return Place(offset, zlib.crc32(value or b""))


class Recovery:
    """How far a partition has come with its baselines. The consumer is assigned to them."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.last: Place | None = None  # the record up to which the engine is what the topic says
        self.read = 0  # records, since the partition was last opened
        self.spoiled = False  # one of them was corrupt
        self._corrupt: Counter[str] = Counter()  # of these, by reason

    def begin(self) -> None:
        """The partition is opened, perhaps again."""
        self.read, self.spoiled = 0, False

    def told(self, *, went_on: bool) -> str:
        """Where what is known now has come from, for the log."""
        if self.spoiled:
            return "read again from the changelog, but for records that are corrupt or gone: what these held is learned anew"
        if went_on:
            return "still here" + (", and what others have written since was read" if self.read else "")
        return "read again from the changelog: all that was committed, nothing is lost" if self.read else "none yet"

    async def of_all(self, consumer: AIOKafkaConsumer, engine: Engine, end: int) -> Reader:
        """Read all of it into an engine that knows nothing."""
        self.last, self.read = None, 0
        reader = Reader(engine)
        async for record in self._records(consumer, 0, end):
            self._restore(reader, record)
        return reader

    def see_whole(self, engine: Engine) -> None:
        """See that all rows are there of which the tables' own counts speak: records that were deleted leave no other trace."""
        if self.spoiled:
            return
        tables = [t for t in engine.state.tables if t.layout.share]
        gone = sum(max(0, int(t.tally[0]) - int(np.count_nonzero(t.head["key"]))) for t in tables)
        if not gone:
            return
        self.spoiled = True
        metrics.CORRUPT.inc()
        log.warning(
            "records of baselines are gone from their topic: what they held is learned anew; see that nothing deletes there, `strayline topics` tells of its settings",
            partition=self.number,
            rows=gone,
        )

    async def of_the_rest(self, consumer: AIOKafkaConsumer, reader: Reader, end: int, *, knows_more: bool) -> bool:
        """Apply what others have written after our last record; False where that cannot be, for then all is to be read again.

        It cannot be if that record is gone: much was written, or it is another topic. Nor if others wrote while we knew more than we had delivered
        (`knows_more`), or other than we had read.
        """
        if self.last is None:
            return False
        last, found = self.last, False
        async for record in self._records(consumer, last.offset, end):
            if not found:
                if place(record.offset, record.value) != last:
                    return False
                found = True
            elif knows_more:
                return False
            else:
                self._restore(reader, record)
        return found

    async def _records(self, consumer: AIOKafkaConsumer, first: int, end: int) -> AsyncIterator[Any]:
        """From an offset on. Nobody else can write any now."""
        tp = TopicPartition(BASELINES, self.number)
        consumer.seek(tp, first)  # an offset that is no longer there is read as the first that is
        while (
            await consumer.position(tp) < end
        ):  # the last is the end of a transaction, and no record: nobody should wait for one
            for record in (await consumer.getmany(tp, timeout_ms=SHORT_MS)).get(tp, ()):
                yield record

    def _restore(self, reader: Reader, record: Any) -> None:
        self.read += 1
        self.last = place(record.offset, record.value)
        try:
            reader.read(record.key, record.value)
        except Corrupt as reason:
            self.spoiled = True
            metrics.CORRUPT.inc()
            self._corrupt[str(reason)] += 1
            if self._corrupt[str(reason)] <= MOST_SAID:  # of a layout that nobody knows are all
                log.warning(
                    "corrupt baselines record left out: what it held is learned anew",
                    partition=self.number,
                    offset=record.offset,
                    reason=str(reason),
                )
