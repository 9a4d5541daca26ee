"""Evidence of one agent that belongs together becomes one alert, which is said when it opens and again when it changes.

Every event with evidence of its own worth keeping (5 bits) belongs to its agent's *episode*, which ends after an hour without
one, or after a day; once it has reached the alert threshold it goes on until four hours' quiet, since what an agent does later on
in the same half of a day is the same story. At the threshold an episode is an alert if it has three strange events, did serious harm, or is half as
strange again (`stream.severity`); a rollout that is known already is not said again (`stream.rollout`). The alert tells of everything
in the episode. It is said again when its severity rises, a new kind of evidence appears, its events reach 2, 5, 10, 20, 50, …, when in an episode of
serious harm a strange event reaches somebody new, a quarter of an hour after the last word, when an alert opens on an agent that gave it data or got some of it (`stream.relay`), and when it ends with something unsaid. Nothing is dropped: an event over the threshold that opens no alert of its own is counted as merged.

All of it is decided by the events themselves, at event time, so the same events give the same alerts wherever batches are cut.
"""

from __future__ import annotations

import heapq
from collections import Counter

import msgspec

from models.learning import EPISODE_GAP, EPISODE_LONGEST, LOUD_GAP
from stream.alert import Alert, Evidence, alert_id
from stream.change import NEW_WORK, explained, left, told_of
from stream.counterfactual import pays
from stream.episode import Episode, absorb, alert, another, kinds_of, level, over_threshold
from stream.kept import Kept, detail, has_peers
from stream.relay import evidence as relay
from stream.relay import partners
from stream.rollout import Began, Rollouts, linked, whole
from stream.rollout import evidence as rolled_out
from stream.severity import HALVES, SERIOUS, opens

MOST_WAITING = 32
NEWS_GAP = 900.0  # seconds: a fan-out is not said recipient by recipient
MOST_OPEN = 50_000  # episodes
MOST_WAITING_IN_ALL = 20_000  # events over all agents; each may be as large as `Kept.large` allows


