"""Several partitions and workers: what moves between them is neither lost nor said twice, and all know of cohorts what all have given."""

from __future__ import annotations

import asyncio
import json
import random
import re
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from stream.codec import encode
from stream.partition import Partition, threads
from stream.placement import partition_of
from stream.topics import ALERTS, BASELINES, COHORTS, EVENTS, ensure_topics
from tests.site import (
    fleet,
    free_port,
    polled,
    python,
    remove_topics,
)

pytestmark = pytest.mark.usefixtures("compiled")


def test_a_batch_of_a_partition_that_was_taken_away_does_not_open_it():
    """That would take it from the worker that has it now."""
    script = (
        "import asyncio\n"
        "from types import SimpleNamespace\n"
        "from stream.settings import load\n"
        "from stream.desk import Desk\n"
        "from stream.topics import Known\n"
        "message = SimpleNamespace(partition=3, value=[])\n"
        "app = SimpleNamespace(consumer=SimpleNamespace(is_current=lambda message: False))\n"
        "async def main():\n"
        "    await Desk(app, load(), Known(4)).take(SimpleNamespace(message=message))\n"
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
    alerts = [json.loads(alert) for told in site.alerts().values() for alert in told]
    of_peers = [e["baseline"] for a in alerts for e in a["evidence"] if "peers" in e["baseline"]]
    assert of_peers
    assert all(b["peers_heard_of"] for b in of_peers)  # by one partition: the other may know better
    heard = ", as far as its partition has heard"
    first = re.compile(rf"nor have peers(, unless in strange events)?({heard})?|{heard}")
    qualified = [[hit.group() for hit in first.finditer(a["reason"])] for a in alerts]
    assert all("as far as" in said[0] and "as far as" not in "".join(said[1:]) for said in qualified if said)


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
        told = [json.loads(line) for line in one.log.read_text().splitlines() if "putting together anew" in line]
        # Once more where the first increments of one race the reading of the other: that costs a second and nothing else.
        assert {line["partition"] for line in told} == {0, 1}, told
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
