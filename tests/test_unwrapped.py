"""Logs of other makers, as they deliver them: what is told of each ends with a line that makes events of it, and a test runs it."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stream.beginning import Kept
from stream.codec import REQUIRED, decode_event
from stream.foreign import told
from stream.replay import replay
from stream.settings import load
from stream.unwrapped import unwrapped

AGENT = "arn:aws:sts::111122223333:assumed-role/bots/"


def trail(n: int, **more: Any) -> dict[str, Any]:
    """A record of AWS CloudTrail."""
    return {
        "eventVersion": "1.09", "eventID": f"e{n}", "eventTime": f"2026-03-12T08:{n // 60 % 60:02}:{n % 60:02}Z", "eventSource": "s3.amazonaws.com", "eventName": "GetObject",
        "userIdentity": {"type": "AssumedRole", "principalId": f"AROA:agent-{n % 3}", "arn": f"{AGENT}agent-{n % 3}"}, "sourceIPAddress": "192.0.2.1", "requestID": f"r{n}",
        "requestParameters": {"bucketName": "exports", "key": f"2026/{n}.csv"}, "additionalEventData": {"bytesTransferredOut": n},
        "resources": [{"type": "AWS::S3::Object", "ARN": f"arn:aws:s3:::exports/2026/{n}.csv"}],
    } | more  # fmt: skip


def keyed(**values: Any) -> list[dict[str, Any]]:
    """Attributes as OpenTelemetry's JSON has them."""
    names = {str: "stringValue", bool: "boolValue", float: "doubleValue"}
    return [
        {"key": k.replace("__", "."), "value": {"intValue": str(v)} if type(v) is int else {names[type(v)]: v}}
        for k, v in values.items()
    ]


def span(n: int, **more: Any) -> dict[str, Any]:
    given = keyed(gen_ai__operation__name="execute_tool", gen_ai__tool__name="crm.read", gen_ai__conversation__id="c1", user__id="ana", gen_ai__usage__output_tokens=n, cached=False)  # fmt: skip
    if n:
        given += keyed(gen_ai__agent__id="bot")
    given.append({"key": "tags", "value": {"arrayValue": {"values": [{"stringValue": "a"}]}}})
    start = str(1773304800123456789 + n * 10**9)
    return {"traceId": "5b8e", "spanId": f"eee{n}", "name": "execute_tool crm.read", "startTimeUnixNano": start, "endTimeUnixNano": start, "attributes": given} | more  # fmt: skip


