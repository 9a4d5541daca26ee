"""Severity is harm and certainty: rules that an analyst would sign."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from stream.alert import SEVERITIES, Alert
from stream.codec import encode
from stream.engine import Engine
from stream.settings import load
from stream.severity import CONFIDENCES, ENOUGH, HARMS, LONE, NONE, SERIOUS, SEVERE, certainty, opens, severity
from stream.siphash import name_hash
from tests.judging import BEGIN, DAY, day, event, leak, past, run, say
from tests.telling import BASE, HISTORY, hostile, scored

OFTEN = {"STRAYLINE_ALERTS_PER_DAY": "1000", "STRAYLINE_DOMAINS": "corp.example"}
LEAK = {
    "event_id": "leak", "time": BASE + 50 * 1800, "agent_id": "bot-1", "agent_type": "copilot", "action": "send", "tool": "mail.send",
    "resource": "crm/customers/1", "scopes": ["mail:send"], "records": 3, "bytes": 1000, "principal": "ada@corp.example", "session_id": "leak",
}  # fmt: skip
SLIGHT = {"resource": "crm/customers/new"}
STRANGE = {"tool": "payroll.export", "scopes": ["payroll:admin"], "classification": "restricted"}
INSIDE = {"type": "user", "domain": "corp.example"}


def sent(classification: str, *, given: dict[str, Any] | None = None, **recipient: Any) -> Alert:
    """The alert on an agent that sends something to someone new four times, after a day of reading."""
    events = [
        {
            "event_id": f"sent-{i}", "time": BASE + 50 * 1800 + 60 * i, "agent_id": "bot-1", "agent_type": "copilot", "action": "send", "tool": "mail.send",
            "resource": f"crm/customers/{i}", "classification": classification, "scopes": ["mail:send"], "records": 3, "bytes": 1000,
            "principal": "ada@corp.example", "session_id": "sent", "recipients": [{"id": "eve", **recipient}],
        }
        | (given or {})
        for i in range(4)
    ]  # fmt: skip
    records = [*HISTORY, *map(encode, events)]
    done = scored(records, STRAYLINE_ALERTS_PER_DAY="1000", STRAYLINE_DOMAINS="corp.example")
    return next(a for a in reversed(done.alerts) if a.event.event_id.startswith("sent-"))


def test_severity_rises_with_harm_and_with_certainty():
    for harm, _ in enumerate(HARMS):
        for sure, _ in enumerate(CONFIDENCES):
            assert harm == NONE or severity(harm, sure) >= severity(harm - 1, sure)
            assert sure == 0 or severity(harm, sure) >= severity(harm, sure - 1)


def test_nobody_is_woken_unless_the_harm_may_be_severe():
    assert all(severity(harm, sure) < 3 for harm in range(SEVERE) for sure in range(3))
    assert severity(NONE, 2) == 1
    assert severity(SEVERE, 1) == 3


def test_certainty_rises_with_bits_and_falls_where_there_is_an_excuse():
    for over in (1.0, 1.5, 2.0, 4.0):
        assert certainty(10 * over, 10.0, excused=True) == max(0, certainty(10 * over, 10.0, excused=False) - 1)
    by_bits = [certainty(score, 10.0, excused=False) for score in range(10, 40)]
    assert all(a <= b for a, b in pairwise(by_bits))
    assert set(by_bits) == set(range(len(CONFIDENCES)))


def test_nobody_is_sure_of_what_a_small_fleet_sees_each_day():
    """Its budget has room for it, so that the threshold is low; that makes it no rarer."""
    assert [certainty(score, 3.5, excused=False) for score in (7, 9, 12)] == [0, 1, 2]
    assert certainty(12, 6.0, excused=False) == certainty(12, 3.5, excused=False)


def test_one_long_evening_is_for_the_record_and_several_odd_sessions_of_a_night_are_for_today():
    evening, *more = (encode(event(0, BEGIN + 11 * DAY + hour * 3600)) for hour in (22.5, 23.5))
    days = [encode(e) for number in range(12) for e in day(number)]
    lone, several = (scored([*days, evening, *rest]).alerts[-1] for rest in ([], more))
    assert lone.evidence[0].name == several.evidence[0].name == "off_hours"
    assert (lone.severity, several.severity) == ("low", "medium")
    assert lone.score > 2 * lone.threshold  # strange as it is


def test_nobody_is_sure_of_what_hangs_on_the_odd_hour_of_one_session():
    """Something slight beside it makes it no surer; what is strange at any hour does."""
    days = [encode(e) for number in range(12) for e in day(number)]
    late = BEGIN + 11 * DAY + 22.5 * 3600
    slight, much = (scored([*days, encode(event(0, late, **given))]).alerts[-1] for given in (SLIGHT, STRANGE))
    for alert in (slight, much):
        assert {"off_hours"} < {e.name for e in alert.evidence}
        assert alert.score > 2 * alert.threshold
    assert (slight.confidence, much.confidence) == ("medium", "high")


@pytest.mark.parametrize(
    ("over", "events", "harm", "said"),
    [
        (1.0, 1, NONE, False),
        (1.49, ENOUGH - 1, SERIOUS - 1, False),
        (LONE, 1, NONE, True),
        (1.0, ENOUGH, NONE, True),
        (1.0, 1, SERIOUS, True),
    ],
)
def test_a_lone_oddity_must_be_odder_unless_it_did_serious_harm(over, events, harm, said):
    assert opens(over, events, harm) is said


@pytest.mark.parametrize(
    ("classification", "recipient", "impact"),
    [
        ("internal", INSIDE, "none"),
        ("restricted", INSIDE, "limited"),
        ("internal", {"domain": "drop.example"}, "limited"),
        ("confidential", {"domain": "drop.example"}, "serious"),
        ("restricted", {"domain": "drop.example"}, "severe"),
        ("confidential", INSIDE | {"size": 19}, "none"),
        ("confidential", INSIDE | {"size": 60}, "limited"),
        ("confidential", INSIDE | {"size": 60, "clearance": "confidential"}, "none"),
        ("internal", INSIDE | {"size": 60}, "none"),
        ("internal", INSIDE | {"clearance": "public"}, "limited"),
        ("confidential", INSIDE | {"clearance": "internal"}, "serious"),
        ("confidential", INSIDE | {"clearance": "internal", "size": 2000}, "severe"),
    ],
)
def test_harm_is_whose_eyes_saw_what(classification, recipient, impact):
    assert sent(classification, **recipient).impact == impact


def answered(**given: Any) -> Alert:
    """The alert on a desk that answers customers all day, each a stranger outside for whom it acts, when it does that with tools that are new to it."""
    reply = {
        "agent_id": "desk", "agent_type": "desk", "action": "send", "tool": "mail.reply", "classification": "confidential", "records": 1, "bytes": 900,
    }  # fmt: skip
    events = [
        reply
        | {"event_id": f"a{n}", "time": BASE + 600 * n, "session_id": f"s{n}", "resource": f"replies/{n}"}
        | {"principal": f"c{n}@home.example", "recipients": [{"id": f"c{n}@home.example", "type": "email"}]}
        | ({} if n < 200 else {"tool": f"orders.send-{n}"} | given)
        for n in range(203)
    ]
    return scored([encode(e) for e in events], **OFTEN).alerts[-1]


@pytest.mark.parametrize(
    ("given", "impact"),
    [
        ({}, "none"),
        ({"classification": "restricted"}, "severe"),
        ({"records": 5000}, "severe"),
        ({"recipients": [{"id": "other@home.example", "type": "email"}]}, "serious"),
    ],
)
def test_who_asked_and_is_answered_as_others_are_all_day_is_not_harmed(given, impact):
    """A third, much of it, or what is most sensitive is another matter."""
    assert answered(**given).impact == impact


@pytest.mark.parametrize("classification", ["internal", "confidential", "restricted"])
@pytest.mark.parametrize(
    "recipient",
    [
        INSIDE,
        {"domain": "drop.example"},
        INSIDE | {"clearance": "public"},
        INSIDE | {"clearance": "internal", "size": 2000},
    ],
)
def test_the_budget_knows_serious_harm_from_the_numbers(classification, recipient):
    """As severity does, but for a person's approval."""
    engine = Engine(load(OFTEN))
    leaked = LEAK | {"classification": classification, "recipients": [{"id": "eve", **recipient}]}
    events = [encode(leaked | {"event_id": f"leak-{i}", "time": leaked["time"] + 60 * i}) for i in range(4)]
    alerts = engine.score(engine.decode([*HISTORY, *events], range(len(HISTORY) + 4))).alerts
    rows = engine.state["agents"].head
    known = rows[rows["key"] == name_hash("bot-1")]["serious"][0]
    assert bool(known) is (HARMS.index(alerts[-1].impact) >= SERIOUS)


