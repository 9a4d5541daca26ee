"""The command line as a user meets it: help that teaches, messages that say what to do, exit statuses."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked import unset

ROOT = Path(__file__).parent.parent
COMMANDS = ("replay", "demo", "topics", "worker", "explain", "produce", "alerts", "lag", "rejects", "doctor")
EVENT = '{"event_id":"1","time":"2026-03-02T10:00:00Z","agent_id":"bot","action":"read","tool":"crm.read"}\n'


def strayline(*args: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream", *args], capture_output=True, text=True, input=stdin, timeout=240, cwd=ROOT, env=unset() | env, check=False
    )  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_names_it(command):
    told = strayline(command, "--help")
    assert (told.returncode, told.stderr) == (0, "")
    assert f"strayline {command}" in told.stdout or "Usage:" in told.stdout


def test_the_first_help_names_every_command_and_setting():
    from stream.settings import SETTINGS

    told = strayline("--help").stdout
    assert all(f"\n  {command} " in told for command in COMMANDS)
    assert all(s.name in told for s in SETTINGS)


def test_usage_errors_are_status_2():
    for args in (("replay",), ("nothing",), ("replay", "--bogus", "x"), ("explain", "bot")):
        assert strayline(*args).returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_where_nothing_can_be_printed_one_sentence_says_so():
    with Path("/dev/full").open("w") as full:
        told = subprocess.run([sys.executable, "-m", "stream", "--help"], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)  # fmt: skip
    assert told.returncode == 1
    assert (
        told.stderr
        == "strayline: standard output could not be written: No space left on device; free space, then run again\n"
    )


def test_an_unknown_setting_is_refused():
    told = strayline("replay", "-", STRAYLINE_BUDGET="5")
    assert told.returncode == 2
    assert "STRAYLINE_BUDGET" in told.stderr
    assert "STRAYLINE_ALERTS_PER_DAY" in told.stderr


def test_a_missing_file_is_status_1_and_named():
    told = strayline("replay", "nowhere.jsonl")
    assert told.returncode == 1
    assert "nowhere.jsonl" in told.stderr
    assert "Traceback" not in told.stderr


def test_rejects_are_counted_and_are_no_failure():
    told = strayline("replay", "-", stdin=EVENT + "garbage\n")
    assert told.returncode == 0
    assert told.stderr.startswith("1 event, 1 reject, 0 alerts (0 messages) in ")
    assert "--rejects" in told.stderr


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("", {"event": "gone"}),
        (", OSError('no room')", {"event": "gone", "error": "OSError: no room"}),
    ],
    ids=["without", "with an error"],
)
def test_the_last_line_of_a_log_has_no_empty_fields(raised, said):
    """Who searches for errors would find them."""
    script = (
        "import structlog; structlog.configure(processors=[structlog.processors.JSONRenderer()]); "
        f"from stream.log import fatal; fatal('gone'{raised})"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONFAULTHANDLER"}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=ROOT, env=environment, check=False)
    assert ended.returncode == 1
    assert json.loads(ended.stdout) == said


def test_a_verdict_is_not_written_among_the_alerts(strayline, tmp_path):
    """By whatever name: the file would be neither the one nor the other afterwards."""
    alerts, link = tmp_path / "alerts.jsonl", tmp_path / "link"
    alerts.write_text('{"alert_id": "3f"}\n')
    link.symlink_to(alerts)
    before = alerts.read_bytes()
    told = strayline(
        "verdict", "benign", "3f", "--by", "ana", "--reason", "known", "--alerts", str(alerts), "--to", str(link)
    )
    assert told.status == 2
    assert f"{link} holds alerts: give --to a file of its own" in told.err
    assert alerts.read_bytes() == before


PRETTY = """{
  "event_id": "1",
  "time": "2026-03-02T10:00:00Z",
  "agent_id": "bot",
  "action": "read",
  "recipients": [
    {
      "id": "a@x.example"
    }
  ]
}
"""


def test_that_not_one_record_is_an_event_is_said(strayline):
    """Though everything was read, which is status 0 (the contract)."""
    told = strayline("replay", "-", stdin="{}\n\n")
    assert told.status == 0
    assert told.err.startswith("0 events, 2 rejects, ")
    assert "; not one record is an event\n" in told.err
    for some in ("", EVENT + "{}\n"):
        assert "not one record" not in strayline("replay", "-", stdin=some).err


@pytest.mark.parametrize(
    ("text", "what", "command"),
    [
        (PRETTY * 2, "JSON folded over several lines", "`jq -c . FILE`"),
        ("\n" + PRETTY, "JSON folded over several lines", "`jq -c . FILE`"),
        (f"[\n{PRETTY},\n{PRETTY}]\n", "a JSON array", "`jq -c '.[]' FILE`"),
        (f"[\n{EVENT.strip()},\n{EVENT}]\n", "a JSON array", "`jq -c '.[]' FILE`"),
        (f"[{EVENT.strip()}]", "a JSON array", "`jq -c '.[]' FILE`"),
    ],
    ids=["objects", "after an empty line", "array", "array of lines", "array on one line"],
)
def test_json_that_is_not_one_event_a_line_is_recognised_and_kept_all_the_same(
    strayline, tmp_path, text, what, command
):
    """One sentence at the end, with what makes it one event a line."""
    path, rejects = tmp_path / "pretty.json", tmp_path / "rejects"
    path.write_text(text)
    told = strayline("replay", str(path), "--rejects", str(rejects))
    assert told.status == 0
    said = told.err.splitlines()[-1]
    assert said.startswith(f"{path} looks like {what}, but one event per line is read: ")
    assert command in said
    assert len(rejects.read_text().splitlines()) >= len(text.splitlines()) - 1


@pytest.mark.parametrize(
    ("text", "told_of"),
    [("2026-03-12T08:44:01Z bot read crm/1\n" * 2, True), ("\n" + EVENT + "# end\n", False), ("{}\n", False)],
    ids=["lines of text", "an event among other lines", "JSON without its fields"],
)  # fmt: skip
@pytest.mark.parametrize("kept", [True, False])
def test_a_file_that_is_no_json_at_all_is_told_of_with_what_is_read_instead(strayline, tmp_path, text, told_of, kept):
    """Once, whether or not the rejects are kept; and the commonest reason is said in either case."""
    path = tmp_path / "events.log"
    path.write_text(text)
    told = strayline("replay", str(path), *(["--rejects", str(tmp_path / "rejects")] if kept else []))
    assert told.err.count(f"{path} has no event and does not begin as JSON") == told_of
    assert "most often: " in told.err
    assert ("see why with --rejects" in told.err) is not kept


def test_a_file_whose_required_fields_are_misspelled_is_told_which(strayline, tmp_path):
    """No event is among them, so the sample of the events' fields does not see it; a line beside events is only a reject."""
    wrong = EVENT.replace("event_id", "eventId")
    (path := tmp_path / "events.jsonl").write_text(wrong)
    told = strayline("replay", str(path)).err
    assert f"{path} has no event: its records lack event_id, which every event must have\n" in told
    assert "  `eventId`  is likely `event_id`\n" in told
    assert "eventId" not in strayline("replay", "-", stdin=wrong + EVENT).err


