"""Whose a resource is that an agent works on: judged once a session, and once more where it is changed after it was looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from stream.codec import encode
from stream.engine import Engine
from stream.settings import load
from tests.telling import BASE

DAY = 86400
SETTINGS = {"STRAYLINE_DOMAINS": "shop.example"}


def call(session: int, step: int, customer: str, order: str, action: str, **given: Any) -> dict[str, Any]:
    """One call of an agent that serves a customer."""
    tool = {"read": "orders.get", "write": "orders.change_address", "search": "orders.search"}[action]
    return {
        "event_id": f"{session}-{step}", "time": BASE + 600 * session + step, "agent_id": f"clerk-{session % 4}", "agent_type": "clerk", "action": action, "tool": tool,
        "resource": f"orders/{order}", "classification": "confidential", "scopes": [f"orders:{action}"], "records": 1, "bytes": 400,
        "principal": customer, "session_id": f"s{session}",
    } | given  # fmt: skip


def served(sessions: int) -> Iterator[dict[str, Any]]:
    """Each customer comes thrice, and has the address of an order of theirs changed."""
    for n in range(sessions):
        who = f"customer{n % (sessions // 3)}"
        yield call(n, 0, who, f"of-{who}", "read")
        yield call(n, 1, who, f"of-{who}", "write")


def own_scores(last: Sequence[dict[str, Any]], sessions: int = 900) -> list[float]:
    """What each of the last events says by itself, after weeks of work."""
    records = [encode(event) for event in [*served(sessions), *last]]
    engine = Engine(load(SETTINGS))
    out = engine.run(engine.decode(records, range(len(records)))).out
    assert out is not None
    return out.own[-len(last) :].tolist()


def test_to_change_what_is_another_s_is_strange_once_more():
    """The harmless twin changes what the customer has."""
    looked, changed = own_scores([call(900, 0, "customer3", "of-customer7", "read"), call(900, 1, "customer3", "of-customer7", "write")])  # fmt: skip
    assert looked > 5
    assert changed > 5
    twin = own_scores([call(900, 0, "customer7", "of-customer7", "read"), call(900, 1, "customer7", "of-customer7", "write")])  # fmt: skip
    assert max(twin) < 2


def test_to_look_again_or_to_change_it_again_says_nothing_more():
    """Else a session of many steps would be one of many offences."""
    steps = ["read", "search", "write", "write", "read"]
    looked, again, changed, *more = own_scores([call(900, n, "customer3", "of-customer7", action) for n, action in enumerate(steps)])  # fmt: skip
    assert min(looked, changed) > 5
    assert more[0] < changed / 2
    without = own_scores([call(900, n, "customer7", "of-customer7", action) for n, action in enumerate(steps)])
    assert again - without[1] < 1
    assert more[1] - without[4] < 1


def test_to_have_touched_it_for_its_owner_in_the_same_session_vouches_for_nobody_else():
    """Whoever serves two in one session is judged for each of them."""
    first = call(900, 0, "customer7", "of-customer7", "read")
    own, other = own_scores([first, call(900, 1, "customer3", "of-customer7", "write")])
    assert own < 2
    assert other > 5
    twin = own_scores([first, call(900, 1, "customer3", "of-customer3", "write")])
    assert max(twin) < other / 2


def test_where_it_lies_is_said_since_it_is_judged_by_what_the_agent_does_there():
    """What it does with other people's things elsewhere is another habit."""
    strange = [call(900 + 4 * n, n, f"customer{n}", f"of-customer{n + 9}", "read") for n in range(6)]
    records = [encode(event) for event in [*served(900), *strange]]
    engine = Engine(load(SETTINGS | {"STRAYLINE_ALERTS_PER_DAY": "1000"}))
    alert = engine.score(engine.decode(records, range(len(records)))).alerts[-1]
    assert "it has never touched a resource in orders used before only for other people in at least " in alert.reason


@pytest.mark.parametrize(
    ("many", "classification", "impact"),
    [(25, "confidential", "limited"), (15, "confidential", "none"), (25, "internal", "none")],
)
def test_many_things_of_others_that_are_sensitive_are_harm_though_nothing_left(many, classification, impact):
    """A harvest for whoever asked: each record is little, and each is somebody else's."""
    orders = [call(900, n, "customer3", f"of-customer{10 + n}", "read", classification=classification) for n in range(many)]  # fmt: skip
    engine = Engine(load(SETTINGS | {"STRAYLINE_ALERTS_PER_DAY": "1000"}))
    records = [encode(event) for event in [*served(900), *orders]]
    alert = engine.score(engine.decode(records, range(len(records)))).alerts[-1]
    assert (alert.session_ids, alert.impact) == (["s900"], impact)
