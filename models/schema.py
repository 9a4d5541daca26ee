"""What each table holds: the fields of its rows, the array of each, and its share of the memory.

`models.state` keeps such tables; `models.layout` reads what was stored under another schema, by these names.
"""

from __future__ import annotations

from typing import NamedTuple

from models.signals import AGAIN, FACTS, N_AGAIN, N_NAMED, N_POOLS, N_TAILS, POOLS, TAILS

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
    Layout("amounts", [K, ("w", "f4"), ("t", "f4"), ("n", "f4"), ("m", "f4"), ("v", "f4"), ("s", "f4"), ("z", "f4"), ("a", "f4"), ("last", "f8"), ("beats", "f4"), ("gap", "f4"), ("gap_off", "f4"), ("never", "f4")], ("u1", 0), 1 << 12, 0.12, ages=False, lasts=180),
    # (signal, cohort | agent) → weight at or above each bin; a second row holds the upper half, where there is any
    Layout("tails", [K, ("w", "f4")], ("f4", HALF), 1 << 8, 0.06, ages=False, lasts=360, part="first", alike=True),
    Layout("agents", [K, ("w", "f8"), ("seen", "f8"), ("first", "f8"), ("began", "f8"), ("calls", "f4"), ("begin", "f8"), ("kept", "f8"), ("peak", "f4"), ("loud", "f4"), ("first_own", "f4"), ("second_own", "f4"), ("third_own", "f4"), ("serious", "u1"), ("night", "f4"), ("night_at", "f8"), ("novel_at", "f8"), ("version", "u8"), ("left", "u8"), ("since", "f8"), ("leader", "u8"), ("entity", "u8"), ("kind", "u8"), ("kind_left", "u8"), ("kind_since", "f8"), ("lift", "f4"), ("usual_at", "f8"), ("missed", "f4"), ("moved_at", "f8"), ("moved_for", "f4"), ("strangers", "f4"), ("strangers_usual", "f4"), ("strangers_at", "f8"), ("hour", "u4"), ("hours", "f4"), ("odd", "u1"), ("touches", "f4"), ("receives", "f4")], ("f4", OWN_WIDTH), 1 << 6, 0.04, ages=False, lasts=360, sections=_OWN),
    Layout("cohorts", [K, ("w", "f8"), ("agents", "f4"), ("since", "f8")], ("f4", PEER_WIDTH), 1 << 5, 0.01, ages=False, lasts=360, sections=_PEERS),
    # (agent, session) → last tool, highest class read and how much of it, highest score
    Layout("sessions", [K, ("w", "f8"), ("tool", "u8"), ("ordinary", "u8"), ("top", "i2"), ("records", "f4"), ("peak", "f4")], ("u1", 0), 1 << 10, 0.02, ages=False, lasts=0.5),
    # what counts for hours: (session, tool) → calls; (agent, what it does or to whom) → how often of late (`models.scoring`); what is new in a sitting
    Layout("calls", [K, ("w", "f8"), ("n", "f4")], ("u1", 0), 1 << 10, 0.08, ages=False, lasts=1 / 6),  # as a sitting (`models.sitting`)
    # resource → the first and the last principal that it was touched for, in which session (of the hashes a half and a quarter), how often another came
    Layout("owners", [K, ("w", "f4"), ("principal", "u4"), ("last", "u4"), ("session", "u2"), ("people", "u1")], ("u1", 0), 1 << 12, 0.10, ages=False, lasts=60),
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
    Layout("uses", [K, ("w", "f4"), ("days", "u2"), ("woke", "f4"), ("slept", "f4")], ("u1", 0), 1 << 10, 0.03, ages=False, lasts=360),
    # the agents that those without a type are compared with, since when
    Layout("leaders", [K, ("w", "f8")], ("u1", 0), LEADERS, 0.0, ages=False, lasts=0),
    # the rows of facts (0), amounts (1) and cohorts (2) to which other partitions add (`models.exchange`)
    Layout("shared", [K, ("w", "f8"), ("of", "u1")], ("u1", 0), 1 << 6, 0.03, ages=False, lasts=360),
    # ids of the last events: a repeated one is scored and not learned again
    Layout("recent", [K], ("u1", 0), 1 << 16, 0.0, ages=False, lasts=0),
    Layout("fleet", [K, ("w", "f8"), ("begin", "f8"), ("since", "f8"), ("clock", "f8"), ("ahead", "f8"), ("ahead_from", "f8"), ("doubted", "u8"), ("times", "i8"), ("silence", "f8"), ("tau", "f8"), ("watched", "f8"), ("burst_at", "f8"), ("bin", "i8"), ("events", "f8"), ("late", "i8"), ("skewed", "i8"), ("repeated", "i8")], ("f8", ALL_WIDTH), 1, 0.0, ages=False, lasts=0, sections=_FLEET),
)  # fmt: skip
TABLES = tuple(layout.name for layout in LAYOUTS)
GROWING = tuple(i for i, layout in enumerate(LAYOUTS) if layout.share > 0)
