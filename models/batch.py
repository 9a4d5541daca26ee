"""The columns of a batch of events, and what scoring gives back: the values that cross from `stream` to the compiled loop."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.memory import TEXTS
from models.schema import RING, TEXT, WINDOW_SUMS
from models.signals import KEPT_NEW, KINDS, N_AMOUNTS, N_FACTS, N_SIGNALS
from models.table import Array

NONE = 0  # the hash of the empty text: the field was absent
LATE, SKEWED, REPEATED, WARMING, NOTABLE = 1, 2, 4, 8, 16  # marks of an event


class Text(NamedTuple):
    """A column of names: their hashes, and where each stands in the buffer."""

    hash: Array
    low: Array
    high: Array
    buffer: Array


class Batch(NamedTuple):
    """Columns of n events. Hashes are uint64 with 0 for absent, rungs of the ladder int8 with -1 for absent or unknown,
    amounts float64 with NaN for absent, times seconds since the epoch. `*_at[i]:*_at[i + 1]` are event i's entries."""

    time: Array
    event: Text
    agent: Text
    cohort: Array
    version: Array  # of the agent's code
    principal: Text
    home: Array  # the principal's domain
    session: Array
    tool: Text
    action: Array  # 0 where no tool is given, since then the action is the tool
    resource: Text
    root: Array
    root_high: Array
    branch: Array
    branch_high: Array
    in_path: Array  # the path names the principal
    classification: Text
    rung: Array
    outcome: Array
    denied: Array
    changes: Array  # any action but to read, list, search, and to send and share, where who receives says more
    approved: Array  # 1 a person did, 2 nobody did, 3 it does not say
    bytes: Array
    records: Array
    scope_at: Array
    scope: Text
    recipient_at: Array
    recipient: Text
    domain: Text
    under: (
        Array  # the organisation's domain in which that lies, where the deployment or the principal tells; else itself
    )
    kind: Array
    clearance: Array
    cleared_for: Array  # hash of the name of that rung
    size: Array
    sensitive: Array  # 2: of the highest class of the ladder, 1: of its upper half, 0


# A row of `detail`, float32: what an event was scored with, kept where it is evidence.
BITS = 0  # of each signal, beyond the usual, before weights
PAID = BITS + N_SIGNALS  # of the winner of each group, after weights
FACT, FACT_WIDTH = (
    PAID + N_SIGNALS,
    7,
)  # agent's count and total, cohort's and fleet's count, distinct values, place in the event's list, value of a derived fact
AMOUNT, AMOUNT_WIDTH = (
    FACT + N_FACTS * FACT_WIDTH,
    4,
)  # value, mean, spread, cohort's mean; that is no number where the tool is new to both, and the others are of the agent's other tools
SESSION = (
    AMOUNT + N_AMOUNTS * AMOUNT_WIDTH
)  # rung of the highest class handled before, records at it, recipients outside for whom a newcomer's peers do not vouch
HOURS = SESSION + 3  # bits of the start of this session, the agent's starts near it and in all
FORECAST = HOURS + 3  # a series: amount or mean of amounts, forecast, lowest and highest so far, whether a mean
SAME = FORECAST + 5  # times that the agent lately reached the same, which of the event's recipients that is
LEFT_ALONE = (
    SAME + 2
)  # days since the agent last used a permission or its tool, where that is long; which permission of the event's list, -1 for the tool
VERSION_AGE = (
    LEFT_ALONE + 2
)  # seconds since the agent began the version that the event names, -1 where that is not known
TYPE_AGE = VERSION_AGE + 1  # the same of its type
LIFT = TYPE_AGE + 1  # how much more its calls move than usual, ln; peers of whom the same is true, the most of them
MISSED = LIFT + 3  # sessions at usual hours that it would have begun since the last of them, and the seconds since then
NEWCOMER = (
    MISSED + 2
)  # seconds since anybody first sent to the recipient that is blamed, -1 where it was known from the start; who else has
STRANGERS = (
    NEWCOMER + 2
)  # seconds since its sessions came to be for principals that it had hardly acted for, -1 where they are not
AGENT_AGE = STRANGERS + 1  # seconds since the agent was first seen, -1 where that was about when the fleet was
JUDGED = (
    AGENT_AGE + 1
)  # whether it is like what a person called malicious (1), and by which named facts (2, 4, …) and, behind them, amounts
BEGUN = JUDGED + 1  # of each fact that is kept new: seconds since it was first done in this sitting, or 0
DETAIL = BEGUN + len(KEPT_NEW)


class Scores(NamedTuple):
    """What the loop says of n events."""

    score: Array  # (n,) the episode's evidence as seen from this event
    own: Array  # (n,) this event's alone
    session: Array  # (n,) what is at least its score because of what its session did before; it counts for nothing else
    parts: Array  # (n, kinds) of `own`
    threshold: Array  # (n,) from which an alert opens
    marks: Array  # (n,)
    clock: Array  # (n,) the stream's
    cohort: Array  # (n,) key of the cohort it was scored in; 0 for that of all agents without a type
    row: Array  # (n,) row of this event in the next three, or -1 where it is not evidence
    rows: Array  # (1,) how many
    detail: Array  # (n, DETAIL)
    text: (
        Array  # (n, texts, bytes) names of what was usual for the agent when the event was scored, see `models.memory`
    )
    length: Array  # (n, texts)
    window: Array  # (n or 0, sums) decayed over an hour: calls, bytes, records, recipients, denied, novelty
    turned: Array  # (2n,) keys of levels whose day ended
    turned_at: Array  # (2n,) at which event
    turns: Array  # (1,) how many
    days: Array  # (2n, ring) their days so far, log2 amounts, oldest first
    days_length: Array  # (2n,)


def blank(n: int, *, window: bool) -> Scores:
    """Room for the scores of n events. What has rows of its own is not cleared: few events have one, and who takes a row fills it."""
    return Scores(
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
        np.zeros((n, len(KINDS))),
        np.zeros(n),
        np.zeros(n, np.uint8),
        np.zeros(n),
        np.zeros(n, np.uint64),
        np.full(n, -1),
        np.zeros(1, np.int64),
        np.empty((n, DETAIL), np.float32),
        np.empty((n, TEXTS, TEXT), np.uint8),
        np.empty((n, TEXTS), np.uint8),
        np.zeros((n if window else 0, WINDOW_SUMS)),
        np.empty(2 * n, np.uint64),
        np.empty(2 * n, np.int64),
        np.zeros(1, np.int64),
        np.empty((2 * n, RING), np.float32),
        np.empty(2 * n, np.int64),
    )
