"""Who needs what on Kafka, role by role; `deploy/kafka/acls.sh` grants exactly this, `strayline doctor` asks the broker for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from kafka import KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, MemberToRemove
from kafka.errors import GroupAuthorizationFailedError, TransactionalIdAuthorizationFailedError

from stream.client import admin, arguments, retrying, tool, user
from stream.errors import BrokerError
from stream.settings import Settings
from stream.topics import ALERTS, BASELINES, COHORTS, EVENTS, REJECTED, TOPICS, TRANSACTIONS, VERDICTS

FAMILY = "agent.access."  # what all our topics begin with


class Need(NamedTuple):
    """Operations on one resource of Kafka's, in the words of its `kafka-acls`; a prefixed one is every name that begins so."""

    kind: str  # topic, group, transactional-id, cluster
    name: str
    operations: tuple[str, ...]
    prefixed: bool = False

    def __str__(self) -> str:
        named = "the cluster" if self.kind == "cluster" else f"{self.kind} {self.name}"
        return f"{', '.join(self.operations)} on {named}{'*' if self.prefixed else ''}"


ROLES = ("producer", "worker", "analyst", "admin")


def needs(role: str, group: str) -> list[Need]:
    """All that a role needs; `group` is the workers' consumer group."""
    readers, resubmit = f"{group}-readers", f"{group}-resubmit"
    return {
        "producer": [Need("topic", EVENTS, ("Write",))],
        "worker": [
            Need("topic", EVENTS, ("Read", "DescribeConfigs")),
            Need("topic", ALERTS, ("Write", "DescribeConfigs")),
            Need("topic", REJECTED, ("Write", "DescribeConfigs")),
            Need("topic", BASELINES, ("Read", "Write", "DescribeConfigs")),
            Need("topic", VERDICTS, ("Read", "DescribeConfigs")),
            Need("topic", COHORTS, ("Read", "Write", "DescribeConfigs")),
            Need("group", group, ("Read",)),
            Need("transactional-id", TRANSACTIONS, ("Write",), prefixed=True),
        ],
        "analyst": [
            Need("topic", ALERTS, ("Read",)),
            Need("topic", REJECTED, ("Read",)),
            Need("topic", VERDICTS, ("Write",)),
            Need("group", readers, ("Read",), prefixed=True),
        ],
        "admin": [
            Need("topic", FAMILY, ("Create", "Alter", "AlterConfigs", "DescribeConfigs", "Read"), prefixed=True),
            Need("topic", EVENTS, ("Write",)),
            Need("topic", REJECTED, ("Write",)),
            Need("transactional-id", resubmit, ("Write",), prefixed=True),
            Need("group", group, ("Describe",)),
            Need("cluster", "", ("Describe",)),
        ],
    }[role]


def lacking(settings: Settings, client: KafkaAdminClient, role: str) -> Iterator[Need]:
    """What the broker does not allow us of it, one need for each resource.

    Topics and the cluster are asked for. A group is tried with a member that it does not have, a transactional id with one
    that nobody else uses.
    """
    for need in needs(role, settings.group):
        allowed = _allowed(settings, client, need)
        missing = tuple(operation for operation in need.operations if operation.upper() not in allowed)
        if missing:
            yield need._replace(operations=missing)


def check_access(settings: Settings) -> None:
    """Raise `BrokerError`, with the ACLs to add, unless the broker allows us all that a worker does.

    Found out later, it would be a worker that starts, fails at its first delivery, and is started again for ever.
    """
    with admin(settings) as client:
        missing = list(lacking(settings, client, "worker"))
    if missing:
        raise BrokerError(
            f"{user(settings)} lacks {'; '.join(map(str, missing))} on {settings.broker}: run "
            + " and ".join(f"`{command(settings, need)}`" for need in missing)
            + ", or all of deploy/kafka/acls.sh worker"
        )


def command(settings: Settings, need: Need) -> str:
    """What grants it."""
    operations = " ".join(f"--operation {operation}" for operation in need.operations)
    pattern = " --resource-pattern-type prefixed" if need.prefixed else ""
    named = f"--{need.kind} {need.name}".rstrip()
    return f'{tool(settings, "kafka-acls")} --add --allow-principal "{user(settings)}" {operations}{pattern} {named}'


def _allowed(settings: Settings, client: KafkaAdminClient, need: Need) -> set[str]:
    """Operations in capitals, without the underscores that kafka-python writes."""
    if need.kind == "topic":
        # A prefix is asked through the topics that have it: all of them must allow what it brings.
        names = [topic.name for topic in TOPICS] if need.prefixed else [need.name]
        return set.intersection(*(_allowed_of_topic(client, topic) for topic in client.describe_topics(names)))
    if need.kind == "cluster":
        return _names(client.describe_cluster()["authorized_operations"])
    if need.kind == "group":
        return _allowed_of_group(client, need.name)
    producer = KafkaProducer(**arguments(settings), transactional_id=f"{need.name}doctor")
    try:
        retrying(producer.init_transactions)
    except TransactionalIdAuthorizationFailedError:
        return set()
    finally:
        producer.close(timeout=2)
    return {"WRITE"}


def _allowed_of_topic(client: KafkaAdminClient, topic: dict[str, Any]) -> set[str]:
    """The broker tells nothing of a topic that we may neither read nor write: what else is allowed is tried."""
    if topic["authorized_operations"] is not None:
        return _names(topic["authorized_operations"])
    resource = ConfigResource(ConfigResourceType.TOPIC, topic["name"])
    told = client.describe_configs([resource], config_filter="all")["topic"]
    return {"DESCRIBECONFIGS"} if told.get(topic["name"]) else set()  # kafka-python passes over the refusal


def _allowed_of_group(client: KafkaAdminClient, group: str) -> set[str]:
    """The broker tells nothing of a group that does not exist yet, so both are tried: taking out a member that no group has
    needs Read, looking at its offsets Describe."""
    try:
        retrying(lambda: client.list_group_offsets({group: None}))
        retrying(lambda: client.remove_group_members(group, [MemberToRemove(member_id="strayline-doctor")]))
    except GroupAuthorizationFailedError as refused:
        return {"DESCRIBE"} if "LeaveGroup" in str(refused) else set()
    return {"DESCRIBE", "READ"}


def _names(operations: Iterable[str] | None) -> set[str]:
    return {operation.replace("_", "") for operation in operations or ()}
