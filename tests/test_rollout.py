"""What a cohort begins to do at once is said once, as that."""

from __future__ import annotations

from typing import Any

import pytest

from stream.alert import Alert
from stream.codec import encode
from stream.rollout import MOST, SECONDS, Rollouts
from tests.telling import BASE, HISTORY, scored

HOUR = 3600


def began(agent: int, hours: float, *, tool: str = "flags.read", **given: Any) -> list[bytes]:
    """An agent calls a new tool four times, so many hours after the ordinary day."""
    return [
        encode(
            {
                "event_id": f"new-{agent}-{hours}-{i}", "time": BASE + 24 * HOUR + hours * HOUR + 60 * i, "agent_id": f"bot-{agent}",
                "agent_type": "copilot", "agent_version": "2.0", "action": "read", "tool": tool, "resource": f"crm/customers/{i}", "classification": "internal",
                "scopes": ["flags:read"], "records": 3, "bytes": 1000, "principal": "ada@corp.example", "session_id": f"new-{agent}-{hours}",
            }
            | given
        )
        for i in range(4)
    ]  # fmt: skip


def told(*events: list[bytes]) -> dict[str, Alert]:
    """Last revision of the last alert of each agent."""
    done = scored([*HISTORY, *(e for each in events for e in each)], STRAYLINE_ALERTS_PER_DAY="30")
    return {a.agent_id: a for a in done.alerts if a.event.event_id.startswith("new-")}


def rollout(alert: Alert) -> str:
    return next((str(e.observed) for e in alert.evidence if e.name == "rollout"), "")


def test_the_third_agent_s_alert_names_the_change_and_is_less_sure():
    alerts = told(began(1, 1), began(2, 2), began(3, 3))
    first, second, third = (alerts[f"bot-{n}"] for n in (1, 2, 3))
    assert not rollout(first)
    assert rollout(second).startswith("one of its peers (bot-1; of version 2.0 too) began to ")
    assert "a change to all" not in rollout(second)
    assert rollout(third).startswith("2 of its peers (bot-1 and bot-2; all of version 2.0 too) began to ")
    assert f"Meanwhile, {rollout(third)}." in third.reason
    assert third.title.endswith(", as its peers do")
    assert "treat the 3 agents as one incident" in third.next_step
    assert third.severity == "low"


def test_once_said_it_is_not_said_again():
    """Nor is it where each agent begins something else; there, each has its alert."""
    same = told(*(began(n, n) for n in range(1, 8)))
    apart = told(*(began(n, n, tool=f"flags.read{n}", scopes=[f"flags{n}:read"]) for n in range(1, 8)))
    assert {"bot-1", "bot-2", "bot-3"} <= set(same)
    assert not {"bot-5", "bot-6", "bot-7"} & set(same)
    assert len(apart) == 7


def test_serious_harm_is_said_whatever_peers_do():
    outside = {"action": "send", "classification": "restricted", "recipients": [{"id": "eve@drop.example"}]}
    alerts = told(*(began(n, n) for n in range(1, 5)), began(5, 5, **outside))
    assert alerts["bot-5"].severity in {"high", "critical"}


@pytest.mark.parametrize("other", [{"agent_type": "reviewer"}, {"agent_type": None}])
def test_another_cohort_is_no_peer(other):
    given = {k: v for k, v in other.items() if v is not None}
    strangers = [began(n, n, **given) for n in (1, 2)]
    if other["agent_type"] is None:
        strangers = [[e.replace(b'"agent_type":"copilot",', b"") for e in each] for each in strangers]
    assert not rollout(told(*strangers, began(3, 5))["bot-3"])


def test_agents_without_a_type_that_were_found_to_do_the_same_are_peers():
    """The same events, with no type in them."""
    events = [*HISTORY, *(e for n in (1, 2, 3) for e in began(n, n))]
    bare = [e.replace(b'"agent_type":"copilot",', b"") for e in events]
    assert bare != events
    done = scored(bare, STRAYLINE_ALERTS_PER_DAY="30")
    alerts = {a.agent_id: a for a in done.alerts if a.event.event_id.startswith("new-")}
    assert rollout(alerts["bot-3"]).startswith("2 of its peers (bot-1 and bot-2; all of version 2.0 too) began to ")
    assert "treat the 3 agents as one incident" in alerts["bot-3"].next_step


def test_after_three_days_it_is_another_story():
    rollouts = Rollouts()
    rollouts.note("copilot", "bot-1", ["use x"], 0.0, None)
    assert rollouts.peers("copilot", "bot-2", "use x", SECONDS)
    assert not rollouts.peers("copilot", "bot-2", "use x", SECONDS + 1)


