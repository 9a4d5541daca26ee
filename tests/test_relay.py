"""Alerts of agents that hand data to each other name each other, whichever comes first."""

from __future__ import annotations

from typing import Any

import pytest

from stream.alert import SEVERITIES, Alert
from stream.codec import encode
from stream.engine import Engine
from stream.settings import load
from tests.telling import HISTORY, hostile


def steals(agent: int, begin: int, to: dict[str, Any], **given: Any) -> list[dict[str, Any]]:
    """Two strange events of an agent, which send what it has to somebody."""
    to = to | {"clearance": "public"}
    return [hostile(begin + n, f"-{agent}", agent_id=f"bot-{agent}", recipients=[to], **given) for n in range(2)]


def last_words(*events: dict[str, Any], benign: str = "", cut: int = 10_000) -> dict[str, Alert]:
    """The last revision of each agent's alert; an alert of agent `benign` is called so as soon as it is there."""
    engine, last = Engine(load({"STRAYLINE_ALERTS_PER_DAY": "1000"})), {}
    records = [*HISTORY, *map(encode, events)]
    for first in range(0, len(records), cut):
        part = records[first : first + cut]
        for alert in engine.score(engine.decode(part, range(first, first + len(part)))).alerts:
            last[alert.agent_id] = alert
            if alert.agent_id == benign:
                engine.episodes.heed(benign, alert.alert_id, benign=True)
    return last


def named(alert: Alert) -> list[str]:
    return [a for e in alert.evidence if e.name == "relay" for a in e.baseline["alerts"]]


BOT_2, OUT = {"id": "bot-2", "type": "agent"}, {"id": "eve@drop.example", "type": "email"}


@pytest.mark.parametrize("cut", [1, 10_000])
@pytest.mark.parametrize("giver_first", [True, False])
def test_two_halves_of_a_relay_name_each_other(giver_first, cut):
    """Who gave, and who got; the one that was there before says so in a further revision."""
    give, send = (steals(1, 0, BOT_2), steals(2, 4, OUT)) if giver_first else (steals(1, 4, BOT_2), steals(2, 0, OUT))
    alerts = last_words(*sorted([*give, *send], key=lambda e: e["time"]), cut=cut)
    one, two = alerts["bot-1"], alerts["bot-2"]
    assert named(one) == [two.alert_id]
    assert named(two) == [one.alert_id]
    for mine, done, other in ((one, "It gave data to bot-2", two), (two, "It was given data by bot-1", one)):
        said = mine.reason.partition(f" {done} (alert {other.alert_id}, ")[2].partition("): look at them together.")[0]
        severity, _, told = said.partition(": it ")
        assert severity in SEVERITIES[: SEVERITIES.index(other.severity) + 1]  # as bad as it was by then
        assert told.startswith("shows restricted data to 1 ")


@pytest.mark.parametrize("cut", [1, 10_000])
def test_who_has_passed_it_on_is_not_to_be_stopped_before_it_does(cut):
    """Whom it has sent to since stands in the other alert, and here as well; what it sent before it was given anything is no passing on."""
    give, send = steals(1, 0, BOT_2), steals(2, 4, OUT)
    since = last_words(*give, *send, cut=cut)
    step = since["bot-1"].next_step
    assert "before it passes" not in step
    assert f"has sent data since, to eve@drop.example (alert {since['bot-2'].alert_id}): look there first" in step
    give, send = steals(1, 4, BOT_2), steals(2, 0, OUT)
    before = last_words(*send, *give, cut=cut)["bot-1"]
    assert named(before)
    assert "top bot-2 before it passes" in before.next_step


def test_agents_that_gave_each_other_nothing_are_not_linked():
    """As where it was denied, or where an alert was called benign, of which no more is said."""
    send = steals(2, 4, OUT)
    for give, benign in (
        (steals(1, 0, OUT), ""),
        (steals(1, 0, BOT_2, outcome="denied"), ""),
        (steals(1, 0, BOT_2), "bot-1"),
    ):
        alerts = last_words(*give, *send, benign=benign, cut=1)
        assert not named(alerts["bot-1"])
        assert not named(alerts["bot-2"])
        assert alerts["bot-1"].revision < 3


def test_a_link_is_not_lost_when_the_other_alert_has_ended():
    """Though it can no longer be looked up."""
    later = [e | {"time": e["time"] + 3.9 * 3600} for e in steals(2, 8, OUT)]
    far = [e | {"time": e["time"] + 7 * 3600} for e in steals(2, 12, OUT)]
    alerts = last_words(*steals(1, 0, BOT_2), *steals(2, 4, OUT), *later, *far)
    assert named(alerts["bot-2"]) == [alerts["bot-1"].alert_id]
    assert (
        alerts["bot-2"].exposure.events == 5
    )  # its fifth is said, and came when the other had been quiet for seven hours
