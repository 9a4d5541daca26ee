"""What a partition says and has learned, delivered: alerts, rejects, what it gives to the others and its changed baselines, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from stream.alert import Alert
from stream.baselines import Record
from stream.client import arguments, tool
from stream.codec import Reject, encode
from stream.recovery import Place, place
from stream.settings import Settings
from stream.topics import ALERTS, BASELINES, COHORTS, REJECTED, TRANSACTIONS

MOST_REJECT = 3 << 20  # bytes of a reject's value, so that it fits the topic with its key and headers
# Bytes of its key; one that was cut would be another, so of a longer one a header has the beginning.
MOST_KEY = 64 << 10
KEY_BEGINS = 256
ROOM, OVERHEAD = 4 << 20, 1 << 10  # bytes of a record batch that a topic of ours takes, and that are beside a record
TURN = 32  # alerts that are sent in one go
DELIVERY_MS = 30_000
TRANSACTION_MS = 300_000  # a third of what a broker allows; who takes a partition over ends what is left open at once


class TooLargeError(Exception):
    """The broker refuses a record for its size. It would do so again, however often it is sent."""

    def __init__(self, topic: str, size: int) -> None:
        super().__init__(topic, size)
        self.topic, self.size = topic, size

    def told(self, settings: Settings) -> str:
        """What it is, and what mends it."""
        room = 1 << (self.size + OVERHEAD).bit_length()
        mend = (
            f"--alter --entity-type topics --entity-name {self.topic} --add-config max.message.bytes={max(ROOM, room)}"
        )
        return (
            f"{self.topic} does not take a record of {self.size:,} bytes, or several that are sent together: its max.message.bytes is too low. "
            f"Run `{tool(settings, 'kafka-configs')} {mend}`; nothing is lost, it will be made again after a restart"
        )


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
        max_request_size=64 << 20,  # what is too large is for the topic to say: that can be mended
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
    """All of it or nothing, with at least one of the `records` of baselines; `moved` is called for each of them and of what is `given`. Where the last one lies. Raises what aiokafka raises."""
    sent: list[_Sent] = []
    async with producer.transaction():
        for n, alert in enumerate(alerts):
            key, value = alert.agent_id.encode("utf-8", "surrogatepass"), encode(alert)
            sent.append(_Sent(ALERTS, len(key) + len(value), await producer.send(ALERTS, value, key=key)))
            if n % TURN == TURN - 1:  # a send that need not wait lets nobody else have the loop
                await asyncio.sleep(0)
        sent += [_Sent(REJECTED, r.size, await _send_reject(producer, number, r)) for r in rejects]
        for topic, some in ((COHORTS, given), (BASELINES, records)):
            for r in some:
                size = len(r.key) + len(r.value or b"")
                sent.append(_Sent(topic, size, await producer.send(topic, r.value, key=r.key, partition=number)))
                moved()
        try:
            delivered = await asyncio.gather(*(one.delivery for one in sent))
        except MessageSizeTooLargeError:
            raise _too_large(sent) from None
    return place(delivered[-1].offset, records[-1].value)


class _Sent(NamedTuple):
    """A record on its way."""

    topic: str
    size: int  # bytes of key and value
    delivery: asyncio.Future[Any]


def _too_large(sent: Sequence[_Sent]) -> TooLargeError:
    """Of which topic a record was refused for its size, and how large the largest is that was sent there."""
    done = [one for one in sent if one.delivery.done() and not one.delivery.cancelled()]
    topic = next(one.topic for one in done if isinstance(one.delivery.exception(), MessageSizeTooLargeError))
    return TooLargeError(topic, max(one.size for one in sent if one.topic == topic))


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
