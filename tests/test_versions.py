"""A new version of an agent may behave differently for a while: its alerts say so, and are less sure unless the harm is serious."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stream.alert import Alert
from stream.codec import encode
from stream.engine import Engine
from stream.evidence import NEW_VERSION
from stream.settings import load
from stream.severity import CONFIDENCES
from tests.telling import BASE, HISTORY, scored

HOUR = 3600.0
LAST = BASE + 24 * HOUR  # of the ordinary day
OFTEN = {"STRAYLINE_ALERTS_PER_DAY": "1000"}
OUTSIDE = {"action": "send", "classification": "restricted", "recipients": [{"id": "eve@drop.example"}]}


def ordinary(version: str | None) -> list[bytes]:
    """The ordinary day of ten agents, all running this version."""
    return [encode(json.loads(line) | ({"agent_version": version} if version else {})) for line in HISTORY]


def did(name: str, at: float, version: str | None, **given: Any) -> bytes:
    event = {
        "event_id": name, "time": at, "agent_id": "bot-1", "agent_type": "copilot", "action": "read", "tool": "crm.read", "resource": "crm/customers/1",
        "classification": "internal", "scopes": ["crm:read"], "records": 3, "bytes": 1000, "principal": "ada@corp.example", "session_id": name[:3],
    } | given  # fmt: skip
    return encode(event | ({"agent_version": version} if version else {}))


def strange(at: float, version: str | None, **given: Any) -> list[bytes]:
    """It calls a new tool four times."""
    return [
        did(f"new-{i}", at + 60 * i, version, **({"tool": "flags.read", "scopes": ["flags:read"]} | given))
        for i in range(4)
    ]


def told(*events: bytes | list[bytes], before: str | None = "1.0") -> Alert:
    """The last revision of the alert on what was strange, when it has ended."""
    flat = [e for each in events for e in (each if isinstance(each, list) else [each])]
    after = did("after", LAST + 24 * HOUR, None, agent_id="bot-9")
    done = scored([*ordinary(before), *flat, after], **OFTEN)
    return next(a for a in reversed(done.alerts) if a.event.event_id.startswith("new-"))


def said(alert: Alert) -> str:
    return next((str(e.observed) for e in alert.evidence if e.name == "new_version"), "")


def test_a_new_version_is_said_and_lowers_certainty_by_one_step():
    same = told(did("quiet", LAST, "1.0"), strange(LAST + 3 * HOUR, "1.0"))
    new = told(did("quiet", LAST, "2.0"), strange(LAST + 3 * HOUR, "2.0"))
    assert said(new) == "it has run version 2.0 for 3 hours"
    assert said(new) in new.reason
    assert (said(same), new.score, new.impact) == ("", same.score, same.impact)
    assert CONFIDENCES.index(new.confidence) == CONFIDENCES.index(same.confidence) - 1
    assert new.next_step.startswith("Ask the owner of copilot whether the change came with version 2.0;")


def test_serious_harm_is_as_sure_as_with_the_old_version():
    """Else who sets a new version would be heard later."""
    same = told(did("quiet", LAST, "1.0"), strange(LAST + 3 * HOUR, "1.0", **OUTSIDE))
    new = told(did("quiet", LAST, "2.0"), strange(LAST + 3 * HOUR, "2.0", **OUTSIDE))
    assert said(new)
    assert (new.severity, new.confidence, new.next_step) == (same.severity, same.confidence, same.next_step)
    assert new.severity in {"high", "critical"}


NEWCOMER = [did(f"{i}", LAST + 60 * i, "2.0", agent_id="bot-new") for i in range(60)]


@pytest.mark.parametrize(
    ("before", "events"),
    [
        (None, strange(LAST + 3 * HOUR, "2.0")),
        ("1.0", [*NEWCOMER, *strange(LAST + 3 * HOUR, "2.0", agent_id="bot-new", **OUTSIDE)]),
        ("1.0", strange(LAST + 3 * HOUR, None)),
    ],
    ids=["the first that it names", "a newcomer", "none named"],
)
def test_only_a_change_is_new(before, events):
    """Since when the first version runs is not known, and where none is named nothing has changed."""
    assert not said(told(events, before=before))


def test_an_event_without_a_version_changes_nothing():
    alert = told(did("quiet", LAST, "2.0"), did("mute", LAST + HOUR, None), strange(LAST + 3 * HOUR, "2.0"))
    assert said(alert) == "it has run version 2.0 for 3 hours"


def test_it_is_new_for_two_days():
    begun = [did("quiet", LAST, "2.0"), *(did(f"d{i}", LAST + i * HOUR, "1.0", agent_id="bot-2") for i in range(1, 48))]
    assert said(told(begun, strange(LAST + NEW_VERSION - 600, "2.0")))
    assert not said(told(begun, strange(LAST + NEW_VERSION, "2.0")))


def test_the_version_before_is_not_new_when_it_comes_back():
    """Two that run side by side during a release would begin anew with each event, and never end."""
    both = [did(f"{i}-{v}", LAST + i * HOUR, v) for i in range(60) for v in ("1.0", "2.0")]
    assert not said(told(both, strange(LAST + 60 * HOUR, "1.0")))
    assert not said(told(both, strange(LAST + 60 * HOUR, "2.0")))


def test_a_repeated_event_begins_no_version():
    """It is scored and not learned."""
    again = did("quiet", LAST, "1.0"), did("quiet", LAST, "2.0")
    assert said(told(*again, strange(LAST + 3 * HOUR, "2.0"))) == "it has run version 2.0 for less than a minute"


def test_where_batches_are_cut_does_not_matter():
    records = [*ordinary("1.0"), did("quiet", LAST, "2.0"), *strange(LAST + 3 * HOUR, "2.0")]

    def fed(size: int) -> list[bytes]:
        engine = Engine(load(OFTEN))
        parts = [records[i : i + size] for i in range(0, len(records), size)]
        return [encode(a) for part in parts for a in engine.score(engine.decode(part, range(len(part)))).alerts]

    assert fed(len(records)) == fed(1) == fed(7)
    assert any(b"new_version" in alert for alert in fed(7))