@pytest.mark.parametrize(
    ("given", "impact"),
    [({"approved": True}, "limited"), ({"records": 5000}, "severe"), ({"outcome": "denied"}, "none")],
)
def test_approval_and_denial_lessen_harm_and_amounts_add_to_it(given, impact):
    assert sent("confidential", domain="drop.example").impact == "serious"
    assert sent("confidential", domain="drop.example", given=given).impact == impact


@pytest.mark.parametrize(
    ("classification", "records", "impact"),
    [
        ("confidential", 80_000, "limited"),
        ("confidential", 600, "limited"),
        ("confidential", 150, "none"),
        ("public", 80_000, "none"),
    ],
)
def test_a_hoard_of_what_is_sensitive_may_harm_though_nothing_left(classification, records, impact):
    """Far more than the agent usually moves, of the upper half of the ladder: a thousand records, in one call or in six."""
    read = {
        "agent_id": "bot-1", "agent_type": "copilot", "action": "read", "tool": "crm.read", "resource": "crm/customers/1", "session_id": "much",
        "classification": classification, "scopes": ["crm:read"], "records": records, "principal": "ada@corp.example",
    }  # fmt: skip
    events = [encode(read | {"event_id": f"much-{i}", "time": BASE + 50 * 1800 + 60 * i}) for i in range(6)]
    last = scored([*HISTORY, *events], **OFTEN).alerts[-1]
    assert last.event.event_id.startswith("much-")
    assert last.impact == impact


