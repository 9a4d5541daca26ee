"""When an agent works: how unusual is the half hour at which a session begins, and how many such sessions a night has.

A profile holds the starts of sessions by half hour, of weekdays and weekends, with forward decay; of an agent and of its cohort. The
starts near a half hour are smoothed round the clock with weights .1 .3 .6 1 .6 .3 .1, and the other half of the week counts
15 %. With c and T the agent's smoothed count there and what it would be were its week flat, and the same of its cohort,

    p_cohort = (c_c + 1) / (T_c + 1),  p = (c + p_cohort / 2) / (T + 1/2),  h = −log2 p

is 0 at a usual time and 6 where 1 % as much is usual. The week is one: an agent that works on weekdays has hardly begun a session on a
Sunday, at whatever hour. Half a start of the cohort's is worth about eight sessions of the agent's: a cohort may sit in several time zones, so its own past weighs more. One late session is ordinary life; several in one night are not. So they add
up: `S ← S · 2^(−Δt/6 h) + max(0, h − 1)`, whose tail (`models.tails`) is what pays. An odd start teaches less, max(0.2, 2^(2 − h)), or the
first of a night would excuse the others.

What it misses: a single session at night, mostly: harmless ones are as odd; messages without sessions, which begin after half an hour of quiet, give some noise; an agent that works round the clock; the first days.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from models import clock
from models.compiled import inline
from models.schema import HALF_HOURS
from models.table import Array

HALF_HOUR = 1800.0
NEAR = np.array([0.1, 0.3, 0.6, 1.0, 0.6, 0.3, 0.1])
OTHER_DAYS = 0.15  # what weekdays say of weekends
WEEKEND = 2.0 / 7.0
OWN, PEERS = 0.5, 1.0  # starts that the cohort, and the prior, are worth
HALF_LIFE, SLACK, LEAST = 6 * 3600.0, 1.0, 0.2
APART = 600.0  # seconds: sessions that begin closer together are one start


@inline
def _slot(time: float) -> tuple[int, int]:
    """The half hour of the day, and where its half of the week begins in a profile."""
    return int(time // HALF_HOUR) % HALF_HOURS, HALF_HOURS if clock.weekend(time) else 0


@inline
def surprise(own: Array, peers: Array, time: float, fade: float) -> tuple[float, float, float]:
    """Bits of a start at this time, the agent's smoothed count near it, and its count of all starts. Rows are profiles."""
    at, half = _slot(time)
    other = HALF_HOURS - half
    near = peers_near = total = peers_total = 0.0
    for j in range(len(NEAR)):
        i = (at + j - len(NEAR) // 2) % HALF_HOURS
        near += NEAR[j] * (own[half + i] + OTHER_DAYS * own[other + i])
        peers_near += NEAR[j] * (peers[half + i] + OTHER_DAYS * peers[other + i])
    for i in range(HALF_HOURS):
        total += own[half + i] + own[other + i]
        peers_total += peers[half + i] + peers[other + i]
    # The weights near a half hour add up to three; weekends are two days of the seven.
    share = (
        3.0 / HALF_HOURS * (WEEKEND + OTHER_DAYS * (1.0 - WEEKEND) if half else 1.0 - WEEKEND + OTHER_DAYS * WEEKEND)
    )
    p = (peers_near * fade + PEERS) / (peers_total * fade * share + PEERS)
    p = (near * fade + OWN * p) / (total * fade * share + OWN)
    return -math.log2(min(1.0, p)), near * fade, total * fade


@inline
def add_up(agents: Any, ag: int, bits: float, clock_s: float) -> float:
    """The night's sum after a start of so many bits; 0 where this start adds nothing."""
    agents[ag].night *= 2.0 ** (-(clock_s - agents[ag].night_at) / HALF_LIFE)
    agents[ag].night_at = clock_s
    if bits <= SLACK:
        return 0.0
    agents[ag].night += bits - SLACK
    return float(agents[ag].night)


@inline
def learn(own: Array, peers: Array, time: float, bits: float, now: float) -> None:
    """Count a start of so many bits; `now` is the present weight of one event."""
    now *= max(LEAST, min(1.0, 2.0 ** (2.0 - bits)))
    at, half = _slot(time)
    own[half + at] += now
    peers[half + at] += now
