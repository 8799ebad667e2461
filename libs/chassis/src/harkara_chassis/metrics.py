"""Metrics in one registry, served at `/metrics`. Observed per batch, so that counting costs nothing per message."""

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest

_LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

counter = Counter
gauge = Gauge
histogram = Histogram

EVENTS_HANDLED = Counter("harkara_events_handled", "Events handled, by consumer.", ("consumer",))
EVENTS_PUBLISHED = Counter("harkara_events_published", "Events published, by type.", ("type",))
EVENTS_DEAD = Counter("harkara_events_dead", "Events given up and kept in DEAD, by consumer.", ("consumer",))
HANDLER_ERRORS = Counter(
    "harkara_handler_errors", "Handler calls that failed, by consumer and kind.", ("consumer", "kind")
)
PUBLISH_REPEATS = Counter("harkara_publish_repeats", "Batches published again because no acknowledgement came in time.")
BATCH_SIZE = Histogram("harkara_batch_events", "Events in one handler call.", ("consumer",), buckets=_SIZE_BUCKETS)
BATCH_SECONDS = Histogram(
    "harkara_batch_seconds", "From taking a batch to its acknowledgement.", ("consumer",), buckets=_LATENCY_BUCKETS_S
)


def exposition() -> bytes:
    """Return all metrics in the Prometheus text format."""
    return generate_latest(REGISTRY)
