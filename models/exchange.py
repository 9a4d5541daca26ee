"""Cohort knowledge across partitions: what this one's agents have taught of their cohorts and the fleet, and what the others' have.

An agent's events are in one partition, its cohort's in all. What is known at the levels above an agent (counts of facts, tails, hours, usual
surprises, amounts, the budget's histogram) adds up, so each partition gives the others its increments, and adds theirs to its own rows: then
every row is what one process would know, but for what is still under way. Beside counts go: which agents there are, and that one has
written to another, so that a relay is seen where the second is judged; who knows whom, and when a party was last active (to six hours);
and for whom a resource was touched. All partitions then have one threshold, for the whole budget.

The loop marks the shared rows that it changes (`state.SHARED`); everything else is done here, between two batches. What was last seen of a
row is remembered, and an increment is what it has gained since. With one partition none of this exists.

A row that gave way and came again has gained what it now holds. What a verdict took back is taken from what this partition has given,
never from what others have. Counts of the same value first seen in two partitions at once are two; running means of more than their memory's
worth of observations take what others add as one step.

What it misses: who of a cohort lately moved more than usual (`models.change`) beyond the partition; agents without a type, whose cohorts are found within a partition; the daily amounts of a cohort; τ, which each partition
has of its own; that an agent was an agent before its first event; of `strayline reset`, that the agent's acquaintances are no longer counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from models import amounts, budget, merge, parties, usual
from models import state as st
from models.increments import (
    AMOUNT,
    BURST,
    COHORTS,
    CONTACT,
    FACT,
    FLEET,
    OWNER,
    TAILS,
    USUAL,
    WIDTH,
    Contributions,
    Increments,
    Ledger,
    between,
    bodies,
    dense,
    fading,
    of_budget,
    together,
)
from models.state import SHARED, TAKEN, State, Table, marked
from models.table import Array

FACT_ROW, AMOUNT_ROW, COHORT_ROW = 0, 1, 2
LASTS = 360 * 86400.0  # seconds after which a fact that was seen once is no longer kept for others
TOLD = 6 * 3600.0  # seconds after which others are told again that a party is active
MANY = 1 << 16  # rows that may be remembered though they are gone
LEAST = 1e-3  # episodes: less is no episode, but what rounding leaves
REBASE = 1e5  # events: far beyond what a running mean remembers, and as far from where a float no longer counts
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
        self._begin = float(state.fleet["begin"])
        self._watched = self._elsewhere = 0.0  # how much time has passed, as of the last export; and as others saw it
        self._forget()
        # Where neither is so, what it knows was learned before there was anybody to tell: it is to be given.
        if self.own.begin or state["shared"].tally[0]:
            self._watched = self._elsewhere = float(state.fleet["watched"])
            self._look()

    def export(self) -> Increments:
        """What was learned since the last call, here."""
        self._align()
        self._note()
        # Days do not add up: others have seen the same time pass. So each counts its own, and the most that anyone has seen is true.
        fleet = self.state.fleet
        watched = (
            self.own.watched * of_budget(between(self.own.begin, self._begin)) + float(fleet["watched"]) - self._watched
        )
        fleet["watched"] = self._watched = max(watched, self._elsewhere)
        # What is sent has a landmark of its own, not long ago: what fades fast would overflow otherwise.
        ago = max(0, int((float(fleet["clock"]) - self._begin) // st.HALF_LIFE))
        scale = 2.0**-ago
        clusters = self._changed_cohorts()
        facts = self._export_facts()
        facts["w"] *= np.float32(scale)
        facts["d"] *= np.float32(scale)
        rows = [self._export_tails(clusters), self._export_cohorts(clusters), self._export_fleet()]
        out = Increments(
            self._begin + ago * st.HALF_LIFE,
            watched * of_budget(scale),
            float(fleet["burst_at"]),
            facts,
            self._export_amounts(),
            *bodies([(of, keys, gained * fading(of, scale)) for of, keys, gained in rows]),
            self._export_contacts(),
            self._export_owners(),
            self._export_burst(),
        )
        self.own.add(out)
        if self._facts.used > 2 * self._looked + MANY:
            self._forget()  # of rows that are gone; all that is there has been given
            self._look()
        return out

    def page(self, number: int, pages: int) -> Increments:
        """One page of what this partition has given in all, without what has long faded."""
        self.own.forget(float(self.state.fleet["clock"]) - LASTS)
        return self.own.page(number, pages)

    def add(self, given: Sequence[Increments], alerts_per_day: float) -> None:
        """Add what other partitions have learned, in one step: so it does not matter whose came first.

        Nothing may have been learned here since `export`.
        """
        if not given:
            return
        self._align()
        x = given[0] if len(given) == 1 else together(given)
        if self.state.fleet["events"] == 0 and self.state.fleet["begin"] == 0.0:
            # Nothing was learned here yet: any landmark will do, and the sender's needs no conversion.
            self.state.fleet["begin"] = self.state.fleet["since"] = self.state.fleet["clock"] = x.begin
            self._begin = x.begin
        factor = between(x.begin, self._begin)
        self._add_facts(x.facts, factor)
        self._add_amounts(x.amounts)
        self._add_tails(*dense(x, TAILS), factor)
        self._add_cohorts(*dense(x, COHORTS), factor)
        self._add_fleet(*dense(x, FLEET), factor)
        fleet = self.state.fleet
        self._elsewhere = max(self._elsewhere, x.watched * of_budget(factor))
        fleet["watched"] = self._watched = max(self._watched, self._elsewhere)
        self._add_contacts(x.contacts)
        self._add_owners(x.owners)
        now = 2.0 ** ((float(fleet["clock"]) - self._begin) / st.HALF_LIFE)
        self._add_bursts(given)
        merge.settle(self.state["fleet"].head, self.state["fleet"].body[0], now, alerts_per_day)
        self._see_burst()

    def restore(self, given: Iterable[Contributions], alerts_per_day: float) -> None:
        """Put together anew all that is shared, from what each partition has given, this one included."""
        self._align()
        self._clear()
        self.add([each.page(0, 1) for each in given if each.begin], alerts_per_day)

    # Counts of facts.

    def _export_facts(self) -> Array:
        t = self.state["facts"]
        at = _shared_of(t)
        head = t.head[at]
        taken = (t.dirty[at] & TAKEN) > 0
        t.dirty[at] &= ~np.uint8(TAKEN)
        slots = self._facts.slots(head["key"])
        self._remember(FACT_ROW, head["key"])
        now = np.stack([head["w"], head["d"]], 1)
        seen = self._facts.x[slots]
        anew = (now < seen).any(1) & ~taken
        seen[anew] = 0
        gained = now - seen
        if taken.any():
            given = self.own.facts.of(head["key"]) * np.float32(between(self.own.begin, self._begin))
            gained[taken] = np.maximum(gained, -given)[taken]
            now[taken] = (seen + gained)[taken]
            t.head["w"][at[taken]], t.head["d"][at[taken]] = now[taken].T
        self._facts.x[slots] = now
        out = np.zeros(len(at), FACT)
        out["key"], out["w"], out["d"] = head["key"], gained[:, 0], gained[:, 1]
        return out[gained.any(1)]

    def _add_facts(self, x: Array, factor: float) -> None:
        self.state.reserve("facts", len(x))
        t = self.state["facts"]
        added = np.stack([x["w"], x["d"]], 1) * np.float32(factor)
        merge.add_counts(t.head, t.dirty, t.tally, np.array(x["key"]), added)
        slots = self._facts.slots(x["key"])
        self._facts.x[slots] += added
        self._remember(FACT_ROW, x["key"])

    # Amounts of a cohort: a running mean and variance.

    def _export_amounts(self) -> Array:
        t = self.state["amounts"]
        at = _shared_of(t)
        head = t.head[at]
        slots = self._amounts.slots(head["key"])
        self._remember(AMOUNT_ROW, head["key"])
        seen = self._amounts.x[slots]
        seen[head["n"] < seen[:, 0]] = 0.0
        n, m, v, z, when, agents = seen.T
        weight = head["beats"].astype(float)  # of a cohort's row: observations since it was last looked at
        gain = 1.0 - _kept(n, weight, amounts.MEMORY)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(weight > 0, m + (head["m"] - m) / gain, 0.0)
            square = v + m * m
            square = np.where(weight > 0, square + (head["v"] + head["m"].astype(float) ** 2 - square) / gain, 0.0)
        out = np.zeros(len(at), AMOUNT)
        out["key"], out["n"], out["s"], out["q"] = head["key"], weight, weight * mean, weight * square
        out["a"] = head["a"] - agents
        out["z"] = head["z"] - z * np.exp(-np.clip(head["t"] - when, -1e6, 1e7) / amounts.Z_FADE)
        out["t"] = head["t"]
        t.head["beats"][at] = 0.0
        self._see_amounts(at, slots)
        return out

    def _add_amounts(self, x: Array) -> None:
        self.state.reserve("amounts", len(x))
        t = self.state["amounts"]
        at = merge.claim_amounts(t.head, t.dirty, t.tally, np.array(x["key"]), float(self.state.fleet["clock"]))
        head, weight = t.head[at], x["n"].astype(float)
        kept = _kept(head["n"].astype(float), weight, amounts.MEMORY)
        some = weight > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            mean, square = x["s"] / weight, x["q"] / weight
        old = head["m"].astype(float)
        m = np.where(some, kept * old + (1 - kept) * mean, old)
        q = np.where(some, kept * (head["v"] + old * old) + (1 - kept) * square, head["v"] + old * old)
        t.head["m"][at], t.head["v"][at] = m, np.maximum(0.0, q - m * m)
        t.head["n"][at] = np.minimum(head["n"] + weight, amounts.MEMORY)
        t.head["a"][at] = np.maximum(0.0, head["a"] + x["a"])
        t.head["z"][at] += x["z"] * np.exp(np.clip((x["t"] - head["t"]) / amounts.Z_FADE, -60.0, 3.0))
        self._see_amounts(at, self._amounts.slots(x["key"]))
        self._remember(AMOUNT_ROW, x["key"])

    def _see_amounts(self, at: Array, slots: Array) -> None:
        head = self.state["amounts"].head[at]
        self._amounts.x[slots] = np.stack([head[name].astype(float) for name in ("n", "m", "v", "z", "t", "a")], 1)

    # Bodies: tails, cohorts, the fleet.

    def _export_tails(self, clusters: Array) -> tuple[int, Array, Array]:
        t = self.state["tails"]
        keys, at = merge.tails_of(t.head, clusters)
        keys, at = keys[at >= 0], at[at >= 0]
        slots = self._bodies[TAILS].slots(keys)
        now = t.body[at]
        seen = self._bodies[TAILS].x[slots]
        seen[now.sum(1) < 0.5 * seen.sum(1)] = 0.0
        gained = now - seen
        self._bodies[TAILS].x[slots] = now
        return TAILS, keys, gained

    def _add_tails(self, keys: Array, added: Array, factor: float) -> None:
        self.state.reserve("tails", len(keys))
        t = self.state["tails"]
        at = merge.claim_bodies(t.head, t.body, t.dirty, t.tally, keys, float(self.state.fleet["clock"]))
        t.body[at] = np.maximum(0.0, t.body[at] + added * factor)
        slots = self._bodies[TAILS].slots(keys)
        self._bodies[TAILS].x[slots] = t.body[at]

    def _changed_cohorts(self) -> Array:
        t = self.state["cohorts"]
        keys = t.head["key"][_shared_of(t)]
        self._remember(COHORT_ROW, keys)
        return keys

    def _export_cohorts(self, keys: Array) -> tuple[int, Array, Array]:
        t = self.state["cohorts"]
        at = merge.find_all(t.head, keys)
        return COHORTS, keys, self._gained(COHORTS, keys, t.body, at, usual.MEMORY_COHORT)

    def _add_cohorts(self, keys: Array, added: Array, factor: float) -> None:
        self.state.reserve("cohorts", len(keys))
        t = self.state["cohorts"]
        at = merge.claim_bodies(t.head, t.body, t.dirty, t.tally, keys, float(self.state.fleet["clock"]))
        self._pool(COHORTS, keys, added, t.body, at, usual.MEMORY_COHORT, factor)
        self._remember(COHORT_ROW, keys)

    def _export_fleet(self) -> tuple[int, Array, Array]:
        body = self.state["fleet"].body[:, : st.ALL_BURST]
        return FLEET, FLEET_KEY, self._gained(FLEET, FLEET_KEY, body, np.zeros(1, np.int64), usual.MEMORY_FLEET)

    def _add_fleet(self, keys: Array, added: Array, factor: float) -> None:
        if len(keys):
            at, body = np.zeros(1, np.int64), self.state["fleet"].body[:, : st.ALL_BURST]
            self._pool(FLEET, FLEET_KEY, added, body, at, usual.MEMORY_FLEET, factor)

    def _gained(self, of: int, keys: Array, body: Array, at: Array, memory: float) -> Array:
        """What rows of a body have gained: (sum, weight) of each usual surprise, and the columns that fade."""
        ledger = self._bodies[of]
        slots = ledger.slots(keys)
        now, seen = body[at].astype(float), ledger.x[slots].astype(float)
        anew = now[:, USUAL:].sum(1) < 0.5 * seen[:, USUAL:].sum(1)
        seen[anew] = 0.0
        out = now - seen
        weight = np.maximum(0.0, out[:, 1:USUAL:2])
        gain = 1.0 - _kept(seen[:, 1:USUAL:2], weight, memory)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = seen[:, 0:USUAL:2] + out[:, 0:USUAL:2] / gain
        out[:, 0:USUAL:2] = np.where(weight > 0, weight * mean, 0.0)
        out[:, 1:USUAL:2] = weight
        self._see(of, slots, body, at, memory)
        return np.asarray(out)

    def _pool(self, of: int, keys: Array, added: Array, body: Array, at: Array, memory: float, factor: float) -> None:
        now, weight = body[at].astype(float), added[:, 1:USUAL:2]
        kept = _kept(now[:, 1:USUAL:2], weight, memory)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = kept * now[:, 0:USUAL:2] + (1.0 - kept) * added[:, 0:USUAL:2] / weight
        now[:, 0:USUAL:2] = np.where(weight > 0, mean, now[:, 0:USUAL:2])
        now[:, 1:USUAL:2] += weight
        now[:, USUAL:] = np.maximum(0.0, now[:, USUAL:] + added[:, USUAL:] * fading(of, factor)[USUAL:])
        body[at] = now
        self._see(of, self._bodies[of].slots(keys), body, at, memory)

    def _see(self, of: int, slots: Array, body: Array, at: Array, memory: float) -> None:
        weights = body[at, 1:USUAL:2]
        if (weights > REBASE).any():
            body[at, 1:USUAL:2] = np.where(weights > REBASE, memory, weights)
        self._bodies[of].x[slots] = body[at]

    # The episodes of about a day: the budget's bound on a busy day is on that of all partitions.

    def _export_burst(self) -> Array:
        fleet, now = self.state.fleet, self.state["fleet"].body[0, st.ALL_BURST :]
        gained = now - self._burst * _fade(float(fleet["burst_at"]) - self._burst_at)
        at = np.flatnonzero(gained > LEAST)
        self._see_burst()
        out = np.zeros(len(at), BURST)
        out["at"], out["x"] = at, gained[at]
        return out

    def _add_bursts(self, given: Sequence[Increments]) -> None:
        """Each as of its time, or as of now where that is to come here."""
        fleet, body = self.state.fleet, self.state["fleet"].body[0, st.ALL_BURST :]
        clock = float(fleet["clock"])
        body *= _fade(clock - float(fleet["burst_at"]))
        fleet["burst_at"] = clock
        for x in given:
            np.add.at(body, x.burst["at"], x.burst["x"] * _fade(clock - x.at))

    def _see_burst(self) -> None:
        self._burst = self.state["fleet"].body[0, st.ALL_BURST :].copy()
        self._burst_at = float(self.state.fleet["burst_at"])

    # What is known or not, rather than counted.

    def _note(self) -> None:
        """Let the others know this partition's agents, and to which agents they have written, by facts of their own."""
        agents, contacts = self.state["agents"], self.state["contacts"]
        keys = agents.head["key"][marked(agents.dirty)]
        keys = keys[keys != 0]
        met = contacts.head["key"][_shared_of(contacts, forget=False)]
        self._note_facts(merge.agents(keys))
        self._note_facts(merge.writers(self.state.arrays(), met))

    def _note_facts(self, keys: Array) -> None:
        self.state.reserve("facts", len(keys))
        t = self.state["facts"]
        now = 2.0 ** ((float(self.state.fleet["clock"]) - self._begin) / st.HALF_LIFE)
        merge.note(t.head, t.dirty, t.tally, keys, now)

    def _export_contacts(self) -> Array:
        """Whom the parties know that have met somebody, and of others only that they have been active."""
        t = self.state["contacts"]
        at = marked(t.dirty)
        at = at[t.head["key"][at] != 0]
        keys, times = t.head["key"][at], t.head["w"][at]
        slots = self._active.slots(keys)
        met = (t.dirty[at] & SHARED) > 0
        due = met | (times - self._active.x[slots, 0] >= TOLD)
        at, keys, times, met = at[due], keys[due], times[due], met[due]
        self._active.x[slots[due], 0] = times
        t.dirty[at] &= ~np.uint8(SHARED)
        known = np.where(met[:, None] & (np.arange(st.RING) < t.head["n"][at][:, None]), t.body[at], 0)
        known[:, 0] = np.where(met, known[:, 0], 0)
        some = known != 0
        some[:, 0] |= ~met
        out = np.zeros(int(some.sum()), CONTACT)
        row = np.nonzero(some)[0]
        out["party"], out["other"], out["t"], out["first"] = (
            keys[row],
            known[some],
            times[row],
            t.head["first"][at[row]],
        )
        return out

    def _add_contacts(self, x: Array) -> None:
        self.state.reserve("contacts", len(x))
        t = self.state["contacts"]
        known, others, times, first = (np.array(x[name]) for name in ("party", "other", "t", "first"))
        merge.meet(t.head, t.body, t.dirty, t.tally, known, others, times, first)
        slots = self._active.slots(known)
        np.maximum.at(self._active.x[:, 0], slots, times)

    def _export_owners(self) -> Array:
        t = self.state["owners"]
        at = _shared_of(t)
        out = np.zeros(len(at), OWNER)
        for name, field in zip(OWNER.names or (), ("key", "principal", "last", "people"), strict=True):
            out[name] = t.head[field][at]
        return out

    def _add_owners(self, x: Array) -> None:
        self.state.reserve("owners", len(x))
        t = self.state["owners"]
        merge.touch(t.head, t.dirty, t.tally, x.copy(), float(self.state.fleet["clock"]))

    # What was last seen.

    def _remember(self, kind: int, keys: Array) -> None:
        """Which rows are shared is part of the state: after a restart nobody could tell from a key."""
        self.state.reserve("shared", len(keys))
        t = self.state["shared"]
        merge.remember(t.head, t.dirty, t.tally, np.array(keys), kind, float(self.state.fleet["clock"]))

    def _shared(self, kind: int, table: str) -> tuple[Array, Array]:
        """Keys of the shared rows of a table, and where they are. Where that a row is shared gave way, it may have been given from here."""
        t = self.state["shared"]
        given = (self.own.facts, self.own.amounts, self.own.bodies[COHORTS])[kind].keys
        keys = np.union1d(t.head["key"][(t.head["key"] != 0) & (t.head["of"] == kind)], given)
        at = merge.find_all(self.state[table].head, keys)
        return keys[at >= 0], at[at >= 0]

    def _forget(self) -> None:
        self._facts, self._amounts, self._active = Ledger(2), Ledger(6, "f8"), Ledger(1, "f8")
        self._bodies = (Ledger(WIDTH[TAILS]), Ledger(WIDTH[COHORTS]), Ledger(WIDTH[FLEET], "f8"))
        self._burst, self._burst_at = np.zeros(st.SCORE_BINS), 0.0
        self._looked = 0

    def _look(self) -> None:
        """See everything that is shared as it is now."""
        known = self.state["contacts"].head
        known = known[known["key"] != 0]
        slots = self._active.slots(known["key"])
        self._active.x[slots, 0] = known["w"]
        keys, at = self._shared(FACT_ROW, "facts")
        head = self.state["facts"].head[at]
        slots = self._facts.slots(keys)
        self._facts.x[slots] = np.stack([head["w"], head["d"]], 1)
        self._looked = self._facts.used
        keys, at = self._shared(AMOUNT_ROW, "amounts")
        self._see_amounts(at, self._amounts.slots(keys))
        for of, (keys, body, _, at) in enumerate(self._all_bodies()):
            slots = self._bodies[of].slots(keys)
            self._bodies[of].x[slots] = body[at]
        self._see_burst()

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
        for ledger in (self._facts, self._amounts, *self._bodies):
            ledger.x[:] = 0.0

    def _all_bodies(self) -> list[tuple[Array, Array, Array, Array]]:
        """Keys, bodies, marks and slots of the tails of cohorts, of cohorts, and of the fleet."""
        cohorts, t, fleet = self.state["cohorts"], self.state["tails"], self.state["fleet"]
        clusters, at = self._shared(COHORT_ROW, "cohorts")
        keys, slots = merge.tails_of(t.head, clusters)
        return [
            (keys[slots >= 0], t.body, t.dirty, slots[slots >= 0]),
            (clusters, cohorts.body, cohorts.dirty, at),
            (FLEET_KEY, fleet.body[:, : st.ALL_BURST], fleet.dirty, np.zeros(1, np.int64)),
        ]

    def _align(self) -> None:
        """Follow the state's landmark, which has moved with all that fades (`State.rescale`)."""
        begin = float(self.state.fleet["begin"])
        factor = between(self._begin, begin)
        if factor < 2.0 ** (-st.TOO_FAR / 2):
            self._facts.x *= np.float32(factor)
            for of, ledger in enumerate(self._bodies):
                ledger.x[:] = ledger.x * fading(of, factor)
            self._watched *= of_budget(factor)
            self._elsewhere *= of_budget(factor)
        self._begin = begin


def _shared_of(t: Table, *, forget: bool = True) -> Array:
    """Slots that others are to know of; the mark is taken from them. A row may have gone since it was marked."""
    at = marked(t.dirty)
    at = at[(t.dirty[at] & SHARED) > 0]
    if forget:
        t.dirty[at] &= ~np.uint8(SHARED)
    out: Array = at[t.head["key"][at] != 0]
    return out


def _fade(seconds: float) -> float:
    """What is left of an episode of the burst after so long; of one that is to come, all."""
    return float(2.0 ** -(min(60.0, max(0.0, seconds / budget.BURST_HALF_LIFE))))


def _kept(n: Array, weight: Array, memory: float) -> Array:
    """Share of a running mean that is left after so much more weight; its memory is bounded."""
    n = np.minimum(n, memory)
    total = n + weight
    with np.errstate(divide="ignore", invalid="ignore"):
        share = n / np.minimum(total, memory)
    return np.where(total > 0, share * np.exp(-np.maximum(0.0, total - memory) / memory), 1.0)
