"""The Kafka topics, in one table; created by `strayline topics`, checked when a worker starts.

kafka-python does the asking: it blocks and brings a thread of its own, so it is for the time before the worker's loop runs.
What is not as it should be is told with the command that mends it, and never changed: somebody may have meant it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kafka import IsolationLevel, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, OffsetSpec
from kafka.errors import UnknownTopicOrPartitionError

from stream.client import admin, retrying, tool, user
from stream.errors import BrokerError, TopicsError
from stream.settings import Settings
from stream.words import counted

EVENTS = "agent.access.events"
ALERTS = "agent.access.alerts"
REJECTED = "agent.access.rejected"
BASELINES = "agent.access.baselines"
VERDICTS = "agent.access.verdicts"
COHORTS = "agent.access.cohorts"
TRANSACTIONS = f"strayline-{EVENTS}-"  # ids begin so, whatever the group is: of all workers on these topics one at a time may write what a partition has learned

_DAY = 24 * 60 * 60 * 1000
# A broker refuses what is dated more than an hour ahead of it, and deletes by date: a worker's clock that is wrong, or jumps, must not count.
_BROKERS_TIME = {"message.timestamp.type": "LogAppendTime"}
# What is kept of each agent, and of cohorts. Never `delete` as well: who is quiet for longer than the retention would be forgotten.
_COMPACTED = {
    "cleanup.policy": "compact",
    # Small segments, cleaned early: a worker reads all of a partition before it scores.
    "min.cleanable.dirty.ratio": "0.2",
    "segment.ms": f"{30 * 60 * 1000}",
    "segment.bytes": f"{64 << 20}",
    "max.message.bytes": f"{4 << 20}",
    **_BROKERS_TIME,
}
_UNKNOWN_TOPIC = 3
_EXISTS = 36
_FORBIDDEN = 29


@dataclass(frozen=True)
class Topic:
    """One row: what it is called, how many partitions it has, and how the broker keeps it. Who uses it, and why so, is said above each."""

    name: str
    partitions: int | None
    """None: as many as the events have."""
    configs: dict[str, str] = field(hash=False)


TOPICS = (
    # Written by the agents' gateways; read by the worker. A week, so that an outage of days loses nothing and a new model can be tried on real traffic.
    Topic(
        EVENTS,
        None,
        {"cleanup.policy": "delete", "retention.ms": f"{7 * _DAY}"},
    ),
    # Written by the worker; read by the SIEM, analysts. A quarter: investigations begin long after the alert.
    Topic(
        ALERTS,
        None,
        # An alert names up to twenty events for each signal; in the worst case that is more than a broker's default.
        {
            "cleanup.policy": "delete",
            "retention.ms": f"{90 * _DAY}",
            "max.message.bytes": f"{4 << 20}",
            **_BROKERS_TIME,
        },
    ),
    # Written by the worker; read by whoever owns the producers. A month to mend a producer and send the records again; a trickle, so one partition.
    Topic(
        REJECTED,
        1,
        # An event that just fits its topic no longer fits here by default, with the reason in its headers.
        {
            "cleanup.policy": "delete",
            "retention.ms": f"{30 * _DAY}",
            "max.message.bytes": f"{4 << 20}",
            **_BROKERS_TIME,
        },
    ),
    # Written by the worker; read by the worker, when it is given a partition. What is usual for each agent; partition for partition beside the events.
    Topic(
        BASELINES,
        None,
        _COMPACTED,
    ),
    # Written by analysts, with `strayline verdict` or from the SIEM; read by the worker. Over a year, for auditors, and to be heeded again where baselines were lost; partition for partition beside the events.
    Topic(
        VERDICTS,
        None,
        # A verdict carries the evidence of its alert.
        {
            "cleanup.policy": "delete",
            "retention.ms": f"{400 * _DAY}",
            "max.message.bytes": f"{4 << 20}",
            **_BROKERS_TIME,
        },
    ),
    # Written by the worker; read by the workers of the other partitions. What each partition has taught of cohorts and the fleet; partition for partition beside the events.
    Topic(
        COHORTS,
        None,
        _COMPACTED,
    ),
)


def ensure_topics(
    settings: Settings,
    partitions: int | None = None,
    replication: int | None = None,
    created: Callable[[str], object] = lambda _: None,
) -> list[str]:
    """Create the topics that are missing, and return a line for each that is not as it should be, with what mends it.

    `created` is told of each topic made. Existing topics are never changed: somebody may have meant it.
    Raises `BrokerError` when the broker cannot be reached or refuses.
    """
    with admin(settings) as client:
        described = _described(client, settings)
        found = _replicas(described)
        asked = partitions or len(found.get(EVENTS, ()))
        if not asked:
            raise TopicsError(
                f"{EVENTS} does not exist on {settings.broker}: say how many partitions it is to have, `strayline topics --partitions 4`; "
                "no more workers than these can share the work, and it cannot grow later"
            )
        width = len(found.get(EVENTS, ())) or asked
        copies = replication or min(map(len, found.get(EVENTS, ())), default=1)
        missing = [topic for topic in TOPICS if topic.name not in found]
        for topic in missing:
            count = topic.partitions or width
            _create(client, topic, count, copies)
            created(f"created {topic.name}: {counted(count, 'partition')}, replication {copies}")
        configs = None
        if missing:
            client.wait_for_topics([topic.name for topic in missing])
            described = _described(client, settings)
            with suppress(UnknownTopicOrPartitionError):  # what it may not see is said below
                described, configs = retrying(lambda: _of_all(client, settings))
            found = _replicas(described)
        brokers = [broker["broker_id"] for broker in client.describe_cluster()["brokers"]]
        configs = configs or _configured(client)
        lines = [
            *_too_few(described, configs),
            *_copies(settings, found, copies, brokers),
            *_drift(settings, found, configs, copies),
        ]
        if width != asked:
            lines.insert(
                0,
                f"{EVENTS} has {counted(width, 'partition')}, not {asked}: leave it so, for an agent's baseline lives in the partition "
                f"that its key hashes to; to begin anew, stop the workers, run `{_delete(settings, EVENTS)}` and "
                f"`{_delete(settings, BASELINES)}`, then `strayline topics --partitions {asked}`",
            )
        return lines


class Known(NamedTuple):
    """How many partitions the events have, and the ids of their topic and of the baselines', which no other has (KIP-516): made anew it is another. Empty where the broker gives none."""

    partitions: int
    events: str = ""
    baselines: str = ""


