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
from aiokafka.record.util import calc_crc32c as crc32c
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as some

from stream import compression, fetched
from stream.fetched import MOST, STOCK, Damaged, Fetched, PartitionRecords
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


def fetch(data: bytes, start: int = 0, *, crcs: bool = True, topic: str = TP.topic) -> list[Any]:
    """What one answer of the broker gives, and last the position."""
    tp = TopicPartition(topic, TP.partition)
    taken = PartitionRecords(tp, Fetched(data), (), start, None, None, crcs, fetcher.READ_COMMITTED)
    return [*taken, taken.next_fetch_offset]


def again(data: bytes, start: int = 0, *, topic: str = TP.topic) -> list[Any]:
    """The same where the answer is the same the second time."""
    return fetch(data, fetch(data, start, topic=topic)[-1], topic=topic)


@pytest.fixture(autouse=True)
def _in_polls():
    MOST[TP.topic] = 100
    fetched._suspect.clear()


@slow
@given(some.data())
def test_damage_is_said_or_harmless(data):
    """Where no checksum is looked at: never more than a batch that is kept as it is. With one it is always that."""
    sound = batch(0, [(b"key", b"value" * 5, 1000 + n, [("h", b"x")]) for n in range(5)])
    at = data.draw(some.integers(61, len(sound) - 1))
    damaged = sound[:at] + bytes([data.draw(some.integers(0, 255))]) + sound[at + 1 :]
    *found, after = fetch(damaged, crcs=False)
    assert after == 5
    assert damaged != sound or [records.position.tolist() for records in found] == [list(range(5))]
    damaged = sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :]
    fetched._suspect.clear()
    assert fetch(damaged) == [0]
    kept, after = fetch(damaged)
    assert isinstance(kept, Damaged)
    assert (kept[0], kept.position.tolist(), kept.key(0), kept.reason, after) == (damaged, [4], None, "damaged", 5)
    assert kept.detail == "a record batch, offsets 0 to 4: its checksum is wrong"
    assert not kept.since(5)


def test_what_lies_before_a_damaged_batch_is_read_then_it_is_fetched_once_more_and_passed_over():
    """The damage may be the network's. What lies behind it is fetched anew."""
    plain = [(b"k", b"v", 0, [])] * 3
    damaged = bytearray(batch(6, plain))
    damaged[-3] ^= 1
    data = batch(0, plain) + batch(3, plain) + bytes(damaged) + batch(9, plain)
    before, after = fetch(data)
    assert (before.position.tolist(), after) == (list(range(6)), 6)
    kept, after = fetch(data[data.index(damaged) :], 6)
    assert (kept[0], kept.position.tolist(), after) == (bytes(damaged), [8], 9)
    behind, after = fetch(batch(9, plain), 9)
    assert (behind.position.tolist(), after) == ([9, 10, 11], 12)
    fetch(data, 6)
    sound, after = fetch(batch(6, plain), 6)  # it was the network's
    assert (sound.position.tolist(), after) == ([6, 7, 8], 9)


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_what_cannot_be_unpacked_is_kept_too(codec):
    """Its checksum is right, so it was written so. One of several in a poll, and those before it are read."""
    plain = [(b"k", b"v" * 100, 0, [])] * 3
    sound = batch(3, plain, codec)
    cut = bytearray(sound[:-9])
    cut[8:12] = (len(cut) - 12).to_bytes(4, "big")
    cut[17:21] = crc32c(bytes(cut[21:])).to_bytes(4, "big")
    before, kept, after = fetch(batch(0, plain) + bytes(cut) + batch(6, plain))
    assert before.position.tolist() == [0, 1, 2]
    assert (kept[0], kept.position.tolist(), kept.reason, after) == (bytes(cut), [5], "damaged", 6)


def resealed(sound: bytes) -> bytes:
    """With the length and the checksum that such bytes have."""
    out = bytearray(sound)
    out[8:12] = (len(out) - 12).to_bytes(4, "big")
    out[17:21] = crc32c(bytes(out[21:])).to_bytes(4, "big")
    return bytes(out)


@pytest.mark.parametrize("codec", range(5))
def test_of_a_topic_that_is_not_batched_what_cannot_be_unpacked_is_one_record(codec):
    """Verdicts, cohorts and baselines. What is written so comes again at every start."""
    plain = [(b"k", b"v" * 100, 0, [("h", b"x")])] * 3
    cut = resealed(batch(3, plain, codec)[:-9])
    *before, kept, after = fetch(batch(0, plain, codec) + cut + batch(6, plain, codec), topic="test.others")
    assert [(r.offset, r.key, r.value, r.headers) for r in before] == [
        (n, b"k", b"v" * 100, (("h", b"x"),)) for n in range(3)
    ]
    assert (kept.offset, kept.key, kept.value, after) == (5, None, cut, 6)


