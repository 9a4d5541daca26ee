"""Raw records → columns of numbers, one pass of compiled code over a batch (`scan`), and what follows from them: the parts of a resource's path, the domain of a
recipient, the rung of a classification.

A Python call per event and field is what makes others slow; here even an object per event is only made of those that become evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.batch import Batch, Text
from models.compiled import inline, njit
from models.harm import sensitivity
from models.table import Array
from stream import scan
from stream.codec import AccessEvent, Events, Reject, decode_event, plain, seconds
from stream.records import Records
from stream.scan import Columns
from stream.siphash import name_hash, siphash

_NONE = np.zeros(0, np.uint64)
_LONGEST = 253  # bytes of a host's name


class Read(NamedTuple):
    """A batch of raw records past the border."""

    batch: Batch | None  # where there is an event
    events: Events  # the same, as they were sent
    kept: list[int]  # index of each among the records
    rejects: list[Reject]


def read(
    records: Sequence[bytes | None],
    positions: Sequence[int] | Array,
    max_bytes: int,
    ladder: Array,
    own: Array = _NONE,
) -> Read:
    """Raw records → columns of those that are events, and rejects with their `positions`. Both keep the order.

    The largest record allowed is `max_bytes` long. `ladder` has the hashes of the classifications, lowest first,
    `own` those of the organisation's domains.
    """
    given = records if isinstance(records, Records) else Records.of(records)
    found = scan.scan(*given.text(max_bytes), np.zeros(len(given), np.bool_))
    if found.fit.all():
        return Read(_batch(found, ladder, own) if len(given) else None, Events(given, {}), list(range(len(given))), [])
    others = {i: decode_event(given[i], int(positions[i]), max_bytes) for i in np.flatnonzero(~found.fit).tolist()}
    rejects = [event for event in others.values() if isinstance(event, Reject)]
    decoded = {i: event for i, event in others.items() if not isinstance(event, Reject)}
    kept = [i for i in range(len(given)) if i in decoded or i not in others]
    raws = [given[i] or b"" for i in kept]
    batch = _of([decoded.get(i, raw) for i, raw in zip(kept, raws, strict=True)], ladder, own) if kept else None
    return Read(batch, Events(raws, {n: decoded[i] for n, i in enumerate(kept) if i in decoded}), kept, rejects)


def columns(events: Sequence[AccessEvent], ladder: Array, own: Array = _NONE) -> Batch:
    """Events, at least one, as columns."""
    return _of(events, ladder, own)


def _of(events: Sequence[AccessEvent | bytes], ladder: Array, own: Array) -> Batch:
    """Events, some of them as records that fit."""
    given = np.array([isinstance(event, AccessEvent) for event in events])
    raws = [plain(event) if isinstance(event, AccessEvent) else event for event in events]
    found = scan.scan(*Records.of(raws).text(max(map(len, raws))), given)
    if not found.fit.all():
        raise ValueError(f"not in a form that can be read fast: {raws[int(np.argmin(found.fit))][:300]!r}")
    for i, event in enumerate(events):
        if isinstance(event, bytes):
            continue
        found.time[i], found.bytes[i], found.records[i] = (
            seconds(event.time),
            _number(event.bytes),
            _number(event.records),
        )
        for j, recipient in enumerate(event.recipients or (), found.recipient_at[i]):
            found.size[j] = recipient.size or 1
    return _batch(found, ladder, own)


def _number(amount: float | None) -> float:
    return np.nan if amount is None else float(amount)


@njit
def _batch(c: Columns, ladder: Array, own: Array) -> Batch:
    """What follows from what stands there."""
    parties, scopes = c.recipient_at[-1], c.scope_at[-1]
    principal = _text(c, scan.PRINCIPAL)
    resource = _text(c, scan.RESOURCE)
    root, root_high, branch, branch_high, in_path = _paths(
        resource.buffer, resource.low, resource.high, principal.buffer, principal.low, principal.high
    )
    classification = _text(c, scan.CLASSIFICATION)
    rung = _rungs(classification.hash, ladder)
    outcome = c.hash[scan.OUTCOME]
    done = np.where(c.hash[scan.ACTION] == 0, c.hash[scan.TOOL], c.hash[scan.ACTION])
    recipient = _party(c, scan.ID, parties)
    kind = c.party_hash[scan.KIND][:parties]
    cleared_for = c.party_hash[scan.CLEARANCE][:parties]
    home = _domains(
        principal, Text(principal.hash, principal.low, principal.low, principal.buffer), principal.hash
    ).hash
    domain = _domains(recipient, _party(c, scan.DOMAIN, parties), kind)
    return Batch(
        c.time,
        _text(c, scan.EVENT),
        _text(c, scan.AGENT),
        c.hash[scan.COHORT],
        c.hash[scan.VERSION],
        principal,
        home,
        c.hash[scan.SESSION],
        _text(c, scan.TOOL),
        c.hash[scan.ACTION],
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
        (done != _READ) & (done != _LIST) & (done != _SEARCH) & (done != _SEND) & (done != _SHARE),
        c.approved,
        c.bytes,
        c.records,
        c.scope_at,
        Text(c.scope_hash[:scopes], c.scope_low[:scopes], c.scope_high[:scopes], c.buffer),
        c.recipient_at,
        recipient,
        domain,
        _under(domain, own, home, c.recipient_at),
        kind,
        _rungs(cleared_for, ladder),
        cleared_for,
        c.size[:parties],
        _sensitive(rung, len(ladder)),
    )


@njit
def _text(c: Columns, k: int) -> Text:
    return Text(c.hash[k], c.low[k], c.high[k], c.buffer)


@njit
def _party(c: Columns, k: int, n: int) -> Text:
    return Text(c.party_hash[k][:n], c.party_low[k][:n], c.party_high[k][:n], c.buffer)


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
def _bare(buffer: Array, low: int, high: int) -> tuple[int, int]:
    """An id without blanks and separators at its ends, and of `Eve <eve@evil.example>` what is in the brackets, where no address stands before them."""
    while low < high and buffer[low] <= 32:
        low += 1
    while low < high and (buffer[high - 1] <= 32 or buffer[high - 1] in (44, 59)):
        high -= 1
    if low < high and buffer[high - 1] == 62:  # >
        begin = high - 1
        while begin > low and buffer[begin] != 60:  # <
            begin -= 1
        if buffer[begin] == 60 and not _is_address(buffer, low, begin):
            return begin + 1, high - 1
    return low, high


@inline
def _is_address(buffer: Array, low: int, high: int) -> bool:
    """Whether an address or a URL stands in it: an @ right behind something and before something, or `://`."""
    for j in range(low + 1, high - 1):
        if buffer[j] == 64 and buffer[j - 1] > 32 and buffer[j + 1] > 32:
            return True
        if buffer[j] == 47 and buffer[j - 1] == 58 and buffer[j + 1] == 47:
            return True
    return False


@inline
def _is_one_url(buffer: Array, low: int, high: int) -> bool:
    """Whether what follows a URL's slashes has no blank anywhere, and no separator in its authority."""
    authority = True
    for j in range(low, high):
        c = buffer[j]
        authority = authority and c not in (47, 92, 63, 35)
        if c <= 32 or (authority and c in (44, 59)):
            return False
    return True


