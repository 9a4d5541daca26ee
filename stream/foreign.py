"""A log in other words than the contract's: which of its fields are likely meant, and the `jq` line that makes events of it.

A gateway has its own names, and its clock often counts milliseconds. Told field by field, whoever sets it up comes back once for each; so all
is told at once, from the first records of a file in which no line is an event. Nothing here is believed: a person runs the line, or mends it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

from stream.beginning import Kept, beginning
from stream.codec import FIELDS, REQUIRED
from stream.fields import likely
from stream.files import named
from stream.jq import Path, at, is_plain, made
from stream.unwrapped import Record, Unwrapped, leaves, unwrapped
from stream.words import counted, listed, plain

MOST_FILES = 3  # that are told of: a log is delivered in hundreds, all alike
_MOST_FIELDS = 200
_MOST_KEPT = 12  # fields that nothing reads, for `attributes`
_MOST_ELSE = 2
_OURS = tuple(name for name in FIELDS if "[" not in name)
_ENOUGH = 2  # required fields by their names: what such a record has in `attributes` is not what it lacks
_WHICH = ".WHICH"  # where nothing is likely: for a person to put in
_PUT = {
    "event_id": "the number of its {} is put",
    "time": f"{_WHICH} is put",
    "agent_id": f"{_WHICH} is put",
    "action": "`execute` is put: better what it did, such as read, send or share",
}
# Unique in one file, which is all that can be said without knowing it.
_NUMBER = '"\\(input_filename // "stdin"):\\(input_line_number)"'
_DEFAULT = {"event_id": _NUMBER, "action": '"execute"'}
_EXAMPLE = '{"event_id": "e1", "time": "2026-03-12T08:44:01Z", "agent_id": "a", "action": "read"}'
# Of which another may stand in.
_TEXTS = ("event_id", "agent_id", "action", "principal", "session_id", "tool", "resource")
_KEYS = ("key", "objectKey", "object", "object_key")
# Of AWS CloudTrail, whose records say what went wrong only where something did.
_TRAIL, _FAULT = frozenset(("eventSource", "eventName", "userIdentity")), ("errorCode",)

Values = dict[Path, dict[int, Any]]  # of each path, number of the record → value


class Meant(NamedTuple):
    """A field of theirs, the contract's that is likely meant, and what makes the one of the other."""

    path: Path
    field: str
    jq: str
    why: str = ""  # where it is more than another name


class Foreign(NamedTuple):
    """What is known of records that are none of the contract's."""

    lack: list[str]  # required fields that a record lacks
    meant: list[Meant]
    rest: list[str]  # names at the top that nothing reads


