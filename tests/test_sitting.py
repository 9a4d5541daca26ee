"""What an agent never did before stays new until its sitting is over; what follows in its session is ranked after it; who comes to a fleet that runs is compared with its like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models import newcomer, schema
from models.batch import NOTABLE
from models.loop import SESSION_MOST
from models.sitting import LASTS
from stream.clauses import clause
from stream.codec import encode
from stream.columns import name_hash
from stream.engine import Engine
from stream.judge import verdict_on
from stream.settings import load
from stream.verdict import Verdict, decode_verdict
from tests.telling import BASE, scored

DAY = 86400
SETTINGS = {"STRAYLINE_DOMAINS": "corp.example", "STRAYLINE_ALERTS_PER_DAY": "1000"}


def sent(at: float, to: str, agent: int = 0, **given: Any) -> dict[str, Any]:
    """One mail, in the session of its hour."""
    return {
        "event_id": f"{agent}-{at}-{to}", "time": BASE + at + agent, "agent_id": f"bot-{agent}", "agent_type": "copilot", "action": "send", "tool": "mail.send",
        "resource": "crm/notes", "classification": "internal", "scopes": ["mail:send"], "records": 3, "bytes": 1000,
        "principal": "ada@corp.example", "session_id": f"s-{agent}-{at // 3600}", "recipients": [{"id": to, "type": "email"}],
    } | given  # fmt: skip


def weeks(agents: int = 6, days: int = 9) -> list[dict[str, Any]]:
    """Agents that write to the same few, inside and outside, all day."""
    to = [f"{name}@corp.example" for name in ("bo", "cy", "di")] + ["eve@partner.example"]
    return [
        sent(day * DAY + 3600 * hour, to[(day + hour + agent) % len(to)], agent)
        for day in range(days)
        for hour in range(8, 18)
        for agent in range(agents)
    ]


def scores(events: Sequence[dict[str, Any]], new: int) -> list[float]:
    """Of the last so many events each one's own score, as of nobody in an episode: `weeks` goes before."""
    records = [encode(e) for e in [*weeks(), *events]]
    engine = Engine(load(SETTINGS))
    out = engine.run(engine.decode(records, range(len(records)))).out
    assert out is not None
    return out.own[-new:].tolist()


AT = 9 * DAY + 9 * 3600
STRANGER = "mal@quickpost.example"


def test_what_follows_in_the_session_of_something_strange_is_ranked_after_it_and_is_no_alert_by_that():
    """Half of the highest score, at most 20 bits; not in another session, nor where events name none."""
    strange = [sent(AT + n, STRANGER, classification="restricted", bytes=10**7) for n in range(3)]
    ordinary = sent(AT + 60, "bo@corp.example")
    for follows, share in ((ordinary, True), (ordinary | {"session_id": "s-other"}, False), (ordinary, None)):
        events = [*strange, follows]
        if share is None:
            events = [{k: v for k, v in e.items() if k != "session_id"} for e in events]
        records = [encode(e) for e in [*weeks(), *events]]
        engine = Engine(load(SETTINGS))
        ran = engine.run(engine.decode(records, range(len(records))))
        assert ran.out is not None
        own = float(ran.out.score[-1])
        scored = engine.tell(ran)
        assert scored.score[-4:-1].max() > 2 * SESSION_MOST
        assert own < 1
        assert scored.score[-1] == (SESSION_MOST if share else own)
        assert not scored.marks[-1] & NOTABLE


def test_the_second_file_to_a_stranger_is_as_strange_as_the_first():
    first, second, third = scores([sent(AT + 600 * n, STRANGER) for n in range(3)], 3)
    assert first > 8
    assert second > 0.6 * first  # how close a stranger stands is known by then
    assert third > 0.6 * first


def test_when_the_sitting_is_over_the_stranger_is_known():
    within = scores([sent(AT, STRANGER), sent(AT + LASTS - 60, STRANGER)], 1)[0]
    after = scores([sent(AT, STRANGER), sent(AT + LASTS + 60, STRANGER)], 1)[0]
    assert after < within - 2


def test_a_sitting_goes_on_while_the_same_is_done():
    """Not by the clock of its first event: who sends each hour sits all day."""
    *_, last = scores([sent(AT + 3600 * n, STRANGER) for n in range(7)], 7)
    lone = scores([sent(AT, STRANGER), sent(AT + 6 * 3600, STRANGER)], 1)[0]
    assert last > lone + 2


def test_a_new_colleague_is_known_at_once():
    """Work inside goes on with whom it began."""
    first, second = scores([sent(AT, "flo@corp.example"), sent(AT + 600, "flo@corp.example")], 2)
    assert second < first - 2


def test_words_of_what_is_kept_new_say_when_it_was_first_done():
    """Neither never nor seldom: it was done minutes ago."""
    told = scored([encode(e) for e in [*weeks(), *(sent(AT + 600 * n, STRANGER) for n in range(4))]], **SETTINGS)
    items = [e for a in told.alerts for e in a.evidence if e.name in {"recipient", "domain"}]
    first = [e for e in items if e.event_ids == [f"0-{AT}-{STRANGER}"]]
    later = [e for e in items if f"0-{AT}-{STRANGER}" not in e.event_ids]
    assert first
    assert later
    for e in first:
        assert e.baseline["own"] == 0
        assert clause(e).startswith("it has never sent to ")
    for e in later:
        since = e.baseline["since"]
        assert since in {int(i.split("-")[1]) - AT for i in e.event_ids}
        assert 0 < e.baseline["own"] < 0.5
        assert clause(e).startswith(f"until {since // 60} minutes before it had never sent to ")


