"""Events onto the topic: those of files, and the demo's, for those who want to watch the real path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from stream.client import arguments
from stream.codec import Reject, decode, encode
from stream.errors import BrokerError
from stream.fields import Fields
from stream.files import Lines
from stream.settings import Settings
from stream.topics import EVENTS, partitions_of

_MOST_BYTES = 4 << 20  # what the topic takes


def produce(settings: Settings, events: Iterable[dict[str, Any]]) -> int:
    """Deliver events in order, keyed by agent; how many. Raises `BrokerError` if the topics are missing or delivery fails."""
    return _deliver(settings, ((str(event["agent_id"]), encode(event)) for event in events))


def produce_files(
    settings: Settings, paths: Sequence[str], unfit: Callable[[str, Reject], object], fields: Fields
) -> int:
    """Deliver the lines of files that are events, as they are; how many. `unfit` is told of each other one, which is not sent; `fields` looks at a sample of the events.

    Raises `InputError` too.
    """
    return _deliver(settings, (keyed for path in paths for keyed in _keyed(settings, path, unfit, fields)))


def _keyed(
    settings: Settings, path: str, unfit: Callable[[str, Reject], object], fields: Fields
) -> Iterator[tuple[str, bytes]]:
    with Lines(path) as lines:
        for first, batch in lines:
            events, kept, rejects = decode(batch, range(first, first + len(batch)), settings.max_event_bytes)
            for reject in rejects:
                unfit(path, reject)
            fields.look(batch, kept)
            yield from ((event.agent_id, batch[i] or b"") for event, i in zip(events, kept, strict=True))


def _deliver(settings: Settings, records: Iterable[tuple[str, bytes]]) -> int:
    partitions_of(settings, EVENTS)
    count = sure = 0
    sent: list[Any] = []
    try:
        producer = KafkaProducer(
            **arguments(settings), compression_type="zstd", linger_ms=20, acks="all", max_request_size=_MOST_BYTES
        )
        try:
            for agent_id, value in records:
                sent.append(producer.send(EVENTS, key=agent_id.encode("utf-8", "surrogatepass"), value=value))
                count += 1
                if len(sent) >= 10_000:
                    sure += _acknowledged(sent)
                    sent.clear()
            sure += _acknowledged(sent)
            sent.clear()
        finally:
            producer.close(timeout=10)
    except KafkaError as error:
        sure += next((n for n, one in enumerate(sent) if not one.succeeded()), len(sent))
        unknown = f", of {count - sure:,} more it is not known" if count > sure else ""
        raise BrokerError(
            f"events could not be delivered to {settings.broker}: {error}; the first {sure:,} are there{unknown}. "
            f"Once that is mended send from the event after the first {sure:,} on: `tail -n +N FILE | strayline produce -`"
        ) from None
    return count


def _acknowledged(sent: Sequence[Any]) -> int:
    for one in sent:
        one.get(timeout=60)
    return len(sent)
