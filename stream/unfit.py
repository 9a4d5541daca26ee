"""Records that could not be used, in a worker's log: at once when the first comes, then at most once a minute, with the commonest reason.

A line for each would let whoever sends garbage fill the disk; none at all lets a gateway with a wrong field be found on no dashboard
that nobody looks at. Each is counted in `strayline_rejects_total`, and kept whole on the rejected topic.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from stream.codec import Reject
from stream.foreign import short
from stream.words import plain

log = structlog.get_logger()
EVERY = 60.0  # seconds
_MOST_REASONS = 100  # that are told apart
_MOST_BYTES = 1 << 16  # of the first of each


class Unfit:
    """Of one partition."""

    def __init__(self, partition: int, now: Callable[[], float] = time.monotonic) -> None:
        self._partition, self._now = partition, now
        self._since: Counter[tuple[str, str]] = Counter()  # reason and detail → records since the last line
        self._first: dict[tuple[str, str], bytes] = {}
        self._count = 0
        self._said = -EVERY

    def add(self, rejects: Sequence[Reject]) -> None:
        """Of a batch, none too: what came within the minute is said by the first batch after it."""
        for reject in rejects:
            why = reject.reason, plain(reject.detail, 300)
            if why in self._since or len(self._since) < _MOST_REASONS:
                self._since[why] += 1
                self._first.setdefault(why, reject.raw[:_MOST_BYTES])
        self._count += len(rejects)
        if self._count and self._now() - self._said >= EVERY:
            self._say()

    def _say(self) -> None:
        ((reason, detail), most), *_ = self._since.most_common(1)
        likely = short(self._first[reason, detail]) if reason == "missing_field" else {}
        log.warning(
            "records could not be used",
            partition=self._partition,
            records=self._count,
            most_often=f"{reason}: {detail}",
            of_those=most,
            **({"likely_meant": likely} if likely else {}),
            do="see `strayline rejects`; mend the gateway, then `strayline rejects --resubmit`",
        )
        self._since.clear()
        self._first.clear()
        self._count = 0
        self._said = self._now()