def is_another(known: str, found: str) -> bool:
    """Whether a topic is not that of an id; where one is not known nobody can tell."""
    return bool(known and found) and known != found


def check_topics(settings: Settings) -> Known:
    """What the worker reads. Raises `TopicsError` unless a worker can run on the topics as they are, and `BrokerError`."""
    with admin(settings) as client:
        return _checked(client, settings)


class End(NamedTuple):
    """The next offset of a partition, and the first that belongs to a transaction which is still open: so far can be read who reads committed."""

    offset: int
    stable: int


def event_ends(settings: Settings) -> tuple[Known, list[End]]:
    """What is known of the topics, and of each partition of the events where it ends, once the topics are checked. Raises as `check_topics` does."""
    with admin(settings) as client:
        known = _checked(client, settings)
        partitions = [TopicPartition(EVENTS, number) for number in range(known.partitions)]
        asked = dict.fromkeys(partitions, OffsetSpec.LATEST)
        # First, so that it is not beyond the other.
        stable = client.list_partition_offsets(asked, IsolationLevel.READ_COMMITTED)
        told = client.list_partition_offsets(asked)
        return known, [End(int(told[tp].offset), int(stable[tp].offset)) for tp in partitions]


def _checked(client: KafkaAdminClient, settings: Settings) -> Known:
    described = _described(client, settings)
    found = _replicas(described)
    _refuse_missing(settings, found, TOPICS)
    fatal = [line for line in _drift(settings, found, _configured(client)) if line.startswith(_FATAL)]
    if fatal:
        again = f"then look again with `strayline topics --partitions {len(found[EVENTS])}`"
        raise TopicsError("; ".join([*fatal, again]))
    events, baselines = (str(described[name].get("topic_id") or "") for name in (EVENTS, BASELINES))
    return Known(len(found[EVENTS]), events, baselines)


def partitions_of(settings: Settings, name: str) -> int:
    """How many one topic has, for whoever may not ask about the others. Raises `BrokerError` if it is missing."""
    rows = [topic for topic in TOPICS if topic.name == name]
    with admin(settings) as client:
        found = _replicas(_described(client, settings, rows))
        _refuse_missing(settings, found, rows)
        return len(found[name])


