"""The worker as it is run, a process beside a real broker: whatever befalls it, its alerts are those of a replay."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace

import aiokafka
import pytest

from benchmarks.kafka import Broker, jars
from stream import metrics
from stream.codec import REASONS, encode
from stream.engine import Engine
from stream.errors import BrokerError, InputError
from stream.explain import from_worker
from stream.outbox import MOST_REFUSED
from stream.partition import Partition, threads
from stream.placement import partition_of
from stream.settings import load
from stream.topics import ALERTS, BASELINES, COHORTS, EVENTS, REJECTED, VERDICTS, ensure_topics
from stream.web import listen
from tests.shared import knowledge
from tests.site import (
    DEADLINE,
    Record,
    Site,
    Worker,
    fleet,
    free_port,
    polled,
    python,
    remove_topics,
    strayline,
)

pytestmark = pytest.mark.usefixtures("compiled")


@pytest.fixture(scope="class")
def fed(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(broker, tmp_path_factory.mktemp("one"), "one-worker")
    site.produce(fleet(1))
    return site


@pytest.fixture(scope="class")
def worker(fed: Site) -> Iterator[Worker]:
    with fed.worker() as worker:
        worker.until(lambda: fed.committed() == {0: fed.end(EVENTS)})
        yield worker


@pytest.mark.kafka
class TestOneWorker:
    """One worker that has scored a fleet and garbage, and still runs."""

    def test_its_alerts_are_those_of_replay(self, fed, worker):
        """Field for field and in order."""
        del worker
        records = fed.read(ALERTS)
        _, expected = fed.replayed()
        assert [r.value for r in records] == expected
        assert len(expected) > 20
        assert all(r.key == json.loads(r.value)["agent_id"].encode() for r in records)

    def test_every_record_that_is_no_event_is_set_aside_with_its_reason_and_its_bytes(self, fed, worker):
        """And where it came from."""
        del worker
        records = fed.read(EVENTS)
        expected = Engine(fed.settings).decode([r.value for r in records], [r.offset for r in records]).rejects
        told = [(dict(r.headers), r.key, r.value) for r in fed.read(REJECTED)]
        assert len(expected) > 50
        assert {reject.reason for reject in expected} == set(REASONS) - {"too_large", "damaged"}
        assert [headers["reason"].decode() for headers, _, _ in told] == [reject.reason for reject in expected]
        assert [int(headers["offset"]) for headers, _, _ in told] == [reject.position for reject in expected]
        assert all(h["topic"].decode() == EVENTS and h["partition"] == b"0" and h["detail"] for h, _, _ in told)
        for headers, key, value in told:
            source = records[int(headers["offset"])]
            assert (key, value) == (source.key, source.value or b"")

    def test_every_record_is_counted_once(self, fed, worker):
        """Scored or rejected."""
        rejected = len(fed.read(REJECTED))
        assert worker.metric("strayline_events_total") == fed.end(EVENTS) - rejected
        assert worker.metric("strayline_rejects_total") == rejected
        assert worker.metric("strayline_alert_revisions_total") == len(fed.read(ALERTS))
        assert worker.metric("strayline_consumer_lag_records", partition="0") == 0
        assert worker.metric("strayline_corrupt_baselines_total") == 0

    def test_its_baselines_are_those_of_replay(self, fed, worker):
        """Row for row: so another worker goes on as this one would have."""
        del worker
        engine, _ = fed.replayed()
        assert knowledge(fed.baselines()) == knowledge(engine)

    def test_it_tells_how_it_is(self, worker):
        """To Kubernetes, and to whoever asks with curl."""
        assert worker.get("/healthz") == (200, "alive\n")
        assert worker.get("/readyz") == (200, "partitions [0]\n")
        assert worker.get("/nothing")[0] == 404

    def test_it_explains_an_agent(self, fed, worker):
        """Over HTTP and on the command line; of one that it does not know it says so."""
        agent_id = fed.read(EVENTS)[-1].key.decode()
        status, text = worker.get(f"/agents/{agent_id}")
        assert (status, json.loads(text)["agent_id"]) == (200, agent_id)
        status, text = worker.get("/agents/no-such%2Fagent")
        assert (status, json.loads(text)["error"]) == (404, "no baseline of this agent here")
        told = strayline("explain", agent_id, "--worker", worker.address)
        assert told.returncode == 0
        assert told.stdout.startswith(f"{agent_id}: ")
        told = strayline("explain", "nobody", "--worker", worker.address)
        assert told.returncode == 1
        assert "has no baseline of agent 'nobody'" in told.stderr

    def test_its_log_is_json_lines(self, worker):
        """In a pipe."""
        assert [json.loads(line)["event"] for line in worker.log.read_text().splitlines()]


@pytest.mark.kafka
def test_after_any_number_of_kills_alerts_and_baselines_are_those_of_replay(site):
    """Nothing lost, nothing said twice, wherever kill -9 strikes: in a batch, in a transaction, in recovery."""
    records = fleet(2)
    rejects = len(Engine(site.settings).decode([value for _, value in records], range(len(records))).rejects)
    rng = random.Random(2)
    lives = 6
    bounds = [len(records) * life // lives for life in range(lives + 1)]
    alerts = baselines = 0
    for life in range(lives):
        site.produce(records[bounds[life] : bounds[life + 1]])
        moment = rng.randrange(bounds[life], bounds[life + 1])
        with site.worker() as worker:
            match life % 3:
                case 0:
                    worker.until_scored(moment)
                case 1:
                    worker.until(lambda: site.end(BASELINES) > baselines)  # noqa: B023
                case 2:
                    worker.until(lambda: site.end(ALERTS) > alerts)  # noqa: B023
        alerts, baselines = site.end(ALERTS), site.end(BASELINES)
    with site.worker() as worker:
        worker.until_ready()  # it reads the baselines now
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: len(records)})
        assert worker.stop() == 0
    site.same_as_replay()
    assert len(site.read(REJECTED)) == rejects


@pytest.mark.kafka
def test_a_worker_that_is_asked_to_stop_commits_everything_and_its_successor_goes_on(site):
    """SIGTERM: exit status 0, and only what came since is scored by the next."""
    records = fleet(3)
    half = len(records) // 2
    site.produce(records[:half])
    with site.worker() as worker:
        worker.until_scored(half)
        assert worker.stop() == 0
    assert site.committed() == {0: half}
    site.produce(records[half:])
    with site.worker("two") as worker:
        worker.until_scored(len(records))
        scored = worker.metric("strayline_events_total") + worker.metric("strayline_rejects_total")
        assert worker.stop() == 0
    assert scored == len(records) - half
    assert site.committed() == {0: len(records)}
    _, expected = site.replayed()
    assert [r.value for r in site.read(ALERTS)] == expected


@pytest.mark.kafka
def test_it_is_ready_when_its_baselines_are_read_and_not_before(site, monkeypatch):
    """Without waiting for an event; and of an agent it says that it does not know yet, not that there is nothing."""
    site.produce([(b"stranger/%d" % n, bytes(900_000)) for n in range(100)], BASELINES)  # some time's worth of reading
    reading = "reading baselines of partitions [0]"
    answers: list[tuple[int, str]] = []
    with site.worker() as worker:

        def ready() -> bool:
            answer = worker.get("/readyz")
            if answer not in answers:
                answers.append(answer)
                if answer[1] == f"{reading}\n":
                    with pytest.raises(BrokerError, match=re.escape(f"still {reading}; ask again")):
                        from_worker(worker.address, "somebody")
            return answer[0] == 200

        worker.until(ready)
        assert worker.metric("strayline_corrupt_baselines_total") == 100
        assert worker.get("/agents/somebody")[0] == 404
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # which must not be asked for a worker
        with pytest.raises(InputError, match="has no baseline of agent 'somebody'"):
            from_worker(worker.address, "somebody")
        monkeypatch.delenv("http_proxy")
        assert worker.stop() == 0
    answered = [answer for answer in answers if answer[0]]
    assert answered[-2:] == [(503, f"{reading}\n"), (200, "partitions [0]\n")]
    assert {status for status, _ in answered[:-1]} == {503}


@pytest.mark.kafka
def test_a_worker_that_is_asked_to_stop_while_it_reads_its_baselines_stops(site):
    """In order: it had nothing in hand."""
    site.produce([(b"stranger/%d" % n, bytes(900_000)) for n in range(100)], BASELINES)
    with site.worker() as worker:
        worker.until(lambda: "reading baselines" in worker.get("/readyz")[1])
        assert worker.stop() == 0
        assert [json.loads(line)["event"] for line in worker.log.read_text().splitlines()][-1] == "stopped"


def test_baselines_that_cannot_be_read_end_the_worker_with_the_reason():
    """Without them nothing may be scored, and its supervisor tries again."""
    script = (
        "import asyncio\n"
        "from aiokafka.structs import TopicPartition\n"
        "from stream.settings import load\n"
        "from stream.desk import EVENTS, Desk\n"
        "async def main():\n"
        "    await Desk(None, load(), 4).assigned(None, {TopicPartition(EVENTS, 3)})\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    told = python("-c", script, STRAYLINE_BROKER=f"127.0.0.1:{free_port()}")
    assert told.returncode == 1
    assert "the baselines of partition 3 could not be read; is the broker up?" in told.stdout + told.stderr
    assert "Traceback" not in told.stderr


def test_a_batch_of_a_partition_that_was_taken_away_does_not_open_it():
    """That would take it from the worker that has it now."""
    script = (
        "import asyncio\n"
        "from types import SimpleNamespace\n"
        "from stream.settings import load\n"
        "from stream.desk import Desk\n"
        "message = SimpleNamespace(partition=3, value=[])\n"
        "app = SimpleNamespace(consumer=SimpleNamespace(is_current=lambda message: False))\n"
        "async def main():\n"
        "    await Desk(app, load(), 4).take(SimpleNamespace(message=message))\n"
        "asyncio.run(main())\n"
    )
    told = python("-c", script, STRAYLINE_BROKER=f"127.0.0.1:{free_port()}")
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


@pytest.mark.kafka
def test_partitions_that_move_lose_nothing_and_say_nothing_twice(site_of_two):
    """A second worker joins in mid-stream, and leaves."""
    site = site_of_two
    records = fleet(4, garbage=0.0)
    third = len(records) // 3

    def scored() -> bool:
        return site.committed() == {n: site.end(EVENTS, n) for n in range(2)}

    with site.worker("one") as one, site.worker("two") as two:
        one.until_ready()
        site.produce(records[:third])
        one.until(lambda: "[0]" in one.get("/readyz")[1] or "[1]" in one.get("/readyz")[1])
        two.until(lambda: two.get("/readyz")[1] in {"partitions [0]\n", "partitions [1]\n"})
        site.produce(records[third : 2 * third])
        two.until(scored)
        assert two.metric("strayline_events_total") > 0
        assert two.stop() == 0
        site.produce(records[2 * third :])
        one.until(scored)
        assert one.get("/readyz")[1] == "partitions [0, 1]\n"
        assert one.stop() == 0
    site.told_each_other_everything_once()


@pytest.mark.kafka
def test_whatever_is_killed_partitions_tell_each_other_everything_once(site_of_two):
    """kill -9 of one of two workers, then of the other, while both score, deliver and read what the other gave."""
    site = site_of_two
    records = fleet(9, garbage=0.0)
    rng = random.Random(9)
    lives = 4
    share = len(records) // lives
    for life in range(lives):
        with site.worker("one") as one, site.worker("two") as two:
            both = (one, two)
            two.until(lambda: {w.get("/readyz")[1] for w in both} == {"partitions [0]\n", "partitions [1]\n"})  # noqa: B023
            site.produce(records[life * share : (life + 1) * share])
            killed = both[life % 2]
            moment = rng.randrange(share)
            killed.until(lambda: sum(w.metric("strayline_events_total") for w in both) > moment)  # noqa: B023
            killed.kill()
    with site.worker("one") as one, site.worker("two"):
        one.until(lambda: site.committed() == {n: site.end(EVENTS, n) for n in range(2)})
    site.told_each_other_everything_once()


@pytest.mark.kafka
def test_partitions_that_are_days_further_on_tell_each_other_before_they_go_on(site_of_two):
    """However seldom baselines are delivered: else each would score weeks that wait as if it were alone."""
    site = site_of_two

    def day(of: int) -> list[tuple[bytes, bytes]]:
        """Eight agents that always do the same, so that no alert is delivered."""
        told = {"tool": "crm.search", "action": "search", "resource": "crm/leads", "records": 3, "bytes": 900}
        when = [(n, datetime(2026, 3, of, 9, n // 8, tzinfo=UTC).isoformat()) for n in range(160)]
        events = [{"event_id": f"{of}-{n}", "time": at, "agent_id": f"a{n % 8}"} | told for n, at in when]
        return [(event["agent_id"].encode(), encode(event)) for event in events]

    def given() -> list[int]:
        return [site.end(COHORTS, n) for n in range(2)]

    with site.worker("one", flush="600") as one:
        one.until_ready()
        site.produce(day(2))
        one.until(lambda: one.metric("strayline_events_total") == 160)
        assert given() == [0, 0]
        site.produce(day(4))  # the first of it is scored by what is known till then
        one.until(lambda: one.metric("strayline_events_total") == 320)
        site.produce(day(6))
        one.until(lambda: min(given()) > 0)
        assert sum(site.end(ALERTS, n) for n in range(2)) == 0
        assert one.stop() == 0


@pytest.mark.kafka
def test_partitions_that_lost_their_baselines_know_of_cohorts_what_all_have_given(site_of_two):
    """They put it together anew, themselves included; their agents they learn anew."""
    site = site_of_two
    records = fleet(12, agents=12, days=8, garbage=0.0)
    half = len(records) // 2
    site.produce(records[:half])
    with site.worker("one") as one:
        one.until(lambda: site.committed() == {n: site.end(EVENTS, n) for n in range(2)})
        assert one.stop() == 0
    remove_topics(site.bootstrap, {BASELINES})
    ensure_topics(site.settings)
    site.produce(records[half:])
    with site.worker("one") as one:
        one.until(lambda: site.committed() == {n: site.end(EVENTS, n) for n in range(2)})
        assert one.stop() == 0
        assert one.log.read_text().count("putting together anew") == 2
    site.told_each_other_everything_once(lost=half)


@pytest.mark.kafka
def test_a_worker_that_restarts_within_its_session_takes_its_own_back_and_no_other_is_disturbed(site_of_two):
    """Stopped or killed, under its fixed name: nothing is handed out anew, and what came meanwhile is scored."""
    site = site_of_two
    records = fleet(5, agents=12, days=6)
    third = len(records) // 3
    session = {"STRAYLINE_SESSION_SECONDS": "60"}  # a restart takes longer than the default on a busy machine
    one_of_two = {"partitions [0]\n", "partitions [1]\n"}

    def scored() -> bool:
        return site.committed() == {n: site.end(EVENTS, n) for n in range(2)}

    with site.worker("one", **session) as one, site.worker("two", **session) as two:
        site.produce(records[:third])
        one.until(lambda: one.get("/readyz")[1] in one_of_two)
        two.until(lambda: two.get("/readyz")[1] in one_of_two)
        two.until(scored)
        kept, own = one.get("/readyz")[1], two.get("/readyz")[1]
        handed_out = one.metric("strayline_rebalances_total")
        assert two.stop() == 0
        site.produce(records[third : 2 * third])
        with site.worker("two", **session) as again:
            again.until(scored)
            assert again.get("/readyz")[1] == own
            again.kill()
        site.produce(records[2 * third :])
        with site.worker("two", **session) as again:
            again.until(scored)
            assert again.get("/readyz")[1] == own
            assert one.metric("strayline_rebalances_total") == handed_out
            assert one.get("/readyz")[1] == kept
            assert again.stop() == 0
        assert one.stop() == 0
    site.told_each_other_everything_once()


@pytest.mark.kafka
def test_a_producer_chooses_its_codec(site):
    """Nobody asks ours before compressing."""
    records = fleet(5, agents=12, days=5)
    codecs = [None, "gzip", "snappy", "lz4", "zstd"]
    for n, codec in enumerate(codecs):
        site.produce(records[n :: len(codecs)], codec=codec)
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: len(records)})
    _, expected = site.replayed()
    assert [r.value for r in site.read(ALERTS)] == expected


@pytest.mark.kafka
def test_a_corrupt_record_of_baselines_is_left_out_and_counted(site):
    """What it held is learned anew; the rest is as it was."""
    records = fleet(6, agents=12, days=5)
    half = len(records) // 2
    site.produce(records[:half])
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: half})
        assert worker.stop() == 0
    key, value = next((r.key, r.value) for r in site.read(BASELINES) if r.value)
    for at in (5, 20, len(value) // 2):
        site.produce([(key, value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :])], BASELINES)
    site.produce([(b"stranger", b"hello"), (b"c/1", None)], BASELINES)
    site.produce(records[half:])
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: len(records)})
        assert worker.metric("strayline_corrupt_baselines_total") == 4
        assert worker.log.read_text().count("corrupt baselines record left out") == 4
    _, expected = site.replayed()
    assert [r.value for r in site.read(ALERTS)] == expected


@pytest.mark.kafka
@pytest.mark.parametrize("heir", ["one", "two"])
def test_a_worker_that_was_paused_and_replaced_does_no_harm(site, heir):
    """Whether its supervisor started it again under its name or another took its partition over."""
    records = fleet(7)
    third = len(records) // 3
    site.produce(records[:third])
    with site.worker("one") as old:
        old.until_scored(third)
        site.produce(records[third : 2 * third])
        old.process.send_signal(signal.SIGSTOP)
        with site.worker(heir) as new:
            new.until(lambda: new.get("/readyz") == (200, "partitions [0]\n"))
            new.until(lambda: site.committed() == {0: 2 * third})  # by whichever of the two came to it
            old.process.send_signal(signal.SIGCONT)
            site.produce(records[2 * third :])
            new.until(lambda: site.committed() == {0: len(records)} or new.process.poll() is not None)
            assert old.process.wait(DEADLINE) == 1
            assert new.stop() == 0
    site.same_as_replay()


def overwrite(broker: Broker, topic: str, found: bytes, instead: bytes) -> None:
    """On the broker's disk, where nobody looks at checksums before it is read."""
    (log,) = (broker.data / "logs" / f"{topic}-0").glob("*.log")
    with log.open("r+b") as segment:
        segment.seek(log.read_bytes().index(found))
        segment.write(instead)


