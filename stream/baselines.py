"""Baselines on Kafka: what a partition's engine knows, kept on a compacted topic, so that a restarted worker goes on where it was.

Each flush is one transaction on the partition's own producer: alerts, rejects, and the rows that changed with the next offsets of
the events and of the verdicts. So either all of it is there or none, and a worker that was replaced without knowing is fenced by its transactional id.
After a crash the state says from which offset on events have not been learned; what the group's committed offset brings again is skipped.

The topic holds two kinds of records. *Changes* say what a flush found changed, and beside them *pages* of the whole state are written, the
longest unwritten first, two bytes for three of changes. A change that all pages have been written after is no longer needed, and leaves its key to
the next. So the topic stays about two and a half times as large as the state, nothing is written all at once but at an upgrade, and reading it in order gives the
state back, slot for slot, whatever compaction has removed and however often tables grew or workers changed in between. Values carry
a version, the layout of the state, a checksum and both offsets; a corrupt one is left out, counted, and emptied.

One record more describes the layout: which tables, columns and signals there are. Records of another layout, as an upgrade finds them, are
read by their description into this program's (`models.layout`), and the first flush writes the whole state anew. Whoever reads the topic begins
anew where the layout changes: what comes after is all that counts.

What it does not keep: a River detector's objects (they warm up again).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, NamedTuple

import msgspec

from models.layout import VERSION_2, Stored, describe, identify
from models.piece import HEADER
from models.schema import TABLES
from models.state import PIECE
from stream.engine import Engine
from stream.episode import Episode
from stream.rollout import Began
from stream.sealed import Corrupt, seal, unseal

PACE = 2 / 3  # bytes of pages for each byte of changes
_HEADER = struct.Struct(
    "<4sBBxxQQQQ"
)  # magic, version, kind, layout, sequence, next source offset, next verdict offset
_MAGIC, _VERSION = b"STRL", 4
_ROWS, _EPISODES, _ROLLOUTS, _LAYOUT, _POSITIONS, _TYPES, _SOURCE, _LEARNED = 0, 1, 2, 3, 4, 5, 6, 7
_RECORD = 100  # bytes that a record costs beside its value
_MOST = 4 * PIECE  # bytes of rows, or of episodes, in one record
_FLEET = TABLES.index("fleet")

_SOURCE_KEY, _LEARNED_KEY = b"source", b"learned"
Page = tuple[int, int, int]  # as `State.pages` gives them

_encode = msgspec.json.Encoder().encode
_decode_episodes = msgspec.json.Decoder(list[tuple[str, Episode | None]]).decode
_decode_rollouts = msgspec.json.Decoder(list[Began]).decode
_decode_types = msgspec.json.Decoder(list[tuple[int, int]]).decode
_decode_source = msgspec.json.Decoder(Annotated[str, msgspec.Meta(pattern="^[0-9a-f-]{36}$")]).decode
_decode_layout = msgspec.json.Decoder(dict[str, Any]).decode


class Position(msgspec.Struct, array_like=True):
    """How far a partition has come in what another has taught of cohorts: the next offset, and the number of the last increments."""

    offset: int = 0
    number: int = 0


class Learned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings that are part of what is learned: under others, classes and where data goes are others too."""

    classifications: tuple[str, ...]
    domains: tuple[str, ...]


_decode_learned = msgspec.json.Decoder(Learned).decode
_decode_positions = msgspec.json.Decoder(dict[int, Position]).decode


class Record(NamedTuple):
    """One record for the topic. No value says that there is nothing under the key any more."""

    key: bytes
    value: bytes | None


