"""What an operator asks a running deployment: how far behind, what was rejected and why, is everything in order."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiokafka
import pytest
from aiokafka.partitioner import DefaultPartitioner
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.structs import OffsetAndMetadata
from msgspec.structs import replace

from benchmarks.kafka import Broker
from stream.client import retrying
from stream.codec import Reject, encode
from stream.doctor import unkept
from stream.follow import Choice, Told
from stream.settings import Settings, load
from stream.topics import ALERTS, EVENTS, REJECTED, TOPICS, VERDICTS, ensure_topics
from tests.replaying import no_file_larger_than
from tests.secured import strayline
from tests.site import Worker
from tests.telling import episode, hostile

ROOT = Path(__file__).parent.parent
GOOD = {"event_id": "e1", "time": 1772445600, "agent_id": "bot", "action": "read"}


@pytest.fixture
def settings(own_broker: Broker) -> Settings:
    """With empty topics, two partitions of events, and nothing committed."""
    found = load({"STRAYLINE_BROKER": own_broker.bootstrap})
    with KafkaAdminClient(bootstrap_servers=own_broker.bootstrap) as client:
        names = {topic.name for topic in TOPICS}
        client.delete_topics(sorted(names & set(client.list_topics())))
        while names & set(client.list_topics()):
            pass
        retrying(lambda: client.delete_groups([found.group]))
    assert ensure_topics(found, 2) == []
    return found


def run(settings: Settings, *args: str, stdin: str = "", **more: str) -> tuple[int, str, str]:
    told = strayline({"STRAYLINE_BROKER": settings.broker} | more, *args)
    return told.returncode, told.stdout, told.stderr


def send(settings: Settings, topic: str, records: Sequence[dict[str, Any]]) -> None:
    """Each with the arguments that aiokafka's producer takes; compressed as the worker does it."""

    async def deliver() -> None:
        async with aiokafka.AIOKafkaProducer(bootstrap_servers=settings.broker, compression_type="lz4") as producer:
            for record in records:
                await producer.send_and_wait(topic, **record)

    asyncio.run(deliver())


def read(settings: Settings, topic: str, partitions: int) -> list[Any]:
    """All of a topic, as who reads committed sees it."""

    async def consume() -> list[Any]:
        found = []
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=settings.broker,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        async with consumer:
            tps = [aiokafka.TopicPartition(topic, n) for n in range(partitions)]
            consumer.assign(tps)
            for tp, end in (await consumer.end_offsets(tps)).items():
                while await consumer.position(tp) < end:
                    found += (await consumer.getmany(tp, timeout_ms=200)).get(tp, [])
        return found

    return asyncio.run(consume())


def reject(settings: Settings, *found: Reject, cut: int = 0, key: bytes | None = b"from-the-gateway") -> None:
    """As the worker delivers it."""
    send(
        settings,
        REJECTED,
        [
            {
                "value": r.raw,
                "key": key,
                "headers": [
                    ("reason", r.reason.encode()),
                    ("detail", r.detail.encode()),
                    ("topic", EVENTS.encode()),
                    ("partition", b"1"),
                    ("offset", b"%d" % r.position),
                    *([("cut_from_bytes", b"%d" % cut)] if cut else []),
                ],
            }
            for r in found
        ],
    )


