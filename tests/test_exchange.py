"""What partitions tell each other: it adds up, in any order, and once each; and two partitions then know what one would."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from models import schema
from models.budget import BURST_HALF_LIFE, LOWEST
from models.contributions import Contributions
from models.facts import of_value, place
from models.increments import load
from models.merge import find_all
from models.newcomer import is_late
from models.parties import FAR, agent_entity
from models.signals import CLOSENESS
from models.state import SHARED
from models.table import find, mix
from stream.baselines import Reader, Writer
from stream.codec import encode
from stream.cohorts import EVERY, PAGES, RING, Cohorts, Given, Missing, read
from stream.cohorts import Reader as GivenReader
from stream.engine import Engine
from stream.sealed import Corrupt
from stream.settings import load as settings
from stream.simulate import simulate
from stream.siphash import name_hash
from tests.shared import few

BUDGET = 5.0
EVENTS = [encode(e) for e in simulate(11, 16, 8).events]
AGENTS = sorted({json.loads(e)["agent_id"] for e in EVENTS})


class Part:
    """One partition of some: its engine and its cohorts."""

    def __init__(self, number: int, engine: Engine | None = None, cohorts: Cohorts | None = None) -> None:
        self.number = number
        self.engine = engine or Engine(settings({}))
        self.cohorts = cohorts or Cohorts(self.engine, BUDGET)
        self.log: list[tuple[bytes, bytes]] = []

    def learn(self, events: Sequence[bytes]) -> None:
        mine = [e for e in events if AGENTS.index(json.loads(e)["agent_id"]) % 2 == self.number]
        if mine:
            self.engine.score(self.engine.decode(mine, range(len(mine))))

    def give(self) -> None:
        self.log += [(r.key, r.value) for r in self.cohorts.give()]

    def take(self, *others: Part) -> None:
        self.cohorts.take((o.number, n + 1, found(*record)) for o in others for n, record in enumerate(o.log))


def found(key: bytes, value: bytes) -> Given:
    given_ = read(key, value)
    assert given_ is not None
    return given_


def shared(engine: Engine) -> dict[str, dict[int, np.ndarray]]:
    """What of a state is not one agent's: facts, amounts, cohorts and the fleet, faded to one time."""
    state = engine.state
    fade = 2.0 ** (float(state.fleet["begin"]) / schema.HALF_LIFE % 1.0)
    rows = state["shared"].head
    out: dict[str, dict[int, np.ndarray]] = {"facts": {}, "amounts": {}}
    for row in rows[(rows["key"] != 0) & (rows["of"] < 2)]:
        table, names = (("facts", "wd"), ("amounts", "nmva"))[row["of"]]
        at = find(state[table].head, row["key"])
        if at >= 0:
            values = np.array([float(state[table].head[name][at]) for name in names])
            out[table][int(row["key"])] = values * (fade if table == "facts" else 1.0)
    heads = state["cohorts"].head
    used = np.flatnonzero(heads["key"])
    out["cohorts"] = {int(heads["key"][i]): state["cohorts"].body[i].astype(float) for i in used}
    out["fleet"] = {1: state["fleet"].body[0].copy()}
    return out


def close(one: dict[str, dict[int, np.ndarray]], other: dict[str, dict[int, np.ndarray]], rtol: float = 1e-3) -> None:
    for table, rows in one.items():
        assert rows.keys() == other[table].keys(), table
        for key, row in rows.items():
            np.testing.assert_allclose(row, other[table][key], rtol, 2e-3, err_msg=f"{table} {key}")


def two(bounds: Sequence[int], events: Sequence[bytes] = EVENTS) -> tuple[Part, Part]:
    a, b = Part(0), Part(1)
    for low, high in zip([0, *bounds], [*bounds, len(events)], strict=True):
        for part in (a, b):
            part.learn(events[low:high])
            part.give()
        a.take(b)
        b.take(a)
    return a, b


@few
@given(some.lists(some.integers(0, len(EVENTS)), max_size=6).map(sorted))
def test_partitions_that_have_told_each_other_know_the_same(bounds):
    """Wherever it was cut into flushes; and it is what both have given, summed."""
    a, b = two(bounds)
    begin = min(float(a.engine.state.fleet["begin"]), float(b.engine.state.fleet["begin"]))
    total = Contributions()
    total.begin = begin
    for part in (a, b):
        reader = GivenReader()
        for record in part.log:
            reader.read(found(*record))
        total.add(reader.given.page(0, 1))
    for part in (a, b):
        state = part.engine.state
        factor = 2.0 ** ((float(state.fleet["begin"]) - begin) / schema.HALF_LIFE)
        at = find_all(state["facts"].head, total.facts.keys)
        assert (at >= 0).mean() > 0.999  # a row may have given way, seldom
        told, at = total.facts.of(total.facts.keys)[at >= 0, 0], at[at >= 0]
        np.testing.assert_allclose(state["facts"].head["w"][at] * factor, told, 1e-3, 1e-3)
    assert a.engine.threshold == b.engine.threshold


