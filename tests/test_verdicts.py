"""What a person says of an alert changes what is learned: benign is ordinary from then on, malicious never becomes so."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
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
from stream.alert import Alert, rfc3339
from stream.baselines import Reader, Writer
from stream.codec import Reject, encode, encode_lines
from stream.engine import Engine, Scored
from stream.errors import InputError, OutputError
from stream.explain import baseline, baseline_text
from stream.judge import alert_in, append, verdict_on
from stream.judge import seconds as instant
from stream.ordinary import told as ordinary
from stream.replay import replay
from stream.settings import load
from stream.simulate import simulate
from stream.siphash import name_hash
from stream.verdict import Named, Usual, Verdict, decode_verdict, judged, verdicts_in
from tests import telling
from tests.shared import few, knowledge

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = load({})
DAY, BEGIN = 86400.0, 1_772_409_600.0  # a Monday
AGENTS = 6
LADDER = SETTINGS.classifications


def event(agent: int, time: float, **fields: Any) -> dict[str, Any]:
    """One event of an assistant, ordinary unless it is told otherwise."""
    return {
        "event_id": f"{agent}-{time}-{fields.get('tool', '')}",
        "time": time,
        "agent_id": f"assistant-{agent}",
        "agent_type": "assistant",
        "principal": f"person{agent}@corp.example",
        "session_id": f"{agent}-{int(time // 3600)}",
        "action": "read",
        "tool": "crm.read",
        "resource": f"crm/customers/{int(time) % 7}",
        "classification": "internal",
        "scopes": ["crm:read"],
        "bytes": 2000 + int(time) % 500,
    } | fields


def day(number: int) -> list[dict[str, Any]]:
    """A day of the fleet: each agent reads, and sends what it found to the person that it works for, twice."""
    out = []
    for n in range(10):
        for agent in range(AGENTS):
            time = BEGIN + number * DAY + (8 + n) * 3600 + agent * 60 + 7 * n
            to = [{"id": f"person{agent}@corp.example", "type": "email"}]
            send = {"action": "send", "tool": "mail.send", "scopes": ["mail:send"], "recipients": to}
            out += [event(agent, time), event(agent, time + 20, **send), event(agent, time + 40, **send)]
            out += [event(agent, time + 55)]  # so that its reads come on no beat: a series is not judged
    return out


def leak(number: int, to: str = "drop@stranger.example", agent: int = 0, **fields: Any) -> dict[str, Any]:
    """Restricted data to a stranger, in the afternoon of a day."""
    time = BEGIN + number * DAY + 18.1 * 3600
    strange = {
        "action": "send",
        "tool": "mail.send",
        "scopes": ["mail:send"],
        "session_id": f"{agent}-{int(time // 3600) - 1}",
        "classification": "restricted",
        "resource": "payroll/salaries",
        "recipients": [{"id": to, "type": "email"}],
    }
    return event(agent, **({"time": time} | strange | fields))


def bulk(number: int, amount: int = 40_000_000) -> dict[str, Any]:
    """An ordinary read, of very much."""
    return event(0, BEGIN + number * DAY + 18.1 * 3600, bytes=amount)


def run(engine: Engine, events: Sequence[dict[str, Any]]) -> Scored:
    return engine.score(engine.decode([encode(e) for e in events], range(len(events))))


def score(engine: Engine, events: Sequence[dict[str, Any]]) -> float:
    """Of the last one."""
    return float(run(engine, events).score[-1])


@cache
def _past(strange: bytes) -> tuple[list[tuple[bytes, bytes]], float, Alert]:
    engine = Engine(SETTINGS)
    for number in range(20):
        run(engine, day(number))
    scored = run(engine, [*day(20), json.loads(strange)])
    return [(r.key, r.value) for r in Writer(engine).flush(0)], float(scored.score[-1]), scored.alerts[-1]


def past(strange: dict[str, Any]) -> tuple[Engine, float, Alert]:
    """Three weeks, then something strange: an engine that knows them, its score, and the alert."""
    records, first, alert = _past(encode(strange))
    engine = Engine(SETTINGS)
    reader = Reader(engine)
    for key, value in records:
        reader.read(key, value)
    return engine, first, alert


def say(engine: Engine, what: str, alert: Alert) -> None:
    engine.judge(verdict(what, alert))


def verdict(what: str, alert: Alert, at: float = 0.0) -> Verdict:
    found = decode_verdict(verdict_on(alert, what, "ana", "because", at), 1)
    assert isinstance(found, Verdict)
    return found


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
    assert "it is like what a person called malicious before" in again.reason
    assert " never " not in again.reason


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


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Alert]]:
    """A file of a simulated fleet's events, and its alerts."""
    path = tmp_path_factory.mktemp("fleet") / "events.jsonl"
    events = [encode(e) for e in simulate(3, 16, 12).events]
    path.write_bytes(b"\n".join(events) + b"\n")
    engine = Engine(SETTINGS)
    return path, engine.score(engine.decode(events, range(len(events)))).alerts


