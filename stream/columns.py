"""A batch of decoded events → columns of numbers, a whole field at a time.

A Python call per event and field is what makes others slow. So each text field is joined into one buffer, which compiled
code hashes (SipHash-1-3, the hash of CPython and Rust, with a fixed key so that every worker and every restart agree)
while it finds the parts of a resource's path and the domain of a recipient. No dictionary, no code table: the number of a
name is a function of the name.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import chain
from typing import Any, cast

import numpy as np
from msgspec.structs import astuple

from models.batch import Batch, Text
from models.compiled import inline, njit
from models.table import Array, Key
from stream.codec import AccessEvent


def columns(events: Sequence[AccessEvent], ladder: Array) -> Batch:
    """Turn events into columns. `ladder` holds the hashes of the classification ladder, lowest first."""
    (
        event_id, time, agent_id, action, agent_type, _, principals, session_id, tool, resources, classifications,
        scopes_of, moved, records, recipients_of, _, outcomes, _,
    ) = zip(*map(astuple, events), strict=True)  # fmt: skip  # in the order of the struct's fields
    principal = text(_present(principals))
    resource = text(_present(resources))
    root, root_high, branch, branch_high, in_path = _paths(
        resource.buffer, resource.low, resource.high, principal.buffer, principal.low, principal.high
    )
    classification = text(_present(classifications))
    scope_at, scopes = _flat(scopes_of)
    recipient_at, recipients = _flat(recipients_of)
    outcome = text([x or "success" for x in outcomes]).hash
    recipient = text([r.id for r in recipients])
    return Batch(
        _seconds(time),
        text(event_id).hash,
        text(agent_id),
        text(_present(agent_type)).hash,
        principal,
        _domains(principal, None).hash,
        text(_present(session_id)).hash,
        text(tool if all(tool) else [t or a for t, a in zip(tool, action, strict=True)]),
        resource,
        root,
        root_high,
        branch,
        branch_high,
        in_path,
        classification,
        _rungs(classification.hash, ladder),
        outcome,
        outcome == _DENIED,
        np.array(moved, np.float64),
        np.array(records, np.float64),
        scope_at,
        text(scopes),
        recipient_at,
        recipient,
        _domains(recipient, text([r.domain or "" for r in recipients])),
        text([r.type or "" for r in recipients]).hash,
        _rungs(text([r.clearance or "" for r in recipients]).hash, ladder),
        np.array([r.size or 1 for r in recipients], np.float64),
    )


def _present(values: Sequence[str | None]) -> Sequence[str]:
    return cast("Sequence[str]", values) if all(values) else [v or "" for v in values]


def text(values: Sequence[str]) -> Text:
    """Hash a column of names, "" for absent. A NUL inside a name counts as U+FFFD, since it separates the names."""
    n = len(values)
    if n == 0:
        return Text(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8))
    joined = "\0".join(values)
    if joined.count("\0") != n - 1:
        joined = "\0".join([v.replace("\0", "\ufffd") for v in values])
    buffer = np.array(
        np.frombuffer(joined.encode("utf-8", "surrogatepass"), np.uint8)
    )  # a copy: one type for the compiler
    return Text(*_hashes(buffer, n), buffer)


def _seconds(times: Sequence[datetime | float]) -> Array:
    try:
        return np.fromiter(map(datetime.timestamp, times), np.float64, len(times))  # type: ignore[arg-type]
    except TypeError:  # some are numbers
        return np.array([t.timestamp() if isinstance(t, datetime) else t for t in times], np.float64)


def name_hash(name: str) -> int:
    """The number of one name, as `text` gives it."""
    return int(text([name]).hash[0])


def _flat(lists: Sequence[Sequence[Any] | None]) -> tuple[Array, list[Any]]:
    at = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(x) if x else 0 for x in lists], out=at[1:])
    return at, list(chain.from_iterable(filter(None, lists)))


@inline
def _round(a: Key, b: Key, c: Key, d: Key) -> tuple[Key, Key, Key, Key]:
    a += b
    b = (b << np.uint64(13)) | (b >> np.uint64(51))
    b ^= a
    a = (a << np.uint64(32)) | (a >> np.uint64(32))
    c += d
    d = (d << np.uint64(16)) | (d >> np.uint64(48))
    d ^= c
    a += d
    d = (d << np.uint64(21)) | (d >> np.uint64(43))
    d ^= a
    c += b
    b = (b << np.uint64(17)) | (b >> np.uint64(47))
    b ^= c
    c = (c << np.uint64(32)) | (c >> np.uint64(32))
    return a, b, c, d


@njit
def siphash(buffer: Array, low: int, high: int) -> Key:
    """SipHash-1-3 (Aumasson and Bernstein 2012) of `buffer[low:high]` with the all-zero key."""
    a = np.uint64(0x736F6D6570736575)
    b = np.uint64(0x646F72616E646F6D)
    c = np.uint64(0x6C7967656E657261)
    d = np.uint64(0x7465646279746573)
    i = low
    while i + 8 <= high:
        m = np.uint64(0)
        for j in range(8):
            m |= np.uint64(buffer[i + j]) << np.uint64(8 * j)
        d ^= m
        a, b, c, d = _round(a, b, c, d)
        a ^= m
        i += 8
    m = np.uint64(high - low) << np.uint64(56)
    for j in range(high - i):
        m |= np.uint64(buffer[i + j]) << np.uint64(8 * j)
    d ^= m
    a, b, c, d = _round(a, b, c, d)
    a ^= m
    c ^= np.uint64(0xFF)
    for _ in range(3):
        a, b, c, d = _round(a, b, c, d)
    return a ^ b ^ c ^ d


@njit
def _hashes(buffer: Array, n: int) -> tuple[Array, Array, Array]:
    out = np.zeros(n, np.uint64)
    low = np.zeros(n, np.int64)
    high = np.zeros(n, np.int64)
    at = 0
    for i in range(n):
        low[i] = at
        while at < len(buffer) and buffer[at] != 0:
            at += 1
        high[i] = at
        if at > low[i]:
            out[i] = siphash(buffer, low[i], at)
        at += 1
    return out, low, high


@njit
def _paths(
    buffer: Array, low: Array, high: Array, who: Array, who_low: Array, who_high: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """First part of each path, first two parts, where both end, and whether a part is the principal's name.

    Parts stand between slashes; empty ones do not count, and of a URI the scheme is a part.
    """
    n = len(low)
    root = np.zeros(n, np.uint64)
    root_high = np.zeros(n, np.int64)
    branch = np.zeros(n, np.uint64)
    branch_high = np.zeros(n, np.int64)
    named = np.zeros(n, np.uint8)
    for i in range(n):
        parts = 0
        first = at = low[i]
        while at < high[i]:
            while at < high[i] and buffer[at] == 47:
                at += 1
            begin = at
            while at < high[i] and buffer[at] != 47:
                at += 1
            end = at
            if end > begin and buffer[end - 1] == 58 and at + 1 < high[i] and buffer[at + 1] == 47:
                end -= 1
            if end <= begin:
                continue
            parts += 1
            if parts == 1:
                first = begin
                root[i] = siphash(buffer, begin, end)
                root_high[i] = end
            elif parts == 2:
                branch[i] = siphash(buffer, first, end)
                branch_high[i] = end
            m = who_high[i] - who_low[i]
            if m > 0 and end - begin == m:
                same = True
                for j in range(m):
                    if buffer[begin + j] != who[who_low[i] + j]:
                        same = False
                        break
                if same:
                    named[i] = 1
    return root, root_high, branch, branch_high, named


@njit
def _rungs(values: Array, ladder: Array) -> Array:
    out = np.full(len(values), -1, np.int8)
    for i in range(len(values)):
        for j in range(len(ladder)):
            if values[i] == ladder[j]:
                out[i] = j
    return out


def _domains(parties: Text, given: Text | None) -> Text:
    """The domain of each party: as given, else what follows the last @ of its id, else the host of its URL; in lower case."""
    g = (
        given
        if given is not None
        else Text(np.zeros(len(parties.low), np.uint64), parties.low, parties.low, parties.buffer)
    )
    return Text(*_domain_spans(parties.buffer, parties.low, parties.high, g.buffer, g.low, g.high))


@njit
def _host(buffer: Array, low: int, high: int) -> tuple[int, int]:
    """Where the host of a URL stands, from behind its slashes. What precedes the last @ of the authority is userinfo, colons
    included: `https://corp.example:x@evil.example` goes to evil.example. A backslash ends it, as it does in a browser."""
    end = low
    begin = low
    while end < high and buffer[end] != 47 and buffer[end] != 92 and buffer[end] != 63 and buffer[end] != 35:
        end += 1
        if buffer[end - 1] == 64:
            begin = end
    stop = begin
    bracket = begin < end and buffer[begin] == 91
    while stop < end and (bracket or buffer[stop] != 58):
        bracket = bracket and buffer[stop] != 93
        stop += 1
    return begin, stop


@njit
def _domain_spans(
    buffer: Array, low: Array, high: Array, given: Array, given_low: Array, given_high: Array
) -> tuple[Array, Array, Array, Array]:
    n = len(low)
    out = np.zeros(n, np.uint64)
    begin = np.zeros(n, np.int64)
    end = np.zeros(n, np.int64)
    folded = np.zeros(len(buffer) + len(given) + 1, np.uint8)
    at = 0
    for i in range(n):
        source = buffer
        a = b = 0
        if given_high[i] > given_low[i]:
            source = given
            a, b = given_low[i], given_high[i]
        else:
            for j in range(low[i], high[i]):
                if buffer[j] == 64:
                    a, b = j + 1, high[i]
                elif buffer[j] == 58 and j + 2 < high[i] and buffer[j + 1] == 47 and buffer[j + 2] == 47:
                    a, b = _host(buffer, j + 3, high[i])
                    break
        begin[i] = at
        for j in range(a, b):
            c = source[j]
            folded[at] = c + 32 if 65 <= c <= 90 else c
            at += 1
        end[i] = at
        if at > begin[i]:
            out[i] = siphash(folded, begin[i], at)
    return out, begin, end, folded


_DENIED = np.uint64(name_hash("denied"))
