"""Events as columns of numbers: the number of a name is a function of the name alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from models.batch import NONE, Batch, Text
from stream.codec import AccessEvent, Recipient, decode
from stream.columns import columns, read
from stream.scan import scan
from stream.simulate import lines, simulate
from stream.siphash import name_hash, siphash
from tests.columned import LADDER, one, thorough, to, word, words

ROOT = Path(__file__).parent.parent
PER_ENTRY = {
    "scope": "scope_at",
    **dict.fromkeys(("recipient", "domain", "under", "kind", "clearance", "cleared_for", "size"), "recipient_at"),
}
PIECES = ("s3:", "https:", "://", "/", "//", "a", "crm", "crm:", ":", "@", "ada@corp.example", "é", "42", "?", "#")

name = word.filter(bool)
path = st.lists(st.sampled_from(PIECES) | word, max_size=7).map("".join)
party = st.builds(
    Recipient,
    id=path.filter(bool),
    type=st.sampled_from([None, "user", "email", "url"]),
    domain=st.none() | word,
    clearance=st.sampled_from([None, "", "public", "restricted", "secret"]),
    size=st.none() | st.integers(1, 10_000) | st.integers(1, 1 << 53),
)
event = st.builds(
    AccessEvent,
    event_id=name,
    time=st.floats(0, 253402300799) | st.datetimes(timezones=st.just(UTC)),
    agent_id=name,
    action=name | st.sampled_from(["write", "send", "read"]),
    agent_type=st.none() | word,
    principal=st.none() | st.sampled_from(["ada@corp.example", "42", "crm", ""]) | word,
    session_id=st.none() | word,
    tool=st.none() | word,
    resource=st.none() | path,
    classification=st.sampled_from([None, "", "public", "internal", "confidential", "restricted", "secret"]),
    scopes=st.none() | st.lists(name, max_size=3).map(tuple),
    bytes=st.none() | st.floats(0, 1e18),
    records=st.none() | st.floats(0, 1e18),
    recipients=st.none() | st.lists(party, max_size=3).map(tuple),
    outcome=st.sampled_from([None, "success", "denied", "error"]),
)


def plain(batch: Batch) -> dict[str, Any]:
    """Every column, one list an event, without where it happens to stand in a buffer."""
    n = len(batch.time)
    out: dict[str, Any] = {}
    for field, column in batch._asdict().items():
        if field.endswith("_at"):
            out[field] = np.diff(column).tolist()
            continue
        rows: list[Any]
        if isinstance(column, Text):
            rows = list(zip(column.hash.tolist(), words(column), strict=True))
        elif field in ("root_high", "branch_high"):
            rows = [max(0, int(high - low)) for high, low in zip(column, batch.resource.low, strict=True)]
        else:
            rows = [None if x != x else x for x in column.tolist()]  # noqa: PLR0124
        if field in PER_ENTRY:
            at = getattr(batch, PER_ENTRY[field])
            rows = [rows[at[i] : at[i + 1]] for i in range(n)]
        out[field] = rows
    return out


@pytest.fixture(scope="module")
def cpython() -> Iterator[Callable[[bytes], int]]:
    """Python's own hash of bytes, in a process whose key is zero."""
    program = "import sys\nfor line in sys.stdin: print(hash(bytes.fromhex(line)) & (1 << 64) - 1, flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout

        def ask(raw: bytes) -> int:
            process.stdin.write(raw.hex() + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield ask
        process.stdin.close()


@settings(thorough, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(raw=st.binary(min_size=1, max_size=70), before=st.binary(max_size=9), after=st.binary(max_size=9))
@example(raw=b"1234567", before=b"", after=b"")
@example(raw=b"12345678", before=b"", after=b"9")
@example(raw=b"\xff" * 255, before=b"a", after=b"")
@example(raw=b"\x00" * 300, before=b"", after=b"\x00")
def test_siphash_is_the_hash_of_python_with_a_zero_key(cpython, raw, before, after):
    """An independent implementation that is tested by half the world; its neighbours in the buffer do not count."""
    buffer = np.frombuffer(bytearray(before + raw + after), np.uint8)
    ours = int(siphash(buffer, len(before), len(before) + len(raw)))
    theirs = cpython(raw)
    assume(theirs != 2**64 - 2)  # Python keeps -1 for errors
    assert ours == theirs


def test_the_number_of_a_name_is_the_same_in_every_release():
    """It is stored with the baselines: another number would forget everything in silence."""
    assert name_hash("") == NONE == 0
    assert hex(name_hash("crm.read")) == "0x210de9412da8ef1c"
    assert hex(name_hash("é😀")) == "0x5ef3fd4c86d61fd0"


@thorough
@given(st.lists(event, min_size=1, max_size=8), st.data())
def test_columns_of_a_batch_are_those_of_its_pieces(events, data):
    """Kafka cuts batches where it likes."""
    whole = plain(columns(events, LADDER))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(events)), max_size=4)) | {0, len(events)})
    pieces = [plain(columns(events[a:b], LADDER)) for a, b in pairwise(cuts)]
    for field, rows in whole.items():
        assert [row for piece in pieces for row in piece[field]] == rows, field


