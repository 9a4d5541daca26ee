"""Evidence of one agent that belongs together becomes one alert, which is said when it opens and again when it changes.

Every event with evidence of its own worth keeping (5 bits) belongs to its agent's *episode*, which ends after an hour without
one, or after a day. An episode is quiet until an event reaches the alert threshold: then its alert opens and tells of everything
in it. It is said again when its severity rises, a new kind of evidence appears, its events reach 2, 5, 10, 20, 50, …, and when it
ends with something unsaid. Nothing is dropped: an event over the threshold that joins an open alert is counted as merged.

All of it is decided by the events themselves, at event time, so the same events give the same alerts wherever batches are cut.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence

import msgspec

from models.loop import EPISODE_GAP, EPISODE_LONGEST
from models.signals import KINDS
from stream.alert import SEVERITIES, Alert, Did, Evidence, Exposure, alert_id, by_kind, rfc3339
from stream.evidence import MOST_TEXT, Kept, below, did, evidence, outside
from stream.reason import MOST_PEOPLE, OF_THE_EVENT, reason, title
from stream.techniques import techniques

MOST_IDS, MOST_NAMES, MOST_COUNTED, MOST_EVIDENCE, MOST_WAITING = 20, 20, 1024, 32, 32
MOST_WAITING_IN_ALL = 20_000  # events over all agents; each may be as large as `Kept.large` allows


class Episode(msgspec.Struct):
    """One agent's evidence so far. Plain values only, so a host can store it."""

    agent_id: str
    agent_type: str | None
    first_event_id: str
    begin: float  # stream's clock
    last: float  # stream's clock
    first_event_time: float
    last_event_time: float
    events: int = 0
    score: float = 0.0
    threshold: float = 0.0
    best: float = -1.0
    warming: bool = False
    parts: list[float] = []
    waiting: list[Kept] = []  # not yet turned into evidence
    evidence: dict[str, Evidence] = {}  # of all events but the strangest
    lead: list[Evidence] = []  # of the strangest
    did: Did = Did("", "")
    principals: list[str] = []
    sessions: list[str] = []
    classifications: list[str] = []
    resources: list[str] = []
    recipients: list[str] = []
    counted_resources: list[int] = []
    counted_recipients: list[int] = []
    records: float | None = None
    bytes: float | None = None
    people: int = 0
    people_below: int = 0
    outside: bool = False
    to_agent: bool = False
    leaked: bool = False  # sensitive data went to someone outside, in one event
    denied: bool = False
    shift: bool = False
    revision: int = 0
    said: int = 0  # events when it was last said
    said_severity: int = -1
    said_kinds: list[str] = []
    settled: int = -1  # recipients when a person called it benign


