"""One partition of the events: its engine, its baselines on Kafka, and what waits to be delivered.

Decode → score → wait for the next flush → one transaction of alerts, rejects and changed baselines with the next source offset → only then
is anything acknowledged. A crash anywhere leaves the topic as after some flush; what is read again and already learned is skipped
by its offset. So over one partition the alerts are those of a replay, whenever it was killed.

A rebalance takes every partition away, also those that come back at once. So a closed partition keeps its engine, and where its last record of baselines
lies: opened again it reads what others have written since, which is nothing where nobody had it in between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from msgspec import to_builtins

from stream import gap, metrics
from stream.baselines import Position, Reader, Writer, learned_with
from stream.client import arguments
from stream.codec import Events, Reject
from stream.delivery import Refused, deliver, sender
from stream.engine import Decoded, Engine, Ran
from stream.evictions import Evictions
from stream.explain import baseline
from stream.fetched import Damaged
from stream.fields import meant
from stream.others import Others
from stream.outbox import Outbox
from stream.placement import Placement
from stream.records import Records
from stream.recovery import Recovery
from stream.replay import warn
from stream.settings import Settings
from stream.sharing import Sharing
from stream.topics import BASELINES, EVENTS, VERDICTS, event_ends, is_another
from stream.unfit import Unfit
from stream.verdict import Reset, decode_verdict

log = structlog.get_logger()
_T = TypeVar("_T")


class Threads(NamedTuple):
    """Where the work is done that does not need the interpreter, one batch at a time in each: while one is scored, the next is decoded. What a batch
    means is told between them, in the thread of the loop: another one would only fight with it for the interpreter."""

    decode: Executor
    score: Executor


def threads() -> Threads:
    """For all partitions of a worker."""
    return Threads(ThreadPoolExecutor(1, "decode"), ThreadPoolExecutor(1, "score"))


class Taken(NamedTuple):
    """A batch that was decoded: what of it was not learned before, and the event of Faust that it came in."""

    event: Any
    records: Records
    decoded: Decoded | None  # None: nothing of it is new


class Partition:
    """Use `open`, then `decode` and `score` for each batch, in order, and `flush` now and then; `close` when the partition is taken away, and `open` again should it come back."""

    def __init__(
        self,
        settings: Settings,
        number: int,
        work: Threads,
        is_current: Callable[[Any], bool],
        others: Others | None = None,
        source: str = "",
        first_of: gap.FirstOf | None = None,
    ) -> None:
        """`is_current` tells of a message of Faust whether the partition was not taken away since it was delivered; `others` are there where it is not the only one; `source` is the id of the events topic."""
        self.settings = settings
        self.number = number
        self.engine = Engine(settings)
        self._sharing = Sharing(settings, self.engine, number, others, work.score) if others is not None else None
        self.next_offset = 0
        self.next_verdict = 0
        self._source = source
        self._reading = gap.Reading(settings, number, first_of)
        self.news = asyncio.Event()  # for whoever calls `flush`: better now than later
        self._threads = work
        self._is_current = is_current
        self._writer = Writer(self.engine)
        self._scoring = asyncio.Lock()
        self._flushing = asyncio.Lock()
        self._untold: tuple[Ran, Taken] | None = None  # the batch that was scored last
        self._outbox = Outbox()
        self._unfit = Unfit(number)
        self._evictions = Evictions(number, settings.state_mib)
        self._placement = Placement(number, others.of if others is not None else 1)
        self._consumer: AIOKafkaConsumer | None = None  # of verdicts
        self._producer: AIOKafkaProducer | None = None
        self._recovery = Recovery(number)
        self.moved_at = time.monotonic()
        self.delivering_since: float | None = None  # by the monotonic clock; None while nothing is being delivered

    @property
    def undelivered(self) -> bool:
        """Whether anything waits for the next flush, or is being delivered."""
        return self._outbox.learned or bool(self._outbox.events) or self._flushing.locked()

    @property
    def read(self) -> int:
        """Records read since it was last opened: of baselines, and of what partitions have given of cohorts."""
        return self._recovery.read + (self._sharing.read if self._sharing is not None else 0)

    async def open(self) -> None:
        """Fence off whoever had the partition before, then restore its baselines, or what of them is new."""
        opened = time.perf_counter()
        self._recovery.begin()
        producer = sender(self.settings, self.number)
        await producer.start()
        async with producer.transaction():
            pass  # the first transaction takes the transactional id over and ends what the last owner left open
        consumer = AIOKafkaConsumer(
            **arguments(self.settings),
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_partition_fetch_bytes=16 << 20,
            fetch_max_bytes=64 << 20,
        )
        await consumer.start()
        try:
            stored, source, said = (TopicPartition(name, self.number) for name in (BASELINES, EVENTS, VERDICTS))
            consumer.assign([stored, source, said])  # asked about a topic that it does not know, it takes a second
            consumer.pause(stored, source, said)
            ends = await consumer.end_offsets([stored, source, said])
            consumer.assign([stored])
            positions = await self._go_on(consumer, ends[stored])
            went_on = positions is not None
            if positions is None:
                positions = await self._begin(consumer, ends[stored])
            # A topic that is shorter than what was read of it is a new one.
            self.next_verdict = self.next_verdict if self.next_verdict <= ends[said] else 0
            last, first = ends[source], (await consumer.beginning_offsets([source]))[source]
            if self.next_offset > last:  # to this consumer a topic ends where a gateway's transaction is still open
                _, told = await asyncio.to_thread(event_ends, self.settings)
                last = told[self.number].offset
            consumer.assign([said])
            consumer.seek(said, self.next_verdict)
            if self._recovery.spoiled:  # and what it held of cohorts can be put together anew
                positions.pop(self.number, None)
            if self._sharing is not None:
                await self._sharing.open(self.engine, positions, same=went_on and not self._recovery.read)
        except BaseException:
            await consumer.stop()
            await producer.stop()
            raise
        # Only now: whoever delivers or scores for it meanwhile, not knowing yet that it was taken away, finds it closed.
        self._producer, self._consumer = producer, consumer
        anew = is_another(self._writer.source, self._source)
        self.next_offset = gap.go_on_from(self.number, self.next_offset, first, last, anew=anew)
        self._writer.source = self._source or self._writer.source
        self._reading.begin(self.next_offset, first)
        self.moved_at = time.monotonic()
        seconds = time.perf_counter() - opened
        metrics.RECOVERY.observe(seconds)
        log.info(
            "partition ready",
            partition=self.number,
            next_offset=self.next_offset,
            agents=int(self.engine.state["agents"].tally[0]),
            records=self._recovery.read,
            baselines=self._recovery.told(went_on=went_on),
            seconds=round(seconds, 2),
        )

    async def _begin(self, consumer: AIOKafkaConsumer, end: int) -> dict[int, Position]:
        """Read all of the baselines into an engine that knows nothing; how far it had come with what other partitions gave."""
        self.engine = Engine(self.settings)
        self._outbox.forget()
        reader = await self._recovery.of_all(consumer, self.engine, end)
        self.next_offset, self.next_verdict = reader.next_offset, reader.next_verdict
        self._writer = self._writer_of(reader)
        self._recovery.see_whole(self.engine)
        return reader.positions

    async def _go_on(self, consumer: AIOKafkaConsumer, end: int) -> dict[int, Position] | None:
        """Apply what others have written since, as `_begin`; None where that cannot be, for then all is to be read again."""
        reader = Reader(self.engine, self._writer)
        reader.next_offset, reader.next_verdict = self.next_offset, self.next_verdict
        reader.positions = self._sharing.positions if self._sharing is not None else {}
        knows_more = self._outbox.learned or self._writer.anew
        if not await self._recovery.of_the_rest(consumer, reader, end, knows_more=knows_more):
            return None
        if self._recovery.read:
            self.engine.restored = False
            self.next_offset, self.next_verdict = reader.next_offset, reader.next_verdict
            self._writer = self._writer_of(reader)
        return reader.positions

    def write_anew(self) -> None:
        """The topic of baselines is another: whoever comes next finds there only what is written from now on."""
        self._writer.begin_anew()
        self._outbox.judged += 1  # so that it is delivered, though nothing may come to be learned

    def _writer_of(self, reader: Reader) -> Writer:
        """All is read: say what of it was another program's."""
        writer = reader.writer()
        if reader.migrated:
            log.warning(
                "baselines of another layout were read: the next flush writes all of them anew, and takes longer",
                partition=self.number,
                left_out=reader.left_out,
            )
        if reader.learned not in (None, now := learned_with(self.engine)):
            log.warning(
                "baselines were learned under other settings: what is known of classes, or of who is inside, is so of the old ones, and learned anew; "
                "all workers need the same STRAYLINE_CLASSIFICATIONS and STRAYLINE_DOMAINS",
                partition=self.number,
                before=to_builtins(reader.learned),
                now=to_builtins(now),
            )
        return writer

    @property
    def somebody_waits(self) -> bool:
        """Whether somebody waits for what was scored."""
        return self._outbox.somebody_waits

    @property
    def is_due(self) -> bool:
        """Whether what it has learned of cohorts should be exchanged for what the others have before it scores on."""
        return self._sharing is not None and self._outbox.learned and self._sharing.is_due

    async def decode(self, event: Any) -> Taken:
        """Decode a batch: `event` is Faust's, its value `Records`. It changes nothing, so the ones before may still be scored."""
        return await self._decoded(event, event.message.value.since(self.next_offset))

    async def score(self, taken: Taken, meanwhile: Callable[[], None]) -> None:
        """Score a batch. `tell` says what follows from it, and a later `flush` acknowledges it. What is done `meanwhile` has the interpreter for itself."""
        if self._outbox.full:
            await self.flush()
        async with self._scoring:
            if self._consumer is None or not self._is_current(taken.event.message):
                # Taken away meanwhile, and perhaps given back: what lies between here and there would be left out.
                return
            await self._heed()
            if taken.decoded is not None and taken.records.position[0] < self.next_offset:
                # It was delivered a second time, and decoded before the first was learned.
                taken = await self._decoded(taken.event, taken.records.since(self.next_offset))
            if taken.decoded is not None:
                await self._reading.see(taken.event.message.value, taken.records, self.next_offset)
                scoring = self._run(self._threads.score, self._learn, taken.decoded)
                meanwhile()
                ran = await scoring
                self.tell()
                self._untold = ran, taken
                self.next_offset = int(taken.records.position[-1]) + 1
                self._outbox.scored += len(taken.records)
            else:
                taken.event.message.value.clear()
            self._outbox.events.append(taken.event)

    def tell(self) -> None:
        """Say what the last scored batch means, if that was not done yet: its alerts and rejects then wait to be delivered."""
        if self._untold is None:
            return
        (ran, taken), self._untold = self._untold, None
        fresh = taken.records
        with metrics.STAGE.labels("tell").time():
            scored = self.engine.tell(ran)
        warn(scored)
        self._outbox.say(scored.alerts, [float(fresh.timestamp[i]) / 1000.0 for i in scored.alert_positions])
        for reject in scored.rejects:
            key = fresh.key(int(np.searchsorted(fresh.position, reject.position)))
            self._outbox.refuse(Refused(reject, EVENTS, key))
        self._unfit.add(scored.rejects)
        self._evictions.add(scored.evicted)
        if scored.batch is not None:
            metrics.MISPLACED.inc(self._placement.look(scored.events, scored.batch.agent.hash))
        metrics.observe(self.number, self.engine, scored, len(fresh))
        metrics.PROCESSED.labels(str(self.number)).set(self.next_offset)
        # It may wait for long to be acknowledged; its records need not stay in memory for that.
        taken.event.message.value.clear()

    async def flush(self, scoring_may: asyncio.Event | None = None) -> float:
        """Deliver everything that waits, in one transaction, then acknowledge it; the seconds for which scoring had to wait, and `scoring_may` go on.

        Raises what aiokafka raises if it cannot.
        """
        held = 0.0
        async with self._flushing:
            producer = self._producer
            if producer is None:  # closed meanwhile: what it holds is for the next owner
                return held
            async with self._scoring:
                self.tell()
                await self._heed()
                events, alerts, rejects, learned = self._outbox.empty()
                learned += self._sharing is not None and await self._sharing.receive()
                if not events and not learned:
                    return held
                begin = time.perf_counter()
                given = await self._sharing.exchange() if self._sharing is not None and learned else []
                records = (
                    await self._run(
                        self._threads.score,
                        self._writer.flush,
                        self.next_offset,
                        self.next_verdict,
                        self._sharing.positions if self._sharing is not None else None,
                    )
                    if learned
                    else []
                )
                held = time.perf_counter() - begin
            if scoring_may is not None:
                scoring_may.set()
            metrics.STAGE.labels("changes").observe(held)
            if records:
                self.delivering_since = time.monotonic()
                with metrics.STAGE.labels("deliver").time():
                    self._recovery.last = await deliver(
                        producer, self.number, [a for a, _ in alerts], rejects, given, records, self._move
                    )
                self.delivering_since = None
                now = time.time()
                for _, arrived in alerts:
                    metrics.TO_ALERT.observe(max(0.0, now - arrived))
                metrics.CHANGELOG.inc(sum(len(r.value or b"") for r in records))
                metrics.GIVEN.inc(sum(len(r.value or b"") for r in given))
            for event in events:
                event.ack()
            self.moved_at = time.monotonic()
        return held

    def _move(self) -> None:
        """A delivery goes on, however long it takes: to the watchdog that is no stall."""
        self.moved_at = time.monotonic()

    async def explain(self, agent_id: str) -> dict[str, Any] | None:
        """All that is known of an agent; None if nothing is, or the partition is closed. Between two batches: a table may grow within one."""
        async with self._scoring:
            return baseline(self.engine, agent_id) if self._consumer is not None else None

    async def close(self) -> None:
        """Give the partition up; what was not flushed is for the next owner, unless that is us."""
        async with self._flushing, self._scoring:
            self.tell()
            if self._producer is not None:
                await self._producer.stop()
            if self._sharing is not None:
                await self._sharing.close()
            if self._consumer is not None:
                await self._consumer.stop()
            self._producer = self._consumer = None
            self._outbox.events = []  # they are read again, from what was committed
        metrics.forget(self.number)

    async def _heed(self) -> None:
        """Heed the verdicts that have come, between two batches: a person's word is not made to wait for an event of its time."""
        if self._consumer is None:  # closed meanwhile
            return
        tp = TopicPartition(VERDICTS, self.number)
        for record in (await self._consumer.getmany(tp, timeout_ms=0)).get(tp, ()):
            verdict = decode_verdict(record.value, record.offset)
            if isinstance(verdict, Reject):
                self._outbox.refuse(Refused(verdict, VERDICTS, record.key))
                metrics.REJECTS.labels(verdict.reason).inc()
            else:
                self.tell()
                alerts = await self._run(self._threads.score, self.engine.judge, verdict)
                self._outbox.say(alerts, [record.timestamp / 1000.0] * len(alerts))
                metrics.VERDICTS.labels(verdict.verdict).inc()
                if isinstance(verdict, Reset) and not self.engine.knows(verdict.agent_id):
                    log.warning(
                        "a reset names an agent that is not known here; is it spelled right?", agent_id=verdict.agent_id
                    )
                log.info(
                    "verdict heeded",
                    partition=self.number,
                    agent_id=verdict.agent_id,
                    alert_id=None if isinstance(verdict, Reset) else verdict.alert_id,
                    verdict=verdict.verdict,
                    by=verdict.by,
                    before_offset=self.next_offset,
                )
            self.next_verdict = record.offset + 1
            self._outbox.judged += 1

    def _run(self, where: Executor, what: Callable[..., _T], *given: Any) -> asyncio.Future[_T]:
        return asyncio.get_running_loop().run_in_executor(where, what, *given)

    async def _decoded(self, event: Any, fresh: Records) -> Taken:
        return Taken(event, fresh, await self._run(self._threads.decode, self._decode, fresh) if fresh else None)

    def _decode(self, records: Records) -> Decoded:
        if isinstance(records, Damaged):  # nobody can tell what events it had
            unfit = Reject(records.reason, records.detail, int(records.position[-1]), records[0] or b"")
            return Decoded(Events([], {}), [], None, [unfit])
        with metrics.STAGE.labels("decode").time():
            decoded = self.engine.decode(records, records.position)
        metrics.UNKNOWN_FIELDS.inc(decoded.unknown)
        for name in decoded.new:
            log.warning("unknown field", field=name, do=meant(name), partition=self.number)
        return decoded

    def _learn(self, decoded: Decoded) -> Ran:
        with metrics.STAGE.labels("score").time():
            return self.engine.run(decoded)
