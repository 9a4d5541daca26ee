"""The Kafka topics, in one table; created by `strayline topics`, checked when a worker starts.

kafka-python does the asking: it blocks and brings a thread of its own, so it is for the time before the worker's loop runs.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError

from stream.errors import BrokerError
from stream.settings import Settings

EVENTS = "agent.access.events"
ALERTS = "agent.access.alerts"
REJECTED = "agent.access.rejected"
BASELINES = "agent.access.baselines"
VERDICTS = "agent.access.verdicts"

_DAY = 24 * 60 * 60 * 1000
_CONNECT_SECONDS = 6.0
_ANSWER_MS = 4000
_UNKNOWN_TOPIC = 3
_EXISTS = 36


@dataclass(frozen=True)
class Topic:
    """One row: what it is called, how many partitions it has, how the broker keeps it, who uses it, and why so."""

    name: str
    partitions: int | None
    """None: as many as the events have."""
    configs: dict[str, str] = field(hash=False)
    written_by: str
    read_by: str
    why: str


TOPICS = (
    Topic(
        EVENTS,
        None,
        {"cleanup.policy": "delete", "retention.ms": f"{7 * _DAY}"},
        "the agents' gateways",
        "worker",
        "a week, so that an outage of days loses nothing and a new model can be tried on real traffic",
    ),
    Topic(
        ALERTS,
        None,
        # An alert names up to twenty events for each signal; in the worst case that is more than a broker's default.
        {"cleanup.policy": "delete", "retention.ms": f"{90 * _DAY}", "max.message.bytes": f"{4 << 20}"},
        "worker",
        "the SIEM, analysts",
        "a quarter: investigations begin long after the alert",
    ),
    Topic(
        REJECTED,
        1,
        # An event that just fits its topic no longer fits here by default, with the reason and in base64.
        {"cleanup.policy": "delete", "retention.ms": f"{30 * _DAY}", "max.message.bytes": f"{4 << 20}"},
        "worker",
        "whoever owns the producers",
        "a month to mend a producer and send the records again; a trickle, so one partition",
    ),
    Topic(
        BASELINES,
        None,
        {
            # Never `delete` as well: an agent that is quiet for longer than the retention would be forgotten.
            "cleanup.policy": "compact",
            # Small segments, cleaned early: a worker reads all of a partition before it scores.
            "min.cleanable.dirty.ratio": "0.2",
            "segment.ms": f"{30 * 60 * 1000}",
            "segment.bytes": f"{64 << 20}",
            "max.message.bytes": f"{4 << 20}",
        },
        "worker",
        "worker, when it is given a partition",
        "what is usual for each agent; partition for partition beside the events",
    ),
    Topic(
        VERDICTS,
        None,
        # A verdict carries the evidence of its alert.
        {"cleanup.policy": "delete", "retention.ms": f"{400 * _DAY}", "max.message.bytes": f"{4 << 20}"},
        "analysts, with `strayline verdict` or from the SIEM",
        "worker",
        "over a year, for auditors, and to be heeded again where baselines were lost; partition for partition beside the events",
    ),
)
DEFAULT_PARTITIONS = 4  # of the events: no more workers than these can share the work, and it cannot grow later


def ensure_topics(
    settings: Settings,
    partitions: int | None = None,
    replication: int = 1,
    created: Callable[[str], object] = lambda _: None,
) -> list[str]:
    """Create the topics that are missing, and return a line for each that is not as it should be, with what mends it.

    `created` is told of each topic made. Existing topics are never changed: somebody may have meant it.
    Raises `BrokerError` when the broker cannot be reached or refuses.
    """
    with _admin(settings) as admin:
        found = _partitions(admin)
        asked = partitions or found.get(EVENTS) or DEFAULT_PARTITIONS
        width = found.get(EVENTS, asked)
        missing = [topic for topic in TOPICS if topic.name not in found]
        for topic in missing:
            count = topic.partitions or width
            _create(admin, topic, count, replication)
            created(f"created {topic.name}: {count} partition{'s' * (count > 1)}, replication {replication}")
        if missing:
            admin.wait_for_topics([topic.name for topic in missing])
            found = _partitions(admin)
        lines = list(_drift(admin, found, settings.broker))
        if width != asked:
            lines.insert(
                0,
                f"{EVENTS} has {width} partitions, not {asked}: leave it so, for an agent's baseline lives in the partition "
                f"that its key hashes to; to begin anew, stop the workers, run `{_delete(settings.broker, EVENTS)}` and "
                f"`{_delete(settings.broker, BASELINES)}`, then `strayline topics --partitions {asked}`",
            )
        return lines


def check_topics(settings: Settings) -> int:
    """How many partitions the events have. Raises `BrokerError` unless a worker can run on the topics as they are."""
    with _admin(settings) as admin:
        found = _partitions(admin)
        missing = [topic.name for topic in TOPICS if topic.name not in found]
        if missing:
            raise BrokerError(
                f"{settings.broker} has no topic {', '.join(missing)}: create what is missing with "
                f"`strayline topics --partitions {found.get(EVENTS, 'N')}`"
                + (", N being the most workers that will ever share the work" if EVENTS in missing else "")
            )
        fatal = [line for line in _drift(admin, found, settings.broker) if line.startswith(_FATAL)]
        if fatal:
            again = f"then look again with `strayline topics --partitions {found[EVENTS]}`"
            raise BrokerError("; ".join([*fatal, again]))
        return found[EVENTS]


# How a worker would lose baselines, those of other partitions and those that were deleted, or never see a verdict.
_FATAL = (f"{BASELINES} has cleanup.policy=", f"{BASELINES} has partitions=", f"{VERDICTS} has partitions=")


def _drift(admin: KafkaAdminClient, found: dict[str, int], broker: str) -> Iterator[str]:
    for topic in TOPICS:
        count = topic.partitions or found[EVENTS]
        # More alert partitions, or fewer, change nothing; a baseline and a verdict must be where their agent's events are.
        if topic.name in (BASELINES, VERDICTS) and found[topic.name] != count:
            grow = f"kafka-topics --bootstrap-server {broker} --alter --topic {topic.name} --partitions {count}"
            anew = f"{_delete(broker, topic.name)}` and `strayline topics --partitions {count}"
            lost = "learn the baselines anew" if topic.name == BASELINES else "begin without the verdicts"
            mend = f"run `{grow}`" if found[topic.name] < count else f"{lost}: run `{anew}`"
            yield f"{topic.name} has partitions={found[topic.name]}, should be {count} as {EVENTS} has: {mend}"
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in TOPICS]
    configs = admin.describe_configs(resources, config_filter="all")["topic"]
    for topic in TOPICS:
        for key, wanted in topic.configs.items():
            value = configs[topic.name][key]["value"]
            if value != wanted:
                yield (
                    f"{topic.name} has {key}={value}, should be {wanted}: run `kafka-configs --bootstrap-server {broker} "
                    f"--alter --entity-type topics --entity-name {topic.name} --add-config {key}={wanted}`"
                )


def _delete(broker: str, name: str) -> str:
    return f"kafka-topics --bootstrap-server {broker} --delete --topic {name}"


def _partitions(admin: KafkaAdminClient) -> dict[str, int]:
    """The number of partitions of each of our topics that exists."""
    found = {}
    for topic in admin.describe_topics([topic.name for topic in TOPICS]):
        if topic["error_code"] == 0:
            found[topic["name"]] = len(topic["partitions"])
        elif topic["error_code"] != _UNKNOWN_TOPIC:
            raise BrokerError(
                f"the broker will not tell about {topic['name']} (Kafka error {topic['error_code']}): may this client describe it?"
            )
    return found


def _create(admin: KafkaAdminClient, topic: Topic, count: int, replication: int) -> None:
    # With three copies, a write that only one of them took is not safe yet.
    safety = {"min.insync.replicas": "2"} if replication > 2 else {}
    wanted = {"num_partitions": count, "replication_factor": replication, "configs": topic.configs | safety}
    answer = admin.create_topics({topic.name: wanted}, raise_errors=False)["topics"][0]
    if answer["error_code"] not in {0, _EXISTS}:  # two may run this at once
        reason = answer["error_message"] or f"Kafka error {answer['error_code']}"
        raise BrokerError(
            f"the broker would not create {topic.name} with {count} partitions and replication {replication}: {reason}"
        )


@contextmanager
def _admin(settings: Settings) -> Iterator[KafkaAdminClient]:
    try:
        _reach(settings.broker)
        admin = KafkaAdminClient(
            bootstrap_servers=[server.strip() for server in settings.broker.split(",")],
            bootstrap_timeout_ms=_ANSWER_MS,
            request_timeout_ms=_ANSWER_MS,
        )
    except (KafkaError, OSError) as reason:
        raise BrokerError(
            f"no Kafka at {settings.broker} ({reason}): start one with {_starting(settings.broker)}, "
            "or set STRAYLINE_BROKER to where yours is"
        ) from reason
    with admin:
        try:
            yield admin
        except KafkaError as reason:
            raise BrokerError(f"Kafka at {settings.broker} did not do what was asked: {reason}") from reason


def _starting(bootstrap: str) -> str:
    """The command that starts a broker there. Compose publishes its own on 9092 only."""
    host, _, port = bootstrap.rpartition(":")
    if host in {"localhost", "127.0.0.1"} and port.isdecimal() and port != "9092":
        return f"`make kafka PORT={port}`"
    return "`make kafka` or `docker compose up -d kafka`"


def _reach(bootstrap: str) -> None:
    """Wait a moment until one of the servers accepts a connection: a broker may be starting beside us.

    Left to find that out, kafka-python would say only that it timed out, and go on trying for ever in a thread.
    """
    deadline = time.monotonic() + _CONNECT_SECONDS
    while True:
        for server in bootstrap.split(","):
            host, _, port = server.strip().rpartition(":")
            if not host or not port.isdigit() or int(port) > 65535:
                raise OSError(f"{server.strip()!r} is not HOST:PORT")
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
            except OSError as error:
                reason = error
            else:
                return
        if time.monotonic() > deadline:
            raise reason
        time.sleep(0.2)
