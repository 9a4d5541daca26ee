"""What a deployment needs, asked one thing after the other; each answer comes with what to do next."""

from __future__ import annotations

import os
import platform
import stat
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal, NamedTuple

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient, OffsetSpec
from kafka.errors import KafkaError
from numba.core import config
from packaging.requirements import Requirement

import models.compiled  # noqa: F401  # it says where numba keeps what it compiles
from stream import acls
from stream.client import admin, arguments, user
from stream.errors import SettingsError, StraylineError
from stream.lag import group, lags, since_delivery
from stream.settings import Settings
from stream.topics import EVENTS, differences, keeps_workers_out
from stream.transport import check_faust
from stream.words import counted, lasting

OLDEST_KAFKA = (3, 9)
_QUIET_SECONDS = 20.0  # between two deliveries, of a worker that scores
_CACHED_FILE = 1 << 20  # bytes of a large one
_CLOCK_SECONDS = 5.0  # more is told: /metrics compares records' times with this clock


class Answer(NamedTuple):
    """One line; `said` includes what to do unless all is well."""

    state: Literal["ok", "warn", "fail"]
    what: str
    said: str


def examine(settings: Settings, role: str) -> Iterator[Answer]:
    """Every answer as it comes. What needs the broker is asked only if it lets us in."""
    yield from _settings(settings)
    yield from _packages()
    yield from _cache()
    try:
        with admin(settings) as client:
            yield Answer("ok", "broker", f"{settings.broker} lets {user(settings)} in by {settings.security_protocol}")
            yield _kafka(client)
            yield from _authorisation(settings, client, role)
            if role in {"worker", "admin"}:
                yield from _topics(settings, role)
                yield from _workers(settings, role)
            yield _clock(client, role)
    except StraylineError as error:
        yield Answer("fail", "broker", str(error))


def _settings(settings: Settings) -> Iterator[Answer]:
    """Summed up, without the password; files that others may read are told."""
    words = [settings.broker, settings.security_protocol]
    if settings.security_protocol.endswith("SSL"):
        words.append(f"authorities {settings.tls_ca or 'of this machine'}")
    if settings.tls_certificate:
        words.append(f"certificate {settings.tls_certificate}")
    if settings.security_protocol.startswith("SASL"):
        source = settings.sasl_password_file or "STRAYLINE_SASL_PASSWORD"
        words.append(f"{settings.sasl_mechanism} as {settings.sasl_username}, password from {source}")
    yield Answer("ok", "settings", ", ".join([*words, f"group {settings.group}"]))
    try:
        arguments(settings)
    except SettingsError as error:
        yield Answer("fail", "settings", str(error))
    if settings.security_protocol == "SASL_PLAINTEXT":
        sent = "the password and every event" if settings.sasl_mechanism == "PLAIN" else "every event"
        yield Answer("warn", "settings", f"{sent} can be read on the way: set STRAYLINE_SECURITY_PROTOCOL=SASL_SSL")
    for name, path in (
        ("STRAYLINE_TLS_KEY", settings.tls_key),
        ("STRAYLINE_SASL_PASSWORD_FILE", settings.sasl_password_file),
    ):
        if path and Path(path).exists() and Path(path).stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
            yield Answer("warn", "settings", f"anybody on this machine can read {name}={path}: run `chmod o= {path}`")


def _packages() -> Iterator[Answer]:
    """The versions that were declared, and those that the transport was proved on."""
    wrong = []
    for line in requires("strayline") or ():
        wanted = Requirement(line)
        if wanted.marker is not None:  # for development
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            found = "missing"
        if found == "missing" or not wanted.specifier.contains(found, prereleases=True):
            wrong.append(f"{wanted.name} is {found} and should be {wanted.specifier}")
    try:
        check_faust()
    except StraylineError as error:
        yield Answer("fail", "packages", str(error))
    else:
        if wrong:
            mend = "install the versions in constraints.txt (`make setup`)"
            yield Answer("warn", "packages", f"{'; '.join(wrong)}: {mend}")
        else:
            said = f"strayline {version('strayline')}, Python {platform.python_version()}, faust-streaming {version('faust-streaming')}"
            yield Answer("ok", "packages", f"{said}, aiokafka {version('aiokafka')}")


def _cache() -> Iterator[Answer]:
    """Where it cannot be written, each start compiles for more than a minute."""
    lost = unkept()
    if lost is not None:
        yield Answer("warn", "models", lost)
    else:
        yield Answer("ok", "models", f"compiled models are kept in {config.CACHE_DIR}")


