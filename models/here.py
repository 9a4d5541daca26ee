"""What the stages of one event share (`models.loop`): who it is of and when, and room to work in."""

from __future__ import annotations

from typing import NamedTuple

from models import schema, signals
from models.table import Array, Key

TABLE = {name: i for i, name in enumerate(schema.TABLES)}
FACTS, AMOUNTS, TAILS, AGENTS, SESSIONS, CALLS, OWNERS, CONTACTS, PROFILES, NAMES, LEVELS, RHYTHMS, LIFTS, USES = (
    TABLE[name] for name in ("facts", "amounts", "tails", "agents", "sessions", "calls", "owners", "contacts", "profiles", "names", "levels", "rhythms", "lifts", "uses")
)  # fmt: skip
RATE = signals.N_AMOUNTS - 1  # the amount that is of all tools: calls within ten minutes
RATE_MEMORY = 600.0  # seconds
KEEP = 5.0  # bits: an event with more of its own becomes part of its agent's episode


class Facts(NamedTuple):
    """Room for the facts of one event: arrays as long as the most that an event of the batch can have."""

    attribute: Array
    context: Array
    value: Array
    entry: Array  # where its text stands in its column
    derived: Array  # what a derived fact was derived from
    keys: Array  # (fact, level, 2), see `models.facts`
    slots: Array
    counts: Array


class Room(NamedTuple):
    """Room to work in, of one call."""

    facts: Facts
    pays: Array  # weight and dead zone of each signal
    entity: Array  # keys of fleet, cohort, agent
    mark: Array  # of a changed row of each of them: whether other partitions are to know (`models.state.SHARED`)
    step: Array  # on each scale (closeness, owner), -1 where the event says nothing of the kind
    step_of: Array  # the context in which it is judged: of an owner the root
    step_above: Array  # the same of what the agent's cohort and the fleet do
    step_place: Array  # where in the event's list it stands: of closeness the recipient
    step_bits: Array
    steps: Array  # what is known of one, see `models.ordinal`
    surprise: Array  # of each fact, -1 where the event says nothing of the kind
    mean: Array
    tail: Array  # of each tail its value, -1 where there is none
    bins: Array
    amount: Array
    group: Array
    winner: Array
    again: Array  # what each group that adds up over days has come to
    kind: Array  # what the event says of each kind that has a pool
    pool: Array  # what its agent's pools have come to
    detail: Array  # see `models.batch`
    saved: Array
    judged: Array  # whether the event is like one that a person called malicious: it teaches nothing


class Here(NamedTuple):
    """Who an event is of, and when."""

    agent: Key
    cohort: Key  # the key of the cohort
    peered: bool  # it is one of agents that do the same, by their type or by what they do
    session: Key
    ag: int  # slots of the three
    co: int
    se: int
    clock: float
    now: float  # the present weight of one event
    fade: float  # its inverse
    gap: float  # seconds since the agent's last event
    newcomer: bool  # in its first days in a fleet that ran already
    age: int  # power of two of the events that it has seen
    begins: bool  # a session
    learned: bool  # a repeated event is not
