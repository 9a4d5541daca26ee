"""Names come from whoever attacks: whatever they are, the words stay printable and short, and an alert fits a message."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream import clauses, counterfactual, reason, words
from stream.alert import Did, Evidence, Exposure, decode_alert
from stream.codec import encode
from stream.response import next_step
from stream.title import title
from tests.shared import few
from tests.telling import MIB, episode, hostile, rendered

MOST_TITLE, MOST_REASON = 260, 4000  # characters; a name takes 80 at most
HOSTILE = {
    "newlines": "\nseverity: low\r\n\x0b\x0c\x85\u2028\u2029",
    "control characters": "".join(map(chr, range(32))) + "\x7f",
    "terminal escapes": "\x1b[2J\x1b[31mred\x1b]0;title\x07\x9b5m",
    "right to left": "\u202egnp.exe\u2066\u2069\u200f",
    "invisible": "\u200b\ufeff\u00ad\U000e0041\u2060",
    "NUL": "\0\0",
    "unassigned": "\uffff\U0010ffff\ue000",
    "8 KB": "long " * 2000,
    "8 KB of emoji": "\U0001f600" * 8192,
    "combining": "e" + "\u0301" * 5000,
    "markup": "<script>alert(1)</script>{{7*7}}${jndi:ldap://x.example}%s%n'\"`;|",
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_no_name_breaks_title_or_reason(name):
    """One printable line of bounded length each: names come from whoever attacks."""
    for alert in episode([hostile(n, name, agent_id=f"bot{name}"[:256]) for n in range(3)]):
        assert alert.title.isprintable()
        assert alert.reason.isprintable()
        assert len(alert.title) <= MOST_TITLE
        assert len(alert.reason) <= MOST_REASON
        assert rendered(decode_alert(encode(alert))) == alert.reason


@settings(parent=few, max_examples=300)
@given(name=st.text(min_size=1) | st.sampled_from([*HOSTILE.values()]), denied=st.booleans())
def test_no_name_at_all_breaks_the_words(name, denied):
    """In any of the places that words are made of."""
    event = Did("e", name, name, name, name, 1.0, 2.0, [name, name, name], 4, False, denied)
    names = ("tool", "permission", "root", "branch", "resource", "classification", "transition", "recipient", "domain")
    for bits, ids, events in product((1.0, 20.0), (["e"], ["other"]), (1, 2)):
        evidence = [Evidence(what, "scope", name, words.expected_values([name]), bits, ids, 1) for what in names]
        for item in evidence:
            assert clauses.clause(item).isprintable()
            assert counterfactual._had(item, event).isprintable()
        text = reason.reason(
            name,
            event,
            evidence,
            Exposure(events=events),
            warming=False,
            score=60.0,
            threshold=12.0,
            strong=events,
            serious=False,
        )
        for item in evidence:
            line = title(name, item, event, evidence, Exposure(events=events))
            step = next_step(name, item, event, evidence, Exposure(events=events))
            assert (text + line + step).isprintable()
            assert len(line) <= MOST_TITLE
        assert len(text) <= MOST_REASON


@settings(parent=few, max_examples=300)
@given(text=st.text(), most=st.integers(1, 100))
def test_a_name_that_is_safe_to_print_stays_as_it_is(text, most):
    """And any other becomes printable and short."""
    out = words.plain(text, most)
    assert out.isprintable()
    assert len(out) <= most
    assert (out == text) is (text.isprintable() and len(text) <= most)


LARGE = {
    "10,000 recipients": [
        hostile(n, "x", recipients=[{"id": f"p{i}@x.example", "clearance": "public"} for i in range(10_000)]) for n in range(3)
    ],
    "recipients of 8 KB": [
        hostile(n, "x", recipients=[{"id": f"{i}" + "\x01" * 8190} for i in range(40)]) for n in range(3)
    ],
    "1,000 scopes": [hostile(n, "x", scopes=1000) for n in range(3)],
    "a megabyte of attributes": [hostile(n, "x", attributes={"k": "v" * MIB}) for n in range(3)],
    "many events": [hostile(n, "x") for n in range(120)],
    "many events of 8 KB names": [hostile(n, "x" * 8192) for n in range(60)],
    "8 KB names that JSON must escape": [hostile(n, "\x01" * 8192) for n in range(60)],
}  # fmt: skip


@pytest.mark.parametrize("events", LARGE.values(), ids=LARGE)
def test_an_alert_stays_below_a_megabyte(events):
    """A larger message would not fit a Kafka broker's default, and the worker could deliver nothing more."""
    assert max(len(encode(alert)) for alert in episode(events)) < MIB
