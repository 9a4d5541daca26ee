"""Alerts as they stand on their topic, and as they come: what a person reads who has no SIEM yet."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from stream.alert import Alert, decode_alert
from stream.client import arguments, said
from stream.settings import Settings
from stream.topics import ALERTS, partitions_of


def alerts(settings: Settings, tell: Callable[[bytes], object], *, follow: bool) -> None:
    """Give `tell` every revision on the topic by the time it came, then, to `follow`, each that comes. Raises `BrokerError`."""
    count = partitions_of(settings, ALERTS)
    with said(settings):
        ended_by = asyncio.run(_read(settings, count, tell, follow=follow))
    if follow:  # it ends no other way, and there is nothing to tell
        raise SystemExit(128 + ended_by)


async def _read(settings: Settings, count: int, tell: Callable[[bytes], object], *, follow: bool) -> int:
    """Read; what signal has ended it, if one has."""
    # No group: nobody's place on the topic is moved, and whoever may read the topic needs no other right.
    consumer = AIOKafkaConsumer(**arguments(settings), enable_auto_commit=False, isolation_level="read_committed")

    def give(records: list[Any]) -> None:
        for record in records:
            if record.value:
                tell(record.value)

    async with consumer:
        parts = [TopicPartition(ALERTS, number) for number in range(count)]
        consumer.assign(parts)
        begins, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
        there: list[Any] = []
        for tp in parts:
            consumer.seek(tp, begins[tp])
            while await consumer.position(tp) < ends[tp]:
                there += (await consumer.getmany(tp, timeout_ms=500)).get(tp, ())
        give(sorted(there, key=lambda r: r.timestamp))
        ended_by: list[int] = []
        if follow:  # an exception raised by a signal may come up in a task of the consumer, which would keep it
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, ended_by.append, number)
        while follow and not ended_by:
            for records in (await consumer.getmany(*parts, timeout_ms=500)).values():
                give(records)
        return ended_by[0] if ended_by else 0


class Openings:
    """Which revisions are news to a person: those that open an alert, or make it worse than it was."""

    def __init__(self) -> None:
        self._severity: dict[str, str] = {}

    def news(self, value: bytes) -> Alert | None:
        """The alert, if this revision is news; None too for what is no alert."""
        try:
            alert = decode_alert(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        before = self._severity.get(alert.alert_id)
        self._severity[alert.alert_id] = alert.severity
        return alert if before != alert.severity else None
