"""Has the daily level of an agent, or of a whole cohort, changed for good? A Page-Hinkley test over the last days.

The test (Page 1954) sums how far each day's log2 amount lies from the running mean, less half a bit a day that is forgiven,
and fires when the sum has left its extreme by 8 bits: three days at sixteen times the level, or a week at four times.
It runs over the ring of the last 32 days that is stored anyway, so it is a function of stored numbers and needs no memory
of its own; once a day for each agent and cohort. It is River's, to the last bit: `river.drift` brings SciPy's statistics with it for
another test, 80 MB and a second of each worker. (River's ADWIN was tried: on a month of days it needs 13 at sixteen times.)

What it misses: a level that doubles, for two weeks; anything within the first ten days.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from statistics import fmean

DAYS = 10
FORGIVEN = 0.5  # bits
THRESHOLD = 8.0  # bits
FADE = 1 - 0.0001  # of the sums, a day


def changed(days: Sequence[float]) -> bool:
    """Whether the last of these days (oldest first, log2 amounts) completes a change of level.

    >>> usual = [10.0, 10.1, 9.9] * 6
    >>> changed(usual), changed([*usual, 14.0]), changed([*usual, 14.0, 14.1, 13.9])
    (False, False, True)
    """
    # A day that lies within what is forgiven adds nothing to the sum, so it cannot complete a change: most days end here.
    if len(days) < DAYS or abs(days[-1] - fmean(days)) <= FORGIVEN:
        return False
    begin = 0, 0.0, 0.0, 0.0, inf, -inf
    found, (n, mean, up, down, least, most) = False, begin
    for x in days:
        if found:  # after a change it begins anew
            n, mean, up, down, least, most = begin
        n += 1
        mean += (x - mean) / n
        up = FADE * up + (x - mean) - FORGIVEN
        down = FADE * down + (x - mean) + FORGIVEN
        least, most = min(least, up), max(most, down)
        found = n >= DAYS and max(up - least, most - down) > THRESHOLD
    return found