def told(path: str, kept: Kept, *, events: bool = False) -> list[str]:
    """What to tell of a file in which no record is an event, or hardly one (`events`); nothing where only values are at fault."""
    found = unwrapped(*beginning(path, kept))
    if events:
        return _folded(path, found) if found is not None and not found.broken else []
    if found is None:
        return [f"{named(path)} has no event and does not begin as JSON: what is read is one event a line, each a JSON object such as {_EXAMPLE}"]  # fmt: skip
    if found.broken:
        return [f"{named(path)} is JSON, but {found.broken}: mend it there, or get it again"]
    says = [found.said] if found.said else []
    if not found.records:
        return [f"{named(path)} has no event: {', and '.join([*says, 'no record is in it'])}"]
    if all("alert_id" in record for record in found.records):  # ours
        return [
            f"{named(path)} holds alerts or verdicts, and no events: what is replayed are the events behind them; verdicts go in with --verdicts"
        ]
    foreign = look(found.records)
    other = [m for m in foreign.meant if m.jq != at(m.path) or m.path != (m.field,)]
    if not foreign.lack and not other and found.jq in {"", ".[]"} and not found.rows:
        return _folded(path, found)
    if foreign.lack:
        whose = "they lack" if "its records" in found.said else "its records lack"
        says.append(f"{whose} {listed(foreign.lack)}, which every event must have")
    elif other and not says:
        says.append(
            f"{listed([m.field for m in other])} cannot be read as {'it is' if len(other) == 1 else 'they are'}"
        )
    lines = [f"{named(path)} has no event: {', and '.join(says)}"]
    if foreign.lack and not other:
        return [*lines, f"an event is one JSON object on one line, such as {_EXAMPLE}"]
    width = max((len(_shown(m.path)) for m in other), default=0)
    lines += [f"  {_shown(m.path):{width}}  {_likely(m)}" for m in other]
    names = [plain(name, 80) for name in foreign.rest[:_MOST_KEPT]]
    if names:
        lines.append(f"  {listed(names)}: nothing reads {'it' if len(names) == 1 else 'them'}; kept in `attributes`")
    if found.raw:
        lines.append("  lines that are no JSON are left out")
    known = {m.field for m in foreign.meant}
    put = [f"`{f}` ({what.format('record' if found.jq else 'line')})" for f, what in _PUT.items() if f not in known]
    if put:
        lines.append(f"  nothing is likely {listed(put)}")
    program = _program(foreign, found) if foreign.lack or other else found.jq
    lines += [
        f"{'look at what is likely, and ' if other else ''}write events with",
        f"  {_command(path, found, program)} > events.jsonl",
    ]
    where = f"where it says {_WHICH}, put the field that tells it; " if _WHICH in program else ""
    lines.append(f"{where}then `strayline replay events.jsonl`")
    return lines


def others(files: int) -> list[str]:
    """What to tell of further files in which no record is an event."""
    if files <= 0:
        return []
    return [
        f"{counted(files, 'more file')} {'has' if files == 1 else 'have'} no event: where they are alike, run the line on each, with `>> events.jsonl` at its end"
    ]


def look(records: Sequence[Record]) -> Foreign:
    """Look at records that are no events."""
    values: Values = {}
    for number, record in enumerate(records):
        opened = sum(name in record for name in REQUIRED) < _ENOUGH
        for path, value in leaves(record, opened=opened):
            if path in values or len(values) < _MOST_FIELDS:
                values.setdefault(path, {})[number] = value
        if record.keys() >= _TRAIL:
            values.setdefault(_FAULT, {})
    meant = [found for field in _OURS if (found := _meant(field, values, len(records))) is not None]
    used = {m.path[0] for m in meant}
    rest = list(dict.fromkeys(path[0] for path in values if path[0] not in used and path[0].isprintable()))
    lack = [name for name in REQUIRED if any(record.get(name) is None for record in records)]
    return Foreign(lack, meant, rest)


def short(raw: bytes) -> dict[str, str]:
    """Of one record: field of theirs → the contract's that is likely meant, where that is not its name."""
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(record, dict):
        return {}
    return {
        plain(".".join(m.path), 80): f"{m.field}{m.why and f', {m.why}'}"
        for m in look([record]).meant
        if m.why or m.path != (m.field,)
    }


def _folded(path: str, found: Unwrapped) -> list[str]:
    """Events that are not one a line."""
    if not found.folded and not found.jq:
        return []
    what, program = ("a JSON array", "'.[]'") if found.jq else ("JSON folded over several lines", ".")
    return [
        f"{named(path)} looks like {what}, but one event per line is read: write it so with `jq -c {program} FILE`, then replay that"
    ]


