"""What was damaged on a broker's disk is told of and passed over, and keeps no worker from its work."""

from __future__ import annotations

import re
import subprocess
import time

import pytest

from benchmarks.kafka import Broker, jars
from stream.topics import ALERTS, BASELINES, EVENTS, REJECTED, VERDICTS
from tests.site import (
    DEADLINE,
    fleet,
    strayline,
)

pytestmark = pytest.mark.usefixtures("compiled")


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
