"""What a person says of an alert changes what is learned: benign is ordinary from then on, malicious never becomes so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import facts, parties, profile
from models.signals import PERMISSION, RECIPIENT, TOOL
from models.table import find, mix
from models.verdict import SURE
from stream import evidence
from stream.baselines import Reader, Writer
from stream.codec import encode
from stream.engine import Engine
from stream.explain import baseline, baseline_text
from stream.simulate import simulate
from stream.siphash import name_hash
from stream.title import title
from stream.verdict import Named, Usual, Verdict, decode_verdict, judged
from tests.judging import AGENTS, BEGIN, DAY, GOOD, LADDER, SETTINGS, _past, day, event, leak, past, run, say, verdict
from tests.shared import few, knowledge


def bulk(number: int, amount: int = 40_000_000) -> dict[str, Any]:
    """An ordinary read, of very much."""
    return event(0, BEGIN + number * DAY + 18.1 * 3600, bytes=amount)


def score(engine: Engine, events: Sequence[dict[str, Any]]) -> float:
    """Of the last one."""
    return float(run(engine, events).score[-1])


def count(engine: Engine, entity: Any, attribute: int, name: str) -> float:
    """How often an entity has shown a value, not faded."""
    key = mix(np.uint64(facts.place(attribute, 0)), np.uint64(entity))
    head = engine.state["facts"].head
    i = find(head, np.uint64(mix(np.uint64(key), np.uint64(name_hash(name) + 7))))
    return float(facts.count(head, i)) if i >= 0 else 0.0


def total(engine: Engine, attribute: int) -> float:
    """What the fleet has learned of an attribute in all, faded."""
    head = engine.state["facts"].head
    i = find(head, np.uint64(mix(np.uint64(facts.place(attribute, 0)), parties.fleet_entity())))
    return float(head[i]["w"]) * profile.fade(engine.state)


def cohort() -> Any:
    return parties.cohort_entity(np.uint64(name_hash("assistant")))


STRANGER = "drop@stranger.example"


def test_what_was_judged_benign_is_ordinary_when_it_comes_again():
    """For this agent, the next day, whatever the doubt had held back."""
    engine, _, alert = past(leak(20))
    say(engine, "benign", alert)
    again = score(engine, [*day(21), leak(21)])
    twin, _, _ = past(leak(20))
    unjudged = score(twin, [*day(21), leak(21)])
    assert again < 4.0
    assert 1.5 * again < unjudged


def test_a_benign_verdict_is_on_what_it_saw_and_not_on_another_recipient():
    """The same data to somebody new is as strange as their being new makes it."""
    engine, _, alert = past(leak(20))
    say(engine, "benign", alert)
    same = score(engine, [*day(21), leak(21)])
    other = score(engine, [*day(22), leak(22, to="other@elsewhere.example")])
    assert other > same + 8.0


def test_a_benign_verdict_is_on_one_agent():
    """Its peers find it as usual as one more agent's doing makes it: less strange than before, and far from ordinary."""
    judged_, _, alert = past(leak(20))
    say(judged_, "benign", alert)
    peer = score(judged_, [*day(21), leak(21, agent=3)])
    twin, _, _ = past(leak(20))
    unjudged = score(twin, [*day(21), leak(21, agent=3)])
    assert 10.0 < peer <= unjudged


def test_a_benign_verdict_that_is_not_used_expires():
    """It fades like all that is learned, by half in two months."""
    engine, _, alert = past(leak(20))
    say(engine, "benign", alert)
    for number in range(21, 21 + 300, 2):
        run(engine, day(number))
    assert score(engine, [leak(321)]) > 8.0


def test_what_was_judged_malicious_is_as_strange_the_fiftieth_time():
    """A stranger is written to daily until it is usual: that works, unless a person has said what it was."""
    engine, first, alert = past(leak(20))
    say(engine, "malicious", alert)
    scores = [score(engine, [*day(number), leak(number)]) for number in range(21, 71)]
    twin, _, _ = past(leak(20))
    unjudged = [score(twin, [*day(number), leak(number)]) for number in range(21, 71)]
    assert min(scores) > 0.85 * first
    assert scores[-1] > 0.95 * first
    assert unjudged[-1] < 0.75 * first


