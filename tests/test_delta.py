"""Rows by what they were: exact whatever they hold, short where they count on, and never put on a row that is another."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import delta, table
from models.delta import When, columns
from models.piece import GREW, HEADER, pack_by, together, unpack
from models.state import LAYOUTS, State
from stream.codec import encode
from stream.engine import Engine
from stream.settings import load
from stream.simulate import simulate
from tests.shared import few, rows

pytestmark = pytest.mark.usefixtures("compiled")
WHEN = When(1.25, 1_772_409_600_123)
SETTINGS = load({})


def said(
    new: np.ndarray, old: np.ndarray, dtype: object, body: tuple[str, int] = ("u1", 0), when: When = WHEN
) -> bytes:
    """Rows as bytes; and that they come back."""
    c = columns(np.dtype(dtype), body, sections=False)
    starts = np.arange(len(new)) // 7 * 7
    data = delta.write(new, old, c, 0, when, starts)
    assert delta.end_of(data, 0, len(new), c, 0) == len(data)
    back = old.copy()
    delta.read(data, 0, back, c, 0, when, starts)
    assert back.tobytes() == new.tobytes()
    return data


def as_bytes(values: np.ndarray) -> np.ndarray:
    return values.view(np.uint8).reshape(len(values), -1)


@few
@given(
    x=st.sampled_from(LAYOUTS),
    n=st.integers(1, 20),
    seed=st.integers(0, 1 << 32),
    weight=st.floats(1e-3, 1e18),
    clock=st.integers(-(1 << 45), 1 << 48),
    sections=st.booleans(),
)
def test_rows_come_back_to_the_last_bit_whatever_they_hold(x, n, seed, weight, clock, sections):
    """Not a number, infinite, negative: a guess that is bad costs bytes and nothing else."""
    rng = np.random.default_rng(seed)
    c = columns(np.dtype(x.fields), x.body, sections=sections)
    width = int((c.width * c.often).sum())
    old = rng.integers(0, 256, (n, width), np.uint8)
    old[rng.random(old.shape) < 0.5] = 0
    new = np.where(rng.random(old.shape) < 0.3, rng.integers(0, 256, old.shape, np.uint8), old)
    starts = np.arange(n) // 5 * 5
    data = delta.write(new, old, c, 0, When(weight, clock), starts)
    back = old.copy()
    delta.read(data, 0, back, c, 0, When(weight, clock), starts)
    assert back.tobytes() == new.tobytes()


@few
@given(
    values=st.lists(st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, 2.5, 1.25]), min_size=1, max_size=40),
    gains=st.lists(st.sampled_from([0.0, 1.0, 1.25, 2.5, 3.0, 7.1, float("inf")]), min_size=40, max_size=40),
)
def test_what_was_guessed_from_the_row_before_or_beside_is_guessed_again(values, gains):
    """By the same arithmetic, also where that is not what a person would do."""
    old = np.array(values, np.float32)
    new = (old + np.array(gains[: len(old)], np.float32)).astype(np.float32)
    said(as_bytes(new), as_bytes(old), [("a", "f4")])
    if len(old) % 2 == 0:
        said(new.reshape(-1, 2).view(np.uint8), old.reshape(-1, 2).view(np.uint8), [("a", "f4")], ("f4", 1))


def test_counts_that_gained_and_times_that_moved_take_a_byte_or_two():
    """Of four and of eight."""
    rng = np.random.default_rng(1)
    old = (rng.random(4000) * 100).astype(np.float32)
    new = (old + rng.integers(1, 4, 4000) * np.float32(WHEN.weight)).astype(np.float32)
    assert len(zlib.compress(said(as_bytes(new), as_bytes(old), [("w", "f4")]))) < 4000 * 0.8
    before = 1.77e9 + rng.random(4000) * 1e6
    after = (WHEN.clock - rng.integers(0, 5000, 4000)) / 1000.0
    assert len(zlib.compress(said(as_bytes(after), as_bytes(before), [("t", "f8")]))) < 4000 * 2.2


def test_what_did_not_change_takes_a_byte_a_column():
    """Whatever it holds, and however many rows there are."""
    old = np.random.default_rng(1).integers(0, 256, (1000, 24), np.uint8)
    assert said(old, old, [("key", "u8"), ("w", "f8"), ("n", "f4"), ("m", "f4")]) == bytes(4)


@pytest.fixture(scope="module")
def fleet() -> list[bytes]:
    return [encode(event) for event in simulate(7, agents=12, days=5).events]


def feed(engine: Engine, values: list[bytes]) -> State:
    engine.score(engine.decode(values, range(len(values))))
    return engine.state


def copied(pieces: list[bytes]) -> State:
    out = Engine(SETTINGS).state
    for piece in pieces:
        out.apply(piece)
    return out


def test_a_row_that_is_another_stays_as_it_is_and_so_do_those_beside_it(fleet):
    """Where a record was lost, what follows from it would be nonsense: the next page of it is not."""
    engine = Engine(SETTINGS)
    pieces = feed(engine, fleet[:400]).delta()
    other, same = copied(pieces), copied(pieces)
    changed = feed(engine, fleet[400:420]).delta()
    grew = next(x for x in changed if HEADER.unpack_from(x)[:2] == (1, GREW))
    same.apply(grew)
    at = np.flatnonzero(same["amounts"].head["n"] != other["amounts"].head["n"])
    other["amounts"].head["m"][at[0]] += 1.0
    before = other["amounts"].head.copy()
    other.apply(grew)
    kept = np.flatnonzero(other["amounts"].head[at] == before[at])
    assert 0 < len(kept) <= delta.GROUP
    assert kept[0] == 0
    moved = np.delete(at, kept)
    assert len(moved) > 0
    assert (other["amounts"].head[moved] == same["amounts"].head[moved]).all()


def test_rows_of_a_page_that_is_not_there_yet_stay_empty(fleet):
    """A compacted topic has the changes of some weeks, and the pages of a later day."""
    engine = Engine(SETTINGS)
    feed(engine, fleet[:400]).delta()
    changed = feed(engine, fleet[400:420]).delta()
    other = copied([x for x in changed if HEADER.unpack_from(x)[1] == GREW])
    assert all(not t.head["key"].any() for t in other.tables)
    assert not other["amounts"].head["m"].any()


def test_a_piece_that_is_cut_short_is_refused(fleet):
    """At whatever byte, and nothing of it is applied."""
    engine = Engine(SETTINGS)
    pieces = feed(engine, fleet[:400]).delta()
    for piece in feed(engine, fleet[400:420]).delta():
        state = copied(pieces)
        before = rows(state)
        for end in {*range(1, min(120, len(piece))), len(piece) // 2, len(piece) - 1}:
            with pytest.raises(ValueError, match=r"shorter|cannot be|no table|pages|row \d+"):
                state.apply(piece[:end])
        assert rows(state) == before


def test_more_changes_than_are_kept_are_written_whole(fleet, monkeypatch):
    """A worker that is far behind takes up ten thousand events between two flushes."""
    monkeypatch.setattr(table, "_MOST_KEPT", 40)
    engine, pieces = Engine(SETTINGS), []
    for low in range(0, 1200, 300):
        pieces += feed(engine, fleet[low : low + 300]).delta()
    kinds = {HEADER.unpack_from(piece)[1] for piece in pieces}
    assert {1, 3, 4} <= kinds
    assert rows(copied(pieces)) == rows(engine.state)


def test_a_row_does_not_rest_on_one_of_another_page():
    """Of a compacted topic some pages come later than the changes: the rows of the others must come out all the same."""
    head = np.zeros(40, [("key", "u8"), ("w", "f4")])
    head["key"], head["w"] = np.arange(40) + 1000, np.arange(40) * 1.7
    none = np.zeros((40, 0), np.uint8)
    after = head.copy()
    after["w"] += np.float32(3.14159)  # what one has gained is the best guess for the next
    slots = np.arange(40)
    c = columns(head.dtype, ("u1", 0), sections=False)
    packed = pack_by(slots, together(after, none), together(head, none), GREW, c, WHEN, 4)
    one, end = unpack(packed, 0, GREW, 40, 0.0, head.dtype, ("u1", 0))
    assert end == len(packed)
    head[12:16] = 0  # a page that is not there
    head["w"][21] += 1.0  # a row that is another: those of its page stay as they are
    before = head.copy()
    one.put(head, none)
    stay = np.isin(slots // 4, (12 // 4, 21 // 4))
    assert (head[stay] == before[stay]).all()
    assert (head[~stay] == after[~stay]).all()
