"""The `jq` expressions that make values of another log the contract's, and what is said of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from stream.codec import ID_FIELDS, OUTCOMES, REQUIRED
from stream.words import listed

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = frozenset(
    "and or not if then else elif end def reduce foreach try catch label import include as __loc__".split()  # noqa: SIM905
)
_RECIPIENT_ID = ("id", "address", "email", "mail", "user", "username", "channel", "name")
# What others say of how it ended.
_ENDED = {
    **dict.fromkeys(("success", "ok", "succeeded", "successful", "completed", "done", "allowed", "unset", "200", "true"), "success"),
    **dict.fromkeys(("denied", "deny", "forbidden", "unauthorized", "blocked", "refused", "rejected", "401", "403"), "denied"),
    **dict.fromkeys(("error", "failed", "failure", "fail", "exception", "timeout", "500", "false"), "error"),
}  # fmt: skip

# Of a field `code` of a `status`: OpenTelemetry's, and of the higher ones gRPC's.
_CODES = {"0": "success", "1": "success", "2": "error"}
_CODES |= {"status_code_unset": "success", "status_code_ok": "success", "status_code_error": "error"}
_HIGHER = {str(n): "denied" if n in {7, 16} else "error" for n in range(3, 17)}
# Of what is there only where something went wrong.
_FAULT = re.compile(r"(error|exception|fault)([._]?(code|type|name|message))?", re.IGNORECASE)
# Which may come later, though not among the first.
_ENDED_OFTEN = ("success", "ok", "denied", "forbidden", "error", "failed")

Path = tuple[str, ...]


def at(path: Path) -> str:
    """The path of a field.

    >>> at(("actor", "id")), at(("@timestamp",)), at(("a", "b c"))
    ('.actor.id', '.["@timestamp"]', '.a["b c"]')
    """
    parts = [f".{name}" if is_plain(name) else f"[{json.dumps(name)}]" for name in path]
    return "".join(parts) if parts[0].startswith(".") else f".{''.join(parts)}"


def is_plain(name: str) -> bool:
    """Whether `jq` takes a name as it is."""
    return _NAME.fullmatch(name) is not None and name not in _RESERVED


def made(field: str, path: Path, values: Sequence[Any], *, everywhere: bool = True) -> tuple[str, str] | None:
    """The jq expression that makes these values the contract's, and what to say of it; None where they cannot be."""
    there = at(path)
    if field == "time":
        time = _time(there, values)
        return time if time is None or everywhere or time[0] == there else (f"({time[0]}? // null)", time[1])
    if field in {"bytes", "records"}:
        return _amount(there, values)
    if field == "scopes":
        return _scopes(there, values)
    if field == "recipients":
        return _recipients(there, values)
    if field == "outcome":
        return _outcome(path, values)
    if field == "approved":
        return _approved(there, values)
    if field == "attributes":
        return (there, "") if _all(values, lambda v: isinstance(v, dict)) else None
    if field == "event_id" and len(set(map(repr, values))) < len(values):  # it names a call or a run, not an event
        return None
    if _all(values, lambda v: isinstance(v, str)):
        return (there, "") if field not in ID_FIELDS or _all(values, lambda v: len(v) <= 256) else None
    if _all(values, lambda v: isinstance(v, str) or _is_number(v)):
        return (f"({there}|tostring)" if field in REQUIRED else _if_there(there, "tostring")), "as text"
    return None


def _time(there: str, values: Sequence[Any]) -> tuple[str, str] | None:
    texts = any(isinstance(v, str) for v in values)
    try:
        numbers = [float(v) for v in values if not isinstance(v, (bool, list, dict))]
    except (ValueError, OverflowError):
        numbers = []
    if len(numbers) == len(values):
        number = f"{there}|tonumber" if texts else there
        for most, unit, by in ((1e11, "", 1), (1e14, "milliseconds", 1000), (1e17, "microseconds", 1000000), (1e20, "nanoseconds", 1000000000)):  # fmt: skip
            if 1e8 <= max(numbers) < most:
                return (number if by == 1 and not texts else f"({number}{f'/{by}' if by > 1 else ''})"), f"in {unit}: divided, since seconds are read" if unit else "as a number" if texts else ""  # fmt: skip
        return None
    if not _all(values, lambda v: isinstance(v, str)):
        return None
    try:
        moments = [datetime.fromisoformat(v) for v in values]
    except ValueError:
        return None
    if all(m.tzinfo is not None for m in moments):
        return there, ""
    if any(m.tzinfo is not None for m in moments) or not _all(values, lambda v: ":" in v):
        return None
    return f'({there}|sub(" "; "T") + "Z")', "without an offset: taken for UTC"


