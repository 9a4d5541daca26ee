"""Changes that harm nobody are named, and make an alert less sure; who hides behind one is raised all the same."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest

from models import budget
from models.schema import ALL_BURST, SCORE_BINS
from models.state import State
from stream import episodes
from stream.alert import Alert, Evidence
from stream.change import against, explained
from stream.codec import decode, encode
from stream.engine import Engine
from stream.settings import load
from stream.severity import CONFIDENCES, certainty
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


def off_beat(n: int) -> int:
    """Seconds within an hour, by chance: what comes on a beat is judged as a series."""
    return n * 2654435761 % (1 << 32) * 3600 >> 32


def rise(agents: int, **given: Any) -> list[bytes]:
    """So many agents move eight times as much on the fifth day, the first of them last, who does `given` in the end."""
    usual = [
        call(f"bot-{a}", 4800 * (i // 4) + 20 * (i % 4) + off_beat(i // 4 + a), bytes=1000 + 40 * (i % 9))
        for i in range(288)
        for a in range(6)
    ]
    more = [
        call(
            f"bot-{a}", 4 * DAY + 190 * i + off_beat(i) // 40 + 9000 * (agents - a), bytes=8000, **(given if a == 0 and i > 30 else {})
        )
        for a in range(agents)
        for i in range(40)
    ]  # fmt: skip
    return in_order(*usual, *more)


def test_a_rise_of_the_whole_cohort_is_named_and_less_sure_then_quiet_and_one_agent_s_is_not():
    said = scored(rise(4), **OFTEN).alerts
    before = {a.agent_id: a for a in said if "cohort_rise" not in named(a) and a.time > "2026-03-06"}
    together, alone = next(a for a in said if "cohort_rise" in named(a)), last(rise(1), "bot-0")
    assert together.agent_id == "bot-1"  # the third of the four; two make no cohort
    assert "those of 2 of its peers" in together.reason
    assert together.title.endswith(", as its peers do")
    sure = certainty(together.score, together.threshold, excused=False)
    assert CONFIDENCES.index(together.confidence) == sure - 1
    assert "bot-0" not in before
    assert "cohort_rise" not in named(alone)
    assert not alone.title.endswith(", as its peers do")


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


def test_what_a_change_explains_in_part_is_not_said_to_be_unexplained():
    """Else the title says "as its peers do", and the sentence that it is not what they do."""
    peers = Evidence("rollout", "scope", "x", "-", 0.0, [], 1, {"peers": 2, "began": ["use b at other steps"]})
    same, other = (
        Evidence("transition", "sequence", f"from a to {tool}", "-", 20.0, ["e"], 1, {"own": 0.0}) for tool in "bc"
    )
    sent = Evidence("recipient", "recipient", "eve@drop.example", "-", 20.0, ["e"], 1, {"own": 0.0})
    assert against([same], [peers]) == ""
    assert against([other], [peers]) == "the order of its steps"
    assert against([same, other, sent], [peers]) == "all of the order of its steps, or who receives it"


@pytest.mark.parametrize("explains", [True, False])
def test_a_new_type_explains_what_its_new_peers_do_and_nothing_else(explains):
    kin = [
        call(f"dev-{a}", 1190 * i + off_beat(97 * i + a), agent_type="coder", tool="git.read", resource=f"git/repos/{i % 7}", scopes=["git:read"], principal=f"dev{a}@corp.example")
        for i in range(72)
        for a in range(4)
    ]  # fmt: skip
    kind = "git" if explains else "vault"
    moved = [
        call("bot-1", DAY + 60 * i, agent_type="coder", tool=f"{kind}.read", resource=f"{kind}/repos/{i % 7}", scopes=[f"{kind}:read"])
        for i in range(8)
    ]  # fmt: skip
    said = [a for a in scored(in_order(*HISTORY, *kin, *moved), **OFTEN).alerts if a.agent_id == "bot-1"]
    if explains:
        assert all(a.severity == "low" and "new_type" in named(a) for a in said)
    else:
        assert "new_type" in named(said[-1])
        assert "That does not explain what it uses and touches" in said[-1].reason
        assert not said[-1].title.endswith(", its type being new")
        assert said[-1].confidence == CONFIDENCES[certainty(said[-1].score, said[-1].threshold, excused=False)]


def test_a_new_type_explains_tools_that_peers_use_unless_something_left_the_organisation():
    new = Evidence("new_type", "scope", "x", "-", 0.0, [], 1, {"seconds": 60})
    out = Evidence("new_type", "scope", "x", "-", 0.0, [], 1, {"seconds": 60, "outside": True})
    known, unknown = (
        Evidence("tool", "scope", "t", "-", 12.0, ["e"], 1, {"own": 0.0, "of": 50, "peers": peers})
        for peers in (4.0, 0.0)
    )
    assert explained(known, [new]) is new
    assert explained(known, [out]) is None
    assert explained(unknown, [new]) is None


def hours(*, by_day: bool) -> list[bytes]:
    """Ten working days from eight to five; on the eleventh, sessions at night, and by day too or not."""
    days, work = (0, 1, 2, 3, 4, 7, 8, 9, 10, 11), range(8, 17)

    def begin(agent: str, day: int, hour: int, n: int = 0) -> bytes:
        at = DAY * day + 3600 * hour + off_beat(997 * day + 31 * hour + 7 * n + int(agent[-1]))
        return call(agent, at, session_id=f"{agent}-{day}-{hour}-{n}")

    past = [
        begin(f"bot-{a}", d, h, n)
        for a in (1, 2, 3)
        for d in days
        for h in work
        for n in range(off_beat(d + h + a) % 3)
    ]
    peers = [begin(f"bot-{a}", 14, h) for a in (2, 3) for h in work]
    own = [begin("bot-1", 14, h, n) for h in (*(work if by_day else ()), *range(19, 24)) for n in range(3)]
    return in_order(*past, *peers, *own)


def test_hours_that_moved_are_named_where_the_usual_ones_are_empty():
    moved, beside = (last(hours(by_day=by_day), "bot-1") for by_day in (False, True))
    assert "moved_hours" in named(moved)
    assert moved.title.endswith(", its hours having moved")
    assert "moved_hours" not in named(beside)
    assert CONFIDENCES.index(moved.confidence) < CONFIDENCES.index(beside.confidence)


@pytest.mark.parametrize("given", [True, False])
def test_that_an_agent_acts_for_other_people_is_named_and_one_session_for_a_stranger_is_not(given):
    """Its work was given to a team of which it knew nobody; or one of them used it, for long."""
    past = [
        call(
            f"bot-{a}", 1800 * i + off_beat(i + a) // 4, principal=f"person{i % 4}@corp.example", session_id=f"s{a}-{i}"
        )
        for a in (1, 2, 3)
        for i in range(200)
    ]
    now = [
        call("bot-1", 5 * DAY + 1800 * (i if given else 0) + 20 * i, principal=f"new{i % 4 if given else 0}@corp.example", session_id=f"n-{i if given else 0}")
        for i in range(8)
    ]  # fmt: skip
    odd = call("bot-1", 5 * DAY + 18000, principal="new0@corp.example", session_id="n-0", action="send", tool="mail.send", scopes=["mail:send"], recipients=[{"id": "eve@drop.example"}], bytes=900000)  # fmt: skip
    alert = last(in_order(*past, *now, odd), "bot-1")
    assert ("new_people" in named(alert)) is given
    assert ("its work may have changed" in alert.reason) is given


@pytest.mark.parametrize("day", [0, 6])
def test_that_an_agent_is_new_is_named_but_not_in_the_first_days_when_all_are(day):
    ordinary = [call(f"bot-{a}", 1800 * i + off_beat(i + a) // 4) for a in (1, 2, 3) for i in range(340)]
    first = [call("bot-9", day * DAY + 600 * i) for i in range(5)]
    odd = call("bot-9", day * DAY + 4000, action="send", tool="mail.send", scopes=["mail:send"], classification="restricted", recipients=[{"id": "eve@drop.example"}], bytes=900000)  # fmt: skip
    said = [a for a in scored(in_order(*ordinary, *first, odd), **OFTEN).alerts if a.agent_id == "bot-9"]
    assert bool(said) is (day > 0)  # on the first day nothing is known
    assert all("new_agent" in named(a) and "The agent is new, known for 66 minutes" in a.reason for a in said)


# The budget


def test_what_quiet_weeks_saved_is_not_spent_in_a_day():
    """After a year without an episode, a hundred within an hour: three days' budget are said, and the loudest."""
    state = State(16)
    fleet, body = state["fleet"].head, state["fleet"].body[0]
    fleet["watched"] = 365.0
    fleet["bin"] = budget.LOWEST
    said = 0
    for n in range(100):
        loud = 20.0 + (n % 10)
        said += loud >= budget.threshold(fleet)
        budget.count(fleet, body, -1.0, loud, 1.0, 36.0 * n, 5.0)
    assert 15 <= said <= 50  # of those that are as loud as the threshold, not all can be kept back
    assert budget.threshold(fleet) > 28
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
    assert alert.exposure.scopes == ["scope00x", "scope10x", "scope01y"]


def test_open_episodes_are_bounded_and_those_that_were_said_stay_longest(monkeypatch):
    monkeypatch.setattr(episodes, "MOST_OPEN", 8)
    engine = Engine(load(OFTEN | {"STRAYLINE_ALERTS_PER_DAY": "1"}))  # which the first of them spends
    records = [*HISTORY, *(encode(hostile(n, "x", agent_id=f"new-{n:02}" if n else "bot-1")) for n in range(40))]
    engine.score(engine.decode(records, range(len(records))))
    assert 0 < len(engine.episodes.open) <= 9
    assert engine.episodes.open["bot-1"].revision
    assert engine.episodes.waiting == sum(len(x.waiting) for x in engine.episodes.open.values())
    assert np.isfinite(engine.threshold)
