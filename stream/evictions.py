"""Rows that gave way because the memory for what is known is full, said at once and then once an hour: an agent whose rows went is judged as a new one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

import structlog

log = structlog.get_logger()
EVERY = 3600.0  # seconds


class Evictions:
    """Of one partition."""

    def __init__(self, partition: int, mib: int, now: Callable[[], float] = time.monotonic) -> None:
        """`mib` is STRAYLINE_STATE_MIB."""
        self._partition, self._mib, self._now = partition, mib, now
        self._since: Counter[str] = Counter()  # table → rows since the last line
        self._said = -EVERY

    def add(self, evicted: Mapping[str, int]) -> None:
        """Of a batch, none too: what came within the hour is said by the first batch after it."""
        self._since.update(evicted)
        if not self._since or self._now() - self._said < EVERY:
            return
        self._said = self._now()
        log.warning(
            "the memory for what is known is full: rows least used gave way, and agents that return are new",
            partition=self._partition,
            rows=dict(self._since.most_common()),
            do=f"raise STRAYLINE_STATE_MIB (now {self._mib} for each partition); where agents are invented, see who makes their names up",
        )
        self._since.clear()
