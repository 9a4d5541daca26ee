"""Baselines as records of a compacted topic: whatever compaction removes and wherever it ends, the state comes back."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.state import PIECE
from stream import baselines
from stream.baselines import Reader, Record, Writer
from stream.codec import encode, encode_lines
from stream.engine import Engine
from stream.sealed import Corrupt
from stream.settings import load
from stream.simulate import simulate
from stream.siphash import name_hash
from tests.shared import few, knowledge

SETTINGS = load({})
PACES = (2 / 3, 5.0, 50.0)  # at the last all pages are written every few flushes

many = settings(few, max_examples=300)


class Values(list[bytes]):
    """Events as they come; their text is short, for a failing test prints its arguments."""

    def __repr__(self) -> str:
        return f"{len(self)} events"


@pytest.fixture(scope="module")
def fleet() -> Values:
    """Ten days of twenty agents: episodes open and close, and seven tables grow."""
    return Values(encode(event) for event in simulate(7, agents=20, days=10).events)


class Topic:
    """A compacted topic: of each key the last record, in the order in which they came."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}

    def add(self, records: list[Record]) -> None:
        for key, value in records:
            self.records.pop(key, None)
            self.records[key] = value

    def reader(self) -> Reader:
        reader = Reader(Engine(SETTINGS))
        for key, value in self.records.items():
            reader.read(key, value)
        return reader


def feed(engine: Engine, values: list[bytes]) -> bytes:
    """Score, and give what was said, as replay writes it."""
    scored = engine.score(engine.decode(values, range(len(values))))
    return scored.lines() + encode_lines(scored.alerts)


def differing(a: Engine, b: Engine) -> list[str]:
    """Names, because the rows themselves are megabytes."""
    other = knowledge(b)
    return [name for name, found in knowledge(a).items() if found != other[name]]


@few
@given(data=st.data())
def test_what_was_written_is_read_back(fleet, data):
    """Wherever it was flushed, and both go on saying the same."""
    end = len(fleet) - 1000
    cuts = data.draw(st.sets(st.integers(1, end - 1), max_size=12))
    engine = Engine(SETTINGS)
    writer, reader = Writer(engine), Reader(Engine(SETTINGS))
    for a, b in pairwise(sorted(cuts | {0, end})):
        feed(engine, fleet[a:b])
        for record in writer.flush(b):
            reader.read(*record)
        assert reader.next_offset == b
    assert differing(reader.engine, engine) == []
    assert feed(reader.engine, fleet[end:]) == feed(engine, fleet[end:])
    assert differing(reader.engine, engine) == []


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("size", [10, 40])
def test_a_compacted_topic_holds_the_state_of_its_last_flush(fleet, monkeypatch, pace, size):
    """At every flush, also long after the first keys came round and while tables grow."""
    monkeypatch.setattr(baselines, "PACE", pace)
    engine, topic = Engine(SETTINGS), Topic()
    writer = Writer(engine)
    for low in range(0, 300 * size, size):
        feed(engine, fleet[low : low + size])
        topic.add(writer.flush(low + size))
        if writer.sequence % 7 == 0 or low // size % 9 == 0:
            assert differing(topic.reader().engine, engine) == [], f"after flush {low // size}"
    assert writer.sequence > 300


@few
@given(data=st.data(), pace=st.sampled_from(PACES))
def test_workers_that_follow_one_another_lose_nothing(fleet, monkeypatch, data, pace):
    """However short they live: each begins with what compaction left, and writes on."""
    monkeypatch.setattr(baselines, "PACE", pace)
    whole, engine, topic = Engine(SETTINGS), Engine(SETTINGS), Topic()
    writer = Writer(engine)
    at = 0
    for flushes in data.draw(st.lists(st.integers(1, 25), min_size=5, max_size=12)):
        size = data.draw(st.integers(1, 60))
        for _ in range(flushes):
            values = fleet[at : at + size]
            if values:
                assert feed(engine, values) == feed(whole, values)
                topic.add(writer.flush(at + size))
                at += size
        reader = topic.reader()
        assert reader.next_offset == at
        engine, writer = reader.engine, reader.writer()
        assert differing(engine, whole) == []
    whole = sum(len(r.value) + 100 for r in Writer(engine, anew=True).flush(at))
    assert sum(map(len, topic.records.values())) < (3 + 1.5 / pace) * whole


