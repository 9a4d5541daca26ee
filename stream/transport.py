"""A Faust transport that hands over Kafka's record batches whole. Faust finds it by the scheme `batches://`.

Stock Faust takes every record apart into a message, four asyncio tasks, a queue entry and an acknowledgement: 12,000
events a second on two quiet cores, where plain aiokafka reads 630,000 and this transport 440,000 (300,000 events of 330
bytes, lz4; `python -m benchmarks.transport`). Scoring works on batches anyway, so for a topic declared with `batched`
one message is all the records that one poll returned of one partition: its value is `Records`, read straight from the bytes that
the broker sent, its offset the last one's, and acknowledging it allows a commit just past it. Other topics stay record by record, and
fetching, membership, flow control and shutdown stay aiokafka's and Faust's.

What is committed is stricter than Faust's own account, which can pass over a message nobody acknowledged
(faust-streaming issue 606): batches are remembered in the order of delivery, and a commit reaches only as far as the
unbroken run of acknowledged ones from the front.

Read the batches through `stream.noack().events()` and call `event.ack()` when the work is safe: Faust's plain
`async for` also acknowledges what a body that raised was working on. Whoever holds batches back must acknowledge or drop
them on a timer of its own, not when the next one arrives: a rebalance waits for them and sends no next one. It calls
`app.hurry`, if there is one, and `draining` is true while it waits.
"""

from __future__ import annotations

import inspect
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any
from weakref import WeakSet

from aiokafka.errors import CorruptRecordException
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from stream import fetched
from stream.client import arguments
from stream.errors import StraylineError
from stream.records import Records
from stream.settings import COMMITTED, Settings

# What was proved by tests/test_transport.py, as the beginning of each version.
PROVED = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.", "aiokafka": "0.14."}
WAIT_MS = 50  # a broker may wait so long for records, with its answer

# What is overridden, read or called here and is not Faust's public interface.
_METHODS = {
    "_getmany": ["self", "active_partitions", "timeout"],
    "_to_message": ["self", "tp", "record"],
    "_add_gap": ["self", "tp", "offset_from", "offset_to"],
    "_new_offset": ["self", "tp"],
    "ack": ["self", "message"],
    "on_buffer_full": ["self", "tp"],
    "on_partitions_revoked": ["self", "revoked"],
    "wait_empty": ["self"],
    "_new_consumer_thread": ["self"],
}
_NAMES = (
    "self._acked[tp]",
    "self._acked_index[tp]",
    "self._read_offset.__getitem__",
    "self._unacked_messages.discard(message)",
)
_THREAD_METHODS = {
    "_fetch_records": ["self", "consumer", "active_partitions", "timeout", "max_records"],
    "_create_worker_consumer": ["self", "transport"],
    "seek_to_committed": ["self"],
    "verify_event_path": ["self", "now", "tp"],
}
_FIELDS = [
    "topic", "partition", "offset", "timestamp", "timestamp_type", "headers", "key", "value", "checksum",
    "tp", "generation_id",
]  # fmt: skip


def check_faust(consumer: type = driver.Consumer, versions: Mapping[str, str] | None = None) -> None:
    """Raise `StraylineError`, in one sentence, if the Faust installed is not one that this transport was proved on."""
    for name, expected in _METHODS.items():
        method = getattr(consumer, name, None)
        if method is None or list(inspect.signature(method).parameters) != expected:
            raise _unproved(f"Faust's Consumer.{name} is no longer {name}({', '.join(expected)})")
    source = inspect.getsource(faust_consumer)
    gone = [name for name in _NAMES if name not in source]
    if gone:
        raise _unproved(f"Faust's Consumer no longer keeps {' and '.join(gone)}")
    for name, expected in _THREAD_METHODS.items():
        method = getattr(driver.AIOKafkaConsumerThread, name, None)
        if method is None or list(inspect.signature(method).parameters) != expected:
            raise _unproved(f"Faust's AIOKafkaConsumerThread.{name} is no longer {name}({', '.join(expected)})")
    other = fetched.changed()
    if other is not None:
        raise _unproved(other)
    lacking = set(_FIELDS) - set(inspect.signature(ConsumerMessage).parameters)
    if lacking:
        raise _unproved(f"Faust's ConsumerMessage no longer takes {', '.join(sorted(lacking))}")
    for package, proved in PROVED.items():
        found = (versions or {}).get(package) or version(package)
        if not found.startswith(proved):
            raise _unproved(f"{package} {found} is installed and {proved.rstrip('.')} was proved")


