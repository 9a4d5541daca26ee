"""What partitions give is cut into records that a broker takes, taken once whatever was killed, and bounded as their tables are."""

from __future__ import annotations

import random

import numpy as np
import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from models.contributions import Contributions
from models.merge import find_all
from stream.baselines import Position, Reader, Writer
from stream.codec import encode
from stream.cohorts import PAGES, RING, Cohorts, Missing
from stream.cohorts import Reader as GivenReader
from stream.engine import Engine
from stream.settings import load as settings
from stream.topics import BASELINES, COHORTS, EVENTS
from tests.site import Site, fleet
from tests.test_exchange import BUDGET, Part, close, found, shared
from tests.test_exchange import EVENTS as DAYS

pytestmark = pytest.mark.usefixtures("compiled")


def given_by(part: Part) -> GivenReader:
    reader = GivenReader()
    for record in part.log:
        reader.read(found(*record))
    return reader


def same(one: Contributions, other: Contributions) -> None:
    """Row for row."""
    for a, b in zip((one.facts, one.amounts, *one.bodies), (other.facts, other.amounts, *other.bodies), strict=True):
        keys = np.union1d(a.keys, b.keys)
        assert len(keys)
        np.testing.assert_allclose(a.of(keys), b.of(keys), 1e-3, 1e-2)


def small(most: int = 4000) -> Part:
    """A partition whose records are small."""
    part = Part(0)
    part.cohorts = Cohorts(part.engine, BUDGET, most=most)
    return part


def test_what_is_cut_is_taken_once_by_whoever_reads_part_of_it_and_is_killed():
    """A flush's increments are several records; a reader that dies between two of them goes on with the next."""
    whole, cut, one, other = Part(0), small(), Part(1), Part(1)
    ends = []
    for low in range(0, len(DAYS), len(DAYS) // 4 + 1):
        for part in (whole, cut):
            part.learn(DAYS[low : low + len(DAYS) // 4 + 1])
            part.give()
        one.take(whole)
        ends.append(len(cut.log))
    assert len(whole.log) == 4
    assert len(cut.log) > 40
    assert max(len(value) for _, value in cut.log) < 4500
    same(given_by(cut).given, given_by(whole).given)
    rng, stored, at = random.Random(3), [], 0
    writer = Writer(other.engine)
    while at < len(cut.log):
        end = next(end for end in ends if end > at)  # means of many take each flush as a step
        first, at = max(0, at - rng.randrange(4)), min(end, at + rng.randrange(1, 5))  # some already read come again
        read = [(0, n + 1, found(*record)) for n, record in enumerate(cut.log)]
        other.cohorts.take(read[first:at])
        stored += writer.flush(at, 0, other.cohorts.positions)
        other.cohorts.take(read[at : at + 2])  # of which nothing is stored: it is killed
        reader = Reader(Engine(settings({})))
        for record in stored:
            reader.read(record.key, record.value)
        other.engine, writer = reader.engine, reader.writer()
        other.cohorts = Cohorts(other.engine, BUDGET, 0, None, reader.positions)
    assert other.cohorts.positions[0].number == cut.cohorts.number
    close(shared(one.engine), shared(other.engine))


def test_pages_are_cut_too_and_a_compacted_log_of_them_gives_what_all_of_it_does():
    """Whatever a flush of many records has overwritten, its pages have been written after it; also when they were of more of them before."""
    part, whole, kept = small(1500), GivenReader(), {}
    flushes = 0
    while part.cohorts.number < RING + 500:
        events = DAYS[flushes * 200 % len(DAYS) :][:200]
        part.learn([e.replace(b'"event_id":"', b'"event_id":"%d-' % flushes) for e in events])
        part.log = []
        part.give()
        for key, value in part.log:
            whole.read(found(key, value))
            kept.pop(key, None)
            kept[key] = value
        if flushes == 100:
            part.cohorts._most = 3000  # another version's
        flushes += 1
    assert {found(key, value).pages for key, value in kept.items()} >= {PAGES, 2 * PAGES}
    compacted = GivenReader()
    for key, value in kept.items():
        compacted.read(found(key, value))
    assert compacted.number == whole.number == part.cohorts.number
    same(compacted.given, whole.given)


@pytest.mark.parametrize("again", [20, 10_000])
def test_of_a_copied_topic_what_comes_again_counts_once(again):
    """The last records, pages among them; or all of it."""
    part = small()
    for low in range(0, len(DAYS), 100):
        part.learn(DAYS[low : low + 100])
        part.give()
    assert any(key.startswith(b"p/") for key, _ in part.log[-20:])
    once = given_by(part)
    part.log += part.log[-again:]
    twice = given_by(part)
    assert twice.number == once.number
    same(twice.given, once.given)


@pytest.mark.parametrize("ahead", [7, 10**6])
def test_who_is_numbered_far_ahead_once_is_heard_from_then_on_as_before(ahead):
    """Whoever wrote that record: it is a gap, and so is that the partition's own go on from where they were."""
    a, b, never = Part(0), Part(1), Part(1)
    gaps = 0
    for n, low in enumerate(range(0, len(DAYS), 100)):
        a.learn(DAYS[low : low + 100])
        a.give()
        if n == 3:
            number, a.cohorts.number = a.cohorts.number, a.cohorts.number + ahead
            told = a.cohorts._exchange.export()
            assert not told.rows
            forged = b"c/1", a.cohorts._value(0, told, [])
            a.log.append(forged)
            a.cohorts.number = number
        read = b.cohorts.positions.get(0, Position()).offset
        try:
            b.cohorts.take((0, at, found(*record)) for at, record in enumerate(a.log[read:], read + 1))
        except Missing:
            gaps += 1
            reader = given_by(a)
            b.cohorts.restore({0: reader.given}, {0: Position(len(a.log), reader.number)})
    assert gaps == 2
    assert b.cohorts.positions[0].number == a.cohorts.number > 10
    a.log.remove(forged)
    never.take(a)
    facts, expected = shared(b.engine)["facts"], shared(never.engine)["facts"]
    assert facts.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(facts[key], value, 1e-2, 1e-2)


def test_what_a_partition_has_given_in_all_is_bounded_as_its_tables_are():
    """What gave way there is let go; of what is there nothing is, and nothing is given twice after a restart."""
    part = Part(0, Engine(settings({"STRAYLINE_STATE_MIB": "16"})))
    table = part.engine.state["facts"]
    own = part.cohorts._exchange.own
    call = {"agent_id": "a", "agent_type": "mailer", "action": "send", "tool": "mail", "time": "2026-03-02T10:00:00Z"}
    recipients = 0
    for n in range(24):
        whom = [{"id": f"{n}-{k}"} for k in range(20_000)]
        events = [encode(call | {"event_id": str(n), "recipients": whom})]
        part.engine.score(part.engine.decode(events, [0]))
        part.give()
        recipients += len(whom)
    assert table.tally[1] > 0  # rows gave way
    assert recipients > table.largest
    assert own.facts.used < 1.25 * table.largest + (1 << 16) + 50_000
    given = given_by(part).given
    at = find_all(table.head, given.facts.keys)
    keys = given.facts.keys[at >= 0]
    assert len(keys) > 100_000
    np.testing.assert_array_equal(own.facts.of(keys) > 0, given.facts.of(keys) > 0)
    reader = Reader(Engine(settings({"STRAYLINE_STATE_MIB": "16"})))
    for record in Writer(part.engine).flush(1, 0, part.cohorts.positions):
        reader.read(record.key, record.value)
    again = Cohorts(reader.engine, BUDGET, part.cohorts.number, given, reader.positions)
    assert again.give() == []


def limit(site: Site, topic: str, size: int) -> None:
    with KafkaAdminClient(bootstrap_servers=site.bootstrap) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(size)})])