@inline
def _domain(buffer: Array, low: int, high: int, address: bool) -> tuple[int, int]:
    """First and last byte of an id's domain. Of several addresses in one id none is believed, and of a path nothing."""
    low, high = _bare(buffer, low, high)
    at = 0
    for j in range(low, high):
        c = buffer[j]
        if c in (44, 59) or c <= 32:  # , ;
            return (low, high) if address or _is_address(buffer, low, high) else (0, 0)
        if c == 47:  # /
            if j > low and buffer[j - 1] == 58 and j + 1 < high and buffer[j + 1] == 47:
                return _host(buffer, j + 2, high) if _is_one_url(buffer, j + 2, high) else (low, high)
            return (at, j) if at > 0 else (low, high) if address else (0, 0)
        if c == 64:  # @
            at = j + 1
    return (at, high) if at > 0 else (low, high) if address else (0, 0)


@njit
def _domains(parties: Text, given_domains: Text, kind: Array) -> Text:
    """The domain of each party: as given, else what follows the last @ of its id, else the host of its URL; in lower case.

    An email or URL that has none is its own domain, and so is what has several addresses: what cannot be read is nowhere inside.
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


@inline
def _is_own(domain: int, own: Array, home: int) -> bool:
    if len(own) == 0:
        return domain == home
    for i in range(len(own)):  # noqa: SIM110  # numba inlines no generator
        if own[i] == domain:
            return True
    return False


@njit
def _under(domain: Text, own: Array, home: Array, recipient_at: Array) -> Array:
    """Of each recipient's domain the one of the organisation's in which it lies: one of its `own` or, where none are given, the principal's; else itself.

    mail.corp.example lies in corp.example, notcorp.example does not; nor does what is no name of a host, such as two addresses in one.
    """
    out = domain.hash.copy()
    buffer = domain.buffer
    for e in range(len(home)):
        for j in range(recipient_at[e], recipient_at[e + 1]):
            low, high = domain.low[j], domain.high[j]
            if _is_own(out[j], own, home[e]) or high - low > _LONGEST or not _is_host(buffer, low, high):
                continue
            for at in range(low, high - 1):
                if buffer[at] == 46:  # .
                    whole = siphash(buffer, at + 1, high)
                    if _is_own(whole, own, home[e]):
                        out[j] = whole
                        break
    return out


@inline
def _is_host(buffer: Array, low: int, high: int) -> bool:
    """Letters, digits, hyphens, dots, and what is not ASCII."""
    for j in range(low, high):
        c = buffer[j]
        if not (97 <= c <= 122 or 48 <= c <= 57 or c in (45, 46, 95) or c >= 128):
            return False
    return True


_DENIED, _EMAIL, _URL = (np.uint64(name_hash(name)) for name in ("denied", "email", "url"))
_READ, _LIST, _SEARCH, _SEND, _SHARE = (
    np.uint64(name_hash(name)) for name in ("read", "list", "search", "send", "share")
)
