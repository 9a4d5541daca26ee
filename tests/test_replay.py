"""Files through the engine: the same bytes out for the same events in, and nothing lost, invented or half-written."""

from __future__ import annotations

import base64
import gzip
import io
import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from models.signals import KINDS
from stream import files
from stream.__main__ import main
from stream.codec import REASONS, encode_lines
from stream.engine import Engine
from stream.files import CHUNK, SLICE, Lines
from stream.settings import PREFIX, load
from stream.simulate import lines, simulate
from tests.shared import few

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "stream"]
MOST_OF_A_SLICE = 32_768 * SLICE  # a Zstandard block of 4 bytes may stand for 128 KiB


class Records(list[bytes]):
    """Records whose text is short: a failing test prints its arguments."""

    def __repr__(self) -> str:
        return f"{len(self)} records"


class Said(NamedTuple):
    """What a run of the command printed, and its exit status."""

    status: int
    out: bytes
    err: str


class Results(NamedTuple):
    """The files that a replay wrote."""

    scores: bytes
    alerts: bytes
    rejects: bytes


def environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return clean | {"PYTHONPATH": str(ROOT)} | more


@pytest.fixture(scope="module")
def events() -> Records:
    """Five days of a small fleet: enough for alerts."""
    return Records(line.rstrip(b"\n") for line in lines(simulate(agents=12, days=5)))


@pytest.fixture(scope="module")
def records(events: Records) -> Records:
    """The same with records in between that cannot be used, and some that came twice."""
    out = Records()
    for i, event in enumerate(events):
        out.append(event)
        if i % 211 == 0:
            out += [b"", b"{not json", b'{"event_id": "x"}', b"\xff\xfe"]
        if i % 307 == 0:
            out += [event] * 2
    return out


