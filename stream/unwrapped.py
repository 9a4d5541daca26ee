"""Where the records lie in a document: one a line, in an array under some name, under OpenTelemetry's resources, or in the rows of CSV.

Only the beginning is looked at: a document may be as long as memory, and the like follows. What is found has the `jq` that takes the records out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from stream import csv_rows, otlp
from stream.codec import REQUIRED
from stream.fields import likely
from stream.jq import Path, at
from stream.words import few

SAMPLE = 200  # records that are looked at
_MOST_DOCUMENTS = 2000  # that are looked through for them
_DEEP = 3
_KEYED = ("attributes", "tags")  # may be arrays of {key, value}
# What an array of such a name has is a record though no word of it is known, where nothing beside it is.
_HOLDERS = frozenset("records events logs logevents value items entries data results rows hits spans".split())  # noqa: SIM905
_NEEDED = frozenset(REQUIRED)
_TOLD = (*REQUIRED, "session_id", "principal", "agent_type", "agent_version")
_MOST_TRIED = 5  # documents, and values of an array
_DEEPLY = "it is nested too deeply"
_MOST_NAMED = 20  # columns
_DECODER = json.JSONDecoder()
_JSON = re.compile(r"\{|\[\s*(?=[\[\]{]|$)")  # a line of a log may begin with a time in brackets
_SPACE = re.compile(r"\s*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}\[\],]', re.DOTALL)

Record = dict[str, Any]


class Unwrapped(NamedTuple):
    """The first records of a document, and what takes them all out of it."""

    records: list[Record]
    said: str = ""  # of where they lie; "" where it is one a line
    jq: str = ""  # makes records of a document
    rows: str = ""  # the Python that makes lines of CSV
    folded: bool = False  # a document has several lines
    raw: bool = False  # some lines are no JSON
    broken: str = ""  # why jq would stop


def unwrapped(begin: bytes, whole: bool) -> Unwrapped | None:
    """What lies in a file that begins so, and may be `whole`; None where that cannot be told."""
    text = begin.decode(errors="replace").removeprefix("\ufeff").lstrip()
    if not _JSON.match(text):
        return _table(text)
    documents, folded, cut, broken = _documents(text, whole=whole)
    if broken:  # the lines that are whole may still be most
        lines = [_object(line) for line in islice(filter(str.strip, text.split("\n")), _MOST_DOCUMENTS)]
        documents = [line for line in lines if line is not None]
        if 2 * len(documents) < len(lines):
            return Unwrapped([], broken=broken)
    try:
        found = _taken_apart(documents)
    except RecursionError:
        return Unwrapped([], broken=_DEEPLY)
    records = (
        found.records[:-1] if cut and 1 < len(found.records) < SAMPLE else found.records
    )  # the last may lack what is cut off
    return found._replace(records=records, folded=folded and not broken, raw=bool(broken))


def _table(text: str) -> Unwrapped | None:
    table = csv_rows.rows(text, SAMPLE)
    return table and Unwrapped(
        table.records, f"it is CSV, of the columns {few(table.columns, _MOST_NAMED)}", rows=table.python
    )


def leaves(record: Record, *, opened: bool) -> Iterator[tuple[Path, Any]]:
    """The values of a record, with where each stands; those of its `attributes` too where they are to be `opened`."""
    for name, below in record.items():
        if below is None or below == "":
            continue
        if name == "attributes":
            yield (name,), below
        if name != "attributes" or (opened and isinstance(below, dict)):
            yield from _below((name,), below)


def _below(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value and len(path) < _DEEP:
        for name, below in value.items():
            if below is not None and below != "":
                yield from _below((*path, name), below)
    else:
        yield path, value


def _documents(text: str, *, whole: bool) -> tuple[list[Any], bool, bool, str]:
    """The JSON values, whether one has several lines, whether the last is cut, and where they are broken. Of one that is cut what is there, where nothing was before it."""
    found: list[Any] = []
    folded, cut, at = False, False, 0
    while at < len(text) and len(found) < _MOST_DOCUMENTS:
        try:
            value, end = _DECODER.raw_decode(text, at)
        except RecursionError:
            return found, folded, cut, _DEEPLY
        except ValueError as error:
            value, end = _mended(text[at:]), len(text)
            if value is None:
                line = text.count("\n", 0, getattr(error, "pos", at)) + 1
                return found, folded, cut, f"it is broken at line {line:,} ({getattr(error, 'msg', error)})"
            if whole:
                return found, folded, cut, "it ends in the middle"
            if found:
                break
            cut = True
        folded |= "\n" in text[at:end].strip()
        found.append(value)
        at = _SPACE.match(text, end).end()  # type: ignore[union-attr]
    return found, folded, cut, ""


def _mended(text: str) -> Any:
    """A value of which the end is missing, closed after its last part that is whole; None where that makes no JSON."""
    open_, at, deep = [], 0, 0
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign in "{[":
            open_.append("}" if sign == "{" else "]")
        elif sign in "}]":
            if not open_ or open_.pop() != sign:
                return None
            at, deep = token.end(), len(open_)
        elif sign == ",":
            at, deep = token.start(), len(open_)
    try:
        return json.loads(text[:at] + "".join(reversed(open_[:deep]))) if at and open_ else None
    except (ValueError, RecursionError):
        return None


def _object(line: str) -> Record | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _taken_apart(documents: Sequence[Any]) -> Unwrapped:
    """The records of documents of one kind, which the first that has any tells."""
    for name, program in otlp.JQ.items():
        some = [d for d in documents if isinstance(d, dict) and isinstance(d.get(name), list)]
        if some:
            said = f"it is OpenTelemetry's, with {'spans' if name == 'resourceSpans' else 'log records'} under `{name}`"
            return Unwrapped(list(islice(otlp.taken_apart(some, name), SAMPLE)), said, program)
    steps = [found for d in documents[:_MOST_TRIED] if (found := _steps(d)) is not None]
    way = next((way for way, _ in steps if any(_walked(d, way) for d in documents)), steps[0][0] if steps else ())
    taken = list(islice((record for d in documents for record in _walked(d, way)), SAMPLE))
    records = [record for record in taken if isinstance(record, dict)]
    # Of an array that has a name what is no object is passed over, be it late in it.
    parts = [
        *(step.jq for step in way),
        *(["objects"] if len(records) < len(taken) or any(step.path for step in way) else []),
    ]
    if records and isinstance(records[0].get("_source"), dict):  # of a search engine
        parts.append("del(._source) + ._source")
        records = [{**{k: v for k, v in r.items() if k != "_source"}, **(r.get("_source") or {})} for r in records]
    keyed = [name for name in _KEYED if any(otlp.is_keyed(r.get(name)) for r in records)]
    for name in keyed:
        parts.append(f".{name} |= plain")
        records = [{**r, name: otlp.plain(r.get(name))} for r in records]
    said = " under ".join(f"`{'.'.join(step.path)}`" for step in reversed(way) if step.path)
    said = f"its records lie in the array under {said}" if said else "it is a JSON array" if way else ""
    return Unwrapped(records, said, f"{otlp.PLAIN if keyed else ''}{'|'.join(parts)}")


class _Step(NamedTuple):
    """From an object, or an array where there is no path, to what lies in an array."""

    path: Path
    above: bool  # what stands beside the array is said of each record in it

    @property
    def jq(self) -> str:
        if not self.path:
            return ".[]"
        there = at(self.path)
        return f"del({there}) as $above|{there}[]?|objects|$above + ." if self.above else f"{there}[]?"


def _steps(document: Any) -> tuple[tuple[_Step, ...], frozenset[str]] | None:
    """The way to what is likely a record, and what one tells; None where nothing is."""
    if isinstance(document, list):
        inner = next(
            (found for value in document[:_MOST_TRIED] if (found := _steps(value)) is not None), ((), frozenset())
        )
        return (_Step((), above=False), *inner[0]), inner[1]
    if not isinstance(document, dict):
        return None
    own = _tells(document)
    best: tuple[tuple[_Step, ...], frozenset[str]] | None = None
    for path, array in _arrays(document, ()):
        found = _steps(array)
        if found is None:
            continue
        (_, *further), tells = found
        held = path[-1].lower() in _HOLDERS and not own & _NEEDED
        dated = "time" in tells and ("time" not in own or len(tells & _NEEDED) > len(own & _NEEDED))
        if (held or dated) and (best is None or len(tells) > len(best[1])):
            best = (_Step(path, above=bool(own - tells)), *further), tells | own
    return best or ((), own)


def _tells(record: Record) -> frozenset[str]:
    paths = [path for path, value in islice(leaves(record, opened=True), 200) if not isinstance(value, (list, dict))]
    return frozenset(field for field in _TOLD if any(likely(path, field) is not None for path in paths))


def _arrays(value: Record, above: Path) -> Iterator[tuple[Path, list[Any]]]:
    for name, below in value.items():
        path = (*above, name)
        if isinstance(below, dict) and len(path) < _DEEP:
            yield from _arrays(below, path)
        elif isinstance(below, list) and name not in _KEYED and all(isinstance(one, dict) for one in below[:1]):
            yield path, below


def _walked(value: Any, way: Sequence[_Step]) -> list[Any]:
    """What the steps lead to in one document, as jq takes it out."""
    for number, step in enumerate(way):
        inner = value
        for name in step.path:
            inner = inner.get(name) if isinstance(inner, dict) else None
        if not isinstance(inner, list):
            return []
        beside = {k: v for k, v in value.items() if k != step.path[0]} if step.above else {}
        found = [
            {**beside, **one} if step.above else one
            for one in inner[:SAMPLE]
            if not step.above or isinstance(one, dict)
        ]
        return [record for one in found for record in _walked(one, way[number + 1 :])]
    return [value]
