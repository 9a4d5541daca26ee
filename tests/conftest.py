"""Fixtures that several test files share."""

from __future__ import annotations

import io
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kafka import Broker, missing
from stream.__main__ import main
from stream.alert import Alert, decode_alert
from stream.codec import encode_lines
from stream.engine import Scored, warm_up
from stream.settings import PREFIX, load
from stream.simulate import Simulation, lines, simulate
from tests.replaying import Records, Results, Said, into, results
from tests.site import Site
from tests.telling import scored


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Before `-n` starts its processes: compile once, not in each of them."""
    if getattr(session.config.option, "numprocesses", None):
        warm_up(load({}))


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: half of the tests with a broker wait for it. Further ones would only wait for a core."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First those that wait for a broker of their own to end and come back: as the last ones, nothing would run beside them."""
    items.sort(key=lambda item: "mortal" not in getattr(item, "fixturenames", ()))


def _running() -> Iterator[Broker]:
    """A real Kafka, started at its first use; skips, with the reason, where it cannot run."""
    lack = missing()
    if lack is not None:
        pytest.skip(lack)
    with Broker(lasting=False) as running:
        yield running


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """Shared by the session; each process of `-n` has one of its own."""
    yield from _running()


@pytest.fixture(scope="module")
def own_broker() -> Iterator[Broker]:
    """For tests that remove the product's own topics."""
    yield from _running()


@pytest.fixture
def site(broker: Broker, tmp_path: Path, unique: Callable[[str], str]) -> Site:
    """The product's topics on the shared broker, with one partition."""
    return Site(broker, tmp_path, unique("group"))


@pytest.fixture
def site_of_two(broker: Broker, tmp_path: Path, unique: Callable[[str], str]) -> Site:
    return Site(broker, tmp_path, unique("group"), partitions=2)


@pytest.fixture(scope="module")
def compiled() -> None:
    """The models, once, and kept on disk for the workers."""
    warm_up(load({}))


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Names for topics and consumer groups that no other test uses: the broker is shared and keeps everything."""
    suffix = uuid.uuid4().hex[:8]
    return lambda what: f"{what}.{request.node.originalname}.{suffix}"


@pytest.fixture(scope="session")
def fleet() -> Simulation:
    """Two weeks of two dozen agents, with everything in them that is planted."""
    return simulate(2, 24, 14)


@pytest.fixture(scope="session")
def said(fleet: Simulation) -> Scored:
    return scored([line.rstrip(b"\n") for line in lines(fleet)])


@pytest.fixture(scope="session")
def alerts(said: Scored) -> list[Alert]:
    """As a consumer gets them: from their JSON."""
    return [decode_alert(line) for line in encode_lines(said.alerts).splitlines()]


@pytest.fixture(scope="session")
def by_id(fleet: Simulation) -> dict[str, dict[str, Any]]:
    return {str(event["event_id"]): event for event in fleet.events}


@pytest.fixture(scope="session")
def events() -> Records:
    """Five days of a small fleet: enough for alerts."""
    return Records(line.rstrip(b"\n") for line in lines(simulate(agents=12, days=5)))


@pytest.fixture(scope="session")
def records(events: Records) -> Records:
    """The same with records in between that cannot be used, and some that came twice."""
    out = Records()
    for i, event in enumerate(events):
        out.append(event)
        if i % 211 == 0:
            out += [b"", b"{not json", b'{"event_id": "x"}', b"\xff\xfe"]
        if i % 307 == 0:
            out += [event] * 2
    return out


@pytest.fixture
def strayline(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Said]:
    """The command in this process: starting another takes seconds."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)

    def run(*args: object, stdin: bytes | str = b"") -> Said:
        monkeypatch.setattr(sys, "argv", ["strayline", *map(str, args)])
        given = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        status = 0
        try:
            main()
        except SystemExit as done:
            status = int(done.code or 0)
        out, err = capsysbinary.readouterr()
        return Said(status, out, err.decode())

    return run


@pytest.fixture
def replayed(strayline: Callable[..., Said], tmp_path: Path) -> Callable[..., Results]:
    """A replay that reads everything: the bytes of its three results."""

    def run(*files: object, stdin: bytes = b"") -> Results:
        said = strayline("replay", *files, *into(tmp_path), stdin=stdin)
        assert said.status == 0, said.err
        return results(tmp_path)

    return run
