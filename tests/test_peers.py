"""What is said of an agent's peers: no more than is known, and of who has none that it has none."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from stream import clauses
from stream.alert import Evidence
from stream.codec import encode
from stream.company import Company, no_peers
from tests.telling import BASE, HISTORY, hostile, scored


def test_nothing_is_said_of_peers_where_an_agent_has_none(alerts):
    """An agent without a type that does what no other does is compared with the fleet, and a sentence about peers would be made up."""
    alone = []
    for line in HISTORY:
        e = json.loads(line)
        del e["agent_type"]
        alone.append(encode(e | {"tool": e["agent_id"], "resource": f"{e['agent_id']}/x"}))
    event = hostile(0, "x", agent_type=None)
    found = [a for a in scored([*alone, encode(event)]).alerts if a.agent_id == "bot-1"]
    assert "peers" not in found[-1].reason
    assert any("peers" in a.reason for a in alerts)


def test_nothing_is_said_of_peers_where_an_agent_is_alone_of_its_type(fleet):
    """What its cohort knows it has from this agent. That it has none is said instead, once."""
    found = scored([encode(e | {"agent_type": e["agent_id"]}) for e in fleet.events]).alerts
    assert len(found) > 30
    for a in found:
        alone = f" It is the only agent of type {a.agent_id}, so there are no peers to compare it with."
        assert a.reason.count(alone) == 1
        assert "peers" not in a.title + a.reason.replace(alone, "") + a.next_step


def told_alone(kinds: np.ndarray, agents: np.ndarray, cut: int) -> tuple[Company, list[bool]]:
    """Of events in batches of so many, whether each one's agent was alone of its type; and who then knows."""
    company, said = Company(), []
    for at in range(0, len(kinds), cut):
        b = SimpleNamespace(cohort=kinds[at : at + cut], agent=SimpleNamespace(hash=agents[at : at + cut]))
        said += company.alone(b).tolist()
    return company, said


def test_an_agent_whose_type_another_joins_is_no_longer_called_alone_however_batches_are_cut():
    """Up to then it was; and what a host has put back was seen as well."""
    kinds, agents = np.array([7, 7, 0, 7, 8, 7], np.uint64), np.array([1, 1, 3, 2, 4, 1], np.uint64)
    expected = [True, True, False, False, True, False]
    for cut in range(1, 7):
        assert told_alone(kinds, agents, cut)[1] == expected
    again = Company()
    again.look(np.array([(1, 7), (0, 0), (4, 8)], [("key", "u8"), ("kind", "u8")]))
    b = SimpleNamespace(cohort=kinds[3:5], agent=SimpleNamespace(hash=agents[3:5]))
    assert again.alone(b).tolist() == [False, True]
    assert "type x, as far as its partition has heard, so there are no peers" in str(no_peers("x", apart=True).observed)


def test_of_types_beyond_so_many_nothing_is_said_however_batches_are_cut(monkeypatch):
    """The first are known, and what is joined later is; a flood of types takes no memory."""
    monkeypatch.setattr("stream.company.MOST", 3)
    kinds = np.array([9, 9, 7, 8, 5, 5, 6, 7, 9, 5, 8], np.uint64)
    agents = np.array([1, 2, 3, 4, 5, 5, 6, 3, 1, 7, 9], np.uint64)
    expected = [True, False, True, True, False, False, False, True, False, False, False]
    for cut in range(1, 12):
        company, said = told_alone(kinds, agents, cut)
        assert said == expected
        assert len(company._only) + len(company._several) == 3


