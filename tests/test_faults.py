"""Faults of a worker, on a real broker: whatever is killed, paused or moved, and whenever, alerts and baselines are those of a replay."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from contextlib import suppress

import pytest

from stream.topics import BASELINES, EVENTS
from tests.site import DEADLINE, ROOT, Worker, fleet, python

STALL = "3"

pytestmark = pytest.mark.usefixtures("compiled")

# Runs in the worker's process: SIGKILL at the n-th time that it comes to a step of the commit protocol, or has done it.
KILL = """
import functools, os, signal
from aiokafka import AIOKafkaProducer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
def deadly(owner, name, times, after):
    done, left = getattr(owner, name), [times]
    @functools.wraps(done)
    async def step(*arguments, **named):
        left[0] -= 1
        if not left[0] and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        out = await done(*arguments, **named)
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return out
    setattr(owner, name, step)
"""
# The first transaction of a worker fences off the one before it.
STEPS = {
    "before the transaction": "deadly(AIOKafkaProducer, 'begin_transaction', 2, False)",
    "with a part of it sent": "deadly(AIOKafkaProducer, 'send', 7, True)",
    "with all of it sent": "deadly(AIOKafkaProducer, 'commit_transaction', 2, False)",
    "after its commit and before the acknowledgement": "deadly(AIOKafkaProducer, 'commit_transaction', 3, True)",
    "after the acknowledgement and before the offset's commit": "deadly(AIOKafkaConsumerThread, '_commit', 1, False)",
    "after the offset's commit": "deadly(AIOKafkaConsumerThread, '_commit', 1, True)",
}


def said(worker: Worker, event: str) -> list[dict[str, object]]:
    """What it logged of one kind."""
    lines = [json.loads(line) for line in worker.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if event in line["event"]]


@pytest.mark.kafka
def test_killed_at_any_step_of_the_commit_protocol_it_loses_nothing_and_says_nothing_twice(site):
    """One life for each step; each begins with what the one before has left."""
    records = fleet(11, agents=12, days=8)
    bounds = [len(records) * n // (len(STEPS) + 1) for n in range(len(STEPS) + 2)]
    for n, (step, injected) in enumerate(STEPS.items()):
        middle = (bounds[n] + bounds[n + 1]) // 2
        site.produce(records[bounds[n] : middle])
        with site.worker(injected=KILL + injected) as worker:
            deadline = time.monotonic() + DEADLINE
            while worker.process.poll() is None and worker.get("/readyz")[0] != 200:  # it may be at that step by then
                with suppress(subprocess.TimeoutExpired):
                    worker.process.wait(0.05)
                assert time.monotonic() < deadline, worker.said()
            site.produce(records[middle : bounds[n + 1]])
            assert worker.process.wait(DEADLINE) == -signal.SIGKILL, f"{step}: {worker.said()}"
    site.produce(records[bounds[-2] :])
    with site.worker() as worker:
        worker.until(lambda: site.committed() == {0: len(records)})
        assert worker.stop() == 0
    expected = site.same_as_replay()
    assert len(expected) > 20


# Each takes its worker over before it begins, and stops one thing in it for good.
STALLS = {
    "scoring": (
        "import threading\nfrom stream.partition import Partition\nPartition._learn = lambda *_: threading.Event().wait()",
        r"partition 0 has [\d,]+ events? not scored, and scored none for \d+ s",
    ),
    "fetching": (
        (
            "import asyncio\nfrom faust.transport.drivers.aiokafka import AIOKafkaConsumerThread as Thread\n"
            "async def never(self, consumer, active_partitions, timeout, max_records):\n    await asyncio.Event().wait()\n"
            "Thread._fetch_records = never"
        ),
        r"partition 0 has [\d,]+ events? not scored, and scored none for \d+ s",
    ),
    "delivery": (
        (
            "import asyncio\nfrom aiokafka import AIOKafkaProducer\nlives = iter([AIOKafkaProducer.commit_transaction])\n"
            "async def never(self):\n    await next(lives, lambda _: asyncio.Event().wait())(self)\n"
            "AIOKafkaProducer.commit_transaction = never"
        ),
        r"what partition 0 has scored was not delivered for \d+ s",
    ),
    "restoring": (
        (
            "import asyncio\nfrom aiokafka import AIOKafkaConsumer\n"
            "async def never(*_, **__):\n    await asyncio.Event().wait()\nAIOKafkaConsumer.getmany = never"
        ),
        r"of the baselines of partition 0 nothing more was read after 0 records, for \d+ s",
    ),
    "the loop": (
        "import time\nfrom stream.partition import Partition\nPartition.flush = lambda *_: time.sleep(1000)",
        r"the event loop has not come round for \d+ s",
    ),
    "the consumer's thread": (
        (
            "import threading\nfrom stream.desk import Desk\nopened = Desk._open\n"
            "async def stop(desk, number):\n    loop = desk.app.consumer._thread.thread_loop\n"
            "    loop.call_soon_threadsafe(loop.stop)\n    return await opened(desk, number)\nDesk._open = stop"
        ),
        r"the thread of the consumer has been gone for \d+ s|Faust gave up",
    ),
}


@pytest.mark.kafka
@pytest.mark.parametrize("what", STALLS)
def test_a_stall_ends_the_worker_with_the_reason_and_where_everything_stood(site, what):
    injected, reason = STALLS[what]
    site.produce([(b"stranger/stored", b"so that there is something to restore")], BASELINES)
    site.produce(fleet(12, agents=12, days=5))
    with site.worker(injected=injected, STRAYLINE_STALL_SECONDS=STALL) as worker:
        assert worker.process.wait(DEADLINE) == 1
        last = json.loads(worker.log.read_text().splitlines()[-1])
        assert re.search(reason, last["event"]), last["event"]
        if "stalled" in last["event"]:
            assert any("watchdog.py" in place for place in last["threads"]["watchdog"])
        if what == "scoring":
            assert any("threading.py" in place and place.endswith(" wait") for place in last["threads"]["score_0"])


@pytest.mark.kafka
def test_a_group_that_does_not_say_from_where_on_to_read_is_told_of_and_ends_the_worker(site_of_two):
    """Its coordinator stands still at that moment. Faust asks once; without events nothing else would tell that none are read any more."""
    still = site_of_two.folder / "still"
    injected = (
        "import asyncio\nfrom pathlib import Path\nfrom stream.transport import Thread\nwhole = Thread.seek_to_committed\n"
        f"async def seek(self):\n    if Path({str(still)!r}).exists():\n        await asyncio.Event().wait()\n    return await whole(self)\n"
        "Thread.seek_to_committed = seek"
    )
    with site_of_two.worker("one", injected=injected, STRAYLINE_STALL_SECONDS=STALL) as one:
        one.until_ready()
        still.touch()
        with site_of_two.worker("two"):
            one.until(lambda: one.get("/readyz") == (503, "waiting for the group to say from where on to read\n"))
            assert one.process.wait(DEADLINE) == 1
    (last,) = said(one, "stalled")
    assert re.search(r"the group has not said from where on to read its partitions for \d+ s", str(last["event"]))


@pytest.mark.kafka
def test_a_worker_that_cannot_drain_when_it_is_told_to_stop_ends_with_the_reason(site):
    """Its supervisor waits for it, and its partitions are nobody's meanwhile."""
    site.produce(fleet(12, agents=12, days=5))
    stuck = STALLS["scoring"][0].replace(
        "Partition._learn = lambda *_: ", "Partition._learn = lambda *_: print('stuck', flush=True) or "
    )
    with site.worker(
        injected=f"import stream.desk\nstream.desk.STOP_SECONDS = {STALL}\n{stuck}", STRAYLINE_STALL_SECONDS="300"
    ) as worker:
        worker.until(lambda: "stuck" in worker.log.read_text())
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(DEADLINE) == 1
    last = json.loads(worker.log.read_text().splitlines()[-1])
    assert re.search(r"could not deliver what was scored since it was told to stop .* for \d+ s", last["event"]), last


