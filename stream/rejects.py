"""Records that were rejected: why, and once the cause is mended, sending them again.

A record is sent again in a transaction with a mark of its own on the rejected topic (no value; headers `resubmitted`, the event id,
and `of`, which record). So there is never one without the other, and what has a mark, or an event id that has one, is not sent
again, however often and from wherever the command is run: one transactional id fences whoever else runs it. A worker that reads
what is not committed (`STRAYLINE_ISOLATION`) may have scored, of a run that was killed, what the next run sends: the id is a
repeated one then, and nothing is learned twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Container, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from stream.alert import rfc3339
from stream.client import arguments, said
from stream.codec import AccessEvent, decode, encode
from stream.errors import InputError
from stream.settings import Settings
from stream.topics import EVENTS, REJECTED, partitions_of
from stream.words import plain

_TOGETHER = 1000  # records of one transaction
_FIRST_BYTES = 100


class Rejected(NamedTuple):
    """One record of the rejected topic; `place` is where it lies there, as PARTITION/OFFSET."""

    place: str
    rejected_at: float
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    cut: bool


@dataclass
class Marks:
    """What was sent again before, and of the places asked about those that are there."""

    places: set[str] = field(default_factory=set)
    event_ids: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)


@dataclass
class Outcome:
    """What became of the records that were looked at."""

    send: int = 0
    unfit: Counter[str] = field(default_factory=Counter)  # still, by reason
    before: int = 0  # sent again before, or twice among these


def look(settings: Settings, reason: str | None, tell: Callable[[Rejected], object]) -> None:
    """Tell those that were not sent again yet, in order. Raises `BrokerError`."""

    async def run() -> None:
        async with _consumer(settings, partitions) as consumer:
            marks = await _marks(consumer)
            async for rejected in _rejected(consumer):
                if rejected.place not in marks.places and reason in {None, rejected.reason}:
                    tell(rejected)

    partitions = partitions_of(settings, REJECTED)
    with said(settings):
        asyncio.run(run())


def mended(path: str) -> dict[str, bytes]:
    """Lines as `strayline rejects --json` writes them, with `value` mended → value by place. Raises `InputError`."""
    found: dict[str, bytes] = {}
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            told = _decode_line(line)
        except msgspec.DecodeError as error:
            raise InputError(f"{path} line {number} is no line of `strayline rejects --json`: {error}") from None
        if told.value is None:  # bytes that are no text
            continue
        value = told.value.encode() if isinstance(told.value, str) else encode(told.value)
        found[told.rejected] = value
    return found


def send_again(settings: Settings, reason: str | None, values: Mapping[str, bytes] | None, *, send: bool) -> Outcome:
    """Send again what now decodes, or the `values` given by place; without `send` only say what would be. Raises `BrokerError`."""
    partitions = partitions_of(settings, REJECTED)
    with said(settings):
        return asyncio.run(_send_again(settings, partitions, reason, values, send=send))


async def _send_again(
    settings: Settings, partitions: int, reason: str | None, values: Mapping[str, bytes] | None, *, send: bool
) -> Outcome:
    outcome = Outcome()
    async with _sender(settings, send=send) as producer, _consumer(settings, partitions) as consumer:
        marks = await _marks(consumer, values or ())  # only now: whoever sent before us has been fenced
        unknown = sorted(set(values or ()) - marks.seen)
        if unknown:
            raise InputError(f"{REJECTED} has no record {', '.join(unknown[:5])}, or no longer; nothing was sent")
        outcome.before = len(marks.places)
        waiting: list[Waiting] = []
        async for rejected in _rejected(consumer):
            if rejected.place in marks.places or reason not in {None, rejected.reason}:
                continue
            if values is not None and rejected.place not in values:
                continue
            if rejected.topic != EVENTS:  # what else may be rejected is no event, whatever it looks like
                outcome.unfit["of another topic"] += 1
                continue
            value = rejected.value if values is None else values[rejected.place]
            event, unfit = _event(rejected, value, settings, is_mended=values is not None)
            if event is None:
                outcome.unfit[unfit] += 1
                continue
            again = event.event_id in marks.event_ids  # the gateway sent it twice: one of them is enough
            outcome.before += again
            outcome.send += not again
            marks.event_ids.add(event.event_id)
            if producer is not None:
                waiting.append((rejected, event, None if again else value))
                if len(waiting) == _TOGETHER:
                    await _deliver(producer, waiting)
                    waiting.clear()
        if producer is not None and waiting:
            await _deliver(producer, waiting)
    return outcome


def line(rejected: Rejected) -> bytes:
    """As JSON: its bytes as text where they are text, else in base64."""
    body: dict[str, Any]
    try:
        body = {"value": rejected.value.decode()}
    except UnicodeDecodeError:
        body = {"value_base64": rejected.value}
    place = {"rejected": rejected.place, "rejected_at": rfc3339(rejected.rejected_at)}
    why = {"reason": rejected.reason, "detail": rejected.detail}
    source = {"topic": rejected.topic, "partition": rejected.partition, "offset": rejected.offset}
    return encode(place | why | source | body)


def text(rejected: Rejected) -> str:
    """For reading: two lines."""
    first = plain(rejected.value[:_FIRST_BYTES].decode("utf-8", "replace"), _FIRST_BYTES)
    more = "…" if len(rejected.value) > _FIRST_BYTES or rejected.cut else ""
    return (
        f"{rejected.place:>8}  {rfc3339(rejected.rejected_at)}  {rejected.reason}: {plain(rejected.detail, 300)}\n"
        f"          {rejected.topic}/{rejected.partition}/{rejected.offset}  {first}{more}"
    )


Waiting = tuple[Rejected, AccessEvent, bytes | None]  # what to send; None: the mark alone


class _Line(msgspec.Struct):
    rejected: str
    value: str | dict[str, Any] | None = None


_decode_line = msgspec.json.Decoder(_Line).decode


def _event(rejected: Rejected, value: bytes, settings: Settings, *, is_mended: bool) -> tuple[AccessEvent | None, str]:
    if rejected.cut and not is_mended:
        return None, "cut"
    if rejected.reason == "damaged" and not is_mended:  # a record batch, which no decoder takes for an event
        return None, rejected.reason
    events, _, unfit = decode([value], [rejected.offset], settings.max_event_bytes)
    return (events[0], "") if events else (None, unfit[0].reason)


async def _deliver(producer: AIOKafkaProducer, waiting: list[Waiting]) -> None:
    async with producer.transaction():
        sent = []
        for rejected, event, value in waiting:
            # The key that it came with decides its partition, and so which baseline it meets.
            key = rejected.key or event.agent_id.encode("utf-8", "surrogatepass")
            if value is not None:
                sent.append(await producer.send(EVENTS, value, key=key))
            mark = {"resubmitted": event.event_id, "of": rejected.place}
            headers = [(name, text.encode("utf-8", "surrogatepass")) for name, text in mark.items()]
            partition = int(rejected.place.partition("/")[0])
            # A record has a key or a value: that of a record which came without a key is its agent's.
            sent.append(await producer.send(REJECTED, None, key=key, headers=headers, partition=partition))
        await asyncio.gather(*sent)


@asynccontextmanager
async def _sender(settings: Settings, *, send: bool) -> AsyncIterator[AIOKafkaProducer | None]:
    if not send:
        yield None
        return
    producer = AIOKafkaProducer(
        **arguments(settings),
        transactional_id=f"{settings.group}-resubmit",
        compression_type="lz4",
        max_request_size=8 << 20,
    )
    await producer.start()
    try:
        async with producer.transaction():
            pass  # takes the transactional id over, and ends what another left open
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def _consumer(settings: Settings, partitions: int) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(**arguments(settings), enable_auto_commit=False, isolation_level="read_committed")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(REJECTED, number) for number in range(partitions)])
        yield consumer
    finally:
        await consumer.stop()


async def _records(consumer: AIOKafkaConsumer) -> AsyncIterator[Any]:
    """All of the topic, as it was when this began."""
    partitions = list(consumer.assignment())
    end = await consumer.end_offsets(partitions)
    begin = await consumer.beginning_offsets(partitions)
    for tp in partitions:
        consumer.seek(tp, begin[tp])  # not seek_to_beginning: the consumer's own first reset may come after it
        while await consumer.position(tp) < end[tp]:
            for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, ()):
                yield record


async def _marks(consumer: AIOKafkaConsumer, asked: Container[str] = ()) -> Marks:
    marks = Marks()
    async for record in _records(consumer):
        if _is_mark(record):
            headers = _headers(record)
            marks.places.add(headers["of"])
            marks.event_ids.add(headers["resubmitted"])
        elif (place := f"{record.partition}/{record.offset}") in asked:
            marks.seen.add(place)
    return marks


async def _rejected(consumer: AIOKafkaConsumer) -> AsyncIterator[Rejected]:
    async for record in _records(consumer):
        if not _is_mark(record):
            yield _read(record)


def _is_mark(record: Any) -> bool:
    return record.value is None and {"of", "resubmitted"} <= {name for name, _ in record.headers}


def _headers(record: Any) -> dict[str, str]:
    return {name: value.decode("utf-8", "surrogatepass") for name, value in record.headers}


def _read(record: Any) -> Rejected:
    headers = _headers(record)
    return Rejected(
        f"{record.partition}/{record.offset}",
        record.timestamp / 1000.0,
        headers.get("reason", "unknown"),
        headers.get("detail", ""),
        headers.get("topic", ""),
        int(headers.get("partition", -1)),
        int(headers.get("offset", -1)),
        record.key,
        record.value or b"",
        "cut_from_bytes" in headers,
    )
