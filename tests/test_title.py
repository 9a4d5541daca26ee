"""The title says what is wrong, the next step what to do: both by the alert's own evidence."""

from __future__ import annotations

import pytest

from models.signals import SIGNALS
from stream.alert import Did, Evidence, Exposure
from stream.clauses import clause
from stream.response import next_step, suspends
from stream.title import subject, title

EVENT = Did("e", "send", resource="crm/customers/1", recipients=["eve@drop.example"], principal="ada@corp.example")
NUMBERS = {"tool": "crm.read", "typical": 2.0, "high": 9.0, "own": 0.0, "unit": "records", "lasts": False, "days": 22.0}


def item(name: str, kind: str, observed: str | float = "x", bits: float = 12.0, event_id: str = "e") -> Evidence:
    return Evidence(name, kind, observed, "-", bits, [event_id], 1, NUMBERS)


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda s: s.name)
def test_every_signal_has_a_title_and_a_next_step_of_its_own(signal):
    observed = 40.0 if signal.kind in {"volume", "rate"} and signal.name != "off_hours" else "seen"
    about = item(signal.name, signal.kind, observed)
    line = title("bot", about, EVENT, [about], Exposure())
    assert line.startswith("bot ")
    assert "strays" not in line
    assert next_step("copilot", about, EVENT, [about], Exposure()).endswith(".")


def test_the_title_is_about_the_strongest_evidence_of_the_foremost_kind():
    evidence = [item("tool", "scope", "drop", 20.0), item("domain", "recipient", "drop.example", 15.0)]
    assert subject(EVENT, evidence, ["scope", "recipient"]).name == "tool"
    assert subject(EVENT, evidence, ["recipient", "scope"]).name == "domain"


def test_the_strangest_event_comes_first():
    other = item("branch", "scope", "vault/secrets", 30.0, "other")
    own = item("branch", "scope", "hris/payroll", 12.0)
    assert subject(EVENT, [other, own], ["scope"]) is own


def test_broken_clearance_of_another_event_is_no_headline_unless_the_harm_was_serious():
    """A page shown to one colleague is not what an analyst should read first where the agent harvested a table."""
    evidence = [item("branch", "scope", "dw/users_pii", 13.0), item("clearance", "policy", bits=9.0, event_id="other")]
    assert subject(EVENT, evidence, ["policy", "scope"]).name == "branch"
    own = [item("branch", "scope", "dw/users_pii", 13.0), item("clearance", "policy", bits=9.0)]
    assert subject(EVENT, own, ["policy", "scope"], serious=True).name == "clearance"


def test_an_amount_of_less_than_twice_the_usual_is_no_headline():
    slight, much = (item("bytes_sum", "volume", observed, 13.0) for observed in (3.0, 5.0))
    assert subject(EVENT, [slight, item("tool", "scope", "drop", 9.0)], ["volume", "scope"]).name == "tool"
    assert subject(EVENT, [much, item("tool", "scope", "drop", 9.0)], ["volume", "scope"]) is much


def test_an_amount_that_is_often_reached_is_no_headline_and_is_not_set_against_a_bound_above_it():
    """17 calls where 19 are not rare: it adds to the score, and that is all."""
    usual = {"tool": "crm.read", "typical": 5.6, "high": 19.0}
    calls = Evidence("call_rate", "rate", 17.0, "-", 9.0, ["e"], 1, usual)
    assert clause(calls) == "its pace was about 17 calls in ten minutes (usually 5.6)"
    assert subject(EVENT, [calls, item("tool", "scope", "drop", 7.0)], ["rate", "scope"]).name == "tool"
    assert subject(EVENT, [calls], ["rate"]) is calls
    calls.observed = 20.0
    assert clause(calls) == "its pace was about 20 calls in ten minutes (usually 5.6, rarely above 19)"
    assert subject(EVENT, [calls, item("tool", "scope", "drop", 7.0)], ["rate", "scope"]) is calls


