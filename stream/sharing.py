"""One partition among the others: what it gives them of cohorts at each flush, and what it takes (`stream.cohorts`, on Kafka)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

import structlog

from stream.baselines import Position, Record
from stream.cohorts import Cohorts, Missing, Reader
from stream.engine import Engine
from stream.others import Heard, Others
from stream.settings import Settings

log = structlog.get_logger()
# What others gave is taken with the next flush; where a partition has no events to flush for, after so many records or seconds.
MOST_PENDING, TAKE_SECONDS = 64, 5.0
# Seconds of the events' time, after which a partition should hear what the others have learned: who is behind by weeks is there in a second. Of a fleet that is older
# than the latter its cohorts know most, and the flushes of every second or two do.
APART, YOUNG = 86400.0, 28 * 86400.0
_T = TypeVar("_T")


class Sharing:
    """Use `open`, then `receive` and `exchange` at each flush; `close` when the partition is taken away."""

    def __init__(self, settings: Settings, engine: Engine, number: int, others: Others, executor: Executor) -> None:
        self.number = number
        self.read = 0  # records, since it was last opened
        self._others = others
        self._settings = settings
        self._executor = executor
        self._cohorts = Cohorts(engine, settings.alerts_per_day)
        self._pending: list[Heard] = []  # what others gave, and is not added yet
        self._taken_at = 0.0
        self._clock = 0.0  # of the events, at the last exchange

    @property
    def positions(self) -> dict[int, Position]:
        """How far it has come in what the others gave, for the baselines; its own place has the number of what it gave itself."""
        return self._cohorts.positions | {self.number: Position(0, self._cohorts.number)}

    async def open(self, engine: Engine, positions: dict[int, Position], *, same: bool) -> None:
        """Go on where the baselines ended; `same`: they are what they were when it was closed."""
        self.read, self._pending = 0, []
        ends = await self._others.join(self.number)
        if not same:
            await self._begin(engine, dict(positions))
        behind = {}
        for q, end in ends.items():
            at = self._cohorts.positions.get(q, Position())
            if at.offset > end:  # a new topic: the numbers go on
                at.offset = 0
            if at.offset < end:
                behind[q] = (at.offset, end)
        if behind:
            await self._others.read(behind, self._keep)
        self._settle()

    @property
    def is_due(self) -> bool:
        """Whether events have gone so far that an exchange should come before the next are scored."""
        fleet = self._cohorts.engine.state.fleet
        last = max(self._clock, float(fleet["since"]))
        return bool(fleet["clock"] - last >= APART and last - fleet["since"] < YOUNG)

    def _settle(self) -> None:
        """The partition's share of the alert budget: as long as it has heard of no other that has alerts too, it takes them to be like it."""
        engine = self._cohorts.engine
        heard = any(at.number for q, at in self._cohorts.positions.items() if q != self.number)
        engine.episodes.apart = self._others.of > 1
        engine.share = 1.0 if heard else 1.0 / max(1, self._others.busy)
        self._clock = float(engine.state.fleet["clock"])

    async def _begin(self, engine: Engine, positions: dict[int, Position]) -> None:
        """Read what this partition has given in all. Where the baselines tell of less, or of none, some of them were lost."""
        own, _ = await self._count([self.number])
        known = positions.pop(self.number, Position()).number
        given, budget = own[self.number], self._settings.alerts_per_day
        self._cohorts = Cohorts(engine, budget, max(given.number, known), given.given, positions)
        if given.number > known:
            await self._restore(
                f"this partition has given {given.number} increments, and its baselines tell of {known}"
            )

    async def receive(self) -> bool:
        """Read what the others have given by now; whether it should not wait for events."""
        self._keep(await self._others.listen(self.number))
        waits = time.monotonic() - self._taken_at
        return len(self._pending) >= MOST_PENDING or (bool(self._pending) and waits >= TAKE_SECONDS)

    async def exchange(self) -> list[Record]:
        """Records of what was learned here since the last time; what others gave is added. The engine must not be scoring meanwhile."""
        taken, self._pending = self._pending, []
        self._taken_at = time.monotonic()
        records = await self._run(self._cohorts.give)
        try:
            await self._run(lambda: self._cohorts.take(taken))
        except Missing as reason:
            await self._restore(str(reason))
        self._settle()
        return records

    async def close(self) -> None:
        """Stop listening."""
        await self._others.leave(self.number)

    async def _restore(self, why: str) -> None:
        log.info("putting together anew what is known of cohorts", partition=self.number, why=why)
        found, ends = await self._count([q for q in range(self._others.of) if q != self.number])
        given = {q: reader.given for q, reader in found.items()}
        positions = {q: Position(ends[q], reader.number) for q, reader in found.items()}
        await self._run(lambda: self._cohorts.restore(given, positions))
        self._pending = []  # what of it is newer comes again, or is known by its number

    async def _count(self, partitions: Sequence[int]) -> tuple[dict[int, Reader], dict[int, int]]:
        """All that these partitions have given, and where that ends."""
        readers = {q: Reader() for q in partitions}

        def count(heard: Sequence[Heard]) -> None:
            self.read += len(heard)
            for one in heard:
                readers[one.source].read(one.given)

        return readers, await self._others.read(dict.fromkeys(partitions, (0, None)), count)

    def _keep(self, heard: Sequence[Heard]) -> None:
        self.read += len(heard)
        self._pending += heard

    async def _run(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)
