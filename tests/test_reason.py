"""The words are made of the evidence: each sentence of the event that it is about."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream import clauses, counterfactual, reason, story, words
from stream.alert import Alert, Did, Evidence, Exposure
from stream.severity import HARMS, SERIOUS
from stream.simulate import lines, simulate
from stream.title import title
from tests.shared import few
from tests.telling import BASE, HOME, about, episode, hostile, rendered, said_of, scored

# A read of twenty times the usual, and of nothing else that is strange.
HARVEST: dict[str, Any] = {
    "tool": "crm.read", "action": "read", "classification": "internal", "approved": None, "recipients": None, "session_id": "s", "records": 60, "bytes": 30_000,
}  # fmt: skip

# The reason


def changed(item: Evidence) -> Evidence:
    if item.name == "clearance":
        return msgspec.structs.replace(
            item, observed=str(item.observed).replace(" data at most", " and other data at most")
        )
    if item.name == "off_hours":  # the sentence before has its hour
        return msgspec.structs.replace(item, expected=f"other {item.expected}")
    other = item.observed * 7 + 1 if isinstance(item.observed, float) else f"other {item.observed}"
    return msgspec.structs.replace(item, observed=other)


def test_another_observation_is_another_reason(alerts):
    """What was observed stands in the sentence, for every signal that has a part in it."""
    told = set()
    for alert in alerts:
        for i, item in enumerate(alert.evidence):
            without = rendered(alert, [*alert.evidence[:i], *alert.evidence[i + 1 :]])
            if said_of(alert, item) in alert.reason and said_of(alert, item) not in without:
                told.add(item.name)
                evidence = [*alert.evidence[:i], changed(item), *alert.evidence[i + 1 :]]
                assert rendered(alert, evidence) != alert.reason, item.name
    assert {"recipient", "records", "clearance", "approval", "read_before", "transition", "permission"} <= told


def test_the_strongest_evidence_is_told(alerts):
    """The sentence explains the score: the signal with most bits stands in it, or a better name for the same."""
    for alert in alerts:
        names = {
            e.name for e in alert.evidence if e.bits >= alert.evidence[0].bits
        }  # many claim the most that may be claimed
        while not names.issuperset(better := {n for name in names for n in reason.COVERED.get(name, ())}):
            names |= better
        # Of one tool any amount says it; in a bare list of names the same observation of the lead does.
        tool = alert.evidence[0].baseline.get("tool")
        told = [e for e in alert.evidence if e.name in names or (tool and e.baseline.get("tool") == tool)]
        assert any(said_of(alert, item) in alert.reason for item in told)


def test_a_reason_says_the_strongest_and_leaves_the_rest_to_the_evidence(alerts):
    """Nobody reads more: three pieces, beside what is said in any case and what the last sentence names; and what is planted, which has most to tell, takes fewer than a hundred words on average."""
    for alert in alerts:
        said = {said_of(alert, e) for e in alert.evidence if e.name not in reason.CONTEXT}
        assert sum(text in alert.reason for text in said) <= reason.MOST_CLAUSES + 1
    last = {alert.alert_id: alert for alert in alerts}
    assert statistics.mean(len(alert.reason.split()) for alert in last.values()) < 100


def test_the_first_sentence_says_who_did_what_with_how_much_to_whom(alerts, by_id):
    """Whoever reads no more knows what happened."""
    for alert in alerts:
        first, event = alert.reason.split(": ")[0], by_id[alert.event.event_id]
        assert first.startswith(f"{alert.agent_id} ")
        assert f" for {event['principal']}" in first
        assert event["resource"] in first
        amount = words.counted(event["records"], "record") if "records" in event else ""
        assert re.search(rf"\b{amount}\b", first) or event.get("outcome") == "denied"
        parties = [r["id"] for r in event.get("recipients", ())]
        assert all(r in first for r in parties[:2])
        assert len(parties) <= 2 or f" and {len(parties) - 2} more" in first


def test_serious_harm_is_said_with_how_it_came_about(alerts):
    """Next to a broken clearance all else is small, and yet what is asked next."""
    told = 0
    for alert in alerts:
        own = [e for e in alert.evidence if alert.event.event_id in e.event_ids]
        small = [e for e in own if e.name not in reason.CONTEXT and counterfactual.pays(e) > 0]
        if about(alert).name == "clearance" and about(alert) in own and small:
            told += 1
            assert any(said_of(alert, e) in lead_sentence(alert) for e in small)
    assert told


def test_what_the_title_says_is_told_in_the_reason(alerts):
    """Who reads on finds what the headline promised, with its numbers."""
    for alert in alerts:
        item, serious = about(alert), HARMS.index(alert.impact) >= SERIOUS
        assert title(alert.agent_id, item, alert.event, alert.evidence, alert.exposure, serious=serious) == alert.title
        assert said_of(alert, item) in alert.reason, alert.title


def test_events_are_such_only_where_all_are_like_the_one_that_the_alert_is_about():
    """Else their sum would be told of a leak that had a small part in it."""
    read, *leaks = hostile(0, "x", recipients=None), hostile(1, "x"), hostile(2, "x")
    assert " In all, 2 such events" in episode(leaks)[-1].reason
    assert " In all, 3 strange events" in episode([read, *leaks])[-1].reason


def test_numbers_about_the_whole_episode_are_those_of_the_exposure(alerts):
    """They are what goes into a report."""
    counted = 0
    for alert in alerts:
        x = alert.exposure
        if x.events == 1:
            continue
        counted += 1
        first = reason._first([e for e in alert.evidence if alert.event.event_id in e.event_ids], about(alert))
        shown = max((sum(o.count for o in alert.evidence if o.name == e.name) for e in first), default=0)
        assert f" {x.events:,} {'such' if shown >= x.events else 'strange'} events" in alert.reason
        assert x.records is None or f"({words.counted(x.records, 'record')}" in alert.reason
        assert x.bytes is None or words.size(x.bytes) in alert.reason
        for name in ("events", "records", "bytes"):
            more = msgspec.structs.replace(x, **{name: 777})
            assert rendered(alert, exposure=more).count("777") > alert.reason.count("777")
    assert counted > 30


# One event, one sentence


def lead_sentence(alert: Alert) -> str:
    """What is said of the strangest event: up to what is said of the others, or of the whole."""
    said = alert.reason
    for what in (
        " Also: ",
        " In all, ",
        " It was given data by ",
        " It gave data to ",
        " Most often it ",
        " Meanwhile, ",
        " It is new, ",
        " It would not have been raised",
        " The agent is new",
        " Its baseline was reset",
    ):
        said = said.split(what)[0]
    return said


def test_what_is_said_of_the_strangest_event_is_evidence_of_that_event(alerts):
    """Another event's recipient, class or amount in that sentence would be a claim that no event bears out."""
    mixed = 0
    for alert in alerts:
        own = [e for e in alert.evidence if alert.event.event_id in e.event_ids]
        others = [e for e in alert.evidence if e not in own]
        assert all(e.event_ids == [alert.event.event_id] and e.count == 1 for e in own)
        said = lead_sentence(alert).split(" Most often it ")[0]
        kept = rendered(alert, own)
        assert said == lead_sentence(msgspec.structs.replace(alert, reason=kept)) or not others
        told = [e for e in others if said_of(alert, e) in alert.reason]
        mixed += bool(told)
        for item in told:
            assert said_of(alert, item) not in said or any(said_of(alert, item) == said_of(alert, e) for e in own)
    assert mixed > 20