class Episodes:
    """The episodes of all agents of one engine."""

    def __init__(self, ladder: tuple[str, ...]) -> None:
        self.ladder = ladder
        self.open: dict[str, Episode] = {}
        self.changed: set[str] = set()  # agents whose episode changed since a host last looked
        self.merged = 0
        self.waiting = 0  # events of all episodes that are not yet turned into evidence
        self._due: list[tuple[float, str]] = []

    def add(
        self,
        kept: Kept,
        clock: float,
        threshold: float,
        *,
        notable: bool,
        warming: bool,
        shift: Evidence | None,
    ) -> list[Alert]:
        """Add an event to its agent's episode; the alert revisions that this calls for."""
        out = self.lapse(clock)
        agent_id = kept.event.agent_id
        episode = self.open.get(agent_id)
        if episode is None:
            episode = Episode(agent_id, kept.event.agent_type, kept.event.event_id, clock, clock, kept.time, kept.time)
            self.open[agent_id] = episode
            heapq.heappush(self._due, (clock + EPISODE_GAP, agent_id))
        self.changed.add(agent_id)
        episode.last = clock
        episode.events += 1
        episode.waiting.append(kept)
        self.waiting += 1
        if shift is not None:
            episode.shift = True
            episode.evidence[shift.name] = shift
        if notable:
            episode.warming = warming
            self.merged += episode.revision > 0
            episode.score = max(episode.score, kept.score)
            episode.threshold = episode.threshold or threshold
        if episode.score > 0 or len(episode.waiting) >= MOST_WAITING or kept.large:
            self._absorb_waiting(episode)
        if self.waiting > MOST_WAITING_IN_ALL:
            self._absorb_oldest()
        if episode.score > 0 and (episode.revision == 0 or _worth_saying(episode)):
            out.append(_say(episode, kept.time))
        return out

    def _absorb_waiting(self, episode: Episode) -> None:
        for kept in episode.waiting:
            _absorb(episode, kept, self.ladder)
        self.waiting -= len(episode.waiting)
        episode.waiting.clear()

    def _absorb_oldest(self) -> None:
        """Make room: a quarter at a time, so that the episodes are seldom sorted.

        Their order is a function of the episodes, and not of when they came into this process.
        """
        for episode in sorted(self.open.values(), key=lambda x: (x.begin, x.agent_id)):
            if 4 * self.waiting <= 3 * MOST_WAITING_IN_ALL:
                return
            if episode.waiting:
                self._absorb_waiting(episode)
                self.changed.add(episode.agent_id)

    def lapse(self, clock: float) -> list[Alert]:
        """End the episodes that are over by now; an alert with something unsaid is said for the last time."""
        out = []
        while self._due and self._due[0][0] <= clock:
            due, agent_id = heapq.heappop(self._due)
            episode = self.open.get(agent_id)
            if episode is None:
                continue
            end = min(episode.last + EPISODE_GAP, episode.begin + EPISODE_LONGEST)
            if end > due:
                heapq.heappush(self._due, (end, agent_id))
                continue
            if episode.revision and episode.events > episode.said and episode.settled < 0:
                out.append(_say(episode, end))
            self.waiting -= len(episode.waiting)
            del self.open[agent_id]
            self.changed.add(agent_id)
        return out

    def settle(self, agent_id: str, alert: str, *, benign: bool) -> None:
        """Heed a verdict on an open alert: one that is benign is not said again unless it gets worse, or reaches somebody new."""
        episode = self.open.get(agent_id)
        if episode is not None and episode.revision and alert_id(agent_id, episode.first_event_id) == alert:
            episode.settled = len(episode.counted_recipients) if benign else -1
            self.changed.add(agent_id)

    def restore(self, agent_id: str, episode: Episode | None) -> None:
        """Put back what a host stored."""
        before = self.open.get(agent_id)
        self.waiting += (len(episode.waiting) if episode else 0) - (len(before.waiting) if before else 0)
        if episode is None:
            self.open.pop(agent_id, None)
        else:
            self.open[agent_id] = episode
            heapq.heappush(self._due, (min(episode.last + EPISODE_GAP, episode.begin + EPISODE_LONGEST), agent_id))


def _absorb(x: Episode, kept: Kept, ladder: tuple[str, ...]) -> None:
    """Turn an event into evidence and exposure. It does not matter when this is done: `kept` holds all it needs."""
    x.first_event_time = min(x.first_event_time, kept.time)
    x.last_event_time = max(x.last_event_time, kept.time)
    x.parts = [a + p for a, p in zip(x.parts or [0.0] * len(kept.parts), kept.parts, strict=True)]
    found, done, event = evidence(ladder, kept), did(kept), kept.event
    if kept.own > x.best:
        x.best = kept.own
        found, x.lead, x.did = x.lead, found, done
    _merge(x.evidence, found)
    recipients = [r.id for r in event.recipients or ()]
    _list(x.principals, [event.principal])
    _list(x.sessions, [event.session_id])
    _list(x.classifications, [event.classification])
    _list(x.resources, [event.resource], x.counted_resources)
    _list(x.recipients, recipients, x.counted_recipients)
    if event.records is not None:
        x.records = (x.records or 0.0) + event.records
    if event.bytes is not None:
        x.bytes = (x.bytes or 0.0) + event.bytes
    x.people = min(MOST_PEOPLE, x.people + (done.people or 0))
    x.people_below = min(MOST_PEOPLE, x.people_below + below(kept))
    x.outside |= outside(kept)
    x.to_agent |= any(r.type == "agent" for r in event.recipients or ())
    x.leaked |= outside(kept) and 2 * kept.rung >= len(ladder)  # the upper half of the ladder
    x.denied |= kept.denied