GATEWAY = {
    "timestamp": 1773304800123, "requestId": "r1", "agentId": "bot-1", "agentType": "copilot", "userId": "ana@x.example", "toolName": "crm.read", "operation": "read",
    "objectPath": "x", "sessionId": "s1", "dataClass": "internal", "scopesUsed": "crm:read crm:list", "bytesOut": 120, "recordCount": "3", "region": "eu",
    "sharedWith": ["a@x.example"], "status": "OK", "user-agent": "it's", "responseTimeMs": 12,
}  # fmt: skip


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not here")
@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_gateway_s_own_log_is_told_all_at_once_with_the_line_that_makes_events_of_it(strayline, tmp_path, end):
    """Names of its own and milliseconds. What the line writes is read whole, and a record that lacks what others have too."""
    log = [GATEWAY | {"requestId": f"r{n}", "timestamp": GATEWAY["timestamp"] + 1000 * n} for n in range(5)]
    log.append({k: v for k, v in log[-1].items() if k in {"timestamp", "agentId", "operation"}} | {"requestId": "r9", "status": "FORBIDDEN"})  # fmt: skip
    path = tmp_path / f"a gateway's log{end}"
    text = "".join(json.dumps(record) + "\n" for record in log).encode()
    path.write_bytes(gzip.compress(text) if end else text)
    told = strayline("replay", str(path)).err
    assert "its records lack event_id, time, agent_id and action, which every event must have\n" in told
    for theirs, ours in (("timestamp", "time"), ("dataClass", "classification"), ("bytesOut", "bytes"), ("recordCount", "records"), ("toolName", "tool"), ("userId", "principal")):  # fmt: skip
        assert re.search(rf"^  `{theirs}` +is likely `{ours}`", told, re.MULTILINE)
    assert "`time`, in milliseconds: divided, since seconds are read\n" in told
    assert "  region, user-agent and responseTimeMs: nothing reads them; kept in `attributes`\n" in told
    (line,) = [line for line in told.splitlines() if "jq -c" in line]
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
    assert strayline("replay", str(tmp_path / "events.jsonl")).err.startswith("6 events, 0 rejects")
    first, *_, last = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    assert {k: v for k, v in first.items() if k != "attributes"} == {
        "event_id": "r0", "time": 1773304800.123, "agent_id": "bot-1", "action": "read", "agent_type": "copilot", "principal": "ana@x.example", "session_id": "s1",
        "tool": "crm.read", "classification": "internal", "scopes": ["crm:read", "crm:list"], "bytes": 120, "records": 3, "recipients": [{"id": "a@x.example"}],
        "outcome": "success", "resource": "x",
    }  # fmt: skip
    assert first["attributes"] == {"region": "eu", "user-agent": "it's", "responseTimeMs": 12}
    assert (last["outcome"], last["tool"], last["records"]) == ("denied", None, None)


