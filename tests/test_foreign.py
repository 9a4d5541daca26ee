"""What is told of a log in other words than the contract's; the whole way, with `jq`, is in `test_cli.py`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.beginning import Kept
from stream.codec import encode
from stream.fields import _ELSEWHERE
from stream.foreign import look, told
from tests.shared import few


def tell(*records: Any) -> list[str]:
    """What is told of a stream of these, which is no file."""
    kept = Kept()
    kept.add(record if isinstance(record, bytes) else encode(record) for record in records)
    return told("x", kept)


def likely(*records: dict[str, Any]) -> dict[str, str]:
    """Their field → the contract's."""
    return {".".join(m.path): m.field for m in look(records).meant}


def expression(field: str, *values: Any) -> str | None:
    """What `jq` makes of the values of a field."""
    return next((m.jq for m in look([{field: value} for value in values]).meant), None)


names = st.one_of(st.text(max_size=12), st.sampled_from([n for names in _ELSEWHERE.values() for n in names.split()]))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@few
@given(st.lists(st.dictionaries(names, values, max_size=8), min_size=1, max_size=4))
def test_whatever_a_record_holds_something_printable_is_told(records):
    """A name of its cannot write on the terminal. In whatever array they lie."""
    for document in (records, [{"Records": records}], [records], [{"a": {"b": records}, "id": 1}]):
        lines = tell(*(json.dumps(record).encode() for record in document))
        assert all(line.isprintable() for line in lines)


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
        ("rows", 3, ".rows"), ("rows", "3", "(.rows|tonumber? // null)"), ("rows", -1, None), ("rows", True, None),
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
    lines = "\n".join(tell({"toolName": "t", "when": 1773304800}))
    assert "nothing is likely `event_id` (the number of its line is put), `agent_id` (.WHICH is put)" in lines
    assert "agent_id: .WHICH" in lines
    assert "where it says .WHICH, put the field that tells it" in lines


def test_of_records_without_a_field_that_is_likely_the_required_ones_and_an_example_are_told():
    """And of what is no JSON nothing."""
    first, example = tell({"foo": 1})
    assert first == "x has no event: its records lack event_id, time, agent_id and action, which every event must have"
    assert '{"event_id": "e1"' in example


def test_of_what_is_neither_json_nor_csv_an_example_is_told():
    """Nor is what has commas CSV where no column is likely something of an event's, nor a line that begins with a bracket JSON."""
    for lines in (
        [b"garbage"],
        [b"hello, world", b"this, is prose"],
        [b"[2026-03-12 08:44] read, ok", b"[2026-03-12 08:45] read, ok"],
    ):
        (line,) = tell(*lines)
        assert line.startswith("x has no event and does not begin as JSON")
        assert '{"event_id": "e1"' in line


def test_opentelemetry_s_names_say_what_they_mean_also_within_attributes():
    """Of a record that is nearly an event they are looked at nowhere but at the top."""
    attributes = {
        "gen_ai.agent.id": "a",
        "gen_ai.conversation.id": "c",
        "gen_ai.tool.name": "t",
        "gen_ai.operation.name": "execute_tool",
        "enduser.id": "u",
    }
    found = likely({"trace_id": "x", "span_id": "y", "start_time": "2026-03-12T08:44:01Z", "attributes": attributes})
    assert found == {
        "span_id": "event_id", "start_time": "time", "attributes.gen_ai.agent.id": "agent_id", "attributes.gen_ai.conversation.id": "session_id", "attributes": "attributes",
        "attributes.gen_ai.tool.name": "tool", "attributes.gen_ai.operation.name": "action", "attributes.enduser.id": "principal",
    }  # fmt: skip
    assert "attributes.userId" not in likely(
        {"event_id": "e", "time": 1, "agent_id": "a", "attributes": {"userId": "u"}}
    )


def test_where_a_field_is_lacking_another_that_is_as_likely_stands_in():
    assert expression("userId", "u") == ".userId"
    found = {m.field: m.jq for m in look([{"agentId": "a", "operation": "read"}, {"agentName": "b"}]).meant}
    assert found == {"agent_id": "(.agentId // .agentName)", "action": '(.operation // "execute")'}


@pytest.mark.parametrize("field", ["errorCode", "error"])
def test_what_is_there_only_where_something_went_wrong_tells_how_it_ended(field):
    made = expression(field, "AccessDenied")
    assert made is not None
    assert made.startswith(f'(.{field} // ""|tostring|if test(')


def test_our_own_alerts_and_verdicts_are_no_foreign_log():
    for record in (
        {"alert_id": "a1", "time": "2026-03-12T08:44:01Z", "agent_id": "a"},
        {"alert_id": "a1", "verdict": "benign"},
    ):
        (line,) = tell(record, record)
        assert line.startswith("x holds alerts or verdicts, and no events: ")


def test_what_is_only_written_in_another_way_is_said_without_another_name():
    first, second, *_ = tell(
        *[{"event_id": f"e{n}", "time": "2026-03-12T08:44:01", "agent_id": "a", "action": "read"} for n in range(3)]
    )
    assert first == "x has no event: time cannot be read as it is"
    assert second == "  `time`  without an offset: taken for UTC"