@pytest.mark.kafka
def test_lag_is_what_is_not_committed_and_how_much_time_that_is(settings):
    """By the events' own time, though all were produced in one millisecond; a partition that is finished has none."""
    events = [GOOD | {"event_id": str(i), "time": GOOD["time"] + 60 * i} for i in range(11)]
    produced = int(time.time() * 1000)  # to the broker the first of them is the newest
    send(settings, EVENTS, [{"value": encode(e), "partition": 0, "timestamp_ms": produced} for e in events])
    send(settings, EVENTS, [{"value": encode(events[0]), "partition": 1}])
    status, told, _ = run(settings, "lag", "--json")
    assert (status, json.loads(told)["behind"]) == (1, 12)
    with KafkaAdminClient(bootstrap_servers=settings.broker) as client:
        done = {TopicPartition(EVENTS, 0): 4, TopicPartition(EVENTS, 1): 1}
        client.alter_group_offsets(settings.group, {tp: OffsetAndMetadata(n, "", -1) for tp, n in done.items()})
    status, told, _ = run(settings, "lag", "--json")
    assert status == 1
    assert json.loads(told) == {
        "topic": EVENTS,
        "group": settings.group,
        "workers": 0,
        "unheld": [],
        "behind": 7,
        "seconds_since_delivery": None,
        "partitions": [
            {"partition": 0, "committed": 4, "end": 11, "behind": 7, "seconds": 360.0},
            {"partition": 1, "committed": 1, "end": 1, "behind": 0, "seconds": None},
        ],
    }
    status, told, _ = run(settings, "lag")
    assert told.splitlines()[1].split() == ["0", "4", "11", "7", "6", "minutes"]
    assert status == 1
    assert told.endswith(
        f"group strayline is 7 events behind on {EVENTS}\nno worker runs, nobody is in the group: start one with `strayline worker`\n"
    )


@pytest.mark.kafka
def test_the_end_of_a_transaction_is_no_event(settings):
    """Who has finished the last event is not behind, though the broker's end is one further."""

    async def deliver() -> None:
        gateway = aiokafka.AIOKafkaProducer(bootstrap_servers=settings.broker, transactional_id="gateway")
        async with gateway, gateway.transaction():
            for number in range(3):
                await gateway.send_and_wait(EVENTS, encode(GOOD | {"event_id": str(number)}), partition=0)

    asyncio.run(deliver())
    for done, behind in ((2, 1), (3, 0)):
        with KafkaAdminClient(bootstrap_servers=settings.broker) as client:
            client.alter_group_offsets(settings.group, {TopicPartition(EVENTS, 0): OffsetAndMetadata(done, "", -1)})
        first = json.loads(run(settings, "lag", "--json")[1])["partitions"][0]
        assert (first["committed"], first["end"], first["behind"]) == (done, 4, behind)
        assert first["seconds"] == (0.0 if behind else None)


@pytest.mark.kafka
def test_rejects_are_listed_with_reason_place_and_first_bytes(settings):
    """Nothing in them can write on the terminal."""
    reject(
        settings,
        Reject("not_json", "JSON is malformed", 41, b"\x1b[31mgarbage"),
        Reject("empty", "the record has no value", 42, b""),
    )
    status, told, counted = run(settings, "rejects")
    assert status == 0
    assert f"not_json: JSON is malformed\n          {EVENTS}/1/41  \ufffd[31mgarbage\n" in told
    assert f"{EVENTS}/1/42" in told
    assert counted == "2 rejected and not sent again: not_json 1, empty 1\n"
    status, told, counted = run(settings, "rejects", "--reason", "empty", "--json")
    (line,) = map(json.loads, told.splitlines())
    assert (line["rejected"], line["reason"], line["offset"], line["value"]) == ("0/1", "empty", 42, "")


@pytest.mark.kafka
def test_what_decodes_now_is_sent_again_once(settings):
    """First told, then sent, by the key it came with; and an event that lies there twice is one event."""
    long = encode(GOOD | {"resource": "x" * 2000})
    reject(
        settings,
        *(Reject("too_large", "2100 bytes", i, long) for i in range(2)),
        Reject("not_json", "malformed", 9, b"{"),
    )
    assert run(settings, "rejects", "--resubmit")[1] == (
        "1 would be sent again (`--yes` sends them), 1 still no event (not_json 1), 1 sent before, or twice there\n"
    )
    assert read(settings, EVENTS, 2) == []
    small = {"STRAYLINE_MAX_EVENT_BYTES": "1024"}
    assert run(settings, "rejects", "--resubmit", "--yes", **small)[1].startswith("0 sent again, 3 still no event")
    for expected in ("1 sent again, 1 still", "0 sent again, 1 still"):
        assert run(settings, "rejects", "--resubmit", "--yes")[1].startswith(expected)
        (record,) = read(settings, EVENTS, 2)
        assert (record.key, record.value) == (b"from-the-gateway", long)
    assert run(settings, "rejects")[2] == "1 rejected and not sent again: not_json 1\n"


