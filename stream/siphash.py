"""Names as numbers: SipHash-1-3, the hash of CPython and Rust, with a fixed key so that every worker and every restart agree.

No dictionary, no code table: the number of a name is a function of the name, and stored with the baselines.
"""

from __future__ import annotations

import numpy as np

from models.compiled import inline, njit
from models.table import Array, Key


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


def name_hash(name: str) -> int:
    """The number of one name; 0 of none."""
    raw = np.frombuffer(bytearray(name.replace("\0", "\ufffd").encode("utf-8", "surrogatepass")), np.uint8)
    return int(_hash(raw)) if name else 0


@njit
def _hash(buffer: Array) -> Key:
    return siphash(buffer, 0, len(buffer))