@pytest.mark.kafka
def test_a_damaged_record_batch_is_kept_with_its_reason_and_the_worker_goes_on_behind_it(broker, site):
    """And a worker that is killed says nothing of it twice."""
    records = fleet(7, garbage=0.0)[:600]
    for at in range(0, 600, 100):
        site.produce([(b"k", value) for _, value in records[at : at + 100]])
    spoiled = records[250][1]
    overwrite(broker, EVENTS, spoiled, b"!" + spoiled[1:])
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: 600})
        (kept,) = site.read(REJECTED)
        headers = {name: told.decode() for name, told in kept.headers}
        first, last = map(int, re.search(r"offsets (\d+) to (\d+): its checksum is wrong", headers["detail"]).groups())
        assert (headers["reason"], headers["topic"], int(headers["offset"])) == ("damaged", EVENTS, last)
        assert first <= 250 <= last
        assert b"!" + spoiled[1:] in kept.value
        assert worker.metric("strayline_events_total") == 600 - (last + 1 - first)
        assert worker.metric("strayline_rejects_total", reason="damaged") == 1
        assert "reading goes on behind it; look at the disk of the broker" in worker.said()
        worker.kill()
    site.produce(fleet(8, garbage=0.0)[:100])
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: 700})
        assert worker.stop() == 0
    assert len(site.read(REJECTED)) == 1
    engine = site.baselines()
    assert float(engine.state.fleet["events"]) == 700 - (last + 1 - first)
    told = strayline("rejects", "--resubmit", STRAYLINE_BROKER=site.bootstrap)
    assert "damaged" in told.stdout + told.stderr


