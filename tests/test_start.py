"""A worker that cannot start says why, and what to do; one that can holds its port from the start."""

from __future__ import annotations

import json
import re
import socket

import pytest

from stream.settings import load
from stream.topics import EVENTS
from stream.web import listen
from tests.site import (
    free_port,
    remove_topics,
    strayline,
)

pytestmark = pytest.mark.usefixtures("compiled")


def test_without_a_broker_it_says_where_it_looked_and_how_to_start_one():
    """And ends, soon, for its supervisor to try again."""
    address = f"127.0.0.1:{free_port()}"
    told = strayline("worker", STRAYLINE_BROKER=address)
    assert told.returncode == 1
    assert re.search(rf"no Kafka at {address} .*`make kafka PORT={address.rpartition(':')[2]}`", told.stderr)
    assert "Traceback" not in told.stderr


@pytest.mark.kafka
def test_without_topics_it_says_how_to_make_them(broker):
    """It makes none itself: how many partitions is for whoever runs it to say."""
    remove_topics(broker.bootstrap)
    told = strayline("worker", STRAYLINE_BROKER=broker.bootstrap)
    assert told.returncode == 1
    assert EVENTS in told.stderr
    assert "`strayline topics --partitions N`" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("localhost", "localhost")])
def test_a_port_that_is_taken_is_named_before_anything_else(host, shown):
    """Two workers on one machine need two: the second must not take partitions from the first."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        port = str(taken.getsockname()[1])
        told = strayline(
            "worker",
            STRAYLINE_BROKER=f"127.0.0.1:{free_port()}",
            STRAYLINE_HTTP_HOST=host,
            STRAYLINE_HTTP_PORT=port,
        )
    assert told.returncode == 1
    said = json.loads(told.stderr.splitlines()[-1])
    assert said["event"] == f"cannot serve on {shown}:{port}; set STRAYLINE_HTTP_PORT to a free port"
    assert "Traceback" not in told.stderr


def test_an_address_that_is_not_this_machine_s_is_named():
    """Another port would not help."""
    told = strayline("worker", STRAYLINE_HTTP_HOST="192.0.2.1")
    assert told.returncode == 1
    said = json.loads(told.stderr.splitlines()[-1])
    assert said["event"] == "cannot serve on 192.0.2.1:9464; set STRAYLINE_HTTP_HOST to an address of this machine"


def test_the_port_is_held_from_the_start():
    """Nobody can take it while the models compile and the broker is asked."""
    port = free_port()
    with listen(load({"STRAYLINE_HTTP_PORT": str(port)})), pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", port))


@pytest.mark.kafka
def test_it_serves_on_ipv6_too(site):
    """And on the command line its address is written as in a URL."""
    with site.worker(host="::1", injected="pass") as worker:  # from nothing, not forked
        worker.until_ready()
        told = strayline("explain", "nobody", "--worker", worker.address)
        assert f"the worker at {worker.address} has no baseline of agent 'nobody'" in told.stderr
        assert worker.stop() == 0
