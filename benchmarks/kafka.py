"""A real single-node Apache Kafka without Docker: for the tests, the benchmarks and `make kafka`.

The jars come from Maven Central once, into `.cache/` (54 MB); after that a broker is up in about five seconds.
It is the same program that a cluster runs, in KRaft mode with broker and controller in one process, so nothing that
passes here has only been seen on an imitation.

    with Broker() as broker:
        print(broker.bootstrap)

`python -m benchmarks.kafka [--port 9092] [--data DIR]` runs one until Ctrl-C, SIGINT or SIGTERM; so does `make kafka [PORT=9092]`.
"""

from __future__ import annotations

import argparse
import atexit
import fcntl
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Self

from stream.errors import BrokerError

VERSION = "4.1.0"
ROOT = Path(__file__).resolve().parent.parent
POM = ROOT / "deploy" / "kafka" / "pom.xml"
LIBS = ROOT / ".cache" / f"kafka-libs-{VERSION}"
DEFAULT_PORT = 9092  # of STRAYLINE_BROKER too
START_SECONDS = 90.0  # five on a quiet machine
STOP_SECONDS = 30.0

_INSTALL = "install them, e.g. `apt-get install openjdk-17-jre-headless maven`"
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={listeners}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
controller.listener.names=CONTROLLER
log.dirs={logs}
# A topic that nobody declared is a mistake to see, not to paper over.
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
# One node, and a start that does not create a hundred partitions.
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# A broker that was killed may not come back before its old session ends; the default is 9 s.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# The default of 128 MiB is a quarter of the heap given below.
log.cleaner.dedupe.buffer.size=33554432
"""


def missing() -> str | None:
    """What this machine lacks to run a broker, as a sentence that says how to get it; None when nothing."""
    java = shutil.which("java")
    if java is None:
        return f"Kafka needs Java 17 or later and Maven, and there is no Java: {_INSTALL}"
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', told)
    if version is None or int(version[1]) < 17:
        found = version[1] if version else told.strip() or "unknown"
        return f"Kafka needs Java 17 or later, and `java` is version {found}: {_INSTALL}"
    if not LIBS.is_dir() and shutil.which("mvn") is None:
        return f"Kafka's jars are fetched with Maven, and there is no `mvn`: {_INSTALL}"
    return None


def jars() -> Path:
    """The folder of Kafka's jars; fetches them first if they are not there yet."""
    if LIBS.is_dir():
        return LIBS
    LIBS.parent.mkdir(parents=True, exist_ok=True)
    with LIBS.with_name(f"{LIBS.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two sessions may start at once; the second finds them there
        if LIBS.is_dir():
            return LIBS
        with tempfile.TemporaryDirectory(dir=LIBS.parent, prefix="kafka-libs-") as folder:
            fetched = Path(folder) / "libs"
            command = [
                "mvn",
                "-B",
                "-q",
                "-f",
                str(POM),
                "dependency:copy-dependencies",
                f"-DoutputDirectory={fetched}",
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
            if done.returncode or not any(fetched.glob("kafka_*.jar")):
                tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
                raise BrokerError(f"Maven could not fetch Kafka's jars; check its access to Maven Central:\n{tail}")
            fetched.rename(LIBS)
    return LIBS


class Broker:
    """One broker. `stop` and `kill` keep its data and its port, and `start` takes both up again."""

    def __init__(
        self,
        port: int | None = None,
        data: Path | None = None,
        *,
        listeners: Mapping[str, int] | None = None,
        properties: Mapping[str, str] | None = None,
        scram: Sequence[tuple[int, str, str]] = (),
        lasting: bool = True,
        beside: Broker | None = None,
    ) -> None:
        """Beside the plain listener there may be others (protocol → port), more settings of Kafka's, and SCRAM users
        (256 or 512, name, password), which exist from the first start on. One that is not `lasting` compiles less of itself: half the
        work until it is up, and slower later. One that is `beside` another is a broker more of its cluster."""
        self.port = port or free_port()
        self._listeners = {"PLAINTEXT": self.port, **(listeners or {})}
        self._properties = dict(properties or {})
        self.cluster: str = beside.cluster if beside else urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self._scram = scram
        self._compiler = [] if lasting else ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        self.data = data or Path(tempfile.mkdtemp(prefix="strayline-kafka-"))
        self._temporary = data is None
        self.controller: int = beside.controller if beside else free_port()
        self._brokers = 2 if beside else 1  # that it must know of, itself among them
        if beside is not None:
            told = {"process.roles": "broker", "listeners": f"PLAINTEXT://127.0.0.1:{self.port}"}
            self._properties = told | {"node.id": str(self.port)} | self._properties
        self._process: subprocess.Popen[bytes] | None = None
        self._leash: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of its process, while it runs."""
        if self._process is None:
            raise BrokerError("it does not run")
        return self._process.pid

    @property
    def log(self) -> Path:
        return self.data / "broker.log"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise  # its data stays: the error names the log in it
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._temporary:
            shutil.rmtree(self.data, ignore_errors=True)

    def start(self) -> None:
        """Start it, and return once it answers a client. Raises `BrokerError`, with the path of its log."""
        if self._process is not None:
            raise BrokerError(f"this broker already runs on {self.bootstrap}")
        lack = missing()
        if lack is not None:
            raise BrokerError(lack)
        if _answers(self.port, timeout=0.5):
            raise BrokerError(
                f"a Kafka already answers on {self.bootstrap}: stop it, or choose another port, e.g. `make kafka PORT={self.port + 1}`"
            )
        libs = jars()
        self.data.mkdir(parents=True, exist_ok=True)
        logs = (self.data / "logs").resolve()
        properties = self.data / "server.properties"
        told = ",".join(f"{protocol}://127.0.0.1:{port}" for protocol, port in self._listeners.items())
        more = "".join(f"{name}={value}\n" for name, value in self._properties.items())
        properties.write_text(_PROPERTIES.format(listeners=told, controller=self.controller, logs=logs) + more)
        java = [
            "java",
            "-Xms128m",
            "-Xmx512m",
            *self._compiler,
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-cp",
            f"{libs}/*",
        ]
        with self.log.open("ab") as log:
            if not (logs / "meta.properties").exists():
                # Its own id could begin with a dash, which the tool would read as an option.
                command = [
                    *java,
                    "kafka.tools.StorageTool",
                    "format",
                    f"--cluster-id={self.cluster}",
                    "-c",
                    str(properties),
                    *(
                        f"--add-scram=SCRAM-SHA-{bits}=[name={name},password={word}]"
                        for bits, name, word in self._scram
                    ),
                ]
                if subprocess.run(command, stdout=log, stderr=log, check=False).returncode:
                    raise self._failed("could not format its folder")
            # Its own session, or a Ctrl-C in the terminal would take it down before its clients.
            self._process = subprocess.Popen(
                [*java, "kafka.Kafka", str(properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # A test session that is itself killed must not leave half a gigabyte of Java behind: this shell's input ends
        # when we do, however we do.
        ending = ["sh", "-c", f"read _; kill -9 {self._process.pid}"]
        self._leash = subprocess.Popen(ending, stdin=subprocess.PIPE, start_new_session=True)
        atexit.register(self.kill)
        deadline = time.monotonic() + START_SECONDS
        while not _answers(self.port, timeout=2.0, brokers=self._brokers):
            if self._process.poll() is not None:
                raise self._failed(f"ended with status {self._process.returncode}")
            if time.monotonic() > deadline:
                raise self._failed(f"did not answer within {START_SECONDS:.0f} s")
            time.sleep(0.05)

    def stop(self) -> None:
        """Shut it down in order; killed if that takes too long."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """SIGKILL: what a power cut looks like to its clients. Does nothing when it does not run."""
        for process in (self._leash, self._process):
            if process is not None:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()
        self._leash = self._process = None
        atexit.unregister(self.kill)

    def wait(self) -> int:
        """Block until it ends by itself; its exit status."""
        return self._process.wait() if self._process is not None else 0

    def _failed(self, what: str) -> BrokerError:
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])
        return BrokerError(f"Kafka on {self.bootstrap} {what}; its log is {self.log}, which ends:\n{tail}")


def free_port() -> int:
    """A port on which a broker can listen."""
    # Below the range from which the system takes the ports of outgoing connections: a client that keeps trying a
    # dead broker's port inside that range can be handed the very port, connect to itself, and keep the broker out.
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def _answers(port: int, timeout: float, brokers: int = 1) -> bool:
    """Whether a metadata request is answered with at least so many live brokers.

    Asked on the wire, because a client library brings its own retries and threads, and an accepted connection alone
    says nothing: the listener is open seconds before the broker has caught up with its controller.
    """
    request = struct.pack(">hhih5si", 3, 1, 7, 5, b"probe", 0)  # Metadata, version 1, correlation 7, no topics
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as s:
            s.sendall(struct.pack(">i", len(request)) + request)
            answer = s.makefile("rb").read(12)  # length, correlation, number of brokers
    except OSError:
        return False
    return len(answer) == 12 and struct.unpack(">iii", answer)[1] == 7 and struct.unpack(">iii", answer)[2] >= brokers


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kafka", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="where it listens on this machine (default %(default)s)"
    )
    parser.add_argument("--data", type=Path, help="folder to keep its data in; by default it is temporary")
    options = parser.parse_args()

    def interrupt(*_: int | FrameType | None) -> None:
        raise KeyboardInterrupt

    # Also Ctrl-C's, which a shell without job control has ignored in what it starts with `&`: `kill -INT` is meant.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)
    try:
        print("starting Kafka", VERSION, file=sys.stderr)
        with Broker(options.port, options.data) as broker:
            print(
                f"log in {broker.log}; Ctrl-C stops it, or `kill {os.getpid()}` once it is in the background",
                file=sys.stderr,
            )
            if broker.port != DEFAULT_PORT:
                print(f"for strayline: export STRAYLINE_BROKER={broker.bootstrap}", file=sys.stderr)
            # Last: whoever reads it may end this process at once, and all else has been said.
            print(broker.bootstrap, flush=True)
            return broker.wait()
    except BrokerError as reason:
        print(reason, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
