"""The engine: a batch of records in, scores and alerts out, state changed. No I/O, no clock; every host calls this.

`decode` turns bytes into columns and needs no state, so a host may decode the next batch while this one is scored; `score`
runs the compiled loop and the episodes. The same records give the same scores and alerts wherever batches are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models import drift, loop, profile
from models.batch import NOTABLE, WARMING, Batch, Scores, blank
from models.signals import KINDS
from models.state import TABLES, State
from models.table import Array, find
from models.windows import WindowDetector
from stream.alert import Alert, Evidence, rfc3339
from stream.codec import AccessEvent, Parts, Reject, ScoreLine, decode
from stream.columns import columns, name_hash
from stream.episodes import Episodes
from stream.errors import SettingsError
from stream.evidence import keep
from stream.settings import Settings

SHIFT_DAYS = 3.0


@dataclass(slots=True)
class Decoded:
    """A batch past the border: events with their columns, where each came from, and the rejects."""

    events: list[AccessEvent]
    positions: list[int]  # index in the batch's records
    batch: Batch | None
    rejects: list[Reject]


@dataclass(slots=True)
class Scored:
    """What the engine says of a batch."""

    events: list[AccessEvent]
    positions: list[int]
    score: Array  # (n,)
    parts: Array  # (n, kinds)
    marks: Array  # (n,) of models.batch
    rejects: list[Reject]
    alerts: list[Alert] = field(default_factory=list)
    alert_positions: list[int] = field(default_factory=list)  # of the event that each alert message was said at
    merged: int = 0  # events over the threshold that joined an open alert
    evicted: dict[str, int] = field(default_factory=dict)  # table → rows that gave way
    shifts: dict[str, int] = field(default_factory=lambda: {"agent": 0, "cohort": 0})

    def lines(self) -> list[ScoreLine]:
        """Score lines as in the contract, rounded to a ten-thousandth of a bit."""
        scores = np.round(self.score, 4).tolist()
        parts = np.round(self.parts, 4).tolist()
        return [
            ScoreLine(e.event_id, e.agent_id, s, Parts(*p)) for e, s, p in zip(self.events, scores, parts, strict=True)
        ]


class Engine:
    """Baselines and open episodes of one partition, or of one replay.

    Raises `SettingsError` if the River detector asked for does not exist.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = State(settings.state_mib)
        self.episodes = Episodes(settings.classifications)
        self._ladder = np.array([name_hash(rung) for rung in settings.classifications], np.uint64)
        self._own = np.array([name_hash(domain) for domain in settings.domains], np.uint64)
        self._shifts: dict[int, float] | None = None
        self.unknown: set[str] = set()  # classifications outside the ladder, each reported once
        try:
            self.windows = WindowDetector(settings.river_detector) if settings.river_detector else None
        except ValueError as reason:
            raise SettingsError(f"STRAYLINE_RIVER_DETECTOR: {reason}") from None

    def decode(self, records: Sequence[bytes | None], positions: Sequence[int]) -> Decoded:
        """Raw records → events and columns; `positions` (line numbers, offsets) go into rejects."""
        events, kept, rejects = decode(records, positions, self.settings.max_event_bytes)
        return Decoded(events, kept, columns(events, self._ladder) if events else None, rejects)

    def score(self, decoded: Decoded) -> Scored:
        """Score each event by what came before it, learn it, and say what alerts follow."""
        b = decoded.batch
        if b is None:
            return Scored([], [], np.zeros(0), np.zeros((0, len(KINDS))), np.zeros(0, np.uint8), decoded.rejects)
        before = self.state.tally[:, 1].copy()
        merged = self.episodes.merged
        out = self._run(b)
        scored = Scored(decoded.events, decoded.positions, out.score, out.parts, out.marks, decoded.rejects)
        paid = self._watch_windows(b, out)
        self._tell(scored, b, out, paid)
        scored.merged = self.episodes.merged - merged
        gone = self.state.tally[:, 1] - before
        scored.evicted = {TABLES[i]: int(gone[i]) for i in np.flatnonzero(gone)}
        return scored

    def unknown_classifications(self, decoded: Decoded) -> list[str]:
        """Classifications of this batch that are not on the ladder and were not reported before."""
        b = decoded.batch
        if b is None:
            return []
        odd = np.flatnonzero((b.rung < 0) & (b.classification.hash != 0))
        new = (
            {str(decoded.events[i].classification) for i in odd} - self.unknown
            if len(odd) and len(self.unknown) < 100
            else set()
        )
        self.unknown |= new
        return sorted(new)

    def _run(self, b: Batch) -> Scores:
        out = blank(len(b.time), window=self.windows is not None)
        at, why = 0, 0
        while why != loop.FINISHED:
            at, why = loop.run(self.state.arrays(), b, out, at, self.settings.alerts_per_day, self._own)
            if why == loop.RESCALE:
                self.state.rescale()
            elif why >= 0:
                self.state.grow(why)
        return out

    def _watch_windows(self, b: Batch, out: Scores) -> Array:
        """Bits that the River detector pays for each event; it may lift an event over the threshold."""
        paid = np.zeros(len(b.time))
        if self.windows is not None:
            for e, sums in enumerate(out.window.tolist()):
                paid[e] = self.windows.pay(int(b.agent.hash[e]), sums)
            np.add(out.score, paid, out=out.score)
            out.parts[:, KINDS.index("rate")] += paid
            out.marks[(out.score >= out.threshold) & (paid > 0)] |= NOTABLE
        return paid

    def _tell(self, scored: Scored, b: Batch, out: Scores, paid: Array) -> None:
        """Go through what matters of a batch, in order: days that ended, and events that are evidence."""
        telling = np.flatnonzero((out.row >= 0) | (out.marks & NOTABLE > 0)).tolist()
        turns = int(out.turns[0])
        turned = out.turned_at[:turns].tolist()
        t = 0
        for e in [*telling, len(b.time)]:
            while t < turns and turned[t] <= e:
                entity, cohort = int(out.turned[t]), profile.cohort_key(int(b.cohort[turned[t]]))
                self._end_day(
                    entity,
                    out.days[t, : out.days_length[t]].tolist(),
                    float(out.clock[turned[t]]),
                    scored,
                    "cohort" if entity == cohort else "agent",
                )
                t += 1
            if e == len(b.time):
                break
            clock = float(out.clock[e])
            alerts = self.episodes.add(
                keep(scored.events[e], e, b, out, float(paid[e])),
                clock,
                float(out.threshold[e]),
                notable=bool(out.marks[e] & NOTABLE),
                warming=bool(out.marks[e] & WARMING),
                shift=self._shift(int(b.cohort[e]), clock),
            )
            scored.alerts += alerts
            scored.alert_positions += [scored.positions[e]] * len(alerts)
        alerts = self.episodes.lapse(float(out.clock[-1]))
        scored.alerts += alerts
        scored.alert_positions += [scored.positions[-1]] * len(alerts)

    def _end_day(self, entity: int, days: list[float], clock: float, scored: Scored, whose: str) -> None:
        if not drift.changed(days):
            return
        table = self.state["levels"]
        i = find(table.head, np.uint64(entity))
        if i >= 0:
            table.head[i]["shifted"] = clock
            table.dirty[i] = 1
            self._shifted()[entity] = clock
            scored.shifts[whose] += 1

    def _shifted(self) -> dict[int, float]:
        """When each level last changed; read once from the state, which may have been restored, then kept."""
        if self._shifts is None:
            head = self.state["levels"].head
            self._shifts = {int(row["key"]): float(row["shifted"]) for row in head[head["shifted"] > 0]}
        return self._shifts

    def _shift(self, cohort: int, clock: float) -> Evidence | None:
        """The whole cohort's level changed in these days: then one agent's change is a rollout's."""
        shifts = self._shifted()
        if cohort == 0 or not shifts:
            return None
        at = shifts.get(profile.cohort_key(cohort), -np.inf)
        if clock - at > SHIFT_DAYS * 86400:
            return None
        said = f"the daily amounts of its whole cohort changed by {rfc3339(at)[:10]}"
        return Evidence("cohort_shift", "volume", said, "-", 0.0, [], 1)


def warm_up(settings: Settings) -> None:
    """Compile every path of the loop, or load it from the cache, so that the first real batch does not wait for it."""
    engine = Engine(settings)
    event = b'{"event_id":"1","time":1,"agent_id":"a","action":"send","resource":"a/b","scopes":["s"],"recipients":[{"id":"r@x.example"}]}'
    engine.score(engine.decode([event], [0]))
    engine.state.grow(0)
