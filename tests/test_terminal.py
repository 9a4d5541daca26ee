"""The command on a terminal and in a pipe, and that what it simulates can be replayed."""

from __future__ import annotations

import gzip
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import zstandard

from stream.__main__ import main
from stream.alert import SEVERITIES, Evidence, Given, rfc3339
from stream.codec import encode_lines
from stream.demo import alert_text
from stream.judge import seconds
from stream.settings import PREFIX
from stream.simulate import lines, simulate

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "stream"]
HOME = "northwind.example"


def environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return clean | {"PYTHONPATH": str(ROOT), "TERM": "xterm"}


@pytest.fixture
def strayline(monkeypatch, capsys):
    """The command in this process: exit status, standard output, standard error."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)

    def run(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["strayline", *map(str, args)])
        status = 0
        try:
            main()
        except SystemExit as done:
            status = int(done.code or 0)
        return (status, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("events") / "events.jsonl"
    file.write_bytes(b"".join(lines(simulate(agents=12, days=5))))
    return file


def test_progress_is_shown_on_a_terminal(path):
    """Long work shows that it goes on, up to all of it."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([*COMMAND, "replay", path], env=environment(), stdout=subprocess.PIPE, stderr=theirs) as run:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:
            pass  # how Linux says that the other end has been closed
        assert run.wait() == 0
        assert run.stdout
        assert run.stdout.read() == b""
    os.close(ours)
    assert b"scoring" in shown
    assert b"100%" in shown
    assert b" events, 0 rejects, " in shown.splitlines()[-2]


def test_a_pipe_gets_no_progress_and_no_colours(path, strayline):
    """It would stand in somebody's log."""
    status, out, err = strayline("replay", path)
    assert (status, out) == (0, "")
    assert len(err.splitlines()) == 2
    assert "\r" not in err
    status, out, err = strayline("demo", "--agents", 12, "--days", 5)
    assert status == 0
    assert "\x1b" not in out + err


def test_what_the_demo_writes_replays_to_the_same_alerts(strayline, tmp_path, monkeypatch):
    """The demo is the engine over a file, no more: it only knows its own domain."""
    events, alerts = tmp_path / "events.jsonl", tmp_path / "alerts.jsonl"
    status, out, err = strayline("demo", "--agents", 12, "--days", 10, "--seed", 5, "--events", events)
    assert status == 0
    count = len(events.read_bytes().splitlines())
    assert f"{count:,} events of 12 simulated agents over 10 days" in err
    total = re.search(r"^(\d+ alerts?) in \d+ days?", out, re.MULTILINE)
    assert total
    monkeypatch.setenv("STRAYLINE_DOMAINS", HOME)
    status, _, err = strayline("replay", events, "--alerts", alerts)
    assert status == 0
    assert err.startswith(f"{count:,} events, 0 rejects, {total[1]} (")


def test_addresses_and_names_stand_whole_in_an_alert_on_a_terminal(alerts):
    """Who copies one to search for it gets all of it."""
    for alert in alerts:
        text = alert_text(alert)
        for name in (
            alert.agent_id,
            *alert.event.recipients[:2],
            *([alert.event.principal] if alert.event.principal else []),
        ):
            assert name in text
    assert any("-" in name for alert in alerts for name in alert.event.recipients)
    assert all(len(line) <= 110 for alert in alerts for line in alert_text(alert).splitlines()[1:])


def test_events_are_named_in_an_alert_on_a_terminal_or_counted(alerts):
    """That which it is about first; who reads on knows how many it does not see."""
    cut = 0
    for alert in alerts:
        said = " ".join(alert_text(alert).split()).rpartition(f"Alert {alert.alert_id}: ")[2]
        names, more = re.fullmatch(r"events? (.+?)(?: and ([\d,]+) more)?", said).groups()
        ids = names.split(", ")
        assert ids[0] == alert.event.event_id
        assert len(set(ids)) + int((more or "0").replace(",", "")) == alert.exposure.events
        assert set(ids) <= {alert.event.event_id, *(i for e in alert.evidence for i in e.event_ids)}
        cut += more is not None
    assert 0 < cut < len(alerts)


