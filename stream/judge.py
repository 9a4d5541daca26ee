"""A verdict from the command line: find the alert that it is on, and put the verdict where an engine reads it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError as AioKafkaError
from aiokafka.errors import TopicAuthorizationFailedError
from kafka import KafkaProducer
from kafka.errors import KafkaError

from stream.alert import ID_LENGTH, Alert, alert_of, rfc3339
from stream.client import arguments
from stream.codec import decode, encode
from stream.errors import BrokerError, InputError, OutputError, TopicsError
from stream.files import Lines
from stream.settings import Settings
from stream.topics import ALERTS, EVENTS, VERDICTS, partitions_of

_ANSWER_MS = 10_000
_DAY = 86400.0
_LOOK_EVENTS, _LOOK_SECONDS = 40_000, 20.0  # over all partitions: who has worked in these hours is among them


def verdict_on(alert: Alert, verdict: str, by: str, reason: str, at: float | None = None) -> bytes:
    """The verdict on an alert as one JSON object; said now, unless it is told when."""
    return encode(
        {
            "alert_id": alert.alert_id,
            "agent_id": alert.agent_id,
            "verdict": verdict,
            "time": rfc3339(time.time() if at is None else at),
            "by": by,
            "reason": reason,
            "evidence": alert.evidence,
            "event": alert.event,
            "agent_type": alert.agent_type,
            "events": max(1, alert.exposure.events),
        }
    )


def reset_of(agent_id: str, by: str, reason: str, at: float | None = None) -> bytes:
    """The word that an agent's baseline begins anew, as one JSON object; said now, unless it is told when."""
    when = rfc3339(time.time() if at is None else at)
    return encode({"agent_id": agent_id, "verdict": "reset", "time": when, "by": by, "reason": reason})


def alert_in(path: str, alert_id: str, at: float | None = None) -> Alert:
    """An alert in a file of alerts as it stands, or stood at a time: see `as_of`. Raises `InputError` if it is not there."""
    with Lines(path) as lines:
        found = _revisions((line for _, batch in lines for line in batch if line), alert_id)
    if not found:
        raise InputError(f"{path} has no alert {alert_id!r}{_cut(alert_id)}: its `alert_id` is a field of every alert")
    return as_of(found, at)


def alert_on(settings: Settings, alert_id: str, at: float | None = None) -> Alert:
    """The same of the alert topic. Raises `InputError` if it is not there, and `BrokerError`."""
    partitions_of(settings, ALERTS)
    try:
        found = _revisions(asyncio.run(_naming(settings, alert_id.encode("utf-8", "surrogatepass"))), alert_id)
    except AioKafkaError as error:
        raise BrokerError(f"the alerts on {settings.broker} could not be read: {error}; try again") from None
    if not found:
        raise InputError(
            f"{ALERTS} on {settings.broker} has no alert {alert_id!r}{_cut(alert_id)}; older ones may be in a file: --alerts FILE"
        )
    return as_of(found, at)


def as_of(revisions: Sequence[Alert], at: float | None) -> Alert:
    """The last of an alert's revisions; of a time the last of then, for what came later nobody could judge. Where none is so old, the first."""
    in_order = sorted(revisions, key=lambda a: a.revision)
    then = [a for a in in_order if at is None or seconds(a.time) <= at]
    return then[-1] if then else in_order[0]


def seconds(time: str) -> float:
    """Of an alert's time."""
    return datetime.fromisoformat(time).timestamp()


def _cut(alert_id: str) -> str:
    """What to say of the beginning of an id: two alerts may share it."""
    return f" (the whole id is needed, all {ID_LENGTH} characters)" if len(alert_id) < ID_LENGTH else ""


