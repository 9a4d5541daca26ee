"""The state of a large fleet: its memory, the cost of an event, what a flush writes, and how long a restart takes.

The fleet is departments of a thousand agents. The first is simulated, each agent cut at 200 events; the others are that one with
people, resources, parties and sessions of their own (other hashes) at other times of the day, so what an agent leaves in the
tables is what real events leave, and a fleet of any size is made in memory as the columns that the compiled loop takes. Tools, permissions, types and roots are the same in all.
"""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from benchmarks.report import save, say, table
from models import loop
from models.batch import Batch, Text, blank
from models.compiled import njit
from models.signals import PAYS
from models.table import Array, mix
from stream.baselines import Reader, Record, Writer
from stream.engine import Engine, warm_up
from stream.settings import load
from stream.simulate import simulate
from stream.siphash import name_hash

DEPARTMENT, EVENTS, LATER = 1000, 200, 20
SIZES = (1000, 10_000, 100_000)
MIB = 3072
LADDER = np.array([name_hash(rung) for rung in load({}).classifications], np.uint64)
NOBODY = np.zeros(0, np.uint64)
BATCH = 4000
FLUSH_EVENTS = 2500  # half a second at 5,000 events/s
FLUSHES = 40
SPREAD = 3600.0  # seconds by which departments work at other times
APART = 2 * 86400.0  # the same while flushes of a backlog are measured: some are at work at any time
TOGETHER = 600.0
GOAL_RESIDENT, GOAL_CHANGE, GOAL_RATIO, GOAL_RESTART = 2 << 30, 1024, 1.5, 30.0


class Department(NamedTuple):
    """One department's events by time, as columns: those that the state is made of, and what its agents do a week later."""

    first: Batch
    later: Batch
    at_once: Batch  # the same, all agents at work within ten minutes