def heads(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith(" ")]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gz", "zst"])
def test_alerts_are_told_as_they_stand_or_every_revision_of_them(alerts, strayline, tmp_path, pack):
    """Who reads them wants to know what is; the rest is there for who asks."""
    (file := tmp_path / "alerts").write_bytes(pack(encode_lines(alerts)))
    opened = {a.alert_id: a.time for a in alerts if a.revision == 1}
    last = sorted({a.alert_id: a for a in alerts}.values(), key=lambda a: opened[a.alert_id])
    assert len(last) < len(alerts)
    for options, wanted in (((), last), (("--revisions",), alerts)):
        status, told, error = strayline("alerts", file, *options)
        assert (status, error) == (0, "")
        as_text = (
            re.sub(chr(27) + r"[^m]*m", "", alert_text(a, opened[a.alert_id], how_it_stands=True)) for a in wanted
        )
        assert told == "".join(f"{text}\n" for text in as_text)


def test_an_alert_s_line_has_when_it_opened_and_its_last_event(alerts, strayline, tmp_path):
    """Not when it was said last; where its first revision is not there, when its first event was."""
    grown = next(a for a in reversed(alerts) if a.last_event_time[:16] > a.first_event_time[:16])
    first = next(a for a in alerts if a.alert_id == grown.alert_id)
    end = grown.last_event_time[11:16]
    for listed, begin in (((first, grown), first.time), ((grown,), grown.first_event_time)):
        (file := tmp_path / "alerts").write_bytes(encode_lines(listed))
        (head,) = heads(strayline("alerts", file)[1])
        assert head.startswith(f"{begin[:16].replace('T', ' ')} to {end}  ")
    assert heads(alert_text(first))[0].startswith(f"{first.time[:16].replace('T', ' ')}  ")


def test_a_span_is_counted_back_from_the_last_strange_event_there_and_a_date_begins_a_day(alerts, strayline, tmp_path):
    """However old the file is; and whoever says the span where a file is meant to stand hears how."""
    (file := tmp_path / "alerts").write_bytes(encode_lines(alerts))
    newest = max(a.last_event_time for a in alerts)
    begin = rfc3339(seconds(newest) - 86400)
    day = [a for a in alerts if a.last_event_time >= begin]
    assert 0 < len(day) < len(alerts)
    for span in ("24h", "1d"):
        status, told, error = strayline("alerts", file, "--since", span, "--json")
        assert (status, told.encode()) == (0, encode_lines(day))
        assert error == f"since {begin}, counted back from the last strange event of an alert there, of {newest}\n"
    date = newest[:10]
    status, told, error = strayline("alerts", file, "--since", date, "--json")
    assert (told.encode(), error) == (encode_lines([a for a in alerts if a.last_event_time >= date]), "")
    for args in (("--last", "2"), ("--last", "24h"), ("24",)):
        status, told, error = strayline("alerts", *args)
        assert (status, told) == (2, "")
        assert "--since 24h" in error
    assert "such as" in strayline("alerts", file, "--since", "24")[2]


