"""Alerts as they stand on their topic or in files, and as they come: what a person reads who has no SIEM yet."""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from stream.alert import SEVERITIES, Alert, alert_of, rfc3339
from stream.client import arguments, said
from stream.errors import InputError
from stream.files import Lines, named, readable
from stream.halves import Halves
from stream.settings import Settings
from stream.topics import ALERTS, partitions_of


def alerts(
    settings: Settings,
    there: Callable[[bytes], object],
    tell: Callable[[bytes], object],
    then: Callable[[], object] = lambda: None,
    *,
    follow: bool,
) -> None:
    """Give `there` every revision on the topic by the time it came, do what is to be done `then`, and, to `follow`, `tell` each that comes. Raises `BrokerError`."""
    count = partitions_of(settings, ALERTS)
    with said(settings):
        ended_by = asyncio.run(_read(settings, count, there, tell, then, follow=follow))
    if follow:  # it ends no other way, and there is nothing to tell
        raise SystemExit(128 + ended_by)


def alerts_in(paths: Sequence[str], tell: Callable[[bytes], bool]) -> None:
    """Give `tell`, which says whether it is an alert, every line of files, in their order. Raises `InputError`, also where a file has lines and none is an alert."""
    for path in paths:
        readable(path)
    for path in paths:
        some = fits = False
        with Lines(path) as lines:
            for _, batch in lines:
                for line in batch:
                    if line:
                        some, fits = True, tell(line) or fits
        if some and not fits:
            raise InputError(
                f"{named(path)} has no alert: give what `strayline replay --alerts PATH` or "
                "`strayline alerts --json` wrote; events are first replayed"
            )


async def _read(
    settings: Settings,
    count: int,
    before: Callable[[bytes], object],
    tell: Callable[[bytes], object],
    then: Callable[[], object],
    *,
    follow: bool,
) -> int:
    """Read; what signal has ended it, if one has."""
    # No group: nobody's place on the topic is moved, and whoever may read the topic needs no other right.
    consumer = AIOKafkaConsumer(**arguments(settings), enable_auto_commit=False, isolation_level="read_committed")

    def give(records: list[Any], to: Callable[[bytes], object]) -> None:
        for record in records:
            if record.value:
                to(record.value)

    async with consumer:
        parts = [TopicPartition(ALERTS, number) for number in range(count)]
        consumer.assign(parts)
        begins, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
        there: list[Any] = []
        for tp in parts:
            consumer.seek(tp, begins[tp])
            while await consumer.position(tp) < ends[tp]:
                there += (await consumer.getmany(tp, timeout_ms=500)).get(tp, ())
        give(sorted(there, key=lambda r: r.timestamp), before)
        then()
        ended_by: list[int] = []
        if follow:  # an exception raised by a signal may come up in a task of the consumer, which would keep it
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, ended_by.append, number)
        while follow and not ended_by:
            for records in (await consumer.getmany(*parts, timeout_ms=500)).values():
                give(records, tell)
        return ended_by[0] if ended_by else 0


class Choice(NamedTuple):
    """Which revisions somebody wants to see."""

    severity: str = SEVERITIES[0]  # this and above
    agent_id: str | None = None
    since: float = -math.inf  # of which a strange event is of this time or later, whenever that was said
    alert_id: str | None = None

    def takes(self, alert: Alert) -> bool:
        """Whether this is one of them."""
        return (
            SEVERITIES.index(alert.severity) >= SEVERITIES.index(self.severity)
            and self.agent_id in {None, alert.agent_id}
            and self.alert_id in {None, alert.alert_id}
            and datetime.fromisoformat(alert.last_event_time).timestamp() >= self.since
        )


class Openings:
    """Which revisions are news to a person: those that open an alert, or make it worse than it was."""

    def __init__(self) -> None:
        self._severity: dict[str, str] = {}

    def news(self, alert: Alert) -> bool:
        """Whether this revision is."""
        before = self._severity.get(alert.alert_id)
        self._severity[alert.alert_id] = alert.severity
        return before != alert.severity


class Told:
    """What was read, and what of it was told. `tell` is given each revision that is to be; with `last` only when all was read, with `span` only when `settle` is called."""

    def __init__(
        self,
        choice: Choice,
        tell: Callable[[Alert, bytes], object],
        *,
        every: bool = False,
        last: bool = False,
        span: timedelta | None = None,
    ) -> None:
        """`every` revision rather than those that are news; of those of a `span` before the newest."""
        self.alerts: set[str] = set()
        self.agents: set[str] = set()
        self.newest = ""  # time of an alert's last strange event
        self.count = 0
        self._choice, self._tell, self._every = choice, tell, every or last
        self._span = span
        self._waiting: list[tuple[Alert, bytes]] | None = [] if span is not None else None
        self._openings = Openings()
        self._opened: dict[str, str] = {}
        self._halves = Halves()
        self._last: dict[str, tuple[Alert, bytes]] | None = {} if last else None

    def know(self, value: bytes) -> tuple[Alert, bool] | None:
        """Read a revision, and tell nothing of it: what it says, and whether it is news. None where it is no alert."""
        alert = alert_of(value)
        if alert is None:
            return None
        self.alerts.add(alert.alert_id)
        self.agents.add(alert.agent_id)
        self.newest = max(self.newest, alert.last_event_time)  # in UTC and of one form, as all of ours
        if alert.revision == 1:
            self._opened[alert.alert_id] = alert.time
        self._halves.add(alert)
        return alert, self._openings.news(alert)

    def read(self, value: bytes) -> bool:
        """Read a revision, and tell of it if it is one of those wanted; whether it is an alert at all."""
        found = self.know(value)
        if found is None:
            return False
        alert, is_news = found
        if self._last is not None:
            before = self._last.get(alert.alert_id)
            if before is None or alert.revision >= before[0].revision:
                self._last[alert.alert_id] = alert, value
        elif is_news or self._every:
            if self._waiting is not None:
                self._waiting.append((alert, value))
            else:
                self._say(alert, value)
        return True

    def opened(self, alert: Alert) -> str:
        """When an alert opened; where that revision was not read, when its first event was."""
        return self._opened.get(alert.alert_id, alert.first_event_time)

    def beside(self, alert: Alert) -> str:
        """The other half of an alert, where it does not name it itself: see `stream.halves`."""
        return self._halves.beside(alert)

    def settle(self) -> str:
        """What was there has been read: the span ends with the newest of it. Tell what waited for that; the time from which on, "" without a span."""
        waiting, self._waiting = self._waiting or [], None
        begin = ""
        if self._span is not None and self.newest:
            since = datetime.fromisoformat(self.newest) - self._span
            self._choice = self._choice._replace(since=since.timestamp())
            begin = rfc3339(since.timestamp())
        for alert, value in waiting:
            self._say(alert, value)
        return begin

    def end(self) -> None:
        """All was read: tell the last revisions, if those were wanted, by the time they opened."""
        for alert, value in sorted((self._last or {}).values(), key=lambda found: self.opened(found[0])):
            self._say(alert, value)

    def _say(self, alert: Alert, value: bytes) -> None:
        if self._choice.takes(alert):
            self.count += 1
            self._tell(alert, value)
