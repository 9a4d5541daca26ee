"""Every signal that a score is made of: one table, read by the compiled loop, the words and the documentation.

A *fact* is something an event says (which tool, which recipient): its surprise is in bits by itself. A *tail* is a number
(an amount, what has added up, broken policy, sessions at odd hours): its bits are those of its own upper tail. A *series*, an
agent that does the same on a fixed beat, is judged by its own forecast. What a signal pays is
`weight · max(0, bits − dead)`; of a group only the largest counts, since its members say the same thing twice, and the
groups add up. Weights and dead zones began as those of the project's notes (recipe A); `python -m benchmarks ablation` says what each is worth.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KINDS = ("volume", "scope", "recipient", "sequence", "policy", "rate")


@dataclass(frozen=True)
class Signal:
    """One row: its name, the kind of alert it makes, the group whose largest counts, and what it pays."""

    name: str
    kind: str
    group: str
    weight: float
    dead: float = 3.0


FACTS = (
    Signal("tool", "scope", "scope", 1.0),
    Signal("permission", "scope", "scope", 1.0),
    Signal("root", "scope", "scope", 1.0),
    Signal("branch", "scope", "scope", 1.0),
    Signal("resource", "scope", "leaf", 0.4),
    Signal("classification", "scope", "scope", 1.0),
    Signal("transition", "sequence", "scope", 1.0),
    Signal("outcome", "scope", "outcome", 0.4),
    Signal("action", "scope", "scope", 1.0),
    Signal("recipient", "recipient", "party", 1.0),
    Signal("domain", "recipient", "party", 1.0),
    Signal("flow", "recipient", "flow", 1.0),
    Signal("unapproved", "policy", "approval", 1.0),
    # The steps of a scale (`models.ordinal`), which come last.
    Signal("closeness", "recipient", "closeness", 1.0),
    Signal("owner", "scope", "owner", 1.3, 4.0),
    Signal("unvouched", "recipient", "vouching", 1.3),
)
TAILS = (
    Signal("clearance", "policy", "flow", 1.0),
    Signal("bytes", "volume", "amount", 0.4),
    Signal("records", "volume", "amount", 0.4),
    Signal("session_calls", "rate", "count", 0.4),
    Signal("call_rate", "rate", "count", 0.7, 4.0),
    Signal("bytes_sum", "volume", "drift", 0.7, 4.0),
    Signal("records_sum", "volume", "drift", 0.7, 4.0),
    Signal("session_calls_sum", "rate", "count", 0.7, 4.0),
    Signal("off_hours", "rate", "hours", 3.0, 5.0),
    Signal("repeats", "rate", "count", 1.0, 8.0),
    Signal("dormancy", "scope", "dormancy", 1.0),
)
SERIES = Signal("rhythm", "volume", "drift", 1.0)
SIGNALS = (*FACTS, *TAILS, SERIES)
GROUPS = tuple(dict.fromkeys(s.group for s in SIGNALS))
# Evidence of one kind gathers in one pool (`models.loop`): who receives and how much, what is touched, when and how often.
POOLS = {
    "receives": ("party", "flow", "approval", "closeness", "vouching", "amount", "drift"),
    "touches": ("scope", "leaf", "outcome", "owner", "dormancy"),
    "pace": ("count", "hours"),
}
# What adds up over days: group → by which share, of what it pays beyond how many bits (`models.scoring.add_again`).
AGAIN = {"flow": (1.0, 2.0), "scope": (1.0, 6.0), "drift": (0.5, 4.0)}

N_FACTS, N_TAILS, N_SIGNALS, N_GROUPS = len(FACTS), len(TAILS), len(SIGNALS), len(GROUPS)
INDEX = {s.name: i for i, s in enumerate(SIGNALS)}
(
    TOOL, PERMISSION, ROOT, BRANCH, RESOURCE, CLASSIFICATION, TRANSITION, OUTCOME, ACTION, RECIPIENT, DOMAIN, FLOW, UNAPPROVED, CLOSENESS, OWNER, UNVOUCHED,
) = range(N_FACTS)  # fmt: skip
(
    CLEARANCE,
    BYTES,
    RECORDS,
    SESSION_CALLS,
    CALL_RATE,
    BYTES_SUM,
    RECORDS_SUM,
    SESSION_CALLS_SUM,
    OFF_HOURS,
    REPEATS,
    DORMANCY,
) = range(N_TAILS)
RHYTHM = N_FACTS + N_TAILS
N_NAMED = CLOSENESS  # facts that are names
# What is kept new (`models.sitting`), and of that what is so for newcomers alone.
KEPT_NEW = (TOOL, PERMISSION, ROOT, BRANCH, CLASSIFICATION, TRANSITION, RECIPIENT, DOMAIN, FLOW)
KEPT_NEW_AT_FIRST = (TOOL, PERMISSION, ROOT, BRANCH, TRANSITION)
OWN_AFFAIR = (RECIPIENT, DOMAIN)  # peers have others, so their usual surprise is no measure of an agent's
# The broadest level at which a fact's values are counted: fleet (0) or cohort (1). What another cohort uses and whom it writes to excuses nobody:
# of what is reached the fleet knows how often something is new to a cohort, and not what; of kinds (class, flow, outcome, order of tools) it does.
REACHED = (TOOL, PERMISSION, ROOT, BRANCH, RESOURCE, RECIPIENT, DOMAIN)
BROADEST = np.where(np.isin(np.arange(N_FACTS), REACHED), 1, 0)
N_STEPS = N_FACTS - N_NAMED
N_AMOUNTS = 4  # bytes, records, session_calls, call_rate: tails 1 to 4; what of them adds up: tails 5 to 7

GROUP_OF = np.array([GROUPS.index(s.group) for s in SIGNALS])
KIND_OF = np.array([KINDS.index(s.kind) for s in SIGNALS])
N_POOLS = len(POOLS)
POOL_OF = np.array([next(i for i, of in enumerate(POOLS.values()) if group in of) for group in GROUPS])
# Weight and dead zone of each signal. The loop is given them, and does not hold them for constants: an ablation needs nothing compiled.
PAYS = np.array([(s.weight, s.dead) for s in SIGNALS])
N_AGAIN = len(AGAIN)
AGAIN_GROUP = np.array([GROUPS.index(group) for group in AGAIN])
AGAIN_SHARE = np.array([share for share, _ in AGAIN.values()])
AGAIN_DEAD = np.array([dead for _, dead in AGAIN.values()])

# Numbers of signals in the keys of stored rows. They go by the name, not by the place in the tables above, so that baselines outlive
# a change of these: those below are what version 2 stored, and any other name has a number of its own. What is another thing now needs one.
AMOUNTS = tuple(s.name for s in TAILS[1 : 1 + N_AMOUNTS])
FACTS_OF_2 = ("tool", "permission", "root", "branch", "resource", "classification", "transition", "outcome", "action", "recipient", "domain", "closeness, a name", "flow", "owner, a name")  # fmt: skip
TAILS_OF_2 = ("clearance", "bytes", "records", "session_calls", "call_rate", "bytes_sum", "records_sum", "session_calls_sum", "off_hours", "repeats")  # fmt: skip
AMOUNTS_OF_2 = ("bytes", "records", "session_calls", "call_rate")


def _numbers(names: Iterable[str], stored: tuple[str, ...]) -> NDArray[np.int64]:
    return np.array([stored.index(x) if x in stored else 1000 + zlib.crc32(x.encode()) for x in names], np.int64)


NUMBER_OF_FACT = _numbers((s.name for s in FACTS), FACTS_OF_2)
NUMBER_OF_TAIL = _numbers((s.name for s in TAILS), TAILS_OF_2)
NUMBER_OF_AMOUNT = _numbers(AMOUNTS, AMOUNTS_OF_2)