@pytest.fixture
def strayline(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Said]:
    """The command in this process: starting another takes seconds."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)

    def run(*args: object, stdin: bytes = b"") -> Said:
        monkeypatch.setattr(sys, "argv", ["strayline", *map(str, args)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        status = 0
        try:
            main()
        except SystemExit as done:
            status = int(done.code or 0)
        out, err = capsysbinary.readouterr()
        return Said(status, out, err.decode())

    return run


@pytest.fixture
def replayed(strayline: Callable[..., Said], tmp_path: Path) -> Callable[..., Results]:
    """A replay that reads everything: the bytes of its three results."""

    def run(*files: object, stdin: bytes = b"") -> Results:
        said = strayline("replay", *files, *into(tmp_path), stdin=stdin)
        assert said.status == 0, said.err
        return results(tmp_path)

    return run


def into(folder: Path) -> list[object]:
    return [
        part for what in Results._fields for part in (f"--{what}", folder / f"{what}.out")
    ]  # fmt: skip


def results(folder: Path) -> Results:
    return Results(*((folder / f"{what}.out").read_bytes() for what in Results._fields))


def written(path: Path, data: bytes | Sequence[bytes]) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else b"".join(line + b"\n" for line in data))
    return path


def scored(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def fed(engine: Engine, batches: Sequence[Sequence[bytes]]) -> tuple[bytes, bytes]:
    """Scores and alerts of batches, as a replay writes them."""
    scores, alerts, number = [], [], 1
    for batch in batches:
        done = engine.score(engine.decode(batch, range(number, number + len(batch))))
        scores.append(done.lines())
        alerts.append(encode_lines(done.alerts))
        number += len(batch)
    return b"".join(scores), b"".join(alerts)


def event(number: int, **given: object) -> bytes:
    base = {"event_id": f"e{number}", "time": 1772409600 + 60 * number, "agent_id": "bot", "action": "read"}
    return json.dumps(base | given).encode()


# The same bytes


def test_the_same_events_give_the_same_bytes(records, replayed, tmp_path):
    """A score that cannot be had again cannot be argued about."""
    path = written(tmp_path / "in", records)
    first = replayed(path)
    assert first.alerts
    assert replayed(path) == first


@pytest.mark.parametrize(("seed", "zone"), [("1", "Asia/Tokyo"), ("2", "America/New_York")])
def test_neither_the_hash_seed_nor_the_time_zone_changes_a_byte(seed, zone, records, replayed, tmp_path):
    """Sets and dicts are ordered differently in every process, and local time differs between machines."""
    path = written(tmp_path / "in", records)
    here = replayed(path)
    there = tmp_path / "there"
    there.mkdir()
    subprocess.run(
        [*COMMAND, "replay", path, *into(there)],
        env=environment(PYTHONHASHSEED=seed, TZ=zone),
        capture_output=True,
        check=True,
    )
    assert results(there) == here


@few
@given(data=st.data())
def test_it_does_not_matter_where_batches_are_cut(records, data):
    """Kafka cuts them where it likes; neither a score nor an alert, nor their order, may follow from that."""
    cuts = sorted(data.draw(st.sets(st.integers(1, len(records) - 1), max_size=60), label="cuts"))
    batches = [records[i:j] for i, j in pairwise([0, *cuts, len(records)])]
    assert fed(Engine(load({})), batches) == fed(Engine(load({})), [records])


def test_batches_of_one_give_the_same_bytes(records):
    """The smallest batch there is: an agent that acts once a minute on an idle topic."""
    assert fed(Engine(load({})), [[record] for record in records]) == fed(Engine(load({})), [records])


def test_it_does_not_matter_where_batches_are_cut_with_a_river_detector(events):
    """Its detectors are objects beside the tables, and learn one event at a time."""
    ours = load({"STRAYLINE_RIVER_DETECTOR": "HalfSpaceTrees"})
    part = events[:900]
    cut = [part[i : i + 61] for i in range(0, len(part), 61)]
    assert fed(Engine(ours), cut) == fed(Engine(ours), [part])


# Scores


def test_each_accepted_event_has_one_finite_score_in_input_order(records, replayed, tmp_path):
    """Whoever joins scores to events by line must be able to."""
    out = replayed(written(tmp_path / "in", records))
    rejected = [json.loads(line)["position"] for line in out.rejects.splitlines()]
    accepted = [json.loads(r) for i, r in enumerate(records, 1) if i not in set(rejected)]
    scores = [json.loads(line) for line in out.scores.splitlines()]
    assert rejected == sorted(rejected)
    assert [s["event_id"] for s in scores] == [e["event_id"] for e in accepted]
    assert [s["agent_id"] for s in scores] == [e["agent_id"] for e in accepted]
    for s in scores:
        assert set(s) == {"event_id", "agent_id", "score", "parts"}
        assert set(s["parts"]) == set(KINDS)
        assert all(math.isfinite(x) and x >= 0 for x in (s["score"], *s["parts"].values()))


def test_what_comes_later_does_not_change_a_score(events):
    """A score is said once; only the past may be in it."""
    half = len(events) // 2
    other = [json.dumps(json.loads(e) | {"agent_type": "other", "bytes": 1e12}).encode() for e in events[half:]]
    whole, _ = fed(Engine(load({})), [events])
    changed, _ = fed(Engine(load({})), [[*events[:half], *other]])
    assert whole.splitlines()[:half] == changed.splitlines()[:half]
    assert whole.splitlines()[half:] != changed.splitlines()[half:]


def test_an_event_is_scored_before_it_is_learned():
    """Were it learned first, the first time would be no stranger than the second."""
    usual = [event(n, agent_id=f"bot-{n % 8}", tool="crm.read", resource=f"crm/{n % 5}") for n in range(400)]
    new = [event(400 + n, agent_id="bot-1", tool="secrets.dump", resource="vault/1") for n in range(2)]
    scores, _ = fed(Engine(load({})), [[*usual, *new]])
    first, second = (sum(json.loads(line)["parts"].values()) for line in scores.splitlines()[-2:])
    assert first > 8
    assert second < 0.8 * first


def test_an_event_that_comes_again_is_scored_and_alerts_nobody_twice(events):
    """A producer that sends again after a timeout is no incident."""
    once_scores, once_alerts = fed(Engine(load({})), [events])
    twice_scores, twice_alerts = fed(Engine(load({})), [[e for e in events for _ in range(2)]])
    assert twice_alerts == once_alerts
    assert twice_scores.splitlines()[::2] == once_scores.splitlines()


def test_of_the_last_thousands_of_events_nearly_all_are_known_when_they_come_again():
    """README says how many; another event with an id of before is another event."""
    engine = Engine(load({}))
    sent = [event(n, agent_id=f"a{n % 50}") for n in range(7500)]
    fed(engine, [sent])
    assert int(engine.state.fleet["repeated"]) == 0
    fed(engine, [sent[:1000]])
    known = int(engine.state.fleet["repeated"])
    assert 850 < known < 950
    fed(engine, [[event(7499, agent_id="a49", tool="another"), sent[7499]]])
    assert int(engine.state.fleet["repeated"]) == known + 1


# Files


def compressed(data: bytes, how: str) -> bytes:
    return {"plain": bytes, "gz": gzip.compress, "zst": zstandard.compress}[how](data)


@pytest.mark.parametrize("how", ["plain", "gz", "zst"])
def test_the_same_lines_give_the_same_results_from_any_kind_of_file(how, records, replayed, tmp_path):
    """Told apart by their first bytes: a name promises nothing."""
    text = b"".join(r + b"\n" for r in records)
    expected = replayed(written(tmp_path / "in", text))
    assert json.loads(expected.rejects.splitlines()[0])["source"] == str(tmp_path / "in")
    assert replayed(written(tmp_path / "in", compressed(text, how))) == expected
    half = len(text) // 2
    assert replayed(written(tmp_path / "in", compressed(text[:half], how) + compressed(text[half:], how))) == expected
    out = replayed("-", stdin=compressed(text, how))
    assert out[:2] == expected[:2]
    assert out.rejects == expected.rejects.replace(str(tmp_path / "in").encode(), b"-")


def test_several_files_are_one_stream(events, replayed, tmp_path):
    """What the first has taught holds for the second."""
    expected = replayed(written(tmp_path / "in", events))
    third = len(events) // 3
    parts = [events[:third], events[third : 2 * third], events[2 * third :]]
    paths = [
        written(tmp_path / how, compressed(b"\n".join(part), how))
        for part, how in zip(parts, ("gz", "plain", "zst"), strict=True)
    ]
    assert replayed(*paths) == expected


@pytest.mark.parametrize(
    ("text", "scores", "rejects"),
    [
        (b"", 0, 0),
        (b"\n", 0, 1),
        (b"\n\n\n", 0, 3),
        (event(1), 1, 0),
        (event(1) + b"\n", 1, 0),
        (event(1) + b"\r\n" + event(2) + b"\r\n", 2, 0),
        (event(1) + b"\r\n\r\n" + event(2), 2, 1),
        (b"\n" + event(1) + b"\n\n" + event(2), 2, 2),
        (b"x", 0, 1),
        (b"\xef\xbb\xbf" + event(1), 1, 0),
    ],
)
@pytest.mark.parametrize("how", ["plain", "gz", "zst"])
def test_lines_end_as_they_like(how, text, scores, rejects, replayed, tmp_path):
    """With or without a last newline, as on Windows, or not at all; an empty line is a record without a value."""
    out = replayed(written(tmp_path / "in", compressed(text, how)))
    assert (len(out.scores.splitlines()), len(out.rejects.splitlines())) == (scores, rejects)


@pytest.mark.parametrize("how", ["gz", "zst"])
@pytest.mark.parametrize("count", [600, 9000])
def test_of_a_file_that_is_cut_short_what_can_be_read_is_scored(how, count, events, strayline, tmp_path):
    """The upload broke off: exit status 1, a message that says after which line, and results for all before it."""
    unlike = [json.dumps(json.loads(events[i % len(events)]) | {"event_id": f"e{i}"}).encode() for i in range(count)]
    text = b"".join(e + b"\n" for e in unlike)
    whole = compressed(text, how)
    path = written(tmp_path / "in", whole[: len(whole) * 4 // 5])
    said = strayline("replay", path, *into(tmp_path))
    assert said.status == 1
    assert "Traceback" not in said.err
    found = re.search(rf"{re.escape(str(path))} is damaged or cut short after line (\d+):", said.err)
    assert found
    read = int(found[1])
    out = results(tmp_path)
    assert len(unlike) // 5 < read < len(unlike)
    assert [json.loads(line)["event_id"] for line in out.scores.splitlines()] == [
        json.loads(e)["event_id"] for e in unlike[:read]
    ]
    assert out.rejects == b""


@pytest.mark.parametrize("how", ["gz", "zst"])
def test_a_compressed_file_that_was_changed_on_the_way_is_damaged(how, events, strayline, tmp_path):
    """Its checksum tells; the run must not end as if all were well."""
    whole = bytearray(
        gzip.compress(b"\n".join(events))
        if how == "gz"
        else zstandard.ZstdCompressor(write_checksum=True).compress(b"\n".join(events))
    )
    whole[-6] ^= 0x55
    whole[len(whole) // 2] ^= 0x55
    said = strayline("replay", written(tmp_path / "in", bytes(whole)), *into(tmp_path))
    assert said.status == 1
    assert "is damaged" in said.err
    assert (tmp_path / "scores.out").exists()


def test_a_file_that_cannot_be_opened_stops_the_run_before_anything_is_touched(events, strayline, tmp_path):
    """Missing, or a folder: exit status 1 with the path and the reason; the results of the run before are as they were."""
    first = written(tmp_path / "first", events)
    assert strayline("replay", first, *into(tmp_path)).status == 0
    before = results(tmp_path)
    for second, reason in ((tmp_path / "missing", "No such file"), (tmp_path, "Is a directory")):
        said = strayline("replay", first, second, first, *into(tmp_path))
        assert said.status == 1
        assert said.err.startswith(f"strayline: cannot read {second}: {reason}")
        assert results(tmp_path) == before


def test_results_under_a_packed_name_are_refused(strayline, tmp_path):
    """They are written plain, and would be taken for damaged."""
    said = strayline("replay", written(tmp_path / "in", [event(1)]), "--scores", tmp_path / "scores.gz")
    assert said.status == 1
    assert "pipe that through gzip" in said.err


def test_a_line_that_is_far_too_long_is_rejected_and_the_rest_is_scored(replayed, tmp_path):
    """50 MB in one line: a log that lost its newlines, or an attack."""
    long = event(2, attributes={"x": "y" * (50 << 20)})
    out = replayed(written(tmp_path / "in", [event(1), long, event(3)]))
    assert [json.loads(line)["event_id"] for line in out.scores.splitlines()] == ["e1", "e3"]
    (reject,) = [json.loads(line) for line in out.rejects.splitlines()]
    assert (reject["reason"], reject["position"]) == ("too_large", 2)
    assert reject["value"].encode() == long


@pytest.mark.parametrize("last", [True, False])
def test_of_a_line_that_memory_does_not_hold_the_beginning_is_kept_and_its_size_is_told(
    replayed, tmp_path, monkeypatch, last
):
    """In one piece, so that nobody takes it for the line; and the lines behind it are themselves."""
    monkeypatch.setattr(files, "MOST_KEPT", 2 * CHUNK)
    long = event(2, attributes={"x": "".join(map(str, range(1 << 20)))})
    out = replayed(written(tmp_path / "in", [event(1), long, *([] if last else [event(3), event(4)])]))
    assert [json.loads(line)["event_id"] for line in out.scores.splitlines()] == ["e1", *([] if last else ["e3", "e4"])]
    (reject,) = [json.loads(line) for line in out.rejects.splitlines()]
    kept = reject["value"].encode()
    assert (reject["position"], reject["cut_from_bytes"]) == (2, len(long))
    assert 2 * CHUNK <= len(kept) < 4 * CHUNK
    assert long.startswith(kept)
    assert f"the first {len(kept)} of its {len(long)} bytes were kept" in reject["detail"]


@pytest.mark.parametrize("how", ["gz", "zst"])
def test_a_decompression_bomb_comes_in_small_pieces(how, tmp_path):
    """Half a gigabyte in a few kilobytes: a chunk is never much larger than was asked for."""
    if how == "gz":
        data = gzip.compress(bytes(1 << 20), 1) * 512
    else:
        frame = zstandard.ZstdCompressor().compressobj()
        data = b"".join(frame.compress(bytes(1 << 20)) for _ in range(512)) + frame.flush()
    assert len(data) < 3 << 20
    with Lines(str(written(tmp_path / "bomb", data))) as bomb:
        sizes = [len(chunk) for chunk in bomb._chunks()]
    assert sum(sizes) == 512 << 20
    assert max(sizes) <= CHUNK + MOST_OF_A_SLICE


def test_an_event_with_very_many_recipients_is_scored_like_any_other(replayed, tmp_path):
    """It asks for more room than a nearly empty table has, several times over."""
    for count in (20, 300, 20_000):
        crowd = [{"id": f"p{i}@x.example"} for i in range(count)]
        out = replayed(written(tmp_path / "in", [event(1), event(2, recipients=crowd), event(3)]))
        assert len(out.scores.splitlines()) == 3


# Records that cannot be used


FIELDS = (
    "event_id", "time", "agent_id", "action", "agent_type", "agent_version", "principal", "session_id", "tool",
    "resource", "classification", "scopes", "bytes", "records", "recipients", "approved", "outcome", "attributes",
)  # fmt: skip
NUMBERS = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([-1, 0, 1e18, 1e308, 253402300799])
)
SCALARS = (
    st.none() | st.booleans() | NUMBERS | st.text(max_size=12) | st.sampled_from(["", "\0", "\u202e", "a/b", "success"])
)
PARTIES = st.lists(
    st.dictionaries(st.sampled_from(["id", "type", "domain", "clearance", "size"]), SCALARS, max_size=5)
    | st.builds(lambda x: {"id": x}, st.text(min_size=1, max_size=12)),
    max_size=3,
)
GARBAGE = SCALARS | PARTIES | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=4), SCALARS, max_size=3)
SOUND = st.builds(
    lambda n, more: {"event_id": str(n), "time": 1772409600 + n, "agent_id": f"a{n % 3}", "action": "read"} | more,
    st.integers(0, 10**6),
    st.dictionaries(st.sampled_from(FIELDS), GARBAGE, max_size=4),
)
BYTES = st.binary(max_size=40).map(lambda b: b.replace(b"\n", b" "))


@settings(parent=few, max_examples=60)
@given(made=st.lists(SOUND.map(json.dumps).map(str.encode) | BYTES, max_size=40))
def test_garbage_in_any_field_stops_nothing(made):
    """Every record is either scored, with finite numbers, or rejected with a reason; and what follows is scored as ever."""
    engine = Engine(load({"STRAYLINE_STATE_MIB": "16"}))
    done = engine.score(engine.decode([*made, event(1)], range(1, len(made) + 2)))
    assert len(done.events) + len(done.rejects) == len(made) + 1
    assert done.events[-1].event_id == "e1"
    assert {r.reason for r in done.rejects} <= set(REASONS)
    for line in done.lines().splitlines():
        s = json.loads(line)
        assert all(math.isfinite(x) for x in (s["score"], *s["parts"].values()))
    for line in encode_lines(done.alerts).splitlines():
        json.loads(line)


def test_rejects_keep_their_bytes_as_they_came(strayline, tmp_path):
    """So that they can be mended and sent again: text as text, anything else in base64, with the number of its line."""
    bad = [
        b"",
        b"   ",
        b"{",
        b"\xff\x00\xfe",
        '{"\u202e": \u00e9'.encode(),
        b'{"event_id": "1"}\r',
        b"[" * 600,
        event(1, bytes=-1),
    ]
    path = written(tmp_path / "in", [line for b in bad for line in (event(9), b)])
    assert strayline("replay", path, *into(tmp_path)).status == 0
    rejects = [json.loads(line) for line in results(tmp_path).rejects.splitlines()]
    kept = [
        r["value"].encode() if "value" in r else base64.b64decode(r["value_base64"], validate=True) for r in rejects
    ]
    assert kept == bad
    assert [r["position"] for r in rejects] == [2 * i for i in range(1, len(bad) + 1)]
    assert {r["source"] for r in rejects} == {str(path)}
    assert [r["reason"] for r in rejects] == [
        "empty", "empty", "not_json", "not_json", "not_json", "missing_field", "too_deep", "bad_value",
    ]  # fmt: skip


def test_the_counts_on_stderr_are_those_of_the_files(records, strayline, tmp_path):
    """They are all that most runs leave behind."""
    said = strayline("replay", written(tmp_path / "in", records), *into(tmp_path))
    counts = re.match(
        r"([\d,]+) events, ([\d,]+) rejects?, ([\d,]+) alerts \(([\d,]+) messages\) in [\d.]+ s, ([\d,]+) repeated; most often: .+\n",
        said.err,
    )
    assert counts, said.err
    out = results(tmp_path)
    ids = [json.loads(line)["alert_id"] for line in out.alerts.splitlines()]
    expected = [len(out.scores.splitlines()), len(out.rejects.splitlines()), len(set(ids)), len(ids)]
    expected.append(expected[0] - len({json.loads(line)["event_id"] for line in out.scores.splitlines()}))
    assert [int(n.replace(",", "")) for n in counts.groups()] == expected
    assert sum(expected[:2]) == len(records)
    assert expected[-1] > 0
    assert said.out == b""
    assert "; see why with --rejects PATH, most often: " in strayline("replay", tmp_path / "in").err.splitlines()[0]


def test_the_commonest_reason_is_that_of_all_rejects_though_only_so_many_are_told_apart(
    strayline, tmp_path, monkeypatch
):
    """Whatever comes first in a batch; and what is known by then is counted to the end."""
    monkeypatch.setattr("stream.replay.MOST_REASONS", 2)
    first, second, third = b"", b'{"event_id": "1"}', b"[" * 600
    text = [first, first, second, second, second, third, third, third, third]
    said, alone = (strayline("replay", written(tmp_path / "in", lines)).err for lines in (text, [second]))
    commonest = [told.splitlines()[0].partition("most often: ")[2] for told in (said, alone)]
    assert commonest[0] == commonest[1] != ""


# Results are written whole or not at all


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The kernel's own limit: a write beyond it fails as on a full disk (Python ignores the signal)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_every_target_as_it_was(events, strayline, tmp_path):
    """Whichever of the results it is that does not fit: all stay, and nothing lies beside them."""
    path = written(tmp_path / "in", events)
    for what in Results._fields:
        written(tmp_path / f"{what}.out", b"yesterday's")
    before = sorted(tmp_path.iterdir())
    with no_file_larger_than(100_000):
        said = strayline("replay", path, *into(tmp_path))
    assert said.status == 1
    assert said.err.startswith(f"strayline: cannot write {tmp_path / 'scores.out'}: File too large")
    assert "Traceback" not in said.err
    assert results(tmp_path) == Results(*[b"yesterday's"] * 3)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_if_one_result_cannot_be_written_none_is(events, strayline, tmp_path):
    """Scores without the alerts of the same run would be read as a quiet day."""
    path, scores = written(tmp_path / "in", [*events[:50], b"{"]), tmp_path / "scores.out"
    assert strayline("replay", path, "--scores", scores, "--rejects", "/dev/null").status == 0
    assert len(scored(scores)) == 50
    for result in ("--rejects", "--alerts"):  # the one fits its buffer and fails at the end, the other on the way
        written(scores, b"yesterday's")
        written(path, [*events, b"{"])
        said = strayline("replay", path, "--scores", scores, result, "/dev/full")
        assert said.status == 1
        assert said.err.startswith("strayline: cannot write /dev/full: No space left on device")
        assert scores.read_bytes() == b"yesterday's"
        assert sorted(tmp_path.iterdir()) == [path, scores]


def test_a_path_that_cannot_be_written_is_said_before_anything_is_read(strayline, tmp_path):
    """Not after an hour of scoring."""
    for path, reason in ((tmp_path / "no" / "such" / "folder", "No such file"), (tmp_path, "Is a directory")):
        said = strayline("replay", "/dev/null", "--scores", path)
        assert said.status == 1
        assert said.err.startswith(f"strayline: cannot write {path}: {reason}")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_written_leaves_nothing_beside_the_others(strayline, tmp_path):
    """They were opened before it."""
    said = strayline("replay", "/dev/null", "--scores", tmp_path / "a", "--alerts", tmp_path / "no" / "b")
    assert said.status == 1
    assert said.err.startswith(f"strayline: cannot write {tmp_path / 'no' / 'b'}: No such file")
    assert list(tmp_path.iterdir()) == []


def test_behind_a_symbolic_link_it_is_the_file_that_is_replaced(events, strayline, tmp_path):
    """The link was put there on purpose."""
    target, link = written(tmp_path / "target", b"old"), tmp_path / "link"
    link.symlink_to(target)
    path = written(tmp_path / "in", events[:20])
    assert strayline("replay", path, "--scores", link).status == 0
    assert link.is_symlink()
    assert len(scored(target)) == 20


def test_standard_output_takes_results_by_either_name(events, tmp_path):
    """`/dev/stdout` may be a file: it is written to, and the device stays what it is."""
    path, out = written(tmp_path / "in", events[:20]), tmp_path / "out"
    device = Path("/dev/stdout").readlink()
    with out.open("wb") as stdout:
        subprocess.run(
            [*COMMAND, "replay", path, "--scores", "/dev/stdout", "--rejects", "-"],
            env=environment(),
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    assert len(scored(out)) == 20
    assert Path("/dev/stdout").readlink() == device


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupted_replay_leaves_the_target_as_it_was(events, tmp_path, number, status, word):
    """Ctrl-C or SIGTERM while standard input goes on: its exit status and one line, no half of a file at the path or beside it."""
    target = written(tmp_path / "scores", b"yesterday's")
    with subprocess.Popen(
        [*COMMAND, "replay", "-", "--scores", target],
        env=environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as run:
        assert run.stdin
        assert run.stderr
        text = b"".join(e + b"\n" for e in events)
        run.stdin.write(text * (1 + (CHUNK + (1 << 18)) // len(text)))  # returns once the first chunk has been read
        run.stdin.flush()
        assert len(list(tmp_path.glob("scores.*.partial"))) == 1
        run.send_signal(number)
        assert run.wait() == status
        err = run.stderr.read().decode()
    assert err.strip() == f"strayline: {word}; no file was left half-written"
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_bytes() == b"yesterday's"


def test_a_reader_that_has_seen_enough_ends_the_run_without_a_traceback(events, tmp_path):
    """As in `strayline replay … | head -1`."""
    path = written(tmp_path / "in", events)
    with subprocess.Popen(
        [*COMMAND, "replay", path, "--scores", "-", "--alerts", tmp_path / "alerts"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as run:
        assert run.stdout
        assert run.stderr
        assert json.loads(run.stdout.readline())["event_id"]
        run.stdout.close()
        assert run.wait() == 1
        assert run.stderr.read() == b""
    assert list(tmp_path.iterdir()) == [path]
