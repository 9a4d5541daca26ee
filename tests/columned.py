"""One event as columns, and what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from models.batch import Batch, Text
from stream.codec import AccessEvent, Recipient
from stream.columns import columns
from stream.siphash import name_hash

LADDER = np.array([name_hash(rung) for rung in ("public", "internal", "confidential", "restricted")], np.uint64)
thorough = settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
word = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def one(**fields: Any) -> Batch:
    """Columns of one event that says no more than it must."""
    return columns([AccessEvent("e", 0.0, "bot", "read", **fields)], LADDER)


def to(*ids: str, **fields: Any) -> Batch:
    return one(recipients=tuple(Recipient(i, **fields) for i in ids))


def words(column: Text) -> list[str]:
    """What a column of names says."""
    return [
        bytes(column.buffer[low:high]).decode("utf-8", "surrogatepass")
        for low, high in zip(column.low, column.high, strict=True)
    ]