def test_a_busy_day_is_that_of_all_partitions():
    """The episodes of about a day, by which the threshold rises, are counted in each as they were in both."""
    a, b = two(range(100, len(EVENTS), 100))
    single = Engine(settings({}))
    single.score(single.decode(EVENTS, range(len(EVENTS))))
    now = max(float(engine.state.fleet["clock"]) for engine in (a.engine, b.engine, single))
    of_a, of_b, of_one = (lately(engine, now) for engine in (a.engine, b.engine, single))
    assert of_one.max() > 1.0
    np.testing.assert_allclose(of_a, of_b, 1e-2, 1e-2)  # whose clock is behind counts what is to come as of now
    assert abs(of_a[LOWEST] - of_one[LOWEST]) < 0.2 * of_one[LOWEST]


def lately(engine: Engine, now: float) -> np.ndarray:
    """Episodes of about a day that have reached each step of the budget."""
    fade = 2.0 ** (-(now - float(engine.state.fleet["burst_at"])) / BURST_HALF_LIFE)
    return engine.state["fleet"].body[0, schema.ALL_BURST :] * fade


def test_after_years_what_is_given_is_as_exact_as_at_first():
    """The budget fades so fast that its weights, counted from the first event on, would be no numbers."""
    years = 4
    later = [e.replace(b'"time":"2026', b'"time":"%d' % (2026 + years)) for e in EVENTS]
    later = [e.replace(b'"event_id":"', b'"event_id":"later-') for e in later]
    assert later[0][:60] != EVENTS[0][:60]
    a, b = two(range(0, 2 * len(EVENTS), 200), [*EVENTS[:400], *later])
    new = Part(1)
    new.take(a)
    for part in (a, b, new):
        fleet, body = part.engine.state.fleet, part.engine.state["fleet"].body[0]
        one = 2.0 ** ((float(a.engine.state.fleet["clock"]) - float(fleet["begin"])) / schema.HALF_LIFE)
        part.said = body[schema.ALL_BUDGET : schema.ALL_BURST] / one**schema.BUDGET_POWER
        part.watched = float(fleet["watched"]) / one**schema.BUDGET_POWER
    assert a.said.max() > 1.0
    np.testing.assert_allclose(a.said, b.said, 1e-3, 1e-3)
    np.testing.assert_allclose(a.watched, b.watched, 1e-3)
    assert 0 < new.said.max() < a.said.max()
    np.testing.assert_allclose(new.watched, a.watched, 0.05)  # what of it only the other had seen it was not told


@few
@given(some.integers(1, len(EVENTS) - 1), some.randoms(use_true_random=False))
def test_the_same_increments_taken_again_change_nothing_and_their_order_does_not_matter(cut, rng):
    """By their numbers; and of three partitions, either of the others may come first."""
    a, b = Part(0), Part(1)
    c, d = Part(2), Part(2)
    for low, high in ((0, cut), (cut, len(EVENTS))):
        for part in (a, b):
            part.learn(EVENTS[low:high])
            part.give()
    c.take(a, b)
    d.take(b, a)
    close(shared(c.engine), shared(d.engine))
    before = shared(c.engine)
    for _ in range(3):
        c.take(*rng.sample([a, b], 2))
    close(before, shared(c.engine), rtol=0)


def test_two_partitions_score_as_one_process_does():
    """All but a few hundredths of a bit, where they tell each other after each event's worth of a few."""
    single = Engine(settings({}))
    expected = single.score(single.decode(EVENTS, range(len(EVENTS)))).score
    a, b = Part(0), Part(1)
    alone = [Part(0), Part(1)]
    got, split = np.zeros(len(EVENTS)), np.zeros(len(EVENTS))
    for low in range(0, len(EVENTS), 16):
        events = EVENTS[low : low + 16]
        of = np.array([AGENTS.index(json.loads(e)["agent_id"]) % 2 for e in events])
        for parts, out in (((a, b), got), (alone, split)):
            for part in parts:
                mine = [e for e, n in zip(events, of, strict=True) if n == part.number]
                if mine:
                    done = part.engine.score(part.engine.decode(mine, range(len(mine))))
                    out[low : low + 16][of == part.number] = done.score
        a.give()
        b.give()
        a.take(b)
        b.take(a)
        a.log, b.log = [], []
    off, off_alone = np.abs(got - expected).mean(), np.abs(split - expected).mean()
    assert off < 0.15
    assert off < off_alone / 3


