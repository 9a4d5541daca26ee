"""JSON's tokens in compiled code: each function reads one at `t[i:end]` and tells where it ends, -1 if there is none or `codec` should look at it (`scan`).

Nothing is accepted here that is not JSON (RFC 8259). Texts are unescaped in place: no escape is shorter than what it means.
"""

from __future__ import annotations

import numpy as np

from models.compiled import apart, inline
from models.table import Array

QUOTE, BACKSLASH, COMMA, COLON, OPEN, CLOSE, OPEN_LIST, CLOSE_LIST = (ord(c) for c in '"\\,:{}[]')
_POWER = np.array([10.0**k for k in range(23)])
_POWER_INT = np.array([10**k for k in range(10)], np.int64)


@inline
def space(t: Array, i: int, end: int) -> int:
    while i < end and (t[i] == 32 or t[i] == 10 or t[i] == 13 or t[i] == 9):
        i += 1
    return i


@inline
def name(t: Array, i: int, end: int) -> tuple[int, int, int]:
    """A field's name without escapes, where it stands, and where its value begins; -1 if there is none."""
    if i >= end or t[i] != QUOTE:
        return 0, 0, -1
    low = high = i + 1
    while high < end and t[high] != QUOTE:
        if t[high] == BACKSLASH or t[high] < 32:
            return 0, 0, -1
        high += 1
    i = space(t, high + 1, end)
    if i >= end or t[i] != COLON:
        return 0, 0, -1
    i = space(t, i + 1, end)
    return low, high, i if i < end else -1


@inline
def which(t: Array, low: int, high: int, letters: Array, length: Array, guess: int) -> int:
    """The number of a name, -1 if nobody knows it. Most follow on each other, so it is looked for from the `guess` on."""
    n = len(length)
    for step in range(n):
        k = guess + step
        if k >= n:
            k -= n
        if length[k] == high - low:
            j = 0
            while j < high - low and t[low + j] == letters[k, j]:
                j += 1
            if j == high - low:
                return k
    return -1


@inline
def string(t: Array, i: int, end: int) -> tuple[int, int, int]:
    """Where a text stands, unescaped, and where it ends; -1 if it does not fit."""
    if t[i] != QUOTE:
        return 0, 0, -1
    low = i = i + 1
    while i < end and t[i] != QUOTE and t[i] != BACKSLASH and t[i] >= 32:
        i += 1
    if i < end and t[i] == QUOTE:
        return low, i, i + 1
    if i < end and t[i] == BACKSLASH:
        return _unescape(t, low, i, end)
    return 0, 0, -1


@apart
def _unescape(t: Array, low: int, i: int, end: int) -> tuple[int, int, int]:
    """The rest of a text, from its first escape on, in place."""
    out = i
    while i < end and t[i] != QUOTE:
        c = t[i]
        if c < 32:
            return 0, 0, -1
        i += 1
        if c != BACKSLASH:
            t[out] = c
            out += 1
            continue
        if i >= end:
            return 0, 0, -1
        c = t[i]
        i += 1
        if c == 117:  # u
            code, i = _code(t, i, end)
            if i < 0:
                return 0, 0, -1
            if code == 0:
                code = 0xFFFD  # of a NUL, as ever
            if code < 0x80:
                t[out] = code
                out += 1
            elif code < 0x800:
                t[out], t[out + 1] = 0xC0 | code >> 6, 0x80 | code & 0x3F
                out += 2
            elif code < 0x10000:
                t[out], t[out + 1], t[out + 2] = 0xE0 | code >> 12, 0x80 | code >> 6 & 0x3F, 0x80 | code & 0x3F
                out += 3
            else:
                t[out], t[out + 1] = 0xF0 | code >> 18, 0x80 | code >> 12 & 0x3F
                t[out + 2], t[out + 3] = 0x80 | code >> 6 & 0x3F, 0x80 | code & 0x3F
                out += 4
            continue
        if c not in (QUOTE, BACKSLASH, 47, 98, 102, 110, 114, 116):  # "\\/bfnrt
            return 0, 0, -1
        t[out] = 8 if c == 98 else 12 if c == 102 else 10 if c == 110 else 13 if c == 114 else 9 if c == 116 else c
        out += 1
    return (low, out, i + 1) if i < end else (0, 0, -1)


@inline
def _code(t: Array, i: int, end: int) -> tuple[int, int]:
    """The code point of \\uXXXX, or of a pair of them, from the X on; and where it ends."""
    code, i = _hex(t, i, end)
    if i < 0 or 0xDC00 <= code < 0xE000:
        return 0, -1
    if 0xD800 <= code < 0xDC00:
        if i + 2 > end or t[i] != BACKSLASH or t[i + 1] != 117:
            return 0, -1
        second, i = _hex(t, i + 2, end)
        if i < 0 or not 0xDC00 <= second < 0xE000:
            return 0, -1
        code = 0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00)
    return code, i


