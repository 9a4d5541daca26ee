"""A worker's place in its group: whether another took it, and whether there is work that nobody has."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import structlog

from stream.lag import unheld
from stream.log import fatal
from stream.settings import Settings

log = structlog.get_logger()
THROWN_OUT, THROWN_OUT_SECONDS = 5, 60.0  # once may be a pause of the process; two of one name do it every few seconds
NAMESAKE = "see that no two workers have the same STRAYLINE_INSTANCE, and all on this broker the same STRAYLINE_GROUP: they would end each other for ever"


class Membership:
    """What is known of it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.unheld: list[int] = []  # partitions that nobody has, while this worker has none
        self._member = ""  # the worker's id in the group
        self._thrown_out: deque[float] = deque(maxlen=THROWN_OUT)  # when, by the monotonic clock

    def see(self, member: str) -> None:
        """Look at the worker's id in the group, often. Whose name another worker takes is told by the broker only that it is unknown, joins again, and so
        throws that one out in turn: both would do nothing else for ever, and without events neither would deliver, and so be fenced."""
        if not member or member == self._member:
            return
        before, self._member = self._member, member
        if not before:
            return
        self._thrown_out.append(time.monotonic())
        why = f"another worker has joined under its name, or nothing was heard of it for {self.settings.session_seconds} s (STRAYLINE_SESSION_SECONDS)"
        if len(self._thrown_out) == THROWN_OUT and self._thrown_out[-1] - self._thrown_out[0] < THROWN_OUT_SECONDS:
            fatal(f"the group has thrown this worker out {THROWN_OUT} times within a minute: {why}; {NAMESAKE}")
        log.warning("the group has thrown this worker out, and it has joined again", why=why)

    async def claim(self, is_idle: Callable[[], bool], rejoin: Callable[[], None]) -> None:
        """A worker that has nothing asks for what is nobody's, if it was so at the last look too. Raises `BrokerError`."""
        if not is_idle():
            self.unheld = []
            return
        before, self.unheld = self.unheld, await asyncio.to_thread(unheld, self.settings)
        if before and self.unheld and is_idle():
            log.warning(
                "partitions are nobody's, and this worker has none: joining the group again", partitions=self.unheld
            )
            rejoin()
