"""A broker as a company runs one: TLS, SCRAM users, client certificates, and ACLs that deny what nobody allowed.

The ACLs are those of `deploy/kafka/acls.sh`, applied by running it with Kafka's own tool.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from benchmarks.kafka import Broker, free_port, jars, missing
from tests.forked import ran

ROOT = Path(__file__).resolve().parent.parent
ACLS = ROOT / "deploy" / "kafka" / "acls.sh"
PASSWORD = "northwind-{}"  # noqa: S105  # of a user that lives as long as the test
USERS = ("gateway", "worker", "analyst", "admin", "nobody")


def lacking() -> str | None:
    """What this machine lacks, as a sentence; None when nothing."""
    return missing() or (None if shutil.which("openssl") else "certificates need openssl: install it")


def _openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def authority(folder: Path, name: str) -> None:
    """A CA of our own: NAME.pem and NAME.key."""
    _openssl(folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip


def certificate(folder: Path, ca: str, name: str) -> None:
    """NAME.crt and NAME.key, signed by the CA, good for 127.0.0.1; NAME.pem is both."""
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    _openssl(folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
             "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
    _openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial",
             "-days", "2", "-extfile", "names", "-out", f"{name}.crt")  # fmt: skip
    (folder / f"{name}.pem").write_text((folder / f"{name}.key").read_text() + (folder / f"{name}.crt").read_text())


class Secured(Broker):
    """The plain listener stays for whoever started it, who may do anything; everybody else comes by the other two."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("ca", "stranger"):
            authority(folder, name)
        for name in ("broker", "worker-mtls"):
            certificate(folder, "ca", name)
        self.sasl, self.mtls = free_port(), free_port()
        super().__init__(
            lasting=False,
            listeners={"SASL_SSL": self.sasl, "SSL": self.mtls},
            properties={
                "sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN",
                "listener.name.sasl_ssl.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule "
                f'required user_gateway="{PASSWORD.format("gateway")}";',
                "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
                "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
                "listener.name.ssl.ssl.client.auth": "required",
                # As a certificate's owner is called in the ACLs: its common name alone.
                "listener.name.ssl.ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/,DEFAULT",
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": str(folder / "broker.pem"),
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": str(folder / "ca.pem"),
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
                "allow.everyone.if.no.acl.found": "false",
            },
            scram=[(mechanism, user, PASSWORD.format(user)) for user in USERS for mechanism in (512, 256)],
        )

    def settings(self, user: str, **changed: str) -> dict[str, str]:
        """The environment of a client that is this user."""
        return {
            "STRAYLINE_BROKER": f"127.0.0.1:{self.sasl}",
            "STRAYLINE_SECURITY_PROTOCOL": "SASL_SSL",
            "STRAYLINE_TLS_CA": str(self.folder / "ca.pem"),
            "STRAYLINE_SASL_USERNAME": user,
            "STRAYLINE_SASL_PASSWORD": PASSWORD.format(user),
            **changed,
        }

    def certified(self) -> dict[str, str]:
        """The environment of the worker that shows a certificate instead."""
        return {
            "STRAYLINE_BROKER": f"127.0.0.1:{self.mtls}",
            "STRAYLINE_SECURITY_PROTOCOL": "SSL",
            "STRAYLINE_TLS_CA": str(self.folder / "ca.pem"),
            "STRAYLINE_TLS_CERTIFICATE": str(self.folder / "worker-mtls.crt"),
            "STRAYLINE_TLS_KEY": str(self.folder / "worker-mtls.key"),
        }

    def acls(self, *roles: str) -> None:
        """Apply the script in deploy/ to these `ROLE=USER`, with Kafka's own tool."""
        tool = self.folder / "kafka-acls"
        tool.write_text(
            f'#!/bin/sh\nexec java -Xmx128m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "{jars()}/*" org.apache.kafka.tools.AclCommand "$@"\n'
        )
        tool.chmod(0o755)
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        for role in roles:
            name, _, user = role.partition("=")
            subprocess.run(["sh", str(ACLS), name, f"User:{user}"], check=True, capture_output=True,
                           env={"PATH": path, "STRAYLINE_BROKER": self.bootstrap})  # fmt: skip


def strayline(environment: Mapping[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    """A command, with these settings and no others."""
    return ran(args, environment, 120)


def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
