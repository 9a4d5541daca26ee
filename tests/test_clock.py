"""The stream's clock, and events that come again: what is late, ahead or repeated is scored, and moves nothing that it should not."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.batch import LATE, REPEATED, SKEWED
from models.clock import CONFIRM, SETTLE, TOLERANCE
from stream.codec import AccessEvent
from tests.looped import DAY, START, Run, read


def test_a_repeat_long_after_changes_no_later_score():
    """A worker that starts over sends hours of events again, between new ones."""
    events = [read(i, START + i * 60, bytes=1000.0) for i in range(200)]
    loud = [read(1000 + i, START + 200 * 60 + i, tool=f"drop-{i}", scopes=(f"s{i}",)) for i in range(5)]
    after = [read(2000 + i, START + 200 * 60 + 4 * 3600 + i * 3600, tool=f"new-{i}") for i in range(5)]
    run = Run().feed(events + loud + after)
    with_repeats = Run().feed(events + loud)
    for i, event in enumerate(after):
        with_repeats.feed([loud[i]])
        with_repeats.feed([event])
    assert (with_repeats["marks"][205::2] & REPEATED > 0).all()
    assert with_repeats["score"][206::2].tolist() == run["score"][205:].tolist()


def test_the_same_id_of_another_agent_is_another_event():
    """An agent must not be able to hide another's event by sending its id first."""
    run = Run().feed([read(0, START, "a"), AccessEvent("a-0", START, "b", "read"), read(0, START, "a")])
    assert (run["marks"] & REPEATED > 0).tolist() == [False, False, True]


def ordinary(n: int, agents: int = 3) -> list[AccessEvent]:
    return [read(i, START + i * 60, f"bot-{i % agents}") for i in range(n)]


def test_a_late_event_is_scored_and_marked_and_leaves_the_clock():
    """Late is not lost, and not now."""
    run = Run().feed(ordinary(100))
    now = float(run.state.fleet["clock"])
    for late, marked in ((TOLERANCE - 1, 0), (TOLERANCE + 1, LATE), (30 * DAY, LATE)):
        before = float(run.state.fleet["events"])
        run.feed([read(1000 + int(late), now - late)])
        assert run["marks"][-1] & (LATE | SKEWED) == marked
        assert run["clock"][-1] == run.state.fleet["clock"] == now
        assert run.state.fleet["events"] == before + 1  # learned


def test_one_broken_clock_does_not_carry_the_streams_clock_away():
    """Every tenth event of one agent is a year ahead; all others go on as if it were not there."""
    events = ordinary(400)
    broken = [
        msgspec.structs.replace(e, time=e.time + 365 * DAY) if i % 10 == 0 and i >= SETTLE else e
        for i, e in enumerate(events)
    ]
    run = Run().feed(broken)
    skewed = run["marks"] & SKEWED > 0
    assert [i for i in range(400) if skewed[i]] == list(range(SETTLE, 400, 10))
    assert run["clock"].max() == events[-1].time
    assert not (run["marks"] & LATE).any()


def test_two_agents_that_agree_move_the_clock():
    """After a quiet week the stream goes on."""
    events = ordinary(100)
    later = START + 9 * DAY
    run = Run().feed(
        [*events, read(1000, later, "bot-0"), read(1001, later + 5, "bot-1"), read(1002, later + 9, "bot-2")]
    )
    assert (run["marks"][100:] & SKEWED > 0).tolist() == [True, False, False]
    assert run["clock"][100:].tolist() == [events[-1].time, later + 5, later + 9]


def test_one_agent_alone_moves_the_clock_at_its_third_event_in_a_row():
    """A stream of one agent must not stand still after a quiet week."""
    later = START + 9 * DAY
    run = Run().feed([read(i, START + i) for i in range(100)] + [read(200 + i, later + i) for i in range(4)])
    assert (run["marks"][100:] & SKEWED > 0).tolist() == [True, True, False, False]
    assert run["clock"][-1] == later + 3


@pytest.mark.parametrize(("calls", "doubted"), [(1, [1, 2]), (5, [5, 6])])
def test_one_agent_alone_that_works_once_a_week_is_not_doubted_each_week(calls, doubted):
    """There is nobody to ask; its third event in a row moves the clock, and then its own past tells how far its days lie apart."""
    times = [START + week * 7 * DAY + 60 * n for week in range(30) for n in range(calls)]
    run = Run().feed([read(i, time) for i, time in enumerate(times)])
    assert np.flatnonzero(run["marks"] & SKEWED > 0).tolist() == doubted
    assert run["clock"][-1] == times[-1]


