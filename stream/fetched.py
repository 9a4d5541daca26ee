"""What the broker sends of a partition, read without an object for each record: aiokafka makes two, which cost a worker a tenth of all its work.

aiokafka goes on doing what is not records: fetching, checksums, which producers' transactions were aborted, positions. What was aborted, and the marks at the end of
transactions, are passed over where the consumer reads committed (`STRAYLINE_ISOLATION`).

A record batch that cannot be read must not end a worker at every start. If its checksum is wrong it is fetched once more, for that may be the network's doing; then, as where it cannot be unpacked, it
becomes one record, its bytes as they came: `Damaged` of a batched topic, and of any other a record that whoever reads it finds corrupt. Reading goes on behind it.
"""

from __future__ import annotations

import inspect
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import ConsumerRecord, TopicPartition

from stream.compression import TooMuchError, decompress
from stream.records import Packed, Records, unpack

log = structlog.get_logger()
MOST: dict[str, int] = {}  # records of one poll, of each topic that is batched in this process
# Bytes of them together, where that is less: polls wait in a queue, and a batch of 1 MB may unpack to hundreds.
MOST_BYTES = 16 << 20
MOST_RECORDS = 1 << 20  # of one batch: where each stands takes more memory than the least of them
_METHODS = {
    "__init__": ["self", "tp", "records", "aborted_transactions", "fetch_offset", "key_deserializer", "value_deserializer", "check_crcs", "isolation_level"],
    "_consume_aborted_up_to": ["self", "batch_offset"],
    "_consumer_record": ["self", "tp", "record"],
    "_contains_abort_marker": ["self", "next_batch"],
    "_unpack_records": ["self"],
}  # fmt: skip
_HEADER = struct.Struct(">q i i b I h i q q q h i i")  # of a record batch
_BASE, _LENGTH, _MAGIC, _LAST, _TIME, _COUNT = 0, 1, 3, 6, 8, 12  # in it
_OVERHEAD = 12  # bytes of it that its length does not count
# Offsets of batches whose checksum was wrong when they came last. A topic may have several readers here, each somewhere else.
_suspect: set[tuple[TopicPartition, int]] = set()
# The last offsets of each partition that were read and hold no records, from and to: they go with the next poll.
_for_nobody: dict[TopicPartition, tuple[int, int]] = {}


class Damaged(Records):
    """A record batch that cannot be read, as one record: its bytes as they came, at the last of its offsets."""

    __slots__ = ("detail", "reason")

    def __init__(self, raw: bytes, last: int, time: int, reason: str, detail: str) -> None:
        """`reason` is one of `codec.REASONS`, the time in milliseconds."""
        none = np.array([-1])
        super().__init__(raw, np.array([0]), np.array([len(raw)]), np.array([last]), np.array([time]), none, none)
        self.reason, self.detail = reason, detail


class Polled(Records):
    """Records of one poll, and from where to where reading went for them: what lies between two of these nobody has seen."""

    __slots__ = ("after", "before")

    def __init__(self, records: Records, before: int, after: int) -> None:
        for name in Records.__slots__:
            setattr(self, name, getattr(records, name))
        self.before, self.after = before, after


class Fetched:
    """What the broker sent of a partition: aiokafka's reader, and beside it the bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._reader = MemoryRecords(data)
        self.has_next, self.next_batch = self._reader.has_next, self._reader.next_batch
        self.size_in_bytes = self._reader.size_in_bytes


STOCK: Any = fetcher.PartitionRecords


class _Span(NamedTuple):
    """Where a batch stands in what was sent, the offset after it, and aiokafka's reader of it."""

    low: int
    high: int
    after: int
    batch: Any


class _DamageError(Exception):
    """A batch that cannot be read. `sent`: perhaps only as it was sent this time."""

    def __init__(self, low: int, why: str, reason: str = "damaged", *, sent: bool = False) -> None:
        super().__init__(why)
        self.low, self.reason, self.sent = low, reason, sent


