"""Events that gateways write in transactions, on a real broker: what was aborted is no event, and what is not ended yet has to wait."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer

from stream.topics import EVENTS
from tests.site import Record, Site, fleet

STALL = "3"

pytestmark = pytest.mark.usefixtures("compiled")


@asynccontextmanager
async def gateway(site: Site, name: str) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(bootstrap_servers=site.bootstrap, transactional_id=name, linger_ms=2) as producer:
        yield producer


async def send(producer: AIOKafkaProducer, records: Sequence[Record]) -> None:
    await producer.begin_transaction()
    await asyncio.gather(*[await producer.send(EVENTS, value, key=key) for key, value in records])


@pytest.mark.kafka
def test_what_a_gateway_aborted_is_not_scored_and_what_it_has_not_ended_waits_without_a_stall(site, unique):
    """The operator is told what the events wait for; alerts and baselines are those of a replay of what was committed."""
    records = fleet(31, agents=12, days=6, garbage=0.0)
    part = len(records) // 5

    async def run() -> None:
        async with gateway(site, unique("one")) as one, gateway(site, unique("two")) as two:
            await asyncio.to_thread(site.produce, records[:part])
            await send(one, fleet(32, agents=12, days=5, garbage=0.0))
            await one.abort_transaction()
            await send(one, records[part : 2 * part])
            await one.commit_transaction()
            with site.worker(STRAYLINE_STALL_SECONDS=STALL) as worker:
                await asyncio.to_thread(worker.until, lambda: site.committed().get(0, 0) >= site.end(EVENTS) - 1)
                assert worker.metric("strayline_events_total") == 2 * part
                await send(two, records[2 * part : 3 * part])
                await asyncio.to_thread(site.produce, records[3 * part : 4 * part])
                told = "events wait for a transaction that a producer has not ended"
                await asyncio.to_thread(worker.until, lambda: told in worker.log.read_text())
                with pytest.raises(subprocess.TimeoutExpired):
                    await asyncio.to_thread(worker.process.wait, 2 * float(STALL))
                assert worker.metric("strayline_events_total") == 2 * part
                assert worker.metric("strayline_consumer_lag_records", partition="0") == 2 * part
                assert worker.log.read_text().count(told) == 1
                await two.commit_transaction()
                await asyncio.to_thread(site.produce, records[4 * part :])
                end = site.end(EVENTS)
                await asyncio.to_thread(worker.until, lambda: site.committed() == {0: end})
                assert worker.metric("strayline_events_total") == len(records)
                assert worker.stop() == 0

    asyncio.run(run())
    assert len(site.same_as_replay()) > 10


@pytest.mark.kafka
def test_who_would_rather_not_wait_for_transactions_scores_what_is_aborted_too(site, unique):
    records = fleet(31, agents=12, days=5, garbage=0.0)

    async def run() -> None:
        async with gateway(site, unique("one")) as one:
            await send(one, records)
            with site.worker(STRAYLINE_ISOLATION="read_uncommitted") as worker:
                await asyncio.to_thread(worker.until_scored, len(records))
                await one.abort_transaction()
                assert worker.metric("strayline_events_total") == len(records)
                assert worker.stop() == 0

    asyncio.run(run())
