"""One number, the alerts a day that analysts can read, becomes the score from which an alert opens.

What is counted is what would be said: of each episode the highest threshold at which it would still be an alert
(`stream.severity.opens`): its largest score where it did serious harm, else the larger of its largest score over 1.5 and twice its
third strangest event. In half-bit steps, with a half-life of a week. The threshold is the lowest step that episodes have reached no more
than `SHARE` of the budget a day: alerts come in bunches, and where the mean were the budget, every other day would be over it; nor, in
about a day (a half-life), more than three budgets: after quiet weeks, a busy day may not spend what they saved. Days without events count
as at most one each. During the first day, one day is assumed to have passed: a new installation may spend one day's budget on its first
hours, not more.

What it misses: it knows what was loud, not what was right. A week of incidents raises it; the analysts' budget is for both. Where fewer
episodes than the budget have even 3.5 bits, fewer are said.
"""

from __future__ import annotations

from typing import Any

from models.compiled import inline
from models.schema import ALL_BUDGET, ALL_BURST, BUDGET_POWER, SCORE_BINS, START
from models.table import Array

LONE = 1.5  # an episode of fewer than three strange events must be so many times as strange, unless it did serious harm
SHARE = 2 / 3  # of the budget is what is said in the mean
LOWEST = 7  # half bits, whatever the budget
STEP = 2.0  # steps a bit
DAY_ENDED = 0.95  # of the present weight of a day is what the first has when it ends
BURST = 3.0  # budgets, of about a day
BURST_HALF_LIFE = 86400.0  # seconds


@inline
def weight(now: float) -> float:
    """The present weight of one episode, or day, of the budget."""
    return float(now**BUDGET_POWER)


@inline
def first_day(fleet: Any, now: float) -> bool:
    """Whether less than a day has passed."""
    return bool(fleet[0].watched < DAY_ENDED * weight(now))


@inline
def threshold(fleet: Any) -> float:
    """The score from which an alert opens."""
    return float(fleet[0].bin / STEP)


@inline
def loudness(peak: float, third: float, serious: bool) -> float:
    """The highest threshold at which an episode is an alert: by its largest score, and its third strangest event's own bits."""
    return peak if serious else max(peak / LONE, min(peak, 2.0 * third))


@inline
def count(
    fleet: Any, body: Array, before: float, loud: float, now: float, clock_s: float, alerts_per_day: float
) -> None:
    """Count an episode whose loudness rises from `before` (below 0: a new episode) to `loud`, and set the threshold."""
    low = min(SCORE_BINS - 1, int(STEP * before)) if before >= 0 else -1
    high = min(SCORE_BINS - 1, int(STEP * loud))
    one = weight(now)
    fade = 2.0 ** (-(clock_s - fleet[0].burst_at) / BURST_HALF_LIFE) if fleet[0].burst_at > 0 else 0.0
    fleet[0].burst_at = clock_s
    for b in range(SCORE_BINS):
        body[ALL_BURST + b] *= fade
    for b in range(low + 1, high + 1):
        body[ALL_BUDGET + b] += one
        body[ALL_BURST + b] += 1.0
    allowed, burst = SHARE * alerts_per_day * max(fleet[0].watched, one), BURST * alerts_per_day
    b = fleet[0].bin
    while b < SCORE_BINS - 1 and (body[ALL_BUDGET + b] > allowed or body[ALL_BURST + b] > burst):
        b += 1
    while b > LOWEST and body[ALL_BUDGET + b - 1] <= allowed and body[ALL_BURST + b - 1] <= burst:
        b -= 1
    if first_day(fleet, now) and b < START:
        b = START
    fleet[0].bin = b
