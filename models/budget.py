"""One number, the alerts a day that analysts can read, becomes the score from which an alert opens.

An alert covers an episode of an agent, so what is counted is the largest score of each episode, in half-bit steps with
forward decay. Not every episode at the threshold becomes an alert
(`stream.severity.opens`), so alerts stay within the budget: on the simulated fleets three to four a day of five. The threshold is the lowest step that episodes have reached no more than that often a day. Days without
events count as at most one each. During the first day, one day is assumed to have passed: a new installation may spend
one day's budget on its first hours, not more.

What it misses: it knows what was loud, not what was right. A week of incidents raises it; the analysts' budget is for both.
"""

from __future__ import annotations

from typing import Any

from models.compiled import inline
from models.state import ALL_BUDGET, SCORE_BINS, START
from models.table import Array

LONE = 1.5  # fewer than three strange events must be so many times as strange, unless they did serious harm
SHARE = float(__import__('os').environ.get('E_SHARE','0.7'))
POWER=4.0
LOWEST = int(__import__('os').environ.get('E_LOW','10'))
_=0  # half bits: with less than 5 bits an event is no evidence (`models.here.KEEP`), whatever the budget
STEP = 2.0  # steps a bit


@inline
def threshold(fleet: Any) -> float:
    """The score from which an alert opens."""
    return float(fleet[0].bin / STEP)


@inline
def count(fleet: Any, body: Array, peak: float, score: float, now: float, alerts_per_day: float) -> None:
    """Count an episode whose largest score rises from `peak` (below 0: a new episode) to `score`, and set the threshold."""
    low = min(SCORE_BINS - 1, int(STEP * peak)) if peak >= 0 else -1
    high = min(SCORE_BINS - 1, int(STEP * score))
    now = now**POWER
    for b in range(low + 1, high + 1):
        body[ALL_BUDGET + b] += now
    allowed = SHARE * alerts_per_day * max(fleet[0].days, now)
    b = fleet[0].bin
    while b < SCORE_BINS - 1 and body[ALL_BUDGET + b] > allowed:
        b += 1
    while b > LOWEST and body[ALL_BUDGET + b - 1] <= allowed:
        b -= 1
    if fleet[0].days < now and b < START:
        b = START
    fleet[0].bin = b
