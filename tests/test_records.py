"""Records that nobody made objects of are those that aiokafka makes objects of."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as some

from stream import fetched
from stream.fetched import MOST, STOCK, Fetched, PartitionRecords
from stream.records import Packed, Records, unpack

TP = TopicPartition("test.records", 3)
Row = tuple[int, int, bytes | None, bytes | None]

# The first example of each compiles what it calls.
slow = settings(deadline=None)
value = some.none() | some.binary(max_size=200)
record = some.tuples(
    value,
    value,
    some.integers(-(1 << 20), 1 << 45),
    some.lists(some.tuples(some.text(max_size=5), value), max_size=3),
)


def batch(
    first: int, records: list[Any], codec: int = 0, *, appended: bool = False, transactional: bool = False
) -> bytes:
    """A record batch as a broker stores it, its first offset `first`."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=int(transactional),
        producer_id=7 if transactional else -1,
        producer_epoch=0 if transactional else -1,
        base_sequence=0,
        batch_size=1 << 24,
    )
    for n, (key, content, time, headers) in enumerate(records):
        builder.append(n, time, key, content, headers)
    out = bytearray(builder.build())
    out[0:8] = struct.pack(">q", first)
    if appended:  # a bit that the broker sets, so that the checksum is another; it is not looked at here
        out[22] |= 8
    return bytes(out)


def stock(data: bytes, start: int, aborted: Any = (), *, crcs: bool = False) -> list[Row]:
    taken = STOCK(TP, MemoryRecords(data), aborted, start, None, None, crcs, fetcher.READ_COMMITTED)
    return [(r.offset, r.timestamp, r.key, r.value) for r in taken]


def ours(data: bytes, start: int, most: int, aborted: Any = (), *, crcs: bool = False) -> list[list[Row]]:
    MOST[TP.topic] = most
    taken = PartitionRecords(TP, Fetched(data), aborted, start, None, None, crcs, fetcher.READ_COMMITTED)
    return list(polls(taken, []))


def polls(taken: Any, after: list[int]) -> Iterator[list[Row]]:
    for records in taken:
        offsets, times = records.position.tolist(), records.timestamp.tolist()
        rows = [(offsets[i], times[i], records.key(i), content) for i, content in enumerate(records)]
        yield rows
        after.append(taken.next_fetch_offset)


@slow
@given(
    some.lists(some.tuples(some.lists(record, min_size=1, max_size=6), some.sampled_from([0, 1, 2, 3, 4]), some.booleans()), max_size=5),
    some.integers(1, 8),
    some.integers(0, 12),
)  # fmt: skip
def test_a_poll_gives_what_aiokafka_gives_for_whatever_is_written(batches, most, start):
    """Keys, values, headers, nulls, times and codecs; from the middle of a batch, in polls of whatever size."""
    data, first = b"", 0
    for records, codec, appended in batches:
        data += batch(first, records, codec, appended=appended)
        first += len(records)
    start = min(start, len(batches[0][0]) - 1) if batches else 0  # a broker begins with the batch that is asked for
    MOST[TP.topic] = most
    after: list[int] = []
    taken = PartitionRecords(TP, Fetched(data), (), start, None, None, False, fetcher.READ_COMMITTED)
    found = list(polls(taken, after))
    assert [row for rows in found for row in rows] == stock(data, start)
    assert all(len(rows) <= most for rows in found)
    assert after == [rows[-1][0] + 1 for rows in found]
    assert taken.next_fetch_offset == first or not batches


def test_an_aborted_transaction_and_the_mark_of_its_end_are_passed_over():
    """And the position is behind them, or they would be fetched again."""
    plain = [(b"k", b"v", 0, [])]
    mark = struct.pack(">hh", 0, 0)  # version, abort
    control = bytearray(batch(3, [(mark, b"", 0, [])], transactional=True))
    control[22] |= 0x20
    data = (
        batch(0, plain * 2, transactional=True) + batch(2, plain) + bytes(control) + batch(4, plain, transactional=True)
    )
    aborted = [(7, 0)]
    assert [row for rows in ours(data, 0, 10, aborted) for row in rows] == stock(data, 0, aborted)
    assert [row[0] for rows in ours(data, 0, 1, aborted) for row in rows] == [2, 4]
    MOST[TP.topic] = 10
    taken = PartitionRecords(
        TP, Fetched(data[: -len(batch(4, plain))]), aborted, 0, None, None, False, fetcher.READ_COMMITTED
    )
    assert [records.position.tolist() for records in taken] == [[2]]
    assert taken.next_fetch_offset == 4