@pytest.mark.kafka
def test_damage_that_has_no_end_ends_the_worker_with_what_is_before_it_committed_and_the_command_that_passes_over_it(
    broker, site
):
    """The number of records and the last offset are under the checksum too: where they do not agree and nothing follows, nobody can tell."""
    records = fleet(7, garbage=0.0)[:300]
    site.produce([(b"k", value) for _, value in records[:200]])
    site.produce([(b"k", records[200][1])])
    (log,) = (broker.data / "logs" / f"{EVENTS}-0").glob("*.log")
    raw = log.read_bytes()
    at = low = 0
    while at < len(raw):
        low, at = at, at + 12 + int.from_bytes(raw[at + 8 : at + 12], "big")
    with log.open("r+b") as segment:
        segment.seek(low + 23)  # its last offset
        segment.write((5).to_bytes(4, "big"))
    with site.worker(STRAYLINE_SESSION_SECONDS="6") as worker:
        assert worker.process.wait(DEADLINE) == 1
        said = worker.said()
    assert "the batch at offset 200 is damaged (its checksum is wrong), and so is what says where it ends" in said
    assert site.committed() == {0: 200}
    (command,) = set(re.findall(r"`kafka-consumer-groups (.*?)`", said))
    for word, told in (("BROKER", site.bootstrap), ("GROUP", site.group), ("--to-offset N", "--to-offset 201")):
        assert word in command
        command = command.replace(word, told)
    tool = ["java", "-cp", f"{jars()}/*", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"]
    deadline = time.monotonic() + DEADLINE
    while site.committed() != {0: 201}:  # once the broker takes the worker for gone
        subprocess.run([*tool, *command.split()], capture_output=True, check=False)
        assert time.monotonic() < deadline
    site.produce([(b"k", value) for _, value in records[201:]])
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: 300})
        assert worker.stop() == 0
    assert float(site.baselines().state.fleet["events"]) == 299


