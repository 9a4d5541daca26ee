"""OpenTelemetry's JSON: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding, and the `jq` that takes it apart.

Spans and log records lie under what they come from, whose attributes are theirs too. An attribute is an object of a key and a value that says its kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Record = dict[str, Any]

# Of an array of keys and values an object, of a value that says its kind the value.
PLAIN = (
    'def plain: if type == "array" and all(.[]; type == "object" and has("key")) then [.[]|{key, value: (.value|plain)}]|from_entries '
    'elif type != "object" then . elif has("intValue") then .intValue|(tonumber? // .) elif has("arrayValue") then [.arrayValue.values[]?|plain] '
    'elif has("kvlistValue") then (.kvlistValue.values // [])|plain else first(.[], null) end; '
)
_FROM = "|.attributes = ($above|plain) + (.attributes|plain)"
_RECORDS = {"resourceSpans": ("scopeSpans", "spans"), "resourceLogs": ("scopeLogs", "logRecords")}
# A span that says nothing ended well; a log record may know only when it was seen.
_MORE = {
    "resourceSpans": "|.status.code //= 0",
    "resourceLogs": "|.body |= plain|if (.timeUnixNano // 0|tonumber) == 0 then .timeUnixNano = .observedTimeUnixNano else . end",
}
JQ = {
    name: f"{PLAIN}.{name}[]?|.resource.attributes as $above|.{scopes}[]?|.{records}[]?{_FROM}{_MORE[name]}"
    for name, (scopes, records) in _RECORDS.items()
}


def taken_apart(documents: Sequence[Record], name: str) -> Iterator[Record]:
    """Spans (`resourceSpans`) or log records (`resourceLogs`), as `JQ` makes them."""
    scopes, inner = _RECORDS[name]
    for source in (source for document in documents for source in _objects(document.get(name))):
        above = _object(plain(_object(source.get("resource")).get("attributes")))
        for record in (r for scope in _objects(source.get(scopes)) for r in _objects(scope.get(inner))):
            one = {**record, "attributes": {**above, **_object(plain(record.get("attributes")))}}
            if name == "resourceSpans":
                one["status"] = {"code": 0, **_object(record.get("status"))}
            else:
                one["body"] = plain(record.get("body"))
                if str(record.get("timeUnixNano") or 0) == "0":
                    one["timeUnixNano"] = record.get("observedTimeUnixNano")
            yield one


def is_keyed(value: Any) -> bool:
    """Whether it is an array of keys and values."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and isinstance(one.get("key"), str) for one in value)  # fmt: skip


def plain(value: Any) -> Any:
    """The same in Python.

    >>> plain([{"key": "user.id", "value": {"stringValue": "ana"}}, {"key": "n", "value": {"intValue": "3"}}])
    {'user.id': 'ana', 'n': 3}
    """
    if is_keyed(value):
        return {one["key"]: plain(one.get("value")) for one in value}
    if not isinstance(value, dict):
        return value
    if "intValue" in value:
        return _whole(value["intValue"])
    if "arrayValue" in value:
        return [plain(one) for one in _objects(_object(value["arrayValue"]).get("values"))]
    if "kvlistValue" in value:
        return plain(_object(value["kvlistValue"]).get("values") or [])
    return next(iter(value.values()), None)


def _whole(value: Any) -> Any:
    try:
        return int(value)
    except (TypeError, ValueError):
        return value


def _object(value: Any) -> Record:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[Record]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
