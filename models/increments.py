"""What one partition has taught about cohorts and the fleet, as numbers that add up: to be sent to the others, and kept.

*Increments* are what was learned since the last ones; *contributions* are all increments of a partition, summed. Both are the same kinds of
rows: counts of facts and bins of tails add as they are; a running mean is its weight and its sum, a variance the sum of squares as well. So
they can be added in any order, and what a partition has given can be counted without those of the others (a grow-only counter's idea,
with increments sent instead of states: Almeida, Shoker and Baquero 2018).

Weights that fade are forward-decayed from `begin`; who adds them to others converts by the difference of the two landmarks.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from models import state as st
from models.amounts import Z_FADE as FADE
from models.compiled import njit
from models.layout import describe, identify
from models.signals import N_NAMED
from models.table import Array

TAILS, COHORTS, FLEET = 0, 1, 2  # what a body is of
WIDTH = (st.HALF, st.PEER_WIDTH, st.ALL_BURST)
USUAL = 2 * N_NAMED * st.AGES  # columns of (sum, weight) of usual surprise, which do not fade; the others of a body do
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
REACH = 4.0  # half-lives: the budget fades eight times as fast as the rest, and its numbers must not overflow
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
    if (out.burst["at"] >= st.SCORE_BINS).any():
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


class Ledger:
    """Rows of numbers by key. When it is half full it forgets those that are 0, and grows."""

    def __init__(self, width: int, kind: str = "f4") -> None:
        self.key = np.zeros(1 << 8, np.uint64)
        self.x = np.zeros((1 << 8, width), kind)
        self.used = 0

    @property
    def keys(self) -> Array:
        """Those that have a row."""
        out: Array = self.key[self.key != 0]
        return out

    def slots(self, keys: Array) -> Array:
        """Where each key's row is; one that is new is 0."""
        if 2 * (self.used + len(keys)) > len(self.key):
            kept = (self.key != 0) & self.x.any(1)
            old, x = self.key[kept], self.x[kept]
            self.used = len(old)
            rows = 1 << int(2 * (self.used + len(keys))).bit_length()
            self.key, self.x = np.zeros(rows, np.uint64), np.zeros((rows, x.shape[1]), x.dtype)
            self.x[_places(self.key, old)[0]] = x
        at, fresh = _places(self.key, np.array(keys))
        self.used += fresh
        return at

    def of(self, keys: Array) -> Array:
        """The rows of these keys."""
        at = self.slots(keys)  # before the rows are looked at: it may make them anew
        out: Array = self.x[at]
        return out


class Contributions:
    """All that one partition has given."""

    def __init__(self) -> None:
        self.begin = self.watched = 0.0
        self.facts, self.amounts = Ledger(2), Ledger(4, "f8")
        self.bodies = tuple(Ledger(width) for width in WIDTH)

    def add(self, x: Increments) -> None:
        """Count increments, or a page."""
        self._reach(x.begin)
        factor = between(x.begin, self.begin)
        self.watched = max(self.watched, x.watched * of_budget(factor))
        at = self.facts.slots(x.facts["key"])
        np.add.at(self.facts.x, at, np.stack([x.facts["w"], x.facts["d"]], 1) * factor)
        at = self.amounts.slots(x.amounts["key"])
        np.add.at(self.amounts.x, at, np.stack([x.amounts[n] for n in "nsqa"], 1))
        for of, ledger in enumerate(self.bodies):
            keys, added = dense(x, of)
            at = ledger.slots(keys)
            np.add.at(ledger.x, at, added * fading(of, factor))

    def put(self, page: Increments, number: int, pages: int) -> None:
        """Take a page for what it is of: its rows are all there is, and as they are."""
        for ledger in (self.facts, self.amounts, *self.bodies):
            ledger.x[_on(ledger.key, number, pages)] = 0
        self.add(page)

    def page(self, number: int, pages: int) -> Increments:
        """One page of so many, each a part of the keys."""
        facts, amounts, rows = self.facts, self.amounts, []
        at = np.flatnonzero(_on(facts.key, number, pages))
        fact = np.zeros(len(at), FACT)
        fact["key"], fact["w"], fact["d"] = facts.key[at], facts.x[at, 0], facts.x[at, 1]
        at = np.flatnonzero(_on(amounts.key, number, pages))
        amount = np.zeros(len(at), AMOUNT)
        amount["key"] = amounts.key[at]
        for i, name in enumerate("nsqa"):
            amount[name] = amounts.x[at, i]
        for of, ledger in enumerate(self.bodies):
            at = np.flatnonzero(_on(ledger.key, number, pages))
            rows.append((of, ledger.key[at], ledger.x[at]))
        none = (np.zeros(0, kind) for kind in (CONTACT, OWNER, BURST))
        return Increments(self.begin, self.watched, 0.0, fact, amount, *bodies(rows), *none)

    def forget(self, before: float) -> None:
        """Let go of facts that weigh less than one event of that time."""
        self.facts.x[self.facts.x[:, 0] < between(before, self.begin)] = 0

    def rescale(self, begin: float) -> None:
        """Move the landmark."""
        factor = between(self.begin, begin)
        self.facts.x *= np.float32(factor)
        for of, ledger in enumerate(self.bodies):
            ledger.x[:] = ledger.x * fading(of, factor)
        self.watched *= of_budget(factor)
        self.begin = begin

    def _reach(self, begin: float) -> None:
        """The landmark of increments goes with time, and that of all of them follows: the numbers must not overflow."""
        if self.begin == 0.0:
            self.begin = begin
        elif begin - self.begin > REACH * st.HALF_LIFE:
            self.rescale(begin)