@pytest.mark.kafka
def test_a_record_that_came_without_a_key_goes_with_its_agent_s(settings):
    """Beside one that came with a key, and neither is sent twice."""
    reject(settings, Reject("too_large", "too long", 1, encode(GOOD)), key=None)
    reject(settings, Reject("too_large", "too long", 2, encode(GOOD | {"event_id": "e2"})))
    for expected in ("2 sent again, 0 still", "0 sent again, 0 still no event, 2 sent before"):
        status, told, error = run(settings, "rejects", "--resubmit", "--yes")
        assert (status, error) == (0, "")
        assert told.startswith(expected)
        keys = {json.loads(r.value)["event_id"]: r.key for r in read(settings, EVENTS, 2)}
        assert keys == {"e1": b"bot", "e2": b"from-the-gateway"}


@pytest.mark.kafka
def test_a_mended_line_is_sent_in_place_of_what_came(settings, tmp_path):
    """The lines that `--json` wrote; what was left out of the file stays."""
    bad = encode(GOOD | {"records": "many"})
    reject(settings, *(Reject("bad_value", "Expected `float`, got `str`", i, bad) for i in range(2)))
    reject(settings, Reject("bad_value", "cut", 3, encode(GOOD | {"event_id": "c"})), cut=4_000_000)
    lines = [json.loads(line) for line in run(settings, "rejects", "--json")[1].splitlines()]
    lines[0]["value"] = GOOD | {"records": 5}
    file = tmp_path / "mended.jsonl"
    file.write_text(json.dumps(lines[0]) + "\n")
    sending = ("rejects", "--resubmit", "--from", str(file), "--yes")
    assert run(settings, *sending)[1] == "1 sent again, 0 still no event, 0 sent before, or twice there\n"
    assert run(settings, *sending)[1] == "0 sent again, 0 still no event, 1 sent before, or twice there\n"
    (record,) = read(settings, EVENTS, 2)
    assert json.loads(record.value) == GOOD | {"records": 5}
    status, _, counted = run(settings, "rejects")
    assert (status, counted) == (0, "2 rejected and not sent again: bad_value 2\n")
    # The start of a record that was too long is not that record, even where it decodes.
    assert "2 still no event (bad_value 1, cut 1)" in run(settings, "rejects", "--resubmit", "--yes")[1]


@pytest.mark.kafka
def test_a_file_with_a_line_that_is_none_sends_nothing(settings, tmp_path):
    """Nor does a line for a record that is not there."""
    reject(settings, Reject("bad_value", "x", 1, encode(GOOD)))
    file = tmp_path / "mended.jsonl"
    here = encode({"rejected": "0/0", "value": GOOD}).decode()
    for other, said in (
        ("{", "line 2 is no line of `strayline rejects --json`"),
        (here.replace("0/0", "0/7"), "has no record 0/7"),
    ):
        file.write_text(f"{here}\n{other}\n")
        status, _, error = run(settings, "rejects", "--resubmit", "--from", str(file), "--yes")
        assert status == 1
        assert said in error
    assert read(settings, EVENTS, 2) == []


