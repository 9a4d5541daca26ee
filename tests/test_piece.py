"""Rows as bytes: what is written comes back to the last bit, and only to rows that are still the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import put
from models.piece import COUNTED, PART, ROWS, SAME, bytes_of, pack, unpack
from models.table import PARTS, Array, change_first, change_last, change_one
from tests.shared import few

DTYPE = np.dtype([("key", "u8"), ("w", "f4"), ("at", "f8"), ("since", "f8"), ("n", "u2")])
WIDTH = 5
TIMES = st.sampled_from(
    [0.0, -0.0, -np.inf, np.nan, 1772409600.0, 1772409600.123, 1772409600.1234567, 1e300]
) | st.integers(1772409600000, 1772509600000).map(lambda ms: ms / 1000.0)


def table(rng: np.random.Generator, n: int, kind: str) -> tuple[Array, Array]:
    head = np.frombuffer(rng.bytes(n * DTYPE.itemsize), DTYPE).copy()
    head["key"] |= np.uint64(1)
    body = np.frombuffer(rng.bytes(n * WIDTH * np.dtype(kind).itemsize), kind).copy().reshape(n, WIDTH)
    return head, body


def written(kind: int, slots: Array, head: Array, body: Array, step: int, alike: bool, parts: Any = None) -> Any:
    data = b"before" + pack(kind, slots, head, body, step, alike, parts)
    piece, end = unpack(data, 6, kind, len(slots), -np.inf, DTYPE, (body.dtype.str, WIDTH))
    assert end == len(data)
    return piece


@few
@given(st.data())
def test_what_is_written_comes_back(data):
    """Whatever the numbers are: a time that is no whole millisecond, minus nothing, or none at all."""
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    head, body = table(rng, 40, data.draw(st.sampled_from(["f4", "f8", "u4", "u8", "u1"])))
    for name in ("at", "since"):
        head[name] = (
            data.draw(st.lists(TIMES, min_size=40, max_size=40))
            if data.draw(st.booleans())
            else rng.integers(1 << 41, 1 << 42, 40) / 1000.0
        )
    slots = np.array(sorted(data.draw(st.sets(st.integers(0, 39)))), np.int64)
    kind = data.draw(st.sampled_from([ROWS, SAME, COUNTED, PART]))
    place, many = rng.integers(0, WIDTH, len(slots)), rng.integers(0, WIDTH + 1, len(slots))
    step, alike = data.draw(st.integers(1, 50)), data.draw(st.booleans())
    piece = written(kind, slots, head, body, step, alike, np.stack((place, many)))
    into, inside = table(rng, 40, body.dtype.str)
    if kind != ROWS:
        into["key"] = head["key"]
    expected, expected_inside = into.copy(), inside.copy()
    for i, slot in enumerate(slots):
        if kind == COUNTED:
            expected[slot]["w"] = head[slot]["w"]
            continue
        expected[slot] = head[slot]
        for j in range(many[i]) if kind == PART else range(WIDTH):
            at = (place[i] + j) % WIDTH if kind == PART else j
            expected_inside[slot, at] = body[slot, at]
    piece.put(into, inside)
    assert into.tobytes() == expected.tobytes()
    assert inside.tobytes() == expected_inside.tobytes()


@few
@given(st.data())
def test_a_group_with_another_key_stays_as_it_is(data):
    """A record that gave it the key was corrupt, or its page comes later; and then so do the others of its page."""
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    head, body = table(rng, 60, "f4")
    kind, step = data.draw(st.sampled_from([SAME, COUNTED, PART])), data.draw(st.integers(1, 30))
    slots = np.array(sorted(data.draw(st.sets(st.integers(0, 59), min_size=1))), np.int64)
    parts = np.stack((np.zeros(len(slots), np.int64), np.full(len(slots), WIDTH)))
    piece = written(kind, slots, head, body, step, False, parts)
    into, inside = table(rng, 60, "f4")
    into["key"] = head["key"]
    other = data.draw(st.sampled_from(slots.tolist()))
    into["key"][other] = data.draw(st.sampled_from([0, 1 << 40 | 5]))
    before = into.copy(), inside.copy()
    piece.put(into, inside)
    same_page = slots[slots // step == other // step]
    first = int(np.searchsorted(same_page, other)) // put.GROUP * put.GROUP
    group = same_page[first : first + put.GROUP]
    assert into[group].tobytes() == before[0][group].tobytes()
    assert inside[group].tobytes() == before[1][group].tobytes()
    rest = np.setdiff1d(slots, group)
    assert (into["w"][rest].view("u4") == head["w"][rest].view("u4")).all()


def test_times_take_few_bytes():
    """Times of a flush are near each other: of eight bytes hardly three say anything."""
    head, body = table(np.random.default_rng(1), 1000, "f4")
    head["at"] = 1772409600.0 + np.random.default_rng(2).integers(0, 60_000, 1000) / 1000.0
    head["since"] = 1772409600.0
    data = pack(ROWS, np.arange(1000), head, body, 100, False)
    at = len(data) - 4 * WIDTH * 1000 - 2 * 1000 - 16 * 1000  # the planes of both times
    planes = np.frombuffer(data, np.uint8, 16 * 1000, at).reshape(16, 1000)
    assert not planes[2:].any()
    assert planes[:2].any(axis=1).all()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("cut", "shorter than it says"),
        ("kind", "no kind 7 of piece"),
        ("millis", "key is no time"),
        ("step", "written as nothing is"),
        ("place", "parts of a body that cannot be"),
        ("many", "parts of a body that cannot be"),
    ],
)
def test_what_cannot_be_is_refused(how, reason):
    """Before anything is put back."""
    head, body = table(np.random.default_rng(3), 20, "f4")
    slots = np.arange(20)
    parts = np.stack((np.full(20, WIDTH if how == "place" else 0), np.full(20, WIDTH + 1 if how == "many" else 1)))
    data = bytearray(pack(PART, slots, head, body, 7, False, parts))
    kind = {"kind": PART + 1}.get(how, PART)
    if how == "cut":
        del data[-1]
    if how == "millis":
        data[0] = 1  # the key is no time
    if how == "step":
        data[8:12] = bytes(4)
    with pytest.raises(ValueError, match=reason):
        unpack(bytes(data), 0, kind, 20, -np.inf, DTYPE, ("f4", WIDTH))


@few
@given(st.lists(st.integers(1, 40), max_size=40))
def test_marks_of_parts(changes):
    """What was marked is at least what has changed, and all of it where one mark cannot say; other marks stay."""
    dirty = np.full(3, 2, np.uint8)
    places = set()
    for n in changes:
        change_first(dirty, 0, n)
        change_last(dirty, 1)
        change_one(dirty, 2, n % 9 - 1)
        places.add(n % 9 - 1)
    first, last, one = (int(x) >> 3 for x in dirty)
    assert dirty[0] & 1 or first >= max(changes, default=0)
    assert dirty[1] & 1 or last == len(changes)
    places.discard(-1)
    assert dirty[2] & 1 or one in ({x + 1 for x in places} or {0, PARTS})
    assert bool(dirty[2] & 1) == (len(places) > 1)
    assert ((dirty & 6) == 2).all()


def test_a_check_is_for_eight_rows_of_a_page():
    """More would be lost where one is another's."""
    slots = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 25, 26])
    keys = np.arange(1, 14).astype(np.uint64)
    assert put.groups(slots, 10) == 4
    assert len(put.checks(keys, slots, 10)) == 4
    rows = np.zeros((30, DTYPE.itemsize), np.uint8)
    assert len(bytes_of(rows.view(DTYPE).ravel())) == 30