@pytest.mark.kafka
@pytest.mark.parametrize("topic", [VERDICTS, BASELINES])
def test_a_damaged_batch_of_verdicts_or_baselines_is_told_of_and_does_not_keep_the_worker_from_its_work(
    broker, site, topic
):
    """A verdict is kept on the rejected topic; what a record of baselines held is learned anew."""
    site.produce([(b"stranger/before", b"sound, as bytes go"), (b"stranger/damaged", b"what will be damaged")], topic)
    overwrite(broker, topic, b"what will be damaged", b"what has been damaged"[:20])
    site.produce(fleet(7, garbage=0.0)[:300])
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: 300})
        worker.until(lambda: topic == BASELINES or len(site.read(REJECTED)) > 0)
        assert "a record batch cannot be read" in worker.log.read_text()
        assert worker.metric("strayline_corrupt_baselines_total") == (topic == BASELINES)
        assert worker.stop() == 0
    assert (len(site.read(REJECTED)) > 0) == (topic == VERDICTS)


@pytest.mark.kafka
def test_two_workers_of_one_name_end_each_other_and_say_that_it_is_the_name(site):
    """Not that the broker may be down; and their alerts are those of one."""
    records = fleet(7)
    sent = 0
    with site.worker("one") as first, site.worker("one") as second:
        while first.process.poll() is None and second.process.poll() is None and sent < len(records):
            site.produce(records[sent : sent + 10])
            sent += 10
        assert 1 in (first.process.poll(), second.process.poll())
        assert "no two workers have the same STRAYLINE_INSTANCE" in first.said() + second.said()
    site.produce(records[sent:])
    with site.worker("two") as heir:
        heir.until(lambda: site.committed() == {0: len(records)})
    site.same_as_replay()


