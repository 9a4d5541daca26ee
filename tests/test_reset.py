"""A baseline that an operator begins anew: the agent is a newcomer, and nobody else notices."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.kafka import Broker
from models import parties
from models.table import find
from stream.alert import rfc3339
from stream.codec import Reject, encode, encode_lines
from stream.engine import Engine
from stream.explain import baseline, baseline_text
from stream.judge import reset_of
from stream.siphash import name_hash
from stream.topics import BASELINES, EVENTS, VERDICTS
from stream.verdict import Reset, decode_verdict
from tests.judging import AGENTS, BEGIN, DAY, SETTINGS, day, event, leak, past, run
from tests.shared import rows
from tests.site import Site, fleet, strayline

AGENT = "assistant-0"
MARKED = np.uint64(name_hash(AGENT))


def reset(at: float = 0.0, agent_id: str = AGENT) -> Reset:
    found = decode_verdict(reset_of(agent_id, "ana", "other work", at), 0)
    assert isinstance(found, Reset)
    return found


def later(engine: Engine) -> float:
    return float(engine.state.fleet["clock"]) + 3600.0


def test_it_is_judged_as_an_agent_never_seen():
    """Score for score and part for part, and its alerts say that it is warming."""
    found = []
    for agent_id in (AGENT, "assistant-new"):
        engine, before, _ = past(leak(20))
        if agent_id == AGENT:
            engine.judge(reset())
        at = later(engine)
        first = event(0, at) | {"agent_id": agent_id}
        strange = leak(22) | {"agent_id": agent_id}
        scored = run(engine, [first, event(0, at + 5, tool="crm.write") | {"agent_id": agent_id}, strange])
        found.append((scored.score.tolist(), scored.parts.tolist(), scored.alerts[-1].warming))
        assert scored.score[-1] != pytest.approx(before, abs=0.5)
    assert found[0] == found[1]
    assert found[0][2]


def test_its_alerts_say_that_it_was_reset_and_when_for_five_days():
    """Else what is new to it since would read as what it never did; of an agent of which no baseline was reset nothing is said."""
    for days, agent_id in ((0, AGENT), (3, AGENT), (6, AGENT), (0, "assistant-1")):
        engine, _, _ = past(leak(20))
        at = float(engine.state.fleet["clock"])
        engine.judge(reset())
        stored = [b for b in engine.episodes.rollouts.began.values() if b.agent_id == ""]
        engine.episodes.rollouts.restore(stored)  # as a host does
        when = later(engine) + days * DAY
        strange = [leak(n) | {"agent_id": agent_id, "time": when + n} for n in range(22, 28)]
        others = [event(0, when - 60) | {"agent_id": f"assistant-{n}"} for n in (2, 3)]  # whose clocks confirm the time
        alert = run(engine, [*others, event(0, when) | {"agent_id": agent_id}, *strange]).alerts[-1]
        assert alert.agent_id == agent_id
        assert (", and it is judged mostly by what " in alert.reason) is (agent_id == AGENT and days < 5)
        said = f" Its baseline was reset {f'{days} days' if days else '60 minutes'} before, at {rfc3339(at)[:16].replace('T', ' ')} UTC"
        assert (said in alert.reason) is (agent_id == AGENT and days < 5)
        assert "was reset" not in alert.reason.replace(said, "")
        # Counted from its events, also by what is said hours later, when it has ended.
        after = [event(0, when + 8 * 3600 + n) | {"agent_id": f"assistant-{n}"} for n in (2, 3)]
        last = [a for a in run(engine, after).alerts if a.alert_id == alert.alert_id]
        assert last or agent_id != AGENT
        assert all(said in a.reason for a in last) or said not in alert.reason
        assert "The agent is new" not in alert.reason or agent_id != AGENT


def test_it_touches_no_row_of_anybody_else():
    """Its own row, its own contacts, and the row that says which key it left."""
    engine, _, _ = past(leak(20))
    others = [f"assistant-{n}" for n in range(1, AGENTS)]
    told = [baseline(engine, other) for other in others]
    before = {t.layout.name: (t.head.copy(), t.body.copy()) for t in engine.state.tables}
    engine.judge(reset())
    changed = {}
    for t in engine.state.tables:
        head, body = before[t.layout.name]
        where = head != t.head
        if len(body) == len(head):
            where |= (body != t.body).any(axis=1)
        changed[t.layout.name] = t.head["key"][where].tolist()
    left = int(parties.left_behind(parties.agent_entity(MARKED)))
    assert {name: keys for name, keys in changed.items() if keys} == {
        "facts": [left],
        "agents": [int(MARKED)],
        "contacts": [int(MARKED)],
    }
    assert [baseline(engine, other) for other in others] == told


def test_what_is_known_of_it_is_said_to_have_begun_anew():
    """And nothing of before is in it."""
    engine, _, _ = past(leak(20))
    engine.judge(reset())
    told = baseline(engine, AGENT)
    assert told is not None
    assert (told["events"], told["usual"], told["amounts"], told["daily_amounts"]) == (0, {}, {}, [])
    assert "0 events since its baseline was begun anew, behind the fleet's event of 2026-" in baseline_text(told)
    run(engine, day(22))
    told = baseline(engine, AGENT)
    assert told is not None
    assert {u["value"] for u in told["usual"]["tool"]} == {"crm.read", "mail.send"}
    assert "40 events since its baseline was begun anew, behind the fleet's event of 2026-03-22" in baseline_text(told)


def test_an_agent_whose_row_gave_way_does_not_find_what_it_was():
    """However often it was reset; so a flood of names does not bring a poisoned baseline back."""
    engine, _, _ = past(leak(20))
    keys = [int(parties.agent_entity(MARKED))]
    for _ in range(2):
        engine.judge(reset())
        keys.append(int(parties.entity_of(engine.state.arrays(), MARKED)))
    assert len(set(keys)) == 3
    agents = engine.state["agents"].head
    agents[find(agents, MARKED)]["key"] = 1  # another has its place
    assert int(parties.entity_of(engine.state.arrays(), MARKED)) == keys[-1]


def test_an_open_alert_of_it_ends_with_its_last_words():
    """And what it does next is another."""
    engine, _, alert = past(leak(20))
    run(engine, [leak(20, time=BEGIN + 20 * DAY + 18.2 * 3600)])
    unsaid = engine.episodes.open[AGENT].events > engine.episodes.open[AGENT].said
    last = engine.judge(reset())
    assert [a.alert_id for a in last] == [alert.alert_id] * unsaid
    assert AGENT not in engine.episodes.open
    assert engine.judge(reset(agent_id="nobody")) == []


@pytest.mark.parametrize("detector", ["", "HalfSpaceTrees"])
def test_a_replay_heeds_it_at_its_time_wherever_batches_are_cut(detector):
    """Two of them on a day, one on an agent that has a strange past."""
    events = [e for number in range(6) for e in day(number)] + [leak(6)] + [e for n in (7, 8) for e in day(n)]
    said = [reset(BEGIN + 7 * DAY + 9 * 3600, AGENT), reset(BEGIN + 7 * DAY + 9.5 * 3600, "assistant-3")]
    found = set()
    for size in (1, 97, len(events)):
        engine = Engine(replace(SETTINGS, river_detector=detector))
        engine.verdicts = deque(said)
        out = []
        for low in range(0, len(events), size):
            scored = run(engine, events[low : low + size])
            out += [scored.lines(), encode_lines(scored.alerts)]
        found.add((b"".join(out[::2]), b"".join(out[1::2]), str(rows(engine.state))))
        assert not engine.verdicts
    assert len(found) == 1


@pytest.mark.parametrize(
    "change", [{"by": None}, {"reason": ""}, {"agent_id": ""}, {"time": "yesterday"}, {"verdict": "Reset"}]
)
def test_a_reset_has_an_agent_an_owner_a_reason_and_a_time(change):
    """Or it is set aside, as what is no verdict is."""
    sound = json.loads(reset_of(AGENT, "ana", "other work", 1.0))
    assert isinstance(decode_verdict(encode(sound), 0), Reset)
    kept = {name: value for name, value in (sound | change).items() if value is not None}
    assert isinstance(decode_verdict(encode(kept), 0), Reject)


def test_it_can_be_kept_in_a_file(tmp_path):
    """For a replay; and it has an owner."""
    to = tmp_path / "said.jsonl"
    words = ("--by", "ana", "--reason", "CHG-1", "--to", str(to))
    told = strayline("reset", AGENT, *words)
    assert "before the first event later than the time of now (for events of the past give --time)" in told.stderr
    to.unlink()
    told = strayline("reset", AGENT, *words, "--time", "2026-03-12T08:44:00Z")
    assert told.returncode == 0
    assert told.stderr.startswith(
        f"{AGENT}: to begin anew, by ana, written to {to}; `strayline replay --verdicts` heeds it before the first event later than 2026-03-12T08:44:00.000Z, "
    )
    assert json.loads(to.read_text())["time"] == "2026-03-12T08:44:00.000Z"
    assert strayline("reset", AGENT, "--by", " ", "--reason", "x").returncode == 2


def test_a_reset_of_an_agent_that_no_event_is_of_is_told_of(tmp_path):
    """Most likely its name is another."""
    events, said = tmp_path / "events", tmp_path / "said"
    events.write_bytes(encode({"event_id": "e", "time": 1772445600, "agent_id": AGENT, "action": "read"}) + b"\n")
    for agent, told_of in ((AGENT, False), (f"{AGENT}x", True)):
        said.write_bytes(reset_of(agent, "ana", "other work", 1772445000.0) + b"\n")
        told = strayline("replay", str(events), "--verdicts", str(said)).stderr
        assert "1 verdict heeded\n" in told
        meant = f"1 agent that verdicts or resets name has no event here: {agent}; is this meant: {AGENT}?"
        assert (meant in told) is told_of


@pytest.mark.kafka
def test_a_worker_heeds_it_exactly_once_and_its_alerts_are_those_of_replay(broker: Broker, tmp_path: Path, unique):
    """Sent to the partition of its agent; and the worker explains the agent as begun anew."""
    site = Site(broker, tmp_path, unique("group"))
    records = fleet(19, agents=12, days=8, garbage=0.0)
    half = len(records) // 2
    site.produce(records[:half])
    agent_id = json.loads(records[half - 1][1] or b"")["agent_id"]
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: half})
        stored = site.end(BASELINES)
        words = ("--by", "ana", "--reason", "CHG-1", "--time", "2026-03-03T08:00:00Z")  # a worker has no such time
        told = strayline("reset", agent_id, *words, STRAYLINE_BROKER=site.bootstrap)
        assert told.returncode == 0, told.stderr
        assert (
            "its worker heeds it when it reads it, behind the events that it has scored by then, and not at 2026-03-03T08:00:00.000Z"
            in told.stderr
        )
        assert f"`strayline explain {agent_id} --worker HOST:PORT` shows since when" in told.stderr
        worker.until(lambda: worker.metric("strayline_verdicts_total", verdict="reset") == 1)
        worker.until(lambda: site.end(BASELINES) > stored)
    site.produce(records[half:])
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: len(records)})
        explained = strayline("explain", agent_id, "--worker", worker.address)
        assert "since its baseline was begun anew, behind the fleet's event of" in explained.stdout
        assert worker.stop() == 0
    (word,) = site.read(VERDICTS)
    engine = Engine(site.settings)
    run_to_half = engine.score(engine.decode([value for _, value in records[:half]], range(half)))
    assert run_to_half.alerts
    said = tmp_path / "said.jsonl"
    said.write_bytes(encode(json.loads(word.value) | {"time": float(engine.state.fleet["clock"]) + 0.0005}) + b"\n")
    expected = site.same_as_replay(verdicts=str(said))
    assert expected != site.replayed()[1]
    assert site.end(EVENTS) == len(records)
