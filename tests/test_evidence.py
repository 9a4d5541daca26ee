"""What an alert claims can be checked: its fields against the contract, evidence and exposure against the events."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from models.signals import KINDS
from stream import clauses
from stream.alert import SEVERITIES, Evidence, rfc3339
from stream.codec import encode, encode_lines
from stream.engine import Engine
from stream.reason import LINKS, OF_THE_COHORT, STANDING
from stream.settings import load
from stream.severity import CONFIDENCES, HARMS
from tests.telling import BASE, HISTORY, HOME, episode, hostile, seconds

RFC3339 = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$"
TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string", "minLength": 1}, "uniqueItems": True}
AMOUNT = {"type": ["number", "null"], "minimum": 0}
COUNT = {"type": ["integer", "null"], "minimum": 0}
TOTAL = {"type": "integer", "minimum": 0}
TIME = {"type": "string", "pattern": RFC3339}
NAME = {"type": "string", "minLength": 1}


def closed(**properties: Any) -> dict[str, Any]:
    """An object with these fields, all of them and no others."""
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip


CONTRACT = closed(
    version={"const": 1},
    alert_id={"type": "string", "pattern": "^[0-9a-f]{24}$"},
    revision={"type": "integer", "minimum": 1},
    time=TIME,
    first_event_time=TIME,
    last_event_time=TIME,
    agent_id=NAME,
    agent_type={"type": ["string", "null"]},
    principals=TEXTS,
    session_ids=TEXTS,
    severity={"enum": list(SEVERITIES)},
    score={"type": "number", "exclusiveMinimum": 0},
    threshold={"type": "number", "minimum": 6},
    kinds={"type": "array", "items": {"enum": list(KINDS)}, "minItems": 1, "uniqueItems": True},
    title=NAME,
    reason=NAME,
    warming={"type": "boolean"},
    confidence={"enum": list(CONFIDENCES)},
    impact={"enum": list(HARMS)},
    strange_events={"type": "integer", "minimum": 0},
    agent_version={"type": ["string", "null"]},
    next_step=NAME,
    evidence={
        "type": "array",
        "minItems": 1,
        "items": closed(
            name=NAME,
            kind={"enum": list(KINDS)},
            observed={"type": ["string", "number"]},
            expected=NAME,
            bits={"type": "number", "minimum": 0},
            event_ids=TEXTS | {"maxItems": 20},
            count={"type": "integer", "minimum": 1},
            baseline={"type": "object"},
        ),
    },
    exposure=closed(
        events={"type": "integer", "minimum": 1},
        records=AMOUNT,
        bytes=AMOUNT,
        classifications=TEXTS,
        resources=TEXTS,
        resources_total=TOTAL,
        recipients=TEXTS,
        recipients_total=TOTAL,
        people=COUNT,
        people_below_clearance=COUNT,
        scopes=TEXTS,
        given={
            "type": "array",
            "maxItems": 20,
            "items": closed(
                recipient=NAME,
                resource={"type": ["string", "null"]},
                classification={"type": ["string", "null"]},
                resources={"type": "integer", "minimum": 0, "maximum": 64},
                uncleared={"type": "integer", "minimum": 0, "maximum": 64},
                first_time=TIME,
                usual={"type": "boolean"},
            ),
        },
        denied={"type": "integer", "minimum": 0},
        denied_systems=TEXTS | {"maxItems": 20},
        denied_resources={"type": "integer", "minimum": 0, "maximum": 64},
    ),
    techniques={"type": "array", "minItems": 1, "items": closed(framework=NAME, id=NAME, name=NAME)},
    event={"type": "object", "properties": {"event_id": NAME, "action": NAME}, "required": ["event_id", "action"]},
)


# The contract


def test_every_alert_has_the_fields_of_the_contract_and_no_others(said):
    """Names, types, lists and times: a SIEM's parser knows nothing else."""
    validator = Draft202012Validator(CONTRACT)
    assert len(said.alerts) > 50
    for line in encode_lines(said.alerts).splitlines():
        assert [error.message for error in validator.iter_errors(json.loads(line))] == []


