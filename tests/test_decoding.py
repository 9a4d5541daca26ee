"""Bytes in: every record becomes an event or a reject, in order, and nothing stops."""

from __future__ import annotations

import base64
import inspect
import json
import math
import sys
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stream.codec import (
    DETAIL,
    NESTING,
    REASONS,
    AccessEvent,
    Reject,
    decode,
    depth,
    encode,
    encode_lines,
    reject_line,
)
from stream.columns import columns
from stream.fields import Fields
from stream.simulate import lines, simulate

MAX = 1 << 20
LADDER = np.zeros(0, np.uint64)
BASE = {"event_id": "e-1", "time": "2026-03-02T10:00:00Z", "agent_id": "bot", "action": "read"}
FULL: dict[str, Any] = BASE | {
    "agent_type": "copilot",
    "agent_version": "7.1.0",
    "principal": "ada@corp.example",
    "session_id": "s-1",
    "tool": "crm.read",
    "resource": "crm/customers/42",
    "classification": "internal",
    "scopes": ["crm:read"],
    "bytes": 1200,
    "records": 3,
    "recipients": [
        {
            "id": "bob@corp.example",
            "type": "user",
            "domain": "corp.example",
            "clearance": "internal",
            "size": 1,
        }
    ],
    "approved": True,
    "outcome": "success",
    "attributes": {"trace": "abc"},
}
REQUIRED = ("event_id", "time", "agent_id", "action")
TEXTS = (
    "agent_type", "agent_version", "principal", "session_id", "tool", "resource", "classification",
)  # fmt: skip

