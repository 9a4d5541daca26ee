"""One agent's evidence so far: what its events showed, what they moved, and the alert that tells of it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from models.budget import LONE
from models.harm import MANY_PEOPLE, MANY_RECORDS
from models.signals import KINDS
from stream.alert import SEVERITIES, Alert, Did, Evidence, Exposure, alert_id, by_kind, rfc3339
from stream.change import changes
from stream.company import no_peers
from stream.counterfactual import pays
from stream.evidence import evidence
from stream.handed import MOST_COUNTED, Handed, Refused, Sat, digest, given, hand, reach, refuse, sit
from stream.kept import MOST_TEXT, Kept, below, detail, did, has_peers, outside, stranger, uncleared
from stream.reason import OF_THE_EVENT, reason
from stream.response import next_step, suspends
from stream.rollout import begun
from stream.severity import (
    CONFIDENCES,
    HARMS,
    LIMITED,
    NONE,
    PLAIN,
    SERIOUS,
    certainty,
    harm,
    hoarded,
    judged,
    much,
    severity,
    trespassed,
)
from stream.story import add, main, tells
from stream.techniques import techniques
from stream.title import headline, title

MOST_IDS, MOST_NAMES, MOST_EVIDENCE = 20, 20, 32
MOST_BEGUN = 16


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
    strong: int = 0  # of these, with at least half the threshold's bits of their own, and of those with a quarter one for each five
    half: int = 0  # with a quarter
    trespasses: int = 0  # that touched something sensitive of others
    score: float = 0.0
    threshold: float = 0.0
    rank: tuple[int, float] = (-1, 0.0)  # harm, as far as it is serious, and bits of the event that it is about
    story: dict[str, tuple[int, float]] = {}  # of each thing in how many events, and their bits (`stream.story`)
    late: float = 0.0  # seconds by which the latest of its events came late
    warming: bool = False
    parts: list[float] = []
    waiting: list[Kept] = []  # not yet turned into evidence
    evidence: dict[str, Evidence] = {}  # of all events but the one that it is about
    lead: list[Evidence] = []  # of that one: the most harmful where harm is serious, else the strangest
    did: Did = Did("", "")
    principals: list[str] = []
    sessions: list[str] = []
    classifications: list[str] = []
    resources: list[str] = []
    recipients: list[str] = []
    scopes: list[str] = []
    counted_resources: list[int] = []
    reached: dict[int, int] = {}  # digest of a recipient → people behind it
    reached_below: dict[int, int] = {}  # of these, who once got what they are not cleared for
    records: float | None = None
    bytes: float | None = None
    people: int = 0
    people_below: int = 0
    outside: bool = False
    to_agent: bool = False
    harm: int = 0  # of the event that did most of it
    hoard: float = 0.0  # sensitive records of events that moved far more than usual
    handed: dict[int, Handed] = {}  # by digest of the recipient
    refused: Refused = msgspec.field(default_factory=Refused)
    sat: dict[str, Sat] = {}  # by session
    denied: bool = False
    excused: bool = False  # what is strangest has an explanation that harms nobody
    changed: dict[str, Evidence] = {}  # by name, see `stream.change`
    cohort: str | None = None  # `Kept.cohort`
    begun: list[str] = []  # what it began to do, see `stream.rollout`
    strangers: list[str] = []  # whom it reached outside that it hardly ever had
    linked: Evidence | None = None  # to alerts of other agents that reached the same
    before: Evidence | None = None  # to one of its agent that reached the same
    relay: Evidence | None = None  # to those of agents that gave it data, or that it gave some to
    reset: Evidence | None = None  # its agent's baseline was, in the days before
    alone: bool = False  # its agent is the only one of its type that was seen
    peered: bool = False  # and yet its cohort knew more than one agent would have taught it
    version: str | None = None  # of the agent's code, as the event that it is about says
    revision: int = 0
    said: int = 0  # events when it was last said
    said_severity: int = -1
    said_kinds: list[str] = []
    said_title: str = ""
    said_at: float = 0.0  # stream's clock
    said_recipients: int = 0  # that it had reached when it was last said
    closed: bool = False  # a person called it benign


def absorb(x: Episode, kept: Kept, ladder: tuple[str, ...]) -> None:
    """Turn an event into evidence and exposure. It does not matter when this is done: `kept` holds all it needs."""
    x.first_event_time = min(x.first_event_time, kept.time)
    x.last_event_time = max(x.last_event_time, kept.time)
    x.parts = [a + p for a, p in zip(x.parts or [0.0] * len(kept.parts), kept.parts, strict=True)]
    d, event = detail(kept), kept.event
    found, done = evidence(ladder, kept, d, x.sat.get(event.session_id or "")), did(kept)
    sit(x.sat, kept)
    x.peered |= has_peers(d)
    did_harm = harm(kept, d, found, len(ladder))
    x.hoard += hoarded(kept, found, len(ladder))
    x.trespasses += trespassed(kept, d, len(ladder))
    much_of_it = x.hoard >= MANY_RECORDS or x.trespasses >= MANY_PEOPLE
    x.harm = max(x.harm, did_harm, LIMITED if much_of_it else NONE)
    x.begun = list(dict.fromkeys([*x.begun, *begun(found)]))[:MOST_BEGUN]
    if (whom := stranger(kept, d)) is not None:
        x.strangers = list(dict.fromkeys([*x.strangers, whom]))[:MOST_BEGUN]
    x.changed |= {c.name: c for c in changes(kept, d)}
    add(x.story, found)
    what = main(x.story)
    # Much sensitive data that has left is told before what was only read, though a person approved it; and before that what may have done again what a person called malicious.
    left = outside(d) and much(kept, len(ladder)) and not kept.denied
    again = did_harm > NONE and judged(found)
    rank = (did_harm if did_harm >= SERIOUS else SERIOUS if again else int(left), kept.own)
    if (rank[0], tells(found, what), rank[1]) > (x.rank[0], tells(x.lead, what), x.rank[1]):
        x.rank = rank
        found, x.lead, x.did = x.lead, found, done
        x.version = event.agent_version
    _merge(x.evidence, found)
    recipients = [r.id for r in event.recipients or ()]
    _list(x.principals, [event.principal])
    _list(x.sessions, [event.session_id])
    _list(x.classifications, [event.classification])
    _list(x.resources, [event.resource], x.counted_resources)
    _list(x.recipients, recipients)
    _list(x.scopes, event.scopes or ())
    if not kept.denied:  # what was denied exposed nothing
        if event.records is not None:
            x.records = (x.records or 0.0) + event.records
        if event.bytes is not None:
            x.bytes = (x.bytes or 0.0) + event.bytes
        hand(x.handed, kept, d)
        x.people = max(x.people, done.people or 0, reach(x.reached, event.recipients or ()))
        x.people_below = max(x.people_below, below(kept), reach(x.reached_below, uncleared(kept)))
    else:
        refuse(x.refused, kept)
    x.outside |= outside(d)
    x.to_agent |= any(r.type == "agent" for r in event.recipients or ())
    x.denied |= kept.denied


def another(x: Episode, kept: Kept, ladder: tuple[str, ...], *, strange: bool) -> bool:
    """Whether an event is another story than an episode that a person called benign: it reaches somebody new, does more harm, or is strange and touches another resource."""
    alone = Episode(x.agent_id, x.agent_type, kept.event.event_id, kept.time, kept.time, kept.time, kept.time)
    absorb(alone, kept, ladder)
    elsewhere = not set(alone.counted_resources).issubset(x.counted_resources)
    return alone.harm > x.harm or not alone.reached.keys() <= x.reached.keys() or (strange and elsewhere)


def _merge(into: dict[str, Evidence], found: Sequence[Evidence]) -> None:
    """Add an event's evidence to that of others: of each signal the strongest observation, and which events showed it. A number varies from event to event; a name is another."""
    for item in found:
        if item.name in OF_THE_EVENT:  # what is said beside the event that it is about is of that event
            continue
        have = into.get(item.name, item)
        if have is not item:
            strong, weak = (item, have) if item.bits > have.bits else (have, item)
            if isinstance(strong.observed, str) and strong.observed != weak.observed:
                into[item.name] = strong
                continue
            ids = list(dict.fromkeys([*strong.event_ids, *weak.event_ids]))[:MOST_IDS]
            apart = strong.baseline.get("root") != weak.baseline.get("root") or "elsewhere" in weak.baseline
            baseline = strong.baseline | {"elsewhere": True} if apart else strong.baseline
            item = msgspec.structs.replace(strong, event_ids=ids, count=have.count + item.count, baseline=baseline)  # noqa: PLW2901
        into[item.name] = item