def test_a_malicious_verdict_takes_back_what_was_taught():
    """At the agent, and above it if no other agent has shown it."""
    engine, _, alert = past(leak(20))
    agent = parties.agent_entity(judged(verdict("malicious", alert), LADDER).agent)
    assert count(engine, agent, RECIPIENT, STRANGER) > 0
    assert count(engine, cohort(), RECIPIENT, STRANGER) > 0
    say(engine, "malicious", alert)
    assert [count(engine, e, RECIPIENT, STRANGER) for e in (agent, cohort())] == [0, 0]


def test_verdicts_take_no_more_from_the_fleet_than_the_agent_has_taught_it():
    """Called benign and used for days, then called malicious, again and again: what the others taught stays."""
    engine, twin = past(leak(20))[0], past(leak(20))[0]
    for number in range(21, 41):
        run(twin, day(number))
    for n in range(5):
        stranger = [{"id": f"drop-{n}@stranger.example", "type": "email"}]
        strange = leak(21 + 4 * n, recipients=stranger, event_id=f"again-{n}")
        alert = run(engine, [*day(21 + 4 * n), strange]).alerts[-1]
        say(engine, "benign", alert)
        for more in (1, 2, 3):
            number = 21 + 4 * n + more
            run(engine, [*day(number), leak(number, recipients=stranger, event_id=f"again-{n}-{more}")])
        say(engine, "malicious", alert)
    assert total(engine, RECIPIENT) > total(twin, RECIPIENT) > 3


def test_what_another_agent_taught_is_not_taken_back():
    """It was not judged."""
    engine, _, alert = past(leak(20))
    run(engine, [leak(20, agent=3)])
    above = count(engine, cohort(), RECIPIENT, STRANGER)
    say(engine, "malicious", alert)
    assert count(engine, cohort(), RECIPIENT, STRANGER) == above > 0


def test_an_agent_s_ordinary_work_goes_on_after_a_malicious_verdict():
    """It is learned, and stays ordinary; so does its neighbours'."""
    engine, _, alert = past(leak(20))
    twin, _, _ = past(leak(20))
    say(engine, "malicious", alert)
    for number in range(21, 31):
        scored, unjudged = run(engine, day(number)), run(twin, day(number))
        assert scored.score.max() < 8.0
        assert np.abs(scored.score - unjudged.score).max() < 2.0


def test_what_peers_use_daily_is_not_marked_for_an_agent_to_which_it_is_new():
    """Else a newcomer's work would be told of for ever; whom it wrote to is, whoever else has."""
    engine, _, alert = past(leak(20))
    found = verdict("malicious", alert)
    peers_use, permission = day(1)[0]["tool"], day(1)[0]["scopes"][0]
    newcomer = "assistant-new"
    run(engine, [event(0, BEGIN + 20 * DAY + 7200) | {"agent_id": newcomer}])
    found.agent_id = newcomer
    found.evidence = (Named("tool", peers_use), Named("permission", permission), Named("recipient", STRANGER))
    engine.judge(found)
    entity = parties.agent_entity(judged(found, LADDER).agent)
    marks = {}
    for fact, name in ((TOOL, peers_use), (PERMISSION, permission), (RECIPIENT, STRANGER)):
        head = engine.state["facts"].head
        key = mix(np.uint64(facts.place(fact, 0)), np.uint64(entity))
        i = find(head, np.uint64(mix(np.uint64(key), np.uint64(name_hash(name) + 7))))
        marks[name] = bool(i >= 0 and head[i]["d"] < 0)
    assert marks == {peers_use: False, permission: False, STRANGER: True}


def test_what_an_agent_did_often_is_not_marked():
    """Its alert may name a thing that is only seldom: that is taken back to what it was, and learned as ever."""
    engine, _, alert = past(leak(20))
    found = verdict("malicious", alert)
    known = Usual(own=100.0)
    found.evidence = (Named("recipient", "person0@corp.example", baseline=known),)
    agent = parties.agent_entity(judged(found, LADDER).agent)
    before = count(engine, agent, RECIPIENT, "person0@corp.example")
    engine.judge(found)
    after = count(engine, agent, RECIPIENT, "person0@corp.example")
    assert 0 < after < before
    run(engine, day(21))
    assert count(engine, agent, RECIPIENT, "person0@corp.example") > after


