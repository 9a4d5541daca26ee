"""How every client reaches the broker: the settings as arguments, and what is wrong with them in one sentence.

aiokafka (worker), Faust (through `stream.transport`) and kafka-python (commands) all get what `arguments` gives, so there is one
place where TLS and SASL are set. Before any of them is started, `admin` tries the servers with aiokafka's own connection:
left to find out by themselves, clients say only that they timed out, and go on trying for ever in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.errors import KafkaError as AioKafkaError
from aiokafka.protocol.metadata import MetadataRequest
from kafka.admin import KafkaAdminClient
from kafka.errors import AuthorizationError, KafkaError, RetriableError

from stream.errors import BrokerError, SettingsError
from stream.settings import Settings, host_port

_T = TypeVar("_T")
_CONNECT_SECONDS = 6.0
_ANSWER_MS = 4000
_LIBRARIES = ("aiokafka", "kafka", "faust", "mode")
_FORBIDDEN = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
_MOMENT = 1.0  # seconds that the other servers have, once one lets us in
# STRAYLINE_BROKER → its servers that let us in when they were last tried.
_open: dict[str, list[str]] = {}
_OTHER_NAME = {62, 64}  # OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


def servers(settings: Settings) -> list[str]:
    """Of several those are left out that were silent when they were last tried: clients begin with any, and wait for it as long as for an answer (4 to 40 s)."""
    return _open.get(settings.broker) or settings.broker.split(",")


def arguments(settings: Settings) -> dict[str, Any]:
    """What the clients of aiokafka and of kafka-python take alike. Raises `SettingsError` for a file that is unfit."""
    told: dict[str, Any] = {
        "bootstrap_servers": servers(settings),
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.endswith("SSL"):
        told["ssl_context"] = _context(settings)
    if settings.security_protocol.startswith("SASL"):
        told["sasl_mechanism"] = settings.sasl_mechanism
        told["sasl_plain_username"] = settings.sasl_username
        told["sasl_plain_password"] = settings.sasl_password or _password(settings.sasl_password_file)
    return told


def tool(settings: Settings, name: str) -> str:
    """The beginning of a command with one of Kafka's own tools, for a message that says what to run."""
    # A file because the tools take no user and password otherwise: deploy/kafka/README.md shows one.
    secured = "" if settings.security_protocol == "PLAINTEXT" else " --command-config client.properties"
    return f"{name} --bootstrap-server {settings.broker}{secured}"


_found = AIOKafkaClient.coordinator_lookup


async def _look_up(client: AIOKafkaClient, kind: Any, key: str) -> Any:
    """aiokafka's search for the coordinator of a group, or of transactions, which fails an assertion where no broker is known.

    One that stood still for longer than its controller waits is let in again a moment after it answers, and until then names no broker, itself
    neither. Whoever searches asks for the brokers again, and then for this.
    """
    if not client.cluster.brokers():
        raise CoordinatorNotAvailableError
    return await _found(client, kind, key)


AIOKafkaClient.coordinator_lookup = _look_up


def quiet() -> None:
    """The libraries log tens of lines a second about a broker that is away; what matters of it is said by us."""
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(logging.CRITICAL)


@contextmanager
def admin(settings: Settings) -> Iterator[KafkaAdminClient]:
    """An administration client for a few questions. Raises `BrokerError`, in a sentence, for whatever Kafka refuses."""
    quiet()
    reach(settings)
    with said(settings):
        client = KafkaAdminClient(
            **arguments(settings), bootstrap_timeout_ms=2 * _ANSWER_MS, request_timeout_ms=_ANSWER_MS
        )
        with client:
            yield client


@contextmanager
def said(settings: Settings) -> Iterator[None]:
    """Turn the errors of kafka-python and aiokafka into ours."""
    try:
        yield
    except (AuthorizationError, *_FORBIDDEN) as reason:
        raise BrokerError(
            f"Kafka at {settings.broker} does not allow this to {user(settings)} ({reason}): `strayline doctor` names the ACL "
            "that is missing, deploy/kafka/acls.sh has them all"
        ) from reason
    except (KafkaError, AioKafkaError) as reason:
        told = _out_of_reach(settings) or f"Kafka at {settings.broker} did not do what was asked: {reason}"
        raise BrokerError(told) from reason


