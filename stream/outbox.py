"""What a partition has to say and to acknowledge with its next flush, and how much of it may wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from stream.alert import Alert
from stream.delivery import Refused

MOST_WAITING = 200_000  # records scored and not yet delivered; then scoring waits for the delivery
MOST_REFUSED = 16 << 20  # bytes of rejects not yet delivered; likewise


class Outgoing(NamedTuple):
    """What one flush delivers, and then acknowledges."""

    events: list[Any]  # Faust's
    alerts: list[tuple[Alert, float]]  # with the arrival of the record that called for it, in seconds
    rejects: list[Refused]
    learned: int  # records of events and verdicts


class Outbox:
    """Filled batch by batch, and emptied by a flush. What is in it when its partition is closed is for the next owner, unless that is us."""

    def __init__(self) -> None:
        self.events: list[Any] = []  # to be acknowledged
        self.forget()

    def forget(self) -> None:
        """Begin with nothing to say: all is to be learned again."""
        self._alerts: list[tuple[Alert, float]] = []
        self._rejects: list[Refused] = []
        self._refused = 0  # bytes of those
        self.scored = 0  # records of events
        self.judged = 0  # records of verdicts

    @property
    def full(self) -> bool:
        """Whether scoring should wait for a flush."""
        return self.scored >= MOST_WAITING or self._refused >= MOST_REFUSED

    @property
    def learned(self) -> bool:
        """Whether baselines know more than was delivered."""
        return bool(self.scored or self.judged)

    @property
    def somebody_waits(self) -> bool:
        """Whether somebody waits for it: for alerts and rejects, not baselines alone."""
        return bool(self._alerts or self._rejects)

    def say(self, alerts: Sequence[Alert], arrived: Sequence[float]) -> None:
        """Alerts, each with the arrival of the record that called for it."""
        self._alerts += zip(alerts, arrived, strict=True)

    def refuse(self, refused: Refused) -> None:
        """A record that could not be used."""
        self._rejects.append(refused)
        self._refused += refused.size

    def empty(self) -> Outgoing:
        """All of it, for a flush."""
        out = Outgoing(self.events, self._alerts, self._rejects, self.scored + self.judged)
        self.events = []
        self.forget()
        return out
