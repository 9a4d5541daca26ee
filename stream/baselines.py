"""Baselines on Kafka: what a partition's engine knows, kept on a compacted topic, so that a restarted worker goes on where it was.

Each flush is one transaction on the partition's own producer: alerts, rejects, and the rows that changed with the next source
offset. So either all of it is there or none, and a worker that was replaced without knowing is fenced by its transactional id.
After a crash the state says from which offset on events have not been learned; what the group's committed offset brings again is skipped.

The topic holds two kinds of records. *Changes* have keys that go round a ring (`c/0` … `c/2047`), and beside each flush some *pages*
of the whole state are written in turn, fast enough that before a change is overwritten a page with its rows has been written. So the
topic stays as large as the state and a ring, nothing is ever written all at once, and reading it in order gives the state back, slot
for slot. Values carry a version, the layout of the state, a checksum and the offset; a corrupt one is left out and counted.

What it does not keep: a River detector's objects (they warm up again).
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import msgspec
import zstandard

from models.state import layout_id
from stream.engine import Engine
from stream.episodes import Episode

TOPIC = "agent.access.baselines"
RING = 2048
_HEADER = struct.Struct("<4sBBxxQQQI")  # magic, version, kind, layout, sequence, next source offset, checksum
_MAGIC, _VERSION = b"STRL", 1
_ROWS, _EPISODES = 0, 1
_EPISODE_CHUNK = 256

_encode = msgspec.json.Encoder().encode
_decode_episodes = msgspec.json.Decoder(list[tuple[str, Episode | None]]).decode


class Record(NamedTuple):
    """One record for the topic."""

    key: bytes
    value: bytes


class Corrupt(Exception):  # noqa: N818
    """A value fails its checksum, or is of another version or layout. The message says which."""


class Writer:
    """Turns what an engine has learned since the last flush into records, and knows where in the ring and the pages it is."""

    def __init__(self, engine: Engine, sequence: int = 0) -> None:
        self.engine = engine
        self.sequence = sequence
        self.page = 0
        self._layout = layout_id()
        self._compress = zstandard.ZstdCompressor(level=1).compress

    def flush(self, next_offset: int) -> list[Record]:
        """Records of all changes, and of the next pages. The engine must not be scoring meanwhile."""
        state, episodes = self.engine.state, self.engine.episodes
        out = [self._change(_ROWS, piece, next_offset) for piece in state.delta()]
        pages = state.pages()
        turns = -(-len(pages) * len(out) // (RING // 2))
        for _ in range(turns):
            if self.page >= len(pages):
                self.page = 0
                episodes.changed |= set(episodes.open)
            for i, piece in enumerate(state.page(*pages[self.page])):
                out.append(Record(b"p/%d/%d" % (self.page, i), self._value(_ROWS, piece, next_offset)))
            self.page += 1
        changed = sorted(episodes.changed)
        episodes.changed.clear()
        for low in range(0, len(changed), _EPISODE_CHUNK):
            part = [(agent_id, episodes.open.get(agent_id)) for agent_id in changed[low : low + _EPISODE_CHUNK]]
            out.append(self._change(_EPISODES, _encode(part), next_offset))
        return out

    def _change(self, kind: int, payload: bytes, next_offset: int) -> Record:
        self.sequence += 1
        return Record(b"c/%d" % (self.sequence % RING), self._value(kind, payload, next_offset))

    def _value(self, kind: int, payload: bytes, next_offset: int) -> bytes:
        body = self._compress(payload)
        return _HEADER.pack(_MAGIC, _VERSION, kind, self._layout, self.sequence, next_offset, zlib.crc32(body)) + body


class Reader:
    """Puts records, in the order of the topic, back into a fresh engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.next_offset = 0
        self.sequence = 0
        self.records = 0
        self._layout = layout_id()

    def read(self, value: bytes | None) -> None:
        """Apply one record's value. Raises `Corrupt`, with nothing applied."""
        if not value:
            return
        kind, sequence, next_offset, payload = self._open(value)
        try:
            if kind == _ROWS:
                self.engine.state.apply(payload)
            else:
                for agent_id, episode in _decode_episodes(payload):
                    self.engine.episodes.restore(agent_id, episode)
        except (ValueError, msgspec.DecodeError) as error:
            raise Corrupt(f"it does not fit the state ({error})") from None
        self.sequence = max(self.sequence, sequence)
        self.next_offset = max(self.next_offset, next_offset)
        self.records += 1

    def writer(self) -> Writer:
        """A writer that goes on where the read state ends."""
        return Writer(self.engine, self.sequence)

    def _open(self, value: bytes) -> tuple[int, int, int, bytes]:
        if len(value) < _HEADER.size:
            raise Corrupt("it is shorter than a header")
        magic, version, kind, layout, sequence, next_offset, checksum = _HEADER.unpack_from(value)
        body = value[_HEADER.size :]
        if magic != _MAGIC or version != _VERSION:
            raise Corrupt(f"it is of version {version}, and this program writes {_VERSION}")
        if zlib.crc32(body) != checksum:
            raise Corrupt("its checksum is wrong")
        if layout != self._layout:
            raise Corrupt("it was written for another layout of the state")
        try:
            return (
                kind,
                sequence,
                next_offset,
                zstandard.ZstdDecompressor().decompress(body, max_output_size=1 << 28),
            )
        except zstandard.ZstdError as error:
            raise Corrupt(f"it does not decompress ({error})") from None