def test_that_the_level_of_an_agent_alone_of_its_type_has_changed_excuses_nothing():
    """Its cohort's has changed as well, being its own."""
    for alone in (True, False):
        events = [
            {
                "event_id": f"{day}-{i}-{a}", "time": BASE + 86400 * day + 600 * i + a, "agent_id": f"bot-{a}", "agent_type": "clerk", "action": "read",
                "tool": "crm.read", "resource": "crm/1", "bytes": 1000 * (a + 1) * (32 if day > 16 else 1), "session_id": f"{a}-{day}",
            }
            for day in range(20) for i in range(20) for a in range(1 if alone else 4)
        ]  # fmt: skip
        last = hostile(999, "x", agent_id="bot-0", agent_type="clerk", tool="crm.read", recipients=None) | {
            "time": events[-1]["time"] + 60
        }
        alert = scored([encode(e) for e in [*events, last]], STRAYLINE_ALERTS_PER_DAY="1000").alerts[-1]
        assert (alert.event.event_id, alone) == (
            last["event_id"],
            not any(e.name == "cohort_shift" for e in alert.evidence),
        )


@pytest.mark.parametrize(
    ("own", "peers", "said"),
    [
        (0.0, 0.0, "it has never used x in 100 calls, nor have peers"),
        (0.0, 0.4, "it has never used x in 100 calls, peers seldom"),
        (0.0, 1.2, "it has never used x in 100 calls, but at least one peer has"),
        (0.3, 3.3, "it has used x only in strange events before, or long ago, but some peers have"),
        (7.2, 1.0, "it seldom uses x (7 or more of 100 calls)"),
        (7.2, 4.1, "it seldom uses x (7 or more of 100 calls), but some peers do"),
        (1.0, None, "it seldom uses x (1 of 100 calls)"),
        (1.3, None, "it seldom uses x but in strange events (1 or more of 100 calls)"),
    ],
)
def test_what_peers_do_is_said_with_what_the_agent_does(own, peers, said):
    """An agent is not its own peer, and never is never."""
    numbers = {"own": own, "of": 100} | ({} if peers is None else {"peers": peers})
    assert clauses.clause(Evidence("tool", "scope", "x", "-", 9.0, ["e"], 1, numbers)) == said


@pytest.mark.parametrize(("peers", "said"), [(0.0, "nor have peers"), (0.4, "peers seldom")])
def test_of_peers_on_other_partitions_no_more_is_said_than_was_heard(peers, said):
    """They may have done it, and not told yet."""
    numbers = {"own": 0.0, "of": 100, "peers": peers, "peers_heard_of": True}
    told = clauses.clause(Evidence("tool", "scope", "x", "-", 9.0, ["e"], 1, numbers))
    assert told == f"it has never used x in 100 calls, {said}, as far as its partition has heard"
    assert "as far" not in clauses.clause(Evidence("tool", "scope", "x", "-", 9.0, ["e"], 1, numbers | {"peers": 3.0}))


def test_of_peers_that_began_the_like_since_it_is_said_that_they_had_not_until_then(alerts):
    """Else the next sentence, which names them, contradicts it."""
    numbers = {"own": 0.0, "of": 100, "peers": 0.0, "peers_since": True}
    told = clauses.clause(Evidence("tool", "scope", "x", "-", 9.0, ["e"], 1, numbers))
    assert told == "it has never used x in 100 calls, nor had peers until then"
    began = [a for a in alerts if any(e.name == "rollout" for e in a.evidence)]
    assert began
    assert not [a for a in began if "nor have peers" in a.reason]


@pytest.mark.parametrize(
    ("own", "peers", "said"),
    [
        (0.2, 0.0, "nor have peers"),
        (0.2, 0.2, "nor have peers, unless in strange events"),  # of a peer's as little would be known
        (0.4, 0.2, "nor have peers, unless in strange events"),
        (0.2, 0.6, ""),  # its own, which counts for more there, or a peer's
        (0.2, 3.2, "but some peers have"),
    ],
)
def test_what_an_agent_began_minutes_ago_is_not_said_of_its_peers(own, peers, said):
    """Its cohort knows it from this agent alone."""
    numbers = {"own": own, "of": 100, "peers": peers, "since": 720}
    told = clauses.clause(Evidence("tool", "scope", "x", "-", 9.0, ["e"], 1, numbers))
    assert told == "until 12 minutes before it had never used x (100 calls so far)" + (f", {said}" if said else "")
