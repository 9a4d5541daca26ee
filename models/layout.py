"""The shape of a state as plain values, and rows of another shape read into this one: baselines outlive a change of the layout.

A description says of each table its fields and the sections of its body by name, and what numbers the signals have in keys. Rows that were
written under another description go field by field, section by section and signal by signal: what is new begins at zero, what is no more is left
out. Slots are given anew; where the memory is smaller now, the least used rows are left out. What has other units, or numbers of signals that mean others here, is refused.

What it misses: any other change of what a number means keeps its name and is not seen. Such a change needs a new name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from models import parties, piece, tails
from models.schema import HALF_LIFE, LAYOUTS, TAIL_SCALE
from models.signals import (
    AMOUNTS,
    AMOUNTS_OF_2,
    FACTS,
    FACTS_OF_2,
    NUMBER_OF_AMOUNT,
    NUMBER_OF_FACT,
    NUMBER_OF_TAIL,
    TAILS,
    TAILS_OF_2,
)
from models.state import State, Table
from models.table import Array, fnv

Description = Mapping[str, Any]
MOST_ROWS = 1 << 27  # of a stored table

_NONE = ("u1", 0)
# What was stored before descriptions were stored beside it, by its number.
VERSION_2 = {
    10369755598035101308: {
        "tables": [
            {"name": name, "fields": [("key", "u8"), *(tuple(x.split(":")) for x in fields.split())], "body": body, "sections": sections}
            for name, fields, body, sections in (
                ("facts", "w:f4 d:f4", _NONE, ()),
                ("amounts", "w:f8 t:f8 n:f4 m:f4 v:f4 s:f4 z:f4 a:f4 last:f8 beats:f4 gap:f4 gap_off:f4 never:f4", _NONE, ()),
                ("tails", "w:f8", ("f4", 64), ()),
                ("agents", "w:f8 seen:f8 first:f8 pool:f4 breach:f4 calls:f4 begin:f8 kept:f8 peak:f4 night:f4 night_at:f8 version:u8 left:u8 since:f8 leader:u8", ("f4", 140), (("usual", FACTS_OF_2, 2), ("tails", TAILS_OF_2, 1), ("hours", ("",), 96), ("window", ("",), 6))),
                ("cohorts", "w:f8 agents:f4", ("f4", 442), (("usual", FACTS_OF_2, 24), ("tails", TAILS_OF_2, 1), ("hours", ("",), 96))),
                ("sessions", "w:f8 tool:u8 ordinary:u8 top:i2 records:f4", _NONE, ()),
                ("calls", "w:f8 n:f4", _NONE, ()),
                ("owners", "w:f8 principal:u8 shared:u1", _NONE, ()),
                ("contacts", "w:f8 n:u4", ("u8", 32), ()),
                ("profiles", "w:f8", ("u8", 8), ()),
                ("names", "w:f8 length:u1", ("u1", 64), ()),
                ("levels", "w:f8 n:u4 day:i8 sum:f8 shifted:f8", ("f4", 32), ()),
                ("rhythms", "w:f8 first:f8 level:f8 n:f4 plain:f4 shaped:f4 low:f4 high:f4 mean:f4 mean_low:f4 mean_high:f4", ("f4", 96), ()),
                ("leaders", "w:f8", _NONE, ()),
                ("recent", "", _NONE, ()),
                ("fleet", "w:f8 begin:f8 clock:f8 ahead:f8 doubted:u8 times:i8 tau:f8 days:f8 bin:i8 events:f8 late:i8 skewed:i8 repeated:i8 warming:i8", ("f8", 1499), (("usual", FACTS_OF_2, 24), ("tails", TAILS_OF_2, 1), ("histograms", TAILS_OF_2, 64), ("budget", ("",), 513))),
            )
        ],
        "units": {"half_life": 60 * 86400.0, "tail_scale": 8.0},
        "numbers": {"facts": {x: i for i, x in enumerate(FACTS_OF_2)}, "tails": {x: i for i, x in enumerate(TAILS_OF_2)}, "amounts": {x: i for i, x in enumerate(AMOUNTS_OF_2)}},
    }
}  # fmt: skip


# What is new in a row and does not begin at zero: table and field → a field that was stored, and what follows from it.
_BEGINS: dict[tuple[str, str], tuple[str, Callable[[Array], Array]]] = {
    ("agents", "entity"): ("key", lambda keys: _each(parties.agent_entity, keys)),
    ("fleet", "since"): ("begin", lambda begins: begins),
    ("owners", "last"): ("principal", lambda principals: principals),
    ("owners", "people"): ("shared", lambda shared: 1 + 2 * shared),  # by how many was not counted
}


def describe() -> dict[str, Any]:
    """The shape of a state of this program."""
    return {
        "tables": [
            {
                "name": x.name,
                "fields": [list(field) for field in x.fields],
                "body": list(x.body),
                "sections": [[s.name, list(s.of), s.width] for s in x.sections],
            }
            for x in LAYOUTS
        ],
        "units": {"half_life": HALF_LIFE, "tail_scale": TAIL_SCALE},
        "numbers": {
            "facts": dict(zip((s.name for s in FACTS), NUMBER_OF_FACT.tolist(), strict=True)),
            "tails": dict(zip((s.name for s in TAILS), NUMBER_OF_TAIL.tolist(), strict=True)),
            "amounts": dict(zip(AMOUNTS, NUMBER_OF_AMOUNT.tolist(), strict=True)),
        },
    }


def identify(description: Description) -> int:
    """The number of a description."""
    return fnv(json.dumps(description, sort_keys=True).encode())


class Stored:
    """Rows of another layout, as they are put back one piece after the other. Raises `ValueError` for a description that is none."""

    def __init__(self, description: Description) -> None:
        try:
            self.tables = [_StoredTable(table) for table in description["tables"]]
            numbers = [
                {*of.items(), *description["numbers"][kind].items()} for kind, of in describe()["numbers"].items()
            ]
            units = description["units"]
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"no description of a layout ({error})") from None
        if units != describe()["units"]:
            raise ValueError(f"other units: {units}")
        if any(len(pairs) > min(len({name for name, _ in pairs}), len({n for _, n in pairs})) for pairs in numbers):
            raise ValueError("numbers of signals that mean others here")

    def apply(self, data: bytes) -> None:
        """Put back a piece, as `State.apply`; raises `ValueError`, and then nothing has been put back."""

        def table(which: int, rows: int, n: int) -> tuple[str, Any, tuple[str, int]]:
            t = self._table(which, rows, n)
            return t.name, t.head.dtype, t.body_type

        found = [(self.tables[which], rows, one) for which, rows, _, one in piece.split(data, table)]
        for t, rows, one in found:
            t.extend(rows)
            if one.kind == piece.DROP:
                t.head[(t.head["key"] != 0) & (t.head["w"] < one.least)] = 0
            else:
                one.put(t.head, t.body)

    def apply_2(self, data: bytes) -> None:
        """The same of version 2, where a table that grew began a generation in which rows had other places."""
        found, at = [], 0
        while at < len(data):
            if at + 48 > len(data):
                raise ValueError("shorter than a header")
            which, generation, rows, _, _, n = (int(x) for x in np.frombuffer(data, "<i8", 6, at))
            t = self._table(which, rows, n)
            kind, width = t.body_type
            head_at = at + 48 + 4 * n
            body_at = head_at + n * t.head.dtype.itemsize
            end = body_at + n * width * np.dtype(kind).itemsize
            if end > len(data):
                raise ValueError("shorter than it says")
            slots = np.frombuffer(data, "<u4", n, at + 48)
            head = np.frombuffer(data, t.head.dtype, n, head_at)
            body = np.frombuffer(data, kind, n * width, body_at).reshape(n, width)
            if n and slots.max() >= rows:
                raise ValueError(f"row {slots.max()} of {rows} of {t.name}")
            found.append((t, generation, rows, slots, head, body))
            at = end
        for t, generation, rows, slots, head, body in found:
            if generation < t.generation:
                continue
            if generation > t.generation:
                t.head[:], t.generation = 0, generation
            t.extend(rows)
            t.head[slots] = head
            if t.body.shape[1]:
                t.body[slots] = body

    def _table(self, which: int, rows: int, n: int) -> _StoredTable:
        if not 0 <= which < len(self.tables):
            raise ValueError(f"no table {which}")
        if not 0 <= n <= rows <= MOST_ROWS:
            raise ValueError(f"counts of {self.tables[which].name} that cannot be")
        return self.tables[which]

    def into(self, state: State) -> dict[str, int]:
        """Put all rows into a fresh state; how many of each table found no room."""
        left_out = {}
        for stored in self.tables:
            t = next((t for t in state.tables if t.layout.name == stored.name), None)
            if t is None:
                continue
            stored.split(t.body.shape[1])
            used = np.flatnonzero(stored.head["key"] != 0) if t.layout.name != "fleet" else np.arange(1)
            left_out[t.layout.name] = stored.into(t, used)
        return {name: n for name, n in left_out.items() if n}


class _StoredTable:
    def __init__(self, of: Description) -> None:
        self.name = str(of["name"])
        self.sections = [(str(name), [str(x) for x in each], int(width)) for name, each, width in of["sections"]]
        self.body_type = (str(of["body"][0]), int(of["body"][1]))
        fields = [(str(name), str(kind)) for name, kind in of["fields"]]
        if any(np.dtype(kind).kind not in "iuf" for _, kind in [*fields, ("", self.body_type[0])]):
            raise ValueError("fields that are no numbers")
        if fields[0] != ("key", "u8"):
            raise ValueError(f"a table {self.name} without keys")
        self.head: Array = np.zeros(0, np.dtype(fields))
        self.body: Array = np.zeros((0, self.body_type[1]), self.body_type[0])
        self.generation = 0

    def extend(self, rows: int) -> None:
        more = rows - len(self.head)
        if more > 0:
            self.head = np.concatenate((self.head, np.zeros(more, self.head.dtype)))
            self.body = np.concatenate((self.body, np.zeros((more, self.body.shape[1]), self.body.dtype)))

    def into(self, t: Table, used: Array) -> int:
        """Put rows into an empty table, those of the same key or place where it is looked up by that; how many found no room."""
        fresh = len(used)
        if t.space is None:
            slots = used
            if self.name == "recent":
                slots = (self.head["key"][used] & np.uint64(len(t.head) - 1)).astype(np.int64)
            used, slots = used[slots < len(t.head)], slots[slots < len(t.head)]
        else:
            if len(used) > t.largest:
                used = np.sort(used[np.argsort(self.head["w"][used], kind="stable")[-t.largest :]])
            t.extend(len(used))
            slots = np.arange(len(used))
        self._put(t, used, slots)
        t.dirty[slots] = 1
        t.tally[:] = len(used), 0, len(used)
        t.stale = t.space is not None
        return fresh - len(used)

    def split(self, width: int) -> None:
        """Let the upper bins of tails go on in rows of their own, as they are kept since version 3."""
        if self.name != "tails" or self.body.shape[1] <= width:
            return
        lower, upper = self.body[:, :width], self.body[:, width : 2 * width]
        more = np.flatnonzero((self.head["key"] != 0) & upper.any(axis=1))
        head = self.head[more]
        head["key"] = _each(lambda key: tails.half_of(key, 1), head["key"])
        self.head = np.concatenate((self.head, head))
        self.body = np.concatenate((lower, upper[more]))

    def _put(self, t: Table, used: Array, slots: Array) -> None:
        rows, stored = self.head[used], self.head.dtype.names or ()
        for field in t.head.dtype.names or ():
            source, begins = (field, _same) if field in stored else _BEGINS.get((self.name, field), ("", _same))
            if source in stored:
                t.head[field][slots] = _cut(begins(rows[source]), t.head.dtype[field])
        kind, width = t.layout.body
        if not width or not self.body.shape[1]:
            return
        ours = [(s.name, list(s.of), s.width) for s in t.layout.sections] or [("", [""], width)]
        theirs = self.sections or [("", [""], self.body.shape[1])]
        places = {(name, each): (at, w) for name, each, at, w in _places(theirs)}
        body = np.zeros((len(used), width), kind)
        for name, each, at, w in _places(ours):
            from_at, from_w = places.get((name, each), (0, 0))
            n = min(w, from_w)
            body[:, at : at + n] = _cut(self.body[used, from_at : from_at + n], np.dtype(kind))
        t.body[slots] = body


def _each(of: Callable[[Any], Any], keys: Array) -> Array:
    return np.array([of(key) for key in keys], np.uint64)


def _same(values: Array) -> Array:
    return values


def _cut(values: Array, to: Any) -> Array:
    """Values as another type: of a hash that is kept by half, the lower half."""
    if to.kind == "u" and to.itemsize < values.dtype.itemsize:
        values = values & values.dtype.type((1 << 8 * to.itemsize) - 1)
    return values.astype(to)


def _places(sections: list[tuple[str, list[str], int]]) -> list[tuple[str, str, int, int]]:
    out, at = [], 0
    for name, of, width in sections:
        for each in of:
            out.append((name, each, at, width))
            at += width
    return out
