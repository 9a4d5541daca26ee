"""A tool that neither an agent nor a peer has used hides nothing: how much it moves is judged by the agent's other tools, and the permission behind it is named."""

from __future__ import annotations

from typing import Any

import pytest

from stream.alert import Alert
from stream.codec import encode
from tests.telling import BASE, HISTORY, rendered, scored

OFTEN = {"STRAYLINE_ALERTS_PER_DAY": "1000", "STRAYLINE_DOMAINS": "corp.example"}


def exported(**given: Any) -> Alert:
    """The alert on the first calls of three exports, after a day of reading three records a call."""
    event = {
        "agent_id": "bot-1", "agent_type": "copilot", "action": "read",
        "resource": "crm/customers/all", "classification": "restricted", "records": 3, "bytes": 1000,
        "principal": "ada@corp.example", "session_id": "export",
    }  # fmt: skip
    calls = [
        event
        | {
            "event_id": f"e{i}",
            "time": BASE + 50 * 1800 + 60 * i,
            "tool": f"crm.export-{i}",
            "scopes": [f"crm:admin-{i}"],
        }
        | given
        for i in range(3)
    ]
    return scored([*HISTORY, *map(encode, calls)], **OFTEN).alerts[-1]


def test_what_a_new_tool_moves_is_judged_by_the_agents_other_tools():
    few, many = exported(), exported(records=400, bytes=10_000_000)
    assert many.score > few.score + 2
    assert {e.name for e in few.evidence} & {"bytes", "records"} == set()
    moved = [e for e in many.evidence if e.name in {"bytes", "records"}]
    assert moved
    for e in moved:
        assert e.baseline["other_tools"] is True
        assert "peers" not in e.baseline
        assert e.expected.endswith("with its other tools")
    assert "with its other tools usually" in many.reason
    assert rendered(many) == many.reason


def test_a_tool_that_a_peer_has_used_is_judged_by_the_peer():
    """Whose exports are as large."""
    peer = {
        "agent_id": "bot-2", "agent_type": "copilot", "action": "read", "tool": "crm.export", "resource": "crm/customers/all", "classification": "restricted",
        "scopes": ["crm:admin"], "records": 400, "bytes": 10_000_000, "principal": "ada@corp.example",
    }  # fmt: skip
    known = [
        encode(peer | {"event_id": f"p{i}", "time": BASE + 48 * 1800 + 60 * i, "session_id": f"p{i}"}) for i in range(5)
    ]
    event = peer | {"event_id": "mine", "time": BASE + 50 * 1800, "agent_id": "bot-1", "session_id": "mine"}
    done = scored([*HISTORY, *known, encode(event)], **OFTEN)
    found = [e for a in done.alerts if a.agent_id == "bot-1" for e in a.evidence]
    assert not [e for e in found if e.name in {"bytes", "records"}]


def test_the_permission_that_is_new_with_a_tool_is_named_and_to_be_taken_away():
    alert = exported()
    scope = alert.event.tool[-1]
    assert f"the permission crm:admin-{scope} is new to it too" in alert.reason
    assert f"this tool and the permission crm:admin-{scope}; if not, take it away" in alert.next_step


@pytest.mark.parametrize("scopes", [["crm:read"], []])
def test_a_permission_that_it_has_is_not(scopes):
    assert "permission" not in exported(scopes=scopes).reason
