"""An agent that does the same on a fixed beat: each amount against a forecast with the shape of its day and week.

Most agents work in bursts, and nothing here says a word about them. Where the gaps between an agent's calls of a tool are regular
(on average within a factor of two of their mean, of ten seconds or more, over the last hundred), its amounts are a time series, and too little is as strange as
too much. The forecast is a slow level (rate 1/100), and where that has been the better forecast so far, the level plus the mean deviation of this
hour of the day, on weekdays or weekends. What counts is how far the error r leaves the range [l, h] of all errors before it, and the same
of its running mean over some forty calls (rate 1/20), which finds what is small and lasts. After n calls the signal is

    e = max(r − h, l − r) / (h − l),    bits = min(4 · log2(1 + 50·e), (1 + e) · log2 n)

The first term is the size: a twentieth of the range is 7 bits. The second is the evidence: of n errors alike the next is a record with
probability 1/n, and where their tail is exponential the range is about log n of its scale, so it is left by e with n^−(1 + e).
Then the range takes the error in, but at most doubles: the same again says less, and one enormous amount cannot hide all that follow.
Each call narrows it by 1/10,000. Amounts are taken as they are: on a log scale nights of nearly nothing would make the noise.

What it misses: what creeps, the range and the level with it; a repeat of what was strange before; too little at hours when there
is little anyway; the first hundred calls and the first day; a beat that stops altogether.

References: Holt (1957) and Winters (1960) for level and season; Chandler (1952) for records; Lavin and Ahmad (2015) for the benchmark
that it is judged by, whose own detector also takes five hundredths beyond the range so far for strange in itself.
"""

from __future__ import annotations

import math

from models import clock
from models.compiled import inline
from models.schema import HOURS
from models.table import Array, Key, claim

HOUR = 3600.0
BEAT_RATE, BEAT_CALLS, BEAT_DEVIATION, BEAT_SHORTEST = 0.01, 50.0, 1.0, 3.5
LEVEL, SEASON, ERROR, MEAN = 0.01, 0.02, 0.01, 0.05
NARROWER, LEAST = 1e-4, 0.05  # no range is narrower than this share of the level
SETTLED, YOUNG, SEASON_CALLS, SEASON_SEEN, DAY = 20.0, 50.0, 200.0, 3.0, 86400.0
SCALE, BEYOND = 4.0, 0.02


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
) -> tuple[float, float, float, float, float, bool]:
    """Bits of an amount, or of its mean with those before it; what is strange, its forecast and the range around that, and
    whether it is the mean; then learn it."""
    i, fresh = claim(head, dirty, tally, key)
    if fresh:
        body[i, :] = 0.0
        head[i].level, head[i].first = x, time
        head[i].n = head[i].plain = head[i].shaped = head[i].mean = 0.0
        head[i].low = head[i].high = head[i].mean_low = head[i].mean_high = 0.0
    head[i].w = clock_s
    row = head[i]
    at = int(time // HOUR) % 24 + (24 if clock.weekend(time) else 0)
    known = at if body[i, HOURS + at] >= SEASON_SEEN else (at + 24) % HOURS
    season = body[i, known] if body[i, HOURS + known] >= SEASON_SEEN else 0.0
    n = row.n
    shape = n > SEASON_CALLS and row.shaped < row.plain
    forecast = row.level + (season if shape else 0.0)
    error = x - forecast
    mean = row.mean + MEAN * (error - row.mean)
    least = max(1.0, LEAST * abs(row.level))
    now, lately = _beyond(error, row.low, row.high, least), _beyond(mean, row.mean_low, row.mean_high, least)
    lasts = lately > now
    e = max(now, lately)
    known_well = n >= YOUNG and time >= row.first + DAY
    bits = min(SCALE * math.log2(1.0 + e / BEYOND), (1.0 + e) * math.log2(n)) if known_well and e > 0.0 else 0.0
    strange, low, high = (mean, row.mean_low, row.mean_high) if lasts else (error, row.low, row.high)
    if learned:
        level = row.level
        head[i].mean = mean
        if n >= SETTLED:
            head[i].low, head[i].high = _widened(error, row.low, row.high, least, n < YOUNG)
            head[i].mean_low, head[i].mean_high = _widened(mean, row.mean_low, row.mean_high, least, n < YOUNG)
        head[i].plain += ERROR * (abs(x - level) - row.plain)
        head[i].shaped += ERROR * (abs(x - level - season) - row.shaped)
        body[i, HOURS + at] += 1.0
        body[i, at] += (x - level - body[i, at]) * max(SEASON, 1.0 / body[i, HOURS + at])
        head[i].level = level + max(LEVEL, 1.0 / (n + 1.0)) * (x - (body[i, at] if shape else 0.0) - level)
        head[i].n = n + 1.0
    return bits, forecast + strange, forecast, forecast + low, forecast + high, lasts


@inline
def _beyond(x: float, low: float, high: float, least: float) -> float:
    """How far outside of a range, in widths of it."""
    return max(0.0, x - high, low - x) / max(high - low, least)


@inline
def _widened(x: float, low: float, high: float, least: float, free: bool) -> tuple[float, float]:
    """The range a little narrower, and with x in it or, unless it grows freely, twice as wide."""
    most = math.inf if free else max(high - low, least)
    narrower = 0.5 * NARROWER * (high - low)
    return min(low + narrower, max(x, low - most)), max(high - narrower, min(x, high + most))
