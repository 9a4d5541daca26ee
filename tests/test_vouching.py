"""Who is new, and of a kind that is new, has nothing that judges it: what it sends outside is told all the same, and its harmless twins are not."""

from __future__ import annotations

from typing import Any

import pytest

from models.batch import PAID
from models.signals import INDEX
from stream.codec import encode
from stream.engine import Engine, Scored
from stream.judge import verdict_on
from stream.settings import load
from stream.verdict import Verdict, decode_verdict
from tests.telling import BASE

DAY = 86400
DAYS = 20
SETTINGS = {"STRAYLINE_DOMAINS": "shop.example", "STRAYLINE_CLASSIFICATIONS": "public,internal,confidential,restricted"}
DROP, PARTNER = "kim@drop.example", "post@printer.example"


def sends(n: int, at: float, agent_id: str, kind: str | None, recipient: str, **given: Any) -> dict[str, Any]:
    """A mail with data about customers."""
    who = {"id": recipient, "type": "email", "domain": recipient.partition("@")[2]}
    said = {
        "event_id": f"{agent_id}-{n}", "time": at, "agent_id": agent_id, "agent_type": kind, "action": "send", "tool": "mail.send", "resource": f"orders/{n % 40}",
        "classification": "internal", "scopes": ["mail:send"], "records": 2, "bytes": 900, "principal": "ada@shop.example",
        "session_id": f"{agent_id}-{n // 5}", "recipients": [who],
    } | given  # fmt: skip
    return {k: v for k, v in said.items() if v is not None}


def past() -> list[dict[str, Any]]:
    """Clerks write to customers, who are new all the time, and to a printer; one sends it what is restricted."""
    out = []
    for day in range(DAYS):
        for a in range(6):
            for n in range(10):
                at = BASE + DAY * day + 32400 + 1800 * n + 60 * a
                to = PARTNER if n == 9 else f"c{day % 7}-{a}-{n}@customers{n}.example"
                label = "restricted" if n == 9 else "internal"
                out.append(sends(10 * day + n, at, f"clerk-{a}", "clerk", to, classification=label))
    return out


AT = BASE + DAY * DAYS + 32400


def told(last: list[dict[str, Any]], engine: Engine | None = None) -> tuple[Engine, Scored, list[str]]:
    """What is said of the last events after weeks of work: titles of the alerts that they raise."""
    engine = engine or after_weeks()
    records = [encode(e) for e in last]
    scored = engine.score(engine.decode(records, range(len(records))))
    return engine, scored, [a.title for a in scored.alerts if a.agent_id.startswith("new")]


def after_weeks() -> Engine:
    engine = Engine(load(SETTINGS))
    records = [encode(e) for e in past()]
    engine.score(engine.decode(records, range(len(records))))
    return engine


SECRET = {"classification": "restricted", "records": 5000, "bytes": 2_000_000}


@pytest.mark.parametrize("kind", [None, "unheard-of"])
def test_an_agent_nobody_knows_that_sends_out_what_is_most_sensitive_is_told_at_once(kind):
    _, scored, titles = told([sends(0, AT, "new-0", kind, DROP, **SECRET)])
    assert scored.alerts[-1].next_step.startswith("Suspend the agent, or revoke its credential. Then ask ")
    assert titles == [f"new-0 (new) sends restricted data to {DROP}, and nothing vouches for it"]


@pytest.mark.parametrize(
    "twin",
    [
        {"classification": "internal"},
        {"recipient": PARTNER},
        {"outcome": "denied"},
        {"recipient": "ben@shop.example"},
    ],
    ids=["of the lower half", "to whom the fleet has known", "denied", "inside"],
)
def test_its_harmless_twins_are_not(twin):
    given = SECRET | {"recipient": DROP} | twin
    recipient = given.pop("recipient")
    *_, titles = told([sends(0, AT, "new-0", "unheard-of", recipient, **given)])
    assert not any("vouches" in t for t in titles)


def test_peers_of_standing_vouch_for_a_newcomer():
    """What they do judges it, as it judges every newcomer."""
    *_, titles = told([sends(0, AT, "new-0", "clerk", DROP, **SECRET)])
    assert titles
    assert not any("vouches" in t for t in titles)


