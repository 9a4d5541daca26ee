"""On a broker with TLS, passwords, certificates and ACLs, every client gets in with what its role is given, and no further."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Self

import aiokafka
import pytest
from kafka import TopicPartition
from kafka.admin import (
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePatternFilter,
    ResourceType,
)

from stream.acls import ROLES, Need, needs
from stream.client import arguments, retrying
from stream.engine import warm_up
from stream.errors import BrokerError, SettingsError
from stream.produce import produce
from stream.settings import load
from stream.simulate import simulate
from stream.topics import ALERTS, EVENTS, REJECTED, TOPICS, ensure_topics
from tests.forked import Forked
from tests.secured import ACLS, PASSWORD, ROOT, Secured, closed_port, lacking, strayline

DEADLINE = 90.0


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """With the ACLs of deploy/ for one user of each role, and no others."""
    lack = lacking()
    if lack is not None:
        pytest.skip(lack)
    with Secured(tmp_path_factory.mktemp("secured")) as broker:
        broker.acls("producer=gateway", "worker=worker", "worker=worker-mtls", "analyst=analyst", "admin=admin")
        assert ensure_topics(load(broker.settings("admin")), 1) == []
        yield broker


def granted(role: str, folder: Path) -> set[Need]:
    """What the script in deploy/ allows a role, as the arguments that it gives to Kafka's tool."""
    told, tool = folder / "told", folder / "kafka-acls"
    tool.write_text(f'#!/bin/sh\nfor word in "$@"; do printf "%s " "$word" >> {told}; done\necho >> {told}\n')
    tool.chmod(0o755)
    subprocess.run(["sh", ACLS, role, "User:x"], check=True, env={"PATH": os.environ["PATH"], "KAFKA_ACLS": str(tool)})
    found = set()
    for line in told.read_text().splitlines():
        words = shlex.split(line)
        values = lambda option, words=words: [b for a, b in pairwise(words) if a == option]  # noqa: E731
        assert values("--allow-principal") == ["User:x"]
        for kind in ("topic", "group", "transactional-id"):
            for name in values(f"--{kind}"):
                prefixed = values("--resource-pattern-type") == ["prefixed"]
                found.add(Need(kind, name, tuple(values("--operation")), prefixed))
        if "--cluster" in words:
            found.add(Need("cluster", "", tuple(values("--operation"))))
    return found


@pytest.mark.parametrize("role", ROLES)
def test_the_script_in_deploy_grants_what_the_doctor_asks_for(role, tmp_path):
    """Neither less nor more."""
    assert granted(role, tmp_path) == set(needs(role, "strayline"))


