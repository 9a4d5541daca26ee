"""JSON events → columns, in one pass of compiled code over their bytes, without the interpreter's lock.

It takes what senders write in practice, and nothing that msgspec would not: whatever it does not take (`fit` false) is decoded, or
rejected with its reason, by `codec`, comes back in the plain form that `codec.plain` writes, and then fits. So `codec` says what an event is, and this file
only how to read it fast; `tests/test_columns.py` holds the two against each other.

What it leaves: a URL as the resource that something is given to (`codec` makes a recipient of it), a field that comes twice, a name with an escape, lone
surrogates, numbers with a sign or an exponent or of more digits than can be read exactly, times that are neither RFC 3339 to the second nor a number, texts that may be too long, classifications beyond ASCII,
more than 32 recipients, and one that is named twice.

Texts stay where they stand in the buffer, and are hashed on the way.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.compiled import inline, njit
from models.event import APPROVED, REFUSED, UNTOLD
from models.table import Array, Key, mix
from stream.instant import when
from stream.siphash import name_hash, siphash
from stream.tokens import (
    CLOSE,
    CLOSE_LIST,
    COMMA,
    OPEN,
    OPEN_LIST,
    amount,
    literal,
    name,
    skip,
    space,
    string,
    which,
    whole,
)

# Texts of an event, then its other fields; in about the order in which senders write them.
_NAMES = (
    "event_id", "agent_id", "agent_type", "agent_version", "principal", "session_id", "tool", "action", "resource", "classification", "outcome",
    "time", "scopes", "bytes", "records", "recipients", "approved", "attributes",
)  # fmt: skip
(
    EVENT, AGENT, COHORT, VERSION, PRINCIPAL, SESSION, TOOL, ACTION, RESOURCE, CLASSIFICATION, OUTCOME,
    _TIME, _SCOPES, _BYTES, _RECORDS, _RECIPIENTS, _APPROVED, _,
) = range(len(_NAMES))  # fmt: skip
TEXTS = OUTCOME + 1
_PARTY_NAMES = ("id", "type", "domain", "clearance", "size")
ID, KIND, DOMAIN, CLEARANCE, _SIZE = range(len(_PARTY_NAMES))
PARTY_TEXTS = CLEARANCE + 1

GIVES = ("write", "send", "share")  # actions that give something to what the resource names, where that is a URL
LONGEST_ID, LONGEST = 256, 8192  # characters, so at most as many bytes are surely short enough
MOST_SCOPES, MOST_PARTIES = 1024, 32
DEEPEST = 400
_LARGEST = 1e18


def _table(names: tuple[str, ...]) -> tuple[Array, Array]:
    width = max(map(len, names))
    letters = np.zeros((len(names), width), np.uint8)
    for k, text in enumerate(names):
        letters[k, : len(text)] = np.frombuffer(text.encode(), np.uint8)
    return letters, np.array([len(name) for name in names], np.int64)


_FIELD, _FIELD_LENGTH = _table(_NAMES)
_PARTY, _PARTY_LENGTH = _table(_PARTY_NAMES)


class Columns(NamedTuple):
    """What stands where, of n records. An absent text has no length and the hash 0, an absent number is NaN."""

    buffer: Array
    fit: Array  # (n,) whether the record was taken; the rest of its row means nothing otherwise
    low: Array  # (TEXTS, n)
    high: Array
    hash: Array
    time: Array  # (n,) seconds since the epoch
    bytes: Array
    records: Array
    approved: Array
    scope_at: Array  # (n + 1,)
    scope_low: Array
    scope_high: Array
    scope_hash: Array
    recipient_at: Array  # (n + 1,)
    party_low: Array  # (PARTY_TEXTS, recipients)
    party_high: Array
    party_hash: Array
    size: Array


_KINDS = np.array([name_hash(kind) for kind in ("user", "group", "channel", "agent", "service", "email", "url")], np.uint64)  # fmt: skip
_OUTCOMES = np.array([name_hash(outcome) for outcome in ("success", "denied", "error")], np.uint64)
_GIVES = np.array([name_hash(action) for action in GIVES], np.uint64)
_HTTP = np.frombuffer(b"http", np.uint8)
_SUCCESS = np.uint64(name_hash("success"))


@njit
def scan(buffer: Array, at: Array, given: Array) -> Columns:
    """Read n records of JSON, valid UTF-8, of which number i is `buffer[at[i] : at[i + 1] - 1]`. `given[i]`: it is in the form of `codec.plain`, and its texts are
    known to be right. The buffer is changed."""
    n = len(at) - 1
    c = Columns(
        buffer,
        np.zeros(n, np.bool_),
        np.zeros((TEXTS, n), np.int64),
        np.zeros((TEXTS, n), np.int64),
        np.zeros((TEXTS, n), np.uint64),
        np.empty(n),
        np.empty(n),
        np.empty(n),
        np.empty(n, np.uint8),
        np.zeros(n + 1, np.int64),
        np.empty(len(buffer) // 3 + 1, np.int64),  # the shortest entry is "a" and a comma, with a bracket
        np.empty(len(buffer) // 3 + 1, np.int64),
        np.empty(len(buffer) // 3 + 1, np.uint64),
        np.zeros(n + 1, np.int64),
        np.empty((PARTY_TEXTS, len(buffer) // 10 + 1), np.int64),  # the shortest is {"id":"a"}
        np.empty((PARTY_TEXTS, len(buffer) // 10 + 1), np.int64),
        np.empty((PARTY_TEXTS, len(buffer) // 10 + 1), np.uint64),
        np.empty(len(buffer) // 10 + 1),
    )
    stack = np.zeros(DEEPEST, np.bool_)
    same = np.zeros(MOST_PARTIES, np.uint64)
    for e in range(n):
        c.scope_at[e + 1] = c.scope_at[e]
        c.recipient_at[e + 1] = c.recipient_at[e]
        c.fit[e] = _event(c, e, at[e], at[e + 1] - 1, given[e], stack, same)
        if not c.fit[e]:
            c.scope_at[e + 1] = c.scope_at[e]
            c.recipient_at[e + 1] = c.recipient_at[e]
    return c


@inline
def _event(c: Columns, e: int, i: int, end: int, given: bool, stack: Array, same: Array) -> bool:
    """One record. It must be an object and nothing more."""
    t = c.buffer
    c.time[e] = c.bytes[e] = c.records[e] = np.nan
    c.approved[e] = UNTOLD
    met, k = 0, -1
    i = space(t, i, end)
    if i >= end or t[i] != OPEN:
        return False
    i = space(t, i + 1, end)
    while True:
        low, high, i = name(t, i, end)
        if i < 0:
            return False
        k = which(t, low, high, _FIELD, _FIELD_LENGTH, k + 1)
        if k < 0:
            i = skip(t, i, end, stack)
        elif met >> k & 1:
            return False
        elif k < TEXTS:
            met |= 1 << k
            i = _text_of(c, e, k, i, end, given)
        else:
            met |= 1 << k
            if t[i] == 110:  # n
                i = -1 if k == _TIME else literal(t, i, end)
            elif k == _TIME:
                i, c.time[e] = when(t, i, end)
            elif k == _BYTES:
                i, c.bytes[e] = amount(t, i, end)
                i = i if c.bytes[e] <= _LARGEST else -1
            elif k == _RECORDS:
                i, c.records[e] = amount(t, i, end)
                i = i if c.records[e] <= _LARGEST else -1
            elif k == _APPROVED:
                c.approved[e] = APPROVED if t[i] == 116 else REFUSED
                i = literal(t, i, end)
            elif k == _SCOPES:
                i = _scopes(c, e, i, end, given)
            elif k == _RECIPIENTS:
                i = _parties(c, e, i, end, given, stack, same)
            else:
                i = skip(t, i, end, stack) if t[i] == OPEN else -1
        if i < 0:
            return False
        i = space(t, i, end)
        if i >= end:
            return False
        if t[i] == CLOSE:
            break
        if t[i] != COMMA:
            return False
        i = space(t, i + 1, end)
    if space(t, i + 1, end) != end or np.isnan(c.time[e]):
        return False
    if not given and (c.hash[EVENT, e] == 0 or c.hash[AGENT, e] == 0 or c.hash[ACTION, e] == 0):
        return False
    if not given and c.recipient_at[e + 1] == c.recipient_at[e] and _among(c.hash[ACTION, e], _GIVES):
        low = c.low[RESOURCE, e]
        if c.high[RESOURCE, e] - low > 7 and _is(t, low, _HTTP):
            return False  # `codec` says who received it
    if c.hash[TOOL, e] == 0:  # the action is the tool
        c.low[TOOL, e], c.high[TOOL, e], c.hash[TOOL, e] = c.low[ACTION, e], c.high[ACTION, e], c.hash[ACTION, e]
        c.hash[ACTION, e] = 0
    if c.hash[OUTCOME, e] == 0:
        c.hash[OUTCOME, e] = _SUCCESS
    return True


@inline
def _text_of(c: Columns, e: int, k: int, i: int, end: int, given: bool) -> int:
    """A text of an event, or null; where it ends, -1 if it does not fit."""
    t = c.buffer
    if t[i] == 110:  # n
        return literal(t, i, end)
    low, high, i = string(t, i, end)
    if i < 0 or (not given and high - low > (LONGEST_ID if k in (EVENT, AGENT) else LONGEST)):
        return -1
    if k == CLASSIFICATION and not _fold(t, low, high, given):
        return -1
    if k == OUTCOME and not _among(siphash(t, low, high), _OUTCOMES):
        return -1
    c.low[k, e], c.high[k, e] = low, high
    if high > low:
        c.hash[k, e] = siphash(t, low, high)
    return i


@inline
def _is(t: Array, low: int, word: Array) -> bool:
    """Whether a word in lower case, of letters, stands there in any case."""
    same = True
    for j in range(len(word)):
        same &= t[low + j] | 32 == word[j]
    return same


@inline
def _scopes(c: Columns, e: int, i: int, end: int, given: bool) -> int:
    """A list of texts that are not empty."""
    t, m = c.buffer, c.scope_at[e]
    if t[i] != OPEN_LIST:
        return -1
    i = space(t, i + 1, end)
    if i < end and t[i] == CLOSE_LIST:
        return i + 1
    while i < end:
        low, high, i = string(t, i, end)
        if i < 0 or high == low or (not given and (high - low > LONGEST or m - c.scope_at[e] >= MOST_SCOPES)):
            return -1
        c.scope_low[m], c.scope_high[m], c.scope_hash[m] = low, high, siphash(t, low, high)
        m += 1
        i = space(t, i, end)
        if i >= end:
            return -1
        if t[i] == CLOSE_LIST:
            c.scope_at[e + 1] = m
            return i + 1
        if t[i] != COMMA:
            return -1
        i = space(t, i + 1, end)
    return -1


@inline
def _parties(c: Columns, e: int, i: int, end: int, given: bool, stack: Array, same: Array) -> int:
    """A list of recipients."""
    t, m = c.buffer, c.recipient_at[e]
    if t[i] != OPEN_LIST:
        return -1
    i = space(t, i + 1, end)
    if i < end and t[i] == CLOSE_LIST:
        return i + 1
    while i < end:
        i, key = _party(c, m, i, end, given, stack)
        if i < 0:
            return -1
        if not given:  # word for word the same is for `codec` to leave out
            before = m - c.recipient_at[e]
            if before >= MOST_PARTIES or _among(key, same[:before]):
                return -1
            same[before] = key
        m += 1
        i = space(t, i, end)
        if i >= end:
            return -1
        if t[i] == CLOSE_LIST:
            c.recipient_at[e + 1] = m
            return i + 1
        if t[i] != COMMA:
            return -1
        i = space(t, i + 1, end)
    return -1


@inline
def _party(c: Columns, m: int, i: int, end: int, given: bool, stack: Array) -> tuple[int, Key]:
    """A recipient; where it ends, and a number of all that is said of it."""
    t = c.buffer
    same = np.uint64(0)
    for k in range(PARTY_TEXTS):
        c.party_low[k, m] = c.party_high[k, m] = 0
        c.party_hash[k, m] = 0
    c.size[m] = 1.0
    met, k = 0, -1
    if t[i] != OPEN:
        return -1, same
    i = space(t, i + 1, end)
    while True:
        low, high, i = name(t, i, end)
        if i < 0:
            return -1, same
        k = which(t, low, high, _PARTY, _PARTY_LENGTH, k + 1)
        if k < 0:
            i = skip(t, i, end, stack)
        elif met >> k & 1:
            return -1, same
        elif t[i] == 110:  # n
            met |= 1 << k
            i = literal(t, i, end)
        elif k == _SIZE:
            met |= 1 << k
            i, x = amount(t, i, end)
            if i < 0 or x < 1.0 or x > 9007199254740992.0 or t[i - 1] < 48 or x != np.floor(x) or not whole(t, i):
                return -1, same
            c.size[m] = x
            same += mix(np.uint64(_SIZE + 1), np.uint64(np.int64(x)))
        else:
            met |= 1 << k
            low, high, i = string(t, i, end)
            if i < 0 or (not given and high - low > LONGEST):
                return -1, same
            key = siphash(t, low, high)
            same += mix(np.uint64(k + 1), key)
            if k == CLEARANCE:
                if not _fold(t, low, high, given):
                    return -1, same
                key = siphash(t, low, high)
            if k == KIND and not _among(key, _KINDS):
                return -1, same
            c.party_low[k, m], c.party_high[k, m] = low, high
            c.party_hash[k, m] = key if high > low else np.uint64(0)
        if i < 0:
            return -1, same
        i = space(t, i, end)
        if i >= end:
            return -1, same
        if t[i] == CLOSE:
            break
        if t[i] != COMMA:
            return -1, same
        i = space(t, i + 1, end)
    return (i + 1 if given or c.party_hash[ID, m] != 0 else -1), same


@inline
def _fold(t: Array, low: int, high: int, given: bool) -> bool:
    """A classification in lower case: RESTRICTED is no other class than restricted. False beyond ASCII, which is for Python."""
    for j in range(low, high):
        if t[j] >= 128 and not given:
            return False
        if 65 <= t[j] <= 90:
            t[j] += 32
    return True


@inline
def _among(key: Key, keys: Array) -> bool:
    found = False
    for other in keys:
        found |= key == other
    return found
