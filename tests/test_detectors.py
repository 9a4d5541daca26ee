"""The contract of a detector: River's own checks, and ours, over every entry of `DETECTORS`."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from river import base, checks
from scipy import stats

from models.amounts import Excess
from models.detectors import DETECTORS
from models.facts import Novelty
from models.tails import Exceedance

ROOT = Path(__file__).parent.parent
KIB = 1024

thorough = settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
each = pytest.mark.parametrize("kind", DETECTORS, ids=lambda kind: kind.__name__)
amount = st.integers(0, 10**9) | st.floats(0, 1e9)
value = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.just(10**400)
    | st.just(-(10**400))
    | st.just(sys.float_info.max)
)
features = st.dictionaries(st.sampled_from("abcdef"), value, max_size=6)


class Payments:
    """Thirty numbers a row and a few loud ones among them, in the shape of the set that River checks detectors on.

    River downloads that set (150 MB); a test must not.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[tuple[dict[str, float], int]]:
        rng = Random(7)
        for i in range(self.rows):
            fraud = rng.random() < 0.02
            v = {f"V{j}": rng.gauss(0, 4 if fraud else 1) for j in range(1, 29)}
            amount = round(rng.lognormvariate(4 if fraud else 3, 1), 2)
            yield {"Time": i / 2, **v, "Amount": amount}, int(fraud)


def ranks_anomalies_above_normal_points(detector: Any, dataset: Any) -> None:
    """River's `check_roc_auc`, which needs scikit-learn for this one number: the share of pairs in the right order."""
    scores: dict[int, list[float]] = {0: [], 1: []}
    for x, fraud in dataset:
        scores[fraud].append(detector.score_one(x))
        detector.learn_one(x)
    u = stats.mannwhitneyu(scores[1], scores[0]).statistic
    assert u / (len(scores[1]) * len(scores[0])) >= 0.5


def rivers_checks() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "_yield_datasets", lambda _, scale=1: [Payments(200 * min(scale, 5))])
        for kind in DETECTORS:
            for check in checks.yield_checks(kind()):
                if check.__name__ not in kind()._unit_test_skips():
                    yield pytest.param(kind, check, id=f"{kind.__name__}:{check.__name__}")


@pytest.mark.parametrize(("kind", "check"), list(rivers_checks()))
def test_a_detector_passes_rivers_own_checks(kind, check):
    """Whoever knows River can use it, and any of River's in its place."""
    if check.__name__ == "check_roc_auc":
        ranks_anomalies_above_normal_points(kind(), **check.keywords)
    else:
        check(kind().clone())


@each
def test_no_detector_asks_river_to_skip_a_check(kind):
    """A skip would hide what does not hold."""
    assert issubclass(kind, base.AnomalyDetector)
    assert not kind()._unit_test_skips()


@each
@thorough
@given(rows=st.lists(features, max_size=20))
def test_a_score_is_finite_and_at_least_zero_whatever_the_values(kind, rows):
    """Bits and deviates are added up: one NaN or infinity would drown everything else."""
    detector = kind()
    for x in rows:
        score = detector.score_one(x)
        assert type(score) is float
        assert math.isfinite(score)
        assert math.copysign(1, score) > 0
        detector.learn_one(x)


@each
@thorough
@given(rows=st.lists(features, max_size=20), x=features)
def test_scoring_changes_nothing(kind, rows, x):
    """An event is scored before it is learned, and may be scored again."""
    detector = kind()
    for row in rows:
        detector.learn_one(row)
    before = pickle.dumps(detector)
    first = detector.score_one(x)
    assert pickle.dumps(detector) == before
    assert detector.score_one(x) == first


@each
@thorough
@given(past=st.lists(amount, min_size=5, max_size=40), x=amount)
def test_what_is_seen_more_often_becomes_no_stranger(kind, past, x):
    """A value's score never rises from learning that same value, once five have been seen."""
    detector = kind()
    for y in past:
        detector.learn_one({"x": y})
    score = detector.score_one({"x": x})
    for _ in range(20):
        detector.learn_one({"x": x})
        again = detector.score_one({"x": x})
        assert again <= score + 1e-9
        score = again


@each
def test_what_is_seen_all_the_time_becomes_usual(kind):
    """The largest amount there ever was costs next to nothing once it is all there is."""
    detector = kind()
    for _ in range(50):
        detector.learn_one({"x": 10.0})
    strange = detector.score_one({"x": 1e6})
    for _ in range(500):
        detector.learn_one({"x": 1e6})
    assert strange > 3
    assert detector.score_one({"x": 1e6}) < 0.5