def test_after_a_restart_nothing_is_given_twice():
    """The baselines say which rows are shared, so what they hold is known to have been given."""
    a, _ = two([len(EVENTS) // 2])
    reader = Reader(Engine(settings({})))
    for record in Writer(a.engine).flush(1, 0, a.cohorts.positions):
        reader.read(record.key, record.value)
    assert reader.positions == a.cohorts.positions
    again = Cohorts(reader.engine, BUDGET, a.cohorts.number, None, reader.positions)
    assert again.give() == []


def test_increments_that_are_gone_are_missed_and_what_all_have_given_makes_up_for_them():
    """As for one that was away for a week, whose neighbour's log was compacted; and for one that lost its baselines."""
    a, b = two(range(200, len(EVENTS), len(EVENTS) // 40))
    late = Part(0)
    with pytest.raises(Missing, match="increments 1 to 4 of partition 1 are gone"):
        late.cohorts.take((1, n + 1, found(*record)) for n, record in list(enumerate(b.log))[4:])
    given_ = {}
    for part in (a, b):
        reader = GivenReader()
        for record in part.log:
            reader.read(found(*record))
        given_[part.number] = reader
    late.cohorts = Cohorts(late.engine, BUDGET, given_[0].number, given_[0].given)
    late.cohorts.restore({1: given_[1].given}, {})
    facts = {k: v for k, v in shared(late.engine)["facts"].items() if v[0] > 0.01}
    expected = shared(a.engine)["facts"]
    scale = np.median([facts[k][0] / expected[k][0] for k in facts])  # another landmark
    for key, value in facts.items():
        np.testing.assert_allclose(value, expected[key] * scale, rtol=1e-2, atol=1e-2)


def test_reading_a_compacted_log_gives_what_reading_all_of_it_does():
    """Whatever has been overwritten, its pages have been written since."""
    a = Part(0)
    whole, kept = GivenReader(), {}
    step = max(1, len(EVENTS) // (3 * EVERY * PAGES))
    number = 0
    while a.cohorts.number < RING + 300:  # the same days again and again: the clock stands, the counts grow
        low = number * step % len(EVENTS)
        events = [e.replace(b'"event_id":"', b'"event_id":"%d-' % number) for e in EVENTS[low : low + step]]
        a.learn(events)
        a.log = []
        a.give()
        for n, record in enumerate(a.log):
            whole.read(found(*record))
            kept.pop(record[0], None)
            kept[record[0]] = record
            del n
        number += 1
    compacted = GivenReader()
    for record in kept.values():
        compacted.read(found(*record))
    assert compacted.number == whole.number
    used = whole.given.facts.key[whole.given.facts.key != 0]
    at, other = whole.given.facts.slots(used), compacted.given.facts.slots(used)
    np.testing.assert_allclose(whole.given.facts.x[at], compacted.given.facts.x[other], rtol=1e-4, atol=1e-4)
    for one, two_ in zip(whole.given.bodies, compacted.given.bodies, strict=True):
        used = one.key[one.key != 0]
        np.testing.assert_allclose(one.of(used), two_.of(used), rtol=1e-3, atol=1e-2)


def test_increments_added_at_once_are_those_added_one_by_one():
    """Whatever their landmarks: some of a year later, whose weights are counted from another time."""
    a, b = two(range(0, len(EVENTS), len(EVENTS) // 5))
    given_ = [found(*record).x for part in (a, b) for record in part.log]
    given_ = [x._replace(begin=x.begin + n % 3 * 3 * schema.HALF_LIFE) for n, x in enumerate(given_)]
    assert len(given_) > 8
    at_once, one_by_one = Contributions(), Contributions()
    at_once.add(*given_)
    for x in given_:
        one_by_one.add(x)
    if at_once.begin != one_by_one.begin:
        one_by_one.rescale(at_once.begin)
    np.testing.assert_allclose(at_once.watched, one_by_one.watched, 1e-6)
    for one, other in zip((at_once.facts, at_once.amounts, *at_once.bodies), (one_by_one.facts, one_by_one.amounts, *one_by_one.bodies), strict=True):  # fmt: skip
        assert set(one.keys.tolist()) == set(other.keys.tolist())
        assert np.abs(one.x).max() > 1.0
        np.testing.assert_allclose(one.of(one.keys), other.of(one.keys), 1e-4, 1e-4)


def test_who_is_new_to_the_fleet_is_told_by_when_the_fleet_began_and_not_the_partition():
    """A partition may have scored its first agent, who came in the second week, before it hears that there are others."""
    a, b = Part(0), Part(1)
    first, later = ({"event_id": str(n), "time": f"2026-03-{day}T10:00:00Z", "agent_id": f"agent-{n}", "action": "read", "tool": "t"} for n, day in ((1, "02"), (2, "12")))  # fmt: skip
    for part, event in ((a, first), (b, later)):
        part.engine.score(part.engine.decode([encode(event)], [0]))
        part.give()
    agents = b.engine.state["agents"]
    at = find(agents.head, np.uint64(name_hash("agent-2")))
    assert not is_late(agents.head, at, b.engine.state["fleet"].head)
    a.take(b)
    b.take(a)
    assert is_late(agents.head, at, b.engine.state["fleet"].head)
    assert a.engine.state.fleet["since"] == b.engine.state.fleet["since"]


def test_a_relay_is_seen_from_the_other_side():
    """An agent that wrote to one of another partition has a contact there, and has written to it."""
    a, b = Part(0), Part(1)
    time = "2026-03-02T10:00:00Z"
    to = {"id": "agent-b", "type": "agent"}
    send = {"event_id": "1", "time": time, "agent_id": "agent-a", "action": "send", "tool": "t", "recipients": [to]}
    own = {"event_id": "2", "time": time, "agent_id": "agent-b", "action": "read", "tool": "t"}
    for part, event in ((b, own), (a, send)):
        part.engine.score(part.engine.decode([encode(event)], [0]))
        part.give()
        a.take(b)
        b.take(a)
    answer = {"event_id": "3", "time": time, "agent_id": "agent-b", "action": "send", "tool": "t"}
    ran = b.engine.run(b.engine.decode([encode(answer | {"recipients": [{"id": "agent-a"}]})], [0]))
    known = b.engine.state
    contacts = known["contacts"]
    at = find(contacts.head, np.uint64(name_hash("agent-b")))
    assert at >= 0
    assert np.uint64(name_hash("agent-a")) & np.uint64(0xFFFFFFFF) in contacts.body[at]
    assert ran.out is not None
    steps = np.uint64(
        mix(np.uint64(place(CLOSENESS, np.uint64(0))), np.uint64(agent_entity(np.uint64(name_hash("agent-b")))))
    )
    reached = [find(known["facts"].head, np.uint64(of_value(steps, np.uint64(k)))) >= 0 for k in range(1, FAR + 1)]
    assert reached == [True] + [False] * (FAR - 1)  # 1: it has written to this agent, and lately


def test_what_cannot_be_read_is_refused():
    """Whichever byte was changed or cut off; with nothing taken."""
    a = Part(0)
    a.learn(EVENTS[:200])
    a.give()
    (key, value), *_ = a.log
    for at in (0, 5, 9, 20, len(value) // 2, len(value) - 1):
        with pytest.raises(Corrupt):
            read(key, value[:at] + bytes([value[at] ^ 255]) + value[at + 1 :])
    with pytest.raises(Corrupt):
        read(key, value[:10])
    assert read(b"c/1", None) is None
    with pytest.raises(ValueError, match=r"shorter than a header"):
        load(b"")


def test_alone_there_is_nothing_to_give_and_the_marks_do_not_matter():
    """One partition: no exchange, and no row of it."""
    engine = Engine(settings({}))
    engine.score(engine.decode(EVENTS, range(len(EVENTS))))
    assert engine.state["shared"].tally[0] == 0
    assert (engine.state["facts"].dirty & SHARED).any()
    Writer(engine).flush(1)
    assert not engine.state["facts"].dirty.any()


def test_a_change_that_is_told_again_after_days_is_told_in_no_other_partition_once_more():
    """Its time goes with it. One that is told for the first time by two at once is left as each has it."""
    one, other = Part(0), Part(1)
    told = [part.engine.episodes.rollouts for part in (one, other)]
    for day in (0.0, 6.0, 12.0):
        assert not told[1].was_told("copilot", "rise", day * 86400)
        told[0].tell_of("copilot", "rise", day * 86400)
        one.give()
        other.take(one)
        assert told[1].was_told("copilot", "rise", day * 86400)
        other.give()
        one.take(other)
        assert told[0].was_told("copilot", "rise", day * 86400)
    assert [next(iter(each.began.values())).said for each in told] == [True, True]
    assert not other.log
    told[1].tell_of("copilot", "slump", 1000.0)
    told[0].tell_of("copilot", "slump", 2000.0)
    one.give()
    other.take(one)
    other.give()
    assert told[1].began["copilot", "slump", ""].time == 1000.0
    assert not other.log