@pytest.mark.kafka
def test_events_of_files_are_sent_as_they_are_by_their_agent(settings, tmp_path):
    """Compressed or not; what is no event stays, with why."""
    events = [encode(GOOD | {"event_id": str(n), "agent_id": f"bot-{n % 3}", "more": n}) for n in range(40)]
    plain, packed = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
    plain.write_bytes(b"\n".join([b"{", *events[:20], b'{"event_id": "x"}']) + b"\n")
    packed.write_bytes(gzip.compress(b"\n".join(events[20:])))
    kept = tmp_path / "not-sent.jsonl"
    status, told, error = run(settings, "produce", str(plain), str(packed), "--rejects", str(kept))
    assert (status, told) == (1, "")
    assert error.startswith(
        f"40 events delivered to {EVENTS} on {settings.broker}; 2 lines not sent (not_json 1, missing_field 1), the first line 1 of {plain}: "
    )
    assert (
        "\nunknown field `more` in 40 of 40 events looked at; it is not judged, and belongs in `attributes`.\n" in error
    )
    assert f"\nwhat is no event stays in its file and, with reason and place, in {kept}. Mend them" in error
    assert [(r["position"], r["value"]) for r in map(json.loads, kept.read_text().splitlines())] == [
        (1, "{"),
        (22, '{"event_id": "x"}'),
    ]
    found = read(settings, EVENTS, 2)
    assert sorted(r.value for r in found) == sorted(events)
    assert all(r.key.decode() == json.loads(r.value)["agent_id"] for r in found)
    # An agent's verdicts go where its events are.
    assert len({(r.key, r.partition) for r in found}) == 3
    assert all(murmur(r.key) == r.partition for r in found)


@pytest.mark.kafka
def test_of_a_file_in_which_nothing_is_an_event_nothing_is_sent_and_what_is_likely_meant_is_said(settings, tmp_path):
    """As by a replay."""
    (file := tmp_path / "gw.jsonl").write_bytes(
        encode({"timestamp": 1773304800123, "agentId": "a", "operation": "read"}) + b"\n\n"
    )
    status, _, error = run(settings, "produce", str(file))
    assert status == 1
    assert error.startswith(f"0 events delivered to {EVENTS} on {settings.broker}; 2 lines not sent")
    assert "`time`, in milliseconds: divided, since seconds are read" in error
    assert "  jq -c '" in error
    assert read(settings, EVENTS, 2) == []
    file.write_bytes(b"\n" + encode(GOOD) + b"\n\n")  # a blank line lacks nothing
    status, _, error = run(settings, "produce", str(file))
    assert (status, error) == (0, f"1 event delivered to {EVENTS} on {settings.broker}; 2 lines not sent (empty 2)\n")


@pytest.mark.kafka
def test_where_sending_ends_in_the_middle_it_says_how_many_are_there(settings, tmp_path):
    """So that who goes on leaves none out."""
    events = [GOOD | {"event_id": str(n)} for n in range(7)]
    events[5] |= {"attributes": {"x": "x" * (5 << 20)}}  # more than the topic takes
    (file := tmp_path / "events.jsonl").write_bytes(b"".join(encode(e) + b"\n" for e in events))
    status, _, error = run(settings, "produce", str(file), STRAYLINE_MAX_EVENT_BYTES=str(8 << 20))
    assert status == 1
    assert "; the first 5 are there. Once that is mended send from the event after the first 5 on" in error
    assert sorted(json.loads(r.value)["event_id"] for r in read(settings, EVENTS, 2)) == list("01234")


@pytest.mark.kafka
def test_the_demo_on_several_partitions_says_that_its_alerts_may_be_others(settings):
    """And on one it says nothing of that."""
    told = run(settings, "demo", "--to-kafka", "--agents", "12", "--days", "5")
    assert told[0] == 0
    assert "its alerts from 2 partitions are not all those of `strayline demo` or of a replay" in told[2]
    assert "84 alerts in one process" in told[2]


def murmur(key: bytes) -> int:
    """Of two partitions, the one to which Kafka's own clients send a key."""
    return int(DefaultPartitioner()(key, [0, 1], [0, 1]))