def test_one_agent_alone_that_works_daily_or_weekly_may_still_have_a_broken_clock_once():
    """A year is further than its days lie apart: what comes after it is neither late nor skewed."""
    for apart in (DAY, 7 * DAY):
        times = [START + n * apart for n in range(40)]
        times[30] += 365 * DAY
        run = Run().feed([read(i, time) for i, time in enumerate(times)])
        assert np.flatnonzero(run["marks"] & SKEWED > 0).tolist()[-1] == 30
        assert not (run["marks"] & LATE).any()
        assert run["clock"][-1] == times[-1]


def test_one_agent_that_goes_on_alone_moves_the_clock_after_hours_of_its_own():
    """Of two that worked for a week one is retired, and the first quiet weekend must not stop the clock for good."""
    later = START + 9 * DAY
    alone = [read(1000 + i, later + 3600 * i, "bot-0") for i in range(24)]
    run = Run().feed([*ordinary(100), *alone])
    assert (run["marks"][100:] & SKEWED > 0).tolist() == [True] * 19 + [False] * 5
    assert run["clock"][-1] == alone[-1].time


def week(number: int) -> list[AccessEvent]:
    """Three agents by day from Monday to Friday; before them all, on Monday night, ten events of one."""
    monday = START + 7 * DAY * number
    night = [read(100_000 * number + i, monday + 7200 + 60 * i, "bot-0") for i in range(10)]
    by_day = [monday + DAY * d + 8 * 3600 + 600 * n for d in range(5) for n in range(60)]
    return night + [read(100_000 * number + 100 + i, time, f"bot-{i % 3}") for i, time in enumerate(by_day)]


def test_the_first_on_a_monday_waits_for_nobody_once_the_fleet_is_known_to_rest():
    """The first weekend is confirmed by another agent; after that the third event in a row is enough."""
    weeks = [week(number) for number in range(4)]
    run = Run().feed([event for events in weeks for event in events])
    skewed = np.split(run["marks"] & SKEWED > 0, 4)
    assert [np.flatnonzero(s).tolist() for s in skewed] == [[], [*range(11)], [0, 1], [0, 1]]
    assert run["clock"][-1] == weeks[-1][-1].time


@pytest.mark.parametrize(("ahead", "insists"), [(2.4, 2), (9.0, 15)])
def test_a_clock_that_breaks_in_the_week_is_no_weekend(ahead, insists):
    """Where others are heard in between, or where it is further ahead than the fleet ever rested."""
    events = [event for number in range(3) for event in week(number)]
    broken = [read(900_000 + i, events[-1].time + ahead * DAY + i, "bot-1") for i in range(insists)]
    others = [read(950_000 + i, events[-1].time + 60 * i, "bot-2") for i in range(insists + 1)]
    between = [e for pair in zip(others, broken, strict=False) for e in pair] if ahead < 3 else broken
    run = Run().feed([*events, *between])
    assert np.count_nonzero(run["marks"][len(events) :] & SKEWED > 0) == insists
    assert run["clock"][-1] <= others[-1].time


def test_one_agent_of_many_cannot_move_the_clock_however_often_it_insists():
    """A batch may well be one agent's alone."""
    events = ordinary(100)
    run = Run().feed([*events, *(read(1000 + i, START + 3650 * DAY + i, "odd") for i in range(50))])
    assert (run["marks"][100:] & SKEWED > 0).all()
    assert run["clock"][-1] == events[-1].time


def test_a_broken_clock_that_comes_first_is_put_right():
    """Being first is no authority."""
    events = ordinary(100)
    events[0] = msgspec.structs.replace(events[0], time=events[0].time + 3650 * DAY)
    run = Run().feed(events)
    assert run["clock"][1:].tolist() == [e.time for e in events[1:]]


@pytest.mark.parametrize("time", [-62135596800.0, -1.0, 0.0, 253402300799.0])
def test_the_first_and_the_last_second_there_is_harm_nothing(time):
    """Alone, first, in the middle and thrice in a row."""
    for where in (0, 1, 50):
        for often in (1, CONFIRM, 2 * CONFIRM):
            events = ordinary(100)
            events[where:where] = [read(1000 + i, time, "odd") for i in range(often)]
            run = Run().feed(events)
            assert np.isfinite(run["score"]).all()
            assert np.isfinite(run["clock"]).all()
