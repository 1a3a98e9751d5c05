"""Measurements of the service in the text format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

#: Upper bounds of the seconds of a request, and of the rows of a batch.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ServiceMetrics:
    """The measurements of one service. Labels are names of routes and statuses, never of clients or their data.

    requests: requests by route and status
    seconds: time from the first byte of a request to the end of its response, by route
    active: requests that are computed or wait
    rejected: requests that were refused before they were read, by reason
    batch_rows: rows that were computed together
    tokens: generated tokens

    Example:
        >>> metrics = ServiceMetrics()
        >>> metrics.rejected.labels("busy").inc()
        >>> 'polymodal_rejected_requests_total{reason="busy"} 1.0' in metrics.text().decode()
        True
    """

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter("polymodal_requests", "Requests by route and status", ["route", "status"], registry=own)
        self.seconds = Histogram(
            "polymodal_request_seconds", "Seconds of requests by route", ["route"], buckets=SECONDS, registry=own
        )
        self.active = Gauge("polymodal_active_requests", "Requests that are computed or wait", registry=own)
        self.rejected = Counter("polymodal_rejected_requests", "Refused requests by reason", ["reason"], registry=own)
        self.batch_rows = Histogram(
            "polymodal_batch_rows", "Rows that were computed together", buckets=ROWS, registry=own
        )
        self.tokens = Counter("polymodal_generated_tokens", "Generated tokens", registry=own)

    def text(self) -> bytes:
        """All measurements."""
        return generate_latest(self.registry)