def crowds() -> list[tuple[bytes, bytes]]:
    """Calls to 15,000 customers each."""
    call = {"agent_type": "mailer", "action": "send", "tool": "mail", "time": "2026-03-04T10:00:00Z"}
    out = []
    for n in range(32):
        whom = [{"id": f"customer{n}-{k}@mail{k % 300}.example"} for k in range(15_000)]
        name = f"mailer-{n % 4}"
        out.append((name.encode(), encode(call | {"event_id": f"crowd-{n}", "agent_id": name, "recipients": whom})))
    return out


@pytest.mark.kafka
def test_a_backlog_that_teaches_much_fits_the_topic_and_is_learned_once(site_of_two):
    """More in a flush than the topic takes in a record: a worker that could not deliver it would end, and come to the same again."""
    site = site_of_two
    limit(site, COHORTS, 5 << 18)
    records = fleet(12, agents=12, days=5, garbage=0.0)
    with site.worker("one", flush="5") as one, site.worker("two", flush="5"):
        # The first may be one flush of either; with the second each takes what the other gave then.
        for some in (records[:-200] + crowds(), records[-200:]):
            site.produce(some)
            one.until(lambda: site.committed() == {n: site.end(EVENTS, n) for n in range(2)})
    sizes = [len(r.value) for n in range(2) for r in site.read(COHORTS, n)]
    assert sum(sizes) > 4 << 20
    assert max(sizes) < 5 << 18
    site.told_each_other_everything_once()


@pytest.mark.kafka
def test_whatever_is_killed_what_is_cut_is_given_and_taken_once(site_of_two):
    """kill -9 of either of two workers, each flush of which gives many records."""
    site = site_of_two
    records = fleet(9, days=6, garbage=0.0)
    rng = random.Random(9)
    share = len(records) // 3
    cut = "import stream.cohorts\nstream.cohorts.MOST = 1500"
    for life in range(3):
        with site.worker("one", injected=cut) as one, site.worker("two", injected=cut) as two:
            both = (one, two)
            two.until(lambda: {w.get("/readyz")[1] for w in both} == {"partitions [0]\n", "partitions [1]\n"})  # noqa: B023
            site.produce(records[life * share : (life + 1) * share])
            moment = rng.randrange(share)
            both[life % 2].until(lambda: sum(w.metric("strayline_events_total") for w in both) > moment)  # noqa: B023
            both[life % 2].kill()
    with site.worker("one", injected=cut) as one, site.worker("two", injected=cut):
        one.until(lambda: site.committed() == {n: site.end(EVENTS, n) for n in range(2)})
    sizes = [len(r.value) for n in range(2) for r in site.read(COHORTS, n)]
    assert max(sizes) < 4000
    assert len(sizes) > 200
    site.told_each_other_everything_once()


@pytest.mark.kafka
def test_a_topic_that_does_not_take_a_record_is_named_with_the_command_that_mends_it(site):
    """The broker is up, and no other worker of that name is there: to look for those would not help."""
    limit(site, BASELINES, 2000)
    site.produce(fleet(12, agents=12, days=5, garbage=0.0))
    with site.worker("one") as one:
        assert one.process.wait(60) == 1
        said = one.said()
    assert "agent.access.baselines does not take a record of" in said
    assert "--entity-name agent.access.baselines --add-config max.message.bytes=4194304" in said
    assert "Is the broker up?" not in said
