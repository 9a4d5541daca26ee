"""How far the workers are behind: what their group has committed of each partition, beside where it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from kafka import TopicPartition as KafkaPartition
from kafka.admin import KafkaAdminClient, OffsetSpec

from stream.client import admin, arguments, retrying
from stream.codec import decode, seconds
from stream.settings import Settings
from stream.topics import EVENTS, partitions_of
from stream.words import counted

_READ_SECONDS = 5.0
_FEW = 1000  # offsets behind: so few are read, and their records counted; of more the difference is near enough


@dataclass(frozen=True)
class Lag:
    """One partition. `seconds` is from the event time of the first event not committed to that of the newest one: as much time of
    the fleet's as is still to be judged. None where there is nothing behind, or it may not be read."""

    partition: int
    committed: int | None  # nothing yet: from the beginning
    end: int
    behind: int
    seconds: float | None = None


def lags(settings: Settings) -> list[Lag]:
    """Of every partition of the events. Raises `BrokerError`."""
    partitions = [TopicPartition(EVENTS, number) for number in range(partitions_of(settings, EVENTS))]
    with admin(settings) as client:
        committed = _committed(settings, client)
        begin = _offsets(client, partitions, OffsetSpec.EARLIEST)
        end = _offsets(client, partitions, OffsetSpec.LATEST)
        # What was deleted before anybody read it cannot be read any more.
        at = {tp: max(committed.get(tp, 0), begin[tp]) for tp in partitions}
        left = asyncio.run(_left(settings, {tp: (at[tp], end[tp]) for tp in partitions}))
        behind = [tp for tp in partitions if left[tp]]
        newest = _offsets(client, behind, OffsetSpec.MAX_TIMESTAMP)
    first, last = asyncio.run(_ends(settings, {tp: (at[tp], max(at[tp], newest[tp])) for tp in behind}))
    told = []
    for tp in partitions:
        seconds = max(0.0, last[tp] - first[tp]) if tp in first and tp in last else None
        told.append(Lag(tp.partition, committed.get(tp), end[tp], left[tp], seconds))
    return told


def unheld(settings: Settings) -> list[int]:
    """Partitions of the events that no worker of the group has; none while the group forms. Raises `BrokerError`."""
    count = partitions_of(settings, EVENTS)
    with admin(settings) as client:
        group = client.describe_groups([settings.group])[settings.group]
    if group["group_state"] != "Stable":
        return []
    given = (g for member in group["members"] for g in member["member_assignment"]["assigned_partitions"])
    held = {number for g in given if g["topic"] == EVENTS for number in g["partitions"]}
    return sorted(set(range(count)) - held)


def lag_json(settings: Settings, found: list[Lag]) -> dict[str, Any]:
    """For a program."""
    return {
        "topic": EVENTS,
        "group": settings.group,
        "behind": sum(lag.behind for lag in found),
        "partitions": [asdict(lag) for lag in found],
    }


def lag_text(settings: Settings, found: list[Lag]) -> str:
    """A table for reading, and last the sum."""
    rows = [f"{'partition':>9}  {'committed':>12}  {'end':>12}  {'behind':>10}  behind in event time"]
    for lag in found:
        committed = "nothing" if lag.committed is None else f"{lag.committed:,}"
        seconds = "" if lag.seconds is None else f"  {lag.seconds:,.0f} s"
        rows.append(f"{lag.partition:>9}  {committed:>12}  {lag.end:>12,}  {lag.behind:>10,}{seconds}")
    behind = sum(lag.behind for lag in found)
    rows.append(f"group {settings.group} is {counted(behind, 'event')} behind on {EVENTS}")
    return "\n".join(rows)


def _committed(settings: Settings, client: KafkaAdminClient) -> dict[TopicPartition, int]:
    found = retrying(lambda: client.list_group_offsets({settings.group: None}))[settings.group]
    return {TopicPartition(*tp): told.offset for tp, told in found.items() if tp.topic == EVENTS and told.offset >= 0}


def _offsets(
    client: KafkaAdminClient, partitions: Sequence[TopicPartition], which: OffsetSpec
) -> dict[TopicPartition, int]:
    asked = {KafkaPartition(*tp): which for tp in partitions}
    told = client.list_partition_offsets(asked) if asked else {}
    return {TopicPartition(*tp): found.offset for tp, found in told.items()}


async def _left(settings: Settings, offsets: Mapping[TopicPartition, tuple[int, int]]) -> dict[TopicPartition, int]:
    """How many records there are from each first offset to its second. Not every offset has one: the end of a gateway's
    transaction takes one too, and compaction leaves gaps."""
    left = {tp: max(0, end - at) for tp, (at, end) in offsets.items()}
    few = [tp for tp, n in left.items() if 0 < n <= _FEW]
    if not few:
        return left
    consumer = AIOKafkaConsumer(  # sees what the worker will
        **arguments(settings), enable_auto_commit=False, isolation_level=settings.isolation
    )
    await consumer.start()
    try:
        consumer.assign(few)
        deadline = time.monotonic() + _READ_SECONDS
        for tp in few:
            at, end = offsets[tp]
            consumer.seek(tp, at)
            found = 0
            while await consumer.position(tp) < end and time.monotonic() < deadline:
                found += sum(r.offset < end for r in (await consumer.getmany(tp, timeout_ms=200)).get(tp, ()))
            if await consumer.position(tp) >= end:
                left[tp] = found
    except KafkaError:  # to look at offsets is one right, to read events another
        pass
    finally:
        await consumer.stop()
    return left


async def _ends(
    settings: Settings, offsets: Mapping[TopicPartition, tuple[int, int]]
) -> tuple[dict[TopicPartition, float], dict[TopicPartition, float]]:
    """The event times of the first event behind and of the newest; none if they may not be read."""
    if not offsets:
        return {}, {}
    try:
        first = await _event_times(settings, {tp: low for tp, (low, _) in offsets.items()})
        last = await _event_times(settings, {tp: high for tp, (_, high) in offsets.items()})
        # The newest of all may be the end of a transaction: then the record before it.
        ended = {tp: max(low, high - 1) for tp, (low, high) in offsets.items() if tp not in last}
        return first, last | (await _event_times(settings, ended) if ended else {})
    except KafkaError:  # to look at offsets is one right, to read events another
        return {}, {}


async def _event_times(settings: Settings, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, float]:
    """The event time of the first record from each offset on; when it was produced where it is no event."""
    found: dict[TopicPartition, float] = {}
    consumer = AIOKafkaConsumer(**arguments(settings), enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(list(offsets))
        for tp, offset in offsets.items():
            consumer.seek(tp, offset)
        deadline = time.monotonic() + _READ_SECONDS
        for tp in offsets:
            while tp not in found and time.monotonic() < deadline:
                records = (await consumer.getmany(tp, timeout_ms=200, max_records=1)).get(tp)
                if records:
                    found[tp] = _event_time(records[0], settings.max_event_bytes)
                elif await consumer.position(tp) > offsets[tp]:
                    break  # what is there is no event
    finally:
        await consumer.stop()
    return found


def _event_time(record: Any, max_bytes: int) -> float:
    events, _, _ = decode([record.value], [record.offset], max_bytes)
    return seconds(events[0].time) if events else float(record.timestamp / 1000.0)