NASTY = (
    *(bytes([c]) for c in b'"\\{}[],:.-+eEntf019 /\x00\x08\x1f\x7f\x80\xc3\xa9\xff\n\t'),
    b"null", b"true", b"\\u0000", b"\\ud83d\\ude00", b"\\ud800", b"\\u00e9", b"\\q", b"1e5", b"-0", b"01", b"1.5", b"99999999999999999999", b'"x":1,', b'"x":{"y":[]},',
    b'"tool":"t",', b'"approved":true,', b"[[", b"]]", b"{}", b'""', b"2026-02-30", b"+01:00", b"60", b".1234567",
)  # fmt: skip


@st.composite
def record(draw):
    """What somebody might send: an event, as any of several libraries writes it, and perhaps mangled."""
    fields = msgspec.to_builtins(draw(event), builtin_types=(datetime,))
    when = fields["time"]
    fields["time"] = (
        draw(st.sampled_from([when.isoformat(), when.isoformat("T", "milliseconds").replace("+00:00", "Z")]))
        if isinstance(when, datetime)
        else when
    )
    fields = {k: v for k, v in fields.items() if v is not None or draw(st.booleans())}
    if draw(st.booleans()):
        fields["attributes"] = {"a": [1, -2.5e3, {"b": None}], "é": "\n"}
    names = draw(st.permutations(sorted(fields))) if draw(st.booleans()) else list(fields)
    text = json.dumps(
        {k: fields[k] for k in names}, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))
    )
    raw = text.encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at, gone = draw(st.integers(0, len(raw))), draw(st.integers(0, 3))
        raw = raw[:at] + draw(st.sampled_from([b"", *NASTY])) + raw[at + gone :]
    return raw


@settings(thorough, max_examples=600)
@given(st.lists(record(), min_size=1, max_size=4))
@example([b'{"event_id":"1","time":1772445600.1234567,"agent_id":"a","action":"x","bytes":9007199254740993}'])
@example([b'{"event_id":"1","time":"2026-01-01T00:00:00.9999995Z","agent_id":"a","action":"x","agent_id":"b"}'])
@example(
    [
        b'{"event_id":"1","time":"2024-02-29t23:59:59.5-23:59","agent_id":"a","action":"x","classification":"\xc3\x89","recipients":[{"id":"r"},{"id":"r"}]}'
    ]
)
@example([b'{"event_id":"\xc3', b'\xa9"}'])
def test_what_is_read_fast_is_what_is_decoded(raws):
    """The same is accepted, the same refused for the same reason, and the columns are those of the decoded events."""
    found = read(raws, range(len(raws)), 1 << 20, LADDER)
    events, kept, rejects = decode(raws, range(len(raws)), 1 << 20)
    assert (found.kept, found.rejects) == (kept, rejects)
    assert list(found.events) == events
    if events:
        assert found.batch
        assert plain(found.batch) == plain(columns(events, LADDER))


def test_what_senders_write_is_read_fast():
    """None of it by way of an object: neither what Python, Go and JavaScript write, nor what the simulation does."""
    usual = {"event_id": "é", "time": "2026-03-02T10:00:00Z", "agent_id": "a", "action": "x", "tool": 'say "\\n"', "x": [{}], "bytes": 12.5, "recipients": [{"id": f"{n}@x.example", "size": n + 1} for n in range(20)]}  # fmt: skip
    times = ("2026-03-02T10:00:00.123456+00:00", "2026-03-02T10:00:00.123456789Z", "2026-03-02T10:00:00.123Z", 1772445600, 1772445600.25, 1772445600.1234567)  # fmt: skip
    styles: tuple[dict[str, Any], ...] = ({}, {"ensure_ascii": False}, {"separators": (",", ":")})
    raws = [json.dumps(usual | {"time": when}, **style).encode() for when in times for style in styles]
    raws += lines(simulate(5, agents=12, days=5))
    at = np.cumsum([0, *(len(raw) + 1 for raw in raws)])
    buffer = np.frombuffer(bytearray(b"\n".join(raws)), np.uint8)
    assert scan(buffer, at, np.zeros(len(raws), np.bool_)).fit.all()


