"""Lines of scores are what a JSON encoder writes of the same values."""

from __future__ import annotations

import msgspec
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.signals import KINDS
from stream.codec import AccessEvent
from stream.columns import columns
from stream.score_lines import score_lines

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
BITS = st.one_of(st.just(0.0), st.floats(0.0, 2000.0), st.integers(0, 20_000_000).map(lambda n: n / 10_000))


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, NAMES, st.lists(BITS, min_size=7, max_size=7)), min_size=1, max_size=5))
@example([("a\0b", "\0", [0.0] * 7), ("\ufffd", "b", [0.0] * 7)])
@example([('"\\\b\t\n\x0b\f\r\x1f\x7f/', "é€😀", [0.00005, 0.00015, 9.99995, 10.0, 99.9999, 1000.0, 0.1])])
def test_a_line_is_what_an_encoder_writes(said):
    """Whatever the ids are made of, and with every number rounded to a ten-thousandth of a bit."""
    events = [AccessEvent(event_id=event, time=0.0, agent_id=agent, action="read") for event, agent, _ in said]
    numbers = np.array([bits for _, _, bits in said])
    written = score_lines(events, columns(events, np.zeros(0, np.uint64)), numbers[:, 0], numbers[:, 1:])
    rounded = np.round(numbers, 4).tolist()
    assert written == msgspec.json.Encoder().encode_lines(
        {"event_id": event, "agent_id": agent, "score": bits[0], "parts": dict(zip(KINDS, bits[1:], strict=True))}
        for (event, agent, _), bits in zip(said, rounded, strict=True)
    )
