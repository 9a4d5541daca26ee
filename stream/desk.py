"""The desk of a worker: the partitions that it holds, what is scored and delivered for them, and what of it all should move."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NoReturn

import structlog
from faust.types import TP

from stream import metrics
from stream.delivery import TooLargeError
from stream.errors import StraylineError, TopicsError
from stream.held_up import HeldUp, slow
from stream.log import fatal
from stream.membership import NAMESAKE, Membership
from stream.others import Others
from stream.partition import Partition, Taken, threads
from stream.settings import COMMITTED, Settings
from stream.topics import BASELINES, EVENTS, End, Known, event_ends, is_another
from stream.watchdog import Watched
from stream.words import counted

log = structlog.get_logger()
# Records that one poll brings, and so at most a batch: what it costs to score them is what an alert waits for.
POLL = 8000
AHEAD = 1  # batches that wait decoded, or being decoded, behind the one that is scored, and one more is taken: what that one means keeps the loop from asking for the next
BEHIND = 4  # times as long between two deliveries
OPENING = 4  # partitions at once: each holds what it fetched, up to 64 MiB
PATIENCE = 5.0  # times as long as a stall: the group is for others to form, too, and one partition may wait while others catch up
BEAT_SECONDS = 0.5
STOP_SECONDS = 30.0  # for delivering what was scored, once it is told to stop
LOOK_SECONDS = 20.0
AGAIN_SECONDS = 1.0  # after one that the broker did not answer: of several one may have ended at that moment


class Desk:
    """The partitions that this worker holds, `of` so many, the tasks that deliver for them, and what of it all should move (`stream.watchdog`)."""

    def __init__(self, app: Any, settings: Settings, known: Known) -> None:
        """`known` is what the topics were found to be."""
        self.app = app
        self._source, self._baselines = known.events, known.baselines
        self.settings = settings
        self.of = known.partitions
        self.partitions: dict[int, Partition] = {}  # whose baselines are read
        self.held: set[int] = set()
        self.rebalancing = True
        self._assigned = 0  # how often partitions were
        self._opening: dict[int, asyncio.Task[Partition]] = {}  # of every partition held, done or not
        self._left: dict[int, Partition] = {}  # taken away by the rebalance that is going on, and perhaps to come back
        self._turn = asyncio.Semaphore(OPENING)
        self._threads = threads()
        self._taken: asyncio.Queue[tuple[Partition, asyncio.Task[Taken]]] = asyncio.Queue(AHEAD)  # to be scored in turn
        self._untold: Partition | None = None  # whose last batch is scored, and perhaps not told of
        self._delivering: dict[int, asyncio.Task[None]] = {}
        self._flushes: set[asyncio.Task[float]] = set()  # that exchange what was learned, and deliver it
        self._reading: dict[int, Partition] = {}  # whose turn it is to read baselines
        self._tasks: list[asyncio.Task[None]] = []
        self._others = Others(settings, self.of, self._threads.score) if self.of > 1 else None
        self._look = asyncio.Event()  # at the topics, now
        self._membership = Membership(settings)
        self.stopping = False
        self.beats = 0
        self._unanswered: float | None = None  # since when the broker has not answered
        self._ends: list[End] = []  # of the events' partitions, as the broker told when it was last asked
        self._held_up = HeldUp(settings)

    @property
    def waiting_for(self) -> str | None:
        """What it cannot answer for yet; None when it is ready."""
        if self._unanswered is not None:
            return f"no answer from the broker for {time.monotonic() - self._unanswered:.0f} s"
        if self.rebalancing:
            return "waiting for partitions"
        if not self.app.consumer.flow_active:
            return "waiting for the group to say from where on to read"
        unread = sorted(self.held - self.partitions.keys())
        return f"reading baselines of partitions {unread}" if unread else None

    async def take(self, event: Any) -> None:
        """Have a batch decoded and, after those before it, scored. Waits for the baselines of its partition, and while too many are ahead."""
        if not self._is_current(event.message):  # taken away since: to open it would fence whoever has it now
            return
        try:
            partition = await asyncio.shield(self._opened(event.message.partition))  # others wait for it too
        except Exception as error:  # noqa: BLE001  # nothing was acknowledged
            fatal("a batch could not be taken; it will be read again", error)
        await self._taken.put((partition, asyncio.get_running_loop().create_task(partition.decode(event))))

    async def score_for_ever(self) -> None:
        """Score what was taken, one batch after the other; meanwhile say what the one before means, or at once where none is there to follow."""
        while True:
            partition, decoding = await self._taken.get()
            try:
                taken = await decoding
                if partition.is_due:
                    await self._exchange(partition)
                await partition.score(taken, self._tell)
                self._tell()
                self._untold = partition
                if self._taken.empty():
                    self._tell()
            except Exception as error:  # noqa: BLE001  # the one guard: whatever it is, nothing was acknowledged
                fatal("a batch could not be scored; it will be read again", error)

    def _tell(self) -> None:
        partition, self._untold = self._untold, None
        if partition is not None:
            partition.tell()
            self._look_for_news(partition)

    def _look_for_news(self, partition: Partition) -> None:
        """Have it delivered now, if somebody waits for it."""
        behind = self._measure_lag(partition)
        if self.app.consumer.draining or (partition.somebody_waits and (behind is None or behind < POLL)):
            partition.news.set()

    def hurry(self) -> None:
        """Deliver what was scored: a rebalance, or the end, waits for it."""
        for partition in self.partitions.values():
            partition.news.set()

    async def revoked(self, app: Any, revoked: Any, **_: Any) -> None:
        """A rebalance begins, and takes all partitions: Faust has waited for what we had in hand. Most will come back."""
        del app
        self.rebalancing = True
        for tp in revoked:
            self.held.discard(tp.partition)
            opening = self._opening.pop(tp.partition, None)
            if opening is not None:
                # Not cancelled: a transactional id taken over halfway would be in the next owner's way.
                partition = await opening
                self.partitions.pop(tp.partition, None)
                await partition.close()
                self._left[tp.partition] = partition

    async def assigned(self, app: Any, assigned: Any, **_: Any) -> None:
        """Partitions are ours now. Their baselines are read meanwhile: the group must not wait for that."""
        del app
        metrics.REBALANCES.inc()
        self.held = {tp.partition for tp in assigned if tp.topic == EVENTS}
        self._left = {number: left for number, left in self._left.items() if number in self.held}
        self.rebalancing = False
        self._assigned += 1
        self._look.set()
        log.info("partitions assigned", partitions=sorted(self.held))
        gone = sorted(number for number in self.held if number >= self.of)
        if gone:  # who restarts under its fixed name is given what it had
            log.warning("partitions that the topic no longer has were given: joining the group again", partitions=gone)
            self.app.consumer.rejoin()
            return
        for number in sorted(self.held):
            self._opened(number)

    @property
    def consumer_loop(self) -> asyncio.AbstractEventLoop | None:
        """Of the thread in which the consumer of events runs."""
        loop: asyncio.AbstractEventLoop | None = getattr(
            getattr(self.app.consumer, "_thread", None), "thread_loop", None
        )
        return loop

    def begin(self) -> None:
        """Start what goes on for as long as the process does."""
        loop = asyncio.get_running_loop()
        forever = (self.beat_for_ever(), self.look_for_ever(), self.score_for_ever())
        self._tasks = [loop.create_task(each) for each in forever]

    async def beat_for_ever(self) -> None:
        """Show that the loop comes round, and a stand-by to its consumer."""
        while True:
            self.beats += 1
            metrics.READY.set(self.waiting_for is None)
            trouble = self.app.consumer.trouble()
            if trouble is not None and not self.stopping:
                fatal(
                    f"the consumer has left its group; the worker will go on where it was after a restart; if that comes again, {NAMESAKE}",
                    trouble,
                )
            self._membership.see(self.app.consumer.member())
            if not self.held and not self.rebalancing and not self.stopping:
                self.app.consumer.stay()
            await asyncio.sleep(BEAT_SECONDS)

    async def look_for_ever(self) -> None:
        """See that the topics are still there and what they were, now and then and whenever partitions come: a broker may come back without them."""
        while True:
            with suppress(TimeoutError):
                every = look_seconds(self.settings)
                await asyncio.wait_for(
                    self._look.wait(), every if self._unanswered is None else min(every, AGAIN_SECONDS)
                )
            self._look.clear()
            scored = {number: partition.next_offset for number, partition in self.partitions.items()}
            try:
                (_, source, baselines), ends = await asyncio.to_thread(event_ends, self.settings)
            except TopicsError as error:
                fatal(str(error))
            except StraylineError as error:
                if self._unanswered is None:
                    self._unanswered = time.monotonic()
                    log.warning("the broker does not answer; waiting for it", error=str(error))
                continue  # it cannot be reached: the clients try again, and what cannot be delivered ends the process
            if self._unanswered is not None:
                log.info("the broker answers again", seconds=round(time.monotonic() - self._unanswered))
                self._unanswered = None
            shorter = [number for number, offset in scored.items() if offset > ends[number].offset]
            if shorter or is_another(self._source, source):
                why = f"partitions {shorter} are shorter than what was read of them" if shorter else "its id is another"
                fatal(
                    f"{EVENTS} was made anew: {why}. After a restart it is read from its beginning, with the baselines as they are"
                )
            if is_another(self._baselines, baselines):
                log.warning("the topic of baselines was made anew: all that is known is written again", topic=BASELINES)
                for partition in self.partitions.values():
                    partition.write_anew()
            self._baselines = baselines or self._baselines
            self._held_up.see_events(self.held, self._ends, ends)
            self._held_up.see_deliveries(self.partitions, look_seconds(self.settings))
            self._ends = ends
            with suppress(StraylineError):
                await self._membership.claim(lambda: not self.held and not self.rebalancing, self.app.consumer.rejoin)

    def watched(self) -> Iterator[Watched]:
        """What should move, or end the process; asked from another thread."""
        patient = self.settings.stall_seconds
        yield Watched("loop", self.beats, patient, "the event loop has not come round")
        if self.stopping:
            drain = "it could not deliver what was scored since it was told to stop (what was not committed will be read again),"
            yield Watched("stop", None, STOP_SECONDS, drain)
            return
        if self.rebalancing:
            yield Watched("group", None, PATIENCE * patient, "the group has not given this worker its partitions")
        elif not self.app.consumer.flow_active:  # Faust asks once, gives up after half a minute and tells nobody
            where = "the group has not said from where on to read its partitions"
            yield Watched("flow", self._assigned, patient, where)
        if self._membership.unheld:
            idle = f"partitions {self._membership.unheld} have been nobody's, though this worker has none,"
            yield Watched("claim", None, PATIENCE * patient, idle)
        for number, partition in list(self._reading.items()):
            reading = f"of the baselines of partition {number} nothing more was read after {partition.read} records,"
            yield Watched(f"baselines {number}", (id(partition), partition.read), patient, reading)
        partitions = list(self.partitions.items())
        done = sum(partition.next_offset for _, partition in partitions)
        for number, partition in partitions:
            behind = 0 if self._reading else self._behind(partition)
            if behind:
                said = f"partition {number} has {counted(behind, 'event')} not scored, and scored none"
                yield Watched("all", done, patient, said)
                yield Watched(f"events {number}", partition.next_offset, PATIENCE * patient, said)
            if partition.undelivered:
                silent = "" if self._unanswered is None else "the broker does not answer, and "
                kept = f"{silent}what partition {number} has scored was not delivered"
                yield Watched(
                    f"delivery {number}", partition.moved_at, patient + BEHIND * self.settings.flush_seconds, kept
                )
        yield from (Watched(name, None, BEAT_SECONDS, said) for name, said in self._ended())

    def _ended(self) -> Iterator[tuple[str, str]]:
        """What runs for as long as the process does, and no longer runs."""
        if any(number in self.partitions and task.done() for number, task in self._delivering.items()):
            yield "delivery", "a task that delivers has been gone"
        if any(task.done() for task in self._tasks):
            yield "task", "a task that scores or looks after the worker has been gone"
        for agent in self.app.agents.values():
            if any(actor.actor_task is not None and actor.actor_task.done() for actor in list(agent._actors)):  # noqa: SLF001
                yield "agent", "the task that takes events has been gone"
        thread = getattr(getattr(self.app.consumer, "_thread", None), "_thread", None)
        if thread is not None and not thread.is_alive():
            yield "consumer", "the thread of the consumer has been gone"

    async def _deliver(self, number: int) -> None:
        """Deliver for a partition, again and again, for as long as it is here. It outlives Faust's services, which wait for it when they stop.

        Baselines wait for `STRAYLINE_FLUSH_SECONDS`; alerts and rejects for nothing but the delivery under way, and a rest as long as
        the last one kept scoring waiting. Whoever is further behind than a poll can bring waits in any case, and four times as long: its alerts are late
        already, and many small transactions would make them later.
        """
        every = self.settings.flush_seconds
        while (partition := self.partitions.get(number)) is not None:
            for _ in range(BEHIND):
                with suppress(TimeoutError):
                    async with asyncio.timeout(every):
                        await partition.news.wait()
                if partition.news.is_set() or (self._behind(partition) or 0) < POLL:
                    break
            partition.news.clear()
            held = await self._flush(partition)
            self._measure_lag(partition)  # where no record comes too
            await asyncio.sleep(min(every, held))

    async def _flush(self, partition: Partition, scoring_may: asyncio.Event | None = None) -> float:
        try:
            return await partition.flush(scoring_may)
        except TooLargeError as error:
            fatal(error.told(self.settings))
        except Exception as error:  # noqa: BLE001  # delivery failed for good: nothing of it was acknowledged
            why = (
                slow(self.settings, partition, look_seconds(self.settings))
                or f". Is the broker up? `strayline topics` tells; if it is, {NAMESAKE}"
            )
            await self._give_up(
                f"alerts and baselines could not be delivered; they will be made again after a restart{why}",
                error,
            )

    async def _exchange(self, partition: Partition) -> None:
        """Have a partition give and take what was learned of cohorts; what this delivers is delivered meanwhile."""
        loop, may = asyncio.get_running_loop(), asyncio.Event()
        flushing, waiting = loop.create_task(self._flush(partition, may)), loop.create_task(may.wait())
        self._flushes.add(flushing)
        flushing.add_done_callback(self._flushes.discard)
        await asyncio.wait({flushing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async def close(self) -> None:
        """Let every delivery under way end: Faust waits for those of events, and not for those of verdicts. What is being opened has nothing to deliver, and is left."""
        openings = [opening for opening in self._opening.values() if opening.cancel()]
        await asyncio.gather(*openings, return_exceptions=True)
        await asyncio.gather(*(partition.close() for partition in self.partitions.values()))

    def _opened(self, number: int) -> asyncio.Task[Partition]:
        """The task that opens a partition, begun if this is the first to ask."""
        if number not in self._opening:
            self._opening[number] = asyncio.get_running_loop().create_task(self._open(number))
        return self._opening[number]

    async def _open(self, number: int) -> Partition:
        async with self._turn:
            partition = self._left.pop(number, None) or Partition(
                self.settings, number, self._threads, self._is_current, self._others, self._source, self._first_of
            )
            self._reading[number] = partition
            try:
                await partition.open()
            except Exception as error:  # noqa: BLE001  # without its baselines nothing of a partition may be scored
                await self._give_up(
                    f"the baselines of partition {number} could not be read; is the broker up? `strayline topics` tells",
                    error,
                )
            del self._reading[number]
        self.partitions[number] = partition
        if number not in self._delivering or self._delivering[number].done():  # else it goes on with this one
            self._delivering[number] = asyncio.get_running_loop().create_task(self._deliver(number))
        return partition

    async def _first_of(self, number: int) -> int:
        (first,) = (await self.app.consumer.earliest_offsets(TP(EVENTS, number))).values()
        return int(first)

    def _is_current(self, message: Any) -> bool:
        current: bool = self.app.consumer.is_current(message)
        return current

    async def _give_up(self, what: str, error: Exception) -> NoReturn:
        """End the process; where the topics are not as they must be, that is the reason, and what to do is known."""
        try:
            await asyncio.to_thread(event_ends, self.settings)
        except TopicsError as topics:
            what = str(topics)
        except StraylineError:
            pass  # it cannot be reached
        fatal(what, error)

    def _behind(self, partition: Partition) -> int | None:
        told = 0
        if partition.number < len(self._ends):
            end = self._ends[partition.number]
            told = end.stable if self.settings.isolation == COMMITTED else end.offset
        found: int | None = self.app.consumer.behind(TP(EVENTS, partition.number), partition.next_offset, told)
        return found

    def _measure_lag(self, partition: Partition) -> int | None:
        behind = self._behind(partition)
        if behind is not None and partition.number in self.partitions:  # not of one that went to another meanwhile
            waiting = self.app.consumer.held_back(TP(EVENTS, partition.number))
            metrics.LAG.labels(str(partition.number)).set(behind + waiting)
        return behind


def look_seconds(settings: Settings) -> float:
    """Between two looks at the topics."""
    return min(LOOK_SECONDS, settings.stall_seconds / 3)