def test_the_highest_class_that_it_ever_handled_stays_new():
    """Where nothing leaves as well."""
    first, second = scores([sent(AT + 600 * n, "bo@corp.example", classification="restricted") for n in range(2)], 2)
    usual = scores([sent(AT, "bo@corp.example")], 1)[0]
    assert first > usual + 2
    assert second > 0.6 * first


def test_what_a_person_called_benign_is_known_at_once():
    def then(verdict: str) -> float:
        engine = Engine(load(SETTINGS))
        records = [encode(e) for e in [*weeks(), sent(AT, STRANGER), sent(AT + 60, STRANGER)]]
        (alert, *_) = [
            a for a in engine.score(engine.decode(records, range(len(records)))).alerts if a.agent_id == "bot-0"
        ]
        if verdict:
            said = decode_verdict(verdict_on(alert, verdict, "ana", "a customer", AT + BASE + 120.0), 1)
            assert isinstance(said, Verdict)
            engine.judge(said)
        out = engine.run(engine.decode([encode(sent(AT + 600, STRANGER))], [0])).out
        assert out is not None
        return float(out.own[0])

    assert then("benign") < then("") - 5


def ages(events: Sequence[dict[str, Any]], reset: str = "") -> set[int]:
    """At which ages the fleet has learned what a tool usually costs: powers of two of the events of an agent, those who came late above the others."""
    records = [encode(e) for e in sorted(events, key=lambda e: e["time"])]
    engine = Engine(load(SETTINGS))
    if reset:
        engine.run(engine.decode(records[:-1], range(len(records) - 1)))
        newcomer.reset(engine.state.arrays(), np.uint64(name_hash(reset)))
        records = records[-1:]
    engine.run(engine.decode(records, range(len(records))))
    weights = engine.state["fleet"].body[0, 1 : 2 * schema.AGES : 2]  # the tool comes first
    return set(np.flatnonzero(weights).tolist())


def test_who_comes_to_a_fleet_that_runs_is_compared_with_those_who_did():
    """The first events of those who were there at its start were strange because nobody had done anything yet."""
    soon, late = (day * DAY + 9 * 3600 + 60.0 for day in (4, 6))
    assert soon < newcomer.SETTLED < late
    there = ages(weeks())
    assert max(there) < schema.POWERS
    assert ages([*weeks(), sent(soon, "bo@corp.example", 9)]) == there
    came = [sent(late + 60 * n, "bo@corp.example", 9) for n in range(3)]
    assert ages([*weeks(), *came]) == there | {schema.POWERS, schema.POWERS + 1}


def first_score(at: float, others_at: float) -> float:
    """What the first event of a newcomer is worth, which sends to a stranger by a tool of its own; five others did the like when they came."""
    came = [
        sent(others_at + 60 * n, f"x{n}@new-{n}.example", 20 + n, tool=f"relay.{n}", resource=f"lake-{n}/all")
        for n in range(5)
    ]
    rogue = sent(at, "y@elsewhere.example", 9, tool="relay.y", resource="lake-y/all")
    records = [encode(e) for e in sorted([*weeks(), *came, rogue], key=lambda e: e["time"])]
    engine = Engine(load(SETTINGS))
    out = engine.run(engine.decode(records, range(len(records)))).out
    assert out is not None
    return float(out.own[next(i for i, r in enumerate(records) if b'"bot-9"' in r)])


def test_a_rogue_newcomer_is_not_excused_by_the_first_days():
    """When the fleet began all was new to all. That excuses who came in those days, and nobody since."""
    soon, late = (day * DAY + 20 * 3600.0 for day in (4, 6))
    assert soon < newcomer.SETTLED < late
    assert first_score(late, others_at=3 * DAY) > first_score(soon, others_at=3 * DAY) + 1


def test_what_newcomers_are_used_to_excuses_the_next():
    """Where new agents begin with what nobody did before, one more that does is less strange; what those of the first days did says nothing of it."""
    late = 7 * DAY + 20 * 3600.0
    assert first_score(late, others_at=6 * DAY) < first_score(late, others_at=4 * DAY) - 2


def test_who_was_reset_is_compared_with_newcomers():
    """It is one: what it did before is nobody's."""
    assert ages([*weeks(), sent(AT, "bo@corp.example")], reset="bot-0") - ages(weeks()) == {schema.POWERS}


def odd(agent: int, after: float) -> tuple[float, float]:
    """Scores of the first and the fourth use within a quarter of an hour of a tool that nobody has, `after` so many seconds of ordinary work."""
    begin = AT if agent else AT - after  # bot-0 was there before
    ordinary = [sent(begin + after * n / 40, "bo@corp.example", agent) for n in range(40)]
    uses = [sent(begin + after + 300 * n, "bo@corp.example", agent, tool="lake.dump") for n in range(4)]
    first, *_, last = scores([*ordinary, *uses], 4)
    return first, last


def test_what_a_newcomer_does_that_none_of_its_peers_does_stays_strange():
    """Its work is theirs: that it did so a minute ago is no excuse. Who has been there for long may have new work, and so may who has settled."""
    first, last = odd(9, 4 * 3600.0)
    assert first > 6
    assert last >= first
    for agent, after in ((0, 4 * 3600.0), (9, newcomer.SETTLED + DAY)):
        first, last = odd(agent, after)
        assert first > 6
        assert last < 0.75 * first
