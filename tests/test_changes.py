"""Changes that harm nobody are named, and make an alert less sure; who hides behind one is raised all the same."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest

from models import budget
from models.state import ALL_BURST, SCORE_BINS, State
from stream import episodes
from stream.alert import Alert, Evidence
from stream.change import explained
from stream.codec import decode, encode
from stream.engine import Engine
from stream.settings import load
from tests.telling import BASE, HISTORY, episode, hostile, scored

DAY = 86400
OFTEN = {"STRAYLINE_ALERTS_PER_DAY": "1000", "STRAYLINE_DOMAINS": "corp.example"}
ids = count()


def call(agent: str, at: float, **given: Any) -> bytes:
    """A read, as every agent of these tests does them."""
    event = {
        "event_id": f"c{next(ids)}", "time": BASE + at, "agent_id": agent, "agent_type": "copilot", "action": "read", "tool": "crm.read",
        "resource": "crm/customers/1", "classification": "internal", "scopes": ["crm:read"], "records": 3, "bytes": 1000,
        "principal": "ada@corp.example", "session_id": f"{agent}-{at // 3600}",
    }  # fmt: skip
    return encode({k: v for k, v in (event | given).items() if v is not None})


def in_order(*records: bytes) -> list[bytes]:
    return sorted(records, key=lambda raw: decode([raw], [0], 1 << 20)[0][0].time)


def last(records: list[bytes], agent: str, **environment: str) -> Alert:
    """The last alert on an agent."""
    return [a for a in scored(records, **(OFTEN | environment)).alerts if a.agent_id == agent][-1]


def named(alert: Alert) -> set[str]:
    return {e.name for e in alert.evidence if not e.event_ids}


def rise(agents: int, times: int = 8, **given: Any) -> list[bytes]:
    """So many agents move more on the third day, the first of them last."""
    usual = [call(f"bot-{a}", 1800 * i + a, bytes=1000 + 40 * (i % 9)) for i in range(96) for a in range(6)]
    more = [
        call(
            f"bot-{a}",
            2 * DAY + 200 * i + 9000 * (agents - a),
            bytes=1000 * times,
            **(given if a == 0 and i > 30 else {}),
        )
        for a in range(agents)
        for i in range(40)
    ]
    return in_order(*usual, *more)


def test_a_rise_of_the_whole_cohort_is_named_and_less_sure_and_one_agent_s_is_not():
    together, alone = last(rise(4), "bot-0"), last(rise(1), "bot-0")
    assert "cohort_rise" in named(together)
    assert "those of 3 of its peers" in together.reason
    assert together.title.endswith(", as its peers do")
    assert "cohort_rise" not in named(alone)
    assert alone.title.endswith(", as its peers do") is False


def test_who_leaks_while_its_cohort_moves_more_is_raised_with_what_speaks_against_it():
    leak = {"action": "send", "classification": "restricted", "recipients": [{"id": "eve@drop.example"}]}
    alert = last(rise(4, **leak), "bot-0")
    assert alert.severity in {"high", "critical"}
    assert "cohort_rise" in named(alert)
    assert "That does not explain " in alert.reason
    assert not alert.title.endswith(", as its peers do")


def test_far_more_than_its_peers_is_not_explained_by_them():
    risen = Evidence("cohort_rise", "volume", "x", "-", 0.0, [], 1, {"peers": 3, "peers_times": 3.0})
    numbers = {"tool": "t", "typical": 100.0}
    little, much = (Evidence("bytes_sum", "volume", x, "-", 20.0, ["e"], 1, numbers) for x in (900.0, 5000.0))
    assert explained(little, [risen]) is risen
    assert explained(much, [risen]) is None
    assert explained(Evidence("clearance", "policy", "x", "-", 20.0, ["e"], 1, {}), [risen]) is None


@pytest.mark.parametrize(("own", "explains"), [("2 of its peers", True), ("nobody", False)])
def test_a_new_type_explains_what_its_new_peers_do_and_nothing_else(own, explains):
    kin = [
        call(
            f"dev-{a}",
            1800 * i + a,
            agent_type="coder",
            tool="git.read",
            resource=f"git/repos/{i % 7}",
            scopes=["git:read"],
        )
        for i in range(48)
        for a in range(4)
    ]
    tool = "git.read" if explains else "vault.read"
    moved = [
        call(
            "bot-1",
            DAY + 60 * i,
            agent_type="coder",
            tool=tool,
            resource=f"{tool[:3]}/repos/{i % 7}",
            scopes=[f"{tool[:3]}:read"],
        )
        for i in range(6)
    ]
    alert = last(in_order(*HISTORY, *kin, *moved), "bot-1")
    assert "new_type" in named(alert)
    assert alert.title.endswith(", its type being new") is explains
    assert ("Ask the owner of coder whether the agent was given this work" in alert.next_step) is explains


def hours(night: bool, day: bool) -> list[bytes]:
    """Ten working days from nine to five; on the eleventh, sessions at night, by day, or both."""
    usual = [
        call("bot-1", DAY * d + 3600 * h + 60, session_id=f"s{d}-{h}")
        for d in (0, 1, 2, 3, 4, 7, 8, 9, 10, 11)
        for h in range(8, 17)
    ]
    peers = [
        call(f"bot-{a}", DAY * d + 3600 * h + 90 * a, session_id=f"p{a}-{d}-{h}")
        for a in (2, 3)
        for d in (0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 14)
        for h in range(8, 17)
    ]
    then = [*(range(8, 17) if day else ()), *(range(19, 24) if night else ())]
    return in_order(
        *usual,
        *peers,
        *(call("bot-1", DAY * 14 + 3600 * h + 1200 * n + 61, session_id=f"l{h}-{n}") for h in then for n in range(3)),
    )


def test_hours_that_moved_are_named_where_the_usual_ones_are_empty():
    moved, beside = last(hours(night=True, day=False), "bot-1"), last(hours(night=True, day=True), "bot-1")
    assert "moved_hours" in named(moved)
    assert moved.title.endswith(", its hours having moved")
    assert "moved_hours" not in named(beside)
    assert moved.confidence <= beside.confidence or moved.severity == beside.severity == "low"


# The budget


def test_what_quiet_weeks_saved_is_not_spent_in_a_day():
    """After a year without an episode, a hundred within an hour: three days' budget are said, and the loudest."""
    state = State(16)
    fleet, body = state["fleet"].head, state["fleet"].body[0]
    fleet["days"] = 365.0
    fleet["bin"] = budget.LOWEST
    said = 0
    for n in range(100):
        loud = 20.0 + (n % 10)
        said += loud >= budget.threshold(fleet)
        budget.count(fleet, body, -1.0, loud, 1.0, 36.0 * n, 5.0)
    assert 10 <= said <= 30
    assert budget.threshold(fleet) > 25
    assert body[ALL_BURST : ALL_BURST + SCORE_BINS].max() > 90


