"""Events through the engine: the same bytes out for the same events in, each record scored or rejected, none lost or invented."""

from __future__ import annotations

import base64
import json
import math
import re
import subprocess
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.signals import KINDS
from stream.codec import REASONS, encode_lines
from stream.engine import Engine
from stream.settings import load
from tests.replaying import (
    COMMAND,
    environment,
    event,
    fed,
    into,
    results,
    written,
)
from tests.shared import few

# The same bytes


def test_the_same_events_give_the_same_bytes(records, replayed, tmp_path):
    """A score that cannot be had again cannot be argued about."""
    path = written(tmp_path / "in", records)
    first = replayed(path)
    assert first.alerts
    assert replayed(path) == first


@pytest.mark.parametrize(("seed", "zone"), [("1", "Asia/Tokyo"), ("2", "America/New_York")])
def test_neither_the_hash_seed_nor_the_time_zone_changes_a_byte(seed, zone, records, replayed, tmp_path):
    """Sets and dicts are ordered differently in every process, and local time differs between machines."""
    path = written(tmp_path / "in", records)
    here = replayed(path)
    there = tmp_path / "there"
    there.mkdir()
    subprocess.run(
        [*COMMAND, "replay", path, *into(there)],
        env=environment(PYTHONHASHSEED=seed, TZ=zone),
        capture_output=True,
        check=True,
    )
    assert results(there) == here


@few
@given(data=st.data())
def test_it_does_not_matter_where_batches_are_cut(records, data):
    """Kafka cuts them where it likes; neither a score nor an alert, nor their order, may follow from that."""
    cuts = sorted(data.draw(st.sets(st.integers(1, len(records) - 1), max_size=60), label="cuts"))
    batches = [records[i:j] for i, j in pairwise([0, *cuts, len(records)])]
    assert fed(Engine(load({})), batches) == fed(Engine(load({})), [records])


def test_batches_of_one_give_the_same_bytes(records):
    """The smallest batch there is: an agent that acts once a minute on an idle topic."""
    assert fed(Engine(load({})), [[record] for record in records]) == fed(Engine(load({})), [records])


def test_it_does_not_matter_where_batches_are_cut_with_a_river_detector(events):
    """Its detectors are objects beside the tables, and learn one event at a time."""
    ours = load({"STRAYLINE_RIVER_DETECTOR": "HalfSpaceTrees"})
    part = events[:900]
    cut = [part[i : i + 61] for i in range(0, len(part), 61)]
    assert fed(Engine(ours), cut) == fed(Engine(ours), [part])


# Scores


def test_each_accepted_event_has_one_finite_score_in_input_order(records, replayed, tmp_path):
    """Whoever joins scores to events by line must be able to."""
    out = replayed(written(tmp_path / "in", records))
    rejected = [json.loads(line)["position"] for line in out.rejects.splitlines()]
    accepted = [json.loads(r) for i, r in enumerate(records, 1) if i not in set(rejected)]
    scores = [json.loads(line) for line in out.scores.splitlines()]
    assert rejected == sorted(rejected)
    assert [s["event_id"] for s in scores] == [e["event_id"] for e in accepted]
    assert [s["agent_id"] for s in scores] == [e["agent_id"] for e in accepted]
    for s in scores:
        assert set(s) == {"event_id", "agent_id", "score", "parts"}
        assert set(s["parts"]) == set(KINDS)
        assert all(math.isfinite(x) and x >= 0 for x in (s["score"], *s["parts"].values()))


def test_what_comes_later_does_not_change_a_score(events):
    """A score is said once; only the past may be in it."""
    half = len(events) // 2
    other = [json.dumps(json.loads(e) | {"agent_type": "other", "bytes": 1e12}).encode() for e in events[half:]]
    whole, _ = fed(Engine(load({})), [events])
    changed, _ = fed(Engine(load({})), [[*events[:half], *other]])
    assert whole.splitlines()[:half] == changed.splitlines()[:half]
    assert whole.splitlines()[half:] != changed.splitlines()[half:]


def test_an_event_is_scored_before_it_is_learned():
    """Were it learned first, the first time would be no stranger than the second."""
    usual = [event(n, agent_id=f"bot-{n % 8}", tool="crm.read", resource=f"crm/{n % 5}") for n in range(400)]
    new = [event(400 + n, agent_id="bot-1", tool="secrets.dump", resource="vault/1") for n in range(2)]
    scores, _ = fed(Engine(load({})), [[*usual, *new]])
    first, second = (sum(json.loads(line)["parts"].values()) for line in scores.splitlines()[-2:])
    assert first > 8
    assert second < 0.8 * first


def test_an_event_that_comes_again_is_scored_and_alerts_nobody_twice(events):
    """A producer that sends again after a timeout is no incident."""
    once_scores, once_alerts = fed(Engine(load({})), [events])
    twice_scores, twice_alerts = fed(Engine(load({})), [[e for e in events for _ in range(2)]])
    assert twice_alerts == once_alerts
    assert twice_scores.splitlines()[::2] == once_scores.splitlines()


def test_of_the_last_thousands_of_events_nearly_all_are_known_when_they_come_again():
    """README says how many; another event with an id of before is another event."""
    engine = Engine(load({}))
    sent = [event(n, agent_id=f"a{n % 50}") for n in range(7500)]
    fed(engine, [sent])
    assert int(engine.state.fleet["repeated"]) == 0
    fed(engine, [sent[:1000]])
    known = int(engine.state.fleet["repeated"])
    assert 850 < known < 950
    fed(engine, [[event(7499, agent_id="a49", tool="another"), sent[7499]]])
    assert int(engine.state.fleet["repeated"]) == known + 1


