"""What a fleet loses when its events are in several partitions, and what exchanging cohort knowledge gives back.

A fleet's events are split by the murmur2 of their key, as a Kafka producer would, and played in event-time order: by one engine, by an
engine for each partition that knows of no other, and by the same engines with the exchange (`models.exchange`), which takes place at each
flush. The same code is what a worker runs. `on_kafka` does it once for real: as many partitions, two worker processes, a real broker.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiokafka.partitioner import murmur2

from benchmarks.sets import LabelledSet, absent, alerting, evaluator, judge, labelled_sets, lines, ranking
from stream.alert import Alert
from stream.codec import encode_lines
from stream.engine import Engine, Scored, warm_up
from stream.settings import Settings, load

PARTITIONS = 4
SECONDS = 900.0  # of event time from flush to flush


def partition_of(agent_id: str, partitions: int) -> int:
    """Where a producer puts an agent's events."""
    return int(murmur2(agent_id.encode()) & 0x7FFFFFFF) % partitions


def windows(s: LabelledSet, records: Sequence[bytes], partitions: int, seconds: float) -> Iterable[list[list[bytes]]]:
    """The records of each window of event time, by partition."""
    begin, out = None, [[] for _ in range(partitions)]
    of = evaluator().seconds
    for record in records:
        event = json.loads(record)
        at = of(event["time"]) // seconds
        if begin is not None and at > begin:
            yield out
            out = [[] for _ in range(partitions)]
        begin = at if begin is None else max(at, begin)
        out[partition_of(event["agent_id"], partitions)].append(record)
    yield out
