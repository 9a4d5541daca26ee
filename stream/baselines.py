"""Baselines on Kafka: what a partition's engine knows, kept on a compacted topic, so that a restarted worker goes on where it was.

Each flush is one transaction on the partition's own producer: alerts, rejects, and the rows that changed with the next offsets of
the events and of the verdicts. So either all of it is there or none, and a worker that was replaced without knowing is fenced by its transactional id.
After a crash the state says from which offset on events have not been learned; what the group's committed offset brings again is skipped.

The topic holds two kinds of records. *Changes* have keys that go round a ring (`c/0` … `c/2047`), and beside each flush some *pages*
of the whole state are written, the longest unwritten first, so many that before a change is overwritten every page has been written
after it. So the topic stays as large as the state and a ring, nothing is ever written all at once, and reading it in order gives the
state back, slot for slot, whatever compaction has removed and however often tables grew or workers changed in between. Values carry
a version, the layout of the state, a checksum and both offsets; a corrupt one is left out and counted.

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
from stream.episode import Episode
from stream.rollout import Began

TOPIC = "agent.access.baselines"
RING = 2048
_HEADER = struct.Struct(
    "<4sBBxxQQQQ"
)  # magic, version, kind, layout, sequence, next source offset, next verdict offset
_CHECKSUM = struct.Struct("<I")  # of the header and what follows the checksum
_BODY = _HEADER.size + _CHECKSUM.size
_MAGIC, _VERSION = b"STRL", 2
_ROWS, _EPISODES, _ROLLOUTS, _POSITIONS = 0, 1, 2, 3
_EPISODE_CHUNK = 256

Page = tuple[int, int, int]  # as `State.pages` gives them

_encode = msgspec.json.Encoder().encode
_decode_episodes = msgspec.json.Decoder(list[tuple[str, Episode | None]]).decode
_decode_rollouts = msgspec.json.Decoder(list[Began]).decode


class Position(msgspec.Struct, array_like=True):
    """How far a partition has come in what another has taught of cohorts: the next offset, and the number of the last increments."""

    offset: int = 0
    number: int = 0


_decode_positions = msgspec.json.Decoder(dict[int, Position]).decode


class Record(NamedTuple):
    """One record for the topic."""

    key: bytes
    value: bytes


class Corrupt(Exception):  # noqa: N818
    """A value fails its checksum, or is of another version or layout. The message says which."""


class Writer:
    """Turns what an engine has learned since the last flush into records; `written` says when each page was, by the sequence."""

    def __init__(self, engine: Engine, sequence: int = 0, written: dict[bytes, int] | None = None) -> None:
        self.engine = engine
        self.sequence = sequence
        self.written = written or {}
        self._episodes_written = -RING  # all of them at the first flush
        self._layout = layout_id()
        self._compress = zstandard.ZstdCompressor(level=1).compress

    def flush(
        self, next_offset: int, next_verdict: int = 0, positions: dict[int, Position] | None = None
    ) -> list[Record]:
        """Records of all changes, and of the next pages; `positions` are those in the cohorts of other partitions.

        The engine must not be scoring meanwhile.
        """
        before, at = self.sequence, (next_offset, next_verdict)
        out = [self._change(_ROWS, piece, at) for piece in self.engine.state.delta()]
        out += [self._change(_EPISODES, piece, at) for piece in self._episodes()]
        out += [self._change(_ROLLOUTS, piece, at) for piece in self._rollouts()]
        out += [self._change(_POSITIONS, _encode(positions), at)] if positions else []
        for key, page in self._due(self.sequence - before):
            out += [Record(key, self._value(_ROWS, piece, at)) for piece in self.engine.state.page(*page)]
            self.written[key] = self.sequence
        return out

    def _episodes(self) -> list[bytes]:
        """The changed ones; all of them well before the ring comes round."""
        episodes = self.engine.episodes
        if self.sequence - self._episodes_written >= RING // 2:
            episodes.changed |= set(episodes.open)
            episodes.rollouts.changed = True
            self._episodes_written = self.sequence
        changed = sorted(episodes.changed)
        episodes.changed.clear()
        return [
            _encode([(agent_id, episodes.open.get(agent_id)) for agent_id in changed[low : low + _EPISODE_CHUNK]])
            for low in range(0, len(changed), _EPISODE_CHUNK)
        ]

    def _rollouts(self) -> list[bytes]:
        """All of them, where one changed: they are few, and change with alerts."""
        rollouts = self.engine.episodes.rollouts
        if not rollouts.changed:
            return []
        rollouts.changed = False
        return [_encode(list(rollouts.began.values()))]

    def _due(self, changes: int) -> list[tuple[bytes, Page]]:
        """Pages to write beside so many changes: at a pace that writes all within half a ring, and any that the ring overtakes."""
        pages = _keyed(self.engine.state.pages())
        for key in pages:
            self.written.setdefault(key, self.sequence - changes)  # a table grew: all its rows are among the changes
        oldest = sorted(pages, key=self.written.__getitem__)
        pace = -(-len(pages) * changes // (RING // 2))
        overtaken = sum(self.written[key] + RING < self.sequence for key in oldest)
        return [(key, pages[key]) for key in oldest[: max(pace, overtaken)]]

    def _change(self, kind: int, payload: bytes, at: tuple[int, int]) -> Record:
        self.sequence += 1
        return Record(b"c/%d" % (self.sequence % RING), self._value(kind, payload, at))

    def _value(self, kind: int, payload: bytes, at: tuple[int, int]) -> bytes:
        body = self._compress(payload)
        header = _HEADER.pack(_MAGIC, _VERSION, kind, self._layout, self.sequence, *at)
        return header + _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(header))) + body


class Reader:
    """Puts records, in the order of the topic, back into a fresh engine, or into one that knows all that its writer has written."""

    def __init__(self, engine: Engine, after: Writer | None = None) -> None:
        self.engine = engine
        self.next_offset = 0
        self.next_verdict = 0
        self.positions: dict[int, Position] = {}
        self.sequence = after.sequence if after else 0
        self.records = 0
        self._written: dict[bytes, int] = dict(after.written) if after else {}
        self._layout = layout_id()

    def read(self, key: bytes | None, value: bytes | None) -> None:
        """Apply one record. Raises `Corrupt`, with nothing applied."""
        if not value:
            return
        kind, sequence, next_offset, next_verdict, payload = self._open(value)
        try:
            if kind == _ROWS:
                self.engine.state.apply(payload)
            elif kind == _ROLLOUTS:
                self.engine.episodes.rollouts.restore(_decode_rollouts(payload))
            elif kind == _POSITIONS:
                self.positions = _decode_positions(payload)
            else:
                for agent_id, episode in _decode_episodes(payload):
                    self.engine.episodes.restore(agent_id, episode)
        except (ValueError, msgspec.DecodeError) as error:
            raise Corrupt(f"it does not fit the state ({error})") from None
        self.sequence = max(self.sequence, sequence)
        self.next_offset = max(self.next_offset, next_offset)
        self.next_verdict = max(self.next_verdict, next_verdict)
        self.records += 1
        if key is not None and key.startswith(b"p/"):
            self._written[key] = sequence

    def writer(self) -> Writer:
        """A writer that goes on where the read state ends. Pages that were not met have perhaps never been written."""
        return Writer(self.engine, self.sequence, dict.fromkeys(_keyed(self.engine.state.pages()), 0) | self._written)

    def _open(self, value: bytes) -> tuple[int, int, int, int, bytes]:
        if len(value) < _BODY:
            raise Corrupt("it is shorter than a header")
        magic, version, kind, layout, sequence, next_offset, next_verdict = _HEADER.unpack_from(value)
        body = value[_BODY:]
        if magic != _MAGIC or version != _VERSION:
            raise Corrupt(f"it is of version {version}, and this program writes {_VERSION}")
        if (zlib.crc32(body, zlib.crc32(value[: _HEADER.size])),) != _CHECKSUM.unpack_from(value, _HEADER.size):
            raise Corrupt("its checksum is wrong")
        if layout != self._layout:
            raise Corrupt("it was written for another layout of the state")
        try:
            return (
                kind,
                sequence,
                next_offset,
                next_verdict,
                zstandard.ZstdDecompressor().decompress(body, max_output_size=1 << 28),
            )
        except zstandard.ZstdError as error:
            raise Corrupt(f"it does not decompress ({error})") from None


def _keyed(pages: list[Page]) -> dict[bytes, Page]:
    """By table and first slot, so that the growth of one table moves no page of another."""
    return {b"p/%d/%d" % page[:2]: page for page in pages}