def department(agents: int = DEPARTMENT) -> Department:
    """Simulate one: so many agents, each with as many events."""
    said = simulate(1, agents * 5 // 4 + 12, 9, incidents=()).events
    often = [name for name, n in Counter(e["agent_id"] for e in said).items() if n >= EVENTS + LATER]
    chosen, met = set(often[:agents]), Counter[str]()
    if len(chosen) < agents:
        raise ValueError(f"only {len(chosen)} agents have {EVENTS + LATER} events")
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    for event in said:
        name = event["agent_id"]
        if name in chosen and met[name] < EVENTS + LATER:
            parts[met[name] >= EVENTS].append(msgspec.json.encode(event))
            met[name] += 1
    first, later = (_columns(lines) for lines in parts)
    later = later._replace(time=later.time + 7 * 86400.0)
    return Department(first, later, _at_once(later))


def _at_once(b: Batch) -> Batch:
    """What agents do, each moved so that it begins within the same ten minutes: as a fleet does it of which 5,000 events come in a second."""
    names, who = np.unique(b.agent.hash, return_inverse=True)
    begins = np.full(len(names), np.inf)
    np.minimum.at(begins, who, b.time)
    moved = b.time[0] - begins + np.random.default_rng(2).uniform(0, TOGETHER, len(names))
    order = np.argsort(b.time + moved[who], kind="stable")
    return _batch(b, order, np.zeros(len(order), np.uint64), moved[who][order])


def _columns(lines: list[bytes]) -> Batch:
    decoded = Engine(load({})).decode(lines, range(len(lines)))
    if decoded.batch is None or decoded.rejects:
        raise ValueError("the simulated events do not decode")
    return decoded.batch


def batches(
    b: Batch, departments: int, size: int = BATCH, spread: float = SPREAD, skip: float = 0.0
) -> Iterator[Batch]:
    """The events of so many departments like this one by time, but for the first seconds, in batches of about so many."""
    rng = np.random.default_rng(1)
    shift = np.sort(rng.uniform(0, spread, departments))
    shift[0] = 0.0
    salt = rng.integers(1, 1 << 62, departments).astype(np.uint64)
    salt[0] = 0
    begin, end = b.time[0], b.time[-1] + spread
    at = np.searchsorted(b.time, begin + skip - shift)
    step = 60.0 if departments > 20 else 600.0
    waiting: list[tuple[Array, Array]] = []
    held = 0
    upto = begin + skip
    while upto <= end:
        upto += step
        to = np.searchsorted(b.time, upto - shift)
        n = to - at
        if n.any():
            who = np.repeat(np.arange(departments), n)
            which = np.arange(len(who)) - np.repeat(np.cumsum(n) - n, n) + np.repeat(at, n)
            order = np.argsort(b.time[which] + shift[who], kind="stable")
            waiting.append((which[order], who[order]))
            held += len(who)
        at = to
        if held >= size or upto > end:
            which, who = (np.concatenate(x) for x in zip(*waiting, strict=True)) if waiting else (at[:0], at[:0])
            waiting, held = [], 0
            for low in range(0, len(which), size):
                yield _batch(b, which[low : low + size], salt[who[low : low + size]], shift[who[low : low + size]])


@njit
def _salted(hashes: Array, which: Array, salt: Array) -> Array:
    out = np.zeros(len(which), np.uint64)
    for i in range(len(which)):
        h = hashes[which[i]]
        out[i] = mix(h, salt[i]) if h != 0 and salt[i] != 0 else h
    return out


def _text(of: Text, which: Array, salt: Array | None = None) -> Text:
    hashes = of.hash[which] if salt is None else _salted(of.hash, which, salt)
    return Text(hashes, of.low[which], of.high[which], of.buffer)


def _entries(at: Array, which: Array) -> tuple[Array, Array, Array]:
    """Where the lists of these events' entries begin, which entries they are, and whose."""
    n = at[which + 1] - at[which]
    begins = np.zeros(len(which) + 1, np.int64)
    np.cumsum(n, out=begins[1:])
    entries = np.arange(begins[-1]) - np.repeat(begins[:-1], n) + np.repeat(at[which], n)
    return begins, entries, np.repeat(np.arange(len(which)), n)


def _batch(b: Batch, which: Array, salt: Array, shift: Array) -> Batch:
    scope_at, scopes, _ = _entries(b.scope_at, which)
    recipient_at, recipients, of = _entries(b.recipient_at, which)
    cut = {name: getattr(b, name)[which] for name in ("cohort", "version", "home", "action", "root", "root_high", "branch", "branch_high", "in_path", "rung", "outcome", "denied", "changes", "bytes", "records")}  # fmt: skip
    parties = {name: getattr(b, name)[recipients] for name in ("kind", "clearance", "cleared_for", "size")}
    return b._replace(
        time=np.round(b.time[which] + shift, 3),  # producers say milliseconds
        event=_text(b.event, which, salt),
        agent=_text(b.agent, which, salt),
        principal=_text(b.principal, which, salt),
        session=_salted(b.session, which, salt),
        tool=_text(b.tool, which),
        resource=_text(b.resource, which, salt),
        classification=_text(b.classification, which),
        scope_at=scope_at,
        scope=_text(b.scope, scopes),
        recipient_at=recipient_at,
        recipient=_text(b.recipient, recipients, salt[of]),
        domain=_text(b.domain, recipients),
        **cut,
        **parties,
    )


def _bare() -> int:
    """What a worker has in memory before it knows anything."""
    code = "from benchmarks.agents import resident; from stream import worker; from stream.engine import warm_up; from stream.settings import load; warm_up(load({})); print(resident())"
    return int(subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout)


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _learn(engine: Engine, b: Batch) -> None:
    """Score and learn a batch, as the engine's own step does."""
    out, at, why = blank(len(b.time), window=False), 0, 0
    while why != loop.FINISHED:
        at, why = loop.run(engine.state.arrays(), b, out, at, engine.settings.alerts_per_day, NOBODY, PAYS, np.inf)
        if why == loop.RESCALE:
            engine.state.rescale()
        elif why >= 0:
            engine.state.grow(why)


def _measured(of: Department, agents: int) -> dict[str, Any]:
    """Feed a fleet of so many agents; what it costs, in CPU time (the machine may be shared), then flushes and a restart."""
    engine = Engine(load({"STRAYLINE_STATE_MIB": str(MIB)}))
    gc.collect()
    empty = resident()
    events, spent, longest, at_growth = 0, [], 0.0, 0.0
    for b in batches(of.first, agents // DEPARTMENT):
        sizes = [len(t.head) for t in engine.state.tables]
        begin = time.thread_time()
        _learn(engine, b)
        took = time.thread_time() - begin
        events += len(b.time)
        spent.append((len(b.time), took))
        longest = max(longest, took)
        if sizes != [len(t.head) for t in engine.state.tables]:
            at_growth = max(at_growth, took)
    tail = spent[-len(spent) // 10 :]
    out: dict[str, Any] = {
        "agents": agents,
        "events": events,
        "us_per_event": sum(t for _, t in tail) / sum(n for n, _ in tail) * 1e6,
        "us_per_event_all": sum(t for _, t in spent) / sum(n for n, _ in spent) * 1e6,
        "longest_batch_ms": longest * 1e3,
        "longest_batch_with_growth_ms": at_growth * 1e3,
        "resident_state": resident() - empty,
        "state": engine.state.nbytes,
        "evictions": int(engine.state.tally[:, 1].sum()),
        "rows_per_agent": {t.layout.name: int(t.tally[0]) / agents for t in engine.state.tables},
        "bytes_per_agent": {t.layout.name: t.nbytes / agents for t in engine.state.tables},
    }
    departments = agents // DEPARTMENT
    return out | _flushes(
        engine,
        list(islice(batches(of.at_once, departments, FLUSH_EVENTS, 60.0, 60.0), FLUSHES)),
        list(islice(batches(of.later, departments, FLUSH_EVENTS, APART, APART), FLUSHES)),
    )


def _flushes(engine: Engine, live: list[Batch], backlog: list[Batch]) -> dict[str, Any]:
    """What flushes write once all has been written, and what reading it all takes."""
    out: dict[str, Any] = {}
    writer = Writer(engine, anew=True)
    begin = time.thread_time()
    topic = {r.key: r.value or b"" for r in writer.flush(1)}
    out["whole_state_bytes"], out["whole_state_s"] = sum(map(len, topic.values())), time.thread_time() - begin
    writer._due = 0.0  # noqa: SLF001  # pages are written at their pace from now on, as long after
    out["live"] = _flushed(engine, writer, topic, live)
    out["backlog"] = _flushed(engine, writer, topic, backlog)
    records_list = [Record(k, v) for k, v in topic.items()]
    out["topic_bytes"] = sum(len(v) for v in topic.values())
    rows = {t.layout.name: t.tally.tolist() for t in engine.state.tables}
    del engine, writer, topic
    gc.collect()
    last = backlog[-1]
    begin, wall = time.thread_time(), time.perf_counter()
    fresh = Engine(load({"STRAYLINE_STATE_MIB": str(MIB)}))
    reader = Reader(fresh)
    for r in records_list:
        reader.read(*r)
    reader.writer()
    _learn(fresh, _cut(last, len(last.time) - 1, len(last.time)))
    out["restart_s"], out["restart_wall_s"] = time.thread_time() - begin, time.perf_counter() - wall
    if {t.layout.name: t.tally.tolist()[:1] for t in fresh.state.tables if t.space} != {
        name: tally[:1] for name, tally in rows.items() if fresh.state[name].space
    }:
        raise AssertionError("what was read is not what was written")
    return out


def _flushed(engine: Engine, writer: Writer, topic: dict[bytes, bytes], feed: list[Batch]) -> dict[str, float]:
    """What is written after each of these batches, by the agents in them."""
    sizes, changed, took, pages = [], [], [], []
    for b in feed:
        _learn(engine, b)
        begin = time.thread_time()
        records = writer.flush(2)
        took.append(time.thread_time() - begin)
        changed.append(len(np.unique(b.agent.hash)))
        sizes.append(sum(len(r.value or b"") + len(r.key) for r in records))
        pages.append(sum(len(r.value or b"") for r in records if r.key.startswith(b"p/")))
        for r in records:
            topic.pop(r.key, None)
            topic[r.key] = r.value or b""
    return {
        "flushes": len(sizes),
        "agents_per_flush": float(np.mean(changed)),
        "events_per_agent": sum(len(b.time) for b in feed) / sum(changed),
        "changelog_per_agent": sum(sizes) / sum(changed),
        "changelog_of_pages": sum(pages) / sum(changed),
        "longest_flush_ms": max(took) * 1e3,
        "mean_flush_ms": float(np.mean(took)) * 1e3,
    }


def _cut(b: Batch, low: int, high: int) -> Batch:
    """Events from `low` to `high` of a batch."""
    which = np.arange(low, high)
    zeros = np.zeros(len(which), np.uint64)
    return _batch(b, which, zeros, np.zeros(len(which)))


def agents() -> dict[int, Any]:
    """Print the tables; each size in a process of its own, since memory is part of what is measured."""
    results = {}
    with tempfile.TemporaryDirectory(prefix="strayline-benchmark-") as folder:
        path = Path(folder) / "department"
        say("agents: simulating a department …")
        path.write_bytes(pickle.dumps(department()))
        warm_up(load({}))  # else the first bare worker has the compiler in memory
        bare = _bare()
        for n in SIZES:
            say(f"agents: {n:,} agents with {EVENTS} events each …")
            command = [sys.executable, "-m", "benchmarks.agents", str(path), str(n)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results[n] = msgspec.json.decode(done.stdout.splitlines()[-1])
            results[n]["resident"] = results[n]["resident_state"] + bare
    _print(results)
    save("agents", {str(n): r for n, r in results.items()})
    return results


def _print(results: dict[int, dict[str, Any]]) -> None:
    sizes = list(results)
    names = list(results[sizes[0]]["rows_per_agent"])
    table(
        "Rows per agent, and bytes per agent with their index",
        ["table", *(f"rows, {n:,}" for n in sizes), *(f"bytes, {n:,}" for n in sizes)],
        [
            [name, *(r["rows_per_agent"][name] for r in results.values()), *(f"{r['bytes_per_agent'][name]:,.0f}" for r in results.values())]
            for name in names
        ],
    )  # fmt: skip
    small, large = results[sizes[0]], results[sizes[-1]]
    ratio = large["us_per_event"] / small["us_per_event"]

    def met(good: bool) -> str:
        return "met" if good else "NOT MET"

    shown: list[tuple[str, Callable[[dict[str, Any]], float], str]] = [
        ("resident memory of a worker, MiB", lambda r: r["resident"] / (1 << 20), met(large["resident"] <= GOAL_RESIDENT)),
        ("of it the state, bytes per agent", lambda r: r["resident_state"] / r["agents"], ""),
        ("rows that gave way", lambda r: r["evictions"], met(large["evictions"] == 0)),
        ("loop, us per event", lambda r: r["us_per_event"], f"{ratio:.2f} x, {met(ratio <= GOAL_RATIO)}"),
        (f"longest batch of {BATCH:,}, ms", lambda r: r["longest_batch_ms"], ""),
        ("the same where a table grew, ms", lambda r: r["longest_batch_with_growth_ms"], ""),
        *_rows_of("live", "live", met(large["live"]["changelog_per_agent"] <= GOAL_CHANGE)),
        *_rows_of("a backlog", "backlog", met(large["backlog"]["changelog_per_agent"] <= GOAL_CHANGE)),
        ("whole state as records, MB", lambda r: r["whole_state_bytes"] / 1e6, ""),
        ("restart from records in memory, s", lambda r: r["restart_s"], met(large["restart_s"] <= GOAL_RESTART)),
    ]  # fmt: skip
    table(
        f"A fleet of agents with {EVENTS} events each; times are CPU time of one thread",
        ["", *(f"{n:,}" for n in sizes), "goal"],
        [[name, *(f"{what(r):,.2f}" for r in results.values()), goal] for name, what, goal in shown],
    )


def _rows_of(when: str, of: str, goal: str) -> list[tuple[str, Callable[[dict[str, Any]], float], str]]:
    """What is said of the flushes of one kind."""
    return [
        (f"{when}: changelog, bytes per changed agent and flush", lambda r: r[of]["changelog_per_agent"], goal),
        (f"{when}: of it pages", lambda r: r[of]["changelog_of_pages"], ""),
        (f"{when}: agents per flush", lambda r: r[of]["agents_per_flush"], ""),
        (f"{when}: events of each since the flush before", lambda r: r[of]["events_per_agent"], ""),
        (f"{when}: flush, ms, mean", lambda r: r[of]["mean_flush_ms"], ""),
        (f"{when}: flush, ms, longest", lambda r: r[of]["longest_flush_ms"], ""),
    ]


if __name__ == "__main__":
    warm_up(load({}))
    made: Department = pickle.loads(Path(sys.argv[1]).read_bytes())  # noqa: S301  # our own, see `agents`
    print(msgspec.json.encode(_measured(made, int(sys.argv[2]))).decode())
