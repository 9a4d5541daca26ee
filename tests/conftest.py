"""Fixtures that several test files share."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from benchmarks.kafka import Broker, missing


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A real Kafka, started at its first use and shared by the session; skips, with the reason, where it cannot run."""
    lack = missing()
    if lack is not None:
        pytest.skip(lack)
    with Broker() as running:
        yield running


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Names for topics and consumer groups that no other test uses: the broker is shared and keeps everything."""
    suffix = uuid.uuid4().hex[:8]
    return lambda what: f"{what}.{request.node.originalname}.{suffix}"
