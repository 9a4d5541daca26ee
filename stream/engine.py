"""The engine: a batch of records in, scores and alerts out, state changed. No I/O, no clock; every host calls this.

Three steps, so that a host can overlap them: `decode` turns bytes into columns and needs no state; `run` is the compiled loop, which
scores and learns and does not hold the interpreter's lock; `tell` turns what was strange into episodes and alerts. The same records give the same scores and alerts wherever batches are cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models import drift, loop, newcomer, parties, put, verdict
from models.batch import NOTABLE, WARMING, Batch, Scores, blank
from models.budget import STEP
from models.schema import TABLES
from models.signals import KINDS, PAYS
from models.state import State
from models.table import Array, find
from stream.alert import Alert, Evidence, rfc3339
from stream.codec import Events, Reject
from stream.columns import read
from stream.company import Company
from stream.episodes import Episodes
from stream.errors import SettingsError
from stream.fields import Fields
from stream.kept import keep
from stream.records import warm_up as warm_up_records
from stream.score_lines import score_lines
from stream.settings import Settings
from stream.siphash import name_hash
from stream.verdict import Reset, Verdict, judged

if TYPE_CHECKING:
    from models.windows import WindowDetector

SHIFT_DAYS = 3.0
_AGENTS = TABLES.index("agents")


@dataclass(slots=True)
class Decoded:
    """A batch past the border: events and their columns, where each came from, and the rejects."""

    events: Events
    positions: list[int]  # index in the batch's records
    batch: Batch | None  # where there is an event
    rejects: list[Reject]
    unknown: int = 0  # fields that the contract does not have, in the sample that was looked at
    new: list[str] = field(default_factory=list)  # of those the names that never came before


class Turn(NamedTuple):
    """A level that changed for good when one of its days ended."""

    at: int  # at which event of the batch
    entity: int
    clock: float
    whose: str  # "agent" or "cohort"


class Said(NamedTuple):
    """A verdict that was heeded within a batch."""

    at: int  # before which event
    clock: float  # of the event before that
    verdict: Verdict | Reset


@dataclass(slots=True)
class Ran:
    """A batch that was scored and learned, and not yet told of."""

    decoded: Decoded
    batch: Batch | None
    out: Scores | None
    paid: Array  # (n,) bits of a River detector
    turns: list[Turn] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    evicted: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Scored:
    """What the engine says of a batch."""

    events: Events
    batch: Batch | None  # the same as columns, where there is one
    positions: list[int]
    score: Array  # (n,)
    parts: Array  # (n, kinds)
    marks: Array  # (n,) of models.batch
    rejects: list[Reject]
    alerts: list[Alert] = field(default_factory=list)
    alert_positions: list[int] = field(default_factory=list)  # of the event that each alert message was said at
    raised: Mapping[str, int] = field(default_factory=dict)  # alerts whose severity rose, by what it rose to
    merged: int = 0  # events over the threshold that opened no alert of their own
    evicted: dict[str, int] = field(default_factory=dict)  # table → rows that gave way
    unknown: list[str] = field(default_factory=list)  # classifications outside the ladder, each the first time
    unknown_clearances: list[str] = field(default_factory=list)  # of recipients
    shifts: dict[str, int] = field(default_factory=lambda: {"agent": 0, "cohort": 0})

    def lines(self) -> bytes:
        """Score lines as in the contract."""
        return score_lines(self.events, self.batch, self.score, self.parts) if self.batch is not None else b""


class Engine:
    """Baselines and open episodes of one partition, or of one replay. `pays` is what signals pay, where it is not as usual (`benchmarks.ablation`).

    Raises `SettingsError` if the River detector asked for does not exist.
    """

    def __init__(self, settings: Settings, pays: Array = PAYS) -> None:
        self.settings = settings
        self._pays = pays
        self.share = 1.0  # of the alert budget that is this engine's
        self.forget()
        self._ladder = np.array([name_hash(rung.lower()) for rung in settings.classifications], np.uint64)
        self._own = np.array([name_hash(domain) for domain in settings.domains], np.uint64)
        self.verdicts: deque[Verdict | Reset] = deque()  # to be heeded at their time, in its order
        self.unknown: set[str] = set()  # classifications outside the ladder, each reported once
        self.unknown_clearances: set[str] = set()  # of recipients
        self.fields = Fields()
        self.windows = _windows(settings.river_detector) if settings.river_detector else None

    def forget(self) -> None:
        """Begin as if no event had come."""
        self.state = State(self.settings.state_mib)
        self.episodes = Episodes(self.settings.classifications)
        self.company = Company()
        self._shifts: dict[int, float] = {}  # when each level last changed, as far as was told
        self.restored = False  # whether what a host put back has been looked at

    @property
    def threshold(self) -> float:
        """Bits from which an alert opens, at present."""
        return float(self.state.fleet["bin"]) / STEP

    @property
    def warming(self) -> int:
        """Agents too young to be judged by their own past alone; counted, for in a sum those would stay whose rows give way."""
        head = self.state.tables[_AGENTS].head
        return int(np.count_nonzero((head["key"] != 0) & (head["seen"] < newcomer.YOUNG_EVENTS)))

    def decode(self, records: Sequence[bytes | None], positions: Sequence[int] | Array) -> Decoded:
        """Raw records → events and their columns; `positions` (line numbers, offsets) go into rejects."""
        batch, events, kept, rejects = read(records, positions, self.settings.max_event_bytes, self._ladder, self._own)
        unknown, new = self.fields.look(records, kept)
        return Decoded(events, kept, batch, rejects, unknown, new)

    def score(self, decoded: Decoded) -> Scored:
        """Score each event by what came before it, learn it, and say what alerts follow."""
        return self.tell(self.run(decoded))

    def run(self, decoded: Decoded) -> Ran:
        """Score and learn: the only step that changes the state. A host may `tell` of one batch while the next one runs."""
        b = decoded.batch
        if b is None:
            return Ran(decoded, None, None, np.zeros(0))
        if not self.restored:  # what a host put back is complete once events come
            head = self.state["levels"].head
            self._shifts = {int(row["key"]): float(row["shifted"]) for row in head[head["shifted"] > 0]}
            self.company.look(self.state["agents"].head)
            self.restored = True
        before = self.state.tally[:, 1].copy()
        out, said = self._loop(b)
        ran = Ran(decoded, b, out, self._watch_windows(b, out, said), said=said)
        ran.turns = self._end_days(b, out)
        gone = self.state.tally[:, 1] - before
        ran.evicted = {TABLES[i]: int(gone[i]) for i in np.flatnonzero(gone)}
        return ran

    def tell(self, ran: Ran) -> Scored:
        """What a batch that has run means: episodes grow, alerts open and are said again. Batches are told in their order."""
        decoded, b, out = ran.decoded, ran.batch, ran.out
        if b is None or out is None:
            return Scored(
                decoded.events, None, [], np.zeros(0), np.zeros((0, len(KINDS))), np.zeros(0, np.uint8), decoded.rejects
            )
        score = np.maximum(out.score, out.session)
        scored = Scored(decoded.events, b, decoded.positions, score, out.parts, out.marks, decoded.rejects)
        scored.unknown = self._unknown_classifications(decoded.events, b)
        scored.unknown_clearances = self._unknown_clearances(decoded.events, b)
        merged = self.episodes.merged
        self.episodes.raised.clear()
        said = deque(ran.said)
        telling = np.flatnonzero((out.row >= 0) | (out.marks & NOTABLE > 0))
        told = 0
        columns = (out.clock, out.threshold, out.marks, out.cohort, self.company.alone(b))
        which = zip(telling.tolist(), *(x[telling].tolist() for x in columns), strict=True)
        kept = keep(scored.events, telling, b, out, ran.paid)
        for (e, clock, threshold, marks, cohort, alone), event in zip(which, kept, strict=True):
            while told < len(ran.turns) and ran.turns[told].at <= e:
                self._shifts[ran.turns[told].entity] = ran.turns[told].clock
                told += 1
            while said and said[0].at <= e:
                self._settle(said.popleft(), scored)
            alerts = self.episodes.add(
                event,
                clock,
                threshold,
                notable=bool(marks & NOTABLE),
                warming=bool(marks & WARMING),
                shift=self._shift(cohort, clock),
                alone=alone,
            )
            scored.alerts += alerts
            scored.alert_positions += [scored.positions[e]] * len(alerts)
        for one in said:
            self._settle(one, scored)
        alerts = self.episodes.lapse(float(out.clock[-1]))
        scored.alerts += alerts
        scored.alert_positions += [scored.positions[-1]] * len(alerts)
        scored.merged = self.episodes.merged - merged
        scored.raised = +self.episodes.raised
        scored.evicted = ran.evicted
        for turn in ran.turns:
            self._shifts[turn.entity] = turn.clock
            scored.shifts[turn.whose] += 1
        return scored

    def _unknown_classifications(self, events: Events, b: Batch) -> list[str]:
        """Classifications of this batch that are not on the ladder and were not reported before."""
        odd = np.flatnonzero((b.rung < 0) & (b.classification.hash != 0))
        return _never_said(self.unknown, (events[i].classification for i in odd.tolist()))

    def _unknown_clearances(self, events: Events, b: Batch) -> list[str]:
        """The same of what recipients may see: who is not on the ladder is taken for one of whom it is not known."""
        odd = np.flatnonzero((b.clearance < 0) & (b.cleared_for != 0))
        at = np.searchsorted(b.recipient_at, odd, "right") - 1
        return _never_said(
            self.unknown_clearances,
            (
                (events[i].recipients or ())[j].clearance
                for i, j in zip(at.tolist(), (odd - b.recipient_at[at]).tolist(), strict=True)
            ),
        )

    def knows(self, agent_id: str) -> bool:
        """Whether there is a baseline of an agent."""
        return find(self.state["agents"].head, np.uint64(name_hash(agent_id))) >= 0

    def judge(self, said: Verdict | Reset) -> list[Alert]:
        """Heed a verdict now, between two batches; the last words on an alert that a reset ends."""
        self._heed(said)
        if isinstance(said, Reset):
            if self.windows is not None:
                self.windows.forget(name_hash(said.agent_id))
            return self.episodes.begin_anew(said.agent_id, float(self.state.fleet["clock"]))
        self.episodes.heed(said.agent_id, said.alert_id, benign=said.verdict == "benign")
        return []

    def _heed(self, said: Verdict | Reset) -> None:
        """Change what is learned."""
        if isinstance(said, Reset):
            self.state.reserve("facts", 1)
            newcomer.reset(self.state.arrays(), np.uint64(name_hash(said.agent_id)))
            return
        j = judged(said, self.settings.classifications)
        self.state.reserve("facts", verdict.FACT_ROWS * len(j.value))
        (verdict.benign if said.verdict == "benign" else verdict.malicious)(self.state.arrays(), j)

    def _settle(self, said: Said, scored: Scored) -> None:
        """Tell the open episode that a verdict is on. What ended before the verdict ends before it here."""
        alerts = self.episodes.lapse(said.clock)
        scored.alerts += alerts
        scored.alert_positions += [scored.positions[max(0, said.at - 1)]] * len(alerts)
        v = said.verdict
        if isinstance(v, Reset):
            last = self.episodes.begin_anew(v.agent_id, said.clock)
            scored.alerts += last
            scored.alert_positions += [scored.positions[max(0, said.at - 1)]] * len(last)
            return
        self.episodes.heed(v.agent_id, v.alert_id, benign=v.verdict == "benign")

    def _loop(self, b: Batch) -> tuple[Scores, list[Said]]:
        out = blank(len(b.time), window=self.windows is not None)
        said: list[Said] = []
        at, why = 0, 0
        while why != loop.FINISHED:
            due = self.verdicts[0].seconds if self.verdicts else np.inf
            at, why = loop.run(
                self.state.arrays(), b, out, at, self.settings.alerts_per_day * self.share, self._own, self._pays, due
            )
            if why == loop.RESCALE:
                self.state.rescale()
            elif why == loop.DUE:
                said.append(Said(at, float(self.state.fleet["clock"]), self.verdicts.popleft()))
                self._heed(said[-1].verdict)
            elif why >= 0:
                self.state.grow(why)
        return out, said

    def _watch_windows(self, b: Batch, out: Scores, said: list[Said]) -> Array:
        """Bits that the River detector pays for each event; it may lift an event over the threshold."""
        paid = np.zeros(len(b.time))
        if self.windows is not None:
            resets = deque((s.at, name_hash(s.verdict.agent_id)) for s in said if isinstance(s.verdict, Reset))
            for e, sums in enumerate(out.window.tolist()):
                while resets and resets[0][0] <= e:
                    self.windows.forget(resets.popleft()[1])
                paid[e] = self.windows.pay(int(b.agent.hash[e]), sums)
            np.add(out.score, paid, out=out.score)
            out.parts[:, KINDS.index("rate")] += paid
            out.marks[(out.score >= out.threshold) & (paid > 0)] |= NOTABLE
        return paid

    def _end_days(self, b: Batch, out: Scores) -> list[Turn]:
        """Test each level whose day ended; those that changed are marked in the state, and given back in their order."""
        levels, turns = self.state["levels"], []
        for t in range(int(out.turns[0])):
            if not drift.changed(out.days[t, : out.days_length[t]].tolist()):
                continue
            entity, at = int(out.turned[t]), int(out.turned_at[t])
            i = find(levels.head, np.uint64(entity))
            if i >= 0:
                clock = float(out.clock[at])
                levels.head[i]["shifted"] = clock
                levels.dirty[i] = 1
                cohorts = (int(out.cohort[at]), int(parties.cohort_entity(np.uint64(b.cohort[at]))))
                whose = "cohort" if entity in cohorts else "agent"
                turns.append(Turn(at, entity, clock, whose))
        return turns

    def _shift(self, cohort: int, clock: float) -> Evidence | None:
        """The whole cohort's level changed in these days: then one agent's change is a rollout's."""
        if cohort == 0 or not self._shifts:
            return None
        at = self._shifts.get(cohort, -np.inf)
        if clock - at > SHIFT_DAYS * 86400:
            return None
        said = f"the daily amounts of its whole cohort lie at another level since the days before {rfc3339(at)[:10]}"
        return Evidence("cohort_shift", "volume", said, "-", 0.0, [], 1)


def warm_up(settings: Settings) -> None:
    """Compile every path of the loop, or load it from the cache, so that the first real batch does not wait for it."""
    engine = Engine(settings)
    event = b'{"event_id":"1","time":1,"agent_id":"a","action":"send","resource":"a/b","scopes":["s"],"recipients":[{"id":"r@x.example"}]}'
    engine.score(engine.decode([event], [0])).lines()
    engine.state.grow(0)
    put.warm_up()
    warm_up_records()


def _windows(name: str) -> WindowDetector:
    from models.windows import WindowDetector  # noqa: PLC0415  # River's detectors take a second, and few ask for one

    try:
        return WindowDetector(name)
    except ValueError as reason:
        raise SettingsError(f"STRAYLINE_RIVER_DETECTOR: {reason}") from None


def _never_said(said: set[str], names: Iterable[str | None]) -> list[str]:
    """Names that were not reported before; from a hundred on none is."""
    new = {str(name) for name in names} - said if len(said) < 100 else set()
    said |= new
    return sorted(new)