@pytest.mark.parametrize("order", [("malicious", "benign"), ("benign", "malicious")])
def test_the_last_verdict_holds(order):
    """People change their minds."""
    engine, first, alert = past(leak(20))
    for what in order:
        say(engine, what, alert)
    again = score(engine, [*day(21), leak(21)])
    assert again < 4.0 if order[-1] == "benign" else again > 0.85 * first


def test_an_amount_that_was_judged_benign_is_the_edge_of_the_usual():
    """And ten times that is not."""
    engine, first, alert = past(bulk(20))
    say(engine, "benign", alert)
    assert score(engine, [*day(21), bulk(21)]) < 2.0 < first
    assert score(engine, [*day(22), bulk(22, 40_000_000_000)]) > 2.0


def test_an_amount_that_was_judged_malicious_never_becomes_usual():
    """Nor do the half of it, while what lies near the usual is learned."""
    engine, first, alert = past(bulk(20))
    say(engine, "malicious", alert)
    scores = [score(engine, [*day(number), bulk(number, 20_000_000)]) for number in range(21, 51)]
    twin, _, _ = past(bulk(20))
    unjudged = [score(twin, [*day(number), bulk(number, 20_000_000)]) for number in range(21, 51)]
    assert scores[-1] > 0.8 * first > 2 * unjudged[-1]
    amounts = engine.state["amounts"].head
    before = amounts[amounts["never"] > 0]["m"].copy()
    run(engine, [event(0, BEGIN + 52 * DAY + n, bytes=6000) for n in range(50)])
    assert (amounts[amounts["never"] > 0]["m"] > before).all()


def test_a_mark_outlives_floods_growth_and_a_year_in_which_nothing_reminds_of_it():
    """Or the attacker would only have to wait, or to make noise."""
    engine, first, alert = past(leak(20))
    say(engine, "malicious", alert)
    flood = [event(n % AGENTS, BEGIN + 21 * DAY + n, resource=f"crm/flood-{n}", tool=f"t{n}") for n in range(20_000)]
    rows = len(engine.state["facts"].head)
    run(engine, flood)
    run(engine, day(386))
    engine.state.grow(0)
    assert len(engine.state["facts"].head) >= rows
    run(engine, day(387))
    assert score(engine, [leak(387)]) > 0.5 * first
    agent = parties.agent_entity(judged(verdict("malicious", alert), LADDER).agent)
    assert count(engine, agent, RECIPIENT, STRANGER) == 0


def test_a_verdict_is_in_the_baselines():
    """A worker that takes the partition over heeds it as this one did."""
    engine, _, alert = past(leak(20))
    say(engine, "malicious", alert)
    heir = Engine(SETTINGS)
    reader = Reader(heir)
    for key, value in [*_past(encode(leak(20)))[0], *Writer(engine).flush(7, 3)]:
        reader.read(key, value)
    assert (reader.next_offset, reader.next_verdict) == (7, 3)
    assert knowledge(heir) == knowledge(engine)


def test_every_fact_that_an_alert_names_is_found_again():
    """The words of evidence are read back: whoever changes them must change how they are read (`stream.verdict`)."""
    engine = Engine(SETTINGS)
    events = [encode(e) for e in simulate(5, 16, 12).events]
    named = 0
    for low in range(0, len(events), 200):
        part = events[low : low + 200]
        for alert in engine.score(engine.decode(part, range(len(part)))).alerts:
            found = judged(verdict("malicious", alert), LADDER)
            entity = np.uint64(parties.agent_entity(found.agent))
            missing = [
                n for n in range(len(found.value)) if _slot(engine, found, n, entity) < 0 and found.most[n] == SURE
            ]
            assert missing == [], alert.evidence
            facts_named = {(e.name, e.observed) for e in alert.evidence if e.name in _JUDGED}
            present = sum(_slot(engine, found, n, entity) >= 0 for n in range(len(found.value)))
            assert present >= len({(_JUDGED[n], o) for n, o in facts_named})
            named += present
    assert named > 100


_JUDGED = {n: n for n in ("tool", "permission", "root", "branch", "resource", "classification", "transition", "action", "recipient", "domain", "flow")}  # fmt: skip


