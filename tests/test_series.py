"""Amounts on a beat, sessions at odd hours, and known tools used in another way: what each finds, and its harmless twin."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from stream.engine import Engine, Scored
from stream.settings import load

START = 1_772_409_600.0  # Monday, 2026-03-02, 00:00 UTC
HOUR, DAY = 3600.0, 86400.0


def scored(events: Iterable[dict[str, Any]], batch: int = 1000) -> tuple[dict[str, float], list[Scored]]:
    """The score of each event by its id, and what the engine said."""
    engine = Engine(load({}))
    records = [msgspec.json.encode(e) for e in sorted(events, key=lambda e: e["time"])]
    done = [
        engine.score(engine.decode(records[i : i + batch], range(i, i + batch))) for i in range(0, len(records), batch)
    ]
    return {e.event_id: float(s) for d in done for e, s in zip(d.events, d.score, strict=True)}, done


def series(days: int, amount: Any, beat: float = 300.0, seed: int = 0) -> list[dict[str, Any]]:
    """One agent that reads once a beat; `amount` gives the bytes at a time."""
    rng = random.Random(seed)
    return [
        {
            "event_id": f"s{i}",
            "time": START + i * beat,
            "agent_id": "backup",
            "action": "read",
            "resource": "store/all",
            "bytes": round(amount(START + i * beat) * rng.lognormvariate(0, 0.1)),
        }
        for i in range(int(days * DAY / beat))
    ]


def daily(time: float) -> float:
    """Ten times as much at noon as at midnight."""
    return 1e5 * 10 ** (0.5 - 0.5 * math.cos(2 * math.pi * (time % DAY) / DAY))


def most(scores: dict[str, float], since: float, hours: float) -> float:
    """The highest score of a series within so many hours."""
    first = round((since - START) / 300)
    return max(scores[f"s{i}"] for i in range(first, first + round(hours * 12)))


NOON = START + 12.5 * DAY
MIDNIGHT = START + 12 * DAY


@pytest.mark.parametrize("factor", [0.05, 4.0])
def test_a_series_that_leaves_its_forecast_is_said_once(factor):
    """Too little is as strange as too much; that it goes on is not said each five minutes."""
    changed = series(13, lambda t: daily(t) * (factor if t >= NOON else 1.0))
    scores, done = scored(changed)
    assert scores[f"s{round((NOON - START) / 300)}"] > 10
    opened = [a for d in done for a in d.alerts if a.revision == 1 and a.last_event_time >= "2026-03-14"]
    assert len(opened) == 1
    assert "than its beat foretells" in opened[0].reason


def between(begin: float, hours: float, amount: Any) -> Any:
    """A day's shape, and another amount for so many hours."""
    return lambda t: amount(t) if begin <= t < begin + hours * HOUR else daily(t)


@pytest.mark.parametrize(
    ("strange", "harmless", "at", "hours"),
    [
        pytest.param(
            between(NOON, 1, lambda _: 5e4), between(MIDNIGHT, 1, lambda _: 5e4), NOON, 1, id="quiet at noon, at night"
        ),
        pytest.param(
            between(NOON, 0.1, lambda t: 5 * daily(t)),
            between(NOON, 0.1, lambda t: 1.2 * daily(t)),
            NOON,
            1,
            id="a spike, a ripple",
        ),
        pytest.param(
            lambda t: daily(t - 8 * HOUR if t >= MIDNIGHT else t),
            lambda t: daily(t - 0.5 * HOUR if t >= MIDNIGHT else t),
            MIDNIGHT,
            24,
            id="a day eight hours later, half an hour",
        ),
        pytest.param(
            lambda t: 1e6 * (1.15 if t >= NOON else 1.0),
            lambda t: 1e6 * (1.15 if NOON <= t < NOON + 300 else 1.0),
            NOON,
            6,
            id="a seventh more for good, once",
        ),
    ],
)
def test_what_a_series_does_against_its_harmless_twin(strange, harmless, at, hours):
    found, _ = scored(series(13, strange))
    twin, _ = scored(series(13, harmless))
    assert most(found, at, hours) > 8
    assert most(twin, MIDNIGHT, 24) < 5


def test_a_small_change_that_lasts_is_said_of_the_last_calls():
    """No single amount is out of the ordinary."""
    _, done = scored(series(13, lambda t: 1e6 * (1.15 if t >= NOON else 1.0)))
    alert = next(a for d in done for a in d.alerts if a.last_event_time >= "2026-03-14T12")
    assert "a call, in the last calls of read, is more than its beat foretells" in alert.reason


def test_an_enormous_amount_hides_none_that_follow():
    """Else an agent could say one large thing, be alerted on once, and then be free."""
    before = NOON - 4 * DAY
    scores, _ = scored(
        series(13, lambda t: daily(t) * (1000 if before <= t < before + 300 else 5 if NOON <= t < NOON + 600 else 1))
    )
    assert most(scores, before, 1) > 10
    assert most(scores, NOON, 1) > 8