@pytest.mark.kafka
def test_a_worker_that_is_told_to_stop_while_it_starts_does(site):
    """It may be waiting for a broker that never answers."""
    never = (
        "import asyncio\nfrom stream.worker import App\n"
        "async def start(self):\n    print('at it', flush=True)\n    await asyncio.Event().wait()\nApp.start = start"
    )
    with site.worker(injected=never) as worker:
        worker.until(lambda: "at it" in worker.log.read_text())
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(DEADLINE) == 0
    assert "stopped while it was starting; nothing is lost" in worker.log.read_text()


@pytest.mark.kafka
def test_a_worker_that_is_paused_for_as_long_as_a_stall_and_goes_on_has_none(site):
    site.produce(fleet(12, agents=12, days=5))
    with site.worker(STRAYLINE_STALL_SECONDS=STALL) as worker:
        worker.until(lambda: site.committed() == {0: site.end(EVENTS)})
        worker.process.send_signal(signal.SIGSTOP)
        site.produce(fleet(17, agents=12, days=5))
        with suppress(subprocess.TimeoutExpired):  # a process that is stopped does not end
            worker.process.wait(2 * float(STALL))
        worker.process.send_signal(signal.SIGCONT)
        worker.until(lambda: site.committed() == {0: site.end(EVENTS)})
        assert worker.stop() == 0
    assert not said(worker, "stalled")
    site.same_as_replay()