def unkept() -> str | None:
    """Why compiled models cannot be kept, and what to do; None where they can. Written to is the folder, for on a full disk there is room for a name."""
    folder = Path(config.CACHE_DIR)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_CACHED_FILE))
    except OSError as error:
        mend = f"free space there, or set XDG_CACHE_HOME to a folder that {os.environ.get('USER') or 'this user'} may write"
        return f"compiled models cannot be kept in {folder} ({error.strerror or error}), so each start may take a minute: {mend}"
    return None


def _kafka(client: KafkaAdminClient) -> Answer:
    # As the versions of its requests tell; a newer broker than kafka-python knows looks like the newest it does.
    found = tuple(client.get_broker_version_data(client.describe_cluster()["brokers"][0]["broker_id"]).broker_version)
    told = ".".join(map(str, found))
    if found < OLDEST_KAFKA:
        return Answer(
            "warn",
            "kafka",
            f"version {told}; {'.'.join(map(str, OLDEST_KAFKA))} or later was tried: upgrade the brokers",
        )
    brokers = len(client.describe_cluster()["brokers"])
    return Answer("ok", "kafka", f"version {told}, {counted(brokers, 'broker')}")


def _authorisation(settings: Settings, client: KafkaAdminClient, role: str) -> Iterator[Answer]:
    missing = list(acls.lacking(settings, client, role))
    for need in missing:
        mend = f"run `{acls.command(settings, need)}`, or all of deploy/kafka/acls.sh {role}"
        yield Answer("fail", "access", f"{user(settings)} lacks {need}: {mend}")
    if not missing:
        yield Answer("ok", "access", f"{user(settings)} may do all that the role {role} needs")


def _topics(settings: Settings, role: str) -> Iterator[Answer]:
    try:
        lines = differences(settings)
    except StraylineError as error:
        yield Answer("fail", "topics", str(error))
        return
    for line in lines:
        yield Answer("fail" if keeps_workers_out(line) and role == "worker" else "warn", "topics", line)
    if not lines:
        yield Answer("ok", "topics", "all there, and as they should be")


def _workers(settings: Settings, role: str) -> Iterator[Answer]:
    """Who is about to start a worker is not kept from it; of a deployment it is a failure that events wait and nobody scores them."""
    try:
        found = group(settings)
        waiting = sum(lag.behind for lag in lags(settings))
        quiet = since_delivery(settings) if waiting else None
    except (StraylineError, KafkaError):  # what is lacking for that is said by the answers before: topics, rights
        return
    behind = f", which is {counted(waiting, 'event')} behind" if waiting else ""
    if found.lacks is None:
        stands = quiet is not None and quiet > _QUIET_SECONDS
        what = (
            f"{found}. Nothing was delivered for {lasting(quiet or 0)}: see the worker's log and its /readyz"
            if stands
            else str(found)
        )
        yield Answer("warn" if stands else "ok", "workers", f"group {settings.group}{behind}: {what}")
        return
    yield Answer(
        "fail" if waiting and role == "admin" else "warn", "workers", f"group {settings.group}{behind}: {found.lacks}"
    )


def _clock(client: KafkaAdminClient, role: str) -> Answer:
    """The controller tells its clock when asked about its quorum; who may not ask that sees the newest record's time."""
    before = time.time()
    try:
        (topic,) = client.describe_metadata_quorum()["topics"]
        (partition,) = topic["partitions"]
        stamps = [
            v["last_fetch_timestamp"] for v in partition["current_voters"] if v["replica_id"] == partition["leader_id"]
        ]
    except KafkaError:
        return _clock_of_records(client, role)
    if not stamps or stamps[0] <= 0:
        return _clock_of_records(client, role)
    ahead = stamps[0] / 1000.0 - (before + time.time()) / 2
    if abs(ahead) > _CLOCK_SECONDS:
        said = f"the broker's clock is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} this one"
        return Answer("warn", "clock", f"{said}: synchronise both (NTP)")
    return Answer("ok", "clock", f"within {_CLOCK_SECONDS:.0f} s of the broker's")


def _clock_of_records(client: KafkaAdminClient, role: str) -> Answer:
    unknown = Answer("ok", "clock", "not compared: only `strayline doctor --role admin` may ask the broker for its own")
    if role != "worker":
        return unknown
    try:
        (topic,) = client.describe_topics([EVENTS])
        partitions = [TopicPartition(EVENTS, p["partition_index"]) for p in topic["partitions"]]
        newest = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.MAX_TIMESTAMP))
    except KafkaError:
        return unknown
    ahead = max((told.timestamp for told in newest.values()), default=0) / 1000.0 - time.time()
    if ahead > _CLOCK_SECONDS:
        return Answer(
            "warn",
            "clock",
            f"the newest record of {EVENTS} is from {ahead:,.0f} s in the future: synchronise this clock and its producer's (NTP)",
        )
    return Answer("ok", "clock", f"no record of {EVENTS} is from the future")