def _unproved(why: str) -> StraylineError:
    return StraylineError(
        f"{why}: install the versions in constraints.txt (`make setup`), or make tests/test_transport.py pass and then "
        "change PROVED in stream/transport.py"
    )


def urls(servers: Sequence[str]) -> list[str]:
    """Servers as the value of Faust's `broker`.

    >>> urls(["one:9092", "two:9092"])
    ['batches://one:9092', 'batches://two:9092']
    """
    return [f"batches://{server}" for server in servers]


def credentials(settings: Settings) -> SSLCredentials | SASLCredentials | None:
    """The same TLS and SASL as every other client's, as Faust takes them."""
    told = arguments(settings)
    if "sasl_mechanism" in told:
        return SASLCredentials(
            mechanism=told["sasl_mechanism"],
            username=told["sasl_plain_username"],
            password=told["sasl_plain_password"],
            ssl_context=told.get("ssl_context"),
        )
    return SSLCredentials(told["ssl_context"]) if "ssl_context" in told else None


def batched(app: Any, name: str) -> Any:
    """Declare that the topic `name` arrives in batches, and return it: the channel of an `@app.agent`.

    An event's value is then `Records`, in order, keys and values as the bytes that came (None where there were none); its key is None.
    """
    app.batched_topics = getattr(app, "batched_topics", frozenset()) | {name}
    return app.topic(name, key_serializer="raw", value_serializer="raw")


class Thread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's, whose consumer leaves out what was aborted, unless `app.isolation` says otherwise: Faust's own does so only where Faust commits in transactions.

    And it is answered soon where there is nothing: a partition that was read to its end is asked for again only when the request under way, for the others, has its answer.
    Faust lets a broker wait 1.5 s for that, and an event would wait as long."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = isolation_of(self.app)  # noqa: SLF001
        consumer._fetch_max_wait_ms = WAIT_MS  # noqa: SLF001
        return consumer

    async def _fetch_records(self, consumer: Any, *given: Any, **named: Any) -> Any:
        """Faust's; but whichever partition was read then waits for the others, where aiokafka would first empty it, however much it has fetched of it."""
        polled = await super()._fetch_records(consumer, *given, **named)
        waiting = consumer._fetcher._records  # noqa: SLF001
        for tp in polled:
            if tp in waiting:
                waiting[tp] = waiting.pop(tp)
        return polled

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Faust's; but a partition of which nothing is committed goes back to its beginning, where aiokafka would leave it as it stands: behind what a
        poll brought during a rebalance, which Faust throws away and means to have read again."""
        found: Mapping[TP, int] = await super().seek_to_committed()
        begun = [tp for tp, offset in found.items() if not offset]
        if begun and self.app.conf.consumer_auto_offset_reset == "earliest":
            await self.call_thread(self._ensure_consumer().seek_to_beginning, *begun)
        return found

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing. Faust's asks for a position, and ends the worker where there is none yet: while the broker is asked where a partition begins. `stream.watchdog` sees what stalls."""