def _meant(field: str, values: Values, records: int) -> Meant | None:
    """The field of theirs that is likeliest this one, of those whose values can be; others that are as likely stand in where it is lacking."""
    ranked = sorted((rank, path) for path in values if (rank := likely(path, field)) is not None)
    if field == "resource" and (pair := _bucket(values)) is not None:
        return pair
    best: Meant | None = None
    dropped, have, beside = 0, set[int](), list[Path]()
    for rank, path in ranked:
        if best is None:
            result = made(field, path, list(values[path].values()), everywhere=len(values[path]) == records)
            if result is not None:
                best, dropped, have = Meant(path, field, *result), rank[0], set(values[path])
            continue
        if field not in _TEXTS or best.why or rank[0] != dropped or len(beside) == _MOST_ELSE:
            break
        if values[path].keys() - have and made(field, path, list(values[path].values())) == (at(path), ""):
            beside.append(path)
            have |= values[path].keys()
    if best is None:
        return None
    default = _DEFAULT.get(field)
    last = [default] if default and len(have) < records and field in _TEXTS and not best.why else []
    if not beside and not last:
        return best
    why = f"or else {' or '.join(_shown(p) for p in beside)}" if beside else ""
    return best._replace(jq=f"({' // '.join([best.jq, *map(at, beside), *last])})", why=why)


def _bucket(values: Values) -> Meant | None:
    """A name of a bucket and what is in it, which are one resource."""
    for path in values:
        if path[-1].lower().replace("_", "") in {"bucketname", "bucket"}:
            key = next((name for name in _KEYS if (*path[:-1], name) in values), _KEYS[0])
            above = at(path[:-1]) if path[:-1] else "."
            both = f'[{above}|{at(path[-1:])}?, .{key}?|strings]|if . == [] then null else join("/") end'
            names = [f"({both})"]
            if any(
                isinstance(v, list) and v and isinstance(v[0], dict) and "ARN" in v[0]
                for v in values.get(("resources",), {}).values()
            ):
                names.append(".resources[0].ARN?")
            return Meant(path, "resource", f"({' // '.join(names)})", f"with `{key}` after it")
    return None


def _program(foreign: Foreign, found: Unwrapped) -> str:
    by = {m.field: m.jq for m in foreign.meant}
    pairs = [(f, by.get(f) or _DEFAULT.get(f, _WHICH)) for f in _OURS if f in by or f in REQUIRED]
    if foreign.rest:
        rest = "{" + ", ".join(_kept(n) for n in foreign.rest[:_MOST_KEPT]) + "}"
        pairs = [p for p in pairs if p[0] != "attributes"]
        pairs.append(("attributes", f"({by['attributes']} + {rest})" if "attributes" in by else rest))
    event = "{" + ", ".join(name if made == f".{name}" else f"{name}: {made}" for name, made in pairs) + "}"
    if not found.jq:
        return f"fromjson?|objects|{event}" if found.raw else event
    if _NUMBER not in event:
        return f"{found.jq}|{event}"
    # Many records have one line: their own number is put.
    before, _, way = found.jq.rpartition("; ")
    event = event.replace("input_line_number", "$number")
    return f"{before}{before and '; '}foreach (inputs|{way}) as $record (0; . + 1; . as $number|$record|{event})"


def _command(path: str, found: Unwrapped, program: str) -> str:
    options = "-cR" if found.raw else "-cn" if "(inputs|" in program else "-c"
    jq = f"jq {options} {shlex.quote(program)}"
    source = "FILE" if path == "-" else shlex.quote(path)
    unpack = next((f"{tool} -dc {source} | " for end, tool in ((".gz", "gzip"), (".zst", "zstd")) if path.endswith(end)), "")  # fmt: skip
    if found.rows:
        rows = f"{unpack}python3 -c {shlex.quote(found.rows)}{'' if unpack else f' < {source}'}"
        return f"{rows} | {jq}" if program else rows
    return f"{unpack}{jq}{'' if unpack else f' {source}'}"


def _likely(m: Meant) -> str:
    return f"is likely `{m.field}`{m.why and f', {m.why}'}" if m.path != (m.field,) else m.why


def _kept(name: str) -> str:
    return name if is_plain(name) else f"{json.dumps(name)}: {at((name,))}"


def _shown(path: Path) -> str:
    return f"`{plain('.'.join(path), 80)}`"
