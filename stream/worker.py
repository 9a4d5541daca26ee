"""The Faust worker: batches of events in, alerts and baselines out; /metrics, /healthz and /readyz beside it.

Faust does membership, assignment, back-pressure and shutdown; `stream.transport` hands over whole record batches, and each partition
delivers its own results (`stream.partition`). Whatever cannot be delivered ends the process with the reason: its supervisor
starts it again, and it goes on where its last transaction ended.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from typing import Any, NoReturn

import faust
import structlog
from aiohttp import web
from faust.types import TP
from mode import Service
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from stream import metrics
from stream.acls import check_access
from stream.client import quiet
from stream.engine import warm_up
from stream.errors import StraylineError, TopicsError
from stream.explain import baseline
from stream.lag import unheld
from stream.partition import Partition, Taken, threads
from stream.settings import Settings
from stream.topics import EVENTS, check_topics, event_ends
from stream.transport import batched, check_faust, credentials, urls
from stream.watchdog import Watchdog, Watched, tracebacks

log = structlog.get_logger()
STOP_SECONDS = 30.0
POLL = (
    4000  # records that one poll brings, and so at most a batch: what it costs to score them is what an alert waits for
)
OPENING = 4  # partitions at once: each holds what it fetched, up to 64 MiB
POLL_SECONDS = (
    600.0  # a rebalance waits so long for a worker that delivers what it had in hand, or still reads baselines
)
PATIENCE = 5.0  # times as long as a stall: the group is for others to form, too, and one partition may wait while others catch up
BEAT_SECONDS = 0.5
LOOK_SECONDS = 20.0
SESSION_SECONDS = 10.0  # a crashed worker's partitions are free after this; a restarted one takes its own back at once


def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; the exit status. Raises `BrokerError` if broker or topics are not as they must be."""
    check_faust()
    listening = listen(settings)
    if settings.security_protocol != "PLAINTEXT":  # where nobody is told apart, nobody is kept out
        check_access(settings)
    partitions = check_topics(settings)
    log.info("compiling the models, once, or loading them")
    warm_up(settings)
    metrics.BUILD.labels(version("strayline")).set(1)
    metrics.declare(settings.alerts_per_day)
    log.info(
        "worker starts",
        broker=settings.broker,
        group=settings.group,
        instance=_instance(settings),
        partitions=partitions,
        http=_where(settings),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    quiet()
    # Batches are many small objects without cycles, which by default are looked through again and again; and of the threads that
    # take turns with the interpreter the one that speaks to the broker must not wait 5 ms for each word.
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    sys.setswitchinterval(0.0005)
    # Each partition keeps its own threshold, and all of them together keep to the budget.
    share = replace(settings, alerts_per_day=settings.alerts_per_day / partitions)
    return asyncio.run(_serve(*make_app(share, listening)))


async def _serve(app: Any, desk: Desk) -> int:
    """Start, wait for a signal or a crash, drain, stop."""
    loop = asyncio.get_running_loop()
    desk.begin()
    Watchdog(
        desk.watched, lambda reason: fatal(f"stalled: {reason}", more=tracebacks(loop, desk.consumer_loop))
    ).start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await app.start()
    except Exception as error:  # noqa: BLE001  # whatever keeps it from starting is for the operator
        fatal("the worker could not start; is the broker up? `strayline topics` tells", error)
    stopping = loop.create_task(stop.wait())
    crashed = loop.create_task(app.wait_until_stopped())
    await asyncio.wait({stopping, crashed}, return_when=asyncio.FIRST_COMPLETED)
    if app.crash_reason is not None:
        fatal("Faust gave up; the worker will go on where it was after a restart", app.crash_reason)
    desk.stopping = True
    log.info("stopping: delivering what was scored, then committing")
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await app.stop()
            await desk.close()
    except TimeoutError:
        fatal(f"could not drain within {STOP_SECONDS:.0f} s; what was not committed will be read again")
    log.info("stopped")
    return 0


def make_app(settings: Settings, listening: socket.socket) -> tuple[Any, Desk]:
    """The application: one topic, one stream function, one web server on a socket that listens already; and its desk."""
    app = App(
        settings.group,
        broker=urls(settings.broker),
        broker_credentials=credentials(settings),
        broker_client_id=f"strayline-{_instance(settings)}",
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=3.0,
        broker_max_poll_records=POLL,
        broker_commit_every=1_000_000,
        broker_commit_interval=0.25,
        broker_check_crcs=True,
        consumer_group_instance_id=_instance(settings),
        consumer_max_fetch_size=4 << 20,
        consumer_auto_offset_reset="earliest",
        # Who was given nothing because the topic was not there at that moment must not wait five minutes until it is noticed again.
        consumer_metadata_max_age_ms=int(1000 * _look_seconds(settings)),
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        table_standby_replicas=0,  # no tables here: and with a standby Faust takes another assignor
        reply_create_topic=False,
        broker_request_timeout=30.0,
        broker_max_poll_interval=POLL_SECONDS,
        stream_recovery_delay=0.0,
        stream_buffer_maxsize=4,  # batches, not records: enough to decode the next while one is scored, and all that waits in memory
        stream_wait_empty=True,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
    )
    desk = Desk(app, settings)

    @app.agent(batched(app, EVENTS), name="score_events")  # type: ignore[untyped-decorator]
    async def score_events(stream: Any) -> None:
        async for event in stream.noack().events():
            await desk.take(event)
        if not app.should_stop:
            fatal("the stream of events ended by itself; restart the worker")

    app.hurry = desk.hurry
    app.on_partitions_revoked.connect(desk.revoked)
    app.on_partitions_assigned.connect(desk.assigned)
    app.service(Web(desk, listening))
    return app, desk


class App(faust.App):  # type: ignore[misc]
    """Faust's, but it makes no folders: without tables it puts nothing there, and a full disk would keep it from starting."""

    def _create_directories(self) -> None:
        pass


class Desk:
    """The partitions that this worker holds, the tasks that deliver for them, and what of it all should move (`stream.watchdog`)."""

    def __init__(self, app: Any, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.partitions: dict[int, Partition] = {}  # whose baselines are read
        self.held: set[int] = set()
        self.rebalancing = True
        self._opening: dict[int, asyncio.Task[Partition]] = {}  # of every partition held, done or not
        self._left: dict[int, Partition] = {}  # taken away by the rebalance that is going on, and perhaps to come back
        self._turn = asyncio.Semaphore(OPENING)
        self._threads = threads()
        self._scoring: asyncio.Task[None] | None = None  # of the batch that was taken last
        self._delivering: dict[int, asyncio.Task[None]] = {}
        self._reading: dict[int, Partition] = {}  # whose turn it is to read baselines
        self._tasks: list[asyncio.Task[None]] = []
        self._look = asyncio.Event()  # at the topics, now
        self._unheld: list[int] = []  # partitions that nobody has, while this worker has none
        self.stopping = False
        self.beats = 0
        self._ends: list[int] = []  # of the events' partitions, as the broker told when it was last asked

    @property
    def waiting_for(self) -> str | None:
        """What it cannot answer for yet; None when it is ready."""
        if self.rebalancing:
            return "waiting for partitions"
        unread = sorted(self.held - self.partitions.keys())
        return f"reading baselines of partitions {unread}" if unread else None

    async def take(self, event: Any) -> None:
        """Decode one batch, once the baselines of its partition are read, and have it scored when the one before is."""
        try:
            partition = await asyncio.shield(self._opened(event.message.partition))  # others wait for it too
            taken = await partition.decode(event)
            if self._scoring is not None:
                await self._scoring
        except Exception as error:  # noqa: BLE001  # nothing was acknowledged
            fatal("a batch could not be decoded; it will be read again", error)
        self._scoring = asyncio.get_running_loop().create_task(self._score(partition, taken))

    async def _score(self, partition: Partition, taken: Taken) -> None:
        try:
            await partition.score(taken)
        except Exception as error:  # noqa: BLE001  # the one guard: whatever it is, nothing was acknowledged
            fatal("a batch could not be scored; it will be read again", error)
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
        self._look.set()
        log.info("partitions assigned", partitions=sorted(self.held))
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
        self._tasks = [loop.create_task(self.beat_for_ever()), loop.create_task(self.look_for_ever())]

    async def beat_for_ever(self) -> None:
        """Show that the loop comes round, and a stand-by to its consumer."""
        while True:
            self.beats += 1
            trouble = self.app.consumer.trouble()
            if trouble is not None and not self.stopping:
                fatal("the consumer has left its group; the worker will go on where it was after a restart", trouble)
            if not self.held and not self.rebalancing and not self.stopping:
                self.app.consumer.stay()
            await asyncio.sleep(BEAT_SECONDS)

    async def look_for_ever(self) -> None:
        """See that the topics are still there and what they were, now and then and whenever partitions come: a broker may come back without them."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), _look_seconds(self.settings))
            self._look.clear()
            scored = {number: partition.next_offset for number, partition in self.partitions.items()}
            try:
                ends = await asyncio.to_thread(event_ends, self.settings)
            except TopicsError as error:
                fatal(str(error))
            except StraylineError:
                continue  # it cannot be reached: the clients try again, and what cannot be delivered ends the process
            shorter = [number for number, offset in scored.items() if offset > ends[number]]
            if shorter:
                fatal(
                    f"{EVENTS} was made anew: partitions {shorter} are shorter than what was read of them. After a restart they are read "
                    "from their beginning, with the baselines as they are"
                )
            self._ends = ends
            with suppress(StraylineError):
                await self._claim()

    async def _claim(self) -> None:
        """A worker that has nothing asks for what is nobody's, if it was so at the last look too."""
        if self.held or self.rebalancing:
            self._unheld = []
            return
        before, self._unheld = self._unheld, await asyncio.to_thread(unheld, self.settings)
        if before and self._unheld and not self.rebalancing:
            log.warning(
                "partitions are nobody's, and this worker has none: joining the group again", partitions=self._unheld
            )
            self.app.consumer.rejoin()

    def watched(self) -> Iterator[Watched]:
        """What should move, or end the process; asked from another thread."""
        patient = self.settings.stall_seconds
        yield Watched("loop", self.beats, patient, "the event loop has not come round")
        if self.stopping:  # which has a time limit of its own
            return
        if self.rebalancing:
            yield Watched("group", None, PATIENCE * patient, "the group has not given this worker its partitions")
        if self._unheld:
            idle = f"partitions {self._unheld} have been nobody's, though this worker has none,"
            yield Watched("claim", None, PATIENCE * patient, idle)
        for number, partition in list(self._reading.items()):
            reading = f"of the baselines of partition {number} nothing more was read after {partition.read} records,"
            yield Watched(f"baselines {number}", (id(partition), partition.read), patient, reading)
        partitions = list(self.partitions.items())
        done = sum(partition.next_offset for _, partition in partitions)
        for number, partition in partitions:
            behind = 0 if self._reading else self._behind(partition)
            if behind:
                said = f"partition {number} has {behind:,} events that are not scored, and scored none"
                yield Watched("all", done, patient, said)
                yield Watched(f"events {number}", partition.next_offset, PATIENCE * patient, said)
            if partition.undelivered:
                kept = f"what partition {number} has scored was not delivered"
                yield Watched(f"delivery {number}", partition.flushed_at, patient + self.settings.flush_seconds, kept)
        yield from (Watched(name, None, BEAT_SECONDS, said) for name, said in self._ended())

    def _ended(self) -> Iterator[tuple[str, str]]:
        """What runs for as long as the process does, and no longer runs."""
        if any(number in self.partitions and task.done() for number, task in self._delivering.items()):
            yield "delivery", "a task that delivers has been gone"
        if any(task.done() for task in self._tasks):
            yield "looker", "a task that looks after the worker has been gone"
        for agent in self.app.agents.values():
            if any(actor.actor_task is not None and actor.actor_task.done() for actor in list(agent._actors)):  # noqa: SLF001
                yield "agent", "the task that takes events has been gone"
        thread = getattr(getattr(self.app.consumer, "_thread", None), "_thread", None)
        if thread is not None and not thread.is_alive():
            yield "consumer", "the thread of the consumer has been gone"

    async def _deliver(self, number: int) -> None:
        """Deliver for a partition, again and again, for as long as it is here. It outlives Faust's services, which wait for it when they stop.

        Baselines wait for `STRAYLINE_FLUSH_SECONDS`; alerts and rejects for nothing but the delivery under way, and a rest as long as
        the last one kept scoring waiting. Whoever is further behind than a poll can bring waits in any case: its alerts are late
        already, and many small transactions would make them later.
        """
        every = self.settings.flush_seconds
        while (partition := self.partitions.get(number)) is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await partition.news.wait()
            partition.news.clear()
            try:
                held = await partition.flush()
            except Exception as error:  # noqa: BLE001  # delivery failed for good: nothing of it was acknowledged
                await self._give_up(
                    "alerts and baselines could not be delivered; they will be made again after a restart. Is the broker up? `strayline topics` tells",
                    error,
                )
            self._measure_lag(partition)  # where no record comes too
            await asyncio.sleep(min(every, held))

    async def close(self) -> None:
        """Let every delivery under way end: Faust waits for those of events, and not for those of verdicts."""
        await asyncio.gather(*(partition.close() for partition in self.partitions.values()))

    def _opened(self, number: int) -> asyncio.Task[Partition]:
        """The task that opens a partition, begun if this is the first to ask."""
        if number not in self._opening:
            self._opening[number] = asyncio.get_running_loop().create_task(self._open(number))
        return self._opening[number]

    async def _open(self, number: int) -> Partition:
        async with self._turn:
            partition = self._left.pop(number, None) or Partition(self.settings, number, self._threads)
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
        told = self._ends[partition.number] if partition.number < len(self._ends) else 0
        found: int | None = self.app.consumer.behind(TP(EVENTS, partition.number), partition.next_offset, told)
        return found

    def _measure_lag(self, partition: Partition) -> int | None:
        behind = self._behind(partition)
        if behind is not None and partition.number in self.partitions:  # not of one that went to another meanwhile
            metrics.LAG.labels(str(partition.number)).set(behind)
        return behind


class Web(Service):  # type: ignore[misc]
    """/metrics, /healthz, /readyz, and /agents/ID for `strayline explain`."""

    def __init__(self, desk: Desk, listening: socket.socket, **options: Any) -> None:
        self._desk = desk
        self._listening = listening
        self._runner: web.AppRunner | None = None
        super().__init__(**options)

    async def on_start(self) -> None:
        site = web.Application()
        site.router.add_get("/metrics", self._metrics)
        site.router.add_get("/healthz", self._health)
        site.router.add_get("/readyz", self._ready)
        site.router.add_get("/agents/{agent_id}", self._agent)
        self._runner = web.AppRunner(site, access_log=None)
        await self._runner.setup()
        await web.SockSite(self._runner, self._listening).start()

    async def on_stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _ready(self, _: web.Request) -> web.Response:
        waiting = self._desk.waiting_for
        if waiting:
            return web.Response(status=503, text=f"{waiting}\n")
        return web.Response(text=f"partitions {sorted(self._desk.held)}\n")

    async def _agent(self, request: web.Request) -> web.Response:
        for partition in self._desk.partitions.values():
            found = baseline(partition.engine, request.match_info["agent_id"])
            if found is not None:
                return web.json_response(found)
        if self._desk.waiting_for:  # it may be in what is not read yet
            return web.json_response({"error": self._desk.waiting_for}, status=503)
        return web.json_response({"error": "no baseline of this agent here"}, status=404)


def listen(settings: Settings) -> socket.socket:
    """Take the HTTP port before joining the group: a worker that cannot serve must not take partitions from one that can."""
    host = settings.http_host.strip("[]")
    setting, need = "STRAYLINE_HTTP_PORT", "a free port"
    try:
        found = socket.getaddrinfo(host, settings.http_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # `localhost` is both, and an IPv4 one is what everything tries.
        family, *_, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()  # `::` is every address, IPv4's included
        return socket.create_server(address, family=family, dualstack_ipv6=both)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            setting, need = "STRAYLINE_HTTP_HOST", "an address of this machine"
        fatal(f"cannot serve on {_where(settings)}; set {setting} to {need}", error)


def _where(settings: Settings) -> str:
    host = settings.http_host.strip("[]")
    return f"[{host}]:{settings.http_port}" if ":" in host else f"{host}:{settings.http_port}"


def fatal(what: str, error: BaseException | None = None, more: Mapping[str, Any] | None = None) -> NoReturn:
    """Say why and end the process at once. Nothing is lost: what was not in a transaction is read again."""
    try:
        log.error(
            what,
            error=f"{type(error).__name__}: {error}" if error else None,
            exc_info=error if os.environ.get("PYTHONFAULTHANDLER") else None,
            **(more or {}),
        )
        sys.stderr.flush()
    finally:
        os._exit(1)


def _look_seconds(settings: Settings) -> float:
    return min(LOOK_SECONDS, settings.stall_seconds / 3)


def _instance(settings: Settings) -> str:
    return settings.instance or f"{socket.gethostname()}-{settings.http_port}"
