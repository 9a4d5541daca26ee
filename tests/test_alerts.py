"""An alert holds to the contract, and its words to its evidence."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import msgspec
import pytest

from models.signals import KINDS
from stream.alert import SEVERITIES, alert_id, decode_alert
from stream.codec import encode
from stream.demo import HOME
from stream.engine import Engine
from stream.settings import load
from stream.simulate import lines, simulate
from tests.telling import rendered

DAY = 86400.0


@pytest.fixture(scope="module")
def simulation():
    return simulate(2, 24, 14)


@pytest.fixture(scope="module")
def alerts(simulation):
    engine = Engine(replace(load({}), domains=(HOME,)))
    records = list(lines(simulation))
    return engine.score(engine.decode(records, range(len(records)))).alerts


def test_every_field_is_as_the_contract_says(simulation, alerts):
    ids = {e["event_id"] for e in simulation.events}
    assert alerts
    for alert in alerts:
        wire = json.loads(encode(alert))
        for name in ("time", "first_event_time", "last_event_time"):
            assert datetime.fromisoformat(wire[name]).utcoffset().total_seconds() == 0
        assert wire["first_event_time"] <= wire["last_event_time"]
        assert wire["severity"] in SEVERITIES
        assert wire["kinds"]
        assert set(wire["kinds"]) <= set(KINDS)
        assert "\n" not in wire["title"] + wire["reason"]
        assert wire["evidence"]
        for item in wire["evidence"]:
            assert {"name", "observed", "expected", "bits", "event_ids"} <= set(item)
            assert set(item["event_ids"]) <= ids
        assert {"records", "bytes", "classifications", "resources", "recipients"} <= set(wire["exposure"])
        assert all({"framework", "id", "name"} == set(t) for t in wire["techniques"])
        assert wire["techniques"]


def test_revisions_count_from_one_without_gaps(alerts):
    last: dict[str, int] = {}
    for alert in alerts:
        assert alert.revision == last.get(alert.alert_id, 0) + 1
        last[alert.alert_id] = alert.revision


def test_an_alert_opens_over_its_threshold_and_no_score_falls(alerts):
    score: dict[str, float] = {}
    for alert in alerts:
        assert alert.score >= alert.threshold
        assert alert.score >= score.get(alert.alert_id, 0.0)
        score[alert.alert_id] = alert.score


def test_the_reason_is_made_of_the_alert_s_own_evidence(alerts):
    """Rendered again from the JSON it is the same; with other evidence it is not."""
    for alert in alerts:
        a = decode_alert(encode(alert))
        assert rendered(a) == alert.reason
        strongest = msgspec.structs.replace(a.evidence[0], name="clearance", observed="something else was seen")
        assert rendered(a, [strongest, *a.evidence[1:]]) != alert.reason


def test_the_id_is_a_function_of_agent_and_first_event():
    assert alert_id("a", "1") == alert_id("a", "1")
    assert (
        len({alert_id("a", "1"), alert_id("a", "2"), alert_id("b", "1"), alert_id("a1", ""), alert_id("a", "1:")}) == 5
    )


def history(n: int = 300) -> list[dict[str, object]]:
    return [
        {
            "event_id": f"e{i}", "time": 1772409600 + i * 600, "agent_id": f"bot-{i % 3}", "agent_type": "copilot",
            "action": "read", "tool": "crm.read", "resource": f"crm/customers/{i % 7}", "classification": "internal",
            "scopes": ["crm:read"], "records": 3, "bytes": 1000, "principal": "ada@corp.example", "session_id": f"s{i // 30}",
        }
        for i in range(n)
    ]  # fmt: skip


def leak(name: str, recipients: int = 1) -> dict[str, object]:
    return {
        "event_id": "odd", "time": 1772409600 + 301 * 600, "agent_id": "bot-1", "agent_type": "copilot",
        "action": "send", "tool": name, "resource": name, "classification": "restricted", "scopes": [name],
        "records": 9e5, "bytes": 1e12, "principal": "ada@corp.example", "session_id": "s99", "approved": False,
        "recipients": [{"id": f"{name}{j}", "type": "email", "clearance": "public", "size": 100} for j in range(recipients)],
    }  # fmt: skip


def tell(events: list[dict[str, object]]):
    engine = Engine(load({}))
    records = [encode(e) for e in events]
    return engine, engine.score(engine.decode(records, range(len(records))))


@pytest.mark.parametrize("name", ["x\ny", "\x1b[31mred", "\u202egnp.exe", "a\x00b", "\x07" * 500, "ü" * 8000])
def test_no_name_can_break_the_words(name):
    """Names come from outside: what is shown is printable, on one line and of bounded length."""
    _, done = tell([*history(), leak(name)])
    alert = next(a for a in done.alerts if a.agent_id == "bot-1")
    assert (alert.title + alert.reason).isprintable()
    assert len(alert.reason) < 4000


def test_an_alert_stays_small_whatever_the_event():
    """A broker takes at most 4 MiB of it."""
    _, done = tell([*history(), leak("\x01" * 60, 1500)])
    assert done.alerts
    assert max(len(encode(a)) for a in done.alerts) < 1 << 20
    assert done.alerts[-1].exposure.people_below_clearance == 150_000


def test_what_joins_an_open_alert_is_counted():
    events = [
        *history(),
        *(leak("drop") | {"event_id": f"odd{i}", "time": 1772409600 + 301 * 600 + i} for i in range(9)),
    ]
    engine, done = tell(events)
    last = {a.alert_id: a for a in done.alerts if a.agent_id == "bot-1"}
    assert len(last) == 1
    assert next(iter(last.values())).exposure.events == 5  # said at 1, 2 and 5; the rest when the episode ends
    assert done.merged == 8
    assert [a.exposure.events for a in engine.episodes.lapse(1e12)] == [9]


def test_a_young_agent_s_alert_says_so():
    events = history()
    newcomer = [
        leak("drop") | {"event_id": f"n{i}", "agent_id": "bot-new", "time": 1772409600 + 301 * 600 + i}
        for i in range(3)
    ]
    _, done = tell([*events, *newcomer])
    alert = next(a for a in done.alerts if a.agent_id == "bot-new")
    assert alert.warming
    assert " It is new, so it is judged mostly by what its peers do." in alert.reason


def test_a_repeated_event_raises_no_second_alert():
    """At-least-once producers send twice."""
    once, twice = tell([*history(), leak("drop")])[1], tell([*history(), leak("drop"), leak("drop")])[1]
    assert [encode(a) for a in twice.alerts] == [encode(a) for a in once.alerts]


# Ways to hide that were tried on it.


def test_an_agent_cannot_hide_behind_one_of_its_own_event_ids():
    """A repeat has the same content; the same id with other content is another event."""
    _, done = tell([*history(), leak("drop") | {"event_id": "e298"}])
    assert [a.agent_id for a in done.alerts] == ["bot-1"]


def test_two_made_up_agents_cannot_carry_the_clock_away():
    """Names can be made up, histories cannot."""
    far = [
        {"event_id": f"far{i}", "agent_id": f"made-up-{i}", "action": "read", "time": 253402300000 + i}
        for i in range(2)
    ]
    engine, done = tell([*history(), *far, leak("drop")])
    assert engine.state.fleet["skewed"] == 2
    assert [a.agent_id for a in done.alerts] == ["bot-1"]


def test_a_number_that_no_float_holds_stops_nothing():
    """Attributes are shown, never trusted, and not even parsed until they are shown."""
    engine = Engine(load({}))
    records = [*map(encode, history()), encode(leak("drop"))[:-1] + b',"attributes":{"x":1e999}}']
    done = engine.score(engine.decode(records, range(len(records))))
    assert done.alerts[-1].event.attributes == {"x": "1e999"}


def test_an_event_cannot_name_its_own_home():
    """Where the organisation's domains are given, they are the authority."""
    odd = leak("drop") | {
        "principal": "m@evil.example",
        "recipients": [{"id": "x@evil.example", "type": "email", "clearance": "public"}],
    }
    engine = Engine(replace(load({}), domains=("corp.example",)))
    records = [*map(encode, history()), encode(odd)]
    done = engine.score(engine.decode(records, range(len(records))))
    assert "T1567" in {t.id for t in done.alerts[-1].techniques}  # exfiltration, and not a leak inside
