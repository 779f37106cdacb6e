"""Prometheus metrics. Each process has one registry of its own; labels never carry a tenant, user, id or text."""

from functools import lru_cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0

CONTENT_TYPE = CONTENT_TYPE_PLAIN_1_0_0
# From a cached read to the request timeout, in steps that tell a slow query from a fast one.
SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# More than there are routes, methods and statuses; callers may make methods up.
_CHILDREN_KEPT: Final = 1024


class HttpMetrics:
    """What the HTTP layer counts, the same names in both services."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._requests = Counter(
            "diptych_http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "diptych_http_request_seconds",
            "Time from the request's head to the answer's last byte.",
            ["method", "route"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge("diptych_http_requests_in_flight", "Requests being worked on.", registry=registry)

        # Finding a child by its labels takes longer than counting.
        self._requests_of = lru_cache(_CHILDREN_KEPT)(self._requests.labels)
        self._seconds_of = lru_cache(_CHILDREN_KEPT)(self._seconds.labels)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request that was answered."""
        self._requests_of(method, route, status).inc()
        self._seconds_of(method, route).observe(seconds)

    def render(self) -> bytes:
        return generate_latest(self.registry)
