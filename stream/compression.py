"""What a producer compressed, unpacked as far as memory allows: a megabyte may be a gibibyte of zeros, and whoever may write events could end every worker with one.

What Kafka's codecs make of a batch is known beforehand (snappy, lz4) or comes in pieces (gzip, zstd); aiokafka's functions unpack all of it whatever it is.
"""

from __future__ import annotations

import io
import struct
import zlib

import cramjam
import zstandard
from aiokafka import codec

# Bytes of one record batch. A broker takes 1 MiB of them compressed, unless its message.max.bytes says else, and events shrink to a tenth, those of one template to a fiftieth.
MOST_UNPACKED = 256 << 20
_PIECE = 1 << 20
_XERIAL = b"\x82SNAPPY\x00"  # what Java's clients put before blocks of snappy
_XERIAL_HEAD = 16
_LZ4 = 0x184D2204
_LZ4_BLOCKS = {4: 64 << 10, 5: 256 << 10, 6: 1 << 20, 7: 4 << 20}  # by what the frame says is the largest
_U32 = struct.Struct("<I")


class TooMuchError(ValueError):
    """More than `MOST_UNPACKED`."""

    def __init__(self) -> None:
        super().__init__(f"it unpacks to more than {MOST_UNPACKED >> 20} MiB")


def decompress(kind: int, payload: bytes) -> bytes:
    """The bytes of a record batch whose attributes name a codec. Raises `TooMuchError`, and `ValueError` if they are damaged."""
    try:
        return _CODECS[kind](payload)
    except TooMuchError:
        raise
    except KeyError:
        raise ValueError(f"Kafka has no codec {kind}") from None
    except (OSError, EOFError, zlib.error, struct.error, zstandard.ZstdError, cramjam.DecompressionError) as error:
        raise ValueError(f"it cannot be decompressed ({str(error) or type(error).__name__})") from None


def _gzip(payload: bytes) -> bytes:
    out = []
    room = MOST_UNPACKED
    while payload:  # one member after another, as Python's own reader takes them
        member = zlib.decompressobj(wbits=31)
        out.append(member.decompress(payload, room + 1))
        room -= len(out[-1])
        if room < 0:
            raise TooMuchError
        if not member.eof:
            raise EOFError("it ends in the middle")
        payload = member.unused_data.lstrip(b"\0")
    return b"".join(out)


def _snappy(payload: bytes) -> bytes:
    size, at = 0, 0
    if payload.startswith(_XERIAL):
        at = _XERIAL_HEAD
        while at < len(payload):
            length = int.from_bytes(payload[at : at + 4], "big")
            size += cramjam.snappy.decompress_raw_len(payload[at + 4 : at + 4 + length])
            at += 4 + length
    else:
        size = cramjam.snappy.decompress_raw_len(payload)
    if size > MOST_UNPACKED:
        raise TooMuchError
    return bytes(codec.snappy_decode(payload))


def _lz4(payload: bytes) -> bytes:
    try:
        bound = _lz4_bound(payload)
    except struct.error:
        raise EOFError("it ends in the middle") from None
    if bound > MOST_UNPACKED:  # no block need be full
        room = bytearray(MOST_UNPACKED)
        try:
            return bytes(memoryview(room)[: cramjam.lz4.decompress_into(payload, room)])
        except cramjam.DecompressionError:
            raise TooMuchError from None
    return bytes(codec.lz4_decode(payload))


def _lz4_bound(payload: bytes) -> int:
    """What its frames can be at most: as many blocks as there are, each of the size that its frame allows."""
    bound = at = 0
    while at + 7 <= len(payload) and _U32.unpack_from(payload, at)[0] == _LZ4:
        flags, block = payload[at + 4], _LZ4_BLOCKS.get(payload[at + 5] >> 4 & 7, 4 << 20)
        at += 7 + (8 if flags & 8 else 0) + (4 if flags & 1 else 0)
        while size := _U32.unpack_from(payload, at)[0] & 0x7FFFFFFF:
            at += 4 + size + (4 if flags & 16 else 0)
            bound += block
        at += 4 + (4 if flags & 4 else 0)
    return bound


def _zstd(payload: bytes) -> bytes:
    out = []
    room = MOST_UNPACKED
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(payload), read_across_frames=True) as reader:
        while piece := reader.read(_PIECE):
            out.append(piece)
            room -= len(piece)
            if room < 0:
                raise TooMuchError
    return b"".join(out)


_CODECS = {1: _gzip, 2: _snappy, 3: _lz4, 4: _zstd}