def seconds(alert: Alert) -> float:
    return telling.seconds(alert.time)


def test_a_replay_heeds_each_verdict_at_its_time_wherever_batches_are_cut(fleet):
    """Before the first event that has reached it: the same scores, alerts and baselines from any cut."""
    path, alerts = fleet
    events = path.read_bytes().splitlines()
    rng = random.Random(1)
    end = max(telling.seconds(json.loads(event)["time"]) for event in events) - 7200  # the last that is heeded
    chosen = [a for a in alerts if a.revision == 1 and seconds(a) <= end][::2]
    spoken = [verdict(rng.choice(["benign", "malicious"]), a, seconds(a) + rng.choice([0, 600, 7200])) for a in chosen]
    spoken.sort(key=lambda v: v.seconds)
    outcomes = []
    for size in (len(events), 997, 64):
        engine = Engine(SETTINGS)
        engine.verdicts.extend(spoken)
        scores, said = [], []
        for low in range(0, len(events), size):
            part = events[low : low + size]
            scored = engine.score(engine.decode(part, range(len(part))))
            scores += scored.score.tolist()
            said.append(encode_lines(scored.alerts))
        assert not engine.verdicts
        outcomes.append((scores, b"".join(said), knowledge(engine)))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert outcomes[0][1] != encode_lines(alerts)


def test_a_verdict_between_two_batches_is_that_of_a_replay(fleet):
    """What a worker does with one: its time in a replay is then that of the first event after it."""
    path, _ = fleet
    events = path.read_bytes().splitlines()
    half = len(events) // 2
    live, timed = Engine(SETTINGS), Engine(SETTINGS)
    before = live.score(live.decode(events[:half], range(half)))
    judged_ = [a for a in before.alerts if a.revision == 1][-5:]
    for n, alert in enumerate(judged_):
        live.judge(verdict(["benign", "malicious"][n % 2], alert))
    after = live.score(live.decode(events[half:], range(half, len(events))))
    moment = float(live_clock(events, half)) + 0.001
    timed.verdicts.extend(verdict(["benign", "malicious"][n % 2], a, moment) for n, a in enumerate(judged_))
    whole = timed.score(timed.decode(events, range(len(events))))
    assert encode_lines(before.alerts + after.alerts) == encode_lines(whole.alerts)
    assert knowledge(live) == knowledge(timed)


def live_clock(events: Sequence[bytes], half: int) -> float:
    engine = Engine(SETTINGS)
    engine.score(engine.decode(events[:half], range(half)))
    return float(engine.state.fleet["clock"])


def test_verdicts_change_nothing_before_their_time(fleet, tmp_path):
    """And none at all without a file of them."""
    path, alerts = fleet
    scores, judged_scores, said = tmp_path / "a", tmp_path / "b", tmp_path / "v.jsonl"
    chosen = next(a for a in alerts if a.revision == 1 and seconds(a) > seconds(alerts[0]))
    append(str(said), verdict_on(chosen, "malicious", "ana", "no", seconds(chosen)))
    replay(SETTINGS, [str(path)], str(scores), None, None)
    replay(SETTINGS, [str(path)], str(judged_scores), None, None, verdicts=str(said))
    plain, heeded = lines_of(scores), lines_of(judged_scores)
    times = [e["time"] for e in lines_of(path)]
    first = next(n for n, (a, b) in enumerate(zip(plain, heeded, strict=True)) if a != b)
    assert decode_verdict(encode({**json.loads(said.read_bytes()), "time": times[first]}), 1).seconds >= seconds(chosen)


def strayline(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )


