"""A change of the daily level is found, and is a function of the days."""

from __future__ import annotations

from statistics import fmean

from hypothesis import given, settings
from hypothesis import strategies as st
from river.drift import PageHinkley

from models import drift
from tests.shared import few

days = st.lists(st.integers(0, 200).map(lambda x: x / 8), max_size=32)


@settings(parent=few, max_examples=200)
@given(first=days, second=days)
def test_drift_is_a_function_of_the_days_alone(first, second):
    """Nothing is kept between calls, and nothing is changed in what is given."""
    before = list(first)
    answer = drift.changed(first)
    drift.changed(second)
    assert drift.changed(tuple(first)) is answer
    assert first == before


@settings(parent=few, max_examples=200)
@given(days=days)
def test_it_is_rivers_test_to_the_last_bit(days):
    """But for days like the mean of all, which cannot complete a change."""
    test = PageHinkley(min_instances=drift.DAYS, delta=drift.FORGIVEN, threshold=drift.THRESHOLD, alpha=drift.FADE)
    for n, x in enumerate(days, 1):
        test.update(x)
        if abs(x - fmean(days[:n])) > drift.FORGIVEN:
            assert drift.changed(days[:n]) == test.drift_detected


@settings(parent=few, max_examples=100)
@given(level=st.integers(0, 30), height=st.integers(4, 10), usual=st.integers(12, 28))
def test_a_change_of_level_is_found_within_three_days(level, height, usual):
    """At sixteen times the level or more; and it is said on the day that completes it, not before."""
    past = [float(level)] * usual
    after = [drift.changed([*past, *[float(level + height)] * n]) for n in range(4)]
    assert any(after)
    assert not after[0]
    assert not drift.changed([*past, float(level + 4)])


def test_nothing_is_said_of_the_first_days():
    """Ten days are needed to know a level."""
    for n in range(drift.DAYS):
        assert not drift.changed([0.0] * (n // 2) + [40.0] * (n - n // 2))
