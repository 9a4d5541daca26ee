"""Events onto the topic: the demo's traffic, for those who want to watch the real path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from stream.client import arguments
from stream.codec import encode
from stream.errors import BrokerError
from stream.settings import Settings
from stream.topics import EVENTS, partitions_of


def produce(settings: Settings, events: Iterable[dict[str, Any]]) -> int:
    """Deliver events in order, keyed by agent; how many. Raises `BrokerError` if the topics are missing or delivery fails."""
    partitions_of(settings, EVENTS)
    count = 0
    try:
        producer = KafkaProducer(**arguments(settings), compression_type="zstd", linger_ms=20, acks="all")
        try:
            sent = []
            for event in events:
                sent.append(producer.send(EVENTS, key=str(event["agent_id"]).encode(), value=encode(event)))
                count += 1
                if len(sent) >= 10_000:
                    for s in sent:
                        s.get(timeout=60)
                    sent.clear()
            for s in sent:
                s.get(timeout=60)
        finally:
            producer.close(timeout=10)
    except KafkaError as error:
        raise BrokerError(
            f"events could not be delivered to {settings.broker}: {error}; {count:,} were handed over before that"
        ) from None
    return count