def differences(settings: Settings) -> list[str]:
    """What `ensure_topics` would tell, without creating anything; those that keep a worker from starting first.

    Raises `BrokerError` for a topic that is missing.
    """
    with admin(settings) as client:
        described, configs = _described(client, settings), _configured(client)
        found = _replicas(described)
        _refuse_missing(settings, found, TOPICS)
        copies = min(map(len, found[EVENTS]))
        brokers = [broker["broker_id"] for broker in client.describe_cluster()["brokers"]]
        lines = [
            *_too_few(described, configs),
            *_drift(settings, found, configs, copies),
            *_copies(settings, found, copies, brokers),
        ]
        return sorted(lines, key=lambda line: not keeps_workers_out(line))


# How a worker would lose baselines, those of other partitions and those that were deleted, or never see an event, a verdict or a cohort.
_FATAL = tuple(
    f"{name} has {what}="
    for name, what in (
        (EVENTS, "cleanup.policy"),
        (BASELINES, "cleanup.policy"),
        (BASELINES, "partitions"),
        (VERDICTS, "cleanup.policy"),
        (VERDICTS, "partitions"),
        (COHORTS, "cleanup.policy"),
        (COHORTS, "partitions"),
    )
)


def keeps_workers_out(line: str) -> bool:
    """Whether a worker refuses to start beside this difference."""
    return line.startswith(_FATAL)


Described = dict[str, dict[str, Any]]  # topic → what the broker tells of it
Replicas = dict[str, list[list[int]]]  # topic → the brokers that hold each partition
Configured = dict[str, dict[str, Any]]  # topic → what each of its settings is


def _refuse_missing(settings: Settings, found: Replicas, rows: Sequence[Topic]) -> None:
    missing = [topic.name for topic in rows if topic.name not in found]
    if missing:
        raise TopicsError(
            f"{settings.broker} has no topic {', '.join(missing)}: create what is missing with "
            f"`strayline topics --partitions {len(found.get(EVENTS, ())) or 'N'}`"
            + (", N being the most workers that will ever share the work" if EVENTS in missing else "")
        )


def _of_all(client: KafkaAdminClient, settings: Settings) -> tuple[Described, Configured]:
    """What is known of topics that were just made. Any broker may be asked, and each hears of them in its own time: raises `UnknownTopicOrPartitionError` until then."""
    described, configs = _described(client, settings), _configured(client)
    if not all(topic.name in described and configs.get(topic.name) for topic in TOPICS):
        raise UnknownTopicOrPartitionError
    return described, configs


