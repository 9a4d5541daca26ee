"""Every Prometheus metric, declared once. No label ever holds an agent, a principal or a raw error text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

EVENTS = Counter("strayline_events", "Events scored.", registry=REGISTRY)
REJECTS = Counter("strayline_rejects", "Records rejected, by reason.", ["reason"], registry=REGISTRY)
LATE = Counter("strayline_late_events", "Events older than the stream's clock by more than ten minutes; scored and marked.", registry=REGISTRY)
SKEWED = Counter("strayline_skewed_events", "Events ahead of the stream's clock by more than a day that no other event confirmed.", registry=REGISTRY)
ALERTS = Counter("strayline_alerts", "Alerts opened, by the severity they opened with.", ["severity"], registry=REGISTRY)
REVISIONS = Counter("strayline_alert_revisions", "Alert messages produced, first revisions included.", registry=REGISTRY)
MERGED = Counter("strayline_merged_events", "Events over the threshold that joined an alert already open.", registry=REGISTRY)
SUPPRESSED = Counter("strayline_suppressed_alerts", "Alerts that were not opened, by reason.", ["reason"], registry=REGISTRY)
DRIFTS = Counter("strayline_drifts", "Changes of daily level that River's Page-Hinkley test confirmed.", ["level"], registry=REGISTRY)
EVICTIONS = Counter("strayline_evictions", "Baseline rows that gave way to others because the state is full.", ["table"], registry=REGISTRY)
SCORE = Histogram("strayline_score_bits", "Scores of events, in bits.", buckets=(1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128), registry=REGISTRY)
THRESHOLD = Gauge("strayline_alert_threshold_bits", "Score from which an event opens an alert, set by the alert budget.", ["partition"], registry=REGISTRY)
AGENTS = Gauge("strayline_agents", "Agents with a baseline.", ["partition"], registry=REGISTRY)
WARMING = Gauge("strayline_warming_agents", "Agents too young to be judged by their own past alone.", ["partition"], registry=REGISTRY)
STATE = Gauge("strayline_state_bytes", "Memory of the baselines.", ["partition"], registry=REGISTRY)
STAGE = Histogram("strayline_stage_seconds", "Time of one batch in a stage.", ["stage"], buckets=_SECONDS, registry=REGISTRY)
BATCH = Histogram("strayline_batch_records", "Records in a batch.", buckets=(1, 10, 100, 500, 1000, 2000, 5000, 10000), registry=REGISTRY)
EVENT_TIME = Gauge("strayline_last_event_timestamp_seconds", "Event time of the newest event scored.", ["partition"], registry=REGISTRY)
TO_ALERT = Histogram("strayline_receive_to_alert_seconds", "From a record's arrival on the topic (its Kafka timestamp) to the delivery of its alert.", buckets=_SECONDS, registry=REGISTRY)
PROCESSED = Gauge("strayline_processed_offset", "Next source offset to score.", ["partition"], registry=REGISTRY)
LAG = Gauge("strayline_consumer_lag_records", "Records on the topic that are not yet scored.", ["partition"], registry=REGISTRY)
CHANGELOG = Counter("strayline_changelog_bytes", "Bytes of baselines delivered to the changelog.", registry=REGISTRY)
RECOVERY = Histogram("strayline_recovery_seconds", "Time to restore one partition's baselines.", buckets=_SECONDS, registry=REGISTRY)
CORRUPT = Counter("strayline_corrupt_baselines", "Changelog records that failed their checksum or version and were left out.", registry=REGISTRY)
REBALANCES = Counter("strayline_rebalances", "Times that partitions were assigned to this worker.", registry=REGISTRY)
BUILD = Gauge("strayline_build_info", "Always 1.", ["version"], registry=REGISTRY)