def test_columns_of_a_fleet_are_those_of_its_events_one_by_one():
    """The same over some thousand events as they come in practice."""
    events, _, _ = decode(list(lines(simulate(5, agents=12, days=5)))[:3000], range(3000), 1 << 20)
    whole = plain(columns(events, LADDER))
    for i, event in enumerate(events):
        for field, rows in plain(columns([event], LADDER)).items():
            assert rows[0] == whole[field][i], (i, field)


@thorough
@given(st.lists(word, min_size=1, max_size=12))
@example(["a\0b", "c", "\0", "", "d\0"])
@example(["\0"])
@example(["", "\0\0", ""])
@example(['\x7f"\\/', "\b\f\n\r\t", "\U0001f600\uffff\u0800\u0080"])
def test_a_name_in_a_column_is_its_own_name(values):
    """Whatever stands in it, and whether it was written with escapes."""
    for ascii_only in (True, False):
        raws = [
            json.dumps(
                {"event_id": "e", "time": 1, "agent_id": "a", "action": "x", "resource": v}, ensure_ascii=ascii_only
            ).encode()
            for v in values
        ]
        batch = read(raws, range(len(raws)), 1 << 20, LADDER).batch
        assert batch
        assert words(batch.resource) == [v.replace("\0", "\ufffd") for v in values]
        assert batch.resource.hash.tolist() == [name_hash(v) for v in values]
        assert [h == NONE for h in batch.resource.hash] == [not v for v in values]


def test_a_nul_in_one_name_does_not_shift_the_others():
    """Otherwise one agent could make its events count for another."""
    ids = ["a", "b\0c\0", "d", "\0", "e"]
    batch = columns([AccessEvent(f"\0{i}", 0.0, i, "read", resource=f"{i}/x", tool="\0") for i in ids], LADDER)
    assert words(batch.agent) == ["a", "b\ufffdc\ufffd", "d", "\ufffd", "e"]
    assert batch.agent.hash[[0, 2, 4]].tolist() == [name_hash(x) for x in "ade"]
    assert batch.root[[0, 2, 4]].tolist() == [name_hash(x) for x in "ade"]
    assert len(set(batch.event.hash.tolist())) == 5


def test_an_absent_field_is_a_zero_a_minus_one_or_no_number():
    """Never a value that could have been sent."""
    b = one()
    absent = ("cohort", "session", "home", "root", "branch", "in_path", "root_high", "branch_high")
    assert all(getattr(b, field)[0] == 0 for field in absent)
    assert b.principal.hash[0] == b.resource.hash[0] == b.classification.hash[0] == NONE
    assert b.rung[0] == -1
    assert np.isnan([b.bytes[0], b.records[0]]).all()
    assert b.scope_at.tolist() == b.recipient_at.tolist() == [0, 0]
    assert len(b.scope.hash) == len(b.recipient.hash) == len(b.domain.hash) == len(b.size) == 0
    c = to("bot-2")
    assert (c.domain.hash[0], c.kind[0], c.clearance[0], c.size[0]) == (NONE, 0, -1, 1)


@pytest.mark.parametrize("field", ["agent_type", "principal", "session_id", "tool", "resource", "classification"])
def test_an_empty_name_is_an_absent_one(field):
    """A sender that fills in empty texts does not become a cohort, a principal or a session of its own."""
    assert plain(one(**{field: ""})) == plain(one())


def test_an_outcome_that_is_not_said_is_a_success():
    """As the contract has it; and only a denial is a denial."""
    assert one().outcome[0] == one(outcome="success").outcome[0] == name_hash("success")
    assert [bool(one(outcome=o).denied[0]) for o in (None, "success", "error", "denied")] == [False] * 3 + [True]


def test_a_call_without_a_tool_is_known_by_its_action():
    """So that a sender without tools still has something to be judged by."""
    assert words(one().tool) == ["read"]
    assert words(one(tool="crm.read").tool) == ["crm.read"]


def test_zero_is_an_amount():
    """Zero rows read is not the same as no number of rows."""
    b = one(bytes=0.0, records=0.0)
    assert (b.bytes[0], b.records[0]) == (0, 0)


