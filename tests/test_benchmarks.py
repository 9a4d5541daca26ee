"""The benchmarks read the evaluator rightly, and no peer looks ahead. Nothing here is timed."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from benchmarks import ablation, detection, peers, report, sets
from stream.settings import PREFIX

judged_here = pytest.mark.skipif(
    not (sets.SHARED / "tools" / "evaluate.py").exists(),
    reason=f"THE READING OF THE EVALUATOR IS NOT TESTED: no {sets.SHARED}/tools/evaluate.py; the environment variable SHARED says where",
)
DAY = 86400.0


def events(n: int = 200, days: float = 20.0) -> list[dict]:
    """Two agents' calls over some days, two every step, amounts and recipients among them."""
    return [
        {
            "event_id": f"e{i}",
            "time": 1_750_000_000 + i * days * DAY / n,
            "agent_id": f"agent-{i % 2}",
            "action": "send",
            "tool": f"tool-{i % 5}",
            "scopes": [f"scope-{i % 3}"],
            "bytes": 100 + 13 * i % 97,
            "recipients": [{"id": f"user-{i * i % 11}"}],
        }
        for i in range(n)
    ]


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> sets.LabelledSet:
    """Four incidents of one event each, of two kinds, in twenty days."""
    labels = [
        {"event_id": f"e{i}", "incident_id": f"i{i}", "kind": kind}
        for i, kind in ((100, "scope"), (120, "scope"), (140, "volume"), (160, "volume"))
    ]
    return sets.LabelledSet(
        "tiny",
        write_lines(tmp_path / "events.jsonl", events()),
        write_lines(tmp_path / "tiny.labels.jsonl", labels),
        {},
        3.0,
    )


@judged_here
def test_recall_is_that_of_incidents_at_the_budget_of_its_name(tiny, tmp_path):
    """Three incidents stand above everything harmless, one below everything: 3 of 4, at any budget that allows few alerts."""
    high = {"e100": 9.0, "e120": 9.0, "e140": 9.0, "e160": -1.0}
    rows = [{"event_id": e["event_id"], "score": high.get(e["event_id"], i / 1e4)} for i, e in enumerate(events())]
    numbers = sets.ranking(sets.judge(tiny, write_lines(tmp_path / "scores.jsonl", rows)))
    assert numbers["recall_1"] == 0.75
    assert numbers["recall_20"] == 1.0  # more false alerts are allowed than there are harmless events
    assert 0.75 < numbers["ap"] < 0.8
    assert numbers["mean_ap"] == pytest.approx((1.0 + (1 / 2 + 0.5 * 2 / 168)) / 2, abs=0.01)


@judged_here
def test_alerts_are_counted_by_the_day_and_by_severity(tiny, tmp_path):
    """One alert tells an incident and one does not, in the seventeen days behind the warm-up."""
    by_id = {e["event_id"]: e for e in events()}

    def alert(event_id, severity):
        at = by_id[event_id]["time"]
        return {
            "alert_id": event_id,
            "revision": 1,
            "time": at,
            "agent_id": by_id[event_id]["agent_id"],
            "severity": severity,
            "evidence": [{"event_ids": [event_id]}],
        }

    path = write_lines(tmp_path / "alerts.jsonl", [alert("e100", "high"), alert("e111", "low")])
    told = sets.alerting(sets.judge(tiny, alerts=path))
    assert told["alerts_per_day"] == pytest.approx(2 / 16.9, rel=0.01)
    assert told["false_per_day"] == pytest.approx(told["alerts_per_day"] / 2)
    assert (told["precision"], told["recall"]) == (0.5, 0.25)
    assert told["severity"] == {"critical": [0, 0], "high": [1, 1], "medium": [0, 0], "low": [0, 1]}


@pytest.mark.parametrize("name", peers.PEERS)
def test_a_peer_scores_an_event_by_nothing_that_comes_after_it(name):
    """Other events behind the hundredth change nothing up to it, and the events behind it do get scores that can differ."""
    before, after = events(600)[:300], events(600)[300:]
    changed = [e | {"tool": f"other-{i}", "bytes": 10**9} for i, e in enumerate(after)]
    a = peers.scored(peers.PEERS[name](), [*before, *after])
    b = peers.scored(peers.PEERS[name](), [*before, *changed])
    assert a[:300] == b[:300]
    assert a[300:] != b[300:]


def test_the_rules_score_before_they_learn():
    """A first use counts, the second does not, and another agent's use teaches nothing."""
    score = peers.soc_rules()
    event = {"event_id": "e", "agent_id": "a", "action": "read", "scopes": ["s"]}
    assert [score(event), score(event), score(event | {"agent_id": "b"})] == [
        2 * peers.FIRST_SEEN,
        0.0,
        2 * peers.FIRST_SEEN,
    ]


@pytest.mark.parametrize(
    ("recall", "told"), [((0.8, 0.88), "met"), ((0.79, 0.95), "NOT MET"), ((0.9, 0.87), "NOT MET")]
)
def test_a_goal_is_met_when_both_recalls_reach_it(recall, told):
    """Reaching it exactly counts."""
    assert detection.verdict("fleet-dev", dict(zip(("recall_1", "recall_5"), recall, strict=True))) == told


def test_the_mean_is_over_the_four_fleets_alone():
    """And it is left out when one of them was."""
    numbers = {name: dict.fromkeys(detection.NUMBERS, float(i)) for i, name in enumerate(sets.ORDER)}
    mean = detection.with_mean(numbers, dict)
    assert mean[sets.FLEETS_MEAN]["recall_1"] == 2.5
    del numbers["fleet-102"]
    assert sets.FLEETS_MEAN not in detection.with_mean(numbers, dict)


def test_a_replay_gets_the_settings_of_its_set_and_no_others(monkeypatch):
    """What is set where the benchmark is started must not change what it measures."""
    monkeypatch.setenv("STRAYLINE_ALERTS_PER_DAY", "77")
    given = sets.environment({"STRAYLINE_DOMAINS": "acme.example"})
    assert {k: v for k, v in given.items() if k.startswith(PREFIX)} == {"STRAYLINE_DOMAINS": "acme.example"}


def test_a_missing_folder_is_said_and_nothing_fails(monkeypatch, capsys, tmp_path):
    """Who has only the checkout still gets the rest of `make bench`."""
    monkeypatch.setattr(detection, "absent", lambda: sets.absent(tmp_path))
    assert detection.detection() is None
    assert "DETECTION NOT MEASURED" in capsys.readouterr().out


@pytest.mark.parametrize("group", ["scope", "drift"])
def test_an_ablated_copy_pays_nothing_for_its_group_and_the_same_for_the_others(group, tmp_path):
    """The checkout itself keeps its weights."""
    copy = runpy.run_path(str(ablation.without(group, tmp_path) / "models" / "signals.py"))
    for signal, weight in zip(copy["SIGNALS"], copy["WEIGHT_OF"], strict=True):
        assert weight == (0.0 if signal.group == group else signal.weight)


def test_numbers_are_kept_beside_the_machine_they_come_from(monkeypatch, tmp_path):
    """A number without its load is not worth quoting."""
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "OUT", tmp_path / "bench-out")
    report.save("some", {"a": 1.0})
    kept = json.loads((tmp_path / "bench-out" / "some.json").read_text())
    assert kept["results"] == {"a": 1.0}
    assert {"cpus", "load", "python"} <= kept["machine"].keys()
