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
from models.signals import AGAIN, FACTS, N_AGAIN, N_NAMED, N_POOLS, N_TAILS, POOLS, TAILS
from models.table import Array, Space, most_rows, numbers, reindex

HALF_LIFE = 60 * 86400.0  # seconds: a scope unused for two months counts half
POWERS = 12  # agents are compared at the same age: the power of two of the events seen,
AGES = 2 * POWERS  # of those that were there from the start, and of those that came to a fleet that ran
BINS = 64  # of a tail
HALF = BINS // 2  # of them in a row
TAIL_SCALE = 8.0  # bins per doubling of 1 + x
SCORE_BINS = 512  # of the alert budget, half a bit each
BUDGET_POWER = 8.0  # of a weight that halves in 60 days: the budget's halves in a week
START = 40  # half bits: the alert threshold until scores have been seen
RING = 32  # contacts of a party; days of a level
USUAL = 8  # values remembered by name for each fact of an agent
TEXT = 64  # bytes of a name
LEADERS = 64
WINDOW_SUMS = 6
HALF_HOURS = 48  # of a day; a profile holds weekdays, then weekends
HOURS = 48  # of weekdays, then of weekends
PIECE = 1 << 17  # bytes
FEW = 1 << 14  # rows up to which what lasts for hours may grow whenever it is full
_MANY = 1 << 20  # rows from which on a table grows by an eighth: room that is not used costs index
# Marks of a changed row, beside the 1 that each has: other partitions are to know; a verdict took from it (`models.exchange`).
SHARED, TAKEN = 2, 4
TOO_FAR = 64.0  # half-lives after which weights are scaled down, long before a float overflows

# Columns of an agent's body and of a cohort's.
OWN_TAILS = 2 * N_NAMED  # behind the usual surprises
OWN_HOURS = OWN_TAILS + N_TAILS
OWN_WINDOW = OWN_HOURS + 2 * HALF_HOURS
OWN_AGAIN = OWN_WINDOW + WINDOW_SUMS
OWN_POOLS = OWN_AGAIN + N_AGAIN
OWN_WIDTH = OWN_POOLS + N_POOLS
PEER_TAILS = 2 * N_NAMED * AGES
PEER_HOURS = PEER_TAILS + N_TAILS
PEER_WIDTH = PEER_HOURS + 2 * HALF_HOURS
# Columns of the fleet's body.
ALL_TAILS = 2 * N_NAMED * AGES
ALL_HISTOGRAMS = ALL_TAILS + N_TAILS
ALL_BUDGET = ALL_HISTOGRAMS + N_TAILS * BINS
ALL_BURST = ALL_BUDGET + SCORE_BINS + 1  # the same, of about a day
ALL_WIDTH = ALL_BURST + SCORE_BINS

K = ("key", "u8")


class Section(NamedTuple):
    """A part of a body: `width` numbers for each of these, by name, so that what is stored can be read when others have come between."""

    name: str
    of: tuple[str, ...]
    width: int


class Layout(NamedTuple):
    """One kind of table: its fields, the array of each row, its size at birth and its share of the memory."""

    name: str
    fields: list[tuple[str, str]]
    body: tuple[str, int]
    rows: int
    share: float
    ages: bool  # `w` is a forward-decayed count, else the time of last use
    lasts: float  # days after which an unused row may go when the table fills up
    sections: tuple[Section, ...] = ()  # of the body, in their order, where it has several
    part: str = ""  # what a mark of a part says: that only the count changed, or of the body the first so many, the last of a ring or the one
    alike: bool = False  # numbers of a body that follow on each other are mostly equal


_NAMED, _TAILS, _ALL = tuple(s.name for s in FACTS[:N_NAMED]), tuple(s.name for s in TAILS), ("",)
_OWN = (Section("usual", _NAMED, 2), Section("tails", _TAILS, 1), Section("hours", _ALL, 2 * HALF_HOURS), Section("window", _ALL, WINDOW_SUMS), Section("again", tuple(AGAIN), 1), Section("pools", tuple(POOLS), 1))  # fmt: skip
_PEERS = (Section("usual", _NAMED, 2 * AGES), Section("tails", _TAILS, 1), Section("hours", _ALL, 2 * HALF_HOURS))
_FLEET = (Section("usual", _NAMED, 2 * AGES), Section("tails", _TAILS, 1), Section("histograms", _TAILS, BINS), Section("said", _ALL, SCORE_BINS + 1), Section("burst", _ALL, SCORE_BINS))  # fmt: skip