async def _naming(settings: Settings, name: bytes) -> list[bytes]:
    """The alerts that have these bytes in them, from the beginning of the topic to its present end."""
    found: list[bytes] = []
    async with AIOKafkaConsumer(
        ALERTS,
        **arguments(settings),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    ) as consumer:
        parts = sorted(consumer.assignment())
        ends = await consumer.end_offsets(parts)
        for tp in parts:
            while await consumer.position(tp) < ends[tp]:
                for records in (await consumer.getmany(*parts, timeout_ms=500)).values():
                    found += [r.value for r in records if r.value and name in r.value]
    return found


def _revisions(values: Iterable[bytes], alert_id: str) -> list[Alert]:
    """Its revisions among lines or records. Most are others, which are not decoded."""
    named = alert_id.encode("utf-8", "surrogatepass")
    found = (alert_of(value) for value in values if named in value)
    return [alert for alert in found if alert is not None and alert.alert_id == alert_id]


def seen_lately(settings: Settings) -> tuple[set[str], int] | None:
    """Agents of the last events on their topic, and how many these are; None where we may not read them. Raises `BrokerError`."""
    try:
        return asyncio.run(_agents(settings, partitions_of(settings, EVENTS)))
    except (TopicAuthorizationFailedError, TopicsError):
        return None
    except AioKafkaError as error:
        raise BrokerError(f"the events on {settings.broker} could not be read: {error}; try again") from None


async def _agents(settings: Settings, count: int) -> tuple[set[str], int]:
    """So many records of each partition, as far as they come in time."""
    found: set[str] = set()
    events, deadline = 0, time.monotonic() + _LOOK_SECONDS
    async with AIOKafkaConsumer(**arguments(settings), enable_auto_commit=False) as consumer:
        parts = [TopicPartition(EVENTS, number) for number in range(count)]
        consumer.assign(parts)
        begins, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
        for tp in parts:
            consumer.seek(tp, max(begins[tp], ends[tp] - _LOOK_EVENTS // count))
        while time.monotonic() < deadline and (left := [tp for tp in parts if await consumer.position(tp) < ends[tp]]):
            for records in (await consumer.getmany(*left, timeout_ms=200)).values():
                known, _, _ = decode([r.value for r in records], range(len(records)), settings.max_event_bytes)
                found.update(event.agent_id for event in known)
                events += len(known)
    return found, events


def is_past(alert: Alert) -> bool:
    """Whether more than a day has gone by since: whoever replays its events will hardly have any of now."""
    return time.time() - datetime.fromisoformat(alert.last_event_time).timestamp() > _DAY


def say(settings: Settings, agent_id: str, said: bytes, to: str | None) -> None:
    """Add what was said of an agent to a file, or deliver it to the topic of verdicts. Raises `OutputError` or `BrokerError`."""
    if to:
        append(to, said)
    else:
        send(settings, agent_id, said)


def append(path: str, verdict: bytes) -> None:
    """Add a verdict to a file, as its last line. Raises `OutputError`, with the file as it was."""
    try:
        with Path(path).open("a+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END) if file.seekable() else 0
            if end:
                file.seek(-1, os.SEEK_END)
            line = (b"\n" if end and file.read(1) != b"\n" else b"") + verdict + b"\n"
            try:
                left = line
                while left:
                    left = left[file.write(left) :]
            except OSError:
                with suppress(OSError):
                    file.truncate(end)  # half a line would take the next one with it
                raise
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; choose another path, then run again"
        ) from None


def send(settings: Settings, agent_id: str, verdict: bytes) -> None:
    """Deliver a verdict to its topic, to the partition of its agent's events. Raises `BrokerError`."""
    partitions_of(settings, VERDICTS)
    try:
        producer = KafkaProducer(**arguments(settings), acks="all", max_request_size=8 << 20, max_block_ms=_ANSWER_MS)
        try:
            producer.send(VERDICTS, key=agent_id.encode("utf-8", "surrogatepass"), value=verdict).get(timeout=60)
        finally:
            producer.close(timeout=10)
    except KafkaError as error:
        raise BrokerError(f"the verdict could not be delivered to {settings.broker}: {error}; send it again") from None