def test_a_rung_is_the_place_on_the_ladder():
    """What is not on the ladder is kept, and has no rung."""
    rungs = {"public": 0, "internal": 1, "confidential": 2, "restricted": 3, "secret": -1, "Public": 0}
    assert {c: int(one(classification=c).rung[0]) for c in rungs} == rungs
    assert {c: int(to("bot", clearance=c).clearance[0]) for c in rungs} == rungs
    assert one(classification="secret").classification.hash[0] == name_hash("secret")


def parts_of(resource: str) -> list[str]:
    """Parts of a path or URI, as the rule says."""
    return [part for part in resource.replace("://", "/").split("/") if part]


@thorough
@given(path, st.sampled_from(["ada@corp.example", "42", "crm", "é", ":"]) | word)
@example("s3://bucket/key", "bucket")
@example("//crm///customers/42/", "42")
@example("://a", "a")
@example("a:/b", "a:")
@example("a:///b", "a")
@example("", "")
def test_root_branch_and_owner_are_read_from_the_path(resource, principal):
    """The root is the first part, the branch ends with the second; empty parts do not count, a scheme does."""
    b = one(resource=resource, principal=principal)
    resource, principal = (x.replace("\0", "\ufffd") for x in (resource, principal))
    parts = parts_of(resource)
    raw = resource.encode()
    assert b.root[0] == (name_hash(parts[0]) if parts else NONE)
    if parts:
        until_root = raw[: b.root_high[0] - b.resource.low[0]]
        assert until_root.endswith(parts[0].encode())
        assert until_root[: -len(parts[0].encode())].strip(b"/:") == b""
    assert (b.branch[0] != NONE) == (len(parts) > 1)
    if len(parts) > 1:
        assert parts_of(raw[: b.branch_high[0] - b.resource.low[0]].decode() + "/") == parts[:2]
    assert bool(b.in_path[0]) == (principal in parts)


@pytest.mark.parametrize(
    ("resource", "root", "branch"),
    [
        ("crm/customers/42", "crm", "crm/customers"),
        ("/crm/customers/42", "crm", "crm/customers"),
        ("crm/customers", "crm", "crm/customers"),
        ("crm/", "crm", None),
        ("crm", "crm", None),
        ("s3://bucket/key", "s3", "s3://bucket"),
        ("https://host.example:8080/a/b", "https", "https://host.example:8080"),
        ("urn:isbn:1", "urn:isbn:1", None),
        ("données/été/x", "données", "données/été"),
        ("/", None, None),
        ("://", None, None),
    ],
)
def test_roots_and_branches_by_example(resource, root, branch):
    """What an analyst reads as `crm` and `crm/customers`."""
    b = one(resource=resource)
    assert b.root[0] == (name_hash(root) if root else NONE)
    assert b.branch[0] == (name_hash(branch) if branch else NONE)


def test_the_same_leaf_elsewhere_has_another_root_and_branch():
    """The first two parts, not the last."""
    a, b, c = (one(resource=r) for r in ("crm/customers/42", "crm/staff/42", "hr/customers/42"))
    assert a.root[0] == b.root[0] != c.root[0]
    assert len({int(x.branch[0]) for x in (a, b, c)}) == 3


def test_times_become_seconds_since_the_epoch():
    """From both spellings."""
    at = datetime(2026, 3, 2, 10, tzinfo=UTC)
    events = [AccessEvent("e", time, "bot", "read") for time in (at, at.timestamp(), datetime.min.replace(tzinfo=UTC))]
    assert columns(events, LADDER).time.tolist() == [1772445600.0, 1772445600.0, -62135596800.0]


def test_entries_of_an_event_are_its_own():
    """Scopes and recipients of all events stand in one list each."""
    events = [
        AccessEvent("1", 0.0, "a", "read", scopes=("x", "y"), recipients=(Recipient("p", size=9),)),
        AccessEvent("2", 0.0, "b", "read"),
        AccessEvent("3", 0.0, "c", "read", scopes=("z",), recipients=(Recipient("q@d.example"), Recipient("r"))),
    ]
    b = plain(columns(events, LADDER))
    assert [[s for _, s in row] for row in b["scope"]] == [["x", "y"], [], ["z"]]
    assert [[s for _, s in row] for row in b["recipient"]] == [["p"], [], ["q@d.example", "r"]]
    assert [[s for _, s in row] for row in b["domain"]] == [[""], [], ["d.example", ""]]
    assert b["size"] == [[9], [], [1, 1]]