def _slot(engine: Engine, found: Any, n: int, entity: Any) -> int:
    base = facts.place(int(found.attribute[n]), np.uint64(found.context[n]))
    key = mix(np.uint64(mix(np.uint64(base), entity)), np.uint64(found.value[n] + np.uint64(7)))
    return int(find(engine.state["facts"].head, np.uint64(key)))


def test_after_a_malicious_verdict_the_words_do_not_say_never():
    """What was learned of it was taken back, and yet it has happened."""
    engine, _, first = past(leak(20, event_id="one"))
    assert " never " in first.reason
    say(engine, "malicious", first)
    again = run(engine, [*day(21), leak(21, event_id="two")]).alerts[-1]
    assert again.alert_id != first.alert_id
    assert "it is like what a person called malicious before: " in again.reason
    assert " never " not in again.reason


def test_what_may_bear_the_mark_of_a_malicious_verdict_is_named():
    """A person looks for the thing, not for the fact that there is one; what was done before and is not marked is not among them."""
    engine, _, first = past(leak(20, event_id="one"))
    say(engine, "malicious", first)
    again = run(engine, [*day(21), leak(21, event_id="two")]).alerts[-1]
    (said,) = [str(e.observed) for e in again.evidence if e.name == "judged"]
    own = [e for e in again.evidence if again.event.event_id in e.event_ids]
    new = [e for e in own if e.name in {"recipient", "domain", "flow", "classification", "root", "branch", "resource"}]
    assert new
    for e in new:
        assert (str(e.observed) in said) == (e.baseline["own"] < 0.5)
    assert f"{again.title.partition(', ')[2]}" == "its like called malicious before"


def test_what_comes_with_what_was_called_malicious_is_not_said_to_have_been_that():
    """The recipient was; the tool is only new."""
    engine, _, first = past(leak(20, event_id="one"))
    say(engine, "malicious", first)
    again = run(engine, [*day(21), leak(21, event_id="two", tool="other.send")]).alerts[-1]
    (said,) = [str(e.observed) for e in again.evidence if e.name == "judged"]
    (tool,) = [e for e in again.evidence if e.name == "tool"]
    assert tool.observed == "other.send"
    assert "marked" not in tool.baseline
    assert "other.send" not in said
    assert "its like called malicious" not in title(again.agent_id, tool, again.event, [tool], again.exposure)


class TestOpenAlert:
    """An alert that is still open when it is judged."""

    def strange(self, n: int, **fields: Any) -> dict[str, Any]:
        return leak(20, event_id=f"leak-{n}", time=BEGIN + 20 * DAY + 18.1 * 3600 + 60 * n, **fields)

    def said(self, events: Sequence[dict[str, Any]], what: str | None, **first: Any) -> tuple[int, int]:
        """How many revisions follow of it, and of other alerts."""
        engine, _, alert = past(self.strange(0, **first))
        if what:
            say(engine, what, alert)
        last = event(1, BEGIN + 22 * DAY)
        ids = [a.alert_id for a in run(engine, [*events, last]).alerts if a.agent_id == alert.agent_id]
        return ids.count(alert.alert_id), len(ids) - ids.count(alert.alert_id)

    def test_benign_it_is_not_said_again_for_more_of_the_same(self):
        """Nor when it ends."""
        more = [self.strange(n, scopes=[f"x{n}"]) for n in range(1, 5)]
        assert self.said(more, "benign") == (0, 0)
        for what in ("malicious", None):
            of_it, others = self.said(more, what)
            assert (of_it > 0, others) == (True, 0)

    def test_after_benign_the_same_with_another_resource_is_another_alert(self):
        """A verdict on one resource excuses no other, if what is done to it is strange; and it stays on what it was said of."""
        other = {"resource": "payroll/other", "scopes": ["x"]}
        of_it, others = self.said([self.strange(1, **other)], "benign")
        assert (of_it, others > 0) == (0, True)

    def test_after_benign_whoever_else_receives_is_another_alert(self):
        """A verdict on one recipient excuses no other."""
        new = [self.strange(1, recipients=[{"id": "new@third.example", "type": "email"}])]
        of_it, others = self.said(new, "benign")
        assert (of_it, others > 0) == (0, True)

    def test_after_benign_what_is_worse_is_another_alert(self):
        """Here: what the same stranger gets is restricted now."""
        more = {"tool": "disk.send", "scopes": ["disk:send"]}
        of_it, others = self.said([self.strange(1, **more)], "benign", classification="public")
        assert (of_it, others > 0) == (0, True)
        same = [self.strange(1, **more, classification="public")]
        assert self.said(same, "benign", classification="public") == (0, 0)


