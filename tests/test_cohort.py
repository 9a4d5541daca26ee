"""Agents without a type are judged by those that do the same."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from models import cohort, profile
from models.schema import LEADERS
from stream.engine import Engine, Scored
from stream.settings import load
from stream.siphash import name_hash
from tests.telling import HISTORY, encode, hostile, scored

BASE = 1772409600
DOES = {
    "clerk": (("invoices.get", "ledger.query", "ledger.post"), "finance"),
    "support": (("tickets.get", "tickets.reply", "kb.search"), "helpdesk"),
}


def event(agent: str, i: int, kind: str, **fields: Any) -> dict[str, Any]:
    tools, root = DOES[kind]
    tool = tools[i % len(tools)]
    return {
        "event_id": f"{agent}-{i}", "time": BASE + 600 * i, "agent_id": agent, "action": "read", "tool": tool, "resource": f"{root}/{tool}/{i % 7}",
        "session_id": f"{agent}-{i // 5}", "classification": "internal", "records": 3 + i % 3,
    } | fields  # fmt: skip


def working(agents: dict[str, str], n: int, first: int = 0) -> list[dict[str, Any]]:
    """Each agent at its work, in turns."""
    return [event(agent, i, kind) for i in range(first, first + n) for agent, kind in agents.items()]


def run(events: list[dict[str, Any]], cuts: int = 1000, engine: Engine | None = None) -> tuple[Engine, list[Scored]]:
    engine = engine or Engine(load({}))
    raw = [json.dumps(e).encode() for e in events]
    parts = [raw[i : i + cuts] for i in range(0, len(raw), cuts)]
    return engine, [engine.score(engine.decode(part, list(range(len(part))))) for part in parts]


def leader(engine: Engine, agent: str) -> int:
    """Number of the agent whose cohort an agent is in; 0 for that of all agents without a type."""
    rows = engine.state["agents"].head
    return int(rows["leader"][rows["key"] == np.uint64(name_hash(agent))][0])


def own(scored: list[Scored], event_id: str) -> float:
    return next(float(s.score[i]) for s in scored for i, e in enumerate(s.events) if e.event_id == event_id)


FOUR = {"a": "clerk", "b": "support", "c": "clerk", "d": "support"}


def test_two_kinds_of_agents_are_told_apart() -> None:
    engine, _ = run(working(FOUR, 30))
    assert leader(engine, "a") == leader(engine, "c") == name_hash("a")
    assert leader(engine, "b") == leader(engine, "d") == name_hash("b")


def test_a_newcomer_joins_its_kind_at_its_20th_event() -> None:
    engine, _ = run(working(FOUR, 40))
    run(working({"new": "clerk"}, 19, 40), engine=engine)
    assert leader(engine, "new") == 0
    run(working({"new": "clerk"}, 1, 59), engine=engine)
    assert leader(engine, "new") == name_hash("a")


def test_what_is_new_to_an_agent_is_less_strange_where_its_kind_does_it() -> None:
    many = {f"{kind}-{i}": kind for i in range(4) for kind in DOES} | {"rare": "clerk"}
    scores = []
    for kind in DOES:
        history = working(many, 60)
        for e in history:
            if e["agent_id"].startswith(kind) and int(e["event_id"].rsplit("-", 1)[1]) % 10 > 7:
                e["tool"], e["resource"] = "bank.statement", "bank/statement"
        odd = event("rare", 61, "clerk", tool="bank.statement", resource="bank/statement")
        scores.append(own(run([*history, odd])[1], odd["event_id"]))
    assert scores[0] < scores[1]


def test_what_another_cohort_reaches_excuses_nobody() -> None:
    """A clerk's first look at a statement is as strange where the helpdesk does it every day as where nobody does."""
    many = {f"{kind}-{i}": kind for i in range(4) for kind in DOES}
    scores = []
    for usual in (False, True):
        history = working(many, 60)
        for e in history:
            e["agent_type"] = e["agent_id"].split("-")[0]
            if usual and e["agent_type"] == "support" and int(e["event_id"].rsplit("-", 1)[1]) % 10 > 7:
                e["tool"], e["resource"] = "bank.statement", "bank/statement"
        strays = event("clerk-0", 60, "clerk", tool="bank.statement", resource="bank/statement", agent_type="clerk")
        scores.append(own(run([*history, strays])[1], "clerk-0-60"))
    nobody, another_cohort = scores
    assert another_cohort > 0.95 * nobody > 5


def test_an_agent_whom_nobody_resembles_stays_with_all_agents_without_a_type() -> None:
    engine, _ = run(working({"a": "clerk", "b": "support"}, 200))
    assert leader(engine, "a") == leader(engine, "b") == 0


