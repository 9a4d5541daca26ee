"""Evidence of one agent that belongs together becomes one alert, which is said when it opens and again when it changes.

Every event with evidence of its own worth keeping (5 bits) belongs to its agent's *episode*, which ends after an hour without
one, or after a day; once it has reached the alert threshold it goes on until half a day's quiet, since what an agent does later on
the same day is the same story. At the threshold an episode is an alert if it has three strange events, did serious harm, or is half as
strange again (`stream.severity`); a rollout that is known already is not said again (`stream.rollout`). The alert tells of everything
in the episode. It is said again when its severity rises, a new kind of evidence appears, its events reach 2, 5, 10, 20, 50, …, and when it
ends with something unsaid. Nothing is dropped: an event over the threshold that opens no alert of its own is counted as merged.

All of it is decided by the events themselves, at event time, so the same events give the same alerts wherever batches are cut.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence

import msgspec

from models.loop import EPISODE_GAP, EPISODE_LONGEST
from models.signals import INDEX, KINDS, SIGNALS
from stream.alert import SEVERITIES, Alert, Did, Evidence, Exposure, alert_id, by_kind, rfc3339
from stream.counterfactual import pays
from stream.evidence import evidence
from stream.kept import MOST_TEXT, Kept, below, did, outside
from stream.reason import OF_THE_EVENT, reason
from stream.response import next_step
from stream.rollout import Began, Rollouts, begun, whole
from stream.rollout import evidence as rolled_out
from stream.severity import CONFIDENCES, HARMS, SERIOUS, certainty, harm, opens, severity
from stream.techniques import techniques
from stream.title import subject, title
from stream.words import MOST_PEOPLE

MOST_IDS, MOST_NAMES, MOST_COUNTED, MOST_EVIDENCE, MOST_WAITING = 20, 20, 1024, 32, 32
MOST_BEGUN = 16
MOST_WAITING_IN_ALL = 20_000  # events over all agents; each may be as large as `Kept.large` allows
LOUD_GAP = 43200.0  # seconds: what an agent does later on the same day is the same story


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
    strong: int = 0  # of these, with at least half the threshold's bits of their own
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
    harm: int = 0  # of the event that did most of it
    denied: bool = False
    shift: bool = False
    rollout: bool = False
    begun: list[str] = []  # what it began to do, see `stream.rollout`
    version: str | None = None  # of the agent's code, as its strangest event says
    revision: int = 0
    said: int = 0  # events when it was last said
    said_severity: int = -1
    said_kinds: list[str] = []


class Episodes:
    """The episodes of all agents of one engine."""

    def __init__(self, ladder: tuple[str, ...]) -> None:
        self.ladder = ladder
        self.open: dict[str, Episode] = {}
        self.changed: set[str] = set()  # agents whose episode changed since a host last looked
        self.rollouts = Rollouts()
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
        episode.strong += kept.own >= threshold / 2
        episode.waiting.append(kept)
        self.waiting += 1
        if shift is not None:
            episode.shift = True
            episode.evidence[shift.name] = shift
        if notable:
            episode.warming = warming
            episode.score = max(episode.score, kept.score)
            episode.threshold = episode.threshold or threshold
        if episode.score > 0 or len(episode.waiting) >= MOST_WAITING or kept.large:
            self._absorb_waiting(episode)
        if self.waiting > MOST_WAITING_IN_ALL:
            self._absorb_oldest()
        opened = False
        if episode.score > 0:
            rollout = self._rollout(episode, clock)
            opened = episode.revision == 0 and _opens(episode, whole(rollout))
            if opened or (episode.revision and _worth_saying(episode)):
                out.append(self._say(episode, kept.time, rollout))
        self.merged += notable and not opened
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
            end = _end(episode)
            if end > due:
                heapq.heappush(self._due, (end, agent_id))
                continue
            if episode.revision and episode.events > episode.said:
                out.append(self._say(episode, end, self._rollout(episode, clock)))
            self.waiting -= len(episode.waiting)
            del self.open[agent_id]
            self.changed.add(agent_id)
        return out

    def _rollout(self, x: Episode, clock: float) -> dict[str, list[Began]]:
        """What of it its cohort began in these days as well; its own part is kept for them."""
        if x.agent_type is None:
            return {}
        self.rollouts.note(x.agent_type, x.agent_id, x.begun, clock, x.version)
        return self.rollouts.of(x.agent_type, x.agent_id, x.begun, clock)

    def _say(self, x: Episode, time: float, rollout: dict[str, list[Began]]) -> Alert:
        if rollout:
            strongest = max((*x.lead, *x.evidence.values()), key=lambda e: (pays(e), e.name))
            x.rollout = not whole(rollout).keys().isdisjoint(begun([strongest]))
            x.evidence["rollout"] = rolled_out(rollout, x.version)
            self.rollouts.tell(rollout)
        return _alert(x, time)

    def restore(self, agent_id: str, episode: Episode | None) -> None:
        """Put back what a host stored."""
        before = self.open.get(agent_id)
        self.waiting += (len(episode.waiting) if episode else 0) - (len(before.waiting) if before else 0)
        if episode is None:
            self.open.pop(agent_id, None)
        else:
            self.open[agent_id] = episode
            heapq.heappush(self._due, (_end(episode), agent_id))


def _end(x: Episode) -> float:
    """When it is over, unless something more comes."""
    return min(x.last + (LOUD_GAP if x.score > 0 else EPISODE_GAP), x.begin + EPISODE_LONGEST)


def _absorb(x: Episode, kept: Kept, ladder: tuple[str, ...]) -> None:
    """Turn an event into evidence and exposure. It does not matter when this is done: `kept` holds all it needs."""
    x.first_event_time = min(x.first_event_time, kept.time)
    x.last_event_time = max(x.last_event_time, kept.time)
    x.parts = [a + p for a, p in zip(x.parts or [0.0] * len(kept.parts), kept.parts, strict=True)]
    found, done, event = evidence(ladder, kept), did(kept), kept.event
    x.harm = max(x.harm, harm(kept, found, len(ladder)))
    x.begun = list(dict.fromkeys([*x.begun, *begun(found)]))[:MOST_BEGUN]
    if kept.own > x.best:
        x.best = kept.own
        found, x.lead, x.did = x.lead, found, done
        x.version = event.agent_version
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


def _over(x: Episode) -> float:
    return x.score / max(x.threshold, 1.0)


def _opens(x: Episode, rollout: dict[str, list[Began]]) -> bool:
    told = any(b.said for peers in rollout.values() for b in peers)
    return opens(_over(x), x.strong, x.harm) and not (told and x.harm < SERIOUS and _explained(x, rollout))


def _explained(x: Episode, rollout: dict[str, list[Began]]) -> bool:
    """Whether what is strange beside the rollout would not reach the threshold."""
    groups: dict[str, float] = {}
    for e in (*x.lead, *x.evidence.values()):
        if e.name in INDEX and not rollout.keys() & set(begun([e])):
            group = SIGNALS[INDEX[e.name]].group
            groups[group] = max(groups.get(group, 0.0), pays(e))
    return sum(groups.values()) < x.threshold


def _certainty(x: Episode) -> int:
    return certainty(_over(x), x.strong, excused=x.warming or (x.harm < SERIOUS and (x.shift or x.rollout)))


def _severity(x: Episode) -> int:
    return severity(x.harm, _certainty(x))


def _worth_saying(x: Episode) -> bool:
    n = x.events
    round_number = n in {2, 5} or (n >= 10 and str(n).rstrip("0") in {"1", "2", "5"})
    return round_number or _severity(x) > x.said_severity or not set(_kinds(x)) <= set(x.said_kinds)


def _kinds(x: Episode) -> list[str]:
    """Broken policy is a fact and not a degree, so it is named whatever else is stranger."""
    kinds = by_kind(dict(zip(KINDS, x.parts, strict=True)))
    return ["policy", *(k for k in kinds if k != "policy")] if x.people_below else kinds


def _alert(x: Episode, time: float) -> Alert:
    level = max(_severity(x), x.said_severity)  # a shift of its cohort, seen later, takes back nothing that was said
    kinds = _kinds(x)
    x.revision += 1
    x.said, x.said_severity, x.said_kinds = x.events, level, kinds
    evidence = _told(x)
    about = subject(x.did, evidence, ["policy", "recipient", *kinds] if x.harm >= SERIOUS else kinds)
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
        title(x.agent_id, about, x.did, evidence, exposure),
        reason(
            x.agent_id,
            x.agent_type,
            x.did,
            evidence,
            exposure,
            warming=x.warming,
            score=round(x.score, 2),
            threshold=round(x.threshold, 2),
            strong=x.strong,
            serious=x.harm >= SERIOUS,
        ),
        evidence,
        exposure,
        techniques(kinds, x.did.action, outside=x.outside, denied=x.denied, to_agent=x.to_agent),
        x.did,
        round(x.threshold, 2),
        x.warming,
        CONFIDENCES[_certainty(x)],
        HARMS[x.harm],
        x.strong,
        x.version and x.version[:MOST_TEXT],
        next_step(x.agent_type, about, x.did, evidence, exposure),
    )