def test_what_a_verdict_has_added_stands_apart_from_what_was_used():
    """So nobody reads it as use; and what was called malicious is marked."""
    found = {}
    for what in ("", "benign", "malicious"):
        engine, _, alert = past(leak(20))
        if what:
            say(engine, what, alert)
        told = baseline(engine, "assistant-0")
        (found[what],) = [v for v in told["usual"]["recipient"] if v["value"] == STRANGER]
        words = baseline_text(told)
        assert ("by a verdict: what" in words) == (what == "benign")
        assert (f"{STRANGER} (1 + " in words) == (what == "benign")
        assert (f"{STRANGER} (0, called malicious)" in words) == (what == "malicious")
    assert found[""].keys() == {"value", "count"}
    assert found["malicious"] == {"value": STRANGER, "count": 0.0, "malicious": True}
    assert found["benign"]["count"] == 1.0
    assert found["benign"]["by_verdict"] > 10


def test_a_verdict_on_an_alert_of_before_holds_though_its_words_have_changed():
    """Verdicts stay for 400 days, and alerts of an older release are still judged: of whom a resource is was said in other words."""
    found = []
    for observed in (evidence.OWNERS[4], *evidence.FORMER_OWNERS, "is nobody's"):
        said = {"name": "owner", "observed": observed, "baseline": {"own": 0.0}}
        event = {"event_id": "e", "action": "read", "resource": "crm/notes/7"}
        verdict = decode_verdict(encode(GOOD | {"evidence": [said], "event": event}), 1)
        assert isinstance(verdict, Verdict)
        one = judged(verdict, LADDER)
        found.append(list(zip(one.attribute, one.value, strict=True)))
    assert found[0] == found[1] != found[2]


names = st.sampled_from([*_JUDGED, "owner", "clearance", "off_hours", "bytes", "records_sum", "session_calls", "call_rate", "rhythm", "windows", "?"])  # fmt: skip
texts = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["from a to b to c", "straight to x at the start of a session", "straight to x before any usual step of its session", "read with x with y", "restricted data outside the organisation", "data of unknown class to a recipient", "internal data to an agent"]),
)  # fmt: skip
numbers = st.floats(0, 1e18)
items = st.fixed_dictionaries(
    {"name": names, "observed": texts | numbers},
    optional={
        "baseline": st.fixed_dictionaries(
            {}, optional={"own": numbers, "tool": texts, "typical": numbers, "high": numbers, "unit": st.sampled_from(["bytes", "records"])}
        )
    },
)  # fmt: skip
acts = st.fixed_dictionaries(
    {"event_id": st.just("e"), "action": texts},
    optional={"tool": texts, "resource": texts, "classification": texts, "recipients": st.lists(texts, max_size=3)},
)
verdicts = st.builds(
    lambda what, evidence, act, events: GOOD | {"verdict": what, "evidence": evidence, "event": act, "events": events, "agent_id": "assistant-0", "agent_type": "assistant"},
    st.sampled_from(["benign", "malicious"]), st.lists(items, max_size=6), acts, st.integers(1, 1000),
)  # fmt: skip


@few
@given(st.lists(verdicts, max_size=20))
def test_whatever_a_verdict_says_numbers_stay_finite_and_an_agent_s_day_ordinary(said):
    """They come from outside: of what the agent does every day, no words can make an alert."""
    engine, _, _ = past(leak(20))
    for one in said:
        found = decode_verdict(encode(one), 0)
        if isinstance(found, Verdict):
            engine.judge(found)
    scored = run(engine, day(21))
    assert np.isfinite(scored.score).all()
    head = engine.state["facts"].head
    assert np.isfinite(head["w"]).all()
    assert (head["w"] >= 0).all()


@few
@given(verdicts)
def test_a_verdict_comes_back_as_it_was_written(said):
    """Encoded and decoded again it is the same."""
    found = decode_verdict(encode(said), 0)
    if isinstance(found, Verdict):
        assert decode_verdict(encode(found), 0) == found
