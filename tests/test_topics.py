"""Creating and checking the topics, on a broker of its own: their names are fixed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from benchmarks.kafka import Broker, free_port, missing
from stream.client import arguments, starting
from stream.errors import BrokerError, SettingsError, TopicsError
from stream.settings import Settings, load
from stream.topics import (
    ALERTS,
    BASELINES,
    COHORTS,
    EVENTS,
    REJECTED,
    TOPICS,
    VERDICTS,
    check_topics,
    differences,
    ensure_topics,
)
from tests.site import strayline

ROOT = Path(__file__).resolve().parent.parent
NAMES = {EVENTS, ALERTS, REJECTED, BASELINES, VERDICTS, COHORTS}


def at(bootstrap: str) -> Settings:
    return load({"STRAYLINE_BROKER": bootstrap})


@pytest.fixture
def settings(own_broker: Broker) -> Iterator[Settings]:
    """On a broker without our topics, before and after."""
    with KafkaAdminClient(bootstrap_servers=own_broker.bootstrap) as admin:
        _remove(admin)
        yield at(own_broker.bootstrap)
        _remove(admin)


def _remove(admin: KafkaAdminClient) -> None:
    admin.delete_topics(sorted(NAMES & set(admin.list_topics())))
    deadline = time.monotonic() + 20
    while NAMES & set(admin.list_topics()):
        assert time.monotonic() < deadline


def _create(settings: Settings, name: str, partitions: int, **configs: str) -> None:
    row = next(topic for topic in TOPICS if topic.name == name)
    wanted: dict[str, Any] = {
        "num_partitions": partitions,
        "replication_factor": 1,
        "configs": row.configs | {key.replace("_", "."): value for key, value in configs.items()},
    }
    with KafkaAdminClient(bootstrap_servers=settings.broker) as admin:
        admin.create_topics({name: wanted}, wait_for_metadata=True)


@pytest.mark.kafka
def test_missing_topics_are_created_once(settings):
    """As the table says; and a second time there is nothing to do and nothing to tell."""
    told: list[str] = []
    assert ensure_topics(settings, 3, created=told.append) == []
    assert {line.split()[1].rstrip(":") for line in told} == NAMES
    assert f"created {EVENTS}: 3 partitions, replication 1" in told
    assert ensure_topics(settings, 3, created=told.append) == []
    assert ensure_topics(settings, None, created=told.append) == []
    assert len(told) == len(NAMES)
    assert check_topics(settings).partitions == 3
    with KafkaAdminClient(bootstrap_servers=settings.broker) as admin:
        counts = {t["name"]: len(t["partitions"]) for t in admin.describe_topics(sorted(NAMES))}
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, BASELINES)])["topic"][BASELINES]
    assert counts == {EVENTS: 3, ALERTS: 3, REJECTED: 1, BASELINES: 3, VERDICTS: 3, COHORTS: 3}
    assert {key: value["value"] for key, value in found.items()} == {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.2",
        "segment.ms": "1800000",
        "segment.bytes": "67108864",
        "max.message.bytes": "4194304",
        "message.timestamp.type": "LogAppendTime",
        "unclean.leader.election.enable": "false",
    }


@pytest.mark.kafka
def test_baselines_get_as_many_partitions_as_the_events_already_have(settings):
    """Whatever is asked for now; and the difference is told."""
    _create(settings, EVENTS, 5)
    (line,) = ensure_topics(settings, 2)
    assert "has 5 partitions, not 2" in line
    assert "`strayline topics --partitions 2`" in line
    assert check_topics(settings).partitions == 5


@pytest.mark.kafka
def test_that_nothing_can_be_written_for_lack_of_copies_is_told(settings):
    """Workers would wait, and end after a minute: the broker answers everything else."""
    assert ensure_topics(settings, 2) == []
    with KafkaAdminClient(bootstrap_servers=settings.broker) as admin:
        more = {"min.insync.replicas": "2"}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, ALERTS, configs=more)])
    (line,) = ensure_topics(settings)
    assert line.startswith(f"{ALERTS} has 1 copy in sync of 2 partitions, and min.insync.replicas=2: nothing can be")
    assert differences(settings) == [line]


@pytest.mark.kafka
def test_what_differs_is_told_with_the_command_that_mends_it(settings):
    """And left as it is: somebody may have meant it."""
    _create(settings, BASELINES, 2, cleanup_policy="delete", segment_bytes="1048576")
    _create(settings, ALERTS, 2, retention_ms="1000", unclean_leader_election_enable="true")
    _create(settings, VERDICTS, 4)
    _create(settings, COHORTS, 5)
    lines = ensure_topics(settings, 3)
    assert len(lines) == 7
    configs = f"kafka-configs --bootstrap-server {settings.broker} --alter --entity-type topics --entity-name"
    grow = f"kafka-topics --bootstrap-server {settings.broker} --alter --topic {BASELINES} --partitions 3"
    anew = (
        f"kafka-topics --bootstrap-server {settings.broker} --delete --topic {{}}` and `strayline topics --partitions 3"
    )
    assert lines == [
        f"{BASELINES} has partitions=2, should be 3 as {EVENTS} has: run `{grow}`",
        f"{VERDICTS} has partitions=4, should be 3 as {EVENTS} has: begin without the verdicts: run `{anew.format(VERDICTS)}`",
        f"{COHORTS} has partitions=5, should be 3 as {EVENTS} has: let the partitions learn of each other's cohorts anew: run `{anew.format(COHORTS)}`",
        f"{ALERTS} has retention.ms=1000, should be 7776000000: run `{configs} {ALERTS} --add-config retention.ms=7776000000`",
        f"{ALERTS} has unclean.leader.election.enable=true, should be false: run `{configs} {ALERTS} --add-config unclean.leader.election.enable=false`",
        f"{BASELINES} has cleanup.policy=delete, should be compact: run `{configs} {BASELINES} --add-config cleanup.policy=compact`",
        f"{BASELINES} has segment.bytes=1048576, should be 67108864: run `{configs} {BASELINES} --add-config segment.bytes=67108864`",
    ]
    assert ensure_topics(settings, 3) == lines
    with pytest.raises(
        BrokerError, match=r"has partitions=2.*has cleanup\.policy=delete.*strayline topics --partitions 3"
    ):
        check_topics(settings)


@pytest.mark.kafka
def test_a_worker_starts_beside_a_difference_that_loses_no_baseline(settings):
    """A shorter retention is the operator's affair."""
    _create(settings, EVENTS, 2, retention_ms="1000")
    assert len(ensure_topics(settings)) == 1
    assert check_topics(settings).partitions == 2


