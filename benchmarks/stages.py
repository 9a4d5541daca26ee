"""Where the time of a replay goes, stage by stage, and what of it stays in memory."""

from __future__ import annotations

import gc
import itertools
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.peers import half_space_trees, scored
from benchmarks.report import table
from models.table import Array
from stream import codec
from stream.engine import Decoded, Engine, Ran, Scored
from stream.files import Lines
from stream.settings import Settings


class _Staged(Engine):
    """The engine with a stopwatch at its stages."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - begin

    def decode(self, records: Sequence[bytes | None], positions: Sequence[int] | Array) -> Decoded:
        with self.stage("decode"):
            return super().decode(records, positions)

    def run(self, decoded: Decoded) -> Ran:
        with self.stage("loop"):
            return super().run(decoded)

    def tell(self, ran: Ran) -> Scored:
        with self.stage("episodes"):
            return super().tell(ran)


def stages(settings: Settings, rounds: int, plain: Path, folder: Path) -> dict[str, float]:
    best: dict[str, float] = {}
    order = ("read", "decode", "loop", "episodes", "encode and write")
    n = 1
    for _ in range(rounds):
        engine = _Staged(settings)
        gc.collect()
        gc.disable()
        n = 0
        begin = time.perf_counter()
        with Lines(str(plain)) as lines, (folder / "out.jsonl").open("wb") as out:
            batches = iter(lines)
            while True:
                with engine.stage("read"):
                    batch = next(batches, None)
                if batch is None:
                    break
                done = engine.score(engine.decode(batch[1], range(batch[0], batch[0] + len(batch[1]))))
                n += len(done.events)
                with engine.stage("encode and write"):
                    out.write(done.lines())
                    out.write(codec.encode_lines(done.alerts))
        engine.seconds["all, one after the other"] = time.perf_counter() - begin
        gc.enable()
        for name, seconds in engine.seconds.items():
            best[name] = min(best.get(name, np.inf), seconds)
    per_event = {name: best[name] / n * 1e6 for name in (*order, "all, one after the other")}
    table("Stage by stage, one thread, best of each", ["stage", "us an event"], list(per_event.items()))
    return per_event


def state_bytes(engine: Engine) -> dict[str, float]:
    """Bytes of the rows in use, by table."""
    return {t.layout.name: int(t.tally[0]) * (t.nbytes / len(t.head)) for t in engine.state.tables}


def memory(engine: Engine) -> dict[str, float]:
    """Rows in use and the rooms kept for them, by agent; and half-space trees of River, for one agent, as the interpreter counts them."""
    agents = int(engine.state["agents"].tally[0])
    used = sum(state_bytes(engine).values())
    events = [
        {"event_id": "", "agent_id": str(i), "action": "read", "bytes": j, "tool": str(j % 7)}
        for i, j in itertools.product(range(3), range(300))
    ]
    tracemalloc.start()
    peer = half_space_trees()
    scored(peer, events)
    trees = tracemalloc.get_traced_memory()[0] / 3
    tracemalloc.stop()
    out = {"agents": agents, "state": engine.state.nbytes, "used_per_agent": used / agents, "river": trees}
    table(
        f"Memory after these events, {agents} agents",
        ["", "KiB an agent", "ratio"],
        [
            ["all that is remembered, rows in use", used / agents / 1024, 1.0],
            ["the same with the room kept free in the tables", engine.state.nbytes / agents / 1024, engine.state.nbytes / used],
            ["River HalfSpaceTrees, one an agent, defaults", trees / 1024, trees * agents / used],
        ],
    )  # fmt: skip
    return out
