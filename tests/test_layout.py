"""Baselines outlive a change of the layout: what another program stored is read by names into this one's state."""

from __future__ import annotations

import copy
import gzip
import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import layout, profile
from models.layout import Stored, describe
from models.schema import LAYOUTS
from models.signals import FACTS, NUMBER_OF_FACT, NUMBER_OF_TAIL, TAILS
from models.state import State
from stream import baselines
from stream.baselines import Reader, Record, Writer
from stream.engine import Engine
from stream.sealed import Corrupt
from stream.settings import load
from stream.siphash import name_hash
from tests.shared import few, knowledge

DATA = Path(__file__).parent / "data"
SETTINGS = load({})
SMALLER_SINCE_3 = {("owners", "session"), ("uses", "days")}
NEW_SINCE_3 = {("cohorts", "since"), ("sessions", "peak"), ("fleet", "silence")} | {
    ("agents", name) for name in ("hour", "hours", "odd", "touches", "receives")
}


def lines(name: str) -> list[bytes]:
    return gzip.decompress((DATA / name).read_bytes()).splitlines()


@pytest.fixture(scope="module")
def previous() -> list[Record]:
    """What the program of version 2 left on a compacted topic after 373 events: pages, and a ring that came round."""
    return [Record(*pair) for pair in msgspec.msgpack.decode((DATA / "previous.baselines").read_bytes())]


@pytest.fixture(scope="module")
def events() -> list[bytes]:
    """Those 373, and what their agents did after."""
    return lines("previous.events.jsonl.gz")


def feed(engine: Engine, values: list[bytes]) -> Any:
    return engine.score(engine.decode(values, range(len(values))))


def read(records: list[Record]) -> Reader:
    reader = Reader(Engine(SETTINGS))
    for record in records:
        reader.read(*record)
    return reader


def compacted(topic: list[Record], more: list[Record]) -> list[Record]:
    kept = {r.key: r for r in topic}
    for record in more:
        kept.pop(record.key, None)
        kept[record.key] = record
    return list(kept.values())


def test_what_the_previous_version_stored_is_read_and_alerts_go_on(previous, events):
    """As if this program had learned it all itself, but for what the old one weighed otherwise."""
    reader = read(previous)
    reader.writer()
    assert reader.migrated
    assert reader.left_out == {}
    assert reader.next_offset == 373
    learned = Engine(SETTINGS)
    feed(learned, events[:373])
    for agent in sorted({msgspec.json.decode(line)["agent_id"] for line in events[:373]}):
        its, mine = (profile.baseline(x.state, agent, name_hash(agent)) for x in (reader.engine, learned))
        assert its["amounts"] == mine["amounts"]
        for fact, values in mine["usual"].items():
            counts = {v["value"]: v["count"] for v in its["usual"][fact]}
            # What was hardly used is as good as not: how much doubt it was learned with is another matter now.
            assert {v["value"]: counts.get(v["value"]) for v in values if v["count"] >= 0.5} == {
                v["value"]: pytest.approx(v["count"], rel=0.15, abs=0.5) for v in values if v["count"] >= 0.5
            }, fact
    its, mine = feed(reader.engine, events[373:]), feed(learned, events[373:])
    # Of a fresh engine half of them. What a step or a branch usually costs with a tool, that version did not store, nor how strange a session was.
    assert (np.abs(its.score - mine.score) < 0.5).mean() >= 0.94
    # The budget counts something else now, so it begins anew, and with it the threshold: what is serious is said all the same.
    serious = {"high", "critical"}
    said = {a.agent_id for a in its.alerts}
    for scored in (its, mine):
        assert {a.agent_id for a in scored.alerts if a.severity in serious} <= said


