"""What an agent left alone for weeks and uses again is strange, and what it uses now and then is not; nor is a holiday. Approvals likewise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from models.signals import INDEX
from stream.alert import Alert, Evidence
from stream.codec import encode
from tests.telling import BASE, rendered, scored

DAY = 86400


def did(day: float, number: int = 0, agent: int = 0, tool: str = "crm.read", **given: Any) -> dict[str, Any]:
    """One call in a session of that day."""
    return {
        "event_id": f"{agent}-{day}-{tool}-{number}", "time": BASE + day * DAY + agent + 60 * number, "agent_id": f"bot-{agent}", "agent_type": "copilot",
        "action": "read", "tool": tool, "resource": "crm/customers", "classification": "internal", "scopes": [tool.split(".", maxsplit=1)[0] + ":read"],
        "records": 3, "bytes": 1000, "principal": "ada@corp.example", "session_id": f"s-{agent}-{day}",
    } | given  # fmt: skip


def weeks(days: Iterable[int], seldom: Iterable[int] = (), **given: Any) -> list[dict[str, Any]]:
    """Six agents at work on these days, and agent 0 restoring from the archive on some of them."""
    rare = set(seldom)
    return [
        event
        for day in days
        for agent in range(6)
        for event in [did(day, n, agent, **given) for n in range(5)]
        + [did(day, 5, 0, "archive.restore")] * (agent == 0 and day in rare)
    ]


def alerts(events: Sequence[dict[str, Any]]) -> list[Alert]:
    done = scored([*map(encode, sorted(events, key=lambda e: e["time"]))], STRAYLINE_ALERTS_PER_DAY="1000")
    assert not done.rejects
    return done.alerts


def said(name: str, found: Sequence[Alert]) -> list[Evidence]:
    return [e for a in found for e in a.evidence if e.name == name]


LAST = [did(24, n, 0, "archive.restore") for n in range(7)]


def test_a_permission_that_was_left_alone_for_weeks_is_said_with_its_days():
    found = alerts(weeks(range(24), seldom=(0, 1, 2)) + LAST)
    (last,) = [a for a in found if said("dormancy", [a])][-1:]
    first, others = said("dormancy", [last])
    for dormant in (first, others):
        assert dormant.baseline["days"] == pytest.approx(22, abs=0.1)
        assert dormant.observed == "archive.restore"
    assert rendered(last).count("it has used archive.restore again, after leaving it alone for 22 days") == 1
    assert first.event_ids == [LAST[0]["event_id"]]
    assert LAST[1]["event_id"] in others.event_ids


def test_once_the_sitting_is_over_what_was_dormant_is_awake():
    """The next task of its kind is none that was left alone."""
    again = did(24, 60 * 5, 0, "archive.restore")
    found = alerts([*weeks(range(24), seldom=(0, 1, 2)), LAST[0], again])
    assert [i for e in said("dormancy", found) for i in e.event_ids if i == again["event_id"]] == []
    soon = did(24, 60 * 3, 0, "archive.restore")
    found = alerts([*weeks(range(24), seldom=(0, 1, 2)), LAST[0], soon])
    assert soon["event_id"] in [i for e in said("dormancy", found) for i in e.event_ids]


@pytest.mark.parametrize(
    "events",
    [
        weeks(range(24), seldom=range(0, 24, 8)) + LAST,  # it is used now and then
        weeks([0, 1, 2, 23], seldom=(0, 1, 2)) + LAST,  # nobody worked in between
        weeks(range(24)) + LAST,  # it was never used before: that is news, and another signal's
    ],
)
def test_what_is_used_now_and_then_is_not_dormant_nor_is_anything_after_a_holiday_nor_what_is_new(events):
    assert not said("dormancy", alerts(events))


def posts(approved: Sequence[bool | None]) -> list[dict[str, Any]]:
    """An agent posts once a day, and somebody approved it, or nobody, or it is not told."""
    return weeks(range(len(approved))) + [
        did(day, 9, 0, "channels.post", action="send", **({} if one is None else {"approved": one}))
        for day, one in enumerate(approved)
    ]


def paid(events: Sequence[dict[str, Any]]) -> float:
    """Bits of the approval beyond the usual, in the last post's score: what it has more than the same post approved."""
    records = [*map(encode, sorted(events, key=lambda e: e["time"]))]
    return float(scored(records).score[-1])


def test_a_call_that_is_always_approved_and_is_not_this_time_is_strange():
    usual = [True] * 25
    assert paid(posts([*usual, False])) > paid(posts([*usual, True])) + 1
    found = [a for a in alerts(posts([*usual, False])) if said("unapproved", [a])]
    if found:
        assert "calls of that tool that tell" in rendered(found[-1])


def test_where_approvals_are_not_told_of_or_seldom_given_none_is_missed():
    assert paid(posts([None] * 26)) == paid(posts([None] * 25 + [True]))
    assert paid(posts([True] * 25 + [None])) <= paid(posts([True] * 26)) + 0.01  # it is not known
    assert paid(posts([False] * 25 + [True])) <= paid(posts([False] * 26)) + 0.01  # an approval is no offence
    assert paid(posts([True, False] * 13)) < paid(posts([True] * 25 + [False]))


def test_both_are_signals_of_their_own_group():
    assert {"dormancy", "unapproved"} <= INDEX.keys()