def test_evidence_of_the_strangest_event_is_what_that_event_says(alerts, by_id):
    """Recipient, permission, class and amounts are looked up in the event itself."""
    checked = defaultdict(int)
    for alert in alerts:
        for item in alert.evidence:
            event = by_id[item.event_ids[0]] if item.event_ids else {}
            if item.name == "recipient":
                assert item.observed in [r["id"] for r in event["recipients"]]
            elif item.name == "permission":
                assert item.observed in event["scopes"]
            elif item.name == "classification":
                assert item.observed == event["classification"]
            elif item.name == "records":
                assert item.observed == pytest.approx(event["records"], abs=0.1, rel=1e-4)
            elif item.name == "clearance":
                assert str(item.observed).endswith(f"given {event['classification']} data")
            else:
                continue
            checked[item.name] += 1
    assert min(checked.values()) > 3
    assert len(checked) == 5


def test_broken_clearance_of_another_event_is_said_in_a_sentence_of_its_own():
    """The strangest event sent public data: it did not break any."""
    quiet = {"records": 3, "bytes": 1000, "scopes": ["crm:read"], "resource": "crm/customers/1", "tool": "crm.read"}
    small = hostile(0, "x") | quiet | {"classification": "internal", "session_id": "s-1-9", "action": "read"}
    small["recipients"] = [{"id": "small@y.example", "clearance": "public"}]
    large = hostile(1, "x", recipients=[{"id": f"wide{i}@x.example", "clearance": "restricted"} for i in range(3)])
    alert = episode([small, large])[-1]
    assert alert.event.event_id == large["event_id"]
    assert alert.exposure.people_below_clearance == 1
    said = lead_sentence(alert)
    assert "may see" not in said
    assert "small@y.example" not in said
    _, rest = alert.reason.split(" Also: ")
    assert "1 recipient may see public data at most, and was given internal data" in rest


def test_the_same_shown_to_the_same_is_said_once():
    """Of another event it adds nothing; of another resource it does."""
    forum = [{"id": "#forum", "clearance": "public"}]
    for resource, times in (("root/branch/1x", 1), ("root/branch/other", 2)):
        shown = [hostile(0, "x", recipients=forum, resource=resource), hostile(1, "x", recipients=forum)]
        assert episode(shown)[-1].reason.count("may see public data at most") == times


