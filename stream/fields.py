"""Fields that the contract does not have. They are no error, but one that is misspelled is one that nothing sees.

To look at each name costs more than to score its event, so a sample is looked at: the first 200 events, then every thousandth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from typing import cast

from stream.codec import FIELDS, unknown_fields
from stream.words import plain

FIRST = 200
EVERY = 1000
_MOST_NAMES = 100  # to tell of; whoever makes names up must not fill the memory
_MOST_TEXT = 80
# What others call it, where that is not spelled alike: OCSF, ECS, CloudTrail, OpenTelemetry and everyday words.
_ELSEWHERE = {
    "timestamp": "time", "@timestamp": "time", "ts": "time", "eventtime": "time", "id": "event_id", "uid": "event_id", "agent": "agent_id", "actor": "agent_id",
    "user": "principal", "on_behalf_of": "principal", "session": "session_id", "permissions": "scopes", "to": "recipients", "size": "bytes", "rows": "records",
    "label": "classification", "sensitivity": "classification", "status": "outcome", "result": "outcome", "verb": "action",
}  # fmt: skip


class Fields:
    """What was found among the events so far. The same events give the same, wherever batches are cut."""

    def __init__(self) -> None:
        self.looked = 0  # events
        self.unknown: Counter[str] = Counter()  # field → events that have it, of those looked at
        self._events = 0

    def look(self, records: Sequence[bytes | None], kept: Sequence[int]) -> tuple[int, list[str]]:
        """Look at a sample of a batch's events, `kept` of its records: how many fields were unknown, and those never met before."""
        begin, self._events = self._events, self._events + len(kept)
        sample = [*range(begin, min(FIRST, self._events)), *range(_next(max(begin, FIRST)), self._events, EVERY)]
        found = 0
        new: list[str] = []
        for number in sample:
            names = unknown_fields(cast("bytes", records[kept[number - begin]]))
            found += len(names)
            for name in sorted(plain(name, _MOST_TEXT) for name in names):
                if name not in self.unknown and len(self.unknown) >= _MOST_NAMES:
                    continue
                if name not in self.unknown:
                    new.append(name)
                self.unknown[name] += 1
        self.looked += len(sample)
        return found, new


def _next(number: int) -> int:
    return -(-number // EVERY) * EVERY


def meant(name: str) -> str:
    """What to do about one field.

    >>> meant("recipient")
    'did you mean `recipients`? Unknown fields belong in `attributes`.'
    >>> meant("timestamp")
    'did you mean `time`? Unknown fields belong in `attributes`.'
    """
    elsewhere = _ELSEWHERE.get(name.lower())
    close = [elsewhere] if elsewhere else get_close_matches(name.lower(), FIELDS, 1, 0.8)
    return f"{f'did you mean `{close[0]}`? ' if close else ''}Unknown fields belong in `attributes`."
