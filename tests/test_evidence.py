"""What an alert claims can be checked: evidence and exposure against the events, the reason against the evidence."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from models import drift
from models.batch import NOTABLE
from models.signals import KINDS
from stream import episodes, reason
from stream.alert import SEVERITIES, Alert, Did, Evidence, Exposure, decode_alert, rfc3339
from stream.codec import encode, encode_lines
from stream.engine import Engine, Scored
from stream.settings import load
from stream.simulate import Simulation, lines, simulate
from stream.techniques import techniques

HOME = {"STRAYLINE_DOMAINS": "northwind.example"}
MIB = 1 << 20
MOST_TITLE, MOST_REASON = 200, 4000  # characters; a name takes 80 at most
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
    ),
    techniques={"type": "array", "minItems": 1, "items": closed(framework=NAME, id=NAME, name=NAME)},
    event={"type": "object", "properties": {"event_id": NAME, "action": NAME}, "required": ["event_id", "action"]},
)

# The catalogues' entries for what agents do, by the version that alerts name.
CATALOGUE = {
    "MITRE ATT&CK 19.1": {
        "T1213", "T1530", "T1119", "T1005", "T1039", "T1114", "T1567", "T1048", "T1041", "T1020", "T1030", "T1537", "T1222", "T1078", "T1550.001",
        "T1528", "T1199", "T1098", "T1484", "T1087", "T1069", "T1083", "T1526", "T1619", "T1552", "T1485", "T1685.002",
    },
    "MITRE ATLAS 5.6.1": {
        "AML.T0085", "AML.T0036", "AML.T0086", "AML.T0025", "AML.T0024", "AML.T0057", "AML.T0053", "AML.T0012", "AML.T0081", "AML.T0084",
        "AML.T0098", "AML.T0082", "AML.T0083", "AML.T0051", "AML.T0080", "AML.T0110", "AML.T0101", "AML.T0034.002",
    },
    "OWASP Agentic 2026": {f"ASI{n:02}" for n in range(1, 11)},
}  # fmt: skip
OWASP_NAMES = {
    "ASI02": "Tool Misuse and Exploitation",
    "ASI03": "Identity and Privilege Abuse",
    "ASI07": "Insecure Inter-Agent Communication",
    "ASI10": "Rogue Agents",
}

few = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def scored(records: Sequence[bytes], **environment: str) -> Scored:
    engine = Engine(load(environment or HOME))
    return engine.score(engine.decode(records, range(1, len(records) + 1)))


@pytest.fixture(scope="module")
def fleet() -> Simulation:
    """Two weeks of two dozen agents, with everything in them that is planted."""
    return simulate(2, 24, 14)


@pytest.fixture(scope="module")
def said(fleet: Simulation) -> Scored:
    return scored([line.rstrip(b"\n") for line in lines(fleet)])


@pytest.fixture(scope="module")
def alerts(said: Scored) -> list[Alert]:
    """As a consumer gets them: from their JSON."""
    return [decode_alert(line) for line in encode_lines(said.alerts).splitlines()]


@pytest.fixture(scope="module")
def by_id(fleet: Simulation) -> dict[str, dict[str, Any]]:
    return {str(event["event_id"]): event for event in fleet.events}


def seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def rendered(alert: Alert, evidence: Sequence[Evidence] | None = None, **other: Any) -> str:
    """The reason as `stream.reason` makes it of an alert's own fields."""
    given = {k: getattr(alert, k) for k in ("exposure", "warming", "score", "threshold")} | other
    return reason.reason(
        alert.agent_id, alert.agent_type, alert.event, alert.evidence if evidence is None else evidence, **given
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
            assert len(item.event_ids) == min(item.count, 20)


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
        assert x.people == (sum(r.get("size", 1) for r in parties) if parties else None)
        assert set(x.classifications) == {e["classification"] for e in events}
        assert set(alert.principals) == {e["principal"] for e in events}
        assert set(alert.session_ids) == {e["session_id"] for e in events}
    assert checked > 30


# One alert, several revisions


def test_a_revision_adds_to_the_one_before(alerts):
    """In this fleet time, score, severity and totals only grow; whose alert it is stays."""
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
            assert alert.exposure.events > old.exposure.events
            assert (alert.exposure.records or 0) >= (old.exposure.records or 0)
            assert (alert.exposure.people or 0) >= (old.exposure.people or 0)
        before[alert.alert_id] = alert
    assert len(before) < len(alerts)


def test_ids_follow_from_the_events(fleet, alerts):
    """The same input gives the same ids; another agent's, and another episode's, are others."""
    again = scored([line.rstrip(b"\n") for line in lines(fleet)])
    assert [a.alert_id for a in again.alerts] == [a.alert_id for a in alerts]
    opened = [a.alert_id for a in alerts if a.revision == 1]
    assert len(set(opened)) == len(opened)
    renamed = scored([encode({**e, "agent_id": f"the-{e['agent_id']}"}) for e in fleet.events])
    assert renamed.alerts
    assert not {a.alert_id for a in renamed.alerts} & set(opened)


def test_an_alert_opens_at_the_event_that_reaches_the_threshold(said, alerts):
    """Not at the end of a batch, and not at the next event."""
    at = {position: i for i, position in enumerate(said.positions)}
    for alert, position in zip(alerts, said.alert_positions, strict=True):
        if alert.revision == 1:
            e = at[position]
            assert said.marks[e] & NOTABLE
            assert said.events[e].agent_id == alert.agent_id
            assert round(float(said.score[e]), 2) == alert.score >= alert.threshold


def test_every_event_over_the_threshold_opens_an_alert_or_is_counted_as_merged(said):
    """Nothing loud may disappear without a number."""
    loud = int(((said.marks & NOTABLE > 0) & (said.score > 0)).sum())
    opened = sum(a.revision == 1 for a in said.alerts)
    assert opened > 0
    assert said.merged > 0
    assert loud == opened + said.merged


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


# The reason


def changed(item: Evidence) -> Evidence:
    other = item.observed * 7 + 1 if isinstance(item.observed, float) else f"other {item.observed}"
    return msgspec.structs.replace(item, observed=other)


def test_another_observation_is_another_reason(alerts):
    """What was observed stands in the sentence, for every signal that has a part in it."""
    told = set()
    for alert in alerts:
        for i, item in enumerate(alert.evidence):
            without = rendered(alert, [*alert.evidence[:i], *alert.evidence[i + 1 :]])
            if reason.clause(item) in alert.reason and reason.clause(item) not in without:
                told.add(item.name)
                evidence = [*alert.evidence[:i], changed(item), *alert.evidence[i + 1 :]]
                assert rendered(alert, evidence) != alert.reason, item.name
    assert {"recipient", "records", "clearance", "approval", "read_before", "transition", "permission"} <= told


def test_the_strongest_evidence_is_told(alerts):
    """The sentence explains the score: the signal with most bits stands in it, or a better name for the same."""
    for alert in alerts:
        names = {alert.evidence[0].name}
        while not names.issuperset(better := {n for name in names for n in reason.COVERED.get(name, ())}):
            names |= better
        # Of one tool any amount says it; in a bare list of names the same observation of the lead does.
        tool = alert.evidence[0].baseline.get("tool")
        told = [e for e in alert.evidence if e.name in names or (tool and e.baseline.get("tool") == tool)]
        assert any(reason.clause(item) in alert.reason for item in told)


def test_numbers_about_the_whole_episode_are_those_of_the_exposure(alerts):
    """They are what goes into a report."""
    counted = 0
    for alert in alerts:
        x = alert.exposure
        if x.events == 1:
            continue
        counted += 1
        assert f" {x.events:,} such events" in alert.reason
        assert x.records is None or f" {reason.number(x.records)} records" in alert.reason
        assert x.bytes is None or reason.size(x.bytes) in alert.reason
        for name in ("events", "records", "bytes"):
            more = msgspec.structs.replace(x, **{name: 777})
            assert rendered(alert, exposure=more).count("777") > alert.reason.count("777")
    assert counted > 30


# One event, one sentence


def lead_sentence(alert: Alert) -> str:
    """What is said of the strangest event: up to what is said of the others, or of the whole."""
    return alert.reason.split(" In the same episode: ")[0].split(" The episode has ")[0]


def test_what_is_said_of_the_strangest_event_is_evidence_of_that_event(alerts):
    """Another event's recipient, class or amount in that sentence would be a claim that no event bears out."""
    mixed = 0
    for alert in alerts:
        own = [e for e in alert.evidence if alert.event.event_id in e.event_ids]
        others = [e for e in alert.evidence if e not in own]
        assert all(e.event_ids == [alert.event.event_id] and e.count == 1 for e in own)
        said = lead_sentence(alert)
        kept = rendered(alert, own)
        assert said == lead_sentence(msgspec.structs.replace(alert, reason=kept)).split(" It usually ")[0] or not others
        told = [e for e in others if reason.clause(e) in alert.reason]
        mixed += bool(told)
        for item in told:
            assert reason.clause(item) not in said or any(reason.clause(item) == reason.clause(e) for e in own)
    assert mixed > 20


def test_evidence_of_the_strangest_event_is_what_that_event_says(alerts, by_id):
    """Recipient, permission, class and amounts are looked up in the event itself."""
    checked = defaultdict(int)
    for alert in alerts:
        for item in alert.evidence:
            event = by_id[item.event_ids[0]] if item.event_ids else {}
            if item.name == "recipient":
                assert item.observed in [r["id"] for r in event["recipients"]]
            elif item.name == "permission":
                assert item.observed in event["scopes"]
            elif item.name == "classification":
                assert item.observed == event["classification"]
            elif item.name == "records":
                assert item.observed == pytest.approx(event["records"], abs=0.1, rel=1e-4)
            elif item.name == "clearance":
                assert str(item.observed).endswith(f"given {event['classification']} data")
            else:
                continue
            checked[item.name] += 1
    assert min(checked.values()) > 3
    assert len(checked) == 5


def test_broken_clearance_of_another_event_is_said_in_a_sentence_of_its_own():
    """The strangest event sent public data: it did not break any."""
    quiet = {"records": 3, "bytes": 1000, "scopes": ["crm:read"], "resource": "crm/customers/1", "tool": "crm.read"}
    small = hostile(0, "x") | quiet | {"classification": "internal", "session_id": "s-1-9", "action": "read"}
    small["recipients"] = [{"id": "small@y.example", "clearance": "public"}]
    large = hostile(1, "x", recipients=[{"id": f"wide{i}@x.example", "clearance": "restricted"} for i in range(3)])
    alert = episode([small, large])[-1]
    assert alert.event.event_id == large["event_id"]
    assert alert.exposure.people_below_clearance == 1
    said = lead_sentence(alert)
    assert "may see" not in said
    assert "small@y.example" not in said
    _, rest = alert.reason.split(" In the same episode: ")
    assert "1 recipient may see public data at most, and was given internal data" in rest


@settings(parent=few, max_examples=300)
@given(
    items=st.lists(
        st.tuples(
            st.sampled_from(["tool", "recipient", "domain", "branch", "permission", "clearance", "classification"]),
            st.floats(0, 30),
            st.booleans(),
        ),
        max_size=12,
    ),
    events=st.integers(1, 9),
)
def test_no_evidence_of_another_event_gets_into_the_sentence(items, events):
    """Whatever there is of it, and however strong."""
    evidence = [
        Evidence(name, "scope", f"{'own' if own else 'other'}-{i}", "usually this", bits, ["e" if own else "o"], 1)
        for i, (name, bits, own) in enumerate(items)
    ]
    text = reason.reason("a", "b", Did("e", "read"), evidence, Exposure(events=events), warming=False, score=40.0, threshold=12.0)  # fmt: skip
    first, _, rest = text.partition(" In the same episode: ")
    assert "other-" not in first
    assert "own-" not in rest.split(". ")[0]
    for i, (name, _, own) in enumerate(items):
        if name == "clearance":
            assert f"{'own' if own else 'other'}-{i}" in (first if own else rest)


# What is counted


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
    assert re.search(r"in [\d,]+ deliveries", alert.reason)


def test_nothing_is_said_of_peers_where_an_agent_has_none(alerts):
    """An agent without a type is compared with the fleet, and a sentence about peers would be made up."""
    alone = [encode({k: v for k, v in json.loads(line).items() if k != "agent_type"}) for line in HISTORY]
    event = hostile(0, "x", agent_type=None)
    found = [a for a in scored([*alone, encode(event)]).alerts if a.agent_id == "bot-1"]
    assert "peers" not in found[-1].reason
    assert any("peers" in a.reason for a in alerts)


@pytest.mark.parametrize(
    ("own", "peers", "said"),
    [
        (0.0, 0.0, "it has never used x in 100 calls, nor have its peers"),
        (0.0, 0.4, "it has never used x in 100 calls, its peers hardly ever"),
        (0.0, 1.2, "it has never used x in 100 calls, but one of its peers has"),
        (0.3, 3.3, "it has hardly ever used x in 100 calls, but about 3 of its peers have"),
        (7.2, 1.0, "it seldom uses x (about 7 of 100 calls), its peers hardly ever"),
        (7.2, 4.1, "it seldom uses x (about 7 of 100 calls), as do about 3 of its peers"),
        (1.0, None, "it seldom uses x (about 1 of 100 calls)"),
    ],
)
def test_what_peers_do_is_said_with_what_the_agent_does(own, peers, said):
    """An agent is not its own peer, and never is never."""
    numbers = {"own": own, "of": 100} | ({} if peers is None else {"peers": peers})
    assert reason.clause(Evidence("tool", "scope", "x", "-", 9.0, ["e"], 1, numbers)) == said


# What would have been otherwise


def test_every_alert_says_what_would_have_been_otherwise(alerts):
    """In its last sentence."""
    ways = defaultdict(int)
    for alert in alerts:
        own = [e for e in alert.evidence if alert.event.event_id in e.event_ids]
        said = reason.otherwise(alert.event, own, alert.exposure.events, alert.score, alert.threshold)
        assert alert.reason.endswith(said)
        ways[said.split(" had ")[0].strip()] += 1
        paid = sum({reason.SIGNALS[reason.INDEX[e.name]].group: 1 for e in own if e.name in reason.INDEX}.values())
        assert paid > 0
    assert {"It would not have been raised", "This event alone would not have raised it"} <= set(ways)


def test_what_would_not_have_been_raised_is_not_raised():
    """The sentence is true: the same event to a recipient that the agent knows opens no alert."""
    known = {"id": "ada@corp.example", "type": "email", "clearance": "restricted"}
    past = [
        json.loads(line) | {"action": "send", "recipients": [known | {"id": f"c{i % 9}@corp.example"}]}
        for i, line in enumerate(HISTORY)
    ]
    event = past[-9] | {
        "event_id": "last",
        "time": BASE + 48 * 1800,
        "recipients": [known | {"id": "eve@drop.example"}],
    }
    twin = event | {"recipients": past[-9 - 10]["recipients"]}
    raised, not_raised = (
        [
            a
            for a in scored([*map(encode, past), encode(e)], STRAYLINE_ALERTS_PER_DAY="1000").alerts
            if a.event.event_id == "last"
        ]
        for e in (event, twin)
    )
    assert raised[0].reason.endswith(
        "It would not have been raised had eve@drop.example been among the recipients it usually sends to."
    )
    assert not not_raised


def test_what_the_simulated_fleet_s_alerts_claim_comes_true(fleet, alerts):
    """With a recipient or a resource that the agent uses most, in place of the one that is blamed, the event raises nothing."""
    at = {str(event["event_id"]): i for i, event in enumerate(fleet.events)}
    checked = 0
    for alert in alerts:
        _, _, claim = alert.reason.partition(" It would not have been raised ")
        event = fleet.events[at[alert.event.event_id]]
        past = [e for e in fleet.events[: at[alert.event.event_id]] if e["agent_id"] == alert.agent_id]
        if " and had " in claim or checked == 6:
            continue
        if "among the recipients" in claim:
            kind = event["recipients"][0].get("type")
            known = [r for e in past for r in e.get("recipients", ()) if r.get("type") == kind]
            other = {"recipients": [Counter(map(json.dumps, known)).most_common(1)[0][0]]} if known else {}
            other = {k: [json.loads(r) for r in v] for k, v in other.items()}
        elif "among what it usually touches" in claim:
            other = {"resource": Counter(e["resource"] for e in past).most_common(1)[0][0]}
        else:
            continue
        if other:
            checked += 1
            before = [encode(e) for e in fleet.events[: at[alert.event.event_id]]]
            again = scored([*before, encode(event | other)]).alerts
            assert not [a for a in again if a.event.event_id == alert.event.event_id], claim
    assert checked > 4


def test_what_the_next_signal_of_a_group_would_say_is_reckoned_with():
    """A new tool that comes with a new permission: had only the tool been known, the permission would have been new."""
    known = {"records": 3, "bytes": 1000, "resource": "crm/customers/1", "classification": "internal", "action": "read"}
    alert = episode([hostile(0, "x") | known | {"session_id": "s-1-9"}])[0]
    new = next(e for e in alert.evidence if e.name in {"tool", "permission", "transition"})
    assert new.baseline["next_bits"] > 5
    assert reason._pays(new) >= new.baseline["next_bits"]


def test_an_agent_that_uses_an_id_twice_cannot_mix_its_events():
    """The same id with other content is another event, and no evidence of it names the strangest."""
    small = hostile(0, "x", recipients=None, records=None, bytes=None, approved=None) | {"event_id": "same"}
    alert = episode([small, hostile(1, "x") | {"event_id": "same"}])[-1]
    assert alert.event.event_id == "same"
    assert alert.exposure.events == 2
    own = [e.name for e in alert.evidence if "same" in e.event_ids]
    assert len(own) == len(set(own))
    assert [e for e in alert.evidence if not e.event_ids]


@settings(parent=few, max_examples=300)
@given(
    bits=st.lists(st.tuples(st.sampled_from(sorted(reason.INDEX)), st.floats(0, 30)), min_size=1, max_size=8),
    events=st.integers(1, 3),
    lead=st.floats(0, 20),
)
def test_a_claim_that_one_signal_raised_it_holds_by_the_numbers(bits, events, lead):
    """Without what it names, what the other groups pay stays below the threshold."""
    numbers = {"tool": "t", "typical": 1.0, "high": 2.0}
    items = [Evidence(name, "scope", "x", "-", b, ["e"], 1, numbers) for name, b in dict(bits).items()]
    groups: dict[str, float] = defaultdict(float)
    for item in items:
        group = reason.SIGNALS[reason.INDEX[item.name]].group
        groups[group] = max(groups[group], reason._pays(item))
    own = sum(groups.values())
    said = reason.otherwise(Did("e", "read"), items, events, max(own, 12.0) + lead, 12.0)
    assert said
    if said.startswith(" None of its events"):
        assert own < 12
    elif " would not have " in said:
        named = [i for i in items if reason._had(i, Did("e", "read")) in said]
        silent = {reason.CONDITION.get(i.name, i.name) for i in named}
        assert 1 <= len(silent) <= 2
        winners = {
            g: max((i for i in items if reason.SIGNALS[reason.INDEX[i.name]].group == g), key=reason._pays)
            for g in groups
        }
        assert sum(reason._pays(i) for i in winners.values() if reason.CONDITION.get(i.name, i.name) not in silent) < 12
    elif "It would have been raised even" in said:
        assert own - max(groups.values()) < own


# Names that mean harm

BASE = 1772409600
HISTORY = [
    encode(
        {
            "event_id": f"{i}-{a}", "time": BASE + 1800 * i + a, "agent_id": f"bot-{a}", "agent_type": "copilot", "action": "read", "tool": "crm.read",
            "resource": f"crm/customers/{i % 7}", "classification": "internal", "scopes": ["crm:read"], "records": 3, "bytes": 1000 + i,
            "principal": "ada@corp.example", "session_id": f"s-{a}-{i // 5}",
        }
    )
    for i in range(48)
    for a in range(10)
]  # fmt: skip


def hostile(number: int, name: str, scopes: int = 1, **given: Any) -> dict[str, Any]:
    """An event that is strange in every way, with a name in every field that may hold one."""

    def named(what: str) -> str:
        return f"{what}{number}{name}"[:8192]

    event = {
        "event_id": named("e")[:256],
        "time": BASE + 48 * 1800 + 30 * number,
        "agent_id": "bot-1",
        "agent_type": "copilot",
        "action": named("act"),
        "tool": named("tool"),
        "resource": named("root/branch/"),
        "classification": "restricted",
        "scopes": [named(f"scope{i}") for i in range(scopes)],
        "records": 9e5,
        "bytes": 1e12,
        "principal": named("principal"),
        "session_id": named("session"),
        "recipients": [{"id": named("r"), "type": "email", "domain": named("d"), "clearance": "public", "size": 2000}],
        "approved": False,
        "attributes": {named("k"): named("v")},
    }
    return {key: value for key, value in (event | given).items() if value is not None}


def episode(events: Sequence[dict[str, Any]]) -> list[Alert]:
    """The alerts on such events after an ordinary day, the budget being far from spent."""
    records = [*HISTORY, *map(encode, events)]
    done = scored(records, STRAYLINE_ALERTS_PER_DAY="1000", STRAYLINE_MAX_EVENT_BYTES=str(64 * MIB))
    assert not done.rejects
    found = [a for a in done.alerts if a.agent_id == events[-1]["agent_id"]]
    assert found
    return found


HOSTILE = {
    "newlines": "\nseverity: low\r\n\x0b\x0c\x85\u2028\u2029",
    "control characters": "".join(map(chr, range(32))) + "\x7f",
    "terminal escapes": "\x1b[2J\x1b[31mred\x1b]0;title\x07\x9b5m",
    "right to left": "\u202egnp.exe\u2066\u2069\u200f",
    "invisible": "\u200b\ufeff\u00ad\U000e0041\u2060",
    "NUL": "\0\0",
    "unassigned": "\uffff\U0010ffff\ue000",
    "8 KB": "long " * 2000,
    "8 KB of emoji": "\U0001f600" * 8192,
    "combining": "e" + "\u0301" * 5000,
    "markup": "<script>alert(1)</script>{{7*7}}${jndi:ldap://x.example}%s%n'\"`;|",
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_no_name_breaks_title_or_reason(name):
    """One printable line of bounded length each: names come from whoever attacks."""
    for alert in episode([hostile(n, name, agent_id=f"bot{name}"[:256]) for n in range(3)]):
        assert alert.title.isprintable()
        assert alert.reason.isprintable()
        assert len(alert.title) <= MOST_TITLE
        assert len(alert.reason) <= MOST_REASON
        assert rendered(decode_alert(encode(alert))) == alert.reason


@settings(parent=few, max_examples=300)
@given(name=st.text(min_size=1) | st.sampled_from([*HOSTILE.values()]), denied=st.booleans())
def test_no_name_at_all_breaks_the_words(name, denied):
    """In any of the places that words are made of."""
    event = Did("e", name, name, name, name, 1.0, 2.0, [name, name, name], 4, False, denied)
    names = ("tool", "permission", "root", "branch", "resource", "classification", "transition", "recipient", "domain")
    for bits, ids, events in product((1.0, 20.0), (["e"], ["other"]), (1, 2)):
        evidence = [Evidence(what, "scope", name, reason.expected_values([name]), bits, ids, 1) for what in names]
        for item in evidence:
            assert reason.clause(item).isprintable()
            assert reason._had(item, event).isprintable()
        text = reason.reason(
            name, name, event, evidence, Exposure(events=events), warming=False, score=60.0, threshold=12.0
        )
        assert (text + reason.title(name, ["volume"])).isprintable()
        assert len(text) <= MOST_REASON


@settings(parent=few, max_examples=300)
@given(text=st.text(), most=st.integers(1, 100))
def test_a_name_that_is_safe_to_print_stays_as_it_is(text, most):
    """And any other becomes printable and short."""
    out = reason.plain(text, most)
    assert out.isprintable()
    assert len(out) <= most
    assert (out == text) is (text.isprintable() and len(text) <= most)


LARGE = {
    "10,000 recipients": [
        hostile(n, "x", recipients=[{"id": f"p{i}@x.example", "clearance": "public"} for i in range(10_000)]) for n in range(3)
    ],
    "recipients of 8 KB": [
        hostile(n, "x", recipients=[{"id": f"{i}" + "\x01" * 8190} for i in range(40)]) for n in range(3)
    ],
    "1,000 scopes": [hostile(n, "x", scopes=1000) for n in range(3)],
    "a megabyte of attributes": [hostile(n, "x", attributes={"k": "v" * MIB}) for n in range(3)],
    "many events": [hostile(n, "x") for n in range(120)],
    "many events of 8 KB names": [hostile(n, "x" * 8192) for n in range(60)],
    "8 KB names that JSON must escape": [hostile(n, "\x01" * 8192) for n in range(60)],
}  # fmt: skip


@pytest.mark.parametrize("events", LARGE.values(), ids=LARGE)
def test_an_alert_stays_below_a_megabyte(events):
    """A larger message would not fit a Kafka broker's default, and the worker could deliver nothing more."""
    assert max(len(encode(alert)) for alert in episode(events)) < MIB


def test_what_no_event_told_is_null_and_not_zero():
    """Nobody knows how much it was; 0 would be a claim."""
    nothing = {"records": None, "bytes": None, "recipients": None}
    x = episode([hostile(n, "x", **nothing) for n in range(3)])[-1].exposure
    assert (x.records, x.bytes, x.people, x.people_below_clearance) == (None, None, None, None)


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
            other.episodes.restore(agent_id, msgspec.convert(msgspec.to_builtins(x), episodes.Episode))
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


def test_severity_never_falls_within_an_alert():
    """The cohort may turn out to have shifted too, while the alert is open: what was said stays said."""
    engine = Engine(load(HOME | {"STRAYLINE_ALERTS_PER_DAY": "1000"}))
    records = [*HISTORY, *(encode(hostile(n, "x")) for n in range(4))]
    said = engine.score(engine.decode(records, range(len(records)))).alerts[-1]
    open_now = engine.episodes.open["bot-1"]
    assert open_now.events > said.exposure.events
    assert said.severity != "low"
    open_now.shift = True
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


# Techniques


def test_every_technique_is_in_its_catalogue():
    """Whatever the kinds and the action: at least one, none twice, each with its catalogue's version."""
    actions = ("read", "grant", "delete", "share", "something else")
    flags = (True, False)
    for kinds in [(a,) for a in KINDS] + list(product(KINDS, KINDS)) + [KINDS]:
        for action, outside, denied, to_agent in product(actions, flags, flags, flags):
            found = techniques(kinds, action, outside=outside, denied=denied, to_agent=to_agent)
            assert found
            assert len(found) == len(set(found))
            for each in found:
                assert each.id in CATALOGUE[each.framework]
                assert each.framework != "OWASP Agentic 2026" or each.name == OWASP_NAMES[each.id]


@pytest.mark.parametrize(
    ("kinds", "action", "flags", "ids"),
    [
        (("volume",), "read", {}, {"T1213"}),
        (("recipient",), "send", {"outside": True}, {"T1567", "AML.T0086"}),
        (("recipient",), "share", {}, {"AML.T0057"}),
        (("policy",), "share", {"outside": True}, {"T1567", "T1078"}),
        (("scope",), "execute", {}, {"AML.T0053", "ASI03"}),
        (("scope",), "read", {"denied": True}, {"T1087"}),
        (("rate",), "grant", {}, {"T1098"}),
        (("rate",), "delete", {}, {"T1485"}),
        (("rate",), "send", {"to_agent": True}, {"ASI07"}),
        (("rate",), "read", {}, {"ASI10"}),
    ],
)
def test_a_technique_follows_from_what_was_done(kinds, action, flags, ids):
    """An outside recipient is exfiltration, an inside one a leak; and what nothing points to is not named."""
    none = {"outside": False, "denied": False, "to_agent": False}
    found = {t.id for t in techniques(kinds, action, **(none | flags))}
    assert ids <= found
    assert ("T1567" in found) is bool(flags.get("outside"))
    assert ids == {"ASI10"} or not ids & {t.id for t in techniques(("rate",), "read", **none)}


# Drift

days = st.lists(st.integers(0, 200).map(lambda x: x / 8), max_size=32)


@settings(parent=few, max_examples=200)
@given(first=days, second=days)
def test_drift_is_a_function_of_the_days_alone(first, second):
    """Nothing is kept between calls, and nothing is changed in what is given."""
    before = list(first)
    answer = drift.changed(first)
    drift.changed(second)
    assert drift.changed(tuple(first)) is answer
    assert first == before


@settings(parent=few, max_examples=100)
@given(level=st.integers(0, 30), height=st.integers(4, 10), usual=st.integers(12, 28))
def test_a_change_of_level_is_found_within_three_days(level, height, usual):
    """At sixteen times the level or more; and it is said on the day that completes it, not before."""
    past = [float(level)] * usual
    after = [drift.changed([*past, *[float(level + height)] * n]) for n in range(4)]
    assert any(after)
    assert not after[0]
    assert not drift.changed([*past, float(level + 4)])


def test_nothing_is_said_of_the_first_days():
    """Ten days are needed to know a level."""
    for n in range(drift.DAYS):
        assert not drift.changed([0.0] * (n // 2) + [40.0] * (n - n // 2))