@pytest.mark.parametrize("pace", PACES)
def test_offsets_are_those_of_the_last_flush_also_where_a_topic_was_made_anew(fleet, monkeypatch, pace):
    """Or all that came since would be read again at each start, and what comes where the old one ended never. The description of the layout is of the first flush for good."""
    monkeypatch.setattr(baselines, "PACE", pace)
    engine, topic = Engine(SETTINGS), Topic()
    writer = Writer(engine)
    for n, at in enumerate([(300, 100), (1, 100), (2, 1), (3, 2)]):
        feed(engine, fleet[n : n + 1])
        topic.add(writer.flush(*at))
        reader = topic.reader()
        assert (reader.next_offset, reader.next_verdict) == at
        engine, writer = reader.engine, reader.writer()


def test_episodes_and_what_was_begun_fit_records_of_a_topic_however_long_names_are(fleet):
    """Names that do not compress, of as many agents as are told of at once."""
    rng = Random(1)
    engine = Engine(SETTINGS)
    while not engine.episodes.open:
        feed(engine, fleet[:100])
        fleet = Values(fleet[100:])
    episode = next(iter(engine.episodes.open.values()))
    for n in range(600):
        names = [rng.randbytes(256).hex() for _ in range(20)]
        each = msgspec.structs.replace(episode, agent_id=f"agent-{n}", resources=names, recipients=names)
        engine.episodes.restore(each.agent_id, each)
        engine.episodes.changed.add(each.agent_id)
        long = rng.randbytes(4000).hex()
        engine.episodes.rollouts.note(long, each.agent_id, ["use a", "use b", "use c", "use d"], 0.0, long)
    topic = Topic()
    topic.add(Writer(engine).flush(1))
    assert max(map(len, topic.records.values())) < 3 << 20
    found = topic.reader().engine.episodes
    assert found.open == engine.episodes.open
    assert found.rollouts.began == engine.episodes.rollouts.began
    long = next(iter(found.rollouts.began))[0]
    assert len(found.rollouts.peers(long + "0", "", "use d", 0.0)) == 1


def test_who_has_had_a_peer_is_never_called_alone_after_a_restart(fleet):
    """Though that peer is of another type by now, which is all that its row says."""
    events = [msgspec.json.decode(value) for value in fleet[:400]]
    first, other = sorted({e["agent_id"] for e in events})[:2]
    for e in events:
        e["agent_type"] = "solo" if e["agent_id"] == first else "other"
    last = events[-1]["time"]
    once = {"event_id": "once", "time": last, "agent_id": other, "action": "login", "agent_type": "solo"}
    again = [e | {"event_id": f"again {e['event_id']}", "time": last} for e in events if e["agent_id"] == other][:2]
    engine, topic = Engine(SETTINGS), Topic()
    feed(engine, [encode(e) for e in (*events, once, *again)])
    topic.add(Writer(engine).flush(1))
    found = topic.reader().engine
    assert differing(found, engine) == []
    assert (name_hash("solo"), 0) in found.company.types()


def test_an_open_episode_outlives_the_changes_after_it(fleet, monkeypatch):
    """Though nothing in it changes while others take every key many times."""
    monkeypatch.setattr(baselines, "PACE", 50.0)
    engine, topic = Engine(SETTINGS), Topic()
    writer = Writer(engine)
    low = 0
    while not engine.episodes.open:
        feed(engine, fleet[low : low + 50])
        low += 50
    topic.add(writer.flush(low))
    assert (keys := len(topic.records)) > 20
    for n in range(200):
        engine.state["facts"].dirty[: 100 * n] = 1
        topic.add(writer.flush(low + n))
    assert len(topic.records) < keys + 30
    assert differing(topic.reader().engine, engine) == []