class PartitionRecords(STOCK):  # type: ignore[misc]
    """aiokafka's, which makes an object of each record; but of a topic that is batched, `Records`."""

    def _unpack_records(self) -> Iterator[Any]:
        most = MOST.get(self._tp.topic)
        try:
            yield from self._each() if most is None else self._polls(most)
        except _DamageError as damage:
            yield from self._instead(damage, is_batched=most is not None)

    def _each(self) -> Iterator[Any]:
        """aiokafka's records."""
        for packed, span in self._batches():
            if packed is not None:
                try:
                    unpack([packed])
                    records = list(span.batch)
                except (ValueError, CorruptRecordException) as reason:
                    raise _DamageError(span.low, str(reason)) from None
                for record in records:
                    if record.offset >= self.next_fetch_offset:  # type: ignore[has-type]
                        self.next_fetch_offset = record.offset + 1
                        yield self._consumer_record(self._tp, record)
            self.next_fetch_offset = span.after

    def _polls(self, most: int) -> Iterator[Records]:
        enough = _even(_held(self._records.data), most)
        waiting: list[tuple[Packed, _Span]] = []
        count = size = 0
        position: int = self.next_fetch_offset
        try:
            for packed, span in self._batches():
                if packed is not None:
                    if count + packed.n > most or size + len(packed.records) > MOST_BYTES:
                        yield from self._taken(waiting, most, position)
                        waiting, count, size = [], 0, 0
                    waiting.append((packed, span))
                    count, size = count + packed.n, size + len(packed.records)
                position = span.after
                if count >= enough or size >= MOST_BYTES:
                    yield from self._taken(waiting, most, position)
                    waiting, count, size = [], 0, 0
        except (_DamageError, CorruptRecordException) as damage:
            # What lies before it is sound, and need not wait for what becomes of it.
            if not isinstance(damage, _DamageError) or not any(span.low == damage.low for _, span in waiting):
                yield from self._taken(waiting, most, position)
            raise
        yield from self._taken(waiting, most, position)

    def _taken(self, batches: list[tuple[Packed, _Span]], most: int, position: int) -> Iterator[Records]:
        """Their records, from where the last ones ended; `position` is what follows them, records or not."""
        if batches:
            try:
                # A batch is sent whole, from before where we stood too.
                records = unpack([packed for packed, _ in batches]).since(self.next_fetch_offset)
            except ValueError as reason:
                if len(batches) == 1:
                    raise _DamageError(batches[0][1].low, str(reason)) from None
                for batch in batches:  # one of them it is
                    yield from self._taken([batch], most, batch[1].after)
                return
            # One batch too can be more than a poll should be.
            held = sum(len(packed.records) for packed, _ in batches)
            step = _even(len(records), max(1, min(most, len(records) * MOST_BYTES // max(1, held))))
            for low in range(0, len(records), step):
                some = records[low : low + step]
                last = low + step >= len(records)
                before = self.next_fetch_offset
                self.next_fetch_offset = position if last else int(some.position[-1]) + 1
                yield Polled(some, self._since(before), self.next_fetch_offset)
        elif position > self.next_fetch_offset:  # markers of transactions, and what was aborted
            _for_nobody[self._tp] = self._since(self.next_fetch_offset), position
        self.next_fetch_offset = position

    def _since(self, offset: int) -> int:
        """From where what goes on at an offset was read, with what was for nobody right before it."""
        begin, end = _for_nobody.get(self._tp, (offset, offset))
        return begin if end == offset else offset

    def _batches(self) -> Iterator[tuple[Packed | None, _Span]]:
        """Each batch, None where nobody is to see it, and where it stands. What aiokafka does but for the records in it."""
        data, at = self._records.data, 0
        while self._records.has_next():
            begin = at
            head = _head(data, begin)
            if head[_LENGTH] < _HEADER.size - _OVERHEAD:
                raise _DamageError(begin, "its length is wrong", sent=True)
            at = begin + _OVERHEAD + head[_LENGTH]
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise _DamageError(begin, "its checksum is wrong", sent=True)
            if not isinstance(batch, DefaultRecordBatch):
                raise CorruptRecordException(
                    f"{self._tp} holds records in a format of before Kafka 0.11, which is not read here; copy them to a new topic"
                )
            span = _Span(begin, at, batch.next_offset, batch)
            if self._isolation_level == fetcher.READ_COMMITTED and batch.producer_id is not None:
                self._consume_aborted_up_to(batch.base_offset)
                if batch.is_control_batch and self._contains_abort_marker(batch):
                    self._aborted_producers.discard(batch.producer_id)
                if batch.is_transactional and batch.producer_id in self._aborted_producers:
                    yield None, span
                    continue
            if batch.is_control_batch:
                yield None, span
                continue
            yield self._packed(batch, span, head[_COUNT]), span

    def _packed(self, batch: Any, span: _Span, count: int) -> Packed:
        if count > MOST_RECORDS:
            raise _DamageError(span.low, f"it has {count} records; at most {MOST_RECORDS} are read", "too_large")
        payload = self._records.data[span.low + _HEADER.size : span.high]
        try:
            if batch.compression_type:
                payload = decompress(batch.compression_type, payload)
        except TooMuchError as reason:
            raise _DamageError(span.low, str(reason), "too_large") from None
        except ValueError as reason:
            raise _DamageError(span.low, str(reason)) from None
        appended = bool(batch.timestamp_type)
        time = batch.max_timestamp if appended else batch.first_timestamp
        return Packed(payload, count, batch.base_offset, time, appended)

    def _instead(self, damage: _DamageError, *, is_batched: bool) -> Iterator[Any]:
        """What stands for a batch that cannot be read; nothing where it is to be fetched once more."""
        tp, data = self._tp, self._records.data
        head = _head(data, damage.low)
        first = head[_BASE]
        if damage.sent and (tp, first) not in _suspect:
            _suspect.add((tp, first))
            return
        _suspect.discard((tp, first))
        after = _after(data, damage.low, checked=not damage.sent, gaps=not is_batched)
        if after is None or after <= self.next_fetch_offset:
            raise CorruptRecordException(
                f"{tp.topic}, partition {tp.partition}: the batch at offset {first} is damaged ({damage}), and so is what says where it ends. Stop the "
                f"workers; `kafka-consumer-groups --bootstrap-server BROKER --group GROUP --topic {tp.topic}:{tp.partition} --reset-offsets --to-offset N "
                "--execute` lets them go on at the offset N"
            )
        raw = data[damage.low : damage.low + max(_HEADER.size, _OVERHEAD + head[_LENGTH])]
        detail = f"a record batch, offsets {first} to {after - 1}: {damage}"
        log.warning(
            "a record batch cannot be read: its bytes are taken as one record, and reading goes on behind it; look at the disk of the broker"
            if damage.reason == "damaged"
            else "a record batch is too large to be read: its bytes are taken as one record, and reading goes on behind it",
            topic=tp.topic,
            partition=tp.partition,
            offset=first,
            next_offset=after,
            why=str(damage),
        )
        self.next_fetch_offset = after
        if is_batched:
            yield Damaged(raw, after - 1, head[_TIME], damage.reason, detail)
        else:
            yield ConsumerRecord(tp.topic, tp.partition, after - 1, head[_TIME], 0, None, raw, None, -1, len(raw), ())


def _after(data: bytes, low: int, *, checked: bool, gaps: bool) -> int | None:
    """The offset after a batch, which its own header says where that was `checked`, else the next batch's, or how many records it has; None
    where these do not agree. Where a topic is compacted there are `gaps`."""
    head = _head(data, low)
    base, last, count = head[_BASE], head[_LAST], head[_COUNT]
    if checked:
        return int(base + last + 1)
    at = low + _OVERHEAD + head[_LENGTH]
    if low < at <= len(data) - _HEADER.size:
        following = _HEADER.unpack_from(data, at)
        if following[_MAGIC] == head[_MAGIC] and base < following[_BASE] <= base + (1 << 31):
            return int(following[_BASE])
    if last == count - 1 >= 0 or (gaps and 0 < count <= last + 1 <= MOST_RECORDS):
        return int(base + last + 1)
    return None


def _head(data: bytes, at: int) -> tuple[int, ...]:
    """The header of a batch. One that says that it ends within may be the last, and lack bytes."""
    return _HEADER.unpack_from(data[at : at + _HEADER.size].ljust(_HEADER.size, b"\0"))


def _even(count: int, most: int) -> int:
    """How many to take at a time, at most, so that none is left over that would keep no thread busy."""
    return -(-count // -(-count // most)) if count else most


def _held(data: bytes) -> int:
    """How many records the whole batches in it say they have."""
    at = count = 0
    while at + _HEADER.size <= len(data):
        head = _HEADER.unpack_from(data, at)
        at += _OVERHEAD + max(head[_LENGTH], 0)
        count += head[_COUNT] if at <= len(data) else 0
    return count


def install() -> None:
    """Have every consumer of this process read so, of the topics in `MOST`."""
    fetcher.MemoryRecords, fetcher.PartitionRecords = Fetched, PartitionRecords


def changed() -> str | None:
    """What this rests on and aiokafka no longer has, if there is any."""
    for name, expected in _METHODS.items():
        method = getattr(STOCK, name, None)
        if method is None or list(inspect.signature(method).parameters) != expected:
            return f"aiokafka's PartitionRecords.{name} is no longer {name}({', '.join(expected)})"
    source = inspect.getsource(fetcher.Fetcher)
    gone = [
        call
        for call in ("MemoryRecords(part_data[-1])", "PartitionRecords(", "list(self._records.keys())")
        if call not in source
    ]
    if gone:
        return f"aiokafka's Fetcher no longer calls {' and '.join(gone)}"
    starts = inspect.getsource(AIOKafkaConsumer.start)
    if (
        "isolation_level=self._isolation_level" not in starts
        or "fetch_max_wait_ms=self._fetch_max_wait_ms" not in starts
    ):
        return "aiokafka's consumer no longer takes its isolation level, and how long a broker may wait, when it starts"
    return None