@inline
def _hex(t: Array, i: int, end: int) -> tuple[int, int]:
    if i + 4 > end:
        return 0, -1
    code = 0
    for j in range(i, i + 4):
        c = digit(t, j) + 48
        if 48 <= c <= 57:
            c -= 48
        elif 97 <= c <= 102:
            c -= 87
        elif 65 <= c <= 70:
            c -= 55
        else:
            return 0, -1
        code = code << 4 | c
    return code, i + 4


@inline
def digit(t: Array, i: int) -> int:
    """The digit that stands there; less than 0 or more than 9 if none does."""
    return np.int64(t[i]) - 48  # type: ignore[return-value]  # of bytes, which have no sign


@inline
def literal(t: Array, i: int, end: int) -> int:
    """true, false or null."""
    if i + 4 <= end and t[i] == 116 and t[i + 1] == 114 and t[i + 2] == 117 and t[i + 3] == 101:
        return i + 4
    if i + 4 <= end and t[i] == 110 and t[i + 1] == 117 and t[i + 2] == 108 and t[i + 3] == 108:
        return i + 4
    if i + 5 <= end and t[i] == 102 and t[i + 1] == 97 and t[i + 2] == 108 and t[i + 3] == 115 and t[i + 4] == 101:
        return i + 5
    return -1


@inline
def amount(t: Array, i: int, end: int) -> tuple[int, float]:
    """Where a number ends, and what it is: the nearest double (Clinger 1990: up to 15 digits and 22 decimals both parts are exact, so is the quotient rounded once).
    -1 for what has a sign, an exponent, or more digits; but a time in seconds may have all that a double can tell."""
    value = 0
    digits = decimals = 0
    first = i
    while i < end and 48 <= t[i] <= 57:
        if digits >= 18:
            return -1, 0.0
        value = value * 10 + digit(t, i)
        digits += value > 0
        i += 1
    if i == first or (t[first] == 48 and i > first + 1):
        return -1, 0.0
    whole = value
    if i < end and t[i] == 46:  # .
        i += 1
        dot = i
        while i < end and 48 <= t[i] <= 57:
            if digits >= 18 or decimals >= 22:
                return -1, 0.0
            value = value * 10 + digit(t, i)
            digits += value > 0
            decimals += 1
            i += 1
        if i == dot:
            return -1, 0.0
    if i < end and (t[i] == 101 or t[i] == 69):  # e
        return -1, 0.0
    if digits <= 15:
        return i, value / _POWER[decimals]
    if 1 << 30 <= whole < 1 << 31 and decimals <= 9:  # of such a number a double tells 2^-22
        power = _POWER_INT[decimals]
        part = (value - whole * power) << 22
        steps = part // power
        rest = 2 * (part - steps * power)
        steps += (rest > power) or (rest == power and steps & 1 == 1)
        return i, ((whole << 22) + steps) / 4194304.0
    return -1, 0.0


@inline
def whole(t: Array, i: int) -> bool:
    """Whether the number that ends here was written without a point."""
    i -= 1
    while 48 <= t[i] <= 57:
        i -= 1
    return bool(t[i] != 46)


@apart
def skip(t: Array, i: int, end: int, stack: Array) -> int:
    """Where any value ends; -1 if it is none, or nests too deep."""
    depth = 0  # `stack`: whether that level is an object
    while True:
        if i >= end:
            return -1
        c = t[i]
        if c in (OPEN, OPEN_LIST):
            if depth == len(stack):
                return -1
            stack[depth] = c == OPEN
            depth += 1
            i = space(t, i + 1, end)
            if i < end and t[i] == (CLOSE if c == OPEN else CLOSE_LIST):
                depth -= 1
                i += 1
            else:
                if c == OPEN:
                    _, _, i = name(t, i, end)
                    if i < 0:
                        return -1
                continue
        elif c == QUOTE:
            _, _, i = string(t, i, end)
        elif c == 45 or 48 <= c <= 57:
            i = _skip_number(t, i, end)
        else:
            i = literal(t, i, end)
        if i < 0:
            return -1
        while depth > 0:  # a value has ended: so may what holds it
            i = space(t, i, end)
            if i >= end:
                return -1
            if t[i] == COMMA:
                i = space(t, i + 1, end)
                if stack[depth - 1]:
                    _, _, i = name(t, i, end)
                    if i < 0:
                        return -1
                break
            if t[i] != (CLOSE if stack[depth - 1] else CLOSE_LIST):
                return -1
            depth -= 1
            i += 1
        if depth == 0:
            return i


@inline
def _skip_number(t: Array, i: int, end: int) -> int:
    """Where a number ends, by the grammar of RFC 8259."""
    i += t[i] == 45
    first = i
    while i < end and 48 <= t[i] <= 57:
        i += 1
    if i == first or (t[first] == 48 and i > first + 1):
        return -1
    if i < end and t[i] == 46:
        i += 1
        first = i
        while i < end and 48 <= t[i] <= 57:
            i += 1
        if i == first:
            return -1
    if i < end and (t[i] == 101 or t[i] == 69):
        i += 1
        if i < end and (t[i] == 43 or t[i] == 45):
            i += 1
        first = i
        while i < end and 48 <= t[i] <= 57:
            i += 1
        if i == first:
            return -1
    return i