def test_what_is_kept_is_bounded_and_the_oldest_gives_way():
    rollouts = Rollouts()
    for n in range(MOST + 50):
        rollouts.note("copilot", f"bot-{n}", ["use x"], float(n), None)
    assert len(rollouts.began) == MOST
    assert rollouts.peers("copilot", "other", "use x", float(MOST + 50))[0].agent_id == "bot-50"


def linked(alert: Alert) -> list[str]:
    """Agents with whose alerts it is linked, by whom they reached."""
    return [a for e in alert.evidence if e.name == "same_recipient" for a in e.baseline["agents"]]


def test_alerts_that_reach_the_same_stranger_are_linked_and_nothing_is_excused_by_it():
    """Of whatever type their agents are; not to another stranger, nor to one of the organisation, nor where all was denied."""
    drop, other, home = (
        {"recipients": [{"id": id_, "type": "email"}], "action": "send"}
        for id_ in ("mal@drop.example", "mal@other.example", "bo@corp.example")
    )
    first = began(1, 1, **drop)
    alerts = told(first, began(2, 2, **drop, agent_type="reviewer"))
    assert linked(alerts["bot-1"]) == []
    assert linked(alerts["bot-2"]) == ["bot-1"]
    said = "mal@drop.example has been reached by bot-1 in these days as well, in alerts of their own: look at them together."
    assert said in alerts["bot-2"].reason
    third = told(first, began(2, 2, **drop, agent_type="reviewer"), began(3, 3, **drop, agent_type="clerk"))["bot-3"]
    assert "has been reached by bot-1 and bot-2 in these days" in third.reason
    alone = told(began(2, 2, **drop, agent_type="reviewer"))["bot-2"]
    assert (alerts["bot-2"].severity, alerts["bot-2"].confidence) == (alone.severity, alone.confidence)
    for second in (began(2, 2, **other), began(2, 2, **drop, outcome="denied")):
        assert linked(told(first, second)["bot-2"]) == []
    assert linked(told(began(1, 1, **home), began(2, 2, **home))["bot-2"]) == []


def test_who_reached_it_without_an_alert_is_not_said_to_have_one():
    """One that writes to somebody new now and then: strange enough to be kept, and not to be told of."""

    def mail(n: int, to: str = "") -> bytes:
        event = {
            "event_id": f"m{n}", "time": BASE + 420 * n, "agent_id": "mailer", "agent_type": "mailer", "action": "send" if to else "read", "tool": "mail.send" if to else "crm.read",
            "resource": "crm/customers/1", "classification": "public", "records": 1, "bytes": 1000, "principal": "ada@corp.example", "session_id": f"m{n // 6}",
        }  # fmt: skip
        return encode(event | ({"recipients": [{"id": to, "type": "email"}]} if to else {}))

    usual = [mail(n, f"c{n}@new{n}.example" if n % 100 == 0 else "") for n in range(400)]
    drop = {"recipients": [{"id": "mal@drop.example", "type": "email"}], "action": "send", "agent_type": "reviewer"}
    strange = [mail(401, "mal@drop.example"), *began(2, 24, **drop)]
    done = scored([*HISTORY, *usual, *strange], STRAYLINE_ALERTS_PER_DAY="30")
    assert done.score[-5] > 3.5  # the threshold
    assert {a.agent_id for a in done.alerts if a.time > "2026-03-04"} == {"bot-2"}
    assert all(linked(a) == [] for a in done.alerts)


def test_an_alert_on_a_stranger_that_the_agent_has_reached_in_one_before_says_so():
    """A drip is one story, though days lie between."""

    def before(*recipients: str) -> list[bool]:
        days = []
        for n, r in enumerate(recipients):
            given = {"action": "send", "recipients": [{"id": r, "type": "email"}], "classification": "restricted"}
            days += [*began(1, 20.0 + 40 * n, **given), *began(2, 40.0 + 40 * n, tool="crm.read", scopes=["crm:read"])]
        done = scored([*HISTORY, *days], STRAYLINE_ALERTS_PER_DAY="30")
        last = {a.alert_id: a for a in done.alerts if a.event.event_id.startswith("new-1-")}
        assert len(last) == len(recipients)
        return ["in an alert 39 hours before as well: look at them together" in a.reason for a in last.values()]

    assert before("mal@drop.example", "mal@drop.example") == [False, True]
    assert before("mal@drop.example", "eve@other.example") == [False, False]