thorough = settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
name = text.filter(bool)
amount = st.integers(0, 10**18) | st.floats(0, 1e18)
offset = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moment = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=offset)  # noqa: DTZ001
when = moment.map(datetime.isoformat) | st.floats(0, 253402300799) | st.integers(0, 253402300799)
party = st.fixed_dictionaries(
    {"id": name},
    optional={
        "type": st.sampled_from(["user", "group", "channel", "agent", "service", "email", "url"]),
        "domain": text,
        "clearance": text,
        "size": st.integers(1, 1 << 53),
    },
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
valid = st.fixed_dictionaries(
    {"event_id": name, "time": when, "agent_id": name, "action": name},
    optional=dict.fromkeys(TEXTS, text)
    | {
        "scopes": st.lists(name, max_size=4),
        "bytes": amount,
        "records": amount,
        "recipients": st.lists(party, max_size=4),
        "approved": st.booleans(),
        "outcome": st.sampled_from(["success", "denied", "error"]),
        "attributes": st.dictionaries(text, plain, max_size=3),
        "of our own": plain,
    },
)


def dumped(event: Any) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass")


def one(raw: bytes | None, max_bytes: int = MAX) -> AccessEvent | Reject:
    """Decode one record, and hold it to what must be true of every record."""
    events, kept, rejects = decode([raw], [41], max_bytes)
    assert len(events) + len(rejects) == 1
    assert kept == [0] * len(events)
    if events:
        return events[0]
    reject = rejects[0]
    assert reject.reason in REASONS
    assert reject.detail
    assert reject.position == 41
    assert reject.raw == (raw or b"")
    return reject


def reason(event: Any) -> str | None:
    out = one(event if isinstance(event, bytes) else dumped(event))
    return out.reason if isinstance(out, Reject) else None


def scored(event: AccessEvent) -> float:
    """Columns of one event must not fail, and its time must be one that can be written again."""
    seconds = float(columns([event], LADDER).time[0])
    assert math.isfinite(seconds)
    datetime.fromtimestamp(seconds, UTC)
    return seconds


@thorough
@given(st.binary(max_size=200) | text.map(str.encode))
@example(b"\xef\xbb\xbf{}")
@example(b'{"event_id":"\xed\xa0\x80"}')
@example(b"[" * 10_000 + b"]" * 10_000)
@example(b"]" * 10_000 + b"[" * 10_000)
@example(b'{"a":' * 10_000)
@example(b"\x00" * 100)
@example(b"-")
@example(b"1e999999999")
def test_any_bytes_become_an_event_or_a_reject_with_those_bytes(raw):
    """Whoever can write to the topic can write anything."""
    out = one(raw)
    assert isinstance(out, Reject)


@thorough
@given(valid, st.data())
def test_any_damage_to_a_valid_record_leaves_an_event_or_a_reject(event, data):
    """Most broken records are nearly right: cut short, a byte wrong, a byte too many."""
    raw = bytearray(dumped(event))
    at = data.draw(st.integers(0, len(raw) - 1))
    match data.draw(st.sampled_from(["cut", "change", "insert", "repeat"])):
        case "cut":
            raw = raw[:at]
        case "change":
            raw[at] = data.draw(st.integers(0, 255))
        case "insert":
            raw.insert(at, data.draw(st.integers(0, 255)))
        case _:
            raw += raw[at:]
    out = one(bytes(raw))
    if isinstance(out, AccessEvent):
        scored(out)


@thorough
@given(valid)
def test_what_the_contract_allows_is_accepted(event):
    """Every field as it was sent; those not known are left out and are no error, and a recipient listed again word for word is one."""
    out = one(dumped(event))
    assert isinstance(out, AccessEvent), out
    for field in (*TEXTS, "event_id", "agent_id", "action", "approved", "outcome"):
        assert getattr(out, field) == event.get(field), field
    for field in ("bytes", "records"):
        assert getattr(out, field) == (float(event[field]) if field in event else None), field
    assert [*(out.scopes or ())] == event.get("scopes", [])
    told = ("id", "type", "domain", "clearance", "size")
    once = dict.fromkeys(tuple(r.get(name) for name in told) for r in event.get("recipients", []))
    assert [tuple(getattr(r, name) for name in told) for r in out.recipients or ()] == list(once)
    assert {k: msgspec.json.decode(v) for k, v in (out.attributes or {}).items()} == {
        k: msgspec.json.decode(json.dumps(v)) for k, v in event.get("attributes", {}).items()
    }
    sent = event["time"]
    expected = datetime.fromisoformat(sent).timestamp() if isinstance(sent, str) else sent
    assert scored(out) == expected


@thorough
@given(valid)
def test_a_valid_event_survives_a_round_trip(event):
    """Demo, replay and rejects that are sent again write events with the same encoder."""
    first = one(dumped(event))
    second = one(encode(first))
    assert encode(second) == encode(first)
    assert scored(first) == scored(second)


@pytest.mark.parametrize("field", REQUIRED)
def test_a_record_without_a_required_field_says_which(field):
    """Its sender must find the fault from the reject alone."""
    for event in (FULL, BASE):
        out = one(dumped({k: v for k, v in event.items() if k != field}))
        assert (out.reason, field in out.detail) == ("missing_field", True)


BAD = {
    **dict.fromkeys(("event_id", "agent_id", "action"), (None, "", 5, 1.5, True, [], {}, ["a"], "x" * 8193)),
    "time": (
        None, "", True, [], {}, -1, -1e-9, 253402300800, 1e300, 10**400, "NaN", "now", "missing required field",
        "2026-03-02", "2026-03-02T10:00:00", "10:00:00Z", "1772445600", "2026-02-30T10:00:00Z",
        "2026-03-02T25:00:00Z", "2026-03-02T10:00:00+25:00", "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01", "9999-12-31T23:59:59.9999999Z",
        "9999-12-31T23:59:59.999999Z", "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
    ),
    **dict.fromkeys(TEXTS, (5, True, [], {}, "x" * 8193)),
    "scopes": ("crm:read", 5, {}, [5], [None], [""], [["a"]], ["x" * 8193], ["s"] * 1025, {"a": "b"}),
    **dict.fromkeys(("bytes", "records"), (-1, -1e-9, 1e19, 10**400, "5", "NaN", True, [], {})),
    "recipients": (
        "bob", 5, {}, {"id": "bob"}, ["bob"], [None], [{"id": ""}], [{"id": None}], [{"id": 5}],
        [{"id": "b", "type": "robot"}], [{"id": "b", "type": ""}], [{"id": "b", "type": 5}],
        [{"id": "b", "domain": 5}], [{"id": "b", "clearance": []}], [{"id": "b", "size": 0}],
        [{"id": "b", "size": -1}], [{"id": "b", "size": 1.5}], [{"id": "b", "size": 10**400}],
        [{"id": "b", "size": True}], [{"id": "b", "size": "2"}], [{"id": "ok"}, {"id": 5}],
        [{"id": "x" * 8193}], [{"id": "b"}] * 65537,
    ),
    "approved": (0, 1, "true", "yes", [], {}),
    "outcome": ("", "ok", "SUCCESS", "missing required field", 5, True, []),
    "attributes": (5, "text", True, [], [{"a": 1}]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "garbage"),
    [pytest.param(f, g, id=f"{f}-{str(g)[:24]}") for f, values in BAD.items() for g in values],
)
def test_a_value_out_of_its_domain_is_refused_and_the_field_named(field, garbage):
    """Accepting it would need a guess at what was meant."""
    for event in (FULL, BASE):
        out = one(dumped(event | {field: garbage}), max_bytes=4 * MAX)
        assert isinstance(out, Reject)
        assert out.reason == "bad_value"
        assert f"`$.{field}" in out.detail


@pytest.mark.parametrize("field", sorted(FULL.keys() - set(REQUIRED)))
def test_an_optional_field_may_be_null_and_means_absent(field):
    """Many encoders write what they do not have as null."""
    out = one(dumped(FULL | {field: None}))
    assert isinstance(out, AccessEvent)
    assert getattr(out, field) is None


@pytest.mark.parametrize("field", sorted(FULL.keys() - {"time", "attributes", "recipients", "scopes"}))
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"NaN", "not_json"),
        (b"Infinity", "not_json"),
        (b"-", "not_json"),
        (b"01", "not_json"),
        (b"'a'", "not_json"),
        (b'"\\ud800"', "not_json"),
        (b'"\\udc00\\ud800"', "not_json"),
        (b'"\xed\xa0\x80"', "not_json"),
        (b'"\xff"', "not_json"),
        (b'"\xc0\x80"', "not_json"),
        (b'"\x01"', "not_json"),
        (b'"a', "not_json"),
        (b"[" * 10_000, "too_deep"),
        (b"[" * 10_000 + b"]" * 10_000, "too_deep"),
        (b'{"a":' * NESTING + b"1" + b"}" * NESTING, "too_deep"),
        (b'"' + b"x" * (2 << 20) + b'"', "too_large"),
    ],
    ids=lambda raw: str(raw)[:20],
)
def test_what_is_not_json_is_refused_wherever_it_stands(field, raw, expected):
    """Lone surrogates, broken UTF-8, NaN and bombs never reach a model."""
    event = dumped({k: v for k, v in FULL.items() if k != field})
    assert reason(event[:-1] + b', "' + field.encode() + b'": ' + raw + b"}") == expected


