"""Files through the engine: whatever they are and wherever they end, what can be read is scored, and no target is half-written."""

from __future__ import annotations

import gzip
import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
import zstandard

from stream import files
from stream.files import CHUNK, SLICE, Lines
from tests.replaying import (
    COMMAND,
    Results,
    compressed,
    environment,
    event,
    into,
    no_file_larger_than,
    results,
    scored,
    written,
)

MOST_OF_A_SLICE = 32_768 * SLICE  # a Zstandard block of 4 bytes may stand for 128 KiB


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


# Results are written whole or not at all


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