@pytest.mark.kafka
def test_a_worker_of_another_group_fences_the_first_which_says_that_it_may_be_the_group(site):
    """The topics are the same, so both would have the partition, and each write its baselines over the other's."""
    records = fleet(7)
    site.produce(records[:-100])
    with site.worker("one") as first:
        first.until(lambda: site.committed() == {0: len(records) - 100})
        with site.worker("two", group=f"{site.group}-other") as second:
            second.until_ready()
            site.produce(records[-100:])
            assert first.process.wait(DEADLINE) == 1
            assert "all on this broker the same STRAYLINE_GROUP" in first.said()
            second.until_scored(len(records))
            assert second.stop() == 0
    site.same_as_replay()


@pytest.mark.kafka
def test_two_workers_of_one_name_that_have_nothing_to_do_say_so_too(site):
    """The broker tells neither that there is another: it only no longer knows it, and each would join again for ever."""
    with site.worker("one") as first, site.worker("one") as second:
        deadline = time.monotonic() + 2 * DEADLINE
        while first.process.poll() is None and second.process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                first.process.wait(0.1)
            assert time.monotonic() < deadline, first.said()
    assert 1 in (first.process.poll(), second.process.poll())
    lines = [
        json.loads(line) for line in first.log.read_text().splitlines() if line.startswith("{")
    ]  # both write to it
    told = [line for line in lines if line["level"] == "error"]
    # By the fifth time it was thrown out, or because the group would no longer have it: whichever comes first, the name is to be looked at.
    assert "see that no two workers have the same STRAYLINE_INSTANCE" in told[0]["event"]


@pytest.mark.kafka
def test_verdicts_are_heeded_exactly_once_whenever_it_is_killed(site, tmp_path):
    """Between two batches; and from there on alerts and baselines are those of a replay that heeds them at that time."""
    records = fleet(8)
    half = len(records) // 2
    site.produce(records[:half])
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: half})
        assert worker.stop() == 0
    opened = [r.value for r in site.read(ALERTS) if json.loads(r.value)["revision"] == 1]
    for what, alert in (("benign", opened[-1]), ("malicious", opened[-3])):
        words = ("--by", "ana", "--reason", "because")
        told = strayline("verdict", what, json.loads(alert)["alert_id"], *words, STRAYLINE_BROKER=site.bootstrap)
        assert told.returncode == 0, told.stderr
        assert f"{what} by ana, written to {VERDICTS}" in told.stderr
    site.produce([(b"k", b'{"alert_id": 1}')], VERDICTS)
    with site.worker() as worker:
        worker.until(lambda: worker.metric("strayline_verdicts_total") > 0)
    with site.worker() as worker:
        worker.until(lambda: len(site.read(REJECTED)) > rejects_in(records[:half]))
    site.produce(records[half:])
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: len(records)})
        assert worker.metric("strayline_verdicts_total") == 0
        assert worker.stop() == 0
    rejected = [dict(r.headers) for r in site.read(REJECTED)]
    assert [h["reason"] for h in rejected if h["topic"] == VERDICTS.encode()] == [b"bad_value"]
    assert len(rejected) == rejects_in(records) + 1
    clock = float(first_half(site, records[:half]).state.fleet["clock"])
    said = tmp_path / "verdicts.jsonl"
    heeded = [json.loads(r.value) | {"time": clock + 0.0005} for r in site.read(VERDICTS)[:2]]
    said.write_bytes(b"".join(encode(v) + b"\n" for v in heeded))
    expected = site.same_as_replay(verdicts=str(said))
    assert expected != site.replayed()[1]