def _amount(there: str, values: Sequence[Any]) -> tuple[str, str] | None:
    if _all(values, lambda v: _is_number(v) and v >= 0):
        return there, ""
    if _all(values, lambda v: isinstance(v, str) and v.strip().isascii() and v.strip().isdigit()):
        return f"({there}|tonumber? // null)", "as a number"
    return None


def _scopes(there: str, values: Sequence[Any]) -> tuple[str, str] | None:
    if _all(values, lambda v: isinstance(v, list) and all(isinstance(s, str) for s in v)):
        return there, ""
    if _all(values, lambda v: isinstance(v, str)):
        return _if_there(there, '[splits("[, ]+")|select(. != "")]'), "as an array"
    return None


def _recipients(there: str, values: Sequence[Any]) -> tuple[str, str] | None:
    said = "each as an object with its `id`"
    if _all(values, lambda v: isinstance(v, str)):
        return _if_there(there, '[splits("[,;] *")|select(. != "")|{id: .}]'), said
    if not _all(values, lambda v: isinstance(v, list)):
        return None
    each = [one for value in values for one in value]
    if _all(each, lambda v: isinstance(v, str)):
        return f"[({there} // [])[]|{{id: .}}]", said
    if not _all(each, lambda v: isinstance(v, dict)):
        return None
    has = next((n for n in _RECIPIENT_ID if _all(each, lambda v, n=n: isinstance(v.get(n), str))), None)  # type: ignore[misc]
    if has is None or has == "id":
        return (there, "") if has else None
    more = "".join(f", {n}" for n in ("domain", "clearance", "size") if any(n in one for one in each))
    return f"[({there} // [])[]|{{id: .{has}{more}}}]", f"`{has}` as its `id`"


def _approved(there: str, values: Sequence[Any]) -> tuple[str, str] | None:
    if _all(values, lambda v: isinstance(v, bool)):
        return there, ""
    if _all(values, lambda v: isinstance(v, str) and v.lower() in {"true", "false"}):
        return _if_there(there, 'tostring|ascii_downcase == "true"'), "as true or false"
    return None


def _outcome(path: Path, values: Sequence[Any]) -> tuple[str, str] | None:
    there = at(path)
    if _FAULT.search(".".join(path[-2:])) and not any(isinstance(v, (list, dict)) for v in values):
        fine, denied = (
            '"^(0|none|ok|success)?$"; "i"',
            '"denied|forbidden|unauthori[sz]ed|not ?authori[sz]ed|40[13]"; "i"',
        )
        return (
            f'({there} // ""|tostring|if test({fine}) then "success" elif test({denied}) then "denied" else "error" end)',
            ("denied or error where it is there, else success"),
        )
    if values and _all(values, lambda v: v in OUTCOMES):
        return there, ""
    ended = _ENDED | (_CODES | _HIGHER if [name.lower() for name in path[-2:]] == ["status", "code"] else {})
    words = {str(v).lower() for v in values if not isinstance(v, (list, dict))}
    if not words & ended.keys():
        return None
    known = {
        word: ended[word]
        for word in ended
        if word in words or word in _ENDED_OFTEN or (word in _CODES and "code" in path)
    }
    return f"({json.dumps(known)}[{there}|tostring|ascii_downcase])", f"as {listed(OUTCOMES)}"


def _if_there(there: str, then: str) -> str:
    return f"({there}|if . == null then null else {then} end)"


def _all(values: Sequence[Any], fits: Callable[[Any], bool]) -> bool:
    return all(fits(value) for value in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