LAYOUTS = (
    # (attribute, context, fleet | cohort | agent) → total and distinct values; the same and a value → its count, and what a verdict adds
    Layout("facts", [K, ("w", "f4"), ("d", "f4")], ("u1", 0), 1 << 16, 0.385, ages=True, lasts=360, part="count"),
    # (amount, tool, cohort | agent) → mean, variance, cumulative sum, how the peers do, a verdict's ceiling
    Layout("amounts", [K, ("w", "f4"), ("t", "f8"), ("n", "f4"), ("m", "f4"), ("v", "f4"), ("s", "f4"), ("z", "f4"), ("a", "f4"), ("last", "f8"), ("beats", "f4"), ("gap", "f4"), ("gap_off", "f4"), ("never", "f4")], ("u1", 0), 1 << 12, 0.12, ages=False, lasts=180),
    # (signal, cohort | agent) → weight at or above each bin; a second row holds the upper half, where there is any
    Layout("tails", [K, ("w", "f4")], ("f4", HALF), 1 << 8, 0.06, ages=False, lasts=360, part="first", alike=True),
    Layout("agents", [K, ("w", "f8"), ("seen", "f8"), ("first", "f8"), ("began", "f8"), ("calls", "f4"), ("begin", "f8"), ("kept", "f8"), ("peak", "f4"), ("loud", "f4"), ("first_own", "f4"), ("second_own", "f4"), ("third_own", "f4"), ("serious", "u1"), ("night", "f4"), ("night_at", "f8"), ("novel_at", "f8"), ("version", "u8"), ("left", "u8"), ("since", "f8"), ("leader", "u8"), ("entity", "u8"), ("kind", "u8"), ("kind_left", "u8"), ("kind_since", "f8"), ("lift", "f4"), ("usual_at", "f8"), ("missed", "f4"), ("moved_at", "f8"), ("moved_for", "f4"), ("strangers", "f4"), ("strangers_usual", "f4"), ("strangers_at", "f8")], ("f4", OWN_WIDTH), 1 << 6, 0.04, ages=False, lasts=360, sections=_OWN),
    Layout("cohorts", [K, ("w", "f8"), ("agents", "f4")], ("f4", PEER_WIDTH), 1 << 5, 0.01, ages=False, lasts=360, sections=_PEERS),
    # (agent, session) → last tool, highest class read and how much of it, highest score
    Layout("sessions", [K, ("w", "f8"), ("tool", "u8"), ("ordinary", "u8"), ("top", "i2"), ("records", "f4"), ("peak", "f4")], ("u1", 0), 1 << 10, 0.02, ages=False, lasts=1),
    # (session, tool) → calls
    Layout("calls", [K, ("w", "f8"), ("n", "f4")], ("u1", 0), 1 << 10, 0.08, ages=False, lasts=1),
    # resource → the first and the last principal that it was touched for, in which session (half of the hashes), how often another came
    Layout("owners", [K, ("w", "f4"), ("principal", "u4"), ("last", "u4"), ("session", "u4"), ("people", "u1")], ("u1", 0), 1 << 12, 0.10, ages=False, lasts=60),
    # party → the last parties that it wrote to or heard from (half of the hashes)
    Layout("contacts", [K, ("w", "f8"), ("first", "f8"), ("n", "u4")], ("u4", RING), 1 << 8, 0.05, ages=False, lasts=180, part="last"),
    # (agent, attribute) → its most used values, and what they are called
    Layout("profiles", [K, ("w", "f4")], ("u8", USUAL), 1 << 8, 0.03, ages=False, lasts=360, part="one"),
    Layout("names", [K, ("w", "f4"), ("length", "u1")], ("u1", TEXT), 1 << 10, 0.02, ages=False, lasts=360),
    # agent | cohort → its amounts day by day
    Layout("levels", [K, ("w", "f8"), ("n", "u4"), ("day", "i8"), ("sum", "f8"), ("shifted", "f8")], ("f4", RING), 1 << 7, 0.01, ages=False, lasts=360),
    # (agent, tool), where its calls come on a beat → level, ranges of its errors; per hour the deviation from the level, then how often it was seen
    Layout("rhythms", [K, ("w", "f8"), ("first", "f8"), ("level", "f8"), ("n", "f4"), ("plain", "f4"), ("shaped", "f4"), ("low", "f4"), ("high", "f4"), ("mean", "f4"), ("mean_low", "f4"), ("mean_high", "f4")], ("f4", 2 * HOURS), 1 << 5, 0.01, ages=False, lasts=180, alike=True),
    # (cohort, agent's hash) → an agent that lately moved more than usual, and how much more
    Layout("lifts", [K, ("w", "f8"), ("agent", "u8"), ("lift", "f4")], ("u1", 0), 1 << 5, 0.005, ages=False, lasts=3),
    # (agent, permission | tool) → when it was last used, on how many days the agent had worked by then; when it was last dormant, for how many days
    Layout("uses", [K, ("w", "f4"), ("days", "u4"), ("woke", "f4"), ("slept", "f4")], ("u1", 0), 1 << 10, 0.03, ages=False, lasts=360),
    # the agents that those without a type are compared with, since when
    Layout("leaders", [K, ("w", "f8")], ("u1", 0), LEADERS, 0.0, ages=False, lasts=0),
    # the rows of facts (0), amounts (1) and cohorts (2) to which other partitions add (`models.exchange`)
    Layout("shared", [K, ("w", "f8"), ("of", "u1")], ("u1", 0), 1 << 6, 0.03, ages=False, lasts=360),
    # ids of the last events: a repeated one is scored and not learned again
    Layout("recent", [K], ("u1", 0), 1 << 16, 0.0, ages=False, lasts=0),
    Layout("fleet", [K, ("w", "f8"), ("begin", "f8"), ("since", "f8"), ("clock", "f8"), ("ahead", "f8"), ("ahead_from", "f8"), ("doubted", "u8"), ("times", "i8"), ("tau", "f8"), ("watched", "f8"), ("burst_at", "f8"), ("bin", "i8"), ("events", "f8"), ("late", "i8"), ("skewed", "i8"), ("repeated", "i8")], ("f8", ALL_WIDTH), 1, 0.0, ages=False, lasts=0, sections=_FLEET),
)  # fmt: skip
TABLES = tuple(layout.name for layout in LAYOUTS)
GROWING = tuple(i for i, layout in enumerate(LAYOUTS) if layout.share > 0)


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
        """Make room in one table: rows unused for long go, and if that frees too little it gets a quarter more of them, or an eighth where there are a million."""
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
