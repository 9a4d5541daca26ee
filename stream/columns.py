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
from typing import Any, NamedTuple, cast

import numpy as np
from msgspec.structs import astuple

from models.batch import Batch, Text
from models.compiled import inline, njit
from models.event import APPROVED, REFUSED, UNTOLD
from models.harm import sensitivity
from models.table import Array, Key
from stream.codec import AccessEvent


class Names(NamedTuple):
    """A column of n names, not hashed yet: UTF-8, separated by NUL, "" for absent."""

    buffer: Array
    n: int


class Gathered(NamedTuple):
    """A batch of events field by field: what needs the interpreter. The rest of the way, `hashed`, does not."""

    time: Array
    event: Names
    agent: Names
    cohort: Names
    version: Names
    principal: Names
    session: Names
    tool: Names
    action: Names
    resource: Names
    classification: Names
    outcome: Names
    approved: Array
    bytes: Array
    records: Array
    scope_at: Array
    scope: Names
    recipient_at: Array
    recipient: Names
    domain: Names
    kind: Names
    clearance: Names
    size: Array


def gather(events: Sequence[AccessEvent]) -> Gathered:
    """Take events, at least one, apart."""
    (
        event_id, time, agent_id, action, agent_type, agent_version, principal, session_id, tool, resource, classification,
        scopes_of, moved, records, recipients_of, approved, outcome, _,
    ) = zip(*map(astuple, events), strict=True)  # fmt: skip  # in the order of the struct's fields
    scope_at, scopes = _flat(scopes_of)
    recipient_at, recipients = _flat(recipients_of)
    return Gathered(
        _seconds(time),
        _names(event_id),
        _names(agent_id),
        _names(agent_type),
        _names(agent_version),
        _names(principal),
        _names(session_id),
        _names(tool if all(tool) else [t or a for t, a in zip(tool, action, strict=True)]),
        _names(action if all(tool) else [a if t else "" for t, a in zip(tool, action, strict=True)]),
        _names(resource),
        _names(_folded(classification)),
        _names(outcome if all(outcome) else [x or "success" for x in outcome]),
        np.array([UNTOLD if x is None else APPROVED if x else REFUSED for x in approved], np.uint8),
        np.array(moved, np.float64),
        np.array(records, np.float64),
        scope_at,
        _names(scopes),
        recipient_at,
        _names([r.id for r in recipients]),
        _names([r.domain for r in recipients]),
        _names([r.type for r in recipients]),
        _names(_folded([r.clearance for r in recipients])),
        np.array([r.size or 1 for r in recipients], np.float64),
    )


def _folded(rungs: Sequence[str | None]) -> list[str | None]:
    """Classifications in lower case: RESTRICTED is no other class than restricted."""
    folded = {rung: rung.lower() if rung else rung for rung in set(rungs)}
    return [folded[rung] for rung in rungs]


def _names(values: Sequence[str | None]) -> Names:
    """Join a column of names. A NUL inside a name counts as U+FFFD, since it separates the names."""
    n = len(values)
    texts = cast("Sequence[str]", values) if all(values) else [v or "" for v in values]
    joined = "\0".join(texts)
    if joined.count("\0") != max(0, n - 1):
        joined = "\0".join([v.replace("\0", "\ufffd") for v in texts])
    # A copy can be written to: one type for the compiler.
    return Names(np.array(np.frombuffer(joined.encode("utf-8", "surrogatepass"), np.uint8)), n)


@njit
def hashed(g: Gathered, ladder: Array) -> Batch:
    """Hash what was gathered and find its parts."""
    principal = _text(g.principal)
    resource = _text(g.resource)
    root, root_high, branch, branch_high, in_path = _paths(
        resource.buffer, resource.low, resource.high, principal.buffer, principal.low, principal.high
    )
    classification = _text(g.classification)
    rung = _rungs(classification.hash, ladder)
    outcome = _text(g.outcome).hash
    recipient = _text(g.recipient)
    kind = _text(g.kind).hash
    cleared_for = _text(g.clearance).hash
    return Batch(
        g.time,
        _text(g.event).hash,
        _text(g.agent),
        _text(g.cohort).hash,
        _text(g.version).hash,
        principal,
        _domains(principal, Text(principal.hash, principal.low, principal.low, principal.buffer), principal.hash).hash,
        _text(g.session).hash,
        _text(g.tool),
        _text(g.action).hash,
        resource,
        root,
        root_high,
        branch,
        branch_high,
        in_path,
        classification,
        rung,
        outcome,
        outcome == _DENIED,
        g.approved,
        g.bytes,
        g.records,
        g.scope_at,
        _text(g.scope),
        g.recipient_at,
        recipient,
        _domains(recipient, _text(g.domain), kind),
        kind,
        _rungs(cleared_for, ladder),
        cleared_for,
        g.size,
        _sensitive(rung, len(ladder)),
    )


def name_hash(name: str) -> int:
    """The number of one name."""
    return int(_text(_names([name])).hash[0])


def _seconds(times: Sequence[datetime | float]) -> Array:
    try:
        return np.fromiter(map(datetime.timestamp, times), np.float64, len(times))  # type: ignore[arg-type]
    except TypeError:  # some are numbers
        return np.array([t.timestamp() if isinstance(t, datetime) else t for t in times], np.float64)


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


@inline
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
def _text(names: Names) -> Text:
    buffer, n = names
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
    return Text(out, low, high, buffer)


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


@njit
def _sensitive(rung: Array, rungs: int) -> Array:
    out = np.zeros(len(rung), np.int8)
    for i in range(len(rung)):
        out[i] = sensitivity(rung[i], rungs)
    return out


@inline
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


@inline
def _domain(buffer: Array, low: int, high: int, address: bool) -> tuple[int, int]:
    """First and last byte of an id's domain. Of several addresses in one id none is believed, and of a path nothing."""
    at = 0
    for j in range(low, high):
        c = buffer[j]
        if c in (44, 59) or c <= 32:  # , ;
            return (low, high) if address else (0, 0)
        if c == 47:  # /
            if j > low and buffer[j - 1] == 58 and j + 1 < high and buffer[j + 1] == 47:
                return _host(buffer, j + 2, high)
            return (at, j) if at > 0 else (low, high) if address else (0, 0)
        if c == 64:  # @
            at = j + 1
    return (at, high) if at > 0 else (low, high) if address else (0, 0)


@njit
def _domains(parties: Text, given_domains: Text, kind: Array) -> Text:
    """The domain of each party: as given, else what follows the last @ of its id, else the host of its URL; in lower case.

    An email or URL that has none is its own domain: what cannot be read is nowhere inside.
    """
    low, high, buffer = parties.low, parties.high, parties.buffer
    given_low, given_high, given = given_domains.low, given_domains.high, given_domains.buffer
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
            a, b = _domain(buffer, low[i], high[i], kind[i] == _EMAIL or kind[i] == _URL)
        begin[i] = at
        for j in range(a, b):
            c = source[j]
            folded[at] = c + 32 if 65 <= c <= 90 else c
            at += 1
        end[i] = at
        if at > begin[i]:
            out[i] = siphash(folded, begin[i], at)
    return Text(out, begin, end, folded)


_DENIED, _EMAIL, _URL = (np.uint64(name_hash(name)) for name in ("denied", "email", "url"))