@pytest.mark.kafka
def test_alerts_do_not_wait_for_the_flush_interval_nor_does_a_rebalance(site_of_two):
    """They are delivered when they are said, and what was learned till then with them; the rest when somebody waits for it."""
    site = site_of_two
    records = fleet(9, garbage=0.0)
    with site.worker("one", flush="3600") as one:
        one.until_ready()
        site.produce(records)
        one.until(lambda: sum(one.metric("strayline_processed_offset", partition=n) for n in "01") == len(records))
        one.until(lambda: sum(map(len, site.alerts().values())) == one.metric("strayline_alert_revisions_total") > 0)
        ordinary = next(e for e in map(json.loads, (value or b"" for _, value in records)) if e["action"] == "read")
        time_ = json.loads(records[-1][1] or b"")["time"]
        site.produce([(b"newcomer", encode(ordinary | {"event_id": "n", "agent_id": "newcomer", "time": time_}))])
        one.until(lambda: sum(one.metric("strayline_processed_offset", partition=n) for n in "01") > len(records))
        assert sum(site.committed().values()) <= len(records)
        with site.worker("two", flush="3600") as two:
            two.until(lambda: site.committed() == {n: site.end(EVENTS, n) for n in range(2)})
            two.until_ready()
            assert (two.stop(), one.stop()) == (0, 0)
    site.told_each_other_everything_once()


@pytest.mark.kafka
def test_a_batch_is_decoded_while_the_one_before_is_scored_and_learned_once_however_often_it_comes(site):
    """After a rebalance Kafka may bring again what is still in hand; and nothing that was scored stays in memory until it is delivered."""
    records = fleet(10, garbage=0.02)
    site.produce(records)
    read = site.read(EVENTS)
    cuts = [(0, 700), (700, 1500), (300, 1800), (300, 1200), (1800, len(read))]
    batches = [polled(read[low:high]) for low, high in cuts]
    acknowledged: list[int] = []
    events = [
        SimpleNamespace(message=SimpleNamespace(value=batch), ack=lambda n=n: acknowledged.append(n))
        for n, batch in enumerate(batches)
    ]

    async def run() -> None:
        partition = Partition(site.settings, 0, threads(), is_current=bool)
        await partition.open()
        taken = [await partition.decode(event) for event in events]
        await asyncio.gather(*(partition.score(one, partition.tell) for one in taken))
        partition.tell()
        assert not any(batches)
        assert partition.somebody_waits
        await partition.flush()
        assert acknowledged == [0, 1, 2, 3, 4]
        await partition.close()

    asyncio.run(run())
    site.same_as_replay()
    assert len(site.read(REJECTED)) == rejects_in(records)


@pytest.mark.kafka
def test_a_batch_from_before_a_rebalance_is_not_scored_after_it(site):
    """It may be the second of two, whose first was taken away: it comes again, after the first."""
    site.produce(fleet(10))
    read = site.read(EVENTS)
    current: list[SimpleNamespace] = []

    def delivered() -> list[SimpleNamespace]:
        """Two batches, as after an assignment."""
        current[:] = [SimpleNamespace(value=polled(read[low:high])) for low, high in ((0, 700), (700, len(read)))]
        return [SimpleNamespace(message=message, ack=lambda: None) for message in current]

    async def run() -> None:
        partition = Partition(site.settings, 0, threads(), lambda message: any(message is one for one in current))
        await partition.open()
        _, stale = [await partition.decode(event) for event in delivered()]
        await partition.close()
        again = delivered()
        await partition.open()
        await partition.score(stale, partition.tell)
        assert partition.next_offset == 0
        for event in again:
            await partition.score(await partition.decode(event), partition.tell)
        await partition.flush()
        await partition.close()

    asyncio.run(run())
    site.same_as_replay()


@pytest.mark.kafka
def test_who_asks_for_a_baseline_while_a_batch_is_scored_is_answered_after_it(site):
    """A table that grows has no index for a while, and whoever looked then would make one under the thread that scores."""
    site.produce([(b"k", value) for _, value in fleet(10, garbage=0.0)[:700]])
    read = site.read(EVENTS)
    agent_id = json.loads(read[0].value)["agent_id"]
    event = SimpleNamespace(message=SimpleNamespace(value=polled(read)), ack=lambda: None)

    async def run() -> None:
        work, gate = threads(), threading.Event()
        partition = Partition(site.settings, 0, work, is_current=bool)
        await partition.open()
        taken = await partition.decode(event)
        scoring = asyncio.Event()
        work.score.submit(gate.wait)  # the batch is in hand and not scored
        batch = asyncio.create_task(partition.score(taken, scoring.set))
        await scoring.wait()
        asked = asyncio.create_task(partition.explain(agent_id))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not asked.done()
        gate.set()
        found = await asked
        assert found is not None
        assert found["events"] == sum(json.loads(r.value)["agent_id"] == agent_id for r in read)
        await batch
        await partition.close()
        assert await partition.explain(agent_id) is None

    asyncio.run(run())


def test_counting_what_a_batch_said_makes_no_index_anew():
    """The next batch of the same partition may be growing the table meanwhile, on another thread."""
    engine = Engine(load({}))
    values = [value for _, value in fleet(10, garbage=0.0)[:100]]
    said = engine.score(engine.decode(values, range(100)))
    agents = engine.state["agents"]
    agents.stale = True  # as while it grows
    metrics.observe(99, engine, said, len(said.events))
    assert agents.stale
    assert metrics.REGISTRY.get_sample_value("strayline_agents", {"partition": "99"}) == agents.tally[0] > 0
    metrics.forget(99)