def test_the_fleet_shows_every_severity_and_kind(alerts):
    """Otherwise the tests of this file would hold for some of them only."""
    assert {a.severity for a in alerts} == set(SEVERITIES)
    assert {kind for a in alerts for kind in a.kinds} == set(KINDS)
    assert {a.warming for a in alerts} == {True, False}


def test_an_alert_is_the_same_after_a_way_through_json(said, alerts):
    """What is stored is what was said."""
    assert alerts == said.alerts


def test_evidence_names_events_of_this_agent_within_the_time(alerts, by_id):
    """An analyst looks them up."""
    for alert in alerts:
        low, high = seconds(alert.first_event_time), seconds(alert.last_event_time)
        assert low <= high
        ids = {event_id for item in alert.evidence for event_id in item.event_ids} | {alert.event.event_id}
        for event_id in ids:
            assert by_id[event_id]["agent_id"] == alert.agent_id
            assert low <= seconds(by_id[event_id]["time"]) <= high
        assert len(ids) <= alert.exposure.events
        for item in alert.evidence:
            assert len(item.event_ids) == (
                0 if item.name in {*OF_THE_COHORT, *LINKS, *STANDING} else min(item.count, 20)
            )


def test_evidence_comes_strongest_first_and_kinds_come_from_it(alerts):
    """A kind without evidence could not be checked by anybody."""
    for alert in alerts:
        bits = [item.bits for item in alert.evidence]
        assert bits == sorted(bits, reverse=True)
        assert set(alert.kinds) <= {item.kind for item in alert.evidence}


def test_exposure_adds_up(alerts, by_id):
    """Where all events of an episode are named, its totals are theirs."""
    checked = 0
    for alert in alerts:
        x = alert.exposure
        assert x.resources_total >= len(x.resources)
        assert x.recipients_total >= len(x.recipients)
        assert (x.people is None) == (x.people_below_clearance is None) == (x.recipients == [])
        assert x.people is None or x.people >= max(x.recipients_total, x.people_below_clearance or 0)
        ids = {event_id for item in alert.evidence for event_id in item.event_ids}
        if len(ids) != x.events:
            continue
        checked += 1
        events = [by_id[i] for i in ids]
        for amount in ("records", "bytes"):
            told = [e[amount] for e in events if amount in e]
            assert getattr(x, amount) == (pytest.approx(sum(told)) if told else None)
        parties = [r for e in events for r in e.get("recipients", ())]
        assert x.recipients_total == len({r["id"] for r in parties})
        assert x.resources_total == len({e["resource"] for e in events})
        assert x.people == (sum({r["id"]: r.get("size", 1) for r in parties}.values()) if parties else None)
        assert set(x.classifications) == {e["classification"] for e in events}
        assert set(alert.principals) == {e["principal"] for e in events}
        assert set(alert.session_ids) == {e["session_id"] for e in events}
    assert checked > 30


# What is counted


def item_with(e: Evidence, **numbers: float) -> Evidence:
    return msgspec.structs.replace(e, baseline=e.baseline | numbers)


def test_an_event_counts_once_however_many_recipients_it_has():
    """Its facts are many; they are called deliveries."""
    wide = [{"id": f"p{i}@x.example", "clearance": "public"} for i in range(3000)]
    alert = episode([hostile(n, "x", recipients=wide) for n in range(3)])[-1]
    by_event = defaultdict(set)
    for item in alert.evidence:
        assert item.count <= alert.exposure.events
        assert item.count >= len(item.event_ids)
        by_event[item.name] |= set(item.event_ids)
    assert max(map(len, by_event.values())) == alert.exposure.events
    assert "events so far" not in alert.reason
    sent = next(e for e in alert.evidence if e.name == "recipient")
    assert re.search(r"in at least [\d,]+ deliveries", clauses.clause(item_with(sent, own=0.0)))


@pytest.mark.parametrize(
    ("name", "observed", "said"),
    [
        ("tool", "x", "it has never tried to use x in 9 calls"),
        ("classification", "restricted", "it has never tried to get at restricted data in 9 accesses"),
        ("branch", "vault/x", "it has never tried to touch vault/x in 9 accesses"),
        ("domain", "x.example", "it has never tried to send to x.example in 9 deliveries"),
        ("transition", "from a to b", "it has never tried to go from a to b in 9 steps from there"),
        ("outcome", "denied", "it has never had a call end “denied” in 9 calls"),
    ],
)
def test_what_was_denied_was_tried(name, observed, said):
    """An event that was denied used and handled nothing."""
    numbers = {"own": 0.0, "of": 9.0, "denied": True}
    assert clauses.clause(Evidence(name, "scope", observed, "-", 9.0, ["e"], 1, numbers)) == said