def retrying(question: Callable[[], _T]) -> _T:
    """Ask until it is answered: the first question about groups or transactions makes the broker set up where it keeps them."""
    deadline = time.monotonic() + _CONNECT_SECONDS
    while True:
        try:
            return question()
        except RetriableError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def user(settings: Settings) -> str:
    """Who the broker takes us for, as its ACLs have it."""
    if settings.security_protocol.startswith("SASL"):
        return f"User:{settings.sasl_username}"
    # Which part of a certificate's subject is the name is for the broker's own rules to say.
    return "User:(the certificate's name)" if settings.tls_certificate else "User:ANONYMOUS"


def reach(settings: Settings) -> None:
    """Wait a moment until one of the servers lets us in: a broker may be starting beside us. Raises `BrokerError`."""
    quiet()
    told = arguments(settings)
    del told["bootstrap_servers"]
    servers = settings.broker.split(",")
    deadline = time.monotonic() + _CONNECT_SECONDS
    while True:
        against = asyncio.run(_try(servers, told))
        _open[settings.broker] = [server for server in servers if server not in against]
        if _open[settings.broker]:
            return
        for server, error in against.items():
            reason = error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error
            sentence = _refusal(settings, server, reason)
            if sentence is not None:  # waiting mends none of these
                raise BrokerError(sentence) from error
        if time.monotonic() > deadline:
            if isinstance(reason, AioKafkaError | EOFError | ConnectionResetError):
                raise BrokerError(
                    f"{servers[-1]} takes connections and ends them: perhaps it speaks otherwise than "
                    f"STRAYLINE_SECURITY_PROTOCOL={settings.security_protocol}, or on another port ({type(reason).__name__})"
                ) from reason
            if isinstance(reason, TimeoutError) and _listens(servers[-1]):
                raise BrokerError(
                    f"{servers[-1]} takes connections and does not answer: a broker that stands still, is overloaded or is starting (see its log, and whether its disk "
                    "is full), or no Kafka: then set STRAYLINE_BROKER to where yours is"
                ) from reason
            raise BrokerError(
                f"no Kafka at {settings.broker} ({_plainly(reason)}): start one with {starting(settings.broker)}, "
                "or set STRAYLINE_BROKER to where yours is"
            ) from reason
        time.sleep(0.2)


async def _try(servers: Sequence[str], told: dict[str, Any]) -> dict[str, BaseException]:
    """What servers have against us, each that does not let us in. Once one does, those are not waited for that keep silent."""
    tries = {server: asyncio.ensure_future(_greet(*host_port(server), told)) for server in servers}
    waiting = set(tries.values())
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if any(one.exception() is None for one in done):
            _, waiting = await asyncio.wait(waiting, timeout=_MOMENT) if waiting else (done, waiting)
            break
    for one in waiting:
        one.cancel()
    ended = await asyncio.gather(*tries.values(), return_exceptions=True)
    return {server: error for server, error in zip(tries, ended, strict=True) if isinstance(error, BaseException)}


async def _greet(host: str, port: int, told: dict[str, Any]) -> list[tuple[str, int]]:
    """Connect, exchange certificates, ask for the versions, prove the password, and put one question that needs it: where the brokers are, as they say themselves."""
    connection = AIOKafkaConnection(host, port, request_timeout_ms=_ANSWER_MS, **told)
    try:
        await connection.connect()
        answer = await connection.send(MetadataRequest([]))
        return [(str(broker[1]), int(broker[2])) for broker in answer.brokers]
    finally:
        # Closed for good before the loop ends; where there never was a connection, nothing will say so.
        await asyncio.wait([connection.close()], timeout=0.1)


def _out_of_reach(settings: Settings) -> str | None:
    """Of a server that lets us in, which broker it names that cannot be reached from here: every question goes there, and clients say only that none was answered."""
    told = arguments(settings)
    for server in told.pop("bootstrap_servers"):
        with suppress(AioKafkaError, OSError):
            for host, port in asyncio.run(_greet(*host_port(server), told)):
                try:
                    asyncio.run(_greet(host, port, told))
                except (AioKafkaError, OSError, EOFError) as error:
                    return (
                        f"{server} lets us in and says that a broker is at {host}:{port}, which cannot be reached from here ({_plainly(error)}): if that broker "
                        "is up, set its advertised.listeners to an address that its clients can reach, with a listener for each network that they are in"
                    )
    return None


