"""A fleet of assistants, one of which leaks; and what tests of verdicts say of its alert."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from stream.alert import Alert
from stream.baselines import Reader, Writer
from stream.codec import encode
from stream.engine import Engine, Scored
from stream.judge import verdict_on
from stream.settings import load
from stream.verdict import Verdict, decode_verdict

SETTINGS = load({})


DAY, BEGIN = 86400.0, 1_772_409_600.0  # a Monday


AGENTS = 6


LADDER = SETTINGS.classifications


def event(agent: int, time: float, **fields: Any) -> dict[str, Any]:
    """One event of an assistant, ordinary unless it is told otherwise."""
    return {
        "event_id": f"{agent}-{time}-{fields.get('tool', '')}",
        "time": time,
        "agent_id": f"assistant-{agent}",
        "agent_type": "assistant",
        "principal": f"person{agent}@corp.example",
        "session_id": f"{agent}-{int(time // 3600)}",
        "action": "read",
        "tool": "crm.read",
        "resource": f"crm/customers/{int(time) % 7}",
        "classification": "internal",
        "scopes": ["crm:read"],
        "bytes": 2000 + int(time) % 500,
    } | fields


def day(number: int) -> list[dict[str, Any]]:
    """A day of the fleet: each agent reads, and sends what it found to the person that it works for, twice."""
    out = []
    for n in range(10):
        for agent in range(AGENTS):
            time = BEGIN + number * DAY + (8 + n) * 3600 + agent * 60 + 7 * n
            to = [{"id": f"person{agent}@corp.example", "type": "email"}]
            send = {"action": "send", "tool": "mail.send", "scopes": ["mail:send"], "recipients": to}
            out += [event(agent, time), event(agent, time + 20, **send), event(agent, time + 40, **send)]
            out += [event(agent, time + 55)]  # so that its reads come on no beat: a series is not judged
    return out


def leak(number: int, to: str = "drop@stranger.example", agent: int = 0, **fields: Any) -> dict[str, Any]:
    """Restricted data to a stranger, in the afternoon of a day."""
    time = BEGIN + number * DAY + 18.1 * 3600
    strange = {
        "action": "send",
        "tool": "mail.send",
        "scopes": ["mail:send"],
        "session_id": f"{agent}-{int(time // 3600) - 1}",
        "classification": "restricted",
        "resource": "payroll/salaries",
        "recipients": [{"id": to, "type": "email"}],
    }
    return event(agent, **({"time": time} | strange | fields))


def run(engine: Engine, events: Sequence[dict[str, Any]]) -> Scored:
    return engine.score(engine.decode([encode(e) for e in events], range(len(events))))


@cache
def _past(strange: bytes) -> tuple[list[tuple[bytes, bytes]], float, Alert]:
    engine = Engine(SETTINGS)
    for number in range(20):
        run(engine, day(number))
    scored = run(engine, [*day(20), json.loads(strange)])
    return [(r.key, r.value) for r in Writer(engine).flush(0)], float(scored.score[-1]), scored.alerts[-1]


def past(strange: dict[str, Any]) -> tuple[Engine, float, Alert]:
    """Three weeks, then something strange: an engine that knows them, its score, and the alert."""
    records, first, alert = _past(encode(strange))
    engine = Engine(SETTINGS)
    reader = Reader(engine)
    for key, value in records:
        reader.read(key, value)
    return engine, first, alert


def say(engine: Engine, what: str, alert: Alert) -> None:
    engine.judge(verdict(what, alert))


def verdict(what: str, alert: Alert, at: float = 0.0) -> Verdict:
    found = decode_verdict(verdict_on(alert, what, "ana", "because", at), 1)
    assert isinstance(found, Verdict)
    return found


GOOD = {
    "alert_id": "a", "agent_id": "g", "verdict": "benign", "time": 1.0, "by": "ana", "reason": "r", "evidence": [],
    "event": {"event_id": "e", "action": "read"},
}  # fmt: skip