def test_what_is_for_everybody_harms_nobody_outside():
    assert sent("public", domain="drop.example").impact == "none"
    assert sent("internal", domain="drop.example").impact == "limited"


def test_that_a_person_approved_it_is_said_and_makes_it_less_sure():
    alone, approved = (sent("internal", domain="drop.example", given={"approved": a}) for a in (None, True))
    assert "a person approved it" in approved.reason
    assert approved.score == alone.score
    assert CONFIDENCES.index(approved.confidence) == CONFIDENCES.index(alone.confidence) - 1


def test_each_alert_s_severity_follows_from_its_impact_and_confidence(alerts):
    """Unless it was higher before: what was said stays said."""
    before: dict[str, int] = {}
    for a in alerts:
        now = severity(HARMS.index(a.impact), CONFIDENCES.index(a.confidence))
        assert SEVERITIES.index(a.severity) == max(now, before.get(a.alert_id, 0))
        before[a.alert_id] = SEVERITIES.index(a.severity)


def test_an_alert_with_serious_harm_is_about_the_event_that_did_it():
    """A stranger event that harmed nobody, and a person who may not see what is internal, come after it."""
    odd = hostile(0, "x", classification="internal", records=3, bytes=1000, approved=None)
    odd["recipients"] = [{"id": "small", "type": "user", "domain": "corp.example", "clearance": "public"}]
    leak = {
        "event_id": "leak", "time": BASE + 50 * 1800, "agent_id": "bot-1", "agent_type": "copilot", "action": "read", "tool": "crm.read",
        "resource": "crm/customers/1", "classification": "restricted", "scopes": ["crm:read"], "records": 3, "bytes": 1000,
        "principal": "ada@corp.example", "session_id": "leak", "recipients": [{"id": "eve@drop.example", "type": "email", "domain": "drop.example"}],
    }  # fmt: skip
    records = [*HISTORY, *map(encode, (odd, leak))]
    last = scored(records, STRAYLINE_ALERTS_PER_DAY="1000", STRAYLINE_DOMAINS="corp.example").alerts[-1]
    assert last.impact == "severe"
    assert last.event.event_id == "leak"
    assert "clearance" not in last.title
    assert "eve@drop.example" in last.next_step
    assert "None of its events" not in last.reason


def test_what_is_like_what_a_person_called_malicious_is_sure():
    """Somebody has answered the question: the agent is stopped first, however new it is."""
    confidential = {"classification": "confidential"}
    engine, _, alert = past(leak(20, **confidential))
    twin, _, _ = past(leak(20, **confidential))
    say(engine, "malicious", alert)
    again, unjudged = (run(x, [*day(21), leak(21, **confidential)]).alerts[-1] for x in (engine, twin))
    assert again.confidence == "high"
    assert again.next_step.startswith("Suspend the agent")
    assert not unjudged.next_step.startswith("Suspend the agent")
    assert certainty(10.0, 10.0, excused=True, judged_malicious=True) == len(CONFIDENCES) - 1


def test_what_is_like_what_a_person_called_malicious_leads_its_alert():
    """Stranger things may come beside it, and nobody has asked about those."""
    internal = {"classification": "internal"}
    engine, _, alert = past(leak(20, **internal))
    twin, _, _ = past(leak(20, **internal))
    say(engine, "malicious", alert)
    again = leak(21, **internal)
    odd = leak(
        21, to="x@other.example", time=again["time"] + 60, tool="new", scopes=["new"], resource="vault/1", **internal
    )
    found, unjudged = (run(x, [*day(21), again, odd]).alerts[-1] for x in (engine, twin))
    assert found.event.event_id == again["event_id"]
    assert unjudged.event.event_id == odd["event_id"]