def test_of_alerts_the_last_words_the_severe_those_of_one_agent_and_of_a_time_can_be_told(alerts, strayline, tmp_path):
    """As words and as they are."""
    (file := tmp_path / "alerts").write_bytes(encode_lines(alerts))
    opened = {a.alert_id: a.time for a in alerts if a.revision == 1}
    last = sorted({a.alert_id: a for a in alerts}.values(), key=lambda a: opened[a.alert_id])
    agent, since = last[-1].agent_id, last[len(last) // 2].time
    for options, wanted in (
        ((), last),
        (("--severity", "high"), [a for a in last if SEVERITIES.index(a.severity) >= 2]),
        (("--agent", agent), [a for a in last if a.agent_id == agent]),
        (("--id", last[3].alert_id), [last[3]]),
        (("--since", since), [a for a in last if a.last_event_time >= since]),
    ):
        assert 0 < len(wanted) <= len(last)
        assert (len(wanted) == len(last)) == (not options)
        assert strayline("alerts", file, "--last", "--json", *options)[1].encode() == encode_lines(wanted)
        assert len(heads(strayline("alerts", file, *options)[1])) == len(wanted)
    closed = next(a for a in last if a.time > a.last_event_time and a.revision > 1)  # hours of quiet after it
    for since, some in ((closed.time, False), (closed.last_event_time, True)):
        told = strayline("alerts", file, "--id", closed.alert_id, "--since", since, "--json")[1]
        assert (told.encode(), bool(told)) == (
            encode_lines([a for a in alerts if a.alert_id == closed.alert_id and a.last_event_time >= since]),
            some,
        )
    grown = next(a for a in last if a.revision > 1)
    assert f"{grown.title} (revision {grown.revision})" in strayline("alerts", file)[1]
    assert strayline("alerts", file, "--json")[1].encode() == encode_lines(alerts)


def test_a_file_without_alerts_says_so(path, alerts, strayline, tmp_path):
    """Of events, of nothing, and of none that was asked for."""
    status, told, error = strayline("alerts", path)
    assert (status, told) == (1, "")
    assert error.startswith(f"strayline: {path} has no alert: give what `strayline replay --alerts PATH`")
    (empty := tmp_path / "empty").touch()
    assert strayline("alerts", empty) == (0, "", f"no alert in {empty}\n")
    empty.write_bytes(encode_lines(alerts))
    count = len({a.alert_id for a in alerts})
    assert strayline("alerts", empty, "--severity", "critical", "--since", "2099-01-01") == (
        0,
        "",
        f"of {count} alerts none is as asked for\n",
    )
    assert strayline("alerts", empty, "--agent", "x") == (0, "", f"of {count} alerts none is of agent 'x'\n")


def test_a_mistyped_agent_is_answered_with_those_that_are_like_it(alerts, strayline, tmp_path):
    (file := tmp_path / "alerts").write_bytes(encode_lines(alerts))
    meant = alerts[0].agent_id
    told = strayline("alerts", file, "--agent", meant[:3] + meant[4:])[2]
    assert re.search(rf"; (is this|is one of these) meant: (.*, )?{meant}[,?]", told)


@pytest.mark.parametrize("there", ["both", "giver"])
def test_the_halves_of_a_relay_on_two_partitions_name_each_other_where_they_are_read(
    there, alerts, strayline, tmp_path
):
    """Neither engine knew of the other's alert; one of another day, or that nobody got, is not of that story."""
    give = alerts[0]
    taker = next(a for a in alerts if a.agent_id != give.agent_id)
    took = msgspec.structs.replace(
        taker, first_event_time=give.first_event_time, last_event_time=give.last_event_time, time=give.time, revision=1
    )
    exposure = msgspec.structs.replace(give.exposure, recipients=[taker.agent_id], people=1)
    give = msgspec.structs.replace(give, exposure=exposure)
    (file := tmp_path / "alerts").write_bytes(encode_lines([give, took] if there == "both" else [give]))
    told = " ".join(strayline("alerts", file)[1].split())
    assert (f"It gave data to {taker.agent_id} (alert {took.alert_id}): look at them together." in told) == (
        there == "both"
    )
    assert (f"It was given data by {give.agent_id} (alert {give.alert_id}): look at them together." in told) == (
        there == "both"
    )
    later = rfc3339(seconds(give.last_event_time) + 5 * 3600)
    apart = msgspec.structs.replace(took, first_event_time=later, last_event_time=later)
    denied = msgspec.structs.replace(give, exposure=msgspec.structs.replace(exposure, people=0))
    relay = Evidence("relay", "recipient", "It gave", "-", 0.0, [], 1, {"alerts": [took.alert_id]})
    named = msgspec.structs.replace(give, evidence=[*give.evidence, relay])
    late = Given(taker.agent_id, None, None, 0, 0, rfc3339(seconds(give.last_event_time) + 60))  # after all it did
    passed = msgspec.structs.replace(give, exposure=msgspec.structs.replace(exposure, given=[late]))
    for listed in ([give, apart], [denied, took], [passed, took]):
        file.write_bytes(encode_lines(listed))
        assert "look at them together" not in strayline("alerts", file)[1]
    file.write_bytes(encode_lines([named, took]))
    assert " ".join(strayline("alerts", file)[1].split()).count("look at them together") == 1  # in that which does not


def test_the_demo_s_events_can_be_had_without_the_demo(strayline, tmp_path):
    """The same that it plays; and nothing to write is nothing to be quiet of."""
    file = tmp_path / "events.jsonl"
    status, told, error = strayline("demo", "--agents", 12, "--days", 5, "--events", file, "--quiet")
    assert (status, told) == (0, "")
    assert file.read_bytes() == b"".join(lines(simulate(agents=12, days=5)))
    assert error == f"{len(file.read_bytes().splitlines()):,} events written to {file}\n"
    assert strayline("demo", "--quiet")[0] == 2


def test_the_beginning_of_an_alert_s_id_is_answered_with_how_long_it_is(alerts, strayline, tmp_path):
    """Two may share it."""
    (file := tmp_path / "alerts").write_bytes(encode_lines(alerts))
    words = ("--by", "ana", "--reason", "r", "--alerts", file, "--to", tmp_path / "said")
    whole = alerts[0].alert_id
    told = strayline("verdict", "benign", whole[:8], *words)[2]
    assert f"has no alert '{whole[:8]}' (the whole id is needed, all {len(whole)} characters)" in told
    assert "whole id" not in strayline("verdict", "benign", "0" * len(whole), *words)[2]


@pytest.mark.parametrize(
    "args",
    [
        ("x", "--follow"),
        ("--last", "--follow"),
        ("--since", "now"),
        ("--since", "2026-13-12"),
        ("--since", "2026-03-12T08:00:00"),
    ],
)
def test_what_of_alerts_cannot_go_together_is_a_usage_error(args, strayline):
    assert strayline("alerts", *args)[0] == 2


def test_the_demo_accounts_for_everything_that_was_planted(strayline):
    """Found and missed add up, each is listed, and true and false alerts are all there are."""
    _, out, _ = strayline("demo", "--agents", 12, "--days", 10, "--seed", 4)
    planted, found, missed = map(int, re.findall(r"Planted (\d+) incidents, found (\d+), missed (\d+)", out)[0])
    assert planted == found + missed
    assert len(re.findall(r"^  found ", out, re.MULTILINE)) == found
    assert len(re.findall(r"^  missed ", out, re.MULTILINE)) == missed
    alerts, true, false = map(
        int, re.findall(r"(\d+) alerts in .*?: (\d+) on what was planted, (\d+) on nothing", out)[0]
    )
    assert alerts == true + false
    heads = re.findall(r"^\d{4}-\d\d-\d\d \d\d:\d\d  (?:LOW|MEDIUM|HIGH|CRITICAL) .*$", out, re.MULTILINE)
    assert sum(not head.endswith(" (raised)") for head in heads) == alerts
    assert any(head.endswith(" (raised)") for head in heads)  # what the account counts as worse was seen to get worse


@pytest.mark.parametrize("options", [("--scores", "--alerts"), ("--alerts", "--rejects")])
def test_two_results_at_one_path_are_refused(options, path, strayline, tmp_path):
    """One would overwrite the other; said before anything is read. By any of its names."""
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for second in ("out", "link"):
        status, _, err = strayline("replay", path, options[0], tmp_path / "out", options[1], tmp_path / second)
        assert status == 2
        assert "twice" in err
    assert not (tmp_path / "out").exists()
    assert strayline("replay", path, options[0], "/dev/null", options[1], "/dev/null")[0] == 0


def test_a_result_does_not_overwrite_what_is_read(path, strayline):
    """A slip of the finger must not cost the events."""
    before = path.read_bytes()
    status, _, err = strayline("replay", path, "--scores", path)
    assert status == 2
    assert str(path) in err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "args",
    [
        ("demo", "--agents", 11),
        ("demo", "--days", 4),
        ("demo", "--seed", "x"),
        ("topics", "--partitions", 0),
        ("replay", "x", "--format", "ocsf"),
        ("explain",),
        ("explain", "bot", "x", "--worker", "localhost:1"),
    ],
)
def test_a_bad_value_is_a_usage_error(args, strayline):
    """Exit status 2, with the usage."""
    status, _, err = strayline(*args)
    assert status == 2
    assert "Usage: " in err


def test_a_worker_that_does_not_answer_is_named(strayline):
    """Exit status 1: the address, and where workers serve."""
    status, _, err = strayline("explain", "bot", "--worker", "localhost:1")
    assert status == 1
    assert "no worker answers at localhost:1" in err
    assert "STRAYLINE_HTTP_PORT" in err