@pytest.mark.parametrize("codec", [0, 4])
def test_a_poll_is_of_so_many_bytes_too_however_large_a_batch_is(monkeypatch, codec):
    """Several polls wait in memory. Those of one batch share its bytes, and the next is not unpacked before they are taken."""
    monkeypatch.setattr(fetched, "MOST_BYTES", 4000)
    batches = [batch(first, [(b"k", b"v" * 1000, 0, [])] * 10, codec) for first in (0, 10)]
    batches += [batch(first, [(b"k", b"v" * 1000, 0, [])], codec) for first in range(20, 30)]
    data = b"".join([*batches, batch(30, [(b"k", b"v" * 9000, 0, [])], codec)])
    found = ours(data, 0, 100)
    assert [row for rows in found for row in rows] == stock(data, 0)
    assert [len(rows) for rows in found] == [3, 3, 3, 1, 3, 3, 3, 1, 3, 3, 3, 1, 1]


@slow
@given(some.data())
def test_damage_is_said_or_harmless(data):
    """Where no checksum is looked at: never more than an error."""
    sound = batch(0, [(b"key", b"value" * 5, 1000 + n, [("h", b"x")]) for n in range(5)])
    at = data.draw(some.integers(57, len(sound) - 1))
    damaged = sound[:at] + bytes([data.draw(some.integers(0, 255))]) + sound[at + 1 :]
    try:
        ours(damaged, 0, 100)
    except CorruptRecordException:
        assert damaged != sound
    with pytest.raises(CorruptRecordException):
        ours(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :], 0, 100, crcs=True)


def test_what_lies_before_a_damaged_batch_is_read_and_the_damage_has_its_place():
    """Or a worker that starts again and again would never come as far."""
    plain = [(b"k", b"v", 0, [])] * 3
    damaged = bytearray(batch(6, plain))
    damaged[-3] ^= 1
    MOST[TP.topic] = 100
    data = batch(0, plain) + batch(3, plain) + bytes(damaged) + batch(9, plain)
    taken = PartitionRecords(TP, Fetched(data), (), 0, None, None, True, fetcher.READ_COMMITTED)
    assert next(taken).position.tolist() == list(range(6))
    assert taken.next_fetch_offset == 6
    with pytest.raises(CorruptRecordException, match="offset 6"):
        next(taken)


@pytest.mark.parametrize("where", range(5))
def test_a_size_that_no_number_can_hold_is_damage(where):
    """Of the record, its key, its value, a header's name and its value: what is added to it must not come out negative."""
    far = b"\xfe" + b"\xff" * 8 + b"\x01"  # 2 ** 63 - 1
    sizes = [b"\x28", b"\x02", b"\x02", b"\x02", b"\x02"]
    sizes[where] = far
    length, key, content, name, told = sizes
    raw = length + b"\x00\x00\x00" + key + b"k" + content + b"v" + b"\x02" + name + b"n" + told + b"h" + bytes(40)
    with pytest.raises(ValueError, match="not the records"):
        unpack([Packed(raw, 1, 0, 0, appended=False)])


@slow
@given(some.lists(value | some.text(max_size=20).map(str.encode), max_size=12), some.integers(0, 30))
def test_a_text_has_every_record_that_can_be_read_in_its_place(values, most):
    records = Records.of(values, 5)
    text, at = records.text(most)
    raw = text.tobytes()
    for i, content in enumerate(values):
        fits = content is not None and len(content) <= most and _is_utf8(content)
        assert raw[at[i] : at[i + 1] - 1] == (content if fits else b"")
        assert raw[at[i + 1] - 1] == 10
    assert list(records) == values
    assert [records[i] for i in range(len(values))] == values
    assert list(records.since(7)) == values[2:]
    assert list(Records.lines(b"".join(b"%d\n" % n for n in range(most)), 1)) == [b"%d" % n for n in range(most)]


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_nothing_is_unpacked_of_nothing():
    assert list(Records.of([])) == []
    with pytest.raises(ValueError, match="records"):
        unpack([Packed(b"\x02", 1, 0, 0, appended=False)])
