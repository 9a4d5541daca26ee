"""The simulated fleet: the same every time, valid by the contract, with what it says it has in it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from stream.codec import decode
from stream.fleet import LADDER, TYPE
from stream.simulate import KINDS, Incident, Simulation, lines, simulate

START = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def fleet() -> Simulation:
    return simulate()


@pytest.fixture(scope="module")
def small() -> Simulation:
    return simulate(agents=12, days=10)


@pytest.fixture(scope="module")
def harmless() -> Simulation:
    return simulate(twins=True)


def labelled(simulation: Simulation, incident: Incident) -> list[dict[str, object]]:
    ids = set(incident.event_ids)
    return [event for event in simulation.events if event["event_id"] in ids]


def planted(simulation: Simulation, kind: str) -> Incident:
    return next(each for each in simulation.incidents if each.kind == kind)


def digest(simulation: Simulation) -> str:
    return hashlib.sha256(b"".join(lines(simulation))).hexdigest()


def moment(event: dict[str, object]) -> datetime:
    return datetime.fromisoformat(str(event["time"]))


def test_every_agent_has_a_life_of_its_own(fleet):
    """Agents of one type that moved in step would look like a rollout all the time."""
    times = {event["time"] for event in fleet.events}
    assert len(times) > 0.99 * len(fleet.events)


def test_the_same_seed_gives_the_same_bytes_whatever_the_hash_seed_and_the_time_zone(small):
    """Sets and strings are hashed differently in every process; local time differs between machines."""
    program = (
        "import hashlib, stream.simulate as s;"
        "print(hashlib.sha256(b''.join(s.lines(s.simulate(agents=12, days=10)))).hexdigest())"
    )
    for hash_seed, zone in (("1", "Asia/Tokyo"), ("2", "America/New_York")):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": zone}
        run = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == digest(small)


def test_another_seed_gives_another_fleet(small):
    """Otherwise a detector could be tuned to the one fleet there is."""
    assert digest(simulate(seed=2, agents=12, days=10)) != digest(small)


def test_every_line_is_an_event_by_the_contract(fleet):
    """The simulator is a producer like any other: nothing that it writes may be rejected."""
    records = [line.rstrip(b"\n") for line in lines(fleet)]
    events, _, rejects = decode(records, range(len(records)), 1 << 20)
    assert rejects == []
    assert len(events) == len(fleet.events)
    assert not any(b"\n" in record for record in records)
    for event in events:
        assert event.classification in LADDER
        assert event.agent_type in TYPE
        assert all(recipient.clearance in {None, *LADDER} for recipient in event.recipients or ())


def test_events_are_in_order_and_unique(fleet):
    """A replay reads them as they come."""
    assert all(a <= b for a, b in pairwise(moment(event) for event in fleet.events))
    assert len({event["event_id"] for event in fleet.events}) == len(fleet.events)
    assert moment(fleet.events[0]) >= START


def test_two_seeds_on_one_topic_repeat_no_event_id():
    """A repeated id is an event sent twice, and is not learned."""
    one, other = ({event["event_id"] for event in simulate(seed, 12, 5).events} for seed in (1, 2))
    assert not one & other


def test_a_person_or_room_has_one_clearance(fleet):
    """A recipient whose clearance changed from call to call would be noise that no company has."""
    known = {
        (party["id"], party.get("clearance"), party.get("size"))
        for event in fleet.events
        for party in event.get("recipients", ())
    }
    assert {name: n for name, n in Counter(name for name, *_ in known).items() if n > 1} == {}


def test_the_default_fleet_has_the_size_of_a_demo(fleet):
    """About sixty agents of six types, playable in well under a minute."""
    assert len({event["agent_id"] for event in fleet.events}) == 60
    assert {event["agent_type"] for event in fleet.events} == set(TYPE)
    assert 60_000 <= len(fleet.events) <= 90_000


def test_weekends_are_quieter_than_weekdays(fleet):
    """And nights than days, except for the batches that run at night."""
    a_day = Counter(moment(event).weekday() for event in fleet.events)
    assert max(a_day[5], a_day[6]) < 0.5 * min(a_day[day] for day in range(5))
    by_night = Counter(event["agent_type"] for event in fleet.events if moment(event).hour < 5)
    assert by_night["finance-reconciler"] > 0.9 * by_night.total()


@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize(("agents", "days"), [(60, 28), (12, 10), (12, 5)])
def test_each_kind_is_planted_once_after_a_clean_beginning(seed, agents, days):
    """A week is clean in four, and the first two fifths of less."""
    simulation = simulate(seed, agents, days)
    ids = {event["event_id"] for event in simulation.events}
    clean = START + timedelta(days=8 if days == 28 else 0.4 * days)
    assert [incident.kind for incident in simulation.incidents] == list(KINDS)
    for incident in simulation.incidents:
        assert incident.event_ids
        assert set(incident.event_ids) <= ids
        assert clean.timestamp() <= incident.start <= incident.end < (START + timedelta(days=days)).timestamp()
        own = labelled(simulation, incident)
        assert moment(own[0]).timestamp() == incident.start
        assert moment(own[-1]).timestamp() == incident.end
        assert incident.agent_id in {event["agent_id"] for event in own}
        assert incident.agent_id in incident.story


def test_an_agent_does_nothing_before_it_is_hired(fleet):
    """A newcomer has no past: its first hour is the first that is seen of it."""
    first = {}
    for event in fleet.events:
        first.setdefault(event["agent_id"], moment(event).timestamp())
    hired = {change.agent_ids[0]: change.start for change in fleet.changes if change.what == "new_hire"}
    assert len(hired) == 6
    assert all(first[agent_id] >= start - 3600 for agent_id, start in hired.items())
    assert planted(fleet, "cold_start_rogue").agent_id in hired


def test_the_flagship_reads_restricted_data_and_posts_it_to_people_without_clearance(fleet):
    """The incident that the project was made for, as it was: several reads, then one unapproved post, the first to that channel."""
    incident = planted(fleet, "flagship")
    *reads, post = labelled(fleet, incident)
    assert incident is fleet.incidents[0]
    assert len(reads) >= 5
    assert {(each["action"], each["classification"]) for each in reads} == {("read", "restricted")}
    assert len({(each["session_id"], each["principal"]) for each in (*reads, post)}) == 1
    assert post["classification"] == "restricted"
    assert post["approved"] is False
    (channel,) = post["recipients"]
    assert (channel["type"], channel["size"], channel["clearance"]) == ("channel", 2000, "internal")
    posts_there = [
        event
        for event in fleet.events
        if event["agent_id"] == incident.agent_id and channel in event.get("recipients", ())
    ]
    assert posts_there == [post]


def test_the_flagship_twin_posts_to_cleared_people_with_approval(harmless):
    """The same agent at the same time, and nothing wrong in it."""
    incident = planted(harmless, "flagship")
    *_, post = labelled(harmless, incident)
    (group,) = post["recipients"]
    assert post["approved"] is True
    assert (group["clearance"], group["size"]) == ("restricted", 14)
    weeks = {
        moment(event).isocalendar().week
        for event in harmless.events
        if event["agent_id"] == incident.agent_id and group in event.get("recipients", ())
    }
    assert len(weeks) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_twin_is_the_same_agent_day_and_number_of_events(kind, fleet, harmless):
    """Only what is wrong differs, so a detector that alerts on both has learned the place and not the incident."""
    bad, good = planted(fleet, kind), planted(harmless, kind)
    assert (bad.incident_id, bad.agent_id, len(bad.event_ids)) == (
        good.incident_id,
        good.agent_id,
        len(good.event_ids),
    )
    assert int(bad.start // 86400) == int(good.start // 86400)
    assert bad.story != good.story
    assert len(fleet.events) == len(harmless.events)


def test_a_burst_and_a_ramp_move_more_than_their_twins(fleet, harmless):
    """By about what their stories say."""
    for kind, least, most in (
        ("volume_burst", 3.5, 7.0),
        ("boiling_frog", 1.9, 3.9),
        ("slow_drip", 1.7, 3.7),
    ):
        bad, good = (
            sum(float(str(event.get("bytes", 0))) for event in labelled(each, planted(each, kind)))
            for each in (fleet, harmless)
        )
        assert least < bad / good < most, kind


def test_a_dormant_permission_has_slept(fleet, harmless):
    """For two weeks at the least before it is used again; its twin's never has."""
    for simulation, slept in ((fleet, True), (harmless, False)):
        incident = planted(simulation, "dormant_scope")
        uses = [
            moment(event).timestamp()
            for event in simulation.events
            if event["agent_id"] == incident.agent_id and event["scopes"] == ["archive:read"]
        ]
        before = max(at for at in uses if at < incident.start)
        assert (incident.start - before > 14 * 86400) is slept


