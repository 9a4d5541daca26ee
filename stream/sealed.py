"""A value on a topic of ours: a header, a checksum of it and of what follows, and a payload that is compressed."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import zstandard

_CHECKSUM = struct.Struct("<I")
_compressor = zstandard.ZstdCompressor(level=1)  # of one thread at a time, the one that scores
_BLOCK = 4096  # bytes that have codes of their own: of what is alike side by side, soon followed by what is not
MOST = 1 << 28  # bytes of a payload


class Corrupt(Exception):  # noqa: N818
    """A value fails its checksum, or is of a version or layout that cannot be read. The message says which."""


def seal(header: struct.Struct, fields: tuple[Any, ...], payload: bytes) -> bytes:
    """The value. The first two fields of a header are the magic and the version."""
    head, body = header.pack(*fields), _compress(payload)
    return head + _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(head))) + body


def _compress(payload: bytes) -> bytes:
    out = _compressor.compressobj(size=len(payload))
    parts: list[bytes] = []
    for low in range(0, len(payload), _BLOCK):
        parts += (out.compress(payload[low : low + _BLOCK]), out.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    return b"".join((*parts, out.flush()))


def unseal(
    header: struct.Struct, magic: bytes, versions: tuple[int, ...], value: bytes
) -> tuple[tuple[Any, ...], bytes]:
    """The fields after the magic, and the payload. `versions` are those that can be read, the one that is written last. Raises `Corrupt`."""
    begin = header.size + _CHECKSUM.size
    if len(value) < begin:
        raise Corrupt("it is shorter than a header")
    (found, version, *_) = fields = header.unpack_from(value)
    body = value[begin:]
    if found != magic or version not in versions:
        raise Corrupt(f"it is of version {version}, and this program writes {versions[-1]}")
    if (zlib.crc32(body, zlib.crc32(value[: header.size])),) != _CHECKSUM.unpack_from(value, header.size):
        raise Corrupt("its checksum is wrong")
    try:
        return fields[1:], zstandard.ZstdDecompressor().decompress(body, max_output_size=MOST)
    except zstandard.ZstdError as error:
        raise Corrupt(f"it does not decompress ({error})") from None
