"""Every Prometheus metric, declared once. No label ever holds an agent, a principal or a raw error text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from models.batch import LATE as LATE_MARK
from models.batch import REPEATED as REPEATED_MARK
from models.batch import SKEWED as SKEWED_MARK
from models.schema import GROWING, TABLES
from stream.alert import SEVERITIES
from stream.codec import REASONS
from stream.verdict import WORDS

if TYPE_CHECKING:
    from stream.engine import Engine, Scored


class Scores(Collector):
    """A histogram that is filled a batch at a time: one Python call per event would cost as much as scoring it."""

    _edges = (1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0)

    def __init__(self) -> None:
        self._counts = np.zeros(len(self._edges) + 1, np.int64)
        self._sum = 0.0

    def observe(self, scores: NDArray[np.float64]) -> None:
        """Count a batch."""
        self._counts += np.bincount(np.searchsorted(self._edges, scores), minlength=len(self._counts))
        self._sum += float(scores.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """As prometheus_client asks for it."""
        bounds = [*(f"{e:g}" for e in self._edges), "+Inf"]
        yield HistogramMetricFamily(
            "strayline_score_bits",
            "Scores of events, in bits.",
            buckets=list(zip(bounds, np.cumsum(self._counts).astype(float).tolist(), strict=True)),
            sum_value=self._sum,
        )


REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

EVENTS = Counter("strayline_events", "Events scored.", registry=REGISTRY)
REJECTS = Counter("strayline_rejects", "Records rejected, by reason.", ["reason"], registry=REGISTRY)
UNKNOWN_FIELDS = Counter(
    "strayline_unknown_fields",
    "Fields that the contract does not have, in the sample of events whose names are looked at.",
    registry=REGISTRY,
)
MISPLACED = Counter(
    "strayline_misplaced_events",
    "Events in another partition than that of their agent.",
    registry=REGISTRY,
)
LATE = Counter(
    "strayline_late_events",
    "Events older than the stream's clock by more than ten minutes; scored and marked.",
    registry=REGISTRY,
)
SKEWED = Counter(
    "strayline_skewed_events",
    "Events ahead of the stream's clock by more than a day that no other event confirmed.",
    registry=REGISTRY,
)
ALERTS = Counter(
    "strayline_alerts", "Alerts opened, by the severity they opened with.", ["severity"], registry=REGISTRY
)
RAISED = Counter(
    "strayline_alerts_raised",
    "Alerts whose severity rose after they had opened, by the severity that they reached.",
    ["severity"],
    registry=REGISTRY,
)
REVISIONS = Counter(
    "strayline_alert_revisions", "Alert messages produced, first revisions included.", registry=REGISTRY
)
REPEATED = Counter(
    "strayline_repeated_events",
    "Events that came before, word for word, and are remembered: scored, not learned again, no alert.",
    registry=REGISTRY,
)
VERDICTS = Counter("strayline_verdicts", "Verdicts heeded, by what they say.", ["verdict"], registry=REGISTRY)
MERGED = Counter(
    "strayline_merged_events",
    "Events over the threshold that joined an alert already open, or an episode too lonely to be one.",
    registry=REGISTRY,
)
DRIFTS = Counter(
    "strayline_drifts",
    "Changes of daily level that River's Page-Hinkley test confirmed.",
    ["level"],
    registry=REGISTRY,
)
EVICTIONS = Counter(
    "strayline_evictions",
    "Baseline rows that gave way to others: their table is full, or, now and then, their neighbourhood in it.",
    ["table"],
    registry=REGISTRY,
)
SCORES = Scores()
REGISTRY.register(SCORES)
THRESHOLD = Gauge(
    "strayline_alert_threshold_bits",
    "Score from which an event opens an alert, set by the alert budget.",
    ["partition"],
    registry=REGISTRY,
)
AGENTS = Gauge("strayline_agents", "Agents with a baseline.", ["partition"], registry=REGISTRY)
WARMING = Gauge(
    "strayline_warming_agents",
    "Agents too young to be judged by their own past alone.",
    ["partition"],
    registry=REGISTRY,
)
STATE = Gauge("strayline_state_bytes", "Memory of the baselines.", ["partition"], registry=REGISTRY)
STAGE = Histogram(
    "strayline_stage_seconds", "Time of one batch in a stage.", ["stage"], buckets=_SECONDS, registry=REGISTRY
)
BATCH = Histogram(
    "strayline_batch_records",
    "Records in a batch.",
    buckets=(1, 10, 100, 500, 1000, 2000, 5000, 10000),
    registry=REGISTRY,
)
EVENT_TIME = Gauge(
    "strayline_last_event_timestamp_seconds",
    "Event time of the newest event scored.",
    ["partition"],
    registry=REGISTRY,
)
TO_ALERT = Histogram(
    "strayline_receive_to_alert_seconds",
    "From a record's arrival on the topic (its Kafka timestamp) to the delivery of its alert.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
PROCESSED = Gauge("strayline_processed_offset", "Next source offset to score.", ["partition"], registry=REGISTRY)
LAG = Gauge(
    "strayline_consumer_lag_records",
    "Records on the topic that are not yet scored.",
    ["partition"],
    registry=REGISTRY,
)
CHANGELOG = Counter("strayline_changelog_bytes", "Bytes of baselines delivered to the changelog.", registry=REGISTRY)
RECOVERY = Histogram(
    "strayline_recovery_seconds",
    "Time to restore one partition's baselines.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
GIVEN = Counter(
    "strayline_cohorts_bytes", "Bytes of cohort knowledge given to the other partitions.", registry=REGISTRY
)
CORRUPT = Counter(
    "strayline_corrupt_baselines",
    "Changelog records that failed their checksum or version and were left out, and restores that found rows gone.",
    registry=REGISTRY,
)
SKIPPED = Counter(
    "strayline_skipped_events",
    "Offsets of the events topic that were passed over unread: deleted by retention, the group's offset was moved, or baselines were lost.",
    registry=REGISTRY,
)
REBALANCES = Counter("strayline_rebalances", "Times that partitions were assigned to this worker.", registry=REGISTRY)
READY = Gauge("strayline_ready", "1 while /readyz answers 200; 0 while it waits, for what it says.", registry=REGISTRY)
BUILD = Gauge("strayline_build_info", "Always 1.", ["version"], registry=REGISTRY)
BUDGET = Gauge("strayline_alert_budget_per_day", "STRAYLINE_ALERTS_PER_DAY.", registry=REGISTRY)


def declare(alerts_per_day: float) -> None:
    """Make every labelled series at 0: one born at 1 never shows its first increase."""
    BUDGET.set(alerts_per_day)
    for severity in SEVERITIES:
        ALERTS.labels(severity)
        RAISED.labels(severity)
    for reason in REASONS:
        REJECTS.labels(reason)
    for word in WORDS:
        VERDICTS.labels(word)
    for level in ("agent", "cohort"):
        DRIFTS.labels(level)
    for i in GROWING:
        EVICTIONS.labels(TABLES[i])
    for stage in ("decode", "score", "tell", "changes", "deliver"):
        STAGE.labels(stage)


def observe(partition: int, engine: Engine, scored: Scored, records: int) -> None:
    """Count what the engine says of so many records of a partition."""
    state, number = engine.state, str(partition)
    BATCH.observe(records)
    EVENTS.inc(len(scored.events))
    for reject in scored.rejects:
        REJECTS.labels(reject.reason).inc()
    LATE.inc(int((scored.marks & LATE_MARK > 0).sum()))
    SKEWED.inc(int((scored.marks & SKEWED_MARK > 0).sum()))
    REPEATED.inc(int((scored.marks & REPEATED_MARK > 0).sum()))
    REVISIONS.inc(len(scored.alerts))
    for alert in scored.alerts:
        if alert.revision == 1:
            ALERTS.labels(alert.severity).inc()
    for severity, n in scored.raised.items():
        RAISED.labels(severity).inc(n)
    SCORES.observe(scored.score)
    for level, n in scored.shifts.items():
        DRIFTS.labels(level).inc(n)
    MERGED.inc(scored.merged)
    for name, gone in scored.evicted.items():
        EVICTIONS.labels(name).inc(gone)
    fleet = state.fleet
    THRESHOLD.labels(number).set(engine.threshold)
    # Not by the table: asking for one while it grows, on the thread that scores, would make its index anew under that.
    AGENTS.labels(number).set(int(state.tally[TABLES.index("agents"), 0]))
    WARMING.labels(number).set_function(lambda: engine.warming)  # counted when somebody asks
    STATE.labels(number).set(state.nbytes)
    EVENT_TIME.labels(number).set(float(fleet["clock"]))


def forget(partition: int) -> None:
    """It is another worker's now, which shows what there is to be shown of it."""
    for gauge in (THRESHOLD, AGENTS, WARMING, STATE, EVENT_TIME, PROCESSED, LAG):
        with suppress(KeyError):  # never set
            gauge.remove(str(partition))