@pytest.mark.parametrize("place", ["attributes", "of our own"])
def test_what_is_not_read_must_still_be_utf8(place):
    """Attributes are shown as they came: bytes that are not text would break whatever shows them."""
    for value, expected in ((b'{"a": "\xc3\xa9"}', None), (b'{"a": "\xff"}', "not_json")):
        raw = dumped(BASE)[:-1] + b', "' + place.encode() + b'": ' + value + b"}"
        assert reason(raw) == expected


@pytest.mark.parametrize("field", ["event_id", "agent_id", "action", *TEXTS])
@pytest.mark.parametrize("value", ["a\0b", "\0", " ", "\ufffd", "😀", "x" * 8192, "\\u0000", "NaN", "null", "\r\n"])
def test_any_text_of_the_allowed_length_is_kept_as_it_is(field, value):
    """A name is compared, never interpreted; an id is at most 256 characters long."""
    value = value[:256] if field.endswith("t_id") else value
    out = one(dumped(FULL | {field: value}))
    assert isinstance(out, AccessEvent)
    assert getattr(out, field) == value
    scored(out)


@pytest.mark.parametrize("raw", [None, b"", b" ", b"\n\r\n\t"])
def test_a_record_without_a_value_is_empty(raw):
    """Tombstones and blank lines have a reason of their own."""
    out = one(raw)
    assert isinstance(out, Reject)
    assert out.reason == "empty"


