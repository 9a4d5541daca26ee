"""The worker as it is run, a process beside a real broker: whatever befalls it, its alerts are those of a replay."""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace

import aiokafka
import pytest

from benchmarks.kafka import Broker
from stream import metrics
from stream.codec import REASONS, encode
from stream.engine import Engine
from stream.errors import BrokerError, InputError
from stream.explain import from_worker
from stream.outbox import MOST_REFUSED
from stream.partition import Partition, threads
from stream.settings import load
from stream.topics import ALERTS, BASELINES, EVENTS, REJECTED, VERDICTS, ensure_topics
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
        worker.until_ready()  # the last one may have committed all
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
def test_a_worker_under_other_settings_than_its_baselines_were_learned_with_says_so_once(site):
    """Nothing else would: classes and who is inside are part of what is known."""
    records, warning = fleet(7), "baselines were learned under other settings"
    third = len(records) // 3
    said = []
    for n, domains in enumerate(("northwind.example", "other.example", "other.example")):
        site.produce(records[n * third : (n + 1) * third])
        with site.worker("one", STRAYLINE_DOMAINS=domains) as worker:
            worker.until(lambda n=n: site.committed() == {0: (n + 1) * third})
            assert worker.stop() == 0
            lines = [line for line in worker.log.read_text().splitlines() if warning in line]
            said.append(len(lines))
    assert said == [0, 1, 1]  # they write to one log
    assert json.loads(lines[0])["before"]["domains"] == ["northwind.example"]


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
        "from stream.topics import Known\n"
        "async def main():\n"
        "    await Desk(None, load(), Known(4)).assigned(None, {TopicPartition(EVENTS, 3)})\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    told = python("-c", script, STRAYLINE_BROKER=f"127.0.0.1:{free_port()}")
    assert told.returncode == 1
    assert "the baselines of partition 3 could not be read; is the broker up?" in told.stdout + told.stderr
    assert "Traceback" not in told.stderr


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