def test_what_version_3_stored_is_read_to_the_last_bit(events):
    """Of the layout before this, in pieces that are not written any more; the first flush writes it anew."""
    stored = [Record(*pair) for pair in msgspec.msgpack.decode((DATA / "version3.baselines").read_bytes())]
    assert {value[4] for _, value in stored} == {3}
    reader = read(stored)
    writer = reader.writer()
    assert (reader.migrated, reader.left_out, reader.next_offset) == (True, {}, 373)
    digest = hashlib.sha256()
    for t in reader.engine.state.tables:
        used = np.flatnonzero(t.head["key"])[np.argsort(t.head["key"][t.head["key"] != 0])]  # slots were given anew
        for name in t.head.dtype.names or ():
            if (
                t.layout.name,
                name,
            ) not in NEW_SINCE_3 | SMALLER_SINCE_3:  # of an amount's time, the nearest that fits four bytes
                digest.update(f"{t.layout.name} {name}".encode() + t.head[name][used].tobytes())
        digest.update(t.body[used].tobytes() if t.layout.body[1] else b"")
    assert digest.hexdigest() == "d0e222a51588490f1b2957fa0e84258817f5e3f240d247566564b878a21d10c5"
    topic = compacted(stored, writer.flush(373))
    for low in range(373, 600, 25):
        feed(reader.engine, events[low : low + 25])
        topic = compacted(topic, writer.flush(low + 25))
    assert {value[4] for _, value in topic if value} == {4}
    again = read(topic)
    assert not again.migrated
    assert knowledge(again.engine) == knowledge(reader.engine)


def test_after_an_upgrade_the_topic_holds_this_layout_alone(previous, events):
    """Its first flush writes everything and empties what is left of the old; the next worker reads no more of that."""
    reader = read(previous)
    writer = reader.writer()
    feed(reader.engine, events[373:500])
    topic = compacted(previous, writer.flush(500))
    again = read(topic)
    again_writer = again.writer()
    assert not again.migrated
    assert knowledge(again.engine) == knowledge(reader.engine)
    assert {value[4] for _, value in topic if value} == {4}
    feed(again.engine, events[500:600])
    last = read(compacted(topic, again_writer.flush(600)))
    last.writer()
    assert knowledge(last.engine) == knowledge(again.engine)
    assert not any(r.key.startswith(b"p/") and len(r.value) > 1 << 16 for r in again_writer.flush(601))


def test_where_compaction_has_not_run_the_same_is_read(previous, events):
    """Old records stand before the new ones for a while."""
    reader = read(previous)
    writer = reader.writer()
    feed(reader.engine, events[373:500])
    topic = previous + writer.flush(500)
    both = read(topic)
    topic = compacted(topic, both.writer().flush(500))
    for x in (both, read(topic)):
        assert knowledge(x.engine) == knowledge(reader.engine)


@pytest.fixture(scope="module")
def present(events) -> tuple[Engine, list[Record]]:
    engine = Engine(SETTINGS)
    writer, topic = Writer(engine), []
    for low in range(0, 373, 125):
        feed(engine, events[low : min(low + 125, 373)])
        topic = compacted(topic, writer.flush(min(low + 125, 373)))
    return engine, topic


def as_stored(description: dict[str, Any], pieces: list[bytes]) -> State:
    stored, state = Stored(description), State(64)
    for one in pieces:
        stored.apply(one)
    stored.into(state)
    return state


def test_columns_and_signals_may_come_and_go(present, events):
    """A program whose layout had a column, a table and a signal more, and lacked others: what both have is carried over."""
    engine = Engine(SETTINGS)
    feed(engine, events[:373])
    other = copy.deepcopy(describe())
    tables = {t["name"]: t for t in other["tables"]}
    # Written by a program that called `seen` something else, and had no `outcome` and the facts in another order.
    seen = next(f for f in tables["agents"]["fields"] if f[0] == "seen")
    seen[0] = "seen_before"
    usual = tables["agents"]["sections"][0]
    usual[1] = ["extra" if x == "outcome" else x for x in usual[1]]
    state = as_stored(other, engine.state.delta())
    mine, its = engine.state["agents"], state["agents"]
    order = np.argsort(mine.head["key"][: mine.tally[0]]), np.argsort(its.head["key"][: its.tally[0]])
    assert its.tally[0] == mine.tally[0] > 0
    outcome = 2 * [s.name for s in FACTS].index("outcome")
    for name in mine.head.dtype.names:
        a, b = mine.head[name][order[0]], its.head[name][order[1]]
        assert (b == 0).all() if name == "seen" else (a == b).all(), name
    a, b = mine.body[order[0]], its.body[order[1]]
    assert (b[:, outcome : outcome + 2] == 0).all()
    assert (np.delete(a, [outcome, outcome + 1], axis=1) == np.delete(b, [outcome, outcome + 1], axis=1)).all()
    assert np.sort(state["facts"].head["key"]).tobytes() == np.sort(engine.state["facts"].head["key"]).tobytes()