def test_of_a_topic_that_is_not_batched_too_a_batch_is_bounded(monkeypatch):
    large = batch(0, [(None, bytes(300_000), 0, [])] * 10, 3)
    monkeypatch.setattr(compression, "MOST_UNPACKED", 2 << 20)
    kept, after = fetch(large, topic="test.others")
    assert (kept.value, after) == (large, 10)


@slow
@given(
    some.lists(
        some.tuples(some.lists(record, min_size=1, max_size=6), some.sampled_from([0, 1, 2, 3, 4])),
        min_size=1,
        max_size=4,
    ),
    some.integers(0, 12),
)
def test_of_a_topic_that_is_not_batched_every_record_is_aiokafka_s(batches, start):
    """Headers too, and from the middle of a batch."""
    data, first = b"", 0
    for records, codec in batches:
        data += batch(first, records, codec)
        first += len(records)
    start = min(start, len(batches[0][0]) - 1)
    taken = STOCK(
        TopicPartition("test.others", 3), MemoryRecords(data), (), start, None, None, False, fetcher.READ_COMMITTED
    )
    assert fetch(data, start, topic="test.others") == [*taken, taken.next_fetch_offset]


def test_two_readers_of_a_topic_who_stand_before_different_damage_both_come_behind_it():
    """The cohorts have two, and neither must be told again and again to fetch once more because the other was."""
    damaged = [batch(first, [(b"k", b"v", 0, [])])[:-3] + b"!!!" for first in (0, 7)]
    found = [fetch(damaged[n], 7 * n, topic="test.others") for n in (0, 1, 0, 1)]
    assert [answer[-1] for answer in found] == [0, 7, 1, 8]


def test_a_header_that_is_cut_short_and_says_that_it_is_whole_is_damage():
    """The length is under no checksum."""
    cut = bytearray(batch(0, [(b"k", b"v", 0, [])])[:40])
    cut[8:12] = (28).to_bytes(4, "big")
    for topic in (TP.topic, "test.others"):
        assert fetch(bytes(cut), topic=topic) == [0]
        with pytest.raises(CorruptRecordException, match="offset 0 is damaged"):
            fetch(bytes(cut), topic=topic)


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_what_unpacks_to_more_than_memory_should_hold_is_kept_as_it_is(monkeypatch, codec):
    """A kilobyte may be a gigabyte."""
    large = batch(0, [(None, bytes(300_000), 0, [])] * 10, codec)
    assert len(large) < 300_000
    (records, after) = fetch(large)
    assert (len(records), after) == (10, 10)
    monkeypatch.setattr(compression, "MOST_UNPACKED", 2 << 20)
    kept, after = fetch(large)
    assert (kept[0], kept.reason, after) == (large, "too_large", 10)
    assert "it unpacks to more than 2 MiB" in kept.detail


def test_so_many_records_of_nothing_that_their_places_take_more_memory_than_they_are_kept_as_they_are(monkeypatch):
    monkeypatch.setattr(fetched, "MOST_RECORDS", 9)
    kept, after = fetch(batch(0, [(None, None, 0, [])] * 10, 1))
    assert (kept.reason, after) == ("too_large", 10)


@pytest.mark.parametrize("field", ["length", "last offset", "count"])
def test_where_a_damaged_batch_ends_is_what_two_of_its_numbers_or_the_next_batch_say(field):
    """Else the worker ends with the command that passes over it: to guess would leave events out in silence."""
    plain = [(b"k", b"v", 0, [])] * 3
    damaged = bytearray(batch(0, plain))
    low, number = {"length": (8, 20), "last offset": (23, 9), "count": (57, 1)}[field]
    damaged[low : low + 4] = number.to_bytes(4, "big")
    if field == "length":  # the others agree; what follows cannot be found
        kept, after = again(bytes(damaged))
        assert (kept.reason, after) == ("damaged", 3)
        return
    kept, after = again(bytes(damaged) + batch(7, plain))
    assert (kept.reason, kept.position.tolist(), after) == ("damaged", [6], 7)
    command = r"offset 0 is damaged .* `kafka-consumer-groups .*--topic test.records:3 --reset-offsets --to-offset N --execute`"
    with pytest.raises(CorruptRecordException, match=command):
        again(bytes(damaged))


def test_of_a_topic_that_is_not_batched_a_damaged_batch_is_one_record():
    """Whoever reads it finds it corrupt, and knows what to do about that. Where a topic is compacted fewer records are left than there are offsets."""
    other = "test.others"
    plain = [(b"k", b"v", 0, [])] * 3
    damaged = bytearray(batch(3, plain))
    damaged[23:27] = (5).to_bytes(4, "big")
    data = batch(0, plain) + bytes(damaged)
    *before, after = fetch(data, topic=other)
    assert ([r.offset for r in before], after) == ([0, 1, 2], 3)
    record, after = fetch(bytes(damaged), 3, topic=other)
    assert (record.offset, record.key, record.value, after) == (8, None, bytes(damaged), 9)


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
