"""What is told of a log in other words than the contract's; the whole way, with `jq`, is in `test_cli.py`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.fields import _ELSEWHERE
from stream.foreign import look, told
from tests.shared import few


def raw(*records: dict[str, Any]) -> list[bytes]:
    return [json.dumps(record).encode() for record in records]


def likely(*records: dict[str, Any]) -> dict[str, str]:
    """Their field → the contract's."""
    found = look(raw(*records))
    assert found is not None
    return {".".join(m.path): m.field for m in found.meant}


def expression(field: str, *values: Any) -> str | None:
    """What `jq` makes of the values of a field."""
    found = look(raw(*({field: value} for value in values)))
    assert found is not None
    return next((m.jq for m in found.meant), None)


names = st.one_of(st.text(max_size=12), st.sampled_from([n for names in _ELSEWHERE.values() for n in names.split()]))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@few
@given(st.lists(st.dictionaries(names, values, max_size=8), min_size=1, max_size=4))
def test_whatever_a_record_holds_something_printable_is_told(records):
    """A name of its cannot write on the terminal."""
    assert all(line.isprintable() for line in told("x", raw(*records)))


def test_names_are_told_apart_where_they_only_look_alike():
    """The end of a longer name is not that name; a duration is no time; a call's id, which repeats, names no event."""
    assert (
        likely({"tenantId": "t", "userAgent": "x", "responseTimeMs": 12, "displayName": "d", "eventVersion": "1.08"})
        == {}
    )
    assert likely({"callId": "c"}, {"callId": "c"}) == {}
    assert likely({"callId": "c"}, {"callId": "d"}) == {"callId": "event_id"}
    assert likely({"id": "1", "eventId": "2"}) == {"eventId": "event_id"}
    assert likely({"gen_ai.agent.id": "a", "gen_ai": {"tool": {"name": "t"}}}) == {
        "gen_ai.agent.id": "agent_id",
        "gen_ai.tool.name": "tool",
    }
    assert likely({"bytesIn": 3, "bytesOut": 4}) == {"bytesOut": "bytes"}


@pytest.mark.parametrize(
    ("value", "made"),
    [
        (1773304800, ".ts"), (1773304800123, "(.ts/1000)"), (1773304800123456, "(.ts/1000000)"), (1773304800123456789, "(.ts/1000000000)"),
        ("1773304800123", "(.ts|tonumber/1000)"), ("2026-03-12T08:44:01Z", ".ts"), ("2026-03-12 08:44:01.5", '(.ts|sub(" "; "T") + "Z")'),
        ("2026-03-12", None), ("yesterday", None), (120, None), (True, None), (10**400, None),
    ],
)  # fmt: skip
def test_a_time_is_taken_for_what_its_size_or_its_writing_says(value, made):
    """Seconds, or finer; with an offset, or in UTC."""
    assert expression("ts", value) == made


@pytest.mark.parametrize(
    ("field", "value", "made"),
    [
        ("scope", ["a"], ".scope"), ("scope", "a b", '(.scope|if . == null then null else [splits("[, ]+")|select(. != "")] end)'),
        ("rows", 3, ".rows"), ("rows", "3", "(.rows|if . == null then null else tonumber end)"), ("rows", -1, None), ("rows", True, None),
        ("to", ["a"], "[(.to // [])[]|{id: .}]"), ("to", [{"email": "a", "clearance": "x"}], "[(.to // [])[]|{id: .email, clearance}]"), ("to", [{"x": 1}], None),
        ("approved", True, ".approved"), ("approved", "yes", None), ("status", "success", ".status"), ("status", "whatever", None),
        ("userId", 7, "(.userId|if . == null then null else tostring end)"), ("end", 1, None), ("@timestamp", 1773304800, '.["@timestamp"]'),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_the_contract_s_is_not_taken_for_it(field, value, made):
    """And one that can is made it."""
    assert expression(field, value) == made


def test_where_nothing_is_likely_it_says_what_to_put_there():
    """An event needs them."""
    lines = "\n".join(told("x.jsonl", raw({"toolName": "t", "when": 1773304800})))
    assert "nothing is likely `event_id` (the number of its line is put), `agent_id` (.WHICH is put)" in lines
    assert "agent_id: .WHICH" in lines
    assert "where it says .WHICH, put the field that tells it" in lines


def test_of_records_without_a_field_that_is_likely_the_required_ones_and_an_example_are_told():
    """And of what is no JSON nothing."""
    first, example = told("x", raw({"foo": 1}))
    assert first == "x has no event: its records lack event_id, time, agent_id and action, which every event must have"
    assert '{"event_id": "e1"' in example
    assert told("x", [b"garbage"]) == []
