"""Increments, summed: all that one partition has given, and what several have given since (`models.increments`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models import schema
from models.amounts import Z_FADE as FADE
from models.compiled import njit
from models.increments import (
    AMOUNT,
    BURST,
    CONTACT,
    FACT,
    OWNER,
    WIDTH,
    Increments,
    between,
    bodies,
    fade,
    fading,
    of_budget,
)
from models.table import Array

REACH = 4.0  # half-lives: the budget fades eight times as fast as the rest, and its numbers must not overflow
WAYS = 256  # into which a page is cut at most


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

    @property
    def row_bytes(self) -> int:
        """Bytes of a key and its numbers."""
        return int(self.key.itemsize + self.x.itemsize * self.x.shape[1])

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

    def keep(self, kept: Array) -> None:
        """Let go of all rows but these slots, and of the room that they took."""
        old, x = self.key[kept], self.x[kept]
        self.key, self.x = np.zeros(1 << 8, np.uint64), np.zeros((1 << 8, x.shape[1]), x.dtype)
        self.used = 0
        at = self.slots(old)  # before the rows are looked at: it may make them anew
        self.x[at] = x

    def count(self, keys: Array, added: Array) -> None:
        """Add to rows, some of them more than once."""
        at = self.slots(keys)  # before the rows are looked at: it may make them anew
        _add_rows(self.x, at, added)

    def of(self, keys: Array) -> Array:
        """The rows of these keys."""
        at = self.slots(keys)
        out: Array = self.x[at]
        return out


class Contributions:
    """All that one partition has given."""

    def __init__(self) -> None:
        self.begin = self.watched = 0.0
        self.facts, self.amounts = Ledger(2), Ledger(4, "f8")
        self.bodies = tuple(Ledger(width) for width in WIDTH)

    def add(self, *given: Increments) -> None:
        """Count increments, or pages."""
        for x in given:
            self._reach(x.begin)
        factors = np.array([between(x.begin, self.begin) for x in given])
        for x, factor in zip(given, factors.tolist(), strict=True):
            self.watched = max(self.watched, x.watched * of_budget(factor))
        facts, of = _joined([x.facts for x in given])
        self.facts.count(facts["key"], np.stack([facts["w"], facts["d"]], 1) * factors[of, None])
        rows, _ = _joined([x.amounts for x in given])
        self.amounts.count(rows["key"], np.stack([rows[n].astype(float) for n in "nsqa"], 1))
        heads, of = _joined([x.bodies for x in given])
        cells, _ = _joined([x.cells for x in given])
        for kind, ledger in enumerate(self.bodies):
            mine = heads["of"] == kind
            theirs = np.repeat(mine, heads["cells"])
            at = np.repeat(ledger.slots(heads["key"][mine]), heads["cells"][mine])
            factor = factors[np.repeat(of[mine], heads["cells"][mine])]
            column = cells["at"][theirs]
            _add_cells(ledger.x, at, column, cells["x"][theirs] * fade(kind, column, factor))

    def put(self, page: Increments, number: int, pages: int) -> None:
        """Take a page for what it is of: its rows are all there is, and as they are."""
        for ledger in (self.facts, self.amounts, *self.bodies):
            ledger.x[_on(ledger.key, number, pages)] = 0
        self.add(page)

    def page(self, number: int, pages: int) -> Increments:
        """One page of so many, each a part of the keys."""
        facts, amounts, rows = self.facts, self.amounts, []
        at = np.flatnonzero(_on(facts.key, number, pages))
        at = at[facts.x[at].any(1)]
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

    def sheets(self, number: int, pages: int, most: int) -> list[tuple[int, int, Increments]]:
        """One page of so many as (number, pages, that page): itself or, so that none has many more bytes, each page of it of a multiple of them."""
        page, ways = self.page(number, pages), 1
        out = [(number, pages, page)]
        while ways < WAYS and max(x.size for _, _, x in out) > most:
            ways *= 2
            out = [(n, pages * ways, _sheet(page, n, pages * ways)) for n in range(number, pages * ways, pages)]
        return out

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
        elif begin - self.begin > REACH * schema.HALF_LIFE:
            self.rescale(begin)


def together(given: Sequence[Increments]) -> Increments:
    """The sum of increments, with the landmark of the first."""
    total = Contributions()
    total.add(*given)
    out = total.page(0, 1)
    each, _ = _joined([x.amounts for x in given])
    at = out.amounts
    order = np.argsort(at["key"])
    mine = order[np.searchsorted(at["key"], each["key"], sorter=order)]
    at["t"] = -np.inf
    np.maximum.at(at["t"], mine, each["t"])
    np.add.at(at["z"], mine, each["z"] * np.exp(-np.minimum(at["t"][mine] - each["t"], 1e7) / FADE))
    contacts, owners = (_joined(parts)[0] for parts in ([x.contacts for x in given], [x.owners for x in given]))
    return out._replace(contacts=contacts, owners=owners)


def _sheet(page: Increments, number: int, pages: int) -> Increments:
    return page.where(lambda keys: _on(keys, number, pages))


def _on(keys: Array, number: int, pages: int) -> Array:
    """Which keys are on a page. The low bits of a key say where it is in a ledger, so others are taken."""
    return np.asarray((keys != 0) & ((keys >> np.uint64(40)) % np.uint64(pages) == np.uint64(number)))


def _joined(parts: Sequence[Array]) -> tuple[Array, Array]:
    """Arrays of one kind one after the other, and of which of them each row is."""
    rows = np.concatenate([np.ascontiguousarray(part).view(np.uint8) for part in parts])  # by name it takes far longer
    return rows.view(parts[0].dtype), np.repeat(np.arange(len(parts)), [len(part) for part in parts])


@njit
def _add_rows(x: Array, at: Array, added: Array) -> None:
    """Add each to its row; `numpy.add.at` takes ten times as long."""
    for i in range(len(at)):
        for j in range(x.shape[1]):
            x[at[i], j] += added[i, j]


@njit
def _add_cells(x: Array, at: Array, column: Array, added: Array) -> None:
    for i in range(len(at)):
        x[at[i], column[i]] += added[i]


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