class Writer:
    """Turns what an engine has learned since the last flush into records.

    `source` is the id of the topic that offsets are of, `learned` what the topic has of the settings. `written` says when each page was, `changes` which changes are on the topic, both by the sequence; `described` whether the topic says what
    the layout is. Where that is another one (`anew`), the first flush writes the whole state. It empties the keys in `foreign`.
    """

    def __init__(
        self,
        engine: Engine,
        sequence: int = 0,
        written: dict[bytes, int] | None = None,
        changes: dict[bytes, int] | None = None,
        *,
        described: bool = False,
        anew: bool = False,
        foreign: Iterable[bytes] = (),
        source: str = "",
        learned: Learned | None = None,
    ) -> None:
        self.engine = engine
        self.sequence = sequence
        self.written = written or {}
        self.changes = deque(sorted((changes or {}).items(), key=lambda item: item[1]))  # the oldest first
        self._over = 0  # changes up to this sequence need not be kept
        self._keys = 1 + max((int(key[2:]) for key, _ in self.changes), default=-1)
        self._sizes: tuple[int, ...] = ()
        self._pages: dict[bytes, Page] = {}  # the longest unwritten first
        self.described, self.anew, self._foreign = described, anew, set(foreign)
        self.source = self._source = source  # as it is now, and as the topic has it
        self.learned = learned
        self._due = 0.0  # bytes of pages
        self._again = 0  # sequence before which no episode's record need be kept
        self._episodes_size = -1  # bytes of all episodes when they were last written
        self._paged = self._changed = 0  # pages, and bytes of changes, since then
        self._layout = identify(describe())
        self._look_at_pages()

    def flush(
        self, next_offset: int, next_verdict: int = 0, positions: dict[int, Position] | None = None
    ) -> list[Record]:
        """Records of all changes, and of the next pages; `positions` are those in the cohorts of other partitions.

        The engine must not be scoring meanwhile.
        """
        before, at = self.sequence, (next_offset, next_verdict)
        out = []
        if not self.described:
            out.append(Record(_key_of(self._layout), self._value(_LAYOUT, _encode(describe()), at)))
            self.described = True
        if self.source != self._source or _SOURCE_KEY in self._foreign:
            out.append(Record(_SOURCE_KEY, self._value(_SOURCE, _encode(self.source), at)))
            self._source = self.source
        if self.learned != (now := learned_with(self.engine)) or _LEARNED_KEY in self._foreign:
            out.append(Record(_LEARNED_KEY, self._value(_LEARNED, _encode(now), at)))
            self.learned = now
        self._over = min(self._again - 1, self.written[next(iter(self._pages))])
        changes = [self._change(_ROWS, payload, at) for payload in _together(self._rows())]
        changes += self._episodes(at)
        changes += [self._change(_POSITIONS, _encode(positions), at)] if positions else []
        size = sum(map(_size, changes))
        self._changed += size
        self._due += PACE * size
        self._look_at_pages(before)
        pages = self._write_pages(at)
        out += changes + pages
        emptied = [Record(key, None) for key in sorted(self._foreign - {r.key for r in out})]
        self.anew, self._foreign = False, set()
        return out + emptied

    def begin_anew(self) -> None:
        """The topic is another, and has nothing of what was written: the next flush writes the whole state."""
        self.anew, self.described, self._source, self.learned, self._episodes_size = True, False, "", None, -1

    def _rows(self) -> list[bytes]:
        """What changed; of a state that is written anew nothing but what no page has."""
        pieces = self.engine.state.delta()
        return [x for x in pieces if HEADER.unpack_from(x)[0] == _FLEET] if self.anew else pieces

    def _episodes(self, at: tuple[int, int]) -> list[Record]:
        """The changed episodes, what cohorts began and which types there are; all of them four times while all pages are written, for no page has them."""
        episodes, company = self.engine.episodes, self.engine.company
        whole = self._episodes_size < 0 or (
            4 * self._paged >= len(self._pages) and self._changed >= max(1, self._episodes_size)
        )
        if whole:
            episodes.changed |= set(episodes.open)
            episodes.rollouts.changed = company.changed = True
            self._again = self.sequence + 1
        changed = sorted(episodes.changed)
        episodes.changed.clear()
        told = [_encode((name, episodes.open.get(name))) for name in changed]
        out = [self._change(_EPISODES, b"[%b]" % some, at) for some in _together(told, b",")]
        if episodes.rollouts.changed:  # all of them: they are few, and change with alerts
            episodes.rollouts.changed = False
            out.append(self._change(_ROLLOUTS, _encode(list(episodes.rollouts.began.values())), at))
        if company.changed:
            company.changed = False
            out.append(self._change(_TYPES, _encode(company.types()), at))
        if whole:
            self._paged, self._changed, self._episodes_size = 0, 0, sum(map(_size, out))
        return out

    def _write_pages(self, at: tuple[int, int]) -> list[Record]:
        """The longest unwritten pages, as many bytes as are due; or all."""
        out = []
        for key in list(self._pages) if self.anew else self._next():
            page = self._pages.pop(key)
            for piece in self.engine.state.page(*page):
                out.append(Record(key, self._value(_ROWS, piece, at)))
                self._due -= _size(out[-1])
            self._pages[key] = page
            self.written[key] = self.sequence
            self._paged += 1
        return out

    def _next(self) -> Iterator[bytes]:
        for _ in range(len(self._pages)):
            if self._due <= 0:
                return
            yield next(iter(self._pages))

    def _look_at_pages(self, written: int = 0) -> None:
        """Take in the pages of a table that grew: all its new rows are among the changes since."""
        sizes = tuple(len(t.head) for t in self.engine.state.tables)
        if sizes == self._sizes:
            return
        self._sizes = sizes
        pages = _keyed(self.engine.state.pages())
        for key in pages:
            self.written.setdefault(key, written)
        self._pages = {key: pages[key] for key in sorted(pages, key=self.written.__getitem__)}

    def _change(self, kind: int, payload: bytes, at: tuple[int, int]) -> Record:
        """A change under the key of the oldest one, where that need not be kept: in no other order, or what came between would be gone before it."""
        self.sequence += 1
        if self.changes and self.changes[0][1] <= self._over:
            key = self.changes.popleft()[0]
        else:
            key = b"c/%d" % self._keys
            self._keys += 1
        self.changes.append((key, self.sequence))
        return Record(key, self._value(kind, payload, at))

    def _value(self, kind: int, payload: bytes, at: tuple[int, int]) -> bytes:
        return seal(_HEADER, (_MAGIC, _VERSION, kind, self._layout, self.sequence, *at), payload)


