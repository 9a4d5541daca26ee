"""How far the workers are behind: what their group has committed of each partition, beside where it ends; and whether any worker runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from kafka import TopicPartition as KafkaPartition
from kafka.admin import KafkaAdminClient, OffsetSpec

from stream.client import admin, arguments, retrying
from stream.codec import decode, seconds
from stream.errors import BrokerError
from stream.settings import Settings
from stream.topics import BASELINES, EVENTS, partitions_of
from stream.words import counted, lasting

_READ_SECONDS = 5.0
_FEW = 1000  # offsets behind: so few are read, and their records counted; of more the difference is near enough
_TAIL = 100  # offsets read for the last event: behind it are ends of transactions, which are no events


@dataclass(frozen=True)
class Lag:
    """One partition. `seconds` is from the event time of the first event not committed to that of the last one: as much time of
    the fleet's as is still to be judged. None where there is nothing behind, or it may not be read."""

    partition: int
    committed: int | None  # nothing yet: from the beginning
    end: int
    behind: int
    seconds: float | None = None


class Group(NamedTuple):
    """The workers' group: how many are in it, and which partitions of the events none of them has; none while it forms."""

    workers: int
    unheld: list[int]

    @property
    def lacks(self) -> str | None:
        """What it lacks to do the work, with the command that mends it; None where nothing."""
        if not self.workers:
            return "no worker runs, nobody is in the group: start one with `strayline worker`"
        if self.unheld:
            return f"nobody has {_partitions(self.unheld)}: start another with `strayline worker`, unless a worker's log says that it is still taking them"
        return None

    def __str__(self) -> str:
        """How many there are. Kafka tells nobody when a member was last heard of, so what is not known is said."""
        return f"{counted(self.workers, 'worker')} in the group; one that was killed counts until its session ends (STRAYLINE_SESSION_SECONDS)"


def _partitions(numbers: Sequence[int]) -> str:
    return f"partition{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"


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
    seconds = asyncio.run(_seconds(settings, {tp: (at[tp], end[tp]) for tp in behind}))
    return [Lag(tp.partition, committed.get(tp), end[tp], left[tp], seconds.get(tp)) for tp in partitions]


def unheld(settings: Settings) -> list[int]:
    """Partitions of the events that no worker of the group has; none while the group forms. Raises `BrokerError`."""
    return group(settings).unheld


def group(settings: Settings) -> Group:
    """The workers' group as it is. A worker that was killed stays in it for STRAYLINE_SESSION_SECONDS. Raises `BrokerError`."""
    count = partitions_of(settings, EVENTS)
    with admin(settings) as client:
        found = retrying(lambda: client.describe_groups([settings.group]))[settings.group]
    members = found["members"]
    if found["group_state"] != "Stable":
        return Group(len(members), [])
    given = (g for member in members for g in member["member_assignment"]["assigned_partitions"])
    held = {number for g in given if g["topic"] == EVENTS for number in g["partitions"]}
    return Group(len(members), sorted(set(range(count)) - held))


def since_delivery(settings: Settings) -> float | None:
    """Seconds since a worker last delivered what it had learned, from the time that the broker gave it: whoever scores events does so every few seconds. None
    where none ever did, or it may not be asked."""
    try:
        with admin(settings) as client:
            partitions = [KafkaPartition(BASELINES, number) for number in range(partitions_of(settings, BASELINES))]
            newest = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.MAX_TIMESTAMP))
    except BrokerError:  # to look at baselines is a right of its own
        return None
    latest = max((told.timestamp for told in newest.values()), default=0)
    return max(0.0, time.time() - latest / 1000.0) if latest > 0 else None


def lag_json(settings: Settings, found: list[Lag], whose: Group, delivered: float | None) -> dict[str, Any]:
    """For a program."""
    return {
        "topic": EVENTS,
        "group": settings.group,
        "workers": whose.workers,
        "unheld": whose.unheld,
        "behind": sum(lag.behind for lag in found),
        "seconds_since_delivery": delivered and round(delivered, 1),
        "partitions": [asdict(lag) for lag in found],
    }


def lag_text(settings: Settings, found: list[Lag], whose: Group, delivered: float | None) -> str:
    """A table for reading, and last the sum, when anything of it was last `delivered`, and who works on it."""
    rows = [f"{'partition':>9}  {'committed':>12}  {'end':>12}  {'behind':>10}  behind in event time"]
    for lag in found:
        committed = "nothing" if lag.committed is None else f"{lag.committed:,}"
        seconds = "" if lag.seconds is None else f"  {_shown(lag.seconds)}"
        rows.append(f"{lag.partition:>9}  {committed:>12}  {lag.end:>12,}  {lag.behind:>10,}{seconds}")
    behind = sum(lag.behind for lag in found)
    last = "" if delivered is None or not behind else f"; a worker last delivered {_shown(delivered)} ago"
    rows.append(f"group {settings.group} is {counted(behind, 'event')} behind on {EVENTS}{last}")
    rows.append(whose.lacks or str(whose))
    return "\n".join(rows)


def _shown(seconds: float) -> str:
    """For reading.

    >>> _shown(7.0), _shown(360.0), _shown(2_399_061.0)
    ('7 s', '6 minutes', '27 days')
    """
    return lasting(seconds) if seconds >= 120 else f"{seconds:.0f} s"


def group_offset(settings: Settings, number: int) -> int:
    """From where the group reads a partition when it is given to a worker. Raises `BrokerError`."""
    with admin(settings) as client:
        return _committed(settings, client).get(TopicPartition(EVENTS, number), 0)


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
        for tp in few:
            at, end = offsets[tp]
            records = await _read(consumer, tp, at, end)
            if records is not None:
                left[tp] = len(records)
    except KafkaError:  # to look at offsets is one right, to read events another
        pass
    finally:
        await consumer.stop()
    return left


async def _seconds(
    settings: Settings, offsets: Mapping[TopicPartition, tuple[int, int]]
) -> dict[TopicPartition, float]:
    """From the event time of the first record at or after each first offset to that of the last one before its second."""
    if not offsets:
        return {}
    found: dict[TopicPartition, float] = {}
    consumer = AIOKafkaConsumer(**arguments(settings), enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(list(offsets))
        for tp, (at, end) in offsets.items():
            first = await _read(consumer, tp, at, end, limit=1)
            last = await _read(consumer, tp, max(at, end - _TAIL), end)
            if first and last:
                first_time, last_time = (_event_time(r, settings.max_event_bytes) for r in (first[0], last[-1]))
                found[tp] = max(0.0, last_time - first_time)
    except KafkaError:  # to look at offsets is one right, to read events another
        return {}
    finally:
        await consumer.stop()
    return found


async def _read(
    consumer: AIOKafkaConsumer, tp: TopicPartition, at: int, end: int, limit: int | None = None
) -> list[Any] | None:
    """The records of these offsets, or the first `limit` of them. None where the broker does not give them in time, or cannot yet: they
    are of a transaction that has not ended."""
    consumer.seek(tp, at)
    deadline = time.monotonic() + _READ_SECONDS
    records: list[Any] = []
    while await consumer.position(tp) < end and (limit is None or len(records) < limit):
        if time.monotonic() > deadline:
            return None
        fetched = (await consumer.getmany(tp, timeout_ms=200, max_records=limit)).get(tp, ())
        records += [r for r in fetched if r.offset < end]
    return records


def _event_time(record: Any, max_bytes: int) -> float:
    events, _, _ = decode([record.value], [record.offset], max_bytes)
    return seconds(events[0].time) if events else float(record.timestamp / 1000.0)