def test_rejects_among_events_are_no_reason_to_doubt_the_file(strayline):
    """Not even such as look like the beginning of folded JSON."""
    told = strayline("replay", "-", stdin="{\n[\n" + EVENT * 3)
    assert "one event per line" not in told.err


def test_a_replay_ends_with_the_threshold_the_highest_score_and_who_is_warming(strayline, tmp_path):
    """So that no alert is told from nothing strange, and from nothing known yet."""
    scores = tmp_path / "scores"
    told = strayline("replay", "-", "--scores", str(scores), stdin=EVENT + EVENT.replace("crm.read", "hr.read"))
    highest = max(json.loads(line)["score"] for line in scores.read_text().splitlines())
    said = told.err.splitlines()[1]
    assert said.startswith("at the end alerts open from 20.0 bits; ")
    assert f"the highest score was {highest:.1f}; 1 of 1 agent still warming" in said
    nothing = strayline("replay", "-", stdin="").err
    assert nothing.startswith("0 events, 0 rejects")
    assert nothing.endswith("; nothing was there to read\n")


def test_explain_tells_what_is_usual_and_who_is_unknown(strayline, tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text("".join(EVENT.replace('"1"', f'"{i}"') for i in range(40)))
    told = strayline("explain", "bot", str(path))
    assert told.status == 0
    assert "crm.read (40)" in told.out.decode()
    told = strayline("explain", "nobody", str(path))
    assert told.status == 1
    assert "nobody" in told.err
    told = strayline("explain", "bott", str(path))
    assert (told.status, told.out) == (1, b"")
    assert told.err.endswith("; is this meant: bot?\n")


def test_explain_tells_when_sessions_begin_of_weekdays_and_weekends(strayline, tmp_path):
    """So that what an alert says of an odd hour can be checked; a session is counted once, whatever its events."""
    path = tmp_path / "events.jsonl"
    starts = [f"2026-03-{day:02}T{hour}:10:00Z" for day in (4, 5, 6, 7) for hour in ("08", "09")]
    path.write_text(
        "".join(
            json.dumps(json.loads(EVENT) | {"event_id": f"{n}/{i}", "time": at.replace(":10:", f":1{i}:"), "session_id": f"s{n}"}) + "\n"
            for n, at in enumerate(starts) for i in range(3)
        )
    )  # fmt: skip
    told = strayline("explain", "bot", str(path)).out.decode()
    assert re.search(r"^  sessions begin on weekdays: 08h [23](\.\d)?, 09h [23](\.\d)?$", told, re.MULTILINE)
    assert re.search(r"^  sessions begin on weekends: 08h \S+, 09h \S+$", told, re.MULTILINE)
    assert "by the hour of the day in UTC" in told
    found = json.loads(strayline("explain", "bot", str(path), "--json").out.decode())["session_starts"]
    assert {days: [i for i, n in enumerate(half) if n] for days, half in found.items()} == {
        "weekdays": [16, 18],
        "weekends": [16, 18],
    }
    assert "sessions begin" in strayline("explain", "bot", "-", stdin=EVENT).out.decode()


def test_where_so_few_events_came_that_nothing_can_open_a_replay_says_so_and_why(strayline, tmp_path):
    """The example of the README, alone, raises nothing; after some days nothing is said of that."""
    readme = (ROOT / "README.md").read_text()
    example = json.loads(
        readme[
            (at := readme.index('{"event_id": "e1", "time": "2026-03-12T08:44:01Z", "agent_id": "s')) : readme.index(
                "```", at
            )
        ]
    )
    told = strayline("replay", "-", stdin=json.dumps(example) + "\n").err
    assert told.startswith("1 event, 0 rejects, 0 alerts ")
    assert "\nno alert means nothing yet: " in told
    assert "in a fleet's first day an alert needs 20 bits" in told
    days = "".join(
        EVENT.replace("-02T", f"-{day:02}T").replace('"1"', f'"{day}/{i}"') for day in (2, 3, 4) for i in range(5)
    )
    assert "no alert means nothing yet" not in strayline("replay", "-", stdin=days).err


@pytest.mark.parametrize(
    "address", ["localhost", "::1", "http://localhost:9464", "localhost:x", "localhost:99999", ":1"]
)
def test_an_address_without_host_or_port_is_answered_with_how_it_is_written(strayline, address):
    told = strayline("explain", "bot", "--worker", address)
    assert told.status == 2
    assert f"{address!r} is not HOST:PORT, such as localhost:9464" in told.err


def test_what_explain_prints_has_a_key_and_units(strayline, tmp_path):
    """Counts that are not whole, and amounts of a day, say what they are."""
    path = tmp_path / "events.jsonl"
    event = EVENT.replace("}", ',"records":1}')
    days = [
        event.replace("-02T", f"-{day:02}T").replace('"1",', f'"{day}/{i}",') for day in (2, 3, 4) for i in range(5)
    ]
    path.write_text("".join(days))
    told = strayline("explain", "bot", str(path))
    assert told.status == 0
    assert "a call of crm.read moves 1 record (rarely above " in told.out.decode()
    assert "amounts a day, latest last: 5, 5\n" in told.out.decode()
    assert "counts fade by half in 60 days" in told.out.decode()
    assert "amounts a day are in bytes where events carry them, else in records, else in events" in told.out.decode()
    one = strayline("explain", "bot", "-", stdin=EVENT).out.decode()
    assert one.startswith("bot: 1 event from ")
    assert "amounts a day" not in one


def test_what_is_usual_can_be_had_with_what_people_have_said(strayline, tmp_path):
    """Since when a reset holds, and what of the file was not heeded."""
    path, said = tmp_path / "events.jsonl", tmp_path / "said.jsonl"
    path.write_text("".join(EVENT.replace("-02T", f"-{day:02}T").replace('"1",', f'"{day}",') for day in (2, 3, 4)))
    for agent in ("bot", "bto"):
        reset = ("reset", agent, "--by", "ana", "--reason", "other work", "--to", str(said))
        assert strayline(*reset, "--time", "2026-03-03T23:00:00Z").status == 0
    assert strayline("explain", "bot", str(path)).out.decode().startswith("bot: 3 events from 2026-03-02T")
    told = strayline("explain", "bot", str(path), "--verdicts", str(said))
    assert told.status == 0
    assert told.out.decode().startswith(
        "bot: 1 event since its baseline was begun anew, behind the fleet's event of 2026-03-03T"
    )
    assert "2 verdicts heeded" in told.err
    assert "1 agent that verdicts or resets name has no event here: bto; check the spelling" in told.err
    assert strayline("explain", "bot", "--worker", "localhost:1", "--verdicts", str(said)).status == 2


def test_the_demo_is_honest_and_the_same_twice():
    once, twice = (strayline("demo", "--agents", "12", "--days", "10", "--seed", "4") for _ in range(2))
    assert once.returncode == 0
    assert "Planted 14 incidents, found " in once.stdout
    assert " by severity in the end: " in once.stdout
    opened = re.findall(r"^    Alert ([0-9a-f]{24}): events? ", once.stdout, re.MULTILINE)
    assert len(opened) >= len(re.findall(r"^    .*Next: ", once.stdout, re.MULTILINE)) > 0
    body = [line for line in once.stdout.splitlines() if not line.startswith("Scored ")]
    assert body == [line for line in twice.stdout.splitlines() if not line.startswith("Scored ")]


def test_no_broker_says_where_it_looked_and_how_to_start_one():
    told = strayline("topics", STRAYLINE_BROKER="localhost:1")
    assert told.returncode == 1
    assert "localhost:1" in told.stderr
    assert "make kafka" in told.stderr


def test_a_field_that_nothing_reads_is_said_once_with_the_one_that_was_meant(strayline):
    """Among the names that were looked at, and of recipients too; and the events are scored all the same."""
    event = json.loads(EVENT) | {"recipients": [{"id": "a@x.example", "clearence": "internal"}], "byte": 7, "\x1b": 1}
    text = "".join(json.dumps(event | {"event_id": str(n)}) + "\n" for n in range(2500))
    told = strayline("replay", "-", stdin=text)
    assert told.err.startswith("2,500 events, 0 rejects")
    unknown = [line for line in told.err.splitlines() if line.startswith("unknown field")]
    of = "in 202 of 202 events looked at; "
    assert sorted(unknown) == [
        f"unknown field `byte` {of}did you mean `bytes`? Only that is read.",
        f"unknown field `recipients[].clearence` {of}did you mean `recipients[].clearance`? Only that is read.",
        f"unknown field `\ufffd` {of}it is not judged, and belongs in `attributes`.",
    ]
    assert "unknown field" not in strayline("replay", "-", stdin=EVENT).err


def test_a_clearance_that_is_not_on_the_ladder_is_said_once(strayline):
    event = json.loads(EVENT) | {
        "recipients": [{"id": "a"}, {"id": "b", "clearance": "Internal"}, {"id": "c", "clearance": "secret"}]
    }
    told = strayline("replay", "-", stdin=(json.dumps(event) + "\n") * 3)
    (said,) = [line for line in told.err.splitlines() if "clearance" in line]
    assert "secret" in said
    assert "STRAYLINE_CLASSIFICATIONS" in said


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_the_mark_of_an_editor_costs_no_event(strayline, tmp_path, pack):
    """UTF-8's is left out; of UTF-16 it is said what to do."""
    path = tmp_path / "events"
    path.write_bytes(pack(EVENT.encode("utf-8-sig")))
    assert strayline("replay", str(path)).err.startswith("1 event, 0 rejects")
    for marked in (EVENT.encode("utf-16"), codecs.BOM_UTF16_BE + EVENT.encode("utf-16-be")):
        path.write_bytes(pack(marked))
        told = strayline("replay", str(path))
        assert told.status == 1
        assert "is UTF-16, and UTF-8 is read: write it so with `iconv -f UTF-16 -t UTF-8 FILE`" in told.err
