"""An agent that does the same on a fixed beat: each amount against a forecast with the shape of its day and week.

Most agents work in bursts, and nothing here says a word about them. Where the gaps between an agent's calls of a tool are regular
(mean deviation of log2 of the gap under a half, gaps of ten seconds or more), its amounts are a time series, and too little is as strange as
too much. On a log scale the forecast is a slow level L (rate 1/50), and where that has been the better forecast so far, L plus
the mean deviation of this hour of the day, on weekdays or weekends. The error over its running deviation (rate 1/500, errors clipped
at ten deviations) is z; its mean over about twenty calls, times √19, finds what is small and lasts. With q the two-sided normal tail of the
larger in bits, the signal is

    4 · log2(1 + max(0, q − M)),  M ← max(M · (1 − 1/200), q)

so the same again says less for some two hundred calls: one alert at the beginning of a change, not one each five minutes.

What it misses: series that are flat and then flat a little higher; the first fifty calls; a beat that stops altogether.

References: Holt (1957) and Winters (1960) for level and season; Lavin and Ahmad (2015) for the benchmark that it is judged by.
"""

from __future__ import annotations

import math

from models import clock
from models.compiled import inline
from models.state import HOURS
from models.table import Array, Key, claim

HOUR = 3600.0
BEAT_RATE, BEAT_CALLS, BEAT_DEVIATION, BEAT_SHORTEST = 0.05, 10.0, 0.5, 3.5
LEVEL, SPREAD, SEASON, ERROR, SHORT = 0.02, 0.002, 0.05, 0.01, 0.1
CLIP, WIDEST, FLOOR = 10.0, 50.0, 1e-4
YOUNG, SEASON_CALLS, SEASON_DAYS = 50.0, 200.0, 3.0
AGAIN = 1.0 / 200.0
SCALE = 4.0


@inline
def beat(row: Array, i: int, time: float) -> bool:
    """Learn the gap since the call before, by the event's own time; whether the calls come on a beat."""
    n, since = row[i].beats, max(0.0, time - row[i].last)
    row[i].last = time
    row[i].beats = n + 1.0
    if n == 0:
        return False
    g = math.log2(1.0 + since)
    if n == 1:
        row[i].gap, row[i].gap_off = g, 1.0
    rate = max(BEAT_RATE, 1.0 / n)
    row[i].gap_off += rate * (min(4.0, abs(g - row[i].gap)) - row[i].gap_off)
    row[i].gap += rate * (g - row[i].gap)
    return bool(n >= BEAT_CALLS and row[i].gap_off < BEAT_DEVIATION and row[i].gap > BEAT_SHORTEST)


@inline
def score(
    head: Array, body: Array, dirty: Array, tally: Array, key: Key, x: float, time: float, clock_s: float, learned: bool
) -> tuple[float, float, float]:
    """Bits of a log amount, its forecast and the spread of its errors; then learn it."""
    i, fresh = claim(head, dirty, tally, key)
    if fresh:
        body[i, :] = 0.0
        head[i].level = x
        head[i].n = head[i].v = head[i].short = head[i].plain = head[i].shaped = head[i].peak = 0.0
    head[i].w = clock_s
    at = int(time // HOUR) % 24 + (24 if clock.weekend(time) else 0)
    known = at if body[i, HOURS + at] >= SEASON_DAYS else (at + 24) % HOURS
    season = body[i, known] if body[i, HOURS + known] >= SEASON_DAYS else 0.0
    n = head[i].n
    shape = n > SEASON_CALLS and head[i].shaped < head[i].plain
    forecast = head[i].level + (season if shape else 0.0)
    error = x - forecast
    spread = math.sqrt(head[i].v + FLOOR)
    z = max(-WIDEST, min(WIDEST, error / spread)) if n > 10 else 0.0
    short = head[i].short + SHORT * (z - head[i].short)
    q = max(_bits(z), _bits(short * math.sqrt((2.0 - SHORT) / SHORT))) if n >= YOUNG else 0.0
    bits = SCALE * math.log2(1.0 + max(0.0, q - head[i].peak))
    if learned:
        head[i].short = short
        head[i].peak = max(head[i].peak * (1.0 - AGAIN), q)
        clipped = max(-CLIP * spread, min(CLIP * spread, error)) if n >= 20 else error
        head[i].plain += ERROR * (abs(x - head[i].level) - head[i].plain)
        head[i].shaped += ERROR * (abs(x - head[i].level - season) - head[i].shaped)
        head[i].v += max(SPREAD, 1.0 / (n + 1.0)) * (clipped * clipped - head[i].v)
        body[i, HOURS + at] += 1.0
        body[i, at] += (x - head[i].level - body[i, at]) * max(SEASON, 1.0 / body[i, HOURS + at])
        head[i].level += max(LEVEL, 1.0 / (n + 1.0)) * (x - (body[i, at] if shape else 0.0) - head[i].level)
        head[i].n = n + 1.0
    return bits, forecast, spread


@inline
def _bits(z: float) -> float:
    """−log2 of the two-sided normal tail; its asymptotic form where the tail is too small for a float."""
    a = abs(z)
    if a < 6.0:
        return -math.log2(math.erfc(a / math.sqrt(2.0)))
    return (a * a / 2.0 + math.log(a) + 0.2257) / math.log(2.0)
