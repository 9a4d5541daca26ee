"""Cohort knowledge on Kafka: what each partition has taught of cohorts and the fleet, for the workers of the others (`models.exchange`).

Partition q of the topic is written by whoever holds partition q of the events, in the transaction of each flush, so it holds exactly what the
delivered baselines have taught. It has two kinds of records. *Increments* are what a flush has learned; their keys go round a ring (`c/0` …
`c/2047`), and they are numbered. Beside every sixteenth goes one of 64 *pages* (`p/0` …): all that the partition has ever given to a
sixty-fourth of the keys. So before an increment is overwritten every page has been written after it, the topic stays as large as what is
shared and a ring, and reading it in order gives what a partition has given in all.

A reader takes the increments of the others by their numbers, each once, and keeps in its own baselines how far it has come (`Position`): what it
has taken is in the same transaction as the rows it was added to. Whoever was away for longer than the ring, or has lost its baselines,
finds a number missing, and puts the shared rows together anew from what all have given, itself included.

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
_HEADER = struct.Struct("<4sBBxxQQI")  # magic, version, kind, layout, number, length of the increments
_MAGIC, _VERSION = b"STRC", 1
_INCREMENTS, _PAGE = 0, 1

_encode = msgspec.json.Encoder().encode
_decode_began = msgspec.json.Decoder(list[Began]).decode


class Missing(Exception):  # noqa: N818
    """Increments that are no longer there: what is shared must be put together anew."""


class Given(NamedTuple):
    """One record of the topic."""

    page: int  # -1: increments
    number: int
    x: Increments
    began: list[Began]


class Cohorts:
    """What one partition gives to the others, and takes from them.

    `number` is that of the last increments that it gave, `own` all that it has given.
    """

    def __init__(
        self,
        engine: Engine,
        alerts_per_day: float,
        number: int = 0,
        own: Contributions | None = None,
        positions: dict[int, Position] | None = None,
    ) -> None:
        self.engine = engine
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
        self.number += 1
        out = [Record(b"c/%d" % (self.number % RING), self._value(_INCREMENTS, x, began))]
        if self.number % EVERY == 0:
            page = self.number // EVERY % PAGES
            out.append(Record(b"p/%d" % page, self._value(_PAGE, self._exchange.page(page, PAGES), [])))
        return out

    def take(self, taken: Iterable[tuple[int, int, Given]]) -> None:
        """Add what others gave (partition, next offset, record). Nothing may have been learned since `give`.

        Raises `Missing`, with nothing added, if increments of another are gone: then `restore`.
        """
        found = []
        for source, offset, given in taken:
            at = self.positions.setdefault(source, Position())
            if given.page < 0 and given.number > at.number:
                if given.number > at.number + 1:
                    raise Missing(f"increments {at.number + 1} to {given.number - 1} of partition {source} are gone")
                found.append(given)
                at.number = given.number
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

    def _value(self, kind: int, x: Increments, began: list[Began]) -> bytes:
        dumped = x.dump()
        fields = (_MAGIC, _VERSION, kind, self._layout, self.number, len(dumped))
        return seal(_HEADER, fields, dumped + _encode(began))


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
    (_, kind, layout, number, length), data = unseal(_HEADER, _MAGIC, (_VERSION,), value)
    if layout != shape():
        raise Corrupt("it was written for another layout of the state")
    try:
        page = int((key or b"").removeprefix(b"p/")) if kind == _PAGE else -1
        given = Given(page, number, load(data[:length]), _decode_began(data[length:]))
    except (ValueError, msgspec.DecodeError) as error:
        raise Corrupt(f"it cannot be read ({error})") from None
    if page >= PAGES:
        raise Corrupt(f"there is no page {page}")
    return given


class Reader:
    """All that one partition has given, from its records in their order."""

    def __init__(self) -> None:
        self.given = Contributions()
        self.number = 0

    def read(self, given: Given) -> None:
        """Count one record."""
        if given.page >= 0:
            self.given.put(given.x, given.page, PAGES)
        else:
            self.given.add(given.x)
        self.number = max(self.number, given.number)
