"""Everything that is remembered: some twenty bounded tables of plain numbers, their growth, and what of them has changed.

Counts fade by *forward decay* (Cormode, Shkapenyuk, Srivastava and Xu 2009): an event at time t adds `2^((t − t0)/H)`, and a reader
divides by the present weight. So nothing has to be aged, and one power of two is computed per event.

A state is the same whatever the cuts between batches: tables grow at an event, not at the end of a batch. What changed
since the last `delta` is known row by row, so a host can keep it elsewhere; `apply` puts it back into the same slots.
No row holds a Python object or an import path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from models import table
from models.piece import COUNTED, DROP, HEADER, PART, ROWS, SAME, pack, split
from models.schema import (
    ALL_BUDGET,
    ALL_BURST,
    ALL_TAILS,
    BUDGET_POWER,
    HALF_LIFE,
    LAYOUTS,
    OWN_TAILS,
    OWN_WINDOW,
    PEER_TAILS,
    RING,
    START,
    TABLES,
    Layout,
)
from models.space import Space, most_rows, numbers
from models.table import Array, reindex

PIECE = 1 << 17  # bytes
FEW = 1 << 14  # rows up to which what lasts for hours may grow whenever it is full
_MANY = 1 << 18  # rows from which on a table grows by an eighth: room that is not used costs index
# Marks of a changed row, beside the 1 that each has: other partitions are to know; a verdict took from it (`models.exchange`).
SHARED, TAKEN = 2, 4
TOO_FAR = 64.0  # half-lives after which weights are scaled down, long before a float overflows


@dataclass
class Table:
    """Rows of one layout: `head` (structured), `body` (one array a row), `dirty` (changed since the last delta). A row stays where it is."""

    layout: Layout
    largest: int
    tally: Array  # rows in use, rows that gave way, row at which the search for a free one begins
    head: Array
    body: Array
    dirty: Array
    space: Space | None = None  # of a table that grows
    stale: bool = False  # rows have been put back; the index does not know them yet
    new_from: int = 0  # rows from here on have been taken since the last delta
    evicted: int = 0  # rows that had given way at the last delta
    dropped: float = -np.inf  # rows of less `w` have gone since the last delta

    @classmethod
    def empty(cls, layout: Layout, largest: int, tally: Array) -> Table:
        if layout.share > 0:
            space = Space(layout.fields, largest, *layout.body)
            out = cls(layout, largest, tally, *space.rows(layout.rows), space)
            out.reindex()
            return out
        kind, width = layout.body
        n = layout.rows
        body = np.zeros((n if width else 1, width), kind)
        return cls(layout, largest, tally, np.zeros(n, np.dtype(layout.fields)), body, np.zeros(n, np.uint8))

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, without those that find it."""
        return int(self.head.dtype.itemsize + self.body.dtype.itemsize * self.body.shape[1])

    @property
    def nbytes(self) -> int:
        return int(len(self.head) * (self.row_bytes + 1) + (4 * numbers(len(self.head)) if self.space else 0))

    @property
    def step(self) -> int:
        """Rows in a piece."""
        return int(max(1, PIECE // (self.row_bytes + 4)))

    def extend(self, rows: int) -> None:
        """Room for so many rows. None moves."""
        if self.space is None or rows <= len(self.head):
            return
        self.head, self.body, self.dirty = self.space.rows(rows)
        self.stale = True

    def reindex(self) -> None:
        """Let every row be found."""
        if self.space is not None:
            self.tally[0] = reindex(self.head, numbers(len(self.head)))
        self.stale = False

    def drop(self, least: float) -> None:
        """Forget the rows of less `w`."""
        gone = (self.head["key"] != 0) & (self.head["w"] < least)
        self.head[gone] = 0
        self.tally[2] = 0
        self.stale = True


class Arrays(NamedTuple):
    """What the compiled loop sees of a state: head, body, dirty and tally of each table, in the order of `LAYOUTS`."""

    facts: Any
    facts_dirty: Any
    amounts: Any
    amounts_dirty: Any
    tails: Any
    tails_body: Any
    tails_dirty: Any
    agents: Any
    agents_body: Any
    agents_dirty: Any
    cohorts: Any
    cohorts_body: Any
    cohorts_dirty: Any
    sessions: Any
    sessions_dirty: Any
    calls: Any
    calls_dirty: Any
    owners: Any
    owners_dirty: Any
    contacts: Any
    contacts_body: Any
    contacts_dirty: Any
    profiles: Any
    profiles_body: Any
    profiles_dirty: Any
    names: Any
    names_body: Any
    names_dirty: Any
    levels: Any
    levels_body: Any
    levels_dirty: Any
    rhythms: Any
    rhythms_body: Any
    rhythms_dirty: Any
    lifts: Any
    lifts_dirty: Any
    uses: Any
    uses_dirty: Any
    leaders: Any
    leaders_dirty: Any
    recent: Any
    recent_dirty: Any
    fleet: Any
    fleet_body: Any
    fleet_dirty: Any
    tally: Any  # of each table, see `Table`
    limits: Any  # rows in use at which each table must grow first


class State:
    """All tables of one partition (or one replay).

    Parameters
    ----------
    mib
        Bound on the memory of all tables together, in MiB.

    """

    def __init__(self, mib: int = 512) -> None:
        self.mib = mib
        self.tally = np.zeros((len(LAYOUTS), 3), np.int64)
        self.tables = [Table.empty(layout, _largest(layout, mib), self.tally[i]) for i, layout in enumerate(LAYOUTS)]
        self["fleet"].tally[0] = 1
        self["fleet"].head["tau"] = 8.0
        self["fleet"].head["bin"] = START

    def __getitem__(self, name: str) -> Table:
        out = self.tables[TABLES.index(name)]
        if out.stale:
            out.reindex()
        return out

    @property
    def nbytes(self) -> int:
        """Memory of all tables."""
        return sum(t.nbytes for t in self.tables)

    @property
    def fleet(self) -> Any:
        """The one row of what holds for all agents: clock, learning threshold, alert threshold."""
        return self["fleet"].head[0]

    def arrays(self) -> Arrays:
        """Views for the compiled loop; taken anew after each growth."""
        for t in self.tables:
            if t.stale:
                t.reindex()
        limits = np.array([len(t.head) if len(t.head) < t.largest else 1 << 62 for t in self.tables])
        out: dict[str, Any] = {"tally": self.tally, "limits": limits}
        for t in self.tables:
            name = t.layout.name
            out |= {name: t.head, f"{name}_body": t.body, f"{name}_dirty": t.dirty}
        return Arrays(**{field: out[field] for field in Arrays._fields})

    def grow(self, which: int) -> None:
        """Make room in one table: rows unused for long go, and if that frees too little it gets a quarter more of them, or an eighth where there are many."""
        t = self.tables[which]
        fleet = self.fleet
        oldest = fleet["clock"] - t.layout.lasts * 86400.0
        keep = float(2.0 ** ((oldest - fleet["begin"]) / HALF_LIFE) if t.layout.ages else oldest)
        gone = np.count_nonzero((t.head["key"] != 0) & (t.head["w"] < keep))
        # Enough only where that frees a quarter of the table: an event with ten thousand recipients asks for room in a
        # table that is nearly empty, and must get it. What lasts for hours is soon full again: of that half, and never of a small table; of a
        # large one a quarter, for a quarter of ten million rows is not soon full.
        if gone:
            t.drop(keep)
            t.dropped = max(t.dropped, keep)
        rows = len(t.head)
        hours = t.layout.lasts <= 1
        if gone < rows // (2 if hours and rows < _MANY else 4) or (hours and rows < FEW):
            t.extend(min(t.largest, rows + max(64, rows // (8 if rows >= _MANY else 1 if hours else 4))))
        t.reindex()

    def reserve(self, name: str, rows: int) -> None:
        """Let a table grow until so many more rows have room, if it may."""
        which = TABLES.index(name)
        t = self[name]
        while len(t.head) < t.largest and t.tally[0] + rows > len(t.head):
            self.grow(which)

    def rescale(self) -> None:
        """Divide every forward-decayed weight by the same power of two, and move the landmark: exact, and due every ten years."""
        scale = np.float32(2.0**-TOO_FAR)
        self["facts"].head["w"] *= scale
        self["facts"].head["d"] *= scale
        self["tails"].body *= scale
        self["agents"].body[:, OWN_TAILS:OWN_WINDOW] *= scale  # tails and hours
        self["cohorts"].body[:, PEER_TAILS:] *= scale
        self["fleet"].body[:, ALL_TAILS:ALL_BUDGET] *= scale
        self["fleet"].body[:, ALL_BUDGET:ALL_BURST] *= 2.0 ** (-TOO_FAR * BUDGET_POWER)
        self.fleet["watched"] *= 2.0 ** (-TOO_FAR * BUDGET_POWER)
        self.fleet["begin"] += TOO_FAR * HALF_LIFE
        for t in self.tables:
            t.dirty |= t.head["key"] != 0

    def delta(self) -> list[bytes]:
        """What changed since the last call, in pieces of about `PIECE` bytes, and forget that it changed."""
        self["fleet"].dirty[0] = 1
        out: list[bytes] = []
        for i, t in enumerate(self.tables):
            changed = marked(t.dirty)
            if t.dropped > -np.inf:
                out.append(self._piece(i, DROP, changed[:0], t.dropped))
            # Rows are taken in their order, so those before the first one taken have the keys that they had.
            known = (
                t.space is not None and t.dropped == -np.inf and t.tally[1] == t.evicted and t.tally[2] >= t.new_from
            )
            old = np.searchsorted(changed, t.new_from) if known else 0
            marks = t.dirty[changed[:old]]
            of_part = ((marks & 1) == 0) & (marks > table.MARKS)
            out += self._pieces(i, COUNTED if t.layout.part == "count" else PART, changed[:old][of_part])
            out += self._pieces(i, SAME, changed[:old][~of_part]) + self._pieces(i, ROWS, changed[old:])
            t.dirty[changed] = 0
            t.dropped, t.evicted, t.new_from = -np.inf, int(t.tally[1]), int(t.tally[2])
        return out

    def pages(self) -> list[tuple[int, int, int]]:
        """The whole state as (table, first slot, slot after the last), each worth about `PIECE` bytes."""
        return [
            (i, low, min(low + step, len(t.head)))
            for i, t in enumerate(self.tables)
            for step in (t.step,)
            for low in range(0, len(t.head), step)
        ]

    def page(self, which: int, low: int, high: int) -> list[bytes]:
        """The rows in use of one page; for a host that writes the whole in turns."""
        used = np.flatnonzero(self.tables[which].head["key"][low:high]) + low
        return self._pieces(which, ROWS, used) or [
            self._piece(which, ROWS, used)
        ]  # an empty page overwrites what it held

    def _pieces(self, which: int, kind: int, indices: Array) -> list[bytes]:
        t = self.tables[which]
        return [self._piece(which, kind, indices[low : low + t.step]) for low in range(0, len(indices), t.step)]

    def _piece(self, which: int, kind: int, indices: Array, least: float = 0.0) -> bytes:
        t = self.tables[which]
        header = HEADER.pack(which, kind, len(t.head), *t.tally.tolist(), len(indices), least)
        if kind == DROP:
            return header
        parts = self._parts(t, indices) if kind == PART else None
        return header + pack(kind, indices, t.head, t.body, t.step, t.layout.alike, parts)

    @staticmethod
    def _parts(t: Table, indices: Array) -> Array:
        """Where the changed part of each body begins, and how long it is, by the marks of the rows."""
        part = t.dirty[indices].astype(np.int64) >> table.PART
        if t.layout.part == "first":
            return np.stack((np.zeros_like(part), part))
        if t.layout.part == "last":
            return np.stack(((t.head["n"][indices].astype(np.int64) - part) % RING, part))
        some = part != table.PARTS
        return np.stack((np.where(some, part - 1, 0), some.astype(np.int64)))

    def apply(self, data: bytes) -> None:
        """Put back what `delta` or `pages` gave. Pieces are applied in the order in which they were made.

        Raises `ValueError` if the bytes do not fit this layout or these bounds; then nothing has been put back. What the
        rows hold is not judged: a host stores a checksum beside them.
        """
        for which, rows, tally, piece in list(split(data, self._table)):
            t = self.tables[which]
            t.extend(rows)
            if piece.kind == DROP:
                t.drop(piece.least)
            else:
                piece.put(t.head, t.body)
            t.tally[:] = tally
            t.new_from, t.evicted = tally[2], tally[1]
            t.stale = t.space is not None

    def _table(self, which: int, rows: int, _: int) -> tuple[str, Any, tuple[str, int]]:
        if not 0 <= which < len(LAYOUTS):
            raise ValueError(f"no table {which}")
        t = self.tables[which]
        if not t.layout.rows <= rows <= t.largest:
            raise ValueError(f"{rows} rows of {t.layout.name}; at most {t.largest} are kept here")
        return t.layout.name, t.head.dtype, t.layout.body


def marked(dirty: Array) -> Array:
    """Slots that are marked in any way; eight at a time are looked at, for hardly any is."""
    whole = len(dirty) // 8 * 8
    eights = np.flatnonzero(dirty[:whole].view(np.uint64))
    out = (eights[:, None] * 8 + np.arange(8)).ravel()
    rest = np.arange(whole, len(dirty))
    out = np.concatenate((out, rest))
    changed: Array = out[dirty[out] != 0]
    return changed


def _largest(layout: Layout, mib: int) -> int:
    kind, width = layout.body
    row = np.dtype(layout.fields).itemsize + width * np.dtype(kind).itemsize + 1
    return max(layout.rows, most_rows(mib * (1 << 20) * layout.share, row)) if layout.share else layout.rows