@pytest.mark.kafka
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_alerts_are_read_by_the_time_they_came_and_followed(settings, number):
    """As text each as it stands; as JSON every revision. Whoever has seen enough ends it, and is told nothing."""
    one, other = (episode([hostile(n, "x", agent_id=f"bot-{a}") for n in range(3)])[-1] for a in (0, 1))
    lines = [
        encode(replace(alert, revision=revision, severity=severity))
        for alert, revision, severity in ((one, 1, "medium"), (other, 1, "low"), (other, 2, "low"), (other, 3, "high"))
    ]
    send(settings, ALERTS, [{"value": lines[0], "partition": 1}])
    assert run(settings, "alerts", "--json") == (0, lines[0].decode() + "\n", "")
    send(settings, ALERTS, [{"value": line, "partition": 0} for line in lines[1:]])
    status, told, _ = run(settings, "alerts", "--json")
    assert (status, told.encode().splitlines()) == (0, lines)
    heads = [line for line in run(settings, "alerts")[1].splitlines() if not line.startswith(" ")]
    assert [head.split()[2] for head in heads] == ["MEDIUM", "HIGH"]
    assert heads[0].endswith(one.title)
    assert heads[1].endswith(f"{other.title} (revision 3)")
    heads = [line for line in run(settings, "alerts", "--revisions")[1].splitlines() if not line.startswith(" ")]
    assert [head.split()[2] for head in heads] == ["MEDIUM", "LOW", "LOW", "HIGH"]
    command = [sys.executable, "-m", "stream", "alerts", "--follow", "--json"]
    environment = {**os.environ, "STRAYLINE_BROKER": settings.broker}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=environment
    ) as following:
        assert following.stdout
        assert following.stderr
        try:
            assert [following.stdout.readline().rstrip() for _ in lines] == lines
            new = encode(replace(one, revision=2))
            send(settings, ALERTS, [{"value": new, "partition": 0}])
            assert following.stdout.readline().rstrip() == new
        finally:
            following.send_signal(number)
        assert following.stderr.read() == b""
    assert following.returncode == 128 + number


@pytest.mark.kafka
def test_only_alerts_that_come_are_told_where_it_is_since_now(settings):
    """But what was there is known, so the same alert is told when it becomes another, and as a later one."""
    alert = episode([hostile(n, "x") for n in range(3)])[-1]
    send(settings, ALERTS, [{"value": encode(replace(alert, revision=1, severity="low")), "partition": 0}])
    command = [sys.executable, "-m", "stream", "alerts", "--follow", "--since", "now"]
    environment = {**os.environ, "STRAYLINE_BROKER": settings.broker, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment) as following:
        assert following.stdout
        try:
            for revision in range(2, 200):  # until it follows: from then on each is told
                severity = ("low", "high")[revision % 2 == 0]
                value = encode(replace(alert, revision=revision, severity=severity))
                send(settings, ALERTS, [{"value": value, "partition": 0}])
                if select.select([following.stdout], [], [], 0.5)[0]:
                    break
            first = following.stdout.readline().decode()
        finally:
            following.send_signal(signal.SIGTERM)
    assert first.endswith(f"{alert.title} (raised)\n")


def test_what_was_there_before_is_known_and_not_told():
    """The same alert is news only when it is worse than it was then."""
    alert = episode([hostile(n, "x") for n in range(3)])[-1]
    said: list[str] = []
    told = Told(Choice(), lambda a, _: said.append(a.severity))
    told.know(encode(replace(alert, severity="low")))
    for severity in ("low", "high", "high", "critical"):
        told.read(encode(replace(alert, severity=severity)))
    told.read(b"no alert")
    assert said == ["high", "critical"]


def test_options_of_rejects_that_do_nothing_alone_are_refused():
    for args in (("--yes",), ("--from", "x"), ("--reason", "bad")):
        assert strayline({}, "rejects", *args).returncode == 2


@pytest.mark.kafka
def test_the_doctor_says_ok_of_what_is_in_order_and_what_to_do_of_the_rest(settings, tmp_path):
    """A worker can start beside a warning, not beside a failure."""
    status, told, _ = run(settings, "doctor")
    states = {line.split()[1]: line.split()[0] for line in told.splitlines()}
    assert states.pop("workers") == "warn"
    assert f"warn  workers   group {settings.group}: no worker runs, nobody is in the group: start one with" in told
    assert (status, set(states.values())) == (0, {"ok"}), told
    assert list(states) == ["settings", "packages", "models", "broker", "kafka", "access", "topics", "clock"]
    assert "within 5 s of the broker's" in told
    with KafkaAdminClient(bootstrap_servers=settings.broker) as client:
        client.delete_topics([REJECTED])
    nowhere = tmp_path / "a file"
    nowhere.write_text("")
    status, told, _ = run(settings, "doctor", XDG_CACHE_HOME=str(nowhere))
    assert status == 1
    assert (
        f"fail  topics    {settings.broker} has no topic {REJECTED}: create what is missing with `strayline topics --partitions 2`"
        in told
    )
    assert "warn  models    compiled models cannot be kept" in told