def test_every_topic_that_a_worker_uses_is_granted_to_it():
    """A topic that is added to the table is not forgotten in the ACLs."""
    assert {need.name for need in needs("worker", "g") if need.kind == "topic"} == {topic.name for topic in TOPICS}


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("role", "changed"),
    [
        ("producer", {"STRAYLINE_SASL_USERNAME": "gateway", "STRAYLINE_SASL_PASSWORD": PASSWORD.format("gateway")}),
        ("producer", {"STRAYLINE_SASL_USERNAME": "gateway", "STRAYLINE_SASL_PASSWORD": PASSWORD.format("gateway"), "STRAYLINE_SASL_MECHANISM": "PLAIN"}),
        ("worker", {}),
        ("worker", {"STRAYLINE_SASL_MECHANISM": "SCRAM-SHA-256"}),
        ("analyst", {}),
        ("admin", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else value.get("STRAYLINE_SASL_MECHANISM", "SCRAM-SHA-512"),
)  # fmt: skip
def test_the_doctor_finds_nothing_amiss_for_each_role(secured, role, changed):
    told = strayline(secured.settings(role, **changed), "doctor", "--role", role)
    assert told.returncode == 0, told.stdout + told.stderr
    assert f"may do all that the role {role} needs" in told.stdout
    assert "fail" not in told.stdout
    assert PASSWORD.format("") not in told.stdout + told.stderr


@pytest.mark.kafka
def test_the_doctor_takes_a_certificate_for_a_password(secured):
    told = strayline(secured.certified(), "doctor")
    assert told.returncode == 0, told.stdout


class Watched:
    """`strayline worker` with these settings, until its partition is ready; it is killed at the end."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        port = {"STRAYLINE_HTTP_PORT": str(closed_port()), "STRAYLINE_FLUSH_SECONDS": "0.05"}
        self.process = Forked(["worker"], dict(environment) | port, log, log)

    def until_committed(self, client: KafkaAdminClient, end: int) -> None:
        """Until its group has finished the one partition up to `end`."""
        deadline = time.monotonic() + DEADLINE
        while self.committed(client) < end:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()

    @staticmethod
    def committed(client: KafkaAdminClient) -> int:
        found = retrying(lambda: client.list_group_offsets({"strayline": None}))["strayline"]
        return found[TopicPartition(EVENTS, 0)].offset if found else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        self.process.kill()
        self.process.wait()


async def first_alert(reader: dict[str, object]) -> dict[str, object]:
    consumer = aiokafka.AIOKafkaConsumer(
        ALERTS, **reader, group_id="strayline-readers-siem", auto_offset_reset="earliest", isolation_level="read_committed"
    )  # fmt: skip
    await consumer.start()
    try:
        return json.loads((await asyncio.wait_for(consumer.getone(), DEADLINE)).value)
    finally:
        await consumer.stop()


@pytest.mark.kafka
def test_events_become_alerts_with_least_privilege_from_end_to_end(secured, tmp_path):
    """A gateway sends, a worker with a password and then one with a certificate scores, an analyst reads."""
    events = simulate(3, 12, 10).events
    half = len(events) // 2
    warm_up(load({}))  # what is compiled here need not be compiled before a deadline
    gateway = load(secured.settings("gateway"))
    with KafkaAdminClient(bootstrap_servers=secured.bootstrap) as client:
        produce(gateway, events[:half])
        with Watched(secured.settings("worker"), tmp_path / "password.log") as worker:
            worker.until_committed(client, half)
        assert worker.process.returncode == 0
        produce(gateway, events[half:])
        with Watched(secured.certified(), tmp_path / "certificate.log") as worker:
            worker.until_committed(client, len(events))
    reader = arguments(load(secured.settings("analyst")))
    assert asyncio.run(first_alert(reader))["agent_id"] in {event["agent_id"] for event in events}
    told = strayline(secured.settings("admin"), "lag")
    assert f"group strayline is 0 events behind on {EVENTS}" in told.stdout


@pytest.mark.kafka
def test_rejects_are_sent_again_with_the_rights_of_the_admin(secured):
    told = strayline(secured.settings("admin"), "rejects", "--resubmit", "--yes")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("0 sent again")


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("kind", "name", "operation", "named"),
    [
        (ResourceType.TOPIC, REJECTED, ACLOperation.WRITE, f"Write on topic {REJECTED}"),
        (ResourceType.TOPIC, EVENTS, ACLOperation.READ, f"Read on topic {EVENTS}"),
        (ResourceType.TOPIC, ALERTS, ACLOperation.DESCRIBE_CONFIGS, f"DescribeConfigs on topic {ALERTS}"),
            (ResourceType.GROUP, "strayline", ACLOperation.READ, "Read on group strayline"),
        (ResourceType.TRANSACTIONAL_ID, f"strayline-{EVENTS}-", ACLOperation.WRITE, f"Write on transactional-id strayline-{EVENTS}-*"),
    ],
    ids=["write", "read", "configuration", "group", "transaction"],
)  # fmt: skip
def test_a_missing_acl_is_named_with_the_command_that_adds_it(secured, kind, name, operation, named):
    """By the doctor, and by a worker, which does not start."""
    with KafkaAdminClient(bootstrap_servers=secured.bootstrap) as client:
        ((_, (removed,), _),) = client.delete_acls([_acl(kind, name, operation)])
        try:
            told = strayline(secured.settings("worker"), "doctor")
            worker = strayline(secured.settings("worker") | {"STRAYLINE_HTTP_PORT": str(closed_port())}, "worker")
        finally:
            client.create_acls([removed])
    assert told.returncode == 1
    assert f"fail  access    User:worker lacks {named}: run `kafka-acls" in told.stdout
    assert '--add --allow-principal "User:worker" --operation' in told.stdout
    assert worker.returncode == 1
    assert f"User:worker lacks {named} on " in worker.stderr.splitlines()[-1]


def _acl(kind: ResourceType, name: str, operation: ACLOperation) -> ACLFilter:
    return ACLFilter(
        "User:worker",
        "*",
        operation,
        ACLPermissionType.ALLOW,
        ResourcePatternFilter(kind, name, ACLResourcePatternType.ANY),
    )


@pytest.mark.kafka
def test_who_may_nothing_is_told_so_and_nothing_else(secured):
    """Each of the commands, in one sentence."""
    for command in (["topics"], ["lag"], ["demo", "--agents", "12", "--days", "5", "--to-kafka"]):
        told = strayline(secured.settings("nobody"), *command)
        assert told.returncode == 1
        assert len(told.stderr.splitlines()) == 1
        assert "User:nobody" in told.stderr
        assert "`strayline doctor`" in told.stderr


WRONG = {
    "password": ({"STRAYLINE_SASL_PASSWORD": "x-marks-the-spot"}, "does not accept the user worker with this password by SCRAM-SHA-512"),
    "user": ({"STRAYLINE_SASL_USERNAME": "wroker"}, "does not accept the user wroker"),
    "mechanism": ({"STRAYLINE_SASL_MECHANISM": "PLAIN"}, "by PLAIN: check"),
    "authority": ({"STRAYLINE_TLS_CA": "{folder}/stranger.pem"}, "is not trusted .*: set STRAYLINE_TLS_CA"),
    "no authority": ({"STRAYLINE_TLS_CA": ""}, "is not trusted .*: set STRAYLINE_TLS_CA"),
    "name": ({"STRAYLINE_BROKER": "localhost:{sasl}"}, "is for another name .*: set STRAYLINE_BROKER"),
    "protocol": ({"STRAYLINE_BROKER": "127.0.0.1:{plain}"}, "perhaps it speaks otherwise than STRAYLINE_SECURITY_PROTOCOL=SASL_SSL"),
}  # fmt: skip


@pytest.mark.kafka
@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_the_settings_is_one_sentence_without_the_password(secured, what):
    """Said at once: it will not come right by waiting."""
    changed, sentence = WRONG[what]
    where = {"folder": str(secured.folder), "sasl": str(secured.sasl), "plain": str(secured.port)}
    settings = secured.settings("worker", **{k: v.format(**where) for k, v in changed.items()})
    told = strayline(settings, "topics")
    assert told.returncode == 1
    assert len(told.stderr.splitlines()) == 1
    assert re.search(sentence, told.stderr)
    assert settings["STRAYLINE_SASL_PASSWORD"] not in told.stderr


@pytest.mark.kafka
def test_a_broker_that_wants_a_certificate_says_so(secured):
    settings = {
        k: v for k, v in secured.certified().items() if k not in {"STRAYLINE_TLS_CERTIFICATE", "STRAYLINE_TLS_KEY"}
    }
    with pytest.raises(
        BrokerError, match=r"does not accept us .*: set STRAYLINE_TLS_CERTIFICATE and STRAYLINE_TLS_KEY"
    ):
        ensure_topics(load(settings))


@pytest.mark.kafka
def test_the_password_may_be_in_a_file(secured, tmp_path):
    """Its first line; a file that others may read is told."""
    file = tmp_path / "password"
    file.write_text(PASSWORD.format("admin") + "\n")
    file.chmod(0o644)
    settings = {k: v for k, v in secured.settings("admin").items() if k != "STRAYLINE_SASL_PASSWORD"}
    told = strayline(settings | {"STRAYLINE_SASL_PASSWORD_FILE": str(file)}, "doctor", "--role", "admin")
    assert told.returncode == 0
    assert (
        f"warn  settings  anybody on this machine can read STRAYLINE_SASL_PASSWORD_FILE={file}: run `chmod"
        in told.stdout
    )
    assert PASSWORD.format("admin") not in told.stdout


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"STRAYLINE_TLS_CA": "nowhere.pem"}, r"STRAYLINE_TLS_CA=nowhere\.pem cannot be used"),
        ({"STRAYLINE_SASL_PASSWORD": "", "STRAYLINE_SASL_PASSWORD_FILE": "nowhere"}, r"STRAYLINE_SASL_PASSWORD_FILE=nowhere cannot be read"),
    ],
    ids=["authority", "password"],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_named(broken, said):
    settings = {
        "STRAYLINE_BROKER": f"127.0.0.1:{closed_port()}",
        "STRAYLINE_SECURITY_PROTOCOL": "SASL_SSL",
        "STRAYLINE_SASL_USERNAME": "worker",
        "STRAYLINE_SASL_PASSWORD": "x",
    }
    with pytest.raises(SettingsError, match=said):
        arguments(load(settings | broken))


def test_the_password_is_not_in_what_python_prints_of_the_settings():
    settings = load(
        {"STRAYLINE_SECURITY_PROTOCOL": "SASL_SSL", "STRAYLINE_SASL_USERNAME": "u", "STRAYLINE_SASL_PASSWORD": "hush"}
    )
    assert "hush" not in repr(settings)


@pytest.mark.kafka
def test_every_command_of_kafkas_tools_that_is_told_has_the_file_with_the_password(secured):
    """Without it the tool would not get in."""
    settings = load(secured.settings("admin"))
    (line,) = ensure_topics(settings, 2)
    assert f"kafka-topics --bootstrap-server {settings.broker} --command-config client.properties --delete" in line


def test_the_usual_clients_get_the_same_arguments():
    """Nothing else reads the security settings."""
    found = [
        path.name
        for path in (ROOT / "stream").glob("*.py")
        if re.search(r"\bsasl_plain_password\b|\bssl_context\b", path.read_text())
    ]
    assert set(found) == {"client.py", "transport.py"}
