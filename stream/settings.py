"""Every setting, in one table, from the environment. Nothing else reads one there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeVar

from stream.errors import SettingsError

PREFIX = "STRAYLINE_"
MOST = 1_000_000.0  # alerts a day, seconds
COMMITTED, UNCOMMITTED = "read_committed", "read_uncommitted"
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


def host_port(text: str) -> tuple[str, int]:
    """A host name or address, an IPv6 one in brackets, and a port. Raises `ValueError`.

    >>> host_port("kafka-1.corp.example:9093"), host_port("[::1]:9092")
    (('kafka-1.corp.example', 9093), ('::1', 9092))
    """
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"[\w.-]+|\[[0-9A-Fa-f:.]+(%\w+)?\]", host) or not re.fullmatch(r"[0-9]{1,5}", port):
        raise ValueError(f"{text!r} is not HOST:PORT")
    if not 0 < int(port) <= 65535:
        raise ValueError(f"{text!r} has no port from 1 to 65535")
    return host.strip("[]"), int(port)


def _servers(text: str) -> str:
    servers = _words(text)
    if not servers:
        raise ValueError("must not be empty")
    for server in servers:
        host_port(server)
    return ",".join(servers)


def _host(text: str) -> str:
    if not re.fullmatch(r"[\w.-]+|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%\w+)?\]?", text.strip()):
        raise ValueError("needs a host name or an IP address, without a port or http://")
    return text.strip()


def _one_of(*choices: str) -> Callable[[str], str]:
    by_name = {choice.lower(): choice for choice in choices}

    def read(text: str) -> str:
        if text.strip().lower() not in by_name:
            raise ValueError(f"needs one of {', '.join(choices)}")
        return by_name[text.strip().lower()]

    return read


SETTINGS = (
    Setting("STRAYLINE_BROKER", _servers, "localhost:9092", "Kafka bootstrap servers, HOST:PORT separated by commas"),
    Setting("STRAYLINE_SECURITY_PROTOCOL", _one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"), "PLAINTEXT", "how every client speaks to the broker: SSL encrypts, SASL adds a user and a password"),
    Setting("STRAYLINE_TLS_CA", str, "", "PEM file of the authorities that sign the brokers' certificates; empty: those that this machine trusts"),
    Setting("STRAYLINE_TLS_CERTIFICATE", str, "", "PEM file of this client's own certificate (mTLS), with its chain; empty: none is shown"),
    Setting("STRAYLINE_TLS_KEY", str, "", "PEM file of that certificate's private key, without a passphrase; readable by this user alone"),
    Setting("STRAYLINE_SASL_MECHANISM", _one_of("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"), "SCRAM-SHA-512", "how the password is proved: SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN"),
    Setting("STRAYLINE_SASL_USERNAME", str, "", "user name for SASL"),
    Setting("STRAYLINE_SASL_PASSWORD", str, "", "its password; never printed, and better kept in a file"),
    Setting("STRAYLINE_SASL_PASSWORD_FILE", str, "", "file whose first line is the password, read when a client connects"),
    Setting("STRAYLINE_GROUP", _name, "strayline", "consumer group of the workers: one for all on a broker, since those of another would take the same partitions from them, in turns"),
    Setting("STRAYLINE_INSTANCE", str, "", "this worker's fixed name in the group (static membership: a restart within STRAYLINE_SESSION_SECONDS moves no partition); default: host name and HTTP port"),
    Setting("STRAYLINE_SESSION_SECONDS", _whole(6, 300), "10", "a worker that nothing is heard of for so long loses its partitions to the others (s); longer than a restart takes, or every restart moves them twice"),
    Setting("STRAYLINE_ISOLATION", _one_of(COMMITTED, UNCOMMITTED), COMMITTED, "which events are scored: read_committed waits for the end of a producer's transaction and leaves out what it aborted; read_uncommitted scores them at once, aborted or not"),
    Setting("STRAYLINE_HTTP_HOST", _host, "127.0.0.1", "address on which the worker serves /metrics, /healthz and /readyz"),
    Setting("STRAYLINE_HTTP_PORT", _whole(1, 65535), "9464", "port of the same"),
    Setting("STRAYLINE_CLASSIFICATIONS", _ladder, "public,internal,confidential,restricted", "the deployment's classification ladder, lowest first; other values are kept and treated as unknown"),
    Setting("STRAYLINE_DOMAINS", _domains, "", "the organisation's own domains, comma-separated, with their subdomains; anything else is outside; without it the home domain is learned from the principals, and where their addresses are of several, one is outside to another"),
    Setting("STRAYLINE_ALERTS_PER_DAY", _above_zero, "5", "alerts a day over the whole fleet that the analysts can read; it sets the threshold"),
    Setting("STRAYLINE_MAX_EVENT_BYTES", _whole(1024, 1 << 30), "1048576", "a longer record is rejected unread (bytes)"),
    Setting("STRAYLINE_STATE_MIB", _whole(16, 1 << 20), "512", "memory that the baselines of one partition (or one replay) may take (MiB); beyond it the least used give way"),
    Setting("STRAYLINE_FLUSH_SECONDS", _above_zero, "0.5", "the worker delivers changed baselines, and commits, this often (s); alerts and rejects are delivered at once, with what was learned till then"),
    Setting("STRAYLINE_STALL_SECONDS", _above_zero, "60", "a worker in which nothing has moved for so long though there is work ends itself, with the reason, to be started anew (s)"),
    Setting("STRAYLINE_RIVER_DETECTOR", str, "", "a detector of river.anomaly, such as HalfSpaceTrees, to run over each agent's window features as a further signal; empty: off"),
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The values in force. Build with `load`; field names are those of the table without the prefix."""

    broker: str
    security_protocol: str
    tls_ca: str
    tls_certificate: str
    tls_key: str
    sasl_mechanism: str
    sasl_username: str
    sasl_password: str = field(repr=False)
    sasl_password_file: str
    group: str
    instance: str
    session_seconds: int
    isolation: str
    http_host: str
    http_port: int
    classifications: tuple[str, ...]
    domains: tuple[str, ...]
    alerts_per_day: float
    max_event_bytes: int
    state_mib: int
    flush_seconds: float
    stall_seconds: float
    river_detector: str


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings, by default from the process's environment.

    Raises `SettingsError` for a name that starts with `STRAYLINE_` and is not in the table, and for a value out of its domain.
    """
    env = os.environ if environment is None else environment
    known = {s.name for s in SETTINGS}
    unknown = sorted(name for name in env if name.startswith(PREFIX) and name not in known)
    if unknown:
        close = get_close_matches(unknown[0], sorted(known), 1, 0.8)
        meant = f"did you mean {close[0]}? The" if close else "the"
        raise SettingsError(
            f"unknown setting {', '.join(unknown)}; {meant} settings are {', '.join(s.name for s in SETTINGS)}"
        )
    values = {}
    for s in SETTINGS:
        text = env.get(s.name, s.default)
        try:
            values[s.attribute] = s.read(text)
        except ValueError as reason:
            raise SettingsError(f"{s.name}={text!r}: {reason} ({s.help})") from None
    settings = Settings(**values)
    _check_security(settings)
    return settings


def _check_security(s: Settings) -> None:
    """What is set and would not be used is a mistake about security, and the worst kind to find out late."""
    tls, sasl = s.security_protocol.endswith("SSL"), s.security_protocol.startswith("SASL")
    here = f"STRAYLINE_SECURITY_PROTOCOL={s.security_protocol}"
    for value, name in (
        (s.tls_ca, "STRAYLINE_TLS_CA"),
        (s.tls_certificate, "STRAYLINE_TLS_CERTIFICATE"),
        (s.tls_key, "STRAYLINE_TLS_KEY"),
    ):
        if value and not tls:
            raise SettingsError(f"{name} is set, but {here} encrypts nothing: set SSL or SASL_SSL, or leave {name} out")
    for value, name in (
        (s.sasl_username, "STRAYLINE_SASL_USERNAME"),
        (s.sasl_password, "STRAYLINE_SASL_PASSWORD"),
        (s.sasl_password_file, "STRAYLINE_SASL_PASSWORD_FILE"),
    ):
        if value and not sasl:
            raise SettingsError(f"{name} is set, but {here} uses no password: set SASL_SSL, or leave {name} out")
    if bool(s.tls_certificate) != bool(s.tls_key):
        raise SettingsError("STRAYLINE_TLS_CERTIFICATE and STRAYLINE_TLS_KEY belong together: set both, or neither")
    if s.sasl_password and s.sasl_password_file:
        raise SettingsError("set either STRAYLINE_SASL_PASSWORD or STRAYLINE_SASL_PASSWORD_FILE, not both")
    if sasl and not (s.sasl_username and (s.sasl_password or s.sasl_password_file)):
        raise SettingsError(
            f"{here} needs STRAYLINE_SASL_USERNAME, and STRAYLINE_SASL_PASSWORD_FILE (or STRAYLINE_SASL_PASSWORD)"
        )
