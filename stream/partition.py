"""One partition of the events: its engine, its baselines on Kafka, and what waits to be delivered.

Score → wait for the next flush → one transaction of alerts, rejects and changed baselines with the next source offset → only then
is anything acknowledged. A crash anywhere leaves the topic as after some flush; what is read again and already learned is skipped
by its offset. So over one partition the alerts are those of a replay, whenever it was killed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from models.batch import LATE, REPEATED, SKEWED
from stream import metrics
from stream.alert import Alert
from stream.baselines import Corrupt, Reader, Writer
from stream.client import arguments
from stream.codec import Reject, encode
from stream.engine import Engine, Scored
from stream.fields import meant
from stream.replay import warn
from stream.settings import Settings
from stream.sharing import Sharing
from stream.topics import ALERTS, BASELINES, COHORTS, EVENTS, REJECTED, VERDICTS
from stream.verdict import decode_verdict

log = structlog.get_logger()
MOST_WAITING = 50_000  # records scored and not yet delivered; then scoring waits for the delivery
MOST_REJECT = 3 << 20  # bytes of a reject's value, so that it fits the topic with its headers
DELIVERY_MS = 30_000


class Partition:
    """Use `open`, then `take` for each batch and `flush` now and then; `close` when the partition goes to another worker."""

    def __init__(self, settings: Settings, number: int, executor: Executor, of: int = 1) -> None:
        """Of so many partitions."""
        self.settings = settings
        self.number = number
        self.engine = Engine(settings)
        self._sharing = Sharing(settings, self.engine, number, of, executor) if of > 1 else None
        self.next_offset = 0
        self.next_verdict = 0
        self.waiting = 0
        self._judged = 0  # records of verdicts since the last flush
        self._executor = executor
        self._writer = Writer(self.engine)
        self._scoring = asyncio.Lock()
        self._flushing = asyncio.Lock()
        self._acknowledge: list[Any] = []
        self._alerts: list[tuple[Alert, float]] = []  # with the arrival of the record that called for it
        self._rejects: list[tuple[Reject, str, bytes | None]] = []  # with the topic and the key of the record
        self._consumer: AIOKafkaConsumer | None = None  # of verdicts
        self._producer = AIOKafkaProducer(
            **arguments(settings),
            transactional_id=f"{settings.group}-{EVENTS}-{number}",
            compression_type="lz4",
            linger_ms=5,
            max_batch_size=1 << 20,
            max_request_size=8 << 20,
            request_timeout_ms=DELIVERY_MS,
            transaction_timeout_ms=60_000,
        )

    async def open(self) -> None:
        """Fence off whoever had the partition before, then restore its baselines."""
        begin = time.perf_counter()
        await self._producer.start()
        async with self._producer.transaction():
            pass  # the first transaction takes the transactional id over and ends what the last owner left open
        reader = Reader(self.engine)
        corrupt = 0
        tp = TopicPartition(BASELINES, self.number)
        consumer = AIOKafkaConsumer(
            **arguments(self.settings),
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_partition_fetch_bytes=16 << 20,
            fetch_max_bytes=64 << 20,
        )
        self._consumer = consumer
        await consumer.start()
        try:
            consumer.assign([tp])
            end = (await consumer.end_offsets([tp]))[tp]
            await consumer.seek_to_beginning(tp)
            while await consumer.position(tp) < end:
                for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, ()):
                    try:
                        reader.read(record.key, record.value)
                    except Corrupt as reason:
                        corrupt += 1
                        log.warning(
                            "corrupt baselines record left out: what it held is learned anew",
                            partition=self.number,
                            offset=record.offset,
                            reason=str(reason),
                        )
            source, said = TopicPartition(EVENTS, self.number), TopicPartition(VERDICTS, self.number)
            ends = await consumer.end_offsets([source, said])
            last = ends[source]
            # A topic that is shorter than what was read of it is a new one.
            self.next_verdict = reader.next_verdict if reader.next_verdict <= ends[said] else 0
            consumer.assign([said])
            consumer.seek(said, self.next_verdict)
            if self._sharing is not None:
                await self._sharing.open(reader.positions)
        except BaseException:
            await consumer.stop()
            raise
        metrics.CORRUPT.inc(corrupt)
        self._writer = reader.writer()
        self.next_offset = reader.next_offset
        if self.next_offset > last:
            log.warning(
                "the events topic is shorter than what was learned from it, so it is a new one: reading it from its beginning",
                partition=self.number,
                learned_to=self.next_offset,
                end=last,
            )
            self.next_offset = 0
        seconds = time.perf_counter() - begin
        metrics.RECOVERY.observe(seconds)
        log.info(
            "partition ready",
            partition=self.number,
            next_offset=self.next_offset,
            agents=int(self.engine.state["agents"].tally[0]),
            records=reader.records,
            seconds=round(seconds, 2),
        )

    async def take(self, event: Any) -> None:
        """Score a batch: `event` is Faust's, its value aiokafka's records. It is acknowledged by a later `flush`."""
        records = event.message.value
        fresh = [r for r in records if r.offset >= self.next_offset]
        if self.waiting >= MOST_WAITING:
            await self.flush()
        async with self._scoring:
            await self._heed()
            if fresh:
                scored = await asyncio.get_running_loop().run_in_executor(self._executor, self._score, fresh)
                arrived = {r.offset: r.timestamp / 1000.0 for r in fresh} if scored.alerts else {}
                self._alerts += [
                    (a, arrived[fresh[i].offset]) for a, i in zip(scored.alerts, scored.alert_positions, strict=True)
                ]
                if scored.rejects:
                    keys = {r.offset: r.key for r in fresh}
                    self._rejects += [(reject, EVENTS, keys[reject.position]) for reject in scored.rejects]
                self.next_offset = fresh[-1].offset + 1
                self.waiting += len(fresh)
                self._measure(scored, len(fresh))
            self._acknowledge.append(event)

    async def flush(self) -> None:
        """Deliver everything that waits, in one transaction, then acknowledge it. Raises what aiokafka raises if it cannot."""
        async with self._flushing:
            if self._consumer is None:  # closed meanwhile: what it holds is for the next owner
                return
            async with self._scoring:
                await self._heed()
                events, alerts, rejects = self._acknowledge, self._alerts, self._rejects
                self._acknowledge, self._alerts, self._rejects = [], [], []
                learned, self.waiting, self._judged = self.waiting + self._judged, 0, 0
                learned += self._sharing is not None and await self._sharing.receive()
                if not events and not learned:
                    return
                given = await self._sharing.exchange() if self._sharing is not None and learned else []
                positions = self._sharing.positions if self._sharing is not None else None
                records = (
                    await asyncio.get_running_loop().run_in_executor(
                        self._executor, self._writer.flush, self.next_offset, self.next_verdict, positions
                    )
                    if learned
                    else []
                )
            if records:
                with metrics.STAGE.labels("deliver").time():
                    async with self._producer.transaction():
                        sent = [
                            await self._producer.send(
                                ALERTS, encode(a), key=a.agent_id.encode("utf-8", "surrogatepass")
                            )
                            for a, _ in alerts
                        ]
                        sent += [await self._send_reject(*reject) for reject in rejects]
                        sent += [
                            await self._producer.send(BASELINES, r.value, key=r.key, partition=self.number)
                            for r in records
                        ]
                        sent += [
                            await self._producer.send(COHORTS, r.value, key=r.key, partition=self.number) for r in given
                        ]
                        await asyncio.gather(*sent)
                now = time.time()
                for _, arrived in alerts:
                    metrics.TO_ALERT.observe(max(0.0, now - arrived))
                metrics.CHANGELOG.inc(sum(len(r.value) for r in records))
                metrics.GIVEN.inc(sum(len(r.value) for r in given))
            for event in events:
                event.ack()

    async def close(self) -> None:
        """Give the partition up; what was not flushed is for the next owner."""
        async with self._flushing, self._scoring:
            await self._producer.stop()
            if self._sharing is not None:
                await self._sharing.close()
            if self._consumer is not None:
                await self._consumer.stop()
                self._consumer = None
        for gauge in (
            metrics.THRESHOLD,
            metrics.AGENTS,
            metrics.WARMING,
            metrics.STATE,
            metrics.EVENT_TIME,
            metrics.PROCESSED,
            metrics.LAG,
        ):
            with suppress(KeyError):  # never set
                gauge.remove(str(self.number))

    async def _heed(self) -> None:
        """Heed the verdicts that have come, between two batches: a person's word is not made to wait for an event of its time."""
        if self._consumer is None:  # closed meanwhile
            return
        tp = TopicPartition(VERDICTS, self.number)
        for record in (await self._consumer.getmany(tp, timeout_ms=0)).get(tp, ()):
            verdict = decode_verdict(record.value, record.offset)
            if isinstance(verdict, Reject):
                self._rejects.append((verdict, VERDICTS, record.key))
                metrics.REJECTS.labels(verdict.reason).inc()
            else:
                await asyncio.get_running_loop().run_in_executor(self._executor, self.engine.judge, verdict)
                metrics.VERDICTS.labels(verdict.verdict).inc()
                log.info(
                    "verdict heeded",
                    partition=self.number,
                    alert_id=verdict.alert_id,
                    verdict=verdict.verdict,
                    by=verdict.by,
                    before_offset=self.next_offset,
                )
            self.next_verdict = record.offset + 1
            self._judged += 1

    def _score(self, records: Sequence[Any]) -> Scored:
        with metrics.STAGE.labels("decode").time():
            decoded = self.engine.decode([r.value for r in records], [r.offset for r in records])
        metrics.UNKNOWN_FIELDS.inc(decoded.unknown)
        for name in decoded.new:
            log.warning("unknown field", field=name, do=meant(name), partition=self.number)
        with metrics.STAGE.labels("score").time():
            scored = self.engine.score(decoded)
        warn(scored)
        return scored

    async def _send_reject(self, reject: Reject, topic: str, key: bytes | None) -> Any:
        value = reject.raw[:MOST_REJECT]
        headers = {
            "reason": reject.reason,
            "detail": reject.detail,
            "topic": topic,
            "partition": str(self.number),
            "offset": str(reject.position),
        }
        if len(value) < len(reject.raw):
            headers["cut_from_bytes"] = str(len(reject.raw))
        return await self._producer.send(
            REJECTED,
            value,
            key=key,
            headers=[(k, v.encode("utf-8", "surrogatepass")) for k, v in headers.items()],
        )

    def _measure(self, scored: Scored, records: int) -> None:
        state, number = self.engine.state, str(self.number)
        metrics.BATCH.observe(records)
        metrics.EVENTS.inc(len(scored.events))
        for reject in scored.rejects:
            metrics.REJECTS.labels(reject.reason).inc()
        metrics.LATE.inc(int((scored.marks & LATE > 0).sum()))
        metrics.SKEWED.inc(int((scored.marks & SKEWED > 0).sum()))
        metrics.REPEATED.inc(int((scored.marks & REPEATED > 0).sum()))
        metrics.REVISIONS.inc(len(scored.alerts))
        for alert in scored.alerts:
            if alert.revision == 1:
                metrics.ALERTS.labels(alert.severity).inc()
        metrics.SCORES.observe(scored.score)
        for level, n in scored.shifts.items():
            metrics.DRIFTS.labels(level).inc(n)
        metrics.MERGED.inc(scored.merged)
        for name, gone in scored.evicted.items():
            metrics.EVICTIONS.labels(name).inc(gone)
        fleet = state.fleet
        metrics.THRESHOLD.labels(number).set(self.engine.threshold)
        metrics.AGENTS.labels(number).set(int(state["agents"].tally[0]))
        metrics.WARMING.labels(number).set(max(0, int(fleet["warming"])))
        metrics.STATE.labels(number).set(state.nbytes)
        metrics.EVENT_TIME.labels(number).set(float(fleet["clock"]))
        metrics.PROCESSED.labels(number).set(self.next_offset)