class Reader:
    """Puts records, in the order of the topic, back into a fresh engine, or into one that knows all that its writer has written; `writer` ends it."""

    def __init__(self, engine: Engine, after: Writer | None = None) -> None:
        self.engine = engine
        self.next_offset = 0
        self.next_verdict = 0
        self.positions: dict[int, Position] = {}
        self.source = after.source if after else ""
        self.learned = after.learned if after else None
        self.sequence = after.sequence if after else 0
        self.records = 0
        self.migrated = False  # the state was written for another layout
        self.left_out: dict[str, int] = {}  # rows of a table that found no room when they were
        self._written: dict[bytes, int] = dict(after.written) if after else {}
        self._changes: dict[bytes, int] = dict(after.changes) if after else {}
        self._own = identify(describe())
        self._described = after.described if after else False
        self._layouts: dict[int, dict[str, Any]] = VERSION_2 | {self._own: describe()}
        self._layout = self._own  # of the records that count
        self._stored: Stored | None = None  # where that is another one
        self._foreign: set[bytes] = set()

    def read(self, key: bytes | None, value: bytes | None) -> None:
        """Apply one record. Raises `Corrupt`, with nothing applied; the writer's first flush empties its key, and a page is soon written again."""
        own = False
        try:
            own = bool(value) and self._apply(key, value or b"")
        finally:
            if key is not None and not own:
                self._written.pop(key, None)
                self._changes.pop(key, None)
            if key is not None:
                (self._foreign.discard if own or not value else self._foreign.add)(key)
            if key == _key_of(self._own):
                self._described = own

    def _apply(self, key: bytes | None, value: bytes) -> bool:
        """Apply one record; whether it is of this program's layout."""
        (version, kind, layout, sequence, next_offset, next_verdict), payload = unseal(
            _HEADER, _MAGIC, (2, 3, _VERSION), value
        )
        try:
            if kind == _LAYOUT:
                self._describe(layout, payload)
            self._enter(layout)
            if kind == _ROWS:
                self._put(version, payload)
            elif kind == _ROLLOUTS:
                self.engine.episodes.rollouts.restore(_decode_rollouts(payload))
            elif kind == _TYPES:
                self.engine.company.restore(_decode_types(payload))
            elif kind == _SOURCE:
                self.source = _decode_source(payload)
            elif kind == _LEARNED:
                self.learned = _decode_learned(payload)
            elif kind == _POSITIONS:
                self.positions = _decode_positions(payload)
            elif kind == _EPISODES:
                for agent_id, episode in _decode_episodes(payload):
                    self.engine.episodes.restore(agent_id, episode)
            elif kind != _LAYOUT:
                raise Corrupt(f"there is no kind {kind} of record")
        except (ValueError, msgspec.DecodeError) as error:
            raise Corrupt(f"it does not fit the state ({error}); is STRAYLINE_STATE_MIB lower than it was?") from None
        # The newest is right, not the highest: a topic that was made anew begins with 0 again.
        if sequence >= self.sequence:
            self.sequence, self.next_offset, self.next_verdict = sequence, next_offset, next_verdict
        self.records += 1
        own = bool(layout == self._own)
        if own and key is not None and key.startswith(b"p/"):
            self._written[key] = sequence
        elif own and key is not None and key.startswith(b"c/") and key[2:].isdigit():
            self._changes[key] = sequence
        return own

    def _describe(self, layout: int, payload: bytes) -> None:
        description = _decode_layout(payload)
        if identify(description) != layout:
            raise Corrupt("it describes another layout than its own")
        self._layouts[layout] = description

    def _enter(self, layout: int) -> None:
        """Where records of another layout begin, whoever changed it has written all there is again."""
        if layout == self._layout:
            return
        if layout not in self._layouts:
            raise Corrupt("it was written for another layout of the state, which no record here describes")
        self._stored = Stored(self._layouts[layout]) if layout != self._own else None
        self._layout = layout
        self._written, self._changes = {}, {}
        self.engine.forget()

    def _put(self, version: int, payload: bytes) -> None:
        """Put rows back, into this program's state or, until all are read, into what they were written for."""
        if self._stored is None:
            self.engine.state.apply(payload)
        elif version == 2:
            self._stored.apply_2(payload)
        else:
            self._stored.apply(payload)

    def writer(self) -> Writer:
        """A writer that goes on where the read state ends. Pages that were not met have perhaps never been written."""
        if self._stored is not None:
            self.left_out = self._stored.into(self.engine.state)
            self.migrated, self._stored = True, None
        pages = _keyed(self.engine.state.pages())
        return Writer(
            self.engine,
            self.sequence,
            dict.fromkeys(pages, 0) | self._written,
            self._changes,
            described=self._described,
            anew=self.migrated,
            foreign=self._foreign,
            source=self.source,
            learned=self.learned,
        )


def learned_with(engine: Engine) -> Learned:
    """Of an engine's settings those that are part of what it learns."""
    return Learned(engine.settings.classifications, engine.settings.domains)


def _key_of(layout: int) -> bytes:
    """Key of the record that describes a layout."""
    return b"layout/%d" % layout


def _size(record: Record) -> int:
    return len(record.value or b"") + _RECORD


def _together(pieces: list[bytes], between: bytes = b"") -> list[bytes]:
    """Pieces joined, as many as one record may have: each has its price, and a topic takes none of any size."""
    out: list[bytes] = []
    some: list[bytes] = []
    size = 0
    for one in pieces:
        if size + len(one) > _MOST and some:
            out.append(between.join(some))
            some, size = [], 0
        some.append(one)
        size += len(one)
    return [*out, between.join(some)] if some else out


def _keyed(pages: list[Page]) -> dict[bytes, Page]:
    """By table and first slot, so that the growth of one table moves no page of another."""
    return {b"p/%d/%d" % page[:2]: page for page in pages}
