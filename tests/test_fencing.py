"""Two workers that take the same for theirs: one ends, says why, and does no harm."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from contextlib import suppress

import pytest

from tests.site import (
    DEADLINE,
    Worker,
    fleet,
)

pytestmark = pytest.mark.usefixtures("compiled")


def until_one_ends(first: Worker, second: Worker) -> None:
    deadline = time.monotonic() + 2 * DEADLINE
    while first.process.poll() is None and second.process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            first.process.wait(0.1)
        assert time.monotonic() < deadline, first.said()


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
            if heir == "two":  # who had to wait until the group missed the other
                assert "this process stood still" in old.log.read_text()
            assert new.stop() == 0
    site.same_as_replay()


@pytest.mark.kafka
def test_two_workers_of_one_name_end_each_other_and_say_that_it_is_the_name(site):
    """Not that the broker may be down; and their alerts are those of one."""
    records = fleet(7)
    sent = 0
    with site.worker("one") as first, site.worker("one") as second:
        while first.process.poll() is None and second.process.poll() is None and sent < len(records):
            site.produce(records[sent : sent + 10])
            sent += 10
        until_one_ends(first, second)
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
        until_one_ends(first, second)
    assert 1 in (first.process.poll(), second.process.poll())
    lines = [
        json.loads(line) for line in first.log.read_text().splitlines() if line.startswith("{")
    ]  # both write to it
    told = [line for line in lines if line["level"] == "error"]
    # By the fifth time it was thrown out, or because the group would no longer have it: whichever comes first, the name is to be looked at.
    assert "see that no two workers have the same STRAYLINE_INSTANCE" in told[0]["event"]