def test_where_a_disk_is_full_compiled_models_are_said_not_to_be_kept(tmp_path, monkeypatch):
    """A name fits on it, what is in the file does not."""
    monkeypatch.setattr("stream.doctor.config.CACHE_DIR", str(tmp_path / "cache"))
    assert unkept() is None
    with no_file_larger_than(1000):
        told = unkept()
    assert told is not None
    assert told.startswith(f"compiled models cannot be kept in {tmp_path / 'cache'} (File too large), so each start")


@pytest.mark.kafka
def test_that_no_worker_runs_is_told_and_that_one_does(settings, tmp_path):
    """Who looks after a deployment must hear of it; who is about to start a worker is not kept from it."""
    send(settings, EVENTS, [{"value": encode(GOOD), "partition": 0}])
    for role, state, expected in (("worker", "warn", 0), ("admin", "fail", 1)):
        status, told, _ = run(settings, "doctor", "--role", role)
        assert status == expected
        assert f"{state}  workers   group {settings.group}, which is 1 event behind: no worker runs" in told
    with Worker(settings.broker, settings.group, "one", tmp_path / "log", "127.0.0.1") as worker:
        worker.until_ready()
        worker.until_scored(1)
        status, told, _ = run(settings, "lag")
        known = "1 worker in the group; one that was killed counts until its session ends (STRAYLINE_SESSION_SECONDS)"
        assert (status, told.splitlines()[-1]) == (0, known)
        assert f"ok    workers   group {settings.group}: {known}\n" in run(settings, "doctor")[1]
        delivered = json.loads(run(settings, "lag", "--json")[1])["seconds_since_delivery"]
        assert 0 < delivered < 600
        worker.kill()
        send(settings, EVENTS, [{"value": encode(GOOD | {"event_id": "e2"}), "partition": 0}])
        assert f"1 event behind on {EVENTS}; a worker last delivered " in run(settings, "lag")[1]
        assert json.loads(run(settings, "lag", "--json")[1])["seconds_since_delivery"] > delivered


@pytest.mark.kafka
def test_a_reset_of_an_agent_that_no_late_event_is_of_is_refused_with_what_may_be_meant(settings):
    """It is most likely mistyped; who means it can say so."""
    send(
        settings,
        EVENTS,
        [{"value": encode(GOOD | {"agent_id": f"support-{n}"}), "partition": n % 2} for n in range(10, 14)],
    )
    words = ("--by", "ana", "--reason", "r")
    status, _, error = run(settings, "reset", "suport-12", *words)
    assert status == 1
    assert error.startswith(
        f"strayline: none of the last 4 events on {EVENTS} is of agent 'suport-12'; is one of these meant: support-12"
    )
    assert "give --unseen" in error
    assert read(settings, VERDICTS, 2) == []
    for agent, more in (("support-12", ()), ("suport-12", ("--unseen",))):
        assert run(settings, "reset", agent, *words, *more)[0] == 0
    assert len(read(settings, VERDICTS, 2)) == 2


def test_the_doctor_without_a_broker_says_what_it_can(tmp_path: Path):
    """And how to start one."""
    told = strayline({"STRAYLINE_BROKER": "localhost:1"}, "doctor")
    assert told.returncode == 1
    assert "ok    packages" in told.stdout
    assert told.stdout.splitlines()[-1].startswith(
        "fail  broker    no Kafka at localhost:1 (Connection refused): start one"
    )


@pytest.mark.kafka
def test_copies_that_differ_are_told_with_what_they_need(settings):
    """One broker cannot hold two."""
    status, told, _ = run(settings, "topics", "--replication", "2")
    assert status == 1
    assert f"{EVENTS} has replication=1, should be 2: add brokers first, there are 1" in told