def test_a_beat_may_lack_calls():
    """One call in five never came, and once an hour of them came late, all at once: a series all the same."""
    rng = random.Random(4)
    events = [e for e in series(13, between(NOON, 1, lambda t: 5 * daily(t))) if rng.random() < 0.8]
    late = START + 8 * DAY
    for e in events:
        if late <= e["time"] < late + HOUR:
            e["time"] = late + HOUR
    scores, _ = scored(events)
    on = {e["event_id"] for e in events if NOON <= e["time"] < NOON + HOUR}
    assert max(scores[i] for i in on) > 10
    assert max(s for i, s in scores.items() if int(i[1:]) > 288 * 5 and i not in on) < 5


def test_the_shape_of_a_day_is_learned():
    """The harmless twin: the same amounts, all of them where they belong."""
    scores, done = scored(series(13, daily))
    assert max(scores[f"s{i}"] for i in range(288 * 5, len(scores))) < 10
    assert not [a for d in done for a in d.alerts if a.first_event_time >= "2026-03-07"]


def test_the_same_amount_is_strange_at_one_hour_and_not_at_another():
    """As much as at noon, at midnight: an amount that it moves every day."""
    midnight, noon = START + 12 * DAY, START + 12 * DAY + 12 * HOUR
    night, _ = scored(series(13, lambda t: daily(noon) if midnight <= t < midnight + HOUR else daily(t)))
    day, _ = scored(series(13, lambda t: daily(noon) if noon <= t < noon + HOUR else daily(t)))
    at_night, at_noon = int(12 * DAY / 300), int(12.5 * DAY / 300)
    assert max(night[f"s{at_night + i}"] for i in range(12)) > 10
    assert max(day[f"s{at_noon + i}"] for i in range(12)) < 5


def office(days: int, extra: Iterable[tuple[float, int]] = ()) -> list[dict[str, Any]]:
    """Six agents of a type with sessions from nine to five on weekdays, and those of the first at `extra` times."""
    rng = random.Random(5)
    starts = [
        (a, START + d * DAY + rng.uniform(9, 17) * HOUR)
        for a in range(6)
        for d in range(days)
        if d % 7 < 5
        for _ in range(8)
    ]
    starts += [
        (d % 6, START + d * DAY + rng.uniform(0, 4) * HOUR) for d in range(days)
    ]  # somebody works late every night
    starts += [(0, at + k * 900) for at, sessions in extra for k in range(sessions)]
    out = []
    for n, (a, at) in enumerate(starts):
        late = at >= START + days * DAY
        out += [
            {
                "event_id": f"{'x' if late else 'e'}{n}-{i}",
                "time": at + i * 20,
                "agent_id": f"clerk-{a}",
                "agent_type": "clerk",
                "session_id": f"{n}",
                "action": "read",
                "tool": "crm.get",
                "resource": f"crm/customers/{rng.randrange(40)}",
                "records": 1,
            }
            for i in range(5)
        ]
    return out


def test_sessions_of_a_night_add_up():
    """One late session is ordinary life; four in one night are not, though each does ordinary work."""
    at = START + 25 * DAY + 2 * HOUR
    one, _ = scored(office(25, [(at, 1)]))
    four, _ = scored(office(25, [(at, 4)]))
    noon, _ = scored(office(25, [(at + 10 * HOUR, 4)]))
    late = [max(s for i, s in scores.items() if i.startswith("x")) for scores in (one, four, noon)]
    assert late[1] > late[0] + 3
    assert late[2] < 3


def grants(action: str) -> list[dict[str, Any]]:
    rng = random.Random(2)
    ordinary = [
        {
            "event_id": f"e{i}",
            "time": START + i * 600 + rng.uniform(0, 300),
            "agent_id": f"helper-{i % 4}",
            "agent_type": "helper",
            "action": "read",
            "tool": "drive.file",
            "resource": f"drive/docs/{rng.randrange(20)}",
        }
        for i in range(2000)
    ]
    return [*ordinary, ordinary[-1] | {"event_id": "x", "time": START + 2003 * 600, "action": action}]


def test_a_usual_tool_used_with_another_action_is_seen():
    """To grant access to a file with the tool with which it reads files is another thing."""
    scores, _ = scored(grants("grant"))
    twin, _ = scored(grants("read"))
    assert scores["x"] > 5
    assert twin["x"] < 1


def test_a_class_in_capitals_is_the_same_class():
    """Otherwise RESTRICTED data would be of no known class, and nobody would lack the clearance."""
    event = {
        "event_id": "e",
        "time": START,
        "agent_id": "a",
        "action": "share",
        "resource": "crm/customers/1",
        "recipients": [{"id": "all", "clearance": "Internal"}],
    }
    engine = Engine(load({}))
    ran = engine.run(
        engine.decode(
            [msgspec.json.encode(event | {"event_id": c, "classification": c}) for c in ("restricted", "RESTRICTED")],
            range(2),
        )
    )
    assert ran.batch is not None
    assert ran.batch.rung.tolist() == [3, 3]
    assert ran.batch.clearance.tolist() == [1, 1]
    assert len(set(ran.batch.classification.hash.tolist())) == 1