def test_a_table_that_grows_does_not_make_all_be_written_at_once(fleet):
    """Or a large state would be one transaction of hundreds of megabytes."""
    engine = Engine(SETTINGS)
    writer = Writer(engine)
    sent = dict.fromkeys((b"p", b"c"), 0)
    for low in range(0, len(fleet), 20):
        feed(engine, fleet[low : low + 20])
        for key, value in writer.flush(low):
            sent[key[:1]] = sent.get(key[:1], 0) + len(value) + 100
        assert sent[b"p"] <= baselines.PACE * sent[b"c"] + PIECE


@pytest.fixture(scope="module")
def written(fleet) -> list[Record]:
    engine = Engine(SETTINGS)
    writer = Writer(engine)
    while True:
        feed(engine, fleet[:3000])
        records = writer.flush(3000)
        if engine.episodes.open:
            return records


@many
@given(data=st.data())
def test_a_damaged_record_is_refused_and_leaves_no_trace(written, data):
    """Whichever byte it is, header included: an offset that is wrong would skip events in silence."""
    key, value = data.draw(st.sampled_from(written))
    damage = data.draw(st.sampled_from(["flip", "cut", "lengthen", "swap"]))
    at = data.draw(st.integers(0, len(value) - 1) | st.integers(0, 40))
    if damage == "flip":
        bad = value[:at] + bytes([value[at] ^ (1 << data.draw(st.integers(0, 7)))]) + value[at + 1 :]
    elif damage == "cut":
        bad = value[: max(1, at)]
    elif damage == "lengthen":
        bad = value + data.draw(st.binary(min_size=1, max_size=50))
    else:
        bad = data.draw(st.binary(min_size=1, max_size=200))
    reader = Reader(Engine(SETTINGS))
    with pytest.raises(Corrupt):
        reader.read(key, bad)
    assert differing(reader.engine, Engine(SETTINGS)) == []
    assert (reader.next_offset, reader.sequence, reader.records) == (0, 0, 0)


@many
@given(kind=st.integers(0, 255), payload=st.binary(max_size=300), at=st.integers(0, 200))
def test_a_sound_record_of_something_else_is_refused_and_leaves_no_trace(written, kind, payload, at):
    """As another program, or a mistake of ours, would write it. Nothing at all, and what is JSON of nothing, is a record like any other."""
    writer = Writer(Engine(SETTINGS))
    for body in (payload, bytes(48) + payload, b'[["a",null]' + payload, written[0].value[:at] + payload):
        reader = Reader(Engine(SETTINGS))
        try:
            reader.read(b"c/1", writer._value(kind, body, (1, 1)))
        except Corrupt:
            assert (reader.next_offset, reader.next_verdict, reader.records) == (0, 0, 0)
        else:
            assert (kind, body) == (0, b"") or body.strip() in {b"[]", b"{}"}
        assert differing(reader.engine, Engine(SETTINGS)) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("_VERSION", 5), r"of version 5, and this program writes 4"),
        (("_MAGIC", b"LRTS"), r"of version 4"),
        (("identify", lambda _: 1), r"another layout of the state"),
    ],
)
def test_a_record_of_another_version_or_layout_is_refused(change, reason):
    """Baselines of another shape are learned anew, and the log says why."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, *change)
        value = Writer(Engine(SETTINGS)).flush(1)[1].value
    with pytest.raises(Corrupt, match=reason):
        Reader(Engine(SETTINGS)).read(b"c/1", value)


def test_a_deleted_record_is_no_record():
    """Somebody wrote a tombstone, to forget."""
    reader = Reader(Engine(SETTINGS))
    reader.read(b"c/1", None)
    reader.read(None, b"")
    assert reader.records == 0
