"""What a partition has last seen of what it shares with others: an increment is what a row has gained since (`models.exchange`)."""

from __future__ import annotations

import numpy as np

from models import merge, schema
from models import state as st
from models.contributions import Ledger
from models.increments import COHORTS, FLEET, TAILS, WIDTH, between, fading, of_budget
from models.state import SHARED, State, Table, marked
from models.table import Array

FACT_ROW, AMOUNT_ROW, COHORT_ROW = 0, 1, 2


class Seen:
    """Rows of facts (weight, distinct values), amounts (n, mean, variance, sum, its time, agents), and of each kind of body; when parties were
    last active; the episodes of about a day; how much time has passed, here and as others saw it."""

    def __init__(self) -> None:
        self.begin = self.watched = self.elsewhere = 0.0
        self.forget()

    def forget(self) -> None:
        """See no row any more."""
        self.facts, self.amounts, self.active = Ledger(2), Ledger(6, "f8"), Ledger(1, "f8")
        self.bodies = (Ledger(WIDTH[TAILS]), Ledger(WIDTH[COHORTS]), Ledger(WIDTH[FLEET], "f8"))
        self.burst, self.burst_at = np.zeros(schema.SCORE_BINS), 0.0
        self.looked = 0  # rows of facts when all was looked at

    def follow(self, begin: float) -> None:
        """Follow the state's landmark, which has moved with all that fades (`State.rescale`)."""
        factor = between(self.begin, begin)
        if factor < 2.0 ** (-st.TOO_FAR / 2):
            self.facts.x *= np.float32(factor)
            for of, ledger in enumerate(self.bodies):
                ledger.x[:] = ledger.x * fading(of, factor)
            self.watched *= of_budget(factor)
            self.elsewhere *= of_budget(factor)
        self.begin = begin

    def clear(self) -> None:
        """See every shared row as empty."""
        for ledger in (self.facts, self.amounts, *self.bodies):
            ledger.x[:] = 0.0

    def see_active(self, state: State) -> None:
        """See when each party was last active."""
        known = state["contacts"].head
        known = known[known["key"] != 0]
        slots = self.active.slots(known["key"])
        self.active.x[slots, 0] = known["w"]

    def see_amounts(self, state: State, at: Array, keys: Array) -> None:
        """See amounts as they are now."""
        head = state["amounts"].head[at]
        slots = self.amounts.slots(keys)
        self.amounts.x[slots] = np.stack([head[name].astype(float) for name in ("n", "m", "v", "z", "t", "a")], 1)

    def see_burst(self, state: State) -> None:
        """See the episodes of about a day as they are now."""
        self.burst = state["fleet"].body[0, schema.ALL_BURST :].copy()
        self.burst_at = float(state.fleet["burst_at"])


def remember(state: State, kind: int, keys: Array) -> None:
    """Which rows are shared is part of the state: after a restart nobody could tell from a key."""
    state.reserve("shared", len(keys))
    t = state["shared"]
    merge.remember(t.head, t.dirty, t.tally, np.array(keys), kind, float(state.fleet["clock"]))


def take_marked(t: Table, *, forget: bool = True) -> Array:
    """Slots that others are to know of; the mark is taken from them. A row may have gone since it was marked."""
    at = marked(t.dirty)
    at = at[(t.dirty[at] & SHARED) > 0]
    if forget:
        t.dirty[at] &= ~np.uint8(SHARED)
    out: Array = at[t.head["key"][at] != 0]
    return out