@pytest.mark.parametrize(("recipient", "harms"), [(PARTNER, False), ("old@elsewhere.example", True), (DROP, True)])
def test_what_a_newcomer_gives_to_whom_its_peers_always_write_has_not_newly_left(recipient, harms):
    """It shares no contact with the printer, as no newcomer does with anybody; that a peer wrote once to a party, or another type does, vouches for nothing."""
    once = [sends(1, BASE, "clerk-0", "clerk", "old@elsewhere.example")]
    others = [sends(n, BASE + n, "press-0", "press", DROP) for n in range(30)]
    engine = Engine(load(SETTINGS))
    records = [encode(e) for e in sorted(past() + once + others, key=lambda e: e["time"])]
    engine.score(engine.decode(records, range(len(records))))
    strange = {"resource": "press/1", "classification": "restricted"}  # a place that is new to all
    _, scored, _ = told([sends(n, AT + 60 * n, "new-0", "clerk", recipient, **strange) for n in range(4)], engine)
    assert any(a.severity in {"high", "critical"} for a in scored.alerts if a.agent_id == "new-0") == harms


def test_in_a_fleet_that_has_only_begun_nobody_has_to_be_vouched_for():
    engine = Engine(load(SETTINGS))
    early = [e for e in past() if e["time"] < BASE + 2 * DAY]
    records = [encode(e) for e in early]
    engine.score(engine.decode(records, range(len(records))))
    _, _, titles = told([sends(0, BASE + 2 * DAY + 32400, "new-0", "unheard-of", DROP, **SECRET)], engine)
    assert not any("vouches" in t for t in titles)


def test_a_type_that_was_made_up_with_an_accomplice_vouches_for_nobody():
    """The accomplice does it first, under another name; a clerk then calls itself what the accomplice is."""
    one = [sends(n, AT + n, "other-0", "unheard-of", DROP, classification="internal") for n in range(30)]
    turned = sends(1000, AT + 600, "clerk-0", "unheard-of", DROP, **SECRET)
    _, scored, _ = told([*one, turned])
    (alert,) = [a for a in scored.alerts if a.agent_id == "clerk-0"]
    assert "nothing vouches for it" in alert.title
    assert alert.severity in {"high", "critical"}


def test_two_hundred_such_agents_do_not_excuse_each_other_at_once():
    """The tenth is still far stranger than one that somebody vouches for."""
    many = [sends(0, AT + 60 * n, f"new-{n}", None, DROP, **SECRET) for n in range(10)]
    _, scored, _ = told(many)
    _, known, _ = told([sends(0, AT + 60 * n, f"new-{n}", None, PARTNER, **SECRET) for n in range(10)])
    assert scored.score[9] > known.score[9] + 4


def test_a_benign_verdict_vouches_for_what_was_given_and_to_whom():
    """And for less of it; not for more, another recipient or another agent."""
    engine, scored, _ = told([sends(0, AT, "new-0", "unheard-of", DROP, **SECRET | {"records": 20})])
    (alert,) = scored.alerts
    assert alert.evidence[0].baseline["because"] == "it and its type are new"
    v = decode_verdict(verdict_on(alert, "benign", "ana", "set up for this", AT + 60), 0)
    assert isinstance(v, Verdict)
    engine.judge(v)

    def is_unvouched(n: int, agent_id: str = "new-0", recipient: str = DROP, **given: Any) -> bool:
        one = sends(n, AT + DAY * n // 10, agent_id, "unheard-of", recipient, **SECRET | given)
        out = engine.run(engine.decode([encode(one)], [0])).out
        assert out is not None
        return bool(out.row[0] >= 0 and out.detail[out.row[0], PAID + INDEX["unvouched"]] > 0)

    assert not is_unvouched(1, records=20)
    assert not is_unvouched(2, classification="confidential", records=20)
    assert is_unvouched(3)
    assert is_unvouched(4, recipient="eve@elsewhere.example", records=20)
    assert is_unvouched(5, agent_id="new-1", records=20)


def test_what_is_known_of_it_does_not_depend_on_where_batches_are_cut():
    last = [sends(n, AT + n, f"new-{n % 3}", ("unheard-of", None, "clerk")[n % 3], DROP, **SECRET) for n in range(12)]
    _, whole, _ = told(last)
    engine, cut = after_weeks(), []
    for e in last:
        cut += told([e], engine)[1].score.tolist()
    assert cut == whole.score.tolist()