def test_evidence_of_an_event_that_was_denied_says_so(alerts, by_id):
    """And that of no other does."""
    denied = 0
    for item in (e for a in alerts for e in a.evidence if len(e.event_ids) == 1 and "own" in e.baseline):
        refused = by_id[item.event_ids[0]].get("outcome") == "denied"
        assert bool(item.baseline.get("denied")) is refused
        denied += refused
    assert denied


def test_a_pace_that_fades_is_not_said_to_be_a_count():
    """Of 28 calls within ten minutes, each a little further back, it is twenty or less."""
    gap = 21.0
    calls = [
        hostile(n, "", tool="crm.read", recipients=None, session_id=f"s{n}") | {"time": BASE + 48 * 1800 + gap * n} for n in range(28)
    ]  # fmt: skip
    told = [e for a in episode(calls) for e in a.evidence if e.name == "call_rate"]
    short: list[float] = []
    for e in told:
        n = int(e.event_ids[0].removeprefix("e"))
        pace = sum(math.exp(-gap * i / 600) for i in range(n + 1))
        assert e.observed == pytest.approx(pace, abs=0.2)
        short.append(n + 1 - e.observed)
        assert f"its pace was about {round(e.observed)} calls in ten minutes" in clauses.clause(e)
        assert e.baseline["unit"] == "calls in ten minutes, those before fading"
    assert max(short) > 3


def test_how_many_sessions_began_at_an_hour_is_not_said_to_be_fewer_than_they_were(alerts, fleet):
    """Counts fade, and an odd start counts less: there were at least so many, and none only where there was none."""
    begins: dict[str, dict[str, float]] = defaultdict(dict)
    for e in fleet.events:
        begins[str(e["agent_id"])].setdefault(str(e["session_id"]), seconds(str(e["time"])))
    event_time = {str(e["event_id"]): seconds(str(e["time"])) for e in fleet.events}
    said = set()
    for agent_id, e in ((a.agent_id, e) for a in alerts for e in a.evidence if e.name == "off_hours"):
        now = event_time[e.event_ids[0]]
        before = [t for t in begins[agent_id].values() if t < now]
        many, total = re.fullmatch(
            r"(few|few, if any,|none) of its (?:(\d+) or more )?sessions began within 90 .+", e.expected
        ).groups()
        assert int(total or 1) <= len(before)
        near = [t for t in before if abs((t - now + 43200) % 86400 - 43200) <= 5400]
        assert many != "none" or not near
        assert many != "few" or near
        assert len(near) <= max(1, len(before) / 5)
        said.add(many)
    assert {"few, if any,", "none"} <= said


def test_what_is_strange_is_not_among_what_is_usual(alerts):
    """One of three classes of data is among the three most handled, and strange all the same."""
    told = [e for a in alerts for e in a.evidence if e.expected.startswith("most often ")]
    assert told
    for e in told:
        assert str(e.observed) not in e.expected.removeprefix("most often ").split(", ")


@pytest.mark.parametrize(
    ("own", "of", "said"),
    [
        (0.0, 100, "it has never used x in 100 calls"),
        (0.0, 98.7, "it has never used x in at least 98 calls"),
        (0.0, 461.3, "it has never used x in at least 460 calls"),
        (7.2, 1234.5, "it seldom uses x (7 or more of at least 1,200 calls)"),
    ],
)
def test_a_count_that_has_faded_is_said_as_a_bound(own, of, said):
    """Nor to more digits than it has."""
    assert clauses.clause(Evidence("tool", "scope", "x", "-", 9.0, ["e"], 1, {"own": own, "of": of})) == said


