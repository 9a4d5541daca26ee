"""The benchmarks read the evaluator rightly, and no peer looks ahead. Nothing here is timed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ablation, detection, floods, midas, peers, report, robustness, sets
from models.signals import PAYS, SIGNALS
from models.table import Array
from stream.settings import PREFIX
from stream.simulate import KINDS

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


@pytest.mark.parametrize(
    "name",
    [
        *(name for name in peers.PEERS if name != peers.PYSAD),
        pytest.param(
            peers.PYSAD, marks=pytest.mark.skipif(peers.PYSAD not in peers.PEERS, reason="no PySAD: the extra `bench`")
        ),
    ],
)
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
    ("recall", "told"), [((0.88, 0.96), "met"), ((0.87, 0.99), "NOT MET"), ((0.9, 0.95), "NOT MET")]
)
def test_a_goal_is_met_when_both_recalls_reach_it(recall, told):
    """Reaching it exactly counts."""
    assert detection.verdict("agentdojo-banking", dict(zip(("recall_1", "recall_5"), recall, strict=True))) == told


def test_the_mean_is_over_the_five_fleets_alone():
    """And it is left out when one of them was."""
    numbers = {name: dict.fromkeys(detection.NUMBERS, float(i)) for i, name in enumerate(sets.ORDER)}
    mean = detection.with_mean(numbers, dict)
    assert mean[sets.FLEETS_MEAN]["recall_1"] == 2.0
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


@pytest.mark.parametrize("off", ["tool", "all of drift"])
def test_what_is_off_pays_nothing_and_the_others_the_same(off):
    """The table that everything else reads keeps its weights."""
    for signal, pays, usual in zip(SIGNALS, ablation.without(ablation.OFF[off]), PAYS, strict=True):
        assert tuple(pays) == (0.0 if signal.name in ablation.OFF[off] else signal.weight, signal.dead)
        assert tuple(usual) == (signal.weight, signal.dead)


def test_a_score_is_made_of_what_the_signals_pay_that_are_on():
    """The loop takes what it is given: of events that are strange in several ways only the kind that still pays is left."""
    records = ablation.decoded([json.dumps(event).encode() for event in events()], {})

    def of(*off: str) -> Array:
        return ablation.scores(ablation.scored(records, {}, ablation.without(off))[1])

    usual, nothing = of(), of(*(s.name for s in SIGNALS))
    scopes = of(*(s.name for s in SIGNALS if s.name != "permission"))
    assert not nothing.any()
    assert 0 < scopes.max() < usual.max()


def test_the_fleets_of_the_demo_are_labelled_by_what_was_planted(tmp_path):
    """As a set like the others, each incident with all of its events and its kind."""
    s = sets.demo_set(7, tmp_path)
    rows, ids = sets.read(s.labels), {event["event_id"] for event in sets.read(s.events)}
    assert {row["event_id"] for row in rows} <= ids
    assert {row["kind"] for row in rows} == set(KINDS)


def test_every_signal_is_switched_off_once_alone_and_once_with_its_group_where_it_has_one():
    """A signal that no ablation looks at could stay for nothing."""
    alone = [of for of in ablation.OFF.values() if len(of) == 1]
    assert sorted(alone) == sorted((s.name,) for s in SIGNALS)
    groups = [{next(s.group for s in SIGNALS if s.name == name) for name in of} for of in ablation.OFF.values()]
    assert all(len(group) == 1 for group in groups)


def test_a_family_counts_by_its_mean_in_the_worth_of_a_signal():
    """And its sets by themselves where not all of them were judged."""
    on = {name: dict.fromkeys(ablation.NUMBERS, 0.5) for name in sets.ORDER}
    off = {name: dict.fromkeys(ablation.NUMBERS, 0.5 - 0.1 * (name in sets.FLEETS[1:])) for name in sets.ORDER}
    worth = ablation.changes({ablation.ALL: on, "tool": off})["tool"]
    assert worth["fleets"]["recall_1"] == pytest.approx(-0.08)
    assert worth["taubench-retail"]["recall_1"] == 0.0
    assert not set(sets.FLEETS) & set(worth)
    del on["fleet-102"], off["fleet-102"]
    assert "fleet-101" in ablation.changes({ablation.ALL: on, "tool": off})["tool"]


def test_our_numbers_are_held_against_the_best_peer_of_each():
    """A peer that is best at one number need not be at another; where none has any there is no ratio."""
    numbers = (*detection.NUMBERS, detection.RATE)
    ours = dict.fromkeys(numbers, 0.6)
    one, other = dict.fromkeys(numbers, 0.3), dict.fromkeys(numbers, 0.2) | {"ap": 1.2}
    one["recall_1"] = other["recall_1"] = 0.0
    assert detection.over_the_best(ours, [one, other]) == [None, "2.0 x", "2.0 x", "0.5 x", "2.0 x", "2.0 x"]


def test_midas_scores_a_burst_by_how_far_it_is_from_an_even_share():
    """The chi-squared statistic of the paper, by hand: an edge once a tick for nine ticks, then five times in the tenth."""
    sketches = midas.Sketches(1.0)
    even = [sketches.score("a", "b", float(t)) for t in range(9)]
    assert even[0] == 0.0
    burst = [sketches.score("a", "b", 9.0) for _ in range(5)][-1]
    a = 5 + sum(midas.FADE**n for n in range(1, 10))
    s, t = 14, 10
    assert burst == pytest.approx((a - s / t) ** 2 * t * t / (s * (t - 1)))
    assert burst > max(even)


def test_midas_notices_the_burst_of_a_node_whose_edges_are_all_single():
    """That is what its relational variant is for."""
    sketches = midas.Sketches(60.0)
    quiet = [sketches.score(f"s{i % 50}", f"d{i % 7}", 60.0 * i) for i in range(2000)]
    fan_out = [sketches.score("s1", f"new{i}", 60.0 * 2000) for i in range(50)]
    assert fan_out[-1] > max(quiet[100:])


def test_auc_is_the_share_of_pairs_in_their_order():
    """Ties are half."""
    assert floods.auc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert floods.auc(np.array([1.0]), np.array([1.0, 1.0])) == 0.5
    assert floods.auc(np.array([0.0, 2.0]), np.array([1.0])) == 0.5


@pytest.mark.parametrize("make", [floods.calls, floods.network])
def test_a_stream_has_floods_of_hundreds_within_minutes_behind_its_warm_up(make):
    """The same for every run, in order of time; and a perfect score is judged perfect."""
    stream = make()
    assert [e["time"] for e in stream.events] == sorted(e["time"] for e in stream.events)
    assert stream.events == make().events
    for n in range(len(stream.kinds)):
        times = [e["time"] for e, of in zip(stream.events, stream.flood, strict=True) if of == n]
        assert len(times) >= 200
        assert times[-1] - times[0] < 20 * 60
        assert times[0] > floods.BEGIN + floods.WARM_UP_DAYS * DAY
    told = floods.judged(stream, (stream.flood >= 0).astype(float))
    assert all(by == {"auc": 1.0, "noticed": 1.0, "first": 1.0} for by in told.values())


def test_a_shift_moves_every_time_by_as_much_however_it_is_written():
    """Offsets from UTC included."""
    shift = robustness.shifted(3600.0)
    moved = shift([{"time": 5.0}, {"time": "2026-03-02T23:30:00+02:00"}], {})
    assert moved == [{"time": 3605.0}, {"time": "2026-03-02T22:30:00.000+00:00"}]


def test_copies_have_names_of_their_own_and_none_of_the_incidents():
    """Ten times the agents, and the same incidents."""
    some = [e | {"session_id": "s"} for e in events(20)]
    out = robustness.copied(some, {"e3": "i"})
    assert len({e["agent_id"] for e in out}) == 20
    assert len({e["event_id"] for e in out}) == len(out) == 20 + 9 * 19
    assert len({e["session_id"] for e in out}) == 10
    assert sum(e["event_id"].split("~")[0] == "e3" for e in out) == 1
    assert [e["time"] for e in out] == sorted(e["time"] for e in out)


def test_thinning_drops_whole_harmless_sessions_and_keeps_every_incident():
    """And one agent with an incident is among those that are kept."""
    some = [e | {"session_id": f"s{i // 4}"} for i, e in enumerate(events(4000))]
    incidents = {f"e{i}": "i" for i in range(100, 120, 2)}
    thin = robustness.few_sessions(some, incidents)
    assert set(incidents) <= {e["event_id"] for e in thin}
    assert 200 < len(thin) < 600
    of_session = {e["session_id"]: 0 for e in thin}
    for e in thin:
        of_session[e["session_id"]] += e["event_id"] not in incidents
    assert set(of_session.values()) <= {0, 2, 4}
    assert {e["agent_id"] for e in robustness.few_agents(some, incidents)} == {"agent-0"}


@judged_here
def test_a_run_that_breaks_is_told_and_does_not_end_the_others(tiny, tmp_path):
    """The reason is what replay said."""
    broken = tiny._replace(settings={"STRAYLINE_NO_SUCH_SETTING": "1"})
    assert "STRAYLINE_NO_SUCH_SETTING" in robustness.judged(broken, tmp_path)["broke"]
    assert "broke" not in robustness.judged(tiny, tmp_path)


def test_numbers_are_kept_beside_the_machine_they_come_from(monkeypatch, tmp_path):
    """A number without its load is not worth quoting."""
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "OUT", tmp_path / "bench-out")
    report.save("some", {"a": 1.0})
    kept = json.loads((tmp_path / "bench-out" / "some.json").read_text())
    assert kept["results"] == {"a": 1.0}
    assert {"cpus", "load", "python"} <= kept["machine"].keys()