def test_nobody_is_asked_whether_they_should_have_what_the_agent_answered_them():
    """An agent that writes to the person it acts for: what is to be known is whether they asked."""
    event = Did("e", "send", resource="recon/06", recipients=["ada@corp.example"], principal="ada@corp.example")
    about = item("recipient", "recipient", "ada@corp.example")
    assert next_step("copilot", about, event, [about], Exposure()).startswith(
        "Ask ada@corp.example whether they asked for recon/06; if not,"
    )


def test_broken_clearance_is_counted_in_people():
    about = item("clearance", "policy")
    event = Did("e", "share", classification="restricted", principal="ada@corp.example")
    shown = Exposure(people_below_clearance=2000)
    assert (
        title("bot", about, event, [about], shown) == "bot shows restricted data to 2,000 people without the clearance"
    )
    about.baseline = {"recipient": "#forum", "more": 0, "people": 2000, "resource": "crm/1"}
    assert next_step("copilot", about, event, [about], Exposure()).startswith(
        "Withdraw crm/1 from #forum (2,000 people), who were not cleared for it"
    )


@pytest.mark.parametrize(
    ("name", "observed", "baseline", "asked"),
    [
        ("recipient", "leif", {}, "leif"),
        ("domain", "drop.example", {"recipient": "leif"}, "leif"),
        ("flow", "restricted data to a user", {"recipient": "leif"}, "leif"),
        ("domain", "drop.example", {}, "someone at drop.example"),
    ],
)
@pytest.mark.parametrize("event_id", ["e", "other"])
def test_the_next_step_asks_about_whom_the_evidence_blames(name, observed, baseline, asked, event_id):
    """And not about the first of the list, who may be a usual one."""
    event = Did("e", "send", resource="crm/1", recipients=["hana", "leif"], principal="ada@corp.example")
    about = Evidence(name, "recipient", observed, "-", 12.0, [event_id], 1, baseline | {"resource": "crm/2"})
    if asked != "leif" and event_id == "e":
        asked = "hana and 1 more"
    assert next_step("copilot", about, event, [about], Exposure()).startswith(
        f"Ask ada@corp.example whether {asked} should have crm/2;"
    )


def test_the_next_step_asks_about_no_recipient_where_there_is_none():
    about = item("classification", "scope", "restricted")
    for event in (Did("e", "read", resource="crm/1"), Did("other", "send", recipients=["hana"])):
        assert "recipient" not in next_step("copilot", about, event, [about], Exposure(), serious=True)
        assert "hana" not in next_step("copilot", about, event, [about], Exposure(), serious=True)


@pytest.mark.parametrize(
    ("baseline", "said"),
    [
        ({"people": 2, "more": 1}, "restricted data to 2 people"),
        ({"people": 2, "more": 1, "agents": 2}, "restricted data to 2 agents"),
        ({"people": 2, "more": 1, "agents": 1}, "restricted data to 2 recipients"),
        ({"people": 1, "more": 0, "agents": 1}, "data to 2 recipients"),
    ],
)
def test_an_agent_that_lacks_the_clearance_is_no_person(baseline, said):
    """And what another event showed to others need not be of the same class."""
    about = Evidence("clearance", "policy", "x", "-", 12.0, ["e"], 1, {"recipient": "r"} | baseline)
    event = Did("e", "share", classification="restricted", recipients=["r"])
    shown = Exposure(people_below_clearance=2)
    assert title("bot", about, event, [about], shown) == f"bot shows {said} without the clearance"


def test_what_was_denied_is_said_to_be():
    event = Did("e", "read", resource="vault/secrets/1", denied=True)
    about = item("branch", "scope", "vault/secrets")
    said = "bot tries to touch vault/secrets, new to it, and is denied"
    assert title("bot", about, event, [about], Exposure(denied=1)) == said
    wide = Exposure(denied=9, denied_systems=["vault", "hris", "dw", "crm"])
    assert title("bot", about, event, [about], wide) == f"{said} 9 times over 4 systems"
    assert title("bot", about, event, [about], Exposure(denied=3, denied_systems=["vault"])) == f"{said} 3 times"


