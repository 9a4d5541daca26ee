"""Cohort knowledge across partitions: what this one's agents have taught of their cohorts and the fleet, and what the others' have.

An agent's events are in one partition, its cohort's in all. What is known at the levels above an agent (counts of facts, tails, hours, usual
surprises, amounts, the budget's histogram) adds up, so each partition gives the others its increments, and adds theirs to its own rows: then
every row is what one process would know, but for what is still under way. Beside counts go: which agents there are, and that one has
written to another, so that a relay is seen where the second is judged; who knows whom, and when a party was last active (to six hours);
and for whom a resource was touched. All partitions then have one threshold, for the whole budget.

The loop marks the shared rows that it changes (`state.SHARED`); everything else is done here, between two batches. What was last seen of a
row is remembered, and an increment is what it has gained since. With one partition none of this exists.

A row that gave way and came again has gained what it now holds. What a partition has given of rows that gave way is let go with them: who puts
together anew what is shared has it no longer. What a verdict took back is taken from what this partition has given,
never from what others have. Counts of the same value first seen in two partitions at once are two; running means of more than their memory's
worth of observations take what others add as one step.

What it misses: who of a cohort lately moved more than usual (`models.change`) beyond the partition; agents without a type, whose cohorts are found within a partition; the daily amounts of a cohort; τ, which each partition
has of its own; that an agent was an agent before its first event; of `strayline reset`, that the agent's acquaintances are no longer counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from models import merge, parties, schema, usual
from models.acquaintance import add_contacts, add_owners, export_contacts, export_owners, note
from models.contributions import Contributions, together
from models.counts import add_bursts, add_facts, add_tails, export_burst, export_facts, export_tails
from models.increments import COHORTS, FLEET, TAILS, Increments, between, bodies, dense, fading, of_budget
from models.means import add_amounts, export_amounts, gained, pool
from models.seen import AMOUNT_ROW, COHORT_ROW, FACT_ROW, Seen, remember, take_marked
from models.state import State
from models.table import Array

LASTS = 360 * 86400.0  # seconds after which a fact that was seen once is no longer kept for others
SPARE = 1 << 20  # bytes of rows that may have been given though they are gone, beside a quarter of those that are there
MANY = 1 << 16  # rows that may be remembered though they are gone
FLEET_KEY = np.array([parties.fleet_entity()], np.uint64)


class Exchange:
    """What a partition has given and taken, beside its state. `export`, then `add`, between two batches.

    Parameters
    ----------
    state
        As it was after an `export` and the `add`s that followed, or empty: nothing of it is to be given again.
    own
        What this partition has given in all.

    """

    def __init__(self, state: State, own: Contributions | None = None) -> None:
        self.state = state
        self.own = own or Contributions()
        self.seen = Seen()
        self.seen.begin = float(state.fleet["begin"])
        # Where neither is so, what it knows was learned before there was anybody to tell: it is to be given.
        if self.own.begin or state["shared"].tally[0]:
            self.seen.watched = self.seen.elsewhere = float(state.fleet["watched"])
            self._look()

    def export(self) -> Increments:
        """What was learned since the last call, here."""
        self.seen.follow(float(self.state.fleet["begin"]))
        note(self.state, self.seen.begin)
        # Days do not add up: others have seen the same time pass. So each counts its own, and the most that anyone has seen is true.
        fleet = self.state.fleet
        watched = (
            self.own.watched * of_budget(between(self.own.begin, self.seen.begin))
            + float(fleet["watched"])
            - self.seen.watched
        )
        fleet["watched"] = self.seen.watched = max(watched, self.seen.elsewhere)
        # What is sent has a landmark of its own, not long ago: what fades fast would overflow otherwise.
        ago = max(0, int((float(fleet["clock"]) - self.seen.begin) // schema.HALF_LIFE))
        scale = 2.0**-ago
        clusters = self._changed_cohorts()
        facts = export_facts(self.state, self.seen, self.own)
        facts["w"] *= np.float32(scale)
        facts["d"] *= np.float32(scale)
        rows = [export_tails(self.state, self.seen, clusters), self._export_cohorts(clusters), self._export_fleet()]
        out = Increments(
            self.seen.begin + ago * schema.HALF_LIFE,
            watched * of_budget(scale),
            float(fleet["burst_at"]),
            facts,
            export_amounts(self.state, self.seen),
            *bodies([(of, keys, more * fading(of, scale)) for of, keys, more in rows]),
            export_contacts(self.state, self.seen),
            export_owners(self.state),
            export_burst(self.state, self.seen),
        )
        self.own.add(out)
        self._let_go()
        if self.seen.facts.used > 2 * self.seen.looked + MANY:
            self.seen.forget()  # of rows that are gone; all that is there has been given
            self._look()
        return out

    def sheets(self, number: int, pages: int, most: int) -> list[tuple[int, int, Increments]]:
        """One page of what this partition has given in all, without what has long faded, in as many as it takes (`Contributions.sheets`)."""
        self.own.forget(float(self.state.fleet["clock"]) - LASTS)
        return self.own.sheets(number, pages, most)

    def add(self, given: Sequence[Increments], alerts_per_day: float) -> None:
        """Add what other partitions have learned, in one step: so it does not matter whose came first.

        Nothing may have been learned here since `export`.
        """
        if not given:
            return
        self.seen.follow(float(self.state.fleet["begin"]))
        x = given[0] if len(given) == 1 else together(given)
        if self.state.fleet["events"] == 0 and self.state.fleet["begin"] == 0.0:
            # Nothing was learned here yet: any landmark will do, and the sender's needs no conversion.
            self.state.fleet["begin"] = self.state.fleet["since"] = self.state.fleet["clock"] = x.begin
            self.seen.begin = x.begin
        # Who is a newcomer is told by when the fleet began, wherever that was: an agent's first event may be its partition's.
        self.state.fleet["since"] = min(float(self.state.fleet["since"]), *(one.begin for one in given))
        factor = between(x.begin, self.seen.begin)
        add_facts(self.state, self.seen, x.facts, factor)
        add_amounts(self.state, self.seen, x.amounts)
        add_tails(self.state, self.seen, *dense(x, TAILS), factor)
        self._add_cohorts(*dense(x, COHORTS), factor)
        self._add_fleet(*dense(x, FLEET), factor)
        fleet = self.state.fleet
        self.seen.elsewhere = max(self.seen.elsewhere, x.watched * of_budget(factor))
        fleet["watched"] = self.seen.watched = max(self.seen.watched, self.seen.elsewhere)
        add_contacts(self.state, self.seen, x.contacts)
        add_owners(self.state, x.owners)
        now = 2.0 ** ((float(fleet["clock"]) - self.seen.begin) / schema.HALF_LIFE)
        add_bursts(self.state, given)
        merge.settle(self.state["fleet"].head, self.state["fleet"].body[0], now, alerts_per_day)
        self.seen.see_burst(self.state)

    def restore(self, given: Iterable[Contributions], alerts_per_day: float) -> None:
        """Put together anew all that is shared, from what each partition has given, this one included."""
        self.seen.follow(float(self.state.fleet["begin"]))
        self._clear()
        self.add([each.page(0, 1) for each in given if each.begin], alerts_per_day)

    def _let_go(self) -> None:
        """What this partition has given in all has the bounds of its tables: what gave way there need not be told to who puts it together anew.

        No other rows may go. Where that one is shared gave way, what was given of it is how a restart knows that it was.
        """
        own = self.own
        for ledger, table in (
            (own.facts, "facts"),
            (own.amounts, "amounts"),
            (own.bodies[TAILS], "tails"),
            (own.bodies[COHORTS], "cohorts"),
        ):
            t = self.state[table]
            if ledger.used > t.tally[0] * 5 // 4 + SPARE // ledger.row_bytes:
                slots = np.flatnonzero(ledger.key)
                ledger.keep(slots[merge.find_all(t.head, ledger.key[slots]) >= 0])

    def _changed_cohorts(self) -> Array:
        t = self.state["cohorts"]
        keys = t.head["key"][take_marked(t)]
        remember(self.state, COHORT_ROW, keys)
        return keys

    def _export_cohorts(self, keys: Array) -> tuple[int, Array, Array]:
        t = self.state["cohorts"]
        at = merge.find_all(t.head, keys)
        return COHORTS, keys, gained(self.seen.bodies[COHORTS], keys, t.body, at, usual.MEMORY_COHORT)

    def _add_cohorts(self, keys: Array, added: Array, factor: float) -> None:
        self.state.reserve("cohorts", len(keys))
        t = self.state["cohorts"]
        clock, new = float(self.state.fleet["clock"]), merge.find_all(t.head, keys) < 0
        at = merge.claim_bodies(t.head, t.body, t.dirty, t.tally, keys, clock)
        t.head["since"][at[new]] = clock
        pool(self.seen.bodies[COHORTS], keys, added, t.body, at, usual.MEMORY_COHORT, fading(COHORTS, factor))
        remember(self.state, COHORT_ROW, keys)

    def _export_fleet(self) -> tuple[int, Array, Array]:
        body = self.state["fleet"].body[:, : schema.ALL_BURST]
        return (
            FLEET,
            FLEET_KEY,
            gained(self.seen.bodies[FLEET], FLEET_KEY, body, np.zeros(1, np.int64), usual.MEMORY_FLEET),
        )

    def _add_fleet(self, keys: Array, added: Array, factor: float) -> None:
        if len(keys):
            at, body = np.zeros(1, np.int64), self.state["fleet"].body[:, : schema.ALL_BURST]
            pool(self.seen.bodies[FLEET], FLEET_KEY, added, body, at, usual.MEMORY_FLEET, fading(FLEET, factor))

    def _shared(self, kind: int, table: str) -> tuple[Array, Array]:
        """Keys of the shared rows of a table, and where they are. Where that a row is shared gave way, it may have been given from here."""
        t = self.state["shared"]
        given = (self.own.facts, self.own.amounts, self.own.bodies[COHORTS])[kind].keys
        keys = np.union1d(t.head["key"][(t.head["key"] != 0) & (t.head["of"] == kind)], given)
        at = merge.find_all(self.state[table].head, keys)
        return keys[at >= 0], at[at >= 0]

    def _look(self) -> None:
        """See everything that is shared as it is now."""
        self.seen.see_active(self.state)
        keys, at = self._shared(FACT_ROW, "facts")
        head = self.state["facts"].head[at]
        slots = self.seen.facts.slots(keys)
        self.seen.facts.x[slots] = np.stack([head["w"], head["d"]], 1)
        self.seen.looked = self.seen.facts.used
        keys, at = self._shared(AMOUNT_ROW, "amounts")
        self.seen.see_amounts(self.state, at, keys)
        for of, (keys, body, _, at) in enumerate(self._all_bodies()):
            slots = self.seen.bodies[of].slots(keys)
            self.seen.bodies[of].x[slots] = body[at]
        self.seen.see_burst(self.state)

    def _clear(self) -> None:
        """Make everything that is shared empty, but for what was loud of late: nobody keeps what others gave of that."""
        for kind, table, fields in ((FACT_ROW, "facts", "wd"), (AMOUNT_ROW, "amounts", ("n", *"mvaz", "beats"))):
            t = self.state[table]
            _, at = self._shared(kind, table)
            t.dirty[at] |= 1
            for name in fields:
                t.head[name][at] = 0.0
        for _, body, dirty, at in self._all_bodies():
            body[at] = 0.0
            dirty[at] |= 1
        self.seen.clear()

    def _all_bodies(self) -> list[tuple[Array, Array, Array, Array]]:
        """Keys, bodies, marks and slots of the tails of cohorts, of cohorts, and of the fleet."""
        cohorts, t, fleet = self.state["cohorts"], self.state["tails"], self.state["fleet"]
        clusters, at = self._shared(COHORT_ROW, "cohorts")
        keys, slots = merge.tails_of(t.head, clusters)
        return [
            (keys[slots >= 0], t.body, t.dirty, slots[slots >= 0]),
            (clusters, cohorts.body, cohorts.dirty, at),
            (FLEET_KEY, fleet.body[:, : schema.ALL_BURST], fleet.dirty, np.zeros(1, np.int64)),
        ]
