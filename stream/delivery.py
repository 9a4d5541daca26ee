"""What a partition says and has learned, delivered: alerts, rejects, what it gives to the others and its changed baselines, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer

from stream.alert import Alert
from stream.baselines import Record
from stream.client import arguments
from stream.codec import Reject, encode
from stream.recovery import Place, place
from stream.settings import Settings
from stream.topics import ALERTS, BASELINES, COHORTS, REJECTED, TRANSACTIONS

MOST_REJECT = 3 << 20  # bytes of a reject's value, so that it fits the topic with its key and headers
# Bytes of its key; one that was cut would be another, so of a longer one a header has the beginning.
MOST_KEY = 64 << 10
KEY_BEGINS = 256
TURN = 32  # alerts that are sent in one go
DELIVERY_MS = 30_000
TRANSACTION_MS = 300_000  # a third of what a broker allows; who takes a partition over ends what is left open at once


class Refused(NamedTuple):
    """A reject, and of which topic and with which key the record was."""

    reject: Reject
    topic: str
    key: bytes | None

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return len(self.reject.raw) + len(self.key or b"")


def sender(settings: Settings, number: int) -> AIOKafkaProducer:
    """The producer of a partition. Its first transaction takes the partition's transactional id over, and ends what the last owner left open."""
    return AIOKafkaProducer(
        **arguments(settings),
        transactional_id=f"{TRANSACTIONS}{number}",
        # Not compressed: baselines are already, alerts are few, and aiokafka's lz4 does 40 MB/s.
        linger_ms=0,  # what a flush sends it sends at once
        max_batch_size=1 << 20,
        max_request_size=8 << 20,
        request_timeout_ms=DELIVERY_MS,
        # The first flush after an upgrade writes all baselines: a gigabyte where there are 100,000 agents, 10 s to one broker on the same machine.
        transaction_timeout_ms=TRANSACTION_MS,
    )


async def deliver(
    producer: AIOKafkaProducer,
    number: int,
    alerts: Sequence[Alert],
    rejects: Sequence[Refused],
    given: Sequence[Record],
    records: Sequence[Record],
    moved: Callable[[], object],
) -> Place:
    """All of it or nothing, with at least one of the `records` of baselines, each of which has `moved` called; where the last of them lies. Raises what aiokafka raises."""
    async with producer.transaction():
        sent = []
        for n, alert in enumerate(alerts):
            key = alert.agent_id.encode("utf-8", "surrogatepass")
            sent.append(await producer.send(ALERTS, encode(alert), key=key))
            if n % TURN == TURN - 1:  # a send that need not wait lets nobody else have the loop
                await asyncio.sleep(0)
        sent += [await _send_reject(producer, number, refused) for refused in rejects]
        sent += [await producer.send(COHORTS, r.value, key=r.key, partition=number) for r in given]
        for r in records:
            sent.append(await producer.send(BASELINES, r.value, key=r.key, partition=number))
            moved()
        delivered = await asyncio.gather(*sent)
    return place(delivered[-1].offset, records[-1].value)


async def _send_reject(producer: AIOKafkaProducer, number: int, refused: Refused) -> Any:
    reject = refused.reject
    value = reject.raw[:MOST_REJECT]
    headers = {
        "reason": reject.reason,
        "detail": reject.detail,
        "topic": refused.topic,
        "partition": str(number),
        "offset": str(reject.position),
    }
    if len(value) < len(reject.raw):
        headers["cut_from_bytes"] = str(len(reject.raw))
    key = refused.key
    if key is not None and len(key) > MOST_KEY:
        headers |= {"key_begins": key[:KEY_BEGINS].decode("utf-8", "replace"), "key_cut_from_bytes": str(len(key))}
        key = None
    return await producer.send(
        REJECTED,
        value,
        key=key,
        headers=[(k, v.encode("utf-8", "surrogatepass")) for k, v in headers.items()],
    )
