"""A replay by the command or by an engine: what goes into it, and what comes out, as bytes."""

from __future__ import annotations

import gzip
import json
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

from stream.codec import encode_lines
from stream.engine import Engine
from stream.settings import PREFIX

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "stream"]


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


def compressed(data: bytes, how: str) -> bytes:
    return {"plain": bytes, "gz": gzip.compress, "zst": zstandard.compress}[how](data)


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The kernel's own limit: a write beyond it fails as on a full disk (Python ignores the signal)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