@pytest.mark.parametrize("raw", [b"null", b"5", b'"text"', b"true", b"[]", b"[{}]"])
def test_json_that_is_no_object_is_a_bad_value(raw):
    """It is JSON, so it is not said to be otherwise."""
    assert reason(raw) == "bad_value"


def test_a_reason_cannot_be_chosen_by_the_sender():
    """The decoder's message quotes the value: it must not be taken for the decoder's own words."""
    assert reason(FULL | {"outcome": "missing required field"}) == "bad_value"
    assert reason(FULL | {"outcome": "Object missing required field"}) == "bad_value"


@pytest.mark.parametrize(
    ("field", "allowed"),
    [("outcome", "success, denied, error"), ("type", "user, group, channel, agent, service, email, url")],
)
def test_of_a_field_with_few_values_the_detail_has_them_all(field, allowed):
    """And the one that came."""
    bad = {"outcome": "ok"} if field == "outcome" else {"recipients": [{"id": "r", "type": "ok"}]}
    found = one(msgspec.json.encode({"event_id": "e", "time": 1, "agent_id": "a", "action": "read"} | bad))
    assert isinstance(found, Reject)
    assert "'ok'" in found.detail
    assert found.detail.endswith(f"it may be {allowed}")


def test_a_detail_stays_short_and_keeps_the_field():
    """A value of a megabyte, quoted, would make the reject twice as long as the record."""
    out = one(dumped(FULL | {"outcome": "x" * 500_000}))
    assert isinstance(out, Reject)
    assert len(out.detail) <= DETAIL + 100  # with the values allowed
    assert "`$.outcome`" in out.detail


def test_an_id_longer_than_an_alert_can_name_is_refused():
    """An alert names twenty events for each signal, and must stay small enough to send."""
    for field in ("event_id", "agent_id"):
        assert reason(BASE | {field: "x" * 256}) is None
        assert reason(BASE | {field: "x" * 257}) == "bad_value"


def test_of_a_field_given_twice_the_last_one_counts():
    """As JSON decoders do; and each of them is checked."""
    raw = dumped(BASE)[:-1]
    out = one(raw + b', "agent_id": "other"}')
    assert isinstance(out, AccessEvent)
    assert out.agent_id == "other"
    assert reason(raw + b', "agent_id": 5}') == "bad_value"


@thorough
@given(st.lists(valid.map(dumped) | st.binary(max_size=30) | st.none(), max_size=12), st.randoms())
def test_every_record_is_counted_once_and_order_is_kept(records, random):
    """Counts of events and rejects must add up to what was read, or something is lost in silence."""
    positions = sorted(random.sample(range(1000), len(records)))
    events, kept, rejects = decode(records, positions, MAX)
    assert len(events) == len(kept)
    assert kept == sorted(set(kept))
    refused = [positions.index(r.position) for r in rejects]
    assert refused == sorted(refused)
    assert sorted(kept + refused) == list(range(len(records)))
    for event, i in zip(events, kept, strict=True):
        assert encode(event) == encode(one(records[i]))
    for reject in rejects:
        assert reject.raw == (records[positions.index(reject.position)] or b"")


