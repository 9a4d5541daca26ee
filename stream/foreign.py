"""A log in other words than the contract's: which of its fields are likely meant, and the `jq` line that makes events of it.

A gateway has its own names, and its clock often counts milliseconds. Told field by field, whoever sets it up comes back once for each; so all
is told at once, from the first records of a file in which no line is an event. Nothing here is believed: a person runs the line, or mends it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from stream.codec import FIELDS, ID_FIELDS, OUTCOMES, REQUIRED
from stream.fields import likely
from stream.files import named
from stream.words import plain

SAMPLE, MOST_BYTES = 200, 1 << 16  # records of a file, and bytes of each: a line may be as long as memory
_MOST_FIELDS = 60
_DEEP = 3
_MOST_KEPT = 12  # fields that nothing reads, for `attributes`
_OURS = tuple(name for name in FIELDS if "[" not in name)
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = frozenset(
    "and or not if then else elif end def reduce foreach try catch label import include as __loc__".split()  # noqa: SIM905
)
_RECIPIENT_ID = ("id", "address", "email", "mail", "user", "username", "channel", "name")
_WHICH = ".WHICH"  # where nothing is likely: for a person to put in
_PUT = {
    "event_id": "the number of its line is put",
    "time": f"{_WHICH} is put",
    "agent_id": f"{_WHICH} is put",
    "action": "`execute` is put: better what it did, such as read, send or share",
}
# What others say of how it ended.
_ENDED = {
    **dict.fromkeys(("success", "ok", "succeeded", "successful", "completed", "done", "allowed", "200", "true"), "success"),
    **dict.fromkeys(("denied", "deny", "forbidden", "unauthorized", "blocked", "refused", "rejected", "401", "403"), "denied"),
    **dict.fromkeys(("error", "failed", "failure", "fail", "exception", "timeout", "500", "false"), "error"),
}  # fmt: skip

# Which may come later, though not among the first.
_ENDED_OFTEN = ("success", "ok", "denied", "forbidden", "error", "failed")

Path = tuple[str, ...]


class Meant(NamedTuple):
    """A field of theirs, the contract's that is likely meant, and what makes the one of the other."""

    path: Path
    field: str
    jq: str
    why: str = ""  # where it is more than another name


class Foreign(NamedTuple):
    """What is known of a log that is none of the contract's."""

    records: int
    lack: list[str]  # required fields that a record lacks
    meant: list[Meant]
    rest: list[str]  # names at the top that nothing reads


def look(raws: Iterable[bytes]) -> Foreign | None:
    """Look at records that are no events; None where the first is no JSON object."""
    records = []
    for raw in raws:
        try:
            record = json.loads(raw)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            records.append(record)
        elif not records:
            return None
    if not records:
        return None
    values: dict[Path, list[Any]] = {}
    for record in records:
        for path, value in _leaves(record, ()):
            if path in values or len(values) < _MOST_FIELDS:
                values.setdefault(path, []).append(value)
    meant = [found for field in _OURS if (found := _meant(field, values)) is not None]
    used = {m.path[0] for m in meant}
    rest = list(dict.fromkeys(path[0] for path in values if path[0] not in used and path[0].isprintable()))
    lack = [name for name in REQUIRED if any(record.get(name) is None for record in records)]
    return Foreign(len(records), lack, meant, rest)


