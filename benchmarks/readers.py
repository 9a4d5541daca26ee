"""What else reads the events from the same topic, each as a process of its own: `python -m benchmarks.readers NAME BOOTSTRAP RECORDS`.

aiokafka's `getmany` does nothing with them and is the yardstick. Faust and Quix Streams as they come, with one of River's half-space trees for
each agent over a few numbers of the event, are what one would write in an afternoon: it keeps its baselines in memory alone, says no
alert, and commits as the framework does by itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from typing import Any

import aiokafka
import faust
from river.anomaly import HalfSpaceTrees

from stream.topics import EVENTS

SECONDS = 600.0
Result = tuple[int, float, float]  # records, seconds by the clock and of CPU, from the first record on
AIOKAFKA, FAUST, QUIX = "aiokafka getmany", "Faust + River", "Quix Streams + River"


class _Watch:
    """Counts records, and the time since the first came."""

    def __init__(self, goal: int) -> None:
        self.seen, self.goal = 0, goal
        self._wall = self._cpu = 0.0

    def count(self, records: int) -> bool:
        """Whether that was the last."""
        if self.seen == 0:
            self._wall, self._cpu = time.perf_counter(), time.process_time()
        self.seen += records
        return self.seen >= self.goal

    def result(self) -> Result:
        return self.seen, time.perf_counter() - self._wall, time.process_time() - self._cpu


def _river() -> Callable[[dict[str, Any]], float]:
    """Score, then learn: one model an agent, of ten trees six deep."""
    models: defaultdict[str, HalfSpaceTrees] = defaultdict(lambda: HalfSpaceTrees(n_trees=10, height=6, seed=1))

    def score(event: dict[str, Any]) -> float:
        x = {
            "bytes": min(1.0, math.log1p(event.get("bytes") or 0) / 30),
            "records": min(1.0, math.log1p(event.get("records") or 0) / 20),
            "recipients": min(1.0, len(event.get("recipients") or ()) / 10),
            "tool": hash(event.get("tool")) % 1024 / 1024,
        }
        model = models[event["agent_id"]]
        found = float(model.score_one(x))
        model.learn_one(x)
        return found

    return score


def read_aiokafka(bootstrap: str, records: int) -> Result:
    """Plain `getmany`, fetching as much at once as our worker does."""

    async def run() -> Result:
        watch = _Watch(records)
        async with aiokafka.AIOKafkaConsumer(
            EVENTS,
            bootstrap_servers=bootstrap,
            group_id=f"plain-{uuid.uuid4().hex}",
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=4 << 20,
            max_poll_records=4000,
        ) as consumer:
            while True:
                polled = await consumer.getmany(timeout_ms=1000)
                if polled and watch.count(sum(map(len, polled.values()))):
                    return watch.result()

    return asyncio.run(run())


def read_faust(bootstrap: str, records: int) -> Result:
    """Stock Faust: JSON by its own serializer, one event at a time."""

    async def run() -> Result:
        app = faust.App(
            f"benchmark-faust-{uuid.uuid4().hex}",
            broker=f"kafka://{bootstrap}",
            datadir=tempfile.gettempdir(),
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            table_standby_replicas=0,
            consumer_auto_offset_reset="earliest",
            value_serializer="json",
            key_serializer="raw",
            loop=asyncio.get_running_loop(),
        )
        watch, score = _Watch(records), _river()
        done = asyncio.Event()

        @app.agent(app.topic(EVENTS, key_serializer="raw", value_serializer="json"))  # type: ignore[untyped-decorator]
        async def read(stream: Any) -> None:
            async for event in stream:
                score(event)
                if watch.count(1):
                    done.set()

        await app.start()
        try:
            await asyncio.wait_for(done.wait(), SECONDS)
            return watch.result()
        finally:
            await app.stop()

    return asyncio.run(run())


def read_quix(bootstrap: str, records: int) -> Result:
    """Quix Streams: a streaming data frame of JSON values, `update` on each."""
    app = import_module("quixstreams").Application(
        broker_address=bootstrap,
        consumer_group=f"quix-{uuid.uuid4().hex}",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        state_dir=tempfile.mkdtemp(prefix="strayline-quix-"),
        loglevel="ERROR",
    )
    watch, score = _Watch(records), _river()

    def work(event: dict[str, Any]) -> None:
        score(event)
        if watch.count(1):
            app.stop()

    app.dataframe(app.topic(EVENTS, value_deserializer="json", key_deserializer="bytes")).update(work)
    app.run()
    return watch.result()


READERS = {AIOKAFKA: read_aiokafka, FAUST: read_faust, QUIX: read_quix}


def main() -> int:
    logging.disable(logging.WARNING)
    name, bootstrap, records = sys.argv[1:]
    print(json.dumps(READERS[name](bootstrap, int(records))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