def test_nothing_is_called_usual_that_an_agent_hardly_did(alerts):
    """What it is judged by is its peers' then: of a tool's first calls, or of all calls of a first session."""
    first = [hostile(n, "x", agent_id="bot-new", tool="crm.read", session_id="s", recipients=None) for n in range(24)]
    told = [e for a in episode(first) for e in a.evidence if e.baseline.get("new")]
    assert {e.name for e in told} >= {"bytes", "session_calls"}
    for e in told:
        assert "usual" not in clauses.clause(e)
        assert e.expected == "hardly done before"
    amounts = [e for a in alerts for e in a.evidence if e.name in {"bytes", "session_calls"}]
    assert any("usually" in clauses.clause(e) for e in amounts)


# Numbers that a receiver can hold


def crowd(number: int) -> dict[str, Any]:
    return hostile(
        number, "x", recipients=[{"id": f"all{i}@x.example", "clearance": "public", "size": 1 << 53} for i in range(3)]
    )


def test_people_stop_at_the_largest_whole_number_that_json_readers_keep():
    """Beyond 2^53 a SIEM would round it to another one; the words say "at least"."""
    for alert in episode([crowd(n) for n in range(3)]):
        x = alert.exposure
        assert alert.event.people == x.people == x.people_below_clearance == 1 << 53
        assert isinstance(json.loads(encode(alert))["exposure"]["people"], int)
        assert "at least 9,007,199,254,740,992 people" in alert.reason


def test_people_reached_again_are_not_more_people():
    """One group of 340 that got three files is 340 people; another one comes on top, as do those whom a later event shows to lack the clearance."""
    group = {"id": "all@x.example", "clearance": "public", "size": 340}
    events = [hostile(n, "x", recipients=[group, group, {"id": "eve@x.example"}]) for n in range(3)]
    x = episode(events)[-1].exposure
    assert (x.recipients_total, x.people, x.people_below_clearance) == (2, 341, 340)
    events.append(
        hostile(
            3,
            "x",
            recipients=[group | {"id": "some@x.example", "size": 2}, {"id": "eve@x.example", "clearance": "public"}],
        )
    )
    events.append(events[-1] | {"event_id": "last"})  # its fifth event is said
    x = episode(events)[-1].exposure
    assert (x.recipients_total, x.people, x.people_below_clearance) == (3, 343, 343)


def test_severity_never_falls_within_an_alert():
    """The cohort may turn out to have shifted too, while the alert is open: what was said stays said."""
    engine = Engine(load(HOME | {"STRAYLINE_ALERTS_PER_DAY": "1000"}))
    records = [*HISTORY, *(encode(hostile(n, "x")) for n in range(4))]
    said = engine.score(engine.decode(records, range(len(records)))).alerts[-1]
    open_now = engine.episodes.open["bot-1"]
    assert open_now.events > said.exposure.events
    assert said.severity != "low"
    open_now.excused = True
    last = next(a for a in engine.episodes.lapse(1e12) if a.alert_id == said.alert_id)
    assert (last.revision, last.severity) == (said.revision + 1, said.severity)


# Times


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1773829812.4171, "2026-03-18T10:30:12.417Z"),
        (1773829812.9996, "2026-03-18T10:30:13.000Z"),
        (-0.001, "1969-12-31T23:59:59.999Z"),
        (253402300799.0, "9999-12-31T23:59:59.000Z"),
        (-62135596800.0, "0001-01-01T00:00:00.000Z"),
    ],
)
def test_times_are_rfc_3339(time, text):
    """In UTC, to the millisecond, with four digits for the year: every time that an event may have."""
    assert rfc3339(time) == text


def test_an_episode_takes_no_more_memory_for_classes_that_nobody_has_heard_of():
    """A gateway may write a sentence into the field, another one for each event: in a record of baselines there is room for few."""
    events = [
        hostile(n, "x", classification=f"{n} {'c' * 4000}", session_id="s", time=BASE + 48 * 1800 + n)
        for n in range(40)
    ]
    engine = Engine(load({"STRAYLINE_ALERTS_PER_DAY": "1000"}))
    engine.score(engine.decode([*HISTORY, *map(encode, events)], range(len(HISTORY) + len(events))))
    (found,) = engine.episodes.open.values()
    assert found.events > 20
    assert len(msgspec.json.encode(found.sat)) < 1000
