"""How fast records reach Python code, no work done on them: our batch transport, stock Faust, plain aiokafka.

All three read the same topic from the same broker, one after the other, each from the start with a group of its own,
with the settings that the worker runs with. `python -m benchmarks.transport` prints the table.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
import uuid
from typing import Any

import aiokafka
import faust
from kafka.admin import KafkaAdminClient

from benchmarks.kafka import Broker
from stream.transport import batched

RECORDS = 300_000
PARTITIONS = 4
TOPIC = "benchmark.transport"
SECONDS = 300.0


def _event(r: random.Random, n: int) -> dict[str, Any]:
    return {
        "event_id": str(uuid.UUID(int=r.getrandbits(128))),
        "time": 1_700_000_000 + n / 100,
        "agent_id": f"agent-{n % 500}",
        "agent_type": f"type-{n % 7}",
        "principal": f"user{n % 90}@example.com",
        "session_id": f"session-{n // 1000}-{n % 500}",
        "action": r.choice(["read", "list", "search", "write"]),
        "tool": r.choice(["crm.get", "crm.search", "files.read"]),
        "resource": f"crm/customers/{r.randrange(10_000)}",
        "classification": r.choice(["public", "internal", "confidential"]),
        "scopes": ["crm.read"],
        "bytes": r.randrange(100_000),
    }


async def _fill(bootstrap: str) -> None:
    r = random.Random(1)
    async with aiokafka.AIOKafkaProducer(
        bootstrap_servers=bootstrap, compression_type="lz4", linger_ms=20, max_batch_size=1 << 18
    ) as producer:
        for n in range(RECORDS):
            event = _event(r, n)
            await producer.send(TOPIC, json.dumps(event).encode(), key=event["agent_id"].encode())


async def _plain(bootstrap: str) -> float:
    consumer = aiokafka.AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=bootstrap,
        group_id="plain",
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
        max_poll_records=2000,
    )
    async with consumer:
        seen, start = 0, 0.0
        while seen < RECORDS:
            polled = await consumer.getmany(timeout_ms=1000)
            if polled and not start:
                start = time.perf_counter()
            seen += sum(map(len, polled.values()))
        return RECORDS / (time.perf_counter() - start)


async def _faust(bootstrap: str, scheme: str) -> float:
    app = faust.App(
        f"benchmark-{scheme}",
        broker=f"{scheme}://{bootstrap}",
        datadir=tempfile.gettempdir(),  # it wants one, and puts nothing there
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        key_serializer="raw",
        value_serializer="raw",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4 << 20,
        broker_max_poll_records=2000,
        stream_buffer_maxsize=8 if scheme == "batches" else 8192,
        loop=asyncio.get_running_loop(),
    )
    done: asyncio.Future[float] = app.loop.create_future()
    seen, start = 0, 0.0

    def count(records: int) -> None:
        nonlocal seen, start
        start = start or time.perf_counter()
        seen += records
        if seen == RECORDS:
            done.set_result(RECORDS / (time.perf_counter() - start))

    if scheme == "batches":

        async def read_batches(stream: Any) -> None:
            async for event in stream.noack().events():
                count(len(event.value))
                event.ack()

        app.agent(batched(app, TOPIC))(read_batches)

    else:

        async def read_records(stream: Any) -> None:
            async for values in stream.take(1000, within=0.5):
                count(len(values))

        app.agent(app.topic(TOPIC, key_serializer="raw", value_serializer="raw"))(read_records)

    await app.start()
    try:
        return await asyncio.wait_for(done, SECONDS)
    finally:
        await app.stop()


def run() -> list[tuple[str, float]]:
    """Events per second of each reader, fastest expected first."""
    with Broker() as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        admin.create_topics({TOPIC: {"num_partitions": PARTITIONS, "replication_factor": 1}}, wait_for_metadata=True)
        admin.close()
        asyncio.run(_fill(broker.bootstrap))
        return [
            ("aiokafka getmany", asyncio.run(_plain(broker.bootstrap))),
            ("Faust, batch transport", asyncio.run(_faust(broker.bootstrap, "batches"))),
            ("Faust, take(1000)", asyncio.run(_faust(broker.bootstrap, "kafka"))),
        ]


def main() -> int:
    for name, rate in run():
        print(f"{name:<24}{rate:>10,.0f} events/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