def told(path: str, raws: Iterable[bytes]) -> list[str]:
    """What to tell of a file in which no record is an event; nothing where its records are no JSON, or only their values are at fault."""
    foreign = look(raws)
    if foreign is None:
        return []
    other = [m for m in foreign.meant if m.jq != _jq(m.path) or m.path != (m.field,)]
    if not foreign.lack and not other:
        return []
    lack = f": its records lack {_and(foreign.lack)}, which every event must have" if foreign.lack else ""
    lines = [f"{named(path)} has no event{lack}"]
    if not other:
        return [
            *lines,
            'an event is one JSON object on one line, such as {"event_id": "e1", "time": "2026-03-12T08:44:01Z", "agent_id": "a", "action": "read"}',
        ]
    width = max(len(_shown(m.path)) for m in other)
    lines += [f"  {_shown(m.path):{width}}  is likely `{m.field}`{m.why and f', {m.why}'}" for m in other]
    kept = [plain(name, 80) for name in foreign.rest[:_MOST_KEPT]]
    if kept:
        lines.append(f"  {_and(kept)}: nothing reads {'it' if len(kept) == 1 else 'them'}; kept in `attributes`")
    put = [f"`{f}` ({what})" for f, what in _PUT.items() if f not in {m.field for m in foreign.meant}]
    if put:
        lines.append(f"  nothing is likely {_and(put)}")
    source, program = shlex.quote(path), shlex.quote(_program(foreign))
    unpack = next((f"{tool} -dc {source} | " for end, tool in ((".gz", "gzip"), (".zst", "zstd")) if path.endswith(end)), "")  # fmt: skip
    lines += [
        "look at what is likely, and write events with",
        f"  {unpack}jq -c {program}{'' if unpack else ' FILE' if path == '-' else f' {source}'} > events.jsonl",
    ]
    if _WHICH in program:
        lines.append(f"where it says {_WHICH}, put the field that tells it; then `strayline replay events.jsonl`")
    else:
        lines.append("then `strayline replay events.jsonl`")
    return lines


def short(raw: bytes) -> dict[str, str]:
    """Of one record: field of theirs → the contract's that is likely meant, where that is not its name."""
    foreign = look([raw])
    if foreign is None:
        return {}
    return {
        plain(".".join(m.path), 80): f"{m.field}{m.why and f', {m.why}'}"
        for m in foreign.meant
        if m.why or m.path != (m.field,)
    }


def _leaves(value: dict[str, Any], above: Path) -> Iterator[tuple[Path, Any]]:
    for name, below in value.items():
        path = (*above, name)
        if below is None or below == "":
            continue
        if isinstance(below, dict) and below and len(path) < _DEEP and path != ("attributes",):
            yield from _leaves(below, path)
        else:
            yield path, below


def _meant(field: str, values: dict[Path, list[Any]]) -> Meant | None:
    """The field of theirs that is likeliest this one, of those whose values can be."""
    ranked = sorted((rank, path) for path in values if (rank := likely(path, field)) is not None)
    for _, path in ranked:
        made = _made(field, _jq(path), values[path])
        if made is not None:
            return Meant(path, field, *made)
    return None


def _made(field: str, at: str, values: Sequence[Any]) -> tuple[str, str] | None:
    """The jq expression that makes these values the contract's, and what to say of it; None where they cannot be."""
    if field == "time":
        return _time(at, values)
    if field in {"bytes", "records"}:
        return _amount(at, values)
    if field == "scopes":
        return _scopes(at, values)
    if field == "recipients":
        return _recipients(at, values)
    if field == "outcome":
        return _outcome(at, values)
    if field == "approved":
        return (at, "") if _all(values, lambda v: isinstance(v, bool)) else None
    if field == "attributes":
        return (at, "") if _all(values, lambda v: isinstance(v, dict)) else None
    if field == "event_id" and len(set(map(repr, values))) < len(values):  # it names a call or a run, not an event
        return None
    if _all(values, lambda v: isinstance(v, str)):
        return (at, "") if field not in ID_FIELDS or _all(values, lambda v: len(v) <= 256) else None
    if _all(values, lambda v: isinstance(v, str) or _is_number(v)):
        return (f"({at}|tostring)" if field in REQUIRED else _if_there(at, "tostring")), "as text"
    return None


def _time(at: str, values: Sequence[Any]) -> tuple[str, str] | None:
    texts = _all(values, lambda v: isinstance(v, str))
    try:
        numbers = [float(v) for v in values if not isinstance(v, (bool, list, dict))]
    except (ValueError, OverflowError):
        numbers = []
    if len(numbers) == len(values):
        number = f"{at}|tonumber" if texts else at
        for most, unit, by in ((1e11, "", 1), (1e14, "milliseconds", 1000), (1e17, "microseconds", 1000000), (1e20, "nanoseconds", 1000000000)):  # fmt: skip
            if 1e8 <= max(numbers) < most:
                return (number if by == 1 and not texts else f"({number}{f'/{by}' if by > 1 else ''})"), unit and f"in {unit}: divided, since seconds are read"  # fmt: skip
        return None
    if not texts:
        return None
    try:
        moments = [datetime.fromisoformat(v) for v in values]
    except ValueError:
        return None
    if all(m.tzinfo is not None for m in moments):
        return at, ""
    if any(m.tzinfo is not None for m in moments) or not _all(values, lambda v: ":" in v):
        return None
    return f'({at}|sub(" "; "T") + "Z")', "without an offset: taken for UTC"