def together(given: Sequence[Increments]) -> Increments:
    """The sum of increments, with the landmark of the first."""
    total = Contributions()
    for x in given:
        total.add(x)
    out = total.page(0, 1)
    each = np.concatenate([x.amounts for x in given])
    at = out.amounts
    order = np.argsort(at["key"])
    mine = order[np.searchsorted(at["key"], each["key"], sorter=order)]
    at["t"] = -np.inf
    np.maximum.at(at["t"], mine, each["t"])
    np.add.at(at["z"], mine, each["z"] * np.exp(-np.minimum(at["t"][mine] - each["t"], 1e7) / FADE))
    contacts, owners = (np.concatenate(parts) for parts in zip(*((x.contacts, x.owners) for x in given), strict=True))
    return out._replace(contacts=contacts, owners=owners)


def between(of: float, at: float) -> float:
    """What a weight that fades from one landmark is worth at another; bounded, whatever a record says."""
    return float(2.0 ** min(70.0, max(-120.0, (of - at) / st.HALF_LIFE)))


def of_budget(factor: float) -> float:
    """The same of a weight of the budget, which fades faster."""
    return float(factor**st.BUDGET_POWER)


def fading(of: int, factor: float) -> Array:
    """The factor of each column of a body: what is usual does not fade."""
    out = np.full(WIDTH[of], factor)
    if of != TAILS:
        out[:USUAL] = 1.0
    if of == FLEET:
        out[st.ALL_BUDGET :] = of_budget(factor)
    return out


@cache
def shape() -> int:
    """A number that changes with what increments are made of: those of another cannot be added."""
    here = describe()
    rows = {t["name"]: [t["body"], t["sections"]] for t in here["tables"] if t["name"] in ("tails", "cohorts", "fleet")}
    kinds = [kind.descr for kind in KINDS]
    return identify({"bodies": rows, "kinds": kinds, "units": here["units"], "numbers": here["numbers"]})


def _on(keys: Array, number: int, pages: int) -> Array:
    """Which keys are on a page. The low bits of a key say where it is in a ledger, so others are taken."""
    return np.asarray((keys != 0) & ((keys >> np.uint64(40)) % np.uint64(pages) == np.uint64(number)))


def _finite(part: Array) -> bool:
    names = [name for name in part.dtype.names or () if part.dtype[name].kind == "f"]
    return all(bool(np.isfinite(part[name]).all()) for name in names)


@njit
def _places(table: Array, keys: Array) -> tuple[Array, int]:
    """Slots of keys in a table that is at most half full, taken for those that had none, and how many that were."""
    mask = np.uint64(len(table) - 1)
    out = np.empty(len(keys), np.int64)
    fresh = 0
    for n in range(len(keys)):
        i = keys[n] & mask
        while table[i] != keys[n]:
            if table[i] == np.uint64(0):
                table[i] = keys[n]
                fresh += 1
                break
            i = (i + np.uint64(1)) & mask
        out[n] = i
    return out, fresh