@pytest.mark.kafka
def test_a_partition_that_stays_is_not_read_again(site_of_two):
    """A second worker joins and takes one of two: of the other's baselines only its own last record is looked at."""
    site = site_of_two
    records = fleet(13, agents=12, days=8)
    half = len(records) // 2
    site.produce(records[:half])
    with site.worker("one") as one:
        one.until(lambda: site.committed() == {n: site.end(EVENTS, n) for n in range(2)})
        stored = {n: len(site.read(BASELINES, n)) for n in range(2)}
        with site.worker("two") as two:
            two.until_ready()
            one.until_ready()
            (kept,) = said(one, "partition ready")[2:]
            (moved,) = said(two, "partition ready")
            assert (kept["baselines"], kept["records"]) == ("still here", 0)
            assert moved["baselines"] == "read again from the changelog: all that was committed, nothing is lost"
            assert moved["records"] >= stored[int(moved["partition"])]
            site.produce(records[half:])
            one.until(lambda: site.committed() == {n: site.end(EVENTS, n) for n in range(2)})
            assert one.stop() == two.stop() == 0
    site.told_each_other_everything_once()


@pytest.mark.kafka
def test_the_group_may_change_twice_in_a_row_and_while_baselines_are_read(site_of_two):
    """And a stand-by that has waited for longer than a consumer may be idle takes over from one that is killed."""
    site = site_of_two
    records = fleet(14, agents=12, days=8)
    third = len(records) // 3
    site.produce(records[:third])
    for n in range(120):  # some time's worth of reading
        site.produce([(b"stranger/%d" % n, bytes(900_000))], BASELINES)
    with site.worker("one") as one:
        one.until(lambda: "reading baselines" in one.get("/readyz")[1])
        with (
            site.worker("two") as two,
            site.worker("three", injected="import stream.worker as w\nw.POLL_SECONDS = 4") as three,
        ):
            three.until(lambda: bool(said(three, "partitions assigned")) and three.get("/readyz")[0] == 200)
            two.until_ready()
            one.until_ready()
            workers = {w.get("/readyz")[1]: w for w in (one, two, three)}
            assert set(workers) == {"partitions []\n", "partitions [0]\n", "partitions [1]\n"}
            site.produce(records[third : 2 * third])
            one.until(lambda: site.committed() == {n: site.end(EVENTS, n) for n in range(2)})
            workers["partitions [0]\n"].kill()
            idle = workers["partitions []\n"]
            idle.until(lambda: idle.get("/readyz")[1] != "partitions []\n" and idle.get("/readyz")[0] == 200)
            site.produce(records[2 * third :])
            idle.until(lambda: site.committed() == {n: site.end(EVENTS, n) for n in range(2)})
    site.told_each_other_everything_once()


@pytest.mark.kafka
def test_a_disk_that_is_full_and_a_clock_that_jumps_do_not_stop_it(site):
    """No line of the log can be written, nor any file; and the wall clock goes years ahead and back with every look at it."""
    site.produce(fleet(16, agents=12, days=5))
    with site.worker(
        injected="import itertools, resource, time\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "clock, jumps = time.time, itertools.cycle([0, 4e8, -4e8, 7200, -7200])\ntime.time = lambda: clock() + next(jumps)"
    ) as worker:
        worker.until(lambda: site.committed() == {0: site.end(EVENTS)})
        assert worker.stop() == 0
    assert worker.log.read_bytes() == b""
    expected = site.same_as_replay()
    assert expected


@pytest.mark.parametrize(
    "full", ["resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))", "os.environ.update(NUMBA_CACHE_DIR='/dev/null/x')"]
)
def test_models_compile_where_nothing_can_be_kept(full, tmp_path):
    """On a full disk, and where there is none to write to."""
    script = (
        f"import os, resource\n{full}\nfrom models.compiled import njit\n"
        "@njit\ndef twice(x):\n    return 2 * x\nassert twice(21) == 42"
    )
    file = tmp_path / "script.py"
    file.write_text(script)
    told = python(str(file), NUMBA_CACHE_DIR=str(tmp_path / "cache"), PYTHONPATH=str(ROOT))
    assert (told.returncode, told.stderr) == (0, "")