@pytest.mark.kafka
@pytest.mark.parametrize("name", [EVENTS, VERDICTS])
@pytest.mark.parametrize("policy", ["compact", "delete,compact"])
def test_a_worker_does_not_start_where_compaction_takes_what_nobody_has_read(settings, name, policy):
    """Of a backlog it would leave the last event of each agent, and nothing would tell."""
    assert ensure_topics(settings, 1) == []
    change = ConfigResource(ConfigResourceType.TOPIC, name, configs={"cleanup.policy": policy})
    with KafkaAdminClient(bootstrap_servers=settings.broker) as admin:
        admin.alter_configs([change])
    (line,) = ensure_topics(settings)
    assert line.startswith(
        f"{name} has cleanup.policy={policy}, should be delete, or all but the last record of each agent goes, read or not: run `"
    )
    with pytest.raises(TopicsError, match=re.escape(line)):
        check_topics(settings)


@pytest.mark.kafka
def test_a_worker_is_told_how_to_create_missing_topics(settings):
    """All of them, or the one that is gone."""
    with pytest.raises(BrokerError, match=r"create what is missing with `strayline topics --partitions N`"):
        check_topics(settings)
    _create(settings, EVENTS, 6)
    with pytest.raises(BrokerError, match=rf"no topic {ALERTS}, .*`strayline topics --partitions 6`$"):
        check_topics(settings)


@pytest.mark.kafka
def test_more_copies_than_brokers_is_an_error_with_the_brokers_reason(settings):
    """Said by the broker, not guessed."""
    with pytest.raises(BrokerError, match=rf"would not create {EVENTS} .*only 1 broker"):
        ensure_topics(settings, 1, replication=3)


@pytest.mark.parametrize("ask", [ensure_topics, check_topics])
def test_without_a_broker_the_error_says_where_it_looked_and_how_to_start_one(ask):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening, so nothing else can be there
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            BrokerError,
            match=rf"no Kafka at {re.escape(address)} \(.*refused\): .*`make kafka PORT={address.rpartition(':')[2]}`, or set STRAYLINE_BROKER",
        ):
            ask(at(address))