def _merge(into: dict[str, Evidence], found: Sequence[Evidence]) -> None:
    """Add an event's evidence to that of others: of each signal the strongest observation, and the event that showed it first."""
    for item in found:
        if item.name in OF_THE_EVENT:  # what is said beside the strangest event is about that event
            continue
        have = into.get(item.name, item)
        if have is not item:
            strong, weak = (item, have) if item.bits > have.bits else (have, item)
            ids = list(dict.fromkeys([*strong.event_ids, *weak.event_ids]))[:MOST_IDS]
            item = msgspec.structs.replace(strong, event_ids=ids, count=have.count + item.count)  # noqa: PLW2901
        into[item.name] = item


def _told(x: Episode) -> list[Evidence]:
    """The strangest event's evidence and the strongest of the others', strongest first. Only the former names that event."""
    lead = {x.did.event_id}
    others = sorted(x.evidence.values(), key=lambda i: (-i.bits, i.name))[: MOST_EVIDENCE - len(x.lead)]
    others = [msgspec.structs.replace(i, event_ids=[e for e in i.event_ids if e not in lead]) for i in others]
    return sorted([*x.lead, *others], key=lambda i: (-i.bits, i.name))


def _list(names: list[str], new: Sequence[str | None], counted: list[int] | None = None) -> None:
    """Keep the first few distinct names, cut short, and count the rest by their digest."""
    for name in new:
        if not name:
            continue
        if len(names) < MOST_NAMES and name[:MOST_TEXT] not in names:
            names.append(name[:MOST_TEXT])
        if counted is not None and len(counted) < MOST_COUNTED:
            digest = int.from_bytes(
                hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=7).digest(), "big"
            )
            if digest not in counted:
                counted.append(digest)


def _severity(x: Episode) -> int:
    """Index into SEVERITIES: how far over the threshold, then what was at stake.

    Sensitive data that left the organisation, or reached people below its clearance, is worse than its bits; a new agent's
    strangeness, and a change that its whole cohort shows, are less.
    """
    over = x.score / max(x.threshold, 1.0)
    level = 0 if over < 1.25 else 1 if over < 2.0 else 2
    if x.people_below or x.leaked:
        level += 1
    if x.warming or x.shift:
        level -= 1
    return max(0, min(len(SEVERITIES) - 1, level))


def _worth_saying(x: Episode) -> bool:
    if x.settled >= 0:
        return _severity(x) > x.said_severity or len(x.counted_recipients) > x.settled
    n = x.events
    round_number = n in {2, 5} or (n >= 10 and str(n).rstrip("0") in {"1", "2", "5"})
    return round_number or _severity(x) > x.said_severity or not set(_kinds(x)) <= set(x.said_kinds)


def _kinds(x: Episode) -> list[str]:
    """Broken policy is a fact and not a degree, so it is named whatever else is stranger."""
    kinds = by_kind(dict(zip(KINDS, x.parts, strict=True)))
    return ["policy", *(k for k in kinds if k != "policy")] if x.people_below else kinds


def _say(x: Episode, time: float) -> Alert:
    level = max(_severity(x), x.said_severity)  # a shift of its cohort, seen later, takes back nothing that was said
    kinds = _kinds(x)
    x.revision += 1
    x.settled = -1
    x.said, x.said_severity, x.said_kinds = x.events, level, kinds
    evidence = _told(x)
    exposure = Exposure(
        x.events, x.records, x.bytes, list(x.classifications), list(x.resources), len(x.counted_resources), list(x.recipients), len(x.counted_recipients),
        x.people if x.recipients else None, x.people_below if x.recipients else None,
    )  # fmt: skip
    return Alert(
        alert_id(x.agent_id, x.first_event_id),
        x.revision,
        rfc3339(time),
        rfc3339(x.first_event_time),
        rfc3339(x.last_event_time),
        x.agent_id,
        x.agent_type,
        list(x.principals),
        list(x.sessions),
        SEVERITIES[level],
        round(x.score, 2),
        kinds,
        title(x.agent_id, kinds),
        reason(
            x.agent_id,
            x.agent_type,
            x.did,
            evidence,
            exposure,
            warming=x.warming,
            score=round(x.score, 2),
            threshold=round(x.threshold, 2),
        ),
        evidence,
        exposure,
        techniques(kinds, x.did.action, outside=x.outside, denied=x.denied, to_agent=x.to_agent),
        x.did,
        round(x.threshold, 2),
        x.warming,
    )
