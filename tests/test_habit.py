"""A busy agent that writes to many channels, to most of them seldom, is used to that; what is new to it, or leaves, is told of as ever."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import numpy as np
import pytest

from stream.baselines import Reader, Writer
from stream.codec import encode
from stream.engine import Engine
from stream.settings import load
from tests.judging import BEGIN, DAY, event
from tests.judging import day as ordinary

SETTINGS = load({"STRAYLINE_DOMAINS": "corp.example"})
CHANNELS, DAYS, POSTS = 80, 21, 24  # of an hour
SELDOM = 40  # channels from here on get one post in a thousand and fewer
ROUTER, QUIET = 9, 8


def post(time: float, channel: str, agent: int = ROUTER, **fields: Any) -> dict[str, Any]:
    to = [{"id": channel}]
    said = {
        "agent_type": "router", "principal": None, "session_id": None, "action": "send", "tool": "chat.post", "scopes": ["chat:post"],
        "resource": f"chat/{channel}", "recipients": to, "bytes": None, "event_id": f"post-{agent}-{time}",
    } | fields  # fmt: skip
    return {k: v for k, v in event(agent, time, **said).items() if v is not None}


def posts(number: int) -> list[tuple[dict[str, Any], int]]:
    """A day's, with the number of each channel of the router."""
    rng = random.Random(number)
    some = rng.choices(range(CHANNELS), [1 / (1 + n) ** 1.6 for n in range(CHANNELS)], k=10 * POSTS)
    times = sorted(BEGIN + number * DAY + 8 * 3600 + rng.random() * 36000 for _ in some)
    both = [(post(time, f"channel {n}"), n) for time, n in zip(times, some, strict=True)]
    both += [(post(time + 1, f"channel {n % 6}", QUIET), -1) for time, n in zip(times, some, strict=True)]
    return [*both, (post(times[-1] + 2, "channel 70", QUIET), -1)] if number % 7 == 2 else both


@cache
def past() -> tuple[list[tuple[bytes, bytes | None]], dict[int, list[float]]]:
    """Three weeks of a fleet with a router: its baselines, and what each day's posts to seldom channels scored that were not the first."""
    engine, scores, met = Engine(SETTINGS), {}, set()
    for number in range(DAYS):
        work = sorted([*posts(number), *((e, -1) for e in ordinary(number))], key=lambda one: one[0]["time"])
        scored = engine.score(engine.decode([encode(e) for e, _ in work], range(len(work))))
        scores[number] = [float(scored.score[at]) for at, (_, n) in enumerate(work) if n >= SELDOM and n in met]
        met |= {n for _, n in work}
    return [(r.key, r.value) for r in Writer(engine).flush(0)], scores


def score(what: dict[str, Any]) -> float:
    """Of one event after those weeks."""
    engine = Engine(SETTINGS)
    reader = Reader(engine)
    for key, value in past()[0]:
        reader.read(key, value)
    return float(engine.score(engine.decode([encode(what)], [0])).score[0])


AT = BEGIN + DAYS * DAY + 9.5 * 3600


def test_what_it_seldom_reaches_in_every_hour_becomes_usual():
    """By the count of its posts each is as rare on the last days as on the first."""
    scores = past()[1]
    first, last = (np.mean([x for n in days for x in scores[n]]) for days in (range(1, 5), range(DAYS - 4, DAYS)))
    assert last < first - 4


@pytest.mark.parametrize(
    "new",
    [
        {"channel": "board"},
        {"channel": "channel 70", "recipients": [{"id": "eve@drop.example", "type": "email"}]},
        {"channel": "channel 70", "tool": "vault.read", "scopes": ["vault:read"], "action": "read", "recipients": []},
    ],
)
def test_what_is_new_to_it_or_leaves_is_as_strange_as_ever(new):
    assert score(post(AT, **new)) > score(post(AT, "channel 70")) + 6


def test_an_agent_that_hardly_ever_does_so_is_not_excused():
    """It posts as much, to few channels, and to one more each week: what is as rare for the router is strange for it."""
    assert score(post(AT, "channel 70", QUIET)) > score(post(AT, "channel 70")) + 6