@pytest.mark.parametrize(
    ("named", "people", "said"),
    [
        (1, 1, "sends to r0, new to it"),
        (3, 3, "sends to 3 recipients, r0 among them, new to it"),
        (20, 20, "sends to 20 recipients, r0 among them, new to it"),
        (20, 340, "sends to 340 people, r0 among them, new to it"),
    ],
)
def test_a_mailing_is_titled_by_how_many_it_went_to(named, people, said):
    """And by one of them, who is not the whole of it."""
    event = Did("e", "send", classification="internal", recipients=[f"r{n}" for n in range(named)], people=people)
    about = item("recipient", "recipient", "r0")
    assert title("bot", about, event, [about], Exposure()) == f"bot {said}"
    flow = item("flow", "volume", "internal data to a user")
    many = f"{said.partition(',')[0].removeprefix('sends to ')}, r0 among them" if named > 1 else "r0"
    assert title("bot", flow, event, [flow], Exposure(), serious=True) == f"bot sends internal data to {many}"


def test_of_a_mailing_the_next_step_asks_about_all():
    """The one that is strangest is not the only one who got it."""
    event = Did("e", "send", resource="crm/1", recipients=[f"r{n}" for n in range(5)], people=5)
    about = item("recipient", "recipient", "r3")
    step = next_step("copilot", about, event, [about], Exposure())
    assert step.startswith("Ask the owner of the agent whether r3 and 4 more should have crm/1;")


def test_as_many_mails_as_recipients_are_titled_by_their_number():
    event, about = Did("e", "send", recipients=["r0"], people=1), item("recipient", "recipient", "r0")
    for reached, said in ((9, "r0"), (18, "18 recipients, r0 among them")):
        assert (
            title("bot", about, event, [about], Exposure(recipients_total=reached)) == f"bot sends to {said}, new to it"
        )


@pytest.mark.parametrize(
    ("peers", "others", "said"),
    [
        ({}, [], "sends to r, new to it"),
        ({"peers": 0.0}, [], "sends to r, as no peer has"),
        ({"peers": 3.0}, [], "sends to r, new to it"),
        ({"peers": 0.0, "peers_heard_of": True}, [], "sends to r, new to it"),
        ({"peers": 0.0}, [{"peers": 0.0}], "sends secrets outside (to r), as no peer has"),
        ({"peers": 0.0}, [{"peers": 0.1, "own": 0.1, "since": 60}], "sends to r, as no peer has"),
        ({"peers": 0.0}, [{"peers": 5.0}], "sends to r, as no peer has"),
    ],
)
def test_of_a_new_agent_the_title_says_that_it_is_new_and_what_its_peers_do_not_do(peers, others, said):
    """To itself all is new. Of peers on other partitions nothing is claimed."""
    new = Evidence("new_agent", "scope", "The agent is new, known for 6 hours", "-", 0.0, [], 1, {"seconds": 21600})
    about = Evidence("recipient", "recipient", "r", "-", 11.0, ["e"], 1, {"own": 0.0} | peers)
    flows = [Evidence("flow", "recipient", "secrets outside", "-", 8.0, ["e"], 1, {"own": 0.0} | b) for b in others]
    event = Did("e", "send", recipients=["r"])
    assert title("bot", about, event, [about, *flows, new], Exposure()) == f"bot (new) {said}"
    reset = Evidence("reset", "scope", "Its baseline was reset", "-", 0.0, [], 1, {})
    assert title("bot", about, event, [about, *flows, new, reset], Exposure()) == "bot sends to r, new to it"


@pytest.mark.parametrize(
    ("severity", "impact", "signal", "stopped"),
    [
        ("critical", "severe", "recipient", True),
        ("high", "severe", "unvouched", True),
        ("high", "severe", "recipient", False),
        ("high", "serious", "unvouched", False),
        ("medium", "severe", "unvouched", False),
    ],
)
def test_who_does_severe_harm_and_has_nobody_to_vouch_for_it_is_stopped_first(severity, impact, signal, stopped):
    """It is high and not critical only because one is less sure of who is new."""
    assert suspends(severity, impact, [item(signal, "recipient")]) == stopped


def test_the_next_step_asks_the_person_it_acted_for(alerts):
    asked = [a for a in alerts if a.event.principal and "Ask " in a.next_step and "the owner of" not in a.next_step]
    assert asked
    assert all(a.event.principal in a.next_step for a in asked)
