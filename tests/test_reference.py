"""Our scores against the prototype that the models were worked out with."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models import loop
from models.batch import blank
from models.signals import PAYS
from models.state import State
from stream.codec import decode
from stream.columns import columns
from stream.siphash import name_hash

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("SHARED") or ROOT.parent / "shared")
PROTOTYPE = SHARED / "reference" / "recipe_a.py"
SET = SHARED / "data" / "agentdojo-banking"
EVENTS = SET.with_name(SET.name + ".events.jsonl.gz")

pytestmark = pytest.mark.skipif(
    not (PROTOTYPE.exists() and EVENTS.exists()),
    reason=f"NOT COMPARED WITH THE PROTOTYPE: no {PROTOTYPE} or no {EVENTS}; the environment variable SHARED says where",
)


@pytest.fixture(scope="module")
def prototype(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The prototype's score of each event."""
    out = tmp_path_factory.mktemp("prototype") / "scores.jsonl"
    subprocess.run([sys.executable, PROTOTYPE, SET, out], check=True, capture_output=True)
    return {line["event_id"]: line["score"] for line in map(json.loads, out.read_text().splitlines())}


@pytest.fixture(scope="module")
def ours() -> dict[str, float]:
    """Our score of each event."""
    ladder = np.array([name_hash(c) for c in ("public", "internal", "confidential", "restricted")], np.uint64)
    records = gzip.decompress(EVENTS.read_bytes()).splitlines()
    events, _, rejects = decode(records, range(len(records)), 1 << 20)
    assert not rejects
    state, batch, out = State(64), columns(events, ladder), blank(len(events), window=False)
    at, why = 0, 0
    while why != loop.FINISHED:
        at, why = loop.run(state.arrays(), batch, out, at, 5.0, np.zeros(0, np.uint64), PAYS, np.inf)
        assert why in (loop.FINISHED, *range(len(state.tables)))
        if why != loop.FINISHED:
            state.grow(why)
    return {event.event_id: float(score) for event, score in zip(events, out.score, strict=True)}


def ranks(scores: list[float]) -> np.ndarray:
    """Places from the lowest, equal ones sharing theirs."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def test_events_stand_in_the_same_order_as_in_the_prototype(prototype, ours):
    """Bins and rings are coarser than its own; and three signals are not the prototype's: the hour of every event is no fact here
    (sessions at odd hours add up instead), a pace pays fully from five bits on, and a tool's action is a fact. They move the events
    that score little; so all stand nearly in its order."""
    assert prototype.keys() == ours.keys()
    a, b = ([scores[i] for i in prototype] for scores in (prototype, ours))
    assert np.corrcoef(ranks(a), ranks(b))[0, 1] > 0.85


def test_the_strangest_hundredth_is_that_of_the_prototype(prototype, ours):
    """Only the top is ever read by a person."""
    n = len(ours) // 100
    a, b = (set(sorted(scores, key=scores.__getitem__)[-n:]) for scores in (prototype, ours))
    assert len(a & b) >= 0.75 * n  # what is usual is known by tool now