def test_who_gave_way_in_a_flood_of_names_is_not_warming_any_more():
    """Nor in the last line of a replay. Or the panel would only ever rise, beyond the agents that there are."""
    engine = Engine(load({"STRAYLINE_STATE_MIB": "16"}))
    values = [
        encode({"event_id": str(n), "time": float(n), "agent_id": f"a{n}", "action": "read"}) for n in range(3000)
    ]
    values += [
        encode({"event_id": f"old-{n}", "time": 3000.0 + n, "agent_id": "old", "action": "read"}) for n in range(60)
    ]
    said = engine.score(engine.decode(values, range(len(values))))
    assert len(said.events) == len(values)
    metrics.observe(98, engine, said, len(values))
    agents, warming = (
        metrics.REGISTRY.get_sample_value(f"strayline_{name}", {"partition": "98"})
        for name in ("agents", "warming_agents")
    )
    assert agents < 3000
    assert warming == agents - 1
    metrics.forget(98)


def flushed(site: Site, until: Callable[[], bool] = lambda: True) -> None:
    """Score all events of the only partition in this process, again `until` it is so, then flush."""
    read = site.read(EVENTS)

    async def run() -> None:
        partition = Partition(site.settings, 0, threads(), is_current=bool)
        await partition.open()
        deadline, done = time.monotonic() + DEADLINE, False
        while not done:
            assert time.monotonic() < deadline
            event = SimpleNamespace(message=SimpleNamespace(value=polled(read)), ack=lambda: None)
            await partition.score(await partition.decode(event), partition.tell)
            done = await asyncio.to_thread(until)
        await partition.flush()
        await partition.close()

    asyncio.run(run())


def rejects_in(records: Sequence[Record]) -> int:
    return len(Engine(load({})).decode([value for _, value in records], range(len(records))).rejects)


def first_half(site: Site, records: Sequence[Record]) -> Engine:
    engine = Engine(site.settings)
    engine.score(engine.decode([value for _, value in records], range(len(records))))
    return engine


@pytest.mark.kafka
def test_a_verdict_without_events_is_heeded_at_once(site):
    """A quiet partition makes nobody wait; and the alert that it is on is looked for on the topic."""
    told = strayline("verdict", "benign", "nobody-s", "--by", "a", "--reason", "b", STRAYLINE_BROKER=site.bootstrap)
    assert told.returncode == 1
    assert f"{ALERTS} on {site.bootstrap} has no alert 'nobody-s'" in told.stderr
    with site.worker() as worker:
        worker.until_ready()
        verdict = {"alert_id": "a", "agent_id": "k", "verdict": "malicious", "time": 1.0, "by": "a", "reason": "b", "evidence": [{"name": "tool", "observed": "t"}], "event": {"event_id": "e", "action": "x"}}  # fmt: skip
        site.produce([(b"k", encode(verdict))], VERDICTS)
        worker.until(lambda: worker.metric("strayline_verdicts_total", verdict="malicious") == 1)
        assert worker.stop() == 0
    (marked,) = [row for row in site.baselines().state["facts"].head if row["d"] < 0]
    assert marked["w"] == -marked["d"]


@pytest.mark.kafka
def test_a_reject_whose_key_is_large_fits_its_topic(site):
    """Without the key, which a header has the beginning of: it would end the worker at every start. A batch of zeros is small while it is compressed."""
    site.produce([(bytes(9 << 20), b""), (b"k" * (1 << 20), b"\xff" * (3 << 20)), (b"k" * 1000, b"x")], codec="lz4")
    flushed(site)
    deadline = time.monotonic() + DEADLINE
    while (
        len(rejected := site.read(REJECTED)) < 3
    ):  # a broker marks a transaction as committed a moment after it has said so
        assert time.monotonic() < deadline
    told = [(r.key, len(r.value), dict(r.headers)) for r in rejected]
    assert [(key, size) for key, size, _ in told] == [(None, 0), (None, 3 << 20), (b"k" * 1000, 1)]
    cut = [(h.get("key_begins"), h.get("key_cut_from_bytes")) for _, _, h in told]
    assert cut == [(bytes(256), b"%d" % (9 << 20)), (b"k" * 256, b"%d" % (1 << 20)), (None, None)]
    looked = strayline("rejects", STRAYLINE_BROKER=site.bootstrap)
    assert looked.returncode == 0
    assert looked.stdout.count("empty") == 1


