"""Times as they are written, in compiled code: RFC 3339 to the microsecond, or seconds since the epoch."""

from __future__ import annotations

import numpy as np

from models.compiled import inline
from models.table import Array
from stream.tokens import COLON, QUOTE, amount, digit

_LAST = 253402300799.0
_DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)


@inline
def _two(t: Array, i: int) -> int:
    """Two digits, or something far too large."""
    a, b = digit(t, i), digit(t, i + 1)
    return a * 10 + b if 0 <= a <= 9 and 0 <= b <= 9 else 1000


@inline
def when(t: Array, i: int, end: int) -> tuple[int, float]:
    """Where a time ends, and its seconds since the epoch: of RFC 3339 with microseconds, rounded half up as msgspec does, or a number."""
    if t[i] != QUOTE:
        i, value = amount(t, i, end)
        return (i if value <= _LAST else -1), value
    if i + 22 > end or t[i + 5] != 45 or t[i + 8] != 45 or t[i + 14] != COLON or t[i + 17] != COLON:
        return -1, 0.0
    if t[i + 11] != 84 and t[i + 11] != 32 and t[i + 11] != 116:  # T
        return -1, 0.0
    year, month, day = _two(t, i + 1) * 100 + _two(t, i + 3), _two(t, i + 6), _two(t, i + 9)
    hour, minute, second = _two(t, i + 12), _two(t, i + 15), _two(t, i + 18)
    if not (1900 <= year <= 2200 and 1 <= month <= 12 and hour <= 23 and minute <= 59 and second <= 59):
        return -1, 0.0
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= day <= _DAYS[month - 1] + (month == 2 and leap):
        return -1, 0.0
    i += 20
    micro, scale = 0, 100_000
    if t[i] == 46:  # .
        first = i = i + 1
        while i < end and 48 <= t[i] <= 57:
            if scale > 0:
                micro += digit(t, i) * scale
                scale //= 10
            elif i == first + 6 and t[i] >= 53:
                micro += 1
            i += 1
        if i == first:
            return -1, 0.0
    offset = 0
    if i >= end:
        return -1, 0.0
    if t[i] == 90 or t[i] == 122:  # Z
        i += 1
    elif t[i] == 43 or t[i] == 45:
        if i + 7 > end or t[i + 3] != COLON:
            return -1, 0.0
        hours, minutes = _two(t, i + 1), _two(t, i + 4)
        if hours > 23 or minutes > 59:
            return -1, 0.0
        offset = (hours * 60 + minutes) * (60 if t[i] == 43 else -60)
        i += 6
    else:
        return -1, 0.0
    if i >= end or t[i] != QUOTE:
        return -1, 0.0
    # Days since 1970-01-01 (Hinnant 2013, days_from_civil; no year here is before 0).
    y = year - (month <= 2)
    era = y // 400
    of_era = y - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
    return i + 1, ((days * 86400 + hour * 3600 + minute * 60 + second - offset) * 1_000_000 + micro) / 1e6
