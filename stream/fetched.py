"""What the broker sends of a partition, read without an object for each record: aiokafka makes two, which cost a worker a tenth of all its work.

aiokafka goes on doing what is not records: fetching, checksums, aborted transactions, positions.
"""

from __future__ import annotations

import inspect
import struct
from collections.abc import Iterator
from typing import Any

from aiokafka import codec
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords

from stream.records import Packed, Records, unpack

MOST: dict[str, int] = {}  # records of one poll, of each topic that is batched in this process
MOST_BYTES = (
    16 << 20
)  # of them together, where that is less: polls wait in a queue, and a batch of 1 MB may unpack to hundreds
_METHODS = {
    "__init__": ["self", "tp", "records", "aborted_transactions", "fetch_offset", "key_deserializer", "value_deserializer", "check_crcs", "isolation_level"],
    "_consume_aborted_up_to": ["self", "batch_offset"],
    "_contains_abort_marker": ["self", "next_batch"],
    "_unpack_records": ["self"],
}  # fmt: skip
_HEADER = struct.Struct(">q i i b I h i q q q h i i")  # of a record batch
_CODECS = {
    1: codec.gzip_decode,
    2: codec.snappy_decode,
    3: codec.lz4_decode,
    4: codec.zstd_decode,
}


class Fetched:
    """What the broker sent of a partition: aiokafka's reader, and beside it the bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._reader = MemoryRecords(data)
        self.has_next, self.next_batch = self._reader.has_next, self._reader.next_batch
        self.size_in_bytes = self._reader.size_in_bytes


STOCK: Any = fetcher.PartitionRecords


class PartitionRecords(STOCK):  # type: ignore[misc]
    """aiokafka's, which makes an object of each record; but of a topic that is batched, `Records`."""

    def _unpack_records(self) -> Iterator[Any]:
        most = MOST.get(self._tp.topic)
        if most is None:
            yield from super()._unpack_records()
            return
        enough = _even(_held(self._records.data), most)
        waiting: list[Packed] = []
        count = size = 0
        position: int = self.next_fetch_offset
        try:
            for packed, after in self._batches():
                if packed is not None:
                    if count + packed.n > most or size + len(packed.records) > MOST_BYTES:
                        yield from self._taken(waiting, most, position)
                        waiting, count, size = [], 0, 0
                    waiting.append(packed)
                    count, size = count + packed.n, size + len(packed.records)
                position = after
                if count >= enough or size >= MOST_BYTES:
                    yield from self._taken(waiting, most, position)
                    waiting, count, size = [], 0, 0
        except CorruptRecordException:
            # What lies before it is sound, and need not wait until somebody has mended it.
            yield from self._taken(waiting, most, position)
            raise
        yield from self._taken(waiting, most, position)

    def _taken(self, batches: list[Packed], most: int, position: int) -> Iterator[Records]:
        """Their records, from where the last ones ended; `position` is what follows them, records or not."""
        if batches:
            try:
                # A batch is sent whole, from before where we stood too.
                records = unpack(batches).since(self.next_fetch_offset)  # type: ignore[has-type]
            except ValueError as reason:
                raise CorruptRecordException(f"{self._tp}, from offset {batches[0].offset} on: {reason}") from None
            held = sum(len(batch.records) for batch in batches)  # which one batch too can be more than a poll should be
            step = _even(len(records), max(1, min(most, len(records) * MOST_BYTES // max(1, held))))
            for low in range(0, len(records), step):
                some = records[low : low + step]
                last = low + step >= len(records)
                self.next_fetch_offset = position if last else int(some.position[-1]) + 1
                yield some
        self.next_fetch_offset = position

    def _batches(self) -> Iterator[tuple[Packed | None, int]]:
        """Each batch, None where nobody is to see it, and the offset after it. What aiokafka does but for the records in it."""
        data, at = self._records.data, 0
        while self._records.has_next():
            begin = at
            head = _HEADER.unpack_from(data, begin)
            at = begin + 12 + head[1]
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"{self._tp}, the batch at offset {head[0]}: its checksum is wrong")
            if not isinstance(batch, DefaultRecordBatch):
                raise CorruptRecordException(
                    f"{self._tp} holds records in a format of before Kafka 0.11, which is not read here; copy them to a new topic"
                )
            if self._isolation_level == fetcher.READ_COMMITTED and batch.producer_id is not None:
                self._consume_aborted_up_to(batch.base_offset)
                if batch.is_control_batch and self._contains_abort_marker(batch):
                    self._aborted_producers.discard(batch.producer_id)
                if batch.is_transactional and batch.producer_id in self._aborted_producers:
                    yield None, batch.next_offset
                    continue
            if batch.is_control_batch:
                yield None, batch.next_offset
                continue
            payload = data[begin + _HEADER.size : at]
            if batch.compression_type:
                payload = _CODECS[batch.compression_type](payload)
            appended = bool(batch.timestamp_type)
            time = batch.max_timestamp if appended else batch.first_timestamp
            yield Packed(payload, head[12], batch.base_offset, time, appended), batch.next_offset


def _even(count: int, most: int) -> int:
    """How many to take at a time, at most, so that none is left over that would keep no thread busy."""
    return -(-count // -(-count // most)) if count else most


def _held(data: bytes) -> int:
    """How many records the whole batches in it say they have."""
    at = count = 0
    while at + _HEADER.size <= len(data):
        head = _HEADER.unpack_from(data, at)
        at += 12 + max(head[1], 0)
        count += head[12] if at <= len(data) else 0
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
    gone = [call for call in ("MemoryRecords(part_data[-1])", "PartitionRecords(") if call not in source]
    return f"aiokafka's Fetcher no longer calls {' and '.join(gone)}" if gone else None
