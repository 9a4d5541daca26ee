"""The command that says a verdict, the files and lines that keep it, and the replay that heeds it at its time."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stream.alert import Alert, rfc3339
from stream.codec import Reject, encode, encode_lines
from stream.engine import Engine
from stream.errors import InputError, OutputError
from stream.judge import alert_in, append, verdict_on
from stream.judge import seconds as instant
from stream.ordinary import told as ordinary
from stream.replay import replay
from stream.simulate import simulate
from stream.verdict import Verdict, decode_verdict, verdicts_in
from tests import telling
from tests.judging import GOOD, SETTINGS, verdict
from tests.replaying import no_file_larger_than
from tests.shared import knowledge

ROOT = Path(__file__).resolve().parent.parent


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


def test_what_a_malicious_verdict_marks_is_told_before_and_when_it_is_said(fleet, tmp_path):
    """Each thing that the alert named and that the agent had hardly ever shown, and from which amounts on; an event with one of these teaches nothing."""
    listed, said = tmp_path / "alerts", tmp_path / "said"
    listed.write_bytes(encode_lines(fleet[1]))
    rows = set()
    for alert in {a.alert_id: a for a in fleet[1]}.values():
        told = ordinary(verdict_on(alert, "malicious", "a", "r"), SETTINGS.classifications)
        named = {line[2:16].strip(): line[18:] for line in told[1:-1]}
        rows |= named.keys()
        assert told[0].startswith(
            f"marked for {alert.agent_id}" if named else f"nothing is marked for {alert.agent_id}"
        )
        for item in alert.evidence:
            row = {"recipient": "recipients", "domain": "their domains", "permission": "permissions"}.get(item.name)
            common = item.name == "permission" and item.baseline.get("peers", 0.0) - min(1.0, item.baseline["own"]) >= 2
            if row:
                marked = f"{item.observed} (never)" in named.get(row, "") or f"{item.observed} (seldom" in named.get(
                    row, ""
                )
                assert marked == (item.baseline["own"] < 0.5 and not common), (item, told)
            if item.name == "records" and item.observed > item.baseline["high"]:
                (least,) = re.findall(
                    rf"([\d,]+) records? or more in one call of {re.escape(item.baseline['tool'])}", named["volume"]
                )[:1]
                assert item.baseline["typical"] <= float(least.replace(",", "")) <= item.observed
    assert rows >= {"recipients", "their domains", "data", "resources", "permissions", "volume"}
    words = ("verdict", "malicious", alert.alert_id, "--alerts", str(listed))
    shown = strayline(*words, "--show")
    assert (shown.returncode, shown.stdout.splitlines()) == (0, told)
    done = strayline(*words, "--by", "a", "--reason", "r", "--to", str(said))
    assert done.stderr.splitlines()[1 : len(told) + 1] == told


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


def test_a_full_disk_costs_no_verdict_that_was_said_before_or_is_said_after(tmp_path):
    """Half a line would take the next one with it; nor does one that an editor left without its end."""
    path = tmp_path / "said.jsonl"
    append(str(path), b'{"n": 1}')
    with no_file_larger_than(12), pytest.raises(OutputError, match="File too large"):
        append(str(path), b'{"n": 2}')
    assert path.read_bytes() == b'{"n": 1}\n'
    path.write_bytes(b'{"n": 1}')
    append(str(path), b'{"n": 3}')
    assert [line["n"] for line in lines_of(path)] == [1, 3]


def test_of_an_alert_the_last_revision_is_judged(fleet, tmp_path):
    """It has all the evidence."""
    many = next(a for a in fleet[1] if a.revision > 1)
    path = tmp_path / "alerts.jsonl"
    path.write_bytes(encode_lines(fleet[1]))
    assert alert_in(str(path), many.alert_id).revision == max(
        a.revision for a in fleet[1] if a.alert_id == many.alert_id
    )


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
