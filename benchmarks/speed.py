"""How fast, beside `json.loads`: the replay of a fleet's events, its stages, memory and start-up.

Replays run in this process after the models are compiled, with everything that a replay does: reading, decoding, scoring, alerts,
writing. The kinds of run take turns, and the best of each counts, since a shared machine only ever adds time. The yardstick is the
standard library's decoder on the same lines, already in memory and decoded to text, its results thrown away.
"""

from __future__ import annotations

import gc
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import PEERS, Event, Peer, scored
from benchmarks.report import save, say, table, warn
from benchmarks.sets import SHARED, environment
from benchmarks.stages import memory, stages
from stream.engine import Engine, warm_up
from stream.replay import replay
from stream.settings import load
from stream.simulate import lines as simulated_lines
from stream.simulate import simulate

EVENTS = SHARED / "data" / "fleet-dev.events.jsonl.gz"
SETTINGS = {"STRAYLINE_DOMAINS": "acme.example"}
RIVER = {"STRAYLINE_RIVER_DETECTOR": "HalfSpaceTrees"}
ROUNDS, RIVER_ROUNDS, STARTS = 7, 2, 5
PEER_EVENTS = 20_000
GOAL = 1.5
BUSY = 0.5  # of all CPUs: above it, a second thread may not find one
LOADS = "json.loads"


def speed() -> dict[str, Any]:
    """Print the tables of speed, memory and start-up; the numbers behind them."""
    load_before, cpus = os.getloadavg()[0], os.cpu_count() or 1
    if load_before > BUSY * cpus:
        warn(
            f"OTHER WORK IS RUNNING (load {load_before:.1f} on {cpus} CPUs): by the clock, replay with its two threads "
            "suffers more than json.loads with one; read CPU time, or run again on a quiet machine"
        )
    with tempfile.TemporaryDirectory(prefix="strayline-benchmark-") as name:
        folder = Path(name)
        plain, packed = folder / "events.jsonl", folder / "events.jsonl.gz"
        plain.write_bytes(events())
        packed.write_bytes(gzip.compress(plain.read_bytes(), 6))
        say("speed: loading the compiled models, or compiling them …")
        warm_up(load(SETTINGS))
        results: dict[str, Any] = {"load_before": load_before}
        say(f"speed: json.loads and replay in turns, {ROUNDS} rounds …")
        results["us_per_event"], engine = _turns(plain, packed, folder)
        say("speed: stage by stage …")
        results["stages"] = stages(load(SETTINGS), ROUNDS, plain, folder)
        results["memory"] = memory(engine)
        say("speed: start-up …")
        results["start"] = _start(folder)
    save("speed", results)
    return results


def events() -> bytes:
    if EVENTS.exists():
        return gzip.decompress(EVENTS.read_bytes())
    warn(f"no {EVENTS} (SHARED says where): SPEED IS MEASURED ON A SIMULATED FLEET, not on fleet-dev")
    return b"".join(simulated_lines(simulate(1, 60, 28)))


def _timed(prepare: Callable[[], Callable[[], Any]]) -> tuple[float, float]:
    """Wall and CPU seconds; what it needs in memory is made before and gone after, so that no run is slowed by another's."""
    what = prepare()
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    what()
    return time.perf_counter() - wall, time.process_time() - cpu


def _turns(plain: Path, packed: Path, folder: Path) -> tuple[dict[str, Any], Engine]:
    settings = load(SETTINGS)
    scores, alerts = str(folder / "scores.jsonl"), str(folder / "alerts.jsonl")
    engines: list[Engine] = []

    def run(path: Path, *, write: bool, **more: str) -> None:
        engines[:] = [
            replay(
                load(SETTINGS | more) if more else settings,
                [str(path)],
                scores if write else None,
                alerts if write else None,
                None,
            )[0]
        ]

    def replays(path: Path, *, write: bool, **more: str) -> Callable[[], Callable[[], None]]:
        return lambda: partial(run, path, write=write, **more)

    n = len(_raw(plain))
    some = min(n, PEER_EVENTS)
    kinds: dict[str, tuple[int, int, Callable[[], Callable[[], Any]]]] = {  # rounds, events, what prepares what to do
        LOADS: (ROUNDS, n, lambda: partial(_loads, [line.decode() for line in _raw(plain)])),
        f"{LOADS} of bytes, as a file gives them": (ROUNDS, n, lambda: partial(_loads, _raw(plain))),
        "replay": (ROUNDS, n, replays(plain, write=False)),
        "replay, scores and alerts written": (ROUNDS, n, replays(plain, write=True)),
        "replay .gz": (ROUNDS, n, replays(packed, write=False)),
        "replay .gz, scores and alerts written": (ROUNDS, n, replays(packed, write=True)),
        "the same with River HalfSpaceTrees on": (RIVER_ROUNDS, n, replays(packed, write=True, **RIVER)),
    }

    def peers(peer: Callable[[], Peer]) -> Callable[[], Callable[[], None]]:
        return lambda: partial(_score, peer, [json.loads(line) for line in _raw(plain)[:some]])

    kinds |= {f"{name}, events decoded before": (RIVER_ROUNDS, some, peers(peer)) for name, peer in PEERS.items()}
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for turn in range(ROUNDS):
        for name, (rounds, events, prepare) in kinds.items():
            if turn < rounds:
                wall, cpu = _timed(prepare)
                times[name].append((wall / events * 1e6, cpu / events * 1e6))
    run(plain, write=False)
    return _ratios(times), engines[0]


def _raw(plain: Path) -> list[bytes]:
    return plain.read_bytes().splitlines()


def _score(peer: Callable[[], Peer], events: Sequence[Event]) -> None:
    scored(peer(), events)


def _loads(texts: Sequence[str] | Sequence[bytes]) -> None:
    for text in texts:
        json.loads(text)


def _ratios(times: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    yard, yard_cpu = (min(t[i] for t in times[LOADS]) for i in (0, 1))
    rows = []
    for name, runs in times.items():
        wall, cpu = (min(t[i] for t in runs) for i in (0, 1))
        middle = statistics.median(t[0] for t in runs)
        ratio = wall / yard
        out[name] = {"best": wall, "median": middle, "cpu": cpu, "ratio": ratio, "ratio_cpu": cpu / yard_cpu}
        goal = ("met" if ratio <= GOAL else "NOT MET") if name.startswith("replay") else ""
        rows.append([name, wall, middle, f"{1e6 / wall:,.0f}", f"{ratio:.2f} x", goal, cpu, f"{cpu / yard_cpu:.2f} x"])
    table(
        f"Time per event; the goal for replay is {GOAL} x json.loads by the clock (it uses two threads)",
        ["", "best, us", "median", "events/s", "ratio", "", "CPU, us", "ratio"],
        rows,
    )
    return out


def _start(folder: Path) -> dict[str, float]:
    empty = folder / "empty.jsonl"
    empty.touch()
    strayline = str(Path(sys.executable).with_name("strayline"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "strayline --help": [strayline, "--help"],
        "strayline replay of an empty file": [strayline, "replay", str(empty)],
    }
    best = dict.fromkeys(commands, np.inf)
    for _ in range(STARTS):
        for name, command in commands.items():
            begin = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, env=environment({}))
            best[name] = min(best[name], time.perf_counter() - begin)
    python = best["python -c pass"]
    table(
        "Start-up with a warm cache, best of five",
        ["", "seconds", "ratio"],
        [[name, t, f"{t / python:.0f} x"] for name, t in best.items()],
    )
    return best