def spans(*given: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": {"attributes": keyed(service__name="support")}, "scopeSpans": [{"scope": {"name": "s"}, "spans": given}]}]}  # fmt: skip


def tell(path: Path) -> list[str]:
    return told(str(path), Kept())


def events(path: Path, data: str | bytes | dict[str, Any] | list[Any]) -> list[dict[str, Any]]:
    """What the line that is told makes of a file, all of which a replay takes for events."""
    if shutil.which("jq") is None:
        pytest.skip("jq is not here")
    if isinstance(data, (dict, list)):
        data = json.dumps(data)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    _, summary = replay(load({}), [str(path)], None, None, None)
    assert summary.events == 0
    (line,) = [line for line in summary.foreign if " > events.jsonl" in line]
    subprocess.run(["sh", "-c", line], cwd=path.parent, check=True)
    written = path.parent / "events.jsonl"
    made = [json.loads(line) for line in written.read_text().splitlines()]
    _, summary = replay(load({}), [str(written)], None, None, None)
    assert (summary.events, summary.rejects, summary.repeated) == (len(made), 0, 0)
    return made


@pytest.mark.parametrize("form", ["one line", "folded", "gz", "two in one"])
def test_cloudtrail_as_delivered(tmp_path, form):
    """Its records lie under `Records`. What went wrong is said only where something did, be it late in the file."""
    records = [trail(n) for n in range(250)]
    records[1] |= {"requestParameters": None}
    records[2]["requestParameters"] = {"bucketName": "exports"}
    records[240] |= {"errorCode": "AccessDenied"}
    records[241] |= {"errorCode": "NoSuchKey"}
    text = json.dumps({"Records": records}, indent=2 if form == "folded" else None)
    data = {
        "gz": gzip.compress(text.encode()),
        "two in one": text + text.replace('"eventID": "e', '"eventID": "f'),
    }.get(form, text)
    made = events(tmp_path / f"trail.json{'.gz' if form == 'gz' else ''}", data)
    assert len(made) == (500 if form == "two in one" else 250)
    assert {k: v for k, v in made[0].items() if k != "attributes"} == {
        "event_id": "e0", "time": "2026-03-12T08:00:00Z", "agent_id": f"{AGENT}agent-0", "action": "GetObject", "principal": "AROA:agent-0", "tool": "s3.amazonaws.com",
        "resource": "exports/2026/0.csv", "bytes": 0, "outcome": "success",
    }  # fmt: skip
    assert made[0]["attributes"]["sourceIPAddress"] == "192.0.2.1"
    assert [made[n]["resource"] for n in (1, 2)] == ["arn:aws:s3:::exports/2026/1.csv", "exports"]
    assert [made[n]["outcome"] for n in (239, 240, 241)] == ["success", "denied", "error"]


def test_where_the_records_lie_is_said(tmp_path):
    (path := tmp_path / "x.json").write_text(json.dumps({"Records": [trail(0)]}))
    assert tell(path)[0].endswith(
        "has no event: its records lie in the array under `Records`, and they lack event_id, time, agent_id and action, which every event must have"
    )
    path.write_text("[]")
    assert tell(path) == [f"{path} has no event: it is a JSON array, and no record is in it"]
    path.write_text('{"Records": []}')
    assert tell(path) == [f"{path} has no event: its records lie in the array under `Records`, and no record is in it"]


def one(n: int) -> dict[str, Any]:
    return {"timestamp": 1773304800123 + n, "agentId": "a", "operation": "read", "requestId": f"r{n}"}


@pytest.mark.parametrize(
    "document",
    [
        [one(0), None, 7, one(1)],
        *({name: [one(0), one(1)]} for name in ("Records", "records", "events", "logs", "value", "whatever")),
        {"took": 3, "hits": {"total": 2, "hits": [{"_index": "i", "_id": f"d{n}", "_source": {k: v for k, v in one(n).items() if k != "requestId"}} for n in range(2)]}},
        {"data": [{"traceID": "t", "spans": [one(0)]}, {"traceID": "u", "spans": [one(1)]}]},
        {"agentId": "a", "events": [{k: v for k, v in one(n).items() if k != "agentId"} for n in range(2)]},
        {"value": [{k: v for k, v in one(n).items() if k != "requestId"} for n in range(2)]},
    ],
    ids=["array", "Records", "records", "events", "logs", "value", "another name", "hits", "nested", "agent beside", "no ids"],
)  # fmt: skip
@pytest.mark.parametrize("indent", [None, 1])
def test_in_whatever_array_records_lie_they_are_taken_out(tmp_path, document, indent):
    """Where they have no id, the number of each is put; what stands beside the array and is none of theirs is theirs."""
    made = events(tmp_path / "x.json", "\ufeff" + json.dumps(document, indent=indent))
    assert [(e["time"], e["agent_id"], e["action"]) for e in made] == [
        (1773304800.123, "a", "read"),
        (1773304800.124, "a", "read"),
    ]
    assert len({e["event_id"] for e in made}) == 2


def test_a_record_that_has_an_array_is_still_the_record(tmp_path):
    """One a line: what it has within is its own."""
    lines = [one(n) | {"items": [{"name": "x"}], "steps": [{"timestamp": 1773304800123}]} for n in range(3)]
    made = events(tmp_path / "x.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert [e["event_id"] for e in made] == ["r0", "r1", "r2"]


def test_what_is_no_object_stops_nothing_though_it_be_late(tmp_path):
    assert len(events(tmp_path / "x.json", {"Records": [*map(one, range(250)), None, "x", one(250)]})) == 251


def test_google_cloud_s_audit_log(tmp_path):
    """What it does not tell of how a call ended is success."""
    payload = {"methodName": "storage.objects.get", "serviceName": "storage", "resourceName": "b/o", "authenticationInfo": {"principalEmail": "bot@x"}}  # fmt: skip
    given = [{"insertId": f"i{n}", "timestamp": "2026-03-12T08:44:01.123456789Z", "protoPayload": payload | {"status": {"code": 7} if n else {}}} for n in range(2)]  # fmt: skip
    made = events(tmp_path / "x.json", given)
    assert [(e["agent_id"], e["action"], e["tool"], e["resource"], e["outcome"]) for e in made] == [
        ("bot@x", "storage.objects.get", "storage", "b/o", outcome) for outcome in (None, "denied")
    ]


def test_events_that_lie_in_an_array_are_taken_out_as_they_are(tmp_path):
    """Whatever fields they have, though it be late in the file."""
    given = [{"event_id": f"e{n}", "time": 1773304800 + n, "agent_id": "a", "action": "read"} for n in range(300)]
    given[299]["tool"] = "t"
    assert events(tmp_path / "x.json", {"events": given}) == given


@pytest.mark.parametrize("form", ["a document", "one a line"])
def test_opentelemetry_s_spans(tmp_path, form):
    """One event each. Attributes are arrays of keys and values, those of the resource are the span's too, and nanoseconds are text."""
    given = [span(n) for n in range(4)]
    given[2] |= {"status": {"code": 2}}
    data = (
        json.dumps(spans(*given), indent=1)
        if form == "a document"
        else "".join(json.dumps(spans(s)) + "\n" for s in given)
    )
    made = events(tmp_path / "traces.json", data)
    assert {k: v for k, v in made[1].items() if k != "attributes"} == {
        "event_id": "eee1", "time": pytest.approx(1773304801.123456), "agent_id": "bot", "action": "execute_tool", "principal": "ana", "session_id": "c1", "tool": "crm.read",
        "outcome": "success",
    }  # fmt: skip
    assert made[1]["attributes"] == {
        "service.name": "support", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "crm.read", "gen_ai.conversation.id": "c1", "user.id": "ana",
        "gen_ai.usage.output_tokens": 1, "cached": False, "gen_ai.agent.id": "bot", "tags": ["a"], "traceId": "5b8e", "name": "execute_tool crm.read", "endTimeUnixNano": given[1]["endTimeUnixNano"],
    }  # fmt: skip
    assert (made[0]["agent_id"], made[2]["outcome"]) == ("support", "error")


def test_opentelemetry_s_log_records(tmp_path):
    """When one was seen stands for when it was, where that is not known."""
    records = [{"timeUnixNano": "0", "observedTimeUnixNano": str(1773304800000000000 + n), "eventName": "tool", "body": {"stringValue": "x"}, "attributes": keyed(gen_ai__agent__id="bot")} for n in range(3)]  # fmt: skip
    made = events(tmp_path / "logs.json", {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]})
    assert [(e["time"], e["agent_id"], e["action"], e["attributes"]["body"]) for e in made] == [
        (1773304800, "bot", "tool", "x")
    ] * 3


@pytest.mark.parametrize("attributes", [{"gen_ai.agent.name": "bot", "gen_ai.tool.name": "t", "enduser.id": "ana"}, keyed(gen_ai__agent__name="bot", gen_ai__tool__name="t", enduser__id="ana")], ids=["object", "array"])  # fmt: skip
def test_flat_spans_are_looked_into_for_what_their_attributes_say(tmp_path, attributes):
    lines = [{"trace_id": "t", "span_id": f"s{n}", "start_time": "2026-03-12T08:44:01.5Z", "status": {"status_code": "ERROR"}, "attributes": attributes} for n in range(2)]  # fmt: skip
    made = events(tmp_path / "x.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert [(e["agent_id"], e["tool"], e["principal"], e["session_id"], e["outcome"]) for e in made] == [
        ("bot", "t", "ana", "t", "error")
    ] * 2
    assert made[0]["attributes"]["gen_ai.agent.name"] == "bot"


@pytest.mark.parametrize("sign", [",", ";", "\t"])
@pytest.mark.parametrize("form", ["", "gz"])
def test_csv(tmp_path, sign, form):
    """Quotes, an empty cell, lines that end as on Windows, the mark before UTF-8."""
    table = [["Timestamp", "Agent Id", "Operation", "Object", "Rows", "Approved", "Who else"]]
    table += [
        ["2026-03-12 08:44:01", f'"bot{sign} ""one"""', "read", f"crm/\u00e4/{n}", str(n) if n else "", "True", "x"]
        for n in range(5)
    ]
    data = ("\ufeff" + "".join(sign.join(row) + "\r\n" for row in table)).encode()
    made = events(tmp_path / f"a log.csv{form and '.gz'}", gzip.compress(data) if form else data)
    assert len({e.pop("event_id") for e in made}) == 5
    assert made[3] == {
        "time": "2026-03-12T08:44:01Z", "agent_id": f'bot{sign} "one"', "action": "read", "resource": "crm/\u00e4/3", "records": 3, "approved": True, "attributes": {"Who else": "x"},
    }  # fmt: skip
    assert made[0]["records"] is None


def test_of_csv_its_columns_are_said(tmp_path):
    (path := tmp_path / "x.csv").write_text("event_id,time,agent_id,action\ne1,1773304800,a,read\n")
    assert tell(path)[:2] == [
        f"{path} has no event: it is CSV, of the columns event_id, time, agent_id and action",
        "  `time`  as a number",
    ]


def test_csv_whose_columns_are_the_contract_s_is_only_made_lines(tmp_path):
    made = events(tmp_path / "x.csv", "event_id,time,agent_id,action\ne1,2026-03-12T08:44:01Z,a,read\n")
    assert made == [{"event_id": "e1", "time": "2026-03-12T08:44:01Z", "agent_id": "a", "action": "read"}]


def test_lines_that_are_no_json_are_left_out_and_that_is_said(tmp_path):
    lines = [json.dumps(one(n)) for n in range(5)]
    lines[2] = lines[2][:-1]
    made = events(path := tmp_path / "x.jsonl", "\n".join(lines))
    assert [e["event_id"] for e in made] == ["r0", "r1", "r3", "r4"]
    assert "  lines that are no JSON are left out" in tell(path)


@pytest.mark.parametrize(
    ("text", "why"),
    [(json.dumps({"Records": [one(0), one(1)]}, indent=1)[:-9], "it ends in the middle"), ('{"Records":\n [1 2]}', "it is broken at line 2"), ('{"a":' * 9000, "deeply")],
    ids=["cut", "broken", "deep"],
)  # fmt: skip
def test_of_a_document_that_jq_would_not_read_it_is_said_why(tmp_path, text, why):
    (path := tmp_path / "x.json").write_text(text)
    (line,) = tell(path)
    assert line.startswith(f"{path} is JSON, but ")
    assert why in line


def test_of_a_document_of_any_length_only_the_beginning_is_read(tmp_path):
    """What is told is that of the whole, wherever the beginning ends."""
    text = json.dumps({"Records": [trail(n) for n in range(12000)]})
    (long := tmp_path / "x.json").write_text(text)
    (short := tmp_path / "y.json").write_text(json.dumps({"Records": [trail(n) for n in range(200)]}))
    assert len(text) > 6 << 20
    assert [line.replace("x.json", "y.json") for line in tell(long)] == tell(short)


def test_of_many_files_the_first_are_told_of(tmp_path):
    """They are delivered in hundreds, all alike."""
    paths = [tmp_path / f"{n}.json" for n in range(5)]
    for path in paths:
        path.write_text(json.dumps({"Records": [trail(0)]}))
    _, summary = replay(load({}), list(map(str, paths)), None, None, None)
    assert [line for line in summary.foreign if "no event" in line][3] == summary.foreign[-1]
    assert summary.foreign[-1].startswith(
        "2 more files have no event: where they are alike, run the line on each, with `>> events.jsonl`"
    )


def test_of_a_pipe_what_was_kept_is_looked_at():
    """Lines of a folded document too, though the last is cut."""
    kept = Kept()
    kept.add(json.dumps({"Records": [trail(n) for n in range(500)]}, indent=1).encode().splitlines())
    lines = told("-", kept)
    assert lines[0].startswith(
        "standard input has no event: its records lie in the array under `Records`, and they lack"
    )
    assert any("jq -c '.Records[]?|objects|{event_id: .eventID, " in line for line in lines)


def test_wherever_a_document_is_cut_its_records_are_told():
    text = json.dumps(
        {"a": {"Records": [{"id": 'x "]}, \\', "when": [n, {"at": None}], "time": 1773304800 + n} for n in range(4)]}}
    )
    for end in range(text.index('"time"') + 20, len(text)):
        found = unwrapped(text[:end].encode(), whole=False)
        assert found is not None
        assert found.jq == ".a.Records[]?|objects"
        assert found.records
        assert [r["time"] for r in found.records[:-1]] == [1773304800 + n for n in range(len(found.records) - 1)]


def test_what_it_makes_of_a_record_that_lacks_what_others_have_is_no_event_and_stops_nothing(tmp_path):
    if shutil.which("jq") is None:
        pytest.skip("jq is not here")
    lines = [one(0), {k: v for k, v in one(1).items() if k != "timestamp"}, one(2)]
    (path := tmp_path / "x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (line,) = [line for line in tell(path) if " > events.jsonl" in line]
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
    made = (tmp_path / "events.jsonl").read_bytes().splitlines()
    assert [hasattr(decode_event(raw, 0, 1 << 20), REQUIRED[0]) for raw in made] == [True, False, True]