def test_new_recipients_are_new(fleet):
    """Nobody wrote to the address before; the wide group and the relay's outsider are as new to the sender."""
    for kind in ("new_external_recipient", "internal_oversharing", "agent_relay"):
        last = labelled(fleet, planted(fleet, kind))[-1]
        (to,) = last["recipients"]
        senders = [
            event
            for event in fleet.events
            if event["agent_id"] == last["agent_id"] and moment(event) < moment(last) - timedelta(hours=3)
        ]
        assert not any(to in event.get("recipients", ()) for event in senders), kind


def test_ordinary_life_does_not_depend_on_what_is_planted(small):
    """One kind at a time can then be added to the same fleet."""

    def without_ids(events):
        return Counter(repr({**event, "event_id": ""}) for event in events)

    none = simulate(agents=12, days=10, incidents=())
    assert none.incidents == []
    one = simulate(agents=12, days=10, incidents=["flagship"])
    assert [each.kind for each in one.incidents] == ["flagship"]
    assert without_ids(none.events) < without_ids(one.events)
    assert without_ids(labelled(one, one.incidents[0])) == without_ids(labelled(small, small.incidents[0]))


def test_the_harmless_changes_are_all_there(fleet):
    """They are what a detector must not cry wolf over."""
    whats = Counter(change.what for change in fleet.changes)
    assert whats == {"new_hire": 6, "tool_rollout": 1, "role_change": 1, "big_export": 1, "quarter_end": 1}
    acting = {event["agent_id"] for event in fleet.events}
    for change in fleet.changes:
        assert set(change.agent_ids) <= acting
        assert change.start < change.end


def test_a_quarter_end_is_three_times_the_usual(fleet):
    """For two days, in finance."""
    (change,) = (each for each in fleet.changes if each.what == "quarter_end")
    rows: Counter[str] = Counter()
    for event in fleet.events:
        if event["tool"] == "ledger.query" and "records" in event:
            at = moment(event).timestamp()
            rows["calls in" if change.start <= at < change.end else "calls out"] += 1
            rows["in" if change.start <= at < change.end else "out"] += int(str(event["records"]))
    assert rows["in"] / rows["calls in"] == pytest.approx(3 * rows["out"] / rows["calls out"], rel=0.35)


def test_what_cannot_be_simulated_is_refused():
    """With the reason, before anything is made."""
    for wrong, reason in (
        ({"agents": 11}, "12 agents"),
        ({"days": 4}, "5 days"),
        ({"incidents": ["flagshp"]}, "unknown kind of incident flagshp"),
        ({"start": datetime(2026, 3, 2)}, "offset"),  # noqa: DTZ001
    ):
        with pytest.raises(ValueError, match=reason):
            simulate(**wrong)