def isolation_of(app: Any) -> str:
    """How an app's consumer reads what transactions wrote."""
    return str(getattr(app, "isolation", COMMITTED))


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Faust's consumer, in batches for the topics that were declared so."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Last offsets of the batches delivered since the last rebalance and not yet committed, oldest first.
        self._delivered: defaultdict[TP, deque[int]] = defaultdict(deque)
        # The messages they came in. The group's generation cannot tell old ones from new: with static membership, a
        # worker that fell out and came back has the one that it had.
        self._current: WeakSet[ConsumerMessage] = WeakSet()
        # After the last poll: where reading goes on, and the last record that there was before that.
        self._position: dict[TP, int] = {}
        self._polled: dict[TP, int] = {}
        self.draining = False
        super().__init__(*args, **kwargs)
        for name in getattr(self.app, "batched_topics", ()):
            fetched.MOST[name] = int(self.app.conf.broker_max_poll_records)

    def _new_consumer_thread(self) -> Thread:
        return Thread(self, loop=self.loop, beacon=self.beacon)

    def _is_batched(self, topic: str) -> bool:
        return topic in getattr(self.app, "batched_topics", ())

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[Any]]:  # noqa: ASYNC109
        # `Records` in the place of a record pass through all of Faust's flow and generation checks as one. So a poll is for one of them.
        thread, most = self._thread, int(self.app.conf.broker_max_poll_records)
        if all(self._is_batched(tp.topic) for tp in active_partitions or ()):
            most = 1
        try:
            polled: dict[TP, list[Any]] = await thread.call_thread(
                thread._fetch_records,  # noqa: SLF001
                thread._ensure_consumer(),  # noqa: SLF001
                active_partitions,
                timeout=timeout,
                max_records=most,
            )
        except CorruptRecordException:
            # What lies before what cannot be read nor passed over is first worked on and committed.
            await self.wait_empty()
            raise
        for tp in active_partitions or ():
            state = self._state(tp)
            if state is not None and state.has_valid_position:
                self._position[tp] = state.position
            if polled.get(tp):
                last = polled[tp][-1]
                self._polled[tp] = int(last.position[-1]) if isinstance(last, Records) else last.offset
        return polled

    def behind(self, tp: TP, done: int, told: int = 0) -> int | None:
        """How many offsets of a partition are still to be worked on from `done` on; None while the broker has not said. `told` is where
        somebody else says that the partition ends: a consumer that fetches nothing does not know that there is anything.

        The end of a transaction takes an offset and is no record: where all that was polled is done, what lies before the
        position was none. What lies behind the begin of one that is open cannot be worked on (`held_back`).
        """
        state = self._state(tp)
        known = None if state is None else state.lso if isolation_of(self.app) == COMMITTED else state.highwater
        end = max(told, known or 0)
        if not told and (known is None or tp not in self._position):
            return None
        if self._polled.get(tp, -1) < done:
            done = max(done, self._position.get(tp, 0))
        return max(0, end - done)

    def held_back(self, tp: TP) -> int:
        """How many offsets of a partition wait for the end of somebody's transaction."""
        state = self._state(tp)
        if state is None or state.highwater is None or state.lso is None or isolation_of(self.app) != COMMITTED:
            return 0
        return max(0, int(state.highwater - state.lso))

    def trouble(self) -> BaseException | None:
        """Why the consumer no longer takes part in its group; None while it does. aiokafka raises it at its own `getmany`, which Faust
        passes by, so nothing would come any more and nobody would know."""
        coordinator = self._coordinator()
        task = getattr(coordinator, "_coordination_task", None)
        if task is not None and task.done():
            if task.cancelled():  # seen after a process was paused for longer than a request may take
                return RuntimeError("aiokafka's coordination was cancelled")
            ended: BaseException | None = task.exception()
            return ended and (ended.__cause__ or ended)
        pending: BaseException | None = getattr(coordinator, "_pending_exception", None)
        return pending

    def member(self) -> str:
        """Its id in the group; another one than before if it was thrown out meanwhile and has joined again. Empty while it has none."""
        return str(getattr(self._coordinator(), "member_id", ""))

    def _coordinator(self) -> Any:
        """aiokafka's part in the group; None before there is one."""
        return getattr(getattr(self._thread, "_consumer", None), "_coordinator", None)

    def rejoin(self) -> None:
        """Have the group share its partitions anew. Who restarts under its fixed name is given what it had, be that nothing, though there may
        be more by now: the topic was made anew."""
        coordinator = self._thread._ensure_consumer()._coordinator  # noqa: SLF001
        self._thread.thread_loop.call_soon_threadsafe(coordinator.request_rejoin)

    def stay(self) -> None:
        """Tell aiokafka that a stand-by lives. It takes a consumer without partitions, which has nothing to fetch, for one that hangs: after
        `broker_max_poll_interval` it leaves the group, and never comes back."""
        with self._thread._ensure_consumer()._subscription.fetch_context():  # noqa: SLF001
            pass

    def _state(self, tp: TP) -> Any:
        # What aiokafka's `highwater` and `position` read, without waiting for a position, and without failing where there is none.
        subscription = self._thread._ensure_consumer()._subscription.subscription  # noqa: SLF001
        assignment = None if subscription is None else subscription.assignment
        return None if assignment is None else assignment.state_value(tp)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        if not isinstance(record, Records):
            return super()._to_message(tp, record)
        delivered = self._delivered[tp]
        first, last = int(record.position[0]), int(record.position[-1])
        while delivered and delivered[-1] >= first:
            # Faust sought back to the committed offset: this batch is in the place of those.
            self._acked_index[tp].discard(delivered.pop())
        delivered.append(last)
        # Faust would drop what lies before where it thinks that it has read to: a committed offset that the topic does not have, say. Whoever scores knows better.
        self._read_offset[tp] = None
        message = ConsumerMessage(
            topic=tp.topic,
            partition=tp.partition,
            offset=last,
            timestamp=float(record.timestamp[-1]) / 1000.0,
            timestamp_type=None,
            headers=None,
            key=None,
            value=record,
            checksum=None,
            tp=tp,
            # Without it the stream takes the message for one of before the rebalance, and drops it in silence.
            generation_id=self.app.consumer_generation_id,
        )
        self._current.add(message)
        return message

    def is_current(self, message: ConsumerMessage) -> bool:
        """Whether a batch is of the partitions as they were last assigned: it may be scored, and will be followed by the next."""
        return message in self._current

    def ack(self, message: ConsumerMessage) -> bool:
        if self._is_batched(message.topic) and not self.is_current(message):
            # Too late: it may be in another worker's hands, or in ours a second time, in a batch that ends alike.
            message.acked = True
            self._unacked_messages.discard(message)
            return False
        counted: bool = super().ack(message)
        if not counted and self._is_batched(message.topic):
            # Faust passes over what lies before the committed offset, where a topic has become shorter; what follows would wait for it for ever.
            self._acked_index[message.tp].add(message.offset)
            self._unacked_messages.discard(message)
        return counted

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        # To Faust the offsets between two batches' last ones are missing; here they are inside the batch.
        if not self._is_batched(tp.topic):
            await super()._add_gap(tp, offset_from, offset_to)

    def _new_offset(self, tp: TP) -> int | None:
        if not self._is_batched(tp.topic):
            found: int | None = super()._new_offset(tp)
            return found
        delivered, acked = self._delivered[tp], self._acked_index[tp]
        done: int | None = None
        while delivered and delivered[0] in acked:
            done = delivered.popleft()
        if done is None:
            return None
        self._acked_index[tp] = {offset for offset in acked if offset > done}
        self._acked[tp] = [offset for offset in self._acked[tp] if offset > done]
        return done + 1

    def on_buffer_full(self, tp: TP) -> None:
        # Faust would stop polling the partition and, with none left, sleep a whole second: a hundred batches that each
        # waited 20 ms for a delivery took 17 s through a buffer of four, and 2.4 s so. A full queue holds up the loop
        # that polls, which is back-pressure enough.
        if not self._is_batched(tp.topic):
            super().on_buffer_full(tp)

    async def wait_empty(self) -> None:
        self.draining = True
        try:
            getattr(self.app, "hurry", lambda: None)()
            await super().wait_empty()
        finally:
            self.draining = False

    async def on_partitions_revoked(self, revoked: Iterable[TP]) -> None:
        # Faust begins by forgetting what was acknowledged since its last commit.
        await self.commit()
        await super().on_partitions_revoked(revoked)
        # Of who had nothing Faust does not stop the flow: it would read what comes next before it has sought, and then empty its queues of it, and not all
        # of that would be read again.
        self.stop_flow()
        # What was worked on has been waited for; everything else is read again from the committed offsets.
        self._current.clear()
        self._delivered.clear()
        self._position.clear()
        self._polled.clear()
        for tp in [tp for tp in self._acked if self._is_batched(tp.topic)]:
            del self._acked[tp]
            self._acked_index.pop(tp, None)


class Transport(driver.Transport):  # type: ignore[misc]
    """What `batches://` names."""

    Consumer = Consumer


check_faust()
fetched.install()