def test_an_episode_is_counted_at_the_threshold_at_which_it_would_just_be_said():
    assert budget.loudness(12.0, 0.0, False) == pytest.approx(8.0)
    assert budget.loudness(12.0, 5.0, False) == pytest.approx(10.0)
    assert budget.loudness(12.0, 50.0, False) == budget.loudness(12.0, 0.0, True) == 12.0


# What an event repeats, and what is bounded


def test_an_address_that_an_event_lists_fifty_times_is_one_recipient():
    eve = {"id": "eve@drop.example", "type": "email", "clearance": "public"}
    many, one = (episode([hostile(0, "x", recipients=[eve] * n)])[-1] for n in (50, 1))
    assert (many.title, many.reason, many.exposure, many.score) == (one.title, one.reason, one.exposure, one.score)


def test_an_alert_says_which_permissions_were_used():
    alert = episode([hostile(0, "x", scopes=2), hostile(1, "y")])[-1]
    assert alert.exposure.scopes == ["scope00x", "scope01x", "scope10y"]


def test_open_episodes_are_bounded_and_those_that_were_said_stay_longest(monkeypatch):
    monkeypatch.setattr(episodes, "MOST_OPEN", 8)
    engine = Engine(load(OFTEN))
    records = [*HISTORY, *(encode(hostile(n, "x", agent_id=f"new-{n:02}")) for n in range(40))]
    engine.score(engine.decode(records, range(len(records))))
    assert 0 < len(engine.episodes.open) <= 9
    assert "new-39" in engine.episodes.open
    assert engine.episodes.waiting == sum(len(x.waiting) for x in engine.episodes.open.values())
    assert np.isfinite(engine.threshold)