def test_who_takes_connections_and_does_not_answer_is_not_said_to_be_absent(monkeypatch):
    """As a broker does that was stopped, or whose disk does not come back: another one beside it would mend nothing."""
    monkeypatch.setattr("stream.client._CONNECT_SECONDS", 0.0)
    monkeypatch.setattr("stream.client._ANSWER_MS", 500)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(BrokerError, match=rf"^{re.escape(address)} takes connections and does not answer: "):
            check_topics(at(address))


@pytest.mark.kafka
@pytest.mark.parametrize(("named", "why"), [("kafka.invalid:9092", "not known"), ("127.0.0.1:1", "refused")])
def test_a_broker_that_names_another_address_than_clients_can_reach_is_told_of_with_that_address(named, why):
    """It lets everybody in, and sends them away: what most often is wrong with a Kafka in a container."""
    lack = missing()
    if lack is not None:
        pytest.skip(lack)
    with Broker(lasting=False, properties={"advertised.listeners": f"PLAINTEXT://{named}"}) as broker:
        told = strayline("doctor", STRAYLINE_BROKER=broker.bootstrap)
    assert told.returncode == 1
    sentence = rf"^fail +broker +{re.escape(broker.bootstrap)} lets us in and says that a broker is at {re.escape(named)}, .*\(.*{why}.*advertised\.listeners"
    assert re.search(sentence, told.stdout, re.MULTILINE), told.stdout


@pytest.mark.kafka
def test_of_several_servers_those_that_are_silent_keep_nobody_waiting(settings):
    """A broker that stands still, or whose machine is gone, is one of three as often as not the first to be asked."""
    with ExitStack() as lives:
        silent = [lives.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(7)]
        servers = [*(f"127.0.0.1:{one.getsockname()[1]}" for one in silent), settings.broker]
        assert ensure_topics(at(",".join(servers)), 1) == []
        assert arguments(at(",".join(servers)))["bootstrap_servers"] == [settings.broker]


@pytest.mark.kafka
def test_a_broker_that_has_not_heard_of_the_new_topics_yet_is_asked_again(settings, monkeypatch):
    """Of several any may answer; what it does not know is not what somebody may not see."""
    whole, asked = KafkaAdminClient.describe_configs, []

    def late(client: KafkaAdminClient, *given: Any, **named: Any) -> Any:
        told = whole(client, *given, **named)
        asked.append(told)
        return told | {"topic": told["topic"] | {ALERTS: {}}} if len(asked) == 1 else told

    monkeypatch.setattr(KafkaAdminClient, "describe_configs", late)
    assert ensure_topics(settings, 1) == []
    assert len(asked) == 2


def test_at_its_usual_address_either_way_to_start_one_is_named():
    """Compose publishes its broker there, and only there."""
    assert starting("localhost:9092") == "`make kafka` or `docker compose up -d kafka`"
    assert starting("localhost:9093") == "`make kafka PORT=9093`"


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
@pytest.mark.parametrize(("given", "port"), [((), 9092), (("PORT=9093",), 9093)])
def test_make_kafka_listens_on_the_port_that_is_asked_for(given, port):
    """And `PORT` of the environment, which other programs read, is not meant for it."""
    told = subprocess.run(
        ["make", "--no-print-directory", "-n", "kafka", *given],
        cwd=ROOT,
        env=os.environ | {"PORT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.splitlines()[-1] == f".venv/bin/python -m benchmarks.kafka --port {port}"


@pytest.mark.kafka
def test_a_port_with_a_kafka_on_it_is_answered_with_the_command_for_another(own_broker):
    """As it is typed."""
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.kafka", "--port", str(own_broker.port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert f"choose another port, e.g. `make kafka PORT={own_broker.port + 1}`" in told.stderr


@pytest.mark.kafka
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_broker_in_the_background_ends_at_either_signal_and_leaves_nothing(own_broker, number):
    """Where a shell has Ctrl-C's ignored in what it starts with `&`; and it says how."""
    del own_broker  # only where one can run
    port = free_port()
    command = f"trap '' INT; exec {sys.executable} -m benchmarks.kafka --port {port}"
    with subprocess.Popen(["sh", "-c", command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout
        assert run.stderr
        assert run.stdout.readline() == f"127.0.0.1:{port}\n".encode()
        run.send_signal(number)
        assert run.wait(60) == 0
        said = run.stderr.read().decode()
    assert f"or `kill {run.pid}` once it is in the background" in said
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


def test_an_address_without_a_port_is_refused_before_anything_is_asked():
    """It will not come right by waiting."""
    with pytest.raises(SettingsError, match="'somewhere' is not HOST:PORT"):
        at("somewhere")
