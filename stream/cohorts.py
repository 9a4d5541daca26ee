"""Cohort knowledge on Kafka: what each partition has taught of cohorts and the fleet, for the workers of the others (`models.exchange`).

Partition q of the topic is written by whoever holds partition q of the events, in the transaction of each flush, so it holds exactly what the
delivered baselines have taught. It has two kinds of records. *Increments* are what a flush has learned; their keys go round a ring (`c/0` …
`c/2047`), and they are numbered. Those of a flush that has learned much are several, a number each, for a broker takes no record of any size: they add up,
so it does not matter which of them are taken together. For every sixteenth number goes one of 64 *pages* (`p/0` …), after all increments
of its flush: all that the partition has given to a sixty-fourth of the keys. One that is too large is cut into pages of twice as many, or four times.
So before an increment is overwritten every page has been written after it, or is in the same transaction; the topic stays as large as what is
shared and a ring, and reading it in order gives what a partition has given in all.

A reader takes the increments of the others by their numbers, each once, and keeps in its own baselines how far it has come (`Position`): what it
has taken is in the same transaction as the rows it was added to. Whoever was away for longer than the ring, or has lost its baselines,
finds a number missing, and puts the shared rows together anew from what all have given, itself included. So does who finds a number
that should be long past in a new record: somebody else has written here, or copied records.

What several agents of a cohort began (`stream.rollout`) goes with the increments. What it does not keep: whom parties met, whose resources are,
what was loud within a day and rollouts, of the time that a reader has missed for good.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from models.contributions import Contributions
from models.exchange import Exchange
from models.increments import Increments, load, shape
from stream.baselines import Position, Record
from stream.engine import Engine
from stream.rollout import Began
from stream.sealed import Corrupt, seal, unseal
from stream.settings import Settings

RING, PAGES = 2048, 64
EVERY = RING // 2 // PAGES  # increments from page to page
MOST = 1 << 20  # bytes of rows in one record: the topic takes four times as many
# Magic, version, kind, of how many pages (0: `PAGES`), layout, number, length of the increments.
_HEADER = struct.Struct("<4sBBHQQI")
_MAGIC, _VERSION = b"STRC", 1
_INCREMENTS, _PAGE = 0, 1

_encode = msgspec.json.Encoder().encode
_decode_began = msgspec.json.Decoder(list[Began]).decode


class Missing(Exception):  # noqa: N818
    """Increments that are no longer there, or are not those that should follow: what is shared must be put together anew."""


class Given(NamedTuple):
    """One record of the topic."""

    page: int  # -1: increments
    number: int
    x: Increments
    began: list[Began]
    pages: int = PAGES  # of which it is one


class Cohorts:
    """What one partition gives to the others, and takes from them.

    `number` is that of the last increments that it gave, `own` all that it has given; no record has many more than `most` bytes.
    """

    def __init__(
        self,
        engine: Engine,
        alerts_per_day: float,
        number: int = 0,
        own: Contributions | None = None,
        positions: dict[int, Position] | None = None,
        most: int | None = None,
    ) -> None:
        self.engine = engine
        self._most = MOST if most is None else most
        self.number = number
        self.positions = positions or {}
        self._alerts_per_day = alerts_per_day
        self._exchange = Exchange(engine.state, own)
        self._layout = shape()
        self._told = {key: (b.time, b.said) for key, b in engine.episodes.rollouts.began.items()}

    def give(self) -> list[Record]:
        """Records of what was learned since the last call. The engine must not be scoring meanwhile."""
        x, began = self._exchange.export(), self._began()
        if not x.rows and not began:
            return []
        before, out = self.number, []
        for part, some in _cut(x, began, self._most):
            self.number += 1
            out.append(Record(b"c/%d" % (self.number % RING), self._value(_INCREMENTS, part, some)))
        # After all of them, for a page holds what they say.
        last = self.number // EVERY
        for n in range(max(before // EVERY, last - PAGES) + 1, last + 1):
            for page, pages, sheet in self._exchange.sheets(n % PAGES, PAGES, self._most):
                out.append(Record(b"p/%d" % page, self._value(_PAGE, sheet, [], pages)))
        return out

    def take(self, taken: Iterable[tuple[int, int, Given]]) -> None:
        """Add what others gave (partition, next offset, record). Nothing may have been learned since `give`.

        Raises `Missing`, with nothing added, if increments of another are gone or come again: then `restore`.
        """
        found = []
        for source, offset, given in taken:
            at = self.positions.setdefault(source, Position())
            if given.page < 0:
                if given.number > at.number + 1:
                    raise Missing(f"increments {at.number + 1} to {given.number - 1} of partition {source} are gone")
                if given.number == at.number + 1:
                    found.append(given)
                    at.number = given.number
                elif offset > at.offset:  # no record that was read before: one of them was not the partition's own
                    raise Missing(f"partition {source} gave increments {given.number} after {at.number}")
            at.offset = max(at.offset, offset)
        self._exchange.add([given.x for given in found], self._alerts_per_day)
        for given in found:
            self._note(given.began)

    def restore(self, given: dict[int, Contributions], positions: dict[int, Position]) -> None:
        """Put together anew what is shared, from what all others have given in all, up to these positions."""
        self._exchange.restore([self._exchange.own, *(given[q] for q in sorted(given))], self._alerts_per_day)
        self.positions = positions

    def _began(self) -> list[Began]:
        """What agents here began that the others were not told of."""
        rollouts = self.engine.episodes.rollouts.began
        if self._told.keys() - rollouts.keys():
            self._told = {key: told for key, told in self._told.items() if key in rollouts}
        out = [b for key, b in rollouts.items() if self._told.get(key) != (b.time, b.said)]
        self._told.update({(b.agent_type, b.what, b.agent_id): (b.time, b.said) for b in out})
        return out

    def _note(self, began: Sequence[Began]) -> None:
        rollouts = self.engine.episodes.rollouts
        for b in began:
            rollouts.note(b.agent_type, b.agent_id, [b.what], b.time, b.version)
            key = (b.agent_type, b.what, b.agent_id)
            if b.said and key in rollouts.began and not rollouts.began[key].said:
                rollouts.began[key].said = rollouts.changed = True
            if not b.agent_id and key in rollouts.began and b.time > rollouts.began[key].time:  # told again
                rollouts.tell_of(b.agent_type, b.what, b.time)
            kept = rollouts.began.get(key, b)
            self._told[key] = kept.time, kept.said

    def _value(self, kind: int, x: Increments, began: list[Began], pages: int = 0) -> bytes:
        dumped = x.dump()
        fields = (_MAGIC, _VERSION, kind, pages, self._layout, self.number, len(dumped))
        return seal(_HEADER, fields, dumped + _encode(began))


def _cut(x: Increments, began: Sequence[Began], most: int) -> list[tuple[Increments, list[Began]]]:
    """What a flush has learned, for records of about so many bytes each."""
    out: list[tuple[Increments, list[Began]]] = [(part, []) for part in x.cut(most)]
    none = Increments(*x[:3], *(part[:0] for part in x[3:]))
    size = out[-1][0].size
    for b in began:
        own = len(_encode(b))
        size += own
        if size > most and (out[-1][0].rows or out[-1][1]):
            out.append((none, []))
            size = own
        out[-1][1].append(b)
    return out


def warm_up(settings: Settings) -> None:
    """Compile what giving and taking need, or load it from the cache, so that no flush waits for it."""
    one, other = (Cohorts(Engine(settings), settings.alerts_per_day) for _ in range(2))
    event = b'{"event_id":"1","time":1,"agent_id":"a","action":"send","principal":"p","resource":"a/b/c","recipients":[{"id":"r"}]}'
    one.engine.score(one.engine.decode([event], [0]))
    for record in one.give():
        found = read(record.key, record.value)
        if found is not None:
            other.take([(0, 1, found)])


def read(key: bytes | None, value: bytes | None) -> Given | None:
    """What a record says; None for a tombstone. Raises `Corrupt`."""
    if not value:
        return None
    (_, kind, of, layout, number, length), data = unseal(_HEADER, _MAGIC, (_VERSION,), value)
    if layout != shape():
        raise Corrupt("it was written for another layout of the state")
    try:
        page = int((key or b"").removeprefix(b"p/")) if kind == _PAGE else -1
        given = Given(page, number, load(data[:length]), _decode_began(data[length:]), of or PAGES)
    except (ValueError, msgspec.DecodeError) as error:
        raise Corrupt(f"it cannot be read ({error})") from None
    if page >= given.pages or given.pages % PAGES:
        raise Corrupt(f"there is no page {page} of {given.pages}")
    return given


class Reader:
    """All that one partition has given, from its records in their order. Of a copied topic some may come again: each counts once.

    `number` is that of the last one that counted. After one that was numbered far ahead, whoever wrote it, the partition's own go on from where they were.
    """

    def __init__(self) -> None:
        self.given = Contributions()
        self.number = 0
        self._counted: set[int] = set()

    def read(self, given: Given) -> None:
        """Count one record."""
        if given.page >= 0:
            if given.number < self.number:  # it lacks what was counted since
                return
            self.given.put(given.x, given.page, given.pages)
        elif given.number in self._counted:
            return
        else:
            self.given.add(given.x)
            self._counted.add(given.number)
        self.number = given.number