def _told(x: Episode, *, apart: bool) -> list[Evidence]:
    """The evidence of the event that it is about and the strongest of the others', strongest first. Only the former names that event."""
    lead = {x.did.event_id}
    others = sorted(x.evidence.values(), key=lambda i: (-i.bits, i.name))[
        : MOST_EVIDENCE - len(x.lead) - len(x.changed)
    ]
    others = [msgspec.structs.replace(i, event_ids=[e for e in i.event_ids if e not in lead]) for i in others]
    linked = [e for e in (x.linked, x.before, x.relay, x.reset) if e]
    linked += [no_peers(x.agent_type, apart=apart)] if x.agent_type and x.alone and not x.peered else []
    found = sorted([*x.lead, *others, *x.changed.values(), *linked], key=lambda i: (-i.bits, i.name))
    since = {"peers_heard_of": True} if apart else {}
    since |= {"peers_since": True} if "rollout" in x.changed else {}
    return [_of_peers(e, since) for e in found] if since else found


def _of_peers(e: Evidence, marks: dict[str, bool]) -> Evidence:
    """Evidence of what peers do: as far as one partition knows; as it was before some of them began the like."""
    return msgspec.structs.replace(e, baseline=e.baseline | marks) if "peers" in e.baseline else e


def _list(names: list[str], new: Sequence[str | None], counted: list[int] | None = None) -> None:
    """Keep the first few distinct names, cut short, and count the rest by their digest."""
    for name in new:
        if not name:
            continue
        if len(names) < MOST_NAMES and name[:MOST_TEXT] not in names:
            names.append(name[:MOST_TEXT])
        if counted is not None and len(counted) < MOST_COUNTED:
            short = digest(name)
            if short not in counted:
                counted.append(short)