def test_an_event_with_very_many_recipients_is_scored_like_any_other(replayed, tmp_path):
    """It asks for more room than a nearly empty table has, several times over."""
    for count in (20, 300, 20_000):
        crowd = [{"id": f"p{i}@x.example"} for i in range(count)]
        out = replayed(written(tmp_path / "in", [event(1), event(2, recipients=crowd), event(3)]))
        assert len(out.scores.splitlines()) == 3


# Records that cannot be used


FIELDS = (
    "event_id", "time", "agent_id", "action", "agent_type", "agent_version", "principal", "session_id", "tool",
    "resource", "classification", "scopes", "bytes", "records", "recipients", "approved", "outcome", "attributes",
)  # fmt: skip
NUMBERS = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([-1, 0, 1e18, 1e308, 253402300799])
)
SCALARS = (
    st.none() | st.booleans() | NUMBERS | st.text(max_size=12) | st.sampled_from(["", "\0", "\u202e", "a/b", "success"])
)
PARTIES = st.lists(
    st.dictionaries(st.sampled_from(["id", "type", "domain", "clearance", "size"]), SCALARS, max_size=5)
    | st.builds(lambda x: {"id": x}, st.text(min_size=1, max_size=12)),
    max_size=3,
)
GARBAGE = SCALARS | PARTIES | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=4), SCALARS, max_size=3)
SOUND = st.builds(
    lambda n, more: {"event_id": str(n), "time": 1772409600 + n, "agent_id": f"a{n % 3}", "action": "read"} | more,
    st.integers(0, 10**6),
    st.dictionaries(st.sampled_from(FIELDS), GARBAGE, max_size=4),
)
BYTES = st.binary(max_size=40).map(lambda b: b.replace(b"\n", b" "))


@settings(parent=few, max_examples=60)
@given(made=st.lists(SOUND.map(json.dumps).map(str.encode) | BYTES, max_size=40))
def test_garbage_in_any_field_stops_nothing(made):
    """Every record is either scored, with finite numbers, or rejected with a reason; and what follows is scored as ever."""
    engine = Engine(load({"STRAYLINE_STATE_MIB": "16"}))
    done = engine.score(engine.decode([*made, event(1)], range(1, len(made) + 2)))
    assert len(done.events) + len(done.rejects) == len(made) + 1
    assert done.events[-1].event_id == "e1"
    assert {r.reason for r in done.rejects} <= set(REASONS)
    for line in done.lines().splitlines():
        s = json.loads(line)
        assert all(math.isfinite(x) for x in (s["score"], *s["parts"].values()))
    for line in encode_lines(done.alerts).splitlines():
        json.loads(line)


def test_rejects_keep_their_bytes_as_they_came(strayline, tmp_path):
    """So that they can be mended and sent again: text as text, anything else in base64, with the number of its line."""
    bad = [
        b"",
        b"   ",
        b"{",
        b"\xff\x00\xfe",
        '{"\u202e": \u00e9'.encode(),
        b'{"event_id": "1"}\r',
        b"[" * 600,
        event(1, bytes=-1),
    ]
    path = written(tmp_path / "in", [line for b in bad for line in (event(9), b)])
    assert strayline("replay", path, *into(tmp_path)).status == 0
    rejects = [json.loads(line) for line in results(tmp_path).rejects.splitlines()]
    kept = [
        r["value"].encode() if "value" in r else base64.b64decode(r["value_base64"], validate=True) for r in rejects
    ]
    assert kept == bad
    assert [r["position"] for r in rejects] == [2 * i for i in range(1, len(bad) + 1)]
    assert {r["source"] for r in rejects} == {str(path)}
    assert [r["reason"] for r in rejects] == [
        "empty", "empty", "not_json", "not_json", "not_json", "missing_field", "too_deep", "bad_value",
    ]  # fmt: skip


def test_the_counts_on_stderr_are_those_of_the_files(records, strayline, tmp_path):
    """They are all that most runs leave behind."""
    said = strayline("replay", written(tmp_path / "in", records), *into(tmp_path))
    counts = re.match(
        r"([\d,]+) events, ([\d,]+) rejects?, ([\d,]+) alerts \(([\d,]+) messages\) in [\d.]+ s, ([\d,]+) repeated; most often: .+\n",
        said.err,
    )
    assert counts, said.err
    out = results(tmp_path)
    ids = [json.loads(line)["alert_id"] for line in out.alerts.splitlines()]
    expected = [len(out.scores.splitlines()), len(out.rejects.splitlines()), len(set(ids)), len(ids)]
    expected.append(expected[0] - len({json.loads(line)["event_id"] for line in out.scores.splitlines()}))
    assert [int(n.replace(",", "")) for n in counts.groups()] == expected
    assert sum(expected[:2]) == len(records)
    assert expected[-1] > 0
    assert said.out == b""
    assert "; see why with --rejects PATH, most often: " in strayline("replay", tmp_path / "in").err.splitlines()[0]


def test_the_commonest_reason_is_that_of_all_rejects_though_only_so_many_are_told_apart(
    strayline, tmp_path, monkeypatch
):
    """Whatever comes first in a batch; and what is known by then is counted to the end."""
    monkeypatch.setattr("stream.replay.MOST_REASONS", 2)
    first, second, third = b"", b'{"event_id": "1"}', b"[" * 600
    text = [first, first, second, second, second, third, third, third, third]
    said, alone = (strayline("replay", written(tmp_path / "in", lines)).err for lines in (text, [second]))
    commonest = [told.splitlines()[0].partition("most often: ")[2] for told in (said, alone)]
    assert commonest[0] == commonest[1] != ""