def test_that_a_partition_has_not_heard_all_is_said_once():
    """However much is said of peers."""
    alert = episode([hostile(n, "x") for n in range(3)])[-1]
    apart = [
        msgspec.structs.replace(e, baseline=e.baseline | ({"peers_heard_of": True} if "peers" in e.baseline else {}))
        for e in alert.evidence
    ]
    assert sum(clauses.clause(e).endswith(words.HEARD) for e in apart) > 1
    said = rendered(alert, apart)
    assert said.count(words.HEARD) == 1
    assert said.replace(words.HEARD, "") == rendered(alert)


def test_recipients_that_the_next_step_does_not_ask_about_are_named_in_the_reason():
    """Three mails within a loop of reads: two by name, and how many more."""
    reads = [
        hostile(n, "", **HARVEST) | {"resource": f"crm/customers/{n % 7}", "scopes": ["crm:read"]} for n in range(30)
    ]
    for n in (16, 17, 18):
        reads[n] |= {"recipients": [{"id": f"r{n}@x.example", "clearance": "restricted"}]}
    alert = episode(reads)[-1]
    assert about(alert).kind != "recipient"
    assert alert.exposure.recipients_total == 3
    named = [r for r in alert.exposure.recipients if r in alert.reason]
    assert named
    assert len(named) == 3 or f" and {3 - len(named)} more" in alert.reason


# What was denied


def test_a_probe_says_how_often_it_was_denied_and_over_how_much_and_nothing_that_was_denied_was_done():
    """An event that was denied handled nothing."""
    tried = [
        hostile(n, "x", recipients=None, outcome="denied", records=None, bytes=None, resource=f"{root}/{n}")
        for n, root in enumerate(["vault", "hris", "vault", "dw"])
    ]
    alert = episode([*tried, tried[0] | {"event_id": "again"}])[-1]
    x = alert.exposure
    assert (x.denied, x.denied_systems, x.denied_resources) == (5, ["vault", "hris", "dw"], 4)
    assert alert.title.startswith("bot-1 tries to ")
    assert alert.title.endswith(", and is denied 5 times over 3 systems")
    assert "; 5 of them denied, over 4 resources in 3 systems (vault, hris and dw)" in alert.reason
    assert "and the 3 other resources that it was refused" in alert.next_step
    assert not re.search(r"\b(used|handled|touched|handles|touches) ", alert.title + alert.reason)


def test_what_the_episode_itself_handed_out_is_not_what_its_session_had_handled_before():
    """The alert's own first mail is no source of its second; what was read before is, and what was refused was not handled."""

    def last(*before: dict[str, Any]) -> set[str]:
        sent = [hostile(n, "x", records=5, session_id="s") for n in range(8, 14)]
        read = [hostile(n, "x", session_id="s", recipients=None) | e for n, e in enumerate(before)]
        alerts = episode([*read, *sent])
        assert sum(e["event_id"] in str(alerts) for e in sent) > 3
        return {str(e.observed) for a in alerts for e in a.evidence if e.name == "read_before"}

    assert last() == set()
    assert last({"records": 7}) == {"earlier in the session it handled 7 records of restricted data"}
    assert last({"records": None}) == {"earlier in the session it handled restricted data"}
    assert last({"records": None, "outcome": "denied"}) == {"earlier in the session it was refused restricted data"}


# What a harvest is


def test_the_event_that_carries_what_most_of_the_episode_is_leads_and_not_a_harmless_mail_between():
    """A harvest is many reads, of which none is the strangest: in the demo's, that was a mail of a public page to somebody new."""
    demo = simulate(1, 60, 28)
    (harvest,) = [i for i in demo.incidents if i.kind == "volume_burst"]
    alerts = scored([line.rstrip(b"\n") for line in lines(demo)], **HOME).alerts
    found = [a for a in alerts if {i for e in a.evidence for i in e.event_ids} & set(harvest.event_ids)]
    last = max(found, key=lambda a: a.exposure.events)
    assert last.event.event_id in harvest.event_ids
    assert " accounts.view " in last.title
    assert re.search(r" strange events, \d+ of this kind", last.reason)


def test_what_an_episode_is_mostly_about_is_a_tool_that_moves_or_calls_more_in_enough_of_its_events():
    """Of whom it reaches and what it touches each event tells by itself."""

    def after(*events: str, more: float = 20.0) -> str | None:
        told: dict[str, tuple[int, float]] = {}
        for name in events:
            kind = {"tool": "t"} if name == "bytes_sum" else {}
            bits = more if name == "recipient" else 20.0
            story.add(told, [Evidence(name, "volume", 9.0, "-", bits, ["e"], 1, kind)])
        return story.main(told)

    assert after(*["bytes_sum"] * 5) == "drift t"
    assert after(*["bytes_sum"] * 4) is None
    assert after(*["bytes_sum"] * 5, "recipient") == "drift t"
    assert after(*["bytes_sum"] * 5, "recipient", more=80.0) is None
    assert after(*["recipient"] * 9) is None