@each
@pytest.mark.parametrize("what", ["names", "values", "amounts"])
def test_memory_is_bounded(kind, what):
    """A flood of 50,000 names or values takes no more room than the first thousand."""
    detector = kind()
    row: dict[str, Callable[[int], dict[str, Any]]] = {
        "names": lambda i: {f"name-{i:06}": 1.0},
        "values": lambda i: {"x": f"value-{i:06}"},
        "amounts": lambda i: {"x": 1.5**i if i < 1000 else float(i)},
    }
    for i in range(1000):
        detector.learn_one(row[what](i))
    held, packed = detector._raw_memory_usage, len(pickle.dumps(detector))
    for i in range(1000, 50_000):
        detector.learn_one(row[what](i))
    assert detector._raw_memory_usage <= held + KIB
    assert len(pickle.dumps(detector)) <= packed + KIB
    assert packed < 128 * KIB
    assert math.isfinite(detector.score_one(row[what](50_000)))


@each
@thorough
@given(rows=st.lists(features, min_size=1, max_size=20))
def test_the_same_input_gives_the_same_scores_in_a_clone(kind, rows):
    """A clone has the parameters and none of the past."""
    first = kind()
    scores = []
    for x in rows:
        scores.append(first.score_one(x))
        first.learn_one(x)
    second = first.clone()
    for x, score in zip(rows, scores, strict=True):
        assert second.score_one(x) == score
        second.learn_one(x)
    assert pickle.dumps(first) == pickle.dumps(second)


@each
def test_the_order_of_a_dict_does_not_matter_even_where_memory_is_full(kind):
    """Encoders order fields as they like; what is forgotten must not follow from that."""
    forwards, backwards = kind(), kind()
    for i in range(60):
        row = {f"name-{i}-{j}": f"value-{j}" if j % 2 else j / 7 for j in range(50)}
        forwards.learn_one(row)
        backwards.learn_one(dict(reversed(row.items())))
        assert forwards.score_one(row) == backwards.score_one(row)
    assert pickle.dumps(forwards) == pickle.dumps(backwards)


def stream() -> Iterator[dict[str, Any]]:
    """Names, texts and numbers, with more of them than a detector keeps."""
    rng = Random(3)
    for i in range(600):
        yield {
            "tool": rng.choice(["search", "read", "drop", f"new-{i}"]),
            "size": rng.lognormvariate(5, 2),
            "ok": rng.random() < 0.9,
            f"extra-{rng.randrange(400)}": rng.random(),
            "kind": (None, rng.choice("ab")),
        }


def digest() -> str:
    """Every detector's scores of `stream`, to the last bit."""
    out = []
    for kind in DETECTORS:
        detector = kind()
        for x in stream():
            out.append(detector.score_one(x).hex())
            detector.learn_one(x)
    return json.dumps(out)


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_the_same_input_gives_the_same_scores_in_every_process(seed):
    """Python hashes strings differently in every process; a worker that restarts must not score differently."""
    program = "import runpy, sys; print(runpy.run_path(sys.argv[1])['digest']())"
    run = subprocess.run(
        [sys.executable, "-c", program, __file__],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == digest()


def test_a_table_that_is_not_a_power_of_two_is_refused():
    """Slots are found with a mask: another size would use two rows of it."""
    for rows in (0, -8, 1000):
        with pytest.raises(ValueError, match="power of two"):
            Novelty(rows=rows)
    assert Novelty(rows=1).score_one({"tool": "search"}) > 0


def test_novelty_tells_a_new_value_from_a_rare_one_and_a_rare_one_from_a_usual_one():
    """That order is what it is for."""
    detector = Novelty()
    for tool in ["read"] * 60 + ["send"] * 2:
        detector.learn_one({"tool": tool})
    usual, rare, new = (detector.score_one({"tool": tool}) for tool in ("read", "send", "drop"))
    assert usual < 0.2
    assert 3 < rare < new


def test_novelty_compares_fractions_by_their_order_of_magnitude():
    """A latency or a share never repeats exactly; that alone is not news."""
    detector = Novelty()
    for i in range(50):
        detector.learn_one({"seconds": 1.0 + i / 100})
    assert detector.score_one({"seconds": 1.999}) < 0.1
    assert detector.score_one({"seconds": 64.0}) > 5


def test_an_amount_below_the_usual_is_not_an_excess():
    """Reading little is nobody's incident."""
    detector = Excess()
    for rows in (90, 100, 110, 95, 105) * 8:
        detector.learn_one({"rows": rows})
    assert detector.score_one({"rows": 1}) == 0
    assert detector.score_one({"rows": -1e9}) == 0
    assert detector.score_one({"rows": 1000}) > 3


def test_an_exceedance_claims_no_more_than_its_evidence():
    """After n events nothing is rarer than one in n + 1."""
    detector = Exceedance()
    for n in range(1, 200):
        detector.learn_one({"z": n % 4})
        assert detector.score_one({"z": 1e9}) == pytest.approx(math.log2(n + 1))
