"""Every setting, in one table, from the environment. Nothing else reads the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from stream.errors import SettingsError

PREFIX = "STRAYLINE_"
MOST = 1_000_000.0  # alerts a day, seconds
_N = TypeVar("_N", int, float)


@dataclass(frozen=True)
class Setting:
    """One row of the table: its name in the environment, the attribute it fills, how it is read, and what it means."""

    name: str
    read: Callable[[str], Any]
    default: str
    help: str

    @property
    def attribute(self) -> str:
        return self.name.removeprefix(PREFIX).lower()


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(w for w in (part.strip() for part in text.split(",")) if w))


def _domains(text: str) -> tuple[str, ...]:
    domains = tuple(w.lower() for w in _words(text))
    for domain in domains:
        if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", domain):
            raise ValueError(
                f"{domain!r} is no domain; needs names such as corp.example, separated by commas, without @, * or https://"
            )
    return domains


def _ladder(text: str) -> tuple[str, ...]:
    rungs = tuple(part.strip() for part in text.split(","))
    folded = {rung.lower() for rung in rungs}
    if not 1 <= len(rungs) <= 16 or "" in rungs or len(folded) < len(rungs) or ";" in text:
        raise ValueError("needs 1 to 16 different names, lowest first, separated by commas")
    return rungs


def _number(of: Callable[[str], _N], text: str) -> _N | None:
    """None if it is none: Python's own message speaks of strings and floats, and the reader of ours set a variable."""
    try:
        return of(text)
    except ValueError:
        return None


def _above_zero(text: str) -> float:
    value = _number(float, text)
    if value is None or not 0 < value <= MOST:
        raise ValueError(f"needs a number above 0 and at most {MOST:,.0f}")
    return value


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = _number(int, text)
        if value is None or not low <= value <= high:
            raise ValueError(f"needs a whole number from {low} to {high}")
        return value

    return read


def _name(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text.strip()


SETTINGS = (
    Setting("STRAYLINE_BROKER", _name, "localhost:9092", "Kafka bootstrap servers, HOST:PORT separated by commas"),
    Setting("STRAYLINE_GROUP", _name, "strayline", "consumer group of the workers; also names their stored baselines"),
    Setting("STRAYLINE_INSTANCE", str, "", "this worker's fixed name in the group (static membership: a restart within 10 s moves no partition); default: host name and HTTP port"),
    Setting("STRAYLINE_HTTP_HOST", _name, "127.0.0.1", "address on which the worker serves /metrics, /healthz and /readyz"),
    Setting("STRAYLINE_HTTP_PORT", _whole(1, 65535), "9464", "port of the same"),
    Setting("STRAYLINE_CLASSIFICATIONS", _ladder, "public,internal,confidential,restricted", "the deployment's classification ladder, lowest first; other values are kept and treated as unknown"),
    Setting("STRAYLINE_DOMAINS", _domains, "", "the organisation's own domains, comma-separated; anything else is outside; without it the home domain is learned from the principals"),
    Setting("STRAYLINE_ALERTS_PER_DAY", _above_zero, "5", "alerts a day over the whole fleet that the analysts can read; it sets the threshold"),
    Setting("STRAYLINE_MAX_EVENT_BYTES", _whole(1024, 1 << 30), "1048576", "a longer record is rejected unread (bytes)"),
    Setting("STRAYLINE_STATE_MIB", _whole(16, 1 << 20), "512", "memory that the baselines of one partition (or one replay) may take (MiB); beyond it the least used give way"),
    Setting("STRAYLINE_FLUSH_SECONDS", _above_zero, "0.5", "the worker delivers alerts and changed baselines, and commits, this often (s)"),
    Setting("STRAYLINE_RIVER_DETECTOR", str, "", "a detector of river.anomaly, such as HalfSpaceTrees, to run over each agent's window features as a further signal; empty: off"),
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The values in force. Build with `load`; field names are those of the table without the prefix."""

    broker: str
    group: str
    instance: str
    http_host: str
    http_port: int
    classifications: tuple[str, ...]
    domains: tuple[str, ...]
    alerts_per_day: float
    max_event_bytes: int
    state_mib: int
    flush_seconds: float
    river_detector: str


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings, by default from the process's environment.

    Raises `SettingsError` for a name that starts with `STRAYLINE_` and is not in the table, and for a value out of its domain.
    """
    env = os.environ if environment is None else environment
    known = {s.name for s in SETTINGS}
    unknown = sorted(name for name in env if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(
            f"unknown setting {', '.join(unknown)}; the settings are {', '.join(s.name for s in SETTINGS)}"
        )
    values = {}
    for s in SETTINGS:
        text = env.get(s.name, s.default)
        try:
            values[s.attribute] = s.read(text)
        except ValueError as reason:
            raise SettingsError(f"{s.name}={text!r}: {reason} ({s.help})") from None
    return Settings(**values)
