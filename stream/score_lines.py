"""Lines of scores, as in the contract: `{"event_id":"…","agent_id":"…","score":17.25,"parts":{"volume":0.0,…}}`.

Written by compiled code out of the columns, since there is one for every event. The bytes are those that msgspec writes of the same values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.batch import Batch, Text
from models.compiled import inline, njit
from models.signals import KINDS
from models.table import Array
from stream.codec import AccessEvent, encode_lines

PLACES = 4  # decimals: a ten-thousandth of a bit
_NUMBER = 24  # bytes that the largest score takes, and more
_EVENT, _AGENT, _SCORE, _PARTS = (
    np.frombuffer(x, np.uint8) for x in (b'{"event_id":"', b'","agent_id":"', b'","score":', b',"parts":{')
)
_NAMES = np.frombuffer("".join(f'"{kind}":' for kind in KINDS).encode(), np.uint8)
_NAME_AT = np.cumsum([0, *(len(kind) + 3 for kind in KINDS)])
_SHORT = np.zeros(32, np.uint8)  # letter that stands for a control character
for _code, _letter in ((8, "b"), (9, "t"), (10, "n"), (12, "f"), (13, "r")):
    _SHORT[_code] = ord(_letter)
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
QUOTE, BACKSLASH = 34, 92


def score_lines(events: Sequence[AccessEvent], b: Batch, score: Array, parts: Array) -> bytes:
    """A line for each event of a batch, of its score (n,) and that by kind (n, kinds), both in bits and not negative."""
    fixed = sum(map(len, (_EVENT, _AGENT, _SCORE, _PARTS, _NAMES))) + (1 + len(KINDS)) * (_NUMBER + 1) + 3
    ids = sum(int((text.high - text.low).sum()) for text in (b.event, b.agent))
    out = np.empty(len(score) * fixed + 6 * ids, np.uint8)  # a control character takes six bytes
    scale = 10.0**PLACES
    size = _write(out, b.event, b.agent, np.rint(score * scale), np.rint(parts * scale))
    return out[:size].tobytes() if size >= 0 else _from_events(events, score, parts)


def _from_events(events: Sequence[AccessEvent], score: Array, parts: Array) -> bytes:
    """The same, slowly, where columns may not have an id as it came."""
    by_kind = (dict(zip(KINDS, bits, strict=True)) for bits in np.round(parts, PLACES).tolist())
    said = zip(events, np.round(score, PLACES).tolist(), by_kind, strict=True)
    return encode_lines(
        [{"event_id": x.event_id, "agent_id": x.agent_id, "score": bits, "parts": kinds} for x, bits, kinds in said]
    )


@njit
def _write(out: Array, event: Text, agent: Text, score: Array, parts: Array) -> int:
    """How many bytes were written; -1 where an id has a U+FFFD, which in columns may stand for a NUL."""
    at = 0
    for e in range(len(score)):
        if _replaced(event, e) or _replaced(agent, e):
            return -1
        at = _copy(out, at, _EVENT, 0, len(_EVENT))
        at = _escaped(out, at, event.buffer, event.low[e], event.high[e])
        at = _copy(out, at, _AGENT, 0, len(_AGENT))
        at = _escaped(out, at, agent.buffer, agent.low[e], agent.high[e])
        at = _copy(out, at, _SCORE, 0, len(_SCORE))
        at = _number(out, at, np.int64(score[e]))
        at = _copy(out, at, _PARTS, 0, len(_PARTS))
        for k in range(parts.shape[1]):
            at = _copy(out, at, _NAMES, _NAME_AT[k], _NAME_AT[k + 1])
            at = _number(out, at, np.int64(parts[e, k]))
            out[at] = 44  # ,
            at += 1
        out[at - 1] = out[at] = 125  # }
        out[at + 1] = 10
        at += 2
    return at


@inline
def _replaced(text: Text, e: int) -> bool:
    t = text.buffer
    for i in range(text.low[e], text.high[e] - 2):  # noqa: SIM110  # numba has no any() of a generator
        if t[i] == 0xEF and t[i + 1] == 0xBF and t[i + 2] == 0xBD:
            return True
    return False


@inline
def _copy(out: Array, at: int, text: Array, low: int, high: int) -> int:
    for i in range(low, high):
        out[at + i - low] = text[i]
    return at + high - low


@inline
def _escaped(out: Array, at: int, text: Array, low: int, high: int) -> int:
    """UTF-8 as it stands within a JSON string."""
    for i in range(low, high):
        c = text[i]
        if c >= 32 and c not in (QUOTE, BACKSLASH):
            out[at] = c
            at += 1
            continue
        out[at] = BACKSLASH
        if c >= 32 or _SHORT[c] > 0:
            out[at + 1] = c if c >= 32 else _SHORT[c]
            at += 2
            continue
        out[at + 1] = 117  # u
        out[at + 2] = out[at + 3] = 48  # 0
        out[at + 4], out[at + 5] = _HEX[c >> 4], _HEX[c & 15]
        at += 6
    return at


@inline
def _number(out: Array, at: int, x: Any) -> int:
    """A decimal number from a whole number of its last places; of zeros at its end one stays, behind the point."""
    whole, rest = x // 10**PLACES, x % 10**PLACES
    digits = 1
    top = 10
    while whole >= top:
        digits += 1
        top *= 10
    for i in range(digits):
        out[at + digits - 1 - i] = 48 + whole % 10
        whole //= 10
    at += digits
    out[at] = 46  # .
    places = PLACES
    while places > 1 and rest % 10 == 0:
        rest //= 10
        places -= 1
    for i in range(places):
        out[at + places - i] = 48 + rest % 10
        rest //= 10
    return at + 1 + places