def test_a_group_of_unknown_size_is_named_and_with_others_at_least_so_many():
    """A link for anyone is shown to more than "at least 1 person"."""
    every, one = ({"id": name, "type": "channel", "clearance": "public"} for name in ("#all", "#one"))
    shown = [[every], [every | {"size": 1}], [every, one | {"size": 30}]]
    alerts = [episode([hostile(0, "x", recipients=to)])[-1] for to in shown]
    assert [a.title.removeprefix("bot-1 ") for a in alerts] == [
        f"shows restricted data to {whom} without the clearance" for whom in ("#all", "1 person", "at least 31 people")
    ]


def test_what_came_late_is_said_to():
    """What is said of minutes and hours is of when it came; in time, nothing of the kind is said."""
    late, in_time = (hostile(0, "x") | {"time": BASE + 47 * 1800 - back} for back in (7200, 0))
    assert "came up to 2 hours late" in episode([late])[-1].reason
    assert " late" not in episode([in_time])[-1].reason


@settings(parent=few, max_examples=300)
@given(
    items=st.lists(
        st.tuples(
            st.sampled_from(["tool", "recipient", "domain", "branch", "permission", "clearance", "classification"]),
            st.floats(0, 30),
            st.booleans(),
        ),
        max_size=12,
    ),
    events=st.integers(1, 9),
)
def test_no_evidence_of_another_event_gets_into_the_sentence(items, events):
    """Whatever there is of it, and however strong."""
    evidence = [
        Evidence(
            name, "scope", f"{'own' if own else 'other'}-{i}", f"{words.MOST_OFTEN}this", bits, ["e" if own else "o"], 1
        )
        for i, (name, bits, own) in enumerate(items)
    ]
    text = reason.reason("a", Did("e", "read"), evidence, Exposure(events=events), warming=False, score=40.0, threshold=12.0, strong=3, serious=False)  # fmt: skip
    first, _, rest = text.partition(" Also: ")
    assert "other-" not in first
    assert "own-" not in rest.split(". ")[0]
    for i, (name, _, own) in enumerate(items):
        if name == "clearance":
            assert f"{'own' if own else 'other'}-{i}" in (first if own else rest)


@pytest.mark.parametrize(
    "name",
    ["bytes", "records", "bytes_sum", "records_sum", "session_calls", "session_calls_sum", "call_rate", "rhythm"],
)
def test_one_is_singular(name):
    """In the title and in every sentence."""
    numbers = {"tool": "x", "typical": 1.0, "high": 0.5, "low": 0.5, "unit": "records", "lasts": False}
    item = Evidence(name, "volume", 1.0, "typically 1", 20.0, ["e"], 1, numbers)
    event = Did("e", "read", records=1.0, bytes=1.0)
    text = reason.reason("a", event, [item], Exposure(1, 1.0, 1.0), warming=False, score=40.0, threshold=12.0, strong=3, serious=False)  # fmt: skip
    for said in (text, title("a", item, event, [item], Exposure(events=1))):
        assert not re.search(r"\b1 (records|bytes|calls|times)\b", said), said


def test_what_no_event_told_is_null_and_not_zero():
    """Nobody knows how much it was; 0 would be a claim."""
    nothing = {"records": None, "bytes": None, "recipients": None}
    x = episode([hostile(n, "x", **nothing) for n in range(3)])[-1].exposure
    assert (x.records, x.bytes, x.people, x.people_below_clearance) == (None, None, None, None)


def test_broken_clearance_names_who_lacks_it_and_for_what():
    """The largest audience by its name, and how many more; in the reason, and in what to do."""
    parties = [{"id": f"p{i}@x.example", "clearance": "public"} for i in range(3)]
    parties.append({"id": "#forum", "clearance": "public", "size": 2000})
    alert = episode([hostile(0, "x", recipients=parties)])[0]
    said = "#forum and 3 more"
    assert f": {said} may see public data at most" in alert.reason
    assert f"ithdraw root/branch/0x from {said} (2,003 people), who were not cleared for it" in alert.next_step


def test_where_no_event_names_its_session_it_is_said_what_is_taken_for_one(alerts):
    """And only there."""
    said = "Its events name no session: one is taken to end with half an hour of quiet."
    of_sessions = [a for a in alerts if " session" in a.reason]
    assert of_sessions
    assert not any(said in a.reason for a in alerts)
    assert all(said in rendered(a, sessions=False) for a in of_sessions)
