"""What partitions tell each other that is known or not, rather than counted: which agents there are, who has written to whom, whose a resource is."""

from __future__ import annotations

import numpy as np

from models import merge, schema
from models.increments import CONTACT, OWNER
from models.seen import Seen, take_marked
from models.state import SHARED, State, marked
from models.table import Array

TOLD = 6 * 3600.0  # seconds after which others are told again that a party is active


def note(state: State, begin: float) -> None:
    """Let the others know this partition's agents, and to which agents they have written, by facts of their own."""
    agents, contacts = state["agents"], state["contacts"]
    keys = agents.head["key"][marked(agents.dirty)]
    keys = keys[keys != 0]
    met = contacts.head["key"][take_marked(contacts, forget=False)]
    _note_facts(state, begin, merge.agents(keys))
    _note_facts(state, begin, merge.writers(state.arrays(), met))


def _note_facts(state: State, begin: float, keys: Array) -> None:
    state.reserve("facts", len(keys))
    t = state["facts"]
    now = 2.0 ** ((float(state.fleet["clock"]) - begin) / schema.HALF_LIFE)
    merge.note(t.head, t.dirty, t.tally, keys, now)


def export_contacts(state: State, seen: Seen) -> Array:
    """Whom the parties know that have met somebody, and of others only that they have been active."""
    t = state["contacts"]
    at = marked(t.dirty)
    at = at[t.head["key"][at] != 0]
    keys, times = t.head["key"][at], t.head["w"][at]
    slots = seen.active.slots(keys)
    met = (t.dirty[at] & SHARED) > 0
    due = met | (times - seen.active.x[slots, 0] >= TOLD)
    at, keys, times, met = at[due], keys[due], times[due], met[due]
    seen.active.x[slots[due], 0] = times
    t.dirty[at] &= ~np.uint8(SHARED)
    known = np.where(met[:, None] & (np.arange(schema.RING) < t.head["n"][at][:, None]), t.body[at], 0)
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


def add_contacts(state: State, seen: Seen, x: Array) -> None:
    """Let parties know whom others have seen them meet."""
    state.reserve("contacts", len(x))
    t = state["contacts"]
    known, others, times, first = (np.array(x[name]) for name in ("party", "other", "t", "first"))
    merge.meet(t.head, t.body, t.dirty, t.tally, known, others, times, first)
    slots = seen.active.slots(known)
    np.maximum.at(seen.active.x[:, 0], slots, times)


def export_owners(state: State) -> Array:
    """For whom resources were touched."""
    t = state["owners"]
    at = take_marked(t)
    out = np.zeros(len(at), OWNER)
    for name, field in zip(OWNER.names or (), ("key", "principal", "last", "people"), strict=True):
        out[name] = t.head[field][at]
    return out


def add_owners(state: State, x: Array) -> None:
    """Learn for whom others have touched resources."""
    state.reserve("owners", len(x))
    t = state["owners"]
    merge.touch(t.head, t.dirty, t.tally, x.copy(), float(state.fleet["clock"]))