def test_agents_with_a_type_are_not_sought_peers_for() -> None:
    engine, _ = run([e | {"agent_type": "any"} for e in working(FOUR, 60)])
    assert {leader(engine, agent) for agent in FOUR} == {0}
    assert not engine.state["leaders"].head["key"].any()


def test_agents_that_name_neither_tool_nor_resource_stay_together() -> None:
    bare = [
        {k: v for k, v in e.items() if k not in {"tool", "resource"}} | {"recipients": [{"id": e["agent_id"] + "@x"}]}
        for e in working(FOUR, 60)
    ]
    engine, _ = run(bare)
    assert {leader(engine, agent) for agent in FOUR} == {0}


def test_one_odd_day_does_not_take_an_agent_out_of_its_cohort() -> None:
    """It is sought again at its 160th event, which lies in a day of forty on which it does another kind's work."""
    odd = [event("a", i, "support" if 120 <= i < 160 else "clerk") for i in range(160)]
    engine, _ = run([e for i in range(160) for e in (odd[i], *(event(x, i, FOUR[x]) for x in "bcd"))])
    assert leader(engine, "a") == leader(engine, "c")


def test_an_agent_that_has_changed_its_work_for_good_changes_its_cohort() -> None:
    changed = [event("c", i, "clerk" if i < 40 else "support") for i in range(640)]
    engine, _ = run([e for i in range(640) for e in (*(event(x, i, FOUR[x]) for x in "abd"), changed[i])])
    assert leader(engine, "c") == leader(engine, "d") == name_hash("b")
    cohorts = engine.state["cohorts"].head
    assert sorted(cohorts["agents"][cohorts["key"] > 0]) == [0, 1, 3]


@pytest.mark.parametrize("cuts", [1, 7, 40])
def test_cohorts_do_not_depend_on_where_batches_are_cut(cuts: int) -> None:
    events = working(FOUR, 45)
    whole, (one,) = run(events)
    engine, parts = run(events, cuts)
    assert np.concatenate([p.score for p in parts]).tolist() == one.score.tolist()
    assert all(
        (x.head == y.head).all() and (x.body == y.body).all()
        for x, y in zip(whole.state.tables, engine.state.tables, strict=True)
    )


def test_leaders_are_bounded_and_the_longest_silent_gives_way() -> None:
    def alone(agent: int) -> list[dict[str, Any]]:
        own = {"tool": f"tool-{agent}", "resource": f"root-{agent}/x"}
        return [event(f"bot-{agent}", 20 * agent + i, "clerk", **own) for i in range(cohort.FIRST)]

    engine, _ = run([e for agent in range(LEADERS + 3) for e in alone(agent)])
    kept = set(engine.state["leaders"].head["key"].tolist())
    assert kept == {name_hash(f"bot-{agent}") for agent in range(3, LEADERS + 3)}


def test_a_restored_state_knows_the_cohorts() -> None:
    events = working(FOUR, 90)
    whole, _ = run(events)
    first, _ = run(events[:200])
    second = Engine(load({}))
    for piece in first.state.delta():
        second.state.apply(piece)
    run(events[200:], engine=second)
    assert [leader(second, agent) for agent in FOUR] == [leader(whole, agent) for agent in FOUR]
    assert profile.baseline(second.state, "a", np.uint64(name_hash("a"))) == profile.baseline(
        whole.state, "a", np.uint64(name_hash("a"))
    )


def test_an_alert_claims_no_type_and_nothing_that_peers_have_not_done() -> None:
    """What they did before they were found to be peers is not known of all of it."""
    untyped = [{k: v for k, v in json.loads(line).items() if k != "agent_type"} for line in HISTORY]
    alerts = scored([encode(e) for e in [*untyped, *(hostile(i, "x", agent_type=None) for i in range(2))]]).alerts
    assert {a.agent_type for a in alerts} == {None}
    assert not [a for a in alerts if "nor have peers" in a.reason or "peers seldom" in a.reason]


def test_an_alert_says_what_peers_have_done_before() -> None:
    untyped = [{k: v for k, v in json.loads(line).items() if k != "agent_type"} for line in HISTORY]
    known = [
        encode(e | {"tool": "tool0x"} if e["agent_id"] != "bot-1" and int(e["event_id"].split("-")[0]) % 8 == 7 else e)
        for e in untyped
    ]
    likely = {"scopes": ["crm:read"], "resource": "crm/customers/1", "classification": "internal", "action": "read"}
    odd = hostile(0, "x", agent_type=None, session_id="s-1-9") | likely
    found = [a for a in scored([*known, encode(odd)]).alerts if a.agent_id == "bot-1"]
    tool = next(e for e in found[-1].evidence if e.name in {"tool", "transition"})
    assert tool.baseline["peers"] >= 1
