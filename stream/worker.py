"""The Faust worker: batches of events in, alerts and baselines out; /metrics, /healthz and /readyz beside it.

Faust does membership, assignment, back-pressure and shutdown; `stream.transport` hands over whole record batches, and each partition
delivers its own results (`stream.partition`). Whatever cannot be delivered ends the process with the reason: its supervisor
starts it again, and it goes on where its last transaction ended.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from importlib.metadata import version
from typing import Any

import faust
import structlog

from stream import cohorts, metrics
from stream.acls import check_access
from stream.client import quiet, servers
from stream.compiling import compiling
from stream.desk import POLL, Desk, look_seconds
from stream.doctor import unkept
from stream.engine import warm_up
from stream.heap import keep_freed
from stream.log import fatal, let_go
from stream.membership import NAMESAKE
from stream.settings import Settings
from stream.topics import EVENTS, Known, check_topics
from stream.transport import batched, check_faust, credentials, urls
from stream.watchdog import Watchdog, tracebacks
from stream.web import Web, listen, where

log = structlog.get_logger()
# A rebalance waits so long for a worker that delivers what it had in hand, or still reads baselines.
POLL_SECONDS = 600.0
REQUEST_SECONDS = 30.0
HEARTBEAT_SECONDS = 3.0


def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; the exit status. Raises `BrokerError` if broker or topics are not as they must be."""
    check_faust()
    listening = listen(settings)
    if settings.security_protocol != "PLAINTEXT":  # where nobody is told apart, nobody is kept out
        check_access(settings)
    known = check_topics(settings)
    lost = unkept()
    if lost is not None:
        log.warning(lost)
    with compiling(
        lambda seconds: log.info(
            "compiling the models, once for this version; one to four minutes, until which nothing is served",
            seconds=round(seconds),
        ),
        15.0,
    ):
        warm_up(settings)
        if known.partitions > 1:
            cohorts.warm_up(settings)
    metrics.BUILD.labels(version("strayline")).set(1)
    metrics.declare(settings.alerts_per_day)
    log.info(
        "worker starts",
        broker=settings.broker,
        group=settings.group,
        instance=_instance(settings),
        partitions=known.partitions,
        http=where(settings),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    quiet()
    # Batches are many small objects without cycles, which by default are looked through again and again; and of the threads that
    # take turns with the interpreter the one that speaks to the broker must not wait 5 ms for each word.
    keep_freed()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    sys.setswitchinterval(0.0005)
    return asyncio.run(_serve(*make_app(settings, listening, known)))


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
    starting, stopping = loop.create_task(app.start()), loop.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():  # it may wait for a broker that never answers, and has nothing yet to be drained
        log.info("stopped while it was starting; nothing is lost")
        let_go(sys.stderr)
        os._exit(0)
    if (error := starting.exception()) is not None:  # whatever keeps it from starting is for the operator
        fatal("the worker could not start; is the broker up? `strayline topics` tells", error)
    crashed = loop.create_task(app.wait_until_stopped())
    await asyncio.wait({stopping, crashed}, return_when=asyncio.FIRST_COMPLETED)
    if app.crash_reason is not None:
        fatal(
            f"Faust gave up, see the error; the worker will go on where it was after a restart; if that comes again, {NAMESAKE}",
            app.crash_reason,
        )
    desk.stopping = True  # from now on the watchdog waits for no longer than `desk.STOP_SECONDS`
    log.info("stopping: delivering what was scored, then committing")
    await app.stop()
    await desk.close()
    log.info("stopped")
    return 0


def make_app(settings: Settings, listening: socket.socket, known: Known) -> tuple[Any, Desk]:
    """The application: one topic, one stream function, one web server on a socket that listens already; and its desk."""
    app = App(
        settings.group,
        broker=urls(servers(settings)),
        broker_credentials=credentials(settings),
        broker_client_id=f"strayline-{_instance(settings)}",
        broker_session_timeout=float(settings.session_seconds),
        broker_heartbeat_interval=min(HEARTBEAT_SECONDS, settings.session_seconds / 3),  # two may get lost
        broker_max_poll_records=POLL,
        broker_commit_every=1_000_000,
        broker_commit_interval=0.25,
        broker_check_crcs=True,
        consumer_group_instance_id=_instance(settings),
        consumer_max_fetch_size=4 << 20,
        consumer_auto_offset_reset="earliest",
        # Who was given nothing because the topic was not there at that moment must not wait five minutes until it is noticed again.
        consumer_metadata_max_age_ms=int(1000 * look_seconds(settings)),
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        table_standby_replicas=0,  # no tables here: and with a standby Faust takes another assignor
        reply_create_topic=False,
        broker_request_timeout=max(REQUEST_SECONDS, settings.session_seconds),  # Faust takes no shorter one
        broker_max_poll_interval=POLL_SECONDS,
        stream_recovery_delay=0.0,
        stream_buffer_maxsize=4,  # batches, not records: enough to decode the next while one is scored, and all that waits in memory
        stream_wait_empty=True,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
    )
    desk = Desk(app, settings, known)

    @app.agent(batched(app, EVENTS), name="score_events")  # type: ignore[untyped-decorator]
    async def score_events(stream: Any) -> None:
        async for event in stream.noack().events():
            await desk.take(event)
        if not app.should_stop:
            fatal("the stream of events ended by itself; restart the worker")

    app.isolation = settings.isolation
    app.hurry = desk.hurry
    app.on_partitions_revoked.connect(desk.revoked)
    app.on_partitions_assigned.connect(desk.assigned)
    app.service(Web(desk, listening))
    return app, desk


class App(faust.App):  # type: ignore[misc]
    """Faust's, but it makes no folders: without tables it puts nothing there, and a full disk would keep it from starting."""

    def _create_directories(self) -> None:
        pass


def _instance(settings: Settings) -> str:
    return settings.instance or f"{socket.gethostname()}-{settings.http_port}"