@pytest.mark.kafka
def test_rejected_verdicts_are_delivered_before_they_are_more_than_may_wait(site):
    """As rejected events are: whoever may write there could fill the memory of a worker whose flushes are far apart."""
    site.produce([(b"k", b"x" * (3 << 20)) for _ in range(2 * MOST_REFUSED // (3 << 20))], VERDICTS)
    site.produce([(b"k", fleet(1, garbage=0.0)[0][1])])
    flushed(site, until=lambda: site.end(REJECTED) > 0)


@pytest.mark.kafka
def test_verdicts_on_a_topic_that_was_made_anew_are_heeded_once_however_often_the_worker_starts(site):
    """Though there were more on the old one than on the new."""

    def send(*reasons: str) -> None:
        said = {"agent_id": "k", "verdict": "reset", "time": 1.0, "by": "a"}
        site.produce([(b"k", encode(said | {"reason": reason})) for reason in reasons], VERDICTS)

    send("old", "old", "old")
    heeded = 0
    for sent in (3, 2, 1):
        with site.worker() as worker:
            worker.until(lambda sent=sent: worker.metric("strayline_verdicts_total") >= sent)
            assert worker.stop() == 0
        if sent == 3:
            remove_topics(site.bootstrap, [VERDICTS])
            assert ensure_topics(site.settings, 1) == []
            send("new", "new")
        else:
            send("last")
        heeded += sent
        lines = (site.folder / "one.log").read_text().splitlines()
        assert sum(json.loads(line)["event"] == "verdict heeded" for line in lines) == heeded


@pytest.mark.kafka
def test_who_has_scored_the_last_record_is_not_behind(site):
    """Before the first there is, and after a transaction, whose end takes an offset of its own."""

    async def produce() -> None:
        gateway = aiokafka.AIOKafkaProducer(bootstrap_servers=site.bootstrap, transactional_id="gateway")
        async with gateway, gateway.transaction():
            for key, value in fleet(3, 12, 5, garbage=0.0)[:5]:
                await gateway.send_and_wait(EVENTS, value, key=key)

    with site.worker() as worker:
        worker.until(lambda: 'strayline_consumer_lag_records{partition="0"} 0.0' in worker.get("/metrics")[1])
        asyncio.run(produce())
        assert site.end(EVENTS) == 6
        worker.until_scored(5)
        worker.until(lambda: worker.metric("strayline_consumer_lag_records", partition="0") == 0)


@pytest.mark.kafka
def test_a_field_that_nothing_reads_is_counted_and_logged_once(site):
    """With the one that was meant."""
    events = [(key, value[:-1] + b',"recipient":"x"}') for key, value in fleet(3, 12, 5, garbage=0.0)[:5] if value]
    site.produce(events)
    with site.worker() as worker:
        worker.until_scored(5)
        worker.until(lambda: worker.metric("strayline_unknown_fields_total") == 5)
        told = [json.loads(line) for line in worker.log.read_text().splitlines() if "unknown field" in line]
    assert [(t["field"], t["do"]) for t in told] == [("recipient", "did you mean `recipients`? Only that is read.")]


def test_without_a_broker_it_says_where_it_looked_and_how_to_start_one():
    """And ends, soon, for its supervisor to try again."""
    address = f"127.0.0.1:{free_port()}"
    began = time.monotonic()
    told = strayline("worker", STRAYLINE_BROKER=address)
    assert told.returncode == 1
    assert re.search(rf"no Kafka at {address} .*`make kafka PORT={address.rpartition(':')[2]}`", told.stderr)
    assert "Traceback" not in told.stderr
    assert time.monotonic() - began < 15


@pytest.mark.kafka
def test_without_topics_it_says_how_to_make_them(broker):
    """It makes none itself: how many partitions is for whoever runs it to say."""
    remove_topics(broker.bootstrap)
    told = strayline("worker", STRAYLINE_BROKER=broker.bootstrap)
    assert told.returncode == 1
    assert EVENTS in told.stderr
    assert "`strayline topics --partitions N`" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("localhost", "localhost")])
def test_a_port_that_is_taken_is_named_before_anything_else(host, shown):
    """Two workers on one machine need two: the second must not take partitions from the first."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        port = str(taken.getsockname()[1])
        told = strayline(
            "worker",
            STRAYLINE_BROKER=f"127.0.0.1:{free_port()}",
            STRAYLINE_HTTP_HOST=host,
            STRAYLINE_HTTP_PORT=port,
        )
    assert told.returncode == 1
    said = json.loads(told.stderr.splitlines()[-1])
    assert said["event"] == f"cannot serve on {shown}:{port}; set STRAYLINE_HTTP_PORT to a free port"
    assert "Traceback" not in told.stderr


def test_an_address_that_is_not_this_machine_s_is_named():
    """Another port would not help."""
    told = strayline("worker", STRAYLINE_HTTP_HOST="192.0.2.1")
    assert told.returncode == 1
    said = json.loads(told.stderr.splitlines()[-1])
    assert said["event"] == "cannot serve on 192.0.2.1:9464; set STRAYLINE_HTTP_HOST to an address of this machine"


def test_the_port_is_held_from_the_start():
    """Nobody can take it while the models compile and the broker is asked."""
    port = free_port()
    with listen(load({"STRAYLINE_HTTP_PORT": str(port)})), pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", port))


@pytest.mark.kafka
def test_it_serves_on_ipv6_too(site):
    """And on the command line its address is written as in a URL."""
    with site.worker(host="::1") as worker:
        worker.until_ready()
        told = strayline("explain", "nobody", "--worker", worker.address)
        assert f"the worker at {worker.address} has no baseline of agent 'nobody'" in told.stderr
        assert worker.stop() == 0


@pytest.mark.kafka
def test_a_gateway_that_sends_by_another_key_is_counted_and_logged_once(site_of_two):
    """And one that sends by its agents' is not."""
    site = site_of_two
    events = [(key, value) for key, value in fleet(3, 12, 5, garbage=0.0)[:60] if value]
    agents = [json.loads(value)["agent_id"] for _, value in events]
    site.produce(events)
    with site.worker() as worker:
        worker.until(lambda: worker.metric("strayline_events_total") == 60)
        assert worker.metric("strayline_misplaced_events_total") == 0
        site.produce([(b"tenant-1", value) for _, value in events])
        at = partition_of("tenant-1", 2)
        astray = sum(partition_of(agent, 2) != at for agent in agents)
        worker.until(lambda: worker.metric("strayline_misplaced_events_total") == astray)
        told = [json.loads(line) for line in worker.log.read_text().splitlines() if "another partition" in line]
    assert [(t["partition"], t["belongs_to"]) for t in told] == [(at, 1 - at)]
