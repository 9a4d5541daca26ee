"""When an alert is said, and said again; what waits meanwhile."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise

import msgspec
import pytest

from models.batch import NOTABLE
from models.learning import EPISODE_LONGEST, LOUD_GAP
from stream import episodes
from stream.alert import SEVERITIES, Alert
from stream.codec import encode, encode_lines
from stream.engine import Engine
from stream.episode import Episode
from stream.episodes import Episodes
from stream.reason import LINKS
from stream.settings import load
from stream.severity import ENOUGH, HALVES, LONE
from stream.simulate import lines
from tests.telling import HISTORY, HOME, episode, hostile, rendered, scored, seconds

# One alert, several revisions


def test_a_revision_adds_to_the_one_before(alerts):
    """Of its events, or a link to another alert. In this fleet time, score, severity and totals only grow; whose alert it is stays."""
    before: dict[str, Alert] = {}
    for alert in alerts:
        old = before.get(alert.alert_id)
        if old is not None:
            assert (alert.agent_id, alert.agent_type, alert.threshold) == (old.agent_id, old.agent_type, old.threshold)
            assert alert.first_event_time <= old.first_event_time
            assert alert.time >= old.time
            assert alert.last_event_time >= old.last_event_time
            assert alert.score >= old.score
            assert SEVERITIES.index(alert.severity) >= SEVERITIES.index(old.severity)
            links = [[e.observed for e in a.evidence if e.name in LINKS] for a in (old, alert)]
            assert alert.exposure.events > old.exposure.events or links[0] != links[1]
            assert (alert.exposure.records or 0) >= (old.exposure.records or 0)
            assert (alert.exposure.people or 0) >= (old.exposure.people or 0)
        before[alert.alert_id] = alert
    assert len(before) < len(alerts)


def test_a_second_leak_of_the_same_day_is_said_at_once():
    """Though its agent's alert is critical already, and its events are between two round numbers."""
    first = [hostile(0, "x") | {"event_id": f"e{i}", "time": hostile(i, "x")["time"]} for i in range(6)]
    second = hostile(12, "y") | {"time": first[-1]["time"] + 3 * 3600}
    twin = second | {"recipients": first[0]["recipients"]}
    told, quiet = (episode([*first, e]) for e in (second, twin))
    assert told[-1].last_event_time > quiet[-1].last_event_time
    assert told[-1].severity == "critical"


def test_what_was_denied_exposed_nothing():
    """Nobody was shown it, nothing was moved, and nothing has to be withdrawn."""
    alert = episode([hostile(i, "x", outcome="denied") for i in range(3)])[-1]
    moved = alert.exposure
    assert (moved.records, moved.bytes, moved.people_below_clearance) == (None, None, 0)
    assert "is denied" in alert.title
    assert " shows " not in alert.title
    assert "were given" not in alert.reason
    assert not any(done in alert.next_step for done in ("Withdraw", "elete", "Suspend the agent,"))


def test_ids_follow_from_the_events(fleet, alerts):
    """The same input gives the same ids; another agent's, and another episode's, are others."""
    again = scored([line.rstrip(b"\n") for line in lines(fleet)])
    assert [a.alert_id for a in again.alerts] == [a.alert_id for a in alerts]
    opened = [a.alert_id for a in alerts if a.revision == 1]
    assert len(set(opened)) == len(opened)
    renamed = scored([encode({**e, "agent_id": f"the-{e['agent_id']}"}) for e in fleet.events])
    assert renamed.alerts
    assert not {a.alert_id for a in renamed.alerts} & set(opened)


@pytest.mark.parametrize(
    ("events", "own", "said"),
    [(ENOUGH, 0.5, 1), (ENOUGH, 0.49, 0), (ENOUGH * HALVES, 0.25, 1), (ENOUGH * HALVES, 0.24, 0)],
)
def test_an_episode_at_the_threshold_is_an_alert_by_three_strange_events_or_by_five_times_as_many_half_as_strange(
    events, own, said
):
    """A flood is a thousand events of which none is strange enough by itself; one fewer is ordinary life."""
    engine = Engine(load({"STRAYLINE_DOMAINS": "corp.example", "STRAYLINE_ALERTS_PER_DAY": "1"}))
    records = [*HISTORY, encode(hostile(0, "x", classification="internal", recipients=None))]
    engine.score(engine.decode(records, range(len(records))))
    (kept,) = engine.episodes.open["bot-1"].waiting
    threshold = 20.0
    kept = msgspec.structs.replace(kept, own=own * threshold, score=1.1 * threshold)
    for count in (events - 1, events):
        found = Episodes(engine.settings.classifications)
        told = [
            found.add(kept, kept.time + i, threshold, notable=True, warming=False, shift=None) for i in range(count)
        ]
        assert len([a for alerts in told for a in alerts if a.revision == 1]) == (said if count == events else 0)


def test_an_alert_opens_at_the_event_that_makes_it_one(said, alerts):
    """Not at the end of a batch, and not at the next event."""
    at = {position: i for i, position in enumerate(said.positions)}
    for alert, position in zip(alerts, said.alert_positions, strict=True):
        if alert.revision == 1:
            event = said.events[at[position]]
            assert event.agent_id == alert.agent_id
            assert datetime.fromisoformat(alert.time).timestamp() == pytest.approx(event.time.timestamp(), abs=0.001)
            assert alert.score >= alert.threshold