def over_threshold(x: Episode) -> float:
    """How many times the threshold its loudest event reached."""
    return x.score / max(x.threshold, 1.0)


def _certainty(x: Episode) -> int:
    excused = (
        x.excused or x.did.approved is True or any(e.name == "new_version" for e in x.lead) or _hangs_on_an_hour(x)
    )
    excused = x.warming or (x.harm < SERIOUS and excused)
    return certainty(x.score, x.threshold, excused=excused, judged_malicious=judged(x.lead))


def _hangs_on_an_hour(x: Episode) -> bool:
    """Whether it is more than an ordinary oddity by when one session began alone: a long evening. Several in a night are more than that."""
    hour = next((pays(e) for e in x.lead if e.name == "off_hours"), 0.0)
    return hour > 0 and "off_hours" not in x.evidence and x.score - hour < LONE * max(x.threshold, PLAIN)


def level(x: Episode) -> int:
    """Its severity now: index into SEVERITIES."""
    return severity(x.harm, _certainty(x))


def kinds_of(x: Episode) -> list[str]:
    """Broken policy is a fact and not a degree, so it is named whatever else is stranger."""
    kinds = by_kind(dict(zip(KINDS, x.parts, strict=True)))
    return ["policy", *(k for k in kinds if k != "policy")] if x.people_below else kinds


def alert(x: Episode, time: float, *, apart: bool = False) -> Alert:
    """The next revision of its alert; `apart`: some of its peers may be on other partitions, of which this one has not heard all."""
    rung = max(level(x), x.said_severity)  # a shift of its cohort, seen later, takes back nothing that was said
    kinds = kinds_of(x)
    x.revision += 1
    x.said_recipients = len(x.reached)
    x.said, x.said_severity, x.said_kinds = x.events, rung, kinds
    evidence = _told(x, apart=apart)
    score, threshold, serious = round(x.score, 2), round(x.threshold, 2), x.harm >= SERIOUS
    about = headline(x.did, evidence, kinds, x.events, score, threshold, strong=x.strong, serious=serious)
    exposure = Exposure(
        x.events, x.records, x.bytes, list(x.classifications), list(x.resources), len(x.counted_resources), list(x.recipients), len(x.reached),
        x.people if x.recipients else None, x.people_below if x.recipients else None, list(x.scopes),
        given(x.handed), x.refused.events, list(x.refused.systems), len(x.refused.counted),
    )  # fmt: skip
    line = x.said_title = title(x.agent_id, about, x.did, evidence, exposure, serious=serious)
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
        SEVERITIES[rung],
        score,
        kinds,
        line,
        reason(
            x.agent_id,
            x.did,
            evidence,
            exposure,
            warming=x.warming,
            score=score,
            threshold=threshold,
            strong=x.strong,
            serious=serious,
            about=about,
            late=x.late,
            sessions=bool(x.sessions),
        ),
        evidence,
        exposure,
        techniques(kinds, x.did.action, outside=x.outside, serious=serious, denied=x.denied, to_agent=x.to_agent),
        x.did,
        threshold,
        x.warming,
        CONFIDENCES[_certainty(x)],
        HARMS[x.harm],
        x.strong,
        x.version and x.version[:MOST_TEXT],
        next_step(
            x.agent_type,
            about,
            x.did,
            evidence,
            exposure,
            serious=serious,
            stop=suspends(SEVERITIES[rung], HARMS[x.harm], evidence),
        ),
    )
