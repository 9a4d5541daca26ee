"""The Faust worker: batches of events in, alerts and baselines out; /metrics, /healthz and /readyz beside it.

Faust does membership, assignment, back-pressure and shutdown; `stream.transport` hands over whole record batches, and each partition
delivers its own results (`stream.partition`). Whatever cannot be delivered ends the process with the reason: its supervisor
starts it again, and it goes on where its last transaction ended.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
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
from stream.explain import baseline
from stream.partition import Partition
from stream.settings import Settings
from stream.topics import EVENTS, check_topics
from stream.transport import batched, check_faust, credentials, urls

log = structlog.get_logger()
STOP_SECONDS = 30.0
OPENING = 4  # partitions at once: each holds what it fetched, up to 64 MiB
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
    return asyncio.run(_serve(*make_app(settings, listening, partitions)))


async def _serve(app: Any, desk: Desk) -> int:
    """Start, wait for a signal or a crash, drain, stop."""
    loop = asyncio.get_running_loop()
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
    log.info("stopping: delivering what was scored, then committing")
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await app.stop()
            await desk.close()
    except TimeoutError:
        fatal(f"could not drain within {STOP_SECONDS:.0f} s; what was not committed will be read again")
    log.info("stopped")
    return 0


def make_app(settings: Settings, listening: socket.socket, partitions: int) -> tuple[Any, Desk]:
    """The application: one topic, one stream function, one web server on a socket that listens already; and its desk."""
    app = faust.App(
        settings.group,
        broker=urls(settings.broker),
        broker_credentials=credentials(settings),
        broker_client_id=f"strayline-{_instance(settings)}",
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=3.0,
        broker_max_poll_records=4000,
        broker_commit_every=1_000_000,
        broker_commit_interval=1.0,
        broker_check_crcs=True,
        consumer_group_instance_id=_instance(settings),
        consumer_max_fetch_size=4 << 20,
        consumer_auto_offset_reset="earliest",
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        table_standby_replicas=0,  # no tables here: and with a standby Faust takes another assignor
        reply_create_topic=False,
        broker_request_timeout=30.0,
        broker_max_poll_interval=600.0,
        stream_recovery_delay=0.0,
        stream_buffer_maxsize=8,  # batches, not records
        stream_wait_empty=True,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
        # Faust makes this folder wherever it is started, and without tables puts nothing there.
        datadir=str(Path(tempfile.gettempdir()) / "strayline-faust"),
    )
    desk = Desk(app, settings, partitions)

    @app.agent(batched(app, EVENTS), name="score_events")  # type: ignore[untyped-decorator]
    async def score_events(stream: Any) -> None:
        async for event in stream.noack().events():
            await desk.take(event)
        if not app.should_stop:
            fatal("the stream of events ended by itself; restart the worker")

    app.on_partitions_revoked.connect(desk.revoked)
    app.on_partitions_assigned.connect(desk.assigned)
    app.service(Web(desk, listening))
    return app, desk


class Desk:
    """The partitions that this worker holds, of so many, and the task that delivers for them."""

    def __init__(self, app: Any, settings: Settings, of: int = 1) -> None:
        self.app = app
        self.settings = settings
        self.of = of
        self.partitions: dict[int, Partition] = {}  # whose baselines are read
        self.held: set[int] = set()
        self.rebalancing = True
        self._opening: dict[int, asyncio.Task[Partition]] = {}  # of every partition held, done or not
        self._turn = asyncio.Semaphore(OPENING)
        self._executor = ThreadPoolExecutor(1, "score")
        self._flusher: asyncio.Task[None] | None = None

    @property
    def waiting_for(self) -> str | None:
        """What it cannot answer for yet; None when it is ready."""
        if self.rebalancing:
            return "waiting for partitions"
        unread = sorted(self.held - self.partitions.keys())
        return f"reading baselines of partitions {unread}" if unread else None

    async def take(self, event: Any) -> None:
        """Score one batch, once the baselines of its partition are read."""
        try:
            partition = await asyncio.shield(self._opened(event.message.partition))  # others wait for it too
            await partition.take(event)
            self._measure_lag(partition)
        except Exception as error:  # noqa: BLE001  # the one guard: whatever it is, nothing was acknowledged
            fatal("a batch could not be scored; it will be read again", error)

    async def revoked(self, app: Any, revoked: Any, **_: Any) -> None:
        """Partitions go to other workers: Faust has waited for what we had in hand."""
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

    async def assigned(self, app: Any, assigned: Any, **_: Any) -> None:
        """Partitions are ours now. Their baselines are read meanwhile: the group must not wait for that."""
        del app
        metrics.REBALANCES.inc()
        self.held = {tp.partition for tp in assigned if tp.topic == EVENTS}
        self.rebalancing = False
        log.info("partitions assigned", partitions=sorted(self.held))
        for number in sorted(self.held):
            self._opened(number)

    async def flush_for_ever(self) -> None:
        """Deliver for every partition, again and again. It outlives Faust's services, which wait for it when they stop."""
        while True:
            await asyncio.sleep(self.settings.flush_seconds)
            try:
                await asyncio.gather(*(p.flush() for p in list(self.partitions.values())))
            except Exception as error:  # noqa: BLE001  # delivery failed for good: nothing of it was acknowledged
                fatal(
                    "alerts and baselines could not be delivered; they will be made again after a restart. Is the broker up? `strayline topics` tells",
                    error,
                )
            for partition in self.partitions.values():  # where no record comes too
                self._measure_lag(partition)

    async def close(self) -> None:
        """Let every delivery under way end: Faust waits for those of events, and not for those of verdicts."""
        await asyncio.gather(*(partition.close() for partition in self.partitions.values()))

    def _opened(self, number: int) -> asyncio.Task[Partition]:
        """The task that opens a partition, begun if this is the first to ask."""
        loop = asyncio.get_running_loop()
        if self._flusher is None:
            self._flusher = loop.create_task(self.flush_for_ever())
        if number not in self._opening:
            self._opening[number] = loop.create_task(self._open(number))
        return self._opening[number]

    async def _open(self, number: int) -> Partition:
        async with self._turn:
            try:
                partition = Partition(self.settings, number, self._executor, self.of)
                await partition.open()
            except Exception as error:  # noqa: BLE001  # without its baselines nothing of a partition may be scored
                fatal(
                    f"the baselines of partition {number} could not be read; is the broker up? `strayline topics` tells",
                    error,
                )
        self.partitions[number] = partition
        return partition

    def _measure_lag(self, partition: Partition) -> None:
        behind = self.app.consumer.behind(TP(EVENTS, partition.number), partition.next_offset)
        if behind is not None and partition.number in self.partitions:  # not of one that went to another meanwhile
            metrics.LAG.labels(str(partition.number)).set(behind)


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


def fatal(what: str, error: BaseException | None = None) -> NoReturn:
    """Say why and end the process at once. Nothing is lost: what was not in a transaction is read again."""
    log.error(
        what,
        error=f"{type(error).__name__}: {error}" if error else None,
        exc_info=error if os.environ.get("PYTHONFAULTHANDLER") else None,
    )
    sys.stderr.flush()
    os._exit(1)


def _instance(settings: Settings) -> str:
    return settings.instance or f"{socket.gethostname()}-{settings.http_port}"