class Episodes:
    """The episodes of all agents of one engine."""

    def __init__(self, ladder: tuple[str, ...]) -> None:
        self.ladder = ladder
        self.open: dict[str, Episode] = {}
        self.changed: set[str] = set()  # agents whose episode changed since a host last looked
        self.rollouts = Rollouts()
        self.merged = 0
        self.raised: Counter[str] = Counter()  # alerts whose severity rose after they had opened, by what it rose to
        self.waiting = 0  # events of all episodes that are not yet turned into evidence
        self.apart = False  # whether peers may be on other partitions
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
        alone: bool = False,
    ) -> list[Alert]:
        """Add an event to its agent's episode; the alert revisions that this calls for. `alone`: the agent has no peers."""
        out = self.lapse(clock)
        agent_id = kept.event.agent_id
        episode = self.open.get(agent_id)
        strange = kept.own >= threshold / 2
        if episode is not None and episode.closed and another(episode, kept, self.ladder, strange=strange):
            self._forget(episode)
            episode = None
        if episode is None:
            episode = Episode(agent_id, kept.event.agent_type, kept.event.event_id, clock, clock, kept.time, kept.time)
            self.open[agent_id] = episode
            heapq.heappush(self._due, (clock + EPISODE_GAP, agent_id))
            if len(self.open) > MOST_OPEN:
                out += self._end_oldest(agent_id, clock)
        self.changed.add(agent_id)
        episode.last = clock
        episode.events += 1
        episode.late = max(episode.late, clock - kept.time)
        half = not strange and kept.own >= threshold / 4
        episode.half += half
        episode.strong += strange or (half and episode.half % HALVES == 0)
        episode.alone = alone
        episode.cohort = episode.cohort or kept.cohort
        episode.waiting.append(kept)
        self.waiting += 1
        if shift is not None and has_peers(detail(kept)):  # else it is the agent's own, and excuses nothing
            episode.changed[shift.name] = shift
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
            if episode.cohort is not None:
                self.rollouts.note(episode.cohort, agent_id, episode.begun, clock, episode.version)
            opened = episode.revision == 0 and self._opens(episode, clock)
            if opened or episode.revision:
                self.rollouts.note_recipients(agent_id, episode.strangers, clock)
            if opened or (episode.revision and _worth_saying(episode, strange=strange, clock=clock)):
                out.append(self._say(episode, kept.time, clock))
            if opened:  # the other half of a relay is told where this one is
                for other in (y for them in partners(episode, self.open) for y in them):
                    self.changed.add(other.agent_id)
                    out.append(self._say(other, kept.time, clock))
        self.merged += notable and not opened
        return out

    def _absorb_waiting(self, episode: Episode) -> None:
        for kept in episode.waiting:
            absorb(episode, kept, self.ladder)
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
            out += self._end(episode, end)
        return out

    def end(self, agent_id: str, clock: float) -> list[Alert]:
        """End an agent's episode now, as it would end after its gap."""
        episode = self.open.get(agent_id)
        return [] if episode is None else self._end(episode, clock)

    def begin_anew(self, agent_id: str, clock: float) -> list[Alert]:
        """The same, its agent's baseline having been reset, which alerts of the days after tell."""
        self.rollouts.begin_anew(agent_id, clock)
        return self.end(agent_id, clock)

    def _end(self, x: Episode, time: float) -> list[Alert]:
        out = [self._say(x, time, time)] if x.revision and x.events > x.said and not x.closed else []
        self._forget(x)
        return out

    def _forget(self, x: Episode) -> None:
        self.waiting -= len(x.waiting)
        del self.open[x.agent_id]
        self.changed.add(x.agent_id)

    def _end_oldest(self, but: str, clock: float) -> list[Alert]:
        """Make room for other agents: a quarter at a time; first those that no alert tells of, the longest silent before."""
        order = sorted(self.open.values(), key=lambda x: (x.revision > 0, x.last, x.agent_id))
        return [a for x in order[: MOST_OPEN // 4] if x.agent_id != but for a in self._end(x, clock)]

    def _changes(self, x: Episode, clock: float) -> list[Evidence]:
        """What changed for the agent or around it, and may explain the episode."""
        out = [c for c in x.changed.values() if c.name != "rollout"]
        if x.outside:
            out = [
                msgspec.structs.replace(c, baseline=c.baseline | {"outside": True}) if c.name in NEW_WORK else c
                for c in out
            ]
        rollout = self._rollout(x, clock)
        if rollout:
            out.append(rolled_out(rollout, x.version))
        return out

    def _rollout(self, x: Episode, clock: float) -> dict[str, list[Began]]:
        """What of it peers began in these days as well."""
        return self.rollouts.of(x.cohort, x.agent_id, x.begun, clock) if x.cohort is not None else {}

    def _told(self, c: Evidence, x: Episode, clock: float) -> bool:
        """Whether an alert has told of a change."""
        if c.name == "rollout":
            return any(b.said for peers in whole(self._rollout(x, clock)).values() for b in peers)
        return self.rollouts.was_told(*told_of(c, x.cohort, x.agent_id), clock)

    def _opens(self, x: Episode, clock: float) -> bool:
        """Whether it is an alert by now; what changes explain that were told of is none, unless it did serious harm."""
        if not opens(over_threshold(x), x.strong, x.harm):
            return False
        if x.harm >= SERIOUS:
            return True
        told = [c for c in self._changes(x, clock) if self._told(c, x, clock)]
        return not told or left((*x.lead, *x.evidence.values()), told) >= x.threshold

    def _say(self, x: Episode, time: float, clock: float) -> Alert:
        x.changed = {c.name: c for c in self._changes(x, clock)}
        strongest = max((*x.lead, *x.evidence.values()), key=lambda e: (pays(e), e.name))
        x.excused = explained(strongest, x.changed.values()) is not None
        self.rollouts.tell(self._rollout(x, clock))
        for c in x.changed.values():
            if c.name != "rollout":
                self.rollouts.tell_of(*told_of(c, x.cohort, x.agent_id), clock)
        shared = self.rollouts.shared(x.agent_id, x.strangers, clock)
        x.linked = linked(shared) if shared else None
        x.before = self.rollouts.reached_before(x.agent_id, x.strangers, x.begin)
        x.relay = relay(x, *partners(x, self.open)) or x.relay
        x.reset = self.rollouts.begun_anew(x.agent_id, min(clock, x.last_event_time))
        x.said_at = clock
        before, said = x.said_severity, alert(x, time, apart=self.apart)
        self.raised[said.severity] += 0 <= before < x.said_severity
        return said

    def heed(self, agent_id: str, alert: str, *, benign: bool) -> None:
        """Say no more of an open alert that a person called benign: more of the same belongs to it, and anything else is another alert."""
        episode = self.open.get(agent_id)
        if episode is not None and episode.revision and alert_id(agent_id, episode.first_event_id) == alert:
            self._absorb_waiting(episode)
            episode.closed = benign
            self.changed.add(agent_id)

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


def _worth_saying(x: Episode, *, strange: bool, clock: float) -> bool:
    """Whether there is news; somebody whom a strange event reached for the first time is."""
    if x.closed:
        return False
    if strange and x.harm >= SERIOUS and len(x.reached) > x.said_recipients and clock - x.said_at >= NEWS_GAP:
        return True
    n = x.events
    round_number = n in {2, 5} or (n >= 10 and str(n).rstrip("0") in {"1", "2", "5"})
    return round_number or level(x) > x.said_severity or not set(kinds_of(x)) <= set(x.said_kinds)
