"""Requests counted in plain numbers, which become metrics when somebody asks for them.

The client library's counters take a lock each time, for threads that the edge has none of: a counter and a histogram cost
as much as all checks of a body.
"""

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import REGISTRY, CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Tally(Collector):
    """Requests by route and status, and how long they took."""

    def __init__(self) -> None:
        # Of each: the seconds together, then how many fell under each bound and, last, beyond all of them.
        self._seen: dict[tuple[str, int], list[float]] = {}

    def add(self, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        seen = self._seen.get((route, status))
        if seen is None:
            seen = self._seen[route, status] = [0.0] * (len(_BOUNDS_S) + 2)
        seen[0] += seconds
        seen[1 + bisect_left(_BOUNDS_S, seconds)] += 1

    def collect(self) -> Iterator[Metric]:
        """Make the metrics."""
        requests = CounterMetricFamily(
            "harkara_http_requests", "Requests answered, by route and status.", labels=("route", "status")
        )
        by_route: dict[str, list[float]] = {}
        for (route, status), seen in self._seen.items():
            requests.add_metric((route, str(status)), sum(seen[1:]))
            former = by_route.get(route, [0.0] * len(seen))
            by_route[route] = [one + other for one, other in zip(former, seen, strict=True)]
        yield requests
        seconds = HistogramMetricFamily(
            "harkara_http_seconds", "From a request's head to its answer's end, by route.", labels=("route",)
        )
        for route, seen in by_route.items():
            seconds.add_metric((route,), list(_cumulated(seen[1:])), seen[0])
        yield seconds


def _cumulated(counts: list[float]) -> Iterator[tuple[str, float]]:
    total = 0.0
    for bound, count in zip((*map(str, _BOUNDS_S), "+Inf"), counts, strict=True):
        total += count
        yield bound, total


TALLY = Tally()
REGISTRY.register(TALLY)