def _listens(server: str) -> bool:
    """Whether anything takes connections there; a process that is stopped does."""
    with suppress(OSError), socket.create_connection(host_port(server), 2.0):
        return True
    return False


def _refusal(settings: Settings, server: str, reason: BaseException) -> str | None:
    """What a server that answers has against us, with what to change; None if it may only be starting."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        if reason.verify_code in _OTHER_NAME:
            return f"the certificate of {server} is for another name ({reason.verify_message}): set STRAYLINE_BROKER to a name that is in it"
        return (
            f"the certificate of {server} is not trusted ({reason.verify_message}): set STRAYLINE_TLS_CA to the PEM file of the "
            "authority that signed it"
        )
    if isinstance(reason, ssl.SSLError):
        if "ALERT" in (reason.reason or "") or "CERTIFICATE" in (reason.reason or ""):
            return (
                f"{server} does not accept us ({reason.reason}): set STRAYLINE_TLS_CERTIFICATE and STRAYLINE_TLS_KEY to a certificate "
                "signed by an authority that it trusts"
            )
        return f"{server} does not speak TLS ({reason.reason}): set STRAYLINE_BROKER to its TLS port, or change STRAYLINE_SECURITY_PROTOCOL"
    if isinstance(reason, SaslAuthenticationFailed):
        return (
            f"{server} does not accept the user {settings.sasl_username} with this password by {settings.sasl_mechanism}: check "
            "STRAYLINE_SASL_USERNAME, STRAYLINE_SASL_PASSWORD_FILE (or STRAYLINE_SASL_PASSWORD) and STRAYLINE_SASL_MECHANISM"
        )
    if isinstance(reason, UnsupportedSaslMechanismError):
        return (
            f"{server} does not take {settings.sasl_mechanism}: set STRAYLINE_SASL_MECHANISM to one that it has enabled"
        )
    if (
        isinstance(reason, AioKafkaError)
        and not isinstance(reason, OSError)
        and not getattr(reason, "retriable", False)
    ):
        return (
            f"{server} does not let us in by {settings.security_protocol} ({reason}): check STRAYLINE_SECURITY_PROTOCOL"
        )
    return None


def _plainly(reason: BaseException) -> str:
    """asyncio says of a refused connection that a call failed."""
    if isinstance(reason, TimeoutError):
        return "no answer"
    known = isinstance(reason, OSError) and reason.errno and not isinstance(reason, socket.gaierror)
    return os.strerror(reason.errno) if known else str(reason)  # type: ignore[attr-defined]


def starting(broker: str) -> str:
    """The command that starts a broker there. Compose publishes its own on 9092 only."""
    host, _, port = broker.rpartition(":")
    if host in {"localhost", "127.0.0.1"} and port.isdecimal() and port != "9092":
        return f"`make kafka PORT={port}`"
    return "`make kafka` or `docker compose up -d kafka`"


def _context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca or None)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            f"STRAYLINE_TLS_CA={settings.tls_ca} cannot be used ({error}): needs a PEM file of certificates"
        ) from None
    if settings.tls_certificate:
        try:
            # Without a passphrase OpenSSL would ask for one on the terminal.
            context.load_cert_chain(settings.tls_certificate, settings.tls_key, password="")
        except OSError as error:
            raise SettingsError(
                f"STRAYLINE_TLS_CERTIFICATE={settings.tls_certificate} and STRAYLINE_TLS_KEY={settings.tls_key} cannot be used "
                f"({error}): need PEM files, the key without a passphrase and the one that belongs to the certificate"
            ) from None
    return context


def _password(path: str) -> str:
    try:
        password = Path(path).read_text().partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"STRAYLINE_SASL_PASSWORD_FILE={path} cannot be read ({error}): needs a file of text"
        ) from None
    if not password:
        raise SettingsError(
            f"STRAYLINE_SASL_PASSWORD_FILE={path} begins with an empty line: its first line is the password"
        )
    return password
