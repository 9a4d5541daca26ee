"""What one partition has taught about cohorts and the fleet, as numbers that add up: to be sent to the others, and kept (`models.contributions`).

*Increments* are what was learned since the last ones; *contributions* are all increments of a partition, summed. Both are the same kinds of
rows: counts of facts and bins of tails add as they are; a running mean is its weight and its sum, a variance the sum of squares as well. So
they can be added in any order, and what a partition has given can be counted without those of the others (a grow-only counter's idea,
with increments sent instead of states: Almeida, Shoker and Baquero 2018).

Weights that fade are forward-decayed from `begin`; who adds them to others converts by the difference of the two landmarks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from models import schema
from models.layout import describe, identify
from models.signals import N_NAMED
from models.table import Array

TAILS, COHORTS, FLEET = 0, 1, 2  # what a body is of
WIDTH = (schema.HALF, schema.PEER_WIDTH, schema.ALL_BURST)
# Columns of (sum, weight) of usual surprise, which do not fade; the others of a body do.
USUAL = 2 * N_NAMED * schema.AGES
FACT = np.dtype([("key", "<u8"), ("w", "<f4"), ("d", "<f4")])
# Observations, their sum, their sum of squares; agents; what is going on at present, at a time.
AMOUNT = np.dtype([("key", "<u8"), ("n", "<f4"), ("s", "<f4"), ("q", "<f4"), ("a", "<f4"), ("z", "<f4"), ("t", "<f8")])
BODY = np.dtype([("key", "<u8"), ("of", "u1"), ("cells", "<u2")])
CELL = np.dtype([("at", "<u2"), ("x", "<f4")])
# A party, one that it knows (half of the hash; 0: none that is new), when it was last active, and first met.
CONTACT = np.dtype([("party", "<u8"), ("other", "<u4"), ("t", "<f8"), ("first", "<f8")])
OWNER = np.dtype([("resource", "<u8"), ("principal", "<u4"), ("last", "<u4"), ("people", "u1")])
# Of the budget: episodes of about a day that have reached a step.
BURST = np.dtype([("at", "<u2"), ("x", "<f4")])
KINDS = (FACT, AMOUNT, BODY, CELL, CONTACT, OWNER, BURST)
_HEAD = struct.Struct("<ddd7I")


class Increments(NamedTuple):
    """Arrays of the dtypes above. `watched` is how much time the sender has seen pass, forward-decayed as the budget; `at` is the time of `burst`."""

    begin: float
    watched: float
    at: float
    facts: Array
    amounts: Array
    bodies: Array
    cells: Array  # of the bodies, one after the other; the others are 0
    contacts: Array
    owners: Array
    burst: Array

    @property
    def rows(self) -> int:
        """How many rows it has; 0: nothing was learned."""
        return sum(len(part) for part in self[3:])

    def dump(self) -> bytes:
        """As bytes."""
        parts = self[3:]
        return _HEAD.pack(self.begin, self.watched, self.at, *map(len, parts)) + b"".join(
            part.tobytes() for part in parts
        )

    @property
    def size(self) -> int:
        """Bytes of `dump`."""
        return _HEAD.size + sum(part.nbytes for part in self[3:])

    def cut(self, most: int) -> list[Increments]:
        """Of about so many bytes each; what has room in one is one. A body keeps its cells."""
        if self.size <= most:
            return [self]
        parts = [self.facts, self.amounts, self.bodies, self.contacts, self.owners, self.burst]
        sizes = [np.full(len(part), part.dtype.itemsize) for part in parts]
        sizes[2] += CELL.itemsize * self.bodies["cells"].astype(np.int64)
        each = np.concatenate(sizes)
        piece = (np.cumsum(each) - each) // most  # in which each row begins
        begins = np.cumsum([0, *map(len, parts)])
        ends = np.concatenate(([0], np.cumsum(self.bodies["cells"], dtype=np.int64)))
        out = []
        for number in np.unique(piece):
            low, high = np.searchsorted(piece, (number, number + 1))
            mine = [slice(max(0, low - begin), max(0, high - begin)) for begin in begins[:-1]]
            facts, amounts, heads, contacts, owners, burst = (x[at] for x, at in zip(parts, mine, strict=True))
            at = min(mine[2].start, len(self.bodies))
            cells = self.cells[ends[at] : ends[at + len(heads)]]
            out.append(Increments(*self[:3], facts, amounts, heads, cells, contacts, owners, burst))
        return out

    def where(self, on: Callable[[Array], Array]) -> Increments:
        """Of facts, amounts and bodies those whose keys are `on`."""
        heads = on(self.bodies["key"])
        cells = self.cells[np.repeat(heads, self.bodies["cells"])]
        facts, amounts = self.facts[on(self.facts["key"])], self.amounts[on(self.amounts["key"])]
        return self._replace(facts=facts, amounts=amounts, bodies=self.bodies[heads], cells=cells)


def load(data: bytes) -> Increments:
    """Those of `dump`. Raises `ValueError` if they cannot be."""
    if len(data) < _HEAD.size:
        raise ValueError("shorter than a header")
    begin, watched, burst_at, *counts = _HEAD.unpack_from(data)
    if len(data) != _HEAD.size + sum(n * kind.itemsize for n, kind in zip(counts, KINDS, strict=True)):
        raise ValueError("not as long as it says")
    at, parts = _HEAD.size, []
    for n, kind in zip(counts, KINDS, strict=True):
        parts.append(np.frombuffer(data, kind, n, at))
        at += n * kind.itemsize
    out = Increments(begin, watched, burst_at, *parts)
    widths = np.array(WIDTH)
    if (out.bodies["of"] >= len(WIDTH)).any() or int(out.bodies["cells"].sum()) != len(out.cells):
        raise ValueError("bodies that cannot be")
    if (out.cells["at"] >= np.repeat(widths[out.bodies["of"]], out.bodies["cells"])).any():
        raise ValueError("a column that is not there")
    if (out.burst["at"] >= schema.SCORE_BINS).any():
        raise ValueError("a step that is not there")
    if not (np.isfinite([begin, watched, burst_at]).all() and all(_finite(part) for part in parts)):
        raise ValueError("numbers that are none")
    return out


def bodies(rows: list[tuple[int, Array, Array]]) -> tuple[Array, Array]:
    """Bodies and cells of (what they are of, keys, what was added to each column)."""
    heads, cells = [], []
    for of, keys, added in rows:
        at, columns = np.nonzero(added)
        counts = np.bincount(at, minlength=len(keys))
        head = np.zeros(len(keys), BODY)
        head["key"], head["of"], head["cells"] = keys, of, counts
        heads.append(head[counts > 0])
        cell = np.zeros(len(at), CELL)
        cell["at"], cell["x"] = columns, added[at, columns]
        cells.append(cell)
    return np.concatenate(heads), np.concatenate(cells)


def dense(x: Increments, of: int) -> tuple[Array, Array]:
    """The keys of the bodies of one kind, and what is added to each column."""
    rows = np.flatnonzero(x.bodies["of"] == of)
    out = np.zeros((len(rows), WIDTH[of]))
    mine = np.repeat(x.bodies["of"] == of, x.bodies["cells"])
    cells = x.cells[mine]
    out[np.repeat(np.arange(len(rows)), x.bodies["cells"][rows]), cells["at"]] = cells["x"]
    return x.bodies["key"][rows], out


def between(of: float, at: float) -> float:
    """What a weight that fades from one landmark is worth at another; bounded, whatever a record says."""
    return float(2.0 ** min(70.0, max(-120.0, (of - at) / schema.HALF_LIFE)))


def of_budget(factor: float) -> float:
    """The same of a weight of the budget, which fades faster."""
    return float(factor**schema.BUDGET_POWER)


def fading(of: int, factor: float) -> Array:
    """The factor of each column of a body: what is usual does not fade."""
    return fade(of, np.arange(WIDTH[of]), np.full(WIDTH[of], factor))


def fade(of: int, column: Array, factor: Array) -> Array:
    """The factor of columns of bodies, each by its own."""
    if of == TAILS:
        return factor
    out = np.where(column < USUAL, 1.0, factor)
    return np.where(column >= schema.ALL_BUDGET, factor**schema.BUDGET_POWER, out) if of == FLEET else out


@cache
def shape() -> int:
    """A number that changes with what increments are made of: those of another cannot be added."""
    here = describe()
    rows = {t["name"]: [t["body"], t["sections"]] for t in here["tables"] if t["name"] in ("tails", "cohorts", "fleet")}
    kinds = [kind.descr for kind in KINDS]
    return identify({"bodies": rows, "kinds": kinds, "units": here["units"], "numbers": here["numbers"]})


def _finite(part: Array) -> bool:
    names = [name for name in part.dtype.names or () if part.dtype[name].kind == "f"]
    return all(bool(np.isfinite(part[name]).all()) for name in names)