def test_every_event_over_the_threshold_opens_an_alert_or_is_counted_as_merged(said):
    """Nothing loud may disappear without a number."""
    loud = {said.positions[i] for i in range(len(said.events)) if said.marks[i] & NOTABLE and said.score[i] > 0}
    opened = {p for a, p in zip(said.alerts, said.alert_positions, strict=True) if a.revision == 1}
    assert opened & loud
    assert said.merged > 0
    assert len(loud) == len(opened & loud) + said.merged


def test_a_lone_oddity_must_be_odder_still(alerts):
    """Three strange events, serious harm, or half as much again as the threshold: each alert has one of these when it opens."""
    opened = [a for a in alerts if a.revision == 1]
    ways = Counter(
        "many" if a.strange_events >= ENOUGH else "harm" if a.impact in {"serious", "severe"} else "loud"
        for a in opened
    )
    assert set(ways) == {"many", "harm", "loud"}
    assert all(
        a.score >= LONE * a.threshold - 0.02
        for a in opened
        if a.strange_events < ENOUGH and a.impact in {"none", "limited"}
    )


def test_what_an_agent_does_later_on_the_same_day_is_the_same_alert(alerts):
    """One alert for an incident, and not one for each hour of it."""
    last = {a.alert_id: a for a in alerts}
    by_agent: dict[str, list[Alert]] = defaultdict(list)
    for a in sorted(last.values(), key=lambda a: a.first_event_time):
        by_agent[a.agent_id].append(a)
    for own in by_agent.values():
        for one, other in pairwise(own):
            apart = seconds(other.first_event_time) - seconds(one.last_event_time)
            longest = seconds(other.first_event_time) - seconds(one.first_event_time)
            assert apart > LOUD_GAP - 60 or longest > EPISODE_LONGEST - 60


def test_the_first_event_of_all_is_not_over_the_threshold(said):
    """Nothing is known yet, so nothing is strange."""
    assert said.score[0] == 0
    assert not said.marks[0] & NOTABLE


def test_an_agent_is_new_until_it_has_been_seen_fifty_times(said, alerts):
    """Not longer, or a busy newcomer would be excused for weeks."""
    seen: dict[str, int] = defaultdict(int)
    nth = {}
    for event in said.events:
        nth[event.event_id] = seen[event.agent_id]
        seen[event.agent_id] += 1
    for alert in alerts:
        assert (rendered(alert, warming=True) == alert.reason) is alert.warming
        if alert.revision == 1:
            last = max(nth[i] for item in alert.evidence for i in item.event_ids)
            assert alert.warming is (last < 50), (alert.agent_id, last)


# What waits to become evidence


def test_quiet_episodes_together_keep_a_bounded_number_of_events(fleet, said, monkeypatch):
    """Beyond it the oldest turn theirs into evidence; what is said stays the same, wherever batches are cut."""
    records = [line.rstrip(b"\n") for line in lines(fleet)]
    for most, cut in ((4, 997), (9, 5000)):
        monkeypatch.setattr(episodes, "MOST_WAITING_IN_ALL", most)
        engine, alerts, highest = Engine(load(HOME)), [], 0
        for low in range(0, len(records), cut):
            alerts += engine.score(engine.decode(records[low : low + cut], range(low, low + cut))).alerts
            waiting = sum(len(x.waiting) for x in engine.episodes.open.values())
            assert engine.episodes.waiting == waiting <= most
            highest = max(highest, waiting)
        assert encode_lines(alerts) == encode_lines(said.alerts)
        assert highest > 1


def test_events_that_wait_are_counted_again_where_a_host_puts_them_back(fleet):
    """A worker's restart must not forget how many there are."""
    engine, other = Engine(load(HOME)), Engine(load(HOME))
    rest = iter(lines(fleet))
    while not engine.episodes.waiting:
        engine.score(engine.decode([next(rest).rstrip(b"\n")], [0]))
    for _ in range(2):  # a change may come more than once
        for agent_id, x in engine.episodes.open.items():
            other.episodes.restore(agent_id, msgspec.convert(msgspec.to_builtins(x), Episode))
    assert other.episodes.waiting == engine.episodes.waiting
    for agent_id in list(engine.episodes.open):
        other.episodes.restore(agent_id, None)
    assert other.episodes.waiting == 0


@pytest.mark.parametrize(
    "given",
    [
        {"resource": "r" * 8192},
        {"recipients": [{"id": f"{i}" + "x" * 500} for i in range(20)]},
        {"scopes": ["s" * 1000] * 9},
        {"recipients": [{"id": f"r{i}"} for i in range(65)]},
    ],
)
def test_an_event_with_long_names_does_not_wait(given):
    """Thirty-one of them for each agent would be a gigabyte."""
    engine = Engine(load(HOME | {"STRAYLINE_ALERTS_PER_DAY": "1000"}))
    seen: list[tuple[bool, int]] = []
    absorb = engine.episodes._absorb_waiting
    engine.episodes._absorb_waiting = lambda x: (seen.append((x.waiting[-1].large, len(x.waiting))), absorb(x))
    records = [*HISTORY, encode(hostile(1, "x")), encode(hostile(2, "x") | given)]
    engine.score(engine.decode(records, range(len(records))))
    assert [large for large, _ in seen[-2:]] == [False, True]
