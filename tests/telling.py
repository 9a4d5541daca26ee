"""What tests of alerts tell an engine, and how its words are rendered again from an alert."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from stream import reason
from stream.alert import Alert, Evidence
from stream.clauses import clause
from stream.codec import encode
from stream.engine import Engine, Scored
from stream.settings import load
from stream.severity import HARMS, SERIOUS
from stream.title import headline

HOME = {"STRAYLINE_DOMAINS": "northwind.example"}
MIB = 1 << 20
ADA = "ada.lee@corp.example"


def scored(records: Sequence[bytes], **environment: str) -> Scored:
    engine = Engine(load(environment or HOME))
    return engine.score(engine.decode(records, range(1, len(records) + 1)))


def mail(n: int, to: str, **given: Any) -> bytes:
    """One of a desk's mails, of which it sends one every twenty minutes."""
    event = {
        "event_id": f"e{n}", "time": BASE + 1200 * n, "agent_id": "desk", "agent_type": "desk", "action": "send", "tool": "mail.send", "resource": f"orders/{n % 9}",
        "classification": "internal", "records": 1, "bytes": 900, "principal": ADA, "session_id": f"s{n // 4}", "recipients": [{"id": to, "type": "email"}],
    }  # fmt: skip
    return encode(event | given)


def seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def about(alert: Alert) -> Evidence:
    """What its title is about."""
    return headline(
        alert.event,
        alert.evidence,
        alert.kinds,
        alert.exposure.events,
        alert.score,
        alert.threshold,
        strong=alert.strange_events,
        serious=HARMS.index(alert.impact) >= SERIOUS,
    )


def said_of(alert: Alert, item: Evidence) -> str:
    """An item of its evidence as its reason has it: shorter beside what its event did."""
    return clause(
        item, own=alert.event.event_id in item.event_ids and (item is about(alert) or item.name == "clearance")
    )


def rendered(alert: Alert, evidence: Sequence[Evidence] | None = None, **other: Any) -> str:
    """The reason as `stream.reason` makes it of an alert's own fields."""
    given = {k: getattr(alert, k) for k in ("exposure", "warming", "score", "threshold")}
    given |= {
        "strong": alert.strange_events,
        "serious": HARMS.index(alert.impact) >= SERIOUS,
        "about": about(alert),
        "sessions": bool(alert.session_ids),
    } | other
    return reason.reason(alert.agent_id, alert.event, alert.evidence if evidence is None else evidence, **given)


BASE = 1772409600
HISTORY = [
    encode(
        {
            "event_id": f"{i}-{a}", "time": BASE + 1800 * i + a, "agent_id": f"bot-{a}", "agent_type": "copilot", "action": "read", "tool": "crm.read",
            "resource": f"crm/customers/{i % 7}", "classification": "internal", "scopes": ["crm:read"], "records": 3, "bytes": 1000 + i,
            "principal": "ada@corp.example", "session_id": f"s-{a}-{i // 5}",
        }
    )
    for i in range(48)
    for a in range(10)
]  # fmt: skip


def hostile(number: int, name: str, scopes: int = 1, **given: Any) -> dict[str, Any]:
    """An event that is strange in every way, with a name in every field that may hold one."""

    def named(what: str) -> str:
        return f"{what}{number}{name}"[:8192]

    event = {
        "event_id": named("e")[:256],
        "time": BASE + 48 * 1800 + 30 * number,
        "agent_id": "bot-1",
        "agent_type": "copilot",
        "action": named("act"),
        "tool": named("tool"),
        "resource": named("root/branch/"),
        "classification": "restricted",
        "scopes": [named(f"scope{i}") for i in range(scopes)],
        "records": 9e5,
        "bytes": 1e12,
        "principal": named("principal"),
        "session_id": named("session"),
        "recipients": [{"id": named("r"), "type": "email", "domain": named("d"), "clearance": "public", "size": 2000}],
        "approved": False,
        "attributes": {named("k"): named("v")},
    }
    return {key: value for key, value in (event | given).items() if value is not None}


def episode(events: Sequence[dict[str, Any]]) -> list[Alert]:
    """The alerts on such events after an ordinary day, the budget being far from spent."""
    records = [*HISTORY, *map(encode, events)]
    done = scored(records, STRAYLINE_ALERTS_PER_DAY="1000", STRAYLINE_MAX_EVENT_BYTES=str(64 * MIB))
    assert not done.rejects
    found = [a for a in done.alerts if a.agent_id == events[-1]["agent_id"]]
    assert found
    return found