def test_a_smaller_memory_keeps_what_is_used_most(events):
    """Not the first that come."""
    engine = Engine(load({"STRAYLINE_STATE_MIB": "64"}))
    feed(engine, events[:373])
    stored, state = Stored(describe()), State(64)
    for one in engine.state.delta():
        stored.apply(one)
    t = state["owners"]
    t.largest = 50
    assert stored.into(state)["owners"] == engine.state["owners"].tally[0] - 50
    assert t.head["w"][:50].min() >= np.sort(engine.state["owners"].head["w"])[-50]


def test_numbers_in_keys_go_by_name():
    """Whoever adds, removes or moves a signal leaves the keys of the others as they are stored."""
    stored = layout.VERSION_2[10369755598035101308]["numbers"]
    for kind, signals, numbers in (("facts", FACTS, NUMBER_OF_FACT), ("tails", TAILS, NUMBER_OF_TAIL)):
        now = dict(zip((s.name for s in signals), numbers.tolist(), strict=True))
        assert len(set(now.values())) == len(now)
        assert {name: n for name, n in now.items() if name in stored[kind]} == {
            name: n for name, n in stored[kind].items() if name in now
        }
        assert not {n for name, n in now.items() if name not in stored[kind]} & set(stored[kind].values())


@pytest.mark.parametrize("x", LAYOUTS, ids=lambda x: x.name)
def test_the_sections_of_a_body_are_all_of_it(x):
    """A part that no section names would be lost at the next change."""
    assert sum(len(s.of) * s.width for s in x.sections) in (0, x.body[1])


class Later:
    """A program of a later layout; its own state is shaped as ours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(baselines, "describe", lambda: describe() | {"later": 1})


def test_an_upgrade_after_restarts_and_compaction_reads_everything(events, monkeypatch):
    """The description stands before all that it describes, whoever wrote that and however often compaction ran."""
    engine, topic = Engine(SETTINGS), []
    writer = Writer(engine)
    for low in range(0, 600, 50):
        feed(engine, events[low : low + 50])
        topic = compacted(topic, writer.flush(low + 50))
        if low % 150 == 0:
            reader = read(topic)
            engine, writer = reader.engine, reader.writer()
    Later(monkeypatch)
    reader = read(topic)
    writer = reader.writer()
    assert reader.migrated
    mine, its = feed(reader.engine, events[600:]), feed(engine, events[600:])
    assert mine.score.tobytes() == its.score.tobytes()
    assert [msgspec.json.encode(a) for a in mine.alerts] == [msgspec.json.encode(a) for a in its.alerts]
    topic = compacted(topic, writer.flush(953))
    again = read(topic)
    again.writer()
    assert not again.migrated
    assert knowledge(again.engine) == knowledge(reader.engine)


@pytest.mark.parametrize("what", ["unknown", "wrong", "units", "numbers"])
def test_a_layout_that_cannot_be_read_is_refused_and_its_records_make_way(present, monkeypatch, what):
    """Each record says why; nothing of it is used, and after one flush nothing of it is left."""
    engine, topic = present
    other = describe()
    if what == "units":
        other["units"]["half_life"] /= 2
    if what == "numbers":
        other["numbers"]["facts"]["flow"] += 1
    with monkeypatch.context() as patch:
        patch.setattr(baselines, "describe", lambda: other | {"wrong": what})
        writer = Writer(engine, anew=True)
        foreign = writer.flush(373)
        if what == "unknown":
            del foreign[0]
        if what == "wrong":
            foreign[0] = Record(foreign[0].key, writer._value(3, msgspec.json.encode(describe()), (1, 0)))
    reader = Reader(Engine(SETTINGS))
    for record in foreign:
        with pytest.raises(
            Corrupt, match=r"no record here describes|another layout than its own|other units|mean others here"
        ):
            reader.read(*record)
    assert knowledge(reader.engine) == knowledge(Engine(SETTINGS))
    assert reader.next_offset == 0
    topic = compacted(foreign, reader.writer().flush(1))
    assert read([r for r in topic if r.value]).sequence > 0


@few
@given(st.data())
def test_a_damaged_description_is_refused(data):
    """Nothing but a ValueError, whatever was stored."""
    description = copy.deepcopy(describe())
    table = data.draw(st.sampled_from(description["tables"]))
    damage = data.draw(st.sampled_from(["fields", "body", "sections", "name"]))
    if data.draw(st.booleans()):
        del table[damage]
    else:
        table[damage] = data.draw(st.sampled_from([[], [["key", "O"]], [["w", "f4"]], ["x", 1], 3, None]))
    with suppress(ValueError):
        Stored(description).apply(b"\0" * 64)