def test_the_command_finds_the_alert_and_a_replay_heeds_its_verdict(fleet, tmp_path):
    """From end to end; a verdict that comes after the last event is told of, and a line that is none is set aside."""
    path, alerts = fleet
    files = {name: str(tmp_path / name) for name in ("alerts", "said", "again", "rejects")}
    assert strayline("replay", str(path), "--alerts", files["alerts"]).returncode == 0
    first = next(a for a in alerts if a.revision == 1)
    told = strayline(
        "verdict", "benign", first.alert_id, "--by", "Ana", "--reason", "migration", "--alerts", files["alerts"],
        "--to", files["said"], "--time", first.time,
    )  # fmt: skip
    assert (told.returncode, told.stdout) == (0, "")
    assert f"{first.title}; benign by Ana" in told.stderr
    assert "--time" not in told.stderr
    late = (
        "malicious",
        first.alert_id,
        "--by",
        "Bo",
        "--reason",
        "x",
        "--alerts",
        files["alerts"],
        "--to",
        files["said"],
    )
    told = strayline("verdict", *late)
    assert told.returncode == 0
    judged = [a for a in alerts if a.alert_id == first.alert_id][-1]
    assert f"say it as of then with --time {judged.time}" in told.stderr  # the fleet's weeks are long over
    with Path(files["said"]).open("a") as said:
        said.write('{"alert_id": "a"}\n')
    told = strayline(
        "replay", str(path), "--alerts", files["again"], "--rejects", files["rejects"], "--verdicts", files["said"]
    )
    assert told.returncode == 0
    assert "1 verdict heeded; 1 not, being later than the last event" in told.stderr
    assert ", 0 rejects, " in told.stderr.splitlines()[0]
    assert f"1 line of {files['said']} is no verdict (line 3: Object missing required field" in told.stderr
    assert "came (`time`) before" not in told.stderr
    assert [r["reason"] for r in lines_of(Path(files["rejects"]))] == ["missing_field"]
    assert Path(files["again"]).read_bytes() != Path(files["alerts"]).read_bytes()


def test_a_verdict_is_on_the_alert_as_it_stood_and_before_it_opened_there_was_none(fleet, tmp_path):
    """Of what came later nobody could judge. Of a file that another program has made, one of before the event is told of; at its very time it is as any other."""
    path, alerts = fleet
    grown = next(a for a in alerts if a.revision > 1)
    chosen = [a for a in alerts if a.alert_id == grown.alert_id]
    assert len(chosen) > 1
    first, last = chosen[0], chosen[-1]
    listed, said = tmp_path / "alerts", tmp_path / "said"
    listed.write_bytes(encode_lines(chosen))
    words = ("verdict", "benign", last.alert_id, "--by", "a", "--reason", "r", "--alerts", str(listed), "--to", str(said), "--time")  # fmt: skip
    told = strayline(*words, rfc3339(seconds(first) - 1))
    assert told.returncode == 2
    assert f"--time is before the alert opened ({first.time})" in told.stderr
    assert f"give {first.time} or later" in told.stderr
    assert not said.exists()
    for when, revision in ((first.time, 1), (last.time, last.revision), (None, last.revision)):
        told = strayline(*words[:-1], *(("--time", when) if when else ()))
        assert told.returncode == 0
        assert f"revision {revision}{', the last of that time' if when else ''}: " in told.stderr
    listed.write_bytes(encode(last) + b"\n")
    assert f"before revision {last.revision}, the oldest that is there" in strayline(*words, first.time).stderr
    said.unlink()
    append(str(said), verdict_on(last, "benign", "ana", "no", instant(last.event.time)))
    append(str(said), verdict_on(last, "benign", "ana", "no", seconds(first) - 86400))
    _, summary = replay(SETTINGS, [str(path)], None, None, None, verdicts=str(said))
    assert (summary.verdicts, summary.early, summary.unfit) == (2, 1, 0)