def _amount(at: str, values: Sequence[Any]) -> tuple[str, str] | None:
    if _all(values, lambda v: _is_number(v) and v >= 0):
        return at, ""
    if _all(values, lambda v: isinstance(v, str) and v.strip().isascii() and v.strip().isdigit()):
        return _if_there(at, "tonumber"), "as a number"
    return None


def _scopes(at: str, values: Sequence[Any]) -> tuple[str, str] | None:
    if _all(values, lambda v: isinstance(v, list) and all(isinstance(s, str) for s in v)):
        return at, ""
    if _all(values, lambda v: isinstance(v, str)):
        return _if_there(at, '[splits("[, ]+")|select(. != "")]'), "as an array"
    return None


def _recipients(at: str, values: Sequence[Any]) -> tuple[str, str] | None:
    said = "each as an object with its `id`"
    if _all(values, lambda v: isinstance(v, str)):
        return _if_there(at, '[splits("[,;] *")|select(. != "")|{id: .}]'), said
    if not _all(values, lambda v: isinstance(v, list)):
        return None
    each = [one for value in values for one in value]
    if _all(each, lambda v: isinstance(v, str)):
        return f"[({at} // [])[]|{{id: .}}]", said
    if not _all(each, lambda v: isinstance(v, dict)):
        return None
    has = next((n for n in _RECIPIENT_ID if _all(each, lambda v, n=n: isinstance(v.get(n), str))), None)  # type: ignore[misc]
    if has is None or has == "id":
        return (at, "") if has else None
    more = "".join(f", {n}" for n in ("domain", "clearance", "size") if any(n in one for one in each))
    return f"[({at} // [])[]|{{id: .{has}{more}}}]", f"`{has}` as its `id`"


def _outcome(at: str, values: Sequence[Any]) -> tuple[str, str] | None:
    if _all(values, lambda v: v in OUTCOMES):
        return at, ""
    words = {str(v).lower() for v in values if not isinstance(v, (list, dict))}
    if not words & _ENDED.keys():
        return None
    known = {word: _ENDED[word] for word in _ENDED if word in words or word in _ENDED_OFTEN}
    return f"({json.dumps(known)}[{at}|tostring|ascii_downcase])", f"as {_and(OUTCOMES)}"


def _program(foreign: Foreign) -> str:
    by = {m.field: m.jq for m in foreign.meant}
    # Unique in one file, which is all that can be said without knowing it.
    default = {"event_id": '"\\(input_filename // "stdin"):\\(input_line_number)"', "action": '"execute"'}
    pairs = [(f, by.get(f) or default.get(f, _WHICH)) for f in _OURS if f in by or f in REQUIRED]
    if "attributes" not in by and foreign.rest:
        pairs.append(("attributes", "{" + ", ".join(_kept(n) for n in foreign.rest[:_MOST_KEPT]) + "}"))
    return "{" + ", ".join(name if made == f".{name}" else f"{name}: {made}" for name, made in pairs) + "}"


def _kept(name: str) -> str:
    return name if _is_plain(name) else f"{json.dumps(name)}: {_jq((name,))}"


def _jq(path: Path) -> str:
    """The path of a field.

    >>> _jq(("actor", "id")), _jq(("@timestamp",)), _jq(("a", "b c"))
    ('.actor.id', '.["@timestamp"]', '.a["b c"]')
    """
    parts = [f".{name}" if _is_plain(name) else f"[{json.dumps(name)}]" for name in path]
    return "".join(parts) if parts[0].startswith(".") else f".{''.join(parts)}"


def _is_plain(name: str) -> bool:
    return _PLAIN.fullmatch(name) is not None and name not in _RESERVED


def _shown(path: Path) -> str:
    return f"`{plain('.'.join(path), 80)}`"


def _if_there(at: str, then: str) -> str:
    return f"({at}|if . == null then null else {then} end)"


def _all(values: Sequence[Any], fits: Callable[[Any], bool]) -> bool:
    return all(fits(value) for value in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _and(names: Sequence[str]) -> str:
    """For reading.

    >>> _and(["a"]), _and(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