def test_a_simulated_fleet_has_no_rejects():
    """The project's own events are the first that must be valid."""
    records = list(lines(simulate(3, agents=12, days=5)))
    events, kept, rejects = decode(records, range(len(records)), MAX)
    assert not rejects
    assert kept == list(range(len(records)))
    assert encode_lines(events).count(b"\n") == len(records)


@thorough
@given(moment)
def test_text_and_number_say_the_same_time(at):
    """RFC 3339 with any offset, or seconds since the epoch: one moment, one number."""
    written = one(dumped(BASE | {"time": at.isoformat()}))
    assert scored(written) == at.timestamp()
    if at.timestamp() >= 0:
        assert scored(one(dumped(BASE | {"time": at.timestamp()}))) == at.timestamp()


@thorough
@given(moment)
def test_a_time_without_an_offset_is_refused(at):
    """It would mean another moment on another machine."""
    out = one(dumped(BASE | {"time": at.replace(tzinfo=None).isoformat()}))
    assert isinstance(out, Reject)
    assert "timezone" in out.detail


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00Z", "0001-01-02T00:00:00+23:59", "9999-12-31T23:59:59Z", "9999-12-30T00:00:00-23:59", 0, 253402300799, 1e-9]
)  # fmt: skip
def test_the_first_and_the_last_time_there_is_can_be_scored_and_written(time):
    """A broken clock is marked by the models; it must reach them."""
    out = one(dumped(BASE | {"time": time}))
    assert isinstance(out, AccessEvent)
    scored(out)


@thorough
@given(st.binary(max_size=100) | st.text('[]{}"\\a', max_size=60).map(str.encode))
@example(b'"\\"[[[" [')
@example(b'"\\\\"[[[')
def test_depth_counts_the_brackets_outside_of_strings(raw):
    """A bracket in a string is text, and a quote behind a backslash does not end it."""
    level = deepest = 0
    quoted = False
    rest = iter(raw.decode("latin-1"))
    for c in rest:
        if quoted and c == "\\":
            next(rest, None)
        elif c == '"':
            quoted = not quoted
        elif not quoted and c in "[{":
            level += 1
            deepest = max(deepest, level)
        elif not quoted and c in "]}":
            level -= 1
    assert depth(np.frombuffer(raw, np.uint8)) == deepest


def test_nesting_is_refused_only_beyond_the_limit():
    """Many brackets side by side, or in a text, are no depth."""
    for levels, expected in ((NESTING - 2, None), (NESTING - 1, "too_deep")):
        inner = json.loads("[" * levels + "]" * levels)
        assert reason(BASE | {"attributes": {"a": inner, "b": [[], [], []]}}) == expected
    assert reason(BASE | {"recipients": [{"id": f"r{i}"} for i in range(100)]}) is None
    assert reason(BASE | {"tool": "[" * 5000}) is None
    assert reason(BASE | {"tool": '"' + "[" * 5000}) is None


def test_a_record_of_the_largest_size_is_read_and_one_byte_more_is_not():
    """The bound is the operator's, and the reject says which setting it is."""
    for raw in (dumped(FULL | {"of our own": "x" * 1000}), dumped(BASE)):
        assert isinstance(one(raw, max_bytes=len(raw)), AccessEvent)
        out = one(raw, max_bytes=len(raw) - 1)
        assert isinstance(out, Reject)
        assert out.reason == "too_large"
        assert "STRAYLINE_MAX_EVENT_BYTES" in out.detail


def test_a_nested_record_is_refused_where_the_stack_is_nearly_used_up():
    """The decoder calls itself for each level: a host deep in calls of its own must not fall over it."""
    raw = dumped(BASE | {"attributes": {"a": json.loads("[" * 300 + "]" * 300)}})

    def below(frames: int) -> AccessEvent | Reject:
        return one(raw) if frames == 0 else below(frames - 1)

    assert isinstance(below(0), AccessEvent)
    used = len(inspect.stack(0))
    out = below(sys.getrecursionlimit() - used - 150)
    assert isinstance(out, Reject)
    assert out.reason == "too_deep"