def _configured(client: KafkaAdminClient) -> Configured:
    """Of a topic that it may not see, or does not know, nothing."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in TOPICS]
    configs: Configured = client.describe_configs(resources, config_filter="all")["topic"]
    return configs


def _drift(settings: Settings, found: Replicas, configs: Configured, copies: int = 1) -> Iterator[str]:
    for topic in TOPICS:
        have, count = len(found[topic.name]), topic.partitions or len(found[EVENTS])
        # More alert partitions, or fewer, change nothing; a baseline and a verdict must be where their agent's events are.
        if topic.name in (BASELINES, VERDICTS, COHORTS) and have != count:
            grow = f"{tool(settings, 'kafka-topics')} --alter --topic {topic.name} --partitions {count}"
            anew = f"{_delete(settings, topic.name)}` and `strayline topics --partitions {count}"
            lost = {BASELINES: "learn the baselines anew", VERDICTS: "begin without the verdicts"}.get(
                topic.name, "let the partitions learn of each other's cohorts anew"
            )
            mend = f"run `{grow}`" if have < count else f"{lost}: run `{anew}`"
            yield f"{topic.name} has partitions={have}, should be {count} as {EVENTS} has: {mend}"
    for topic in TOPICS:
        for key, wanted in _configs(topic, copies).items():
            if not configs.get(topic.name):
                raise BrokerError(
                    f"{user(settings)} may not see the configuration of {topic.name} on {settings.broker}: `strayline doctor` names "
                    "the ACL that is missing, deploy/kafka/acls.sh has them all"
                )
            value = configs[topic.name][key]["value"]
            if value != wanted:
                compacted = key == "cleanup.policy" and wanted == "delete" and "compact" in value
                lost = ", or all but the last record of each agent goes, read or not" if compacted else ""
                yield (
                    f"{topic.name} has {key}={value}, should be {wanted}{lost}: run `{tool(settings, 'kafka-configs')} "
                    f"--alter --entity-type topics --entity-name {topic.name} --add-config {key}={wanted}`"
                )


def _too_few(described: Described, configs: Configured) -> Iterator[str]:
    """Topics to which nothing can be written now, since too few of the brokers that hold them are there."""
    for name, topic in described.items():
        least = int(configs.get(name, {}).get("min.insync.replicas", {}).get("value") or 1)
        low = [p for p in topic["partitions"] if len(p["isr_nodes"]) < least]
        if low:
            there = min(len(p["isr_nodes"]) for p in low)
            yield (
                f"{name} has {counted(there, 'copy', 'copies')} in sync of {counted(len(low), 'partition')}, and min.insync.replicas={least}: nothing can be written to "
                "it until the brokers that hold it are back"
            )


def _copies(settings: Settings, found: Replicas, copies: int, brokers: Sequence[int]) -> Iterator[str]:
    """Topics of which a partition is held by fewer brokers, or more, than it should be."""
    for topic in TOPICS:
        have = sorted({len(replicas) for replicas in found[topic.name]})
        if have == [copies]:
            continue
        if copies > len(brokers):
            mend = f"add brokers first, there are {len(brokers)}"
        else:
            plan = json.dumps({"version": 1, "partitions": _plan(topic.name, found[topic.name], copies, brokers)})
            move = f"{tool(settings, 'kafka-reassign-partitions')} --reassignment-json-file replicas.json --execute"
            mend = f"run `echo '{plan}' > replicas.json && {move}`"
        yield f"{topic.name} has replication={' and '.join(map(str, have))}, should be {copies}: {mend}"


def _plan(name: str, found: Sequence[Sequence[int]], copies: int, brokers: Sequence[int]) -> list[dict[str, object]]:
    """Who shall hold each partition: those who do, the leader first, then the next brokers in turn.

    >>> [row["replicas"] for row in _plan("t", [[1], [2]], 3, [1, 2, 3])]
    [[1, 2, 3], [2, 3, 1]]
    """
    rows: list[dict[str, object]] = []
    for number, replicas in enumerate(found):
        turn = sorted(brokers).index(replicas[0]) if replicas[0] in brokers else number
        others = [*sorted(brokers)[turn:], *sorted(brokers)[:turn]]
        held = list(dict.fromkeys([*replicas, *others]))
        rows.append({"topic": name, "partition": number, "replicas": held[:copies]})
    return rows


def _configs(topic: Topic, copies: int) -> dict[str, str]:
    # With three copies, a write that only one of them took is not safe yet. And who lacks the end must not lead: offsets that a worker has gone by would be of other events.
    whole = {"unclean.leader.election.enable": "false"} | ({"min.insync.replicas": "2"} if copies > 2 else {})
    return topic.configs | whole


def _delete(settings: Settings, name: str) -> str:
    return f"{tool(settings, 'kafka-topics')} --delete --topic {name}"


def _described(client: KafkaAdminClient, settings: Settings, rows: Sequence[Topic] = TOPICS) -> Described:
    """What the broker tells of each of our topics that exists."""
    found = {}
    for topic in client.describe_topics([topic.name for topic in rows]):
        if topic["error_code"] == 0:
            found[topic["name"]] = topic
        elif topic["error_code"] == _FORBIDDEN:
            raise BrokerError(
                f"{user(settings)} may not describe {topic['name']} on {settings.broker}: `strayline doctor` names the ACL that is "
                "missing, deploy/kafka/acls.sh has them all"
            )
        elif topic["error_code"] != _UNKNOWN_TOPIC:
            raise BrokerError(
                f"the broker will not tell about {topic['name']} (Kafka error {topic['error_code']}); see its log"
            )
    return found


def _replicas(described: Described) -> Replicas:
    """Of each topic, the brokers that hold each partition."""
    return {
        name: [p["replica_nodes"] for p in sorted(topic["partitions"], key=lambda p: p["partition_index"])]
        for name, topic in described.items()
    }


def _create(client: KafkaAdminClient, topic: Topic, count: int, copies: int) -> None:
    wanted = {"num_partitions": count, "replication_factor": copies, "configs": _configs(topic, copies)}
    answer = client.create_topics({topic.name: wanted}, raise_errors=False)["topics"][0]
    if answer["error_code"] not in {0, _EXISTS}:  # two may run this at once
        reason = answer["error_message"] or f"Kafka error {answer['error_code']}"
        raise BrokerError(
            f"the broker would not create {topic.name} with {counted(count, 'partition')} and replication {copies}: {reason}"
        )