def test_what_a_benign_verdict_makes_ordinary_is_told_before_and_when_it_is_said(fleet, tmp_path):
    """Whom it may reach, what it may touch, with which permissions, how much: each that is changed by it."""
    listed, said = tmp_path / "alerts", tmp_path / "said"
    listed.write_bytes(encode_lines(fleet[1]))
    rows = set()
    for alert in {a.alert_id: a for a in fleet[1]}.values():
        told = ordinary(verdict_on(alert, "benign", "a", "r"), SETTINGS.classifications)
        assert told[0].startswith(f"ordinary for {alert.agent_id} by a benign verdict")
        named = {line[2:16].strip(): line[18:] for line in told[1:-1]}
        rows |= named.keys()
        for recipient in alert.event.recipients:
            assert recipient in named["recipients"]
        if alert.event.resource:
            assert alert.event.resource in named["resources"]
        for item in alert.evidence:
            if item.name == "permission":
                assert item.observed in named["permissions"]
            if item.name in {"bytes", "records"} and item.observed > item.baseline["high"]:
                assert f"in one call of {item.baseline['tool']} (rarely above" in named["volume"]
    assert rows >= {"recipients", "their domains", "data", "resources", "permissions", "tools", "volume"}
    words = ("verdict", "benign", alert.alert_id, "--alerts", str(listed))
    shown = strayline(*words, "--show", "--to", str(said))
    assert (shown.returncode, shown.stdout.splitlines()) == (0, told)
    assert not said.exists()
    assert strayline(*words, "--to", str(said)).returncode == 2  # who says so?
    assert (
        strayline(*words, "--by", "a", "--reason", "r", "--to", str(said)).stderr.splitlines()[1 : len(told) + 1]
        == told
    )


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


@pytest.mark.parametrize(
    ("change", "said"),
    [(["--by", " "], "--by: must not be empty"), (["--reason", ""], "--reason: must not be empty"), (["--time", "noon"], "is no time with an offset")],
)  # fmt: skip
def test_a_verdict_has_an_owner_a_reason_and_a_time(change, said):
    """Or it is refused before anything is looked for."""
    told = strayline("verdict", "benign", "a", "--by", "ana", "--reason", "r", *change)
    assert told.returncode == 2
    assert said in told.stderr


def test_what_cannot_be_found_or_written_is_named(tmp_path, fleet):
    """With what to do."""
    none = tmp_path / "alerts.jsonl"
    none.write_bytes(b'not json "a"\n' + encode(fleet[1][0]) + b"\n")
    with pytest.raises(InputError, match="has no alert 'a'"):
        alert_in(str(none), "a")
    with pytest.raises(InputError, match="check the path"):
        alert_in(str(tmp_path / "nowhere"), "a")
    with pytest.raises(OutputError, match="choose another path"):
        append(str(tmp_path), b"{}")


def test_of_an_alert_the_last_revision_is_judged(fleet, tmp_path):
    """It has all the evidence."""
    many = next(a for a in fleet[1] if a.revision > 1)
    path = tmp_path / "alerts.jsonl"
    path.write_bytes(encode_lines(fleet[1]))
    assert alert_in(str(path), many.alert_id).revision == max(
        a.revision for a in fleet[1] if a.alert_id == many.alert_id
    )


GOOD = {
    "alert_id": "a", "agent_id": "g", "verdict": "benign", "time": 1.0, "by": "ana", "reason": "r", "evidence": [],
    "event": {"event_id": "e", "action": "read"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"verdict": "true_positive"}, "bad_value"),
        ({"by": ""}, "bad_value"),
        ({"time": "2026-03-01T00:00:00"}, "bad_value"),
        ({"evidence": [{"name": "tool", "observed": "x", "baseline": {"own": "many"}}]}, "bad_value"),
        ({"evidence": [{"name": "tool", "observed": "x"}] * 65}, "bad_value"),
        ({"reason": None}, "bad_value"),
        ({"event": {}}, "missing_field"),
    ],
)
def test_what_is_no_verdict_is_set_aside_with_its_reason(change, reason):
    """Like an event that is none."""
    found = decode_verdict(encode(GOOD | change), 7)
    assert isinstance(found, Reject)
    assert (found.reason, found.position) == (reason, 7)
    assert isinstance(decode_verdict(encode(GOOD), 7), Verdict)


def test_bytes_that_are_no_json_are_set_aside_too(tmp_path):
    """In a file as on a topic."""
    assert decode_verdict(None, 1).reason == "empty"
    assert decode_verdict(b"\xff", 1).reason == "not_json"
    assert decode_verdict(b'{"x":' + b"[" * 1000, 1).reason == "too_deep"
    path = tmp_path / "v.jsonl"
    path.write_bytes(encode(GOOD | {"time": 5.0, "by": "late"}) + b"\nnonsense\n" + encode(GOOD) + b"\n")
    found, rejects = verdicts_in(str(path))
    assert [v.by for v in found] == ["ana", "late"]
    assert [r.position for r in rejects] == [2]


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
    st.sampled_from(["from a to b to c", "straight to x at the start of a session", "read with x with y", "restricted data outside the organisation", "data of unknown class to a recipient", "internal data to an agent"]),
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