@thorough
@given(st.binary(max_size=100) | valid.map(dumped), st.text(max_size=10), st.none() | st.integers(0, 99))
def test_a_reject_keeps_its_bytes_exactly_as_text_or_in_base64(raw, source, partition):
    """Someone will want to mend the record and send it again."""
    reject = Reject("not_json", "why", 7, raw)
    line = json.loads(reject_line(reject, source, partition))
    kept = line["value"].encode() if "value" in line else base64.b64decode(line["value_base64"])
    assert kept == raw
    assert ("value" in line) != ("value_base64" in line)
    assert (line["reason"], line["detail"]) == ("not_json", "why")
    if partition is None:
        assert (line["source"], line["position"]) == (source, 7)
    else:
        assert (line["topic"], line["partition"], line["offset"]) == (source, partition, 7)


@thorough
@given(st.binary(min_size=1, max_size=60))
@example(b'{"outcome": "\xc3\xa9' + b"x" * 400 + b'"}')
def test_every_reject_can_be_written_on_one_line(raw):
    """Rejects go to a topic or a file of JSON Lines: whatever a detail quotes, it must encode."""
    for text in (raw, dumped(FULL | {"outcome": raw.decode("latin-1") * 20})):
        out = one(text)
        if isinstance(out, Reject):
            line = reject_line(out, "events")
            assert b"\n" not in line
            assert json.loads(line)["reason"] == out.reason


def test_random_cuts_of_one_record_are_all_refused():
    """A producer that died while writing leaves a part, never a shorter event."""
    raw = dumped(FULL)
    assert reason(raw + b"}") == reason(raw + raw) == reason(raw[:-1] + b' "b"}') == "not_json"
    for cut in Random(1).sample(range(1, len(raw)), 100):
        assert isinstance(one(raw[:cut]), Reject)


def test_which_events_names_are_looked_at_does_not_depend_on_where_batches_are_cut():
    """The first two hundred, then every thousandth; a name that no reader could print is no harm."""
    event = b'{"event_id":"e","time":1,"agent_id":"a","action":"read","n%d":1,"recipients":[{"id":"r","typ":"x"}]}'
    records = [event % (n if n < 90 or n > 2000 else 0) for n in range(4500)]
    records[9] = records[9].replace(b'"n9"', b'"\\ud800"')

    def looked(cut: int) -> Fields:
        fields = Fields()
        for at in range(0, len(records), cut):
            fields.look(records[at : at + cut], range(len(records[at : at + cut])))
        return fields

    whole = looked(len(records))
    assert whole.looked == 200 + 4
    assert set(whole.unknown) > {"n0", "n89", "n3000", "n4000", "recipients[].typ"}
    assert "n2500" not in whole.unknown
    for cut in (1, 7, 999, 1000, 4096):
        assert (looked(cut).looked, looked(cut).unknown) == (whole.looked, whole.unknown)


@pytest.mark.parametrize("time", [1773829812417, 1773829812417.5, 1773829812417000])
def test_a_time_in_milliseconds_is_answered_with_what_to_do(time):
    """Most clocks of programs count so."""
    found = one(dumped({"event_id": "1", "time": time, "agent_id": "a", "action": "read"}))
    assert isinstance(found, Reject)
    assert found.reason == "bad_value"
    assert found.detail.endswith("this looks like milliseconds, or finer: divide it by 1000")


@pytest.mark.parametrize(
    ("time", "do"),
    [
        (
            "25/03/2026 08:44",
            "; a time is written 2026-03-12T08:44:01Z, with any offset, or as seconds since the epoch",
        ),
        ("2026-03-12T08:44:01", "; put the offset behind it, as in 2026-03-12T08:44:01Z"),
    ],
)
def test_a_time_that_is_written_in_another_way_is_answered_with_how_it_is_written(time, do):
    found = one(dumped({"event_id": "1", "time": time, "agent_id": "a", "action": "read"}))
    assert isinstance(found, Reject)
    assert found.detail.endswith(do)
