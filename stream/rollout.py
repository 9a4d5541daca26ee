"""What a whole cohort begins to do at once is a rollout: said once, as that, and not as an incident of each agent.

Kept is who began what, from events over the threshold alone, for three days. Three agents of a cohort that begin the same are a
rollout. Their alerts name the change. An episode that is strange by it most of all is less sure of itself
(`stream.severity`); one that is strange by nothing else opens no alert once one has told of the rollout, unless it did serious harm.

Beside that, whom alerts' agents have reached for the first time outside the organisation: where other agents reached the same, their alerts are linked; and where the agent itself reached one again, its alert tells of the one before.

What it misses: an attacker who has three agents of a cohort begin the same, harmlessly, is called a rollout; the first alert
says so, and names them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stream.alert import Evidence, rfc3339
from stream.kept import MOST_TEXT
from stream.words import STRAIGHT, few, lasting, plain

ENOUGH = 2  # peers that began the same
SECONDS = 3 * 86400.0
TOLD = 5 * 86400.0  # so long a change that was told of is not told again
MOST = 2048  # agents and what they began
STRONG, STRONG_SUM = 6.0, 9.0  # bits from which something begun is news; of what adds up, the first six say nothing
_BEGAN = {
    "tool": "use {}",
    "permission": "use the permission {}",
    "root": "touch {}",
    "branch": "touch {}",
    "domain": "send to {}",
    "action": "do “{}”",
}
_MORE = {"bytes_sum", "records_sum"}
_ANEW = "begin anew"  # of one agent, named where others have their type: its baseline was reset
_REACH, ANY = "reach {}", ""  # a stranger, in whatever cohort: this explains nothing, it links alerts


class Began(msgspec.Struct):
    """An agent began something."""

    agent_type: str  # or the name of the cohort that it was found in (`stream.kept.Kept.cohort`)
    what: str
    agent_id: str
    time: float  # stream's clock
    version: str | None
    said: bool = False  # an alert has called it a rollout


def begun(found: Sequence[Evidence], least: float = STRONG, most: float = 0.5) -> list[str]:
    """What an event's evidence says that its agent began to do, as words after "began to"."""
    out = []
    for e in found:
        if e.bits < least:
            continue
        if e.name in _BEGAN and e.baseline.get("own", 1.0) < most:
            out.append(_BEGAN[e.name].format(plain(str(e.observed))))
        elif e.name == "transition" and e.baseline.get("own", 1.0) < most:
            tool = str(e.observed).removesuffix(STRAIGHT).rpartition("to ")[2]
            out.append(f"use {plain(tool)} at other steps")
        elif e.name in _MORE and e.bits >= least + STRONG_SUM - STRONG:
            out.append("move more than usual")
    return out


