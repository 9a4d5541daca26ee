"""Bytes ↔ values: the only file that knows the wire format of events, scores and rejects.

Past this file data is valid: the engine and the models cannot fail on it. A record that cannot be used becomes a `Reject`
with its reason and its bytes as they came; decoding never raises and never fills in a value that was not there.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple, get_args

import msgspec
import numpy as np

from models.compiled import njit
from stream.scan import GIVES

NESTING = 500  # levels; a shorter record cannot nest deeper
DETAIL = 300  # characters of a reject's detail: an error may quote a value as long as the record
# Seconds since the epoch: 0001-01-01T00:00:00Z, 9999-12-31T23:59:59Z.
FIRST, LAST = -62135596800.0, 253402300799.0
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]  # an alert names twenty events for each signal
Label = Annotated[str, msgspec.Meta(max_length=8192)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e18)]
When = Annotated[datetime, msgspec.Meta(tz=True)] | Annotated[float, msgspec.Meta(ge=0, le=LAST)]

Kind = Literal["user", "group", "channel", "agent", "service", "email", "url"]
Outcome = Literal["success", "denied", "error"]


def seconds(when: When) -> float:
    """A time as seconds since the epoch."""
    return when.timestamp() if isinstance(when, datetime) else float(when)


class Recipient(msgspec.Struct, gc=False):
    """Who or what received the data."""

    id: Text
    type: Kind | None = None
    domain: Label | None = None
    clearance: Label | None = None
    size: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)] | None = None


class AccessEvent(msgspec.Struct, gc=False):
    """One access by an agent: contract version 1. What `attributes` holds stays as bytes; nothing trusts it."""

    event_id: Id
    time: When
    agent_id: Id
    action: Text
    agent_type: Label | None = None
    agent_version: Label | None = None
    principal: Label | None = None
    session_id: Label | None = None
    tool: Label | None = None
    resource: Label | None = None
    classification: Label | None = None
    scopes: Annotated[tuple[Text, ...], msgspec.Meta(max_length=1024)] | None = None
    bytes: Amount | None = None
    records: Amount | None = None
    recipients: Annotated[tuple[Recipient, ...], msgspec.Meta(max_length=65536)] | None = None
    approved: bool | None = None
    outcome: Outcome | None = None
    attributes: dict[str, msgspec.Raw] | None = None


class Reject(NamedTuple):
    """A record that was not scored: why, where it came from, and its bytes as they came."""

    reason: str  # one of REASONS
    detail: str
    position: int  # line number from 1, or offset
    raw: bytes


REASONS = ("empty", "too_large", "too_deep", "not_json", "missing_field", "bad_value", "damaged")

_SERVER = re.compile(r"https?://[^/?#\\]+", re.IGNORECASE).match
_MISSING = "Object missing required field"
_ALLOWED = {"type": Kind, "outcome": Outcome}  # by the last name of the path
_decode = msgspec.json.Decoder(AccessEvent).decode
_decode_names = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_recipients = msgspec.json.Decoder(tuple[dict[str, msgspec.Raw], ...] | None).decode
_FIELDS, _RECIPIENT_FIELDS = frozenset(AccessEvent.__struct_fields__), frozenset(Recipient.__struct_fields__)
FIELDS = (*AccessEvent.__struct_fields__, *(f"recipients[].{name}" for name in Recipient.__struct_fields__))
REQUIRED = tuple(f.name for f in msgspec.structs.fields(AccessEvent) if f.required)
ID_FIELDS = ("event_id", "agent_id")  # of at most 256 characters
OUTCOMES = get_args(Outcome)
_encoder = msgspec.json.Encoder()
_encode = _encoder.encode


class Events(Sequence[AccessEvent]):
    """Events of a batch, each decoded when somebody looks at it: few become evidence, and the columns say the rest."""

    def __init__(self, raws: Sequence[bytes | None], decoded: dict[int, AccessEvent]) -> None:
        """Records that are events; those that were decoded already, by their index."""
        self._raws = raws
        self._decoded = decoded

    def __len__(self) -> int:
        return len(self._raws)

    def __getitem__(self, i: int) -> AccessEvent:  # type: ignore[override]
        event = self._decoded.get(i)
        if event is None:
            event = self._decoded[i] = _settle(_decode(self._raws[i] or b""))
        return event


def decode(
    records: Sequence[bytes | None], positions: Sequence[int], max_bytes: int
) -> tuple[list[AccessEvent], list[int], list[Reject]]:
    """Raw records, one by one → events, the index in `records` of each, and rejects. Both keep the order.

    The largest record allowed is `max_bytes` long. `columns.read` is many times as fast, and takes the same.
    """
    events, kept, rejects = [], [], []
    for i, raw in enumerate(records):
        event = decode_event(raw, positions[i], max_bytes)
        if isinstance(event, Reject):
            rejects.append(event)
        else:
            events.append(event)
            kept.append(i)
    return events, kept, rejects


def decode_event(raw: bytes | None, position: int, max_bytes: int) -> AccessEvent | Reject:
    """One record → an event, or why it is none."""
    event = decode_one(_decode, raw, position, max_bytes)
    return event if isinstance(event, Reject) else _settle(event)


def plain(event: AccessEvent) -> bytes:
    """An event as `scan` reads it, but for its numbers, which are left out or 0: not every one is read exactly there."""
    recipients = event.recipients and tuple(
        msgspec.structs.replace(r, size=None, clearance=r.clearance and r.clearance.lower()) for r in event.recipients
    )
    classification = event.classification and event.classification.lower()
    return _encode(
        msgspec.structs.replace(
            event,
            time=0,
            bytes=None,
            records=None,
            classification=classification,
            recipients=recipients,
            attributes=None,
        )
    )


def _settle(event: AccessEvent) -> AccessEvent:
    """What follows from an event's own words. Recipients that it lists again, word for word, are left out: who lists an address fifty times has reached one. What is
    written or sent to an `http` URL that stands as the resource was received there, though no recipient is named."""
    if event.recipients and len(event.recipients) > 1:
        once = {(r.id, r.type, r.domain, r.clearance, r.size): r for r in event.recipients}
        if len(once) < len(event.recipients):
            event.recipients = tuple(once.values())
    if not event.recipients and event.resource and event.action in GIVES:
        server = _SERVER(event.resource)
        if server:
            event.recipients = (Recipient(id=server[0], type="url"),)
    return event


def decode_one(decode: Callable[[bytes], Any], raw: bytes | None, position: int, max_bytes: int) -> Any:
    """What `decode` makes of one record, which has a `time`; or a `Reject`."""
    try:
        if raw is not None and len(raw) > min(NESTING, max_bytes):
            _check(raw, max_bytes)
        raw.decode()  # type: ignore[union-attr]  # the decoder checks only the texts that it reads
        value = decode(raw)  # type: ignore[arg-type]
        _check_time(value.time)
    except (
        msgspec.DecodeError,
        AttributeError,
        TypeError,
        UnicodeDecodeError,
        RecursionError,
        _UnfitError,
    ) as error:
        return _reject(raw, error, position)
    return value


def unknown_fields(raw: bytes) -> set[str]:
    """Names that a record, which is an event, has beside `FIELDS`. Slow: `decode` skips them without looking."""
    try:
        names = _decode_names(raw)
        recipients = _decode_recipients(names.get("recipients", b"null")) or ()
    except (msgspec.DecodeError, RecursionError):  # of names, which `decode` skips, one that is no text
        return set()
    found = names.keys() - _FIELDS
    return found.union(*({f"recipients[].{n}" for n in r.keys() - _RECIPIENT_FIELDS} for r in recipients))


class _UnfitError(ValueError):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _check(raw: bytes, max_bytes: int) -> None:
    if len(raw) > max_bytes:
        raise _UnfitError("too_large", f"{len(raw)} bytes; at most {max_bytes} are read (STRAYLINE_MAX_EVENT_BYTES)")
    if raw.count(b"[") + raw.count(b"{") <= NESTING:
        return
    deep = depth(np.frombuffer(raw, np.uint8))
    if deep > NESTING:
        raise _UnfitError("too_deep", f"nested {deep} deep; at most {NESTING} levels are read")


def _check_time(time: datetime | float) -> None:
    """An offset, or a fraction of the last second, may lead out of the years in which UTC can be written."""
    if isinstance(time, datetime) and not FIRST <= time.timestamp() <= LAST:
        raise _UnfitError("bad_value", "The year must be 1 to 9999 in UTC - at `$.time`")


def _reject(raw: bytes | None, error: Exception, position: int) -> Reject:
    if not raw or not raw.strip():
        return Reject("empty", "the record has no value", position, raw or b"")
    if isinstance(error, _UnfitError):
        return Reject(error.reason, str(error), position, raw)
    if isinstance(error, RecursionError):
        return Reject("too_deep", "nested deeper than can be read here", position, raw)
    text = str(error)
    if len(text) > DETAIL:
        text = f"{text[: DETAIL // 2]} … {text[-DETAIL // 2 :]}"
    if text.startswith("Invalid enum value"):
        allowed = get_args(_ALLOWED.get(text.rstrip("`").rpartition(".")[2]))
        text += f"; it may be {', '.join(allowed)}" if allowed else ""
    elif text.endswith(f"<= {LAST} - at `$.time`"):
        text += "; seconds since the epoch are read, and this looks like milliseconds, or finer: divide it by 1000"
    elif text.startswith("Invalid RFC3339"):
        text += "; a time is written 2026-03-12T08:44:01Z, with any offset, or as seconds since the epoch"
    elif text.startswith("Expected `datetime` with a timezone"):
        text += "; put the offset behind it, as in 2026-03-12T08:44:01Z"
    if isinstance(error, msgspec.ValidationError):
        return Reject("missing_field" if text.startswith(_MISSING) else "bad_value", text, position, raw)
    return Reject("not_json", text, position, raw)


@njit
def depth(text: Any) -> int:
    """How deep brackets nest outside of strings."""
    deepest = level = 0
    quoted = escaped = False
    for c in text:
        if quoted:
            if escaped:
                escaped = False
            elif c == 92:
                escaped = True
            elif c == 34:
                quoted = False
        elif c == 34:
            quoted = True
        elif c in (91, 123):
            level += 1
            deepest = max(deepest, level)
        elif c in (93, 125):
            level -= 1
    return deepest


def encode_lines(lines: Sequence[Any]) -> bytes:
    """JSON Lines of structs or dicts."""
    return _encoder.encode_lines(lines)


def encode(value: Any) -> bytes:
    """One JSON value."""
    return _encode(value)


def reject_line(reject: Reject, source: str, partition: int | None = None, whole: int | None = None) -> bytes:
    """A reject as one JSON object: its bytes as text where they are text, else in base64. `whole`: how many it had, where only the first were kept."""
    place: dict[str, Any] = {"source": source, "position": reject.position}
    if partition is not None:
        place = {"topic": source, "partition": partition, "offset": reject.position}
    try:
        body = {"value": reject.raw.decode()}
    except UnicodeDecodeError:
        body = {"value_base64": base64.b64encode(reject.raw).decode()}
    detail, cut = reject.detail, {}
    if whole is not None:
        detail, cut = f"{detail}; the first {len(reject.raw)} of its {whole} bytes were kept", {"cut_from_bytes": whole}
    return _encode({"reason": reject.reason, "detail": detail} | place | cut | body)