class Rollouts:
    """Who began what lately, over all cohorts of one engine."""

    def __init__(self) -> None:
        self.began: dict[tuple[str, str, str], Began] = {}  # by cohort, what and agent, in the order of their beginning
        self.changed = False  # since a host last looked
        self._same: dict[tuple[str, str], list[Began]] = {}  # by cohort and what

    def note(self, agent_type: str, agent_id: str, what: Sequence[str], time: float, version: str | None) -> None:
        """Keep that an agent began something; the oldest give way."""
        agent_type, version = agent_type[:MOST_TEXT], version and version[:MOST_TEXT]
        for each in what:
            if (agent_type, each, agent_id) not in self.began:
                self._keep(Began(agent_type, each, agent_id, time, version))
                self.changed = True

    def _keep(self, b: Began) -> None:
        self.began[b.agent_type, b.what, b.agent_id] = b
        self._same.setdefault((b.agent_type, b.what), []).append(b)
        if len(self.began) > MOST:
            oldest = self.began.pop(next(iter(self.began)))
            same = self._same[oldest.agent_type, oldest.what]
            same.remove(oldest)
            if not same:
                del self._same[oldest.agent_type, oldest.what]

    def peers(self, agent_type: str, agent_id: str, what: str, time: float) -> list[Began]:
        """Peers that began the same in these days."""
        same = self._same.get((agent_type[:MOST_TEXT], what), ())
        return [b for b in same if b.agent_id != agent_id and 0 <= time - b.time <= SECONDS]

    def of(self, agent_type: str, agent_id: str, what: Sequence[str], time: float) -> dict[str, list[Began]]:
        """What of this peers began as well, with those peers."""
        found = {each: self.peers(agent_type, agent_id, each, time) for each in what}
        return {each: peers for each, peers in found.items() if peers}

    def shared(self, agent_id: str, recipients: Sequence[str], time: float) -> dict[str, list[Began]]:
        """Which of these recipients other agents of the fleet have reached in alerts of these days, and those agents."""
        found = {r: self.peers(ANY, agent_id, _REACH.format(r), time) for r in recipients}
        return {r: agents for r, agents in found.items() if agents}

    def reached_before(self, agent_id: str, recipients: Sequence[str], begin: float) -> Evidence | None:
        """Which of these recipients the agent has reached in an alert that opened before an episode began, in words: a drip comes back."""
        found = [
            (b.time, r)
            for r in recipients
            if (b := self.began.get((ANY, _REACH.format(r), agent_id))) and b.time < begin
        ]
        if not found:
            return None
        at, recipient = min(found)
        said = f"{plain(recipient, 48)} was a stranger to it in an alert {lasting(begin - at)} before as well"
        whom = {"recipient": recipient, "seconds": round(begin - at)}
        return Evidence("reached_before", "recipient", said, "-", 0.0, [], 1, whom)

    def note_recipients(self, agent_id: str, recipients: Sequence[str], time: float) -> None:
        """Keep whom an alert's agent has reached that was a stranger to it."""
        self.note(ANY, agent_id, [_REACH.format(r) for r in recipients], time, None)

    def tell(self, rollout: dict[str, list[Began]]) -> None:
        """An alert tells of it: from now on it is known."""
        for began in (b for peers in whole(rollout).values() for b in peers if not b.said):
            began.said = self.changed = True

    def tell_of(self, whose: str, change: str, time: float) -> None:
        """An alert tells of another change (`stream.change`)."""
        whose = whose[:MOST_TEXT]
        if not self.was_told(whose, change, time):
            self.began.pop((whose, change, ""), None)
            self._same.pop((whose, change), None)
            self._keep(Began(whose, change, "", time, None, said=True))
            self.changed = True

    def was_told(self, whose: str, change: str, time: float) -> bool:
        """Whether an alert has told of a change in these days."""
        told = self.began.get((whose[:MOST_TEXT], change, ""))
        return told is not None and 0 <= time - told.time <= TOLD

    def begin_anew(self, agent_id: str, time: float) -> None:
        """Keep that an agent's baseline was reset."""
        key = agent_id, _ANEW
        if self.began.pop((*key, ""), None):
            self._same.pop(key, None)
        self._keep(Began(*key, "", time, None))
        self.changed = True

    def begun_anew(self, agent_id: str, time: float) -> Evidence | None:
        """The same in words, for as long as it explains that an agent is new to much."""
        at = self.began.get((agent_id, _ANEW, ""))
        if at is None or not 0 <= time - at.time <= TOLD:
            return None
        said = (
            f"Its baseline was reset {lasting(time - at.time)} before, at {rfc3339(at.time)[:16].replace('T', ' ')} UTC"
        )
        return Evidence("reset", "scope", said, "-", 0.0, [], 1, {"seconds": round(time - at.time)})

    def restore(self, began: Sequence[Began]) -> None:
        """Put back what a host stored."""
        self.began.clear()
        self._same.clear()
        for b in began:
            self._keep(b)


def linked(shared: dict[str, list[Began]]) -> Evidence:
    """The recipient that most other agents have reached as well, in words."""
    recipient, agents = foremost(shared)
    by = few([b.agent_id for b in agents])
    said = f"{plain(recipient, 48)} has been reached by {by} in these days as well, in alerts of their own"
    whom = {"recipient": recipient, "agents": [b.agent_id for b in agents[:20]]}
    return Evidence("same_recipient", "recipient", said, "-", 0.0, [], 1, whom)


def whole(rollout: dict[str, list[Began]]) -> dict[str, list[Began]]:
    """What enough peers began for it to be a change to the cohort."""
    return {what: peers for what, peers in rollout.items() if len(peers) >= ENOUGH}


def foremost(rollout: dict[str, list[Began]]) -> tuple[str, list[Began]]:
    """What most peers began."""
    return max(rollout.items(), key=lambda item: (len(item[1]), item[0]))


def evidence(rollout: dict[str, list[Began]], version: str | None) -> Evidence:
    """The rollout in words: what most peers began."""
    what, peers = foremost(rollout)
    many = "one of its peers" if len(peers) == 1 else f"{len(peers)} of its peers"
    same = version is not None and all(b.version == version for b in peers)
    said = f"{many} ({few([b.agent_id for b in peers])}"
    said += f"; {'' if len(peers) == 1 else 'all '}of version {plain(version or '', 32)} too)" if same else ")"
    said += f" began to {what} in these days as well"
    said += ": a change to all, or one cause that drives them" if len(peers) >= ENOUGH else ""
    return Evidence("rollout", "scope", said, "-", 0.0, [], 1, {"peers": len(peers), "began": sorted(whole(rollout))})
